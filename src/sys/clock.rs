//! The only place that reads a clock: CLOCK_MONOTONIC, clock_gettime(2).

use crate::time::Instant;

/// The monotonic time now. About 27 ns: once or twice a turn, never once an event.
pub(crate) fn now() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to. The call cannot fail: the clock is one that POSIX demands.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Instant::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
