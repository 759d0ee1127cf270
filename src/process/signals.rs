//! Signals as events: a table for the whole process, since dispositions are the process's.
//!
//! A handler in signal context does four things, all async-signal-safe: it counts, sets a bit in the loop's shared
//! region, and wakes the loop if that sleeps; and it does nothing in a forked child, whose loop is its parent's.
//! Everything else happens in `collect`. One loop per signal: a second is EBUSY. The disposition that was there
//! before is put back when the last use ends.
#![allow(unsafe_code)]

use super::shared::Shared;
use crate::atomic::{self, AtomicI32, AtomicPtr, AtomicU32, Ordering};
use crate::error::{Error, Result};
use crate::sys;
use crate::sys::signal::{Disposition, HANDLERS, LIMIT};
use core::cell::UnsafeCell;
use core::ptr;

/// No loop has the signal. (No process has such a number, nor the next.)
const FREE: i32 = 0;
/// A loop takes the signal or gives it up.
const CHANGING: i32 = -1;

struct Entry {
    /// The process of the loop that has this signal, [`FREE`] or [`CHANGING`]. Who changes it to `CHANGING` may change the
    /// rest. What a fork inherits, another process's, is free to be taken.
    process: AtomicI32,
    /// The loop that receives this signal.
    owner: AtomicPtr<Shared>,
    /// How often the signal came and was not delivered.
    count: AtomicU32,
    /// The source's slot plus one; 0: the loop uses the signal for itself.
    source: AtomicU32,
    /// How many uses: at most the source's, and the loop's own of SIGCHLD.
    uses: AtomicU32,
    old: UnsafeCell<Disposition>,
}

// SAFETY: `old` is written and read only between taking and giving up the signal, by the thread that does so.
unsafe impl Sync for Entry {}

atomic::table! {
    static TABLE: [Entry; LIMIT] = Entry {
        process: AtomicI32::new(FREE),
        owner: AtomicPtr::new(ptr::null_mut()),
        count: AtomicU32::new(0),
        source: AtomicU32::new(0),
        uses: AtomicU32::new(0),
        old: UnsafeCell::new(Disposition::new()),
    }
}

/// In signal context.
extern "C" fn on_signal(signal: i32) {
    HANDLERS.fetch_add(1, Ordering::SeqCst);
    if let Some(entry) = TABLE.get(signal as usize)
        && sys::process::is(entry.process.load(Ordering::SeqCst))
    {
        let owner = entry.owner.load(Ordering::Relaxed);
        // SAFETY: an owner's memory stays valid until it has given the signal up, which says so in `process` first and
        // then waits for the handlers that may not have seen that.
        if let Some(owner) = unsafe { owner.as_ref() } {
            entry.count.fetch_add(1, Ordering::Relaxed);
            owner.signals.fetch_or(1 << (signal - 1), Ordering::SeqCst);
            owner.notify();
        }
    }
    HANDLERS.fetch_sub(1, Ordering::SeqCst);
}

fn entry(signal: i32) -> Result<&'static Entry> {
    // 64 signals, one bit each.
    if signal < 1 || signal as usize >= LIMIT { Err(Error::INVALID) } else { Ok(&TABLE[signal as usize]) }
}

/// Lets a loop receive a signal, for a source (its slot plus one) or (0) for itself.
///
/// EINVAL: no such signal, or one that cannot be caught; EBUSY: another loop has it; EEXIST: this loop has a source
/// for it. O(1), one system call.
pub(crate) fn acquire(signal: i32, shared: &Shared, source: u32) -> Result<()> {
    let entry = entry(signal)?;
    let this = ptr::from_ref(shared).cast_mut();
    let process = entry.process.load(Ordering::Relaxed);
    let inherited = process != CHANGING && !sys::process::is(process);
    let fresh = process == FREE || inherited;
    if fresh {
        // One of two loops that try at once is first.
        let taken = entry.process.compare_exchange(process, CHANGING, Ordering::Acquire, Ordering::Relaxed);
        taken.map_err(|_| Error::BUSY)?;
        entry.uses.store(0, Ordering::Relaxed);
        entry.source.store(0, Ordering::Relaxed);
    } else if process == CHANGING || entry.owner.load(Ordering::Relaxed) != this {
        return Err(Error::BUSY);
    } else if source != 0 && entry.source.load(Ordering::Relaxed) != 0 {
        return Err(Error::EXISTS);
    }
    // Everything is in place before the first signal can come.
    if source != 0 {
        entry.count.store(0, Ordering::Relaxed);
        entry.source.store(source, Ordering::Relaxed);
    }
    if fresh {
        entry.owner.store(this, Ordering::Relaxed);
        entry.process.store(shared.process(), Ordering::Release);
        let mut old = Disposition::new();
        if let Err(error) = sys::signal::install(signal, on_signal, &mut old) {
            entry.owner.store(ptr::null_mut(), Ordering::Relaxed);
            entry.process.store(FREE, Ordering::Release);
            return Err(error);
        }
        // In a forked child the handler may be the parent's loop's still: then what was before that stays known.
        if !old.is(on_signal) {
            // SAFETY: this thread has just taken the entry.
            unsafe { *entry.old.get() = old };
        }
    }
    entry.uses.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Ends one use that [`acquire`] began. The last one puts the old disposition back.
pub(crate) fn release(signal: i32, shared: &Shared, source: bool) {
    let Ok(entry) = entry(signal) else { return };
    if !ptr::eq(entry.owner.load(Ordering::Relaxed), shared) {
        return;
    }
    if source {
        entry.source.store(0, Ordering::Relaxed);
    }
    if entry.uses.fetch_sub(1, Ordering::Relaxed) == 1 {
        give_up(signal, entry, shared);
    }
}

/// The signal that is asked for, or (0) the highest real-time one that nobody uses. EBUSY: a loop has it, or all are in use;
/// EINVAL: there is none of this number, or it cannot be caught. O(signals), a few system calls.
#[cfg(posix_aio)]
pub(crate) fn choose(signal: i32) -> Result<i32> {
    let has_loop = |entry: &Entry| {
        let process = entry.process.load(Ordering::Relaxed);
        process == CHANGING || process != FREE && sys::process::is(process)
    };
    if signal != 0 {
        let taken = has_loop(entry(signal)?);
        sys::signal::is_default(signal)?;
        return if taken { Err(Error::BUSY) } else { Ok(signal) };
    }
    let is_free = |signal: &i32| {
        entry(*signal).is_ok_and(|entry| !has_loop(entry)) && sys::signal::is_default(*signal) == Ok(true)
    };
    sys::signal::real_time().rev().find(is_free).ok_or(Error::BUSY)
}

/// Ends the loop's own use of a signal that others send for it: what is pending of it goes, and ends no process for which it
/// has no meaning any more. `awaited`: more of them may come, and are ignored from now on.
#[cfg(posix_aio)]
pub(crate) fn release_silenced(signal: i32, shared: &Shared, awaited: bool) {
    let Ok(entry) = entry(signal) else { return };
    if ptr::eq(entry.owner.load(Ordering::Relaxed), shared) {
        sys::signal::ignore(signal);
        // SAFETY: the entry is this loop's, and this its thread.
        let old = unsafe { &mut *entry.old.get() };
        if awaited && old.is_default() {
            *old = Disposition::ignored();
        }
        release(signal, shared, false);
    }
}

/// Ends all uses of one loop, in the process that made it or in a forked child.
pub(crate) fn release_all(shared: &Shared) {
    for (signal, entry) in TABLE.iter().enumerate() {
        if ptr::eq(entry.owner.load(Ordering::Relaxed), shared) {
            give_up(signal as i32, entry, shared);
        }
    }
}

fn give_up(signal: i32, entry: &Entry, shared: &Shared) {
    let changing = entry.process.compare_exchange(shared.process(), CHANGING, Ordering::SeqCst, Ordering::Relaxed);
    if changing.is_err() {
        return; // in a forked child another loop has just taken what was the parent's
    }
    // SAFETY: the entry is this thread's until it is free.
    sys::signal::restore(signal, unsafe { &*entry.old.get() });
    entry.owner.store(ptr::null_mut(), Ordering::Relaxed);
    // A handler of this thread has ended before this code went on; those of other threads end by themselves. In a
    // forked child there are none, and the counter may be what it was in the parent's other threads.
    while shared.is_ours() && HANDLERS.load(Ordering::SeqCst) != 0 {
        sys::pause();
    }
    entry.process.store(FREE, Ordering::Release);
}

/// The slot of the source for a signal, if this loop has one.
pub(crate) fn source_of(signal: i32, shared: &Shared) -> Option<u32> {
    let entry = entry(signal).ok()?;
    if !ptr::eq(entry.owner.load(Ordering::Relaxed), shared) {
        return None;
    }
    entry.source.load(Ordering::Relaxed).checked_sub(1)
}

/// How often the signal came since the last call.
pub(crate) fn take_count(signal: i32) -> u32 {
    entry(signal).map_or(0, |entry| entry.count.swap(0, Ordering::Relaxed))
}
