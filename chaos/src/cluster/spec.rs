//! What a cluster is made of, and where each part of it lives.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// Masters of the reference cluster.
pub const MASTERS: u8 = 3;
/// At most this many workers fit the address plan.
pub const WORKERS_MAX: u8 = 100;
/// The first worker's last address byte.
const FIRST_WORKER: u8 = 21;
/// The first master's last address byte.
const FIRST_MASTER: u8 = 11;

/// How hosts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Each host is a network namespace on a bridge `10.77.<subnet>.0/24`; needs root.
    Namespaces {
        /// The third address byte.
        subnet: u8,
    },
    /// All on the loopback address with ports of their own, for hollow nodes; needs no root.
    Loopback {
        /// The first port; each master takes ten.
        base_port: u16,
    },
}

/// A cluster to bring up.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// Prefix of everything the cluster makes on the machine: at most ten characters.
    pub name: String,
    /// Where all of it lies.
    pub dir: PathBuf,
    /// The `xebec` program.
    pub binary: PathBuf,
    /// How hosts are made.
    pub placement: Placement,
    /// Worker hosts to start with.
    pub workers: u8,
    /// Hollow nodes that each worker host plays; `None`: each is one node that runs containers.
    pub hollow: Option<u8>,
}

/// What a host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Store, API server, scheduler, controllers.
    Master,
    /// Containers.
    Worker,
}

impl Role {
    /// The name of the host's process.
    pub fn component(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Worker => "node",
        }
    }
}

/// One host.
#[derive(Clone, Debug)]
pub struct Host {
    /// `m1`, `n2`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its network namespace, if it has one of its own.
    pub network_namespace: Option<String>,
    /// Its data and logs.
    pub dir: PathBuf,
    /// Ports of a master: API server, store clients, store peers.
    pub ports: [u16; 3],
}

impl ClusterSpec {
    /// The masters.
    pub fn masters(&self) -> Vec<Host> {
        (0..MASTERS).map(|i| self.host(Role::Master, i)).collect()
    }

    /// A master's host beyond the masters.
    pub(crate) fn spare_master(&self) -> Host {
        self.host(Role::Master, MASTERS)
    }

    /// The worker with a number, counted from 1.
    pub fn worker(&self, number: u8) -> Host {
        self.host(Role::Worker, number - 1)
    }

    fn host(&self, role: Role, index: u8) -> Host {
        let (letter, first) = match role {
            Role::Master => ('m', FIRST_MASTER),
            Role::Worker => ('n', FIRST_WORKER),
        };
        let name = format!("{letter}{}", index + 1);
        let (address, network_namespace, ports) = match self.placement {
            Placement::Namespaces { subnet } => {
                let address = Ipv4Addr::new(10, 77, subnet, first + index);
                (address, Some(format!("{}-{name}", self.name)), [6443, 2379, 2380])
            }
            Placement::Loopback { base_port } => {
                let base = base_port + 10 * u16::from(index + 1);
                (Ipv4Addr::LOCALHOST, None, [base, base + 1, base + 2])
            }
        };
        Host { dir: self.dir.join(&name), name, role, address, network_namespace, ports }
    }

    /// Where stock clients reach the API servers, whichever master lives.
    pub fn balancer(&self) -> SocketAddr {
        match self.placement {
            Placement::Namespaces { subnet } => (Ipv4Addr::new(10, 77, subnet, 1), 6443).into(),
            Placement::Loopback { base_port } => (Ipv4Addr::LOCALHOST, base_port).into(),
        }
    }

    /// Addresses besides the masters' own under which the API servers are reached: the balancer before them, the one on
    /// every node, and the `kubernetes` Service.
    pub fn api_addresses(&self) -> Vec<IpAddr> {
        vec![self.balancer().ip(), Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(10, 96, 0, 1).into()]
    }

    /// The bridge that the hosts hang on.
    pub fn bridge(&self) -> String {
        format!("{}-br0", self.name)
    }

    /// Nodes of so many worker hosts.
    pub fn nodes(&self, workers: usize) -> usize {
        workers * usize::from(self.hollow.unwrap_or(1))
    }

    /// Whether workers run containers.
    pub fn has_containers(&self) -> bool {
        self.hollow.is_none()
    }

    /// Whether hosts are network namespaces.
    pub fn has_hosts(&self) -> bool {
        matches!(self.placement, Placement::Namespaces { .. })
    }
}

impl Host {
    /// The number in its name, counted from 1.
    pub fn number(&self) -> Option<u8> {
        self.name[1..].parse().ok()
    }

    /// The API server's address.
    pub fn api(&self) -> SocketAddr {
        (self.address, self.ports[0]).into()
    }

    /// The API server's URL.
    pub fn api_url(&self) -> String {
        format!("https://{}", self.api())
    }

    /// The store's URL for clients.
    pub fn store_client_url(&self) -> String {
        format!("https://{}:{}", self.address, self.ports[1])
    }

    /// The store's URL for its peers.
    pub fn store_peer_url(&self) -> String {
        format!("https://{}:{}", self.address, self.ports[2])
    }
}
