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
        /// This listener has paused by itself, for want of room; it goes on by itself too.
        const PAUSED = 512;
    }
}

impl Ready {
    /// What can be asked for.
    pub const INTEREST: Ready = Ready::READABLE.union(Ready::PRIORITY).union(Ready::WRITABLE);
    /// What an fd can tell.
    pub(crate) const OF_FD: Ready = Ready::INTEREST.union(Ready::ERROR).union(Ready::HANGUP).union(Ready::PEER_CLOSED);
}

bitflags::bitflags! {
    /// How an fd is watched, beside what is asked of it. Stored in a registration above the interest.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub(crate) struct Mode: u16 {
        /// Told when it becomes ready, not as long as it is.
        const EDGE = 0x100;
        /// Of the processes that wait for it, not all are woken.
        const EXCLUSIVE = 0x200;
        /// Told once, and then silent until it is set again. epoll alone.
        const ONESHOT = 0x400;
        /// Where READABLE is asked for the backend receives by itself, into a buffer that it was lent. io_uring alone.
        const RECEIVE = 0x800;
        /// It has, and receives nothing more before that was taken.
        #[cfg(io_uring)]
        const RECEIVED = 0x1000;
        /// Which it would have, had that been taken. (Between the two lies what poll(2) may be asked for, POLLRDHUP.)
        #[cfg(io_uring)]
        const PASSED_OVER = 0x4000;
    }
}

/// An fd and what is asked of it. It is a `struct pollfd`, so that poll needs no other table; a paused one has its fd
/// complemented, which poll skips. The third field is the backend's own: poll's answer, or what the kernel was told.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub(crate) struct Registration {
    pub(crate) fd: i32,
    pub(crate) events: i16,
    pub(crate) state: u16,
}

impl Registration {
    /// No fd at all: a number that is none, paused or not.
    pub(crate) const NONE: Registration = Registration { fd: i32::MIN, events: 0, state: 0 };

    /// An fd with an interest, and the state that its place has.
    pub(crate) fn new(fd: i32, interest: Ready, mode: Mode, state: u16) -> Registration {
        let silent = interest.is_empty();
        Registration { fd: if silent { !fd } else { fd }, events: (interest.bits() | mode.bits()) as i16, state }
    }

    /// The same with another interest.
    pub(crate) fn with_interest(self, interest: Ready) -> Registration {
        Registration::new(self.fd(), interest, self.mode(), self.state)
    }

    /// The same in another mode.
    #[cfg(feature = "streams")]
    pub(crate) fn with_mode(self, mode: Mode) -> Registration {
        Registration::new(self.fd(), self.interest(), mode, self.state)
    }

    /// Whether there is no fd.
    pub(crate) fn is_none(self) -> bool {
        self.fd == Registration::NONE.fd
    }

    /// The fd, paused or not.
    #[inline]
    pub(crate) fn fd(self) -> i32 {
        if self.fd < 0 { !self.fd } else { self.fd }
    }

    #[inline]
    pub(crate) fn interest(self) -> Ready {
        Ready::from_bits_truncate(self.events as u16 & Ready::INTEREST.bits())
    }

    /// (Where no backend has modes, nothing is ever watched in one.)
    #[inline]
    pub(crate) fn mode(self) -> Mode {
        if cfg!(any(epoll, io_uring, feature = "simulator")) {
            Mode::from_bits_truncate(self.events as u16)
        } else {
            Mode::empty()
        }
    }
}
