//! One call each: its arguments from the input, and what its answer has to be.

use crate::aio;
use crate::c;
use crate::guard;
use crate::handlers::HANDLERS;
use crate::listeners;
use crate::operations;
use crate::simulation;
use crate::streams;
use crate::tasks;
use crate::world::{Arena, Block, On, Source, World};
use becket::ffi::constants::*;
use becket::ffi::hook::*;
use becket::ffi::io::*;
use becket::ffi::memory::*;
use becket::ffi::operation::becket_files_name;
use becket::ffi::signal::*;
use becket::ffi::source::*;
use becket::ffi::timer::*;
use becket::ffi::turn::*;
use becket::ffi::types::{
    becket_config, becket_event, becket_handle, becket_handler, becket_loop, becket_ring, becket_statistics,
    becket_watch,
};
use becket::ffi::version::*;
use becket::ffi::wake::*;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};

/// What an output holds before a call, and after an error.
pub const MARK: u64 = 0xa5a5_a5a5_a5a5_a5a5;
/// The fd of what makes one itself.
pub const ANY_FD: i32 = -2;
/// Handlers inside of handlers.
pub const DEPTH: u32 = 4;

const INTEREST: [u32; 4] = [BECKET_READABLE, BECKET_WRITABLE, BECKET_PRIORITY, BECKET_ONESHOT];
const OPTIONS: [u32; 8] = [
    BECKET_READABLE,
    BECKET_WRITABLE,
    BECKET_PRIORITY,
    BECKET_ONESHOT,
    BECKET_TRUSTED,
    BECKET_EDGE,
    BECKET_EXCLUSIVE,
    BECKET_HANGUP,
];
const READINESS: [u32; 8] = [
    BECKET_READABLE,
    BECKET_WRITABLE,
    BECKET_PRIORITY,
    BECKET_ERROR,
    BECKET_HANGUP,
    BECKET_PEER_CLOSED,
    BECKET_TIMEOUT,
    BECKET_TRIGGERED,
];

type Call = fn(&World<'_>);

/// Every function of the header. (A test of the project compares the two.) What is more often of use stands more often.
const CALLS: &[Call] = &[
    init,
    init,
    close,
    run,
    turn,
    turn,
    turn,
    poll,
    poll,
    next,
    next,
    dispatch,
    prepare,
    wait,
    collect,
    add_io,
    add_io,
    add_io,
    add_io,
    add_timer,
    add_timer,
    add_signal,
    add_child,
    add_plain,
    add_plain,
    watches,
    statistics,
    constants,
    find,
    remove,
    remove,
    |world| on_loop(world, "stop", |at| c!(becket_stop(at)).into()),
    |world| on_loop(world, "timeout", |at| c!(becket_timeout(at))),
    |world| on_loop(world, "fd", |at| c!(becket_fd(at)).into()),
    |world| on_loop(world, "spend", |at| c!(becket_spend(at, world.input.pick(&[0, 1, 3, u32::MAX]))).into()),
    |world| on_loop(world, "clock_advance", |at| c!(becket_clock_advance(at, world.input.number())).into()),
    now,
    |world| backend(world, |at| c!(becket_backend_name(at))),
    |world| backend(world, |at| c!(becket_backend_note(at))),
    |world| on_source(world, "trigger", |at, it| c!(becket_trigger(at, it, world.input.flags(&READINESS)))),
    |world| on_source(world, "post", |at, it| c!(becket_post(at, it, world.input.number().cast_signed()))),
    |world| on_source(world, "set_level", |at, it| c!(becket_set_level(at, it, small(world, 5)))),
    |world| on_source(world, "level", |at, it| c!(becket_level(at, it))),
    |world| on_source(world, "set_keepalive", |at, it| c!(becket_set_keepalive(at, it, on_off(world)))),
    |world| on_source(world, "keepalive", |at, it| c!(becket_keepalive(at, it))),
    set_handler,
    user,
    kind,
    |world| on_source(world, "io_modify", |at, it| c!(becket_io_modify(at, it, world.input.flags(&INTEREST)))),
    |world| {
        on_source(world, "io_change", |at, it| {
            c!(becket_io_change(at, it, world.input.flags(&INTEREST), world.input.flags(&INTEREST)))
        });
    },
    |world| on_source(world, "io_timeout", |at, it| c!(becket_io_timeout(at, it, world.input.number()))),
    |world| on_source(world, "io_deadline", |at, it| c!(becket_io_deadline(at, it, world.input.number()))),
    |world| on_source(world, "io_deadline_at", |at, it| c!(becket_io_deadline_at(at, it, world.input.number()))),
    |world| number_of(world, "io_get_timeout", |at, it, out| c!(becket_io_get_timeout(at, it, out))),
    |world| number_of(world, "io_get_deadline", |at, it, out| c!(becket_io_get_deadline(at, it, out))),
    io_close,
    |world| own_fd(world, BECKET_KIND_IO | BECKET_KIND_STREAM, |at, it| c!(becket_io_fd(at, it))),
    |world| on_source(world, "io_interest", |at, it| c!(becket_io_interest(at, it))),
    |world| {
        on_source(world, "timer_arm", |at, it| {
            c!(becket_timer_arm(at, it, world.input.number(), world.input.number()))
        });
    },
    |world| {
        on_source(world, "timer_arm_at", |at, it| {
            c!(becket_timer_arm_at(at, it, world.input.number(), world.input.number()))
        });
    },
    |world| on_source(world, "timer_disarm", |at, it| c!(becket_timer_disarm(at, it))),
    |world| number_of(world, "timer_deadline", |at, it, out| c!(becket_timer_deadline(at, it, out))),
    |world| number_of(world, "timer_period", |at, it, out| c!(becket_timer_period(at, it, out))),
    |world| own_fd(world, BECKET_KIND_SIGNAL, |at, it| c!(becket_signal_number(at, it))),
    |world| own_fd(world, BECKET_KIND_CHILD, |at, it| c!(becket_child_pid(at, it))),
    |world| on_source(world, "wake", |at, it| c!(becket_wake(at, it))),
    |world| on_source(world, "defer", |at, it| c!(becket_defer(at, it))),
    |world| on_source(world, "hook_enable", |at, it| c!(becket_hook_enable(at, it, on_off(world)))),
    |world| on_source(world, "hook_enabled", |at, it| c!(becket_hook_enabled(at, it))),
    // The program's own doings.
    |world| world.system.open(&world.input, &world.operations),
    |world| world.system.open(&world.input, &world.operations),
    |world| world.system.open(&world.input, &world.operations),
    |world| world.system.close(&world.input, &world.operations),
    |world| world.system.write(&world.input),
    |world| world.system.write(&world.input),
    |world| world.system.read(&world.input),
    |world| world.system.shut_down(&world.input),
    |world| world.system.raise(&world.input),
    simulate,
    simulate,
    simulate,
    simulate,
    simulate,
    simulate,
    operate,
    operate,
    operate,
    operate,
    operate,
    operate,
    |world| listeners::CALLS[world.input.below(listeners::CALLS.len())](world),
    |world| listeners::CALLS[world.input.below(listeners::CALLS.len())](world),
    |world| tasks::CALLS[world.input.below(tasks::CALLS.len())](world),
    stream,
    stream,
    stream,
    stream,
    |world| tasks::CALLS[world.input.below(tasks::CALLS.len())](world),
];

/// The next call that the input asks for.
pub fn one(world: &World<'_>) {
    CALLS[world.input.below(CALLS.len())](world);
    world.check_counts();
}

fn operate(world: &World<'_>) {
    operations::CALLS[world.input.below(operations::CALLS.len())](world);
}

fn stream(world: &World<'_>) {
    streams::CALLS[world.input.below(streams::CALLS.len())](world);
}

fn simulate(world: &World<'_>) {
    simulation::CALLS[world.input.below(simulation::CALLS.len())](world);
}

/// An fd of the program's, or a simulator's.
pub fn pick_fd(world: &World<'_>) -> i32 {
    let simulated = world.arenas.iter().any(|arena| arena.live.get() && arena.simulated.get());
    if simulated && !world.input.rarely(4) { simulation::fd(world) } else { world.system.fd(&world.input) }
}

fn small(world: &World<'_>, count: u32) -> u32 {
    match u32::from(world.input.byte()) {
        0xff => u32::MAX,
        byte => byte % count,
    }
}

fn on_off(world: &World<'_>) -> i32 {
    i32::from(world.input.byte().cast_signed() % 3)
}

/// What an answer has to be, whatever the call.
pub fn judge(world: &World<'_>, name: &str, on: On<'_>, handle: Option<becket_handle>, answer: i64) {
    world.trace(|| format!("{name}({:p}, {:#x}) = {answer}", on.at, handle.unwrap_or(0)));
    assert!(answer > -4096, "{name}: {answer}");
    assert!(answer != -i64::from(libc::ECHILD) || name == "child_add", "{name}: this is the process");
    match (on.arena, handle) {
        (None, _) => {
            assert!(
                answer == -i64::from(libc::EBADF) || answer == -i64::from(libc::EINVAL),
                "{name}, no loop: {answer}"
            );
        }
        (Some(arena), Some(handle)) if arena.source(handle).is_none() => {
            assert!(
                answer == -i64::from(libc::ESTALE) || answer == -i64::from(libc::EINVAL),
                "{name}, stale: {answer}"
            );
        }
        // (A simulator may serve another loop.)
        (Some(arena), Some(handle)) => {
            // Nor is an operation that has completed cancelled.
            let kind = arena.source(handle).map(|source| source.kind);
            let odd = arena.simulated.get() || kind == Some(BECKET_KIND_OPERATION);
            assert!(answer != -i64::from(libc::ESTALE) || odd, "{name}: it is live");
        }
        _ => {}
    }
}

/// A call on a loop.
pub fn on_loop(world: &World<'_>, name: &str, call: impl FnOnce(*mut becket_loop) -> i64) {
    let on = world.pick_loop();
    let answer = call(on.at);
    judge(world, name, on, None, answer);
}

/// A call on a source. Its answer, and on what it was.
pub fn ask<'a>(
    world: &'a World<'_>,
    name: &str,
    call: impl FnOnce(*mut becket_loop, becket_handle) -> i32,
) -> (On<'a>, becket_handle, i32) {
    let on = world.pick_loop();
    let handle = world.pick_handle(on);
    let answer = call(on.at, handle);
    judge(world, name, on, Some(handle), answer.into());
    (on, handle, answer)
}

pub fn on_source(world: &World<'_>, name: &str, call: impl FnOnce(*mut becket_loop, becket_handle) -> i32) {
    ask(world, name, call);
}

/// A call on a source that writes a number.
pub fn number_of(world: &World<'_>, name: &str, call: impl FnOnce(*mut becket_loop, becket_handle, *mut u64) -> i32) {
    let mut out = MARK;
    let place = if world.input.rarely(32) { null_mut() } else { &raw mut out };
    let (_, _, answer) = ask(world, name, |at, handle| call(at, handle, place));
    assert!(answer <= 0 && (answer < 0 || !place.is_null()));
    assert_eq!(out == MARK, answer < 0, "{name}: {answer}");
}

/// A call that tells what events of a source name.
pub fn own_fd(world: &World<'_>, kind: u32, call: impl FnOnce(*mut becket_loop, becket_handle) -> i32) {
    let (on, handle, answer) = ask(world, "fd", call);
    match on.arena.and_then(|arena| arena.source(handle)) {
        Some(source) if source.kind & kind != 0 => assert_eq!(answer, source.fd),
        _ => assert!(answer < 0),
    }
}

fn user(world: &World<'_>) {
    let mut out = MARK as *mut c_void;
    let place = if world.input.rarely(32) { null_mut() } else { &raw mut out };
    let (on, handle, answer) = ask(world, "user", |at, handle| c!(becket_user(at, handle, place)));
    let user = if answer < 0 { MARK as usize } else { on.arena.unwrap().source(handle).unwrap().user };
    assert_eq!(out as usize, user);
}

fn kind(world: &World<'_>) {
    let (on, handle, answer) = ask(world, "kind", |at, handle| c!(becket_kind(at, handle)));
    let source = on.arena.and_then(|arena| arena.source(handle));
    assert!(source.map_or(answer < 0, |source| answer == source.kind.cast_signed()));
}

fn set_handler(world: &World<'_>) {
    let (mut handler, _) = pick_handler(world);
    let user = world.input.number() as usize;
    let (on, handle, answer) = ask(world, "set_handler", |at, handle| {
        let any = world.arenas.iter().all(|it| it.source(handle).is_none_or(|it| !is_to_be_seen(it.kind)));
        handler = if any { handler } else { handler.min(1) };
        c!(becket_set_handler(at, handle, HANDLERS[handler], user as *mut c_void))
    });
    if answer == 0 {
        let arena = on.arena.unwrap();
        let source = Source { handler, user, ..arena.source(handle).unwrap() };
        arena.sources.borrow_mut().insert(handle, source);
        guard::keep(arena);
    }
}

/// Whether events of this kind have to reach a handler: one that nobody sees may be an fd that nobody closes, or the last of
/// its source.
fn is_to_be_seen(kind: u32) -> bool {
    matches!(kind, BECKET_KIND_OPERATION | BECKET_KIND_LISTENER | BECKET_KIND_STREAM)
}

fn remove(world: &World<'_>) {
    let (on, handle, answer) = ask(world, "remove", |at, handle| c!(becket_remove(at, handle)));
    assert!(answer <= 0);
    if answer == 0 {
        let arena = on.arena.unwrap();
        listeners::removed(arena.source(handle).unwrap());
        arena.forget(handle);
    }
}

fn io_close(world: &World<'_>) {
    let on = world.pick_loop();
    let handle = world.pick_handle(on);
    // What an operation needs has to stay open.
    if on.arena.and_then(|arena| arena.source(handle)).is_some_and(|source| world.operations.need(source.fd)) {
        return;
    }
    let answer = c!(becket_io_close(on.at, handle));
    judge(world, "io_close", on, Some(handle), answer.into());
    let arena = on.arena.filter(|arena| arena.source(handle).is_some_and(|source| source.kind == BECKET_KIND_IO));
    match arena {
        // The source goes whatever close(2) says.
        Some(arena) => {
            let odd = arena.simulated.get() && answer == -libc::ENOSPC;
            assert!(answer == 0 || answer == -libc::EBADF || odd, "io_close: {answer}");
            arena.forget(handle);
        }
        None => assert!(answer < 0),
    }
}

fn pick_handler(world: &World<'_>) -> (usize, becket_handler) {
    let number = world.input.pick(&[1, 1, 1, 0, 2]);
    (number, HANDLERS[number])
}

/// Adds a source: of this kind, whose events name this fd.
pub fn add(
    world: &World<'_>,
    name: &str,
    kind: u32,
    fd: i32,
    call: impl FnOnce(*mut becket_loop, becket_handler, *mut c_void, *mut becket_handle) -> i32,
) {
    let on = world.pick_loop();
    let (mut handler, mut function) = pick_handler(world);
    if is_to_be_seen(kind) {
        handler = handler.min(1);
        function = HANDLERS[handler];
    }
    let user = usize::from(world.input.byte()) << 56 >> (world.input.byte() % 64);
    let mut out = MARK;
    let place = if world.input.rarely(64) { null_mut() } else { &raw mut out };
    let answer = call(on.at, function, user as *mut c_void, place);
    world.trace(|| format!("fd {fd}, handle {out:#x}"));
    judge(world, name, on, None, answer.into());
    if answer < 0 {
        assert_eq!(out, MARK);
        return;
    }
    let arena = on.arena.unwrap();
    let fd = if fd == ANY_FD { c!(becket_io_fd(on.at, out)) } else { fd };
    let before = arena.sources.borrow_mut().insert(out, Source { kind, fd, handler, user });
    assert!(answer == 0 && out != 0 && out != MARK && before.is_none());
    assert!(!arena.past.borrow().contains(&out), "a handle came back");
    assert!(arena.sources.borrow().len() - world.operations.of(arena) <= arena.sources_max.get() as usize);
}

fn add_io(world: &World<'_>) {
    let fd = pick_fd(world);
    let flags = world.input.flags(&OPTIONS);
    add(world, "io_add", BECKET_KIND_IO, fd, |at, handler, user, out| {
        c!(becket_io_add(at, fd, flags, handler, user, out))
    });
}

fn add_timer(world: &World<'_>) {
    let (delay, period) = (world.input.number(), world.input.number());
    add(world, "timer_add", BECKET_KIND_TIMER, -1, |at, handler, user, out| {
        c!(becket_timer_add(at, delay, period, handler, user, out))
    });
}

fn add_signal(world: &World<'_>) {
    let signal = world.system.signal(&world.input);
    add(world, "signal_add", BECKET_KIND_SIGNAL, signal, |at, handler, user, out| {
        c!(becket_signal_add(at, signal, handler, user, out))
    });
}

fn add_child(world: &World<'_>) {
    let child = world.system.pid(&world.input);
    add(world, "child_add", BECKET_KIND_CHILD, child, |at, handler, user, out| {
        c!(becket_child_add(at, child, handler, user, out))
    });
}

/// A source that is nothing but a handler.
fn add_plain(world: &World<'_>) {
    match world.input.below(5) {
        0 => add(world, "wake_add", BECKET_KIND_WAKE, -1, |at, handler, user, out| {
            c!(becket_wake_add(at, handler, user, out))
        }),
        1 => add(world, "deferred_add", BECKET_KIND_DEFERRED, -1, |at, handler, user, out| {
            c!(becket_deferred_add(at, handler, user, out))
        }),
        2 => add(world, "idle_add", BECKET_KIND_IDLE, -1, |at, handler, user, out| {
            c!(becket_idle_add(at, handler, user, out))
        }),
        3 => add(world, "before_add", BECKET_KIND_BEFORE, -1, |at, handler, user, out| {
            c!(becket_before_add(at, handler, user, out))
        }),
        _ => add(world, "after_add", BECKET_KIND_AFTER, -1, |at, handler, user, out| {
            c!(becket_after_add(at, handler, user, out))
        }),
    }
}

fn find(world: &World<'_>) {
    let on = world.pick_loop();
    let fd = pick_fd(world);
    let mut out = MARK;
    let place = if world.input.rarely(32) { null_mut() } else { &raw mut out };
    let answer = c!(becket_io_find(on.at, fd, place));
    judge(world, "io_find", on, None, answer.into());
    let Some(arena) = on.arena.filter(|_| !place.is_null()) else {
        return assert!(answer < 0 && out == MARK);
    };
    let sources = arena.sources.borrow();
    let with_fd = BECKET_KIND_IO | BECKET_KIND_STREAM | BECKET_KIND_LISTENER;
    let has = |source: &Source| source.kind & with_fd != 0 && source.fd == fd;
    match sources.iter().find(|(_, source)| has(source)) {
        Some((handle, _)) => assert_eq!((answer, out), (0, *handle)),
        None => assert_eq!((answer, out), (-libc::ENOENT, MARK)),
    }
}

/// A loop to begin with.
pub fn init_first(world: &World<'_>) {
    let arena = &world.arenas[0];
    let choice = world.input.byte();
    let backend = u32::from(choice % 7);
    let files =
        [BECKET_FILES_AUTO, BECKET_FILES_AIO, BECKET_FILES_AUTO, BECKET_FILES_AIO_SIGNAL][choice as usize / 7 % 4];
    let aio = aio::descriptor(arena);
    let streams = streams::descriptor(world, arena);
    let mut config = becket_config {
        size: size_of::<becket_config>(),
        backend: backend % 6,
        flags: if world.input.byte() & 1 == 0 { BECKET_VIRTUAL_CLOCK } else { 0 },
        budget: 0,
        busy_poll_ns: 0,
        ring: null(),
        simulator: null_mut(),
        files,
        aio_signal: 0,
        aio: &raw const aio,
        streams: &raw const streams,
    };
    if backend >= BECKET_BACKEND_SIMULATOR {
        simulation::first(world, &mut config);
    }
    let (sources, rest) = (u32::from(world.input.byte() % 24), world.input.byte());
    let (posts, operations) = (u32::from(rest % 8), u32::from(rest / 8 % 8));
    let bytes = becket_memory_size(sources, posts, operations);
    *arena.block.borrow_mut() = Some(Block::new(bytes, 16, 0));
    let start = arena.block.borrow().as_ref().map_or(null_mut(), |block| block.start);
    make(
        world,
        arena,
        start,
        bytes,
        &mut |memory, _| (memory.sources, memory.posts, memory.operations) = (sources, posts, operations),
        &config,
    );
}

/// Makes a loop in a block, and looks at the answer.
fn make(
    world: &World<'_>,
    arena: &Arena,
    start: *mut u8,
    bytes: usize,
    change: &mut dyn FnMut(&mut becket_memory, &mut *mut *mut becket_loop),
    config: *const becket_config,
) {
    let mark = MARK as *mut becket_loop;
    let mut out = mark;
    let mut place = &raw mut out;
    let mut memory = becket_memory {
        size: size_of::<becket_memory>(),
        block: start.cast(),
        block_size: bytes,
        sources: 0,
        posts: 0,
        operations: 0,
    };
    change(&mut memory, &mut place);
    aio::check(arena);
    let answer = c!(becket_loop_init(place, &raw const memory, config));
    let numbers = (memory.sources, memory.posts, memory.operations);
    world.trace(|| format!("loop_init({numbers:?} in {bytes} at {start:p}) = {answer}, {out:p}"));
    if answer < 0 {
        return assert_eq!(out, mark);
    }
    assert!(answer == 0 && !arena.live.get() && out.cast() == start);
    // SAFETY: null, or as large as this; becket has taken it for one.
    let config = unsafe { config.as_ref() };
    let simulated = config.is_some_and(|it| {
        it.backend == BECKET_BACKEND_SIMULATOR || it.backend == BECKET_BACKEND_AUTO && !it.simulator.is_null()
    });
    let virtual_clock = config.is_some_and(|it| it.flags & BECKET_VIRTUAL_CLOCK != 0);
    let files = config.map_or(BECKET_FILES_AUTO, |it| it.files);
    if files == BECKET_FILES_AIO_SIGNAL {
        world.system.signals_used.set(true);
    }
    if [BECKET_FILES_AIO, BECKET_FILES_AIO_SIGNAL].contains(&files) && memory.operations > 0 && !simulated {
        let name = if files == BECKET_FILES_AIO { c"aio" } else { c"aio-signal" };
        let text = c!(becket_files_name(out));
        // SAFETY: it is a C string, and static.
        assert_eq!(unsafe { CStr::from_ptr(text) }, name);
    }
    if simulated && world.arenas.iter().any(|other| other.live.get() && other.simulated.get()) {
        world.operations.unserved.set(true);
    }
    arena.at.set(out);
    arena.live.set(true);
    arena.prepared.set(false);
    arena.sources_max.set(memory.sources);
    arena.posts_max.set(memory.posts);
    arena.operations_max.set(memory.operations);
    arena.simulated.set(simulated);
    arena.virtual_clock.set(simulated || virtual_clock);
    // Only in the same memory are a closed loop's handles known to be stale.
    if arena.last.replace(out) != out {
        arena.past.borrow_mut().clear();
    }
}

fn init(world: &World<'_>) {
    let input = &world.input;
    let arena = &world.arenas[input.below(world.arenas.len())];
    let capacity = || match input.byte() {
        0xff => input.number() as u32,
        byte => u32::from(byte % 32),
    };
    let (sources, posts) = (capacity(), capacity());
    let operations = if input.rarely(32) { input.number() as u32 } else { u32::from(input.byte() % 8) };
    let needed = becket_memory_size(sources, posts, operations);

    // Where a loop lives no other can be tried but at the same address; and handles of a closed one are to be stale there.
    let used = arena.block.borrow().is_some();
    let offset = match arena.live.get() {
        true => {
            let block = arena.block.borrow();
            arena.at.get() as usize - block.as_ref().map_or(0, |block| block.start as usize)
        }
        false => input.pick(&[0, 0, 0, 0, 0, 0, 0, 8, 16, 1, 4]),
    };
    if !used || !arena.live.get() && input.rarely(2) {
        let bytes = match input.byte() % 16 {
            0 => needed.saturating_sub(1),
            1 => needed.saturating_add(8),
            2 => usize::from(input.byte()),
            _ => needed,
        };
        let bytes = if bytes > 1 << 16 { 4096 } else { bytes.max(BECKET_LOOP_BYTES as usize) };
        // The address of the loop that was there is forgotten with it.
        arena.at.set(null_mut());
        arena.last.set(null_mut());
        *arena.block.borrow_mut() = Some(Block::new(bytes + offset, 16, input.pick(&[0, 0xff, 0x5a])));
    }
    let (start, bytes) = {
        let block = arena.block.borrow();
        let block = block.as_ref().unwrap();
        (block.start.wrapping_add(offset), block.bytes() - offset)
    };

    let wrong = |size: usize| if input.rarely(32) { input.number() as usize } else { size };
    let ring_offset = input.pick(&[0, 0, 0, 0, 0, 0, 0, 8]);
    let ring = becket_ring {
        size: wrong(size_of::<becket_ring>()),
        block: if input.rarely(32) { null_mut() } else { arena.ring.start.wrapping_add(ring_offset).cast() },
        block_size: arena.ring.bytes() - ring_offset - input.pick(&[0, 0, 0, 1, 4096]),
        entries: if input.rarely(8) { input.number() as u32 } else { 8 << (input.byte() % 5) },
    };
    let streams = streams::descriptor(world, arena);
    let aio = aio::some_descriptor(world, arena);
    let config = becket_config {
        size: wrong(size_of::<becket_config>()),
        backend: small(world, 7),
        flags: input.flags(&[BECKET_VIRTUAL_CLOCK, BECKET_RETURN_EINTR, BECKET_NO_PIDFD]),
        budget: input.pick(&[0, 0, 1, 2, 8, u32::MAX]),
        busy_poll_ns: input.pick(&[0, 0, 1000, u64::MAX]),
        ring: if input.rarely(2) { null() } else { &raw const ring },
        simulator: if input.rarely(4) { simulation::for_loop(world) } else { null_mut() },
        files: if input.rarely(2) { small(world, 6) } else { BECKET_FILES_AUTO },
        aio_signal: if input.rarely(4) { aio::signal(&world.system, input) } else { 0 },
        aio: if input.rarely(16) { null() } else { &raw const aio },
        streams: if input.rarely(2) { null() } else { &raw const streams },
    };
    let config = if input.rarely(16) { null() } else { &raw const config };
    let mut change = |memory: &mut becket_memory, place: &mut *mut *mut becket_loop| {
        memory.size = wrong(memory.size);
        if input.rarely(32) {
            memory.block = null_mut();
        }
        (memory.sources, memory.posts, memory.operations) = (sources, posts, operations);
        if input.rarely(32) {
            *place = null_mut();
        }
    };
    make(world, arena, start, bytes, &mut change, config);
}

fn close(world: &World<'_>) {
    let on = world.pick_loop();
    let answer = c!(becket_loop_close(on.at));
    judge(world, "loop_close", on, None, answer.into());
    let Some(arena) = on.arena else { return };
    let busy = arena.handling.get() > 0 || world.operations.of(arena) > 0;
    assert_eq!(answer, if busy { -libc::EBUSY } else { 0 });
    if answer == 0 {
        arena.forget_all();
        arena.live.set(false);
        aio::closed(arena);
    }
}

fn pick_timeout(world: &World<'_>) -> i64 {
    match world.input.byte() % 8 {
        0..4 => 0,
        4 => BECKET_FOREVER,
        _ => world.input.number().cast_signed(),
    }
}

fn run(world: &World<'_>) {
    let on = world.pick_loop();
    if world.depth.get() >= DEPTH {
        return;
    }
    let answer = match on.arena {
        Some(arena) if arena.handling.get() == 0 => {
            let answer = guard::run(arena);
            assert!(answer == 0 || answer == 1 || may_fail(arena, answer), "run: {answer}");
            answer
        }
        _ => {
            let answer = c!(becket_run(on.at));
            assert!(on.arena.is_none() || answer == -libc::EBUSY);
            answer
        }
    };
    judge(world, "run", on, None, answer.into());
}

/// Whether a wait may say so.
fn may_fail(arena: &Arena, answer: i32) -> bool {
    answer == -libc::EINTR || arena.simulated.get() && simulation::is_wait_error(answer)
}

/// A call that waits.
fn waiting(world: &World<'_>, name: &str, timeout: i64, call: impl FnOnce(*mut becket_loop) -> i32) {
    let on = world.pick_loop();
    if world.depth.get() >= DEPTH {
        return;
    }
    world.trace(|| format!("{name}({:p}, {timeout}) …", on.at));
    let answer = match on.arena {
        Some(arena) => guard::wait(arena, timeout, || call(on.at)),
        None => call(on.at),
    };
    judge(world, name, on, None, answer.into());
    if let Some(arena) = on.arena {
        let refused = answer == -libc::EINVAL && timeout < BECKET_FOREVER;
        assert!(answer >= 0 || refused || may_fail(arena, answer), "{name}: {answer}");
        arena.prepared.set(name == "poll");
    }
}

fn turn(world: &World<'_>) {
    let timeout = pick_timeout(world);
    waiting(world, "turn", timeout, |at| c!(becket_turn(at, timeout)));
}

fn poll(world: &World<'_>) {
    let timeout = pick_timeout(world);
    waiting(world, "poll", timeout, |at| c!(becket_poll(at, timeout)));
}

fn prepare(world: &World<'_>) {
    let timeout = pick_timeout(world);
    on_loop(world, "prepare", |at| c!(becket_prepare(at, timeout)).into());
    world.arenas.iter().for_each(|arena| arena.prepared.set(true));
}

fn wait(world: &World<'_>) {
    let on = world.pick_loop();
    let timeout = c!(becket_timeout(on.at));
    world.trace(|| format!("wait({:p}), at most {timeout} …", on.at));
    let call = || c!(becket_wait(on.at));
    let answer = on.arena.map_or_else(call, |arena| guard::wait(arena, timeout, call));
    assert!(on.arena.is_none_or(|arena| answer == 0 || may_fail(arena, answer)), "wait: {answer}");
    judge(world, "wait", on, None, answer.into());
}

fn collect(world: &World<'_>) {
    on_loop(world, "collect", |at| c!(becket_collect(at)).into());
}

fn next(world: &World<'_>) {
    let on = world.pick_loop();
    let mask = match world.input.byte() {
        byte @ 0..0x10 => 1 << (byte % 12),
        0x10 => world.input.u32(),
        _ => BECKET_KIND_ALL,
    };
    let mut event = world.last_event.get();
    let place = if world.input.rarely(64) { null_mut() } else { &raw mut event };
    let answer = c!(becket_next(on.at, mask, place));
    judge(world, "next", on, None, answer.into());
    if answer > 0 {
        let arena = on.arena.unwrap();
        assert!(answer == 1 && !place.is_null());
        arena.event_came(world, &event);
        assert!(event.kind & mask != 0);
        world.last_event.set(event);
    }
}

fn dispatch(world: &World<'_>) {
    let on = world.pick_loop();
    if world.depth.get() >= DEPTH {
        return;
    }
    let mut event = world.last_event.get();
    if world.input.rarely(2) {
        event = becket_event {
            handle: world.pick_handle(on),
            value: world.input.number().cast_signed(),
            user: world.input.number() as *mut c_void,
            kind: world.input.u32(),
            flags: world.input.u32(),
            fd: world.input.u32().cast_signed(),
            level: world.input.u32(),
            data: null_mut(),
        };
    }
    let place = if world.input.rarely(64) { null() } else { &raw const event };
    // The source may be gone when this returns.
    let was_live = on.arena.is_some_and(|arena| arena.source(event.handle).is_some());
    let had_ended = on.arena.is_some_and(|arena| arena.ended.borrow().contains_key(&event.handle));
    let outer = world.dispatched.replace(place);
    let answer = c!(becket_dispatch(on.at, place));
    world.dispatched.set(outer);
    world.trace(|| format!("dispatch({:p}, {:#x}) = {answer}", on.at, event.handle));
    assert!(answer != 0 || (was_live || had_ended) && !place.is_null());
    assert!(answer == 0 || !was_live || place.is_null());
}

fn watches(world: &World<'_>) {
    let on = world.pick_loop();
    let count = if world.input.rarely(4) { 0 } else { world.input.below(40) };
    let mut watches: Vec<becket_watch> = Vec::with_capacity(count);
    let place = if world.input.rarely(8) { null_mut() } else { watches.as_mut_ptr() };
    let given = if place.is_null() && world.input.rarely(2) { world.input.number() as usize } else { count };
    let answer = c!(becket_watches(on.at, place, given));
    judge(world, "watches", on, None, answer.into());
    if let Ok(total) = usize::try_from(answer) {
        assert!(total >= 1 && (given == 0 || !place.is_null()));
        // SAFETY: the first of them were written.
        unsafe { watches.set_len(total.min(count).min(given)) };
        assert!(watches.iter().all(|watch| watch.fd >= 0 && watch.interest < BECKET_ERROR));
    }
}

fn statistics(world: &World<'_>) {
    let on = world.pick_loop();
    // SAFETY: all zeros is a valid one: integers.
    let mut statistics: becket_statistics = unsafe { std::mem::zeroed() };
    statistics.turns = MARK;
    statistics.size = match world.input.byte() {
        0 => world.input.number() as usize,
        _ => size_of::<becket_statistics>(),
    };
    let place = if world.input.rarely(64) { null_mut() } else { &raw mut statistics };
    let answer = c!(becket_loop_statistics(on.at, place));
    judge(world, "loop_statistics", on, None, answer.into());
    assert_eq!(statistics.turns == MARK, answer < 0);
}

fn now(world: &World<'_>) {
    let on = world.pick_loop();
    let now = c!(becket_now(on.at));
    assert_eq!(now == 0, on.arena.is_none());
}

fn backend(world: &World<'_>, call: impl FnOnce(*mut becket_loop) -> *const c_char) {
    let on = world.pick_loop();
    let text = call(on.at);
    assert_eq!(text.is_null(), on.arena.is_none());
    if !text.is_null() {
        // SAFETY: it is a C string, and static.
        assert!(unsafe { CStr::from_ptr(text) }.to_str().is_ok());
    }
}

/// What needs no loop.
fn constants(world: &World<'_>) {
    let entries = world.input.number() as u32;
    let rings = becket_ring_size(entries);
    assert_eq!(rings > 0, entries.is_power_of_two() && (8..=16384).contains(&entries));
    assert!(rings.is_multiple_of(4096));
    let (sources, posts, operations) =
        (world.input.number() as u32, world.input.number() as u32, world.input.number() as u32);
    let size = becket_memory_size(sources, posts, operations);
    let all = [(sources, BECKET_SOURCE_BYTES), (posts, BECKET_POST_BYTES), (operations, BECKET_OPERATION_BYTES)];
    let bytes = all.iter().map(|(count, bytes)| u64::from(*count) * u64::from(*bytes)).sum::<u64>();
    assert!(size == 0 || size as u64 == bytes + u64::from(BECKET_LOOP_BYTES));
    // SAFETY: both are C strings, and static.
    unsafe {
        assert!(CStr::from_ptr(becket_strerror(world.input.number() as i32)).to_str().is_ok());
        assert!(CStr::from_ptr(becket_version()).to_str().is_ok());
    }
}
