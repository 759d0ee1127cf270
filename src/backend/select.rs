//! select(2). Three sets are built for each wait, in one pass over the table; another pass reads them. An fd at or
//! above FD_SETSIZE cannot be watched. The portable subset: there is no HANGUP and no PEER_CLOSED; a connection that
//! ended is READABLE, one with an error READABLE and WRITABLE.

use super::{Backend, Plan, Ready, Registration, complete};
use crate::error::{Error, Result};
use crate::storage::region::Region;
use crate::sys;
use crate::sys::select::{FdSet, LIMIT};
use crate::time::Duration;

#[derive(Clone, Copy)]
pub(crate) struct Select;

const SETS: [Ready; 3] = [Ready::READABLE, Ready::WRITABLE, Ready::PRIORITY];

impl Backend for Select {
    fn name(&self) -> &'static core::ffi::CStr {
        c"select"
    }

    fn check(&mut self, fd: i32, _place: u32) -> Result<()> {
        if fd < LIMIT { Ok(()) } else { Err(Error::INVALID) }
    }

    fn set(&mut self, registration: &mut Registration, fd: i32, interest: Ready) {
        *registration = Registration::new(fd, interest);
    }

    fn prepare(&mut self, registrations: &Region<Registration>, count: u32, plan: &mut Plan) {
        plan.count = count;
        fill(registrations.first(count), plan, |_| true);
    }

    fn wait(&self, plan: &mut Plan) -> Result<usize> {
        sys::select::select(&mut plan.sets, plan.limit, plan.timeout)
    }

    fn collect(&mut self, registrations: &[Registration], plan: &mut Plan, report: &mut impl FnMut(usize, Ready)) {
        let registrations = &registrations[..plan.count as usize];
        if plan.outcome == Err(Error::BAD_FD) {
            // One of the fds is not open, and the sets say nothing. Each is asked, O(n) system calls, the price of a
            // program's mistake; then the others are, without the bad ones.
            fill(registrations, plan, sys::fd::is_open);
            plan.outcome = sys::select::select(&mut plan.sets, plan.limit, Duration::ZERO);
            for (index, registration) in watched(registrations).filter(|(_, it)| !sys::fd::is_open(it.fd)) {
                report(index, complete(Ready::ERROR, registration.interest()));
            }
        }
        if plan.outcome.unwrap_or(0) == 0 {
            return;
        }
        for (index, registration) in watched(registrations) {
            let mut ready = Ready::empty();
            for (set, direction) in plan.sets.iter().zip(SETS) {
                if set.contains(registration.fd) {
                    ready |= direction & registration.interest();
                }
            }
            if !ready.is_empty() {
                report(index, ready);
            }
        }
    }
}

/// Registrations that are not paused.
fn watched(registrations: &[Registration]) -> impl Iterator<Item = (usize, &Registration)> {
    registrations.iter().enumerate().filter(|(_, registration)| registration.fd >= 0)
}

/// Builds the three sets of the fds that `wanted` accepts.
fn fill(registrations: &[Registration], plan: &mut Plan, wanted: impl Fn(i32) -> bool) {
    plan.sets = [const { FdSet::new() }; 3];
    plan.limit = 0;
    for (_, registration) in watched(registrations).filter(|(_, it)| wanted(it.fd)) {
        plan.limit = plan.limit.max(registration.fd + 1);
        for (set, direction) in plan.sets.iter_mut().zip(SETS) {
            if registration.interest().contains(direction) {
                set.insert(registration.fd);
            }
        }
    }
}
