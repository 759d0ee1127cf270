//! select(2): three sets of at most FD_SETSIZE descriptors.
//!
//! Not pselect: its nanoseconds are below what a kernel's timers keep, and valgrind breaks one that a signal interrupts
//! (EFAULT: the sixth argument of pselect6).

use super::check;
use crate::error::Result;
use crate::time::Duration;

/// The first fd that select cannot hold.
pub(crate) const LIMIT: i32 = libc::FD_SETSIZE as i32;

/// The most that one call waits. Some systems refuse longer spans with EINVAL (100 million seconds on the BSDs and
/// macOS); who wakes too soon computes its timeout again.
const LONGEST: Duration = Duration::from_secs(86_400);

/// A set of fds below [`LIMIT`].
#[derive(Clone, Copy)]
pub(crate) struct FdSet(libc::fd_set);

impl FdSet {
    pub(crate) const fn new() -> FdSet {
        // SAFETY: all zeros is the empty set on every system, and FD_ZERO is no more than that.
        FdSet(unsafe { core::mem::zeroed() })
    }

    /// Adds an fd; one outside of the range is left out.
    pub(crate) fn insert(&mut self, fd: i32) {
        if (0..LIMIT).contains(&fd) {
            // SAFETY: the fd is in range.
            unsafe { libc::FD_SET(fd, &raw mut self.0) }
        }
    }

    pub(crate) fn contains(&self, fd: i32) -> bool {
        // SAFETY: the fd is in range.
        (0..LIMIT).contains(&fd) && unsafe { libc::FD_ISSET(fd, &raw const self.0) }
    }
}

/// Waits for the fds in the sets, all below `limit`; leaves in them what is ready, and says how many.
/// After an error the sets are as they were.
pub(crate) fn select(sets: &mut [FdSet; 3], limit: i32, timeout: Duration) -> Result<u32> {
    // Microseconds, rounded up: never early.
    let micros = timeout.min(LONGEST).as_nanos().div_ceil(1_000);
    let mut time = libc::timeval { tv_sec: (micros / 1_000_000) as _, tv_usec: (micros % 1_000_000) as _ };
    let time = if timeout == Duration::FOREVER { core::ptr::null_mut() } else { &raw mut time };
    let [read, write, except] = sets;
    // SAFETY: three valid sets, and a time that outlives the call, which may change it.
    let ready = unsafe { libc::select(limit, &raw mut read.0, &raw mut write.0, &raw mut except.0, time) };
    check(ready).map(|count| count.cast_unsigned())
}
