//! The figures of a run with their distributions, by kind of fault: for the terminal, the page and `verdicts.json`.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    axis::{escape, length, write_to},
    figures::{Distribution, Figures},
};
use crate::history::History;

/// Stands for faults of every kind together.
const EVERY_FAULT: &str = "(all)";

/// One figure over all faults of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// What: `write-gap`, `read-gap`, `scheduled-gap`, `catch-up`.
    pub figure: String,
    /// Kind of fault.
    pub fault: String,
    /// Faults that were looked at.
    pub count: usize,
    /// Nanoseconds that half of them did not exceed.
    pub p50: u64,
    /// Nanoseconds that 99 of 100 did not exceed.
    pub p99: u64,
    /// Nanoseconds of the longest.
    pub longest: u64,
}

/// All figures of a run, by figure and kind of fault.
pub fn spreads(history: &History, figures: &Figures) -> Vec<Spread> {
    let mut values: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    let mut add = |figure: &str, fault: &str, value: u64| {
        for fault in [fault, EVERY_FAULT] {
            values.entry((figure.to_owned(), fault.to_owned())).or_default().push(value);
        }
    };
    for fault in &figures.faults {
        add("write-gap", &fault.name, fault.write_gap);
        add("read-gap", &fault.name, fault.read_gap);
        for (task, gap) in &fault.awaited {
            add(&format!("{task}-gap"), &fault.name, *gap);
        }
    }
    for measure in &history.measures {
        let fault = history.faults.iter().find(|fault| fault.id == measure.fault);
        add(&measure.name, fault.map_or("?", |fault| &fault.name), measure.took);
    }
    let spread = |((figure, fault), values): ((String, String), Vec<u64>)| {
        let values = Distribution::new(values);
        let at = |percent| values.percentile(percent).unwrap_or(0);
        Spread { figure, fault, count: values.count(), p50: at(50), p99: at(99), longest: at(100) }
    };
    values.into_iter().map(spread).collect()
}

impl fmt::Display for Spread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, longest] = [self.p50, self.p99, self.longest].map(length);
        let times = format!("x{}", self.count);
        write!(
            out,
            "{:<18} {:<18} {times:>5}  p50 {p50:>8}  p99 {p99:>8}  longest {longest:>8}",
            self.figure, self.fault
        )
    }
}

/// All of it as a table of the page.
pub(super) fn table(spreads: &[Spread]) -> String {
    let mut out =
        "<table><thead><tr><th>figure<th>fault<th class=n>times<th class=n>p50<th class=n>p99<th class=n>longest\
                   </tr></thead><tbody>"
            .to_owned();
    for spread in spreads {
        let [p50, p99, longest] = [spread.p50, spread.p99, spread.longest].map(length);
        let (figure, fault, count) = (escape(&spread.figure), escape(&spread.fault), spread.count);
        write_to(
            &mut out,
            format_args!(
                "<tr><td>{figure}<td>{fault}<td class=n>{count}<td class=n>{p50}<td class=n>{p99}<td class=n>{longest}</tr>"
            ),
        );
    }
    out + "</tbody></table>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{Action, Answer, Fault, FaultPhase, Measure},
        made::{history, ok},
    };

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn figures_are_told_by_kind_of_fault() {
        let awaited = |end: u64| {
            let action = Action::Await { task: "scheduled".into(), object: format!("pods/d/p{end}") };
            ok(u32::try_from(end).unwrap(), end * SECOND - 1, end * SECOND, action, Answer::default())
        };
        let mut history = history([1, 2, 5, 6].map(awaited).to_vec());
        let fault = |time, phase| Fault { time, id: 1, name: "kill-leader".into(), phase, detail: "m1".into() };
        history.faults = vec![fault(3 * SECOND, FaultPhase::Begin), fault(4 * SECOND, FaultPhase::End)];
        let (name, detail) = ("catch-up".to_owned(), String::new());
        history.measures = vec![Measure { time: 6 * SECOND, name, fault: 1, took: 7, detail }];
        let spreads = spreads(&history, &Figures::of(&history));
        let find =
            |figure: &str| spreads.iter().find(|spread| spread.figure == figure && spread.fault == "kill-leader");
        assert_eq!(find("scheduled-gap").unwrap().longest, 3 * SECOND);
        assert_eq!(find("catch-up").unwrap().p99, 7);
        assert_eq!(find("scheduled-gap").unwrap().to_string().split_whitespace().last(), Some("s"));
    }
}
