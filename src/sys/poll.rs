//! poll(2), with nanoseconds where the system has ppoll.

use super::check;
use crate::error::Result;
use crate::ready::{Ready, Registration};
use crate::time::Duration;

// A registration is a pollfd, and its flags are poll's.
const _: () = {
    assert!(size_of::<Registration>() == size_of::<libc::pollfd>());
    assert!(align_of::<Registration>() >= align_of::<libc::pollfd>());
    assert!(core::mem::offset_of!(Registration, fd) == core::mem::offset_of!(libc::pollfd, fd));
    assert!(core::mem::offset_of!(Registration, events) == core::mem::offset_of!(libc::pollfd, events));
    assert!(core::mem::offset_of!(Registration, state) == core::mem::offset_of!(libc::pollfd, revents));
    assert!(libc::POLLIN as u16 == Ready::READABLE.bits());
    assert!(libc::POLLPRI as u16 == Ready::PRIORITY.bits());
    assert!(libc::POLLOUT as u16 == Ready::WRITABLE.bits());
    assert!(libc::POLLERR as u16 == Ready::ERROR.bits());
    assert!(libc::POLLHUP as u16 == Ready::HANGUP.bits());
};

/// What poll says of an fd that is not open.
pub(crate) const INVALID: i16 = libc::POLLNVAL;

/// Asks for, and reports, that the peer has shut down its writing side, where the system can tell.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(crate) const PEER_CLOSED: i16 = libc::POLLRDHUP;
/// This system cannot tell.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(crate) const PEER_CLOSED: i16 = 0;

/// Waits for one of `count` registrations; how many are ready.
///
/// # Safety
/// The registrations stay valid. Another thread may change one meanwhile, as one aligned store of eight bytes.
pub(crate) unsafe fn poll(fds: *mut Registration, count: usize, timeout: Duration) -> Result<u32> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "openbsd"))]
    {
        let nanos = timeout.as_nanos();
        let time = libc::timespec {
            tv_sec: libc::time_t::try_from(nanos / 1_000_000_000).unwrap_or(libc::time_t::MAX),
            tv_nsec: (nanos % 1_000_000_000) as _,
        };
        let time = if timeout == Duration::FOREVER { core::ptr::null() } else { &raw const time };
        // SAFETY: by this function's contract; the layouts were compared above; the time outlives the call.
        let ready = unsafe { libc::ppoll(fds.cast(), count as libc::nfds_t, time, core::ptr::null()) };
        check(ready).map(|count| count.cast_unsigned())
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "openbsd")))]
    {
        // Milliseconds, rounded up: never early.
        let millis = match timeout {
            Duration::FOREVER => -1,
            span => i32::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
        };
        // SAFETY: by this function's contract; the layouts were compared above.
        check(unsafe { libc::poll(fds.cast(), count as libc::nfds_t, millis) }).map(|count| count.cast_unsigned())
    }
}
