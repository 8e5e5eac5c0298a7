//! The one pipeline of all resources and verbs, and the few subresources with a life of their own.

mod account_token;
mod admit;
mod body;
mod commit;
mod components;
mod continuation;
mod delete;
mod deleting;
mod kubelet;
mod patching;
mod pods;
mod read;
mod respond;
mod reviews;
mod scale;
mod tables;
mod watching;
mod write;
mod writing;

pub use delete::{Deleted, delete_object};
pub use write::{Change, create_object, update_object};

use crate::app::App;
use crate::cache::Entry;
use crate::http::Reply;
use crate::leadership::Fence;
use crate::registry::Served;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use std::sync::Arc;
use xebec_api::Status;
use xebec_api::selector::{FieldSelector, LabelSelector};
use xebec_apiserver_core::request::{
    ListOptions, NegotiationError, OptionsError, Query, RequestInfo, Verb, Wanted, WriteOptions, negotiate_output,
};
use xebec_apiserver_core::{RequestContext, User};

/// Which objects of a collection are meant.
pub type Filter = Arc<dyn Fn(&str, &Entry) -> bool + Send + Sync>;

/// Owner of fields that somebody without a User-Agent writes.
const UNKNOWN_MANAGER: &str = "unknown";
const FENCE_HEADER: &str = "x-xebec-fence";

/// One authorized request for a resource.
pub struct Call {
    /// The server.
    pub app: Arc<App>,
    /// Where it is in the URL space.
    pub info: RequestInfo,
    /// Its parameters.
    pub query: Query,
    /// Who, when, and fresh randomness.
    pub ctx: RequestContext,
    /// The resource.
    pub served: Arc<Served>,
    /// The leadership it is made under.
    pub fence: Option<Fence>,
    /// What the client wants back.
    pub wanted: Wanted,
    /// Whether JSON is acceptable where there is no protobuf.
    pub accepts_json: bool,
    /// Its headers.
    pub headers: HeaderMap,
}

impl Call {
    /// Reads a request; the body stays where it is.
    pub fn new(
        app: Arc<App>,
        user: User,
        info: RequestInfo,
        query: Query,
        request: &Request<Incoming>,
    ) -> Result<Self, Status> {
        let found = app.objects.registry.find(&info.api_group, &info.api_version, &info.resource);
        let served = Arc::clone(found.ok_or_else(Status::path_not_found)?);
        if served.row.namespaced
            && info.namespace.is_empty()
            && !matches!(info.verb, Verb::List | Verb::Watch | Verb::Create)
        {
            return Err(Status::path_not_found());
        }
        let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (accept, agent) = (text("accept"), text("user-agent"));
        let wanted = negotiate_output(accept, query.get("pretty"), agent, true).map_err(negotiation_status)?;
        let fence = match text(FENCE_HEADER) {
            "" => None,
            token => Some(Fence::parse(token).ok_or_else(commit::leadership_lost)?),
        };
        let agent = agent.split('/').next().filter(|agent| !agent.is_empty());
        let manager = query.get("fieldManager").filter(|manager| !manager.is_empty());
        let ctx = RequestContext {
            now: jiff::Timestamp::now(),
            uid: uuid::Uuid::new_v4().to_string(),
            entropy: rand::random(),
            user,
            field_manager: manager.or(agent).unwrap_or(UNKNOWN_MANAGER).to_owned(),
        };
        let accepts_json = accept.contains("application/json") || accept.contains("*/*");
        let headers = request.headers().clone();
        Ok(Self { app, info, query, ctx, served, fence, wanted, accepts_json, headers })
    }

    /// A call that the server makes itself, as system:apiserver.
    pub fn internal(app: &Arc<App>, served: &Arc<Served>, verb: Verb, namespace: &str, name: &str) -> Self {
        let resource = &served.row.resource;
        let root = if resource.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", resource.group) };
        let path = match (served.row.namespaced, name) {
            (true, "") => format!("{root}/{}/namespaces/{namespace}/{}", served.row.gvk.version, resource.resource),
            (true, name) => {
                format!("{root}/{}/namespaces/{namespace}/{}/{name}", served.row.gvk.version, resource.resource)
            }
            (false, "") => format!("{root}/{}/{}", served.row.gvk.version, resource.resource),
            (false, name) => format!("{root}/{}/{}/{name}", served.row.gvk.version, resource.resource),
        };
        let mut info = RequestInfo::new("GET", &path, &Query::default());
        info.verb = verb;
        let ctx = RequestContext {
            now: jiff::Timestamp::now(),
            uid: uuid::Uuid::new_v4().to_string(),
            entropy: rand::random(),
            user: User::new("system:apiserver", &["system:masters", "system:authenticated"]),
            field_manager: "kube-apiserver".into(),
        };
        Self {
            app: Arc::clone(app),
            info,
            query: Query::default(),
            ctx,
            served: Arc::clone(served),
            fence: None,
            wanted: Wanted {
                media: xebec_apiserver_core::request::MediaType::Json,
                transform: xebec_apiserver_core::request::Transform::None,
                stream_watch: false,
                pretty: false,
            },
            accepts_json: true,
            headers: HeaderMap::new(),
        }
    }

    /// The same caller's call of another resource in the same namespace.
    pub fn of_other(&self, group: &str, resource: &str, verb: Verb, name: &str) -> Result<Self, Status> {
        let registry = &self.app.objects.registry;
        let served = registry.preferred(group, resource).ok_or_else(Status::path_not_found)?;
        let mut call = Self::internal(&self.app, served, verb, &self.info.namespace, name);
        call.ctx = self.ctx.clone();
        call.fence.clone_from(&self.fence);
        Ok(call)
    }

    /// Options of a write; `kind` names them in refusals.
    pub fn write_options(&self, kind: &'static str) -> Result<WriteOptions, Status> {
        WriteOptions::parse(&self.query, kind).map_err(options_status)
    }

    /// Whether the client selects.
    pub fn has_selector(&self) -> bool {
        ["labelSelector", "fieldSelector"].iter().any(|key| self.query.get(key).is_some_and(|value| !value.is_empty()))
    }

    /// Which objects the options select.
    pub fn filter(&self, options: &ListOptions) -> Result<Filter, Status> {
        let bad = |error: &dyn std::fmt::Display| Status::bad_request(error.to_string());
        let labels = LabelSelector::parse(&options.label_selector).map_err(|error| bad(&error))?;
        let fields = FieldSelector::parse(&options.field_selector).map_err(|error| bad(&error))?;
        let gvk = &self.served.row.gvk;
        xebec_apiserver_core::fields::check(&fields, &gvk.group, &gvk.version, &gvk.kind, &[])
            .map_err(Status::bad_request)?;
        let name = self.info.name.clone();
        let namespaced = self.served.row.namespaced;
        Ok(Arc::new(move |key: &str, entry: &Entry| {
            let own = if namespaced { key.split_once('/').map_or(key, |(_, name)| name) } else { key };
            (name.is_empty() || own == name)
                && labels.matches(Some(&entry.labels))
                && fields.matches(|field| entry.fields.get(field).map(String::as_str))
        }))
    }
}

/// Answers a request for a resource.
pub async fn dispatch(call: Call, request: Request<Incoming>) -> Result<Reply, Status> {
    let group = call.info.api_group.as_str();
    match (group, call.info.resource.as_str(), call.info.subresource.as_str()) {
        ("", "pods", "log" | "exec" | "attach" | "portforward" | "proxy") | ("", "nodes" | "services", "proxy") => {
            return kubelet::serve(&call, request).await;
        }
        _ => {}
    }
    if call.info.parts.len() > 3 {
        return Err(Status::path_not_found());
    }
    known_verb(&call)?;
    let reads = matches!(call.info.verb, Verb::Get | Verb::List | Verb::Watch);
    let payload = if reads { None } else { Some(body::Payload::read(request).await?) };
    match payload {
        None => read(&call).await,
        Some(payload) => change(&call, &payload).await,
    }
}

async fn read(call: &Call) -> Result<Reply, Status> {
    match (call.info.api_group.as_str(), call.info.resource.as_str()) {
        ("", "componentstatuses") => return components::read(call).await,
        _ if call.served.is_stored() => {}
        _ => return Err(Status::method_not_allowed()),
    }
    match (call.info.verb, call.info.subresource.as_str()) {
        (Verb::List, _) => read::list(call).await,
        (Verb::Watch, "") => watching::watch(call).await,
        (Verb::Get, "" | "status" | "approval" | "ephemeralcontainers" | "resize") => read::get(call).await,
        (Verb::Get, "scale") => scale::get(call).await,
        _ => Err(Status::path_not_found()),
    }
}

async fn change(call: &Call, payload: &body::Payload) -> Result<Reply, Status> {
    let group = call.info.api_group.as_str();
    match (group, call.info.resource.as_str(), call.info.subresource.as_str(), call.info.verb) {
        ("", "pods", "binding", Verb::Create) | ("", "bindings", "", Verb::Create) => pods::bind(call, payload).await,
        ("", "pods", "eviction", Verb::Create) => pods::evict(call, payload).await,
        ("", "serviceaccounts", "token", Verb::Create) => account_token::create(call, payload).await,
        ("authentication.k8s.io" | "authorization.k8s.io", _, "", Verb::Create) => reviews::create(call, payload).await,
        (_, _, "scale", Verb::Update | Verb::Patch) => scale::change(call, payload).await,
        _ if !call.served.is_stored() => Err(Status::method_not_allowed()),
        (_, _, "", Verb::Create) => writing::create(call, payload).await,
        (_, _, _, Verb::Update) => writing::update(call, payload).await,
        (_, _, _, Verb::Patch) => patching::patch(call, payload).await,
        (_, _, "", Verb::Delete) => deleting::delete(call, payload).await,
        (_, _, "", Verb::DeleteCollection) => deleting::delete_collection(call, payload).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// 404 for subresources that the resource does not have, 405 for what discovery does not promise: a collection of
/// Namespaces, say, is not deleted.
fn known_verb(call: &Call) -> Result<(), Status> {
    let (resource, info) = (call.served.resource, &call.info);
    let verbs = match info.subresource.as_str() {
        "" => &resource.verbs,
        name => &resource.subresource(name).ok_or_else(Status::path_not_found)?.verbs,
    };
    let of_one = matches!(info.verb, Verb::Update | Verb::Patch | Verb::Delete);
    let known = verbs.iter().any(|verb| verb.as_str() == info.verb.as_str());
    if known && !(of_one && info.name.is_empty()) { Ok(()) } else { Err(Status::method_not_allowed()) }
}

/// 406 and 415.
pub fn negotiation_status(error: NegotiationError) -> Status {
    let list = |text: &str| -> Vec<String> { text.split(", ").map(str::to_owned).collect() };
    match error {
        NegotiationError::NotAcceptable(accepted) => {
            let accepted = list(&accepted);
            Status::not_acceptable(&accepted.iter().map(String::as_str).collect::<Vec<_>>())
        }
        NegotiationError::UnsupportedMediaType(accepted) => {
            let accepted = list(&accepted);
            Status::unsupported_media_type(&accepted.iter().map(String::as_str).collect::<Vec<_>>())
        }
    }
}

/// 400 and 422 of parameters.
pub fn options_status(error: OptionsError) -> Status {
    error.to_status()
}
