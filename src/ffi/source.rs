//! What every source has.

use super::types::{becket_handle, becket_handler, becket_loop};
use super::{answer, done, look, store, target, with};
use crate::backend::Ready;
use crate::error::Error;
use crate::handle::Handle;
use core::ffi::{c_int, c_void};

// ---- Any source ----
//
// A handler may be NULL: such a source is for becket_next() alone.

/// Removes a source of any kind: nothing of it is delivered after this. Never closes an fd; legal after a close, and
/// in any handler. Remove before you close: closed first, the source may until then see readiness of whoever has the
/// number next. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_remove(event_loop: *mut becket_loop, handle: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.remove(Handle::from_raw(handle))) })
}

/// Merges flags into a source of any kind: delivered in the next turn, or with what is queued of it already, with
/// BECKET_TRIGGERED. flags are readiness, for an I/O source, or 0. Cannot fail for space. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_trigger(event_loop: *mut becket_loop, handle: becket_handle, flags: u32) -> c_int {
    let flags = u16::try_from(flags).ok().and_then(Ready::from_bits).ok_or(Error::INVALID);
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(flags.and_then(|flags| unsafe { with(event_loop, |engine| engine.trigger(Handle::from_raw(handle), flags)) }))
}

/// Sends a value to a source of any kind: an event BECKET_KIND_POST, behind what is queued at its level. From the
/// loop's own thread. -ENOBUFS: all posts are on their way; the value is still the caller's. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_post(event_loop: *mut becket_loop, handle: becket_handle, value: i64) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.post(Handle::from_raw(handle), value)) })
}

/// The level of a source, 0 (first) to 3, from its next queueing on. Every eighth event comes from a lower level that
/// waits. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_set_level(event_loop: *mut becket_loop, handle: becket_handle, level: u32) -> c_int {
    let level = u8::try_from(level).map_err(|_| Error::INVALID);
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(level.and_then(|level| unsafe { with(event_loop, |it| it.set_level(Handle::from_raw(handle), level)) }))
}

/// The level of a source. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_level(event_loop: *const becket_loop, handle: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(unsafe { look(event_loop, |engine| engine.level(Handle::from_raw(handle))) })
}

/// Whether becket_run() goes on for this source's sake: not 0 (at first), or 0. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_set_keepalive(event_loop: *mut becket_loop, handle: becket_handle, on: c_int) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.set_keepalive(Handle::from_raw(handle), on != 0)) })
}

/// Whether becket_run() goes on for this source's sake: 1 or 0. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_keepalive(event_loop: *const becket_loop, handle: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(unsafe { look(event_loop, |engine| engine.keepalive(Handle::from_raw(handle))) })
}

/// Another handler and user pointer, from the next event on. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_set_handler(
    event_loop: *mut becket_loop,
    handle: becket_handle,
    handler: becket_handler,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |it| it.set_target(Handle::from_raw(handle), target(handler, user))) })
}

/// The user pointer of a source. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_user(
    event_loop: *const becket_loop,
    handle: becket_handle,
    user: *mut *mut c_void,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { store(user, || look(event_loop, |it| it.target(Handle::from_raw(handle))).map(|it| it.user.cast())) }
}

/// BECKET_KIND_… of a source. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_kind(event_loop: *const becket_loop, handle: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(unsafe { look(event_loop, |engine| engine.kind(Handle::from_raw(handle))) }.map(|kind| kind.mask().bits()))
}
