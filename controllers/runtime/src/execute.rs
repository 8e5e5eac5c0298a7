use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use http::{Method, Request};
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Client;
use serde_json::{Value, json};
use xebec_client::{EventType, ObjectKey, Recorder, failure};
use xebec_controllers_core::{Action, DeleteOptions, Failure, Resource, Target, csr};
use xebec_pki::{Authority, SignOptions, Usage};

/// Writes of one key under way at once.
const WRITES_AT_ONCE_MAX: usize = 16;
/// Life of a ServiceAccount token in a Secret, seconds: such tokens are meant to last as long as the Secret.
const SECRET_TOKEN_SECONDS: i64 = 10 * 365 * 24 * 3600;

/// A write of this process that the caches must show before its key is looked at again.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) resource: Resource,
    pub(crate) key: ObjectKey,
    pub(crate) uid: Option<String>,
    /// The version the write made.
    pub(crate) version: Option<u64>,
    /// Whether it was a deletion.
    pub(crate) removed: bool,
}

/// Why actions were not carried out to the end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Somebody else was faster: look again.
    #[error("{action}: {source}")]
    Outdated { action: String, source: Box<kube::Error> },
    /// The owner no longer is what the cache says.
    #[error("{0} is gone or going")]
    OwnerGone(Box<Target>),
    /// The API server refused or could not be reached.
    #[error("{action}: {source}")]
    Request { action: String, failure: Option<Box<Failure>>, source: Box<kube::Error> },
    /// The authority could not sign.
    #[error("{action}: {source}")]
    Sign { action: String, source: xebec_pki::Error },
    /// The caches do not show our own writes yet.
    #[error("the caches are behind our own writes")]
    Behind,
    /// A request could not be built: a name that cannot stand in a URL.
    #[error("{action}: {source}")]
    Malformed { action: String, source: http::Error },
}

impl Error {
    /// Whether this happens in ordinary running.
    pub(crate) fn is_ordinary(&self) -> bool {
        matches!(self, Self::Outdated { .. } | Self::OwnerGone(_) | Self::Behind)
    }
}

/// Carries actions out through the API, under the fence of one leadership.
#[derive(Clone)]
pub(crate) struct Executor {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) authority: Option<Arc<Authority>>,
}

/// What came of a list of actions.
pub(crate) struct Done {
    pub(crate) written: Vec<Written>,
    pub(crate) wake: Option<std::time::Duration>,
    pub(crate) result: Result<(), Error>,
}

impl Executor {
    /// Carries out `actions` in order until one fails.
    pub(crate) async fn run(&self, actions: Vec<Action>) -> Done {
        let mut done = Done { written: Vec::new(), wake: None, result: Ok(()) };
        let mut rest = actions.into_iter().peekable();
        while let Some(action) = rest.next() {
            let mut batch = vec![action];
            while rest.peek().is_some_and(|next| together(&batch[0], next)) {
                batch.extend(rest.next());
            }
            if let Err(error) = self.run_batch(batch, &mut done).await {
                done.result = Err(error);
                break;
            }
        }
        done
    }

    /// Creations start slowly, so that a quota or a broken webhook is met by one request and not by hundreds
    /// (upstream's `slowStartBatch`).
    async fn run_batch(&self, batch: Vec<Action>, done: &mut Done) -> Result<(), Error> {
        let slow = matches!(batch[0], Action::Create { .. });
        let mut rest = batch.into_iter();
        let mut size = if slow { 1 } else { usize::MAX };
        loop {
            let part: Vec<Action> = rest.by_ref().take(size).collect();
            if part.is_empty() {
                return Ok(());
            }
            for action in &part {
                if let Action::Wake { after } = action {
                    done.wake = Some(done.wake.map_or(*after, |earlier| earlier.min(*after)));
                }
            }
            let results: Vec<Result<Option<Written>, Error>> =
                stream::iter(part).map(|action| self.one(action)).buffered(WRITES_AT_ONCE_MAX).collect().await;
            for result in results.iter().flatten() {
                done.written.extend(result.clone());
            }
            results.into_iter().collect::<Result<Vec<_>, _>>()?;
            size = size.saturating_mul(2);
        }
    }

    async fn one(&self, action: Action) -> Result<Option<Written>, Error> {
        let name = action.to_string();
        tracing::debug!(action = name, "acting");
        match action {
            Action::Wake { .. } => Ok(None),
            Action::Event { involved, warning, reason, message } => {
                let kind = if warning { EventType::Warning } else { EventType::Normal };
                self.recorder.event_on(*involved, kind, reason, message);
                Ok(None)
            }
            Action::Verify { target, uid } => self.verify(&name, target, &uid).await,
            Action::Create { target, body } => self.create(&name, target, body).await,
            Action::Update { target, subresource, body } => {
                let answer = self.send(Method::PUT, &target, subresource, &body).await;
                settle(&name, &target, answer)
            }
            Action::Patch { target, subresource, body } => {
                let answer = self.send(Method::PATCH, &target, subresource, &body).await;
                settle(&name, &target, answer)
            }
            Action::Delete { target, options } => self.delete(&name, &target, &options).await,
            Action::DeleteAll { resource, namespace } => {
                let target = Target { resource, namespace: Some(namespace), name: String::new() };
                self.delete_all(&name, &target).await
            }
            Action::Sign { target, order } => self.sign(&name, &target, *order).await,
            Action::FillToken { target, uid, account, body } => {
                self.fill_token(&name, &target, &uid, &account, body).await
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        target: &Target,
        subresource: Option<&str>,
        body: &Value,
    ) -> Result<Value, kube::Error> {
        let name = Some(target.name.as_str()).filter(|name| !name.is_empty() && method != Method::POST);
        let path = target.resource.path(target.namespace.as_deref(), name, subresource);
        let content = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content)
            .header(http::header::ACCEPT, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    async fn verify(&self, action: &str, target: Target, uid: &str) -> Result<Option<Written>, Error> {
        match self.send(Method::GET, &target, None, &Value::Null).await {
            Ok(object) => {
                let meta = &object["metadata"];
                let same = meta["uid"] == uid && meta["deletionTimestamp"].is_null();
                if same { Ok(None) } else { Err(Error::OwnerGone(Box::new(target))) }
            }
            Err(error) if failure::is_not_found(&error) => Err(Error::OwnerGone(Box::new(target))),
            Err(error) => Err(refused(action, None, error)),
        }
    }

    async fn create(&self, action: &str, target: Target, body: Value) -> Result<Option<Written>, Error> {
        let owner = controller(&body);
        match self.send(Method::POST, &target, None, &body).await {
            Ok(object) => {
                let what = target.resource.kind.to_lowercase();
                if let (Some(owner), "pod" | "job") = (owner, what.as_str()) {
                    let made = object["metadata"]["name"].as_str().unwrap_or_default();
                    let message = format!("Created {what}: {made}");
                    self.recorder.event_on(owner, EventType::Normal, "SuccessfulCreate", message);
                }
                Ok(Some(written(&target, &object, false)))
            }
            // What a namespace that ends does not take will never be missed.
            Err(error) if failure::is_namespace_terminating(&error) => Ok(None),
            Err(error) if failure::is_already_exists(&error) => {
                Err(Error::Outdated { action: action.to_owned(), source: Box::new(error) })
            }
            Err(error) => {
                let message = plain(&error);
                if let Some(owner) = owner {
                    let text = format!("Error creating: {message}");
                    self.recorder.event_on(owner, EventType::Warning, "FailedCreate", text);
                }
                Err(refused(action, Some(Failure { reason: "FailedCreate", message }), error))
            }
        }
    }

    async fn delete(&self, action: &str, target: &Target, options: &DeleteOptions) -> Result<Option<Written>, Error> {
        let mut body = json!({ "kind": "DeleteOptions", "apiVersion": "v1" });
        if let Some(uid) = &options.uid {
            body["preconditions"]["uid"] = json!(uid);
        }
        if let Some(version) = &options.resource_version {
            body["preconditions"]["resourceVersion"] = json!(version);
        }
        if let Some(seconds) = options.grace_period_seconds {
            body["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(propagation) = options.propagation {
            body["propagationPolicy"] = json!(propagation.as_str());
        }
        match self.send(Method::DELETE, target, None, &body).await {
            Ok(_) => Ok(Some(Written {
                resource: target.resource.clone(),
                key: ObjectKey::new(target.namespace.clone().unwrap_or_default(), &target.name),
                uid: options.uid.clone(),
                // The answer may be the object as it was, whose version proves nothing.
                version: None,
                removed: true,
            })),
            Err(error) if failure::is_not_found(&error) => Ok(None),
            Err(error) if failure::is_conflict(&error) => {
                Err(Error::Outdated { action: action.to_owned(), source: Box::new(error) })
            }
            Err(error) => {
                let failure = Failure { reason: "FailedDelete", message: plain(&error) };
                Err(refused(action, Some(failure), error))
            }
        }
    }

    async fn delete_all(&self, action: &str, target: &Target) -> Result<Option<Written>, Error> {
        let body = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background" });
        match self.send(Method::DELETE, target, None, &body).await {
            Ok(_) => Ok(None),
            // Not every kind can be deleted as a collection; then one by one.
            Err(error) if matches!(failure::status(&error), Some((404 | 405, _))) => {
                let list = self.send(Method::GET, target, None, &Value::Null).await;
                let list = list.map_err(|error| refused(action, None, error))?;
                let items = list["items"].as_array().cloned().unwrap_or_default();
                let names = items.iter().filter_map(|item| item["metadata"]["name"].as_str());
                stream::iter(names.map(str::to_owned).collect::<Vec<_>>())
                    .map(Ok)
                    .try_for_each_concurrent(WRITES_AT_ONCE_MAX, |name| {
                        let target = Target { name, ..target.clone() };
                        async move { self.delete(action, &target, &DeleteOptions::default()).await.map(drop) }
                    })
                    .await
                    .map(|()| None)
            }
            Err(error) => Err(refused(action, None, error)),
        }
    }

    async fn sign(&self, action: &str, target: &Target, order: csr::Order) -> Result<Option<Written>, Error> {
        let Some(authority) = self.authority.clone() else { return Ok(None) };
        let usages = [(order.server_auth, Usage::Server), (order.client_auth, Usage::Client)];
        let options = SignOptions {
            usages: usages.into_iter().filter(|(wanted, _)| *wanted).map(|(_, usage)| usage).collect(),
            validity: order.validity,
        };
        let mut request = order.request;
        let pem = String::from_utf8_lossy(&request.spec.request.0).into_owned();
        let certificate =
            authority.sign_csr(&pem, &options).map_err(|source| Error::Sign { action: action.to_owned(), source })?;
        let status = request.status.get_or_insert_default();
        status.certificate = Some(k8s_openapi::ByteString(certificate.into_bytes()));
        let Action::Update { body, .. } = Action::update_status(&request) else { return Ok(None) };
        let answer = self.send(Method::PUT, target, Some("status"), &body).await;
        settle(action, target, answer)
    }

    async fn fill_token(
        &self,
        action: &str,
        target: &Target,
        uid: &str,
        account: &str,
        mut body: Value,
    ) -> Result<Option<Written>, Error> {
        let accounts = Target {
            resource: Resource::of::<k8s_openapi::api::core::v1::ServiceAccount>(),
            namespace: target.namespace.clone(),
            name: account.to_owned(),
        };
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "expirationSeconds": SECRET_TOKEN_SECONDS,
                "boundObjectRef": {
                    "kind": "Secret", "apiVersion": "v1", "name": target.name, "uid": uid,
                },
            },
        });
        let path = accounts.resource.path(accounts.namespace.as_deref(), Some(account), Some("token"));
        let request = Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(request.to_string().into_bytes())
            .map_err(|source| Error::Malformed { action: action.to_owned(), source })?;
        let answer: Value = self.client.request(request).await.map_err(|error| refused(action, None, error))?;
        let token = answer["status"]["token"].as_str().unwrap_or_default();
        body["data"]["token"] = json!(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, token));
        let answer = self.send(Method::PATCH, target, None, &body).await;
        settle(action, target, answer)
    }
}

/// Whether two neighbouring actions may be under way at once.
fn together(first: &Action, next: &Action) -> bool {
    match (first, next) {
        (Action::Create { target: a, .. }, Action::Create { target: b, .. }) => a.resource == b.resource,
        (Action::Delete { .. } | Action::Event { .. }, Action::Delete { .. } | Action::Event { .. }) => true,
        (Action::DeleteAll { .. }, Action::DeleteAll { .. }) => true,
        _ => false,
    }
}

fn settle(action: &str, target: &Target, answer: Result<Value, kube::Error>) -> Result<Option<Written>, Error> {
    match answer {
        Ok(object) => Ok(Some(written(target, &object, false))),
        Err(error) if failure::is_not_found(&error) => Ok(None),
        Err(error) if failure::is_conflict(&error) => {
            Err(Error::Outdated { action: action.to_owned(), source: Box::new(error) })
        }
        Err(error) => {
            let failure = Failure { reason: "FailedUpdate", message: plain(&error) };
            Err(refused(action, Some(failure), error))
        }
    }
}

fn written(target: &Target, object: &Value, removed: bool) -> Written {
    let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
    Written {
        resource: target.resource.clone(),
        key: ObjectKey::new(
            target.namespace.clone().unwrap_or_default(),
            text("name").unwrap_or_else(|| target.name.clone()),
        ),
        uid: text("uid"),
        version: text("resourceVersion").and_then(|version| version.parse().ok()),
        removed,
    }
}

fn refused(action: &str, failure: Option<Failure>, error: kube::Error) -> Error {
    Error::Request { action: action.to_owned(), failure: failure.map(Box::new), source: Box::new(error) }
}

/// The API server's own words.
fn plain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The controller named in an object about to be created.
fn controller(body: &Value) -> Option<ObjectReference> {
    let meta: ObjectMeta = serde_json::from_value(body["metadata"].clone()).ok()?;
    let owner = xebec_controllers_core::meta::controller_of(&meta)?;
    Some(ObjectReference {
        api_version: Some(owner.api_version.clone()),
        kind: Some(owner.kind.clone()),
        name: Some(owner.name.clone()),
        uid: Some(owner.uid.clone()),
        namespace: meta.namespace.clone(),
        ..ObjectReference::default()
    })
}
