use std::{fmt, sync::Arc};

use tonic::{Request, metadata::MetadataMap};

/// Metadata in which clients send their token (etcd `rpctypes.TokenFieldNameGRPC`, `TokenFieldNameSwagger`).
const TOKEN_KEYS: [&str; 2] = ["token", "authorization"];
/// Metadata that tells the JSON gateway's requests. The connection they come on is not their sender's, so neither is its
/// certificate (etcd `AuthInfoFromTLS`).
const GATEWAY_KEY: &str = "grpcgateway-accept";

/// The common name of the verified certificate that a connection's client has shown; an extension of each of its
/// requests.
#[derive(Debug, Clone)]
pub(crate) struct CommonName(pub Arc<str>);

/// How the sender of a request says who they are.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    pub(super) token: Option<String>,
    pub(super) common_name: Option<CommonName>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "..");
        formatter.debug_struct("Credentials").field("token", &token).field("common_name", &self.common_name).finish()
    }
}

impl Credentials {
    /// Those of a gRPC request.
    pub fn of<T>(request: &Request<T>) -> Self {
        let metadata = request.metadata();
        let common_name = request.extensions().get::<CommonName>().filter(|_| !metadata.contains_key(GATEWAY_KEY));
        Self { token: token(metadata), common_name: common_name.cloned() }
    }
}

fn token(metadata: &MetadataMap) -> Option<String> {
    let value = TOKEN_KEYS.iter().find_map(|key| metadata.get(*key))?;
    // Something that is no text is no token of ours either, but must not count as none at all.
    let text = value.to_str().unwrap_or_default();
    Some(text.strip_prefix("Bearer ").unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(metadata: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::new(());
        for (key, value) in metadata {
            request.metadata_mut().insert(*key, value.parse().unwrap());
        }
        request.extensions_mut().insert(CommonName("ann".into()));
        request
    }

    #[test]
    fn a_token_comes_in_either_field_with_or_without_bearer() {
        for metadata in
            [&[("token", "t")][..], &[("authorization", "Bearer t")], &[("token", "t"), ("authorization", "other")]]
        {
            assert_eq!(Credentials::of(&request(metadata)).token.as_deref(), Some("t"), "{metadata:?}");
        }
        assert_eq!(Credentials::of(&request(&[])).token, None);
    }

    #[test]
    fn a_certificate_does_not_speak_for_what_comes_through_the_gateway() {
        assert!(Credentials::of(&request(&[])).common_name.is_some());
        assert!(Credentials::of(&request(&[("grpcgateway-accept", "*/*")])).common_name.is_none());
    }

    #[test]
    fn credentials_do_not_show_their_token() {
        let shown = format!("{:?}", Credentials::of(&request(&[("token", "secret")])));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
