//! Timers.

use super::types::{becket_handle, becket_handler, becket_loop};
use super::{add, done, look, store, with};
use crate::handle::Handle;
use crate::time::{Duration, Instant};
use core::ffi::{c_int, c_void};

// ---- Timers ----
//
// Nanoseconds, monotonic. A delay counts from a fresh clock reading and is never early; equal deadlines expire in the
// order in which they were armed. A timer keeps its slot until it is removed, armed or not.

/// Adds a timer: first after delay_ns (0: next turn; BECKET_NEVER: disarmed), then every period_ns (0: never again).
/// Periods do not drift; missed ones come as one event whose value is their number. -ENOSPC. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_timer_add(
    event_loop: *mut becket_loop,
    delay_ns: u64,
    period_ns: u64,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let (delay, period) = (Duration::from_nanos(delay_ns), Duration::from_nanos(period_ns));
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { add(event_loop, handler, user, handle, |engine, target| engine.add_timer(delay, period, target)) }
}

/// Arms or re-arms a timer; an expiration that is queued is forgotten. Legal in its own handler. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_timer_arm(
    event_loop: *mut becket_loop,
    handle: becket_handle,
    delay_ns: u64,
    period_ns: u64,
) -> c_int {
    let (delay, period) = (Duration::from_nanos(delay_ns), Duration::from_nanos(period_ns));
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.arm_timer(Handle::from_raw(handle), delay, period)) })
}

/// The same at a point in time, in the terms of becket_now(); one that has passed expires in the next turn. O(log n),
/// no clock reading.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_timer_arm_at(
    event_loop: *mut becket_loop,
    handle: becket_handle,
    at_ns: u64,
    period_ns: u64,
) -> c_int {
    let (at, period) = (Instant::from_nanos(at_ns), Duration::from_nanos(period_ns));
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.arm_timer_at(Handle::from_raw(handle), at, period)) })
}

/// Disarms a timer; an expiration that is queued is forgotten. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_timer_disarm(event_loop: *mut becket_loop, handle: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.disarm_timer(Handle::from_raw(handle))) })
}

/// When a timer expires next; BECKET_NEVER: it is disarmed. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_timer_deadline(
    event_loop: *const becket_loop,
    handle: becket_handle,
    at_ns: *mut u64,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe {
        store(at_ns, || look(event_loop, |it| it.timer_deadline(Handle::from_raw(handle))).map(|at| at.as_nanos()))
    }
}

/// The period of a timer; 0: it is one-shot. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_timer_period(
    event_loop: *const becket_loop,
    handle: becket_handle,
    period_ns: *mut u64,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe {
        store(period_ns, || look(event_loop, |it| it.timer_period(Handle::from_raw(handle))).map(Duration::as_nanos))
    }
}
