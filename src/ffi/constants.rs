//! Limits and flags. Written by hand for the header, asserted against the types that they stand for.

use crate::backend::Ready;
use crate::handle::{Kind, Kinds};
use crate::storage::names::Names;
use crate::storage::{layout, lists};

// ---- Limits and special values ----

/// A timeout without end.
pub const BECKET_FOREVER: i64 = -1;
/// A delay, a span or a point in time that does not come: disarmed, no deadline, no idle timeout.
pub const BECKET_NEVER: u64 = u64::MAX;
/// Levels of the event queue: 0, which goes first, to 3.
pub const BECKET_LEVELS: u32 = 4;

/// The most sources of one loop.
pub const BECKET_SOURCES_MAX: u32 = 16_777_213;

const _: () = assert!(BECKET_LEVELS as usize == lists::LEVELS && BECKET_SOURCES_MAX as usize == Names::SOURCES_MAX);

// ---- Backends: becket_config.backend ----

/// The best that the system grants: io_uring where becket_config.ring is given, else epoll, poll, select.
pub const BECKET_BACKEND_AUTO: u32 = 0;
/// select(2): every POSIX system; fds below FD_SETSIZE; a connection that ended is READABLE, there is no HANGUP.
pub const BECKET_BACKEND_SELECT: u32 = 1;
/// poll(2): every POSIX system.
pub const BECKET_BACKEND_POLL: u32 = 2;
/// epoll(7): Linux. An fd that was closed before its source was removed is silent until it is modified.
pub const BECKET_BACKEND_EPOLL: u32 = 3;
/// io_uring(7): Linux 6.1 and later. Without becket_config.ring the kernel's memory is mapped for the rings.
pub const BECKET_BACKEND_IO_URING: u32 = 4;
/// No system at all: becket_config.simulator. AUTO where that is given.
pub const BECKET_BACKEND_SIMULATOR: u32 = 5;

// ---- Files: becket_config.files ----
//
// Who reads and writes files for the operations of a loop. POSIX AIO is the libc's own code, which may allocate memory and
// start threads.

/// The best that the system grants: io_uring, in the backend's own ring or in one beside it; else POSIX AIO where it is
/// built in and becket_config.aio is given; else nobody.
pub const BECKET_FILES_AUTO: u32 = 0;
/// io_uring(7), Linux 6.1 and later: in the backend's ring, or in one whose fd the backend watches, in the memory of
/// becket_config.ring where that is given and the backend has no use for it, else in memory that the kernel maps.
pub const BECKET_FILES_IO_URING: u32 = 1;
/// POSIX AIO, aio(7), of a library that was built with it (make AIO=1; Linux with glibc, FreeBSD, Apple's systems), in the memory
/// of becket_config.aio, else -ENOBUFS. The loop asks in each turn whether something has completed, and while something is under
/// way it sleeps for 1 to 10 ms at most. What the C library does for it is its own: glibc allocates memory and starts threads,
/// one for each file that is read or written at a time, on the loop's CPUs; where SCHED_FIFO or SCHED_RR runs the loop, with a
/// priority one less than its own, so that it goes first (with a priority of 1 it does not); and a forked child of a process
/// that has used it cannot: -ECHILD. There is no open, stat and close in it, and no position of a file's own (BECKET_CURRENT):
/// those are made inline, and may block; likewise an fsync of what is open for reading alone, as folders are. Vectors are made
/// one after the other.
pub const BECKET_FILES_AIO: u32 = 2;
/// The same; a real-time signal, becket_config.aio_signal, tells that something has completed. Since signals are lost where too
/// many are pending (RLIMIT_SIGPENDING), the loop looks by itself too, after 20 ms at most.
pub const BECKET_FILES_AIO_SIGNAL: u32 = 3;
/// Nobody: reads and writes of files are -ENOSYS, and openat, statx and close are made at once.
pub const BECKET_FILES_NONE: u32 = 4;

// ---- Configuration flags: becket_config.flags ----

/// Time starts at one second and moves only when the loop would sleep (when no fd is ready it jumps to the end of
/// the sleep; a sleep without end is a real one), and by becket_clock_advance(). For tests.
pub const BECKET_VIRTUAL_CLOCK: u32 = 1;
/// A signal that is not a source ends a wait: it returns -EINTR. Without this it is waited through.
pub const BECKET_RETURN_EINTR: u32 = 2;
/// Learn of children by SIGCHLD even where the system has pidfds.
pub const BECKET_NO_PIDFD: u32 = 4;

// ---- Readiness: interest, and becket_event.flags ----
//
// The first three can be asked for. Readiness is level-triggered: it is told in every turn in which it holds. ERROR
// and HANGUP are told whatever was asked for, and with them the directions that were: a handler may simply read or
// write and see.

/// A read will not block: data, a connection to accept, or the end of the file.
pub const BECKET_READABLE: u32 = 1;
/// Out-of-band data, or another exceptional condition (POLLPRI).
pub const BECKET_PRIORITY: u32 = 2;
/// A write will not block; a connect has ended, well or not.
pub const BECKET_WRITABLE: u32 = 4;
/// An error is pending, or the fd is not open.
pub const BECKET_ERROR: u32 = 8;
/// Both directions are closed. Not on select.
pub const BECKET_HANGUP: u32 = 16;
/// The peer has shut down its writing side. With READABLE interest only, and where the system tells; not on select.
pub const BECKET_PEER_CLOSED: u32 = 32;
/// Nothing was delivered to this I/O source for its idle timeout. Never together with readiness.
pub const BECKET_TIMEOUT: u32 = 64;
/// The fixed deadline of this I/O source has passed. May come together with readiness.
pub const BECKET_DEADLINE: u32 = 128;
/// becket_trigger() or becket_wake() was called for this source.
pub const BECKET_TRIGGERED: u32 = 256;
/// This listener has paused by itself, for want of room; it goes on by itself too.
pub const BECKET_PAUSED: u32 = 512;

const _: () = {
    assert!(BECKET_READABLE == Ready::READABLE.bits() as u32);
    assert!(BECKET_PRIORITY == Ready::PRIORITY.bits() as u32);
    assert!(BECKET_WRITABLE == Ready::WRITABLE.bits() as u32);
    assert!(BECKET_ERROR == Ready::ERROR.bits() as u32);
    assert!(BECKET_HANGUP == Ready::HANGUP.bits() as u32);
    assert!(BECKET_PEER_CLOSED == Ready::PEER_CLOSED.bits() as u32);
    assert!(BECKET_TIMEOUT == Ready::TIMEOUT.bits() as u32);
    assert!(BECKET_DEADLINE == Ready::DEADLINE.bits() as u32);
    assert!(BECKET_TRIGGERED == Ready::TRIGGERED.bits() as u32);
    assert!(BECKET_PAUSED == Ready::PAUSED.bits() as u32);
};

// ---- Streams: becket_event.flags ----

/// It is connected.
pub const BECKET_STREAM_CONNECTED: u32 = 0x10_0000;
/// Something was received.
pub const BECKET_STREAM_DATA: u32 = 0x1_0000;
/// The peer sends no more.
pub const BECKET_STREAM_END: u32 = 0x2_0000;
/// A request is done.
pub const BECKET_STREAM_SENT: u32 = 0x4_0000;
/// The queue is not above the low watermark any more.
pub const BECKET_STREAM_LOW: u32 = 0x8_0000;
/// It has ended.
pub const BECKET_STREAM_CLOSED: u32 = 0x20_0000;

#[cfg(feature = "streams")]
const _: () = {
    use crate::engine::streams::flags;
    assert!(BECKET_STREAM_CONNECTED == flags::CONNECTED && BECKET_STREAM_DATA == flags::DATA);
    assert!(BECKET_STREAM_END == flags::END && BECKET_STREAM_SENT == flags::SENT);
    assert!(BECKET_STREAM_LOW == flags::LOW && BECKET_STREAM_CLOSED == flags::CLOSED);
};

// ---- Options, together with an interest ----

/// The interest becomes 0 on delivery of readiness. For becket_io_add() and becket_io_modify().
pub const BECKET_ONESHOT: u32 = 0x1000;
/// The caller vouches that the fd is open and can be waited for: saves a system call. For becket_io_add() only.
pub const BECKET_TRUSTED: u32 = 0x2000;
/// Told when it becomes ready, not as long as it is: the handler reads or writes until EAGAIN. Each becket_io_modify(), with
/// the same interest too, tells anew what is ready. For becket_io_add() only, on epoll and io_uring; else -ENOTSUP.
pub const BECKET_EDGE: u32 = 0x4000;
/// Of several processes that wait for one listening socket, not all are woken (EPOLLEXCLUSIVE). Not with BECKET_PRIORITY.
/// For becket_io_add() only, on epoll; else -ENOTSUP.
pub const BECKET_EXCLUSIVE: u32 = 0x8000;
/// The socket is one of datagrams. For becket_stream_add() only, with BECKET_TRUSTED.
pub const BECKET_DATAGRAM: u32 = 0x1000;

// ---- Kinds: becket_event.kind, and masks for becket_next() ----

/// An fd.
pub const BECKET_KIND_IO: u32 = 1;
/// A timer.
pub const BECKET_KIND_TIMER: u32 = 2;
/// A signal.
pub const BECKET_KIND_SIGNAL: u32 = 4;
/// The end of a child process.
pub const BECKET_KIND_CHILD: u32 = 8;
/// A source of nothing: woken from another thread, triggered, posted to.
pub const BECKET_KIND_WAKE: u32 = 16;
/// A posted value: only events are of this kind, it goes to a source of another.
pub const BECKET_KIND_POST: u32 = 32;
/// Once, after a turn's events.
pub const BECKET_KIND_DEFERRED: u32 = 64;
/// When nothing else was ready.
pub const BECKET_KIND_IDLE: u32 = 128;
/// Before the wait.
pub const BECKET_KIND_BEFORE: u32 = 256;
/// After the wait.
pub const BECKET_KIND_AFTER: u32 = 512;
/// The completion of an operation.
pub const BECKET_KIND_OPERATION: u32 = 1024;
/// What a stream tells.
pub const BECKET_KIND_STREAM: u32 = 2048;
/// A connection to a listener.
pub const BECKET_KIND_LISTENER: u32 = 4096;
/// All of them.
pub const BECKET_KIND_ALL: u32 = 8191;

const _: () = {
    assert!(BECKET_KIND_IO == Kind::Io.mask().bits());
    assert!(BECKET_KIND_TIMER == Kind::Timer.mask().bits());
    assert!(BECKET_KIND_SIGNAL == Kind::Signal.mask().bits());
    assert!(BECKET_KIND_CHILD == Kind::Child.mask().bits());
    assert!(BECKET_KIND_WAKE == Kind::Wake.mask().bits());
    assert!(BECKET_KIND_POST == Kind::Post.mask().bits());
    assert!(BECKET_KIND_DEFERRED == Kind::Deferred.mask().bits());
    assert!(BECKET_KIND_IDLE == Kind::Idle.mask().bits());
    assert!(BECKET_KIND_BEFORE == Kind::Before.mask().bits());
    assert!(BECKET_KIND_AFTER == Kind::After.mask().bits());
    assert!(BECKET_KIND_OPERATION == Kind::Operation.mask().bits());
    assert!(BECKET_KIND_STREAM == Kind::Stream.mask().bits());
    assert!(BECKET_KIND_LISTENER == Kind::Listener.mask().bits());
    assert!(BECKET_KIND_ALL == Kinds::all().bits());
};

// ---- Sizes, in bytes: upper bounds that hold on every system ----

/// A loop without sources and posts.
pub const BECKET_LOOP_BYTES: u32 = 4096;
/// One source in all: slot, queue, deadline, fd index, registration with the backend.
pub const BECKET_SOURCE_BYTES: u32 = 80;
/// One post.
pub const BECKET_POST_BYTES: u32 = 24;
/// One operation.
pub const BECKET_OPERATION_BYTES: u32 = 128;
/// One request of POSIX AIO, in memory of its own: becket_aio.
pub const BECKET_AIO_BYTES: u32 = 240;
/// One stream beside its source, in memory of its own: becket_streams.
pub const BECKET_STREAM_BYTES: u32 = 48;
/// One buffer of that memory, beside its own bytes.
pub const BECKET_STREAM_BUFFER_BYTES: u32 = 120;

const _: () = {
    assert!(BECKET_LOOP_BYTES as usize == layout::LOOP_BYTES);
    assert!(BECKET_SOURCE_BYTES as usize == layout::SOURCE_BYTES);
    assert!(BECKET_POST_BYTES as usize == layout::POST_BYTES);
    assert!(BECKET_OPERATION_BYTES as usize == layout::OPERATION_BYTES);
    #[cfg(feature = "operations")]
    assert!(BECKET_AIO_BYTES as usize == crate::aio::ENTRY_BYTES);
    #[cfg(feature = "streams")]
    assert!(BECKET_STREAM_BYTES as usize == crate::storage::streams::STREAM_BYTES);
    #[cfg(feature = "streams")]
    assert!(BECKET_STREAM_BUFFER_BYTES as usize == crate::storage::streams::BUFFER_BYTES);
};
