//! The types of the C ABI.

use crate::engine::Statistics;
use crate::engine::core::Core;
use crate::handle::Kind;
use core::ffi::c_void;

// ---- The loop, its sources, its events ----
//
// A source is one entry of the loop's static table: what is waited for, and whose handler it is. A handle is a
// source's name; it goes stale when the source is removed, and no later source ever has it.
//
// Threads: a loop belongs to one thread, the one that first waits; it may be built in another. The functions below
// are called by that thread, or by one that holds the program's lock while the owner waits. becket_wake() and
// becket_stop() alone may be called by any thread and in signal handlers, at any time.

/// An event loop. It lives in the block of memory that becket_loop_init() was given.
pub struct becket_loop(#[allow(dead_code)] Core);

/// Names a source; 0 names nothing.
pub type becket_handle = u64;

/// What happened to one source.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct becket_event {
    /// The source.
    pub handle: becket_handle,
    /// Timer: periods that have gone by, 1 or more. Signal: how often it came. Child: its status, as waitpid(2)
    /// gives it, or -ECHILD when somebody else has reaped it, or -EAGAIN when it still runs and the source was
    /// triggered. Post: the value. Operation: what the system call returns, or a negative errno value. Stream: see
    /// there. Listener: the fd of the connection, or a negative errno value. Else 0.
    pub value: i64,
    /// What was given with the handler.
    pub user: *mut c_void,
    /// BECKET_KIND_…: the source's, or BECKET_KIND_POST.
    pub kind: u32,
    /// Readiness of an I/O source; what a stream tells; BECKET_PAUSED of a listener; BECKET_TRIGGERED on any.
    pub flags: u32,
    /// I/O, stream, listener: the source's fd. Signal: its number. Child: the process. Operation: its fd, but for openat, openat2
    /// and statx. Else -1.
    pub fd: i32,
    /// The level of the source.
    pub level: u32,
    /// Stream: what was received, or the request that is done. Else NULL.
    pub data: *mut c_void,
}

/// The program's function for a source. It runs to completion and should not block. It may do everything: remove any
/// source, its own too, and free its memory; add others; stop the loop; poll or turn the loop again. Only
/// becket_run() and becket_loop_close() are -EBUSY in it. The event is valid until it returns.
pub type becket_handler =
    Option<unsafe extern "C" fn(event_loop: *mut becket_loop, event: *const becket_event, user: *mut c_void)>;

/// Describes memory for the rings of io_uring, which the kernel then shares with the loop: static or from an allocator, not a
/// shared mapping. It has to stay until the loop is closed, and is zeros then. BECKET_RING declares both.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct becket_ring {
    /// sizeof(becket_ring).
    pub size: usize,
    /// The block, aligned to 4096 bytes. (Where pages are larger the kernel cannot use it.)
    pub block: *mut c_void,
    /// Bytes: at least becket_ring_size().
    pub block_size: usize,
    /// Changes that one system call can carry, a power of two from 8 to 16384; there is room for four times as many
    /// completions. More of either cost further system calls, and nothing is lost.
    pub entries: u32,
}

/// Describes memory for POSIX AIO, which the C library then writes to from threads of its own. It has to stay until the loop is
/// closed. BECKET_AIO declares both.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct becket_aio {
    /// sizeof(becket_aio).
    pub size: usize,
    /// The block, aligned to 8 bytes.
    pub block: *mut c_void,
    /// Bytes: at least BECKET_AIO_SIZE().
    pub block_size: usize,
    /// Requests that the system has at once, from 1 to 65536. Further operations on files wait for the completion of those.
    pub count: u32,
}

/// Describes memory for streams. It has to stay until the loop is closed. BECKET_STREAMS declares both.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct becket_streams {
    /// sizeof(becket_streams).
    pub size: usize,
    /// The block, aligned to 16 bytes.
    pub block: *mut c_void,
    /// Bytes: at least becket_streams_size().
    pub block_size: usize,
    /// The most streams at once.
    pub streams: u32,
    /// Buffers that all of them receive into: one, and as many as the program keeps at once (becket_stream_keep()). On io_uring
    /// also one for each stream that was paused from elsewhere, and, where there are datagrams too, one for each connection.
    pub buffers: u32,
    /// Bytes of each: the most that one event brings. 256 or more, a multiple of 16. (A datagram needs 136 beside its own.)
    pub buffer_size: u32,
}

/// A simulated system: see below. It lives in the block of memory that becket_simulator_init() was given.
pub struct becket_simulator(#[allow(dead_code)] [u8; 0]);

/// How a loop is to be. Zeros mean the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct becket_config {
    /// sizeof(becket_config).
    pub size: usize,
    /// BECKET_BACKEND_…
    pub backend: u32,
    /// BECKET_VIRTUAL_CLOCK, …
    pub flags: u32,
    /// The most events of one turn, deferred and idle ones not counted. 0: 1024.
    pub budget: u32,
    /// A wait that would sleep first looks again and again without sleeping, for so long: a faster answer for a busy CPU.
    /// Not on a virtual clock.
    pub busy_poll_ns: u64,
    /// Memory for the rings of io_uring, or NULL.
    pub ring: *const becket_ring,
    /// The simulator that the loop is to live in, or NULL.
    pub simulator: *mut becket_simulator,
    /// BECKET_FILES_…: where the memory has operations.
    pub files: u32,
    /// The signal of BECKET_FILES_AIO_SIGNAL, which the loop takes as a source does; it can have no source beside that. 0: the
    /// highest real-time one that has neither a handler nor a loop.
    pub aio_signal: i32,
    /// Memory for POSIX AIO, or NULL. Without AIO nobody looks at it.
    pub aio: *const becket_aio,
    /// Memory for streams, or NULL: there is room for none. Where they are not built in nobody looks at it.
    pub streams: *const becket_streams,
}

/// An fd that a foreign loop has to watch for becket, and what for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct becket_watch {
    /// The fd.
    pub fd: i32,
    /// BECKET_READABLE, BECKET_WRITABLE, BECKET_PRIORITY.
    pub interest: u32,
}

/// What a loop has counted since it was made, and what it holds now.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct becket_statistics {
    /// sizeof(becket_statistics), set by the caller.
    pub size: usize,
    /// Collections made.
    pub turns: u64,
    /// I/O events delivered; below it those of the other kinds.
    pub events_io: u64,
    /// Timers.
    pub events_timer: u64,
    /// Signals.
    pub events_signal: u64,
    /// Children.
    pub events_child: u64,
    /// Wakes.
    pub events_wake: u64,
    /// Posts.
    pub events_post: u64,
    /// Deferred.
    pub events_deferred: u64,
    /// Idle.
    pub events_idle: u64,
    /// Before the wait.
    pub events_before: u64,
    /// After the wait.
    pub events_after: u64,
    /// Completions of operations.
    pub events_operation: u64,
    /// Streams.
    pub events_stream: u64,
    /// Of listeners: connections and pauses.
    pub events_listener: u64,
    /// Nanoseconds spent in the wait.
    pub waiting_ns: u64,
    /// Nanoseconds spent outside of it.
    pub working_ns: u64,
    /// Posts that were refused because all places were taken.
    pub posts_refused: u64,
    /// Events that were queued and then concerned nobody: a direction modified away, a source removed under a post.
    pub stale_dropped: u64,
    /// Operations that were submitted.
    pub operations: u64,
    /// Those of them that were made at once though they may block: openat, statx and close without a ring; with POSIX AIO also
    /// reading and writing at a file's own position, and fsync of what is open for reading alone.
    pub operations_inline: u64,
    /// Events queued now.
    pub queued: u32,
    /// The most that were ever queued at once.
    pub queued_max: u32,
    /// Sources in use.
    pub sources: u32,
    /// Room for sources.
    pub sources_max: u32,
    /// Posts on their way.
    pub posts: u32,
    /// Room for posts.
    pub posts_max: u32,
    /// Operations in flight: submitted, and not delivered.
    pub operations_now: u32,
    /// Room for operations.
    pub operations_max: u32,
}

impl becket_statistics {
    pub(super) fn new(from: &Statistics) -> becket_statistics {
        becket_statistics {
            size: size_of::<becket_statistics>(),
            turns: from.turns,
            events_io: from.events_of(Kind::Io),
            events_timer: from.events_of(Kind::Timer),
            events_signal: from.events_of(Kind::Signal),
            events_child: from.events_of(Kind::Child),
            events_wake: from.events_of(Kind::Wake),
            events_post: from.events_of(Kind::Post),
            events_deferred: from.events_of(Kind::Deferred),
            events_idle: from.events_of(Kind::Idle),
            events_before: from.events_of(Kind::Before),
            events_after: from.events_of(Kind::After),
            events_operation: from.events_of(Kind::Operation),
            events_stream: from.events_of(Kind::Stream),
            events_listener: from.events_of(Kind::Listener),
            waiting_ns: from.waiting_ns,
            working_ns: from.working_ns,
            posts_refused: from.posts_refused,
            stale_dropped: from.stale_dropped,
            operations: from.operations,
            operations_inline: from.operations_inline,
            queued: from.queued,
            queued_max: from.queued_max,
            sources: from.sources,
            sources_max: from.sources_max,
            posts: from.posts,
            posts_max: from.posts_max,
            operations_now: from.operations_now,
            operations_max: from.operations_max,
        }
    }
}
