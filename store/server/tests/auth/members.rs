//! Three members: what one was told, all go by.

use tonic::Code;
use xebec_proto::etcdserverpb::{
    AuthDisableRequest, AuthStatusRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthenticateRequest,
    auth_client::AuthClient,
};

use crate::{
    identity::{Client, bad_token, denied, login, nobody, ready, refusal, set_up},
    processes::{Cluster, get},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_and_a_revocation_holds_at_every_member_at_once() {
    let cluster = Cluster::with_flags(3, &["--bcrypt-cost=4"]);
    set_up(&cluster).await;
    for issuer in 0..3 {
        ready(&cluster, issuer).await;
        let token = login(&cluster, issuer, "ann").await.unwrap();
        for number in 0..3 {
            let ann = Client::new(&cluster, number, Some(&token));
            // The first thing another member hears of this token may be a read of what it has.
            let serializable = xebec_proto::etcdserverpb::RangeRequest { serializable: true, ..get(b"a/1") };
            ann.kv().range(serializable).await.unwrap();
            ann.put("a/1").await.unwrap();
            ann.get("conf").await.unwrap();
            assert_eq!(refusal(ann.put("conf").await), denied(), "at {number}");
        }
    }
    for number in 0..3 {
        let root = Client::new(&cluster, number, Some(&login(&cluster, number, "root").await.unwrap()));
        let token = login(&cluster, (number + 1) % 3, "ann").await.unwrap();
        root.revoke("ann", "app").await.unwrap();
        for other in 0..3 {
            let ann = Client::new(&cluster, other, Some(&token));
            assert_eq!(refusal(ann.put("a/1").await), denied(), "revoked at {number}, written at {other}");
            assert_eq!(refusal(ann.get("a/1").await), denied(), "revoked at {number}, read at {other}");
        }
        root.grant("ann", "app").await.unwrap();
        for other in 0..3 {
            Client::new(&cluster, other, Some(&token)).get("a/1").await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_tokens_survive_a_change_of_leader_and_the_death_of_all() {
    let mut cluster = Cluster::with_flags(3, &["--bcrypt-cost=4"]);
    set_up(&cluster).await;
    let token = login(&cluster, 0, "ann").await.unwrap();
    (0..3).for_each(|number| cluster.kill(number));
    (0..3).for_each(|number| cluster.start(number));
    for number in 0..3 {
        ready(&cluster, number).await;
        Client::new(&cluster, number, Some(&token)).put("a/1").await.unwrap();
        assert_eq!(refusal(Client::new(&cluster, number, None).put("a/1").await), nobody());
    }
    // A new password ends the old tokens; a deleted user has none at all.
    let root = Client::new(&cluster, 1, Some(&login(&cluster, 1, "root").await.unwrap()));
    let change = AuthUserChangePasswordRequest { name: "ann".into(), password: "new".into(), ..Default::default() };
    root.auth().user_change_password(change).await.unwrap();
    for number in 0..3 {
        assert_eq!(refusal(Client::new(&cluster, number, Some(&token)).get("a/1").await), bad_token());
    }
    let failed = "etcdserver: authentication failed, invalid user ID or password";
    assert_eq!(refusal(login(&cluster, 2, "ann").await), Some((Code::InvalidArgument, failed.into())));
    let request = AuthenticateRequest { name: "ann".into(), password: "new".into() };
    let token = AuthClient::new(cluster.channel(2)).authenticate(request).await.unwrap().into_inner().token;
    root.auth().user_delete(AuthUserDeleteRequest { name: "ann".into() }).await.unwrap();
    assert_eq!(refusal(Client::new(&cluster, 0, Some(&token)).get("a/1").await), bad_token());
    let status = |number| {
        let mut auth = AuthClient::new(cluster.channel(number));
        async move { auth.auth_status(AuthStatusRequest {}).await.unwrap().into_inner() }
    };
    let before = status(0).await;
    assert_eq!((before.enabled, status(2).await.auth_revision), (true, before.auth_revision));
    root.auth().auth_disable(AuthDisableRequest {}).await.unwrap();
    for number in 0..3 {
        let after = status(number).await;
        assert_eq!((after.enabled, after.auth_revision), (false, before.auth_revision + 1));
        // Off means off: tokens of before are not even looked at.
        Client::new(&cluster, number, Some(&token)).put("anything").await.unwrap();
    }
    for number in 0..3 {
        let log = cluster.log(number);
        assert!(!log.contains("rootpw") && !log.contains("annpw") && !log.contains(&token), "{log}");
    }
}
