//! ConfigMaps and Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use xebec_api::field::{Error, Path};
use xebec_api::meta;

/// Most bytes of data in one ConfigMap or Secret.
const DATA_BYTES_MAX: usize = 1024 * 1024;
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 253;

fn key_errors(key: &str, path: &Path) -> Vec<Error> {
    let path = path.key(key);
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        let detail = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  \
                      or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
        return vec![Error::invalid(&path, key, detail)];
    }
    if key.len() > KEY_BYTES_MAX {
        return vec![Error::invalid(&path, key, format!("must be no more than {KEY_BYTES_MAX} bytes"))];
    }
    match key {
        "." => vec![Error::invalid(&path, key, "must not be '.'")],
        ".." => vec![Error::invalid(&path, key, "must not be '..'")],
        _ if key.starts_with("..") => vec![Error::invalid(&path, key, "must not start with '..'")],
        _ => Vec::new(),
    }
}

fn map<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    object.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// A ConfigMap.
pub fn config_map(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in map(object, "data") {
        errors.extend(key_errors(key, &Path::new("data")));
        if object.get("binaryData").and_then(|b| b.get(key)).is_some() {
            errors.push(Error::invalid(
                &Path::new("data").key(key),
                key.as_str(),
                "duplicate of key present in binaryData",
            ));
        }
        bytes += value.as_str().map_or(0, str::len);
    }
    for (key, value) in map(object, "binaryData") {
        errors.extend(key_errors(key, &Path::new("binaryData")));
        bytes += decoded_bytes(value);
    }
    if bytes > DATA_BYTES_MAX {
        errors.push(Error::too_long(&Path::root(), DATA_BYTES_MAX));
    }
    errors
}

/// An immutable ConfigMap stays as it is.
pub fn config_map_update(new: &Value, old: &Value) -> Vec<Error> {
    frozen(new, old, &["data", "binaryData"])
}

fn frozen(new: &Value, old: &Value, fields: &[&str]) -> Vec<Error> {
    if !meta::bool_at(old, &["immutable"]) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if !meta::bool_at(new, &["immutable"]) {
        errors.push(Error::forbidden(&Path::new("immutable"), "field is immutable when `immutable` is set"));
    }
    let changed = fields.iter().filter(|field| new.get(**field) != old.get(**field));
    errors.extend(
        changed.map(|field| Error::forbidden(&Path::new(*field), "field is immutable when `immutable` is set")),
    );
    errors
}

fn decoded_bytes(value: &Value) -> usize {
    value.as_str().map_or(0, |text| text.len() / 4 * 3)
}

/// A Secret: its type demands keys.
pub fn secret(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = Path::new("data");
    let mut bytes = 0;
    for (key, value) in map(object, "data") {
        errors.extend(key_errors(key, &path));
        bytes += decoded_bytes(value);
    }
    if bytes > DATA_BYTES_MAX {
        errors.push(Error::too_long(&path, DATA_BYTES_MAX));
    }
    let has = |key: &str| meta::get(object, &["data", key]).is_some();
    match meta::str_at(object, &["type"]) {
        "kubernetes.io/service-account-token"
            if meta::annotation(object, "kubernetes.io/service-account.name").unwrap_or("").is_empty() =>
        {
            let path = Path::new("metadata.annotations").key("kubernetes.io/service-account.name");
            errors.push(Error::required(&path, ""));
        }
        "kubernetes.io/dockerconfigjson" => errors.extend(json_key(object, ".dockerconfigjson")),
        "kubernetes.io/dockercfg" => errors.extend(json_key(object, ".dockercfg")),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.push(Error::required(&path.key("username"), ""));
            errors.push(Error::required(&path.key("password"), ""));
        }
        "kubernetes.io/ssh-auth" if !has("ssh-privatekey") => {
            errors.push(Error::required(&path.key("ssh-privatekey"), ""))
        }
        "kubernetes.io/tls" => {
            let missing = ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key));
            errors.extend(missing.map(|key| Error::required(&path.key(key), "")));
        }
        _ => {}
    }
    errors
}

fn json_key(object: &Value, key: &str) -> Vec<Error> {
    let path = Path::new("data").key(key);
    let Some(text) = meta::get(object, &["data", key]).and_then(Value::as_str) else {
        return vec![Error::required(&path, "")];
    };
    let parses = STANDARD
        .decode(text)
        .ok()
        .is_some_and(|bytes| serde_json::from_slice::<Value>(&bytes).is_ok_and(|v| v.is_object()));
    // The value stays out of the message: it is a credential.
    if parses {
        Vec::new()
    } else {
        vec![Error::invalid(&path, "<secret contents redacted>", "invalid character in JSON")]
    }
}

/// A Secret's type never changes, and an immutable one stays as it is.
pub fn secret_update(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = super::immutable(new, old, &["type"]);
    errors.extend(frozen(new, old, &["data"]));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_types_and_sizes_are_checked() {
        assert!(config_map(&json!({"data": {"a.b": "x"}})).is_empty());
        assert_eq!(config_map(&json!({"data": {"a b": "x", "..x": ""}})).len(), 2);
        assert_eq!(config_map(&json!({"data": {"a": "x".repeat(DATA_BYTES_MAX + 1)}})).len(), 1);
        assert_eq!(secret(&json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}})).len(), 1);
        assert_eq!(
            secret(&json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="}})),
            vec![]
        );
    }

    #[test]
    fn immutable_means_it() {
        let old = json!({"immutable": true, "data": {"a": "1"}});
        assert_eq!(config_map_update(&json!({"immutable": true, "data": {"a": "2"}}), &old).len(), 1);
        assert_eq!(config_map_update(&json!({"data": {"a": "1"}}), &old).len(), 1);
        assert!(config_map_update(&old, &old).is_empty());
        assert_eq!(secret_update(&json!({"type": "a"}), &json!({"type": "b"})).len(), 1);
    }
}
