//! What names a source, and what kinds of source there are.

/// Names one source of one loop: slot index and generation, in 63 bits. Zero names nothing.
///
/// A handle outlives its source: once that is removed, every use of it is [`Error::STALE`](crate::Error::STALE),
/// also when the slot has a new owner. A slot has 2^38 of them, which at 100,000 new sources a second in one and the
/// same slot come round after 31 days.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Handle(u64);

impl Handle {
    /// Names nothing.
    pub const NONE: Handle = Handle(0);

    /// From the number that [`Handle::raw`] gave. Any other number is stale or, at worst, another live source.
    #[must_use]
    #[inline]
    pub const fn from_raw(raw: u64) -> Handle {
        Handle(raw)
    }

    /// As a number, for instance to send it elsewhere.
    #[must_use]
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident $flag:ident = $number:literal;)*) => {
        /// What kind of source, or of event, it is.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Kind { $($(#[doc = $doc])* $name = $number),* }

        impl Kind {
            /// How many kinds there are.
            pub(crate) const COUNT: usize = [$($number),*].len();

            #[inline]
            pub(crate) const fn from_number(number: u8) -> Option<Kind> {
                match number { $($number => Some(Kind::$name),)* _ => None }
            }

            /// The kind as one bit, and as a set of one.
            #[must_use]
            #[inline]
            pub const fn mask(self) -> Kinds {
                Kinds::from_bits_truncate(1 << (self as u32 - 1))
            }
        }

        bitflags::bitflags! {
            /// A set of kinds.
            #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
            pub struct Kinds: u32 { $($(#[doc = $doc])* const $flag = 1 << ($number - 1);)* }
        }
    };
}

kinds! {
    /// An fd.
    Io IO = 1;
    /// A timer.
    Timer TIMER = 2;
    /// A signal.
    Signal SIGNAL = 3;
    /// The end of a child process.
    Child CHILD = 4;
    /// A wake from another thread or a signal handler.
    Wake WAKE = 5;
    /// A posted value. Only events are of this kind: a post goes to a source of another.
    Post POST = 6;
    /// Once, after a turn's events.
    Deferred DEFERRED = 7;
    /// When nothing else was ready.
    Idle IDLE = 8;
    /// Before the wait.
    Before BEFORE = 9;
    /// After the wait.
    After AFTER = 10;
    /// An operation that has completed.
    Operation OPERATION = 11;
    /// A connection, or a socket of datagrams.
    Stream STREAM = 12;
    /// A connection to a listener.
    Listener LISTENER = 13;
}
