//! Streams: a connection, or a socket of datagrams, as a source that receives and sends by itself.
//!
//! ```text
//!   connect ──► CONNECTING ──► receives and sends ──► close: CLOSING, what is queued is still sent ──┐
//!   add ────────────────────────▲      │  │ reset, an error                                         ▼
//!                                      │  └────────────────────────────────────────────────────► CLOSED, an event:
//!                                      └─ becket_remove: its fd is the program's again            then fd and slot go
//! ```
//!
//! A stream is an I/O source to the backend: its interest follows from its state ([`Engine::settle_stream`]), and what is
//! reported of it is merged and queued as that of any other. Its events are made when they are taken out, one at a time
//! ([`Engine::take_stream`]): then it receives, once for each report. While more is due it is queued again, behind the others.
//!
//! Where the backend receives by itself ([`Mode::RECEIVE`]), one buffer waits to be told of at most. A stream for which there
//! was no buffer is told of by its readiness, until most are lent to the backend again.

mod sending;

use super::io::IoOptions;
use super::{Engine, Taken};
use crate::backend::{Backend, Mode, OfStream, Ready, Report};
use crate::error::{Error, Result};
use crate::handle::{Handle, Kind};
use crate::request::{Call, Request};
use crate::storage::sends::Sending;
use crate::storage::slot::{Target, bits};
use crate::sys::operation::Address;
use crate::sys::stream::Message;
use crate::time::{Duration, Instant};
use core::ptr::NonNull;

/// What a stream remembers in single bits.
mod state {
    pub(super) const CONNECTING: u32 = 1;
    /// Of datagrams: no end, and each request for itself.
    pub(super) const DATAGRAM: u32 = 1 << 1;
    /// The program wants to receive nothing now.
    pub(super) const PAUSED: u32 = 1 << 2;
    /// There was no buffer.
    pub(super) const STARVED: u32 = 1 << 3;
    /// It has kept as many buffers as it may.
    pub(super) const CAPPED: u32 = 1 << 4;
    /// The peer sends no more, and that was told.
    pub(super) const ENDED: u32 = 1 << 5;
    /// The socket has taken less than there is.
    pub(super) const BLOCKED: u32 = 1 << 6;
    /// More is queued than the high watermark, or than the low one since.
    pub(super) const ABOVE: u32 = 1 << 7;
    /// After what is queued no more is sent.
    pub(super) const SHUT: u32 = 1 << 8;
    /// Sending has failed: nothing can be sent any more.
    pub(super) const BROKEN: u32 = 1 << 9;
    /// It is closed when everything is sent; nothing is received.
    pub(super) const CLOSING: u32 = 1 << 10;
    /// It has ended, and its last event is due.
    pub(super) const CLOSED: u32 = 1 << 11;
    /// An event is due: that it is connected, or that no more is queued than the low watermark.
    pub(super) const TELL_CONNECTED: u32 = 1 << 12;
    pub(super) const TELL_LOW: u32 = 1 << 13;
    /// Nothing is delivered: nobody awaits it.
    pub(super) const HELD: u32 = 1 << 14;
    /// What is first to be sent rides with the next wait, or did with the last.
    pub(super) const RIDING: u32 = 1 << 15;
    /// What the program sends is gathered until the stream's turn in the queue comes.
    pub(super) const BATCHED: u32 = 1 << 16;
    /// Something was, and waits for that.
    pub(super) const GATHERED: u32 = 1 << 17;

    /// In any of these nothing is received.
    pub(super) const SILENT: u32 = CONNECTING | PAUSED | STARVED | CAPPED | ENDED | CLOSING | CLOSED | HELD;
    /// In any of these nothing is accepted to be sent.
    pub(super) const SENDS_NO_MORE: u32 = SHUT | BROKEN | CLOSING | CLOSED;
}

/// What an event of a stream tells: one of these, above the flags of readiness.
pub(crate) mod flags {
    use crate::engine::StreamEvent;

    pub(crate) const DATA: u32 = StreamEvent::Data as u32;
    pub(crate) const END: u32 = StreamEvent::End as u32;
    pub(crate) const SENT: u32 = StreamEvent::Sent as u32;
    pub(crate) const LOW: u32 = StreamEvent::Low as u32;
    pub(crate) const CONNECTED: u32 = StreamEvent::Connected as u32;
    pub(crate) const CLOSED: u32 = StreamEvent::Closed as u32;
}

/// In the free slot of a stream whose last event was taken out, as its time: no source has that, with all readiness.
const LAST_WORD: u64 = u64::MAX;

/// It is known by then what the fd is.
const TRUSTED: IoOptions = IoOptions { oneshot: false, trusted: true, edge: false, exclusive: false };

/// How far sending has come when the call returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// It is done, and there will be no event.
    Done = 0,
    /// It is queued.
    Queued = 1,
    /// It is queued, and more is than the high watermark.
    Full = 2,
}

/// What came of looking for the next event.
enum Next {
    Event { flags: u32, value: i64, data: *mut () },
    Nothing,
}

impl Next {
    fn flag(flags: u32) -> Next {
        Next::Event { flags, value: 0, data: core::ptr::null_mut() }
    }
}

/// Beginning and ending.
impl Engine {
    /// A stream over a socket, which is the loop's from now on. EBADF, ENOTSOCK; EEXIST: it has a source; ENOSPC: there is no
    /// room for another source, or another stream. `datagrams`: what is known of the socket. O(1) expected, three system calls
    /// that do not block where nothing is known.
    pub(crate) fn add_stream(&mut self, fd: i32, datagrams: Option<bool>, target: Target) -> Result<Handle> {
        if fd < 0 {
            return Err(Error::BAD_FD);
        }
        if !self.streams.has_room() {
            return Err(Error::TABLE_FULL);
        }
        let datagrams = match datagrams {
            Some(datagrams) => datagrams,
            None => self.backend.adopt_socket(fd)?,
        };
        let source = self.add_fd(Kind::Stream, fd, Ready::READABLE, TRUSTED, target)?;
        let index = self.resolve(source)?;
        self.streams.add(index, if datagrams { state::DATAGRAM } else { 0 });
        if !datagrams {
            self.add_receiver(index);
        }
        Ok(source)
    }

    /// A stream over a new socket that is being connected. ENOSPC; EMFILE, …: what the system says of the socket at once; EAGAIN: a
    /// UNIX socket whose peer's queue is full. O(1) expected, O(log n) with a deadline.
    pub(crate) fn connect_stream(
        &mut self,
        family: i32,
        connect: impl FnOnce(i32) -> Result<Request>,
        within: Duration,
        target: Target,
    ) -> Result<Handle> {
        if !self.streams.has_room() {
            return Err(Error::TABLE_FULL);
        }
        self.free_slot(Kind::Stream)?;
        let fd = self.backend.socket(family)?;
        let begun = connect(fd).and_then(|request| {
            let mut connecting = false;
            match self.backend.attempt(&request, &mut connecting) {
                Some(0) => Ok(false),
                Some(error) => Err(Error::from_errno(error)),
                None if connecting => Ok(true),
                None => Err(Error::AGAIN),
            }
        });
        let added = begun.and_then(|connecting| {
            let interest = if connecting { Ready::WRITABLE } else { Ready::READABLE };
            Ok((connecting, self.add_fd(Kind::Stream, fd, interest, TRUSTED, target)?))
        });
        let (connecting, source) = match added {
            Ok(added) => added,
            Err(error) => {
                let _ = self.backend.close_fd(fd);
                return Err(error);
            }
        };
        let index = self.resolve(source)?;
        self.streams.add(index, if connecting { state::CONNECTING } else { state::TELL_CONNECTED });
        self.add_receiver(index);
        if !connecting {
            self.queue_source(index);
        } else if within != Duration::FOREVER {
            self.set_io_deadline_after(source, within)?;
        }
        Ok(source)
    }

    /// The slot of a stream, and its number. ESTALE, EINVAL.
    fn resolve_stream(&self, handle: Handle) -> Result<(u32, u32)> {
        let index = self.resolve_kind(handle, Kind::Stream)?;
        Ok((index, self.stream_at(index)))
    }

    fn stream_at(&self, index: u32) -> u32 {
        self.streams.find(index)
    }

    #[inline]
    fn is(&self, number: u32, bits: u32) -> bool {
        self.streams.at(number).state & bits != 0
    }

    fn set_state(&mut self, number: u32, bits: u32, on: bool) {
        let state = &mut self.streams.at_mut(number).state;
        *state = if on { *state | bits } else { *state & !bits };
    }

    /// Receiving stops, or goes on.
    pub(crate) fn pause_stream(&mut self, handle: Handle, on: bool) -> Result<()> {
        let (index, number) = self.resolve_stream(handle)?;
        self.set_state(number, state::PAUSED, on);
        self.settle_stream(index, number);
        Ok(())
    }

    /// What the program sends from now on is gathered, or no more.
    pub(crate) fn batch_stream(&mut self, handle: Handle, on: bool) -> Result<()> {
        let (_, number) = self.resolve_stream(handle)?;
        self.set_state(number, state::BATCHED, on);
        Ok(())
    }

    /// Nothing is delivered any more, or everything again.
    #[cfg(feature = "capi")]
    pub(crate) fn hold_stream(&mut self, handle: Handle, on: bool) -> Result<()> {
        let (index, number) = self.resolve_stream(handle)?;
        if self.is(number, state::HELD) == on {
            return Ok(());
        }
        self.set_state(number, state::HELD, on);
        if !on {
            self.queue_source(index);
        }
        self.settle_stream(index, number);
        Ok(())
    }

    /// After what is queued no more is sent.
    pub(crate) fn shutdown_stream(&mut self, handle: Handle) -> Result<()> {
        let (index, number) = self.resolve_stream(handle)?;
        if self.is(number, state::SHUT | state::CLOSING) {
            return Ok(());
        }
        if self.is(number, state::BROKEN | state::CLOSED) {
            return Err(Error::BROKEN_PIPE);
        }
        self.set_state(number, state::SHUT, true);
        self.sending_settled(index, number);
        Ok(())
    }

    /// It ends when everything is sent.
    pub(crate) fn close_stream(&mut self, handle: Handle) -> Result<()> {
        let (index, number) = self.resolve_stream(handle)?;
        self.set_state(number, state::CLOSING, true);
        self.drop_received(number);
        self.sending_settled(index, number);
        self.settle_stream(index, number);
        Ok(())
    }

    /// It ends now, and the peer learns that it was broken off.
    pub(crate) fn reset_stream(&mut self, handle: Handle) -> Result<()> {
        let (index, number) = self.resolve_stream(handle)?;
        if !self.is(number, state::CLOSED) {
            self.backend.break_off(self.fd_of(index));
            self.end_stream(index, number, Some(Error::CANCELED));
        }
        Ok(())
    }

    /// The stream has ended: what is left to be sent will not be, and its last event is due.
    fn end_stream(&mut self, index: u32, number: u32, reason: Option<Error>) {
        if self.is(number, state::CLOSED) {
            return;
        }
        let stream = self.streams.at_mut(number);
        if let Some(reason) = reason {
            stream.set_reason(reason);
        }
        self.set_state(number, state::CLOSED, true);
        self.drop_received(number);
        self.end_ride(index, number);
        self.drop_unsent(number, reason.unwrap_or(Error::CANCELED));
        self.settle_stream(index, number);
        self.queue_source(index);
    }

    /// The source goes, and its fd is the program's again.
    pub(super) fn forget_stream(&mut self, index: u32) {
        let number = self.stream_at(index);
        self.end_ride(index, number);
        self.streams.buffers.receivers -= u32::from(!self.is(number, state::DATAGRAM));
        while let Some((request, _)) = self.streams.outbox_mut(number).queue.pop() {
            self.take_back(request);
        }
        self.streams.remove(number, self.is(number, state::STARVED));
    }

    /// The source goes, and its fd is closed.
    pub(super) fn close_stream_at(&mut self, index: u32) {
        let fd = self.fd_of(index);
        self.forget_stream(index);
        self.forget_fd(index, true);
        self.vacate(index);
        let _ = self.backend.close_fd(fd);
    }

    /// Whose handler the last event of a stream is for. ESTALE: its place has another owner. O(1).
    pub(crate) fn target_of_closed(&self, handle: Handle) -> Result<Target> {
        let index = self.shared.names.left(handle).ok_or(Error::STALE)?;
        let slot = &self.lists.slots[index];
        if slot.time == LAST_WORD && slot.ready() == u8::MAX { Ok(slot.target) } else { Err(Error::STALE) }
    }

    /// Tells the backend what the stream waits for.
    fn settle_stream(&mut self, index: u32, number: u32) {
        let stream = self.streams.at(number);
        let mut interest = Ready::empty();
        interest.set(Ready::READABLE, stream.state & state::SILENT == 0);
        let writes = state::BLOCKED | state::CONNECTING;
        interest.set(Ready::WRITABLE, stream.state & writes != 0 && stream.state & state::CLOSED == 0);
        self.set_interest(index, interest);
        if interest.contains(Ready::READABLE) && self.streams.has_received(number) {
            self.queue_received(index);
        }
    }

    /// The source is queued, and there is something to be received.
    fn queue_received(&mut self, index: u32) {
        let slot = &mut self.lists.slots[index];
        slot.set_ready(slot.ready() | Ready::READABLE.bits() as u8);
        self.queue_source(index);
    }
}

/// Buffers.
impl Engine {
    /// The program keeps a buffer: where the data begins, and how long it is. EINVAL: it is none; ESTALE: it is not the latest event's, or
    /// is kept. O(1).
    pub(crate) fn keep_buffer(&mut self, data: *const u8) -> Result<(*const u8, usize)> {
        let kept = self.streams.keep(data)?;
        self.cap(data);
        Ok(kept)
    }

    /// A buffer is kept, or sent from: whether its stream receives on.
    pub(super) fn cap(&mut self, data: *const u8) {
        if let Some(number) = self.streams.capped_by(data) {
            self.set_state(number, state::CAPPED, true);
            self.settle_stream(self.streams.at(number).slot, number);
        }
    }

    /// And gives it back. EINVAL, ESTALE. O(1).
    pub(crate) fn release_buffer(&mut self, data: *const u8) -> Result<()> {
        let owner = self.streams.release(data)?;
        self.came_back(owner);
        Ok(())
    }

    /// A buffer has come back, which was this stream's.
    #[inline]
    fn came_back(&mut self, owner: Option<u32>) {
        if let Some(number) = owner
            && self.is(number, state::CAPPED)
        {
            self.set_state(number, state::CAPPED, false);
            self.settle_stream(self.streams.at(number).slot, number);
        }
    }

    /// A request is done: whether it was the loop's own, whose buffer is free then.
    fn take_back(&mut self, request: NonNull<Sending>) -> bool {
        match self.streams.forwarded(request) {
            None => false,
            Some(owner) => {
                self.came_back(owner);
                true
            }
        }
    }

    /// Buffers that are not kept. O(1).
    pub(crate) fn buffers_left(&self) -> u32 {
        self.streams.buffers.left()
    }

    /// Who has sent the datagram that begins there. EINVAL: no datagram; ESTALE: it was given back. O(1).
    pub(crate) fn sender(&self, data: *const u8) -> Result<*const Address> {
        let start = self.streams.buffers.start_of(data)?;
        if data.addr() - start.addr() == size_of::<Address>() { Ok(start.cast()) } else { Err(Error::INVALID) }
    }

    /// Before a wait: who waits for a buffer receives, as many as there are buffers, and the others are lent to the backend. O(1)
    /// each.
    #[inline(always)]
    pub(super) fn feed_streams(&mut self) {
        if self.streams.any_starved() {
            self.feed_starved(); // the next wait is short
        } else if self.streams.buffers.are_lent() {
            self.lend_on();
        }
    }

    #[inline(never)]
    fn lend_on(&mut self) {
        while let Some((number, start)) = self.streams.buffers.lend() {
            self.backend.lend(number, start, self.streams.buffers.bytes());
        }
    }

    /// At the beginning: the backend may receive by itself.
    pub(super) fn lend_buffers(&mut self) {
        if self.streams.has_room() {
            let room = self.backend.provide();
            self.streams.buffers.may_lend(room);
        }
    }

    /// What rides is sent now.
    pub(super) fn flush_rides(&mut self, waiting: &mut super::core::Waiting) {
        if !self.streams.riders.is_empty() {
            self.backend.flush_rides();
        }
        if self.streams.buffers.receivers > 0 && self.backend.has_more(&waiting.plan) {
            waiting.plan.timeout = Duration::ZERO;
        }
    }

    /// A new stream is not of datagrams: the backend receives for it, where it does so by itself.
    fn add_receiver(&mut self, index: u32) {
        self.streams.buffers.receivers += 1;
        if self.streams.buffers.are_lent() {
            self.receive_by_backend(index, true);
        }
    }

    /// Whether the backend receives by itself for a stream. (Nothing is under way.)
    fn receive_by_backend(&mut self, index: u32, on: bool) {
        let registration = &mut self.registrations[index + 1];
        let mut mode = registration.mode();
        mode.set(Mode::RECEIVE, on);
        *registration = registration.with_mode(mode);
        let interest = registration.interest();
        self.backend.set(&mut self.registrations, index + 1, interest);
    }

    /// What is reported of a stream for which the backend receives or sends: it is queued where there is something to tell.
    pub(super) fn note_of_stream(&mut self, report: &Report) {
        if let OfStream::Unused(buffer) = report.stream {
            return self.streams.buffers.give_back(buffer);
        }
        let index = report.place - 1;
        let number = self.stream_at(index);
        let amount = report.result.unsigned_abs();
        match report.stream {
            OfStream::Sent if self.is(number, state::RIDING) => {
                return self.ride_ended(index, number, Some(report.result));
            }
            OfStream::Received(buffer) => self.streams.receive(number, buffer, amount),
            OfStream::Failed if report.result == -Error::NO_BUFFERS.errno() => {
                return self.receive_by_backend(index, false);
            }
            OfStream::Failed => self.streams.receive_failed(number, amount as u16),
            _ => return,
        }
        if self.is(number, state::CLOSING | state::CLOSED) {
            self.drop_received(number);
        } else {
            self.queue_received(index);
        }
    }

    /// What was received and not told of will not be.
    fn drop_received(&mut self, number: u32) {
        if !self.is(number, state::STARVED) {
            self.streams.drop_received(number);
        }
    }

    #[cold]
    fn feed_starved(&mut self) {
        let mut left = self.streams.buffers.free();
        while left > 0
            && let Some(number) = self.streams.pop_starved()
        {
            self.set_state(number, state::STARVED, false);
            let index = self.streams.at(number).slot;
            if !self.is(number, state::SILENT) {
                left -= 1;
                // It was readable, and it still is.
                let slot = &mut self.lists.slots[index];
                slot.set_ready(slot.ready() | Ready::READABLE.bits() as u8);
                self.lists.queue(index);
                self.settle_stream(index, number);
            }
        }
        self.lists.note_queued();
    }

    /// Receives once.
    #[inline]
    fn receive(&mut self, index: u32, number: u32) -> Next {
        if let Some((data, received)) = self.streams.take_received(number) {
            self.backend.took_received(&mut self.registrations, index + 1);
            return self.received(index, number, data, received);
        }
        if self.registrations[index + 1].mode().contains(Mode::RECEIVE) {
            return Next::Nothing; // it is being received
        }
        let Ok(buffer) = self.streams.buffers.take(number) else {
            if self.streams.buffers.is_any_lent() && !self.is(number, state::DATAGRAM) {
                self.receive_by_backend(index, true);
                return Next::Nothing;
            }
            self.set_state(number, state::STARVED, true);
            self.streams.starve(number);
            self.settle_stream(index, number);
            return Next::Nothing;
        };
        let fd = self.fd_of(index);
        let bytes = self.streams.buffers.bytes();
        let datagram = self.is(number, state::DATAGRAM);
        let mut data = buffer;
        let received = if datagram {
            data = buffer.wrapping_add(size_of::<Address>());
            let mut message = Message::to_receive(buffer, bytes);
            let received = message.request(Call::RecvMsg, fd).and_then(|request| self.backend.make_now(&request));
            message.note_sender(buffer);
            received
        } else {
            self.backend.receive(fd, buffer, bytes)
        };
        let has_data = received.is_ok_and(|count| count > 0 || datagram);
        if !has_data {
            self.streams.buffers.end_current();
        } else if self.streams.buffers.are_mostly_lent() && !datagram {
            self.receive_by_backend(index, true);
        }
        self.received(index, number, data, received)
    }

    /// What came of receiving into the latest buffer.
    fn received(&mut self, index: u32, number: u32, data: *mut u8, received: Result<u32>) -> Next {
        let datagram = self.is(number, state::DATAGRAM);
        match received {
            Ok(0) if !datagram => {
                self.set_state(number, state::ENDED, true);
                self.settle_stream(index, number);
                if self.is(number, state::BROKEN) {
                    // Neither direction has anything to tell any more.
                    self.end_stream(index, number, None);
                }
                Next::flag(flags::END)
            }
            Ok(count) => {
                self.streams.buffers.tell(data, count as usize);
                Next::Event { flags: flags::DATA, value: count.into(), data: data.cast() }
            }
            Err(Error::AGAIN) => Next::Nothing,
            // What the network says of an earlier datagram.
            Err(error) if datagram && error != Error::BAD_FD && error != Error::NOT_SOCKET => {
                Next::Event { flags: flags::DATA, value: -i64::from(error.errno()), data: core::ptr::null_mut() }
            }
            Err(error) => {
                self.end_stream(index, number, Some(error));
                Next::Nothing
            }
        }
    }
}

/// Events.
impl Engine {
    /// Takes out the next event of a stream, if one is due. When more are, it is queued again.
    pub(super) fn take_stream(&mut self, index: u32, taken: &mut Taken) -> bool {
        let number = self.stream_at(index);
        self.streams.buffers.end_current();
        if self.is_plain(index, number, Ready::READABLE) {
            self.lists.slots[index].set_ready(0);
            if self.take_data(index, number, taken) {
                return true;
            }
            if !self.is(number, state::CLOSED) {
                return false;
            }
        }
        self.note_progress(index, number);
        if self.is(number, state::HELD) {
            return false;
        }
        let next = self.next_of_stream(index, number);
        let link = &mut self.lists.links[index];
        let triggered = link.has(bits::TRIGGERED);
        link.set(bits::TRIGGERED, false);
        let (flags, value, data) = match next {
            Next::Event { flags, value, data } => (flags, value, data),
            Next::Nothing if triggered => (0, 0, core::ptr::null_mut()),
            Next::Nothing => return false,
        };
        let slot = &mut self.lists.slots[index];
        // What is delivered wins over an idle timeout, which counts from here.
        slot.set_ready(slot.ready() & !(Ready::TIMEOUT.bits() as u8));
        taken.flags = flags | if triggered { u32::from(Ready::TRIGGERED.bits()) } else { 0 };
        self.describe_event(index, value, data, taken);
        if flags == flags::CLOSED {
            self.close_stream_at(index);
            let slot = &mut self.lists.slots[index];
            slot.time = LAST_WORD;
            slot.set_ready(u8::MAX);
        } else if self.has_more(index, number) {
            self.lists.queue(index);
        }
        true
    }

    /// What an event has beside its flags.
    #[inline]
    fn describe_event(&mut self, index: u32, value: i64, data: *mut (), taken: &mut Taken) {
        self.note_activity(index);
        taken.value = value;
        self.describe(index, self.shared.names.handle(index), Kind::Stream, self.fd_of(index), taken);
        taken.data = data;
    }

    /// Whether this is what is known of its readiness, and nothing is due but what it receives.
    #[inline]
    fn is_plain(&self, index: u32, number: u32, ready: Ready) -> bool {
        self.lists.slots[index].ready() == ready.bits() as u8
            && !self.lists.links[index].has(bits::TRIGGERED)
            && !self.is(number, state::SILENT | state::TELL_CONNECTED | state::TELL_LOW | state::GATHERED)
            && !self.streams.outbox(number).queue.has_done()
    }

    /// Takes out what a stream receives. False: nothing. (It may have ended: that is told now.)
    fn take_data(&mut self, index: u32, number: u32, taken: &mut Taken) -> bool {
        let Next::Event { flags, value, data } = self.receive(index, number) else { return false };
        taken.flags = flags;
        self.describe_event(index, value, data, taken);
        true
    }

    /// Takes out what a stream receives that is readable and in no list, without a way through the queue. False: it is queued where
    /// something may be due.
    pub(super) fn next_of_plain_stream(&mut self, index: u32, taken: &mut Taken) -> bool {
        let number = self.stream_at(index);
        if !self.is_plain(index, number, Ready::empty()) {
            self.queue_received(index);
            return false;
        }
        let taken =
            self.take_data(index, number, taken) || self.is(number, state::CLOSED) && self.take_stream(index, taken);
        if !taken {
            return false;
        }
        self.dispatches = self.dispatches.wrapping_add(1);
        self.statistics.events[Kind::Stream as usize - 1] += 1;
        self.phase.idle_done = true;
        true
    }

    /// An idle timeout counts from here.
    fn note_activity(&mut self, index: u32) {
        if self.lists.links[index].has(bits::IDLE) {
            let slot = &mut self.lists.slots[index];
            slot.time = slot.time.max(self.now.as_nanos());
        }
    }

    /// What the stream's turn brings, and readiness to write, before anything is told.
    fn note_progress(&mut self, index: u32, number: u32) {
        let writable = (Ready::WRITABLE | Ready::ERROR | Ready::HANGUP).bits() as u8;
        let slot = &mut self.lists.slots[index];
        let ready = slot.ready();
        slot.set_ready(ready & !(Ready::WRITABLE.bits() as u8));
        if self.is(number, state::CONNECTING) && ready & writable != 0 {
            // Who is connecting has nothing to read.
            let slot = &mut self.lists.slots[index];
            slot.set_ready(slot.ready() & !(Ready::OF_FD.bits() as u8));
            self.look_for_connection(index, number);
        } else if self.is(number, state::GATHERED) {
            self.send_gathered(index, number);
        } else if self.is(number, state::BLOCKED) && ready & writable != 0 {
            self.flush_stream(index, number);
        }
        if self.is(number, state::CONNECTING) && ready & Ready::DEADLINE.bits() as u8 != 0 {
            self.end_stream(index, number, Some(Error::TIMED_OUT));
        }
    }

    fn look_for_connection(&mut self, index: u32, number: u32) {
        let Ok(request) = Request::new(Call::Connect, self.fd_of(index)) else { return };
        match self.backend.attempt(&request, &mut true) {
            None => {}
            Some(0) => {
                self.set_state(number, state::CONNECTING, false);
                self.set_state(number, state::TELL_CONNECTED, true);
                let slot = &mut self.lists.slots[index];
                slot.deadline = Instant::NEVER.as_nanos();
                slot.set_ready(slot.ready() & !(Ready::DEADLINE.bits() as u8));
                self.settle_io(index);
                self.flush_stream(index, number);
                self.settle_stream(index, number);
            }
            Some(error) => self.end_stream(index, number, Some(Error::from_errno(error))),
        }
    }

    fn next_of_stream(&mut self, index: u32, number: u32) -> Next {
        while let Some((request, result)) = self.streams.outbox_mut(number).queue.pop_done() {
            let data: *mut () = if self.take_back(request) { core::ptr::null_mut() } else { request.as_ptr().cast() };
            // Of what was forwarded it is told only that it was not sent, and not at the end.
            if !data.is_null() || result < 0 && !self.is(number, state::CLOSED) {
                return Next::Event { flags: flags::SENT, value: result, data };
            }
        }
        let stream = *self.streams.at(number);
        if stream.state & state::CLOSED != 0 {
            let value = -i64::from(stream.reason());
            return Next::Event { flags: flags::CLOSED, value, data: core::ptr::null_mut() };
        }
        let slot = &mut self.lists.slots[index];
        let ready = Ready::from_bits_truncate(slot.ready().into());
        if ready.contains(Ready::DEADLINE) {
            slot.set_ready(slot.ready() & !(Ready::DEADLINE.bits() as u8));
            return Next::flag(Ready::DEADLINE.bits().into());
        }
        if stream.state & state::CLOSING == 0 {
            for (due, flag) in [(state::TELL_CONNECTED, flags::CONNECTED), (state::TELL_LOW, flags::LOW)] {
                if stream.state & due != 0 {
                    self.set_state(number, due, false);
                    return Next::flag(flag);
                }
            }
        }
        if ready.intersects(Ready::OF_FD) {
            slot.set_ready(slot.ready() & !(Ready::OF_FD.bits() as u8));
            if stream.state & state::SILENT == 0 {
                match self.receive(index, number) {
                    // It has ended: that is told now.
                    Next::Nothing if self.is(number, state::CLOSED) => return self.next_of_stream(index, number),
                    Next::Nothing => {}
                    event => return event,
                }
            }
        }
        let slot = &mut self.lists.slots[index];
        if slot.ready() & Ready::TIMEOUT.bits() as u8 != 0 && !self.interest_of(index).is_empty() {
            let slot = &mut self.lists.slots[index];
            slot.set_ready(slot.ready() & !(Ready::TIMEOUT.bits() as u8));
            return Next::flag(Ready::TIMEOUT.bits().into());
        }
        Next::Nothing
    }

    /// Whether another event may be due.
    fn has_more(&self, index: u32, number: u32) -> bool {
        let due = state::CLOSED | state::TELL_CONNECTED | state::TELL_LOW;
        self.streams.outbox(number).queue.has_done() || self.is(number, due) || self.lists.slots[index].ready() != 0
    }
}
