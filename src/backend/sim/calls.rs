//! What a program does with a simulator.

use super::memory::Simulator;
use super::schedule::What;
use super::state::{Sort, State};
use super::{Call, Quirk, Ready, SimulatorRef};
use crate::error::{Error, Result};
use crate::time::{Duration, Instant};

/// Time.
impl Simulator<'_> {
    /// The time now: it begins at one second. O(1).
    #[must_use]
    pub fn now(self) -> Instant {
        SimulatorRef::now(self.state)
    }

    /// Moves time on, as a handler does that works for so long. What happens meanwhile is found in the next wait. O(1).
    pub fn advance(self, span: Duration) -> Result<()> {
        self.state.with(|state| {
            state.advance(span);
            Ok(())
        })
    }

    /// It is this time now, however far that lies ahead. EINVAL: it has passed, or never comes. O(1).
    pub fn jump_to(self, at: Instant) -> Result<()> {
        self.state.with(|state| {
            if at < state.now || at == Instant::NEVER {
                return Err(Error::INVALID);
            }
            state.now = at;
            Ok(())
        })
    }
}

/// What goes wrong: nothing, at first.
impl Simulator<'_> {
    /// Such a call fails so often by this error, in a million. EINVAL: it cannot ([`Call::errors`]), or would fail more often
    /// than it is made. O(1).
    pub fn set_fault(self, call: Call, error: Error, per_million: u32) -> Result<()> {
        self.state.with(|state| state.faults.set(call, error, per_million))
    }

    /// The `nth` such call from now on fails by this error: 1 is the next; 0: none does. One for each call: the latest that was
    /// asked for. EINVAL: it cannot. O(1).
    ///
    /// ```
    /// # use becket::{Call, Error, Simulator, SimulatorMemory};
    /// let mut memory = SimulatorMemory::<4, 4>::new();
    /// let simulator = Simulator::new(&mut memory, 1);
    /// let [ours, _theirs] = simulator.pair()?;
    /// simulator.fail_nth(Call::Write, Error::INTERRUPTED, 2)?;
    /// assert_eq!(simulator.write(ours, b"one"), Ok(3));
    /// assert_eq!(simulator.write(ours, b"two"), Err(Error::INTERRUPTED));
    /// assert_eq!(simulator.write(ours, b"two"), Ok(3));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn fail_nth(self, call: Call, error: Error, nth: u32) -> Result<()> {
        self.state.with(|state| state.faults.set_nth(call, error, nth))
    }

    /// The system is odd in this way so often, in a million, and where it is a span of time, by up to `most`. EINVAL: more
    /// often than always. O(1).
    pub fn set_quirk(self, quirk: Quirk, per_million: u32, most: Duration) -> Result<()> {
        self.state.with(|state| state.faults.set_quirk(quirk, per_million, most))
    }

    /// Everything that can go wrong does, each so often in a million: all errors of all calls, and all quirks. 0: nothing any
    /// more. EINVAL: more than 142,857, so that some call would always fail. O(1).
    pub fn set_all_faults(self, per_million: u32, most: Duration) -> Result<()> {
        self.state.with(|state| state.faults.set_all(per_million, most))
    }

    /// How many such calls were made to fail. O(1).
    pub fn failed(self, call: Call) -> Result<u64> {
        self.state.with(|state| Ok(state.faults.failed(call)))
    }

    /// A random number, from 0 to below `bound` (0 where that is 0): for what a test leaves to chance itself. O(1).
    pub fn below(self, bound: u64) -> Result<u64> {
        self.state.with(|state| Ok(if bound == 0 { 0 } else { state.random.below(bound) }))
    }
}

/// Operations. The loop's requests on simulated descriptors are carried out one by one at random times, and complete in any
/// order; the faults and quirks are those of the calls here, and there are some more for files ([`Call::ReadFile`], …). A
/// cancel comes in time or too late. A read of a connection that has nothing waits, and so on. Every path leads to a new
/// regular file, whatever it says; an empty one, in statx, to the descriptor. Where a connection goes to is said by the port of
/// an IPv4 or IPv6 address: the lowest 16 bits of the listener's descriptor; nobody else has an address.
#[cfg(feature = "operations")]
impl Simulator<'_> {
    /// Whether the loop that is made next has a ring, as io_uring's, to which it submits all operations; it has, at first. Without
    /// one it makes those on connections and devices itself, when they are ready, in order, as it does on the other backends of
    /// the system; those on files are submitted all the same. O(1).
    pub fn set_ring(self, on: bool) -> Result<()> {
        self.state.with(|state| {
            state.ring = on;
            Ok(())
        })
    }

    /// How long an operation takes at most until it is carried out, and then again until that is told: 100 us, at first. O(1).
    pub fn set_latency(self, most: Duration) -> Result<()> {
        self.state.with(|state| {
            state.latency = most;
            Ok(())
        })
    }

    /// What a path leads to is so long from now on: 4096 bytes, at first. O(1).
    pub fn set_file_size(self, bytes: u64) -> Result<()> {
        self.state.with(|state| {
            state.file_bytes = bytes;
            Ok(())
        })
    }
}

/// Descriptors. EMFILE, ENFILE: there is no room for another; EBADF: it is not open; EPERM: another thread made the
/// simulator. None of them ever blocks.
impl Simulator<'_> {
    /// A descriptor that is ready as the program says: not at all, at first. What is read from it is random bytes, what is
    /// written is gone. No fault makes this fail. O(descriptors).
    pub fn scripted(self) -> Result<i32> {
        self.state.with(|state| state.open(Sort::Scripted))
    }

    /// One that becomes ready for this or that, and ceases to be, at random: each lasts from 1 ns to twice `mean`. It keeps one
    /// event for itself: ENOSPC where there is no room for it. No fault makes this fail. O(descriptors).
    pub fn random(self, mean: Duration) -> Result<i32> {
        self.state.with(|state| {
            if state.schedule.is_full() {
                return Err(Error::TABLE_FULL);
            }
            let fd = state.open(Sort::Random(mean.as_nanos()))?;
            let file = state.file(fd)?;
            state.change_later(file)?;
            Ok(fd)
        })
    }

    /// Opens a regular file of so many bytes, each the lowest eight bits of its place. It cannot be waited for: EPERM.
    /// O(descriptors).
    pub fn open(self, bytes: u64) -> Result<i32> {
        self.state.with(|state| {
            state.attempt(Call::Open)?;
            state.open(Sort::Regular(bytes))
        })
    }

    /// Opens a device that never blocks, as /dev/null: always ready. O(descriptors).
    pub fn open_null(self) -> Result<i32> {
        self.state.with(|state| {
            state.attempt(Call::Open)?;
            state.open(Sort::Null)
        })
    }

    /// Two ends of a connection, each of which holds up to [`Simulator::STREAM_BYTES`] unread. O(descriptors).
    pub fn pair(self) -> Result<[i32; 2]> {
        self.state.with(State::pair)
    }

    /// A socket: to connect, or to listen. O(descriptors).
    pub fn socket(self) -> Result<i32> {
        self.state.with(|state| {
            state.attempt(Call::Socket)?;
            state.open(Sort::Stream)
        })
    }

    /// A socket listens: up to `backlog` connections wait to be accepted, each of which takes a file's place. EINVAL: it is no
    /// socket, or is connected. O(1).
    pub fn listen(self, fd: i32, backlog: u32) -> Result<()> {
        self.state.with(|state| state.listen(fd, backlog))
    }

    /// Connects a socket to one that listens: EINPROGRESS. When that has ended, it is writable, and [`Simulator::take_error`]
    /// says how. EINVAL: it is no socket, or is connected, or was; ENOSPC: there is no room for another event. O(log n).
    pub fn connect(self, fd: i32, listener: i32) -> Result<()> {
        self.state.with(|state| state.connect(fd, listener))
    }

    /// The connection that has waited longest. EAGAIN: none does; EINVAL: it does not listen. O(descriptors).
    pub fn accept(self, listener: i32) -> Result<i32> {
        self.state.with(|state| state.accept(listener))
    }

    /// Reads what is there, at least one byte; 0: it has ended. EAGAIN: nothing is there. O(bytes).
    pub fn read(self, fd: i32, bytes: &mut [u8]) -> Result<usize> {
        self.state.with(|state| state.read(fd, bytes))
    }

    /// Writes what there is room for, at least one byte. EAGAIN: there is none; EPIPE: nobody reads it. O(bytes).
    pub fn write(self, fd: i32, bytes: &[u8]) -> Result<usize> {
        self.state.with(|state| state.write(fd, bytes))
    }

    /// No more is written to a connection: the other end reads what is there, then its end. ENOTCONN; EINVAL: it is no
    /// connection. O(1).
    pub fn shutdown(self, fd: i32) -> Result<()> {
        self.state.with(|state| state.shutdown(fd))
    }

    /// Breaks a connection off, as the network does: both ends get ECONNRESET, and what is unread is lost. EINVAL: it is no
    /// connection. O(1).
    pub fn reset(self, fd: i32) -> Result<()> {
        self.state.with(|state| {
            let file = state.stream(fd)?;
            state.reset(file, Some(Error::CONNECTION_RESET));
            Ok(())
        })
    }

    /// The same at a point in time. ENOSPC: there is no room for another event. O(log n).
    pub fn reset_at(self, fd: i32, at: Instant) -> Result<()> {
        self.state.with(|state| {
            let file = state.stream(fd)?;
            state.at(at, file, What::Reset)
        })
    }

    /// How much an end of a connection holds unread, from 1 byte to [`Simulator::STREAM_BYTES`]. EINVAL. O(1).
    pub fn set_room(self, fd: i32, bytes: usize) -> Result<()> {
        self.state.with(|state| state.set_room(fd, bytes))
    }

    /// What is wrong with a connection and was not told yet, as SO_ERROR. EINVAL: it is none. O(1).
    pub fn take_error(self, fd: i32) -> Result<Option<Error>> {
        self.state.with(|state| state.error_of(fd))
    }

    /// Another descriptor of the same file. One that is closed while it is watched, and is not the last, goes on to be
    /// reported, until the loop has noticed: as on epoll. O(descriptors).
    pub fn duplicate(self, fd: i32) -> Result<i32> {
        self.state.with(|state| {
            let file = state.file(fd)?;
            state.attempt(Call::Socket)?;
            state.name(file)
        })
    }

    /// Closes a descriptor; the number is free for the next. After EINTR and ENOSPC too. O(1); O(files) for one that listens.
    pub fn close(self, fd: i32) -> Result<()> {
        self.state.with(|state| state.close(fd))
    }

    /// How many descriptors are open: what a program has not closed at its end has leaked. O(descriptors).
    pub fn open_fds(self) -> Result<u32> {
        self.state.with(|state| Ok(state.open_fds()))
    }

    /// What a descriptor is ready for at this moment, whatever a wait would tell of it. O(1).
    pub fn ready(self, fd: i32) -> Result<Ready> {
        self.state.with(|state| Ok(state.ready(state.file(fd)?)))
    }

    /// A scripted descriptor is ready for this, and nothing else, from now on. EINVAL: it is of another sort, or no readiness
    /// of a descriptor. O(1).
    pub fn set_ready(self, fd: i32, ready: Ready) -> Result<()> {
        self.state.with(|state| {
            let file = state.scripted(fd, ready)?;
            state.set_ready(file, ready);
            Ok(())
        })
    }

    /// The same at a point in time. ENOSPC: there is no room for another event. O(log n).
    pub fn ready_at(self, fd: i32, at: Instant, ready: Ready) -> Result<()> {
        self.state.with(|state| {
            let file = state.scripted(fd, ready)?;
            state.at(at, file, What::Ready(ready))
        })
    }
}

impl State {
    fn scripted(&self, fd: i32, ready: Ready) -> Result<u32> {
        let file = self.file(fd)?;
        let fits = self.files[file].sort == Sort::Scripted && Ready::OF_FD.contains(ready);
        if fits { Ok(file) } else { Err(Error::INVALID) }
    }
}
