//! Carries out a program on a loop, on virtual time, and tells the model of all that it does.
//!
//! The machine is the loop's `App`: its one handler shows the event to the model and then reads on in the program. What
//! `turn` and `run` do between two handlers nobody sees; the machine follows them by the number of collections.

use super::model::{Home, Model, NEVER, Source, sum};
use super::operations::{Operations, System};
use super::program::{Op, Program, Step};
use super::streams::{Outcomes, Streams};
use super::world::{FILES, Oddities, State, World};
use becket::{
    Duration, Error, Event, Handle, Instant, IoOptions, Kind, Kinds, ListenOptions, Loop, Outcome, Ready, StreamEvent,
};

/// Steps of one handler, at most.
const HANDLER_STEPS: u32 = 8;
/// Handlers and pulls inside of each other, at most.
const DEPTH: u32 = 4;
/// Handles that are remembered after their source was removed.
const DEAD: usize = 32;

/// What a backend is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// It has edge-triggered sources.
    pub edge: bool,
    /// It has those of which not all are woken.
    pub exclusive: bool,
    /// A wait may find something of which nothing comes.
    pub vague_waits: bool,
    /// A signal that no other thread uses.
    pub signal: i32,
}

/// How much there is room for.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    pub sources: usize,
    pub posts: usize,
    pub operations: usize,
    pub streams: usize,
    pub buffers: usize,
}

/// How far a turn with handlers is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Start,
    Before,
    Wait,
    Events,
}

/// A call of `turn` or `run` that has not returned.
#[derive(Debug)]
struct Frame {
    run: bool,
    timeout: u64,
    stage: Stage,
    /// Before-wait events came in this turn.
    had_before: bool,
    /// The wait has failed, and that ends it.
    failed: bool,
    calls: u32,
}

pub struct Machine<W: World> {
    steps: Vec<Step>,
    next: usize,
    model: Model,
    world: W,
    operations: Option<Operations<W::System>>,
    streams: Option<Streams<W::System>>,
    /// Nothing more is done than to end what is in flight.
    closing: bool,
    abilities: Abilities,
    sources_max: usize,
    posts_max: usize,
    extreme: bool,
    /// A signal that no other thread uses.
    signal: i32,
    /// Ends `run`, in time; the program does not know it.
    guard: Handle,
    run_left: u32,
    frames: Vec<Frame>,
    depth: u32,
    /// Between prepare and collect.
    waiting: bool,
    /// Something was done in the middle of the last wait: what was to wake it may end the next one.
    disturbed: bool,
    /// Calls that had failed before the last wait.
    failures: u64,
    /// The last wait did, or what was to be told before it.
    doubtful: bool,
    /// The source of the last event.
    own: Handle,
    dead: Vec<Handle>,
    /// What the latest has told of is still valid.
    fresh: bool,
    tokens: usize,
    done: u64,
    /// Tell what is done, and what comes: `BECKET_TRACE`.
    trace: bool,
}

type It<W> = Loop<'static, Machine<W>>;

fn nanos(span: u64) -> Duration {
    Duration::from_nanos(span)
}

fn at(point: u64) -> Instant {
    Instant::from_nanos(point)
}

/// To this thread, which takes it before this returns.
fn raise(signal: i32) {
    // SAFETY: no pointer is passed.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

fn handler<W: World>(machine: &mut Machine<W>, it: &It<W>, event: Event) {
    if machine.closing {
        return machine.note_completion(&event);
    }
    machine.follow(it, Some(&event));
    machine.frames.last_mut().expect("a turn").calls += 1;
    machine.note(it, &event);
    machine.handle(it);
}

/// What a program has come to.
#[derive(Clone, Copy, Default, Debug)]
pub struct Reached {
    /// Steps that were done.
    pub steps: u64,
    pub streams: Outcomes,
}

/// Carries out a program on a fresh loop, and then looks whether every slot comes back.
pub fn carry_out<W: World>(program: &Program, it: &It<W>, world: W, abilities: Abilities, places: Places) -> Reached {
    let now = it.now().expect("a time").as_nanos();
    let guard = it.add_timer(Duration::FOREVER, Duration::ZERO, handler, 0).expect("room for one");
    it.set_keepalive(guard, false).expect("it is there");
    let operations = program.setup.operations.then(|| {
        let mut operations = Operations::new(world.system(), places.operations);
        operations.faults = world.oddities().fails;
        operations.files = it.files().0 != "none";
        operations
    });
    let streams = program.setup.streams.then(|| {
        let mut streams = Streams::new(world.system(), places.streams, places.buffers, abilities.vague_waits);
        streams.faults = world.oddities().fails;
        streams
    });
    let mut machine = Machine {
        steps: program.steps.clone(),
        next: 0,
        model: Model::new(u32::from(program.setup.budget), now),
        world,
        operations,
        streams,
        closing: false,
        abilities,
        sources_max: places.sources,
        posts_max: places.posts,
        extreme: program.setup.extreme,
        signal: abilities.signal,
        guard,
        run_left: 0,
        frames: Vec::new(),
        depth: 0,
        waiting: false,
        disturbed: false,
        failures: 0,
        doubtful: false,
        own: Handle::NONE,
        dead: Vec::new(),
        fresh: false,
        tokens: 0,
        done: 0,
        trace: std::env::var_os("BECKET_TRACE").is_some(),
    };
    let mut source = Source::new(guard, Kind::Timer, 0);
    source.keepalive = false;
    machine.model.add(source);
    while let Some(step) = machine.read() {
        machine.perform(it, step);
        machine.glance(it);
    }
    if !machine.model.lost {
        machine.audit(it);
        machine.end(it);
    }
    machine.close(it);
    let streams = machine.streams.as_ref().map_or(Outcomes::default(), |it| it.outcomes);
    Reached { steps: machine.done, streams }
}

/// Reading the program.
impl<W: World> Machine<W> {
    fn read(&mut self) -> Option<Step> {
        if self.model.lost {
            return None;
        }
        let step = self.steps.get(self.next).copied();
        self.next += 1;
        self.done += u64::from(step.is_some());
        if self.trace {
            eprintln!("{:indent$}{step:?} at {}", "", self.model.now, indent = 2 * self.depth as usize);
        }
        step
    }

    /// The steps up to the next `ret`.
    fn section(&mut self, it: &It<W>) -> u32 {
        for count in 0..HANDLER_STEPS {
            match self.read() {
                None | Some(Step { op: Op::Return, .. }) => return count,
                Some(step) => self.perform(it, step),
            }
            if self.waiting {
                self.look_again();
            }
            self.glance(it);
        }
        HANDLER_STEPS
    }

    /// A live source that is accepted, if there is one.
    fn pick(&self, number: u8, accepted: impl Fn(&Source) -> bool) -> Option<Handle> {
        let all = || self.model.sources.iter().filter(|it| it.handle != self.guard && accepted(it));
        let count = all().count();
        (count > 0).then(|| all().nth(number as usize % count).expect("one of them").handle)
    }

    fn pick_kind(&self, number: u8, kind: Kind) -> Option<Handle> {
        self.pick(number, |it| it.kind == kind)
    }

    fn interest(number: u8) -> Ready {
        const R: Ready = Ready::READABLE;
        const W: Ready = Ready::WRITABLE;
        [R, W, R.union(W), Ready::empty(), R, R.union(W), Ready::PRIORITY.union(R), Ready::INTEREST]
            [number as usize % 8]
    }

    fn span(&self, number: u8) -> u64 {
        const HUGE: [u64; 6] = [1 << 40, 1 << 62, NEVER - 1, NEVER, NEVER / 2 + 1, NEVER / 2];
        match number {
            0..160 => u64::from(number) % 24,
            160..250 => 1 << ((number - 160) / 4),
            _ if self.extreme => HUGE[number as usize - 250],
            _ => u64::from(number) << 20,
        }
    }

    /// A span in which time passes: its very end is not reached.
    fn passing(&self, number: u8) -> u64 {
        // A wait may begin after a handler has moved time on.
        let most = if self.frames.is_empty() { NEVER - (1 << 40) } else { NEVER - (1 << 20) };
        let span = self.span(number);
        let span = if self.frames.is_empty() { span } else { span.min(1 << 22) };
        span.min(most.saturating_sub(self.model.now))
    }

    fn kinds(number: u8) -> Kinds {
        match number {
            0..100 => Kinds::all(),
            100..110 => Kinds::empty(),
            110..120 => Kinds::POST,
            120..130 => Kinds::IO,
            130..140 => Kinds::TIMER,
            140..150 => Kinds::DEFERRED | Kinds::IDLE,
            150..160 => Kinds::all() - Kinds::DEFERRED,
            160..170 => Kinds::all() - Kinds::POST,
            170..180 => Kinds::all() - Kinds::IO,
            _ => Kinds::from_bits_truncate(u32::from(number).wrapping_mul(0x9e37_79b9) >> 19),
        }
    }
}

/// What every step may do.
impl<W: World> Machine<W> {
    fn perform(&mut self, it: &It<W>, Step { op, a, b, c }: Step) {
        match op {
            Op::Return => {}
            Op::AddIo => self.add_io(it, a, b, c),
            Op::AddTimer => self.add_timer(it, a, b, c),
            Op::AddSignal => self.add_signal(it, c),
            Op::Raise => {
                if let Some(handle) = self.pick_kind(0, Kind::Signal) {
                    for _ in 0..1 + a % 3 {
                        raise(self.signal);
                        self.model.raise(handle);
                    }
                }
            }
            Op::AddWake => self.add_other(it, Kind::Wake, c),
            Op::AddHook => {
                self.add_other(it, [Kind::Before, Kind::After, Kind::Idle, Kind::Deferred][a as usize % 4], c);
            }
            Op::Remove => {
                if let Some(handle) = self.pick(a, |_| true) {
                    self.remove(it, handle);
                }
            }
            Op::RemoveOwn => {
                let own = self.own;
                if let Some(handle) = self.pick(0, |it| it.handle == own) {
                    self.remove(it, handle);
                }
            }
            Op::Modify | Op::Change | Op::Oneshot | Op::IdleTimeout | Op::Deadline | Op::DeadlineAt => {
                let timed = matches!(op, Op::IdleTimeout | Op::Deadline | Op::DeadlineAt);
                let accepted = |it: &Source| it.kind == Kind::Io || timed && it.kind == Kind::Stream;
                if let Some(handle) = self.pick(a, accepted) {
                    self.change_io(it, handle, op, b, c);
                }
            }
            Op::Arm | Op::ArmAt | Op::Disarm => {
                if let Some(handle) = self.pick_kind(a, Kind::Timer) {
                    self.arm(it, handle, op, b, c);
                }
            }
            Op::Trigger | Op::Post | Op::Wake | Op::Level | Op::Keepalive | Op::Token => {
                if let Some(handle) = self.pick(a, |_| true) {
                    self.change_any(it, handle, op, b);
                }
            }
            Op::Enable => {
                if let Some(handle) = self.pick(a, |it| matches!(it.kind, Kind::Before | Kind::After | Kind::Idle)) {
                    assert_eq!(it.enable_hook(handle, b.is_multiple_of(2)), Ok(()));
                    self.model.enable(handle, b.is_multiple_of(2));
                }
            }
            Op::Defer => {
                if let Some(handle) = self.pick_kind(a, Kind::Deferred) {
                    assert_eq!(it.defer(handle), Ok(()));
                    self.model.defer(handle);
                }
            }
            Op::Toggle | Op::End | Op::Renew | Op::CloseFirst => self.change_file(op, a as usize % FILES, b),
            Op::Stale => self.stale(it, a),
            Op::Misuse => self.misuse(it, a, b),
            Op::Audit => self.audit(it),
            Op::Submit | Op::Cancel | Op::TimeLimit | Op::Other | Op::Room => self.operate(it, op, [a, b, c]),
            Op::AddStream => self.add_stream(it, [a, b, c]),
            Op::Listen => self.listen(it, [a, b, c]),
            Op::Call | Op::PauseListener | Op::CloseListener => self.listener(it, op, [a, b]),
            Op::Dial => self.dial(it, [a, c]),
            Op::Rest => self.rest(it),
            Op::Send
            | Op::BatchStream
            | Op::CancelSend
            | Op::PauseStream
            | Op::ShutStream
            | Op::CloseStream
            | Op::ResetStream
            | Op::Marks
            | Op::Keep
            | Op::Forward
            | Op::ForwardKept
            | Op::Release
            | Op::PeerWrite
            | Op::PeerRead
            | Op::PeerEnd
            | Op::Accept
            | Op::Narrow => self.stream(it, op, [a, b, c]),
            Op::Advance => self.advance(it, self.passing(a)),
            Op::Stop => {
                assert_eq!(it.stop(), Ok(()));
                self.model.stopping = true;
            }
            Op::Spend => {
                assert_eq!(it.spend(a.into()), Ok(()));
                self.model.budget_left = self.model.budget_left.saturating_sub(a.into());
            }
            Op::Turn | Op::Run | Op::Poll | Op::Next | Op::Drain | Op::Phases => {
                if self.waiting || self.depth >= DEPTH {
                    return;
                }
                match op {
                    Op::Turn => self.turn(it, a),
                    Op::Run => self.run(it, a, b),
                    Op::Poll => self.poll(it, a),
                    Op::Next => {
                        self.take(it, Self::kinds(a));
                    }
                    Op::Drain => self.drain(it, Self::kinds(a)),
                    _ => self.phases(it, a),
                }
            }
        }
    }

    fn advance(&mut self, it: &It<W>, span: u64) {
        assert_eq!(it.advance(nanos(span)), Ok(()));
        self.model.now = self.world.clock().unwrap_or(self.model.now + span);
        self.model.clock = self.model.now;
    }

    fn token(&mut self) -> usize {
        self.tokens += 1;
        self.tokens
    }

    /// What `add` has to answer as far as it does not depend on what is added.
    fn room(&self) -> Result<(), Error> {
        if self.model.sources.len() == self.sources_max { Err(Error::TABLE_FULL) } else { Ok(()) }
    }

    /// The answer of an `add`, and what the source is like when there is one.
    fn added(
        &mut self,
        it: &It<W>,
        answer: Result<Handle, Error>,
        expected: Result<(), Error>,
        level: u8,
        source: impl FnOnce(&mut Self, Handle) -> Source,
    ) {
        assert_eq!(answer.map(|_| ()), expected, "what `add` says");
        self.model.doubt_flights(); // who waits for the same fd
        if let Ok(handle) = answer {
            assert!(!self.dead.contains(&handle), "a handle that was used before");
            let source = source(self, handle);
            self.model.add(source);
            if !level.is_multiple_of(4) && level < 128 {
                assert_eq!(it.set_level(handle, level % 4), Ok(()));
                self.model.set_level(handle, level % 4, false);
            }
        }
    }

    fn add_io(&mut self, it: &It<W>, a: u8, b: u8, c: u8) {
        let ends = self.operations.as_ref().filter(|_| c >= 240).map(|it| it.pairs.as_flattened());
        let (file, fd, open) = match ends {
            // One on which operations are made, too.
            Some(ends) => (FILES + a as usize % ends.len(), ends[a as usize % ends.len()], true),
            None => {
                let file = a as usize % FILES;
                if self.world.is_taken(file) {
                    return;
                }
                (file, self.world.fd(file), self.world.is_open(file))
            }
        };
        let interest = Self::interest(b);
        let options = IoOptions {
            oneshot: b & 24 == 24,
            edge: b & 96 == 96,
            exclusive: c % 16 == 13,
            trusted: open && b & 128 != 0,
        };
        let taken = self.model.sources.iter().any(|it| it.kind == Kind::Io && it.fd == fd);
        let expected = match self.room() {
            _ if taken => Err(Error::EXISTS),
            Err(error) => Err(error),
            _ if options.edge && !self.abilities.edge => Err(Error::UNSUPPORTED),
            _ if options.exclusive && !self.abilities.exclusive => Err(Error::UNSUPPORTED),
            _ if options.exclusive && interest.contains(Ready::PRIORITY) => Err(Error::INVALID),
            _ if !open => Err(Error::BAD_FD),
            _ => Ok(()),
        };
        let token = self.token();
        let failures = self.world.failures();
        let answer = it.add_io_with(fd, interest, options, Some(handler), token);
        let expected = match answer {
            Err(error) if expected.is_ok() && self.world.failures() > failures => Err(error),
            _ => expected,
        };
        self.added(it, answer, expected, c, |machine, handle| {
            let mut source = Source::new(handle, Kind::Io, token);
            if machine.waiting {
                source.maybe_told();
            }
            (source.file, source.fd, source.interest) = (file, fd, interest);
            (source.oneshot, source.edge, source.exclusive) = (options.oneshot, options.edge, options.exclusive);
            source
        });
    }

    fn add_timer(&mut self, it: &It<W>, a: u8, b: u8, c: u8) {
        let (delay, period, token) = (self.span(a), if b.is_multiple_of(2) { 0 } else { self.span(b) }, self.token());
        let answer = if c % 8 == 7 {
            let pulled = it.add_timer_pulled(nanos(delay), nanos(period), token);
            pulled.inspect(|handle| assert_eq!(it.set_handler(*handle, Some(handler), token), Ok(())))
        } else {
            it.add_timer(nanos(delay), nanos(period), handler, token)
        };
        let expected = self.room();
        self.added(it, answer, expected, c, |machine, handle| {
            let mut source = Source::new(handle, Kind::Timer, token);
            (source.at, source.period) = (sum(machine.model.clock, delay), period);
            source
        });
    }

    fn add_other(&mut self, it: &It<W>, kind: Kind, c: u8) {
        let token = self.token();
        let answer = match kind {
            Kind::Before => it.add_before(handler, token),
            Kind::After => it.add_after(handler, token),
            Kind::Idle => it.add_idle(handler, token),
            Kind::Deferred => it.add_deferred(handler, token),
            _ => it.add_wake(handler, token),
        };
        let expected = self.room();
        self.added(it, answer, expected, c, |_, handle| {
            let mut source = Source::new(handle, kind, token);
            source.active = matches!(kind, Kind::Before | Kind::After | Kind::Idle);
            source
        });
    }

    /// The one signal of this program.
    fn add_signal(&mut self, it: &It<W>, c: u8) {
        // (Of one that is gone the loop may still have to collect that it came.)
        if self.model.woken {
            return;
        }
        let (token, signal) = (self.token(), self.signal);
        let taken = self.model.sources.iter().any(|it| it.kind == Kind::Signal);
        let answer = it.add_signal(signal, handler, token);
        let expected = self.room().and(if taken { Err(Error::EXISTS) } else { Ok(()) });
        self.added(it, answer, expected, c, |_, handle| {
            let mut source = Source::new(handle, Kind::Signal, token);
            source.signal = signal;
            source
        });
    }

    fn remove(&mut self, it: &It<W>, handle: Handle) {
        let kind = self.model.source(handle).kind;
        let queued = if kind == Kind::Stream { it.queued(handle).expect("a live stream") } else { 0 };
        assert_eq!(it.remove(handle), Ok(()));
        match (&mut self.streams, kind) {
            (Some(streams), Kind::Stream) => {
                if streams.is_forwarding() {
                    self.model.doubt_streams(); // who has waited for that buffer
                }
                streams.removed(handle, queued);
            }
            (Some(streams), Kind::Listener) => streams.stopped(handle, true),
            _ => {}
        }
        self.model.doubt_flights();
        self.removed(it, handle);
    }

    /// A source is gone.
    fn removed(&mut self, it: &It<W>, handle: Handle) {
        self.model.remove(handle);
        assert_eq!(it.kind(handle), Err(Error::STALE));
        if self.dead.len() == DEAD {
            self.dead.remove(0);
        }
        self.dead.push(handle);
    }

    fn change_io(&mut self, it: &It<W>, handle: Handle, op: Op, b: u8, c: u8) {
        let inside = !self.frames.is_empty();
        let now = self.model.clock;
        // An exclusive one cannot ask for that.
        let exclusive = self.model.source(handle).exclusive;
        let answer =
            |asked: Ready| if exclusive && asked.contains(Ready::PRIORITY) { Err(Error::INVALID) } else { Ok(()) };
        match op {
            Op::Modify => {
                let interest = Self::interest(b);
                assert_eq!(it.modify_io(handle, interest), answer(interest));
                if answer(interest).is_err() {
                    return;
                }
                self.model.set_interest(handle, interest, inside);
            }
            Op::Change => {
                let (set, clear) = (Self::interest(b), Self::interest(c));
                let interest = (self.model.source(handle).interest | set) - clear;
                assert_eq!(it.change_io(handle, set, clear), answer(interest));
                if answer(interest).is_err() {
                    return;
                }
                self.model.set_interest(handle, interest, inside);
            }
            Op::Oneshot => {
                let on = b % 2 == 1;
                assert_eq!(it.set_oneshot(handle, on), Ok(()));
                let interest = self.model.source(handle).interest;
                self.model.source(handle).oneshot = on;
                self.model.set_interest(handle, interest, inside);
            }
            Op::IdleTimeout => {
                let span = self.span(b);
                assert_eq!(it.set_idle_timeout(handle, nanos(span)), Ok(()));
                // Long ones are kept to 27 bits, rounded up.
                let kept = it.idle_timeout(handle).expect("a source").as_nanos();
                let rounded = if span == 0 { NEVER } else { span };
                let exact = span < 1 << 27 || kept == NEVER;
                assert!(if exact {
                    kept == rounded || span >= 1 << 58
                } else {
                    kept >= span && kept - span <= span >> 26
                });
                self.model.set_idle(handle, kept);
            }
            Op::Deadline => {
                let span = self.span(b);
                assert_eq!(it.set_deadline(handle, nanos(span)), Ok(()));
                self.model.set_deadline(handle, sum(now, span));
            }
            _ => {
                let point = self.point(b, c);
                assert_eq!(it.set_deadline_at(handle, at(point)), Ok(()));
                self.model.set_deadline(handle, point);
            }
        }
    }

    /// A point in time, ahead or behind.
    fn point(&self, b: u8, c: u8) -> u64 {
        let (now, span) = (self.model.clock, self.span(b));
        if c % 4 == 3 { now.saturating_sub(span) } else { sum(now, span) }
    }

    fn arm(&mut self, it: &It<W>, handle: Handle, op: Op, b: u8, c: u8) {
        let period = if c.is_multiple_of(2) { 0 } else { self.span(c) };
        match op {
            Op::Arm => {
                let delay = self.span(b);
                assert_eq!(it.arm_timer(handle, nanos(delay), nanos(period)), Ok(()));
                let until = sum(self.model.clock, delay);
                self.model.arm(handle, until, period);
            }
            Op::ArmAt => {
                let point = self.point(b, c);
                assert_eq!(it.arm_timer_at(handle, at(point), nanos(period)), Ok(()));
                self.model.arm(handle, point, period);
            }
            _ => {
                assert_eq!(it.disarm_timer(handle), Ok(()));
                self.model.arm(handle, NEVER, 0);
            }
        }
    }

    fn change_any(&mut self, it: &It<W>, handle: Handle, op: Op, b: u8) {
        match op {
            Op::Trigger => {
                let io = self.model.source(handle).kind == Kind::Io;
                let more = [Ready::empty(), Ready::ERROR, Ready::PEER_CLOSED, Ready::HANGUP][b as usize / 8 % 4];
                let flags = if io { Self::interest(b) | more } else { Ready::empty() };
                assert_eq!(it.trigger(handle, flags), Ok(()));
                self.model.trigger(handle, flags);
            }
            Op::Post => {
                let value = self.token() as i64;
                let full = it.statistics().posts as usize == self.posts_max;
                let expected = if full { Err(Error::NO_BUFFERS) } else { Ok(()) };
                assert_eq!(it.post(handle, value), expected);
                if full { self.model.refuse() } else { self.model.post(handle, value) }
            }
            Op::Wake => {
                assert_eq!(it.waker(handle).wake(), Ok(()));
                self.model.wake(handle);
            }
            Op::Level => {
                assert_eq!(it.set_level(handle, b % 4), Ok(()));
                let inside = !self.frames.is_empty();
                self.model.set_level(handle, b % 4, inside);
            }
            Op::Keepalive => {
                assert_eq!(it.set_keepalive(handle, b.is_multiple_of(2)), Ok(()));
                self.model.source(handle).keepalive = b.is_multiple_of(2);
            }
            _ => {
                let token = self.token();
                assert_eq!(it.set_handler(handle, Some(handler), token), Ok(()));
                self.model.source(handle).token = token;
            }
        }
    }

    fn change_file(&mut self, op: Op, file: usize, b: u8) {
        if self.world.is_taken(file) {
            return;
        }
        let before = self.world.state(file);
        match op {
            Op::Toggle => self.world.toggle(file),
            Op::End => self.world.end(file),
            Op::Renew => {
                self.world.renew(file);
                self.model.file_closed(file);
                return;
            }
            _ => {
                self.world.close(file, b % 2 == 1);
                self.model.file_closed(file);
                return;
            }
        }
        self.model.file_changed(file, before, self.world.state(file), self.waiting);
    }
}

/// Operations.
impl<W: World> Machine<W> {
    fn operate(&mut self, it: &It<W>, op: Op, [a, b, c]: [u8; 3]) {
        let (token, span) = (self.token(), self.span(b));
        let Some(operations) = &mut self.operations else { return };
        let picked = operations.pick(a);
        match (op, picked) {
            (Op::Submit, _) => {
                if let Some(handle) = operations.submit(it, handler, [a, b, c], token) {
                    self.model.submit(handle, token);
                }
            }
            (Op::Cancel, Some(handle)) => {
                operations.cancel(it, handle);
                self.model.doubt_flights();
            }
            (Op::TimeLimit, Some(handle)) => {
                let span = if c % 2 == 1 { None } else { Some(span) };
                operations.set_deadline(it, handle, self.model.clock, span);
            }
            (Op::Other, Some(handle)) => {
                let keepalive = c.is_multiple_of(2);
                operations.set_keepalive(it, handle, keepalive);
                self.model.flight(handle).keepalive = keepalive;
                assert_eq!(it.set_level(handle, b % 4), Ok(()));
                self.model.set_flight_level(handle, b % 4);
                operations.try_dead(it);
            }
            (Op::Room, _) => {
                let fd = operations.pairs.as_flattened()[usize::from(a) % 4];
                operations.system.set_room(fd, 1 + usize::from(b));
            }
            _ => {}
        }
    }

    fn note_completion(&mut self, event: &Event) {
        let operations = self.operations.as_mut().expect("a completion, but no operations");
        operations.note(event, self.model.now.max(self.model.clock));
    }

    /// Nothing is asked any more: all that is in flight ends, and every place comes back.
    fn end_operations(&mut self, it: &It<W>) {
        if let Some(operations) = self.operations.as_ref().filter(|_| self.world.clock().is_some()) {
            operations.system.calm();
            for _ in 0..20 {
                self.poll_for(it, 10_000_000);
                while !self.model.lost && self.take(it, Kinds::all()).is_some() {}
                self.glance(it);
            }
            self.operations.as_ref().expect("they are there").check_waiting();
        }
        let in_flight: Vec<Handle> = self.model.flights.iter().map(|it| it.handle).collect();
        for handle in in_flight {
            self.operations.as_mut().expect("they are there").cancel(it, handle);
        }
        for round in 0.. {
            if self.model.flights.is_empty() || self.model.lost {
                break;
            }
            assert!(round < 200_000, "operations that do not end: {:?}", self.model.flights);
            if round > 100 && self.world.clock().is_none() {
                // The kernel's threads have a time of their own.
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
            self.poll_for(it, 1 << 17);
            while !self.model.lost && self.take(it, Kinds::all()).is_some() {}
            self.glance(it);
        }
    }

    /// What no model has watched to its end ends too.
    fn close(&mut self, it: &It<W>) {
        if let Some(streams) = &mut self.streams {
            self.world.system().calm();
            streams.release_all(it);
            for handle in streams.handles() {
                let queued = it.queued(handle).expect("a live stream");
                assert_eq!(it.remove(handle), Ok(()));
                streams.removed(handle, queued);
            }
            for handle in streams.listening() {
                streams.close_listener(it, handle);
            }
            streams.finish_all();
        }
        let Some(operations) = &mut self.operations else { return };
        operations.draining = true;
        self.closing = true;
        // (What is said of time is not known any more.)
        (self.model.now, self.model.clock) = (NEVER, NEVER);
        assert_eq!(it.drain(self, Duration::FOREVER), Ok(()));
        let operations = self.operations.as_mut().expect("they are there");
        operations.glance(it);
        operations.finish();
        operations.close_made();
    }
}

/// Streams.
impl<W: World> Machine<W> {
    fn add_stream(&mut self, it: &It<W>, [a, b, c]: [u8; 3]) {
        let Some(streams) = &mut self.streams else { return };
        let Some(connection) = streams.loose(a, b % 8 == 7) else { return };
        let (fd, has_room) = (streams.fd(connection), streams.has_room());
        let taken = self.model.sources.iter().any(|it| it.fd == fd);
        let token = self.token();
        let failures = self.world.failures();
        let answer = it.add_stream(fd, handler, token);
        let expected = match answer {
            Err(error) if has_room && self.room().is_ok() && self.world.failures() > failures => Err(error),
            _ if !has_room => Err(Error::TABLE_FULL),
            _ if taken => Err(Error::EXISTS),
            _ => self.room(),
        };
        self.added(it, answer, expected, c, |machine, handle| {
            machine.streams.as_mut().expect("they are there").added(handle, connection);
            let mut source = Source::new(handle, Kind::Stream, token);
            source.fd = fd;
            source
        });
        if let (Ok(handle), true) = (answer, c.is_multiple_of(3)) {
            self.streams.as_mut().expect("they are there").set_marks(it, handle, [c.min(b), b]);
        }
        self.model.doubt_streams();
    }

    fn listen(&mut self, it: &It<W>, [a, b, c]: [u8; 3]) {
        let token = self.token();
        let Some(streams) = self.streams.as_mut().filter(|it| it.has_room_for_listener()) else { return };
        let options =
            ListenOptions { places: u32::from(a % 4), streams: b.is_multiple_of(2), ..ListenOptions::default() };
        let fd = streams.new_listener();
        let taken = self.model.sources.iter().any(|it| it.fd == fd);
        let failures = self.world.failures();
        let answer = it.listen_fd(fd, &options, handler, token);
        let expected = match (answer, self.room()) {
            (Err(error), Ok(())) if self.world.failures() > failures => Err(error),
            (_, Ok(())) if taken => Err(Error::EXISTS),
            (_, room) => room,
        };
        self.streams.as_mut().expect("they are there").listens(answer.ok(), fd, &options);
        self.added(it, answer, expected, c, |_, handle| {
            let mut source = Source::new(handle, Kind::Listener, token);
            source.fd = fd;
            source
        });
        self.model.doubt_streams();
    }

    fn listener(&mut self, it: &It<W>, op: Op, [a, b]: [u8; 2]) {
        let picked = self.pick_kind(a, Kind::Listener);
        let (Some(streams), Some(handle)) = (&mut self.streams, picked) else { return };
        match op {
            Op::Call => streams.call(handle),
            Op::PauseListener => {
                let pause = b % 2 == 1;
                streams.pause_listener(it, handle, pause);
                if pause {
                    self.model.forget(handle);
                }
            }
            _ => {
                streams.close_listener(it, handle);
                self.removed(it, handle);
            }
        }
        self.model.doubt_streams();
    }

    fn dial(&mut self, it: &It<W>, [a, c]: [u8; 2]) {
        let (span, token) = (self.span(a), self.token());
        let Some(streams) = &mut self.streams else { return };
        let (has_room, faults) = (streams.has_room(), streams.faults);
        let failures = self.world.failures();
        let Some(answer) = streams.dial(it, nanos(span), handler, token) else { return };
        let possible = has_room && self.room().is_ok();
        let expected = match answer {
            Err(error) if possible && self.world.failures() > failures => Err(error),
            Err(Error::AGAIN) if possible && faults => answer.map(|_| ()),
            // A simulator has no room for what is to happen.
            Err(Error::TABLE_FULL) if possible && self.world.clock().is_some() => Err(Error::TABLE_FULL),
            // The number of its socket is that of a source whose own fd was closed.
            Err(Error::EXISTS) if possible && self.model.sources.iter().any(|it| it.closed) => Err(Error::EXISTS),
            _ if !has_room => Err(Error::TABLE_FULL),
            _ => self.room(),
        };
        let until = sum(self.model.clock, span);
        self.added(it, answer, expected, c, |machine, handle| {
            let fd = it.io_fd(handle).expect("a stream");
            machine.streams.as_mut().expect("they are there").dialled(handle, fd);
            let mut source = Source::new(handle, Kind::Stream, token);
            (source.fd, source.connecting, source.deadline) = (fd, true, until);
            source
        });
        self.model.doubt_streams();
    }

    fn stream(&mut self, it: &It<W>, op: Op, [a, b, c]: [u8; 3]) {
        let picked = self.pick_kind(a, Kind::Stream);
        let Some(streams) = &mut self.streams else { return };
        match (op, picked, streams.pick_peer(a)) {
            (Op::Send, Some(handle), _) => streams.send(it, handle, [b, c]),
            (Op::BatchStream, Some(handle), _) => streams.batch(it, handle, b % 4 != 1),
            (Op::CancelSend, Some(handle), _) => streams.cancel(it, handle, b),
            (Op::PauseStream, Some(handle), _) => streams.pause(it, handle, b % 2 == 1),
            (Op::ShutStream, Some(handle), _) => streams.shut(it, handle),
            (Op::CloseStream, Some(handle), _) => streams.close(it, handle),
            (Op::ResetStream, Some(handle), _) => streams.reset(it, handle),
            (Op::Marks, Some(handle), _) => streams.set_marks(it, handle, [b, c]),
            (Op::Keep, ..) => streams.keep(it, self.fresh),
            (Op::Release, ..) => streams.release(it, a),
            (Op::Forward, Some(handle), _) => streams.forward(it, handle, [b, c], self.fresh),
            (Op::ForwardKept, Some(handle), _) => streams.forward_kept(it, handle, [b, c]),
            (Op::PeerWrite, _, Some(peer)) => streams.peer_writes(peer, [b, c]),
            (Op::PeerRead, _, Some(peer)) => streams.peer_reads(peer, b),
            (Op::PeerEnd, _, Some(peer)) => streams.peer_ends(peer, b),
            (Op::Narrow, ..) => streams.narrow(a, b),
            (Op::Accept, ..) => streams.accept_pending(),
            _ => {}
        }
        self.model.doubt_streams();
    }

    /// An event of a stream has come.
    fn note_stream(&mut self, it: &It<W>, event: &Event) {
        // Who has lost count knows no times any more.
        let lost = self.model.lost;
        let source = self.model.source(event.source);
        let idle = source.idle.map(|span| if lost { (0, 0) } else { (span, source.last_before) });
        let late = source.late;
        if event.ready.contains(Ready::DEADLINE) && source.connecting {
            assert!(std::mem::take(&mut source.late) || lost, "a deadline before its time");
            source.deadline = NEVER;
        } else if event.ready.contains(Ready::DEADLINE) {
            let told = self.model.deadline_told(event.source);
            assert!(told || lost, "a deadline that nobody has set, or before its time");
        }
        let streams = self.streams.as_mut().expect("a stream, but no streams");
        if streams.is_forwarding() {
            self.model.doubt_streams(); // who has waited for that buffer
        }
        self.fresh = event.stream == Some(StreamEvent::Data);
        if streams.note(it, event, self.model.now, idle, late) {
            self.removed(it, event.source);
        } else if event.stream == Some(StreamEvent::Connected) {
            // That it was to be connected within a time is forgotten; when, nobody has seen.
            let source = self.model.source(event.source);
            let set = source.deadline_set;
            source.connecting = false;
            let deadline = it.deadline(event.source).expect("a live stream").as_nanos();
            assert!(set || deadline == NEVER, "connected, and it still has to be until {deadline}");
            self.model.set_deadline(event.source, deadline);
        }
    }

    /// All that is to be told of streams is told, where the system does as it is told.
    fn rest(&mut self, it: &It<W>) {
        let certain = self.world.oddities() == Oddities::default();
        if self.depth == 0 && !self.waiting && certain && self.streams.is_some() {
            self.settle_streams(it, 0);
        }
    }

    /// Takes out all events, until there is none of a stream any more. So much time passes before each wait. False: something
    /// else keeps it busy.
    fn settle_streams(&mut self, it: &It<W>, span: u64) -> bool {
        let (mut quiet, mut rounds, mut patience) = (0, 0, 3);
        while quiet < 3 && !self.model.lost {
            if span > NEVER - (1 << 40) - self.model.now.min(NEVER - (1 << 40)) {
                return false; // it is as late as it gets
            }
            self.advance(it, span);
            self.poll_for(it, 0);
            let (mut came, mut waited) = (false, true);
            while !self.model.lost
                && let Some(event) = self.take(it, Kinds::all())
            {
                came |= matches!(event.kind, Kind::Stream | Kind::Listener);
                waited &= event.kind != Kind::Before;
                self.glance(it);
            }
            // (With a small budget there may be more.)
            quiet = if came || it.statistics().queued > 0 { 0 } else { quiet + u32::from(waited) };
            if quiet == 3 && patience > 0 && self.streams.as_ref().is_some_and(Streams::has_callers) {
                (quiet, patience) = (0, patience - 1);
            }
            rounds += 1;
            if rounds == 60 {
                return false;
            }
        }
        if !self.model.lost {
            let Machine { model, streams, abilities, .. } = self;
            let streams = streams.as_mut().expect("they are there");
            streams.check_quiet(it, |handle| model.is_deadline_due(handle), abilities.vague_waits);
            streams.check_listeners(it, self.sources_max - model.sources.len());
        }
        !self.model.lost
    }

    /// Some streams are closed, and end in order; the others are removed, as all sources are.
    fn end_streams(&mut self, it: &It<W>) {
        if self.streams.is_none() {
            return;
        }
        self.world.system().calm();
        let streams = self.streams.as_mut().expect("they are there");
        streams.release_all(it);
        let handles = streams.handles();
        if !self.settle_streams(it, 100) {
            return;
        }
        for handle in handles.into_iter().step_by(2) {
            let streams = self.streams.as_mut().expect("they are there");
            if streams.handles().contains(&handle) {
                streams.close(it, handle);
                self.model.doubt_streams();
            }
        }
        for round in 0.. {
            let streams = self.streams.as_mut().expect("they are there");
            if round >= 6 && streams.is_closed() {
                break;
            }
            assert!(round < 300, "some do not end: {}", streams.shows());
            streams.peers_read_all();
            if !self.settle_streams(it, 20_000) {
                break;
            }
        }
    }
}

/// Wrong calls, and questions.
impl<W: World> Machine<W> {
    fn stale(&mut self, it: &It<W>, a: u8) {
        let Some(handle) = self.dead.get(a as usize % self.dead.len().max(1)).copied() else { return };
        let stale = Err(Error::STALE);
        assert_eq!(it.remove(handle), stale);
        assert_eq!(it.modify_io(handle, Ready::READABLE), stale);
        assert_eq!(it.change_io(handle, Ready::READABLE, Ready::empty()), stale);
        assert_eq!(it.set_oneshot(handle, true), stale);
        assert_eq!(it.set_idle_timeout(handle, nanos(1)), stale);
        assert_eq!(it.set_deadline(handle, nanos(1)), stale);
        assert_eq!(it.set_deadline_at(handle, at(1)), stale);
        assert_eq!(it.arm_timer(handle, nanos(1), nanos(1)), stale);
        assert_eq!(it.arm_timer_at(handle, at(1), nanos(1)), stale);
        assert_eq!(it.disarm_timer(handle), stale);
        assert_eq!(it.enable_hook(handle, true), stale);
        assert_eq!(it.defer(handle), stale);
        assert_eq!(it.trigger(handle, Ready::empty()), stale);
        assert_eq!(it.post(handle, 1), stale);
        assert_eq!(it.set_level(handle, 1), stale);
        assert_eq!(it.set_keepalive(handle, false), stale);
        assert_eq!(it.set_handler(handle, None, 1), stale);
        assert_eq!(it.waker(handle).wake(), stale);
        assert_eq!(it.level(handle), Err(Error::STALE));
        assert_eq!(it.token(handle), Err(Error::STALE));
        assert_eq!(it.kind(handle), Err(Error::STALE));
        assert_eq!(it.io_fd(handle), Err(Error::STALE));
        assert_eq!(it.timer_deadline(handle), Err(Error::STALE));
        if let Some(streams) = &self.streams {
            streams.misuse(it, handle, Error::STALE);
            streams.misuse_no_listener(it, handle, Error::STALE);
        }
    }

    fn misuse(&mut self, it: &It<W>, a: u8, b: u8) {
        let invalid = Err(Error::INVALID);
        let beyond = [Ready::ERROR, Ready::HANGUP, Ready::TIMEOUT, Ready::TRIGGERED][b as usize % 4];
        assert_eq!(it.add_io(self.world.fd(0), Ready::READABLE | beyond, handler, 1), Err(Error::INVALID));
        assert_eq!(it.add_io(-1, Ready::READABLE, handler, 1), Err(Error::BAD_FD));
        assert_eq!(it.find_io(-1), Err(Error::NOT_FOUND));
        let Some(handle) = self.pick(a, |_| true) else { return };
        let kind = self.model.source(handle).kind;
        assert_eq!(it.set_level(handle, 4 + b % 100), invalid);
        assert_eq!(it.trigger(handle, Ready::TIMEOUT), invalid);
        assert_eq!(it.trigger(handle, Ready::DEADLINE | Ready::READABLE), invalid);
        assert_eq!(it.trigger(handle, Ready::TRIGGERED), invalid);
        if kind == Kind::Io {
            assert_eq!(it.modify_io(handle, beyond), invalid);
            assert_eq!(it.change_io(handle, beyond, Ready::empty()), invalid);
        } else {
            assert_eq!(it.trigger(handle, Ready::READABLE), invalid);
            assert_eq!(it.modify_io(handle, Ready::READABLE), invalid);
            assert_eq!(it.change_io(handle, Ready::READABLE, Ready::empty()), invalid);
            assert_eq!(it.set_oneshot(handle, true), invalid);
        }
        if kind != Kind::Io && kind != Kind::Stream {
            assert_eq!(it.set_idle_timeout(handle, nanos(1)), invalid);
            assert_eq!(it.set_deadline(handle, nanos(1)), invalid);
            assert_eq!(it.io_fd(handle), Err(Error::INVALID));
        }
        if let Some(streams) = &mut self.streams {
            if kind == Kind::Stream {
                streams.misuse_stream(it, handle, handler);
            } else {
                streams.misuse(it, handle, Error::INVALID);
            }
            if kind == Kind::Listener {
                streams.misuse_listener(it, handle, handler);
            } else {
                streams.misuse_no_listener(it, handle, Error::INVALID);
            }
        }
        if kind != Kind::Timer {
            assert_eq!(it.arm_timer(handle, nanos(1), nanos(1)), invalid);
            assert_eq!(it.arm_timer_at(handle, at(1), nanos(1)), invalid);
            assert_eq!(it.disarm_timer(handle), invalid);
        }
        if kind != Kind::Deferred {
            assert_eq!(it.defer(handle), invalid);
        }
        if !matches!(kind, Kind::Before | Kind::After | Kind::Idle) {
            assert_eq!(it.enable_hook(handle, b.is_multiple_of(2)), invalid);
        }
        if !self.frames.is_empty() {
            assert_eq!(it.run(self), Err(Error::BUSY));
        }
    }

    /// Everything that the loop tells.
    fn audit(&mut self, it: &It<W>) {
        for source in &self.model.sources {
            let handle = source.handle;
            assert_eq!(it.kind(handle), Ok(source.kind));
            assert_eq!(it.token(handle), Ok(source.token));
            assert_eq!(it.level(handle), Ok(source.level));
            assert_eq!(it.keepalive(handle), Ok(source.keepalive));
            match source.kind {
                Kind::Io => {
                    assert_eq!(it.io_fd(handle), Ok(source.fd));
                    assert_eq!(it.find_io(source.fd), Ok(handle));
                    assert_eq!(it.io_interest(handle), Ok(source.interest));
                    let options = it.io_options(handle).expect("a source");
                    assert_eq!((options.oneshot, options.edge), (source.oneshot, source.edge));
                    assert_eq!(options.exclusive, source.exclusive);
                    assert_eq!(it.deadline(handle), Ok(at(source.deadline)));
                    assert_eq!(it.idle_timeout(handle), Ok(nanos(source.idle.unwrap_or(NEVER))));
                }
                Kind::Timer => {
                    assert_eq!(it.timer_deadline(handle), Ok(at(source.at)));
                    assert_eq!(it.timer_period(handle), Ok(nanos(source.period)));
                }
                Kind::Stream => {
                    assert_eq!((it.io_fd(handle), it.find_io(source.fd)), (Ok(source.fd), Ok(handle)));
                    let deadline = it.deadline(handle).expect("a live stream").as_nanos();
                    assert!(deadline == source.deadline || source.connecting && deadline == NEVER);
                    assert_eq!(it.idle_timeout(handle), Ok(nanos(source.idle.unwrap_or(NEVER))));
                }
                Kind::Listener => {
                    assert_eq!((it.listener_fd(handle), it.find_io(source.fd)), (Ok(source.fd), Ok(handle)))
                }
                Kind::Signal => assert_eq!(it.signal_number(handle), Ok(source.signal)),
                Kind::Wake => assert_eq!(it.hook_enabled(handle), Err(Error::INVALID)),
                _ => assert_eq!(it.hook_enabled(handle), Ok(source.active)),
            }
        }
        for flight in &self.model.flights {
            let handle = flight.handle;
            assert_eq!((it.kind(handle), it.token(handle)), (Ok(Kind::Operation), Ok(flight.token)));
            assert_eq!((it.level(handle), it.keepalive(handle)), (Ok(flight.level), Ok(flight.keepalive)));
            assert_eq!(
                (it.post(handle, 1), it.modify_io(handle, Ready::READABLE)),
                (Err(Error::INVALID), Err(Error::INVALID))
            );
        }
        for file in 0..FILES {
            let fd = self.world.fd(file);
            if !self.model.sources.iter().any(|it| it.fd == fd) {
                assert_eq!(it.find_io(fd), Err(Error::NOT_FOUND));
            }
        }
        self.glance(it);
    }

    /// What is looked at after every step.
    fn glance(&mut self, it: &It<W>) {
        if self.model.lost {
            return;
        }
        let statistics = it.statistics();
        if self.trace {
            eprintln!("{:indent$}{}, {}", "", statistics.queued, self.model.shows(), indent = 2 * self.depth as usize);
        }
        assert_eq!(statistics.sources as usize, self.model.sources.len());
        assert_eq!(statistics.posts_refused, self.model.refused());
        assert_eq!(statistics.turns, self.model.turns, "collections");
        if let Some(operations) = &self.operations {
            operations.glance(it);
        }
        if let Some(streams) = &mut self.streams {
            streams.glance(it);
            let streams = &*streams;
            for it in self.model.sources.iter_mut().filter(|it| it.is_vague()) {
                let stream = it.kind == Kind::Stream;
                it.alive = if stream { streams.is_alive(it.handle) } else { streams.listens_now(it.handle) };
            }
        }
        let kinds = [
            Kind::Io,
            Kind::Timer,
            Kind::Wake,
            Kind::Signal,
            Kind::Post,
            Kind::Deferred,
            Kind::Idle,
            Kind::Before,
            Kind::After,
            Kind::Stream,
            Kind::Listener,
        ];
        for kind in kinds {
            assert_eq!(statistics.events_of(kind), self.model.delivered(kind), "events of {kind:?}");
        }
        assert_eq!(it.now(), Ok(at(self.model.now)));
        let inside = !self.frames.is_empty();
        self.model.settle(statistics.queued, statistics.posts, inside, self.waiting);
    }
}

/// Turns.
impl<W: World> Machine<W> {
    /// What the file of a source is. While operations are in flight it is known of none on which they may be made.
    fn state(world: &W, operations: &Option<Operations<W::System>>) -> impl Fn(&Source) -> State {
        |it| match operations {
            Some(operations) if it.file >= FILES => {
                let ready = operations.system.ready(it.fd).filter(|_| operations.flights.is_empty());
                ready.map_or(State::ANYTHING, |ready| State::of(ready, world.oddities()))
            }
            _ => world.state(it.file),
        }
    }

    fn look_again(&mut self) {
        self.model.look_again(Self::state(&self.world, &self.operations));
    }

    /// An event has come, in whatever way: `run` ends in time.
    fn note(&mut self, it: &It<W>, event: &Event) {
        if self.trace {
            eprintln!("{:indent$}{event:?}", "", indent = 2 * self.depth as usize);
        }
        if event.kind == Kind::Operation {
            self.note_completion(event);
        }
        self.fresh = false;
        if event.kind == Kind::Stream {
            self.note_stream(it, event);
        } else if event.kind == Kind::Listener {
            let free = self.sources_max - self.model.sources.len();
            self.streams.as_mut().expect("they are there").note_listener(it, event, free);
        }
        self.own = event.source;
        self.run_left = self.run_left.saturating_sub(1);
        if self.model.running && (event.source == self.guard || self.run_left == 0 || self.model.lost) {
            assert_eq!(it.stop(), Ok(()));
            self.model.stopping = true;
        }
    }

    /// What a handler does, and what is done after an event was pulled.
    fn handle(&mut self, it: &It<W>) {
        self.glance(it);
        self.depth += 1;
        self.section(it);
        self.depth -= 1;
        if let Some(streams) = &mut self.streams {
            if streams.look_at_current(it, self.fresh) {
                self.model.doubt_streams(); // who has waited for that buffer
            }
            self.fresh = false;
        }
        self.own = Handle::NONE;
    }

    /// Whether the system has made the last wait fail, or what was to be told before it.
    fn look_for_failures(&mut self) {
        let failures = self.world.failures();
        self.doubtful = failures > self.failures;
        self.failures = failures;
        if self.doubtful {
            self.model.doubt_wait();
        }
    }

    /// The loop has collected: time first. `until`: to when it would have slept, at least and at most.
    fn collected(&mut self, it: &It<W>, (least, most): (u64, u64), inside: bool) {
        self.look_for_failures();
        let oddities = self.world.oddities();
        let most = most.saturating_add(oddities.oversleep);
        let (sure, possible) = self.model.finds();
        let (before, now) = (self.model.now, it.now().expect("a time").as_nanos());
        let disturbed = std::mem::take(&mut self.disturbed);
        let odd = oddities != Oddities::default();
        let vague = possible || odd || disturbed || self.abilities.vague_waits || self.world.is_haunted();
        if sure {
            assert_eq!(now, before, "time passed though something was ready");
        } else if vague {
            assert!(now >= before && now <= most.max(before), "slept from {before} to {now}, not to {most}");
        } else {
            let (least, most) = (least.max(before), most.max(before));
            assert!(now >= least && now <= most, "slept from {before} to {now}, not to {least}..{most}");
        }
        self.model.collect(now, inside);
        self.model.turns += 1;
    }

    fn begin_wait(&mut self) {
        self.model.begin_wait(Self::state(&self.world, &self.operations));
    }

    /// Follows the `turn` or `run` that is under way to where it calls a handler (`event`) or has returned.
    fn follow(&mut self, it: &It<W>, event: Option<&Event>) {
        let collections = it.statistics().turns;
        while !self.model.lost {
            let ahead = collections - self.model.turns;
            let stopped = self.model.running && self.model.stopping;
            let frame = self.frames.last_mut().expect("a turn");
            match frame.stage {
                Stage::Start => {
                    if frame.run && ahead == 0 && event.is_none() {
                        return;
                    }
                    if frame.run {
                        assert!(self.model.may_be_alive(), "a turn, but nothing keeps the loop alive");
                    }
                    frame.had_before = self.model.prepare() > 0;
                    frame.stage = if frame.had_before { Stage::Before } else { Stage::Wait };
                }
                Stage::Before => {
                    if let Some(event) = event.filter(|_| ahead == 0) {
                        self.model.event_came(event, Kinds::BEFORE);
                        return;
                    }
                    if !stopped {
                        self.model.nothing_came(Kinds::BEFORE);
                    }
                    frame.stage = Stage::Wait;
                }
                Stage::Wait => {
                    assert!(ahead > 0, "no collection in a turn, before {event:?}");
                    assert!(frame.run || ahead == 1, "{ahead} collections in a turn");
                    let (run, timeout, had_before) = (frame.run, frame.timeout, frame.had_before);
                    frame.stage = Stage::Events;
                    let (mut least, most) = self.model.sleeps(timeout);
                    if run && had_before && !self.model.is_alive() {
                        least = self.model.now;
                    }
                    self.begin_wait();
                    if ahead == 1 {
                        self.collected(it, (least, most), true);
                    } else {
                        // A turn that brought nothing: nobody saw the time of it, nor which one failed.
                        if self.world.failures() > self.failures {
                            self.model.doubt_wait();
                        }
                        self.model.collect(self.model.now, true);
                        self.model.turns += 1;
                    }
                }
                Stage::Events => {
                    let Some(event) = event else {
                        if !(stopped || frame.failed && ahead == 0) {
                            self.model.nothing_came(Kinds::all());
                        }
                        if ahead == 0 {
                            return;
                        }
                        frame_again(frame);
                        continue;
                    };
                    let next_turn = frame.run && event.kind == Kind::Before && self.model.waits_before(event.source);
                    if ahead == 0 && !next_turn {
                        self.model.event_came(event, Kinds::all());
                        return;
                    }
                    self.model.nothing_came(Kinds::all());
                    frame_again(frame);
                }
            }
        }
    }

    fn push_frame(&mut self, run: bool, timeout: u64) {
        self.fresh = false;
        self.frames.push(Frame { run, timeout, stage: Stage::Start, had_before: false, failed: false, calls: 0 });
    }

    fn turn(&mut self, it: &It<W>, a: u8) {
        let timeout = self.passing(a);
        self.push_frame(false, timeout);
        let answer = it.turn(self, nanos(timeout));
        let failed = answer.is_err();
        self.frames.last_mut().expect("this turn").failed = failed;
        self.follow(it, None);
        let frame = self.frames.pop().expect("this turn");
        if self.model.lost {
            return;
        }
        self.check_wait(answer.map(|_| ()));
        assert!(failed || answer == Ok(frame.calls), "events of a turn: {answer:?}, not {}", frame.calls);
    }

    fn run(&mut self, it: &It<W>, a: u8, b: u8) {
        if self.model.running || !self.frames.is_empty() {
            assert_eq!(it.run(self), Err(Error::BUSY));
            return;
        }
        let until = self.passing(a);
        let guard = self.guard;
        assert_eq!(it.arm_timer(guard, nanos(until), Duration::ZERO), Ok(()));
        let until = self.model.now + until;
        self.model.arm(guard, until, 0);
        self.run_left = 1 + u32::from(b);
        self.push_frame(true, NEVER);
        self.model.running = true;
        let answer = it.run(self);
        self.frames.last_mut().expect("this run").failed = answer.is_err();
        self.follow(it, None);
        self.frames.pop();
        if self.model.lost {
            return;
        }
        match answer {
            Ok(Outcome::Stopped) => assert!(self.model.stopping, "nobody stopped it"),
            Ok(Outcome::NothingLeft) => {
                assert!(!self.model.is_alive() && !self.model.stopping, "something is left");
            }
            Err(error) => self.check_wait(Err(error)),
        }
        self.model.stopping &= answer.is_err();
        self.model.running = false;
        assert_eq!(it.disarm_timer(guard), Ok(()));
        self.model.arm(guard, NEVER, 0);
    }

    fn poll(&mut self, it: &It<W>, a: u8) {
        self.poll_for(it, self.passing(a));
    }

    fn poll_for(&mut self, it: &It<W>, timeout: u64) {
        let before = self.model.prepare();
        let until = self.model.sleeps(timeout);
        self.begin_wait();
        let answer = it.poll(nanos(timeout));
        if before > 0 {
            assert_eq!(answer, Ok(before), "before-wait events");
            return;
        }
        self.collected(it, until, false);
        self.check_wait(answer.map(|_| ()));
        // (After-wait events come whatever the wait was, and do not hide that it failed.)
        self.check_queued(answer.unwrap_or_else(|_| self.model.after_waits_queued()));
    }

    /// A wait fails only where the system makes it fail.
    fn check_wait(&self, answer: Result<(), Error>) {
        assert!(answer.is_ok() || self.doubtful && answer == Err(Error::NO_MEMORY), "a wait: {answer:?}");
    }

    fn check_queued(&self, answer: u32) {
        let least = self.model.queued();
        let most = least + self.model.unsure();
        assert!((least..=most).contains(&answer), "{answer} events are queued, but there are {least} to {most}");
    }

    fn phases(&mut self, it: &It<W>, a: u8) {
        let timeout = self.passing(a);
        let before = self.model.prepare();
        assert_eq!(it.prepare(nanos(timeout)), Ok(before), "before-wait events");
        if before > 0 {
            return;
        }
        let (least, most) = self.model.sleeps(timeout);
        let span = it.timeout().expect("a span").as_nanos();
        assert!(span >= least - self.model.now && span <= most - self.model.now, "a timeout of {span}");
        self.begin_wait();
        self.waiting = true;
        let mut steps = self.section(it);
        let waited = it.wait();
        self.model.clock = self.world.clock().unwrap_or(self.model.now);
        steps += self.section(it);
        self.look_again();
        self.waiting = false;
        let answer = it.collect().expect("a collection");
        let least = if steps > 0 { 0 } else { least };
        self.collected_after(it, (least, most), steps > 0);
        self.check_wait(waited);
        self.check_queued(answer);
    }

    /// The same as `collected`, after a wait in the middle of which something was done.
    fn collected_after(&mut self, it: &It<W>, until: (u64, u64), disturbed: bool) {
        if !disturbed {
            self.collected(it, until, false);
            return;
        }
        self.look_for_failures();
        let (before, now) = (self.model.now, it.now().expect("a time").as_nanos());
        let most = until.1.saturating_add(self.world.oddities().oversleep).max(self.model.clock);
        assert!(now == before || now > before && now <= most, "slept from {before} to {now}, not to {until:?}");
        self.disturbed = true;
        self.model.collect(now, false);
        self.model.turns += 1;
    }

    /// The pull form: one event.
    fn take(&mut self, it: &It<W>, kinds: Kinds) -> Option<Event> {
        self.fresh = false;
        let event = it.next(kinds).expect("an answer");
        match &event {
            Some(event) => {
                self.model.event_came(event, kinds);
                self.note(it, event);
            }
            None => self.model.nothing_came(kinds),
        }
        event
    }

    fn drain(&mut self, it: &It<W>, kinds: Kinds) {
        while !self.model.lost && self.take(it, kinds).is_some() {
            self.handle(it);
        }
    }

    /// In the end all that is due is told, every slot and every place for a post comes back, and the loop sleeps.
    fn end(&mut self, it: &It<W>) {
        for _ in 0..2 {
            self.poll(it, 0);
            for _ in 0..64 {
                if self.model.lost || self.take(it, Kinds::all()).is_none() {
                    break;
                }
            }
            if self.model.lost {
                return;
            }
        }
        self.end_streams(it);
        if self.model.lost {
            return;
        }
        while let Some(source) = self.model.sources.first() {
            let handle = source.handle;
            self.remove(it, handle);
        }
        self.end_operations(it);
        // What is left are posts to nobody. With a small budget they need not all go at once.
        for _ in 0..2 {
            self.poll(it, 0);
            assert_eq!(self.take(it, Kinds::all()), None);
            self.glance(it);
        }
        assert_eq!((it.statistics().queued, it.statistics().posts), (0, 0));
        let mut woke = 0;
        loop {
            // (A stale entry of the kernel's may end a wait or two.)
            let now = self.model.now;
            self.poll(it, 200);
            if self.model.now > now || self.passing(200) == 0 {
                break;
            }
            woke += 1;
            let odd = self.world.is_haunted() || self.world.oddities() != Oddities::default();
            assert!(woke < 64 && (odd || self.abilities.vague_waits), "it does not sleep");
        }
        let handles: Vec<Handle> = (0..self.sources_max).map(|_| it.add_wake(handler, 0).expect("a slot")).collect();
        assert_eq!(it.add_wake(handler, 0), Err(Error::TABLE_FULL));
        for _ in 0..self.posts_max {
            assert_eq!(it.post(handles[0], 1), Ok(()), "a place for a post");
        }
        assert_eq!(it.post(handles[0], 1), Err(Error::NO_BUFFERS));
    }
}

/// The next turn of a `run`.
fn frame_again(frame: &mut Frame) {
    assert!(frame.run, "a second turn in one");
    frame.stage = Stage::Start;
}

impl Model {
    /// Whether it is a before-wait source that has not had its event for the next wait.
    fn waits_before(&self, handle: Handle) -> bool {
        let it = self.sources.iter().find(|it| it.handle == handle);
        it.is_some_and(|it| it.kind == Kind::Before && matches!(it.home, Home::Hooks | Home::Triggered))
    }
}
