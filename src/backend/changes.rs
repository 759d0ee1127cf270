//! What was changed since the kernel was last told: each place once, however often its registration changed.

use super::{Registration, Registrations};
use core::mem::take;

/// In the state of a registration: it is among the changes.
pub(super) const CHANGED: u16 = 1 << 15;

/// Places that are remembered one by one.
const ROOM: usize = 32;

/// A set of places. Up to 32 are a list. When there are more, the marks in the registrations are searched, O(n): after
/// as many changes, each of which costs a system call or an entry of a ring, that is no more than they cost themselves.
pub(super) struct Changes {
    places: [u32; ROOM],
    count: u32,
    /// Those that are not in the list lie below this place: not only among the ones that are watched now, for a place may
    /// have been left since.
    more: u32,
}

impl Changes {
    pub(super) const fn new() -> Changes {
        Changes { places: [0; ROOM], count: 0, more: 0 }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0 && self.more == 0
    }

    /// Adds a place. O(1).
    pub(super) fn note(&mut self, registration: &mut Registration, place: u32) {
        if registration.state & CHANGED != 0 {
            return;
        }
        registration.state |= CHANGED;
        match self.places.get_mut(self.count as usize) {
            Some(free) => {
                *free = place;
                self.count += 1;
            }
            None => self.more = self.more.max(place + 1),
        }
    }

    /// Adds all of the first `count` places.
    #[cfg(any(epoll, io_uring))]
    pub(super) fn note_all(&mut self, registrations: &mut Registrations, count: u32) {
        for registration in registrations.first_mut(count) {
            registration.state |= CHANGED;
        }
        self.more = self.more.max(count);
    }

    /// Takes each place out and calls `apply`, which says whether that is done with; if not, it comes again next time.
    /// O(changes), or O(registrations) when there were many.
    pub(super) fn apply(
        &mut self,
        registrations: &mut Registrations,
        mut apply: impl FnMut(&mut Registrations, u32) -> bool,
    ) {
        let listed = take(&mut self.count);
        let mut each = |changes: &mut Changes, registrations: &mut Registrations, place: u32| {
            registrations[place].state &= !CHANGED;
            if !apply(registrations, place) {
                // No longer list than before: each of the listed ones has left its place in it.
                changes.note(&mut registrations[place], place);
            }
        };
        for at in 0..listed {
            let place = self.places[at as usize];
            if registrations[place].state & CHANGED != 0 {
                each(self, registrations, place);
            }
        }
        let below = take(&mut self.more);
        if below > 0 {
            let again = self.count;
            for place in 0..below {
                let told = (0..again).any(|at| self.places[at as usize] == place);
                if registrations[place].state & CHANGED != 0 && !told {
                    each(self, registrations, place);
                }
            }
        }
    }
}
