//! A world for tests: etcd, certificates, API servers in this process, and a client.

use base64::Engine as _;
use bytes::Bytes;
use clap::Parser as _;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use xebec_pki::{ClientTls, ClusterAuthorities, MasterNames, TlsConnector};
use xebec_proto::etcdserverpb::RangeRequest;
use xebec_proto::etcdserverpb::kv_client::KvClient;

const ETCD: [&str; 2] = ["/usr/bin/etcd", "/usr/local/bin/etcd"];
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    flags: xebec_apiserver::Flags,
}

/// Everything a test needs; ends with it.
pub struct World {
    etcd: Child,
    directory: tempfile::TempDir,
    etcd_url: String,
    stop: CancellationToken,
}

impl World {
    /// `None` where etcd is not installed (`cargo xtask test` installs it).
    pub fn new() -> Option<Self> {
        let program = ETCD.into_iter().find(|path| Path::new(path).exists())?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let free = || {
            let listener = StdListener::bind("127.0.0.1:0").expect("a free port");
            format!("http://{}", listener.local_addr().expect("bound"))
        };
        let (url, peer) = (free(), free());
        let etcd = Command::new(program)
            .args(["--name", "test", "--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}"), "--unsafe-no-fsync", "--data-dir"])
            .arg(directory.path().join("etcd"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        let authorities = ClusterAuthorities::load_or_create(&directory.path().join("ca")).expect("authorities");
        let names = MasterNames {
            host: "localhost".into(),
            addresses: vec!["127.0.0.1".parse().expect("an address")],
            api_addresses: Vec::new(),
            cluster_domain: "cluster.local".into(),
        };
        let pki = directory.path().join("pki");
        authorities.write_master(&names, &pki).expect("certificates");
        let alice = authorities.issue_client("alice", None).expect("a certificate");
        alice.write(&pki, "alice").expect("written");
        Some(Self { etcd, directory, etcd_url: url, stop: CancellationToken::new() })
    }

    fn pki(&self, name: &str) -> PathBuf {
        self.directory.path().join("pki").join(name)
    }

    /// Starts an API server and waits until it is ready; its URL.
    pub async fn server(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("bound"));
        let path = |name: &str| self.pki(name).display().to_string();
        let cli = Cli::parse_from([
            "apiserver",
            "--bind-address=127.0.0.1",
            "--advertise-address=10.77.0.11",
            &format!("--etcd-servers={}", self.etcd_url),
            &format!("--tls-cert-file={}", path("apiserver.crt")),
            &format!("--tls-private-key-file={}", path("apiserver.key")),
            &format!("--client-ca-file={}", path("ca.crt")),
            &format!("--service-account-key-file={}", path("sa.pub")),
            &format!("--service-account-signing-key-file={}", path("sa.key")),
            "--shutdown-grace-seconds=0",
        ]);
        tokio::spawn(xebec_apiserver::run_on(cli.flags, listener, self.stop.clone()));
        let client = self.client(&url, None);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while client.get("/readyz").await.0 != StatusCode::OK {
            assert!(tokio::time::Instant::now() < deadline, "the API server did not become ready");
        }
        url
    }

    /// Node ports that the store holds claims on, read as upstream reads them: bit `i` of a big-endian number in
    /// `RangeAllocation.data` is port 30000 + `i`.
    pub async fn claimed_node_ports(&self) -> BTreeSet<String> {
        let channel = tonic::transport::Endpoint::from_shared(self.etcd_url.clone()).expect("a URL").connect_lazy();
        let key = Bytes::from_static(b"/registry/ranges/servicenodeports");
        let answer = KvClient::new(channel).range(RangeRequest { key, ..Default::default() }).await.expect("an answer");
        let kv = answer.into_inner().kvs.pop().expect("claims");
        let object = xebec_api::codec::decode_any(&kv.value).expect("a RangeAllocation");
        assert_eq!((&object["kind"], &object["range"]), (&"RangeAllocation".into(), &"30000-32767".into()));
        let data = base64::engine::general_purpose::STANDARD.decode(object["data"].as_str().expect("data"));
        let bytes = data.expect("base64");
        let bits = bytes
            .iter()
            .rev()
            .enumerate()
            .flat_map(|(byte, bits)| (0..8).map(move |bit| (byte * 8 + bit, bits >> bit & 1)));
        bits.filter(|(_, set)| *set == 1).map(|(offset, _)| (30_000 + offset).to_string()).collect()
    }

    /// A client with this certificate (`admin`, `alice`, `scheduler`), or none.
    pub fn client(&self, url: &str, certificate: Option<&str>) -> Api {
        let config = xebec_pki::client_config(&ClientTls {
            ca: self.pki("ca.crt"),
            cert: certificate.map(|name| self.pki(&format!("{name}.crt"))),
            key: certificate.map(|name| self.pki(&format!("{name}.key"))),
            alpn: vec![b"h2".to_vec()],
        });
        let connector = TlsConnector::new(config.expect("a configuration"));
        let http = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        Api { http, url: url.to_owned(), headers: HeaderMap::new() }
    }

    /// A client that creates namespaces' default accounts as the controllers would.
    pub async fn with_account(&self, api: &Api) {
        let account =
            serde_json::json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let (code, _) = api.post("/api/v1/namespaces/default/serviceaccounts", &account).await;
        assert_eq!(code, StatusCode::CREATED);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Err(error) = self.etcd.kill().and_then(|()| self.etcd.wait().map(drop)) {
            eprintln!("etcd: {error}");
        }
    }
}

/// A client of one API server.
#[derive(Clone)]
pub struct Api {
    http: Client<TlsConnector, Full<Bytes>>,
    url: String,
    headers: HeaderMap,
}

impl Api {
    /// The same client with one more header.
    pub fn with(&self, name: &'static str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.insert(name, value.parse().expect("a header"));
        other
    }

    /// Sends a request; the answer's head and body as they come.
    pub async fn send(&self, method: Method, path: &str, content_type: &str, body: Bytes) -> http::Response<Incoming> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.url).parse().expect("a URL");
        request.headers_mut().extend(self.headers.clone());
        if !content_type.is_empty() {
            request.headers_mut().insert("content-type", content_type.parse().expect("a type"));
        }
        let answer = tokio::time::timeout(PATIENCE, self.http.request(request)).await.expect("an answer in time");
        answer.expect("an answer")
    }

    /// Sends a request; the answer's code and body as JSON (a string where it is none).
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> (StatusCode, Value) {
        let answer = self.send(method, path, content_type, body.into()).await;
        let code = answer.status();
        let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, "", Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, "application/json", body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.call(Method::PUT, path, "application/json", body.to_string()).await
    }

    pub async fn merge(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.call(Method::PATCH, path, "application/merge-patch+json", body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::DELETE, path, "", Bytes::new()).await
    }

    /// Opens a stream of JSON lines.
    pub async fn lines(&self, method: Method, path: &str) -> Lines {
        let answer = self.send(method, path, "", Bytes::new()).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        Lines { body: answer.into_body(), buffer: Vec::new() }
    }
}

/// A stream of JSON lines.
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line; `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                return Some(serde_json::from_slice(&line).expect("JSON"));
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("a line in time")?;
            let Ok(frame) = frame else { return None };
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}
