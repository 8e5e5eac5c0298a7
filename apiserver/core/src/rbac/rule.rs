//! One policy rule (kubernetes `pkg/apis/rbac/v1/evaluation_helpers.go`).

use std::fmt;

use serde_json::{Value, json};
use xebec_api::meta;

use super::attributes::Attributes;

/// A `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Verbs, `*` for all.
    pub verbs: Vec<String>,
    /// API groups, `*` for all.
    pub api_groups: Vec<String>,
    /// Resources, `resource/subresource`, `*/subresource` or `*`.
    pub resources: Vec<String>,
    /// Names the rule is limited to; none means all.
    pub resource_names: Vec<String>,
    /// Paths, a trailing `*` for prefixes.
    pub non_resource_urls: Vec<String>,
}

const FIELDS: [&str; 5] = ["apiGroups", "nonResourceURLs", "resourceNames", "resources", "verbs"];

impl Rule {
    /// Reads a rule object.
    pub fn from_value(rule: &Value) -> Self {
        let strings =
            |key: &str| meta::list_at(rule, &[key]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Self {
            api_groups: strings(FIELDS[0]),
            non_resource_urls: strings(FIELDS[1]),
            resource_names: strings(FIELDS[2]),
            resources: strings(FIELDS[3]),
            verbs: strings(FIELDS[4]),
        }
    }

    /// Writes the rule object.
    pub fn to_value(&self) -> Value {
        let mut rule = json!({});
        let lists = [&self.api_groups, &self.non_resource_urls, &self.resource_names, &self.resources, &self.verbs];
        for (field, list) in FIELDS.iter().zip(lists) {
            if !list.is_empty() {
                rule[*field] = json!(list);
            }
        }
        rule
    }

    /// Whether the rule allows what is asked.
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !self.matches_verb(asked.verb) {
            return false;
        }
        if asked.resource_request {
            self.matches_group(asked.api_group)
                && self.matches_resource(&asked.combined_resource(), asked.subresource)
                && self.matches_name(asked.name)
        } else {
            self.matches_url(asked.path)
        }
    }

    /// The verb alone.
    pub fn matches_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == "*" || v == verb)
    }

    /// The API group alone.
    pub fn matches_group(&self, group: &str) -> bool {
        self.api_groups.iter().any(|g| g == "*" || g == group)
    }

    /// The resource alone.
    pub fn matches_resource(&self, combined: &str, subresource: &str) -> bool {
        self.resources.iter().any(|rule| {
            rule == "*" || rule == combined || (!subresource.is_empty() && rule.strip_prefix("*/") == Some(subresource))
        })
    }

    /// The name alone.
    pub fn matches_name(&self, name: &str) -> bool {
        self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == name)
    }

    /// The path alone.
    pub fn matches_url(&self, path: &str) -> bool {
        self.non_resource_urls.iter().any(|rule| {
            rule == "*"
                || rule == path
                || rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
        })
    }
}

impl fmt::Display for Rule {
    /// Upstream's compact form, as in escalation errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["APIGroups", "Resources", "NonResourceURLs", "ResourceNames", "Verbs"];
        let lists = [&self.api_groups, &self.resources, &self.non_resource_urls, &self.resource_names, &self.verbs];
        let mut separator = "{";
        for (name, list) in names.iter().zip(lists).filter(|(_, list)| !list.is_empty()) {
            write!(f, "{separator}{name}:{list:?}")?;
            separator = ", ";
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::User;

    fn rule(groups: &str, resources: &str, verbs: &str) -> Rule {
        let split = |s: &str| s.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let api_groups = if groups.is_empty() { vec![String::new()] } else { split(groups) };
        Rule { api_groups, resources: split(resources), verbs: split(verbs), ..Rule::default() }
    }

    #[test]
    fn resources_and_subresources_match_separately() {
        let user = User::default();
        let pods = Attributes::of_resource(&user, "get", "", "pods", "", "");
        let log = Attributes { subresource: "log", ..pods };
        let table = [
            (rule("", "pods", "get"), true, false),
            (rule("", "pods/log", "get"), false, true),
            (rule("", "*/log", "get"), false, true),
            (rule("", "*", "*"), true, true),
            (rule("apps", "pods", "get"), false, false),
            (rule("*", "pods", "list"), false, false),
        ];
        for (rule, on_pods, on_log) in table {
            assert_eq!((rule.allows(&pods), rule.allows(&log)), (on_pods, on_log), "{rule}");
        }
    }

    #[test]
    fn urls_match_by_prefix() {
        let rule = Rule {
            non_resource_urls: vec!["/api/*".into(), "/version".into()],
            verbs: vec!["get".into()],
            ..Rule::default()
        };
        assert!(rule.matches_url("/api/v1") && rule.matches_url("/version") && !rule.matches_url("/versions"));
        assert_eq!(rule.to_string(), r#"{NonResourceURLs:["/api/*", "/version"], Verbs:["get"]}"#);
        assert_eq!(Rule::from_value(&rule.to_value()), rule);
    }
}
