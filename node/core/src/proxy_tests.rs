use super::*;
use serde_json::json;
use std::io::Write;
use std::process::{Command, Stdio};

fn options() -> Options {
    Options {
        node_name: "n1".into(),
        cluster_cidr: Some("10.244.0.0/16".parse().unwrap()),
        served_here: vec![Ipv4Addr::new(10, 96, 0, 10)],
    }
}

fn service(name: &str, mut spec: serde_json::Value) -> Service {
    if spec.get("ports").is_none() {
        spec["ports"] = json!([{"name": "p", "port": 80, "protocol": "TCP", "nodePort": 30080}]);
    }
    serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec})).unwrap()
}

/// Endpoints are `(address, node, conditions)`.
fn slice(service: &str, endpoints: &[(&str, &str, serde_json::Value)]) -> EndpointSlice {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(address, node, conditions)| json!({"addresses": [address], "nodeName": node, "conditions": conditions}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }))
    .unwrap()
}

fn text(services: &[Service], slices: &[EndpointSlice]) -> String {
    let options = options();
    render(&options, &service_ports(&options, services, slices)).transaction(None)
}

/// Every feature at once, so that one check of the syntax covers all.
fn everything() -> (Vec<Service>, Vec<EndpointSlice>) {
    let ready = json!({"ready": true});
    let services = vec![
        service("plain", json!({"clusterIP": "10.96.1.1"})),
        service(
            "sticky",
            json!({"clusterIP": "10.96.1.2", "sessionAffinity": "ClientIP", "ports": [{"name": "p", "port": 80, "protocol": "TCP", "nodePort": 30082}]}),
        ),
        service(
            "local",
            json!({
                "clusterIP": "10.96.1.3", "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local",
                "externalIPs": ["192.0.2.3"], "ports": [{"name": "p", "port": 80, "nodePort": 30083}],
            }),
        ),
        service("empty", json!({"clusterIP": "10.96.1.4", "ports": [{"name": "p", "port": 80, "nodePort": 30084}]})),
        service("headless", json!({"clusterIP": "None"})),
        service("dns", json!({"clusterIP": "10.96.0.10", "ports": [{"name": "p", "port": 53, "protocol": "UDP"}]})),
    ];
    let mut balanced = service(
        "balanced",
        json!({
            "clusterIP": "10.96.1.5", "type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"],
            "ports": [{"name": "p", "port": 80, "nodePort": 30085}],
        }),
    );
    balanced.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.5"}]}})).unwrap();
    let slices = ["plain", "sticky", "local", "balanced"]
        .map(|name| slice(name, &[("10.244.1.2", "n1", ready.clone()), ("10.244.2.3", "n2", ready.clone())]));
    (services.into_iter().chain([balanced]).collect(), slices.into())
}

#[test]
fn the_same_world_gives_the_same_text_in_any_order() {
    let (mut services, mut slices) = everything();
    let first = text(&services, &slices);
    services.reverse();
    slices.reverse();
    assert_eq!(text(&services, &slices), first);
}

#[test]
fn endpoints_are_chosen_by_readiness_then_by_draining() {
    let options = options();
    let services = [service("s", json!({"clusterIP": "10.96.1.1"}))];
    let draining = json!({"ready": false, "serving": true, "terminating": true});
    let dead = json!({"ready": false, "serving": false, "terminating": true});
    let addresses = |slice: EndpointSlice| -> Vec<String> {
        let ports = service_ports(&options, &services, [&slice]);
        ports[0].cluster.iter().map(|endpoint| endpoint.address.to_string()).collect()
    };
    let all = [
        ("10.244.0.1", "n1", json!({"ready": true})),
        ("10.244.0.2", "n1", draining.clone()),
        ("10.244.0.3", "n1", dead.clone()),
        ("10.244.0.4", "n2", json!({})),
    ];
    assert_eq!(addresses(slice("s", &all)), ["10.244.0.1", "10.244.0.4"]);
    assert_eq!(addresses(slice("s", &all[1..3])), ["10.244.0.2"], "only a draining one is left");
    assert_eq!(addresses(slice("s", &all[2..3])), [""; 0]);
}

#[test]
fn services_without_endpoints_are_rejected_and_local_ones_dropped() {
    let ready = json!({"ready": true});
    let empty = text(&[service("s", json!({"clusterIP": "10.96.1.1"}))], &[]);
    assert!(empty.contains("refused-ips { 10.96.1.1 . tcp . 80 : goto do-reject }"), "{empty}");
    assert!(empty.contains("refused-node-ports { tcp . 30080 : goto do-reject }"), "{empty}");
    let local = service("s", json!({"clusterIP": "10.96.1.1", "internalTrafficPolicy": "Local"}));
    let elsewhere = text(&[local], &[slice("s", &[("10.244.2.3", "n2", ready)])]);
    assert!(elsewhere.contains("refused-ips { 10.96.1.1 . tcp . 80 : goto do-drop }"), "{elsewhere}");
}

#[test]
fn dns_served_here_and_headless_services_have_no_rules() {
    let (services, slices) = everything();
    let text = text(&services, &slices);
    assert!(!text.contains("10.96.0.10") && !text.contains("headless"), "{text}");
}

#[test]
fn udp_flows_to_gone_endpoints_are_stale() {
    let options = options();
    let spec = json!({"clusterIP": "10.96.1.1", "ports": [{"name": "p", "port": 53, "protocol": "UDP"}]});
    let services = [service("s", spec)];
    let at = |address: &str| {
        let mut slice = slice("s", &[(address, "n1", json!({"ready": true}))]);
        slice.ports.as_mut().unwrap()[0].protocol = Some("UDP".into());
        service_ports(&options, &services, [&slice])
    };
    let target = |endpoint: Option<[u8; 4]>| UdpTarget {
        address: Some(Ipv4Addr::new(10, 96, 1, 1)),
        port: 53,
        endpoint: endpoint.map(Ipv4Addr::from),
    };
    assert_eq!(stale_udp(&at("10.244.0.1"), &at("10.244.0.2")), [target(Some([10, 244, 0, 1]))].into());
    assert_eq!(stale_udp(&service_ports(&options, &services, []), &at("10.244.0.2")), [target(None)].into());
    assert!(stale_udp(&at("10.244.0.1"), &at("10.244.0.1")).is_empty());
}

/// `nft` itself reads the text, in a network namespace that ends with the test's child. Needs root; elsewhere the syntax
/// is not checked.
#[test]
fn nft_accepts_every_transaction() {
    let run = |script: &str| {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-ec", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        child.stdin.take().unwrap().flush().unwrap();
        child.wait_with_output().ok()
    };
    if !run("nft list ruleset").is_some_and(|output| output.status.success()) {
        eprintln!("not root, or no nft: skipped");
        return;
    }
    let options = options();
    let (services, slices) = everything();
    let full = render(&options, &service_ports(&options, &services, &slices));
    let fewer = render(&options, &service_ports(&options, &services[1..4], &slices[2..]));
    let script = format!(
        "nft -f - <<'X'\n{}X\nnft -f - <<'X'\n{}X\nnft -f - <<'X'\n{}X\nnft -f - <<'X'\n{}X\nnft list tables | wc -l\n",
        full.transaction(None),
        fewer.transaction(Some(&full)),
        full.transaction(Some(&fewer)),
        Ruleset::removal(),
    );
    let output = run(&script).unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), script);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0", "removed in the end");
}
