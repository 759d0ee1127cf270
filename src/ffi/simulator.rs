//! The simulator for C.

use super::types::{becket_loop, becket_simulator};
use super::{answer, done, look, store};
use crate::backend::{Call, Quirk, Ready, Simulator, SimulatorRef, simulator_memory};
use crate::error::{Error, Result};
use crate::time::{Duration, Instant};
use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

// ---- Simulation ----
//
// A simulator is a system that is not there, to test a program in. Its descriptors are numbers of its own, which only
// these functions and a loop that was made with becket_config.simulator know. Its time begins at one second and passes
// only when that loop waits: at once, to the next thing that is to happen. What happens is asked for before, or left to
// chance, which follows from a seed: so every run can be repeated to the bit.
//
//   static BECKET_SIMULATOR(world, 16, 64);   16 descriptors (and as many files), 64 events that are to come (and as many
//                                             operations in flight)
//   becket_simulator *sim;
//   becket_simulator_init(&sim, &world, seed);
//   becket_config config = {.size = sizeof config, .simulator = sim};
//   becket_loop_init(&loop, &memory, &config);
//
// A handler is tested by giving it a descriptor of a simulator, and these functions for read(2), write(2) and the others.
// Nothing ever blocks. Memory: BECKET_SIMULATOR_BYTES, and BECKET_SIMULATOR_FD_BYTES a descriptor, and
// BECKET_SIMULATOR_EVENT_BYTES an event. Nothing has to be closed at the end.
//
// Operations (becket_op_*) on its descriptors are carried out one by one at random times, and complete in any order, in part,
// by the faults of the calls here, or by those of files; a cancel comes in time or too late. Every path leads to a new regular
// file, whatever it says; an empty one, in becket_op_statx(), to the descriptor. becket_op_connect() goes to the listener
// whose descriptor's lowest 16 bits are the port of the IPv4 or IPv6 address; nobody else has an address. Of the flags of
// messages there are MSG_DONTWAIT, MSG_NOSIGNAL and MSG_WAITALL.
//
// A simulator belongs to the thread that made it: -EPERM elsewhere. It serves one loop, the latest; waits of an earlier one
// are -ESTALE. A wait that nothing can ever end is -EDEADLK. Signals and children are the real ones. -EBADF: there is no
// such simulator, or the descriptor is not open.

/// A simulator without descriptors and events.
pub const BECKET_SIMULATOR_BYTES: u32 = 1280;
/// One descriptor, with its file.
pub const BECKET_SIMULATOR_FD_BYTES: u32 = 384;
/// One event that is to come, and one operation in flight.
pub const BECKET_SIMULATOR_EVENT_BYTES: u32 = 120;
/// What one end of a connection holds unread.
pub const BECKET_SIM_STREAM_BYTES: u32 = 256;

/// becket_sim_open(): EINTR, EMFILE, ENFILE, ENOMEM, ENOSPC.
pub const BECKET_SIM_OPEN: u32 = 0;
/// becket_sim_socket(), becket_sim_pair(), becket_sim_dup(): EMFILE, ENFILE, ENOMEM.
pub const BECKET_SIM_SOCKET: u32 = 1;
/// becket_sim_connect(): EINTR, EAGAIN, EBADF, ENOMEM at once; ECONNREFUSED, ECONNRESET when the connection should be there.
pub const BECKET_SIM_CONNECT: u32 = 2;
/// becket_sim_accept(): EINTR, EAGAIN, EBADF, EMFILE, ENFILE, ENOMEM; ECONNABORTED, which loses the connection.
pub const BECKET_SIM_ACCEPT: u32 = 3;
/// becket_sim_read(): EINTR, EAGAIN, EBADF, ENOMEM; ECONNRESET, after which the connection is gone.
pub const BECKET_SIM_READ: u32 = 4;
/// becket_sim_write(): EINTR, EAGAIN, EBADF, ENOMEM, ENOSPC; ECONNRESET and EPIPE, after which the connection is gone.
pub const BECKET_SIM_WRITE: u32 = 5;
/// becket_sim_close(): EINTR, ENOSPC. The descriptor is closed all the same.
pub const BECKET_SIM_CLOSE: u32 = 6;
/// becket_io_add(): EBADF, ENOMEM, ENOSPC.
pub const BECKET_SIM_WATCH: u32 = 7;
/// A wait that sleeps: EINTR and EAGAIN after some of the time, EBUSY soon; ENOMEM at once.
pub const BECKET_SIM_WAIT: u32 = 8;
/// A wait is prepared, and an interest that has changed is not taken over: ENOMEM. The loop tries again.
pub const BECKET_SIM_CHANGE: u32 = 9;
/// Handing an operation over, or its cancellation: EAGAIN, EBUSY, ENOMEM. The loop tries again.
pub const BECKET_SIM_SUBMIT: u32 = 10;
/// Reading a regular file by an operation: EINTR, which is tried again, EIO, ENOMEM.
pub const BECKET_SIM_READ_FILE: u32 = 11;
/// Writing it: EINTR, which is tried again, EIO, ENOSPC.
pub const BECKET_SIM_WRITE_FILE: u32 = 12;
/// becket_op_fsync(): EIO, ENOSPC.
pub const BECKET_SIM_SYNC: u32 = 13;
/// becket_op_statx(): ENOENT, ENOMEM.
pub const BECKET_SIM_STATUS: u32 = 14;

/// A read or a write moves less than it could.
pub const BECKET_SIM_PARTIAL: u32 = 0;
/// A wait tells of readiness that is not there.
pub const BECKET_SIM_SPURIOUS: u32 = 1;
/// A wait tells again what the one before has told, whether it is still so or not.
pub const BECKET_SIM_REPEATED: u32 = 2;
/// Readiness is told late, by up to the given span. (It takes an event; without room for it, it is told at once.)
pub const BECKET_SIM_DELAYED: u32 = 3;
/// A wait sleeps too long, by up to the given span.
pub const BECKET_SIM_OVERSLEEP: u32 = 4;

const _: () = {
    assert!(BECKET_SIMULATOR_BYTES as usize == simulator_memory::HEAD_BYTES);
    assert!(BECKET_SIMULATOR_FD_BYTES as usize == simulator_memory::FD_BYTES);
    assert!(BECKET_SIMULATOR_EVENT_BYTES as usize == simulator_memory::EVENT_BYTES);
    assert!(BECKET_SIM_STREAM_BYTES as usize == Simulator::STREAM_BYTES);
    assert!(BECKET_SIM_OPEN == Call::Open as u32 && BECKET_SIM_SOCKET == Call::Socket as u32);
    assert!(BECKET_SIM_CONNECT == Call::Connect as u32 && BECKET_SIM_ACCEPT == Call::Accept as u32);
    assert!(BECKET_SIM_READ == Call::Read as u32 && BECKET_SIM_WRITE == Call::Write as u32);
    assert!(BECKET_SIM_CLOSE == Call::Close as u32 && BECKET_SIM_WATCH == Call::Watch as u32);
    assert!(BECKET_SIM_WAIT == Call::Wait as u32 && BECKET_SIM_CHANGE == Call::Change as u32);
    assert!(BECKET_SIM_SUBMIT == Call::Submit as u32 && BECKET_SIM_READ_FILE == Call::ReadFile as u32);
    assert!(BECKET_SIM_WRITE_FILE == Call::WriteFile as u32 && BECKET_SIM_SYNC == Call::Sync as u32);
    assert!(BECKET_SIM_STATUS == Call::Status as u32 && Call::ALL.len() == 15);
    assert!(BECKET_SIM_PARTIAL == Quirk::Partial as u32 && BECKET_SIM_SPURIOUS == Quirk::Spurious as u32);
    assert!(BECKET_SIM_REPEATED == Quirk::Repeated as u32 && BECKET_SIM_DELAYED == Quirk::Delayed as u32);
    assert!(BECKET_SIM_OVERSLEEP == Quirk::Oversleep as u32 && Quirk::ALL.len() == 5);
};

/// Describes memory for a simulator. BECKET_SIMULATOR declares both.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct becket_simulator_memory {
    /// sizeof(becket_simulator_memory).
    pub size: usize,
    /// The block, aligned to 8 bytes.
    pub block: *mut c_void,
    /// Bytes: at least BECKET_SIMULATOR_SIZE of the two numbers.
    pub block_size: usize,
    /// The most descriptors at once, and the most files: up to 2^20.
    pub fds: u32,
    /// The most events at once that are to come: up to 2^20.
    pub events: u32,
}

/// The simulator at an address.
///
/// # Safety
/// Null, or an address where a simulator is or was, in memory that is still readable.
unsafe fn at<'a>(simulator: *const becket_simulator) -> Result<Simulator<'a>> {
    // SAFETY: by this function's contract.
    unsafe { SimulatorRef::from_ptr(simulator.cast()) }.map(Simulator::from_memory)
}

/// A number of bytes, or a negative errno value.
fn count(result: Result<usize>) -> i64 {
    result.map_or_else(|error| -i64::from(error.errno()), |count| count as i64)
}

/// Readiness as C gives it. EINVAL: other flags.
fn ready(flags: u32) -> Result<Ready> {
    u16::try_from(flags).ok().and_then(Ready::from_bits).ok_or(Error::INVALID)
}

fn call(number: u32) -> Result<Call> {
    Call::ALL.get(number as usize).copied().ok_or(Error::INVALID)
}

/// Makes a simulator in a block of memory; everything that it leaves to chance follows from the seed. The descriptor is not
/// needed any more after this; the block stays until the loop in it is closed. Again in the same memory: a new one.
/// -ENOBUFS: the block is too small. O(descriptors and events).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_simulator_init(
    simulator: *mut *mut becket_simulator,
    memory: *const becket_simulator_memory,
    seed: u64,
) -> c_int {
    let make = || {
        // SAFETY: the size comes first, and tells whether the rest may be read; NULL is checked.
        let given = unsafe { super::memory::sized(memory) }?.ok_or(Error::INVALID)?;
        let start: NonNull<u8> = NonNull::new(given.block.cast()).ok_or(Error::INVALID)?;
        let (fds, events) = (given.fds as usize, given.events as usize);
        let needed = simulator_memory::bytes(fds, events).ok_or(Error::INVALID)?;
        if !(start.as_ptr() as usize).is_multiple_of(crate::storage::layout::ALIGNMENT) {
            return Err(Error::INVALID);
        }
        if given.block_size < needed {
            return Err(Error::NO_BUFFERS);
        }
        // SAFETY: aligned and large enough, and the caller's, who gives it for as long as it is used.
        Ok(unsafe { SimulatorRef::make(start, fds, events, seed) }.as_ptr().cast())
    };
    // SAFETY: the caller gives a place, or NULL, which is checked.
    unsafe { store(simulator, make) }
}

/// The simulator that a loop lives in. -ENOTSUP: it lives in none. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_of(event_loop: *const becket_loop, simulator: *mut *mut becket_simulator) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe {
        store(simulator, || {
            look(event_loop, |engine| engine.simulator().ok_or(Error::UNSUPPORTED)).map(|it| it.as_ptr().cast())
        })
    }
}

/// The time. Any thread. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_now(simulator: *const becket_simulator, now_ns: *mut u64) -> c_int {
    // SAFETY: the caller gives a simulator and a place, or NULL, which is checked; and so in all that follows.
    unsafe { store(now_ns, || at(simulator).map(|it| it.now().as_nanos())) }
}

/// Moves time on, as a handler does that works for so long. What happens meanwhile is found in the next wait. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_advance(simulator: *mut becket_simulator, span_ns: u64) -> c_int {
    // SAFETY: as said above.
    done(unsafe { at(simulator) }.and_then(|it| it.advance(Duration::from_nanos(span_ns))))
}

/// It is this time now, however far that lies ahead. -EINVAL: it has passed, or never comes. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_jump(simulator: *mut becket_simulator, at_ns: u64) -> c_int {
    // SAFETY: as said above.
    done(unsafe { at(simulator) }.and_then(|it| it.jump_to(Instant::from_nanos(at_ns))))
}

/// Such a call (BECKET_SIM_OPEN, …) fails so often by this error (ECONNRESET, …), in a million. Nothing fails at first.
/// -EINVAL: it cannot, or would fail more often than it is made. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_fault(
    simulator: *mut becket_simulator,
    which: u32,
    error: c_int,
    per_million: u32,
) -> c_int {
    // SAFETY: as said above.
    let simulator = unsafe { at(simulator) };
    done(simulator.and_then(|it| it.set_fault(call(which)?, Error::from_errno(error), per_million)))
}

/// The nth such call from now on fails by this error: 1 is the next; 0: none does. One for each kind of call: the latest that
/// was asked for. -EINVAL: it cannot. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_fail_nth(
    simulator: *mut becket_simulator,
    which: u32,
    error: c_int,
    nth: u32,
) -> c_int {
    // SAFETY: as said above.
    let simulator = unsafe { at(simulator) };
    done(simulator.and_then(|it| it.fail_nth(call(which)?, Error::from_errno(error), nth)))
}

/// The system is odd in this way (BECKET_SIM_PARTIAL, …) so often, in a million, and where it is a span of time, by up to
/// most_ns. -EINVAL: more often than always. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_quirk(
    simulator: *mut becket_simulator,
    which: u32,
    per_million: u32,
    most_ns: u64,
) -> c_int {
    let quirk = Quirk::ALL.get(which as usize).copied().ok_or(Error::INVALID);
    // SAFETY: as said above.
    let simulator = unsafe { at(simulator) };
    done(simulator.and_then(|it| it.set_quirk(quirk?, per_million, Duration::from_nanos(most_ns))))
}

/// Everything that can go wrong does, each so often in a million: all errors of all calls, and all quirks. 0: nothing any
/// more. -EINVAL: more than 142857, so that some call would always fail. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_all_faults(
    simulator: *mut becket_simulator,
    per_million: u32,
    most_ns: u64,
) -> c_int {
    // SAFETY: as said above.
    done(unsafe { at(simulator) }.and_then(|it| it.set_all_faults(per_million, Duration::from_nanos(most_ns))))
}

/// Whether the loop that is made next has a ring, as io_uring's, to which it submits all operations; it has (1), at first.
/// Without one (0) it makes those on connections and devices itself, when they are ready, in order, as it does on the other
/// backends of the system; those on files are submitted all the same. O(1).
#[cfg(feature = "operations")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_set_ring(simulator: *mut becket_simulator, on: c_int) -> c_int {
    // SAFETY: as said above.
    done(unsafe { at(simulator) }.and_then(|it| it.set_ring(on != 0)))
}

/// How long an operation takes at most until it is carried out, and then again until that is told: 100 us, at first. O(1).
#[cfg(feature = "operations")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_set_latency(simulator: *mut becket_simulator, most_ns: u64) -> c_int {
    // SAFETY: as said above.
    done(unsafe { at(simulator) }.and_then(|it| it.set_latency(Duration::from_nanos(most_ns))))
}

/// What a path leads to is so long from now on: 4096 bytes, at first. O(1).
#[cfg(feature = "operations")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_set_file_size(simulator: *mut becket_simulator, bytes: u64) -> c_int {
    // SAFETY: as said above.
    done(unsafe { at(simulator) }.and_then(|it| it.set_file_size(bytes)))
}

/// How many such calls were made to fail. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_failed(simulator: *const becket_simulator, which: u32, calls: *mut u64) -> c_int {
    // SAFETY: as said above.
    unsafe { store(calls, || at(simulator)?.failed(call(which)?)) }
}

/// A random number, from 0 to below bound (0 where that is 0): for what a test leaves to chance itself. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_below(simulator: *mut becket_simulator, bound: u64, number: *mut u64) -> c_int {
    // SAFETY: as said above.
    unsafe { store(number, || at(simulator)?.below(bound)) }
}

/// A descriptor that is ready as the program says: not at all, at first. What is read from it is random bytes, what is
/// written is gone. Returns the descriptor; -EMFILE, -ENFILE: there is no room for another, here and below; no fault makes
/// this fail. O(descriptors).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_scripted(simulator: *mut becket_simulator) -> c_int {
    // SAFETY: as said above.
    answer(unsafe { at(simulator) }.and_then(Simulator::scripted))
}

/// One that becomes ready for this or that, and ceases to be, at random: each lasts from 1 ns to twice mean_ns. It keeps one
/// event for itself: -ENOSPC where there is no room for it. No fault makes this fail. O(descriptors).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_random(simulator: *mut becket_simulator, mean_ns: u64) -> c_int {
    // SAFETY: as said above.
    answer(unsafe { at(simulator) }.and_then(|it| it.random(Duration::from_nanos(mean_ns))))
}

/// Opens a regular file of so many bytes, each the lowest eight bits of its place. It cannot be waited for: -EPERM.
/// O(descriptors).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_open(simulator: *mut becket_simulator, bytes: u64) -> c_int {
    // SAFETY: as said above.
    answer(unsafe { at(simulator) }.and_then(|it| it.open(bytes)))
}

/// Opens a device that never blocks, as /dev/null: always ready. O(descriptors).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_open_null(simulator: *mut becket_simulator) -> c_int {
    // SAFETY: as said above.
    answer(unsafe { at(simulator) }.and_then(Simulator::open_null))
}

/// Two ends of a connection, each of which holds up to BECKET_SIM_STREAM_BYTES unread. fds has room for two. O(descriptors).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_pair(simulator: *mut becket_simulator, fds: *mut c_int) -> c_int {
    // SAFETY: as said above; there is room for two.
    unsafe { store(fds.cast::<[c_int; 2]>(), || at(simulator)?.pair()) }
}

/// A socket: to connect, or to listen. O(descriptors).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_socket(simulator: *mut becket_simulator) -> c_int {
    // SAFETY: as said above.
    answer(unsafe { at(simulator) }.and_then(Simulator::socket))
}

/// A socket listens: up to backlog connections wait to be accepted, each of which takes a file's place. -EINVAL: it is no
/// socket, or is connected. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_listen(simulator: *mut becket_simulator, fd: c_int, backlog: u32) -> c_int {
    // SAFETY: as said above.
    done(unsafe { at(simulator) }.and_then(|it| it.listen(fd, backlog)))
}

/// Connects a socket to one that listens: -EINPROGRESS. When that has ended, it is writable, and becket_sim_error() says
/// how. -EINVAL: it is no socket, or is connected, or was; -ENOSPC: there is no room for another event. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_connect(simulator: *mut becket_simulator, fd: c_int, listener: c_int) -> c_int {
    // SAFETY: as said above.
    done(unsafe { at(simulator) }.and_then(|it| it.connect(fd, listener)))
}

/// The connection that has waited longest: its descriptor. -EAGAIN: none does; -EINVAL: it does not listen. O(descriptors).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_accept(simulator: *mut becket_simulator, listener: c_int) -> c_int {
    // SAFETY: as said above.
    answer(unsafe { at(simulator) }.and_then(|it| it.accept(listener)))
}

/// Reads what is there, at least one byte: how many; 0: it has ended. -EAGAIN: nothing is there. O(bytes).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_read(
    simulator: *mut becket_simulator,
    fd: c_int,
    buffer: *mut c_void,
    length: usize,
) -> i64 {
    if buffer.is_null() && length > 0 {
        return count(Err(Error::INVALID));
    }
    let buffer = if length == 0 { NonNull::dangling().as_ptr() } else { buffer.cast::<u8>() };
    // SAFETY: the caller gives a buffer of that length, which nobody else uses meanwhile.
    let buffer = unsafe { core::slice::from_raw_parts_mut(buffer, length.min(isize::MAX as usize)) };
    // SAFETY: as said above.
    count(unsafe { at(simulator) }.and_then(|it| it.read(fd, buffer)))
}

/// Writes what there is room for, at least one byte: how many. -EAGAIN: there is none; -EPIPE: nobody reads it. O(bytes).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_write(
    simulator: *mut becket_simulator,
    fd: c_int,
    buffer: *const c_void,
    length: usize,
) -> i64 {
    if buffer.is_null() && length > 0 {
        return count(Err(Error::INVALID));
    }
    let buffer = if length == 0 { NonNull::dangling().as_ptr() } else { buffer.cast::<u8>() };
    // SAFETY: the caller gives a buffer of that length.
    let buffer = unsafe { core::slice::from_raw_parts(buffer, length.min(isize::MAX as usize)) };
    // SAFETY: as said above.
    count(unsafe { at(simulator) }.and_then(|it| it.write(fd, buffer)))
}

/// No more is written to a connection: the other end reads what is there, then its end. -ENOTCONN; -EINVAL: it is no
/// connection. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_shutdown(simulator: *mut becket_simulator, fd: c_int) -> c_int {
    // SAFETY: as said above.
    done(unsafe { at(simulator) }.and_then(|it| it.shutdown(fd)))
}

/// Breaks a connection off at a point in time, as the network does: both ends get ECONNRESET, and what is unread is lost. 0:
/// now. -EINVAL: it is no connection; -ENOSPC: there is no room for another event. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_reset(simulator: *mut becket_simulator, fd: c_int, at_ns: u64) -> c_int {
    // SAFETY: as said above.
    done(unsafe { at(simulator) }.and_then(|it| match at_ns {
        0 => it.reset(fd),
        at_ns => it.reset_at(fd, Instant::from_nanos(at_ns)),
    }))
}

/// How much an end of a connection holds unread, from 1 to BECKET_SIM_STREAM_BYTES. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_set_room(simulator: *mut becket_simulator, fd: c_int, bytes: usize) -> c_int {
    // SAFETY: as said above.
    done(unsafe { at(simulator) }.and_then(|it| it.set_room(fd, bytes)))
}

/// What is wrong with a connection and was not told yet, as SO_ERROR: an errno value, or 0. -EINVAL: it is none. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_error(simulator: *mut becket_simulator, fd: c_int, error: *mut c_int) -> c_int {
    // SAFETY: as said above.
    unsafe { store(error, || Ok(at(simulator)?.take_error(fd)?.map_or(0, Error::errno))) }
}

/// Another descriptor of the same file. One that is closed while it is watched, and is not the last, goes on to be reported,
/// until the loop has noticed: as on epoll. O(descriptors).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_dup(simulator: *mut becket_simulator, fd: c_int) -> c_int {
    // SAFETY: as said above.
    answer(unsafe { at(simulator) }.and_then(|it| it.duplicate(fd)))
}

/// Closes a descriptor; the number is free for the next. After -EINTR and -ENOSPC too. becket_io_close() does this with the
/// source. O(1); O(files) for one that listens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_close(simulator: *mut becket_simulator, fd: c_int) -> c_int {
    // SAFETY: as said above.
    done(unsafe { at(simulator) }.and_then(|it| it.close(fd)))
}

/// How many descriptors are open: what a program has not closed at its end has leaked. O(descriptors).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_open_fds(simulator: *const becket_simulator) -> c_int {
    // SAFETY: as said above.
    answer(unsafe { at(simulator) }.and_then(Simulator::open_fds))
}

/// What a descriptor is ready for at this moment, whatever a wait would tell of it. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_ready(simulator: *const becket_simulator, fd: c_int, flags: *mut u32) -> c_int {
    // SAFETY: as said above.
    unsafe { store(flags, || Ok(at(simulator)?.ready(fd)?.bits().into())) }
}

/// A scripted descriptor is ready for this, and nothing else, from a point in time on; what lies in the past happens in the
/// next wait, and 0 is now. -EINVAL: it is of another sort, or no readiness of a descriptor; -ENOSPC: there is no room for
/// another event. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_sim_set_ready(
    simulator: *mut becket_simulator,
    fd: c_int,
    at_ns: u64,
    flags: u32,
) -> c_int {
    // SAFETY: as said above.
    done(unsafe { at(simulator) }.and_then(|it| match at_ns {
        0 => it.set_ready(fd, ready(flags)?),
        at_ns => it.ready_at(fd, Instant::from_nanos(at_ns), ready(flags)?),
    }))
}
