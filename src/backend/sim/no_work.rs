//! A simulator without operations.

use super::state::State;
use crate::time::Instant;

/// No operation.
pub(super) struct Work;

impl Work {
    pub(super) const NONE: Work = Work;
}

impl State {
    pub(super) fn next_work(&self) -> Instant {
        Instant::NEVER
    }

    pub(super) fn work(&mut self) -> u32 {
        0
    }

    pub(super) fn find_completions(&mut self) -> usize {
        0
    }

    pub(super) fn forget_work(&mut self) {}
}
