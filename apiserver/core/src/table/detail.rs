//! Cells that take more than a look: addresses, ports, ages of events, states of jobs and claims.

use jiff::Timestamp;
use serde_json::{Value, json};
use xebec_api::{meta, time};

use super::cells::{NONE, UNSET, number, or_none, or_unset, plain, strings, text};
use super::duration::{human_duration, since};

/// Most endpoints shown in one cell.
const ENDPOINTS_SHOWN: usize = 3;

pub(super) fn external_ip(service: &Value) -> Value {
    let spec = &service["spec"];
    let external = strings(&spec["externalIPs"]);
    match meta::str_at(spec, &["type"]) {
        "LoadBalancer" => {
            let ingress = meta::list_at(service, &["status", "loadBalancer", "ingress"]).iter();
            let given = ingress.map(|i| match meta::str_at(i, &["ip"]) {
                "" => meta::str_at(i, &["hostname"]),
                ip => ip,
            });
            let all: Vec<&str> = given.chain(external).filter(|a| !a.is_empty()).collect();
            json!(if all.is_empty() { "<pending>".to_owned() } else { all.join(",") })
        }
        "ExternalName" => text(spec, &["externalName"]),
        _ => or_none(&external.join(",")),
    }
}

pub(super) fn service_ports(spec: &Value) -> Value {
    let ports = meta::list_at(spec, &["ports"]).iter().map(|port| {
        let (number, protocol) = (number(port, &["port"]), meta::str_at(port, &["protocol"]));
        match meta::i64_at(port, &["nodePort"]).unwrap_or(0) {
            0 => format!("{number}/{protocol}"),
            node_port => format!("{number}:{node_port}/{protocol}"),
        }
    });
    or_none(&ports.collect::<Vec<_>>().join(","))
}

pub(super) fn node(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let ready = meta::list_at(o, &["status", "conditions"]).iter().find(|c| meta::str_at(c, &["type"]) == "Ready");
    let mut status = match ready.map(|c| meta::str_at(c, &["status"])) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if meta::bool_at(o, &["spec", "unschedulable"]) {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = meta::labels(o)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role).filter(|r| !r.is_empty()),
            None if key == "kubernetes.io/role" => value.as_str().filter(|r| !r.is_empty()),
            None => None,
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    let address = |kind: &str| {
        let found = meta::list_at(o, &["status", "addresses"]).iter().find(|a| meta::str_at(a, &["type"]) == kind);
        or_none(found.map_or("", |a| meta::str_at(a, &["address"])))
    };
    let info = |key: &str| match meta::str_at(o, &["status", "nodeInfo", key]) {
        "" => json!("<unknown>"),
        text => json!(text),
    };
    vec![
        name,
        json!(status),
        or_none(&roles.join(",")),
        age,
        text(o, &["status", "nodeInfo", "kubeletVersion"]),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

pub(super) fn event(o: &Value, name: Value, now: Timestamp, about: &str, words: &str) -> Vec<Value> {
    let time = |paths: &[&[&str]]| {
        let found = paths.iter().map(|path| meta::str_at(o, path)).find(|t| !t.is_empty());
        json!(since(found, now))
    };
    let last =
        time(&[&["series", "lastObservedTime"], &["lastTimestamp"], &["deprecatedLastTimestamp"], &["eventTime"]]);
    let first = time(&[&["firstTimestamp"], &["deprecatedFirstTimestamp"], &["eventTime"]]);
    let count = ["series", "count", "deprecatedCount"].iter().find_map(|key| {
        let value = o.get(*key)?;
        value.get("count").unwrap_or(value).as_i64().filter(|n| *n > 0)
    });
    let object = &o[about];
    let target = match meta::str_at(object, &["name"]) {
        "" => meta::kind(object).to_lowercase(),
        name => format!("{}/{name}", meta::kind(object).to_lowercase()),
    };
    let component = [
        &["source", "component"][..],
        &["reportingComponent"],
        &["reportingController"],
        &["deprecatedSource", "component"],
    ]
    .iter()
    .map(|path| meta::str_at(o, path))
    .find(|c| !c.is_empty())
    .unwrap_or("");
    let host = match (meta::str_at(o, &["source", "host"]), meta::str_at(o, &["reportingInstance"])) {
        ("", host) | (host, _) => host,
    };
    let source = if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") };
    vec![
        last,
        text(o, &["type"]),
        text(o, &["reason"]),
        json!(target),
        text(object, &["fieldPath"]),
        json!(source),
        json!(meta::str_at(o, &[words]).trim()),
        first,
        json!(count.unwrap_or(1)),
        name,
    ]
}

pub(super) fn endpoints(o: &Value) -> Value {
    let mut all = Vec::new();
    for subset in meta::list_at(o, &["subsets"]) {
        let (addresses, ports) = (meta::list_at(subset, &["addresses"]), meta::list_at(subset, &["ports"]));
        for address in addresses {
            let ip = meta::str_at(address, &["ip"]);
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            all.extend(ports.iter().map(|port| {
                let port = number(port, &["port"]);
                if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
            }));
        }
    }
    shortened(&all)
}

pub(super) fn shortened(all: &[String]) -> Value {
    match all.len() {
        0 => json!(NONE),
        n if n > ENDPOINTS_SHOWN => {
            json!(format!("{} + {} more...", all[..ENDPOINTS_SHOWN].join(","), n - ENDPOINTS_SHOWN))
        }
        _ => json!(all.join(",")),
    }
}

pub(super) fn endpoint_slice(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let ports = meta::list_at(o, &["ports"]);
    let shown: Vec<String> =
        ports.iter().map(|p| meta::i64_at(p, &["port"]).map_or_else(|| "*".to_owned(), |n| n.to_string())).collect();
    let addresses: Vec<String> = meta::list_at(o, &["endpoints"])
        .iter()
        .filter_map(|e| meta::list_at(e, &["addresses"]).first()?.as_str().map(str::to_owned))
        .collect();
    let list = |all: &[String]| if all.is_empty() { json!(UNSET) } else { shortened(all) };
    vec![name, text(o, &["addressType"]), list(&shown), list(&addresses), age]
}

pub(super) fn access_modes(modes: &Value) -> String {
    let short = |mode: &str| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    strings(modes).into_iter().map(short).collect::<Vec<_>>().join(",")
}

pub(super) fn persistent_volume(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let spec = &o["spec"];
    let claim = match meta::str_at(spec, &["claimRef", "name"]) {
        "" => String::new(),
        name => format!("{}/{name}", meta::str_at(spec, &["claimRef", "namespace"])),
    };
    let phase =
        if meta::deletion_timestamp(o).is_some() { "Terminating" } else { meta::str_at(o, &["status", "phase"]) };
    vec![
        name,
        json!(spec["capacity"].get("storage").map(plain).unwrap_or_default()),
        json!(access_modes(&spec["accessModes"])),
        text(spec, &["persistentVolumeReclaimPolicy"]),
        json!(phase),
        json!(claim),
        text(spec, &["storageClassName"]),
        or_unset(meta::str_at(spec, &["volumeAttributesClassName"])),
        text(o, &["status", "reason"]),
        age,
        or_unset(meta::str_at(spec, &["volumeMode"])),
    ]
}

pub(super) fn persistent_volume_claim(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let (spec, bound) = (&o["spec"], !meta::str_at(o, &["spec", "volumeName"]).is_empty());
    let phase =
        if meta::deletion_timestamp(o).is_some() { "Terminating" } else { meta::str_at(o, &["status", "phase"]) };
    let capacity = meta::get(o, &["status", "capacity", "storage"]).filter(|_| bound).map(plain).unwrap_or_default();
    let modes = if bound { access_modes(&o["status"]["accessModes"]) } else { String::new() };
    vec![
        name,
        json!(phase),
        text(spec, &["volumeName"]),
        json!(capacity),
        json!(modes),
        text(spec, &["storageClassName"]),
        or_unset(meta::str_at(spec, &["volumeAttributesClassName"])),
        age,
        or_unset(meta::str_at(spec, &["volumeMode"])),
    ]
}

pub(super) fn resource_quota(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let hard = meta::get(o, &["status", "hard"]).and_then(Value::as_object);
    let shown = |limits: bool| {
        let resources = hard.into_iter().flatten().filter(|(key, _)| key.starts_with("limits") == limits);
        let pairs = resources.map(|(key, hard)| {
            let used = meta::get(o, &["status", "used", key]).map_or_else(|| "0".to_owned(), plain);
            format!("{key}: {used}/{}", plain(hard))
        });
        json!(pairs.collect::<Vec<_>>().join(", "))
    };
    vec![name, shown(false), shown(true), age]
}

pub(super) fn job(o: &Value, now: Timestamp) -> (String, String, String) {
    let succeeded = meta::i64_at(o, &["status", "succeeded"]).unwrap_or(0);
    let completions =
        match (meta::i64_at(o, &["spec", "completions"]), meta::i64_at(o, &["spec", "parallelism"]).unwrap_or(0)) {
            (Some(wanted), _) => format!("{succeeded}/{wanted}"),
            (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
            (None, _) => format!("{succeeded}/1"),
        };
    let start = time::parse_time(meta::str_at(o, &["status", "startTime"])).ok();
    let end = time::parse_time(meta::str_at(o, &["status", "completionTime"])).ok();
    let duration =
        start.map_or(String::new(), |start| human_duration(end.unwrap_or(now).as_second() - start.as_second()));
    let holds = |kind: &str| {
        let conditions = meta::list_at(o, &["status", "conditions"]).iter();
        conditions.into_iter().any(|c| meta::str_at(c, &["type"]) == kind && meta::str_at(c, &["status"]) == "True")
    };
    let state = if holds("Complete") {
        "Complete"
    } else if holds("Failed") {
        "Failed"
    } else if meta::deletion_timestamp(o).is_some() {
        "Terminating"
    } else if holds("Suspended") {
        "Suspended"
    } else if holds("FailureTarget") {
        "FailureTarget"
    } else if holds("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    (state.into(), completions, duration)
}

pub(super) fn autoscaler_targets(o: &Value) -> String {
    let current = meta::list_at(o, &["status", "currentMetrics"]);
    let metrics = meta::list_at(o, &["spec", "metrics"]).iter().enumerate().map(|(i, metric)| {
        let target = &metric["resource"]["target"];
        let now = current.get(i).map(|c| &c["resource"]["current"]);
        let name = meta::str_at(metric, &["resource", "name"]);
        match meta::i64_at(target, &["averageUtilization"]) {
            Some(wanted) => {
                let used = now
                    .and_then(|n| meta::i64_at(n, &["averageUtilization"]))
                    .map_or_else(|| "<unknown>".into(), |n| format!("{n}%"));
                format!("{name}: {used}/{wanted}%")
            }
            None => {
                let used = now.and_then(|n| n.get("averageValue")).map_or_else(|| "<unknown>".into(), plain);
                format!("{name}: {used}/{}", target.get("averageValue").map(plain).unwrap_or_default())
            }
        }
    });
    let all: Vec<String> = metrics.collect();
    if all.is_empty() { NONE.into() } else { all.join(", ") }
}

pub(super) fn ingress(o: &Value, name: Value, age: Value) -> Vec<Value> {
    let class = meta::str_at(o, &["spec", "ingressClassName"]);
    let hosts: Vec<&str> = meta::list_at(o, &["spec", "rules"])
        .iter()
        .map(|r| meta::str_at(r, &["host"]))
        .filter(|h| !h.is_empty())
        .collect();
    let hosts = if hosts.is_empty() { "*".to_owned() } else { hosts.join(",") };
    let addresses: Vec<&str> = meta::list_at(o, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|i| {
            if meta::str_at(i, &["ip"]).is_empty() { meta::str_at(i, &["hostname"]) } else { meta::str_at(i, &["ip"]) }
        })
        .collect();
    let ports = if meta::list_at(o, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
    vec![name, or_none(class), json!(hosts), json!(addresses.join(",")), json!(ports), age]
}

pub(super) fn csr_condition(o: &Value) -> String {
    let has =
        |kind: &str| meta::list_at(o, &["status", "conditions"]).iter().any(|c| meta::str_at(c, &["type"]) == kind);
    let verdict = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    };
    let mut shown = verdict.to_owned();
    if has("Failed") {
        shown.push_str(",Failed");
    }
    if !meta::str_at(o, &["status", "certificate"]).is_empty() {
        shown.push_str(",Issued");
    }
    shown
}
