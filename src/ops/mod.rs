//! What completes later and is not for a readiness backend to wait for: files.

#[cfg(posix_aio)]
mod aio;
mod files;
#[cfg(io_uring)]
mod ring;

pub use crate::sys::operation::{Address, FileStatus, OpenHow};
pub(crate) use crate::sys::operation::{MessageHead, Vector};
pub(crate) use files::{AnyFiles, Chosen, Files, Given};

/// Who reads and writes files for the operations of a loop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum FilesChoice {
    /// The best that the system grants: io_uring, in the backend's own ring or in one beside it; else POSIX AIO, where it
    /// is built in and there is memory for it ([`Loop::with_aio`](crate::Loop::with_aio)); else nobody.
    #[default]
    Auto,
    /// io_uring(7).
    IoUring,
    /// POSIX AIO, aio(7), with feature `aio`: the loop asks in each turn whether something has completed, and while something
    /// is under way it sleeps for 1 to 10 ms at most. What the C library does for it is its own: glibc allocates memory and
    /// starts threads, one for each file that is read or written at a time, on the loop's CPUs; where SCHED_FIFO or SCHED_RR
    /// runs the loop, with a priority one less than its own, so that it goes first (with a priority of 1 it does not). A
    /// forked child of a process that has used it cannot (ECHILD). It has no open, status and close, and no position of a
    /// file's own: those are made inline, and may block; likewise an fsync of what is open for reading alone. Vectors are
    /// made one after the other.
    Aio,
    /// The same; a real-time signal tells that something has completed. Since signals are lost where too many are pending
    /// (RLIMIT_SIGPENDING), the loop looks by itself too, after 20 ms at most.
    AioSignal,
    /// Nobody: operations on files are ENOSYS, and what can be made at once (openat, statx, close) is, and may block.
    None,
}
