//! From an object to the address that serves it. Pure: objects in, URIs out.

use serde_json::Value;
use xebec_api::{Status, meta};
use xebec_apiserver_core::request::Query;

/// The kubelet's port where the Node names none.
const KUBELET_PORT: i64 = 10_250;
/// Options of exec and attach: the API's name, and the kubelet's (kubernetes `pkg/registry/core/pod/strategy.go`).
const STREAM_OPTIONS: [(&str, &str); 4] =
    [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
/// Options of logs that pass unchanged.
const LOG_OPTIONS: [&str; 9] = [
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "insecureSkipTLSVerifyBackend",
    "stream",
];

/// `https://host:port` of a node's kubelet.
pub fn kubelet_target(node: &Value) -> Result<String, Status> {
    let addresses = meta::list_at(node, &["status", "addresses"]);
    let of_type = |wanted: &str| {
        addresses
            .iter()
            .find(|address| meta::str_at(address, &["type"]) == wanted)
            .map(|address| meta::str_at(address, &["address"]))
    };
    let host = ["InternalIP", "Hostname", "ExternalIP"].into_iter().find_map(of_type);
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return Err(Status::internal_error(&format!("node {:?} has no address", meta::name(node))));
    };
    let port = meta::i64_at(node, &["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).unwrap_or(KUBELET_PORT);
    Ok(format!("https://{}:{port}", bracketed(host)))
}

/// Path and query at the kubelet for `subresource` (log, exec, attach, portforward) of `pod`.
pub fn stream_target(pod: &Value, subresource: &str, query: &Query) -> Result<String, Status> {
    let (namespace, name) = (meta::namespace(pod), meta::name(pod));
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    let path = match subresource {
        "portforward" => {
            pairs.extend(query.all("ports").map(|port| ("port", port)));
            format!("/portForward/{namespace}/{name}")
        }
        "log" => {
            pairs.extend(LOG_OPTIONS.iter().filter_map(|option| Some((*option, query.get(option)?))));
            format!("/containerLogs/{namespace}/{name}/{}", container(pod, query)?)
        }
        _ => {
            pairs.extend(query.all("command").map(|word| ("command", word)));
            let on = STREAM_OPTIONS.iter().filter(|(option, _)| query.flag(option));
            pairs.extend(on.map(|(_, kubelets)| (*kubelets, "1")));
            format!("/{subresource}/{namespace}/{name}/{}", container(pod, query)?)
        }
    };
    let query: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
    Ok(if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) })
}

/// The container asked for, or the only one.
fn container<'a>(pod: &'a Value, query: &'a Query) -> Result<&'a str, Status> {
    let names = |list: &str| -> Vec<&'a str> {
        meta::list_at(pod, &["spec", list]).iter().map(|container| meta::str_at(container, &["name"])).collect()
    };
    let containers = names("containers");
    let others = [names("initContainers"), names("ephemeralContainers")].concat();
    match query.get("container").filter(|name| !name.is_empty()) {
        Some(name) if containers.contains(&name) || others.contains(&name) => Ok(name),
        Some(name) => Err(Status::bad_request(format!("container {name} is not valid for pod {}", meta::name(pod)))),
        None => match containers.as_slice() {
            [only] => Ok(only),
            _ => {
                let choice = containers.join(" ");
                let mut message = format!(
                    "a container name must be specified for pod {}, choose one of: [{choice}]",
                    meta::name(pod)
                );
                if !others.is_empty() {
                    message += &format!(" or one of the init containers: [{}]", others.join(" "));
                }
                Err(Status::bad_request(message))
            }
        },
    }
}

/// `scheme://ip:port` of a pod addressed as `[scheme:]name[:port]`.
pub fn pod_target(pod: &Value, scheme: &str, port: &str) -> Result<String, Status> {
    let address = meta::str_at(pod, &["status", "podIP"]);
    if address.is_empty() {
        return Err(Status::bad_request(format!("pod {:?} does not have an IP yet", meta::name(pod))));
    }
    let declared =
        meta::list_at(pod, &["spec", "containers"]).iter().flat_map(|container| meta::list_at(container, &["ports"]));
    let number = match (port.parse::<u16>(), port) {
        (Ok(number), _) => i64::from(number),
        (_, "") => declared.clone().next().and_then(|port| meta::i64_at(port, &["containerPort"])).unwrap_or(80),
        (_, name) => declared
            .clone()
            .find(|port| meta::str_at(port, &["name"]) == name)
            .and_then(|port| meta::i64_at(port, &["containerPort"]))
            .ok_or_else(|| Status::bad_request(format!("pod {:?} has no port {name:?}", meta::name(pod))))?,
    };
    Ok(format!("{}://{}:{number}", if scheme == "https" { "https" } else { "http" }, bracketed(address)))
}

/// `scheme://ip:port` of a ready endpoint of a Service, chosen by `choice`.
pub fn service_target(
    service: &Value,
    slices: &[Value],
    scheme: &str,
    port: &str,
    choice: usize,
) -> Result<String, Status> {
    let unavailable = |why: &str| Status::service_unavailable(format!("{why} for service {:?}", meta::name(service)));
    let ports = meta::list_at(service, &["spec", "ports"]);
    let wanted = match port {
        "" if ports.len() == 1 => ports.first(),
        _ => ports.iter().find(|p| {
            meta::str_at(p, &["name"]) == port || meta::i64_at(p, &["port"]).is_some_and(|n| n.to_string() == port)
        }),
    };
    let name = meta::str_at(wanted.ok_or_else(|| unavailable("no such port"))?, &["name"]);
    let mut found = Vec::new();
    for slice in slices {
        let number = meta::list_at(slice, &["ports"])
            .iter()
            .find(|p| meta::str_at(p, &["name"]) == name)
            .and_then(|p| meta::i64_at(p, &["port"]));
        let Some(number) = number else { continue };
        for endpoint in meta::list_at(slice, &["endpoints"]) {
            let ready = endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
            let address = meta::list_at(endpoint, &["addresses"]).first().and_then(Value::as_str);
            if let (true, Some(address)) = (ready, address) {
                found.push(format!("{}:{number}", bracketed(address)));
            }
        }
    }
    if found.is_empty() {
        return Err(unavailable("no endpoints available"));
    }
    let host = &found[choice % found.len()];
    Ok(format!("{}://{host}", if scheme == "https" { "https" } else { "http" }))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn exec_is_translated_to_the_kubelets_words() {
        let pod = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"containers": [{"name": "c"}]}});
        let query = Query::parse("command=ls&command=-l+x&stdin=true&stdout=true&tty=false");
        let path = stream_target(&pod, "exec", &query).expect("one container");
        assert_eq!(path, "/exec/n/a/c?command=ls&command=-l%20x&input=1&output=1");
        assert!(stream_target(&pod, "exec", &Query::parse("container=x")).is_err());
    }

    #[test]
    fn logs_need_a_container_when_there_are_two() {
        let pod = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"containers": [{"name": "c"}, {"name": "d"}]}});
        assert_eq!(stream_target(&pod, "log", &Query::default()).expect_err("ambiguous").code, 400);
        let path = stream_target(&pod, "log", &Query::parse("container=d&follow=true&x=y")).expect("named");
        assert_eq!(path, "/containerLogs/n/a/d?follow=true");
    }
}
