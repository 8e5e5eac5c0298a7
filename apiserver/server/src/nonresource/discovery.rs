//! Discovery: which groups, versions and resources there are, in the legacy and in the aggregated form (KEP-3352).

use crate::handlers::negotiation_status;
use crate::http::{Reply, bytes_reply, json_reply};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use xebec_api::resource::{Resource, Subresource, group_versions, resources};
use xebec_api::{GroupVersion, Status, codec, meta};
use xebec_apiserver_core::request::{MediaType, negotiate_discovery};

/// `/api` and `/apis`.
pub fn groups(path: &str, headers: &HeaderMap) -> Result<Reply, Status> {
    let accept = headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (media, aggregated) = negotiate_discovery(accept).map_err(negotiation_status)?;
    if let Some(version) = aggregated {
        let list = aggregated_list(path == "/api", version);
        let content_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        let mut reply = bytes_reply(StatusCode::OK, &content_type, list.to_string());
        reply.headers_mut().insert(http::header::VARY, http::HeaderValue::from_static("Accept"));
        return Ok(reply);
    }
    let list = if path == "/api" {
        json!({"kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]})
    } else {
        let groups: Vec<Value> = by_group()
            .into_iter()
            .filter(|(group, _)| !group.is_empty())
            .map(|(group, versions)| api_group(&group, &versions))
            .collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    };
    Ok(encoded(media, &list))
}

/// `/api/v1`, `/apis/{group}` and `/apis/{group}/{version}`.
pub fn resources_of(path: &str) -> Result<Reply, Status> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let value = match parts.as_slice() {
        ["api", version] => resource_list(&GroupVersion::new("", *version)),
        ["apis", group] => by_group().get(*group).filter(|_| !group.is_empty()).map(|versions| {
            let mut value = api_group(group, versions);
            value["kind"] = json!("APIGroup");
            value["apiVersion"] = json!("v1");
            value
        }),
        ["apis", group, version] if !group.is_empty() => resource_list(&GroupVersion::new(*group, *version)),
        _ => None,
    };
    value.map(|value| json_reply(StatusCode::OK, &value)).ok_or_else(Status::path_not_found)
}

/// Paths for the root's list.
pub fn paths() -> Vec<String> {
    let mut paths = Vec::new();
    for (group, versions) in by_group() {
        if group.is_empty() {
            continue;
        }
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths
}

/// Discovery as protobuf where the client prefers it and the kind has it.
fn encoded(media: MediaType, value: &Value) -> Reply {
    if media == MediaType::Protobuf
        && let Some(bytes) = meta::gvk(value).ok().and_then(|gvk| codec::encode_envelope(&gvk, value).ok())
    {
        return bytes_reply(StatusCode::OK, MediaType::Protobuf.as_str(), bytes);
    }
    json_reply(StatusCode::OK, value)
}

/// Versions by group, the preferred one first.
fn by_group() -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for version in group_versions() {
        groups.entry(version.group).or_default().push(version.version);
    }
    groups
}

fn api_group(group: &str, versions: &[String]) -> Value {
    let entry = |version: &String| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let all: Vec<Value> = versions.iter().map(entry).collect();
    json!({"name": group, "versions": all, "preferredVersion": all.first()})
}

fn of_version(version: &GroupVersion) -> impl Iterator<Item = &'static Resource> {
    let (group, version) = (version.group.clone(), version.version.clone());
    resources().iter().filter(move |resource| resource.group == group && resource.version == version)
}

fn verbs(verbs: &[xebec_api::resource::Verb]) -> Vec<&'static str> {
    verbs.iter().map(|verb| verb.as_str()).collect()
}

fn resource_list(version: &GroupVersion) -> Option<Value> {
    let mut list = Vec::new();
    for resource in of_version(version) {
        let mut entry = json!({"name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": verbs(&resource.verbs)});
        add_names(&mut entry, resource);
        list.push(entry);
        list.extend(resource.subresources.iter().map(|sub| subresource_entry(resource, sub)));
    }
    if list.is_empty() {
        return None;
    }
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version.to_string(), "resources": list}))
}

fn add_names(entry: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
}

fn subresource_entry(resource: &Resource, sub: &Subresource) -> Value {
    let mut entry = json!({"name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
        "namespaced": resource.namespaced, "kind": sub.kind, "verbs": verbs(&sub.verbs)});
    if (sub.group, sub.version) != (resource.group, resource.version) {
        if !sub.group.is_empty() {
            entry["group"] = json!(sub.group);
        }
        entry["version"] = json!(sub.version);
    }
    entry
}

fn aggregated_list(core: bool, version: &str) -> Value {
    let groups: Vec<Value> = by_group()
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> =
                versions.iter().map(|version| aggregated_version(&GroupVersion::new(&*group, &**version))).collect();
            let mut metadata = json!({"creationTimestamp": null});
            if !group.is_empty() {
                metadata["name"] = json!(group);
            }
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": groups})
}

fn aggregated_version(version: &GroupVersion) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let list: Vec<Value> = of_version(version)
        .map(|resource| {
            let mut entry = json!({"resource": resource.plural, "responseKind": kind(resource.group, resource.version, resource.kind),
                "scope": if resource.namespaced { "Namespaced" } else { "Cluster" }, "singularResource": resource.singular,
                "verbs": verbs(&resource.verbs)});
            add_names(&mut entry, resource);
            let subs: Vec<Value> = resource
                .subresources
                .iter()
                .map(|sub| json!({"subresource": sub.name, "responseKind": kind(sub.group, sub.version, sub.kind), "verbs": verbs(&sub.verbs)}))
                .collect();
            if !subs.is_empty() {
                entry["subresources"] = json!(subs);
            }
            entry
        })
        .collect();
    json!({"version": version.version, "resources": list, "freshness": "Current"})
}
