//! The roles and bindings every cluster begins with, as objects. The data stands in `policy/*.txt`.

use serde_json::{Value, json};
use xebec_api::meta;

use super::rule::Rule;

const CLUSTER_ROLES: &str = include_str!("policy/cluster-roles.txt");
const CONTROLLER_ROLES: &str = include_str!("policy/controller-roles.txt");
const NAMESPACED_ROLES: &str = include_str!("policy/namespaced.txt");
const BINDINGS: &str = include_str!("policy/bindings.txt");

const GROUP: &str = "rbac.authorization.k8s.io";
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

/// Every bootstrap object in the order of creation: ClusterRoles, ClusterRoleBindings, Roles, RoleBindings. Aggregated
/// roles come with their rules filled in.
pub fn objects() -> Vec<Value> {
    let mut roles = cluster_roles();
    let aggregated: Vec<_> = roles.iter().map(|role| aggregate(role, &roles)).collect();
    for (role, rules) in roles.iter_mut().zip(aggregated) {
        if let Some(rules) = rules {
            role["rules"] = Value::Array(rules);
        }
    }
    let (cluster, namespaced): (Vec<_>, Vec<_>) = bindings().into_iter().partition(|b| meta::namespace(b).is_empty());
    roles.into_iter().chain(cluster).chain(namespaced_roles()).chain(namespaced).collect()
}

/// The rules of `system:node`, which the node authorizer grants after its own checks.
pub fn node_rules() -> Vec<Rule> {
    parse_roles(CLUSTER_ROLES)
        .into_iter()
        .find(|role| role.name == "system:node")
        .map(|role| role.rules)
        .unwrap_or_default()
}

/// The rules an aggregated ClusterRole collects from `roles` (`None`: the role does not aggregate). Duplicates are
/// dropped and the order is that of the roles' names, as the aggregation controller writes them.
pub fn aggregate(role: &Value, roles: &[Value]) -> Option<Vec<Value>> {
    let selectors = meta::get(role, &["aggregationRule", "clusterRoleSelectors"])?.as_array()?;
    let matches = |other: &Value| {
        selectors.iter().any(|selector| {
            let labels = selector.get("matchLabels").and_then(Value::as_object);
            labels.is_some_and(|l| !l.is_empty() && l.iter().all(|(k, v)| meta::label(other, k) == v.as_str()))
        })
    };
    let mut sources: Vec<&Value> =
        roles.iter().filter(|other| meta::name(other) != meta::name(role) && matches(other)).collect();
    sources.sort_by_key(|other| meta::name(other));
    let mut rules: Vec<Value> = Vec::new();
    for source in sources {
        // An aggregated source contributes what it collects itself.
        let own = aggregate(source, roles).unwrap_or_else(|| meta::list_at(source, &["rules"]).to_vec());
        for rule in own {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    Some(rules)
}

struct RoleText {
    name: String,
    aggregate_to: Option<String>,
    aggregate_from: Option<String>,
    rules: Vec<Rule>,
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn parse_roles(text: &str) -> Vec<RoleText> {
    let mut roles: Vec<RoleText> = Vec::new();
    for line in lines(text) {
        let words: Vec<&str> = line.split(' ').collect();
        let option = |key: &str| words.iter().find_map(|w| w.strip_prefix(key)).map(str::to_owned);
        match words.as_slice() {
            ["role", name, ..] => {
                roles.push(RoleText {
                    name: (*name).into(),
                    aggregate_to: option("aggregate-to="),
                    aggregate_from: None,
                    rules: vec![],
                });
            }
            ["aggregate", name, ..] => {
                roles.push(RoleText {
                    name: (*name).into(),
                    aggregate_to: option("to="),
                    aggregate_from: option("from="),
                    rules: vec![],
                });
            }
            _ => {
                if let Some(role) = roles.last_mut() {
                    role.rules.push(parse_rule(line));
                }
            }
        }
    }
    roles
}

fn parse_rule(line: &str) -> Rule {
    let line = if line == "events" { "core,events.k8s.io | events | create patch update" } else { line };
    let mut columns = line.split('|').map(str::trim);
    let mut words = |separator: char| -> Vec<String> {
        let column = columns.next().unwrap_or("");
        column.split(separator).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let (groups, things, verbs, names) = (words(','), words(' '), words(' '), words(' '));
    let mut verbs: Vec<String> = verbs
        .into_iter()
        .flat_map(|verb| match verb.as_str() {
            "READ" => READ.map(str::to_owned).to_vec(),
            "WRITE" => WRITE.map(str::to_owned).to_vec(),
            _ => vec![verb],
        })
        .collect();
    verbs.sort();
    if groups == ["url"] {
        return Rule { verbs, non_resource_urls: things, ..Rule::default() };
    }
    let api_groups = groups.into_iter().map(|g| if g == "core" { String::new() } else { g }).collect();
    Rule { verbs, api_groups, resources: things, resource_names: names, ..Rule::default() }
}

fn object(kind: &str, namespace: &str, name: &str) -> Value {
    let mut object = json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {
            "name": name,
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        },
    });
    meta::set_namespace(&mut object, namespace);
    object
}

fn rules_value(rules: &[Rule]) -> Value {
    rules.iter().map(Rule::to_value).collect()
}

fn cluster_roles() -> Vec<Value> {
    let controllers = parse_roles(CONTROLLER_ROLES).into_iter().map(|mut role| {
        role.name = format!("system:controller:{}", role.name);
        role
    });
    let build = |role: RoleText| {
        let mut value = object("ClusterRole", "", &role.name);
        if let Some(to) = role.aggregate_to {
            meta::set_label(&mut value, &format!("{GROUP}/aggregate-to-{to}"), "true");
        }
        if let Some(from) = role.aggregate_from {
            let label = format!("{GROUP}/aggregate-to-{from}");
            value["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        }
        value["rules"] = rules_value(&role.rules);
        value
    };
    parse_roles(CLUSTER_ROLES).into_iter().chain(controllers).map(build).collect()
}

fn namespaced_roles() -> Vec<Value> {
    let build = |role: RoleText| {
        let (namespace, name) = role.name.split_once('/').unwrap_or(("", &role.name));
        let mut value = object("Role", namespace, name);
        value["rules"] = rules_value(&role.rules);
        value
    };
    parse_roles(NAMESPACED_ROLES).into_iter().map(build).collect()
}

fn bindings() -> Vec<Value> {
    let fixed = lines(BINDINGS).map(|line| {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let column = |n: usize| columns.get(n).copied().unwrap_or("");
        binding(column(0), column(1), column(2))
    });
    // Xebec's controllers share one identity, which may mint these ServiceAccounts' tokens anyway.
    let controllers = parse_roles(CONTROLLER_ROLES).into_iter().map(|role| {
        let name = format!("system:controller:{}", role.name);
        binding(&name, &name, &format!("sa:kube-system/{} user:system:kube-controller-manager", role.name))
    });
    fixed.chain(controllers).collect()
}

fn binding(name: &str, role: &str, subjects: &str) -> Value {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let (role_kind, role) = role.split_once('/').map_or(("ClusterRole", role), |(_, role)| ("Role", role));
    let kind = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
    let mut value = object(kind, namespace, name);
    value["roleRef"] = json!({"apiGroup": GROUP, "kind": role_kind, "name": role});
    let subjects: Vec<Value> = subjects.split(' ').filter_map(subject).collect();
    if !subjects.is_empty() {
        value["subjects"] = Value::Array(subjects);
    }
    value
}

fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    match kind {
        "user" => Some(json!({"kind": "User", "apiGroup": GROUP, "name": name})),
        "group" => Some(json!({"kind": "Group", "apiGroup": GROUP, "name": name})),
        _ => {
            let (namespace, name) = name.split_once('/')?;
            Some(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::User;
    use crate::rbac::{Attributes, RbacIndex, authorize};

    fn may(user: &User, line: &str) -> bool {
        let mut index = RbacIndex::default();
        objects().iter().for_each(|object| index.apply(object));
        let words: Vec<&str> = line.split(' ').collect();
        if words[1].starts_with('/') {
            let asked = Attributes {
                resource_request: false,
                path: words[1],
                ..Attributes::of_resource(user, words[0], "", "", "", "")
            };
            return authorize(&index, &asked).is_allowed();
        }
        let (resource, subresource) = words[2].split_once('/').unwrap_or((words[2], ""));
        let group = words[1].trim_matches('-');
        let asked = Attributes {
            subresource,
            ..Attributes::of_resource(user, words[0], group, resource, "kube-system", words.get(3).unwrap_or(&""))
        };
        authorize(&index, &asked).is_allowed()
    }

    #[test]
    fn every_line_of_the_policy_is_read() {
        for object in objects() {
            assert!(!meta::name(&object).is_empty());
            for rule in meta::list_at(&object, &["rules"]) {
                let rule = Rule::from_value(rule);
                assert!(!rule.verbs.is_empty(), "{object}");
                assert!(!rule.resources.is_empty() || !rule.non_resource_urls.is_empty(), "{object}");
            }
        }
        let roles = objects();
        let find = |kind: &str, name: &str| {
            roles.iter().find(|o| meta::kind(o) == kind && meta::name(o) == name).expect("exists")
        };
        let view = find("ClusterRole", "view");
        let admin = find("ClusterRole", "admin");
        assert!(meta::list_at(view, &["rules"]).len() > 8);
        for rule in meta::list_at(view, &["rules"]) {
            assert!(meta::list_at(admin, &["rules"]).contains(rule), "admin holds what view holds");
        }
    }

    #[test]
    fn components_may_do_their_work() {
        let scheduler = User::new("system:kube-scheduler", &["system:authenticated"]);
        let controllers = User::new("system:kube-controller-manager", &["system:authenticated"]);
        let joining = User::new("system:bootstrap:abcdef", &["system:bootstrappers", "system:authenticated"]);
        let anonymous = User::new("system:anonymous", &["system:unauthenticated"]);
        for (user, line, allowed) in [
            (&scheduler, "create - pods/binding", true),
            (&scheduler, "patch - pods/status", true),
            (&scheduler, "get coordination.k8s.io leases kube-scheduler", true),
            (&scheduler, "update - nodes n", false),
            (&scheduler, "post /xebec.io/v1/leaderships/kube-scheduler", true),
            (&controllers, "update apps deployments/status", true),
            (&controllers, "update certificates.k8s.io certificatesigningrequests/approval", true),
            (&controllers, "update - namespaces/finalize", true),
            (&controllers, "patch - pods/status", true),
            (&joining, "create certificates.k8s.io certificatesigningrequests", true),
            (&joining, "list - secrets", false),
            (&joining, "get /apis/apps/v1", true),
            (&anonymous, "get /livez", true),
            (&anonymous, "get /version", true),
            (&anonymous, "get /api/v1", false),
            (&anonymous, "post /xebec.io/v1/leaderships/kube-scheduler", false),
        ] {
            assert_eq!(may(user, line), allowed, "{} {line}", user.name);
        }
    }
}
