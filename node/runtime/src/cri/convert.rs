//! CRI messages to the kubelet's own types.

use std::collections::HashMap;

use jiff::Timestamp;
use tonic::Code;
use xebec_node_core::{
    actual::{Container, Sandbox, State},
    labels,
};
use xebec_proto::runtime::v1 as cri;

use crate::runtime::{ImageInfo, PodRef, RuntimeError, Usage};

pub(super) fn error(status: &tonic::Status) -> RuntimeError {
    let message = status.message().to_owned();
    match status.code() {
        Code::NotFound => RuntimeError::NotFound(message),
        Code::Unavailable => RuntimeError::Unavailable(message),
        _ => RuntimeError::Failed(message),
    }
}

pub(super) fn pod_ref(found: &HashMap<String, String>) -> Option<PodRef> {
    Some(PodRef {
        uid: found.get(labels::POD_UID)?.clone(),
        namespace: found.get(labels::POD_NAMESPACE)?.clone(),
        name: found.get(labels::POD_NAME)?.clone(),
    })
}

fn time(nanoseconds: i64) -> Option<Timestamp> {
    // Kubernetes writes times in whole seconds; more digits would differ from what the API server gives back.
    (nanoseconds > 0).then(|| Timestamp::from_second(nanoseconds / 1_000_000_000).ok()).flatten()
}

fn exact_time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn sandbox(status: cri::PodSandboxStatus) -> Sandbox {
    let network = status.network.unwrap_or_default();
    let ips = std::iter::once(network.ip)
        .chain(network.additional_ips.into_iter().map(|more| more.ip))
        .filter(|ip| !ip.is_empty())
        .collect();
    Sandbox {
        id: status.id,
        attempt: status.metadata.unwrap_or_default().attempt,
        ready: status.state == cri::PodSandboxState::SandboxReady as i32,
        created_at: exact_time(status.created_at),
        ips,
    }
}

pub(super) fn container(status: cri::ContainerStatus, sandbox_id: &str) -> Container {
    let metadata = status.metadata.unwrap_or_default();
    let restart_count =
        status.annotations.get(labels::RESTART_COUNT).and_then(|count| count.parse().ok()).unwrap_or(metadata.attempt);
    Container {
        name: status.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or(metadata.name),
        id: status.id,
        sandbox_id: sandbox_id.to_owned(),
        restart_count,
        hash: status.annotations.get(labels::CONTAINER_HASH).cloned().unwrap_or_default(),
        state: match cri::ContainerState::try_from(status.state) {
            Ok(cri::ContainerState::ContainerCreated) => State::Created,
            Ok(cri::ContainerState::ContainerRunning) => State::Running,
            Ok(cri::ContainerState::ContainerExited) => State::Exited,
            _ => State::Unknown,
        },
        created_at: exact_time(status.created_at),
        started_at: time(status.started_at),
        finished_at: time(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        image: status.image.unwrap_or_default().image,
        image_id: if status.image_ref.is_empty() { status.image_id } else { status.image_ref },
    }
}

pub(super) fn image(found: cri::Image) -> ImageInfo {
    ImageInfo {
        id: found.id,
        names: found.repo_digests.into_iter().chain(found.repo_tags).collect(),
        size_bytes: found.size,
        uid: found.uid.map(|uid| uid.value),
        user: found.username,
    }
}

pub(super) fn usage(stats: cri::ContainerStats) -> Option<Usage> {
    let attributes = stats.attributes?;
    let of = |value: Option<cri::UInt64Value>| value.map_or(0, |value| value.value);
    Some(Usage {
        pod_uid: attributes.labels.get(labels::POD_UID)?.clone(),
        container: attributes.labels.get(labels::CONTAINER_NAME)?.clone(),
        cpu_nanoseconds: of(stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds)),
        memory_bytes: of(stats.memory.and_then(|memory| memory.working_set_bytes)),
    })
}
