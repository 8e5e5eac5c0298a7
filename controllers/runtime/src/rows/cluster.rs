use std::{net::IpAddr, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};
use xebec_client::ObjectKey;
use xebec_controllers_core::{Action, cluster_role, csr, meta, namespace, service_account, token};

use super::synced;
use crate::{
    context::Context,
    engine::{Controller, Decide},
    execute::Executor,
    garbage,
};

/// `default` ServiceAccounts and root certificates.
pub(crate) static SERVICE_ACCOUNT: Controller = Controller {
    name: "serviceaccount-controller",
    synced: synced!(namespaces, accounts, root_cas),
    wake: |context, queue| {
        context.world.namespaces.feed(queue);
        context.world.accounts.feed_with(queue, |account| {
            let ours = meta::name(account) == service_account::DEFAULT_ACCOUNT;
            ours.then(|| ObjectKey::cluster(meta::namespace(account))).into_iter().collect()
        });
        context.world.root_cas.feed_with(queue, |map| vec![ObjectKey::cluster(meta::namespace(map))]);
    },
    keys: |context| context.world.namespaces.keys(),
    decide: Decide::Cached(|context, key, _| {
        let world = &context.world;
        let Some(namespace) = world.namespaces.get(key) else { return Vec::new() };
        let named = |name: &str| ObjectKey::new(&key.name, name);
        service_account::reconcile(&service_account::Observed {
            namespace,
            account: world.accounts.get(&named(service_account::DEFAULT_ACCOUNT)),
            root_ca: world.root_cas.get(&named(service_account::ROOT_CA_CONFIG_MAP)),
            wanted_root_ca: context.settings.root_ca.clone(),
        })
    }),
    concurrent: true,
};

/// Bootstrap tokens, and ServiceAccount tokens in Secrets.
pub(crate) static TOKENS: Controller = Controller {
    name: "serviceaccount-token-controller",
    synced: synced!(secrets, accounts),
    wake: |context, queue| {
        context.world.secrets.feed_with(queue, |secret| {
            let tokens = [token::BOOTSTRAP, token::SERVICE_ACCOUNT];
            let ours = secret.type_.as_deref().is_some_and(|kind| tokens.contains(&kind));
            ours.then(|| ObjectKey::of(secret)).into_iter().collect()
        });
        let world = Arc::downgrade(&context.world);
        context.world.accounts.feed_with(queue, move |account| {
            let Some(world) = world.upgrade() else { return Vec::new() };
            let here = world.secrets.namespace(meta::namespace(account));
            let tokens = here.iter().filter(|secret| {
                secret.type_.as_deref() == Some(token::SERVICE_ACCOUNT)
                    && token::account_name(secret) == Some(meta::name(account))
            });
            tokens.map(|secret| ObjectKey::of(&**secret)).collect()
        });
    },
    keys: |context| context.world.secrets.keys(),
    decide: Decide::Cached(|context, key, _| {
        let world = &context.world;
        let Some(secret) = world.secrets.get(key) else { return Vec::new() };
        let legacy = secret.type_.as_deref() == Some(token::SERVICE_ACCOUNT);
        if legacy && !context.settings.fills_tokens {
            return Vec::new();
        }
        let account =
            token::account_name(&secret).and_then(|name| world.accounts.get(&ObjectKey::new(&key.namespace, name)));
        token::reconcile(&token::Observed {
            secret,
            account,
            root_ca: context.settings.root_ca.clone(),
            now: Timestamp::now(),
        })
    }),
    concurrent: true,
};

/// Namespaces that end.
pub(crate) static NAMESPACE: Controller = Controller {
    name: "namespace-controller",
    synced: synced!(namespaces),
    wake: |context, queue| {
        context.world.namespaces.feed_with(queue, |namespace| {
            meta::is_deleting(namespace).then(|| ObjectKey::of(namespace)).into_iter().collect()
        });
        context.garbage.wake_namespaces(context, queue);
    },
    keys: |context| context.world.namespaces.keys(),
    decide: Decide::Live(empty_namespace),
    concurrent: true,
};

fn empty_namespace<'a>(
    context: &'a Context,
    executor: &'a Executor,
    key: &'a ObjectKey,
) -> BoxFuture<'a, Result<Vec<Action>, kube::Error>> {
    async move {
        let Some(namespace) = context.world.namespaces.get(key) else { return Ok(Vec::new()) };
        if !meta::is_deleting(&*namespace) {
            return Ok(Vec::new());
        }
        let (remaining, failures) = context.discovery.contents(&executor.client, &key.name).await?;
        Ok(namespace::reconcile(&namespace::Observed { namespace, remaining, failures, now: Timestamp::now() }))
    }
    .boxed()
}

/// Objects whose owners are gone. Its keys are UIDs.
pub(crate) static GARBAGE: Controller = Controller {
    name: "garbage-collector-controller",
    synced: |context| Box::pin(context.garbage.complete()),
    wake: |context, queue| context.garbage.wake(queue),
    keys: |context| context.garbage.suspects(),
    decide: Decide::Live(garbage::decide),
    concurrent: true,
};

/// CertificateSigningRequests.
pub(crate) static CERTIFICATES: Controller = Controller {
    name: "certificatesigningrequest-controller",
    synced: synced!(requests, nodes),
    wake: |context, queue| {
        context.world.requests.feed(queue);
        // A node's serving certificate waits for the node's addresses.
        let world = Arc::downgrade(&context.world);
        context.world.nodes.feed_with(queue, move |node| {
            let user = format!("system:node:{}", meta::name(node));
            let Some(world) = world.upgrade() else { return Vec::new() };
            let all = world.requests.list();
            let theirs = all.iter().filter(|request| request.spec.username.as_deref() == Some(&user));
            theirs.map(|request| ObjectKey::of(&**request)).collect()
        });
    },
    keys: |context| context.world.requests.keys(),
    decide: Decide::Cached(|context, key, _| {
        let world = &context.world;
        let Some(request) = world.requests.get(key) else { return Vec::new() };
        let node = request
            .spec
            .username
            .as_deref()
            .and_then(|user| user.strip_prefix("system:node:"))
            .and_then(|name| world.nodes.get(&ObjectKey::cluster(name)));
        csr::reconcile(&csr::Observed {
            parsed: parse(&request),
            request,
            node,
            signs: context.settings.signs,
            validity_max: context.settings.signing_validity_max,
            now: Timestamp::now(),
        })
    }),
    concurrent: true,
};

/// ClusterRoles made of others.
pub(crate) static AGGREGATION: Controller = Controller {
    name: "clusterrole-aggregation-controller",
    synced: synced!(cluster_roles),
    wake: |context, queue| {
        let world = Arc::downgrade(&context.world);
        let queue = queue.clone();
        context.world.cluster_roles.on_change(move |_| {
            let Some(world) = world.upgrade() else { return };
            let all = world.cluster_roles.list();
            let made = all.iter().filter(|role| role.aggregation_rule.is_some());
            made.for_each(|role| queue.add(ObjectKey::of(&**role)));
        });
    },
    keys: |context| context.world.cluster_roles.keys(),
    decide: Decide::Cached(|context, key, _| {
        let roles = &context.world.cluster_roles;
        let role = roles.get(key).filter(|role| role.aggregation_rule.is_some());
        role.map(|role| cluster_role::reconcile(&role, &roles.list())).unwrap_or_default()
    }),
    concurrent: true,
};

/// Reads the request's PEM, and checks that whoever made it has the key.
fn parse(request: &CertificateSigningRequest) -> Result<csr::Parsed, String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(&request.spec.request.0)
        .map_err(|error| format!("spec.request is not PEM: {error}"))?;
    let (_, parsed) = X509CertificationRequest::from_der(&pem.contents)
        .map_err(|error| format!("spec.request is not a PKCS#10 request: {error}"))?;
    let subject = &parsed.certification_request_info.subject;
    let texts = |attributes: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
        let texts = attributes.into_iter().filter_map(|value| value.as_str().ok());
        texts.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut names = csr::Parsed {
        common_name: texts(subject.iter_common_name().collect()).pop().unwrap_or_default(),
        organizations: texts(subject.iter_organization().collect()),
        proven: parsed.verify_signature().is_ok(),
        ..csr::Parsed::default()
    };
    for extension in parsed.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(list) = extension else { continue };
        for name in &list.general_names {
            match name {
                GeneralName::DNSName(name) => names.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => match address(bytes) {
                    Some(address) => names.addresses.push(address),
                    None => names.other_names += 1,
                },
                _ => names.other_names += 1,
            }
        }
    }
    Ok(names)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
