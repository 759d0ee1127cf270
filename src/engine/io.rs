//! I/O sources: one for each fd.

use super::Engine;
use crate::backend::{Backend, Ready, Registration};
use crate::error::{Error, Result};
use crate::handle::{Handle, Kind};
use crate::storage::slot::{Target, bits};
use crate::sys;

/// What a new I/O source is to be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IoOptions {
    /// The interest becomes empty on delivery.
    pub oneshot: bool,
    /// The caller vouches that the fd is open and can be waited for: saves a system call.
    pub trusted: bool,
}

impl Engine {
    /// A source for an fd. EBADF; EPERM: a regular file, directory or block device; EEXIST: the fd has one; ENOSPC;
    /// EINVAL: bad interest, or an fd that this backend cannot watch. O(1) expected, one system call unless trusted.
    pub(crate) fn add_io(&mut self, fd: i32, interest: Ready, options: IoOptions, target: Target) -> Result<Handle> {
        check_interest(interest)?;
        if fd < 0 {
            return Err(Error::BAD_FD);
        }
        if self.find_index(fd).is_some() {
            return Err(Error::EXISTS);
        }
        let index = self.free_slot(Kind::Io)?;
        self.backend.check(fd, index + 1)?;
        if !options.trusted {
            sys::fd::check_pollable(fd)?;
        }
        self.occupy(index, Kind::Io, target);
        self.lists.links[index].set(bits::ONESHOT, options.oneshot);
        self.register(index, fd, interest);
        self.fd_index.insert(fd, index, &self.registrations);
        Ok(self.added(index))
    }

    /// The interest from now on; an empty one pauses the source. The same again changes nothing. O(1); O(log n) when
    /// a source with an idle timeout is paused or resumed.
    pub(crate) fn modify_io(&mut self, handle: Handle, interest: Ready, oneshot: Option<bool>) -> Result<()> {
        let index = self.resolve_kind(handle, Kind::Io)?;
        check_interest(interest)?;
        if let Some(oneshot) = oneshot {
            self.lists.links[index].set(bits::ONESHOT, oneshot);
        }
        self.set_interest(index, interest);
        Ok(())
    }

    /// Adds directions and takes others away; what is in both is taken away.
    pub(crate) fn change_io(&mut self, handle: Handle, set: Ready, clear: Ready) -> Result<()> {
        let index = self.resolve_kind(handle, Kind::Io)?;
        check_interest(set | clear)?;
        self.set_interest(index, (self.interest_of(index) | set) - clear);
        Ok(())
    }

    /// The source of an fd. ENOENT: it has none. O(1) expected.
    pub(crate) fn find_io(&self, fd: i32) -> Result<Handle> {
        self.find_index(fd).map(|index| self.shared.names.handle(index)).ok_or(Error::NOT_FOUND)
    }

    /// The fd of a source. O(1).
    pub(crate) fn io_fd(&self, handle: Handle) -> Result<i32> {
        Ok(self.fd_of(self.resolve_kind(handle, Kind::Io)?))
    }

    /// The interest of a source, and whether it is one-shot. O(1).
    pub(crate) fn io_interest(&self, handle: Handle) -> Result<(Ready, bool)> {
        let index = self.resolve_kind(handle, Kind::Io)?;
        Ok((self.interest_of(index), self.lists.links[index].has(bits::ONESHOT)))
    }

    /// Removes the source and closes its fd, with no system call but close(2).
    #[cfg(feature = "capi")]
    pub(crate) fn close_io(&mut self, handle: Handle) -> Result<()> {
        let index = self.resolve_kind(handle, Kind::Io)?;
        let fd = self.fd_of(index);
        self.remove_index(index);
        sys::fd::close(fd)
    }

    /// What a foreign loop has to watch: calls `each` with every fd and its interest. O(sources).
    pub(crate) fn each_watch(&self, mut each: impl FnMut(i32, Ready)) {
        for registration in self.registrations.first(self.watched + 1).iter().filter(|it| it.fd >= 0) {
            each(registration.fd, registration.interest());
        }
    }

    pub(super) fn fd_of(&self, index: u32) -> i32 {
        self.registrations[index + 1].fd()
    }

    pub(super) fn interest_of(&self, index: u32) -> Ready {
        self.registrations[index + 1].interest()
    }

    /// Begins to watch an fd.
    pub(super) fn register(&mut self, index: u32, fd: i32, interest: Ready) {
        self.phase.raced |= self.shared.is_asleep();
        self.watched = self.watched.max(index + 1);
        self.backend.set(&mut self.registrations[index + 1], fd, interest);
    }

    /// Leaves the last registrations out of the wait that have no fd. O(registrations).
    pub(super) fn trim_watched(&mut self) {
        while self.watched > 0 && self.registrations[self.watched] == Registration::NONE {
            self.watched -= 1;
        }
    }

    /// Watches nothing for this source any more.
    pub(super) fn deregister(&mut self, index: u32) {
        self.phase.raced |= self.shared.is_asleep();
        self.registrations[index + 1] = Registration::NONE;
    }

    pub(super) fn set_interest(&mut self, index: u32, interest: Ready) {
        let before = self.interest_of(index);
        if interest == before {
            return;
        }
        self.register(index, self.fd_of(index), interest);
        if before.is_empty() {
            self.restart_idle(index);
        } else if interest.is_empty() && self.lists.links[index].has(bits::IDLE) {
            // A paused source has no idle timeout: it wakes nobody, and keeps nothing alive.
            self.settle_io(index);
        }
        self.recount(index);
    }

    /// Takes the fd out of the index, before the source goes.
    pub(super) fn forget_fd(&mut self, index: u32) {
        self.fd_index.remove(self.fd_of(index), &self.registrations);
        self.deregister(index);
    }

    fn find_index(&self, fd: i32) -> Option<u32> {
        self.fd_index.find(fd, &self.registrations)
    }
}

fn check_interest(interest: Ready) -> Result<()> {
    if Ready::INTEREST.contains(interest) { Ok(()) } else { Err(Error::INVALID) }
}
