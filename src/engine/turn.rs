//! The four phases of a turn. `wait` is in `core`: it does not touch the engine.

use super::core::Waiting;
use super::{BUDGET, Engine, Event, LOWER_LEVELS_EVERY, Taken};
use crate::backend::{Backend, Ready};
use crate::error::Error;
use crate::handle::{Handle, Kind, Kinds};
use crate::process::{children, signals};
use crate::storage::lists::{LEVELS, List};
use crate::storage::slot::bits;
use crate::sys;
use crate::time::{Duration, Instant};

/// Phase 1: prepare. Hooks become events, and the timeout is computed.
impl Engine {
    /// How many before-wait events were queued; 0: the wait is prepared. O(registrations) on select and poll.
    pub(super) fn prepare(&mut self, timeout: Duration, hooks: bool, waiting: &mut Waiting) -> u32 {
        if hooks && !self.phase.before_done {
            self.phase.before_done = true;
            let queued = self.lists.queue_all(List::BEFORE, List::QUEUE);
            if queued > 0 {
                self.budget_left = self.budget_left.max(queued);
                return queued;
            }
        }
        self.backend.prepare(self.registrations.first_mut(self.mark + 1), &mut waiting.plan);
        self.phase.raced = false;
        let now = self.fresh_now();
        if !self.shared.is_asleep() {
            self.asleep_since = now; // a foreign loop prepares twice, and sleeps in between
        }
        let timeout = if self.shared.fall_asleep() || self.has_work() {
            Duration::ZERO
        } else {
            let first = self.deadlines.first().map_or(Instant::NEVER, |(deadline, _)| deadline);
            let until_first = if first == Instant::NEVER { Duration::FOREVER } else { first.since(now) };
            timeout.min(until_first)
        };
        waiting.plan.timeout = timeout;
        waiting.until = now + timeout;
        0
    }

    /// Whether a wait must not sleep.
    fn has_work(&self) -> bool {
        let waiting = [List::TRIGGERED, List::DEFERRED, List::IDLE];
        self.lists.queued() > 0 || waiting.into_iter().any(|list| !self.lists.is_empty(list))
    }
}

/// Phase 3: collect. What happened becomes events.
impl Engine {
    /// How many events are queued. O(what happened), and O(registrations) on select and poll.
    pub(super) fn collect(&mut self, waiting: &mut Waiting) -> u32 {
        self.shared.wake_up();
        let found = waiting.plan.outcome.is_ok_and(|count| count > 0) || waiting.plan.outcome == Err(Error::BAD_FD);
        if !self.config.virtual_clock {
            self.now = sys::clock::now();
        } else if !found && waiting.plan.outcome.is_ok() && waiting.until != Instant::NEVER && !self.shared.pending() {
            self.now = self.now.max(waiting.until);
        }
        self.statistics.turns += 1;
        self.statistics.waiting_ns += self.now.since(self.asleep_since).as_nanos();
        self.asleep_since = self.now;

        self.collect_readiness(waiting);
        self.expire();
        self.collect_signals();
        self.collect_wakes();
        self.lists.queue_all(List::TRIGGERED, List::QUEUE);
        self.lists.queue_all(List::AFTER, List::QUEUE);

        self.budget_left = if self.config.budget == 0 { BUDGET } else { self.config.budget };
        self.phase = super::Phase::default();
        self.lists.queued()
    }

    fn collect_readiness(&mut self, waiting: &mut Waiting) {
        if self.phase.raced {
            // Another thread changed a registration while the wait was under way: ask again, without sleeping.
            self.backend.prepare(self.registrations.first_mut(self.mark + 1), &mut waiting.plan);
            waiting.plan.timeout = Duration::ZERO;
            waiting.plan.outcome = self.backend.wait(&mut waiting.plan);
        }
        let Engine { backend, registrations, lists, notifier, .. } = self;
        backend.collect(registrations, &mut waiting.plan, &mut |registration, ready| {
            let Some(index) = registration.checked_sub(1) else {
                return sys::fd::drain(notifier.watched);
            };
            let index = index as u32;
            let slot = &mut lists.slots[index];
            // Readiness wins over an idle timeout that is still queued.
            let pending = slot.ready() & !Ready::TIMEOUT.bits() as u8;
            slot.set_ready(pending | (ready & Ready::OF_FD).bits() as u8);
            lists.queue(index);
        });
        // A plan is read once: a second collect without a wait finds nothing.
        waiting.plan.outcome = Ok(0);
    }

    fn collect_signals(&mut self) {
        let mut came = self.shared.take_signals();
        while came != 0 {
            let signal = came.trailing_zeros() as i32 + 1;
            came &= came - 1;
            if let Some(index) = signals::source_of(signal, &self.shared) {
                self.lists.slots[index].set_ready(Ready::READABLE.bits() as u8);
                self.lists.queue(index);
            }
            if signal == sys::signal::CHILD && self.children_by_signal > 0 {
                self.look_for_children();
            }
        }
    }

    fn collect_wakes(&mut self) {
        let Engine { shared, lists, .. } = self;
        shared.names.take_woken(|index| {
            if lists.slots[index].kind().is_some() {
                lists.slots[index].set(bits::TRIGGERED, true);
                if !lists.list_of(index).comes_by_itself() {
                    lists.queue(index);
                }
            }
        });
    }
}

/// Phase 4: next. One event at a time.
impl Engine {
    /// Takes out the next event of one of these kinds. `None`: there is none, or this turn's budget is used up.
    ///
    /// O(1) for all kinds; O(events before it) when a mask selects. Deferred events come when no other that was asked
    /// for is left in this turn; idle ones when this turn had nothing else.
    pub(crate) fn next(&mut self, kinds: Kinds) -> Option<Taken> {
        while self.budget_left > 0 {
            let Some(node) = self.pick(kinds, List::QUEUE) else { break };
            if let Some(taken) = self.take(node) {
                self.budget_left -= 1;
                self.dispatches = self.dispatches.wrapping_add(1);
                self.phase.idle_done |= !matches!(taken.event.kind, Kind::Before | Kind::After);
                return Some(taken);
            }
        }
        if kinds.contains(Kinds::DEFERRED) && !self.phase.deferred_done {
            self.phase.deferred_done = true;
            let count = self.lists.queue_all(List::DEFERRED, List::LATE);
            self.phase.idle_done |= count > 0;
        }
        if kinds.contains(Kinds::IDLE) && !self.phase.idle_done {
            self.phase.idle_done = true;
            self.lists.queue_all(List::IDLE, List::LATE);
        }
        loop {
            let node = self.pick(kinds, List::LATE)?;
            if let Some(taken) = self.take(node) {
                return Some(taken);
            }
        }
    }

    /// The node that is next: the first of the highest level that has one, and every eighth time the first of a lower
    /// one, in rotation.
    #[inline(never)]
    fn pick(&mut self, kinds: Kinds, queue: List) -> Option<u32> {
        let levels = LEVELS as u8;
        let (level, node) = (0..levels).find_map(|level| Some((level, self.head(queue.at(level), kinds)?)))?;
        if self.dispatches % LOWER_LEVELS_EVERY == LOWER_LEVELS_EVERY - 1 {
            for step in 1..=levels {
                let lower = (self.rotation + step) % levels;
                if lower > level
                    && let Some(node) = self.head(queue.at(lower), kinds)
                {
                    self.rotation = lower;
                    return Some(node);
                }
            }
        }
        Some(node)
    }

    #[inline]
    fn head(&mut self, list: List, kinds: Kinds) -> Option<u32> {
        if kinds.is_all() {
            return self.lists.first(list);
        }
        self.lists.first_of(list, |lists, node| match lists.post_of(node) {
            Some(_) => kinds.contains(Kinds::POST),
            None => lists.slots[node].kind().is_some_and(|kind| kinds.contains(kind.mask())),
        })
    }

    /// Takes a node out of its queue and makes an event of it; `None`: it concerns nobody any more.
    fn take(&mut self, node: u32) -> Option<Taken> {
        self.lists.unlink(node);
        let taken = match self.lists.post_of(node) {
            Some(post) => self.take_post(post),
            None => self.take_source(node),
        };
        match &taken {
            Some(taken) => self.statistics.events[taken.event.kind as usize - 1] += 1,
            None => self.statistics.stale_dropped += 1,
        }
        taken
    }

    fn take_post(&mut self, post: u32) -> Option<Taken> {
        let (handle, value) = self.free_post(post);
        let handle = Handle::from_raw(handle);
        let index = self.resolve(handle).ok()?;
        let slot = &self.lists.slots[index];
        let event = Event {
            source: handle,
            kind: Kind::Post,
            ready: Ready::empty(),
            value,
            fd: -1,
            level: slot.level(),
            token: slot.target.user.addr(),
        };
        Some(Taken { event, target: slot.target })
    }

    fn take_source(&mut self, index: u32) -> Option<Taken> {
        let slot = &mut self.lists.slots[index];
        let kind = slot.kind()?;
        let pending = slot.ready() != 0;
        let triggered = slot.has(bits::TRIGGERED);
        let (level, target) = (slot.level(), slot.target);
        let pending_ready = slot.ready();
        slot.set(bits::TRIGGERED, false);
        slot.set_ready(0);

        let mut ready = Ready::empty();
        let mut value = 0;
        let mut fd = -1;
        let due = match kind {
            Kind::Io => {
                ready = self.take_readiness(index, pending_ready, triggered);
                fd = self.fd_of(index);
                !ready.is_empty()
            }
            Kind::Timer => {
                value = slot.deadline.cast_signed();
                slot.deadline = 0;
                value > 0
            }
            Kind::Signal => {
                fd = slot.extra.cast_signed();
                value = i64::from(signals::take_count(fd));
                value > 0
            }
            Kind::Child => {
                fd = slot.extra.cast_signed();
                match if pending { self.reap(index) } else { None } {
                    Some(status) => {
                        value = i64::from(status);
                        true
                    }
                    None => false,
                }
            }
            Kind::Deferred => {
                let scheduled = slot.has(bits::ACTIVE);
                slot.set(bits::ACTIVE, false);
                self.recount(index);
                scheduled
            }
            Kind::Idle | Kind::Before | Kind::After => {
                let on = slot.has(bits::ACTIVE);
                self.rest(index);
                on
            }
            Kind::Wake | Kind::Post => false,
        };
        if triggered {
            ready |= Ready::TRIGGERED;
        }
        if !due && !triggered {
            return None;
        }
        let source = self.shared.names.handle(index);
        let token = target.user.addr();
        Some(Taken { event: Event { source, kind, ready, value, fd, level, token }, target })
    }

    /// What is left of an I/O source's pending readiness, judged by its interest of this moment.
    fn take_readiness(&mut self, index: u32, pending: u8, triggered: bool) -> Ready {
        let interest = self.interest_of(index);
        let pending = Ready::from_bits_truncate(u16::from(pending));
        let mut ready = pending & Ready::DEADLINE;
        if !interest.is_empty() {
            let mut asked = interest | Ready::ERROR | Ready::HANGUP;
            asked.set(Ready::PEER_CLOSED, interest.contains(Ready::READABLE));
            ready |= pending & asked;
            if ready.is_empty() && !triggered {
                ready |= pending & Ready::TIMEOUT;
            }
        }
        if ready.is_empty() && !triggered {
            return ready;
        }
        // Something is delivered: the idle timeout counts from here. A store; the heap learns of it when it fires.
        let slot = &mut self.lists.slots[index];
        slot.time = self.now.as_nanos();
        if slot.has(bits::ONESHOT) && ready.intersects(Ready::OF_FD) {
            self.set_interest(index, Ready::empty());
        }
        ready
    }

    fn look_for_children(&mut self) {
        for index in 0..self.mark {
            if children::is_running(&self.lists.slots[index]) {
                self.lists.slots[index].set_ready(Ready::READABLE.bits() as u8);
                self.lists.queue(index);
            }
        }
    }
}
