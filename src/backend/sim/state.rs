//! The simulated system: descriptors, files, and what they are ready for.

use super::Ready;
use super::faults::{Call, Faults, Quirk};
use super::random::Random;
use super::schedule::{Event, Schedule, What};
use super::stream::Stream;
use super::wait::{Fd, Stale};
use super::work::Work;
#[cfg(feature = "operations")]
use super::work::{FILE_BYTES, LATENCY};
use crate::error::{Error, Result};
use crate::storage::region::Region;
use crate::time::{Duration, Instant};

/// The number of the first descriptor: no real one is as large.
pub(super) const FIRST_FD: i32 = 0x4000_0000;
/// No file.
pub(super) const NONE: u32 = u32::MAX;
/// Where time begins: not at zero, so that a deadline can lie in the past.
const START: Instant = Instant::from_nanos(1_000_000_000);
/// Things that happen in one wait, at most.
pub(super) const HAPPENINGS_MAX: u32 = 1 << 16;

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// There is none at this place.
    None,
    /// Ready as it is told to be.
    Scripted,
    /// Ready at random; it changes about so often, in nanoseconds.
    Random(u64),
    /// A regular file of so many bytes: it cannot be waited for.
    Regular(u64),
    /// A device that cannot be waited for, because it never blocks.
    Null,
    /// A socket, or one end of a connection.
    Stream,
    /// A socket that listens, with room for so many connections.
    Listener(u32),
}

/// An open file.
pub(super) struct File {
    pub(super) sort: Sort,
    /// Descriptors that name it.
    pub(super) names: u32,
    /// How many files were at this place before.
    pub(super) generation: u32,
    /// Counts the times that it became ready, or readier.
    pub(super) rises: u32,
    /// Of scripted and random ones.
    ready: Ready,
    /// Its readiness is not told yet.
    pub(super) delayed: bool,
    /// Of regular files: where the next read or write is.
    pub(super) offset: u64,
    pub(super) stream: Stream,
}

impl File {
    pub(super) const NONE: File = File {
        sort: Sort::None,
        names: 0,
        generation: 0,
        rises: 0,
        ready: Ready::empty(),
        delayed: false,
        offset: 0,
        stream: Stream::NONE,
    };

    /// Whether the system takes it into the set of what is watched.
    pub(super) fn is_watchable(&self) -> bool {
        !matches!(self.sort, Sort::Regular(_) | Sort::Null)
    }
}

pub(crate) struct State {
    pub(super) now: Instant,
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) fds: Region<Fd>,
    /// Descriptors below this were open at some time.
    pub(super) fds_used: u32,
    pub(super) files: Region<File>,
    pub(super) schedule: Schedule,
    /// The loop that is served: the latest that was made.
    pub(super) served: u32,
    /// What is still watched though its descriptor was closed.
    pub(super) stale: [Stale; Stale::MOST],
    /// Operations in flight.
    #[cfg_attr(not(feature = "operations"), allow(dead_code))]
    pub(super) works: Region<Work>,
    /// Those below this were in use at some time.
    pub(super) works_used: u32,
    /// How long an operation takes at most.
    #[cfg(feature = "operations")]
    pub(super) latency: Duration,
    /// It has a ring, to which all operations are submitted.
    #[cfg(feature = "operations")]
    pub(super) ring: bool,
    /// What a path leads to is so long.
    #[cfg(feature = "operations")]
    pub(super) file_bytes: u64,
}

/// Descriptors and files.
impl State {
    pub(super) fn new(
        seed: u64,
        fds: Region<Fd>,
        files: Region<File>,
        schedule: Schedule,
        works: Region<Work>,
    ) -> State {
        State {
            now: START,
            random: Random::new(seed),
            faults: Faults::new(),
            fds,
            fds_used: 0,
            files,
            schedule,
            served: 0,
            stale: [Stale::NONE; Stale::MOST],
            works,
            works_used: 0,
            #[cfg(feature = "operations")]
            latency: LATENCY,
            #[cfg(feature = "operations")]
            ring: true,
            #[cfg(feature = "operations")]
            file_bytes: FILE_BYTES,
        }
    }

    /// The place of a descriptor. EBADF: it is not open. O(1).
    pub(super) fn fd(&self, fd: i32) -> Result<u32> {
        let index = fd.wrapping_sub(FIRST_FD).cast_unsigned();
        match self.fds.get(index as usize) {
            Some(entry) if entry.file != NONE => Ok(index),
            _ => Err(Error::BAD_FD),
        }
    }

    /// The file of a descriptor. EBADF. O(1).
    pub(super) fn file(&self, fd: i32) -> Result<u32> {
        self.fd(fd).map(|index| self.fds[index].file)
    }

    /// What the faults make of a call that is made now.
    pub(super) fn attempt(&mut self, call: Call) -> Result<()> {
        self.faults.of(call, &mut self.random).map_or(Ok(()), Err)
    }

    /// The lowest number that is free. EMFILE: none is. O(descriptors).
    pub(super) fn free_fd(&self) -> Result<u32> {
        let free = self.fds.iter().position(|fd| fd.file == NONE);
        free.map(|index| index as u32).ok_or(Error::PROCESS_FILES)
    }

    /// A file that has no descriptor yet. ENFILE: there is no room. O(files).
    pub(super) fn make(&mut self, sort: Sort) -> Result<u32> {
        let free = self.files.iter().position(|file| file.sort == Sort::None).ok_or(Error::SYSTEM_FILES)? as u32;
        let file = &mut self.files[free];
        *file = File { sort, generation: file.generation.wrapping_add(1), ..File::NONE };
        Ok(free)
    }

    /// A descriptor for a file. EMFILE: the table is full. O(descriptors).
    pub(super) fn name(&mut self, file: u32) -> Result<i32> {
        let index = self.free_fd()?;
        self.files[file].names += 1;
        // Who watches the number goes on until the loop asks for something else.
        self.fds[index].file = file;
        self.fds_used = self.fds_used.max(index + 1);
        Ok(FIRST_FD + index.cast_signed())
    }

    /// A descriptor for a new file. EMFILE, ENFILE: the table is full. O(descriptors).
    pub(super) fn open(&mut self, sort: Sort) -> Result<i32> {
        self.free_fd()?;
        let file = self.make(sort)?;
        self.name(file)
    }

    /// Closes a descriptor, and its file with the last of them. EBADF. O(1); O(files) for one that listens.
    pub(super) fn close(&mut self, fd: i32) -> Result<()> {
        let index = self.fd(fd)?;
        let file = self.fds[index].file;
        self.leave_stale(index);
        self.fds[index].file = NONE;
        self.files[file].names -= 1;
        if self.files[file].names == 0 {
            self.discard(file);
        }
        self.attempt(Call::Close)
    }

    /// Ends a file that has no descriptor.
    pub(super) fn discard(&mut self, file: u32) {
        match self.files[file].sort {
            Sort::Stream => self.hang_up(file),
            Sort::Listener(_) => self.stop_listening(file),
            _ => {}
        }
        self.files[file].sort = Sort::None;
    }

    /// Whether a descriptor can be waited for. EBADF; EPERM: a regular file.
    pub(super) fn check_pollable(&self, fd: i32) -> Result<()> {
        match self.files[self.file(fd)?].sort {
            Sort::Regular(_) => Err(Error::NOT_PERMITTED),
            _ => Ok(()),
        }
    }

    /// Whether the system takes a descriptor into the set of those that are watched. EBADF; EPERM: there is nothing to wait
    /// for; and what the faults make of it.
    pub(super) fn enter(&mut self, fd: i32) -> Result<()> {
        let file = self.file(fd)?;
        if !self.files[file].is_watchable() {
            return Err(Error::NOT_PERMITTED);
        }
        self.attempt(Call::Watch)
    }
}

/// Readiness.
impl State {
    /// What a file is ready for. O(1).
    pub(super) fn ready(&self, file: u32) -> Ready {
        let it = &self.files[file];
        match it.sort {
            Sort::Scripted | Sort::Random(_) => it.ready,
            Sort::Regular(_) | Sort::Null => Ready::READABLE | Ready::WRITABLE,
            Sort::Stream => self.stream_ready(file),
            Sort::Listener(_) if it.stream.queue.count > 0 => Ready::READABLE,
            Sort::Listener(_) | Sort::None => Ready::empty(),
        }
    }

    /// A scripted or random file is ready for this from now on.
    pub(super) fn set_ready(&mut self, file: u32, ready: Ready) {
        let before = core::mem::replace(&mut self.files[file].ready, ready);
        if !before.contains(ready) {
            self.rise(file);
        }
    }

    /// A file has become ready, or readier.
    pub(super) fn rise(&mut self, file: u32) {
        self.files[file].rises = self.files[file].rises.wrapping_add(1);
        if !self.files[file].delayed
            && let Some(span) = self.faults.span(Quirk::Delayed, &mut self.random)
            && self.at(self.now + span, file, What::Tell).is_ok()
        {
            self.files[file].delayed = true;
        }
    }
}

/// What is to happen.
impl State {
    /// Something is to happen to a file; what lies in the past happens in the next wait. ENOSPC: there is no room. O(log n).
    pub(super) fn at(&mut self, at: Instant, file: u32, what: What) -> Result<()> {
        if at == Instant::NEVER {
            return Ok(());
        }
        if self.schedule.is_full() {
            return Err(Error::TABLE_FULL);
        }
        self.schedule.push(at, file, self.files[file].generation, what);
        Ok(())
    }

    /// A random file changes after a random time. ENOSPC.
    pub(super) fn change_later(&mut self, file: u32) -> Result<()> {
        let Sort::Random(mean) = self.files[file].sort else { return Ok(()) };
        let at = self.now + Duration::from_nanos(self.random.up_to(mean.saturating_mul(2)));
        self.at(at, file, What::Change)
    }

    /// What was to happen until now happens. How much that was.
    pub(super) fn happen(&mut self) -> u32 {
        let mut count = 0;
        while self.schedule.first() <= self.now && count < HAPPENINGS_MAX {
            let Some(Event { file, generation, what, .. }) = self.schedule.pop() else { break };
            count += 1;
            if self.files[file].generation != generation || self.files[file].sort == Sort::None {
                continue; // it was closed
            }
            match what {
                What::Ready(ready) => self.set_ready(file, ready),
                What::Change => {
                    let some = Ready::from_bits_truncate(self.random.next() as u16) & Ready::OF_FD;
                    let idle = self.files[file].ready.is_empty();
                    self.set_ready(file, if idle { some } else { Ready::empty() });
                    // It takes the place that was just given up.
                    let _ = self.change_later(file);
                }
                What::Tell => self.files[file].delayed = false,
                What::Connect { listener, generation } => self.connected(file, listener, generation),
                What::Fail(error) => self.not_connected(file, error),
                What::Reset => self.reset(file, Some(Error::CONNECTION_RESET)),
            }
        }
        count + self.work()
    }

    /// When the next thing is to happen; NEVER: nothing is.
    pub(super) fn next_at(&self) -> Instant {
        self.schedule.first().min(self.next_work())
    }

    pub(super) fn advance(&mut self, span: Duration) {
        self.now = self.now + span.min(Duration::from_nanos(u64::MAX - 1));
    }

    /// How many descriptors are open. O(descriptors).
    pub(super) fn open_fds(&self) -> u32 {
        self.fds.iter().filter(|fd| fd.file != NONE).count() as u32
    }
}
