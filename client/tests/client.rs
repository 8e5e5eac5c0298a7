//! The client against servers on the loopback.
#![allow(clippy::unwrap_used, reason = "clippy's exemption of tests leaves out what they share")]

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use xebec_client::{Campaign, ConnectOptions, Connection, balancer, failure, run_while_leading};

/// Bound on everything that is waited for.
const LIMIT: Duration = Duration::from_secs(20);

type Body = BoxBody<Bytes, Infallible>;

/// An API server of two endpoints: elections told by the test, and ConfigMaps, whose writes are recorded.
#[derive(Default)]
struct Fake {
    elections: Mutex<Vec<mpsc::UnboundedSender<&'static str>>>,
    /// The fence header of every write of a ConfigMap.
    writes: Mutex<Vec<Option<String>>>,
    opened: tokio::sync::Notify,
}

impl Fake {
    async fn start(self: Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let fake = self.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let fake = fake.clone();
                        async move { Ok::<_, Infallible>(fake.answer(request)) }
                    });
                    let served = hyper::server::conn::http1::Builder::new();
                    // Clients hang up as they like.
                    drop(served.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        address
    }

    fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        if path == "/xebec.io/v1/leaderships/test" {
            assert_eq!(request.uri().query(), Some("identity=me%2F1"));
            let (lines, stream) = mpsc::unbounded_channel();
            self.elections.lock().push(lines);
            self.opened.notify_one();
            let frames = UnboundedReceiverStream::new(stream).map(|line: &str| Ok(Frame::data(Bytes::from(line))));
            return Response::new(BodyExt::boxed(StreamBody::new(frames)));
        }
        if path.ends_with("/configmaps") {
            let fence = request.headers().get("x-xebec-fence").map(|value| value.to_str().unwrap().to_owned());
            self.writes.lock().push(fence);
            let object = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}}"#;
            return Response::new(Full::new(Bytes::from(object)).boxed());
        }
        let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}"#;
        let mut response = Response::new(Full::new(Bytes::from(status)).boxed());
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
    }

    /// The stream of the next campaign.
    async fn election(&self) -> mpsc::UnboundedSender<&'static str> {
        loop {
            if let Some(lines) = self.elections.lock().pop() {
                return lines;
            }
            timeout(LIMIT, self.opened.notified()).await.expect("a campaign");
        }
    }
}

async fn connection(address: SocketAddr) -> Connection {
    let servers = vec![format!("http://{address}")];
    Connection::open(ConnectOptions { servers, component: "test".into(), ..ConnectOptions::default() }).await.unwrap()
}

async fn write(client: kube::Client) -> Result<ConfigMap, kube::Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    maps.create(&PostParams::default(), &ConfigMap::default()).await
}

/// Runs one term; `end` ends it. The work writes once while it leads and once after it has lost.
async fn one_term(end: impl FnOnce(mpsc::UnboundedSender<&'static str>)) -> Arc<Fake> {
    let fake = Arc::new(Fake::default());
    let connection = connection(fake.clone().start().await).await;
    let stop = CancellationToken::new();
    let (told, mut tell) = mpsc::unbounded_channel();
    let campaign = Campaign { connection: connection.clone(), name: "test".into(), identity: "me/1".into() };
    let work = move |fence, cancel: CancellationToken| {
        let (client, told) = (connection.fenced(&fence).unwrap(), told.clone());
        async move {
            told.send(write(client.clone()).await.map(drop)).unwrap();
            cancel.cancelled().await;
            told.send(write(client).await.map(drop)).unwrap();
        }
    };
    let campaigning = tokio::spawn(run_while_leading(campaign, stop.clone(), work));
    let lines = fake.election().await;
    lines.send("{\"state\":\"campaigning\"}\n").unwrap();
    lines.send("{\"state\":\"leading\",\"fence\":\"key@7\"}\n").unwrap();
    timeout(LIMIT, tell.recv()).await.unwrap().unwrap().expect("a leader may write");
    end(lines);
    let refused = timeout(LIMIT, tell.recv()).await.unwrap().unwrap().unwrap_err();
    assert!(failure::is_leadership_lost(&refused), "{refused}");
    // It campaigns again, by a new stream.
    let _again = fake.election().await;
    stop.cancel();
    timeout(LIMIT, campaigning).await.unwrap().unwrap();
    fake
}

#[tokio::test]
async fn a_leader_writes_under_its_fence_and_not_at_all_once_deposed() {
    let fake = one_term(|lines| lines.send("{\"state\":\"lost\"}\n").unwrap()).await;
    assert_eq!(*fake.writes.lock(), [Some("key@7".to_owned())], "the second write never left");
}

#[tokio::test]
async fn a_leader_that_hears_nothing_counts_as_deposed() {
    let keep = Arc::new(Mutex::new(None));
    let kept = keep.clone();
    // The stream stays open and silent.
    let fake = one_term(move |lines| *kept.lock() = Some(lines)).await;
    assert_eq!(fake.writes.lock().len(), 1);
}

/// Answers each connection: echoes what it reads until the client's end, then says goodbye.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.write_all(b"bye").await.unwrap();
                write.shutdown().await.unwrap();
            });
        }
    });
    address
}

async fn balance(backends: Vec<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(balancer::serve(listener, backends, CancellationToken::new()));
    address
}

async fn converse(address: SocketAddr, words: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(words).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut heard)).await.unwrap().unwrap();
    heard
}

#[tokio::test]
async fn the_balancer_passes_over_dead_backends_and_passes_half_closes_on() {
    // A port that was free a moment ago refuses.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let balancer = balance(vec![dead, echo().await]).await;
    for _ in 0..4 {
        assert_eq!(converse(balancer, b"hello ").await, b"hello bye");
    }
}

#[tokio::test]
async fn a_stopped_backend_costs_a_tls_client_nothing_but_time() {
    // It accepts, as the kernel does for a stopped process, and never answers.
    let stopped = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let balancer = balance(vec![stopped.local_addr().unwrap(), echo().await]).await;
    // The first byte says: TLS handshake.
    assert_eq!(converse(balancer, b"\x16hello").await, b"\x16hellobye");
    assert_eq!(converse(balancer, b"\x16again").await, b"\x16againbye");
}

#[tokio::test]
async fn a_client_goes_on_to_the_next_server() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let fake = Arc::new(Fake::default());
    let alive = fake.clone().start().await;
    let servers = vec![format!("http://{dead}"), format!("http://{alive}")];
    let options = ConnectOptions { servers, component: "test".into(), ..ConnectOptions::default() };
    let client = Connection::open(options).await.unwrap().client().unwrap();
    write(client).await.unwrap();
    assert_eq!(*fake.writes.lock(), [None], "no fence outside a leadership");
}
