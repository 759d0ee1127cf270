//! Names of sources, and wakes from other threads: one atomic word a source, and a stack of those that were woken.
//!
//! This is the one part of a loop's memory that other threads and signal handlers touch. It is only ever shared.
//!
//! ```text
//! word:   generation (39 bits) | link (24 bits) | pending (1 bit)
//!
//!              wake                  wake pushes it             collect takes the stack
//!   link 0 ───────────► link END, pending ───────► on the stack ───────────► link 0
//!                            ▲ │ wake: pending already, nothing to do
//!                            │ │ removal: the next generation, not pending, the link stays
//!                            │ │ reuse: the next generation, all else stays
//!                            └─┘ wake of the new owner: pending; whoever set the link pushes, once
//! ```
//!
//! The generation of a source is odd, that of a free slot even: so a handle is stale until its source comes, as it is
//! after that has gone. A wake is one compare-and-swap of generation and pending bit together: a stale handle is
//! refused even when it races with removal and reuse. The link, not the pending bit, says who pushes: so a word is on
//! the stack at most once, whatever happens to its slot. Pushing and taking all are a Treiber stack without its ABA
//! problem, which only taking single nodes has. Source: Treiber, "Systems Programming: Coping with Parallelism" (1986).
#![allow(unsafe_code)]

use super::region::Region;
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::handle::Handle;
use core::ops::Range;

/// Bits of the index in a handle and in a link.
pub(crate) const INDEX_BITS: u32 = 24;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const PENDING: u64 = 1;
const LINK_SHIFT: u32 = 1;
const GENERATION_SHIFT: u32 = LINK_SHIFT + INDEX_BITS;
const GENERATION_MASK: u64 = u64::MAX >> GENERATION_SHIFT;
/// In a generation: it is a source's.
const OWNED: u64 = 1;
/// The last of the stack, or not yet on it.
const END: u64 = INDEX_MASK;

fn link(word: u64) -> u64 {
    word >> LINK_SHIFT & INDEX_MASK
}

fn with_link(word: u64, link: u64) -> u64 {
    word & !(INDEX_MASK << LINK_SHIFT) | link << LINK_SHIFT
}

/// The words of all sources, and the top of the stack.
pub(crate) struct Names {
    words: Region<AtomicU64>,
    /// How many of them are sources'. Those behind them name what the loop watches for itself, and are nobody's to wake.
    #[cfg(feature = "operations")]
    sources: u32,
    /// Slot number plus one; zero: empty.
    woken: AtomicU32,
    /// Slots below this one have a name, and so do those from the next on; the words between hold anything.
    low: AtomicU32,
    high: AtomicU32,
    /// The highest generation of any slot, from when it was used first or retired.
    highest: AtomicU64,
}

// SAFETY: the region holds atomics, and a `Names` gives out no other access to it.
unsafe impl Sync for Names {}
// SAFETY: likewise; the memory is bound to no thread.
unsafe impl Send for Names {}

/// The loop's own side. One thread at a time.
impl Names {
    /// The most sources that there can be: two values of a link are taken.
    pub(crate) const SOURCES_MAX: usize = INDEX_MASK as usize - 2;

    pub(crate) fn new(words: Region<AtomicU64>, sources: u32) -> Names {
        let high = AtomicU32::new(sources);
        Names {
            words,
            #[cfg(feature = "operations")]
            sources,
            woken: AtomicU32::new(0),
            low: AtomicU32::new(0),
            high,
            highest: AtomicU64::new(0),
        }
    }

    /// Names the source in the first or the last slot that has no name, by this generation or the next; memory may hold
    /// anything before that.
    pub(crate) fn first(&self, index: u32, generation: u64) {
        let generation = (generation | OWNED) & GENERATION_MASK;
        self.words[index].store(generation << GENERATION_SHIFT, Ordering::Relaxed);
        self.raise(generation);
        if index == self.unnamed().start {
            self.low.store(index + 1, Ordering::Release);
        } else {
            debug_assert!(index + 1 == self.unnamed().end);
            self.high.store(index, Ordering::Release);
        }
    }

    /// Names the next source in a slot that was retired. Nothing of it is pending.
    pub(crate) fn take(&self, index: u32) {
        let before = self.words[index].fetch_or(OWNED << GENERATION_SHIFT, Ordering::Relaxed);
        debug_assert!(before >> GENERATION_SHIFT & OWNED == 0);
    }

    /// How many sources there can be.
    #[inline]
    pub(crate) fn sources(&self) -> u32 {
        #[cfg(feature = "operations")]
        return self.sources;
        #[cfg(not(feature = "operations"))]
        return self.words.len() as u32;
    }

    /// The first slot from `index` on that has a name. Together with the slots behind it: all that ever were used.
    pub(crate) fn named_from(&self, index: u32) -> Option<u32> {
        let unnamed = self.unnamed();
        let index = if unnamed.contains(&index) { unnamed.end } else { index };
        (index < self.sources()).then_some(index)
    }

    /// The slots that have no name yet.
    #[inline]
    pub(crate) fn unnamed(&self) -> Range<u32> {
        self.low.load(Ordering::Acquire)..self.high.load(Ordering::Acquire)
    }

    /// The slot in a handle, if a source can have that handle: there is such a slot, and it has a name.
    #[inline]
    fn named(&self, handle: Handle) -> Option<u32> {
        let index = index_of(handle)?;
        let is_owned = handle.raw() >> INDEX_BITS & OWNED != 0;
        (is_owned && !self.unnamed().contains(&index) && index < self.sources()).then_some(index)
    }

    /// Names what the loop watches for itself; memory may hold anything before that.
    #[cfg(feature = "operations")]
    pub(crate) fn watch(&self, index: u32, generation: u64) {
        debug_assert!(index >= self.sources);
        self.words[index].store((generation & GENERATION_MASK) << GENERATION_SHIFT, Ordering::Relaxed);
        self.raise(generation & GENERATION_MASK);
    }

    /// The handle of a slot that keeps its generation elsewhere.
    #[cfg(feature = "operations")]
    pub(crate) fn handle_of(index: u32, generation: u64) -> Handle {
        Handle::from_raw((generation & GENERATION_MASK) << INDEX_BITS | u64::from(index + 1))
    }

    /// The slot in a handle, whatever it is of, and the generation.
    #[cfg(feature = "operations")]
    pub(crate) fn parts_of(handle: Handle) -> Option<(u32, u64)> {
        Some((index_of(handle)?, handle.raw() >> INDEX_BITS))
    }

    /// The generation behind this one.
    #[cfg(feature = "operations")]
    pub(crate) fn generation_after(&self, generation: u64) -> u64 {
        let next = (generation + 1) & GENERATION_MASK;
        self.raise(next);
        next
    }

    fn raise(&self, generation: u64) {
        if generation > self.highest.load(Ordering::Relaxed) {
            self.highest.store(generation, Ordering::Relaxed);
        }
    }

    /// The generation that belongs to a moment.
    pub(crate) fn generation_at(nanos: u64) -> u64 {
        nanos >> 10 & GENERATION_MASK
    }

    /// A generation that no handle has had. O(1).
    pub(crate) fn next_generation(&self) -> u64 {
        // A slot that was taken again is one ahead of when it was retired.
        self.highest.load(Ordering::Relaxed) + 2
    }

    /// The handle of the source in a slot. (Of a free slot: nobody's.)
    #[inline]
    pub(crate) fn handle(&self, index: u32) -> Handle {
        let generation = self.words[index].load(Ordering::Relaxed) >> GENERATION_SHIFT;
        Handle::from_raw(generation << INDEX_BITS | u64::from(index + 1))
    }

    /// Whether a handle that this loop once gave is of the source that is at its place now.
    #[inline]
    pub(crate) fn is_of(&self, place: u32, handle: Handle) -> bool {
        let word = self.words.get(place.wrapping_sub(1) as usize);
        // The generation stands above the index as it does above the link.
        word.is_some_and(|it| (it.load(Ordering::Relaxed) >> LINK_SHIFT ^ handle.raw()) >> INDEX_BITS == 0)
    }

    /// The slot that a handle named until now: its source has left it, and no other has come.
    #[cfg(feature = "streams")]
    pub(crate) fn left(&self, handle: Handle) -> Option<u32> {
        let generation = (handle.raw() >> INDEX_BITS).wrapping_add(1) & GENERATION_MASK;
        self.named(handle).filter(|index| self.handle(*index).raw() >> INDEX_BITS == generation)
    }

    /// The place of a handle: its slot plus one; 0: of no source.
    #[inline]
    pub(crate) fn place_of(handle: Handle) -> u32 {
        (handle.raw() & INDEX_MASK) as u32
    }

    /// The slot that a handle names, if its source is still there.
    #[inline]
    pub(crate) fn resolve(&self, handle: Handle) -> Option<u32> {
        self.named(handle).filter(|index| self.handle(*index) == handle)
    }

    /// Frees a slot: all handles of it are stale from here on, and a wake that was pending is dropped.
    pub(crate) fn retire(&self, index: u32) {
        let word = &self.words[index];
        // Others change the low bits of the word alone.
        let generation = (word.load(Ordering::Relaxed) >> GENERATION_SHIFT).wrapping_add(1) & GENERATION_MASK;
        let next = |word: u64| Some(generation << GENERATION_SHIFT | link(word) << LINK_SHIFT);
        let _ = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next);
        self.raise(generation);
    }

    /// Whether somebody was woken since the last [`Names::take_woken`].
    pub(crate) fn any_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst) != 0
    }

    /// The same at a glance: what comes in this very moment is seen before the next sleep.
    #[inline]
    pub(crate) fn seem_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed) != 0
    }

    /// Calls `each` with every slot that was woken and still is what it was then. O(woken).
    pub(crate) fn take_woken(&self, mut each: impl FnMut(u32)) {
        let mut at = u64::from(self.woken.swap(0, Ordering::AcqRel));
        while at != 0 && at != END {
            let index = at as u32 - 1;
            let word = self.words[index]
                .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| Some(with_link(word, 0) & !PENDING));
            let (Ok(word) | Err(word)) = word;
            at = link(word);
            if word & PENDING != 0 {
                each(index);
            }
        }
    }
}

/// What a wake found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// The handle is stale.
    Stale,
    /// It is pending already: that delivery is this one's too.
    Already,
    /// It is pending now: the loop must learn of it.
    First,
}

/// The side of other threads and signal handlers: lock-free, no system call.
impl Names {
    pub(crate) fn wake(&self, handle: Handle) -> Woken {
        let Some(index) = self.named(handle) else { return Woken::Stale };
        let word = &self.words[index];
        let generation = handle.raw() >> INDEX_BITS;
        let pend = |word: u64| {
            let link = if link(word) == 0 { END } else { link(word) };
            (word >> GENERATION_SHIFT == generation).then(|| with_link(word, link) | PENDING)
        };
        match word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, pend) {
            Err(_) => Woken::Stale,
            Ok(before) if link(before) == 0 => {
                self.push(index, word);
                Woken::First
            }
            Ok(before) if before & PENDING == 0 => Woken::First,
            Ok(_) => Woken::Already,
        }
    }

    /// Only who moved the link away from zero comes here, so the word is on no stack.
    fn push(&self, index: u32, word: &AtomicU64) {
        let mut top = self.woken.load(Ordering::Relaxed);
        loop {
            let below = if top == 0 { END } else { u64::from(top) };
            let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| Some(with_link(word, below)));
            match self.woken.compare_exchange_weak(top, index + 1, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }
}

fn index_of(handle: Handle) -> Option<u32> {
    ((handle.raw() & INDEX_MASK) as u32).checked_sub(1)
}
