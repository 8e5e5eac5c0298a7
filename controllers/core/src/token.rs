//! Secrets that carry tokens: bootstrap tokens that expire, and ServiceAccount tokens of the old kind.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::json;

use crate::{
    action::{Action, Target},
    meta,
};

/// Type of a bootstrap token's Secret.
pub const BOOTSTRAP: &str = "bootstrap.kubernetes.io/token";
/// Type of a ServiceAccount token's Secret.
pub const SERVICE_ACCOUNT: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// What is seen of one Secret.
#[derive(Debug)]
pub struct Observed {
    /// The Secret.
    pub secret: Arc<Secret>,
    /// The ServiceAccount it names, if that exists.
    pub account: Option<Arc<ServiceAccount>>,
    /// The cluster's root certificate, PEM.
    pub root_ca: Option<Arc<str>>,
    /// The time.
    pub now: Timestamp,
}

/// Deletes expired bootstrap tokens, fills ServiceAccount tokens, and deletes those whose ServiceAccount is gone.
#[must_use]
pub fn reconcile(observed: &Observed) -> Vec<Action> {
    match observed.secret.type_.as_deref() {
        Some(BOOTSTRAP) if meta::namespace(&*observed.secret) == "kube-system" => expire(observed),
        Some(SERVICE_ACCOUNT) => fill(observed),
        _ => Vec::new(),
    }
}

/// The ServiceAccount a token's Secret names.
#[must_use]
pub fn account_name(secret: &Secret) -> Option<&str> {
    meta::annotation(secret, ACCOUNT_NAME)
}

fn expire(observed: &Observed) -> Vec<Action> {
    let secret = &*observed.secret;
    let data = secret.data.as_ref().and_then(|data| data.get("expiration"));
    let Some(end) =
        data.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).and_then(|text| text.parse::<Timestamp>().ok())
    else {
        return Vec::new();
    };
    match meta::until(observed.now, end) {
        Some(after) => vec![Action::Wake { after }],
        None => vec![Action::delete(secret)],
    }
}

fn fill(observed: &Observed) -> Vec<Action> {
    let secret = &*observed.secret;
    let Some(name) = meta::annotation(secret, ACCOUNT_NAME) else { return Vec::new() };
    let wanted_uid = meta::annotation(secret, ACCOUNT_UID);
    let Some(account) = &observed.account else {
        // One that never had an account may be created before it; one that had is of no use any more.
        return if wanted_uid.is_some() { vec![Action::delete(secret)] } else { Vec::new() };
    };
    if wanted_uid.is_some_and(|uid| uid != meta::uid(&**account)) {
        return vec![Action::delete(secret)];
    }
    let keys: BTreeSet<&str> =
        secret.data.iter().flatten().filter(|(_, v)| !v.0.is_empty()).map(|(k, _)| k.as_str()).collect();
    let ca_missing = observed.root_ca.is_some() && !keys.contains("ca.crt");
    if keys.contains("token") && keys.contains("namespace") && !ca_missing && wanted_uid.is_some() {
        return Vec::new();
    }
    let mut data = json!({ "namespace": STANDARD.encode(meta::namespace(secret)) });
    if let Some(root) = &observed.root_ca {
        data["ca.crt"] = json!(STANDARD.encode(root.as_bytes()));
    }
    vec![Action::FillToken {
        target: Target::of(secret),
        uid: meta::uid(secret).to_owned(),
        account: name.to_owned(),
        body: json!({
            "metadata": {
                "uid": meta::uid(secret),
                "annotations": { ACCOUNT_UID: meta::uid(&**account) },
            },
            "data": data,
        }),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_token_ends_when_it_says() {
        let secret = json!({
            "metadata": { "name": "bootstrap-token-abcdef", "namespace": "kube-system" },
            "type": BOOTSTRAP,
            "data": { "expiration": STANDARD.encode("2026-01-01T01:00:00Z") },
        });
        let secret: Arc<Secret> = Arc::new(serde_json::from_value(secret).unwrap());
        let at = |now: &str| {
            let observed =
                Observed { secret: Arc::clone(&secret), account: None, root_ca: None, now: now.parse().unwrap() };
            reconcile(&observed).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(at("2026-01-01T00:00:00Z"), ["wake after 3600s"]);
        assert_eq!(at("2026-01-01T01:00:00Z"), ["delete secrets kube-system/bootstrap-token-abcdef"]);
    }
}
