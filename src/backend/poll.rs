//! poll(2). The table of registrations is the array that poll takes; a wait costs O(n) in the kernel, a collection
//! one pass. No limit but that of open files.
#![allow(unsafe_code)]

use super::{Backend, Mode, Ready, Registration, Registrations, Report, complete, plain_only};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::storage::names::Names;
use crate::sys;
use crate::time::Duration;

pub(crate) struct Poll {
    /// RLIMIT_NOFILE when it was last asked for: the longest array that poll takes, entries that it skips included.
    limit: u32,
}

/// The array of one wait, and how far it was read.
pub(super) struct Area {
    registrations: *mut Registration,
    count: u32,
    /// Entries that are ready and were not reported.
    left: u32,
    cursor: u32,
}

impl Poll {
    pub(super) const fn new() -> Poll {
        Poll { limit: 0 }
    }
}

impl Area {
    pub(super) const fn new() -> Area {
        Area { registrations: core::ptr::null_mut(), count: 0, left: 0, cursor: 0 }
    }

    #[cfg_attr(not(becket_small), inline(never))]
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<u32> {
        // SAFETY: the registrations are the loop's memory and stay. A change by another thread is one store of eight
        // aligned bytes, and the engine drops the outcome of a wait that was raced by one.
        let ready = unsafe { sys::poll::poll(self.registrations, self.count as usize, timeout) };
        self.left = ready.unwrap_or(0);
        self.cursor = 0;
        // SAFETY: the first is the loop's own, which nobody changes.
        let own = unsafe { (*self.registrations).state };
        // Closed by the program: nobody could be woken any more.
        if own.cast_signed() & sys::poll::INVALID != 0 { Err(Error::BAD_FD) } else { ready }
    }
}

/// As poll takes it: what it answered for the fd before is forgotten.
fn pollfd(wanted: Registration) -> Registration {
    let mut new = wanted;
    if wanted.interest().contains(Ready::READABLE) {
        new.events |= sys::poll::PEER_CLOSED;
    }
    new
}

impl Backend<Area> for Poll {
    fn name(&self) -> &'static core::ffi::CStr {
        c"poll"
    }

    fn check(&mut self, _fd: i32, place: u32, mode: Mode) -> Result<()> {
        plain_only(mode)?;
        if place >= self.limit {
            self.limit = sys::fd::limit();
        }
        if place < self.limit { Ok(()) } else { Err(Error::TABLE_FULL) }
    }

    fn add(&mut self, registrations: &mut Registrations, place: u32, _: Handle, wanted: Registration) -> Result<()> {
        registrations[place] = pollfd(wanted);
        Ok(())
    }

    fn set(&mut self, registrations: &mut Registrations, place: u32, interest: Ready) {
        registrations[place] = pollfd(registrations[place].with_interest(interest));
    }

    fn remove(&mut self, registrations: &mut Registrations, _: &Names, place: u32, _closing: bool) {
        registrations[place] = Registration::NONE;
    }

    #[cfg_attr(not(becket_small), inline(never))]
    fn prepare(
        &mut self,
        registrations: &mut Registrations,
        _: &Names,
        count: u32,
        area: &mut Area,
        _: &mut impl FnMut(u32, Ready),
    ) -> bool {
        *area = Area { registrations: registrations.as_ptr(), count, left: 0, cursor: 0 };
        true
    }

    #[cfg_attr(not(becket_small), inline(never))]
    fn next(&mut self, registrations: &mut Registrations, names: &Names, area: &mut Area) -> Option<Report> {
        while area.left > 0 && area.cursor < area.count {
            let place = area.cursor;
            area.cursor += 1;
            let registration = registrations[place];
            if registration.state == 0 || registration.fd < 0 {
                continue;
            }
            area.left -= 1;
            let answer = registration.state.cast_signed();
            let mut ready = Ready::from_bits_truncate(registration.state & 0x1f);
            if answer & sys::poll::PEER_CLOSED != 0 {
                ready |= Ready::PEER_CLOSED;
            }
            if answer & sys::poll::INVALID != 0 {
                ready |= Ready::ERROR;
            }
            let report = Report::of_place(names, place, registration, complete(ready, registration.interest()));
            if report.is_some() {
                return report;
            }
        }
        None
    }

    fn is_raced(&self) -> bool {
        true
    }
}
