//! Any source: adding, removing, naming, levels, triggers and posts.

use super::Engine;
use crate::backend::{Backend, Mode, Ready, Registration};
use crate::error::{Error, Result};
use crate::handle::{Handle, Kind};
use crate::process::children::{self, Watch};
use crate::process::signals;
use crate::storage::lists::{LEVELS, List};
use crate::storage::slot::{NIL, Target, bits};
use crate::sys;
use crate::time::Instant;
use core::mem::replace;

/// Whether sources of a kind have an fd.
fn has_fd(kind: Kind) -> bool {
    matches!(kind, Kind::Io | Kind::Child) || cfg!(feature = "streams") && matches!(kind, Kind::Stream | Kind::Listener)
}

/// Slots: taken and given back.
impl Engine {
    /// The slot of a live source. ESTALE: it was removed. O(1).
    #[inline]
    pub(super) fn resolve(&self, handle: Handle) -> Result<u32> {
        match self.shared.names.resolve(handle) {
            Some(index) => Ok(index),
            #[cfg(feature = "operations")]
            None => self.resolve_operation(handle),
            #[cfg(not(feature = "operations"))]
            None => Err(Error::STALE),
        }
    }

    /// The slot of a live source of one kind. EINVAL: it is of another. O(1).
    #[inline]
    pub(super) fn resolve_kind(&self, handle: Handle, kind: Kind) -> Result<u32> {
        let index = self.resolve(handle)?;
        if self.lists.links[index].is(kind) { Ok(index) } else { Err(Error::INVALID) }
    }

    /// The slot of a live source that is an I/O source or a stream. EINVAL: it is of another kind. O(1).
    #[inline]
    pub(super) fn resolve_io(&self, handle: Handle) -> Result<u32> {
        #[cfg(feature = "streams")]
        if let Ok(index) = self.resolve_kind(handle, Kind::Stream) {
            return Ok(index);
        }
        self.resolve_kind(handle, Kind::Io)
    }

    /// The first source from a slot on; with the slots behind it, all sources. O(slots between).
    pub(super) fn next_source(&self, mut index: u32) -> Option<u32> {
        while let Some(named) = self.shared.names.named_from(index) {
            if self.lists.links[named].kind().is_some() {
                return Some(named);
            }
            index = named + 1;
        }
        None
    }

    /// The first child that still runs, from a slot on.
    pub(super) fn next_child(&self, mut index: u32) -> Option<u32> {
        while cfg!(feature = "children")
            && let Some(found) = self.next_source(index)
        {
            if children::is_running(&self.lists.links[found]) {
                return Some(found);
            }
            index = found + 1;
        }
        None
    }

    /// The slot that the next source gets: one that was used before, else the next that never was. Sources with an fd
    /// fill the table from below, all others from above; only when nothing is left between them does one take what is
    /// free on the other side, an fd the lowest slot there: so poll's array is as short as can be. ENOSPC: the table is
    /// full. O(1); O(free slots) for an fd that takes one from the other side.
    pub(super) fn free_slot(&self, kind: Kind) -> Result<u32> {
        let with_fd = has_fd(kind);
        let [own, other] = if with_fd { [self.free_low, self.free_high] } else { [self.free_high, self.free_low] };
        let unused = self.shared.names.unnamed();
        if own != NIL {
            Ok(own)
        } else if !unused.is_empty() {
            Ok(if with_fd { unused.start } else { unused.end - 1 })
        } else if other != NIL {
            Ok(if with_fd { self.lowest_free(other) } else { other })
        } else {
            Err(Error::TABLE_FULL)
        }
    }

    #[cold]
    fn lowest_free(&self, mut at: u32) -> u32 {
        let mut lowest = at;
        while at != NIL {
            lowest = lowest.min(at);
            at = self.lists.links[at].next();
        }
        lowest
    }

    /// Takes a slot that [`Engine::free_slot`] named. O(1), as that is.
    pub(super) fn occupy(&mut self, index: u32, kind: Kind, target: Target) {
        if self.shared.names.unnamed().contains(&index) {
            self.shared.names.first(index, self.generation);
            self.registrations[index + 1] = Registration::NONE;
        } else {
            let next = self.lists.links[index].next();
            let mut at = *self.free_beside(index);
            if at == index {
                *self.free_beside(index) = next;
            } else {
                while self.lists.links[at].next() != index {
                    at = self.lists.links[at].next();
                }
                self.lists.links[at].set_next(next);
            }
            self.shared.names.take(index);
        }
        self.lists.occupy(index, kind, target);
        self.statistics.sources += 1;
    }

    /// The list of free slots on the side of this one.
    fn free_beside(&mut self, index: u32) -> &mut u32 {
        if index < self.shared.names.unnamed().start { &mut self.free_low } else { &mut self.free_high }
    }

    /// Gives a slot back; its handles are stale from here on.
    pub(super) fn vacate(&mut self, index: u32) {
        self.lists.unlink(index);
        self.set_deadline(index, Instant::NEVER);
        self.uncount(index);
        self.leveled -= u32::from(self.lists.links[index].level() != 0);
        self.shared.names.retire(index);
        let free = replace(self.free_beside(index), index);
        self.lists.links[index].vacate(free);
        self.statistics.sources -= 1;
        #[cfg(feature = "streams")]
        {
            self.listeners.room = true;
        }
    }

    /// The handle of a source that was just set up.
    pub(super) fn added(&mut self, index: u32) -> Handle {
        self.recount(index);
        self.shared.names.handle(index)
    }

    /// Counts a source among those that keep the loop alive, or no longer. To be called when anything changes that
    /// decides it. O(1).
    pub(super) fn recount(&mut self, index: u32) {
        let link = &self.lists.links[index];
        let active = match link.kind() {
            Some(kind) if kind == Kind::Io || cfg!(feature = "streams") && kind == Kind::Stream => {
                !self.interest_of(index).is_empty() || self.lists.slots[index].fixed_deadline() != Instant::NEVER
            }
            Some(Kind::Signal | Kind::Wake) => true,
            #[cfg(feature = "streams")]
            Some(Kind::Listener) => self.is_listening(index),
            Some(Kind::Before | Kind::After) => false,
            _ => link.has(bits::ACTIVE),
        };
        let counts = active && !link.has(bits::UNCOUNTED);
        if counts != link.has(bits::COUNTED) {
            self.lists.links[index].set(bits::COUNTED, counts);
            self.counted = if counts { self.counted + 1 } else { self.counted - 1 };
        }
    }

    fn uncount(&mut self, index: u32) {
        self.lists.links[index].set(bits::UNCOUNTED, true);
        self.recount(index);
    }
}

/// What every source has.
impl Engine {
    /// Removes a source of any kind: nothing of it is delivered after this. Closes no fd of the program. Legal in any
    /// handler, and after a close. EBUSY: it is an operation. O(log n) when a deadline is armed, else O(1).
    pub(crate) fn remove(&mut self, handle: Handle) -> Result<()> {
        let index = self.resolve(handle)?;
        if self.is_operation(index) {
            return Err(Error::BUSY);
        }
        self.remove_index(index);
        Ok(())
    }

    pub(super) fn remove_index(&mut self, index: u32) {
        match self.lists.links[index].kind() {
            Some(Kind::Io) => self.forget_fd(index, false),
            #[cfg(feature = "streams")]
            Some(Kind::Stream) => {
                self.forget_stream(index);
                self.forget_fd(index, false);
            }
            Some(Kind::Signal) => {
                signals::release(self.lists.slots[index].extra.cast_signed(), &self.shared, true);
            }
            Some(Kind::Child) => self.forget_child(index),
            #[cfg(feature = "streams")]
            Some(Kind::Listener) => self.forget_listener(index, false),
            _ => {}
        }
        self.vacate(index);
    }

    /// What has one completion and no other event.
    fn is_operation(&self, index: u32) -> bool {
        cfg!(feature = "operations") && self.lists.links[index].is(Kind::Operation)
    }

    /// Removes everything; the fds of streams are closed. O(sources that there ever were).
    pub(crate) fn remove_all(&mut self) {
        #[cfg(feature = "streams")]
        self.close_listeners(true);
        let mut from = 0;
        while let Some(index) = self.next_source(from) {
            from = index + 1;
            #[cfg(feature = "streams")]
            if self.lists.links[index].is(Kind::Stream) {
                self.close_stream_at(index);
                continue;
            }
            self.remove_index(index);
        }
        debug_assert!(
            [self.statistics.sources, self.counted, self.leveled, self.children_by_signal] == [0; 4]
                || self.statistics.operations_now > 0,
            "what was counted is not counted out"
        );
    }

    /// Closes what the loop has opened for its sources (pidfds, sockets that listen) in a forked child: they are copies, and the
    /// backend is the parent's.
    pub(crate) fn close_own_fds(&mut self) {
        #[cfg(feature = "streams")]
        self.close_listeners(false);
        let mut from = 0;
        while let Some(index) = self.next_child(from) {
            let registration = &mut self.registrations[index + 1];
            if registration.fd >= 0 {
                let _ = sys::fd::close(registration.fd);
            }
            *registration = Registration::NONE;
            from = index + 1;
        }
    }

    /// The kind of a source. O(1).
    pub(crate) fn kind(&self, handle: Handle) -> Result<Kind> {
        let index = self.resolve(handle)?;
        self.lists.links[index].kind().ok_or(Error::STALE)
    }

    /// Level 0 to 3, from the source's next queueing on. O(1).
    pub(crate) fn set_level(&mut self, handle: Handle, level: u8) -> Result<()> {
        let index = self.resolve(handle)?;
        if level as usize >= LEVELS {
            return Err(Error::INVALID);
        }
        let link = &mut self.lists.links[index];
        self.leveled += u32::from(level != 0);
        self.leveled -= u32::from(link.level() != 0);
        link.set_level(level);
        Ok(())
    }

    pub(crate) fn level(&self, handle: Handle) -> Result<u8> {
        Ok(self.lists.links[self.resolve(handle)?].level())
    }

    /// Whether the source keeps the loop alive. O(1).
    pub(crate) fn set_keepalive(&mut self, handle: Handle, on: bool) -> Result<()> {
        let index = self.resolve(handle)?;
        self.lists.links[index].set(bits::UNCOUNTED, !on);
        self.recount(index);
        Ok(())
    }

    pub(crate) fn keepalive(&self, handle: Handle) -> Result<bool> {
        Ok(!self.lists.links[self.resolve(handle)?].has(bits::UNCOUNTED))
    }

    /// Another handler and token, from the next event on. O(1).
    pub(crate) fn set_target(&mut self, handle: Handle, target: Target) -> Result<()> {
        let index = self.resolve(handle)?;
        self.lists.slots[index].target = target;
        #[cfg(all(feature = "streams", feature = "capi"))]
        if self.lists.links[index].is(Kind::Stream) {
            self.hold_stream(handle, false)?;
        }
        Ok(())
    }

    /// Whose handler an event is for. ESTALE: its source was removed. O(1).
    #[cfg(not(feature = "operations"))]
    pub(crate) fn target_of_event(&self, source: Handle) -> Result<Target> {
        self.target(source)
    }

    pub(crate) fn target(&self, handle: Handle) -> Result<Target> {
        Ok(self.lists.slots[self.resolve(handle)?].target)
    }

    /// Merges flags into a source: delivered next turn, or with what is queued of it already. EINVAL: flags that are
    /// not readiness, or readiness for a source that is no I/O, or an operation. Cannot fail for space. O(1).
    pub(crate) fn trigger(&mut self, handle: Handle, flags: Ready) -> Result<()> {
        let index = self.resolve(handle)?;
        if self.is_operation(index) {
            return Err(Error::INVALID);
        }
        let link = &mut self.lists.links[index];
        if !Ready::OF_FD.contains(flags) || !flags.is_empty() && !link.is(Kind::Io) {
            return Err(Error::INVALID);
        }
        link.set(bits::TRIGGERED, true);
        let slot = &mut self.lists.slots[index];
        slot.set_ready(slot.ready() | flags.bits() as u8);
        let list = self.lists.list_of(index);
        if !list.is_queue() && list != List::DEFERRED && list != List::TRIGGERED {
            self.lists.unlink(index);
            self.lists.push(List::TRIGGERED, index);
        }
        Ok(())
    }

    /// Sends a value to a source, behind what is queued at its level. ENOBUFS: all places are taken, and the caller
    /// keeps the value. EINVAL: to an operation. O(1).
    pub(crate) fn post(&mut self, handle: Handle, value: i64) -> Result<()> {
        let index = self.resolve(handle)?;
        if self.is_operation(index) {
            return Err(Error::INVALID);
        }
        let post = if self.free_post != NIL {
            let post = self.free_post;
            self.free_post = self.lists.posts[post].handle as u32;
            post
        } else if (self.posts_mark as usize) < self.lists.posts.len() {
            self.posts_mark += 1;
            self.posts_mark - 1
        } else {
            self.statistics.posts_refused += 1;
            return Err(Error::NO_BUFFERS);
        };
        let node = self.lists.occupy_post(post, handle.raw(), value);
        self.lists.push(List::QUEUE.at(self.lists.links[index].level()), node);
        self.lists.note_queued();
        self.statistics.posts += 1;
        Ok(())
    }

    /// Gives a post's place back; what it was.
    pub(super) fn free_post(&mut self, post: u32) -> (u64, i64) {
        let slot = &mut self.lists.posts[post];
        let was = (slot.handle, slot.value);
        slot.handle = u64::from(self.free_post);
        self.free_post = post;
        self.statistics.posts -= 1;
        was
    }
}

/// Signals, children, wakes.
impl Engine {
    /// A source for a signal. EINVAL, EBUSY, EEXIST, ENOSPC. One system call.
    pub(crate) fn add_signal(&mut self, signal: i32, target: Target) -> Result<Handle> {
        #[cfg(posix_aio)]
        if self.is_signal_of_files(signal) {
            return Err(Error::BUSY);
        }
        let index = self.free_slot(Kind::Signal)?;
        signals::acquire(signal, &self.shared, index + 1)?;
        self.occupy(index, Kind::Signal, target);
        self.lists.slots[index].extra = signal.cast_unsigned();
        Ok(self.added(index))
    }

    /// A source for the end of a child. ECHILD: not ours; EINVAL, ENOSPC; EBUSY: SIGCHLD is another loop's.
    pub(crate) fn add_child(&mut self, pid: i32, target: Target) -> Result<Handle> {
        let index = self.free_slot(Kind::Child)?;
        let watch = children::watch(pid, self.config.without_pidfd)?;
        match watch {
            Watch::Fd(fd) => {
                if let Err(error) = self.backend.check(fd, index + 1, Mode::empty()) {
                    let _ = sys::fd::close(fd);
                    return Err(error);
                }
            }
            Watch::Signal => {
                signals::acquire(sys::signal::CHILD, &self.shared, 0)?;
                self.children_by_signal += 1;
            }
        }
        self.occupy(index, Kind::Child, target);
        self.lists.slots[index].extra = pid.cast_unsigned();
        match watch {
            Watch::Fd(fd) => {
                if let Err(error) = self.register(index, fd, Ready::READABLE, Mode::empty()) {
                    let _ = sys::fd::close(fd);
                    self.vacate(index);
                    return Err(error);
                }
            }
            Watch::Signal => {
                // It may have ended before SIGCHLD was ours: look once.
                self.lists.slots[index].set_ready(Ready::READABLE.bits() as u8);
                self.queue_source(index);
            }
        }
        self.lists.links[index].set(bits::ACTIVE, true);
        Ok(self.added(index))
    }

    /// Its turn comes.
    pub(super) fn queue_source(&mut self, index: u32) {
        self.lists.queue(index);
        self.lists.note_queued();
    }

    /// The number that a source was made for: of a signal, or a process. EINVAL: it is of another kind. O(1).
    pub(crate) fn number(&self, handle: Handle, kind: Kind) -> Result<i32> {
        Ok(self.lists.slots[self.resolve_kind(handle, kind)?].extra.cast_signed())
    }

    /// The child's status if it has ended; then nothing watches it any more.
    pub(super) fn reap(&mut self, index: u32) -> Option<i32> {
        if !children::is_running(&self.lists.links[index]) {
            return None;
        }
        let status = children::reap(self.lists.slots[index].extra.cast_signed())?;
        self.forget_child(index);
        self.recount(index);
        Some(status)
    }

    fn forget_child(&mut self, index: u32) {
        if !children::is_running(&self.lists.links[index]) {
            return;
        }
        if !self.close_child_fd(index) {
            self.children_by_signal -= 1;
            signals::release(sys::signal::CHILD, &self.shared, false);
        }
        self.lists.links[index].set(bits::ACTIVE, false);
    }

    /// Closes the pidfd of a child; whether it had one.
    fn close_child_fd(&mut self, index: u32) -> bool {
        let fd = self.registrations[index + 1].fd;
        if fd < 0 {
            return false;
        }
        self.deregister(index, true);
        let _ = sys::fd::close(fd);
        true
    }

    /// A source of nothing: for wakes from other threads, for triggers, for posts. ENOSPC. O(1).
    pub(crate) fn add_wake(&mut self, target: Target) -> Result<Handle> {
        let index = self.free_slot(Kind::Wake)?;
        self.occupy(index, Kind::Wake, target);
        Ok(self.added(index))
    }
}
