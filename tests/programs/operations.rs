//! Operations, and what each was asked for: a model of the streams, files and memory that they work on. It knows nothing of
//! how the loop makes them, nor of its queue.
//!
//! Checked all along: each operation that was accepted completes once, and nothing of it comes after that; a full table
//! changes nothing; an error comes only where something can give it, ECANCELED only after a cancel or a drain, ETIMEDOUT only
//! after a deadline and not before it; no byte of a stream is lost, doubled or out of order, whatever was cancelled; memory
//! comes back with the completion; and in the end every place and every descriptor is free again.

use becket::{
    Address, Buffer, Call, Duration, Error, Event, FileStatus, Handle, Handler, Kind, Loop, Quirk, Ready, Simulator,
};
use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Bytes of the longest transfer.
pub const BYTES: usize = 300;
/// Places for operations, at most.
pub const PLACES: usize = 7;
/// Bytes of the file.
const FILE: u64 = 3_000;
/// Descriptors that operations have made, at most, before no more are asked for.
const MADE: usize = 4;
const AT_FOLDER: i32 = -100;

/// Descriptors for operations. Those of streams do not block.
pub trait System: Copy {
    /// The two ends of a stream.
    fn pair(self) -> [i32; 2];
    /// A file of so many bytes, each the lowest eight bits of its place.
    fn file(self, bytes: u64) -> i32;
    /// A socket that listens, and where.
    fn listener(self) -> (i32, SocketAddr);
    /// A socket that can be connected, where there is one.
    fn socket(self) -> Option<i32>;
    /// What a descriptor is ready for, where that is known.
    fn ready(self, _fd: i32) -> Option<Ready> {
        None
    }
    /// An end of a stream holds so many bytes unread, where it can be told.
    fn set_room(self, fd: i32, bytes: usize);
    /// What is there; 0: nothing now.
    fn read(self, fd: i32, bytes: &mut [u8]) -> usize;
    fn accept(self, listener: i32) -> Option<i32>;
    /// Nothing fails any more.
    fn calm(self) {}
    /// False: it is not open.
    fn close(self, fd: i32) -> bool;
}

impl System for Simulator<'static> {
    fn pair(self) -> [i32; 2] {
        Simulator::pair(self).expect("two descriptors")
    }

    fn file(self, bytes: u64) -> i32 {
        // (It may be made to fail already.)
        (0..99).find_map(|_| self.open(bytes).ok()).expect("a descriptor")
    }

    fn listener(self) -> (i32, SocketAddr) {
        let listener = Simulator::socket(self).expect("a descriptor");
        self.listen(listener, 3).expect("a socket");
        (listener, SocketAddr::from(([127, 0, 0, 1], listener as u16)))
    }

    fn socket(self) -> Option<i32> {
        Simulator::socket(self).ok()
    }

    fn ready(self, fd: i32) -> Option<Ready> {
        Simulator::ready(self, fd).ok()
    }

    fn set_room(self, fd: i32, bytes: usize) {
        Simulator::set_room(self, fd, bytes).expect("a stream");
    }

    fn read(self, fd: i32, bytes: &mut [u8]) -> usize {
        Simulator::read(self, fd, bytes).unwrap_or(0)
    }

    fn accept(self, listener: i32) -> Option<i32> {
        Simulator::accept(self, listener).ok()
    }

    fn calm(self) {
        self.set_all_faults(0, Duration::ZERO).expect("a simulator");
    }

    fn close(self, fd: i32) -> bool {
        Simulator::close(self, fd) != Err(Error::BAD_FD)
    }
}

/// Makes calls of operations fail now and then, of a million so many. What breaks a connection off is not among it.
pub fn make_faulty(simulator: Simulator, rate: u32) {
    let files = [Call::ReadFile, Call::WriteFile, Call::Sync, Call::Status, Call::Open, Call::Close];
    for call in files {
        call.errors().iter().for_each(|error| simulator.set_fault(call, *error, rate).expect("a fault"));
    }
    // The loop has to try these again, or to tell them.
    for (call, error) in [
        (Call::Submit, Error::BUSY),
        (Call::Read, Error::INTERRUPTED),
        (Call::Read, Error::AGAIN),
        (Call::Read, Error::NO_MEMORY),
        (Call::Write, Error::INTERRUPTED),
        (Call::Write, Error::AGAIN),
        (Call::Write, Error::TABLE_FULL),
        (Call::Accept, Error::AGAIN),
        (Call::Accept, Error::CONNECTION_ABORTED),
        (Call::Accept, Error::PROCESS_FILES),
        (Call::Connect, Error::AGAIN),
        (Call::Connect, Error::CONNECTION_REFUSED),
    ] {
        simulator.set_fault(call, error, rate).expect("a fault");
    }
}

/// A part of a transfer's bytes may be moved, now and then.
pub fn make_partial(simulator: Simulator, rate: u32) {
    simulator.set_quirk(Quirk::Partial, rate, Duration::ZERO).expect("a quirk");
}

/// What an operation was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// Of the connection with this number, at this end.
    Read(usize, usize),
    Write(usize, usize),
    /// At this offset.
    ReadFile(u64),
    WriteFile(u64),
    Sync,
    Open,
    Status,
    Close,
    Accept,
    Connect,
}

/// One operation that was accepted and has not completed.
#[derive(Debug)]
pub struct Flight {
    pub handle: Handle,
    pub token: usize,
    pub asked: Asked,
    buffer: Option<usize>,
    length: usize,
    cancelled: bool,
    deadline: Option<u64>,
    pub keepalive: bool,
}

/// One direction of a connection.
#[derive(Default)]
pub struct Stream {
    /// What was written and completed, as far as it was not read.
    pub written: VecDeque<u8>,
    /// What was read before the completion of its write came.
    early: VecDeque<u8>,
}

/// How often something came.
#[derive(Clone, Copy, Default, Debug)]
pub struct Outcomes {
    pub whole: u64,
    pub short: u64,
    pub canceled: u64,
    pub too_late: u64,
    pub timed_out: u64,
    pub failed: u64,
    pub full: u64,
}

/// What operations may use while they are in flight.
struct Memory {
    buffers: [Buffer<[u8; BYTES]>; PLACES + 1],
    address: Buffer<Address>,
    status: Buffer<FileStatus>,
}

thread_local! {
    static MEMORY: Cell<Option<&'static Memory>> = const { Cell::new(None) };
}

impl Memory {
    /// A thread's own; another one when a loop that has failed has kept it.
    fn get() -> &'static Memory {
        let memory = MEMORY.get().filter(|it| it.is_back()).unwrap_or_else(|| {
            Box::leak(Box::new(Memory {
                buffers: [const { Buffer::new([0; BYTES]) }; PLACES + 1],
                address: Buffer::new(Address::new()),
                status: Buffer::new(FileStatus::new()),
            }))
        });
        MEMORY.set(Some(memory));
        memory
    }

    fn is_back(&self) -> bool {
        self.buffers.iter().all(|it| !it.is_lent()) && !self.address.is_lent() && !self.status.is_lent()
    }
}

pub struct Operations<S: System> {
    pub system: S,
    pub flights: Vec<Flight>,
    dead: Vec<Handle>,
    pub pairs: [[i32; 2]; 2],
    /// By connection, and by the end that writes.
    pub streams: [[Stream; 2]; 2],
    pub file: i32,
    /// Descriptors that operations have made.
    made: Vec<i32>,
    pub listener: i32,
    memory: &'static Memory,
    pub places: usize,
    counter: u8,
    /// Nothing new is accepted.
    pub draining: bool,
    /// Calls may fail.
    pub faults: bool,
    /// Somebody reads and writes files.
    pub files: bool,
    pub submitted: u64,
    pub completed: u64,
    pub outcomes: Outcomes,
}

fn errno(error: Error) -> i64 {
    -i64::from(error.errno())
}

impl<S: System> Operations<S> {
    pub fn new(system: S, places: usize) -> Operations<S> {
        let memory = Memory::get();
        let (listener, address) = system.listener();
        memory.address.with(|it| *it = address.into()).expect("it is back");
        Operations {
            system,
            flights: Vec::new(),
            dead: Vec::new(),
            pairs: [system.pair(), system.pair()],
            streams: Default::default(),
            file: system.file(FILE),
            made: Vec::new(),
            listener,
            memory,
            places,
            counter: 0,
            draining: false,
            faults: false,
            files: true,
            submitted: 0,
            completed: 0,
            outcomes: Outcomes::default(),
        }
    }

    /// What the numbers ask for: of each direction of a connection one at a time, so that order is certain.
    fn choose(&self, [a, b, c]: [u8; 3]) -> Asked {
        let (pair, end) = (usize::from(b & 1), usize::from(b >> 1 & 1));
        let offset = (u64::from(b) << 4 ^ u64::from(c)) % (FILE + 100);
        let asked = match a % 16 {
            0..4 => Asked::Read(pair, end),
            4..8 => Asked::Write(pair, end),
            8 => Asked::ReadFile(offset),
            9 => Asked::WriteFile(offset.min(FILE)), // (behind the end it would leave a gap)
            10 => Asked::Sync,
            11 => Asked::Open,
            12 => Asked::Status,
            13 => Asked::Close,
            14 => Asked::Accept,
            _ => Asked::Connect,
        };
        let again = matches!(asked, Asked::Read(..) | Asked::Write(..)) && self.has(asked);
        let impossible = match asked {
            Asked::Close => self.made.is_empty(),
            Asked::Open | Asked::Accept => self.made.len() > MADE,
            Asked::Connect => self.made.len() > MADE || self.memory.address.is_lent(),
            Asked::Status => self.memory.status.is_lent(),
            _ => false,
        };
        if again || impossible { Asked::Sync } else { asked }
    }

    fn has(&self, asked: Asked) -> bool {
        self.flights.iter().any(|it| it.asked == asked)
    }

    /// Submits what the numbers ask for, if that can be asked now. The operation, when it was accepted.
    pub fn submit<App>(
        &mut self,
        it: &Loop<'static, App>,
        handler: Handler<'static, App>,
        numbers: [u8; 3],
        token: usize,
    ) -> Option<Handle> {
        let asked = self.choose(numbers);
        let Memory { buffers, address, status } = self.memory;
        let buffer = buffers.iter().position(|it| !it.is_lent()).expect("a buffer did not come back");
        let memory = &buffers[buffer];
        let length = (1 + usize::from(numbers[2]) * 5 / 4).min(BYTES);
        let (file, before) = (self.file, it.statistics());
        let fill = |first: u8| {
            memory
                .with(|bytes| (0..).zip(bytes).for_each(|(at, byte): (usize, _)| *byte = first.wrapping_add(at as u8)))
        };
        let mut fd = None;
        let answer = match asked {
            Asked::Read(pair, end) => it.recv(self.pairs[pair][end], memory, 0..length, 0, handler, token),
            Asked::Write(pair, end) => {
                fill(self.counter).expect("it is nobody's");
                self.counter = self.counter.wrapping_mul(5).wrapping_add(83);
                it.write(self.pairs[pair][end], memory, 0..length, None, handler, token)
            }
            Asked::ReadFile(at) => it.read(file, memory, 0..length, Some(at), handler, token),
            Asked::WriteFile(at) => {
                fill(at as u8).expect("it is nobody's");
                it.write(file, memory, 0..length, Some(at), handler, token)
            }
            Asked::Sync => it.fsync(file, false, handler, token),
            Asked::Open => it.open(AT_FOLDER, c"/", 0, 0, handler, token),
            Asked::Status => it.statx(AT_FOLDER, c"/", 0, 0, status, handler, token),
            Asked::Accept => it.accept(self.listener, handler, token),
            Asked::Connect => {
                fd = Some(self.system.socket()?);
                it.connect(fd?, address, handler, token)
            }
            Asked::Close => {
                fd = Some(self.made.swap_remove(usize::from(numbers[1]) % self.made.len()));
                it.close(fd?, handler, token)
            }
        };
        let full = self.flights.len() == self.places;
        let of_file = matches!(asked, Asked::ReadFile(_) | Asked::WriteFile(_) | Asked::Sync);
        let expected = if self.draining {
            Err(Error::CANCELED)
        } else if asked == Asked::Close && it.find_io(fd?).is_ok() {
            Err(Error::BUSY) // the number is that of a source whose own fd was closed
        } else if full {
            Err(Error::AGAIN)
        } else if of_file && !self.files {
            Err(Error::NO_CALL)
        } else {
            Ok(())
        };
        assert_eq!(answer.map(|_| ()), expected, "{asked:?} with {} in flight", self.flights.len());
        self.outcomes.full += u64::from(full);
        let with_buffer = answer.is_ok()
            && matches!(asked, Asked::Read(..) | Asked::Write(..) | Asked::ReadFile(_) | Asked::WriteFile(_));
        assert_eq!(memory.is_lent(), with_buffer, "{asked:?}");
        let Ok(handle) = answer else {
            let after = it.statistics();
            assert_eq!((after.operations, after.queued), (before.operations, before.queued));
            if asked == Asked::Connect {
                assert!(self.system.close(fd?));
            } else {
                self.made.extend(fd);
            }
            return None;
        };
        let used = self.dead.contains(&handle) || self.flights.iter().any(|it| it.handle == handle);
        assert!(!used, "a handle used before");
        let buffer = with_buffer.then_some(buffer);
        self.flights.push(Flight {
            handle,
            token,
            asked,
            buffer,
            length,
            cancelled: false,
            deadline: None,
            keepalive: true,
        });
        self.submitted += 1;
        Some(handle)
    }

    /// One in flight, if there is any.
    pub fn pick(&self, number: u8) -> Option<Handle> {
        self.flights.get(usize::from(number) % self.flights.len().max(1)).map(|it| it.handle)
    }

    pub fn flight(&mut self, handle: Handle) -> &mut Flight {
        self.flights.iter_mut().find(|it| it.handle == handle).expect("it is in flight")
    }

    pub fn cancel<App>(&mut self, it: &Loop<'static, App>, handle: Handle) {
        assert_eq!(it.cancel(handle), Ok(()));
        self.flight(handle).cancelled = true;
    }

    /// `span`: `None` is endless.
    pub fn set_deadline<App>(&mut self, it: &Loop<'static, App>, handle: Handle, now: u64, span: Option<u64>) {
        let delay = span.map_or(Duration::FOREVER, Duration::from_nanos);
        assert_eq!(it.set_operation_deadline(handle, delay), Ok(()));
        let flight = self.flight(handle);
        // (One that has passed already stays so.)
        if flight.deadline.is_none_or(|at| at > now) {
            flight.deadline = span.map(|span| now.saturating_add(span));
        }
    }

    pub fn set_keepalive<App>(&mut self, it: &Loop<'static, App>, handle: Handle, on: bool) {
        assert_eq!(it.set_keepalive(handle, on), Ok(()));
        self.flight(handle).keepalive = on;
        assert_eq!((it.kind(handle), it.remove(handle)), (Ok(Kind::Operation), Err(Error::BUSY)));
        assert_eq!(it.token(handle), Ok(self.flight(handle).token));
    }

    /// One that has completed has no name any more.
    pub fn try_dead<App>(&self, it: &Loop<'static, App>) {
        let Some(handle) = self.dead.last().copied() else { return };
        let stale = Err(Error::STALE);
        assert_eq!((it.cancel(handle), it.set_operation_deadline(handle, Duration::ZERO)), (stale, stale));
        assert_eq!((it.set_keepalive(handle, true), it.remove(handle)), (stale, stale));
    }

    /// What the loop counts.
    pub fn glance<App>(&self, it: &Loop<'static, App>) {
        let statistics = it.statistics();
        assert_eq!((statistics.operations, statistics.operations_max), (self.submitted, self.places as u32));
        assert_eq!(statistics.operations_now as usize, self.flights.len());
        assert_eq!(statistics.events_of(Kind::Operation), self.completed);
    }

    /// A completion came: may it be? `now`: the latest that is known of the time.
    pub fn note(&mut self, event: &Event, now: u64) {
        let at = self.flights.iter().position(|it| it.handle == event.source);
        let at = at.unwrap_or_else(|| panic!("a completion of nobody, or a second one: {event:?}"));
        let Flight { token, asked, buffer, length, cancelled, deadline, .. } = self.flights.remove(at);
        self.completed += 1;
        assert_eq!((event.kind, event.token, event.ready.is_empty()), (Kind::Operation, token, true), "{event:?}");
        if self.dead.len() == 64 {
            self.dead.remove(0);
        }
        self.dead.push(event.source);
        let value = event.value;
        if asked == Asked::Connect {
            self.made.push(event.fd);
        }
        let passed = deadline.is_some_and(|at| at <= now);
        let outcomes = &mut self.outcomes;
        if value == errno(Error::CANCELED) {
            assert!(cancelled || self.draining, "cancelled by nobody: {event:?} {asked:?}");
            outcomes.canceled += 1;
        } else if value == errno(Error::TIMED_OUT) {
            assert!(passed, "before its time: {event:?} {deadline:?}");
            outcomes.timed_out += 1;
        } else {
            outcomes.too_late += u64::from(cancelled);
        }
        let ended = value == errno(Error::CANCELED) || value == errno(Error::TIMED_OUT);
        let bytes = buffer.map(|at| self.memory.buffers[at].with(|bytes| bytes[..length].to_vec()));
        let bytes = bytes.map_or(Vec::new(), |bytes| bytes.expect("it is back"));
        if value < 0 {
            if asked == Asked::Close && ended {
                self.made.push(event.fd);
            }
            outcomes.failed += u64::from(!ended);
            assert!(ended || self.faults || asked == Asked::Connect, "it fails by itself: {event:?} {asked:?}");
            return;
        }
        let count = value as usize;
        if buffer.is_some() {
            assert!(count <= length, "more than was asked for: {event:?}");
            outcomes.whole += u64::from(count == length);
            outcomes.short += u64::from(count < length);
        }
        match asked {
            Asked::Write(pair, end) => self.streams[pair][end].wrote(&bytes[..count]),
            Asked::Read(pair, end) => {
                assert!(count > 0, "the end of a stream that has none");
                self.streams[pair][1 - end].read(&bytes[..count]);
            }
            Asked::ReadFile(at) => assert!((at..).zip(&bytes[..count]).all(|(at, byte)| at as u8 == *byte)),
            Asked::Open | Asked::Accept => self.made.push(value as i32),
            Asked::WriteFile(_) => {}
            _ => assert_eq!(value, 0, "{asked:?}"),
        }
    }

    /// For a long time nothing was asked for, and nothing fails: what can be done is done.
    pub fn check_waiting(&self) {
        for flight in &self.flights {
            let ready = |fd| self.system.ready(fd).unwrap_or(Ready::empty());
            match flight.asked {
                Asked::Read(pair, end) => {
                    assert!(self.streams[pair][1 - end].written.is_empty(), "nobody read: {flight:?}");
                }
                Asked::Write(pair, end) => {
                    assert!(!ready(self.pairs[pair][end]).contains(Ready::WRITABLE), "nobody wrote: {flight:?}");
                }
                Asked::Accept => assert_eq!(ready(self.listener), Ready::empty(), "nobody accepted: {flight:?}"),
                asked => panic!("it takes too long: {asked:?}"),
            }
        }
    }

    /// Nothing is in flight any more: what was written and not read is still there, and nothing else.
    pub fn finish(&mut self) {
        assert!(self.flights.is_empty() && self.submitted == self.completed, "{:?}", self.flights);
        assert!(self.memory.is_back(), "memory that did not come back");
        self.system.calm();
        for pair in 0..2 {
            for end in 0..2 {
                let mut bytes = [0; 4096];
                let stream = &mut self.streams[pair][1 - end];
                loop {
                    let count = self.system.read(self.pairs[pair][end], &mut bytes);
                    if count == 0 {
                        break;
                    }
                    stream.read(&bytes[..count]);
                }
                let nothing = stream.early.is_empty() && stream.written.is_empty();
                assert!(nothing, "bytes that nobody wrote, or that are lost");
            }
        }
    }

    /// Closes what operations have made.
    pub fn close_made(&mut self) {
        while let Some(fd) = self.system.accept(self.listener) {
            self.made.push(fd);
        }
        self.made
            .drain(..)
            .for_each(|fd| assert!(self.system.close(fd), "an operation has made {fd}, and it is not open"));
    }
}

impl<S: System> Drop for Operations<S> {
    fn drop(&mut self) {
        let own = [self.file, self.listener];
        for fd in self.pairs.as_flattened().iter().chain(&own).chain(&self.made) {
            self.system.close(*fd);
        }
    }
}

impl Stream {
    fn wrote(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match self.early.pop_front() {
                Some(early) => assert_eq!(early, *byte, "another byte was read than was written"),
                None => self.written.push_back(*byte),
            }
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match self.written.pop_front() {
                Some(written) => assert_eq!(*byte, written, "another byte was read than was written"),
                None => self.early.push_back(*byte),
            }
        }
    }
}
