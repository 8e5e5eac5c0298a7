//! ClusterIPs and node ports: claimed in the store, in the same transaction as the Service that holds them.
//!
//! Claims have upstream's form: an IPAddress object for each address, one RangeAllocation for all node ports. The
//! transaction that stores the Service checks that the address is free and the allocation unchanged. Two API servers, a
//! stock one among them, therefore cannot hand out the same number, and a number is free again exactly when its Service
//! no longer holds it. What is decided about numbers is in `xebec_apiserver_core::service`.

mod claims;
mod node_ports;

pub use claims::Claims;
