//! What every namespace is given: the `default` ServiceAccount and the cluster's root certificate.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::json;

use crate::{action::Action, meta};

/// Name of the ServiceAccount every namespace has.
pub const DEFAULT_ACCOUNT: &str = "default";
/// Name of the ConfigMap with the cluster's root certificate.
pub const ROOT_CA_CONFIG_MAP: &str = "kube-root-ca.crt";
/// Key of the certificate in that ConfigMap.
const ROOT_CA_KEY: &str = "ca.crt";
const ROOT_CA_DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// What is seen of one namespace.
#[derive(Debug)]
pub struct Observed {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// Its `default` ServiceAccount.
    pub account: Option<Arc<ServiceAccount>>,
    /// Its root certificate.
    pub root_ca: Option<Arc<ConfigMap>>,
    /// The root certificate it should have, PEM; none is published when absent.
    pub wanted_root_ca: Option<Arc<str>>,
}

/// Creates what is missing and restores what was changed; a namespace that ends gets nothing.
#[must_use]
pub fn reconcile(observed: &Observed) -> Vec<Action> {
    let namespace = meta::name(&*observed.namespace);
    let active = observed.namespace.status.as_ref().is_none_or(|status| status.phase.as_deref() != Some("Terminating"));
    if !active || meta::is_deleting(&*observed.namespace) {
        return Vec::new();
    }
    let mut actions = Vec::new();
    let metadata = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    if observed.account.is_none() {
        actions
            .push(Action::create(&ServiceAccount { metadata: metadata(DEFAULT_ACCOUNT), ..ServiceAccount::default() }));
    }
    let Some(wanted) = &observed.wanted_root_ca else { return actions };
    let data = [(ROOT_CA_KEY.to_owned(), wanted.to_string())];
    match &observed.root_ca {
        None => actions.push(Action::create(&ConfigMap {
            metadata: ObjectMeta {
                annotations: Some([("kubernetes.io/description".to_owned(), ROOT_CA_DESCRIPTION.to_owned())].into()),
                ..metadata(ROOT_CA_CONFIG_MAP)
            },
            data: Some(data.into()),
            ..ConfigMap::default()
        })),
        Some(have) if have.data.as_ref() != Some(&data.clone().into()) => {
            let mut body = json!({ "data": { ROOT_CA_KEY: &**wanted } });
            for key in have.data.iter().flat_map(|data| data.keys()) {
                if key != ROOT_CA_KEY {
                    body["data"][key] = serde_json::Value::Null;
                }
            }
            actions.push(Action::patch(&**have, body));
        }
        Some(_) => {}
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(phase: &str) -> Observed {
        let namespace = json!({ "metadata": { "name": "a" }, "status": { "phase": phase } });
        Observed {
            namespace: Arc::new(serde_json::from_value(namespace).unwrap()),
            account: None,
            root_ca: None,
            wanted_root_ca: Some("PEM".into()),
        }
    }

    #[test]
    fn an_active_namespace_is_furnished_once() {
        let mut seen = observed("Active");
        let printed: Vec<_> = reconcile(&seen).iter().map(ToString::to_string).collect();
        assert_eq!(printed, ["create serviceaccounts a/default", "create configmaps a/kube-root-ca.crt"]);
        seen.account = Some(Arc::default());
        seen.root_ca = Some(Arc::new(ConfigMap {
            data: Some([("ca.crt".to_owned(), "PEM".to_owned())].into()),
            ..ConfigMap::default()
        }));
        assert!(reconcile(&seen).is_empty());
        seen.wanted_root_ca = Some("other".into());
        assert_eq!(reconcile(&seen).len(), 1);
    }

    #[test]
    fn an_ending_namespace_is_left_alone() {
        assert!(reconcile(&observed("Terminating")).is_empty());
    }
}
