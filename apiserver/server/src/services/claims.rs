//! The claims of one Service write.

use super::node_ports::PortMap;
use crate::handlers::Call;
use crate::store::{Check, Txn};
use bytes::Bytes;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use xebec_api::{GroupKind, Status, field, meta};
use xebec_apiserver_core::service::{
    PortError, Refusal, Want, assign, held_addresses, held_ports, ip_address, is_settled, keep_allocated, pick, want,
};

/// An address that the write takes.
struct Taken {
    ip: IpAddr,
    key: String,
    value: Bytes,
    /// Named by the client, so that no other will do.
    explicit: bool,
}

/// What a write takes and gives back.
#[derive(Default)]
pub struct Claims {
    taken: Vec<Taken>,
    released: Vec<String>,
    ports: Option<PortMap>,
}

impl Claims {
    /// Gives a new Service its numbers.
    pub async fn for_create(call: &Call, new: &mut Value) -> Result<Self, Status> {
        Self::between(call, new, None).await
    }

    /// Keeps the numbers of a Service, takes new ones and gives back what is no longer needed.
    pub async fn for_update(call: &Call, new: &mut Value, old: &Value) -> Result<Self, Status> {
        if is_service(call) && call.info.subresource.is_empty() {
            keep_allocated(new, old);
            return Self::between(call, new, Some(old)).await;
        }
        Ok(Self::default())
    }

    /// Gives back everything a deleted Service held.
    pub async fn of_deleted(call: &Call, object: &Value) -> Result<Self, Status> {
        if !is_service(call) {
            return Ok(Self::default());
        }
        let released = held_addresses(object).into_iter().map(|ip| address_key(call, ip)).collect();
        let ports = match held_ports(object) {
            held if held.is_empty() => None,
            held => {
                let mut map = PortMap::read(&call.app).await?;
                held.into_iter().for_each(|number| map.claimed.release(number));
                Some(map)
            }
        };
        Ok(Self { taken: Vec::new(), released, ports })
    }

    /// Adds the claims to the transaction of the Service. The Service's own check has to come first.
    pub fn join(&self, txn: &mut Txn) -> Result<(), Status> {
        for taken in &self.taken {
            txn.checks.push(Check::Unchanged { key: taken.key.clone(), mod_revision: 0 });
            txn.puts.push((taken.key.clone(), taken.value.clone()));
        }
        txn.deletes.extend(self.released.iter().cloned());
        self.ports.iter().try_for_each(|map| map.join(txn))
    }

    /// What it means that check number `index` of the transaction failed: an error if the client asked for that very
    /// number, otherwise another attempt draws another one, or finds other ports claimed.
    pub fn refused(&self, call: &Call, name: &str, index: usize) -> Result<(), Status> {
        let taken = index.checked_sub(1).and_then(|index| self.taken.get(index)).filter(|taken| taken.explicit);
        taken.map_or(Ok(()), |taken| Err(address_refused(call, name, taken.ip, "provided IP is already allocated")))
    }

    async fn between(call: &Call, new: &mut Value, old: Option<&Value>) -> Result<Self, Status> {
        if !is_service(call) {
            return Ok(Self::default());
        }
        let explicit = held_addresses(new);
        check_range(call, new, &explicit)?;
        choose_address(call, new).await?;
        let before: BTreeSet<IpAddr> = old.map(held_addresses).unwrap_or_default().into_iter().collect();
        let after: BTreeSet<IpAddr> = held_addresses(new).into_iter().collect();
        let mut claims = Self::default();
        for ip in after.difference(&before).copied() {
            let value = address_claim(call, new, ip)?;
            claims.taken.push(Taken { ip, key: address_key(call, ip), value, explicit: explicit.contains(&ip) });
        }
        claims.released = before.difference(&after).map(|ip| address_key(call, *ip)).collect();
        let ports = old.map(held_ports).unwrap_or_default();
        if !is_settled(new, &ports) {
            let mut map = PortMap::read(&call.app).await?;
            let entropy = call.ctx.entropy ^ rand::random::<u64>();
            map.claimed.allocate(new, &ports, entropy).map_err(|refusal| port_refused(call, new, &refusal))?;
            claims.ports = Some(map);
        }
        Ok(claims)
    }
}

fn is_service(call: &Call) -> bool {
    call.served.row.gvk.group.is_empty() && call.served.row.gvk.kind == "Service"
}

fn check_range(call: &Call, service: &Value, named: &[IpAddr]) -> Result<(), Status> {
    let range: &IpNet = &call.app.settings.service_range;
    match named.iter().find(|ip| !range.contains(*ip)) {
        None => Ok(()),
        Some(ip) => {
            let why = format!("the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}");
            Err(address_refused(call, meta::name(service), *ip, &why))
        }
    }
}

/// Gives the Service the address that it needs and does not name.
async fn choose_address(call: &Call, service: &mut Value) -> Result<(), Status> {
    let ip = match want(service) {
        Want::Nothing => return Ok(()),
        Want::Headless => None,
        Want::Explicit(ip) => Some(ip),
        Want::Any => Some(free_ip(call).await?),
    };
    assign(service, ip, &call.app.settings.service_range);
    Ok(())
}

async fn free_ip(call: &Call) -> Result<IpAddr, Status> {
    let known = call.app.objects.all_cached("networking.k8s.io", "ipaddresses", "").await?;
    let used: BTreeSet<IpAddr> = known.iter().filter_map(|object| meta::name(object).parse().ok()).collect();
    let range = &call.app.settings.service_range;
    let full = || Status::internal_error("failed to allocate a serviceIP: range is full");
    pick(range, rand::random::<u64>(), |ip| !used.contains(&ip)).ok_or_else(full)
}

/// Addresses are claimed by their IPAddress object, as upstream's allocator does (KEP-1880), so that a stock API server
/// on the same store respects the claim.
fn address_key(call: &Call, ip: IpAddr) -> String {
    call.app.objects.path(&format!("ipaddresses/{ip}"))
}

fn address_claim(call: &Call, service: &Value, ip: IpAddr) -> Result<Bytes, Status> {
    let served = call.app.objects.registry.preferred("networking.k8s.io", "ipaddresses");
    let served = served.ok_or_else(|| Status::internal_error("IPAddress is not served"))?;
    let uid = uuid::Uuid::new_v4().to_string();
    served.encode(&ip_address(ip, meta::namespace(service), meta::name(service), &uid, &call.ctx.now_text()))
}

fn address_refused(call: &Call, name: &str, ip: IpAddr, why: &str) -> Status {
    let path = field::Path::new("spec").child("clusterIPs");
    invalid(call, name, &path, &json!([ip.to_string()]), &format!("failed to allocate IP {ip}: {why}"))
}

fn port_refused(call: &Call, service: &Value, refusal: &Refusal) -> Status {
    match refusal.error {
        PortError::Full => Status::internal_error(&format!("failed to allocate a nodePort: {}", refusal.error)),
        _ => invalid(call, meta::name(service), &refusal.path, &json!(refusal.number), &refusal.error.to_string()),
    }
}

fn invalid(call: &Call, name: &str, path: &field::Path, value: &Value, why: &str) -> Status {
    let gvk = &call.served.row.gvk;
    Status::invalid(&GroupKind::new(&*gvk.group, &*gvk.kind), name, &[field::Error::invalid(path, value.clone(), why)])
}
