//! Which node a pod goes to, decided without IO, clock or chance: [`schedule`] looks at a [`Snapshot`] and a pod and
//! answers with a [`Decision`] that says why.
//!
//! The rules are those of upstream's default plugins (`pkg/scheduler/framework/plugins`), their reasons in upstream's
//! words. The snapshot is changed incrementally and aggregates pods by their labels and affinity terms, so that no
//! decision visits every pod of the cluster.

mod affinity;
mod decide;
mod filter;
mod pod;
mod preempt;
mod queue;
mod resources;
mod score;
mod selector;
mod snapshot;
mod spread;

pub use decide::{Decision, Unfit, schedule};
pub use filter::Reason;
pub use pod::{PodInfo, is_waiting_at_gate, scheduler_name};
pub use preempt::{Preemption, preempt};
pub use queue::{SchedulingQueue, Waiting};
pub use resources::{Resources, quantity_milli, quantity_units};
pub use snapshot::{NodeInfo, Snapshot};

#[cfg(test)]
mod tests;
