//! What the engine hands out.

use crate::backend::Ready;
use crate::handle::{Handle, Kind};
use crate::storage::slot::Target;

/// What happened to one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The source.
    pub source: Handle,
    /// What kind of event it is: the source's kind, or [`Kind::Post`].
    pub kind: Kind,
    /// Readiness of an I/O source; [`Ready::TRIGGERED`] on any.
    pub ready: Ready,
    /// Timer: periods that have gone by, 1 or more. Signal: how often it came. Child: its status, as waitpid(2) gives
    /// it, or minus ECHILD when somebody else has reaped it. Post: the value. Else 0.
    pub value: i64,
    /// I/O: the fd. Signal: its number. Child: the process. Else -1.
    pub fd: i32,
    /// The level of the source.
    pub level: u8,
    /// What was given with the handler: the user's pointer or token.
    pub token: usize,
}

/// An event with the handler that it is for.
pub(crate) struct Taken {
    pub(crate) event: Event,
    pub(crate) target: Target,
}
