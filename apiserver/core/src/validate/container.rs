//! Containers.

use std::collections::HashSet;

use serde_json::Value;
use xebec_api::field::{Error, Path};
use xebec_api::{Quantity, meta, name_rules};

use super::{non_negative, one_of, port_name, port_number, problems};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const HANDLERS: [&str; 4] = ["exec", "grpc", "httpGet", "tcpSocket"];

/// What containers of one pod are checked against.
pub(super) struct Surroundings<'a> {
    /// Names of the pod's volumes.
    pub volumes: HashSet<&'a str>,
    /// Container names seen so far.
    pub names: HashSet<String>,
}

/// Validates one container; `init` for init containers.
pub(super) fn container(container: &Value, path: &Path, around: &mut Surroundings<'_>, init: bool) -> Vec<Error> {
    let mut errors = Vec::new();
    let name = meta::str_at(container, &["name"]);
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    } else {
        errors.extend(problems(&path.child("name"), name, name_rules::dns_label(name)));
        if !around.names.insert(name.to_owned()) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
    }
    let image = meta::str_at(container, &["image"]);
    if image.is_empty() {
        errors.push(Error::required(&path.child("image"), ""));
    } else if image.trim() != image {
        errors.push(Error::invalid(&path.child("image"), image, "must not have leading or trailing whitespace"));
    }
    errors.extend(one_of(container, "imagePullPolicy", &PULL_POLICIES, path));
    errors.extend(one_of(container, "terminationMessagePolicy", &["FallbackToLogsOnError", "File"], path));
    errors.extend(ports(container, &path.child("ports")));
    errors.extend(env(container, path));
    errors.extend(mounts(container, &path.child("volumeMounts"), around));
    errors.extend(resources(container, &path.child("resources")));
    let restartable = meta::str_at(container, &["restartPolicy"]) == "Always";
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get(name).filter(|p| p.is_object()) else { continue };
        if init && !restartable {
            errors.push(Error::forbidden(
                &path.child(name),
                "may not be set for init containers without restartPolicy=Always",
            ));
        } else {
            errors.extend(self::probe(probe, &path.child(name), name));
        }
    }
    for hook in ["postStart", "preStop"] {
        let Some(handler) = meta::get(container, &["lifecycle", hook]) else { continue };
        if init && !restartable {
            errors.push(Error::forbidden(
                &path.child("lifecycle"),
                "may not be set for init containers without restartPolicy=Always",
            ));
        } else {
            errors.extend(self::handler(handler, &path.child("lifecycle").child(hook)));
        }
    }
    errors
}

fn ports(container: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut names = HashSet::new();
    for (i, port) in meta::list_at(container, &["ports"]).iter().enumerate() {
        let path = path.index(i);
        let name = meta::str_at(port, &["name"]);
        if !name.is_empty() {
            let found = port_name(name, &path.child("name"));
            if found.is_empty() && !names.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
            errors.extend(found);
        }
        match meta::i64_at(port, &["containerPort"]).unwrap_or(0) {
            0 => errors.push(Error::required(&path.child("containerPort"), "")),
            number => errors.extend(port_number(number, &path.child("containerPort"))),
        }
        if let Some(number) = meta::i64_at(port, &["hostPort"]).filter(|n| *n != 0) {
            errors.extend(port_number(number, &path.child("hostPort")));
        }
        errors.extend(one_of(port, "protocol", &PROTOCOLS, &path));
    }
    errors
}

fn env(container: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, var) in meta::list_at(container, &["env"]).iter().enumerate() {
        let path = path.child("env").index(i);
        let name = meta::str_at(var, &["name"]);
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else if name.contains('=') || !name.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            let detail =
                "a valid environment variable name must consist only of printable ASCII characters other than '='";
            errors.push(Error::invalid(&path.child("name"), name, detail));
        }
        let Some(from) = var.get("valueFrom").and_then(Value::as_object) else { continue };
        let place = path.child("valueFrom");
        let sources = from.values().filter(|v| !v.is_null()).count();
        if sources == 0 {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            errors.push(Error::invalid(&place, "", detail));
        } else if sources > 1 {
            errors.push(Error::invalid(&place, "", "may not have more than one field specified at a time"));
        } else if !meta::str_at(var, &["value"]).is_empty() {
            errors.push(Error::invalid(&place, "", "may not be specified when `value` is not empty"));
        }
        for (source, field) in [("configMapKeyRef", "key"), ("secretKeyRef", "key"), ("fieldRef", "fieldPath")] {
            if let Some(reference) = from.get(source).filter(|r| r.is_object())
                && meta::str_at(reference, &[field]).is_empty()
            {
                errors.push(Error::required(&place.child(source).child(field), ""));
            }
        }
    }
    for (i, from) in meta::list_at(container, &["envFrom"]).iter().enumerate() {
        let sources =
            ["configMapRef", "secretRef"].iter().filter(|s| from.get(**s).is_some_and(Value::is_object)).count();
        let place = path.child("envFrom").index(i);
        match sources {
            0 => errors.push(Error::invalid(&place, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errors.push(Error::invalid(&place, "", "may not have more than one field specified at a time")),
        }
    }
    errors
}

fn mounts(container: &Value, path: &Path, around: &Surroundings<'_>) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, mount) in meta::list_at(container, &["volumeMounts"]).iter().enumerate() {
        let path = path.index(i);
        let (name, target) = (meta::str_at(mount, &["name"]), meta::str_at(mount, &["mountPath"]));
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else if !around.volumes.contains(name) {
            errors.push(Error::not_found(&path.child("name"), name));
        }
        if target.is_empty() {
            errors.push(Error::required(&path.child("mountPath"), ""));
        } else if !seen.insert(target) {
            errors.push(Error::invalid(&path.child("mountPath"), target, "must be unique"));
        }
        let sub = meta::str_at(mount, &["subPath"]);
        if sub.starts_with('/') {
            errors.push(Error::invalid(&path.child("subPath"), sub, "must be a relative path"));
        } else if sub.split('/').any(|part| part == "..") {
            errors.push(Error::invalid(&path.child("subPath"), sub, "must not contain '..'"));
        }
    }
    errors
}

fn resources(container: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let quantity = |list: &str, name: &str| -> Option<Quantity> {
        let value = meta::get(container, &["resources", list, name])?;
        value.as_str().map_or_else(|| value.to_string(), str::to_owned).parse().ok()
    };
    for list in ["limits", "requests"] {
        for (name, value) in meta::get(container, &["resources", list]).and_then(Value::as_object).into_iter().flatten()
        {
            let place = path.child(list).key(name);
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if text.starts_with('-') {
                errors.push(Error::invalid(&place, text, "must be greater than or equal to 0"));
            }
            errors.extend(problems(&path.child(list), name, name_rules::qualified_name(name)));
        }
    }
    for (name, request) in
        meta::get(container, &["resources", "requests"]).and_then(Value::as_object).into_iter().flatten()
    {
        if let (Some(wanted), Some(limit)) = (quantity("requests", name), quantity("limits", name))
            && wanted > limit
        {
            let shown = meta::get(container, &["resources", "limits", name]).and_then(Value::as_str).unwrap_or("");
            let detail = format!("must be less than or equal to {name} limit of {shown}");
            errors.push(Error::invalid(&path.child("requests"), request.clone(), detail));
        }
    }
    errors
}

fn probe(probe: &Value, path: &Path, name: &str) -> Vec<Error> {
    let mut errors = handler(probe, path);
    for key in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        errors.extend(non_negative(probe, key, path));
    }
    if name != "readinessProbe" && meta::i64_at(probe, &["successThreshold"]).unwrap_or(1) != 1 {
        let value = probe["successThreshold"].clone();
        errors.push(Error::invalid(&path.child("successThreshold"), value, "must be 1"));
    }
    errors
}

fn handler(handler: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let present: Vec<&str> =
        HANDLERS.into_iter().chain(["sleep"]).filter(|h| handler.get(*h).is_some_and(Value::is_object)).collect();
    for extra in present.iter().skip(1) {
        errors.push(Error::forbidden(&path.child(extra), "may not specify more than 1 handler type"));
    }
    match present.first() {
        None => errors.push(Error::required(path, "must specify a handler type")),
        Some(&"exec") if meta::list_at(handler, &["exec", "command"]).is_empty() => {
            errors.push(Error::required(&path.child("exec").child("command"), ""));
        }
        Some(kind @ (&"httpGet" | &"tcpSocket" | &"grpc")) => {
            let place = path.child(kind).child("port");
            match meta::get(handler, &[kind, "port"]) {
                Some(Value::String(name)) => errors.extend(port_name(name, &place)),
                port => errors.extend(port_number(port.and_then(Value::as_i64).unwrap_or(0), &place)),
            }
        }
        Some(_) => {}
    }
    errors
}
