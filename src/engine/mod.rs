//! The loop as a state machine that never calls a handler.
//!
//! ```text
//!            prepare                  wait                  collect              next, until it has none
//!  ┌─ turn ──────────► ready to wait ──────► it has waited ──────► events queued ─────────────────────┐
//!  │    before-wait events: they are taken out first, then prepare again                              │
//!  └──────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A front end (`ffi`, `front`) takes events with [`Engine::next`] and calls their handlers, with no borrow of the
//! engine held: so a handler may do anything, poll and next included. Every source that can be ready has its place in
//! the queue as part of itself; being full is therefore only ever an answer to the caller of `add` or `post`.

pub(crate) mod core;
mod event;
mod hooks;
pub(crate) mod io;
#[cfg(feature = "streams")]
pub(crate) mod listeners;
#[cfg(feature = "operations")]
mod operations;
pub(crate) mod sources;
mod statistics;
#[cfg(feature = "streams")]
pub(crate) mod streams;
mod timers;
mod turn;

pub use event::Event;
#[cfg(feature = "streams")]
pub use event::StreamEvent;
pub(crate) use event::Taken;
pub use statistics::Statistics;

use self::core::SharedRef;
use crate::backend::{AnyBackend, Backend, BackendChoice, Registration};
use crate::error::{Error, Result};
#[cfg(feature = "operations")]
use crate::ops::FilesChoice;
use crate::storage::deadlines::Deadlines;
use crate::storage::fd_index::FdIndex;
use crate::storage::lists::{List, Lists};
use crate::storage::region::Region;
use crate::sys;
use crate::time::{Duration, Instant};

/// How a loop is to be. The default is right for most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Who tells what is ready.
    pub backend: BackendChoice,
    /// The most events of one turn, deferred and idle ones not counted. 0: 1024.
    pub budget: u32,
    /// Time starts at one second and moves only when the loop would sleep: it jumps to the end of the sleep when no
    /// fd is ready, or by [`Loop::advance`](crate::Loop::advance). For tests.
    pub virtual_clock: bool,
    /// A signal that is not a source ends a wait with EINTR, instead of being waited through.
    pub return_interrupted: bool,
    /// A wait that would sleep first looks again and again without sleeping, for so long: a faster answer, for a busy
    /// CPU. Not on a virtual clock.
    pub busy_poll: Duration,
    /// Learn of children by SIGCHLD even where the system has pidfds.
    pub without_pidfd: bool,
    /// Who reads and writes files: for loops whose memory has operations.
    #[cfg(feature = "operations")]
    pub files: FilesChoice,
    /// The signal of [`FilesChoice::AioSignal`]; 0: the highest real-time signal that is free.
    #[cfg(feature = "operations")]
    pub aio_signal: i32,
}

impl Config {
    /// The default, as a constant.
    pub const DEFAULT: Config = Config {
        backend: BackendChoice::Auto,
        budget: 0,
        virtual_clock: false,
        return_interrupted: false,
        busy_poll: Duration::ZERO,
        without_pidfd: false,
        #[cfg(feature = "operations")]
        files: FilesChoice::Auto,
        #[cfg(feature = "operations")]
        aio_signal: 0,
    };
}

impl Default for Config {
    fn default() -> Config {
        Config::DEFAULT
    }
}

/// The most events of one turn where the configuration names none.
const BUDGET: u32 = 1024;
/// Every so many dispatches one goes to the lower levels that wait.
const LOWER_LEVELS_EVERY: u32 = 8;
/// Where virtual time begins: not at zero, so that a deadline can lie in the past.
const VIRTUAL_START: Instant = Instant::from_nanos(1_000_000_000);

/// Where in a turn the loop is.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Phase {
    /// Before-wait sources have had their event for the coming wait.
    before_done: bool,
    /// Deferred sources have been queued in this turn.
    deferred_done: bool,
    /// Something other than idle sources was delivered in this turn, or idle ones were queued.
    idle_done: bool,
    /// A registration changed while a wait was under way: its outcome concerns fds that may be others now.
    raced: bool,
    /// After-wait events that this collection has queued: they come whatever the wait was.
    after: u32,
}

/// One loop. In this order: what is used most is within reach of a short displacement, which makes the code smaller.
#[repr(C)]
pub(crate) struct Engine {
    shared: SharedRef,
    /// The time of this turn.
    now: Instant,
    /// By slot index plus one; the first is the notifier's.
    registrations: Region<Registration>,
    /// Counts dispatches, across turns.
    dispatches: u32,
    /// The count at which this turn's budget is used up.
    turn_end: u32,
    /// Registrations that the backend looks at, the notifier's not counted.
    watched: u32,
    /// Sources that keep the loop alive.
    counted: u32,
    /// Sources of another level than the first.
    leveled: u32,
    /// Handlers that are being called, one inside the other.
    depth: u32,
    /// Counts armed deadlines, so that equal ones expire in that order.
    arming: u32,
    phase: Phase,
    /// Some of these may have no fd any more.
    trim: bool,
    /// Inside `run`.
    running: bool,
    /// The lower level that was served last.
    rotation: u8,
    lists: Lists,

    deadlines: Deadlines,
    fd_index: FdIndex,
    /// The first free slots that were used before, linked through the slots: from below, for sources with an fd, and
    /// from above, for all others.
    free_low: u32,
    free_high: u32,
    free_post: u32,
    posts_mark: u32,
    /// The generation of a slot that is used for the first time.
    generation: u64,
    /// Children that are learned of by SIGCHLD.
    children_by_signal: u32,
    /// I/O events that were delivered before this turn.
    readiness_before: u64,
    /// When the wait of this turn began.
    asleep_since: Instant,
    made_at: Instant,
    config: Config,
    statistics: Statistics,
    backend: AnyBackend,
    #[cfg(feature = "operations")]
    operations: operations::Operations,
    #[cfg(feature = "streams")]
    listeners: listeners::Listeners,
    #[cfg(feature = "streams")]
    streams: crate::storage::streams::Table,
    backend_note: &'static ::core::ffi::CStr,
}

impl Engine {
    /// A clock reading, or virtual time. (The time of a simulator that was made anew under the loop is not gone back to.)
    fn fresh_now(&self) -> Instant {
        if self.config.virtual_clock {
            self.backend.now().map_or(self.now, |now| now.max(self.now))
        } else {
            sys::clock::now()
        }
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let mut statistics = self.statistics;
        let total = self.fresh_now().since(self.made_at).as_nanos();
        statistics.working_ns = total.saturating_sub(statistics.waiting_ns);
        statistics.queued = self.lists.queued();
        statistics.queued_max = self.lists.queued_max();
        statistics.sources_max = self.sources();
        #[cfg(feature = "operations")]
        {
            statistics.operations_max = self.operations.max();
        }
        statistics.posts_max = self.lists.posts.len() as u32;
        statistics
    }

    /// Moves virtual time on. ENOTSUP: time is real.
    pub(crate) fn advance(&mut self, span: Duration) -> Result<()> {
        if !self.config.virtual_clock {
            return Err(Error::UNSUPPORTED);
        }
        if self.backend.now().is_some() {
            self.backend.advance(span)?;
            self.now = self.fresh_now();
            return Ok(());
        }
        self.now = self.now + span.min(Duration::from_nanos(u64::MAX - 1));
        Ok(())
    }

    /// Gives up what the backend has of the system; in a forked child, the copies alone.
    fn close_backend(&mut self) {
        self.backend.close(self.shared.is_ours());
        #[cfg(feature = "operations")]
        self.operations.close(self.shared.is_ours());
    }

    /// `run` returns, in a forked child too.
    fn end_run(&mut self) {
        self.running = false;
        #[cfg(feature = "streams")]
        if !self.streams.riders.is_empty() && self.shared.is_ours() {
            self.backend.flush_rides();
        }
    }

    /// Room for sources.
    #[inline]
    fn sources(&self) -> u32 {
        self.shared.names.sources()
    }

    /// The time of this turn.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Whether before-wait events are due, and the wait is after them.
    #[inline]
    fn is_before_wait(&self) -> bool {
        self.phase.before_done
    }

    /// Why this backend.
    pub(crate) fn backend_note(&self) -> &'static ::core::ffi::CStr {
        self.backend_note
    }

    pub(crate) fn backend_name(&self) -> &'static ::core::ffi::CStr {
        self.backend.name()
    }

    /// The simulator that this loop lives in.
    #[cfg(feature = "simulator")]
    pub(crate) fn simulator(&self) -> Option<crate::backend::SimulatorRef> {
        self.backend.simulator()
    }

    /// The descriptor that a foreign loop watches. ENOTSUP: the backend has none. O(1).
    pub(crate) fn backend_fd(&self) -> Result<i32> {
        self.backend.fd().ok_or(Error::UNSUPPORTED)
    }

    /// Whether `run` has something to wait for: a source that keeps the loop alive, or events on their way. O(1).
    pub(crate) fn is_alive(&self) -> bool {
        #[cfg(feature = "streams")]
        if self.streams.may_feed() || !self.streams.riders.is_empty() {
            return true;
        }
        self.counted > 0 || self.lists.queued() > 0 || self.lists.any(List::TRIGGERED.set())
    }
}
