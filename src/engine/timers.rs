//! Deadlines: timers, and the idle timeouts and fixed deadlines of I/O sources.

use super::Engine;
use crate::backend::Ready;
use crate::error::Result;
use crate::handle::{Handle, Kind};
use crate::storage::slot::{Target, bits};
use crate::time::{Duration, Instant, PackedDuration};

/// Timers.
impl Engine {
    /// A timer: first after `delay` (endless: disarmed), then every `period` (zero: never again). ENOSPC. O(log n).
    pub(crate) fn add_timer(&mut self, delay: Duration, period: Duration, target: Target) -> Result<Handle> {
        let index = self.free_slot(Kind::Timer)?;
        self.occupy(index, Kind::Timer, target);
        self.arm(index, self.fresh_now() + delay, period);
        Ok(self.added(index))
    }

    /// Arms or re-arms a timer, `delay` from a fresh clock reading. Expirations that are queued are forgotten.
    /// O(log n).
    pub(crate) fn arm_timer(&mut self, handle: Handle, delay: Duration, period: Duration) -> Result<()> {
        let index = self.resolve_kind(handle, Kind::Timer)?;
        self.arm(index, self.fresh_now() + delay, period);
        Ok(())
    }

    /// The same at a point in time; one that has passed expires next turn. O(log n), no clock reading.
    pub(crate) fn arm_timer_at(&mut self, handle: Handle, at: Instant, period: Duration) -> Result<()> {
        let index = self.resolve_kind(handle, Kind::Timer)?;
        self.arm(index, at, period);
        Ok(())
    }

    /// Disarms a timer, and forgets expirations that are queued. It keeps its slot. O(log n).
    pub(crate) fn disarm_timer(&mut self, handle: Handle) -> Result<()> {
        self.arm_timer_at(handle, Instant::NEVER, Duration::ZERO)
    }

    /// When a timer expires next; NEVER: it is disarmed. O(1).
    pub(crate) fn timer_deadline(&self, handle: Handle) -> Result<Instant> {
        let index = self.resolve_kind(handle, Kind::Timer)?;
        Ok(self.deadlines.get(&self.lists, index))
    }

    /// The period of a timer; zero: it is one-shot. O(1).
    pub(crate) fn timer_period(&self, handle: Handle) -> Result<Duration> {
        let index = self.resolve_kind(handle, Kind::Timer)?;
        Ok(Duration::from_nanos(self.lists.slots[index].time))
    }

    fn arm(&mut self, index: u32, at: Instant, period: Duration) {
        let slot = &mut self.lists.slots[index];
        slot.time = period.as_nanos();
        slot.deadline = 0;
        let link = &mut self.lists.links[index];
        link.set(bits::ACTIVE, at != Instant::NEVER);
        if !link.has(bits::TRIGGERED) {
            self.lists.unlink(index);
        }
        self.set_deadline(index, at);
        self.recount(index);
    }

    /// A point that lies ahead, or none: at the very end of time there is no next one.
    fn ahead(&self, at: Instant) -> Instant {
        if at > self.now { at } else { Instant::NEVER }
    }

    /// A periodic timer without end has no second expiration: a period that is endless is none.
    fn expire_timer(&mut self, index: u32, due: Instant) {
        let slot = &mut self.lists.slots[index];
        let period = slot.time;
        let next = if period == 0 || period == u64::MAX {
            slot.deadline += 1;
            self.lists.links[index].set(bits::ACTIVE, false);
            Instant::NEVER
        } else {
            let missed = self.now.since(due).as_nanos() / period;
            slot.deadline = slot.deadline.saturating_add(missed + 1);
            due + Duration::from_nanos((missed + 1).saturating_mul(period))
        };
        self.set_deadline(index, self.ahead(next));
        self.recount(index);
        self.lists.queue(index);
    }
}

/// All deadlines.
impl Engine {
    /// Sets, moves or (NEVER) cancels the one deadline that a source has in the heap. O(log n).
    pub(super) fn set_deadline(&mut self, index: u32, at: Instant) {
        if !self.lists.links[index].has(bits::IDLE) && at != Instant::NEVER {
            self.lists.slots[index].extra = self.arming;
            self.arming = self.arming.wrapping_add(1);
        }
        self.deadlines.set(&mut self.lists, index, at);
    }

    /// Everything that is due at `now`, in order. O(due · log n): each source has one deadline, and its next one lies
    /// ahead.
    #[cfg_attr(not(becket_small), inline(never))]
    pub(super) fn expire(&mut self) {
        while let Some((due, index)) = self.deadlines.first() {
            if due > self.now {
                return;
            }
            if self.lists.links[index].is(Kind::Timer) {
                self.expire_timer(index, due);
                continue;
            }
            #[cfg(feature = "operations")]
            if self.lists.links[index].is(Kind::Operation) {
                self.expire_operation(index);
                continue;
            }
            #[cfg(feature = "streams")]
            if self.lists.links[index].is(Kind::Listener) {
                self.unstall(index);
                continue;
            }
            self.expire_io(index, due);
        }
    }
}

/// Timeouts of I/O sources. The heap holds the earlier of the fixed deadline and the idle timeout as it was when the
/// source was last looked at; delivery only stores the time, and what fires too early is moved on here.
impl Engine {
    /// TIMEOUT when nothing was delivered for so long; zero or endless: none. It counts from here. O(log n).
    pub(crate) fn set_idle_timeout(&mut self, handle: Handle, span: Duration) -> Result<()> {
        let index = self.resolve_io(handle)?;
        let now = self.fresh_now().as_nanos();
        let slot = &mut self.lists.slots[index];
        let packed = PackedDuration::new(span);
        // What is kept as endless is none, and comes in order with the other deadlines.
        let on = span != Duration::ZERO && packed.get() != Duration::FOREVER;
        self.lists.links[index].set(bits::IDLE, on);
        slot.extra = if on { packed.bits() } else { 0 };
        slot.time = now;
        slot.set_ready(slot.ready() & !Ready::TIMEOUT.bits() as u8);
        self.settle_io(index);
        Ok(())
    }

    /// DEADLINE at this time, whatever is delivered until then; NEVER: none. O(log n).
    pub(crate) fn set_io_deadline(&mut self, handle: Handle, at: Instant) -> Result<()> {
        let index = self.resolve_io(handle)?;
        let slot = &mut self.lists.slots[index];
        slot.deadline = at.as_nanos();
        slot.set_ready(slot.ready() & !Ready::DEADLINE.bits() as u8);
        self.settle_io(index);
        Ok(())
    }

    /// The same, `delay` from a fresh clock reading.
    pub(crate) fn set_io_deadline_after(&mut self, handle: Handle, delay: Duration) -> Result<()> {
        self.set_io_deadline(handle, self.fresh_now() + delay)
    }

    /// The idle timeout of an I/O source, as it is kept; FOREVER: none. O(1).
    pub(crate) fn io_idle_timeout(&self, handle: Handle) -> Result<Duration> {
        let index = self.resolve_io(handle)?;
        Ok(self.lists.idle_timeout(index).unwrap_or(Duration::FOREVER))
    }

    /// The fixed deadline of an I/O source; NEVER: none, or it has passed. O(1).
    pub(crate) fn io_deadline(&self, handle: Handle) -> Result<Instant> {
        let index = self.resolve_io(handle)?;
        Ok(self.lists.slots[index].fixed_deadline())
    }

    /// The point at which an I/O source's idle timeout is over; a paused one has none.
    fn idle_deadline(&self, index: u32) -> Instant {
        match self.lists.idle_timeout(index) {
            Some(span) if !self.interest_of(index).is_empty() => {
                Instant::from_nanos(self.lists.slots[index].time) + span
            }
            _ => Instant::NEVER,
        }
    }

    /// Puts the source into the heap as it is now.
    pub(super) fn settle_io(&mut self, index: u32) {
        let at = self.lists.slots[index].fixed_deadline().min(self.idle_deadline(index));
        self.set_deadline(index, at);
        self.recount(index);
    }

    /// An idle timeout counts from the moment that a paused source is resumed.
    pub(super) fn restart_idle(&mut self, index: u32) {
        if self.lists.links[index].has(bits::IDLE) {
            let now = self.fresh_now().as_nanos();
            let slot = &mut self.lists.slots[index];
            slot.time = now;
            slot.set_ready(slot.ready() & !Ready::TIMEOUT.bits() as u8);
            self.settle_io(index);
        }
    }

    fn expire_io(&mut self, index: u32, due: Instant) {
        let idle_deadline = self.idle_deadline(index);
        let at = self.lists.slots[index].fixed_deadline().min(idle_deadline);
        if at > due {
            // Something was delivered meanwhile. If it is over all the same, its turn comes in order.
            return self.set_deadline(index, at);
        }
        let idle_over = idle_deadline <= self.now;
        let slot = &mut self.lists.slots[index];
        let mut ready = Ready::from_bits_truncate(u16::from(slot.ready()));
        if slot.fixed_deadline() <= self.now {
            slot.deadline = u64::MAX;
            ready |= Ready::DEADLINE;
        }
        if idle_over {
            slot.time = self.now.as_nanos();
            // Readiness that is delivered wins over it: that is known when the event is taken out.
            ready |= Ready::TIMEOUT;
        }
        slot.set_ready(ready.bits() as u8);
        if ready.intersects(Ready::DEADLINE.union(Ready::TIMEOUT)) {
            self.lists.queue(index);
        }
        let at = self.lists.slots[index].fixed_deadline().min(self.idle_deadline(index));
        self.set_deadline(index, self.ahead(at));
        self.recount(index);
    }
}
