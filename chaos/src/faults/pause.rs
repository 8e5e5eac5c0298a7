//! Sleep without knowing it.

use rand::{RngExt as _, rngs::StdRng};

use super::{Deed, Scene};

/// The leader.
pub(super) fn leader(scene: Scene, rng: &mut StdRng) -> Deed {
    Deed::Pause(vec![scene.leader_or_any(rng)])
}

/// The master whose scheduler leads.
pub(super) fn scheduler(scene: Scene, rng: &mut StdRng) -> Deed {
    Deed::Pause(vec![scene.scheduler.unwrap_or_else(|| scene.leader_or_any(rng))])
}

/// The master whose controllers lead.
pub(super) fn controllers(scene: Scene, rng: &mut StdRng) -> Deed {
    Deed::Pause(vec![scene.controllers.unwrap_or_else(|| scene.leader_or_any(rng))])
}

/// A member by chance.
pub(super) fn one(scene: Scene, rng: &mut StdRng) -> Deed {
    Deed::Pause(vec![rng.random_range(0..scene.members)])
}

/// Everybody.
pub(super) fn all(scene: Scene, _: &mut StdRng) -> Deed {
    Deed::Pause((0..scene.members).collect())
}
