//! What /metrics shows, under upstream's names.

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Buckets of request durations, in seconds.
const DURATION_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Labels of a request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    verb: &'static str,
    resource: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerbLabels {
    verb: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CacheLabels {
    prefix: String,
}

/// Counters of an API server.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    durations: Family<VerbLabels, Histogram, fn() -> Histogram>,
    cached: Family<CacheLabels, Gauge>,
    /// Watches being served.
    pub watches: Gauge,
}

impl Metrics {
    /// All zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let durations: Family<VerbLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS));
        let cached = Family::default();
        let watches = Gauge::default();
        registry.register("apiserver_request", "Requests by verb, resource and code", requests.clone());
        registry.register("apiserver_request_duration_seconds", "Durations of requests but watches", durations.clone());
        registry.register("apiserver_longrunning_watches", "Watches being served", watches.clone());
        registry.register("apiserver_storage_objects", "Objects in each running watch cache", cached.clone());
        Self { registry: Mutex::new(registry), requests, durations, cached, watches }
    }

    /// Counts a request.
    pub fn observe(&self, verb: &'static str, resource: &str, code: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { verb, resource: resource.to_owned(), code }).inc();
        if verb != "watch" {
            self.durations.get_or_create(&VerbLabels { verb }).observe(took.as_secs_f64());
        }
    }

    /// The text format; `caches` are sizes by prefix.
    pub fn render(&self, caches: Vec<(String, usize)>) -> Result<String, std::fmt::Error> {
        for (prefix, size) in caches {
            self.cached.get_or_create(&CacheLabels { prefix }).set(i64::try_from(size).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry.lock())?;
        Ok(text)
    }
}
