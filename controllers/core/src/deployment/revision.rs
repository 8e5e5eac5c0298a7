use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use sha2::{Digest, Sha256};

use crate::meta;

/// Annotation of the revision a ReplicaSet is, and a Deployment is at.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotation of the revisions a ReplicaSet was before.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotation of the Deployment's replicas when the ReplicaSet was last scaled.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// Annotation of the Deployment's replicas and surge when the ReplicaSet was last scaled.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Label that tells the pods of one template from those of another.
pub(super) const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Longest revision history kept, bytes (upstream's `maxRevHistoryLengthInChars`).
const REVISION_HISTORY_BYTES_MAX: usize = 2000;
/// Letters of generated names: no vowels, no digits that look like one (upstream's `rand.SafeEncodeString`).
const HASH_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters of a template hash; 27^10 make a collision within one Deployment's history negligible.
const HASH_LENGTH: usize = 10;
/// Annotations that are the Deployment's own and are not handed on.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// A stable name for a pod template.
#[must_use]
pub fn template_hash(template: &PodTemplateSpec) -> String {
    let json = serde_json::to_vec(template).expect("API types serialize to JSON");
    let digest = Sha256::digest(&json);
    digest
        .iter()
        .take(HASH_LENGTH)
        .map(|byte| char::from(HASH_LETTERS[usize::from(*byte) % HASH_LETTERS.len()]))
        .collect()
}

pub(super) fn revision_of<K: meta::Object>(object: &K) -> i64 {
    meta::annotation(object, REVISION).and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The ReplicaSet of the Deployment's present template: the oldest whose template is equal but for the hash label, else
/// the one named for its hash (whose template the API server may have completed since).
pub(super) fn find_new(deployment: &Deployment, sets: &[ReplicaSet]) -> Option<usize> {
    let template = &deployment.spec.as_ref()?.template;
    let bare = without_hash(template);
    let equal = sets.iter().position(|set| {
        let theirs = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        theirs.is_some_and(|theirs| without_hash(theirs) == bare)
    });
    equal.or_else(|| {
        let name = format!("{}-{}", meta::name(deployment), template_hash(template));
        sets.iter().position(|set| meta::name(set) == name)
    })
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.creation_timestamp = None;
    if let Some(labels) = &mut meta.labels {
        labels.remove(POD_TEMPLATE_HASH);
    }
    meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.take().filter(|annotations| !annotations.is_empty());
    template
}

/// The ReplicaSet to create for the Deployment's template.
pub(super) fn new_set(deployment: &Deployment, replicas: i32) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let hash = template_hash(&spec.template);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", meta::name(deployment))),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![meta::controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: Some(replicas),
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// Hands the Deployment's annotations and the revision on to its present ReplicaSet.
pub(super) fn annotate(deployment: &Deployment, set: &mut ReplicaSet, revision: i64) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let before: i64 = annotations.get(REVISION).and_then(|value| value.parse().ok()).unwrap_or(0);
    if before < revision {
        let past = annotations.insert(REVISION.to_owned(), revision.to_string());
        if let Some(past) = past {
            remember(annotations, past);
        }
    }
}

fn remember(annotations: &mut BTreeMap<String, String>, past: String) {
    let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
    let mut revisions: Vec<&str> = history.split(',').filter(|part| !part.is_empty()).collect();
    revisions.push(&past);
    let mut joined = revisions.join(",");
    while joined.len() > REVISION_HISTORY_BYTES_MAX && revisions.len() > 1 {
        revisions.remove(0);
        joined = revisions.join(",");
    }
    *history = joined;
}

/// Notes what the Deployment wanted when the ReplicaSet was scaled.
pub(super) fn annotate_size(set: &mut ReplicaSet, desired: i32, most: i32) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED_REPLICAS.to_owned(), desired.to_string());
    annotations.insert(MAX_REPLICAS.to_owned(), most.to_string());
}

pub(super) fn size_annotation(set: &ReplicaSet, key: &str) -> Option<i32> {
    meta::annotation(set, key).and_then(|value| value.parse().ok())
}
