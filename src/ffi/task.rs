//! Tasks: continuations as functions.
//!
//! A task is a client of the rest of the ABI: it calls the functions that a C program would call, and keeps all it has in
//! the caller's struct.

use super::constants::{
    BECKET_DEADLINE, BECKET_KIND_CHILD, BECKET_KIND_IO, BECKET_KIND_OPERATION, BECKET_KIND_STREAM, BECKET_NEVER,
    BECKET_ONESHOT, BECKET_STREAM_CLOSED, BECKET_TIMEOUT, BECKET_TRIGGERED,
};
use super::io::{becket_io_deadline, becket_io_modify};
use super::operation::{becket_op_cancel, becket_op_deadline};
use super::source::{becket_kind, becket_remove, becket_set_handler, becket_trigger};
use super::types::{becket_event, becket_handle, becket_loop};
use super::{answer, ours};
use crate::error::Error;
use core::ffi::{c_int, c_void};
use core::ptr;

// ---- Tasks ----
//
// A task is a function that stops where it awaits something, and goes on there when that has happened: a coroutine without
// a stack of its own, in C11. What would have been on the stack stands in the caller's struct.
//
//   struct copy {
//     becket_task task;
//     int file, socket;
//     char block[4096];
//   };
//
//   static void copy(becket_task *task) {
//     struct copy *self = (struct copy *)task;
//     BECKET_TASK_BEGIN(task);
//     for (;;) {
//       BECKET_AWAIT(becket_op_read(task->loop, self->file, self->block, sizeof self->block, BECKET_CURRENT, BECKET_AWAITING));
//       if (task->value <= 0) BECKET_TASK_RETURN(task->value);
//       …
//     }
//     BECKET_TASK_END;
//   }
//
// All of it belongs to the loop's thread. docs/continuations.md explains it.

/// A task, in the caller's memory, usually at the start of a struct with all that the task has to remember. Zeros before
/// its first start. It stays where it is until it has ended.
#[repr(C)]
pub struct becket_task {
    /// Its loop.
    pub event_loop: *mut becket_loop,
    /// What the last await gave; see BECKET_AWAIT.
    pub value: i64,
    /// What the task ended with.
    pub result: i64,
    /// What it awaits; written through BECKET_AWAITING.
    pub awaited: becket_handle,
    /// The flags of the event that ended the last await.
    pub flags: u32,
    /// The fd of that event.
    pub fd: i32,
    /// Its data: what a stream has received, or the request that is done. Valid until the next await.
    pub data: *mut c_void,
    /// becket's, as all below: the line to go on at.
    pub place: u32,
    /// What it is doing.
    pub state: u32,
    /// Its function.
    pub function: Option<unsafe extern "C" fn(task: *mut becket_task)>,
    /// What is called at its end.
    pub ended: Option<unsafe extern "C" fn(task: *mut becket_task)>,
    /// Who awaits it.
    pub waiter: *mut becket_task,
    /// Whom it awaits.
    pub joined: *mut becket_task,
}

/// The function of a task: BECKET_TASK_BEGIN(task) … BECKET_TASK_END. Also what is called once a task has ended.
pub type becket_task_function = Option<unsafe extern "C" fn(task: *mut becket_task)>;

/// Starts a task: it runs at once, up to its first await. ended, or NULL, is called once, when the task is over: it may free
/// the task, or start it anew. -EBUSY: it has not ended; -EINVAL: no task, or no function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_task_start(
    event_loop: *mut becket_loop,
    task: *mut becket_task,
    function: becket_task_function,
    ended: becket_task_function,
) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    if let Err(error) = unsafe { ours(event_loop) } {
        return -error.errno();
    }
    // SAFETY: a task, or NULL; nobody else uses it meanwhile.
    let Some(it) = (unsafe { task.as_mut() }) else { return -Error::INVALID.errno() };
    if function.is_none() {
        return -Error::INVALID.errno();
    }
    if it.has(ACTIVE) {
        return -Error::BUSY.errno();
    }
    *it = becket_task {
        event_loop,
        value: 0,
        result: 0,
        awaited: 0,
        flags: 0,
        fd: -1,
        data: ptr::null_mut(),
        place: 0,
        state: ACTIVE,
        function,
        ended,
        waiter: ptr::null_mut(),
        joined: ptr::null_mut(),
    };
    // SAFETY: it is a task that goes on.
    unsafe { run(task) };
    0
}

/// Whether a task was started and has not ended: 1 or 0. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_task_active(task: *const becket_task) -> c_int {
    // SAFETY: a task, or NULL.
    answer(unsafe { task.as_ref() }.ok_or(Error::INVALID).map(|task| u32::from(task.has(ACTIVE))))
}

/// Ends what a task awaits: it goes on with -ECANCELED, or with the result when it was too late; an awaited task is cancelled
/// in its place. One that does not await, because it runs now, finds it at its next await, which then begins nothing. A task
/// that awaits nothing but becket_task_wake() goes on before this returns. -ESRCH: it has ended, or never began.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_task_cancel(task: *mut becket_task) -> c_int {
    let mut task = task;
    loop {
        // SAFETY: a task, or NULL; no reference to it lasts beyond this pass.
        let Some(it) = (unsafe { task.as_mut() }) else { return -Error::INVALID.errno() };
        if !it.has(ACTIVE) {
            return -Error::NO_PROCESS.errno();
        }
        it.state |= CANCELLED;
        if it.has(RUNNING) {
            return 0;
        }
        if it.joined.is_null() {
            break;
        }
        // What it joins is cancelled, and its end is an ordinary one.
        it.state &= !CANCELLED;
        task = it.joined;
    }
    // SAFETY: as above.
    let it = unsafe { &mut *task };
    let (event_loop, awaited) = (it.event_loop, it.awaited);
    let asked = match awaited {
        0 => -Error::STALE.errno(),
        // SAFETY: the loop and the handle are checked there.
        _ if unsafe { becket_kind(event_loop, awaited) } == BECKET_KIND_OPERATION as c_int => unsafe {
            becket_op_cancel(event_loop, awaited)
        },
        // SAFETY: likewise.
        _ => unsafe { becket_trigger(event_loop, awaited, 0) },
    };
    if asked == -Error::STALE.errno() {
        // Nothing will come of itself.
        it.go_on(-i64::from(Error::CANCELED.errno()));
        // SAFETY: it is a task that goes on.
        unsafe { run(task) };
        return 0;
    }
    asked
}

/// Lets a task go on that awaits just this: BECKET_AWAIT(0). It runs before this returns. For what happens in the program's
/// own handlers. -EBUSY: it awaits something else, or runs; -ESRCH: it has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_task_wake(task: *mut becket_task, value: i64) -> c_int {
    // SAFETY: a task, or NULL.
    let Some(it) = (unsafe { task.as_mut() }) else { return -Error::INVALID.errno() };
    if !it.has(ACTIVE) {
        return -Error::NO_PROCESS.errno();
    }
    if it.has(RUNNING) || it.awaited != 0 || !it.joined.is_null() {
        return -Error::BUSY.errno();
    }
    it.go_on(value);
    // SAFETY: it is a task that goes on.
    unsafe { run(task) };
    0
}

/// For BECKET_AWAIT: awaits an I/O source that the program keeps, for BECKET_READABLE, BECKET_WRITABLE, BECKET_PRIORITY: the
/// source gets the task as its handler, and is paused again when it was ready. Errors as becket_io_modify().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_task_ready(task: *mut becket_task, source: becket_handle, interest: u32) -> c_int {
    // SAFETY: a task, or NULL.
    let Some(it) = (unsafe { task.as_mut() }) else { return -Error::INVALID.errno() };
    if interest == 0 {
        return -Error::INVALID.errno();
    }
    // SAFETY: the loop and the handle are checked there.
    let kind = unsafe { becket_kind(it.event_loop, source) };
    if kind != BECKET_KIND_IO as c_int {
        return if kind < 0 { kind } else { -Error::INVALID.errno() };
    }
    // SAFETY: likewise; the task stays where it is until it has ended.
    let modified = unsafe { becket_io_modify(it.event_loop, source, interest | BECKET_ONESHOT) };
    if modified == 0 {
        // SAFETY: likewise.
        unsafe { becket_set_handler(it.event_loop, source, Some(becket_task_resume), task.cast()) };
        it.awaited = source;
        it.state |= KEPT;
    }
    modified
}

/// For BECKET_AWAIT: awaits the next event of a stream, which gets the task as its handler. Between two awaits it tells nothing, and
/// nothing is lost; becket_set_handler() lets it tell again. The value is the event's; task->flags says what it tells
/// (BECKET_STREAM_DATA, ...), task->data is its data. -ETIMEDOUT: BECKET_TIMEOUT or BECKET_DEADLINE. Errors as
/// becket_set_handler(); -EINVAL: it is no stream; -ENOTSUP: streams are not built in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_task_event(task: *mut becket_task, stream: becket_handle) -> c_int {
    // SAFETY: a task, or NULL.
    let Some(it) = (unsafe { task.as_mut() }) else { return -Error::INVALID.errno() };
    if !cfg!(feature = "streams") {
        return -Error::UNSUPPORTED.errno();
    }
    // SAFETY: the loop and the handle are checked there.
    let kind = unsafe { becket_kind(it.event_loop, stream) };
    if kind != BECKET_KIND_STREAM as c_int {
        return if kind < 0 { kind } else { -Error::INVALID.errno() };
    }
    // SAFETY: likewise; the task stays where it is until it has ended.
    let set = unsafe { becket_set_handler(it.event_loop, stream, Some(becket_task_resume), task.cast()) };
    if set == 0 {
        it.awaited = stream;
        it.state |= KEPT;
    }
    set
}

/// The stream tells nothing until it is awaited again. (One that has ended is silent anyway.)
///
/// # Safety
/// As for `ours`.
unsafe fn hold(event_loop: *mut becket_loop, stream: becket_handle) {
    #[cfg(feature = "streams")]
    // SAFETY: by this function's contract.
    let _ =
        unsafe { super::with(event_loop, |engine| engine.hold_stream(crate::handle::Handle::from_raw(stream), true)) };
    let _ = (event_loop, stream);
}

/// The handler of what a task awaits; BECKET_AWAITING names it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_task_resume(
    event_loop: *mut becket_loop,
    event: *const becket_event,
    user: *mut c_void,
) {
    let task: *mut becket_task = user.cast();
    // SAFETY: an event, and the task that was given with this handler; or NULL.
    let (Some(it), Some(event)) = (unsafe { task.as_mut() }, unsafe { event.as_ref() }) else { return };
    if !it.has(SUSPENDED) || it.awaited != event.handle {
        return;
    }
    let of_fd = event.kind == BECKET_KIND_IO;
    let of_stream = event.kind == BECKET_KIND_STREAM;
    let ready = event.flags & !(BECKET_TRIGGERED | BECKET_TIMEOUT | BECKET_DEADLINE);
    // A child that still runs says EAGAIN, and one that has ended may say 0.
    let nothing = if event.kind == BECKET_KIND_CHILD { -i64::from(Error::AGAIN.errno()) } else { 0 };
    let cancelled = it.has(CANCELLED) && event.flags & BECKET_TRIGGERED != 0 && event.value == nothing;
    let value = if of_fd && ready != 0 {
        i64::from(ready)
    } else if of_stream && ready != 0 {
        event.value
    } else if cancelled {
        -i64::from(Error::CANCELED.errno())
    } else if (of_fd || of_stream) && event.flags & (BECKET_TIMEOUT | BECKET_DEADLINE) != 0 {
        -i64::from(Error::TIMED_OUT.errno())
    } else if of_fd {
        i64::from(event.flags)
    } else {
        event.value
    };
    (it.flags, it.fd, it.data) = (event.flags, event.fd, event.data);
    if of_stream && event.flags & BECKET_STREAM_CLOSED == 0 {
        // SAFETY: the loop and the handle are checked there.
        unsafe {
            hold(event_loop, event.handle);
            becket_io_deadline(event_loop, event.handle, BECKET_NEVER);
        }
    } else if of_stream {
        // It is gone already.
    } else if it.has(KEPT) {
        // SAFETY: the loop and the handle are checked there.
        unsafe {
            becket_io_modify(event_loop, event.handle, 0);
            becket_io_deadline(event_loop, event.handle, BECKET_NEVER);
        }
    } else if event.kind != BECKET_KIND_OPERATION {
        // SAFETY: likewise.
        unsafe { becket_remove(event_loop, event.handle) };
    }
    it.go_on(value);
    // SAFETY: it is a task that goes on.
    unsafe { run(task) };
}

/// A part of BECKET_AWAIT: whether the task may await anything now, and is not to end the await with -ECANCELED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_task_may_await(task: *mut becket_task) -> c_int {
    // SAFETY: a task, or NULL.
    let Some(it) = (unsafe { task.as_mut() }) else { return 0 };
    it.awaited = 0;
    it.state &= !KEPT;
    if it.has(CANCELLED) {
        it.go_on(-i64::from(Error::CANCELED.errno()));
        return 0;
    }
    1
}

/// A part of BECKET_AWAIT: whether the function has to be left, after a call that said begun.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_task_await(task: *mut becket_task, begun: c_int, within_ns: u64) -> c_int {
    // SAFETY: a task, or NULL.
    let Some(it) = (unsafe { task.as_mut() }) else { return 0 };
    if begun < 0 {
        it.go_on(begun.into());
        return 0;
    }
    it.state |= SUSPENDED;
    if within_ns != BECKET_NEVER {
        // SAFETY: the loop and the handle are checked there.
        let limited = match unsafe { becket_kind(it.event_loop, it.awaited) } {
            // SAFETY: likewise.
            kind if kind == BECKET_KIND_OPERATION as c_int => unsafe {
                becket_op_deadline(it.event_loop, it.awaited, within_ns)
            },
            // SAFETY: likewise.
            kind if kind == BECKET_KIND_IO as c_int || kind == BECKET_KIND_STREAM as c_int => unsafe {
                becket_io_deadline(it.event_loop, it.awaited, within_ns)
            },
            kind if kind < 0 => kind,
            _ => -Error::UNSUPPORTED.errno(),
        };
        if limited < 0 {
            if it.awaited != 0 && !it.has(KEPT) {
                // SAFETY: likewise.
                unsafe { becket_remove(it.event_loop, it.awaited) };
            }
            it.go_on(limited.into());
            return 0;
        }
    }
    1
}

/// A part of BECKET_AWAIT_TASK: whether the function has to be left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_task_join(task: *mut becket_task, other: *mut becket_task) -> c_int {
    let mut end = other;
    // SAFETY: tasks, or NULL; no reference lasts beyond its statement.
    while let Some(it) = unsafe { end.as_ref() } {
        if end == task {
            // SAFETY: likewise.
            unsafe { (*task).go_on(-i64::from(Error::DEADLOCK.errno())) };
            return 0;
        }
        end = it.joined;
    }
    // SAFETY: two tasks, or NULL.
    let (Some(it), Some(other)) = (unsafe { task.as_mut() }, unsafe { other.as_mut() }) else {
        // SAFETY: likewise.
        if let Some(it) = unsafe { task.as_mut() } {
            it.go_on(-i64::from(Error::INVALID.errno()));
        }
        return 0;
    };
    if !other.has(ACTIVE) {
        it.go_on(other.result);
        return 0;
    }
    if !other.waiter.is_null() {
        it.go_on(-i64::from(Error::BUSY.errno()));
        return 0;
    }
    other.waiter = task;
    it.joined = other;
    it.state |= SUSPENDED;
    1
}

/// A part of BECKET_TASK_BEGIN: there is no such place in the function. Ends the task with -ENOTRECOVERABLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_task_lost(task: *mut becket_task) {
    // SAFETY: a task, or NULL.
    if let Some(it) = unsafe { task.as_mut() } {
        it.result = -i64::from(Error::NOT_RECOVERABLE.errno());
    }
}

const ACTIVE: u32 = 1;
/// Its function is being called.
const RUNNING: u32 = 2;
/// Its function was left in an await.
const SUSPENDED: u32 = 4;
const CANCELLED: u32 = 8;
/// The source that it awaits is the program's.
const KEPT: u32 = 16;

impl becket_task {
    fn has(&self, bit: u32) -> bool {
        self.state & bit != 0
    }

    /// An await is over.
    fn go_on(&mut self, value: i64) {
        self.state &= !(SUSPENDED | CANCELLED | KEPT);
        self.awaited = 0;
        self.value = value;
    }
}

/// Calls the function of a task, and of those that its end lets go on, one after the other: none on the stack of another.
///
/// # Safety
/// A task that was started and does not run; nobody holds a reference to it.
unsafe fn run(task: *mut becket_task) {
    let mut task = task;
    loop {
        // SAFETY: by this function's contract; the task is in its place until it has ended.
        let function = unsafe {
            (*task).state |= RUNNING;
            (*task).function
        };
        if let Some(function) = function {
            // SAFETY: the program's own function, called as the header says.
            unsafe { function(task) };
        }
        // SAFETY: as above.
        let it = unsafe { &mut *task };
        it.state &= !RUNNING;
        if it.has(SUSPENDED) {
            return;
        }
        let (waiter, ended, result) = (it.waiter, it.ended, it.result);
        it.state = 0;
        it.waiter = ptr::null_mut();
        // SAFETY: a task that awaits has not ended, so it is in its place.
        if let Some(waiter) = unsafe { waiter.as_mut() } {
            waiter.joined = ptr::null_mut();
            waiter.go_on(result);
            waiter.state |= RUNNING;
        }
        if let Some(ended) = ended {
            // SAFETY: the program's own function; nothing here touches the task after it.
            unsafe { ended(task) };
        }
        if waiter.is_null() {
            return;
        }
        task = waiter;
    }
}
