//! Checks while a run goes on: those that need to look at each line once. What they find, the checkers find again in the
//! end; that a run has gone wrong is known at once.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::history::{Action, Answer, Event, Facts, KeyEvent, WatchMessage, WatchStep};

/// What has been looked at so far, and what was found.
#[derive(Debug, Default)]
pub struct Live {
    looked_at: u64,
    found: u64,
    open: HashMap<u32, Action>,
    /// Revisions of writes that were acknowledged.
    revisions: HashSet<u64>,
    /// Tokens of writes under a lock or leadership, by revision.
    tokens: HashMap<String, BTreeMap<u64, u64>>,
    /// How far each watcher was told.
    told: HashMap<String, u64>,
    /// Where each pod is: by uid, node and the resourceVersion that said so.
    nodes: HashMap<String, (String, u64)>,
    bound: HashMap<String, String>,
    /// Up to when each uid was seen, and when it was deleted: resourceVersions.
    lives: HashMap<String, (u64, Option<u64>)>,
}

impl Live {
    /// Looks at a line as it is written; what it shows to be wrong, in a sentence.
    pub fn see(&mut self, event: &Event) -> Option<String> {
        let wrong = match event {
            Event::Invoke { process, op, .. } => {
                self.open.insert(*process, op.clone());
                None
            }
            Event::Ok { process, result, .. } => self.open.remove(process).and_then(|op| self.answered(&op, result)),
            Event::Fail { process, .. } | Event::Info { process, .. } => {
                self.open.remove(process);
                None
            }
            Event::Watch(message) => self.watched(message),
            _ => None,
        };
        self.found += u64::from(wrong.is_some());
        wrong
    }

    /// Answers and events that were looked at.
    pub fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Violations.
    pub fn found(&self) -> u64 {
        self.found
    }

    fn answered(&mut self, op: &Action, answer: &Answer) -> Option<String> {
        self.looked_at += 1;
        match op {
            Action::Guarded { lock: name, token, .. } | Action::Proclaim { election: name, token, .. } => {
                let revision = answer.revision?;
                let tokens = self.tokens.entry(name.clone()).or_default();
                let before = tokens.range(..revision).next_back().map(|(_, token)| *token);
                let after = tokens.range(revision + 1..).next().map(|(_, token)| *token);
                tokens.insert(revision, *token);
                let wrong = before.is_some_and(|before| before > *token) || after.is_some_and(|after| after < *token);
                wrong.then(|| format!("two holders of {name}: a write under token {token} landed at {revision}"))
            }
            Action::Write { .. } | Action::Create { .. } | Action::Add { .. } | Action::Increment { .. } => {
                let revision = answer.revision?;
                let twice = !self.revisions.insert(revision);
                twice.then(|| format!("two writes were acknowledged with revision {revision}"))
            }
            Action::Bind { pod, node } => {
                let before = self.bound.insert(pod.clone(), node.clone())?;
                Some(format!("pod {pod} was bound to {before} and to {node}"))
            }
            _ => None,
        }
    }

    fn watched(&mut self, message: &WatchMessage) -> Option<String> {
        self.looked_at += 1;
        let name = &message.watcher;
        let told = self.told.get(name).copied().unwrap_or(0);
        match &message.step {
            WatchStep::Events { events, .. } => {
                let first = events.first()?.mod_revision;
                self.told.insert(name.clone(), events.last()?.mod_revision.max(told));
                let wrong = events.iter().find_map(|event| {
                    let facts = event.value.as_deref().and_then(Facts::parse);
                    self.lives(event, facts.as_ref()).or_else(|| self.moved(event, facts?))
                });
                if first <= told {
                    return Some(format!("{name} was told {} at {first} after {told}", events[0].key));
                }
                wrong
            }
            WatchStep::Progress { revision } => {
                self.told.insert(name.clone(), told.max(*revision));
                None
            }
            WatchStep::Open { from, .. } if *from <= told => {
                Some(format!("{name} had been told up to {told}, and began again at {from}"))
            }
            _ => None,
        }
    }

    /// Watchers tell at different times: whatever comes first, nothing is later than a death.
    fn lives(&mut self, event: &KeyEvent, facts: Option<&Facts>) -> Option<String> {
        let uid = facts.map(|facts| &facts.uid).or(event.uid.as_ref()).filter(|uid| !uid.is_empty())?;
        let (seen, deleted) = self.lives.entry(uid.clone()).or_default();
        if facts.is_some() {
            *seen = event.mod_revision.max(*seen);
        } else {
            *deleted = Some(deleted.map_or(event.mod_revision, |before| before.min(event.mod_revision)));
        }
        let deleted = deleted.filter(|deleted| *deleted < *seen)?;
        Some(format!("{} with the uid {uid} was deleted at {deleted}, and is there as of {seen}", event.key))
    }

    fn moved(&mut self, event: &KeyEvent, facts: Facts) -> Option<String> {
        let pod = event.key.strip_prefix("pods/")?;
        if facts.node.is_empty() {
            return None;
        }
        let (uid, now) = (facts.uid, (facts.node, event.mod_revision));
        let before = self.nodes.insert(uid, now.clone())?;
        (before.0 != now.0).then(|| format!("pod {pod} was on {} and is on {}", before.0, now.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(lines: &[&str]) -> Vec<String> {
        let mut live = Live::default();
        lines.iter().filter_map(|line| live.see(&serde_json::from_str(line).unwrap())).collect()
    }

    #[test]
    fn what_is_in_order_passes() {
        let lines = [
            r#"{"type":"invoke","time":1,"process":0,"op":{"f":"write","key":"a","value":1}}"#,
            r#"{"type":"ok","time":2,"process":0,"result":{"revision":5}}"#,
            r#"{"type":"watch","time":3,"watcher":"w","step":"open","prefix":"","from":5}"#,
            r#"{"type":"watch","time":3,"watcher":"w","step":"events","revision":5,"events":[{"key":"a","mod_revision":5}]}"#,
            r#"{"type":"watch","time":4,"watcher":"w","step":"open","prefix":"","from":6}"#,
        ];
        assert_eq!(run(&lines), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_known_at_once() {
        let proclaim = |process: u32, token: u64| {
            format!(
                r#"{{"type":"invoke","time":1,"process":{process},"op":{{"f":"proclaim","election":"e","token":{token},"value":1}}}}"#
            )
        };
        let (first, second) = (proclaim(0, 7), proclaim(1, 3));
        let lines = [
            first.as_str(),
            &second,
            r#"{"type":"ok","time":2,"process":0,"result":{"revision":9}}"#,
            r#"{"type":"ok","time":3,"process":1,"result":{"revision":10}}"#,
            r#"{"type":"watch","time":3,"watcher":"w","step":"events","revision":5,"events":[{"key":"a","mod_revision":5}]}"#,
            r#"{"type":"watch","time":3,"watcher":"w","step":"events","revision":4,"events":[{"key":"a","mod_revision":4}]}"#,
        ];
        assert_eq!(run(&lines).len(), 2);
    }

    #[test]
    fn a_uid_that_comes_back_is_known_whichever_watcher_is_faster() {
        let told = |watcher: &str, revision: u64, rest: &str| {
            format!(
                r#"{{"type":"watch","time":1,"watcher":"{watcher}","step":"events","revision":{revision},"events":[{{"key":"pods/d/p","mod_revision":{revision},{rest}}}]}}"#
            )
        };
        let there = r#""value":"{\"uid\":\"u\"}""#;
        let (gone, early, back) = (told("a", 7, r#""uid":"u""#), told("b", 5, there), told("b", 9, there));
        assert_eq!(run(&[&gone, &early]), Vec::<String>::new());
        assert_eq!(run(&[&gone, &early, &back]).len(), 1);
        assert_eq!(run(&[&early, &back, &gone]).len(), 1);
    }
}
