//! Operations in the few words that a timeline has room for.

use super::{Action, Answer, MicroOperation, Operation, Outcome};
use crate::verdict::Bar;

/// Elements of a list that are shown, from its end.
const ELEMENTS_SHOWN: usize = 6;

impl Operation {
    /// What was asked and what came of it.
    pub fn describe(&self) -> String {
        let nothing = Answer::default();
        let (answer, suffix) = match &self.outcome {
            Outcome::Ok(answer) => (answer, ""),
            Outcome::Failed(_) => (&nothing, " (failed)"),
            Outcome::Unknown(_) => (&nothing, " (unknown)"),
        };
        let text = describe(&self.action, answer, self.answer().is_some());
        let revision = answer.revision.map_or_else(String::new, |revision| format!(" @{revision}"));
        format!("{text}{revision}{suffix}")
    }

    /// The operation as a bar of a timeline.
    pub fn bar(&self, guilty: bool) -> Bar {
        Bar {
            row: format!("p{}", self.process),
            begin: self.invoked,
            end: self.answer().is_some().then_some(self.completed).flatten(),
            label: self.describe(),
            guilty,
        }
    }
}

fn describe(action: &Action, answer: &Answer, answered: bool) -> String {
    let show = |value: Option<i64>| value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
    let told = |value: Option<i64>| if answered { format!(" {}", show(value)) } else { String::new() };
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| format!(" -> {value}"));
    match action {
        Action::Read { key } => format!("read {key}{}", told(answer.value)),
        Action::Write { key, value } => format!("write {key} {value}"),
        Action::Delete { key } => format!("delete {key}"),
        Action::Cas { key, from, to } => {
            let refused = match (answer.swapped, answer.value, answer.present) {
                (Some(false), None, Some(false)) => " refused, found nothing".to_owned(),
                (Some(false), None, _) => " refused".to_owned(),
                (Some(false), found, _) => format!(" refused, found {}", show(found)),
                _ => String::new(),
            };
            format!("cas {key} {} to {to}{refused}", show(*from))
        }
        Action::Txn { ops } => transaction(ops, answer),
        Action::Add { set, element } => format!("add {set} {element}"),
        Action::ReadSet { set } => format!("read {set}{}", answer.elements.as_deref().map_or(String::new(), shortened)),
        Action::Increment { counter, by } => format!("increment {counter} by {by}"),
        Action::ReadCounter { counter } => format!("read {counter}{}", told(answer.value.or(Some(0)))),
        Action::Transfer { from, to, amount } => format!("transfer {amount} from {from} to {to}"),
        Action::ReadAccounts => match &answer.balances {
            Some(balances) => {
                let total: i64 = balances.values().sum();
                let lowest = balances.values().min().copied().unwrap_or(0);
                format!("read {} accounts, total {total}, lowest {lowest}", balances.len())
            }
            None => "read accounts".to_owned(),
        },
        Action::Acquire { lock } => format!("acquire {lock}{}", number(answer.token)),
        Action::Release { lock, token } => format!("release {lock} token {token}"),
        Action::Guarded { lock, token, value } => format!("write {value} under {lock} token {token}"),
        Action::Grant { lease, ttl_ms } => format!("grant lease {lease} for {ttl_ms} ms"),
        Action::KeepAlive { lease } => format!("renew lease {lease}{}", number(answer.ttl_ms)),
        Action::Revoke { lease } => format!("revoke lease {lease}"),
        Action::Attach { key, lease } => format!("write {key} under lease {lease}"),
        Action::Look { key } => match answer.present {
            Some(true) => format!("look {key}: there"),
            Some(false) => format!("look {key}: gone"),
            None => format!("look {key}"),
        },
        Action::Campaign { election } => format!("campaign {election}{}", number(answer.token)),
        Action::Proclaim { election, token, value } => format!("write {value} as leader of {election} token {token}"),
        Action::Resign { election, token } => format!("resign {election} token {token}"),
        Action::Compact { revision } => format!("compact to {revision}"),
        Action::Create { object } => format!("create {object}"),
        Action::Update { object, based_on } => format!("update {object}{}", number(*based_on)),
        Action::Remove { object } => format!("delete {object}"),
        Action::LetGo { object } => format!("let go of {object}"),
        Action::Get { object } if answered && answer.revision.is_none() => format!("get {object}: absent"),
        Action::Get { object } => format!("get {object}"),
        Action::Await { task, object } => format!("await {object} {task}"),
        Action::Probe { service } => format!("ask {service}"),
        Action::Bind { pod, node } => format!("bind {pod} to {node}"),
        Action::Claim { resource, owner } => format!("{owner} claims {resource}"),
        Action::Unclaim { resource, owner } => format!("{owner} gives up {resource}"),
    }
}

fn transaction(ops: &[MicroOperation], answer: &Answer) -> String {
    let steps = ops.iter().enumerate().map(|(position, step)| match step {
        MicroOperation::Append { key, value } => format!("append {key} {value}"),
        MicroOperation::Read { key } => match answer.reads.as_ref().and_then(|reads| reads.get(position)) {
            Some(Some(list)) => format!("read {key}{}", shortened(list)),
            _ => format!("read {key} ?"),
        },
    });
    steps.collect::<Vec<_>>().join(", ")
}

fn shortened(list: &[i64]) -> String {
    let shown: Vec<_> = list.iter().skip(list.len().saturating_sub(ELEMENTS_SHOWN)).map(i64::to_string).collect();
    let dots = if list.len() > ELEMENTS_SHOWN { ".. " } else { "" };
    format!(" [{dots}{}]", shown.join(" "))
}
