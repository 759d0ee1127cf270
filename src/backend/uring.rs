//! io_uring(7), as a readiness backend: polls are submitted, and their completions are what is ready. Additions and changes
//! ride in the one system call that also waits.
//!
//! Level-triggered: a poll that completes once, and is armed again with the next wait: the completions that were taken are
//! the list of those that are due, and stay in the ring until then. EDGE: one that goes
//! on. A completion that may tell of what has gone by is asked again, poll(2). Each poll has its own data (handle and a
//! sequence number), so that what an earlier one has left behind is recognised. A removal ends the poll at once: an armed
//! poll holds the file, which the program's close would not close.
//!
//! Operations go into the same rings. Their data is their handle and a bit that no poll has; each has one completion, which is
//! reported as it is.
//!
//! Streams are received for by the kernel, where there are buffers that it may take: one request for each stream that is
//! readable, submitted again with the wait after its data was taken out. What they send may ride in the wait too.
//!
//! There may be more polls than completions have room: the kernel keeps what does not fit (IORING_FEAT_NODROP) and gives
//! it with the next wait. Should it ever have no memory for that, it counts them, and all polls are made anew.

#[cfg(feature = "streams")]
use super::OfStream;
use super::changes::Changes;
use super::{Backend, Mode, Ready, Registration, Registrations, Report, complete, handle};
use crate::error::{Error, Result};
use crate::handle::Handle;
#[cfg(feature = "operations")]
use crate::request::Request;
use crate::ring::RingMemory;
use crate::storage::names::Names;
use crate::sys::uring::{self, Completions, OPERATION, STREAM, Submissions, Which};
use crate::time::Duration;

// The state of a registration; the lowest bits are the interest that the poll has.
/// There is a poll.
const ARMED: u16 = 1 << 14;
/// It is to be made anew, also when the interest is the same.
const ANEW: u16 = 1 << 13;
/// The last poll told nothing that is asked for: the next one goes on, and tells when something changes. (A half-closed
/// connection completes every poll, PEER_CLOSED asked for or not.)
const PARKED: u16 = 1 << 12;
/// Something is being received.
const RECEIVING: u16 = 1 << 11;
/// The number of the latest poll, kept when the place gets another owner.
const SEQUENCE: u16 = 0x7f8;
const SEQUENCE_SHIFT: u32 = 3;
const TOLD: u16 = Ready::INTEREST.bits();

/// The part of a poll's data that is the handle's: all of the place, and 30 bits of the generation, which every owner moves on by two.
const HANDLE_BITS: u32 = 54;
const PLACE: u64 = 0xff_ffff;
/// In the data of a stream: it is sent, and not received.
#[cfg(feature = "streams")]
const SEND: u64 = 1 << HANDLE_BITS;

pub(crate) struct Uring {
    submissions: Submissions,
    changes: Changes,
    /// A thread is bound to the rings.
    enabled: bool,
    /// Polls that go on.
    edges: u32,
    /// A poll could not be cancelled: all have to be.
    lost: bool,
    /// The latest `prepare` has given polls up, which the next submission cancels.
    given_up: bool,
    /// Completions that the kernel could not keep, when it was last looked.
    dropped: u32,
    /// Operations in the rings.
    #[cfg(feature = "operations")]
    operations: u32,
    /// The buffers that the kernel may take.
    #[cfg(feature = "streams")]
    provided: Option<uring::Provided>,
    /// What was being received for streams that are gone, and could not be cancelled.
    #[cfg(feature = "streams")]
    left_over: heapless::Vec<u64, 32>,
}

/// What a wait needs, and brings.
pub(super) struct Area(Completions);

/// The data of the poll that a registration has.
#[inline]
fn data(handle: Handle, state: u16) -> u64 {
    handle.raw() & ((1 << HANDLE_BITS) - 1) | u64::from((state & SEQUENCE) >> SEQUENCE_SHIFT) << HANDLE_BITS
}

impl Uring {
    /// New rings. ENOSYS, EPERM, ENOMEM, EMFILE, ENFILE; ENOTSUP: the kernel is too old.
    pub(super) fn new(memory: Option<RingMemory>) -> Result<(Uring, Area)> {
        let (submissions, completions) = uring::make(memory)?;
        let changes = Changes::new();
        let uring = Uring {
            submissions,
            changes,
            enabled: false,
            edges: 0,
            lost: false,
            given_up: false,
            dropped: 0,
            #[cfg(feature = "operations")]
            operations: 0,
            #[cfg(feature = "streams")]
            provided: None,
            #[cfg(feature = "streams")]
            left_over: heapless::Vec::new(),
        };
        Ok((uring, Area(completions)))
    }

    pub(super) fn is_mapped(&self) -> bool {
        self.submissions.is_mapped()
    }

    /// Makes the poll be what the registration wants. False: there is no room now.
    fn apply(&mut self, registration: &mut Registration, handle: Handle) -> bool {
        let interest = registration.interest();
        #[cfg(feature = "streams")]
        let interest = if registration.mode().contains(Mode::RECEIVE) {
            if !self.apply_receive(registration, handle) {
                return false;
            }
            interest - Ready::READABLE
        } else {
            interest
        };
        if registration.state & ARMED != 0 {
            if registration.state & (ANEW | TOLD) == interest.bits() {
                return true;
            }
            if !self.submissions.cancel(Which::One(data(handle, registration.state))) {
                return false;
            }
            self.given_up = true;
            registration.state &= !ARMED;
        }
        registration.state &= !ANEW;
        if interest.is_empty() {
            return true;
        }
        let sequence = registration.state.wrapping_add(1 << SEQUENCE_SHIFT) & SEQUENCE;
        let state = registration.state & !(SEQUENCE | TOLD) | sequence | interest.bits();
        let many = registration.mode().contains(Mode::EDGE) || registration.state & PARKED != 0;
        if !self.submissions.poll(registration.fd(), mask(interest.bits()), many, data(handle, state)) {
            return false;
        }
        registration.state = state | ARMED;
        true
    }

    /// The same of what is received.
    #[cfg(feature = "streams")]
    fn apply_receive(&mut self, registration: &mut Registration, handle: Handle) -> bool {
        let mode = registration.mode();
        let mut wanted = registration.interest().contains(Ready::READABLE);
        if wanted && mode.contains(Mode::RECEIVED) {
            *registration = registration.with_mode(mode | Mode::PASSED_OVER);
            wanted = false;
        }
        let is_under_way = registration.state & RECEIVING != 0;
        if wanted == is_under_way {
            return true;
        }
        let data = data_of_stream(handle);
        if is_under_way {
            // Its completion comes all the same.
            return self.submissions.cancel(Which::One(data));
        }
        let submitted = self.submissions.receive(registration.fd(), data);
        if submitted {
            registration.state |= RECEIVING;
        }
        submitted
    }

    /// What came of it, or of what was sent. `None`: nobody wants to know.
    #[cfg(feature = "streams")]
    fn report_of_stream(
        registrations: &mut Registrations,
        names: &Names,
        completion: &uring::Completion,
    ) -> Option<Report> {
        let place = (completion.data & PLACE) as u32;
        let handle = handle(names, place);
        let registration = &mut registrations[place];
        let result = completion.result.map_or_else(|error| -error.errno(), u32::cast_signed);
        let report = |registration: Registration, stream| Report {
            place,
            source: handle,
            registration,
            ready: Ready::empty(),
            result,
            stream,
        };
        if completion.data == data_of_stream(handle) | SEND {
            return Some(report(*registration, OfStream::Sent));
        }
        let is_own = completion.data == data_of_stream(handle) && registration.state & RECEIVING != 0;
        if is_own {
            registration.state &= !RECEIVING;
        }
        match completion.buffer {
            // Of a stream that is gone.
            Some(number) if !is_own || result <= 0 => Some(report(*registration, OfStream::Unused(number))),
            // (It is submitted again when it is settled.)
            None if !is_own || result == -Error::CANCELED.errno() => None,
            None if result == -Error::NO_BUFFERS.errno() => Some(report(*registration, OfStream::Failed)),
            buffer => {
                *registration = registration.with_mode(registration.mode() | Mode::RECEIVED);
                Some(report(*registration, buffer.map_or(OfStream::Failed, OfStream::Received)))
            }
        }
    }

    /// The next report when the next completion may be a poll's.
    #[cfg_attr(not(becket_small), inline(never))]
    fn next_of_poll(&mut self, registrations: &mut Registrations, names: &Names, area: &mut Area) -> Option<Report> {
        loop {
            if area.0.take_old() {
                ask_again(registrations, names, &mut area.0);
            }
            let Some(completion) = area.0.next() else {
                if area.0.refill() {
                    continue;
                }
                return None;
            };
            #[cfg(feature = "operations")]
            if completion.data & OPERATION != 0 && completion.data != uring::NOBODY {
                self.operations -= 1;
                let result = completion.result.map_or_else(|error| -error.errno(), u32::cast_signed);
                return Some(Report::of_operation((completion.data & PLACE) as u32, result));
            }
            #[cfg(feature = "streams")]
            if completion.data & (OPERATION | STREAM) == STREAM {
                match Uring::report_of_stream(registrations, names, &completion) {
                    None => continue,
                    report => return report,
                }
            }
            let Some(place) = place_of(registrations, names, completion.data) else { continue };
            let registration = &mut registrations[place];
            let edge = registration.mode().contains(Mode::EDGE);
            if !completion.more {
                registration.state &= !ARMED;
            } else if !edge && registration.state & ANEW != 0 {
                continue; // it has told already
            }
            let mut ready = completion.result.map_or(Ready::ERROR, uring::readiness);
            if registration.state & Ready::READABLE.bits() == 0 {
                ready -= Ready::PEER_CLOSED;
            }
            registration.state &= !PARKED;
            if ready.is_empty() {
                registration.state |= PARKED;
                continue;
            }
            if completion.more && !edge {
                // As long as it is ready, and not once: one that completes again and again.
                registration.state |= ANEW;
            }
            let ready = complete(ready, registration.interest());
            let report = Report::of_place(names, place, *registration, ready);
            if report.is_some() {
                return report;
            }
        }
    }

    /// Ends all polls, and has them made anew.
    #[cold]
    fn start_over(&mut self, registrations: &mut Registrations, count: u32) {
        #[cfg(feature = "operations")]
        let all = if self.operations > 0 { Which::Polls } else { Which::All };
        #[cfg(not(feature = "operations"))]
        let all = Which::All;
        self.lost = !self.submissions.cancel(all);
        let _ = self.submissions.submit();
        for registration in registrations.first_mut(count) {
            registration.state &= !ARMED;
        }
        self.changes.note_all(registrations, count);
    }
}

/// The data of what is received for a stream.
#[cfg(feature = "streams")]
fn data_of_stream(handle: Handle) -> u64 {
    STREAM | handle.raw() & ((1 << HANDLE_BITS) - 1)
}

/// The place whose poll has this data. `None`: it was an earlier one's.
#[inline]
fn place_of(registrations: &Registrations, names: &Names, of: u64) -> Option<u32> {
    if of & (OPERATION | STREAM) != 0 {
        return None; // or nobody's
    }
    let place = (of & PLACE) as u32;
    let state = registrations[place].state;
    (state & ARMED != 0 && of == data(handle(names, place), state)).then_some(place)
}

/// The kernel notes what a poll has found when the file tells it, not when it completes: what was drained since is not
/// ready any more. With EDGE the program finds out by itself.
#[cold]
fn ask_again(registrations: &Registrations, names: &Names, completions: &mut Completions) {
    completions.ask_again(|data| {
        let registration = registrations[place_of(registrations, names, data)?];
        let told = registration.state & TOLD;
        (!registration.mode().contains(Mode::EDGE)).then(|| (registration.fd(), mask(told)))
    });
}

/// What a poll for this interest asks for.
fn mask(interest: u16) -> u32 {
    let asks_for_end = interest & Ready::READABLE.bits() != 0;
    u32::from(interest) | if asks_for_end { uring::PEER_CLOSED } else { 0 }
}

impl Area {
    #[cfg_attr(not(becket_small), inline(never))]
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<u32> {
        self.0.wait(timeout)
    }
}

impl Backend<Area> for Uring {
    fn name(&self) -> &'static core::ffi::CStr {
        c"io_uring"
    }

    fn check(&mut self, _fd: i32, _place: u32, mode: Mode) -> Result<()> {
        if mode.contains(Mode::EXCLUSIVE) { Err(Error::UNSUPPORTED) } else { Ok(()) }
    }

    fn add(&mut self, registrations: &mut Registrations, place: u32, _: Handle, wanted: Registration) -> Result<()> {
        let registration = &mut registrations[place];
        *registration = wanted;
        registration.state &= !(ARMED | ANEW | PARKED | RECEIVING);
        self.edges += u32::from(wanted.mode().contains(Mode::EDGE));
        self.changes.note(registration, place);
        Ok(())
    }

    fn set(&mut self, registrations: &mut Registrations, place: u32, interest: Ready) {
        let registration = &mut registrations[place];
        *registration = registration.with_interest(interest);
        registration.state &= !PARKED;
        if registration.mode().contains(Mode::EDGE) {
            registration.state |= ANEW;
        }
        self.changes.note(registration, place);
    }

    fn remove(&mut self, registrations: &mut Registrations, names: &Names, place: u32, _closing: bool) {
        let registration = &mut registrations[place];
        self.edges -= u32::from(registration.mode().contains(Mode::EDGE));
        let is_armed = registration.state & ARMED != 0;
        let is_receiving = cfg!(feature = "streams") && registration.state & RECEIVING != 0;
        if is_armed {
            self.lost |= !self.submissions.cancel(Which::One(data(handle(names, place), registration.state)));
        }
        #[cfg(feature = "streams")]
        if is_receiving {
            let data = data_of_stream(handle(names, place));
            if !self.submissions.cancel(Which::One(data)) {
                self.lost |= self.left_over.push(data).is_err();
            }
        }
        // (Between `prepare` and the wait its poll may be given up, and still hold the file.)
        if is_armed || is_receiving || self.given_up && self.submissions.unsubmitted() > 0 {
            // From another thread than the loop's own nothing can be submitted: the loop does, as soon as it wakes.
            let submitted = self.submissions.submit();
            #[cfg(feature = "streams")]
            if is_receiving && submitted.is_err() {
                // Its fd may be another file's by then.
                self.submissions.withdraw(data_of_stream(handle(names, place)));
            }
            let _ = submitted;
        }
        *registration = Registration { state: registration.state & !(ARMED | ANEW | RECEIVING), ..Registration::NONE };
    }

    #[cfg_attr(not(becket_small), inline(never))]
    fn prepare(
        &mut self,
        registrations: &mut Registrations,
        names: &Names,
        count: u32,
        area: &mut Area,
        _: &mut impl FnMut(u32, Ready),
    ) -> bool {
        if !self.enabled {
            self.enabled = self.submissions.enable().is_ok();
        }
        self.given_up = false;
        let dropped = self.submissions.dropped();
        if self.lost || dropped != self.dropped {
            self.dropped = dropped;
            self.start_over(registrations, count);
        }
        #[cfg(feature = "streams")]
        while let Some(data) = self.left_over.last()
            && self.submissions.cancel(Which::One(*data))
        {
            self.left_over.pop();
        }
        // Who has told is armed again.
        let all_settled = area.0.settle(|data| {
            if data & OPERATION == 0 {
                let place = (data & PLACE) as u32;
                if !self.apply(&mut registrations[place], handle(names, place)) {
                    self.changes.note(&mut registrations[place], place);
                }
            }
        });
        if !all_settled {
            self.changes.note_all(registrations, count);
        }
        if !self.changes.is_empty() {
            let mut changes = core::mem::replace(&mut self.changes, Changes::new());
            changes.apply(registrations, |registrations, place| {
                self.apply(&mut registrations[place], handle(names, place))
            });
            self.changes = changes;
        }
        self.changes.is_empty() && !self.lost
    }

    #[cfg_attr(not(becket_small), inline(never))]
    fn next(&mut self, registrations: &mut Registrations, names: &Names, area: &mut Area) -> Option<Report> {
        #[cfg(feature = "operations")]
        if let Some((data, result)) = area.0.next_of_operation() {
            self.operations -= 1;
            return Some(Report::of_operation((data & PLACE) as u32, result));
        }
        self.next_of_poll(registrations, names, area)
    }

    /// A poll that goes on may have several completions, which the queue makes one event of.
    fn is_steady(&self, _: &Area) -> bool {
        self.edges == 0
    }

    #[cfg(feature = "operations")]
    fn submits(&self) -> bool {
        true
    }

    #[cfg(feature = "operations")]
    fn submit(&mut self, request: &Request, elsewhere: bool, operation: Handle) -> bool {
        let submitted = self.submissions.operation(request, elsewhere, OPERATION | operation.raw());
        self.operations += u32::from(submitted);
        submitted
    }

    #[cfg(feature = "operations")]
    fn submit_poll(&mut self, fd: i32, interest: Ready, operation: Handle) -> bool {
        let mask = u32::from(interest.bits());
        let submitted = self.submissions.poll(fd, mask, false, OPERATION | operation.raw());
        self.operations += u32::from(submitted);
        submitted
    }

    #[cfg(feature = "operations")]
    fn cancel(&mut self, operation: Handle) -> bool {
        self.submissions.cancel(Which::One(OPERATION | operation.raw()))
    }

    #[cfg(feature = "streams")]
    fn provide(&mut self) -> u32 {
        self.provided = self.submissions.provide();
        self.provided.as_ref().map_or(0, uring::Provided::room)
    }

    #[cfg(feature = "streams")]
    fn lend(&mut self, number: u16, start: core::ptr::NonNull<u8>, bytes: u32) {
        if let Some(provided) = &mut self.provided {
            provided.give(number, start, bytes);
        }
    }

    #[cfg(feature = "streams")]
    fn took_received(&mut self, registrations: &mut Registrations, place: u32) {
        let registration = &mut registrations[place];
        let mode = registration.mode();
        *registration = registration.with_mode(mode - (Mode::RECEIVED | Mode::PASSED_OVER));
        // Else it goes on when the completion is settled.
        if mode.contains(Mode::PASSED_OVER) {
            self.changes.note(registration, place);
        }
    }

    #[cfg(feature = "streams")]
    fn ride(&mut self, fd: i32, bytes: (*const (), u32), stream: Handle) -> bool {
        self.enabled && self.submissions.send(fd, bytes.0, bytes.1, data_of_stream(stream) | SEND)
    }

    #[cfg(feature = "streams")]
    fn flush_rides(&mut self) {
        if !self.has_no_ride() {
            let _ = self.submissions.submit();
        }
    }

    #[cfg(feature = "streams")]
    fn has_no_ride(&self) -> bool {
        self.submissions.unsubmitted() == 0
    }

    #[cfg(feature = "streams")]
    fn has_more(&self, area: &Area) -> bool {
        area.0.has_more()
    }

    #[cfg(feature = "streams")]
    fn end_ride(&mut self, stream: Handle) {
        self.flush_rides();
        if !self.has_no_ride() {
            self.submissions.withdraw(data_of_stream(stream) | SEND);
        }
    }

    /// In a forked child the rings are the parent's, and so are the polls.
    fn close(&mut self, ours: bool) {
        #[cfg(feature = "streams")]
        if ours && self.provided.is_some() {
            self.submissions.withdraw_buffers();
        }
        if ours && self.enabled {
            // So that the files are let go of, and the kernel writes nothing into the caller's memory after this.
            let _ = self.submissions.cancel(Which::All);
            let _ = self.submissions.submit();
        }
        self.submissions.close(ours);
        #[cfg(feature = "streams")]
        if let Some(provided) = &self.provided {
            provided.end();
        }
    }
}
