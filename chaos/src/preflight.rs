//! What the machine must have before anything is started, and one clear sentence where it has not.

use std::{net::SocketAddr, net::TcpListener, path::Path};

use anyhow::{Result, bail};

use crate::shell;

/// Programs the reference cluster runs, and the Debian package each comes from.
pub const PROGRAMS: [(&str, &str); 11] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("tar", "tar"),
    ("conntrack", "conntrack"),
    ("kubectl", "kubernetes-client"),
    ("busybox", "busybox-static"),
];

/// Where Debian's `containernetworking-plugins` puts its programs.
pub const CNI_BIN_DIR: &str = "/usr/lib/cni";
/// The static busybox that the images are made of.
pub const BUSYBOX: &str = "/bin/busybox";

/// Debian packages that are missing on this machine.
pub fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !shell::succeeds("sh", &["-c", &format!("command -v {program}")]))
        .map(|(_, package)| *package)
        .collect();
    if !Path::new(CNI_BIN_DIR).join("ptp").exists() {
        missing.push("containernetworking-plugins");
    }
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// Whether this process may make namespaces and mounts.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Checks that hosts and containers can be made here at all.
///
/// # Errors
/// One sentence that names what is missing.
pub fn check_kernel() -> Result<()> {
    if !is_root() {
        bail!(
            "the reference cluster makes network namespaces and containers and needs root: run it with sudo, or start one without containers: cargo xtask up --hollow 2"
        );
    }
    let probe = format!("xebec-probe-{}", std::process::id());
    if !shell::succeeds("ip", &["netns", "add", &probe]) {
        bail!("this kernel (or sandbox) does not allow network namespaces: `ip netns add` failed");
    }
    let nftables = shell::succeeds("ip", &["netns", "exec", &probe, "nft", "add", "table", "ip", "probe"]);
    let veth = shell::succeeds("ip", &["-n", &probe, "link", "add", "pv0", "type", "veth", "peer", "name", "pv1"]);
    shell::run("ip", &["netns", "del", &probe])?;
    if !nftables {
        bail!("this kernel has no nftables (module nf_tables), which the service proxy needs");
    }
    if !veth {
        bail!("this kernel has no virtual Ethernet pairs (module veth), which connect the hosts");
    }
    let filesystems = std::fs::read_to_string("/proc/filesystems")?;
    if !filesystems.contains("overlay") && !shell::succeeds("modprobe", &["overlay"]) {
        bail!("this kernel has no overlay file system (module overlay), which containers' images need");
    }
    Ok(())
}

/// Checks that an address can still be listened on.
///
/// # Errors
/// The address is in use.
pub fn check_port_free(address: SocketAddr) -> Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!(
                "{address} is in use: stop what listens there (ss -ltnp 'sport = :{}'), then try again",
                address.port()
            )
        }
        // An address that is not there yet cannot be in use.
        Err(_) => Ok(()),
    }
}
