//! TLS on both ports, and certificates that are renewed while members run.

use std::{fs, net::Ipv4Addr, path::Path, process::Child, time::Duration};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector as TlsDialer;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use xebec_pki::{Authority, CertificateRequest, ClientTls, TlsConnector, Usage, client_config};
use xebec_proto::etcdserverpb::kv_client::KvClient;
use xebec_store::{Flags, run};

use crate::processes::{free_ports, get, put, spawn, wait_for};

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

fn parse(flags: &[String]) -> Flags {
    <Cli as clap::Parser>::parse_from(std::iter::once("store".to_owned()).chain(flags.iter().cloned())).flags
}

fn issue(authority: &Authority, dir: &Path, stem: &str, common_name: &str) {
    let request = CertificateRequest {
        common_name: common_name.into(),
        organization: None,
        dns_names: vec!["localhost".into()],
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        usages: vec![Usage::Server, Usage::Client],
        validity: Duration::from_secs(3_600),
    };
    authority.issue(&request).unwrap().write(dir, stem).unwrap();
}

/// Three members with TLS on both ports, which share their files.
struct Members {
    dir: tempfile::TempDir,
    ports: Vec<u16>,
    running: Vec<Option<Child>>,
}

const SIZE: usize = 3;

impl Members {
    fn new(authority: &Authority) -> Self {
        let mut members = Self {
            dir: tempfile::tempdir().unwrap(),
            ports: free_ports(SIZE * 2),
            running: (0..SIZE).map(|_| None).collect(),
        };
        members.renew(authority);
        (0..SIZE).for_each(|number| members.start(number));
        members
    }

    /// Replaces every file.
    fn renew(&self, authority: &Authority) {
        fs::write(self.dir.path().join("ca.crt"), authority.certificate_pem()).unwrap();
        for (stem, name) in [("server", "store"), ("peer", "peer"), ("client", "me")] {
            issue(authority, self.dir.path(), stem, name);
        }
    }

    fn client_port(&self, number: usize) -> u16 {
        self.ports[number]
    }

    fn start(&mut self, number: usize) {
        let peer = |number: usize| format!("https://127.0.0.1:{}", self.ports[SIZE + number]);
        let initial: Vec<String> = (0..SIZE).map(|number| format!("m{number}={}", peer(number))).collect();
        let client = format!("https://127.0.0.1:{}", self.client_port(number));
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let flags = [
            format!("--name=m{number}"),
            format!("--data-dir={}", file(&format!("m{number}"))),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={}", peer(number)),
            format!("--initial-advertise-peer-urls={}", peer(number)),
            format!("--initial-cluster={}", initial.join(",")),
            format!("--cert-file={}", file("server.crt")),
            format!("--key-file={}", file("server.key")),
            format!("--trusted-ca-file={}", file("ca.crt")),
            "--client-cert-auth".to_owned(),
            format!("--peer-cert-file={}", file("peer.crt")),
            format!("--peer-key-file={}", file("peer.key")),
            format!("--peer-trusted-ca-file={}", file("ca.crt")),
            "--peer-client-cert-auth".to_owned(),
            "--peer-cert-allowed-cn=peer".to_owned(),
        ];
        let log = self.dir.path().join(format!("m{number}.log"));
        self.running[number] = Some(spawn(&flags, &log));
    }

    fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.running[number].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn client_tls(&self) -> ClientTls {
        let file = |name: &str| self.dir.path().join(name);
        ClientTls {
            ca: file("ca.crt"),
            cert: Some(file("client.crt")),
            key: Some(file("client.key")),
            alpn: vec![b"h2".to_vec()],
        }
    }

    fn channel(&self, number: usize) -> Channel {
        let connector = TlsConnector::new(client_config(&self.client_tls()).unwrap());
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{}", self.client_port(number))).unwrap();
        endpoint.connect_with_connector_lazy(connector)
    }

    /// Whether a member takes a connection of a client that has these files, down to the first bytes of HTTP/2.
    async fn takes(&self, number: usize, tls: &ClientTls) -> bool {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let dialer = TlsDialer::from(client_config(tls).unwrap());
        let stream = TcpStream::connect(("127.0.0.1", self.client_port(number))).await.unwrap();
        let Ok(mut stream) = dialer.connect("127.0.0.1".try_into().unwrap(), stream).await else {
            return false;
        };
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        stream.write_all(hello).await.is_ok() && stream.read_u8().await.is_ok()
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for number in 0..SIZE {
            if std::thread::panicking() {
                let log = fs::read_to_string(self.dir.path().join(format!("m{number}.log"))).unwrap_or_default();
                eprintln!("--- member {number}\n{log}");
            }
            self.kill(number);
        }
    }
}

async fn ready(kv: &mut KvClient<Channel>) {
    let kv = &*kv;
    wait_for("a read", || async { kv.clone().range(get(b"nothing")).await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn renewed_certificates_and_authorities_count_without_a_restart() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let old = Authority::create("old").unwrap();
    let mut members = Members::new(&old);
    let mut spanning = KvClient::new(members.channel(0));
    ready(&mut spanning).await;
    spanning.put(put(b"key", b"old")).await.unwrap();
    // What a client of the old days has.
    let old_dir = tempfile::tempdir().unwrap();
    fs::write(old_dir.path().join("ca.crt"), old.certificate_pem()).unwrap();
    issue(&old, old_dir.path(), "client", "me");
    let old_client = ClientTls {
        ca: members.dir.path().join("ca.crt"),
        cert: Some(old_dir.path().join("client.crt")),
        key: Some(old_dir.path().join("client.key")),
        alpn: vec![b"h2".to_vec()],
    };
    assert!(members.takes(0, &old_client).await);
    // Everything is replaced, the authority too.
    let new = Authority::create("new").unwrap();
    members.renew(&new);
    // New connections: the server shows the new certificate, and believes the new authority only.
    assert!(members.takes(0, &members.client_tls()).await);
    assert!(!members.takes(0, &old_client).await, "the old authority's client is a stranger now");
    let mut fresh = KvClient::new(members.channel(1));
    ready(&mut fresh).await;
    // The connection that spans the renewal goes on.
    spanning.put(put(b"key", b"new")).await.unwrap();
    // Peers: a restarted member calls the others and is called by them, with the new certificates both ways.
    members.kill(2);
    let writer = &spanning;
    wait_for("a write", || async { writer.clone().put(put(b"key", b"newer")).await.ok() }).await;
    members.start(2);
    let mut restarted = KvClient::new(members.channel(2));
    ready(&mut restarted).await;
    let read = restarted.range(get(b"key")).await.unwrap().into_inner();
    assert_eq!(read.kvs[0].value, "newer");
    members.kill(1);
    // The majority is member 0, which never restarted, and member 2, which is all new. Whoever led may be gone.
    let writer = &restarted;
    wait_for("a write", || async { writer.clone().put(put(b"key", b"newest")).await.ok() }).await;
    assert_eq!(spanning.range(get(b"key")).await.unwrap().into_inner().kvs[0].value, "newest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_that_cannot_be_met_keep_the_member_from_starting() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    let refused = async |flags: &[&str]| {
        let mut flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push(format!("--data-dir={}", dir.path().join("data").display()));
        run(parse(&flags), CancellationToken::new()).await.unwrap_err().to_string()
    };
    let table: [(&[&str], &str); 5] = [
        (&["--enable-pprof"], "--enable-pprof=true is not supported: "),
        (&["--client-cert-auth"], "needs --trusted-ca-file"),
        (&["--cert-file=x"], "--cert-file and --key-file must be given together"),
        (&["--heartbeat-interval=100", "--election-timeout=400"], "at least as 5 times"),
        (&["--config-file=/does/not/exist"], "--config-file /does/not/exist: "),
    ];
    for (flags, reason) in table {
        let error = refused(flags).await;
        assert!(error.contains(reason), "{flags:?}: {error}");
    }
}
