//! Send requests: structs in the program's memory, which a stream links into a queue.
//!
//! ```text
//!   last ──► the newest ──next──► the oldest ──► … ──► the first that is unsent ──► … ──► the newest
//!                                 └── these are done, and wait for their events ─┘
//! ```
//!
//! Requests are made in the order of their submission, so those that are done stand before those that are not: one ring has
//! both. A request belongs to the queue from its submission until it is taken out: who submitted it answers for that, and for
//! the memory that it leads to. Everything is O(1), but for what is gathered.
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use crate::request::Lease;
use core::ptr::{self, NonNull};

/// A part of what is sent: a struct iovec.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Part {
    pub(crate) at: *const (),
    pub(crate) length: usize,
}

impl Part {
    pub(crate) const NONE: Part = Part { at: ptr::null(), length: 0 };
}

/// It is nobody's but the program's.
const FREE: u32 = 0;
/// A stream has it.
const QUEUED: u32 = 1;
/// It has it, and the program has taken it back.
const CUT: u32 = 2;

/// A request, in the program's memory. Zeros before it is first used.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Sending {
    /// The program's.
    pub(crate) user: *mut (),
    next: *mut Sending,
    /// What is left to be sent; null: of the one part.
    vectors: *const Part,
    one: Part,
    /// Where to, for datagrams; null: where the socket is connected to.
    pub(crate) address: *const (),
    /// The memory that it uses, where the Rust front end has lent it.
    pub(crate) lease: Option<&'static Lease>,
    /// Bytes in all.
    length: u64,
    sent: u64,
    /// What came of it. Of a file range that is under way: where it goes on.
    result: i64,
    /// Bytes of the first vector that were sent.
    within: usize,
    /// Vectors from the first on.
    count: u32,
    pub(crate) address_length: u32,
    /// The file; -1: it is in memory.
    file: i32,
    state: u32,
}

// SAFETY: a request is nobody's but the program's, or the loop's; what its pointers lead to is the program's to answer for.
unsafe impl Send for Sending {}

/// What a request is to send.
#[derive(Clone, Copy)]
pub(crate) enum Content {
    /// Bytes of one piece.
    Bytes(Part),
    /// Those of several, where the vectors stay valid too.
    Vectors(*const Part, u32),
    /// So many bytes of a file, from an offset on.
    File(i32, i64, u64),
}

/// A range of a file that is left to be sent.
#[derive(Clone, Copy)]
pub(crate) struct FileRange {
    pub(crate) file: i32,
    pub(crate) offset: i64,
    pub(crate) left: u64,
}

impl Sending {
    /// One that was never used.
    pub(crate) const UNUSED: Sending = Sending {
        user: ptr::null_mut(),
        next: ptr::null_mut(),
        vectors: ptr::null(),
        one: Part::NONE,
        address: ptr::null(),
        lease: None,
        length: 0,
        sent: 0,
        result: 0,
        within: 0,
        count: 1,
        address_length: 0,
        file: -1,
        state: FREE,
    };

    /// A request for this. `user` is what the program has there.
    fn new(user: *mut (), content: Content) -> Result<Sending> {
        let mut sending = Sending { user, state: QUEUED, ..Sending::UNUSED };
        match content {
            Content::Bytes(part) => {
                if part.at.is_null() && part.length > 0 {
                    return Err(Error::INVALID);
                }
                (sending.one, sending.length) = (part, part.length as u64);
            }
            Content::Vectors(vectors, count) => {
                if vectors.is_null() && count > 0 || count > 1024 {
                    return Err(Error::INVALID);
                }
                (sending.vectors, sending.count) = (vectors, count);
                for index in 0..count as usize {
                    // SAFETY: who submits it answers for so many.
                    let length = unsafe { vectors.add(index).read() }.length;
                    sending.length = sending.length.checked_add(length as u64).ok_or(Error::INVALID)?;
                }
            }
            Content::File(file, offset, length) => {
                let end = u64::try_from(offset).ok().and_then(|offset| offset.checked_add(length));
                if file < 0 || end.is_none_or(|end| i64::try_from(end).is_err()) {
                    return Err(if file < 0 { Error::BAD_FD } else { Error::INVALID });
                }
                (sending.file, sending.result, sending.length) = (file, offset, length);
            }
        }
        if i64::try_from(sending.length).is_err() {
            return Err(Error::INVALID);
        }
        Ok(sending)
    }

    /// Makes a request in the program's memory. EBUSY: it is in a queue; EINVAL: NULL, or a length that cannot be. Then nothing
    /// has changed.
    ///
    /// # Safety
    /// Null, or valid to read and write: zeros, or a request that this has made.
    pub(crate) unsafe fn make(
        at: *mut Sending,
        content: Content,
        to: Option<(*const (), u32)>,
        lease: Option<&'static Lease>,
    ) -> Result<NonNull<Sending>> {
        let at = NonNull::new(at).filter(|at| at.is_aligned()).ok_or(Error::INVALID)?;
        // SAFETY: by this function's contract.
        let old = unsafe { at.as_ref() };
        if old.state != FREE {
            return Err(Error::BUSY);
        }
        let mut sending = Sending::new(old.user, content)?;
        if let Some((address, length)) = to {
            if address.is_null() || length == 0 {
                return Err(Error::INVALID);
            }
            (sending.address, sending.address_length) = (address, length);
        }
        sending.lease = lease;
        // SAFETY: likewise.
        unsafe { at.write(sending) };
        Ok(at)
    }

    /// Bytes that are left.
    pub(crate) fn left(&self) -> u64 {
        self.length - self.sent
    }

    /// The range of a file that is left, where it is one.
    pub(crate) fn file_range(&self) -> Option<FileRange> {
        (self.file >= 0).then_some(FileRange { file: self.file, offset: self.result, left: self.left() })
    }

    /// Its vectors, as they were given: of a request of which nothing was sent.
    pub(crate) fn vectors(&self) -> (*const Part, u32) {
        (if self.vectors.is_null() { &raw const self.one } else { self.vectors }, self.count)
    }

    /// Whether a stream has it.
    pub(crate) fn is_queued(&self) -> bool {
        self.state != FREE
    }

    /// Whether the program has taken it back.
    pub(crate) fn is_cut(&self) -> bool {
        self.state == CUT
    }

    /// The bytes that are left, where they are of one piece and that is all there is to it.
    #[inline]
    pub(crate) fn piece(&self) -> Option<(*const (), u64)> {
        let plain = self.count == 1 && self.file < 0 && !self.has_address() && self.left() > 0;
        // SAFETY: it has one vector.
        plain.then(|| (unsafe { (*self.vectors().0).at }.wrapping_byte_add(self.within), self.left()))
    }

    /// The same of a request that is in no queue.
    #[inline]
    pub(crate) fn piece_of(at: NonNull<Sending>) -> Option<(*const (), u64)> {
        // SAFETY: it was made, and nobody else has it now.
        unsafe { at.as_ref() }.piece()
    }

    /// It is the program's again, and so is the memory that it uses.
    #[inline]
    pub(crate) fn take_back(at: NonNull<Sending>) {
        // SAFETY: it was made, and is in no queue now.
        let lease = unsafe {
            (*at.as_ptr()).state = FREE;
            (*at.as_ptr()).lease.take()
        };
        if let Some(lease) = lease {
            lease.give_back();
        }
    }

    fn has_address(&self) -> bool {
        !self.address.is_null()
    }

    /// So many bytes more were sent; no more than are left.
    fn advance(&mut self, count: u64) {
        self.sent += count;
        if self.file >= 0 {
            self.result += count.cast_signed();
            return;
        }
        let mut count = count as usize + self.within;
        let (mut vectors, mut left) = self.vectors();
        while left > 0 {
            // SAFETY: so many are left.
            let length = unsafe { vectors.read() }.length;
            if count < length || left == 1 {
                break;
            }
            count -= length;
            left -= 1;
            // SAFETY: there is a next one.
            vectors = unsafe { vectors.add(1) };
        }
        self.within = count;
        self.count = left;
        if !self.vectors.is_null() {
            self.vectors = vectors;
        }
    }
}

/// The requests of one stream.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Queue {
    /// The newest, which leads to the oldest; null: there is none.
    last: *mut Sending,
    /// The first that is not done.
    unsent: *mut Sending,
}

impl Queue {
    pub(crate) const EMPTY: Queue = Queue { last: ptr::null_mut(), unsent: ptr::null_mut() };

    /// Whether it has none, done or not.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_null()
    }

    /// Whether something is left to be sent.
    #[inline]
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_null()
    }

    /// Whether a request is done and was not taken out.
    #[inline]
    pub(crate) fn has_done(&self) -> bool {
        // SAFETY: requests in the queue are valid.
        !self.last.is_null() && unsafe { (*self.last).next } != self.unsent
    }

    /// The oldest, and which of all it is.
    fn oldest(&self) -> *mut Sending {
        // SAFETY: requests in the queue are valid.
        if self.last.is_null() { self.last } else { unsafe { (*self.last).next } }
    }

    /// Whether a request is the only one, and all of it was sent.
    pub(crate) fn is_sent_first(&self, at: NonNull<Sending>) -> bool {
        // SAFETY: requests in the queue are valid.
        self.oldest() == at.as_ptr() && self.has_done() && unsafe { at.as_ref() }.result >= 0
    }

    /// Bytes of a request that are left.
    pub(crate) fn left_of(&self, at: NonNull<Sending>) -> u64 {
        // SAFETY: requests in the queue are valid.
        unsafe { at.as_ref() }.left()
    }

    pub(crate) fn push(&mut self, at: NonNull<Sending>) {
        let at = at.as_ptr();
        // SAFETY: it was made, and requests in the queue are valid.
        unsafe {
            if self.last.is_null() {
                (*at).next = at;
            } else {
                (*at).next = (*self.last).next;
                (*self.last).next = at;
            }
        }
        self.last = at;
        if self.unsent.is_null() {
            self.unsent = at;
        }
    }

    /// The oldest, if all of it was sent.
    pub(crate) fn oldest_sent(&self) -> Option<NonNull<Sending>> {
        // SAFETY: requests in the queue are valid.
        NonNull::new(self.oldest()).filter(|oldest| self.has_done() && unsafe { oldest.as_ref() }.result >= 0)
    }

    /// Whether more than one is not done.
    pub(crate) fn has_more_unsent(&self) -> bool {
        self.unsent != self.last
    }

    /// Takes out the oldest if it is done: what it is, and what came of it. It is the program's again.
    pub(crate) fn pop_done(&mut self) -> Option<(NonNull<Sending>, i64)> {
        self.has_done().then(|| self.pop()).flatten()
    }

    /// Takes out the oldest, done or not.
    pub(crate) fn pop(&mut self) -> Option<(NonNull<Sending>, i64)> {
        let first = NonNull::new(self.oldest())?;
        let at = first.as_ptr();
        // SAFETY: requests in the queue are valid.
        let result = unsafe {
            if at == self.last {
                self.last = ptr::null_mut();
            } else {
                (*self.last).next = (*at).next;
            }
            if at == self.unsent {
                self.unsent = ptr::null_mut();
            }
            (*at).result
        };
        Sending::take_back(first);
        Some((first, result))
    }

    /// The only one, which is not done. `None`: there are others, or none.
    pub(crate) fn only(&self) -> Option<NonNull<Sending>> {
        NonNull::new(self.unsent).filter(|_| self.oldest() == self.last)
    }

    /// The first that is not done.
    pub(crate) fn unsent(&self) -> Option<&Sending> {
        // SAFETY: requests in the queue are valid, and nobody else's.
        unsafe { self.unsent.as_ref() }
    }

    /// The first that is not done is, with this result. Bytes of it that were left.
    pub(crate) fn complete(&mut self, result: i64) -> u64 {
        // SAFETY: likewise.
        let Some(at) = (unsafe { self.unsent.as_mut() }) else { return 0 };
        let left = at.left();
        at.result = result;
        self.unsent = if self.unsent == self.last { ptr::null_mut() } else { at.next };
        left
    }

    /// The first that is not done is, with what was sent of it. Bytes of it that were left.
    pub(crate) fn complete_short(&mut self) -> u64 {
        let sent = self.unsent().map_or(0, |first| first.sent);
        self.complete(sent.cast_signed())
    }

    /// What is left of a request will not be sent: it is done in its order, with what was. Bytes of it that were left; 0: it is not
    /// among those that are not done, or it is the first of them and under way, and is only remembered. O(requests).
    pub(crate) fn cut_short(&mut self, request: *const Sending, under_way: bool) -> u64 {
        let mut at = self.unsent;
        // SAFETY: likewise.
        while let Some(sending) = unsafe { at.as_mut() } {
            if ptr::eq(at, request) {
                sending.state = CUT;
                if under_way && at == self.unsent {
                    return 0;
                }
                let left = sending.left();
                sending.length = sending.sent;
                sending.count = 0;
                if at == self.unsent {
                    self.complete_short();
                }
                return left;
            }
            at = if at == self.last { ptr::null_mut() } else { sending.next };
        }
        0
    }

    /// So many bytes were sent: of the first that is not done, and of those behind it. Those of which nothing is left are done.
    pub(crate) fn advance(&mut self, mut count: u64) {
        // SAFETY: likewise.
        while let Some(at) = unsafe { self.unsent.as_mut() } {
            let now = count.min(at.left());
            at.advance(now);
            count -= now;
            if at.left() > 0 {
                return;
            }
            let result = at.length.cast_signed();
            self.complete(result);
            if count == 0 && self.unsent().is_none_or(|next| next.left() > 0) {
                return;
            }
        }
    }

    /// Writes the parts of what is in memory, from the first that is not done on: how many, and how many bytes. Nothing behind a
    /// range of a file.
    pub(crate) fn gather(&self, parts: &mut [Part]) -> (usize, u64) {
        let (mut count, mut bytes) = (0, 0);
        let mut at = self.unsent;
        // SAFETY: likewise.
        while let Some(sending) = unsafe { at.as_ref() } {
            if sending.file >= 0 || sending.has_address() {
                break;
            }
            let (vectors, left) = sending.vectors();
            for index in 0..left as usize {
                // SAFETY: so many are left.
                let Part { at, length } = unsafe { vectors.add(index).read() };
                let skip = if index == 0 { sending.within } else { 0 };
                if length == skip {
                    continue;
                }
                let Some(part) = parts.get_mut(count) else { return (count, bytes) };
                *part = Part { at: at.wrapping_byte_add(skip), length: length - skip };
                count += 1;
                bytes += (length - skip) as u64;
            }
            at = if at == self.last { ptr::null_mut() } else { sending.next };
        }
        (count, bytes)
    }
}

#[cfg(test)]
mod tests;
