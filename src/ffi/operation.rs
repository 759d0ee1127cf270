//! Operations.

use super::types::{becket_handle, becket_handler, becket_loop};
use super::{call, done, look, target, timeout, with};
use crate::engine::Taken;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::request::{Call, Request};
use crate::sys::operation::{iovec, msghdr, open_how, sockaddr, socklen_t, statx};
use crate::time::Duration;
use core::ffi::{c_char, c_int, c_void};

// ---- Operations ----
//
// A request that completes later, and never blocks the loop. Each one that was accepted has exactly one completion: an
// event of BECKET_KIND_OPERATION for its handler (or for becket_next()), whose value is what the system call returns, or
// a negative errno value, and whose fd is the operation's (-1: openat, openat2, statx). By then its handle is stale and its place
// free, so the handler can submit the next one.
//
// What the pointers lead to (buffers, vectors, messages, paths, addresses, results) is the operation's from its submission
// to its completion, and the fd has to stay open for as long. The kernel may read and write there at any time between.
//
// Sockets, pipes, terminals: on io_uring in the backend's ring; on the other backends a call that does not block at once,
// and again when the fd is ready. Several operations may wait on one fd, beside an I/O source of it too; those of one
// direction (input; output and connect) take effect in the order of their submission where becket waits for readiness:
// one that has to wait is not overtaken. On io_uring wait for the completion of one before the next where order matters.
//
// Files: in a ring of io_uring, or by POSIX AIO; see becket_config.files and becket_files_name().
//
// The functions below return 0 and, where handle is not NULL, the operation's handle; or an error, and nothing was begun:
// -EAGAIN: all places for operations are taken; -EBADF: fd is negative; -EINVAL: NULL, or an argument out of its range;
// -ENOSYS: a file, and no engine for files; -ENOTSUP: operations are not built in; -ECANCELED: becket_loop_drain() is under
// way. What the system says of the request comes in the completion, EBADF of a closed fd too; and -ENOSPC where it has to wait
// and poll(2) has no place for it, below RLIMIT_NOFILE: sources and operations together. O(1) and at most a few system
// calls that do not block; O(operations on the fd) where others wait on it.

/// The file's own position, as an offset. Pipes and sockets have no other.
pub const BECKET_CURRENT: i64 = -1;
/// For becket_op_fsync(): what is needed to read the data back, as fdatasync(2).
pub const BECKET_DATA_ONLY: u32 = 1;

const _: () = assert!(BECKET_CURRENT == crate::request::CURRENT);

/// Submits a request, and stores its handle where one is wanted.
///
/// # Safety
/// As for `ours`, and `handle` is null or valid to write to. The request's pointers are the operation's until it
/// completes.
unsafe fn submit(
    at: *mut becket_loop,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
    request: Result<Request>,
) -> c_int {
    // SAFETY: by this function's contract.
    let submit = |it: &Request| unsafe { with(at, |engine| engine.submit(it, target(handler, user))) };
    let submitted = request.as_ref().map_err(|error| *error).and_then(submit);
    done(submitted.map(|operation| {
        if !handle.is_null() {
            // SAFETY: by this function's contract.
            unsafe { handle.write(operation.raw()) }
        }
    }))
}

/// read(2); pread(2) with an offset other than BECKET_CURRENT. Value: bytes; 0: the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_read(
    event_loop: *mut becket_loop,
    fd: c_int,
    buffer: *mut c_void,
    length: usize,
    offset: i64,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request = Request::new(Call::Read, fd).and_then(|it| it.bytes(buffer.cast(), length)?.offset(offset));
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and lends the memory.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// write(2), pwrite(2). Value: bytes, which may be fewer than were asked for. SIGPIPE as in write(2): ignore it, or use
/// becket_op_send().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_write(
    event_loop: *mut becket_loop,
    fd: c_int,
    buffer: *const c_void,
    length: usize,
    offset: i64,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request = Request::new(Call::Write, fd).and_then(|it| it.bytes(buffer.cast(), length)?.offset(offset));
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and lends the memory.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// readv(2), preadv(2): into count vectors, 1024 at most.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_readv(
    event_loop: *mut becket_loop,
    fd: c_int,
    vectors: *const iovec,
    count: c_int,
    offset: i64,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request = Request::new(Call::ReadV, fd).and_then(|it| it.vectors(vectors.cast(), count)?.offset(offset));
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and lends the memory.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// writev(2), pwritev(2): from count vectors, 1024 at most.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_writev(
    event_loop: *mut becket_loop,
    fd: c_int,
    vectors: *const iovec,
    count: c_int,
    offset: i64,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request = Request::new(Call::WriteV, fd).and_then(|it| it.vectors(vectors.cast(), count)?.offset(offset));
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and lends the memory.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// fsync(2); fdatasync(2) with BECKET_DATA_ONLY. Value: 0. Writes that are under way are not waited for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_fsync(
    event_loop: *mut becket_loop,
    fd: c_int,
    flags: u32,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request = Request::new(Call::Fsync, fd).and_then(|it| match flags {
        0 | BECKET_DATA_ONLY => Ok(Request { flags: flags as i32, ..it }),
        _ => Err(Error::INVALID),
    });
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// openat(2). Value: the fd, which has O_CLOEXEC. Without a ring of io_uring it is made at once, and may block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_openat(
    event_loop: *mut becket_loop,
    dirfd: c_int,
    path: *const c_char,
    flags: c_int,
    mode: u32,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request =
        Request::new(Call::OpenAt, dirfd).and_then(|it| Request { flags, length: mode, ..it }.object(path.cast()));
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and lends the path.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// openat2(2), Linux: with limits on how the path leads there, such as RESOLVE_BENEATH. size is sizeof(struct open_how), of
/// <linux/openat2.h>. Value: the fd; -ENOSYS: before Linux 5.6. O_CLOEXEC is not added. Without a ring of io_uring it is made
/// at once, and may block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_openat2(
    event_loop: *mut becket_loop,
    dirfd: c_int,
    path: *const c_char,
    how: *const open_how,
    size: usize,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request = Request::new(Call::OpenAt2, dirfd).and_then(|it| {
        let size = u32::try_from(size).map_err(|_| Error::INVALID)?;
        it.object(how.cast())?;
        Ok(Request { length: size, ..it }.object(path.cast())?.second(how.cast_mut().cast()))
    });
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and lends the path and what says how.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// statx(2), Linux. Value: 0, and *result. Without a ring of io_uring it is made at once, and may block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_statx(
    event_loop: *mut becket_loop,
    dirfd: c_int,
    path: *const c_char,
    flags: c_int,
    mask: u32,
    result: *mut statx,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request = Request::new(Call::Statx, dirfd).and_then(|it| {
        it.object(result.cast())?;
        Ok(Request { flags, length: mask, ..it }.object(path.cast())?.second(result.cast()))
    });
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and lends the memory.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// close(2). Value: 0. -EBUSY: the fd has an I/O source, which has to be removed first, or operations that wait for its
/// readiness. Once submitted the fd is not the program's any more, whatever the value, unless that is -ECANCELED. Without
/// a ring of io_uring it is made at once, and may block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_close(
    event_loop: *mut becket_loop,
    fd: c_int,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { submit(event_loop, handler, user, handle, Request::new(Call::Close, fd)) }
}

/// accept4(2). Value: the fd of the connection, which is closed on exec and does not block; flags: 0, or SOCK_CLOEXEC and
/// SOCK_NONBLOCK, which it has in any case. address and length may both be NULL; else *length is the room there, and then
/// the address's length. A listener that several processes accept from should be non-blocking itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_accept(
    event_loop: *mut becket_loop,
    fd: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
    flags: u32,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request = Request::new(Call::Accept, fd).and_then(|it| {
        if address.is_null() != length.is_null() || flags & !crate::sys::operation::ACCEPT_FLAGS != 0 {
            return Err(Error::INVALID);
        }
        Ok(it.bytes(address.cast(), 0)?.second(length.cast()))
    });
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and lends the memory.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// connect(2). Value: 0 when it is connected. The socket may be a blocking one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_connect(
    event_loop: *mut becket_loop,
    fd: c_int,
    address: *const sockaddr,
    length: socklen_t,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request = Request::new(Call::Connect, fd)
        .and_then(|it| it.object(address.cast())?.bytes(address.cast(), length as usize));
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and lends the address.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// recv(2). Value: bytes; 0: the end. It may be fewer than were asked for, with MSG_WAITALL too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_recv(
    event_loop: *mut becket_loop,
    fd: c_int,
    buffer: *mut c_void,
    length: usize,
    flags: c_int,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request = Request::new(Call::Recv, fd).and_then(|it| Request { flags, ..it }.bytes(buffer.cast(), length));
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and lends the memory.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// send(2). Value: bytes, which may be fewer than were asked for. MSG_NOSIGNAL is added.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_send(
    event_loop: *mut becket_loop,
    fd: c_int,
    buffer: *const c_void,
    length: usize,
    flags: c_int,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request = Request::new(Call::Send, fd).and_then(|it| Request { flags, ..it }.bytes(buffer.cast(), length));
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and lends the memory.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// recvmsg(2). Value: bytes. The message, its vectors and what they lead to are the operation's. MSG_ERRQUEUE is waited for as
/// an error of the socket is; select(2) tells of one only where the socket has SO_SELECT_ERR_QUEUE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_recvmsg(
    event_loop: *mut becket_loop,
    fd: c_int,
    message: *mut msghdr,
    flags: c_int,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request = Request::new(Call::RecvMsg, fd).and_then(|it| Request { flags, ..it }.object(message.cast()));
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and lends the memory.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// sendmsg(2). Value: bytes. MSG_NOSIGNAL is added.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_sendmsg(
    event_loop: *mut becket_loop,
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
) -> c_int {
    let request = Request::new(Call::SendMsg, fd).and_then(|it| Request { flags, ..it }.object(message.cast()));
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked, and lends the memory.
    unsafe { submit(event_loop, handler, user, handle, request) }
}

/// Asks for an end of an operation. Its completion comes all the same, and says what happened: -ECANCELED, and nothing was
/// done; or, when it was too late, the result. -ESTALE: it has completed; -EINVAL: it is a source. O(1); O(operations on the
/// fd) where it waits for readiness.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_cancel(event_loop: *mut becket_loop, operation: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.cancel(Handle::from_raw(operation))) })
}

/// Cancels an operation delay_ns from now, unless it has completed by then: its value is -ETIMEDOUT, or the result when it
/// was too late. Another one replaces it; BECKET_NEVER takes it away. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_op_deadline(
    event_loop: *mut becket_loop,
    operation: becket_handle,
    delay_ns: u64,
) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe {
        with(event_loop, |it| it.set_operation_deadline(Handle::from_raw(operation), Duration::from_nanos(delay_ns)))
    })
}

/// Cancels all operations, waits for their completions and calls their handlers; other events stay queued. While it runs
/// nothing new is accepted (-ECANCELED). Legal in a handler, after becket_stop(), and in a loop that never ran. 0: no
/// operation is left; -ETIMEDOUT: some are, after timeout_ns; -EPERM: the loop is another thread's; -EBUSY: called in a
/// handler that it has called. A disk that does not answer is waited for: no file can be had back from the kernel before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_loop_drain(event_loop: *mut becket_loop, timeout_ns: i64) -> c_int {
    done(timeout(timeout_ns).and_then(|timeout| {
        // SAFETY: the caller gives a loop, or NULL, which is checked; its handlers came in through this ABI.
        unsafe { super::ours(event_loop)?.drain_operations(timeout, &mut |taken: &Taken| call(event_loop, taken)) }
    }))
}

/// Who reads and writes files for this loop: "io_uring", "aio", "aio-signal", "none"; NULL after an error. Static. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_files_name(event_loop: *const becket_loop) -> *const c_char {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    unsafe { look(event_loop, |engine| Ok(engine.files_name().as_ptr())) }.unwrap_or(core::ptr::null())
}

/// Why it is this one, "" where it was asked for by name; NULL after an error. Static. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_files_note(event_loop: *const becket_loop) -> *const c_char {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    unsafe { look(event_loop, |engine| Ok(engine.files_note().as_ptr())) }.unwrap_or(core::ptr::null())
}
