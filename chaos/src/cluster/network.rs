//! Bridges and hosts: network namespaces that hang on a bridge by a virtual cable.

use anyhow::Result;

use super::{ClusterSpec, Host, Placement};
use crate::shell::{run, succeeds};

/// Makes the bridge, if it is not there.
pub(crate) fn ensure_bridge(spec: &ClusterSpec) -> Result<()> {
    let Placement::Namespaces { subnet } = spec.placement else { return Ok(()) };
    let bridge = spec.bridge();
    if !succeeds("ip", &["link", "show", &bridge]) {
        run("ip", &["link", "add", &bridge, "type", "bridge"])?;
    }
    run("ip", &["addr", "replace", &format!("10.77.{subnet}.1/24"), "dev", &bridge])?;
    run("ip", &["link", "set", &bridge, "up"])?;
    Ok(())
}

/// Makes a host's namespace and plugs it into the bridge, if it is not there.
pub(crate) fn ensure_host(spec: &ClusterSpec, host: &Host) -> Result<()> {
    let (Some(namespace), Placement::Namespaces { subnet }) = (&host.network_namespace, spec.placement) else {
        return Ok(());
    };
    if !succeeds("ip", &["netns", "exec", namespace, "true"]) {
        // A name left behind by a reboot is a plain file that no longer holds a namespace.
        if std::path::Path::new("/run/netns").join(namespace).exists() {
            run("ip", &["netns", "del", namespace])?;
        }
        run("ip", &["netns", "add", namespace])?;
    }
    let cable = cable(spec, host);
    if !succeeds("ip", &["link", "show", &cable]) {
        run("ip", &["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", namespace])?;
    }
    run("ip", &["link", "set", &cable, "master", &spec.bridge(), "up"])?;
    run("ip", &["-n", namespace, "link", "set", "lo", "up"])?;
    run("ip", &["-n", namespace, "addr", "replace", &format!("{}/24", host.address), "dev", "eth0"])?;
    run("ip", &["-n", namespace, "link", "set", "eth0", "up"])?;
    run("ip", &["-n", namespace, "route", "replace", "default", "via", &format!("10.77.{subnet}.1")])?;
    Ok(())
}

/// Removes a host's namespace and cable.
pub(crate) fn remove_host(spec: &ClusterSpec, host: &Host) -> Result<()> {
    let Some(namespace) = &host.network_namespace else { return Ok(()) };
    // The cable first: with a namespace its end vanishes too, at a moment of the kernel's choice.
    let cable = cable(spec, host);
    if succeeds("ip", &["link", "show", &cable]) {
        run("ip", &["link", "del", &cable])?;
    }
    if std::path::Path::new("/run/netns").join(namespace).exists() {
        run("ip", &["netns", "del", namespace])?;
    }
    Ok(())
}

/// Removes the bridge.
pub(crate) fn remove_bridge(spec: &ClusterSpec) -> Result<()> {
    let bridge = spec.bridge();
    if spec.has_hosts() && succeeds("ip", &["link", "show", &bridge]) {
        run("ip", &["link", "del", &bridge])?;
    }
    Ok(())
}

fn cable(spec: &ClusterSpec, host: &Host) -> String {
    format!("{}-{}", spec.name, host.name)
}
