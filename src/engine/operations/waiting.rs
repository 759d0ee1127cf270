//! Requests that this thread makes when their fd is ready.

use super::{Operation, state};
use crate::backend::{Backend, Mode, Ready, Registration, Report, asked_by};
use crate::engine::{Engine, turn};
use crate::error::Error;
use crate::handle::Kind;
use crate::request::Call;
use crate::storage::lists::List;
use crate::storage::slot::bits;
use crate::sys::{self, operation as calls};
use crate::time::{Duration, Instant};

/// Readiness: a call that does not block, and where it would a place in the line of those that wait for the fd.
impl Engine {
    /// Whether some operation waits for an fd.
    #[inline]
    pub(in crate::engine) fn any_waits(&self) -> bool {
        self.operations.waiting > 0
    }

    /// Whether there is no source in this slot, but an operation or what it watches.
    #[inline]
    pub(in crate::engine) fn is_beyond_sources(&self, index: u32) -> bool {
        index >= self.operations.first
    }

    /// Whether operations wait for this fd.
    pub(in crate::engine) fn is_waited_for(&self, fd: i32) -> bool {
        self.operations.first_waiter(fd).is_some()
    }

    /// The interest of a source, of what its registration has.
    #[cold]
    pub(in crate::engine) fn own_interest(&self, registration: Registration) -> Ready {
        match self.operations.first_waiter(registration.fd()) {
            Some(first) => Ready::from_bits_truncate(self.operations.at(first).request.beside.into()),
            None => registration.interest(),
        }
    }

    /// Another interest of a source whose fd operations wait for.
    pub(in crate::engine) fn set_own_interest(&mut self, fd: i32, interest: Ready) {
        if let Some(first) = self.operations.first_waiter(fd) {
            self.operations.at_mut(first).request.beside = interest.bits() as u8;
            self.settle_fd(fd, false, None);
        }
    }

    /// Makes the call, unless others of its direction wait.
    pub(super) fn begin(&mut self, index: u32) {
        let request = self.operations.at(index).request;
        let direction = calls::direction(&request);
        if let Some(first) = self.operations.first_waiter(request.fd)
            && self.directions_from(first).contains(direction)
        {
            return self.join(index, first);
        }
        if let Err(error) = self.backend.check(request.fd, self.operations.first + 1, Mode::empty())
            && error == Error::INVALID
        {
            // What cannot be waited for is not begun.
            return self.complete(index, -error.errno());
        }
        match self.attempt(index) {
            Some(result) => self.complete(index, result),
            None if self.begin_waiting(index) => {}
            None => self.lists.push(List::UNTOLD, index),
        }
    }

    /// What would block waits for its fd. False: it cannot, and is to be asked again a little later: a connect to a socket
    /// whose queue is full, which is not begun.
    pub(super) fn begin_waiting(&mut self, index: u32) -> bool {
        let request = self.operations.at(index).request;
        if request.call == Call::Connect && request.state & state::CONNECTING == 0 {
            return false;
        }
        let direction = calls::direction(&request);
        match self.operations.first_waiter(request.fd) {
            Some(first) => self.join(index, first),
            None => self.wait_alone(index, request.fd, direction),
        }
        true
    }

    pub(super) fn attempt(&mut self, index: u32) -> Option<i32> {
        let request = &mut self.operations.at_mut(index).request;
        let mut connecting = request.state & state::CONNECTING != 0;
        let result = self.backend.attempt(request, &mut connecting);
        if connecting {
            request.state |= state::CONNECTING;
        }
        result
    }

    fn set_waiting(&mut self, index: u32) {
        let request = &mut self.operations.at_mut(index).request;
        request.state = request.state & !state::WHERE | state::WAITING;
        self.operations.waiting += 1;
    }

    /// Waits behind others for the same fd.
    fn join(&mut self, index: u32, first: u32) {
        let links = &mut self.lists.links;
        let last = links[first].prev();
        links[last].set_next(index);
        links[index].set_prev(last);
        links[index].set_next(first);
        links[first].set_prev(index);
        self.set_waiting(index);
        let fd = self.operations.at(index).request.fd;
        self.settle_fd(fd, false, None);
    }

    /// Waits as the first for an fd.
    fn wait_alone(&mut self, index: u32, fd: i32, direction: Ready) {
        let mut told = false;
        match self.fd_index.find(fd, &self.registrations) {
            Some(source) if source < self.operations.first => {
                if self.lists.links[source].has(bits::ACTIVE) {
                    // The kernel cannot tell when it is ready.
                    return self.complete(index, -Error::AGAIN.errno());
                }
                let own = self.registrations[source + 1].interest();
                self.operations.at_mut(index).request.beside = own.bits() as u8;
            }
            Some(_) => {}
            None => match self.watch(fd, direction) {
                Ok(()) => told = true,
                Err(error) => return self.complete(index, -error.errno()),
            },
        }
        self.lists.links[index].set_next(index);
        self.lists.links[index].set_prev(index);
        self.set_waiting(index);
        let operations = &mut self.operations;
        operations.waiters.insert(fd, index - operations.first, &operations.table);
        if !told {
            // The last watch of it may have told already.
            self.settle_fd(fd, true, None);
        }
    }

    /// Takes an operation out of the line for its fd. The interest of the source, where that is the last one's to keep.
    pub(super) fn leave(&mut self, index: u32) -> Option<Ready> {
        let links = &mut self.lists.links;
        let (next, prev) = (links[index].next(), links[index].prev());
        links[prev].set_next(next);
        links[next].set_prev(prev);
        let operations = &mut self.operations;
        let Operation { request, .. } = operations.table[index - operations.first];
        let is_first = operations.waiters.find(request.fd, &operations.table) == Some(index - operations.first);
        operations.waiting -= 1;
        if next == index {
            operations.waiters.remove(request.fd, &operations.table);
            return Some(Ready::from_bits_truncate(request.beside.into()));
        }
        if is_first {
            operations.at_mut(next).request.beside = request.beside;
            operations.waiters.replace(request.fd, next - operations.first, &operations.table);
        }
        None
    }

    /// What those wait for that wait for one fd. O(their number).
    pub(super) fn directions_from(&self, first: u32) -> Ready {
        let mut directions = Ready::empty();
        let mut at = first;
        loop {
            directions |= calls::direction(&self.operations.at(at).request);
            at = self.lists.links[at].next();
            if at == first {
                return directions;
            }
        }
    }

    /// The same of what is to be watched now: who rests keeps those behind it waiting.
    fn watched_from(&self, first: u32) -> Ready {
        let (mut watched, mut resting) = (Ready::empty(), Ready::empty());
        let mut at = first;
        loop {
            let direction = calls::direction(&self.operations.at(at).request);
            if self.is_resting(at) {
                resting |= direction;
            } else {
                watched |= direction & !resting;
            }
            at = self.lists.links[at].next();
            if at == first {
                return watched;
            }
        }
    }

    /// Asks all who wait for an fd in a direction that is ready, in order; none behind one that goes on waiting. O(waiting).
    pub(super) fn retry(&mut self, fd: i32, ready: Ready) {
        let Some(first) = self.operations.first_waiter(fd) else { return };
        let last = self.lists.links[first].prev();
        let mut blocked = Ready::empty();
        let mut moved = Ready::empty();
        let mut own = None;
        let mut at = first;
        loop {
            let next = self.lists.links[at].next();
            let direction = calls::direction(&self.operations.at(at).request);
            if self.is_resting(at) {
                blocked |= direction;
            } else if !blocked.contains(direction) && ready.intersects(direction) {
                match self.attempt(at) {
                    Some(result) => {
                        own = self.leave(at);
                        self.complete(at, result);
                        moved |= direction;
                    }
                    None => {
                        blocked |= direction;
                        if !moved.contains(direction) {
                            self.note_missed(at);
                        }
                    }
                }
            }
            if at == last {
                break;
            }
            at = next;
        }
        self.settle_fd(fd, true, own);
    }

    /// Tells the backend what is to be watched of an fd. `told`: the last watch of it has told, and may be silent since.
    /// `own`: nobody waits for it any more, and this is the interest of its source. O(operations that wait for it).
    pub(super) fn settle_fd(&mut self, fd: i32, told: bool, own: Option<Ready>) {
        let Some(index) = self.fd_index.find(fd, &self.registrations) else { return };
        let waited = self.operations.first_waiter(fd);
        let now = self.registrations[index + 1].interest();
        let wanted = match waited {
            Some(first) => {
                // (Beyond the sources nobody has an interest beside.)
                let own = Ready::from_bits_truncate(self.operations.at(first).request.beside.into());
                self.watched_from(first) | own & Ready::INTEREST
            }
            None if !self.is_beyond_sources(index) => match own {
                Some(own) => own & Ready::INTEREST,
                None => return,
            },
            // It stays, silent, for the next one.
            None if self.backend.has_oneshot() && told => return,
            None if self.backend.has_oneshot() => Ready::empty(),
            None => return self.unwatch(index),
        };
        let silent = told && self.is_beyond_sources(index) && self.backend.has_oneshot();
        if wanted != now || silent {
            self.set_watch(index, wanted);
        }
    }

    /// What a report tells. True: there is no source that it concerns any more.
    pub(in crate::engine) fn note_for_operations(&mut self, report: &Report) -> bool {
        let index = report.place - 1;
        if self.is_beyond_sources(index) {
            if report.ready.is_empty() {
                self.submission_ended(index, report.result);
            } else if index == self.operations.files_index() {
                self.take_from_files();
            } else {
                self.retry(self.registrations[index + 1].fd(), report.ready);
            }
            return true;
        }
        let fd = self.registrations[index + 1].fd();
        if !self.is_waited_for(fd) {
            return false;
        }
        let asked = asked_by(self.interest_of(index));
        self.retry(fd, report.ready);
        if report.ready.intersects(asked) {
            turn::merge(&mut self.lists, report.place, report.ready & asked);
        }
        true
    }

    /// The backend has refused to watch the fd at this place.
    #[cold]
    pub(in crate::engine) fn note_refused(&mut self, place: u32) {
        // If it can still be used it is asked for again, soon.
        self.retry(self.registrations[place].fd(), Ready::OF_FD);
        self.operations.unwatched = true;
    }
}

/// How often an operation is told for nothing that its fd is ready, before it rests: another process may have been faster.
const SPARED: u8 = 8;
/// How long a rest is; twice as long each time, up to [`LONGEST`].
const REST: Duration = Duration::from_millis(1);
const LONGEST: u8 = 3;
/// In the byte of a slot that counts this.
const RESTING: u8 = 1 << 7;

/// Rest: an fd may be ready and block all the same, such as that of an eventfd that has room for less than is written. Who
/// waits for it would be told in every turn, and the loop would not sleep.
impl Engine {
    /// Whether an operation is to be told nothing for a while.
    pub(super) fn is_resting(&self, index: u32) -> bool {
        self.lists.slots[index].ready() & RESTING != 0
    }

    /// An operation was told that its fd is ready, and it was not.
    pub(super) fn note_missed(&mut self, index: u32) {
        let slot = &mut self.lists.slots[index];
        let missed = slot.ready().saturating_add(1).min(SPARED + LONGEST);
        slot.set_ready(missed);
        if missed < SPARED {
            return;
        }
        slot.set_ready(missed | RESTING);
        if self.operations.rest_until == Instant::NEVER {
            let rest = Duration::from_nanos(REST.as_nanos() << (missed - SPARED));
            self.operations.rest_until = self.system_now() + rest;
        }
    }

    /// The system's time, real or simulated, also where the loop's is virtual.
    pub(in crate::engine) fn system_now(&self) -> Instant {
        self.backend.now().unwrap_or_else(sys::clock::now)
    }

    /// Ends the rest of all when its time has come; else how long it lasts. O(operations), once in a rest.
    pub(super) fn end_rest(&mut self) -> Duration {
        if self.operations.rest_until == Instant::NEVER {
            return Duration::FOREVER;
        }
        let now = self.system_now();
        if now < self.operations.rest_until {
            return self.operations.rest_until.since(now);
        }
        self.operations.rest_until = Instant::NEVER;
        for number in 0..self.operations.table.mark() {
            let index = self.operations.first + number;
            if self.lists.links[index].is(Kind::Operation) && self.is_resting(index) {
                let slot = &mut self.lists.slots[index];
                slot.set_ready(slot.ready() & !RESTING);
                if self.operations.place_of(index) == state::WAITING {
                    self.settle_fd(self.operations.at(index).request.fd, true, None);
                }
            }
        }
        Duration::FOREVER
    }
}
