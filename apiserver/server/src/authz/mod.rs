//! Authorization: the node authorizer and RBAC, kept current from the watch caches.

mod follow;

use crate::objects::Objects;
use parking_lot::RwLock;
use serde_json::Value;
use std::sync::Arc;
use xebec_api::{GroupResource, Status};
use xebec_apiserver_core::User;
use xebec_apiserver_core::rbac::{
    Attributes, Decision, NodeGraph, RbacIndex, Rule, authorize, authorize_node, bootstrap, escalation_check,
    forbidden_message,
};
use xebec_apiserver_core::request::RequestInfo;

/// Decides who may do what.
pub struct Authorizer {
    rbac: RwLock<RbacIndex>,
    graph: RwLock<NodeGraph>,
    node_rules: Vec<Rule>,
}

impl Authorizer {
    /// Knows nothing yet, so that only system:masters may do anything; [`Authorizer::follow`] fills it.
    pub fn new() -> Self {
        Self {
            rbac: RwLock::new(RbacIndex::default()),
            graph: RwLock::new(NodeGraph::default()),
            node_rules: bootstrap::node_rules(),
        }
    }

    /// Keeps it current, for ever.
    pub async fn follow(self: Arc<Self>, objects: Arc<Objects>) {
        follow::follow(self, objects).await;
    }

    /// The union of all authorizers.
    pub fn decide(&self, asked: &Attributes<'_>) -> Decision {
        let node = authorize_node(&self.graph.read(), &self.node_rules, asked);
        if node.is_allowed() {
            return node;
        }
        let rbac = authorize(&self.rbac.read(), asked);
        if rbac.is_allowed() || node.reason().is_empty() { rbac } else { node }
    }

    /// Refuses a request that is not allowed.
    pub fn check(&self, user: &User, info: &RequestInfo) -> Result<(), Status> {
        self.check_attributes(&Attributes::of_request(user, info))
    }

    /// Refuses what is not allowed.
    pub fn check_attributes(&self, asked: &Attributes<'_>) -> Result<(), Status> {
        let decision = self.decide(asked);
        if decision.is_allowed() {
            return Ok(());
        }
        let resource = if asked.resource_request {
            GroupResource::new(asked.api_group, asked.resource)
        } else {
            GroupResource::default()
        };
        Err(Status::forbidden(&resource, asked.name, &forbidden_message(asked, decision.reason())))
    }

    /// The rules a user holds in a namespace.
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<Rule> {
        self.rbac.read().rules_for(user, namespace)
    }

    /// Refuses to hand out rights that the user does not hold; the error is the sentence of the refusal.
    pub fn escalation(&self, user: &User, new: &Value, old: Option<&Value>) -> Result<(), String> {
        escalation_check(&self.rbac.read(), user, new, old)
    }

    fn apply(&self, resource: &str, object: &Value) {
        match resource {
            "pods" => self.graph.write().apply_pod(object),
            "persistentvolumes" => self.graph.write().apply_volume(object),
            "volumeattachments" => self.graph.write().apply_attachment(object),
            _ => self.rbac.write().apply(object),
        }
    }

    fn remove(&self, resource: &str, namespace: &str, name: &str) {
        match resource {
            "pods" => self.graph.write().remove_pod(namespace, name),
            "persistentvolumes" => self.graph.write().remove_volume(name),
            "volumeattachments" => self.graph.write().remove_attachment(name),
            "roles" => self.rbac.write().remove("Role", namespace, name),
            "clusterroles" => self.rbac.write().remove("ClusterRole", namespace, name),
            "rolebindings" => self.rbac.write().remove("RoleBinding", namespace, name),
            _ => self.rbac.write().remove("ClusterRoleBinding", namespace, name),
        }
    }
}
