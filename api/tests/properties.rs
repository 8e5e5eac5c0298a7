//! What comes from outside is decoded or refused, never a panic.
#![allow(clippy::unwrap_used, reason = "a test: clippy exempts only functions marked as such")]

use proptest::prelude::*;
use serde_json::{Value, json};
use xebec_api::{GroupVersionKind, codec};

fn kinds() -> Vec<GroupVersionKind> {
    [
        ("", "Pod"),
        ("apps", "Deployment"),
        ("", "Secret"),
        ("", "WatchEvent"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("coordination.k8s.io", "Lease"),
        ("authorization.k8s.io", "SubjectAccessReview"),
        ("discovery.k8s.io", "EndpointSlice"),
    ]
    .map(|(group, kind)| GroupVersionKind::new(group, "v1", kind))
    .into()
}

fn pod() -> Vec<u8> {
    let gvk = GroupVersionKind::new("", "v1", "Pod");
    let value = json!({"metadata": {"name": "a", "labels": {"a": "b"}, "creationTimestamp": "2024-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m"}}, "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"port": "http"}}}], "volumes": [{"name": "v", "emptyDir": {}}]}});
    codec::encode_envelope(&gvk, &codec::decode_value(&gvk, &value).unwrap().value).unwrap()
}

/// Any JSON, with names that kinds have.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9:TZ.%=-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        let name = prop::sample::select(vec![
            "metadata",
            "spec",
            "template",
            "containers",
            "name",
            "labels",
            "data",
            "ports",
            "containerPort",
            "resources",
            "limits",
            "cpu",
            "replicas",
            "creationTimestamp",
            "managedFields",
            "fieldsV1",
            "versions",
            "schema",
            "openAPIV3Schema",
            "properties",
            "items",
            "additionalProperties",
            "x",
            "renewTime",
            "extra",
            "endpoints",
            "httpGet",
            "port",
            "object",
            "default",
            "maxUnavailable",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
        for gvk in kinds() {
            codec::decode_protobuf(&gvk, &bytes).ok();
            codec::decode_json(&gvk, &bytes).ok();
        }
        codec::decode_any(&bytes).ok();
        codec::peek_type(&bytes).ok();
        codec::set_resource_version(&bytes, 1).ok();
    }

    #[test]
    fn damaged_objects_are_decoded_or_refused(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut: prop::sample::Index) {
        let mut bytes = pod();
        for (index, value) in flips {
            let place = index.index(bytes.len());
            bytes[place] = value;
        }
        codec::decode_any(&bytes).ok();
        codec::set_resource_version(&bytes, 7).ok();
        codec::decode_any(&bytes[..cut.index(bytes.len())]).ok();
    }

    #[test]
    fn any_json_is_decoded_or_refused_and_what_is_decoded_is_stable(value in any_json()) {
        for gvk in kinds() {
            let Ok(decoded) = codec::decode_value(&gvk, &value) else { continue };
            let again = codec::decode_value(&gvk, &decoded.value).unwrap();
            prop_assert_eq!(&again.value, &decoded.value);
            // Protobuf does not tell empty lists and maps from none: one trip may lose them, no other loses more.
            let bytes = codec::encode_protobuf(&gvk, &decoded.value).unwrap();
            let back = codec::decode_protobuf(&gvk, &bytes).unwrap();
            let bytes_again = codec::encode_protobuf(&gvk, &back).unwrap();
            prop_assert_eq!(codec::decode_protobuf(&gvk, &bytes_again).unwrap(), back);
        }
    }
}

#[test]
fn deep_nesting_is_refused() {
    let mut schema = Vec::new();
    for _ in 0..2000 {
        // JSONSchemaProps.not, field 28, in itself.
        let mut outer = vec![0xe2, 0x01];
        let mut length = schema.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend_from_slice(&schema);
        schema = outer;
    }
    let wrap = |number: u8, inner: &[u8]| {
        let mut outer = vec![number << 3 | 2];
        let mut length = inner.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend_from_slice(inner);
        outer
    };
    // spec (2), versions (7), schema (4), openAPIV3Schema (1).
    let crd = wrap(2, &wrap(7, &wrap(4, &wrap(1, &schema))));
    let gvk = GroupVersionKind::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    assert_eq!(codec::decode_protobuf(&gvk, &crd), Err(codec::Error::TooDeep));
    let json = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(codec::decode_json(&gvk, json.as_bytes()).is_err());
    assert!(codec::decode_untyped(json.as_bytes()).is_err());
}

#[test]
fn mistakes_are_reported_in_upstreams_words() {
    let gvk = GroupVersionKind::new("apps", "v1", "Deployment");
    for (json, message) in [
        (
            r#"{"spec":{"replicas":"x"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (r#"[]"#, "json: cannot unmarshal array into Go value of type v1.Deployment"),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"1x"}}}]}}}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ] {
        assert_eq!(codec::decode_json(&gvk, json.as_bytes()).unwrap_err().to_string(), message);
    }
    for json in ["", "{", "{}{}", "nonsense", "\u{feff}{}"] {
        assert!(matches!(codec::decode_json(&gvk, json.as_bytes()), Err(codec::Error::Syntax(_))), "{json}");
    }
}

#[test]
fn unknown_and_duplicate_fields_are_reported_with_their_paths() {
    let gvk = GroupVersionKind::new("apps", "v1", "Deployment");
    let json = br#"{"metadata":{"labels":{"a":"1","a":"2"}},"spec":{"foo":1,"paused":true,"paused":null,"Replicas":2,
        "template":{"spec":{"containers":[{"name":"a"},{"bar":{"x":1}}]}}}}"#;
    let strict = codec::validate_fields(&gvk, json).unwrap();
    assert_eq!(
        codec::strict_decoding_message(&strict),
        "strict decoding error: duplicate field \"metadata.labels.a\", unknown field \"spec.foo\", duplicate field \"spec.paused\", \
         unknown field \"spec.Replicas\", unknown field \"spec.template.spec.containers[1].bar\""
    );
    let untyped = codec::decode_untyped(br#"{"a":{"b":1,"b":2},"c":[{"d":1,"d":1}]}"#).unwrap();
    assert_eq!(untyped.value, json!({"a": {"b": 2}, "c": [{"d": 1}]}));
    assert_eq!(
        codec::strict_decoding_message(&untyped.strict),
        "strict decoding error: duplicate field \"a.b\", duplicate field \"c[0].d\""
    );
}

#[test]
fn objects_are_normalized_as_go_prints_them() {
    let gvk = GroupVersionKind::new("", "v1", "Pod");
    let json = br#"{"metadata":{"name":"a","labels":{},"annotations":null,"creationTimestamp":null},
        "spec":{"nodeName":"","hostNetwork":false,"priority":0,"containers":[{"name":"c","args":[],"resources":{"limits":{"cpu":"1000m","memory":1024}}}]},
        "status":{"startTime":"2024-05-01T12:00:00.5+02:00"}}"#;
    let decoded = codec::decode_json(&gvk, json).unwrap();
    assert_eq!(
        decoded.value,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "spec": {"priority": 0, "containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1024"}}}]},
            "status": {"startTime": "2024-05-01T10:00:00Z"}})
    );
    let role =
        codec::decode_json(&GroupVersionKind::new("rbac.authorization.k8s.io", "v1", "Role"), b"{}").unwrap().value;
    assert_eq!(
        role,
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {}, "rules": null})
    );
}
