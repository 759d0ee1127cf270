//! From an fd to its source: a hash table with linear probing, four bytes a source.
//!
//! Entries are 24-bit slot numbers; there are 4 for every 3 sources, so that (from 3 sources on) the table is never more
//! than three quarters full. O(1) expected to find, insert and remove; removal
//! shifts back what follows, so there are no tombstones. Source: Knuth, TAOCP 3, 6.4, algorithm R.

use super::region::Region;
use crate::ready::Registration;

/// A slot number plus one, little-endian; zero is an empty place.
pub(crate) type Entry = [u8; 3];

/// Where the fd of each entry stands.
pub(crate) trait FdOf {
    fn fd_of(&self, index: u32) -> i32;
}

/// That of a source: in its registration.
impl FdOf for Region<Registration> {
    #[inline]
    fn fd_of(&self, index: u32) -> i32 {
        self[index + 1].fd()
    }
}

pub(crate) struct FdIndex {
    entries: Region<Entry>,
}

impl FdIndex {
    /// Entries for `sources` sources: what fits in four bytes each.
    pub(crate) const fn entries(sources: usize) -> usize {
        sources * 4 / 3
    }

    pub(crate) fn new(mut entries: Region<Entry>) -> FdIndex {
        // Only what is not zero is written: memory that was never touched stays that way.
        for entry in entries.iter_mut().filter(|entry| **entry != [0; 3]) {
            *entry = [0; 3];
        }
        FdIndex { entries }
    }

    /// Places in the table: below 2^25.
    fn places(&self) -> u32 {
        self.entries.len() as u32
    }

    fn home(&self, fd: i32) -> u32 {
        // Fibonacci hashing, Knuth 6.4: dense fds come to lie far apart, and a product takes the place of a division.
        let spread = fd.cast_unsigned().wrapping_mul(2_654_435_769);
        ((u64::from(spread) * u64::from(self.places())) >> 32) as u32
    }

    fn after(&self, place: u32) -> u32 {
        if place + 1 == self.places() { 0 } else { place + 1 }
    }

    /// How far behind `from` a place is, around the end.
    fn distance(&self, from: u32, place: u32) -> u32 {
        if place >= from { place - from } else { place + self.places() - from }
    }

    fn at(&self, place: u32) -> Option<u32> {
        let [a, b, c] = self.entries[place];
        u32::from_le_bytes([a, b, c, 0]).checked_sub(1)
    }

    /// The place of the fd, or else the empty one where it would go; `None` when there is neither.
    #[inline(never)]
    fn probe(&self, fd: i32, fds: &impl FdOf) -> Option<(u32, Option<u32>)> {
        if self.entries.is_empty() {
            return None;
        }
        let mut place = self.home(fd);
        for _ in 0..self.places() {
            match self.at(place) {
                Some(index) if fds.fd_of(index) != fd => place = self.after(place),
                found => return Some((place, found)),
            }
        }
        None
    }

    /// The source of an fd.
    pub(crate) fn find(&self, fd: i32, fds: &impl FdOf) -> Option<u32> {
        self.probe(fd, fds)?.1
    }

    /// Enters an fd that is not there. There is room for one of every source.
    pub(crate) fn insert(&mut self, fd: i32, index: u32, fds: &impl FdOf) {
        if let Some((place, None)) = self.probe(fd, fds) {
            let [a, b, c, _] = (index + 1).to_le_bytes();
            self.entries[place] = [a, b, c];
        } else {
            debug_assert!(false, "the fd is there already, or the index is full");
        }
    }

    /// Another index for an fd that is there.
    #[cfg(feature = "operations")]
    pub(crate) fn replace(&mut self, fd: i32, index: u32, fds: &impl FdOf) {
        if let Some((place, Some(_))) = self.probe(fd, fds) {
            let [a, b, c, _] = (index + 1).to_le_bytes();
            self.entries[place] = [a, b, c];
        }
    }

    /// Forgets an fd.
    pub(crate) fn remove(&mut self, fd: i32, fds: &impl FdOf) {
        let Some((mut hole, Some(_))) = self.probe(fd, fds) else { return };
        self.entries[hole] = [0; 3];
        let mut place = self.after(hole);
        while let Some(index) = self.at(place) {
            // What stands behind the hole moves into it, unless its home lies between the two.
            let home = self.home(fds.fd_of(index));
            if self.distance(home, place) >= self.distance(hole, place) {
                self.entries[hole] = self.entries[place];
                self.entries[place] = [0; 3];
                hole = place;
            }
            place = self.after(place);
        }
    }
}
