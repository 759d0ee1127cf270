//! poll(2). The table of registrations is the array that poll takes; a wait costs O(n) in the kernel, a collection
//! one pass. No limit but that of open files.
#![allow(unsafe_code)]

use super::{Backend, Plan, Ready, Registration, complete};
use crate::error::{Error, Result};
use crate::storage::region::Region;
use crate::sys;

#[derive(Clone, Copy)]
pub(crate) struct Poll {
    /// RLIMIT_NOFILE when it was last asked for: the longest array that poll takes, entries that it skips included.
    limit: u32,
}

impl Poll {
    pub(crate) const fn new() -> Poll {
        Poll { limit: 0 }
    }
}

impl Backend for Poll {
    fn name(&self) -> &'static core::ffi::CStr {
        c"poll"
    }

    fn check(&mut self, _fd: i32, place: u32) -> Result<()> {
        if place >= self.limit {
            self.limit = sys::fd::limit();
        }
        if place < self.limit { Ok(()) } else { Err(Error::TABLE_FULL) }
    }

    fn set(&mut self, registration: &mut Registration, fd: i32, interest: Ready) {
        let mut new = Registration::new(fd, interest);
        if interest.contains(Ready::READABLE) {
            new.events |= sys::poll::PEER_CLOSED;
        }
        *registration = new;
    }

    fn prepare(&mut self, registrations: &Region<Registration>, count: u32, plan: &mut Plan) {
        plan.registrations = registrations.as_ptr();
        plan.count = count;
    }

    fn wait(&self, plan: &mut Plan) -> Result<usize> {
        // SAFETY: the registrations are the loop's memory and stay. A change by another thread is one store of eight
        // aligned bytes, and the engine drops the outcome of a wait that was raced by one.
        unsafe { sys::poll::poll(plan.registrations, plan.count as usize, plan.timeout) }
    }

    fn collect(&mut self, registrations: &[Registration], plan: &mut Plan, report: &mut impl FnMut(usize, Ready)) {
        let mut left = plan.outcome.unwrap_or(0);
        for (index, registration) in registrations.iter().enumerate().take(plan.count as usize) {
            if left == 0 {
                return;
            }
            let revents = registration.revents;
            if revents == 0 || registration.fd < 0 {
                continue;
            }
            left -= 1;
            let mut ready = Ready::from_bits_truncate(revents as u16 & 0x1f);
            if revents & sys::poll::PEER_CLOSED != 0 {
                ready |= Ready::PEER_CLOSED;
            }
            if revents & sys::poll::INVALID != 0 {
                ready |= Ready::ERROR;
            }
            report(index, complete(ready, registration.interest()));
        }
    }
}
