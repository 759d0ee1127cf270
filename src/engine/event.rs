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
    /// the connection, or a negative errno value. Stream: see [`Event::stream`]. Else 0.
    pub value: i64,
    /// I/O, listener: the source's fd. Signal: its number. Child: the process. Operation: its fd, but for openat, openat2 and
    /// statx. Else -1.
    pub fd: i32,
    /// The level of the source.
    pub level: u8,
    /// What was given with the handler: the user's pointer or token.
    pub token: usize,
    /// What a stream tells; `None`: nothing but `ready`, or it is no stream.
    #[cfg(feature = "streams")]
    pub stream: Option<StreamEvent>,
    /// Of a stream: where that is.
    #[cfg(feature = "streams")]
    pub(crate) data: usize,
}

/// What an event of a stream tells.
#[cfg(feature = "streams")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum StreamEvent {
    /// `value` bytes were received: see [`Loop::received`](crate::Loop::received). Of a socket of datagrams also: minus the errno value
    /// of what the network says.
    Data = 1 << 16,
    /// The peer sends no more; what is sent to it may still arrive.
    End = 1 << 17,
    /// A request is done: `value` is its bytes, or a negative errno value. Which one: [`SendRequest::is_of`](crate::SendRequest::is_of).
    Sent = 1 << 18,
    /// The queue was above the high watermark, and is not above the low one any more.
    Low = 1 << 19,
    /// [`Loop::connect_stream`](crate::Loop::connect_stream) has connected it.
    Connected = 1 << 20,
    /// The last event: `value` is 0, or the reason as a negative errno value. The fd is closed, the handle stale, and no request in use.
    Closed = 1 << 21,
}

#[cfg(feature = "streams")]
impl StreamEvent {
    fn of(flags: u32) -> Option<StreamEvent> {
        use StreamEvent::*;
        [Data, End, Sent, Low, Connected, Closed].into_iter().find(|it| flags & *it as u32 != 0)
    }
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
            #[cfg(feature = "streams")]
            stream: StreamEvent::of(self.flags),
            #[cfg(feature = "streams")]
            data: self.data.addr(),
        }
    }
}
