//! Deadlines: a 4-ary heap in a fixed array, one place a source.
//!
//! The deadline is beside the index, so that sifting reads the heap alone; only equal deadlines look at the sources,
//! for arming order. O(log n) to arm, move and cancel, O(1) to look at the first.
//! Sources: Williams, "Heapsort" (1964); LaMarca and Ladner, "The Influence of Caches on the Performance of Heaps".

use super::lists::Lists;
use super::region::Region;
use super::slot::NIL;
use crate::time::Instant;

/// Twelve bytes: the deadline in two halves, so that no padding follows the index.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Entry {
    low: u32,
    high: u32,
    index: u32,
}

impl Entry {
    fn new(deadline: Instant, index: u32) -> Entry {
        let nanos = deadline.as_nanos();
        Entry { high: (nanos >> 32) as u32, low: nanos as u32, index }
    }

    #[inline]
    fn nanos(self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }
}

pub(crate) struct Deadlines {
    entries: Region<Entry>,
    count: u32,
}

const CHILDREN: u32 = 4;

impl Deadlines {
    pub(crate) fn new(entries: Region<Entry>) -> Deadlines {
        Deadlines { entries, count: 0 }
    }

    /// The first deadline and its source. O(1).
    #[inline]
    pub(crate) fn first(&self) -> Option<(Instant, u32)> {
        (self.count > 0).then(|| {
            let entry = self.entries[0];
            (Instant::from_nanos(entry.nanos()), entry.index)
        })
    }

    /// The deadline that stands in the heap for this source. O(1).
    pub(crate) fn get(&self, lists: &Lists, index: u32) -> Instant {
        match lists.slots[index].heap_place() {
            NIL => Instant::NEVER,
            place => Instant::from_nanos(self.entries[place].nanos()),
        }
    }

    /// Sets, moves or (NEVER) cancels the deadline of a source. O(log n).
    pub(crate) fn set(&mut self, lists: &mut Lists, index: u32, deadline: Instant) {
        let place = lists.slots[index].heap_place();
        if deadline == Instant::NEVER {
            if place != NIL {
                self.remove(lists, place);
            }
            return;
        }
        let place = if place == NIL {
            self.count += 1;
            self.count - 1
        } else {
            place
        };
        self.entries[place] = Entry::new(deadline, index);
        self.settle(lists, place);
    }

    fn remove(&mut self, lists: &mut Lists, place: u32) {
        lists.slots[self.entries[place].index].set_heap_place(NIL);
        self.count -= 1;
        if place < self.count {
            self.entries[place] = self.entries[self.count];
            self.settle(lists, place);
        }
    }

    /// Whether `a` goes before `b`. Arming order is a counter that wraps, so it compares by difference.
    #[inline]
    fn before(lists: &Lists, a: Entry, b: Entry) -> bool {
        if a.nanos() == b.nanos() { Self::armed_before(lists, a, b) } else { a.nanos() < b.nanos() }
    }

    #[cold]
    #[inline(never)]
    fn armed_before(lists: &Lists, a: Entry, b: Entry) -> bool {
        let order = |entry: Entry| lists.arming_order(entry.index);
        match (order(a), order(b)) {
            (Some(a), Some(b)) => (a.wrapping_sub(b) as i32) < 0,
            (a, b) => a.is_some() && b.is_none(),
        }
    }

    /// Moves the entry at `place` up or down to where it belongs.
    #[inline(never)]
    fn settle(&mut self, lists: &mut Lists, mut place: u32) {
        let entry = self.entries[place];
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            let above = self.entries[parent];
            if !Self::before(lists, entry, above) {
                break;
            }
            self.put(lists, place, above);
            place = parent;
        }
        while let Some((least, below)) = self.least_child(lists, place) {
            if !Self::before(lists, below, entry) {
                break;
            }
            self.put(lists, place, below);
            place = least;
        }
        self.put(lists, place, entry);
    }

    /// The child of a place that goes first, and where it is.
    #[inline]
    fn least_child(&self, lists: &Lists, place: u32) -> Option<(u32, Entry)> {
        let first = place * CHILDREN + 1;
        if first >= self.count {
            return None;
        }
        let four =
            if cfg!(becket_small) { None } else { self.entries.first(self.count)[first as usize..].first_chunk() };
        let least = four.and_then(|four| Some(first + Self::least_of_four(four)?));
        let least = least.unwrap_or_else(|| self.least_of(lists, first));
        Some((least, self.entries[least]))
    }

    /// Which of them goes first, without branches that the processor could not foretell. `None`: some are equal.
    #[inline]
    fn least_of_four(four: &[Entry; CHILDREN as usize]) -> Option<u32> {
        let [a, b, c, d] = four.map(Entry::nanos);
        let (low, high) = (u32::from(b < a), 2 + u32::from(d < c));
        let (x, y) = (a.min(b), c.min(d));
        (a != b && c != d && x != y).then_some(if y < x { high } else { low })
    }

    #[cfg_attr(not(becket_small), inline(never))]
    fn least_of(&self, lists: &Lists, first: u32) -> u32 {
        let mut least = first;
        for child in first + 1..self.count.min(first + CHILDREN) {
            if Self::before(lists, self.entries[child], self.entries[least]) {
                least = child;
            }
        }
        least
    }

    #[inline]
    fn put(&mut self, lists: &mut Lists, place: u32, entry: Entry) {
        self.entries[place] = entry;
        lists.slots[entry.index].set_heap_place(place);
    }
}
