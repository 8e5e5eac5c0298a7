//! Asking containers how they are: one task per probe of a running container, verdicts into the pod's knowledge.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::Notify, task::JoinHandle};
use xebec_node_core::{
    actual::{Actual, State},
    plan::Knowledge,
    pod,
    probe::{KINDS, Kind, Machine},
};
use xebec_proto::grpc::health::v1 as health;

use super::{Kubelet, http_get};

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The probes of one pod. Its size is bounded by the pod's containers.
pub(super) struct Probes {
    kubelet: Arc<Kubelet>,
    knowledge: Arc<Mutex<Knowledge>>,
    wake: Arc<Notify>,
    tasks: HashMap<(String, Kind), Task>,
}

impl Probes {
    pub(super) fn new(kubelet: Arc<Kubelet>, knowledge: Arc<Mutex<Knowledge>>, wake: Arc<Notify>) -> Self {
        Self { kubelet, knowledge, wake, tasks: HashMap::new() }
    }

    /// Stops all probing.
    pub(super) fn clear(&mut self) {
        self.tasks.clear();
    }

    /// Starts what is missing, stops what is over. Liveness and readiness wait for the startup probe.
    pub(super) fn sync(&mut self, pod: &Pod, actual: &Actual) {
        let mut wanted = HashMap::new();
        for container in actual.containers.iter().filter(|container| container.state == State::Running) {
            let Some(spec) = pod::container(pod, &container.name) else { continue };
            let started = self.knowledge.lock().started(spec, &container.id);
            for kind in KINDS {
                if let Some(probe) = kind.of(spec)
                    && (kind == Kind::Startup) != started
                {
                    wanted.insert((container.id.clone(), kind), (container, spec, probe));
                }
            }
        }
        self.tasks.retain(|key, _| wanted.contains_key(key));
        for (key, (container, spec, probe)) in wanted {
            if self.tasks.contains_key(&key) {
                continue;
            }
            if !self.kubelet.parts.runtime.is_real() {
                // Nobody is there to ask: a hollow container is as well as it says.
                let changed = self.knowledge.lock().verdicts.insert(key.clone(), true) != Some(true);
                if changed {
                    self.wake.notify_one();
                }
                continue;
            }
            let started_at = container.started_at.unwrap_or(container.created_at);
            let sandbox = actual.sandbox();
            let pod_ip = if pod::host_network(pod) {
                self.kubelet.host.ip.clone()
            } else {
                sandbox.and_then(|sandbox| sandbox.ips.first().cloned()).unwrap_or_default()
            };
            let task = ProbeTask {
                kubelet: self.kubelet.clone(),
                knowledge: self.knowledge.clone(),
                wake: self.wake.clone(),
                pod: pod.clone(),
                spec: spec.clone(),
                probe: probe.clone(),
                kind: key.1,
                id: key.0.clone(),
                pod_ip,
                machine: Machine::new(key.1, probe, started_at),
            };
            self.tasks.insert(key, Task(tokio::spawn(task.run())));
        }
    }
}

struct ProbeTask {
    kubelet: Arc<Kubelet>,
    knowledge: Arc<Mutex<Knowledge>>,
    wake: Arc<Notify>,
    pod: Pod,
    spec: Container,
    probe: Probe,
    kind: Kind,
    id: String,
    pod_ip: String,
    machine: Machine,
}

impl ProbeTask {
    async fn run(mut self) {
        while !self.machine.is_over() {
            let clock = &self.kubelet.parts.clock;
            let pause = Duration::try_from(self.machine.due().duration_since(clock.now())).unwrap_or_default();
            tokio::time::sleep(pause).await;
            let limit = Duration::try_from(self.machine.timeout()).unwrap_or(Duration::from_secs(1));
            let result = self.ask(limit).await;
            if let Err(reason) = &result {
                let message = format!("{} probe failed: {reason}", self.kind.name());
                self.kubelet.event(&self.pod, Some(&self.spec.name), true, "Unhealthy", message);
            }
            let now = self.kubelet.parts.clock.now();
            if let Some(verdict) = self.machine.observe(result.is_ok(), now) {
                self.knowledge.lock().verdicts.insert((self.id.clone(), self.kind), verdict);
                self.wake.notify_one();
            }
        }
    }

    async fn ask(&self, limit: Duration) -> Result<(), String> {
        if let Some(exec) = &self.probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            let answer =
                self.kubelet.parts.runtime.exec(&self.id, command, limit).await.map_err(|error| error.to_string())?;
            return if answer.exit_code == 0 {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&answer.output).trim().to_owned())
            };
        }
        if let Some(get) = &self.probe.http_get {
            return http_get::http_get(get, &self.spec, &self.pod_ip, limit).await;
        }
        if let Some(socket) = &self.probe.tcp_socket {
            let port = http_get::port(&socket.port, &self.spec)?;
            let host = socket.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&self.pod_ip);
            let dial = TcpStream::connect((host, port));
            return match tokio::time::timeout(limit, dial).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("dial tcp {host}:{port}: {error}")),
                Err(_) => Err(format!("dial tcp {host}:{port}: no answer within {limit:?}")),
            };
        }
        if let Some(grpc) = &self.probe.grpc {
            let service = grpc.service.clone().unwrap_or_default();
            let call = ask_grpc(&self.pod_ip, grpc.port, service);
            return tokio::time::timeout(limit, call)
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {limit:?}")));
        }
        Ok(())
    }
}

async fn ask_grpc(ip: &str, port: i32, service: String) -> Result<(), String> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{ip}:{port}")).map_err(|e| e.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let mut client = health::health_client::HealthClient::new(channel);
    let answer =
        client.check(health::HealthCheckRequest { service }).await.map_err(|error| error.message().to_owned())?;
    let status = answer.into_inner().status;
    if status == health::health_check_response::ServingStatus::Serving as i32 {
        Ok(())
    } else {
        Err(format!("service unhealthy (responded with status {status})"))
    }
}
