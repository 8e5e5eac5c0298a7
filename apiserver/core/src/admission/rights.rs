//! Rights a write needs beyond the one to write: CertificateApproval and CertificateSigning.

use serde_json::Value;
use xebec_api::meta;

use super::Request;

/// A right the caller must hold; any of the names will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// `approve`, `sign`.
    pub verb: &'static str,
    /// The API group.
    pub api_group: &'static str,
    /// The resource.
    pub resource: &'static str,
    /// Names of which one must be allowed.
    pub names: Vec<String>,
    /// What to answer (after `... is forbidden: `) where it is not held.
    pub refusal: String,
}

/// The rights this request needs besides its own.
pub fn required_rights(request: &Request<'_>, object: &Value) -> Vec<Right> {
    if !request.is("certificates.k8s.io", "certificatesigningrequests") {
        return Vec::new();
    }
    let old = request.old.unwrap_or(&Value::Null);
    let verb = match request.subresource {
        "approval" => "approve",
        "status" if meta::get(old, &["status", "certificate"]) != meta::get(object, &["status", "certificate"]) => {
            "sign"
        }
        _ => return Vec::new(),
    };
    let signer = meta::str_at(old, &["spec", "signerName"]).to_owned();
    let domain = signer.split('/').next().unwrap_or("");
    let refusal = format!("user not permitted to {verb} requests with signerName {signer:?}");
    vec![Right {
        verb,
        api_group: "certificates.k8s.io",
        resource: "signers",
        names: vec![signer.clone(), format!("{domain}/*")],
        refusal,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Operation;
    use crate::context::{User, test_context};
    use serde_json::json;
    use xebec_api::GroupResource;

    #[test]
    fn approving_needs_the_signers_leave() {
        let ctx = test_context(User::default());
        let resource = GroupResource::new("certificates.k8s.io", "certificatesigningrequests");
        let old = json!({"spec": {"signerName": "kubernetes.io/kubelet-serving"}});
        let request = Request {
            operation: Operation::Update,
            resource: &resource,
            subresource: "approval",
            namespace: "",
            name: "c",
            old: Some(&old),
            ctx: &ctx,
        };
        let rights = required_rights(&request, &old);
        assert_eq!((rights[0].verb, rights[0].names[1].as_str()), ("approve", "kubernetes.io/*"));
    }
}
