//! Random programs of operations against a small model, in the simulator, with what is
//! certain there. A failure prints its seed.
//!
//! Checked all along: each operation that was accepted completes once, and nothing of it comes after that; a full table
//! changes nothing; an error comes only where something can give it, ECANCELED only after a cancel or a drain, ETIMEDOUT only
//! after a deadline and not before it; no byte of a stream is lost, doubled or out of order, whatever was cancelled; memory
//! comes back with the completion; `run` goes on exactly as long as an operation is there that keeps the loop alive; and in
//! the end every place and every descriptor is free again.
//!
//! `BECKET_SEED` runs one seed alone, `BECKET_SEEDS` so many.
#![cfg(all(feature = "simulator", feature = "operations"))]

use becket::{
    Address, Buffer, Call, Config, Duration, Error, Event, FileStatus, Handle, Kind, Kinds, Loop, Outcome, Quirk,
    Ready, Simulator, SimulatorMemory, Storage,
};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Steps of a program, beside those of its handlers.
const STEPS: u32 = 400;
const SEEDS: u64 = 150;
/// Places for operations: one, and some.
const SMALL: usize = 1;
const LARGE: usize = 7;
/// Bytes of the longest transfer.
const BYTES: usize = 300;
const FILE: u64 = 3_000;
const AT_FOLDER: i32 = -100;

/// What an operation was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    /// Of the connection with this number, at this end.
    Read(usize, usize),
    Write(usize, usize),
    /// At this offset.
    ReadFile(u64),
    WriteFile,
    Sync,
    Open,
    Status,
    Close,
    Accept,
    Connect,
}

/// One operation that was accepted and has not completed.
#[derive(Debug)]
struct Flight {
    handle: Handle,
    token: usize,
    asked: Asked,
    buffer: Option<usize>,
    length: usize,
    cancelled: bool,
    deadline: Option<u64>,
    keepalive: bool,
}

/// One direction of a connection.
#[derive(Default)]
struct Stream {
    /// What was written and completed, as far as it was not read.
    written: VecDeque<u8>,
    /// What was read before the completion of its write came.
    early: VecDeque<u8>,
}

struct App {
    simulator: Simulator<'static>,
    flights: Vec<Flight>,
    dead: Vec<Handle>,
    pairs: [[i32; 2]; 2],
    /// By connection, and by the end that writes.
    streams: [[Stream; 2]; 2],
    file: i32,
    /// Descriptors that operations have made.
    made: Vec<i32>,
    listener: i32,
    address: &'static Buffer<Address>,
    status: &'static Buffer<FileStatus>,
    buffers: &'static [Buffer<[u8; BYTES]>],
    places: usize,
    token: usize,
    counter: u8,
    /// Nothing new is accepted.
    draining: bool,
    /// Handlers do nothing.
    quiet: bool,
    faults: bool,
    submitted: u64,
    completed: u64,
    outcomes: Outcomes,
    trace: Vec<(usize, i64, u64)>,
}

/// How often something came, over all programs.
#[derive(Clone, Copy, Default, Debug)]
struct Outcomes {
    whole: u64,
    short: u64,
    canceled: u64,
    too_late: u64,
    timed_out: u64,
    failed: u64,
    full: u64,
}

type It = Loop<'static, App>;

fn leak<T>(value: T) -> &'static mut T {
    Box::leak(Box::new(value))
}

fn errno(error: Error) -> i64 {
    -i64::from(error.errno())
}

impl App {
    fn new(simulator: Simulator<'static>, places: usize) -> App {
        let listener = simulator.socket().unwrap();
        simulator.listen(listener, 3).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener as u16));
        App {
            simulator,
            flights: Vec::new(),
            dead: Vec::new(),
            pairs: [simulator.pair().unwrap(), simulator.pair().unwrap()],
            streams: Default::default(),
            file: simulator.open(FILE).unwrap(),
            made: Vec::new(),
            listener,
            address: leak(Buffer::new(address.into())),
            status: leak(Buffer::new(FileStatus::new())),
            buffers: leak([const { Buffer::new([0; BYTES]) }; LARGE + 1]),
            places,
            token: 0,
            counter: 0,
            draining: false,
            quiet: false,
            faults: false,
            submitted: 0,
            completed: 0,
            outcomes: Outcomes::default(),
            trace: Vec::new(),
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.simulator.below(bound).unwrap()
    }

    fn now(&self) -> u64 {
        self.simulator.now().as_nanos()
    }

    fn has(&self, asked: Asked) -> bool {
        self.flights.iter().any(|it| it.asked == asked)
    }

    /// What the next operation asks for: of each direction of a connection one at a time, so that order is certain.
    fn choose(&self) -> Asked {
        let (pair, end) = (self.below(2) as usize, self.below(2) as usize);
        let asked = match self.below(16) {
            0..4 => Asked::Read(pair, end),
            4..8 => Asked::Write(pair, end),
            8 => Asked::ReadFile(self.below(FILE + 100)),
            9 => Asked::WriteFile,
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
            Asked::Open | Asked::Accept => self.made.len() > 4,
            Asked::Connect => self.made.len() > 4 || self.address.is_lent(),
            Asked::Status => self.status.is_lent(),
            _ => false,
        };
        if again || impossible { Asked::Sync } else { asked }
    }

    fn submit(&mut self, it: &It) {
        let asked = self.choose();
        let buffer = self.buffers.iter().position(|it| !it.is_lent());
        let length = 1 + self.below(BYTES as u64) as usize;
        let Some(buffer) = buffer else { panic!("a buffer did not come back") };
        let memory = &self.buffers[buffer];
        let token = self.token;
        let mut with_buffer = true;
        let offset = self.below(FILE);
        let (file, before) = (self.file, it.statistics());
        let mut closing = None;
        let answer = match asked {
            Asked::Read(pair, end) => it.recv(self.pairs[pair][end], memory, 0..length, 0, on_done, token),
            Asked::Write(pair, end) => {
                let counter = self.counter;
                let fill = |(byte, at): (&mut u8, u8)| *byte = counter.wrapping_add(at);
                memory.with(|bytes| bytes.iter_mut().zip((0..=255).cycle()).for_each(fill)).unwrap();
                it.write(self.pairs[pair][end], memory, 0..length, None, on_done, token)
            }
            .inspect(|_| self.counter = self.counter.wrapping_mul(5).wrapping_add(83)),
            Asked::ReadFile(at) => it.read(file, memory, 0..length, Some(at), on_done, token),
            Asked::WriteFile => it.write(file, memory, 0..length, Some(offset), on_done, token),
            _ => {
                with_buffer = false;
                match asked {
                    Asked::Sync => it.fsync(file, false, on_done, token),
                    Asked::Open => it.open(AT_FOLDER, c"any", 0, 0, on_done, token),
                    Asked::Status => it.statx(AT_FOLDER, c"any", 0, 0, self.status, on_done, token),
                    Asked::Accept => it.accept(self.listener, on_done, token),
                    Asked::Connect => {
                        let socket = match self.simulator.socket() {
                            Ok(socket) => socket,
                            Err(_) => return,
                        };
                        closing = Some(socket);
                        it.connect(socket, self.address, on_done, token)
                    }
                    _ => {
                        let fd = self.made.swap_remove(self.below(self.made.len() as u64) as usize);
                        closing = Some(fd);
                        it.close(fd, on_done, token)
                    }
                }
            }
        };
        let full = self.flights.len() == self.places;
        match answer {
            Ok(handle) => {
                assert!(!full && !self.draining, "accepted with {} in flight", self.flights.len());
                assert!(
                    !self.dead.contains(&handle) && self.flights.iter().all(|it| it.handle != handle),
                    "a handle used before"
                );
                assert_eq!(memory.is_lent(), with_buffer);
                let buffer = with_buffer.then_some(buffer);
                let flight =
                    Flight { handle, token, asked, buffer, length, cancelled: false, deadline: None, keepalive: true };
                self.flights.push(flight);
                self.submitted += 1;
                self.token += 1;
            }
            Err(error) => {
                let expected = if self.draining { Error::CANCELED } else { Error::AGAIN };
                assert!(error == expected && (full || self.draining), "{asked:?}: {error:?}");
                let after = it.statistics();
                assert_eq!((after.operations, after.queued), (before.operations, before.queued));
                assert!(!memory.is_lent(), "lent to nobody");
                if asked == Asked::Connect {
                    closing.map(|fd| self.simulator.close(fd));
                } else {
                    self.made.extend(closing);
                }
                self.outcomes.full += u64::from(full);
            }
        }
    }

    fn pick(&self) -> Option<Handle> {
        let count = self.flights.len() as u64;
        (count > 0).then(|| self.flights[self.below(count) as usize].handle)
    }

    fn flight(&mut self, handle: Handle) -> &mut Flight {
        self.flights.iter_mut().find(|it| it.handle == handle).unwrap()
    }

    /// One step that is legal in handlers, too.
    fn step(&mut self, it: &It) {
        match self.below(12) {
            0..6 => self.submit(it),
            6 => {
                if let Some(handle) = self.pick() {
                    assert_eq!(it.cancel(handle), Ok(()));
                    self.flight(handle).cancelled = true;
                }
            }
            7 => {
                if let Some(handle) = self.pick() {
                    let span = self.below(300_000);
                    let endless = span < 50_000;
                    let delay = if endless { Duration::FOREVER } else { Duration::from_nanos(span) };
                    assert_eq!(it.set_operation_deadline(handle, delay), Ok(()));
                    let now = self.now();
                    let flight = self.flight(handle);
                    // (One that has passed already stays so.)
                    let before = flight.deadline.unwrap_or(u64::MAX);
                    flight.deadline = if before <= now { flight.deadline } else { (!endless).then_some(now + span) };
                }
            }
            8 => {
                if let Some(handle) = self.pick() {
                    let on = self.below(2) == 0;
                    assert_eq!(it.set_keepalive(handle, on), Ok(()));
                    self.flight(handle).keepalive = on;
                    assert_eq!((it.kind(handle), it.remove(handle)), (Ok(Kind::Operation), Err(Error::BUSY)));
                    assert_eq!(it.token(handle), Ok(self.flight(handle).token));
                    assert_eq!(it.set_level(handle, self.below(4) as u8), Ok(()));
                }
            }
            9 => {
                if let Some(handle) = self.dead.last().copied() {
                    let stale = Err(Error::STALE);
                    assert_eq!((it.cancel(handle), it.set_operation_deadline(handle, Duration::ZERO)), (stale, stale));
                    assert_eq!((it.set_keepalive(handle, true), it.remove(handle)), (stale, stale));
                }
            }
            _ => {
                let pair = self.below(2) as usize;
                self.simulator
                    .set_room(self.pairs[pair][self.below(2) as usize], 1 + self.below(256) as usize)
                    .unwrap();
            }
        }
        self.glance(it);
    }

    fn glance(&self, it: &It) {
        let statistics = it.statistics();
        assert_eq!((statistics.operations, statistics.operations_max), (self.submitted, self.places as u32));
        assert_eq!(statistics.operations_now as usize, self.flights.len());
        assert_eq!(statistics.events_of(Kind::Operation), self.completed);
    }

    /// A completion came: may it be?
    fn note(&mut self, event: &Event) {
        let at = self.flights.iter().position(|it| it.handle == event.source);
        let at = at.unwrap_or_else(|| panic!("a completion of nobody, or a second one: {event:?}"));
        let Flight { token, asked, buffer, length, cancelled, deadline, .. } = self.flights.remove(at);
        self.completed += 1;
        self.trace.push((event.token, event.value, self.now()));
        assert_eq!((event.kind, event.token, event.ready.is_empty()), (Kind::Operation, token, true), "{event:?}");
        self.dead.push(event.source);
        let value = event.value;
        if asked == Asked::Connect {
            self.made.push(event.fd);
        }
        let passed = deadline.is_some_and(|at| at <= self.now());
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
        if value < 0 {
            if asked == Asked::Close && ended {
                self.made.push(event.fd);
            }
            outcomes.failed += u64::from(!ended);
            assert!(ended || self.faults || asked == Asked::Connect, "it fails by itself: {event:?} {asked:?}");
            return;
        }
        let count = value as usize;
        let bytes = buffer.map(|at| self.buffers[at].with(|bytes| bytes[..length].to_vec()).expect("it is back"));
        let bytes = bytes.unwrap_or_default();
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
            Asked::WriteFile => {}
            _ => assert_eq!(value, 0, "{asked:?}"),
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

fn on_done(app: &mut App, it: &It, event: Event) {
    app.note(&event);
    app.glance(it);
    if app.quiet {
        return;
    }
    if !app.draining {
        // With a table of one, too, there is room for the next.
        (0..app.below(4)).for_each(|_| app.step(it));
    } else {
        app.submit(it);
        assert_eq!(it.drain(app, Duration::ZERO), Err(Error::BUSY));
    }
}

fn make_faulty(simulator: Simulator, seed: u64) -> bool {
    let rate = [0, 0, 5_000, 50_000][seed as usize % 4];
    let quirk = |quirk, rate| simulator.set_quirk(quirk, rate, Duration::from_micros(50)).unwrap();
    quirk(Quirk::Partial, [0, 200_000][seed as usize / 4 % 2]);
    quirk(Quirk::Oversleep, rate);
    quirk(Quirk::Delayed, rate);
    quirk(Quirk::Spurious, rate);
    let files = [Call::ReadFile, Call::WriteFile, Call::Sync, Call::Status, Call::Open, Call::Close];
    for call in files {
        call.errors().iter().for_each(|error| simulator.set_fault(call, *error, rate).unwrap());
    }
    // What does not break a connection off: the loop has to try these again, or to tell them.
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
        (Call::Wait, Error::INTERRUPTED),
    ] {
        simulator.set_fault(call, error, rate).unwrap();
    }
    rate > 0
}

/// Carries out the program of a seed: what came, and how often.
fn carry_out<const PLACES: usize>(seed: u64, ring: bool) -> (Vec<(usize, i64, u64)>, Outcomes) {
    let simulator = Simulator::new(leak(SimulatorMemory::<32, 8>::new()), seed);
    simulator.set_ring(ring).unwrap();
    let it: It = Loop::simulated(leak(Storage::<1, 0, PLACES>::new()), simulator, &Config::default()).unwrap();
    let mut app = App::new(simulator, PLACES);
    let open = simulator.open_fds().unwrap();
    app.faults = make_faulty(simulator, seed);
    for _ in 0..STEPS {
        match app.below(8) {
            0..3 => {
                let span = Duration::from_nanos(app.below(200_000));
                match it.turn(&mut app, span) {
                    Ok(_) | Err(Error::NO_MEMORY) => {}
                    Err(error) => panic!("a turn: {error:?}"),
                }
            }
            3 => {
                it.poll(Duration::from_nanos(app.below(200_000))).unwrap();
                while let Some(event) = it.next(Kinds::all()).unwrap() {
                    app.note(&event);
                    app.glance(&it);
                }
            }
            4 if app.below(8) == 0 => {
                app.draining = true;
                assert_eq!(it.drain(&mut app, Duration::from_secs(60)), Ok(()));
                app.draining = false;
                assert!(app.flights.is_empty(), "{:?}", app.flights);
            }
            5 if app.below(4) == 0 => {
                // It goes on as long as something keeps it alive.
                if app.flights.iter().any(|flight| flight.keepalive) {
                    it.stop().unwrap();
                    assert_eq!(it.run(&mut app), Ok(Outcome::Stopped));
                    continue;
                }
                let answer = it.run(&mut app);
                let alive = app.flights.iter().any(|flight| flight.keepalive);
                assert_eq!(answer, if alive { Err(Error::DEADLOCK) } else { Ok(Outcome::NothingLeft) });
            }
            _ => app.step(&it),
        }
        app.glance(&it);
    }
    finish(&it, &mut app, open);
    (app.trace, app.outcomes)
}

/// In the end everything comes back.
fn finish(it: &It, app: &mut App, open: u32) {
    let simulator = app.simulator;
    simulator.set_all_faults(0, Duration::ZERO).unwrap();
    // What can be done is done, without anything being asked for.
    app.quiet = true;
    for _ in 0..20 {
        it.turn(app, Duration::from_millis(10)).unwrap();
    }
    for flight in &app.flights {
        match flight.asked {
            Asked::Read(pair, end) => assert!(app.streams[pair][1 - end].written.is_empty(), "nobody read: {flight:?}"),
            Asked::Write(pair, end) => {
                let ready = simulator.ready(app.pairs[pair][end]).unwrap();
                assert!(!ready.contains(Ready::WRITABLE), "nobody wrote: {flight:?}");
            }
            Asked::Accept => assert_eq!(simulator.ready(app.listener), Ok(Ready::empty()), "{flight:?}"),
            asked => panic!("it takes too long: {asked:?}"),
        }
    }
    app.quiet = false;
    app.draining = true;
    assert_eq!(it.drain(app, Duration::from_secs(60)), Ok(()));
    app.draining = false;
    assert!(app.flights.is_empty() && app.submitted == app.completed);
    assert!(app.buffers.iter().all(|it| !it.is_lent()) && !app.address.is_lent() && !app.status.is_lent());
    assert_eq!(it.run(app), Ok(Outcome::NothingLeft), "nothing keeps it alive");
    // What was written and not read is still there, and nothing else.
    for pair in 0..2 {
        for end in 0..2 {
            let mut bytes = [0; 256];
            let stream = &mut app.streams[pair][1 - end];
            while let Ok(count) = simulator.read(app.pairs[pair][end], &mut bytes) {
                stream.read(&bytes[..count]);
            }
            assert!(stream.early.is_empty() && stream.written.is_empty(), "bytes that nobody wrote, or that are lost");
        }
    }
    // Every place can be had again.
    let before = app.submitted;
    while app.submitted - before < app.places as u64 {
        app.submit(it);
    }
    assert_eq!(it.fsync(app.file, false, on_done, 0), Err(Error::AGAIN));
    app.draining = true;
    assert_eq!(it.drain(app, Duration::from_secs(60)), Ok(()));
    while let Ok(fd) = simulator.accept(app.listener) {
        app.made.push(fd);
    }
    for fd in std::mem::take(&mut app.made) {
        simulator.close(fd).unwrap();
    }
    assert_eq!(simulator.open_fds(), Ok(open), "a descriptor was lost");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn run_all(run: impl Fn(u64) -> (Vec<(usize, i64, u64)>, Outcomes)) -> Outcomes {
    let first = number("BECKET_SEED");
    let count = number("BECKET_SEEDS").unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let first = first.unwrap_or(1);
    let mut sum = Outcomes::default();
    for seed in first..first + count {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
        let (_, outcomes) = result.unwrap_or_else(|panic| {
            eprintln!("the program of seed {seed}");
            std::panic::resume_unwind(panic)
        });
        sum.whole += outcomes.whole;
        sum.short += outcomes.short;
        sum.canceled += outcomes.canceled;
        sum.too_late += outcomes.too_late;
        sum.timed_out += outcomes.timed_out;
        sum.failed += outcomes.failed;
        sum.full += outcomes.full;
    }
    sum
}

/// Both ways in which a loop can make them: a ring does, or the loop does when they are ready.
fn with_and_without_a_ring(run: impl Fn(u64, bool) -> (Vec<(usize, i64, u64)>, Outcomes)) {
    for ring in [true, false] {
        let sum = run_all(|seed| run(seed, ring));
        if number("BECKET_SEED").or(number("BECKET_SEEDS")).is_none() {
            let Outcomes { whole, short, canceled, too_late, timed_out, failed, full } = sum;
            let all = [whole, short, canceled, too_late, timed_out, failed, full];
            assert!(all.iter().all(|count| *count > 50), "each outcome is reached: {sum:?}");
        }
    }
}

#[test]
fn in_the_simulator() {
    with_and_without_a_ring(carry_out::<LARGE>);
}

#[test]
fn with_a_table_of_one() {
    with_and_without_a_ring(carry_out::<SMALL>);
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    for (seed, ring) in (0..8).flat_map(|seed| [(seed, true), (seed, false)]) {
        let first = carry_out::<LARGE>(seed, ring).0;
        assert!(first == carry_out::<LARGE>(seed, ring).0 && first.len() > 50, "seed {seed}: {}", first.len());
        assert_ne!(first, carry_out::<LARGE>(seed + 1, ring).0);
    }
}
