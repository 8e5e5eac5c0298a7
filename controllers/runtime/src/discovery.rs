use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::{Client, ResourceExt, core::PartialObjectMeta};
use parking_lot::Mutex;
use serde::Deserialize;
use xebec_client::failure;
use xebec_controllers_core::{Resource, namespace::Remaining};

/// Age at which what the server serves is asked anew.
const FRESH: Duration = Duration::from_secs(30);
/// Kinds asked for at once.
const LISTS_AT_ONCE_MAX: usize = 8;
/// Objects per page of a listing.
const PAGE_OBJECTS: u32 = 500;
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// A kind the API server serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) resource: Resource,
    pub(crate) verbs: Vec<String>,
}

impl Served {
    pub(crate) fn allows(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|have| have == verb))
    }
}

/// What the API server serves, and what it would not say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) kinds: Vec<Served>,
    pub(crate) failures: Vec<String>,
}

impl Catalog {
    /// The kind an owner reference names, in whatever version.
    pub(crate) fn find(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        self.kinds
            .iter()
            .map(|served| &served.resource)
            .find(|resource| resource.group == group && resource.kind == kind)
    }
}

/// Remembers what the API server serves.
#[derive(Default)]
pub(crate) struct Discovery {
    last: Mutex<Option<(Instant, Arc<Catalog>)>>,
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<PartialObjectMeta>,
}

#[derive(Default, Deserialize)]
struct PageMeta {
    #[serde(rename = "continue", default)]
    next: String,
}

impl Discovery {
    /// Asks anew at the next use.
    pub(crate) fn forget(&self) {
        *self.last.lock() = None;
    }

    /// What is served, at most [`FRESH`] old.
    pub(crate) async fn catalog(&self, client: &Client) -> Result<Arc<Catalog>, kube::Error> {
        if let Some((at, catalog)) = &*self.last.lock()
            && at.elapsed() < FRESH
            && catalog.failures.is_empty()
        {
            return Ok(Arc::clone(catalog));
        }
        let catalog = Arc::new(discover(client).await?);
        *self.last.lock() = Some((Instant::now(), Arc::clone(&catalog)));
        Ok(catalog)
    }

    /// What is left in a namespace, kind by kind, and which kinds could not be asked.
    pub(crate) async fn contents(
        &self,
        client: &Client,
        namespace: &str,
    ) -> Result<(Vec<Remaining>, Vec<String>), kube::Error> {
        let catalog = self.catalog(client).await?;
        let mut failures = catalog.failures.clone();
        let kinds: Vec<Resource> = catalog
            .kinds
            .iter()
            .filter(|served| served.resource.namespaced && served.allows(&["list", "delete"]))
            .map(|served| served.resource.clone())
            .collect();
        let found: Vec<_> = stream::iter(kinds)
            .map(|resource| async move {
                let listed = list(client, &resource, namespace).await;
                (resource, listed)
            })
            .buffered(LISTS_AT_ONCE_MAX)
            .collect()
            .await;
        let mut remaining = Vec::new();
        for (resource, listed) in found {
            match listed {
                Ok(objects) if objects.is_empty() => {}
                Ok(objects) => remaining.push(summarize(resource, &objects)),
                // The kind ended since it was discovered.
                Err(error) if failure::is_not_found(&error) => {}
                Err(error) => failures.push(format!("{resource}: {error}")),
            }
        }
        Ok((remaining, failures))
    }
}

fn summarize(resource: Resource, objects: &[PartialObjectMeta]) -> Remaining {
    let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
    for finalizer in objects.iter().flat_map(|object| object.finalizers()) {
        *finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    let deleting = objects.iter().filter(|o| o.metadata.deletion_timestamp.is_some()).count();
    Remaining { resource, count: objects.len(), deleting, finalizers }
}

async fn list(client: &Client, resource: &Resource, namespace: &str) -> Result<Vec<PartialObjectMeta>, kube::Error> {
    let mut objects = Vec::new();
    let mut next = String::new();
    loop {
        let path = resource.path(Some(namespace), None, None);
        let mut uri = format!("{path}?limit={PAGE_OBJECTS}");
        if !next.is_empty() {
            uri.push_str("&continue=");
            uri.push_str(&next);
        }
        let request = Request::get(uri)
            .header(http::header::ACCEPT, METADATA_LIST)
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        let page: Page = client.request(request).await?;
        objects.extend(page.items);
        if page.metadata.next.is_empty() {
            return Ok(objects);
        }
        next = page.metadata.next;
    }
}

async fn discover(client: &Client) -> Result<Catalog, kube::Error> {
    let mut catalog = Catalog::default();
    catalog.add("v1", client.list_core_api_resources("v1").await?);
    for group in client.list_api_groups().await?.groups {
        let version = group.preferred_version.as_ref().or(group.versions.first());
        let Some(version) = version else { continue };
        match client.list_api_group_resources(&version.group_version).await {
            Ok(list) => catalog.add(&version.group_version, list),
            Err(error) => catalog.failures.push(format!("{}: {error}", version.group_version)),
        }
    }
    Ok(catalog)
}

impl Catalog {
    fn add(&mut self, group_version: &str, list: APIResourceList) {
        let (group, version) = group_version.rsplit_once('/').unwrap_or(("", group_version));
        // Subresources have a slash in their name.
        for found in list.resources.into_iter().filter(|found| !found.name.contains('/')) {
            self.kinds.push(Served {
                resource: Resource {
                    group: Cow::Owned(group.to_owned()),
                    version: Cow::Owned(version.to_owned()),
                    plural: Cow::Owned(found.name),
                    kind: Cow::Owned(found.kind),
                    namespaced: found.namespaced,
                },
                verbs: found.verbs,
            });
        }
    }
}
