//! A plain client of the Kubernetes API: JSON in, JSON out, and every outcome kept apart, because "refused" and "perhaps
//! done" are different things to a checker.

use std::{io, path::Path, pin::Pin, time::Duration};

use anyhow::{Context as _, Result};
use futures::{AsyncBufReadExt as _, Stream, StreamExt as _};
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;
use xebec_client::{ConnectOptions, Connection, fence::FENCE_HEADER};

/// A request without an answer for so long counts as unanswered.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The server did it and answered with this object.
    Done(Value),
    /// The server refused it with this code and Status, or was never reached: nothing happened.
    Refused(u16, Value),
    /// No answer, or an answer that leaves it open (a 5xx): it may have happened.
    Unknown(String),
}

/// The lines of a watch or a campaign.
pub type Lines = Pin<Box<dyn Stream<Item = io::Result<String>> + Send>>;

/// A client of one server, or of whatever its kubeconfig names. Cheap to clone.
#[derive(Clone)]
pub struct ApiClient {
    client: kube::Client,
}

impl ApiClient {
    /// A client with a kubeconfig's credentials, of `server` (`https://host:port`) or the one that the kubeconfig names. It
    /// has connections of its own.
    ///
    /// # Errors
    /// The kubeconfig is missing or malformed.
    pub async fn open(kubeconfig: &Path, server: Option<&str>) -> Result<Self> {
        let options = ConnectOptions {
            kubeconfig: Some(kubeconfig.to_owned()),
            servers: server.map(str::to_owned).into_iter().collect(),
            component: "chaos".to_owned(),
            head_timeout: Some(REQUEST_TIMEOUT),
            // A request that was given up takes its connection with it, so that none waits behind a master that is gone.
            http1_only: true,
            ..ConnectOptions::default()
        };
        let connection = Connection::open(options).await.context("cannot use the kubeconfig")?;
        Ok(Self { client: connection.client()? })
    }

    /// Reads a path.
    pub async fn get(&self, path: &str) -> Outcome {
        self.send(Method::GET, path, None, None).await
    }

    /// Creates an object in a collection, or posts to a subresource.
    pub async fn create(&self, path: &str, object: &Value) -> Outcome {
        self.send(Method::POST, path, Some(object), None).await
    }

    /// Replaces an object.
    pub async fn replace(&self, path: &str, object: &Value) -> Outcome {
        self.send(Method::PUT, path, Some(object), None).await
    }

    /// Changes an object by a merge patch.
    pub async fn patch(&self, path: &str, change: &Value) -> Outcome {
        self.send(Method::PATCH, path, Some(change), None).await
    }

    /// Changes an object by a merge patch, under a leadership's token.
    pub async fn patch_fenced(&self, path: &str, change: &Value, fence: &str) -> Outcome {
        self.send(Method::PATCH, path, Some(change), Some(fence)).await
    }

    /// Deletes an object or a collection.
    pub async fn delete(&self, path: &str) -> Outcome {
        self.send(Method::DELETE, path, None, None).await
    }

    /// Opens an answer that goes on: a watch (GET) or a campaign (POST).
    ///
    /// # Errors
    /// As the server answers, or there is no answer.
    pub async fn stream(&self, method: Method, path: &str) -> Result<Lines, kube::Error> {
        let request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
        let request = request.body(Vec::new()).map_err(kube::Error::HttpError)?;
        Ok(self.client.request_stream(request).await?.lines().boxed())
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>, fence: Option<&str>) -> Outcome {
        match tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(method, path, body, fence)).await {
            Err(_) => Outcome::Unknown(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs())),
            Ok(Err(error)) if never_sent(&error) => {
                Outcome::Refused(0, serde_json::json!({"message": error.to_string()}))
            }
            Ok(Err(error)) => Outcome::Unknown(format!("{error:#}")),
            Ok(Ok((code, value))) if (200..300).contains(&code) => Outcome::Done(value),
            Ok(Ok((code, value))) if code < 500 => Outcome::Refused(code, value),
            Ok(Ok((code, value))) => Outcome::Unknown(format!("{code}: {}", value["message"])),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        fence: Option<&str>,
    ) -> Result<(u16, Value)> {
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let patches = method == Method::PATCH;
        let content = if patches { "application/merge-patch+json" } else { "application/json" };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content)
            .header(header::ACCEPT, "application/json");
        if let Some(fence) = fence {
            request = request.header(FENCE_HEADER, fence);
        }
        let response = self.client.send(request.body(Body::from(bytes))?).await.context("no connection")?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.context("answer cut off")?.to_bytes();
        Ok((code, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }
}

/// Whether nobody listened: then nothing was sent.
fn never_sent(error: &anyhow::Error) -> bool {
    let refused = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    error.chain().any(refused)
}
