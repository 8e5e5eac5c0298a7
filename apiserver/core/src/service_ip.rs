//! Addresses and ports of Services: which to try, and what a claim on one looks like in the store.
//!
//! No process hands out addresses from memory: a candidate counts only once its claim is committed in the same store
//! transaction as the Service. ClusterIPs are claimed by upstream's `IPAddress` objects (KEP-1880), node ports in a
//! bitmap that is replaced by compare-and-set.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde_json::{Map, Value, json};
use xebec_api::meta;

use crate::context::next_random;

/// First node port by default.
pub const NODE_PORT_MIN: u16 = 30_000;
/// Last node port by default.
pub const NODE_PORT_MAX: u16 = 32_767;
/// Most candidates tried before the range counts as full.
pub const CANDIDATES_MAX: usize = 4096;
/// Static band: the lower part of the range, left to explicit wishes (KEP-3070), at least and at most this many.
const STATIC_BAND_MIN: u32 = 16;
const STATIC_BAND_MAX: u32 = 256;

/// What a Service wants for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// What a Service's spec asks for.
///
/// # Errors
/// The address as written, where it is none.
pub fn want(service: &Value) -> Result<Want, String> {
    if meta::str_at(service, &["spec", "type"]) == "ExternalName" {
        return Ok(Want::Nothing);
    }
    let first = meta::list_at(service, &["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or("");
    let single = meta::str_at(service, &["spec", "clusterIP"]);
    match if single.is_empty() { first } else { single } {
        "" => Ok(Want::Any),
        "None" => Ok(Want::Headless),
        text => text.parse().map(Want::Explicit).map_err(|_| text.to_owned()),
    }
}

/// Whether `ip` may be given to a Service: inside the range, neither its network nor its broadcast address.
pub fn assignable(range: &IpNet, ip: IpAddr) -> bool {
    let broadcast = matches!(range, IpNet::V4(v4) if IpAddr::V4(v4.broadcast()) == ip);
    range.contains(&ip) && range.network() != ip && !broadcast
}

/// Addresses to try for a Service without a wish, in an order drawn from `entropy`, the static band last.
pub fn candidates(range: &IpNet, entropy: u64) -> impl Iterator<Item = IpAddr> + use<> {
    let IpNet::V4(v4) = *range else { return Vec::new().into_iter() };
    let base = u32::from(v4.network());
    let size = 1u32.checked_shl(32 - u32::from(v4.prefix_len())).unwrap_or(0);
    let last = size.wrapping_sub(2);
    let band = (size / 16).clamp(STATIC_BAND_MIN, STATIC_BAND_MAX).min(last / 2);
    let mut state = entropy;
    let mut order = Vec::new();
    for (from, to) in [(band + 1, last), (1, band)] {
        if from > to {
            continue;
        }
        let count = to - from + 1;
        let start = (next_random(&mut state) % u64::from(count)) as u32;
        order.extend(
            (0..count).take(CANDIDATES_MAX).map(|i| IpAddr::V4(Ipv4Addr::from(base + from + (start + i) % count))),
        );
    }
    order.into_iter()
}

/// Store key of the claim on an address.
pub fn claim_key(ip: IpAddr) -> String {
    format!("/registry/ipaddresses/{ip}")
}

/// The claim itself: upstream's `IPAddress`, labelled as upstream's allocator labels it.
pub fn ip_address_object(ip: IpAddr, namespace: &str, service: &str, uid: &str, now: &str) -> Value {
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": ip.to_string(),
            "uid": uid,
            "creationTimestamp": now,
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family,
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": service}},
    })
}

/// Writes the allocated address (`None`: headless) and its family into a Service.
pub fn assign(service: &mut Value, ip: Option<IpAddr>) {
    let text = ip.map_or_else(|| "None".to_owned(), |ip| ip.to_string());
    let selectorless = meta::get(service, &["spec", "selector"]).and_then(Value::as_object).is_none_or(Map::is_empty);
    let spec = &mut service["spec"];
    spec["clusterIP"] = text.as_str().into();
    spec["clusterIPs"] = json!([text]);
    let family = if ip.is_some_and(|ip| ip.is_ipv6()) { "IPv6" } else { "IPv4" };
    // Headless without selector: whoever writes the endpoints decides the families.
    let (families, policy) = if ip.is_none() && selectorless {
        (json!(["IPv4", "IPv6"]), "RequireDualStack")
    } else {
        (json!([family]), "SingleStack")
    };
    if meta::list_at(spec, &["ipFamilies"]).is_empty() {
        spec["ipFamilies"] = families;
    }
    if meta::str_at(spec, &["ipFamilyPolicy"]).is_empty() {
        spec["ipFamilyPolicy"] = policy.into();
    }
}

/// A Service that becomes ExternalName gives its addresses and ports back.
pub fn clear(service: &mut Value) {
    for field in
        ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy", "externalTrafficPolicy"]
    {
        meta::remove(service, &["spec", field]);
    }
}

/// An update that leaves addresses, families and ports out keeps the old ones (`patchAllocatedValues`).
pub fn keep_allocated(new: &mut Value, old: &Value) {
    let kind = |object: &Value| meta::str_at(object, &["spec", "type"]).to_owned();
    if kind(new) == "ExternalName" || kind(old) == "ExternalName" {
        return;
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"] {
        let absent = meta::get(new, &["spec", field]).is_none_or(|v| v.is_null() || *v == json!("") || *v == json!([]));
        if let (true, Some(value)) = (absent, meta::get(old, &["spec", field])) {
            new["spec"][field] = value.clone();
        }
    }
    if !matches!(kind(new).as_str(), "NodePort" | "LoadBalancer") {
        if let Some(ports) = meta::get_mut(new, &["spec", "ports"]).and_then(Value::as_array_mut) {
            ports.iter_mut().for_each(|port| drop(meta::remove(port, &["nodePort"])));
        }
        return;
    }
    let before: Vec<(Value, Value)> = meta::list_at(old, &["spec", "ports"])
        .iter()
        .map(|port| (json!([port["port"], port["protocol"]]), port["nodePort"].clone()))
        .collect();
    let used: Vec<i64> = node_ports(new);
    for port in meta::get_mut(new, &["spec", "ports"]).and_then(Value::as_array_mut).into_iter().flatten() {
        let key = json!([port["port"], port["protocol"]]);
        let kept = before
            .iter()
            .find(|(k, number)| *k == key && number.as_i64().is_some_and(|n| n != 0 && !used.contains(&n)));
        if let (0, Some((_, number))) = (meta::i64_at(port, &["nodePort"]).unwrap_or(0), kept) {
            port["nodePort"] = number.clone();
        }
    }
}

/// The node ports a Service has or wishes.
pub fn node_ports(service: &Value) -> Vec<i64> {
    let ports = meta::list_at(service, &["spec", "ports"]).iter();
    ports.filter_map(|port| meta::i64_at(port, &["nodePort"])).filter(|n| *n != 0).collect()
}

/// Whether the Service's ports get node ports.
pub fn wants_node_ports(service: &Value) -> bool {
    match meta::str_at(service, &["spec", "type"]) {
        "NodePort" => true,
        "LoadBalancer" => meta::get(service, &["spec", "allocateLoadBalancerNodePorts"]) != Some(&json!(false)),
        _ => false,
    }
}

/// The claimed node ports of the cluster: a bitmap as Go's `big.Int` writes it (big-endian, no leading zeros), which is
/// what upstream's `RangeAllocation.data` holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortBitmap {
    first: u16,
    claimed: Vec<bool>,
}

/// Why a node port cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Another Service has it.
    #[error("provided port is already allocated")]
    Taken,
    /// Outside the range.
    #[error("provided port is not in the valid range. The range of valid ports is {first}-{last}")]
    OutOfRange {
        /// First valid port.
        first: u16,
        /// Last valid port.
        last: u16,
    },
    /// None is left.
    #[error("range is full")]
    Full,
}

impl PortBitmap {
    /// Nothing claimed in `first..=last`.
    pub fn new(first: u16, last: u16) -> Self {
        Self { first, claimed: vec![false; usize::from(last.saturating_sub(first)) + 1] }
    }

    /// Reads the stored bytes.
    pub fn from_bytes(first: u16, last: u16, bytes: &[u8]) -> Self {
        let mut bitmap = Self::new(first, last);
        for (i, byte) in bytes.iter().rev().enumerate() {
            for bit in 0..8 {
                if byte & (1 << bit) != 0
                    && let Some(slot) = bitmap.claimed.get_mut(i * 8 + bit)
                {
                    *slot = true;
                }
            }
        }
        bitmap
    }

    /// The bytes to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self
            .claimed
            .chunks(8)
            .map(|bits| bits.iter().enumerate().fold(0, |byte, (i, set)| byte | (u8::from(*set) << i)))
            .collect();
        bytes.reverse();
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        bytes.split_off(zeros)
    }

    /// Claims one port.
    ///
    /// # Errors
    /// When it is taken or out of range.
    pub fn claim(&mut self, port: i64) -> Result<(), PortError> {
        let last = self.first + (self.claimed.len() - 1) as u16;
        let slot = usize::try_from(port - i64::from(self.first)).ok().and_then(|i| self.claimed.get_mut(i));
        match slot {
            None => Err(PortError::OutOfRange { first: self.first, last }),
            Some(true) => Err(PortError::Taken),
            Some(slot) => {
                *slot = true;
                Ok(())
            }
        }
    }

    /// Claims any port.
    ///
    /// # Errors
    /// When none is left.
    pub fn claim_any(&mut self, entropy: u64) -> Result<u16, PortError> {
        let mut state = entropy;
        let start = (next_random(&mut state) % self.claimed.len() as u64) as usize;
        let count = self.claimed.len();
        let free = (0..count).map(|i| (start + i) % count).find(|i| !self.claimed[*i]).ok_or(PortError::Full)?;
        self.claimed[free] = true;
        Ok(self.first + free as u16)
    }

    /// Gives one port back.
    pub fn release(&mut self, port: i64) {
        if let Some(slot) = usize::try_from(port - i64::from(self.first)).ok().and_then(|i| self.claimed.get_mut(i)) {
            *slot = false;
        }
    }

    /// Gives every port of `service` that has none a free one and claims those it wishes. TCP and UDP of one number
    /// share a node port, as upstream allows. `keep` are ports it holds already.
    ///
    /// # Errors
    /// The index of the port and what is wrong with it.
    pub fn allocate(&mut self, service: &mut Value, keep: &[i64], entropy: u64) -> Result<(), (usize, PortError)> {
        let mut mine: Vec<i64> = keep.to_vec();
        let ports = meta::get_mut(service, &["spec", "ports"]).and_then(Value::as_array_mut);
        for (i, port) in ports.into_iter().flatten().enumerate() {
            let wished = meta::i64_at(port, &["nodePort"]).unwrap_or(0);
            if mine.contains(&wished) {
                continue;
            }
            let number = if wished == 0 {
                i64::from(self.claim_any(entropy.wrapping_add(i as u64)).map_err(|e| (i, e))?)
            } else {
                self.claim(wished).map(|()| wished).map_err(|e| (i, e))?
            };
            port["nodePort"] = number.into();
            mine.push(number);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_cover_the_range_once_and_leave_the_static_band_for_last() {
        let range: IpNet = "10.96.0.0/24".parse().expect("a range");
        let all: Vec<IpAddr> = candidates(&range, 99).collect();
        let unique: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!((all.len(), unique.len()), (254, 254));
        assert!(all.iter().all(|ip| assignable(&range, *ip)));
        let band: IpAddr = "10.96.0.10".parse().expect("an address");
        assert!(all.iter().position(|ip| *ip == band).expect("among them") >= 254 - 16);
        assert!(!assignable(&range, range.network()) && !assignable(&range, range.broadcast()));
    }

    #[test]
    fn bitmaps_survive_the_store() {
        let mut bitmap = PortBitmap::new(NODE_PORT_MIN, NODE_PORT_MAX);
        assert_eq!(bitmap.to_bytes(), Vec::<u8>::new());
        bitmap.claim(30_000).expect("free");
        bitmap.claim(30_009).expect("free");
        assert_eq!(bitmap.to_bytes(), [2, 1]);
        assert_eq!(PortBitmap::from_bytes(NODE_PORT_MIN, NODE_PORT_MAX, &[2, 1]), bitmap);
        assert_eq!(bitmap.claim(30_000), Err(PortError::Taken));
        assert!(matches!(bitmap.claim(80), Err(PortError::OutOfRange { .. })));
        bitmap.release(30_000);
        assert_eq!(bitmap.claim(30_000), Ok(()));
    }

    #[test]
    fn services_get_and_keep_their_ports() {
        let mut bitmap = PortBitmap::new(30_000, 30_001);
        let mut service =
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_001}, {"port": 81}]}});
        bitmap.allocate(&mut service, &[], 5).expect("room");
        assert_eq!(node_ports(&service), [30_001, 30_000]);
        assert_eq!(bitmap.claim_any(1), Err(PortError::Full));
        let mut update = json!({"spec": {"type": "NodePort", "ports": [{"port": 81}, {"port": 80}]}});
        keep_allocated(&mut update, &service);
        assert_eq!(node_ports(&update), [30_000, 30_001]);
    }

    #[test]
    fn wishes_are_read() {
        assert_eq!(want(&json!({"spec": {"clusterIP": "None"}})), Ok(Want::Headless));
        assert_eq!(want(&json!({"spec": {}})), Ok(Want::Any));
        assert_eq!(want(&json!({"spec": {"type": "ExternalName"}})), Ok(Want::Nothing));
        assert!(want(&json!({"spec": {"clusterIP": "x"}})).is_err());
        let mut headless = json!({"spec": {"selector": {"a": "b"}}});
        assign(&mut headless, None);
        assert_eq!(headless["spec"]["ipFamilyPolicy"], json!("SingleStack"));
    }
}
