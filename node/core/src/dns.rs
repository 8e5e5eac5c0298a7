//! Cluster DNS: which records the cluster's Services have, by the Kubernetes DNS specification 1.1.0.
//!
//! Names are lower case and without the final dot. The wire format is the shell's business.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

/// How long answers may be kept, in seconds (CoreDNS's default for `kubernetes`).
pub const TTL_SECONDS: u32 = 5;
/// The version of the specification, answered as TXT `dns-version`.
const SPECIFICATION: &str = "1.1.0";
/// Aliases followed inside the cluster for one question.
const ALIASES_MAX: usize = 8;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// An IPv4 address.
    A,
    /// A service location.
    Srv,
    /// A name for an address.
    Ptr,
    /// Text.
    Txt,
    /// The zone's authority.
    Soa,
    /// The zone's name server.
    Ns,
    /// An alias.
    Cname,
    /// Everything.
    Any,
    /// Something this zone never has (AAAA for one).
    Other,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// An address.
    A(Ipv4Addr),
    /// Where a service is.
    Srv {
        /// Of 65535, shared evenly among the targets.
        weight: u16,
        /// Port.
        port: u16,
        /// Host.
        target: String,
    },
    /// The name of an address.
    Ptr(String),
    /// The name to look for instead.
    Cname(String),
    /// Text.
    Txt(String),
    /// The zone's name server.
    Ns(String),
    /// The zone's authority: see [`Records::domain`].
    Soa,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Records, and further ones that the asker will want next.
    Found {
        /// The answer.
        answers: Vec<Record>,
        /// Addresses of SRV targets.
        additionals: Vec<Record>,
    },
    /// The name exists, but has nothing of this type.
    NoData,
    /// The name does not exist.
    NoName,
    /// The name is none of this cluster's.
    NotOurs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: String,
    protocol: String,
    number: u16,
}

/// A backend of a headless Service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Backend {
    label: String,
    address: Ipv4Addr,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Cluster { addresses: Vec<Ipv4Addr>, ports: Vec<Port> },
    Headless(Vec<Backend>),
    External(String),
}

/// All records of the cluster; changed Service by Service.
#[derive(Debug)]
pub struct Records {
    domain: String,
    services: BTreeMap<(String, String), Entry>,
    /// Names per address, with the Service each comes from.
    reverse: HashMap<Ipv4Addr, BTreeSet<(String, String, String)>>,
}

impl Records {
    /// No records, for a cluster of this domain (`cluster.local`).
    pub fn new(domain: &str) -> Self {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        Self { domain, services: BTreeMap::new(), reverse: HashMap::new() }
    }

    /// The cluster's domain, which is the zone.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Replaces the records of one Service; `slices` are its own.
    pub fn set<'a>(&mut self, service: &Service, slices: impl IntoIterator<Item = &'a EndpointSlice>) {
        let namespace = service.metadata.namespace.clone().unwrap_or_default();
        let name = service.metadata.name.clone().unwrap_or_default();
        self.remove(&namespace, &name);
        let Some(entry) = entry(service, slices) else { return };
        let service_name = format!("{name}.{namespace}.svc.{}", self.domain);
        let pointers: Vec<(Ipv4Addr, String)> = match &entry {
            Entry::Cluster { addresses, .. } => {
                addresses.iter().map(|address| (*address, service_name.clone())).collect()
            }
            Entry::Headless(backends) => {
                backends.iter().map(|backend| (backend.address, format!("{}.{service_name}", backend.label))).collect()
            }
            Entry::External(_) => Vec::new(),
        };
        for (address, pointer) in pointers {
            self.reverse.entry(address).or_default().insert((pointer, namespace.clone(), name.clone()));
        }
        self.services.insert((namespace, name), entry);
    }

    /// Removes the records of one Service.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        let addresses: Vec<Ipv4Addr> = match self.services.remove(&(namespace.to_owned(), name.to_owned())) {
            Some(Entry::Cluster { addresses, .. }) => addresses,
            Some(Entry::Headless(backends)) => backends.iter().map(|backend| backend.address).collect(),
            Some(Entry::External(_)) | None => return,
        };
        for address in addresses {
            if let Some(names) = self.reverse.get_mut(&address) {
                names.retain(|(_, of_namespace, of_name)| {
                    (of_namespace.as_str(), of_name.as_str()) != (namespace, name)
                });
                if names.is_empty() {
                    self.reverse.remove(&address);
                }
            }
        }
    }

    /// Answers a question. `name` is taken without regard to case and final dot.
    pub fn answer(&self, name: &str, kind: Type) -> Answer {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
            return self.answer_reverse(&name, reversed, kind);
        }
        if name == self.domain {
            return self.answer_apex(kind);
        }
        let Some(inner) = name.strip_suffix(&self.domain).and_then(|rest| rest.strip_suffix('.')) else {
            return Answer::NotOurs;
        };
        let labels: Vec<&str> = inner.split('.').collect();
        match labels.as_slice() {
            ["dns-version"] => one(&name, Data::Txt(SPECIFICATION.to_owned()), kind),
            ["dns", "ns"] | ["svc" | "pod"] => Answer::NoData,
            [namespace, "svc"] => self.answer_namespace(namespace),
            [namespace, "pod"] => self.answer_namespace(namespace),
            [pod, _, "pod"] => dashed_address(pod).map_or(Answer::NoName, |address| one(&name, Data::A(address), kind)),
            [head @ .., service, namespace, "svc"] => self.answer_service(&name, head, (*namespace, *service), kind),
            _ => Answer::NoName,
        }
    }

    fn answer_apex(&self, kind: Type) -> Answer {
        let ns = Data::Ns(format!("ns.dns.{}", self.domain));
        match kind {
            Type::Soa => one(&self.domain, Data::Soa, kind),
            Type::Ns => one(&self.domain, ns, kind),
            Type::Any => found(vec![record(&self.domain, Data::Soa), record(&self.domain, ns)]),
            _ => Answer::NoData,
        }
    }

    fn answer_reverse(&self, name: &str, reversed: &str, kind: Type) -> Answer {
        let mut octets: Vec<&str> = reversed.split('.').collect();
        octets.reverse();
        let address = octets.join(".").parse::<Ipv4Addr>();
        let Some(names) = address.ok().and_then(|address| self.reverse.get(&address)) else { return Answer::NotOurs };
        if !matches!(kind, Type::Ptr | Type::Any) {
            return Answer::NoData;
        }
        let names: BTreeSet<&String> = names.iter().map(|(pointer, _, _)| pointer).collect();
        found(names.into_iter().map(|pointer| record(name, Data::Ptr(pointer.clone()))).collect())
    }

    fn answer_namespace(&self, namespace: &str) -> Answer {
        let first = self.services.range((namespace.to_owned(), String::new())..).next();
        if first.is_some_and(|((found, _), _)| found == namespace) { Answer::NoData } else { Answer::NoName }
    }

    fn answer_service(&self, name: &str, head: &[&str], (namespace, service): (&str, &str), kind: Type) -> Answer {
        let Some(entry) = self.services.get(&(namespace.to_owned(), service.to_owned())) else {
            return Answer::NoName;
        };
        let base = format!("{service}.{namespace}.svc.{}", self.domain);
        match (head, entry) {
            ([], Entry::External(target)) => self.answer_alias(name, target, kind),
            ([], _) => self.answer_hosts(name, &base, entry, kind),
            ([port, protocol], _) => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                (Some(port), Some(protocol)) => {
                    let wanted = |candidate: &Port| candidate.name == port && candidate.protocol == protocol;
                    let (answers, additionals) = locations(name, &base, entry, &wanted);
                    match kind {
                        _ if answers.is_empty() => Answer::NoName,
                        Type::Srv | Type::Any => Answer::Found { answers, additionals },
                        _ => Answer::NoData,
                    }
                }
                _ => Answer::NoName,
            },
            // The non-terminal above port names.
            (["_tcp" | "_udp" | "_sctp"], Entry::Cluster { .. } | Entry::Headless(_)) => Answer::NoData,
            ([label], Entry::Headless(backends)) => {
                let hosts = backends.iter().filter(|backend| backend.label == *label);
                let backends: Vec<Backend> = hosts.cloned().collect();
                if backends.is_empty() {
                    return Answer::NoName;
                }
                self.answer_hosts(name, &base, &Entry::Headless(backends), kind)
            }
            _ => Answer::NoName,
        }
    }

    fn answer_hosts(&self, name: &str, base: &str, entry: &Entry, kind: Type) -> Answer {
        let addresses: BTreeSet<Ipv4Addr> = match entry {
            Entry::Cluster { addresses, .. } => addresses.iter().copied().collect(),
            Entry::Headless(backends) => backends.iter().map(|backend| backend.address).collect(),
            Entry::External(_) => BTreeSet::new(),
        };
        let answers: Vec<Record> = addresses.into_iter().map(|address| record(name, Data::A(address))).collect();
        match kind {
            Type::A | Type::Any if !answers.is_empty() => found(answers),
            Type::Srv => match locations(name, base, entry, &|_| true) {
                (answers, _) if answers.is_empty() => Answer::NoData,
                (answers, additionals) => Answer::Found { answers, additionals },
            },
            _ => Answer::NoData,
        }
    }

    /// An ExternalName; inside the cluster the alias is followed.
    fn answer_alias(&self, name: &str, target: &str, kind: Type) -> Answer {
        let mut answers = vec![record(name, Data::Cname(target.to_owned()))];
        let mut next = target.to_owned();
        while !matches!(kind, Type::Cname | Type::Any) && answers.len() < ALIASES_MAX {
            let Some(Entry::External(target)) = self.entry_of(&next) else {
                if let Answer::Found { answers: more, .. } = self.answer(&next, kind) {
                    answers.extend(more);
                }
                break;
            };
            answers.push(record(&next, Data::Cname(target.clone())));
            next.clone_from(target);
        }
        found(answers)
    }

    fn entry_of(&self, name: &str) -> Option<&Entry> {
        let inner = name.strip_suffix(&self.domain)?.strip_suffix(".svc.")?;
        let (service, namespace) = inner.split_once('.')?;
        self.services.get(&(namespace.to_owned(), service.to_owned()))
    }
}

fn record(name: &str, data: Data) -> Record {
    Record { name: name.to_owned(), data }
}

fn found(answers: Vec<Record>) -> Answer {
    Answer::Found { answers, additionals: Vec::new() }
}

/// A name with exactly one record.
fn one(name: &str, data: Data, kind: Type) -> Answer {
    let fits = matches!(
        (&data, kind),
        (_, Type::Any)
            | (Data::A(_), Type::A)
            | (Data::Txt(_), Type::Txt)
            | (Data::Soa, Type::Soa)
            | (Data::Ns(_), Type::Ns)
    );
    if fits { found(vec![record(name, data)]) } else { Answer::NoData }
}

/// SRV records of the ports wanted, and the addresses of their targets.
fn locations(name: &str, base: &str, entry: &Entry, wanted: &dyn Fn(&Port) -> bool) -> (Vec<Record>, Vec<Record>) {
    let mut targets: BTreeSet<(u16, String, Ipv4Addr)> = BTreeSet::new();
    match entry {
        Entry::Cluster { addresses, ports } => {
            for port in ports.iter().filter(|port| wanted(port)) {
                targets.extend(addresses.iter().map(|address| (port.number, base.to_owned(), *address)));
            }
        }
        Entry::Headless(backends) => {
            for backend in backends {
                let host = format!("{}.{base}", backend.label);
                let ports = backend.ports.iter().filter(|port| wanted(port));
                targets.extend(ports.map(|port| (port.number, host.clone(), backend.address)));
            }
        }
        Entry::External(_) => {}
    }
    let places: BTreeSet<(u16, &String)> = targets.iter().map(|(port, host, _)| (*port, host)).collect();
    let weight = u16::try_from(places.len()).map_or(1, |count| (100 / count.max(1)).max(1));
    let location = |(port, target): (u16, &String)| record(name, Data::Srv { weight, port, target: target.clone() });
    let hosts: BTreeSet<(&String, Ipv4Addr)> = targets.iter().map(|(_, host, address)| (host, *address)).collect();
    let additionals = hosts.into_iter().map(|(host, address)| record(host, Data::A(address))).collect();
    (places.into_iter().map(location).collect(), additionals)
}

/// `10-244-1-5` as an address.
fn dashed_address(label: &str) -> Option<Ipv4Addr> {
    label.replace('-', ".").parse().ok()
}

fn entry<'a>(service: &Service, slices: impl IntoIterator<Item = &'a EndpointSlice>) -> Option<Entry> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return Some(Entry::External(spec.external_name.as_ref()?.trim_end_matches('.').to_ascii_lowercase()));
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        return Some(Entry::Headless(backends(slices)));
    }
    let families = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let addresses: BTreeSet<Ipv4Addr> = families.filter_map(|address| address.parse().ok()).collect();
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let number = u16::try_from(port.port).ok()?;
        Some(self::port(port.name.as_deref(), port.protocol.as_deref(), number))
    });
    Some(Entry::Cluster { addresses: addresses.into_iter().collect(), ports: ports.collect() })
}

fn port(name: Option<&str>, protocol: Option<&str>, number: u16) -> Port {
    Port {
        name: name.unwrap_or_default().to_ascii_lowercase(),
        protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(),
        number,
    }
}

fn backends<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>) -> Vec<Backend> {
    let mut backends: BTreeMap<(String, Ipv4Addr), Vec<Port>> = BTreeMap::new();
    for slice in slices.into_iter().filter(|slice| slice.address_type == "IPv4") {
        let ports: Vec<Port> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|candidate| {
                let number = u16::try_from(candidate.port?).ok()?;
                Some(port(candidate.name.as_deref(), candidate.protocol.as_deref(), number))
            })
            .collect();
        for endpoint in &slice.endpoints {
            // Ready ones only; `publishNotReadyAddresses` has made the others ready in the slice already.
            if endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(false) {
                continue;
            }
            for address in endpoint.addresses.iter().filter_map(|address| address.parse::<Ipv4Addr>().ok()) {
                let label = endpoint.hostname.clone().filter(|hostname| !hostname.is_empty());
                let label = label.map_or_else(|| address.to_string().replace('.', "-"), |l| l.to_ascii_lowercase());
                let known = backends.entry((label, address)).or_default();
                let fresh: Vec<Port> = ports.iter().filter(|port| !known.contains(port)).cloned().collect();
                known.extend(fresh);
            }
        }
    }
    backends.into_iter().map(|((label, address), ports)| Backend { label, address, ports }).collect()
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
