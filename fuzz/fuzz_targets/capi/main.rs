//! The C ABI, with whatever arguments C could legally pass: handles that are forged, stale or another loop's, sizes and
//! flags of any value, NULL, closed loops and what is no loop, in any order, several loops at a time, in handlers too.
//! AddressSanitizer watches memory: each block is exactly as large as its descriptor says. Checked besides:
//!
//! - an answer is a count or an errno value; what is no loop, or no source, gets an error; after an error outputs are as
//!   they were;
//! - an event is of a live source, of its kind and fd, for its handler, and within its interest;
//! - the loop counts as many sources as there are;
//! - what a stream sends has one event, and the stream a last one;
//! - an operation has one completion, and nobody writes to its memory after that; a read has written as much as it says;
//! - at the end every slot, post, fd, child and disposition of a signal is given back, and all slots can be had again.
//!
//! No call blocks: where a wait could be a real one a stop is asked for before (guard.rs). With BECKET_FUZZ_TRACE in the
//! environment each call is printed.
#![no_main]
// A target that makes nothing but unsafe calls.
#![allow(clippy::macro_metavars_in_unsafe)]

mod aio;
mod calls;
mod guard;
mod handlers;
mod input;
mod listeners;
mod operations;
mod simulation;
mod streams;
mod system;
mod tasks;
mod world;

use input::Input;
use libfuzzer_sys::fuzz_target;
use world::World;

fuzz_target!(init: system::begin(), |bytes: &[u8]| {
    let world = World::new(Input::new(bytes));
    handlers::enter(&world);
    calls::init_first(&world);
    while !world.input.is_over() {
        calls::one(&world);
    }
    world.close_all();
    handlers::leave();
    world.system.end();
});
