//! The generic registry: what every kind has in common, and the few lines in which kinds differ.
//!
//! A write walks: [`Row::default`], admission, [`Row::default`] again, [`Row::before_create`] or
//! [`Row::before_update`] (system fields, preparation, validation), then the store's compare-and-set. A delete asks
//! [`deletion::decide`].

pub mod deletion;
mod metadata;
mod preconditions;
mod row;
mod strategies;
mod strategy;

pub(crate) use metadata::validate_labels as labels_errors;
pub use metadata::{validate_metadata, validate_metadata_update};
pub use preconditions::{check_resource_version, check_update_preconditions};
pub use row::Row;
pub use strategies::strategy_of;
pub use strategy::{GenerationRule, StatusRule, Strategy};
