//! Streams.

use super::constants::{BECKET_DATAGRAM, BECKET_TRUSTED};
use super::types::{becket_handle, becket_handler, becket_loop};
use super::{add, answer, done, look, store, with};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::request::{Call, Request};
use crate::storage::sends::{Content, Part, Sending};
use crate::streams;
use crate::sys::operation::{iovec, sockaddr, socklen_t};
use crate::sys::stream::family_of;
use crate::time::Duration;
use core::ffi::{c_int, c_void};
use core::mem::offset_of;

// ---- Streams ----
//
// A stream is a source that receives and sends by itself: over a connected socket, or over one that it connects, or over a
// socket of datagrams. Its memory is that of becket_config.streams: 128 bytes for an idle one (80 of its source, and 48), and
// the buffers that all streams receive into.
//
// The fd is the loop's from becket_stream_add() on: it is closed with the stream, and by becket_loop_close(); after
// becket_remove() it is the program's again. What every source has, a stream has too: level, handler, keepalive, posts,
// becket_io_timeout(), becket_io_deadline(), becket_io_fd(). Nothing else may read from the fd or write to it.
//
// Each event, BECKET_KIND_STREAM, tells one thing, by one of these flags (with BECKET_TRIGGERED it may tell none):
//
//   BECKET_STREAM_CONNECTED  becket_stream_connect() has connected it
//   BECKET_STREAM_DATA       value bytes were received: at data, valid until the handler returns or, before that, until
//                            another event is asked for; becket_stream_keep() makes it last
//   BECKET_STREAM_END        the peer sends no more; what is sent to it may still arrive
//   BECKET_STREAM_SENT       a request is done, and the program's again: data is the becket_send_request, value its bytes,
//                            or a negative errno value; data is NULL where becket_stream_forward() has failed
//   BECKET_STREAM_LOW        the queue was above the high watermark, and is not above the low one any more
//   BECKET_TIMEOUT, BECKET_DEADLINE   as for I/O sources: that is all, unless the program does something about it
//   BECKET_STREAM_CLOSED     the last event: value is 0, or the reason as a negative errno value. The fd is closed by the time
//                            of it, the handle stale, all requests were done before
//
// A stream ends, with CLOSED, when the program closes or resets it, when it cannot be connected, and when receiving fails, or
// sending after the end. When only sending fails, the requests are done with that error, further ones are -EPIPE, and what the
// peer has sent can still be received.
//
// On io_uring the kernel receives by itself, into all buffers but one, and at most as many as its rings have entries: it may have
// done so when a stream is paused, which tells of it when it is resumed. What it has received for a stream that is removed is
// lost; when its handler is told of data nothing is under way.
//
//   static BECKET_STREAMS(streams, 1000, 4, 16384);      // 1000 streams, 4 buffers of 16 KiB
//   becket_config config = {.size = sizeof config, .streams = &streams};
//
// The functions below return 0 or a positive number, or an error after which nothing has changed. -ESTALE: the stream has ended,
// or was removed; -EINVAL: it is no stream.

/// One thing to be sent, in the program's memory: zeros before its first use. From its submission until it is done it is the
/// stream's, and so is what it leads to.
#[repr(C)]
pub struct becket_send_request {
    /// The program's.
    pub user: *mut c_void,
    /// becket's.
    pub state: [u64; 13],
}

const _: () = {
    assert!(size_of::<Sending>() <= size_of::<becket_send_request>());
    assert!(align_of::<Sending>() <= align_of::<becket_send_request>());
    assert!(offset_of!(Sending, user) == offset_of!(becket_send_request, user));
    assert!(size_of::<Part>() == size_of::<iovec>() && align_of::<Part>() == align_of::<iovec>());
    assert!(offset_of!(Part, at) == offset_of!(iovec, iov_base));
    assert!(offset_of!(Part, length) == offset_of!(iovec, iov_len));
};

/// Bytes of memory for so many streams and buffers: what BECKET_STREAMS_SIZE says, or 0 when there can be no such memory. Any
/// thread. O(1).
#[unsafe(no_mangle)]
pub extern "C" fn becket_streams_size(streams: u32, buffers: u32, buffer_size: u32) -> usize {
    streams::bytes(streams, buffers, buffer_size).unwrap_or(0)
}

/// A stream over a connected socket, or one of datagrams. It becomes non-blocking. flags: 0; or BECKET_TRUSTED: it is a
/// non-blocking socket, which saves three system calls, and then BECKET_DATAGRAM too where it is one of datagrams.
///
/// -EBADF, -ENOTSOCK; -EEXIST: the fd has a source; -ENOSPC: there is no room for another source, or for another stream; and what
/// becket_io_add() says of the fd. O(1) expected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_add(
    event_loop: *mut becket_loop,
    fd: c_int,
    flags: u32,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let datagrams = match flags {
        0 => Ok(None),
        BECKET_TRUSTED => Ok(Some(false)),
        _ if flags == BECKET_TRUSTED | BECKET_DATAGRAM => Ok(Some(true)),
        _ => Err(Error::INVALID),
    };
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { add(event_loop, handler, user, handle, |engine, target| engine.add_stream(fd, datagrams?, target)) }
}

/// A stream over a new socket, which it connects: BECKET_STREAM_CONNECTED, or BECKET_STREAM_CLOSED with the reason, after
/// within_ns (BECKET_NEVER: whenever the system says so) -ETIMEDOUT. What is sent meanwhile is queued. The address is copied by
/// the system.
///
/// -ENOSPC: there is no room for another source, or for another stream; -EAGAIN: the queue of a UNIX socket's listener is full;
/// and what the system says at once: -EMFILE, -ENOENT, -ENETUNREACH, … O(1) expected, O(log n) with a deadline.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_connect(
    event_loop: *mut becket_loop,
    address: *const sockaddr,
    length: socklen_t,
    within_ns: u64,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let within = Duration::from_nanos(within_ns);
    let within = if within_ns == super::constants::BECKET_NEVER { Duration::FOREVER } else { within };
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and a valid address.
    unsafe {
        add(event_loop, handler, user, handle, |engine, target| {
            if address.is_null() || (length as usize) < size_of_family() {
                return Err(Error::INVALID);
            }
            let request = |fd| Request::new(Call::Connect, fd).and_then(|it| it.bytes(address.cast(), length as usize));
            engine.connect_stream(family_of(address), request, within, target)
        })
    }
}

/// Bytes of an address up to the end of its family.
const fn size_of_family() -> usize {
    offset_of!(sockaddr, sa_family) + size_of::<libc_family>()
}

#[allow(non_camel_case_types)]
type libc_family = crate::sys::operation::sa_family_t;

/// It is done, and will have no event.
pub const BECKET_SEND_DONE: c_int = 0;
/// It is queued: BECKET_STREAM_SENT will tell.
pub const BECKET_SEND_QUEUED: c_int = 1;
/// It is queued, and more is than the high watermark: BECKET_STREAM_LOW will tell when to go on.
pub const BECKET_SEND_FULL: c_int = 2;

/// Sends bytes, in the order of submission: at once where nothing is queued (but see becket_stream_batch()), and what the socket
/// does not take when it does. All of them are sent, or the request is done with an error. It never refuses for want of room,
/// since the memory is the program's: who sends more than the peer takes watches for BECKET_SEND_FULL.
///
/// BECKET_SEND_DONE, BECKET_SEND_QUEUED or BECKET_SEND_FULL; -EPIPE: the stream sends no more, because it is shut down, or closes, or
/// sending has failed; -EBUSY: the request is in use. One system call that does not block at most.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_send(
    event_loop: *mut becket_loop,
    stream: becket_handle,
    request: *mut becket_send_request,
    data: *const c_void,
    length: usize,
) -> c_int {
    // SAFETY: the caller gives a loop and a request, or NULL, which is checked, and lends the memory.
    unsafe { send(event_loop, stream, request, Content::Bytes(Part { at: data.cast(), length }), None) }
}

/// The same from count vectors, 1024 at most, which have to stay as they are too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_sendv(
    event_loop: *mut becket_loop,
    stream: becket_handle,
    request: *mut becket_send_request,
    vectors: *const iovec,
    count: c_int,
) -> c_int {
    let Ok(count) = u32::try_from(count) else { return -Error::INVALID.errno() };
    // SAFETY: likewise.
    unsafe { send(event_loop, stream, request, Content::Vectors(vectors.cast(), count), None) }
}

/// Sends length bytes of a regular file, from an offset on, by sendfile(2) where the system has it for that. It reads the file as
/// it goes, and waits for the disk where that is not in memory. The value is less than length when the file ends before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_sendfile(
    event_loop: *mut becket_loop,
    stream: becket_handle,
    request: *mut becket_send_request,
    file: c_int,
    offset: i64,
    length: u64,
) -> c_int {
    // SAFETY: likewise.
    unsafe { send(event_loop, stream, request, Content::File(file, offset, length), None) }
}

/// Sends one datagram to an address, which has to stay valid too. What the network says of it is the value; the stream goes on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_sendto(
    event_loop: *mut becket_loop,
    stream: becket_handle,
    request: *mut becket_send_request,
    data: *const c_void,
    length: usize,
    address: *const sockaddr,
    address_length: socklen_t,
) -> c_int {
    let content = Content::Bytes(Part { at: data.cast(), length });
    // SAFETY: likewise.
    unsafe { send(event_loop, stream, request, content, Some((address.cast(), address_length))) }
}

/// Sends bytes of a buffer of the loop's: of what the latest BECKET_STREAM_DATA tells, or of what was kept. The buffer is the
/// stream's from then on, and free when they are sent: without a request, and without an event. If they cannot be sent
/// BECKET_STREAM_SENT tells so, with data NULL and a negative value. Until then the buffer counts as kept. On io_uring this goes
/// with the next wait, in no system call of its own; at the latest when becket_run() returns, or when the stream ends.
///
/// BECKET_SEND_DONE; or BECKET_SEND_FULL: more is queued than the high watermark, and BECKET_STREAM_LOW will tell when to go on.
/// -EPIPE: as for becket_stream_send(); -EINVAL: no buffer has so many bytes there, or the event did not tell of them; -ESTALE: it
/// is not the latest event's any more, and was not kept, or is sent already. O(1), and one system call that does not block at
/// most.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_forward(
    event_loop: *mut becket_loop,
    stream: becket_handle,
    data: *const c_void,
    length: usize,
) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked; the address is compared with those of the loop's own buffers.
    answer(unsafe {
        with(event_loop, |engine| engine.forward(Handle::from_raw(stream), data.cast(), length).map(|sent| sent as u32))
    })
}

/// # Safety
/// As for `ours`; the request is null or valid, zeros or one that was used; and what it leads to is the stream's until it is
/// done.
unsafe fn send(
    at: *mut becket_loop,
    stream: becket_handle,
    request: *mut becket_send_request,
    content: Content,
    to: Option<(*const (), u32)>,
) -> c_int {
    // SAFETY: by this function's contract; a request begins with what the engine keeps in it.
    answer(unsafe {
        with(at, |engine| {
            let make = || Sending::make(request.cast(), content, to, None);
            engine.send_stream(Handle::from_raw(stream), make).map(|sent| sent as u32)
        })
    })
}

/// Gathers what is sent, on != 0: a request waits until the stream's turn in the queue comes, behind the events that are there, and
/// then goes with the others of the stream, 16 pieces in one system call (a file or a datagram has one of its own); on io_uring in
/// none, but with the next wait, if it is one and of one piece. So each is BECKET_SEND_QUEUED or BECKET_SEND_FULL, and told with
/// BECKET_STREAM_SENT; its memory is the stream's until then. For those who answer many requests at a time, and for io_uring. Not at
/// first. When it is switched off, what was gathered goes in its turn all the same, and what is sent then behind it. It does not
/// concern becket_stream_forward().
///
/// Nothing goes while the loop stands still: after becket_stop() what is gathered stays queued for the next turn, and where the
/// stream is removed or reset, or the loop closed, it is not sent. becket_stream_close() sends it first. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_batch(event_loop: *mut becket_loop, stream: becket_handle, on: c_int) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.batch_stream(Handle::from_raw(stream), on != 0)) })
}

/// Takes a queued request back: what is left of it is not sent. It is done in its order, and BECKET_STREAM_SENT tells the bytes that
/// were sent of it, which may be all: until then it is the stream's. Nothing happens to one that is done. What else is queued
/// is sent nevertheless: who cuts one short knows what the peer makes of that. One that goes with the next wait (on io_uring) still
/// does, and counts as queued until then. -EINVAL: NULL. O(requests), and one system call that does not block at most.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_cancel(
    event_loop: *mut becket_loop,
    stream: becket_handle,
    request: *const becket_send_request,
) -> c_int {
    if request.is_null() {
        return -Error::INVALID.errno();
    }
    // SAFETY: the caller gives a loop, or NULL, which is checked. The request is only compared with those that are queued.
    done(unsafe { with(event_loop, |engine| engine.cancel_send(Handle::from_raw(stream), request.cast())) })
}

/// Bytes that are queued. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_queued(
    event_loop: *const becket_loop,
    stream: becket_handle,
    bytes: *mut u64,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { store(bytes, || look(event_loop, |engine| engine.stream_queued(Handle::from_raw(stream)))) }
}

/// The watermarks of the queue, in bytes; at first 16 and 64 KiB. -EINVAL: low is above high. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_watermarks(
    event_loop: *mut becket_loop,
    stream: becket_handle,
    low: u32,
    high: u32,
) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.set_watermarks(Handle::from_raw(stream), low, high)) })
}

/// The watermarks. low and high may be NULL. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_get_watermarks(
    event_loop: *const becket_loop,
    stream: becket_handle,
    low: *mut u32,
    high: *mut u32,
) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    let found = unsafe { look(event_loop, |engine| engine.watermarks(Handle::from_raw(stream))) };
    done(found.map(|found| {
        for (at, mark) in [(low, found.0), (high, found.1)].into_iter().filter(|(at, _)| !at.is_null()) {
            // SAFETY: the caller gives a place, and it is not NULL.
            unsafe { at.write(mark) };
        }
    }))
}

/// Receives nothing until becket_stream_resume(): what the peer sends fills the system's own buffers, and then the peer has to
/// wait. Its end, and that it is gone, are not told meanwhile. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_pause(event_loop: *mut becket_loop, stream: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.pause_stream(Handle::from_raw(stream), true)) })
}

/// Receives again. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_resume(event_loop: *mut becket_loop, stream: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.pause_stream(Handle::from_raw(stream), false)) })
}

/// Keeps the buffer of the latest BECKET_STREAM_DATA, whatever becomes of its stream: data is the event's. Becket receives into
/// those that are left; when there is none, streams that have something to receive wait, and go on in their order when one comes
/// back. One stream keeps at most half of them (and 255): it receives nothing more until it has given one back.
///
/// -EINVAL: no buffer is there; -ESTALE: it is not the latest event's any more, or is kept already. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_keep(event_loop: *mut becket_loop, data: *const c_void) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked; the address is only compared.
    done(unsafe { with(event_loop, |engine| engine.keep_buffer(data.cast()).map(|_| ())) })
}

/// Gives a buffer back that was kept: data is any address in it. -EINVAL: no buffer is there; -ESTALE: it was not kept, or was
/// given back. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_release(event_loop: *mut becket_loop, data: *const c_void) -> c_int {
    // SAFETY: likewise.
    done(unsafe { with(event_loop, |engine| engine.release_buffer(data.cast())) })
}

/// How many buffers are not kept. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_buffers(event_loop: *const becket_loop) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(unsafe { look(event_loop, |engine| Ok(engine.buffers_left())) })
}

/// Who has sent a datagram, for as long as its data is valid: data is the event's. *length is the address's length, or 0: it has
/// none. -EINVAL: no datagram begins there; -ESTALE: it was given back. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_sender(
    event_loop: *const becket_loop,
    data: *const c_void,
    address: *mut *const sockaddr,
    length: *mut socklen_t,
) -> c_int {
    if length.is_null() {
        return -Error::INVALID.errno();
    }
    let found: Result<*const sockaddr> =
        // SAFETY: the caller gives a loop, or NULL, which is checked; what is found is a sender in the loop's own memory.
        unsafe { look(event_loop, |engine| engine.sender(data.cast())) }.map(|sender| unsafe { (*sender).as_raw() }).map(
            |(at, bytes)| {
                if !address.is_null() {
                    // SAFETY: the caller gives a place.
                    unsafe { length.write(bytes as socklen_t) };
                }
                at.cast()
            },
        );
    // SAFETY: the caller gives a place, or NULL, which is checked.
    unsafe { store(address, || found) }
}

/// Sends no more after what is queued: the peer learns of the end, shutdown(2). Receiving goes on. A second time: nothing.
/// -EPIPE: sending has failed. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_shutdown(event_loop: *mut becket_loop, stream: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.shutdown_stream(Handle::from_raw(stream))) })
}

/// Ends the stream: receives nothing more, sends what is queued, closes the fd, then BECKET_STREAM_CLOSED with 0. How long that
/// takes is the peer's to say: BECKET_TIMEOUT, BECKET_DEADLINE and becket_stream_reset() are for that. As with close(2), a peer
/// whose data was not received may not get the last of what was sent: who needs that shuts down, waits for the peer's end, and
/// then closes. A second time: nothing. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_close(event_loop: *mut becket_loop, stream: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.close_stream(Handle::from_raw(stream))) })
}

/// Ends the stream at once: what is queued is not sent, and the peer learns that the connection was broken off (SO_LINGER). All
/// requests, and then the stream, end with -ECANCELED. O(requests).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stream_reset(event_loop: *mut becket_loop, stream: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.reset_stream(Handle::from_raw(stream))) })
}
