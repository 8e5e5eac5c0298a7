//! Every object of the Kubernetes API with every field set, as upstream encodes it, through our codec.
#![allow(clippy::unwrap_used, reason = "a test: clippy exempts only functions marked as such")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xebec_api::GroupVersionKind;
use xebec_api::codec;

/// Kinds whose `after_roundtrip` only types of a later release write: two have gained fields, one a field's default.
const GAINED: [&str; 3] = [".CSINode", ".ListOptions", ".PodCertificateRequest"];

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/oracles/kubernetes-api-testdata")
}

/// One object as JSON and as protobuf.
#[derive(Default)]
struct Fixture {
    json: Vec<u8>,
    pb: Vec<u8>,
}

fn fixtures() -> BTreeMap<String, Fixture> {
    let mut fixtures: BTreeMap<String, Fixture> = BTreeMap::new();
    for entry in std::fs::read_dir(testdata()).expect("the oracles stand beside the checkout") {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let (stem, extension) = name.rsplit_once('.').unwrap();
        // `X.after_roundtrip` is what the types of a later release make of `X`. They have lost `workloadRef`: what is left
        // is an object like any other.
        let later =
            stem.strip_suffix(".after_roundtrip").is_some_and(|name| GAINED.iter().any(|kind| name.ends_with(kind)));
        if extension == "yaml" || later {
            continue;
        }
        let fixture = fixtures.entry(stem.to_owned()).or_default();
        let bytes = std::fs::read(&path).unwrap();
        match extension {
            "json" => fixture.json = bytes,
            "pb" => fixture.pb = bytes,
            _ => panic!("unexpected file {name}"),
        }
    }
    fixtures
}

/// From the file's name: a WatchEvent does not say what it is.
fn gvk(stem: &str) -> GroupVersionKind {
    let (rest, kind) = stem.strip_suffix(".after_roundtrip").unwrap_or(stem).rsplit_once('.').unwrap();
    let (group, version) = rest.rsplit_once('.').unwrap();
    GroupVersionKind::new(if group == "core" { "" } else { group }, version, kind)
}

fn difference(ours: &Value, theirs: &Value, path: &str, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let missing = Value::from("<absent>");
                difference(
                    a.get(key).unwrap_or(&missing),
                    b.get(key).unwrap_or(&missing),
                    &format!("{path}.{key}"),
                    out,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                difference(a, b, &format!("{path}[{index}]"), out);
            }
        }
        _ if ours != theirs => out.push(format!("{path}: ours {ours}, upstream {theirs}")),
        _ => {}
    }
}

/// Collects failures over all fixtures, so that one look shows them all.
fn check_all(check: impl Fn(&Fixture, &GroupVersionKind, &Value) -> Vec<String>) {
    let fixtures = fixtures();
    assert!(fixtures.len() > 190, "only {} fixtures found", fixtures.len());
    let mut failures = Vec::new();
    for (name, fixture) in &fixtures {
        let json: Value = serde_json::from_slice(&fixture.json).unwrap();
        failures.extend(check(fixture, &gvk(name), &json).into_iter().map(|failure| format!("{name}: {failure}")));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn json_decodes_to_what_upstream_prints() {
    check_all(|fixture, gvk, expected| match codec::decode_json(gvk, &fixture.json) {
        Ok(decoded) => {
            let mut out = Vec::new();
            difference(&decoded.value, expected, "", &mut out);
            out.extend(decoded.strict.iter().map(ToString::to_string));
            out
        }
        Err(error) => vec![error.to_string()],
    });
}

#[test]
fn protobuf_decodes_to_the_same_objects_as_json() {
    check_all(|fixture, gvk, expected| {
        let raw = codec::decode_envelope(&fixture.pb).unwrap().raw;
        match codec::decode_protobuf(gvk, raw) {
            Ok(value) => {
                let mut out = Vec::new();
                difference(&value, expected, "", &mut out);
                out
            }
            Err(error) => vec![error.to_string()],
        }
    });
}

#[test]
fn objects_encode_to_upstreams_bytes() {
    let nameless = GroupVersionKind::default();
    check_all(|fixture, gvk, _| {
        let expected = &fixture.pb;
        // The envelope of a WatchEvent does not name it.
        let named = GroupVersionKind { kind: codec::decode_envelope(expected).unwrap().kind.to_owned(), ..gvk.clone() };
        let encoded = codec::decode_json(gvk, &fixture.json)
            .and_then(|decoded| codec::encode_protobuf(gvk, &decoded.value))
            .map(|raw| codec::wrap(if named.kind.is_empty() { &nameless } else { &named }, &raw));
        match encoded {
            Ok(bytes) if bytes == *expected => vec![],
            Ok(bytes) => {
                let at =
                    bytes.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(bytes.len().min(expected.len()));
                let around = |bytes: &[u8]| {
                    String::from_utf8_lossy(&bytes[at.saturating_sub(24)..bytes.len().min(at + 24)]).into_owned()
                };
                vec![format!("differs at byte {at}: ours {:?}, upstream {:?}", around(&bytes), around(expected))]
            }
            Err(error) => vec![error.to_string()],
        }
    });
}

#[test]
fn objects_survive_any_number_of_round_trips() {
    check_all(|fixture, gvk, _| {
        let mut out = Vec::new();
        let first = codec::decode_protobuf(gvk, codec::decode_envelope(&fixture.pb).unwrap().raw).unwrap();
        let bytes = codec::encode_protobuf(gvk, &first).unwrap();
        difference(&codec::decode_protobuf(gvk, &bytes).unwrap(), &first, "", &mut out);
        difference(&codec::decode_value(gvk, &first).unwrap().value, &first, "", &mut out);
        out
    });
}
