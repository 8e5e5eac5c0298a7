use std::collections::HashMap;

use super::*;
use crate::{
    checks::check_all,
    history::{Action, Answer, Fault, FaultPhase, Header, Leadership, Outcome},
    made::{Dice, play},
};

const SECOND: u64 = 1_000_000_000;

/// A minute of registers with a death every ten seconds.
fn run() -> History {
    let act = |dice: &mut Dice, number: usize| match (dice.chance(50), format!("r{}", dice.below(5))) {
        (true, key) => Action::Read { key },
        (false, key) => Action::Write { key, value: i64::try_from(number).unwrap() + 1 },
    };
    let effect = |registers: &mut HashMap<String, i64>, action: &Action| match action {
        Action::Write { key, value } => {
            registers.insert(key.clone(), *value);
            Answer::default()
        }
        Action::Read { key } => Answer { value: registers.get(key).copied(), ..Answer::default() },
        _ => Answer::default(),
    };
    let mut operations = play(&mut Dice(7), 8, 8_000, 1, &mut HashMap::new(), act, effect);
    let silent = |time: &mut u64| {
        // Whatever happens in the first 800 ms of a death ends with them: a silence.
        *time *= 120;
        let into = *time % (10 * SECOND);
        if (5 * SECOND..5 * SECOND + 800_000_000).contains(&into) {
            *time = *time - into + 5 * SECOND + 800_000_000 + into % 1_000_000;
        }
    };
    for operation in &mut operations {
        operation.invoked *= 120;
        operation.completed.iter_mut().for_each(silent);
        operation.completed = operation.completed.map(|time| time.max(operation.invoked + 1));
    }
    let header = Header {
        seed: 7,
        command: "xebec chaos --time 1m --seed 7".into(),
        started: "2026-11-21T06:00:00Z".into(),
        system: "3 x xebec store".into(),
        machine: "2 cores <test>".into(),
        ..Header::default()
    };
    let mut history = History { header, operations, ..History::default() };
    for death in 0..6 {
        let at = death * 10 * SECOND + 5 * SECOND;
        for (phase, time) in [(FaultPhase::Begin, at), (FaultPhase::End, at + 2 * SECOND)] {
            let name = if death % 2 == 0 { "kill-leader" } else { "pause-leader" }.to_owned();
            history.faults.push(Fault { time, id: death, name, phase, detail: format!("m{}", death % 3 + 1) });
        }
        let leader = Some(format!("m{}", (death + 1) % 3 + 1));
        let (time, term) = (at + SECOND / 2, death + 2);
        history.leaderships.push(Leadership { time, observer: "any".into(), leader, term });
    }
    history
}

/// Where a page is kept for a person to look at, if one asks: `XEBEC_REPORT_DIR`.
fn keep(name: &str, page: &str) {
    if let Some(dir) = std::env::var_os("XEBEC_REPORT_DIR") {
        std::fs::write(std::path::Path::new(&dir).join(name), page).unwrap();
    }
}

#[test]
fn a_good_run_is_one_page_that_needs_nothing_else() {
    let history = run();
    let verdicts = check_all(&history);
    let page = render(&history, &verdicts);
    keep("good.html", &page);
    assert!(page.contains("The one check holds"), "{verdicts:?}");
    for outside in ["http://", "https://", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("2 cores &lt;test&gt;"));
    assert!(page.contains("xebec chaos --time 1m --seed 7"));
    assert!(page.contains("kill-leader (3)"));
    assert_eq!(page, render(&history, &verdicts));
}

#[test]
fn a_bad_run_shows_its_counterexample() {
    let mut history = run();
    let victim =
        history.operations.iter().rposition(|operation| matches!(operation.action, Action::Read { .. })).unwrap();
    history.operations[victim].outcome = Outcome::Ok(Answer::default());
    let verdicts = check_all(&history);
    let page = render(&history, &verdicts);
    keep("bad.html", &page);
    assert!(page.contains("Not held: 1 of 1 checks"));
    assert!(page.contains("not-linearizable"));
    assert!(page.contains("op guilty"));
}

#[test]
fn a_run_without_checks_is_not_called_good() {
    let page = render(&History::default(), &[]);
    assert!(page.contains("Nothing was checked"));
}
