//! The JSON gateway, as curl would use it.

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    http::{Answer, ask, client},
    processes::{Cluster, PATIENCE},
};

async fn post(cluster: &Cluster, path: &str, body: &str) -> (u16, Value) {
    let url = format!("{}{path}", cluster.client_url(0));
    let Answer { code, headers, text } = ask(Method::POST, &url, &[], body).await;
    assert_eq!(headers["content-type"], "application/json");
    (code, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_goes_in_and_out_as_with_etcd() {
    let cluster = Cluster::new(1);
    cluster.ready(0).await;
    let (code, put) = post(&cluster, "/v3/kv/put", r#"{"key":"YQ==","value":"Yg=="}"#).await;
    assert_eq!((code, &put["header"]["revision"]), (200, &json!("2")));
    let (_, read) = post(&cluster, "/v3/kv/range", r#"{"key":"YQ==","sortOrder":"ASCEND","unknown":1}"#).await;
    let kv = json!({"key":"YQ==","create_revision":"2","mod_revision":"2","version":"1","value":"Yg=="});
    assert_eq!((&read["kvs"], &read["count"]), (&json!([kv]), &json!("1")));
    let txn = r#"{"compare":[{"target":"VERSION","key":"YQ==","version":"1"}],
        "success":[{"request_put":{"key":"YQ==","value":"Yw=="}},{"requestRange":{"key":"YQ=="}}]}"#;
    let (_, txn) = post(&cluster, "/v3beta/kv/txn", txn).await;
    assert_eq!(
        (&txn["succeeded"], &txn["responses"][0]),
        (&json!(true), &json!({"response_put":{"header":{"revision":"3"}}}))
    );
    let (_, status) = post(&cluster, "/v3/maintenance/status", "").await;
    assert_eq!((&status["version"], &status["downgradeInfo"]), (&json!("3.7.0"), &json!({})));
    let (_, members) = post(&cluster, "/v3/cluster/member/list", "{}").await;
    assert_eq!(members["members"][0]["peerURLs"], json!([cluster.peer_url(0)]));
    let (_, lease) = post(&cluster, "/v3/lease/grant", r#"{"TTL":60}"#).await;
    let id = lease["ID"].as_str().unwrap();
    let (_, life) = post(&cluster, "/v3/kv/lease/timetolive", &format!("{{\"ID\":\"{id}\"}}")).await;
    assert_eq!(life["grantedTTL"], json!("60"));
    let (_, lock) = post(&cluster, "/v3/lock/lock", &format!("{{\"name\":\"bA==\",\"lease\":{id}}}")).await;
    assert!(lock["key"].is_string());
    let table = [
        ("/v3/kv/range", "{}", 400, 3, "etcdserver: key is not provided"),
        (
            "/v3/kv/range",
            r#"{"key":"YQ==","revision":"99"}"#,
            400,
            11,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        ("/v3/lease/revoke", r#"{"ID":"1"}"#, 404, 5, "etcdserver: requested lease not found"),
        ("/v3/lock/lock", r#"{"name":"YQ==","lease":"99"}"#, 500, 2, "etcdserver: requested lease not found"),
        ("/v3/nothing", "{}", 404, 5, "Not Found"),
        ("/v3/kv/rangestream", "{}", 404, 5, "Not Found"),
    ];
    for (path, body, http, code, message) in table {
        let expected = json!({"error": message, "code": code, "message": message});
        assert_eq!(post(&cluster, path, body).await, (http, expected), "{path} {body}");
    }
    for malformed in ["{bad", r#"{"key":5}"#] {
        let (code, error) = post(&cluster, "/v3/kv/range", malformed).await;
        assert_eq!((code, &error["code"]), (400, &json!(3)), "{error}");
    }
    let url = format!("{}/v3/kv/range", cluster.client_url(0));
    assert_eq!(ask(Method::GET, &url, &[], "").await.code, 501);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_lines_of_json() {
    let cluster = Cluster::new(1);
    cluster.ready(0).await;
    let (_, lease) = post(&cluster, "/v3/lease/grant", r#"{"TTL":60}"#).await;
    let id = lease["ID"].as_str().unwrap();
    let keep_alives = format!("{{\"ID\":{id}}} {{\"ID\":\"77\"}}");
    let url = format!("{}/v3/lease/keepalive", cluster.client_url(0));
    let text = ask(Method::POST, &url, &[], &keep_alives).await.text;
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["result"]["TTL"]), (2, &json!("60")));
    assert_eq!((&lines[1]["result"]["ID"], &lines[1]["result"]["TTL"]), (&json!("77"), &Value::Null));
    let request = Request::post(format!("{}/v3/watch", cluster.client_url(0)))
        .body(Full::new(bytes::Bytes::from(r#"{"create_request":{"key":"YQ=="}}"#)))
        .unwrap();
    let mut watch = client().request(request).await.unwrap().into_body();
    let mut next = async || {
        let frame = timeout(PATIENCE, watch.frame()).await.unwrap().unwrap().unwrap();
        serde_json::from_slice::<Value>(&frame.into_data().unwrap()).unwrap()
    };
    assert_eq!(next().await["result"]["created"], json!(true));
    post(&cluster, "/v3/kv/put", r#"{"key":"YQ==","value":"Yg=="}"#).await;
    assert_eq!(next().await["result"]["events"][0]["kv"]["value"], json!("Yg=="));
    // An error before the first message has a code of its own.
    let malformed = ask(Method::POST, &format!("{}/v3/watch", cluster.client_url(0)), &[], r#"{"x":"#).await;
    assert_eq!(malformed.code, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_and_origins_are_limited_and_http_can_have_a_port_of_its_own() {
    let ports = crate::processes::free_ports(2);
    let http = format!("http://127.0.0.1:{}", ports[0]);
    let metrics = format!("http://127.0.0.1:{}", ports[1]);
    let flags = [
        format!("--listen-client-http-urls={http}"),
        format!("--listen-metrics-urls={metrics}"),
        "--host-whitelist=127.0.0.1,store".to_owned(),
        "--cors=http://good".to_owned(),
    ];
    let cluster = Cluster::with_flags(1, &flags.each_ref().map(String::as_str));
    cluster.ready(0).await;
    let health = format!("{http}/health");
    let get = |headers: &'static [(&'static str, &'static str)]| ask(Method::GET, &health, headers, "");
    let plain = get(&[]).await;
    assert_eq!((plain.code, plain.headers.get("access-control-allow-origin")), (200, None));
    let good = get(&[("origin", "http://good")]).await;
    assert_eq!(good.headers["access-control-allow-origin"], "http://good");
    assert_eq!(get(&[("origin", "http://bad")]).await.headers.get("access-control-allow-origin"), None);
    assert_eq!(get(&[("host", "store:80")]).await.code, 200);
    assert_eq!(get(&[("host", "evil")]).await.code, 421);
    assert_eq!(ask(Method::OPTIONS, &format!("{http}/v3/kv/range"), &[], "").await.code, 200);
    assert_eq!(ask(Method::GET, &format!("{metrics}/metrics"), &[], "").await.code, 200);
    assert_eq!(ask(Method::GET, &format!("{metrics}/readyz"), &[], "").await.code, 200);
    assert_eq!(ask(Method::GET, &format!("{metrics}/version"), &[], "").await.code, 404);
    // The gRPC port has no plain HTTP any more: what answers is gRPC.
    let answer = ask(Method::GET, &format!("{}/health", cluster.client_url(0)), &[], "").await;
    assert_ne!(answer.text, plain.text);
}
