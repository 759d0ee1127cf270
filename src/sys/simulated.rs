//! What a simulated system does with the memory of a request, and nothing else: no system call.
//!
//! A request's pointers are valid as its call wants them: who submitted it answers for that.

use super::operation::{iovec, msghdr, socklen_t};
use crate::error::Result;
use crate::request::{Call, Request};

/// Its vectors, where it has some.
fn vectors_of(request: &Request) -> Option<(*const iovec, usize)> {
    match request.call {
        Call::ReadV | Call::WriteV => Some((request.at.cast_const().cast(), request.length as usize)),
        Call::RecvMsg | Call::SendMsg => {
            // SAFETY: the message is valid.
            let message = unsafe { &*request.at.cast::<msghdr>() };
            #[allow(clippy::unnecessary_cast)] // another type on other systems
            Some((message.msg_iov, message.msg_iovlen as usize))
        }
        _ => None,
    }
}

/// Calls `each` with the parts of its memory, in order, until that says no.
fn each_part(request: &Request, mut each: impl FnMut(*mut u8, usize) -> bool) {
    let Some((vectors, count)) = vectors_of(request) else {
        each(request.at.cast(), request.length as usize);
        return;
    };
    for index in 0..count {
        // SAFETY: so many vectors are valid.
        let vector = unsafe { vectors.add(index).read() };
        if !each(vector.iov_base.cast(), vector.iov_len) {
            return;
        }
    }
}

/// How many bytes it may move.
pub(crate) fn bytes_of(request: &Request) -> usize {
    let mut total = 0_usize;
    each_part(request, |_, length| {
        total = total.saturating_add(length);
        true
    });
    total.min(0x7fff_f000)
}

/// Writes bytes into its memory, from so many on; there is room for them.
pub(crate) fn store(request: &Request, mut skip: usize, mut bytes: &[u8]) {
    each_part(request, |at, length| {
        let before = skip.min(length);
        skip -= before;
        let (now, later) = bytes.split_at(bytes.len().min(length - before));
        // SAFETY: within a part, which is valid to write to.
        unsafe { at.wrapping_add(before).copy_from(now.as_ptr(), now.len()) };
        bytes = later;
        !bytes.is_empty()
    });
}

/// Reads bytes from the beginning of its memory; there are so many.
pub(crate) fn load(request: &Request, bytes: &mut [u8]) {
    let mut done = 0;
    each_part(request, |at, length| {
        let piece = &mut bytes[done..];
        let count = piece.len().min(length);
        // SAFETY: within a part, which is valid to read.
        unsafe { at.cast_const().copy_to(piece.as_mut_ptr(), count) };
        done += count;
        done < bytes.len()
    });
}

/// A message that was received has no address, and nothing beside its bytes.
pub(crate) fn set_received(request: &Request) {
    if request.call == Call::RecvMsg {
        // SAFETY: the message is valid to write to.
        let message = unsafe { &mut *request.at.cast::<msghdr>() };
        message.msg_namelen = 0;
        message.msg_controllen = 0;
        message.msg_flags = 0;
    }
}

/// Who has connected has no address.
pub(crate) fn set_no_address(request: &Request) {
    let length: *mut socklen_t = request.second_at().cast();
    if !length.is_null() {
        // SAFETY: null, or valid to write to.
        unsafe { length.write(0) };
    }
}

/// The port of its address. `None`: it has none.
pub(crate) fn port_of(request: &Request) -> Option<u16> {
    let length = request.length as usize;
    if length < size_of::<libc::sockaddr_in>() {
        return None;
    }
    // SAFETY: the address is valid for its length. (The port stands at the same place in both families.)
    let address = unsafe { request.at.cast::<libc::sockaddr_in>().read_unaligned() };
    let family = i32::from(address.sin_family);
    (family == libc::AF_INET || family == libc::AF_INET6).then(|| u16::from_be(address.sin_port))
}

/// Whether it is about the descriptor itself.
pub(crate) fn is_path_empty(request: &Request) -> bool {
    // SAFETY: the path is valid.
    unsafe { request.at.cast_const().cast::<u8>().read() == 0 }
}

/// Says what a regular file is like. ENOSYS: the system has no such call.
pub(crate) fn set_status(request: &Request, bytes: u64) -> Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // SAFETY: all zeros are a valid status.
        let mut status: libc::statx = unsafe { core::mem::zeroed() };
        status.stx_mask = libc::STATX_BASIC_STATS;
        status.stx_mode = libc::S_IFREG as u16 | 0o644;
        status.stx_nlink = 1;
        status.stx_size = bytes;
        status.stx_blksize = 4096;
        status.stx_blocks = bytes.div_ceil(512);
        // SAFETY: the place for the result is valid.
        unsafe { request.second_at().cast::<libc::statx>().write(status) };
        Ok(())
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (request, bytes);
        Err(crate::error::Error::NO_CALL)
    }
}
