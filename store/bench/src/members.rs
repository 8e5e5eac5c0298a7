//! Three members of one kind as processes on loopback, with etcd's flags.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use xebec_proto::etcdserverpb::{
    PutRequest, StatusRequest, kv_client::KvClient, maintenance_client::MaintenanceClient,
};

use crate::line::Line;

/// Members of a cluster.
pub const MEMBERS: usize = 3;
/// Longest wait for a cluster or a member to come up.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Pause between two looks at whether it has.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// A running cluster. Its processes and data are gone when this is dropped.
pub struct Members {
    binary: PathBuf,
    dir: TempDir,
    client_ports: Vec<u16>,
    peer_ports: Vec<u16>,
    children: Vec<Option<Child>>,
}

impl Members {
    /// Starts three members with empty data below `dir` and waits until each has written.
    ///
    /// # Errors
    /// The binary does not start, or no leader is found in time.
    pub async fn start(binary: &Path, dir: &Path) -> Result<Self> {
        let ports = free_ports(MEMBERS * 2)?;
        let mut members = Self {
            binary: binary.to_path_buf(),
            dir: TempDir::with_prefix_in("store-bench-", dir)?,
            client_ports: ports[..MEMBERS].to_vec(),
            peer_ports: ports[MEMBERS..].to_vec(),
            children: (0..MEMBERS).map(|_| None).collect(),
        };
        for number in 0..MEMBERS {
            members.start_one(number)?;
        }
        for number in 0..MEMBERS {
            members.wait_until_writable(number).await?;
        }
        Ok(members)
    }

    /// Starts one member, again or for the first time.
    ///
    /// # Errors
    /// The binary does not start.
    pub fn start_one(&mut self, number: usize) -> Result<()> {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let initial: Vec<String> =
            self.peer_ports.iter().enumerate().map(|(n, port)| format!("m{n}={}", url(*port))).collect();
        let mut command = Command::new(&self.binary);
        if self.binary.file_name().is_some_and(|name| name == "xebec") {
            command.arg("store");
        }
        let log = std::fs::File::create(self.dir.path().join(format!("m{number}.log")))?;
        command
            .arg(format!("--name=m{number}"))
            .arg(format!("--data-dir={}", self.dir.path().join(format!("m{number}")).display()))
            .arg(format!("--listen-client-urls={}", url(self.client_ports[number])))
            .arg(format!("--advertise-client-urls={}", url(self.client_ports[number])))
            .arg(format!("--listen-peer-urls={}", url(self.peer_ports[number])))
            .arg(format!("--initial-advertise-peer-urls={}", url(self.peer_ports[number])))
            .arg(format!("--initial-cluster={}", initial.join(",")))
            .arg("--initial-cluster-state=new")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().with_context(|| self.binary.display().to_string())?;
        self.children[number] = Some(child);
        Ok(())
    }

    /// The running members' process ids.
    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().flatten().map(Child::id).collect()
    }

    /// Kills a member with SIGKILL.
    ///
    /// # Errors
    /// It could not be killed.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        if let Some(mut child) = self.children[number].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// A new connection to a member.
    ///
    /// # Errors
    /// The address is refused by the client library.
    pub fn connect(&self, number: usize) -> Result<Channel> {
        let url = format!("http://127.0.0.1:{}", self.client_ports[number % MEMBERS]);
        Ok(Endpoint::from_shared(url)?.tcp_nodelay(true).connect_lazy())
    }

    /// A new connection to a member for single requests, which is made when it is needed.
    ///
    /// # Errors
    /// As [`Line::new`].
    pub fn line(&self, number: usize) -> Result<Line> {
        Line::new(self.client_ports[number % MEMBERS])
    }

    /// Which member leads.
    ///
    /// # Errors
    /// Nobody says so in time.
    pub async fn leader(&self) -> Result<usize> {
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            for number in 0..MEMBERS {
                let mut client = MaintenanceClient::new(self.connect(number)?);
                if self.children[number].is_some()
                    && let Ok(status) = client.status(StatusRequest {}).await
                    && let status = status.into_inner()
                    && status.header.is_some_and(|header| header.member_id == status.leader)
                {
                    return Ok(number);
                }
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        bail!("no leader within {START_LIMIT:?}")
    }

    /// Waits until a write through that member is acknowledged.
    ///
    /// # Errors
    /// It is not in time.
    pub async fn wait_until_writable(&self, number: usize) -> Result<()> {
        let started = Instant::now();
        let mut client = KvClient::new(self.connect(number)?);
        loop {
            let request = PutRequest { key: "ready".into(), ..Default::default() };
            match client.put(request).await {
                Ok(_) => return Ok(()),
                Err(status) if started.elapsed() > START_LIMIT => {
                    bail!("member {number} of {} does not write: {status}", self.binary.display())
                }
                Err(_) => tokio::time::sleep(LOOK_PAUSE).await,
            }
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            if child.kill().is_ok() && child.wait().is_err() {
                eprintln!("process {} is still there", child.id());
            }
        }
    }
}

fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
