//! A plain client of the Kubernetes API: one connection pool, JSON in, JSON out, and every outcome kept apart, because
//! "refused" and "perhaps done" are different things to a checker.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use serde_json::Value;
use xebec_pki::{ClientTls, TlsConnector, client_config};

/// A request without an answer for so long counts as unanswered.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The server did it and answered with this object.
    Done(Value),
    /// The server refused it with this code and Status: nothing happened.
    Refused(u16, Value),
    /// No answer, or an answer that leaves it open (a 5xx): it may have happened.
    Unknown(String),
}

/// A client with the administrator's certificate.
#[derive(Clone)]
pub struct ApiClient {
    server: String,
    client: Client<TlsConnector, Full<Bytes>>,
}

impl ApiClient {
    /// A client of `server` (`https://host:port`) with the certificates of a master's directory.
    ///
    /// # Errors
    /// A certificate file is missing or malformed.
    pub fn new(server: &str, cert_dir: &Path) -> Result<Self> {
        let tls = client_config(&ClientTls {
            ca: cert_dir.join("ca.crt"),
            cert: Some(cert_dir.join("admin.crt")),
            key: Some(cert_dir.join("admin.key")),
            alpn: vec![b"http/1.1".to_vec()],
        })?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(TlsConnector::new(tls));
        Ok(Self { server: server.to_owned(), client })
    }

    /// Reads a path.
    pub async fn get(&self, path: &str) -> Outcome {
        self.send(Method::GET, path, None).await
    }

    /// Creates an object in a collection.
    pub async fn create(&self, path: &str, object: &Value) -> Outcome {
        self.send(Method::POST, path, Some(object)).await
    }

    /// Deletes an object or a collection.
    pub async fn delete(&self, path: &str) -> Outcome {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Outcome {
        match tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(method, path, body)).await {
            Err(_) => Outcome::Unknown(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs())),
            Ok(Err(error)) => Outcome::Unknown(format!("{error:#}")),
            Ok(Ok((code, value))) if (200..300).contains(&code) => Outcome::Done(value),
            Ok(Ok((code, value))) if code < 500 => Outcome::Refused(code, value),
            Ok(Ok((code, value))) => Outcome::Unknown(format!("{code}: {}", value["message"])),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(bytes)))?;
        let response = self.client.request(request).await.context("no connection")?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.context("answer cut off")?.to_bytes();
        Ok((code, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }
}
