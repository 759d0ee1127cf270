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

mod engines;
mod waiting;
mod watches;

use super::{Config, Engine, Taken};
use crate::backend::{self, AnyBackend, Backend, Ready};
use crate::error::{Error, Result};
use crate::handle::{Handle, Kind};
#[cfg(posix_aio)]
use crate::ops::FilesChoice;
use crate::ops::{AnyFiles, Chosen, Files, Given};
#[cfg(posix_aio)]
use crate::process::signals;
use crate::request::{CURRENT, Call, Lease, Request};
use crate::storage::Block;
use crate::storage::fd_index::FdIndex;
use crate::storage::lists::List;
use crate::storage::names::Names;
use crate::storage::operations::{Operation, Operations as Table};
use crate::storage::slot::{Link, NIL, Slot, Target, bits};
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
    /// A connect that was begun.
    pub(super) const CONNECTING: u8 = 1 << 5;
    /// The engine would have had to wait, and was asked not to: a thread of the kernel's is to make it.
    pub(super) const ELSEWHERE: u8 = 1 << 6;
}

/// In `Request::beside`, above the interest of a source: the engine waits for the fd.
const POLLING: u8 = 1 << 7;

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
    /// Places for fds that were ever used; none of those is free below the second; where the next is looked for that can be
    /// had back.
    places: u32,
    places_low: u32,
    hand: u32,
    /// Registrations that were never used are none.
    blank: bool,
    files: AnyFiles,
    files_note: &'static core::ffi::CStr,
    /// Operations that the engine of files has.
    in_files: u32,
    /// The backend watches its descriptor.
    files_watched: bool,
    /// The backend has refused to watch an fd.
    unwatched: bool,
    /// When the rest of those that were told for nothing ends; NEVER: nobody rests.
    rest_until: Instant,
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
            places_low: 0,
            hand: 0,
            blank: false,
            files: chosen.files,
            files_note: chosen.note,
            in_files: 0,
            files_watched: false,
            unwatched: false,
            rest_until: Instant::NEVER,
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

/// How a request is made.
struct Way {
    maker: Maker,
    /// What its file is, where that has to be known.
    nature: u8,
    /// In another thread, whatever it is.
    elsewhere: bool,
}

impl Way {
    fn by(maker: Maker) -> Way {
        Way { maker, nature: 0, elsewhere: false }
    }
}

/// Submitting, cancelling, naming.
impl Engine {
    /// Submits a request. EAGAIN: all places are taken; EBUSY: a close of an fd that is watched; ENOSYS: a file, and nobody
    /// for files; ECANCELED: a drain is under way. O(1), and O(operations that wait for the fd).
    #[cfg(feature = "capi")]
    pub(crate) fn submit(&mut self, request: &Request, target: Target) -> Result<Handle> {
        self.submit_lent(request, target, None)
    }

    /// The same with memory that was lent, and comes back when the event is taken out.
    pub(crate) fn submit_lent(
        &mut self,
        request: &Request,
        target: Target,
        lease: Option<&'static Lease>,
    ) -> Result<Handle> {
        if self.operations.draining {
            return Err(Error::CANCELED);
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
        let Way { maker, nature, elsewhere } = self.way_of(request)?;
        let (index, generation) = self.free_operation();
        let handle = Names::handle_of(index, generation);
        let by_files = matches!(maker, Maker::Files);
        let told = self.tell_at_once(&maker, request, elsewhere, handle);
        self.operations.in_files += u32::from(told && by_files);
        let state = if by_files { state::FILES } else { 0 }
            | if told { state::SUBMITTED } else { 0 }
            | if elsewhere { state::ELSEWHERE } else { 0 };
        let mut operation = Operation { request: *request, lease };
        (operation.request.state, operation.request.nature) = (state, nature);
        self.occupy_operation(index, generation, operation, target);
        self.statistics.operations += 1;
        match maker {
            _ if told => return Ok(handle),
            Maker::Backend | Maker::Files => self.lists.push(List::UNTOLD, index),
            Maker::Readiness => self.begin(index),
            Maker::Inline => {
                self.statistics.operations_inline += 1;
                self.complete(index, calls::at_once(request));
            }
            Maker::Failed(error) => self.complete(index, -error.errno()),
        }
        self.lists.note_queued();
        Ok(handle)
    }

    /// How it is made. ENOSYS.
    #[inline]
    fn way_of(&mut self, request: &Request) -> Result<Way> {
        let in_backend = |engine: &Engine| engine.backend.submits();
        let nature;
        let mut elsewhere = false;
        match request.call {
            Call::Read | Call::Write | Call::ReadV | Call::WriteV => {
                if request.extra != CURRENT {
                    return self.way_of_files(request);
                }
                let writes = matches!(request.call, Call::Write | Call::WriteV);
                if !writes && self.operations.files.is_backend() && in_backend(self) {
                    return self.way_of_files(request);
                }
                nature = match self.backend.nature_of(request.fd) {
                    Ok(nature::FILE) => return self.way_of_files(request),
                    Ok(nature) => nature,
                    Err(error) => return Ok(Way::by(Maker::Failed(error))),
                };
                // A terminal with a little room: the kernel would stand still in the submission.
                elsewhere = nature == nature::BLOCKING_DEVICE && writes && in_backend(self);
            }
            Call::Fsync => return self.way_of_files(request),
            Call::OpenAt | Call::OpenAt2 | Call::Statx | Call::Close => {
                let made = self.operations.files.makes(request);
                return if made { self.way_of_files(request) } else { Ok(Way::by(Maker::Inline)) };
            }
            _ => nature = nature::SOCKET,
        }
        Ok(Way { maker: if in_backend(self) { Maker::Backend } else { Maker::Readiness }, nature, elsewhere })
    }

    /// The same of a file. ENOSYS: nobody does.
    #[inline]
    fn way_of_files(&self, request: &Request) -> Result<Way> {
        match &self.operations.files {
            AnyFiles::Backend => Ok(Way::by(Maker::Backend)),
            AnyFiles::Nobody => Err(Error::NO_CALL),
            #[allow(unreachable_patterns)] // where none is built in
            files if files.makes(request) => Ok(Way::by(Maker::Files)),
            #[allow(unreachable_patterns)]
            _ => Ok(Way::by(Maker::Inline)),
        }
    }

    /// Who reads and writes files for a loop that is being made.
    pub(super) fn choose_files(
        block: &Block,
        config: &Config,
        backend: &AnyBackend,
        given: backend::Given,
    ) -> Result<Chosen> {
        if block.operations == 0 {
            return Ok(Chosen { files: AnyFiles::Nobody, note: c"no operations" });
        }
        if backend.is_simulated() {
            return Ok(Chosen { files: AnyFiles::Backend, note: c"simulated" });
        }
        #[cfg(posix_aio)]
        let signal = match config.files {
            FilesChoice::AioSignal => Some(signals::choose(config.aio_signal)?),
            _ => None,
        };
        #[cfg(not(posix_aio))]
        let signal = None;
        // Memory for rings that the backend has no use for is theirs.
        let ring = given.ring.filter(|_| !backend.submits());
        AnyFiles::choose(config.files, backend.submits(), Given { ring, aio: given.aio, signal })
    }

    /// Takes the signal of the engine of files. EBUSY: another loop has it; EINVAL: it cannot be caught.
    #[cfg(posix_aio)]
    pub(super) fn take_signal_of_files(&mut self) -> Result<()> {
        let Some(mut signal) = self.operations.files.signal() else { return Ok(()) };
        loop {
            match signals::acquire(signal, &self.shared, 0) {
                // Another loop was faster: there may be another one.
                Err(Error::BUSY) if self.config.aio_signal == 0 => signal = signals::choose(0)?,
                answer => {
                    self.operations.files.set_signal(signal);
                    return answer;
                }
            }
        }
    }

    /// Gives it back.
    #[cfg(posix_aio)]
    pub(super) fn give_signal_of_files_back(&mut self) {
        if let Some(signal) = self.operations.files.signal() {
            signals::release_silenced(signal, &self.shared, self.operations.in_files > 0);
        }
    }

    /// Whether the engine of files uses a signal.
    #[cfg(posix_aio)]
    pub(super) fn is_signal_of_files(&self, signal: i32) -> bool {
        self.operations.files.signal() == Some(signal)
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
            state::SUBMITTED => self.tell_or_queue(index),
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

    /// Ends what nobody carries out any more, after [`Engine::cancel_all`]: the simulator serves another loop. O(operations).
    pub(super) fn end_unserved(&mut self) {
        for number in 0..self.operations.table.mark() {
            let index = self.operations.first + number;
            if self.lists.links[index].is(Kind::Operation) && self.operations.place_of(index) == state::SUBMITTED {
                self.submission_ended(index, CANCELED);
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
            if request.call.makes_fd() && result >= 0 {
                let _ = self.backend.close_fd(result as i32);
            }
            if let Some(lease) = lease {
                lease.give_back();
            }
            self.lists.unlink(index);
            self.vacate_operation(index);
        }
        !self.has_operations()
    }

    pub(crate) fn files_name(&self) -> &'static core::ffi::CStr {
        if self.backend.is_simulated() { self.backend.name() } else { self.operations.files.name() }
    }

    /// Why it is these.
    pub(crate) fn files_note(&self) -> &'static core::ffi::CStr {
        self.operations.files_note
    }
}

/// Slots.
impl Engine {
    /// The slot that is taken next, and its generation; there is one.
    #[inline]
    fn free_operation(&self) -> (u32, u64) {
        let operations = &self.operations;
        match operations.free_first {
            NIL => {
                let generation = self.shared.names.generation_after(self.generation);
                (operations.first + operations.table.mark(), generation)
            }
            index => (index, self.lists.slots[index].time),
        }
    }

    /// Takes that slot.
    #[inline]
    fn occupy_operation(&mut self, index: u32, generation: u64, operation: Operation, target: Target) {
        let operations = &mut self.operations;
        let link = &mut self.lists.links[index];
        if operations.free_first == index {
            operations.free_first = link.next();
            if operations.free_first == NIL {
                operations.free_last = NIL;
            }
        }
        operations.table.set(index - operations.first, operation);
        *link = Link::new(Kind::Operation);
        // It keeps the loop alive, as any operation does at first.
        link.set(bits::ACTIVE | bits::COUNTED, true);
        let slot = &mut self.lists.slots[index];
        *slot = Slot::new(target);
        slot.time = generation;
        self.counted += 1;
        self.statistics.operations_now += 1;
    }

    /// Gives the slot of an operation that is in no list back. One whose event may be dispatched later is the last to be
    /// taken again.
    #[cfg_attr(not(becket_small), inline(always))]
    fn vacate_operation(&mut self, index: u32) {
        let Engine { lists, operations, .. } = self;
        let link = &mut lists.links[index];
        debug_assert!(link.list() == 0);
        self.counted -= u32::from(link.has(bits::COUNTED));
        self.leveled -= u32::from(link.level() != 0);
        self.statistics.operations_now -= 1;
        let slot = &mut lists.slots[index];
        debug_assert!(slot.heap_place() == NIL);
        slot.time = self.shared.names.generation_after(slot.time);
        if operations.pulling && operations.free_last != NIL {
            link.vacate(NIL);
            lists.links[operations.free_last].set_next(index);
            operations.free_last = index;
        } else {
            link.vacate(operations.free_first);
            if operations.free_first == NIL {
                operations.free_last = index;
            }
            operations.free_first = index;
        }
    }

    /// Its result, and an event.
    fn complete(&mut self, index: u32, mut result: i32) {
        if self.lists.slots[index].heap_place() != NIL {
            self.set_deadline(index, Instant::NEVER);
        }
        let request = &mut self.operations.at_mut(index).request;
        if request.call == Call::Close && result == -Error::INTERRUPTED.errno() {
            result = 0; // Linux has let go of the descriptor all the same, close(2)
        }
        // A thread of the kernel's that was in the middle of it says that it was interrupted; and what would have had to wait
        // is not asked again.
        let ended = [Error::CANCELED, Error::INTERRUPTED, Error::AGAIN].iter().any(|it| result == -it.errno());
        if ended && request.state & (state::CANCELLED | state::TIMED_OUT) != 0 {
            let timed_out = request.state & state::TIMED_OUT != 0;
            result = if timed_out { -Error::TIMED_OUT.errno() } else { CANCELED };
        }
        request.state = state::DONE;
        self.lists.slots[index].deadline = i64::from(result).cast_unsigned();
        self.queue_source(index);
    }

    fn result_of(&self, index: u32) -> i64 {
        self.lists.slots[index].deadline.cast_signed()
    }

    /// The event of an operation that is done, which is over with it.
    pub(super) fn take_operation(&mut self, index: u32, taken: &mut Taken) -> bool {
        self.hand_out(index, self.result_of(index), taken);
        true
    }

    /// A completion becomes an event at once, if there is nothing else to be looked at; else it is queued, or not the last.
    #[inline(always)]
    fn take_completion(&mut self, index: u32, result: i32, taken: &mut Taken) -> bool {
        let Request { state, beside, .. } = self.operations.at(index).request;
        let plain = state & !state::FILES == state::SUBMITTED
            && beside == 0
            && result >= 0
            && self.lists.links[index].is_plain_operation()
            && self.lists.slots[index].heap_place() == NIL;
        if !plain {
            self.submission_ended(index, result);
            return false;
        }
        self.operations.in_files -= u32::from(state & state::FILES != 0);
        self.hand_out(index, result.into(), taken);
        self.dispatches = self.dispatches.wrapping_add(1);
        self.statistics.events[Kind::Operation as usize - 1] += 1;
        self.phase.idle_done = true;
        true
    }

    /// For [`Engine::next_direct`]: what the backend reports of no source.
    #[inline(never)]
    pub(super) fn next_beyond(&mut self, index: u32, ready: Ready, result: i32, taken: &mut Taken) -> bool {
        // (Nobody waits for what is ready; and the completions of files are taken when the backend has no more.)
        ready.is_empty() && self.take_completion(index, result, taken)
    }

    /// For [`Engine::next_direct`]: a completion of the engine of files.
    #[inline(always)]
    pub(super) fn next_from_files(&mut self, taken: &mut Taken) -> bool {
        self.operations.in_files > 0 && self.next_of_files(taken)
    }

    #[inline(never)]
    fn next_of_files(&mut self, taken: &mut Taken) -> bool {
        while self.operations.in_files > 0
            && let Some((data, result)) = self.operations.files.next()
        {
            if let Some(index) = self.completed_of(data)
                && self.take_completion(index, result, taken)
            {
                return true;
            }
        }
        false
    }

    #[cfg_attr(not(becket_small), inline(always))]
    fn hand_out(&mut self, index: u32, value: i64, taken: &mut Taken) {
        let Operation { request, lease } = self.operations.at(index);
        taken.fd = if request.call.is_at_folder() { -1 } else { request.fd };
        let lease = *lease;
        let slot = &self.lists.slots[index];
        taken.source = Names::handle_of(index, slot.time);
        taken.value = value;
        taken.user = slot.target.user;
        taken.handler = slot.target.handler;
        taken.kind = Kind::Operation.mask().bits();
        taken.flags = 0;
        taken.level = self.lists.links[index].level().into();
        if let Some(lease) = lease {
            lease.give_back();
        }
        self.vacate_operation(index);
    }

    /// Whether the events that are taken out may be dispatched later.
    #[inline]
    pub(super) fn set_pulling(&mut self, on: bool) {
        self.operations.pulling = on;
    }
}
