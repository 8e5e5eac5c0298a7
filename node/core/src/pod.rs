//! Questions about a pod's specification.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// What happens when a container ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// It starts again.
    Always,
    /// It starts again unless it exited with 0.
    OnFailure,
    /// It stays as it is.
    Never,
}

impl RestartPolicy {
    /// The policy of this name; `Always`, the default, for any other.
    pub fn parse(name: Option<&str>) -> Self {
        match name {
            Some("OnFailure") => Self::OnFailure,
            Some("Never") => Self::Never,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended with this status starts again.
    pub fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// Whether an init container keeps running beside the others (KEP-753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The pod's specification; an object without one is an empty pod.
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

/// The pod's UID.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The pod's name.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's namespace.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// The pod's init containers.
pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// The pod's restart policy.
pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    RestartPolicy::parse(spec(pod).restart_policy.as_deref())
}

/// The restart policy of one container, which may have its own (KEP-5307).
pub fn container_restart_policy(pod: &Pod, container: &Container) -> RestartPolicy {
    match container.restart_policy.as_deref() {
        Some(own) => RestartPolicy::parse(Some(own)),
        None => restart_policy(pod),
    }
}

/// Whether the pod lives on the host's network.
pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

/// The pod's phase as the API server has it.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Seconds of grace the specification gives, 30 by default.
pub fn grace_seconds(pod: &Pod) -> i64 {
    spec(pod).termination_grace_period_seconds.unwrap_or(30)
}

/// The container of this name, init containers included.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = spec(pod);
    spec.containers.iter().chain(init_containers(pod)).find(|container| container.name == name)
}

/// Quality of service (`pkg/apis/core/v1/helper/qos`): what the pod's containers ask for decides it.
pub fn qos_class(pod: &Pod) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in spec(pod).containers.iter().chain(init_containers(pod)) {
        let resources = container.resources.as_ref();
        let requests = resources.and_then(|resources| resources.requests.as_ref());
        let limits = resources.and_then(|resources| resources.limits.as_ref());
        for name in ["cpu", "memory"] {
            let of = |list: Option<&std::collections::BTreeMap<String, _>>| -> Option<f64> {
                list?.get(name).and_then(crate::resources::value).filter(|value| *value > 0.0)
            };
            let (request, limit) = (of(requests), of(limits));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Names of the ConfigMaps and Secrets a pod uses: `(is_secret, name)`.
pub fn references(pod: &Pod) -> BTreeSet<(bool, String)> {
    let mut found = BTreeSet::new();
    let mut note = |secret: bool, name: &str| {
        if !name.is_empty() {
            found.insert((secret, name.to_owned()));
        }
    };
    for container in spec(pod).containers.iter().chain(init_containers(pod)) {
        for source in container.env_from.iter().flatten() {
            source.config_map_ref.iter().for_each(|source| note(false, &source.name));
            source.secret_ref.iter().for_each(|source| note(true, &source.name));
        }
        for source in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
            source.config_map_key_ref.iter().for_each(|source| note(false, &source.name));
            source.secret_key_ref.iter().for_each(|source| note(true, &source.name));
        }
    }
    for volume in spec(pod).volumes.iter().flatten() {
        volume.config_map.iter().for_each(|source| note(false, &source.name));
        volume.secret.iter().for_each(|source| note(true, source.secret_name.as_deref().unwrap_or_default()));
        for source in volume.projected.iter().flat_map(|volume| volume.sources.iter().flatten()) {
            source.config_map.iter().for_each(|source| note(false, &source.name));
            source.secret.iter().for_each(|source| note(true, &source.name));
        }
    }
    spec(pod).image_pull_secrets.iter().flatten().for_each(|secret| note(true, &secret.name));
    found
}
