//! What goes wrong: which call fails how often and how, and what is odd about waits.

use super::random::Random;
use crate::error::{Error, Result};
use crate::time::Duration;

macro_rules! calls {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal: $($error:ident)*;)*) => {
        /// A simulated call that can fail, and by which errors.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Call { $($(#[doc = $doc])* $name = $number),* }

        impl Call {
            /// All of them.
            pub const ALL: &'static [Call] = &[$(Call::$name),*];

            /// The errors that this call can fail by.
            #[must_use]
            pub const fn errors(self) -> &'static [Error] {
                match self { $(Call::$name => &[$(Error::$error),*]),* }
            }
        }
    };
}

calls! {
    /// Opening a file: EINTR, EMFILE, ENFILE, ENOMEM, ENOSPC.
    Open = 0: INTERRUPTED PROCESS_FILES SYSTEM_FILES NO_MEMORY TABLE_FULL;
    /// Making a socket, a pair of them, or a duplicate: EMFILE, ENFILE, ENOMEM.
    Socket = 1: PROCESS_FILES SYSTEM_FILES NO_MEMORY;
    /// Connecting: EINTR, EAGAIN, EBADF, ENOMEM at once; ECONNREFUSED, ECONNRESET when the connection should be there.
    Connect = 2: INTERRUPTED AGAIN BAD_FD NO_MEMORY CONNECTION_REFUSED CONNECTION_RESET;
    /// Accepting: EINTR, EAGAIN, EBADF, EMFILE, ENFILE, ENOMEM; ECONNABORTED, which loses the connection.
    Accept = 3: INTERRUPTED AGAIN BAD_FD PROCESS_FILES SYSTEM_FILES NO_MEMORY CONNECTION_ABORTED;
    /// Reading: EINTR, EAGAIN, EBADF, ENOMEM; ECONNRESET, after which the connection is gone.
    Read = 4: INTERRUPTED AGAIN BAD_FD NO_MEMORY CONNECTION_RESET;
    /// Writing: EINTR, EAGAIN, EBADF, ENOMEM, ENOSPC; ECONNRESET and EPIPE, after which the connection is gone.
    Write = 5: INTERRUPTED AGAIN BAD_FD NO_MEMORY TABLE_FULL CONNECTION_RESET BROKEN_PIPE;
    /// Closing: EINTR, ENOSPC. The descriptor is closed all the same.
    Close = 6: INTERRUPTED TABLE_FULL;
    /// Adding an I/O source: EBADF, ENOMEM, ENOSPC.
    Watch = 7: BAD_FD NO_MEMORY TABLE_FULL;
    /// A wait that sleeps: EINTR and EAGAIN after some of the time, EBUSY soon; ENOMEM at once.
    Wait = 8: INTERRUPTED AGAIN BUSY NO_MEMORY;
    /// A wait is prepared, and an interest that has changed is not taken over: ENOMEM. The loop tries again.
    Change = 9: NO_MEMORY;
    /// Handing an operation over, or its cancellation: EAGAIN, EBUSY, ENOMEM. The loop tries again.
    Submit = 10: AGAIN BUSY NO_MEMORY;
    /// Reading a regular file by an operation: EINTR, which is tried again, EIO, ENOMEM.
    ReadFile = 11: INTERRUPTED DEVICE NO_MEMORY;
    /// Writing it: EINTR, which is tried again, EIO, ENOSPC.
    WriteFile = 12: INTERRUPTED DEVICE TABLE_FULL;
    /// fsync by an operation: EIO, ENOSPC.
    Sync = 13: DEVICE TABLE_FULL;
    /// statx by an operation: ENOENT, ENOMEM.
    Status = 14: NOT_FOUND NO_MEMORY;
}

/// The most errors of one call.
const ERRORS: usize = 7;
/// How many calls there are.
const CALLS: usize = Call::ALL.len();
/// A chance is so many in a million.
const ALWAYS: u32 = 1_000_000;

/// What is odd about the system, without being an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Quirk {
    /// A read or a write moves less than it could.
    Partial = 0,
    /// A wait tells of readiness that is not there.
    Spurious = 1,
    /// A wait tells again what the one before has told, whether it is still so or not.
    Repeated = 2,
    /// Readiness is told late, by up to the given span. (It takes an event; without room for it, it is told at once.)
    Delayed = 3,
    /// A wait sleeps too long, by up to the given span.
    Oversleep = 4,
}

impl Quirk {
    /// All of them.
    pub const ALL: &'static [Quirk] =
        &[Quirk::Partial, Quirk::Spurious, Quirk::Repeated, Quirk::Delayed, Quirk::Oversleep];
}

const QUIRKS: usize = Quirk::ALL.len();

pub(super) struct Faults {
    /// By call, and by its errors in their order: how often, in a million.
    rates: [[u32; ERRORS]; CALLS],
    /// Calls until the one that fails, that one included; 0: none does.
    until: [u32; CALLS],
    errors: [Error; CALLS],
    /// How many were made to fail.
    failed: [u64; CALLS],
    quirks: [u32; QUIRKS],
    spans: [Duration; QUIRKS],
}

impl Faults {
    pub(super) const fn new() -> Faults {
        Faults {
            rates: [[0; ERRORS]; CALLS],
            until: [0; CALLS],
            errors: [Error::INVALID; CALLS],
            failed: [0; CALLS],
            quirks: [0; QUIRKS],
            spans: [Duration::ZERO; QUIRKS],
        }
    }

    /// EINVAL: the call cannot give that error, or fails more often than it is made.
    pub(super) fn set(&mut self, call: Call, error: Error, per_million: u32) -> Result<()> {
        let place = place(call, error)?;
        let rates = &mut self.rates[call as usize];
        let others = rates.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, rate)| rate).sum::<u32>();
        if per_million > ALWAYS - others {
            return Err(Error::INVALID);
        }
        rates[place] = per_million;
        Ok(())
    }

    /// EINVAL: the call cannot give that error.
    pub(super) fn set_nth(&mut self, call: Call, error: Error, nth: u32) -> Result<()> {
        place(call, error)?;
        self.until[call as usize] = nth;
        self.errors[call as usize] = error;
        Ok(())
    }

    /// EINVAL: more often than always.
    pub(super) fn set_quirk(&mut self, quirk: Quirk, per_million: u32, most: Duration) -> Result<()> {
        if per_million > ALWAYS {
            return Err(Error::INVALID);
        }
        self.quirks[quirk as usize] = per_million;
        self.spans[quirk as usize] = most;
        Ok(())
    }

    /// Everything, each as often as that. EINVAL: one call would fail more often than it is made.
    pub(super) fn set_all(&mut self, per_million: u32, most: Duration) -> Result<()> {
        if per_million > ALWAYS / ERRORS as u32 {
            return Err(Error::INVALID);
        }
        for call in Call::ALL {
            for rate in self.rates[*call as usize].iter_mut().take(call.errors().len()) {
                *rate = per_million;
            }
        }
        self.quirks = [per_million; QUIRKS];
        self.spans = [most; QUIRKS];
        Ok(())
    }

    /// Whether a call that is made now fails, and by what.
    pub(super) fn of(&mut self, call: Call, random: &mut Random) -> Option<Error> {
        let error = self.decide(call, random)?;
        self.failed[call as usize] += 1;
        Some(error)
    }

    fn decide(&mut self, call: Call, random: &mut Random) -> Option<Error> {
        let until = &mut self.until[call as usize];
        if *until > 0 {
            *until -= 1;
            if *until == 0 {
                return Some(self.errors[call as usize]);
            }
        }
        let rates = &self.rates[call as usize];
        if *rates == [0; ERRORS] {
            return None; // what never happens takes no number
        }
        let mut drawn = random.below(u64::from(ALWAYS)) as u32;
        for (error, rate) in call.errors().iter().zip(rates) {
            if drawn < *rate {
                return Some(*error);
            }
            drawn -= rate;
        }
        None
    }

    /// Whether something is odd at times.
    pub(super) fn has(&self, quirk: Quirk) -> bool {
        self.quirks[quirk as usize] > 0
    }

    /// Whether something is odd this time.
    pub(super) fn is_odd(&self, quirk: Quirk, random: &mut Random) -> bool {
        random.chance(self.quirks[quirk as usize])
    }

    /// By how much, if it is.
    pub(super) fn span(&self, quirk: Quirk, random: &mut Random) -> Option<Duration> {
        let odd = self.is_odd(quirk, random);
        odd.then(|| Duration::from_nanos(random.up_to(self.spans[quirk as usize].as_nanos())))
    }

    pub(super) fn failed(&self, call: Call) -> u64 {
        self.failed[call as usize]
    }
}

fn place(call: Call, error: Error) -> Result<usize> {
    call.errors().iter().position(|possible| *possible == error).ok_or(Error::INVALID)
}

const _: () = {
    let mut call = 0;
    while call < CALLS {
        assert!(Call::ALL[call] as usize == call && Call::ALL[call].errors().len() <= ERRORS);
        call += 1;
    }
    let mut quirk = 0;
    while quirk < QUIRKS {
        assert!(Quirk::ALL[quirk] as usize == quirk);
        quirk += 1;
    }
};
