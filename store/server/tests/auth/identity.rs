//! Clients that say who they are, and what administrators do to set the scene.

use tonic::{
    Code, Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use xebec_proto::{
    authpb::{Permission, UserAddOptions, permission::Type},
    etcdserverpb::{
        AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
        AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest, AuthenticateRequest, auth_client::AuthClient,
        kv_client::KvClient, lease_client::LeaseClient, maintenance_client::MaintenanceClient,
        watch_client::WatchClient,
    },
};

use crate::processes::{Cluster, get, put, wait_for};

/// Adds a token to every request.
#[derive(Clone)]
pub struct Bearer(pub Option<String>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        Ok(request)
    }
}

pub type As = InterceptedService<Channel, Bearer>;

/// Somebody who talks to one member.
#[derive(Clone)]
pub struct Client {
    pub channel: Channel,
    pub bearer: Bearer,
}

impl Client {
    /// With a token, or without.
    pub fn new(cluster: &Cluster, number: usize, token: Option<&str>) -> Self {
        Self { channel: cluster.channel(number), bearer: Bearer(token.map(str::to_owned)) }
    }

    pub fn kv(&self) -> KvClient<As> {
        KvClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn auth(&self) -> AuthClient<As> {
        AuthClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn watch(&self) -> WatchClient<As> {
        WatchClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn lease(&self) -> LeaseClient<As> {
        LeaseClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn maintenance(&self) -> MaintenanceClient<As> {
        MaintenanceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub async fn put(&self, key: &str) -> Result<(), Status> {
        self.kv().put(put(key.as_bytes(), b"v")).await.map(|_| ())
    }

    pub async fn get(&self, key: &str) -> Result<(), Status> {
        self.kv().range(get(key.as_bytes())).await.map(|_| ())
    }

    pub async fn grant(&self, user: &str, role: &str) -> Result<(), Status> {
        let request = AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
        self.auth().user_grant_role(request).await.map(|_| ())
    }

    pub async fn revoke(&self, user: &str, role: &str) -> Result<(), Status> {
        let request = AuthUserRevokeRoleRequest { name: user.into(), role: role.into() };
        self.auth().user_revoke_role(request).await.map(|_| ())
    }

    /// Adds a user, whose password is their name and `pw`; or none.
    pub async fn add_user(&self, name: &str, no_password: bool) -> Result<(), Status> {
        let request = AuthUserAddRequest {
            name: name.into(),
            password: if no_password { String::new() } else { format!("{name}pw") },
            options: Some(UserAddOptions { no_password }),
            hashed_password: String::new(),
        };
        self.auth().user_add(request).await.map(|_| ())
    }
}

/// Waits until that member serves linearizable reads, or refuses them for want of a caller.
pub async fn ready(cluster: &Cluster, number: usize) {
    let client = Client::new(cluster, number, None);
    wait_for("a member that answers", || async {
        let answer = client.get("nothing").await;
        (answer.is_ok() || refusal(answer) == nobody()).then_some(())
    })
    .await;
}

/// A token for a user with their usual password.
pub async fn login(cluster: &Cluster, number: usize, user: &str) -> Result<String, Status> {
    let request = AuthenticateRequest { name: user.into(), password: format!("{user}pw") };
    Ok(AuthClient::new(cluster.channel(number)).authenticate(request).await?.into_inner().token)
}

/// Root; ann, who has the role app: may read and write `a/`, and read `conf`. Authentication on.
pub async fn set_up(cluster: &Cluster) {
    cluster.ready(0).await;
    let nobody = Client::new(cluster, 0, None);
    for user in ["root", "ann"] {
        nobody.add_user(user, false).await.unwrap();
    }
    nobody.grant("root", "root").await.unwrap();
    nobody.auth().role_add(AuthRoleAddRequest { name: "app".into() }).await.unwrap();
    for (kind, key, end) in [(Type::Readwrite, "a/", "a0"), (Type::Read, "conf", "")] {
        let perm = Permission { perm_type: kind.into(), key: key.into(), range_end: end.into() };
        let request = AuthRoleGrantPermissionRequest { name: "app".into(), perm: Some(perm) };
        nobody.auth().role_grant_permission(request).await.unwrap();
    }
    nobody.grant("ann", "app").await.unwrap();
    nobody.auth().auth_enable(AuthEnableRequest {}).await.unwrap();
}

/// Code and text of a refusal.
pub fn refusal<T>(result: Result<T, Status>) -> Option<(Code, String)> {
    result.err().map(|status| (status.code(), status.message().to_owned()))
}

pub fn denied() -> Option<(Code, String)> {
    Some((Code::PermissionDenied, "etcdserver: permission denied".into()))
}

pub fn nobody() -> Option<(Code, String)> {
    Some((Code::InvalidArgument, "etcdserver: user name is empty".into()))
}

pub fn bad_token() -> Option<(Code, String)> {
    Some((Code::Unauthenticated, "etcdserver: invalid auth token".into()))
}

pub fn old_revision() -> Option<(Code, String)> {
    Some((Code::InvalidArgument, "etcdserver: revision of auth store is old".into()))
}
