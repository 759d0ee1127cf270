//! What is watched for operations alone.

use super::Operations;
use crate::backend::{Backend, Mode, Ready, Registration};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Watches of fds that have no source. Their places stand behind the sources'.
impl Engine {
    /// Watches an fd. What the backend says of it; EAGAIN: there is no place. O(1) expected, O(operations) when most places are
    /// in use.
    pub(super) fn watch(&mut self, fd: i32, interest: Ready) -> Result<()> {
        let index = self.free_watch().ok_or(Error::AGAIN)?;
        self.backend.check(fd, index + 1, Mode::empty())?;
        self.blank_unused();
        let mode = if self.backend.has_oneshot() { Mode::ONESHOT } else { Mode::empty() };
        self.register(index, fd, interest, mode)?;
        self.fd_index.insert(fd, index, &self.registrations);
        Ok(())
    }

    /// A place for a watch: the lowest that is free, else a new one, else one that nobody waits for.
    fn free_watch(&mut self) -> Option<u32> {
        let Operations { first, places, places_low, .. } = self.operations;
        let found = (places_low..places).find(|number| self.registrations[first + number + 1].is_none());
        self.operations.places_low = found.unwrap_or(places);
        if let Some(number) = found {
            return Some(first + number);
        }
        if places < self.operations.max() {
            self.operations.places += 1;
            self.name_own(first + places);
            return Some(first + places);
        }
        for _ in 0..places {
            let index = first + self.operations.hand;
            self.operations.hand = if self.operations.hand + 1 == places { 0 } else { self.operations.hand + 1 };
            if !self.is_waited_for(self.registrations[index + 1].fd()) {
                self.unwatch(index);
                return Some(index);
            }
        }
        None
    }

    /// Watches an fd without a source no more.
    pub(super) fn unwatch(&mut self, index: u32) {
        self.fd_index.remove(self.registrations[index + 1].fd(), &self.registrations);
        self.unregister_own(index);
        let operations = &mut self.operations;
        operations.places_low = operations.places_low.min(index - operations.first);
    }

    /// Slots that were never used may hold anything, and stand in front of what is watched beyond the sources: from now on
    /// they hold no registration. Once; O(sources and operations).
    pub(super) fn blank_unused(&mut self) {
        if core::mem::replace(&mut self.operations.blank, true) {
            return;
        }
        let Operations { first, places, .. } = self.operations;
        let beyond = first + places..first + self.operations.max();
        for index in self.shared.names.unnamed().chain(beyond) {
            self.registrations[index + 1] = Registration::NONE;
        }
    }

    /// Names what the loop watches for itself, for the first time.
    pub(in crate::engine) fn name_own(&mut self, index: u32) {
        self.shared.names.watch(index, self.generation);
        self.registrations[index + 1] = Registration::NONE;
    }

    pub(super) fn unregister_own(&mut self, index: u32) {
        self.deregister(index, false);
        self.shared.names.retire(index);
    }

    /// The watch of an fd that is to have a source goes; whether there was one. Who waits for it has none for now.
    pub(in crate::engine) fn displace_watch(&mut self, fd: i32) {
        if let Some(index) = self.fd_index.find(fd, &self.registrations) {
            debug_assert!(self.is_beyond_sources(index));
            self.unwatch(index);
        }
    }

    /// An fd has a source from now on, with this interest: who waits for it shares its registration.
    pub(in crate::engine) fn share_source(&mut self, fd: i32, interest: Ready) {
        self.set_own_interest(fd, interest);
    }

    /// An fd has no source any more: who waits for it needs a watch of their own.
    pub(in crate::engine) fn watch_alone(&mut self, fd: i32) {
        let Some(first) = self.operations.first_waiter(fd) else { return };
        self.operations.at_mut(first).request.beside = 0;
        let Err(error) = self.watch(fd, self.directions_from(first)) else { return };
        // It is closed, or the system has no room: they learn of it.
        self.retry(fd, Ready::OF_FD);
        while let Some(first) = self.operations.first_waiter(fd) {
            self.leave(first);
            self.complete(first, -error.errno());
        }
    }
}
