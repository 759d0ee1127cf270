//! poll(2). The table of registrations is the array that poll takes; a wait costs O(n) in the kernel, a collection
//! one pass. No limit but that of open files.
#![allow(unsafe_code)]

use super::{Backend, Plan, Ready, Registration, complete};
use crate::error::Result;
use crate::sys;

#[derive(Clone, Copy)]
pub(crate) struct Poll;

impl Backend for Poll {
    fn name(&self) -> &'static core::ffi::CStr {
        c"poll"
    }

    fn check(&self, _fd: i32) -> Result<()> {
        Ok(())
    }

    fn set(&mut self, registration: &mut Registration, fd: i32, interest: Ready) {
        let mut new = Registration::new(fd, interest);
        if interest.contains(Ready::READABLE) {
            new.events |= sys::poll::PEER_CLOSED;
        }
        *registration = new;
    }

    fn prepare(&mut self, registrations: &mut [Registration], plan: &mut Plan) {
        plan.registrations = registrations.as_mut_ptr();
        plan.count = registrations.len();
    }

    fn wait(&self, plan: &mut Plan) -> Result<usize> {
        // SAFETY: the registrations are the loop's memory and stay. A change by another thread is one store of eight
        // aligned bytes, and the engine drops the outcome of a wait that was raced by one.
        unsafe { sys::poll::poll(plan.registrations, plan.count, plan.timeout) }
    }

    fn collect(&mut self, registrations: &[Registration], plan: &mut Plan, report: &mut impl FnMut(usize, Ready)) {
        let mut left = plan.outcome.unwrap_or(0);
        for (index, registration) in registrations.iter().enumerate().take(plan.count) {
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
