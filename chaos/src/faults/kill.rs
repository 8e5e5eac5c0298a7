//! Deaths.

use rand::rngs::StdRng;

use super::{Deed, Scene, members_by_chance};

/// A member by chance.
pub(super) fn one(scene: Scene, rng: &mut StdRng) -> Deed {
    some(scene, rng, 1)
}

/// The leader.
pub(super) fn leader(scene: Scene, rng: &mut StdRng) -> Deed {
    Deed::Kill(vec![scene.leader_or_any(rng)])
}

/// The master whose scheduler leads.
pub(super) fn scheduler(scene: Scene, rng: &mut StdRng) -> Deed {
    Deed::Kill(vec![scene.scheduler.unwrap_or_else(|| scene.leader_or_any(rng))])
}

/// The master whose controllers lead.
pub(super) fn controllers(scene: Scene, rng: &mut StdRng) -> Deed {
    Deed::Kill(vec![scene.controllers.unwrap_or_else(|| scene.leader_or_any(rng))])
}

/// As many as the others can do without.
pub(super) fn minority(scene: Scene, rng: &mut StdRng) -> Deed {
    some(scene, rng, (scene.members.saturating_sub(1) / 2).max(1))
}

/// One too many.
pub(super) fn majority(scene: Scene, rng: &mut StdRng) -> Deed {
    some(scene, rng, scene.members / 2 + 1)
}

/// Everybody.
pub(super) fn all(scene: Scene, _: &mut StdRng) -> Deed {
    Deed::Kill((0..scene.members).collect())
}

fn some(scene: Scene, rng: &mut StdRng, count: usize) -> Deed {
    Deed::Kill(members_by_chance(scene, rng, count))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn as_many_die_as_the_name_says() {
        let scene = Scene::of_store(5, Some(3));
        let rng = &mut StdRng::seed_from_u64(1);
        let deaths = |deed| match deed {
            Deed::Kill(members) => members.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(deaths(one(scene, rng)), 1);
        assert_eq!(deaths(minority(scene, rng)), 2);
        assert_eq!(deaths(majority(scene, rng)), 3);
        assert_eq!(deaths(all(scene, rng)), 5);
        assert_eq!(leader(scene, rng), Deed::Kill(vec![3]));
    }

    #[test]
    fn a_seed_kills_the_same_again() {
        let scene = Scene::of_store(3, None);
        assert_eq!(one(scene, &mut StdRng::seed_from_u64(9)), one(scene, &mut StdRng::seed_from_u64(9)));
    }
}
