//! Readiness, and what is asked for it: the words that backends and system calls share.

bitflags::bitflags! {
    /// Readiness: what an I/O source asks for (the first three), and what an event tells.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Ready: u16 {
        /// A read will not block: data, a connection to accept, or the end of the file.
        const READABLE = 1;
        /// Out-of-band data, or another exceptional condition: POLLPRI, select's third set.
        const PRIORITY = 2;
        /// A write will not block; a connect has ended, well or not.
        const WRITABLE = 4;
        /// An error is pending, or the fd is not open.
        const ERROR = 8;
        /// Both directions are closed.
        const HANGUP = 16;
        /// The peer has shut down its writing side. Comes with READABLE interest only, where the system tells.
        const PEER_CLOSED = 32;
        /// Nothing was delivered to this I/O source for its idle timeout. Never together with readiness.
        const TIMEOUT = 64;
        /// The fixed deadline of this I/O source has passed. May come together with readiness.
        const DEADLINE = 128;
        /// The program itself triggered the source, or woke it from another thread.
        const TRIGGERED = 256;
    }
}

impl Ready {
    /// What can be asked for.
    pub const INTEREST: Ready = Ready::READABLE.union(Ready::PRIORITY).union(Ready::WRITABLE);
    /// What an fd can tell.
    pub(crate) const OF_FD: Ready = Ready::INTEREST.union(Ready::ERROR).union(Ready::HANGUP).union(Ready::PEER_CLOSED);
}

/// An fd and what is asked of it. It is a `struct pollfd`, so that poll needs no other table; a paused one has its fd
/// complemented, which poll skips.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub(crate) struct Registration {
    pub(crate) fd: i32,
    pub(crate) events: i16,
    pub(crate) revents: i16,
}

impl Registration {
    /// No fd at all.
    pub(crate) const NONE: Registration = Registration { fd: -1, events: 0, revents: 0 };

    /// An fd with an interest.
    pub(crate) fn new(fd: i32, interest: Ready) -> Registration {
        let silent = interest.is_empty();
        Registration { fd: if silent { !fd } else { fd }, events: interest.bits() as i16, revents: 0 }
    }

    /// The fd, paused or not. Fd 0 paused and no fd at all look the same: who has a source knows that it has one.
    #[inline]
    pub(crate) fn fd(self) -> i32 {
        if self.fd < 0 { !self.fd } else { self.fd }
    }

    #[inline]
    pub(crate) fn interest(self) -> Ready {
        Ready::from_bits_truncate(self.events as u16 & Ready::INTEREST.bits())
    }
}
