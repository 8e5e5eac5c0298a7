//! Commands and commits that the tests share.

use bytes::Bytes;
use proptest::prelude::*;
use xebec_store_core::auth::{AuthCommand, Caller, Permission, PermissionKind};
use xebec_store_core::{
    Alarm, AlarmKind, Applied, ClusterTime, Command, DeleteRange, KeyRange, LeaseGrant, LeaseId, LeaseRevoke,
    LogPosition, Op, Put, Range, ReadView, Revision, Txn, apply, apply_all,
};
use xebec_store_disk::{Keyspace, Options};

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn put(key: &str, value: &str) -> Command {
    Command::Put(Put { key: bytes(key), value: bytes(value), ..Put::default() })
}

pub fn delete(key: &str) -> Command {
    Command::DeleteRange(DeleteRange { range: KeyRange::Key(bytes(key)), prev_kv: false })
}

pub fn compact(revision: i64) -> Command {
    Command::Compact { revision: Revision(revision) }
}

pub fn at(index: u64) -> LogPosition {
    LogPosition { term: 1, node: 0, index }
}

pub fn open(dir: &std::path::Path) -> Keyspace {
    Keyspace::open(dir, Options::default()).unwrap()
}

/// Applies and commits commands as the next log entry.
pub fn commit(keyspace: &Keyspace, commands: &[Command]) -> Vec<Applied> {
    let view = keyspace.view();
    let applied = apply_all(view.as_ref(), commands).unwrap();
    let index = view.position().map_or(1, |position| position.index + 1);
    keyspace.commit(at(index), None, &applied).unwrap();
    applied
}

/// The key-values of a range at a revision.
pub fn read(view: &dyn ReadView, range: &KeyRange, revision: Revision) -> Vec<xebec_store_core::KeyValue> {
    let mut found = Vec::new();
    view.scan(range, revision, &mut |kv| {
        found.push(kv);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    found
}

pub fn value(keyspace: &Keyspace, key: &str) -> Option<Bytes> {
    let view = keyspace.view();
    view.get(key.as_bytes(), view.current_revision()).unwrap().map(|kv| kv.value)
}

/// Everything there is to read, for comparisons.
pub fn everything(view: &dyn ReadView) -> String {
    let mut text = String::new();
    for revision in view.compacted_revision().0.max(1)..=view.current_revision().0 {
        text.push_str(&format!("{revision}: {:?}\n", read(view, &KeyRange::all(), Revision(revision))));
    }
    let leases = view.leases().unwrap();
    for lease in &leases {
        text.push_str(&format!("{lease:?}: {:?}\n", view.lease_keys(lease.id).unwrap()));
    }
    let records = view.cluster_records("").unwrap();
    text.push_str(&format!("{:?} {:?} {records:?}\n", view.alarms(), view.cluster_time()));
    let auth = view.auth();
    let (users, roles, tokens) = (auth.users(), auth.roles(), auth.tokens());
    text.push_str(&format!(
        "{} {} {:?} {:?} {:?}\n",
        auth.is_enabled(),
        auth.revision(),
        users.collect::<Vec<_>>(),
        roles.collect::<Vec<_>>(),
        tokens.collect::<Vec<_>>()
    ));
    text
}

/// A change of users or roles. None turns authentication on, which would refuse nearly all that follows.
fn auth_command() -> impl Strategy<Value = AuthCommand> {
    let permission = |(key, kind)| Permission { kind, key, range_end: Bytes::new() };
    let kind = prop::sample::select(vec![PermissionKind::Read, PermissionKind::ReadWrite]);
    prop_oneof![
        "[uv]".prop_map(|name| AuthCommand::UserAdd { name, password: None }),
        "[uv]".prop_map(|name| AuthCommand::UserDelete { name }),
        "[rs]".prop_map(|name| AuthCommand::RoleAdd { name }),
        "[rs]".prop_map(|name| AuthCommand::RoleDelete { name }),
        ("[uv]", "[rs]").prop_map(|(user, role)| AuthCommand::UserGrantRole { user, role }),
        ("[rs]", (key(), kind).prop_map(permission))
            .prop_map(|(role, permission)| AuthCommand::RoleGrantPermission { role, permission: Some(permission) }),
    ]
}

const KEYS: [&[u8]; 7] = [b"a", b"a\0", b"a\0\xff", b"a\0\x01", b"ab", b"b", b"\xff"];

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(KEYS.to_vec()).prop_map(Bytes::from_static)
}

pub fn range() -> impl Strategy<Value = KeyRange> {
    let ends: Vec<&'static [u8]> = vec![b"", b"", b"a\0\xff", b"b", b"\xff", b"\0"];
    (key(), prop::sample::select(ends)).prop_map(|(start, end)| KeyRange::from_wire(start, Bytes::from_static(end)))
}

fn any_put() -> impl Strategy<Value = Put> {
    (key(), "[xyz]{0,3}", 0i64..4).prop_map(|(key, value, lease)| Put {
        key,
        value: Bytes::from(value),
        lease: LeaseId(lease),
        ..Put::default()
    })
}

pub fn command() -> impl Strategy<Value = Command> {
    let deletion = || range().prop_map(|range| DeleteRange { range, prev_kv: false });
    let ops = prop_oneof![
        any_put().prop_map(Op::Put),
        deletion().prop_map(Op::DeleteRange),
        range().prop_map(|range| Op::Range(Range::new(range))),
    ];
    prop_oneof![
        6 => any_put().prop_map(Command::Put),
        2 => deletion().prop_map(Command::DeleteRange),
        // Some are invalid, and refused when applied.
        3 => prop::collection::vec(ops, 0..4).prop_map(|success| Command::Txn(Txn { success, ..Txn::default() })),
        2 => (1i64..4, 0u64..9).prop_map(|(id, now)| {
            Command::LeaseGrant(LeaseGrant { id: LeaseId(id), ttl_seconds: 10, now: ClusterTime(now) })
        }),
        1 => (1i64..4).prop_map(|id| Command::LeaseRevoke(LeaseRevoke { ids: vec![LeaseId(id)] })),
        1 => (1i64..12).prop_map(compact),
        2 => auth_command().prop_map(|command| Command::Auth(command).by(Caller::anonymous())),
        1 => ("[mn]", prop::option::of("[vw]")).prop_map(|(name, value)| Command::SetClusterRecord {
            name,
            value: value.map(Bytes::from),
        }),
        1 => any::<bool>().prop_map(|raise| {
            // CORRUPT and NOSPACE would refuse nearly all that follows; clearing one that is not raised is a no-op.
            let alarm = Alarm { member: 1, kind: AlarmKind::NoSpace };
            if raise { Command::AlarmDeactivate(alarm) } else { Command::AlarmDeactivate(Alarm { member: 2, ..alarm }) }
        }),
    ]
}

/// Applies one command to any view, for models.
pub fn apply_one(view: &dyn ReadView, command: &Command) -> Applied {
    apply(view, command).unwrap()
}
