//! Who tells what is ready.
//!
//! A backend watches registrations: an fd and the readiness that is asked of it, one for each source, in a table
//! that the engine owns, by the source's place: its index plus one (the first is the loop's own wake descriptor). It
//! knows nothing of sources, handlers and queues.
//!
//! All backends keep one contract, [`Backend`]:
//! - what is reported is level-triggered: as long as an fd is ready, every collection says so (but for EDGE);
//! - a registration with interest 0 is silent and costs nothing, whatever its fd does;
//! - `set` takes effect at the next `prepare`, cannot fail for space, and may be called any number of times;
//! - `wait` touches the [`Plan`] and what `prepare` put there: other threads may change registrations meanwhile;
//! - an fd that is not open is reported as ERROR for its own registration, and does not fail the others, where the
//!   system tells: epoll forgets a closed fd, and tells only when its registration is changed;
//! - with ERROR or HANGUP come the directions that were asked for, so that a handler may just read or write and see;
//! - what was watched for an earlier owner of a place is never reported for a later one.

#[cfg(not(any(feature = "poll", feature = "select")))]
compile_error!("becket needs a backend for every system: feature `poll` or `select`");

#[cfg(any(epoll, io_uring))]
mod changes;
#[cfg(epoll)]
mod epoll;
#[cfg(feature = "poll")]
mod poll;
#[cfg(feature = "select")]
mod select;
#[cfg(feature = "simulator")]
mod sim;
#[cfg(feature = "streams")]
mod streams;
#[cfg(io_uring)]
mod uring;

#[cfg(feature = "operations")]
use crate::aio::AioMemory;
use crate::error::{Error, Result};
use crate::handle::Handle;
pub(crate) use crate::ready::{Mode, Ready, Registration};
#[cfg(feature = "operations")]
use crate::request::Request;
use crate::ring::RingMemory;
use crate::storage::names::Names;
use crate::storage::region::Region;
#[cfg(feature = "streams")]
use crate::streams::StreamsMemory;
use crate::sys;
#[cfg(feature = "operations")]
use crate::sys::operation as calls;
use crate::time::{Duration, Instant};
use core::ffi::CStr;
#[cfg(feature = "streams")]
use core::ptr::NonNull;
#[cfg(feature = "simulator")]
pub(crate) use sim::SimulatorRef;
#[cfg(all(feature = "simulator", feature = "capi"))]
pub(crate) use sim::memory as simulator_memory;
#[cfg(feature = "simulator")]
pub use sim::{Call, Quirk, Simulator, SimulatorMemory};

/// The table of all registrations, by place.
pub(crate) type Registrations = Region<Registration>;

/// One wait: decided by `prepare`, carried out by `wait`, read by `next`. It is all that `wait` touches.
pub(crate) struct Plan {
    /// How long to sleep at most.
    pub(crate) timeout: Duration,
    /// What the wait found.
    pub(crate) outcome: Result<u32>,
    area: Area,
}

/// What each backend needs for a wait.
#[repr(u8)] // a tag of its own is read faster than one in a niche
#[allow(clippy::large_enum_variant)] // there is one, in the loop's memory
enum Area {
    #[cfg(feature = "select")]
    Select(select::Area),
    #[cfg(feature = "poll")]
    Poll(poll::Area),
    #[cfg(epoll)]
    Epoll(epoll::Area),
    #[cfg(io_uring)]
    IoUring(uring::Area),
    #[cfg(feature = "simulator")]
    Simulator(sim::Area),
}

/// What a backend reports.
#[derive(Clone, Copy)]
pub(crate) struct Report {
    pub(crate) place: u32,
    /// The source there; of the loop's own place: none.
    pub(crate) source: Handle,
    /// What stands there in the table.
    pub(crate) registration: Registration,
    /// Nothing that is not asked for now.
    pub(crate) ready: Ready,
    /// Of the completion of an operation, which is told with no readiness at all.
    #[cfg(feature = "operations")]
    pub(crate) result: i32,
    /// Of what the backend itself has received or sent for a stream, which has that result, and is told with no readiness.
    #[cfg(feature = "streams")]
    pub(crate) stream: OfStream,
}

/// What came of receiving or sending for a stream.
#[cfg(feature = "streams")]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(io_uring), allow(dead_code))] // no other has any of it
pub(crate) enum OfStream {
    /// It is nothing of that.
    None,
    /// So many bytes lie in this buffer.
    Received(u16),
    /// Nothing was: the end, or an error. ENOBUFS: it was lent no buffer.
    Failed,
    /// This buffer was taken for a stream that is gone.
    Unused(u16),
    /// Less was sent than there was.
    Sent,
}

/// The contract of all backends; see the module's text. `P` is a backend's part of the [`Plan`].
pub(crate) trait Backend<P> {
    /// The name by which it is chosen.
    fn name(&self) -> &'static CStr;

    /// Whether this backend can watch the fd at this place of the table in this mode. EINVAL: the number is too large
    /// for it; ENOSPC: the place is; ENOTSUP: the mode. O(1).
    fn check(&mut self, fd: i32, place: u32, mode: Mode) -> Result<()>;

    /// Begins to watch an fd at a place where there is none. What the kernel says of the fd where it is asked at once;
    /// then nothing has changed. O(1).
    fn add(
        &mut self,
        registrations: &mut Registrations,
        place: u32,
        handle: Handle,
        wanted: Registration,
    ) -> Result<()>;

    /// The fd has this interest from the next `prepare` on; an empty one pauses it. With EDGE, the same interest again
    /// reports anew what is ready. O(1).
    fn set(&mut self, registrations: &mut Registrations, place: u32, interest: Ready);

    /// Watches it no more, from now on. `closing`: the caller closes the fd next. O(1).
    fn remove(&mut self, registrations: &mut Registrations, names: &Names, place: u32, closing: bool);

    /// Applies changes, and lays out a wait for the first `count` registrations. `report` gets what the kernel refused,
    /// as ERROR. False: the kernel had no memory for some, which the next `prepare` tries again: the wait has to be short,
    /// also for what was reported. O(changes); O(count) on select and poll, and where there were many changes.
    fn prepare(
        &mut self,
        registrations: &mut Registrations,
        names: &Names,
        count: u32,
        area: &mut P,
        report: &mut impl FnMut(u32, Ready),
    ) -> bool;

    /// The next report of the wait that was. Each place once (with EDGE, more often
    /// where the kernel has more to say); none of an earlier owner. O(1), but O(n) for all of them on select and poll.
    fn next(&mut self, registrations: &mut Registrations, names: &Names, area: &mut P) -> Option<Report>;

    /// Whether `add` itself says EBADF, and EPERM of a file that cannot be waited for.
    fn checks_fds(&self) -> bool {
        false
    }

    /// Whether a file of this fd can be waited for. EBADF; EPERM: a regular file, directory or block device.
    fn check_pollable(&self, fd: i32) -> Result<()> {
        sys::fd::check_pollable(fd)
    }

    /// Closes an fd of the program's.
    #[cfg(any(feature = "capi", feature = "operations"))]
    fn close_fd(&mut self, fd: i32) -> Result<()> {
        sys::fd::close(fd)
    }

    /// The time, where it is this backend that makes it pass.
    fn now(&self) -> Option<Instant> {
        None
    }

    /// Moves that time on.
    fn advance(&mut self, span: Duration) -> Result<()> {
        let _ = span;
        Err(Error::UNSUPPORTED)
    }

    /// A descriptor that is readable when there is something to collect, if this backend has one.
    fn fd(&self) -> Option<i32> {
        None
    }

    /// Whether another thread's change of a registration makes the outcome of a wait meaningless.
    fn is_raced(&self) -> bool {
        false
    }

    /// Whether `next` may be called between changes of registrations, and stays right for this wait.
    fn is_steady(&self, area: &P) -> bool {
        let _ = area;
        true
    }

    /// Whether a watch in [`Mode::ONESHOT`] is cheaper than one that is added and removed.
    #[cfg(feature = "operations")]
    fn has_oneshot(&self) -> bool {
        false
    }

    /// Whether operations can be submitted to it.
    #[cfg(feature = "operations")]
    fn submits(&self) -> bool {
        false
    }

    /// Submits the request of an operation, with the next wait at the latest; `next` reports its completion. `elsewhere`: a
    /// thread of the kernel's is to make it. False: there is no room now.
    #[cfg(feature = "operations")]
    fn submit(&mut self, request: &Request, elsewhere: bool, operation: Handle) -> bool {
        let _ = (request, elsewhere, operation);
        false
    }

    /// Reports a completion when the fd is ready. False: there is no room now.
    #[cfg(feature = "operations")]
    fn submit_poll(&mut self, fd: i32, interest: Ready, operation: Handle) -> bool {
        let _ = (fd, interest, operation);
        false
    }

    /// Asks for an end of what was submitted; its completion comes all the same. False: there is no room now.
    #[cfg(feature = "operations")]
    fn cancel(&mut self, operation: Handle) -> bool {
        let _ = operation;
        false
    }

    /// It may be lent so many buffers at once, and receives into them where [`Mode::RECEIVE`] says so. 0: it never does.
    #[cfg(feature = "streams")]
    fn provide(&mut self) -> u32 {
        0
    }

    /// Lends a buffer; there is room for it. It comes back with a report.
    #[cfg(feature = "streams")]
    fn lend(&mut self, number: u16, start: NonNull<u8>, bytes: u32) {
        let _ = (number, start, bytes);
    }

    /// What was received there, or that nothing was, was taken: more may be.
    #[cfg(feature = "streams")]
    fn took_received(&mut self, registrations: &mut Registrations, place: u32) {
        let _ = (registrations, place);
    }

    /// Sends with the next wait, which does not end for that; only what was not sent whole is reported, by the end of that
    /// wait. False: it does not.
    #[cfg(feature = "streams")]
    fn ride(&mut self, fd: i32, bytes: (*const (), u32), stream: Handle) -> bool {
        let _ = (fd, bytes, stream);
        false
    }

    /// Sends it now.
    #[cfg(feature = "streams")]
    fn flush_rides(&mut self) {}

    /// Whether nothing is left to be sent: then what was not sent whole has been reported when there are no more reports.
    #[cfg(feature = "streams")]
    fn has_no_ride(&self) -> bool {
        true
    }

    /// Whether something has happened that the last wait did not find.
    #[cfg(feature = "streams")]
    fn has_more(&self, area: &P) -> bool {
        let _ = area;
        false
    }

    /// Sends it now, or never.
    #[cfg(feature = "streams")]
    fn end_ride(&mut self, stream: Handle) {
        let _ = stream;
    }

    /// Gives up what it has of the system. `ours`: false in a forked child, where nothing may change that it shares
    /// with the parent.
    fn close(&mut self, ours: bool) {
        let _ = ours;
    }
}

/// Which backend a configuration asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum BackendChoice {
    /// The best that the system grants: io_uring where memory for its rings was given, else epoll, poll, select.
    #[default]
    Auto,
    /// select(2): every POSIX system, fds below FD_SETSIZE.
    Select,
    /// poll(2): every POSIX system.
    Poll,
    /// epoll(7): Linux.
    Epoll,
    /// io_uring(7): Linux 6.1 and later. Without memory for its rings the kernel's is mapped.
    IoUring,
    /// No system at all: see [`Loop::simulated`](crate::Loop::simulated). AUTO where a simulator is given.
    Simulator,
}

/// The backend of a loop.
#[repr(u8)]
#[allow(clippy::large_enum_variant)] // likewise
pub(crate) enum AnyBackend {
    #[cfg(feature = "select")]
    Select(select::Select),
    #[cfg(feature = "poll")]
    Poll(poll::Poll),
    #[cfg(epoll)]
    Epoll(epoll::Epoll),
    #[cfg(io_uring)]
    IoUring(uring::Uring),
    #[cfg(feature = "simulator")]
    Simulator(sim::Sim),
}

/// What a caller gives for one backend or another, and for the engine of files.
#[derive(Clone, Copy, Default)]
pub(crate) struct Given {
    pub(crate) ring: Option<RingMemory>,
    #[cfg(feature = "operations")]
    pub(crate) aio: Option<AioMemory>,
    #[cfg(feature = "streams")]
    pub(crate) streams: Option<StreamsMemory>,
    pub(crate) simulator: Option<SimulatorRef>,
}

/// There is none.
#[cfg(not(feature = "simulator"))]
pub(crate) type SimulatorRef = core::convert::Infallible;

/// A backend with its part of the plan.
type Made = (AnyBackend, Area);

/// A backend that was made, its plan, and why it is this one.
pub(crate) struct Chosen {
    pub(crate) backend: AnyBackend,
    pub(crate) plan: Plan,
    pub(crate) note: &'static CStr,
}

impl AnyBackend {
    /// The simulator, if it is one.
    #[cfg(feature = "simulator")]
    pub(crate) fn simulator(&self) -> Option<SimulatorRef> {
        match self {
            AnyBackend::Simulator(sim) => Some(sim.simulator()),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }

    /// Whether it is no system at all.
    #[cfg(feature = "operations")]
    pub(crate) fn is_simulated(&self) -> bool {
        #[cfg(feature = "simulator")]
        return self.simulator().is_some();
        #[cfg(not(feature = "simulator"))]
        false
    }

    /// Makes the call of a request without blocking: what came of it, or `None`: it would. See [`calls::attempt`].
    #[cfg(feature = "operations")]
    pub(crate) fn attempt(&self, request: &Request, connecting: &mut bool) -> Option<i32> {
        match self {
            #[cfg(feature = "simulator")]
            AnyBackend::Simulator(sim) => sim.attempt(request, connecting),
            #[allow(unreachable_patterns)]
            _ => calls::attempt(request, connecting),
        }
    }

    /// Makes a socket of the program's a listener's. EBADF; EINVAL: it does not listen.
    #[cfg(feature = "streams")]
    pub(crate) fn take_over(&self, fd: i32) -> Result<()> {
        match self {
            #[cfg(feature = "simulator")]
            AnyBackend::Simulator(sim) => sim.take_over(fd),
            #[allow(unreachable_patterns)]
            _ => sys::listen::take_over(fd),
        }
    }

    /// What kind of file it is, as far as reading and writing it goes. EBADF.
    #[cfg(feature = "operations")]
    pub(crate) fn nature_of(&self, fd: i32) -> Result<u8> {
        match self {
            #[cfg(feature = "simulator")]
            AnyBackend::Simulator(sim) => sim.nature_of(fd),
            #[allow(unreachable_patterns)]
            _ => calls::nature_of(fd),
        }
    }

    /// The backend that was asked for, watching the loop's own descriptor: `table` has room for its registration. (The
    /// loop's own table is touched only when all has gone well.)
    ///
    /// ENOTSUP: it is not built in, or the kernel is too old for it; else what the kernel said. AUTO takes the first that
    /// works; what kept the one before it from that is the note.
    #[cfg_attr(not(becket_small), cold, inline(never))]
    pub(crate) fn choose(
        choice: BackendChoice,
        given: Given,
        watched: i32,
        table: &mut Registrations,
    ) -> Result<Chosen> {
        /// From the best to the last resort.
        const ORDER: &[BackendChoice] = &[
            #[cfg(feature = "simulator")]
            BackendChoice::Simulator,
            #[cfg(io_uring)]
            BackendChoice::IoUring,
            #[cfg(epoll)]
            BackendChoice::Epoll,
            #[cfg(feature = "poll")]
            BackendChoice::Poll,
            #[cfg(feature = "select")]
            BackendChoice::Select,
        ];
        let mut refused = None;
        for candidate in ORDER {
            let wanted = match choice {
                BackendChoice::Auto if given.simulator.is_some() => *candidate == BackendChoice::Simulator,
                BackendChoice::Auto => match candidate {
                    BackendChoice::IoUring => given.ring.is_some(),
                    candidate => *candidate != BackendChoice::Simulator,
                },
                choice => *candidate == choice,
            };
            if !wanted {
                continue;
            }
            match AnyBackend::make(*candidate, &given).and_then(|made| AnyBackend::with_first(made, watched, table)) {
                Ok(made) => {
                    let note = match refused {
                        Some((better, error)) => why_not(better, error),
                        None => made.0.remark(choice, given.ring.is_some()),
                    };
                    let plan = Plan { timeout: Duration::ZERO, outcome: Ok(0), area: made.1 };
                    return Ok(Chosen { backend: made.0, plan, note });
                }
                Err(error) => refused = Some((*candidate, error)),
            }
        }
        Err(refused.map_or(Error::UNSUPPORTED, |(_, error)| error))
    }

    #[cfg_attr(not(becket_small), cold, inline(never))]
    fn make(choice: BackendChoice, given: &Given) -> Result<Made> {
        let _ = given;
        match choice {
            #[cfg(feature = "select")]
            BackendChoice::Select => Ok((AnyBackend::Select(select::Select), Area::Select(select::Area::new()))),
            #[cfg(feature = "poll")]
            BackendChoice::Poll => Ok((AnyBackend::Poll(poll::Poll::new()), Area::Poll(poll::Area::new()))),
            #[cfg(epoll)]
            BackendChoice::Epoll => {
                let (epoll, area) = epoll::Epoll::new()?;
                Ok((AnyBackend::Epoll(epoll), Area::Epoll(area)))
            }
            #[cfg(io_uring)]
            BackendChoice::IoUring => {
                let (uring, area) = uring::Uring::new(given.ring)?;
                Ok((AnyBackend::IoUring(uring), Area::IoUring(area)))
            }
            #[cfg(feature = "simulator")]
            BackendChoice::Simulator => {
                let (sim, area) = sim::Sim::new(given.simulator)?;
                Ok((AnyBackend::Simulator(sim), Area::Simulator(area)))
            }
            #[allow(unreachable_patterns)]
            _ => Err(Error::UNSUPPORTED),
        }
    }

    /// Watches the loop's own descriptor. With edges it need never be read; but where a foreign loop watches it too, it has
    /// to be.
    fn with_first((mut backend, area): Made, watched: i32, table: &mut Registrations) -> Result<Made> {
        let mode = if backend.fd().is_some() { Mode::EDGE } else { Mode::empty() };
        match backend.add(table, 0, Handle::NONE, Registration::new(watched, Ready::READABLE, mode, 0)) {
            Ok(()) => Ok((backend, area)),
            Err(error) => {
                backend.close(true);
                Err(error)
            }
        }
    }

    /// A word on a backend that was the first choice.
    fn remark(&self, choice: BackendChoice, ring: bool) -> &'static CStr {
        match self {
            #[cfg(io_uring)]
            AnyBackend::IoUring(uring) if ring && uring.is_mapped() => c"the kernel cannot use the ring memory given",
            _ if choice != BackendChoice::Auto => c"",
            #[cfg(feature = "simulator")]
            AnyBackend::Simulator(_) => c"a simulator was given",
            _ if cfg!(io_uring) && !ring => c"no io_uring: no memory for its rings was given",
            _ => c"the best one that is built in",
        }
    }
}

/// Why it is not the better backend.
fn why_not(better: BackendChoice, error: Error) -> &'static CStr {
    /// Two words for each reason.
    const fn among(better: BackendChoice, of_ring: &'static CStr, of_epoll: &'static CStr) -> &'static CStr {
        match better {
            BackendChoice::IoUring => of_ring,
            _ => of_epoll,
        }
    }
    match error {
        _ if !matches!(better, BackendChoice::IoUring | BackendChoice::Epoll) => c"poll is not built in",
        Error::UNSUPPORTED => {
            among(better, c"no io_uring: not built in, or the kernel is too old", c"no epoll: not built in")
        }
        Error::NO_CALL => among(better, c"no io_uring: no such system call", c"no epoll: no such system call"),
        Error::NOT_PERMITTED => among(better, c"no io_uring: not permitted", c"no epoll: not permitted"),
        Error::NO_MEMORY => {
            among(better, c"no io_uring: out of memory, or above RLIMIT_MEMLOCK", c"no epoll: out of memory")
        }
        Error::PROCESS_FILES | Error::SYSTEM_FILES => {
            among(better, c"no io_uring: too many open files", c"no epoll: too many open files")
        }
        _ => among(better, c"no io_uring: refused by the system", c"no epoll: refused by the system"),
    }
}

/// Calls a method of the backend that it is.
macro_rules! of_any {
    ($self:expr, $backend:ident => $call:expr) => {
        match $self {
            #[cfg(feature = "select")]
            AnyBackend::Select($backend) => $call,
            #[cfg(feature = "poll")]
            AnyBackend::Poll($backend) => $call,
            #[cfg(epoll)]
            AnyBackend::Epoll($backend) => $call,
            #[cfg(io_uring)]
            AnyBackend::IoUring($backend) => $call,
            #[cfg(feature = "simulator")]
            AnyBackend::Simulator($backend) => $call,
        }
    };
}

/// Returns the same for epoll, which brings the most events: two comparisons are less than a table of jumps.
#[cfg(epoll)]
macro_rules! epoll_first {
    ($self:expr, $area:expr, ($backend:ident, $part:ident) => $call:expr) => {
        if !cfg!(becket_small)
            && let Area::Epoll($part) = $area
        {
            let AnyBackend::Epoll($backend) = $self else { another_plan() };
            return $call;
        }
    };
}

#[cfg(not(epoll))]
macro_rules! epoll_first {
    ($($nothing:tt)*) => {};
}

#[cold]
#[inline(never)]
fn another_plan() -> ! {
    panic!("the plan of another backend")
}

/// Calls a method of the backend that it is, with its part of the plan.
macro_rules! of_any_with_area {
    ($self:expr, $area:expr, ($backend:ident, $part:ident) => $call:expr) => {
        match ($self, $area) {
            #[cfg(feature = "select")]
            (AnyBackend::Select($backend), Area::Select($part)) => $call,
            #[cfg(feature = "poll")]
            (AnyBackend::Poll($backend), Area::Poll($part)) => $call,
            #[cfg(epoll)]
            (AnyBackend::Epoll($backend), Area::Epoll($part)) => $call,
            #[cfg(io_uring)]
            (AnyBackend::IoUring($backend), Area::IoUring($part)) => $call,
            #[cfg(feature = "simulator")]
            (AnyBackend::Simulator($backend), Area::Simulator($part)) => $call,
            #[allow(unreachable_patterns)] // a backend and its plan are made together
            _ => another_plan(),
        }
    };
}

impl Backend<Plan> for AnyBackend {
    fn name(&self) -> &'static CStr {
        of_any!(self, backend => backend.name())
    }
    fn check(&mut self, fd: i32, place: u32, mode: Mode) -> Result<()> {
        of_any!(self, backend => backend.check(fd, place, mode))
    }
    fn add(
        &mut self,
        registrations: &mut Registrations,
        place: u32,
        handle: Handle,
        wanted: Registration,
    ) -> Result<()> {
        of_any!(self, backend => backend.add(registrations, place, handle, wanted))
    }
    fn set(&mut self, registrations: &mut Registrations, place: u32, interest: Ready) {
        of_any!(self, backend => backend.set(registrations, place, interest));
    }
    fn remove(&mut self, registrations: &mut Registrations, names: &Names, place: u32, closing: bool) {
        of_any!(self, backend => backend.remove(registrations, names, place, closing));
    }
    #[cfg_attr(not(becket_small), inline(always))]
    fn prepare(
        &mut self,
        registrations: &mut Registrations,
        names: &Names,
        count: u32,
        plan: &mut Plan,
        report: &mut impl FnMut(u32, Ready),
    ) -> bool {
        epoll_first!(self, &mut plan.area, (backend, area) => backend.prepare(registrations, names, count, area, report));
        of_any_with_area!(self, &mut plan.area, (backend, area) => backend.prepare(registrations, names, count, area, report))
    }
    #[inline(always)]
    fn next(&mut self, registrations: &mut Registrations, names: &Names, plan: &mut Plan) -> Option<Report> {
        epoll_first!(self, &mut plan.area, (backend, area) => backend.next(registrations, names, area));
        // (Field by field, so that the compiler keeps the other's in registers.)
        let report =
            of_any_with_area!(self, &mut plan.area, (backend, area) => backend.next(registrations, names, area));
        let report = report?;
        let Report { place, source, registration, ready, .. } = report;
        Some(Report {
            place,
            source,
            registration,
            ready,
            #[cfg(feature = "operations")]
            result: report.result,
            #[cfg(feature = "streams")]
            stream: report.stream,
        })
    }
    fn checks_fds(&self) -> bool {
        of_any!(self, backend => backend.checks_fds())
    }
    fn check_pollable(&self, fd: i32) -> Result<()> {
        of_any!(self, backend => backend.check_pollable(fd))
    }
    #[cfg(any(feature = "capi", feature = "operations"))]
    fn close_fd(&mut self, fd: i32) -> Result<()> {
        of_any!(self, backend => backend.close_fd(fd))
    }
    #[inline]
    fn now(&self) -> Option<Instant> {
        of_any!(self, backend => backend.now())
    }
    fn advance(&mut self, span: Duration) -> Result<()> {
        of_any!(self, backend => backend.advance(span))
    }
    fn fd(&self) -> Option<i32> {
        of_any!(self, backend => backend.fd())
    }
    #[inline]
    fn is_steady(&self, plan: &Plan) -> bool {
        epoll_first!(self, &plan.area, (backend, area) => backend.is_steady(area));
        of_any_with_area!(self, &plan.area, (backend, area) => backend.is_steady(area))
    }
    fn is_raced(&self) -> bool {
        of_any!(self, backend => backend.is_raced())
    }
    #[cfg(feature = "operations")]
    fn has_oneshot(&self) -> bool {
        of_any!(self, backend => backend.has_oneshot())
    }
    #[cfg(feature = "operations")]
    fn submits(&self) -> bool {
        of_any!(self, backend => backend.submits())
    }
    #[cfg(feature = "operations")]
    #[cfg_attr(not(becket_small), inline(always))]
    fn submit(&mut self, request: &Request, elsewhere: bool, operation: Handle) -> bool {
        #[cfg(io_uring)]
        if let AnyBackend::IoUring(uring) = self {
            return uring.submit(request, elsewhere, operation);
        }
        of_any!(self, backend => backend.submit(request, elsewhere, operation))
    }
    #[cfg(feature = "operations")]
    fn submit_poll(&mut self, fd: i32, interest: Ready, operation: Handle) -> bool {
        of_any!(self, backend => backend.submit_poll(fd, interest, operation))
    }
    #[cfg(feature = "operations")]
    fn cancel(&mut self, operation: Handle) -> bool {
        of_any!(self, backend => backend.cancel(operation))
    }
    #[cfg(feature = "streams")]
    fn provide(&mut self) -> u32 {
        of_any!(self, backend => backend.provide())
    }
    #[cfg(feature = "streams")]
    fn lend(&mut self, number: u16, start: NonNull<u8>, bytes: u32) {
        of_any!(self, backend => backend.lend(number, start, bytes));
    }
    #[cfg(feature = "streams")]
    fn took_received(&mut self, registrations: &mut Registrations, place: u32) {
        of_any!(self, backend => backend.took_received(registrations, place));
    }
    #[cfg(feature = "streams")]
    fn ride(&mut self, fd: i32, bytes: (*const (), u32), stream: Handle) -> bool {
        of_any!(self, backend => backend.ride(fd, bytes, stream))
    }
    #[cfg(feature = "streams")]
    fn flush_rides(&mut self) {
        of_any!(self, backend => backend.flush_rides());
    }
    #[cfg(feature = "streams")]
    fn has_no_ride(&self) -> bool {
        of_any!(self, backend => backend.has_no_ride())
    }
    #[cfg(feature = "streams")]
    fn has_more(&self, plan: &Plan) -> bool {
        of_any_with_area!(self, &plan.area, (backend, area) => backend.has_more(area))
    }
    #[cfg(feature = "streams")]
    fn end_ride(&mut self, stream: Handle) {
        of_any!(self, backend => backend.end_ride(stream));
    }
    fn close(&mut self, ours: bool) {
        of_any!(self, backend => backend.close(ours));
    }
}

impl Plan {
    /// The same where the code need not be the fastest.
    #[cfg_attr(not(becket_small), cold, inline(never))]
    pub(crate) fn wait_again(&mut self) -> Result<u32> {
        self.wait()
    }

    /// Sleeps until something is ready, the timeout is over, or a signal interrupts (EINTR): how much is ready at most.
    #[cfg_attr(not(becket_small), inline(always))]
    pub(crate) fn wait(&mut self) -> Result<u32> {
        let Plan { timeout, area, .. } = self;
        #[cfg(epoll)]
        if !cfg!(becket_small)
            && let Area::Epoll(area) = area
        {
            return area.wait(*timeout);
        }
        area.wait_in_others(*timeout)
    }

    /// The time, where it is the backend that makes it pass.
    #[inline]
    pub(crate) fn now(&self) -> Option<Instant> {
        match &self.area {
            #[cfg(feature = "simulator")]
            Area::Simulator(area) => Some(area.now()),
            _ => None,
        }
    }

    /// Whether it is one of the simulator, and nobody sleeps. That does not look at the loop's own descriptor: `woken`
    /// says whether it was written to.
    #[inline]
    pub(crate) fn is_simulated(&mut self, woken: impl FnOnce() -> bool) -> bool {
        let _ = &woken;
        match &mut self.area {
            #[cfg(feature = "simulator")]
            Area::Simulator(area) => {
                area.woken = woken();
                true
            }
            _ => false,
        }
    }
}

impl Area {
    #[cfg_attr(not(becket_small), inline(never))]
    fn wait_in_others(&mut self, timeout: Duration) -> Result<u32> {
        match self {
            #[cfg(feature = "select")]
            Area::Select(area) => area.wait(timeout),
            #[cfg(feature = "poll")]
            Area::Poll(area) => area.wait(timeout),
            #[cfg(epoll)]
            Area::Epoll(area) => area.wait(timeout),
            #[cfg(io_uring)]
            Area::IoUring(area) => area.wait(timeout),
            #[cfg(feature = "simulator")]
            Area::Simulator(area) => area.wait(timeout),
        }
    }
}

/// The handle of the source at a place.
#[inline]
fn handle(names: &Names, place: u32) -> Handle {
    place.checked_sub(1).map_or(Handle::NONE, |index| names.handle(index))
}

impl Report {
    /// Of a backend that knows places alone. `None`: nothing of it is asked for.
    #[inline]
    fn of_place(names: &Names, place: u32, registration: Registration, ready: Ready) -> Option<Report> {
        // (In the small build all goes through the queue: what is taken out of it is looked at then.)
        let (source, ready) = if cfg!(becket_small) {
            (Handle::NONE, ready)
        } else {
            (handle(names, place), ready & asked_by(registration.interest()))
        };
        (cfg!(becket_small) || !ready.is_empty()).then_some(Report {
            place,
            source,
            registration,
            ready,
            #[cfg(feature = "operations")]
            result: 0,
            #[cfg(feature = "streams")]
            stream: OfStream::None,
        })
    }

    /// Of the operation at a place.
    #[cfg(all(any(io_uring, feature = "simulator"), feature = "operations"))]
    fn of_operation(place: u32, result: i32) -> Report {
        Report {
            place,
            source: Handle::NONE,
            registration: Registration::NONE,
            ready: Ready::empty(),
            result,
            #[cfg(feature = "streams")]
            stream: OfStream::None,
        }
    }
}

/// What of an fd's readiness concerns who has this interest.
pub(crate) fn asked_by(interest: Ready) -> Ready {
    if interest.is_empty() {
        return interest;
    }
    let mut asked = interest | Ready::ERROR | Ready::HANGUP;
    asked.set(Ready::PEER_CLOSED, interest.contains(Ready::READABLE));
    asked
}

/// With ERROR or HANGUP come the directions that were asked for.
fn complete(ready: Ready, interest: Ready) -> Ready {
    if ready.intersects(Ready::ERROR.union(Ready::HANGUP)) {
        ready | interest & (Ready::READABLE | Ready::WRITABLE)
    } else {
        ready
    }
}

/// No mode but the plain one, for backends that have no other.
fn plain_only(mode: Mode) -> Result<()> {
    if mode.is_empty() { Ok(()) } else { Err(Error::UNSUPPORTED) }
}
