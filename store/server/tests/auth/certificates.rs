//! Clients whose certificate says who they are.

use std::{path::Path, time::Duration};

use tonic::transport::{Channel, Endpoint};
use xebec_pki::{Authority, CertificateRequest, ClientTls, TlsConnector, Usage, client_config};

use crate::{
    identity::{Bearer, Client, denied, login, nobody, refusal, set_up},
    processes::{Cluster, free_ports},
};

fn issue(authority: &Authority, dir: &Path, name: &str, usage: Usage) {
    let request = CertificateRequest {
        common_name: name.into(),
        organization: None,
        dns_names: Vec::new(),
        addresses: vec!["127.0.0.1".parse().unwrap()],
        usages: vec![usage],
        validity: Duration::from_secs(3_600),
    };
    authority.issue(&request).unwrap().write(dir, name).unwrap();
}

fn channel(dir: &Path, port: u16, name: &str) -> Channel {
    let tls = ClientTls {
        ca: dir.join("ca.crt"),
        cert: Some(dir.join(format!("{name}.crt"))),
        key: Some(dir.join(format!("{name}.key"))),
        alpn: vec![b"h2".to_vec()],
    };
    let connector = TlsConnector::new(client_config(&tls).unwrap());
    Endpoint::from_shared(format!("https://127.0.0.1:{port}")).unwrap().connect_with_connector_lazy(connector)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_names_its_user_unless_a_token_does() {
    let dir = tempfile::TempDir::new().unwrap();
    let authority = Authority::create("test").unwrap();
    authority.write(dir.path()).unwrap();
    issue(&authority, dir.path(), "server", Usage::Server);
    for name in ["ann", "root", "stranger"] {
        issue(&authority, dir.path(), name, Usage::Client);
    }
    let port = free_ports(1)[0];
    let file = |flag: &str, name: &str| format!("--{flag}={}", dir.path().join(name).display());
    let flags = [
        "--bcrypt-cost=4".to_owned(),
        format!("--listen-client-urls=https://127.0.0.1:{port}"),
        "--client-cert-auth".to_owned(),
        file("trusted-ca-file", "ca.crt"),
        file("cert-file", "server.crt"),
        file("key-file", "server.key"),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let cluster = Cluster::with_flags(1, &flags);
    set_up(&cluster).await;
    let with = |name: &str, token: Option<&str>| Client {
        channel: channel(dir.path(), port, name),
        bearer: Bearer(token.map(str::to_owned)),
    };
    with("ann", None).put("a/1").await.unwrap();
    assert_eq!(refusal(with("ann", None).put("conf").await), denied());
    assert_eq!(refusal(with("stranger", None).get("a/1").await), denied());
    with("root", None).put("conf").await.unwrap();
    with("root", None).add_user("cert-only", true).await.unwrap();
    // A token says more than a certificate.
    let token = login(&cluster, 0, "ann").await.unwrap();
    assert_eq!(refusal(with("root", Some(&token)).put("conf").await), denied());
    // What comes through the JSON gateway comes with the gateway's certificate.
    let mut through = tonic::Request::new(crate::processes::get(b"a/1"));
    through.metadata_mut().insert("grpcgateway-accept", "*/*".parse().unwrap());
    assert_eq!(refusal(with("ann", None).kv().range(through).await), nobody());
    // Without TLS there is no certificate.
    assert_eq!(refusal(Client::new(&cluster, 0, None).get("a/1").await), nobody());
}
