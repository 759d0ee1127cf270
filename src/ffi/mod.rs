//! The C ABI: the header `include/becket.h` is generated from these files (see build.rs), and documented here.
//!
//! Each function checks its arguments, converts them, makes one safe call and maps the error. Nothing else happens
//! here; a rule of the loop belongs to the engine. Names are C's, so that the header needs no renaming.
#![allow(unsafe_code, non_camel_case_types)]
// What a C caller has to keep is said in each function's own words: pointers are valid for what they are used for, or
// NULL, which is checked. A section "Safety" in every comment would land in the header and say no more than that.
#![allow(clippy::missing_safety_doc)]

pub mod constants;
pub mod hook;
pub mod io;
#[cfg(feature = "streams")]
pub mod listener;
pub mod memory;
#[cfg(feature = "operations")]
pub mod operation;
pub mod pool;
pub mod signal;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod source;
#[cfg(feature = "streams")]
pub mod stream;
#[cfg(feature = "operations")]
pub mod task;
pub mod timer;
pub mod turn;
pub mod types;
pub mod version;
pub mod wake;

use crate::engine::core::Core;
use crate::engine::{Engine, Taken};
use crate::error::{Error, Result};
use crate::handle::{Handle, Kinds};
use crate::storage::slot::Target;
use crate::time::Duration;
use core::ffi::{c_int, c_void};
use core::mem::offset_of;
use types::{becket_event, becket_handle, becket_handler, becket_loop};

/// The loop at an address, if it is this process's; or EINVAL, EBADF, ECHILD.
///
/// # Safety
/// Null, or an address where a loop is or was, in memory that is still readable.
#[inline(always)]
unsafe fn ours<'a>(at: *const becket_loop) -> Result<&'a Core> {
    // SAFETY: by this function's contract.
    match unsafe { find(at) } {
        (Some(core), _) => Ok(core),
        (None, error) => Err(error),
    }
}

/// The same as a pair, which comes back in registers. (The error is of no meaning beside a loop.)
///
/// # Safety
/// As for [`ours`].
#[inline(never)]
unsafe fn find<'a>(at: *const becket_loop) -> (Option<&'a Core>, Error) {
    // SAFETY: by this function's contract; a `becket_loop` is a `Core`.
    match unsafe { Core::from_ptr(at.cast()) }.and_then(|core| core.check_process().map(|()| core)) {
        Ok(core) => (Some(core), Error::INVALID),
        Err(error) => (None, error),
    }
}

/// One call of the engine.
///
/// # Safety
/// As for [`ours`].
unsafe fn with<R>(at: *const becket_loop, call: impl FnOnce(&mut Engine) -> Result<R>) -> Result<R> {
    // SAFETY: by this function's contract.
    unsafe { ours(at) }?.enter(call)
}

/// A look at the engine.
///
/// # Safety
/// As for [`ours`].
unsafe fn look<R>(at: *const becket_loop, call: impl FnOnce(&Engine) -> Result<R>) -> Result<R> {
    // SAFETY: by this function's contract.
    unsafe { ours(at) }?.look(call)
}

/// 0, a count, or a negative errno value.
fn answer<T: Into<i64>>(result: Result<T>) -> c_int {
    match result {
        // Counts of sources and events are below 2^25.
        Ok(count) => count.into() as c_int,
        Err(error) => -error.errno(),
    }
}

/// 0 or a negative errno value.
fn done(result: Result<()>) -> c_int {
    answer(result.map(|()| 0))
}

/// Stores a result where the caller wants it; after an error the place is as it was. EINVAL: there is none.
///
/// # Safety
/// `at` is null or valid to write to.
unsafe fn store<T>(at: *mut T, result: impl FnOnce() -> Result<T>) -> c_int {
    if at.is_null() {
        return -Error::INVALID.errno();
    }
    done(result().map(|value| {
        // SAFETY: by this function's contract, and it is not null.
        unsafe { at.write(value) }
    }))
}

/// Adds a source, by `add`, and stores its handle.
///
/// # Safety
/// As for [`ours`], and `handle` is null or valid to write to.
unsafe fn add(
    at: *const becket_loop,
    handler: becket_handler,
    user: *mut c_void,
    handle: *mut becket_handle,
    add: impl FnOnce(&mut Engine, Target) -> Result<Handle>,
) -> c_int {
    // SAFETY: by this function's contract.
    unsafe { store(handle, || with(at, |engine| add(engine, target(handler, user))).map(Handle::raw)) }
}

fn target(handler: becket_handler, user: *mut c_void) -> Target {
    Target { handler: handler.map_or(core::ptr::null(), |it| it as *const ()), user: user.cast() }
}

/// A timeout as C gives it: nanoseconds, or -1 for no end.
fn timeout(nanos: i64) -> Result<Duration> {
    match nanos {
        constants::BECKET_FOREVER => Ok(Duration::FOREVER),
        _ => u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| Error::INVALID),
    }
}

/// A mask of kinds as C gives it.
fn kinds(mask: u32) -> Result<Kinds> {
    Kinds::from_bits(mask).filter(|kinds| !kinds.is_empty()).ok_or(Error::INVALID)
}

/// The event that C sees is the beginning of the one that the engine hands out.
fn event_for_c(taken: &Taken) -> &becket_event {
    // SAFETY: the fields of a `becket_event` stand at the start of a `Taken`, in their order and of their sizes, as the
    // assertions below say.
    unsafe { &*core::ptr::from_ref(taken).cast() }
}

macro_rules! same_place {
    ($($c:ident $rust:ident),*) => {
        const _: () = {
            assert!(align_of::<becket_event>() == align_of::<Taken>());
            assert!(size_of::<becket_event>() <= size_of::<Taken>());
            $(assert!(offset_of!(becket_event, $c) == offset_of!(Taken, $rust));)*
        };
    };
}
same_place!(handle source, value value, user user, kind kind, flags flags, fd fd, level level, data data);

/// Calls the handler of an event that was taken out.
///
/// # Safety
/// `at` is a live loop whose handlers came in through this ABI.
unsafe fn call(at: *mut becket_loop, taken: &Taken) {
    // SAFETY: by this function's contract.
    unsafe { call_target(at, event_for_c(taken), Target { handler: taken.handler, user: taken.user }) }
}

/// # Safety
/// As for [`call`].
unsafe fn call_target(at: *mut becket_loop, event: &becket_event, target: Target) {
    // SAFETY: a null pointer is `None`, and every other was a `becket_handler` in `target`.
    let handler = unsafe { core::mem::transmute::<*const (), becket_handler>(target.handler) };
    if let Some(handler) = handler {
        // SAFETY: the program's own function, called as the header says.
        unsafe { handler(at, event, target.user.cast()) }
    }
}

/// A panic is a broken invariant of becket itself: there is nothing to unwind into.
#[cfg(any(becket_staticlib, cargo_c))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    crate::sys::abort()
}

// The precompiled `core` refers to this symbol, which nothing calls: the archive has nothing to unwind.
#[cfg(all(any(becket_staticlib, cargo_c), not(target_vendor = "apple")))]
core::arch::global_asm!(".weak rust_eh_personality", "rust_eh_personality:");
