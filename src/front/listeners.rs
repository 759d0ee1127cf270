//! Listeners for Rust.

use super::{Handler, Loop};
use crate::engine::Event;
use crate::engine::listeners::At;
pub use crate::engine::listeners::ListenOptions;
use crate::error::{Error, Result};
use crate::handle::{Handle, Kind};
use crate::ops::Address;

/// Listeners: sources for the connections to a socket. Each connection is one event of
/// [`Kind::Listener`](crate::Kind::Listener); [`Event::connection`] gives its fd, which does not block, is closed on exec, and is
/// the handler's.
///
/// A connection is accepted when its event is taken out, up to 64 of each listener in a turn, and none that has no place: see
/// [`ListenOptions::places`]. Where there is no room a listener pauses by itself: one event tells so, with
/// [`Ready::PAUSED`](crate::Ready::PAUSED), and none follows until a connection has come. It goes on when sources were removed
/// (ENOSPC), and after all other errors in any case after 10 ms, then twice as long each time, up to 640 ms.
///
/// ```
/// use becket::{Config, Event, ListenOptions, Loop, Storage};
/// use std::io::Write;
/// use std::net::TcpStream;
/// use std::os::fd::FromRawFd;
///
/// fn on_connection(greeted: &mut u32, event_loop: &Loop<u32>, event: Event) {
///     let Ok(fd) = event.connection() else { return }; // paused for want of room: it goes on by itself
///     // SAFETY: the fd is this handler's.
///     let mut stream = unsafe { TcpStream::from_raw_fd(fd) };
///     stream.write_all(b"hello").unwrap();
///     *greeted += 1;
///     event_loop.close_listener(event.source).unwrap();
/// }
///
/// let mut storage = Storage::<4, 0>::new();
/// let event_loop = Loop::new(&mut storage, &Config::default())?;
/// let listener = event_loop.listen("127.0.0.1:0", &ListenOptions::default(), on_connection, 0)?;
/// let address = event_loop.listener_address(listener)?.socket_address().unwrap();
/// let _client = TcpStream::connect(address).unwrap();
/// let mut greeted = 0;
/// event_loop.run(&mut greeted)?; // until it is closed
/// assert_eq!(greeted, 1);
/// # Ok::<(), becket::Error>(())
/// ```
impl<'s, App> Loop<'s, App> {
    fn listen_with(
        &self,
        at: At,
        options: &ListenOptions,
        handler: Option<Handler<'s, App>>,
        token: usize,
    ) -> Result<Handle> {
        self.with(|engine| engine.listen(at, options, Self::target(handler, token)))
    }

    /// Listens at `127.0.0.1:80`, `[::1]:80`, `:80` or `*:80` (every address), `unix:/path` or `unix:@name`. EINVAL: the text is
    /// no address, or the options cannot be; ENOSPC: no source is free; ENOTSUP: no abstract names here, or the loop lives in a
    /// simulator; else what the system says. Then nothing is open. A few system calls.
    pub fn listen(
        &self,
        address: &str,
        options: &ListenOptions,
        handler: Handler<'s, App>,
        token: usize,
    ) -> Result<Handle> {
        self.listen_with(At::Text(address.as_bytes()), options, Some(handler), token)
    }

    /// The same; the events are for [`Loop::next`] alone.
    pub fn listen_pulled(&self, address: &str, options: &ListenOptions, token: usize) -> Result<Handle> {
        self.listen_with(At::Text(address.as_bytes()), options, None, token)
    }

    /// The same at an [`Address`].
    pub fn listen_at(
        &self,
        address: &Address,
        options: &ListenOptions,
        handler: Handler<'s, App>,
        token: usize,
    ) -> Result<Handle> {
        self.listen_with(At::Address(address), options, Some(handler), token)
    }

    /// The same with a socket that listens already, which stays the program's, but does not block from now on and is closed on
    /// exec. EINVAL: it does not listen; EBADF, ENOTSOCK; EEXIST: it has a source.
    pub fn listen_fd(
        &self,
        fd: i32,
        options: &ListenOptions,
        handler: Handler<'s, App>,
        token: usize,
    ) -> Result<Handle> {
        self.listen_with(At::Socket(fd), options, Some(handler), token)
    }

    /// Removes a listener and closes its socket, whoever has opened it; [`Loop::remove`] leaves it open, and then it is the
    /// program's. EBUSY: operations wait for it. O(listeners).
    pub fn close_listener(&self, listener: Handle) -> Result<()> {
        self.with(|engine| engine.close_listener(listener))
    }

    /// Accepts nothing until it is resumed, and keeps no loop alive. O(1).
    pub fn pause_listener(&self, listener: Handle) -> Result<()> {
        self.with(|engine| engine.pause_listener(listener, true))
    }

    /// Accepts again; also at once when it has paused by itself. O(log n).
    pub fn resume_listener(&self, listener: Handle) -> Result<()> {
        self.with(|engine| engine.pause_listener(listener, false))
    }

    /// Whether the program has paused it, and whether it has by itself. O(1).
    pub fn listener_paused(&self, listener: Handle) -> Result<(bool, bool)> {
        self.core().look(|engine| engine.listener_paused(listener))
    }

    /// The socket of a listener. O(1).
    pub fn listener_fd(&self, listener: Handle) -> Result<i32> {
        self.core().look(|engine| engine.listener_fd(listener))
    }

    /// The address that a listener is bound to, with its port. ENOTSUP: the loop lives in a simulator. One system call.
    pub fn listener_address(&self, listener: Handle) -> Result<Address> {
        self.core().look(|engine| engine.listener_address(listener))
    }

    /// The address of who is connected to a socket. ENOTCONN: the peer has gone already. One system call.
    pub fn peer_address(&self, fd: i32) -> Result<Address> {
        self.core().look(|engine| engine.peer_address(fd))
    }
}

impl Event {
    /// Of a listener: the fd of the connection, which is the caller's from now on; or why it has paused by itself, or EAGAIN where it
    /// was triggered and there is none. EINVAL: the event is of another kind.
    pub fn connection(&self) -> Result<i32> {
        match i32::try_from(self.value) {
            Ok(value) if self.kind == Kind::Listener && value >= 0 => Ok(value),
            Ok(value) if self.kind == Kind::Listener => Err(Error::from_errno(value)),
            _ => Err(Error::INVALID),
        }
    }
}
