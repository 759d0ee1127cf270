//! The one error type: an errno value with a name.
//!
//! Every fallible operation of becket answers with an [`Error`]. It is as small as an `int`, compares with the
//! named constants below, and crosses the C ABI as the negative of its errno value.

use crate::sys::errno;
use core::fmt;
use core::num::NonZeroI32;

/// Why an operation was refused. Nothing has changed when it was.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Error(NonZeroI32);

macro_rules! errors {
    ($($(#[doc = $doc:literal])* $(#[cfg($($cfg:tt)*)])? $name:ident = $value:ident, $text:literal;)*) => {
        impl Error {
            $($(#[doc = $doc])* $(#[cfg($($cfg)*)])? pub const $name: Error = Error(NonZeroI32::new(errno::$value).unwrap());)*

            /// One sentence, in plain words, NUL-terminated for C. O(number of names).
            #[must_use]
            pub const fn description(self) -> &'static core::ffi::CStr {
                match self.0.get() {
                    $($(#[cfg($($cfg)*)])? errno::$value => const {
                        match core::ffi::CStr::from_bytes_with_nul(concat!($text, "\0").as_bytes()) {
                            Ok(text) => text,
                            Err(_) => panic!("a NUL in the middle"),
                        }
                    },)*
                    _ => c"system call failed",
                }
            }

            /// The field's name, such as `ESTALE`; `None` for an errno that neither becket gives nor its documentation names.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                $($(#[cfg($($cfg)*)])? if self.0.get() == errno::$value { return Some(stringify!($value)); })*
                None
            }
        }
    };
}

errors! {
    /// The handle names nothing any more: its source was removed.
    STALE = ESTALE, "the source was removed";
    /// The table of sources is full; or a device is.
    TABLE_FULL = ENOSPC, "the table or device is full";
    /// No place for another post: back-pressure, the caller keeps the value.
    NO_BUFFERS = ENOBUFS, "no room for it";
    /// There is one already: an I/O source for this fd, a source for this signal, a file of this name.
    EXISTS = EEXIST, "there is one already";
    /// The fd is not open, or the loop is closed.
    BAD_FD = EBADF, "not open, or closed";
    /// An argument is out of its range.
    INVALID = EINVAL, "invalid argument";
    /// It is in use: a running loop, a signal that another loop receives.
    BUSY = EBUSY, "in use";
    /// Not allowed: an fd that cannot be waited for, a wait from the wrong thread.
    NOT_PERMITTED = EPERM, "not permitted";
    /// The loop belongs to the parent process, or the process is not a child of ours.
    NOT_OURS = ECHILD, "another process's";
    /// This backend or build cannot do it.
    UNSUPPORTED = ENOTSUP, "not supported here";
    /// A signal interrupted the wait.
    INTERRUPTED = EINTR, "interrupted";
    /// Try again: nothing was there.
    AGAIN = EAGAIN, "try again";
    /// Nothing has that name.
    NOT_FOUND = ENOENT, "not found";
    /// The process is out of file descriptors.
    PROCESS_FILES = EMFILE, "too many open files";
    /// The system is out of file descriptors.
    SYSTEM_FILES = ENFILE, "too many open files";
    /// The kernel is out of memory.
    NO_MEMORY = ENOMEM, "out of memory";
    /// The operation was cancelled.
    #[cfg(feature = "operations")]
    CANCELED = ECANCELED, "cancelled";
    /// The time was over.
    #[cfg(feature = "operations")]
    TIMED_OUT = ETIMEDOUT, "timed out";
    /// The system has no such call.
    NO_CALL = ENOSYS, "no such call";
    /// A simulated wait, or a task's, can never end.
    #[cfg(any(feature = "simulator", feature = "operations"))]
    DEADLOCK = EDEADLK, "nothing can ever end this wait";
    /// The task has ended.
    #[cfg(feature = "operations")]
    NO_PROCESS = ESRCH, "it has ended";
    /// The task cannot go on where it was.
    #[cfg(feature = "operations")]
    NOT_RECOVERABLE = ENOTRECOVERABLE, "no way back into the task";
    /// A device has failed.
    #[cfg(any(feature = "simulator", feature = "operations"))]
    DEVICE = EIO, "the device has failed";
    /// The user may not: a file's mode, a port that is reserved.
    #[cfg(feature = "operations")]
    ACCESS = EACCES, "no access";
    /// It is a directory, and a file was wanted.
    #[cfg(feature = "operations")]
    IS_DIRECTORY = EISDIR, "a directory";
    /// It is a file, and a directory was wanted.
    #[cfg(feature = "operations")]
    NOT_DIRECTORY = ENOTDIR, "not a directory";
    /// Too many symbolic links, or one where none may be.
    #[cfg(feature = "operations")]
    LINKS = ELOOP, "too many symbolic links";
    /// Somebody listens there, or the address is bound.
    #[cfg(feature = "streams")]
    ADDRESS_IN_USE = EADDRINUSE, "the address is in use";
    /// No interface of this machine has the address; or no port is left for a connection.
    #[cfg(feature = "streams")]
    NO_ADDRESS = EADDRNOTAVAIL, "no such address here";
    /// The system has no such kind of addresses.
    #[cfg(feature = "streams")]
    NO_FAMILY = EAFNOSUPPORT, "no such kind of address here";
    /// No way leads to that network.
    #[cfg(feature = "streams")]
    NETWORK_UNREACHABLE = ENETUNREACH, "no way to that network";
    /// No way leads to that host, or it is down.
    #[cfg(feature = "streams")]
    HOST_UNREACHABLE = EHOSTUNREACH, "no way to that host";
    /// It is longer than a datagram can be.
    #[cfg(feature = "streams")]
    TOO_LONG = EMSGSIZE, "too long for a datagram";
    /// The other side has broken the connection off.
    #[cfg(any(feature = "simulator", feature = "streams"))]
    CONNECTION_RESET = ECONNRESET, "the connection was reset";
    /// The connection was gone before it was accepted.
    #[cfg(any(feature = "simulator", feature = "streams"))]
    CONNECTION_ABORTED = ECONNABORTED, "the connection was gone";
    /// Nobody listens there.
    #[cfg(any(feature = "simulator", feature = "streams"))]
    CONNECTION_REFUSED = ECONNREFUSED, "nobody listens there";
    /// The connection is under way: the descriptor becomes writable when that has ended, well or not.
    #[cfg(any(feature = "simulator", feature = "streams"))]
    IN_PROGRESS = EINPROGRESS, "under way";
    /// There is no connection.
    #[cfg(any(feature = "simulator", feature = "streams"))]
    NOT_CONNECTED = ENOTCONN, "not connected";
    /// Nobody reads what would be written.
    #[cfg(any(feature = "simulator", feature = "streams"))]
    BROKEN_PIPE = EPIPE, "nobody reads it";
    /// It is no socket.
    #[cfg(any(feature = "simulator", feature = "streams"))]
    NOT_SOCKET = ENOTSOCK, "not a socket";
    /// It has no places that an offset could lead to.
    #[cfg(feature = "simulator")]
    NOT_SEEKABLE = ESPIPE, "it has no offsets";
}

impl Error {
    /// An error from an errno value; the sign does not matter. Zero is no error, and becomes [`Error::INVALID`].
    #[must_use]
    pub const fn from_errno(value: i32) -> Error {
        match NonZeroI32::new(value.wrapping_abs()) {
            Some(value) => Error(value),
            None => Error::INVALID,
        }
    }

    /// The errno value, positive.
    #[must_use]
    pub const fn errno(self) -> i32 {
        self.0.get()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "Error({name})"),
            None => write!(f, "Error(errno {})", self.errno()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description().to_str().unwrap_or_default())
    }
}

impl core::error::Error for Error {}

/// What an operation of becket answers.
pub type Result<T> = core::result::Result<T, Error>;
