//! How a member comes into its cluster: etcd's flags for it, and what they mean together
//! (etcd `server/embed/config.go`, `server/config/config.go`).

use std::collections::BTreeMap;

use clap::{ArgAction, Args};
use xebec_store_raft::{Dialer, MemberConfig, ReconfigurationLimits, is_initialized};

use crate::{Flags, listen::Endpoint, run::Error};

/// Learners a cluster may have at a time (etcd `membership.DefaultMaxLearners`).
const LEARNERS_MAX_DEFAULT: usize = 1;

/// Flags about membership.
#[derive(Debug, Clone, Args)]
pub struct MembershipFlags {
    /// Refuse membership changes that would cost the quorum.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", env = "ETCD_STRICT_RECONFIG_CHECK")]
    pub strict_reconfig_check: bool,
    /// Learners that the cluster may have at a time.
    #[arg(long, alias = "experimental-max-learners", default_value_t = LEARNERS_MAX_DEFAULT, env = "ETCD_MAX_LEARNERS")]
    pub max_learners: usize,
    /// Go on alone with this member's data: every other member is removed. For the last survivor only.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", env = "ETCD_FORCE_NEW_CLUSTER")]
    pub force_new_cluster: bool,
    #[command(flatten)]
    pub discovery: DiscoveryFlags,
}

/// etcd's ways to find peers by a third party, which are refused.
#[derive(Debug, Clone, Default, Args)]
pub struct DiscoveryFlags {
    #[arg(long, hide = true, env = "ETCD_DISCOVERY")]
    discovery: Option<String>,
    #[arg(long, hide = true, env = "ETCD_DISCOVERY_SRV")]
    discovery_srv: Option<String>,
    #[arg(long, hide = true, env = "ETCD_DISCOVERY_SRV_NAME")]
    discovery_srv_name: Option<String>,
    #[arg(long, hide = true, env = "ETCD_DISCOVERY_PROXY")]
    discovery_proxy: Option<String>,
    #[arg(long, hide = true, env = "ETCD_DISCOVERY_FALLBACK")]
    discovery_fallback: Option<String>,
    #[arg(long, hide = true, env = "ETCD_DISCOVERY_TOKEN")]
    discovery_token: Option<String>,
    #[arg(long, hide = true, env = "ETCD_DISCOVERY_ENDPOINTS")]
    discovery_endpoints: Option<String>,
}

impl DiscoveryFlags {
    fn check(&self) -> Result<(), Error> {
        let given = [
            ("discovery", &self.discovery),
            ("discovery-srv", &self.discovery_srv),
            ("discovery-srv-name", &self.discovery_srv_name),
            ("discovery-proxy", &self.discovery_proxy),
            ("discovery-fallback", &self.discovery_fallback),
            ("discovery-token", &self.discovery_token),
            ("discovery-endpoints", &self.discovery_endpoints),
        ];
        match given.into_iter().find(|(_, value)| value.is_some()) {
            None => Ok(()),
            Some((flag, _)) => Err(Error::Flag(format!(
                "--{flag} is not supported: Xebec finds its peers by --initial-cluster only; name all first members there"
            ))),
        }
    }
}

/// What the member needs to know. Flags about a cluster's beginning count only as long as the data directory holds no
/// member of one.
pub(crate) fn member_config(flags: &Flags, dialer: Dialer) -> Result<MemberConfig, Error> {
    flags.membership.discovery.check()?;
    let data_dir = flags.data_dir();
    let initial_cluster = if is_initialized(&data_dir)? {
        tracing::info!("the data directory is initialized: flags about the cluster's beginning do not count");
        BTreeMap::new()
    } else {
        first_members(flags)?
    };
    Ok(MemberConfig {
        name: flags.name.clone(),
        data_dir,
        initial_cluster,
        is_new_cluster: flags.initial_cluster_state == "new",
        force_new_cluster: flags.membership.force_new_cluster,
        limits: ReconfigurationLimits {
            is_strict: flags.membership.strict_reconfig_check,
            learners_max: flags.membership.max_learners,
        },
        token: flags.initial_cluster_token.clone(),
        heartbeat_millis: flags.heartbeat_interval,
        election_millis: flags.election_timeout,
        dialer,
    })
}

fn first_members(flags: &Flags) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let initial_cluster = match &flags.initial_cluster {
        Some(text) => parse_cluster(text)?,
        None => BTreeMap::from([(flags.name.clone(), flags.initial_advertise_peer_urls.clone())]),
    };
    let mut own = initial_cluster
        .get(&flags.name)
        .cloned()
        .ok_or_else(|| Error::Flag(format!("couldn't find local name {:?} in the initial cluster", flags.name)))?;
    let mut advertised = flags.initial_advertise_peer_urls.clone();
    own.sort();
    advertised.sort();
    if own != advertised {
        return Err(Error::Flag(format!(
            "--initial-cluster has {} for {}, but --initial-advertise-peer-urls is {}",
            own.join(","),
            flags.name,
            advertised.join(",")
        )));
    }
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = initial_cluster.values().flatten().find(|url| !seen.insert(url.as_str())) {
        return Err(Error::Flag(format!("--initial-cluster has duplicate url {twice}")));
    }
    Ok(initial_cluster)
}

/// Reads `name=url,name=url`; a name may come several times.
pub(crate) fn parse_cluster(text: &str) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let mut cluster: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, url) =
            part.split_once('=').ok_or_else(|| Error::Flag(format!("--initial-cluster: {part} is not name=URL")))?;
        Endpoint::parse(url)?;
        cluster.entry(name.to_owned()).or_default().push(url.to_owned());
    }
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_read_as_etcd_writes_it() {
        let cluster = parse_cluster("a=http://1.2.3.4:1,b=http://h:2,a=http://1.2.3.4:3").unwrap();
        assert_eq!(cluster["a"], ["http://1.2.3.4:1", "http://1.2.3.4:3"]);
        assert_eq!(cluster["b"], ["http://h:2"]);
        for wrong in ["a", "a=h:1", "a=http://h"] {
            assert!(parse_cluster(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn discovery_is_refused_with_a_sentence() {
        let flags = DiscoveryFlags { discovery_srv: Some("example.com".to_owned()), ..Default::default() };
        let refusal = flags.check().unwrap_err().to_string();
        assert!(refusal.starts_with("--discovery-srv is not supported"), "{refusal}");
        DiscoveryFlags::default().check().unwrap();
    }
}
