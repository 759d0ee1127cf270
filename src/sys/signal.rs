//! Dispositions of signals: sigaction(2).

use super::check;
#[cfg(posix_aio)]
use crate::error::Error;
use crate::error::Result;
use core::sync::atomic::AtomicU32;

/// The highest signal number there can be, and the length of a table that has a place for each.
pub(crate) const LIMIT: usize = 65;
/// A child has ended.
pub(crate) const CHILD: i32 = libc::SIGCHLD;

/// Handlers of becket's that run now, in any thread of this process.
pub(crate) static HANDLERS: AtomicU32 = AtomicU32::new(0);

/// A disposition as the system keeps it.
pub(crate) struct Disposition(libc::sigaction);

impl Disposition {
    pub(crate) const fn new() -> Disposition {
        // SAFETY: all zeros is a valid sigaction: the default action.
        Disposition(unsafe { core::mem::zeroed() })
    }

    /// Nobody has said what is to happen.
    #[cfg(posix_aio)]
    pub(crate) fn is_default(&self) -> bool {
        self.0.sa_sigaction == libc::SIG_DFL
    }

    /// The signal is ignored.
    #[cfg(posix_aio)]
    pub(crate) fn ignored() -> Disposition {
        let mut disposition = Disposition::new();
        disposition.0.sa_sigaction = libc::SIG_IGN;
        disposition
    }

    /// Whether it is this handler.
    pub(crate) fn is(&self, handler: extern "C" fn(libc::c_int)) -> bool {
        self.0.sa_sigaction == handler as *const () as usize
    }
}

/// Lets `handler` receive `signal`; the disposition before it goes to `old`. EINVAL: no such signal, or one that
/// cannot be caught.
pub(crate) fn install(signal: i32, handler: extern "C" fn(libc::c_int), old: &mut Disposition) -> Result<()> {
    // SAFETY: all zeros is a valid sigaction.
    let mut new: libc::sigaction = unsafe { core::mem::zeroed() };
    new.sa_sigaction = handler as *const () as usize;
    // Other system calls of the program go on; the loop's own wait is interrupted all the same, signal(7).
    new.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: both are valid; the handler is async-signal-safe (its module says why).
    check(unsafe {
        libc::sigfillset(&raw mut new.sa_mask);
        libc::sigaction(signal, &raw const new, &raw mut old.0)
    })
    .map(|_| ())
}

/// Whether nobody has said what is to happen at a signal. EINVAL: there is none of this number, or it cannot be caught.
#[cfg(posix_aio)]
pub(crate) fn is_default(signal: i32) -> Result<bool> {
    if signal == libc::SIGKILL || signal == libc::SIGSTOP {
        return Err(Error::INVALID);
    }
    let mut now = Disposition::new();
    // SAFETY: valid to write to; nothing changes.
    check(unsafe { libc::sigaction(signal, core::ptr::null(), &raw mut now.0) })?;
    Ok(now.is_default())
}

/// Ignores a signal from now on, and all of its kind that are pending: sigaction(2).
#[cfg(posix_aio)]
pub(crate) fn ignore(signal: i32) {
    restore(signal, &Disposition::ignored());
}

/// The signals that are queued, and so can tell of each completion; elsewhere one that has no other use.
#[cfg(posix_aio)]
pub(crate) fn real_time() -> core::ops::RangeInclusive<i32> {
    #[cfg(target_os = "linux")]
    return libc::SIGRTMIN()..=libc::SIGRTMAX();
    #[cfg(not(target_os = "linux"))] // FreeBSD's are beyond the table of signals, others have none
    return libc::SIGIO..=libc::SIGIO;
}

/// Puts a disposition back.
pub(crate) fn restore(signal: i32, old: &Disposition) {
    // SAFETY: a disposition that the system itself gave for this signal.
    unsafe { libc::sigaction(signal, &raw const old.0, core::ptr::null_mut()) };
}
