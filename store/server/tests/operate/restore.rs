//! `xebec store snapshot`, `migrate` and `check`.

use std::{fs, path::Path};

use bytes::Bytes;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use xebec_proto::{
    authpb::{Permission, permission::Type},
    etcdserverpb::{
        AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
        AuthUserGrantRoleRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest,
        WatchCreateRequest, WatchRequest, auth_client::AuthClient, kv_client::KvClient, lease_client::LeaseClient,
        watch_client::WatchClient, watch_request::RequestUnion,
    },
    mvccpb::KeyValue,
};
use xebec_store::OperateError;

use crate::{
    etcd::{Etcd, etcdctl, is_installed},
    processes::{Cluster, get, put, wait_for},
    workload::{all_at, assert_same_history, compact, hash_kv, play, revision},
};

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    store: xebec_store::StoreCommand,
}

/// Runs `xebec store ARGUMENTS`.
async fn xebec_store(arguments: &[&str]) -> Result<(), OperateError> {
    let line = <Line as clap::Parser>::try_parse_from(["store"].iter().chain(arguments)).unwrap();
    xebec_store::command(line.store, CancellationToken::new()).await
}

/// Restores every member of a cluster that is not started yet, and starts it.
async fn restore_all(cluster: &mut Cluster, snapshot: &Path, more: &[&str]) {
    let size = cluster.members.len();
    let initial = format!("--initial-cluster={}", cluster.initial_cluster(0..size));
    for number in 0..size {
        let data_dir = format!("--data-dir={}", cluster.data_dir(number).display());
        let (name, peer) = (format!("--name=m{number}"), cluster.peer_url(number));
        let peer = format!("--initial-advertise-peer-urls={peer}");
        let mut arguments = vec!["snapshot", "restore", snapshot.to_str().unwrap(), &data_dir, &name, &initial, &peer];
        arguments.extend(more);
        xebec_store(&arguments).await.unwrap();
        let again = xebec_store(&arguments).await.unwrap_err().to_string();
        assert!(again.contains("not empty"), "{again}");
    }
    (0..size).for_each(|number| cluster.start(number));
    for number in 0..size {
        cluster.ready(number).await;
    }
}

async fn save(cluster: &Cluster, name: &str) -> std::path::PathBuf {
    let snapshot = cluster.dir.path().join(name);
    let endpoints = format!("--endpoints=127.0.0.1:1,{}", cluster.client_url(0));
    xebec_store(&["snapshot", "save", snapshot.to_str().unwrap(), &endpoints]).await.unwrap();
    xebec_store(&["snapshot", "status", snapshot.to_str().unwrap(), "-w", "json"]).await.unwrap();
    snapshot
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_restored_from_one_snapshot_are_a_new_cluster_with_the_same_history() {
    let source = Cluster::new(1);
    source.ready(0).await;
    play(&source.channel(0)).await;
    compact(&source.channel(0), 43).await;
    let snapshot = save(&source, "snapshot.db").await;
    let mut restored = Cluster::prepared(3, &[]);
    restore_all(&mut restored, &snapshot, &[]).await;
    for number in 0..3 {
        assert_same_history(&source.channel(0), &restored.channel(number)).await;
        assert_eq!(hash_kv(&source.channel(0), 0).await, hash_kv(&restored.channel(number), 0).await);
    }
    // It goes on from there, also after all members were killed.
    let before = revision(&restored.channel(0)).await;
    KvClient::new(restored.channel(1)).put(put(b"new", b"value")).await.unwrap();
    (0..3).for_each(|number| restored.kill(number));
    for number in 0..3 {
        let data_dir = format!("--data-dir={}", restored.data_dir(number).display());
        xebec_store(&["check", &data_dir]).await.unwrap();
    }
    (0..3).for_each(|number| restored.start(number));
    for number in 0..3 {
        restored.ready(number).await;
        assert_eq!(revision(&restored.channel(number)).await, before + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bumped_revision_ends_the_watches_of_the_lost_cluster() {
    let source = Cluster::new(1);
    source.ready(0).await;
    play(&source.channel(0)).await;
    let snapshot = save(&source, "snapshot.db").await;
    let last = revision(&source.channel(0)).await;
    let mut restored = Cluster::prepared(1, &[]);
    restore_all(&mut restored, &snapshot, &["--bump-revision=1000000", "--mark-compacted"]).await;
    let channel = restored.channel(0);
    assert_eq!(revision(&channel).await, last + 1_000_000);
    assert_eq!(all_at(&channel, last).await, None, "what was readable there is compacted");
    let found = all_at(&channel, 0).await.unwrap();
    assert_eq!(found.kvs, all_at(&source.channel(0), 0).await.unwrap().kvs);
    let create = WatchCreateRequest { key: Bytes::from_static(b"k"), start_revision: last + 5, ..Default::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let (requests, rx) = tokio::sync::mpsc::channel(1);
    requests.send(request).await.unwrap();
    let mut answers = WatchClient::new(channel).watch(ReceiverStream::new(rx)).await.unwrap().into_inner();
    loop {
        let answer = answers.message().await.unwrap().unwrap();
        assert!(answer.events.is_empty());
        if answer.canceled {
            assert_eq!(answer.compact_revision, last + 1_000_000);
            break;
        }
    }
    // Old versions are gone soon, not only hidden: a new snapshot holds the living ones only.
    wait_for("old versions to go", || async {
        let snapshot = save(&restored, "later.db").await;
        (fs::metadata(snapshot).unwrap().len() < fs::metadata(snapshot_path(&source)).unwrap().len()).then_some(())
    })
    .await;
}

fn snapshot_path(cluster: &Cluster) -> std::path::PathBuf {
    cluster.dir.path().join("snapshot.db")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcds_own_snapshot_and_a_live_etcd_become_xebecs() {
    if !is_installed() {
        return;
    }
    let etcd = Etcd::start().await;
    play(&etcd.channel()).await;
    compact(&etcd.channel(), 43).await;
    let endpoints = format!("--endpoints={}", etcd.url());
    etcdctl(&[&endpoints, "role", "add", "reader"]);
    etcdctl(&[&endpoints, "role", "grant-permission", "reader", "read", "key/", "key0"]);
    etcdctl(&[&endpoints, "user", "add", "ann:secret"]);
    etcdctl(&[&endpoints, "user", "grant-role", "ann", "reader"]);
    let snapshot = etcd.dir.path().join("etcd.db");
    etcdctl(&[&endpoints, "snapshot", "save", snapshot.to_str().unwrap()]);
    let mut restored = Cluster::prepared(1, &[]);
    restore_all(&mut restored, &snapshot, &[]).await;
    assert_same_history(&etcd.channel(), &restored.channel(0)).await;
    assert_eq!(hash_kv(&etcd.channel(), 0).await, hash_kv(&restored.channel(0), 0).await);

    let mut migrated = Cluster::prepared(1, &[]);
    let data_dir = format!("--data-dir={}", migrated.data_dir(0).display());
    let peer = format!("--initial-advertise-peer-urls={}", migrated.peer_url(0));
    let from = format!("--from={}", etcd.url());
    xebec_store(&["migrate", &from, &data_dir, "--name=m0", &peer]).await.unwrap();
    migrated.start(0);
    migrated.ready(0).await;
    assert_same_history(&etcd.channel(), &migrated.channel(0)).await;
    let ours = format!("--endpoints={}", migrated.client_url(0));
    let role = etcdctl(&[&ours, "role", "get", "reader"]);
    assert!(role.contains("[key/, key0)"), "{role}");
    assert!(etcdctl(&[&ours, "user", "get", "ann"]).contains("reader"));
}

/// Turns authentication on: ann may read every key, and is no administrator.
async fn let_ann_read(channel: &Channel) {
    let mut auth = AuthClient::new(channel.clone());
    for (user, role) in [("root", "root"), ("ann", "reader")] {
        let request = AuthUserAddRequest { name: user.into(), password: "secret".into(), ..Default::default() };
        auth.user_add(request).await.unwrap();
        auth.role_add(AuthRoleAddRequest { name: role.into() }).await.unwrap();
        auth.user_grant_role(AuthUserGrantRoleRequest { user: user.into(), role: role.into() }).await.unwrap();
    }
    let everything = Permission { perm_type: Type::Read.into(), key: "\0".into(), range_end: "\0".into() };
    let request = AuthRoleGrantPermissionRequest { name: "reader".into(), perm: Some(everything) };
    auth.role_grant_permission(request).await.unwrap();
    auth.auth_enable(AuthEnableRequest {}).await.unwrap();
}

async fn living(channel: &Channel) -> Vec<KeyValue> {
    let request = RangeRequest { range_end: Bytes::from_static(b"\0"), ..get(b"\0") };
    KvClient::new(channel.clone()).range(request).await.unwrap().into_inner().kvs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_gives_no_snapshot_away_is_copied_key_by_key_and_what_is_lost_is_said() {
    let source = Cluster::new(1);
    source.ready(0).await;
    let channel = source.channel(0);
    play(&channel).await;
    LeaseClient::new(channel.clone()).lease_grant(LeaseGrantRequest { id: 77, ttl: 600 }).await.unwrap();
    let leased = PutRequest { lease: 77, ..put(b"leased", b"value") };
    KvClient::new(channel.clone()).put(leased).await.unwrap();
    let (before, at) = (living(&channel).await, revision(&channel).await);
    let_ann_read(&channel).await;

    let mut copy = Cluster::prepared(1, &[]);
    let data_dir = format!("--data-dir={}", copy.data_dir(0).display());
    let peer = format!("--initial-advertise-peer-urls={}", copy.peer_url(0));
    let from = format!("--from={}", source.client_url(0));
    let mut arguments = vec!["migrate", &from, &data_dir, "--name=m0", &peer, "--user=ann:secret"];
    let refused = xebec_store(&arguments).await.unwrap_err().to_string();
    assert!(refused.contains("permission denied") && refused.contains("--without-history"), "{refused}");
    arguments.push("--without-history");
    xebec_store(&arguments).await.unwrap();
    copy.start(0);
    copy.ready(0).await;
    let copied = copy.channel(0);
    assert_eq!(living(&copied).await, before, "with every revision, version and lease");
    assert!(all_at(&copied, at).await.is_none(), "the history is not there, and nobody is told otherwise");
    assert!(revision(&copied).await > at);
    let request = LeaseTimeToLiveRequest { id: 77, keys: true };
    let life = LeaseClient::new(copied.clone()).lease_time_to_live(request).await.unwrap().into_inner();
    assert!(life.granted_ttl == 600 && life.ttl > 0 && life.keys == ["leased"], "{life:?}");
    KvClient::new(copied.clone()).put(put(b"more", b"value")).await.unwrap();
    copy.kill(0);
    let report = xebec_store_raft::check_data(&copy.data_dir(0));
    assert!(report.problems.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_refused_and_leaves_nothing_that_starts() {
    let source = Cluster::new(1);
    source.ready(0).await;
    play(&source.channel(0)).await;
    let snapshot = save(&source, "snapshot.db").await;
    let mut bytes = fs::read(&snapshot).unwrap();
    bytes[5 * 4096 + 3] ^= 1;
    fs::write(&snapshot, &bytes).unwrap();
    let target = source.dir.path().join("target");
    let data_dir = format!("--data-dir={}", target.display());
    let path = snapshot.to_str().unwrap();
    let refused = xebec_store(&["snapshot", "restore", path, &data_dir]).await.unwrap_err().to_string();
    assert!(refused.contains("expected sha256"), "{refused}");
    let refused = xebec_store(&["snapshot", "restore", path, &data_dir, "--skip-hash-check"]).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains(&format!("{path}: offset {}", 5 * 4096)), "{refused}");
    let refused = xebec_store(&["snapshot", "status", path]).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("offset {}", 5 * 4096)), "{refused}");
    assert!(!target.join("member").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_names_the_first_bad_file_of_log_and_keyspace() {
    let mut cluster = Cluster::new(1);
    cluster.ready(0).await;
    play(&cluster.channel(0)).await;
    let data_dir = format!("--data-dir={}", cluster.data_dir(0).display());
    let running = xebec_store(&["check", &data_dir]).await.unwrap_err();
    assert!(matches!(running, OperateError::Damaged(1)), "the log is in use: {running}");
    cluster.kill(0);
    xebec_store(&["check", &data_dir]).await.unwrap();
    let member = cluster.data_dir(0).join("member");
    let segment = fs::read_dir(member.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.extension().is_some_and(|it| it == "seg")).max().unwrap();
    let sound = fs::read(&segment).unwrap();
    let mut damaged = sound.clone();
    damaged[100] ^= 1;
    fs::write(&segment, &damaged).unwrap();
    let report = xebec_store_raft::check_data(&cluster.data_dir(0));
    assert!(report.problems[0].contains(segment.to_str().unwrap()), "{report:?}");
    assert!(report.problems[0].contains("offset"), "{report:?}");
    assert_eq!(fs::read(&segment).unwrap(), damaged, "nothing is changed");
    fs::write(&segment, &sound).unwrap();
    fs::remove_file(&segment).unwrap();
    let report = xebec_store_raft::check_data(&cluster.data_dir(0));
    assert_eq!(report.problems.len(), 1, "{report:?}");
}
