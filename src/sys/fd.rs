//! File descriptors: what one is, the descriptor that wakes a sleeping loop, closing.

use super::{check, last_error};
use crate::error::{Error, Result};

/// Whether a file of this fd can be waited for.
///
/// EBADF: not open. EPERM: a regular file, directory or block device, of which poll(2) always says "ready": they
/// are for operations, which complete later.
pub(crate) fn check_pollable(fd: i32) -> Result<()> {
    // SAFETY: all zeros is a valid stat.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: `stat` is valid to write to; a bad fd is an error, not undefined behaviour.
    check(unsafe { libc::fstat(fd, &raw mut stat) })?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK => Err(Error::NOT_PERMITTED),
        _ => Ok(()),
    }
}

/// Whether the fd is open: one fcntl(2).
#[cfg(feature = "select")]
pub(crate) fn is_open(fd: i32) -> bool {
    // SAFETY: F_GETFD has no argument; a bad fd is an error.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// The most descriptors that this process may have open: RLIMIT_NOFILE.
#[cfg(feature = "poll")]
pub(crate) fn limit() -> u32 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid to write to. It cannot fail for this resource.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    u32::try_from(limit.rlim_cur).unwrap_or(u32::MAX)
}

/// Closes an fd. Never again after an error: Linux has let go of the descriptor even on EINTR, close(2).
pub(crate) fn close(fd: i32) -> Result<()> {
    // SAFETY: whether an fd may be closed is the caller's to know; a bad one is an error.
    match check(unsafe { libc::close(fd) }) {
        Err(Error::INTERRUPTED) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// `target` becomes what `fd` is, closed on exec, and `fd` is closed.
#[cfg(epoll)]
pub(crate) fn replace(fd: i32, target: i32) -> Result<()> {
    // SAFETY: no pointer is passed; a bad fd is an error.
    let result = check(unsafe { libc::dup3(fd, target, libc::O_CLOEXEC) }).map(|_| ());
    let _ = close(fd);
    result
}

/// The two ends of the descriptor that wakes a loop: the one it watches and the one that is written to. An eventfd
/// is both; a pipe has one of each.
#[derive(Clone, Copy)]
pub(crate) struct Notifier {
    pub(crate) watched: i32,
    pub(crate) written: i32,
}

impl Notifier {
    /// Closes both ends.
    pub(crate) fn close(self) {
        let _ = close(self.watched);
        if self.written != self.watched {
            let _ = close(self.written);
        }
    }
}

/// A new notifier: non-blocking and closed on exec.
pub(crate) fn notifier() -> Result<Notifier> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // SAFETY: no pointer is passed.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        Ok(Notifier { watched: fd, written: fd })
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for the two.
        check(unsafe { libc::pipe(ends.as_mut_ptr()) })?;
        for end in ends {
            // SAFETY: both fds are ours and open; these calls on them cannot fail.
            unsafe {
                libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC);
                libc::fcntl(end, libc::F_SETFL, libc::O_NONBLOCK);
            }
        }
        Ok(Notifier { watched: ends[0], written: ends[1] })
    }
}

/// Makes the notifier readable. Async-signal-safe: write(2) alone, errno kept.
pub(crate) fn notify(written: i32) {
    let one: u64 = 1;
    let location = super::errno_location();
    // SAFETY: errno is this thread's own; the eight bytes are readable. EAGAIN means that it is readable already.
    unsafe {
        let kept = *location;
        libc::write(written, (&raw const one).cast(), size_of::<u64>());
        *location = kept;
    }
}

/// Empties a notifier that was readable: one read of an eventfd, few of a pipe.
pub(crate) fn drain(watched: i32) {
    let mut bytes = [0u8; 64];
    loop {
        // SAFETY: `bytes` is writable for its length.
        let count = unsafe { libc::read(watched, bytes.as_mut_ptr().cast(), bytes.len()) };
        if count < 0 && last_error() == Error::INTERRUPTED {
            continue;
        }
        // An eventfd gives eight bytes and is empty; a pipe is empty when it gives less than was asked for.
        if count < bytes.len() as isize {
            return;
        }
    }
}
