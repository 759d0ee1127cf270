//! What a loop counts.

use crate::handle::Kind;

/// Counters of one loop since it was made, and what it holds now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Collections made.
    pub turns: u64,
    /// Events delivered, by kind: see [`Statistics::events_of`].
    pub(crate) events: [u64; Kind::COUNT],
    /// Nanoseconds spent in the wait.
    pub waiting_ns: u64,
    /// Nanoseconds spent outside of it.
    pub working_ns: u64,
    /// Posts that were refused because all places were taken.
    pub posts_refused: u64,
    /// Events that were queued and then concerned nobody: a direction modified away, a source removed under a post.
    pub stale_dropped: u64,
    /// Operations that were submitted.
    pub operations: u64,
    /// Those of them that were made at once though they may block: openat, statx and close without a ring; with
    /// POSIX AIO also reading and writing at a file's own position, and fsync of what is open for reading alone.
    pub operations_inline: u64,
    /// Events queued now.
    pub queued: u32,
    /// The most that were ever queued at once.
    pub queued_max: u32,
    /// Sources in use.
    pub sources: u32,
    /// Room for sources.
    pub sources_max: u32,
    /// Posts on their way.
    pub posts: u32,
    /// Room for posts.
    pub posts_max: u32,
    /// Operations in flight: submitted, and not delivered.
    pub operations_now: u32,
    /// Room for operations.
    pub operations_max: u32,
}

impl Statistics {
    /// Events of one kind that were delivered.
    #[must_use]
    pub const fn events_of(&self, kind: Kind) -> u64 {
        self.events[kind as usize - 1]
    }
}
