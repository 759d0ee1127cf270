//! Processes: which one this is, and how children end.

use super::check;
use crate::error::{Error, Result};
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// A page that fork empties in the child, madvise(2) MADV_WIPEONFORK: so that "are we still the process that made
/// this loop" costs one load and no system call. (getpid(2) is a system call of 160 ns.)
#[repr(C, align(4096))]
struct WipedOnFork {
    process: AtomicI32,
    rest: [u8; 4092],
}

static PAGE: WipedOnFork = WipedOnFork { process: AtomicI32::new(0), rest: [0; 4092] };

/// The system has no MADV_WIPEONFORK (or its pages are larger than 4 KiB): ask getpid each time.
static ASK_SYSTEM: AtomicBool = AtomicBool::new(false);

/// The process that last made a loop here, which a fork inherits.
static PROCESS: AtomicI32 = AtomicI32::new(0);

fn getpid() -> i32 {
    // SAFETY: no precondition.
    unsafe { libc::getpid() }
}

/// Marks this process as one that has a loop; its number. A second call finds everything done.
pub(crate) fn mark() -> i32 {
    let this = getpid();
    if PROCESS.swap(this, Ordering::Relaxed) != this {
        super::signal::HANDLERS.store(0, Ordering::Relaxed);
    }
    if PAGE.process.load(Ordering::Relaxed) != this && !ASK_SYSTEM.load(Ordering::Relaxed) {
        if wipe_on_fork() {
            PAGE.process.store(this, Ordering::Relaxed);
        } else {
            ASK_SYSTEM.store(true, Ordering::Relaxed);
        }
    }
    this
}

#[cfg(target_os = "linux")]
fn wipe_on_fork() -> bool {
    // SAFETY: no precondition. Larger pages would take what stands behind ours with them: the kernel rounds up.
    if unsafe { libc::sysconf(libc::_SC_PAGESIZE) } > size_of::<WipedOnFork>() as libc::c_long {
        return false;
    }
    let page = core::ptr::from_ref(&PAGE).cast_mut().cast();
    // SAFETY: the page is ours alone: aligned, of its size, private, anonymous memory (.bss). EINVAL where it is not.
    let advise = |advice| unsafe { libc::madvise(page, size_of::<WipedOnFork>(), advice) == 0 };
    // qemu-user says yes to every advice, and follows few: who takes what is none is not believed.
    !advise(-1) && advise(libc::MADV_WIPEONFORK)
}

#[cfg(not(target_os = "linux"))]
fn wipe_on_fork() -> bool {
    false
}

/// Whether this is still the process that got this number from [`mark`]: one load. False as well where only a system
/// call can tell.
#[inline]
pub(crate) fn is_marked(process: i32) -> bool {
    PAGE.process.load(Ordering::Relaxed) == process
}

/// Whether this is still that process, by the system call where it takes one. Async-signal-safe.
#[inline]
pub(crate) fn is(process: i32) -> bool {
    is_marked(process) || is_by_system(process)
}

#[cold]
#[inline(never)]
fn is_by_system(process: i32) -> bool {
    debug_assert!(PAGE.rest[0] == 0);
    ASK_SYSTEM.load(Ordering::Relaxed) && getpid() == process
}

/// Whether [`is_marked`] can tell.
#[inline]
pub(crate) fn marks() -> bool {
    !ASK_SYSTEM.load(Ordering::Relaxed)
}

/// An fd that becomes readable when the child ends, pidfd_open(2). ENOSYS where the system has none.
pub(crate) fn child_fd(pid: i32) -> Result<i32> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: no pointer is passed. The fd is closed on exec.
        check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        Err(Error::NO_CALL)
    }
}

/// Whether `pid` is a child of ours that nobody has reaped; reaps nothing. ECHILD: it is not.
pub(crate) fn check_child(pid: i32) -> Result<()> {
    // SAFETY: all zeros is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid to write to.
    check(unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, &raw mut info, options) }).map(|_| ())
}

/// Reaps the child if it has ended: its status, as waitpid(2) gives it. `None`: it still runs. ECHILD: somebody
/// else has reaped it.
pub(crate) fn reap(pid: i32) -> Result<Option<i32>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is valid to write to. WNOHANG: never blocks.
        match check(unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) }) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(status)),
            Err(Error::INTERRUPTED) => {}
            Err(error) => return Err(error),
        }
    }
}
