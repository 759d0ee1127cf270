//! The event queue: a FIFO for each of the 4 levels, and the lists of what waits for its place in a turn.
//!
//! A node is a source or a post; it is in at most one list, so a source can never be queued twice, and queueing one
//! cannot fail: its place is part of it. Everything is O(1) but for `first_of`. A ring of indices for each level
//! would take 16 bytes a source instead of 8, could not give up an entry in its middle, and would have to keep a
//! removed source's slot from reuse for as long as the entry stays.

use super::region::Region;
use super::slot::{Link, NIL, Post, Slot, Target, bits};
use crate::handle::Kind;
use crate::time::{Duration, PackedDuration};

/// Levels of the queue: 0 goes first.
pub(crate) const LEVELS: usize = 4;

/// Which list. A number below 16: it is kept in half a byte; 0 is no list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct List(u8);

impl List {
    pub(crate) const NONE: List = List(0);
    /// The queue of level 0; those of the others follow it.
    pub(crate) const QUEUE: List = List(1);
    /// The queue of level 0 for what is delivered outside of a turn's budget: before-wait, deferred, idle; likewise.
    pub(crate) const LATE: List = List(1 + LEVELS as u8);
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
    /// I/O sources whose fd is always ready, and that are not queued.
    pub(crate) const ALWAYS: List = List(14);
    /// Operations of which an engine is to be told something: the request, or that it is cancelled.
    #[cfg(feature = "operations")]
    pub(crate) const UNTOLD: List = List(15);
    const COUNT: usize = if cfg!(feature = "operations") { 16 } else { 15 };

    /// The lists of events, as a set.
    pub(crate) const QUEUES: u16 = 0b1_1111_1110;

    /// The queue of all levels, as a set.
    pub(crate) const QUEUE_LEVELS: u16 = 0b1_1110;

    /// What is delivered outside of a turn's budget, or will be at its end, as a set.
    pub(crate) const LATE_COMERS: u16 = 0b1_1110_0000 | List::DEFERRED.set() | List::IDLE.set();

    /// The queue of another level.
    #[inline]
    pub(crate) const fn at(self, level: u8) -> List {
        List(self.0 + level)
    }

    /// This list as a set of one.
    #[inline]
    pub(crate) const fn set(self) -> u16 {
        1 << self.0
    }

    /// Whether it is one of the queues from [`List::LATE`] on.
    pub(crate) const fn is_late(self) -> bool {
        self.is_queue() && self.0 >= List::LATE.0
    }

    /// Whether what is in this list is an event already.
    #[inline]
    pub(crate) const fn is_queue(self) -> bool {
        self.set() & List::QUEUES != 0
    }
}

#[derive(Clone, Copy)]
struct Ends {
    head: u32,
    tail: u32,
}

/// All slots, all posts, and the lists that they are in.
#[repr(C)]
pub(crate) struct Lists {
    pub(crate) slots: Region<Slot>,
    /// Of the sources, then of the posts.
    pub(crate) links: Region<Link>,
    /// The lists that are not empty, as a set.
    filled: u16,
    queued: u32,
    queued_max: u32,
    ends: [Ends; List::COUNT],
    pub(crate) posts: Region<Post>,
}

/// Sources and posts.
impl Lists {
    pub(crate) fn new(slots: Region<Slot>, posts: Region<Post>, links: Region<Link>) -> Lists {
        let ends = [Ends { head: NIL, tail: NIL }; List::COUNT];
        Lists { slots, posts, links, ends, filled: 0, queued: 0, queued_max: 0 }
    }

    /// Makes a slot a source's.
    pub(crate) fn occupy(&mut self, index: u32, kind: Kind, target: Target) {
        self.slots[index] = Slot::new(target);
        self.links[index] = Link::new(kind);
    }

    /// Makes a post's place hold one; its node.
    #[inline]
    pub(crate) fn occupy_post(&mut self, post: u32, handle: u64, value: i64) -> u32 {
        self.posts[post] = Post { handle, value };
        let node = self.slots.len() as u32 + post;
        self.links[node] = Link::new(Kind::Post);
        node
    }

    /// Which post a node is.
    #[inline]
    pub(crate) fn post_of(&self, node: u32) -> u32 {
        node.wrapping_sub(self.slots.len() as u32)
    }

    /// The idle timeout of an I/O source, if one is set.
    #[inline]
    pub(crate) fn idle_timeout(&self, index: u32) -> Option<Duration> {
        self.links[index].has(bits::IDLE).then(|| PackedDuration::from_bits(self.slots[index].extra).get())
    }

    /// What decides between equal deadlines: arming order; idle timeouts come after them.
    pub(crate) fn arming_order(&self, index: u32) -> Option<u32> {
        (!self.links[index].has(bits::IDLE)).then_some(self.slots[index].extra)
    }
}

/// Lists.
impl Lists {
    /// Events in the queues of all levels. O(1).
    #[inline]
    pub(crate) fn queued(&self) -> u32 {
        self.queued
    }

    /// The most that there ever were.
    pub(crate) fn queued_max(&self) -> u32 {
        self.queued_max
    }

    /// Which list a node is in. O(1).
    #[inline]
    pub(crate) fn list_of(&self, node: u32) -> List {
        List(self.links[node].list())
    }

    /// Puts a node that is in no list at the end of one. O(1).
    #[inline]
    pub(crate) fn push(&mut self, list: List, node: u32) {
        debug_assert!(self.list_of(node) == List::NONE);
        let ends = &mut self.ends[list.0 as usize];
        let tail = ends.tail;
        ends.tail = node;
        self.links[node].join(list.0, tail);
        if tail == NIL {
            ends.head = node;
            self.filled |= list.set();
        } else {
            self.links[tail].set_next(node);
        }
        self.queued += u32::from(list.is_queue());
    }

    /// Remembers the most that were ever queued. After everything that may have queued something.
    #[inline]
    pub(crate) fn note_queued(&mut self) {
        self.queued_max = self.queued_max.max(self.queued);
    }

    /// Takes out the first node of a list. O(1).
    #[inline]
    pub(crate) fn pop(&mut self, list: List) -> Option<u32> {
        let ends = &mut self.ends[list.0 as usize];
        let node = ends.head;
        if node == NIL {
            return None;
        }
        if cfg!(becket_small) {
            self.unlink(node);
            return Some(node);
        }
        let link = &mut self.links[node];
        let next = link.next();
        link.leave();
        ends.head = next;
        if next == NIL {
            ends.tail = NIL;
            self.filled &= !list.set();
        } else {
            self.links[next].set_prev(NIL);
        }
        self.queued -= u32::from(list.is_queue());
        Some(node)
    }

    /// Takes a node out of the list that it is in, if any. O(1).
    #[inline]
    pub(crate) fn unlink(&mut self, node: u32) {
        let list = self.list_of(node);
        if list == List::NONE {
            return;
        }
        let link = &mut self.links[node];
        let (next, prev) = (link.next(), link.prev());
        link.leave();
        if next == NIL {
            self.ends[list.0 as usize].tail = prev;
        } else {
            self.links[next].set_prev(prev);
        }
        if prev != NIL {
            self.links[prev].set_next(next);
        } else {
            self.ends[list.0 as usize].head = next;
            if next == NIL {
                self.filled &= !list.set();
            }
        }
        self.queued -= u32::from(list.is_queue());
    }

    /// Queues a source as an event of its level, unless it is queued already. O(1).
    #[inline]
    pub(crate) fn queue(&mut self, index: u32) {
        let link = &self.links[index];
        let (list, level) = (List(link.list()), link.level());
        if list == List::NONE {
            self.push(List::QUEUE.at(level), index);
        } else if !list.is_queue() {
            self.unlink(index);
            self.push(List::QUEUE.at(level), index);
        }
    }

    /// Queues all that is in a list now, each at its level. O(its length).
    pub(crate) fn queue_all(&mut self, list: List, target: List) -> u32 {
        let mut count = 0;
        while let Some(index) = self.pop(list) {
            self.push(target.at(self.links[index].level()), index);
            count += 1;
        }
        self.note_queued();
        count
    }

    /// The levels of four queues that have something, as a set; level 0 is the lowest bit. O(1).
    #[inline]
    pub(crate) fn levels(&self, queue: List) -> u8 {
        (self.filled >> queue.0) as u8 & 0xf
    }

    /// Whether one of these lists has something: a set of them. O(1).
    #[inline]
    pub(crate) fn any(&self, lists: u16) -> bool {
        self.filled & lists != 0
    }

    /// The first node of a list that `wanted` accepts. O(nodes before it).
    pub(crate) fn first_of(&self, list: List, wanted: impl Fn(&Link) -> bool) -> Option<u32> {
        let mut node = self.ends[list.0 as usize].head;
        while node != NIL {
            let link = &self.links[node];
            if wanted(link) {
                return Some(node);
            }
            node = link.next();
        }
        None
    }
}
