//! Who makes the requests: the backend's ring, and the engine of files.

use super::{CANCELED, Maker, POLLING, state};
use crate::backend::{Backend, Mode, Ready};
use crate::engine::Engine;
use crate::error::Error;
use crate::handle::{Handle, Kind};
use crate::ops::Files;
use crate::request::Request;
use crate::storage::lists::List;
use crate::storage::slot::NIL;
use crate::sys::operation as calls;
use crate::time::Duration;

/// How long the loop sleeps at most while an engine has refused something for want of room.
const REFUSED: Duration = Duration::from_millis(1);

/// Engines: the backend's ring, and that of files.
impl Engine {
    /// Tells the engine what it is to know of an operation. False: it has no room now.
    fn tell(&mut self, index: u32) -> bool {
        let handle = self.operation_handle(index);
        let operations = &mut self.operations;
        let request = operations.table[index - operations.first].request;
        let by_files = request.state & state::FILES != 0;
        if request.state & state::WHERE == state::SUBMITTED {
            // It is cancelled: else there is nothing to tell.
            return if by_files { operations.files.cancel(handle.raw()) } else { self.backend.cancel(handle) };
        }
        if self.is_resting(index) {
            return false;
        }
        if !by_files && !self.backend.submits() && request.nature != 0 {
            // A connect that has to be asked for again.
            return match self.attempt(index) {
                Some(result) => {
                    self.complete(index, result);
                    true
                }
                None => self.begin_waiting(index),
            };
        }
        let operations = &mut self.operations;
        let elsewhere = request.state & state::ELSEWHERE != 0;
        let taken = if by_files {
            operations.files.submit(&request, elsewhere, handle.raw())
        } else if request.beside & POLLING != 0 {
            self.backend.submit_poll(request.fd, calls::direction(&request), handle)
        } else {
            self.backend.submit(&request, elsewhere, handle)
        };
        if taken {
            let state = &mut operations.at_mut(index).request.state;
            *state = *state & !state::WHERE | state::SUBMITTED;
            operations.in_files += u32::from(by_files);
        }
        taken
    }

    /// Tells an engine of a request that is being submitted, if it can take one now: whether it has.
    #[inline]
    pub(super) fn tell_at_once(&mut self, maker: &Maker, request: &Request, elsewhere: bool, handle: Handle) -> bool {
        if self.lists.any(List::UNTOLD.set()) {
            return false; // what waits there came first
        }
        match maker {
            Maker::Backend => self.backend.submit(request, elsewhere, handle),
            Maker::Files => self.operations.files.submit_at_once(request, elsewhere, handle.raw()),
            _ => false,
        }
    }

    /// Tells the backend now if it can; all else before the next wait.
    pub(super) fn tell_or_queue(&mut self, index: u32) {
        let by_files = self.operations.at(index).request.state & state::FILES != 0;
        // What waits there came first.
        if by_files || self.lists.any(List::UNTOLD.set()) || !self.tell(index) {
            self.lists.push(List::UNTOLD, index);
        }
    }

    /// An engine has made a request, or has waited for its fd.
    pub(super) fn submission_ended(&mut self, index: u32, result: i32) {
        debug_assert!(
            self.lists.links[index].is(Kind::Operation) && self.operations.place_of(index) == state::SUBMITTED
        );
        let operations = &mut self.operations;
        let request = &mut operations.table[index - operations.first].request;
        let by_files = request.state & state::FILES != 0;
        operations.in_files -= u32::from(by_files);
        let cancelled = request.state & (state::CANCELLED | state::TIMED_OUT) != 0;
        let waited = request.beside & POLLING != 0;
        // (Of a file that nobody can wait for it is the result.)
        let again = result == -Error::AGAIN.errno() && !(by_files && request.state & state::ELSEWHERE != 0);
        let mut missed = false;
        request.beside = 0;
        if waited && result >= 0 && !cancelled {
            // Where no thread waits for it, a file that says so does not block.
            request.state |= state::ELSEWHERE;
        } else if waited && result >= 0 || again && cancelled {
            // It would be asked again.
            return self.complete(index, CANCELED);
        } else if waited && result == CANCELED && !cancelled {
            // All polls were ended, to be made anew.
            request.beside = POLLING;
        } else if again {
            // A file that does not block: it is waited for, and asked again. (Of files nobody can wait for.)
            missed = request.state & state::ELSEWHERE != 0;
            if by_files {
                request.state |= state::ELSEWHERE;
            } else {
                request.beside = POLLING;
            }
        } else {
            return self.complete(index, result);
        }
        request.state &= !state::WHERE;
        self.lists.unlink(index);
        if missed {
            // A thread of the kernel's found it ready no more than a poll did not.
            self.note_missed(index);
        }
        self.tell_or_queue(index);
    }

    /// Before a wait: hands over what is untold. How long that may last at most. O(untold).
    #[inline(always)]
    pub(in crate::engine) fn prepare_operations(&mut self) -> Duration {
        if self.has_operations() || self.operations.files_watched { self.hand_over() } else { Duration::FOREVER }
    }

    #[inline(never)]
    fn hand_over(&mut self) -> Duration {
        let rest = self.end_rest();
        let mut refused = NIL;
        while let Some(index) = self.lists.first_of(List::UNTOLD, |_| true) {
            if index == refused {
                break; // once round
            }
            self.lists.unlink(index);
            let mut told = self.tell(index);
            if !told && self.operations.at(index).request.state & state::FILES != 0 {
                self.operations.files.flush();
                told = self.tell(index);
            }
            if !told {
                self.lists.push(List::UNTOLD, index);
                refused = if refused == NIL { index } else { refused };
            }
        }
        let mut completed = false;
        if self.operations.in_files > 0 {
            self.operations.files.flush();
            // They are taken after a wait that does not sleep. (One of virtual time would let some pass.)
            completed = !self.config.virtual_clock && self.operations.files.has_completed();
            if !completed {
                self.take_from_files();
            }
        }
        let watched = self.watch_files();
        // (Whoever waited for that fd may have gone.)
        let unwatched = self.operations.unwatched && self.has_operations();
        let refused = self.lists.any(List::UNTOLD.set()) || !watched || unwatched;
        self.operations.unwatched = false;
        if completed {
            return Duration::ZERO;
        }
        let patience = if self.operations.in_files > 0 { self.operations.files.patience() } else { Duration::FOREVER };
        // (What was told just now may rest from now on.)
        let patience = patience.min(rest);
        if refused { patience.min(REFUSED) } else { patience }
    }

    /// Has the backend watch the descriptor of the files while they have something. False: it cannot.
    fn watch_files(&mut self) -> bool {
        let Some(fd) = self.operations.files.fd() else { return true };
        let wanted = self.operations.in_files > 0;
        let index = self.operations.files_index();
        if wanted && !self.operations.files_watched {
            self.blank_unused();
            let checked = self.backend.check(fd, index + 1, Mode::empty());
            let watched = checked.and_then(|()| self.register(index, fd, Ready::READABLE, Mode::empty()));
            self.operations.files_watched = watched.is_ok();
            return watched.is_ok();
        }
        // Where the kernel keeps the set it costs nothing there; elsewhere each wait pays for it.
        if !wanted && self.operations.files_watched && !self.backend.has_oneshot() {
            self.unregister_own(index);
            self.operations.files_watched = false;
        }
        true
    }

    /// What has completed of files. O(completed).
    pub(in crate::engine) fn take_from_files(&mut self) {
        while let Some((data, result)) = self.operations.files.next() {
            if let Some(index) = self.completed_of(data) {
                self.submission_ended(index, result);
            }
        }
    }

    /// Whose completion it is.
    #[inline]
    pub(super) fn completed_of(&self, data: u64) -> Option<u32> {
        let index = self.resolve_operation(Handle::from_raw(data));
        debug_assert!(index.is_ok(), "a completion of nobody");
        index.ok()
    }

    /// After a wait.
    #[inline]
    pub(in crate::engine) fn collect_operations(&mut self) {
        if self.operations.in_files > 0 {
            self.take_from_files();
        }
    }
}
