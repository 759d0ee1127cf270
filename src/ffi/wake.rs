//! Wakes.

use super::types::{becket_handle, becket_handler, becket_loop};
use super::{add, done, ours};
use crate::handle::Handle;
use core::ffi::{c_int, c_void};

// ---- Wakes ----

/// Adds a source of nothing: for becket_wake(), becket_trigger() and becket_post(). -ENOSPC. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_wake_add(
    event_loop: *mut becket_loop,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { add(event_loop, handler, user, handle, crate::engine::Engine::add_wake) }
}

/// Wakes a source of any kind: an event with BECKET_TRIGGERED; several wakes before its delivery are one. Any thread,
/// signal handlers; lock-free; no system call while the loop is awake. -ESTALE also when it races with the removal of
/// the source and the reuse of its slot. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_wake(event_loop: *mut becket_loop, handle: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { ours(event_loop) }.and_then(|core| core.shared.wake(Handle::from_raw(handle))))
}
