//! becket: an event loop that never allocates.
//!
//! One thread runs one loop; handlers run to completion and never block. Everything a loop does, it does inside one
//! block of memory whose size is known when the program is compiled: a static table of *sources* (what is waited
//! for, and whose handler it is), a queue of *events* that has a place for every source, and room for posted values.
//!
//! From the outside in:
//! - [`Loop`] is the loop with typed handlers: `fn(&mut App, &Loop<App>, Event)`. It also has the pull form
//!   ([`Loop::poll`], [`Loop::next`]) for programs that keep control themselves.
//! - the C ABI (feature `capi`, header `include/becket.h`) is the same loop for C.
//! - [`Simulator`] is a system that is not there, in which programs are tested: on virtual time, under faults.
//! - below both, an engine that never calls user code goes through four phases: prepare, wait, collect, next.
//! - below that, a backend says what is ready: select or poll.
//!
//! ```
//! use becket::{Config, Duration, Event, Loop, Storage};
//!
//! struct App { ticks: u32 }
//!
//! fn on_tick(app: &mut App, event_loop: &Loop<App>, event: Event) {
//!     app.ticks += 1;
//!     if app.ticks == 3 {
//!         event_loop.remove(event.source).expect("the timer is alive");
//!     }
//! }
//!
//! let mut storage = Storage::<8, 0>::new();
//! let event_loop = Loop::new(&mut storage, &Config::default())?;
//! event_loop.add_timer(Duration::from_millis(1), Duration::from_millis(1), on_tick, 0)?;
//! let mut app = App { ticks: 0 };
//! event_loop.run(&mut app)?; // returns when nothing is left to wait for
//! assert_eq!(app.ticks, 3);
//! # Ok::<(), becket::Error>(())
//! ```
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(not(target_has_atomic = "64"))]
compile_error!("becket needs atomic operations of 64 bits: a generation and a wake are one word");

#[cfg(feature = "operations")]
mod aio;
mod atomic;
mod backend;
mod engine;
mod error;
#[cfg(feature = "capi")]
pub mod ffi;
mod front;
mod handle;
#[cfg(feature = "operations")]
mod ops;
mod process;
mod ready;
#[cfg(feature = "operations")]
mod request;
mod ring;
mod storage;
#[cfg(feature = "streams")]
mod streams;
mod sys;
mod time;

#[cfg(feature = "operations")]
pub use aio::Aio;
pub use backend::BackendChoice;
#[cfg(feature = "simulator")]
pub use backend::{Call, Quirk, Simulator, SimulatorMemory};
pub use engine::{Config, Event, Statistics};
#[cfg(feature = "streams")]
pub use engine::{StreamEvent, streams::Sent};
pub use error::{Error, Result};
#[cfg(feature = "streams")]
pub use front::ListenOptions;
#[cfg(feature = "operations")]
pub use front::{Buffer, Message, Part, Path, Vectors};
pub use front::{Handler, IoOptions, Loop, Outcome, Pool, Stopper, Waker, Watch};
#[cfg(feature = "streams")]
pub use front::{Received, SendRequest};
pub use handle::{Handle, Kind, Kinds};
#[cfg(feature = "operations")]
pub use ops::{Address, FileStatus, FilesChoice, OpenHow};
pub use ready::Ready;
pub use ring::Ring;
pub use storage::{StaticStorage, Storage};
#[cfg(feature = "streams")]
pub use streams::Streams;
pub use time::{Duration, Instant};

/// Compiles the Rust program of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
