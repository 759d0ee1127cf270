//! I/O sources.

use super::constants::{BECKET_EDGE, BECKET_EXCLUSIVE, BECKET_ONESHOT, BECKET_TRUSTED};
use super::types::{becket_handle, becket_handler, becket_loop};
use super::{add, answer, done, look, store, with};
use crate::backend::Ready;
use crate::engine::io::IoOptions;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::time::{Duration, Instant};
use core::ffi::{c_int, c_void};

// ---- I/O ----

/// An interest as C gives it.
fn interest(flags: u32) -> Result<Ready> {
    if flags & !u32::from(Ready::INTEREST.bits()) != 0 {
        return Err(Error::INVALID);
    }
    Ok(Ready::from_bits_truncate(flags as u16))
}

/// Watches an fd. flags: an interest (0: paused), and BECKET_ONESHOT, BECKET_TRUSTED, BECKET_EDGE, BECKET_EXCLUSIVE. The fd
/// stays the caller's.
///
/// -EBADF: it is not open; -EPERM: a regular file, directory or block device, which cannot be waited for; -EEXIST: it
/// has a source already; -ENOSPC: the table is full, or, on poll, full but for places above RLIMIT_NOFILE; -EINVAL: on
/// select, an fd at or above FD_SETSIZE; -ENOTSUP: BECKET_EDGE or BECKET_EXCLUSIVE where the backend has none; -ENOMEM,
/// -ENOSPC: on epoll, the kernel's own limits. Other fds that the kernel cannot wait for (/dev/null) are always ready. O(1)
/// expected, O(free slots) where sources without an fd have filled the table before; one fstat(2) unless BECKET_TRUSTED; on epoll
/// one epoll_ctl(2) instead.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_io_add(
    event_loop: *mut becket_loop,
    fd: c_int,
    flags: u32,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let interest = interest(flags & !(BECKET_ONESHOT | BECKET_TRUSTED | BECKET_EDGE | BECKET_EXCLUSIVE));
    let options = IoOptions {
        oneshot: flags & BECKET_ONESHOT != 0,
        trusted: flags & BECKET_TRUSTED != 0,
        edge: flags & BECKET_EDGE != 0,
        exclusive: flags & BECKET_EXCLUSIVE != 0,
    };
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { add(event_loop, handler, user, handle, |engine, target| engine.add_io(fd, interest?, options, target)) }
}

/// The interest from now on, with BECKET_ONESHOT or without. 0 pauses: the source is silent, ERROR and HANGUP
/// included, and costs nothing; they are told when it is resumed. The idle timeout rests meanwhile; the deadline does
/// not. The same interest again changes nothing (with BECKET_EDGE: tells anew what is ready). Cannot fail for space. O(1), O(log n) to pause or resume one with an
/// idle timeout.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_io_modify(event_loop: *mut becket_loop, handle: becket_handle, flags: u32) -> c_int {
    let modify = |interest| {
        // SAFETY: the caller gives a loop, or NULL, which is checked.
        unsafe {
            with(event_loop, |engine| {
                engine.modify_io(Handle::from_raw(handle), interest, Some(flags & BECKET_ONESHOT != 0))
            })
        }
    };
    done(interest(flags & !BECKET_ONESHOT).and_then(modify))
}

/// Adds the directions in set to the interest, then takes those in clear away. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_io_change(
    event_loop: *mut becket_loop,
    handle: becket_handle,
    set: u32,
    clear: u32,
) -> c_int {
    let both = interest(set).and_then(|set| Ok((set, interest(clear)?)));
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(both.and_then(|(set, clear)| unsafe {
        with(event_loop, |engine| engine.change_io(Handle::from_raw(handle), set, clear))
    }))
}

/// BECKET_TIMEOUT whenever the source had no event (posts aside) for idle_ns, counted from now, then from the turn of each
/// event; again and again. 0, BECKET_NEVER or more than nine years: none. Kept to one part in 67 million, rounded up.
/// O(log n); an event extends it by one store.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_io_timeout(event_loop: *mut becket_loop, handle: becket_handle, idle_ns: u64) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe {
        with(event_loop, |engine| engine.set_idle_timeout(Handle::from_raw(handle), Duration::from_nanos(idle_ns)))
    })
}

/// BECKET_DEADLINE once, delay_ns from now, whatever is delivered until then; BECKET_NEVER: none. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_io_deadline(
    event_loop: *mut becket_loop,
    handle: becket_handle,
    delay_ns: u64,
) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe {
        with(event_loop, |it| it.set_io_deadline_after(Handle::from_raw(handle), Duration::from_nanos(delay_ns)))
    })
}

/// The same at a point in time, in the terms of becket_now(). O(log n), no clock reading.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_io_deadline_at(
    event_loop: *mut becket_loop,
    handle: becket_handle,
    at_ns: u64,
) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe {
        with(event_loop, |engine| engine.set_io_deadline(Handle::from_raw(handle), Instant::from_nanos(at_ns)))
    })
}

/// The idle timeout of a source, as it is kept; BECKET_NEVER: none. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_io_get_timeout(
    event_loop: *const becket_loop,
    handle: becket_handle,
    idle_ns: *mut u64,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe {
        store(idle_ns, || look(event_loop, |it| it.io_idle_timeout(Handle::from_raw(handle))).map(Duration::as_nanos))
    }
}

/// The fixed deadline of a source; BECKET_NEVER: none, or it has passed. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_io_get_deadline(
    event_loop: *const becket_loop,
    handle: becket_handle,
    at_ns: *mut u64,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { store(at_ns, || look(event_loop, |it| it.io_deadline(Handle::from_raw(handle))).map(Instant::as_nanos)) }
}

/// Removes the source and closes its fd, with no other system call. The error of close(2), if any, after the removal.
/// O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_io_close(event_loop: *mut becket_loop, handle: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.close_io(Handle::from_raw(handle))) })
}

/// The source of an fd. -ENOENT: it has none. O(1) expected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_io_find(
    event_loop: *const becket_loop,
    fd: c_int,
    handle: *mut becket_handle,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { store(handle, || look(event_loop, |engine| engine.find_io(fd)).map(Handle::raw)) }
}

/// The fd of a source. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_io_fd(event_loop: *const becket_loop, handle: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(unsafe { look(event_loop, |engine| engine.io_fd(Handle::from_raw(handle))) })
}

/// The interest of a source, with BECKET_ONESHOT, BECKET_EDGE and BECKET_EXCLUSIVE if it has them. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_io_interest(event_loop: *const becket_loop, handle: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    let asked = unsafe { look(event_loop, |engine| engine.io_interest(Handle::from_raw(handle))) };
    answer(asked.map(|(interest, options)| {
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        u32::from(interest.bits())
            | flag(options.oneshot, BECKET_ONESHOT)
            | flag(options.edge, BECKET_EDGE)
            | flag(options.exclusive, BECKET_EXCLUSIVE)
    }))
}
