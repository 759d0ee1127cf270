//! The atomics of what other threads and signal handlers touch: the one place where they come from, so that
//! `tests/loom` can put loom's in their place.

pub(crate) use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// A static table of so many equal entries. (loom makes its atomics when a test runs, and so its tables too.)
macro_rules! table {
    ($(#[$doc:meta])* static $name:ident: [$entry:ty; $count:expr] = $value:expr) => {
        $(#[$doc])* static $name: [$entry; $count] = [const { $value }; $count];
    };
}
pub(crate) use table;
