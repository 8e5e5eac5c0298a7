//! CertificateSigningRequests: which are approved, which are signed, which are cleared away.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    certificates::v1::{
        CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
        CertificateSigningRequestStatus,
    },
    core::v1::Node,
};

use crate::{
    action::{Action, Target},
    meta,
};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const NODE_PREFIX: &str = "system:node:";
const NODES: &str = "system:nodes";
const BOOTSTRAPPERS: &str = "system:bootstrappers";
const MASTERS: &str = "system:masters";
/// Shortest certificate that can be asked for, seconds.
const SECONDS_MIN: u64 = 600;
/// How long an approved or denied request is kept.
const KEPT_DECIDED_SECONDS: i64 = 3600;
/// How long an undecided request is kept.
const KEPT_PENDING_SECONDS: i64 = 24 * 3600;

/// What a request's PEM says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Subject common names.
    pub common_name: String,
    /// Subject organizations.
    pub organizations: Vec<String>,
    /// DNS names asked for.
    pub dns_names: Vec<String>,
    /// Addresses asked for.
    pub addresses: Vec<IpAddr>,
    /// Mail addresses, URIs and other names asked for: none of our signers gives any.
    pub other_names: usize,
    /// The signature proves the key, and nothing else is wrong.
    pub proven: bool,
}

/// What to put into a certificate, beside the request's own names.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The request.
    pub request: CertificateSigningRequest,
    /// For serving, rather than for calling.
    pub server_auth: bool,
    /// For calling.
    pub client_auth: bool,
    /// Life of the certificate.
    pub validity: Duration,
}

/// What is seen of one request.
#[derive(Debug)]
pub struct Observed {
    /// The request.
    pub request: Arc<CertificateSigningRequest>,
    /// Its PEM, parsed; the reason when it does not parse.
    pub parsed: Result<Parsed, String>,
    /// The node it is for, if that exists.
    pub node: Option<Arc<Node>>,
    /// Whether this process has an authority to sign with.
    pub signs: bool,
    /// Longest life of a certificate.
    pub validity_max: Duration,
    /// The time.
    pub now: Timestamp,
}

/// Approves what a node may have without a person's word, signs what is approved, and clears away what is settled.
#[must_use]
pub fn reconcile(observed: &Observed) -> Vec<Action> {
    let request = &*observed.request;
    if let Some(done) = clear_away(observed) {
        return done;
    }
    let conditions = request.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let has = |kind: &str| conditions.clone().any(|c| c.type_ == kind && c.status == "True");
    let issued = request.status.as_ref().and_then(|s| s.certificate.as_ref());
    let mut actions = Vec::new();
    if !has("Denied") && !has("Failed") && issued.is_none_or(|pem| pem.0.is_empty()) {
        if has("Approved") {
            actions.extend(sign(observed));
        } else {
            actions.extend(approve(observed));
        }
    }
    actions.extend(expiry(observed).and_then(|at| Some(Action::Wake { after: meta::until(observed.now, at)? })));
    actions
}

fn expiry(observed: &Observed) -> Option<Timestamp> {
    let request = &*observed.request;
    let conditions = request.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let decided = conditions
        .filter(|c| matches!(c.type_.as_str(), "Approved" | "Denied" | "Failed"))
        .filter_map(|c| c.last_update_time.as_ref())
        .map(|time| time.0)
        .max();
    let created = request.metadata.creation_timestamp.as_ref()?.0;
    Some(decided.map_or_else(
        || meta::after_seconds(created, KEPT_PENDING_SECONDS),
        |at| meta::after_seconds(at, KEPT_DECIDED_SECONDS),
    ))
}

fn clear_away(observed: &Observed) -> Option<Vec<Action>> {
    (expiry(observed)? <= observed.now).then(|| vec![Action::delete(&*observed.request)])
}

/// Whether all usages asked for are among those a signer gives.
fn usages_within(spec: &CertificateSigningRequestSpec, must: &str, may: &[&str]) -> bool {
    let mut asked = spec.usages.iter().flatten();
    asked.clone().any(|usage| usage == must) && asked.all(|usage| usage == must || may.contains(&usage.as_str()))
}

const KEY_USAGES: [&str; 2] = ["digital signature", "key encipherment"];

/// Whether the request is what its signer accepts (`pkg/apis/certificates`, `ValidateKubelet*CSR`).
fn is_well_formed(spec: &CertificateSigningRequestSpec, parsed: &Parsed) -> bool {
    let names_node = parsed.common_name.strip_prefix(NODE_PREFIX).is_some_and(|node| !node.is_empty());
    let is_node = names_node && parsed.organizations == [NODES] && parsed.other_names == 0;
    let no_names = parsed.dns_names.is_empty() && parsed.addresses.is_empty();
    parsed.proven
        && match spec.signer_name.as_str() {
            KUBELET_CLIENT => is_node && no_names && usages_within(spec, "client auth", &KEY_USAGES),
            KUBELET_SERVING => {
                is_node
                    && !no_names
                    && spec.username.as_deref() == Some(&*parsed.common_name)
                    && usages_within(spec, "server auth", &KEY_USAGES)
            }
            CLIENT => {
                !parsed.organizations.iter().any(|group| group == MASTERS)
                    && usages_within(spec, "client auth", &KEY_USAGES)
            }
            _ => false,
        }
}

fn in_group(spec: &CertificateSigningRequestSpec, group: &str) -> bool {
    spec.groups.iter().flatten().any(|have| have == group)
}

/// The reason for an approval without a person, if there is one.
fn grounds(observed: &Observed, parsed: &Parsed) -> Option<&'static str> {
    let spec = &observed.request.spec;
    if !is_well_formed(spec, parsed) {
        return None;
    }
    let itself = spec.username.as_deref() == Some(&*parsed.common_name);
    match spec.signer_name.as_str() {
        KUBELET_CLIENT if itself && in_group(spec, NODES) => {
            Some("Auto approving self kubelet client certificate after SubjectAccessReview.")
        }
        KUBELET_CLIENT if in_group(spec, BOOTSTRAPPERS) => {
            Some("Auto approving kubelet client certificate after SubjectAccessReview.")
        }
        // Every name must be an address the node is already known by, or a node could serve as another.
        KUBELET_SERVING if itself && in_group(spec, NODES) => {
            let node = observed.node.as_ref()?;
            let known = known_names(node);
            let named = parsed
                .dns_names
                .iter()
                .cloned()
                .chain(parsed.addresses.iter().map(ToString::to_string))
                .all(|name| known.contains(&name));
            named.then_some("Auto approving kubelet serving certificate of the node's own addresses.")
        }
        _ => None,
    }
}

fn known_names(node: &Node) -> Vec<String> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses.map(|address| address.address.clone()).chain(node.metadata.name.clone()).collect()
}

fn approve(observed: &Observed) -> Option<Action> {
    let parsed = observed.parsed.as_ref().ok()?;
    let message = grounds(observed, parsed)?;
    Some(decide(observed, "approval", "Approved", "AutoApproved", message))
}

fn decide(observed: &Observed, subresource: &'static str, kind: &str, reason: &str, message: &str) -> Action {
    let now = meta::wire_time(observed.now);
    let mut copy = (*observed.request).clone();
    let status: &mut CertificateSigningRequestStatus = copy.status.get_or_insert_default();
    status.conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now),
    });
    Action::update_subresource(&copy, subresource)
}

fn sign(observed: &Observed) -> Option<Action> {
    let spec = &observed.request.spec;
    if !matches!(spec.signer_name.as_str(), CLIENT | KUBELET_CLIENT | KUBELET_SERVING) {
        return None;
    }
    let problem = match &observed.parsed {
        Err(problem) => Some(problem.clone()),
        Ok(parsed) if !is_well_formed(spec, parsed) => {
            Some(format!("the request is not one that signer {} accepts", spec.signer_name))
        }
        Ok(_) => None,
    };
    if let Some(problem) = problem {
        return Some(decide(observed, "status", "Failed", "SignerValidationFailure", &problem));
    }
    if !observed.signs {
        return None;
    }
    let asked = spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let validity = asked.map_or(observed.validity_max, |seconds| {
        Duration::from_secs(seconds.max(SECONDS_MIN)).min(observed.validity_max)
    });
    let serving = spec.signer_name == KUBELET_SERVING;
    Some(Action::Sign {
        target: Target::of(&*observed.request),
        order: Box::new(Order {
            request: (*observed.request).clone(),
            server_auth: serving,
            client_auth: !serving,
            validity,
        }),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    fn request(signer: &str, user: &str, groups: &[&str], usage: &str) -> CertificateSigningRequest {
        serde_json::from_value(json!({
            "metadata": { "name": "csr-1", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": {
                "request": "", "signerName": signer, "username": user, "groups": groups,
                "usages": ["digital signature", usage],
            },
        }))
        .unwrap()
    }

    fn node_request(names: &[&str], addresses: &[&str]) -> Parsed {
        Parsed {
            common_name: "system:node:n1".into(),
            organizations: vec!["system:nodes".into()],
            dns_names: names.iter().map(|n| (*n).to_owned()).collect(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            other_names: 0,
            proven: true,
        }
    }

    fn check(request: CertificateSigningRequest, parsed: Parsed) -> Vec<String> {
        let node = json!({
            "metadata": { "name": "n1" },
            "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }] },
        });
        let observed = Observed {
            request: Arc::new(request),
            parsed: Ok(parsed),
            node: Some(Arc::new(serde_json::from_value(node).unwrap())),
            signs: true,
            validity_max: Duration::from_secs(3600),
            now: now(),
        };
        let actions = reconcile(&observed);
        let kept = actions.iter().filter(|action| !matches!(action, Action::Wake { .. }));
        kept.map(ToString::to_string).collect()
    }

    const APPROVED: &str = "update certificatesigningrequests.certificates.k8s.io csr-1 approval";

    #[test]
    fn nodes_get_what_is_theirs_and_nothing_else() {
        let bootstrap = ["system:bootstrappers", "system:authenticated"];
        let client = |user: &str, groups: &[&str]| request(KUBELET_CLIENT, user, groups, "client auth");
        let serving = |user: &str| request(KUBELET_SERVING, user, &[NODES], "server auth");
        let joined = client("system:bootstrap:abc", &bootstrap);
        assert_eq!(check(joined.clone(), node_request(&[], &[])), [APPROVED]);
        assert!(check(joined, node_request(&["evil"], &[])).is_empty());
        let renewal = client("system:node:n1", &[NODES]);
        assert_eq!(check(renewal, node_request(&[], &[])), [APPROVED]);
        assert!(check(client("system:node:n2", &[NODES]), node_request(&[], &[])).is_empty());
        assert!(check(client("eve", &["devs"]), node_request(&[], &[])).is_empty());
        let own = node_request(&["n1"], &["10.0.0.1"]);
        assert_eq!(check(serving("system:node:n1"), own.clone()), [APPROVED]);
        assert!(check(serving("system:node:n2"), own).is_empty());
        let foreign = node_request(&["n1"], &["10.0.0.2"]);
        assert!(check(serving("system:node:n1"), foreign).is_empty());
        let wrong_use = request(KUBELET_CLIENT, "system:node:n1", &[NODES], "server auth");
        assert!(check(wrong_use, node_request(&[], &[])).is_empty());
    }

    #[test]
    fn approved_requests_are_signed_or_refused() {
        let approve = |mut request: CertificateSigningRequest| {
            let status = json!({ "conditions": [{
                "type": "Approved", "status": "True", "lastUpdateTime": "2026-01-01T00:00:00Z",
            }] });
            request.status = Some(serde_json::from_value(status).unwrap());
            request
        };
        let good = approve(request(KUBELET_CLIENT, "x", &[], "client auth"));
        assert_eq!(check(good, node_request(&[], &[])), ["sign certificatesigningrequests.certificates.k8s.io csr-1"]);
        let masters = Parsed { organizations: vec![MASTERS.into()], ..node_request(&[], &[]) };
        let bad = approve(request(CLIENT, "x", &[], "client auth"));
        assert_eq!(check(bad, masters), ["update certificatesigningrequests.certificates.k8s.io csr-1 status"]);
    }
}
