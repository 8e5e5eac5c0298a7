//! Tables (`meta.k8s.io` Table), what kubectl prints.

use serde_json::Value;
use xebec_api::GroupVersionKind;
use xebec_apiserver_core::request::Query;
use xebec_apiserver_core::table::{IncludeObject, render};

/// The Table of some objects of one kind; `with_columns` is off for all but the first event of a watch.
pub fn table(
    gvk: &GroupVersionKind,
    objects: &[Value],
    metadata: Value,
    version: &str,
    query: &Query,
    with_columns: bool,
) -> Value {
    let include =
        IncludeObject::parse(query.get("includeObject").unwrap_or_default()).unwrap_or(IncludeObject::Metadata);
    render((&gvk.group, &gvk.kind), objects, metadata, jiff::Timestamp::now(), (include, version), with_columns)
}
