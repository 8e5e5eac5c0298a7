//! Which kind has which rules.

use xebec_api::name_rules;

use super::strategy::{GenerationRule, Strategy, path_segment_name};
use crate::{defaults, validate};

const D: Strategy = Strategy::DEFAULT;
const SPEC: Strategy = Strategy { generation: GenerationRule::Spec, ..D };
const CONTENT: Strategy = Strategy { generation: GenerationRule::Content, ..D };
const RBAC: Strategy = Strategy {
    name: path_segment_name,
    default: defaults::rbac_binding,
    validate: validate::rbac,
    validate_update: validate::rbac_update,
    ..D
};

/// The rules of a built-in kind.
pub fn strategy_of(group: &str, kind: &str) -> &'static Strategy {
    match group {
        "" => core_strategy(kind),
        "apps" | "batch" | "autoscaling" => workload_strategy(kind),
        _ => other_strategy(group, kind),
    }
}

fn core_strategy(kind: &str) -> &'static Strategy {
    match kind {
        "Pod" => &Strategy {
            default: defaults::pod,
            prepare_create: validate::pod_prepare_create,
            validate: validate::pod,
            validate_update: validate::pod_update,
            validate_status_update: validate::pod_status_update,
            ..SPEC
        },
        "Service" => &Strategy {
            default: defaults::service,
            name: name_rules::dns_1035_label,
            validate: validate::service,
            validate_update: validate::service_update,
            ..D
        },
        "Namespace" => &Strategy {
            default: defaults::namespace,
            prepare_create: validate::namespace_prepare_create,
            prepare_update: validate::namespace_prepare_update,
            validate: validate::namespace,
            name: name_rules::dns_label,
            ..D
        },
        "Node" => {
            &Strategy { default: defaults::node, validate: validate::node, validate_update: validate::node_update, ..D }
        }
        "ConfigMap" => &Strategy { validate: validate::config_map, validate_update: validate::config_map_update, ..D },
        "Secret" => &Strategy {
            default: defaults::secret,
            validate: validate::secret,
            validate_update: validate::secret_update,
            ..D
        },
        "Endpoints" => {
            &Strategy { default: defaults::endpoints, validate: validate::endpoints, create_on_update: true, ..D }
        }
        "PersistentVolume" => &Strategy {
            default: defaults::persistent_volume,
            prepare_create: validate::pending_phase,
            validate: validate::persistent_volume,
            ..D
        },
        "PersistentVolumeClaim" => &Strategy {
            default: defaults::persistent_volume_claim,
            prepare_create: validate::pending_phase,
            validate: validate::persistent_volume_claim,
            validate_update: validate::persistent_volume_claim_update,
            ..D
        },
        "Event" => &Strategy { default: defaults::event, create_on_update: true, ..D },
        "ReplicationController" => {
            &Strategy { default: defaults::replication_controller, validate: validate::replication_controller, ..SPEC }
        }
        "PodTemplate" => &Strategy { default: defaults::pod_template, validate: validate::pod_template, ..SPEC },
        "LimitRange" => &Strategy { default: defaults::limit_range, create_on_update: true, ..D },
        "ServiceAccount" => &D,
        _ => &D,
    }
}

fn workload_strategy(kind: &str) -> &'static Strategy {
    match kind {
        "Deployment" => &Strategy {
            default: defaults::deployment,
            validate: validate::deployment,
            validate_update: validate::selector_immutable,
            ..SPEC
        },
        "ReplicaSet" => &Strategy {
            default: defaults::replica_set,
            validate: validate::replica_set,
            validate_update: validate::selector_immutable,
            ..SPEC
        },
        "StatefulSet" => &Strategy {
            default: defaults::stateful_set,
            validate: validate::stateful_set,
            validate_update: validate::stateful_set_update,
            ..SPEC
        },
        "DaemonSet" => &Strategy {
            default: defaults::daemon_set,
            validate: validate::daemon_set,
            validate_update: validate::selector_immutable,
            ..SPEC
        },
        "ControllerRevision" => &Strategy {
            validate: validate::controller_revision,
            validate_update: validate::controller_revision_update,
            ..D
        },
        "Job" => &Strategy {
            default: defaults::job,
            prepare_create: defaults::job_selector,
            validate: validate::job,
            validate_update: validate::job_update,
            ..SPEC
        },
        "CronJob" => &Strategy { default: defaults::cron_job, validate: validate::cron_job, ..SPEC },
        "HorizontalPodAutoscaler" => &Strategy {
            default: defaults::horizontal_pod_autoscaler,
            validate: validate::horizontal_pod_autoscaler,
            ..D
        },
        _ => &D,
    }
}

fn other_strategy(group: &str, kind: &str) -> &'static Strategy {
    match (group, kind) {
        ("rbac.authorization.k8s.io", _) => &RBAC,
        ("coordination.k8s.io", "Lease") => {
            &Strategy { validate: validate::lease, create_on_update: true, unconditional_update: false, ..D }
        }
        ("discovery.k8s.io", "EndpointSlice") => &Strategy {
            default: defaults::endpoint_slice,
            validate: validate::endpoint_slice,
            validate_update: validate::endpoint_slice_update,
            ..CONTENT
        },
        ("certificates.k8s.io", "CertificateSigningRequest") => &Strategy {
            default: defaults::certificate_signing_request,
            prepare_create: validate::csr_prepare_create,
            prepare_update: validate::csr_prepare_update,
            validate: validate::csr,
            ..D
        },
        ("policy", "PodDisruptionBudget") => {
            &Strategy { default: defaults::pod_disruption_budget, validate: validate::pod_disruption_budget, ..SPEC }
        }
        ("networking.k8s.io", _) => networking_strategy(kind),
        ("node.k8s.io", "RuntimeClass") => &Strategy { validate: validate::runtime_class, ..D },
        ("scheduling.k8s.io", "PriorityClass") => &Strategy {
            default: defaults::priority_class,
            validate: validate::priority_class,
            validate_update: validate::priority_class_update,
            ..D
        },
        ("storage.k8s.io", _) => storage_strategy(kind),
        ("admissionregistration.k8s.io", _) => {
            &Strategy { default: defaults::webhooks, validate: validate::admission, ..CONTENT }
        }
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => &Strategy {
            name: path_segment_name,
            default: defaults::flow_schema,
            validate: validate::flow_schema,
            ..SPEC
        },
        ("flowcontrol.apiserver.k8s.io", _) => {
            &Strategy { name: path_segment_name, validate: validate::priority_level, ..SPEC }
        }
        ("apiextensions.k8s.io", _) => &Strategy { validate: validate::custom_resource_definition, ..SPEC },
        ("apiregistration.k8s.io", _) => &Strategy { validate: validate::api_service, ..SPEC },
        // `kubernetes.io:signer:name`: a colon for every slash of the signer's name.
        ("certificates.k8s.io", "ClusterTrustBundle") => &Strategy { name: path_segment_name, ..D },
        ("events.k8s.io", "Event") => &Strategy { default: defaults::event, create_on_update: true, ..D },
        ("resource.k8s.io", "ResourceSlice") => &Strategy { validate: validate::resource_slice, ..SPEC },
        ("resource.k8s.io", "DeviceTaintRule") => &SPEC,
        _ => &D,
    }
}

fn networking_strategy(kind: &str) -> &'static Strategy {
    match kind {
        "Ingress" => &Strategy { validate: validate::ingress, ..SPEC },
        "IngressClass" => &Strategy { default: defaults::ingress_class, validate: validate::ingress_class, ..SPEC },
        "NetworkPolicy" => &Strategy { default: defaults::network_policy, validate: validate::network_policy, ..SPEC },
        "IPAddress" => &Strategy { name: |_| Vec::new(), validate: validate::ip_address, ..D },
        "ServiceCIDR" => &Strategy { validate: validate::service_cidr, ..D },
        _ => &D,
    }
}

fn storage_strategy(kind: &str) -> &'static Strategy {
    match kind {
        "StorageClass" => &Strategy {
            default: defaults::storage_class,
            validate: validate::storage_class,
            validate_update: validate::storage_class_update,
            ..D
        },
        "CSIDriver" => &Strategy { default: defaults::csi_driver, ..CONTENT },
        "CSIStorageCapacity" => &Strategy { validate: validate::csi_storage_capacity, ..D },
        "VolumeAttachment" => &Strategy { validate: validate::volume_attachment, ..D },
        "VolumeAttributesClass" => &Strategy { validate: validate::volume_attributes_class, ..D },
        _ => &D,
    }
}
