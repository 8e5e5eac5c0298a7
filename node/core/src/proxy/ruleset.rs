//! The text of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;

use super::{Endpoint, Options, ServicePort};

/// The table; it is ours alone.
const TABLE: &str = "ip xebec-proxy";
/// The packet mark that asks for masquerading (kube-proxy's `--iptables-masquerade-bit` 14).
const MASQUERADE_MARK: &str = "0x4000";

/// The maps every version of the table has.
const MAPS: [(&str, &str); 4] = [
    ("service-ips", "ipv4_addr . inet_proto . inet_service : verdict"),
    ("node-ports", "inet_proto . inet_service : verdict"),
    ("refused-ips", "ipv4_addr . inet_proto . inet_service : verdict"),
    ("refused-node-ports", "inet_proto . inet_service : verdict"),
];

/// The chains every version of the table has, with their hooks.
///
/// What has no endpoints is refused before address translation, in prerouting for what arrives and in output for what
/// starts here, so that no route to the service range is needed for a prompt answer.
const BASE_CHAINS: [(&str, &str); 8] = [
    ("nat-prerouting", "type nat hook prerouting priority dstnat; policy accept;"),
    ("nat-output", "type nat hook output priority -100; policy accept;"),
    ("nat-postrouting", "type nat hook postrouting priority srcnat; policy accept;"),
    ("filter-prerouting", "type filter hook prerouting priority dstnat - 10; policy accept;"),
    ("filter-output", "type filter hook output priority -110; policy accept;"),
    ("services", ""),
    ("refusals", ""),
    ("mark-for-masquerade", ""),
];

/// One version of the table: compare it to know whether anything changed, apply it with [`Ruleset::transaction`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Elements per map.
    maps: BTreeMap<&'static str, BTreeMap<String, String>>,
    /// Rules per chain.
    chains: BTreeMap<String, Vec<String>>,
    /// Affinity sets with their timeouts in seconds.
    sets: BTreeMap<String, u32>,
}

impl Ruleset {
    /// The input of one `nft -f -` that turns `previous` into this one atomically. Client affinities survive; without a
    /// previous version (at start) whatever is there is replaced.
    pub fn transaction(&self, previous: Option<&Self>) -> String {
        let mut text = format!("add table {TABLE}\n");
        match previous {
            None => text.push_str(&format!("delete table {TABLE}\nadd table {TABLE}\n")),
            Some(previous) => previous.clear(self, &mut text),
        }
        for (name, kind) in MAPS {
            line(&mut text, format_args!("add map {TABLE} {name} {{ type {kind}; }}"));
        }
        for (name, seconds) in &self.sets {
            line(
                &mut text,
                format_args!("add set {TABLE} {name} {{ type ipv4_addr; flags dynamic,timeout; timeout {seconds}s; }}"),
            );
        }
        for (name, hook) in BASE_CHAINS {
            let definition = if hook.is_empty() { String::new() } else { format!(" {{ {hook} }}") };
            line(&mut text, format_args!("add chain {TABLE} {name}{definition}"));
        }
        let own = self.chains.keys().filter(|name| !is_base(name));
        own.for_each(|name| line(&mut text, format_args!("add chain {TABLE} {name}")));
        for (chain, rules) in &self.chains {
            rules.iter().for_each(|rule| line(&mut text, format_args!("add rule {TABLE} {chain} {rule}")));
        }
        for (map, elements) in self.maps.iter().filter(|(_, elements)| !elements.is_empty()) {
            let elements: Vec<String> = elements.iter().map(|(key, verdict)| format!("{key} : {verdict}")).collect();
            line(&mut text, format_args!("add element {TABLE} {map} {{ {} }}", elements.join(", ")));
        }
        text
    }

    /// Empties what both versions have, and takes away what only the old one has.
    fn clear(&self, next: &Self, text: &mut String) {
        line(text, format_args!("flush table {TABLE}"));
        MAPS.iter().for_each(|(name, _)| line(text, format_args!("flush map {TABLE} {name}")));
        let stale = self.chains.keys().filter(|name| !is_base(name) && !next.chains.contains_key(*name));
        stale.for_each(|name| line(text, format_args!("delete chain {TABLE} {name}")));
        let stale = self.sets.iter().filter(|(name, seconds)| next.sets.get(*name) != Some(seconds));
        stale.for_each(|(name, _)| line(text, format_args!("delete set {TABLE} {name}")));
    }

    /// The input of one `nft -f -` that removes the table, whatever is in it.
    pub fn removal() -> String {
        format!("add table {TABLE}\ndelete table {TABLE}\n")
    }

    fn rule(&mut self, chain: &str, rule: impl Into<String>) {
        self.chains.entry(chain.to_owned()).or_default().push(rule.into());
    }

    fn element(&mut self, map: &'static str, key: String, verdict: String) {
        // The first Service to claim an address and port keeps it; ports come ordered by name.
        self.maps.entry(map).or_default().entry(key).or_insert(verdict);
    }
}

fn is_base(name: &str) -> bool {
    BASE_CHAINS.iter().any(|(base, _)| *base == name)
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a String cannot fail");
}

pub(super) fn render(options: &Options, ports: &[ServicePort]) -> Ruleset {
    let mut rules = Ruleset::default();
    base(&mut rules);
    ports.iter().for_each(|port| service(&mut rules, options, port));
    rules
}

fn base(rules: &mut Ruleset) {
    let to_node = "fib daddr type local ip daddr != 127.0.0.0/8";
    for (chain, rule) in [
        ("nat-prerouting", "jump services".to_owned()),
        ("nat-output", "jump services".to_owned()),
        ("services", "ip daddr . meta l4proto . th dport vmap @service-ips".to_owned()),
        ("services", format!("{to_node} meta l4proto . th dport vmap @node-ports")),
        ("filter-prerouting", "ct state new jump refusals".to_owned()),
        ("filter-output", "ct state new jump refusals".to_owned()),
        ("refusals", "ip daddr . meta l4proto . th dport vmap @refused-ips".to_owned()),
        ("refusals", format!("{to_node} meta l4proto . th dport vmap @refused-node-ports")),
        ("mark-for-masquerade", format!("meta mark set meta mark or {MASQUERADE_MARK}")),
        ("nat-postrouting", format!("meta mark & {MASQUERADE_MARK} == 0 return")),
        // The mark goes, so that an encapsulated packet is not masqueraded once more.
        ("nat-postrouting", format!("meta mark set meta mark xor {MASQUERADE_MARK}")),
        ("nat-postrouting", "masquerade fully-random".to_owned()),
        ("do-reject", "reject".to_owned()),
        ("do-drop", "drop".to_owned()),
    ] {
        rules.rule(chain, rule);
    }
}

fn service(rules: &mut Ruleset, options: &Options, port: &ServicePort) {
    let at = |address: &Ipv4Addr| format!("{address} . {} . {}", port.protocol, port.port);
    let from_pods = options.cluster_cidr.map(|range| format!("ip saddr {range}"));
    // Traffic that must stay on a node without endpoints is dropped there, not rejected: elsewhere there are some
    // (upstream `internalTrafficPolicy`, `externalTrafficPolicy`).
    let refusal = if port.any { "goto do-drop" } else { "goto do-reject" };

    let internal = port.internal_endpoints();
    let cluster_chain = format!("cluster-{}", suffix(port));
    if internal.is_empty() {
        rules.element("refused-ips", at(&port.cluster_ip), refusal.to_owned());
    } else {
        let entrance = format!("internal-{}", suffix(port));
        if let Some(range) = options.cluster_cidr {
            rules.rule(&entrance, format!("ip saddr != {range} jump mark-for-masquerade"));
        }
        let balanced = if port.internal_local { format!("local-{}", suffix(port)) } else { cluster_chain.clone() };
        rules.rule(&entrance, format!("goto {balanced}"));
        rules.element("service-ips", at(&port.cluster_ip), format!("goto {entrance}"));
    }

    let outside = !port.external_ips.is_empty() || !port.load_balancer_ips.is_empty() || port.node_port.is_some();
    if outside && !port.any {
        refuse_outside(rules, port, "goto do-reject");
    } else if outside {
        let entrance = format!("external-{}", suffix(port));
        external(rules, port, &entrance, &cluster_chain, from_pods.as_deref());
    }
    let uses_local = (port.internal_local || (outside && port.external_local)) && !port.local.is_empty();
    let uses_cluster = (!port.internal_local || outside) && port.any;
    if uses_cluster {
        balance(rules, port, &cluster_chain, &port.cluster);
    }
    if uses_local {
        balance(rules, port, &format!("local-{}", suffix(port)), &port.local);
    }
}

fn refuse_outside(rules: &mut Ruleset, port: &ServicePort, verdict: &str) {
    for address in port.external_ips.iter().chain(&port.load_balancer_ips) {
        rules.element("refused-ips", format!("{address} . {} . {}", port.protocol, port.port), verdict.to_owned());
    }
    if let Some(number) = port.node_port {
        rules.element("refused-node-ports", format!("{} . {number}", port.protocol), verdict.to_owned());
    }
}

fn external(rules: &mut Ruleset, port: &ServicePort, entrance: &str, cluster_chain: &str, from_pods: Option<&str>) {
    if port.external_local {
        // Pods and the node itself are part of the cluster wherever they knock: the policy is for the others.
        if let Some(from_pods) = from_pods {
            rules.rule(entrance, format!("{from_pods} goto {cluster_chain}"));
        }
        rules.rule(entrance, "fib saddr type local jump mark-for-masquerade");
        rules.rule(entrance, format!("fib saddr type local goto {cluster_chain}"));
        // Others keep their source address, and find only what is on this node; health checks lead them elsewhere.
        let verdict = if port.local.is_empty() { "drop".to_owned() } else { format!("goto local-{}", suffix(port)) };
        rules.rule(entrance, verdict);
    } else {
        rules.rule(entrance, "jump mark-for-masquerade");
        rules.rule(entrance, format!("goto {cluster_chain}"));
    }
    let at = |address: &Ipv4Addr| format!("{address} . {} . {}", port.protocol, port.port);
    for address in &port.external_ips {
        rules.element("service-ips", at(address), format!("goto {entrance}"));
    }
    let gate = if port.source_ranges.is_empty() || port.load_balancer_ips.is_empty() {
        entrance.to_owned()
    } else {
        let gate = format!("admission-{}", suffix(port));
        for range in &port.source_ranges {
            rules.rule(&gate, format!("ip saddr {range} goto {entrance}"));
        }
        rules.rule(&gate, "drop");
        gate
    };
    for address in &port.load_balancer_ips {
        rules.element("service-ips", at(address), format!("goto {gate}"));
    }
    if let Some(number) = port.node_port {
        rules.element("node-ports", format!("{} . {number}", port.protocol), format!("goto {entrance}"));
    }
}

/// One chain that chooses among endpoints, and one chain per endpoint.
fn balance(rules: &mut Ruleset, port: &ServicePort, chain: &str, endpoints: &BTreeSet<Endpoint>) {
    let target = |endpoint: &Endpoint| format!("endpoint-{}/{}/{}", suffix(port), endpoint.address, endpoint.port);
    let client = |endpoint: &Endpoint| format!("affinity-{}/{}/{}", suffix(port), endpoint.address, endpoint.port);
    if port.affinity_seconds.is_some() {
        for endpoint in endpoints {
            rules.rule(chain, format!("ip saddr @{} goto {}", client(endpoint), target(endpoint)));
        }
    }
    let choices: Vec<String> =
        endpoints.iter().enumerate().map(|(index, endpoint)| format!("{index} : goto {}", target(endpoint))).collect();
    rules.rule(chain, format!("numgen random mod {} vmap {{ {} }}", endpoints.len(), choices.join(", ")));
    for endpoint in endpoints {
        let name = target(endpoint);
        if rules.chains.contains_key(&name) {
            continue;
        }
        // A pod that reaches itself through its Service would answer itself directly: masquerade (hairpin).
        rules.rule(&name, format!("ip saddr {} jump mark-for-masquerade", endpoint.address));
        if let Some(seconds) = port.affinity_seconds {
            rules.sets.insert(client(endpoint), seconds);
            rules.rule(&name, format!("update @{} {{ ip saddr }}", client(endpoint)));
        }
        rules.rule(&name, format!("meta l4proto {} dnat to {}:{}", port.protocol, endpoint.address, endpoint.port));
    }
}

/// A short hash keeps names apart should two differ only in characters that names cannot have (FNV-1a, 32 bits).
fn suffix(port: &ServicePort) -> String {
    let hash = port.name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}-{}", port.name)
}
