//! Tables, as `kubectl get` shows them (KEP-555; kubernetes `pkg/printers/internalversion/printers.go`).

mod cells;
mod columns;
mod detail;
mod duration;
mod extension;
mod pod;

use jiff::Timestamp;
use serde_json::{Value, json};
use xebec_api::meta;

pub use duration::{human_duration, since};

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Title.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `date`.
    pub kind: &'static str,
    /// `name` for the name column.
    pub format: &'static str,
    /// 0 always, 1 with `-o wide`.
    pub priority: u8,
}

/// What the rows' `object` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Only metadata: the default.
    #[default]
    Metadata,
    /// The whole object.
    Object,
    /// Nothing.
    None,
}

impl IncludeObject {
    /// Reads the `includeObject` parameter; `None` for unknown values.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            "None" => Some(Self::None),
            _ => None,
        }
    }
}

/// The columns of a kind.
pub fn columns(group: &str, kind: &str) -> Vec<Column> {
    columns::of(group, kind)
}

/// The cells of one object, as many as its kind has columns.
pub fn cells(group: &str, kind: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    cells::of(group, kind, object, now)
}

/// One row of a table.
pub fn row(group: &str, kind: &str, object: &Value, now: Timestamp, include: IncludeObject, version: &str) -> Value {
    let mut row = json!({"cells": cells(group, kind, object, now)});
    if kind == "Pod" && group.is_empty() {
        let conditions = pod::row_conditions(object);
        if !conditions.is_empty() {
            row["conditions"] = conditions.into();
        }
    }
    row["object"] = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Object => object.clone(),
        IncludeObject::Metadata => partial_metadata(object, version),
    };
    row
}

/// An object reduced to its metadata; `version` is that of meta.k8s.io.
pub fn partial_metadata(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object.get("metadata").cloned().unwrap_or(json!({})),
    })
}

/// A whole Table. `list_metadata` carries resourceVersion and continue token; `with_columns` is false for all but the
/// first event of a watch.
pub fn render(
    (group, kind): (&str, &str),
    objects: &[Value],
    list_metadata: Value,
    now: Timestamp,
    (include, version): (IncludeObject, &str),
    with_columns: bool,
) -> Value {
    let definitions: Vec<Value> = if with_columns {
        let columns = columns(group, kind).into_iter();
        let define = |c: Column| json!({"name": c.name, "type": c.kind, "format": c.format, "description": "", "priority": c.priority});
        columns.map(define).collect()
    } else {
        Vec::new()
    };
    let rows: Vec<Value> = objects.iter().map(|object| row(group, kind, object, now, include, version)).collect();
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": list_metadata,
        "columnDefinitions": if with_columns { Value::from(definitions) } else { Value::Null },
        "rows": rows,
    })
}

/// A Table of one object: its list metadata is the object's resourceVersion.
pub fn render_one(
    group: &str,
    kind: &str,
    object: &Value,
    now: Timestamp,
    include: IncludeObject,
    version: &str,
) -> Value {
    let metadata = json!({"resourceVersion": meta::resource_version(object)});
    render((group, kind), std::slice::from_ref(object), metadata, now, (include, version), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_as_many_cells_as_columns() {
        let now = Timestamp::UNIX_EPOCH;
        for (group, kind) in columns::KINDS {
            let object = json!({"metadata": {"name": "x"}});
            let columns = columns(group, kind);
            let cells = cells(group, kind, &object, now);
            assert_eq!(columns.len(), cells.len(), "{group}/{kind}");
            assert!(columns.iter().any(|c| c.format == "name"), "{group}/{kind}");
        }
        assert_eq!(cells("e.com", "Widget", &json!({"metadata": {"name": "w"}}), now)[0], json!("w"));
    }

    #[test]
    fn tables_carry_metadata_of_their_objects() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "resourceVersion": "7"}, "data": {"a": "b"}});
        let table = render_one("", "ConfigMap", &object, Timestamp::UNIX_EPOCH, IncludeObject::Metadata, "v1");
        assert_eq!(table["metadata"]["resourceVersion"], json!("7"));
        assert_eq!(table["rows"][0]["cells"][1], json!(1));
        assert_eq!(table["rows"][0]["object"]["kind"], json!("PartialObjectMetadata"));
        assert_eq!(table["columnDefinitions"][0]["name"], json!("Name"));
    }
}
