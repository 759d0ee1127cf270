//! One entry of the static handler table, and one post: what a source needs, in 48 bytes, and a posted value in 24, of
//! which 8 are the link that puts either into a queue.
//!
//! A slot's generation is not here but in `names`, where other threads may read it.

use crate::handle::Kind;
use crate::time::Instant;

/// An index of 24 bits and a byte beside it, in one word.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Tagged(u32);

/// The index that names nothing. One less is the number of nodes (sources and posts) that there can be.
pub(crate) const NIL: u32 = 0xff_ffff;

impl Tagged {
    pub(crate) const EMPTY: Tagged = Tagged(NIL << 8);

    #[inline]
    pub(crate) const fn index(self) -> u32 {
        self.0 >> 8
    }

    #[inline]
    pub(crate) const fn tag(self) -> u8 {
        self.0 as u8
    }

    #[inline]
    pub(crate) fn set_index(&mut self, index: u32) {
        self.0 = index << 8 | self.0 & 0xff;
    }

    #[inline]
    pub(crate) fn set_tag(&mut self, tag: u8) {
        self.0 = self.0 & !0xff | u32::from(tag);
    }
}

/// What a slot remembers in single bits.
pub(crate) mod bits {
    /// The two low bits: the level of the next queueing.
    pub(crate) const LEVEL: u8 = 0b11;
    /// Does not keep the loop alive.
    pub(crate) const UNCOUNTED: u8 = 1 << 2;
    /// I/O: the interest becomes 0 on delivery.
    pub(crate) const ONESHOT: u8 = 1 << 3;
    /// Is counted among those that keep the loop alive.
    pub(crate) const COUNTED: u8 = 1 << 4;
    /// `becket_trigger` or `becket_wake` was called and not yet delivered.
    pub(crate) const TRIGGERED: u8 = 1 << 5;
    /// A timer is armed, a hook is on, a child has not been reaped, a deferred source is scheduled. I/O: the fd cannot be
    /// waited for, and so is always ready.
    pub(crate) const ACTIVE: u8 = 1 << 6;
    /// `extra` is an idle timeout.
    pub(crate) const IDLE: u8 = 1 << 7;
}

/// Whose handler it is: a function of the front end, null for none, and the user's pointer or token. Nothing but the
/// front end calls the one or follows the other.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Target {
    pub(crate) handler: *const (),
    pub(crate) user: *mut (),
}

/// One source.
///
/// ```text
///                    what `time`, `deadline` and `extra` are, by kind
///           time                    deadline                extra
/// I/O       the last delivery       the fixed deadline      the idle timeout (bit IDLE), else arming order
/// stream    likewise                likewise                likewise
/// timer     the period              periods gone by         arming order
/// signal                                                    the signal
/// child                                                     the process
/// ```
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) target: Target,
    pub(crate) time: u64,
    pub(crate) deadline: u64,
    /// Place in the heap of deadlines. Tag: pending readiness.
    heap: Tagged,
    pub(crate) extra: u32,
}

impl Slot {
    /// A slot for a new source. Everything that was there before is overwritten, whatever it was.
    pub(crate) fn new(target: Target) -> Slot {
        Slot { target, time: 0, deadline: u64::MAX, heap: Tagged::EMPTY, extra: 0 }
    }

    /// Pending readiness: the low eight flags of `Ready`.
    #[inline]
    pub(crate) fn ready(&self) -> u8 {
        self.heap.tag()
    }

    #[inline]
    pub(crate) fn set_ready(&mut self, ready: u8) {
        self.heap.set_tag(ready);
    }

    /// Place in the heap, or [`NIL`].
    #[inline]
    pub(crate) fn heap_place(&self) -> u32 {
        self.heap.index()
    }

    #[inline]
    pub(crate) fn set_heap_place(&mut self, place: u32) {
        self.heap.set_index(place);
    }

    /// The fixed deadline of an I/O source.
    #[inline]
    pub(crate) fn fixed_deadline(&self) -> Instant {
        Instant::from_nanos(self.deadline)
    }
}

/// A value on its way to a source. The place of a post that is free holds the next free one in `handle`.
#[repr(C)]
pub(crate) struct Post {
    pub(crate) handle: u64,
    pub(crate) value: i64,
}

/// What makes a source or a post a node of a list, and the bytes that find room beside that: the kind of every node, the
/// number of the list that it is in (0: none), and the bits of a source.
#[repr(C)]
pub(crate) struct Link {
    /// Tag: kind in the low half, list in the high half.
    next: Tagged,
    /// Tag: `bits`.
    prev: Tagged,
}

/// As a node of a list.
impl Link {
    /// In no list. Everything that was there before is overwritten.
    pub(crate) fn new(kind: Kind) -> Link {
        let mut link = Link { next: Tagged::EMPTY, prev: Tagged::EMPTY };
        link.next.set_tag(kind as u8);
        link
    }

    #[inline]
    pub(crate) fn next(&self) -> u32 {
        self.next.index()
    }

    #[inline]
    pub(crate) fn set_next(&mut self, node: u32) {
        self.next.set_index(node);
    }

    #[inline]
    pub(crate) fn prev(&self) -> u32 {
        self.prev.index()
    }

    #[inline]
    pub(crate) fn set_prev(&mut self, node: u32) {
        self.prev.set_index(node);
    }

    /// 0: in no list.
    #[inline]
    pub(crate) fn list(&self) -> u8 {
        self.next.tag() >> 4
    }

    /// Takes it out of its list. What it was linked to has to be linked anew.
    #[inline]
    pub(crate) fn leave(&mut self) {
        self.next.set_tag(self.next.tag() & 0xf);
    }

    /// Makes it the last of a list, behind `prev`.
    #[inline]
    pub(crate) fn join(&mut self, list: u8, prev: u32) {
        self.next = Tagged(NIL << 8 | u32::from(self.next.tag() & 0xf | list << 4));
        self.prev.set_index(prev);
    }
}

/// As the small fields of a source.
impl Link {
    /// Frees the slot; `next` is the free slot behind it.
    pub(crate) fn vacate(&mut self, next: u32) {
        self.next = Tagged::EMPTY;
        self.next.set_index(next);
    }

    /// The kind as a number; 0: the slot is free.
    #[inline]
    pub(crate) fn kind_number(&self) -> u8 {
        self.next.tag() & 0xf
    }

    /// Whether it is an I/O source, in no list, of level 0, and with nothing that a delivery has to look at but an idle
    /// timeout.
    #[inline]
    pub(crate) fn is_plain_io(&self) -> bool {
        const BITS: u8 = bits::LEVEL | bits::ONESHOT | bits::TRIGGERED | bits::ACTIVE;
        self.next.tag() == Kind::Io as u8 && self.prev.tag() & BITS == 0
    }

    /// Whether it is a stream, in no list, of level 0, and not triggered.
    #[cfg(feature = "streams")]
    #[inline]
    pub(crate) fn is_plain_stream(&self) -> bool {
        self.next.tag() == Kind::Stream as u8 && self.prev.tag() & (bits::LEVEL | bits::TRIGGERED) == 0
    }

    /// Whether it is an operation, in no list, and of level 0.
    #[cfg(feature = "operations")]
    #[inline]
    pub(crate) fn is_plain_operation(&self) -> bool {
        self.next.tag() == Kind::Operation as u8 && self.prev.tag() & bits::LEVEL == 0
    }

    /// `None`: the slot is free.
    #[inline]
    pub(crate) fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.next.tag() & 0xf)
    }

    #[inline]
    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.next.tag() & 0xf == kind as u8
    }

    #[inline]
    pub(crate) fn has(&self, bit: u8) -> bool {
        self.prev.tag() & bit != 0
    }

    #[inline]
    pub(crate) fn set(&mut self, bit: u8, on: bool) {
        let tag = self.prev.tag();
        self.prev.set_tag(if on { tag | bit } else { tag & !bit });
    }

    #[inline]
    pub(crate) fn level(&self) -> u8 {
        self.prev.tag() & bits::LEVEL
    }

    pub(crate) fn set_level(&mut self, level: u8) {
        self.prev.set_tag(self.prev.tag() & !bits::LEVEL | level & bits::LEVEL);
    }
}
