//! Bootstrap tokens: Secrets in kube-system by which a node proves that it was invited
//! (kubernetes `staging/src/k8s.io/cluster-bootstrap/token/api`).

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    core::v1::Secret,
    rbac::v1::{ClusterRoleBinding, RoleRef, Subject},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use rand::RngExt as _;

/// The group that every bootstrap token of ours is in.
const GROUP: &str = "system:bootstrappers:xebec:default-node-token";
/// Characters of a token: see `BootstrapTokenPattern`.
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// What to do with bootstrap tokens.
#[derive(Subcommand)]
pub enum Command {
    /// Make a token, store it, and print it
    Create(Create),
}

/// How to make a token.
#[derive(Args)]
pub struct Create {
    /// The administrator's kubeconfig
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// Hours until the token ends
    #[arg(long, default_value_t = 24)]
    ttl_hours: u32,
}

pub async fn run(command: Command) -> Result<()> {
    let Command::Create(create) = command;
    let kubeconfig = Kubeconfig::read_from(&create.kubeconfig)
        .with_context(|| format!("cannot read {}", create.kubeconfig.display()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    allow_bootstrap(&client).await?;
    let (id, secret) = (random(ID_LENGTH), random(SECRET_LENGTH));
    let expiration = Timestamp::now() + SignedDuration::from_hours(i64::from(create.ttl_hours));
    let data = [
        ("token-id", id.clone()),
        ("token-secret", secret.clone()),
        ("expiration", expiration.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ("usage-bootstrap-authentication", "true".into()),
        ("usage-bootstrap-signing", "true".into()),
        ("auth-extra-groups", GROUP.into()),
    ];
    let object = Secret {
        metadata: ObjectMeta { name: Some(format!("bootstrap-token-{id}")), ..ObjectMeta::default() },
        type_: Some("bootstrap.kubernetes.io/token".into()),
        string_data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
        ..Secret::default()
    };
    Api::<Secret>::namespaced(client, "kube-system")
        .create(&PostParams::default(), &object)
        .await
        .context("cannot store the token")?;
    println!("{id}.{secret}");
    Ok(())
}

/// Nodes with a token may ask for a certificate and get it, and nodes may renew theirs: the bindings that kubeadm makes
/// (kubernetes `cmd/kubeadm/app/phases/bootstraptoken/node/tlsbootstrap.go`).
async fn allow_bootstrap(client: &Client) -> Result<()> {
    let bindings = [
        ("xebec:kubelet-bootstrap", "system:node-bootstrapper", GROUP),
        ("xebec:node-autoapprove-bootstrap", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", GROUP),
        (
            "xebec:node-autoapprove-certificate-rotation",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            "system:nodes",
        ),
    ];
    let api = Api::<ClusterRoleBinding>::all(client.clone());
    for (name, role, group) in bindings {
        let binding = ClusterRoleBinding {
            metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".into(),
                kind: "ClusterRole".into(),
                name: role.into(),
            },
            subjects: Some(vec![Subject {
                api_group: Some("rbac.authorization.k8s.io".into()),
                kind: "Group".into(),
                name: group.into(),
                namespace: None,
            }]),
        };
        match api.create(&PostParams::default(), &binding).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => drop(other.with_context(|| format!("cannot bind {role}"))?),
        }
    }
    Ok(())
}

fn random(length: usize) -> String {
    let mut random = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}
