use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;

use crate::{
    action::{Action, Target},
    meta::{self, Object},
    selector,
};

/// Which of the candidates belong to an owner, and what makes it so.
#[derive(Debug)]
pub struct Claim<K> {
    /// Objects the owner controls once `actions` are done.
    pub owned: Vec<Arc<K>>,
    /// Adoptions and releases.
    pub actions: Vec<Action>,
}

/// Settles ownership as upstream does (`pkg/controller/controller_ref_manager.go`): what the owner controls and selects
/// stays, what it controls but no longer selects is released, what it selects and nobody controls is adopted. Before
/// the first adoption the owner is verified live, since an adoption by a deleted owner would let the garbage collector
/// remove the object.
pub fn claim<O: Object, K: Object>(
    owner: &O,
    wanted: &LabelSelector,
    candidates: impl IntoIterator<Item = Arc<K>>,
) -> Claim<K>
where
    O::Scope: 'static,
    K::Scope: 'static,
{
    let mut claim = Claim { owned: Vec::new(), actions: Vec::new() };
    let mut verified = false;
    for candidate in candidates {
        let selected = selector::matches(wanted, candidate.metadata().labels.as_ref());
        match meta::controller_of(candidate.metadata()) {
            Some(controller) if controller.uid != meta::uid(owner) => {}
            Some(_) if selected => claim.owned.push(candidate),
            Some(_) => {
                if !meta::is_deleting(owner) && !meta::is_deleting(&*candidate) {
                    claim.actions.push(release(owner, &*candidate));
                }
            }
            None => {
                if !selected || meta::is_deleting(owner) || meta::is_deleting(&*candidate) {
                    continue;
                }
                if !verified {
                    verified = true;
                    claim.actions.push(Action::Verify { target: Target::of(owner), uid: meta::uid(owner).to_owned() });
                }
                claim.actions.push(adopt(owner, &*candidate));
                claim.owned.push(candidate);
            }
        }
    }
    claim
}

fn adopt<O: Object, K: Object>(owner: &O, object: &K) -> Action
where
    K::Scope: 'static,
{
    let mut owners = object.metadata().owner_references.clone().unwrap_or_default();
    owners.push(meta::controller_reference(owner));
    Action::patch(
        object,
        json!({ "metadata": {
            "ownerReferences": owners,
            "resourceVersion": object.metadata().resource_version,
        } }),
    )
}

fn release<O: Object, K: Object>(owner: &O, object: &K) -> Action
where
    K::Scope: 'static,
{
    let owners: Vec<_> = object
        .metadata()
        .owner_references
        .iter()
        .flatten()
        .filter(|reference| reference.uid != meta::uid(owner))
        .collect();
    Action::patch(
        object,
        json!({ "metadata": {
            "ownerReferences": owners,
            "resourceVersion": object.metadata().resource_version,
        } }),
    )
}
