use std::{path::PathBuf, time::Duration};

use clap::Args;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use xebec_pki::{ClientTls, TlsConnector};
use xebec_proto::etcdserverpb::{AuthenticateRequest, auth_client::AuthClient};

use super::OperateError;

/// How to reach running members; etcdctl's flags.
#[derive(Debug, Clone, Args)]
pub struct ClientFlags {
    /// Members' client URLs, comma-separated; the first that answers is asked.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379", env = "ETCDCTL_ENDPOINTS")]
    pub endpoints: Vec<String>,
    /// Authorities that the members' certificates must come from (PEM).
    #[arg(long, env = "ETCDCTL_CACERT")]
    pub cacert: Option<PathBuf>,
    /// Client certificate (PEM).
    #[arg(long, env = "ETCDCTL_CERT")]
    pub cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, env = "ETCDCTL_KEY")]
    pub key: Option<PathBuf>,
    /// User, or user:password, where authentication is on.
    #[arg(long, env = "ETCDCTL_USER")]
    pub user: Option<String>,
    /// The user's password.
    #[arg(long, env = "ETCDCTL_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
    /// Seconds to wait for a connection.
    #[arg(long, default_value_t = 5)]
    pub dial_timeout: u64,
}

/// A connection to one member, authenticated if that was asked for.
pub(super) type Connection = InterceptedService<Channel, AddToken>;

/// Puts the token into every request.
#[derive(Clone)]
pub(super) struct AddToken(Option<MetadataValue<Ascii>>);

impl Interceptor for AddToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

impl ClientFlags {
    /// Connects to the first member that takes a connection; says which.
    pub(super) async fn connect(&self) -> Result<(String, Connection), OperateError> {
        let connector = match &self.cacert {
            None => TlsConnector::plaintext(),
            Some(ca) => TlsConnector::new(xebec_pki::client_config(&ClientTls {
                ca: ca.clone(),
                cert: self.cert.clone(),
                key: self.key.clone(),
                alpn: vec![b"h2".to_vec()],
            })?),
        };
        let mut last = OperateError::Plain("no --endpoints".to_owned());
        for endpoint in &self.endpoints {
            let url = if endpoint.contains("://") { endpoint.clone() } else { format!("http://{endpoint}") };
            if url.starts_with("https:") && self.cacert.is_none() {
                return Err(OperateError::Plain(format!("{url} needs --cacert")));
            }
            let plain = |error: tonic::transport::Error| {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                OperateError::Plain(format!("{url}: {error}{cause}"))
            };
            let dialed = Endpoint::from_shared(url.clone())
                .map_err(plain)?
                .connect_timeout(Duration::from_secs(self.dial_timeout))
                .connect_with_connector(connector.clone())
                .await;
            match dialed {
                Ok(channel) => {
                    let token = self.token(&url, &channel).await?;
                    return Ok((url, InterceptedService::new(channel, AddToken(token))));
                }
                Err(error) => last = plain(error),
            }
        }
        Err(last)
    }

    async fn token(&self, url: &str, channel: &Channel) -> Result<Option<MetadataValue<Ascii>>, OperateError> {
        let Some(user) = &self.user else { return Ok(None) };
        let (name, password) = match (user.split_once(':'), &self.password) {
            (_, Some(password)) => (user.as_str(), password.as_str()),
            (Some((name, password)), None) => (name, password),
            (None, None) => return Err(OperateError::Plain("--user needs a password".to_owned())),
        };
        let request = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        let answer = AuthClient::new(channel.clone()).authenticate(request).await;
        let response = answer.map_err(|status| refused(url, status))?.into_inner();
        let token = response.token.parse();
        token.map(Some).map_err(|_| OperateError::Plain(format!("{url}: the token is not text")))
    }
}

pub(super) fn refused(endpoint: &str, status: Status) -> OperateError {
    OperateError::Refused { endpoint: endpoint.to_owned(), status: Box::new(status) }
}
