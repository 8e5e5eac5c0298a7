//! Node ports: which are claimed, in upstream's form, and which a Service gets.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use xebec_api::field::Path;
use xebec_api::meta;

use crate::context::next_random;

/// The node ports that a Service has or wishes, its health check's among them.
pub fn held_ports(service: &Value) -> Vec<i64> {
    if meta::str_at(service, &["spec", "type"]) == "ExternalName" {
        return Vec::new();
    }
    let ports = meta::list_at(service, &["spec", "ports"]).iter().map(|port| meta::i64_at(port, &["nodePort"]));
    let health = meta::i64_at(service, &["spec", "healthCheckNodePort"]);
    let mut held: Vec<i64> = ports.chain([health]).flatten().filter(|number| *number != 0).collect();
    // One number may serve several protocols of one Service.
    held.sort_unstable();
    held.dedup();
    held
}

/// Whether the Service's ports get node ports.
pub fn wants_node_ports(service: &Value) -> bool {
    match meta::str_at(service, &["spec", "type"]) {
        "NodePort" => true,
        "LoadBalancer" => meta::get(service, &["spec", "allocateLoadBalancerNodePorts"]) != Some(&json!(false)),
        _ => false,
    }
}

/// Whether load balancers ask nodes for the Service's health (upstream's `NeedsHealthCheck`).
pub fn wants_health_check(service: &Value) -> bool {
    meta::str_at(service, &["spec", "type"]) == "LoadBalancer"
        && meta::str_at(service, &["spec", "externalTrafficPolicy"]) == "Local"
}

/// Whether a Service that held `before` needs no look at the claimed ports: it has all it wants, and nothing else.
pub fn is_settled(service: &Value, before: &[i64]) -> bool {
    let number = |value: &Value, path: &[&str]| meta::i64_at(value, path).unwrap_or(0);
    let lacks = wants_node_ports(service)
        && meta::list_at(service, &["spec", "ports"]).iter().any(|port| number(port, &["nodePort"]) == 0)
        || wants_health_check(service) && number(service, &["spec", "healthCheckNodePort"]) == 0;
    !lacks && held_ports(service) == before
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
        let first = self.first;
        match self.slot(port) {
            None => Err(PortError::OutOfRange { first, last }),
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
        if let Some(slot) = self.slot(port) {
            *slot = false;
        }
    }

    /// Whether a port is claimed; nothing outside the range.
    fn slot(&mut self, port: i64) -> Option<&mut bool> {
        usize::try_from(port - i64::from(self.first)).ok().and_then(|index| self.claimed.get_mut(index))
    }

    /// Makes the claims what `service` needs, which held `before`: gives back what it no longer names, claims what it
    /// wishes, and gives it what it lacks. Ports with one number and several protocols share a node port (kubernetes
    /// `pkg/registry/core/service/storage/alloc.go`).
    ///
    /// # Errors
    /// The field, its value and what is wrong with it.
    pub fn allocate(&mut self, service: &mut Value, before: &[i64], entropy: u64) -> Result<(), Refusal> {
        let wished = held_ports(service);
        before.iter().filter(|number| !wished.contains(number)).for_each(|number| self.release(*number));
        let mut mine: Vec<i64> = before.iter().copied().filter(|number| wished.contains(number)).collect();
        let (gets_ports, gets_health) = (wants_node_ports(service), wants_health_check(service));
        let mut state = entropy;
        let list = |service: &Value| meta::list_at(service, &["spec", "ports"]).to_vec();
        for (index, port) in list(service).iter().enumerate() {
            let path = || Path::new("spec").child("ports").index(index).child("nodePort");
            // Any number of the same port, given before or wished for behind, will do.
            let shared = list(service).iter().filter(|other| other["port"] == port["port"]).find_map(wish);
            let number = match wish(port).or(shared) {
                Some(number) => {
                    self.keep_or_claim(&mut mine, number).map_err(|error| Refusal { path: path(), number, error })?
                }
                None if gets_ports => {
                    self.any(&mut mine, &mut state).map_err(|error| Refusal { path: path(), number: 0, error })?
                }
                None => continue,
            };
            if let Some(ports) = meta::get_mut(service, &["spec", "ports"]).and_then(Value::as_array_mut) {
                ports[index]["nodePort"] = number.into();
            }
        }
        let health = meta::i64_at(service, &["spec", "healthCheckNodePort"]).filter(|number| *number != 0);
        let path = || Path::new("spec").child("healthCheckNodePort");
        match health {
            Some(number) => {
                self.keep_or_claim(&mut mine, number).map_err(|error| Refusal { path: path(), number, error })?;
            }
            None if gets_health => {
                let refusal = |error| Refusal { path: path(), number: 0, error };
                let number = self.any(&mut mine, &mut state).map_err(refusal)?;
                meta::set(service, &["spec", "healthCheckNodePort"], number.into());
            }
            None => {}
        }
        Ok(())
    }

    fn keep_or_claim(&mut self, mine: &mut Vec<i64>, number: i64) -> Result<i64, PortError> {
        if !mine.contains(&number) {
            self.claim(number)?;
            mine.push(number);
        }
        Ok(number)
    }

    fn any(&mut self, mine: &mut Vec<i64>, state: &mut u64) -> Result<i64, PortError> {
        let number = i64::from(self.claim_any(next_random(state))?);
        mine.push(number);
        Ok(number)
    }

    /// What `services` hold: how upstream's repair loop makes the claims when there are none yet, or of another range.
    pub fn of_services<'a>(range: &RangeInclusive<u16>, services: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut bitmap = Self::new(*range.start(), *range.end());
        // What lies outside the range, or is held twice, no claim could mend.
        for number in services.into_iter().flat_map(held_ports) {
            if let Some(slot) = bitmap.slot(number) {
                *slot = true;
            }
        }
        bitmap
    }

    /// Reads upstream's `RangeAllocation`; `None`: it is about another range.
    pub fn from_range_allocation(range: &RangeInclusive<u16>, object: &Value) -> Option<Self> {
        let (first, last) = (*range.start(), *range.end());
        let data = STANDARD.decode(meta::str_at(object, &["data"])).ok()?;
        (meta::str_at(object, &["range"]) == format!("{first}-{last}")).then(|| Self::from_bytes(first, last, &data))
    }

    /// Upstream's `RangeAllocation`, with the metadata of the `old` one.
    pub fn to_range_allocation(&self, old: Option<&Value>) -> Value {
        let last = usize::from(self.first) + self.claimed.len() - 1;
        json!({
            "apiVersion": "v1",
            "kind": "RangeAllocation",
            "metadata": old.and_then(|old| old.get("metadata")).cloned().unwrap_or_else(|| json!({})),
            "range": format!("{}-{last}", self.first),
            "data": STANDARD.encode(self.to_bytes()),
        })
    }
}

fn wish(port: &Value) -> Option<i64> {
    meta::i64_at(port, &["nodePort"]).filter(|number| *number != 0)
}

/// A port that a Service does not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where it asked for it.
    pub path: Path,
    /// What it asked for; 0: any.
    pub number: i64,
    /// Why not.
    pub error: PortError,
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: RangeInclusive<u16> = 30_000..=32_767;

    #[test]
    fn bitmaps_survive_the_store() {
        let mut bitmap = PortBitmap::new(30_000, 32_767);
        assert_eq!(bitmap.to_bytes(), Vec::<u8>::new());
        bitmap.claim(30_000).expect("free");
        bitmap.claim(30_009).expect("free");
        assert_eq!(bitmap.to_bytes(), [2, 1]);
        assert_eq!(PortBitmap::from_bytes(30_000, 32_767, &[2, 1]), bitmap);
        assert_eq!(bitmap.claim(30_000), Err(PortError::Taken));
        assert!(matches!(bitmap.claim(80), Err(PortError::OutOfRange { .. })));
        bitmap.release(30_000);
        assert_eq!(bitmap.claim(30_000), Ok(()));
    }

    #[test]
    fn claims_are_upstreams_object_and_of_another_range_are_none() {
        let services = [json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_009}]}})];
        let bitmap = PortBitmap::of_services(&RANGE, &services);
        let object = bitmap.to_range_allocation(Some(&json!({"metadata": {"uid": "u"}})));
        assert_eq!((&object["range"], &object["data"]), (&json!("30000-32767"), &json!("AgA=")));
        assert_eq!(object["metadata"]["uid"], "u");
        assert_eq!(PortBitmap::from_range_allocation(&RANGE, &object), Some(bitmap));
        assert_eq!(PortBitmap::from_range_allocation(&(30_000..=30_100), &object), None);
    }

    #[test]
    fn services_get_keep_and_give_back_ports() {
        let mut bitmap = PortBitmap::new(30_000, 30_001);
        let mut service =
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_001}, {"port": 81}]}});
        assert!(!is_settled(&service, &[]));
        bitmap.allocate(&mut service, &[], 5).expect("room");
        assert_eq!(held_ports(&service), [30_000, 30_001]);
        assert!(is_settled(&service, &[30_000, 30_001]));
        let mut other = json!({"spec": {"type": "NodePort", "ports": [{"port": 1}]}});
        assert_eq!(bitmap.allocate(&mut other, &[], 1).map_err(|refusal| refusal.error), Err(PortError::Full));
        let mut internal = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}});
        bitmap.allocate(&mut internal, &[30_000, 30_001], 1).expect("nothing is wanted");
        assert_eq!((bitmap.to_bytes(), held_ports(&internal)), (vec![], vec![]));
    }

    #[test]
    fn protocols_of_one_port_share_a_number_and_wishes_that_others_hold_are_refused() {
        let mut bitmap = PortBitmap::new(30_000, 30_099);
        let mut dns = json!({"spec": {"type": "NodePort",
            "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP", "nodePort": 30_053}]}});
        bitmap.allocate(&mut dns, &[], 9).expect("room");
        assert_eq!(dns["spec"]["ports"][0]["nodePort"], 30_053);
        let mut late = json!({"spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2, "nodePort": 30_053}]}});
        let refusal = bitmap.allocate(&mut late, &[], 1).expect_err("held");
        assert_eq!((refusal.path.to_string().as_str(), refusal.number), ("spec.ports[1].nodePort", 30_053));
        let mut outside = json!({"spec": {"type": "NodePort", "ports": [{"port": 2, "nodePort": 80}]}});
        let refusal = bitmap.allocate(&mut outside, &[], 1).expect_err("outside");
        assert_eq!(refusal.error, PortError::OutOfRange { first: 30_000, last: 30_099 });
    }

    #[test]
    fn local_load_balancers_get_a_port_for_their_health() {
        let mut bitmap = PortBitmap::new(30_000, 30_099);
        let mut service = json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "ports": [{"port": 80, "nodePort": 30_001}]}});
        bitmap.allocate(&mut service, &[], 3).expect("room");
        let number = meta::i64_at(&service, &["spec", "healthCheckNodePort"]).expect("a port");
        assert_eq!(bitmap.claim(number), Err(PortError::Taken));
        assert!(is_settled(&service, &held_ports(&service)));
    }
}
