//! Carrying requests to kubelets, pods and services: plain ones as streams, upgraded ones (WebSocket, SPDY) as raw bytes.

mod locate;
mod tunnel;

pub use locate::{kubelet_target, pod_target, service_target, stream_target};
pub use tunnel::{Target, forward};
