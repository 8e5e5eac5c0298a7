//! Users, roles, tokens and permissions: etcd's rules, a table or a scene each (etcd `server/auth/store_test.go`,
//! `server/auth/range_perm_cache_test.go`, `server/etcdserver/apply/auth_test.go`).
#![allow(clippy::unwrap_used, reason = "a test; clippy exempts only functions marked as such")]

use bytes::Bytes;
use xebec_store_core::auth::{
    Access, AuthCommand, AuthError, Authorized, Caller, PasswordHash, Permission, PermissionKind, TokenHash,
};
use xebec_store_core::{
    Applied, ClusterTime, Command, Compare, CompareOperator, CompareTarget, DeleteRange, KeyRange, LeaseCheckpoint,
    LeaseGrant, LeaseId, LeaseRevoke, MemoryStore, Op, Put, Range, ReadView, RequestError, Revision, Txn, apply,
    apply_all,
};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str) -> Put {
    Put { key: bytes(key), value: bytes("v"), ..Put::default() }
}

fn range(start: &str, end: &str) -> KeyRange {
    KeyRange::from_wire(bytes(start), bytes(end))
}

fn permission(kind: PermissionKind, key: &str, end: &str) -> Permission {
    Permission { kind, key: bytes(key), range_end: bytes(end) }
}

fn user_add(name: &str) -> AuthCommand {
    AuthCommand::UserAdd { name: name.into(), password: Some(PasswordHash(bytes("hash"))) }
}

fn grant(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserGrantRole { user: user.into(), role: role.into() }
}

fn revoke(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserRevokeRole { user: user.into(), role: role.into() }
}

fn role_add(name: &str) -> AuthCommand {
    AuthCommand::RoleAdd { name: name.into() }
}

fn allow(role: &str, kind: PermissionKind, key: &str, end: &str) -> AuthCommand {
    AuthCommand::RoleGrantPermission { role: role.into(), permission: Some(permission(kind, key, end)) }
}

fn run(store: &mut MemoryStore, command: Command) -> Result<(), RequestError> {
    let applied = apply(store, &command).unwrap();
    store.commit(&applied);
    applied.result.map(|_| ())
}

/// As somebody with the role root, or as nobody while authentication is off.
fn change(store: &mut MemoryStore, command: AuthCommand) -> Result<(), AuthError> {
    let caller = Caller { user: "root".into(), auth_revision: store.auth().revision() };
    run(store, Command::Auth(command).by(caller)).map_err(|refusal| match refusal {
        RequestError::Auth(refusal) => refusal,
        other => panic!("{other}"),
    })
}

fn all(store: &mut MemoryStore, commands: impl IntoIterator<Item = AuthCommand>) {
    for command in commands {
        change(store, command).unwrap();
    }
}

/// Root; ann, who may write a/, read b/ and both c1; authentication on.
fn store() -> MemoryStore {
    let mut store = MemoryStore::default();
    all(
        &mut store,
        [
            user_add("root"),
            grant("root", "root"),
            user_add("ann"),
            role_add("app"),
            allow("app", PermissionKind::Write, "a/", "a0"),
            allow("app", PermissionKind::Read, "b/", "b0"),
            allow("app", PermissionKind::ReadWrite, "c1", ""),
            grant("ann", "app"),
            AuthCommand::Enable,
        ],
    );
    store
}

fn caller(store: &MemoryStore, user: &str) -> Caller {
    Caller { user: user.into(), auth_revision: store.auth().revision() }
}

fn as_user(store: &mut MemoryStore, user: &str, command: Command) -> Result<(), RequestError> {
    let caller = caller(store, user);
    run(store, command.by(caller))
}

fn denied<T>(result: Result<T, RequestError>) -> bool {
    matches!(result, Err(RequestError::Auth(AuthError::PermissionDenied)))
}

#[test]
fn enabling_needs_a_root_user_with_the_root_role() {
    let mut store = MemoryStore::default();
    assert_eq!(change(&mut store, AuthCommand::Enable), Err(AuthError::RootUserNotExist));
    change(&mut store, user_add("root")).unwrap();
    assert_eq!(change(&mut store, AuthCommand::Enable), Err(AuthError::RootRoleNotExist));
    // The role root need not exist to be granted.
    change(&mut store, grant("root", "root")).unwrap();
    let revision = store.auth().revision();
    all(&mut store, [AuthCommand::Enable, AuthCommand::Enable]);
    assert_eq!((store.auth().is_enabled(), store.auth().revision()), (true, revision));
    all(&mut store, [AuthCommand::Disable, AuthCommand::Disable]);
    assert_eq!((store.auth().is_enabled(), store.auth().revision()), (false, revision + 1));
}

#[test]
fn refusals_are_etcds() {
    let missing = |role: &str| AuthCommand::RoleGrantPermission { role: role.into(), permission: None };
    let take = |key: &str, end: &str| AuthCommand::RoleRevokePermission {
        role: "app".into(),
        key: bytes(key),
        range_end: bytes(end),
    };
    let delete_user = |name: &str| AuthCommand::UserDelete { name: name.into() };
    let delete_role = |name: &str| AuthCommand::RoleDelete { name: name.into() };
    let password =
        |name: &str| AuthCommand::UserChangePassword { name: name.into(), password: PasswordHash(bytes("h")) };
    let table = [
        (user_add(""), AuthError::UserEmpty),
        (user_add("ann"), AuthError::UserAlreadyExists),
        (delete_user("bob"), AuthError::UserNotFound),
        (delete_user("root"), AuthError::InvalidAuthManagement),
        (password("bob"), AuthError::UserNotFound),
        (grant("bob", "app"), AuthError::UserNotFound),
        (grant("ann", "none"), AuthError::RoleNotFound),
        (revoke("bob", "app"), AuthError::UserNotFound),
        (revoke("ann", "root"), AuthError::RoleNotGranted),
        (revoke("root", "root"), AuthError::InvalidAuthManagement),
        (role_add(""), AuthError::RoleEmpty),
        (role_add("app"), AuthError::RoleAlreadyExists),
        (delete_role("none"), AuthError::RoleNotFound),
        (delete_role("root"), AuthError::InvalidAuthManagement),
        (missing("app"), AuthError::PermissionNotGiven),
        (allow("none", PermissionKind::Read, "a", ""), AuthError::RoleNotFound),
        (allow("app", PermissionKind::Read, "", ""), AuthError::InvalidAuthManagement),
        (allow("app", PermissionKind::Read, "", "\0"), AuthError::InvalidAuthManagement),
        (allow("app", PermissionKind::Read, "b", "a"), AuthError::InvalidAuthManagement),
        (allow("app", PermissionKind::Read, "b", "b"), AuthError::InvalidAuthManagement),
        (take("a/", "a1"), AuthError::PermissionNotGranted),
        (take("a/", ""), AuthError::PermissionNotGranted),
    ];
    for (command, refusal) in table {
        let mut store = store();
        let revision = store.auth().revision();
        assert_eq!(change(&mut store, command.clone()), Err(refusal), "{command:?}");
        assert_eq!(store.auth().revision(), revision, "{command:?}");
    }
}

#[test]
fn every_change_of_users_and_roles_moves_the_revision_by_one() {
    let mut store = store();
    let commands = [
        user_add("bob"),
        grant("bob", "app"),
        AuthCommand::UserChangePassword { name: "bob".into(), password: PasswordHash(bytes("h")) },
        role_add("other"),
        allow("other", PermissionKind::Read, "x", "\0"),
        AuthCommand::RoleRevokePermission { role: "other".into(), key: bytes("x"), range_end: bytes("\0") },
        revoke("bob", "app"),
        AuthCommand::RoleDelete { name: "app".into() },
        AuthCommand::UserDelete { name: "bob".into() },
    ];
    for command in commands {
        let revision = store.auth().revision();
        change(&mut store, command.clone()).unwrap();
        assert_eq!(store.auth().revision(), revision + 1, "{command:?}");
    }
    // A role that a user has already is granted without effect.
    change(&mut store, grant("ann", "root")).unwrap();
    let revision = store.auth().revision();
    change(&mut store, grant("ann", "root")).unwrap();
    assert_eq!(store.auth().revision(), revision);
}

#[test]
fn permissions_cover_what_their_ranges_cover_together() {
    let mut store = MemoryStore::default();
    let granted = [
        ("one", "", PermissionKind::Read),
        ("p1", "p3", PermissionKind::Read),
        ("p3", "p5", PermissionKind::ReadWrite),
        ("p7", "p9", PermissionKind::Write),
        ("x", "\0", PermissionKind::Write),
    ];
    all(&mut store, [user_add("root"), grant("root", "root"), user_add("ann"), role_add("r1"), role_add("r2")]);
    for (at, (key, end, kind)) in granted.into_iter().enumerate() {
        // Of two roles, as if of one.
        change(&mut store, allow(["r1", "r2"][at % 2], kind, key, end)).unwrap();
    }
    all(&mut store, [grant("ann", "r1"), grant("ann", "r2"), AuthCommand::Enable]);
    type Row = (&'static str, &'static str, bool, bool);
    let table: [Row; 14] = [
        ("one", "", true, false),
        ("one", "one\0", true, false),
        ("one", "onf", false, false),
        ("on", "", false, false),
        ("p1", "p5", true, false),
        ("p2", "p4", true, false),
        ("p3", "p5", true, true),
        ("p3", "p5\0", false, false),
        ("p5", "", false, false),
        ("p7", "p8", false, true),
        ("p4", "p8", false, false),
        ("xyz", "\0", false, true),
        ("w", "\0", false, false),
        ("\0", "\0", false, false),
    ];
    let ann = caller(&store, "ann");
    for (key, end, reads, writes) in table {
        let may = |access| store.auth().permit_keys(&ann, &range(key, end), access).is_ok();
        assert_eq!((may(Access::Read), may(Access::Write)), (reads, writes), "{key:?} {end:?}");
    }
    let root = caller(&store, "root");
    assert!(store.auth().permit_keys(&root, &range("\0", "\0"), Access::Write).is_ok());
}

#[test]
fn callers_are_judged_by_name_revision_and_right_in_this_order() {
    let mut store = store();
    let key = KeyRange::Key(bytes("a/1"));
    let write = |store: &MemoryStore, caller: &Caller| store.auth().permit_keys(caller, &key, Access::Write);
    let ann = caller(&store, "ann");
    assert_eq!(write(&store, &Caller::anonymous()), Err(AuthError::UserEmpty));
    assert_eq!(write(&store, &caller(&store, "nobody")), Err(AuthError::PermissionDenied));
    assert_eq!(write(&store, &ann), Ok(()));
    change(&mut store, role_add("unrelated")).unwrap();
    assert_eq!(write(&store, &ann), Err(AuthError::OldRevision));
    // Administrators are asked for their role only, which is looked up as it is now.
    let admin = |store: &MemoryStore, caller: &Caller| store.auth().permit_admin(caller);
    assert_eq!(admin(&store, &Caller { user: "root".into(), auth_revision: 1 }), Ok(()));
    assert_eq!(admin(&store, &ann), Err(AuthError::PermissionDenied));
    assert_eq!(admin(&store, &caller(&store, "nobody")), Err(AuthError::UserNotFound));
    assert_eq!(admin(&store, &Caller::anonymous()), Err(AuthError::UserEmpty));
    change(&mut store, AuthCommand::Disable).unwrap();
    assert_eq!((write(&store, &Caller::anonymous()), admin(&store, &Caller::anonymous())), (Ok(()), Ok(())));
}

#[test]
fn a_txn_needs_every_right_of_both_branches() {
    let read = |key: &str| Op::Range(Range::new(KeyRange::Key(bytes(key))));
    let delete = |key: &str, prev_kv| Op::DeleteRange(DeleteRange { range: KeyRange::Key(bytes(key)), prev_kv });
    let compare = |key: &str| Compare {
        range: KeyRange::Key(bytes(key)),
        operator: CompareOperator::Equal,
        target: CompareTarget::Version(0),
    };
    let seen = Op::Put(Put { prev_kv: true, ..put("a/1") });
    let nested = |op: Op| Op::Txn(Txn { failure: vec![op], ..Txn::default() });
    let table = [
        (vec![], vec![Op::Put(put("a/1"))], vec![read("b/1")], true),
        (vec![compare("b/1")], vec![], vec![], true),
        (vec![compare("a/1")], vec![], vec![], false),
        (vec![], vec![], vec![Op::Put(put("b/1"))], false),
        (vec![], vec![read("a/1")], vec![], false),
        (vec![], vec![seen], vec![], false),
        (vec![], vec![Op::Put(Put { prev_kv: true, ..put("c1") })], vec![], true),
        (vec![], vec![delete("a/1", false)], vec![], true),
        (vec![], vec![delete("a/1", true)], vec![], false),
        (vec![], vec![nested(Op::Put(put("a/1")))], vec![], true),
        (vec![], vec![nested(Op::Put(put("b/1")))], vec![], false),
    ];
    for (compares, success, failure, permitted) in table {
        let mut store = store();
        let txn = Txn { compares, success, failure };
        let result = as_user(&mut store, "ann", Command::Txn(txn.clone()));
        assert_eq!((result.is_ok(), denied(result)), (permitted, !permitted), "{txn:?}");
    }
}

#[test]
fn a_put_needs_the_rights_of_its_lease() {
    let mut store = store();
    let id = LeaseId(7);
    let lease = LeaseGrant { id, ttl_seconds: 60, now: ClusterTime(0) };
    run(&mut store, Command::LeaseGrant(lease)).unwrap();
    let leased = |key: &str| Command::Put(Put { lease: id, ..put(key) });
    as_user(&mut store, "ann", leased("a/1")).unwrap();
    as_user(&mut store, "root", leased("secret")).unwrap();
    assert!(denied(as_user(&mut store, "ann", leased("a/2"))));
    let revocation = || Command::LeaseRevoke(LeaseRevoke { ids: vec![id] });
    assert!(denied(as_user(&mut store, "ann", revocation())));
    as_user(&mut store, "root", Command::DeleteRange(DeleteRange { range: range("secret", ""), prev_kv: false }))
        .unwrap();
    as_user(&mut store, "ann", revocation()).unwrap();
    // Nobody in particular may not even revoke a lease without keys.
    run(&mut store, Command::LeaseGrant(LeaseGrant { id, ttl_seconds: 60, now: ClusterTime(0) })).unwrap();
    let anonymous = run(&mut store, revocation().by(Caller::anonymous()));
    assert_eq!(anonymous, Err(RequestError::Auth(AuthError::UserEmpty)));
}

#[test]
fn what_reached_the_log_without_a_caller_is_anonymous_unless_only_the_server_asks_for_it() {
    let mut store = store();
    let grant = LeaseGrant { id: LeaseId(7), ttl_seconds: 60, now: ClusterTime(0) };
    let own = [
        Command::LeaseGrant(grant),
        Command::LeaseCheckpoint(LeaseCheckpoint { now: ClusterTime(1), deadlines: Vec::new() }),
        Command::LeaseRevoke(LeaseRevoke { ids: vec![LeaseId(7)] }),
        Command::SetClusterRecord { name: "member/1".into(), value: None },
        Command::Auth(AuthCommand::ExpireTokens { now: ClusterTime(1) }),
    ];
    for command in own {
        assert!(run(&mut store, command.clone()).is_ok(), "{command:?}");
    }
    let clients = [
        Command::Put(put("a/1")),
        Command::DeleteRange(DeleteRange { range: range("a/1", ""), prev_kv: false }),
        Command::Txn(Txn { success: vec![Op::Put(put("a/1"))], ..Txn::default() }),
        Command::Compact { revision: Revision(1) },
        Command::Auth(user_add("eve")),
        Command::Auth(AuthCommand::Disable),
    ];
    for command in clients {
        let refused = run(&mut store, command.clone());
        assert_eq!(refused, Err(RequestError::Auth(AuthError::UserEmpty)), "{command:?}");
    }
    // A wrapper in a wrapper is nothing that any server sends.
    let inner =
        Command::Authorized(Authorized { caller: caller(&store, "root"), command: Box::new(Command::Put(put("x"))) });
    let outer = Command::Authorized(Authorized { caller: caller(&store, "root"), command: Box::new(inner) });
    assert!(denied(run(&mut store, outer)));
}

#[test]
fn compaction_and_changes_of_users_are_for_admins() {
    let commands = || [Command::Compact { revision: Revision(2) }, Command::Auth(user_add("bob"))];
    for command in commands() {
        let mut store = store();
        as_user(&mut store, "root", Command::Put(put("k"))).unwrap();
        assert!(denied(as_user(&mut store, "ann", command.clone())), "{command:?}");
        as_user(&mut store, "root", command).unwrap();
    }
}

#[test]
fn a_revocation_wins_over_whatever_is_behind_it_in_the_log() {
    let store = store();
    let (root, ann) = (caller(&store, "root"), caller(&store, "ann"));
    let write = Command::Put(put("a/1")).by(ann);
    let commands = [write.clone(), Command::Auth(revoke("ann", "app")).by(root), write];
    // One entry, one commit: the third command sees what the second did.
    let results: Vec<_> =
        apply_all(&store, &commands).unwrap().into_iter().map(|Applied { result, .. }| result).collect();
    assert!(results[0].is_ok() && results[1].is_ok());
    assert_eq!(results[2], Err(RequestError::Auth(AuthError::OldRevision)));
}

#[test]
fn a_deleted_role_is_taken_from_all_users_and_its_rights_with_it() {
    let mut store = store();
    all(&mut store, [user_add("bob"), grant("bob", "app"), AuthCommand::RoleDelete { name: "app".into() }]);
    assert!(["ann", "bob"].iter().all(|name| store.auth().user(name).unwrap().roles.is_empty()));
    assert!(denied(as_user(&mut store, "ann", Command::Put(put("a/1")))));
    // A role of the same name is another one.
    all(&mut store, [role_add("app"), allow("app", PermissionKind::Write, "a/", "a0")]);
    assert!(denied(as_user(&mut store, "ann", Command::Put(put("a/1")))));
}

#[test]
fn granting_the_same_range_again_changes_its_kind() {
    let mut store = store();
    // Two ranges that begin alike, so that the first is not the one that is meant.
    all(
        &mut store,
        [
            allow("app", PermissionKind::ReadWrite, "k", "k5"),
            allow("app", PermissionKind::ReadWrite, "k", "k9"),
            allow("app", PermissionKind::Read, "k", "k9"),
            allow("app", PermissionKind::Read, "k", "k5"),
        ],
    );
    let permissions = &store.auth().role("app").unwrap().permissions;
    let ranges: Vec<_> =
        permissions.iter().filter(|permission| permission.key == "k").map(|p| (p.kind, &p.range_end[..])).collect();
    assert_eq!(ranges, [(PermissionKind::Read, &b"k5"[..]), (PermissionKind::Read, &b"k9"[..])]);
    assert!(denied(as_user(&mut store, "ann", Command::Put(put("k1")))));
}

#[test]
fn users_see_themselves_and_their_roles() {
    let store = store();
    let ann = caller(&store, "ann");
    assert_eq!(store.auth().permit_user_sight(&ann, "ann"), Ok(()));
    assert_eq!(store.auth().permit_user_sight(&ann, "root"), Err(AuthError::PermissionDenied));
    assert_eq!(store.auth().permit_role_sight(&ann, "app"), Ok(()));
    assert_eq!(store.auth().permit_role_sight(&ann, "root"), Err(AuthError::PermissionDenied));
    assert_eq!(store.auth().permit_user_sight(&Caller::anonymous(), "ann"), Err(AuthError::UserEmpty));
}

fn authenticate(store: &MemoryStore, user: &str, token: u8, now: u64) -> Command {
    Command::Auth(AuthCommand::Authenticate {
        user: user.into(),
        checked_revision: store.auth().revision(),
        token: TokenHash([token; 32]),
        ttl_millis: 1_000,
        now: ClusterTime(now),
    })
}

fn tokens(store: &MemoryStore) -> Vec<(u8, u64)> {
    store.auth().tokens().map(|(hash, token)| (hash.0[0], token.deadline.0)).collect()
}

#[test]
fn tokens_live_while_they_are_renewed() {
    let mut store = store();
    for token in [1, 2] {
        let command = authenticate(&store, "ann", token, 5_000);
        run(&mut store, command).unwrap();
    }
    let renew = |now| AuthCommand::RenewToken { token: TokenHash([2; 32]), ttl_millis: 1_000, now: ClusterTime(now) };
    let expire = |now| AuthCommand::ExpireTokens { now: ClusterTime(now) };
    run(&mut store, Command::Auth(renew(5_400))).unwrap();
    // Renewed by a leader of before, committed late: a deadline does not move back.
    run(&mut store, Command::Auth(renew(5_100))).unwrap();
    assert_eq!(tokens(&store), [(1, 6_000), (2, 6_400)]);
    assert_eq!(
        (store.auth().has_expired_tokens(ClusterTime(5_999)), store.auth().has_expired_tokens(ClusterTime(6_000))),
        (false, true)
    );
    run(&mut store, Command::Auth(expire(6_000))).unwrap();
    assert_eq!((tokens(&store), store.cluster_time()), (vec![(2, 6_400)], ClusterTime(6_000)));
    run(&mut store, Command::Auth(expire(6_400))).unwrap();
    // What has ended does not come back.
    run(&mut store, Command::Auth(renew(6_401))).unwrap();
    assert_eq!(tokens(&store), []);
}

#[test]
fn tokens_end_with_their_user_their_password_and_with_authentication() {
    let enders = [
        (AuthCommand::UserDelete { name: "ann".into() }, vec![1]),
        (AuthCommand::UserChangePassword { name: "ann".into(), password: PasswordHash(bytes("h")) }, vec![1]),
        (AuthCommand::Disable, vec![]),
        (revoke("ann", "app"), vec![1, 2]),
    ];
    for (ender, left) in enders {
        let mut store = store();
        for (user, token) in [("root", 1), ("ann", 2)] {
            let command = authenticate(&store, user, token, 0);
            run(&mut store, command).unwrap();
        }
        change(&mut store, ender.clone()).unwrap();
        assert_eq!(tokens(&store).into_iter().map(|(token, _)| token).collect::<Vec<_>>(), left, "{ender:?}");
    }
}

#[test]
fn a_password_that_was_checked_before_a_change_has_to_be_checked_again() {
    let mut store = store();
    let late = authenticate(&store, "ann", 1, 0);
    change(&mut store, AuthCommand::UserChangePassword { name: "ann".into(), password: PasswordHash(bytes("h")) })
        .unwrap();
    assert_eq!(run(&mut store, late), Err(RequestError::Auth(AuthError::OldRevision)));
    all(&mut store, [AuthCommand::UserAdd { name: "cert".into(), password: None }]);
    for (user, refusal) in [("cert", AuthError::AuthFailed), ("nobody", AuthError::AuthFailed)] {
        let command = authenticate(&store, user, 1, 0);
        assert_eq!(run(&mut store, command), Err(RequestError::Auth(refusal)), "{user}");
    }
    change(&mut store, AuthCommand::Disable).unwrap();
    let command = authenticate(&store, "ann", 1, 0);
    assert_eq!(run(&mut store, command), Err(RequestError::Auth(AuthError::AuthNotEnabled)));
}

#[test]
fn a_password_is_never_shown_and_a_user_without_one_gets_none() {
    let mut store = store();
    let shown = format!("{:?} {:?}", user_add("x"), store.auth().user("ann"));
    assert!(!shown.contains("hash"), "{shown}");
    all(&mut store, [AuthCommand::UserAdd { name: "cert".into(), password: None }]);
    change(&mut store, AuthCommand::UserChangePassword { name: "cert".into(), password: PasswordHash(bytes("h")) })
        .unwrap();
    assert_eq!(store.auth().user("cert").unwrap().password, None);
}

#[test]
fn the_leader_stamps_what_carries_a_time() {
    let mut command = authenticate(&store(), "ann", 1, 0).by(Caller { user: "root".into(), auth_revision: 1 });
    assert!(command.needs_stamp());
    command.stamp(ClusterTime(9));
    let Command::Authorized(authorized) = command else { panic!("not wrapped") };
    assert!(matches!(*authorized.command, Command::Auth(AuthCommand::Authenticate { now: ClusterTime(9), .. })));
    assert!(!Command::Auth(AuthCommand::Enable).needs_stamp());
    // While nobody says who they are, changes of keys are committed as they are.
    assert!(matches!(Command::Put(put("k")).by(Caller::anonymous()), Command::Put(_)));
}
