//! Memory: the descriptor, making and closing a loop in it.

use super::constants::{
    BECKET_BACKEND_AUTO, BECKET_BACKEND_EPOLL, BECKET_BACKEND_IO_URING, BECKET_BACKEND_POLL, BECKET_BACKEND_SELECT,
    BECKET_BACKEND_SIMULATOR, BECKET_NO_PIDFD, BECKET_RETURN_EINTR, BECKET_VIRTUAL_CLOCK,
};
#[cfg(feature = "operations")]
use super::constants::{
    BECKET_FILES_AIO, BECKET_FILES_AIO_SIGNAL, BECKET_FILES_AUTO, BECKET_FILES_IO_URING, BECKET_FILES_NONE,
};
use super::types::{becket_config, becket_loop};
use super::{done, store};
#[cfg(feature = "operations")]
use crate::aio::AioMemory;
#[cfg(feature = "simulator")]
use crate::backend::SimulatorRef;
use crate::backend::{BackendChoice, Given};
use crate::engine::Config;
use crate::engine::core::Core;
use crate::error::{Error, Result};
#[cfg(feature = "operations")]
use crate::ops::FilesChoice;
use crate::ring::{self, RingMemory};
use crate::storage::{Block, layout};
#[cfg(feature = "streams")]
use crate::streams::StreamsMemory;
use crate::time::Duration;
use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

// ---- Memory ----
//
// A loop lives in one block of memory and never asks for more:
//
//   4096 bytes + 80 a source + 24 a post + 128 an operation
//
// Rings of io_uring, POSIX AIO and streams have memory of their own, in the configuration.
//
// BECKET_MEMORY declares a block of a size that is known when the program is compiled, and its descriptor. A program
// that learns its capacities at run time fills a descriptor for memory of its own. The block need not be zeroed, and
// only the pages that are used are touched, so a static one may be huge. It stays valid until becket_loop_close().

/// Describes a block of memory, so that size and capacities cannot be mismatched.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct becket_memory {
    /// sizeof(becket_memory).
    pub size: usize,
    /// The block, aligned to 8 bytes.
    pub block: *mut c_void,
    /// Bytes: at least becket_memory_size() of the three capacities.
    pub block_size: usize,
    /// The most sources at once: up to BECKET_SOURCES_MAX.
    pub sources: u32,
    /// The most posted values on their way at once: with the sources below 2^24.
    pub posts: u32,
    /// The most operations in flight at once.
    pub operations: u32,
}

/// Bytes of the rings for so many entries: what BECKET_RING_SIZE says, or 0 when there can be no such rings. Any thread.
/// O(1).
#[unsafe(no_mangle)]
pub extern "C" fn becket_ring_size(entries: u32) -> usize {
    ring::bytes(entries).unwrap_or(0)
}

/// Bytes that a loop of these capacities needs: what BECKET_MEMORY_SIZE says, or 0 when there can be no such loop.
/// Any thread. O(1).
#[unsafe(no_mangle)]
pub extern "C" fn becket_memory_size(sources: u32, posts: u32, operations: u32) -> usize {
    layout::bytes(sources as usize, posts as usize, operations as usize).unwrap_or(0)
}

// ---- Making a loop ----
//
// Every function returns 0 or a positive count, or a negative errno value. Those that are named with a function come
// besides these:
//
//   -EINVAL  NULL, or an argument that is out of its range or of the wrong kind
//   -EBADF   the loop is closed
//   -ESTALE  the handle names no source any more
//   -ECHILD  the loop was made by another process, of which this one is a forked child
//
// After an error nothing has changed, and outputs are untouched.

/// Makes a loop in a block of memory. config may be NULL: the default. The descriptor is not needed any more after
/// this. In a forked child, making a loop anew in the memory of an inherited one closes the child's copies of its
/// descriptors and leaves the parent's loop alone.
///
/// -ENOBUFS: a block is too small, or there is none for POSIX AIO; -EINVAL: misaligned, or a bad descriptor or configuration; -EBUSY: a live loop is
/// in it, or an inherited one that is calling a handler; -ENOTSUP: the backend, or operations, are not built in; -EMFILE,
/// -ENFILE, -ENOMEM: the system has no descriptor for waking, or for the backend; -ENOSYS, -EPERM, …: what it says of a backend
/// that was asked for by name; -EBUSY, -ECHILD also: see BECKET_FILES_AIO. Reads the fd index, else O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_loop_init(
    event_loop: *mut *mut becket_loop,
    memory: *const becket_memory,
    config: *const becket_config,
) -> c_int {
    // SAFETY: the caller gives valid pointers, or NULL, which is checked.
    unsafe { store(event_loop, || init(memory, config)) }
}

/// # Safety
/// Both are null or readable, and the block is the caller's, for as long as the loop lives.
unsafe fn init(memory: *const becket_memory, config: *const becket_config) -> Result<*mut becket_loop> {
    // SAFETY: by this function's contract. The size comes first, and tells whether the rest may be read.
    let memory = unsafe { sized(memory) }?.ok_or(Error::INVALID)?;
    // SAFETY: likewise.
    let (config, given) = match unsafe { sized(config) }? {
        // SAFETY: likewise.
        Some(config) => (convert(&config)?, unsafe { given(&config) }?),
        None => (Config::DEFAULT, Given::default()),
    };
    let block = Block {
        start: NonNull::new(memory.block.cast()).ok_or(Error::INVALID)?,
        bytes: memory.block_size,
        sources: memory.sources as usize,
        posts: memory.posts as usize,
        operations: memory.operations as usize,
    };
    // SAFETY: by this function's contract.
    Ok(unsafe { Core::init(&block, &config, given, false) }?.as_ptr().cast())
}

/// What a configuration has for one backend or another.
///
/// # Safety
/// Its pointers are null or readable, and the blocks that they lead to are the loop's.
unsafe fn given(config: &becket_config) -> Result<Given> {
    // SAFETY: by this function's contract.
    let ring = match unsafe { sized(config.ring) }? {
        // (Without io_uring nobody looks at it.)
        Some(given) if cfg!(io_uring) => Some(RingMemory::new(
            NonNull::new(given.block.cast()).ok_or(Error::INVALID)?,
            given.block_size,
            given.entries,
        )?),
        _ => None,
    };
    #[cfg(feature = "simulator")]
    let simulator = match config.simulator.is_null() {
        true => None,
        // SAFETY: likewise.
        false => Some(unsafe { SimulatorRef::from_ptr(config.simulator.cast()) }?),
    };
    #[cfg(not(feature = "simulator"))]
    let simulator = None;
    #[cfg(feature = "operations")]
    // SAFETY: likewise.
    let aio = match unsafe { sized(config.aio) }? {
        // (Without AIO nobody looks at it.)
        Some(given) if cfg!(posix_aio) => {
            let start = NonNull::new(given.block.cast()).ok_or(Error::INVALID)?;
            // SAFETY: the block is the loop's, by this function's contract.
            Some(unsafe { AioMemory::new(start, given.block_size, given.count) }?)
        }
        _ => None,
    };
    #[cfg(feature = "streams")]
    // SAFETY: likewise.
    let streams = match unsafe { sized(config.streams) }? {
        Some(given) => {
            let start = NonNull::new(given.block.cast()).ok_or(Error::INVALID)?;
            let (streams, buffers) = (given.streams, given.buffers);
            // SAFETY: the block is the loop's, by this function's contract.
            Some(unsafe { StreamsMemory::new(start, given.block_size, streams, buffers, given.buffer_size) }?)
        }
        None => None,
    };
    Ok(Given {
        ring,
        #[cfg(feature = "operations")]
        aio,
        #[cfg(feature = "streams")]
        streams,
        simulator,
    })
}

/// A struct that begins with its own size. EINVAL: it is of another size than ours. `None`: there is none.
///
/// # Safety
/// Null, or readable for a `usize`, and for a `T` when that says so.
pub(super) unsafe fn sized<T: Copy>(at: *const T) -> Result<Option<T>> {
    if at.is_null() {
        return Ok(None);
    }
    // SAFETY: by this function's contract; C may have aligned it to less than Rust would.
    if unsafe { at.cast::<usize>().read_unaligned() } != size_of::<T>() {
        return Err(Error::INVALID);
    }
    // SAFETY: likewise.
    Ok(Some(unsafe { at.read_unaligned() }))
}

fn convert(config: &becket_config) -> Result<Config> {
    let backend = match config.backend {
        BECKET_BACKEND_AUTO => BackendChoice::Auto,
        BECKET_BACKEND_SELECT => BackendChoice::Select,
        BECKET_BACKEND_POLL => BackendChoice::Poll,
        BECKET_BACKEND_EPOLL => BackendChoice::Epoll,
        BECKET_BACKEND_IO_URING => BackendChoice::IoUring,
        BECKET_BACKEND_SIMULATOR => BackendChoice::Simulator,
        _ => return Err(Error::INVALID),
    };
    #[cfg(feature = "operations")]
    let files = match config.files {
        BECKET_FILES_AUTO => FilesChoice::Auto,
        BECKET_FILES_IO_URING => FilesChoice::IoUring,
        BECKET_FILES_AIO => FilesChoice::Aio,
        BECKET_FILES_AIO_SIGNAL => FilesChoice::AioSignal,
        BECKET_FILES_NONE => FilesChoice::None,
        _ => return Err(Error::INVALID),
    };
    let known = BECKET_VIRTUAL_CLOCK | BECKET_RETURN_EINTR | BECKET_NO_PIDFD;
    if config.flags & !known != 0 {
        return Err(Error::INVALID);
    }
    Ok(Config {
        backend,
        budget: config.budget,
        virtual_clock: config.flags & BECKET_VIRTUAL_CLOCK != 0,
        return_interrupted: config.flags & BECKET_RETURN_EINTR != 0,
        busy_poll: Duration::from_nanos(config.busy_poll_ns),
        without_pidfd: config.flags & BECKET_NO_PIDFD != 0,
        #[cfg(feature = "operations")]
        files,
        #[cfg(feature = "operations")]
        aio_signal: config.aio_signal,
    })
}

/// Ends a loop: removes all sources, restores dispositions of signals, closes the loop's own descriptors, those of streams
/// too (what they have queued is not sent, and has no event), and none of the program's. Then the memory is the caller's again, once no other thread is in becket_wake() or becket_stop() any
/// more. In a forked child it gives up the child's copies alone. -EBUSY: called in a handler, or another thread waits, or
/// operations are in flight: becket_loop_drain() ends them.
/// O(sources).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_loop_close(event_loop: *mut becket_loop) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { Core::from_ptr(event_loop.cast()) }.and_then(|core| core.close(false)))
}
