//! The event queue: a FIFO for each of the 4 levels, and the lists of what waits for its place in a turn.
//!
//! A node is a source or a post; it is in at most one list, so a source can never be queued twice, and queueing one
//! cannot fail: its place is part of it. Everything is O(1) but for `first_of`. A ring of indices for each level
//! would take 16 bytes a source instead of 8, could not give up an entry in its middle, and would have to keep a
//! removed source's slot from reuse for as long as the entry stays.

use super::region::Region;
use super::slot::{NIL, Node, Post, Slot};

/// Levels of the queue: 0 goes first.
pub(crate) const LEVELS: usize = 4;

/// Which list. A number below 16: it is kept in half a byte; 0 is no list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct List(u8);

impl List {
    pub(crate) const NONE: List = List(0);
    /// Triggered by the program: delivered next turn.
    pub(crate) const TRIGGERED: List = List(9);
    /// Before-wait sources that are on and not queued.
    pub(crate) const BEFORE: List = List(10);
    /// After-wait sources, likewise.
    pub(crate) const AFTER: List = List(11);
    /// Idle sources, likewise.
    pub(crate) const IDLE: List = List(12);
    /// Deferred sources that are scheduled.
    pub(crate) const DEFERRED: List = List(13);
    const COUNT: usize = 14;

    /// The queue of level 0; those of the others follow it.
    pub(crate) const QUEUE: List = List(1);
    /// The queue of level 0 for what is delivered at the end of a turn, deferred and idle; likewise.
    pub(crate) const LATE: List = List(1 + LEVELS as u8);

    /// The queue of another level.
    #[inline]
    pub(crate) const fn at(self, level: u8) -> List {
        List(self.0 + level)
    }

    /// Whether what is in this list becomes an event by itself in the turn to come.
    #[inline]
    pub(crate) fn comes_by_itself(self) -> bool {
        matches!(self, List::BEFORE | List::AFTER | List::DEFERRED)
    }

    /// Whether what is in this list is an event already.
    #[inline]
    pub(crate) const fn is_queue(self) -> bool {
        self.0 >= 1 && self.0 <= 8
    }
}

#[derive(Clone, Copy)]
struct Ends {
    head: u32,
    tail: u32,
}

/// All slots, all posts, and the lists that they are in.
pub(crate) struct Lists {
    pub(crate) slots: Region<Slot>,
    pub(crate) posts: Region<Post>,
    ends: [Ends; List::COUNT],
    queued: u32,
    queued_max: u32,
}

impl Lists {
    pub(crate) fn new(slots: Region<Slot>, posts: Region<Post>) -> Lists {
        let empty = Ends { head: NIL, tail: NIL };
        Lists { slots, posts, ends: [empty; List::COUNT], queued: 0, queued_max: 0 }
    }

    /// Events in the queues of all levels. O(1).
    #[inline]
    pub(crate) fn queued(&self) -> u32 {
        self.queued
    }

    /// The most that there ever were.
    pub(crate) fn queued_max(&self) -> u32 {
        self.queued_max
    }

    /// The node of a post: they are counted after the sources.
    #[inline]
    pub(crate) fn post_node(&self, post: u32) -> u32 {
        self.slots.len() as u32 + post
    }

    /// Which post a node is, or `None` for a source.
    #[inline]
    pub(crate) fn post_of(&self, node: u32) -> Option<u32> {
        node.checked_sub(self.slots.len() as u32)
    }

    #[inline]
    fn node(&mut self, node: u32) -> &mut dyn Node {
        match self.post_of(node) {
            None => &mut self.slots[node],
            Some(post) => &mut self.posts[post],
        }
    }

    /// Which list a node is in. O(1).
    #[inline]
    pub(crate) fn list_of(&self, node: u32) -> List {
        List(match self.post_of(node) {
            None => self.slots[node].list(),
            Some(post) => self.posts[post].list(),
        })
    }

    /// Puts a node that is in no list at the end of one. O(1).
    pub(crate) fn push(&mut self, list: List, index: u32) {
        debug_assert!(self.list_of(index) == List::NONE);
        let tail = self.ends[list.0 as usize].tail;
        let node = self.node(index);
        node.set_list(list.0);
        node.set_next(NIL);
        node.set_prev(tail);
        if tail == NIL {
            self.ends[list.0 as usize].head = index;
        } else {
            self.node(tail).set_next(index);
        }
        self.ends[list.0 as usize].tail = index;
        if list.is_queue() {
            self.queued += 1;
            self.queued_max = self.queued_max.max(self.queued);
        }
    }

    /// Queues a source as an event of its level, unless it is queued already. O(1).
    pub(crate) fn queue(&mut self, index: u32) {
        let list = self.list_of(index);
        if list.is_queue() {
            return;
        }
        self.unlink(index);
        self.push(List::QUEUE.at(self.slots[index].level()), index);
    }

    /// Queues all that is in a list now, each at its level. O(its length).
    pub(crate) fn queue_all(&mut self, list: List, target: List) -> u32 {
        let mut count = 0;
        while let Some(index) = self.first(list) {
            self.unlink(index);
            self.push(target.at(self.slots[index].level()), index);
            count += 1;
        }
        count
    }

    /// Takes a node out of the list that it is in, if any. O(1).
    pub(crate) fn unlink(&mut self, index: u32) {
        let list = self.list_of(index);
        if list == List::NONE {
            return;
        }
        let node = self.node(index);
        let (next, prev) = node.links();
        node.set_list(List::NONE.0);
        if next == NIL {
            self.ends[list.0 as usize].tail = prev;
        } else {
            self.node(next).set_prev(prev);
        }
        if prev == NIL {
            self.ends[list.0 as usize].head = next;
        } else {
            self.node(prev).set_next(next);
        }
        if list.is_queue() {
            self.queued -= 1;
        }
    }

    /// The first node of a list. O(1).
    #[inline]
    pub(crate) fn first(&self, list: List) -> Option<u32> {
        let head = self.ends[list.0 as usize].head;
        (head != NIL).then_some(head)
    }

    #[inline]
    pub(crate) fn is_empty(&self, list: List) -> bool {
        self.ends[list.0 as usize].head == NIL
    }

    /// The first node of a list that `wanted` accepts. O(nodes before it).
    pub(crate) fn first_of(&mut self, list: List, wanted: impl Fn(&Lists, u32) -> bool) -> Option<u32> {
        let mut node = self.ends[list.0 as usize].head;
        while node != NIL {
            if wanted(self, node) {
                return Some(node);
            }
            node = self.node(node).links().0;
        }
        None
    }
}
