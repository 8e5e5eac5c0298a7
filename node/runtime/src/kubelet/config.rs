//! Pods and containers as CRI configurations. Pure: everything comes in as arguments.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use k8s_openapi::api::core::v1::{Capabilities, Container, Pod, SeccompProfile, SecurityContext, VolumeMount};
use xebec_node_core::{env::expand, labels, pod, resolv, resources};
use xebec_proto::runtime::v1 as cri;

use super::Settings;
use crate::{runtime::ImageInfo, volumes::Mounts};

/// Paths that unprivileged containers do not see, or only read (`pkg/securitycontext/util.go`).
const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn pod_labels(pod: &Pod) -> HashMap<String, String> {
    let own = [
        (labels::POD_NAME, pod::name(pod)),
        (labels::POD_NAMESPACE, pod::namespace(pod)),
        (labels::POD_UID, pod::uid(pod)),
    ];
    own.into_iter().map(|(label, value)| (label.to_owned(), value.to_owned())).collect()
}

fn namespaces(pod: &Pod) -> cri::NamespaceOption {
    let spec = pod::spec(pod);
    let node = cri::NamespaceMode::Node as i32;
    let own = cri::NamespaceMode::Pod as i32;
    let pid = if spec.host_pid.unwrap_or(false) {
        node
    } else if spec.share_process_namespace.unwrap_or(false) {
        own
    } else {
        cri::NamespaceMode::Container as i32
    };
    cri::NamespaceOption {
        network: if pod::host_network(pod) { node } else { own },
        pid,
        ipc: if spec.host_ipc.unwrap_or(false) { node } else { own },
        target_id: String::new(),
    }
}

fn seccomp(profile: Option<&SeccompProfile>) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType;
    let (profile_type, localhost_ref) = match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let name = profile.and_then(|profile| profile.localhost_profile.clone()).unwrap_or_default();
            (ProfileType::Localhost, format!("/var/lib/kubelet/seccomp/{name}"))
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    cri::SecurityProfile { profile_type: profile_type as i32, localhost_ref }
}

/// The cgroup of a pod.
pub(crate) fn cgroup_parent(settings: &Settings, uid: &str) -> String {
    format!("{}/pod{uid}", settings.cgroup_root.trim_end_matches('/'))
}

/// A sandbox's configuration. The same for each of its containers, as the runtime compares them.
pub(super) fn sandbox(settings: &Settings, pod: &Pod, attempt: u32) -> cri::PodSandboxConfig {
    let spec = pod::spec(pod);
    let resolv = resolv::for_pod(pod, &settings.cluster_dns, &settings.cluster_domain, &settings.host_resolv);
    let (host_name, full_name) = resolv::host_name(pod, &settings.cluster_domain);
    let hostname = match full_name {
        _ if pod::host_network(pod) => String::new(),
        Some(full) if spec.set_hostname_as_fqdn.unwrap_or(false) => full,
        _ => host_name,
    };
    let context = spec.security_context.as_ref();
    let security_context = cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        run_as_user: context.and_then(|context| context.run_as_user).map(|value| cri::Int64Value { value }),
        run_as_group: context
            .and_then(|context| context.run_as_group.filter(|_| context.run_as_user.is_some()))
            .map(|value| cri::Int64Value { value }),
        supplemental_groups: groups(pod),
        privileged: spec.containers.iter().any(is_privileged),
        seccomp: Some(seccomp(context.and_then(|context| context.seccomp_profile.as_ref()))),
        ..Default::default()
    };
    let sysctls = context.and_then(|context| context.sysctls.as_ref()).into_iter().flatten();
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: pod::name(pod).to_owned(),
            uid: pod::uid(pod).to_owned(),
            namespace: pod::namespace(pod).to_owned(),
            attempt,
        }),
        hostname,
        log_directory: path_text(settings.pod_logs_dir(pod::namespace(pod), pod::name(pod), pod::uid(pod))),
        dns_config: Some(cri::DnsConfig {
            servers: resolv.servers,
            searches: resolv.searches,
            options: resolv.options,
        }),
        port_mappings: port_mappings(pod),
        labels: pod_labels(pod).into_iter().chain(pod.metadata.labels.clone().unwrap_or_default()).collect(),
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent(settings, pod::uid(pod)),
            security_context: Some(security_context),
            sysctls: sysctls.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
            ..Default::default()
        }),
    }
}

fn port_mappings(pod: &Pod) -> Vec<cri::PortMapping> {
    if pod::host_network(pod) {
        return Vec::new();
    }
    let ports = pod::spec(pod).containers.iter().flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp,
                Some("SCTP") => cri::Protocol::Sctp,
                _ => cri::Protocol::Tcp,
            };
            Some(cri::PortMapping {
                protocol: protocol as i32,
                container_port: port.container_port,
                host_port: port.host_port.filter(|port| *port > 0)?,
                host_ip: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|context| context.privileged).unwrap_or(false)
}

fn groups(pod: &Pod) -> Vec<i64> {
    let context = pod::spec(pod).security_context.as_ref();
    let more = context.and_then(|context| context.supplemental_groups.clone()).unwrap_or_default();
    context.and_then(|context| context.fs_group).into_iter().chain(more).collect()
}

/// Everything a container's configuration is made from.
pub(super) struct ContainerInputs<'a> {
    pub(super) settings: &'a Settings,
    pub(super) pod: &'a Pod,
    pub(super) spec: &'a Container,
    pub(super) restart_count: u32,
    pub(super) environment: Vec<(String, String)>,
    pub(super) mounts: &'a Mounts,
    pub(super) image: &'a ImageInfo,
    pub(super) pod_ips: &'a [String],
    pub(super) termination_file: PathBuf,
    /// Whether to make the files that are mounted (a hollow container mounts nothing).
    pub(super) real: bool,
}

/// A container's configuration; the error is what `CreateContainerConfigError` tells.
pub(super) fn container(inputs: &ContainerInputs<'_>) -> Result<cri::ContainerConfig, String> {
    let ContainerInputs { settings, pod, spec, .. } = inputs;
    let known: BTreeMap<String, String> = inputs.environment.iter().cloned().collect();
    let expanded = |words: &Option<Vec<String>>| -> Vec<String> {
        words.iter().flatten().map(|word| expand(word, &known)).collect()
    };
    let policy = spec.termination_message_policy.as_deref().unwrap_or("File");
    let message_path = spec.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    let annotations = [
        (labels::CONTAINER_HASH, labels::container_hash(spec)),
        (labels::RESTART_COUNT, inputs.restart_count.to_string()),
        (labels::TERMINATION_MESSAGE_PATH, message_path.to_owned()),
        (labels::TERMINATION_MESSAGE_POLICY, policy.to_owned()),
        (labels::GRACE_PERIOD, pod::grace_seconds(pod).to_string()),
        (labels::NODE, settings.node_name.clone()),
    ];
    let mut container_labels = pod_labels(pod);
    container_labels.insert(labels::CONTAINER_NAME.to_owned(), spec.name.clone());
    let image = spec.image.clone().unwrap_or_default();
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: spec.name.clone(), attempt: inputs.restart_count }),
        image: Some(cri::ImageSpec {
            image: inputs.image.id.clone(),
            user_specified_image: image,
            ..Default::default()
        }),
        command: expanded(&spec.command),
        args: expanded(&spec.args),
        working_dir: spec.working_dir.clone().unwrap_or_default(),
        envs: inputs
            .environment
            .iter()
            .map(|(key, value)| cri::KeyValue { key: key.clone(), value: value.clone().into_bytes().into() })
            .collect(),
        mounts: if inputs.real { mounts(inputs, &known, message_path)? } else { Vec::new() },
        labels: container_labels,
        annotations: annotations.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        log_path: format!("{}/{}.log", spec.name, inputs.restart_count),
        stdin: spec.stdin.unwrap_or(false),
        stdin_once: spec.stdin_once.unwrap_or(false),
        tty: spec.tty.unwrap_or(false),
        linux: Some(linux(inputs)?),
        ..Default::default()
    })
}

fn linux(inputs: &ContainerInputs<'_>) -> Result<cri::LinuxContainerConfig, String> {
    let ContainerInputs { settings, pod, spec, image, .. } = inputs;
    let cgroup = resources::cgroup(pod, spec, settings.memory_bytes);
    let own = spec.security_context.clone().unwrap_or_default();
    let of_pod = pod::spec(pod).security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(of_pod.run_as_user);
    let group = own.run_as_group.or(of_pod.run_as_group);
    if own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true) {
        match user.or(image.uid) {
            Some(0) | None if user.is_some() || image.user.is_empty() => {
                return Err("container has runAsNonRoot and image will run as root".into());
            }
            None => {
                let name = &image.user;
                return Err(format!(
                    "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
                ));
            }
            Some(_) => {}
        }
    }
    let privileged = is_privileged(spec);
    let masked = !privileged && own.proc_mount.as_deref() != Some("Unmasked");
    let words =
        |paths: &[&str]| if masked { paths.iter().map(|path| (*path).to_owned()).collect() } else { Vec::new() };
    let seccomp_profile = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    let security_context = cri::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(capabilities),
        privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user: user.map(|value| cri::Int64Value { value }),
        run_as_username: if user.is_none() && image.uid.is_none() { image.user.clone() } else { String::new() },
        run_as_group: group.filter(|_| user.is_some()).map(|value| cri::Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(pod),
        no_new_privs: no_new_privileges(&own, privileged),
        masked_paths: words(&MASKED_PATHS),
        readonly_paths: words(&READ_ONLY_PATHS),
        seccomp: Some(if privileged { seccomp(None) } else { seccomp(seccomp_profile) }),
        ..Default::default()
    };
    let resources = cri::LinuxContainerResources {
        cpu_period: if cgroup.cpu_quota_micros > 0 { resources::CPU_PERIOD_MICROS } else { 0 },
        cpu_quota: cgroup.cpu_quota_micros,
        cpu_shares: cgroup.cpu_shares,
        memory_limit_in_bytes: cgroup.memory_limit_bytes,
        oom_score_adj: cgroup.oom_score_adj,
        ..Default::default()
    };
    Ok(cri::LinuxContainerConfig { resources: Some(resources), security_context: Some(security_context) })
}

fn no_new_privileges(own: &SecurityContext, privileged: bool) -> bool {
    !privileged && own.allow_privilege_escalation == Some(false)
}

fn capabilities(wanted: &Capabilities) -> cri::Capability {
    cri::Capability {
        add_capabilities: wanted.add.clone().unwrap_or_default(),
        drop_capabilities: wanted.drop.clone().unwrap_or_default(),
        add_ambient_capabilities: Vec::new(),
    }
}

fn mounts(
    inputs: &ContainerInputs<'_>,
    known: &BTreeMap<String, String>,
    message_path: &str,
) -> Result<Vec<cri::Mount>, String> {
    let ContainerInputs { settings, pod, spec, .. } = inputs;
    let mut mounts = Vec::new();
    for wanted in spec.volume_mounts.iter().flatten() {
        mounts.push(volume_mount(inputs, wanted, known)?);
    }
    let failed = |path: &std::path::Path, error: std::io::Error| format!("{}: {error}", path.display());
    let has = |path: &str, mounts: &[cri::Mount]| mounts.iter().any(|mount| mount.container_path == path);
    if !pod::host_network(pod) && !has("/etc/hosts", &mounts) {
        let path = settings.pod_dir(pod::uid(pod)).join("etc-hosts");
        let (name, full) = resolv::host_name(pod, &settings.cluster_domain);
        let aliases = pod::spec(pod).host_aliases.as_deref().unwrap_or_default();
        let text = resolv::hosts(inputs.pod_ips, &name, full.as_deref(), aliases);
        // Written in place: other containers of the pod have this very file mounted.
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
        mounts.push(bind("/etc/hosts", path, false));
    }
    if !has(message_path, &mounts) {
        let path = &inputs.termination_file;
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
        }
        std::fs::write(path, b"").map_err(|error| failed(path, error))?;
        // Any user of the container may leave its last words.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(path, open).map_err(|error| failed(path, error))?;
        mounts.push(bind(message_path, path.clone(), false));
    }
    Ok(mounts)
}

fn volume_mount(
    inputs: &ContainerInputs<'_>,
    wanted: &VolumeMount,
    known: &BTreeMap<String, String>,
) -> Result<cri::Mount, String> {
    let volume = inputs.mounts.get(&wanted.name).ok_or_else(|| {
        format!("cannot find volume {:?} to mount into container {:?}", wanted.name, inputs.spec.name)
    })?;
    let sub_path = match (&wanted.sub_path_expr, &wanted.sub_path) {
        (Some(expression), _) if !expression.is_empty() => expand(expression, known),
        (_, Some(path)) => path.clone(),
        _ => String::new(),
    };
    let host_path = if sub_path.is_empty() {
        volume.path.clone()
    } else {
        crate::volumes::sub_path(&volume.path, &sub_path, volume.read_only)?
    };
    let read_only = volume.read_only || wanted.read_only.unwrap_or(false);
    let propagation = match wanted.mount_propagation.as_deref() {
        Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
        _ => cri::MountPropagation::PropagationPrivate,
    };
    Ok(cri::Mount { propagation: propagation as i32, ..bind(&wanted.mount_path, host_path, read_only) })
}

fn bind(container_path: &str, host_path: PathBuf, readonly: bool) -> cri::Mount {
    cri::Mount {
        container_path: container_path.to_owned(),
        host_path: path_text(host_path),
        readonly,
        ..Default::default()
    }
}

fn path_text(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}
