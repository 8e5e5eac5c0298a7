use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use xebec_client::{ObjectKey, Recorder};

use crate::{
    context::{Context, Settings},
    engine::{Controller, Loop},
    execute::Executor,
    fake::Fake,
    rows,
    world::World,
};

struct Cluster {
    fake: Fake,
    stop: CancellationToken,
    loops: Vec<Arc<Loop>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts the named controllers against an API in memory.
fn start(fake: &Fake, names: &[&str]) -> Cluster {
    let stop = CancellationToken::new();
    let client = fake.client();
    let context = Arc::new(Context {
        world: World::open(&client, &stop),
        garbage: Arc::default(),
        discovery: Arc::default(),
        settings: Settings {
            root_ca: Some("PEM".into()),
            fills_tokens: false,
            signs: false,
            signing_validity_max: std::time::Duration::from_secs(3600),
            node_grace: std::time::Duration::from_secs(40),
            cluster_cidr: Some("10.244.0.0/16".parse().unwrap()),
            service_cidr: None,
            node_mask: 24,
            terminated_pods_max: 0,
            load_balancer_cidr: None,
            cloud: false,
        },
    });
    let recorder = Recorder::start(client.clone(), "test", "test", stop.clone());
    let executor = Executor { client, recorder, authority: None };
    let chosen = |row: &&&Controller| names.contains(&row.name);
    let loops: Vec<_> = rows::TABLE.iter().filter(chosen).map(|row| Loop::new(row, &context)).collect();
    for each in &loops {
        tokio::spawn(Arc::clone(each).lead(executor.clone(), 4, stop.clone()));
    }
    Cluster { fake: fake.clone(), stop, loops }
}

fn template() -> Value {
    json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [] } })
}

fn replica_set(replicas: i32) -> Value {
    json!({
        "metadata": { "name": "web", "generation": 1 },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "web" } }, "template": template() },
    })
}

fn creations(fake: &Fake, plural: &str) -> usize {
    let end = format!("/{plural}");
    fake.read(|state| state.log.iter().filter(|e| e.starts_with("POST") && e.ends_with(&end)).count())
}

/// Lets every task that can run do so.
async fn run_dry() {
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_cache_that_lags_creates_nothing_twice() {
    let fake = Fake::new();
    fake.put("replicasets", "a", replica_set(3));
    let cluster = start(&fake, &["replicaset-controller"]);
    fake.hold(true);
    // The log is written at once, watches hear nothing.
    for _ in 0..100 {
        run_dry().await;
        if creations(&fake, "pods") >= 3 {
            break;
        }
    }
    assert_eq!(creations(&fake, "pods"), 3);
    for _ in 0..3 {
        cluster.loops[0].poke(ObjectKey::new("a", "web"));
        run_dry().await;
    }
    assert_eq!(creations(&fake, "pods"), 3, "own creations are waited for");
    fake.hold(false);
    let counted = |fake: &Fake| fake.of("replicasets")[0]["status"]["replicas"] == 3;
    fake.wait_for("status counts three pods", counted).await;
    assert_eq!(creations(&fake, "pods"), 3);
}

#[tokio::test]
async fn a_deployment_becomes_pods_and_a_deleted_pod_is_replaced() {
    let fake = Fake::new();
    let cluster = start(&fake, &["deployment-controller", "replicaset-controller"]);
    let deployment = json!({
        "metadata": { "name": "web", "generation": 1 },
        "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "web" } }, "template": template() },
    });
    fake.put("deployments", "a", deployment);
    fake.wait_for("two pods", |fake| fake.of("pods").len() == 2).await;
    let pod = fake.of("pods")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let request = kube::Api::<k8s_openapi::api::core::v1::Pod>::namespaced(fake.client(), "a");
    request.delete(&pod, &kube::api::DeleteParams::default()).await.unwrap();
    fake.wait_for("a third pod made", |fake| creations(fake, "pods") == 3).await;
    fake.wait_for("two pods again", |fake| fake.of("pods").len() == 2).await;
    assert_eq!(creations(&cluster.fake, "replicasets"), 1);
}

#[tokio::test]
async fn nothing_is_done_after_leadership_ends() {
    let fake = Fake::new();
    let cluster = start(&fake, &["serviceaccount-controller"]);
    fake.put("namespaces", "", json!({ "metadata": { "name": "one" } }));
    fake.wait_for("an account", |fake| fake.of("serviceaccounts").len() == 1).await;
    fake.wait_for("a root certificate", |fake| fake.of("configmaps").len() == 1).await;
    cluster.stop.cancel();
    run_dry().await;
    fake.put("namespaces", "", json!({ "metadata": { "name": "two" } }));
    run_dry().await;
    assert_eq!(fake.of("serviceaccounts").len(), 1);
}

#[tokio::test]
async fn nodes_that_come_together_get_different_ranges() {
    let fake = Fake::new();
    let _cluster = start(&fake, &["node-ipam-controller"]);
    for index in 0..20 {
        fake.put("nodes", "", json!({ "metadata": { "name": format!("n{index}") } }));
    }
    let ranges = |fake: &Fake| -> std::collections::BTreeSet<String> {
        let nodes = fake.of("nodes");
        nodes.iter().filter_map(|node| node["spec"]["podCIDR"].as_str()).map(str::to_owned).collect()
    };
    fake.wait_for("twenty ranges", |fake| ranges(fake).len() == 20).await;
}
