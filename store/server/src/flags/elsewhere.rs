//! etcd's flags that mean nothing here, in one table: each is either accepted, and said to be without effect, or refused
//! with the reason. None is ignored in silence (etcd `server/embed/config.go`, `AddFlags`).

use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

/// What becomes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Accepted; why it has no effect.
    NoEffect(&'static str),
    /// Accepted with one of these values, which ask for nothing; refused with any other, and why.
    Only(&'static [&'static str], &'static str),
    /// Refused; why.
    Refused(&'static str),
}

use Verdict::{NoEffect, Only, Refused};

const LOG_BY_BYTES: &str = "the log is shortened by its size, as soon as the keyspace is on disk";
const NO_BBOLT: &str = "the keyspace is no bbolt file: it commits and frees space by itself";
const LOG_BY_ENVIRONMENT: &str = "logs go to stderr and are set with RUST_LOG";
const NO_TRACING: &str = "there is no OpenTelemetry exporter: spans go to the log";
const BACKGROUND: &str = "old versions are removed in the background, in bounded steps without pauses";
const OFF: &[&str] = &["false", ""];

/// Name, whether it may come without a value, and what becomes of it.
const TABLE: &[(&str, bool, Verdict)] = &[
    ("wal-dir", false, Only(&[""], "log and keyspace stay together under --data-dir: mount another disk there")),
    ("snapshot-count", false, NoEffect(LOG_BY_BYTES)),
    ("snapshot-catchup-entries", false, NoEffect(LOG_BY_BYTES)),
    ("max-wals", false, NoEffect(LOG_BY_BYTES)),
    ("max-snapshots", false, NoEffect("snapshots are not kept as files")),
    ("backend-bbolt-freelist-type", false, NoEffect(NO_BBOLT)),
    ("backend-batch-interval", false, NoEffect(NO_BBOLT)),
    ("backend-batch-limit", false, NoEffect(NO_BBOLT)),
    ("bootstrap-defrag-threshold-megabytes", false, NoEffect(NO_BBOLT)),
    ("experimental-bootstrap-defrag-threshold-megabytes", false, NoEffect(NO_BBOLT)),
    ("memory-mlock", true, Only(OFF, "nothing is kept in memory that must not be paged out")),
    ("unsafe-no-fsync", true, Only(OFF, "an acknowledged write is on disk, always")),
    (
        "initial-election-tick-advance",
        true,
        NoEffect("a member that starts asks its peers before it stands for election"),
    ),
    ("pre-vote", true, Only(&["true", ""], "pre-votes are what keeps a returning member from disturbing the others")),
    ("compaction-batch-limit", false, NoEffect(BACKGROUND)),
    ("compaction-sleep-interval", false, NoEffect(BACKGROUND)),
    ("compact-hash-check-time", false, NoEffect("with --corrupt-check-time members compare digests every few seconds")),
    ("downgrade-check-time", false, NoEffect("a downgrade is judged when it is asked for")),
    ("warning-apply-duration", false, NoEffect(LOG_BY_ENVIRONMENT)),
    ("warning-unary-request-duration", false, NoEffect(LOG_BY_ENVIRONMENT)),
    ("logger", false, Only(&["zap"], "etcd knows no other than zap, and here none is chosen")),
    ("log-level", false, NoEffect(LOG_BY_ENVIRONMENT)),
    ("log-format", false, NoEffect(LOG_BY_ENVIRONMENT)),
    ("log-outputs", false, Only(&["default", "stderr", ""], "logs go to stderr: let the service manager keep them")),
    ("enable-log-rotation", true, Only(OFF, "logs go to stderr: let the service manager rotate them")),
    ("log-rotation-config-json", false, NoEffect("logs go to stderr")),
    ("enable-pprof", true, Only(OFF, "pprof is Go's: profile with perf")),
    ("enable-distributed-tracing", true, Only(OFF, NO_TRACING)),
    ("distributed-tracing-address", false, NoEffect(NO_TRACING)),
    ("distributed-tracing-service-name", false, NoEffect(NO_TRACING)),
    ("distributed-tracing-instance-id", false, NoEffect(NO_TRACING)),
    ("distributed-tracing-sampling-rate", false, NoEffect(NO_TRACING)),
    ("feature-gates", false, Only(&[""], "etcd's feature gates are not here")),
    (
        "auto-tls",
        true,
        Only(OFF, "clients could not verify a certificate that the server makes for itself: give --cert-file"),
    ),
    (
        "peer-auto-tls",
        true,
        Only(
            OFF,
            "with certificates nobody verifies anybody could be a peer: give --peer-cert-file and --peer-trusted-ca-file",
        ),
    ),
    ("self-signed-cert-validity", false, NoEffect("no certificates are made")),
    ("client-cert-file", false, NoEffect("the gateway reaches the services without a connection")),
    ("client-key-file", false, NoEffect("the gateway reaches the services without a connection")),
    ("peer-skip-client-san-verification", true, NoEffect("a peer's address is not compared with its certificate")),
    ("grpc-keepalive-min-time", false, NoEffect("clients are not sent away for probing often")),
    ("socket-reuse-port", true, Only(OFF, "two processes on one port would be two members under one name")),
    ("socket-reuse-address", true, NoEffect("addresses are always reused")),
    ("raft-read-timeout", false, NoEffect("peers are probed every second")),
    ("raft-write-timeout", false, NoEffect("peers are probed every second")),
    ("proxy", false, Only(&["off", ""], "there is no v2 proxy")),
    ("enable-v2", true, Only(OFF, "there is no v2 API")),
    ("v2-deprecation", false, NoEffect("there is no v2 API")),
    ("enable-grpc-proxy", true, Refused("there is no gRPC proxy: any member serves any request")),
];

/// The flags of the table that were given.
#[derive(Debug, Clone, Default)]
pub struct Elsewhere {
    given: Vec<(&'static str, String)>,
}

/// The table's names in the environment, in its order. clap wants names that live as long as the process.
static ENVIRONMENT: LazyLock<Vec<String>> =
    LazyLock::new(|| TABLE.iter().map(|(name, ..)| environment_name(name)).collect());

fn environment_name(name: &str) -> String {
    format!("ETCD_{}", name.to_uppercase().replace('-', "_"))
}

impl Elsewhere {
    /// Says what has no effect.
    ///
    /// # Errors
    /// The first flag that is refused, in a sentence.
    pub(crate) fn judge(&self) -> Result<(), String> {
        for (name, value) in &self.given {
            let verdict = TABLE.iter().find(|row| row.0 == *name).map(|row| row.2);
            match verdict {
                Some(Refused(reason)) => return Err(format!("--{name} is not supported: {reason}")),
                Some(Only(allowed, reason)) if !allowed.contains(&value.as_str()) => {
                    return Err(format!("--{name}={value} is not supported: {reason}"));
                }
                Some(NoEffect(reason)) => tracing::info!(flag = name, value, reason, "a flag has no effect"),
                Some(Only(..)) | None => {}
            }
        }
        Ok(())
    }
}

impl FromArgMatches for Elsewhere {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = TABLE.iter().filter_map(|(name, ..)| {
            // A flag that got a meaning of its own is not this table's any more.
            let value = matches.try_get_one::<String>(name).ok()??;
            Some((*name, value.clone()))
        });
        Ok(Self { given: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Elsewhere {
    fn augment_args(command: Command) -> Command {
        TABLE.iter().zip(&*ENVIRONMENT).fold(command, |command, ((name, is_switch, _), variable)| {
            if command.get_arguments().any(|known| known.get_long() == Some(name)) {
                return command;
            }
            let arg = Arg::new(*name).long(*name).env(variable.as_str()).hide(true).action(ArgAction::Set);
            command.arg(match is_switch {
                true => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
                false => arg,
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: crate::Flags,
    }

    fn judged(flags: &[&str]) -> Result<(), String> {
        let cli = Cli::try_parse_from(std::iter::once("store").chain(flags.iter().copied()));
        cli.map_err(|error| error.to_string())?.flags.elsewhere.judge()
    }

    #[test]
    fn flags_without_a_meaning_are_accepted_or_refused_by_name() {
        assert_eq!(
            judged(&["--snapshot-count", "10000", "--pre-vote", "--enable-pprof=false", "--logger=zap"]),
            Ok(())
        );
        for refused in ["--enable-pprof", "--auto-tls=true", "--unsafe-no-fsync", "--pre-vote=false", "--wal-dir=/x"] {
            let reason = judged(&[refused]).unwrap_err();
            let name = refused.split('=').next().unwrap();
            assert!(reason.starts_with(name) && reason.contains("is not supported: "), "{reason}");
        }
        assert!(judged(&["--no-such-flag"]).unwrap_err().contains("--no-such-flag"));
    }

    #[test]
    fn every_row_stands_once_and_the_environment_has_etcds_names() {
        let mut names: Vec<&str> = TABLE.iter().map(|row| row.0).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(environment_name("max-wals"), "ETCD_MAX_WALS");
    }
}
