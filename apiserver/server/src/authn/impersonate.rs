//! Acting as somebody else, where RBAC allows it (apiserver `pkg/endpoints/filters/impersonation.go`).

use crate::authz::Authorizer;
use http::HeaderMap;
use xebec_api::Status;
use xebec_apiserver_core::User;
use xebec_apiserver_core::rbac::Attributes;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user that a request acts as.
///
/// # Errors
/// 403 if `user` may not, 400 if the headers contradict each other.
pub fn impersonate(user: User, headers: &HeaderMap, authorizer: &Authorizer) -> Result<User, Status> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let mut target = User { name: text(USER), uid: text(UID), groups: all(GROUP), ..User::default() };
    for key in headers.keys().filter_map(|name| name.as_str().strip_prefix(EXTRA)) {
        target.extra.insert(unescape(key), all(&format!("{EXTRA}{key}")));
    }
    if target.name.is_empty() {
        if target.groups.is_empty() && target.extra.is_empty() && target.uid.is_empty() {
            return Ok(user);
        }
        return Err(Status::bad_request("requested impersonation details without impersonating a user"));
    }
    let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let asked = Attributes::of_resource(&user, "impersonate", group, resource, namespace, name);
        authorizer.check_attributes(&Attributes { subresource, ..asked })
    };
    match target.service_account() {
        Some((namespace, name)) => may("", "serviceaccounts", "", namespace, name)?,
        None => may("", "users", "", "", &target.name)?,
    }
    for group in &target.groups {
        may("", "groups", "", "", group)?;
    }
    for (key, values) in &target.extra {
        for value in values {
            may(AUTHENTICATION, "userextras", key, "", value)?;
        }
    }
    if !target.uid.is_empty() {
        may(AUTHENTICATION, "uids", "", "", &target.uid)?;
    }
    tracing::debug!(user = user.name, as_user = target.name, "impersonation");
    Ok(with_groups(target))
}

fn with_groups(mut target: User) -> User {
    if target.groups.is_empty()
        && let Some((namespace, _)) = target.service_account()
    {
        target.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
    }
    let virtual_group = if target.name == super::ANONYMOUS { super::UNAUTHENTICATED } else { super::AUTHENTICATED };
    if !target.in_group(virtual_group) {
        target.groups.push(virtual_group.to_owned());
    }
    target
}

/// Extra keys are percent-encoded, since header names cannot carry everything.
fn unescape(key: &str) -> String {
    xebec_apiserver_core::request::Query::parse(&format!("k={key}")).get("k").unwrap_or(key).to_owned()
}
