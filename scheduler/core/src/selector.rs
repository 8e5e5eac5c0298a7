//! Label selectors and node selectors, compiled once per use.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

/// Labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// One condition on a label (or, for nodes, a field).
#[derive(Clone, Debug, PartialEq)]
enum Condition {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
    /// Not understood, or malformed: never met.
    Never,
}

impl Condition {
    fn new(operator: &str, values: Option<&Vec<String>>) -> Self {
        let values = values.cloned().unwrap_or_default();
        let number = || values.first().and_then(|value| value.parse().ok());
        match operator {
            "In" => Self::In(values),
            "NotIn" => Self::NotIn(values),
            "Exists" => Self::Exists,
            "DoesNotExist" => Self::DoesNotExist,
            "Gt" => number().map_or(Self::Never, Self::Gt),
            "Lt" => number().map_or(Self::Never, Self::Lt),
            _ => Self::Never,
        }
    }

    fn met(&self, value: Option<&String>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(values) => value.is_some_and(|value| values.contains(value)),
            Self::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::Gt(bound) => number().is_some_and(|value| value > *bound),
            Self::Lt(bound) => number().is_some_and(|value| value < *bound),
            Self::Never => false,
        }
    }
}

/// Conditions that must all be met.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector(Vec<(String, Condition)>);

impl Selector {
    /// From a label selector; an absent one matches nothing, an empty one everything (`LabelSelectorAsSelector`).
    pub(crate) fn from_labels(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else { return Self(vec![(String::new(), Condition::Never)]) };
        let mut compiled = Self::default();
        for (key, value) in selector.match_labels.iter().flatten() {
            compiled.require(key, value);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let condition = Condition::new(&expression.operator, expression.values.as_ref());
            compiled.0.push((expression.key.clone(), condition));
        }
        compiled
    }

    /// Adds `key=value`.
    pub(crate) fn require(&mut self, key: &str, value: &str) {
        self.0.push((key.to_owned(), Condition::In(vec![value.to_owned()])));
    }

    /// Adds `key!=value`, the key being present.
    pub(crate) fn forbid(&mut self, key: &str, value: &str) {
        self.0.push((key.to_owned(), Condition::NotIn(vec![value.to_owned()])));
    }

    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(key, condition)| condition.met(labels.get(key)))
    }
}

/// Whether a term of a node selector accepts a node; an empty term accepts none (`nodeaffinity.NewNodeSelector`).
pub(crate) fn term_accepts(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let empty = |list: &Option<Vec<NodeSelectorRequirement>>| list.as_ref().is_none_or(Vec::is_empty);
    if empty(&term.match_expressions) && empty(&term.match_fields) {
        return false;
    }
    let name = name.to_owned();
    let field = |key: &str| (key == "metadata.name").then_some(&name);
    let met = |requirement: &NodeSelectorRequirement, value: Option<&String>| {
        Condition::new(&requirement.operator, requirement.values.as_ref()).met(value)
    };
    term.match_expressions.iter().flatten().all(|requirement| met(requirement, labels.get(&requirement.key)))
        && term.match_fields.iter().flatten().all(|requirement| met(requirement, field(&requirement.key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(operator: &str, values: &[&str]) -> NodeSelectorTerm {
        serde_json::from_value(serde_json::json!({
            "matchExpressions": [{"key": "k", "operator": operator, "values": values}],
        }))
        .unwrap()
    }

    #[test]
    fn every_operator_has_upstreams_meaning_for_present_and_absent_labels() {
        let labels: Labels = [("k".to_owned(), "5".to_owned())].into();
        let none = Labels::new();
        for (operator, values, present, absent) in [
            ("In", &["5", "6"][..], true, false),
            ("In", &["6"], false, false),
            ("NotIn", &["6"], true, true),
            ("NotIn", &["5"], false, true),
            ("Exists", &[], true, false),
            ("DoesNotExist", &[], false, true),
            ("Gt", &["4"], true, false),
            ("Gt", &["5"], false, false),
            ("Lt", &["6"], true, false),
            ("Lt", &["x"], false, false),
            ("Near", &["5"], false, false),
        ] {
            let term = term(operator, values);
            assert_eq!(
                (term_accepts(&term, "n", &labels), term_accepts(&term, "n", &none)),
                (present, absent),
                "{operator} {values:?}"
            );
        }
        assert!(!term_accepts(&NodeSelectorTerm::default(), "n", &labels), "an empty term accepts nothing");
    }

    #[test]
    fn absent_label_selectors_match_nothing_and_empty_ones_everything() {
        assert!(!Selector::from_labels(None).matches(&Labels::new()));
        assert!(Selector::from_labels(Some(&LabelSelector::default())).matches(&Labels::new()));
    }
}
