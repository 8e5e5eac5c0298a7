//! Unary gRPC calls over a shared HTTP/2 connection, at little cost.
//!
//! The load generator runs on the cores it measures, so what it spends is missing from both sides and levels their
//! ratio. The general gRPC client passes a request through a queue, a reconnecting service and a dispatcher; this one
//! writes the frames itself, with the same HTTP/2 library.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{
    RecvStream,
    client::{Builder, SendRequest},
};
use http::{HeaderMap, Request, Uri, header};
use prost::Message;
use tokio::net::TcpStream;
use tonic::{Code, Status};

/// Bytes of answers under way for one request, and for one connection: enough for a list, so that neither side waits for
/// the other's leave to send.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// What precedes a message: whether it is compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

/// A method, as its request's path.
#[derive(Clone, Copy, Debug)]
pub enum Method {
    Put,
    Range,
    Txn,
}

impl Method {
    const ALL: [Method; 3] = [Method::Put, Method::Range, Method::Txn];

    fn path(self) -> &'static str {
        match self {
            Method::Put => "/etcdserverpb.KV/Put",
            Method::Range => "/etcdserverpb.KV/Range",
            Method::Txn => "/etcdserverpb.KV/Txn",
        }
    }
}

/// A share of a connection to one member. It connects when it is first needed, and again after it was lost.
#[derive(Clone)]
pub struct Line {
    place: Arc<Place>,
    sender: Option<SendRequest<Bytes>>,
}

struct Place {
    port: u16,
    uris: [Uri; Method::ALL.len()],
    /// The connection that is shared; none before the first call, and after it was lost.
    current: Mutex<Option<SendRequest<Bytes>>>,
}

impl Line {
    /// A connection to that port of the loopback address, not made yet.
    ///
    /// # Errors
    /// Never: every port makes an address.
    pub fn new(port: u16) -> Result<Self> {
        let uri = |method: Method| format!("http://127.0.0.1:{port}{}", method.path()).parse::<Uri>();
        let [put, range, txn] = Method::ALL.map(uri);
        let place = Place { port, uris: [put?, range?, txn?], current: Mutex::new(None) };
        Ok(Self { place: Arc::new(place), sender: None })
    }

    /// Calls a method and awaits its answer.
    ///
    /// # Errors
    /// What the server answers, or [`Code::Unavailable`] if the connection is lost or cannot be made.
    pub async fn call<Q: Message, A: Message + Default>(&mut self, method: Method, request: &Q) -> Result<A, Status> {
        let result = self.try_call(method, request).await;
        if result.is_err() {
            // It may be the connection; the next call makes another.
            self.sender = None;
            self.place.replace(None);
        }
        match result {
            Ok(answer) => answer,
            Err(lost) => Err(Status::unavailable(lost.to_string())),
        }
    }

    /// The outer error is the connection's, the inner one the server's.
    async fn try_call<Q: Message, A: Message + Default>(
        &mut self,
        method: Method,
        request: &Q,
    ) -> Result<Result<A, Status>> {
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => self.place.sender().await?,
        };
        poll_fn(|cx| sender.poll_ready(cx)).await?;
        let mut head = Request::post(self.place.uris[method as usize].clone());
        if let Some(headers) = head.headers_mut() {
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
            headers.insert(header::TE, header::HeaderValue::from_static("trailers"));
        }
        let (response, mut body) = sender.send_request(head.body(())?, false)?;
        self.sender = Some(sender);
        body.send_data(framed(request), true)?;
        let (head, body) = response.await?.into_parts();
        // An error without a message has its status where the headers are.
        if let Some(status) = failure(&head.headers) {
            return Ok(Err(status));
        }
        answer(body).await
    }
}

impl Place {
    fn replace(&self, sender: Option<SendRequest<Bytes>>) -> Option<SendRequest<Bytes>> {
        std::mem::replace(&mut *self.current.lock().unwrap_or_else(PoisonError::into_inner), sender)
    }

    async fn sender(&self) -> Result<SendRequest<Bytes>> {
        let shared = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sender) = shared {
            return Ok(sender);
        }
        let socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(socket)
            .await?;
        // Whoever waits for an answer on it hears of its end.
        tokio::spawn(connection);
        self.replace(Some(sender.clone()));
        Ok(sender)
    }
}

fn framed<Q: Message>(request: &Q) -> Bytes {
    let length = request.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(length as u32);
    // The buffer has room for all of it.
    request.encode_raw(&mut frame);
    frame.freeze()
}

async fn answer<A: Message + Default>(mut body: RecvStream) -> Result<Result<A, Status>> {
    let mut received = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        received.extend_from_slice(&part);
    }
    if let Some(status) = body.trailers().await?.as_ref().and_then(failure) {
        return Ok(Err(status));
    }
    if received.len() < PREFIX_BYTES || received[0] != 0 {
        return Ok(Err(Status::data_loss("an answer without a message, or a compressed one")));
    }
    received.advance(PREFIX_BYTES);
    Ok(A::decode(received.freeze()).map_err(|error| Status::data_loss(error.to_string())))
}

fn failure(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}
