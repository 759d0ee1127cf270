//! Operations: requests that the simulated system carries out by itself, as a ring of the kernel's does. (Without one it does
//! so for files alone.)
//!
//! ```text
//!              submit           its time has come          soon after
//!   free ────────────► pending ───────────────────► done ────────────► told by a wait, and free
//!                        ▲  │                         ▲
//!          the file is   │  └─ it would block         │
//!          ready         └─────────── waiting ────────┘ cancel
//! ```
//!
//! Each takes a random time until it is carried out, and another one until that is told: so they complete in any order. A
//! cancel comes in time, or too late: then the request is carried out all the same, unless it would have to wait.

use super::faults::Call;
use super::state::{FIRST_FD, NONE, Sort, State};
use super::stream::BYTES;
use super::{Handle, Ready};
use crate::error::{Error, Result};
use crate::request::{self, CURRENT, Request};
use crate::sys::{operation as calls, simulated as memory};
use crate::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Free,
    Pending,
    Waiting,
    Done,
}

/// One operation in flight.
#[derive(Clone, Copy)]
pub(super) struct Work {
    operation: Handle,
    request: Request,
    /// When it is carried out, or told.
    at: Instant,
    /// What its descriptor is of.
    file: u32,
    generation: u32,
    result: i32,
    /// What it waits for.
    interest: Ready,
    stage: Stage,
    /// Nothing is asked but to wait.
    polls: bool,
    /// It has to wait here, whatever its file says.
    elsewhere: bool,
    cancelled: bool,
    /// A connection is under way.
    connecting: bool,
    /// The last wait has found that it is done.
    found: bool,
}

impl Work {
    pub(super) const NONE: Work = Work {
        operation: Handle::NONE,
        request: Request {
            call: request::Call::Read,
            state: 0,
            nature: 0,
            beside: 0,
            fd: -1,
            length: 0,
            flags: 0,
            at: core::ptr::null_mut(),
            extra: CURRENT,
        },
        at: Instant::NEVER,
        file: NONE,
        generation: 0,
        result: 0,
        interest: Ready::empty(),
        stage: Stage::Free,
        polls: false,
        elsewhere: false,
        cancelled: false,
        connecting: false,
        found: false,
    };
}

/// How long an operation takes at most, before it is told otherwise.
pub(super) const LATENCY: Duration = Duration::from_micros(100);
/// Bytes of a file that was opened by its path, likewise.
pub(super) const FILE_BYTES: u64 = 4096;
/// What a file is told of that is filled or read at once.
const PIECE: usize = 256;

/// What the loop asks for.
impl State {
    /// False: there is no room now, or the faults say so.
    pub(super) fn submit(&mut self, request: &Request, elsewhere: bool, operation: Handle) -> bool {
        let at = self.now + self.soon();
        let interest = calls::direction(request);
        self.take(Work { operation, request: *request, at, interest, stage: Stage::Pending, elsewhere, ..Work::NONE })
    }

    /// The same for a readiness alone.
    pub(super) fn submit_poll(&mut self, fd: i32, interest: Ready, operation: Handle) -> bool {
        let request = Request { fd, ..Work::NONE.request };
        self.take(Work { operation, request, interest, stage: Stage::Waiting, polls: true, ..Work::NONE })
    }

    fn take(&mut self, mut work: Work) -> bool {
        let Some(free) = self.works.iter().position(|it| it.stage == Stage::Free) else { return false };
        if self.attempt(Call::Submit).is_err() {
            return false;
        }
        if let Ok(file) = self.file(work.request.fd) {
            (work.file, work.generation) = (file, self.files[file].generation);
        }
        self.works[free as u32] = work;
        self.works_used = self.works_used.max(free as u32 + 1);
        true
    }

    /// Asks for an end of an operation. False: that cannot be asked now.
    pub(super) fn cancel(&mut self, operation: Handle) -> bool {
        let of_it = |it: &Work| it.stage != Stage::Free && it.operation == operation;
        let Some(index) = self.works.iter().position(of_it).map(|at| at as u32) else { return true };
        if self.attempt(Call::Submit).is_err() {
            return false;
        }
        match self.works[index].stage {
            Stage::Pending if self.random.below(2) == 0 => self.works[index].cancelled = true,
            // Who was in the middle of it says so. (A close that was has closed.)
            Stage::Pending if self.works[index].request.call != request::Call::Close && self.random.below(4) == 0 => {
                self.finish(index, Err(Error::INTERRUPTED));
            }
            Stage::Pending | Stage::Waiting => self.finish(index, Err(Error::CANCELED)),
            Stage::Free | Stage::Done => {}
        }
        true
    }

    /// Whoever had the simulator has gone: so has what it asked for, and what was opened for it and not told.
    pub(super) fn forget_work(&mut self) {
        for index in 0..self.works_used {
            let Work { stage, request, result, .. } = core::mem::replace(&mut self.works[index], Work::NONE);
            if stage == Stage::Done && request.call.makes_fd() && result >= 0 {
                let _ = self.close(result);
            }
        }
        self.works_used = 0;
    }
}

/// Without a ring: the loop makes its requests itself, when their descriptors are ready.
impl State {
    /// What came of a request that may not block; `None`: it would.
    pub(super) fn make_now(&mut self, request: &Request, connecting: &mut bool) -> Option<i32> {
        let answer = self.file(request.fd).and_then(|file| self.make_request(request, file, connecting));
        match answer {
            // (What is tried again is ready, too.)
            Err(Error::AGAIN | Error::INTERRUPTED) => None,
            answer => Some(answer.unwrap_or_else(|error| -error.errno())),
        }
    }

    /// What kind of file it is, as far as reading and writing it goes. EBADF.
    pub(super) fn nature_of(&self, fd: i32) -> Result<u8> {
        let sort = self.files[self.file(fd)?].sort;
        Ok(match sort {
            Sort::Regular(_) => calls::nature::FILE,
            Sort::Stream | Sort::Listener(_) => calls::nature::SOCKET,
            _ => calls::nature::STREAM,
        })
    }
}

/// Carrying it out.
impl State {
    /// A random time that an operation takes.
    fn soon(&mut self) -> Duration {
        if self.random.below(4) == 0 {
            Duration::ZERO
        } else {
            Duration::from_nanos(self.random.up_to(self.latency.as_nanos()))
        }
    }

    /// When something is to be done or told; NEVER: nothing is. O(operations).
    pub(super) fn next_work(&self) -> Instant {
        let used = self.works.first(self.works_used).iter();
        let timed = used.filter(|it| matches!(it.stage, Stage::Pending | Stage::Done));
        timed.map(|it| it.at).min().unwrap_or(Instant::NEVER)
    }

    /// Does what is due, in a random order. How much that was. O(operations).
    pub(super) fn work(&mut self) -> u32 {
        let used = self.works_used;
        let is_due = |it: &Work, now| it.stage == Stage::Pending && it.at <= now;
        let mut count = 0;
        if self.works.first(used).iter().any(|it| is_due(it, self.now)) {
            let first = self.random.below(used.into()) as u32;
            for step in 0..used {
                let index = (first + step) % used;
                if is_due(&self.works[index], self.now) {
                    count += 1;
                    self.carry_out(index);
                }
            }
        }
        for index in 0..used {
            if self.works[index].stage != Stage::Waiting || !self.is_ready_for(index) {
                continue;
            }
            if self.works[index].polls {
                let ready = i32::from(self.works[index].interest.bits());
                let answer = if self.has_file(index) { Ok(ready) } else { Err(Error::BAD_FD) };
                self.finish(index, answer);
            } else {
                let at = self.now + self.soon();
                (self.works[index].stage, self.works[index].at) = (Stage::Pending, at);
            }
        }
        count
    }

    /// Whether the descriptor is still the one that it was for.
    fn has_file(&self, index: u32) -> bool {
        let it = &self.works[index];
        self.file(it.request.fd) == Ok(it.file) && self.files[it.file].generation == it.generation
    }

    fn is_ready_for(&self, index: u32) -> bool {
        let it = &self.works[index];
        if !self.has_file(index) {
            return true;
        }
        let ended = Ready::ERROR | Ready::HANGUP | Ready::PEER_CLOSED;
        !self.files[it.file].delayed && self.ready(it.file).intersects(it.interest | ended)
    }

    fn finish(&mut self, index: u32, answer: Result<i32>) {
        let at = self.now + self.soon();
        let it = &mut self.works[index];
        (it.stage, it.at) = (Stage::Done, at);
        it.result = answer.unwrap_or_else(|error| -error.errno());
    }

    fn carry_out(&mut self, index: u32) {
        let Work { request, file, cancelled, elsewhere, mut connecting, .. } = self.works[index];
        let answer = if request.call.is_at_folder() || self.has_file(index) {
            self.make_request(&request, file, &mut connecting)
        } else {
            Err(Error::BAD_FD)
        };
        self.works[index].connecting = connecting;
        match answer {
            Err(Error::AGAIN) if cancelled => self.finish(index, Err(Error::CANCELED)),
            // A file that does not block is not waited for, unless the loop insists.
            Err(Error::AGAIN) if !elsewhere && !connecting && self.random.below(4) == 0 => self.finish(index, answer),
            Err(Error::AGAIN) => self.works[index].stage = Stage::Waiting,
            Err(Error::INTERRUPTED) => {
                let after = Duration::from_nanos(self.random.up_to(self.latency.as_nanos()));
                self.works[index].at = self.now + after;
            }
            answer => self.finish(index, answer),
        }
    }

    /// What becomes of a request now. EAGAIN: it would block; EINTR: it is to be tried again. `connecting`: a connection is under
    /// way, and is asked for its end.
    fn make_request(&mut self, request: &Request, file: u32, connecting: &mut bool) -> Result<i32> {
        use request::Call::*;
        match request.call {
            Read | ReadV | Recv | RecvMsg => self.read_for(request, file),
            Write | WriteV | Send | SendMsg => self.write_for(request, file),
            Fsync => self.sync(file),
            OpenAt | OpenAt2 => {
                self.attempt(Call::Open)?;
                self.open(Sort::Regular(self.file_bytes))
            }
            Statx => self.status_for(request, file),
            Close => match self.close(request.fd) {
                Ok(()) | Err(Error::INTERRUPTED) => Ok(0), // it is closed all the same
                Err(error) => Err(error),
            },
            Accept => {
                let accepted = self.accept(request.fd)?;
                memory::set_no_address(request);
                Ok(accepted)
            }
            Connect => self.connect_for(request, file, connecting),
        }
    }

    fn connect_for(&mut self, request: &Request, file: u32, connecting: &mut bool) -> Result<i32> {
        if !*connecting {
            let port = memory::port_of(request).ok_or(Error::INVALID)?;
            let listener = FIRST_FD | i32::from(port);
            if self.file(listener).is_err() {
                return Err(Error::CONNECTION_REFUSED);
            }
            match self.connect(request.fd, listener) {
                Err(Error::IN_PROGRESS) => *connecting = true,
                answer => return answer.map(|()| 0),
            }
        }
        if self.files[file].stream.connecting {
            return Err(Error::AGAIN);
        }
        self.take_error(file).map(|()| 0)
    }

    /// ENOTSOCK, ESPIPE, ENOTSUP: such a call is not for such a file.
    fn check_transfer(&self, request: &Request, file: u32) -> Result<()> {
        let sort = self.files[file].sort;
        let of_socket = !matches!(
            request.call,
            request::Call::Read | request::Call::ReadV | request::Call::Write | request::Call::WriteV
        );
        if of_socket && matches!(sort, Sort::Regular(_) | Sort::Null) {
            return Err(Error::NOT_SOCKET);
        }
        if of_socket && !calls::is_plain(request) {
            return Err(Error::UNSUPPORTED);
        }
        if request.extra != CURRENT && matches!(sort, Sort::Stream | Sort::Listener(_)) {
            return Err(Error::NOT_SEEKABLE);
        }
        Ok(())
    }

    /// Where in a regular file a request begins.
    fn place_of(&self, request: &Request, file: u32) -> u64 {
        if request.extra == CURRENT { self.files[file].offset } else { request.extra.cast_unsigned() }
    }

    fn move_on(&mut self, request: &Request, file: u32, end: u64) {
        if request.extra == CURRENT {
            self.files[file].offset = end;
        }
    }

    fn read_for(&mut self, request: &Request, file: u32) -> Result<i32> {
        self.check_transfer(request, file)?;
        let total = memory::bytes_of(request);
        let mut bytes = [0; PIECE];
        if let Sort::Regular(length) = self.files[file].sort {
            self.attempt(Call::ReadFile)?;
            let offset = self.place_of(request, file);
            let left = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
            let count = self.some_of(total.min(left));
            for start in (0..count).step_by(PIECE) {
                let piece = &mut bytes[..PIECE.min(count - start)];
                for (byte, at) in piece.iter_mut().zip(offset + start as u64..) {
                    *byte = at as u8;
                }
                memory::store(request, start, piece);
            }
            self.move_on(request, file, offset + count as u64);
            return Ok(count as i32);
        }
        let count = self.read(request.fd, &mut bytes[..total.min(PIECE)])?;
        memory::store(request, 0, &bytes[..count]);
        memory::set_received(request);
        Ok(count as i32)
    }

    fn write_for(&mut self, request: &Request, file: u32) -> Result<i32> {
        self.check_transfer(request, file)?;
        let total = memory::bytes_of(request);
        if let Sort::Regular(length) = self.files[file].sort {
            self.attempt(Call::WriteFile)?;
            let count = self.some_of(total);
            let end = self.place_of(request, file).saturating_add(count as u64);
            self.files[file].sort = Sort::Regular(length.max(end));
            self.move_on(request, file, end);
            return Ok(count as i32);
        }
        let mut bytes = [0; PIECE];
        let piece = &mut bytes[..total.min(PIECE)];
        memory::load(request, piece);
        self.write(request.fd, piece).map(|count| count as i32)
    }

    fn sync(&mut self, file: u32) -> Result<i32> {
        if !matches!(self.files[file].sort, Sort::Regular(_)) {
            return Err(Error::INVALID);
        }
        self.attempt(Call::Sync)?;
        Ok(0)
    }

    /// Of the descriptor, with an empty path; else of what every path leads to.
    fn status_for(&mut self, request: &Request, file: u32) -> Result<i32> {
        self.attempt(Call::Status)?;
        let length = match self.files.get(file as usize).map(|it| it.sort) {
            Some(Sort::Regular(length)) if memory::is_path_empty(request) => length,
            _ if memory::is_path_empty(request) => return Err(Error::NOT_FOUND),
            _ => self.file_bytes,
        };
        memory::set_status(request, length).map(|()| 0)
    }
}

/// What a wait finds of it.
impl State {
    /// How many completions there are to be told. O(operations).
    pub(super) fn find_completions(&mut self) -> usize {
        let mut count = 0;
        for index in 0..self.works_used {
            let it = &mut self.works[index];
            if it.stage == Stage::Done && it.at <= self.now {
                it.found = true;
                count += 1;
            }
        }
        count
    }

    /// What is to be told of a place, once: whose it is, and its result.
    pub(super) fn take_completion(&mut self, index: u32) -> Option<(Handle, i32)> {
        let Work { operation, found, result, .. } = self.works[index];
        if found {
            self.works[index] = Work::NONE;
        }
        found.then_some((operation, result))
    }
}

const _: () = assert!(PIECE == BYTES);
