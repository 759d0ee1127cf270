//! What is to happen, by its time: a binary heap in the caller's memory. What comes at one time comes in the order in
//! which it was asked for.

use super::Ready;
use crate::error::Error;
use crate::storage::region::Region;
use crate::time::Instant;

/// What happens to a file.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// Its readiness is this from now on.
    Ready(Ready),
    /// A random file changes.
    Change,
    /// Its readiness is told from now on.
    Tell,
    /// A connection to a listening file is there, or is refused.
    Connect { listener: u32, generation: u32 },
    /// It is not.
    Fail(Error),
    /// A connection breaks off.
    Reset,
}

#[derive(Clone, Copy)]
#[repr(align(8))] // its size is a multiple of that, also where u64 has an alignment of four
pub(super) struct Event {
    pub(super) at: Instant,
    order: u64,
    pub(super) file: u32,
    /// Of the file: an event does not reach the next owner of its place.
    pub(super) generation: u32,
    pub(super) what: What,
}

impl Event {
    pub(super) const NONE: Event = Event { at: Instant::NEVER, order: 0, file: 0, generation: 0, what: What::Change };
}

pub(super) struct Schedule {
    events: Region<Event>,
    count: u32,
    order: u64,
}

impl Schedule {
    pub(super) fn new(events: Region<Event>) -> Schedule {
        Schedule { events, count: 0, order: 0 }
    }

    /// The time of the first event; NEVER: there is none. O(1).
    pub(super) fn first(&self) -> Instant {
        if self.count == 0 { Instant::NEVER } else { self.events[0].at }
    }

    pub(super) fn is_full(&self) -> bool {
        self.count as usize == self.events.len()
    }

    /// Adds an event where there is room: see [`Schedule::is_full`]. O(log n).
    pub(super) fn push(&mut self, at: Instant, file: u32, generation: u32, what: What) {
        let mut place = self.count;
        self.count += 1;
        self.order += 1;
        let event = Event { at, order: self.order, file, generation, what };
        while place > 0 {
            let above = (place - 1) / 2;
            if !self.before(&event, above) {
                break;
            }
            self.events[place] = self.events[above];
            place = above;
        }
        self.events[place] = event;
    }

    /// Takes the first event out. O(log n).
    pub(super) fn pop(&mut self) -> Option<Event> {
        let first = *self.events.first(self.count).first()?;
        self.count -= 1;
        let last = self.events[self.count];
        let mut place = 0;
        loop {
            let mut below = 2 * place + 1;
            if below + 1 < self.count && self.before(&self.events[below + 1], below) {
                below += 1;
            }
            if below >= self.count || self.before(&last, below) {
                break;
            }
            self.events[place] = self.events[below];
            place = below;
        }
        self.events[place] = last;
        Some(first)
    }

    fn before(&self, event: &Event, place: u32) -> bool {
        let other = &self.events[place];
        (event.at, event.order) < (other.at, other.order)
    }
}
