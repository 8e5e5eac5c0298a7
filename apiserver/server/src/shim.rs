use serde_json::Value;
use xebec_api::{GroupVersionKind, Status, meta};
use xebec_apiserver_core::RequestContext;
pub fn track_update(_new: &mut Value, _old: Option<&Value>, _ctx: &RequestContext, _sub: &str) {}
pub fn apply(gvk: &GroupVersionKind, stored: Option<&Value>, body: &Value, _ctx: &RequestContext, _sub: &str, _force: bool) -> Result<Value, Status> {
    match stored {
        None => Ok(body.clone()),
        Some(stored) => xebec_apiserver_core::patch::strategic_merge_patch(gvk, stored, body).map_err(|e| e.to_status()),
    }
}
pub struct Rendered { pub columns: Value, pub rows: Vec<Value> }
pub fn render(_group: &str, _kind: &str, objects: &[&Value], _now: jiff::Timestamp) -> Rendered {
    Rendered {
        columns: serde_json::json!([{"name":"Name","type":"string","format":"name","description":"Name","priority":0},{"name":"Created At","type":"date","format":"","description":"","priority":0}]),
        rows: objects.iter().map(|o| serde_json::json!([meta::name(o), meta::creation_timestamp(o)])).collect(),
    }
}
