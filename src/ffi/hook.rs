//! Sources around the turn.

use super::types::{becket_handle, becket_handler, becket_loop};
use super::{add, answer, done, look, with};
use crate::handle::{Handle, Kind};
use core::ffi::{c_int, c_void};

// ---- Around the turn ----

/// Adds a source that becket_defer() schedules. -ENOSPC. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_deferred_add(
    event_loop: *mut becket_loop,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { add(event_loop, handler, user, handle, |engine, target| engine.add_hook(Kind::Deferred, target)) }
}

/// Schedules a deferred source: delivered once, after this turn's events; in a deferred handler, after the next
/// turn's. Again before that: no change. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_defer(event_loop: *mut becket_loop, handle: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.defer(Handle::from_raw(handle))) })
}

/// Adds a source that is delivered when a turn had nothing else. As long as it is on, no turn sleeps. -ENOSPC. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_idle_add(
    event_loop: *mut becket_loop,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { add(event_loop, handler, user, handle, |engine, target| engine.add_hook(Kind::Idle, target)) }
}

/// Adds a source that is delivered before every wait. It does not keep the loop alive. -ENOSPC. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_before_add(
    event_loop: *mut becket_loop,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { add(event_loop, handler, user, handle, |engine, target| engine.add_hook(Kind::Before, target)) }
}

/// Adds a source that is delivered after every wait. It does not keep the loop alive. -ENOSPC. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_after_add(
    event_loop: *mut becket_loop,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { add(event_loop, handler, user, handle, |engine, target| engine.add_hook(Kind::After, target)) }
}

/// Turns an idle, before-wait or after-wait source on (not 0; at first) or off. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_hook_enable(event_loop: *mut becket_loop, handle: becket_handle, on: c_int) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.enable_hook(Handle::from_raw(handle), on != 0)) })
}

/// Whether an idle, before-wait or after-wait source is on, or a deferred one scheduled: 1 or 0. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_hook_enabled(event_loop: *const becket_loop, handle: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(unsafe { look(event_loop, |engine| engine.hook_enabled(Handle::from_raw(handle))) })
}
