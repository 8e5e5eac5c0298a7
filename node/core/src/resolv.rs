//! `resolv.conf`, `/etc/hosts` and the host name of a pod (`pkg/kubelet/network/dns/dns.go`).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use crate::pod;

/// Upstream's limits on what a `resolv.conf` holds.
const SERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const HOST_NAME_BYTES_MAX: usize = 63;

/// A resolver configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolv {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// Reads the host's `resolv.conf`.
pub fn parse(text: &str) -> Resolv {
    let mut found = Resolv::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let keyword = words.next();
        let rest = words.map(str::to_owned);
        match keyword {
            Some("nameserver") => found.servers.extend(rest),
            Some("search") => found.searches = rest.collect(),
            Some("options") => found.options = rest.collect(),
            _ => {}
        }
    }
    found
}

/// The pod's resolver configuration by its `dnsPolicy` and `dnsConfig`.
pub fn for_pod(pod: &Pod, cluster_dns: &[IpAddr], domain: &str, host: &Resolv) -> Resolv {
    let spec = pod::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !pod::host_network(pod),
        _ => false,
    };
    let mut resolv = match policy {
        "None" => Resolv::default(),
        _ if cluster && !cluster_dns.is_empty() => {
            let own = [format!("{}.svc.{domain}", pod::namespace(pod)), format!("svc.{domain}"), domain.to_owned()];
            Resolv {
                servers: cluster_dns.iter().map(IpAddr::to_string).collect(),
                searches: own.into_iter().chain(host.searches.iter().cloned()).collect(),
                options: vec!["ndots:5".into()],
            }
        }
        _ => host.clone(),
    };
    if let Some(extra) = &spec.dns_config {
        append_new(&mut resolv.servers, extra.nameservers.iter().flatten());
        append_new(&mut resolv.searches, extra.searches.iter().flatten());
        for option in extra.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            resolv.options.retain(|old| old.split(':').next() != Some(name));
            resolv.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            });
        }
    }
    resolv.servers.truncate(SERVERS_MAX);
    resolv.searches.truncate(SEARCHES_MAX);
    resolv
}

fn append_new<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// The pod's host name, and its full name if it has a subdomain.
pub fn host_name(pod: &Pod, domain: &str) -> (String, Option<String>) {
    let spec = pod::spec(pod);
    let mut name = spec.hostname.clone().unwrap_or_else(|| pod::name(pod).to_owned());
    name.truncate(HOST_NAME_BYTES_MAX);
    let name = name.trim_end_matches(['-', '.']).to_owned();
    let full = spec
        .subdomain
        .as_deref()
        .filter(|subdomain| !subdomain.is_empty())
        .map(|subdomain| format!("{name}.{subdomain}.{}.svc.{domain}", pod::namespace(pod)));
    (name, full)
}

/// The pod's `/etc/hosts`.
pub fn hosts(ips: &[String], name: &str, full: Option<&str>, aliases: &[HostAlias]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        match full {
            Some(full) => text += &format!("{ip}\t{full}\t{name}\n"),
            None => text += &format!("{ip}\t{name}\n"),
        }
    }
    for alias in aliases {
        text +=
            &format!("{}\t{}\n", alias.ip, alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t"));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(spec: serde_json::Value, servers: &[&str], searches: &[&str], options: &[&str]) {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d"}, "spec": spec})).unwrap();
        let host = parse("# c\nnameserver 9.9.9.9\nsearch corp\noptions rotate\n");
        let found = for_pod(&pod, &["10.96.0.10".parse().unwrap()], "cluster.local", &host);
        let words = |list: &[&str]| list.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        assert_eq!(found, Resolv { servers: words(servers), searches: words(searches), options: words(options) });
    }

    #[test]
    fn dns_policies() {
        let cluster = ["d.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp"];
        check(json!({"containers": []}), &["10.96.0.10"], &cluster, &["ndots:5"]);
        check(json!({"containers": [], "hostNetwork": true}), &["9.9.9.9"], &["corp"], &["rotate"]);
        check(json!({"containers": [], "dnsPolicy": "Default"}), &["9.9.9.9"], &["corp"], &["rotate"]);
        let own = json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["1.1.1.1"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}]}});
        check(own, &["1.1.1.1"], &["x"], &["ndots:2"]);
    }

    #[test]
    fn host_names() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d"},
            "spec": {"containers": [], "subdomain": "s"}}))
        .unwrap();
        let (name, full) = host_name(&pod, "cluster.local");
        assert_eq!((name.as_str(), full.as_deref()), ("p", Some("p.s.d.svc.cluster.local")));
        assert!(
            hosts(&["10.0.0.1".into()], &name, full.as_deref(), &[]).contains("10.0.0.1\tp.s.d.svc.cluster.local\tp\n")
        );
    }
}
