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

#[cfg(not(any(feature = "poll", feature = "select")))]
compile_error!("becket needs a backend: feature `poll` or `select`");

#[cfg(feature = "poll")]
mod poll;
#[cfg(feature = "select")]
mod select;

use crate::error::{Error, Result};
pub(crate) use crate::ready::{Ready, Registration};
use crate::storage::region::Region;
use crate::time::Duration;

/// One wait: decided by `prepare`, carried out by `wait`, read by `collect`. It is all that `wait` touches.
pub(crate) struct Plan {
    /// How long to sleep at most.
    pub(crate) timeout: Duration,
    /// What the wait found.
    pub(crate) outcome: Result<usize>,
    /// The registrations to watch.
    #[cfg(feature = "poll")]
    pub(crate) registrations: *mut Registration,
    pub(crate) count: u32,
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
            #[cfg(feature = "poll")]
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

    /// Whether this backend can watch the fd at this place of the table. EINVAL: the number is too large for it;
    /// ENOSPC: the place is. O(1).
    fn check(&mut self, fd: i32, place: u32) -> Result<()>;

    /// The fd has this interest from now on; an empty one pauses it. O(1).
    fn set(&mut self, registration: &mut Registration, fd: i32, interest: Ready);

    /// Lays out a wait for the first `count` registrations. O(count) on select and poll.
    fn prepare(&mut self, registrations: &Region<Registration>, count: u32, plan: &mut Plan);

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
            BackendChoice::Poll => Ok((AnyBackend::Poll(poll::Poll::new()), c"")),
            #[cfg(feature = "poll")]
            BackendChoice::Auto => Ok((AnyBackend::Poll(poll::Poll::new()), c"the best one that is built in")),
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
    fn check(&mut self, fd: i32, place: u32) -> Result<()> {
        each_backend!(self, backend => backend.check(fd, place))
    }
    fn set(&mut self, registration: &mut Registration, fd: i32, interest: Ready) {
        each_backend!(self, backend => backend.set(registration, fd, interest));
    }
    fn prepare(&mut self, registrations: &Region<Registration>, count: u32, plan: &mut Plan) {
        each_backend!(self, backend => backend.prepare(registrations, count, plan));
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
