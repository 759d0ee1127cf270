//! Listeners: sources that accept.
//!
//! ```text
//!                         the socket is readable            next: a connection, and it is queued again behind the others
//!   listening ────────────────────────────────► queued ───────────────────────────────┐
//!     ▲  ▲ ▲                                     │  │  ▲                               │
//!     │  │ └─ no connection is left, or enough ──┘  │  └───────────────────────────────┘
//!     │  └──────── resume ◄─ paused ◄─ pause        │ no descriptor, no memory, no free source
//!     │                                             ▼
//!     └─ a source was removed; the time is over ── stalled, told once until a connection comes
//! ```
//!
//! A connection is accepted when its event is taken out, and not before: so none is ever held, and none without a place. All
//! listeners are linked, the latest first, through their slots.

use super::io::IoOptions;
use super::{Engine, Taken};
use crate::backend::{AnyBackend, Backend, Mode, Ready};
use crate::error::{Error, Result};
use crate::handle::{Handle, Kind};
use crate::ops::Address;
use crate::request::{Call, Request};
use crate::storage::slot::{NIL, Target, bits};
use crate::sys::{listen as sys, operation::nature};
use crate::time::{Duration, Instant};

/// Connections of one listener in one turn, and broken ones that are skipped in one attempt.
const MOST: u8 = 64;
/// How long a listener is silent that has found no descriptor or memory; twice as long each time, up to 64 times that.
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_STEPS: u8 = 7;
/// Connections that wait to be accepted, where the program does not say how many. (The system has a limit of its own.)
const BACKLOG: i32 = 4096;

/// What a new listener is to be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted; the system has a limit of its own. 0: 4096.
    pub backlog: u32,
    /// Free sources that there have to be before a connection is accepted: what it will need, 255 at most.
    pub places: u32,
    /// Each connection becomes a stream: there has to be room for another one too.
    pub streams: bool,
    /// SO_REUSEPORT: other sockets may listen at the same address, of other processes too.
    pub reuse_port: bool,
    /// An IPv6 socket is for IPv4 too. (`:80` and `*:80` are in any case.)
    pub ipv4_too: bool,
    /// Of several processes that share the socket not all are woken. epoll.
    pub exclusive: bool,
    /// The file of a UNIX socket that nobody listens at any more is replaced.
    pub replace: bool,
    /// The file of a UNIX socket is removed when the listener is closed.
    pub unlink: bool,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            backlog: 0,
            places: 1,
            streams: false,
            reuse_port: false,
            ipv4_too: false,
            exclusive: false,
            replace: false,
            unlink: false,
        }
    }
}

/// Where a listener is to listen.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    Text(&'a [u8]),
    Address(&'a Address),
    /// A socket that listens already.
    Socket(i32),
}

/// All listeners of a loop.
pub(super) struct Listeners {
    /// The latest.
    first: u32,
    /// How many are stalled.
    stalled: u32,
    /// A source was removed since they were looked at.
    pub(super) room: bool,
}

impl Listeners {
    pub(super) const fn new() -> Listeners {
        Listeners { first: NIL, stalled: 0, room: false }
    }
}

mod flag {
    /// The program has paused it.
    pub(super) const PAUSED: u8 = 1 << 0;
    /// It has paused itself.
    pub(super) const STALLED: u8 = 1 << 1;
    /// The loop has opened the socket.
    pub(super) const OWNED: u8 = 1 << 2;
    /// Its file goes with it.
    pub(super) const UNLINK: u8 = 1 << 3;
    /// Its connections become streams.
    pub(super) const STREAMS: u8 = 1 << 4;
}

/// What a listener remembers, in the slot's `time`. (`deadline`: the next listener, and above it the turn of `accepted`.)
#[derive(Clone, Copy)]
struct State {
    flags: u8,
    /// Free sources that a connection needs.
    places: u8,
    /// How often it has stalled since the last connection.
    stalls: u8,
    /// Connections in the turn in which it accepted last.
    accepted: u8,
}

impl State {
    fn pack(self) -> u64 {
        u32::from_le_bytes([self.flags, self.places, self.stalls, self.accepted]).into()
    }

    fn unpack(bits: u64) -> State {
        let [flags, places, stalls, accepted] = (bits as u32).to_le_bytes();
        State { flags, places, stalls, accepted }
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What an attempt to accept has brought.
enum Accepted {
    Connection(i32),
    /// There is none, or none that is whole.
    Nothing,
    Stalled(Error),
}

/// Making, closing.
impl Engine {
    /// A listener. EINVAL: what the text or the options say cannot be, or the socket does not listen; EEXIST, ENOSPC; ENOTSUP:
    /// the backend has no such mode, or lives in a simulator, where there are no addresses; else what the system says. Then
    /// nothing is open.
    pub(crate) fn listen(&mut self, at: At, options: &ListenOptions, target: Target) -> Result<Handle> {
        let places = u8::try_from(options.places).map_err(|_| Error::INVALID)?;
        let backlog = i32::try_from(options.backlog).map_err(|_| Error::INVALID)?;
        let how = sys::How {
            backlog: if backlog == 0 { BACKLOG } else { backlog },
            reuse_port: options.reuse_port,
            ipv4_too: options.ipv4_too,
            replace: options.replace,
        };
        // Before anything is opened.
        self.free_slot(Kind::Listener)?;
        let simulated = self.backend.is_simulated();
        let fd = match at {
            At::Socket(fd) => {
                self.check_new(fd, if options.exclusive { Mode::EXCLUSIVE } else { Mode::empty() })?;
                self.backend.take_over(fd)?;
                fd
            }
            _ if simulated => return Err(Error::UNSUPPORTED),
            At::Text(text) => sys::open_text(text, how)?,
            At::Address(address) => sys::open(address, how)?,
        };
        let owned = !matches!(at, At::Socket(_));
        let trusted = IoOptions { trusted: true, exclusive: options.exclusive, ..IoOptions::default() };
        let added = self.add_fd(Kind::Listener, fd, Ready::READABLE, trusted, target).inspect_err(|_| {
            if owned {
                let _ = close(&mut self.backend, fd, true);
            }
        })?;
        let index = self.resolve(added)?;
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        let flags =
            flag(owned, flag::OWNED) | flag(options.unlink, flag::UNLINK) | flag(options.streams, flag::STREAMS);
        self.set_listener(index, State { flags, places, stalls: 0, accepted: 0 });
        self.lists.slots[index].deadline = self.listeners.first.into();
        self.listeners.first = index;
        Ok(added)
    }

    /// Whether a listener can have this fd of the program's. EBADF, EEXIST; EINVAL, ENOTSUP: not with this backend.
    fn check_new(&mut self, fd: i32, mode: Mode) -> Result<()> {
        if fd < 0 {
            return Err(Error::BAD_FD);
        }
        if self.find_io(fd).is_ok() {
            return Err(Error::EXISTS);
        }
        let index = self.free_slot(Kind::Listener)?;
        self.backend.check(fd, index + 1, mode)
    }

    /// Removes the listener and closes its socket, and removes its file where that was asked for. ESTALE; EINVAL: it is of
    /// another kind; EBUSY: operations wait for the socket. O(listeners).
    pub(crate) fn close_listener(&mut self, handle: Handle) -> Result<()> {
        let index = self.resolve_kind(handle, Kind::Listener)?;
        let fd = self.fd_of(index);
        if self.is_waited_for(fd) {
            return Err(Error::BUSY);
        }
        let unlinks = self.listener(index).has(flag::UNLINK);
        self.forget_listener(index, true);
        self.vacate(index);
        close(&mut self.backend, fd, unlinks)
    }

    /// What goes before the slot does.
    pub(super) fn forget_listener(&mut self, index: u32, closing: bool) {
        self.unstall(index);
        let next = self.next_listener(index);
        let mut at = self.listeners.first;
        if at == index {
            self.listeners.first = next;
        } else {
            while self.next_listener(at) != index {
                at = self.next_listener(at);
            }
            let slot = &mut self.lists.slots[at];
            slot.deadline = slot.deadline & !u64::from(u32::MAX) | u64::from(next);
        }
        self.forget_fd(index, closing);
    }

    /// The loop ends: what it has opened is closed. In a forked child (`ours`: false) those are copies, and the files stay.
    pub(super) fn close_listeners(&mut self, ours: bool) {
        let mut at = self.listeners.first;
        while at != NIL {
            let (state, fd) = (self.listener(at), self.fd_of(at));
            let next = self.next_listener(at);
            if state.has(flag::OWNED) {
                if ours {
                    self.forget_listener(at, true);
                    self.vacate(at);
                }
                let _ = close(&mut self.backend, fd, ours && state.has(flag::UNLINK));
            }
            at = next;
        }
    }
}

/// Closes a socket, after its file is gone: who comes next finds it free.
fn close(backend: &mut AnyBackend, fd: i32, unlinks: bool) -> Result<()> {
    if unlinks && !backend.is_simulated() {
        let _ = sys::address_of(fd).map(|address| sys::remove_file(&address));
    }
    backend.close_fd(fd)
}

/// What a program asks for.
impl Engine {
    /// Nothing is accepted until it is resumed. ESTALE, EINVAL. O(1).
    pub(crate) fn pause_listener(&mut self, handle: Handle, on: bool) -> Result<()> {
        let index = self.resolve_kind(handle, Kind::Listener)?;
        let mut state = self.listener(index);
        state.flags = if on { state.flags | flag::PAUSED } else { state.flags & !flag::PAUSED };
        self.set_listener(index, state);
        if on {
            if !self.lists.links[index].has(bits::TRIGGERED) {
                self.lists.unlink(index);
            }
            self.set_interest(index, Ready::empty());
        } else {
            // A stalled one tries at once.
            self.unstall(index);
            self.set_interest(index, Ready::READABLE);
        }
        self.recount(index);
        Ok(())
    }

    /// Whether it is paused: by the program, by itself. O(1).
    pub(crate) fn listener_paused(&self, handle: Handle) -> Result<(bool, bool)> {
        let state = self.listener(self.resolve_kind(handle, Kind::Listener)?);
        Ok((state.has(flag::PAUSED), state.has(flag::STALLED)))
    }

    /// Its socket. O(1).
    pub(crate) fn listener_fd(&self, handle: Handle) -> Result<i32> {
        Ok(self.fd_of(self.resolve_kind(handle, Kind::Listener)?))
    }

    /// The address that it is bound to. ENOTSUP: in a simulator. One system call.
    pub(crate) fn listener_address(&self, handle: Handle) -> Result<Address> {
        let fd = self.listener_fd(handle)?;
        if self.backend.is_simulated() { Err(Error::UNSUPPORTED) } else { sys::address_of(fd) }
    }

    /// The address of who is connected to a socket. ENOTSUP: in a simulator; EBADF, ENOTSOCK, ENOTCONN. One system call.
    pub(crate) fn peer_address(&self, fd: i32) -> Result<Address> {
        if self.backend.is_simulated() { Err(Error::UNSUPPORTED) } else { sys::peer_of(fd) }
    }

    /// Whether the program has not paused it.
    pub(super) fn is_listening(&self, index: u32) -> bool {
        !self.listener(index).has(flag::PAUSED)
    }

    fn listener(&self, index: u32) -> State {
        State::unpack(self.lists.slots[index].time)
    }

    fn set_listener(&mut self, index: u32, state: State) {
        self.lists.slots[index].time = state.pack();
    }

    fn next_listener(&self, index: u32) -> u32 {
        self.lists.slots[index].deadline as u32
    }
}

/// Accepting.
impl Engine {
    /// The next event of a listener. False: there is none.
    pub(super) fn take_listener(&mut self, index: u32, taken: &mut Taken) -> bool {
        let link = &mut self.lists.links[index];
        let triggered = link.has(bits::TRIGGERED);
        link.set(bits::TRIGGERED, false);
        let accepted = if self.interest_of(index).is_empty() { Accepted::Nothing } else { self.accept(index) };
        let (value, flag) = match accepted {
            Accepted::Connection(fd) => (fd, Ready::empty()),
            Accepted::Nothing if !triggered => return false,
            Accepted::Nothing => (-Error::AGAIN.errno(), Ready::empty()),
            Accepted::Stalled(error) => (-error.errno(), Ready::PAUSED),
        };
        taken.value = value.into();
        taken.flags = (flag | if triggered { Ready::TRIGGERED } else { Ready::empty() }).bits().into();
        self.describe(index, self.shared.names.handle(index), Kind::Listener, self.fd_of(index), taken);
        true
    }

    /// Accepts one connection, and queues the listener again where there may be another. O(1), a few system calls.
    fn accept(&mut self, index: u32) -> Accepted {
        let mut state = self.listener(index);
        let turn = self.statistics.turns as u32;
        if (self.lists.slots[index].deadline >> 32) as u32 != turn {
            state.accepted = 0;
        }
        let slot = &mut self.lists.slots[index];
        slot.deadline = slot.deadline & u64::from(u32::MAX) | u64::from(turn) << 32;
        self.set_listener(index, state);
        if !self.has_places(state) {
            return self.stall(index, Error::TABLE_FULL);
        }
        let fd = self.fd_of(index);
        let mut passing = Error::AGAIN;
        for _ in 0..MOST {
            match self.accept_one(fd) {
                Ok(None) => return Accepted::Nothing,
                Ok(Some(connection)) => {
                    state.accepted = state.accepted.saturating_add(1);
                    state.stalls = 0;
                    self.set_listener(index, state);
                    if state.accepted < MOST {
                        self.lists.queue(index);
                    }
                    return Accepted::Connection(connection);
                }
                Err(error) if sys::is_passing(error) => passing = error,
                Err(error) => return self.stall(index, error),
            }
        }
        // So many in a row: it is not the connections.
        self.stall(index, passing)
    }

    fn accept_one(&self, fd: i32) -> Result<Option<i32>> {
        let mut request = Request::new(Call::Accept, fd)?.second(core::ptr::null_mut());
        request.nature = nature::STREAM; // it does not block: that need not be asked
        match self.backend.attempt(&request, &mut false) {
            Some(result) if result < 0 => Err(Error::from_errno(result)),
            result => Ok(result),
        }
    }

    /// Whether a connection has what it will need.
    fn has_places(&self, state: State) -> bool {
        let free = self.sources() - self.statistics.sources;
        free >= state.places.into() && (!state.has(flag::STREAMS) || self.streams.has_room())
    }

    /// Silent from now on, until there is room. What is to be told of it.
    fn stall(&mut self, index: u32, error: Error) -> Accepted {
        let mut state = self.listener(index);
        let first = state.stalls == 0;
        let span = BACKOFF.as_nanos() << state.stalls.min(BACKOFF_STEPS - 1);
        state.stalls = (state.stalls + 1).min(BACKOFF_STEPS);
        state.flags |= flag::STALLED;
        self.set_listener(index, state);
        self.listeners.stalled += 1;
        self.set_interest(index, Ready::empty());
        if error != Error::TABLE_FULL {
            self.set_deadline(index, self.fresh_now() + Duration::from_nanos(span));
        }
        if first { Accepted::Stalled(error) } else { Accepted::Nothing }
    }

    /// A stalled one listens again, unless the program has paused it; it has a deadline no more, which no other ever has.
    pub(super) fn unstall(&mut self, index: u32) {
        let mut state = self.listener(index);
        if !state.has(flag::STALLED) {
            return;
        }
        state.flags &= !flag::STALLED;
        self.set_listener(index, state);
        self.listeners.stalled -= 1;
        self.set_deadline(index, Instant::NEVER);
        if !state.has(flag::PAUSED) {
            self.set_interest(index, Ready::READABLE);
        }
    }

    /// Before a wait: sources were removed, and there may be room for who has stalled. O(listeners).
    #[inline(always)]
    pub(super) fn resume_listeners(&mut self) {
        if core::mem::take(&mut self.listeners.room) && self.listeners.stalled > 0 {
            self.unstall_all();
        }
    }

    #[cold]
    fn unstall_all(&mut self) {
        let mut at = self.listeners.first;
        while at != NIL {
            if self.has_places(self.listener(at)) {
                self.unstall(at);
            }
            at = self.next_listener(at);
        }
    }
}
