//! Who may ask the kubelet for what.

use std::{collections::HashMap, time::Duration};

use http::Method;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use tokio::time::Instant;
use xebec_pki::Identity;

/// How long an answer is good.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// Most answers remembered.
const REMEMBERED_MAX: usize = 1_000;

/// User, verb and subresource of the node.
type Question = (String, &'static str, &'static str);

pub(crate) struct Access {
    client: kube::Client,
    node: String,
    remembered: Mutex<HashMap<Question, (bool, Instant)>>,
}

impl Access {
    pub(crate) fn new(client: kube::Client, node: String) -> Self {
        Self { client, node, remembered: Mutex::default() }
    }

    pub(crate) async fn check(&self, peer: &Identity, method: &Method, path: &[&str]) -> Result<bool, kube::Error> {
        if peer.organizations.iter().any(|group| group == "system:masters") {
            return Ok(true);
        }
        let verb = match *method {
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::DELETE => "delete",
            _ => return Ok(false),
        };
        let subresource = match path.first() {
            Some(&"metrics") => "metrics",
            Some(&"stats") => "stats",
            Some(&"healthz") => "healthz",
            Some(&("pods" | "runningpods")) => "pods",
            _ => "proxy",
        };
        let key = (peer.common_name.clone(), verb, subresource);
        let found = self.remembered.lock().get(&key).filter(|(_, at)| at.elapsed() < FRESH_FOR).copied();
        if let Some((allowed, _)) = found {
            return Ok(allowed);
        }
        let allowed = self.review(peer, verb, subresource).await?;
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(key, (allowed, Instant::now()));
        Ok(allowed)
    }

    async fn review(&self, peer: &Identity, verb: &str, subresource: &str) -> Result<bool, kube::Error> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(peer.common_name.clone()),
                groups: Some(peer.organizations.iter().cloned().chain(["system:authenticated".to_owned()]).collect()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".into()),
                    resource: Some("nodes".into()),
                    subresource: Some(subresource.to_owned()),
                    name: Some(self.node.clone()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let answer = Api::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}
