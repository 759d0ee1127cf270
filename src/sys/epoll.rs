//! epoll(7): a set of fds that the kernel keeps.

use super::check;
use crate::error::Result;
use crate::ready::Ready;
use crate::time::Duration;

// Flags are poll's, and poll's are ours.
const _: () = {
    assert!(libc::EPOLLIN as u16 == Ready::READABLE.bits());
    assert!(libc::EPOLLPRI as u16 == Ready::PRIORITY.bits());
    assert!(libc::EPOLLOUT as u16 == Ready::WRITABLE.bits());
    assert!(libc::EPOLLERR as u16 == Ready::ERROR.bits());
    assert!(libc::EPOLLHUP as u16 == Ready::HANGUP.bits());
};

pub(crate) const PEER_CLOSED: u32 = libc::EPOLLRDHUP as u32;
pub(crate) const EDGE: u32 = libc::EPOLLET as u32;
pub(crate) const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
pub(crate) const ONESHOT: u32 = libc::EPOLLONESHOT as u32;

/// An entry of a set, or an event: flags, and 64 bits that the kernel keeps for us.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Event(libc::epoll_event);

impl Event {
    pub(crate) const NONE: Event = Event(libc::epoll_event { events: 0, u64: 0 });

    pub(crate) fn new(flags: u32, data: u64) -> Event {
        Event(libc::epoll_event { events: flags, u64: data })
    }

    #[inline]
    pub(crate) fn flags(self) -> u32 {
        self.0.events
    }

    #[inline]
    pub(crate) fn data(self) -> u64 {
        self.0.u64
    }
}

/// A new set, closed on exec.
pub(crate) fn create() -> Result<i32> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

/// Enters an fd. EEXIST, EBADF, ENOMEM, ENOSPC; EPERM: a file that cannot be waited for.
pub(crate) fn add(set: i32, fd: i32, event: Event) -> Result<()> {
    control(set, libc::EPOLL_CTL_ADD, fd, event)
}

/// Changes an entry. ENOENT: there is none for this fd's file.
pub(crate) fn modify(set: i32, fd: i32, event: Event) -> Result<()> {
    control(set, libc::EPOLL_CTL_MOD, fd, event)
}

/// Takes an entry out. ENOENT, EBADF.
pub(crate) fn delete(set: i32, fd: i32) -> Result<()> {
    control(set, libc::EPOLL_CTL_DEL, fd, Event::NONE)
}

fn control(set: i32, operation: i32, fd: i32, mut event: Event) -> Result<()> {
    // SAFETY: the event is readable; bad fds are errors.
    check(unsafe { libc::epoll_ctl(set, operation, fd, &raw mut event.0) }).map(|_| ())
}

/// A timespec as epoll_pwait2 takes it on every system: 64 bits each.
#[repr(C)]
struct Time {
    seconds: i64,
    nanos: i64,
}

/// Waits with nanoseconds, epoll_pwait2(2); how many events came. ENOSYS: before Linux 5.11.
pub(crate) fn wait(set: i32, events: &mut [Event], timeout: Duration) -> Result<u32> {
    let mut time = Time { seconds: 0, nanos: 0 };
    let nanos = timeout.as_nanos();
    if nanos != 0 && timeout != Duration::FOREVER {
        time = Time { seconds: (nanos / 1_000_000_000) as i64, nanos: (nanos % 1_000_000_000) as i64 };
    }
    let time = if timeout == Duration::FOREVER { core::ptr::null() } else { &raw const time };
    let (at, room) = (events.as_mut_ptr(), events.len());
    let no_mask = core::ptr::null::<libc::sigset_t>();
    // SAFETY: `events` is writable for `room` events; the time outlives the call; there is no mask.
    let count = unsafe { libc::syscall(libc::SYS_epoll_pwait2, set, at, room as libc::c_int, time, no_mask, 0_usize) };
    check(count as libc::c_int).map(|count| count.cast_unsigned())
}

/// The same with milliseconds, rounded up: never early.
#[cold]
pub(crate) fn wait_coarse(set: i32, events: &mut [Event], timeout: Duration) -> Result<u32> {
    let millis = match timeout {
        Duration::FOREVER => -1,
        span => i32::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
    };
    // SAFETY: `events` is writable for as many events as are said.
    let count = unsafe { libc::epoll_wait(set, events.as_mut_ptr().cast(), events.len() as libc::c_int, millis) };
    check(count).map(|count| count.cast_unsigned())
}
