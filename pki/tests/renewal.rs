//! Handshakes before and after files were replaced, with one configuration each side.
#![allow(clippy::unwrap_used, reason = "a test: clippy exempts only functions marked as such")]

use std::{fs, net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use xebec_pki::{
    Authority, CertificateRequest, ClientTls, ServerTls, TlsPolicy, Usage, client_config, server_config_with,
};

fn issue(authority: &Authority, dir: &Path, stem: &str, common_name: &str) {
    let request = CertificateRequest {
        common_name: common_name.into(),
        organization: None,
        dns_names: vec![format!("{common_name}.example")],
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        usages: vec![Usage::Server, Usage::Client],
        validity: Duration::from_secs(600),
    };
    authority.issue(&request).unwrap().write(dir, stem).unwrap();
    fs::write(dir.join("ca.crt"), authority.certificate_pem()).unwrap();
}

/// Both configurations, from the files of one directory.
fn both(dir: &Path, policy: &TlsPolicy) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let file = |name: &str| dir.join(name);
    let server = ServerTls {
        cert: file("server.crt"),
        key: file("server.key"),
        client_ca: Some(file("ca.crt")),
        require_client_cert: true,
        alpn: vec![],
    };
    let client =
        ClientTls { ca: file("ca.crt"), cert: Some(file("client.crt")), key: Some(file("client.key")), alpn: vec![] };
    (server_config_with(&server, policy).unwrap(), client_config(&client).unwrap())
}

/// Shakes hands over a pipe; the server's certificate as the client saw it, if both were content.
async fn shake((server, client): &(Arc<ServerConfig>, Arc<ClientConfig>)) -> Option<Vec<u8>> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let acceptor = tokio_rustls::TlsAcceptor::from(server.clone());
    let serving = tokio::spawn(async move {
        let mut stream = acceptor.accept(far).await.ok()?;
        stream.write_all(b"x").await.ok()
    });
    let connector = tokio_rustls::TlsConnector::from(client.clone());
    let mut stream = connector.connect("127.0.0.1".try_into().unwrap(), near).await.ok()?;
    // With TLS 1.3 a refusal of the client comes after its handshake.
    stream.read_u8().await.ok()?;
    serving.await.unwrap()?;
    Some(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

#[tokio::test]
async fn certificates_and_authorities_are_followed_on_both_sides_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Authority::create("one").unwrap(), Authority::create("two").unwrap());
    issue(&one, dir.path(), "server", "s");
    issue(&one, dir.path(), "client", "c");
    let configs = both(dir.path(), &TlsPolicy::default());
    let first = shake(&configs).await.expect("all is of one authority");
    assert_eq!(shake(&configs).await.unwrap(), first);
    issue(&one, dir.path(), "server", "s");
    let renewed = shake(&configs).await.expect("a renewed certificate");
    assert_ne!(renewed, first, "is shown at once");
    // Half replaced, the old pair goes on.
    fs::write(dir.path().join("server.crt"), "-----BEGIN").unwrap();
    assert_eq!(shake(&configs).await.unwrap(), renewed);
    issue(&two, dir.path(), "server", "s");
    assert!(shake(&configs).await.is_none(), "the client's certificate is still of the first authority");
    issue(&two, dir.path(), "client", "c");
    assert!(shake(&configs).await.is_some(), "all is of the second authority");
}

#[tokio::test]
async fn names_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create("ca").unwrap();
    issue(&authority, dir.path(), "server", "s");
    issue(&authority, dir.path(), "client", "member");
    let named = |names: &[&str], hosts: &[&str]| TlsPolicy {
        allowed_common_names: names.iter().map(|name| (*name).to_owned()).collect(),
        allowed_host_names: hosts.iter().map(|name| (*name).to_owned()).collect(),
        ..TlsPolicy::default()
    };
    for (names, hosts, expected) in [
        (&["other", "member"][..], &[][..], true),
        (&["other"], &[], false),
        (&[], &["member.example"], true),
        (&[], &["other.example"], false),
    ] {
        let configs = both(dir.path(), &named(names, hosts));
        assert_eq!(shake(&configs).await.is_some(), expected, "{names:?} {hosts:?}");
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_once_the_list_names_it() {
    use rcgen::{
        CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
        KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "ca");
    let ca = params.self_signed(&key).unwrap();
    fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for (stem, serial) in [("server", 7u64), ("client", 8)] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(dir.path().join(format!("{stem}.crt")), certificate.pem()).unwrap();
        fs::write(dir.path().join(format!("{stem}.key")), key.serialize_pem()).unwrap();
    }
    let list = |number: u64, serials: &[u64]| {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2036, 1, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        fs::write(dir.path().join("crl.pem"), params.signed_by(&issuer).unwrap().pem().unwrap()).unwrap();
    };
    list(1, &[99]);
    let policy = TlsPolicy { crl: Some(dir.path().join("crl.pem")), ..TlsPolicy::default() };
    let configs = both(dir.path(), &policy);
    assert!(shake(&configs).await.is_some(), "somebody else is revoked");
    list(2, &[99, 8]);
    assert!(shake(&configs).await.is_none(), "the list has the client now");
}
