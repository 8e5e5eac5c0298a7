//! Bootstrap tokens: Secrets `bootstrap-token-<id>` in kube-system (kubernetes `plugin/pkg/auth/authenticator/token/bootstrap`).

use crate::objects::Objects;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use xebec_api::{Status, meta};
use xebec_apiserver_core::User;

const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// The user of a bootstrap token; `None`: not one, or not valid.
pub(super) async fn user(objects: &Objects, token: &str, now: i64) -> Result<Option<User>, Status> {
    let Some((id, secret)) = parse(token) else { return Ok(None) };
    let found = objects.live("", "secrets", "kube-system", &format!("bootstrap-token-{id}")).await?;
    Ok(found.and_then(|(found, _)| user_of(&found, id, secret, now)))
}

fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

fn user_of(found: &Value, id: &str, secret: &str, now: i64) -> Option<User> {
    let field = |key: &str| {
        let encoded = meta::str_at(found, &["data", key]);
        STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
    };
    // Compared by hash, so that the time taken says nothing about the secret.
    let same = Sha256::digest(field("token-secret")) == Sha256::digest(secret);
    let usable = meta::str_at(found, &["type"]) == SECRET_TYPE
        && meta::deletion_timestamp(found).is_none()
        && field("token-id") == id
        && same
        && field("usage-bootstrap-authentication") == "true";
    if !usable {
        return None;
    }
    let expiration = field("expiration");
    if !expiration.is_empty() && expiration.parse::<jiff::Timestamp>().map_or(true, |end| end.as_second() <= now) {
        return None;
    }
    let mut user = User::new(&format!("system:bootstrap:{id}"), &[GROUP]);
    let extra = field("auth-extra-groups");
    user.groups
        .extend(extra.split(',').map(str::trim).filter(|g| g.starts_with("system:bootstrappers:")).map(str::to_owned));
    Some(user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(expiration: &str) -> Value {
        let encode = |text: &str| STANDARD.encode(text);
        json!({"type": SECRET_TYPE, "metadata": {"name": "bootstrap-token-abcdef"}, "data": {
            "token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"), "expiration": encode(expiration),
            "usage-bootstrap-authentication": encode("true"),
            "auth-extra-groups": encode("system:bootstrappers:kubeadm:default-node-token,system:masters")}})
    }

    #[test]
    fn a_valid_token_gives_only_bootstrapper_groups() {
        let user = user_of(&secret("2030-01-01T00:00:00Z"), "abcdef", "0123456789abcdef", 0).expect("valid");
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token"]);
    }

    #[test]
    fn wrong_secret_and_expiry_are_refused() {
        assert!(user_of(&secret(""), "abcdef", "0123456789abcdeX", 0).is_none());
        assert!(user_of(&secret("1970-01-01T00:00:01Z"), "abcdef", "0123456789abcdef", 5).is_none());
        assert!(user_of(&secret("soon"), "abcdef", "0123456789abcdef", 5).is_none());
        assert!(parse("abcdef.short").is_none());
    }
}
