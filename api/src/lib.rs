//! The Kubernetes object model as data: kinds, schema facts, the JSON and protobuf codec, selectors, quantities and
//! `Status`.
//!
//! Objects are `serde_json::Value`s in the shape Go's `encoding/json` would print them; nothing here knows a kind by
//! name. What distinguishes one kind from another is a line in [`facts`] (its fields) or a row in [`resource`] (its
//! URL, verbs and storage key).
//!
//! Pure: no IO, no clock, no randomness.

pub mod codec;
pub mod facts;
pub mod field;
mod gvk;
mod int_or_string;
pub mod meta;
pub mod name_rules;
pub mod quantity;
pub mod resource;
pub mod selector;
pub mod status;
pub mod time;

pub use gvk::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource, ParseGroupVersionError};
pub use int_or_string::IntOrString;
pub use quantity::Quantity;
pub use status::Status;
