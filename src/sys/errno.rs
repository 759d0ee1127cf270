//! The errno values that becket names.

pub(crate) use libc::{
    EAGAIN, EBADF, EBUSY, ECHILD, EEXIST, EINTR, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOENT, ENOMEM, ENOSPC, ENOSYS,
    ENOTSUP, EPERM, ESTALE,
};

#[cfg(feature = "operations")]
pub(crate) use libc::{EACCES, ECANCELED, EISDIR, ELOOP, ENOTDIR, ENOTRECOVERABLE, ESRCH, ETIMEDOUT};

#[cfg(any(feature = "simulator", feature = "operations"))]
pub(crate) use libc::{EDEADLK, EIO};

#[cfg(feature = "streams")]
pub(crate) use libc::{EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EHOSTUNREACH, EMSGSIZE, ENETUNREACH};

#[cfg(any(feature = "simulator", feature = "streams"))]
pub(crate) use libc::{ECONNABORTED, ECONNREFUSED, ECONNRESET, EINPROGRESS, ENOTCONN, ENOTSOCK, EPIPE};

#[cfg(feature = "simulator")]
pub(crate) use libc::ESPIPE;
