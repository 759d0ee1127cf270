//! Calls of the simulator, and of pools.

use crate::c;
use crate::calls::MARK;
use crate::world::{Block, World};
use becket::ffi::constants::BECKET_PEER_CLOSED;
use becket::ffi::pool::*;
use becket::ffi::simulator::*;
use becket::ffi::types::{becket_config, becket_simulator};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ptr::{null_mut, without_provenance_mut};

/// The first descriptor of a simulator.
const FIRST_FD: i32 = 0x4000_0000;
const FDS: u32 = 12;
const EVENTS: u32 = 10;
/// Bytes of a buffer, at most: more than a connection holds.
const BUFFER: usize = 300;

/// Memory for a simulator, and the one that is in it.
pub struct Simulation {
    block: Block,
    at: Cell<*mut becket_simulator>,
}

impl Simulation {
    pub fn new() -> Simulation {
        let bytes = BECKET_SIMULATOR_BYTES + BECKET_SIMULATOR_FD_BYTES * FDS + BECKET_SIMULATOR_EVENT_BYTES * EVENTS;
        Simulation { block: Block::new(bytes as usize, 16, 0), at: Cell::new(null_mut()) }
    }
}

/// Blocks, and which of them are taken.
pub struct Pool {
    pool: RefCell<becket_pool>,
    taken: RefCell<BTreeSet<usize>>,
    _memory: [Block; 2],
}

const BLOCKS: u32 = 6;

impl Pool {
    pub fn new() -> Pool {
        let bytes = 24;
        let memory = [Block::new(bytes * BLOCKS as usize, 16, 0), Block::new(4 * BLOCKS as usize, 4, 0xff)];
        let pool = becket_pool {
            size: size_of::<becket_pool>(),
            blocks: memory[0].start.cast(),
            links: memory[1].start.cast(),
            block_bytes: bytes,
            count: BLOCKS,
            free: 0,
            mark: 0,
            taken: 0,
        };
        Pool { pool: RefCell::new(pool), taken: RefCell::default(), _memory: memory }
    }
}

type Call = fn(&World<'_>);

pub const CALLS: &[Call] = &[
    init,
    of,
    |world| number(world, "now", |it, out| c!(becket_sim_now(it, out))),
    |world| on_one(world, "advance", |it| c!(becket_sim_advance(it, world.input.number())).into()),
    |world| on_one(world, "jump", |it| c!(becket_sim_jump(it, world.input.number())).into()),
    |world| {
        on_one(world, "fault", |it| c!(becket_sim_fault(it, which(world), error(world), often(world))).into());
    },
    |world| {
        on_one(world, "fail_nth", |it| {
            c!(becket_sim_fail_nth(it, which(world), error(world), world.input.byte().into())).into()
        });
    },
    |world| {
        on_one(world, "quirk", |it| c!(becket_sim_quirk(it, which(world), often(world), world.input.number())).into());
    },
    |world| {
        on_one(world, "all_faults", |it| c!(becket_sim_all_faults(it, often(world), world.input.number())).into());
    },
    |world| number(world, "failed", |it, out| c!(becket_sim_failed(it, which(world), out))),
    |world| {
        let bound = world.input.number();
        number(world, "below", |it, out| {
            let answer = c!(becket_sim_below(it, bound, out));
            // SAFETY: null, or a place that was just written to.
            assert!(answer < 0 || unsafe { out.as_ref() }.is_some_and(|number| *number < bound.max(1)));
            answer
        });
    },
    |world| on_one(world, "scripted", |it| c!(becket_sim_scripted(it)).into()),
    |world| on_one(world, "scripted", |it| c!(becket_sim_scripted(it)).into()),
    |world| on_one(world, "random", |it| c!(becket_sim_random(it, world.input.number())).into()),
    |world| on_one(world, "open", |it| c!(becket_sim_open(it, world.input.number())).into()),
    |world| on_one(world, "open_null", |it| c!(becket_sim_open_null(it)).into()),
    pair,
    pair,
    |world| on_one(world, "socket", |it| c!(becket_sim_socket(it)).into()),
    |world| on_one(world, "listen", |it| c!(becket_sim_listen(it, fd(world), world.input.number() as u32)).into()),
    |world| on_one(world, "connect", |it| c!(becket_sim_connect(it, fd(world), fd(world))).into()),
    |world| on_one(world, "accept", |it| c!(becket_sim_accept(it, fd(world))).into()),
    read,
    write,
    |world| on_one(world, "shutdown", |it| c!(becket_sim_shutdown(it, fd(world))).into()),
    |world| on_one(world, "reset", |it| c!(becket_sim_reset(it, fd(world), world.input.number())).into()),
    |world| {
        on_one(world, "set_room", |it| c!(becket_sim_set_room(it, fd(world), world.input.number() as usize)).into());
    },
    take_error,
    |world| on_one(world, "dup", |it| c!(becket_sim_dup(it, fd(world))).into()),
    |world| on_one(world, "close", |it| c!(becket_sim_close(it, fd(world))).into()),
    |world| on_one(world, "open_fds", |it| c!(becket_sim_open_fds(it)).into()),
    ready,
    |world| on_one(world, "set_ready", |it| c!(becket_sim_set_ready(it, fd(world), 0, flags(world))).into()),
    |world| {
        on_one(world, "set_ready", |it| {
            c!(becket_sim_set_ready(it, fd(world), world.input.number(), flags(world))).into()
        });
    },
    pool_get,
    pool_put,
    |world| on_one(world, "set_ring", |it| c!(becket_sim_set_ring(it, world.input.number() as i32 & 1)).into()),
    |world| on_one(world, "set_latency", |it| c!(becket_sim_set_latency(it, world.input.number())).into()),
    |world| on_one(world, "set_file_size", |it| c!(becket_sim_set_file_size(it, world.input.number())).into()),
];

fn which(world: &World<'_>) -> u32 {
    if world.input.rarely(32) { world.input.u32() } else { world.input.byte() as u32 % 10 }
}

fn error(world: &World<'_>) -> i32 {
    const ERRORS: [i32; 13] = [
        libc::EINTR,
        libc::EAGAIN,
        libc::EBADF,
        libc::ENOMEM,
        libc::ENOSPC,
        libc::EMFILE,
        libc::ENFILE,
        libc::EPIPE,
        libc::ECONNRESET,
        libc::ECONNREFUSED,
        libc::ECONNABORTED,
        libc::EBUSY,
        0,
    ];
    if world.input.rarely(32) { world.input.u32().cast_signed() } else { world.input.pick(&ERRORS) }
}

fn often(world: &World<'_>) -> u32 {
    world.input.pick(&[0, 1000, 100_000, 142_857, 142_858, 1_000_000, 1_000_001, u32::MAX])
}

fn flags(world: &World<'_>) -> u32 {
    match world.input.byte() {
        0xff => world.input.u32(),
        byte => u32::from(byte) & (2 * BECKET_PEER_CLOSED - 1),
    }
}

/// A descriptor of a simulator, open or not; or none.
pub fn fd(world: &World<'_>) -> i32 {
    match world.input.byte() {
        byte @ 0..0xf0 => FIRST_FD + i32::from(byte) % (FDS.cast_signed() + 1),
        0xf0..0xf8 => world.input.u32().cast_signed(),
        _ => world.input.pick(&[-1, 0, i32::MAX, i32::MIN]),
    }
}

/// A simulator: there is one, there is none, or NULL. And whether there is one.
fn pick(world: &World<'_>) -> (*mut becket_simulator, bool) {
    match world.input.byte() {
        0xf0..0xf4 => (null_mut(), false),
        0xf4..0xf8 => (world.no_simulator(), false),
        0xf8 => (world.no_simulator().wrapping_byte_add(1), false),
        byte => {
            let at = world.simulations[usize::from(byte % 5 / 4)].at.get();
            (at, !at.is_null())
        }
    }
}

/// One for a loop to live in.
pub fn for_loop(world: &World<'_>) -> *mut becket_simulator {
    pick(world).0
}

/// Sees to it that there is a simulator for the first loop of an input.
pub fn first(world: &World<'_>, config: &mut becket_config) {
    make(world, 0, FDS, EVENTS, world.input.byte().into());
    config.simulator = world.simulations[0].at.get();
}

fn make(world: &World<'_>, number: usize, fds: u32, events: u32, seed: u64) {
    let simulation = &world.simulations[number];
    let wrong = world.input.rarely(32);
    let offset = if wrong { world.input.pick(&[0, 1, 4, 8]) } else { 0 };
    let memory = becket_simulator_memory {
        size: if wrong && world.input.rarely(4) { 0 } else { size_of::<becket_simulator_memory>() },
        block: simulation.block.start.wrapping_add(offset).cast(),
        block_size: simulation.block.bytes() - offset,
        fds,
        events,
    };
    let mark = MARK as *mut becket_simulator;
    let mut out = mark;
    let place = if wrong && world.input.rarely(4) { null_mut() } else { &raw mut out };
    // A simulator is never moved while a loop lives in it.
    if offset != 0 && !simulation.at.get().is_null() {
        return;
    }
    let answer = c!(becket_simulator_init(place, &raw const memory, seed));
    world.trace(|| format!("simulator_init({number}, {fds}, {events}) = {answer}"));
    assert_eq!(out == mark, answer < 0);
    if answer == 0 && !simulation.at.replace(out).is_null() {
        world.operations.unserved.set(true);
    }
}

fn init(world: &World<'_>) {
    let number = world.input.below(world.simulations.len());
    let most = |most: u32| match world.input.byte() {
        0xff => world.input.u32(),
        byte if byte < 0x80 => most,
        byte => u32::from(byte) % (most + 2),
    };
    let (fds, events) = (most(FDS), most(EVENTS));
    make(world, number, fds, events, world.input.byte().into());
}

fn of(world: &World<'_>) {
    let on = world.pick_loop();
    let mark = MARK as *mut becket_simulator;
    let mut out = mark;
    let place = if world.input.rarely(32) { null_mut() } else { &raw mut out };
    let answer = c!(becket_sim_of(on.at, place));
    let simulated = on.arena.is_some_and(|arena| arena.simulated.get());
    assert_eq!(answer == 0, simulated && !place.is_null());
    assert_eq!(out == mark, answer < 0);
    assert!(answer < 0 || world.simulations.iter().any(|it| it.at.get() == out));
}

/// A call of a simulator.
fn on_one(world: &World<'_>, name: &str, call: impl FnOnce(*mut becket_simulator) -> i64) {
    let (at, there) = pick(world);
    let answer = call(at);
    judge(world, name, there, answer);
}

fn judge(world: &World<'_>, name: &str, there: bool, answer: i64) {
    world.trace(|| format!("sim_{name}() = {answer:#x}"));
    assert!(answer > -4096 && answer <= i64::from(i32::MAX));
    assert!(there || answer == -i64::from(libc::EBADF) || answer == -i64::from(libc::EINVAL), "{name}: {answer}");
}

/// One that writes a number.
fn number(world: &World<'_>, name: &str, call: impl FnOnce(*mut becket_simulator, *mut u64) -> i32) {
    let mut out = MARK;
    let place = if world.input.rarely(32) { null_mut() } else { &raw mut out };
    let (at, there) = pick(world);
    let answer = call(at, place);
    judge(world, name, there, answer.into());
    assert!(answer == 0 && !place.is_null() || answer < 0 && out == MARK);
}

fn pair(world: &World<'_>) {
    let mut fds = [-1; 2];
    let place = if world.input.rarely(32) { null_mut() } else { fds.as_mut_ptr() };
    let (at, there) = pick(world);
    let answer = c!(becket_sim_pair(at, place));
    judge(world, "pair", there, answer.into());
    assert_eq!(fds == [-1; 2], answer < 0);
}

fn take_error(world: &World<'_>) {
    let mut error = -1;
    let place = if world.input.rarely(32) { null_mut() } else { &raw mut error };
    let (at, there) = pick(world);
    let answer = c!(becket_sim_error(at, fd(world), place));
    judge(world, "error", there, answer.into());
    assert_eq!(error == -1, answer < 0);
}

fn ready(world: &World<'_>) {
    let mut flags = u32::MAX;
    let place = if world.input.rarely(32) { null_mut() } else { &raw mut flags };
    let (at, there) = pick(world);
    let answer = c!(becket_sim_ready(at, fd(world), place));
    judge(world, "ready", there, answer.into());
    assert_eq!(flags == u32::MAX, answer < 0);
}

/// A buffer of exactly its length.
fn with_buffer(world: &World<'_>, name: &str, call: impl FnOnce(*mut becket_simulator, i32, *mut u8, usize) -> i64) {
    let length = world.input.pick(&[0, 1, 2, 7, 255, 256, 257, BUFFER]);
    let mut buffer = vec![0x5a_u8; length].into_boxed_slice();
    let start = if world.input.rarely(32) { null_mut() } else { buffer.as_mut_ptr() };
    let (at, there) = pick(world);
    let answer = call(at, fd(world), start, length);
    judge(world, name, there, answer);
    assert!(answer <= length as i64);
}

fn read(world: &World<'_>) {
    with_buffer(world, "read", |at, fd, start, length| c!(becket_sim_read(at, fd, start.cast(), length)));
}

fn write(world: &World<'_>) {
    with_buffer(world, "write", |at, fd, start, length| c!(becket_sim_write(at, fd, start.cast(), length)));
}

/// A pool, or what is none; and whether it is one.
fn pick_pool(world: &World<'_>) -> (*mut becket_pool, bool) {
    let pool = world.pool.pool.as_ptr();
    // SAFETY: nobody else looks at it meanwhile.
    let size = unsafe { &raw mut (*pool).size };
    let wrong = world.input.rarely(16);
    let right = size_of::<becket_pool>();
    // SAFETY: likewise.
    unsafe { size.write(if wrong { world.input.number() as usize } else { right }) };
    // SAFETY: likewise.
    let right = unsafe { size.read() } == right;
    if wrong && world.input.rarely(2) { (null_mut(), false) } else { (pool, right) }
}

fn pool_get(world: &World<'_>) {
    let (pool, there) = pick_pool(world);
    let block = c!(becket_pool_get(pool));
    let mut taken = world.pool.taken.borrow_mut();
    assert_eq!(block.is_null(), !there || taken.len() == BLOCKS as usize);
    if !block.is_null() {
        let bytes = world.pool.pool.borrow().block_bytes;
        // SAFETY: becket has given it, and it is as large as this.
        unsafe { block.cast::<u8>().write_bytes(0xee, bytes) };
        assert!(taken.insert(block as usize), "taken twice");
    }
}

fn pool_put(world: &World<'_>) {
    let (pool, there) = pick_pool(world);
    let (first, bytes) = {
        let pool = world.pool.pool.borrow();
        (pool.blocks as usize, pool.block_bytes)
    };
    let block = match world.input.byte() {
        byte @ 0..0xe0 => first + bytes * (usize::from(byte) % (BLOCKS as usize + 1)),
        0xe0..0xf0 => first + usize::from(world.input.byte()),
        _ => world.input.number() as usize,
    };
    let answer = c!(becket_pool_put(pool, without_provenance_mut::<c_void>(block)));
    let removed = there && world.pool.taken.borrow_mut().remove(&block);
    let inside = (0..BLOCKS as usize).any(|place| first + bytes * place == block);
    let right = if removed {
        0
    } else if there && inside {
        -libc::ESTALE
    } else {
        -libc::EINVAL
    };
    assert_eq!(answer, right);
    let left = c!(becket_pool_left(pool));
    let taken = world.pool.taken.borrow().len();
    assert_eq!(left, if there { BLOCKS.cast_signed() - taken as i32 } else { -libc::EINVAL });
}

/// Nothing of the simulators fails any more.
pub fn calm(world: &World<'_>) {
    for at in world.simulations.iter().map(|it| it.at.get()).filter(|at| !at.is_null()) {
        assert_eq!(c!(becket_sim_all_faults(at, 0, 0)), 0);
        for which in 0..9 {
            c!(becket_sim_fail_nth(at, which, libc::EINTR, 0));
        }
    }
}

/// Whether it is one of these, for which a loop's wait fails.
pub fn is_wait_error(answer: i32) -> bool {
    [libc::EDEADLK, libc::ESTALE, libc::EINTR, libc::EAGAIN, libc::EBUSY, libc::EBADF, libc::ENOMEM].contains(&-answer)
}
