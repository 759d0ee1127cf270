//! POSIX AIO: aio(7). Requests that the C library makes, on Linux, in threads of its own, one thread for each file; elsewhere
//! the kernel does.
//!
//! What it does is its own: glibc allocates memory and starts threads for it, and keeps tables that a forked child inherits
//! and cannot use, since the threads stay behind.

use super::operation::vector_at;
use super::{check, last_error};
use crate::aio::{ALIGNMENT, AioMemory, CONTROL_BYTES};
use crate::error::{Error, Result};
use crate::request::{BYTES_MAX, Call, Request};
use core::ptr::NonNull;
#[cfg(target_os = "linux")]
use core::sync::atomic::{AtomicI32, Ordering};
use libc::aiocb;

/// The process that has used it first, whose threads there are; 0: none.
#[cfg(target_os = "linux")]
static USER: AtomicI32 = AtomicI32::new(0);

const _: () = assert!(size_of::<aiocb>() <= CONTROL_BYTES && align_of::<aiocb>() <= ALIGNMENT);

/// Control blocks, by number. Each is the system's from a submission that it has accepted until `outcome` has told of it; then
/// it may be used again.
pub(crate) struct Controls {
    start: NonNull<aiocb>,
    count: u32,
    #[cfg(target_os = "linux")]
    process: i32,
}

/// What of a request is to be made now: of bytes, or of one vector.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    at: *mut (),
    pub(crate) length: u32,
    pub(crate) offset: i64,
}

/// The part of a request of vectors that begins at one of them; `None`: all from there on are empty. Its number goes to
/// `index`.
pub(crate) fn piece_from(request: &Request, index: &mut u32, offset: i64) -> Option<Piece> {
    while *index < request.length {
        // (No call moves more bytes.)
        let (at, length) = vector_at(request, *index);
        if length > 0 {
            return Some(Piece { at, length: length.min(BYTES_MAX) as u32, offset });
        }
        *index += 1;
    }
    None
}

/// A request of bytes, or of nothing.
pub(crate) fn piece_of(request: &Request) -> Piece {
    let of_bytes = matches!(request.call, Call::Read | Call::Write);
    let (at, length) = if of_bytes { (request.at, request.length) } else { (core::ptr::null_mut(), 0) };
    Piece { at, length, offset: request.extra }
}

/// What an fd was opened with; 0: it is none.
fn flags_of(fd: i32) -> i32 {
    // SAFETY: F_GETFL has no argument; a bad fd is an error.
    unsafe { libc::fcntl(fd, libc::F_GETFL) }.max(0)
}

/// Whether fsync(2) of it can be asked for: a file that is open for reading alone, and so each folder, is refused there.
pub(crate) fn can_sync(fd: i32) -> bool {
    flags_of(fd) & libc::O_ACCMODE != libc::O_RDONLY
}

/// Whether this can be made a second time, with the same outcome.
pub(crate) fn can_repeat(request: &Request) -> bool {
    !matches!(request.call, Call::Write | Call::WriteV) || flags_of(request.fd) & libc::O_APPEND == 0
}

/// What has no positions says so: glibc would read from it and write to it all the same, and wait for it. ESPIPE, EBADF.
fn check_positions(fd: i32) -> Result<()> {
    // SAFETY: no pointer is passed; it moves by nothing.
    if unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) } < 0 { Err(last_error()) } else { Ok(()) }
}

impl Controls {
    /// ECHILD: this is a forked child of a process that has used it.
    pub(crate) fn new(memory: &AioMemory) -> Result<Controls> {
        let (start, count) = (memory.controls().cast(), memory.count());
        #[cfg(target_os = "linux")]
        {
            let process = super::process::mark();
            let user = USER.load(Ordering::Relaxed);
            if user != 0 && user != process {
                return Err(Error::NOT_OURS);
            }
            Ok(Controls { start, count, process })
        }
        #[cfg(not(target_os = "linux"))]
        Ok(Controls { start, count })
    }

    fn at(&self, number: u32) -> *mut aiocb {
        assert!(number < self.count);
        // SAFETY: within the memory, which is the loop's that this is of.
        unsafe { self.start.add(number as usize) }.as_ptr()
    }

    /// Submits it. EAGAIN: the system has no room now; else what it says at once. `signal`: which one tells of the completion.
    pub(crate) fn submit(&self, number: u32, request: &Request, piece: Piece, signal: Option<i32>) -> Result<()> {
        // SAFETY: all zeros is a valid control block, which notifies nobody where that is 0.
        let mut control: aiocb = unsafe { core::mem::zeroed() };
        control.aio_fildes = request.fd;
        control.aio_buf = piece.at.cast();
        control.aio_nbytes = piece.length as usize;
        #[allow(clippy::useless_conversion)] // of as many bits on most systems
        let offset = piece.offset.try_into();
        control.aio_offset = offset.map_err(|_| Error::from_errno(libc::EOVERFLOW))?;
        // Below the loop, where a real-time scheduler runs it: glibc's threads would have the loop's own priority, and one that
        // copies would not let it go first.
        #[cfg(target_os = "linux")]
        {
            control.aio_reqprio = 1;
        }
        control.aio_sigevent.sigev_notify = libc::SIGEV_NONE;
        if let Some(signal) = signal {
            control.aio_sigevent.sigev_notify = libc::SIGEV_SIGNAL;
            control.aio_sigevent.sigev_signo = signal;
        }
        #[cfg(target_os = "linux")]
        USER.store(self.process, Ordering::Relaxed);
        if request.call != Call::Fsync {
            check_positions(request.fd)?;
        }
        let at = self.at(number);
        // SAFETY: it is not the system's now, so it can be written; the request's pointers are valid until it completes, and
        // the memory stays.
        check(unsafe {
            at.write(control);
            match request.call {
                Call::Read | Call::ReadV => libc::aio_read(at),
                Call::Write | Call::WriteV => libc::aio_write(at),
                _ => libc::aio_fsync(if request.flags & 1 != 0 { libc::O_DSYNC } else { libc::O_SYNC }, at),
            }
        })
        .map(|_| ())
    }

    /// What came of it, once: a count, or a negative errno value. `None`: it is under way. EAGAIN also where glibc could not
    /// send its signal: then nobody knows what came of it.
    pub(crate) fn outcome(&self, number: u32) -> Option<i32> {
        let at = self.at(number);
        // SAFETY: it was submitted, and its outcome was not taken.
        match unsafe { libc::aio_error(at) } {
            libc::EINPROGRESS => None,
            0 => {
                // SAFETY: likewise, and this is the one time after its end. (No call moves more than 31 bits tell.)
                Some(unsafe { libc::aio_return(at) } as i32)
            }
            error => {
                // It says so in errno where it has none to ask for.
                let error = if error > 0 { Error::from_errno(error) } else { last_error() };
                // SAFETY: likewise: then the system forgets it.
                unsafe { libc::aio_return(at) };
                Some(-error.errno())
            }
        }
    }

    /// Asks for an end: what became of it is its outcome.
    pub(crate) fn cancel(&self, number: u32, fd: i32) {
        // SAFETY: it was submitted. EBADF of an fd that was closed meanwhile changes nothing.
        unsafe { libc::aio_cancel(fd, self.at(number)) };
    }
}
