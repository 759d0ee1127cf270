//! The memory of a loop: what is in it, how large it is, and the containers that it is cut into.
//!
//! One block, laid out once by [`Layout`]; everything that depends on a capacity is a [`Region`] of it, so the code
//! that uses it is compiled once for all capacities. Zeroed memory is valid, and so is any other: a slot is written
//! when it is first taken. Nothing here knows the operating system.
//!
//! The containers are our own, not heapless's: a view of one of those exists only for a capacity that is known when
//! becket is compiled, so a block of the program's choice would have to be rounded up to a power of two, and 600 sources
//! would take what 1024 do.

pub(crate) mod deadlines;
pub(crate) mod fd_index;
pub(crate) mod layout;
pub(crate) mod lists;
pub(crate) mod names;
#[cfg(feature = "operations")]
pub(crate) mod operations;
pub(crate) mod pool;
pub(crate) mod region;
#[cfg(feature = "streams")]
pub(crate) mod sends;
pub(crate) mod slot;
#[cfg(feature = "streams")]
pub(crate) mod streams;

pub(crate) use layout::{Block, Layout};
pub use layout::{StaticStorage, Storage};

#[cfg(test)]
mod tests;
