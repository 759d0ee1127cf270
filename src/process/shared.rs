//! What other threads and signal handlers may touch of a loop: a region of its own, atomics only, never under `&mut`.
//!
//! The loop sleeps only after it has said so (`ASLEEP`) and has looked for wakes, signals and a stop once more; who
//! brings one looks whether the loop sleeps after it has put it down. Both orders are sequentially consistent, so one
//! of the two sees the other (Dekker). The first to find the loop asleep writes to its descriptor; all others make
//! no system call, nor does anybody while the loop is awake.

use crate::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::storage::names::{Names, Woken};
use crate::sys;
use crate::sys::fd::Notifier;

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const NOTIFIED: u32 = 2;

pub(crate) struct Shared {
    pub(crate) names: Names,
    /// Signals that came, one bit each, signal 1 the lowest.
    pub(crate) signals: AtomicU64,
    state: AtomicU32,
    stop: AtomicBool,
    closed: AtomicBool,
    /// How many are between the look at `closed` and the end of their write.
    notifying: AtomicU32,
    /// The loop's own descriptor.
    notifier: Notifier,
    /// The process that made the loop.
    process: AtomicI32,
}

impl Shared {
    pub(crate) fn new(names: Names, notifier: Notifier) -> Shared {
        Shared {
            names,
            signals: AtomicU64::new(0),
            state: AtomicU32::new(AWAKE),
            stop: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            notifying: AtomicU32::new(0),
            notifier,
            process: AtomicI32::new(sys::process::mark()),
        }
    }

    /// Whether this is the process that made the loop: one load, no system call. Async-signal-safe.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        sys::process::is(self.process.load(Ordering::Relaxed))
    }

    /// The process that made the loop.
    pub(crate) fn process(&self) -> i32 {
        self.process.load(Ordering::Relaxed)
    }

    /// The same without any system call: true where the system cannot tell but by one.
    #[inline]
    pub(crate) fn seems_ours(&self) -> bool {
        sys::process::is_marked(self.process.load(Ordering::Relaxed)) || !sys::process::marks()
    }

    /// Wakes the loop if it sleeps. Any thread, async-signal-safe, lock-free.
    #[inline]
    pub(crate) fn notify(&self) {
        if self.state.load(Ordering::SeqCst) == ASLEEP {
            self.notify_sleeper();
        }
    }

    #[cold]
    #[inline(never)]
    fn notify_sleeper(&self) {
        self.notifying.fetch_add(1, Ordering::SeqCst);
        if !self.closed.load(Ordering::SeqCst)
            && self.state.compare_exchange(ASLEEP, NOTIFIED, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        {
            sys::fd::notify(self.notifier.written);
        }
        self.notifying.fetch_sub(1, Ordering::SeqCst);
    }

    /// Delivers a wake to a source. Any thread, async-signal-safe, lock-free.
    pub(crate) fn wake(&self, handle: Handle) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::BAD_FD);
        }
        if !self.is_ours() {
            return Err(Error::NOT_OURS);
        }
        match self.names.wake(handle) {
            Woken::Stale => return Err(Error::STALE),
            Woken::Already => {}
            Woken::First => self.notify(),
        }
        Ok(())
    }

    /// Asks `run` to return. Any thread, async-signal-safe; kept until a `run` takes it.
    pub(crate) fn stop(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::BAD_FD);
        }
        if !self.is_ours() {
            return Err(Error::NOT_OURS);
        }
        self.stop.store(true, Ordering::SeqCst);
        self.notify();
        Ok(())
    }
}

/// The loop's own side.
impl Shared {
    /// From now on a change has to wake the loop. Whether there is something to collect already.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.state.store(ASLEEP, Ordering::SeqCst);
        self.pending()
    }

    /// Empties the descriptor that was readable.
    #[cfg_attr(not(becket_small), cold, inline(never))]
    pub(crate) fn drain(&self) {
        sys::fd::drain(self.notifier.watched);
    }

    pub(crate) fn wake_up(&self) {
        self.state.store(AWAKE, Ordering::Release);
    }

    /// Whether a wait is under way, or prepared.
    #[inline]
    pub(crate) fn is_asleep(&self) -> bool {
        self.state.load(Ordering::Relaxed) != AWAKE
    }

    /// Whether its descriptor was written to since it fell asleep.
    #[inline]
    pub(crate) fn is_notified(&self) -> bool {
        self.state.load(Ordering::SeqCst) == NOTIFIED
    }

    /// Whether a wake, a signal or a stop came that the loop has not seen.
    pub(crate) fn pending(&self) -> bool {
        self.names.any_woken() || self.signals.load(Ordering::SeqCst) != 0 || self.stop.load(Ordering::SeqCst)
    }

    /// The signals that came since the last call.
    pub(crate) fn take_signals(&self) -> u64 {
        self.signals.swap(0, Ordering::AcqRel)
    }

    /// Whether there are any, at a glance: what comes in this very moment is seen before the next sleep.
    #[inline]
    pub(crate) fn seem_signals(&self) -> bool {
        self.signals.load(Ordering::Relaxed) != 0
    }

    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether a stop was asked for since the last call.
    pub(crate) fn take_stop(&self) -> bool {
        self.is_stopping() && self.stop.swap(false, Ordering::AcqRel)
    }

    /// No notification after this; closes the descriptor. Waits for those that are in the middle of one: a signal
    /// handler of this thread cannot be, so that ends. In a forked child it is a copy, and nobody else is in the middle of a notification,
    /// whatever the counter says.
    pub(crate) fn close(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        while self.is_ours() && self.notifying.load(Ordering::SeqCst) != 0 {
            sys::pause();
        }
        self.notifier.close();
    }
}
