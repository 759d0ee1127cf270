//! What the engine hands out.

use crate::backend::Ready;
use crate::handle::{Handle, Kind};

/// What happened to one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The source.
    pub source: Handle,
    /// What kind of event it is: the source's kind, or [`Kind::Post`].
    pub kind: Kind,
    /// Readiness of an I/O source; [`Ready::PAUSED`] of a listener; [`Ready::TRIGGERED`] on any.
    pub ready: Ready,
    /// Timer: periods that have gone by, 1 or more. Signal: how often it came. Child: its status, as waitpid(2) gives
    /// it, or minus ECHILD when somebody else has reaped it, or minus EAGAIN when it still runs and the source was
    /// triggered. Post: the value. Operation: what the system call returns, or a negative errno value. Listener: the fd of
    /// the connection, or a negative errno value. Else 0.
    pub value: i64,
    /// I/O, listener: the source's fd. Signal: its number. Child: the process. Operation: its fd, but for openat, openat2 and
    /// statx. Else -1.
    pub fd: i32,
    /// The level of the source.
    pub level: u8,
    /// What was given with the handler: the user's pointer or token.
    pub token: usize,
}

/// An event as it is taken out, with the handler that it is for. It begins as the C ABI's event does, so that it is
/// written once and handed on; the Rust front end makes an [`Event`] of it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Taken {
    pub(crate) source: Handle,
    pub(crate) value: i64,
    pub(crate) user: *mut (),
    /// One bit: [`Kind::mask`].
    pub(crate) kind: u32,
    /// [`Ready`].
    pub(crate) flags: u32,
    pub(crate) fd: i32,
    pub(crate) level: u32,
    /// Of a stream: what was received, or the request that is done.
    pub(crate) data: *mut (),
    /// Of the front end; null: none.
    pub(crate) handler: *const (),
}

impl Taken {
    pub(crate) const NONE: Taken = Taken {
        source: Handle::NONE,
        value: 0,
        user: core::ptr::null_mut(),
        kind: 0,
        flags: 0,
        fd: -1,
        level: 0,
        data: core::ptr::null_mut(),
        handler: core::ptr::null(),
    };

    /// Of a plain I/O source, but for what one of them tells.
    pub(crate) const READINESS: Taken = Taken { kind: Kind::Io.mask().bits(), ..Taken::NONE };

    pub(crate) fn event(&self) -> Event {
        Event {
            source: self.source,
            kind: Kind::from_number(self.kind.trailing_zeros() as u8 + 1).unwrap_or(Kind::Post),
            ready: Ready::from_bits_truncate(self.flags as u16),
            value: self.value,
            fd: self.fd,
            level: self.level as u8,
            token: self.user.addr(),
        }
    }
}
