//! The columns of each kind. A title ending in `*` shows with `-o wide` only; `#` marks integers, `?` booleans.

use super::Column;

/// Kinds with columns of their own.
#[cfg(test)]
pub(super) const KINDS: &[(&str, &str)] = &[
    ("", "Pod"),
    ("", "PodTemplate"),
    ("", "Service"),
    ("", "Node"),
    ("", "Namespace"),
    ("", "Event"),
    ("", "Endpoints"),
    ("", "ConfigMap"),
    ("", "Secret"),
    ("", "ServiceAccount"),
    ("", "PersistentVolume"),
    ("", "PersistentVolumeClaim"),
    ("", "ReplicationController"),
    ("", "ResourceQuota"),
    ("", "ComponentStatus"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("apps", "ControllerRevision"),
    ("batch", "Job"),
    ("batch", "CronJob"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("policy", "PodDisruptionBudget"),
    ("networking.k8s.io", "Ingress"),
    ("networking.k8s.io", "IngressClass"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("networking.k8s.io", "IPAddress"),
    ("networking.k8s.io", "ServiceCIDR"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("coordination.k8s.io", "Lease"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "Role"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "VolumeAttachment"),
    ("node.k8s.io", "RuntimeClass"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("apiregistration.k8s.io", "APIService"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("events.k8s.io", "Event"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
    ("autoscaling", "Scale"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("internal.apiserver.k8s.io", "StorageVersion"),
    ("resource.k8s.io", "ResourceClaim"),
    ("resource.k8s.io", "ResourceSlice"),
    ("storage.k8s.io", "VolumeAttributesClass"),
    ("storagemigration.k8s.io", "StorageVersionMigration"),
];

const WORKLOAD_WIDE: &str = "Containers*,Images*,Selector*";

pub(super) fn of(group: &str, kind: &str) -> Vec<Column> {
    let titles = titles(group, kind);
    let wide = match (group, kind) {
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") | ("batch", _) | ("", "ReplicationController") => {
            WORKLOAD_WIDE
        }
        _ => "",
    };
    titles.split(',').chain(wide.split(',')).filter(|title| !title.is_empty()).map(column).collect()
}

fn column(title: &'static str) -> Column {
    let (title, priority) = title.strip_suffix('*').map_or((title, 0), |title| (title, 1));
    let (title, kind) = match (title.strip_suffix('#'), title.strip_suffix('?'), title.strip_suffix('@')) {
        (Some(title), ..) => (title, "integer"),
        (_, Some(title), _) => (title, "boolean"),
        (.., Some(title)) => (title, "date"),
        _ => (title, "string"),
    };
    Column { name: title, kind, format: if title == "Name" { "name" } else { "" }, priority }
}

fn titles(group: &str, kind: &str) -> &'static str {
    match (group, kind) {
        ("", "Pod") => "Name,Ready,Status,Restarts,Age,IP*,Node*,Nominated Node*,Readiness Gates*",
        ("", "PodTemplate") => "Name,Containers,Images,Pod Labels",
        ("", "Service") => "Name,Type,Cluster-IP,External-IP,Port(s),Age,Selector*",
        ("", "Node") => {
            "Name,Status,Roles,Age,Version,Internal-IP*,External-IP*,OS-Image*,Kernel-Version*,Container-Runtime*"
        }
        ("", "Namespace") => "Name,Status,Age",
        ("" | "events.k8s.io", "Event") => {
            "Last Seen,Type,Reason,Object,Subobject*,Source*,Message,First Seen*,Count#*,Name*"
        }
        ("", "Endpoints") => "Name,Endpoints,Age",
        ("", "ConfigMap") => "Name,Data#,Age",
        ("", "Secret") => "Name,Type,Data#,Age",
        ("", "ServiceAccount") => "Name,Secrets#,Age",
        ("", "PersistentVolume") => {
            "Name,Capacity,Access Modes,Reclaim Policy,Status,Claim,StorageClass,VolumeAttributesClass,Reason,Age,VolumeMode*"
        }
        ("", "PersistentVolumeClaim") => {
            "Name,Status,Volume,Capacity,Access Modes,StorageClass,VolumeAttributesClass,Age,VolumeMode*"
        }
        ("", "ReplicationController") => "Name,Desired#,Current#,Ready#,Age",
        ("", "ResourceQuota") => "Name,Request,Limit,Age",
        ("", "ComponentStatus") => "Name,Status,Message,Error",
        ("apps", "Deployment") => "Name,Ready,Up-to-date#,Available#,Age",
        ("apps", "ReplicaSet") => "Name,Desired#,Current#,Ready#,Age",
        ("apps", "StatefulSet") => "Name,Ready,Age,Containers*,Images*",
        ("apps", "DaemonSet") => "Name,Desired#,Current#,Ready#,Up-to-date#,Available#,Node Selector,Age",
        ("apps", "ControllerRevision") => "Name,Controller,Revision#,Age",
        ("batch", "Job") => "Name,Status,Completions,Duration,Age",
        ("batch", "CronJob") => "Name,Schedule,Timezone,Suspend?,Active#,Last Schedule,Age",
        ("autoscaling", "HorizontalPodAutoscaler") => "Name,Reference,Targets,MinPods,MaxPods,Replicas#,Age",
        ("policy", "PodDisruptionBudget") => "Name,Min Available,Max Unavailable,Allowed Disruptions#,Age",
        ("networking.k8s.io", "Ingress") => "Name,Class,Hosts,Address,Ports,Age",
        ("networking.k8s.io", "IngressClass") => "Name,Controller,Parameters,Age",
        ("networking.k8s.io", "NetworkPolicy") => "Name,Pod-Selector,Age",
        ("networking.k8s.io", "IPAddress") => "Name,ParentRef,Age",
        ("networking.k8s.io", "ServiceCIDR") => "Name,CIDRs,Age",
        ("discovery.k8s.io", "EndpointSlice") => "Name,AddressType,Ports,Endpoints,Age",
        ("coordination.k8s.io", "Lease") => "Name,Holder,Age",
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            "Name,Age,SignerName,Requestor,RequestedDuration,Condition"
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            "Name,Role,Age,Users*,Groups*,ServiceAccounts*"
        }
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => "Name,Created At@",
        ("scheduling.k8s.io", "PriorityClass") => "Name,Value#,Global-Default?,Age,PreemptionPolicy",
        ("storage.k8s.io", "StorageClass") => {
            "Name,Provisioner,ReclaimPolicy,VolumeBindingMode,AllowVolumeExpansion?,Age"
        }
        ("storage.k8s.io", "CSIDriver") => {
            "Name,AttachRequired?,PodInfoOnMount?,StorageCapacity?,TokenRequests,RequiresRepublish?,Modes,Age"
        }
        ("storage.k8s.io", "CSINode") => "Name,Drivers#,Age",
        ("storage.k8s.io", "VolumeAttachment") => "Name,Attacher,PV,Node,Attached?,Age",
        ("node.k8s.io", "RuntimeClass") => "Name,Handler,Age",
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            "Name,Webhooks#,Age"
        }
        ("apiregistration.k8s.io", "APIService") => "Name,Service,Available,Age",
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => "Name,Validations#,ParamKind,Age",
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => "Name,Mutations#,ParamKind,Age",
        ("admissionregistration.k8s.io", _) => "Name,PolicyName,ParamRef,Age",
        ("autoscaling", "Scale") => "Name,Desired#,Available#,Age",
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => {
            "Name,PriorityLevel,MatchingPrecedence,DistinguisherMethod,Age,MissingPL"
        }
        ("flowcontrol.apiserver.k8s.io", _) => {
            "Name,Type,NominalConcurrencyShares,Queues,HandSize,QueueLengthLimit,Age"
        }
        ("internal.apiserver.k8s.io", "StorageVersion") => "Name,CommonEncodingVersion,StorageVersions,Age",
        ("resource.k8s.io", "ResourceClaim") => "Name,State,Age",
        ("resource.k8s.io", "ResourceSlice") => "Name,Node,Driver,Pool,Age",
        ("storage.k8s.io", "VolumeAttributesClass") => "Name,DriverName,Age",
        ("storagemigration.k8s.io", "StorageVersionMigration") => "Name,Resource",
        ("apiextensions.k8s.io", "CustomResourceDefinition") => "Name,Created At@",
        _ => "Name,Age",
    }
}
