//! The life of tokens.

use std::{
    fs,
    time::{Duration, Instant},
};

use tokio::time::interval;
use xebec_proto::etcdserverpb::AuthRoleAddRequest;

use crate::{
    identity::{Client, bad_token, denied, login, nobody, old_revision, ready, refusal, set_up},
    processes::{Cluster, wait_for},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simple_token_lives_while_it_is_used_and_no_longer() {
    const TTL: Duration = Duration::from_secs(3);
    let cluster = Cluster::with_flags(3, &["--bcrypt-cost=4", "--auth-token-ttl=3"]);
    set_up(&cluster).await;
    let used = login(&cluster, 0, "ann").await.unwrap();
    let unused = login(&cluster, 0, "ann").await.unwrap();
    let began = Instant::now();
    // In use at other members than the one that gave it out.
    let mut uses = interval(TTL / 10);
    while began.elapsed() < TTL * 3 {
        for number in 1..3 {
            Client::new(&cluster, number, Some(&used)).get("a/1").await.unwrap();
        }
        uses.tick().await;
    }
    for number in 0..3 {
        assert_eq!(refusal(Client::new(&cluster, number, Some(&unused)).get("a/1").await), bad_token());
        Client::new(&cluster, number, Some(&used)).get("a/1").await.unwrap();
    }
    assert_eq!(refusal(Client::new(&cluster, 1, Some("never")).get("a/1").await), bad_token());
    assert_eq!(refusal(Client::new(&cluster, 1, Some("")).get("a/1").await), bad_token());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_tokens_carry_user_revision_and_end() {
    let secrets = tempfile::TempDir::new().unwrap();
    let secret = secrets.path().join("secret");
    fs::write(&secret, "a secret that all members share").unwrap();
    let flag = format!("--auth-token=jwt,sign-method=HS256,priv-key={},ttl=20s", secret.display());
    let cluster = Cluster::with_flags(3, &["--bcrypt-cost=4", &flag]);
    set_up(&cluster).await;
    let token = login(&cluster, 0, "ann").await.unwrap();
    assert_eq!(token.split('.').count(), 3);
    for number in 0..3 {
        ready(&cluster, number).await;
        let ann = Client::new(&cluster, number, Some(&token));
        ann.put("a/1").await.unwrap();
        assert_eq!(refusal(ann.put("conf").await), denied());
        let forged = format!("{}x", &token[..token.len() - 1]);
        assert_eq!(refusal(Client::new(&cluster, number, Some(&forged)).get("a/1").await), bad_token());
        assert_eq!(refusal(Client::new(&cluster, number, None).get("a/1").await), nobody());
    }
    // Any change of users or roles makes earlier tokens old; administrators are asked for their role only.
    let root = Client::new(&cluster, 1, Some(&login(&cluster, 1, "root").await.unwrap()));
    for role in ["one", "two"] {
        root.auth().role_add(AuthRoleAddRequest { name: role.into() }).await.unwrap();
    }
    assert_eq!(refusal(root.put("any").await), old_revision());
    for number in 0..3 {
        let ann = Client::new(&cluster, number, Some(&token));
        assert_eq!((refusal(ann.put("a/1").await), refusal(ann.get("a/1").await)), (old_revision(), old_revision()));
    }
    let token = login(&cluster, 2, "ann").await.unwrap();
    let ann = Client::new(&cluster, 0, Some(&token));
    ann.put("a/1").await.unwrap();
    // Use does not prolong it.
    let ended = wait_for("the end of a signed token", || async { ann.get("a/1").await.err() }).await;
    assert_eq!(refusal::<()>(Err(ended)), bad_token());
}
