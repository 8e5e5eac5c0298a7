use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

type Labels = BTreeMap<String, String>;

/// Whether `selector` selects nothing in particular, which workloads are refused for.
#[must_use]
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether `labels` satisfy `selector`. An unknown operator selects nothing.
#[must_use]
pub fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    selector.match_labels.iter().flatten().all(|(key, want)| value(key) == Some(want))
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let have = value(&requirement.key);
            let listed = || have.is_some_and(|have| requirement.values.iter().flatten().any(|v| v == have));
            match requirement.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => have.is_some(),
                "DoesNotExist" => have.is_none(),
                _ => false,
            }
        })
}

/// Whether `labels` contain every pair of an equality selector, as Services have.
#[must_use]
pub fn contains(selector: &Labels, labels: Option<&Labels>) -> bool {
    selector.iter().all(|(key, want)| labels.and_then(|labels| labels.get(key)) == Some(want))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    use super::*;

    #[test]
    fn operators_follow_the_api() {
        let labels: Labels = [("app".to_owned(), "web".to_owned())].into();
        let select = |key: &str, operator: &str, values: &[&str]| LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
            }]),
            ..LabelSelector::default()
        };
        for (selector, want) in [
            (select("app", "In", &["web", "db"]), true),
            (select("app", "NotIn", &["web"]), false),
            (select("tier", "NotIn", &["web"]), true),
            (select("tier", "Exists", &[]), false),
            (select("tier", "DoesNotExist", &[]), true),
            (select("app", "Near", &["web"]), false),
        ] {
            assert_eq!(matches(&selector, Some(&labels)), want, "{selector:?}");
        }
        assert!(matches(&LabelSelector::default(), None));
    }
}
