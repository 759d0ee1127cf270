//! What the loop asks for, and what a wait finds of it.

use super::faults::{Call, Quirk};
use super::state::{HAPPENINGS_MAX, NONE, State};
use super::{Mode, Ready, Registrations, complete, handle};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::storage::names::Names;
use crate::time::{Duration, Instant};

/// In the state of a registration: an edge-triggered one is to be told anew.
pub(super) const ANEW: u16 = 1 << 15;
/// The interest has changed since it was taken over.
pub(super) const CHANGED: u16 = 1 << 14;

/// The longest time after which a wait is interrupted, and soon.
const INTERRUPTED_AFTER: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_micros(1);

/// One descriptor, and what the loop asks of it.
#[repr(align(8))] // its size is a multiple of that, also where u64 has an alignment of four
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
    found: Ready,
    /// What the next wait tells, be it so or not.
    extra: Ready,
    /// It is asked for, in the preparation that is under way.
    asked_for: bool,
}

impl Fd {
    pub(super) const CLOSED: Fd = Fd {
        watcher: Handle::NONE,
        file: NONE,
        seen: 0,
        interest: Ready::empty(),
        mode: Mode::empty(),
        found: Ready::empty(),
        extra: Ready::empty(),
        asked_for: false,
    };
}

/// A descriptor that was closed while it was watched, and whose file has another: the system goes on to watch that for the
/// old source, as epoll does.
#[derive(Clone, Copy)]
pub(super) struct Stale {
    watcher: Handle,
    file: u32,
    generation: u32,
    interest: Ready,
    found: Ready,
}

impl Stale {
    /// The most that are remembered; of more, the first are forgotten.
    pub(super) const MOST: usize = 4;
    pub(super) const NONE: Stale =
        Stale { watcher: Handle::NONE, file: NONE, generation: 0, interest: Ready::empty(), found: Ready::empty() };
}

/// What of a file's readiness a watcher is told.
fn asked(interest: Ready) -> Ready {
    let mut asked = interest | Ready::ERROR | Ready::HANGUP;
    asked.set(Ready::PEER_CLOSED, interest.contains(Ready::READABLE));
    asked
}

impl State {
    /// Takes over what is asked for; what is not open is told at once. False: some of it not, by the faults, and that is
    /// to be tried again. O(descriptors and registrations).
    pub(super) fn watch(
        &mut self,
        registrations: &mut Registrations,
        names: &Names,
        count: u32,
        report: &mut impl FnMut(u32, Ready),
    ) -> bool {
        let mut all = true;
        for index in 0..self.fds_used {
            self.fds[index].asked_for = false;
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
            if !self.files[self.fds[index].file].is_watchable() {
                continue; // the engine's own: always ready
            }
            let watcher = handle(names, place);
            let again = self.fds[index].watcher == watcher;
            self.fds[index].asked_for = true;
            if registration.state & CHANGED != 0 && again && self.attempt(Call::Change).is_err() {
                all = false; // it is watched as before
                continue;
            }
            let fd = &mut self.fds[index];
            let file = &self.files[fd.file];
            registration.state &= !CHANGED;
            fd.watcher = watcher;
            fd.interest = interest;
            fd.mode = registration.mode();
            if registration.state & ANEW != 0 {
                registration.state &= !ANEW;
                fd.seen = file.rises.wrapping_sub(1);
            }
        }
        for index in 0..self.fds_used {
            let fd = &mut self.fds[index];
            if !fd.asked_for {
                (fd.watcher, fd.interest) = (Handle::NONE, Ready::empty());
            }
        }
        for stale in &mut self.stale {
            let watcher = names.resolve(stale.watcher);
            if watcher.is_none_or(|index| registrations[index + 1].interest() != stale.interest) {
                *stale = Stale::NONE; // told in vain, and left out when the set is built anew
            }
        }
        all
    }

    /// A descriptor is about to be closed.
    pub(super) fn leave_stale(&mut self, index: u32) {
        let fd = &self.fds[index];
        let file = &self.files[fd.file];
        if fd.watcher == Handle::NONE || file.names < 2 {
            return;
        }
        self.stale.rotate_right(1);
        self.stale[0] = Stale {
            watcher: fd.watcher,
            file: fd.file,
            generation: file.generation,
            interest: fd.interest,
            found: Ready::empty(),
        };
    }

    /// Sleeps for at most so long: until something that is watched is ready. How much is.
    ///
    /// EDEADLK: without an end, and nothing is to happen any more; or only what nobody asks for. EINTR and others: by the
    /// faults.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<u32> {
        let mut end = self.now + timeout;
        let mut happened = self.happen();
        self.add_extra();
        let mut found = self.look();
        let mut interrupted = Ok(());
        let sleeps = found == 0 && end > self.now;
        if sleeps {
            if end == Instant::NEVER && self.next_at() == Instant::NEVER {
                return Err(Error::DEADLOCK);
            }
            let sleep = end.since(self.now);
            interrupted = self.attempt(Call::Wait);
            let most = match interrupted {
                Ok(()) => sleep,
                Err(Error::INTERRUPTED | Error::AGAIN) => INTERRUPTED_AFTER,
                Err(Error::BUSY) => SOON,
                Err(error) => return Err(error),
            };
            if interrupted.is_err() {
                let after = Duration::from_nanos(self.random.up_to(most.min(sleep).as_nanos()));
                if after < sleep {
                    end = self.now + after;
                } else {
                    interrupted = Ok(()); // too late
                }
            }
        }
        while found == 0 && end > self.now {
            let next = self.next_at();
            let too_much = happened >= HAPPENINGS_MAX;
            if end == Instant::NEVER && (next == Instant::NEVER || too_much) {
                return Err(Error::DEADLOCK);
            }
            self.now = if too_much { end } else { next.min(end) };
            happened = happened.saturating_add(self.happen());
            found = self.look();
        }
        if sleeps && let Some(span) = self.faults.span(Quirk::Oversleep, &mut self.random) {
            self.advance(span);
            self.happen();
            found = self.look();
        }
        self.take_extra();
        if found == 0 { interrupted.map(|()| 0) } else { Ok(found as u32) }
    }

    /// What is told that is not there.
    fn add_extra(&mut self) {
        if !self.faults.has(Quirk::Spurious) {
            return;
        }
        for index in 0..self.fds_used {
            let fd = &mut self.fds[index];
            if !fd.interest.is_empty() && self.faults.is_odd(Quirk::Spurious, &mut self.random) {
                fd.extra |= fd.interest;
            }
        }
    }

    /// What is found is told once, unless it is to be told again.
    fn take_extra(&mut self) {
        for index in 0..self.fds_used {
            let fd = &mut self.fds[index];
            let again = !fd.found.is_empty() && self.faults.is_odd(Quirk::Repeated, &mut self.random);
            fd.extra = if again { fd.found } else { Ready::empty() };
            if fd.mode.contains(Mode::EDGE) && !fd.found.is_empty() && fd.file != NONE {
                fd.seen = self.files[fd.file].rises;
            }
        }
    }

    /// Finds what is watched and ready. O(descriptors).
    fn look(&mut self) -> usize {
        let mut count = 0;
        for index in 0..self.fds_used {
            let fd = &self.fds[index];
            let mut found = Ready::empty();
            if fd.file != NONE && !fd.interest.is_empty() {
                let file = &self.files[fd.file];
                let told = fd.mode.contains(Mode::EDGE) && fd.seen == file.rises;
                if !told && !file.delayed {
                    found = self.ready(fd.file);
                }
                found = (found | fd.extra) & asked(fd.interest);
            }
            self.fds[index].found = found;
            count += usize::from(!found.is_empty());
        }
        for at in 0..Stale::MOST {
            let Stale { file, generation, interest, .. } = self.stale[at];
            let open =
                self.files.get(file as usize).is_some_and(|file| file.names > 0 && file.generation == generation);
            let found = if open { self.ready(file) & asked(interest) } else { Ready::empty() };
            self.stale[at].found = found;
            count += usize::from(!found.is_empty());
        }
        count + self.find_completions()
    }

    /// How many places [`State::take_found`] has.
    pub(super) fn places(&self) -> u32 {
        self.fds_used + Stale::MOST as u32
    }

    /// What the last wait has found at a place, once: whom it concerns, and what. Empty: nothing. O(1).
    pub(super) fn take_found(&mut self, place: u32) -> (Handle, Ready) {
        let (watcher, interest, found) = match place.checked_sub(self.fds_used) {
            None => {
                let fd = &mut self.fds[place];
                (fd.watcher, fd.interest, &mut fd.found)
            }
            Some(at) => match self.stale.get_mut(at as usize) {
                Some(stale) => (stale.watcher, stale.interest, &mut stale.found),
                None => return (Handle::NONE, Ready::empty()),
            },
        };
        (watcher, complete(core::mem::replace(found, Ready::empty()), interest))
    }
}
