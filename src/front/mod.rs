//! The loop for Rust: typed handlers, no unsafe in the user's code.
#![allow(unsafe_code)]

#[cfg(feature = "streams")]
mod listeners;
#[cfg(feature = "operations")]
mod memory;
#[cfg(feature = "operations")]
mod operations;
mod pool;
mod remote;
#[cfg(feature = "streams")]
mod streams;

#[cfg(feature = "streams")]
pub use listeners::ListenOptions;
#[cfg(feature = "operations")]
pub use memory::{Buffer, Message, Part, Path, Vectors};
pub use pool::Pool;
pub use remote::{Stopper, Waker};
#[cfg(feature = "streams")]
pub use streams::{Received, SendRequest};

#[cfg(feature = "operations")]
use crate::aio::Aio;
#[cfg(feature = "simulator")]
use crate::backend::Simulator;
use crate::backend::{Given, Ready};
use crate::engine::core::Core;
use crate::engine::{Config, Engine, Event, Statistics, Taken};
use crate::error::Result;
use crate::handle::{Handle, Kind, Kinds};
use crate::ring::Ring;
use crate::storage::Storage;
use crate::storage::slot::Target;
use crate::time::{Duration, Instant};
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

/// A handler: it gets the program's state, the loop, and what happened. It runs to completion and should not block.
///
/// It may do everything: remove its own source or any other, add some, stop the loop, poll or turn the loop again.
pub type Handler<'s, App> = fn(&mut App, &Loop<'s, App>, Event);

/// Why [`Loop::run`] returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// [`Loop::stop`] or a [`Stopper`].
    Stopped,
    /// Nothing was left that keeps the loop alive.
    NothingLeft,
}

/// An fd that a foreign loop has to watch for becket, and what for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Watch {
    /// The fd.
    pub fd: i32,
    /// Readable, writable, priority.
    pub interest: Ready,
}

/// What a new I/O source is to be like, beyond its interest.
pub use crate::engine::io::IoOptions;

/// An event loop in the memory of a [`Storage`], with handlers that share an `App`.
///
/// All methods take `&self`: a handler gets the loop and may call any of them. A loop may be built in one thread and
/// moved to another; it belongs to the one that first waits (EPERM elsewhere), and is not `Sync`. Wakes from other
/// threads go through a [`Waker`].
///
/// On borrowed storage the kernel, signal handlers and other threads keep no pointer into it, so that a leaked loop
/// is harmless; what they may touch later (signals, children, wakers) needs `Loop<'static, App>`, on a
/// `&'static mut Storage`: see [`StaticStorage`](crate::StaticStorage).
///
/// ```
/// use becket::{Config, Event, Loop, Ready, Storage};
/// use std::io::{Read, Write};
/// use std::os::fd::AsRawFd;
/// use std::os::unix::net::UnixStream;
///
/// struct App { stream: UnixStream, received: Vec<u8> }
///
/// fn on_readable(app: &mut App, event_loop: &Loop<App>, event: Event) {
///     let mut buffer = [0; 64];
///     let count = app.stream.read(&mut buffer).unwrap();
///     app.received.extend_from_slice(&buffer[..count]);
///     event_loop.remove(event.source).unwrap(); // before it is closed
/// }
///
/// let (mut ours, theirs) = UnixStream::pair().unwrap();
/// ours.write_all(b"hello").unwrap();
/// let mut storage = Storage::<4, 0>::new();
/// let event_loop = Loop::new(&mut storage, &Config::default())?;
/// event_loop.add_io(theirs.as_raw_fd(), Ready::READABLE, on_readable, 0)?;
/// let mut app = App { stream: theirs, received: Vec::new() };
/// event_loop.run(&mut app)?;
/// assert_eq!(app.received, b"hello");
/// # Ok::<(), becket::Error>(())
/// ```
pub struct Loop<'s, App> {
    core: NonNull<Core>,
    _storage: PhantomData<&'s mut ()>,
    /// Handlers of this very type lie in the slots, so neither it nor `'s` may vary.
    _handlers: PhantomData<Invariant<'s, App>>,
}

// SAFETY: nothing of a loop is bound to a thread before its first wait, and that is checked; the handlers are plain
// functions, and the App is never kept.
unsafe impl<App> Send for Loop<'_, App> {}

/// What lets neither `App` nor `'s` be exchanged for a similar one.
type Invariant<'s, App> = (fn(&mut App), fn(&'s ()) -> &'s ());

/// Making, running.
impl<'s, App> Loop<'s, App> {
    /// Makes a loop in a storage. ENOTSUP: the backend is not built in, or the storage has operations. EMFILE, ENFILE,
    /// ENOMEM: the system has no descriptor for waking. O(sources), and touches only the pages of the head and the
    /// fd index.
    pub fn new<const S: usize, const P: usize, const O: usize>(
        storage: &'s mut Storage<S, P, O>,
        config: &Config,
    ) -> Result<Loop<'s, App>> {
        Loop::make(storage, config, Given::default())
    }

    /// Makes a loop that lives in a simulator: [`BackendChoice::Auto`](crate::BackendChoice::Auto) is then
    /// [`Simulator`](crate::BackendChoice::Simulator). Its sources are descriptors of the simulator; its time is the
    /// simulator's, and passes when the loop waits; signals and children are the real ones. A simulator serves one loop,
    /// the latest: waits of an earlier one are ESTALE. A wait that nothing can ever end is EDEADLK.
    ///
    /// EPERM: another thread made the simulator; else as [`Loop::new`].
    ///
    /// ```
    /// use becket::{Config, Duration, Event, Instant, Loop, Ready, Simulator, SimulatorMemory, Storage};
    ///
    /// fn on_ready(seen: &mut Vec<u64>, event_loop: &Loop<Vec<u64>>, event: Event) {
    ///     let simulator = event_loop.simulator().expect("it is in one");
    ///     seen.push(simulator.now().as_nanos());
    ///     simulator.set_ready(event.fd, Ready::empty()).unwrap();
    ///     event_loop.stop().unwrap();
    /// }
    ///
    /// let mut memory = SimulatorMemory::<8, 32>::new();
    /// let simulator = Simulator::new(&mut memory, /* seed */ 1);
    /// let mut storage = Storage::<4, 0>::new();
    /// let event_loop = Loop::simulated(&mut storage, simulator, &Config::default())?;
    /// let fd = simulator.scripted()?;
    /// simulator.ready_at(fd, Instant::from_nanos(5_000_000_000), Ready::READABLE)?;
    /// event_loop.add_io(fd, Ready::READABLE, on_ready, 0)?;
    /// let mut seen = Vec::new();
    /// event_loop.run(&mut seen)?; // takes no time at all
    /// assert_eq!(seen, [5_000_000_000]);
    /// # Ok::<(), becket::Error>(())
    /// ```
    #[cfg(feature = "simulator")]
    pub fn simulated<const S: usize, const P: usize, const O: usize>(
        storage: &'s mut Storage<S, P, O>,
        simulator: Simulator<'s>,
        config: &Config,
    ) -> Result<Loop<'s, App>> {
        Loop::make(storage, config, Given { simulator: Some(simulator.memory()), ..Given::default() })
    }

    /// The simulator that the loop lives in, if it does. O(1).
    #[cfg(feature = "simulator")]
    #[must_use]
    pub fn simulator(&self) -> Option<Simulator<'s>> {
        self.core().look(|engine| Ok(engine.simulator())).ok()?.map(Simulator::from_memory)
    }

    fn make<const S: usize, const P: usize, const O: usize>(
        storage: &'s mut Storage<S, P, O>,
        config: &Config,
        given: Given,
    ) -> Result<Loop<'s, App>> {
        // SAFETY: the storage is borrowed for as long as the loop lives; a loop that was leaked in it cannot be used
        // any more, since the borrow that it lived by has ended. Ring memory is borrowed for ever.
        let core = unsafe { Core::init(&storage.block(), config, given, true) }?;
        Ok(Loop { core, _storage: PhantomData, _handlers: PhantomData })
    }

    pub(crate) fn core(&self) -> &Core {
        // SAFETY: the storage outlives the loop, and `Core` is only handed out shared.
        unsafe { self.core.as_ref() }
    }

    fn with<R>(&self, call: impl FnOnce(&mut Engine) -> Result<R>) -> Result<R> {
        self.core().with(call)
    }

    fn target(handler: Option<Handler<'s, App>>, token: usize) -> Target {
        Target { handler: handler.map_or(ptr::null(), |it| it as *const ()), user: ptr::without_provenance_mut(token) }
    }

    fn call(&self, app: &mut App, handler: *const (), event: Event) {
        if handler.is_null() {
            return;
        }
        // SAFETY: only `target` makes handlers for this loop, of this very type.
        let handler = unsafe { core::mem::transmute::<*const (), Handler<'s, App>>(handler) };
        handler(app, self, event);
    }

    /// Turns until [`Loop::stop`], or until nothing is left that keeps the loop alive. EBUSY: called in a handler.
    /// EINTR, where the configuration asks for it.
    /// A turn is O(sources) on select and poll, and O(log n) an event at most.
    pub fn run(&self, app: &mut App) -> Result<Outcome> {
        let stopped = self.core().run(&mut |taken: &Taken| self.call(app, taken.handler, taken.event()))?;
        Ok(if stopped { Outcome::Stopped } else { Outcome::NothingLeft })
    }

    /// One turn: waits for at most `timeout`, and calls the handlers of what happened. How many events it had. Legal
    /// in a handler. O(sources) on select and poll, and O(log n) an event at most.
    pub fn turn(&self, app: &mut App, timeout: Duration) -> Result<u32> {
        self.core().turn(timeout, &mut |taken: &Taken| self.call(app, taken.handler, taken.event()))
    }

    /// Makes `run` return after the handler that runs now. Kept until a `run` takes it; outside of one it ends one
    /// wait. O(1).
    pub fn stop(&self) -> Result<()> {
        self.core().shared.stop()
    }

    /// The pull form: waits for at most `timeout` and queues what happened; how many events are queued. Before-wait
    /// events, and then their number, end it before the wait. It does not sleep while events are queued, of whatever kind. Legal in a handler.
    /// O(sources) on select and poll.
    ///
    /// ```
    /// use becket::{Config, Duration, Kinds, Loop, Storage};
    ///
    /// let mut storage = Storage::<4, 4>::new();
    /// let event_loop = Loop::<()>::new(&mut storage, &Config::default())?;
    /// let target = event_loop.add_wake_pulled(7)?;
    /// event_loop.post(target, 42)?;
    /// assert_eq!(event_loop.poll(Duration::ZERO)?, 1);
    /// let event = event_loop.next(Kinds::all())?.expect("one is queued");
    /// assert_eq!((event.source, event.value, event.token), (target, 42, 7));
    /// # Ok::<(), becket::Error>(())
    /// ```
    pub fn poll(&self, timeout: Duration) -> Result<u32> {
        self.core().poll(timeout)
    }

    /// Takes out the next event of one of these kinds; `None`: there is none, or the turn's budget is used up. O(1)
    /// for all kinds, beside the streams before it that send and have nothing to tell; O(events before it) when a mask selects.
    pub fn next(&self, kinds: Kinds) -> Result<Option<Event>> {
        Ok(self.core().next(kinds)?.map(|taken| taken.event()))
    }

    /// The handler that runs has done as much work as so many events more: what is left of the budget is the less by them, and what is
    /// beyond it comes in the next turn, after another look at timers and readiness. Each wait begins a budget anew. O(1).
    pub fn spend(&self, events: u32) -> Result<()> {
        self.with(|engine| {
            engine.spend(events);
            Ok(())
        })
    }

    /// Calls the handler of an event that [`Loop::next`] gave. ESTALE: its source was removed meanwhile. O(1).
    pub fn dispatch(&self, app: &mut App, event: Event) -> Result<()> {
        let target = self.with(|engine| {
            #[cfg(feature = "streams")]
            if event.stream == Some(crate::engine::StreamEvent::Closed) {
                return engine.target_of_closed(event.source);
            }
            engine.target_of_event(event.source)
        })?;
        self.core().handling(|| self.call(app, target.handler, event))
    }

    /// Phase 1 of [`Loop::poll`], for a program that sleeps elsewhere. How many before-wait events were queued: take
    /// them, and call this again; 0: the wait is prepared. O(sources) on select and poll.
    pub fn prepare(&self, timeout: Duration) -> Result<u32> {
        self.core().prepare(timeout)
    }

    /// How long the wait that was prepared will be at most. O(1).
    pub fn timeout(&self) -> Result<Duration> {
        self.core().timeout()
    }

    /// What a foreign loop has to watch while it sleeps: how many fds that are; as many as fit are written. O(sources).
    pub fn watches(&self, watches: &mut [Watch]) -> Result<usize> {
        self.core().look(|engine| {
            let mut total = 0;
            engine.each_watch(|fd, interest| {
                if let Some(watch) = watches.get_mut(total) {
                    *watch = Watch { fd, interest };
                }
                total += 1;
            });
            Ok(total)
        })
    }

    /// Phase 2, the only call that blocks. Without a preparation it does nothing. EPERM: the loop is another thread's.
    /// EINTR, where the configuration asks for it: [`Loop::collect`] is due all the same. O(sources) in the kernel, on
    /// select and poll.
    pub fn wait(&self) -> Result<()> {
        self.core().wait()
    }

    /// Phase 3: queues what happened; how many events are queued. O(what happened), and O(sources) on select and poll.
    pub fn collect(&self) -> Result<u32> {
        self.core().collect()
    }

    /// The time of this turn. O(1).
    pub fn now(&self) -> Result<Instant> {
        self.core().look(|engine| Ok(engine.now()))
    }

    /// Moves virtual time on. ENOTSUP: the loop's time is real. O(1).
    pub fn advance(&self, span: Duration) -> Result<()> {
        self.with(|engine| engine.advance(span))
    }

    /// Which backend, and why this one (empty where it was asked for). O(1).
    #[must_use]
    pub fn backend(&self) -> (&'static str, &'static str) {
        let names = self.core().look(|engine| Ok((engine.backend_name(), engine.backend_note())));
        names.map_or(("", ""), |(name, note)| (name.to_str().unwrap_or(""), note.to_str().unwrap_or("")))
    }

    /// The descriptor of the backend, for a foreign loop: readable, after [`Loop::prepare`], when there is something to
    /// collect. ENOTSUP: only epoll has one that tells of everything; see [`Loop::watches`]. The number stays the same. Behind
    /// it there is another file when an fd was closed before its source was removed, and a copy was open elsewhere: a foreign
    /// loop on epoll has to be given the number again then. O(1).
    pub fn fd(&self) -> Result<i32> {
        self.core().look(|engine| engine.backend_fd())
    }

    /// What the loop has counted; zeros in a forked child. O(1).
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.core().look(|engine| Ok(engine.statistics())).unwrap_or_default()
    }
}

/// Sources of all kinds. ENOSPC: the table is full; ESTALE: the source was removed.
impl<'s, App> Loop<'s, App> {
    /// A source for an fd, which stays the caller's: remove the source before closing it. EBADF; EEXIST: the fd has a
    /// source; EPERM: a regular file, directory or block device; EINVAL: the backend cannot watch it; ENOTSUP: not with
    /// these options. O(1) expected.
    pub fn add_io(&self, fd: i32, interest: Ready, handler: Handler<'s, App>, token: usize) -> Result<Handle> {
        self.add_io_with(fd, interest, IoOptions::default(), Some(handler), token)
    }

    /// The same with options; without a handler it is for [`Loop::next`] alone. O(1) expected.
    pub fn add_io_with(
        &self,
        fd: i32,
        interest: Ready,
        options: IoOptions,
        handler: Option<Handler<'s, App>>,
        token: usize,
    ) -> Result<Handle> {
        self.with(|engine| engine.add_io(fd, interest, options, Self::target(handler, token)))
    }

    /// The interest from now on; an empty one pauses the source: it is silent, HANGUP and ERROR included, and costs
    /// nothing. On an edge-triggered source the same again tells anew what is ready. EINVAL: not an I/O source, or
    /// PRIORITY of an exclusive one. O(1).
    pub fn modify_io(&self, source: Handle, interest: Ready) -> Result<()> {
        self.with(|engine| engine.modify_io(source, interest, None))
    }

    /// Whether the interest becomes empty on delivery, from now on. EINVAL: not an I/O source. O(1).
    pub fn set_oneshot(&self, source: Handle, on: bool) -> Result<()> {
        self.with(|engine| {
            let (interest, _) = engine.io_interest(source)?;
            engine.modify_io(source, interest, Some(on))
        })
    }

    /// Whether the interest becomes empty on delivery. O(1).
    pub fn is_oneshot(&self, source: Handle) -> Result<bool> {
        self.core().look(|engine| engine.io_interest(source).map(|(_, options)| options.oneshot))
    }

    /// Adds directions to the interest and takes others away. O(1).
    pub fn change_io(&self, source: Handle, set: Ready, clear: Ready) -> Result<()> {
        self.with(|engine| engine.change_io(source, set, clear))
    }

    /// [`Ready::TIMEOUT`] whenever nothing was delivered for so long; [`Duration::FOREVER`]: no more. O(log n).
    pub fn set_idle_timeout(&self, source: Handle, span: Duration) -> Result<()> {
        self.with(|engine| engine.set_idle_timeout(source, span))
    }

    /// [`Ready::DEADLINE`] after `delay`, whatever is delivered until then; [`Duration::FOREVER`]: none. O(log n).
    pub fn set_deadline(&self, source: Handle, delay: Duration) -> Result<()> {
        self.with(|engine| engine.set_io_deadline_after(source, delay))
    }

    /// [`Ready::DEADLINE`] at a point in time; [`Instant::NEVER`]: none. O(log n).
    pub fn set_deadline_at(&self, source: Handle, at: Instant) -> Result<()> {
        self.with(|engine| engine.set_io_deadline(source, at))
    }

    /// The idle timeout of a source, as it is kept; [`Duration::FOREVER`]: none. O(1).
    pub fn idle_timeout(&self, source: Handle) -> Result<Duration> {
        self.core().look(|engine| engine.io_idle_timeout(source))
    }

    /// The fixed deadline of a source; [`Instant::NEVER`]: none, or it has passed. O(1).
    pub fn deadline(&self, source: Handle) -> Result<Instant> {
        self.core().look(|engine| engine.io_deadline(source))
    }

    /// The source of an fd. ENOENT: it has none. O(1) expected.
    pub fn find_io(&self, fd: i32) -> Result<Handle> {
        self.core().look(|engine| engine.find_io(fd))
    }

    /// The fd of a source. O(1).
    pub fn io_fd(&self, source: Handle) -> Result<i32> {
        self.core().look(|engine| engine.io_fd(source))
    }

    /// The options of a source, but for `trusted`, which is not kept. O(1).
    pub fn io_options(&self, source: Handle) -> Result<IoOptions> {
        self.core().look(|engine| engine.io_interest(source).map(|(_, options)| options))
    }

    /// The interest of a source. O(1).
    pub fn io_interest(&self, source: Handle) -> Result<Ready> {
        self.core().look(|engine| engine.io_interest(source).map(|(interest, _)| interest))
    }

    /// A timer: after `delay` ([`Duration::FOREVER`]: disarmed), then every `period` ([`Duration::ZERO`]: never again).
    /// Never early; missed periods come as one event with their number. The slot stays until it is removed. O(log n).
    ///
    /// ```
    /// use becket::{Config, Duration, Event, Kinds, Loop, Storage};
    ///
    /// fn on_timer(fired: &mut i64, _: &Loop<i64>, event: Event) {
    ///     *fired += event.value;
    /// }
    ///
    /// let config = Config { virtual_clock: true, ..Config::default() };
    /// let mut storage = Storage::<4, 0>::new();
    /// let event_loop = Loop::new(&mut storage, &config)?;
    /// event_loop.add_timer(Duration::from_millis(10), Duration::from_millis(10), on_timer, 0)?;
    /// event_loop.advance(Duration::from_millis(35))?; // virtual time
    /// let mut fired = 0;
    /// event_loop.turn(&mut fired, Duration::ZERO)?;
    /// assert_eq!(fired, 3);
    /// # Ok::<(), becket::Error>(())
    /// ```
    pub fn add_timer(
        &self,
        delay: Duration,
        period: Duration,
        handler: Handler<'s, App>,
        token: usize,
    ) -> Result<Handle> {
        self.with(|engine| engine.add_timer(delay, period, Self::target(Some(handler), token)))
    }

    /// The same without a handler, for [`Loop::next`]. O(log n).
    pub fn add_timer_pulled(&self, delay: Duration, period: Duration, token: usize) -> Result<Handle> {
        self.with(|engine| engine.add_timer(delay, period, Self::target(None, token)))
    }

    /// Arms or re-arms a timer, from a fresh clock reading. EINVAL: not a timer. O(log n).
    pub fn arm_timer(&self, timer: Handle, delay: Duration, period: Duration) -> Result<()> {
        self.with(|engine| engine.arm_timer(timer, delay, period))
    }

    /// The same at a point in time; no clock reading. O(log n).
    pub fn arm_timer_at(&self, timer: Handle, at: Instant, period: Duration) -> Result<()> {
        self.with(|engine| engine.arm_timer_at(timer, at, period))
    }

    /// Disarms a timer; expirations that are queued are forgotten. O(log n).
    pub fn disarm_timer(&self, timer: Handle) -> Result<()> {
        self.with(|engine| engine.disarm_timer(timer))
    }

    /// When a timer expires next; [`Instant::NEVER`]: it is disarmed. O(1).
    pub fn timer_deadline(&self, timer: Handle) -> Result<Instant> {
        self.core().look(|engine| engine.timer_deadline(timer))
    }

    /// The period of a timer; [`Duration::ZERO`]: it is one-shot. O(1).
    pub fn timer_period(&self, timer: Handle) -> Result<Duration> {
        self.core().look(|engine| engine.timer_period(timer))
    }

    /// A source of nothing: a target for triggers and posts, and for a [`Waker`]. O(1).
    pub fn add_wake(&self, handler: Handler<'s, App>, token: usize) -> Result<Handle> {
        self.with(|engine| engine.add_wake(Self::target(Some(handler), token)))
    }

    /// The same without a handler, for [`Loop::next`]. O(1).
    pub fn add_wake_pulled(&self, token: usize) -> Result<Handle> {
        self.with(|engine| engine.add_wake(Self::target(None, token)))
    }

    /// Called before every wait. O(1).
    pub fn add_before(&self, handler: Handler<'s, App>, token: usize) -> Result<Handle> {
        self.with(|engine| engine.add_hook(Kind::Before, Self::target(Some(handler), token)))
    }

    /// Called after every wait. O(1).
    pub fn add_after(&self, handler: Handler<'s, App>, token: usize) -> Result<Handle> {
        self.with(|engine| engine.add_hook(Kind::After, Self::target(Some(handler), token)))
    }

    /// Called when a turn had nothing else; as long as it is on, no turn sleeps. O(1).
    pub fn add_idle(&self, handler: Handler<'s, App>, token: usize) -> Result<Handle> {
        self.with(|engine| engine.add_hook(Kind::Idle, Self::target(Some(handler), token)))
    }

    /// Turns a before-wait, after-wait or idle source on or off. O(1).
    pub fn enable_hook(&self, hook: Handle, on: bool) -> Result<()> {
        self.with(|engine| engine.enable_hook(hook, on))
    }

    /// Whether a hook is on, or a deferred source scheduled. O(1).
    pub fn hook_enabled(&self, hook: Handle) -> Result<bool> {
        self.core().look(|engine| engine.hook_enabled(hook))
    }

    /// A source that [`Loop::defer`] schedules. O(1).
    pub fn add_deferred(&self, handler: Handler<'s, App>, token: usize) -> Result<Handle> {
        self.with(|engine| engine.add_hook(Kind::Deferred, Self::target(Some(handler), token)))
    }

    /// Schedules a deferred source: once, after this turn's events. EINVAL: another kind. O(1).
    pub fn defer(&self, deferred: Handle) -> Result<()> {
        self.with(|engine| engine.defer(deferred))
    }

    /// Removes a source: nothing of it is delivered after this. The fd of an I/O source stays open. O(log n).
    pub fn remove(&self, source: Handle) -> Result<()> {
        self.with(|engine| engine.remove(source))
    }

    /// Merges readiness into a source (none at all for sources that are no I/O): delivered next turn, with
    /// [`Ready::TRIGGERED`]. Cannot fail for space. O(1).
    pub fn trigger(&self, source: Handle, flags: Ready) -> Result<()> {
        self.with(|engine| engine.trigger(source, flags))
    }

    /// Sends a value to a source. ENOBUFS: all posts are under way; the value is still the caller's. O(1).
    pub fn post(&self, source: Handle, value: i64) -> Result<()> {
        self.with(|engine| engine.post(source, value))
    }

    /// Level 0 (first) to 3, from the next queueing on. EINVAL: above 3. O(1).
    pub fn set_level(&self, source: Handle, level: u8) -> Result<()> {
        self.with(|engine| engine.set_level(source, level))
    }

    /// The level of a source. O(1).
    pub fn level(&self, source: Handle) -> Result<u8> {
        self.core().look(|engine| engine.level(source))
    }

    /// Whether `run` goes on for this source's sake; on at first. O(1).
    pub fn set_keepalive(&self, source: Handle, on: bool) -> Result<()> {
        self.with(|engine| engine.set_keepalive(source, on))
    }

    /// Whether `run` goes on for this source's sake. O(1).
    pub fn keepalive(&self, source: Handle) -> Result<bool> {
        self.core().look(|engine| engine.keepalive(source))
    }

    /// Another handler and token, from the next event on. O(1).
    pub fn set_handler(&self, source: Handle, handler: Option<Handler<'s, App>>, token: usize) -> Result<()> {
        self.with(|engine| engine.set_target(source, Self::target(handler, token)))
    }

    /// The token of a source. O(1).
    pub fn token(&self, source: Handle) -> Result<usize> {
        self.core().look(|engine| engine.target(source).map(|target| target.user.addr()))
    }

    /// The kind of a source. O(1).
    pub fn kind(&self, source: Handle) -> Result<Kind> {
        self.core().look(|engine| engine.kind(source))
    }
}

/// What the kernel, other threads and signal handlers may touch later: only in memory that is never given back.
impl<App> Loop<'static, App> {
    /// Makes a loop with memory for the rings of io_uring, which [`BackendChoice::Auto`](crate::BackendChoice::Auto) then
    /// takes where the kernel grants it.
    ///
    /// ```
    /// use becket::{Config, Loop, Ring, Storage};
    ///
    /// let storage = Box::leak(Box::new(Storage::<16, 4>::new())); // or statics
    /// let ring = Box::leak(Box::new(Ring::<64>::new()));
    /// let event_loop = Loop::<()>::with_ring(storage, ring, &Config::default())?;
    /// let (name, why) = event_loop.backend();
    /// assert!(name == "io_uring" || !why.is_empty());
    /// # Ok::<(), becket::Error>(())
    /// ```
    pub fn with_ring<const S: usize, const P: usize, const O: usize, const ENTRIES: usize>(
        storage: &'static mut Storage<S, P, O>,
        ring: &'static mut Ring<ENTRIES>,
        config: &Config,
    ) -> Result<Loop<'static, App>> {
        Loop::make(storage, config, Given { ring: Some(ring.memory()), ..Given::default() })
    }

    /// Makes a loop with memory for POSIX AIO, which [`FilesChoice::Auto`](crate::FilesChoice::Auto) takes where io_uring is not to
    /// be had. Without feature `aio`, and on systems that have none, nobody looks at it. ENOBUFS comes from [`Loop::new`]
    /// where such a loop is asked for.
    ///
    /// ```
    /// use becket::{Aio, Config, FilesChoice, Loop, Storage};
    ///
    /// let storage = Box::leak(Box::new(Storage::<16, 0, 8>::new())); // or statics
    /// let aio = Box::leak(Box::new(Aio::<8>::new()));
    /// let config = Config { files: FilesChoice::Aio, ..Config::default() };
    /// match Loop::<()>::with_aio(storage, aio, &config) {
    ///     Ok(event_loop) => assert_eq!(event_loop.files(), ("aio", "")),
    ///     Err(error) => assert_eq!(error, becket::Error::UNSUPPORTED), // a build without it
    /// }
    /// ```
    #[cfg(feature = "operations")]
    pub fn with_aio<const S: usize, const P: usize, const O: usize, const COUNT: usize>(
        storage: &'static mut Storage<S, P, O>,
        aio: &'static mut Aio<COUNT>,
        config: &Config,
    ) -> Result<Loop<'static, App>> {
        Loop::make(storage, config, Given { aio: Some(aio.memory()), ..Given::default() })
    }

    /// A signal, as an event and never in signal context; counted. The old disposition comes back on removal. EINVAL: no
    /// such signal; EBUSY: another loop has it; EEXIST: this one has a source for it. One system call. O(1).
    pub fn add_signal(&self, signal: i32, handler: Handler<'static, App>, token: usize) -> Result<Handle> {
        self.with(|engine| engine.add_signal(signal, Self::target(Some(handler), token)))
    }

    /// The end of one child, reaped, with its status. ECHILD: `pid` is not a child of ours. O(1).
    pub fn add_child(&self, pid: i32, handler: Handler<'static, App>, token: usize) -> Result<Handle> {
        self.with(|engine| engine.add_child(pid, Self::target(Some(handler), token)))
    }

    /// The signal that a source was made for. EINVAL: it is of another kind. O(1).
    pub fn signal_number(&self, source: Handle) -> Result<i32> {
        self.core().look(|engine| engine.number(source, Kind::Signal))
    }

    /// The process that a source was made for. EINVAL: it is of another kind. O(1).
    pub fn child_pid(&self, source: Handle) -> Result<i32> {
        self.core().look(|engine| engine.number(source, Kind::Child))
    }

    /// What wakes a source of this loop from any thread or signal handler. O(1).
    ///
    /// ```
    /// use becket::{Config, Event, Loop, Storage};
    ///
    /// fn on_wake(woken: &mut bool, event_loop: &Loop<bool>, _: Event) {
    ///     *woken = true;
    ///     event_loop.stop().unwrap();
    /// }
    ///
    /// let storage = Box::leak(Box::new(Storage::<4, 0>::new())); // or a static
    /// let event_loop = Loop::new(storage, &Config::default())?;
    /// let waker = event_loop.waker(event_loop.add_wake(on_wake, 0)?);
    /// let thread = std::thread::spawn(move || waker.wake());
    /// let mut woken = false;
    /// event_loop.run(&mut woken)?;
    /// assert!(woken);
    /// # thread.join().unwrap()?;
    /// # Ok::<(), becket::Error>(())
    /// ```
    #[must_use]
    pub fn waker(&self, source: Handle) -> Waker {
        // SAFETY: the storage is borrowed for ever, and the shared part is never borrowed mutably.
        Waker::new(unsafe { &self.core.as_ref().shared }, source)
    }

    /// What stops this loop from any thread or signal handler. O(1).
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        // SAFETY: as in `waker`.
        Stopper::new(unsafe { &self.core.as_ref().shared })
    }
}

impl<App> Drop for Loop<'_, App> {
    fn drop(&mut self) {
        // A loop cannot be dropped while it calls a handler, which borrows it, nor while another thread waits.
        let closed = self.core().close(true);
        debug_assert!(closed.is_ok());
    }
}
