//! One kind of object: its names and its rules, and the generic life of its objects.

use serde_json::{Value, json};
use xebec_api::{GroupKind, GroupResource, GroupVersionKind, Status, field, meta};

use super::metadata::{validate_metadata, validate_metadata_update};
use super::strategies::strategy_of;
use super::strategy::{GenerationRule, StatusRule, Strategy};
use crate::context::RequestContext;

/// What the registry knows of a kind.
#[derive(Clone)]
pub struct Row {
    /// Group, version and kind of the objects.
    pub gvk: GroupVersionKind,
    /// Group and lower-case plural, for messages.
    pub resource: GroupResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What becomes of `status`.
    pub status: StatusRule,
    /// The kind's own rules.
    pub strategy: &'static Strategy,
}

impl Row {
    /// A kind with the built-in rules of its group and kind.
    pub fn new(gvk: GroupVersionKind, plural: &str, namespaced: bool, status: StatusRule) -> Self {
        let strategy = strategy_of(&gvk.group, &gvk.kind);
        Self { resource: GroupResource::new(&*gvk.group, plural), gvk, namespaced, status, strategy }
    }

    /// A custom kind: no rules but the generic ones and its generation.
    pub fn custom(gvk: GroupVersionKind, plural: &str, namespaced: bool, status: StatusRule) -> Self {
        const CUSTOM: Strategy =
            Strategy { generation: GenerationRule::Content, unconditional_update: false, ..Strategy::DEFAULT };
        Self { strategy: &CUSTOM, ..Self::new(gvk, plural, namespaced, status) }
    }

    /// Fills in absent fields; idempotent.
    pub fn default(&self, object: &mut Value) {
        (self.strategy.default)(object);
    }

    /// Makes a decoded, defaulted and admitted object ready to be stored for the first time (apiserver
    /// `registry/rest.BeforeCreate`). `attempt` numbers the tries at a generated name.
    ///
    /// # Errors
    /// 400 where the namespace contradicts the URL, 422 where validation fails.
    pub fn before_create(
        &self,
        object: &mut Value,
        namespace: &str,
        ctx: &RequestContext,
        attempt: u64,
    ) -> Result<(), Status> {
        self.check_namespace(object, namespace)?;
        self.generate_name(object, ctx, attempt);
        meta::set_uid(object, &ctx.uid);
        let created = Value::from(ctx.now_text());
        let metadata = meta::metadata_mut(object);
        metadata.insert("creationTimestamp".into(), created);
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "selfLink", "generation"] {
            metadata.remove(field);
        }
        if self.status == StatusRule::Subresource {
            meta::remove(object, &["status"]);
        }
        if self.strategy.generation != GenerationRule::None {
            meta::set_generation(object, 1);
        }
        (self.strategy.prepare_create)(object, ctx);
        (self.strategy.default)(object);
        let mut errors = validate_metadata(object, self.namespaced, self.strategy.name);
        errors.extend((self.strategy.validate)(object));
        self.invalid_unless_empty(object, &errors)
    }

    /// Makes a new version of an object ready to be stored (apiserver `registry/rest.BeforeUpdate`). The
    /// preconditions are the caller's ([`super::check_update_preconditions`]).
    ///
    /// # Errors
    /// 400 where names contradict the URL, 422 where validation fails.
    pub fn before_update(&self, new: &mut Value, old: &Value, subresource: &str) -> Result<(), Status> {
        self.check_namespace(new, meta::namespace(old))?;
        if meta::name(new) != meta::name(old) {
            let message = format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                meta::name(new),
                meta::name(old)
            );
            return Err(Status::bad_request(message));
        }
        keep_system_metadata(new, old);
        if subresource == "status" {
            self.keep_all_but_status(new, old);
        } else if self.status == StatusRule::Subresource && subresource.is_empty() {
            keep_field(new, old, "status");
        }
        if subresource.is_empty() {
            (self.strategy.prepare_update)(new, old);
        }
        (self.strategy.default)(new);
        self.count_generation(new, old);
        let mut errors = validate_metadata(new, self.namespaced, |_| Vec::new());
        errors.extend(validate_metadata_update(new, old));
        if subresource == "status" {
            errors.extend((self.strategy.validate_status_update)(new, old));
        } else {
            errors.extend((self.strategy.validate)(new));
            errors.extend((self.strategy.validate_update)(new, old));
        }
        self.invalid_unless_empty(new, &errors)
    }

    /// Whether an update changed nothing: then nothing is stored and the object keeps its resourceVersion.
    pub fn is_unchanged(new: &Value, old: &Value) -> bool {
        new == old
    }

    /// 422 with these errors, if there are any.
    pub fn invalid_unless_empty(&self, object: &Value, errors: &[field::Error]) -> Result<(), Status> {
        if errors.is_empty() {
            return Ok(());
        }
        let kind = GroupKind::new(&*self.gvk.group, &*self.gvk.kind);
        Err(Status::invalid(&kind, meta::name(object), errors))
    }

    fn check_namespace(&self, object: &mut Value, namespace: &str) -> Result<(), Status> {
        if !self.namespaced {
            meta::metadata_mut(object).remove("namespace");
            return Ok(());
        }
        let own = meta::namespace(object);
        if !own.is_empty() && own != namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        let namespace = namespace.to_owned();
        meta::set_namespace(object, &namespace);
        Ok(())
    }

    /// `generateName` plus five characters, the prefix cut so that the name has at most 63 (apiserver
    /// `storage/names/generate.go`).
    fn generate_name(&self, object: &mut Value, ctx: &RequestContext, attempt: u64) {
        const PREFIX_BYTES_MAX: usize = 58;
        let prefix = meta::generate_name(object);
        if !meta::name(object).is_empty() || prefix.is_empty() {
            return;
        }
        let end = (0..=prefix.len().min(PREFIX_BYTES_MAX)).rev().find(|i| prefix.is_char_boundary(*i)).unwrap_or(0);
        let name = format!("{}{}", &prefix[..end], ctx.suffix(attempt));
        meta::set_name(object, &name);
    }

    /// A status update brings a new status, new labels, annotations and finalizers, and nothing else.
    fn keep_all_but_status(&self, new: &mut Value, old: &Value) {
        let status = meta::remove(new, &["status"]);
        let mut metadata = new.get("metadata").cloned().unwrap_or(json!({}));
        if let Some(map) = metadata.as_object_mut() {
            match meta::get(old, &["metadata", "ownerReferences"]) {
                Some(owners) => {
                    map.insert("ownerReferences".into(), owners.clone());
                }
                None => {
                    map.remove("ownerReferences");
                }
            }
            // Workloads are selected by label: a status writer must not relabel them.
            if self.gvk.group == "apps" {
                map.remove("labels");
                if let Some(labels) = meta::get(old, &["metadata", "labels"]) {
                    map.insert("labels".into(), labels.clone());
                }
            }
        }
        let types = (new["apiVersion"].take(), new["kind"].take());
        *new = old.clone();
        new["metadata"] = metadata;
        (new["apiVersion"], new["kind"]) = types;
        match status {
            Some(status) => new["status"] = status,
            None => {
                meta::remove(new, &["status"]);
            }
        }
    }

    fn count_generation(&self, new: &mut Value, old: &Value) {
        let changed = match self.strategy.generation {
            GenerationRule::None => return,
            GenerationRule::Spec => new.get("spec") != old.get("spec"),
            GenerationRule::Content => content(new) != content(old),
        };
        // An object that a cluster of before the rule has created counts from 1.
        let generation = meta::generation(old).max(1) + i64::from(changed);
        meta::set_generation(new, generation);
    }
}

fn content(object: &Value) -> Vec<(&String, &Value)> {
    const APART: [&str; 4] = ["metadata", "status", "apiVersion", "kind"];
    object.as_object().into_iter().flatten().filter(|(key, _)| !APART.contains(&key.as_str())).collect()
}

fn keep_field(new: &mut Value, old: &Value, field: &str) {
    let Some(map) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => {
            map.insert(field.into(), value.clone());
        }
        None => {
            map.remove(field);
        }
    }
}

/// What a client may leave out: it is filled in from the stored object. What it may not change is checked later.
fn keep_system_metadata(new: &mut Value, old: &Value) {
    let kept = |field: &str| meta::get(old, &["metadata", field]).cloned();
    let metadata = meta::metadata_mut(new);
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let absent = metadata.get(field).is_none_or(|v| v.is_null() || v.as_str() == Some(""));
        if let (true, Some(value)) = (absent, kept(field)) {
            metadata.insert(field.into(), value);
        }
    }
    metadata.remove("selfLink");
    metadata.remove("generation");
    if let Some(value) = kept("generation") {
        metadata.insert("generation".into(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{User, test_context};

    fn row(kind: &str, plural: &str) -> Row {
        Row::new(GroupVersionKind::new("apps", "v1", kind), plural, true, StatusRule::Subresource)
    }

    fn revision() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Widget", "metadata": {"generateName": "a-"}, "spec": {"x": 1}, "status": {"y": 1}})
    }

    #[test]
    fn creation_fills_system_fields_and_wipes_status() {
        let ctx = test_context(User::default());
        let row = Row::custom(GroupVersionKind::new("e.com", "v1", "Widget"), "widgets", true, StatusRule::Subresource);
        let mut object = revision();
        row.before_create(&mut object, "ns", &ctx, 0).expect("valid");
        assert!(meta::name(&object).starts_with("a-") && meta::name(&object).len() == 7);
        assert_eq!(meta::namespace(&object), "ns");
        assert_eq!(meta::uid(&object), ctx.uid);
        assert_eq!(meta::generation(&object), 1);
        assert_eq!(meta::creation_timestamp(&object), Some("2026-11-21T02:00:00Z"));
        assert!(object.get("status").is_none());
        let mut elsewhere = json!({"metadata": {"name": "a", "namespace": "other"}});
        assert_eq!(row.before_create(&mut elsewhere, "ns", &ctx, 0).expect_err("contradiction").code, 400);
    }

    #[test]
    fn updates_keep_status_and_count_generations() {
        let ctx = test_context(User::default());
        let row = Row::custom(GroupVersionKind::new("e.com", "v1", "Widget"), "widgets", true, StatusRule::Subresource);
        let mut old = revision();
        row.before_create(&mut old, "ns", &ctx, 0).expect("valid");
        old["status"] = json!({"y": 2});
        let mut new = old.clone();
        new["spec"]["x"] = json!(2);
        new["status"] = json!({"y": 3});
        meta::remove(&mut new, &["metadata", "uid"]);
        row.before_update(&mut new, &old, "").expect("valid");
        assert_eq!((meta::generation(&new), &new["status"], meta::uid(&new)), (2, &json!({"y": 2}), meta::uid(&old)));

        let mut status = old.clone();
        status["spec"]["x"] = json!(9);
        status["status"] = json!({"y": 4});
        row.before_update(&mut status, &old, "status").expect("valid");
        assert_eq!(
            (meta::generation(&status), &status["status"], &status["spec"]),
            (1, &json!({"y": 4}), &json!({"x": 1}))
        );

        let mut same = old.clone();
        row.before_update(&mut same, &old, "").expect("valid");
        assert!(Row::is_unchanged(&same, &old));

        let mut renamed = old.clone();
        meta::set_uid(&mut renamed, "other");
        assert_eq!(row.before_update(&mut renamed, &old, "").expect_err("another object").code, 422);
    }

    #[test]
    fn built_in_rows_find_their_strategy() {
        let mut deployment = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        row("Deployment", "deployments").default(&mut deployment);
        assert_eq!(deployment["spec"]["replicas"], json!(1));
    }
}
