//! The kinds that clients of a run write and informers watch.

/// A kind of objects.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// As in `resource/namespace/name`.
    pub resource: &'static str,
    /// Group and version, as a path.
    group: &'static str,
    /// Where upstream's API server, and ours, keep it in the store (kubernetes `pkg/registry`).
    stored: &'static str,
    /// A namespace that is not the run's.
    elsewhere: Option<&'static str>,
}

const fn kind(resource: &'static str, group: &'static str, stored: &'static str) -> Kind {
    Kind { resource, group, stored, elsewhere: None }
}

/// All of them.
pub const KINDS: [Kind; 6] = [
    kind("configmaps", "/api/v1", "/registry/configmaps"),
    kind("pods", "/api/v1", "/registry/pods"),
    kind("services", "/api/v1", "/registry/services/specs"),
    kind("deployments", "/apis/apps/v1", "/registry/deployments"),
    kind("replicasets", "/apis/apps/v1", "/registry/replicasets"),
    // Who leads the scheduler and the controllers; renewed all the time, so never the same at the end.
    Kind { elsewhere: Some("kube-system"), ..kind("leases", "/apis/coordination.k8s.io/v1", "/registry/leases") },
];

impl Kind {
    /// The kind of a resource that stands in [`KINDS`].
    pub fn of(resource: &str) -> Self {
        *KINDS.iter().find(|kind| kind.resource == resource).expect("every workload's kind stands in the table")
    }

    /// Whether all of it belongs to the run, so that it comes to rest with it.
    pub fn rests(&self) -> bool {
        self.elsewhere.is_none()
    }

    /// The path of the collection in the run's namespace, or where the kind's objects are.
    pub fn collection(&self, namespace: &str) -> String {
        format!("{}/namespaces/{}/{}", self.group, self.elsewhere.unwrap_or(namespace), self.resource)
    }

    /// What objects' names begin with.
    pub fn prefix(&self, namespace: &str) -> String {
        format!("{}/{}/", self.resource, self.elsewhere.unwrap_or(namespace))
    }

    /// What their keys in the store begin with.
    pub fn stored(&self, namespace: &str) -> String {
        format!("{}/{}/", self.stored, self.elsewhere.unwrap_or(namespace))
    }
}
