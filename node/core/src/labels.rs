//! Labels and annotations by which sandboxes and containers in the runtime tell whose they are.
//!
//! The names are upstream's (`pkg/kubelet/kuberuntime/labels.go`), so that `crictl` and other tools read them, and so
//! that an agent that restarts, ours or upstream's, finds every container again. They are the agent's only memory.

use k8s_openapi::api::core::v1::Container;

/// Label: the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label: the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label: the pod's UID.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label: the container's name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Annotation: a hash of what cannot change without a new container.
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
/// Annotation: how often the container was started before.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation: path inside the container of the termination message.
pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Annotation: `File` or `FallbackToLogsOnError`.
pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation: the pod's termination grace period in seconds, for pods whose object is gone.
pub const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Annotation on sandboxes and containers: the node agent that owns them, where one runtime serves several.
pub const NODE: &str = "xebec.io/node";

/// Hash of the fields of a container whose change asks for a new container: name and image, as upstream's
/// `HashContainer` since 1.31.
pub fn container_hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let bytes = container.name.bytes().chain([0]).chain(image.bytes());
    // FNV-1a, 64 bits: stable over builds and platforms, unlike the standard hasher.
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}
