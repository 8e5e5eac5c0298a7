use super::{
    revision::{self, DESIRED_REPLICAS, MAX_REPLICAS},
    rollout::Rollout,
};
use crate::meta;

impl Rollout<'_> {
    /// Scales in the middle of a rollout, so that the risk stays as it was: every ReplicaSet in use gets its share
    /// (upstream's `dc.scale`).
    pub(super) fn scale_in_proportion(&mut self) {
        let active: Vec<usize> = (0..self.members.len()).filter(|index| self.members[*index].size() > 0).collect();
        let only = match active[..] {
            [] => self.new.or_else(|| self.members.len().checked_sub(1)),
            [one] => Some(one),
            _ => None,
        };
        if let Some(index) = only {
            self.scale(index, self.replicas());
            return;
        }
        if active.is_empty() {
            return;
        }
        if self.is_saturated() {
            for index in active {
                if Some(index) != self.new {
                    self.scale(index, 0);
                }
            }
            return;
        }
        let rolling = self.spec.strategy.as_ref().and_then(|s| s.type_.as_deref());
        if rolling != Some("Recreate") {
            self.share_out(active);
        }
    }

    /// Whether the new ReplicaSet alone already is the whole Deployment.
    fn is_saturated(&self) -> bool {
        self.new_member().is_some_and(|new| {
            revision::size_annotation(&new.set, DESIRED_REPLICAS) == Some(self.replicas())
                && new.size() == self.replicas()
                && new.available() == self.replicas()
        })
    }

    fn share_out(&mut self, mut active: Vec<usize>) {
        let allowed = if self.replicas() > 0 { self.replicas() + self.max_surge() } else { 0 };
        let total: i32 = active.iter().map(|index| self.members[*index].size()).sum();
        let to_add = allowed - total;
        // Members are sorted by age. Growth prefers the newest of equal size, shrinking the oldest.
        if to_add > 0 {
            active.reverse();
        }
        active.sort_by_key(|index| -self.members[*index].size());
        let mut added = 0;
        let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
        for index in &active {
            let size = self.members[*index].size();
            let share = self.share(*index, to_add, added);
            added += share;
            sizes.push(size + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (index, size) in active.into_iter().zip(sizes) {
            self.scale(index, size.max(0));
        }
    }

    fn share(&self, index: usize, to_add: i32, added: i32) -> i32 {
        let left = to_add - added;
        if left == 0 {
            return 0;
        }
        let fraction = self.fraction(index);
        if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
    }

    /// How much the ReplicaSet would change if it kept its part of the Deployment.
    fn fraction(&self, index: usize) -> i32 {
        let member = &self.members[index];
        if self.replicas() == 0 {
            return -member.size();
        }
        let status = || self.deployment().status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
        let before = revision::size_annotation(&member.set, MAX_REPLICAS).unwrap_or_else(status);
        if before == 0 || meta::is_deleting(&member.set) {
            return 0;
        }
        let after = i64::from(self.replicas() + self.max_surge());
        let scaled = i64::from(member.size()) * after;
        let before = i64::from(before);
        let rounded = (2 * scaled + before) / (2 * before);
        i32::try_from(rounded).unwrap_or(i32::MAX) - member.size()
    }
}
