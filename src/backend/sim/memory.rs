//! The simulator's memory, which is the caller's, and the way to it.
//!
//! ```text
//! | head: HEAD_BYTES | descriptors | files | events | operations |    F descriptors and files, E events and operations
//! ```
#![allow(unsafe_code)]

use super::schedule::{Event, Schedule};
use super::state::{File, State};
use super::stream;
use super::wait::Fd;
use super::work::Work;
use crate::error::{Error, Result};
use crate::storage::region::Region;
use crate::sys;
use crate::time::Instant;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a simulator without descriptors and events. An upper bound that holds on every system.
pub(crate) const HEAD_BYTES: usize = 1280;
/// Bytes of one descriptor with its file.
pub(crate) const FD_BYTES: usize = 384;
/// Bytes of one event that is to come, and of one operation in flight.
pub(crate) const EVENT_BYTES: usize = 120;
/// The most of either.
const MOST: usize = 1 << 20;

const _: () = {
    assert!(size_of::<Head>() <= HEAD_BYTES && align_of::<Head>() <= 8);
    assert!(size_of::<Fd>() + size_of::<File>() <= FD_BYTES && size_of::<Event>() + size_of::<Work>() <= EVENT_BYTES);
    assert!(size_of::<Fd>().is_multiple_of(8) && FD_BYTES.is_multiple_of(8) && EVENT_BYTES.is_multiple_of(8));
    assert!(align_of::<Fd>() <= 8 && align_of::<File>() <= 8 && align_of::<Event>() <= 8);
    assert!(size_of::<Event>().is_multiple_of(8) && align_of::<Work>() <= 8);
};

/// Memory for a [`Simulator`]: `FDS` simulated descriptors at once, and as many open files; `EVENTS` that are to come
/// at once, and as many operations in flight.
///
/// ```
/// use becket::{Simulator, SimulatorMemory};
///
/// let mut memory = SimulatorMemory::<8, 32>::new();
/// let simulator = Simulator::new(&mut memory, 1);
/// assert_eq!(simulator.now().as_nanos(), 1_000_000_000);
/// ```
#[repr(C, align(8))]
pub struct SimulatorMemory<const FDS: usize, const EVENTS: usize> {
    head: MaybeUninit<[u8; HEAD_BYTES]>,
    fds: MaybeUninit<[[u8; FD_BYTES]; FDS]>,
    events: MaybeUninit<[[u8; EVENT_BYTES]; EVENTS]>,
}

impl<const FDS: usize, const EVENTS: usize> SimulatorMemory<FDS, EVENTS> {
    /// Zeroed memory.
    #[must_use]
    pub const fn new() -> SimulatorMemory<FDS, EVENTS> {
        const { assert!(bytes(FDS, EVENTS).is_some()) };
        SimulatorMemory { head: MaybeUninit::zeroed(), fds: MaybeUninit::zeroed(), events: MaybeUninit::zeroed() }
    }
}

impl<const FDS: usize, const EVENTS: usize> Default for SimulatorMemory<FDS, EVENTS> {
    fn default() -> Self {
        SimulatorMemory::new()
    }
}

/// Bytes that a simulator needs; `None`: there can be no such one.
pub(crate) const fn bytes(fds: usize, events: usize) -> Option<usize> {
    if fds > MOST || events > MOST {
        return None;
    }
    Some(HEAD_BYTES + FD_BYTES * fds + EVENT_BYTES * events)
}

/// What `mark` is, with the address: so that neither garbage nor a moved copy passes for a simulator.
fn mark_at(at: *const u8) -> u64 {
    0x6265_636b_7369_6d31 ^ at as usize as u64
}

/// What is at the start of the memory.
#[repr(C)]
pub(crate) struct Head {
    mark: AtomicU64,
    /// The thread that made it, to which it belongs.
    thread: usize,
    /// The time, for those who may not look at the state.
    now: AtomicU64,
    state: UnsafeCell<State>,
}

/// A simulator's memory, found to be one.
#[derive(Clone, Copy)]
pub(crate) struct SimulatorRef(NonNull<Head>);

impl SimulatorRef {
    /// Makes a simulator in memory of [`bytes`]. O(descriptors and events).
    ///
    /// # Safety
    /// The memory is aligned to 8 bytes, large enough, and nobody else uses it for as long as the simulator lives.
    pub(crate) unsafe fn make(start: NonNull<u8>, fds: usize, events: usize, seed: u64) -> SimulatorRef {
        let head: NonNull<Head> = start.cast();
        // SAFETY: each region lies within the memory, by `bytes`, and is aligned: all sizes are multiples of 8. Every value
        // is written before anybody reads it.
        unsafe {
            let first_fd: NonNull<Fd> = start.add(HEAD_BYTES).cast();
            let first_file: NonNull<File> = start.add(HEAD_BYTES + size_of::<Fd>() * fds).cast();
            let first_event: NonNull<Event> = start.add(HEAD_BYTES + FD_BYTES * fds).cast();
            let first_work: NonNull<Work> = first_event.add(events).cast();
            for at in 0..fds {
                first_fd.add(at).write(Fd::CLOSED);
                first_file.add(at).write(File::NONE);
            }
            for at in 0..events {
                first_event.add(at).write(Event::NONE);
                first_work.add(at).write(Work::NONE);
            }
            let schedule = Schedule::new(Region::new(first_event, events));
            let (fds, files) = (Region::new(first_fd, fds), Region::new(first_file, fds));
            let mut state = State::new(seed, fds, files, schedule, Region::new(first_work, events));
            // A loop that was made in the simulator that was here is not one of those that this one serves.
            if (*head.as_ptr()).mark.load(Ordering::Relaxed) == mark_at(start.as_ptr()) {
                state.served = (*(*head.as_ptr()).state.get()).served.wrapping_add(1);
            }
            let now = AtomicU64::new(state.now.as_nanos());
            let mark = AtomicU64::new(mark_at(start.as_ptr()));
            head.write(Head { mark, thread: sys::thread(), now, state: UnsafeCell::new(state) });
        }
        SimulatorRef(head)
    }

    /// The simulator at an address that C gave. EINVAL: no address; EBADF: there is none.
    ///
    /// # Safety
    /// The pointer is null or readable for the size of a `Head`; and if there is a simulator, for as long as this is used.
    #[cfg(feature = "capi")]
    pub(crate) unsafe fn from_ptr(at: *const u8) -> Result<SimulatorRef> {
        let head: NonNull<Head> = NonNull::new(at.cast_mut()).ok_or(Error::INVALID)?.cast();
        if !head.is_aligned() {
            return Err(Error::INVALID);
        }
        // SAFETY: readable and aligned; any bits are a valid integer.
        let mark = unsafe { &(*head.as_ptr()).mark }.load(Ordering::Relaxed);
        if mark == mark_at(at) { Ok(SimulatorRef(head)) } else { Err(Error::BAD_FD) }
    }

    /// What C has of it.
    #[cfg(feature = "capi")]
    pub(crate) fn as_ptr(self) -> *mut u8 {
        self.0.as_ptr().cast()
    }

    fn head(&self) -> &Head {
        // SAFETY: the memory outlives all who have this, and the head is only ever shared.
        unsafe { self.0.as_ref() }
    }

    /// The time. Any thread.
    pub(crate) fn now(self) -> Instant {
        Instant::from_nanos(self.head().now.load(Ordering::Relaxed))
    }

    /// EPERM: another thread made it.
    pub(crate) fn check_thread(self) -> Result<()> {
        if self.head().thread == sys::thread() { Ok(()) } else { Err(Error::NOT_PERMITTED) }
    }

    /// One call of the simulator. EPERM: it is another thread's.
    pub(crate) fn with<R>(self, call: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
        self.check_thread()?;
        let head = self.head();
        // SAFETY: only the thread that made it comes here, and nothing that the simulator does calls back into here; so
        // this is the only borrow.
        let state = unsafe { &mut *head.state.get() };
        let answer = call(state);
        head.now.store(state.now.as_nanos(), Ordering::Relaxed);
        answer
    }
}

/// A system that is not there, for a loop to be tested in: descriptors that are not real, time that passes only when the
/// loop waits, and chance that repeats. [`Loop::simulated`](crate::Loop::simulated) makes a loop in it. It belongs to the
/// thread that made it; a loop that waits in it has to be there too (EPERM elsewhere). Handlers may call everything of it.
///
/// A handler, and how it is put through a thousand bad days:
///
/// ```
/// use becket::{Call, Config, Duration, Error, Event, Loop, Quirk, Ready, Simulator, SimulatorMemory, Storage};
///
/// #[derive(Default)]
/// struct App { received: Vec<u8>, ended: bool }
///
/// /// Collects a message, until its end.
/// fn on_readable(app: &mut App, event_loop: &Loop<App>, event: Event) {
///     let simulator = event_loop.simulator().expect("it is in one");
///     let mut bytes = [0; 8];
///     match simulator.read(event.fd, &mut bytes) {
///         Ok(0) => {
///             app.ended = true;
///             event_loop.remove(event.source).unwrap();
///         }
///         Ok(count) => app.received.extend_from_slice(&bytes[..count]), // not always all there is
///         Err(Error::AGAIN | Error::INTERRUPTED) => {} // the loop will tell
///         Err(error) => panic!("{error}"),
///     }
/// }
///
/// for seed in 0..1000 {
///     let mut memory = SimulatorMemory::<2, 16>::new();
///     let simulator = Simulator::new(&mut memory, seed);
///     let mut storage = Storage::<2, 0>::new();
///     let event_loop = Loop::simulated(&mut storage, simulator, &Config::default())?;
///     let [ours, theirs] = simulator.pair()?;
///     event_loop.add_io(ours, Ready::READABLE, on_readable, 0)?;
///     simulator.set_fault(Call::Read, Error::AGAIN, 200_000)?; // one in five
///     simulator.set_fault(Call::Read, Error::INTERRUPTED, 200_000)?;
///     simulator.set_quirk(Quirk::Spurious, 500_000, Duration::ZERO)?;
///     simulator.set_quirk(Quirk::Partial, 500_000, Duration::ZERO)?;
///     simulator.set_quirk(Quirk::Delayed, 500_000, Duration::from_secs(1))?;
///     let mut app = App::default();
///     let mut message: &[u8] = b"what is said has to arrive";
///     while !message.is_empty() {
///         message = &message[simulator.write(theirs, message)?..];
///         event_loop.turn(&mut app, Duration::from_millis(1))?;
///     }
///     simulator.shutdown(theirs)?;
///     event_loop.run(&mut app)?;
///     assert!(app.ended && app.received == b"what is said has to arrive", "seed {seed}");
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Simulator<'m> {
    pub(super) state: SimulatorRef,
    _memory: PhantomData<&'m mut ()>,
}

impl<'m> Simulator<'m> {
    /// Bytes that one end of a connection holds unread, at most.
    pub const STREAM_BYTES: usize = stream::BYTES;

    /// A simulator in this memory; everything that it leaves to chance follows from the seed. O(descriptors and events).
    pub fn new<const FDS: usize, const EVENTS: usize>(
        memory: &'m mut SimulatorMemory<FDS, EVENTS>,
        seed: u64,
    ) -> Simulator<'m> {
        // SAFETY: of the right size and alignment, and borrowed for as long as the simulator can be used.
        let state = unsafe { SimulatorRef::make(NonNull::from(memory).cast(), FDS, EVENTS, seed) };
        Simulator { state, _memory: PhantomData }
    }

    /// Of a loop that borrows it.
    pub(crate) fn from_memory(state: SimulatorRef) -> Simulator<'m> {
        Simulator { state, _memory: PhantomData }
    }

    pub(crate) fn memory(self) -> SimulatorRef {
        self.state
    }
}
