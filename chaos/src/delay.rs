//! Packets that arrive late: the kernel puts them into a queue of the host's namespace (NFQUEUE), and lets each go when it is told.
//!
//! The messages are those of Linux' `include/uapi/linux/netfilter/nfnetlink_queue.h`. `netem` would do the same, where the kernel has it.

use std::{
    collections::VecDeque,
    fs::File,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
            socket, sockopt::ReceiveTimeout,
        },
        time::TimeVal,
    },
};

use crate::shell::{run, succeeds};

/// The queue's number in the namespace.
const QUEUE: u16 = 78;
/// Packets that wait at the same time; more are dropped.
const WAITING_MAX: u32 = 16_384;
/// Bytes of a message of the kernel: no packet's content is asked for.
const MESSAGE_BYTES_MAX: usize = 8_192;
/// The thread looks at least so often whether it is to end.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// No packet waits longer than so many times the mean.
const DELAY_MAX_FACTOR: f64 = 8.0;

/// `NFNL_SUBSYS_QUEUE` in the upper byte of a message's type.
const SUBSYSTEM: u16 = 3 << 8;
const PACKET: u16 = SUBSYSTEM;
const VERDICT: u16 = SUBSYSTEM | 1;
const CONFIG: u16 = SUBSYSTEM | 2;
const REQUEST: u16 = 1;

/// Lateness of what some hosts send to one; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Delay {
    namespace: String,
    from: Vec<Ipv4Addr>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Whether this machine can do it.
pub(crate) fn is_possible() -> bool {
    std::path::Path::new("/proc/net/netfilter/nfnetlink_queue").exists() && succeeds("iptables", &["--version"])
}

impl Delay {
    /// Packets from these hosts arrive late in the namespace: half of the mean is fixed, the rest is by chance, with a long tail.
    /// Their order is kept.
    pub(crate) fn start(namespace: &str, from: Vec<Ipv4Addr>, mean: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = mpsc::channel();
        let (path, stopped) = (format!("/run/netns/{namespace}"), Arc::clone(&stop));
        let thread = std::thread::spawn(move || match open(&path) {
            Ok(socket) => {
                // Whoever waits for the answer may have given up.
                drop(ready.send(Ok(())));
                Queue { socket, waiting: VecDeque::new(), mean }.serve(&stopped);
            }
            Err(error) => drop(ready.send(Err(error))),
        });
        started.recv().context("the queue's thread ended")?.context("cannot open a packet queue")?;
        let delay = Self { namespace: namespace.to_owned(), from, stop, thread: Some(thread) };
        delay.rules("-A")?;
        Ok(delay)
    }

    fn rules(&self, action: &str) -> Result<()> {
        for address in &self.from {
            let (address, queue) = (address.to_string(), QUEUE.to_string());
            let rule = ["-s", &address, "-j", "NFQUEUE", "--queue-num", &queue, "--queue-bypass"];
            run("ip", &[&["netns", "exec", &self.namespace, "iptables", "-w", action, "INPUT"], &rule[..]].concat())?;
        }
        Ok(())
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        if let Err(error) = self.rules("-D") {
            tracing::warn!(%error, "packets are not let through at once");
        }
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A queue of the namespace; to be called on a thread of its own, which stays there.
fn open(namespace: &str) -> Result<OwnedFd> {
    let file = File::open(namespace).with_context(|| format!("cannot open {namespace}"))?;
    setns(file, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    // NFQA_CFG_CMD: NFQNL_CFG_CMD_BIND, for no particular family.
    configure(&socket, 1, &[1, 0, 0, 0])?;
    // NFQA_CFG_PARAMS: NFQNL_COPY_META, nothing of the content.
    configure(&socket, 2, &[0, 0, 0, 0, 1])?;
    configure(&socket, 3, &WAITING_MAX.to_be_bytes())?;
    // NFQA_CFG_MASK and NFQA_CFG_FLAGS: NFQA_CFG_F_GSO, large packets as they are.
    let gso = 4_u32.to_be_bytes();
    let payload = [attribute(4, &gso), attribute(5, &gso)].concat();
    send(socket.as_raw_fd(), &message(CONFIG, &payload), MsgFlags::empty())?;
    Ok(socket)
}

fn configure(socket: &OwnedFd, kind: u16, value: &[u8]) -> Result<()> {
    send(socket.as_raw_fd(), &message(CONFIG, &attribute(kind, value)), MsgFlags::empty())?;
    Ok(())
}

/// `nlmsghdr`, `nfgenmsg`, payload.
fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + payload.len()).expect("messages are short");
    let mut bytes = Vec::with_capacity(20 + payload.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([0, 0]);
    bytes.extend(QUEUE.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `nlattr`, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("attributes are short");
    let mut bytes = Vec::with_capacity(8 + value.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The ids of the packets that messages of the kernel announce.
fn packets(mut bytes: &[u8]) -> Vec<u32> {
    let number = |bytes: &[u8], at: usize| bytes.get(at..at + 4).map(|four| four.try_into().expect("four"));
    let short =
        |bytes: &[u8], at: usize| bytes.get(at..at + 2).map(|two| u16::from_ne_bytes(two.try_into().expect("two")));
    let mut ids = Vec::new();
    while let (Some(length), Some(kind)) = (number(bytes, 0).map(u32::from_ne_bytes), short(bytes, 4)) {
        let length = length as usize;
        let Some(whole) = bytes.get(..length).filter(|whole| whole.len() >= 20) else { break };
        let mut attributes = &whole[20..];
        while let (PACKET, Some(long), Some(attribute)) = (kind, short(attributes, 0), short(attributes, 2)) {
            // NFQA_PACKET_HDR begins with the packet's id.
            if attribute == 1
                && let Some(id) = number(attributes, 4)
            {
                ids.push(u32::from_be_bytes(id));
                break;
            }
            let Some(rest) = attributes.get(usize::from(long.max(4)).next_multiple_of(4)..) else { break };
            attributes = rest;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    ids
}

struct Queue {
    socket: OwnedFd,
    /// Packets by the time at which they are let go.
    waiting: VecDeque<(Instant, u32)>,
    mean: Duration,
}

impl Queue {
    fn serve(mut self, stop: &AtomicBool) {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            while self.waiting.front().is_some_and(|(due, _)| *due <= now) {
                self.let_go();
            }
            let pause = self.waiting.front().map_or(LOOK_PAUSE, |(due, _)| LOOK_PAUSE.min(*due - now));
            let micros = i64::try_from(pause.as_micros()).unwrap_or(0).max(1);
            if setsockopt(&self.socket, ReceiveTimeout, &TimeVal::new(0, micros)).is_err() {
                break;
            }
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => packets(&buffer[..length]).into_iter().for_each(|id| self.keep(id)),
                // Messages were lost, and their packets with them: a network that is slow may lose some.
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => {}
                Err(error) => {
                    tracing::warn!(%error, "the packet queue has ended");
                    break;
                }
            }
        }
        while !self.waiting.is_empty() {
            self.let_go();
        }
    }

    fn keep(&mut self, id: u32) {
        let due = Instant::now() + delay(self.mean, rand::random());
        let due = self.waiting.back().map_or(due, |(last, _)| due.max(*last));
        self.waiting.push_back((due, id));
    }

    fn let_go(&mut self) {
        if let Some((_, id)) = self.waiting.pop_front() {
            // NFQA_VERDICT_HDR: NF_ACCEPT, and which.
            let verdict = [1_u32.to_be_bytes(), id.to_be_bytes()].concat();
            let sent = send(self.socket.as_raw_fd(), &message(VERDICT, &attribute(2, &verdict)), MsgFlags::empty());
            if let Err(error) = sent {
                tracing::debug!(%error, id, "a packet was lost");
            }
        }
    }
}

/// Half of the mean, and an exponential rest of the same mean; `chance` in 0..1.
fn delay(mean: Duration, chance: f64) -> Duration {
    let factor = 0.5 - 0.5 * (1.0 - chance).max(f64::MIN_POSITIVE).ln();
    mean.mul_f64(factor.min(DELAY_MAX_FACTOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_have_their_mean_and_a_tail() {
        let mean = Duration::from_millis(100);
        let delays: Vec<Duration> = (0..10_000).map(|step| delay(mean, f64::from(step) / 10_000.0)).collect();
        let seen = delays.iter().sum::<Duration>() / 10_000;
        assert!(seen.abs_diff(mean) < Duration::from_millis(2), "{seen:?}");
        assert!(delays[0] >= mean / 2 && delays[9_999] > mean * 4 && delay(mean, 1.0) == mean * 8);
    }

    #[test]
    fn packets_are_known_by_their_ids() {
        let announce = |id: u32| {
            let header = [&id.to_be_bytes()[..], &[8, 0, 1]].concat();
            message(PACKET, &[attribute(9, &[1, 2, 3]), attribute(1, &header)].concat())
        };
        let mut both = announce(7);
        both.resize(both.len().next_multiple_of(4), 0);
        both.extend(announce(8));
        assert_eq!(packets(&both), [7, 8]);
        assert_eq!(packets(&message(CONFIG, &attribute(1, &[0; 8]))), Vec::<u32>::new());
        assert_eq!(packets(&announce(7)[..18]), Vec::<u32>::new());
    }
}
