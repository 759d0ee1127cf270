//! The only place that names libc. Each function is one system call or a few, safe to call, with the error mapped.
//!
//! Only `clock` reads a clock; only `fd` opens and closes descriptors. Nothing here allocates.
#![allow(unsafe_code)]

#[cfg(posix_aio)]
pub(crate) mod aio;
pub(crate) mod clock;
#[cfg(epoll)]
pub(crate) mod epoll;
pub(crate) mod errno;
pub(crate) mod fd;
#[cfg(feature = "streams")]
pub(crate) mod listen;
#[cfg(feature = "operations")]
pub(crate) mod operation;
#[cfg(feature = "poll")]
pub(crate) mod poll;
pub(crate) mod process;
#[cfg(feature = "select")]
pub(crate) mod select;
pub(crate) mod signal;
#[cfg(all(feature = "simulator", feature = "operations"))]
pub(crate) mod simulated;
#[cfg(feature = "streams")]
pub(crate) mod stream;
#[cfg(io_uring)]
pub(crate) mod uring;

use crate::error::{Error, Result};

/// What a system call answered: the count, or errno.
fn check(answer: libc::c_int) -> Result<libc::c_int> {
    if answer < 0 { Err(last_error()) } else { Ok(answer) }
}

fn last_error() -> Error {
    // SAFETY: errno_location gives this thread's own errno.
    Error::from_errno(unsafe { *errno_location() })
}

/// Where this thread's errno lives: a signal handler must leave it as it was.
fn errno_location() -> *mut libc::c_int {
    // SAFETY: each of these has no precondition.
    unsafe {
        #[cfg(any(target_os = "linux", target_os = "emscripten", target_os = "redox"))]
        return libc::__errno_location();
        #[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
        return libc::__errno();
        #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
        return libc::__error();
        #[cfg(target_os = "dragonfly")]
        return libc::__errno_location();
        #[cfg(any(target_os = "solaris", target_os = "illumos"))]
        return libc::___errno();
        #[cfg(target_os = "haiku")]
        return libc::_errnop();
    }
}

/// Who runs: the number of the calling thread.
pub(crate) fn thread() -> usize {
    // SAFETY: no precondition. pthread_t is an integer or a pointer on every system; here it is only compared.
    unsafe { libc::pthread_self() as usize }
}

/// Lets other threads run, of whatever priority: sleeps for a millisecond.
pub(crate) fn pause() {
    // SAFETY: no fds, and so no array.
    unsafe { libc::poll(core::ptr::null_mut(), 0, 1) };
}

/// Ends the program.
#[cfg(any(becket_staticlib, cargo_c))]
pub(crate) fn abort() -> ! {
    // SAFETY: no precondition.
    unsafe { libc::abort() }
}
