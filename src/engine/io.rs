//! I/O sources: one for each fd.

use super::Engine;
use crate::backend::{Backend, Mode, Ready, Registration};
use crate::error::{Error, Result};
use crate::handle::{Handle, Kind};
use crate::storage::lists::List;
use crate::storage::slot::{Target, bits};

/// What a new I/O source is to be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IoOptions {
    /// The interest becomes empty on delivery.
    pub oneshot: bool,
    /// The caller vouches that the fd is open and can be waited for: saves a system call.
    pub trusted: bool,
    /// Told when it becomes ready, not as long as it is: drain it until EAGAIN. A modify reports anew what is ready.
    /// epoll and io_uring.
    pub edge: bool,
    /// Of several processes that wait for one listening socket, not all are woken. epoll.
    pub exclusive: bool,
}

impl Engine {
    /// A source for an fd. EBADF; EPERM: a regular file, directory or block device; EEXIST: the fd has one; ENOSPC;
    /// EINVAL: bad interest, or an fd that this backend cannot watch; ENOTSUP: it has no such mode. O(1) expected, one
    /// system call unless trusted; on epoll one in any case.
    pub(crate) fn add_io(&mut self, fd: i32, interest: Ready, options: IoOptions, target: Target) -> Result<Handle> {
        self.add_fd(Kind::Io, fd, interest, options, target)
    }

    /// The same of any kind that has an fd of the program's.
    #[cfg_attr(not(feature = "streams"), inline(always))]
    pub(super) fn add_fd(
        &mut self,
        kind: Kind,
        fd: i32,
        interest: Ready,
        options: IoOptions,
        target: Target,
    ) -> Result<Handle> {
        check_interest(interest)?;
        if fd < 0 {
            return Err(Error::BAD_FD);
        }
        if self.find_source(fd).is_some() {
            return Err(Error::EXISTS);
        }
        let mut mode = Mode::empty();
        mode.set(Mode::EDGE, options.edge);
        mode.set(Mode::EXCLUSIVE, options.exclusive);
        let index = self.free_slot(kind)?;
        self.backend.check(fd, index + 1, mode)?;
        if options.exclusive && interest.contains(Ready::PRIORITY) {
            return Err(Error::INVALID);
        }
        if !options.trusted && !self.backend.checks_fds() {
            self.backend.check_pollable(fd)?;
        }
        self.occupy(index, kind, target);
        self.lists.links[index].set(bits::ONESHOT, options.oneshot);
        #[cfg(feature = "operations")]
        self.displace_watch(fd);
        if let Err(error) = self.register(index, fd, interest, mode)
            && let Err(error) = self.always_ready(index, fd, interest, options, error)
        {
            self.vacate(index);
            #[cfg(feature = "operations")]
            self.watch_alone(fd);
            return Err(error);
        }
        self.fd_index.insert(fd, index, &self.registrations);
        #[cfg(feature = "operations")]
        self.share_source(fd, interest);
        Ok(self.added(index))
    }

    /// What cannot be waited for never blocks: it is ready in every turn. A file that blocks all the same is EPERM.
    #[cold]
    fn always_ready(&mut self, index: u32, fd: i32, interest: Ready, options: IoOptions, error: Error) -> Result<()> {
        let is_stream = cfg!(feature = "streams") && self.lists.links[index].is(Kind::Stream);
        if error != Error::NOT_PERMITTED || is_stream {
            return Err(error);
        }
        if !options.trusted {
            self.backend.check_pollable(fd)?;
        }
        let registration = &mut self.registrations[index + 1];
        *registration = Registration::new(fd, interest, Mode::empty(), registration.state);
        self.lists.links[index].set(bits::ACTIVE, true);
        self.rest_io(index);
        Ok(())
    }

    /// An always ready source that is in no list waits for the next turn, unless it is paused.
    #[inline]
    pub(super) fn rest_io(&mut self, index: u32) {
        if cfg!(any(epoll, feature = "simulator")) && self.lists.links[index].has(bits::ACTIVE) {
            if !self.interest_of(index).is_empty() {
                self.rest(index);
            } else if self.lists.list_of(index) == List::ALWAYS {
                self.lists.unlink(index);
            }
        }
    }

    /// The interest from now on; an empty one pauses the source. The same again changes nothing. O(1); O(log n) when
    /// a source with an idle timeout is paused or resumed.
    pub(crate) fn modify_io(&mut self, handle: Handle, interest: Ready, oneshot: Option<bool>) -> Result<()> {
        let index = self.resolve_kind(handle, Kind::Io)?;
        check_interest(interest)?;
        if let Some(oneshot) = oneshot {
            self.lists.links[index].set(bits::ONESHOT, oneshot);
        }
        self.change_interest(index, interest)
    }

    /// Adds directions and takes others away; what is in both is taken away.
    pub(crate) fn change_io(&mut self, handle: Handle, set: Ready, clear: Ready) -> Result<()> {
        let index = self.resolve_kind(handle, Kind::Io)?;
        check_interest(set | clear)?;
        self.change_interest(index, (self.interest_of(index) | set) - clear)
    }

    /// EINVAL: an exclusive source cannot ask for PRIORITY. With EDGE, the same interest again is news too.
    fn change_interest(&mut self, index: u32, interest: Ready) -> Result<()> {
        let registration = self.registrations[index + 1];
        let mode = registration.mode();
        if mode.contains(Mode::EXCLUSIVE) && interest.contains(Ready::PRIORITY) {
            return Err(Error::INVALID);
        }
        if mode.contains(Mode::EDGE) && interest == self.interest_of(index) {
            // (Which may be more where operations wait for it too.)
            self.backend.set(&mut self.registrations, index + 1, registration.interest());
        }
        self.set_interest(index, interest);
        Ok(())
    }

    /// The source of an fd. ENOENT: it has none. O(1) expected.
    pub(crate) fn find_io(&self, fd: i32) -> Result<Handle> {
        self.find_source(fd).map(|index| self.shared.names.handle(index)).ok_or(Error::NOT_FOUND)
    }

    /// The fd of a source. O(1).
    pub(crate) fn io_fd(&self, handle: Handle) -> Result<i32> {
        Ok(self.fd_of(self.resolve_io(handle)?))
    }

    /// The interest of a source, and its options; whether it is trusted is not kept. O(1).
    pub(crate) fn io_interest(&self, handle: Handle) -> Result<(Ready, IoOptions)> {
        let index = self.resolve_kind(handle, Kind::Io)?;
        let mode = self.registrations[index + 1].mode();
        let options = IoOptions {
            oneshot: self.lists.links[index].has(bits::ONESHOT),
            trusted: false,
            edge: mode.contains(Mode::EDGE),
            exclusive: mode.contains(Mode::EXCLUSIVE),
        };
        Ok((self.interest_of(index), options))
    }

    /// Removes the source and closes its fd, with no system call but close(2). EBUSY: operations wait for the fd.
    #[cfg(feature = "capi")]
    pub(crate) fn close_io(&mut self, handle: Handle) -> Result<()> {
        let index = self.resolve_kind(handle, Kind::Io)?;
        let fd = self.fd_of(index);
        #[cfg(feature = "operations")]
        if self.is_waited_for(fd) {
            return Err(Error::BUSY);
        }
        self.forget_fd(index, true);
        self.vacate(index);
        self.backend.close_fd(fd)
    }

    /// What a foreign loop has to watch: calls `each` with every fd and its interest. O(sources), or one fd where the
    /// backend has its own.
    pub(crate) fn each_watch(&self, mut each: impl FnMut(i32, Ready)) {
        if let Some(fd) = self.backend.fd() {
            return each(fd, Ready::READABLE);
        }
        for registration in self.registrations.first(self.watched + 1).iter().filter(|it| it.fd >= 0) {
            each(registration.fd, registration.interest());
        }
    }

    pub(super) fn fd_of(&self, index: u32) -> i32 {
        self.registrations[index + 1].fd()
    }

    /// The interest of a source: what its registration has, or less where operations wait for the fd too.
    #[inline]
    pub(super) fn interest_of(&self, index: u32) -> Ready {
        let registration = self.registrations[index + 1];
        #[cfg(feature = "operations")]
        if self.any_waits() {
            return self.own_interest(registration);
        }
        registration.interest()
    }

    /// Another interest for the backend, from the next wait on.
    pub(super) fn set_watch(&mut self, index: u32, interest: Ready) {
        self.note_race();
        self.backend.set(&mut self.registrations, index + 1, interest);
    }

    /// Begins to watch an fd. What the backend says of it.
    pub(super) fn register(&mut self, index: u32, fd: i32, interest: Ready, mode: Mode) -> Result<()> {
        let handle = self.shared.names.handle(index);
        let wanted = Registration::new(fd, interest, mode, self.registrations[index + 1].state);
        self.note_race();
        self.watched = self.watched.max(index + 1);
        self.may_trim(); // should it be refused
        self.backend.add(&mut self.registrations, index + 1, handle, wanted)
    }

    /// A wait that is under way, in another thread, may have seen the registration as it was.
    fn note_race(&mut self) {
        self.phase.raced |= self.shared.is_asleep() && self.backend.is_raced();
    }

    /// The last registration may have no fd. (The small build looks in every turn, which is less code.)
    fn may_trim(&mut self) {
        if !cfg!(becket_small) {
            self.trim = true;
        }
    }

    /// Leaves the last registrations out of the wait that have no fd. O(registrations).
    #[cfg_attr(not(becket_small), cold)]
    pub(super) fn trim_watched(&mut self) {
        if !cfg!(becket_small) {
            self.trim = false;
        }
        // (The first is the loop's own, and always there.)
        while self.registrations[self.watched].is_none() {
            self.watched -= 1;
        }
    }

    /// Watches nothing for this source any more.
    pub(super) fn deregister(&mut self, index: u32, closing: bool) {
        self.note_race();
        self.may_trim();
        self.backend.remove(&mut self.registrations, &self.shared.names, index + 1, closing);
    }

    pub(super) fn set_interest(&mut self, index: u32, interest: Ready) {
        let before = self.interest_of(index);
        if interest == before {
            return;
        }
        if cfg!(any(epoll, feature = "simulator")) && self.lists.links[index].has(bits::ACTIVE) {
            let registration = &mut self.registrations[index + 1];
            *registration = registration.with_interest(interest);
            self.rest_io(index);
        } else {
            #[cfg(feature = "operations")]
            if self.is_waited_for(self.fd_of(index)) {
                self.set_own_interest(self.fd_of(index), interest);
            } else {
                self.set_watch(index, interest);
            }
            #[cfg(not(feature = "operations"))]
            self.set_watch(index, interest);
        }
        if before.is_empty() {
            self.restart_idle(index);
        } else if interest.is_empty() && self.lists.links[index].has(bits::IDLE) {
            // A paused source has no idle timeout: it wakes nobody, and keeps nothing alive.
            self.settle_io(index);
        }
        self.recount(index);
    }

    /// Takes the fd out of the index, before the source goes.
    pub(super) fn forget_fd(&mut self, index: u32, closing: bool) {
        let fd = self.fd_of(index);
        self.fd_index.remove(fd, &self.registrations);
        self.deregister(index, closing);
        #[cfg(feature = "operations")]
        self.watch_alone(fd);
    }

    /// The source of an fd. (Without one it may be watched all the same, for operations.)
    fn find_source(&self, fd: i32) -> Option<u32> {
        let found = self.fd_index.find(fd, &self.registrations);
        #[cfg(feature = "operations")]
        let found = found.filter(|index| !self.is_beyond_sources(*index));
        found
    }
}

fn check_interest(interest: Ready) -> Result<()> {
    if Ready::INTEREST.contains(interest) { Ok(()) } else { Err(Error::INVALID) }
}
