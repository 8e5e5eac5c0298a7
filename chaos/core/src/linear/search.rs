//! The search for an order.

use std::collections::HashSet;

use super::register::Step;

/// Up to this many steps a stuck search tells the order it had found; a copy at each advance costs too much in long ones.
const ORDER_KEPT_STEPS_MAX: usize = 1_000;

/// How a search ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Indices of the steps in an order that explains them.
    Order(Vec<u32>),
    /// There is none.
    Stuck(Stuck),
    /// The bound on states was reached.
    GaveUp,
}

/// The farthest point the search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stuck {
    /// The step that could not be placed before it returned.
    pub(super) step: u32,
    /// Nanoseconds: when it had to be placed.
    pub(super) time: u64,
    /// An order of steps before it, as long as any; empty beyond [`ORDER_KEPT_STEPS_MAX`].
    pub(super) order: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Moment {
    Call(u32),
    Return(u32),
}

/// A place in the search: how far along the calls and returns, which value, and who of those under way was placed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    moment: u32,
    value: u32,
    /// One bit a slot; a step keeps its slot from call to return.
    placed: Box<[u64]>,
}

struct Choice {
    place: Place,
    /// Length of the order before this choice.
    length: usize,
    /// Steps to try, the last one first.
    candidates: Vec<u32>,
}

struct Search<'steps> {
    steps: &'steps [Step],
    moments: Vec<Moment>,
    slots: Vec<u32>,
    /// For each return, the steps under way that will return, itself included.
    open: Vec<Vec<u32>>,
    /// Steps that never return, in order of call, with the moment of their call.
    unknown: Vec<(u32, u32)>,
    order: Vec<u32>,
    farthest: Option<(u32, Stuck)>,
}

/// Looks for an order of `steps` (in order of call) that begins with no value; visits at most `states_max` places.
pub(super) fn search(steps: &[Step], states_max: usize) -> Found {
    let mut search = Search::new(steps);
    let mut seen: HashSet<Place> = HashSet::new();
    let mut stack: Vec<Choice> = Vec::new();
    let mut place = search.start();
    loop {
        let Some(blocked) = search.advance(&mut place) else { return Found::Order(search.order) };
        search.remember(&place, blocked);
        if !seen.contains(&place) {
            if seen.len() >= states_max {
                return Found::GaveUp;
            }
            seen.insert(place.clone());
            let candidates = search.candidates(&place, blocked);
            stack.push(Choice { place: place.clone(), length: search.order.len(), candidates });
        }
        loop {
            let Some(choice) = stack.last_mut() else { return search.stuck() };
            search.order.truncate(choice.length);
            if let Some(next) = choice.candidates.pop() {
                place.clone_from(&choice.place);
                search.put(&mut place, next);
                break;
            }
            stack.pop();
        }
    }
}

impl<'steps> Search<'steps> {
    fn new(steps: &'steps [Step]) -> Self {
        let mut timed: Vec<(u64, bool, u32)> = Vec::with_capacity(steps.len() * 2);
        for (index, step) in (0_u32..).zip(steps) {
            timed.push((step.call, false, index));
            if !step.is_unknown() {
                timed.push((step.returned, true, index));
            }
        }
        // At equal times calls come first: the weaker constraint.
        timed.sort_unstable();
        let moments: Vec<_> = timed
            .iter()
            .map(|(_, is_return, step)| if *is_return { Moment::Return(*step) } else { Moment::Call(*step) })
            .collect();
        let mut search = Self {
            steps,
            open: vec![Vec::new(); moments.len()],
            moments,
            slots: vec![0; steps.len()],
            unknown: Vec::new(),
            order: Vec::new(),
            farthest: None,
        };
        search.give_slots();
        search
    }

    fn give_slots(&mut self) {
        let (mut free, mut used) = (Vec::new(), 0);
        let mut open: Vec<u32> = Vec::new();
        for (moment, what) in (0_u32..).zip(&self.moments) {
            match *what {
                Moment::Call(step) => {
                    self.slots[step as usize] = free.pop().unwrap_or_else(|| {
                        used += 1;
                        used - 1
                    });
                    if self.steps[step as usize].is_unknown() {
                        self.unknown.push((moment, step));
                    } else {
                        open.push(step);
                    }
                }
                Moment::Return(step) => {
                    self.open[moment as usize].clone_from(&open);
                    open.retain(|other| *other != step);
                    free.push(self.slots[step as usize]);
                }
            }
        }
    }

    fn start(&self) -> Place {
        let slots = self.slots.iter().max().map_or(0, |slot| *slot as usize + 1);
        Place { moment: 0, value: 0, placed: vec![0; slots.div_ceil(64)].into_boxed_slice() }
    }

    fn is_placed(&self, place: &Place, step: u32) -> bool {
        let slot = self.slots[step as usize] as usize;
        place.placed[slot / 64] >> (slot % 64) & 1 == 1
    }

    fn flip(&self, place: &mut Place, step: u32) {
        let slot = self.slots[step as usize] as usize;
        place.placed[slot / 64] ^= 1 << (slot % 64);
    }

    /// Walks on while nothing has to be decided; the step that has to return and cannot, or `None` at the end.
    fn advance(&mut self, place: &mut Place) -> Option<u32> {
        while let Some(moment) = self.moments.get(place.moment as usize) {
            match *moment {
                Moment::Call(step) => {
                    let kind = self.steps[step as usize].kind;
                    if kind.is_pure() && kind.apply(place.value).is_some() {
                        self.flip(place, step);
                        self.order.push(step);
                    }
                }
                Moment::Return(step) if self.is_placed(place, step) => self.flip(place, step),
                Moment::Return(step) => return Some(step),
            }
            place.moment += 1;
        }
        None
    }

    /// What can be taken next, best last.
    fn candidates(&self, place: &Place, blocked: u32) -> Vec<u32> {
        let open = self.open[place.moment as usize].iter().copied();
        let unknown = self.unknown.iter().take_while(|(call, _)| *call < place.moment).map(|(_, step)| *step);
        let kind = |step: u32| self.steps[step as usize].kind;
        let mut candidates: Vec<u32> = open
            .chain(unknown)
            .filter(|step| !self.is_placed(place, *step))
            .filter(|step| !kind(*step).is_pure() && kind(*step).apply(place.value).is_some())
            .collect();
        let wanted = kind(blocked).observes();
        candidates.sort_by_key(|step| {
            let helps = *step == blocked || (wanted.is_some() && kind(*step).produces() == wanted);
            (helps, std::cmp::Reverse(self.steps[*step as usize].returned))
        });
        candidates
    }

    /// Takes a step that fits, and every open read that fits after it.
    fn put(&mut self, place: &mut Place, step: u32) {
        let kind = self.steps[step as usize].kind;
        place.value = kind.apply(place.value).expect("only steps that fit are candidates");
        self.flip(place, step);
        self.order.push(step);
        let open = std::mem::take(&mut self.open[place.moment as usize]);
        for &read in &open {
            let kind = self.steps[read as usize].kind;
            if kind.is_pure() && !self.is_placed(place, read) && kind.apply(place.value).is_some() {
                self.flip(place, read);
                self.order.push(read);
            }
        }
        self.open[place.moment as usize] = open;
    }

    fn remember(&mut self, place: &Place, blocked: u32) {
        let farther = match &self.farthest {
            None => true,
            Some((moment, stuck)) => {
                place.moment > *moment || (place.moment == *moment && self.order.len() > stuck.order.len())
            }
        };
        if farther {
            let time = self.steps[blocked as usize].returned;
            let kept = self.steps.len() <= ORDER_KEPT_STEPS_MAX;
            let order = if kept { self.order.clone() } else { Vec::new() };
            self.farthest = Some((place.moment, Stuck { step: blocked, time, order }));
        }
    }

    fn stuck(self) -> Found {
        let (_, stuck) = self.farthest.expect("a search that ends without an order was blocked somewhere");
        Found::Stuck(stuck)
    }
}
