//! Certificates of ours in real TLS handshakes.
#![allow(clippy::unwrap_used, reason = "a test: clippy exempts only functions marked as such")]

use std::{fs, net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use xebec_pki::{
    Authority, CertificateRequest, ClientTls, ClusterAuthorities, Identity, KeyAndRequest, MasterNames, ServerTls,
    SignOptions, Usage, client_config, server_config, spki_sha256,
};

fn names() -> MasterNames {
    MasterNames {
        host: "m1".into(),
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        api_addresses: vec![Ipv4Addr::new(10, 96, 0, 1).into()],
        cluster_domain: "cluster.local".into(),
    }
}

fn server_tls(dir: &Path) -> ServerTls {
    ServerTls {
        cert: dir.join("apiserver.crt"),
        key: dir.join("apiserver.key"),
        client_ca: Some(dir.join("ca.crt")),
        require_client_cert: true,
        alpn: vec![],
    }
}

/// Shakes hands once; what the server learned of the client, or why it failed.
async fn shake_hands(server: ServerTls, client: ClientTls) -> Result<Identity, String> {
    let acceptor = tokio_rustls::TlsAcceptor::from(server_config(&server).unwrap());
    let connector = tokio_rustls::TlsConnector::from(client_config(&client).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dial = tokio::spawn(async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = connector.connect("127.0.0.1".try_into().unwrap(), stream).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;
        std::io::Result::Ok(())
    });
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = acceptor.accept(stream).await.map_err(|e| e.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.map_err(|e| e.to_string())?;
    assert_eq!(text, "hello");
    dial.await.unwrap().map_err(|e| e.to_string())?;
    let certificates = stream.get_ref().1.peer_certificates().expect("a client certificate was required").to_vec();
    Ok(Identity::from_der(&certificates[0]).unwrap())
}

#[tokio::test]
async fn a_masters_certificates_authenticate_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let authorities = ClusterAuthorities::load_or_create(&dir.path().join("pki")).unwrap();
    let certs = dir.path().join("m1");
    authorities.write_master(&names(), &certs).unwrap();
    let client = ClientTls {
        ca: certs.join("ca.crt"),
        cert: Some(certs.join("admin.crt")),
        key: Some(certs.join("admin.key")),
        alpn: vec![],
    };
    let identity = shake_hands(server_tls(&certs), client.clone()).await.unwrap();
    assert_eq!(identity.common_name, "kubernetes-admin");
    assert_eq!(identity.organizations, ["system:masters"]);

    let anonymous = ClientTls { cert: None, key: None, ..client };
    shake_hands(server_tls(&certs), anonymous).await.expect_err("no certificate, no entry");
}

#[tokio::test]
async fn a_stranger_authority_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("ours");
    let theirs = dir.path().join("theirs");
    for (name, certs) in [("pki1", &ours), ("pki2", &theirs)] {
        ClusterAuthorities::load_or_create(&dir.path().join(name)).unwrap().write_master(&names(), certs).unwrap();
    }
    let stranger = ClientTls {
        ca: ours.join("ca.crt"),
        cert: Some(theirs.join("admin.crt")),
        key: Some(theirs.join("admin.key")),
        alpn: vec![],
    };
    shake_hands(server_tls(&ours), stranger).await.expect_err("a client of another cluster");
}

#[tokio::test]
async fn authorities_and_certificates_survive_a_second_start_and_keys_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let certs = dir.path().join("m1");
    ClusterAuthorities::load_or_create(&pki).unwrap().write_master(&names(), &certs).unwrap();
    let first = fs::read_to_string(certs.join("apiserver.crt")).unwrap();
    let again = ClusterAuthorities::load_or_create(&pki).unwrap();
    again.write_master(&names(), &certs).unwrap();
    assert_eq!(fs::read_to_string(certs.join("apiserver.crt")).unwrap(), first);
    for key in ["ca.key", "sa.key", "apiserver.key", "etcd/ca.key", "etcd/peer.key"] {
        let mode = fs::metadata(certs.join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let ca = xebec_pki::read_certificates(&certs.join("ca.crt")).unwrap();
    let pin: String = spki_sha256(&ca[0]).unwrap().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(again.ca_hash().unwrap(), format!("sha256:{pin}"));
}

#[tokio::test]
async fn a_signed_request_keeps_its_subject_but_not_its_wishes() {
    let authority = Authority::create("ca").unwrap();
    let made = KeyAndRequest::generate("system:node:n1", Some("system:nodes"), &["n1".into()], &[]).unwrap();
    let options = SignOptions { usages: vec![Usage::Client], validity: Duration::from_secs(3600) };
    let pem = authority.sign_csr(&made.request_pem, &options).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.crt");
    fs::write(&path, pem).unwrap();
    let chain = xebec_pki::read_certificates(&path).unwrap();
    let identity = Identity::from_der(&chain[0]).unwrap();
    assert_eq!((identity.common_name.as_str(), identity.organizations.len()), ("system:node:n1", 1));
    authority.sign_csr("not a request", &options).expect_err("garbage is refused");
    let damaged = made.request_pem.replacen("MII", "MIJ", 1);
    authority.sign_csr(&damaged, &options).expect_err("damage is noticed");
}

#[test]
fn a_key_that_does_not_belong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create("ca").unwrap();
    let request = CertificateRequest {
        common_name: "x".into(),
        organization: None,
        dns_names: vec![],
        addresses: vec![],
        usages: vec![Usage::Server],
        validity: Duration::from_secs(60),
    };
    authority.issue(&request).unwrap().write(dir.path(), "a").unwrap();
    authority.issue(&request).unwrap().write(dir.path(), "b").unwrap();
    let mixed = ServerTls {
        cert: dir.path().join("a.crt"),
        key: dir.path().join("b.key"),
        client_ca: None,
        require_client_cert: false,
        alpn: vec![],
    };
    let error = server_config(&mixed).map(|c: Arc<_>| drop(c)).expect_err("keys do not match").to_string();
    assert!(error.contains("a.crt"), "{error}");
}
