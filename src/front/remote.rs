//! What other threads hold of a loop.

use crate::error::Result;
use crate::handle::Handle;
use crate::process::shared::Shared;

/// Wakes one source: from any thread or signal handler, lock-free, without a system call while the loop is awake.
///
/// It may outlive the source (then a wake is ESTALE, also when it races with the removal) and the loop (EBADF).
/// Several wakes before the delivery are one event.
#[derive(Clone, Copy)]
pub struct Waker {
    shared: &'static Shared,
    source: Handle,
}

/// Stops one loop: from any thread or signal handler.
#[derive(Clone, Copy)]
pub struct Stopper {
    shared: &'static Shared,
}

impl Waker {
    pub(super) fn new(shared: &'static Shared, source: Handle) -> Waker {
        Waker { shared, source }
    }

    /// Wakes the source: an event with [`Ready::TRIGGERED`](crate::Ready::TRIGGERED). O(1).
    pub fn wake(&self) -> Result<()> {
        self.shared.wake(self.source)
    }
}

impl Stopper {
    pub(super) fn new(shared: &'static Shared) -> Stopper {
        Stopper { shared }
    }

    /// As [`Loop::stop`](crate::Loop::stop). O(1).
    pub fn stop(&self) -> Result<()> {
        self.shared.stop()
    }
}
