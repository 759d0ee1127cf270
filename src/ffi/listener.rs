//! Listeners, and addresses.

use super::constants::BECKET_PAUSED;
use super::memory::sized;
use super::types::{becket_handle, becket_handler, becket_loop};
use super::{add, answer, done, look, with};
use crate::engine::listeners::{At, ListenOptions};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::ops::Address;
use crate::sys::listen::TEXT_BYTES;
use crate::sys::operation::{sockaddr, socklen_t};
use core::ffi::{c_char, c_int};

// ---- Listeners ----
//
// A listener is a source for the connections to a socket. Each connection is one event of BECKET_KIND_LISTENER, whose value is
// the connection's fd: it does not block, is closed on exec, and is the handler's from then on. event->fd is the listener's own.
//
// A connection is accepted when its event is taken out, and not before: up to 64 of each listener in a turn, in turns with what
// else is ready. None is accepted that has no place: before each one there have to be free sources, as many as it will need (one,
// where becket_listen_options does not say otherwise). A program that takes several events by becket_next() before it adds their
// sources has to ask for so many. Connections that are gone before they are accepted are skipped.
//
// Where there is no room a listener pauses by itself: when too few sources are free (-ENOSPC), the process or the system has no
// descriptor (-EMFILE, -ENFILE), or the kernel no memory (-ENOBUFS, -ENOMEM), and on any other error of accept(2). One event
// tells so, with BECKET_PAUSED and the error as its value, and no other follows until a connection has come. It goes on by itself:
// when sources were removed and enough are free, and after the other errors in any case after 10 ms, and then twice as long each
// time, up to 640 ms. Meanwhile connections wait in the kernel's queue, and no time is spent on them.
//
// Triggered (becket_trigger(), becket_wake()) a listener's event has BECKET_TRIGGERED; its value is -EAGAIN when there is no
// connection. becket_remove() leaves the socket open: it is the program's then. becket_loop_close() closes those that becket has
// opened.
//
// An address is text, or a struct sockaddr. As text:
//
//   127.0.0.1:80    [::1]:80    [fe80::1%2]:80    IPv4, IPv6, IPv6 with the number of an interface; port 0: any that is free
//   :80    *:80                                    every address of IPv6 and IPv4; of IPv4 alone where there is no IPv6
//   unix:/path    unix:@name                       a UNIX socket: a file; a name in Linux's abstract namespace
//
// Names of hosts are not looked up. An IPv6 socket is for IPv6 alone (IPV6_V6ONLY), whatever the system's default, but for :80
// and *:80, and with BECKET_LISTEN_IPV4_TOO. TCP sockets have SO_REUSEADDR: a server that is started again has its port at once.

/// Bytes that any address has as text at most, with its NUL.
pub const BECKET_ADDRESS_TEXT_BYTES: u32 = 128;

const _: () = assert!(BECKET_ADDRESS_TEXT_BYTES as usize == TEXT_BYTES);

/// SO_REUSEPORT: other sockets may listen at the same address if they say so too, of other processes of the same user; the
/// kernel shares the connections out among them.
pub const BECKET_LISTEN_REUSE_PORT: u32 = 1;
/// An IPv6 socket is for IPv4 too: with `[::]:80`.
pub const BECKET_LISTEN_IPV4_TOO: u32 = 2;
/// Of several processes that share the socket, not all are woken (EPOLLEXCLUSIVE). On epoll; else -ENOTSUP.
pub const BECKET_LISTEN_EXCLUSIVE: u32 = 4;
/// The file of a UNIX socket that nobody listens at any more is replaced; becket finds that out by connecting to it. Without
/// this, and where somebody does listen, a file that is there is -EADDRINUSE.
pub const BECKET_LISTEN_REPLACE: u32 = 8;
/// The file of a UNIX socket is removed when the listener, or the loop, is closed.
pub const BECKET_LISTEN_UNLINK: u32 = 16;
/// Connections are accepted also when no source is free. Not together with becket_listen_options.places.
pub const BECKET_LISTEN_WITHOUT_PLACE: u32 = 32;
/// Each connection becomes a stream: none is accepted while there is no room for another one.
pub const BECKET_LISTEN_FOR_STREAMS: u32 = 64;

/// What a listener is to be like. Zeros mean the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct becket_listen_options {
    /// sizeof(becket_listen_options).
    pub size: usize,
    /// BECKET_LISTEN_…
    pub flags: u32,
    /// Connections that may wait to be accepted; the system has a limit of its own (net.core.somaxconn). 0: 4096.
    pub backlog: u32,
    /// Free sources that there have to be before a connection is accepted, 255 at most. 0: 1.
    pub places: u32,
}

/// # Safety
/// Null, or readable for a `usize`, and for the options when that says so.
unsafe fn options(at: *const becket_listen_options) -> Result<ListenOptions> {
    // SAFETY: by this function's contract.
    let Some(given) = (unsafe { sized(at) })? else { return Ok(ListenOptions::default()) };
    let has = |flag: u32| given.flags & flag != 0;
    let options = ListenOptions {
        backlog: given.backlog,
        places: match given.places {
            0 => u32::from(!has(BECKET_LISTEN_WITHOUT_PLACE)),
            places => places,
        },
        reuse_port: has(BECKET_LISTEN_REUSE_PORT),
        ipv4_too: has(BECKET_LISTEN_IPV4_TOO),
        exclusive: has(BECKET_LISTEN_EXCLUSIVE),
        replace: has(BECKET_LISTEN_REPLACE),
        unlink: has(BECKET_LISTEN_UNLINK),
        streams: has(BECKET_LISTEN_FOR_STREAMS),
    };
    let both = has(BECKET_LISTEN_WITHOUT_PLACE) && given.places > 0;
    if both || given.flags >= BECKET_LISTEN_FOR_STREAMS << 1 { Err(Error::INVALID) } else { Ok(options) }
}

/// The bytes of a text that may be an address. EINVAL: there is none, or it is too long.
///
/// # Safety
/// Null, or readable up to a NUL.
unsafe fn text<'a>(at: *const c_char) -> Result<&'a [u8]> {
    if at.is_null() {
        return Err(Error::INVALID);
    }
    // SAFETY: readable up to its NUL, and no byte beyond that is looked at.
    let count = (0..TEXT_BYTES).find(|count| unsafe { at.add(*count).read() } == 0).ok_or(Error::INVALID)?;
    // SAFETY: so many bytes were just read.
    Ok(unsafe { core::slice::from_raw_parts(at.cast(), count) })
}

/// # Safety
/// Null, or readable for so many bytes.
unsafe fn address(at: *const sockaddr, length: socklen_t) -> Result<Address> {
    if at.is_null() || length as usize > size_of::<Address>() {
        return Err(Error::INVALID);
    }
    // SAFETY: by this function's contract.
    Address::from_bytes(unsafe { core::slice::from_raw_parts(at.cast(), length as usize) })
}

/// Writes an address where there is room for it, as getsockname(2) does: as much as fits, and how long it is. EINVAL: there
/// is no place.
///
/// # Safety
/// Both are null or valid, and `at` has room for as many bytes as `*length` says.
unsafe fn store_address(at: *mut sockaddr, length: *mut socklen_t, from: impl FnOnce() -> Result<Address>) -> c_int {
    if at.is_null() || length.is_null() {
        return -Error::INVALID.errno();
    }
    done(from().map(|address| {
        let bytes = address.bytes();
        // SAFETY: by this function's contract.
        unsafe {
            let room = bytes.len().min(length.read() as usize);
            at.cast::<u8>().copy_from(bytes.as_ptr(), room);
            length.write(bytes.len() as socklen_t);
        }
    }))
}

/// Writes an address as text, with a NUL: how many bytes that are without it.
///
/// # Safety
/// Null, or valid for so many bytes.
unsafe fn store_text(at: *mut c_char, size: usize, from: impl FnOnce() -> Result<Address>) -> c_int {
    if at.is_null() || size == 0 {
        return -Error::INVALID.errno();
    }
    let mut text = [0; TEXT_BYTES];
    let formatted = from().and_then(|address| {
        let count = address.format(&mut text[..size.min(TEXT_BYTES) - 1])?;
        // SAFETY: so many bytes fit, with a NUL behind them, which stands in the text.
        unsafe { at.cast::<u8>().copy_from(text.as_ptr(), count + 1) };
        Ok(count as u32)
    });
    answer(formatted)
}

/// Listens at an address that is given as text. options may be NULL. -EINVAL: no address, or options that cannot be; -ENOSPC: no
/// source is free; -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, ...: what the system says; -ENOTSUP: abstract names elsewhere than on
/// Linux, or a loop in a simulator, which has no addresses. Then nothing is open. A few system calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_listen(
    event_loop: *mut becket_loop,
    address: *const c_char,
    options: *const becket_listen_options,
    handler: becket_handler,
    user: *mut core::ffi::c_void,
    handle: *mut becket_handle,
) -> c_int {
    // SAFETY: the caller gives a loop, a text, options and a place, or NULL, which is checked.
    unsafe {
        let given = text(address).and_then(|text| Ok((text, self::options(options)?)));
        add(event_loop, handler, user, handle, |engine, target| {
            let (text, options) = given?;
            engine.listen(At::Text(text), &options, target)
        })
    }
}

/// The same at a struct sockaddr of so many bytes, of any family that has connections.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_listen_at(
    event_loop: *mut becket_loop,
    address: *const sockaddr,
    length: socklen_t,
    options: *const becket_listen_options,
    handler: becket_handler,
    user: *mut core::ffi::c_void,
    handle: *mut becket_handle,
) -> c_int {
    // SAFETY: the caller gives a loop, an address, options and a place, or NULL, which is checked.
    unsafe {
        let given = self::address(address, length).and_then(|address| Ok((address, self::options(options)?)));
        add(event_loop, handler, user, handle, |engine, target| {
            let (address, options) = given?;
            engine.listen(At::Address(&address), &options, target)
        })
    }
}

/// The same with a socket that listens already, as one that was inherited: from systemd it is fd 3 and those behind it. It stays
/// the program's, but does not block from now on, and is closed on exec. The address, the backlog and SO_REUSEPORT are what they
/// are. -EINVAL: it does not listen (SO_ACCEPTCONN); -EBADF, -ENOTSOCK; -EEXIST: it has a source.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_listen_fd(
    event_loop: *mut becket_loop,
    fd: c_int,
    options: *const becket_listen_options,
    handler: becket_handler,
    user: *mut core::ffi::c_void,
    handle: *mut becket_handle,
) -> c_int {
    // SAFETY: the caller gives a loop, options and a place, or NULL, which is checked.
    unsafe {
        let given = self::options(options);
        add(event_loop, handler, user, handle, |engine, target| engine.listen(At::Socket(fd), &given?, target))
    }
}

/// Removes the listener and closes its socket, whoever has opened it, and removes its file with BECKET_LISTEN_UNLINK (also when
/// somebody else has put another there). Connections that wait in the kernel's queue are reset. The error of close(2), if any,
/// after the removal; -EBUSY: operations wait for the socket. O(listeners).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_listener_close(event_loop: *mut becket_loop, listener: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.close_listener(Handle::from_raw(listener))) })
}

/// Accepts nothing until it is resumed. Connections wait in the kernel's queue; a paused listener keeps no loop alive. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_listener_pause(event_loop: *mut becket_loop, listener: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.pause_listener(Handle::from_raw(listener), true)) })
}

/// Accepts again; also at once when it has paused by itself. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_listener_resume(event_loop: *mut becket_loop, listener: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    done(unsafe { with(event_loop, |engine| engine.pause_listener(Handle::from_raw(listener), false)) })
}

/// 0: it accepts; 1: the program has paused it; BECKET_PAUSED: it has paused by itself; the sum: both. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_listener_paused(event_loop: *const becket_loop, listener: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    let paused = unsafe { look(event_loop, |engine| engine.listener_paused(Handle::from_raw(listener))) };
    answer(paused.map(|(paused, stalled)| u32::from(paused) + if stalled { BECKET_PAUSED } else { 0 }))
}

/// The socket of a listener. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_listener_fd(event_loop: *const becket_loop, listener: becket_handle) -> c_int {
    // SAFETY: the caller gives a loop, or NULL, which is checked.
    answer(unsafe { look(event_loop, |engine| engine.listener_fd(Handle::from_raw(listener))) })
}

/// The address that a listener is bound to, with its port where that was 0: as getsockname(2), *length is the room at address, and
/// then the address's length. -ENOTSUP: the loop lives in a simulator. One system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_listener_address(
    event_loop: *const becket_loop,
    listener: becket_handle,
    address: *mut sockaddr,
    length: *mut socklen_t,
) -> c_int {
    // SAFETY: the caller gives a loop and places, or NULL, which is checked.
    unsafe {
        let ask = || look(event_loop, |engine| engine.listener_address(Handle::from_raw(listener)));
        store_address(address, length, ask)
    }
}

/// The same as text, of size bytes with its NUL: how long that is. -ENOSPC: it does not fit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_listener_text(
    event_loop: *const becket_loop,
    listener: becket_handle,
    text: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe {
        let ask = || look(event_loop, |engine| engine.listener_address(Handle::from_raw(listener)));
        store_text(text, size, ask)
    }
}

/// The address of who is connected to a socket, as getpeername(2): in the listener's handler it is the connection's. -ENOTCONN: the
/// peer has gone already; -EBADF, -ENOTSOCK; -ENOTSUP: the loop lives in a simulator. One system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_peer_address(
    event_loop: *const becket_loop,
    fd: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
) -> c_int {
    // SAFETY: the caller gives a loop and places, or NULL, which is checked.
    unsafe { store_address(address, length, || look(event_loop, |engine| engine.peer_address(fd))) }
}

/// The same as text, of size bytes with its NUL: how long that is. -ENOSPC: it does not fit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_peer_text(
    event_loop: *const becket_loop,
    fd: c_int,
    text: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: the caller gives a loop and a place, or NULL, which is checked.
    unsafe { store_text(text, size, || look(event_loop, |engine| engine.peer_address(fd))) }
}

/// An address from text, for connect(2) and others; :80 and *:80 are `[::]:80`. *length is the room at address, and then the
/// address's length; a struct sockaddr_storage has room for any. -EINVAL: it is none; -ENOTSUP: there are no abstract names here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_address_parse(
    text: *const c_char,
    address: *mut sockaddr,
    length: *mut socklen_t,
) -> c_int {
    // SAFETY: the caller gives a text and places, or NULL, which is checked.
    unsafe { store_address(address, length, || self::text(text).and_then(Address::parse)) }
}

/// An address as text, of size bytes with its NUL: how long that is. -EINVAL: it is of no family that has text; -ENOSPC: it does
/// not fit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_address_format(
    address: *const sockaddr,
    length: socklen_t,
    text: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: the caller gives an address and a place, or NULL, which is checked.
    unsafe { store_text(text, size, || self::address(address, length)) }
}
