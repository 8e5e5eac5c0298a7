use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use xebec_client::{ObjectKey, Queue};
use xebec_controllers_core::{daemonset, job, meta, node, statefulset};

use super::{apps::owned_or_free, synced};
use crate::{
    context::Context,
    engine::{Controller, Decide},
    world::{OWNER, World, owner_key},
};

/// DaemonSets.
pub(crate) static DAEMON_SET: Controller = Controller {
    name: "daemonset-controller",
    synced: synced!(daemon_sets, pods, nodes, revisions),
    wake: |context, queue| {
        context.world.daemon_sets.feed(queue);
        wake_by_pods(context, queue, "DaemonSet");
        let world = Arc::downgrade(&context.world);
        let queue = queue.clone();
        context.world.nodes.on_change(move |change| {
            // A heartbeat changes nothing a DaemonSet looks at.
            let relevant = |node: &Option<Arc<k8s_openapi::api::core::v1::Node>>| {
                node.as_ref().map(|node| {
                    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone());
                    (node.metadata.labels.clone(), taints, node::readiness(node) == "True")
                })
            };
            let (Some(world), true) = (world.upgrade(), relevant(&change.old) != relevant(&change.new)) else {
                return;
            };
            world.daemon_sets.keys().into_iter().for_each(|key| queue.add(key));
        });
    },
    keys: |context| context.world.daemon_sets.keys(),
    decide: Decide::Cached(|context, key, failure| {
        let world = &context.world;
        let Some(set) = world.daemon_sets.get(key) else { return Vec::new() };
        daemonset::reconcile(&daemonset::Observed {
            pods: owned_or_free(&world.pods, &*set),
            nodes: world.nodes.list(),
            revisions: revisions(world, meta::uid(&*set)),
            set,
            failure,
            now: Timestamp::now(),
        })
    }),
    concurrent: true,
};

/// StatefulSets.
pub(crate) static STATEFUL_SET: Controller = Controller {
    name: "statefulset-controller",
    synced: synced!(stateful_sets, pods, revisions, claims),
    wake: |context, queue| {
        context.world.stateful_sets.feed(queue);
        wake_by_pods(context, queue, "StatefulSet");
    },
    keys: |context| context.world.stateful_sets.keys(),
    decide: Decide::Cached(|context, key, failure| {
        let world = &context.world;
        let Some(set) = world.stateful_sets.get(key) else { return Vec::new() };
        let claims = world.claims.namespace(&key.namespace);
        statefulset::reconcile(&statefulset::Observed {
            pods: owned_or_free(&world.pods, &*set),
            volume_claims: claims.iter().map(|claim| meta::name(&**claim).to_owned()).collect(),
            revisions: revisions(world, meta::uid(&*set)),
            set,
            failure,
            now: Timestamp::now(),
        })
    }),
    concurrent: true,
};

/// Jobs.
pub(crate) static JOB: Controller = Controller {
    name: "job-controller",
    synced: synced!(jobs, pods),
    wake: |context, queue| {
        context.world.jobs.feed(queue);
        wake_by_pods(context, queue, "Job");
    },
    keys: |context| context.world.jobs.keys(),
    decide: Decide::Cached(|context, key, failure| {
        let world = &context.world;
        let job = world.jobs.get(key);
        let here = world.pods.namespace(&key.namespace);
        let named = here.iter().filter(|pod| owner_key(&***pod, "Job").as_ref() == Some(key));
        let mut actions = job::release(job.as_deref(), named);
        if let Some(job) = job {
            let pods = owned_or_free(&world.pods, &*job);
            actions.extend(job::reconcile(&job::Observed { pods, job, failure, now: Timestamp::now() }));
        }
        actions
    }),
    concurrent: true,
};

fn revisions(world: &World, uid: &str) -> Vec<Arc<ControllerRevision>> {
    world.revisions.indexed(OWNER, uid)
}

/// A pod wakes its owner. One that nobody owns is found when its adopter is looked at next.
fn wake_by_pods(context: &Arc<Context>, queue: &Queue<ObjectKey>, kind: &'static str) {
    context.world.pods.feed_with(queue, move |pod| owner_key(pod, kind).into_iter().collect());
}
