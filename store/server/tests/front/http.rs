//! Plain HTTP: health, metrics, versions.

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use xebec_proto::{
    etcdserverpb::{AlarmRequest, AlarmType, kv_client::KvClient, maintenance_client::MaintenanceClient},
    grpc::health::v1::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
};

use crate::processes::{Cluster, get, put};

type Bytes = bytes::Bytes;

pub fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

pub struct Answer {
    pub code: u16,
    pub headers: hyper::HeaderMap,
    pub text: String,
}

/// One request, the answer as a whole.
pub async fn ask(method: Method, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    let response = client().request(request).await.unwrap();
    let (code, headers) = (response.status().as_u16(), response.headers().clone());
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { code, headers, text }
}

async fn fetch(url: &str) -> (u16, String) {
    let answer = ask(Method::GET, url, &[], "").await;
    (answer.code, answer.text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_as_etcd_tells_it() {
    let mut cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    let url = cluster.client_url(0);
    let ok = |text: &str| (200, text.to_owned());
    assert_eq!(fetch(&format!("{url}/health")).await, ok("{\"health\":\"true\",\"reason\":\"\"}"));
    assert_eq!(fetch(&format!("{url}/livez")).await, ok("ok\n"));
    assert_eq!(fetch(&format!("{url}/livez?verbose")).await, ok("[+]serializable_read ok\nok\n"));
    let checks = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    assert_eq!(fetch(&format!("{url}/readyz?verbose")).await, ok(checks));
    assert_eq!(fetch(&format!("{url}/readyz/linearizable_read")).await, ok("ok\n"));
    assert_eq!(fetch(&format!("{url}/livez/linearizable_read")).await.0, 404);
    let versions = "{\"etcdserver\":\"3.7.0\",\"etcdcluster\":\"3.7.0\",\"storage\":\"3.7.0\"}";
    assert_eq!(fetch(&format!("{url}/version")).await, ok(versions));
    let posted = ask(Method::POST, &format!("{url}/health"), &[], "").await;
    assert_eq!((posted.code, posted.headers["allow"].to_str().unwrap()), (405, "GET"));
    // An alarm.
    let alarm = AlarmRequest { action: 1, member_id: 7, alarm: AlarmType::Corrupt.into() };
    MaintenanceClient::new(cluster.channel(0)).alarm(alarm).await.unwrap();
    let unhealthy = (503, "{\"health\":\"false\",\"reason\":\"ALARM CORRUPT\"}\n".to_owned());
    assert_eq!(fetch(&format!("{url}/health")).await, unhealthy);
    assert_eq!(fetch(&format!("{url}/health?exclude=CORRUPT")).await.0, 200);
    let (code, text) = fetch(&format!("{url}/readyz")).await;
    assert_eq!((code, text.lines().next().unwrap()), (503, "[-]data_corruption failed: alarm activated: CORRUPT"));
    assert_eq!(fetch(&format!("{url}/readyz?exclude=data_corruption")).await.0, 200);
    MaintenanceClient::new(cluster.channel(0)).alarm(AlarmRequest { action: 2, ..alarm }).await.unwrap();
    // The majority goes; the leader stays, and must not count as one.
    let leader = cluster.leader().await;
    let url = cluster.client_url(leader);
    let mut watched = HealthClient::new(cluster.channel(leader));
    let mut watched = watched.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    for number in (0..3).filter(|number| *number != leader) {
        cluster.kill(number);
    }
    while watched.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    let (code, text) = fetch(&format!("{url}/health")).await;
    assert_eq!((code, text.as_str()), (503, "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n"));
    assert_eq!(fetch(&format!("{url}/health?serializable=true")).await.0, 200);
    assert_eq!(fetch(&format!("{url}/livez")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_have_etcds_names_and_types() {
    let cluster = Cluster::with_flags(1, &["--metrics=extensive"]);
    cluster.ready(0).await;
    let mut kv = KvClient::new(cluster.channel(0));
    for _ in 0..3 {
        kv.put(put(b"key", b"value")).await.unwrap();
    }
    kv.put(put(b"", b"")).await.unwrap_err();
    kv.range(get(b"key")).await.unwrap();
    let (code, text) = fetch(&format!("{}/metrics", cluster.client_url(0))).await;
    assert_eq!(code, 200);
    for line in [
        "# TYPE etcd_server_has_leader gauge\netcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "# TYPE etcd_server_leader_changes_seen_total counter\netcd_server_leader_changes_seen_total 1",
        "# TYPE etcd_server_proposals_committed_total gauge",
        "# TYPE etcd_mvcc_put_total counter\netcd_mvcc_put_total 3",
        "etcd_debugging_mvcc_current_revision 4",
        "# TYPE etcd_mvcc_db_total_size_in_bytes gauge",
        "etcd_server_version{server_version=\"3.7.0\"} 1",
        "etcd_cluster_version{cluster_version=\"3.7\"} 1",
        "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 3",
        "grpc_server_handled_total{grpc_code=\"InvalidArgument\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1",
        "grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 4",
        "grpc_server_handling_seconds_count{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 4",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
    }
}
