//! Revisions of DaemonSets and StatefulSets: the templates they had, as ControllerRevisions.

use std::sync::Arc;

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use serde_json::json;

use crate::{
    action::Action,
    deployment::template_hash,
    meta::{self, Object},
};

/// Label of the revision a pod was made from.
pub const REVISION_LABEL: &str = "controller-revision-hash";

/// The revisions of a set, settled for its present template.
#[derive(Debug)]
pub struct Revisions {
    /// Name of the present revision.
    pub name: String,
    /// Hash of the present template, as DaemonSets label pods.
    pub hash: String,
    /// What makes it so.
    pub actions: Vec<Action>,
}

/// Finds or creates the revision of `template`, gives it the highest number, and removes the oldest revisions beyond
/// `limit` that no pod was made from.
pub fn settle<O: Object>(
    owner: &O,
    template: &PodTemplateSpec,
    labels: Option<std::collections::BTreeMap<String, String>>,
    revisions: &[Arc<ControllerRevision>],
    limit: i32,
    in_use: impl Fn(&ControllerRevision) -> bool,
) -> Revisions {
    let data = json!({ "spec": { "template": patch_of(template) } });
    let newest = revisions.iter().map(|revision| revision.revision).max().unwrap_or(0);
    let present = revisions
        .iter()
        .filter(|revision| revision.data.as_ref().is_some_and(|have| have.0 == data))
        .max_by_key(|revision| revision.revision);
    let mut actions = Vec::new();
    let (name, hash) = match present {
        Some(present) => {
            if present.revision < newest {
                let mut copy = (**present).clone();
                copy.revision = newest + 1;
                actions.push(Action::update(&copy));
            }
            let hash = meta::label(&**present, REVISION_LABEL).unwrap_or_default().to_owned();
            (meta::name(&**present).to_owned(), hash)
        }
        None => {
            let hash = template_hash(template);
            let name = format!("{}-{hash}", meta::name(owner));
            let mut labels = labels.unwrap_or_default();
            labels.insert(REVISION_LABEL.to_owned(), hash.clone());
            actions.push(Action::create(&ControllerRevision {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    namespace: owner.metadata().namespace.clone(),
                    labels: Some(labels),
                    owner_references: Some(vec![meta::controller_reference(owner)]),
                    ..ObjectMeta::default()
                },
                data: Some(RawExtension(data)),
                revision: newest + 1,
            }));
            (name, hash)
        }
    };
    let mut past: Vec<_> =
        revisions.iter().filter(|revision| meta::name(&***revision) != name && !in_use(revision)).collect();
    past.sort_by_key(|revision| revision.revision);
    let surplus = past.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    actions.extend(past.into_iter().take(surplus).map(|revision| Action::delete(&**revision)));
    Revisions { name, hash, actions }
}

/// The template as `kubectl rollout undo` patches it back.
fn patch_of(template: &PodTemplateSpec) -> serde_json::Value {
    let mut value = serde_json::to_value(template).expect("API types serialize to JSON");
    value["$patch"] = json!("replace");
    value
}
