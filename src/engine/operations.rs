//! Operations: requests that complete later.

use super::Engine;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::request::Request;
use crate::storage::slot::Target;
use crate::time::Duration;

impl Engine {
    pub(crate) fn submit(&mut self, _request: Request, _target: Target) -> Result<Handle> {
        Err(Error::NO_CALL)
    }

    pub(crate) fn submit_lent(
        &mut self,
        _request: Request,
        _target: Target,
        _lease: Option<&'static crate::request::Lease>,
    ) -> Result<Handle> {
        Err(Error::NO_CALL)
    }

    pub(crate) fn cancel(&mut self, _operation: Handle) -> Result<()> {
        Err(Error::STALE)
    }

    pub(crate) fn set_operation_deadline(&mut self, _operation: Handle, _delay: Duration) -> Result<()> {
        Err(Error::STALE)
    }

    pub(crate) fn files_name(&self) -> &'static core::ffi::CStr {
        c"none"
    }

    pub(crate) fn files_note(&self) -> &'static core::ffi::CStr {
        c""
    }
}
