use xebec_client::ObjectKey;
use xebec_controllers_core::cloud::{self, Bare};

use super::synced;
use crate::{
    context::Context,
    engine::{Controller, Decide},
};

/// The key of a controller that looks at everything at once.
const ALL: &str = "all";

fn provider(context: &Context) -> Option<Bare> {
    context.settings.cloud.then_some(Bare { pool: context.settings.load_balancer_cidr })
}

/// Nodes that wait for their provider.
pub(crate) static NODES: Controller = Controller {
    name: "cloud-node-controller",
    synced: synced!(nodes),
    wake: |context, queue| context.world.nodes.feed(queue),
    keys: |context| context.world.nodes.keys(),
    decide: Decide::Cached(|context, key, _| {
        let Some(provider) = provider(context) else { return Vec::new() };
        let node = context.world.nodes.get(key);
        node.map(|node| cloud::reconcile_node(&node, &provider)).unwrap_or_default()
    }),
    concurrent: true,
};

/// Services of type LoadBalancer.
pub(crate) static SERVICES: Controller = Controller {
    name: "service-lb-controller",
    synced: synced!(services),
    // One key for all Services: two at once could be given the same address.
    wake: |context, queue| context.world.services.feed_with(queue, |_| vec![ObjectKey::cluster(ALL)]),
    keys: |_| vec![ObjectKey::cluster(ALL)],
    decide: Decide::Cached(|context, _, _| {
        let Some(provider) = provider(context) else { return Vec::new() };
        cloud::reconcile_services(&context.world.services.list(), &provider)
    }),
    concurrent: false,
};
