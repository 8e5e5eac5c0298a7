//! Broken networks between members; clients reach everybody all the time.

use std::time::Duration;

use rand::{RngExt as _, rngs::StdRng, seq::SliceRandom as _};

use super::{Deed, Link, Scene};

/// Packets in a hundred that a lossy link loses.
const LOSS_PERCENT: std::ops::Range<u32> = 10..50;

/// Milliseconds by which a slow link delays a packet, in the mean.
const SLOW_MILLIS: std::ops::Range<u64> = 10..200;

/// A majority and a minority.
pub(super) fn halves(scene: Scene, rng: &mut StdRng) -> Deed {
    let mut members: Vec<usize> = (0..scene.members).collect();
    members.shuffle(rng);
    let (minority, majority) = members.split_at(scene.members / 2);
    Deed::Cut(both_ways(minority, majority))
}

/// The leader and everybody else.
pub(super) fn leader_alone(scene: Scene, rng: &mut StdRng) -> Deed {
    let leader = scene.leader_or_any(rng);
    Deed::Cut(both_ways(&[leader], &others(scene, leader)))
}

/// Two sides that hear each other only through one member.
pub(super) fn bridge(scene: Scene, rng: &mut StdRng) -> Deed {
    let mut members: Vec<usize> = (0..scene.members).collect();
    members.shuffle(rng);
    let between = members.split_off(1.min(scene.members));
    let (left, right) = between.split_at(between.len() / 2);
    Deed::Cut(both_ways(left, right))
}

/// The leader hears nobody, everybody hears the leader.
pub(super) fn one_way(scene: Scene, rng: &mut StdRng) -> Deed {
    let leader = scene.leader_or_any(rng);
    Deed::Cut(others(scene, leader).into_iter().map(|from| Link { from, to: leader }).collect())
}

/// A follower falls behind, and then comes back in the leader's place: whoever leads next must not be the one without what the
/// others had acknowledged.
pub(super) fn left_behind(scene: Scene, rng: &mut StdRng) -> Deed {
    let leader = scene.leader_or_any(rng);
    let mut followers = others(scene, leader);
    followers.shuffle(rng);
    let behind = followers.first().copied().unwrap_or(leader);
    Deed::Turn(both_ways(&[behind], &others(scene, behind)), both_ways(&[leader], &others(scene, leader)))
}

/// The leader alone, on and off.
pub(super) fn flapping(scene: Scene, rng: &mut StdRng) -> Deed {
    match leader_alone(scene, rng) {
        Deed::Cut(links) => Deed::Flap(links),
        other => other,
    }
}

/// A member's links, both ways.
pub(super) fn lossy(scene: Scene, rng: &mut StdRng) -> Deed {
    let member = rng.random_range(0..scene.members);
    Deed::Lose(both_ways(&[member], &others(scene, member)), rng.random_range(LOSS_PERCENT))
}

/// A member's links, both ways.
pub(super) fn slow(scene: Scene, rng: &mut StdRng) -> Deed {
    let member = rng.random_range(0..scene.members);
    let mean = Duration::from_millis(rng.random_range(SLOW_MILLIS));
    Deed::Slow(both_ways(&[member], &others(scene, member)), mean)
}

fn others(scene: Scene, member: usize) -> Vec<usize> {
    (0..scene.members).filter(|other| *other != member).collect()
}

fn both_ways(left: &[usize], right: &[usize]) -> Vec<Link> {
    let pairs = left.iter().flat_map(|left| right.iter().map(move |right| (*left, *right)));
    pairs.flat_map(|(left, right)| [Link { from: left, to: right }, Link { from: right, to: left }]).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn links(deed: Deed) -> Vec<Link> {
        match deed {
            Deed::Cut(mut links) | Deed::Flap(mut links) => {
                links.sort_unstable();
                links
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn three_members_are_cut_as_the_name_says() {
        let scene = Scene::of_store(3, Some(1));
        let rng = &mut StdRng::seed_from_u64(3);
        let link = |from, to| Link { from, to };
        assert_eq!(links(leader_alone(scene, rng)), [link(0, 1), link(1, 0), link(1, 2), link(2, 1)]);
        assert_eq!(links(one_way(scene, rng)), [link(0, 1), link(2, 1)]);
        assert_eq!(links(halves(scene, rng)).len(), 4);
        assert_eq!(links(bridge(scene, rng)).len(), 2);
        assert_eq!(links(flapping(scene, rng)), links(leader_alone(scene, rng)));
        let Deed::Turn(first, then) = left_behind(scene, rng) else { panic!("nobody is left behind") };
        assert_eq!(links(Deed::Cut(then)), links(leader_alone(scene, rng)));
        assert!(first.iter().all(|link| link.from != link.to) && first.len() == 4);
        assert_ne!(links(Deed::Cut(first)), links(leader_alone(scene, rng)));
    }
}
