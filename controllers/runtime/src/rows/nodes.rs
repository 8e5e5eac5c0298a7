use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use xebec_client::{ObjectKey, failure};
use xebec_controllers_core::{Action, meta, node, node_cidr, pod_gc, pods};

use super::synced;
use crate::{
    context::Context,
    engine::{Controller, Decide},
    execute::Executor,
    world::NODE,
};

/// The key of a controller that looks at everything at once.
const ALL: &str = "all";

/// Nodes that fall silent.
pub(crate) static LIFECYCLE: Controller = Controller {
    name: "node-lifecycle-controller",
    synced: synced!(nodes, leases, pods),
    wake: |context, queue| {
        let world = Arc::downgrade(&context.world);
        context.world.nodes.feed_with(queue, move |changed| {
            let Some(world) = world.upgrade() else { return Vec::new() };
            // Whether any node is ready decides on the evictions of those that are not.
            let mut keys = vec![ObjectKey::of(changed)];
            let unready = world.nodes.list();
            let unready = unready.iter().filter(|node| node::readiness(node) != "True");
            keys.extend(unready.map(|node| ObjectKey::of(&**node)));
            keys
        });
        // A heartbeat in time wakes nobody: the timer set for its absence looks when it was. Pods that become ready
        // again on a lost node are looked at.
        let world = Arc::downgrade(&context.world);
        context.world.pods.feed_with(queue, move |pod| {
            let key = ObjectKey::cluster(pods::node_name(pod));
            let lost = world
                .upgrade()
                .and_then(|world| world.nodes.get(&key))
                .is_some_and(|node| node::readiness(&node) == "Unknown");
            lost.then_some(key).into_iter().collect()
        });
    },
    keys: |context| context.world.nodes.keys(),
    decide: Decide::Cached(|context, key, _| {
        let world = &context.world;
        let Some(node) = world.nodes.get(key) else { return Vec::new() };
        let (now, grace) = (Timestamp::now(), context.settings.node_grace);
        node::reconcile(&node::Observed {
            heard: world.heard(&key.name, now),
            any_ready: world.any_node_ready(grace, now),
            pods: world.pods.indexed(NODE, &key.name),
            node,
            grace,
            now,
        })
    }),
    concurrent: true,
};

/// Pods on nodes with `NoExecute` taints.
pub(crate) static EVICTION: Controller = Controller {
    name: "taint-eviction-controller",
    synced: synced!(nodes, pods),
    wake: |context, queue| {
        context.world.pods.feed(queue);
        let world = Arc::downgrade(&context.world);
        let queue = queue.clone();
        context.world.nodes.on_change(move |change| {
            let taints = |node: &Option<Arc<Node>>| node.as_ref().and_then(|node| node.spec.as_ref()?.taints.clone());
            let (Some(world), true) = (world.upgrade(), taints(&change.old) != taints(&change.new)) else {
                return;
            };
            for pod in world.pods.indexed(NODE, &change.key.name) {
                queue.add(ObjectKey::of(&*pod));
            }
        });
    },
    keys: |context| context.world.pods.keys(),
    decide: Decide::Cached(|context, key, _| {
        let world = &context.world;
        let Some(pod) = world.pods.get(key) else { return Vec::new() };
        let Some(node) = world.nodes.get(&ObjectKey::cluster(pods::node_name(&pod))) else {
            return Vec::new();
        };
        node::evict(&node::EvictionObserved { pod, node, now: Timestamp::now() })
    }),
    concurrent: true,
};

/// Ranges of pod addresses.
pub(crate) static ADDRESS_RANGES: Controller = Controller {
    name: "node-ipam-controller",
    synced: synced!(nodes),
    wake: |context, queue| {
        // One key for all nodes: two at once could be given the same range.
        context.world.nodes.feed_with(queue, |node| {
            let has = node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some());
            if has { Vec::new() } else { vec![ObjectKey::cluster(ALL)] }
        });
    },
    keys: |_| vec![ObjectKey::cluster(ALL)],
    decide: Decide::Cached(|context, _, _| {
        let Some(cluster) = context.settings.cluster_cidr else { return Vec::new() };
        node_cidr::reconcile(&node_cidr::Observed {
            nodes: context.world.nodes.list(),
            cluster,
            services: context.settings.service_cidr,
            mask: context.settings.node_mask,
        })
    }),
    concurrent: false,
};

/// Pods whose node is gone.
pub(crate) static POD_GC: Controller = Controller {
    name: "pod-garbage-collector-controller",
    synced: synced!(nodes, pods),
    wake: |context, queue| {
        context.world.pods.feed(queue);
        let world = Arc::downgrade(&context.world);
        context.world.nodes.feed_with(queue, move |node| {
            let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
            let marked = taints.into_iter().any(|t| t.key == "node.kubernetes.io/out-of-service");
            let Some(world) = world.upgrade() else { return Vec::new() };
            let gone = world.nodes.get(&ObjectKey::of(node)).is_none();
            if !marked && !gone {
                return Vec::new();
            }
            let here = world.pods.indexed(NODE, meta::name(node));
            here.iter().map(|pod| ObjectKey::of(&**pod)).collect()
        });
    },
    keys: |context| context.world.pods.keys(),
    decide: Decide::Live(collect_pod),
    concurrent: true,
};

fn collect_pod<'a>(
    context: &'a Context,
    executor: &'a Executor,
    key: &'a ObjectKey,
) -> BoxFuture<'a, Result<Vec<Action>, kube::Error>> {
    async move {
        let world = &context.world;
        let Some(pod) = world.pods.get(key) else { return Ok(Vec::new()) };
        let name = pods::node_name(&pod).to_owned();
        let home = if name.is_empty() {
            pod_gc::Home::None
        } else if let Some(node) = world.nodes.get(&ObjectKey::cluster(&name)) {
            pod_gc::Home::Present(node)
        } else {
            // The cache may only be late: ask before anything is deleted.
            match Api::<Node>::all(executor.client.clone()).get(&name).await {
                Ok(node) => pod_gc::Home::Present(Arc::new(node)),
                Err(error) if failure::is_not_found(&error) => pod_gc::Home::Absent,
                Err(error) => return Err(error),
            }
        };
        Ok(pod_gc::reconcile(&pod_gc::Observed { pod, home, now: Timestamp::now() }))
    }
    .boxed()
}

/// Terminated pods beyond the threshold.
pub(crate) static TERMINATED_PODS: Controller = Controller {
    name: "terminated-pod-controller",
    synced: synced!(pods),
    wake: |context, queue| {
        context
            .world
            .pods
            .feed_with(queue, |pod| if pods::is_terminated(pod) { vec![ObjectKey::cluster(ALL)] } else { Vec::new() });
    },
    keys: |_| vec![ObjectKey::cluster(ALL)],
    decide: Decide::Cached(|context, _, _| {
        let pods = context.world.pods.list();
        pod_gc::reconcile_terminated(&pods, context.settings.terminated_pods_max)
    }),
    concurrent: false,
};
