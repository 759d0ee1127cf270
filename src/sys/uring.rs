//! io_uring(7) by its three system calls, with the rings in memory that the caller gave or that the kernel mapped.
//!
//! The rings are shared with the kernel: they are read and written through raw pointers, heads and tails as atomics, and
//! no reference into them is ever made but to those.

use super::{check, last_error};
use crate::error::{Error, Result};
use crate::ready::Ready;
#[cfg(feature = "operations")]
use crate::request::{Call, Request};
use crate::ring::{self, RingMemory};
use crate::time::Duration;
use core::mem::MaybeUninit;
use core::ptr::{NonNull, null, null_mut};
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general::__kernel_timespec;
use linux_raw_sys::io_uring::{
    IO_URING_OP_SUPPORTED, IORING_ASYNC_CANCEL_ALL, IORING_ASYNC_CANCEL_ANY, IORING_CQE_F_MORE, IORING_ENTER_EXT_ARG,
    IORING_ENTER_GETEVENTS, IORING_FEAT_CQE_SKIP, IORING_FEAT_EXT_ARG, IORING_FEAT_NODROP, IORING_FEAT_POLL_32BITS,
    IORING_FEAT_SINGLE_MMAP, IORING_OFF_SQ_RING, IORING_OFF_SQES, IORING_POLL_ADD_MULTI, IORING_SETUP_CQSIZE,
    IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_NO_MMAP, IORING_SETUP_R_DISABLED, IORING_SETUP_SINGLE_ISSUER,
    IORING_SETUP_SUBMIT_ALL, IORING_SETUP_TASKRUN_FLAG, IORING_SQ_CQ_OVERFLOW, IORING_SQ_TASKRUN, io_uring_cqe,
    io_uring_getevents_arg, io_uring_op, io_uring_params, io_uring_probe, io_uring_probe_op, io_uring_register_op,
    io_uring_sqe, io_uring_sqe_flags_bit,
};

const _: () = {
    assert!(size_of::<io_uring_sqe>() == ring::SUBMISSION_BYTES);
    assert!(size_of::<io_uring_cqe>() == ring::COMPLETION_BYTES);
};

/// Entries where the caller gave no memory.
const ENTRIES: u32 = 256;

/// Linux 6.1 and later take all of these. One thread submits, and completions are made only when it waits: no interrupts
/// of the handlers; a flag tells that some could be made. Until the first wait nothing is bound to a thread.
const SETUP: u32 = IORING_SETUP_CQSIZE
    | IORING_SETUP_SUBMIT_ALL
    | IORING_SETUP_R_DISABLED
    | IORING_SETUP_SINGLE_ISSUER
    | IORING_SETUP_DEFER_TASKRUN
    | IORING_SETUP_TASKRUN_FLAG;
/// Of a ring for operations alone, whose fd another backend watches: completions are made whenever the thread enters the
/// kernel, so that one which sleeps on that fd is woken.
#[cfg(feature = "operations")]
const PRIVATE: u32 = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | linux_raw_sys::io_uring::IORING_SETUP_COOP_TASKRUN;
const FEATURES: u32 =
    IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP | IORING_FEAT_SINGLE_MMAP | IORING_FEAT_POLL_32BITS;

const POLL_ADD: u8 = io_uring_op::IORING_OP_POLL_ADD as u8;
const ASYNC_CANCEL: u8 = io_uring_op::IORING_OP_ASYNC_CANCEL as u8;
/// Success makes no completion.
const SKIP_SUCCESS: u8 = 1 << io_uring_sqe_flags_bit::IOSQE_CQE_SKIP_SUCCESS_BIT as u8;

const TIME_IS_OVER: Error = Error::from_errno(libc::ETIME);

/// Other pages instead of these, also where they are locked (mlockall(2)).
const DISCARD: i32 = linux_raw_sys::general::MADV_DONTNEED_LOCKED as i32;

/// In the data of an operation, and in no poll's.
pub(crate) const OPERATION: u64 = 1 << 63;

/// In the data of what is received or sent for a stream, beside neither that nor a poll's. (All of it is in [`NOBODY`].)
pub(crate) const STREAM: u64 = 1 << 62;

/// The data of what nobody waits for.
pub(crate) const NOBODY: u64 = u64::MAX;

/// What poll calls "the peer has shut down its writing side".
pub(crate) const PEER_CLOSED: u32 = libc::POLLRDHUP as u32;

/// A completion.
#[derive(Clone, Copy)]
pub(crate) struct Completion {
    pub(crate) data: u64,
    /// A mask of readiness, or an error.
    pub(crate) result: Result<u32>,
    /// The poll goes on.
    pub(crate) more: bool,
    /// The buffer that was received into.
    #[cfg(feature = "streams")]
    pub(crate) buffer: Option<u16>,
}

/// The side that waits: what one thread may use while another, under the program's lock, uses [`Submissions`].
#[derive(Clone, Copy)]
pub(crate) struct Completions {
    fd: i32,
    submitted: NonNull<AtomicU32>,
    written: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    head: NonNull<AtomicU32>,
    tail: NonNull<AtomicU32>,
    entries: NonNull<io_uring_cqe>,
    mask: u32,
    /// The next completion to take. Those from the head up to here were taken, and are kept until they are settled.
    next: u32,
    /// Completions up to here may be taken.
    end: u32,
    /// Some of them tell of a time before the wait.
    old: bool,
    /// Some were given back to the kernel without being settled.
    missed: bool,
}

/// Where the rings are.
#[derive(Clone, Copy)]
enum Memory {
    /// In mappings of the kernel's: of the rings, and of the submissions.
    Mapped([(NonNull<u8>, usize); 2]),
    /// In the caller's.
    Lent(RingMemory),
}

impl Memory {
    /// Takes it from the kernel, which ends rings some time after their descriptor is closed, and writes to them until then.
    /// What the caller lent becomes other pages, of zeros.
    fn end(self) {
        match self {
            Memory::Mapped(mappings) => mappings.into_iter().for_each(unmap),
            Memory::Lent(RingMemory { start, entries }) => {
                let bytes = ring::bytes(entries).unwrap_or(0);
                // SAFETY: whole pages of the caller's, lent to the rings alone.
                unsafe {
                    if libc::madvise(start.as_ptr().cast(), bytes, DISCARD) < 0 {
                        // A filter forbids it, or the like: new pages in the same place.
                        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
                        let access = libc::PROT_READ | libc::PROT_WRITE;
                        libc::mmap(start.as_ptr().cast(), bytes, access, kind, -1, 0);
                    }
                }
            }
        }
    }
}

/// What is to be cancelled.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    /// That with this data.
    One(u64),
    /// Polls, and no operations.
    #[cfg(feature = "operations")]
    Polls,
    /// Everything.
    All,
}

/// The side that submits, and owns the rings.
pub(crate) struct Submissions {
    fd: i32,
    head: NonNull<AtomicU32>,
    tail: NonNull<AtomicU32>,
    dropped: NonNull<AtomicU32>,
    entries: NonNull<io_uring_sqe>,
    count: u32,
    memory: Memory,
}

/// Makes the rings, in the caller's memory where there is some and the kernel can.
///
/// ENOSYS; EPERM: forbidden; ENOMEM: above RLIMIT_MEMLOCK; ENOTSUP: older than Linux 6.1; EMFILE, ENFILE.
pub(crate) fn make(memory: Option<RingMemory>) -> Result<(Submissions, Completions)> {
    make_as(SETUP, memory)
}

/// The same for operations alone. Any thread may submit, but what one has submitted is cancelled when it ends.
#[cfg(feature = "operations")]
pub(crate) fn make_private(memory: Option<RingMemory>) -> Result<(Submissions, Completions)> {
    make_as(PRIVATE, memory)
}

fn make_as(flags: u32, memory: Option<RingMemory>) -> Result<(Submissions, Completions)> {
    let entries = memory.map_or(ENTRIES, |memory| memory.entries);
    let own = memory.map(|memory| setup(flags, entries, Some(memory)));
    let (fd, params, memory) = match own {
        Some(Ok((fd, params))) => (fd, params, memory),
        Some(Err(error)) if error != Error::INVALID => return Err(error),
        _ => match setup(flags, entries, None) {
            Ok((fd, params)) => (fd, params, None),
            Err(Error::INVALID) => return Err(Error::UNSUPPORTED),
            Err(error) => return Err(error),
        },
    };
    let made = if params.features & FEATURES == FEATURES && has_operations(fd) {
        lay_out(fd, &params, memory)
    } else {
        Err(Error::UNSUPPORTED)
    };
    if made.is_err() {
        let _ = super::fd::close(fd);
        if let Some(memory) = memory {
            Memory::Lent(memory).end();
        }
    }
    made
}

fn setup(flags: u32, entries: u32, memory: Option<RingMemory>) -> Result<(i32, io_uring_params)> {
    // SAFETY: all zeros are valid parameters.
    let mut params: io_uring_params = unsafe { core::mem::zeroed() };
    params.flags = flags;
    params.cq_entries = entries * ring::COMPLETIONS_EACH as u32;
    if let Some(memory) = memory {
        params.flags |= IORING_SETUP_NO_MMAP;
        let at = memory.start.as_ptr() as u64;
        params.sq_off.user_addr = at;
        params.cq_off.user_addr = at + ring::submission_bytes(entries) as u64;
        // The kernel takes heads and tails as they are there.
        // SAFETY: within the caller's block, which nobody uses now.
        unsafe { memory.start.add(ring::submission_bytes(entries)).write_bytes(0, ring::HEAD_BYTES) };
    }
    // SAFETY: the parameters are valid to read and write; the memory is as large as such rings can be, and the caller
    // gave it for as long as the loop lives.
    let fd = check(unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, &raw mut params) } as i32)?;
    Ok((fd, params))
}

/// Whether the kernel knows what we ask of it.
fn has_operations(fd: i32) -> bool {
    const ASKED: usize = 32;
    #[repr(C)]
    struct Probe {
        head: io_uring_probe,
        operations: [io_uring_probe_op; ASKED],
    }
    // SAFETY: all zeros are a valid probe.
    let mut probe: Probe = unsafe { core::mem::zeroed() };
    let operation = io_uring_register_op::IORING_REGISTER_PROBE as u32;
    // SAFETY: the probe is writable, with as many entries as are said.
    let answer = unsafe { libc::syscall(libc::SYS_io_uring_register, fd, operation, &raw mut probe, ASKED) };
    let has = |code: u8| {
        let found = probe.operations.get(usize::from(code));
        found.is_some_and(|it| u32::from(it.flags) & IO_URING_OP_SUPPORTED != 0)
    };
    answer == 0 && has(POLL_ADD) && has(ASYNC_CANCEL)
}

fn map(fd: i32, bytes: usize, offset: u32) -> Result<NonNull<u8>> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
    // SAFETY: a new mapping, where the kernel likes.
    let at = unsafe { libc::mmap(null_mut(), bytes, access, kind, fd, offset as libc::off_t) };
    if at == libc::MAP_FAILED { Err(last_error()) } else { NonNull::new(at.cast()).ok_or(Error::NO_MEMORY) }
}

fn unmap((at, bytes): (NonNull<u8>, usize)) {
    // SAFETY: one of our own mappings, which nobody uses any more.
    unsafe { libc::munmap(at.as_ptr().cast(), bytes) };
}

fn lay_out(fd: i32, params: &io_uring_params, memory: Option<RingMemory>) -> Result<(Submissions, Completions)> {
    let (sq, cq) = (&params.sq_off, &params.cq_off);
    let rings_bytes = (sq.array as usize + params.sq_entries as usize * size_of::<u32>())
        .max(cq.cqes as usize + params.cq_entries as usize * size_of::<io_uring_cqe>());
    let entries_bytes = params.sq_entries as usize * size_of::<io_uring_sqe>();
    let (rings, entries, lies_in) = match memory {
        Some(memory) => {
            let first = ring::submission_bytes(memory.entries);
            // SAFETY: within the caller's block.
            (unsafe { memory.start.add(first) }, memory.start, Memory::Lent(memory))
        }
        None => {
            let rings = map(fd, rings_bytes, IORING_OFF_SQ_RING)?;
            let entries = map(fd, entries_bytes, IORING_OFF_SQES).inspect_err(|_| unmap((rings, rings_bytes)))?;
            (rings, entries, Memory::Mapped([(rings, rings_bytes), (entries, entries_bytes)]))
        }
    };
    // SAFETY: all offsets are the kernel's own, into the rings.
    let at = |offset: u32| unsafe { rings.add(offset as usize) };
    for index in 0..params.sq_entries {
        // The indices stand for themselves, for ever.
        // SAFETY: there is one for each entry; nothing is submitted yet.
        unsafe { at(sq.array).cast::<u32>().add(index as usize).write(index) };
    }
    let submissions = Submissions {
        fd,
        head: at(sq.head).cast(),
        tail: at(sq.tail).cast(),
        dropped: at(cq.overflow).cast(),
        entries: entries.cast(),
        count: params.sq_entries,
        memory: lies_in,
    };
    let completions = Completions {
        fd,
        submitted: submissions.head,
        written: submissions.tail,
        flags: at(sq.flags).cast(),
        head: at(cq.head).cast(),
        tail: at(cq.tail).cast(),
        entries: at(cq.cqes).cast(),
        mask: params.cq_entries - 1,
        next: 0,
        end: 0,
        old: false,
        missed: false,
    };
    Ok((submissions, completions))
}

/// A word of a ring, shared with the kernel.
fn word(at: &NonNull<AtomicU32>) -> &AtomicU32 {
    // SAFETY: the rings live as long as what points into them, and both sides use these words as atomics.
    unsafe { at.as_ref() }
}

/// io_uring_enter(2): submits, and waits for completions where `flags` say so.
fn enter(fd: i32, submit: u32, complete: u32, flags: u32, argument: Option<&io_uring_getevents_arg>) -> Result<u32> {
    let (at, bytes) = argument.map_or((null(), 0), |it| (core::ptr::from_ref(it), size_of::<io_uring_getevents_arg>()));
    // SAFETY: the argument, if any, is readable, and so is the time that it points to.
    let count = unsafe { libc::syscall(libc::SYS_io_uring_enter, fd, submit, complete, flags, at, bytes) };
    check(count as i32).map(|count| count as u32)
}

impl Submissions {
    /// Whether the rings are in memory that the kernel mapped.
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(self.memory, Memory::Mapped(_))
    }

    /// Lets the calling thread submit, and from now on no other.
    pub(crate) fn enable(&mut self) -> Result<()> {
        let operation = io_uring_register_op::IORING_REGISTER_ENABLE_RINGS as u32;
        // SAFETY: no pointer is passed.
        check(unsafe { libc::syscall(libc::SYS_io_uring_register, self.fd, operation, 0, 0) } as i32).map(|_| ())
    }

    /// Completions that the kernel had no memory for, since the beginning.
    pub(crate) fn dropped(&self) -> u32 {
        word(&self.dropped).load(Ordering::Relaxed)
    }

    /// Waits for an fd; with `many`, each time it becomes ready. False: there is no room, and no submitting.
    pub(crate) fn poll(&mut self, fd: i32, mask: u32, many: bool, data: u64) -> bool {
        self.push(|entry| {
            entry.opcode = POLL_ADD;
            entry.fd = fd;
            entry.len = if many { IORING_POLL_ADD_MULTI } else { 0 };
            // The kernel takes the two halves the other way round there.
            entry.__bindgen_anon_3.poll32_events =
                if cfg!(target_endian = "big") { mask.rotate_left(16) } else { mask };
            entry.user_data = data;
        })
    }

    /// Ends the poll or operation with this data; or what there is. False: likewise.
    pub(crate) fn cancel(&mut self, which: Which) -> bool {
        self.push(|entry| {
            entry.opcode = ASYNC_CANCEL;
            entry.flags = SKIP_SUCCESS;
            entry.fd = -1;
            match which {
                Which::One(data) => entry.__bindgen_anon_2.addr = data,
                Which::All => entry.__bindgen_anon_3.cancel_flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY,
                #[cfg(feature = "operations")]
                Which::Polls => {
                    // Linux 6.6; before it nothing is cancelled.
                    entry.__bindgen_anon_3.cancel_flags =
                        IORING_ASYNC_CANCEL_ALL | linux_raw_sys::io_uring::IORING_ASYNC_CANCEL_OP;
                    entry.len = POLL_ADD.into();
                }
            }
            entry.user_data = NOBODY;
        })
    }

    /// Whether something can be added without a system call.
    #[cfg(feature = "operations")]
    pub(crate) fn has_room(&self) -> bool {
        !self.is_full(word(&self.tail).load(Ordering::Relaxed))
    }

    fn is_full(&self, tail: u32) -> bool {
        tail.wrapping_sub(word(&self.head).load(Ordering::Acquire)) >= self.count
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self, tail: u32) -> bool {
        let _ = self.submit();
        !self.is_full(tail)
    }

    fn push(&mut self, fill: impl FnOnce(&mut io_uring_sqe)) -> bool {
        let tail = word(&self.tail).load(Ordering::Relaxed);
        if self.is_full(tail) && !self.make_room(tail) {
            return false;
        }
        // SAFETY: the mask keeps it inside; the kernel has read what was there before, and does not look at it again until the
        // tail says so: until then it is ours alone. All zeros are a valid entry.
        let entry = unsafe {
            let mut entry = self.entries.add((tail & (self.count - 1)) as usize);
            entry.write(core::mem::zeroed());
            entry.as_mut()
        };
        fill(entry);
        word(&self.tail).store(tail.wrapping_add(1), Ordering::Release);
        true
    }

    /// How much is not submitted.
    pub(crate) fn unsubmitted(&self) -> u32 {
        word(&self.tail).load(Ordering::Relaxed).wrapping_sub(word(&self.head).load(Ordering::Acquire))
    }

    /// The descriptor of the rings: readable when there are completions.
    #[cfg(feature = "operations")]
    pub(crate) fn fd(&self) -> i32 {
        self.fd
    }

    /// Submits what there is, and makes the completions that are due: what was cancelled has let go of its file then.
    /// EEXIST: the rings are another thread's.
    pub(crate) fn submit(&mut self) -> Result<()> {
        let tail = word(&self.tail).load(Ordering::Relaxed);
        let count = tail.wrapping_sub(word(&self.head).load(Ordering::Acquire));
        enter(self.fd, count, 0, IORING_ENTER_GETEVENTS, None).map(|_| ())
    }

    /// Closes the rings, once. What polls there are end some time later, unless they were cancelled. `ours`: false in a
    /// forked child, in which lent memory is a copy, that the kernel does not know and that may have new rings.
    pub(crate) fn close(&mut self, ours: bool) {
        let _ = super::fd::close(self.fd);
        if ours || self.is_mapped() {
            self.memory.end();
        }
    }
}

impl Completions {
    fn unsubmitted(&self) -> u32 {
        word(&self.written).load(Ordering::Acquire).wrapping_sub(word(&self.submitted).load(Ordering::Acquire))
    }

    /// Submits and waits, in one system call: how many completions there are.
    ///
    /// EINTR: a signal came first. EAGAIN: a signal came or the time is over, and as something was submitted the kernel
    /// does not tell which. EBUSY: it was woken by what was cancelled, or the kernel had no memory for what is submitted,
    /// and it has to wait again.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<u32> {
        let nanos = timeout.as_nanos();
        let time = __kernel_timespec {
            tv_sec: (nanos / 1_000_000_000).cast_signed(),
            tv_nsec: (nanos % 1_000_000_000).cast_signed(),
        };
        let argument = io_uring_getevents_arg {
            sigmask: 0,
            sigmask_sz: 0,
            min_wait_usec: 0,
            ts: if timeout == Duration::FOREVER { 0 } else { (&raw const time) as u64 },
        };
        // The kernel would not sleep; nor for what was cancelled while nobody waited.
        self.give_back();
        let flags = word(&self.flags).load(Ordering::Relaxed);
        self.old = self.skip_cancelled() > 0 || flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW) != 0;
        let submit = self.unsubmitted();
        let answer = if timeout == Duration::ZERO {
            enter(self.fd, submit, 0, IORING_ENTER_GETEVENTS, None)
        } else {
            enter(self.fd, submit, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, Some(&argument))
        };
        let before = self.next;
        let found = self.skip_cancelled();
        let skipped = self.next != before;
        match answer {
            _ if found > 0 => Ok(found),
            Err(TIME_IS_OVER) => Ok(0),
            Ok(count) if count == submit => match skipped {
                _ if timeout == Duration::ZERO => Ok(0),
                true => Err(Error::BUSY),
                false => Err(Error::AGAIN),
            },
            // It took a part, or nothing, and did not wait. Who never waits, but comes again and again, is slowed down too.
            Ok(_) | Err(Error::BUSY | Error::AGAIN) => {
                super::pause();
                if timeout == Duration::ZERO { Ok(0) } else { Err(Error::BUSY) }
            }
            Err(error) => Err(error),
        }
    }

    /// Leaves out the completions of cancelled polls that are first; how many there are behind them. (All that were taken
    /// are settled or given back.)
    fn skip_cancelled(&mut self) -> u32 {
        self.end = word(&self.tail).load(Ordering::Acquire);
        while self.next != self.end {
            if !self.entry(self.next).is_nobodys() {
                break;
            }
            self.next = self.next.wrapping_add(1);
        }
        word(&self.head).store(self.next, Ordering::Release);
        self.end.wrapping_sub(self.next)
    }

    /// Gives what was taken back to the kernel, settled or not.
    fn give_back(&mut self) {
        self.missed |= word(&self.head).load(Ordering::Relaxed) != self.next;
        word(&self.head).store(self.next, Ordering::Release);
    }

    /// Calls `each` with the data of each completion that was taken, and gives them back. What is left stays for the next
    /// wait. False: some were given back before.
    pub(crate) fn settle(&mut self, mut each: impl FnMut(u64)) -> bool {
        self.end = self.next;
        let mut at = word(&self.head).load(Ordering::Relaxed);
        while at != self.next {
            each(self.entry(at).user_data);
            at = at.wrapping_add(1);
        }
        word(&self.head).store(at, Ordering::Release);
        !core::mem::take(&mut self.missed)
    }

    #[inline]
    fn entry(&self, at: u32) -> io_uring_cqe_head {
        // SAFETY: the mask keeps it inside, and the kernel writes only behind the tail.
        unsafe { self.entries.add((at & self.mask) as usize).cast::<io_uring_cqe_head>().read() }
    }

    /// Whether some completions tell of a time before the wait, and have to be asked again. Only the first call after a
    /// wait says so.
    #[inline]
    pub(crate) fn take_old(&mut self) -> bool {
        core::mem::take(&mut self.old)
    }

    /// Asks poll(2) about the polls for whose data `asked` gives an fd and a mask: their results are those of this moment.
    /// One system call for every 64.
    #[cold]
    pub(crate) fn ask_again(&mut self, mut asked: impl FnMut(u64) -> Option<(i32, u32)>) {
        const AT_ONCE: usize = 64;
        // (Nothing is laid out that is not needed: most often these are few.)
        let mut fds = [const { MaybeUninit::<libc::pollfd>::uninit() }; AT_ONCE];
        let mut places = [const { MaybeUninit::<u32>::uninit() }; AT_ONCE];
        let mut at = self.next;
        while at != self.end {
            let mut count = 0;
            while at != self.end && count < AT_ONCE {
                let entry = self.entry(at);
                if entry.res > 0
                    && let Some((fd, mask)) = asked(entry.user_data)
                {
                    fds[count].write(libc::pollfd { fd, events: mask as i16, revents: 0 });
                    places[count].write(at);
                    count += 1;
                }
                at = at.wrapping_add(1);
            }
            // SAFETY: so many entries were written.
            if count == 0 || unsafe { libc::poll(fds.as_mut_ptr().cast(), count as libc::nfds_t, 0) } < 0 {
                continue;
            }
            for (asked, place) in fds.iter().zip(&places).take(count) {
                // SAFETY: likewise.
                let (asked, place) = unsafe { (asked.assume_init_ref(), place.assume_init_read()) };
                if asked.revents & libc::POLLNVAL != 0 {
                    continue;
                }
                let mut entry = self.entry(place);
                entry.res = i32::from(asked.revents as u16);
                // SAFETY: the mask keeps it inside; until it is taken the kernel does not look at it.
                unsafe { self.entries.add((place & self.mask) as usize).cast::<io_uring_cqe_head>().write(entry) };
            }
        }
    }

    /// Whether there are completions that the last wait has not seen. O(completions).
    #[cfg(feature = "streams")]
    pub(crate) fn has_more(&self) -> bool {
        let tail = word(&self.tail).load(Ordering::Acquire);
        let mut at = self.next;
        while at != tail && self.entry(at).is_nobodys() {
            at = at.wrapping_add(1);
        }
        at != tail || word(&self.flags).load(Ordering::Relaxed) & IORING_SQ_CQ_OVERFLOW != 0
    }

    /// Gets the completions that had no room in the ring: whether there are some.
    pub(crate) fn refill(&mut self) -> bool {
        if word(&self.flags).load(Ordering::Relaxed) & IORING_SQ_CQ_OVERFLOW == 0 {
            return false;
        }
        self.give_back();
        let _ = enter(self.fd, 0, 0, IORING_ENTER_GETEVENTS, None);
        self.old = true;
        self.skip_cancelled() > 0
    }

    /// Takes the next completion that was there when the wait ended.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Completion> {
        if self.next == self.end {
            return None;
        }
        let entry = self.entry(self.next);
        self.next = self.next.wrapping_add(1);
        let result = if entry.res < 0 { Err(Error::from_errno(entry.res)) } else { Ok(entry.res.cast_unsigned()) };
        Some(Completion {
            data: entry.user_data,
            result,
            more: entry.flags & IORING_CQE_F_MORE != 0,
            #[cfg(feature = "streams")]
            buffer: provided::number_of(entry.flags),
        })
    }
}

#[cfg(feature = "operations")]
impl Completions {
    /// Takes the next completion if it is an operation's, and tells of the present: its data and result.
    #[inline]
    pub(crate) fn next_of_operation(&mut self) -> Option<(u64, i32)> {
        if self.next == self.end || self.old {
            return None;
        }
        let entry = self.entry(self.next);
        if entry.user_data & OPERATION == 0 || entry.user_data == NOBODY {
            return None;
        }
        self.next = self.next.wrapping_add(1);
        Some((entry.user_data, entry.res))
    }
}

/// Operations.
#[cfg(feature = "operations")]
impl Submissions {
    /// Submits a request. `elsewhere`: not in this thread, whatever the file is. False: there is no room, and no
    /// submitting.
    pub(crate) fn operation(&mut self, request: &Request, elsewhere: bool, data: u64) -> bool {
        self.push(|entry| {
            entry.fd = request.fd;
            entry.len = request.length;
            entry.__bindgen_anon_2.addr = request.at.expose_provenance() as u64;
            entry.user_data = data;
            if elsewhere {
                entry.flags = 1 << io_uring_sqe_flags_bit::IOSQE_ASYNC_BIT as u8;
            }
            let flags = &mut entry.__bindgen_anon_3;
            let second = &mut entry.__bindgen_anon_1;
            use io_uring_op::*;
            let code = match request.call {
                Call::Read | Call::Write | Call::ReadV | Call::WriteV => {
                    second.off = request.extra.cast_unsigned();
                    match request.call {
                        Call::Read => IORING_OP_READ,
                        Call::Write => IORING_OP_WRITE,
                        Call::ReadV => IORING_OP_READV,
                        _ => IORING_OP_WRITEV,
                    }
                }
                Call::Fsync => {
                    let data_only = linux_raw_sys::io_uring::IORING_FSYNC_DATASYNC;
                    flags.fsync_flags = if request.flags == 0 { 0 } else { data_only };
                    entry.len = 0;
                    IORING_OP_FSYNC
                }
                Call::OpenAt => {
                    flags.open_flags = (request.flags | libc::O_CLOEXEC).cast_unsigned();
                    IORING_OP_OPENAT
                }
                Call::OpenAt2 => {
                    second.addr2 = request.extra.cast_unsigned();
                    IORING_OP_OPENAT2
                }
                Call::Statx => {
                    second.addr2 = request.extra.cast_unsigned();
                    flags.statx_flags = request.flags.cast_unsigned();
                    IORING_OP_STATX
                }
                Call::Close => IORING_OP_CLOSE,
                Call::Accept => {
                    second.addr2 = request.extra.cast_unsigned();
                    flags.accept_flags = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK).cast_unsigned();
                    entry.len = 0;
                    IORING_OP_ACCEPT
                }
                Call::Connect => {
                    second.off = request.length.into();
                    entry.len = 0;
                    IORING_OP_CONNECT
                }
                Call::Recv | Call::Send => {
                    flags.msg_flags = super::operation::message_flags(request).cast_unsigned();
                    if request.call == Call::Recv { IORING_OP_RECV } else { IORING_OP_SEND }
                }
                Call::RecvMsg | Call::SendMsg => {
                    flags.msg_flags = super::operation::message_flags(request).cast_unsigned();
                    entry.len = 1;
                    if request.call == Call::RecvMsg { IORING_OP_RECVMSG } else { IORING_OP_SENDMSG }
                }
            };
            entry.opcode = code as u8;
        })
    }
}

#[cfg(feature = "streams")]
mod provided;
#[cfg(feature = "streams")]
pub(crate) use provided::Provided;

/// Of a ring whose completions are all operations'.
#[cfg(feature = "operations")]
impl Completions {
    /// Whether there are completions to be taken, at a glance.
    pub(crate) fn is_readable(&self) -> bool {
        self.next != word(&self.tail).load(Ordering::Relaxed)
    }

    /// Takes the next completion, and gives it back to the kernel. No system call but where some had no room in the ring.
    pub(crate) fn take(&mut self) -> Option<(u64, i32)> {
        loop {
            if self.next == self.end {
                self.end = word(&self.tail).load(Ordering::Acquire);
            }
            if self.next == self.end {
                if word(&self.flags).load(Ordering::Relaxed) & IORING_SQ_CQ_OVERFLOW == 0 {
                    return None;
                }
                let _ = enter(self.fd, 0, 0, IORING_ENTER_GETEVENTS, None);
                self.end = word(&self.tail).load(Ordering::Acquire);
                if self.next == self.end {
                    return None;
                }
            }
            let entry = self.entry(self.next);
            self.next = self.next.wrapping_add(1);
            word(&self.head).store(self.next, Ordering::Release);
            if entry.user_data != NOBODY {
                return Some((entry.user_data, entry.res));
            }
        }
    }
}

/// A completion as the kernel writes it; the crate's type ends in an array without a length.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
struct io_uring_cqe_head {
    user_data: u64,
    res: i32,
    flags: u32,
}

impl io_uring_cqe_head {
    /// Whether it is of a cancelled poll, or nobody waits for it.
    fn is_nobodys(&self) -> bool {
        let is_cancelled = self.res == -libc::ECANCELED && self.user_data & (OPERATION | STREAM) == 0;
        is_cancelled || self.user_data == NOBODY
    }
}

/// The readiness in a poll's mask. (It has poll's bits, which are ours.)
pub(crate) fn readiness(mask: u32) -> Ready {
    let mut ready = Ready::from_bits_truncate(mask as u16 & 0x1f);
    ready.set(Ready::PEER_CLOSED, mask & PEER_CLOSED != 0);
    ready
}
