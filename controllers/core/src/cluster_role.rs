//! ClusterRoles made of others.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::ClusterRole;
use serde_json::json;

use crate::{action::Action, meta, selector};

/// Gives an aggregated role the rules of every role its selectors select, each once, in the order of their names.
#[must_use]
pub fn reconcile(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Vec<Action> {
    let Some(aggregation) = &role.aggregation_rule else { return Vec::new() };
    let mut parts: Vec<&Arc<ClusterRole>> = all
        .iter()
        .filter(|part| meta::name(&***part) != meta::name(role))
        .filter(|part| {
            let mut selectors = aggregation.cluster_role_selectors.iter().flatten();
            selectors.any(|wanted| selector::matches(wanted, part.metadata.labels.as_ref()))
        })
        .collect();
    parts.sort_by_key(|part| meta::name(&***part));
    let mut rules = Vec::new();
    for rule in parts.iter().flat_map(|part| part.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    if role.rules.clone().unwrap_or_default() == rules {
        return Vec::new();
    }
    vec![Action::patch(role, json!({ "rules": rules }))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(value: serde_json::Value) -> Arc<ClusterRole> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn rules_are_collected_once_by_label() {
        let rule = json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] });
        let part = |name: &str, label: &str| {
            role(json!({ "metadata": { "name": name, "labels": { "to-view": label } }, "rules": [rule] }))
        };
        let whole = role(json!({
            "metadata": { "name": "view" },
            "aggregationRule": { "clusterRoleSelectors": [{ "matchLabels": { "to-view": "true" } }] },
        }));
        let all = [part("a", "true"), part("b", "true"), part("c", "false"), whole.clone()];
        let actions = reconcile(&whole, &all);
        let [Action::Patch { body, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(body["rules"], json!([rule]));
    }
}
