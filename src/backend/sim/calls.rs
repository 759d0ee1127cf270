//! What a program does with a simulator.

use super::memory::Simulator;
use super::schedule::What;
use super::state::{Sort, State};
use super::{Ready, SimulatorRef};
use crate::error::{Error, Result};
use crate::time::{Duration, Instant};

impl State {
    pub(super) fn advance(&mut self, span: Duration) {
        self.now = self.now + span.min(Duration::from_nanos(u64::MAX - 1));
    }

    /// The file of a descriptor whose readiness is a matter of the script. EBADF; EINVAL: it is of another sort.
    fn scripted(&self, fd: i32) -> Result<u32> {
        let file = self.file(fd)?;
        match self.files[file].sort {
            Sort::Scripted => Ok(file),
            _ => Err(Error::INVALID),
        }
    }
}

/// Time.
impl Simulator<'_> {
    /// The time now: it begins at one second. O(1).
    #[must_use]
    pub fn now(self) -> Instant {
        SimulatorRef::now(self.state)
    }

    /// Moves time on, as a handler does that works for so long. What happens meanwhile is found in the next wait. O(1).
    pub fn advance(self, span: Duration) -> Result<()> {
        self.state.with(|state| {
            state.advance(span);
            Ok(())
        })
    }
}

/// Descriptors. EMFILE, ENFILE: there is no room for another; EBADF: it is not open; EPERM: another thread made the simulator.
impl Simulator<'_> {
    /// A descriptor that is ready as the program says: not at all, at first. O(descriptors).
    pub fn scripted(self) -> Result<i32> {
        self.state.with(|state| state.open(Sort::Scripted))
    }

    /// A descriptor that becomes ready for this or that, and ceases to be, at random: each lasts from 1 ns to twice `mean`.
    /// It takes one event for itself. O(descriptors).
    pub fn random(self, mean: Duration) -> Result<i32> {
        self.state.with(|state| {
            if state.schedule.is_full() {
                return Err(Error::TABLE_FULL);
            }
            state.open(Sort::Random(mean.as_nanos()))
        })
    }

    /// A regular file: EPERM to who would watch it. O(descriptors).
    pub fn regular(self) -> Result<i32> {
        self.state.with(|state| state.open(Sort::Regular))
    }

    /// A device that never blocks, as /dev/null: always ready. O(descriptors).
    pub fn null(self) -> Result<i32> {
        self.state.with(|state| state.open(Sort::Null))
    }

    /// Closes a descriptor; the number is free for the next. O(1).
    pub fn close(self, fd: i32) -> Result<()> {
        self.state.with(|state| state.close(fd))
    }

    /// What a descriptor is ready for at this moment. O(1).
    pub fn ready(self, fd: i32) -> Result<Ready> {
        self.state.with(|state| Ok(state.ready(state.file(fd)?)))
    }

    /// A scripted descriptor is ready for this, and nothing else, from now on. EINVAL: it is of another sort, or no readiness
    /// of a descriptor. O(1).
    pub fn set_ready(self, fd: i32, ready: Ready) -> Result<()> {
        self.state.with(|state| {
            let file = state.scripted(fd)?;
            of_fd(ready)?;
            state.set_ready(file, ready);
            Ok(())
        })
    }

    /// The same at a point in time. ENOSPC: there is no room for another event. O(log n).
    pub fn ready_at(self, fd: i32, at: Instant, ready: Ready) -> Result<()> {
        self.state.with(|state| {
            let file = state.scripted(fd)?;
            of_fd(ready)?;
            state.at(at, file, What::Ready(ready))
        })
    }
}

fn of_fd(ready: Ready) -> Result<()> {
    if Ready::OF_FD.contains(ready) { Ok(()) } else { Err(Error::INVALID) }
}
