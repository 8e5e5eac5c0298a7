//! The claims of one Service write.

use crate::handlers::Call;
use crate::store::{Check, Txn};
use bytes::Bytes;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use xebec_api::{GroupKind, Status, field, meta};

/// Addresses at the start of the range that are given out only when asked for by name, or when no others are left
/// (KEP-3070): a sixteenth of the range, at least 16 and at most 256.
const STATIC_MIN: u128 = 16;
const STATIC_MAX: u128 = 256;

/// A number that a Service holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hold {
    Ip(IpAddr),
    Port(u16),
}

struct Claim {
    hold: Hold,
    key: String,
    value: Bytes,
    /// Named by the client, so that no other will do.
    explicit: bool,
}

/// What a write takes and gives back.
#[derive(Default)]
pub struct Claims {
    taken: Vec<Claim>,
    released: Vec<String>,
}

impl Claims {
    /// Gives a new Service its numbers.
    pub async fn for_create(call: &Call, new: &mut Value) -> Result<Self, Status> {
        Self::between(call, new, None).await
    }

    /// Keeps the numbers of a Service, takes new ones and gives back what is no longer needed.
    pub async fn for_update(call: &Call, new: &mut Value, old: &Value) -> Result<Self, Status> {
        if is_service(call) && call.info.subresource.is_empty() {
            keep_numbers(new, old);
            return Self::between(call, new, Some(old)).await;
        }
        Ok(Self::default())
    }

    /// Gives back everything a deleted Service held.
    pub fn of_deleted(call: &Call, object: &Value) -> Self {
        if !is_service(call) {
            return Self::default();
        }
        Self { taken: Vec::new(), released: holds(object).iter().map(|hold| key(call, hold)).collect() }
    }

    /// Adds the claims to the transaction of the Service. The Service's own check has to come first.
    pub fn join(&self, txn: &mut Txn) {
        for claim in &self.taken {
            txn.checks.push(Check::Unchanged { key: claim.key.clone(), mod_revision: 0 });
            txn.puts.push((claim.key.clone(), claim.value.clone()));
        }
        txn.deletes.extend(self.released.iter().cloned());
    }

    /// What it means that check number `index` of the transaction failed: an error if the client asked for that very
    /// number, otherwise another attempt draws another one.
    pub fn refused(&self, call: &Call, name: &str, index: usize) -> Result<(), Status> {
        let claim = index.checked_sub(1).and_then(|index| self.taken.get(index)).filter(|claim| claim.explicit);
        match claim.map(|claim| &claim.hold) {
            None => Ok(()),
            Some(Hold::Ip(ip)) => {
                let why = format!("failed to allocate IP {ip}: provided IP is already allocated");
                Err(invalid(call, name, &field::Path::new("spec").child("clusterIPs"), &json!([ip.to_string()]), &why))
            }
            Some(Hold::Port(port)) => {
                let path = field::Path::new("spec").child("ports").index(0).child("nodePort");
                Err(invalid(call, name, &path, &json!(port), "provided port is already allocated"))
            }
        }
    }

    async fn between(call: &Call, new: &mut Value, old: Option<&Value>) -> Result<Self, Status> {
        if !is_service(call) {
            return Ok(Self::default());
        }
        let explicit: BTreeSet<Hold> = holds(new).into_iter().collect();
        check_ranges(call, new, &explicit)?;
        let before: BTreeSet<Hold> = old.map(holds).unwrap_or_default().into_iter().collect();
        choose(call, new).await?;
        let after: BTreeSet<Hold> = holds(new).into_iter().collect();
        let mut claims = Self::default();
        for hold in after.difference(&before) {
            let value = claim_value(call, new, hold)?;
            claims.taken.push(Claim {
                key: key(call, hold),
                value,
                explicit: explicit.contains(hold),
                hold: hold.clone(),
            });
        }
        claims.released = before.difference(&after).map(|hold| key(call, hold)).collect();
        Ok(claims)
    }
}

fn is_service(call: &Call) -> bool {
    call.served.row.gvk.group.is_empty() && call.served.row.gvk.kind == "Service"
}

/// The numbers that a Service names.
fn holds(service: &Value) -> Vec<Hold> {
    let mut held: Vec<Hold> = Vec::new();
    if meta::str_at(service, &["spec", "type"]) == "ExternalName" {
        return held;
    }
    let list = meta::list_at(service, &["spec", "clusterIPs"]).iter().filter_map(Value::as_str);
    let single = meta::str_at(service, &["spec", "clusterIP"]);
    for ip in list.chain([single]).filter_map(|ip| ip.parse::<IpAddr>().ok()) {
        if !held.contains(&Hold::Ip(ip)) {
            held.push(Hold::Ip(ip));
        }
    }
    for port in meta::list_at(service, &["spec", "ports"]) {
        let number = meta::i64_at(port, &["nodePort"])
            .and_then(|number| u16::try_from(number).ok())
            .filter(|number| *number > 0);
        // One number may serve TCP and UDP of the same Service.
        if let Some(number) = number.filter(|number| !held.contains(&Hold::Port(*number))) {
            held.push(Hold::Port(number));
        }
    }
    let health = meta::i64_at(service, &["spec", "healthCheckNodePort"]).and_then(|number| u16::try_from(number).ok());
    held.extend(health.filter(|number| *number > 0).map(Hold::Port));
    held
}

/// An update that leaves numbers out keeps them (kubernetes `pkg/registry/core/service/storage/storage.go`,
/// `patchAllocatedValues`).
fn keep_numbers(new: &mut Value, old: &Value) {
    let kind = |service: &Value| meta::str_at(service, &["spec", "type"]).to_owned();
    if kind(new) != "ExternalName" && kind(old) != "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let absent = meta::get(new, &["spec", field])
                .is_none_or(|value| value.is_null() || value == "" || *value == json!([]));
            if let (true, Some(value)) = (absent, meta::get(old, &["spec", field])) {
                let value = value.clone();
                meta::set(new, &["spec", field], value);
            }
        }
    } else if kind(new) == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            meta::remove(new, &["spec", field]);
        }
    }
    let wants_ports = matches!(kind(new).as_str(), "NodePort" | "LoadBalancer");
    let had_ports = matches!(kind(old).as_str(), "NodePort" | "LoadBalancer");
    let old_ports = meta::list_at(old, &["spec", "ports"]).to_vec();
    let Some(ports) = meta::get_mut(new, &["spec", "ports"]).and_then(Value::as_array_mut) else { return };
    for port in ports {
        if !wants_ports && had_ports {
            meta::remove(port, &["nodePort"]);
            continue;
        }
        if meta::i64_at(port, &["nodePort"]).unwrap_or(0) != 0 {
            continue;
        }
        let same = |other: &&Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
        let number = old_ports.iter().find(same).and_then(|old| meta::i64_at(old, &["nodePort"]));
        if let Some(number) = number.filter(|number| *number > 0) {
            port["nodePort"] = json!(number);
        }
    }
}

fn check_ranges(call: &Call, service: &Value, named: &BTreeSet<Hold>) -> Result<(), Status> {
    let settings = &call.app.settings;
    let name = meta::name(service);
    for hold in named {
        match hold {
            Hold::Ip(ip) if !settings.service_range.contains(ip) => {
                let why = format!(
                    "failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. The range of valid IPs is {}",
                    settings.service_range
                );
                let path = field::Path::new("spec").child("clusterIPs");
                return Err(invalid(call, name, &path, &json!([ip.to_string()]), &why));
            }
            Hold::Port(port) if !settings.node_ports.contains(port) => {
                let (first, last) = (settings.node_ports.start(), settings.node_ports.end());
                let why =
                    format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
                let path = field::Path::new("spec").child("ports").index(0).child("nodePort");
                return Err(invalid(call, name, &path, &json!(port), &why));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Draws the numbers that the Service needs and does not name.
async fn choose(call: &Call, service: &mut Value) -> Result<(), Status> {
    let kind = meta::str_at(service, &["spec", "type"]).to_owned();
    if kind == "ExternalName" {
        return Ok(());
    }
    let family = if matches!(call.app.settings.service_range, IpNet::V4(_)) { "IPv4" } else { "IPv6" };
    if meta::list_at(service, &["spec", "ipFamilies"]).is_empty() {
        meta::set(service, &["spec", "ipFamilies"], json!([family]));
    }
    if meta::str_at(service, &["spec", "ipFamilyPolicy"]).is_empty() {
        meta::set(service, &["spec", "ipFamilyPolicy"], json!("SingleStack"));
    }
    let listed = meta::list_at(service, &["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or_default();
    let single = meta::str_at(service, &["spec", "clusterIP"]);
    let ip = match (single, listed) {
        ("", "") => free_ip(call).await?.to_string(),
        ("", listed) => listed.to_owned(),
        (single, _) => single.to_owned(),
    };
    meta::set(service, &["spec", "clusterIP"], json!(ip));
    meta::set(service, &["spec", "clusterIPs"], json!([ip]));
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") && ip != "None" {
        let allocates =
            meta::get(service, &["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool) != Some(false);
        if kind == "NodePort" || allocates {
            choose_ports(call, service).await?;
        }
    }
    Ok(())
}

async fn choose_ports(call: &Call, service: &mut Value) -> Result<(), Status> {
    let services = call.app.objects.all_cached("", "services", "").await?;
    let mut used: BTreeSet<Hold> = services.iter().flat_map(holds).collect();
    used.extend(holds(service));
    let range = &call.app.settings.node_ports;
    let size = u64::from(range.end() - range.start()) + 1;
    let mut draw = call.ctx.entropy ^ rand::random::<u64>();
    let Some(ports) = meta::get_mut(service, &["spec", "ports"]).and_then(Value::as_array_mut) else { return Ok(()) };
    for port in ports {
        if meta::i64_at(port, &["nodePort"]).unwrap_or(0) != 0 {
            continue;
        }
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let first = draw >> 33;
        let free = (0..size)
            .map(|step| range.start() + u16::try_from((first + step) % size).unwrap_or(0))
            .find(|number| !used.contains(&Hold::Port(*number)));
        let number = free.ok_or_else(|| Status::internal_error("failed to allocate a nodePort: range is full"))?;
        used.insert(Hold::Port(number));
        port["nodePort"] = json!(number);
    }
    Ok(())
}

async fn free_ip(call: &Call) -> Result<IpAddr, Status> {
    let known = call.app.objects.all_cached("networking.k8s.io", "ipaddresses", "").await?;
    let used: BTreeSet<IpAddr> = known.iter().filter_map(|object| meta::name(object).parse().ok()).collect();
    let range = &call.app.settings.service_range;
    let full = || Status::internal_error("failed to allocate a serviceIP: range is full");
    pick(range, rand::random::<u64>(), |ip| !used.contains(&ip)).ok_or_else(full)
}

/// A free address: from the upper band first, then from the band that is meant for static ones.
fn pick(range: &IpNet, random: u64, free: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let base = number(range.network());
    let host_bits = u32::from(range.max_prefix_len() - range.prefix_len());
    // Neither the network's nor, for IPv4, the broadcast address; 2^64 addresses are enough for anybody.
    let size = (1u128 << host_bits.min(64)).saturating_sub(1 + u128::from(matches!(range, IpNet::V4(_))));
    let band = (size / 16).clamp(STATIC_MIN, STATIC_MAX).min(size);
    let address = |offset: u128| of_number(base + 1 + offset, range);
    let upper = size - band;
    let start = if upper > 0 { u128::from(random) % upper } else { 0 };
    let dynamic = (0..upper).map(|step| band + (start + step) % upper);
    dynamic.chain(0..band).map(address).find(|ip| free(*ip))
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn of_number(number: u128, range: &IpNet) -> IpAddr {
    match range {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// Addresses are claimed by their IPAddress object, as upstream's allocator does (KEP-1880), so that a stock API server
/// on the same store respects the claim; ports, for which upstream has no objects, by keys of our own.
fn key(call: &Call, hold: &Hold) -> String {
    match hold {
        Hold::Ip(ip) => call.app.objects.path(&format!("ipaddresses/{ip}")),
        Hold::Port(port) => call.app.objects.path(&format!("xebec.io/nodeports/{port}")),
    }
}

fn claim_value(call: &Call, service: &Value, hold: &Hold) -> Result<Bytes, Status> {
    let (namespace, name) = (meta::namespace(service), meta::name(service));
    let Hold::Ip(ip) = hold else { return Ok(Bytes::from(format!("{namespace}/{name}"))) };
    let served = call.app.objects.registry.preferred("networking.k8s.io", "ipaddresses");
    let served = served.ok_or_else(|| Status::internal_error("IPAddress is not served"))?;
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let object = json!({
        "metadata": {
            "name": ip.to_string(), "uid": uuid::Uuid::new_v4().to_string(), "generation": 1, "creationTimestamp": call.ctx.now_text(),
            "labels": {"ipaddress.kubernetes.io/ip-family": family, "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"},
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    });
    served.encode(&object)
}

fn invalid(call: &Call, name: &str, path: &field::Path, value: &Value, why: &str) -> Status {
    let gvk = &call.served.row.gvk;
    Status::invalid(&GroupKind::new(&*gvk.group, &*gvk.kind), name, &[field::Error::invalid(path, value.clone(), why)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_from_the_upper_band_until_it_is_full() {
        let range: IpNet = "10.96.0.0/24".parse().expect("a range");
        for random in [0, 1, 238, u64::MAX] {
            let ip = pick(&range, random, |_| true).expect("free");
            assert!(ip >= "10.96.0.17".parse::<IpAddr>().expect("an address"), "{ip}");
            assert!(ip <= "10.96.0.254".parse::<IpAddr>().expect("an address"), "{ip}");
        }
        let low: IpAddr = "10.96.0.9".parse().expect("an address");
        assert_eq!(pick(&range, 7, |ip| ip == low), Some(low));
        assert_eq!(pick(&range, 7, |_| false), None);
    }

    #[test]
    fn a_change_of_type_gives_ports_back_and_an_update_keeps_them() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}});
        let mut kept = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}});
        keep_numbers(&mut kept, &old);
        assert_eq!(holds(&kept), holds(&old));
        let mut internal =
            json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}});
        keep_numbers(&mut internal, &old);
        assert_eq!(holds(&internal), vec![Hold::Ip("10.96.0.5".parse().expect("an address"))]);
    }
}
