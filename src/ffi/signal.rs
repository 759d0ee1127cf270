//! Signals and children.

use super::types::{becket_handle, becket_handler, becket_loop};
use super::{add, answer, look};
use crate::handle::{Handle, Kind};
use core::ffi::{c_int, c_void};

// ---- Signals and children ----

/// Receives a signal as an event, never in signal context; the event's value is how often it came since the last. The
/// disposition that was there before comes back when the source is removed. In a forked child the signal is ignored until
/// it makes a loop of its own in that memory, closes the inherited one, or calls exec(3).
///
/// -EINVAL: no such signal, or one that cannot be caught; -EBUSY: another loop has it; -EEXIST: this loop has a source
/// for it; -ENOSPC. O(1), one system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_signal_add(
    event_loop: *mut becket_loop,
    signal: c_int,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { add(event_loop, handler, user, handle, |engine, target| engine.add_signal(signal, target)) }
}

/// Receives the end of one child process, which it reaps; the event's value is its status, for WIFEXITED() and the
/// like. No other child is ever waited for. After the event the source is at rest until it is removed.
///
/// -ECHILD: the process is not a child of this one, or was reaped; -EINVAL: pid is not positive; -ENOSPC; where there
/// are no pidfds, -EBUSY: SIGCHLD is another loop's. O(1), two system calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_child_add(
    event_loop: *mut becket_loop,
    pid: c_int,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { add(event_loop, handler, user, handle, |engine, target| engine.add_child(pid, target)) }
}

/// The signal of a source. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_signal_number(event_loop: *const becket_loop, handle: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(unsafe { look(event_loop, |engine| engine.number(Handle::from_raw(handle), Kind::Signal)) })
}

/// The process of a source. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_child_pid(event_loop: *const becket_loop, handle: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(unsafe { look(event_loop, |engine| engine.number(Handle::from_raw(handle), Kind::Child)) })
}
