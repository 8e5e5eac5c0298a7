//! TCP options by which a vanished peer is noticed within seconds instead of the kernel's quarter of an hour.

use nix::sys::socket::{setsockopt, sockopt};
use std::os::fd::AsFd;

/// Idle time before the first keepalive probe, in seconds.
pub(crate) const KEEPALIVE_IDLE_SECONDS: u32 = 1;
/// Time between keepalive probes, in seconds.
pub(crate) const KEEPALIVE_INTERVAL_SECONDS: u32 = 1;
/// Unanswered probes until the connection counts as dead.
pub(crate) const KEEPALIVE_PROBES: u32 = 3;
/// How long sent data may stay unacknowledged, in milliseconds. With keepalive on, the kernel also measures
/// unanswered probes by it (tcp(7), TCP_USER_TIMEOUT), so a vanished host is noticed after about this time.
pub(crate) const USER_TIMEOUT_MILLISECONDS: u32 = 2_000;

/// Sets the options on a connected socket.
pub(crate) fn notice_vanished_peer(socket: &impl AsFd) -> std::io::Result<()> {
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE_SECONDS)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL_SECONDS)?;
    setsockopt(socket, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
    setsockopt(socket, sockopt::TcpUserTimeout, &USER_TIMEOUT_MILLISECONDS)?;
    setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    Ok(())
}
