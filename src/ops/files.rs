//! Who reads and writes files: what a readiness backend cannot wait for.
//!
//! All engines keep one contract, [`Files`]. The engine of the loop calls them in the thread that waits, and nowhere else: in
//! `prepare`, before the wait, and in `collect`, behind it; `submit_at_once` alone in any thread that changes the loop.
//! - what was submitted completes exactly once, whatever happens to it; its pointers are valid until then;
//! - `cancel` asks, and the completion says what became of it;
//! - what completes is made known to a waiting backend by `fd`, or by `signal`, or else the loop sleeps no longer than `patience`.

use super::FilesChoice;
#[cfg(posix_aio)]
use super::aio;
#[cfg(io_uring)]
use super::ring;
use crate::aio::AioMemory;
use crate::error::{Error, Result};
use crate::request::Request;
use crate::ring::RingMemory;
use crate::time::Duration;
use core::ffi::CStr;

/// The contract of all engines for files; see the module's text. `data` names an operation, in 63 bits.
pub(crate) trait Files {
    /// The name by which it is chosen.
    fn name(&self) -> &'static CStr;

    /// Whether it can make this request at all; else it is made inline.
    fn makes(&self, request: &Request) -> bool;

    /// Takes a request. `elsewhere`: it is to be made in another thread, whatever the file is. False: there is no room now.
    fn submit(&mut self, request: &Request, elsewhere: bool, data: u64) -> bool;

    /// The same where a request need only be noted until `flush`: no system call. False: it is to be submitted later.
    fn submit_at_once(&mut self, request: &Request, elsewhere: bool, data: u64) -> bool {
        let _ = (request, elsewhere, data);
        false
    }

    /// Asks for an end of a request. False: there is no room now.
    fn cancel(&mut self, data: u64) -> bool;

    /// Hands over what was taken. Called once before each wait, and when there was no room.
    fn flush(&mut self);

    /// The next completion: whose, and with which result.
    fn next(&mut self) -> Option<(u64, i32)>;

    /// Whether `next` has one, where that is known without asking.
    fn has_completed(&self) -> bool {
        false
    }

    /// A descriptor that is readable when there are completions.
    fn fd(&self) -> Option<i32> {
        None
    }

    /// The signal that comes when there are completions, and that the loop takes for it.
    #[cfg(posix_aio)]
    fn signal(&self) -> Option<i32> {
        None
    }

    /// Another signal than it was made with, before it is used.
    #[cfg(posix_aio)]
    fn set_signal(&mut self, signal: i32) {
        let _ = signal;
    }

    /// How long the loop may sleep at most without a word from `fd` or a `signal`, while something is under way.
    fn patience(&mut self) -> Duration {
        Duration::FOREVER
    }

    /// Gives up what it has of the system. `ours`: false in a forked child.
    fn close(&mut self, ours: bool) {
        let _ = ours;
    }
}

/// The engine of a loop.
#[allow(clippy::large_enum_variant)] // there is one, in the loop's memory
pub(crate) enum AnyFiles {
    /// There is none.
    Nobody,
    /// The backend's own ring.
    Backend,
    #[cfg(io_uring)]
    Ring(ring::Ring),
    #[cfg(posix_aio)]
    Aio(aio::Aio),
}

/// What a caller gives for one engine or another.
#[derive(Clone, Copy, Default)]
#[allow(dead_code)] // in builds without the one or the other
pub(crate) struct Given {
    pub(crate) ring: Option<RingMemory>,
    pub(crate) aio: Option<AioMemory>,
    /// The signal of [`FilesChoice::AioSignal`].
    pub(crate) signal: Option<i32>,
}

/// An engine that was made, and why it is this one.
pub(crate) struct Chosen {
    pub(crate) files: AnyFiles,
    pub(crate) note: &'static CStr,
}

impl AnyFiles {
    /// The engine that was asked for. `backend`: operations can be submitted to the backend. ENOTSUP: it is not built in, or
    /// the kernel is too old; ENOBUFS: POSIX AIO, and no memory for it; else what the system said. AUTO takes the first that works.
    #[cfg_attr(not(becket_small), cold, inline(never))]
    pub(crate) fn choose(choice: FilesChoice, backend: bool, given: Given) -> Result<Chosen> {
        const ORDER: &[FilesChoice] = &[FilesChoice::IoUring, FilesChoice::Aio];
        let note = if choice == FilesChoice::Auto { c"the best one that is built in" } else { c"" };
        if choice == FilesChoice::None {
            return Ok(Chosen { files: AnyFiles::Nobody, note });
        }
        if backend && matches!(choice, FilesChoice::Auto | FilesChoice::IoUring) {
            return Ok(Chosen { files: AnyFiles::Backend, note });
        }
        if choice != FilesChoice::Auto {
            return Ok(Chosen { files: AnyFiles::make(choice, given)?, note });
        }
        let mut refused = None;
        let mut last = Error::UNSUPPORTED;
        for candidate in ORDER {
            match AnyFiles::make(*candidate, given) {
                Ok(files) => return Ok(Chosen { files, note: refused.map_or(note, why_not) }),
                Err(error) => (refused, last) = (refused.or(Some(error)), error),
            }
        }
        let note = match last {
            Error::NOT_OURS => c"no io_uring, and no POSIX AIO in a forked child of a process that has used it",
            _ => refused.map_or(note, why_not),
        };
        Ok(Chosen { files: AnyFiles::Nobody, note })
    }

    fn make(choice: FilesChoice, given: Given) -> Result<AnyFiles> {
        let _ = given;
        match choice {
            #[cfg(io_uring)]
            FilesChoice::IoUring => Ok(AnyFiles::Ring(ring::Ring::new(given.ring)?)),
            #[cfg(posix_aio)]
            FilesChoice::Aio => Ok(AnyFiles::Aio(aio::Aio::new(given.aio, None)?)),
            #[cfg(posix_aio)]
            FilesChoice::AioSignal => Ok(AnyFiles::Aio(aio::Aio::new(given.aio, given.signal)?)),
            _ => Err(Error::UNSUPPORTED),
        }
    }

    /// Whether the backend's own ring is it.
    pub(crate) fn is_backend(&self) -> bool {
        matches!(self, AnyFiles::Backend)
    }
}

/// Why it is not io_uring.
fn why_not(error: Error) -> &'static CStr {
    match error {
        Error::UNSUPPORTED => c"no io_uring: not built in, or the kernel is too old",
        Error::NO_CALL => c"no io_uring: no such system call",
        Error::NOT_PERMITTED => c"no io_uring: not permitted",
        Error::NO_MEMORY => c"no io_uring: out of memory, or above RLIMIT_MEMLOCK",
        Error::PROCESS_FILES | Error::SYSTEM_FILES => c"no io_uring: too many open files",
        _ => c"no io_uring: refused by the system",
    }
}

/// Calls a method of the engine that it is; without one, or for the backend's own, there is a word instead.
macro_rules! of_any {
    ($self:expr, $files:ident => $call:expr, $otherwise:expr) => {
        match $self {
            AnyFiles::Nobody | AnyFiles::Backend => $otherwise,
            #[cfg(io_uring)]
            AnyFiles::Ring($files) => $call,
            #[cfg(posix_aio)]
            AnyFiles::Aio($files) => $call,
        }
    };
}

impl Files for AnyFiles {
    fn name(&self) -> &'static CStr {
        of_any!(self, files => files.name(), if self.is_backend() { c"io_uring" } else { c"none" })
    }
    fn makes(&self, request: &Request) -> bool {
        let _ = request;
        of_any!(self, files => files.makes(request), self.is_backend())
    }
    fn submit(&mut self, request: &Request, elsewhere: bool, data: u64) -> bool {
        let _ = (request, elsewhere, data);
        of_any!(self, files => files.submit(request, elsewhere, data), false)
    }
    #[inline]
    fn submit_at_once(&mut self, request: &Request, elsewhere: bool, data: u64) -> bool {
        let _ = (request, elsewhere, data);
        of_any!(self, files => files.submit_at_once(request, elsewhere, data), false)
    }
    fn cancel(&mut self, data: u64) -> bool {
        let _ = data;
        of_any!(self, files => files.cancel(data), false)
    }
    fn flush(&mut self) {
        of_any!(self, files => files.flush(), ());
    }
    fn next(&mut self) -> Option<(u64, i32)> {
        of_any!(self, files => files.next(), None)
    }
    fn has_completed(&self) -> bool {
        of_any!(self, files => files.has_completed(), false)
    }
    fn fd(&self) -> Option<i32> {
        of_any!(self, files => files.fd(), None)
    }
    #[cfg(posix_aio)]
    fn signal(&self) -> Option<i32> {
        of_any!(self, files => files.signal(), None)
    }
    #[cfg(posix_aio)]
    fn set_signal(&mut self, signal: i32) {
        of_any!(self, files => files.set_signal(signal), ());
    }
    fn patience(&mut self) -> Duration {
        of_any!(self, files => files.patience(), Duration::FOREVER)
    }
    fn close(&mut self, ours: bool) {
        let _ = ours;
        of_any!(self, files => files.close(ours), ());
    }
}
