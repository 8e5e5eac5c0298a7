//! Reading and shaping object metadata: owners, labels, ages.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

/// A built-in object with metadata.
pub trait Object: k8s_openapi::Metadata<Ty = ObjectMeta> {}
impl<K: k8s_openapi::Metadata<Ty = ObjectMeta>> Object for K {}

/// The object's name, empty before it has one.
pub fn name<K: Object>(object: &K) -> &str {
    object.metadata().name.as_deref().unwrap_or_default()
}

/// The object's namespace, empty when it has none.
pub fn namespace<K: Object>(object: &K) -> &str {
    object.metadata().namespace.as_deref().unwrap_or_default()
}

/// The object's UID, empty before it has one.
pub fn uid<K: Object>(object: &K) -> &str {
    object.metadata().uid.as_deref().unwrap_or_default()
}

/// Value of a label.
pub fn label<'a, K: Object>(object: &'a K, key: &str) -> Option<&'a str> {
    object.metadata().labels.as_ref()?.get(key).map(String::as_str)
}

/// Value of an annotation.
pub fn annotation<'a, K: Object>(object: &'a K, key: &str) -> Option<&'a str> {
    object.metadata().annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether the object is being deleted.
pub fn is_deleting<K: Object>(object: &K) -> bool {
    object.metadata().deletion_timestamp.is_some()
}

/// Whether the object carries a finalizer.
pub fn has_finalizer<K: Object>(object: &K, finalizer: &str) -> bool {
    object.metadata().finalizers.iter().flatten().any(|have| have == finalizer)
}

/// When the object was created; the epoch before the API server has set it.
pub fn created<K: Object>(object: &K) -> Timestamp {
    object.metadata().creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// The owner that controls the object, if any.
#[must_use]
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether `owner` controls `object`.
pub fn is_controlled_by<K: Object, O: Object>(object: &K, owner: &O) -> bool {
    controller_of(object.metadata()).is_some_and(|reference| reference.uid == uid(owner))
}

/// The reference that marks `owner` as the controller of another object.
pub fn controller_reference<O: Object>(owner: &O) -> OwnerReference {
    OwnerReference {
        api_version: O::API_VERSION.to_owned(),
        kind: O::KIND.to_owned(),
        name: name(owner).to_owned(),
        uid: uid(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Time from `now` until `then`; `None` when it has passed.
#[must_use]
pub fn until(now: Timestamp, then: Timestamp) -> Option<Duration> {
    Duration::try_from(then.duration_since(now)).ok().filter(|left| !left.is_zero())
}

/// `time` later by whole seconds, saturating at the end of time.
#[must_use]
pub fn after_seconds(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// A wire time of whole seconds, which is what the API stores.
#[must_use]
pub fn wire_time(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}
