//! The end of one child process: learned by a pidfd, which is an fd like any other, else by SIGCHLD.
//!
//! Only the process that was named is ever reaped: other children are the program's own.

use crate::error::{Error, Result};
use crate::handle::Kind;
use crate::storage::slot::{Link, bits};
use crate::sys;

/// How the loop learns of a child's end.
pub(crate) enum Watch {
    /// This fd becomes readable. It is the loop's, to be closed.
    Fd(i32),
    /// SIGCHLD comes.
    Signal,
}

/// Begins to watch a child. ECHILD: it is not ours, or was reaped already.
pub(crate) fn watch(pid: i32, without_pidfd: bool) -> Result<Watch> {
    // Zero, negative numbers and groups mean several processes to waitpid.
    if pid <= 0 {
        return Err(Error::INVALID);
    }
    sys::process::check_child(pid)?;
    if without_pidfd {
        return Ok(Watch::Signal);
    }
    match sys::process::child_fd(pid) {
        Ok(fd) => Ok(Watch::Fd(fd)),
        // ENOSYS: a kernel before 5.3, or another system; EPERM: a sandbox that forbids it.
        Err(Error::NO_CALL | Error::NOT_PERMITTED) => Ok(Watch::Signal),
        Err(error) => Err(error),
    }
}

/// What is told of a child: its status, as waitpid(2) gives it, or -ECHILD when somebody else has reaped it.
/// `None`: it still runs.
pub(crate) fn reap(pid: i32) -> Option<i32> {
    sys::process::reap(pid).unwrap_or_else(|error| Some(-error.errno()))
}

/// Whether this is a child whose end has not been told.
pub(crate) fn is_running(link: &Link) -> bool {
    cfg!(feature = "children") && link.is(Kind::Child) && link.has(bits::ACTIVE)
}
