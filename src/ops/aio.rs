//! Files by POSIX AIO, aio(7): what has completed is learned by asking, or a signal says when to ask.
//!
//! ```text
//!            submit: a control block is free                          outcome
//!   (none) ─────────────────────────────────► UNDER_WAY ──────────────────────────────► ended, and taken by `next`
//!                 │                              ▲  │                                     ▲
//!                 └─ EAGAIN ─► PUT_OFF ── again ─┘  └─ the next vector (or PUT_OFF) ─┘    │  cancel, or nothing is under way
//!                                 └───────────────────────────────────────────────────────┘
//! ```
//!
//! - Vectors are made one after the other: short at the first that is.
//! - The file's own position has no place here, nor has what is no reading, writing or syncing: the engine makes those inline.
//! - Every turn asks for each request that is under way, O(their number): with a signal too, which may be lost where too many
//!   are pending. Between turns the loop sleeps at most as long as `patience` says.
//! - Where glibc cannot send a signal it forgets the outcome too, and says EAGAIN. So the request is made again, without a
//!   signal; and what cannot be made twice, a write to the end of a file, never has one.

use super::files::Files;
use crate::aio::AioMemory;
use crate::error::{Error, Result};
use crate::request::{BYTES_MAX, CURRENT, Call, Request};
use crate::storage::region::Region;
use crate::storage::slot::NIL;
use crate::sys::aio::{Controls, Piece, can_repeat, can_sync, piece_from, piece_of};
use crate::time::Duration;
use core::ffi::CStr;

/// How long the loop sleeps at most after something has happened; twice as long each time that nothing has.
const FIRST: Duration = Duration::from_millis(1);
/// And no longer than this.
const LAST: Duration = Duration::from_millis(10);
/// The same where a signal comes, unless it is lost.
const SWEEP: Duration = Duration::from_millis(20);

/// Where a request is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    UnderWay,
    /// The system had no room for it.
    PutOff,
    Ended(i32),
}

/// What a control block is for.
#[derive(Clone, Copy)]
struct Entry {
    request: Request,
    /// Whose it is.
    data: u64,
    /// The next in the list that this one is in.
    next: u32,
    /// The vector that is being made, bytes of it, and bytes that were moved before.
    vector: u32,
    length: u32,
    moved: u32,
    place: Place,
    cancelled: bool,
    /// No signal tells of it.
    silent: bool,
}

impl Entry {
    fn new(request: Request, data: u64) -> Entry {
        Entry {
            request,
            data,
            next: NIL,
            vector: 0,
            length: 0,
            moved: 0,
            place: Place::PutOff,
            cancelled: false,
            silent: false,
        }
    }
}

pub(crate) struct Aio {
    controls: Controls,
    entries: Region<Entry>,
    free: u32,
    /// In the order of submission.
    first: u32,
    last: u32,
    /// `next` is in the middle of the list: in front of this one, which stands behind that.
    looking: Option<(u32, u32)>,
    /// So many are the system's.
    under_way: u32,
    /// Those of them that no signal tells of.
    silent: u32,
    /// One of those has completed since one was put off.
    again: bool,
    signal: Option<i32>,
    patience: Duration,
}

/// Whether it is made in parts.
fn has_vectors(request: &Request) -> bool {
    matches!(request.call, Call::ReadV | Call::WriteV)
}

impl Aio {
    /// In the caller's memory. ENOBUFS: there is none; ECHILD: this is a forked child of a process that uses it.
    pub(crate) fn new(memory: Option<AioMemory>, signal: Option<i32>) -> Result<Aio> {
        let memory = memory.ok_or(Error::NO_BUFFERS)?;
        let controls = Controls::new(&memory)?;
        let request = Request::new(Call::Read, 0)?;
        let mut entries = memory.entries(Entry::new(request, 0));
        for number in 1..memory.count() {
            entries[number - 1].next = number;
        }
        Ok(Aio {
            controls,
            entries,
            free: 0,
            first: NIL,
            last: NIL,
            looking: None,
            under_way: 0,
            silent: 0,
            again: false,
            signal,
            patience: FIRST,
        })
    }

    /// The next part of a request: of the first vector, from this one on, that has bytes.
    fn piece(entry: &mut Entry) -> Option<Piece> {
        let offset = entry.request.extra.saturating_add(entry.moved.into());
        piece_from(&entry.request, &mut entry.vector, offset)
    }

    /// Submits what is to be made now.
    fn begin(&mut self, number: u32) {
        let entry = &mut self.entries[number];
        let piece = if has_vectors(&entry.request) { Aio::piece(entry) } else { None };
        // (Vectors of nothing at all are nothing to read: the system says whether the file can be.)
        let piece = piece.unwrap_or_else(|| piece_of(&entry.request));
        entry.length = piece.length;
        let signal = self.signal.filter(|_| !entry.silent);
        entry.place = match self.controls.submit(number, &entry.request, piece, signal) {
            Ok(()) => {
                self.under_way += 1;
                self.silent += u32::from(signal.is_none());
                Place::UnderWay
            }
            Err(Error::AGAIN) if self.under_way > 0 => {
                self.again = false;
                Place::PutOff
            }
            Err(_) if entry.moved > 0 => Place::Ended(entry.moved as i32),
            Err(error) => Place::Ended(-error.errno()),
        };
    }

    /// The system has made a part. What came of the whole.
    fn go_on(&mut self, number: u32, result: i32) -> Place {
        let entry = &mut self.entries[number];
        if !has_vectors(&entry.request) {
            return Place::Ended(result);
        }
        let Ok(moved) = u32::try_from(result) else {
            // What was moved before is not lost.
            return Place::Ended(if entry.moved > 0 { entry.moved as i32 } else { result });
        };
        entry.moved += moved;
        let whole = moved == entry.length && moved > 0 && !entry.cancelled;
        entry.vector += 1;
        // (One that is longer than what one call moves was not made whole.)
        let room = BYTES_MAX as u32 - entry.moved.min(BYTES_MAX as u32);
        match Aio::piece(entry) {
            Some(piece) if whole && piece.length < room => self.begin(number),
            _ => return Place::Ended(entry.moved as i32),
        }
        self.entries[number].place
    }

    /// What has become of one, if it has ended.
    fn look_at(&mut self, number: u32) -> Option<i32> {
        match self.entries[number].place {
            Place::Ended(_) => {}
            Place::PutOff if self.again || self.under_way == 0 => self.begin(number),
            Place::PutOff => {}
            Place::UnderWay => {
                let result = self.controls.outcome(number)?;
                let entry = &mut self.entries[number];
                let told = self.signal.is_some() && !entry.silent;
                self.under_way -= 1;
                self.silent -= u32::from(!told);
                self.again = true;
                self.patience = FIRST;
                if told && result == -Error::AGAIN.errno() {
                    // (Also of one that was cancelled: it may have been too late for that.)
                    entry.silent = true;
                    self.begin(number);
                } else {
                    self.entries[number].place = self.go_on(number, result);
                }
            }
        }
        match self.entries[number].place {
            Place::Ended(result) => Some(result),
            _ => None,
        }
    }

    /// Takes one out of the list, behind another.
    fn unlink(&mut self, before: u32, number: u32) {
        let next = self.entries[number].next;
        if before == NIL {
            self.first = next;
        } else {
            self.entries[before].next = next;
        }
        if self.last == number {
            self.last = before;
        }
        self.entries[number].next = self.free;
        self.free = number;
    }
}

impl Files for Aio {
    fn name(&self) -> &'static CStr {
        if self.signal.is_some() { c"aio-signal" } else { c"aio" }
    }

    fn makes(&self, request: &Request) -> bool {
        match request.call {
            Call::Read | Call::Write | Call::ReadV | Call::WriteV => request.extra != CURRENT,
            Call::Fsync => can_sync(request.fd),
            _ => false,
        }
    }

    fn submit(&mut self, request: &Request, _: bool, data: u64) -> bool {
        let number = self.free;
        if number == NIL {
            return false;
        }
        let entry = &mut self.entries[number];
        self.free = entry.next;
        *entry = Entry::new(*request, data);
        entry.silent = self.signal.is_some() && !can_repeat(request);
        if self.last == NIL {
            self.first = number;
        } else {
            self.entries[self.last].next = number;
        }
        self.last = number;
        self.patience = FIRST;
        self.begin(number);
        true
    }

    /// O(requests under way).
    fn cancel(&mut self, data: u64) -> bool {
        let mut number = self.first;
        while number != NIL && self.entries[number].data != data {
            number = self.entries[number].next;
        }
        if number != NIL {
            let entry = &mut self.entries[number];
            entry.cancelled = true;
            match entry.place {
                Place::UnderWay => self.controls.cancel(number, entry.request.fd),
                Place::PutOff if entry.moved > 0 => entry.place = Place::Ended(entry.moved as i32),
                Place::PutOff => entry.place = Place::Ended(-Error::CANCELED.errno()),
                Place::Ended(_) => {}
            }
            self.patience = FIRST;
        }
        true
    }

    /// What was submitted is on its way.
    fn flush(&mut self) {}

    fn next(&mut self) -> Option<(u64, i32)> {
        let (mut before, mut number) = self.looking.take().unwrap_or((NIL, self.first));
        while number != NIL {
            let next = self.entries[number].next;
            if let Some(result) = self.look_at(number) {
                self.unlink(before, number);
                self.looking = Some((before, next));
                return Some((self.entries[number].data, result));
            }
            (before, number) = (number, next);
        }
        None
    }

    fn signal(&self) -> Option<i32> {
        self.signal
    }

    fn set_signal(&mut self, signal: i32) {
        self.signal = Some(signal);
    }

    fn patience(&mut self) -> Duration {
        if self.signal.is_some() && self.silent == 0 {
            return SWEEP;
        }
        let patience = self.patience;
        self.patience = Duration::from_nanos(2 * patience.as_nanos()).min(LAST);
        patience
    }
}
