//! Operations: their memory is the operation's until its one completion, and nobody writes there afterwards.

use crate::c;
use crate::calls::{self, MARK};
use crate::handlers::HANDLERS;
use crate::system::FDS;
use crate::world::{Arena, Source, World};
use becket::ffi::constants::*;
use becket::ffi::operation::*;
use becket::ffi::types::{becket_event, becket_handle, becket_handler, becket_loop};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_void};
use std::mem::zeroed;
use std::ptr::{null, null_mut};

/// What a completion brings besides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Brings {
    Number,
    /// How many bytes were read.
    Bytes,
    /// A new fd.
    Fd,
    /// The end of an fd.
    End,
}

/// The memory of one operation, each piece exactly as large as it was said to be.
struct Lent {
    brings: Brings,
    fd: i32,
    bytes: Box<[u8]>,
    vectors: Box<[libc::iovec]>,
    message: Box<libc::msghdr>,
    name: Box<[u8]>,
    length: Box<libc::socklen_t>,
    result: Box<libc::statx>,
}

/// What an operation has left in memory, and a copy of it.
struct Left {
    bytes: Box<[u8]>,
    copy: Box<[u8]>,
}

/// All operations in flight, and what the last ones have left in memory.
#[derive(Default)]
pub struct Operations {
    lent: RefCell<BTreeMap<(usize, becket_handle), Lent>>,
    past: RefCell<Vec<Left>>,
    /// A simulator was made anew, or has got another loop: it may have carried out what it tells nobody any more.
    pub unserved: Cell<bool>,
}

/// What is in the memory that is read into, at first.
const FILL: u8 = 0x33;

const PATHS: [&CStr; 5] = [c"/dev/null", c"/", c"nothing/there", c"", c"/dev/zero"];

type Call = fn(&World<'_>);

pub const CALLS: &[Call] = &[
    read,
    read,
    write,
    write,
    read_parts,
    write_parts,
    fsync,
    openat,
    openat2,
    statx,
    close,
    accept,
    accept,
    connect,
    connect,
    recv,
    recv,
    send,
    send,
    recvmsg,
    sendmsg,
    cancel,
    cancel,
    deadline,
    drain,
    files,
];

fn key(arena: &Arena) -> usize {
    std::ptr::from_ref(arena) as usize
}

impl Operations {
    /// Whether an operation needs this fd to stay open.
    pub fn need(&self, fd: i32) -> bool {
        self.lent.borrow().values().any(|lent| lent.fd == fd)
    }

    /// Whether an fd is being closed.
    fn end(&self, fd: i32) -> bool {
        self.lent.borrow().values().any(|lent| lent.fd == fd && lent.brings == Brings::End)
    }

    pub fn of(&self, arena: &Arena) -> usize {
        self.lent.borrow().keys().filter(|(of, _)| *of == key(arena)).count()
    }

    /// A completion came.
    pub fn complete(&self, arena: &Arena, event: &becket_event) {
        let lent = self.lent.borrow_mut().remove(&(key(arena), event.handle)).expect("one completion of each");
        assert!(event.value > -4096);
        match lent.brings {
            Brings::Fd if event.value >= 0 => {
                let fd = i32::try_from(event.value).expect("an fd");
                assert!(fd > 2 && !FDS.contains(&fd));
                // (One of a simulator goes with that.)
                if !arena.simulated.get() {
                    // SAFETY: no pointer is passed; it is the program's.
                    assert_eq!(unsafe { libc::close(fd) }, 0);
                }
            }
            Brings::Number if !lent.bytes.is_empty() => {
                assert!(event.value <= lent.bytes.len() as i64, "{} of {}", event.value, lent.bytes.len());
            }
            Brings::Bytes if self.unserved.get() && event.value == i64::from(-libc::ECANCELED) => {}
            Brings::Bytes => {
                let count = event.value.max(0) as usize;
                assert!(count <= lent.bytes.len(), "{count} of {}", lent.bytes.len());
                assert!(lent.bytes[count..].iter().all(|byte| *byte == FILL), "more than {count} bytes were read");
            }
            _ => {}
        }
        let mut past = self.past.borrow_mut();
        for bytes in [lent.bytes, lent.name].into_iter().filter(|bytes| !bytes.is_empty()) {
            let copy = bytes.clone();
            past.push(Left { bytes, copy });
        }
    }

    /// Whether the memory of those that have completed is as it was then.
    pub fn check_past(&self) {
        for Left { bytes, copy } in self.past.borrow().iter() {
            assert_eq!(bytes, copy, "written to after the completion");
        }
    }
}

/// Submits one.
fn submit(
    world: &World<'_>,
    name: &str,
    brings: Brings,
    fd: i32,
    size: usize,
    call: impl FnOnce(*mut becket_loop, &mut Lent, becket_handler, *mut c_void, *mut becket_handle) -> i32,
) {
    // What is to stay open is not closed, and what is being closed is not used.
    if world.operations.end(fd) || brings == Brings::End && world.operations.need(fd) {
        return;
    }
    let on = world.pick_loop();
    let handler = world.input.below(2);
    let user = usize::from(world.input.byte());
    let count = world.input.below(4);
    // What is written is not what is there before it is read.
    let fill = if brings == Brings::Bytes { FILL } else { !FILL };
    let mut bytes = vec![fill; size].into_boxed_slice();
    let mut rest = bytes.as_mut_ptr();
    let share = size / count.max(1);
    let vector = |_| {
        let vector = libc::iovec { iov_base: rest.cast(), iov_len: share };
        rest = rest.wrapping_add(share);
        vector
    };
    let mut vectors: Box<[libc::iovec]> = (0..count).map(vector).collect();
    let mut name_bytes = vec![0; world.input.pick(&[0, 0, 2, 16, 110])].into_boxed_slice();
    // SAFETY: all zeros are valid ones: integers and pointers.
    let (mut message, result) = unsafe { (Box::new(zeroed::<libc::msghdr>()), Box::new(zeroed::<libc::statx>())) };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len() as _;
    if !name_bytes.is_empty() && world.input.rarely(2) {
        message.msg_name = name_bytes.as_mut_ptr().cast();
        message.msg_namelen = name_bytes.len() as _;
    }
    let length = Box::new(name_bytes.len() as libc::socklen_t);
    let mut lent = Lent { brings, fd, bytes, vectors, message, name: name_bytes, length, result };
    let mut out = MARK;
    let answer = call(on.at, &mut lent, HANDLERS[handler], user as *mut c_void, &raw mut out);
    world.trace(|| format!("op_{name} on {fd}, handle {out:#x}"));
    calls::judge(world, name, on, None, answer.into());
    assert!(answer <= 0);
    if answer < 0 {
        return assert_eq!(out, MARK);
    }
    let arena = on.arena.expect("a loop");
    let named = if matches!(name, "openat" | "openat2" | "statx") { -1 } else { fd };
    let source = Source { kind: BECKET_KIND_OPERATION, fd: named, handler, user };
    assert!(out != 0 && arena.sources.borrow_mut().insert(out, source).is_none());
    world.operations.lent.borrow_mut().insert((key(arena), out), lent);
    assert!(world.operations.of(arena) <= arena.operations_max.get() as usize);
}

fn size(world: &World<'_>) -> usize {
    world.input.pick(&[0, 1, 2, 8, 24, 100, 5000])
}

fn offset(world: &World<'_>) -> i64 {
    if world.input.rarely(2) { BECKET_CURRENT } else { world.input.number().cast_signed() }
}

fn flags(world: &World<'_>) -> i32 {
    const FLAGS: [u32; 5] = [
        libc::MSG_DONTWAIT.cast_unsigned(),
        libc::MSG_PEEK.cast_unsigned(),
        libc::MSG_OOB.cast_unsigned(),
        libc::MSG_WAITALL.cast_unsigned(),
        libc::MSG_TRUNC.cast_unsigned(),
    ];
    world.input.flags(&FLAGS).cast_signed()
}

fn read(world: &World<'_>) {
    let offset = offset(world);
    submit(world, "read", Brings::Bytes, calls::pick_fd(world), size(world), |at, lent, handler, user, out| {
        let bytes = &mut lent.bytes;
        c!(becket_op_read(at, lent.fd, bytes.as_mut_ptr().cast(), bytes.len(), offset, handler, user, out))
    });
}

fn write(world: &World<'_>) {
    let offset = offset(world);
    submit(world, "write", Brings::Number, calls::pick_fd(world), size(world), |at, lent, handler, user, out| {
        c!(becket_op_write(at, lent.fd, lent.bytes.as_ptr().cast(), lent.bytes.len(), offset, handler, user, out))
    });
}

fn count(world: &World<'_>, lent: &Lent) -> i32 {
    if world.input.rarely(16) { world.input.pick(&[-1, i32::MIN, 1025, i32::MAX]) } else { lent.vectors.len() as i32 }
}

fn read_parts(world: &World<'_>) {
    let offset = offset(world);
    submit(world, "readv", Brings::Bytes, calls::pick_fd(world), size(world), |at, lent, handler, user, out| {
        let count = count(world, lent);
        c!(becket_op_readv(at, lent.fd, lent.vectors.as_ptr().cast(), count, offset, handler, user, out))
    });
}

fn write_parts(world: &World<'_>) {
    let offset = offset(world);
    submit(world, "writev", Brings::Number, calls::pick_fd(world), size(world), |at, lent, handler, user, out| {
        let count = count(world, lent);
        c!(becket_op_writev(at, lent.fd, lent.vectors.as_ptr().cast(), count, offset, handler, user, out))
    });
}

fn fsync(world: &World<'_>) {
    let flags = world.input.flags(&[BECKET_DATA_ONLY]);
    submit(world, "fsync", Brings::Number, calls::pick_fd(world), 0, |at, lent, handler, user, out| {
        c!(becket_op_fsync(at, lent.fd, flags, handler, user, out))
    });
}

/// The program's own folder, or an fd.
fn folder(world: &World<'_>) -> i32 {
    if world.input.rarely(2) { libc::AT_FDCWD } else { calls::pick_fd(world) }
}

fn path(world: &World<'_>) -> *const std::ffi::c_char {
    if world.input.rarely(16) { null() } else { world.input.pick(&PATHS).as_ptr() }
}

fn open_flags(world: &World<'_>) -> i32 {
    const FLAGS: [u32; 6] = [
        libc::O_WRONLY.cast_unsigned(),
        libc::O_RDWR.cast_unsigned(),
        libc::O_DIRECTORY.cast_unsigned(),
        libc::O_NONBLOCK.cast_unsigned(),
        libc::O_PATH.cast_unsigned(),
        libc::O_CLOEXEC.cast_unsigned(),
    ];
    // Nothing is made, nor made shorter.
    let makes = libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE & !libc::O_DIRECTORY;
    world.input.flags(&FLAGS).cast_signed() & !makes
}

fn openat(world: &World<'_>) {
    let (path, flags, mode) = (path(world), open_flags(world), world.input.u32());
    submit(world, "openat", Brings::Fd, folder(world), 0, |at, lent, handler, user, out| {
        c!(becket_op_openat(at, lent.fd, path, flags, mode, handler, user, out))
    });
}

fn openat2(world: &World<'_>) {
    let (path, flags, resolve) = (path(world), open_flags(world), world.input.number());
    let size = world.input.pick(&[24, 24, 24, 24, 0, 8, 40]);
    submit(world, "openat2", Brings::Fd, folder(world), size, |at, lent, handler, user, out| {
        // A struct open_how, perhaps of another kernel's.
        let how = [u64::from(flags.cast_unsigned()), 0, resolve, 0, 0].map(u64::to_ne_bytes).concat();
        let size = lent.bytes.len();
        lent.bytes.copy_from_slice(&how[..size]);
        let place = if world.input.rarely(16) { null() } else { lent.bytes.as_ptr() };
        let size = if world.input.rarely(32) && place.is_null() { usize::MAX } else { size };
        c!(becket_op_openat2(at, lent.fd, path, place.cast(), size, handler, user, out))
    });
}

fn statx(world: &World<'_>) {
    let known = [libc::AT_EMPTY_PATH.cast_unsigned(), libc::AT_SYMLINK_NOFOLLOW.cast_unsigned()];
    let (path, flags, mask) = (path(world), world.input.flags(&known).cast_signed(), world.input.number() as u32);
    submit(world, "statx", Brings::Number, folder(world), 0, |at, lent, handler, user, out| {
        let result: *mut libc::statx = if world.input.rarely(16) { null_mut() } else { &raw mut *lent.result };
        c!(becket_op_statx(at, lent.fd, path, flags, mask, result.cast(), handler, user, out))
    });
}

fn close(world: &World<'_>) {
    let fd = calls::pick_fd(world);
    // It would be nobody's, or another's.
    let fd = if fd >= 0 && !FDS.contains(&fd) { FDS[0] } else { fd };
    submit(world, "close", Brings::End, fd, 0, |at, lent, handler, user, out| {
        c!(becket_op_close(at, lent.fd, handler, user, out))
    });
}

fn accept(world: &World<'_>) {
    let flags = world.input.flags(&[libc::SOCK_NONBLOCK.cast_unsigned(), libc::SOCK_CLOEXEC.cast_unsigned()]);
    submit(world, "accept", Brings::Fd, calls::pick_fd(world), 0, |at, lent, handler, user, out| {
        let name = if lent.name.is_empty() { null_mut() } else { lent.name.as_mut_ptr() };
        let length = if world.input.rarely(8) || name.is_null() { null_mut() } else { &raw mut *lent.length };
        c!(becket_op_accept(at, lent.fd, name.cast(), length.cast(), flags, handler, user, out))
    });
}

fn connect(world: &World<'_>) {
    submit(world, "connect", Brings::Number, calls::pick_fd(world), 0, |at, lent, handler, user, out| {
        if !world.input.rarely(4) {
            lent.name = world.system.listener();
        }
        let (name, length) = (lent.name.as_ptr(), lent.name.len());
        let name = if world.input.rarely(16) { null() } else { name };
        c!(becket_op_connect(at, lent.fd, name.cast(), length as u32, handler, user, out))
    });
}

fn recv(world: &World<'_>) {
    let flags = flags(world);
    submit(world, "recv", Brings::Number, calls::pick_fd(world), size(world), |at, lent, handler, user, out| {
        let bytes = &mut lent.bytes;
        c!(becket_op_recv(at, lent.fd, bytes.as_mut_ptr().cast(), bytes.len(), flags, handler, user, out))
    });
}

fn send(world: &World<'_>) {
    let flags = flags(world);
    submit(world, "send", Brings::Number, calls::pick_fd(world), size(world), |at, lent, handler, user, out| {
        c!(becket_op_send(at, lent.fd, lent.bytes.as_ptr().cast(), lent.bytes.len(), flags, handler, user, out))
    });
}

fn recvmsg(world: &World<'_>) {
    let flags = flags(world);
    submit(world, "recvmsg", Brings::Number, calls::pick_fd(world), size(world), |at, lent, handler, user, out| {
        let message: *mut libc::msghdr = if world.input.rarely(16) { null_mut() } else { &raw mut *lent.message };
        c!(becket_op_recvmsg(at, lent.fd, message.cast(), flags, handler, user, out))
    });
}

fn sendmsg(world: &World<'_>) {
    let flags = flags(world);
    submit(world, "sendmsg", Brings::Number, calls::pick_fd(world), size(world), |at, lent, handler, user, out| {
        let message: *const libc::msghdr = if world.input.rarely(16) { null() } else { &raw const *lent.message };
        c!(becket_op_sendmsg(at, lent.fd, message.cast(), flags, handler, user, out))
    });
}

fn cancel(world: &World<'_>) {
    calls::on_source(world, "op_cancel", |at, handle| c!(becket_op_cancel(at, handle)));
}

fn deadline(world: &World<'_>) {
    calls::on_source(world, "op_deadline", |at, handle| c!(becket_op_deadline(at, handle, world.input.number())));
}

fn drain(world: &World<'_>) {
    let on = world.pick_loop();
    if world.depth.get() >= calls::DEPTH {
        return;
    }
    let timeout = world.input.pick(&[0, 1_000_000_000, BECKET_FOREVER, -2]);
    let answer = c!(becket_loop_drain(on.at, timeout));
    calls::judge(world, "loop_drain", on, None, answer.into());
    if let Some(arena) = on.arena {
        assert!(
            answer == 0 || [libc::ETIMEDOUT, libc::EBUSY, libc::EINVAL].contains(&-answer) || arena.simulated.get()
        );
        assert!(answer != 0 || world.operations.of(arena) == 0, "some are in flight");
    }
}

/// Ends all operations of a loop.
pub fn end(world: &World<'_>, arena: &Arena) {
    let answer = c!(becket_loop_drain(arena.at.get(), BECKET_FOREVER));
    assert_eq!(answer, 0, "drain");
    assert_eq!(world.operations.of(arena), 0);
}

fn files(world: &World<'_>) {
    let on = world.pick_loop();
    for text in [c!(becket_files_name(on.at)), c!(becket_files_note(on.at))] {
        assert_eq!(text.is_null(), on.arena.is_none());
        // SAFETY: it is a C string, and static.
        assert!(text.is_null() || unsafe { CStr::from_ptr(text) }.to_str().is_ok());
    }
}
