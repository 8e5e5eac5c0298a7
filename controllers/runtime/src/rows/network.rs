use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Pod, Service};
use xebec_client::{ObjectKey, Queue};
use xebec_controllers_core::{
    endpoint::{self, SERVICE_NAME},
    meta, pods, selector,
};

use super::synced;
use crate::{
    context::Context,
    engine::{Controller, Decide},
    world::{SERVICE, World},
};

/// EndpointSlices of Services.
pub(crate) static ENDPOINT_SLICE: Controller = Controller {
    name: "endpointslice-controller",
    synced: synced!(services, pods, slices, nodes),
    wake: |context, queue| {
        context.world.services.feed(queue);
        wake_by_pods(context, queue);
        context.world.slices.feed_with(queue, |slice| {
            let service = meta::label(slice, SERVICE_NAME);
            service.map(|name| ObjectKey::new(meta::namespace(slice), name)).into_iter().collect()
        });
    },
    keys: |context| context.world.services.keys(),
    decide: Decide::Cached(|context, key, _| {
        let world = &context.world;
        let Some(service) = world.services.get(key) else { return Vec::new() };
        let pods = selected(world, &service);
        let nodes: BTreeMap<_, _> = pods
            .iter()
            .filter_map(|pod| {
                let name = pods::node_name(pod).to_owned();
                Some((name.clone(), world.nodes.get(&ObjectKey::cluster(name))?))
            })
            .collect();
        let slices = world.slices.indexed(SERVICE, &key.to_string());
        endpoint::reconcile(&endpoint::Observed { service, pods, slices, nodes })
    }),
    concurrent: true,
};

/// Endpoints of Services.
pub(crate) static ENDPOINT: Controller = Controller {
    name: "endpoints-controller",
    synced: synced!(services, pods, endpoints),
    wake: |context, queue| {
        context.world.services.feed(queue);
        wake_by_pods(context, queue);
        context.world.endpoints.feed(queue);
    },
    keys: |context| context.world.services.keys(),
    decide: Decide::Cached(|context, key, _| {
        let world = &context.world;
        let Some(service) = world.services.get(key) else { return Vec::new() };
        let pods = selected(world, &service);
        let endpoints = world.endpoints.get(key);
        endpoint::reconcile_legacy(&endpoint::LegacyObserved { service, pods, endpoints })
    }),
    concurrent: true,
};

fn selector_of(service: &Service) -> Option<&BTreeMap<String, String>> {
    service.spec.as_ref()?.selector.as_ref().filter(|selector| !selector.is_empty())
}

fn selected(world: &World, service: &Service) -> Vec<Arc<Pod>> {
    let Some(wanted) = selector_of(service) else { return Vec::new() };
    let mut pods = world.pods.namespace(meta::namespace(service));
    pods.retain(|pod| selector::contains(wanted, pod.metadata.labels.as_ref()));
    pods
}

/// A pod wakes the Services that select it, or did before it changed.
fn wake_by_pods(context: &Arc<Context>, queue: &Queue<ObjectKey>) {
    let world = Arc::downgrade(&context.world);
    context.world.pods.feed_with(queue, move |pod| {
        let Some(world) = world.upgrade() else { return Vec::new() };
        let here = world.services.namespace(meta::namespace(pod));
        let selects = |service: &&Arc<Service>| {
            selector_of(service).is_some_and(|wanted| selector::contains(wanted, pod.metadata.labels.as_ref()))
        };
        here.iter().filter(selects).map(|service| ObjectKey::of(&**service)).collect()
    });
}
