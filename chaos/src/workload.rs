//! Clients that write while things break, and remember what they were told.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::{ApiClient, Outcome};

/// Clients of the writing workload.
const WRITERS: usize = 4;
/// A writer that was not answered waits this long before it goes on.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// What the writers saw.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Names whose creation was acknowledged.
    pub acknowledged: BTreeSet<String>,
    /// Names whose creation may or may not have happened.
    pub unknown: BTreeSet<String>,
    /// When acknowledgements arrived.
    pub times: Vec<Instant>,
    /// Refusals that no writer should ever see.
    pub refused: Vec<String>,
}

impl Record {
    /// The longest time without an acknowledgement.
    pub fn longest_gap(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// Writers that create ConfigMaps, each under a name of its own, until they are stopped.
pub struct Writers {
    client: ApiClient,
    collection: String,
    record: Arc<Mutex<Record>>,
    stop: CancellationToken,
    tasks: tokio::task::JoinSet<()>,
}

impl Writers {
    /// Starts the writers in a namespace that exists.
    pub fn start(client: &ApiClient, namespace: &str) -> Self {
        let collection = format!("/api/v1/namespaces/{namespace}/configmaps");
        let (record, stop) = (Arc::new(Mutex::new(Record::default())), CancellationToken::new());
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let (client, collection) = (client.clone(), collection.clone());
            let (record, stop) = (Arc::clone(&record), stop.clone());
            tasks.spawn(async move {
                for number in 0_u64.. {
                    if stop.is_cancelled() {
                        return;
                    }
                    write_one(&client, &collection, format!("w{writer}-{number}"), &record).await;
                }
            });
        }
        Self { client: client.clone(), collection, record, stop, tasks }
    }

    /// What was acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.record.lock().expect("no writer panics while it holds the record").times.len()
    }

    /// Stops the writers, reads everything back, and fails if an acknowledged write is missing or something is there
    /// that nobody wrote.
    ///
    /// # Errors
    /// What was lost, resurrected or refused; or the API does not answer.
    pub async fn check(mut self) -> Result<Record> {
        self.stop.cancel();
        while let Some(task) = self.tasks.join_next().await {
            task?;
        }
        let record = self.record.lock().expect("no writer panics while it holds the record").clone();
        let listed = match self.client.get(&self.collection).await {
            Outcome::Done(list) => list,
            other => bail!("cannot read the writes back: {other:?}"),
        };
        let names = listed["items"].as_array().into_iter().flatten();
        let found: BTreeSet<String> =
            names.filter_map(|item| item["metadata"]["name"].as_str()).map(str::to_owned).collect();
        compare(&record, &found)?;
        Ok(record)
    }
}

async fn write_one(client: &ApiClient, collection: &str, name: String, record: &Mutex<Record>) {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"by": name}});
    let outcome = client.create(collection, &object).await;
    let answered = matches!(outcome, Outcome::Done(_));
    {
        let mut record = record.lock().expect("no writer panics while it holds the record");
        match outcome {
            Outcome::Done(_) => {
                record.acknowledged.insert(name);
                record.times.push(Instant::now());
            }
            // Overload is a promise that nothing was done, and no reason to stop.
            Outcome::Refused(429, _) => {}
            Outcome::Refused(code, status) => record.refused.push(format!("{name}: {code} {}", status["message"])),
            Outcome::Unknown(_) => {
                record.unknown.insert(name);
            }
        }
    }
    if !answered {
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

fn compare(record: &Record, found: &BTreeSet<String>) -> Result<()> {
    let lost: Vec<_> = record.acknowledged.difference(found).collect();
    if !lost.is_empty() {
        bail!("{} acknowledged writes are lost, the first of them {:?}", lost.len(), &lost[..lost.len().min(5)]);
    }
    let strange: Vec<_> = found
        .iter()
        .filter(|name| name.starts_with('w') && !record.acknowledged.contains(*name) && !record.unknown.contains(*name))
        .collect();
    if !strange.is_empty() {
        bail!("{} objects are there that nobody wrote: {:?}", strange.len(), &strange[..strange.len().min(5)]);
    }
    if !record.refused.is_empty() {
        bail!("{} writes were refused, the first: {}", record.refused.len(), record.refused[0]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn record() -> Record {
        Record { acknowledged: names(&["w0-0", "w0-2"]), unknown: names(&["w0-1"]), ..Record::default() }
    }

    #[test]
    fn a_lost_write_is_found() {
        compare(&record(), &names(&["w0-0"])).expect_err("w0-2 is lost");
    }

    #[test]
    fn an_object_nobody_wrote_is_found() {
        compare(&record(), &names(&["w0-0", "w0-2", "w9-9"])).expect_err("w9-9 was never written");
    }

    #[test]
    fn an_unanswered_write_may_be_there_or_not() {
        compare(&record(), &names(&["w0-0", "w0-2"])).unwrap();
        compare(&record(), &names(&["w0-0", "w0-1", "w0-2", "kube-root-ca.crt"])).unwrap();
    }

    #[test]
    fn the_gap_is_the_longest_silence() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let record = Record { times: vec![at(0), at(900), at(10), at(950)], ..Record::default() };
        assert_eq!(record.longest_gap(), Duration::from_millis(890));
    }
}
