//! The numbers of Services, decided: addresses and node ports.
//!
//! No process hands out numbers from memory: a number counts only once its claim is committed in the same store
//! transaction as the Service. ClusterIPs are claimed by upstream's `IPAddress` objects (KEP-1880), node ports in upstream's
//! `RangeAllocation`, a bitmap that is replaced by compare-and-set.

mod addresses;
mod keeping;
mod node_ports;

pub use addresses::{Want, assign, held_addresses, ip_address, pick, want};
pub use keeping::keep_allocated;
pub use node_ports::{PortBitmap, PortError, Refusal, held_ports, is_settled, wants_health_check, wants_node_ports};
