//! Garbage collection: objects whose owners are gone.
//!
//! The graph holds the metadata of every object the API can list. It only says where to look: before anything is
//! deleted, owners it does not know are asked for at the API server.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use crate::{
    action::{Action, DeleteOptions, Propagation, Target},
    resource::Resource,
};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// One object, as far as ownership goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The object.
    pub target: Target,
    /// Its UID.
    pub uid: String,
    /// Its version.
    pub resource_version: Option<String>,
    /// Who owns it.
    pub owners: Vec<OwnerReference>,
    /// What holds its deletion.
    pub finalizers: Vec<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl Item {
    /// The item of an object's metadata; `None` when it has no name or UID.
    #[must_use]
    pub fn new(resource: &Resource, meta: &ObjectMeta) -> Option<Self> {
        Some(Self {
            target: Target { resource: resource.clone(), namespace: meta.namespace.clone(), name: meta.name.clone()? },
            uid: meta.uid.clone()?,
            resource_version: meta.resource_version.clone(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
        })
    }

    fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|have| have == finalizer)
    }

    fn awaits_dependents(&self) -> bool {
        self.deleting && self.has(FOREGROUND)
    }

    fn orphans(&self) -> bool {
        self.deleting && self.has(ORPHAN)
    }
}

/// Every known object, and who depends on whom.
#[derive(Debug, Default)]
pub struct Graph {
    items: HashMap<String, Item>,
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    /// The object with that UID.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<&Item> {
        self.items.get(uid)
    }

    /// Notes an object's present state. Returns the UIDs to look at.
    pub fn upsert(&mut self, item: Item) -> Vec<String> {
        let uid = item.uid.clone();
        let before = self.items.get(&uid);
        let mut wake = Vec::new();
        let owners_changed = before.is_none_or(|before| before.owners != item.owners);
        if owners_changed {
            let old: Vec<String> = before.iter().flat_map(|b| &b.owners).map(|owner| owner.uid.clone()).collect();
            for owner in &old {
                self.forget_dependent(owner, &uid);
            }
            // An owner that waits for its dependents looks again when one turns away from it.
            wake.extend(old.into_iter().filter(|owner| !item.owners.iter().any(|o| o.uid == *owner)));
            for owner in &item.owners {
                self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            }
        }
        let missing = |owner: &OwnerReference| match self.items.get(&owner.uid) {
            None => true,
            Some(owner) => owner.awaits_dependents(),
        };
        let suspicious = owners_changed && item.owners.iter().any(missing);
        if item.awaits_dependents() || item.orphans() || suspicious {
            wake.push(uid.clone());
        }
        // A dependent that begins its own foreground deletion may end a circle.
        if item.awaits_dependents() {
            wake.extend(item.owners.iter().map(|owner| owner.uid.clone()));
        }
        self.items.insert(uid, item);
        wake
    }

    /// Notes that an object is gone. Returns the UIDs to look at: what it owned, and what waited for it.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(item) = self.items.remove(uid) else { return Vec::new() };
        let mut wake: Vec<String> = self.dependents_of(uid).map(|item| item.uid.clone()).collect();
        for owner in item.owners {
            self.forget_dependent(&owner.uid, uid);
            wake.push(owner.uid);
        }
        wake
    }

    /// Every object that might be garbage, for the first look once the graph is complete.
    #[must_use]
    pub fn suspects(&self) -> Vec<String> {
        self.items
            .values()
            .filter(|item| {
                item.awaits_dependents() || item.orphans() || item.owners.iter().any(|owner| !self.is_solid(owner))
            })
            .map(|item| item.uid.clone())
            .collect()
    }

    fn is_solid(&self, owner: &OwnerReference) -> bool {
        self.items.get(&owner.uid).is_some_and(|item| !item.awaits_dependents())
    }

    fn forget_dependent(&mut self, owner: &str, uid: &str) {
        if let Some(set) = self.dependents.get_mut(owner) {
            set.remove(uid);
            if set.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    fn dependents_of(&self, uid: &str) -> impl Iterator<Item = &Item> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.items.get(uid))
    }

    /// Owners of the object that the graph does not know and that must be asked for.
    #[must_use]
    pub fn unknown_owners(&self, uid: &str) -> Vec<OwnerReference> {
        let Some(item) = self.items.get(uid) else { return Vec::new() };
        item.owners.iter().filter(|owner| !self.knows(item, owner)).cloned().collect()
    }

    /// Whether the graph has that owner where the reference says it is: a namespaced owner of another namespace, or an
    /// owner of another kind, is none (upstream's `coordinatesMatch`).
    fn knows(&self, item: &Item, owner: &OwnerReference) -> bool {
        self.items.get(&owner.uid).is_some_and(|known| {
            known.target.name == owner.name
                && known.target.resource.kind == owner.kind
                && (!known.target.resource.namespaced || known.target.namespace == item.target.namespace)
        })
    }
}

/// What is seen of one suspect.
#[derive(Debug)]
pub struct Observed<'g> {
    /// The graph.
    pub graph: &'g Graph,
    /// The suspect.
    pub uid: &'g str,
    /// UIDs of unknown owners that the API server says do not exist.
    pub absent: BTreeSet<String>,
}

/// Settles one suspect (`pkg/controller/garbagecollector`, `attemptToDeleteItem` and `attemptToOrphan`).
#[must_use]
pub fn reconcile(observed: &Observed<'_>) -> Vec<Action> {
    let Some(item) = observed.graph.get(observed.uid) else { return Vec::new() };
    if item.orphans() {
        return orphan(observed.graph, item);
    }
    if item.awaits_dependents() {
        return finish_foreground(observed.graph, item);
    }
    if item.deleting || item.owners.is_empty() {
        return Vec::new();
    }
    let (mut solid, mut dangling, mut waiting) = (0, Vec::new(), Vec::new());
    for owner in &item.owners {
        match observed.graph.get(&owner.uid) {
            _ if observed.absent.contains(&owner.uid) => dangling.push(owner),
            Some(known) if known.awaits_dependents() => waiting.push(owner),
            _ => solid += 1,
        }
    }
    if dangling.is_empty() && waiting.is_empty() {
        return Vec::new();
    }
    if solid > 0 {
        let gone: BTreeSet<&str> = dangling.iter().chain(&waiting).map(|owner| owner.uid.as_str()).collect();
        return vec![keep_owners(item, |owner| !gone.contains(owner.uid.as_str()))];
    }
    let mut dependents = observed.graph.dependents_of(&item.uid).peekable();
    if !waiting.is_empty() && dependents.peek().is_some() {
        let mut actions = Vec::new();
        // A circle of blocking references would wait for itself for ever.
        if dependents.any(Item::awaits_dependents) {
            actions.push(unblock(item));
        }
        actions.push(delete(item, Propagation::Foreground));
        return actions;
    }
    let propagation = if item.has(ORPHAN) {
        Propagation::Orphan
    } else if item.has(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    vec![delete(item, propagation)]
}

fn orphan(graph: &Graph, item: &Item) -> Vec<Action> {
    let mut actions: Vec<Action> =
        graph.dependents_of(&item.uid).map(|dependent| keep_owners(dependent, |owner| owner.uid != item.uid)).collect();
    actions.push(drop_finalizer(item, ORPHAN));
    actions
}

fn finish_foreground(graph: &Graph, item: &Item) -> Vec<Action> {
    let blocking: Vec<&Item> = graph
        .dependents_of(&item.uid)
        .filter(|dependent| {
            let mut owners = dependent.owners.iter();
            owners.any(|o| o.uid == item.uid && o.block_owner_deletion == Some(true))
        })
        .collect();
    if blocking.is_empty() {
        return vec![drop_finalizer(item, FOREGROUND)];
    }
    // Dependents whose every owner is going are deleted now; each one's own reconciliation would come to the same.
    blocking
        .into_iter()
        .filter(|dependent| !dependent.deleting)
        .filter(|dependent| dependent.owners.iter().all(|owner| !graph.is_solid(owner)))
        .filter(|dependent| dependent.owners.iter().all(|owner| graph.get(&owner.uid).is_some()))
        .map(|dependent| {
            let has_own = graph.dependents_of(&dependent.uid).next().is_some();
            delete(dependent, if has_own { Propagation::Foreground } else { Propagation::Background })
        })
        .collect()
}

fn delete(item: &Item, propagation: Propagation) -> Action {
    Action::Delete {
        target: item.target.clone(),
        options: DeleteOptions {
            uid: Some(item.uid.clone()),
            // Somebody who adopts the object in this moment wins.
            resource_version: item.resource_version.clone(),
            propagation: Some(propagation),
            grace_period_seconds: None,
        },
    }
}

fn patch(item: &Item, mut metadata: BTreeMap<&str, serde_json::Value>) -> Action {
    metadata.insert("uid", json!(item.uid));
    metadata.insert("resourceVersion", json!(item.resource_version));
    Action::Patch { target: item.target.clone(), subresource: None, body: json!({ "metadata": metadata }) }
}

fn keep_owners(item: &Item, keep: impl Fn(&OwnerReference) -> bool) -> Action {
    let owners: Vec<_> = item.owners.iter().filter(|owner| keep(owner)).collect();
    patch(item, [("ownerReferences", json!(owners))].into())
}

fn unblock(item: &Item) -> Action {
    let mut owners = item.owners.clone();
    for owner in &mut owners {
        owner.block_owner_deletion = Some(false);
    }
    patch(item, [("ownerReferences", json!(owners))].into())
}

fn drop_finalizer(item: &Item, finalizer: &str) -> Action {
    let kept: Vec<_> = item.finalizers.iter().filter(|have| *have != finalizer).collect();
    patch(item, [("finalizers", json!(kept))].into())
}

#[cfg(test)]
mod tests;
