//! What reaches a loop from outside its thread: other threads, signal handlers, the ends of children, forks.
//!
//! Nothing here knows the engine; it deals in source numbers, and in the one region of a loop's memory that others
//! may touch, [`shared::Shared`].

pub(crate) mod children;
pub(crate) mod shared;
pub(crate) mod signals;
