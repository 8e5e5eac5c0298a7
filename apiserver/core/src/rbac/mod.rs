//! Who may do what: RBAC as upstream evaluates it, the node authorizer, escalation checks and the bootstrap policy.

mod attributes;
pub mod bootstrap;
mod escalation;
mod index;
mod node;
mod rule;

pub use attributes::{Attributes, Decision, forbidden_message};
pub use escalation::{covers, escalation_check};
pub use index::{RbacIndex, authorize};
pub use node::{NodeGraph, authorize_node};
pub use rule::Rule;
