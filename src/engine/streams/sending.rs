//! Sending: at once where nothing is queued, and the rest when the socket takes more.

use super::{Sent, state};
use crate::backend::Backend;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::request::Call;
use crate::storage::sends::{Part, Sending};
use crate::sys::stream::{Message, PARTS};
use core::ptr::NonNull;

/// System calls of one flush at most: who takes everything at once does not keep the others waiting.
const ROUNDS: u32 = 8;

/// Bytes that ride at most. Of more than 2 GiB less a page the kernel sends so many, and says nothing of the rest.
const RIDE_MAX: u64 = 1 << 30;

/// What came of one system call.
enum Progress {
    /// There may be more to be sent, and room for it.
    Goes,
    /// The socket takes no more now.
    Blocked,
    Failed(Error),
}

impl Engine {
    /// Sends, or queues what cannot be sent now. EPIPE: the stream sends no more; EBUSY: the request is in use; EINVAL. O(parts),
    /// and a system call that does not block where nothing is queued.
    ///
    /// `make` makes the request in the program's memory.
    pub(crate) fn send_stream(
        &mut self,
        handle: Handle,
        make: impl FnOnce() -> Result<NonNull<Sending>>,
    ) -> Result<Sent> {
        let (index, number) = self.resolve_stream(handle)?;
        if self.is(number, state::SENDS_NO_MORE) {
            return Err(Error::BROKEN_PIPE);
        }
        let request = make()?;
        let gathers = self.is(number, state::BATCHED);
        let piece = if gathers { None } else { Sending::piece_of(request) };
        let sent = piece.and_then(|piece| self.send_at_once(index, number, piece));
        if let Some((Ok(count), (_, length))) = sent.zip(piece)
            && count == length
        {
            Sending::take_back(request);
            return Ok(Sent::Done);
        }
        let goes = self.enqueue(number, request);
        if let Some(sent) = sent {
            self.send_rest(index, number, sent);
        } else if goes && gathers {
            self.set_state(number, state::GATHERED, true);
            self.queue_source(index);
        } else if goes {
            self.flush_stream(index, number);
            let outbox = self.streams.outbox_mut(number);
            if outbox.queue.is_sent_first(request) {
                let _ = outbox.queue.pop_done();
                return Ok(Sent::Done);
            }
            self.tell_done(index, number);
        }
        Ok(if self.note_above(number) { Sent::Full } else { Sent::Queued })
    }

    /// Sends bytes before which nothing else is to be sent, in no queue: how many the socket took. `None`: something is, or they are of no
    /// connection.
    #[inline]
    fn send_at_once(&mut self, index: u32, number: u32, (at, length): (*const (), u64)) -> Option<Result<u64>> {
        const WAITS: u32 = state::CONNECTING | state::DATAGRAM;
        if !self.streams.outbox(number).queue.is_empty() || self.is(number, WAITS) {
            return None;
        }
        let sent = self.backend.send(self.fd_of(index), at, length as usize);
        if sent.is_ok() {
            // Who takes what is sent is not idle.
            self.note_activity(index);
        }
        Some(sent)
    }

    /// What came of sending the only request at once: its rest waits, or it has failed.
    #[cold]
    fn send_rest(&mut self, index: u32, number: u32, sent: Result<u64>) {
        let left = self.streams.outbox(number).queued;
        if let Progress::Failed(error) = self.sent(number, sent, left) {
            return self.sending_failed(index, number, error);
        }
        self.set_state(number, state::BLOCKED, true);
        self.settle_stream(index, number);
    }

    /// A request is queued. Whether it may be sent at once: it is the first, and the stream is connected.
    fn enqueue(&mut self, number: u32, request: NonNull<Sending>) -> bool {
        let outbox = self.streams.outbox_mut(number);
        let waits = outbox.queue.has_unsent();
        outbox.queue.push(request);
        outbox.queued += outbox.queue.left_of(request);
        !waits && !self.is(number, state::CONNECTING)
    }

    /// Whether more is queued than the high watermark, which is remembered.
    fn note_above(&mut self, number: u32) -> bool {
        let outbox = self.streams.outbox(number);
        let above = outbox.queued > u64::from(outbox.high);
        if above {
            self.set_state(number, state::ABOVE, true);
        }
        above
    }

    /// Sends so many bytes of what was received, from the loop's own memory: there is an event only if they cannot be sent, and the
    /// buffer comes back by itself. EINVAL: no buffer has these; ESTALE: it is neither the latest event's nor kept; EPIPE. O(1), and
    /// one system call that does not block at most.
    pub(crate) fn forward(&mut self, handle: Handle, data: *const u8, length: usize) -> Result<Sent> {
        let (index, number) = self.resolve_stream(handle)?;
        if self.is(number, state::SENDS_NO_MORE) {
            return Err(Error::BROKEN_PIPE);
        }
        let place = self.streams.may_forward(data, length)?;
        let rides = self.streams.buffers.are_lent();
        let piece = (data.cast(), length as u64);
        let sent = if rides || length == 0 { None } else { self.send_at_once(index, number, piece) };
        if sent == Some(Ok(length as u64)) {
            let owner = self.streams.end_forward(place);
            self.came_back(owner);
            return Ok(Sent::Done);
        }
        let request = self.streams.forward(place, data, length);
        self.cap(data);
        let goes = self.enqueue(number, request);
        if let Some(sent) = sent {
            self.send_rest(index, number, sent);
        } else if goes && !self.ride(index, number) {
            self.flush_stream(index, number);
            self.tell_done(index, number);
        }
        Ok(if self.note_above(number) { Sent::Full } else { Sent::Done })
    }

    /// The turn of a stream has come that has gathered what it sends.
    pub(super) fn send_gathered(&mut self, index: u32, number: u32) {
        self.set_state(number, state::GATHERED, false);
        if !self.ride(index, number) {
            self.flush_stream(index, number);
        }
    }

    /// What a stream has to send goes with the next wait, where that is one piece. False: it does not.
    fn ride(&mut self, index: u32, number: u32) -> bool {
        let queue = &self.streams.outbox(number).queue;
        if !self.streams.buffers.are_lent()
            || self.is(number, state::DATAGRAM)
            || self.streams.riders.is_full()
            || queue.has_more_unsent()
        {
            return false;
        }
        let Some((at, length)) = queue.unsent().and_then(Sending::piece) else { return false };
        if length > RIDE_MAX {
            return false;
        }
        let stream = self.shared.names.handle(index);
        if !self.backend.ride(self.fd_of(index), (at, length as u32), stream) {
            return false;
        }
        self.set_state(number, state::RIDING, true);
        self.streams.riders.push(number).is_ok()
    }

    /// What rode with a wait has arrived there: all of it, or what is said.
    pub(super) fn ride_ended(&mut self, index: u32, number: u32, result: Option<i32>) {
        self.leave_riders(number);
        if result.is_none() && self.sent_whole(index, number) {
            return;
        }
        let left = self.streams.outbox(number).queue.unsent().map_or(0, Sending::left);
        let sent = match result {
            None => Ok(left),
            Some(result) => u64::try_from(result).map_err(|_| Error::from_errno(result)),
        };
        if sent.is_ok_and(|count| count > 0) {
            self.note_activity(index);
        }
        if let Progress::Failed(error) = self.sent(number, sent, left) {
            return self.sending_failed(index, number, error);
        }
        let outbox = self.streams.outbox_mut(number);
        if let Some(first) = outbox.queue.unsent().filter(|first| first.is_cut()) {
            outbox.queued -= outbox.queue.cut_short(first, false); // it was while it was under way
        }
        self.flush_stream(index, number);
        self.tell_done(index, number);
    }

    /// After all reports of a wait that all rides were in: those that are left have arrived whole. O(rides).
    #[cold]
    pub(in crate::engine) fn end_rides(&mut self) {
        let riders = core::mem::take(&mut self.streams.riders);
        for number in riders {
            if self.is(number, state::RIDING) {
                self.ride_ended(self.streams.at(number).slot, number, None);
            }
        }
    }

    /// The only request of a stream has arrived whole, and is the loop's own. False: it is the program's, or there are others.
    fn sent_whole(&mut self, index: u32, number: u32) -> bool {
        if !self.streams.outbox(number).queue.only().is_some_and(|request| self.take_back(request)) {
            return false;
        }
        let outbox = self.streams.outbox_mut(number);
        outbox.queued = 0;
        let _ = outbox.queue.pop();
        self.note_activity(index);
        self.look_at_mark(index, number);
        self.sending_settled(index, number);
        true
    }

    /// The stream ends: what rides is sent now, or never.
    pub(super) fn end_ride(&mut self, index: u32, number: u32) {
        if !self.is(number, state::RIDING) {
            return;
        }
        self.backend.end_ride(self.shared.names.handle(index));
        self.leave_riders(number);
    }

    fn leave_riders(&mut self, number: u32) {
        self.set_state(number, state::RIDING, false);
        self.streams.riders.retain(|rider| *rider != number);
    }

    /// Whether somebody waits for what rides: then the wait must not sleep.
    #[inline(always)]
    pub(in crate::engine) fn has_urgent_ride(&self) -> bool {
        !self.streams.riders.is_empty() && self.is_ride_urgent()
    }

    #[inline(never)]
    fn is_ride_urgent(&self) -> bool {
        // Whose buffers they are, or who wants one, receives no more until they are back; and perhaps nothing else is waited for.
        self.streams.any_starved()
            || self.counted == 0
            || self.streams.riders.iter().any(|&number| {
                let queue = &self.streams.outbox(number).queue;
                let waits = queue.unsent().is_some_and(|request| {
                    let owner = self.streams.owner_of(NonNull::from(request));
                    owner.is_none_or(|owner| owner.is_some_and(|owner| self.is(owner, state::CAPPED)))
                });
                waits || self.is(number, state::CLOSING | state::SHUT | state::ABOVE) || queue.has_more_unsent()
            })
    }

    /// What is left of a request is not sent: it is done in its order, with the bytes that were. Nothing happens to one that is
    /// not queued. O(requests), and one system call that does not block at most.
    pub(crate) fn cancel_send(&mut self, handle: Handle, request: *const Sending) -> Result<()> {
        let (index, number) = self.resolve_stream(handle)?;
        let rides = self.is(number, state::RIDING);
        let outbox = self.streams.outbox_mut(number);
        outbox.queued -= outbox.queue.cut_short(request, rides);
        // What stands behind it may go, unless its time comes; and who has nothing left to send waits for nothing.
        if self.is(number, state::CONNECTING | state::RIDING | state::GATHERED) {
            self.look_at_mark(index, number);
            self.sending_settled(index, number);
        } else {
            self.flush_stream(index, number);
        }
        self.tell_done(index, number);
        Ok(())
    }

    /// Bytes that are queued. O(1).
    pub(crate) fn stream_queued(&self, handle: Handle) -> Result<u64> {
        let (_, number) = self.resolve_stream(handle)?;
        Ok(self.streams.outbox(number).queued)
    }

    /// The watermarks, in bytes. EINVAL: the low one is the higher. O(1).
    pub(crate) fn set_watermarks(&mut self, handle: Handle, low: u32, high: u32) -> Result<()> {
        let (index, number) = self.resolve_stream(handle)?;
        if low > high {
            return Err(Error::INVALID);
        }
        let outbox = self.streams.outbox_mut(number);
        (outbox.low, outbox.high) = (low, high);
        self.note_above(number);
        self.look_at_mark(index, number);
        Ok(())
    }

    /// They are.
    pub(crate) fn watermarks(&self, handle: Handle) -> Result<(u32, u32)> {
        let (_, number) = self.resolve_stream(handle)?;
        let outbox = self.streams.outbox(number);
        Ok((outbox.low, outbox.high))
    }

    /// It is queued where a request is done.
    fn tell_done(&mut self, index: u32, number: u32) {
        if self.streams.outbox(number).queue.has_done() {
            self.queue_source(index);
        }
    }

    /// Sends what the socket takes now. Who calls this tells what is done. O(parts), a few system calls.
    pub(super) fn flush_stream(&mut self, index: u32, number: u32) {
        if self.is(number, state::RIDING) {
            return; // and then the rest
        }
        self.set_state(number, state::GATHERED, false);
        let mut blocked = false;
        let before = self.streams.outbox(number).queued;
        for round in 0.. {
            if !self.streams.outbox(number).queue.has_unsent() {
                break;
            }
            blocked = round == ROUNDS;
            if blocked {
                break;
            }
            match self.send_once(index, number) {
                Progress::Goes => {}
                Progress::Blocked => {
                    blocked = true;
                    break;
                }
                Progress::Failed(error) => {
                    self.sending_failed(index, number, error);
                    return;
                }
            }
        }
        if self.streams.outbox(number).queued != before {
            // Who takes what is sent is not idle.
            self.note_activity(index);
        }
        if blocked != self.is(number, state::BLOCKED) {
            self.set_state(number, state::BLOCKED, blocked);
            self.settle_stream(index, number);
        }
        while let Some(request) = self.streams.outbox(number).queue.oldest_sent()
            && self.take_back(request)
        {
            let _ = self.streams.outbox_mut(number).queue.pop();
        }
        self.look_at_mark(index, number);
        self.sending_settled(index, number);
    }

    /// One system call.
    fn send_once(&mut self, index: u32, number: u32) -> Progress {
        let fd = self.fd_of(index);
        let datagram = self.is(number, state::DATAGRAM);
        let outbox = self.streams.outbox_mut(number);
        let Some(first) = outbox.queue.unsent() else { return Progress::Goes };
        if let Some(range) = first.file_range()
            && range.left > 0
        {
            let sent = match self.backend.send_file(fd, range.file, range.offset, range.left) {
                Ok(0) => {
                    // The file has ended before the range has.
                    let outbox = self.streams.outbox_mut(number);
                    outbox.queued -= outbox.queue.complete_short();
                    return Progress::Goes;
                }
                sent => sent,
            };
            return self.sent(number, sent, range.left);
        }
        if (!datagram || first.is_cut()) && first.left() == 0 {
            outbox.queue.advance(0);
            return Progress::Goes;
        }
        let mut parts = [Part::NONE; PARTS];
        let (vectors, count, bytes) = if datagram {
            let (vectors, count) = first.vectors();
            (vectors, count as usize, first.left())
        } else {
            let (count, bytes) = outbox.queue.gather(&mut parts);
            (parts.as_ptr(), count, bytes)
        };
        let Some(first) = outbox.queue.unsent() else { return Progress::Goes };
        let mut message = Message::to_send(vectors.cast(), count, (first.address, first.address_length));
        let sent = message.request(Call::SendMsg, fd).and_then(|request| self.backend.make_now(&request));
        match sent {
            // Each datagram is for itself, and goes as a whole.
            Err(error) if datagram && error != Error::AGAIN => {
                self.complete_unsent(number, error);
                Progress::Goes
            }
            Ok(_) if datagram => {
                let outbox = self.streams.outbox_mut(number);
                outbox.queued -= bytes;
                outbox.queue.complete(bytes.cast_signed());
                Progress::Goes
            }
            sent => self.sent(number, sent.map(u64::from), bytes),
        }
    }

    /// So many of so many bytes were sent.
    fn sent(&mut self, number: u32, sent: Result<u64>, of: u64) -> Progress {
        match sent {
            Ok(count) => {
                let outbox = self.streams.outbox_mut(number);
                outbox.queued -= count;
                outbox.queue.advance(count);
                if count < of { Progress::Blocked } else { Progress::Goes }
            }
            Err(Error::AGAIN) => Progress::Blocked,
            Err(error) => Progress::Failed(error),
        }
    }

    fn complete_unsent(&mut self, number: u32, error: Error) {
        let outbox = self.streams.outbox_mut(number);
        outbox.queued -= outbox.queue.complete(-i64::from(error.errno()));
    }

    /// What is left will not be sent. O(requests).
    pub(super) fn drop_unsent(&mut self, number: u32, reason: Error) {
        while self.streams.outbox(number).queue.has_unsent() {
            self.complete_unsent(number, reason);
        }
        self.set_state(number, state::BLOCKED | state::GATHERED, false);
    }

    /// Nothing can be sent any more. What has arrived may still be read: the peer's last word, and then its end.
    fn sending_failed(&mut self, index: u32, number: u32, error: Error) {
        if self.is(number, state::CLOSING | state::ENDED) {
            return self.end_stream(index, number, Some(error));
        }
        self.streams.at_mut(number).set_reason(error);
        self.set_state(number, state::BROKEN, true);
        self.drop_unsent(number, error);
        // Who waits to go on hears of the error instead.
        self.set_state(number, state::ABOVE, false);
        self.settle_stream(index, number);
        self.queue_source(index);
    }

    /// After something was sent: whether it is to be told that little is left.
    fn look_at_mark(&mut self, index: u32, number: u32) {
        let outbox = self.streams.outbox(number);
        if outbox.queued <= u64::from(outbox.low) && self.is(number, state::ABOVE) {
            self.set_state(number, state::ABOVE, false);
            self.set_state(number, state::TELL_LOW, true);
            self.queue_source(index);
        }
    }

    /// What is to be done when nothing is left to be sent.
    pub(super) fn sending_settled(&mut self, index: u32, number: u32) {
        let waits = self.streams.outbox(number).queue.has_unsent();
        if waits || !self.is(number, state::SHUT | state::CLOSING) || self.is(number, state::CLOSED) {
            return;
        }
        if self.is(number, state::CLOSING) {
            self.end_stream(index, number, None);
        } else if !self.is(number, state::CONNECTING) {
            // (Nothing is accepted after it, so this comes once.)
            let _ = self.backend.shutdown(self.fd_of(index));
        }
    }
}
