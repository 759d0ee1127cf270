//! A request: what an operation asks of the system, in 32 bytes.
//!
//! It is plain data: who makes one answers for its pointers, which are the operation's until it completes. The front
//! ends make requests, the engine keeps them, and `sys` alone follows their pointers. Beside it: the lease by which the Rust
//! front end lends memory to an operation.

#![allow(unsafe_code)]

use crate::error::{Error, Result};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// The offset that means the file's own position; pipes and sockets have no other.
pub(crate) const CURRENT: i64 = -1;
/// The most bytes that one call moves: the kernel's own limit.
pub(crate) const BYTES_MAX: usize = 0x7fff_f000;
/// The most vectors that one call takes: IOV_MAX of every system that has readv(2).
const VECTORS_MAX: usize = 1024;

/// The system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Call {
    Read,
    Write,
    ReadV,
    WriteV,
    Fsync,
    OpenAt,
    OpenAt2,
    Statx,
    Close,
    Accept,
    Connect,
    Recv,
    Send,
    RecvMsg,
    SendMsg,
}

impl Call {
    /// Whether its fd is a folder to begin at, or AT_FDCWD.
    pub(crate) fn is_at_folder(self) -> bool {
        matches!(self, Call::OpenAt | Call::OpenAt2 | Call::Statx)
    }

    /// Whether what it makes is an fd.
    pub(crate) fn makes_fd(self) -> bool {
        matches!(self, Call::OpenAt | Call::OpenAt2 | Call::Accept)
    }
}

/// ```text
///                   at              length              flags             extra
/// read, write       buffer          bytes                                 offset
/// readv, writev     vectors         how many                              offset
/// fsync                                                 1: data only
/// openat            path            mode                flags
/// openat2           path            bytes of how                          how
/// statx             path            mask                flags             where the result goes
/// close
/// accept            address                             flags             where its length goes
/// connect           address         its length
/// recv, send        buffer          bytes               flags
/// recvmsg, sendmsg  message                             flags
/// ```
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Request {
    pub(crate) call: Call,
    /// The engine's own.
    pub(crate) state: u8,
    /// Likewise.
    pub(crate) nature: u8,
    /// Likewise.
    pub(crate) beside: u8,
    pub(crate) fd: i32,
    pub(crate) length: u32,
    pub(crate) flags: i32,
    pub(crate) at: *mut (),
    /// An offset, or an address.
    pub(crate) extra: i64,
}

const _: () = assert!(size_of::<Request>() <= 32 && align_of::<Request>() <= 8);

impl Request {
    /// EBADF: the fd can be none.
    pub(crate) fn new(call: Call, fd: i32) -> Result<Request> {
        let at_folder = call.is_at_folder();
        if fd < 0 && !at_folder {
            return Err(Error::BAD_FD);
        }
        Ok(Request {
            call,
            state: 0,
            nature: 0,
            beside: 0,
            fd,
            length: 0,
            flags: 0,
            at: core::ptr::null_mut(),
            extra: CURRENT,
        })
    }

    /// Of bytes. EINVAL: there are none, and a length. More than the kernel moves at once are cut, as the kernel does.
    pub(crate) fn bytes(self, at: *const (), length: usize) -> Result<Request> {
        if at.is_null() && length > 0 {
            return Err(Error::INVALID);
        }
        Ok(Request { at: at.cast_mut(), length: length.min(BYTES_MAX) as u32, ..self })
    }

    /// Of vectors. EINVAL: none, or more than 1024.
    pub(crate) fn vectors(self, at: *const (), count: i32) -> Result<Request> {
        match usize::try_from(count) {
            Ok(count) if count <= VECTORS_MAX && !(at.is_null() && count > 0) => {
                Ok(Request { at: at.cast_mut(), length: count as u32, ..self })
            }
            _ => Err(Error::INVALID),
        }
    }

    /// EINVAL: below -1.
    pub(crate) fn offset(self, offset: i64) -> Result<Request> {
        if offset < CURRENT { Err(Error::INVALID) } else { Ok(Request { extra: offset, ..self }) }
    }

    /// Of something that has to be there: a path, a message, an address. EINVAL: it is not.
    pub(crate) fn object(self, at: *const ()) -> Result<Request> {
        if at.is_null() { Err(Error::INVALID) } else { Ok(Request { at: at.cast_mut(), ..self }) }
    }

    /// With a second address.
    pub(crate) fn second(self, at: *mut ()) -> Request {
        Request { extra: at.expose_provenance() as i64, ..self }
    }

    /// That address.
    pub(crate) fn second_at(&self) -> *mut () {
        core::ptr::with_exposed_provenance_mut(self.extra as usize)
    }
}

/// Who has memory that an operation may use: nobody, the program for a moment, or an operation. A chain of those that
/// one operation has.
pub(crate) struct Lease {
    state: AtomicU32,
    next: AtomicPtr<Lease>,
}

const FREE: u32 = 0;
const USED: u32 = 1;
const LENT: u32 = 2;

impl Lease {
    pub(crate) const fn new() -> Lease {
        Lease { state: AtomicU32::new(FREE), next: AtomicPtr::new(core::ptr::null_mut()) }
    }

    fn take(&self, state: u32) -> Result<()> {
        let taken = self.state.compare_exchange(FREE, state, Ordering::Acquire, Ordering::Relaxed);
        taken.map(|_| ()).map_err(|_| Error::BUSY)
    }

    /// The program uses the memory. EBUSY: it does already, or an operation has it.
    pub(crate) fn begin(&self) -> Result<()> {
        self.take(USED)
    }

    /// And no longer.
    pub(crate) fn end(&self) {
        self.state.store(FREE, Ordering::Release);
    }

    /// An operation has it from now on, beside what stands in `others`. EBUSY: it is in use; then nothing has changed.
    pub(crate) fn lend(&'static self, others: Option<&'static Lease>) -> Result<&'static Lease> {
        self.take(LENT)?;
        let others = others.map_or(core::ptr::null_mut(), |it| core::ptr::from_ref(it).cast_mut());
        self.next.store(others, Ordering::Relaxed);
        Ok(self)
    }

    pub(crate) fn is_lent(&self) -> bool {
        self.state.load(Ordering::Relaxed) == LENT
    }

    /// The operation has completed: all that it had is free. O(memory that it had).
    pub(crate) fn give_back(&'static self) {
        let mut at: *const Lease = self;
        // SAFETY: `lend` alone writes the pointers: to leases that live for ever, and that stay lent until here.
        while let Some(lease) = unsafe { at.as_ref() } {
            at = lease.next.load(Ordering::Relaxed);
            lease.end();
        }
    }
}
