//! Collects the descriptions of API types and fields, which OpenAPI and `kubectl explain` show, from the schemas of
//! k8s-openapi into one compressed file: `OUT_DIR/descriptions.gz`.
//!
//! A line `T <OpenAPI name>\t<description>` per type, a line `F <field>\t<description>` per field of it.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use k8s_openapi::api as k8s;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
use schemars::SchemaGenerator;
use serde_json::Value;

macro_rules! kinds {
    ($generator:ident: $($path:ident :: $version:ident :: { $($kind:ident),* }),* $(,)?) => {
        $($($generator.subschema_for::<k8s::$path::$version::$kind>();)*)*
    };
}

macro_rules! plain {
    ($generator:ident: $($kind:ty),* $(,)?) => { $($generator.subschema_for::<$kind>();)* };
}

fn collect(generator: &mut SchemaGenerator) {
    kinds!(generator:
        core::v1::{ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate,
            ReplicationController, ResourceQuota, Secret, Service, ServiceAccount, ComponentStatus},
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration},
        admissionregistration::v1beta1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding},
        apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
        autoscaling::v1::{HorizontalPodAutoscaler},
        autoscaling::v2::{HorizontalPodAutoscaler},
        batch::v1::{CronJob, Job},
        certificates::v1::{CertificateSigningRequest},
        certificates::v1beta1::{ClusterTrustBundle, PodCertificateRequest},
        coordination::v1::{Lease},
        coordination::v1beta1::{LeaseCandidate},
        discovery::v1::{EndpointSlice},
        events::v1::{Event},
        flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration},
        apiserverinternal::v1alpha1::{StorageVersion},
        networking::v1::{IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR},
        node::v1::{RuntimeClass},
        policy::v1::{PodDisruptionBudget},
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
        resource::v1::{DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice},
        resource::v1alpha3::{DeviceTaintRule},
        scheduling::v1::{PriorityClass},
        scheduling::v1alpha1::{Workload},
        storagemigration::v1beta1::{StorageVersionMigration},
        storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass},
    );
    plain!(generator:
        apiextensions::CustomResourceDefinition, apiregistration::APIService, meta::ListMeta,
        k8s::core::v1::Binding, k8s::policy::v1::Eviction, k8s::autoscaling::v1::Scale,
        k8s::authentication::v1::SelfSubjectReview, k8s::authentication::v1::TokenRequest, k8s::authentication::v1::TokenReview,
        k8s::authorization::v1::LocalSubjectAccessReview, k8s::authorization::v1::SelfSubjectAccessReview,
        k8s::authorization::v1::SelfSubjectRulesReview, k8s::authorization::v1::SubjectAccessReview,
        meta::APIGroup, meta::APIGroupList, meta::APIResourceList, meta::DeleteOptions, meta::Status, meta::Patch,
    );
}

/// One line, whatever the description holds.
fn line(out: &mut String, tag: char, name: &str, schema: &Value) {
    let description = schema.get("description").and_then(Value::as_str).unwrap_or("");
    out.push(tag);
    out.push(' ');
    out.push_str(name);
    out.push('\t');
    out.push_str(&description.replace('\\', "\\\\").replace('\n', "\\n"));
    out.push('\n');
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut generator = SchemaGenerator::default();
    collect(&mut generator);
    let mut out = String::new();
    for (name, schema) in generator.definitions() {
        line(&mut out, 'T', name, schema);
        for (field, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            line(&mut out, 'F', field, schema);
        }
    }
    let directory = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    let mut file =
        GzEncoder::new(std::fs::File::create(Path::new(&directory).join("descriptions.gz"))?, Compression::best());
    file.write_all(out.as_bytes())?;
    file.finish()?;
    Ok(())
}
