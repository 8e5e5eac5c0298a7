//! Binding a pod to a node, and evicting one.

use super::body::Payload;
use super::{Call, Change, Deleted, delete_object, respond, update_object};
use crate::http::Reply;
use http::StatusCode;
use serde_json::{Value, json};
use xebec_api::{GroupVersionKind, Status, meta};
use xebec_apiserver_core::request::{DeleteOptions, FieldValidation, Verb, WriteOptions};
use xebec_apiserver_core::subresource;

/// POST of a Binding, to `pods/{name}/binding` or to `bindings`.
pub async fn bind(call: &Call, payload: &Payload) -> Result<Reply, Status> {
    let options = call.write_options("CreateOptions")?;
    let gvk = GroupVersionKind::new("", "v1", "Binding");
    let (binding, _) = payload.object_of(&gvk, options.field_validation)?;
    let name = if call.info.resource == "pods" { call.info.name.as_str() } else { meta::name(&binding) };
    if meta::name(&binding) != name {
        return Err(Status::bad_request(format!(
            "name in URL does not match name in Binding object: {name} {}",
            meta::name(&binding)
        )));
    }
    let pods = call.of_other("", "pods", Verb::Update, name)?;
    let pods = Call {
        info: xebec_apiserver_core::request::RequestInfo { subresource: "binding".into(), ..pods.info.clone() },
        ..pods
    };
    update_object(&pods, name, &options, &mut Bind { call, binding: binding.clone() }).await?;
    let mut success = Status::success().to_value();
    success["code"] = json!(201);
    respond::value(call, StatusCode::CREATED, &success)
}

struct Bind<'a> {
    call: &'a Call,
    binding: Value,
}

impl Change for Bind<'_> {
    fn apply(&mut self, stored: &Value) -> Result<Value, Status> {
        subresource::bind(stored, &self.binding, &self.call.ctx)
    }

    fn repeats(&self) -> bool {
        true
    }
}

/// POST of an Eviction: a delete that respects PodDisruptionBudgets.
pub async fn evict(call: &Call, payload: &Payload) -> Result<Reply, Status> {
    let gvk = GroupVersionKind::new("policy", "v1", "Eviction");
    let (eviction, _) = payload.object_of(&gvk, FieldValidation::Ignore)?;
    let name = call.info.name.as_str();
    if !meta::name(&eviction).is_empty() && meta::name(&eviction) != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let null = Value::Null;
    let body = eviction.get("deleteOptions").unwrap_or(&null);
    let options = DeleteOptions::from_body(body).map_err(super::options_status)?;
    let found = call.app.objects.live("", "pods", &call.info.namespace, name).await?;
    let (pod, _) = found.ok_or_else(|| Status::not_found(&call.served.row.resource, name))?;
    disrupt(call, &pod, options.dry_run).await?;
    let pods = call.of_other("", "pods", Verb::Delete, name)?;
    match delete_object(&pods, name, &options).await? {
        Deleted::Gone(_) | Deleted::Marked(_) => {
            let mut success = Status::success().to_value();
            success["code"] = json!(201);
            respond::value(call, StatusCode::CREATED, &success)
        }
    }
}

/// Takes one disruption from the budget that covers the pod, in the store, so that two evictions never share it.
async fn disrupt(call: &Call, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let all = call.app.objects.all_cached("policy", "poddisruptionbudgets", &call.info.namespace).await?;
    let Some(budget) = subresource::evict(pod, &all, &call.ctx)? else { return Ok(()) };
    let name = meta::name(&budget).to_owned();
    let mut budgets = call.of_other("policy", "poddisruptionbudgets", Verb::Update, &name)?;
    budgets.info.subresource = "status".into();
    let options = WriteOptions { dry_run, ..WriteOptions::default() };
    update_object(&budgets, &name, &options, &mut Disrupt { call, pod }).await?;
    Ok(())
}

struct Disrupt<'a> {
    call: &'a Call,
    pod: &'a Value,
}

impl Change for Disrupt<'_> {
    fn apply(&mut self, stored: &Value) -> Result<Value, Status> {
        let updated = subresource::evict(self.pod, std::slice::from_ref(stored), &self.call.ctx)?;
        Ok(updated.unwrap_or_else(|| stored.clone()))
    }

    fn repeats(&self) -> bool {
        true
    }
}
