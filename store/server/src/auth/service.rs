//! The Auth service (etcd `server/etcdserver/v3_server.go`, `server/etcdserver/apply/auth.go`).

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tonic::{Request, Response, Status};
use xebec_proto::{
    authpb,
    etcdserverpb::{self as pb, auth_server::Auth},
};
use xebec_store_core::{
    Command, ReadView, RequestError, Response as Outcome, Revision,
    auth::{AuthCommand, AuthError, Caller, PasswordHash, Permission, PermissionKind, ROOT},
};
use xebec_store_disk::View;

use super::{Credentials, Demand, authorize::Tokens, permit};
use crate::{context::Context, status::IntoStatus};

/// Times a password is checked again because users or roles changed while it was checked.
const AUTHENTICATE_ATTEMPTS_MAX: usize = 16;

pub(crate) struct AuthService(pub Context);

fn refusal(error: AuthError) -> Status {
    error.into_status()
}

impl AuthService {
    /// Changes users or roles, as the sender of the request asks.
    async fn change(
        &self,
        credentials: &Credentials,
        command: AuthCommand,
    ) -> Result<Option<pb::ResponseHeader>, Status> {
        match self.0.propose_as(credentials, Command::Auth(command)).await? {
            Outcome::Auth { revision } => Ok(Some(self.0.header(revision))),
            _ => Err(Status::internal("etcdserver: internal error")),
        }
    }

    /// The newest users and roles, and who looks at them.
    async fn look<T>(&self, request: &Request<T>) -> Result<(Arc<View>, Caller, Option<pb::ResponseHeader>), Status> {
        let (view, caller) = self.0.view_as(&Credentials::of(request), false).await?;
        let header = Some(self.0.header(view.current_revision()));
        Ok((view, caller, header))
    }

    /// Refuses who may not change users before their password is hashed, which is work. The last word is where the
    /// change is applied.
    async fn check_admin(&self, credentials: &Credentials) -> Result<(), Status> {
        let (view, caller) = self.0.view_as(credentials, false).await?;
        permit(&view, &caller, Demand::Admin)
    }

    /// Checks a password; answers the auth revision at which it was right (etcd `CheckPassword`).
    async fn check_password(&self, name: &str, password: &str) -> Result<u64, Status> {
        let view = self.0.view(false).await?;
        let auth = view.auth();
        if !auth.is_enabled() {
            return Err(refusal(AuthError::AuthNotEnabled));
        }
        let user = auth.user(name).ok_or_else(|| refusal(AuthError::AuthFailed))?;
        let hash = user.password.clone().ok_or_else(|| refusal(AuthError::NoPasswordUser))?;
        let revision = auth.revision();
        // Hashing takes long: it must not hold the view.
        drop(view);
        if self.0.authenticator.passwords.verify(password.to_owned(), hash).await? {
            return Ok(revision);
        }
        tracing::info!(user = name, "a password was wrong");
        Err(refusal(AuthError::AuthFailed))
    }

    /// One attempt; `None` if users or roles changed meanwhile.
    async fn try_authenticate(&self, name: &str, password: &str) -> Result<Option<(String, Revision)>, Status> {
        let checked_revision = self.check_password(name, password).await?;
        let (token, command) = match &self.0.authenticator.tokens {
            Tokens::None => return Err(refusal(AuthError::AuthFailed)),
            // Good for that revision only, so nothing needs to be replicated.
            Tokens::Jwt(jwt) => {
                let revision = self.0.member.keyspace().view().current_revision();
                return Ok(Some((jwt.issue(name, checked_revision)?, revision)));
            }
            Tokens::Simple(tokens) => tokens.issue(name, checked_revision)?,
        };
        match self.0.member.propose(command).await.map_err(IntoStatus::into_status)? {
            Ok(Outcome::Auth { revision }) => Ok(Some((token, revision))),
            Ok(_) => Err(Status::internal("etcdserver: internal error")),
            Err(RequestError::Auth(AuthError::OldRevision)) => Ok(None),
            Err(error) => Err(error.into_status()),
        }
    }
}

fn permission(given: authpb::Permission) -> Result<Permission, Status> {
    let kind = match authpb::permission::Type::try_from(given.perm_type) {
        Ok(authpb::permission::Type::Read) => PermissionKind::Read,
        Ok(authpb::permission::Type::Write) => PermissionKind::Write,
        Ok(authpb::permission::Type::Readwrite) => PermissionKind::ReadWrite,
        // etcd keeps such a permission, which then allows nothing.
        Err(_) => return Err(refusal(AuthError::InvalidAuthManagement)),
    };
    Ok(Permission { kind, key: given.key, range_end: given.range_end })
}

fn shown(permission: &Permission) -> authpb::Permission {
    let kind = match permission.kind {
        PermissionKind::Read => authpb::permission::Type::Read,
        PermissionKind::Write => authpb::permission::Type::Write,
        PermissionKind::ReadWrite => authpb::permission::Type::Readwrite,
    };
    authpb::Permission { perm_type: kind.into(), key: permission.key.clone(), range_end: permission.range_end.clone() }
}

/// What etcd shows for the role root, whatever it was granted (`auth.rootPerm`).
fn root_permission() -> authpb::Permission {
    let kind = authpb::permission::Type::Readwrite;
    authpb::Permission { perm_type: kind.into(), key: Default::default(), range_end: vec![0].into() }
}

#[tonic::async_trait]
impl Auth for AuthService {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let header = self.change(&Credentials::of(&request), AuthCommand::Enable).await?;
        tracing::info!("authentication is on");
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let header = self.change(&Credentials::of(&request), AuthCommand::Disable).await?;
        tracing::info!("authentication is off");
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        // Anybody may ask; only a token that is none is refused.
        let (view, _, header) = self.look(&request).await?;
        let (enabled, auth_revision) = (view.auth().is_enabled(), view.auth().revision());
        Ok(Response::new(pb::AuthStatusResponse { header, enabled, auth_revision }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let request = request.into_inner();
        for _ in 0..AUTHENTICATE_ATTEMPTS_MAX {
            if let Some((token, revision)) = self.try_authenticate(&request.name, &request.password).await? {
                return Ok(Response::new(pb::AuthenticateResponse { header: Some(self.0.header(revision)), token }));
            }
            tracing::info!(user = request.name, "users or roles changed while a password was checked");
        }
        Err(refusal(AuthError::OldRevision))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let password = if request.options.is_some_and(|options| options.no_password) {
            None
        } else {
            self.check_admin(&credentials).await?;
            // As in etcd, a hash that the client sends is passed over here.
            Some(self.0.authenticator.passwords.hash(request.password).await?)
        };
        let header = self.change(&credentials, AuthCommand::UserAdd { name: request.name, password }).await?;
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let (view, caller, header) = self.look(&request).await?;
        let name = &request.get_ref().name;
        view.auth().permit_user_sight(&caller, name).map_err(refusal)?;
        let user = view.auth().user(name).ok_or_else(|| refusal(AuthError::UserNotFound))?;
        Ok(Response::new(pb::AuthUserGetResponse { header, roles: user.roles.iter().cloned().collect() }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let (view, caller, header) = self.look(&request).await?;
        permit(&view, &caller, Demand::Admin)?;
        let users = view.auth().users().map(|user| user.name.clone()).collect();
        Ok(Response::new(pb::AuthUserListResponse { header, users }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let credentials = Credentials::of(&request);
        let command = AuthCommand::UserDelete { name: request.into_inner().name };
        Ok(Response::new(pb::AuthUserDeleteResponse { header: self.change(&credentials, command).await? }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        self.check_admin(&credentials).await?;
        let password = if request.password.is_empty() {
            let hash = STANDARD.decode(&request.hashed_password);
            PasswordHash(hash.map_err(|_| refusal(AuthError::NoPasswordUser))?.into())
        } else {
            self.0.authenticator.passwords.hash(request.password).await?
        };
        let command = AuthCommand::UserChangePassword { name: request.name, password };
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header: self.change(&credentials, command).await? }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let command = AuthCommand::UserGrantRole { user: request.user, role: request.role };
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header: self.change(&credentials, command).await? }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let command = AuthCommand::UserRevokeRole { user: request.name, role: request.role };
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header: self.change(&credentials, command).await? }))
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let credentials = Credentials::of(&request);
        let command = AuthCommand::RoleAdd { name: request.into_inner().name };
        Ok(Response::new(pb::AuthRoleAddResponse { header: self.change(&credentials, command).await? }))
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let (view, caller, header) = self.look(&request).await?;
        let name = &request.get_ref().role;
        view.auth().permit_role_sight(&caller, name).map_err(refusal)?;
        let role = view.auth().role(name).ok_or_else(|| refusal(AuthError::RoleNotFound))?;
        let perm = if name == ROOT { vec![root_permission()] } else { role.permissions.iter().map(shown).collect() };
        Ok(Response::new(pb::AuthRoleGetResponse { header, perm }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let (view, caller, header) = self.look(&request).await?;
        permit(&view, &caller, Demand::Admin)?;
        let roles = view.auth().roles().map(|role| role.name.clone()).collect();
        Ok(Response::new(pb::AuthRoleListResponse { header, roles }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let credentials = Credentials::of(&request);
        let command = AuthCommand::RoleDelete { name: request.into_inner().role };
        Ok(Response::new(pb::AuthRoleDeleteResponse { header: self.change(&credentials, command).await? }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let permission = request.perm.map(permission).transpose()?;
        let command = AuthCommand::RoleGrantPermission { role: request.name, permission };
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse { header: self.change(&credentials, command).await? }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let credentials = Credentials::of(&request);
        let request = request.into_inner();
        let command =
            AuthCommand::RoleRevokePermission { role: request.role, key: request.key, range_end: request.range_end };
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse { header: self.change(&credentials, command).await? }))
    }
}
