//! Files by a ring of io_uring(7) beside a backend that is none: its descriptor is one more that the backend watches.

use super::files::Files;
use crate::error::Result;
use crate::request::Request;
use crate::ring::RingMemory;
use crate::sys::uring::{self, Completions, OPERATION, Submissions, Which};
use crate::time::Duration;
use core::ffi::CStr;

/// How long the loop sleeps at most while the kernel has not taken everything: it was short of memory, or would not take more
/// before its completions are.
const UNTAKEN: Duration = Duration::from_millis(1);

pub(crate) struct Ring {
    submissions: Submissions,
    completions: Completions,
}

impl Ring {
    /// New rings, in the caller's memory where there is some and the kernel can. ENOSYS, EPERM, ENOMEM, EMFILE, ENFILE;
    /// ENOTSUP: the kernel is too old.
    pub(crate) fn new(memory: Option<RingMemory>) -> Result<Ring> {
        let (submissions, completions) = uring::make_private(memory)?;
        Ok(Ring { submissions, completions })
    }
}

impl Files for Ring {
    fn name(&self) -> &'static CStr {
        c"io_uring"
    }

    fn makes(&self, _: &Request) -> bool {
        true
    }

    fn submit(&mut self, request: &Request, elsewhere: bool, data: u64) -> bool {
        self.submissions.operation(request, elsewhere, OPERATION | data)
    }

    fn submit_at_once(&mut self, request: &Request, elsewhere: bool, data: u64) -> bool {
        self.submissions.has_room() && self.submit(request, elsewhere, data)
    }

    fn cancel(&mut self, data: u64) -> bool {
        self.submissions.cancel(Which::One(OPERATION | data))
    }

    fn flush(&mut self) {
        if self.submissions.unsubmitted() > 0 {
            let _ = self.submissions.submit();
        }
    }

    fn next(&mut self) -> Option<(u64, i32)> {
        self.completions.take().map(|(data, result)| (data & !OPERATION, result))
    }

    fn has_completed(&self) -> bool {
        self.completions.is_readable()
    }

    fn fd(&self) -> Option<i32> {
        Some(self.submissions.fd())
    }

    fn patience(&mut self) -> Duration {
        if self.submissions.unsubmitted() > 0 { UNTAKEN } else { Duration::FOREVER }
    }

    fn close(&mut self, ours: bool) {
        if ours {
            let _ = self.submissions.cancel(Which::All);
            let _ = self.submissions.submit();
        }
        self.submissions.close(ours);
    }
}
