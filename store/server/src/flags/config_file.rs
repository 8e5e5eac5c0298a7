//! `--config-file`: etcd's YAML, turned into the flags it stands for (etcd `server/embed/config.go`, `ConfigFromFile`).

use std::{fs, path::Path};

use clap::{Args, Command, FromArgMatches};
use serde_json::Value;

use super::{Flags, duration};

/// Sections, and the prefix that their keys have as flags.
const SECTIONS: [(&str, &str); 2] = [("client-transport-security", ""), ("peer-transport-security", "peer-")];
/// Keys of a section that are named otherwise as flags: section, key, flag.
const RENAMED: [(&str, &str, &str); 4] = [
    ("client-transport-security", "allowed-cn", "client-cert-allowed-cn"),
    ("client-transport-security", "allowed-hostname", "client-cert-allowed-hostname"),
    ("peer-transport-security", "allowed-cn", "peer-cert-allowed-cn"),
    ("peer-transport-security", "allowed-hostname", "peer-cert-allowed-hostname"),
];

/// Reads the flags that a file stands for. As with etcd, nothing else counts then: neither other flags nor the environment.
///
/// # Errors
/// What cannot be read or is not known, in a sentence that names the file.
pub(crate) fn read(path: &Path) -> Result<Flags, String> {
    let failed = |reason: String| format!("--config-file {}: {reason}", path.display());
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    parse(&text).map_err(failed)
}

/// Reads the flags that a file's text stands for.
pub(crate) fn parse(text: &str) -> Result<Flags, String> {
    let values: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut arguments = vec!["store".to_owned()];
    for (key, value) in entries(&values)? {
        match SECTIONS.iter().find(|(section, _)| section == key) {
            Some((section, prefix)) => {
                for (name, value) in entries(value)? {
                    let renamed = RENAMED.iter().find(|row| (row.0, row.1) == (*section, name.as_str()));
                    let flag = renamed.map_or_else(|| format!("{prefix}{name}"), |row| row.2.to_owned());
                    arguments.extend(argument(&flag, value)?);
                }
            }
            None => arguments.extend(argument(key, value)?),
        }
    }
    from_words(arguments)
}

/// Reads flags as they come on the command line, behind the program's name; the environment does not count.
pub(crate) fn from_words(words: Vec<String>) -> Result<Flags, String> {
    let command = Flags::augment_args(Command::new("store")).mut_args(|arg| arg.env(None::<&'static str>));
    let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
    Flags::from_arg_matches(&matches).map_err(|error| error.to_string())
}

fn entries(value: &Value) -> Result<impl Iterator<Item = (&String, &Value)>, String> {
    match value {
        Value::Object(entries) => Ok(entries.iter()),
        _ => Err("not a mapping of names to values".to_owned()),
    }
}

/// A key as a flag; `None` if it is there without a value.
fn argument(flag: &str, value: &Value) -> Result<Option<String>, String> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        // Go's durations are nanoseconds in YAML.
        Value::Number(number) if is_duration(flag) => format!("{number}ns"),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            items.ok_or_else(|| format!("{flag}: not a list of texts"))?.join(",")
        }
        Value::Object(_) => return Err(format!("{flag}: a mapping has no place here")),
    };
    // An empty text is etcd's way to say nothing.
    Ok((!text.is_empty()).then(|| format!("--{flag}={text}")))
}

fn is_duration(flag: &str) -> bool {
    flag.starts_with("grpc-keepalive-") || matches!(flag, "watch-progress-notify-interval" | "corrupt-check-time")
}

/// Checks what clap cannot.
pub(crate) fn check(flags: &Flags) -> Result<(), String> {
    /// The longest election timeout, in milliseconds (etcd `maxElectionMs`).
    const ELECTION_MILLIS_MAX: u64 = 50_000;
    /// An election timeout has at least this many heartbeats.
    const HEARTBEATS_MIN: u64 = 5;
    let (heartbeat, election) = (flags.heartbeat_interval, flags.election_timeout);
    if heartbeat == 0 || election == 0 {
        return Err("--heartbeat-interval and --election-timeout must be >0 (milliseconds)".to_owned());
    }
    if HEARTBEATS_MIN * heartbeat > election {
        return Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > ELECTION_MILLIS_MAX {
        return Err(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MILLIS_MAX}ms"
        ));
    }
    duration::parse("0s")?;
    flags.elsewhere.judge()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_of_etcds_is_read() {
        let text = "
name: m1
data-dir: /var/lib/etcd
heartbeat-interval: 100
election-timeout: 1000
listen-client-urls: https://10.0.0.1:2379,https://127.0.0.1:2379
initial-cluster: m1=https://10.0.0.1:2380
grpc-keepalive-interval: 7200000000000
watch-progress-notify-interval: 5s
snapshot-count: 10000
log-outputs: [stderr]
discovery:
client-transport-security:
  cert-file: /pki/server.crt
  key-file: /pki/server.key
  client-cert-auth: true
  trusted-ca-file: /pki/ca.crt
peer-transport-security:
  cert-file: /pki/peer.crt
  key-file: /pki/peer.key
  allowed-cn: [m1, m2]
";
        let flags = parse(text).unwrap();
        assert_eq!((flags.name.as_str(), flags.listen_client_urls.len(), flags.election_timeout), ("m1", 2, 1000));
        assert_eq!(flags.connections.grpc_keepalive_interval, Duration::from_secs(7_200));
        assert_eq!(flags.watch_progress_notify_interval, Duration::from_secs(5));
        assert_eq!(flags.cert_file.as_deref(), Some(Path::new("/pki/server.crt")));
        assert_eq!(flags.peer_cert_file.as_deref(), Some(Path::new("/pki/peer.crt")));
        assert!(flags.client_cert_auth && !flags.peer_client_cert_auth);
        assert_eq!(flags.tls.peer_cert_allowed_cn, ["m1", "m2"]);
        assert_eq!(check(&flags), Ok(()));
    }

    #[test]
    fn what_is_unknown_or_contradicts_itself_is_refused() {
        for (text, reason) in [
            ("nmae: x", "--nmae"),
            ("peer-transport-security: {x: 1}", "--peer-x"),
            ("- a", "not a mapping"),
            ("election-timeout: abc", "abc"),
        ] {
            let error = parse(text).map(drop).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let uneven = parse("heartbeat-interval: 100\nelection-timeout: 400").unwrap();
        assert!(check(&uneven).unwrap_err().contains("at least as 5 times"));
    }
}
