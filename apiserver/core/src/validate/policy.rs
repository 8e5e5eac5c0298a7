//! Scaling, disruption, admission policies and webhooks, flow control, runtime classes, devices, and what extends the
//! API itself: the rules that every object of these kinds has to keep (kubernetes `pkg/apis/*/validation`).

use serde_json::Value;
use xebec_api::field::{Error, Path};
use xebec_api::{IntOrString, meta, name_rules};

use super::pod::template;
use super::{one_of, problems, require};

/// Highest precedence of a FlowSchema (flowcontrol `FlowSchemaMaxMatchingPrecedence`).
const PRECEDENCE_MAX: i64 = 10_000;

/// A HorizontalPodAutoscaler of either version.
pub fn horizontal_pod_autoscaler(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = Vec::new();
    let least = meta::i64_at(spec, &["minReplicas"]);
    if let Some(least) = least.filter(|least| *least < 1) {
        errors.push(Error::invalid(&path.child("minReplicas"), least, "must be greater than or equal to 1"));
    }
    let most = meta::i64_at(spec, &["maxReplicas"]).unwrap_or(0);
    if most < 1 {
        errors.push(Error::invalid(&path.child("maxReplicas"), most, "must be greater than 0"));
    }
    if least.is_some_and(|least| least > most) {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(Error::invalid(&path.child("maxReplicas"), most, why));
    }
    errors.extend(require(&spec["scaleTargetRef"], &["kind", "name"], &path.child("scaleTargetRef")));
    errors
}

/// A PodDisruptionBudget says one number, or none.
pub fn pod_disruption_budget(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let set = |key: &str| spec.get(key).filter(|value| !value.is_null());
    if set("minAvailable").is_some() && set("maxUnavailable").is_some() {
        let why = "minAvailable and maxUnavailable cannot be both set";
        return vec![Error::invalid(&path, spec.clone(), why)];
    }
    let mut errors = Vec::new();
    for key in ["minAvailable", "maxUnavailable"] {
        let Some(value) = set(key) else { continue };
        let why = match IntOrString::from_value(value).map(|parsed| parsed.scaled(100, true)) {
            Some(Some(number)) if number < 0 => "must be greater than or equal to 0",
            Some(Some(number)) if number > 100 && value.is_string() => "must not be greater than 100%",
            Some(Some(_)) => continue,
            _ => "must be an integer or percentage (e.g '5%')",
        };
        errors.push(Error::invalid(&path.child(key), value.clone(), why));
    }
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    errors.extend(one_of(spec, "unhealthyPodEvictionPolicy", &policies, &path));
    errors
}

/// Webhook configurations, admission policies and their bindings.
pub fn admission(object: &Value) -> Vec<Error> {
    match meta::kind(object) {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => webhooks(object),
        "ValidatingAdmissionPolicy" => admission_policy(object, "validations"),
        "MutatingAdmissionPolicy" => admission_policy(object, "mutations"),
        "ValidatingAdmissionPolicyBinding" => {
            let mut errors = require(&object["spec"], &["policyName"], &Path::new("spec"));
            let path = Path::new("spec.validationActions");
            let actions = meta::list_at(object, &["spec", "validationActions"]);
            if actions.is_empty() {
                errors.push(Error::required(&path, "at least one validation action is required"));
            }
            let known = ["Audit", "Deny", "Warn"];
            let unknown = actions.iter().filter(|action| !action.as_str().is_some_and(|a| known.contains(&a)));
            errors.extend(unknown.map(|action| Error::not_supported(&path, action.clone(), &known)));
            errors
        }
        _ => require(&object["spec"], &["policyName"], &Path::new("spec")),
    }
}

fn admission_policy(object: &Value, rules: &str) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = one_of(spec, "failurePolicy", &["Fail", "Ignore"], &path);
    if !spec.get("matchConstraints").is_some_and(Value::is_object) {
        errors.push(Error::required(&path.child("matchConstraints"), ""));
    } else if meta::list_at(spec, &["matchConstraints", "resourceRules"]).is_empty() {
        errors.push(Error::required(&path.child("matchConstraints").child("resourceRules"), ""));
    }
    let some = !meta::list_at(spec, &[rules]).is_empty() || !meta::list_at(spec, &["auditAnnotations"]).is_empty();
    if rules == "validations" && !some {
        let why = "validations or auditAnnotations must be non-empty; at least one of them is required";
        errors.push(Error::required(&path.child(rules), why));
    } else if !some {
        errors.push(Error::required(&path.child(rules), "mutations must contain at least one item"));
    }
    for (i, rule) in meta::list_at(spec, &["validations"]).iter().enumerate() {
        if meta::str_at(rule, &["expression"]).trim().is_empty() {
            let path = path.child("validations").index(i).child("expression");
            errors.push(Error::required(&path, "expression is not specified"));
        }
    }
    errors
}

fn webhooks(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut names = std::collections::HashSet::new();
    for (i, hook) in meta::list_at(object, &["webhooks"]).iter().enumerate() {
        let path = Path::new("webhooks").index(i);
        let name = meta::str_at(hook, &["name"]);
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else if name.matches('.').count() < 2 {
            let why = "should be a domain with at least three segments separated by dots";
            errors.push(Error::invalid(&path.child("name"), name, why));
        }
        if !names.insert(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        if meta::list_at(hook, &["admissionReviewVersions"]).is_empty() {
            let why = "must specify one of v1, v1beta1";
            errors.push(Error::required(&path.child("admissionReviewVersions"), why));
        }
        let effects = ["None", "NoneOnDryRun"];
        if meta::str_at(hook, &["sideEffects"]).is_empty() {
            errors.push(Error::required(&path.child("sideEffects"), "must specify one of None, NoneOnDryRun"));
        }
        errors.extend(one_of(hook, "sideEffects", &effects, &path));
        errors.extend(one_of(hook, "failurePolicy", &["Fail", "Ignore"], &path));
        errors.extend(one_of(hook, "matchPolicy", &["Equivalent", "Exact"], &path));
        let has = |key: &str| hook["clientConfig"].get(key).is_some_and(|value| !value.is_null());
        if has("url") == has("service") {
            errors.push(Error::required(&path.child("clientConfig"), "exactly one of url or service is required"));
        }
    }
    errors
}

/// A FlowSchema.
pub fn flow_schema(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let reference = "priorityLevelConfiguration";
    let mut errors = require(&spec[reference], &["name"], &path.child(reference));
    let precedence = meta::i64_at(spec, &["matchingPrecedence"]).unwrap_or(0);
    if !(1..=PRECEDENCE_MAX).contains(&precedence) {
        let why = format!("must be between 1 and {PRECEDENCE_MAX}, inclusive");
        errors.push(Error::invalid(&path.child("matchingPrecedence"), precedence, why));
    }
    let method = &spec["distinguisherMethod"];
    errors.extend(one_of(method, "type", &["ByNamespace", "ByUser"], &path.child("distinguisherMethod")));
    errors
}

/// A PriorityLevelConfiguration has the settings of its type, and of no other.
pub fn priority_level(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let has = |key: &str| spec.get(key).is_some_and(|value| !value.is_null());
    match meta::str_at(spec, &["type"]) {
        "Limited" if !has("limited") => {
            vec![Error::required(&path.child("limited"), "must not be empty when type is Limited")]
        }
        "Exempt" if has("limited") => {
            vec![Error::forbidden(&path.child("limited"), "must be nil if the type is not Limited")]
        }
        "Limited" | "Exempt" => Vec::new(),
        other => vec![Error::not_supported(&path.child("type"), other, &["Exempt", "Limited"])],
    }
}

/// A RuntimeClass names a handler.
pub fn runtime_class(object: &Value) -> Vec<Error> {
    let handler = meta::str_at(object, &["handler"]);
    problems(&Path::new("handler"), handler, name_rules::dns_label(handler))
}

/// A PodTemplate.
pub fn pod_template(object: &Value) -> Vec<Error> {
    template(&object["template"], &Path::new("template"), &["Always", "Never", "OnFailure"])
}

/// A ControllerRevision.
pub fn controller_revision(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    if object.get("data").is_none_or(Value::is_null) {
        errors.push(Error::required(&Path::new("data"), "data is mandatory"));
    }
    errors.extend(super::non_negative(object, "revision", &Path::root()));
    errors
}

/// A ResourceSlice belongs to a driver's pool, and says where its devices are.
pub fn resource_slice(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = require(spec, &["driver"], &path);
    errors.extend(require(&spec["pool"], &["name"], &path.child("pool")));
    let count = meta::i64_at(spec, &["pool", "resourceSliceCount"]).unwrap_or(0);
    if count <= 0 {
        let path = path.child("pool").child("resourceSliceCount");
        errors.push(Error::invalid(&path, count, "must be greater than zero"));
    }
    let set = |key: &&&str| {
        spec.get(**key).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)) && value != "")
    };
    let places = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"].iter().filter(set).count();
    if places != 1 {
        let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
        errors.push(Error::required(&path, why));
    }
    errors
}

/// A CustomResourceDefinition: its names, its scope, its versions.
pub fn custom_resource_definition(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = Vec::new();
    let (name, group) = (meta::name(object), meta::str_at(spec, &["group"]));
    if name != format!("{}.{group}", meta::str_at(spec, &["names", "plural"])) {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(Error::invalid(&Path::new("metadata.name"), name, why));
    }
    errors.extend(require(spec, &["group", "scope"], &path));
    errors.extend(one_of(spec, "scope", &["Cluster", "Namespaced"], &path));
    errors.extend(require(&spec["names"], &["plural", "kind"], &path.child("names")));
    let versions = meta::list_at(spec, &["versions"]);
    let stored = versions.iter().filter(|version| meta::bool_at(version, &["storage"])).count();
    if stored != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(Error::invalid(&path.child("versions"), Value::Array(versions.to_vec()), why));
    }
    errors
}

/// An APIService is named for the version it serves.
pub fn api_service(object: &Value) -> Vec<Error> {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut errors = Vec::new();
    let (version, group) = (meta::str_at(spec, &["version"]), meta::str_at(spec, &["group"]));
    let wanted = format!("{version}.{group}");
    if meta::name(object) != wanted {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.push(Error::invalid(&Path::new("metadata.name"), meta::name(object), why));
    }
    for (key, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let number = meta::i64_at(spec, &[key]).unwrap_or(0);
        if !(1..=most).contains(&number) {
            let why = format!("must be positive and less than {most}");
            errors.push(Error::invalid(&path.child(key), number, why));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(validate: fn(&Value) -> Vec<Error>, object: Value, expected: &[&str]) {
        let errors = validate(&object);
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, expected, "{object}");
    }

    #[test]
    fn autoscalers_and_budgets_need_sensible_numbers() {
        let target = json!({"kind": "Deployment", "name": "web"});
        check(horizontal_pod_autoscaler, json!({"spec": {"maxReplicas": 3, "scaleTargetRef": target}}), &[]);
        check(
            horizontal_pod_autoscaler,
            json!({"spec": {"minReplicas": 1}}),
            &["spec.maxReplicas", "spec.maxReplicas", "spec.scaleTargetRef.kind", "spec.scaleTargetRef.name"],
        );
        check(pod_disruption_budget, json!({"spec": {}}), &[]);
        check(pod_disruption_budget, json!({"spec": {"minAvailable": "50%"}}), &[]);
        check(pod_disruption_budget, json!({"spec": {"minAvailable": 1, "maxUnavailable": 1}}), &["spec"]);
        check(pod_disruption_budget, json!({"spec": {"maxUnavailable": -1}}), &["spec.maxUnavailable"]);
        check(pod_disruption_budget, json!({"spec": {"maxUnavailable": "150%"}}), &["spec.maxUnavailable"]);
    }

    #[test]
    fn policies_and_webhooks_say_what_they_do() {
        let policy = |spec: Value| json!({"kind": "ValidatingAdmissionPolicy", "spec": spec});
        check(admission, policy(json!({})), &["spec.matchConstraints", "spec.validations"]);
        let rules = json!({"resourceRules": [{"resources": ["pods"]}]});
        check(admission, policy(json!({"matchConstraints": rules, "validations": [{"expression": "true"}]})), &[]);
        let binding = json!({"kind": "ValidatingAdmissionPolicyBinding", "spec": {"validationActions": ["Shout"]}});
        check(admission, binding, &["spec.policyName", "spec.validationActions"]);
        let hooks = |hook: Value| json!({"kind": "MutatingWebhookConfiguration", "webhooks": [hook]});
        let good = json!({"name": "a.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": "https://example.com"}});
        check(admission, hooks(good), &[]);
        check(
            admission,
            hooks(json!({"name": "a"})),
            &[
                "webhooks[0].name",
                "webhooks[0].admissionReviewVersions",
                "webhooks[0].sideEffects",
                "webhooks[0].clientConfig",
            ],
        );
    }

    #[test]
    fn flow_control_and_the_smaller_kinds_are_checked() {
        let level = json!({"name": "global-default"});
        let schema = json!({"spec": {"matchingPrecedence": 1000, "priorityLevelConfiguration": level}});
        check(flow_schema, schema, &[]);
        check(flow_schema, json!({}), &["spec.priorityLevelConfiguration.name", "spec.matchingPrecedence"]);
        check(priority_level, json!({"spec": {"type": "Limited"}}), &["spec.limited"]);
        check(priority_level, json!({}), &["spec.type"]);
        check(runtime_class, json!({"handler": "runc"}), &[]);
        check(runtime_class, json!({}), &["handler"]);
        check(pod_template, json!({"template": {"spec": {}}}), &["template.spec.containers"]);
        check(controller_revision, json!({"revision": -1}), &["data", "revision"]);
        check(resource_slice, json!({}), &["spec.driver", "spec.pool.name", "spec.pool.resourceSliceCount", "spec"]);
        let pool = json!({"name": "p", "resourceSliceCount": 1});
        check(resource_slice, json!({"spec": {"driver": "d", "pool": pool, "allNodes": true}}), &[]);
    }

    #[test]
    fn extensions_of_the_api_are_named_for_what_they_serve() {
        let definition = |spec: Value| json!({"metadata": {"name": "widgets.example.com"}, "spec": spec});
        let names = json!({"plural": "widgets", "kind": "Widget"});
        let versions = json!([{"name": "v1", "served": true, "storage": true}]);
        let good = json!({"group": "example.com", "scope": "Cluster", "names": names, "versions": versions});
        check(custom_resource_definition, definition(good), &[]);
        check(
            custom_resource_definition,
            definition(json!({})),
            &["metadata.name", "spec.group", "spec.scope", "spec.names.plural", "spec.names.kind", "spec.versions"],
        );
        check(
            api_service,
            json!({"metadata": {"name": "x"}, "spec": {"version": "v1", "group": "example.com", "versionPriority": 5}}),
            &["metadata.name", "spec.groupPriorityMinimum"],
        );
    }
}
