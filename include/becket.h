/*
 * becket: an event loop that never allocates.
 *
 * Generated from the Rust sources in src/ffi; edit those, then run `make header`.
 * C11 and C++17. Link with -lbecket, or with what `pkg-config --cflags --libs becket` says.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */

#ifndef BECKET_H
#define BECKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct statx;
struct open_how;

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version of this header; becket_version() tells that of the library ---- */

#define BECKET_VERSION_MAJOR 0
#define BECKET_VERSION_MINOR 1
#define BECKET_VERSION_PATCH 0

/* ---- Limits and special values ---- */

/** A timeout without end. */
#define BECKET_FOREVER (-1)
/** A delay, a span or a point in time that does not come: disarmed, no deadline, no idle timeout. */
#define BECKET_NEVER UINT64_MAX
/** Levels of the event queue: 0, which goes first, to 3. */
#define BECKET_LEVELS 4
/** The most sources of one loop. */
#define BECKET_SOURCES_MAX 16777213

/* ---- Backends: becket_config.backend ---- */

/** The best that the system grants: io_uring where becket_config.ring is given, else epoll, poll, select. */
#define BECKET_BACKEND_AUTO 0
/** select(2): every POSIX system; fds below FD_SETSIZE; a connection that ended is READABLE, there is no HANGUP. */
#define BECKET_BACKEND_SELECT 1
/** poll(2): every POSIX system. */
#define BECKET_BACKEND_POLL 2
/** epoll(7): Linux. An fd that was closed before its source was removed is silent until it is modified. */
#define BECKET_BACKEND_EPOLL 3
/** io_uring(7): Linux 6.1 and later. Without becket_config.ring the kernel's memory is mapped for the rings. */
#define BECKET_BACKEND_IO_URING 4
/** No system at all: becket_config.simulator. AUTO where that is given. */
#define BECKET_BACKEND_SIMULATOR 5

/* ---- Files: becket_config.files ----
 *
 * Who reads and writes files for the operations of a loop. POSIX AIO is the libc's own code, which may allocate memory and
 * start threads.
 */

/**
 * The best that the system grants: io_uring, in the backend's own ring or in one beside it; else POSIX AIO where it is
 * built in and becket_config.aio is given; else nobody.
 */
#define BECKET_FILES_AUTO 0

/**
 * io_uring(7), Linux 6.1 and later: in the backend's ring, or in one whose fd the backend watches, in the memory of
 * becket_config.ring where that is given and the backend has no use for it, else in memory that the kernel maps.
 */
#define BECKET_FILES_IO_URING 1

/**
 * POSIX AIO, aio(7), of a library that was built with it (make AIO=1; Linux with glibc, FreeBSD, Apple's systems), in the memory
 * of becket_config.aio, else -ENOBUFS. The loop asks in each turn whether something has completed, and while something is under
 * way it sleeps for 1 to 10 ms at most. What the C library does for it is its own: glibc allocates memory and starts threads,
 * one for each file that is read or written at a time, on the loop's CPUs; where SCHED_FIFO or SCHED_RR runs the loop, with a
 * priority one less than its own, so that it goes first (with a priority of 1 it does not); and a forked child of a process
 * that has used it cannot: -ECHILD. There is no open, stat and close in it, and no position of a file's own (BECKET_CURRENT):
 * those are made inline, and may block; likewise an fsync of what is open for reading alone, as folders are. Vectors are made
 * one after the other.
 */
#define BECKET_FILES_AIO 2

/**
 * The same; a real-time signal, becket_config.aio_signal, tells that something has completed. Since signals are lost where too
 * many are pending (RLIMIT_SIGPENDING), the loop looks by itself too, after 20 ms at most.
 */
#define BECKET_FILES_AIO_SIGNAL 3
/** Nobody: reads and writes of files are -ENOSYS, and openat, statx and close are made at once. */
#define BECKET_FILES_NONE 4

/* ---- Configuration flags: becket_config.flags ---- */

/**
 * Time starts at one second and moves only when the loop would sleep (when no fd is ready it jumps to the end of
 * the sleep; a sleep without end is a real one), and by becket_clock_advance(). For tests.
 */
#define BECKET_VIRTUAL_CLOCK 1
/** A signal that is not a source ends a wait: it returns -EINTR. Without this it is waited through. */
#define BECKET_RETURN_EINTR 2
/** Learn of children by SIGCHLD even where the system has pidfds. */
#define BECKET_NO_PIDFD 4

/* ---- Readiness: interest, and becket_event.flags ----
 *
 * The first three can be asked for. Readiness is level-triggered: it is told in every turn in which it holds. ERROR
 * and HANGUP are told whatever was asked for, and with them the directions that were: a handler may simply read or
 * write and see.
 */

/** A read will not block: data, a connection to accept, or the end of the file. */
#define BECKET_READABLE 1u
/** Out-of-band data, or another exceptional condition (POLLPRI). */
#define BECKET_PRIORITY 2u
/** A write will not block; a connect has ended, well or not. */
#define BECKET_WRITABLE 4u
/** An error is pending, or the fd is not open. */
#define BECKET_ERROR 8u
/** Both directions are closed. Not on select. */
#define BECKET_HANGUP 16u
/** The peer has shut down its writing side. With READABLE interest only, and where the system tells; not on select. */
#define BECKET_PEER_CLOSED 32u
/** Nothing was delivered to this I/O source for its idle timeout. Never together with readiness. */
#define BECKET_TIMEOUT 64u
/** The fixed deadline of this I/O source has passed. May come together with readiness. */
#define BECKET_DEADLINE 128u
/** becket_trigger() or becket_wake() was called for this source. */
#define BECKET_TRIGGERED 256u
/** This listener has paused by itself, for want of room; it goes on by itself too. */
#define BECKET_PAUSED 512u

/* ---- Streams: becket_event.flags ---- */

/** It is connected. */
#define BECKET_STREAM_CONNECTED 1048576u
/** Something was received. */
#define BECKET_STREAM_DATA 65536u
/** The peer sends no more. */
#define BECKET_STREAM_END 131072u
/** A request is done. */
#define BECKET_STREAM_SENT 262144u
/** The queue is not above the low watermark any more. */
#define BECKET_STREAM_LOW 524288u
/** It has ended. */
#define BECKET_STREAM_CLOSED 2097152u

/* ---- Options, together with an interest ---- */

/** The interest becomes 0 on delivery of readiness. For becket_io_add() and becket_io_modify(). */
#define BECKET_ONESHOT 4096u
/** The caller vouches that the fd is open and can be waited for: saves a system call. For becket_io_add() only. */
#define BECKET_TRUSTED 8192u

/**
 * Told when it becomes ready, not as long as it is: the handler reads or writes until EAGAIN. Each becket_io_modify(), with
 * the same interest too, tells anew what is ready. For becket_io_add() only, on epoll and io_uring; else -ENOTSUP.
 */
#define BECKET_EDGE 16384u

/**
 * Of several processes that wait for one listening socket, not all are woken (EPOLLEXCLUSIVE). Not with BECKET_PRIORITY.
 * For becket_io_add() only, on epoll; else -ENOTSUP.
 */
#define BECKET_EXCLUSIVE 32768u
/** The socket is one of datagrams. For becket_stream_add() only, with BECKET_TRUSTED. */
#define BECKET_DATAGRAM 4096u

/* ---- Kinds: becket_event.kind, and masks for becket_next() ---- */

/** An fd. */
#define BECKET_KIND_IO 1
/** A timer. */
#define BECKET_KIND_TIMER 2
/** A signal. */
#define BECKET_KIND_SIGNAL 4
/** The end of a child process. */
#define BECKET_KIND_CHILD 8
/** A source of nothing: woken from another thread, triggered, posted to. */
#define BECKET_KIND_WAKE 16
/** A posted value: only events are of this kind, it goes to a source of another. */
#define BECKET_KIND_POST 32
/** Once, after a turn's events. */
#define BECKET_KIND_DEFERRED 64
/** When nothing else was ready. */
#define BECKET_KIND_IDLE 128
/** Before the wait. */
#define BECKET_KIND_BEFORE 256
/** After the wait. */
#define BECKET_KIND_AFTER 512
/** The completion of an operation. */
#define BECKET_KIND_OPERATION 1024
/** What a stream tells. */
#define BECKET_KIND_STREAM 2048
/** A connection to a listener. */
#define BECKET_KIND_LISTENER 4096
/** All of them. */
#define BECKET_KIND_ALL 8191

/* ---- Sizes, in bytes: upper bounds that hold on every system ---- */

/** A loop without sources and posts. */
#define BECKET_LOOP_BYTES 4096
/** One source in all: slot, queue, deadline, fd index, registration with the backend. */
#define BECKET_SOURCE_BYTES 80
/** One post. */
#define BECKET_POST_BYTES 24
/** One operation. */
#define BECKET_OPERATION_BYTES 128
/** One request of POSIX AIO, in memory of its own: becket_aio. */
#define BECKET_AIO_BYTES 240
/** One stream beside its source, in memory of its own: becket_streams. */
#define BECKET_STREAM_BYTES 48
/** One buffer of that memory, beside its own bytes. */
#define BECKET_STREAM_BUFFER_BYTES 120

/* ---- The loop, its sources, its events ----
 *
 * A source is one entry of the loop's static table: what is waited for, and whose handler it is. A handle is a
 * source's name; it goes stale when the source is removed, and no later source ever has it.
 *
 * Threads: a loop belongs to one thread, the one that first waits; it may be built in another. The functions below
 * are called by that thread, or by one that holds the program's lock while the owner waits. becket_wake() and
 * becket_stop() alone may be called by any thread and in signal handlers, at any time.
 */

/** An event loop. It lives in the block of memory that becket_loop_init() was given. */
typedef struct becket_loop becket_loop;

/** A simulated system: see below. It lives in the block of memory that becket_simulator_init() was given. */
typedef struct becket_simulator becket_simulator;

/** Names a source; 0 names nothing. */
typedef uint64_t becket_handle;

/** What happened to one source. */
typedef struct becket_event {
  /** The source. */
  becket_handle handle;
  /**
   * Timer: periods that have gone by, 1 or more. Signal: how often it came. Child: its status, as waitpid(2)
   * gives it, or -ECHILD when somebody else has reaped it, or -EAGAIN when it still runs and the source was
   * triggered. Post: the value. Operation: what the system call returns, or a negative errno value. Stream: see
   * there. Listener: the fd of the connection, or a negative errno value. Else 0.
   */
  int64_t value;
  /** What was given with the handler. */
  void *user;
  /** BECKET_KIND_…: the source's, or BECKET_KIND_POST. */
  uint32_t kind;
  /** Readiness of an I/O source; what a stream tells; BECKET_PAUSED of a listener; BECKET_TRIGGERED on any. */
  uint32_t flags;
  /**
   * I/O, stream, listener: the source's fd. Signal: its number. Child: the process. Operation: its fd, but for openat, openat2
   * and statx. Else -1.
   */
  int32_t fd;
  /** The level of the source. */
  uint32_t level;
  /** Stream: what was received, or the request that is done. Else NULL. */
  void *data;
} becket_event;

/**
 * The program's function for a source. It runs to completion and should not block. It may do everything: remove any
 * source, its own too, and free its memory; add others; stop the loop; poll or turn the loop again. Only
 * becket_run() and becket_loop_close() are -EBUSY in it. The event is valid until it returns.
 */
typedef void (*becket_handler)(becket_loop *loop, const becket_event *event, void *user);

/**
 * Describes memory for the rings of io_uring, which the kernel then shares with the loop: static or from an allocator, not a
 * shared mapping. It has to stay until the loop is closed, and is zeros then. BECKET_RING declares both.
 */
typedef struct becket_ring {
  /** sizeof(becket_ring). */
  size_t size;
  /** The block, aligned to 4096 bytes. (Where pages are larger the kernel cannot use it.) */
  void *block;
  /** Bytes: at least becket_ring_size(). */
  size_t block_size;
  /**
   * Changes that one system call can carry, a power of two from 8 to 16384; there is room for four times as many
   * completions. More of either cost further system calls, and nothing is lost.
   */
  uint32_t entries;
} becket_ring;

/**
 * Describes memory for POSIX AIO, which the C library then writes to from threads of its own. It has to stay until the loop is
 * closed. BECKET_AIO declares both.
 */
typedef struct becket_aio {
  /** sizeof(becket_aio). */
  size_t size;
  /** The block, aligned to 8 bytes. */
  void *block;
  /** Bytes: at least BECKET_AIO_SIZE(). */
  size_t block_size;
  /** Requests that the system has at once, from 1 to 65536. Further operations on files wait for the completion of those. */
  uint32_t count;
} becket_aio;

/** Describes memory for streams. It has to stay until the loop is closed. BECKET_STREAMS declares both. */
typedef struct becket_streams {
  /** sizeof(becket_streams). */
  size_t size;
  /** The block, aligned to 16 bytes. */
  void *block;
  /** Bytes: at least becket_streams_size(). */
  size_t block_size;
  /** The most streams at once. */
  uint32_t streams;
  /**
   * Buffers that all of them receive into: one, and as many as the program keeps at once (becket_stream_keep()). On io_uring
   * also one for each stream that was paused from elsewhere, and, where there are datagrams too, one for each connection.
   */
  uint32_t buffers;
  /** Bytes of each: the most that one event brings. 256 or more, a multiple of 16. (A datagram needs 136 beside its own.) */
  uint32_t buffer_size;
} becket_streams;

/** How a loop is to be. Zeros mean the default. */
typedef struct becket_config {
  /** sizeof(becket_config). */
  size_t size;
  /** BECKET_BACKEND_… */
  uint32_t backend;
  /** BECKET_VIRTUAL_CLOCK, … */
  uint32_t flags;
  /** The most events of one turn, deferred and idle ones not counted. 0: 1024. */
  uint32_t budget;
  /**
   * A wait that would sleep first looks again and again without sleeping, for so long: a faster answer for a busy CPU.
   * Not on a virtual clock.
   */
  uint64_t busy_poll_ns;
  /** Memory for the rings of io_uring, or NULL. */
  const becket_ring *ring;
  /** The simulator that the loop is to live in, or NULL. */
  becket_simulator *simulator;
  /** BECKET_FILES_…: where the memory has operations. */
  uint32_t files;
  /**
   * The signal of BECKET_FILES_AIO_SIGNAL, which the loop takes as a source does; it can have no source beside that. 0: the
   * highest real-time one that has neither a handler nor a loop.
   */
  int32_t aio_signal;
  /** Memory for POSIX AIO, or NULL. Without AIO nobody looks at it. */
  const becket_aio *aio;
  /** Memory for streams, or NULL: there is room for none. Where they are not built in nobody looks at it. */
  const becket_streams *streams;
} becket_config;

/** An fd that a foreign loop has to watch for becket, and what for. */
typedef struct becket_watch {
  /** The fd. */
  int32_t fd;
  /** BECKET_READABLE, BECKET_WRITABLE, BECKET_PRIORITY. */
  uint32_t interest;
} becket_watch;

/** What a loop has counted since it was made, and what it holds now. */
typedef struct becket_statistics {
  /** sizeof(becket_statistics), set by the caller. */
  size_t size;
  /** Collections made. */
  uint64_t turns;
  /** I/O events delivered; below it those of the other kinds. */
  uint64_t events_io;
  /** Timers. */
  uint64_t events_timer;
  /** Signals. */
  uint64_t events_signal;
  /** Children. */
  uint64_t events_child;
  /** Wakes. */
  uint64_t events_wake;
  /** Posts. */
  uint64_t events_post;
  /** Deferred. */
  uint64_t events_deferred;
  /** Idle. */
  uint64_t events_idle;
  /** Before the wait. */
  uint64_t events_before;
  /** After the wait. */
  uint64_t events_after;
  /** Completions of operations. */
  uint64_t events_operation;
  /** Streams. */
  uint64_t events_stream;
  /** Of listeners: connections and pauses. */
  uint64_t events_listener;
  /** Nanoseconds spent in the wait. */
  uint64_t waiting_ns;
  /** Nanoseconds spent outside of it. */
  uint64_t working_ns;
  /** Posts that were refused because all places were taken. */
  uint64_t posts_refused;
  /** Events that were queued and then concerned nobody: a direction modified away, a source removed under a post. */
  uint64_t stale_dropped;
  /** Operations that were submitted. */
  uint64_t operations;
  /**
   * Those of them that were made at once though they may block: openat, statx and close without a ring; with POSIX AIO also
   * reading and writing at a file's own position, and fsync of what is open for reading alone.
   */
  uint64_t operations_inline;
  /** Events queued now. */
  uint32_t queued;
  /** The most that were ever queued at once. */
  uint32_t queued_max;
  /** Sources in use. */
  uint32_t sources;
  /** Room for sources. */
  uint32_t sources_max;
  /** Posts on their way. */
  uint32_t posts;
  /** Room for posts. */
  uint32_t posts_max;
  /** Operations in flight: submitted, and not delivered. */
  uint32_t operations_now;
  /** Room for operations. */
  uint32_t operations_max;
} becket_statistics;

/* ---- Memory ----
 *
 * A loop lives in one block of memory and never asks for more:
 *
 *   4096 bytes + 80 a source + 24 a post + 128 an operation
 *
 * Rings of io_uring, POSIX AIO and streams have memory of their own, in the configuration.
 *
 * BECKET_MEMORY declares a block of a size that is known when the program is compiled, and its descriptor. A program
 * that learns its capacities at run time fills a descriptor for memory of its own. The block need not be zeroed, and
 * only the pages that are used are touched, so a static one may be huge. It stays valid until becket_loop_close().
 */

/** Describes a block of memory, so that size and capacities cannot be mismatched. */
typedef struct becket_memory {
  /** sizeof(becket_memory). */
  size_t size;
  /** The block, aligned to 8 bytes. */
  void *block;
  /** Bytes: at least becket_memory_size() of the three capacities. */
  size_t block_size;
  /** The most sources at once: up to BECKET_SOURCES_MAX. */
  uint32_t sources;
  /** The most posted values on their way at once: with the sources below 2^24. */
  uint32_t posts;
  /** The most operations in flight at once. */
  uint32_t operations;
} becket_memory;

/**
 * Bytes of the rings for so many entries: what BECKET_RING_SIZE says, or 0 when there can be no such rings. Any thread.
 * O(1).
 */
size_t becket_ring_size(uint32_t entries);

/**
 * Bytes that a loop of these capacities needs: what BECKET_MEMORY_SIZE says, or 0 when there can be no such loop.
 * Any thread. O(1).
 */
size_t becket_memory_size(uint32_t sources, uint32_t posts, uint32_t operations);

/** Bytes that a loop of these capacities needs: a constant expression when the arguments are. */
#define BECKET_MEMORY_SIZE(sources, posts, operations)                                  \
  ((size_t)BECKET_LOOP_BYTES + (size_t)BECKET_SOURCE_BYTES * (size_t)(sources) +        \
   (size_t)BECKET_POST_BYTES * (size_t)(posts) +                                        \
   (size_t)BECKET_OPERATION_BYTES * (size_t)(operations))

/**
 * Declares a block of memory (zeroed, in .bss) and name, its constant descriptor, at file scope or in a function:
 *
 *   static BECKET_MEMORY(memory, 600, 64, 0);
 *   becket_loop *loop;
 *   int rc = becket_loop_init(&loop, &memory, NULL);
 */
#define BECKET_MEMORY(name, sources_max, posts_max, operations_max)                             \
  BECKET_BLOCK(name##_block, 8, BECKET_MEMORY_SIZE(sources_max, posts_max, operations_max));    \
  static const becket_memory name = {sizeof(becket_memory), name##_block, sizeof name##_block,  \
                                     (sources_max), (posts_max), (operations_max)}

/** Bytes of the rings of io_uring for so many entries, a power of two from 8 to 16384: whole pages of 4096 bytes. */
#define BECKET_RING_SIZE(entries)                                                               \
  (((size_t)(entries) * 64 + 4095) / 4096 * 4096 + ((size_t)(entries) * 68 + 256 + 4095) / 4096 * 4096 + \
   ((size_t)(entries) * 16 + 4095) / 4096 * 4096)

/** Declares memory for the rings of io_uring (zeroed, in .bss) and name, its constant descriptor: static BECKET_RING(ring, 256); */
#define BECKET_RING(name, entries_max)                                                          \
  BECKET_BLOCK(name##_block, 4096, BECKET_RING_SIZE(entries_max));                              \
  static const becket_ring name = {sizeof(becket_ring), name##_block, sizeof name##_block, (entries_max)}

/** Bytes of memory for POSIX AIO, for so many requests at once. */
#define BECKET_AIO_SIZE(count) ((size_t)BECKET_AIO_BYTES * (size_t)(count))

/** Declares memory for POSIX AIO (zeroed, in .bss) and name, its constant descriptor: static BECKET_AIO(aio, 64); */
#define BECKET_AIO(name, count_max)                                                             \
  BECKET_BLOCK(name##_block, 8, BECKET_AIO_SIZE(count_max));                                    \
  static const becket_aio name = {sizeof(becket_aio), name##_block, sizeof name##_block, (count_max)}

/** Bytes of memory for so many streams, and so many buffers of buffer_size bytes, a multiple of 16. */
#define BECKET_STREAMS_SIZE(streams, buffers, buffer_size)                                      \
  ((size_t)BECKET_STREAM_BYTES * (size_t)(streams) +                                            \
   ((size_t)BECKET_STREAM_BUFFER_BYTES + (size_t)(buffer_size)) * (size_t)(buffers))

/** Declares memory for streams (zeroed, in .bss) and name, its constant descriptor: static BECKET_STREAMS(streams, 1000, 4, 16384); */
#define BECKET_STREAMS(name, streams_max, buffers_max, buffer_bytes)                            \
  BECKET_BLOCK(name##_block, 16, BECKET_STREAMS_SIZE(streams_max, buffers_max, buffer_bytes));  \
  static const becket_streams name = {sizeof(becket_streams), name##_block, sizeof name##_block, \
                                      (streams_max), (buffers_max), (buffer_bytes)}

/** Bytes that a simulator needs with so many descriptors, and so many events that are to come. */
#define BECKET_SIMULATOR_SIZE(fds, events)                                                      \
  ((size_t)BECKET_SIMULATOR_BYTES + (size_t)BECKET_SIMULATOR_FD_BYTES * (size_t)(fds) +         \
   (size_t)BECKET_SIMULATOR_EVENT_BYTES * (size_t)(events))

/** Declares memory for a simulator (zeroed, in .bss) and name, its constant descriptor: static BECKET_SIMULATOR(world, 16, 64); */
#define BECKET_SIMULATOR(name, fds_max, events_max)                                             \
  BECKET_BLOCK(name##_block, 8, BECKET_SIMULATOR_SIZE(fds_max, events_max));                    \
  static const becket_simulator_memory name = {sizeof(becket_simulator_memory), name##_block,   \
                                               sizeof name##_block, (fds_max), (events_max)}

#ifdef __cplusplus
#define BECKET_BLOCK(block, alignment, bytes) uint64_t block alignas(alignment)[(bytes) / 8]
#else
#define BECKET_BLOCK(block, alignment, bytes) _Alignas(alignment) uint64_t block[(bytes) / 8]
#endif

/* ---- Making a loop ----
 *
 * Every function returns 0 or a positive count, or a negative errno value. Those that are named with a function come
 * besides these:
 *
 *   -EINVAL  NULL, or an argument that is out of its range or of the wrong kind
 *   -EBADF   the loop is closed
 *   -ESTALE  the handle names no source any more
 *   -ECHILD  the loop was made by another process, of which this one is a forked child
 *
 * After an error nothing has changed, and outputs are untouched.
 */

/**
 * Makes a loop in a block of memory. config may be NULL: the default. The descriptor is not needed any more after
 * this. In a forked child, making a loop anew in the memory of an inherited one closes the child's copies of its
 * descriptors and leaves the parent's loop alone.
 *
 * -ENOBUFS: a block is too small, or there is none for POSIX AIO; -EINVAL: misaligned, or a bad descriptor or configuration; -EBUSY: a live loop is
 * in it, or an inherited one that is calling a handler; -ENOTSUP: the backend, or operations, are not built in; -EMFILE,
 * -ENFILE, -ENOMEM: the system has no descriptor for waking, or for the backend; -ENOSYS, -EPERM, …: what it says of a backend
 * that was asked for by name; -EBUSY, -ECHILD also: see BECKET_FILES_AIO. Reads the fd index, else O(1).
 */
int becket_loop_init(becket_loop **loop, const becket_memory *memory, const becket_config *config);

/**
 * Ends a loop: removes all sources, restores dispositions of signals, closes the loop's own descriptors, those of streams
 * too (what they have queued is not sent, and has no event), and none of the program's. Then the memory is the caller's again, once no other thread is in becket_wake() or becket_stop() any
 * more. In a forked child it gives up the child's copies alone. -EBUSY: called in a handler, or another thread waits, or
 * operations are in flight: becket_loop_drain() ends them.
 * O(sources).
 */
int becket_loop_close(becket_loop *loop);

/* ---- Version and errors ---- */

/** The version of the library that is linked, such as "0.1.0". Any thread. O(1). */
const char *becket_version(void);

/** A sentence for what a function returned: a negative errno value, or its positive. Never NULL; static. Any thread. */
const char *becket_strerror(int code);

/* ---- Running ---- */

/**
 * Turns until becket_stop() (returns 1), or until nothing is left that keeps the loop alive (returns 0): an I/O
 * source with an interest or a deadline, an armed timer, a signal, a child, a wake, a hook that is idle and on, each
 * unless becket_set_keepalive() says otherwise, or an event on its way.
 *
 * -EBUSY: called in a handler; -EPERM: the loop is another thread's; -EINTR: with BECKET_RETURN_EINTR; and what
 * select(2) or poll(2) says of the whole wait, such as -ENOMEM. A turn is O(sources) on select and poll, and O(log n)
 * an event at most.
 */
int becket_run(becket_loop *loop);

/**
 * Makes becket_run() return after the handler that runs now; what is queued stays queued. Without a run it is kept for
 * the next one, unless becket_turn() or becket_poll() comes first, whose wait it ends. Any thread, signal handlers. O(1),
 * a system call only while the loop sleeps.
 */
int becket_stop(becket_loop *loop);

/**
 * One turn: waits for at most timeout_ns (BECKET_FOREVER: without end) and calls the handlers of what happened; how
 * many events it had, which may be 0 before the time is over: when it merely moved an idle timeout on. Legal in a
 * handler. -EPERM, -EINTR, …: as becket_run().
 */
int becket_turn(becket_loop *loop, int64_t timeout_ns);

/* ---- The pull form ----
 *
 * The program takes the events itself, and keeps control:
 *
 *   becket_poll(loop, BECKET_FOREVER);
 *   while (becket_next(loop, BECKET_KIND_ALL, &event) > 0) becket_dispatch(loop, &event);
 *
 * Legal in a handler as well: it drains the same queue. becket_poll() is three phases in one, for programs that sleep
 * elsewhere, or that release a lock around becket_wait():
 *
 *   while (becket_prepare(loop, timeout_ns) > 0) … take the before-wait events with becket_next() …
 *   becket_wait(loop);
 *   becket_collect(loop);
 *
 * A foreign loop calls becket_prepare(), sleeps for at most becket_timeout() on what becket_watches() names, then
 * becket_prepare(loop, 0), becket_wait() and becket_collect(). What changes the loop between becket_prepare() and
 * becket_collect(), in another thread or this one, ends the sleep.
 */

/**
 * Waits for at most timeout_ns and queues what happened; how many events are queued. Before-wait events, and then their
 * number, come back early, before the wait. It does not sleep while events are queued, of whatever kind. -EPERM, -EINTR,
 * …: as becket_run().
 */
int becket_poll(becket_loop *loop, int64_t timeout_ns);

/**
 * Takes out the next event of the kinds in a mask: 1, and the event; 0 when there is none, or when this turn's budget
 * is used up. Deferred events come when no other that was asked for is left; idle ones when this turn had nothing
 * else. O(1) for BECKET_KIND_ALL, beside the streams before it that send and have nothing to tell; O(events before it) when a
 * mask selects.
 */
int becket_next(becket_loop *loop, uint32_t kind_mask, becket_event *event);

/**
 * The handler that runs has done as much work as so many events more: what is left of the budget (becket_config) is the less by them,
 * and what is beyond it comes in the next turn, after another look at timers and readiness. Deferred events still end this one. Each
 * wait begins a budget anew, so what is spent before it is forgotten. O(1).
 */
int becket_spend(becket_loop *loop, uint32_t events);

/** Calls the handler that an event's source has now. -ESTALE: the source was removed since; nothing is called. O(1). */
int becket_dispatch(becket_loop *loop, const becket_event *event);

/**
 * Phase 1. How many before-wait events were queued: take them, and call this again; 0: the wait is prepared.
 * -EPERM: the loop is another thread's. O(sources) on select and poll.
 */
int becket_prepare(becket_loop *loop, int64_t timeout_ns);

/** How long the wait that was prepared will be at most, in ns; BECKET_FOREVER: without end. O(1). */
int64_t becket_timeout(const becket_loop *loop);

/**
 * Phase 2, the only call that blocks. Other threads may change the loop meanwhile, one at a time, under the program's
 * own lock. Without a preparation it does nothing. -EPERM: the loop is another thread's; -EINTR and the like, as
 * becket_run(): becket_collect() is due all the same.
 */
int becket_wait(becket_loop *loop);

/** Phase 3: queues what happened; how many events are queued. O(what happened), and O(sources) on select and poll. */
int becket_collect(becket_loop *loop);

/**
 * An fd that is readable, after becket_prepare(), when there is something to collect: epoll's. -ENOTSUP: the other backends have
 * none that tells of everything; see becket_watches(). The number stays the same for as long as the loop lives. Behind it there
 * is another file when the program has closed an fd before its source was removed, and a copy of that fd was open elsewhere (the
 * set is built anew): a foreign loop on epoll has to be given the number again then. O(1).
 */
int becket_fd(const becket_loop *loop);

/**
 * What a foreign loop has to watch while it sleeps: how many fds that are (at most two more than there are I/O sources,
 * children and operations; on epoll becket_fd() alone), the first count of them written. watches may be NULL when count is 0. To a foreign
 * loop that is not edge-triggered an fd that is goes on being ready until it is drained. O(sources).
 */
int becket_watches(const becket_loop *loop, becket_watch *watches, size_t count);

/* ---- Asking the loop ---- */

/** The time of this turn in ns, of CLOCK_MONOTONIC; 0 after an error. O(1), no clock reading. */
uint64_t becket_now(const becket_loop *loop);

/** Moves virtual time on. -ENOTSUP: the loop's time is real. O(1). */
int becket_clock_advance(becket_loop *loop, uint64_t span_ns);

/** The name of the backend, such as "poll"; NULL after an error. Static. O(1). */
const char *becket_backend_name(const becket_loop *loop);

/** Why it is this backend, "" where it was asked for by name; NULL after an error. Static. O(1). */
const char *becket_backend_note(const becket_loop *loop);

/** What the loop has counted. statistics->size is set by the caller. O(1), one clock reading. */
int becket_loop_statistics(const becket_loop *loop, becket_statistics *statistics);

/* ---- Any source ----
 *
 * A handler may be NULL: such a source is for becket_next() alone.
 */

/**
 * Removes a source of any kind: nothing of it is delivered after this. Never closes an fd; legal after a close, and
 * in any handler. Remove before you close: closed first, the source may until then see readiness of whoever has the
 * number next. O(log n).
 */
int becket_remove(becket_loop *loop, becket_handle handle);

/**
 * Merges flags into a source of any kind: delivered in the next turn, or with what is queued of it already, with
 * BECKET_TRIGGERED. flags are readiness, for an I/O source, or 0. Cannot fail for space. O(1).
 */
int becket_trigger(becket_loop *loop, becket_handle handle, uint32_t flags);

/**
 * Sends a value to a source of any kind: an event BECKET_KIND_POST, behind what is queued at its level. From the
 * loop's own thread. -ENOBUFS: all posts are on their way; the value is still the caller's. O(1).
 */
int becket_post(becket_loop *loop, becket_handle handle, int64_t value);

/**
 * The level of a source, 0 (first) to 3, from its next queueing on. Every eighth event comes from a lower level that
 * waits. O(1).
 */
int becket_set_level(becket_loop *loop, becket_handle handle, uint32_t level);

/** The level of a source. O(1). */
int becket_level(const becket_loop *loop, becket_handle handle);

/** Whether becket_run() goes on for this source's sake: not 0 (at first), or 0. O(1). */
int becket_set_keepalive(becket_loop *loop, becket_handle handle, int on);

/** Whether becket_run() goes on for this source's sake: 1 or 0. O(1). */
int becket_keepalive(const becket_loop *loop, becket_handle handle);

/** Another handler and user pointer, from the next event on. O(1). */
int becket_set_handler(becket_loop *loop, becket_handle handle, becket_handler handler, void *user);

/** The user pointer of a source. O(1). */
int becket_user(const becket_loop *loop, becket_handle handle, void **user);

/** BECKET_KIND_… of a source. O(1). */
int becket_kind(const becket_loop *loop, becket_handle handle);

/* ---- I/O ---- */

/**
 * Watches an fd. flags: an interest (0: paused), and BECKET_ONESHOT, BECKET_TRUSTED, BECKET_EDGE, BECKET_EXCLUSIVE. The fd
 * stays the caller's.
 *
 * -EBADF: it is not open; -EPERM: a regular file, directory or block device, which cannot be waited for; -EEXIST: it
 * has a source already; -ENOSPC: the table is full, or, on poll, full but for places above RLIMIT_NOFILE; -EINVAL: on
 * select, an fd at or above FD_SETSIZE; -ENOTSUP: BECKET_EDGE or BECKET_EXCLUSIVE where the backend has none; -ENOMEM,
 * -ENOSPC: on epoll, the kernel's own limits. Other fds that the kernel cannot wait for (/dev/null) are always ready. O(1)
 * expected, O(free slots) where sources without an fd have filled the table before; one fstat(2) unless BECKET_TRUSTED; on epoll
 * one epoll_ctl(2) instead.
 */
int becket_io_add(becket_loop *loop, int fd, uint32_t flags, becket_handler handler, void *user, becket_handle *handle);

/**
 * The interest from now on, with BECKET_ONESHOT or without. 0 pauses: the source is silent, ERROR and HANGUP
 * included, and costs nothing; they are told when it is resumed. The idle timeout rests meanwhile; the deadline does
 * not. The same interest again changes nothing (with BECKET_EDGE: tells anew what is ready). Cannot fail for space. O(1), O(log n) to pause or resume one with an
 * idle timeout.
 */
int becket_io_modify(becket_loop *loop, becket_handle handle, uint32_t flags);

/** Adds the directions in set to the interest, then takes those in clear away. O(1). */
int becket_io_change(becket_loop *loop, becket_handle handle, uint32_t set, uint32_t clear);

/**
 * BECKET_TIMEOUT whenever the source had no event (posts aside) for idle_ns, counted from now, then from the turn of each
 * event; again and again. 0, BECKET_NEVER or more than nine years: none. Kept to one part in 67 million, rounded up.
 * O(log n); an event extends it by one store.
 */
int becket_io_timeout(becket_loop *loop, becket_handle handle, uint64_t idle_ns);

/** BECKET_DEADLINE once, delay_ns from now, whatever is delivered until then; BECKET_NEVER: none. O(log n). */
int becket_io_deadline(becket_loop *loop, becket_handle handle, uint64_t delay_ns);

/** The same at a point in time, in the terms of becket_now(). O(log n), no clock reading. */
int becket_io_deadline_at(becket_loop *loop, becket_handle handle, uint64_t at_ns);

/** The idle timeout of a source, as it is kept; BECKET_NEVER: none. O(1). */
int becket_io_get_timeout(const becket_loop *loop, becket_handle handle, uint64_t *idle_ns);

/** The fixed deadline of a source; BECKET_NEVER: none, or it has passed. O(1). */
int becket_io_get_deadline(const becket_loop *loop, becket_handle handle, uint64_t *at_ns);

/**
 * Removes the source and closes its fd, with no other system call. The error of close(2), if any, after the removal.
 * O(log n).
 */
int becket_io_close(becket_loop *loop, becket_handle handle);

/** The source of an fd. -ENOENT: it has none. O(1) expected. */
int becket_io_find(const becket_loop *loop, int fd, becket_handle *handle);

/** The fd of a source. O(1). */
int becket_io_fd(const becket_loop *loop, becket_handle handle);

/** The interest of a source, with BECKET_ONESHOT, BECKET_EDGE and BECKET_EXCLUSIVE if it has them. O(1). */
int becket_io_interest(const becket_loop *loop, becket_handle handle);

/* ---- Timers ----
 *
 * Nanoseconds, monotonic. A delay counts from a fresh clock reading and is never early; equal deadlines expire in the
 * order in which they were armed. A timer keeps its slot until it is removed, armed or not.
 */

/**
 * Adds a timer: first after delay_ns (0: next turn; BECKET_NEVER: disarmed), then every period_ns (0: never again).
 * Periods do not drift; missed ones come as one event whose value is their number. -ENOSPC. O(log n).
 */
int becket_timer_add(becket_loop *loop,
                     uint64_t delay_ns,
                     uint64_t period_ns,
                     becket_handler handler,
                     void *user,
                     becket_handle *handle);

/** Arms or re-arms a timer; an expiration that is queued is forgotten. Legal in its own handler. O(log n). */
int becket_timer_arm(becket_loop *loop, becket_handle handle, uint64_t delay_ns, uint64_t period_ns);

/**
 * The same at a point in time, in the terms of becket_now(); one that has passed expires in the next turn. O(log n),
 * no clock reading.
 */
int becket_timer_arm_at(becket_loop *loop, becket_handle handle, uint64_t at_ns, uint64_t period_ns);

/** Disarms a timer; an expiration that is queued is forgotten. O(log n). */
int becket_timer_disarm(becket_loop *loop, becket_handle handle);

/** When a timer expires next; BECKET_NEVER: it is disarmed. O(1). */
int becket_timer_deadline(const becket_loop *loop, becket_handle handle, uint64_t *at_ns);

/** The period of a timer; 0: it is one-shot. O(1). */
int becket_timer_period(const becket_loop *loop, becket_handle handle, uint64_t *period_ns);

/* ---- Signals and children ---- */

/**
 * Receives a signal as an event, never in signal context; the event's value is how often it came since the last. The
 * disposition that was there before comes back when the source is removed. In a forked child the signal is ignored until
 * it makes a loop of its own in that memory, closes the inherited one, or calls exec(3).
 *
 * -EINVAL: no such signal, or one that cannot be caught; -EBUSY: another loop has it; -EEXIST: this loop has a source
 * for it; -ENOSPC. O(1), one system call.
 */
int becket_signal_add(becket_loop *loop, int signal, becket_handler handler, void *user, becket_handle *handle);

/**
 * Receives the end of one child process, which it reaps; the event's value is its status, for WIFEXITED() and the
 * like. No other child is ever waited for. After the event the source is at rest until it is removed.
 *
 * -ECHILD: the process is not a child of this one, or was reaped; -EINVAL: pid is not positive; -ENOSPC; where there
 * are no pidfds, -EBUSY: SIGCHLD is another loop's. O(1), two system calls.
 */
int becket_child_add(becket_loop *loop, int pid, becket_handler handler, void *user, becket_handle *handle);

/** The signal of a source. O(1). */
int becket_signal_number(const becket_loop *loop, becket_handle handle);

/** The process of a source. O(1). */
int becket_child_pid(const becket_loop *loop, becket_handle handle);

/* ---- Wakes ---- */

/** Adds a source of nothing: for becket_wake(), becket_trigger() and becket_post(). -ENOSPC. O(1). */
int becket_wake_add(becket_loop *loop, becket_handler handler, void *user, becket_handle *handle);

/**
 * Wakes a source of any kind: an event with BECKET_TRIGGERED; several wakes before its delivery are one. Any thread,
 * signal handlers; lock-free; no system call while the loop is awake. -ESTALE also when it races with the removal of
 * the source and the reuse of its slot. O(1).
 */
int becket_wake(becket_loop *loop, becket_handle handle);

/* ---- Around the turn ---- */

/** Adds a source that becket_defer() schedules. -ENOSPC. O(1). */
int becket_deferred_add(becket_loop *loop, becket_handler handler, void *user, becket_handle *handle);

/**
 * Schedules a deferred source: delivered once, after this turn's events; in a deferred handler, after the next
 * turn's. Again before that: no change. O(1).
 */
int becket_defer(becket_loop *loop, becket_handle handle);

/** Adds a source that is delivered when a turn had nothing else. As long as it is on, no turn sleeps. -ENOSPC. O(1). */
int becket_idle_add(becket_loop *loop, becket_handler handler, void *user, becket_handle *handle);

/** Adds a source that is delivered before every wait. It does not keep the loop alive. -ENOSPC. O(1). */
int becket_before_add(becket_loop *loop, becket_handler handler, void *user, becket_handle *handle);

/** Adds a source that is delivered after every wait. It does not keep the loop alive. -ENOSPC. O(1). */
int becket_after_add(becket_loop *loop, becket_handler handler, void *user, becket_handle *handle);

/** Turns an idle, before-wait or after-wait source on (not 0; at first) or off. O(1). */
int becket_hook_enable(becket_loop *loop, becket_handle handle, int on);

/** Whether an idle, before-wait or after-wait source is on, or a deferred one scheduled: 1 or 0. O(1). */
int becket_hook_enabled(const becket_loop *loop, becket_handle handle);

/* ---- Operations ----
 *
 * A request that completes later, and never blocks the loop. Each one that was accepted has exactly one completion: an
 * event of BECKET_KIND_OPERATION for its handler (or for becket_next()), whose value is what the system call returns, or
 * a negative errno value, and whose fd is the operation's (-1: openat, openat2, statx). By then its handle is stale and its place
 * free, so the handler can submit the next one.
 *
 * What the pointers lead to (buffers, vectors, messages, paths, addresses, results) is the operation's from its submission
 * to its completion, and the fd has to stay open for as long. The kernel may read and write there at any time between.
 *
 * Sockets, pipes, terminals: on io_uring in the backend's ring; on the other backends a call that does not block at once,
 * and again when the fd is ready. Several operations may wait on one fd, beside an I/O source of it too; those of one
 * direction (input; output and connect) take effect in the order of their submission where becket waits for readiness:
 * one that has to wait is not overtaken. On io_uring wait for the completion of one before the next where order matters.
 *
 * Files: in a ring of io_uring, or by POSIX AIO; see becket_config.files and becket_files_name().
 *
 * The functions below return 0 and, where handle is not NULL, the operation's handle; or an error, and nothing was begun:
 * -EAGAIN: all places for operations are taken; -EBADF: fd is negative; -EINVAL: NULL, or an argument out of its range;
 * -ENOSYS: a file, and no engine for files; -ENOTSUP: operations are not built in; -ECANCELED: becket_loop_drain() is under
 * way. What the system says of the request comes in the completion, EBADF of a closed fd too; and -ENOSPC where it has to wait
 * and poll(2) has no place for it, below RLIMIT_NOFILE: sources and operations together. O(1) and at most a few system
 * calls that do not block; O(operations on the fd) where others wait on it.
 */

/** The file's own position, as an offset. Pipes and sockets have no other. */
#define BECKET_CURRENT (-1)
/** For becket_op_fsync(): what is needed to read the data back, as fdatasync(2). */
#define BECKET_DATA_ONLY 1u

/** read(2); pread(2) with an offset other than BECKET_CURRENT. Value: bytes; 0: the end. */
int becket_op_read(becket_loop *loop,
                   int fd,
                   void *buffer,
                   size_t length,
                   int64_t offset,
                   becket_handler handler,
                   void *user,
                   becket_handle *handle);

/**
 * write(2), pwrite(2). Value: bytes, which may be fewer than were asked for. SIGPIPE as in write(2): ignore it, or use
 * becket_op_send().
 */
int becket_op_write(becket_loop *loop,
                    int fd,
                    const void *buffer,
                    size_t length,
                    int64_t offset,
                    becket_handler handler,
                    void *user,
                    becket_handle *handle);

/** readv(2), preadv(2): into count vectors, 1024 at most. */
int becket_op_readv(becket_loop *loop,
                    int fd,
                    const struct iovec *vectors,
                    int count,
                    int64_t offset,
                    becket_handler handler,
                    void *user,
                    becket_handle *handle);

/** writev(2), pwritev(2): from count vectors, 1024 at most. */
int becket_op_writev(becket_loop *loop,
                     int fd,
                     const struct iovec *vectors,
                     int count,
                     int64_t offset,
                     becket_handler handler,
                     void *user,
                     becket_handle *handle);

/** fsync(2); fdatasync(2) with BECKET_DATA_ONLY. Value: 0. Writes that are under way are not waited for. */
int becket_op_fsync(becket_loop *loop,
                    int fd,
                    uint32_t flags,
                    becket_handler handler,
                    void *user,
                    becket_handle *handle);

/** openat(2). Value: the fd, which has O_CLOEXEC. Without a ring of io_uring it is made at once, and may block. */
int becket_op_openat(becket_loop *loop,
                     int dirfd,
                     const char *path,
                     int flags,
                     uint32_t mode,
                     becket_handler handler,
                     void *user,
                     becket_handle *handle);

/**
 * openat2(2), Linux: with limits on how the path leads there, such as RESOLVE_BENEATH. size is sizeof(struct open_how), of
 * <linux/openat2.h>. Value: the fd; -ENOSYS: before Linux 5.6. O_CLOEXEC is not added. Without a ring of io_uring it is made
 * at once, and may block.
 */
int becket_op_openat2(becket_loop *loop,
                      int dirfd,
                      const char *path,
                      const struct open_how *how,
                      size_t size,
                      becket_handler handler,
                      void *user,
                      becket_handle *handle);

/** statx(2), Linux. Value: 0, and *result. Without a ring of io_uring it is made at once, and may block. */
int becket_op_statx(becket_loop *loop,
                    int dirfd,
                    const char *path,
                    int flags,
                    uint32_t mask,
                    struct statx *result,
                    becket_handler handler,
                    void *user,
                    becket_handle *handle);

/**
 * close(2). Value: 0. -EBUSY: the fd has an I/O source, which has to be removed first, or operations that wait for its
 * readiness. Once submitted the fd is not the program's any more, whatever the value, unless that is -ECANCELED. Without
 * a ring of io_uring it is made at once, and may block.
 */
int becket_op_close(becket_loop *loop, int fd, becket_handler handler, void *user, becket_handle *handle);

/**
 * accept4(2). Value: the fd of the connection, which is closed on exec and does not block; flags: 0, or SOCK_CLOEXEC and
 * SOCK_NONBLOCK, which it has in any case. address and length may both be NULL; else *length is the room there, and then
 * the address's length. A listener that several processes accept from should be non-blocking itself.
 */
int becket_op_accept(becket_loop *loop,
                     int fd,
                     struct sockaddr *address,
                     socklen_t *length,
                     uint32_t flags,
                     becket_handler handler,
                     void *user,
                     becket_handle *handle);

/** connect(2). Value: 0 when it is connected. The socket may be a blocking one. */
int becket_op_connect(becket_loop *loop,
                      int fd,
                      const struct sockaddr *address,
                      socklen_t length,
                      becket_handler handler,
                      void *user,
                      becket_handle *handle);

/** recv(2). Value: bytes; 0: the end. It may be fewer than were asked for, with MSG_WAITALL too. */
int becket_op_recv(becket_loop *loop,
                   int fd,
                   void *buffer,
                   size_t length,
                   int flags,
                   becket_handler handler,
                   void *user,
                   becket_handle *handle);

/** send(2). Value: bytes, which may be fewer than were asked for. MSG_NOSIGNAL is added. */
int becket_op_send(becket_loop *loop,
                   int fd,
                   const void *buffer,
                   size_t length,
                   int flags,
                   becket_handler handler,
                   void *user,
                   becket_handle *handle);

/**
 * recvmsg(2). Value: bytes. The message, its vectors and what they lead to are the operation's. MSG_ERRQUEUE is waited for as
 * an error of the socket is; select(2) tells of one only where the socket has SO_SELECT_ERR_QUEUE.
 */
int becket_op_recvmsg(becket_loop *loop,
                      int fd,
                      struct msghdr *message,
                      int flags,
                      becket_handler handler,
                      void *user,
                      becket_handle *handle);

/** sendmsg(2). Value: bytes. MSG_NOSIGNAL is added. */
int becket_op_sendmsg(becket_loop *loop,
                      int fd,
                      const struct msghdr *message,
                      int flags,
                      becket_handler handler,
                      void *user,
                      becket_handle *handle);

/**
 * Asks for an end of an operation. Its completion comes all the same, and says what happened: -ECANCELED, and nothing was
 * done; or, when it was too late, the result. -ESTALE: it has completed; -EINVAL: it is a source. O(1); O(operations on the
 * fd) where it waits for readiness.
 */
int becket_op_cancel(becket_loop *loop, becket_handle operation);

/**
 * Cancels an operation delay_ns from now, unless it has completed by then: its value is -ETIMEDOUT, or the result when it
 * was too late. Another one replaces it; BECKET_NEVER takes it away. O(log n).
 */
int becket_op_deadline(becket_loop *loop, becket_handle operation, uint64_t delay_ns);

/**
 * Cancels all operations, waits for their completions and calls their handlers; other events stay queued. While it runs
 * nothing new is accepted (-ECANCELED). Legal in a handler, after becket_stop(), and in a loop that never ran. 0: no
 * operation is left; -ETIMEDOUT: some are, after timeout_ns; -EPERM: the loop is another thread's; -EBUSY: called in a
 * handler that it has called. A disk that does not answer is waited for: no file can be had back from the kernel before.
 */
int becket_loop_drain(becket_loop *loop, int64_t timeout_ns);

/** Who reads and writes files for this loop: "io_uring", "aio", "aio-signal", "none"; NULL after an error. Static. O(1). */
const char *becket_files_name(const becket_loop *loop);

/** Why it is this one, "" where it was asked for by name; NULL after an error. Static. O(1). */
const char *becket_files_note(const becket_loop *loop);

/* ---- Listeners ----
 *
 * A listener is a source for the connections to a socket. Each connection is one event of BECKET_KIND_LISTENER, whose value is
 * the connection's fd: it does not block, is closed on exec, and is the handler's from then on. event->fd is the listener's own.
 *
 * A connection is accepted when its event is taken out, and not before: up to 64 of each listener in a turn, in turns with what
 * else is ready. None is accepted that has no place: before each one there have to be free sources, as many as it will need (one,
 * where becket_listen_options does not say otherwise). A program that takes several events by becket_next() before it adds their
 * sources has to ask for so many. Connections that are gone before they are accepted are skipped.
 *
 * Where there is no room a listener pauses by itself: when too few sources are free (-ENOSPC), the process or the system has no
 * descriptor (-EMFILE, -ENFILE), or the kernel no memory (-ENOBUFS, -ENOMEM), and on any other error of accept(2). One event
 * tells so, with BECKET_PAUSED and the error as its value, and no other follows until a connection has come. It goes on by itself:
 * when sources were removed and enough are free, and after the other errors in any case after 10 ms, and then twice as long each
 * time, up to 640 ms. Meanwhile connections wait in the kernel's queue, and no time is spent on them.
 *
 * Triggered (becket_trigger(), becket_wake()) a listener's event has BECKET_TRIGGERED; its value is -EAGAIN when there is no
 * connection. becket_remove() leaves the socket open: it is the program's then. becket_loop_close() closes those that becket has
 * opened.
 *
 * An address is text, or a struct sockaddr. As text:
 *
 *   127.0.0.1:80    [::1]:80    [fe80::1%2]:80    IPv4, IPv6, IPv6 with the number of an interface; port 0: any that is free
 *   :80    *:80                                    every address of IPv6 and IPv4; of IPv4 alone where there is no IPv6
 *   unix:/path    unix:@name                       a UNIX socket: a file; a name in Linux's abstract namespace
 *
 * Names of hosts are not looked up. An IPv6 socket is for IPv6 alone (IPV6_V6ONLY), whatever the system's default, but for :80
 * and *:80, and with BECKET_LISTEN_IPV4_TOO. TCP sockets have SO_REUSEADDR: a server that is started again has its port at once.
 */

/** Bytes that any address has as text at most, with its NUL. */
#define BECKET_ADDRESS_TEXT_BYTES 128

/**
 * SO_REUSEPORT: other sockets may listen at the same address if they say so too, of other processes of the same user; the
 * kernel shares the connections out among them.
 */
#define BECKET_LISTEN_REUSE_PORT 1u
/** An IPv6 socket is for IPv4 too: with [::]:80. */
#define BECKET_LISTEN_IPV4_TOO 2u
/** Of several processes that share the socket, not all are woken (EPOLLEXCLUSIVE). On epoll; else -ENOTSUP. */
#define BECKET_LISTEN_EXCLUSIVE 4u

/**
 * The file of a UNIX socket that nobody listens at any more is replaced; becket finds that out by connecting to it. Without
 * this, and where somebody does listen, a file that is there is -EADDRINUSE.
 */
#define BECKET_LISTEN_REPLACE 8u
/** The file of a UNIX socket is removed when the listener, or the loop, is closed. */
#define BECKET_LISTEN_UNLINK 16u
/** Connections are accepted also when no source is free. Not together with becket_listen_options.places. */
#define BECKET_LISTEN_WITHOUT_PLACE 32u
/** Each connection becomes a stream: none is accepted while there is no room for another one. */
#define BECKET_LISTEN_FOR_STREAMS 64u

/** What a listener is to be like. Zeros mean the default. */
typedef struct becket_listen_options {
  /** sizeof(becket_listen_options). */
  size_t size;
  /** BECKET_LISTEN_… */
  uint32_t flags;
  /** Connections that may wait to be accepted; the system has a limit of its own (net.core.somaxconn). 0: 4096. */
  uint32_t backlog;
  /** Free sources that there have to be before a connection is accepted, 255 at most. 0: 1. */
  uint32_t places;
} becket_listen_options;

/**
 * Listens at an address that is given as text. options may be NULL. -EINVAL: no address, or options that cannot be; -ENOSPC: no
 * source is free; -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, ...: what the system says; -ENOTSUP: abstract names elsewhere than on
 * Linux, or a loop in a simulator, which has no addresses. Then nothing is open. A few system calls.
 */
int becket_listen(becket_loop *loop,
                  const char *address,
                  const becket_listen_options *options,
                  becket_handler handler,
                  void *user,
                  becket_handle *handle);

/** The same at a struct sockaddr of so many bytes, of any family that has connections. */
int becket_listen_at(becket_loop *loop,
                     const struct sockaddr *address,
                     socklen_t length,
                     const becket_listen_options *options,
                     becket_handler handler,
                     void *user,
                     becket_handle *handle);

/**
 * The same with a socket that listens already, as one that was inherited: from systemd it is fd 3 and those behind it. It stays
 * the program's, but does not block from now on, and is closed on exec. The address, the backlog and SO_REUSEPORT are what they
 * are. -EINVAL: it does not listen (SO_ACCEPTCONN); -EBADF, -ENOTSOCK; -EEXIST: it has a source.
 */
int becket_listen_fd(becket_loop *loop,
                     int fd,
                     const becket_listen_options *options,
                     becket_handler handler,
                     void *user,
                     becket_handle *handle);

/**
 * Removes the listener and closes its socket, whoever has opened it, and removes its file with BECKET_LISTEN_UNLINK (also when
 * somebody else has put another there). Connections that wait in the kernel's queue are reset. The error of close(2), if any,
 * after the removal; -EBUSY: operations wait for the socket. O(listeners).
 */
int becket_listener_close(becket_loop *loop, becket_handle listener);

/** Accepts nothing until it is resumed. Connections wait in the kernel's queue; a paused listener keeps no loop alive. O(1). */
int becket_listener_pause(becket_loop *loop, becket_handle listener);

/** Accepts again; also at once when it has paused by itself. O(log n). */
int becket_listener_resume(becket_loop *loop, becket_handle listener);

/** 0: it accepts; 1: the program has paused it; BECKET_PAUSED: it has paused by itself; the sum: both. O(1). */
int becket_listener_paused(const becket_loop *loop, becket_handle listener);

/** The socket of a listener. O(1). */
int becket_listener_fd(const becket_loop *loop, becket_handle listener);

/**
 * The address that a listener is bound to, with its port where that was 0: as getsockname(2), *length is the room at address, and
 * then the address's length. -ENOTSUP: the loop lives in a simulator. One system call.
 */
int becket_listener_address(const becket_loop *loop,
                            becket_handle listener,
                            struct sockaddr *address,
                            socklen_t *length);

/** The same as text, of size bytes with its NUL: how long that is. -ENOSPC: it does not fit. */
int becket_listener_text(const becket_loop *loop, becket_handle listener, char *text, size_t size);

/**
 * The address of who is connected to a socket, as getpeername(2): in the listener's handler it is the connection's. -ENOTCONN: the
 * peer has gone already; -EBADF, -ENOTSOCK; -ENOTSUP: the loop lives in a simulator. One system call.
 */
int becket_peer_address(const becket_loop *loop, int fd, struct sockaddr *address, socklen_t *length);

/** The same as text, of size bytes with its NUL: how long that is. -ENOSPC: it does not fit. */
int becket_peer_text(const becket_loop *loop, int fd, char *text, size_t size);

/**
 * An address from text, for connect(2) and others; :80 and *:80 are [::]:80. *length is the room at address, and then the
 * address's length; a struct sockaddr_storage has room for any. -EINVAL: it is none; -ENOTSUP: there are no abstract names here.
 */
int becket_address_parse(const char *text, struct sockaddr *address, socklen_t *length);

/**
 * An address as text, of size bytes with its NUL: how long that is. -EINVAL: it is of no family that has text; -ENOSPC: it does
 * not fit.
 */
int becket_address_format(const struct sockaddr *address, socklen_t length, char *text, size_t size);

/* ---- Streams ----
 *
 * A stream is a source that receives and sends by itself: over a connected socket, or over one that it connects, or over a
 * socket of datagrams. Its memory is that of becket_config.streams: 128 bytes for an idle one (80 of its source, and 48), and
 * the buffers that all streams receive into.
 *
 * The fd is the loop's from becket_stream_add() on: it is closed with the stream, and by becket_loop_close(); after
 * becket_remove() it is the program's again. What every source has, a stream has too: level, handler, keepalive, posts,
 * becket_io_timeout(), becket_io_deadline(), becket_io_fd(). Nothing else may read from the fd or write to it.
 *
 * Each event, BECKET_KIND_STREAM, tells one thing, by one of these flags (with BECKET_TRIGGERED it may tell none):
 *
 *   BECKET_STREAM_CONNECTED  becket_stream_connect() has connected it
 *   BECKET_STREAM_DATA       value bytes were received: at data, valid until the handler returns or, before that, until
 *                            another event is asked for; becket_stream_keep() makes it last
 *   BECKET_STREAM_END        the peer sends no more; what is sent to it may still arrive
 *   BECKET_STREAM_SENT       a request is done, and the program's again: data is the becket_send_request, value its bytes,
 *                            or a negative errno value; data is NULL where becket_stream_forward() has failed
 *   BECKET_STREAM_LOW        the queue was above the high watermark, and is not above the low one any more
 *   BECKET_TIMEOUT, BECKET_DEADLINE   as for I/O sources: that is all, unless the program does something about it
 *   BECKET_STREAM_CLOSED     the last event: value is 0, or the reason as a negative errno value. The fd is closed by the time
 *                            of it, the handle stale, all requests were done before
 *
 * A stream ends, with CLOSED, when the program closes or resets it, when it cannot be connected, and when receiving fails, or
 * sending after the end. When only sending fails, the requests are done with that error, further ones are -EPIPE, and what the
 * peer has sent can still be received.
 *
 * On io_uring the kernel receives by itself, into all buffers but one, and at most as many as its rings have entries: it may have
 * done so when a stream is paused, which tells of it when it is resumed. What it has received for a stream that is removed is
 * lost; when its handler is told of data nothing is under way.
 *
 *   static BECKET_STREAMS(streams, 1000, 4, 16384);      // 1000 streams, 4 buffers of 16 KiB
 *   becket_config config = {.size = sizeof config, .streams = &streams};
 *
 * The functions below return 0 or a positive number, or an error after which nothing has changed. -ESTALE: the stream has ended,
 * or was removed; -EINVAL: it is no stream.
 */

/** It is done, and will have no event. */
#define BECKET_SEND_DONE 0
/** It is queued: BECKET_STREAM_SENT will tell. */
#define BECKET_SEND_QUEUED 1
/** It is queued, and more is than the high watermark: BECKET_STREAM_LOW will tell when to go on. */
#define BECKET_SEND_FULL 2

/**
 * One thing to be sent, in the program's memory: zeros before its first use. From its submission until it is done it is the
 * stream's, and so is what it leads to.
 */
typedef struct becket_send_request {
  /** The program's. */
  void *user;
  /** becket's. */
  uint64_t state[13];
} becket_send_request;

/**
 * Bytes of memory for so many streams and buffers: what BECKET_STREAMS_SIZE says, or 0 when there can be no such memory. Any
 * thread. O(1).
 */
size_t becket_streams_size(uint32_t streams, uint32_t buffers, uint32_t buffer_size);

/**
 * A stream over a connected socket, or one of datagrams. It becomes non-blocking. flags: 0; or BECKET_TRUSTED: it is a
 * non-blocking socket, which saves three system calls, and then BECKET_DATAGRAM too where it is one of datagrams.
 *
 * -EBADF, -ENOTSOCK; -EEXIST: the fd has a source; -ENOSPC: there is no room for another source, or for another stream; and what
 * becket_io_add() says of the fd. O(1) expected.
 */
int becket_stream_add(becket_loop *loop,
                      int fd,
                      uint32_t flags,
                      becket_handler handler,
                      void *user,
                      becket_handle *handle);

/**
 * A stream over a new socket, which it connects: BECKET_STREAM_CONNECTED, or BECKET_STREAM_CLOSED with the reason, after
 * within_ns (BECKET_NEVER: whenever the system says so) -ETIMEDOUT. What is sent meanwhile is queued. The address is copied by
 * the system.
 *
 * -ENOSPC: there is no room for another source, or for another stream; -EAGAIN: the queue of a UNIX socket's listener is full;
 * and what the system says at once: -EMFILE, -ENOENT, -ENETUNREACH, … O(1) expected, O(log n) with a deadline.
 */
int becket_stream_connect(becket_loop *loop,
                          const struct sockaddr *address,
                          socklen_t length,
                          uint64_t within_ns,
                          becket_handler handler,
                          void *user,
                          becket_handle *handle);

/**
 * Sends bytes, in the order of submission: at once where nothing is queued (but see becket_stream_batch()), and what the socket
 * does not take when it does. All of them are sent, or the request is done with an error. It never refuses for want of room,
 * since the memory is the program's: who sends more than the peer takes watches for BECKET_SEND_FULL.
 *
 * BECKET_SEND_DONE, BECKET_SEND_QUEUED or BECKET_SEND_FULL; -EPIPE: the stream sends no more, because it is shut down, or closes, or
 * sending has failed; -EBUSY: the request is in use. One system call that does not block at most.
 */
int becket_stream_send(becket_loop *loop,
                       becket_handle stream,
                       becket_send_request *request,
                       const void *data,
                       size_t length);

/** The same from count vectors, 1024 at most, which have to stay as they are too. */
int becket_stream_sendv(becket_loop *loop,
                        becket_handle stream,
                        becket_send_request *request,
                        const struct iovec *vectors,
                        int count);

/**
 * Sends length bytes of a regular file, from an offset on, by sendfile(2) where the system has it for that. It reads the file as
 * it goes, and waits for the disk where that is not in memory. The value is less than length when the file ends before.
 */
int becket_stream_sendfile(becket_loop *loop,
                           becket_handle stream,
                           becket_send_request *request,
                           int file,
                           int64_t offset,
                           uint64_t length);

/** Sends one datagram to an address, which has to stay valid too. What the network says of it is the value; the stream goes on. */
int becket_stream_sendto(becket_loop *loop,
                         becket_handle stream,
                         becket_send_request *request,
                         const void *data,
                         size_t length,
                         const struct sockaddr *address,
                         socklen_t address_length);

/**
 * Sends bytes of a buffer of the loop's: of what the latest BECKET_STREAM_DATA tells, or of what was kept. The buffer is the
 * stream's from then on, and free when they are sent: without a request, and without an event. If they cannot be sent
 * BECKET_STREAM_SENT tells so, with data NULL and a negative value. Until then the buffer counts as kept. On io_uring this goes
 * with the next wait, in no system call of its own; at the latest when becket_run() returns, or when the stream ends.
 *
 * BECKET_SEND_DONE; or BECKET_SEND_FULL: more is queued than the high watermark, and BECKET_STREAM_LOW will tell when to go on.
 * -EPIPE: as for becket_stream_send(); -EINVAL: no buffer has so many bytes there, or the event did not tell of them; -ESTALE: it
 * is not the latest event's any more, and was not kept, or is sent already. O(1), and one system call that does not block at
 * most.
 */
int becket_stream_forward(becket_loop *loop, becket_handle stream, const void *data, size_t length);

/**
 * Gathers what is sent, on != 0: a request waits until the stream's turn in the queue comes, behind the events that are there, and
 * then goes with the others of the stream, 16 pieces in one system call (a file or a datagram has one of its own); on io_uring in
 * none, but with the next wait, if it is one and of one piece. So each is BECKET_SEND_QUEUED or BECKET_SEND_FULL, and told with
 * BECKET_STREAM_SENT; its memory is the stream's until then. For those who answer many requests at a time, and for io_uring. Not at
 * first. When it is switched off, what was gathered goes in its turn all the same, and what is sent then behind it. It does not
 * concern becket_stream_forward().
 *
 * Nothing goes while the loop stands still: after becket_stop() what is gathered stays queued for the next turn, and where the
 * stream is removed or reset, or the loop closed, it is not sent. becket_stream_close() sends it first. O(1).
 */
int becket_stream_batch(becket_loop *loop, becket_handle stream, int on);

/**
 * Takes a queued request back: what is left of it is not sent. It is done in its order, and BECKET_STREAM_SENT tells the bytes that
 * were sent of it, which may be all: until then it is the stream's. Nothing happens to one that is done. What else is queued
 * is sent nevertheless: who cuts one short knows what the peer makes of that. One that goes with the next wait (on io_uring) still
 * does, and counts as queued until then. -EINVAL: NULL. O(requests), and one system call that does not block at most.
 */
int becket_stream_cancel(becket_loop *loop, becket_handle stream, const becket_send_request *request);

/** Bytes that are queued. O(1). */
int becket_stream_queued(const becket_loop *loop, becket_handle stream, uint64_t *bytes);

/** The watermarks of the queue, in bytes; at first 16 and 64 KiB. -EINVAL: low is above high. O(1). */
int becket_stream_watermarks(becket_loop *loop, becket_handle stream, uint32_t low, uint32_t high);

/** The watermarks. low and high may be NULL. O(1). */
int becket_stream_get_watermarks(const becket_loop *loop, becket_handle stream, uint32_t *low, uint32_t *high);

/**
 * Receives nothing until becket_stream_resume(): what the peer sends fills the system's own buffers, and then the peer has to
 * wait. Its end, and that it is gone, are not told meanwhile. O(1).
 */
int becket_stream_pause(becket_loop *loop, becket_handle stream);

/** Receives again. O(1). */
int becket_stream_resume(becket_loop *loop, becket_handle stream);

/**
 * Keeps the buffer of the latest BECKET_STREAM_DATA, whatever becomes of its stream: data is the event's. Becket receives into
 * those that are left; when there is none, streams that have something to receive wait, and go on in their order when one comes
 * back. One stream keeps at most half of them (and 255): it receives nothing more until it has given one back.
 *
 * -EINVAL: no buffer is there; -ESTALE: it is not the latest event's any more, or is kept already. O(1).
 */
int becket_stream_keep(becket_loop *loop, const void *data);

/**
 * Gives a buffer back that was kept: data is any address in it. -EINVAL: no buffer is there; -ESTALE: it was not kept, or was
 * given back. O(1).
 */
int becket_stream_release(becket_loop *loop, const void *data);

/** How many buffers are not kept. O(1). */
int becket_stream_buffers(const becket_loop *loop);

/**
 * Who has sent a datagram, for as long as its data is valid: data is the event's. *length is the address's length, or 0: it has
 * none. -EINVAL: no datagram begins there; -ESTALE: it was given back. O(1).
 */
int becket_stream_sender(const becket_loop *loop, const void *data, const struct sockaddr **address, socklen_t *length);

/**
 * Sends no more after what is queued: the peer learns of the end, shutdown(2). Receiving goes on. A second time: nothing.
 * -EPIPE: sending has failed. O(1).
 */
int becket_stream_shutdown(becket_loop *loop, becket_handle stream);

/**
 * Ends the stream: receives nothing more, sends what is queued, closes the fd, then BECKET_STREAM_CLOSED with 0. How long that
 * takes is the peer's to say: BECKET_TIMEOUT, BECKET_DEADLINE and becket_stream_reset() are for that. As with close(2), a peer
 * whose data was not received may not get the last of what was sent: who needs that shuts down, waits for the peer's end, and
 * then closes. A second time: nothing. O(1).
 */
int becket_stream_close(becket_loop *loop, becket_handle stream);

/**
 * Ends the stream at once: what is queued is not sent, and the peer learns that the connection was broken off (SO_LINGER). All
 * requests, and then the stream, end with -ECANCELED. O(requests).
 */
int becket_stream_reset(becket_loop *loop, becket_handle stream);

/* ---- Tasks ----
 *
 * A task is a function that stops where it awaits something, and goes on there when that has happened: a coroutine without
 * a stack of its own, in C11. What would have been on the stack stands in the caller's struct.
 *
 *   struct copy {
 *     becket_task task;
 *     int file, socket;
 *     char block[4096];
 *   };
 *
 *   static void copy(becket_task *task) {
 *     struct copy *self = (struct copy *)task;
 *     BECKET_TASK_BEGIN(task);
 *     for (;;) {
 *       BECKET_AWAIT(becket_op_read(task->loop, self->file, self->block, sizeof self->block, BECKET_CURRENT, BECKET_AWAITING));
 *       if (task->value <= 0) BECKET_TASK_RETURN(task->value);
 *       …
 *     }
 *     BECKET_TASK_END;
 *   }
 *
 * All of it belongs to the loop's thread. docs/continuations.md explains it.
 */

/**
 * A task, in the caller's memory, usually at the start of a struct with all that the task has to remember. Zeros before
 * its first start. It stays where it is until it has ended.
 */
typedef struct becket_task {
  /** Its loop. */
  becket_loop *loop;
  /** What the last await gave; see BECKET_AWAIT. */
  int64_t value;
  /** What the task ended with. */
  int64_t result;
  /** What it awaits; written through BECKET_AWAITING. */
  becket_handle awaited;
  /** The flags of the event that ended the last await. */
  uint32_t flags;
  /** The fd of that event. */
  int32_t fd;
  /** Its data: what a stream has received, or the request that is done. Valid until the next await. */
  void *data;
  /** becket's, as all below: the line to go on at. */
  uint32_t place;
  /** What it is doing. */
  uint32_t state;
  /** Its function. */
  void (*function)(struct becket_task *task);
  /** What is called at its end. */
  void (*ended)(struct becket_task *task);
  /** Who awaits it. */
  struct becket_task *waiter;
  /** Whom it awaits. */
  struct becket_task *joined;
} becket_task;

/** The function of a task: BECKET_TASK_BEGIN(task) … BECKET_TASK_END. Also what is called once a task has ended. */
typedef void (*becket_task_function)(becket_task *task);

/**
 * Starts a task: it runs at once, up to its first await. ended, or NULL, is called once, when the task is over: it may free
 * the task, or start it anew. -EBUSY: it has not ended; -EINVAL: no task, or no function.
 */
int becket_task_start(becket_loop *loop, becket_task *task, becket_task_function function, becket_task_function ended);

/** Whether a task was started and has not ended: 1 or 0. O(1). */
int becket_task_active(const becket_task *task);

/**
 * Ends what a task awaits: it goes on with -ECANCELED, or with the result when it was too late; an awaited task is cancelled
 * in its place. One that does not await, because it runs now, finds it at its next await, which then begins nothing. A task
 * that awaits nothing but becket_task_wake() goes on before this returns. -ESRCH: it has ended, or never began.
 */
int becket_task_cancel(becket_task *task);

/**
 * Lets a task go on that awaits just this: BECKET_AWAIT(0). It runs before this returns. For what happens in the program's
 * own handlers. -EBUSY: it awaits something else, or runs; -ESRCH: it has ended.
 */
int becket_task_wake(becket_task *task, int64_t value);

/**
 * For BECKET_AWAIT: awaits an I/O source that the program keeps, for BECKET_READABLE, BECKET_WRITABLE, BECKET_PRIORITY: the
 * source gets the task as its handler, and is paused again when it was ready. Errors as becket_io_modify().
 */
int becket_task_ready(becket_task *task, becket_handle source, uint32_t interest);

/**
 * For BECKET_AWAIT: awaits the next event of a stream, which gets the task as its handler. Between two awaits it tells nothing, and
 * nothing is lost; becket_set_handler() lets it tell again. The value is the event's; task->flags says what it tells
 * (BECKET_STREAM_DATA, ...), task->data is its data. -ETIMEDOUT: BECKET_TIMEOUT or BECKET_DEADLINE. Errors as
 * becket_set_handler(); -EINVAL: it is no stream; -ENOTSUP: streams are not built in.
 */
int becket_task_event(becket_task *task, becket_handle stream);

/** The handler of what a task awaits; BECKET_AWAITING names it. */
void becket_task_resume(becket_loop *loop, const becket_event *event, void *user);

/** A part of BECKET_AWAIT: whether the task may await anything now, and is not to end the await with -ECANCELED. */
int becket_task_may_await(becket_task *task);

/** A part of BECKET_AWAIT: whether the function has to be left, after a call that said begun. */
int becket_task_await(becket_task *task, int begun, uint64_t within_ns);

/** A part of BECKET_AWAIT_TASK: whether the function has to be left. */
int becket_task_join(becket_task *task, becket_task *other);

/** A part of BECKET_TASK_BEGIN: there is no such place in the function. Ends the task with -ENOTRECOVERABLE. */
void becket_task_lost(becket_task *task);

/**
 * The body of a task's function stands between these two, inside the function's own braces, with nothing but declarations
 * before it. What is declared there is new each time the task goes on: what has to outlive an await belongs into the
 * caller's struct. After BECKET_TASK_END, a return, or a break out of it, the task has ended, with the result 0.
 */
#define BECKET_TASK_BEGIN(task)                                                                                 \
  BECKET_IS_A_TASK(task)                                                                                        \
  becket_task *const BECKET_TASK_BEGIN_is_missing = (task);                                                     \
  switch ((unsigned long long)BECKET_TASK_BEGIN_is_missing->place) {                                            \
    default:                                                                                                    \
      becket_task_lost(BECKET_TASK_BEGIN_is_missing);                                                           \
      break;                                                                                                    \
    case 0:

#define BECKET_TASK_END                                                                                         \
  }                                                                                                             \
  (void)BECKET_TASK_BEGIN_is_missing

/** Ends the task, with a result for who awaits it: an int64_t. */
#define BECKET_TASK_RETURN(value)                                                                               \
  do {                                                                                                          \
    BECKET_TASK_BEGIN_is_missing->result = (value);                                                             \
    return;                                                                                                     \
  } while (0)

/**
 * The last three arguments of a call that begins what the task then awaits: of any becket_op_...(), becket_timer_add(),
 * becket_io_add(), becket_signal_add(), becket_child_add(), becket_wake_add() or becket_deferred_add().
 */
#define BECKET_AWAITING                                                                                         \
  becket_task_resume, BECKET_TASK_BEGIN_is_missing, &BECKET_TASK_BEGIN_is_missing->awaited

/**
 * Makes a call that begins something, and leaves the function until that is done; the loop goes on meanwhile. Then
 * task->value is the operation's result; an I/O source's BECKET_READABLE, ...; or the event's value, for others. A negative
 * value of the call itself, a negative errno value, is the task's value at once, and nothing was begun. -ECANCELED: see
 * becket_task_cancel(). A source that the call has added is removed again.
 *
 * One await a line, and none inside of a switch statement within the task: C finds no way back to it. (Both are compile
 * errors, "duplicate case value", but for a switch over 64 bits: there the task ends with -ENOTRECOVERABLE.)
 */
#define BECKET_AWAIT(call) BECKET_AWAIT_WITHIN(call, BECKET_NEVER)

/** The same for at most within_ns; then an operation is cancelled, and the value is -ETIMEDOUT (or the result, when it came
 * first). For operations, I/O sources and streams. */
#define BECKET_AWAIT_WITHIN(call, within_ns)                                                                    \
  BECKET_SUSPEND(becket_task_await(BECKET_TASK_BEGIN_is_missing, (call), (within_ns)))

/** Awaits the end of another task; the value is its result. -EBUSY: a third one awaits it; -EDEADLK: it awaits this one. */
#define BECKET_AWAIT_TASK(other) BECKET_SUSPEND(becket_task_join(BECKET_TASK_BEGIN_is_missing, (other)))

/* A switch of 64 bits tells these two places apart. One of 32 bits, inside of the task's, does not, and that is an error. */
#define BECKET_SUSPEND(suspends)                                                                                \
  do {                                                                                                          \
    BECKET_TASK_BEGIN_is_missing->place = __LINE__;                                                             \
    if (becket_task_may_await(BECKET_TASK_BEGIN_is_missing) && (suspends)) return;                              \
    if (0) {                                                                                                    \
      case BECKET_ONE_AWAIT_A_LINE_AND_NONE_IN_A_SWITCH(__LINE__, 0):                                           \
      case BECKET_ONE_AWAIT_A_LINE_AND_NONE_IN_A_SWITCH(__LINE__, 1):;                                          \
    }                                                                                                           \
  } while (0)
#define BECKET_ONE_AWAIT_A_LINE_AND_NONE_IN_A_SWITCH(line, high) ((unsigned long long)(line) | (unsigned long long)(high) << 32)

#ifdef __cplusplus
#define BECKET_IS_A_TASK(task)
#else
#define BECKET_IS_A_TASK(task)                                                                                  \
  _Static_assert(_Generic((task), becket_task *: 1, default: 0), "BECKET_TASK_BEGIN takes a becket_task *");
#endif

/* ---- Pools ----
 *
 * Blocks of one size in the caller's memory, for what comes and goes: a buffer for each transfer, a struct for each client.
 * Independent of any loop; one thread at a time.
 *
 *   static BECKET_POOL(pool, 64, 4096);
 *   char *block = becket_pool_get(&pool);
 *   if (block == NULL) … all 64 are taken: wait until one comes back …
 *   becket_pool_put(&pool, block);
 */

/** A pool. BECKET_POOL declares one; for memory that is known only at run time fill the first five and zero the others. */
typedef struct becket_pool {
  /** sizeof(becket_pool). */
  size_t size;
  /** count blocks, one behind the other, aligned as the caller needs them. */
  void *blocks;
  /** count numbers: becket's. */
  uint32_t *links;
  /** Bytes of a block. */
  size_t block_bytes;
  /** How many blocks there are. */
  uint32_t count;
  /** becket's: the first free block, plus one. */
  uint32_t free;
  /** becket's: none above was ever taken. */
  uint32_t mark;
  /** becket's: how many are taken. */
  uint32_t taken;
} becket_pool;

/** Takes a block, whose content is what was left in it. NULL: all are taken, or it is no pool. O(1). */
void *becket_pool_get(becket_pool *pool);

/** Gives a block back. -EINVAL: the pointer is not one to a block of this pool; -ESTALE: the block is not taken. O(1). */
int becket_pool_put(becket_pool *pool, void *block);

/** How many blocks are left. O(1). */
int becket_pool_left(const becket_pool *pool);

/** Declares blocks (zeroed, in .bss, aligned to 16 bytes) and name, their pool, at file scope or in a function: static BECKET_POOL(pool, 64, 4096); */
#define BECKET_POOL(name, count_max, bytes)                                                      \
  BECKET_POOL_BLOCKS(name##_blocks, (size_t)(count_max) * BECKET_POOL_BLOCK_BYTES(bytes));       \
  static uint32_t name##_links[count_max];                                                       \
  static becket_pool name = {sizeof(becket_pool), name##_blocks, name##_links,                   \
                             BECKET_POOL_BLOCK_BYTES(bytes), (count_max), 0, 0, 0}

/** A block's bytes, rounded up. */
#define BECKET_POOL_BLOCK_BYTES(bytes) (((size_t)(bytes) + 15) / 16 * 16)

#ifdef __cplusplus
#define BECKET_POOL_BLOCKS(blocks, bytes) unsigned char blocks alignas(16)[bytes]
#else
#define BECKET_POOL_BLOCKS(blocks, bytes) _Alignas(16) unsigned char blocks[bytes]
#endif

/* ---- Simulation ----
 *
 * A simulator is a system that is not there, to test a program in. Its descriptors are numbers of its own, which only
 * these functions and a loop that was made with becket_config.simulator know. Its time begins at one second and passes
 * only when that loop waits: at once, to the next thing that is to happen. What happens is asked for before, or left to
 * chance, which follows from a seed: so every run can be repeated to the bit.
 *
 *   static BECKET_SIMULATOR(world, 16, 64);   16 descriptors (and as many files), 64 events that are to come (and as many
 *                                             operations in flight)
 *   becket_simulator *sim;
 *   becket_simulator_init(&sim, &world, seed);
 *   becket_config config = {.size = sizeof config, .simulator = sim};
 *   becket_loop_init(&loop, &memory, &config);
 *
 * A handler is tested by giving it a descriptor of a simulator, and these functions for read(2), write(2) and the others.
 * Nothing ever blocks. Memory: BECKET_SIMULATOR_BYTES, and BECKET_SIMULATOR_FD_BYTES a descriptor, and
 * BECKET_SIMULATOR_EVENT_BYTES an event. Nothing has to be closed at the end.
 *
 * Operations (becket_op_*) on its descriptors are carried out one by one at random times, and complete in any order, in part,
 * by the faults of the calls here, or by those of files; a cancel comes in time or too late. Every path leads to a new regular
 * file, whatever it says; an empty one, in becket_op_statx(), to the descriptor. becket_op_connect() goes to the listener
 * whose descriptor's lowest 16 bits are the port of the IPv4 or IPv6 address; nobody else has an address. Of the flags of
 * messages there are MSG_DONTWAIT, MSG_NOSIGNAL and MSG_WAITALL.
 *
 * A simulator belongs to the thread that made it: -EPERM elsewhere. It serves one loop, the latest; waits of an earlier one
 * are -ESTALE. A wait that nothing can ever end is -EDEADLK. Signals and children are the real ones. -EBADF: there is no
 * such simulator, or the descriptor is not open.
 */

/** A simulator without descriptors and events. */
#define BECKET_SIMULATOR_BYTES 1280
/** One descriptor, with its file. */
#define BECKET_SIMULATOR_FD_BYTES 384
/** One event that is to come, and one operation in flight. */
#define BECKET_SIMULATOR_EVENT_BYTES 120
/** What one end of a connection holds unread. */
#define BECKET_SIM_STREAM_BYTES 256
/** becket_sim_open(): EINTR, EMFILE, ENFILE, ENOMEM, ENOSPC. */
#define BECKET_SIM_OPEN 0
/** becket_sim_socket(), becket_sim_pair(), becket_sim_dup(): EMFILE, ENFILE, ENOMEM. */
#define BECKET_SIM_SOCKET 1
/** becket_sim_connect(): EINTR, EAGAIN, EBADF, ENOMEM at once; ECONNREFUSED, ECONNRESET when the connection should be there. */
#define BECKET_SIM_CONNECT 2
/** becket_sim_accept(): EINTR, EAGAIN, EBADF, EMFILE, ENFILE, ENOMEM; ECONNABORTED, which loses the connection. */
#define BECKET_SIM_ACCEPT 3
/** becket_sim_read(): EINTR, EAGAIN, EBADF, ENOMEM; ECONNRESET, after which the connection is gone. */
#define BECKET_SIM_READ 4
/** becket_sim_write(): EINTR, EAGAIN, EBADF, ENOMEM, ENOSPC; ECONNRESET and EPIPE, after which the connection is gone. */
#define BECKET_SIM_WRITE 5
/** becket_sim_close(): EINTR, ENOSPC. The descriptor is closed all the same. */
#define BECKET_SIM_CLOSE 6
/** becket_io_add(): EBADF, ENOMEM, ENOSPC. */
#define BECKET_SIM_WATCH 7
/** A wait that sleeps: EINTR and EAGAIN after some of the time, EBUSY soon; ENOMEM at once. */
#define BECKET_SIM_WAIT 8
/** A wait is prepared, and an interest that has changed is not taken over: ENOMEM. The loop tries again. */
#define BECKET_SIM_CHANGE 9
/** Handing an operation over, or its cancellation: EAGAIN, EBUSY, ENOMEM. The loop tries again. */
#define BECKET_SIM_SUBMIT 10
/** Reading a regular file by an operation: EINTR, which is tried again, EIO, ENOMEM. */
#define BECKET_SIM_READ_FILE 11
/** Writing it: EINTR, which is tried again, EIO, ENOSPC. */
#define BECKET_SIM_WRITE_FILE 12
/** becket_op_fsync(): EIO, ENOSPC. */
#define BECKET_SIM_SYNC 13
/** becket_op_statx(): ENOENT, ENOMEM. */
#define BECKET_SIM_STATUS 14
/** A read or a write moves less than it could. */
#define BECKET_SIM_PARTIAL 0
/** A wait tells of readiness that is not there. */
#define BECKET_SIM_SPURIOUS 1
/** A wait tells again what the one before has told, whether it is still so or not. */
#define BECKET_SIM_REPEATED 2
/** Readiness is told late, by up to the given span. (It takes an event; without room for it, it is told at once.) */
#define BECKET_SIM_DELAYED 3
/** A wait sleeps too long, by up to the given span. */
#define BECKET_SIM_OVERSLEEP 4

/** Describes memory for a simulator. BECKET_SIMULATOR declares both. */
typedef struct becket_simulator_memory {
  /** sizeof(becket_simulator_memory). */
  size_t size;
  /** The block, aligned to 8 bytes. */
  void *block;
  /** Bytes: at least BECKET_SIMULATOR_SIZE of the two numbers. */
  size_t block_size;
  /** The most descriptors at once, and the most files: up to 2^20. */
  uint32_t fds;
  /** The most events at once that are to come: up to 2^20. */
  uint32_t events;
} becket_simulator_memory;

/**
 * Makes a simulator in a block of memory; everything that it leaves to chance follows from the seed. The descriptor is not
 * needed any more after this; the block stays until the loop in it is closed. Again in the same memory: a new one.
 * -ENOBUFS: the block is too small. O(descriptors and events).
 */
int becket_simulator_init(becket_simulator **simulator, const becket_simulator_memory *memory, uint64_t seed);

/** The simulator that a loop lives in. -ENOTSUP: it lives in none. O(1). */
int becket_sim_of(const becket_loop *loop, becket_simulator **simulator);

/** The time. Any thread. O(1). */
int becket_sim_now(const becket_simulator *simulator, uint64_t *now_ns);

/** Moves time on, as a handler does that works for so long. What happens meanwhile is found in the next wait. O(1). */
int becket_sim_advance(becket_simulator *simulator, uint64_t span_ns);

/** It is this time now, however far that lies ahead. -EINVAL: it has passed, or never comes. O(1). */
int becket_sim_jump(becket_simulator *simulator, uint64_t at_ns);

/**
 * Such a call (BECKET_SIM_OPEN, …) fails so often by this error (ECONNRESET, …), in a million. Nothing fails at first.
 * -EINVAL: it cannot, or would fail more often than it is made. O(1).
 */
int becket_sim_fault(becket_simulator *simulator, uint32_t which, int error, uint32_t per_million);

/**
 * The nth such call from now on fails by this error: 1 is the next; 0: none does. One for each kind of call: the latest that
 * was asked for. -EINVAL: it cannot. O(1).
 */
int becket_sim_fail_nth(becket_simulator *simulator, uint32_t which, int error, uint32_t nth);

/**
 * The system is odd in this way (BECKET_SIM_PARTIAL, …) so often, in a million, and where it is a span of time, by up to
 * most_ns. -EINVAL: more often than always. O(1).
 */
int becket_sim_quirk(becket_simulator *simulator, uint32_t which, uint32_t per_million, uint64_t most_ns);

/**
 * Everything that can go wrong does, each so often in a million: all errors of all calls, and all quirks. 0: nothing any
 * more. -EINVAL: more than 142857, so that some call would always fail. O(1).
 */
int becket_sim_all_faults(becket_simulator *simulator, uint32_t per_million, uint64_t most_ns);

/**
 * Whether the loop that is made next has a ring, as io_uring's, to which it submits all operations; it has (1), at first.
 * Without one (0) it makes those on connections and devices itself, when they are ready, in order, as it does on the other
 * backends of the system; those on files are submitted all the same. O(1).
 */
int becket_sim_set_ring(becket_simulator *simulator, int on);

/** How long an operation takes at most until it is carried out, and then again until that is told: 100 us, at first. O(1). */
int becket_sim_set_latency(becket_simulator *simulator, uint64_t most_ns);

/** What a path leads to is so long from now on: 4096 bytes, at first. O(1). */
int becket_sim_set_file_size(becket_simulator *simulator, uint64_t bytes);

/** How many such calls were made to fail. O(1). */
int becket_sim_failed(const becket_simulator *simulator, uint32_t which, uint64_t *calls);

/** A random number, from 0 to below bound (0 where that is 0): for what a test leaves to chance itself. O(1). */
int becket_sim_below(becket_simulator *simulator, uint64_t bound, uint64_t *number);

/**
 * A descriptor that is ready as the program says: not at all, at first. What is read from it is random bytes, what is
 * written is gone. Returns the descriptor; -EMFILE, -ENFILE: there is no room for another, here and below; no fault makes
 * this fail. O(descriptors).
 */
int becket_sim_scripted(becket_simulator *simulator);

/**
 * One that becomes ready for this or that, and ceases to be, at random: each lasts from 1 ns to twice mean_ns. It keeps one
 * event for itself: -ENOSPC where there is no room for it. No fault makes this fail. O(descriptors).
 */
int becket_sim_random(becket_simulator *simulator, uint64_t mean_ns);

/**
 * Opens a regular file of so many bytes, each the lowest eight bits of its place. It cannot be waited for: -EPERM.
 * O(descriptors).
 */
int becket_sim_open(becket_simulator *simulator, uint64_t bytes);

/** Opens a device that never blocks, as /dev/null: always ready. O(descriptors). */
int becket_sim_open_null(becket_simulator *simulator);

/** Two ends of a connection, each of which holds up to BECKET_SIM_STREAM_BYTES unread. fds has room for two. O(descriptors). */
int becket_sim_pair(becket_simulator *simulator, int *fds);

/** A socket: to connect, or to listen. O(descriptors). */
int becket_sim_socket(becket_simulator *simulator);

/**
 * A socket listens: up to backlog connections wait to be accepted, each of which takes a file's place. -EINVAL: it is no
 * socket, or is connected. O(1).
 */
int becket_sim_listen(becket_simulator *simulator, int fd, uint32_t backlog);

/**
 * Connects a socket to one that listens: -EINPROGRESS. When that has ended, it is writable, and becket_sim_error() says
 * how. -EINVAL: it is no socket, or is connected, or was; -ENOSPC: there is no room for another event. O(log n).
 */
int becket_sim_connect(becket_simulator *simulator, int fd, int listener);

/** The connection that has waited longest: its descriptor. -EAGAIN: none does; -EINVAL: it does not listen. O(descriptors). */
int becket_sim_accept(becket_simulator *simulator, int listener);

/** Reads what is there, at least one byte: how many; 0: it has ended. -EAGAIN: nothing is there. O(bytes). */
int64_t becket_sim_read(becket_simulator *simulator, int fd, void *buffer, size_t length);

/** Writes what there is room for, at least one byte: how many. -EAGAIN: there is none; -EPIPE: nobody reads it. O(bytes). */
int64_t becket_sim_write(becket_simulator *simulator, int fd, const void *buffer, size_t length);

/**
 * No more is written to a connection: the other end reads what is there, then its end. -ENOTCONN; -EINVAL: it is no
 * connection. O(1).
 */
int becket_sim_shutdown(becket_simulator *simulator, int fd);

/**
 * Breaks a connection off at a point in time, as the network does: both ends get ECONNRESET, and what is unread is lost. 0:
 * now. -EINVAL: it is no connection; -ENOSPC: there is no room for another event. O(log n).
 */
int becket_sim_reset(becket_simulator *simulator, int fd, uint64_t at_ns);

/** How much an end of a connection holds unread, from 1 to BECKET_SIM_STREAM_BYTES. O(1). */
int becket_sim_set_room(becket_simulator *simulator, int fd, size_t bytes);

/** What is wrong with a connection and was not told yet, as SO_ERROR: an errno value, or 0. -EINVAL: it is none. O(1). */
int becket_sim_error(becket_simulator *simulator, int fd, int *error);

/**
 * Another descriptor of the same file. One that is closed while it is watched, and is not the last, goes on to be reported,
 * until the loop has noticed: as on epoll. O(descriptors).
 */
int becket_sim_dup(becket_simulator *simulator, int fd);

/**
 * Closes a descriptor; the number is free for the next. After -EINTR and -ENOSPC too. becket_io_close() does this with the
 * source. O(1); O(files) for one that listens.
 */
int becket_sim_close(becket_simulator *simulator, int fd);

/** How many descriptors are open: what a program has not closed at its end has leaked. O(descriptors). */
int becket_sim_open_fds(const becket_simulator *simulator);

/** What a descriptor is ready for at this moment, whatever a wait would tell of it. O(1). */
int becket_sim_ready(const becket_simulator *simulator, int fd, uint32_t *flags);

/**
 * A scripted descriptor is ready for this, and nothing else, from a point in time on; what lies in the past happens in the
 * next wait, and 0 is now. -EINVAL: it is of another sort, or no readiness of a descriptor; -ENOSPC: there is no room for
 * another event. O(log n).
 */
int becket_sim_set_ready(becket_simulator *simulator, int fd, uint64_t at_ns, uint32_t flags);

#ifdef __cplusplus
}
#endif

#endif /* BECKET_H */
