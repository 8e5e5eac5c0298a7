//! An API server in memory for tests of the engine: objects, versions, watches that can be held back.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use futures::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;
type Id = (String, String, String);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: BTreeMap<Id, Value>,
    pub(crate) log: Vec<String>,
    history: Vec<(u64, String, Value)>,
    version: u64,
    held: bool,
}

/// The server. Clones share it.
#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    /// Length of the history that watches may see.
    delivered: watch::Sender<usize>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), delivered: watch::Sender::new(0) }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request| {
            let fake = fake.clone();
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Keeps watches from seeing anything new.
    pub(crate) fn hold(&self, held: bool) {
        let length = {
            let mut state = self.state.lock();
            state.held = held;
            state.history.len()
        };
        if !held {
            self.delivered.send_replace(length);
        }
    }

    pub(crate) fn put(&self, plural: &str, namespace: &str, object: Value) -> Value {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.store((plural.to_owned(), namespace.to_owned(), name), Some(object))
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.lock())
    }

    pub(crate) fn of(&self, plural: &str) -> Vec<Value> {
        let state = self.state.lock();
        state.objects.iter().filter(|(id, _)| id.0 == plural).map(|(_, object)| object.clone()).collect()
    }

    /// Waits until the objects are as `condition` wants them, for ten seconds at most.
    pub(crate) async fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let mut changes = self.delivered.subscribe();
        let wait = async {
            while !condition(self) {
                changes.changed().await.expect("the sender lives in self");
            }
        };
        let bound = std::time::Duration::from_secs(10);
        if tokio::time::timeout(bound, wait).await.is_err() {
            panic!("never: {what}; did {:#?}", self.read(|state| state.log.clone()));
        }
    }

    fn store(&self, id: Id, object: Option<Value>) -> Value {
        let (object, delivered) = {
            let mut state = self.state.lock();
            state.version += 1;
            let version = state.version;
            let known = state.objects.get(&id).cloned();
            let kind = match (&known, &object) {
                (_, None) => "DELETED",
                (None, Some(_)) => "ADDED",
                (Some(_), Some(_)) => "MODIFIED",
            };
            let mut object = object.or(known).unwrap_or_default();
            object["metadata"]["resourceVersion"] = json!(version.to_string());
            if object["metadata"]["uid"].is_null() {
                object["metadata"]["uid"] = json!(format!("uid-{version}"));
            }
            if !id.1.is_empty() {
                object["metadata"]["namespace"] = json!(id.1);
            }
            if kind == "DELETED" {
                state.objects.remove(&id);
            } else {
                state.objects.insert(id.clone(), object.clone());
            }
            state.history.push((version, id.0, json!({ "type": kind, "object": object })));
            (object, (!state.held).then_some(state.history.len()))
        };
        if let Some(length) = delivered {
            self.delivered.send_replace(length);
        }
        object
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.expect("bodies in memory are whole").to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
        let rest = if path[0] == "api" { &path[2..] } else { &path[3..] };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (plural, name) = (rest[0], rest.get(1).copied());
        let query = parts.uri.query().unwrap_or_default();
        if parts.method != Method::GET {
            let entry = format!("{} {}", parts.method, parts.uri.path());
            self.state.lock().log.push(entry);
        }
        let id = |name: &str| (plural.to_owned(), namespace.to_owned(), name.to_owned());
        match (parts.method, name) {
            (Method::GET, None) if query.contains("watch=") => self.watch(plural, query),
            (Method::GET, None) => self.list(plural),
            (Method::POST, None) => {
                let mut object = body;
                let version = self.state.lock().version;
                if let Some(prefix) = object["metadata"]["generateName"].as_str() {
                    object["metadata"]["name"] = json!(format!("{prefix}{version}"));
                }
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                if self.read(|state| state.objects.contains_key(&id(&name))) {
                    return failure(409, "AlreadyExists");
                }
                reply(&self.store(id(&name), Some(object)))
            }
            (method, Some(name)) => {
                let Some(old) = self.read(|state| state.objects.get(&id(name)).cloned()) else {
                    return failure(404, "NotFound");
                };
                match method {
                    Method::GET => reply(&old),
                    Method::PUT => {
                        let versions = [&body, &old].map(|o| o["metadata"]["resourceVersion"].clone());
                        if versions[0] != versions[1] {
                            return failure(409, "Conflict");
                        }
                        reply(&self.store(id(name), Some(body)))
                    }
                    Method::PATCH => {
                        let mut object = old;
                        merge(&mut object, &body);
                        reply(&self.store(id(name), Some(object)))
                    }
                    _ => reply(&self.store(id(name), None)),
                }
            }
            _ => failure(405, "MethodNotAllowed"),
        }
    }

    fn list(&self, plural: &str) -> Answer {
        let items = self.of(plural);
        let version = self.state.lock().version.to_string();
        reply(&json!({ "kind": "List", "metadata": { "resourceVersion": version }, "items": items }))
    }

    fn watch(&self, plural: &str, query: &str) -> Answer {
        let from: u64 = query
            .split('&')
            .find_map(|part| part.strip_prefix("resourceVersion="))
            .and_then(|version| version.parse().ok())
            .unwrap_or(0);
        let (state, plural) = (self.state.clone(), plural.to_owned());
        let delivered = self.delivered.subscribe();
        let lines = stream::unfold((0, delivered), move |(position, mut delivered)| {
            let (state, plural) = (state.clone(), plural.clone());
            async move {
                let until = *delivered.wait_for(|until| *until > position).await.ok()?;
                let mut text = String::new();
                for (version, kind, event) in &state.lock().history[position..until] {
                    if *version > from && *kind == plural {
                        text.push_str(&event.to_string());
                        text.push('\n');
                    }
                }
                Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), (until, delivered)))
            }
        });
        Response::new(StreamBody::new(lines.boxed()).boxed_unsync())
    }
}

fn reply(value: &Value) -> Answer {
    Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync())
}

fn failure(code: u16, reason: &str) -> Answer {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
        "code": code, "message": reason, "metadata": {} });
    let mut response = reply(&status);
    *response.status_mut() = http::StatusCode::from_u16(code).expect("codes used here are valid");
    response
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    for (key, value) in fields {
        if value.is_null() {
            if let Some(object) = target.as_object_mut() {
                object.remove(key);
            }
        } else {
            merge(&mut target[key], value);
        }
    }
}
