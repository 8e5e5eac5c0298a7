//! A bound on the bytes of responses that are being read, encoded or sent, over all requests together, so that many large
//! LISTs cannot exhaust memory (the trouble of etcd-io/etcd issue 12342).
//!
//! Nobody waits for more while holding some: a read that outgrows its reservation and finds the budget empty gives up what
//! it has, waits for a larger reservation, and reads again. So there is no deadlock, and no retry without progress.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tonic::Status;

/// Bytes of responses in flight, unless told otherwise.
pub const RESPONSE_BYTES_IN_FLIGHT_DEFAULT: usize = 512 << 20;
/// How long a request waits for its share before it is refused.
const RESERVATION_WAIT_MAX: Duration = Duration::from_secs(5);
/// The budget is kept in units of this many bytes.
const UNIT_BYTES: usize = 1024;
/// A response is held twice while it is being encoded.
const ENCODING_COPIES: usize = 2;

/// The budget of a server. Clones share it.
#[derive(Clone)]
pub(crate) struct ResponseBudget {
    units: Arc<Semaphore>,
    total_units: u32,
}

/// A share of the budget, given back when it is dropped.
pub(crate) struct Reservation {
    budget: ResponseBudget,
    permit: OwnedSemaphorePermit,
}

fn units(bytes: usize) -> u32 {
    let units = bytes.saturating_mul(ENCODING_COPIES).div_ceil(UNIT_BYTES);
    u32::try_from(units).unwrap_or(u32::MAX)
}

impl ResponseBudget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        let total_units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        Self { units: Arc::new(Semaphore::new(total_units as usize)), total_units }
    }

    /// Bytes of the largest response there is room for.
    pub fn bytes_max(&self) -> usize {
        self.total_units as usize * UNIT_BYTES / ENCODING_COPIES
    }

    /// By when a request that comes now must have its share.
    pub fn deadline() -> Instant {
        Instant::now() + RESERVATION_WAIT_MAX
    }

    /// Waits for a share for `bytes` of response.
    pub async fn reserve(&self, bytes: usize, deadline: Instant) -> Result<Reservation, Status> {
        if units(bytes) > self.total_units {
            return Err(Status::resource_exhausted(format!(
                "xebec: the response is larger than all responses together may be ({} bytes); ask for less with limit, or \
                 use RangeStream",
                self.bytes_max()
            )));
        }
        match timeout_at(deadline, self.units.clone().acquire_many_owned(units(bytes))).await {
            Ok(Ok(permit)) => Ok(Reservation { budget: self.clone(), permit }),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Status::resource_exhausted(format!(
                "xebec: too many bytes of responses in flight (--max-response-bytes-in-flight is {})",
                self.total_units as usize * UNIT_BYTES
            ))),
        }
    }

    /// Bytes that are reserved now.
    pub fn reserved_bytes(&self) -> usize {
        (self.total_units as usize).saturating_sub(self.units.available_permits()) * UNIT_BYTES
    }
}

impl Reservation {
    /// Makes the share large enough for `bytes`, if that is possible without waiting.
    pub fn try_cover(&mut self, bytes: usize) -> bool {
        let missing = (units(bytes) as usize).saturating_sub(self.permit.num_permits());
        if missing == 0 {
            return true;
        }
        let Ok(missing) = u32::try_from(missing) else {
            return false;
        };
        match self.budget.units.clone().try_acquire_many_owned(missing) {
            Ok(more) => {
                self.permit.merge(more);
                true
            }
            Err(_) => false,
        }
    }

    /// Gives back what `bytes` of response do not need.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.permit.num_permits().saturating_sub(units(bytes) as usize);
        drop(self.permit.split(surplus));
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    const MIB: usize = 1 << 20;

    #[tokio::test]
    async fn who_finds_the_budget_empty_waits_and_is_then_refused() {
        let budget = ResponseBudget::new(4 * MIB);
        let held = budget.reserve(2 * MIB, ResponseBudget::deadline()).await.unwrap();
        assert_eq!(budget.reserved_bytes(), 4 * MIB);
        let deadline = Instant::now() + Duration::from_millis(20);
        let refused = budget.reserve(1, deadline).await.err().unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(Instant::now() >= deadline);
        assert!(refused.message().contains("too many bytes of responses in flight"), "{refused}");
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.reserve(MIB, ResponseBudget::deadline()).await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waiting.await.unwrap());
        assert_eq!(budget.reserved_bytes(), 0);
        let hopeless = budget.reserve(3 * MIB, ResponseBudget::deadline()).await.err().unwrap();
        assert!(hopeless.message().contains("larger than all responses"), "{hopeless}");
    }

    #[tokio::test]
    async fn a_share_grows_without_waiting_and_shrinks() {
        let budget = ResponseBudget::new(4 * MIB);
        let mut share = budget.reserve(1024, ResponseBudget::deadline()).await.unwrap();
        assert!(share.try_cover(MIB));
        assert_eq!(budget.reserved_bytes(), 2 * MIB);
        assert!(!share.try_cover(3 * MIB));
        share.shrink_to(10);
        assert_eq!(budget.reserved_bytes(), UNIT_BYTES);
    }
}
