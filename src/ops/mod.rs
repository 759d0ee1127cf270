//! What completes later and is not for a readiness backend to wait for: files.

mod files;
#[cfg(io_uring)]
mod ring;

pub(crate) use crate::sys::operation::Vector;
pub use crate::sys::operation::{Address, FileStatus};
pub(crate) use files::{AnyFiles, Chosen, Files};

/// Who reads and writes files for the operations of a loop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum FilesChoice {
    /// The best that the system grants: io_uring, in the backend's own ring or in one beside it; else POSIX AIO, where it
    /// is built in; else nobody.
    #[default]
    Auto,
    /// io_uring(7).
    IoUring,
    /// POSIX AIO, aio(7); the loop asks again and again whether something has completed.
    Aio,
    /// POSIX AIO; a real-time signal tells what has completed.
    AioSignal,
    /// Nobody: operations on files are ENOSYS, and what can be made at once (openat, statx, close) is, and may block.
    None,
}
