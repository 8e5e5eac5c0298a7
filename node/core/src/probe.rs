//! Probes as state machines: results and times go in, verdicts come out (`pkg/kubelet/prober/worker.go`).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Probe};

/// Which question a probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Has the container come up? The other two wait for it.
    Startup,
    /// Must it be killed?
    Liveness,
    /// May it get traffic?
    Readiness,
}

impl Kind {
    /// The word used in events and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// The container's probe of this kind.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// All kinds.
pub const KINDS: [Kind; 3] = [Kind::Startup, Kind::Liveness, Kind::Readiness];

/// One probe of one container: when it is due, and what its results amount to.
#[derive(Debug, Clone)]
pub struct Machine {
    kind: Kind,
    period: SignedDuration,
    timeout: SignedDuration,
    success_threshold: u32,
    failure_threshold: u32,
    due: Timestamp,
    run: u32,
    last: Option<bool>,
    verdict: bool,
}

impl Machine {
    /// A probe of a container that started at `started_at`. Until the first verdict, liveness holds and the others
    /// do not.
    pub fn new(kind: Kind, probe: &Probe, started_at: Timestamp) -> Self {
        let seconds = |value: Option<i32>, default: i32| {
            SignedDuration::from_secs(i64::from(value.filter(|value| *value > 0).unwrap_or(default)))
        };
        let threshold = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        let delay = SignedDuration::from_secs(i64::from(probe.initial_delay_seconds.unwrap_or(0).max(0)));
        Self {
            kind,
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: threshold(probe.success_threshold, 1),
            failure_threshold: threshold(probe.failure_threshold, 3),
            due: started_at.saturating_add(delay).unwrap_or(Timestamp::MAX),
            run: 0,
            last: None,
            verdict: kind == Kind::Liveness,
        }
    }

    /// When to probe next.
    pub fn due(&self) -> Timestamp {
        self.due
    }

    /// How long one attempt may take.
    pub fn timeout(&self) -> SignedDuration {
        self.timeout
    }

    /// What the results so far amount to.
    pub fn verdict(&self) -> bool {
        self.verdict
    }

    /// Takes one result; answers the verdict if it is a new one, or, for a failed liveness or startup probe, if it is
    /// confirmed. After a startup probe has held, it is over.
    pub fn observe(&mut self, success: bool, now: Timestamp) -> Option<bool> {
        self.due = now.saturating_add(self.period).unwrap_or(Timestamp::MAX);
        self.run = if self.last == Some(success) { self.run.saturating_add(1) } else { 1 };
        let first = self.last.is_none();
        self.last = Some(success);
        let threshold = if success { self.success_threshold } else { self.failure_threshold };
        if self.run < threshold {
            return None;
        }
        let changed = first || self.verdict != success || (!success && self.kind != Kind::Readiness);
        self.verdict = success;
        if !success && self.kind != Kind::Readiness {
            // The container is about to be killed: a fresh run of failures has to accuse its successor.
            self.run = 0;
        }
        changed.then_some(success)
    }

    /// Whether the probe has nothing more to say.
    pub fn is_over(&self) -> bool {
        self.kind == Kind::Startup && self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, success: i32, failure: i32, results: &[(bool, Option<bool>)]) {
        let probe = Probe {
            success_threshold: Some(success),
            failure_threshold: Some(failure),
            initial_delay_seconds: Some(5),
            period_seconds: Some(2),
            ..Default::default()
        };
        let start = Timestamp::from_second(100).unwrap();
        let mut machine = Machine::new(kind, &probe, start);
        assert_eq!(machine.due().as_second(), 105);
        assert_eq!(machine.timeout().as_secs(), 1);
        for (step, (result, expected)) in results.iter().enumerate() {
            let now = machine.due();
            assert_eq!(machine.observe(*result, now), *expected, "step {step} of {results:?}");
            assert_eq!(machine.due().as_second(), now.as_second() + 2);
        }
    }

    #[test]
    fn thresholds_count_consecutive_results() {
        check(Kind::Readiness, 1, 3, &[(true, Some(true)), (false, None), (false, None), (true, None)]);
        check(Kind::Readiness, 2, 2, &[(true, None), (true, Some(true)), (false, None), (false, Some(false))]);
        check(Kind::Liveness, 1, 2, &[(false, None), (false, Some(false)), (false, None), (false, Some(false))]);
        check(Kind::Startup, 1, 3, &[(false, None), (false, None), (true, Some(true))]);
    }

    #[test]
    fn verdicts_before_the_first_result() {
        let now = Timestamp::from_second(0).unwrap();
        let verdicts = KINDS.map(|kind| Machine::new(kind, &Probe::default(), now).verdict());
        assert_eq!(verdicts, [false, true, false]);
    }
}
