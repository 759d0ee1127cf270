//! What a loop promises, as a list of sources and a list of posts, gone through from end to end whenever something is
//! asked. It never decides what comes next: it is shown each event and says whether that one may be, and, when no more
//! came, whether any was owed.
//!
//! What the promises leave open stays open here. The order of the readiness of one collection is one, so places in the
//! queue are ranks, and those of one collection's readiness are equal. An event that concerns nobody any more is dropped
//! when its turn comes, which nobody sees: where it is unknown whether that has happened, the place is `unsure`: then
//! its event may come and need not.

use super::world::State;
use becket::{Event, Handle, Kind, Kinds, Ready};

pub const NEVER: u64 = u64::MAX;
const NONE: Ready = Ready::empty();
/// What an fd can tell.
const OF_FD: Ready = Ready::all().difference(Ready::TIMEOUT.union(Ready::DEADLINE).union(Ready::TRIGGERED));

/// Where a source waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home {
    Nowhere,
    /// Before, after, idle: it is on. Deferred: it is scheduled.
    Hooks,
    /// Triggered, and delivered next turn.
    Triggered,
    /// Among the events of a turn.
    Queue,
    /// Among the events around the wait.
    Late,
}

/// Who comes first inside of a level: the collection (or what else has queued it), the part of it, the deadline, the
/// order of arming or listing. `None`: unknown.
pub type Rank = Option<(u64, u8, u64, u64)>;

/// A place in the queue.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its level, as a bit; several: one of them.
    levels: u8,
    rank: Rank,
    /// It may have been dropped meanwhile.
    unsure: bool,
}

/// One source.
#[derive(Clone, Debug)]
pub struct Source {
    pub handle: Handle,
    pub kind: Kind,
    pub token: usize,
    pub level: u8,
    pub keepalive: bool,
    /// A wake has not been collected.
    pub woken: bool,
    pub triggered: bool,
    /// A hook that is on, a deferred source that is scheduled.
    pub active: bool,
    pub home: Home,
    pub place: Place,
    /// When it came into the list of its home.
    listed: u64,

    // I/O.
    pub file: usize,
    pub fd: i32,
    /// The fd was closed, or is another file's.
    pub closed: bool,
    pub interest: Ready,
    pub oneshot: bool,
    pub edge: bool,
    pub exclusive: bool,
    /// Pending: what has to be told to who asks for it, and what may be.
    must: Ready,
    may: Ready,
    /// EDGE: what became ready, or is to be told anew; of that, what the wait that is under way has to find; what was
    /// ready at some time since the last collection.
    news: Ready,
    fresh: Ready,
    seen: Ready,
    /// The same for the next one.
    later: Ready,
    /// In a wait that is under way: what all moments of it agree on, what any of them allows, and what was asked for.
    during: State,
    asked_during: Ready,
    timeout_pending: bool,
    deadline_pending: bool,
    pub idle: Option<u64>,
    last: u64,
    /// The same before its latest event.
    pub last_before: u64,
    pub deadline: u64,

    // Streams and listeners.
    /// It surely keeps the loop alive, if it may.
    pub alive: bool,
    /// It is being connected: whether it still has its deadline is unknown.
    pub connecting: bool,
    /// It had passed at some time.
    pub late: bool,
    /// The program has set it.
    pub deadline_set: bool,

    // Timers.
    pub at: u64,
    pub period: u64,
    elapsed: i64,
    /// The same of a signal: how often it came. That it did has not been collected.
    raised: bool,
    pub signal: i32,
    /// Of timers and deadlines: which was armed first.
    arming: u64,
}

/// A value on its way.
#[derive(Clone, Copy, Debug)]
struct Post {
    handle: Handle,
    value: i64,
    place: Place,
}

/// Whether the completion of an operation is among the events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    No,
    Maybe,
    Yes,
}

/// An operation in flight. When it completes is its system's affair: it may be at any time in which something is asked for.
#[derive(Clone, Debug)]
pub struct Flight {
    pub handle: Handle,
    pub token: usize,
    pub level: u8,
    pub keepalive: bool,
    told: Told,
    place: Place,
}

/// What the model knows of the loop.
pub struct Model {
    pub sources: Vec<Source>,
    posts: Vec<Post>,
    pub flights: Vec<Flight>,
    /// The time of the turn.
    pub now: u64,
    /// A fresh reading of the clock; another one only between a wait and the collection.
    pub clock: u64,
    budget: u32,
    pub budget_left: u32,
    dispatches: u64,
    /// The lower level that was served last, where that is known.
    rotation: Option<u8>,
    before_done: bool,
    deferred_done: bool,
    idle_done: bool,
    /// It may be that idle sources have had their turn.
    idle_doubtful: bool,
    /// Too little is known to go on.
    pub lost: bool,
    /// `stop` was called.
    pub stopping: bool,
    /// Inside of `run`.
    pub running: bool,
    /// Somebody was woken since the last collection, who may be gone.
    pub woken: bool,
    pub turns: u64,
    delivered: [u64; 13],
    refused: u64,
    counter: u64,
}

macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            panic!($($message)+);
        }
    };
}

impl Place {
    fn new(level: u8, rank: Rank) -> Place {
        Place { levels: 1 << level, rank, unsure: false }
    }

    /// Its level, or the first that it may be.
    fn level(self) -> u8 {
        self.levels.trailing_zeros() as u8
    }

    /// Whether it is known at which level it is.
    fn is_fixed(self) -> bool {
        self.levels.is_power_of_two()
    }
}

impl Source {
    /// A new source in no list.
    pub fn new(handle: Handle, kind: Kind, token: usize) -> Source {
        Source {
            handle,
            kind,
            token,
            level: 0,
            keepalive: true,
            woken: false,
            triggered: false,
            active: false,
            home: Home::Nowhere,
            place: Place::new(0, None),
            listed: 0,
            file: usize::MAX,
            fd: -1,
            closed: false,
            interest: NONE,
            oneshot: false,
            edge: false,
            exclusive: false,
            must: NONE,
            may: NONE,
            news: Ready::all(),
            fresh: NONE,
            seen: NONE,
            later: NONE,
            during: State::NOTHING,
            asked_during: NONE,
            timeout_pending: false,
            deadline_pending: false,
            idle: None,
            last: 0,
            last_before: 0,
            deadline: NEVER,
            alive: false,
            connecting: false,
            late: false,
            deadline_set: false,
            at: NEVER,
            period: 0,
            elapsed: 0,
            raised: false,
            signal: 0,
            arming: 0,
        }
    }

    /// EDGE: it was added while a wait was under way, which may have told what is ready.
    pub fn maybe_told(&mut self) {
        self.news = NONE;
    }

    /// What of an fd's readiness concerns it.
    fn asked(&self) -> Ready {
        if self.interest.is_empty() {
            return NONE;
        }
        let end = if self.interest.contains(Ready::READABLE) { Ready::PEER_CLOSED } else { NONE };
        self.interest | Ready::ERROR | Ready::HANGUP | end
    }

    /// Whether when it is queued, and whether an event comes of that, is its system's affair: a stream or a listener.
    pub fn is_vague(&self) -> bool {
        matches!(self.kind, Kind::Stream | Kind::Listener)
    }

    /// It may have been queued.
    fn doubt(&mut self) {
        if self.home == Home::Nowhere {
            self.place = Place { unsure: true, ..Place::new(self.level, None) };
            self.home = Home::Queue;
        } else {
            self.place.levels |= 1 << self.level;
            self.place.rank = None;
        }
    }

    /// Whether it keeps the loop alive.
    pub fn counts(&self) -> bool {
        self.keepalive
            && match self.kind {
                Kind::Io => !self.interest.is_empty() || self.deadline != NEVER,
                Kind::Stream | Kind::Listener => self.alive || self.deadline != NEVER && !self.connecting,
                Kind::Timer => self.at != NEVER,
                Kind::Before | Kind::After => false,
                Kind::Idle | Kind::Deferred => self.active,
                _ => true,
            }
    }

    /// Whether an event of it has to come, if it is still queued.
    fn is_due(&self) -> bool {
        self.triggered
            || match self.kind {
                Kind::Io => self.is_timed() || !(self.must & self.asked()).is_empty(),
                Kind::Stream => self.deadline_pending,
                Kind::Timer | Kind::Signal => self.elapsed > 0,
                Kind::Wake | Kind::Listener => false,
                _ => self.active,
            }
    }

    /// Whether it has an event by the time.
    fn is_timed(&self) -> bool {
        self.deadline_pending || self.timeout_pending && !self.interest.is_empty()
    }

    fn is_queued(&self) -> bool {
        matches!(self.home, Home::Queue | Home::Late)
    }

    fn idle_deadline(&self) -> u64 {
        match self.idle {
            Some(span) if !self.interest.is_empty() => sum(self.last, span),
            _ => NEVER,
        }
    }

    /// When it expires.
    fn expires(&self) -> u64 {
        match self.kind {
            Kind::Io => self.deadline.min(self.idle_deadline()),
            Kind::Stream if self.connecting => NEVER,
            Kind::Stream => self.deadline,
            _ => self.at,
        }
    }
}

/// A point in time and a span: it does not wrap, and only an endless span leads to the end of time.
pub fn sum(at: u64, span: u64) -> u64 {
    if span == NEVER { NEVER } else { at.saturating_add(span).min(NEVER - 1) }
}

/// What the program does.
impl Model {
    pub fn new(budget: u32, now: u64) -> Model {
        Model {
            sources: Vec::new(),
            posts: Vec::new(),
            flights: Vec::new(),
            now,
            clock: now,
            budget: if budget == 0 { 1024 } else { budget },
            budget_left: 0,
            dispatches: 0,
            rotation: Some(0),
            before_done: false,
            deferred_done: true,
            idle_done: true,
            idle_doubtful: false,
            lost: false,
            stopping: false,
            running: false,
            woken: false,
            turns: 0,
            delivered: [0; 13],
            refused: 0,
            counter: 0,
        }
    }

    /// A number that is higher than all before.
    fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub fn find(&mut self, handle: Handle) -> Option<&mut Source> {
        self.sources.iter_mut().find(|it| it.handle == handle)
    }

    pub fn source(&mut self, handle: Handle) -> &mut Source {
        self.find(handle).expect("a live source")
    }

    pub fn add(&mut self, mut source: Source) {
        check!(self.find(source.handle).is_none(), "the handle of another source: {:?}", source.handle);
        source.last = self.clock;
        let handle = source.handle;
        self.sources.push(source);
        self.arm_order(handle);
        self.rest(handle);
    }

    pub fn remove(&mut self, handle: Handle) {
        self.sources.retain(|it| it.handle != handle);
    }

    /// A hook that is on, and in no list, waits for its time.
    fn rest(&mut self, handle: Handle) {
        let number = self.number();
        let it = self.source(handle);
        if it.active && it.home == Home::Nowhere && it.kind != Kind::Timer && it.kind != Kind::Io {
            (it.home, it.listed) = (Home::Hooks, number);
        }
    }

    fn arm_order(&mut self, handle: Handle) {
        let number = self.number();
        let it = self.source(handle);
        // Idle timeouts come behind those that were armed for the same moment.
        it.arming = if it.idle.is_some() { NEVER } else { number };
    }

    /// `inside`: of a turn with handlers.
    pub fn set_interest(&mut self, handle: Handle, interest: Ready, inside: bool) {
        let now = self.clock;
        let it = self.source(handle);
        let before = std::mem::replace(&mut it.interest, interest);
        it.news = Ready::all();
        if inside && it.home == Home::Queue {
            // Where readiness is taken from the backend event by event, it may come to nothing at any time. (What was
            // triggered comes next turn then.)
            it.must &= it.asked();
            let came_to_nothing = it.must.is_empty() || it.triggered && it.place.rank.is_none();
            it.place.unsure |= came_to_nothing && !it.is_timed();
        }
        if before.is_empty() && !interest.is_empty() && it.idle.is_some() {
            (it.last, it.timeout_pending) = (now, false);
        }
    }

    pub fn set_idle(&mut self, handle: Handle, span: u64) {
        let now = self.clock;
        let it = self.source(handle);
        it.idle = Some(span).filter(|it| *it != 0 && *it != NEVER);
        (it.last, it.timeout_pending) = (now, false);
        self.arm_order(handle);
    }

    pub fn set_deadline(&mut self, handle: Handle, at: u64) {
        let it = self.source(handle);
        (it.deadline, it.deadline_pending, it.deadline_set) = (at, false, true);
        self.arm_order(handle);
    }

    pub fn arm(&mut self, handle: Handle, at: u64, period: u64) {
        let it = self.source(handle);
        (it.at, it.period, it.elapsed) = (at, period, 0);
        if !it.triggered {
            it.home = Home::Nowhere;
        }
        self.arm_order(handle);
    }

    pub fn trigger(&mut self, handle: Handle, flags: Ready) {
        let number = self.number();
        let it = self.source(handle);
        let again = std::mem::replace(&mut it.triggered, true);
        it.must |= flags;
        it.may |= flags;
        let scheduled = it.home == Home::Hooks && it.kind == Kind::Deferred;
        if it.is_vague() {
            it.doubt();
        } else if it.is_queued() && (it.place.unsure || it.kind == Kind::Io) {
            // (It may be found not to be queued.)
            it.listed = if again { it.listed } else { number };
        } else if !it.is_queued() && !scheduled && it.home != Home::Triggered {
            (it.home, it.listed) = (Home::Triggered, number);
        }
    }

    /// Its signal came.
    pub fn raise(&mut self, handle: Handle) {
        let it = self.source(handle);
        (it.raised, it.elapsed) = (true, it.elapsed + 1);
        self.woken = true;
    }

    pub fn wake(&mut self, handle: Handle) {
        self.source(handle).woken = true;
        self.woken = true;
    }

    /// The post was taken.
    pub fn post(&mut self, handle: Handle, value: i64) {
        let (number, level) = (self.number(), self.source(handle).level);
        let place = Place::new(level, Some((number, 0, 0, 0)));
        self.posts.push(Post { handle, value, place });
    }

    pub fn refuse(&mut self) {
        self.refused += 1;
    }

    /// `inside`: of a turn with handlers.
    pub fn set_level(&mut self, handle: Handle, level: u8, inside: bool) {
        let it = self.source(handle);
        it.level = level;
        if it.is_vague() {
            it.place.levels |= 1 << level;
        } else if inside && it.kind == Kind::Io && it.home == Home::Queue {
            // Where readiness is taken from the backend event by event, it has not been queued yet.
            it.place.levels |= 1 << level;
            it.place.rank = None;
        }
    }

    pub fn enable(&mut self, handle: Handle, on: bool) {
        let it = self.source(handle);
        it.active = on;
        if on {
            self.rest(handle);
        } else if !it.triggered {
            it.home = Home::Nowhere;
        }
    }

    pub fn defer(&mut self, handle: Handle) {
        let it = self.source(handle);
        it.active = true;
        if matches!(it.home, Home::Triggered | Home::Queue) {
            it.home = Home::Nowhere;
        }
        self.rest(handle);
    }

    /// An operation was accepted.
    pub fn submit(&mut self, handle: Handle, token: usize) {
        let place = Place { unsure: true, ..Place::new(0, None) };
        self.flights.push(Flight { handle, token, level: 0, keepalive: true, told: Told::Maybe, place });
    }

    pub fn flight(&mut self, handle: Handle) -> &mut Flight {
        self.flights.iter_mut().find(|it| it.handle == handle).expect("an operation in flight")
    }

    /// Whether there is a stream or a listener.
    fn has_vague(&self) -> bool {
        self.sources.iter().any(Source::is_vague)
    }

    /// Streams and listeners may have been queued.
    pub fn doubt_streams(&mut self) {
        self.sources.iter_mut().filter(|it| it.is_vague()).for_each(Source::doubt);
    }

    /// What was queued of a source is forgotten, unless it was triggered.
    pub fn forget(&mut self, handle: Handle) {
        let it = self.source(handle);
        if !it.triggered {
            it.home = Home::Nowhere;
        }
    }

    /// An event of a stream told of its deadline.
    pub fn deadline_told(&mut self, handle: Handle) -> bool {
        std::mem::take(&mut self.source(handle).deadline_pending)
    }

    /// Whether the deadline of a stream has passed, and was not told.
    pub fn is_deadline_due(&self, handle: Handle) -> bool {
        self.sources.iter().any(|it| it.handle == handle && it.deadline_pending)
    }

    /// Operations may have completed.
    pub fn doubt_flights(&mut self) {
        for it in self.flights.iter_mut().filter(|it| it.told == Told::No) {
            it.told = Told::Maybe;
            it.place.levels = 1 << it.level;
        }
    }

    pub fn set_flight_level(&mut self, handle: Handle, level: u8) {
        let it = self.flight(handle);
        it.level = level;
        it.place.levels = 1 << level | if it.told == Told::No { 0 } else { it.place.levels };
    }

    fn flights_told(&self, told: Told) -> usize {
        self.flights.iter().filter(|it| it.told == told).count()
    }

    /// Completions that are queued, or may be.
    fn completions(&self, kinds: Kinds) -> impl Iterator<Item = &Flight> {
        let wanted = kinds.contains(Kinds::OPERATION);
        self.flights.iter().filter(move |it| wanted && it.told != Told::No)
    }

    /// The state of a file changed. `waiting`: while a wait is under way, which may or may not tell it.
    pub fn file_changed(&mut self, file: usize, before: State, after: State, waiting: bool) {
        for it in self.sources.iter_mut().filter(|it| it.kind == Kind::Io && it.file == file && !it.closed) {
            it.news |= if waiting { NONE } else { after.must - before.must };
            it.seen |= before.may | after.may;
            if waiting {
                it.later |= before.may | after.may;
            }
        }
    }

    /// The fd of a file was closed, whether or not it is another's now.
    pub fn file_closed(&mut self, file: usize) {
        for it in self.sources.iter_mut().filter(|it| it.kind == Kind::Io && it.file == file) {
            it.closed = true;
        }
    }
}

/// The turn.
impl Model {
    /// What is surely queued.
    pub fn queued(&self) -> u32 {
        let sources = self.sources.iter().filter(|it| it.is_queued() && !it.place.unsure).count();
        (sources + self.posts.iter().filter(|it| !it.place.unsure).count() + self.flights_told(Told::Yes)) as u32
    }

    /// What of it are after-wait events.
    pub fn after_waits_queued(&self) -> u32 {
        let after = |it: &&Source| it.kind == Kind::After && it.is_queued() && !it.place.unsure;
        self.sources.iter().filter(after).count() as u32
    }

    /// What may be queued beyond that.
    pub fn unsure(&self) -> u32 {
        let sources = self.sources.iter().filter(|it| it.is_queued() && it.place.unsure).count();
        (sources + self.posts.iter().filter(|it| it.place.unsure).count() + self.flights_told(Told::Maybe)) as u32
    }

    /// What is queued, for a trace.
    pub fn shows(&self) -> String {
        let waiting = self.sources.iter().filter(|it| it.home != Home::Nowhere);
        let sources = waiting.map(|it| format!("{:x} {:?} {:?} {:?}", it.handle.raw(), it.kind, it.home, it.place));
        let posts = self.posts.iter().map(|it| format!("post to {:x} {:?}", it.handle.raw(), it.place));
        let flights = self.flights.iter().map(|it| format!("{it:?}"));
        sources.chain(posts).chain(flights).collect::<Vec<_>>().join("; ")
    }

    /// Posts that have a place: at least, and at most.
    fn posts_taken(&self) -> (usize, usize) {
        (self.posts.iter().filter(|it| !it.place.unsure).count(), self.posts.len())
    }

    /// Whether `run` goes on.
    pub fn is_alive(&self) -> bool {
        self.woken
            || self.sources.iter().any(|it| it.counts() || it.home == Home::Triggered)
            || self.flights.iter().any(|it| it.keepalive)
            || self.queued() > 0
    }

    /// Whether it may be that `run` goes on though nobody needs it.
    pub fn may_be_alive(&self) -> bool {
        self.is_alive() || self.unsure() > 0 || self.sources.iter().any(|it| it.is_vague() && it.keepalive)
    }

    /// prepare: how many before-wait events are queued now.
    pub fn prepare(&mut self) -> u32 {
        let triggered = self.sources.iter().any(|it| it.home == Home::Triggered);
        let on = |it: &Source| it.kind == Kind::Before && it.home == Home::Hooks;
        if self.before_done || !triggered && !self.sources.iter().any(on) {
            return 0;
        }
        self.before_done = true;
        let (number, mut count) = (self.number(), 0);
        for it in self.sources.iter_mut().filter(|it| it.kind == Kind::Before) {
            if matches!(it.home, Home::Hooks | Home::Triggered) {
                // Those that were triggered come behind those that are on.
                let part = u8::from(it.home == Home::Triggered);
                let rank = Some((number, part, it.listed, 0));
                it.place = Place::new(it.level, rank);
                it.home = Home::Late;
                count += 1;
            }
        }
        if count > 0 {
            self.budget_left = 0;
        }
        count
    }

    /// A wait begins. `state` is what a file is.
    pub fn begin_wait(&mut self, state: impl Fn(&Source) -> State) {
        self.doubt_flights();
        self.doubt_streams();
        for it in self.sources.iter_mut().filter(|it| it.kind == Kind::Io) {
            it.asked_during = it.asked();
            it.during = offered(it, &state);
            it.fresh = std::mem::take(&mut it.news);
            if it.closed {
                // What the kernel refuses is an event before the wait.
                may_queue(it, None);
            }
        }
    }

    /// Something may have changed while the wait is under way.
    pub fn look_again(&mut self, state: impl Fn(&Source) -> State) {
        for it in self.sources.iter_mut().filter(|it| it.kind == Kind::Io) {
            it.asked_during |= it.asked();
            let now = offered(it, &state);
            it.during = State { must: it.during.must & now.must, may: it.during.may | now.may };
        }
    }

    /// The system did not do as it was told: it may have found anything.
    pub fn doubt_wait(&mut self) {
        for it in self.sources.iter_mut().filter(|it| it.kind == Kind::Io) {
            // (What is edge-triggered may have been told, or is to be told again.)
            it.during = State { must: NONE, may: OF_FD };
        }
    }

    /// When the first source expires.
    fn first_deadline(&self) -> u64 {
        self.sources.iter().map(Source::expires).min().unwrap_or(NEVER)
    }

    /// Until when a wait would sleep, at least and at most, if nothing were ready.
    pub fn sleeps(&self, timeout: u64) -> (u64, u64) {
        let busy = |it: &Source| match it.home {
            Home::Hooks => matches!(it.kind, Kind::Idle | Kind::Deferred),
            Home::Triggered => true,
            Home::Queue | Home::Late => !it.place.unsure,
            Home::Nowhere => false,
        };
        let sure = self.posts.iter().any(|it| !it.place.unsure) || self.flights_told(Told::Yes) > 0;
        if self.woken || self.stopping || sure || self.sources.iter().any(busy) {
            return (self.now, self.now);
        }
        let until = sum(self.now, timeout).min(self.first_deadline()).max(self.now);
        // Idle timeouts are moved on when the time comes at which they were first to expire: that is a short sleep.
        // And of a closed fd the kernel may have been told something that it refused.
        let vague = |it: &Source| it.idle.is_some() || it.closed && !it.interest.is_empty();
        // Operations complete, or have a deadline of their own, or are to be handed over again.
        let early = self.unsure() > 0 || self.sources.iter().any(vague) || !self.flights.is_empty() || self.has_vague();
        (if early { self.now } else { until }, until)
    }

    /// collect, in a turn whose wait found nothing else than the files say. `now` is the loop's time after it; `inside`:
    /// of a turn with handlers, where readiness may be taken from the backend event by event.
    pub fn collect(&mut self, now: u64, inside: bool) {
        (self.now, self.clock) = (now, now);
        self.doubt_flights();
        self.doubt_streams();
        self.collect_readiness(inside);
        self.expire();
        let number = self.number();
        self.sources.iter_mut().for_each(|it| it.late |= it.connecting && it.deadline <= now);
        for it in self.sources.iter_mut().filter(|it| it.raised) {
            // (How often may have been told already.)
            it.raised = false;
            queue(it, Some((number, 1, NEVER, 0)));
        }
        for it in self.sources.iter_mut().filter(|it| it.woken) {
            (it.woken, it.triggered) = (false, true);
            let scheduled = it.home == Home::Hooks && it.kind == Kind::Deferred;
            if !scheduled {
                queue(it, Some((number, 2, 0, 0)));
            }
        }
        for it in &mut self.sources {
            if it.home == Home::Triggered {
                queue(it, Some((number, 3, it.listed, 0)));
            } else if it.home == Home::Hooks && it.kind == Kind::After {
                queue(it, Some((number, 4, it.listed, 0)));
            }
            if it.place.unsure && it.triggered && it.home == Home::Queue {
                // Triggered while nobody knew whether it was still queued: it is now.
                queue(it, None);
            }
        }
        self.woken = false;
        self.budget_left = self.budget;
        (self.before_done, self.deferred_done) = (false, false);
        (self.idle_done, self.idle_doubtful) = (false, false);
        if !self.running {
            self.stopping = false;
        }
    }

    fn collect_readiness(&mut self, inside: bool) {
        let number = self.number();
        for it in self.sources.iter_mut().filter(|it| it.kind == Kind::Io) {
            let mut found = it.during;
            if it.edge {
                found.must &= it.fresh;
                found.may |= it.seen & it.asked();
                if !found.may.is_empty() {
                    // What wakes up a poll of io_uring's names more than there is.
                    found.may |= Ready::PRIORITY & it.interest;
                }
                it.seen = std::mem::take(&mut it.later);
            }
            it.during = State::NOTHING;
            // (An entry in the kernel that cannot be removed is told of, whether or not somebody asks.)
            if found.may.is_empty() && !it.closed {
                continue;
            }
            it.must |= found.must;
            it.may |= if it.closed { OF_FD } else { found.may };
            let rank = if inside { None } else { Some((number, 0, 0, 0)) };
            if found.must.is_empty() {
                may_queue(it, rank);
            } else {
                queue(it, rank);
            }
            if it.home == Home::Triggered {
                // It is queued with the readiness, if that comes, or else behind.
                queue(it, None);
            }
        }
    }

    fn expire(&mut self) {
        let (number, now) = (self.number(), self.now);
        let mut due: Vec<usize> = (0..self.sources.len()).filter(|at| self.sources[*at].expires() <= now).collect();
        due.sort_by_key(|at| (self.sources[*at].expires(), self.sources[*at].arming));
        for at in due {
            let order = self.number();
            let it = &mut self.sources[at];
            let rank = Some((number, 1, it.expires(), it.arming));
            if it.kind == Kind::Io {
                if it.deadline <= now {
                    (it.deadline, it.deadline_pending) = (NEVER, true);
                }
                if it.idle_deadline() <= now {
                    (it.last, it.timeout_pending) = (now, true);
                }
                it.arming = if it.idle.is_some() { NEVER } else { order };
                queue(it, rank);
                continue;
            }
            if it.kind == Kind::Stream {
                (it.deadline, it.deadline_pending) = (NEVER, true);
                queue(it, None);
                continue;
            }
            let gone = if it.period == 0 || it.period == NEVER {
                it.at = NEVER;
                1
            } else {
                let gone = (now - it.at) / it.period + 1;
                let span = gone.saturating_mul(it.period);
                let next = sum(it.at, span);
                it.at = if next > now { next } else { NEVER };
                gone
            };
            it.elapsed = it.elapsed.saturating_add(i64::try_from(gone).unwrap_or(i64::MAX));
            it.arming = order;
            queue(it, rank);
        }
    }
}

/// What a wait may find for a source now.
fn offered(it: &Source, state: &impl Fn(&Source) -> State) -> State {
    let state = if it.closed { State::ANYTHING } else { state(it) };
    State { must: state.must & it.asked(), may: state.may & it.asked_during }
}

/// Puts a source among the events, if it is not there.
fn queue(it: &mut Source, rank: Rank) {
    if !it.is_queued() {
        it.place = Place::new(it.level, rank);
        it.home = Home::Queue;
    } else if it.place.unsure {
        // Where it was, or here.
        (it.place.unsure, it.place.rank) = (false, None);
        it.place.levels |= 1 << it.level;
    }
    if it.closed {
        // What the kernel refuses of it is an event before the wait.
        (it.place.levels, it.place.rank) = (0b1111, None);
    }
}

/// It may be that a source is put among the events here.
fn may_queue(it: &mut Source, rank: Rank) {
    if it.home == Home::Nowhere || it.home == Home::Queue && it.place.unsure {
        queue(it, rank);
        it.place.unsure = true;
    }
}

/// What is asked of the events.
impl Model {
    /// Whether an event of these kinds has to come next: then one of them.
    fn owed(&self, kinds: Kinds) -> Option<&Source> {
        let due = |it: &&Source| it.is_due() && !it.place.unsure && kinds.contains(it.kind.mask());
        let in_queue = |it: &&Source| it.home == Home::Queue && self.budget_left > 0;
        self.sources.iter().find(|it| (it.home == Home::Late || in_queue(it)) && due(it))
    }

    fn is_live(&self, handle: Handle) -> bool {
        self.sources.iter().any(|it| it.handle == handle)
    }

    fn owed_post(&self, kinds: Kinds) -> bool {
        let live = |it: &Post| !it.place.unsure && self.is_live(it.handle);
        self.budget_left > 0 && kinds.contains(Kinds::POST) && self.posts.iter().any(live)
    }

    /// Levels of the queue at which something of these kinds has to come.
    fn owed_levels(&self, home: Home, kinds: Kinds) -> Vec<(u8, Rank)> {
        let sources = self.sources.iter();
        let sources = sources.filter(|it| it.home == home && it.is_due() && kinds.contains(it.kind.mask()));
        let mut all: Vec<Place> = sources.map(|it| it.place).collect();
        if home == Home::Queue && kinds.contains(Kinds::POST) {
            all.extend(self.posts.iter().filter(|it| self.is_live(it.handle)).map(|it| it.place));
        }
        if home == Home::Queue {
            all.extend(self.completions(kinds).filter(|it| it.told == Told::Yes).map(|it| it.place));
        }
        all.iter().filter(|it| it.is_fixed() && !it.unsure).map(|it| (it.level(), it.rank)).collect()
    }

    /// There was no event of these kinds.
    pub fn nothing_came(&mut self, kinds: Kinds) {
        self.queue_passed(kinds);
        self.late_begins(kinds, false, false);
        let owed = self.owed(kinds);
        check!(owed.is_none(), "no event, but this was owed: {owed:?}");
    }

    /// No event of these kinds is left in the queue, or the budget is used up.
    fn queue_passed(&mut self, kinds: Kinds) {
        if self.budget_left == 0 {
            return;
        }
        check!(!self.owed_post(kinds), "a post was lost: {:?}", self.posts);
        let completed = self.completions(kinds).find(|it| it.told == Told::Yes);
        check!(completed.is_none(), "a completion was lost: {completed:?}");
        let owed = self
            .sources
            .iter()
            .find(|it| it.home == Home::Queue && it.is_due() && !it.place.unsure && kinds.contains(it.kind.mask()));
        check!(owed.is_none(), "not delivered: {owed:?}");
        let gone = |it: &Source| it.home == Home::Queue && kinds.contains(it.kind.mask());
        let dropped = !self.posts.is_empty() || self.sources.iter().any(gone) || self.completions(kinds).count() > 0;
        if self.dispatches % 8 == 7 && dropped {
            self.rotation = None; // a turn of theirs that nobody saw
        }
        for it in self.sources.iter_mut().filter(|it| gone(it)) {
            drop_event(it);
        }
        if kinds.contains(Kinds::POST) {
            self.posts.clear();
        }
        if kinds.contains(Kinds::OPERATION) {
            self.flights.iter_mut().for_each(|it| it.told = Told::No);
        }
    }

    /// Deferred sources and idle ones become events, in their time. `seen`: an idle one came; `other`: something else.
    fn late_begins(&mut self, kinds: Kinds, seen: bool, other: bool) {
        let waits = |it: &Source| it.home == Home::Hooks && matches!(it.kind, Kind::Deferred | Kind::Idle);
        if !self.sources.iter().any(|it| it.home == Home::Late || waits(it)) {
            return;
        }
        if kinds.contains(Kinds::DEFERRED) && !self.deferred_done {
            self.deferred_done = true;
            self.idle_done |= self.all_late(Kind::Deferred) > 0;
        }
        if !kinds.contains(Kinds::IDLE) || self.idle_done {
            return;
        }
        let queue = |it: &&Source| it.home == Home::Queue;
        let sure = self.sources.iter().filter(queue).any(|it| !it.place.unsure)
            || self.posts.iter().any(|it| !it.place.unsure)
            || self.flights_told(Told::Yes) > 0;
        let completed = self.completions(Kinds::all()).count();
        let any = self.sources.iter().filter(queue).count() + self.posts.len() + completed > 0;
        let idle_waits = self.sources.iter().any(|it| it.kind == Kind::Idle && it.home == Home::Hooks);
        if idle_waits && self.idle_doubtful && !seen {
            self.lost = true;
        } else if seen && !sure || !any {
            self.idle_done = true;
            self.all_late(Kind::Idle);
        } else if !sure && other && idle_waits {
            // Something may be in the queue that concerns nobody, and have kept them from being told; or they come
            // behind what else is late.
            self.lost = true;
        } else {
            self.idle_doubtful |= !sure && !idle_waits;
        }
    }

    fn all_late(&mut self, kind: Kind) -> u32 {
        let (number, mut count) = (self.number(), 0);
        for it in self.sources.iter_mut().filter(|it| it.kind == kind && it.home == Home::Hooks) {
            let rank = Some((number, 0, it.listed, 0));
            it.place = Place::new(it.level, rank);
            it.home = Home::Late;
            count += 1;
        }
        count
    }

    /// An event of these kinds came: may it be?
    pub fn event_came(&mut self, event: &Event, kinds: Kinds) {
        check!(kinds.contains(event.kind.mask()), "a kind that nobody asked for: {event:?}");
        let home = if matches!(event.kind, Kind::Post | Kind::Operation) {
            Home::Queue
        } else {
            let it = self.sources.iter().find(|it| it.handle == event.source);
            it.unwrap_or_else(|| panic!("an event of a source that is not: {event:?}")).home
        };
        if home != Home::Queue {
            self.queue_passed(kinds);
            let idle = home == Home::Hooks && event.kind == Kind::Idle;
            self.late_begins(kinds, idle, !idle);
        }
        match event.kind {
            Kind::Post => self.post_came(event, kinds),
            Kind::Operation => self.completion_came(event, kinds),
            _ => self.source_came(event, kinds),
        }
        self.delivered[event.kind as usize - 1] += 1;
        if !matches!(event.kind, Kind::Before | Kind::After) {
            // (An idle source that was triggered is something else, too.)
            self.idle_done = true;
        }
    }

    fn post_came(&mut self, event: &Event, kinds: Kinds) {
        let at = self.posts.iter().position(|it| it.handle == event.source && it.value == event.value);
        let at = at.unwrap_or_else(|| panic!("a post of nobody, or twice: {event:?}"));
        let post = self.posts.remove(at);
        let it = self.find(event.source).unwrap_or_else(|| panic!("a post to a source that is not: {event:?}"));
        let (token, level) = (it.token, it.level);
        check!((event.token, event.level, event.fd) == (token, level, -1), "{event:?}: {token} {level}");
        check!(event.ready.is_empty(), "a post with flags: {event:?}");
        self.in_order(event, post.place, Home::Queue, kinds);
    }

    fn completion_came(&mut self, event: &Event, kinds: Kinds) {
        let at = self.flights.iter().position(|it| it.handle == event.source && it.told != Told::No);
        let at = at.unwrap_or_else(|| panic!("a completion that cannot be: {event:?}"));
        let flight = self.flights.remove(at);
        check!((event.token, event.level) == (flight.token, flight.level), "{event:?}: {flight:?}");
        self.in_order(event, flight.place, Home::Queue, kinds);
    }

    fn source_came(&mut self, event: &Event, kinds: Kinds) {
        let it = self.source(event.source);
        let (home, place) = (it.home, it.place);
        check!(it.is_queued(), "it was not queued: {event:?} {it:?}");
        let fd = match it.kind {
            Kind::Signal => it.signal,
            Kind::Io | Kind::Stream | Kind::Listener => it.fd,
            _ => -1,
        };
        let known = (it.kind, it.token, it.level, fd);
        check!((event.kind, event.token, event.level, event.fd) == known, "{event:?}, but it is {known:?}");
        check!(event.ready.contains(Ready::TRIGGERED) == it.triggered, "triggered or not: {event:?} {it:?}");
        let was_due = match it.kind {
            Kind::Io => {
                check_readiness(it, event);
                true
            }
            // What each tells is looked at elsewhere.
            Kind::Stream | Kind::Listener => true,
            Kind::Timer => {
                check!(event.value == it.elapsed, "{event:?}, but {} periods are gone", it.elapsed);
                it.elapsed > 0
            }
            Kind::Signal => {
                check!(event.value == it.elapsed, "{event:?}, but it came {} times", it.elapsed);
                it.elapsed > 0
            }
            Kind::Wake => false,
            _ => it.active,
        };
        check!(was_due || it.triggered, "an event of nothing: {event:?} {it:?}");
        if event.kind != Kind::Io && !it.is_vague() {
            let quiet = event.ready - Ready::TRIGGERED;
            let counts = matches!(event.kind, Kind::Timer | Kind::Signal);
            check!(quiet.is_empty() && (counts || event.value == 0), "{event:?}");
        }
        it.home = Home::Nowhere;
        self.in_order(event, place, home, kinds);
        self.taken(event);
    }

    /// The source's state after its event was taken out.
    fn taken(&mut self, event: &Event) {
        let now = self.now;
        let it = self.source(event.source);
        it.triggered = false;
        match it.kind {
            Kind::Io => {
                (it.must, it.may) = (NONE, NONE);
                (it.timeout_pending, it.deadline_pending) = (false, false);
                it.last = it.last.max(now);
                if it.oneshot && event.ready.intersects(OF_FD) {
                    it.interest = NONE;
                }
                if it.closed {
                    // The file that the number is of now may be told of in the same collection.
                    it.may = OF_FD;
                    may_queue(it, None);
                }
            }
            Kind::Timer | Kind::Signal => it.elapsed = 0,
            Kind::Deferred => it.active = false,
            Kind::Stream | Kind::Listener => {
                it.last_before = it.last;
                it.last = it.last.max(now);
                it.doubt(); // there may be more
            }
            _ => self.rest(event.source),
        }
    }

    /// Levels in order, FIFO inside of each, every eighth dispatch for a lower one.
    fn in_order(&mut self, event: &Event, place: Place, home: Home, kinds: Kinds) {
        if home == Home::Queue {
            check!(self.budget_left > 0, "beyond the budget: {event:?}");
            self.budget_left -= 1;
            self.dispatches += 1;
        }
        let lower_turn = home == Home::Queue && self.dispatches.is_multiple_of(8);
        let owed = self.owed_levels(home, kinds);
        for (level, rank) in &owed {
            if place.levels == 1 << level
                && let (Some(one), Some(other)) = (place.rank, *rank)
            {
                check!(other >= one, "not first in, first out: {event:?}, before {other:?} of level {level}");
            }
        }
        // What else is in the queue is known too little of to forbid anything.
        let others = |it: &Place| it.unsure || !it.is_fixed();
        let in_queue = |it: &&Source| it.home == home && kinds.contains(it.kind.mask());
        let mut vague: Vec<Place> = self.sources.iter().filter(in_queue).map(|it| it.place).filter(others).collect();
        let gone = |it: &Source| !it.is_due() && !it.place.unsure;
        vague.extend(self.sources.iter().filter(in_queue).filter(|it| gone(it)).map(|it| it.place));
        if home == Home::Queue {
            vague.extend(self.posts.iter().filter(|it| !self.is_live(it.handle)).map(|it| it.place));
            vague.extend(self.completions(kinds).map(|it| it.place).filter(others));
        }
        let top = owed.iter().map(|it| it.0).chain([place.level()]).min().unwrap_or(0);
        let sure = place.is_fixed() && vague.iter().all(|it| it.is_fixed());
        if !lower_turn {
            let higher = owed.iter().find(|it| place.level() > it.0);
            check!(higher.is_none(), "out of its level: {event:?}, before level {higher:?}");
        } else if sure {
            self.lower_turn(event, place.level(), top, &owed, &vague);
        } else {
            self.rotation = None;
        }
        self.pass(place, home, kinds, lower_turn);
    }

    /// An eighth dispatch: one of the levels below the first, in rotation.
    fn lower_turn(&mut self, event: &Event, level: u8, top: u8, owed: &[(u8, Rank)], vague: &[Place]) {
        let waits = |level: u8| owed.iter().any(|it| it.0 == level);
        let lower = (top + 1..4).any(waits) || level > top;
        // A level that holds only what nobody will get still counts as the first, or has a turn for nothing.
        let above = vague.iter().any(|it| it.level() <= top);
        if level == top {
            check!(!lower || above, "the lower levels were passed over: {event:?}, {owed:?}");
            self.rotation = self.rotation.filter(|_| vague.is_empty());
            return;
        }
        if let Some(last) = self.rotation.filter(|_| vague.is_empty()) {
            let next = (1..5).map(|step| (last + step) % 4).find(|it| *it > top && (*it == level || waits(*it)));
            check!(next == Some(level), "not in rotation: {event:?}, after level {last}, {owed:?}");
        }
        self.rotation = Some(level);
    }

    /// What was in front of an event and did not come was dropped, or may have been.
    fn pass(&mut self, place: Place, home: Home, kinds: Kinds, lower_turn: bool) {
        if home != Home::Queue {
            return;
        }
        let before = |other: Place| match (other.rank, place.rank) {
            (Some(one), Some(two)) if one != two => Some(one < two),
            _ => None,
        };
        // Whether it was passed: yes, no, or unknown.
        let passed = |other: Place| {
            if !other.is_fixed() || !place.is_fixed() || lower_turn {
                None
            } else if other.levels == place.levels {
                before(other)
            } else {
                Some(other.levels < place.levels)
            }
        };
        for it in self.sources.iter_mut().filter(|it| it.home == Home::Queue && kinds.contains(it.kind.mask())) {
            if it.is_due() {
                continue;
            }
            match passed(it.place) {
                Some(true) => drop_event(it),
                Some(false) => {}
                None => {
                    it.place.unsure = true;
                    it.must = NONE;
                }
            }
        }
        if kinds.contains(Kinds::POST) {
            let live: Vec<bool> = self.posts.iter().map(|it| self.is_live(it.handle)).collect();
            let mut live = live.iter();
            self.posts.retain_mut(|it| {
                if *live.next().unwrap_or(&true) {
                    return true;
                }
                let gone = passed(it.place);
                it.place.unsure |= gone.is_none();
                gone != Some(true)
            });
        }
    }

    /// What the loop says is queued, and how many posts: that settles some doubts. `inside`: of a turn with handlers;
    /// `waiting`: while a wait is under way.
    pub fn settle(&mut self, queued: u32, posts: u32, inside: bool, waiting: bool) {
        let (least, most) = self.posts_taken();
        check!((least..=most).contains(&(posts as usize)), "{posts} posts, but there are {least} to {most}");
        if posts as usize == least {
            self.posts.retain(|it| !it.place.unsure);
        } else if posts as usize == most {
            self.posts.iter_mut().for_each(|it| it.place.unsure = false);
        }
        if waiting && self.sources.iter().any(|it| it.closed) {
            return; // what the kernel refuses of them is queued already
        }
        let least = self.queued();
        let most = least + self.unsure();
        if inside {
            check!(queued <= most, "{queued} are queued, but there are {most}");
            return;
        }
        check!((least..=most).contains(&queued), "{queued} are queued, but there are {least} to {most}");
        // Some doubts are settled by that.
        for it in self.sources.iter_mut().filter(|it| it.is_queued() && it.place.unsure) {
            if queued == most {
                it.place.unsure = false;
            } else if queued == least {
                drop_event(it);
            }
        }
        for it in self.flights.iter_mut().filter(|it| it.told == Told::Maybe) {
            if queued == most {
                (it.told, it.place.unsure) = (Told::Yes, false);
            } else if queued == least {
                it.told = Told::No;
            }
        }
    }

    pub fn delivered(&self, kind: Kind) -> u64 {
        self.delivered[kind as usize - 1]
    }

    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether a wait finds something, and whether it may.
    pub fn finds(&self) -> (bool, bool) {
        let io = || self.sources.iter().filter(|it| it.kind == Kind::Io);
        let sure = io().any(|it| !it.during.must.is_empty() && !it.edge);
        let possible = io().any(|it| !it.during.may.is_empty() || it.edge || it.closed);
        (sure, possible || !self.flights.is_empty() || self.has_vague())
    }
}

/// An event was dropped since it concerned nobody.
fn drop_event(it: &mut Source) {
    if it.is_vague() && (it.triggered || it.deadline_pending) {
        // It comes next turn, if not in this one.
        it.home = Home::Nowhere;
        it.doubt();
        return;
    }
    if it.triggered {
        // It was gone when it was triggered, and so comes next turn.
        it.home = Home::Triggered;
        return;
    }
    it.home = Home::Nowhere;
    (it.must, it.may) = (NONE, NONE);
    (it.timeout_pending, it.deadline_pending) = (false, false);
}

fn check_readiness(it: &Source, event: &Event) {
    let told = event.ready & OF_FD;
    let must = it.must & it.asked();
    // With ERROR or HANGUP come the directions that were asked for.
    let complete = it.may.intersects(Ready::ERROR | Ready::HANGUP);
    let may = (it.may | if complete { Ready::READABLE | Ready::WRITABLE } else { NONE }) & it.asked();
    check!(may.contains(told), "more than is ready, or was asked for: {event:?} {it:?}");
    check!(told.contains(must), "less than is ready: {event:?} {it:?}");
    check!(event.ready.contains(Ready::DEADLINE) == it.deadline_pending, "the deadline: {event:?} {it:?}");
    let alone = (event.ready - Ready::TIMEOUT).is_empty();
    let timeout = event.ready.contains(Ready::TIMEOUT);
    check!(!timeout || alone, "a timeout beside something else: {event:?}");
    check!(timeout == (alone && it.timeout_pending && !it.interest.is_empty()), "the timeout: {event:?} {it:?}");
    check!(!event.ready.is_empty() && event.value == 0, "an event of nothing: {event:?} {it:?}");
}
