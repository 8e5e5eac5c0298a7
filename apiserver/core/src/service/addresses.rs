//! ClusterIPs: which to try, and what a claim on one looks like in the store.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::{Map, Value, json};
use xebec_api::meta;

/// Addresses at the start of the range that are given out only when asked for by name, or when no others are left
/// (KEP-3070): a sixteenth of the range, at least and at most so many.
const STATIC_BAND_MIN: u128 = 16;
const STATIC_BAND_MAX: u128 = 256;

/// What a Service wants for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// No address: ExternalName.
    Nothing,
    /// `None`: headless.
    Headless,
    /// This one.
    Explicit(IpAddr),
    /// Any of the range.
    Any,
}

/// What a valid Service's spec asks for.
pub fn want(service: &Value) -> Want {
    if meta::str_at(service, &["spec", "type"]) == "ExternalName" {
        return Want::Nothing;
    }
    let first = meta::list_at(service, &["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or("");
    let single = meta::str_at(service, &["spec", "clusterIP"]);
    match if single.is_empty() { first } else { single } {
        "None" => Want::Headless,
        // Validation lets nothing else through.
        text => text.parse().map_or(Want::Any, Want::Explicit),
    }
}

/// The addresses that a Service names.
pub fn held_addresses(service: &Value) -> Vec<IpAddr> {
    if want(service) == Want::Nothing {
        return Vec::new();
    }
    let list = meta::list_at(service, &["spec", "clusterIPs"]).iter().filter_map(Value::as_str);
    let single = meta::str_at(service, &["spec", "clusterIP"]);
    let mut held: Vec<IpAddr> = list.chain([single]).filter_map(|ip| ip.parse().ok()).collect();
    held.sort_unstable();
    held.dedup();
    held
}

/// A free address: from the upper band first, beginning where `random` says, then from the band for static ones.
pub fn pick(range: &IpNet, random: u64, free: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let base = number(range.network());
    let host_bits = u32::from(range.max_prefix_len() - range.prefix_len());
    // Neither the network's nor, for IPv4, the broadcast address; 2^64 addresses are enough for anybody.
    let size = (1u128 << host_bits.min(64)).saturating_sub(1 + u128::from(matches!(range, IpNet::V4(_))));
    let band = (size / 16).clamp(STATIC_BAND_MIN, STATIC_BAND_MAX).min(size);
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

/// Writes the address (`None`: headless) and what follows from it into a Service of a cluster with one family.
pub fn assign(service: &mut Value, ip: Option<IpAddr>, range: &IpNet) {
    let text = ip.map_or_else(|| "None".to_owned(), |ip| ip.to_string());
    let is_selectorless =
        meta::get(service, &["spec", "selector"]).and_then(Value::as_object).is_none_or(Map::is_empty);
    meta::set(service, &["spec", "clusterIP"], text.as_str().into());
    meta::set(service, &["spec", "clusterIPs"], json!([text]));
    let (family, other) = if matches!(range, IpNet::V4(_)) { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
    // Headless without selector: whoever writes the endpoints decides the families, so both are allowed.
    let is_open = ip.is_none() && is_selectorless;
    if meta::list_at(service, &["spec", "ipFamilies"]).is_empty() {
        let is_single = meta::str_at(service, &["spec", "ipFamilyPolicy"]) == "SingleStack";
        let families = if is_open && !is_single { json!([family, other]) } else { json!([family]) };
        meta::set(service, &["spec", "ipFamilies"], families);
    }
    if meta::str_at(service, &["spec", "ipFamilyPolicy"]).is_empty() {
        let policy = if is_open { "RequireDualStack" } else { "SingleStack" };
        meta::set(service, &["spec", "ipFamilyPolicy"], policy.into());
    }
}

/// The claim on an address: upstream's `IPAddress`, labelled as upstream's allocator labels it (KEP-1880).
pub fn ip_address(ip: IpAddr, namespace: &str, service: &str, uid: &str, now: &str) -> Value {
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({
        "metadata": {
            "name": ip.to_string(), "uid": uid, "generation": 1, "creationTimestamp": now,
            "labels": {"ipaddress.kubernetes.io/ip-family": family, "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"},
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": service}},
    })
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
    fn wishes_are_read() {
        assert_eq!(want(&json!({"spec": {"clusterIP": "None"}})), Want::Headless);
        assert_eq!(want(&json!({"spec": {}})), Want::Any);
        assert_eq!(want(&json!({"spec": {"type": "ExternalName"}})), Want::Nothing);
        let ip = "10.96.0.9".parse().expect("an address");
        assert_eq!(want(&json!({"spec": {"clusterIPs": ["10.96.0.9"]}})), Want::Explicit(ip));
    }

    #[test]
    fn a_headless_service_without_selector_leaves_the_families_open() {
        let range: IpNet = "10.96.0.0/24".parse().expect("a range");
        let mut headless = json!({"spec": {"selector": {"a": "b"}}});
        assign(&mut headless, None, &range);
        assert_eq!(headless["spec"]["ipFamilyPolicy"], json!("SingleStack"));
        let mut open = json!({"spec": {}});
        assign(&mut open, None, &range);
        assert_eq!(
            (&open["spec"]["ipFamilyPolicy"], &open["spec"]["ipFamilies"]),
            (&json!("RequireDualStack"), &json!(["IPv4", "IPv6"]))
        );
    }
}
