//! Who tells what is ready.
//!
//! A backend watches registrations: an fd and the readiness that is asked of it, one for each source, in a table
//! that the engine owns, by the source's index plus one (the first is the loop's own wake descriptor). It knows
//! nothing of sources, handlers and queues.
//!
//! All backends keep one contract, [`Backend`]:
//! - what is reported is level-triggered: as long as an fd is ready, every collection says so;
//! - a registration with interest 0 is silent and costs nothing, whatever its fd does;
//! - `set` takes effect at the next `prepare`, cannot fail for space, and may be called any number of times;
//! - `wait` touches the [`Plan`] and what `prepare` put there: other threads may change registrations meanwhile;
//! - an fd that is not open is reported as ERROR for its own registration, and does not fail the others;
//! - with ERROR or HANGUP come the directions that were asked for, so that a handler may just read or write and see.

#[cfg(feature = "poll")]
mod poll;
#[cfg(feature = "select")]
mod select;

use crate::error::{Error, Result};
use crate::time::Duration;

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
    pub(crate) const OF_FD: Ready =
        Ready::INTEREST.union(Ready::ERROR).union(Ready::HANGUP).union(Ready::PEER_CLOSED);
}

/// An fd and what is asked of it. It is a `struct pollfd`, so that poll needs no other table; a paused one has its fd
/// complemented, which poll skips.
#[derive(Clone, Copy)]
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

    #[inline]
    pub(crate) fn fd(self) -> i32 {
        if self.fd < 0 { !self.fd } else { self.fd }
    }

    #[inline]
    pub(crate) fn interest(self) -> Ready {
        Ready::from_bits_truncate(self.events as u16 & Ready::INTEREST.bits())
    }
}

/// One wait: decided by `prepare`, carried out by `wait`, read by `collect`. It is all that `wait` touches.
pub(crate) struct Plan {
    /// How long to sleep at most.
    pub(crate) timeout: Duration,
    /// What the wait found.
    pub(crate) outcome: Result<usize>,
    /// The registrations to watch.
    pub(crate) registrations: *mut Registration,
    pub(crate) count: usize,
    #[cfg(feature = "select")]
    pub(crate) sets: [crate::sys::select::FdSet; 3],
    #[cfg(feature = "select")]
    pub(crate) limit: i32,
}

impl Plan {
    pub(crate) const fn new() -> Plan {
        Plan {
            timeout: Duration::ZERO,
            outcome: Ok(0),
            registrations: core::ptr::null_mut(),
            count: 0,
            #[cfg(feature = "select")]
            sets: [const { crate::sys::select::FdSet::new() }; 3],
            #[cfg(feature = "select")]
            limit: 0,
        }
    }
}

/// The contract of all backends; see the module's text.
pub(crate) trait Backend {
    /// The name by which it is chosen.
    fn name(&self) -> &'static core::ffi::CStr;

    /// Whether this backend can watch the fd at all. EINVAL: the number is too large for it. O(1).
    fn check(&self, fd: i32) -> Result<()>;

    /// The fd has this interest from now on; an empty one pauses it. O(1).
    fn set(&mut self, registration: &mut Registration, fd: i32, interest: Ready);

    /// Lays out a wait for the registrations. O(n) on select and poll.
    fn prepare(&mut self, registrations: &mut [Registration], plan: &mut Plan);

    /// Sleeps until something is ready, the plan's timeout is over, or a signal interrupts (EINTR).
    fn wait(&self, plan: &mut Plan) -> Result<usize>;

    /// Reports each ready registration, by its index, once. O(n) on select and poll.
    fn collect(&mut self, registrations: &[Registration], plan: &mut Plan, report: &mut impl FnMut(usize, Ready));
}

/// Which backend a configuration asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum BackendChoice {
    /// The best that is built in: poll, else select.
    #[default]
    Auto,
    /// select(2): every POSIX system, fds below FD_SETSIZE.
    Select,
    /// poll(2): every POSIX system.
    Poll,
}

/// The backend of a loop.
#[derive(Clone, Copy)]
pub(crate) enum AnyBackend {
    #[cfg(feature = "select")]
    Select(select::Select),
    #[cfg(feature = "poll")]
    Poll(poll::Poll),
}

impl AnyBackend {
    /// The backend that was asked for, and why it is this one; ENOTSUP: it is not built in.
    pub(crate) fn choose(choice: BackendChoice) -> Result<(AnyBackend, &'static core::ffi::CStr)> {
        match choice {
            #[cfg(feature = "select")]
            BackendChoice::Select => Ok((AnyBackend::Select(select::Select), c"")),
            #[cfg(feature = "poll")]
            BackendChoice::Poll => Ok((AnyBackend::Poll(poll::Poll), c"")),
            #[cfg(feature = "poll")]
            BackendChoice::Auto => Ok((AnyBackend::Poll(poll::Poll), c"the best one that is built in")),
            #[cfg(all(feature = "select", not(feature = "poll")))]
            BackendChoice::Auto => Ok((AnyBackend::Select(select::Select), c"poll is not built in")),
            #[allow(unreachable_patterns)]
            _ => Err(Error::UNSUPPORTED),
        }
    }
}

macro_rules! each_backend {
    ($self:ident, $backend:ident => $call:expr) => {
        match $self {
            #[cfg(feature = "select")]
            AnyBackend::Select($backend) => $call,
            #[cfg(feature = "poll")]
            AnyBackend::Poll($backend) => $call,
        }
    };
}

impl Backend for AnyBackend {
    fn name(&self) -> &'static core::ffi::CStr {
        each_backend!(self, backend => backend.name())
    }
    fn check(&self, fd: i32) -> Result<()> {
        each_backend!(self, backend => backend.check(fd))
    }
    fn set(&mut self, registration: &mut Registration, fd: i32, interest: Ready) {
        each_backend!(self, backend => backend.set(registration, fd, interest));
    }
    fn prepare(&mut self, registrations: &mut [Registration], plan: &mut Plan) {
        each_backend!(self, backend => backend.prepare(registrations, plan));
    }
    fn wait(&self, plan: &mut Plan) -> Result<usize> {
        each_backend!(self, backend => backend.wait(plan))
    }
    fn collect(&mut self, registrations: &[Registration], plan: &mut Plan, report: &mut impl FnMut(usize, Ready)) {
        each_backend!(self, backend => backend.collect(registrations, plan, report));
    }
}

/// With ERROR or HANGUP come the directions that were asked for.
fn complete(ready: Ready, interest: Ready) -> Ready {
    if ready.intersects(Ready::ERROR.union(Ready::HANGUP)) {
        ready | interest & (Ready::READABLE | Ready::WRITABLE)
    } else {
        ready
    }
}
