//! Space, corruption, compaction by itself, downgrades.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use bytes::Bytes;
use futures::StreamExt;
use tonic::{Code, Status, Streaming, transport::Channel};
use xebec_proto::etcdserverpb::{
    AlarmRequest, AuthEnableRequest, AuthRoleAddRequest, AuthUserAddRequest, AuthUserGrantRoleRequest,
    AuthenticateRequest, DefragmentRequest, DeleteRangeRequest, DowngradeRequest, MemberAddRequest, PutRequest,
    RangeRequest, StatusRequest, StatusResponse, WatchCreateRequest, WatchRequest, WatchResponse,
    auth_client::AuthClient, cluster_client::ClusterClient, downgrade_request::DowngradeAction, kv_client::KvClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient, watch_request::RequestUnion,
};

use crate::{
    processes::{Cluster, get, put, wait_for},
    workload::{all_at, compact, play, revision},
};

const VALUE_BYTES: usize = 512 * 1024;
/// Of the values on a full disk so many are deleted, a few at a time.
const DELETED: usize = 120;
const DELETED_AT_ONCE: usize = 20;
/// Of the disk that is filled.
const DISK: &str = "size=256m";

/// Bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..VALUE_BYTES / 8).flat_map(|_| next().to_le_bytes()).collect()
}

/// Puts large values until they are refused for want of space: how many were acknowledged.
async fn fill(channel: &Channel, limit: usize) -> usize {
    let mut kv = KvClient::new(channel.clone());
    for number in 0..limit {
        let request = put(format!("fill/{number:05}").as_bytes(), &noise(number as u64));
        if let Err(status) = kv.put(request).await {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
            assert_eq!(status.message(), "etcdserver: mvcc: database space exceeded");
            return number;
        }
    }
    panic!("{limit} values were taken");
}

async fn count(channel: &Channel) -> i64 {
    let request = RangeRequest { range_end: Bytes::from_static(b"\0"), count_only: true, ..get(b"\0") };
    KvClient::new(channel.clone()).range(request).await.unwrap().into_inner().count
}

async fn try_delete(channel: &Channel, from: &str, to: &str) -> Result<i64, Status> {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let request = DeleteRangeRequest { key: bytes(from), range_end: bytes(to), prev_kv: false };
    Ok(KvClient::new(channel.clone()).delete_range(request).await?.into_inner().deleted)
}

async fn delete(channel: &Channel, from: &str, to: &str) {
    try_delete(channel, from, to).await.unwrap();
}

async fn status(channel: &Channel) -> StatusResponse {
    MaintenanceClient::new(channel.clone()).status(StatusRequest {}).await.unwrap().into_inner()
}

async fn writes_again(channel: &Channel) {
    wait_for("writes to be taken again", || async {
        KvClient::new(channel.clone()).put(put(b"again", b"value")).await.ok()
    })
    .await;
    let alarms = MaintenanceClient::new(channel.clone()).alarm(AlarmRequest::default()).await.unwrap();
    assert!(alarms.get_ref().alarms.is_empty());
}

/// A small file system, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path) -> Option<SmallDisk> {
        fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk(path.to_owned())),
            _ => {
                eprintln!("passed over: cannot mount a small file system here (needs root)");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().unwrap();
    }
}

/// Appends to a file until nothing goes in any more.
fn fill_up(path: &Path) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    for piece in [64 * 1024, 4 * 1024, 1] {
        while file.write_all(&vec![1; piece]).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_serves_reads_loses_nothing_and_recovers() {
    let mut cluster = Cluster::prepared(1, &[]);
    let Some(disk) = SmallDisk::mount(&cluster.data_dir(0)) else { return };
    cluster.start(0);
    cluster.ready(0).await;
    let channel = cluster.channel(0);
    let taken = fill(&channel, 1_000).await;
    assert!(taken > 150, "{taken}");
    assert_eq!(count(&channel).await, taken as i64);
    // Somebody else takes the rest.
    let filler = disk.0.join("filler");
    fill_up(&filler);
    assert_eq!(count(&channel).await, taken as i64, "reads go on");
    let refused = KvClient::new(channel.clone()).put(put(b"more", b"value")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    // Deletions and compaction pass, on the reserve.
    for number in 0..5 {
        let key = format!("fill/{number:05}");
        wait_for("a deletion", || async { try_delete(&channel, &key, "").await.ok() }).await;
    }
    compact(&channel, revision(&channel).await).await;
    assert_eq!(count(&channel).await, taken as i64 - 5);
    // Not even a crash loses anything, nor does a start on a full disk.
    cluster.kill(0);
    fill_up(&filler);
    cluster.start(0);
    cluster.ready(0).await;
    assert_eq!(count(&channel).await, taken as i64 - 5);
    let refused = KvClient::new(channel.clone()).put(put(b"more", b"value")).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded")
    );
    fs::remove_file(&filler).unwrap();
    // What is deleted takes its space twice until it is compacted: all at once there is no room for that.
    let refused = try_delete(&channel, "fill/", "fill0").await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: mvcc: database space exceeded");
    for number in (0..DELETED).step_by(DELETED_AT_ONCE) {
        let (from, to) = (format!("fill/{number:05}"), format!("fill/{:05}", number + DELETED_AT_ONCE));
        wait_for("room for a deletion", || async { try_delete(&channel, &from, &to).await.ok() }).await;
        compact(&channel, revision(&channel).await).await;
    }
    writes_again(&channel).await;
    assert_eq!(count(&channel).await, (taken - DELETED) as i64 + 1);
    for number in DELETED..taken {
        let key = format!("fill/{number:05}");
        let read = KvClient::new(channel.clone()).range(get(key.as_bytes())).await.unwrap().into_inner();
        assert!(read.kvs[0].value == noise(number as u64), "{key}");
    }
    cluster.kill(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_counts_live_bytes_and_its_alarm_ends_when_they_are_gone() {
    let cluster = Cluster::with_flags(1, &["--quota-backend-bytes=20000000"]);
    cluster.ready(0).await;
    let channel = cluster.channel(0);
    let taken = fill(&channel, 500).await;
    // What is not flushed yet is measured roughly: a write buffer may go over.
    assert!((20..400).contains(&taken), "{taken}");
    let full = status(&channel).await;
    assert!(full.errors.iter().any(|error| error.contains("NOSPACE")), "{full:?}");
    assert_eq!(full.db_size_quota, 20_000_000);
    delete(&channel, "fill/", "fill0").await;
    compact(&channel, revision(&channel).await).await;
    writes_again(&channel).await;
    let after = status(&channel).await;
    assert!(after.errors.is_empty() && after.db_size_in_use < 18_000_000, "{after:?}");
}

/// A watch of a key, which has been made.
async fn watch(channel: &Channel, key: &[u8]) -> Streaming<WatchResponse> {
    let create = WatchCreateRequest { key: Bytes::copy_from_slice(key), ..Default::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = futures::stream::iter([request]).chain(futures::stream::pending());
    let mut responses = WatchClient::new(channel.clone()).watch(requests).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().unwrap().created);
    responses
}

/// Changes the value of a key behind the keyspace's back.
fn tamper(data_dir: &Path, key: &[u8]) {
    let keyspace = data_dir.join("member/keyspace");
    let database = fs::read_dir(&keyspace).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    let (database, options) = (database.unwrap(), rocksdb::Options::default());
    let columns = rocksdb::DB::list_cf(&options, &database).unwrap();
    let db = rocksdb::DB::open_cf(&options, &database, &columns).unwrap();
    let current = db.cf_handle("current").unwrap();
    let mut value = db.get_cf(current, key).unwrap().expect("the key is on disk");
    *value.last_mut().unwrap() ^= 1;
    db.put_cf(current, key, value).unwrap();
    db.flush_cf(current).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_data_was_changed_is_found_out_and_stops_serving() {
    // No flag asks for it: members compare what they hold in any case.
    let mut cluster = Cluster::new(3);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    let (sound, victim) = (cluster.channel(0), cluster.channel(2));
    let mut kv = KvClient::new(sound.clone());
    for number in 0..100 {
        kv.put(put(format!("k{number}").as_bytes(), b"value")).await.unwrap();
    }
    cluster.ready(2).await;
    // A start without the log's replay: the keys are on the victim's disk when its marker says so.
    overwrite(&sound).await;
    cluster.ready(2).await;
    let tables = cluster.data_dir(2).join("member/keyspace/db-1");
    let tables = || fs::read_dir(&tables).unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let begun = tables().filter(|path| path.extension().is_some_and(|it| it == "sst")).count();
    MaintenanceClient::new(victim.clone()).defragment(DefragmentRequest {}).await.unwrap();
    wait_for("tables", || async {
        let now = tables().filter(|path| path.extension().is_some_and(|it| it == "sst")).count();
        (now != begun).then_some(())
    })
    .await;
    cluster.kill(2);
    tamper(&cluster.data_dir(2), b"k7");
    let report = xebec_store_raft::check_data(&cluster.data_dir(2));
    assert!(report.problems.iter().any(|problem| problem.contains("digest")), "{report:?}");
    // With the flag it does not even start.
    let initial = format!("--initial-cluster={}", cluster.initial_cluster(0..3));
    cluster.start_with(2, &[initial, "--initial-corrupt-check".to_owned()]);
    assert!(!cluster.ended(2).await.success());
    assert!(cluster.log(2).contains("this member's data is corrupt"), "{}", cluster.log(2));
    // Without it, the first command that meets the change tells it from the others.
    cluster.start(2);
    cluster.ready(2).await;
    let mut watching = watch(&victim, b"unwritten").await;
    kv.put(put(b"k7", b"new")).await.unwrap();
    wait_for("the member to stop serving", || async {
        let answer = KvClient::new(victim.clone()).range(get(b"k1")).await;
        answer.err().filter(|status| status.code() == Code::DataLoss).map(|status| {
            assert_eq!(status.message(), "etcdserver: corrupt cluster");
        })
    })
    .await;
    let alarm = wait_for("the alarm", || async {
        let answer = MaintenanceClient::new(sound.clone()).alarm(AlarmRequest::default()).await.unwrap();
        answer.into_inner().alarms.first().cloned()
    })
    .await;
    // As in etcd, who asks what ails it is told.
    let ill = status(&victim).await;
    assert_eq!((alarm.member_id, alarm.alarm), (ill.header.unwrap().member_id, 2));
    wait_for("the victim to name its alarm", || async {
        let told = format!("memberID:{} alarm:CORRUPT ", alarm.member_id);
        status(&victim).await.errors.contains(&told).then_some(())
    })
    .await;
    let watched = watching.message().await.unwrap_err();
    assert_eq!((watched.code(), watched.message()), (Code::DataLoss, "etcdserver: corrupt cluster"));
    assert!(kv.range(get(b"k1")).await.is_ok(), "the others go on serving what they have");
    let refused = kv.put(PutRequest { ..put(b"k1", b"x") }).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::DataLoss, "etcdserver: corrupt cluster"));
}

/// Waits until a member has found, so many times since its first start, that `members` voters hold the same.
async fn agrees(cluster: &Cluster, number: usize, members: usize, times: usize) {
    let text = "the members hold the same";
    let count = format!("members={members}");
    wait_for("members that hold the same", || async {
        KvClient::new(cluster.channel(1)).put(put(b"tick", b"tock")).await.ok();
        let log = cluster.log(number);
        let found = log.lines().filter(|line| line.contains(text) && line.contains(&count)).count();
        (found >= times).then_some(())
    })
    .await;
}

/// More than a log is kept for, in few keys.
async fn overwrite(channel: &Channel) {
    let mut kv = KvClient::new(channel.clone());
    for number in 0..150u64 {
        kv.put(put(format!("large/{}", number % 10).as_bytes(), &noise(number))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_agree_through_compactions_restarts_snapshots_and_new_members() {
    let mut cluster = Cluster::with_flags(3, &["--corrupt-check-time=1s"]);
    for number in 0..3 {
        cluster.ready(number).await;
    }
    let channel = cluster.channel(1);
    play(&channel).await;
    for number in 0..3 {
        agrees(&cluster, number, 3, 1).await;
    }
    // One is behind, while the others compact and shorten their logs.
    cluster.kill(2);
    overwrite(&channel).await;
    compact(&channel, revision(&channel).await - 20).await;
    overwrite(&channel).await;
    cluster.start(2);
    agrees(&cluster, 2, 3, 2).await;
    // All but one lose what they had in memory.
    for number in [0, 2] {
        cluster.kill(number);
        cluster.start(number);
        cluster.ready(number).await;
    }
    agrees(&cluster, 0, 3, 2).await;
    let fourth = cluster.add_slot();
    let request = MemberAddRequest { peer_ur_ls: vec![cluster.peer_url(fourth)], is_learner: false };
    wait_for("a fourth member to be welcome", || async {
        ClusterClient::new(channel.clone()).member_add(request.clone()).await.ok()
    })
    .await;
    cluster.join(fourth, &[0, 1, 2, fourth]);
    cluster.ready(fourth).await;
    agrees(&cluster, fourth, 4, 1).await;
    compact(&channel, revision(&channel).await).await;
    cluster.kill(fourth);
    cluster.start_with(fourth, &[]);
    agrees(&cluster, fourth, 4, 2).await;
    let alarms = MaintenanceClient::new(channel.clone()).alarm(AlarmRequest::default()).await.unwrap();
    assert!(alarms.get_ref().alarms.is_empty(), "{alarms:?}");
    for number in 0..4 {
        let log = cluster.log(number);
        assert!(!log.contains("data is corrupt") && !log.contains("differs from the majority"), "{log}");
        assert!(log.contains("the living data is what was written"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_compacts_by_itself() {
    let cluster = Cluster::with_flags(1, &["--auto-compaction-mode=periodic", "--auto-compaction-retention=1s"]);
    cluster.ready(0).await;
    let channel = cluster.channel(0);
    let mut kv = KvClient::new(channel.clone());
    for number in 0..20 {
        kv.put(put(b"key", format!("{number}").as_bytes())).await.unwrap();
    }
    wait_for("history to go", || async {
        kv.clone().put(put(b"other", b"value")).await.unwrap();
        all_at(&channel, 10).await.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_compacts_by_itself_while_authentication_is_on() {
    let cluster = Cluster::with_flags(1, &["--auto-compaction-mode=periodic", "--auto-compaction-retention=1s"]);
    cluster.ready(0).await;
    let channel = cluster.channel(0);
    let mut auth = AuthClient::new(channel.clone());
    let user = AuthUserAddRequest { name: "root".into(), password: "pw".into(), ..Default::default() };
    auth.user_add(user).await.unwrap();
    auth.role_add(AuthRoleAddRequest { name: "root".into() }).await.unwrap();
    auth.user_grant_role(AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() }).await.unwrap();
    auth.auth_enable(AuthEnableRequest {}).await.unwrap();
    let who = AuthenticateRequest { name: "root".into(), password: "pw".into() };
    let token = auth.authenticate(who).await.unwrap().into_inner().token;
    let mut kv = KvClient::new(channel.clone());
    let mut last = 0;
    for number in 0..20 {
        let mut request = tonic::Request::new(put(b"key", format!("{number}").as_bytes()));
        request.metadata_mut().insert("token", token.parse().unwrap());
        last = kv.put(request).await.unwrap().into_inner().header.unwrap().revision;
    }
    let compacted = format!("revision={last}");
    wait_for("a compaction", || async {
        let log = cluster.log(0);
        log.lines().any(|line| line.contains("compacted by itself") && line.contains(&compacted)).then_some(())
    })
    .await;
    assert!(!cluster.log(0).contains("compaction was refused"), "{}", cluster.log(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_downgrade_is_one_minor_version_and_can_be_called_off() {
    let cluster = Cluster::new(1);
    cluster.ready(0).await;
    let channel = cluster.channel(0);
    let now = status(&channel).await.storage_version;
    let minor: u64 = now.split('.').nth(1).unwrap().parse().unwrap();
    let ask = async |action: DowngradeAction, version: String| {
        let request = DowngradeRequest { action: action.into(), version };
        MaintenanceClient::new(channel.clone()).downgrade(request).await.map(|response| response.into_inner().version)
    };
    let below = format!("3.{}.0", minor - 1);
    let refused = ask(DowngradeAction::Validate, format!("3.{}.0", minor - 2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(ask(DowngradeAction::Validate, below.clone()).await.unwrap(), format!("3.{minor}"));
    assert_eq!(ask(DowngradeAction::Enable, below.clone()).await.unwrap(), format!("3.{}", minor - 1));
    let under_way = status(&channel).await;
    assert_eq!(under_way.storage_version, below);
    let info = under_way.downgrade_info.unwrap();
    assert!(info.enabled && info.target_version == below);
    ask(DowngradeAction::Cancel, String::new()).await.unwrap();
    let after = status(&channel).await;
    assert_eq!((after.storage_version, after.downgrade_info.unwrap().enabled), (now, false));
}
