//! epoll(7). The kernel keeps the set; only changes are told to it, and a wait costs O(ready).
//!
//! An addition and a removal are one system call each, at once. A changed interest is told before the next wait, once,
//! and not at all when it has changed back meanwhile. A paused fd is not in the set. Events carry the source's handle: one
//! of an earlier owner of the slot is recognised by its generation.
//!
//! The kernel ties an entry of the set to the open file, not to the fd: where a file was duplicated elsewhere (or
//! inherited by a child) and the program has closed its fd before the removal, the entry lives on and nothing can be said
//! to remove it. Its events are recognised as stale; then the set is built anew.

use super::changes::{CHANGED, Changes};
use super::{Backend, Mode, Ready, Registration, Registrations, Report, asked_by, complete, handle};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::storage::names::Names;
use crate::sys;
use crate::sys::epoll::Event;
use crate::time::Duration;

/// Events that one system call can bring. More that are ready take another one.
const EVENTS: usize = 128;

// What the kernel was told, in the state of a registration; the lowest bits are the interest.
/// The set has an entry for it.
const LISTED: u16 = 1 << 14;
/// It is to be told anew, also when the interest is the same.
const ANEW: u16 = 1 << 13;
const TOLD: u16 = Ready::INTEREST.bits();
/// The number of the collection that has reported it, where that took more than one system call.
const REPORTED: u16 = 0x1ff8;
const REPORTED_ONE: u16 = 8;

// Its word for a closed peer, shifted to be ours.
const _: () = assert!(sys::epoll::PEER_CLOSED >> 8 == Ready::PEER_CLOSED.bits() as u32);

/// A rebuilt set costs O(n): it is worth one in every n/16 turns.
const REBUILD_SHARE: u32 = 16;
/// As if the set had been built anew long ago.
const NEVER: u64 = 1 << 32;

pub(crate) struct Epoll {
    fd: i32,
    changes: Changes,
    /// Turns since the set was built anew.
    turns: u64,
    /// The last wait brought an event of an earlier owner of a slot.
    stale: bool,
    /// It had no memory for a change.
    short: bool,
    /// Something was removed since that wait was laid out: then its events may well be stale.
    removed: bool,
    /// The number of this collection, in the bits of `REPORTED`.
    collection: u16,
}

/// What a wait needs, and brings.
pub(super) struct Area {
    fd: i32,
    /// There is no epoll_pwait2, or it is forbidden: time in milliseconds.
    coarse: bool,
    /// Stale events keep the kernel from sleeping: sleep a little first.
    nap: bool,
    /// These events are not the first of this collection.
    more: bool,
    /// Places in the table, for each of which there may be an event.
    places: u32,
    /// Calls after which the kernel has told of all that there was; from the second one on.
    left: u32,
    next: u32,
    count: u32,
    events: [Event; EVENTS],
}

impl Epoll {
    /// A new set. EMFILE, ENFILE, ENOMEM, ENOSYS; EPERM: a filter forbids it.
    pub(super) fn new() -> Result<(Epoll, Area)> {
        let fd = sys::epoll::create()?;
        let changes = Changes::new();
        let epoll = Epoll { fd, changes, turns: NEVER, stale: false, short: false, removed: false, collection: 0 };
        let events = [Event::NONE; EVENTS];
        Ok((epoll, Area { fd, coarse: false, nap: false, more: false, places: 0, left: 0, next: 0, count: 0, events }))
    }

    /// Makes the set have what the registration wants. False: the kernel has refused, for the reason that is reported.
    fn apply(&mut self, registration: &mut Registration, handle: Handle, report: impl FnOnce(Ready)) -> bool {
        let interest = registration.interest();
        let event = event(*registration, handle);
        let told = registration.state;
        let listed = told & LISTED != 0;
        if told & (ANEW | TOLD) == interest.bits() && listed || interest.is_empty() && !listed {
            return true;
        }
        let fd = registration.fd();
        registration.state = told & !(LISTED | ANEW | TOLD);
        if listed && (interest.is_empty() || registration.mode().contains(Mode::EXCLUSIVE)) {
            // A paused fd has no entry: the kernel would tell of its hang-up for ever. An exclusive one cannot be changed.
            let _ = sys::epoll::delete(self.fd, fd);
        }
        if interest.is_empty() {
            return true;
        }
        let in_place = listed && !registration.mode().contains(Mode::EXCLUSIVE);
        let changed = if in_place { sys::epoll::modify(self.fd, fd, event) } else { Err(Error::NOT_FOUND) };
        let result = match changed {
            // Also when it was closed and opened again: it is another file, and the kernel has dropped the old one's entry.
            Err(Error::NOT_FOUND) => add(self.fd, fd, event),
            result => result,
        };
        match result {
            Ok(()) => {
                registration.state |= LISTED | interest.bits();
                true
            }
            Err(error) => {
                self.short |= matches!(error, Error::NO_MEMORY | Error::TABLE_FULL);
                report(complete(Ready::ERROR, interest));
                false
            }
        }
    }

    /// Gets the events that had no room: the kernel goes round, and begins with those that it has not told yet. Whether
    /// there may be some. O(1): one system call.
    #[cold]
    fn refill(&mut self, registrations: &mut Registrations, names: &Names, area: &mut Area) -> bool {
        if !area.more {
            area.left = area.places.div_ceil(EVENTS as u32);
            self.collection = self.collection.wrapping_add(REPORTED_ONE) & REPORTED;
        }
        if area.left == 0 {
            return false;
        }
        area.left -= 1;
        for source in area.events.iter().map(|event| Handle::from_raw(event.data())) {
            let place = Names::place_of(source);
            if !names.is_of(place, source) {
                continue;
            }
            let state = &mut registrations[place].state;
            *state = *state & !REPORTED | self.collection;
        }
        let found = area.wait(Duration::ZERO).unwrap_or(0);
        area.more = true;
        found > 0
    }

    /// Tells the kernel what is to be told before a wait.
    #[cfg_attr(not(becket_small), inline(never))]
    fn tell(
        &mut self,
        registrations: &mut Registrations,
        names: &Names,
        count: u32,
        area: &mut Area,
        report: &mut impl FnMut(u32, Ready),
    ) {
        if self.stale {
            self.stale = false;
            let rebuilt = self.turns >= u64::from(count / REBUILD_SHARE) && self.rebuild(registrations, names, count);
            // There was nothing else, and nothing has come of it.
            let live = |event: &Event| names.resolve(Handle::from_raw(event.data())).is_some();
            let events = &area.events[..area.count as usize];
            area.nap = !rebuilt && !area.more && !self.removed && !events.iter().any(live);
        }
        if !self.changes.is_empty() {
            let mut changes = core::mem::replace(&mut self.changes, Changes::new());
            changes.apply(registrations, |registrations, place| {
                self.apply(&mut registrations[place], handle(names, place), |ready| report(place, ready))
            });
            self.changes = changes;
        }
    }

    /// Builds the set anew from the registrations, under the same number. False: the system refuses, and the old one stays.
    #[cold]
    fn rebuild(&mut self, registrations: &mut Registrations, names: &Names, count: u32) -> bool {
        let Ok(fd) = sys::epoll::create() else { return false };
        for place in 0..count {
            let registration = &mut registrations[place];
            if registration.state & LISTED == 0 {
                continue;
            }
            registration.state &= !(LISTED | TOLD);
            let interest = registration.interest();
            if interest.is_empty() {
                continue; // paused just now
            }
            if add(fd, registration.fd(), event(*registration, handle(names, place))).is_ok() {
                registration.state |= LISTED | interest.bits();
            } else {
                self.changes.note(registration, place);
            }
        }
        self.turns = 0;
        // Who watches the number goes on doing so.
        let replaced = sys::fd::replace(fd, self.fd).is_ok();
        if !replaced {
            // The old set has what it had.
            for registration in registrations.first_mut(count).iter_mut().filter(|it| it.state & LISTED != 0) {
                registration.state |= ANEW;
            }
            self.changes.note_all(registrations, count);
        }
        replaced
    }
}

/// An entry of the set.
fn event(registration: Registration, handle: Handle) -> Event {
    let interest = registration.interest();
    let mut flags = u32::from(interest.bits());
    if interest.contains(Ready::READABLE) && !registration.mode().contains(Mode::EXCLUSIVE) {
        flags |= sys::epoll::PEER_CLOSED;
    }
    if registration.mode().contains(Mode::EDGE) {
        flags |= sys::epoll::EDGE;
    }
    if registration.mode().contains(Mode::EXCLUSIVE) {
        flags |= sys::epoll::EXCLUSIVE;
    }
    if registration.mode().contains(Mode::ONESHOT) {
        flags |= sys::epoll::ONESHOT;
    }
    Event::new(flags, handle.raw())
}

/// What these flags tell of ends, errors and whatever else is asked for now.
#[cfg_attr(not(becket_small), cold, inline(never))]
fn asked_of(flags: u32, registration: Registration) -> Ready {
    let interest = registration.interest();
    let ready = Ready::from_bits_retain((flags & 0x1f | flags >> 8 & 0x20) as u16);
    complete(ready, interest) & asked_by(interest)
}

/// Enters an fd. EEXIST: the file's entry from before a close, under this number, lives on: it becomes ours.
fn add(set: i32, fd: i32, event: Event) -> Result<()> {
    match sys::epoll::add(set, fd, event) {
        Err(Error::EXISTS) => {
            // (An exclusive one cannot be changed.)
            let _ = sys::epoll::delete(set, fd);
            sys::epoll::add(set, fd, event)
        }
        result => result,
    }
}

impl Area {
    /// Whether there may be events that had no room.
    #[inline]
    fn is_full(&self) -> bool {
        self.count as usize == EVENTS
    }

    #[cfg_attr(not(becket_small), inline(always))]
    pub(super) fn wait(&mut self, mut timeout: Duration) -> Result<u32> {
        if self.nap {
            timeout = self.take_nap(timeout);
        }
        self.more = false;
        if !self.coarse {
            match sys::epoll::wait(self.fd, &mut self.events, timeout) {
                Err(Error::NO_CALL | Error::NOT_PERMITTED) => self.coarse = true,
                answer => return self.found(answer),
            }
        }
        let answer = sys::epoll::wait_coarse(self.fd, &mut self.events, timeout);
        self.found(answer)
    }

    /// Sleeps for a millisecond of this time: what is left of it.
    #[cfg_attr(not(becket_small), cold, inline(never))]
    fn take_nap(&mut self, timeout: Duration) -> Duration {
        self.nap = false;
        if timeout > Duration::ZERO {
            sys::pause();
        }
        match timeout {
            Duration::FOREVER => timeout,
            _ => Duration::from_nanos(timeout.as_nanos().saturating_sub(1_000_000)),
        }
    }

    #[inline]
    fn found(&mut self, answer: Result<u32>) -> Result<u32> {
        self.next = 0;
        self.count = answer.unwrap_or(0);
        answer
    }
}

impl Backend<Area> for Epoll {
    fn name(&self) -> &'static core::ffi::CStr {
        c"epoll"
    }

    fn check(&mut self, _fd: i32, _place: u32, _mode: Mode) -> Result<()> {
        Ok(())
    }

    fn add(
        &mut self,
        registrations: &mut Registrations,
        place: u32,
        handle: Handle,
        wanted: Registration,
    ) -> Result<()> {
        let mut new = wanted;
        new.state &= CHANGED;
        add(self.fd, wanted.fd(), event(wanted, handle))?;
        if wanted.interest().is_empty() {
            // It was only to see whether the kernel takes it.
            let _ = sys::epoll::delete(self.fd, wanted.fd());
        } else {
            new.state |= LISTED | wanted.interest().bits();
        }
        registrations[place] = new;
        Ok(())
    }

    fn set(&mut self, registrations: &mut Registrations, place: u32, interest: Ready) {
        let registration = &mut registrations[place];
        *registration = registration.with_interest(interest);
        if registration.mode().intersects(Mode::EDGE | Mode::ONESHOT) {
            registration.state |= ANEW;
        }
        self.changes.note(registration, place);
    }

    fn remove(&mut self, registrations: &mut Registrations, _: &Names, place: u32, closing: bool) {
        let registration = &mut registrations[place];
        if registration.state & LISTED != 0 && !closing {
            // Closed already: the kernel has done it, or it cannot be done, and the entry will be found stale.
            let _ = sys::epoll::delete(self.fd, registration.fd());
        }
        self.removed = true;
        *registration = Registration { state: registration.state & CHANGED, ..Registration::NONE };
    }

    #[inline]
    fn prepare(
        &mut self,
        registrations: &mut Registrations,
        names: &Names,
        count: u32,
        area: &mut Area,
        report: &mut impl FnMut(u32, Ready),
    ) -> bool {
        self.turns += 1;
        self.short = false;
        if self.stale || !self.changes.is_empty() {
            self.tell(registrations, names, count, area, report);
        }
        self.removed = false;
        area.count = 0;
        area.next = 0;
        area.places = count;
        !self.short
    }

    #[inline(always)]
    fn next(&mut self, registrations: &mut Registrations, names: &Names, area: &mut Area) -> Option<Report> {
        while area.next < area.count || area.is_full() && self.refill(registrations, names, area) {
            let event = area.events[area.next as usize % EVENTS];
            area.next += 1;
            let source = Handle::from_raw(event.data());
            let place = Names::place_of(source);
            if !names.is_of(place, source) {
                // Removed since that wait, or else long ago, and closed before that. (Or it is the loop's own descriptor.)
                self.stale |= !self.removed && place != 0;
                continue;
            }
            let registration = registrations[place];
            if registration.state & LISTED == 0 {
                // Closed before it was paused: the entry could not be removed, and would tell for ever.
                self.stale = true;
                continue;
            }
            if area.more {
                let again = registration.state & REPORTED == self.collection;
                if again && !registration.mode().contains(Mode::EDGE) {
                    continue; // once round
                }
            }
            // Plain readiness is what the kernel was told to tell, if that has not changed since.
            let flags = event.flags();
            let plain = flags & !u32::from(Ready::INTEREST.bits()) == 0 && registration.state & CHANGED == 0;
            let ready = if plain { Ready::from_bits_retain(flags as u16) } else { asked_of(flags, registration) };
            if !plain && ready.is_empty() {
                continue;
            }
            return Some(Report {
                place,
                source,
                registration,
                ready,
                #[cfg(feature = "operations")]
                result: 0,
                #[cfg(feature = "streams")]
                stream: super::OfStream::None,
            });
        }
        None
    }

    fn checks_fds(&self) -> bool {
        true
    }

    #[cfg(feature = "operations")]
    fn has_oneshot(&self) -> bool {
        true
    }

    fn fd(&self) -> Option<i32> {
        Some(self.fd)
    }

    /// What is ready while there was no room is got before handlers change what is ready.
    fn is_steady(&self, area: &Area) -> bool {
        !area.is_full()
    }

    /// The set is shared by fork: a child may close its own descriptor of it and nothing else.
    fn close(&mut self, _ours: bool) {
        let _ = sys::fd::close(self.fd);
    }
}
