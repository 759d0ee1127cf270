//! Which of so many equal places are free: a list through the places themselves, and a mark above which none was ever taken,
//! so that zeros are an empty pool and a large one costs only the pages that are used.

use crate::error::{Error, Result};

/// Of a place that is taken. Of a free one: the next free place, plus one.
const TAKEN: u32 = u32::MAX;

/// The places of a pool. The links are the caller's, one for each place.
#[derive(Clone, Copy, Default)]
pub(crate) struct Places {
    /// The first free place that was taken before, plus one; 0: none.
    pub(crate) free: u32,
    /// Above it none was ever taken.
    pub(crate) mark: u32,
    /// How many are taken.
    pub(crate) taken: u32,
}

impl Places {
    pub(crate) const EMPTY: Places = Places { free: 0, mark: 0, taken: 0 };

    /// Whether the numbers are possible for so many places. O(1).
    #[cfg(feature = "capi")]
    pub(crate) fn is_valid(&self, count: u32) -> bool {
        self.mark <= count && self.free <= self.mark && self.taken <= self.mark
    }

    /// Takes a place. ENOBUFS: none is left. O(1).
    pub(crate) fn take(&mut self, links: &mut [u32]) -> Result<usize> {
        let place = match self.free.checked_sub(1) {
            Some(place) => place as usize,
            None => self.mark as usize,
        };
        let link = links.get_mut(place).ok_or(Error::NO_BUFFERS)?;
        if self.free == 0 {
            self.mark += 1;
        } else {
            self.free = *link;
        }
        *link = TAKEN;
        self.taken += 1;
        Ok(place)
    }

    /// Whether a place is taken. O(1).
    pub(crate) fn is_taken(&self, links: &[u32], place: usize) -> bool {
        place < self.mark as usize && links.get(place) == Some(&TAKEN)
    }

    /// Gives a place back. ESTALE: it is not taken. O(1).
    pub(crate) fn give(&mut self, links: &mut [u32], place: usize) -> Result<()> {
        if !self.is_taken(links, place) {
            return Err(Error::STALE);
        }
        links[place] = self.free;
        self.free = place as u32 + 1;
        self.taken -= 1;
        Ok(())
    }
}
