//! The fence of one leadership: writes made under it carry its token, and none leaves once it is over.

use http::HeaderValue;
use parking_lot::RwLock;
use std::sync::Arc;

/// The header that carries the token.
pub const FENCE_HEADER: &str = "x-xebec-fence";

/// The fence of one leadership, shared by everything that works under it.
///
/// There is one fence per leadership, not per process: work left over from an earlier leadership of the same process
/// holds the old, lost fence and cannot write under the new one.
#[derive(Clone, Default)]
pub struct Fence(Arc<RwLock<State>>);

#[derive(Clone, Default)]
enum State {
    /// Not, or no longer, leading: writes fail before they are sent.
    #[default]
    Lost,
    /// Leading; the token is absent where the server knows none (Lease-based election).
    Leading(Option<HeaderValue>),
}

/// What the fence says about a write.
pub(crate) enum Verdict {
    /// Send it, with this token.
    Tagged(HeaderValue),
    /// Send it as it is.
    Plain,
    /// Do not send it.
    Refused,
}

impl Fence {
    /// A fence that is already lost.
    pub fn lost() -> Self {
        Self::default()
    }

    /// A standing fence with the server's opaque token; `None` for elections without fencing.
    ///
    /// A token that cannot stand in a header cannot come from a server that keeps the contract; it yields a lost fence.
    pub fn leading(token: Option<&str>) -> Self {
        let state = match token.map(HeaderValue::from_str) {
            None => State::Leading(None),
            Some(Ok(mut value)) => {
                value.set_sensitive(true);
                State::Leading(Some(value))
            }
            Some(Err(_)) => State::Lost,
        };
        Self(Arc::new(RwLock::new(state)))
    }

    /// Ends the leadership for every holder of this fence. Final.
    pub fn lose(&self) {
        *self.0.write() = State::Lost;
    }

    /// Whether the leadership still stands, as far as this process knows.
    pub fn stands(&self) -> bool {
        matches!(*self.0.read(), State::Leading(_))
    }

    pub(crate) fn judge(&self) -> Verdict {
        match &*self.0.read() {
            State::Lost => Verdict::Refused,
            State::Leading(None) => Verdict::Plain,
            State::Leading(Some(token)) => Verdict::Tagged(token.clone()),
        }
    }
}

impl std::fmt::Debug for Fence {
    /// Says whether it stands; the token is a capability and is never printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fence").field("stands", &self.stands()).finish()
    }
}
