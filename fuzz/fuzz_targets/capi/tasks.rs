//! Tasks: a function that awaits one thing after the other, as the input says, by the calls that the macros of the header
//! are made of.

use crate::c;
use crate::calls;
use crate::handlers::{self, HANDLERS, RESUME, TASK};
use crate::world::{Source, World};
use becket::ffi::constants::*;
use becket::ffi::source::{becket_kind, becket_set_handler};
use becket::ffi::task::*;
use becket::ffi::timer::becket_timer_add;
use becket::ffi::wake::becket_wake_add;
use std::cell::UnsafeCell;
use std::ptr::null_mut;

/// Memory for some tasks.
pub struct Tasks([Box<UnsafeCell<becket_task>>; 3]);

impl Tasks {
    pub fn new() -> Tasks {
        // SAFETY: all zeros is a task that never began.
        Tasks([(); 3].map(|()| Box::new(UnsafeCell::new(unsafe { std::mem::zeroed() }))))
    }

    /// A task whose loop is live. What belonged to a loop that was closed has to be zeros again, with all who await it.
    fn pick(&self, world: &World<'_>) -> *mut becket_task {
        for task in &self.0 {
            // SAFETY: nobody else looks at it meanwhile.
            let of = unsafe { (*task.get()).event_loop };
            if !of.is_null() && !world.arenas.iter().any(|arena| arena.live.get() && arena.at.get() == of) {
                for task in &self.0 {
                    // SAFETY: likewise; zeros are a task that never began.
                    unsafe { task.get().write_bytes(0, 1) };
                }
            }
        }
        self.any(world)
    }

    fn any(&self, world: &World<'_>) -> *mut becket_task {
        match world.input.byte() {
            0xff => null_mut(),
            byte => self.0[usize::from(byte) % self.0.len()].get(),
        }
    }
}

type Call = fn(&World<'_>);

pub const CALLS: &[Call] = &[start, start, start, active, cancel, wake, wake];

/// becket removes what a task has awaited.
pub fn forget_awaited(world: &World<'_>) {
    for arena in world.arenas.iter().filter(|arena| arena.live.get()) {
        let mut awaited: Vec<_> = arena.sources.borrow().iter().map(|(handle, source)| (*handle, *source)).collect();
        awaited.retain(|(_, source)| source.handler == TASK && source.kind != BECKET_KIND_OPERATION);
        for (handle, _) in awaited {
            if c!(becket_kind(arena.at.get(), handle)) == -libc::ESTALE {
                arena.forget(handle);
            }
        }
    }
}

fn start(world: &World<'_>) {
    let task = world.tasks.pick(world);
    let on = world.pick_loop();
    let function: becket_task_function = if world.input.rarely(32) { None } else { Some(body) };
    let ended: becket_task_function = if world.input.rarely(2) { Some(at_its_end) } else { None };
    let was_active = c!(becket_task_active(task)) == 1;
    let answer = c!(becket_task_start(on.at, task, function, ended));
    calls::judge(world, "task_start", on, None, answer.into());
    if on.arena.is_some() {
        let right = if task.is_null() || function.is_none() {
            -libc::EINVAL
        } else if was_active {
            -libc::EBUSY
        } else {
            0
        };
        assert_eq!(answer, right);
    }
    forget_awaited(world);
}

fn active(world: &World<'_>) {
    let task = world.tasks.pick(world);
    let answer = c!(becket_task_active(task));
    assert!(if task.is_null() { answer == -libc::EINVAL } else { answer == 0 || answer == 1 });
    let none = null_mut();
    assert_eq!((c!(becket_task_may_await(none)), c!(becket_task_await(none, 0, 1))), (0, 0));
    assert_eq!(c!(becket_task_join(none, task)), 0);
}

fn cancel(world: &World<'_>) {
    let task = world.tasks.pick(world);
    let was_active = c!(becket_task_active(task)) == 1;
    let answer = c!(becket_task_cancel(task));
    world.trace(|| format!("task_cancel({task:p}) = {answer}"));
    assert!(answer <= 0 && (answer == 0 || !was_active || answer == -libc::ESRCH || answer == -libc::EINVAL));
    assert!(was_active || answer == -libc::ESRCH || answer == -libc::EINVAL && task.is_null());
    forget_awaited(world);
}

fn wake(world: &World<'_>) {
    let task = world.tasks.pick(world);
    let was_active = c!(becket_task_active(task)) == 1;
    let answer = c!(becket_task_wake(task, world.input.number().cast_signed()));
    world.trace(|| format!("task_wake({task:p}) = {answer}"));
    assert!(was_active && (answer == 0 || answer == -libc::EBUSY) || [-libc::ESRCH, -libc::EINVAL].contains(&answer));
    forget_awaited(world);
}

/// A task: goes on, each time it is called, to the next await, or to its end.
unsafe extern "C" fn body(task: *mut becket_task) {
    let world = handlers::world();
    // SAFETY: a task that was started.
    let at = unsafe { (*task).event_loop };
    let arena = world.arena_of(at);
    for _ in 0..4 {
        if world.input.is_over() {
            break;
        }
        let action = world.input.byte() % 8;
        world.trace(|| format!("task {task:p}: {action}"));
        if action < 2 {
            if action == 1 {
                c!(becket_task_lost(task));
            }
            break;
        }
        if c!(becket_task_may_await(task)) == 0 {
            continue;
        }
        let mut added = 0;
        let (handler, user) = (HANDLERS[TASK], task.cast());
        let (kind, begun) = match action {
            2 => (0, 0),
            3 | 4 => {
                let (delay, period) = (world.input.number(), world.input.number());
                (BECKET_KIND_TIMER, c!(becket_timer_add(at, delay, period, handler, user, &raw mut added)))
            }
            5 => (BECKET_KIND_WAKE, c!(becket_wake_add(at, handler, user, &raw mut added))),
            6 if world.input.rarely(2) => {
                let stream = world.pick_handle(world.pick_loop());
                let begun = c!(becket_task_event(task, stream));
                if begun == 0 {
                    // (By a handler that looks at the events first.)
                    assert_eq!(c!(becket_set_handler(at, stream, handler, user)), 0);
                    let kept = arena.source(stream).expect("a live stream");
                    let kept = Source { handler: TASK, user: task as usize, ..kept };
                    arena.sources.borrow_mut().insert(stream, kept);
                }
                (0, begun)
            }
            6 => {
                let source = world.pick_handle(world.pick_loop());
                let begun = c!(becket_task_ready(task, source, world.input.flags(&[BECKET_READABLE, BECKET_WRITABLE])));
                if begun == 0 {
                    let kept = arena.source(source).expect("a live source");
                    let kept = Source { handler: RESUME, user: task as usize, ..kept };
                    arena.sources.borrow_mut().insert(source, kept);
                }
                (0, begun)
            }
            _ => {
                let other = world.tasks.any(world);
                if c!(becket_task_join(task, other)) == 1 {
                    return;
                }
                continue;
            }
        };
        if added != 0 {
            let source = Source { kind, fd: -1, handler: TASK, user: task as usize };
            arena.sources.borrow_mut().insert(added, source);
            // SAFETY: the task is where it was.
            unsafe { (*task).awaited = added };
        }
        let within = if world.input.rarely(4) { world.input.number() } else { BECKET_NEVER };
        let suspended = c!(becket_task_await(task, begun, within)) == 1;
        forget_awaited(world);
        if suspended {
            return;
        }
    }
    // SAFETY: it has not ended yet.
    unsafe { (*task).result = 7 };
}

/// Some begin again at once.
unsafe extern "C" fn at_its_end(task: *mut becket_task) {
    let world = handlers::world();
    assert_eq!(c!(becket_task_active(task)), 0);
    if !world.input.is_over() && world.input.rarely(2) {
        // SAFETY: it has ended, and is where it was.
        let at = unsafe { (*task).event_loop };
        assert_eq!(c!(becket_task_start(at, task, Some(body), None)), 0);
    }
}
