//! Random programs against a small model, on every backend: sources of most kinds are added, changed, triggered and
//! removed in any order, between turns and in the middle of one, on the virtual clock. A failure names its seed.
//!
//! The model knows what each source may tell (never anything else, nobody who was removed, no direction that was not
//! asked for, no timer that is early or out of order) and, after a turn in peace, what it must have told.

#[allow(dead_code, unused_macros)]
#[macro_use]
#[path = "conformance/harness.rs"]
mod harness;

use becket::{BackendChoice, Duration, Error, Event, Handle, Kind, Kinds, Loop, Ready, Storage};
use harness::*;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

const SOURCES: usize = 24;
const POSTS: usize = 6;
const PAIRS: usize = 12;
const STEPS: u32 = 2_000;
const SEEDS: u64 = 150;

/// What the model knows of one source.
struct Source {
    kind: Kind,
    token: usize,
    level: u8,
    triggered: bool,
    /// I/O: the pair, the interest, one-shot, and what was collected and may not have been told yet.
    pair: usize,
    interest: Ready,
    pending: Ready,
    /// Timers: the deadline and its place among equal ones, the period, the periods gone by, and the place in the queue.
    deadline: Option<(u64, u64)>,
    period: u64,
    elapsed: i64,
    queued: Option<(u64, u64, u64, u8)>,
    /// Hooks that are on, deferred sources that are scheduled.
    active: bool,
}

struct Model<'a, 's> {
    it: &'a Loop<'s, ()>,
    random: Random,
    pairs: Vec<(UnixStream, UnixStream)>,
    bytes: [bool; PAIRS],
    live: BTreeMap<u64, Source>,
    dead: Vec<Handle>,
    /// Posts on their way, by the level at which they were queued.
    posts: [VecDeque<(Handle, i64)>; 4],
    next_number: u64,
    collections: u64,
    /// The last timer told, by level: the next one comes behind it.
    last_timer: [(u64, u64, u64); 4],
    /// Whether anything but idle and around-the-wait sources was told in this turn.
    busy: bool,
    /// A turn in peace, with nothing left over from the one before.
    peace: bool,
}

impl Model<'_, '_> {
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn now(&self) -> u64 {
        self.it.now().unwrap().as_nanos()
    }

    /// Any live source, if there is one.
    fn any(&mut self) -> Option<Handle> {
        let count = self.live.len() as u64;
        (count > 0).then(|| Handle::from_raw(*self.live.keys().nth(self.random.below(count) as usize).unwrap()))
    }

    fn any_of(&mut self, kind: Kind) -> Option<Handle> {
        let of_kind: Vec<u64> = self.live.iter().filter(|(_, it)| it.kind == kind).map(|(raw, _)| *raw).collect();
        (!of_kind.is_empty()).then(|| Handle::from_raw(of_kind[self.random.below(of_kind.len() as u64) as usize]))
    }

    fn source(&mut self, handle: Handle) -> &mut Source {
        self.live.get_mut(&handle.raw()).expect("a live source")
    }

    fn interest(&mut self) -> Ready {
        [PAUSED, READABLE, WRITABLE, BOTH][self.random.below(4) as usize]
    }

    fn add(&mut self) {
        let token = self.number() as usize;
        let nothing: fn(&mut (), &Loop<()>, Event) = |_, _, _| {};
        let (pair, interest) = (self.random.below(PAIRS as u64) as usize, self.interest());
        let mut source = Source {
            kind: Kind::Wake,
            token,
            level: 0,
            triggered: false,
            pair,
            interest,
            pending: PAUSED,
            deadline: None,
            period: 0,
            elapsed: 0,
            queued: None,
            active: true,
        };
        let fd = self.pairs[pair].0.as_raw_fd();
        let taken = self.live.values().any(|other| other.kind == Kind::Io && other.pair == pair);
        let mut expected = if self.live.len() == SOURCES { Err(Error::TABLE_FULL) } else { Ok(()) };
        let answer = match self.random.below(8) {
            0..3 => {
                source.kind = Kind::Io;
                if taken {
                    expected = Err(Error::EXISTS);
                }
                self.it.add_io(fd, interest, nothing, token)
            }
            3..5 => {
                source.kind = Kind::Timer;
                let (delay, period) = (self.random.below(30), self.random.below(2) * self.random.below(20));
                source.deadline = Some((self.now() + delay, self.number()));
                source.period = period;
                self.it.add_timer_pulled(Duration::from_nanos(delay), Duration::from_nanos(period), token)
            }
            5 => self.it.add_wake_pulled(token),
            6 => {
                source.kind = Kind::Deferred;
                source.active = false;
                self.it.add_deferred(nothing, token)
            }
            _ => {
                source.kind = [Kind::Idle, Kind::After][self.random.below(2) as usize];
                match source.kind {
                    Kind::Idle => self.it.add_idle(nothing, token),
                    _ => self.it.add_after(nothing, token),
                }
            }
        };
        assert_eq!(answer.map(|_| ()), expected);
        if let Ok(handle) = answer {
            assert!(!self.dead.contains(&handle), "a handle that was used before");
            assert!(self.live.insert(handle.raw(), source).is_none());
        }
        assert_eq!(self.it.statistics().sources as usize, self.live.len());
    }

    fn remove(&mut self, handle: Handle) {
        self.it.remove(handle).unwrap();
        self.live.remove(&handle.raw());
        self.dead.push(handle);
        assert_eq!(self.it.kind(handle), Err(Error::STALE));
    }

    /// One thing that a program may do at any time.
    fn act(&mut self) {
        match self.random.below(16) {
            0..3 => self.add(),
            3 => {
                if let Some(handle) = self.any() {
                    self.remove(handle);
                }
            }
            4 | 5 => {
                if let Some(handle) = self.any_of(Kind::Io) {
                    let interest = self.interest();
                    self.it.modify_io(handle, interest).unwrap();
                    self.source(handle).interest = interest;
                    assert_eq!(self.it.io_interest(handle), Ok(interest));
                }
            }
            6 | 7 => {
                // A byte comes, or the bytes are read.
                let pair = self.random.below(PAIRS as u64) as usize;
                if self.bytes[pair] {
                    drain(&self.pairs[pair].0);
                } else {
                    (&self.pairs[pair].1).write_all(b"x").unwrap();
                }
                self.bytes[pair] = !self.bytes[pair];
            }
            8 => {
                if let Some(handle) = self.any_of(Kind::Timer) {
                    let (delay, period) = (self.random.below(30), self.random.below(2) * self.random.below(20));
                    let deadline = (self.now() + delay, self.number());
                    self.it.arm_timer(handle, Duration::from_nanos(delay), Duration::from_nanos(period)).unwrap();
                    let source = self.source(handle);
                    (source.deadline, source.period, source.elapsed, source.queued) = (Some(deadline), period, 0, None);
                }
            }
            9 => {
                if let Some(handle) = self.any_of(Kind::Timer) {
                    self.it.disarm_timer(handle).unwrap();
                    let source = self.source(handle);
                    (source.deadline, source.elapsed, source.queued) = (None, 0, None);
                }
            }
            10 => {
                if let Some(handle) = self.any() {
                    let flags = self.interest();
                    let io = self.source(handle).kind == Kind::Io;
                    let expected = if io || flags.is_empty() { Ok(()) } else { Err(Error::INVALID) };
                    assert_eq!(self.it.trigger(handle, flags), expected);
                    if expected.is_ok() {
                        self.source(handle).triggered = true;
                        self.source(handle).pending |= flags;
                    }
                }
            }
            11 | 12 => {
                if let Some(handle) = self.any() {
                    let value = self.number() as i64;
                    let full = self.it.statistics().posts as usize == POSTS;
                    let expected = if full { Err(Error::NO_BUFFERS) } else { Ok(()) };
                    assert_eq!(self.it.post(handle, value), expected);
                    if !full {
                        let level = self.source(handle).level as usize;
                        self.posts[level].push_back((handle, value));
                    }
                }
            }
            13 => {
                if let Some(handle) = self.any() {
                    let level = self.random.below(4) as u8;
                    self.it.set_level(handle, level).unwrap();
                    self.source(handle).level = level;
                }
            }
            14 => {
                if let Some(handle) = self.any_of(Kind::Deferred) {
                    self.it.defer(handle).unwrap();
                    self.source(handle).active = true;
                } else if let Some(handle) = self.any_of(Kind::Idle) {
                    let on = self.random.below(2) == 0;
                    self.it.enable_hook(handle, on).unwrap();
                    self.source(handle).active = on;
                }
            }
            _ => {
                if let Some(handle) = self.dead.last().copied() {
                    assert_eq!(self.it.post(handle, 1), Err(Error::STALE));
                    assert_eq!(self.it.trigger(handle, PAUSED), Err(Error::STALE));
                    assert_eq!(self.it.remove(handle), Err(Error::STALE));
                    assert_eq!(self.it.modify_io(handle, BOTH), Err(Error::STALE));
                }
            }
        }
    }

    /// What is ready of a pair now. There is always room to write.
    fn state(&self, pair: usize) -> Ready {
        if self.bytes[pair] { BOTH } else { WRITABLE }
    }

    /// Waits, and brings the model to where the loop is after its collection.
    fn collect(&mut self) {
        let patience = self.random.below(3) * self.random.below(40);
        if self.random.below(3) == 0 {
            // What was due meanwhile is late.
            self.it.advance(Duration::from_nanos(self.random.below(60))).unwrap();
        }
        let (before, first) = (self.now(), self.live.values().filter_map(|it| it.deadline).min());
        self.it.poll(Duration::from_nanos(patience)).unwrap();
        let now = self.now();
        assert!(now >= before && now <= before + patience, "slept too long");
        assert!(first.is_none_or(|(at, _)| now <= at.max(before)), "slept over a timer");
        self.collections += 1;
        self.busy = false;
        let mut again = Vec::new();
        for raw in self.live.keys().copied().collect::<Vec<_>>() {
            let (state, collections) = (self.state(self.live[&raw].pair), self.collections);
            let source = self.live.get_mut(&raw).unwrap();
            if source.kind == Kind::Io {
                source.pending |= state & source.interest;
            }
            if let Some((at, order)) = source.deadline.filter(|(at, _)| *at <= now) {
                source.queued.get_or_insert((collections, at, order, source.level));
                let gone = (now - at).checked_div(source.period).unwrap_or(0) + 1;
                source.elapsed += gone as i64;
                source.deadline = (source.period > 0).then_some((at + gone * source.period, order));
                again.push((at, order, raw));
            }
        }
        // Periodic timers are armed anew in the order in which they expire.
        again.sort_unstable();
        for (_, _, raw) in again {
            let number = self.number();
            let source = self.live.get_mut(&raw).unwrap();
            source.deadline = source.deadline.map(|(at, _)| (at, number));
        }
    }

    /// One event: may it be?
    fn check(&mut self, event: &Event) {
        let around = matches!(event.kind, Kind::Idle | Kind::After);
        let untriggered_idle = event.kind == Kind::Idle && !event.ready.contains(Ready::TRIGGERED);
        assert!(!untriggered_idle || !self.busy || !self.peace, "idle, but there was something else");
        let now = self.now();
        if event.kind == Kind::Post {
            self.busy = true;
            let live = &self.live;
            let expected = self.posts.iter_mut().find_map(|queue| {
                queue.retain(|(handle, _)| live.contains_key(&handle.raw()));
                (queue.front() == Some(&(event.source, event.value))).then(|| queue.pop_front())
            });
            assert!(expected.is_some(), "a post out of order, or of nobody: {event:?}");
            return;
        }
        let source = self.live.get_mut(&event.source.raw()).unwrap_or_else(|| panic!("a removed source: {event:?}"));
        assert_eq!((event.kind, event.token), (source.kind, source.token));
        assert_eq!(event.ready.contains(Ready::TRIGGERED), source.triggered, "{event:?}");
        source.triggered = false;
        let ready = event.ready - Ready::TRIGGERED;
        let triggered = ready != event.ready;
        match source.kind {
            Kind::Io => {
                assert!((source.pending & source.interest).contains(ready), "nobody asked for it: {event:?}");
                assert!(triggered || !ready.is_empty(), "an event of nothing");
                source.pending = PAUSED;
            }
            Kind::Timer => {
                assert_eq!(event.value, source.elapsed, "periods gone by");
                assert!(triggered || event.value > 0);
                if let Some((collection, at, order, level)) = source.queued.take() {
                    assert!(at <= now, "early");
                    // One that was triggered may have been in the queue before it expired.
                    if !triggered {
                        let key = (collection, at, order);
                        assert!(key > self.last_timer[level as usize], "a timer out of order: {event:?}");
                        self.last_timer[level as usize] = key;
                    }
                }
                source.elapsed = 0;
            }
            Kind::Deferred => {
                assert!(triggered || source.active, "{event:?}");
                source.active = false;
            }
            Kind::Idle | Kind::After => assert!(triggered || source.active, "{event:?}"),
            _ => assert!(triggered, "{event:?}"),
        }
        self.busy |= !around;
    }

    /// A turn in the middle of which the program does things.
    fn wild_turn(&mut self) {
        self.collect();
        self.peace = false;
        while let Some(event) = self.next() {
            self.check(&event);
            for _ in 0..self.random.below(3) {
                self.act();
            }
            if self.random.below(40) == 0 {
                return; // the rest stays queued
            }
        }
        self.peace = true;
    }

    fn next(&mut self) -> Option<Event> {
        self.it.next(Kinds::all()).unwrap()
    }

    /// A turn in peace: everything that is due is told, and told once.
    fn peaceful_turn(&mut self) {
        self.collect();
        let due: Vec<u64> = self.live.iter().filter(|(_, it)| self.is_due(it)).map(|(raw, _)| *raw).collect();
        let mut told = Vec::new();
        while let Some(event) = self.next() {
            if event.kind != Kind::Post {
                assert!(!told.contains(&event.source.raw()), "twice: {event:?}");
                told.push(event.source.raw());
            }
            if event.kind == Kind::Io {
                let source = &self.live[&event.source.raw()];
                let state = self.state(source.pair) & source.interest;
                assert!(event.ready.contains(state), "a direction is missing: {event:?}");
            }
            self.check(&event);
        }
        for raw in due {
            assert!(told.contains(&raw), "nothing was told of {:?} {raw}", self.live[&raw].kind);
        }
        self.peace = true;
        let statistics = self.it.statistics();
        assert_eq!((statistics.queued, statistics.posts), (0, 0), "all is told");
        for queue in &mut self.posts {
            queue.retain(|(handle, _)| self.live.contains_key(&handle.raw()));
            assert!(queue.is_empty(), "a post was lost");
        }
        // What was dropped since nobody asked for it any more is gone for good.
        self.live.values_mut().for_each(|source| source.pending = PAUSED);
    }

    fn is_due(&self, source: &Source) -> bool {
        source.triggered
            || match source.kind {
                Kind::Io => !(self.state(source.pair) & source.interest).is_empty(),
                Kind::Timer => source.elapsed > 0,
                Kind::Deferred | Kind::After => source.active,
                _ => false,
            }
    }

    /// In the end, every slot comes back and the loop sleeps.
    fn end(&mut self) {
        while let Some(handle) = self.any() {
            self.remove(handle);
        }
        for _ in 0..2 {
            self.it.poll(Duration::ZERO).unwrap();
            assert_eq!(self.next(), None);
        }
        let now = self.now();
        assert_eq!(self.it.poll(Duration::from_secs(1)), Ok(0));
        assert_eq!(self.now(), now + 1000 * MS, "something is left that keeps the loop awake");
        let handles: Vec<_> = (0..SOURCES).map(|_| self.it.add_wake_pulled(0).unwrap()).collect();
        assert_eq!(self.it.add_wake_pulled(0), Err(Error::TABLE_FULL));
        handles.iter().take(POSTS).for_each(|handle| self.it.post(*handle, 1).unwrap());
    }
}

fn random_program(backend: BackendChoice, seed: u64) {
    let mut storage = Storage::<SOURCES, POSTS>::new();
    let event_loop: Loop<()> = Loop::new(&mut storage, &virtual_config(backend)).unwrap();
    let mut model = Model {
        it: &event_loop,
        random: Random::new(seed),
        pairs: (0..PAIRS).map(|_| pair()).collect(),
        bytes: [false; PAIRS],
        live: BTreeMap::new(),
        dead: Vec::new(),
        posts: [const { VecDeque::new() }; 4],
        next_number: 0,
        collections: 0,
        last_timer: [(0, 0, 0); 4],
        busy: false,
        peace: true,
    };
    for _ in 0..STEPS {
        match model.random.below(8) {
            0 => model.wild_turn(),
            1 => model.peaceful_turn(),
            _ => model.act(),
        }
    }
    model.peaceful_turn();
    model.end();
}

fn random_programs(backend: BackendChoice) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    // BECKET_SEED runs one seed alone; with BECKET_SEEDS that many from there on.
    let first = number("BECKET_SEED");
    let count = number("BECKET_SEEDS").unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let seeds = (first.unwrap_or(1)..).zip(0..count).map(|(seed, _)| seed);
    for seed in seeds {
        let run = std::panic::catch_unwind(|| random_program(backend, seed));
        if let Err(panic) = run {
            eprintln!("the seed is {seed}, on {backend:?}");
            std::panic::resume_unwind(panic);
        }
        progress();
    }
}

each_backend! { random_programs }
