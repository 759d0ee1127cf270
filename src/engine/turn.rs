//! The four phases of a turn. `wait` is in `core`: it does not touch the engine.

use super::core::{Stage, Waiting};
use super::{Engine, LOWER_LEVELS_EVERY, Taken};
#[cfg(feature = "streams")]
use crate::backend::OfStream;
use crate::backend::{Backend, Ready, Report, asked_by};
use crate::error::Error;
use crate::handle::{Handle, Kind, Kinds};
use crate::process::signals;
use crate::storage::lists::{LEVELS, List, Lists};
use crate::storage::names::Names;
use crate::storage::slot::{Link, bits};
use crate::sys;
use crate::time::{Duration, Instant};

/// How long a wait is at most when the kernel had no memory to be told of everything.
const RETRY: Duration = Duration::from_millis(10);

/// Phase 1: prepare. Hooks become events, and the timeout is computed.
impl Engine {
    /// How many before-wait events were queued; 0: the wait is prepared. O(registrations) on select and poll.
    #[cfg_attr(not(becket_small), inline(always))]
    pub(super) fn prepare(&mut self, timeout: Duration, hooks: bool, waiting: &mut Waiting) -> u32 {
        if self.lists.any(List::BEFORE.set() | List::TRIGGERED.set()) && hooks && !self.phase.before_done {
            self.phase.before_done = true;
            self.queue_triggered_before();
            let queued = self.lists.queue_all(List::BEFORE, List::LATE);
            if queued > 0 {
                // What else is queued has to wait for the turn that now begins.
                self.turn_end = self.dispatches;
                return queued;
            }
        }
        #[cfg(feature = "operations")]
        let patience = self.prepare_operations();
        #[cfg(feature = "streams")]
        self.resume_listeners();
        #[cfg(feature = "streams")]
        self.feed_streams();
        if cfg!(becket_small) || self.trim {
            self.trim_watched();
        }
        let mut busy = self.has_work();
        let told = self.prepare_backend(waiting);
        if told {
            busy = self.has_work();
        }
        #[cfg(feature = "streams")]
        {
            busy |= self.has_urgent_ride();
        }
        let now = self.fresh_now();
        if !self.shared.is_asleep() {
            self.asleep_since = now; // a foreign loop prepares twice, and sleeps in between
        }
        let timeout = if self.shared.fall_asleep() || busy {
            Duration::ZERO
        } else {
            let first = self.deadlines.first().map_or(Instant::NEVER, |(deadline, _)| deadline);
            let until_first = if first == Instant::NEVER { Duration::FOREVER } else { first.since(now) };
            timeout.min(until_first).min(if told { Duration::FOREVER } else { RETRY })
        };
        waiting.plan.timeout = timeout;
        #[cfg(feature = "operations")]
        {
            waiting.patience = patience;
            waiting.plan.timeout = timeout.min(waiting.patience);
        }
        waiting.until = now + timeout;
        waiting.stage = Stage::Prepared;
        0
    }

    /// Tells the backend what is to be watched; what it refuses becomes an event. False: it has to be told again soon.
    #[cfg_attr(not(becket_small), inline(always))]
    fn prepare_backend(&mut self, waiting: &mut Waiting) -> bool {
        let sources = self.sources();
        let Engine { backend, registrations, lists, shared, watched, .. } = self;
        let mut refused = 0;
        let told =
            backend.prepare(registrations, &shared.names, *watched + 1, &mut waiting.plan, &mut |place, ready| {
                if !cfg!(feature = "operations") || place <= sources {
                    merge(lists, place, ready);
                } else {
                    refused = place;
                }
            });
        lists.note_queued();
        self.phase.raced = false;
        #[cfg(feature = "operations")]
        if refused != 0 {
            self.note_refused(refused);
        }
        told && refused == 0
    }

    /// A before-wait source that was triggered comes in its own time of the turn.
    fn queue_triggered_before(&mut self) {
        while let Some(index) = self.lists.first_of(List::TRIGGERED, |link| link.is(Kind::Before)) {
            self.lists.unlink(index);
            self.lists.push(List::BEFORE, index);
        }
    }

    /// Whether a wait must not sleep.
    pub(super) fn has_work(&self) -> bool {
        const WORK: u16 = List::TRIGGERED.set() | List::DEFERRED.set() | List::IDLE.set() | List::ALWAYS.set();
        self.lists.any(WORK | List::QUEUES)
    }
}

/// Queues the source at a place for its readiness, or adds that to what is queued of it.
#[inline]
pub(super) fn merge(lists: &mut Lists, place: u32, ready: Ready) {
    let Some(index) = place.checked_sub(1) else { return };
    // An idle timeout that is still queued loses against it when the event is taken out.
    let slot = &mut lists.slots[index];
    slot.set_ready(slot.ready() | (ready & Ready::OF_FD).bits() as u8);
    lists.queue(index);
}

#[cfg_attr(not(becket_small), cold, inline(never))]
fn merge_one(lists: &mut Lists, place: u32, ready: Ready) {
    merge(lists, place, ready);
    lists.note_queued();
}

/// Phase 3: collect. What happened becomes events.
impl Engine {
    /// How many events are queued. O(what happened), and O(registrations) on select and poll.
    ///
    /// With `direct`, readiness stays with the backend where it may: [`Engine::next_direct`] takes it from there.
    #[cfg_attr(not(becket_small), inline(always))]
    pub(super) fn collect(&mut self, waiting: &mut Waiting, direct: bool) -> u32 {
        waiting.stage = Stage::Collected;
        self.shared.wake_up();
        if !self.config.virtual_clock {
            self.now = sys::clock::now();
        } else if self.backend.now().is_some() {
            self.now = self.fresh_now();
        } else if waiting.plan.outcome == Ok(0) && waiting.until != Instant::NEVER && !self.shared.pending() {
            self.now = self.now.max(waiting.until);
        }
        self.statistics.turns += 1;
        self.statistics.waiting_ns += self.now.since(self.asleep_since).as_nanos();
        self.asleep_since = self.now;

        // Who waits in the queue of the first level was there before.
        let direct = direct && self.lists.levels(List::QUEUE) & 1 == 0;
        self.collect_readiness(waiting, direct);
        if self.deadlines.first().is_some_and(|(due, _)| due <= self.now) {
            self.expire();
        }
        // (Looking first saves locked instructions in every turn that has none.)
        if self.shared.seem_signals() {
            self.collect_signals();
        }
        if self.shared.names.seem_woken() {
            self.collect_wakes();
        }
        let mut after = 0;
        if self.lists.any(List::TRIGGERED.set() | List::AFTER.set()) {
            self.lists.queue_all(List::TRIGGERED, List::QUEUE);
            after = self.lists.queue_all(List::AFTER, List::QUEUE);
        }
        self.lists.note_queued();

        if !cfg!(becket_small) {
            self.readiness_before = self.statistics.events_of(Kind::Io);
        }
        self.turn_end = self.dispatches.wrapping_add(self.config.budget);
        self.phase = super::Phase { after, ..super::Phase::default() };
        self.lists.queued()
    }

    #[cfg_attr(not(becket_small), inline(always))]
    pub(super) fn collect_readiness(&mut self, waiting: &mut Waiting, direct: bool) {
        if self.phase.raced {
            self.wait_again(waiting);
        }
        #[cfg(feature = "operations")]
        // What an operation waits for has happened before its deadline passes.
        let direct = direct && !self.any_waits();
        if !cfg!(becket_small) {
            waiting.unread = true;
        }
        #[cfg(feature = "streams")]
        let any_rides = !self.streams.riders.is_empty();
        #[cfg(feature = "streams")]
        let (direct, all_rode) = (direct && !any_rides, any_rides && self.backend.has_no_ride());
        if cfg!(becket_small) || !direct || !self.backend.is_steady(&waiting.plan) {
            self.flush_reports(waiting);
        }
        #[cfg(feature = "streams")]
        if all_rode && !self.backend.has_more(&waiting.plan) {
            self.end_rides();
        }
        // A plan is read once: a second collect without a wait finds nothing.
        waiting.plan.outcome = Ok(0);
        if cfg!(any(epoll, feature = "simulator")) {
            while let Some(index) = self.lists.pop(List::ALWAYS) {
                let ready = self.interest_of(index) & (Ready::READABLE | Ready::WRITABLE);
                merge(&mut self.lists, index + 1, ready);
            }
        }
    }

    /// Another thread changed a registration while the wait was under way: asks again, without sleeping.
    #[cfg_attr(not(becket_small), cold, inline(never))]
    fn wait_again(&mut self, waiting: &mut Waiting) {
        self.prepare_backend(waiting);
        waiting.plan.timeout = Duration::ZERO;
        waiting.plan.outcome = waiting.plan.wait_again();
    }

    /// Queues what the backend still has to report: before anybody looks at the queue, and before the next wait.
    #[inline]
    pub(super) fn flush_direct(&mut self, waiting: &mut Waiting) {
        if !cfg!(becket_small) && waiting.unread {
            self.flush_reports(waiting);
            self.lists.note_queued();
        }
    }

    #[cfg_attr(not(becket_small), inline(never))]
    fn flush_reports(&mut self, waiting: &mut Waiting) {
        loop {
            let Engine { backend, registrations, shared, .. } = self;
            let Some(report) = backend.next(registrations, &shared.names, &mut waiting.plan) else { break };
            if report.place == 0 {
                self.shared.drain();
            } else {
                self.note_report(&report);
            }
        }
        #[cfg(feature = "operations")]
        self.collect_operations();
        if !cfg!(becket_small) {
            waiting.unread = false;
        }
    }

    /// Queues what a report tells.
    #[inline]
    fn note_report(&mut self, report: &Report) {
        #[cfg(feature = "streams")]
        if report.stream != OfStream::None {
            return self.note_of_stream(report);
        }
        #[cfg(feature = "operations")]
        if (self.any_waits() || self.is_beyond_sources(report.place - 1)) && self.note_for_operations(report) {
            return;
        }
        merge(&mut self.lists, report.place, report.ready);
    }

    #[cfg_attr(not(becket_small), inline(never))]
    fn collect_signals(&mut self) {
        let mut came = self.shared.take_signals();
        while came != 0 {
            let signal = came.trailing_zeros() as i32 + 1;
            came &= came - 1;
            if let Some(index) = signals::source_of(signal, &self.shared) {
                self.lists.slots[index].set_ready(Ready::READABLE.bits() as u8);
                self.lists.queue(index);
            }
            if cfg!(feature = "children") && signal == sys::signal::CHILD && self.children_by_signal > 0 {
                self.look_for_children();
            }
        }
    }

    #[cfg_attr(not(becket_small), inline(never))]
    fn collect_wakes(&mut self) {
        let Engine { shared, lists, .. } = self;
        shared.names.take_woken(|index| {
            lists.links[index].set(bits::TRIGGERED, true);
            // A deferred one that is scheduled comes at the end of this turn.
            if lists.list_of(index) != List::DEFERRED {
                lists.queue(index);
            }
        });
    }
}

/// Phase 4: next. One event at a time.
impl Engine {
    /// Takes out the next readiness or completion that the backend or the engine of files reports, without a way through the
    /// queue: for a front end that calls handlers for all that there is. What is more than plain is queued. `None`: there is
    /// no more, or it is the queue's turn. `taken` was [`Taken::READINESS`], and is changed by this alone; `completed` is
    /// for completions.
    #[inline(always)]
    pub(super) fn next_direct<'a>(
        &mut self,
        waiting: &mut Waiting,
        taken: &'a mut Taken,
        completed: &'a mut Taken,
    ) -> Option<&'a Taken> {
        let _ = &completed; // without operations
        while !cfg!(becket_small) && waiting.unread && self.dispatches != self.turn_end {
            if (self.leveled != 0 || self.lists.levels(List::QUEUE) > 1) && self.is_lower_ones_turn_now() {
                // The queue knows whose turn it is, once all are there, and what to do when that one is gone.
                self.flush_direct(waiting);
                return None;
            }
            #[cfg(feature = "operations")]
            if self.any_waits() {
                // Readiness may be an operation's, or both's.
                self.flush_reports(waiting);
                return None;
            }
            let Engine { backend, registrations, shared, .. } = self;
            let Some(report) = backend.next(registrations, &shared.names, &mut waiting.plan) else {
                #[cfg(feature = "operations")]
                if self.next_from_files(completed) {
                    return Some(completed);
                }
                waiting.unread = false;
                return None;
            };
            let Some(index) = report.place.checked_sub(1) else {
                shared.drain();
                continue;
            };
            #[cfg(feature = "streams")]
            if report.stream != OfStream::None {
                self.note_of_stream(&report);
                continue;
            }
            #[cfg(feature = "operations")]
            if self.is_beyond_sources(index) {
                if self.next_beyond(index, report.ready, report.result, completed) {
                    return Some(completed);
                }
                continue;
            }
            let lists = &mut self.lists;
            let link = &lists.links[index];
            if !link.is_plain_io() {
                #[cfg(feature = "streams")]
                if link.is_plain_stream() && report.ready == Ready::READABLE {
                    if self.next_of_plain_stream(index, completed) {
                        return Some(completed);
                    }
                    continue;
                }
                merge_one(lists, report.place, report.ready);
                continue;
            }
            let idle = link.has(bits::IDLE);
            let slot = &mut lists.slots[index];
            if idle {
                slot.time = slot.time.max(self.now.as_nanos());
            }
            taken.source = report.source;
            taken.user = slot.target.user;
            taken.flags = report.ready.bits().into();
            taken.fd = report.registration.fd; // who is told something is not paused
            taken.handler = slot.target.handler;
            self.dispatches = self.dispatches.wrapping_add(1);
            self.statistics.events[Kind::Io as usize - 1] += 1;
            return Some(taken);
        }
        None
    }

    /// Takes out the next event of one of these kinds. False: there is none, or this turn's budget is used up.
    ///
    /// O(1) for all kinds; O(events before it) when a mask selects. Deferred events come when no other that was asked
    /// for is left in this turn; idle ones when this turn had nothing else.
    #[inline]
    pub(crate) fn next(&mut self, kinds: Kinds, taken: &mut Taken) -> bool {
        self.has_queued() && self.next_queued(kinds, taken)
    }

    /// So many events more count as taken out in this turn. O(1).
    pub(crate) fn spend(&mut self, events: u32) {
        let left = self.turn_end.wrapping_sub(self.dispatches);
        self.turn_end = self.turn_end.wrapping_sub(left.min(events));
    }

    /// Whether there may be a next event.
    #[inline]
    pub(super) fn has_queued(&self) -> bool {
        const ANYTHING: u16 = List::LATE_COMERS | List::QUEUE_LEVELS;
        self.lists.any(ANYTHING)
    }

    fn next_queued(&mut self, kinds: Kinds, taken: &mut Taken) -> bool {
        loop {
            let budgeted = self.dispatches != self.turn_end && self.lists.levels(List::QUEUE) != 0;
            let popped = if budgeted { self.pop(kinds, List::QUEUE) } else { None };
            let (node, counts) = match popped {
                Some(node) => (node, 1),
                None if !self.lists.any(List::LATE_COMERS) => return false,
                None => match self.pop_late(kinds) {
                    Some(node) => (node, 0),
                    None => return false,
                },
            };
            let kind = self.lists.links[node].kind_number();
            let due = match Kind::from_number(kind) {
                Some(Kind::Io) => self.take_io(node, taken),
                Some(Kind::Post) => self.take_post(node, taken),
                #[cfg(feature = "streams")]
                Some(Kind::Stream) => self.take_stream(node, taken),
                Some(kind) => self.take_other(node, kind, taken),
                None => false,
            };
            if due {
                self.dispatches = self.dispatches.wrapping_add(counts);
                self.statistics.events[usize::from(kind) - 1] += 1;
                self.phase.idle_done |= kind != Kind::Before as u8 && kind != Kind::After as u8;
                return true;
            }
            // It concerns nobody any more. (Or a stream has sent, and has nothing to tell; or a listener has found no further
            // connection.)
            let counts = !cfg!(feature = "streams") || kind < Kind::Stream as u8;
            self.statistics.stale_dropped += u64::from(counts);
        }
    }

    /// Around the wait: before-wait events; at the end of a turn what was deferred until now; and idle sources, when there
    /// was nothing else.
    #[cold]
    #[inline(never)]
    fn pop_late(&mut self, kinds: Kinds) -> Option<u32> {
        if kinds.contains(Kinds::DEFERRED) && !self.phase.deferred_done {
            self.phase.deferred_done = true;
            let count = self.lists.queue_all(List::DEFERRED, List::LATE);
            self.phase.idle_done |= count > 0;
        }
        if !cfg!(becket_small) {
            self.phase.idle_done |= self.statistics.events_of(Kind::Io) != self.readiness_before;
        }
        if kinds.contains(Kinds::IDLE) && !self.phase.idle_done && self.lists.levels(List::QUEUE) == 0 {
            self.phase.idle_done = true;
            self.lists.queue_all(List::IDLE, List::LATE);
        }
        self.pop(kinds, List::LATE)
    }

    /// Every eighth dispatch.
    #[inline]
    fn is_lower_ones_turn(&self) -> bool {
        self.dispatches % LOWER_LEVELS_EVERY == LOWER_LEVELS_EVERY - 1
    }

    #[cold]
    #[inline(never)]
    fn is_lower_ones_turn_now(&self) -> bool {
        self.is_lower_ones_turn()
    }

    /// Takes out the node that is next: the first of the highest level that has one, and every eighth time the first
    /// of a lower one, in rotation.
    #[inline]
    fn pop(&mut self, kinds: Kinds, queue: List) -> Option<u32> {
        let levels = self.lists.levels(queue);
        let lower_too = queue == List::QUEUE && self.is_lower_ones_turn();
        if !kinds.is_all() || lower_too && levels & levels.wrapping_sub(1) != 0 {
            return self.pop_among(kinds, queue, lower_too);
        }
        self.lists.pop(queue.at(levels.trailing_zeros() as u8 % LEVELS as u8))
    }

    #[cold]
    #[inline(never)]
    fn pop_among(&mut self, kinds: Kinds, queue: List, lower_too: bool) -> Option<u32> {
        let levels = LEVELS as u8;
        let mut chosen = None;
        let mut level = 0;
        // All levels in order; then, when it is a lower one's turn, those below the first that has something, from the
        // one behind the last that had such a turn.
        for step in 0..2 * levels {
            let next = if step < levels { step } else { (self.rotation + 1 + step) % levels };
            if step >= levels && next <= level {
                continue;
            }
            let wanted = |link: &Link| link.kind().is_some_and(|kind| kinds.contains(kind.mask()));
            let Some(node) = self.lists.first_of(queue.at(next), wanted) else { continue };
            if step >= levels {
                self.rotation = next;
                chosen = Some(node);
                break;
            }
            if chosen.is_none() {
                (chosen, level) = (Some(node), next);
            }
            if !lower_too {
                break;
            }
        }
        self.lists.unlink(chosen?);
        chosen
    }

    /// Fills in what a source says of itself.
    #[inline]
    pub(super) fn describe(&self, index: u32, source: Handle, kind: Kind, fd: i32, taken: &mut Taken) {
        let target = self.lists.slots[index].target;
        taken.source = source;
        taken.user = target.user;
        taken.handler = target.handler;
        taken.kind = kind.mask().bits();
        taken.fd = fd;
        if cfg!(feature = "streams") {
            taken.data = core::ptr::null_mut();
        }
        taken.level = self.lists.links[index].level().into();
    }

    /// What is left of an I/O source's pending readiness, judged by its interest of this moment.
    #[inline]
    fn take_io(&mut self, index: u32, taken: &mut Taken) -> bool {
        let registration = self.registrations[index + 1];
        let interest = self.interest_of(index);
        let slot = &mut self.lists.slots[index];
        let pending = Ready::from_bits_retain(u16::from(slot.ready()));
        slot.set_ready(0);
        let mut ready = pending & (asked_by(interest) | Ready::DEADLINE);
        let link = &mut self.lists.links[index];
        if link.has(bits::TRIGGERED) {
            link.set(bits::TRIGGERED, false);
            ready |= Ready::TRIGGERED;
        }
        if ready.is_empty() {
            ready = if interest.is_empty() { ready } else { pending & Ready::TIMEOUT };
            if ready.is_empty() {
                self.rest_io(index);
                return false;
            }
        }
        let link = &self.lists.links[index];
        let slot = &mut self.lists.slots[index];
        if link.has(bits::IDLE | bits::ONESHOT) {
            // Something is delivered: the idle timeout counts from here. A store; the heap learns of it when it fires.
            slot.time = slot.time.max(self.now.as_nanos());
            if link.has(bits::ONESHOT) && ready.intersects(Ready::OF_FD) {
                self.set_interest(index, Ready::empty());
            }
        }
        self.rest_io(index);
        taken.value = 0;
        taken.flags = ready.bits().into();
        self.describe(index, self.shared.names.handle(index), Kind::Io, registration.fd(), taken);
        true
    }

    /// An event of a source that is no I/O.
    #[inline(never)]
    fn take_other(&mut self, index: u32, kind: Kind, taken: &mut Taken) -> bool {
        #[cfg(feature = "operations")]
        if kind == Kind::Operation {
            return self.take_operation(index, taken);
        }
        #[cfg(feature = "streams")]
        if kind == Kind::Listener {
            return self.take_listener(index, taken);
        }
        let slot = &mut self.lists.slots[index];
        let pending = slot.ready() != 0;
        slot.set_ready(0);
        let link = &mut self.lists.links[index];
        let triggered = link.has(bits::TRIGGERED);
        link.set(bits::TRIGGERED, false);

        let mut value = 0;
        let mut fd = -1;
        let due = match kind {
            Kind::Timer => {
                value = i64::try_from(slot.deadline).unwrap_or(i64::MAX);
                slot.deadline = 0;
                true
            }
            Kind::Signal => {
                fd = slot.extra.cast_signed();
                value = i64::from(signals::take_count(fd));
                value > 0
            }
            Kind::Child if cfg!(feature = "children") => {
                fd = slot.extra.cast_signed();
                let status = if pending { self.reap(index) } else { None };
                // No status is negative: triggered, and still running.
                value = status.map_or(-i64::from(Error::AGAIN.errno()), i64::from);
                status.is_some()
            }
            Kind::Deferred => {
                let scheduled = link.has(bits::ACTIVE);
                link.set(bits::ACTIVE, false);
                self.recount(index);
                scheduled
            }
            Kind::Idle | Kind::Before | Kind::After => {
                let on = link.has(bits::ACTIVE);
                self.rest(index);
                on
            }
            Kind::Io | Kind::Child | Kind::Wake | Kind::Post | Kind::Operation | Kind::Stream | Kind::Listener => false,
        };
        taken.value = value;
        taken.flags = if triggered { Ready::TRIGGERED.bits().into() } else { 0 };
        self.describe(index, self.shared.names.handle(index), kind, fd, taken);
        due || triggered
    }

    #[inline]
    fn take_post(&mut self, node: u32, taken: &mut Taken) -> bool {
        let (handle, value) = self.free_post(self.lists.post_of(node));
        let source = Handle::from_raw(handle);
        // There was such a source when it was posted.
        let place = Names::place_of(source);
        if !self.shared.names.is_of(place, source) {
            return false;
        }
        let index = place - 1;
        taken.value = value;
        taken.flags = 0;
        self.describe(index, source, Kind::Post, -1, taken);
        true
    }

    fn look_for_children(&mut self) {
        let mut from = 0;
        while let Some(index) = self.next_child(from) {
            self.lists.slots[index].set_ready(Ready::READABLE.bits() as u8);
            self.lists.queue(index);
            from = index + 1;
        }
    }
}
