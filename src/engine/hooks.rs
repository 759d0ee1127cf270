//! Sources around the turn: before and after the wait, idle, deferred.

use super::Engine;
use crate::error::{Error, Result};
use crate::handle::{Handle, Kind};
use crate::storage::lists::List;
use crate::storage::slot::{Target, bits};

/// Where a source of this kind waits while it is on.
fn home(kind: Kind) -> Option<List> {
    match kind {
        Kind::Before => Some(List::BEFORE),
        Kind::After => Some(List::AFTER),
        Kind::Idle => Some(List::IDLE),
        Kind::Deferred => Some(List::DEFERRED),
        Kind::Io => Some(List::ALWAYS),
        _ => None,
    }
}

impl Engine {
    /// A hook, on: [`Kind::Before`], [`Kind::After`], [`Kind::Idle`]; or a deferred source, not scheduled. ENOSPC.
    /// O(1).
    pub(crate) fn add_hook(&mut self, kind: Kind, target: Target) -> Result<Handle> {
        debug_assert!(home(kind).is_some());
        let index = self.free_slot(kind)?;
        self.occupy(index, kind, target);
        self.lists.links[index].set(bits::ACTIVE, kind != Kind::Deferred);
        self.rest(index);
        Ok(self.added(index))
    }

    /// Sends a hook that is on, and in no list, to where it waits for its time.
    pub(super) fn rest(&mut self, index: u32) {
        let link = &self.lists.links[index];
        if let Some(list) = link.kind().and_then(home)
            && link.has(bits::ACTIVE)
            && self.lists.list_of(index) == List::NONE
        {
            self.lists.push(list, index);
        }
    }

    /// Turns a hook on or off. EINVAL: the source is none. O(1).
    pub(crate) fn enable_hook(&mut self, handle: Handle, on: bool) -> Result<()> {
        let index = self.resolve(handle)?;
        let link = &mut self.lists.links[index];
        if !matches!(link.kind(), Some(Kind::Before | Kind::After | Kind::Idle)) {
            return Err(Error::INVALID);
        }
        link.set(bits::ACTIVE, on);
        if on {
            self.rest(index);
        } else if !link.has(bits::TRIGGERED) {
            // Off while it is queued: nothing is delivered, unless the program has triggered it.
            self.lists.unlink(index);
        }
        self.recount(index);
        Ok(())
    }

    /// Whether a hook is on, or a deferred source scheduled. EINVAL: the source is neither. O(1).
    pub(crate) fn hook_enabled(&self, handle: Handle) -> Result<bool> {
        let link = &self.lists.links[self.resolve(handle)?];
        match link.kind() {
            Some(Kind::Before | Kind::After | Kind::Idle | Kind::Deferred) => Ok(link.has(bits::ACTIVE)),
            _ => Err(Error::INVALID),
        }
    }

    /// Schedules a deferred source: once, after this turn's events. Again before that: no change. EINVAL: the source
    /// is of another kind. O(1).
    pub(crate) fn defer(&mut self, handle: Handle) -> Result<()> {
        let index = self.resolve_kind(handle, Kind::Deferred)?;
        self.lists.links[index].set(bits::ACTIVE, true);
        // Triggered, it would come earlier; its place is after this turn's events.
        let list = self.lists.list_of(index);
        if list == List::TRIGGERED || list.is_queue() && !list.is_late() {
            self.lists.unlink(index);
        }
        self.rest(index);
        self.recount(index);
        Ok(())
    }
}
