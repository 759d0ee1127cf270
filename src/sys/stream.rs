//! The system calls of streams, beside those of operations: none of them blocks.

use super::operation::{Address, iovec, msghdr, option, unblock};
use super::{check, last_error};
use crate::error::{Error, Result};
use crate::request::{Call, Request};

/// The most parts that one call sends.
pub(crate) const PARTS: usize = 16;

/// A message that is to be sent or received, for as long as the call lasts.
pub(crate) struct Message {
    header: msghdr,
    vector: iovec,
}

impl Message {
    fn new() -> Message {
        // SAFETY: all zeros are a valid message, of nothing.
        unsafe { core::mem::zeroed() }
    }

    /// Of so many vectors (each a pointer and a length), to an address, or to where the socket is connected.
    pub(crate) fn to_send(vectors: *const (), count: usize, (address, length): (*const (), u32)) -> Message {
        let mut message = Message::new();
        message.header.msg_iov = vectors.cast_mut().cast();
        message.header.msg_iovlen = count as _;
        message.header.msg_name = address.cast_mut().cast();
        message.header.msg_namelen = length;
        message
    }

    /// A datagram into a buffer of so many bytes, behind its sender's address.
    pub(crate) fn to_receive(at: *mut u8, bytes: u32) -> Message {
        let before = size_of::<Address>();
        let mut message = Message::new();
        message.header.msg_name = at.cast();
        message.header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        message.vector = iovec { iov_base: at.wrapping_add(before).cast(), iov_len: bytes as usize - before };
        message
    }

    /// The request of this message.
    pub(crate) fn request(&mut self, call: Call, fd: i32) -> Result<Request> {
        if call == Call::RecvMsg {
            self.header.msg_iov = &raw mut self.vector;
            self.header.msg_iovlen = 1;
        }
        Request::new(call, fd)?.object((&raw const self.header).cast())
    }

    /// Says who has sent what was received into the buffer.
    pub(crate) fn note_sender(&self, at: *mut u8) {
        // SAFETY: the buffer begins with an address, which the kernel has written.
        unsafe { (*at.cast::<Address>()).length = self.header.msg_namelen };
    }
}

/// Receives what there is. EAGAIN: nothing.
#[inline]
pub(crate) fn receive(fd: i32, at: *mut u8, bytes: u32) -> Result<u32> {
    // SAFETY: the caller has so many bytes there.
    let received = repeated(|| unsafe { libc::recv(fd, at.cast(), bytes as usize, libc::MSG_DONTWAIT) });
    received.map(|count| count as u32)
}

/// Sends what the socket takes now. EAGAIN: nothing.
#[inline]
pub(crate) fn send(fd: i32, at: *const (), bytes: usize) -> Result<u64> {
    const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the caller has so many bytes there.
    repeated(|| unsafe { libc::send(fd, at.cast(), bytes, FLAGS) })
}

/// A call that is made again when a signal has come.
#[inline]
fn repeated(mut call: impl FnMut() -> isize) -> Result<u64> {
    loop {
        if let Ok(count) = u64::try_from(call()) {
            return Ok(count);
        }
        match last_error() {
            Error::INTERRUPTED => {}
            error => return Err(error),
        }
    }
}

/// A new socket of a stream or a listener: it does not block, and is closed on exec.
pub(crate) fn socket(family: i32) -> Result<i32> {
    #[cfg(not(target_vendor = "apple"))]
    // SAFETY: no pointer is passed.
    return check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) });
    #[cfg(target_vendor = "apple")]
    {
        // SAFETY: likewise.
        let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM, 0) })?;
        set_flags(fd).inspect_err(|_| {
            let _ = super::fd::close(fd);
        })?;
        Ok(fd)
    }
}

/// A file does not block from now on, and is closed on exec.
pub(super) fn set_flags(fd: i32) -> Result<()> {
    // SAFETY: no pointer is passed; a bad fd is an error.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    unblock(fd).map(|_| ())
}

/// The family of an address.
#[cfg(feature = "capi")]
pub(crate) fn family_of(address: *const super::operation::sockaddr) -> i32 {
    // SAFETY: an address has a family, whatever else it has.
    i32::from(unsafe { (*address).sa_family })
}

/// Makes a socket non-blocking; whether it is one of datagrams. EBADF, ENOTSOCK.
pub(crate) fn adopt(fd: i32) -> Result<bool> {
    let kind = option(fd, libc::SO_TYPE)?;
    unblock(fd)?;
    Ok(kind == libc::SOCK_DGRAM)
}

/// No more is sent.
pub(crate) fn shutdown(fd: i32) -> Result<()> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::shutdown(fd, libc::SHUT_WR) }).map(|_| ())
}

/// The close breaks the connection off, instead of sending what is left.
pub(crate) fn break_off(fd: i32) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let (at, length) = ((&raw const linger).cast(), size_of::<libc::linger>() as libc::socklen_t);
    // SAFETY: the option is valid to read. (What has no such option is closed as it is.)
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, at, length) };
}

/// sendfile(2), without its signal. EINVAL: not of this file.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn send_file(fd: i32, file: i32, offset: i64, left: u64) -> Result<i64> {
    let count = left.min(crate::request::BYTES_MAX as u64) as usize;
    let _guard = PipeGuard::new();
    // SAFETY: the offset is valid to read and write.
    let sent = unsafe { libc::syscall(libc::SYS_sendfile, fd, file, &raw const offset, count) };
    if sent < 0 { Err(last_error()) } else { Ok(sent as i64) }
}

/// Nobody gets SIGPIPE of this thread's while it lives: unlike sendmsg(2), sendfile(2) has no flag for that.
#[cfg(any(target_os = "linux", target_os = "android"))]
struct PipeGuard(Option<libc::sigset_t>);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl PipeGuard {
    fn new() -> PipeGuard {
        // SAFETY: all zeros are a valid action, and a valid set; both are valid to write to.
        unsafe {
            let mut action: libc::sigaction = core::mem::zeroed();
            let asked = libc::sigaction(libc::SIGPIPE, core::ptr::null(), &raw mut action);
            if asked != 0 || action.sa_sigaction == libc::SIG_IGN {
                return PipeGuard(None); // as in most programs with sockets
            }
            let mut pending: libc::sigset_t = core::mem::zeroed();
            libc::sigpending(&raw mut pending);
            if libc::sigismember(&raw const pending, libc::SIGPIPE) == 1 {
                return PipeGuard(None); // another one changes nothing
            }
            let mut old: libc::sigset_t = core::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const *PipeGuard::set(&mut pending), &raw mut old);
            PipeGuard(Some(old))
        }
    }

    /// SIGPIPE alone.
    fn set(set: &mut libc::sigset_t) -> &libc::sigset_t {
        // SAFETY: the set is valid to write to.
        unsafe {
            libc::sigemptyset(set);
            libc::sigaddset(set, libc::SIGPIPE);
        }
        set
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Drop for PipeGuard {
    fn drop(&mut self) {
        let Some(old) = self.0 else { return };
        let location = super::errno_location();
        // SAFETY: errno is this thread's own; the sets and the time are valid to read.
        unsafe {
            let kept = *location;
            let mut set: libc::sigset_t = core::mem::zeroed();
            let at_once: libc::timespec = core::mem::zeroed();
            libc::sigtimedwait(&raw const *PipeGuard::set(&mut set), core::ptr::null_mut(), &raw const at_once);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, core::ptr::null_mut());
            *location = kept;
        }
    }
}

/// Other systems have another, or none.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn send_file(_fd: i32, _file: i32, _offset: i64, _left: u64) -> Result<i64> {
    Err(Error::INVALID)
}

/// What is sent at once of a file where there is no sendfile(2) for it.
pub(crate) const PIECE: usize = 4096;

/// Reads a piece of a file: pread(2). 0: its end.
pub(crate) fn read_piece(file: i32, piece: &mut [u8; PIECE], offset: i64, left: u64) -> Result<usize> {
    let count = left.min(PIECE as u64) as usize;
    // SAFETY: the piece is writable for so many.
    let read = repeated(|| unsafe { libc::pread(file, piece.as_mut_ptr().cast(), count, offset as libc::off_t) });
    read.map(|count| count as usize)
}
