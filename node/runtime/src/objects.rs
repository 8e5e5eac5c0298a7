//! ConfigMaps, Secrets and ServiceAccount tokens for pods.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Pod, Secret, ServiceAccount},
};
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use tokio::time::Instant;
use xebec_node_core::{
    env::Objects,
    files::{TokenWish, token_wishes},
    pod,
};

use crate::volumes::Tokens;

/// How long an answer is good: pods that start together share it, and an update shows at the next refresh.
const FRESH_FOR: Duration = Duration::from_secs(20);
/// Most objects remembered; beyond that, the oldest half goes.
const REMEMBERED_MAX: usize = 1_000;
/// A token is renewed after this part of its life (upstream's 80 %).
const RENEW_AFTER_PERCENT: i64 = 80;

/// Why an object cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectError {
    /// The API server refused, or did not answer.
    #[error("cannot get {what}: {reason}")]
    Api {
        /// What was asked for.
        what: String,
        /// What came.
        reason: String,
    },
}

/// Where the objects pods refer to come from.
#[async_trait]
pub trait ObjectSource: Send + Sync + 'static {
    /// Data of every ConfigMap and Secret the pod refers to; those that do not exist are left out.
    async fn objects(&self, pod: &Pod) -> Result<Objects, ObjectError>;
    /// Every token the pod's volumes ask for.
    async fn tokens(&self, pod: &Pod) -> Result<Tokens, ObjectError>;
}

/// No objects at all: hollow and standalone kubelets.
#[derive(Debug, Clone, Default)]
pub struct NoObjects;

#[async_trait]
impl ObjectSource for NoObjects {
    async fn objects(&self, _pod: &Pod) -> Result<Objects, ObjectError> {
        Ok(Objects::default())
    }

    async fn tokens(&self, pod: &Pod) -> Result<Tokens, ObjectError> {
        let volumes = pod::spec(pod).volumes.iter().flatten();
        Ok(volumes.flat_map(token_wishes).map(|wish| (wish, String::new())).collect())
    }
}

type Data = BTreeMap<String, Vec<u8>>;

struct Remembered {
    data: Option<Data>,
    at: Instant,
}

struct Token {
    text: String,
    renew_at: Timestamp,
}

/// Objects from the API server.
pub struct ApiObjects {
    client: kube::Client,
    objects: Mutex<HashMap<(bool, String, String), Remembered>>,
    tokens: Mutex<HashMap<(String, TokenWish), Token>>,
}

impl ApiObjects {
    /// Asks through `client`.
    pub fn new(client: kube::Client) -> Self {
        Self { client, objects: Mutex::default(), tokens: Mutex::default() }
    }

    async fn data(&self, namespace: &str, secret: bool, name: &str) -> Result<Option<Data>, ObjectError> {
        let key = (secret, namespace.to_owned(), name.to_owned());
        if let Some(found) = self.objects.lock().get(&key).filter(|found| found.at.elapsed() < FRESH_FOR) {
            return Ok(found.data.clone());
        }
        let data = if secret {
            let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
            api.get_opt(name).await.map(|found| found.map(secret_data))
        } else {
            let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
            api.get_opt(name).await.map(|found| found.map(config_map_data))
        };
        let kind = if secret { "secret" } else { "configmap" };
        let data = data.map_err(|error| ObjectError::Api {
            what: format!("{kind} {namespace}/{name}"),
            reason: error.to_string(),
        });
        let mut remembered = self.objects.lock();
        match data {
            Ok(data) => {
                if remembered.len() >= REMEMBERED_MAX {
                    remembered.retain(|_, found| found.at.elapsed() < FRESH_FOR);
                }
                // What is missing is asked for again at once: the pod waits for it.
                if data.is_some() {
                    remembered.insert(key, Remembered { data: data.clone(), at: Instant::now() });
                }
                Ok(data)
            }
            // A pod that has its objects keeps them while no master answers.
            Err(error) => remembered.get(&key).map(|found| Ok(found.data.clone())).unwrap_or(Err(error)),
        }
    }

    async fn token(&self, pod: &Pod, wish: &TokenWish) -> Result<String, ObjectError> {
        let key = (pod::uid(pod).to_owned(), wish.clone());
        let now = Timestamp::now();
        if let Some(token) = self.tokens.lock().get(&key).filter(|token| now < token.renew_at) {
            return Ok(token.text.clone());
        }
        let account = pod::spec(pod).service_account_name.clone().unwrap_or_else(|| "default".to_owned());
        let audiences = Some(wish.audience.clone()).filter(|audience| !audience.is_empty()).into_iter().collect();
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences,
                expiration_seconds: Some(wish.expiration_seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            },
            ..Default::default()
        };
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), pod::namespace(pod));
        let answer = api.create_token_request(&account, &PostParams::default(), &request).await;
        let failed = |reason: String| ObjectError::Api {
            what: format!("a token of serviceaccount {}/{account}", pod::namespace(pod)),
            reason,
        };
        let status = match answer {
            Ok(answer) => answer.status.ok_or_else(|| failed("the answer holds none".into())),
            Err(error) => Err(failed(error.to_string())),
        };
        let mut tokens = self.tokens.lock();
        let status = match status {
            Ok(status) => status,
            // Better an old token than no volume.
            Err(error) => return tokens.get(&key).map(|token| Ok(token.text.clone())).unwrap_or(Err(error)),
        };
        let lifetime = status.expiration_timestamp.0.duration_since(now);
        let renew_at = now.saturating_add(lifetime * i32::try_from(RENEW_AFTER_PERCENT).unwrap_or(80) / 100);
        tokens.retain(|_, token| now < token.renew_at);
        tokens.insert(key, Token { text: status.token.clone(), renew_at: renew_at.unwrap_or(now) });
        Ok(status.token)
    }
}

#[async_trait]
impl ObjectSource for ApiObjects {
    async fn objects(&self, pod: &Pod) -> Result<Objects, ObjectError> {
        let mut objects = Objects::default();
        for (secret, name) in pod::references(pod) {
            if let Some(data) = self.data(pod::namespace(pod), secret, &name).await? {
                let list = if secret { &mut objects.secrets } else { &mut objects.config_maps };
                list.insert(name, data);
            }
        }
        Ok(objects)
    }

    async fn tokens(&self, pod: &Pod) -> Result<Tokens, ObjectError> {
        let mut tokens = Tokens::new();
        for wish in pod::spec(pod).volumes.iter().flatten().flat_map(token_wishes) {
            let text = self.token(pod, &wish).await?;
            tokens.insert(wish, text);
        }
        Ok(tokens)
    }
}

fn config_map_data(object: ConfigMap) -> Data {
    let text = object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    let binary = object.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    text.chain(binary).collect()
}

fn secret_data(object: Secret) -> Data {
    object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
}
