//! What the machine is and has, from `/proc` and friends.

use std::{collections::BTreeMap, fs, path::Path};

use k8s_openapi::{api::core::v1::NodeSystemInfo, apimachinery::pkg::api::resource::Quantity};
use xebec_node_core::{eviction::Thresholds, resolv, resources};

use crate::Flags;

/// Version of the kubelet API we are compatible with.
const KUBELET_VERSION: &str = "v1.35.0";

/// Resources of a node by name.
pub type Resources = BTreeMap<String, Quantity>;

/// What a node has, and what of it pods may use.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// All there is.
    pub capacity: Resources,
    /// What pods may use.
    pub allocatable: Resources,
}

fn meminfo(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    let kibibytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
    kibibytes * 1024
}

/// The machine's memory, in bytes.
pub fn memory_bytes() -> i64 {
    i64::try_from(meminfo("MemTotal:")).unwrap_or(i64::MAX)
}

fn disk(path: &Path) -> (u64, u64) {
    nix::sys::statvfs::statvfs(path).map_or((0, 0), |stat| {
        let block = stat.fragment_size();
        (stat.blocks() * block, stat.blocks_available() * block)
    })
}

impl Machine {
    /// Takes the machine's resources, what flags say instead, and what they keep from pods.
    ///
    /// # Errors
    /// A flag is no list of `name=quantity`.
    pub fn measure(flags: &Flags) -> Result<Self, String> {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut capacity: Resources = [
            ("cpu".to_owned(), Quantity(cpus.to_string())),
            ("memory".to_owned(), Quantity(format!("{}Ki", memory_bytes() / 1024))),
            ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", disk(&flags.data_dir).0 / 1024))),
            ("pods".to_owned(), Quantity(flags.max_pods.to_string())),
        ]
        .into();
        capacity.extend(resources::parse_list(&flags.capacity)?);
        let mut allocatable = capacity.clone();
        for (name, kept) in resources::parse_list(&flags.system_reserved)? {
            if let Some(amount) = allocatable.get_mut(&name) {
                *amount = if name == "cpu" {
                    Quantity(format!("{}m", (resources::milli_value(amount) - resources::milli_value(&kept)).max(0)))
                } else {
                    Quantity((resources::whole_value(amount) - resources::whole_value(&kept)).max(0).to_string())
                };
            }
        }
        Ok(Self { capacity, allocatable })
    }
}

/// Whether the node runs short: `(memory, disk)`.
pub fn pressure(data_dir: &Path, thresholds: &Thresholds) -> (bool, bool) {
    let (size, free) = disk(data_dir);
    (
        thresholds.memory_available.is_crossed(meminfo("MemAvailable:"), meminfo("MemTotal:")),
        thresholds.nodefs_available.is_crossed(free, size),
    )
}

/// What a Node tells of its machine. `node` keeps nodes that share a machine apart.
pub fn system_info(node: &str, runtime_version: String) -> NodeSystemInfo {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let os_release = read("/etc/os-release");
    let os_image = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned());
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: runtime_version,
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        machine_id: read("/etc/machine-id"),
        operating_system: "linux".to_owned(),
        os_image,
        system_uuid: node.to_owned(),
        ..Default::default()
    }
}

/// The architecture in Go's words, as node labels have it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The machine's own resolver. A resolver on the loopback address would be the pod itself, so it is left out.
pub fn host_resolv() -> resolv::Resolv {
    let mut found = resolv::parse(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    found.servers.retain(|server| !server.starts_with("127."));
    found
}

/// A directory that is in memory, for secrets: `/run` where it is, else `/dev/shm`, else none.
pub fn memory_dir(node: &str) -> Option<std::path::PathBuf> {
    let in_memory = |root: &&&str| {
        nix::sys::statfs::statfs(**root).is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
    };
    ["/run", "/dev/shm"].iter().find(in_memory).map(|root| Path::new(root).join("xebec").join(node))
}
