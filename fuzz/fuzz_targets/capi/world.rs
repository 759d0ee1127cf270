//! What a program knows of its loops: their memory, their sources, and what it may therefore expect of each call.

use crate::aio;
use crate::guard::Guard;
use crate::input::Input;
use crate::listeners;
use crate::operations::{self, Operations};
use crate::simulation::{self, Pool, Simulation};
use crate::streams::{self, Streams};
use crate::system::System;
use crate::tasks::Tasks;
use becket::ffi::constants::*;
use becket::ffi::types::{becket_event, becket_handle, becket_loop, becket_simulator, becket_statistics};
use std::alloc::{Layout, alloc, dealloc};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ptr::null_mut;

/// Calls of the C ABI. One SAFETY comment for all of them: the target passes what C may.
#[macro_export]
macro_rules! c {
    ($call:expr) => {
        // SAFETY: pointers are null or valid for what the call takes them for, and loops are where one is or was, or in
        // memory that never was one's.
        unsafe { $call }
    };
}

/// Memory of an exact size.
pub struct Block {
    pub start: *mut u8,
    layout: Layout,
}

impl Block {
    pub fn new(bytes: usize, align: usize, fill: u8) -> Block {
        let layout = Layout::from_size_align(bytes.max(1), align).expect("the size is small");
        // SAFETY: the size is not 0, and all of it is written.
        let start = unsafe {
            let start = alloc(layout);
            assert!(!start.is_null());
            start.write_bytes(fill, layout.size());
            start
        };
        Block { start, layout }
    }

    pub fn bytes(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.start, self.layout) };
    }
}

/// A source as the program knows it.
#[derive(Clone, Copy)]
pub struct Source {
    pub kind: u32,
    /// What its events name: fd, signal, process, or -1.
    pub fd: i32,
    pub handler: usize,
    pub user: usize,
}

/// Memory for one loop, and the loop that is in it now, or was.
pub struct Arena {
    pub block: RefCell<Option<Block>>,
    pub ring: Block,
    pub streams: Block,
    pub aio: Block,
    /// What the last loop has left there.
    pub aio_left: RefCell<Option<Box<[u8]>>>,
    /// The loop, live or closed; null: there was none in this block.
    pub at: Cell<*mut becket_loop>,
    pub live: Cell<bool>,
    /// Where the last one was made in this block.
    pub last: Cell<*mut becket_loop>,
    /// Time jumps, also in a simulator.
    pub virtual_clock: Cell<bool>,
    pub simulated: Cell<bool>,
    pub sources_max: Cell<u32>,
    pub posts_max: Cell<u32>,
    pub operations_max: Cell<u32>,
    pub sources: RefCell<BTreeMap<becket_handle, Source>>,
    /// Operations that have completed: their event can be dispatched as long as nobody else has the place.
    pub ended: RefCell<BTreeMap<becket_handle, Source>>,
    /// Some handles that are stale.
    pub past: RefCell<Vec<becket_handle>>,
    /// Handlers of it that are being called.
    pub handling: Cell<u32>,
    pub guard: Cell<Guard>,
    /// Before-wait events may have come already for the next wait.
    pub prepared: Cell<bool>,
}

/// Bytes of the memory for rings: enough for 64 entries.
const RING_BYTES: usize = 12288;

impl Arena {
    fn new() -> Arena {
        Arena {
            block: RefCell::new(None),
            ring: Block::new(RING_BYTES, 4096, 0),
            streams: streams::memory(),
            aio: aio::memory(),
            aio_left: RefCell::default(),
            at: Cell::new(null_mut()),
            live: Cell::new(false),
            last: Cell::new(null_mut()),
            virtual_clock: Cell::new(false),
            simulated: Cell::new(false),
            sources_max: Cell::new(0),
            posts_max: Cell::new(0),
            operations_max: Cell::new(0),
            sources: RefCell::default(),
            ended: RefCell::default(),
            past: RefCell::default(),
            handling: Cell::new(0),
            guard: Cell::new(Guard::None),
            prepared: Cell::new(false),
        }
    }

    pub fn source(&self, handle: becket_handle) -> Option<Source> {
        self.sources.borrow().get(&handle).copied()
    }

    pub fn forget(&self, handle: becket_handle) {
        self.sources.borrow_mut().remove(&handle).expect("what was removed was there");
        let mut past = self.past.borrow_mut();
        if past.len() == 16 {
            past.remove(0);
        }
        past.push(handle);
    }

    pub fn forget_all(&self) {
        self.ended.borrow_mut().clear();
        let handles: Vec<_> = self.sources.borrow().keys().copied().collect();
        handles.into_iter().for_each(|handle| self.forget(handle));
    }

    pub fn statistics(&self) -> becket_statistics {
        // SAFETY: all zeros is a valid one: integers.
        let mut statistics: becket_statistics = unsafe { std::mem::zeroed() };
        statistics.size = size_of::<becket_statistics>();
        let rc = c!(becket::ffi::turn::becket_loop_statistics(self.at.get(), &raw mut statistics));
        assert_eq!(rc, 0);
        statistics
    }

    /// What the loop counts is what there is.
    fn check_counts(&self) {
        if !self.live.get() {
            return;
        }
        let statistics = self.statistics();
        let operations = self.sources.borrow().values().filter(|it| it.kind == BECKET_KIND_OPERATION).count();
        assert_eq!(statistics.sources as usize, self.sources.borrow().len() - operations, "sources");
        assert_eq!(statistics.operations_now as usize, operations, "operations");
        assert_eq!((statistics.sources_max, statistics.posts_max), (self.sources_max.get(), self.posts_max.get()));
        assert_eq!(statistics.operations_max, self.operations_max.get());
        assert!(statistics.posts <= statistics.posts_max);
        assert!(statistics.queued <= statistics.queued_max);
        let most = statistics.sources_max + statistics.posts_max + statistics.operations_max;
        assert!(statistics.queued_max <= most);
    }

    /// An event came: whether it may have. Whose it was.
    pub fn event_came(&self, world: &World<'_>, event: &becket_event) -> Source {
        self.check_event(event);
        let source = self.source(event.handle).expect("a live source");
        if event.kind == BECKET_KIND_STREAM {
            world.streams.check(self, event);
        }
        let is_last = event.kind == BECKET_KIND_STREAM && event.flags & BECKET_STREAM_CLOSED != 0;
        if event.kind == BECKET_KIND_OPERATION || is_last {
            if !is_last {
                world.operations.complete(self, event);
            }
            self.ended.borrow_mut().insert(event.handle, source);
            self.forget(event.handle);
        }
        source
    }

    fn check_event(&self, event: &becket_event) {
        let source = self.source(event.handle).expect("the event of a live source");
        assert!(event.kind == source.kind || event.kind == BECKET_KIND_POST, "kind {}", event.kind);
        assert_eq!(event.user as usize, source.user);
        assert!(event.level < BECKET_LEVELS);
        let readiness = BECKET_READABLE | BECKET_PRIORITY | BECKET_WRITABLE;
        let known = 2 * BECKET_TRIGGERED - 1;
        match event.kind {
            BECKET_KIND_POST => assert_eq!((event.flags, event.fd), (0, -1)),
            BECKET_KIND_IO => {
                assert!(event.flags != 0 && event.flags & !known == 0, "flags {:#x}", event.flags);
                assert_eq!(event.fd, source.fd);
                let interest = c!(becket::ffi::io::becket_io_interest(self.at.get(), event.handle)).cast_unsigned();
                let asked = event.flags & readiness & !interest == 0;
                assert!(asked || interest & BECKET_ONESHOT != 0, "{:#x} for {interest:#x}", event.flags);
                assert!(event.flags & BECKET_TIMEOUT == 0 || event.flags & readiness == 0);
            }
            BECKET_KIND_STREAM => assert_eq!(event.fd, source.fd),
            BECKET_KIND_OPERATION => assert_eq!((event.flags, event.fd), (0, source.fd)),
            BECKET_KIND_LISTENER => {
                assert_eq!(event.fd, source.fd);
                listeners::came(self, event);
            }
            _ => {
                assert_eq!(event.fd, source.fd);
                assert_eq!(event.flags & !BECKET_TRIGGERED, 0);
                let counts = matches!(event.kind, BECKET_KIND_TIMER | BECKET_KIND_SIGNAL);
                assert!(!counts || event.value > 0 || event.flags == BECKET_TRIGGERED && event.value == 0);
                assert!(counts || event.kind == BECKET_KIND_CHILD || event.value == 0);
            }
        }
    }

    /// Everything can be given back, and had again.
    fn close(&self, world: &World<'_>) {
        if !self.live.get() {
            return;
        }
        let at = self.at.get();
        operations::end(world, self);
        let handles: Vec<_> = self.sources.borrow().keys().copied().collect();
        for handle in handles {
            assert_eq!(c!(becket::ffi::source::becket_remove(at, handle)), 0);
            listeners::removed(self.source(handle).unwrap());
        }
        // Posts to nobody go when they are looked at, after a wait. (A simulator that serves another loop refuses that.)
        let turned = (0..3).map(|_| c!(becket::ffi::turn::becket_turn(at, 0))).max().unwrap_or(0);
        assert!(turned == 0 || self.simulated.get() && turned == -libc::ESTALE, "turn: {turned}");
        let statistics = self.statistics();
        assert_eq!(statistics.sources, 0);
        assert!((statistics.posts, statistics.queued) == (0, 0) || turned < 0);

        let mut handle = 0;
        for _ in 0..self.sources_max.get() {
            assert_eq!(c!(becket::ffi::wake::becket_wake_add(at, None, null_mut(), &raw mut handle)), 0);
        }
        let full = c!(becket::ffi::wake::becket_wake_add(at, None, null_mut(), &raw mut handle));
        assert_eq!(full, -libc::ENOSPC);
        if handle != 0 {
            for _ in statistics.posts..self.posts_max.get() {
                assert_eq!(c!(becket::ffi::source::becket_post(at, handle, 1)), 0);
            }
            assert_eq!(c!(becket::ffi::source::becket_post(at, handle, 1)), -libc::ENOBUFS);
        }
        assert_eq!(c!(becket::ffi::memory::becket_loop_close(at)), 0);
        aio::closed(self);
    }
}

/// What a call is made on: an address, and the arena when a live loop is there.
#[derive(Clone, Copy)]
pub struct On<'a> {
    pub at: *mut becket_loop,
    pub arena: Option<&'a Arena>,
}

pub struct World<'a> {
    pub input: Input<'a>,
    pub system: System,
    pub arenas: [Arena; 3],
    pub simulations: [Simulation; 2],
    pub pool: Pool,
    pub operations: Operations,
    pub tasks: Tasks,
    pub streams: Streams,
    /// Calls that call handlers, one inside the other.
    pub depth: Cell<u32>,
    /// The event that the program itself made up, or kept.
    pub dispatched: Cell<*const becket_event>,
    pub last_event: Cell<becket_event>,
    /// Memory in which there never was a loop.
    no_loop: Block,
    trace: bool,
}

impl<'a> World<'a> {
    pub fn new(input: Input<'a>) -> World<'a> {
        World {
            input,
            system: System::new(),
            arenas: [Arena::new(), Arena::new(), Arena::new()],
            simulations: [Simulation::new(), Simulation::new()],
            pool: Pool::new(),
            operations: Operations::default(),
            tasks: Tasks::new(),
            streams: Streams::default(),
            depth: Cell::new(0),
            dispatched: Cell::new(std::ptr::null()),
            // SAFETY: all zeros is a valid one: integers and a pointer.
            last_event: Cell::new(unsafe { std::mem::zeroed() }),
            no_loop: Block::new(BECKET_LOOP_BYTES as usize, 8, 0),
            trace: std::env::var_os("BECKET_FUZZ_TRACE").is_some(),
        }
    }

    pub fn trace(&self, call: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:indent$}{}", "", call(), indent = 2 * self.depth.get() as usize);
        }
    }

    /// A loop: live, closed, or what is none.
    pub fn pick_loop(&self) -> On<'_> {
        let choice = self.input.byte();
        let arena = match choice {
            0..0xa0 => &self.arenas[0],
            0xa0..0xd0 => &self.arenas[1],
            _ => &self.arenas[2],
        };
        let at = arena.at.get();
        let none = |at| On { at, arena: None };
        match choice {
            0xf0 => none(null_mut()),
            0xf1 => none(self.no_loop.start.cast()),
            0xf2 => none(self.no_loop.start.wrapping_add(1).cast()),
            0xf3 => {
                // SAFETY: both are as large as a loop.
                unsafe { self.no_loop.start.write_bytes(0xff, BECKET_LOOP_BYTES as usize) };
                none(self.no_loop.start.cast())
            }
            0xf4 if !at.is_null() => {
                // SAFETY: both are as large as a loop.
                unsafe { self.no_loop.start.copy_from(at.cast(), BECKET_LOOP_BYTES as usize) };
                none(self.no_loop.start.cast())
            }
            0xf5 if !at.is_null() => none(at.wrapping_byte_add(4)),
            _ => On { at, arena: Some(arena).filter(|arena| arena.live.get()) },
        }
    }

    /// A handle: live, here or elsewhere, stale, or forged.
    pub fn pick_handle(&self, on: On<'_>) -> becket_handle {
        let choice = self.input.byte();
        let arena = on.arena.unwrap_or(&self.arenas[0]);
        let live = |arena: &Arena, number: usize| {
            let sources = arena.sources.borrow();
            sources.keys().nth(number % sources.len().max(1)).copied().unwrap_or(0)
        };
        match choice {
            0..0xc0 => live(arena, usize::from(choice)),
            0xc0..0xd0 => live(&self.arenas[usize::from(choice % 3)], usize::from(choice)),
            0xd0..0xe0 => {
                let past = arena.past.borrow();
                past.get(usize::from(choice & 15)).or(past.last()).copied().unwrap_or(0)
            }
            0xe0..0xe8 => live(arena, usize::from(choice)) ^ 1 << self.input.below(64),
            0xe8..0xf0 => live(arena, usize::from(choice)).wrapping_add(u64::from(self.input.byte()) << 24),
            _ => self.input.number(),
        }
    }

    pub fn arena_of(&self, at: *mut becket_loop) -> &Arena {
        self.arenas.iter().find(|arena| arena.live.get() && arena.at.get() == at).expect("a live loop")
    }

    pub fn check_counts(&self) {
        self.arenas.iter().for_each(Arena::check_counts);
    }

    /// Where there is no simulator.
    pub fn no_simulator(&self) -> *mut becket_simulator {
        self.no_loop.start.cast()
    }

    pub fn close_all(&self) {
        simulation::calm(self);
        self.arenas.iter().for_each(|arena| arena.close(self));
        self.operations.check_past();
        self.arenas.iter().for_each(aio::check);
    }
}
