use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use xebec_client::{ObjectKey, Queue, cache::Cached};
use xebec_controllers_core::{
    Failure, deployment,
    meta::{self, Object},
    replicaset::{self, Replicating},
    selector,
};

use super::synced;
use crate::{
    context::Context,
    engine::{Controller, Decide},
    world::{Kind, OWNER, World, owner_key},
};

/// ReplicaSets.
pub(crate) static REPLICA_SET: Controller = Controller {
    name: "replicaset-controller",
    synced: synced!(replica_sets, pods),
    wake: |context, queue| {
        context.world.replica_sets.feed(queue);
        wake_by_pods(context, queue, "ReplicaSet", |world| &world.replica_sets);
    },
    keys: |context| context.world.replica_sets.keys(),
    decide: Decide::Cached(|context, key, failure| {
        let world = &context.world;
        let Some(owner) = world.replica_sets.get(key) else { return Vec::new() };
        let related = siblings(world, &owner);
        replicaset::reconcile(&observe_pods(world, owner, related, failure))
    }),
    concurrent: true,
};

/// ReplicationControllers.
pub(crate) static REPLICATION_CONTROLLER: Controller = Controller {
    name: "replicationcontroller-controller",
    synced: synced!(replication_controllers, pods),
    wake: |context, queue| {
        context.world.replication_controllers.feed(queue);
        wake_by_pods(context, queue, "ReplicationController", |world| &world.replication_controllers);
    },
    keys: |context| context.world.replication_controllers.keys(),
    decide: Decide::Cached(|context, key, failure| {
        let world = &context.world;
        let Some(owner) = world.replication_controllers.get(key) else { return Vec::new() };
        replicaset::reconcile(&observe_pods(world, owner, Vec::new(), failure))
    }),
    concurrent: true,
};

/// Deployments.
pub(crate) static DEPLOYMENT: Controller = Controller {
    name: "deployment-controller",
    synced: synced!(deployments, replica_sets, pods),
    wake: |context, queue| {
        context.world.deployments.feed(queue);
        let world = Arc::downgrade(&context.world);
        context.world.replica_sets.feed_with(queue, move |set| {
            if let Some(owner) = owner_key(set, "Deployment") {
                return vec![owner];
            }
            let Some(world) = world.upgrade() else { return Vec::new() };
            let here = world.deployments.namespace(meta::namespace(set));
            let selects = |deployment: &Arc<k8s_openapi::api::apps::v1::Deployment>| {
                let spec = deployment.spec.as_ref();
                spec.is_some_and(|s| selector::matches(&s.selector, set.metadata.labels.as_ref()))
            };
            here.iter().filter(|d| selects(d)).map(|d| ObjectKey::of(&**d)).collect()
        });
        // `Recreate` waits for pods to end.
        let world = Arc::downgrade(&context.world);
        let queue = queue.clone();
        context.world.pods.on_change(move |change| {
            let (Some(pod), None) = (&change.old, &change.new) else { return };
            let (Some(set), Some(world)) = (owner_key(&**pod, "ReplicaSet"), world.upgrade()) else {
                return;
            };
            let owner = world.replica_sets.get(&set).and_then(|set| owner_key(&*set, "Deployment"));
            if let Some(owner) = owner {
                queue.add(owner);
            }
        });
    },
    keys: |context| context.world.deployments.keys(),
    decide: Decide::Cached(|context, key, failure| {
        let world = &context.world;
        let Some(deployment) = world.deployments.get(key) else { return Vec::new() };
        let replica_sets = owned_or_free(&world.replica_sets, &*deployment);
        let pods = replica_sets.iter().flat_map(|set| world.pods.indexed(OWNER, meta::uid(&**set))).collect();
        deployment::reconcile(&deployment::Observed { deployment, replica_sets, pods, failure, now: Timestamp::now() })
    }),
    concurrent: true,
};

/// What an owner controls, and what nobody does in its namespace.
pub(super) fn owned_or_free<K: Cached + Object, O: Object>(kind: &Kind<K>, owner: &O) -> Vec<Arc<K>> {
    let wanted = meta::uid(owner);
    let objects = kind.namespace(meta::namespace(owner));
    let mine =
        |object: &Arc<K>| meta::controller_of(object.metadata()).is_none_or(|controller| controller.uid == wanted);
    objects.into_iter().filter(mine).collect()
}

fn observe_pods<O: Replicating>(
    world: &World,
    owner: Arc<O>,
    related: Vec<Arc<Pod>>,
    failure: Option<Failure>,
) -> replicaset::Observed<O> {
    let pods = owned_or_free(&world.pods, &*owner);
    replicaset::Observed { owner, pods, related, failure, now: Timestamp::now() }
}

/// Pods of the other ReplicaSets of the same Deployment.
fn siblings(world: &World, set: &k8s_openapi::api::apps::v1::ReplicaSet) -> Vec<Arc<Pod>> {
    let Some(owner) = meta::controller_of(&set.metadata) else { return Vec::new() };
    let sets = world.replica_sets.indexed(OWNER, &owner.uid);
    let others = sets.iter().filter(|other| meta::uid(&***other) != meta::uid(set));
    others.flat_map(|other| world.pods.indexed(OWNER, meta::uid(&**other))).collect()
}

/// A pod wakes its controller; a pod without one wakes whoever may adopt it.
pub(super) fn wake_by_pods<K: Cached + Replicating>(
    context: &Arc<Context>,
    queue: &Queue<ObjectKey>,
    kind: &'static str,
    owners: fn(&World) -> &Arc<Kind<K>>,
) {
    let world = Arc::downgrade(&context.world);
    context.world.pods.feed_with(queue, move |pod| {
        if meta::controller_of(&pod.metadata).is_some() {
            return owner_key(pod, kind).into_iter().collect();
        }
        let Some(world) = world.upgrade() else { return Vec::new() };
        let adopts = |owner: &Arc<K>| {
            let wanted = owner.selector();
            !selector::is_empty(&wanted) && selector::matches(&wanted, pod.metadata.labels.as_ref())
        };
        let here = owners(&world).namespace(meta::namespace(pod));
        let keys: BTreeSet<ObjectKey> =
            here.iter().filter(|owner| adopts(owner)).map(|owner| key_of(&**owner)).collect();
        keys.into_iter().collect()
    });
}

pub(super) fn key_of<K: Object>(object: &K) -> ObjectKey {
    ObjectKey::new(meta::namespace(object), meta::name(object))
}
