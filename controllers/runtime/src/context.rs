use std::{sync::Arc, time::Duration};

use ipnet::IpNet;

use crate::{discovery::Discovery, garbage::Garbage, world::World};

/// What every controller may look at.
pub(crate) struct Context {
    pub(crate) world: Arc<World>,
    pub(crate) garbage: Arc<Garbage>,
    pub(crate) discovery: Arc<Discovery>,
    pub(crate) settings: Settings,
}

/// The flags, read.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) root_ca: Option<Arc<str>>,
    pub(crate) fills_tokens: bool,
    pub(crate) signs: bool,
    pub(crate) signing_validity_max: Duration,
    pub(crate) node_grace: Duration,
    pub(crate) cluster_cidr: Option<IpNet>,
    pub(crate) service_cidr: Option<IpNet>,
    pub(crate) node_mask: u8,
    pub(crate) terminated_pods_max: usize,
    pub(crate) load_balancer_cidr: Option<IpNet>,
    pub(crate) cloud: bool,
}
