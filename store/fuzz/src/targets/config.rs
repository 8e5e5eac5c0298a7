//! Configuration.

use anyhow::Result;
use xebec_store::fuzzing::{read_config, read_flags};

use super::{Target, outcome};
use crate::input::Input;

/// `--config-file` (even kinds) and flags, one a line (odd kinds).
pub struct Config;

const FILE: &str = "name: m1
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
quota-backend-bytes: 0
auto-compaction-mode: periodic
auto-compaction-retention: \"1h\"
cors: '*'
client-transport-security:
  cert-file: /pki/server.crt
  client-cert-auth: true
peer-transport-security: {cert-file: /pki/peer.crt, allowed-cn: [m1, m2]}
";
const FLAGS: &str = "--name=m1
--initial-cluster=m1=http://a:1,m2=http://[::1]:2
--listen-client-urls=http://localhost:2379
--auto-compaction-retention=30m
--grpc-keepalive-timeout=20s
--election-timeout
500
--max-request-bytes=1572864
--listen-metrics-urls=http://:1
--force-new-cluster";

impl Target for Config {
    fn seeds(&self) -> Result<Vec<Input>> {
        Ok(vec![Input::one(0, FILE), Input::one(1, FLAGS)])
    }

    fn run(&mut self, input: &Input) -> u64 {
        let Some(part) = input.parts.first() else { return 0 };
        let text = String::from_utf8_lossy(&part.bytes);
        let read = if part.kind % 2 == 0 {
            read_config(&text)
        } else {
            read_flags(&text.lines().map(str::to_owned).collect::<Vec<_>>())
        };
        match read {
            Ok(_) => 1,
            Err(reason) => outcome(&reason),
        }
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"\n",
            b": ",
            b"- ",
            b"&a ",
            b"*a",
            b"{",
            b"}",
            b"[",
            b"]",
            b"|",
            b">",
            b"!!",
            b"\"",
            b"'",
            b"#",
            b"--",
            b"=",
            b"1h",
            b"ns",
            b"99999999999999999999",
            b"1e308",
            b"-1",
            b".5s",
            b"true",
            b"null",
            b"~",
            b"http://",
            b"[::1]",
            b":65536",
            b"--auto-compaction-retention=",
            b"--grpc-keepalive-interval=",
            b"--initial-cluster=",
            b"--corrupt-check-time=",
            b"--quota-backend-bytes=",
            b"--cipher-suites=",
            b"--tls-min-version=",
            b"--max-learners=",
            b"--heartbeat-interval=",
            b"--host-whitelist=",
            b"<<: *a",
            b"\xff",
        ]
    }
}
