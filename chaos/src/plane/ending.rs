//! The end of a run: everything comes to rest, and what is there is written down.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::Instant;
use xebec_chaos_core::history::{Event, Facts};

use super::{KINDS, World, informer, target::Target};
use crate::{etcd::unsigned, run::Recorder};

/// The cluster must have come to rest within this time after the last fault and the last request.
const REST_MAX: Duration = Duration::from_secs(90);
/// Between looks.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// A source's objects and their resourceVersions.
type Content = BTreeMap<String, u64>;

/// What all sources hold at one look.
#[derive(Default)]
struct Look {
    /// The store itself, where it can be read; otherwise the API's lists.
    store: Content,
    facts: BTreeMap<String, Facts>,
    /// Caches and servers' lists.
    others: BTreeMap<String, Content>,
}

impl Look {
    /// Whether nothing is under way any more: then whatever is wrong stays wrong.
    fn rests(&self) -> bool {
        let equal = self.others.iter().all(|(source, content)| {
            let prefix = source.split_once('@').map_or("", |(_, prefix)| prefix);
            self.store.iter().filter(|(object, _)| object.starts_with(prefix)).eq(content.iter())
        });
        let alive = |uid: &String| self.facts.values().any(|facts| facts.uid == *uid);
        equal
            && self.facts.values().all(|facts| {
                let held = !facts.finalizers.is_empty();
                let orphan = !facts.owners.is_empty() && !facts.owners.iter().any(alive);
                facts.converged() && !orphan && (held || !facts.deleting)
            })
    }
}

/// Waits until everything is at rest, or no longer, and records what the store, every server and every informer hold.
///
/// # Errors
/// The cluster cannot be read any more.
pub async fn end(target: &Target, world: &World, namespace: &str, recorder: &Recorder) -> Result<()> {
    let deadline = Instant::now() + REST_MAX;
    let look = loop {
        let look = look(target, world, namespace).await;
        match look {
            Ok(look) if look.rests() => break look,
            Ok(look) if Instant::now() > deadline => break look,
            Err(error) if Instant::now() > deadline => return Err(error).context("the cluster cannot be read"),
            Ok(_) | Err(_) => tokio::time::sleep(LOOK_PAUSE).await,
        }
    };
    let time = recorder.now();
    recorder.record(&Event::Final { time, source: "store".to_owned(), objects: look.store, facts: look.facts });
    for (source, objects) in look.others {
        recorder.record(&Event::Final { time, source, objects, facts: BTreeMap::new() });
    }
    Ok(())
}

async fn look(target: &Target, world: &World, namespace: &str) -> Result<Look> {
    let mut look = Look::default();
    for kind in KINDS.iter().filter(|kind| kind.rests()) {
        let prefix = kind.prefix(namespace);
        for (server, api) in target.apis() {
            let (_, content) = informer::list(api, *kind, namespace).await?;
            let versions = content.iter().map(|(object, (version, _))| (object.clone(), *version)).collect();
            look.others.insert(format!("list-{server}@{prefix}"), versions);
            look.facts.extend(content.into_iter().map(|(object, (_, facts))| (object, facts)));
        }
        if let Some(etcd) = target.stores().first() {
            let stored = kind.stored(namespace);
            let pairs = etcd.list(&stored).await.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
            let entry = |pair: &xebec_proto::mvccpb::KeyValue| {
                let key = String::from_utf8_lossy(&pair.key).into_owned();
                Some((format!("{prefix}{}", key.strip_prefix(&stored)?), unsigned(pair.mod_revision)))
            };
            look.store.extend(pairs.iter().filter_map(entry));
        } else if let Some((server, _)) = target.apis().first() {
            look.store.extend(look.others[&format!("list-{server}@{prefix}")].clone());
        }
        for (informer, cache) in world.contents().into_iter().filter(|(name, _)| name.ends_with(&format!("@{prefix}")))
        {
            look.others.insert(informer, cache.into_iter().map(|(object, (version, _))| (object, version)).collect());
        }
    }
    Ok(look)
}
