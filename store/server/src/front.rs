//! Which services a port has: gRPC, plain HTTP, or both, told apart by the content type as etcd does
//! (`server/embed/serve.go`, `grpcHandlerFunc`).

use axum::{
    Router,
    extract::{Request, State},
    middleware::from_fn_with_state,
    response::Response,
};
use http::header;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    access::{self, Access},
    context::Context,
    flags::HttpFlags,
    gateway, http as endpoints,
    interceptor::intercept,
};

/// What clients are served with.
#[derive(Clone)]
pub(crate) struct Front {
    context: Context,
    flags: HttpFlags,
    services: Router,
}

impl Front {
    /// `services` are the gRPC services.
    pub fn new(context: Context, flags: HttpFlags, services: Router) -> Self {
        let services = services.layer(from_fn_with_state(context.clone(), intercept));
        Self { context, flags, services }
    }

    /// Cancelled when the member stops.
    pub fn stopped(&self) -> &CancellationToken {
        self.context.member.stopped()
    }

    /// gRPC only.
    pub fn grpc(&self) -> Router {
        self.services.clone()
    }

    /// Plain HTTP only: the gateway, health, metrics, versions.
    pub fn http(&self, is_tls: bool) -> Router {
        let mut router = endpoints::routes(self.context.clone());
        if self.flags.enable_grpc_gateway {
            router = router.merge(gateway::routes(self.services.clone(), self.context.limits.request_bytes_max));
        }
        let access = Access::new(&self.flags.cors, &self.flags.host_whitelist, is_tls);
        router.fallback(endpoints::not_found).layer(from_fn_with_state(access, access::control))
    }

    /// Both on one port.
    pub fn both(&self, is_tls: bool) -> Router {
        let choices = Choices { grpc: self.grpc(), http: self.http(is_tls) };
        Router::new().fallback(choose).with_state(choices)
    }

    /// Metrics and health only.
    pub fn metrics(&self) -> Router {
        endpoints::metric_routes(self.context.clone()).fallback(endpoints::not_found)
    }
}

#[derive(Clone)]
struct Choices {
    grpc: Router,
    http: Router,
}

async fn choose(State(choices): State<Choices>, request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes()).unwrap_or_default();
    let router = if kind.starts_with(b"application/grpc") { choices.grpc } else { choices.http };
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
