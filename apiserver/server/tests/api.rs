//! The API server as its clients see it, against a real etcd.

mod world;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use world::World;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

#[tokio::test]
async fn bad_input_is_refused_as_upstream_does_and_nothing_is_stored() {
    let Some(world) = World::new() else { return };
    let api = world.client(&world.server().await, Some("admin"));
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let unknown = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"foo":1}"#;
    let cases: [(Method, &str, &str, Bytes, u16, &str); 13] = [
        (Method::POST, MAPS, "application/json", "{bad".into(), 400, "BadRequest"),
        (Method::POST, MAPS, "application/yaml", "a: [1\nb: {".into(), 400, "BadRequest"),
        (Method::POST, MAPS, "application/vnd.kubernetes.protobuf", "xx".into(), 400, "BadRequest"),
        (Method::POST, MAPS, "application/vnd.kubernetes.protobuf", "k8s\0\u{1}".into(), 400, "BadRequest"),
        (Method::POST, MAPS, "text/plain", "{}".into(), 415, "UnsupportedMediaType"),
        (Method::POST, MAPS, "application/json", vec![b'a'; 4 << 20].into(), 413, "RequestEntityTooLarge"),
        (Method::POST, &strict, "application/json", unknown.into(), 400, "BadRequest"),
        (Method::POST, MAPS, "application/json", map("Upper").to_string().into(), 422, "Invalid"),
        (
            Method::POST,
            "/api/v1/namespaces/none/configmaps",
            "application/json",
            map("x").to_string().into(),
            404,
            "NotFound",
        ),
        (
            Method::PATCH,
            "/api/v1/namespaces/default/configmaps/x",
            "application/json",
            "{}".into(),
            415,
            "UnsupportedMediaType",
        ),
        (Method::GET, "/api/v1/namespaces/default/nothings", "", Bytes::new(), 404, "NotFound"),
        (
            Method::POST,
            "/apis/networking.k8s.io/v1/namespaces/default/ingresses",
            "application/json",
            json!({"metadata": {"name": "x"}, "spec": {}}).to_string().into(),
            422,
            "Invalid",
        ),
        (
            Method::GET,
            "/api/v1/namespaces/default/configmaps?resourceVersionMatch=Exact",
            "",
            Bytes::new(),
            422,
            "Invalid",
        ),
    ];
    for (method, path, content_type, body, code, reason) in cases {
        let (got, status) = api.call(method, path, content_type, body).await;
        assert_eq!((got.as_u16(), status["reason"].as_str()), (code, Some(reason)), "{content_type} {path}: {status}");
        assert_eq!(
            (&status["kind"], &status["status"], &status["code"]),
            (&json!("Status"), &json!("Failure"), &json!(code))
        );
    }
    let (_, list) = api.get(MAPS).await;
    assert_eq!(list["items"], json!([]));
    // A refusal speaks the client's language.
    let protobuf = api.with("accept", "application/vnd.kubernetes.protobuf,application/json");
    let answer = protobuf.send(Method::GET, &format!("{MAPS}/x"), "", Bytes::new()).await;
    assert_eq!(answer.headers()["content-type"], "application/vnd.kubernetes.protobuf");
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    let status = xebec_api::codec::decode_any(&bytes).expect("a Status");
    assert_eq!(
        (&status["kind"], &status["code"], &status["reason"]),
        (&json!("Status"), &json!(404), &json!("NotFound"))
    );
}

#[tokio::test]
async fn writes_are_bound_to_the_version_they_name() {
    let Some(world) = World::new() else { return };
    let api = world.client(&world.server().await, Some("admin"));
    let (code, created) = api.post(MAPS, &map("a")).await;
    assert_eq!(code, StatusCode::CREATED, "{created}");
    let one = format!("{MAPS}/a");
    assert_eq!(api.post(MAPS, &map("a")).await.1["reason"], "AlreadyExists");
    let mut newer = created.clone();
    newer["data"]["a"] = json!("2");
    let (code, updated) = api.put(&one, &newer).await;
    assert_eq!(code, StatusCode::OK);
    assert_ne!(updated["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    newer["data"]["a"] = json!("3");
    let (code, status) = api.put(&one, &newer).await;
    assert_eq!((code, &status["reason"]), (StatusCode::CONFLICT, &json!("Conflict")));
    // An update that changes nothing stores nothing.
    let (_, same) = api.put(&one, &updated).await;
    assert_eq!(same["metadata"]["resourceVersion"], updated["metadata"]["resourceVersion"]);
    let (_, dry) = api.merge(&format!("{one}?dryRun=All"), &json!({"data": {"b": "1"}})).await;
    assert_eq!(dry["data"]["b"], "1");
    assert_eq!(api.get(&one).await.1, updated);
    let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}}).to_string();
    let (code, _) = api.call(Method::DELETE, &one, "application/json", body).await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert_eq!(api.delete(&one).await.0, StatusCode::OK);
    assert_eq!(api.get(&one).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn lists_page_at_one_revision_and_watches_resume_where_they_were() {
    let Some(world) = World::new() else { return };
    let api = world.client(&world.server().await, Some("admin"));
    for name in ["a", "b", "c", "d"] {
        assert_eq!(api.post(MAPS, &map(name)).await.0, StatusCode::CREATED);
    }
    let (_, first) = api.get(&format!("{MAPS}?limit=3")).await;
    let token = first["metadata"]["continue"].as_str().expect("more").to_owned();
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    api.delete(&format!("{MAPS}/d")).await;
    let (_, second) = api.get(&format!("{MAPS}?limit=3&continue={token}")).await;
    assert_eq!(second["items"][0]["metadata"]["name"], "d", "the rest is of the same revision");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);

    let (_, list) = api.get(MAPS).await;
    let version = list["metadata"]["resourceVersion"].as_str().expect("a version");
    let path = format!("{MAPS}?watch=1&resourceVersion={version}&labelSelector=show%3Dyes");
    let mut watch = api.lines(Method::GET, &path).await;
    for (name, label) in [("a", json!("yes")), ("a", Value::Null), ("b", json!("yes"))] {
        api.merge(&format!("{MAPS}/{name}"), &json!({"metadata": {"labels": {"show": label}}})).await;
    }
    let mut seen = Vec::new();
    let mut middle = String::new();
    for _ in 0..3 {
        let event = watch.next().await.expect("an event");
        let object = &event["object"]["metadata"];
        if seen.is_empty() {
            middle = object["resourceVersion"].as_str().expect("a version").to_owned();
        }
        seen.push(format!("{} {}", event["type"].as_str().expect("a type"), object["name"].as_str().expect("a name")));
    }
    assert_eq!(seen, ["ADDED a", "DELETED a", "ADDED b"]);
    let mut resumed =
        api.lines(Method::GET, &format!("{MAPS}?watch=1&resourceVersion={middle}&labelSelector=show%3Dyes")).await;
    assert_eq!(resumed.next().await.expect("an event")["type"], "DELETED");
    assert_eq!(resumed.next().await.expect("an event")["object"]["metadata"]["name"], "b");

    let mut gone = api.lines(Method::GET, &format!("{MAPS}?watch=1&resourceVersion=1")).await;
    let event = gone.next().await.expect("an event");
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert!(gone.next().await.is_none());

    let path =
        format!("{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    let mut initial = api.lines(Method::GET, &path).await;
    for _ in 0..3 {
        assert_eq!(initial.next().await.expect("an event")["type"], "ADDED");
    }
    let bookmark = initial.next().await.expect("an event");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn services_created_at_two_servers_never_share_an_address() {
    let Some(world) = World::new() else { return };
    let servers = [world.server().await, world.server().await];
    let apis: Vec<_> = servers.iter().map(|url| world.client(url, Some("admin"))).collect();
    let path = "/api/v1/namespaces/default/services";
    let create = |n: usize| {
        let api = apis[n % 2].clone();
        let ports = json!([{"port": 80}]);
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{n}")},
            "spec": {"type": "NodePort", "ports": ports}});
        async move { api.post(path, &service).await }
    };
    let created = futures::future::join_all((0..24).map(create)).await;
    let mut addresses = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for (code, service) in &created {
        assert_eq!(*code, StatusCode::CREATED, "{service}");
        assert!(addresses.insert(service["spec"]["clusterIP"].to_string()), "{service}");
        assert!(ports.insert(service["spec"]["ports"][0]["nodePort"].to_string()), "{service}");
    }
    // Claims have upstream's form and place, so that a stock API server on the same store respects them.
    assert_eq!(world.claimed_node_ports().await, ports);
    // A number that is held is refused, and free again with its Service.
    let port = created[1].1["spec"]["ports"][0]["nodePort"].clone();
    let wish = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "port"},
        "spec": {"type": "NodePort", "ports": [{"name": "a", "port": 81}, {"name": "b", "port": 80, "nodePort": port}]}});
    let (code, refusal) = apis[0].post(path, &wish).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    let cause = &refusal["details"]["causes"][0];
    assert_eq!(cause["field"], "spec.ports[1].nodePort");
    assert_eq!(cause["message"], format!("Invalid value: {port}: provided port is already allocated"));
    assert_eq!(apis[1].delete(&format!("{path}/s1")).await.0, StatusCode::OK);
    assert!(!world.claimed_node_ports().await.contains(&port.to_string()));
    assert_eq!(apis[0].post(path, &wish).await.0, StatusCode::CREATED);
    // A change of type gives it back.
    let internal = json!({"spec": {"type": "ClusterIP"}});
    assert_eq!(apis[1].merge(&format!("{path}/port"), &internal).await.0, StatusCode::OK);
    assert!(!world.claimed_node_ports().await.contains(&port.to_string()));
    let held = created[0].1["spec"]["clusterIP"].clone();
    let wish = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "wish"},
        "spec": {"clusterIP": held, "ports": [{"port": 80}]}});
    assert_eq!(apis[1].post(path, &wish).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(apis[0].delete(&format!("{path}/s0")).await.0, StatusCode::OK);
    let (code, service) = apis[1].post(path, &wish).await;
    assert_eq!((code, &service["spec"]["clusterIP"]), (StatusCode::CREATED, &held));
}

#[tokio::test]
async fn a_deposed_leader_cannot_write() {
    let Some(world) = World::new() else { return };
    let url = world.server().await;
    let (api, scheduler) = (world.client(&url, Some("admin")), world.client(&url, Some("scheduler")));
    let path = "/xebec.io/v1/leaderships/kube-scheduler";
    assert_eq!(
        world.client(&url, Some("alice")).call(Method::POST, &format!("{path}?identity=x"), "", "").await.0,
        403
    );
    let mut lines = scheduler.lines(Method::POST, &format!("{path}?identity=a")).await;
    let fence = loop {
        let line = lines.next().await.expect("a line");
        if line["state"] == "leading" {
            break line["fence"].as_str().expect("a token").to_owned();
        }
    };
    let leader = api.with("x-xebec-fence", &fence);
    assert_eq!(leader.post(MAPS, &map("led")).await.0, StatusCode::CREATED);
    drop(lines);
    let mut next = scheduler.lines(Method::POST, &format!("{path}?identity=b")).await;
    while next.next().await.expect("a line")["state"] != "leading" {}
    for (code, status) in [leader.post(MAPS, &map("late")).await, leader.delete(&format!("{MAPS}/led")).await] {
        assert_eq!((code, &status["reason"]), (StatusCode::CONFLICT, &json!("LeadershipLost")));
    }
    assert_eq!(api.get(&format!("{MAPS}/late")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(api.get(&format!("{MAPS}/led")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn nobody_gets_in_without_rights() {
    let Some(world) = World::new() else { return };
    let url = world.server().await;
    let api = world.client(&url, Some("admin"));
    world.with_account(&api).await;
    let (anonymous, alice) = (world.client(&url, None), world.client(&url, Some("alice")));
    assert_eq!(anonymous.get(MAPS).await.0, StatusCode::FORBIDDEN);
    assert_eq!(anonymous.get("/version").await.0, StatusCode::OK);
    assert_eq!(anonymous.with("authorization", "Bearer nonsense").get(MAPS).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(alice.get(MAPS).await.0, StatusCode::FORBIDDEN);
    assert_eq!(alice.with("impersonate-user", "kubernetes-admin").get(MAPS).await.0, StatusCode::FORBIDDEN);
    assert_eq!(api.with("impersonate-user", "alice").get(MAPS).await.0, StatusCode::FORBIDDEN);

    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let (code, granted) = api.post(&format!("{accounts}/default/token"), &request).await;
    assert_eq!(code, StatusCode::CREATED, "{granted}");
    let token = format!("Bearer {}", granted["status"]["token"].as_str().expect("a token"));
    let account = anonymous.with("authorization", &token);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (code, review_answer) = account.post(reviews, &review).await;
    assert_eq!(code, StatusCode::CREATED, "{review_answer}");
    assert_eq!(review_answer["status"]["userInfo"]["username"], "system:serviceaccount:default:default");
    // The token dies with the account, even if another of the same name is made.
    assert_eq!(api.delete(&format!("{accounts}/default")).await.0, StatusCode::OK);
    world.with_account(&api).await;
    assert_eq!(account.post(reviews, &review).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn pods_are_bound_once_and_linger_until_the_kubelet_is_done() {
    let Some(world) = World::new() else { return };
    let api = world.client(&world.server().await, Some("admin"));
    world.with_account(&api).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let (code, created) = api.post(pods, &pod).await;
    assert_eq!((code, &created["status"]["phase"]), (StatusCode::CREATED, &json!("Pending")), "{created}");
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let (code, status) = api.post(&format!("{pods}/p/binding"), &binding).await;
    assert_eq!((code, &status["status"]), (StatusCode::CREATED, &json!("Success")), "{status}");
    assert_eq!(api.post(&format!("{pods}/p/binding"), &binding).await.0, StatusCode::CONFLICT);
    let status = json!({"status": {"phase": "Running", "podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}]}});
    let (_, running) = api.merge(&format!("{pods}/p/status"), &status).await;
    assert_eq!((&running["status"]["phase"], &running["spec"]["nodeName"]), (&json!("Running"), &json!("n")));
    let (code, marked) = api.delete(&format!("{pods}/p")).await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(api.get(&format!("{pods}/p")).await.0, StatusCode::OK);
    assert_eq!(api.delete(&format!("{pods}/p?gracePeriodSeconds=0")).await.0, StatusCode::OK);
    assert_eq!(api.get(&format!("{pods}/p")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn protobuf_readers_get_the_same_objects() {
    let Some(world) = World::new() else { return };
    let api = world.client(&world.server().await, Some("admin"));
    let (_, created) = api.post(MAPS, &map("a")).await;
    let protobuf = api.with("accept", "application/vnd.kubernetes.protobuf");
    let bytes_of = |path: String| {
        let protobuf = protobuf.clone();
        async move {
            let answer = protobuf.send(Method::GET, &path, "", Bytes::new()).await;
            assert_eq!(answer.headers()["content-type"], "application/vnd.kubernetes.protobuf");
            answer.into_body().collect().await.expect("a body").to_bytes()
        }
    };
    let one = bytes_of(format!("{MAPS}/a")).await;
    assert_eq!(xebec_api::codec::decode_any(&one).expect("decodable"), created);
    let list = bytes_of(MAPS.to_owned()).await;
    let list = xebec_api::codec::decode_any(&list).expect("decodable");
    assert_eq!((&list["kind"], &list["items"][0]["data"]), (&json!("ConfigMapList"), &created["data"]));
    let mut copy = created.clone();
    copy["metadata"] = json!({"name": "b"});
    let gvk = xebec_api::GroupVersionKind::new("", "v1", "ConfigMap");
    let body = xebec_api::codec::encode_envelope(&gvk, &copy).expect("encodable");
    let (code, _) = api.call(Method::POST, MAPS, "application/vnd.kubernetes.protobuf", body).await;
    assert_eq!(code, StatusCode::CREATED);
    assert_eq!(api.get(&format!("{MAPS}/b")).await.1["data"], created["data"]);
}

#[tokio::test]
async fn only_what_discovery_promises_is_allowed() {
    let Some(world) = World::new() else { return };
    let api = world.client(&world.server().await, Some("admin"));
    let merge = "application/merge-patch+json";
    let cases: [(Method, &str, &str, u16); 7] = [
        // All namespaces at once: upstream has no such verb.
        (Method::DELETE, "/api/v1/namespaces", "", 405),
        (Method::PATCH, "/api/v1/namespaces/default/finalize", merge, 405),
        (Method::POST, "/api/v1/configmaps", "application/json", 405),
        (Method::PUT, MAPS, "application/json", 405),
        (Method::GET, "/apis/authentication.k8s.io/v1/tokenreviews", "", 405),
        (Method::GET, &format!("{MAPS}/a/status"), "", 404),
        (Method::OPTIONS, MAPS, "", 405),
    ];
    for (method, path, content_type, code) in cases {
        let (got, status) = api.call(method.clone(), path, content_type, "{}").await;
        assert_eq!(got.as_u16(), code, "{method} {path}: {status}");
    }
    assert_eq!(api.get("/api/v1/namespaces/default").await.0, StatusCode::OK);

    let (code, components) = api.get("/api/v1/componentstatuses").await;
    assert_eq!(code, StatusCode::OK, "{components}");
    let health =
        |component: &Value| (component["metadata"]["name"].clone(), component["conditions"][0]["status"].clone());
    let seen: Vec<_> = components["items"].as_array().expect("items").iter().map(health).collect();
    // Nobody leads here.
    let expected = [("controller-manager", "False"), ("etcd-0", "True"), ("scheduler", "False")];
    assert_eq!(seen, expected.map(|(name, healthy)| (json!(name), json!(healthy))));
    assert_eq!(api.get("/api/v1/componentstatuses/etcd-0").await.1["conditions"][0]["message"], "ok");
    assert_eq!(api.get("/api/v1/componentstatuses/none").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn events_are_selected_in_both_groups_whichever_is_asked_first() {
    let Some(world) = World::new() else { return };
    let api = world.client(&world.server().await, Some("admin"));
    // Both groups share a cache; the first to ask opens it.
    assert_eq!(api.get("/apis/events.k8s.io/v1/events?resourceVersion=0").await.0, StatusCode::OK);
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "Started",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reportingComponent": "kubelet"});
    let (_, created) = api.post("/api/v1/namespaces/default/events", &event).await;
    let version = created["metadata"]["resourceVersion"].as_str().expect("stored").to_owned();
    for (root, selector) in [
        ("/api/v1", "involvedObject.name%3Dp"),
        ("/api/v1", "source%3Dkubelet"),
        ("/apis/events.k8s.io/v1", "regarding.name%3Dp"),
        ("/apis/events.k8s.io/v1", "reportingController%3Dkubelet"),
    ] {
        // From the cache, and from the store.
        for exactly in ["", "&resourceVersionMatch=Exact"] {
            let path =
                format!("{root}/namespaces/default/events?fieldSelector={selector}&resourceVersion={version}{exactly}");
            let (_, list) = api.get(&path).await;
            assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{path}: {list}");
        }
    }
}

#[tokio::test]
async fn a_scale_is_shown_as_a_scale_and_a_job_leaves_its_pods_behind() {
    let Some(world) = World::new() else { return };
    let api = world.client(&world.server().await, Some("admin"));
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(api.post(deployments, &deployment).await.0, StatusCode::CREATED);
    let tables = api.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let (_, table) = tables.get(&format!("{deployments}/d/scale")).await;
    let titles: Vec<_> =
        table["columnDefinitions"].as_array().expect("columns").iter().map(|c| c["name"].clone()).collect();
    assert_eq!(titles, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(table["rows"][0]["cells"][1], 1);

    let mut pod = template;
    pod["spec"]["restartPolicy"] = json!("Never");
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": pod}});
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    assert_eq!(api.post(jobs, &job).await.0, StatusCode::CREATED);
    let (code, marked) = api.delete(&format!("{jobs}/j")).await;
    assert_eq!((code, &marked["metadata"]["finalizers"]), (StatusCode::OK, &json!(["orphan"])), "{marked}");
}

#[tokio::test]
async fn a_patch_that_makes_no_object_is_invalid_and_nobody_owns_unknown_fields() {
    let Some(world) = World::new() else { return };
    let api = world.client(&world.server().await, Some("admin"));
    assert_eq!(api.post(MAPS, &map("a")).await.0, StatusCode::CREATED);
    let one = format!("{MAPS}/a");
    for (path, patch, words) in [
        (one.clone(), json!({"data": {"a": 1}}), "patch: Invalid value: json: cannot unmarshal"),
        (format!("{one}?fieldValidation=Strict"), json!({"foo": 1}), "strict decoding error: unknown field \"foo\""),
    ] {
        let (code, status) = api.merge(&path, &patch).await;
        assert_eq!((code.as_u16(), &status["reason"]), (422, &json!("Invalid")), "{status}");
        assert!(status["message"].as_str().is_some_and(|message| message.contains(words)), "{status}");
    }
    let apply = |config: Value| {
        let path = format!("{one}?fieldManager=me&force=true");
        let api = api.clone();
        async move { api.call(Method::PATCH, &path, "application/apply-patch+yaml", config.to_string()).await }
    };
    let mut config = map("a");
    config["foo"] = json!(1);
    let (code, status) = apply(config).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    let expected =
        "failed to create typed patch object (default/a; v1, Kind=ConfigMap): .foo: field not declared in schema";
    assert_eq!(status["message"], expected);
    let (code, applied) = apply(map("a")).await;
    assert_eq!(code, StatusCode::OK, "{applied}");
    assert_eq!(applied["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:data": {"f:a": {}}}));
}
