//! LimitRanger: a namespace's defaults and bounds for containers (kubernetes `plugin/pkg/admission/limitranger`).

use std::sync::Arc;

use serde_json::Value;
use xebec_api::{Quantity, Status, meta};

use super::{Request, Snapshot};

fn container_limits(snapshot: &dyn Snapshot, request: &Request<'_>) -> Vec<Value> {
    let ranges: Vec<Arc<Value>> = snapshot.list("", "limitranges", request.namespace);
    let items = ranges.iter().flat_map(|range| meta::list_at(range, &["spec", "limits"]).to_vec());
    items.filter(|item| meta::str_at(item, &["type"]) == "Container").collect()
}

pub(super) fn default_limits(snapshot: &dyn Snapshot, request: &Request<'_>, pod: &mut Value) {
    if !request.creates("", "pods") {
        return;
    }
    for item in container_limits(snapshot, request) {
        for list in ["initContainers", "containers"] {
            let containers = meta::get_mut(pod, &["spec", list]).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                for (source, target) in [("default", "limits"), ("defaultRequest", "requests")] {
                    for (name, quantity) in item.get(source).and_then(Value::as_object).into_iter().flatten() {
                        if meta::get(container, &["resources", target, name]).is_none() {
                            meta::set(container, &["resources", target, name], quantity.clone());
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn check_limits(snapshot: &dyn Snapshot, request: &Request<'_>, pod: &Value) -> Result<(), Status> {
    if !request.creates("", "pods") {
        return Ok(());
    }
    let mut problems = Vec::new();
    for item in container_limits(snapshot, request) {
        for container in ["initContainers", "containers"].iter().flat_map(|list| meta::list_at(pod, &["spec", list])) {
            problems.extend(violations(&item, container));
        }
    }
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(request.forbidden(one)),
        many => Err(request.forbidden(format!("[{}]", many.join(", ")))),
    }
}

fn parse(value: &Value) -> Option<Quantity> {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned).parse().ok()
}

fn violations(item: &Value, container: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for (bound, word, field, which) in
        [("min", "minimum", "requests", "request"), ("max", "maximum", "limits", "limit")]
    {
        for (name, limit) in item.get(bound).and_then(Value::as_object).into_iter().flatten() {
            let own = meta::get(container, &["resources", field, name]).unwrap_or(&Value::Null);
            match (parse(own), parse(limit)) {
                (None, _) => {
                    problems.push(format!(
                        "{word} {name} usage per Container is {}.  No {which} is specified",
                        shown(limit)
                    ));
                }
                (Some(used), Some(limit_quantity)) => {
                    let broken = if bound == "min" { used < limit_quantity } else { used > limit_quantity };
                    if broken {
                        problems.push(format!(
                            "{word} {name} usage per Container is {}, but {which} is {}",
                            shown(limit),
                            shown(own)
                        ));
                    }
                }
                (Some(_), None) => {}
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::test_world::World;
    use super::*;
    use crate::context::{User, test_context};
    use serde_json::json;
    use xebec_api::GroupResource;

    fn range() -> Value {
        json!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}}]}})
    }

    #[test]
    fn containers_get_defaults_and_bounds() {
        let world = World::default().with("/limitranges/ns/l", range());
        let (ctx, resource) = (test_context(User::default()), GroupResource::new("", "pods"));
        let request = Request {
            operation: Operation::Create,
            resource: &resource,
            subresource: "",
            namespace: "ns",
            name: "p",
            old: None,
            ctx: &ctx,
        };
        let mut pod = json!({"spec": {"containers": [{"name": "c"}]}});
        default_limits(&world, &request, &mut pod);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}})
        );
        assert_eq!(check_limits(&world, &request, &pod), Ok(()));
        pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("2");
        let refused = check_limits(&world, &request, &pod).expect_err("too much");
        assert_eq!(refused.message, "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2");
    }
}
