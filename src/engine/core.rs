//! A loop in its block of memory: what is shared, what a wait touches, and the engine, each behind its own door.
//!
//! - `shared`: any thread, any time.
//! - `waiting`: the thread that waits. A program may let other threads change the loop meanwhile, one at a time.
//! - `engine`: who may change the loop; one call at a time. No call of the engine calls the user's code, so two
//!   never overlap in one thread; in several the program keeps them apart.
#![allow(unsafe_code)]

use super::{BUDGET, Config, Engine, Phase, Statistics, Taken, VIRTUAL_START};
use crate::backend::{AnyBackend, Backend, Chosen, Given, Plan, Registration, Registrations};
use crate::error::{Error, Result};
use crate::handle::Kinds;
use crate::process::shared::Shared;
use crate::process::signals;
use crate::storage::layout::REGIONS_OFFSET;
use crate::storage::names::Names;
use crate::storage::slot::NIL;
use crate::storage::{Block, Layout};
#[cfg(feature = "streams")]
use crate::streams::StreamsMemory;
use crate::sys;
use crate::time::{Duration, Instant};
use core::cell::UnsafeCell;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const _: () = assert!(size_of::<Core>() <= REGIONS_OFFSET);

const LIVE: u64 = 0x6265_636b_6574_3031;
const CLOSED: u64 = 0x636c_6f73_6564_3031;

/// How far the three phases have come: a preparation is good for one wait, and that for one collection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Collected,
    Prepared,
    Waited,
}

/// What a wait touches, and nothing else does while it is under way.
pub(crate) struct Waiting {
    pub(crate) plan: Plan,
    /// The end of the wait.
    pub(crate) until: Instant,
    /// Time is real, and nobody wants to spin.
    plain: bool,
    pub(crate) virtual_clock: bool,
    pub(crate) return_interrupted: bool,
    busy_poll: Duration,
    /// How long one system call may sleep at most: less than the wait where something has to be looked after meanwhile.
    #[cfg(feature = "operations")]
    pub(crate) patience: Duration,
    /// The backend has reports of the last wait that nobody has taken.
    pub(crate) unread: bool,
    pub(crate) stage: Stage,
}

/// The head of a loop's block.
#[repr(C)]
pub struct Core {
    /// [`LIVE`] or [`CLOSED`], with the address: so that neither garbage nor a moved copy passes for a loop.
    mark: AtomicU64,
    engine: UnsafeCell<Engine>,
    pub(crate) shared: Shared,
    waiting: UnsafeCell<Waiting>,
    /// The thread that waits; 0 before the first wait.
    owner: AtomicUsize,
    /// The first generation that no handle of a closed loop had.
    next_generation: AtomicU64,
}

/// A pointer to the shared part, from the engine beside it.
#[derive(Clone, Copy)]
pub(crate) struct SharedRef(NonNull<Shared>);

impl Deref for SharedRef {
    type Target = Shared;

    #[inline]
    fn deref(&self) -> &Shared {
        // SAFETY: both lie in one block and live equally long; the shared part is never borrowed mutably.
        unsafe { self.0.as_ref() }
    }
}

impl Core {
    /// What `mark` is in a certain state, at this address.
    fn mark_of(state: u64, at: *const Core) -> u64 {
        state ^ at as usize as u64
    }

    /// Makes a loop in a block.
    ///
    /// A live loop in it is EBUSY, unless it is the parent process's: then its descriptors, which this process has
    /// inherited, are closed, and nothing of the parent's changes. With `abandoned`, nobody can use a loop that is in
    /// there: its descriptors are closed likewise.
    ///
    /// # Safety
    /// The block is readable and writable, and nobody else uses it until the loop is closed.
    #[cfg_attr(not(becket_small), cold)]
    pub(crate) unsafe fn init(block: &Block, config: &Config, given: Given, abandoned: bool) -> Result<NonNull<Core>> {
        let layout = Layout::new(block)?;
        let core: NonNull<Core> = block.start.cast();
        // SAFETY: aligned (`Layout::new`), and large enough; any bits are a valid integer.
        let mark = unsafe { &(*core.as_ptr()).mark };
        let found = Self::mark_of(mark.load(Ordering::Acquire), core.as_ptr());
        let old = match found {
            // SAFETY: only `init` and `close` write these marks, after everything else: there is, or was, a loop.
            LIVE | CLOSED => Some(unsafe { core.as_ref() }),
            _ => None,
        };
        let live = old.filter(|_| found == LIVE);
        if let Some(old) = live.filter(|_| !abandoned) {
            // In a forked child too: the handler's caller would come back into the new loop.
            // SAFETY: a look at one field.
            if old.shared.is_ours() || unsafe { (*old.engine.get()).depth } > 0 {
                return Err(Error::BUSY);
            }
        }
        let notifier = sys::fd::notifier()?;
        let mut table = [Registration::NONE];
        // SAFETY: the region is used for this call alone.
        let mut first = unsafe { Registrations::new(NonNull::from(&mut table).cast(), 1) };
        let chosen = AnyBackend::choose(config.backend, given, notifier.watched, &mut first);
        let Chosen { backend, plan, note } = match chosen {
            Ok(chosen) => chosen,
            Err(error) => {
                notifier.close();
                return Err(error);
            }
        };
        #[cfg(feature = "operations")]
        let files = match Engine::choose_files(block, config, &backend, given) {
            Ok(files) => files,
            Err(error) => {
                let mut backend = backend;
                backend.close(true);
                notifier.close();
                return Err(error);
            }
        };
        // From here on nothing fails, and until the end there is no loop.
        mark.store(0, Ordering::Release);
        let mut generation = 0;
        if let Some(old) = old {
            generation = old.next_generation.load(Ordering::Relaxed);
            if live.is_some() {
                if !abandoned {
                    generation = old.shared.names.next_generation();
                    // SAFETY: nobody else uses the block, by this function's contract.
                    unsafe { &mut *old.engine.get() }.close_own_fds();
                }
                signals::release_all(&old.shared);
                // SAFETY: likewise.
                unsafe { &mut *old.engine.get() }.close_backend();
                old.shared.close();
            }
        }
        let (config, made_at) = match backend.now() {
            Some(now) => (&Config { virtual_clock: true, without_pidfd: true, ..*config }, now),
            None if config.virtual_clock => (config, VIRTUAL_START),
            None => (config, sys::clock::now()),
        };
        // SAFETY: each region once, in a block that is ours; a registration is eight bytes of integers.
        let (names, lists, deadlines, fd_index, mut registrations) =
            unsafe { (layout.names(), layout.lists(), layout.deadlines(), layout.fd_index(), layout.registrations()) };
        registrations[0] = table[0];
        // SAFETY: within the block, written field by field before anybody reads it.
        unsafe {
            let at = core.as_ptr();
            (&raw mut (*at).shared).write(Shared::new(names, notifier));
            (&raw mut (*at).owner).write(AtomicUsize::new(0));
            (&raw mut (*at).next_generation).write(AtomicU64::new(generation));
            let plain = !config.virtual_clock && config.busy_poll == Duration::ZERO && plan.now().is_none();
            (&raw mut (*at).waiting).write(UnsafeCell::new(Waiting {
                plan,
                until: made_at,
                plain,
                virtual_clock: config.virtual_clock,
                return_interrupted: config.return_interrupted,
                #[cfg(feature = "operations")]
                patience: Duration::FOREVER,
                unread: false,
                stage: Stage::Collected,
                busy_poll: if config.virtual_clock { Duration::ZERO } else { config.busy_poll },
            }));
            (&raw mut (*at).engine).write(UnsafeCell::new(Engine {
                shared: SharedRef(NonNull::new_unchecked(&raw mut (*at).shared)),
                lists,
                deadlines,
                fd_index,
                registrations,
                backend,
                backend_note: note,
                config: Config { budget: if config.budget == 0 { BUDGET } else { config.budget }, ..*config },
                now: made_at,
                asleep_since: made_at,
                made_at,
                free_low: NIL,
                free_high: NIL,
                watched: 0,
                trim: false,
                free_post: NIL,
                posts_mark: 0,
                // Handles of an earlier loop in the same memory are stale: generations go on where that ended, or,
                // where nothing is known of it, the clock has. (Virtual time has not: there, runs repeat to the bit.)
                generation: generation.max(Names::generation_at(made_at.as_nanos())),
                arming: 0,
                counted: 0,
                leveled: 0,
                children_by_signal: 0,
                // Nothing is delivered before the first collection.
                phase: Phase { deferred_done: true, idle_done: true, ..Phase::default() },
                dispatches: 0,
                turn_end: 0,
                readiness_before: 0,
                rotation: 0,
                depth: 0,
                running: false,
                statistics: Statistics::default(),
                #[cfg(feature = "operations")]
                operations: super::operations::Operations::new(layout.operations(), layout.sources as u32, files),
                #[cfg(feature = "streams")]
                listeners: super::listeners::Listeners::new(),
                #[cfg(feature = "streams")]
                streams: given.streams.map_or_else(crate::storage::streams::Table::none, StreamsMemory::table),
            }));
            #[cfg(feature = "operations")]
            (*(*at).engine.get()).name_files();
            #[cfg(feature = "streams")]
            (*(*at).engine.get()).lend_buffers();
        }
        mark.store(Self::mark_of(LIVE, core.as_ptr()), Ordering::Release);
        #[cfg(posix_aio)]
        {
            // SAFETY: it has just been made.
            let this = unsafe { core.as_ref() };
            // (It was free a moment ago: another thread's loop may have been faster.)
            if let Err(error) = this.with(Engine::take_signal_of_files) {
                let _ = this.close(true);
                return Err(error);
            }
        }
        Ok(core)
    }

    /// The loop at an address that C gave. EINVAL: no address; EBADF: no live loop there.
    ///
    /// # Safety
    /// The pointer is null or readable for the size of a `Core`.
    #[cfg(feature = "capi")]
    #[inline]
    pub(crate) unsafe fn from_ptr<'a>(at: *const Core) -> Result<&'a Core> {
        let core = NonNull::new(at.cast_mut()).ok_or(Error::INVALID)?;
        if !core.is_aligned() {
            return Err(Error::INVALID);
        }
        // SAFETY: readable and aligned; any bits are a valid integer.
        if unsafe { &(*core.as_ptr()).mark }.load(Ordering::Acquire) != Self::mark_of(LIVE, at) {
            return Err(Error::BAD_FD);
        }
        // SAFETY: the mark says that a loop is there.
        Ok(unsafe { core.as_ref() })
    }

    /// One call of the engine. ECHILD: this is a forked child of the process that made the loop.
    #[inline]
    pub(crate) fn with<R>(&self, call: impl FnOnce(&mut Engine) -> Result<R>) -> Result<R> {
        self.check_process()?;
        self.enter(call)
    }

    /// The same after [`Core::check_process`].
    #[inline]
    pub(crate) fn enter<R>(&self, call: impl FnOnce(&mut Engine) -> Result<R>) -> Result<R> {
        // SAFETY: nothing that the engine does calls back into here, and threads are kept apart by the program (C) or
        // by `Loop` not being `Sync` (Rust); so this is the only borrow.
        let answer = call(unsafe { &mut *self.engine.get() });
        // Somebody sleeps, and has to look again at what has changed: only where another thread waits, or a foreign
        // loop does.
        self.shared.notify();
        answer
    }

    /// A look at the engine that changes nothing.
    #[inline]
    pub(crate) fn look<R>(&self, call: impl FnOnce(&Engine) -> Result<R>) -> Result<R> {
        self.check_process()?;
        // SAFETY: as in `with`.
        call(unsafe { &*self.engine.get() })
    }

    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.shared.is_ours() { Ok(()) } else { Err(Error::NOT_OURS) }
    }

    /// The loop belongs to the thread that first waits. EPERM: that is another one.
    fn check_owner(&self) -> Result<()> {
        self.check_process()?;
        let this = sys::thread();
        let owner = self.owner.load(Ordering::Relaxed);
        let claim = || self.owner.compare_exchange(0, this, Ordering::Relaxed, Ordering::Relaxed);
        if owner == this || owner == 0 && claim().is_ok() { Ok(()) } else { Err(Error::NOT_PERMITTED) }
    }

    /// Phase 1. Before-wait events that were queued: they are to be taken out, and `prepare` called again; 0: ready.
    /// EPERM: the loop belongs to another thread; likewise the two other phases.
    pub(crate) fn prepare(&self, timeout: Duration) -> Result<u32> {
        self.check_owner()?;
        let queued = self.lay_out(timeout, true);
        #[cfg(feature = "streams")]
        {
            // A program that prepares a wait may sleep elsewhere: then nothing rides, and what has been received by itself meanwhile
            // is in no socket any more.
            // SAFETY: as in `lay_out`.
            let (engine, waiting) = unsafe { (&mut *self.engine.get(), &mut *self.waiting.get()) };
            engine.flush_rides(waiting);
        }
        Ok(queued)
    }

    /// The same in the owner. `hooks`: with before-wait events.
    #[cfg_attr(not(becket_small), inline(always))]
    fn lay_out(&self, timeout: Duration, hooks: bool) -> u32 {
        // SAFETY: as in `with`; no wait is under way while the thread that waits calls this.
        let (engine, waiting) = unsafe { (&mut *self.engine.get(), &mut *self.waiting.get()) };
        engine.flush_direct(waiting);
        if cfg!(any(epoll, feature = "simulator")) && waiting.stage == Stage::Waited {
            // What was found and not collected: the kernel tells of an edge once.
            engine.collect_readiness(waiting, false);
        }
        engine.prepare(timeout, hooks, waiting)
    }

    /// How long the wait that was prepared will be at most.
    pub(crate) fn timeout(&self) -> Result<Duration> {
        self.check_process()?;
        // SAFETY: as in `prepare`.
        Ok(unsafe { &*self.waiting.get() }.plan.timeout)
    }

    /// Phase 2, the only call that blocks. It touches `waiting` and `shared` alone.
    ///
    /// EINTR, where the configuration asks for it, and what else the system call says of the whole wait: `collect` is
    /// due all the same. Without a preparation nothing happens: nobody would know that there is somebody to be woken.
    pub(crate) fn wait(&self) -> Result<()> {
        self.check_owner()?;
        // SAFETY: a look at one field, by the thread that waits.
        if unsafe { (*self.waiting.get()).stage } == Stage::Prepared { self.sleep() } else { Ok(()) }
    }

    #[cfg_attr(not(becket_small), inline(always))]
    fn sleep(&self) -> Result<()> {
        // SAFETY: only the thread that waits touches this, and it is here.
        let waiting = unsafe { &mut *self.waiting.get() };
        waiting.wait(&self.shared)
    }

    /// Phase 3: how many events are queued.
    pub(crate) fn collect(&self) -> Result<u32> {
        self.check_owner()?;
        self.collect_all(false, Ok(()))
    }

    /// The same; `direct`: readiness may stay with the backend, and is not counted then.
    #[cfg_attr(not(becket_small), inline(always))]
    fn collect_all(&self, direct: bool, waited: Result<()>) -> Result<u32> {
        // SAFETY: as in `prepare`.
        let (engine, waiting) = unsafe { (&mut *self.engine.get(), &mut *self.waiting.get()) };
        let queued = engine.collect(waiting, direct && waited.is_ok());
        // Outside of `run`, a stop ends one wait, and that was it.
        if !engine.running {
            self.shared.take_stop();
        }
        match waited {
            Err(error) if queued == engine.phase.after => Err(error),
            _ => Ok(queued),
        }
    }

    /// Phases 1 to 3. Before-wait events end it early: they are in the queue.
    pub(crate) fn poll(&self, timeout: Duration) -> Result<u32> {
        self.check_owner()?;
        self.three_phases(timeout, true, false)
    }

    /// The same in the owner. What went wrong with the wait is told only when there is nothing else to tell. (One function
    /// for all three: each would save and restore the same registers.)
    #[cfg_attr(not(becket_small), inline(never))]
    fn three_phases(&self, timeout: Duration, hooks: bool, direct: bool) -> Result<u32> {
        let before = self.lay_out(timeout, hooks);
        if before > 0 {
            return Ok(before);
        }
        let waited = self.sleep();
        self.collect_all(direct, waited)
    }

    /// Phase 4: takes out one event.
    pub(crate) fn next(&self, kinds: Kinds) -> Result<Option<Taken>> {
        let mut taken = Taken::NONE;
        let next = |engine: &mut Engine| {
            if !self.shared.is_asleep() {
                // SAFETY: no wait is under way, so nobody else touches it; the owner may be calling a handler.
                engine.flush_direct(unsafe { &mut *self.waiting.get() });
            }
            #[cfg(feature = "operations")]
            engine.set_pulling(true);
            let found = engine.next(kinds, &mut taken);
            #[cfg(feature = "operations")]
            engine.set_pulling(false);
            Ok(found)
        };
        Ok(self.with(next)?.then_some(taken))
    }

    /// A whole turn; `call` calls the handlers. How many events it had.
    pub(crate) fn turn(&self, timeout: Duration, call: &mut impl FnMut(&Taken)) -> Result<u32> {
        self.check_owner()?;
        self.turn_of_owner(timeout, call)
    }

    fn turn_of_owner(&self, timeout: Duration, call: &mut impl FnMut(&Taken)) -> Result<u32> {
        let mut count = 0;
        self.three_phases(timeout, true, true)?;
        // SAFETY: as in `with`; this borrow ends before a handler is called.
        if unsafe { &*self.engine.get() }.is_before_wait() {
            count += self.drain(Kinds::BEFORE, call)?;
            // They may have been the last that `run` went on for.
            // SAFETY: as in `with`.
            let engine = unsafe { &*self.engine.get() };
            let go_on = !engine.running || engine.depth > 0 || engine.is_alive();
            self.three_phases(if go_on { timeout } else { Duration::ZERO }, false, true)?;
        }
        count += self.drain(Kinds::all(), call)?;
        Ok(count)
    }

    /// Turns until a stop (true) or until nothing keeps the loop alive (false). EBUSY: inside a handler.
    pub(crate) fn run(&self, call: &mut impl FnMut(&Taken)) -> Result<bool> {
        self.check_owner()?;
        self.with(|engine| {
            if engine.depth > 0 || engine.running {
                return Err(Error::BUSY);
            }
            engine.running = true;
            Ok(())
        })?;
        let _running = Scope(self, Engine::end_run);
        loop {
            if self.shared.take_stop() {
                return Ok(true);
            }
            if !self.look(|engine| Ok(engine.is_alive()))? && !self.shared.pending() {
                return Ok(false);
            }
            // (A handler that has forked ends the turn in the child with an error.)
            self.turn_of_owner(Duration::FOREVER, call)?;
        }
    }

    /// Calls the handlers of what is ready and of what is queued. A stop inside `run` leaves the rest for the next one.
    fn drain(&self, kinds: Kinds, call: &mut impl FnMut(&Taken)) -> Result<u32> {
        let engine = self.engine.get();
        // SAFETY: as in `with`; each of these borrows ends before a handler is called.
        unsafe { (*engine).depth += 1 };
        let _handling = Scope(self, |engine| engine.depth -= 1);
        let mut count = 0;
        let (mut taken, mut completed) = (Taken::READINESS, Taken::NONE);
        loop {
            // SAFETY: likewise; no wait is under way.
            let (engine, waiting) = unsafe { (&mut *engine, &mut *self.waiting.get()) };
            let stopped = self.shared.is_stopping() && engine.running;
            // (Before a wait nothing is reported, so this takes no other kinds then.)
            if !stopped && let Some(taken) = engine.next_direct(waiting, &mut taken, &mut completed) {
                call(taken);
                count += 1;
                // The handler may have forked, and this may be the child.
                if !self.shared.seems_ours() {
                    return Err(Error::NOT_OURS);
                }
                continue;
            }
            let nothing = !cfg!(becket_small) && (stopped || !waiting.unread && !engine.has_queued());
            if nothing || !self.drain_queue(kinds, call, &mut count)? {
                engine.flush_direct(waiting);
                return Ok(count);
            }
        }
    }

    /// Calls the handlers of what is queued, until it is the turn of what the backend reports: whether it is.
    #[cfg_attr(becket_small, inline(always))]
    #[cfg_attr(not(becket_small), inline(never))]
    fn drain_queue(&self, kinds: Kinds, call: &mut impl FnMut(&Taken), count: &mut u32) -> Result<bool> {
        let mut taken = Taken::NONE;
        loop {
            // SAFETY: as in `drain`.
            let (engine, waiting) = unsafe { (&mut *self.engine.get(), &mut *self.waiting.get()) };
            if self.shared.is_stopping() && engine.running || !engine.next(kinds, &mut taken) {
                return Ok(false);
            }
            let unread = !cfg!(becket_small) && waiting.unread;
            call(&taken);
            *count += 1;
            if !self.shared.seems_ours() {
                return Err(Error::NOT_OURS);
            }
            if unread {
                return Ok(true);
            }
        }
    }

    /// Cancels all operations, waits for their completions and delivers them. ETIMEDOUT: some are left. EBUSY: it does so
    /// already.
    #[cfg(feature = "operations")]
    pub(crate) fn drain_operations(&self, timeout: Duration, call: &mut impl FnMut(&Taken)) -> Result<()> {
        self.check_owner()?;
        self.with(Engine::begin_drain)?;
        let _draining = Scope(self, Engine::end_drain);
        self.with(|engine| {
            engine.cancel_all();
            Ok(())
        })?;
        let mut end = End::new(self, timeout);
        let mut sleep = Duration::ZERO;
        loop {
            if self.reap(sleep) == Err(Error::STALE) {
                self.with(|engine| {
                    engine.end_unserved();
                    Ok(())
                })?;
            }
            let count = self.deliver(call)?;
            if !self.look(|engine| Ok(engine.has_operations()))? {
                return Ok(());
            }
            if end.is_over() {
                return Err(Error::TIMED_OUT);
            }
            sleep = if count > 0 { Duration::ZERO } else { end.pause(self) };
        }
    }

    /// A turn without handlers, for the sake of operations: a stop stays what it is. ESTALE: the simulator serves another
    /// loop, and nothing completes by itself any more.
    #[cfg(feature = "operations")]
    fn reap(&self, sleep: Duration) -> Result<()> {
        self.lay_out(sleep, false);
        let slept = self.sleep();
        // SAFETY: as in `prepare`.
        let (engine, waiting) = unsafe { (&mut *self.engine.get(), &mut *self.waiting.get()) };
        engine.collect(waiting, false);
        match slept {
            Err(Error::STALE) => Err(Error::STALE),
            Err(error) if error != Error::INTERRUPTED && waiting.plan.now().is_none() && sleep > Duration::ZERO => {
                // The system has no memory to wait, or the like: it did not sleep.
                sys::pause();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Calls the handlers of operations that have completed, and of nothing else. How many.
    #[cfg(feature = "operations")]
    fn deliver(&self, call: &mut impl FnMut(&Taken)) -> Result<u32> {
        let engine = self.engine.get();
        // SAFETY: as in `drain`.
        unsafe { (*engine).depth += 1 };
        let _handling = Scope(self, |engine| engine.depth -= 1);
        let mut count = 0;
        let mut taken = Taken::NONE;
        // SAFETY: likewise.
        while unsafe { &mut *engine }.next(Kinds::OPERATION, &mut taken) {
            call(&taken);
            count += 1;
            if !self.shared.seems_ours() {
                return Err(Error::NOT_OURS);
            }
        }
        Ok(count)
    }

    /// Operations end unseen, because nobody has the loop any more: within reason, and as far as this thread can.
    #[cfg(feature = "operations")]
    fn abandon_operations(&self) {
        let mine = self.check_owner().is_ok();
        // SAFETY: as in `with`.
        let engine = || unsafe { &mut *self.engine.get() };
        engine().cancel_all();
        let mut end = End::new(self, ABANDON_AFTER);
        let mut sleep = Duration::ZERO;
        while !engine().discard_done() && mine && !end.is_over() && self.reap(sleep).is_ok() {
            sleep = end.pause(self);
        }
    }

    /// Calls a handler: the loop can be neither run nor closed meanwhile.
    pub(crate) fn handling<R>(&self, call: impl FnOnce() -> R) -> Result<R> {
        self.with(|engine| {
            engine.depth += 1;
            Ok(())
        })?;
        let _handling = Scope(self, |engine| engine.depth -= 1);
        Ok(call())
    }

    /// Ends the loop: all sources are removed, and what the loop opened is closed. EBUSY: a handler is being called, or
    /// another thread waits, or operations are in flight. With `alone`, nobody else has the loop, so no other thread can.
    pub(crate) fn close(&self, alone: bool) -> Result<()> {
        // SAFETY: as in `with`.
        let engine = unsafe { &mut *self.engine.get() };
        if engine.depth > 0 {
            return Err(Error::BUSY);
        }
        if self.shared.is_ours() {
            if !alone && self.shared.is_asleep() && self.owner.load(Ordering::Relaxed) != sys::thread() {
                return Err(Error::BUSY);
            }
            #[cfg(feature = "operations")]
            if engine.has_operations() {
                if !alone {
                    return Err(Error::BUSY);
                }
                self.abandon_operations();
            }
            // SAFETY: as in `with`.
            unsafe { &mut *self.engine.get() }.remove_all();
            #[cfg(posix_aio)]
            // SAFETY: likewise.
            unsafe { &mut *self.engine.get() }.give_signal_of_files_back();
        } else {
            // The parent's files, signals and children are left alone.
            engine.close_own_fds();
            signals::release_all(&self.shared);
        }
        // SAFETY: as in `with`.
        unsafe { &mut *self.engine.get() }.close_backend();
        self.next_generation.store(self.shared.names.next_generation(), Ordering::Relaxed);
        self.shared.close();
        self.mark.store(Self::mark_of(CLOSED, self), Ordering::Release);
        Ok(())
    }
}

/// How long a loop that is dropped waits for operations that the kernel does not end.
#[cfg(feature = "operations")]
const ABANDON_AFTER: Duration = Duration::from_secs(5);

/// Simulated time that passes at least between the first two looks for what comes.
#[cfg(feature = "operations")]
const A_LITTLE: Duration = Duration::from_micros(10);
/// And from here on it passes where a wait sleeps, too.
#[cfg(feature = "operations")]
const A_LOT: Duration = Duration::from_secs(1);

/// The end of the time that something may take: of real time also where the loop's is virtual; of simulated time in a
/// simulator.
#[cfg(feature = "operations")]
struct End {
    left: Duration,
    until: Instant,
    /// Simulated time that passes until the next look: longer each time, for what takes years.
    step: Duration,
}

#[cfg(feature = "operations")]
impl End {
    fn new(core: &Core, span: Duration) -> End {
        // SAFETY: as in `Core::with`.
        let now = unsafe { &*core.engine.get() }.system_now();
        End { left: span, until: now + span, step: A_LITTLE }
    }

    fn is_over(&self) -> bool {
        self.left == Duration::ZERO
    }

    /// Waits a little for what comes, here or in the loop's next wait: how long that may sleep.
    fn pause(&mut self, core: &Core) -> Duration {
        // SAFETY: as in `Core::with`.
        let (engine, waiting) = unsafe { (&*core.engine.get(), &*core.waiting.get()) };
        let (simulated, now) = (engine.backend.is_simulated(), engine.system_now());
        self.left = if self.until == Instant::NEVER { Duration::FOREVER } else { self.until.since(now) };
        let sleeps = !(engine.has_work() || core.shared.pending());
        if simulated && !self.is_over() {
            let step = self.step.min(self.left);
            self.step = Duration::from_nanos(step.as_nanos().saturating_mul(2));
            // Where the wait would not sleep, time passes all the same; and where something that was refused lets none sleep long.
            if !sleeps || step > A_LOT {
                let _ = core.with(|engine| engine.backend.advance(step));
                return Duration::ZERO;
            }
        }
        if self.is_over() || sleeps && (simulated || !waiting.virtual_clock) {
            return self.left;
        }
        // The wait would not sleep: other events wait for their handlers, or time is virtual.
        sys::pause();
        Duration::ZERO
    }
}

/// Undoes something when it ends, also when a handler panics.
struct Scope<'a>(&'a Core, fn(&mut Engine));

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        let undo = self.1;
        // SAFETY: as in `Core::with`; in a forked child too.
        undo(unsafe { &mut *self.0.engine.get() });
    }
}

impl Waiting {
    #[cfg_attr(not(becket_small), inline(always))]
    fn wait(&mut self, shared: &Shared) -> Result<()> {
        self.stage = Stage::Waited;
        if !cfg!(becket_small) && self.plain {
            let outcome = self.plan.wait();
            if matches!(outcome, Ok(1..)) {
                self.plan.outcome = outcome;
                return Ok(());
            }
            return self.wait_on(shared, Some(outcome));
        }
        self.wait_on(shared, None)
    }

    /// The same, when the first wait of all has had this outcome.
    fn wait_on(&mut self, shared: &Shared, mut first: Option<Result<u32>>) -> Result<()> {
        // Virtual time passes without sleeping; only a sleep without an end is a real one. (A simulated one never is.)
        if self.virtual_clock && !self.plan.is_simulated(|| shared.is_notified()) && self.until != Instant::NEVER {
            self.plan.timeout = Duration::ZERO;
        }
        let mut spinning = self.busy_poll.min(self.plan.timeout) > Duration::ZERO;
        let spin_until = if spinning { sys::clock::now() + self.busy_poll } else { Instant::NEVER };
        self.plan.outcome = loop {
            if spinning {
                self.plan.timeout = Duration::ZERO;
            }
            match first.take().unwrap_or_else(|| self.plan.wait_again()) {
                // A wake, or a signal handler that was one of ours: then there is something to collect. After another
                // one what is left of the time is waited for.
                Ok(0) | Err(Error::INTERRUPTED | Error::AGAIN | Error::BUSY) if shared.pending() => break Ok(0),
                Ok(0) if spinning => {}
                // io_uring cannot tell whether it was a signal or the end of the time.
                Err(Error::AGAIN) if self.is_impatient() || self.left() == Duration::ZERO => break Ok(0),
                Err(Error::INTERRUPTED | Error::AGAIN) if self.return_interrupted => break Err(Error::INTERRUPTED),
                Err(Error::INTERRUPTED | Error::AGAIN | Error::BUSY) => {}
                outcome => break outcome,
            }
            self.plan.timeout = self.left();
            spinning = spinning && sys::clock::now() < spin_until;
        };
        self.plan.outcome.map(|_| ())
    }

    fn left(&self) -> Duration {
        let left = if self.until == Instant::NEVER {
            Duration::FOREVER
        } else if self.virtual_clock {
            self.plan.now().map_or(Duration::ZERO, |now| self.until.since(now))
        } else {
            self.until.since(sys::clock::now())
        };
        #[cfg(feature = "operations")]
        let left = left.min(self.patience);
        left
    }

    /// Whether something has to be looked after before the end of the wait.
    fn is_impatient(&self) -> bool {
        #[cfg(feature = "operations")]
        return self.patience < Duration::FOREVER;
        #[cfg(not(feature = "operations"))]
        false
    }
}
