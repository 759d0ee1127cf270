//! Streams: a request is the stream's until its one event, or until the stream is gone; one event is the last; buffers are read
//! for as long as they are kept.

use crate::c;
use crate::calls::{self, MARK};
use crate::world::{Arena, Block, World};
use becket::ffi::constants::*;
use becket::ffi::stream::*;
use becket::ffi::types::{becket_event, becket_handle, becket_loop, becket_streams};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::mem::zeroed;
use std::ptr::{null, null_mut};

/// What is given to loops: so many streams, buffers, and bytes of each.
const STREAMS: u32 = 4;
const BUFFERS: u32 = 3;
const BUFFER_BYTES: u32 = 256;

/// A request with its memory, and whose it is.
struct Slot {
    request: Box<becket_send_request>,
    bytes: Box<[u8]>,
    vectors: Box<[libc::iovec]>,
    of: Cell<Option<(usize, becket_handle)>>,
}

/// All requests, and what was received last.
pub struct Streams {
    slots: RefCell<Vec<Slot>>,
    data: Cell<*mut c_void>,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams { slots: RefCell::default(), data: Cell::new(null_mut()) }
    }
}

type Call = fn(&World<'_>);

pub const CALLS: &[Call] = &[
    add,
    add,
    add,
    connect,
    send,
    send,
    send,
    send,
    |world| {
        calls::on_source(world, "stream_batch", |at, it| {
            c!(becket_stream_batch(at, it, world.input.number() as i32 % 2))
        })
    },
    |world| calls::on_source(world, "stream_pause", |at, it| c!(becket_stream_pause(at, it))),
    |world| calls::on_source(world, "stream_resume", |at, it| c!(becket_stream_resume(at, it))),
    |world| calls::on_source(world, "stream_shutdown", |at, it| c!(becket_stream_shutdown(at, it))),
    |world| calls::on_source(world, "stream_close", |at, it| c!(becket_stream_close(at, it))),
    |world| calls::on_source(world, "stream_reset", |at, it| c!(becket_stream_reset(at, it))),
    |world| {
        calls::on_source(world, "stream_watermarks", |at, it| {
            c!(becket_stream_watermarks(at, it, world.input.number() as u32, world.input.number() as u32))
        });
    },
    cancel,
    |world| {
        let (mut low, mut high) = (0, 0);
        calls::on_source(world, "stream_get_watermarks", |at, it| {
            c!(becket_stream_get_watermarks(at, it, &raw mut low, &raw mut high))
        });
        assert!(low <= high);
    },
    |world| calls::number_of(world, "stream_queued", |at, it, out| c!(becket_stream_queued(at, it, out))),
    keep,
    forward,
    forward,
    release,
    sender,
    sizes,
];

pub fn memory() -> Block {
    Block::new(becket_streams_size(STREAMS, BUFFERS, BUFFER_BYTES), 16, 0x5a)
}

/// The descriptor of an arena's memory, at times a wrong one.
pub fn descriptor(world: &World<'_>, arena: &Arena) -> becket_streams {
    let wrong = |number: u32| if world.input.rarely(32) { world.input.number() as u32 } else { number };
    let block = arena.streams.start.cast();
    becket_streams {
        size: size_of::<becket_streams>() + usize::from(world.input.rarely(64)),
        block: if world.input.rarely(64) { null_mut() } else { block },
        block_size: arena.streams.bytes() - usize::from(world.input.rarely(32)),
        streams: wrong(STREAMS),
        buffers: wrong(BUFFERS),
        buffer_size: wrong(BUFFER_BYTES),
    }
}

fn key(arena: &Arena) -> usize {
    std::ptr::from_ref(arena) as usize
}

impl Streams {
    /// Whether a stream has a request. (What is gone has none.)
    fn has(world: &World<'_>, slot: &Slot) -> bool {
        slot.of.get().is_some_and(|(of, handle)| {
            world.arenas.iter().any(|it| key(it) == of && it.live.get() && it.source(handle).is_some())
        })
    }

    /// An event came: whether it may have.
    pub fn check(&self, arena: &Arena, event: &becket_event) {
        let flags = event.flags & !BECKET_TRIGGERED;
        assert!(flags.count_ones() == 1 || flags == 0 && event.flags == BECKET_TRIGGERED, "{:#x}", event.flags);
        match flags {
            BECKET_STREAM_DATA if event.value >= 0 => {
                self.data.set(event.data);
                assert!(!event.data.is_null() && event.value <= i64::from(BUFFER_BYTES));
                // SAFETY: so many bytes were received there.
                let bytes = unsafe { std::slice::from_raw_parts(event.data.cast::<u8>(), event.value as usize) };
                std::hint::black_box(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)));
            }
            BECKET_STREAM_SENT if event.data.is_null() => assert!(event.value < 0, "what was forwarded is told of"),
            BECKET_STREAM_SENT => {
                let slots = self.slots.borrow();
                let same = |slot: &&Slot| std::ptr::from_ref(&*slot.request) == event.data.cast_const().cast();
                let slot = slots.iter().find(same).expect("one of the program's");
                assert_eq!(slot.of.take(), Some((key(arena), event.handle)), "one event of each");
                assert!(event.value > -4096);
            }
            _ => assert!(event.data.is_null()),
        }
        if flags == BECKET_STREAM_CLOSED {
            let mine = |slot: &Slot| slot.of.get() == Some((key(arena), event.handle));
            assert!(!self.slots.borrow().iter().any(mine), "a request outlives its stream");
        }
    }
}

fn add(world: &World<'_>) {
    let fd = calls::pick_fd(world);
    // (What an operation needs is not to be closed.)
    if world.operations.need(fd) {
        return;
    }
    let flags = world.input.flags(&[BECKET_TRUSTED, BECKET_DATAGRAM]);
    calls::add(world, "stream_add", BECKET_KIND_STREAM, fd, |at, handler, user, out| {
        c!(becket_stream_add(at, fd, flags, handler, user, out))
    });
}

fn connect(world: &World<'_>) {
    let name = world.system.listener();
    let length = if world.input.rarely(16) { 1 } else { name.len() };
    let place = if name.len() < 2 || world.input.rarely(16) { null() } else { name.as_ptr() };
    let within = world.input.number();
    calls::add(world, "stream_connect", BECKET_KIND_STREAM, calls::ANY_FD, |at, handler, user, out| {
        c!(becket_stream_connect(at, place.cast(), length as u32, within, handler, user, out))
    });
}

/// A request that nobody has, or, at times, one that somebody has.
fn pick_slot(world: &World<'_>) -> usize {
    let mut slots = world.streams.slots.borrow_mut();
    if world.input.rarely(16) && !slots.is_empty() {
        return world.input.below(slots.len());
    }
    if let Some(free) = slots.iter().position(|slot| !Streams::has(world, slot)) {
        return free;
    }
    // SAFETY: all zeros is a request that was never used.
    let request = unsafe { Box::new(zeroed()) };
    slots.push(Slot { request, bytes: Box::default(), vectors: Box::default(), of: Cell::new(None) });
    slots.len() - 1
}

fn send(world: &World<'_>) {
    let number = pick_slot(world);
    let mut slots = world.streams.slots.borrow_mut();
    let busy = Streams::has(world, &slots[number]);
    let size = world.input.pick(&[0, 1, 8, 100, 5000, 300_000]);
    let which = world.input.below(4);
    let slot = &mut slots[number];
    if !busy {
        slot.of.set(None);
        slot.bytes = vec![0x33; size].into_boxed_slice();
        let mut rest = slot.bytes.as_mut_ptr();
        let count = world.input.below(40);
        let share = size / count.max(1);
        let vector = |_| {
            let vector = libc::iovec { iov_base: rest.cast(), iov_len: share };
            rest = rest.wrapping_add(share);
            vector
        };
        slot.vectors = (0..count).map(vector).collect();
    }
    let request: *mut becket_send_request = if world.input.rarely(64) { null_mut() } else { &raw mut *slot.request };
    let (data, length) = (slot.bytes.as_ptr(), slot.bytes.len());
    let (vectors, count) = (slot.vectors.as_ptr(), slot.vectors.len() as i32);
    drop(slots);
    let (file, offset, range) = (calls::pick_fd(world), world.input.number(), world.input.number());
    let call = |at: *mut becket_loop, it| match which {
        0 => c!(becket_stream_sendv(at, it, request, vectors.cast(), count)),
        1 => c!(becket_stream_sendfile(at, it, request, file, offset.cast_signed(), range % 100_000)),
        2 => c!(becket_stream_sendto(at, it, request, data.cast(), length, null(), 0)),
        _ => c!(becket_stream_send(at, it, request, data.cast(), length)),
    };
    let (on, handle, answer) = calls::ask(world, "stream_send", call);
    assert!(!busy || answer < 0, "it is in use");
    if answer > 0 {
        let slots = world.streams.slots.borrow();
        slots[number].of.set(Some((key(on.arena.expect("a loop")), handle)));
    }
}

/// A request of any stream, or of none: it has its event nevertheless.
fn cancel(world: &World<'_>) {
    let slots = world.streams.slots.borrow();
    let wrong = slots.is_empty() || world.input.rarely(16);
    let request = if wrong { null() } else { &raw const *slots[world.input.below(slots.len())].request };
    drop(slots);
    calls::on_source(world, "stream_cancel", |at, it| c!(becket_stream_cancel(at, it, request)));
}

/// What was received last, or any address.
fn pick_data(world: &World<'_>) -> *const c_void {
    match world.input.byte() {
        0..0xe0 => world.streams.data.get().cast_const(),
        0xe0..0xf0 => world.streams.data.get().wrapping_byte_add(256).cast_const(),
        _ => world.input.number() as *const c_void,
    }
}

fn keep(world: &World<'_>) {
    let data = pick_data(world);
    calls::on_loop(world, "stream_keep", |at| c!(becket_stream_keep(at, data)).into());
}

fn forward(world: &World<'_>) {
    let data = pick_data(world);
    let length = if world.input.rarely(8) { world.input.number() as usize } else { world.input.below(8) };
    calls::on_source(world, "stream_forward", |at, it| c!(becket_stream_forward(at, it, data, length)));
}

fn release(world: &World<'_>) {
    let data = pick_data(world);
    calls::on_loop(world, "stream_release", |at| c!(becket_stream_release(at, data)).into());
    calls::on_loop(world, "stream_buffers", |at| c!(becket_stream_buffers(at)).into());
}

fn sender(world: &World<'_>) {
    let data = pick_data(world);
    let (mut address, mut length) = (null(), MARK as u32);
    let place = if world.input.rarely(32) { null_mut() } else { &raw mut address };
    calls::on_loop(world, "stream_sender", |at| {
        let answer = c!(becket_stream_sender(at, data, place, &raw mut length));
        assert!(answer == 0 || length == MARK as u32);
        answer.into()
    });
}

fn sizes(world: &World<'_>) {
    let (streams, buffers) = (world.input.number() as u32, world.input.number() as u32);
    let buffer = world.input.number() as u32;
    let size = becket_streams_size(streams, buffers, buffer);
    let bytes = u128::from(streams) * u128::from(BECKET_STREAM_BYTES)
        + u128::from(buffers) * (u128::from(BECKET_STREAM_BUFFER_BYTES) + u128::from(buffer));
    assert!(size == 0 || size as u128 == bytes);
}
