//! select(2). Three sets are built for each wait, in one pass over the table; another pass reads them. An fd at or
//! above FD_SETSIZE cannot be watched. The portable subset: there is no HANGUP and no PEER_CLOSED; a connection that
//! ended is READABLE, one with an error READABLE and WRITABLE.

use super::{Backend, Mode, Ready, Registration, Registrations, Report, complete, plain_only};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::storage::names::Names;
use crate::sys;
use crate::sys::select::{FdSet, LIMIT};
use crate::time::Duration;

pub(crate) struct Select;

/// The sets of one wait, and how far they were read.
pub(super) struct Area {
    asked: [FdSet; 3],
    /// What select made of them.
    sets: [FdSet; 3],
    limit: i32,
    /// The loop's own.
    own: i32,
    count: u32,
    cursor: u32,
    /// There is something to read.
    found: bool,
    /// One of the fds is not open, and the sets say nothing.
    bad: bool,
}

const SETS: [Ready; 3] = [Ready::READABLE, Ready::WRITABLE, Ready::PRIORITY];

impl Area {
    pub(super) const fn new() -> Area {
        let none = [FdSet::new(); 3];
        Area { asked: none, sets: none, limit: 0, own: 0, count: 0, cursor: 0, found: false, bad: false }
    }

    #[cfg_attr(not(becket_small), inline(never))]
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<u32> {
        self.sets = self.asked;
        let ready = sys::select::select(&mut self.sets, self.limit, timeout);
        // One bad fd among many: that one's source will be told.
        self.bad = ready == Err(Error::BAD_FD);
        self.found = self.bad || ready.unwrap_or(0) > 0;
        self.cursor = 0;
        // (The loop's own, closed by the program: nobody could be woken any more.)
        if self.bad && sys::fd::is_open(self.own) { Ok(1) } else { ready }
    }

    /// Builds the three sets of the fds that `wanted` accepts.
    fn fill(&mut self, registrations: &Registrations, wanted: impl Fn(i32) -> bool) {
        self.asked = [FdSet::new(); 3];
        self.limit = 0;
        for registration in registrations.first(self.count).iter().filter(|it| it.fd >= 0 && wanted(it.fd)) {
            self.limit = self.limit.max(registration.fd + 1);
            for (set, direction) in self.asked.iter_mut().zip(SETS) {
                if registration.interest().contains(direction) {
                    set.insert(registration.fd);
                }
            }
        }
    }
}

impl Backend<Area> for Select {
    fn name(&self) -> &'static core::ffi::CStr {
        c"select"
    }

    fn check(&mut self, fd: i32, _place: u32, mode: Mode) -> Result<()> {
        plain_only(mode)?;
        if fd < LIMIT { Ok(()) } else { Err(Error::INVALID) }
    }

    fn add(&mut self, registrations: &mut Registrations, place: u32, _: Handle, wanted: Registration) -> Result<()> {
        registrations[place] = wanted;
        Ok(())
    }

    fn set(&mut self, registrations: &mut Registrations, place: u32, interest: Ready) {
        registrations[place] = registrations[place].with_interest(interest);
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
        area.own = registrations[0].fd;
        area.count = count;
        area.found = false;
        area.fill(registrations, |_| true);
        true
    }

    #[cfg_attr(not(becket_small), inline(never))]
    fn next(&mut self, registrations: &mut Registrations, names: &Names, area: &mut Area) -> Option<Report> {
        if area.bad && area.cursor == 0 {
            // Each fd is asked, O(n) system calls, the price of a program's mistake; then the others are, without the
            // bad ones.
            area.fill(registrations, sys::fd::is_open);
            area.sets = area.asked;
            if sys::select::select(&mut area.sets, area.limit, Duration::ZERO).is_err() {
                area.sets = [FdSet::new(); 3];
            }
        }
        while area.found && area.cursor < area.count {
            let place = area.cursor;
            area.cursor += 1;
            let registration = registrations[place];
            if registration.fd < 0 {
                continue;
            }
            let mut ready = Ready::empty();
            for (set, direction) in area.sets.iter().zip(SETS) {
                if set.contains(registration.fd) {
                    ready |= direction & registration.interest();
                }
            }
            if area.bad && !sys::fd::is_open(registration.fd) {
                ready |= complete(Ready::ERROR, registration.interest());
            }
            if ready.is_empty() {
                continue;
            }
            let report = Report::of_place(names, place, registration, ready);
            if report.is_some() {
                return report;
            }
        }
        None
    }

    fn is_raced(&self) -> bool {
        true
    }

    /// The sets know numbers alone: one that was closed and opened again would be taken for the new file.
    fn is_steady(&self, _: &Area) -> bool {
        false
    }
}
