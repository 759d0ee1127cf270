//! Keeps each wait from being a real one.
//!
//! A stop ends a wait that would come, or is under way; one that the program takes away again, in a handler, is renewed when
//! the handler ends. A run has a source of its own besides, delivered before each wait, which sees to it that there is
//! something to do, or virtual time to pass, and ends the run after some turns.

use crate::c;
use crate::handlers;
use crate::world::{Arena, Source, World};
use becket::ffi::constants::*;
use becket::ffi::hook::{becket_before_add, becket_hook_enabled};
use becket::ffi::source::{becket_remove, becket_set_keepalive, becket_trigger};
use becket::ffi::timer::{becket_timer_add, becket_timer_deadline};
use becket::ffi::turn::{becket_now, becket_run, becket_stop};
use becket::ffi::types::becket_handle;

#[derive(Clone, Copy)]
pub enum Guard {
    None,
    /// One wait, for at most so long.
    Wait(i64),
    Run {
        hook: becket_handle,
        timer: becket_handle,
        turns: u32,
    },
}

/// Turns of one run.
const TURNS: u32 = 12;
const SECOND: u64 = 1_000_000_000;

fn deadline(arena: &Arena, timer: becket_handle) -> u64 {
    let mut deadline = BECKET_NEVER;
    c!(becket_timer_deadline(arena.at.get(), timer, &raw mut deadline));
    deadline
}

/// Whether a wait for at most so long could be a real sleep.
fn may_sleep(arena: &Arena, timeout: i64) -> bool {
    // (In a simulator every wait is over at once.)
    if timeout == 0 || timeout < BECKET_FOREVER || arena.simulated.get() {
        return false;
    }
    if !arena.virtual_clock.get() {
        return true;
    }
    match u64::try_from(timeout) {
        Ok(timeout) => c!(becket_now(arena.at.get())).checked_add(timeout).is_none_or(|end| end == BECKET_NEVER),
        // Without end: but for a timer, whose deadline time can jump to.
        Err(_) => {
            let sources = arena.sources.borrow();
            let mut timers = sources.iter().filter(|(_, source)| source.kind == BECKET_KIND_TIMER);
            !timers.any(|(timer, _)| deadline(arena, *timer) != BECKET_NEVER)
        }
    }
}

/// Sees to it that the next wait does not sleep.
pub fn keep(arena: &Arena) {
    let at = arena.at.get();
    match arena.guard.get() {
        Guard::None => {}
        Guard::Wait(timeout) => {
            if may_sleep(arena, timeout) {
                assert_eq!(c!(becket_stop(at)), 0);
            }
        }
        Guard::Run { hook, timer, .. } => {
            let hooked = c!(becket_hook_enabled(at, hook)) == 1 && arena.source(hook).is_some_and(is_mine);
            if !hooked {
                assert_eq!(c!(becket_stop(at)), 0);
            } else if !arena.virtual_clock.get() || arena.prepared.get() || deadline(arena, timer) == BECKET_NEVER {
                assert_eq!(c!(becket_trigger(at, hook, 0)), 0);
            }
        }
    }
}

fn is_mine(source: Source) -> bool {
    source.handler == handlers::WATCHDOG
}

pub fn keep_all(world: &World<'_>) {
    world.arenas.iter().filter(|arena| arena.live.get()).for_each(keep);
}

/// A call that waits for at most so long.
pub fn wait<T>(arena: &Arena, timeout: i64, call: impl FnOnce() -> T) -> T {
    let outer = arena.guard.replace(Guard::Wait(timeout));
    keep(arena);
    let answer = call();
    arena.guard.set(outer);
    answer
}

/// A run of some turns.
pub fn run(arena: &Arena) -> i32 {
    let at = arena.at.get();
    let (mut hook, mut timer) = (0, 0);
    let user = std::ptr::null_mut();
    let handler = handlers::HANDLERS[handlers::WATCHDOG];
    if c!(becket_before_add(at, handler, user, &raw mut hook)) < 0 {
        assert_eq!(c!(becket_stop(at)), 0);
        return c!(becket_run(at));
    }
    let mine = |kind| Source { kind, fd: -1, handler: handlers::WATCHDOG, user: 0 };
    arena.sources.borrow_mut().insert(hook, mine(BECKET_KIND_BEFORE));
    if arena.virtual_clock.get() && c!(becket_timer_add(at, SECOND, SECOND, handler, user, &raw mut timer)) == 0 {
        arena.sources.borrow_mut().insert(timer, mine(BECKET_KIND_TIMER));
        assert_eq!(c!(becket_set_keepalive(at, timer, 0)), 0);
    }
    let outer = arena.guard.replace(Guard::Run { hook, timer, turns: TURNS });
    keep(arena);
    let answer = c!(becket_run(at));
    arena.guard.set(outer);
    for source in [hook, timer].into_iter().filter(|source| arena.source(*source).is_some()) {
        assert_eq!(c!(becket_remove(at, source)), 0);
        arena.forget(source);
    }
    answer
}

/// The watchdog's handler.
pub fn on_turn(arena: &Arena) {
    if let Guard::Run { hook, timer, turns } = arena.guard.get() {
        if turns == 0 {
            assert_eq!(c!(becket_stop(arena.at.get())), 0);
        } else {
            arena.guard.set(Guard::Run { hook, timer, turns: turns - 1 });
        }
    }
}
