//! From lines to a history.

use std::{collections::HashMap, io::BufRead};

use thiserror::Error;

use super::{Event, FORMAT_VERSION, Header, History, Operation, Outcome};

/// Why a file is not a history.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The source failed.
    #[error("cannot read the history")]
    Io(#[from] std::io::Error),
    /// A line is not what the format says.
    #[error("line {line} of the history")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Another version of the format.
    #[error("the history has format {found}, this program reads {FORMAT_VERSION}")]
    Version {
        /// What the file says.
        found: u32,
    },
    /// A client answered without having asked, or asked twice.
    #[error("line {line} of the history: process {process} {what}")]
    Order {
        /// Counted from 1.
        line: usize,
        /// The client.
        process: u32,
        /// What it did.
        what: &'static str,
    },
    /// The file is empty.
    #[error("the history has no header")]
    NoHeader,
}

/// Reads a whole history. A last line that was cut off by the end of its writer is an error, as any other.
///
/// # Errors
/// The source fails or the lines are not a history.
pub fn read(source: impl BufRead) -> Result<History, ReadError> {
    let mut lines = source.lines().enumerate();
    let (_, first) = lines.next().ok_or(ReadError::NoHeader)?;
    let header: Header = parse(1, &first?)?;
    if header.xebec_history != FORMAT_VERSION {
        return Err(ReadError::Version { found: header.xebec_history });
    }
    let mut building = Building { history: History { header, ..History::default() }, open: HashMap::new() };
    for (index, line) in lines {
        let line = line?;
        if !line.trim().is_empty() {
            building.add(index + 1, parse(index + 1, &line)?)?;
        }
    }
    Ok(building.finish())
}

fn parse<T: serde::de::DeserializeOwned>(line: usize, text: &str) -> Result<T, ReadError> {
    serde_json::from_str(text).map_err(|source| ReadError::Line { line, source })
}

struct Building {
    history: History,
    /// Process to the index of its request under way.
    open: HashMap<u32, usize>,
}

impl Building {
    fn add(&mut self, line: usize, event: Event) -> Result<(), ReadError> {
        match event {
            Event::Invoke { time, process, op } => {
                let outcome = Outcome::Unknown("the history ends before an answer".to_owned());
                let operation = Operation { process, invoked: time, completed: None, action: op, outcome };
                self.history.operations.push(operation);
                if self.open.insert(process, self.history.operations.len() - 1).is_some() {
                    return Err(ReadError::Order { line, process, what: "asks before it was answered" });
                }
            }
            Event::Ok { time, process, result } => self.complete(line, process, time, Outcome::Ok(result))?,
            Event::Fail { time, process, error } => self.complete(line, process, time, Outcome::Failed(error))?,
            Event::Info { time, process, error } => self.complete(line, process, time, Outcome::Unknown(error))?,
            Event::Fault(fault) => self.history.faults.push(fault),
            Event::Leader(leadership) => self.history.leaderships.push(leadership),
            Event::Watch(message) => self.history.watches.push(message),
            Event::Final { source, objects, facts, .. } => {
                self.history.finals.insert(source, objects);
                self.history.facts.extend(facts);
            }
            Event::Measure(measure) => self.history.measures.push(measure),
        }
        Ok(())
    }

    fn complete(&mut self, line: usize, process: u32, time: u64, outcome: Outcome) -> Result<(), ReadError> {
        let index =
            self.open.remove(&process).ok_or(ReadError::Order { line, process, what: "is answered without asking" })?;
        let operation = &mut self.history.operations[index];
        if time < operation.invoked {
            return Err(ReadError::Order { line, process, what: "is answered before it asked" });
        }
        operation.completed = Some(time);
        operation.outcome = outcome;
        Ok(())
    }

    fn finish(mut self) -> History {
        self.history.operations.sort_by_key(|operation| operation.invoked);
        self.history.faults.sort_by_key(|fault| fault.time);
        self.history.leaderships.sort_by_key(|leadership| leadership.time);
        self.history.measures.sort_by_key(|measure| measure.time);
        self.history
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Action, Answer, Writer};

    const SAMPLE: &str = r#"{"xebec_history":1,"seed":7}
{"type":"invoke","time":10,"process":0,"op":{"f":"write","key":"a","value":1}}
{"type":"invoke","time":12,"process":1,"op":{"f":"read","key":"a"}}
{"type":"fault","time":13,"id":1,"name":"kill-leader","phase":"begin","detail":"m1"}
{"type":"ok","time":15,"process":1,"result":{"value":1,"revision":2}}
{"type":"info","time":20,"process":0,"error":"deadline"}
{"type":"leader","time":21,"observer":"m2","leader":"m2","term":3}
{"type":"watch","time":22,"watcher":"w","step":"events","revision":2,"events":[{"key":"a","value":"1","mod_revision":2,"create_revision":2,"version":1}]}
{"type":"invoke","time":30,"process":0,"op":{"f":"cas","key":"a","from":null,"to":2}}
"#;

    #[test]
    fn requests_find_their_answers() {
        let history = read(SAMPLE.as_bytes()).unwrap();
        assert_eq!(history.header.seed, 7);
        assert_eq!(history.operations.len(), 3);
        assert_eq!(history.operations[0].outcome, Outcome::Unknown("deadline".to_owned()));
        let answer = Answer { value: Some(1), revision: Some(2), ..Answer::default() };
        assert_eq!(history.operations[1].outcome, Outcome::Ok(answer));
        assert_eq!(history.operations[2].completed, None);
        assert_eq!(history.operations[2].action, Action::Cas { key: "a".to_owned(), from: None, to: 2 });
        assert_eq!((history.faults.len(), history.leaderships.len(), history.watches.len()), (1, 1, 1));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &Header::default()).unwrap();
        for line in SAMPLE.lines().skip(1) {
            writer.write(&serde_json::from_str(line).unwrap()).unwrap();
        }
        writer.flush().unwrap();
        let mut expected = read(SAMPLE.as_bytes()).unwrap();
        expected.header = Header::default();
        assert_eq!(read(bytes.as_slice()).unwrap(), expected);
    }

    #[test]
    fn another_version_is_refused() {
        let error = read(r#"{"xebec_history":2}"#.as_bytes()).expect_err("version 2");
        assert!(matches!(error, ReadError::Version { found: 2 }));
    }

    #[test]
    fn an_answer_without_a_request_is_refused_with_its_line() {
        let text = "{\"xebec_history\":1}\n{\"type\":\"ok\",\"time\":1,\"process\":4}\n";
        let error = read(text.as_bytes()).expect_err("nobody asked");
        assert!(matches!(error, ReadError::Order { line: 2, process: 4, .. }));
    }
}
