//! Running a loop.

use super::memory::sized;
use super::types::{becket_event, becket_loop, becket_statistics, becket_watch};
use super::{answer, call, call_target, done, event_for_c, kinds, look, ours, timeout, with};
use crate::engine::Taken;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::storage::slot::Target;
use crate::time::Duration;
use core::ffi::{c_char, c_int};
use core::ptr;

// ---- Running ----

/// Turns until becket_stop() (returns 1), or until nothing is left that keeps the loop alive (returns 0): an I/O
/// source with an interest or a deadline, an armed timer, a signal, a child, a wake, a hook that is idle and on, each
/// unless becket_set_keepalive() says otherwise, or an event on its way.
///
/// -EBUSY: called in a handler; -EPERM: the loop is another thread's; -EINTR: with BECKET_RETURN_EINTR; and what
/// select(2) or poll(2) says of the whole wait, such as -ENOMEM. A turn is O(sources) on select and poll, and O(log n)
/// an event at most.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_run(event_loop: *mut becket_loop) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked; its handlers came in through this ABI.
    let stopped =
        unsafe { ours(event_loop) }.and_then(|core| core.run(&mut |taken: &Taken| unsafe { call(event_loop, taken) }));
    answer(stopped)
}

/// Makes becket_run() return after the handler that runs now; what is queued stays queued. Without a run it is kept for
/// the next one, unless becket_turn() or becket_poll() comes first, whose wait it ends. Any thread, signal handlers. O(1),
/// a system call only while the loop sleeps.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_stop(event_loop: *mut becket_loop) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { ours(event_loop) }.and_then(|core| core.shared.stop()))
}

/// One turn: waits for at most timeout_ns (BECKET_FOREVER: without end) and calls the handlers of what happened; how
/// many events it had, which may be 0 before the time is over: when it merely moved an idle timeout on. Legal in a
/// handler. -EPERM, -EINTR, …: as becket_run().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_turn(event_loop: *mut becket_loop, timeout_ns: i64) -> c_int {
    answer(timeout(timeout_ns).and_then(|timeout| {
        // SAFETY: the caller gives a loop, or NULL, which is checked; its handlers came in through this ABI.
        unsafe { ours(event_loop) }?.turn(timeout, &mut |taken: &Taken| unsafe { call(event_loop, taken) })
    }))
}

// ---- The pull form ----
//
// The program takes the events itself, and keeps control:
//
//   becket_poll(loop, BECKET_FOREVER);
//   while (becket_next(loop, BECKET_KIND_ALL, &event) > 0) becket_dispatch(loop, &event);
//
// Legal in a handler as well: it drains the same queue. becket_poll() is three phases in one, for programs that sleep
// elsewhere, or that release a lock around becket_wait():
//
//   while (becket_prepare(loop, timeout_ns) > 0) … take the before-wait events with becket_next() …
//   becket_wait(loop);
//   becket_collect(loop);
//
// A foreign loop calls becket_prepare(), sleeps for at most becket_timeout() on what becket_watches() names, then
// becket_prepare(loop, 0), becket_wait() and becket_collect(). What changes the loop between becket_prepare() and
// becket_collect(), in another thread or this one, ends the sleep.

/// Waits for at most timeout_ns and queues what happened; how many events are queued. Before-wait events, and then their
/// number, come back early, before the wait. It does not sleep while events are queued, of whatever kind. -EPERM, -EINTR,
/// …: as becket_run().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_poll(event_loop: *mut becket_loop, timeout_ns: i64) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(timeout(timeout_ns).and_then(|timeout| unsafe { ours(event_loop) }?.poll(timeout)))
}

/// Takes out the next event of the kinds in a mask: 1, and the event; 0 when there is none, or when this turn's budget
/// is used up. Deferred events come when no other that was asked for is left; idle ones when this turn had nothing
/// else. O(1) for BECKET_KIND_ALL, beside the streams before it that send and have nothing to tell; O(events before it) when a
/// mask selects.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_next(event_loop: *mut becket_loop, kind_mask: u32, event: *mut becket_event) -> c_int {
    if event.is_null() {
        return -Error::INVALID.errno();
    }
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    let next = kinds(kind_mask).and_then(|kinds| unsafe { ours(event_loop) }?.next(kinds));
    answer(next.map(|taken| match taken {
        Some(taken) => {
            // SAFETY: valid to write to, and not NULL.
            unsafe { event.write(*event_for_c(&taken)) };
            1
        }
        None => 0,
    }))
}

/// The handler that runs has done as much work as so many events more: what is left of the budget (becket_config) is the less by them,
/// and what is beyond it comes in the next turn, after another look at timers and readiness. Deferred events still end this one. Each
/// wait begins a budget anew, so what is spent before it is forgotten. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_spend(event_loop: *mut becket_loop, events: u32) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe {
        with(event_loop, |engine| {
            engine.spend(events);
            Ok(())
        })
    })
}

/// Calls the handler that an event's source has now. -ESTALE: the source was removed since; nothing is called. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_dispatch(event_loop: *mut becket_loop, event: *const becket_event) -> c_int {
    // SAFETY: valid to read, or NULL.
    let Some(event) = (unsafe { event.as_ref() }) else { return -Error::INVALID.errno() };
    // SAFETY: the caller gives a loop, or NULL, which is checked; its handlers came in through this ABI.
    let target = unsafe { with(event_loop, |engine| target_of(engine, event)) };
    done(target.and_then(|target| {
        // SAFETY: as above.
        unsafe { ours(event_loop)?.handling(|| call_target(event_loop, event, target)) }
    }))
}

/// Whose handler it is for. The last event of a stream is for the handler that it had.
fn target_of(engine: &crate::engine::Engine, event: &becket_event) -> Result<Target> {
    let source = Handle::from_raw(event.handle);
    #[cfg(feature = "streams")]
    if event.kind == super::constants::BECKET_KIND_STREAM && event.flags & super::constants::BECKET_STREAM_CLOSED != 0 {
        return engine.target_of_closed(source);
    }
    engine.target_of_event(source)
}

/// Phase 1. How many before-wait events were queued: take them, and call this again; 0: the wait is prepared.
/// -EPERM: the loop is another thread's. O(sources) on select and poll.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_prepare(event_loop: *mut becket_loop, timeout_ns: i64) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(timeout(timeout_ns).and_then(|timeout| unsafe { ours(event_loop) }?.prepare(timeout)))
}

/// How long the wait that was prepared will be at most, in ns; BECKET_FOREVER: without end. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_timeout(event_loop: *const becket_loop) -> i64 {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    match unsafe { ours(event_loop) }.and_then(crate::engine::core::Core::timeout) {
        Ok(Duration::FOREVER) => super::constants::BECKET_FOREVER,
        Ok(timeout) => i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX),
        Err(error) => -i64::from(error.errno()),
    }
}

/// Phase 2, the only call that blocks. Other threads may change the loop meanwhile, one at a time, under the program's
/// own lock. Without a preparation it does nothing. -EPERM: the loop is another thread's; -EINTR and the like, as
/// becket_run(): becket_collect() is due all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_wait(event_loop: *mut becket_loop) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { ours(event_loop) }.and_then(crate::engine::core::Core::wait))
}

/// Phase 3: queues what happened; how many events are queued. O(what happened), and O(sources) on select and poll.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_collect(event_loop: *mut becket_loop) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(unsafe { ours(event_loop) }.and_then(crate::engine::core::Core::collect))
}

/// An fd that is readable, after becket_prepare(), when there is something to collect: epoll's. -ENOTSUP: the other backends have
/// none that tells of everything; see becket_watches(). The number stays the same for as long as the loop lives. Behind it there
/// is another file when the program has closed an fd before its source was removed, and a copy of that fd was open elsewhere (the
/// set is built anew): a foreign loop on epoll has to be given the number again then. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_fd(event_loop: *const becket_loop) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(unsafe { look(event_loop, crate::engine::Engine::backend_fd) })
}

/// What a foreign loop has to watch while it sleeps: how many fds that are (at most two more than there are I/O sources,
/// children and operations; on epoll becket_fd() alone), the first count of them written. watches may be NULL when count is 0. To a foreign
/// loop that is not edge-triggered an fd that is goes on being ready until it is drained. O(sources).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_watches(
    event_loop: *const becket_loop,
    watches: *mut becket_watch,
    count: usize,
) -> c_int {
    if watches.is_null() && count > 0 {
        return -Error::INVALID.errno();
    }
    let all = |engine: &crate::engine::Engine| {
        let mut total = 0;
        engine.each_watch(|fd, interest| {
            if total < count {
                // SAFETY: the caller's array has `count` places.
                unsafe { watches.add(total).write(becket_watch { fd, interest: interest.bits().into() }) };
            }
            total += 1;
        });
        Ok(total as u32)
    };
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(unsafe { look(event_loop, all) })
}

// ---- Asking the loop ----

/// The time of this turn in ns, of CLOCK_MONOTONIC; 0 after an error. O(1), no clock reading.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_now(event_loop: *const becket_loop) -> u64 {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    unsafe { look(event_loop, |engine| Ok(engine.now().as_nanos())) }.unwrap_or(0)
}

/// Moves virtual time on. -ENOTSUP: the loop's time is real. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_clock_advance(event_loop: *mut becket_loop, span_ns: u64) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.advance(Duration::from_nanos(span_ns))) })
}

/// The name of the backend, such as "poll"; NULL after an error. Static. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_backend_name(event_loop: *const becket_loop) -> *const c_char {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    unsafe { look(event_loop, |engine| Ok(engine.backend_name().as_ptr())) }.unwrap_or(ptr::null())
}

/// Why it is this backend, "" where it was asked for by name; NULL after an error. Static. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_backend_note(event_loop: *const becket_loop) -> *const c_char {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    unsafe { look(event_loop, |engine| Ok(engine.backend_note().as_ptr())) }.unwrap_or(ptr::null())
}

/// What the loop has counted. statistics->size is set by the caller. O(1), one clock reading.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_loop_statistics(
    event_loop: *const becket_loop,
    statistics: *mut becket_statistics,
) -> c_int {
    // SAFETY: valid for reading and writing, or NULL; the size in it is checked first.
    match unsafe { sized(statistics) } {
        Ok(Some(_)) => {}
        _ => return -Error::INVALID.errno(),
    }
    // SAFETY: as above, and the caller gives a loop, or NULL, which is checked.
    unsafe { super::store(statistics, || look(event_loop, |engine| Ok(becket_statistics::new(&engine.statistics())))) }
}
