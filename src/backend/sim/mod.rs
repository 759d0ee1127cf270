//! The simulator: a system that is not there. Time passes only when the loop waits, descriptors are numbers of its own,
//! and what happens is written down before or left to chance, from a seed: so a run can be repeated to the bit.
//!
//! ```text
//!   program ──► Simulator: opens, scripts, reads, writes …      loop ──► Backend: add, prepare, wait, next
//!                          └──────────────► State, in the caller's memory ◄──────────────┘
//! ```
//!
//! A wait looks for what is ready; if there is nothing, time jumps to the next thing that is to happen, or to the end of
//! the wait. What is ready is told in a random order.

mod calls;
mod faults;
pub(crate) mod memory;
mod random;
mod schedule;
mod state;
mod stream;
mod wait;
#[cfg_attr(not(feature = "operations"), path = "no_work.rs")]
mod work;

pub use faults::{Call, Quirk};
pub(crate) use memory::SimulatorRef;
pub use memory::{Simulator, SimulatorMemory};

use super::{Backend, Mode, Ready, Registration, Registrations, Report, complete, handle};
use crate::error::{Error, Result};
use crate::handle::Handle;
#[cfg(feature = "operations")]
use crate::request::Request;
use crate::storage::names::Names;
use crate::time::{Duration, Instant};
use wait::{ANEW, CHANGED};

pub(crate) struct Sim {
    simulator: SimulatorRef,
    /// Among the loops that the simulator has served.
    number: u32,
    /// All operations are submitted to it, and not those on files alone.
    #[cfg(feature = "operations")]
    ring: bool,
}

/// One wait.
pub(super) struct Area {
    simulator: SimulatorRef,
    number: u32,
    /// The loop was woken before it went to sleep.
    pub(super) woken: bool,
    /// The loop's own descriptor is to be reported.
    own: bool,
    /// What was found and not told.
    found: u32,
    /// The first places are for operations.
    works: u32,
    /// The order of this collection: so many steps are left through all places of a table of `mask` plus one.
    left: u32,
    mask: u32,
    at: u32,
    stride: u32,
}

impl Sim {
    /// Serves a new loop, and no earlier one any more. EINVAL: there is no simulator; EPERM: it is another thread's.
    pub(super) fn new(simulator: Option<SimulatorRef>) -> Result<(Sim, Area)> {
        let simulator = simulator.ok_or(Error::INVALID)?;
        let number = simulator.with(|state| {
            state.served = state.served.wrapping_add(1);
            state.forget_work();
            Ok(state.served)
        })?;
        let area = Area {
            simulator,
            number,
            woken: false,
            own: false,
            found: 0,
            works: 0,
            left: 0,
            mask: 0,
            at: 0,
            stride: 0,
        };
        let sim = Sim {
            simulator,
            number,
            #[cfg(feature = "operations")]
            ring: simulator.with(|state| Ok(state.ring))?,
        };
        Ok((sim, area))
    }

    pub(super) fn simulator(&self) -> SimulatorRef {
        self.simulator
    }

    /// Makes a request that may not block: what came of it, or `None`: it would.
    #[cfg(feature = "operations")]
    pub(super) fn attempt(&self, request: &Request, connecting: &mut bool) -> Option<i32> {
        let answer = self.simulator.with(|state| Ok(state.make_now(request, connecting)));
        answer.unwrap_or_else(|error| Some(-error.errno()))
    }

    /// Whether a socket listens. EBADF; EINVAL: it does not.
    #[cfg(feature = "streams")]
    pub(super) fn take_over(&self, fd: i32) -> Result<()> {
        self.simulator.with(|state| state.check_listening(fd))
    }

    /// What kind of file it is, as far as reading and writing it goes. EBADF.
    #[cfg(feature = "operations")]
    pub(super) fn nature_of(&self, fd: i32) -> Result<u8> {
        self.simulator.with(|state| state.nature_of(fd))
    }

    /// A new socket.
    #[cfg(feature = "streams")]
    pub(super) fn socket(&self) -> Result<i32> {
        self.simulator.with(|state| {
            state.attempt(Call::Socket)?;
            state.open(state::Sort::Stream)
        })
    }

    /// EBADF, ENOTSOCK. None is one of datagrams.
    #[cfg(feature = "streams")]
    pub(super) fn check_socket(&self, fd: i32) -> Result<bool> {
        self.simulator.with(|state| {
            state.file(fd)?;
            state.stream(fd).map(|_| false).map_err(|_| Error::NOT_SOCKET)
        })
    }

    #[cfg(feature = "streams")]
    pub(super) fn shutdown(&self, fd: i32) -> Result<()> {
        self.simulator.with(|state| state.shutdown(fd))
    }

    /// Breaks a connection off at once.
    #[cfg(feature = "streams")]
    pub(super) fn break_off(&self, fd: i32) {
        let _ = self.simulator.with(|state| {
            let file = state.stream(fd)?;
            state.reset(file, None);
            Ok(())
        });
    }

    /// Whether a call does what is asked, which it does only for the loop that is served.
    #[cfg(feature = "operations")]
    fn of_served(&self, call: impl FnOnce(&mut state::State) -> bool) -> bool {
        self.simulator.with(|state| Ok(state.served == self.number && call(state))).unwrap_or(false)
    }
}

impl Area {
    /// EDEADLK: nothing can end it; ESTALE: the simulator serves a later loop; EPERM: it is another thread's.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<u32> {
        let woken = core::mem::take(&mut self.woken);
        self.found = 0;
        self.own = woken;
        self.simulator.with(|state| {
            if state.served != self.number {
                return Err(Error::STALE);
            }
            let found = state.wait(if woken { Duration::ZERO } else { timeout })?;
            self.found = found as u32;
            if found > 0 {
                self.works = state.works_used;
                let places = (self.works + state.places()).next_power_of_two();
                self.left = places;
                self.mask = places - 1;
                self.at = state.random.next() as u32;
                self.stride = state.random.next() as u32 | 1;
            }
            Ok(found + u32::from(woken))
        })
    }

    pub(super) fn now(&self) -> Instant {
        self.simulator.now()
    }
}

impl Backend<Area> for Sim {
    fn name(&self) -> &'static core::ffi::CStr {
        c"simulator"
    }

    /// EPERM: the simulator is another thread's.
    fn check(&mut self, _fd: i32, _place: u32, _mode: Mode) -> Result<()> {
        self.simulator.check_thread()
    }

    fn add(&mut self, registrations: &mut Registrations, place: u32, _: Handle, wanted: Registration) -> Result<()> {
        if place > 0 {
            self.simulator.with(|state| state.enter(wanted.fd()))?;
        }
        registrations[place] = Registration { state: ANEW, ..wanted };
        Ok(())
    }

    fn set(&mut self, registrations: &mut Registrations, place: u32, interest: Ready) {
        let changed = registrations[place].with_interest(interest);
        registrations[place] = Registration { state: ANEW | CHANGED, ..changed };
    }

    fn remove(&mut self, registrations: &mut Registrations, _: &Names, place: u32, _closing: bool) {
        registrations[place] = Registration::NONE;
    }

    fn prepare(
        &mut self,
        registrations: &mut Registrations,
        names: &Names,
        count: u32,
        area: &mut Area,
        report: &mut impl FnMut(u32, Ready),
    ) -> bool {
        area.found = 0;
        let told = self
            .simulator
            .with(|state| Ok(state.served != self.number || state.watch(registrations, names, count, report)));
        told.unwrap_or(true)
    }

    fn next(&mut self, registrations: &mut Registrations, names: &Names, area: &mut Area) -> Option<Report> {
        if core::mem::take(&mut area.own) {
            return Report::of_place(names, 0, registrations[0], Ready::READABLE);
        }
        if area.found == 0 {
            return None;
        }
        let next = self.simulator.with(|state| {
            while area.found > 0 && area.left > 0 {
                area.left -= 1;
                area.at = area.at.wrapping_add(area.stride);
                let place = area.at & area.mask;
                let Some(place) = place.checked_sub(area.works) else {
                    #[cfg(feature = "operations")]
                    if let Some((operation, result)) = state.take_completion(place) {
                        area.found -= 1;
                        return Ok(Names::parts_of(operation).map(|(index, _)| Report::of_operation(index + 1, result)));
                    }
                    continue;
                };
                let (source, ready) = state.take_found(place);
                if ready.is_empty() {
                    continue;
                }
                area.found -= 1;
                let place = Names::place_of(source);
                if !names.is_of(place, source) {
                    continue;
                }
                let report = Report::of_place(names, place, registrations[place], ready);
                if report.is_some() {
                    return Ok(report);
                }
            }
            Ok(None)
        });
        next.unwrap_or(None)
    }

    fn checks_fds(&self) -> bool {
        true
    }

    fn check_pollable(&self, fd: i32) -> Result<()> {
        self.simulator.with(|state| state.check_pollable(fd))
    }

    #[cfg(any(feature = "capi", feature = "operations"))]
    fn close_fd(&mut self, fd: i32) -> Result<()> {
        match self.simulator.with(|state| state.close(fd)) {
            Err(Error::INTERRUPTED) => Ok(()), // it is closed all the same
            result => result,
        }
    }

    #[cfg(feature = "operations")]
    fn submits(&self) -> bool {
        self.ring
    }

    #[cfg(feature = "operations")]
    fn submit(&mut self, request: &Request, elsewhere: bool, operation: Handle) -> bool {
        self.of_served(|state| state.submit(request, elsewhere, operation))
    }

    #[cfg(feature = "operations")]
    fn submit_poll(&mut self, fd: i32, interest: Ready, operation: Handle) -> bool {
        self.of_served(|state| state.submit_poll(fd, interest, operation))
    }

    #[cfg(feature = "operations")]
    fn cancel(&mut self, operation: Handle) -> bool {
        self.of_served(|state| state.cancel(operation))
    }

    fn close(&mut self, _: bool) {
        let _ = self.simulator.with(|state| {
            if state.served == self.number {
                state.forget_work();
            }
            Ok(())
        });
    }

    fn now(&self) -> Option<Instant> {
        Some(self.simulator.now())
    }

    fn advance(&mut self, span: Duration) -> Result<()> {
        self.simulator.with(|state| {
            state.advance(span);
            Ok(())
        })
    }
}
