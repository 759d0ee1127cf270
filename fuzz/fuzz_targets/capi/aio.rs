//! POSIX AIO: its memory, its signal, and that nobody writes to the memory once the loop is closed.
//!
//! The C library's threads write to control blocks and buffers whenever they like. So each loop is drained before its memory
//! goes, as with a kernel's ring: see `Arena::close`.

use crate::input::Input;
use crate::system::System;
use crate::world::{Arena, Block, World};
use becket::ffi::constants::*;
use becket::ffi::types::becket_aio;
use std::ptr::null_mut;

/// Requests that the system has at once: fewer than some loops have operations.
const COUNT: u32 = 4;

pub fn memory() -> Block {
    Block::new((COUNT * BECKET_AIO_BYTES) as usize, 8, 0x5a)
}

/// What is in an arena's memory.
fn contents(arena: &Arena) -> Box<[u8]> {
    // SAFETY: all of it was written when it was made, and no loop has it now.
    unsafe { std::slice::from_raw_parts(arena.aio.start, arena.aio.bytes()) }.into()
}

/// The descriptor of an arena's memory.
pub fn descriptor(arena: &Arena) -> becket_aio {
    becket_aio {
        size: size_of::<becket_aio>(),
        block: arena.aio.start.cast(),
        block_size: arena.aio.bytes(),
        count: COUNT,
    }
}

/// The same, at times a wrong one.
pub fn some_descriptor(world: &World<'_>, arena: &Arena) -> becket_aio {
    let input = &world.input;
    let right = descriptor(arena);
    let count = if input.rarely(4) { input.number() as u32 } else { 1 + input.below(COUNT as usize) as u32 };
    let offset = if input.rarely(16) { input.below(16) } else { 0 };
    becket_aio {
        size: if input.rarely(32) { input.number() as usize } else { right.size },
        block: if input.rarely(32) { null_mut() } else { right.block.wrapping_byte_add(offset) },
        block_size: right.block_size - offset - usize::from(input.rarely(16)),
        count,
    }
}

/// The signal that tells of completions: 0, a real-time one, or any of the target's own.
pub fn signal(system: &System, input: &Input<'_>) -> i32 {
    match input.byte() % 8 {
        0..4 => 0,
        4 | 5 => libc::SIGRTMIN() + i32::from(input.byte() % 32),
        _ => system.signal(input),
    }
}

/// The loop in an arena is closed: its memory is the program's again.
pub fn closed(arena: &Arena) {
    arena.aio_left.replace(Some(contents(arena)));
}

/// Nobody has written to it since.
pub fn check(arena: &Arena) {
    if let Some(left) = arena.aio_left.take() {
        assert_eq!(contents(arena), left, "written to after the loop was closed");
    }
}
