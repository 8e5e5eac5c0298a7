//! ComponentStatuses: nothing is stored of them.

use super::read::Listed;
use super::{Call, options_status, respond};
use crate::cache::Entry;
use crate::http::Reply;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use xebec_api::{Status, meta};
use xebec_apiserver_core::components::{ELECTED, of_lease, of_store};
use xebec_apiserver_core::request::{ListOptions, Verb};

/// GET of one, or of all.
pub async fn read(call: &Call) -> Result<Reply, Status> {
    let (all, revision) = look(call).await;
    if call.info.verb == Verb::Get {
        let found = all.iter().find(|component| meta::name(component) == call.info.name);
        let found = found.ok_or_else(|| Status::not_found(&call.served.row.resource, &call.info.name))?;
        return respond::object(call, StatusCode::OK, found);
    }
    let options = ListOptions::parse(&call.query, false).map_err(options_status)?;
    let filter = call.filter(&options)?;
    let entries = all.iter().map(|component| (meta::name(component), Arc::new(entry(call, component, revision))));
    let entries = entries.filter(|(name, entry)| filter(name, entry)).map(|(_, entry)| entry).collect();
    respond::list(call, &Listed { entries, revision, rest: String::new(), remaining: None })
}

/// Every component, by name, and the revision at which the store was asked (0: it did not answer).
async fn look(call: &Call) -> (Vec<Value>, i64) {
    let objects = &call.app.objects;
    let revision = objects.store.current_revision().await.ok();
    let mut all = vec![of_store(revision.is_some())];
    for (name, lease) in ELECTED {
        let found = objects.live("coordination.k8s.io", "leases", "kube-system", lease).await;
        let found = found.ok().flatten().map(|(lease, _)| lease);
        all.push(of_lease(name, found.as_ref(), call.ctx.now));
    }
    all.sort_by(|a, b| meta::name(a).cmp(meta::name(b)));
    (all, revision.unwrap_or(0))
}

fn entry(call: &Call, component: &Value, revision: i64) -> Entry {
    let json = Bytes::from(component.to_string());
    Entry::new(revision, Map::new(), fields(call, component), json)
}

fn fields(call: &Call, component: &Value) -> BTreeMap<String, String> {
    call.served.fields(component)
}
