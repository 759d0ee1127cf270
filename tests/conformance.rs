//! The conformance suite: what becket promises, tried through the public Rust API on every backend.
//!
//! One file for each area. Time is virtual wherever time matters, and order is tested by comparing a trace, so nothing
//! depends on how fast the machine is. A later backend is one line in `harness.rs`.

#[macro_use]
#[path = "conformance/harness.rs"]
mod harness;

#[path = "conformance/capacity.rs"]
mod capacity;
#[path = "conformance/children.rs"]
mod children;
#[path = "conformance/hooks.rs"]
mod hooks;
#[path = "conformance/io_timeouts.rs"]
mod io_timeouts;
#[path = "conformance/levels.rs"]
mod levels;
#[path = "conformance/listeners.rs"]
mod listeners;
#[path = "conformance/modify_remove.rs"]
mod modify_remove;
#[path = "conformance/operations.rs"]
mod operations;
#[path = "conformance/phases.rs"]
mod phases;
#[path = "conformance/processes.rs"]
mod processes;
#[path = "conformance/readiness.rs"]
mod readiness;
#[path = "conformance/signals.rs"]
mod signals;
#[path = "conformance/streams.rs"]
mod streams;
#[path = "conformance/timers.rs"]
mod timers;
#[path = "conformance/wakes_posts.rs"]
mod wakes_posts;
#[path = "conformance/watching.rs"]
mod watching;
