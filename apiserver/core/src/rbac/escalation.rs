//! Nobody hands out rights they do not hold (kubernetes `pkg/registry/rbac/validation`).

use serde_json::Value;
use xebec_api::meta;

use super::attributes::Attributes;
use super::index::{RbacIndex, authorize};
use super::rule::Rule;
use crate::context::User;

/// The rules of `wanted` that `held` does not cover, broken into single grants.
pub fn covers(held: &[Rule], wanted: &[Rule]) -> Result<(), Vec<Rule>> {
    let missing: Vec<Rule> =
        wanted.iter().flat_map(break_down).filter(|one| !held.iter().any(|rule| rule_covers(rule, one))).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

/// One rule per combination, so that several held rules may cover it together.
fn break_down(rule: &Rule) -> Vec<Rule> {
    let mut out = Vec::new();
    for verb in &rule.verbs {
        for url in &rule.non_resource_urls {
            out.push(Rule { verbs: vec![verb.clone()], non_resource_urls: vec![url.clone()], ..Rule::default() });
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let one = Rule {
                    verbs: vec![verb.clone()],
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    out.push(one);
                    continue;
                }
                out.extend(
                    rule.resource_names.iter().map(|name| Rule { resource_names: vec![name.clone()], ..one.clone() }),
                );
            }
        }
    }
    out
}

fn rule_covers(held: &Rule, one: &Rule) -> bool {
    let verb_ok = one.verbs.iter().all(|verb| held.matches_verb(verb));
    if let [url] = one.non_resource_urls.as_slice() {
        return verb_ok && held.matches_url(url);
    }
    let (Some(group), Some(resource)) = (one.api_groups.first(), one.resources.first()) else { return verb_ok };
    let subresource = resource.split_once('/').map_or("", |(_, sub)| sub);
    let names_ok = held.resource_names.is_empty()
        || one.resource_names.first().is_some_and(|name| held.resource_names.contains(name));
    verb_ok && names_ok && held.matches_group(group) && held.matches_resource(resource, subresource)
}

/// Checks a create or update of a Role, ClusterRole, RoleBinding or ClusterRoleBinding. The error is the text after
/// `... is forbidden: `.
pub fn escalation_check(index: &RbacIndex, user: &User, new: &Value, old: Option<&Value>) -> Result<(), String> {
    let namespace = meta::namespace(new);
    let (verb, resource, name, wanted) = match meta::kind(new) {
        kind @ ("Role" | "ClusterRole") => {
            let unchanged =
                old.is_some_and(|old| old["rules"] == new["rules"] && old["aggregationRule"] == new["aggregationRule"]);
            if unchanged {
                return Ok(());
            }
            let mut rules: Vec<Rule> = meta::list_at(new, &["rules"]).iter().map(Rule::from_value).collect();
            if new.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
                // An aggregated role may come to hold anything.
                let all = || vec!["*".to_owned()];
                rules.push(Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() });
                rules.push(Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() });
            }
            let resource = if kind == "Role" { "roles" } else { "clusterroles" };
            ("escalate", resource, meta::name(new).to_owned(), rules)
        }
        "RoleBinding" | "ClusterRoleBinding" => {
            if old.is_some_and(|old| old["roleRef"] == new["roleRef"] && old["subjects"] == new["subjects"]) {
                return Ok(());
            }
            let kind = meta::str_at(new, &["roleRef", "kind"]);
            let name = meta::str_at(new, &["roleRef", "name"]);
            let resource = if kind == "Role" { "roles" } else { "clusterroles" };
            let rules = index.role_rules(kind, namespace, name).map(<[Rule]>::to_vec);
            let asked = Attributes::of_resource(user, "bind", "rbac.authorization.k8s.io", resource, namespace, name);
            if authorize(index, &asked).is_allowed() {
                return Ok(());
            }
            let rules = rules.ok_or_else(|| format!("{resource}.rbac.authorization.k8s.io {name:?} not found"))?;
            ("bind", resource, name.to_owned(), rules)
        }
        _ => return Ok(()),
    };
    let asked = Attributes::of_resource(user, verb, "rbac.authorization.k8s.io", resource, namespace, &name);
    if authorize(index, &asked).is_allowed() {
        return Ok(());
    }
    covers(&index.rules_for(user, namespace), &wanted).map_err(|missing| {
        let list: Vec<String> = missing.iter().map(Rule::to_string).collect();
        format!(
            "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            user.groups,
            list.join("\n")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rights_not_held_cannot_be_granted() {
        let mut index = RbacIndex::default();
        index.apply(&json!({"kind": "ClusterRole", "metadata": {"name": "r"},
            "rules": [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]}]}));
        index.apply(&json!({"kind": "ClusterRoleBinding", "metadata": {"name": "b"},
            "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]}));
        let user = User::new("u", &["g"]);
        let role = |verbs: Value| {
            json!({"kind": "Role", "metadata": {"name": "x", "namespace": "n"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]})
        };
        assert_eq!(escalation_check(&index, &user, &role(json!(["get"])), None), Ok(()));
        assert_eq!(
            escalation_check(&index, &user, &role(json!(["get", "delete"])), None),
            Err("user \"u\" (groups=[\"g\"]) is attempting to grant RBAC permissions not currently held:\n\
                 {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"
                .into())
        );
        let binding = json!({"kind": "RoleBinding", "metadata": {"name": "x", "namespace": "n"},
            "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": []});
        assert_eq!(escalation_check(&index, &user, &binding, None), Ok(()));
        assert!(escalation_check(&index, &User::new("v", &[]), &binding, None).is_err());
        assert_eq!(escalation_check(&index, &User::new("v", &["system:masters"]), &binding, None), Ok(()));
    }
}
