//! What a master does beside serving: bootstrap objects, the `kubernetes` Service and its endpoints, compaction.

mod bootstrap;
mod compaction;
mod endpoints;

pub use bootstrap::bootstrap;
pub use compaction::compact;
pub use endpoints::present;

use crate::app::App;
use crate::handlers::Call;
use serde_json::Value;
use std::sync::Arc;
use xebec_api::{Status, meta};
use xebec_apiserver_core::request::{Verb, WriteOptions};

/// Creates an object, unless it exists.
async fn ensure(app: &Arc<App>, group: &str, resource: &str, object: &Value) -> Result<(), Status> {
    let served = app.objects.registry.preferred(group, resource).ok_or_else(Status::path_not_found)?;
    let (namespace, name) = (meta::namespace(object), meta::name(object));
    if app.objects.get(served, namespace, name).await?.is_some() {
        return Ok(());
    }
    let call = Call::internal(app, served, Verb::Create, namespace, "");
    let object = served.typed(object.clone());
    match crate::handlers::create_object(&call, object, &WriteOptions::default()).await {
        Ok(_) => Ok(()),
        // Another master was faster.
        Err(status) if status.code == 409 => Ok(()),
        Err(status) => Err(status),
    }
}

/// Makes an object the way `wanted` makes it out of what is stored, creating it if need be; `wanted` answers `None`
/// where nothing is to be done.
async fn reconcile(
    app: &Arc<App>,
    group: &str,
    resource: &str,
    object: &Value,
    wanted: impl Fn(&Value) -> Option<Value> + Send + Sync,
) -> Result<(), Status> {
    struct Reconcile<'a, F>(&'a F);
    impl<F: Fn(&Value) -> Option<Value> + Send + Sync> crate::handlers::Change for Reconcile<'_, F> {
        fn apply(&mut self, stored: &Value) -> Result<Value, Status> {
            Ok((self.0)(stored).unwrap_or_else(|| stored.clone()))
        }
        fn repeats(&self) -> bool {
            true
        }
    }
    ensure(app, group, resource, object).await?;
    let served = app.objects.registry.preferred(group, resource).ok_or_else(Status::path_not_found)?;
    let call = Call::internal(app, served, Verb::Update, meta::namespace(object), meta::name(object));
    let mut change = Reconcile(&wanted);
    crate::handlers::update_object(&call, meta::name(object), &WriteOptions::default(), &mut change).await.map(drop)
}
