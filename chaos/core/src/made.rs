//! Histories made for tests: by hand, and by playing clients against a model from a seed.

use crate::history::{Action, Answer, History, Operation, Outcome};

/// A small generator of numbers (splitmix64), so that tests are the same everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// An operation that was answered.
pub(crate) fn ok(process: u32, invoked: u64, completed: u64, action: Action, answer: Answer) -> Operation {
    Operation { process, invoked, completed: Some(completed), action, outcome: Outcome::Ok(answer) }
}

/// An operation whose outcome nobody knows.
pub(crate) fn unknown(process: u32, invoked: u64, completed: u64, action: Action) -> Operation {
    let outcome = Outcome::Unknown("deadline".to_owned());
    Operation { process, invoked, completed: Some(completed), action, outcome }
}

/// An operation that was refused.
pub(crate) fn failed(process: u32, invoked: u64, completed: u64, action: Action) -> Operation {
    let outcome = Outcome::Failed("refused".to_owned());
    Operation { process, invoked, completed: Some(completed), action, outcome }
}

/// A history of these operations.
pub(crate) fn history(mut operations: Vec<Operation>) -> History {
    operations.sort_by_key(|operation| operation.invoked);
    History { operations, ..History::default() }
}

/// Plays `clients` against a model that takes effect at one moment inside each operation: `act` chooses an action, and
/// `effect` performs it. Some outcomes stay unknown, with and without effect. Times are distinct.
pub(crate) fn play<S>(
    dice: &mut Dice,
    clients: u32,
    count: usize,
    unknown_percent: u64,
    state: &mut S,
    mut act: impl FnMut(&mut Dice, usize) -> Action,
    mut effect: impl FnMut(&mut S, &Action) -> Answer,
) -> Vec<Operation> {
    // Each client's operation: begin, effect and end are drawn first, then effects happen in order of time.
    let mut free_at: Vec<u64> = (0..u64::from(clients)).map(|client| client * 7).collect();
    let mut drawn = Vec::with_capacity(count);
    for number in 0..count {
        let client = (0..clients).min_by_key(|client| free_at[*client as usize]).unwrap();
        let begin = free_at[client as usize] + 1 + dice.below(50);
        let point = begin + 1 + dice.below(500);
        let end = point + 1 + dice.below(500);
        free_at[client as usize] = end;
        drawn.push((point, begin, end, client, act(dice, number)));
    }
    drawn.sort_by_key(|(point, ..)| *point);
    let mut operations = Vec::with_capacity(count);
    for (_, begin, end, client, action) in drawn {
        let (begin, end) = (begin * 1_000 + u64::from(client), end * 1_000 + u64::from(client));
        if dice.chance(unknown_percent) {
            if dice.chance(50) {
                effect(state, &action);
            }
            operations.push(unknown(client, begin, end, action));
        } else {
            let answer = effect(state, &action);
            operations.push(ok(client, begin, end, action, answer));
        }
    }
    operations.sort_by_key(|operation| operation.invoked);
    operations
}
