//! Numbers that are counted, and Prometheus' text format for them, version 0.0.4.
//!
//! By hand, because etcd's names do not follow OpenMetrics (gauges that end in `_total`, counters that do not), and
//! dashboards know these names.

use std::{
    fmt::{Display, Write},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use xebec_store_log::DurationCounts;

/// The content type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A number that grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.inc_by(1);
    }

    pub fn inc_by(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default, Clone)]
pub(crate) struct Gauge(Arc<AtomicI64>);

impl Gauge {
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn dec(&self) {
        self.dec_by(1);
    }

    pub fn dec_by(&self, by: i64) {
        self.0.fetch_sub(by, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one until what comes back is dropped.
    pub fn hold(&self) -> HeldGauge {
        self.inc();
        HeldGauge(self.clone())
    }
}

/// One, counted in a gauge.
pub(crate) struct HeldGauge(Gauge);

impl Drop for HeldGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Upper bounds of the buckets for gRPC calls, in seconds (Prometheus' default, as grpc-ecosystem's).
const CALL_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Durations by buckets.
#[derive(Debug, Default)]
pub(crate) struct CallDurations {
    buckets: [AtomicU64; CALL_SECONDS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl CallDurations {
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(bucket) = CALL_SECONDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Text in the making.
#[derive(Debug, Default)]
pub(crate) struct Exposition(String);

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    pub fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        self.0.write_fmt(line).unwrap_or_default();
        self.0.push('\n');
    }

    /// Begins a family of samples.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// One sample of the family that was begun.
    pub fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        let mut text = String::new();
        for (key, value) in labels {
            text.push(if text.is_empty() { '{' } else { ',' });
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(text, "{key}=\"{value}\"").unwrap_or_default();
        }
        if !text.is_empty() {
            text.push('}');
        }
        self.line(format_args!("{name}{text} {value}"));
    }

    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// A histogram's samples: buckets as pairs of bound and count (not yet summed up), then the sum and the count.
    pub fn buckets(
        &mut self,
        name: &str,
        labels: Labels<'_>,
        buckets: impl Iterator<Item = (f64, u64)>,
        count: u64,
        sum_seconds: f64,
    ) {
        let (bucket_name, mut below) = (format!("{name}_bucket"), 0);
        let bucket = |this: &mut Self, bound: &str, value: u64| {
            let with_bound: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound)]).collect();
            this.sample(&bucket_name, &with_bound, value);
        };
        for (bound, here) in buckets {
            below += here;
            bucket(self, &bound.to_string(), below);
        }
        bucket(self, "+Inf", count);
        self.sample(&format!("{name}_sum"), labels, sum_seconds);
        self.sample(&format!("{name}_count"), labels, count);
    }

    pub fn duration_counts(&mut self, name: &str, labels: Labels<'_>, counts: &DurationCounts) {
        self.buckets(name, labels, counts.buckets.iter().copied(), counts.count, counts.sum_seconds);
    }

    pub fn call_durations(&mut self, name: &str, labels: Labels<'_>, durations: &CallDurations) {
        let buckets = durations.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let sum_seconds = durations.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let count = durations.count.load(Ordering::Relaxed);
        self.buckets(name, labels, CALL_SECONDS.into_iter().zip(buckets), count, sum_seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_prometheus() {
        let mut exposition = Exposition::default();
        exposition.counter("hits_total", "Hits", 3);
        exposition.family("seconds", "histogram", "Time");
        let durations = CallDurations::default();
        durations.observe(Duration::from_millis(20));
        durations.observe(Duration::from_secs(20));
        exposition.call_durations("seconds", &[("path", "a\"b")], &durations);
        let text = exposition.into_text();
        for line in [
            "# HELP hits_total Hits\n# TYPE hits_total counter\nhits_total 3\n",
            "seconds_bucket{path=\"a\\\"b\",le=\"0.01\"} 0\n",
            "seconds_bucket{path=\"a\\\"b\",le=\"10\"} 1\n",
            "seconds_bucket{path=\"a\\\"b\",le=\"+Inf\"} 2\n",
            "seconds_sum{path=\"a\\\"b\"} 20.02\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
