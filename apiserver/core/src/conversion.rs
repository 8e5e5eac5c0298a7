//! Between the version of a kind that is served and the one that is stored, where they differ in more than their name.

use serde_json::{Map, Value, json};

/// What has to be done between the served and the stored form of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// Nothing: the forms are the same.
    Same,
    /// Events of events.k8s.io, stored as those of the core group (kubernetes `pkg/apis/events/v1/conversion.go`).
    Event,
    /// HorizontalPodAutoscalers of autoscaling/v1, stored as v2 (kubernetes `pkg/apis/autoscaling/v1/conversion.go`).
    AutoscalerV1,
}

/// Fields of an Event: their names in the core group, and in events.k8s.io.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// Where autoscaling/v1 carries what it has no field for: the annotation, and the field of v2 (in v2's own form).
const AUTOSCALER_ANNOTATIONS: [(&str, &str); 4] = [
    ("autoscaling.alpha.kubernetes.io/metrics", "/spec/metrics"),
    ("autoscaling.alpha.kubernetes.io/behavior", "/spec/behavior"),
    ("autoscaling.alpha.kubernetes.io/conditions", "/status/conditions"),
    ("autoscaling.alpha.kubernetes.io/current-metrics", "/status/currentMetrics"),
];

impl Conversion {
    /// The conversion of a kind as it is served, given the group and version it is stored in.
    pub fn of(served: (&str, &str, &str), stored: (&str, &str)) -> Self {
        match (served, stored) {
            (("events.k8s.io", _, "Event"), ("", _)) => Self::Event,
            (("autoscaling", "v1", "HorizontalPodAutoscaler"), ("autoscaling", "v2")) => Self::AutoscalerV1,
            _ => Self::Same,
        }
    }

    /// Turns the served form into the stored one; `apiVersion` is the caller's.
    pub fn store(self, object: &mut Value) {
        match self {
            Self::Same => {}
            Self::Event => rename(object, EVENT_FIELDS.map(|(core, events)| (events, core))),
            Self::AutoscalerV1 => store_autoscaler(object),
        }
    }

    /// Turns the stored form into the served one; `apiVersion` is the caller's.
    pub fn serve(self, object: &mut Value) {
        match self {
            Self::Same => {}
            Self::Event => rename(object, EVENT_FIELDS),
            Self::AutoscalerV1 => serve_autoscaler(object),
        }
    }
}

fn rename(object: &mut Value, names: [(&str, &str); 7]) {
    let Some(map) = object.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

fn store_autoscaler(object: &mut Value) {
    for (annotation, path) in AUTOSCALER_ANNOTATIONS {
        let text = annotations(object).and_then(|map| map.remove(annotation));
        let value = text.as_ref().and_then(Value::as_str).and_then(|text| serde_json::from_str::<Value>(text).ok());
        match (value, text) {
            (Some(value), _) => set(object, path, value),
            // What is not ours to understand stays where it was.
            (None, Some(text)) => {
                if let Some(map) = annotations(object) {
                    map.insert(annotation.to_owned(), text);
                }
            }
            (None, None) => {}
        }
    }
    drop_empty_annotations(object);
    if let Some(percent) = take(object, "/spec", "targetCPUUtilizationPercentage") {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        prepend(object, "/spec/metrics", json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    if let Some(percent) = take(object, "/status", "currentCPUUtilizationPercentage") {
        let current = json!({"averageUtilization": percent, "averageValue": "0"});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "current": current}});
        prepend(object, "/status/currentMetrics", metric);
    }
}

fn serve_autoscaler(object: &mut Value) {
    let target = "/resource/target/averageUtilization";
    if let Some(percent) = take_cpu(object, "/spec/metrics", target) {
        set(object, "/spec/targetCPUUtilizationPercentage", percent);
    }
    if let Some(percent) = take_cpu(object, "/status/currentMetrics", "/resource/current/averageUtilization") {
        set(object, "/status/currentCPUUtilizationPercentage", percent);
    }
    for (annotation, path) in AUTOSCALER_ANNOTATIONS {
        let (parent, field) = split(path);
        let Some(value) = take(object, parent, field) else { continue };
        if value.as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        set(object, "/metadata/annotations", Value::Null);
        if let Some(map) = annotations(object) {
            map.insert(annotation.to_owned(), Value::String(value.to_string()));
        }
    }
}

/// Takes the cpu utilization out of a list of metrics, if it has one.
fn take_cpu(object: &mut Value, list: &str, percent: &str) -> Option<Value> {
    let metrics = object.pointer_mut(list)?.as_array_mut()?;
    let at =
        metrics.iter().position(|metric| metric["resource"]["name"] == "cpu" && metric.pointer(percent).is_some())?;
    metrics.remove(at).pointer(percent).cloned()
}

fn annotations(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.pointer_mut("/metadata/annotations")?.as_object_mut()
}

fn drop_empty_annotations(object: &mut Value) {
    if annotations(object).is_some_and(|map| map.is_empty()) {
        take(object, "/metadata", "annotations");
    }
}

fn take(object: &mut Value, parent: &str, field: &str) -> Option<Value> {
    object.pointer_mut(parent)?.as_object_mut()?.remove(field)
}

/// Sets a field, making its parent; null only makes sure that an object is there.
fn set(object: &mut Value, path: &str, value: Value) {
    let (parent, field) = split(path);
    let Some(root) = object.as_object_mut() else { return };
    let parent = root.entry(parent.trim_start_matches('/')).or_insert_with(|| json!({}));
    if let Some(map) = parent.as_object_mut() {
        if value.is_null() {
            map.entry(field).or_insert_with(|| json!({}));
        } else {
            map.insert(field.to_owned(), value);
        }
    }
}

fn prepend(object: &mut Value, path: &str, value: Value) {
    match object.pointer_mut(path).and_then(Value::as_array_mut) {
        Some(list) => list.insert(0, value),
        None => set(object, path, json!([value])),
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Conversion;

    #[test]
    fn an_autoscaler_keeps_its_cpu_target_in_both_versions() {
        let served =
            json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 5, "targetCPUUtilizationPercentage": 80}});
        let mut object = served.clone();
        Conversion::AutoscalerV1.store(&mut object);
        assert_eq!(
            object["spec"]["metrics"],
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}])
        );
        assert!(object["spec"].get("targetCPUUtilizationPercentage").is_none());
        Conversion::AutoscalerV1.serve(&mut object);
        assert_eq!(object, served);
    }

    #[test]
    fn what_v1_cannot_say_survives_a_round_trip_through_it() {
        let stored = json!({
            "metadata": {"name": "a"},
            "spec": {"maxReplicas": 5, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 3}},
                "metrics": [{"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}}]},
            "status": {"desiredReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}]},
        });
        let mut object = stored.clone();
        Conversion::AutoscalerV1.serve(&mut object);
        assert!(object["spec"].get("metrics").is_none() && object["spec"].get("behavior").is_none(), "{object}");
        Conversion::AutoscalerV1.store(&mut object);
        assert_eq!(object, stored);
    }

    #[test]
    fn events_change_their_fields_names_and_back() {
        let served = json!({"regarding": {"kind": "Pod"}, "note": "hello"});
        let mut object = served.clone();
        Conversion::Event.store(&mut object);
        assert_eq!(object, json!({"involvedObject": {"kind": "Pod"}, "message": "hello"}));
        Conversion::Event.serve(&mut object);
        assert_eq!(object, served);
    }

    #[test]
    fn only_kinds_whose_forms_differ_are_converted() {
        let of = |served, stored| Conversion::of(served, stored);
        assert_eq!(
            of(("autoscaling", "v1", "HorizontalPodAutoscaler"), ("autoscaling", "v2")),
            Conversion::AutoscalerV1
        );
        assert_eq!(of(("autoscaling", "v2", "HorizontalPodAutoscaler"), ("autoscaling", "v2")), Conversion::Same);
        assert_eq!(of(("events.k8s.io", "v1", "Event"), ("", "v1")), Conversion::Event);
        assert_eq!(of(("", "v1", "Pod"), ("", "v1")), Conversion::Same);
    }
}
