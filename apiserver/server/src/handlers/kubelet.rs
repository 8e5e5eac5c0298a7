//! What is carried to kubelets, pods and services.

use super::Call;
use crate::http::Reply;
use crate::proxy::{Target, forward, kubelet_target, pod_target, service_target, stream_target};
use http::{Method, Request, Uri};
use hyper::body::Incoming;
use serde_json::Value;
use xebec_api::{Status, meta};

/// Serves log, exec, attach, portforward and proxy.
pub async fn serve(call: &Call, request: Request<Incoming>) -> Result<Reply, Status> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let target = match (call.info.resource.as_str(), call.info.subresource.as_str()) {
        ("pods", "proxy") => {
            let (scheme, name, port) = split_name(&call.info.name);
            let pod = object(call, "pods", name).await?;
            with_rest(call, &pod_target(&pod, scheme, port)?, &query)
        }
        ("services", "proxy") => {
            let (scheme, name, port) = split_name(&call.info.name);
            let service = object(call, "services", name).await?;
            let all = call.app.objects.all_cached("discovery.k8s.io", "endpointslices", &call.info.namespace).await?;
            let of_service = |slice: &Value| meta::label(slice, "kubernetes.io/service-name") == Some(name);
            let slices: Vec<Value> = all.into_iter().filter(of_service).collect();
            let choice = usize::try_from(call.ctx.entropy % 1024).unwrap_or(0);
            with_rest(call, &service_target(&service, &slices, scheme, port, choice)?, &query)
        }
        ("nodes", _) => {
            let (_, name, _) = split_name(&call.info.name);
            with_rest(call, &kubelet_target(&object(call, "nodes", name).await?)?, &query)
        }
        (_, subresource) => pod_stream(call, request.method(), subresource).await?,
    };
    let uri: Uri = target.parse().map_err(|error| Status::bad_request(format!("{target}: {error}")))?;
    forward(request, Target { uri, connector: call.app.kubelets.clone() }).await
}

async fn pod_stream(call: &Call, method: &Method, subresource: &str) -> Result<String, Status> {
    let allowed: &[Method] = if subresource == "log" { &[Method::GET] } else { &[Method::GET, Method::POST] };
    if !allowed.contains(method) {
        return Err(Status::method_not_allowed());
    }
    let pod = object(call, "pods", &call.info.name).await?;
    let path = stream_target(&pod, subresource, &call.query)?;
    let node = meta::str_at(&pod, &["spec", "nodeName"]);
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", meta::name(&pod))));
    }
    let found = call.app.objects.cached("", "nodes", "", node).await?;
    let found = found.ok_or_else(|| Status::not_found(&xebec_api::GroupResource::new("", "nodes"), node))?;
    Ok(format!("{}{path}", kubelet_target(&found)?))
}

async fn object(call: &Call, resource: &str, name: &str) -> Result<Value, Status> {
    let namespace = if resource == "nodes" { "" } else { call.info.namespace.as_str() };
    let found = call.app.objects.live("", resource, namespace, name).await?;
    found.map(|(object, _)| object).ok_or_else(|| Status::not_found(&xebec_api::GroupResource::new("", resource), name))
}

/// `[scheme:]name[:port]` (apimachinery `util/net.SplitSchemeNamePort`).
fn split_name(text: &str) -> (&str, &str, &str) {
    match text.split(':').collect::<Vec<_>>()[..] {
        [scheme, name, port] => (scheme, name, port),
        [scheme @ ("http" | "https"), name] => (scheme, name, ""),
        [name, port] => ("", name, port),
        _ => ("", text, ""),
    }
}

/// The path behind `proxy`, and the query as it came.
fn with_rest(call: &Call, host: &str, query: &str) -> String {
    let marker = format!("/{}/{}/proxy", call.info.resource, call.info.name);
    let rest = call.info.path.find(&marker).map_or("", |at| &call.info.path[at + marker.len()..]);
    let path: String = rest.split('/').map(escape).collect::<Vec<_>>().join("/");
    let path = if path.is_empty() { "/".to_owned() } else { path };
    if query.is_empty() { format!("{host}{path}") } else { format!("{host}{path}?{query}") }
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::split_name;

    #[test]
    fn names_carry_scheme_and_port() {
        assert_eq!(split_name("web"), ("", "web", ""));
        assert_eq!(split_name("web:80"), ("", "web", "80"));
        assert_eq!(split_name("https:web"), ("https", "web", ""));
        assert_eq!(split_name("https:web:admin"), ("https", "web", "admin"));
    }
}
