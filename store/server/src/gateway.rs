//! The JSON gateway under `/v3/`: what grpc-gateway is to etcd (etcd `server/embed/serve.go`, `registerGateway`).
//!
//! It knows no method by itself: a path names one, the descriptors say what its messages are, and the call goes through
//! the same services as everybody's, in gRPC's own encoding. So a service that is added is reached by one more path.

mod call;
mod codec;
mod failure;
mod paths;
mod streams;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::any,
};
use http::Method;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use tonic::{Code, Status};

use failure::Failure;

/// Bytes that JSON may take for each byte of a message (base64, field names), and the least it may take.
const JSON_BYTES_PER_BYTE: usize = 2;
const JSON_BYTES_MIN: usize = 1 << 20;

/// The gateway of a server.
pub(crate) struct Gateway {
    /// The gRPC services.
    services: Router,
    methods: HashMap<&'static str, MethodDescriptor>,
    /// Bytes of JSON of one message.
    json_bytes_max: usize,
}

impl Gateway {
    fn new(services: Router, request_bytes_max: usize) -> Self {
        let pool = DescriptorPool::decode(xebec_proto::FILE_DESCRIPTOR_SET).unwrap_or_default();
        let methods = paths::PATHS.iter().filter_map(|(path, service, method)| {
            let service = pool.get_service_by_name(service)?;
            let method = service.methods().find(|known| known.name() == *method)?;
            Some((*path, method))
        });
        let json_bytes_max = request_bytes_max.saturating_mul(JSON_BYTES_PER_BYTE).max(JSON_BYTES_MIN);
        Self { services, methods: methods.collect(), json_bytes_max }
    }
}

/// The gateway's routes before these services. `/v3beta/` is etcd's older name for `/v3/`.
pub(crate) fn routes(services: Router, request_bytes_max: usize) -> Router {
    let gateway = Arc::new(Gateway::new(services, request_bytes_max));
    Router::new().route("/v3/{*path}", any(handle)).route("/v3beta/{*path}", any(handle)).with_state(gateway)
}

async fn handle(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let path = request.uri().path();
    let path = path.strip_prefix("/v3beta/").or_else(|| path.strip_prefix("/v3/")).unwrap_or(path);
    let Some(method) = gateway.methods.get(path).cloned() else {
        return Failure(Status::not_found("Not Found")).into_response();
    };
    if request.method() != Method::POST {
        return Failure(Status::new(Code::Unimplemented, "Method Not Allowed")).into_response();
    }
    let answered = match (method.is_client_streaming(), method.is_server_streaming()) {
        (false, false) => call::unary(&gateway, &method, request).await,
        (is_client_streaming, _) => streams::stream(&gateway, &method, request, is_client_streaming).await,
    };
    answered.unwrap_or_else(IntoResponse::into_response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_names_a_method_and_every_method_but_one_has_a_path() {
        let gateway = Gateway::new(Router::new(), 0);
        assert_eq!(gateway.methods.len(), paths::PATHS.len());
        let pool = DescriptorPool::decode(xebec_proto::FILE_DESCRIPTOR_SET).unwrap();
        let packages = ["etcdserverpb", "v3lockpb", "v3electionpb"];
        let services = pool.services().filter(|service| packages.contains(&service.package_name()));
        let missing: Vec<String> = services
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .filter(|method| !gateway.methods.values().any(|known| known.full_name() == method.full_name()))
            .map(|method| method.name().to_owned())
            .collect();
        // etcd offers it over gRPC only.
        assert_eq!(missing, ["RangeStream"]);
    }
}
