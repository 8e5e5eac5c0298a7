//! A simulated network: calls between hosts as messages that take time, stall, break, overtake each other and come twice.
//!
//! A call is what gRPC makes of it, an HTTP request; a transport ([`Network::transport`]) takes it in place of a channel
//! and the addressed host's services answer it. Within one stream the order holds, as TCP keeps it; calls overtake each
//! other freely. What a cut holds up arrives when it heals, or breaks the connection after a while. Raft's single
//! calls may also come twice, and lose only their answer.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    convert::Infallible,
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Response, request, response};
use http_body::Frame;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use xebec_store_raft::{PeerTransport, TransportError};

use xebec_store_dice::Dice;

use crate::trace::Trace;

mod body;
mod delivery;
mod weather;

use body::{FramesBody, Guard, PieceBody};
pub use weather::Weather;

/// A host's number. Members come first, the clients' host is the last.
pub type HostId = usize;

/// A cut of this length breaks the connections over it: keep-alive probes notice.
const SILENCE_MICROS_MAX: u64 = 2_000_000;
/// Paths whose calls are streams.
const STREAMS: [&str; 4] = ["/Append", "/InstallSnapshot", "/Watch", "/LeaseKeepAlive"];
/// Calls that Raft must bear twice.
const REPEATABLE: [&str; 3] = ["Raft/Vote", "Raft/PreVote", "Raft/Heartbeat"];

/// Which of a host's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// For members.
    Peer,
    /// For clients.
    Client,
}

/// A host that is up: where its work runs, and what it serves.
#[derive(Clone)]
pub struct Host {
    /// Its runtime.
    pub runtime: Handle,
    /// The peer port.
    pub peer: axum::Router,
    /// The client port.
    pub client: axum::Router,
}

enum Piece {
    Frame(Frame<Bytes>),
    End,
}

enum Payload {
    Open { parts: Box<request::Parts>, whole: Option<Bytes> },
    RequestPiece(Piece),
    Refused,
    Head { parts: Box<response::Parts>, whole: Option<Vec<Frame<Bytes>>> },
    ResponsePiece(Piece),
}

struct Message {
    from: HostId,
    to: HostId,
    call: u64,
    payload: Payload,
}

type Reply = oneshot::Sender<Result<Response<Body>, TransportError>>;

/// One call under way.
struct Call {
    client: HostId,
    server: HostId,
    port: Port,
    path: String,
    is_stream: bool,
    /// When the last message of each direction arrives, so that the next does not overtake it.
    last_micros: [u64; 2],
    reply: Option<Reply>,
    request: Option<mpsc::UnboundedSender<Piece>>,
    request_rx: Option<mpsc::UnboundedReceiver<Piece>>,
    response: Option<mpsc::UnboundedSender<Piece>>,
    closed: CancellationToken,
    opened: bool,
    silent_since: Option<u64>,
    /// What a cut holds up, per direction, in order.
    held: [VecDeque<Message>; 2],
}

struct Inner {
    dice: Dice,
    now_micros: u64,
    weather: Weather,
    hosts: Vec<Option<Host>>,
    /// How often each host came up.
    boots: Vec<u64>,
    /// `cut[from][to]`.
    cut: Vec<Vec<bool>>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    messages: BTreeMap<u64, Message>,
    next_message: u64,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    trace: Trace,
    delivered: u64,
}

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct Network(Arc<Mutex<Inner>>);

impl Network {
    /// A network of so many hosts, all down.
    #[must_use]
    pub fn new(hosts: usize, dice: Dice, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            dice,
            now_micros: 0,
            weather: Weather::FAIR,
            hosts: vec![None; hosts],
            boots: vec![0; hosts],
            cut: vec![vec![false; hosts]; hosts],
            queue: BinaryHeap::new(),
            messages: BTreeMap::new(),
            next_message: 0,
            calls: BTreeMap::new(),
            next_call: 0,
            trace,
            delivered: 0,
        })))
    }

    /// The simulated time, in milliseconds.
    #[must_use]
    pub fn now_millis(&self) -> u64 {
        self.0.lock().now_micros / 1_000
    }

    /// Messages delivered so far.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.0.lock().delivered
    }

    /// Another behaviour from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.0.lock().weather = weather;
    }

    /// Cuts or heals the way from one host to another; the way back is another one.
    pub fn set_cut(&self, from: HostId, to: HostId, cut: bool) {
        self.0.lock().cut[from][to] = cut;
    }

    /// Heals everything.
    pub fn heal(&self) {
        self.0.lock().cut.iter_mut().flatten().for_each(|cut| *cut = false);
    }

    /// A host is up.
    pub fn up(&self, id: HostId, host: Host) {
        let mut inner = self.0.lock();
        inner.hosts[id] = Some(host);
        inner.boots[id] += 1;
    }

    /// Whether a host is up.
    #[must_use]
    pub fn is_up(&self, id: HostId) -> bool {
        self.0.lock().hosts[id].is_some()
    }

    /// How often a host came up.
    #[must_use]
    pub fn boot(&self, id: HostId) -> u64 {
        self.0.lock().boots[id]
    }

    /// A host is down. With `silently` its connections are noticed by their silence only, otherwise they are reset.
    pub fn down(&self, id: HostId, silently: bool) {
        let mut closed = Vec::new();
        {
            let mut inner = self.0.lock();
            inner.hosts[id] = None;
            let now = inner.now_micros;
            let touched: Vec<u64> = inner
                .calls
                .iter()
                .filter(|(_, call)| call.client == id || call.server == id)
                .map(|(id, _)| *id)
                .collect();
            for call in touched {
                if silently && inner.calls.get(&call).is_some_and(|known| known.client != id) {
                    if let Some(known) = inner.calls.get_mut(&call) {
                        known.silent_since = known.silent_since.or(Some(now));
                        known.request = None;
                        known.request_rx = None;
                        known.opened = true;
                    }
                } else {
                    closed.extend(inner.forget(call));
                }
            }
        }
        // Outside the lock: whoever waits may call back.
        drop(closed);
    }

    /// What carries calls from one host to a port of another.
    #[must_use]
    pub fn transport(&self, from: HostId, to: HostId, port: Port) -> PeerTransport {
        let network = self.clone();
        BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
            let network = network.clone();
            async move { network.call(from, to, port, request).await }
        }))
    }

    async fn call(
        self,
        client: HostId,
        server: HostId,
        port: Port,
        request: Request<Body>,
    ) -> Result<Response<Body>, TransportError> {
        let (parts, mut body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let is_stream = STREAMS.iter().any(|name| path.ends_with(name));
        let whole = if is_stream {
            None
        } else {
            let collected = (&mut body).collect().await.map_err(|status| TransportError(status.into()))?;
            Some(collected.to_bytes())
        };
        let (reply, answer) = oneshot::channel();
        let (id, closed) = self.open(client, server, port, path, reply, is_stream);
        let guard = Guard { network: self.clone(), call: id };
        self.send(id, client, server, Payload::Open { parts: Box::new(parts), whole });
        if is_stream {
            let network = self.clone();
            tokio::spawn(async move {
                let pump = network.pump(id, client, server, body, Payload::RequestPiece);
                tokio::select! {
                    biased;
                    () = closed.cancelled() => {}
                    () = pump => {}
                }
            });
        }
        let answered = answer.await.unwrap_or_else(|_| Err(broken()));
        if answered.is_ok() && is_stream {
            // The stream goes on; its body closes the call.
            std::mem::forget(guard);
        }
        answered
    }

    fn open(
        &self,
        client: HostId,
        server: HostId,
        port: Port,
        path: String,
        reply: Reply,
        is_stream: bool,
    ) -> (u64, CancellationToken) {
        let mut inner = self.0.lock();
        let id = inner.next_call;
        inner.next_call += 1;
        let (request, request_rx) = mpsc::unbounded_channel();
        let closed = CancellationToken::new();
        let call = Call {
            client,
            server,
            port,
            path,
            is_stream,
            last_micros: [0; 2],
            reply: Some(reply),
            request: Some(request),
            request_rx: Some(request_rx),
            response: None,
            closed: closed.clone(),
            opened: false,
            silent_since: None,
            held: Default::default(),
        };
        inner.calls.insert(id, call);
        (id, closed)
    }

    /// Sends a body's frames as they come.
    async fn pump<B>(&self, call: u64, from: HostId, to: HostId, mut body: B, payload: impl Fn(Piece) -> Payload)
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                self.close(call);
                return;
            };
            self.send(call, from, to, payload(Piece::Frame(frame)));
        }
        self.send(call, from, to, payload(Piece::End));
    }

    fn send(&self, call: u64, from: HostId, to: HostId, payload: Payload) {
        self.0.lock().send(call, from, to, payload);
    }

    fn close(&self, call: u64) {
        let closed = self.0.lock().forget(call);
        drop(closed);
    }

    /// Delivers what is due at `now_micros`.
    pub fn advance(&self, now_micros: u64) {
        let freed: Vec<Message> = {
            let mut inner = self.0.lock();
            inner.now_micros = now_micros;
            let Inner { cut, calls, .. } = &mut *inner;
            let held = calls.values_mut().flat_map(|call| call.held.iter_mut());
            let freed = held.filter(|held| held.front().is_some_and(|message| !cut[message.from][message.to]));
            freed.flat_map(std::mem::take).collect()
        };
        freed.into_iter().for_each(|message| self.arrive(message));
        loop {
            let message = {
                let mut inner = self.0.lock();
                match inner.queue.peek() {
                    Some(Reverse((at, _))) if *at <= now_micros => {}
                    _ => break,
                }
                let Some(Reverse((_, number))) = inner.queue.pop() else { break };
                inner.messages.remove(&number)
            };
            if let Some(message) = message {
                self.deliver(message);
            }
        }
        let silent: Vec<_> = {
            let mut inner = self.0.lock();
            let cut = inner.cut.clone();
            for call in inner.calls.values_mut() {
                if cut[call.client][call.server] || cut[call.server][call.client] {
                    call.silent_since = call.silent_since.or(Some(now_micros));
                } else if call.request.is_some() {
                    call.silent_since = None;
                }
            }
            let silent = inner
                .calls
                .iter()
                .filter(|(_, call)| call.silent_since.is_some_and(|since| now_micros - since > SILENCE_MICROS_MAX));
            let silent: Vec<u64> = silent.map(|(id, _)| *id).collect();
            silent.into_iter().filter_map(|id| inner.forget(id)).collect()
        };
        drop(silent);
    }

    fn deliver(&self, message: Message) {
        let Message { from, to, call: id, payload } = message;
        let mut inner = self.0.lock();
        let is_cut = inner.cut[from][to];
        let Some(call) = inner.calls.get_mut(&id) else { return };
        let held = &mut call.held[usize::from(from == call.client)];
        if is_cut || !held.is_empty() {
            // TCP tries again, and keeps the order.
            held.push_back(Message { from, to, call: id, payload });
            return;
        }
        drop(inner);
        self.arrive(Message { from, to, call: id, payload });
    }

    fn arrive(&self, message: Message) {
        let Message { from, to, call: id, payload } = message;
        let mut inner = self.0.lock();
        inner.delivered += 1;
        inner.trace_delivery(from, to, id, &payload);
        let host = inner.hosts[to].clone();
        let Some(call) = inner.calls.get_mut(&id) else { return };
        match payload {
            Payload::Open { parts, whole } => {
                if call.opened {
                    // Meant for an earlier life of this host.
                    return;
                }
                let requests = call.request_rx.take();
                call.opened = true;
                let Some(host) = host else {
                    inner.send(id, to, from, Payload::Refused);
                    return;
                };
                let router = if call.port == Port::Peer { host.peer } else { host.client };
                let closed = call.closed.clone();
                drop(inner);
                let body = match whole {
                    Some(bytes) => Body::new(http_body_util::Full::new(bytes)),
                    None => match requests {
                        Some(pieces) => Body::new(PieceBody { pieces, ended: false, guard: None }),
                        None => return,
                    },
                };
                let request = Request::from_parts(*parts, body);
                let network = self.clone();
                host.runtime.spawn(async move {
                    tokio::select! {
                        biased;
                        () = closed.cancelled() => {}
                        () = network.serve(id, from, to, router, request) => {}
                    }
                });
            }
            Payload::RequestPiece(piece) => {
                let sent = call.request.as_ref().is_some_and(|request| request.send(piece).is_ok());
                if !sent {
                    tracing::trace!(call = id, "nobody reads the request any more");
                }
            }
            Payload::Refused => {
                let reply = call.reply.take();
                let closed = inner.forget(id);
                drop(inner);
                if let Some(reply) = reply {
                    let refused = tonic::ConnectError("connection refused (simulated)".into());
                    if reply.send(Err(TransportError(Box::new(refused)))).is_err() {
                        tracing::trace!("the caller is gone");
                    }
                }
                drop(closed);
            }
            Payload::Head { parts, whole } => {
                let reply = call.reply.take();
                let (body, closed) = match whole {
                    Some(frames) => {
                        let closed = inner.forget(id);
                        (Body::new(FramesBody(frames.into())), closed)
                    }
                    None => {
                        let (response, pieces) = mpsc::unbounded_channel();
                        call.response = Some(response);
                        let guard = Some(Guard { network: self.clone(), call: id });
                        (Body::new(PieceBody { pieces, ended: false, guard }), None)
                    }
                };
                drop(inner);
                if let Some(reply) = reply
                    && reply.send(Ok(Response::from_parts(*parts, body))).is_err()
                {
                    tracing::trace!("the caller is gone");
                }
                drop(closed);
            }
            Payload::ResponsePiece(piece) => {
                let ended = matches!(piece, Piece::End);
                let sent = call.response.as_ref().is_some_and(|response| response.send(piece).is_ok());
                let closed = if ended || !sent { inner.forget(id) } else { None };
                drop(inner);
                drop(closed);
            }
        }
    }

    /// On the server's runtime: answers a call and sends the answer back.
    async fn serve(&self, call: u64, client: HostId, server: HostId, router: axum::Router, request: Request<Body>) {
        let Ok(response) = infallible(tower::ServiceExt::oneshot(router, request).await);
        let (parts, mut body) = response.into_parts();
        let is_stream = self.0.lock().calls.get(&call).is_none_or(|call| call.is_stream);
        if is_stream {
            self.send(call, server, client, Payload::Head { parts: Box::new(parts), whole: None });
            self.pump(call, server, client, body, Payload::ResponsePiece).await;
        } else {
            let mut frames = Vec::new();
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => frames.push(frame),
                    Err(_) => return self.close(call),
                }
            }
            self.send(call, server, client, Payload::Head { parts: Box::new(parts), whole: Some(frames) });
        }
    }
}

fn infallible<T>(result: Result<T, Infallible>) -> Result<T, Infallible> {
    result
}

fn broken() -> TransportError {
    TransportError("connection reset (simulated)".into())
}

impl Inner {
    fn enqueue(&mut self, at: u64, message: Message) {
        let number = self.next_message;
        self.next_message += 1;
        self.queue.push(Reverse((at, number)));
        self.messages.insert(number, message);
    }

    fn send(&mut self, id: u64, from: HostId, to: HostId, payload: Payload) {
        let weather = self.weather;
        let Some(call) = self.calls.get(&id) else { return };
        let direction = usize::from(from == call.client);
        if self.dice.per_million(weather.broken_per_million) {
            drop(self.forget(id));
            return;
        }
        let mut at = self.now_micros + self.dice.within(weather.latency_micros_min, weather.latency_micros_max);
        if self.dice.per_million(weather.lost_per_million) {
            at += self.dice.within(200_000, 1_000_000);
        }
        if let Payload::Open { parts, whole: Some(whole) } = &payload
            && REPEATABLE.iter().any(|name| parts.uri.path().ends_with(name))
            && self.dice.per_million(weather.doubled_per_million)
        {
            let mut copy = Request::new(());
            *copy.method_mut() = parts.method.clone();
            *copy.uri_mut() = parts.uri.clone();
            *copy.version_mut() = parts.version;
            *copy.headers_mut() = parts.headers.clone();
            let (parts, ()) = copy.into_parts();
            let payload = Payload::Open { parts: Box::new(parts), whole: Some(whole.clone()) };
            let later = at + self.dice.within(0, 300_000);
            let double = self.double(id);
            self.enqueue(later, Message { from, to, call: double, payload });
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        at = at.max(call.last_micros[direction]);
        call.last_micros[direction] = at;
        self.enqueue(at, Message { from, to, call: id, payload });
    }

    /// The same call again, whose answer nobody waits for.
    fn double(&mut self, id: u64) -> u64 {
        let double = self.next_call;
        self.next_call += 1;
        if let Some(call) = self.calls.get(&id) {
            let double_call = Call {
                path: call.path.clone(),
                reply: None,
                request: None,
                request_rx: None,
                response: None,
                closed: CancellationToken::new(),
                opened: false,
                silent_since: None,
                held: Default::default(),
                ..*call
            };
            self.calls.insert(double, double_call);
        }
        double
    }

    /// Ends a call; whoever still waits for something of it learns that it broke when the answer is dropped.
    fn forget(&mut self, id: u64) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        call.closed.cancel();
        Some(call)
    }
}
