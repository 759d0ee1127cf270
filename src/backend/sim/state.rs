//! The simulated system: descriptors, files, time, and what a wait finds.

use super::random::Random;
use super::schedule::{Event, Schedule, What};
use super::{Mode, Ready, Registrations, complete, handle};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::storage::names::Names;
use crate::storage::region::Region;
use crate::time::{Duration, Instant};

/// The number of the first descriptor: no real one is as large.
pub(super) const FIRST_FD: i32 = 0x4000_0000;
/// No file.
pub(super) const NONE: u32 = u32::MAX;
/// Where time begins: not at zero, so that a deadline can lie in the past.
const START: Instant = Instant::from_nanos(1_000_000_000);
/// Things that happen in one wait, at most.
const HAPPENINGS_MAX: u32 = 1 << 16;

/// In the state of a registration: an edge-triggered one is to be told anew.
pub(super) const ANEW: u16 = 1 << 15;

/// One descriptor, and what the loop asks of it.
pub(super) struct Fd {
    /// The loop's source, where it watches this.
    pub(super) watcher: Handle,
    /// What is open under this number; NONE: nothing.
    pub(super) file: u32,
    /// Edge-triggered: how often the file had become ready when that was told last.
    seen: u32,
    interest: Ready,
    mode: Mode,
    /// What the last wait has found and nobody has taken.
    pub(super) found: Ready,
    _pad: u16,
}

impl Fd {
    pub(super) const CLOSED: Fd = Fd {
        watcher: Handle::NONE,
        file: NONE,
        seen: 0,
        interest: Ready::empty(),
        mode: Mode::empty(),
        found: Ready::empty(),
        _pad: 0,
    };

    pub(super) fn interest(&self) -> Ready {
        self.interest
    }
}

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// There is none at this place.
    None,
    /// Ready as it is told to be.
    Scripted,
    /// Ready at random; it changes about so often, in nanoseconds.
    Random(u64),
    /// A regular file: it cannot be waited for.
    Regular,
    /// A device that cannot be waited for, because it never blocks.
    Null,
}

/// An open file.
pub(super) struct File {
    pub(super) sort: Sort,
    /// Descriptors that name it.
    pub(super) names: u32,
    /// How many files were at this place before.
    pub(super) generation: u32,
    /// Counts the times that it became ready, or readier.
    rises: u32,
    /// Of scripted and random ones.
    ready: Ready,
}

impl File {
    pub(super) const NONE: File = File { sort: Sort::None, names: 0, generation: 0, rises: 0, ready: Ready::empty() };
}

pub(crate) struct State {
    pub(super) now: Instant,
    pub(super) random: Random,
    pub(super) fds: Region<Fd>,
    /// Descriptors below this were open at some time.
    fds_used: u32,
    pub(super) files: Region<File>,
    pub(super) schedule: Schedule,
    /// The loop that is served: the latest that was made.
    pub(super) served: u32,
}

/// Descriptors and files.
impl State {
    pub(super) fn new(seed: u64, fds: Region<Fd>, files: Region<File>, schedule: Schedule) -> State {
        State { now: START, random: Random::new(seed), fds, fds_used: 0, files, schedule, served: 0 }
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

    /// The lowest number that is free. EMFILE: none is. O(descriptors).
    fn free_fd(&self) -> Result<u32> {
        let free = self.fds.iter().position(|fd| fd.file == NONE);
        free.map(|index| index as u32).ok_or(Error::PROCESS_FILES)
    }

    /// A new file. ENFILE: there is no room. O(files).
    fn make(&mut self, sort: Sort) -> Result<u32> {
        let free = self.files.iter().position(|file| file.sort == Sort::None).ok_or(Error::SYSTEM_FILES)? as u32;
        let file = &mut self.files[free];
        *file = File { sort, generation: file.generation.wrapping_add(1), ..File::NONE };
        Ok(free)
    }

    /// A descriptor for a new file. EMFILE, ENFILE: the table is full. O(descriptors).
    pub(super) fn open(&mut self, sort: Sort) -> Result<i32> {
        let index = self.free_fd()?;
        let file = self.make(sort)?;
        self.files[file].names = 1;
        self.fds[index] = Fd { file, watcher: self.fds[index].watcher, ..Fd::CLOSED };
        self.fds_used = self.fds_used.max(index + 1);
        if let Sort::Random(_) = sort {
            self.change_later(file);
        }
        Ok(FIRST_FD + index.cast_signed())
    }

    /// Closes a descriptor, and its file with the last of them. EBADF. O(1).
    pub(super) fn close(&mut self, fd: i32) -> Result<()> {
        let index = self.fd(fd)?;
        let file = core::mem::replace(&mut self.fds[index].file, NONE);
        let file = &mut self.files[file];
        file.names -= 1;
        if file.names == 0 {
            file.sort = Sort::None;
        }
        Ok(())
    }

    /// Whether a descriptor can be waited for. EBADF; EPERM: a regular file.
    pub(super) fn check_pollable(&self, fd: i32) -> Result<()> {
        match self.files[self.file(fd)?].sort {
            Sort::Regular => Err(Error::NOT_PERMITTED),
            _ => Ok(()),
        }
    }

    /// Whether the system takes a descriptor into the set of those that are watched. EBADF; EPERM: there is nothing to wait
    /// for.
    pub(super) fn check_watchable(&self, fd: i32) -> Result<()> {
        match self.files[self.file(fd)?].sort {
            Sort::Regular | Sort::Null => Err(Error::NOT_PERMITTED),
            _ => Ok(()),
        }
    }
}

/// Readiness.
impl State {
    /// What a file is ready for.
    pub(super) fn ready(&self, file: u32) -> Ready {
        let file = &self.files[file];
        match file.sort {
            Sort::Scripted | Sort::Random(_) => file.ready,
            Sort::Regular | Sort::Null => Ready::READABLE | Ready::WRITABLE,
            Sort::None => Ready::empty(),
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
    fn rise(&mut self, file: u32) {
        let file = &mut self.files[file];
        file.rises = file.rises.wrapping_add(1);
    }

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

    fn change_later(&mut self, file: u32) {
        if let Sort::Random(span) = self.files[file].sort {
            let at = self.now + Duration::from_nanos(self.random.up_to(span.saturating_mul(2)));
            // Without room it stays as it is.
            let _ = self.at(at, file, What::Change);
        }
    }

    /// What was to happen until now happens. How much that was.
    fn happen(&mut self) -> u32 {
        let mut count = 0;
        while self.schedule.first() <= self.now && count < HAPPENINGS_MAX {
            let Some(Event { file, generation, what, .. }) = self.schedule.pop() else { break };
            count += 1;
            if self.files[file].generation != generation || self.files[file].sort == Sort::None {
                continue;
            }
            match what {
                What::Ready(ready) => self.set_ready(file, ready),
                What::Change => {
                    let some = Ready::from_bits_truncate(self.random.next() as u16);
                    let idle = self.files[file].ready.is_empty();
                    self.set_ready(file, if idle { some & Ready::OF_FD } else { Ready::empty() });
                    self.change_later(file);
                }
            }
        }
        count
    }
}

/// What a loop asks for.
impl State {
    /// Takes over what is asked for; what is not open is told at once. O(descriptors and registrations).
    pub(super) fn watch(
        &mut self,
        registrations: &mut Registrations,
        names: &Names,
        count: u32,
        report: &mut impl FnMut(u32, Ready),
    ) {
        for index in 0..self.fds_used {
            self.fds[index].interest = Ready::empty();
            self.fds[index].watcher = Handle::NONE;
        }
        for place in 1..count {
            let registration = &mut registrations[place];
            let interest = registration.interest();
            if registration.is_none() || interest.is_empty() {
                continue;
            }
            let Ok(index) = self.fd(registration.fd()) else {
                report(place, complete(Ready::ERROR, interest));
                continue;
            };
            let fd = &mut self.fds[index];
            if matches!(self.files[fd.file].sort, Sort::Regular | Sort::Null) {
                continue; // the engine's own: always ready
            }
            fd.watcher = handle(names, place);
            fd.interest = interest;
            fd.mode = registration.mode();
            if registration.state & ANEW != 0 {
                registration.state &= !ANEW;
                fd.seen = self.files[fd.file].rises.wrapping_sub(1);
            }
        }
    }

    /// Sleeps for at most so long: until something that is watched is ready. How much is.
    ///
    /// EDEADLK: without an end, and nothing is to happen any more.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<usize> {
        let end = self.now + timeout;
        let mut happened = self.happen();
        loop {
            let found = self.look();
            if found > 0 || end <= self.now {
                return Ok(found);
            }
            let next = self.schedule.first();
            if next > end || next == Instant::NEVER {
                if end == Instant::NEVER {
                    return Err(Error::from_errno(crate::sys::errno::EDEADLK));
                }
                self.now = end;
                return Ok(0);
            }
            if happened > HAPPENINGS_MAX {
                return Err(Error::from_errno(crate::sys::errno::EDEADLK));
            }
            self.now = next;
            happened += self.happen();
        }
    }

    /// Finds what is watched and ready. O(descriptors).
    fn look(&mut self) -> usize {
        let mut count = 0;
        for index in 0..self.fds_used {
            let fd = &self.fds[index];
            let (file, interest) = (fd.file, fd.interest);
            let mut found = Ready::empty();
            if file != NONE && !interest.is_empty() {
                found = self.ready(file) & asked(interest);
                if fd.mode.contains(Mode::EDGE) {
                    let rises = self.files[file].rises;
                    if fd.seen == rises {
                        found = Ready::empty();
                    } else if !found.is_empty() {
                        self.fds[index].seen = rises;
                    }
                }
            }
            self.fds[index].found = found;
            count += usize::from(!found.is_empty());
        }
        count
    }

    /// How many descriptors were ever in use at once.
    pub(super) fn fds_used(&self) -> u32 {
        self.fds_used
    }
}

/// What of a file's readiness a watcher is told.
fn asked(interest: Ready) -> Ready {
    let mut asked = interest | Ready::ERROR | Ready::HANGUP;
    asked.set(Ready::PEER_CLOSED, interest.contains(Ready::READABLE));
    asked
}
