//! The cluster as the scheduler sees it. Cloning costs constant time; every change costs its own size.

use imbl::{HashMap, OrdMap};
use k8s_openapi::api::core::v1::{Node, Pod, Service, Taint};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::pod::{HostPort, PodInfo, Term};
use crate::resources::Resources;
use crate::selector::Labels;

/// How many pods of something are on which node.
pub(crate) type Placement = OrdMap<Arc<str>, u32>;

/// Pods alike in everything selectors can see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alike {
    pub(crate) namespace: String,
    pub(crate) terminating: bool,
    pub(crate) labels: Arc<Labels>,
}

/// An affinity term of pods that are already placed, and where they are.
#[derive(Clone, Debug)]
pub(crate) struct PlacedTerm {
    pub(crate) term: Arc<Term>,
    pub(crate) placement: Placement,
}

pub(crate) type PlacedTerms = OrdMap<String, PlacedTerm>;

/// A node and what is on it.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its name.
    pub name: Arc<str>,
    /// What pods may take of it.
    pub allocatable: Resources,
    /// What pods have taken of it.
    pub used: Resources,
    /// CPU (thousandths) and memory (bytes) taken, as scoring counts them.
    pub scored: (i64, i64),
    /// Whether the Node object is known; pods can be known before their node is.
    pub known: bool,
    pub(crate) labels: Arc<Labels>,
    pub(crate) taints: Arc<[Taint]>,
    pub(crate) unschedulable: bool,
    /// Bytes of each image present, by name.
    pub(crate) images: Arc<BTreeMap<String, i64>>,
    pub(crate) ports: OrdMap<HostPort, u32>,
    pub(crate) pods: OrdMap<String, Arc<PodInfo>>,
}

impl NodeInfo {
    fn unknown(name: Arc<str>) -> Self {
        Self {
            name,
            allocatable: Resources::default(),
            used: Resources::default(),
            scored: (0, 0),
            known: false,
            labels: Arc::default(),
            taints: Arc::from([]),
            unschedulable: false,
            images: Arc::default(),
            ports: OrdMap::new(),
            pods: OrdMap::new(),
        }
    }

    /// The pods on it, by uid.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.pods.values()
    }
}

/// Nodes, and pods aggregated by what decisions ask of them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) nodes: OrdMap<Arc<str>, Arc<NodeInfo>>,
    /// Which node a pod (by uid) is on.
    placed: HashMap<String, Arc<str>>,
    pub(crate) alike: OrdMap<Alike, Placement>,
    pub(crate) required: PlacedTerms,
    pub(crate) forbidden: PlacedTerms,
    pub(crate) preferred: PlacedTerms,
    namespaces: OrdMap<String, Arc<Labels>>,
    services: OrdMap<(String, String), Arc<Labels>>,
}

impl Snapshot {
    /// An empty cluster.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.values().filter(|node| node.known).count()
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.nodes.get(name).filter(|node| node.known)
    }

    /// The nodes whose Node object is known, ordered by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeInfo>> {
        self.nodes.values().filter(|node| node.known)
    }

    /// Adds or changes a node.
    pub fn set_node(&mut self, node: &Node) {
        let Some(name) = node.metadata.name.as_deref() else { return };
        let name: Arc<str> = name.into();
        let mut info = self.nodes.get(&name).map_or_else(|| NodeInfo::unknown(name.clone()), |info| (**info).clone());
        let spec = node.spec.clone().unwrap_or_default();
        let status = node.status.as_ref();
        info.known = true;
        info.labels = Arc::new(node.metadata.labels.clone().unwrap_or_default());
        info.taints = spec.taints.unwrap_or_default().into();
        info.unschedulable = spec.unschedulable.unwrap_or(false);
        info.allocatable =
            status.and_then(|status| status.allocatable.as_ref()).map(Resources::from_list).unwrap_or_default();
        let images = status.and_then(|status| status.images.as_ref()).into_iter().flatten();
        let sized = images.flat_map(|image| {
            let bytes = image.size_bytes.unwrap_or(0);
            image.names.iter().flatten().map(move |name| (name.clone(), bytes))
        });
        info.images = Arc::new(sized.collect());
        self.nodes.insert(name, Arc::new(info));
    }

    /// Forgets a node. Pods on it stay counted against it until they are gone too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(info) = self.nodes.get(name) else { return };
        if info.pods.is_empty() {
            self.nodes.remove(name);
        } else {
            let mut info = (**info).clone();
            info.known = false;
            self.nodes.insert(info.name.clone(), Arc::new(info));
        }
    }

    /// Puts a pod on the node it is bound to (or takes it off, if it is finished or bound to none).
    pub fn set_pod(&mut self, pod: &Pod) {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty());
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        match node {
            // A finished pod holds nothing (upstream's informer selects by phase).
            Some(node) if !matches!(phase, Some("Succeeded" | "Failed")) => self.place(PodInfo::new(pod).into(), node),
            _ => {
                if let Some(uid) = &pod.metadata.uid {
                    self.remove_pod(uid);
                }
            }
        }
    }

    /// Puts a pod on a node, for example one that is about to be bound to it.
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(&pod.uid);
        self.count(&pod, &node.into(), true);
    }

    /// Takes a pod off its node.
    pub fn remove_pod(&mut self, uid: &str) {
        let Some(node) = self.placed.get(uid).cloned() else { return };
        let pod = self.nodes.get(&node).and_then(|info| info.pods.get(uid).cloned());
        if let Some(pod) = pod {
            self.count(&pod, &node, false);
        }
    }

    /// Adds or changes a namespace's labels.
    pub fn set_namespace(&mut self, name: &str, labels: Labels) {
        self.namespaces.insert(name.to_owned(), Arc::new(labels));
    }

    /// Forgets a namespace.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// Adds or changes a Service; its selector is what pods are spread by when they ask for nothing themselves.
    pub fn set_service(&mut self, service: &Service) {
        let key =
            (service.metadata.namespace.clone().unwrap_or_default(), service.metadata.name.clone().unwrap_or_default());
        match service.spec.as_ref().and_then(|spec| spec.selector.clone()).filter(|selector| !selector.is_empty()) {
            Some(selector) => self.services.insert(key, Arc::new(selector)),
            None => self.services.remove(&key),
        };
    }

    /// Forgets a Service.
    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        self.services.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// The labels of a namespace; every namespace carries its name as a label.
    pub(crate) fn namespace_labels(&self, name: &str) -> Arc<Labels> {
        self.namespaces
            .get(name)
            .cloned()
            .unwrap_or_else(|| Arc::new([("kubernetes.io/metadata.name".to_owned(), name.to_owned())].into()))
    }

    /// The selectors of the Services a pod belongs to.
    pub(crate) fn services_of(&self, pod: &PodInfo) -> Vec<Arc<Labels>> {
        let range = self.services.range((pod.namespace.clone(), String::new())..);
        range
            .take_while(|((namespace, _), _)| *namespace == pod.namespace)
            .filter(|(_, selector)| selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value)))
            .map(|(_, selector)| selector.clone())
            .collect()
    }

    fn count(&mut self, pod: &Arc<PodInfo>, node: &Arc<str>, add: bool) {
        let mut info = self.nodes.get(node).map_or_else(|| NodeInfo::unknown(node.clone()), |info| (**info).clone());
        let sign = if add { 1 } else { -1 };
        if add {
            info.used.add(&pod.requests);
            info.pods.insert(pod.uid.clone(), pod.clone());
            self.placed.insert(pod.uid.clone(), node.clone());
        } else {
            info.used.subtract(&pod.requests);
            info.pods.remove(&pod.uid);
            self.placed.remove(&pod.uid);
        }
        info.used.pods += sign;
        info.scored.0 += sign * pod.scored.0;
        info.scored.1 += sign * pod.scored.1;
        for port in &pod.ports {
            tally(&mut info.ports, port, add);
        }
        if !info.known && info.pods.is_empty() {
            self.nodes.remove(node);
        } else {
            self.nodes.insert(node.clone(), Arc::new(info));
        }
        let alike =
            Alike { namespace: pod.namespace.clone(), terminating: pod.terminating, labels: pod.labels.clone() };
        let mut placement = self.alike.get(&alike).cloned().unwrap_or_default();
        tally(&mut placement, node, add);
        if placement.is_empty() {
            self.alike.remove(&alike);
        } else {
            self.alike.insert(alike, placement);
        }
        pod.affinity.iter().for_each(|term| tally_term(&mut self.required, term, node, add));
        pod.anti_affinity.iter().for_each(|term| tally_term(&mut self.forbidden, term, node, add));
        pod.preferred.iter().for_each(|term| tally_term(&mut self.preferred, term, node, add));
    }
}

fn tally<K: Ord + Clone>(counts: &mut OrdMap<K, u32>, key: &K, add: bool) {
    let count = counts.get(key).copied().unwrap_or(0);
    let count = if add { count + 1 } else { count.saturating_sub(1) };
    if count == 0 {
        counts.remove(key);
    } else {
        counts.insert(key.clone(), count);
    }
}

fn tally_term(terms: &mut PlacedTerms, term: &Arc<Term>, node: &Arc<str>, add: bool) {
    let mut placed = terms
        .get(&term.identity)
        .cloned()
        .unwrap_or_else(|| PlacedTerm { term: term.clone(), placement: Placement::new() });
    tally(&mut placed.placement, node, add);
    if placed.placement.is_empty() {
        terms.remove(&term.identity);
    } else {
        terms.insert(term.identity.clone(), placed);
    }
}
