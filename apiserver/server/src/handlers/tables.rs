//! Tables (`meta.k8s.io` Table), what kubectl prints.

use crate::registry::Served;
use serde_json::{Value, json};
use xebec_apiserver_core::request::Query;
use crate::shim as table;

/// The Table of some objects of one kind.
pub fn table(served: &Served, objects: &[&Value], resource_version: &str, version: &str, query: &Query) -> Value {
    let gvk = &served.row.gvk;
    let now = jiff::Timestamp::now();
    let rendered = table::render(&gvk.group, &gvk.kind, objects, now);
    let include = query.get("includeObject").unwrap_or("Metadata");
    let rows: Vec<Value> = objects
        .iter()
        .zip(rendered.rows)
        .map(|(object, cells)| {
            let mut row = json!({"cells": cells});
            match include {
                "None" => {}
                "Object" => row["object"] = (*object).clone(),
                _ => {
                    row["object"] = json!({"apiVersion": format!("meta.k8s.io/{version}"), "kind": "PartialObjectMetadata",
                        "metadata": object.get("metadata").cloned().unwrap_or(Value::Null)});
                }
            }
            row
        })
        .collect();
    json!({"apiVersion": format!("meta.k8s.io/{version}"), "kind": "Table",
        "metadata": {"resourceVersion": resource_version}, "columnDefinitions": rendered.columns, "rows": rows})
}
