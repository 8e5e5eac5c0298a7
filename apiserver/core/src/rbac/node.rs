//! The node authorizer (KEP-279, kubernetes `plugin/pkg/auth/authorizer/node`): a kubelet reads what its own pods
//! need, and nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use xebec_api::meta;

use super::attributes::{Attributes, Decision};
use super::rule::Rule;

/// What a pod needs: kind, namespace, name.
type Need = (&'static str, String, String);

/// Which node's pods refer to what. Kept current from the caches of pods, persistent volumes and volume attachments.
#[derive(Clone, Debug, Default)]
pub struct NodeGraph {
    pods: HashMap<(String, String), (String, Vec<Need>)>,
    /// How many pods of a node need it.
    counts: HashMap<(String, Need), usize>,
    /// Claim of each persistent volume: volume name to (namespace, claim).
    volumes: BTreeMap<String, (String, String)>,
    /// Attachment name to node name.
    attachments: BTreeMap<String, String>,
}

impl NodeGraph {
    /// Takes over a pod.
    pub fn apply_pod(&mut self, pod: &Value) {
        let key = (meta::namespace(pod).to_owned(), meta::name(pod).to_owned());
        self.remove_pod(&key.0, &key.1);
        let node = meta::str_at(pod, &["spec", "nodeName"]);
        // A mirror pod is the node's own claim about itself: trusting it would let a node read any secret.
        if node.is_empty() || meta::annotation(pod, "kubernetes.io/config.mirror").is_some() {
            return;
        }
        let needs = needs_of(pod);
        for need in &needs {
            *self.counts.entry((node.to_owned(), need.clone())).or_insert(0) += 1;
        }
        self.pods.insert(key, (node.to_owned(), needs));
    }

    /// Forgets a pod.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        let Some((node, needs)) = self.pods.remove(&(namespace.to_owned(), name.to_owned())) else { return };
        for need in needs {
            let key = (node.clone(), need);
            match self.counts.get_mut(&key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    self.counts.remove(&key);
                }
            }
        }
    }

    /// Takes over a PersistentVolume.
    pub fn apply_volume(&mut self, volume: &Value) {
        let claim = (
            meta::str_at(volume, &["spec", "claimRef", "namespace"]),
            meta::str_at(volume, &["spec", "claimRef", "name"]),
        );
        if claim.1.is_empty() {
            self.volumes.remove(meta::name(volume));
        } else {
            self.volumes.insert(meta::name(volume).to_owned(), (claim.0.to_owned(), claim.1.to_owned()));
        }
    }

    /// Forgets a PersistentVolume.
    pub fn remove_volume(&mut self, name: &str) {
        self.volumes.remove(name);
    }

    /// Takes over a VolumeAttachment.
    pub fn apply_attachment(&mut self, attachment: &Value) {
        self.attachments
            .insert(meta::name(attachment).to_owned(), meta::str_at(attachment, &["spec", "nodeName"]).to_owned());
    }

    /// Forgets a VolumeAttachment.
    pub fn remove_attachment(&mut self, name: &str) {
        self.attachments.remove(name);
    }

    /// Whether a pod of `node` needs it.
    pub fn needs(&self, node: &str, kind: &'static str, namespace: &str, name: &str) -> bool {
        if kind == "persistentvolumes" {
            let Some((namespace, claim)) = self.volumes.get(name) else { return false };
            return self.needs(node, "persistentvolumeclaims", namespace, claim);
        }
        if kind == "volumeattachments" {
            return self.attachments.get(name).is_some_and(|n| n == node);
        }
        self.counts.contains_key(&(node.to_owned(), (kind, namespace.to_owned(), name.to_owned())))
    }

    /// Whether a pod runs on `node`.
    pub fn runs(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.pods.get(&(namespace.to_owned(), name.to_owned())).is_some_and(|(n, _)| n == node)
    }
}

/// Every secret, config map, claim and service account a pod spec refers to.
fn needs_of(pod: &Value) -> Vec<Need> {
    let namespace = meta::namespace(pod);
    let mut found: HashSet<Need> = HashSet::new();
    let mut add = |kind: &'static str, name: &str| {
        if !name.is_empty() {
            found.insert((kind, namespace.to_owned(), name.to_owned()));
        }
    };
    add("serviceaccounts", meta::str_at(pod, &["spec", "serviceAccountName"]));
    for secret in meta::list_at(pod, &["spec", "imagePullSecrets"]) {
        add("secrets", meta::str_at(secret, &["name"]));
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in meta::list_at(pod, &["spec", list]) {
            for env in meta::list_at(container, &["env"]) {
                add("secrets", meta::str_at(env, &["valueFrom", "secretKeyRef", "name"]));
                add("configmaps", meta::str_at(env, &["valueFrom", "configMapKeyRef", "name"]));
            }
            for from in meta::list_at(container, &["envFrom"]) {
                add("secrets", meta::str_at(from, &["secretRef", "name"]));
                add("configmaps", meta::str_at(from, &["configMapRef", "name"]));
            }
        }
    }
    for volume in meta::list_at(pod, &["spec", "volumes"]) {
        add("secrets", meta::str_at(volume, &["secret", "secretName"]));
        add("configmaps", meta::str_at(volume, &["configMap", "name"]));
        add("persistentvolumeclaims", meta::str_at(volume, &["persistentVolumeClaim", "claimName"]));
        if volume.get("ephemeral").is_some() {
            add("persistentvolumeclaims", &format!("{}-{}", meta::name(pod), meta::str_at(volume, &["name"])));
        }
        for source in ["csi", "cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"] {
            for field in ["secretRef", "nodePublishSecretRef"] {
                add("secrets", meta::str_at(volume, &[source, field, "name"]));
            }
        }
        add("secrets", meta::str_at(volume, &["azureFile", "secretName"]));
        for source in meta::list_at(volume, &["projected", "sources"]) {
            add("secrets", meta::str_at(source, &["secret", "name"]));
            add("configmaps", meta::str_at(source, &["configMap", "name"]));
        }
    }
    for claim in meta::list_at(pod, &["status", "resourceClaimStatuses"]) {
        add("resourceclaims", meta::str_at(claim, &["resourceClaimName"]));
    }
    for claim in meta::list_at(pod, &["spec", "resourceClaims"]) {
        add("resourceclaims", meta::str_at(claim, &["resourceClaimName"]));
    }
    found.into_iter().collect()
}

/// Asks the node authorizer. Users that are no kubelet get no opinion, with no reason. `node_rules` are the static
/// rules of the `system:node` role ([`super::bootstrap::node_rules`]).
pub fn authorize_node(graph: &NodeGraph, node_rules: &[Rule], asked: &Attributes<'_>) -> Decision {
    let Some(node) = asked.user.node_name() else { return Decision::NoOpinion(String::new()) };
    if asked.resource_request {
        match (asked.api_group, asked.resource) {
            ("", "secrets") => return read_needed(graph, node, asked, "secrets"),
            ("", "configmaps") => return read_needed(graph, node, asked, "configmaps"),
            ("", "persistentvolumeclaims") if asked.subresource == "status" => {
                return status_of_needed(graph, node, asked);
            }
            ("", "persistentvolumeclaims") => return get_needed(graph, node, asked, "persistentvolumeclaims"),
            ("", "persistentvolumes") => return get_needed(graph, node, asked, "persistentvolumes"),
            ("storage.k8s.io", "volumeattachments") => return get_needed(graph, node, asked, "volumeattachments"),
            ("resource.k8s.io", "resourceclaims") => return get_needed(graph, node, asked, "resourceclaims"),
            ("", "serviceaccounts") if asked.subresource == "token" => return create_token(graph, node, asked),
            ("", "serviceaccounts") => return get_needed(graph, node, asked, "serviceaccounts"),
            ("coordination.k8s.io", "leases") => return lease(node, asked),
            ("storage.k8s.io", "csinodes") => return own_csi_node(node, asked),
            ("", "nodes") if asked.subresource.is_empty() || asked.subresource == "status" => {
                return own_node(node, asked);
            }
            _ => {}
        }
    }
    if node_rules.iter().any(|rule| rule.allows(asked)) {
        Decision::Allow(String::new())
    } else {
        Decision::NoOpinion(String::new())
    }
}

fn no(reason: String) -> Decision {
    Decision::NoOpinion(reason)
}

fn yes() -> Decision {
    Decision::Allow(String::new())
}

/// get, list and watch of one named object.
fn read_needed(graph: &NodeGraph, node: &str, asked: &Attributes<'_>, kind: &'static str) -> Decision {
    if !matches!(asked.verb, "get" | "list" | "watch") || !asked.subresource.is_empty() {
        return no("can only read resources of this type".into());
    }
    if asked.name.is_empty() {
        return no("No Object name found".into());
    }
    related(graph, node, asked, kind)
}

fn get_needed(graph: &NodeGraph, node: &str, asked: &Attributes<'_>, kind: &'static str) -> Decision {
    if asked.verb != "get" {
        return no("can only get individual resources of this type".into());
    }
    if !asked.subresource.is_empty() {
        return no("cannot get subresource".into());
    }
    related(graph, node, asked, kind)
}

fn related(graph: &NodeGraph, node: &str, asked: &Attributes<'_>, kind: &'static str) -> Decision {
    if graph.needs(node, kind, asked.namespace, asked.name) {
        return yes();
    }
    no(format!("no relationship found between node '{node}' and this object"))
}

fn status_of_needed(graph: &NodeGraph, node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "update" | "patch") {
        return no("can only get/update/patch this type".into());
    }
    related(graph, node, asked, "persistentvolumeclaims")
}

fn create_token(graph: &NodeGraph, node: &str, asked: &Attributes<'_>) -> Decision {
    if asked.verb != "create" || asked.name.is_empty() {
        return no("can only create tokens for individual service accounts".into());
    }
    related(graph, node, asked, "serviceaccounts")
}

fn lease(node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease".into());
    }
    if asked.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace".into());
    }
    // A create's name is known only to admission (NodeRestriction), where it is checked.
    if asked.verb != "create" && asked.name != node {
        return no("can only access node lease with the same name as the requesting node".into());
    }
    yes()
}

fn own_csi_node(node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a CSINode".into());
    }
    if asked.verb != "create" && asked.name != node {
        return no("can only access CSINode with the same name as the requesting node".into());
    }
    yes()
}

/// KEP-4601's selectors are followed by the name alone: a field selector on `metadata.name` arrives as the name.
fn own_node(node: &str, asked: &Attributes<'_>) -> Decision {
    match asked.verb {
        "create" if asked.subresource.is_empty() => yes(),
        "get" | "list" | "watch" | "update" | "patch" if asked.name == node => yes(),
        // The service proxy and the routes to other nodes are part of the node agent: it may read all Nodes.
        "get" | "list" | "watch" if asked.subresource.is_empty() => yes(),
        _ => no(format!("node '{node}' cannot {} this node", asked.verb)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::User;
    use serde_json::json;

    fn graph() -> NodeGraph {
        let mut graph = NodeGraph::default();
        graph.apply_pod(&json!({"metadata": {"namespace": "ns", "name": "p"}, "spec": {"nodeName": "n1", "serviceAccountName": "sa",
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s1"}}}], "envFrom": [{"configMapRef": {"name": "c1"}}]}],
            "volumes": [{"projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                        {"persistentVolumeClaim": {"claimName": "claim"}}]}}));
        graph.apply_volume(
            &json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "ns", "name": "claim"}}}),
        );
        graph
    }

    fn ask(node: &str, line: &str) -> bool {
        let user = User::new(&format!("system:node:{node}"), &["system:nodes"]);
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap_or("").trim_matches('-');
        let (verb, group, resource, namespace, name) = (next(), next(), next(), next(), next());
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let asked =
            Attributes { subresource, ..Attributes::of_resource(&user, verb, group, resource, namespace, name) };
        authorize_node(&graph(), &super::super::bootstrap::node_rules(), &asked).is_allowed()
    }

    #[test]
    fn a_node_reads_what_its_pods_need() {
        for line in [
            "get - secrets ns s1",
            "watch - configmaps ns c1",
            "get - configmaps ns kube-root-ca.crt",
            "get - persistentvolumeclaims ns claim",
            "get - persistentvolumes - pv",
            "create - serviceaccounts/token ns sa",
        ] {
            assert!(ask("n1", line), "{line}");
            assert!(!ask("n2", line), "another node: {line}");
        }
        for line in
            ["list - secrets ns -", "update - secrets ns s1", "get - secrets ns other", "delete - configmaps ns c1"]
        {
            assert!(!ask("n1", line), "{line}");
        }
    }

    #[test]
    fn a_node_writes_itself_and_its_lease_only() {
        for (line, allowed) in [
            ("update - nodes/status - n1", true),
            ("patch - nodes - n2", false),
            ("create - nodes - -", true),
            ("delete - nodes - n1", false),
            ("update coordination.k8s.io leases kube-node-lease n1", true),
            ("update coordination.k8s.io leases kube-node-lease n2", false),
            ("get coordination.k8s.io leases kube-system kube-scheduler", false),
            ("list - pods - -", true),
            ("create certificates.k8s.io certificatesigningrequests - -", true),
            ("create - events default -", true),
        ] {
            assert_eq!(ask("n1", line), allowed, "{line}");
        }
    }

    #[test]
    fn removing_the_pod_removes_the_right() {
        let mut graph = graph();
        assert!(graph.needs("n1", "secrets", "ns", "s1"));
        graph.remove_pod("ns", "p");
        assert!(!graph.needs("n1", "secrets", "ns", "s1"));
        assert!(graph.counts.is_empty());
    }
}
