//! `serviceaccounts/token`: TokenRequest (kubernetes `pkg/registry/core/serviceaccount/storage/token.go`).

use super::body::Payload;
use super::{Call, respond};
use crate::authn::{Audiences, Binding, Claims, ObjectName, sign};
use crate::http::Reply;
use http::StatusCode;
use serde_json::{Value, json};
use xebec_api::{GroupResource, GroupVersionKind, Status, meta, time};

/// Shortest lifetime of a token, in seconds.
const LIFETIME_SECONDS_MIN: i64 = 600;
/// Longest lifetime of a token, in seconds (upstream's 2^32).
const LIFETIME_SECONDS_MAX: i64 = 1 << 32;
/// Lifetime where none is asked for, in seconds.
const LIFETIME_SECONDS_DEFAULT: i64 = 3600;

/// POST of a TokenRequest.
pub async fn create(call: &Call, payload: &Payload) -> Result<Reply, Status> {
    let options = call.write_options("CreateOptions")?;
    let gvk = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let (mut request, warnings) = payload.object_of(&gvk, options.field_validation)?;
    let (namespace, name) = (call.info.namespace.as_str(), call.info.name.as_str());
    let objects = &call.app.objects;
    let account = objects.live("", "serviceaccounts", namespace, name).await?;
    let (account, _) = account.ok_or_else(|| Status::not_found(&GroupResource::new("", "serviceaccounts"), name))?;
    let lifetime = lifetime(call, &request)?;
    let mut audiences: Vec<String> = meta::list_at(&request, &["spec", "audiences"])
        .iter()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    if audiences.is_empty() {
        audiences.clone_from(&call.app.authenticator.audiences);
    }
    let mut binding = Binding {
        namespace: namespace.to_owned(),
        node: None,
        pod: None,
        secret: None,
        serviceaccount: ObjectName { name: name.to_owned(), uid: meta::uid(&account).to_owned() },
    };
    bind(call, &request, name, &mut binding).await?;
    let now = call.ctx.now.as_second();
    let claims = Claims {
        aud: Audiences(audiences.clone()),
        exp: now + lifetime,
        iat: now,
        nbf: now,
        iss: call.app.authenticator.issuers.first().cloned().unwrap_or_default(),
        jti: call.ctx.uid.clone(),
        sub: format!("system:serviceaccount:{namespace}:{name}"),
        kubernetes: binding,
    };
    let token = sign(&call.app.signing_key, &claims).map_err(|error| Status::internal_error(&error))?;
    let end = jiff::Timestamp::from_second(claims.exp).map_err(|error| Status::internal_error(&error.to_string()))?;
    meta::set_name(&mut request, name);
    meta::set_namespace(&mut request, namespace);
    meta::metadata_mut(&mut request).insert("creationTimestamp".into(), Value::from(call.ctx.now_text()));
    meta::set(&mut request, &["spec", "audiences"], json!(audiences));
    meta::set(&mut request, &["spec", "expirationSeconds"], json!(lifetime));
    request["status"] = json!({"token": token, "expirationTimestamp": time::format_time(end)});
    let mut reply = respond::value(call, StatusCode::CREATED, &request)?;
    respond::warn(&mut reply, &warnings);
    Ok(reply)
}

fn lifetime(call: &Call, request: &Value) -> Result<i64, Status> {
    let wanted = meta::i64_at(request, &["spec", "expirationSeconds"]).unwrap_or(LIFETIME_SECONDS_DEFAULT);
    let invalid = |why: &str| {
        let message = format!(
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: {wanted}: {why}"
        );
        Err(Status::failure(422, "Invalid", message))
    };
    if wanted < LIFETIME_SECONDS_MIN {
        return invalid("may not specify a duration less than 10 minutes");
    }
    if wanted > LIFETIME_SECONDS_MAX {
        return invalid("may not specify a duration larger than 2^32 seconds");
    }
    let bound = i64::try_from(call.app.settings.max_token_seconds).unwrap_or(i64::MAX);
    Ok(if bound > 0 { wanted.min(bound) } else { wanted })
}

/// Binds the token to the object it is asked for, which has to be there and be the account's.
async fn bind(call: &Call, request: &Value, account: &str, binding: &mut Binding) -> Result<(), Status> {
    let Some(wanted) = request.pointer("/spec/boundObjectRef").filter(|wanted| wanted.is_object()) else {
        return Ok(());
    };
    let (kind, name, uid) = (meta::kind(wanted), meta::str_at(wanted, &["name"]), meta::str_at(wanted, &["uid"]));
    let namespace = call.info.namespace.as_str();
    let (resource, namespace) = match kind {
        "Pod" => ("pods", namespace),
        "Secret" => ("secrets", namespace),
        "Node" => ("nodes", ""),
        other => {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to object {other}"
            )));
        }
    };
    let group_resource = GroupResource::new("", resource);
    let found = call.app.objects.live("", resource, namespace, name).await?;
    let (found, _) = found.ok_or_else(|| Status::not_found(&group_resource, name))?;
    if !uid.is_empty() && uid != meta::uid(&found) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&group_resource, name, &why));
    }
    let object = ObjectName { name: name.to_owned(), uid: meta::uid(&found).to_owned() };
    match kind {
        "Pod" => {
            let own = meta::str_at(&found, &["spec", "serviceAccountName"]);
            if own != account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            binding.node = node_of(call, &found).await?;
            binding.pod = Some(object);
        }
        "Secret" => binding.secret = Some(object),
        _ => binding.node = Some(object),
    }
    Ok(())
}

async fn node_of(call: &Call, pod: &Value) -> Result<Option<ObjectName>, Status> {
    let name = meta::str_at(pod, &["spec", "nodeName"]);
    if name.is_empty() {
        return Ok(None);
    }
    let node = call.app.objects.cached("", "nodes", "", name).await?;
    Ok(Some(ObjectName {
        name: name.to_owned(),
        uid: node.map(|node| meta::uid(&node).to_owned()).unwrap_or_default(),
    }))
}
