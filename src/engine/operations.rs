//! Operations: requests that complete later.
//!
//! ```text
//!              submit                        tell: an engine takes it            its completion
//!   free ────────────► queued (list UNTOLD) ──────────────────────► submitted ──────────────────────┐
//!     ▲    │    │                                                                                   ▼
//!     │    │    └─ it would block ─► waiting for the fd ─ retry, when that is ready; cancel ─────► done, queued as
//!     │    └────── it does not, or is made at once ──────────────────────────────────────────────► an event
//!     └──────────────────────────────────────────────────────────────────────────────── next takes it out
//! ```
//!
//! An operation's slot and link stand behind those of the sources, so that levels, handlers, deadlines and the queue are
//! the same for both. What waits for one fd is a ring of links in the order of submission; the first of them keeps the interest
//! of the fd's I/O source, if there is one, since what the backend is told is the union. An fd without a source is watched at
//! a place of its own, behind the sources'.

use super::{Config, Engine};
use crate::backend::{AnyBackend, Backend, Mode, Ready, Registration, Report, asked_by};
use crate::error::{Error, Result};
use crate::handle::{Handle, Kind};
use crate::ops::{AnyFiles, Chosen, Files};
use crate::request::{CURRENT, Call, Lease, Request};
use crate::ring::RingMemory;
use crate::storage::Block;
use crate::storage::fd_index::FdIndex;
use crate::storage::lists::List;
use crate::storage::names::Names;
use crate::storage::operations::{Operation, Operations as Table};
use crate::storage::slot::{NIL, Target, bits};
use crate::sys::operation::{self as calls, nature};
use crate::time::{Duration, Instant};

/// The state of a request: where it is, in the lowest bits, and what else is known of it.
mod state {
    pub(super) const WHERE: u8 = 0b11;
    // 0: an engine is to take it.
    /// An engine has it.
    pub(super) const SUBMITTED: u8 = 1;
    /// For its fd.
    pub(super) const WAITING: u8 = 2;
    /// It has its result.
    pub(super) const DONE: u8 = 3;
    /// The engine is that of files; else it is the backend.
    pub(super) const FILES: u8 = 1 << 2;
    /// The program has cancelled it.
    pub(super) const CANCELLED: u8 = 1 << 3;
    /// Its deadline has passed.
    pub(super) const TIMED_OUT: u8 = 1 << 4;
    /// The engine is to be told so.
    pub(super) const CANCEL_UNTOLD: u8 = 1 << 5;
    /// A connect that was begun.
    pub(super) const CONNECTING: u8 = 1 << 6;
    /// The engine would have had to wait, and was asked not to: a thread of the kernel's is to make it.
    pub(super) const ELSEWHERE: u8 = 1 << 7;
}

/// In `Request::beside`, above the interest of a source: the engine waits for the fd.
const POLLING: u8 = 1 << 7;

/// How long the loop sleeps at most while an engine has refused something for want of room.
const REFUSED: Duration = Duration::from_millis(1);
const CANCELED: i32 = -Error::CANCELED.errno();

/// All operations of a loop, and who makes them.
pub(super) struct Operations {
    table: Table,
    /// By fd: the number of the first operation that waits for it.
    waiters: FdIndex,
    /// The index of the first one's slot: so many sources there are.
    first: u32,
    /// Slots that were used before, linked through the slots.
    free_first: u32,
    free_last: u32,
    /// Operations that wait for an fd.
    waiting: u32,
    /// Places for fds that were ever used; of those, in use; none is free below the third; where the next is looked for that
    /// can be had back.
    places: u32,
    places_used: u32,
    places_low: u32,
    hand: u32,
    files: AnyFiles,
    files_note: &'static core::ffi::CStr,
    /// Operations that the engine of files has.
    in_files: u32,
    /// The backend watches its descriptor.
    files_watched: bool,
    /// The backend has refused to watch an fd.
    unwatched: bool,
    /// Nothing new is accepted.
    draining: bool,
    /// An event is taken out by a program that may dispatch it later.
    pulling: bool,
}

impl Operations {
    pub(super) fn new((table, waiters): (Table, FdIndex), first: u32, chosen: Chosen) -> Operations {
        Operations {
            table,
            waiters,
            first,
            free_first: NIL,
            free_last: NIL,
            waiting: 0,
            places: 0,
            places_used: 0,
            places_low: 0,
            hand: 0,
            files: chosen.files,
            files_note: chosen.note,
            in_files: 0,
            files_watched: false,
            unwatched: false,
            draining: false,
            pulling: false,
        }
    }

    /// Room for so many.
    pub(super) fn max(&self) -> u32 {
        self.table.max()
    }

    /// The index of the place of the files' descriptor.
    pub(super) fn files_index(&self) -> u32 {
        self.first + self.table.max()
    }

    pub(super) fn close(&mut self, ours: bool) {
        self.files.close(ours);
        self.files = AnyFiles::Nobody;
    }

    #[inline]
    fn at(&self, index: u32) -> &Operation {
        &self.table[index - self.first]
    }

    #[inline]
    fn at_mut(&mut self, index: u32) -> &mut Operation {
        &mut self.table[index - self.first]
    }

    /// The index of the first operation that waits for an fd.
    fn first_waiter(&self, fd: i32) -> Option<u32> {
        if self.waiting == 0 {
            return None;
        }
        self.waiters.find(fd, &self.table).map(|number| self.first + number)
    }

    fn place_of(&self, index: u32) -> u8 {
        self.at(index).request.state & state::WHERE
    }
}

/// Who makes a request.
enum Maker {
    /// The backend's ring.
    Backend,
    Files,
    /// This thread, when the fd is ready.
    Readiness,
    /// This thread, now.
    Inline,
    /// Nobody: this is what the system says of its fd.
    Failed(Error),
}

/// Submitting, cancelling, naming.
impl Engine {
    /// Submits a request. ENOTSUP: to a simulated system; EAGAIN: all places are taken; EBUSY: a close of an fd that is watched; ENOSYS: a file, and nobody
    /// for files; ECANCELED: a drain is under way. O(1), and O(operations that wait for the fd).
    #[cfg(feature = "capi")]
    pub(crate) fn submit(&mut self, request: Request, target: Target) -> Result<Handle> {
        self.submit_lent(request, target, None)
    }

    /// The same with memory that was lent, and comes back when the event is taken out.
    pub(crate) fn submit_lent(
        &mut self,
        mut request: Request,
        target: Target,
        lease: Option<&'static Lease>,
    ) -> Result<Handle> {
        if self.operations.draining {
            return Err(Error::CANCELED);
        }
        if self.backend.is_simulated() {
            return Err(Error::UNSUPPORTED);
        }
        if request.call == Call::Close {
            let source = self.fd_index.find(request.fd, &self.registrations).filter(|it| *it < self.operations.first);
            if source.is_some() || self.operations.first_waiter(request.fd).is_some() {
                return Err(Error::BUSY);
            }
        }
        if self.statistics.operations_now >= self.operations.max() {
            return Err(Error::AGAIN);
        }
        let maker = self.maker_of(&mut request)?;
        let index = self.occupy_operation(Operation { request, lease }, target);
        self.statistics.operations += 1;
        let handle = self.operation_handle(index);
        match maker {
            Maker::Backend => self.tell_or_queue(index),
            Maker::Files => {
                // Handed over with all others before the wait, by the thread that waits.
                self.operations.at_mut(index).request.state |= state::FILES;
                self.lists.push(List::UNTOLD, index);
            }
            Maker::Readiness => self.begin(index),
            Maker::Inline => {
                self.statistics.operations_inline += 1;
                self.complete(index, calls::at_once(&request));
            }
            Maker::Failed(error) => self.complete(index, -error.errno()),
        }
        self.lists.note_queued();
        Ok(handle)
    }

    /// Who makes it; a request that needs to know learns what its file is. ENOSYS.
    fn maker_of(&mut self, request: &mut Request) -> Result<Maker> {
        let files = &self.operations.files;
        let in_backend = self.backend.submits();
        let by_files = match files {
            AnyFiles::Nobody => Err(Error::NO_CALL),
            AnyFiles::Backend => Ok(Maker::Backend),
            #[allow(unreachable_patterns)] // where none is built in
            _ => Ok(Maker::Files),
        };
        match request.call {
            Call::Read | Call::Write | Call::ReadV | Call::WriteV => {
                if files.is_backend() {
                    return Ok(Maker::Backend);
                }
                if request.extra != CURRENT {
                    return by_files;
                }
                match calls::nature_of(request.fd) {
                    Ok(nature::FILE) => return by_files,
                    Ok(nature) => request.nature = nature,
                    Err(error) => return Ok(Maker::Failed(error)),
                }
            }
            Call::Fsync => return by_files,
            Call::OpenAt | Call::Statx | Call::Close => {
                return if files.makes(request.call) { by_files } else { Ok(Maker::Inline) };
            }
            _ => request.nature = nature::SOCKET,
        }
        Ok(if in_backend { Maker::Backend } else { Maker::Readiness })
    }

    /// Who reads and writes files for a loop that is being made.
    pub(super) fn choose_files(
        block: &Block,
        config: &Config,
        backend: &AnyBackend,
        ring: Option<RingMemory>,
    ) -> Result<Chosen> {
        if block.operations == 0 {
            return Ok(Chosen { files: AnyFiles::Nobody, note: c"no operations" });
        }
        if backend.is_simulated() {
            return Ok(Chosen { files: AnyFiles::Nobody, note: c"simulated" });
        }
        // Memory for rings that the backend has no use for is theirs.
        AnyFiles::choose(config.files, backend.submits(), ring.filter(|_| !backend.submits()))
    }

    /// Names what the descriptor of the files is watched by.
    pub(super) fn name_files(&mut self) {
        self.name_own(self.operations.files_index());
    }

    /// The operation of a handle. ESTALE: it has completed, or never was. O(1).
    pub(super) fn resolve_operation(&self, handle: Handle) -> Result<u32> {
        match self.slot_of_operation(handle) {
            Some((index, generation))
                if self.lists.slots[index].time == generation && self.lists.links[index].is(Kind::Operation) =>
            {
                Ok(index)
            }
            _ => Err(Error::STALE),
        }
    }

    /// The slot in a handle, if it is one that an operation has had, and the generation.
    fn slot_of_operation(&self, handle: Handle) -> Option<(u32, u64)> {
        let (index, generation) = Names::parts_of(handle)?;
        let number = index.checked_sub(self.operations.first)?;
        (number < self.operations.table.mark()).then_some((index, generation))
    }

    fn operation_handle(&self, index: u32) -> Handle {
        Names::handle_of(index, self.lists.slots[index].time)
    }

    /// Whose handler an event is for: also that of an operation, which has gone when its event was taken out, until its
    /// place is taken. ESTALE. O(1).
    pub(crate) fn target_of_event(&self, source: Handle) -> Result<Target> {
        let target = self.target(source);
        if target.is_err()
            && let Some((index, generation)) = self.slot_of_operation(source)
            && self.lists.links[index].kind().is_none()
            && Names::handle_of(index, generation + 1) == self.operation_handle(index)
        {
            return Ok(self.lists.slots[index].target);
        }
        target
    }

    /// Asks for the end of an operation. ESTALE: it has completed; EINVAL: it is a source.
    pub(crate) fn cancel(&mut self, handle: Handle) -> Result<()> {
        let index = self.resolve_kind(handle, Kind::Operation)?;
        self.cancel_index(index, state::CANCELLED);
        Ok(())
    }

    /// Cancels it after a delay; endless: never. ESTALE, EINVAL. O(log n).
    pub(crate) fn set_operation_deadline(&mut self, handle: Handle, delay: Duration) -> Result<()> {
        let index = self.resolve_kind(handle, Kind::Operation)?;
        if self.operations.place_of(index) != state::DONE {
            self.set_deadline(index, self.fresh_now() + delay);
        }
        Ok(())
    }

    pub(super) fn expire_operation(&mut self, index: u32) {
        self.set_deadline(index, Instant::NEVER);
        self.cancel_index(index, state::TIMED_OUT);
    }

    fn cancel_index(&mut self, index: u32, why: u8) {
        let request = &mut self.operations.at_mut(index).request;
        let (place, fd) = (request.state & state::WHERE, request.fd);
        if place == state::DONE || request.state & (state::CANCELLED | state::TIMED_OUT) != 0 {
            return;
        }
        request.state |= why;
        match place {
            state::WAITING => {
                let own = self.leave(index);
                self.settle_fd(fd, false, own);
                self.complete(index, CANCELED);
            }
            state::SUBMITTED => {
                request.state |= state::CANCEL_UNTOLD;
                self.tell_or_queue(index);
            }
            _ => self.complete(index, CANCELED),
        }
    }

    /// Cancels everything. O(operations).
    pub(super) fn cancel_all(&mut self) {
        for number in 0..self.operations.table.mark() {
            let index = self.operations.first + number;
            if self.lists.links[index].is(Kind::Operation) {
                self.cancel_index(index, state::CANCELLED);
            }
        }
    }

    /// Accepts nothing from now on. EBUSY: it does not already.
    pub(super) fn begin_drain(&mut self) -> Result<()> {
        if self.operations.draining {
            return Err(Error::BUSY);
        }
        self.operations.draining = true;
        Ok(())
    }

    pub(super) fn end_drain(&mut self) {
        self.operations.draining = false;
    }

    /// Whether there is an operation whose event was not taken out. O(1).
    pub(super) fn has_operations(&self) -> bool {
        self.statistics.operations_now > 0
    }

    /// What has completed and was not taken out goes unseen: its memory comes back, and the fds that it made are closed.
    /// Whether nothing else is left. O(operations).
    pub(super) fn discard_done(&mut self) -> bool {
        for number in 0..self.operations.table.mark() {
            let index = self.operations.first + number;
            if !self.lists.links[index].is(Kind::Operation) || self.operations.place_of(index) != state::DONE {
                continue;
            }
            let result = self.result_of(index);
            let Operation { request, lease } = *self.operations.at(index);
            if matches!(request.call, Call::Accept | Call::OpenAt) && result >= 0 {
                let _ = crate::sys::fd::close(result as i32);
            }
            if let Some(lease) = lease {
                lease.give_back();
            }
            self.vacate_operation(index);
        }
        !self.has_operations()
    }

    pub(crate) fn files_name(&self) -> &'static core::ffi::CStr {
        self.operations.files.name()
    }

    /// Why it is these.
    pub(crate) fn files_note(&self) -> &'static core::ffi::CStr {
        self.operations.files_note
    }
}

/// Slots.
impl Engine {
    /// Takes a slot; there is one.
    fn occupy_operation(&mut self, operation: Operation, target: Target) -> u32 {
        let operations = &mut self.operations;
        let (index, generation) = if operations.free_first != NIL {
            let index = operations.free_first;
            operations.free_first = self.lists.links[index].next();
            if operations.free_first == NIL {
                operations.free_last = NIL;
            }
            (index, self.lists.slots[index].time)
        } else {
            let generation = self.shared.names.generation_after(self.generation);
            (operations.first + operations.table.mark(), generation)
        };
        operations.table.set(index - operations.first, operation);
        self.lists.occupy(index, Kind::Operation, target);
        self.lists.slots[index].time = generation;
        self.lists.links[index].set(bits::ACTIVE, true);
        self.statistics.operations_now += 1;
        self.recount(index);
        index
    }

    /// Gives a slot back. One whose event may be dispatched later is the last to be taken again.
    fn vacate_operation(&mut self, index: u32) {
        self.forget_slot(index);
        let slot = &mut self.lists.slots[index];
        slot.time = self.shared.names.generation_after(slot.time);
        let operations = &mut self.operations;
        if operations.pulling && operations.free_last != NIL {
            self.lists.links[index].vacate(NIL);
            self.lists.links[operations.free_last].set_next(index);
            operations.free_last = index;
        } else {
            self.lists.links[index].vacate(operations.free_first);
            if operations.free_first == NIL {
                operations.free_last = index;
            }
            operations.free_first = index;
        }
        self.statistics.operations_now -= 1;
    }

    /// Its result, and an event.
    fn complete(&mut self, index: u32, mut result: i32) {
        self.set_deadline(index, Instant::NEVER);
        let request = &mut self.operations.at_mut(index).request;
        // A thread of the kernel's that was in the middle of it says that it was interrupted.
        let ended = result == CANCELED || result == -Error::INTERRUPTED.errno();
        if ended && request.state & (state::CANCELLED | state::TIMED_OUT) != 0 {
            let timed_out = request.state & state::TIMED_OUT != 0;
            result = if timed_out { -Error::TIMED_OUT.errno() } else { CANCELED };
        }
        request.state = state::DONE;
        self.lists.slots[index].deadline = i64::from(result).cast_unsigned();
        self.lists.queue(index);
    }

    fn result_of(&self, index: u32) -> i64 {
        self.lists.slots[index].deadline.cast_signed()
    }

    /// The event of an operation, which is over with it.
    pub(super) fn take_operation(&mut self, index: u32, taken: &mut super::Taken) -> bool {
        let Operation { request, lease } = *self.operations.at(index);
        let fd = if matches!(request.call, Call::OpenAt | Call::Statx) { -1 } else { request.fd };
        taken.value = self.result_of(index);
        taken.flags = 0;
        self.describe(index, self.operation_handle(index), Kind::Operation, fd, taken);
        if let Some(lease) = lease {
            lease.give_back();
        }
        self.vacate_operation(index);
        true
    }

    /// Whether the events that are taken out may be dispatched later.
    #[inline]
    pub(super) fn set_pulling(&mut self, on: bool) {
        self.operations.pulling = on;
    }
}

/// Engines: the backend's ring, and that of files.
impl Engine {
    /// Tells the engine what it is to know of an operation. False: it has no room now.
    fn tell(&mut self, index: u32) -> bool {
        let handle = self.operation_handle(index);
        let operations = &mut self.operations;
        let request = operations.table[index - operations.first].request;
        let by_files = request.state & state::FILES != 0;
        if request.state & state::WHERE == state::SUBMITTED {
            let told = request.state & state::CANCEL_UNTOLD == 0
                || if by_files { operations.files.cancel(handle.raw()) } else { self.backend.cancel(handle) };
            if told {
                operations.at_mut(index).request.state &= !state::CANCEL_UNTOLD;
            }
            return told;
        }
        if !by_files && !self.backend.submits() {
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

    /// Tells the backend now if it can; all else before the next wait.
    fn tell_or_queue(&mut self, index: u32) {
        let by_files = self.operations.at(index).request.state & state::FILES != 0;
        let untold = self.lists.list_of(index) == List::NONE;
        // What waits there came first.
        if untold && (by_files || self.lists.any(List::UNTOLD.set()) || !self.tell(index)) {
            self.lists.push(List::UNTOLD, index);
        }
    }

    /// An engine has made a request, or has waited for its fd.
    fn submission_ended(&mut self, index: u32, result: i32) {
        debug_assert!(
            self.lists.links[index].is(Kind::Operation) && self.operations.place_of(index) == state::SUBMITTED
        );
        let operations = &mut self.operations;
        let request = &mut operations.table[index - operations.first].request;
        let by_files = request.state & state::FILES != 0;
        operations.in_files -= u32::from(by_files);
        let cancelled = request.state & (state::CANCELLED | state::TIMED_OUT) != 0;
        let waited = request.beside & POLLING != 0;
        request.beside = 0;
        if waited && result >= 0 && !cancelled {
            // Where no thread waits for it, a file that says so does not block.
            request.state |= state::ELSEWHERE;
        } else if waited && result >= 0 {
            return self.complete(index, CANCELED);
        } else if result == -Error::AGAIN.errno() && !cancelled && !(by_files && request.state & state::ELSEWHERE != 0)
        {
            // A file that does not block: it is waited for, and asked again. (Of files nobody can wait for.)
            request.beside = if by_files { 0 } else { POLLING };
            request.state |= if by_files { state::ELSEWHERE } else { 0 };
        } else {
            return self.complete(index, result);
        }
        request.state &= !state::WHERE;
        self.lists.unlink(index);
        self.tell_or_queue(index);
    }

    /// Before a wait: hands over what is untold. How long that may last at most. O(untold).
    pub(super) fn prepare_operations(&mut self) -> Duration {
        if !self.has_operations() && !self.operations.files_watched {
            return Duration::FOREVER;
        }
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
        if self.operations.in_files > 0 {
            self.operations.files.flush();
            self.take_from_files();
        }
        let watched = self.watch_files();
        let refused = self.lists.any(List::UNTOLD.set()) || !watched || self.operations.unwatched;
        self.operations.unwatched = false;
        let patience = if self.operations.in_files > 0 { self.operations.files.patience() } else { Duration::FOREVER };
        if refused { patience.min(REFUSED) } else { patience }
    }

    /// Has the backend watch the descriptor of the files while they have something. False: it cannot.
    fn watch_files(&mut self) -> bool {
        let Some(fd) = self.operations.files.fd() else { return true };
        let wanted = self.operations.in_files > 0;
        let index = self.operations.files_index();
        if wanted && !self.operations.files_watched {
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
    pub(super) fn take_from_files(&mut self) {
        while let Some((data, result)) = self.operations.files.next() {
            match self.resolve_operation(Handle::from_raw(data)) {
                Ok(index) => self.submission_ended(index, result),
                Err(_) => debug_assert!(false, "a completion of nobody"),
            }
        }
    }

    /// After a wait.
    #[inline]
    pub(super) fn collect_operations(&mut self) {
        if self.operations.in_files > 0 {
            self.take_from_files();
        }
    }
}

/// Readiness: a call that does not block, and where it would a place in the line of those that wait for the fd.
impl Engine {
    /// Whether some operation waits for an fd.
    #[inline]
    pub(super) fn any_waits(&self) -> bool {
        self.operations.waiting > 0
    }

    /// Whether there is no source in this slot, but an operation or what it watches.
    #[inline]
    pub(super) fn is_beyond_sources(&self, index: u32) -> bool {
        index >= self.operations.first
    }

    /// Whether operations wait for this fd.
    pub(super) fn is_waited_for(&self, fd: i32) -> bool {
        self.operations.first_waiter(fd).is_some()
    }

    /// The interest of a source, of what its registration has.
    #[cold]
    pub(super) fn own_interest(&self, registration: Registration) -> Ready {
        match self.operations.first_waiter(registration.fd()) {
            Some(first) => Ready::from_bits_truncate(self.operations.at(first).request.beside.into()),
            None => registration.interest(),
        }
    }

    /// Another interest of a source whose fd operations wait for.
    pub(super) fn set_own_interest(&mut self, fd: i32, interest: Ready) {
        if let Some(first) = self.operations.first_waiter(fd) {
            self.operations.at_mut(first).request.beside = interest.bits() as u8;
            self.settle_fd(fd, false, None);
        }
    }

    /// Makes the call, unless others of its direction wait.
    fn begin(&mut self, index: u32) {
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
    fn begin_waiting(&mut self, index: u32) -> bool {
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

    fn attempt(&mut self, index: u32) -> Option<i32> {
        let request = &mut self.operations.at_mut(index).request;
        let mut connecting = request.state & state::CONNECTING != 0;
        let result = calls::attempt(request, &mut connecting);
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
    fn leave(&mut self, index: u32) -> Option<Ready> {
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
    fn directions_from(&self, first: u32) -> Ready {
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

    /// Asks all who wait for an fd in a direction that is ready, in order; none behind one that goes on waiting. O(waiting).
    fn retry(&mut self, fd: i32, ready: Ready) {
        let Some(first) = self.operations.first_waiter(fd) else { return };
        let last = self.lists.links[first].prev();
        let mut blocked = Ready::empty();
        let mut own = None;
        let mut at = first;
        loop {
            let next = self.lists.links[at].next();
            let direction = calls::direction(&self.operations.at(at).request);
            if !blocked.contains(direction) && ready.intersects(direction | Ready::ERROR | Ready::HANGUP) {
                match self.attempt(at) {
                    Some(result) => {
                        own = self.leave(at);
                        self.complete(at, result);
                    }
                    None => blocked |= direction,
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
    fn settle_fd(&mut self, fd: i32, told: bool, own: Option<Ready>) {
        let Some(index) = self.fd_index.find(fd, &self.registrations) else { return };
        let waited = self.operations.first_waiter(fd);
        let now = self.registrations[index + 1].interest();
        let wanted = match waited {
            Some(first) if self.is_beyond_sources(index) => self.directions_from(first),
            Some(first) => {
                let own = Ready::from_bits_truncate(self.operations.at(first).request.beside.into());
                self.directions_from(first) | own & Ready::INTEREST
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
    pub(super) fn note_for_operations(&mut self, report: &Report) -> bool {
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
            super::turn::merge(&mut self.lists, report.place, report.ready & asked);
        }
        true
    }

    /// The backend has refused to watch the fd at this place.
    #[cold]
    pub(super) fn note_refused(&mut self, place: u32) {
        // If it can still be used it is asked for again, soon.
        self.retry(self.registrations[place].fd(), Ready::OF_FD);
        self.operations.unwatched = true;
    }
}

/// Watches of fds that have no source. Their places stand behind the sources'.
impl Engine {
    /// Watches an fd. What the backend says of it; EAGAIN: there is no place. O(1) expected, O(operations) when most places are
    /// in use.
    fn watch(&mut self, fd: i32, interest: Ready) -> Result<()> {
        let index = self.free_watch().ok_or(Error::AGAIN)?;
        self.backend.check(fd, index + 1, Mode::empty())?;
        let mode = if self.backend.has_oneshot() { Mode::ONESHOT } else { Mode::empty() };
        self.register(index, fd, interest, mode)?;
        self.fd_index.insert(fd, index, &self.registrations);
        let operations = &mut self.operations;
        operations.places_used += 1;
        operations.places_low = operations.places_low.max(index - operations.first + 1);
        Ok(())
    }

    /// A place for a watch: the lowest that is free, else a new one, else one that nobody waits for.
    fn free_watch(&mut self) -> Option<u32> {
        let Operations { first, places, places_used, places_low, .. } = self.operations;
        if places_used < places {
            let is_free = |number: &u32| self.registrations[first + number + 1].is_none();
            let found = (places_low..places).chain(0..places_low).find(is_free);
            if let Some(number) = found {
                self.operations.places_low = number;
                return Some(first + number);
            }
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
    fn unwatch(&mut self, index: u32) {
        self.fd_index.remove(self.registrations[index + 1].fd(), &self.registrations);
        self.unregister_own(index);
        let operations = &mut self.operations;
        operations.places_used -= 1;
        operations.places_low = operations.places_low.min(index - operations.first);
    }

    /// Names what the loop watches for itself, for the first time.
    pub(super) fn name_own(&mut self, index: u32) {
        self.shared.names.watch(index, self.generation);
        self.registrations[index + 1] = Registration::NONE;
    }

    fn unregister_own(&mut self, index: u32) {
        self.deregister(index, false);
        self.shared.names.retire(index);
    }

    /// The watch of an fd that is to have a source goes; whether there was one. Who waits for it has none for now.
    pub(super) fn displace_watch(&mut self, fd: i32) {
        if let Some(index) = self.fd_index.find(fd, &self.registrations) {
            debug_assert!(self.is_beyond_sources(index));
            self.unwatch(index);
        }
    }

    /// An fd has a source from now on, with this interest: who waits for it shares its registration.
    pub(super) fn share_source(&mut self, fd: i32, interest: Ready) {
        self.set_own_interest(fd, interest);
    }

    /// An fd has no source any more: who waits for it needs a watch of their own.
    pub(super) fn watch_alone(&mut self, fd: i32) {
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
