//! The table of streams, and the buffers that they receive into: what a stream needs beside its source, in 48 bytes.
//!
//! ```text
//! | outboxes 32 N | streams 12 N | index 4 N       | requests 112 B | places 4 B | owners 4 B | buffers B times their size |
//!                                                    N streams, B buffers
//! ```
//!
//! A stream is found by its source. Entries are written when their place is first taken, so that memory may hold anything before.
#![allow(unsafe_code)]

use super::fd_index::{FdIndex, FdOf};
use super::pool::Places;
use super::region::Region;
use super::sends::{Content, Part, Queue, Sending};
use super::slot::{NIL, Tagged};
use crate::error::{Error, Result};
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

/// Bytes of one stream.
pub(crate) const STREAM_BYTES: usize = 48;
/// Bytes of one buffer beside its own.
pub(crate) const BUFFER_BYTES: usize = REQUEST_BYTES + 8;
/// Of the request that sends what it holds.
const REQUEST_BYTES: usize = 112;
/// The least that a buffer has: room for an address, and for something beside it.
pub(crate) const BUFFER_MIN: u32 = 256;
/// What the memory has to be aligned to.
pub(crate) const ALIGNMENT: usize = 16;

/// What is to be sent.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Outbox {
    pub(crate) queue: Queue,
    /// Bytes in it.
    pub(crate) queued: u64,
    /// Told when no more than so many are left…
    pub(crate) low: u32,
    /// …after there were more than so many.
    pub(crate) high: u32,
}

/// The rest of a stream.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Stream {
    /// The slot of its source; NIL: there is no such stream.
    pub(crate) slot: u32,
    /// The next that is free, or that waits for a buffer; else what was received and not told of: a buffer, or [`FAILED`] and
    /// an error. Tag: how many buffers it has kept.
    next: Tagged,
    /// The bits that the engine has for it, and above them why it has ended, or will; 0: no error.
    pub(crate) state: u32,
}

/// Above all bits of a stream's state.
const REASON_SHIFT: u32 = 20;

impl Stream {
    /// Why it has ended, or will: an errno value, or 0.
    pub(crate) fn reason(&self) -> u16 {
        (self.state >> REASON_SHIFT) as u16
    }

    pub(crate) fn set_reason(&mut self, error: Error) {
        let bits = self.state & ((1 << REASON_SHIFT) - 1);
        self.state = bits | error.errno().cast_unsigned() << REASON_SHIFT;
    }
}

const _: () = {
    assert!(size_of::<Outbox>() <= 32 && size_of::<Stream>() == 12);
    assert!(32 + 12 + 4 <= STREAM_BYTES);
    assert!(align_of::<Outbox>() <= ALIGNMENT);
    assert!(size_of::<Sending>() <= REQUEST_BYTES && REQUEST_BYTES.is_multiple_of(align_of::<Sending>()));
};

/// Where everything is.
pub(crate) struct Table {
    outboxes: Region<Outbox>,
    streams: Region<Stream>,
    index: FdIndex,
    pub(crate) buffers: Buffers,
    free: u32,
    mark: u32,
    /// How far the number of the latest stream is below its slot: most often that of the others is as far, since both are taken and
    /// freed together.
    below: u32,
    /// Streams that wait for a buffer: the first and the last.
    starved: [u32; 2],
    /// Those whose data is sent with the next wait, or was with the last.
    pub(crate) riders: Riders,
}

/// So many streams at most send with one wait: the others do so at once.
pub(crate) type Riders = heapless::Vec<u32, 64>;

/// Bytes for so many; `None`: there can be no such memory. O(1).
pub(crate) const fn bytes(streams: u32, buffers: u32, buffer_bytes: u32) -> Option<usize> {
    let fits = streams > 0
        && streams < NIL
        && buffers > 0
        && buffers < NIL
        && buffer_bytes >= BUFFER_MIN
        && buffer_bytes <= 1 << 30
        && buffer_bytes.is_multiple_of(ALIGNMENT as u32);
    if !fits {
        return None;
    }
    let streams = (streams as usize).checked_mul(STREAM_BYTES);
    let buffers = (buffers as usize).checked_mul(BUFFER_BYTES + buffer_bytes as usize);
    match (streams, buffers) {
        (Some(streams), Some(buffers)) => streams.checked_add(buffers),
        _ => None,
    }
}

impl Table {
    /// Of no streams.
    pub(crate) fn none() -> Table {
        let at = NonNull::<Outbox>::dangling();
        // SAFETY: nothing is there.
        unsafe { Table::new(at.cast(), 0, 0, 0) }
    }

    /// # Safety
    /// The block is aligned and of [`bytes`], and nobody else's while this is used.
    pub(crate) unsafe fn new(start: NonNull<u8>, streams: u32, buffers: u32, buffer_bytes: u32) -> Table {
        let (streams, count) = (streams as usize, buffers as usize);
        let behind = streams * STREAM_BYTES;
        // SAFETY: by this function's contract: the parts lie side by side, each aligned, since the sizes of those before it are
        // multiples of that. Any bits are valid in each.
        unsafe {
            Table {
                outboxes: Region::new(start.cast(), streams),
                streams: Region::new(start.add(32 * streams).cast(), streams),
                index: FdIndex::new(Region::new(start.add(44 * streams).cast(), FdIndex::entries(streams))),
                buffers: Buffers {
                    places: Places::EMPTY,
                    requests: Region::new(start.add(behind).cast(), count),
                    links: Region::new(start.add(behind + REQUEST_BYTES * count).cast(), count),
                    owners: Region::new(start.add(behind + (REQUEST_BYTES + 4) * count).cast(), count),
                    start: start.add(behind + BUFFER_BYTES * count),
                    bytes: buffer_bytes,
                    current: NIL,
                    told: (ptr::null(), 0),
                    room: 0,
                    lent: 0,
                    received: 0,
                    receivers: 0,
                },
                free: NIL,
                mark: 0,
                below: 0,
                starved: [NIL; 2],
                riders: Riders::new(),
            }
        }
    }

    /// Whether there is room for one more. O(1).
    pub(crate) fn has_room(&self) -> bool {
        self.free != NIL || (self.mark as usize) < self.streams.len()
    }

    /// A new stream; there is room for it.
    pub(crate) fn add(&mut self, slot: u32, state: u32) -> u32 {
        let number = self.free;
        let number = if number != NIL {
            self.free = self.streams[number].next.index();
            number
        } else {
            self.mark += 1;
            self.mark - 1
        };
        self.streams[number] = Stream { slot, next: Tagged::EMPTY, state };
        self.outboxes[number] = Outbox { queue: Queue::EMPTY, queued: 0, low: LOW, high: HIGH };
        self.index.insert(slot.cast_signed(), number, &self.streams);
        self.below = slot.wrapping_sub(number);
        number
    }

    /// The stream whose source has this slot; there is one. O(1) expected.
    #[inline]
    pub(crate) fn find(&self, slot: u32) -> u32 {
        let guess = slot.wrapping_sub(self.below);
        if guess < self.mark && self.streams[guess].slot == slot {
            return guess;
        }
        match self.index.find(slot.cast_signed(), &self.streams) {
            Some(number) => number,
            None => unreachable!("a stream's source has a stream"),
        }
    }

    /// It has no requests; the buffers that it has kept are the program's. O(buffers) where it has kept some, O(streams that
    /// wait) where it waits for one.
    pub(crate) fn remove(&mut self, number: u32, starved: bool) {
        if starved {
            self.leave_starved(number);
        } else {
            self.drop_received(number);
        }
        let current = self.buffers.current;
        if self.has_kept(number) {
            self.buffers.disown(number);
        } else if current != NIL && self.buffers.owners[current] == number {
            self.buffers.owners[current] = NIL;
        }
        let slot = self.streams[number].slot;
        self.index.remove(slot.cast_signed(), &self.streams);
        self.streams[number].slot = NIL;
        self.streams[number].next.set_index(self.free);
        self.free = number;
    }

    #[inline]
    pub(crate) fn at(&self, number: u32) -> &Stream {
        &self.streams[number]
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, number: u32) -> &mut Stream {
        &mut self.streams[number]
    }

    #[inline]
    pub(crate) fn outbox(&self, number: u32) -> &Outbox {
        &self.outboxes[number]
    }

    #[inline]
    pub(crate) fn outbox_mut(&mut self, number: u32) -> &mut Outbox {
        &mut self.outboxes[number]
    }
}

/// Watermarks at first, in bytes.
const LOW: u32 = 16 << 10;
const HIGH: u32 = 64 << 10;

/// Where an fd stands elsewhere, here the slot does.
impl FdOf for Region<Stream> {
    fn fd_of(&self, number: u32) -> i32 {
        self[number].slot.cast_signed()
    }
}

/// Streams that wait for a buffer, in order.
impl Table {
    #[inline]
    pub(crate) fn any_starved(&self) -> bool {
        self.starved[0] != NIL
    }

    /// Whether one of them waits no longer: what it may receive into is free.
    #[inline]
    pub(crate) fn may_feed(&self) -> bool {
        self.any_starved() && self.buffers.free() > 0
    }

    /// Waits behind all others; it does not yet. O(1).
    pub(crate) fn starve(&mut self, number: u32) {
        self.streams[number].next.set_index(NIL);
        match self.starved {
            [NIL, _] => self.starved = [number; 2],
            [_, last] => {
                self.streams[last].next.set_index(number);
                self.starved[1] = number;
            }
        }
    }

    /// The one that has waited longest waits no more. O(1).
    pub(crate) fn pop_starved(&mut self) -> Option<u32> {
        let [first, _] = self.starved;
        if first == NIL {
            return None;
        }
        let next = &mut self.streams[first].next;
        self.starved[0] = next.index();
        next.set_index(NIL);
        Some(first)
    }

    /// Waits no more, if it does. O(streams that wait).
    fn leave_starved(&mut self, number: u32) {
        let [mut at, last] = self.starved;
        let mut before = NIL;
        while at != NIL && at != number {
            (before, at) = (at, self.streams[at].next.index());
        }
        if at == NIL {
            return;
        }
        let next = self.streams[number].next.index();
        if before == NIL {
            self.starved[0] = next;
        } else {
            self.streams[before].next.set_index(next);
        }
        if last == number {
            self.starved[1] = before;
        }
    }
}

/// What the backend has received, and nobody was told of: one buffer for each stream at most, which does not wait for one.
impl Table {
    /// The backend has received so many bytes into a buffer that it was lent.
    pub(crate) fn receive(&mut self, number: u32, place: u16, length: u32) {
        let place = u32::from(place);
        self.buffers.lent -= 1;
        self.buffers.received += 1;
        self.buffers.owners[place] = LENT | length;
        self.streams[number].next.set_index(place);
    }

    /// It has received an error, or, where that is 0, the end.
    pub(crate) fn receive_failed(&mut self, number: u32, errno: u16) {
        self.streams[number].next.set_index(FAILED + u32::from(errno));
    }

    /// Whether there is any.
    pub(crate) fn has_received(&self, number: u32) -> bool {
        self.streams[number].next.index() != NIL
    }

    /// What the next event tells of: where it begins, and how much it is.
    pub(crate) fn take_received(&mut self, number: u32) -> Option<(*mut u8, Result<u32>)> {
        self.buffers.end_current();
        match self.leave_received(number)? {
            FAILED => Some((ptr::null_mut(), Ok(0))),
            place if place > FAILED => Some((ptr::null_mut(), Err(Error::from_errno((place - FAILED).cast_signed())))),
            place => {
                let length = self.buffers.owners[place] & !LENT;
                self.buffers.owners[place] = number;
                self.buffers.current = place;
                Some((self.buffers.at(place).as_ptr(), Ok(length)))
            }
        }
    }

    fn leave_received(&mut self, number: u32) -> Option<u32> {
        let place = self.streams[number].next.index();
        if place == NIL {
            return None;
        }
        self.streams[number].next.set_index(NIL);
        self.buffers.received -= u32::from(place < FAILED);
        Some(place)
    }

    /// It is told to nobody.
    pub(crate) fn drop_received(&mut self, number: u32) {
        if let Some(place) = self.leave_received(number)
            && place < FAILED
        {
            let freed = self.buffers.places.give(&mut self.buffers.links, place as usize);
            debug_assert!(freed.is_ok());
        }
    }
}

/// Above the places of all buffers that are ever lent.
const FAILED: u32 = 1 << 16;

/// Buffers that the program has kept, or sends from.
impl Table {
    /// Whether a stream has kept any. O(1).
    pub(crate) fn has_kept(&self, number: u32) -> bool {
        self.streams[number].next.tag() > 0
    }

    /// Whose buffer it is, if that stream has kept as many as it may: half of them, so that no other starves for its sake. O(1).
    pub(crate) fn capped_by(&self, data: *const u8) -> Option<u32> {
        let owner = self.buffers.owners[self.buffers.place_of(data).ok()?];
        let max = (self.buffers.links.len() as u32).div_ceil(2).min(KEPT_MAX);
        (owner != NIL && u32::from(self.streams[owner].next.tag()) >= max).then_some(owner)
    }

    /// The program keeps what the latest event tells of: that. EINVAL: it is no buffer; ESTALE: it is not that, or it is kept. O(1).
    pub(crate) fn keep(&mut self, data: *const u8) -> Result<(*const u8, usize)> {
        let place = self.buffers.place_of(data)?;
        if place != self.buffers.current {
            return Err(Error::STALE);
        }
        self.keep_place(place);
        Ok(self.buffers.told)
    }

    /// The latest event's is kept.
    fn keep_place(&mut self, place: u32) {
        self.buffers.current = NIL;
        let owner = self.buffers.owners[place];
        if owner != NIL {
            self.count_kept(owner, 1);
        }
    }

    /// The program gives it back: whose it was, unless that is gone. EINVAL; ESTALE: it was not kept. O(1).
    pub(crate) fn release(&mut self, data: *const u8) -> Result<Option<u32>> {
        let place = self.buffers.place_of(data)?;
        if !self.buffers.is_kept(place) {
            return Err(Error::STALE);
        }
        Ok(self.let_go(place))
    }

    /// A buffer that was kept, or sent from, is free.
    fn let_go(&mut self, place: u32) -> Option<u32> {
        let freed = self.buffers.places.give(&mut self.buffers.links, place as usize);
        debug_assert!(freed.is_ok());
        let owner = self.buffers.owners[place];
        if owner == NIL {
            return None;
        }
        self.count_kept(owner, -1);
        Some(owner)
    }

    /// The buffer that so many bytes from there on may be sent from. EINVAL: no buffer has these; ESTALE: it is neither the latest
    /// event's nor kept. O(1).
    pub(crate) fn may_forward(&self, data: *const u8, length: usize) -> Result<u32> {
        let place = self.buffers.place_of(data)?;
        let is_told = place == self.buffers.current;
        let (start, bytes) = if is_told {
            self.buffers.told
        } else {
            (self.buffers.at(place).as_ptr().cast_const(), self.buffers.bytes as usize)
        };
        let before = data.addr().checked_sub(start.addr()).ok_or(Error::INVALID)?;
        if bytes.checked_sub(before).is_none_or(|left| length > left) {
            return Err(Error::INVALID);
        }
        if is_told || self.buffers.is_kept(place) { Ok(place) } else { Err(Error::STALE) }
    }

    /// The request that sends so many bytes from there on, which [`Table::may_forward`] has allowed: the buffer is kept until that is
    /// done. O(1).
    pub(crate) fn forward(&mut self, place: u32, data: *const u8, length: usize) -> NonNull<Sending> {
        if place == self.buffers.current {
            self.keep_place(place);
        }
        let request = NonNull::from(&mut self.buffers.requests[place]).cast();
        let content = Content::Bytes(Part { at: data.cast(), length });
        // SAFETY: it was made when the place was first taken. What it leads to is not received into before it is done.
        let made = unsafe { Sending::make(request.as_ptr(), content, None, None) };
        debug_assert!(made.is_ok());
        request
    }

    /// What [`Table::may_forward`] has allowed was sent: the buffer is free. Whose it was, where the program had kept it.
    #[inline]
    pub(crate) fn end_forward(&mut self, place: u32) -> Option<u32> {
        if place == self.buffers.current {
            self.buffers.end_current();
            return None;
        }
        self.let_go(place)
    }

    /// A request is done: if it is one of those, its buffer is free. `None`: it is the program's; else whose buffer it was.
    pub(crate) fn forwarded(&mut self, request: NonNull<Sending>) -> Option<Option<u32>> {
        let place = self.buffers.place_of_request(request)?;
        Some(self.let_go(place))
    }

    /// Whose buffer a request sends from. `None`: it is the program's; or else the buffer was of a stream that is gone.
    pub(crate) fn owner_of(&self, request: NonNull<Sending>) -> Option<Option<u32>> {
        let owner = self.buffers.owners[self.buffers.place_of_request(request)?];
        Some((owner != NIL).then_some(owner))
    }

    fn count_kept(&mut self, number: u32, change: i8) {
        let next = &mut self.streams[number].next;
        next.set_tag(next.tag().wrapping_add_signed(change));
    }
}

/// Of a buffer that the backend has, or has received into.
const LENT: u32 = 1 << 31;

/// The most buffers that one stream keeps.
const KEPT_MAX: u32 = u8::MAX as u32;

/// Buffers, each of which is free, or has what an event tells of, or was kept by the program.
pub(crate) struct Buffers {
    places: Places,
    /// What sends from it: made when the place is first taken.
    requests: Region<MaybeUninit<Sending>>,
    links: Region<u32>,
    /// Whose data is in it; NIL: of a stream that is gone. With [`LENT`]: how much the backend has received into it.
    owners: Region<u32>,
    start: NonNull<u8>,
    bytes: u32,
    /// So many may be lent to the backend; so many are; and in so many more it has received what nobody was told of.
    room: u32,
    lent: u32,
    received: u32,
    /// Streams that it receives for: no more are lent.
    pub(crate) receivers: u32,
    /// The one that the latest event tells of, and that nobody has kept.
    current: u32,
    /// What that event tells of.
    told: (*const u8, usize),
}

impl Buffers {
    /// The latest event tells of this.
    pub(crate) fn tell(&mut self, at: *const u8, length: usize) {
        self.told = (at, length);
    }

    /// Bytes of each.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// How many are not kept, or sent from.
    pub(crate) fn left(&self) -> u32 {
        self.free() + self.lent + self.received
    }

    /// How many are free, or will be with the next event.
    pub(crate) fn free(&self) -> u32 {
        self.links.len() as u32 - self.places.taken + u32::from(self.current != NIL)
    }

    /// So many may be lent to the backend. One stays here, so that what was received for streams that are paused does not keep
    /// others from receiving.
    pub(crate) fn may_lend(&mut self, room: u32) {
        self.room = room.min((self.links.len() as u32).saturating_sub(1));
    }

    /// Whether the backend receives by itself.
    pub(crate) fn are_lent(&self) -> bool {
        self.room > 0
    }

    /// Whether it has most of those that it may have, and has not received into all.
    pub(crate) fn are_mostly_lent(&self) -> bool {
        self.lent > 0 && self.lent + self.received > self.room.min(self.receivers) / 2
    }

    /// Whether it has any.
    pub(crate) fn is_any_lent(&self) -> bool {
        self.lent > 0
    }

    /// The next one to be lent.
    #[inline]
    pub(crate) fn lend(&mut self) -> Option<(u16, NonNull<u8>)> {
        let enough = self.lent >= self.room || self.lent + self.received >= self.receivers;
        if enough || self.free() <= 1 {
            return None;
        }
        let place = self.take_place().ok()?;
        let Ok(number) = u16::try_from(place) else {
            let _ = self.places.give(&mut self.links, place as usize);
            return None;
        };
        self.owners[place] = LENT;
        self.lent += 1;
        Some((number, self.at(place)))
    }

    /// One has come back as it was.
    pub(crate) fn give_back(&mut self, number: u16) {
        let freed = self.places.give(&mut self.links, number.into());
        debug_assert!(freed.is_ok());
        self.lent -= 1;
    }

    fn take_place(&mut self) -> Result<u32> {
        let unused = self.places.mark;
        let place = self.places.take(&mut self.links)? as u32;
        if place == unused {
            self.requests[place].write(Sending::UNUSED);
        }
        Ok(place)
    }

    /// Whether the program has kept it.
    fn is_kept(&self, place: u32) -> bool {
        place != self.current
            && self.places.is_taken(&self.links, place as usize)
            && self.owners[place] & LENT == 0
            // SAFETY: a place that is taken has one.
            && !unsafe { self.requests[place].assume_init_ref() }.is_queued()
    }

    fn place_of_request(&self, request: NonNull<Sending>) -> Option<u32> {
        let start = (*self.requests).as_ptr().addr();
        let offset = request.as_ptr().addr().checked_sub(start)?;
        let place = offset / size_of::<Sending>();
        (place < self.requests.len()).then_some(place as u32)
    }

    /// What the latest event told of is told of no more.
    #[inline]
    pub(crate) fn end_current(&mut self) {
        if self.current != NIL {
            let freed = self.places.give(&mut self.links, self.current as usize);
            debug_assert!(freed.is_ok());
            self.current = NIL;
        }
    }

    /// A buffer for the next event, of a stream. ENOBUFS: the program has kept all. O(1).
    pub(crate) fn take(&mut self, number: u32) -> Result<*mut u8> {
        self.end_current();
        let place = self.take_place()?;
        self.owners[place] = number;
        self.current = place;
        Ok(self.at(place).as_ptr())
    }

    fn at(&self, place: u32) -> NonNull<u8> {
        // SAFETY: within the block.
        unsafe { self.start.add(place as usize * self.bytes as usize) }
    }

    /// The buffer that an address lies in. EINVAL: in none.
    fn place_of(&self, data: *const u8) -> Result<u32> {
        let offset = data.addr().checked_sub(self.start.as_ptr().addr()).ok_or(Error::INVALID)?;
        let place = offset.checked_div(self.bytes as usize).filter(|place| *place < self.links.len());
        place.map(|place| place as u32).ok_or(Error::INVALID)
    }

    /// The beginning of the buffer that an address lies in, if that is taken. EINVAL, ESTALE.
    pub(crate) fn start_of(&self, data: *const u8) -> Result<*mut u8> {
        let place = self.place_of(data)?;
        let is_told = self.places.is_taken(&self.links, place as usize) && self.owners[place] & LENT == 0;
        if is_told { Ok(self.at(place).as_ptr()) } else { Err(Error::STALE) }
    }

    /// What is taken for a stream is nobody's. O(buffers).
    fn disown(&mut self, number: u32) {
        for owner in self.owners.first_mut(self.places.mark).iter_mut().filter(|owner| **owner == number) {
            *owner = NIL;
        }
    }
}
