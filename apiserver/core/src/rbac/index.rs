//! Roles and bindings, indexed by subject, and the evaluation over them (kubernetes `plugin/pkg/auth/authorizer/rbac`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;
use xebec_api::meta;

use super::attributes::{Attributes, Decision};
use super::rule::Rule;
use crate::context::{SYSTEM_MASTERS, User};

/// Namespace (empty: ClusterRole or ClusterRoleBinding) and name.
type Key = (String, String);

#[derive(Clone, Debug)]
struct Binding {
    /// Where the binding holds; empty: everywhere.
    namespace: String,
    name: String,
    role_kind: String,
    role_name: String,
    subjects: Vec<Subject>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Subject {
    User(String),
    Group(String),
    ServiceAccount { namespace: String, name: String },
}

impl Subject {
    fn describe(&self) -> String {
        match self {
            Self::User(name) => format!("User {name:?}"),
            Self::Group(name) => format!("Group {name:?}"),
            Self::ServiceAccount { namespace, name } => format!("ServiceAccount \"{name}/{namespace}\""),
        }
    }
}

/// Every role and binding of the cluster. Cheap to clone; a change copies only what it touches.
#[derive(Clone, Debug, Default)]
pub struct RbacIndex {
    roles: BTreeMap<Key, Arc<Vec<Rule>>>,
    bindings: BTreeMap<Key, Arc<Binding>>,
    by_subject: HashMap<Subject, Vec<Key>>,
}

impl RbacIndex {
    /// Takes over a Role, ClusterRole, RoleBinding or ClusterRoleBinding; other kinds are ignored.
    pub fn apply(&mut self, object: &Value) {
        let key = (meta::namespace(object).to_owned(), meta::name(object).to_owned());
        match meta::kind(object) {
            "Role" | "ClusterRole" => {
                let rules = meta::list_at(object, &["rules"]).iter().map(Rule::from_value).collect();
                self.roles.insert(key, Arc::new(rules));
            }
            "RoleBinding" | "ClusterRoleBinding" => {
                self.remove_binding(&key);
                let binding = read_binding(object);
                for subject in &binding.subjects {
                    self.by_subject.entry(subject.clone()).or_default().push(key.clone());
                }
                self.bindings.insert(key, Arc::new(binding));
            }
            _ => {}
        }
    }

    /// Forgets an object.
    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        match kind {
            "Role" | "ClusterRole" => {
                self.roles.remove(&key);
            }
            "RoleBinding" | "ClusterRoleBinding" => self.remove_binding(&key),
            _ => {}
        }
    }

    fn remove_binding(&mut self, key: &Key) {
        let Some(old) = self.bindings.remove(key) else { return };
        for subject in &old.subjects {
            if let Some(keys) = self.by_subject.get_mut(subject) {
                keys.retain(|k| k != key);
                if keys.is_empty() {
                    self.by_subject.remove(subject);
                }
            }
        }
    }

    /// A role's rules.
    pub fn role_rules(&self, kind: &str, namespace: &str, name: &str) -> Option<&[Rule]> {
        let namespace = if kind == "ClusterRole" { "" } else { namespace };
        self.roles.get(&(namespace.to_owned(), name.to_owned())).map(|rules| rules.as_slice())
    }

    /// Every rule that holds for `user` in `namespace` (empty: at cluster scope), with the binding it comes from. Stops
    /// when `visit` returns true.
    fn visit_rules<'a>(
        &'a self,
        user: &User,
        namespace: &str,
        mut visit: impl FnMut(&'a Rule, &'a Binding, &Subject) -> bool,
    ) {
        let groups = user.groups.iter().map(|group| Subject::Group(group.clone()));
        let account = user.service_account().map(|(namespace, name)| Subject::ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
        for subject in std::iter::once(Subject::User(user.name.clone())).chain(account).chain(groups) {
            for key in self.by_subject.get(&subject).into_iter().flatten() {
                let Some(binding) = self.bindings.get(key) else { continue };
                if !binding.namespace.is_empty() && binding.namespace != namespace {
                    continue;
                }
                let rules = self.role_rules(&binding.role_kind, &binding.namespace, &binding.role_name).unwrap_or(&[]);
                if rules.iter().any(|rule| visit(rule, binding, &subject)) {
                    return;
                }
            }
        }
    }

    /// The rules that hold for `user` in `namespace`, without duplicates: what SelfSubjectRulesReview reports.
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::new();
        if user.in_group(SYSTEM_MASTERS) {
            let all = || vec!["*".to_owned()];
            rules.push(Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() });
            rules.push(Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() });
        }
        self.visit_rules(user, namespace, |rule, _, _| {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
            false
        });
        rules
    }
}

fn read_binding(object: &Value) -> Binding {
    let namespace = meta::namespace(object).to_owned();
    let subjects = meta::list_at(object, &["subjects"]).iter().filter_map(|subject| {
        let name = meta::str_at(subject, &["name"]).to_owned();
        match meta::kind(subject) {
            "User" => Some(Subject::User(name)),
            "Group" => Some(Subject::Group(name)),
            "ServiceAccount" => {
                let own = meta::str_at(subject, &["namespace"]);
                Some(Subject::ServiceAccount {
                    namespace: if own.is_empty() { namespace.clone() } else { own.to_owned() },
                    name,
                })
            }
            _ => None,
        }
    });
    Binding {
        subjects: subjects.collect(),
        name: meta::name(object).to_owned(),
        role_kind: meta::str_at(object, &["roleRef", "kind"]).to_owned(),
        role_name: meta::str_at(object, &["roleRef", "name"]).to_owned(),
        namespace,
    }
}

/// Whether RBAC allows it. Members of `system:masters` always may, whatever the roles say, as upstream's privileged
/// group authorizer decides before RBAC is asked.
pub fn authorize(index: &RbacIndex, asked: &Attributes<'_>) -> Decision {
    if asked.user.in_group(SYSTEM_MASTERS) {
        return Decision::Allow(String::new());
    }
    let mut reason = None;
    index.visit_rules(asked.user, asked.namespace, |rule, binding, subject| {
        // A namespaced binding gives nothing outside resources of its namespace.
        if !rule.allows(asked) || (!asked.resource_request && !binding.namespace.is_empty()) {
            return false;
        }
        let who = subject.describe();
        let role = format!("{} {:?}", binding.role_kind, binding.role_name);
        reason = Some(if binding.namespace.is_empty() {
            format!("RBAC: allowed by ClusterRoleBinding {:?} of {role} to {who}", binding.name)
        } else {
            format!("RBAC: allowed by RoleBinding \"{}/{}\" of {role} to {who}", binding.name, binding.namespace)
        });
        true
    });
    reason.map_or_else(|| Decision::NoOpinion(String::new()), Decision::Allow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn index() -> RbacIndex {
        let mut index = RbacIndex::default();
        index.apply(&json!({"kind": "ClusterRole", "metadata": {"name": "reader"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]}));
        index.apply(&json!({"kind": "RoleBinding", "metadata": {"name": "b", "namespace": "ns"},
            "roleRef": {"kind": "ClusterRole", "name": "reader"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "sa"}]}));
        index
    }

    fn allowed(index: &RbacIndex, user: &str, namespace: &str) -> bool {
        let user = User::new(user, &[]);
        authorize(index, &Attributes::of_resource(&user, "list", "", "pods", namespace, "")).is_allowed()
    }

    #[test]
    fn role_bindings_hold_in_their_namespace_only() {
        let mut index = index();
        assert!(allowed(&index, "u", "ns"));
        assert!(allowed(&index, "system:serviceaccount:ns:sa", "ns"));
        assert!(!allowed(&index, "u", "other"));
        assert!(!allowed(&index, "u", ""));
        assert!(!allowed(&index, "v", "ns"));
        index.remove("RoleBinding", "ns", "b");
        assert!(!allowed(&index, "u", "ns"));
    }

    #[test]
    fn masters_may_everything() {
        let user = User::new("root", &[SYSTEM_MASTERS]);
        let asked = Attributes::of_resource(&user, "delete", "", "nodes", "", "n");
        assert!(authorize(&RbacIndex::default(), &asked).is_allowed());
        assert_eq!(RbacIndex::default().rules_for(&user, "").len(), 2);
    }

    #[test]
    fn reasons_name_binding_role_and_subject() {
        let user = User::new("u", &[]);
        let decision = authorize(&index(), &Attributes::of_resource(&user, "get", "", "pods", "ns", "p"));
        assert_eq!(decision.reason(), r#"RBAC: allowed by RoleBinding "b/ns" of ClusterRole "reader" to User "u""#);
    }
}
