//! Every call, by nobody, by ann and by root.

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use xebec_proto::etcdserverpb::{self as pb, *};

use crate::{
    identity::{Client, denied, login, nobody, refusal, set_up},
    processes::{Cluster, PATIENCE, get, put},
};

use pb::{
    alarm_request::AlarmAction, cluster_client::ClusterClient, request_op::Request as Op, watch_request::RequestUnion,
};

/// What a call answers to nobody, to ann and to root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Anybody,
    Known,
    Admins,
}

const CALLS: [(&str, For); 38] = [
    ("Range a/1", For::Known),
    ("Range secret", For::Admins),
    ("Range all", For::Admins),
    ("RangeStream a/1", For::Known),
    ("RangeStream secret", For::Admins),
    ("Put a/1", For::Known),
    ("Put secret", For::Admins),
    ("DeleteRange a/", For::Known),
    ("DeleteRange all", For::Admins),
    ("Txn reading a/1", For::Known),
    ("Txn reading secret", For::Admins),
    ("Txn writing a/1", For::Known),
    ("Txn writing secret", For::Admins),
    ("Txn comparing secret", For::Admins),
    ("Compact", For::Admins),
    ("LeaseGrant", For::Known),
    ("LeaseRevoke", For::Known),
    ("LeaseTimeToLive", For::Known),
    ("LeaseLeases", For::Known),
    ("LeaseKeepAlive", For::Known),
    ("MemberList", For::Known),
    ("MemberAdd", For::Admins),
    ("MemberRemove", For::Admins),
    ("MemberUpdate", For::Admins),
    ("MemberPromote", For::Admins),
    ("Alarm get", For::Known),
    ("Alarm deactivate", For::Admins),
    ("Status", For::Known),
    ("Defragment", For::Admins),
    ("Hash", For::Admins),
    ("HashKV", For::Admins),
    ("Snapshot", For::Admins),
    ("MoveLeader", For::Admins),
    ("Downgrade", For::Admins),
    ("AuthStatus", For::Anybody),
    ("UserList", For::Admins),
    ("RoleList", For::Admins),
    ("UserGet ann", For::Known),
];

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn all() -> RangeRequest {
    RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() }
}

async fn kv_call(client: &Client, name: &str) -> Result<(), Status> {
    let mut kv = client.kv();
    let txn = |compare, success| TxnRequest { compare, success, failure: Vec::new() };
    let key = name.rsplit(' ').next().unwrap().as_bytes();
    match name {
        "Range all" => kv.range(all()).await.map(|_| ()),
        "DeleteRange all" => {
            let request = DeleteRangeRequest { key: vec![0].into(), range_end: vec![0].into(), prev_kv: false };
            kv.delete_range(request).await.map(|_| ())
        }
        "DeleteRange a/" => {
            let request = DeleteRangeRequest { key: "a/".into(), range_end: "a0".into(), prev_kv: true };
            kv.delete_range(request).await.map(|_| ())
        }
        _ if name.starts_with("Range ") => kv.range(get(key)).await.map(|_| ()),
        _ if name.starts_with("RangeStream") => {
            let mut chunks = kv.range_stream(get(key)).await?.into_inner();
            chunks.message().await.map(|_| ())
        }
        _ if name.starts_with("Put") => kv.put(put(key, b"v")).await.map(|_| ()),
        _ if name.starts_with("Txn reading") => {
            kv.txn(txn(Vec::new(), vec![op(Op::RequestRange(get(key)))])).await.map(|_| ())
        }
        _ if name.starts_with("Txn writing") => {
            kv.txn(txn(Vec::new(), vec![op(Op::RequestPut(put(key, b"v")))])).await.map(|_| ())
        }
        _ if name.starts_with("Txn comparing") => {
            let compare = Compare { key: key.to_vec().into(), ..Default::default() };
            kv.txn(txn(vec![compare], vec![op(Op::RequestPut(put(b"a/1", b"v")))])).await.map(|_| ())
        }
        _ => panic!("{name}"),
    }
}

async fn lease_call(client: &Client, name: &str) -> Result<(), Status> {
    let mut leases = client.lease();
    match name {
        "LeaseGrant" => leases.lease_grant(LeaseGrantRequest { ttl: 60, id: 0 }).await.map(|_| ()),
        "LeaseRevoke" => leases.lease_revoke(LeaseRevokeRequest { id: 404 }).await.map(|_| ()),
        "LeaseTimeToLive" => {
            leases.lease_time_to_live(LeaseTimeToLiveRequest { id: 404, keys: true }).await.map(|_| ())
        }
        "LeaseLeases" => leases.lease_leases(LeaseLeasesRequest {}).await.map(|_| ()),
        "LeaseKeepAlive" => keep_alive(client, 404).await.map(|_| ()),
        _ => panic!("{name}"),
    }
}

async fn keep_alive(client: &Client, id: i64) -> Result<i64, Status> {
    let requests = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
    let mut answers = client.lease().lease_keep_alive(requests).await?.into_inner();
    Ok(answers.message().await?.unwrap().ttl)
}

async fn call(client: &Client, name: &str) -> Result<(), Status> {
    let mut members = ClusterClient::with_interceptor(client.channel.clone(), client.bearer.clone());
    let mut maintenance = client.maintenance();
    let mut auth = client.auth();
    let alarm = |action: AlarmAction| AlarmRequest { action: action.into(), member_id: 0, alarm: 1 };
    match name {
        "Compact" => client.kv().compact(CompactionRequest { revision: 1, physical: false }).await.map(|_| ()),
        "MemberList" => members.member_list(MemberListRequest { linearizable: true }).await.map(|_| ()),
        "MemberAdd" => members.member_add(MemberAddRequest::default()).await.map(|_| ()),
        "MemberRemove" => members.member_remove(MemberRemoveRequest { id: 404 }).await.map(|_| ()),
        "MemberUpdate" => {
            members.member_update(MemberUpdateRequest { id: 404, ..Default::default() }).await.map(|_| ())
        }
        "MemberPromote" => members.member_promote(MemberPromoteRequest { id: 404 }).await.map(|_| ()),
        "Alarm get" => maintenance.alarm(alarm(AlarmAction::Get)).await.map(|_| ()),
        "Alarm deactivate" => maintenance.alarm(alarm(AlarmAction::Deactivate)).await.map(|_| ()),
        "Status" => maintenance.status(StatusRequest {}).await.map(|_| ()),
        "Defragment" => maintenance.defragment(DefragmentRequest {}).await.map(|_| ()),
        "Hash" => maintenance.hash(HashRequest {}).await.map(|_| ()),
        "HashKV" => maintenance.hash_kv(HashKvRequest::default()).await.map(|_| ()),
        "Snapshot" => maintenance.snapshot(SnapshotRequest {}).await?.into_inner().message().await.map(|_| ()),
        "MoveLeader" => maintenance.move_leader(MoveLeaderRequest { target_id: 404 }).await.map(|_| ()),
        "Downgrade" => maintenance.downgrade(DowngradeRequest::default()).await.map(|_| ()),
        "AuthStatus" => auth.auth_status(AuthStatusRequest {}).await.map(|_| ()),
        "UserList" => auth.user_list(AuthUserListRequest {}).await.map(|_| ()),
        "RoleList" => auth.role_list(AuthRoleListRequest {}).await.map(|_| ()),
        "UserGet ann" => auth.user_get(AuthUserGetRequest { name: "ann".into() }).await.map(|_| ()),
        _ if name.starts_with("Lease") => lease_call(client, name).await,
        _ => kv_call(client, name).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_asks_who_calls() {
    let cluster = Cluster::with_flags(1, &["--bcrypt-cost=4"]);
    set_up(&cluster).await;
    let (root, ann) = (login(&cluster, 0, "root").await.unwrap(), login(&cluster, 0, "ann").await.unwrap());
    let callers = [None, Some(&ann), Some(&root)].map(|token| Client::new(&cluster, 0, token.map(String::as_str)));
    let is_refusal = |refused: &Option<(Code, String)>| *refused == nobody() || *refused == denied();
    let mut wrong = Vec::new();
    for (name, whom) in CALLS {
        let [by_nobody, by_ann, by_root] = [
            refusal(call(&callers[0], name).await),
            refusal(call(&callers[1], name).await),
            refusal(call(&callers[2], name).await),
        ];
        // Whoever may call may still be told that what they ask for makes no sense.
        let right = match whom {
            For::Anybody => !is_refusal(&by_nobody) && !is_refusal(&by_ann),
            For::Known => by_nobody == nobody() && !is_refusal(&by_ann),
            For::Admins => by_nobody == nobody() && by_ann == denied(),
        };
        if !right || is_refusal(&by_root) {
            wrong.push(format!("{name} is for {whom:?}: nobody {by_nobody:?}, ann {by_ann:?}, root {by_root:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

struct Watching {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Watching {
    async fn of(client: &Client) -> Self {
        let (requests, rx) = mpsc::channel(4);
        let responses = client.watch().watch(ReceiverStream::new(rx)).await.unwrap().into_inner();
        Self { requests, responses }
    }

    async fn create(&mut self, key: &str) -> WatchResponse {
        let request = WatchCreateRequest { key: key.as_bytes().to_vec().into(), ..Default::default() };
        self.requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }).await.unwrap();
        self.next().await
    }

    async fn next(&mut self) -> WatchResponse {
        timeout(PATIENCE, self.responses.message()).await.unwrap().unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_is_checked_when_it_is_made_and_outlives_what_comes_then() {
    let cluster = Cluster::with_flags(1, &["--bcrypt-cost=4"]);
    cluster.ready(0).await;
    let mut before = Watching::of(&Client::new(&cluster, 0, None)).await;
    assert!(before.create("a/1").await.created);
    set_up(&cluster).await;
    let root = Client::new(&cluster, 0, Some(&login(&cluster, 0, "root").await.unwrap()));
    let ann = Client::new(&cluster, 0, Some(&login(&cluster, 0, "ann").await.unwrap()));
    let refused = [
        (
            Client::new(&cluster, 0, None),
            "a/1",
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
        ),
        (ann.clone(), "secret", "rpc error: code = PermissionDenied desc = etcdserver: permission denied"),
        (
            Client::new(&cluster, 0, Some("never")),
            "a/1",
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
        ),
    ];
    for (client, key, reason) in refused {
        let response = Watching::of(&client).await.create(key).await;
        assert_eq!((response.watch_id, response.created, response.canceled), (-1, true, true));
        assert_eq!(response.cancel_reason, reason);
    }
    let mut watching = Watching::of(&ann).await;
    let created = watching.create("a/1").await;
    assert!(created.created && !created.canceled);
    root.revoke("ann", "app").await.unwrap();
    root.put("a/1").await.unwrap();
    root.auth().auth_disable(AuthDisableRequest {}).await.unwrap();
    Client::new(&cluster, 0, None).put("a/1").await.unwrap();
    for watching in [&mut before, &mut watching] {
        let mut events = 0;
        while events < 2 {
            events += watching.next().await.events.len();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_as_guarded_as_its_keys() {
    let cluster = Cluster::with_flags(1, &["--bcrypt-cost=4"]);
    set_up(&cluster).await;
    let root = Client::new(&cluster, 0, Some(&login(&cluster, 0, "root").await.unwrap()));
    let ann = Client::new(&cluster, 0, Some(&login(&cluster, 0, "ann").await.unwrap()));
    let id = ann.lease().lease_grant(LeaseGrantRequest { ttl: 60, id: 0 }).await.unwrap().into_inner().id;
    let leased = |key: &str| PutRequest { lease: id, ..put(key.as_bytes(), b"v") };
    ann.kv().put(leased("a/1")).await.unwrap();
    assert_eq!(keep_alive(&ann, id).await.unwrap(), 60);
    root.kv().put(leased("secret")).await.unwrap();
    let life = |keys| LeaseTimeToLiveRequest { id, keys };
    assert_eq!(refusal(keep_alive(&ann, id).await), denied());
    assert_eq!(refusal(ann.lease().lease_time_to_live(life(true)).await), denied());
    assert_eq!(refusal(ann.lease().lease_leases(LeaseLeasesRequest {}).await), denied());
    assert_eq!(refusal(ann.lease().lease_revoke(LeaseRevokeRequest { id }).await), denied());
    assert_eq!(refusal(ann.kv().put(leased("a/2")).await), denied());
    // Without its keys, the time it has left is for everybody known.
    assert_eq!(ann.lease().lease_time_to_live(life(false)).await.unwrap().into_inner().granted_ttl, 60);
    let seen = root.lease().lease_time_to_live(life(true)).await.unwrap().into_inner();
    assert_eq!(seen.keys, ["a/1", "secret"]);
    root.lease().lease_revoke(LeaseRevokeRequest { id }).await.unwrap();
    assert!(ann.kv().range(get(b"a/1")).await.unwrap().into_inner().kvs.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_leases_are_revoked_while_authentication_is_on() {
    let cluster = Cluster::with_flags(1, &["--bcrypt-cost=4"]);
    set_up(&cluster).await;
    let ann = Client::new(&cluster, 0, Some(&login(&cluster, 0, "ann").await.unwrap()));
    let id = ann.lease().lease_grant(LeaseGrantRequest { ttl: 1, id: 0 }).await.unwrap().into_inner().id;
    let mut watching = Watching::of(&ann).await;
    assert!(watching.create("a/1").await.created);
    ann.kv().put(PutRequest { lease: id, ..put(b"a/1", b"v") }).await.unwrap();
    assert_eq!(watching.next().await.events[0].r#type, 0);
    assert_eq!(watching.next().await.events[0].r#type, 1);
}
