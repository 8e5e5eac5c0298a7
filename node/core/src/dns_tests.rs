use super::*;
use serde_json::json;

fn records() -> Records {
    let mut records = Records::new("cluster.local");
    let service = |name: &str, spec: serde_json::Value| -> Service {
        serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec})).unwrap()
    };
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "db-1"},
        "addressType": "IPv4",
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.244.1.5"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.244.2.7"], "conditions": {"ready": true}},
            {"addresses": ["10.244.2.8"], "conditions": {"ready": false}},
        ],
    }))
    .unwrap();
    records.set(
        &service("web", json!({"clusterIP": "10.96.1.2", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]})),
        [],
    );
    records.set(&service("db", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]})), [&slice]);
    records.set(&service("out", json!({"type": "ExternalName", "externalName": "Example.org."})), []);
    records.set(&service("alias", json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"})), []);
    records
}

fn data(answer: Answer) -> Vec<Data> {
    match answer {
        Answer::Found { answers, .. } => answers.into_iter().map(|record| record.data).collect(),
        other => panic!("{other:?}"),
    }
}

const fn ip(a: u8, b: u8, c: u8, d: u8) -> Data {
    Data::A(Ipv4Addr::new(a, b, c, d))
}

#[test]
fn services_answer_by_address_port_and_reverse() {
    let records = records();
    assert_eq!(data(records.answer("WEB.shop.svc.cluster.local.", Type::A)), [ip(10, 96, 1, 2)]);
    let location = Data::Srv { weight: 100, port: 80, target: "web.shop.svc.cluster.local".into() };
    assert_eq!(data(records.answer("_http._tcp.web.shop.svc.cluster.local", Type::Srv)), [location]);
    assert_eq!(
        data(records.answer("2.1.96.10.in-addr.arpa", Type::Ptr)),
        [Data::Ptr("web.shop.svc.cluster.local".into())]
    );
}

#[test]
fn headless_services_answer_with_their_ready_pods() {
    let records = records();
    assert_eq!(data(records.answer("db.shop.svc.cluster.local", Type::A)), [ip(10, 244, 1, 5), ip(10, 244, 2, 7)]);
    assert_eq!(data(records.answer("db-0.db.shop.svc.cluster.local", Type::A)), [ip(10, 244, 1, 5)]);
    assert_eq!(data(records.answer("10-244-2-7.db.shop.svc.cluster.local", Type::A)), [ip(10, 244, 2, 7)]);
    assert_eq!(records.answer("db-9.db.shop.svc.cluster.local", Type::A), Answer::NoName);
    assert_eq!(
        data(records.answer("5.1.244.10.in-addr.arpa", Type::Ptr)),
        [Data::Ptr("db-0.db.shop.svc.cluster.local".into())]
    );
    let Answer::Found { answers, additionals } = records.answer("_sql._tcp.db.shop.svc.cluster.local", Type::Srv)
    else {
        panic!("no locations")
    };
    assert_eq!((answers.len(), additionals.len()), (2, 2));
}

#[test]
fn what_exists_without_the_type_differs_from_what_does_not_exist() {
    let records = records();
    for (name, kind, answer) in [
        ("web.shop.svc.cluster.local", Type::Other, Answer::NoData),
        ("shop.svc.cluster.local", Type::A, Answer::NoData),
        ("svc.cluster.local", Type::A, Answer::NoData),
        ("cluster.local", Type::A, Answer::NoData),
        ("nobody.shop.svc.cluster.local", Type::A, Answer::NoName),
        ("web.nowhere.svc.cluster.local", Type::A, Answer::NoName),
        ("nowhere.svc.cluster.local", Type::A, Answer::NoName),
        ("_smtp._tcp.web.shop.svc.cluster.local", Type::Srv, Answer::NoName),
        // What a resolver with ndots:5 asks for on the way to example.org.
        ("example.org.shop.svc.cluster.local", Type::A, Answer::NoName),
        ("example.org.svc.cluster.local", Type::A, Answer::NoName),
        ("example.org.cluster.local", Type::A, Answer::NoName),
        ("example.org", Type::A, Answer::NotOurs),
        ("notcluster.local", Type::A, Answer::NotOurs),
        ("1.0.0.127.in-addr.arpa", Type::Ptr, Answer::NotOurs),
    ] {
        assert_eq!(records.answer(name, kind), answer, "{name} {kind:?}");
    }
}

#[test]
fn pods_answer_by_their_address_and_aliases_are_followed_inside() {
    let records = records();
    assert_eq!(data(records.answer("10-244-1-9.shop.pod.cluster.local", Type::A)), [ip(10, 244, 1, 9)]);
    assert_eq!(records.answer("10-244-1-999.shop.pod.cluster.local", Type::A), Answer::NoName);
    assert_eq!(data(records.answer("out.shop.svc.cluster.local", Type::A)), [Data::Cname("example.org".into())]);
    assert_eq!(
        data(records.answer("alias.shop.svc.cluster.local", Type::A)),
        [Data::Cname("web.shop.svc.cluster.local".into()), ip(10, 96, 1, 2)]
    );
}

#[test]
fn a_removed_service_leaves_nothing() {
    let mut records = records();
    for name in ["web", "db", "out", "alias"] {
        records.remove("shop", name);
    }
    assert_eq!(records.answer("web.shop.svc.cluster.local", Type::A), Answer::NoName);
    assert_eq!(records.answer("2.1.96.10.in-addr.arpa", Type::Ptr), Answer::NotOurs);
    assert!(records.reverse.is_empty() && records.services.is_empty());
}
