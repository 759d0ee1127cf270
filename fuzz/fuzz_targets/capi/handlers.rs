//! The program's handlers: one does nothing, one goes on with the input.

use crate::world::World;
use crate::{c, calls, guard, tasks};
use becket::ffi::task::becket_task_resume;
use becket::ffi::types::{becket_event, becket_handler, becket_loop};
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// By number, as the program remembers them.
pub const HANDLERS: [becket_handler; 6] =
    [Some(quiet), Some(busy), None, Some(watchdog), Some(task), Some(becket_task_resume)];
const QUIET: usize = 0;
const BUSY: usize = 1;
/// Not for the input to choose.
pub const WATCHDOG: usize = 3;
/// Of what a task has added, and of a source that it only uses.
pub const TASK: usize = 4;
pub const RESUME: usize = 5;

static WORLD: AtomicPtr<World<'static>> = AtomicPtr::new(null_mut());

/// From here on handlers may be called, until [`leave`].
pub fn enter(world: &World<'_>) {
    WORLD.store(std::ptr::from_ref(world).cast_mut().cast(), Ordering::Relaxed);
}

pub fn leave() {
    WORLD.store(null_mut(), Ordering::Relaxed);
}

unsafe extern "C" fn quiet(at: *mut becket_loop, event: *const becket_event, user: *mut c_void) {
    called(QUIET, at, event, user);
}

unsafe extern "C" fn busy(at: *mut becket_loop, event: *const becket_event, user: *mut c_void) {
    called(BUSY, at, event, user);
}

unsafe extern "C" fn watchdog(at: *mut becket_loop, event: *const becket_event, user: *mut c_void) {
    called(WATCHDOG, at, event, user);
}

unsafe extern "C" fn task(at: *mut becket_loop, event: *const becket_event, user: *mut c_void) {
    called(TASK, at, event, user);
}

/// What the program knows.
pub fn world() -> &'static World<'static> {
    // SAFETY: between `enter` and `leave` it is there; it is only ever shared.
    unsafe { WORLD.load(Ordering::Relaxed).as_ref() }.expect("called by a call of the program")
}

fn called(number: usize, at: *mut becket_loop, event: *const becket_event, user: *mut c_void) {
    let world = world();
    // SAFETY: becket gives a valid event.
    let seen = *unsafe { event.as_ref() }.expect("a handler gets an event");
    let arena = world.arena_of(at);
    let source = if event == world.dispatched.get() {
        let ended = || arena.ended.borrow().get(&seen.handle).copied();
        arena.source(seen.handle).or_else(ended).expect("the handler of a live source, or of what has just ended")
    } else {
        arena.event_came(world, &seen)
    };
    assert_eq!((source.handler, source.user), (number, user as usize));
    world.trace(|| format!("handler {number} of {:#x}, kind {}, flags {:#x}", seen.handle, seen.kind, seen.flags));

    world.depth.set(world.depth.get() + 1);
    arena.handling.set(arena.handling.get() + 1);
    match number {
        BUSY => {
            for _ in 0..world.input.byte() % 8 {
                if !world.input.is_over() {
                    calls::one(world);
                }
            }
        }
        WATCHDOG => guard::on_turn(arena),
        TASK => {
            c!(becket_task_resume(at, event, user));
            tasks::forget_awaited(world);
        }
        _ => {}
    }
    guard::keep_all(world);
    arena.handling.set(arena.handling.get() - 1);
    world.depth.set(world.depth.get() - 1);
}
