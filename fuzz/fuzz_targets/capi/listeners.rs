//! Calls of listeners, and of addresses.

use crate::c;
use crate::calls::{self, MARK, on_source, pick_fd};
use crate::handlers::HANDLERS;
use crate::system::FDS;
use crate::world::{Arena, Source, World};
use becket::ffi::constants::*;
use becket::ffi::listener::*;
use becket::ffi::types::{becket_event, becket_handle, becket_handler, becket_loop};
use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};

type Call = fn(&World<'_>);

pub const CALLS: &[Call] = &[
    listen,
    listen,
    listen_fd,
    listen_fd,
    close,
    connect,
    connect,
    |world| on_source(world, "listener_pause", |at, it| c!(becket_listener_pause(at, it))),
    |world| on_source(world, "listener_resume", |at, it| c!(becket_listener_resume(at, it))),
    |world| on_source(world, "listener_paused", |at, it| c!(becket_listener_paused(at, it))),
    |world| calls::own_fd(world, BECKET_KIND_LISTENER, |at, it| c!(becket_listener_fd(at, it))),
    |world| {
        with_address(world, |address, length| {
            on_source(world, "listener_address", |at, it| c!(becket_listener_address(at, it, address, length)));
        })
    },
    |world| {
        with_text(world, |text, size| {
            on_source(world, "listener_text", |at, it| c!(becket_listener_text(at, it, text, size)).min(0));
        })
    },
    |world| {
        with_address(world, |address, length| {
            let at = world.pick_loop().at;
            c!(becket_peer_address(at, pick_fd(world), address, length));
        })
    },
    |world| {
        with_text(world, |text, size| {
            let at = world.pick_loop().at;
            c!(becket_peer_text(at, pick_fd(world), text, size));
        })
    },
    addresses,
];

/// Text that may be an address: never one of a file, and of this machine alone.
fn text(world: &World<'_>) -> Vec<u8> {
    const TEXTS: [&[u8]; 8] =
        [b"127.0.0.1:0", b"[::1]:0", b"unix:@becket-fuzz", b"127.0.0.1:x", b"unix:@", b"unix:", b":65536", b"*:"];
    let mut text = match world.input.byte() {
        byte @ 0..0xc0 => TEXTS[usize::from(byte) % TEXTS.len()].to_vec(),
        byte => (0..byte % 40).map(|_| world.input.byte()).filter(|byte| *byte != 0 && *byte != b':').collect(),
    };
    if text.ends_with(b"fuzz") {
        // A name of its own for each process.
        text.extend(format!("-{}", std::process::id()).bytes());
    }
    text.push(0);
    text
}

fn options(world: &World<'_>) -> Option<becket_listen_options> {
    const FLAGS: [u32; 6] = [
        BECKET_LISTEN_REUSE_PORT,
        BECKET_LISTEN_IPV4_TOO,
        BECKET_LISTEN_EXCLUSIVE,
        BECKET_LISTEN_REPLACE,
        BECKET_LISTEN_WITHOUT_PLACE,
        BECKET_LISTEN_FOR_STREAMS,
    ];
    (!world.input.rarely(2)).then(|| becket_listen_options {
        size: if world.input.rarely(16) { world.input.number() as usize } else { size_of::<becket_listen_options>() },
        flags: world.input.flags(&FLAGS),
        backlog: if world.input.rarely(4) { world.input.u32() } else { 0 },
        places: world.input.byte().into(),
    })
}

/// Adds a listener. Its fd is known when it is there; a connection that nobody sees would be an fd that nobody closes.
fn add(
    world: &World<'_>,
    name: &str,
    call: impl FnOnce(
        *mut becket_loop,
        *const becket_listen_options,
        becket_handler,
        *mut c_void,
        *mut becket_handle,
    ) -> i32,
) {
    let on = world.pick_loop();
    let options = options(world);
    let (handler, user) = (world.input.below(2), usize::from(world.input.byte()));
    let mut out = MARK;
    let place = if world.input.rarely(64) { null_mut() } else { &raw mut out };
    let given = options.as_ref().map_or(null(), std::ptr::from_ref);
    let answer = call(on.at, given, HANDLERS[handler], user as *mut c_void, place);
    world.trace(|| format!("handle {out:#x}"));
    calls::judge(world, name, on, None, answer.into());
    if answer < 0 {
        assert_eq!(out, MARK);
        return;
    }
    let arena = on.arena.unwrap();
    let fd = c!(becket_listener_fd(on.at, out));
    let before = arena.sources.borrow_mut().insert(out, Source { kind: BECKET_KIND_LISTENER, fd, handler, user });
    assert!(answer == 0 && fd >= 0 && before.is_none());
}

fn listen(world: &World<'_>) {
    let text = text(world);
    let at = if world.input.rarely(64) { null() } else { text.as_ptr().cast::<c_char>() };
    if world.input.rarely(2) {
        return add(world, "listen", |it, options, handler, user, out| {
            c!(becket_listen(it, at, options, handler, user, out))
        });
    }
    with_address(world, |address, length| {
        // SAFETY: null, or valid.
        let now = || unsafe { length.as_ref() }.copied().unwrap_or(0);
        let room = now();
        c!(becket_address_parse(at, address, length));
        // (An address that did not fit is longer.)
        let length = now().min(room);
        let length = if world.input.rarely(4) { length.min(world.input.byte().into()) } else { length };
        add(world, "listen_at", |it, options, handler, user, out| {
            c!(becket_listen_at(it, address, length, options, handler, user, out))
        });
    });
}

fn listen_fd(world: &World<'_>) {
    let fd = pick_fd(world);
    add(world, "listen_fd", |it, options, handler, user, out| {
        c!(becket_listen_fd(it, fd, options, handler, user, out))
    });
}

fn close(world: &World<'_>) {
    let on = world.pick_loop();
    let handle = world.pick_handle(on);
    // What an operation needs has to stay open.
    if on.arena.and_then(|arena| arena.source(handle)).is_some_and(|source| world.operations.need(source.fd)) {
        return;
    }
    let answer = c!(becket_listener_close(on.at, handle));
    calls::judge(world, "listener_close", on, Some(handle), answer.into());
    let arena = on.arena.filter(|arena| arena.source(handle).is_some_and(|it| it.kind == BECKET_KIND_LISTENER));
    match arena {
        Some(arena) => arena.forget(handle),
        None => assert!(answer < 0),
    }
}

/// Somebody connects to a listener, and is gone.
fn connect(world: &World<'_>) {
    let on = world.pick_loop();
    let handle = world.pick_handle(on);
    // SAFETY: all zeros is a valid one: integers.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&address) as libc::socklen_t;
    if c!(becket_listener_address(on.at, handle, (&raw mut address).cast(), &raw mut length)) < 0 {
        return;
    }
    // SAFETY: the address is valid for its length. Nothing of this blocks.
    unsafe {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let fd = libc::socket(address.ss_family.into(), kind, 0);
        libc::connect(fd, (&raw const address).cast(), length);
        libc::close(fd);
    }
}

const ROOM: usize = 128;

/// Room for an address: of some length, or none.
fn with_address(world: &World<'_>, call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t)) {
    let room = if world.input.rarely(4) { usize::from(world.input.byte()) % ROOM } else { ROOM };
    let mut bytes = vec![0_u8; room];
    let mut length = room as libc::socklen_t;
    let address = if world.input.rarely(16) { null_mut() } else { bytes.as_mut_ptr().cast() };
    call(address, if world.input.rarely(16) { null_mut() } else { &raw mut length });
}

fn with_text(world: &World<'_>, call: impl FnOnce(*mut c_char, usize)) {
    let room = usize::from(world.input.byte()) % 140;
    let mut bytes = vec![0_u8; room];
    call(if world.input.rarely(16) { null_mut() } else { bytes.as_mut_ptr().cast() }, room);
}

/// What is read is written again, and the same.
fn addresses(world: &World<'_>) {
    let text = text(world);
    with_address(world, |address, length| {
        // SAFETY: null, or valid.
        let room = unsafe { length.as_ref() }.copied().unwrap_or(0);
        if c!(becket_address_parse(text.as_ptr().cast(), address, length)) < 0 {
            return;
        }
        // SAFETY: it was written to.
        let length = unsafe { length.read() };
        if length > room {
            return; // it has its beginning alone
        }
        let mut again = [0_u8; BECKET_ADDRESS_TEXT_BYTES as usize];
        let count = c!(becket_address_format(address, length, again.as_mut_ptr().cast(), again.len()));
        assert!(count > 0 && (count as usize) < again.len());
        let mut second = [0_u8; ROOM];
        let mut size = ROOM as libc::socklen_t;
        let answer = c!(becket_address_parse(again.as_ptr().cast(), second.as_mut_ptr().cast(), &raw mut size));
        assert_eq!((answer, size), (0, length));
    });
}

/// An event of a listener: a connection is the program's.
pub fn came(arena: &Arena, event: &becket_event) {
    assert_eq!(event.flags & !(BECKET_TRIGGERED | BECKET_PAUSED), 0);
    assert!(event.value > -4096 && (event.value < 0 || event.flags & BECKET_PAUSED == 0));
    if let Ok(fd) = i32::try_from(event.value)
        && fd >= 0
        && !arena.simulated.get()
    {
        assert!(fd > 2 && !FDS.contains(&fd));
        // SAFETY: no pointer is passed; it is the program's.
        assert_eq!(unsafe { libc::close(fd) }, 0);
    }
}

/// A listener or a stream was removed: the socket is the program's. (Those that it gave itself have numbers of their own.)
pub fn removed(source: Source) {
    if matches!(source.kind, BECKET_KIND_LISTENER | BECKET_KIND_STREAM) && source.fd < FDS[0] {
        // SAFETY: no pointer is passed; it is the program's.
        assert_eq!(unsafe { libc::close(source.fd) }, 0);
    }
}
