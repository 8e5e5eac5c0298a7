//! TokenReview, SubjectAccessReview and its family, SelfSubjectReview: questions, not objects.

use super::body::Payload;
use super::{Call, respond};
use crate::http::Reply;
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use xebec_api::{Status, meta};
use xebec_apiserver_core::User;
use xebec_apiserver_core::rbac::Attributes;

/// POST of a review.
pub async fn create(call: &Call, payload: &Payload) -> Result<Reply, Status> {
    let options = call.write_options("CreateOptions")?;
    let (mut review, warnings) = payload.object(call, options.field_validation)?;
    match call.served.row.gvk.kind.as_str() {
        "TokenReview" => token_review(call, &mut review).await?,
        "SelfSubjectReview" => review["status"] = json!({"userInfo": user_info(&call.ctx.user)}),
        "SelfSubjectRulesReview" => rules_review(call, &mut review)?,
        "SelfSubjectAccessReview" => access_review(call, &mut review, &call.ctx.user)?,
        "SubjectAccessReview" => {
            let user = user_of(&review)?;
            access_review(call, &mut review, &user)?;
        }
        "LocalSubjectAccessReview" => {
            let namespace = meta::str_at(&review, &["spec", "resourceAttributes", "namespace"]);
            if namespace != call.info.namespace {
                return Err(Status::bad_request(format!(
                    "spec.resourceAttributes.namespace must match namespace: {}",
                    call.info.namespace
                )));
            }
            let user = user_of(&review)?;
            access_review(call, &mut review, &user)?;
        }
        _ => return Err(Status::method_not_supported(&call.served.row.resource, "create")),
    }
    let mut reply = respond::value(call, StatusCode::CREATED, &review)?;
    respond::warn(&mut reply, &warnings);
    Ok(reply)
}

async fn token_review(call: &Call, review: &mut Value) -> Result<(), Status> {
    let token = meta::str_at(review, &["spec", "token"]).to_owned();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let mut audiences: Vec<String> = meta::list_at(review, &["spec", "audiences"])
        .iter()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect();
    if audiences.is_empty() {
        audiences.clone_from(&call.app.authenticator.audiences);
    }
    review["status"] = match call.app.authenticator.authenticate_token(&token, &audiences).await? {
        Some((user, audiences)) => json!({"authenticated": true, "user": user_info(&user), "audiences": audiences}),
        None => json!({"user": {}, "error": "the token is not valid"}),
    };
    Ok(())
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn user_of(review: &Value) -> Result<User, Status> {
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let extra = meta::get(review, &["spec", "extra"]).and_then(Value::as_object);
    let user = User {
        name: meta::str_at(review, &["spec", "user"]).to_owned(),
        uid: meta::str_at(review, &["spec", "uid"]).to_owned(),
        groups: meta::get(review, &["spec", "groups"]).map(strings).unwrap_or_default(),
        extra: extra
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), strings(value)))
            .collect::<BTreeMap<_, _>>(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(Status::failure(
            422,
            "Invalid",
            "SubjectAccessReview is invalid: spec.user: Required value: at least one of user or group must be specified",
        ));
    }
    Ok(user)
}

fn access_review(call: &Call, review: &mut Value, user: &User) -> Result<(), Status> {
    let text = |path: &[&str]| meta::str_at(review, path).to_owned();
    let decision = match (review.pointer("/spec/resourceAttributes"), review.pointer("/spec/nonResourceAttributes")) {
        (Some(resource), None) if resource.is_object() => {
            let at = |key: &str| meta::str_at(resource, &[key]);
            let asked =
                Attributes::of_resource(user, at("verb"), at("group"), at("resource"), at("namespace"), at("name"));
            call.app.authorizer.decide(&Attributes { subresource: at("subresource"), ..asked })
        }
        (None, Some(path)) if path.is_object() => {
            let (verb, path) =
                (text(&["spec", "nonResourceAttributes", "verb"]), text(&["spec", "nonResourceAttributes", "path"]));
            let asked = Attributes {
                resource_request: false,
                path: &path,
                ..Attributes::of_resource(user, &verb, "", "", "", "")
            };
            call.app.authorizer.decide(&asked)
        }
        _ => {
            let message =
                "spec: Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(Status::failure(422, "Invalid", format!("{} is invalid: {message}", call.served.row.gvk.kind)));
        }
    };
    let mut status = json!({"allowed": decision.is_allowed()});
    if !decision.reason().is_empty() {
        status["reason"] = json!(decision.reason());
    }
    review["status"] = status;
    Ok(())
}

fn rules_review(call: &Call, review: &mut Value) -> Result<(), Status> {
    let namespace = meta::str_at(review, &["spec", "namespace"]).to_owned();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let rules = call.app.authorizer.rules_for(&call.ctx.user, &namespace);
    let (paths, resources): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| !rule.non_resource_urls.is_empty());
    let values =
        |rules: Vec<&xebec_apiserver_core::rbac::Rule>| rules.iter().map(|rule| rule.to_value()).collect::<Vec<_>>();
    review["status"] =
        json!({"resourceRules": values(resources), "nonResourceRules": values(paths), "incomplete": false});
    Ok(())
}
