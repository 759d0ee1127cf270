//! The system calls of operations where no ring makes them: those that do not block, and those that are made at once.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use libc::statx;
pub(crate) use libc::{iovec, msghdr, sockaddr, socklen_t};

/// Other systems have none: a type of that name, for the signature alone.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[allow(non_camel_case_types)]
pub(crate) struct statx(());

/// What accept4(2) takes.
#[cfg(not(target_vendor = "apple"))]
pub(crate) const ACCEPT_FLAGS: u32 = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32;
/// There is no accept4(2), and there are no such flags.
#[cfg(target_vendor = "apple")]
pub(crate) const ACCEPT_FLAGS: u32 = 0;

/// A part of a read or write of several: struct iovec.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Vector(iovec);

// SAFETY: who sends one to another thread answers for its pointer, which nothing here follows.
unsafe impl Send for Vector {}

impl Vector {
    pub(crate) const NONE: Vector = Vector(iovec { iov_base: core::ptr::null_mut(), iov_len: 0 });

    pub(crate) fn new(at: *mut (), length: usize) -> Vector {
        Vector(iovec { iov_base: at.cast(), iov_len: length })
    }
}

/// The address of a socket, of any family: struct sockaddr_storage.
#[derive(Clone, Copy)]
pub struct Address {
    storage: libc::sockaddr_storage,
    length: socklen_t,
}

impl Address {
    /// No address.
    #[must_use]
    pub const fn new() -> Address {
        // SAFETY: all zeros are a valid address, of no family.
        Address { storage: unsafe { core::mem::zeroed() }, length: 0 }
    }

    /// Bytes of it that count.
    pub(crate) fn length(&self) -> usize {
        self.length as usize
    }

    fn set<T>(&mut self, address: T) {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        // SAFETY: it fits, and a sockaddr_storage is aligned for every address.
        unsafe { (&raw mut self.storage).cast::<T>().write(address) };
        self.length = size_of::<T>() as socklen_t;
    }
}

impl Default for Address {
    fn default() -> Address {
        Address::new()
    }
}

impl From<core::net::SocketAddr> for Address {
    fn from(from: core::net::SocketAddr) -> Address {
        let mut address = Address::new();
        match from {
            core::net::SocketAddr::V4(from) => {
                // SAFETY: all zeros are a valid address.
                let mut to: libc::sockaddr_in = unsafe { core::mem::zeroed() };
                to.sin_family = libc::AF_INET as libc::sa_family_t;
                to.sin_port = from.port().to_be();
                to.sin_addr.s_addr = u32::from_ne_bytes(from.ip().octets());
                address.set(to);
            }
            core::net::SocketAddr::V6(from) => {
                // SAFETY: likewise.
                let mut to: libc::sockaddr_in6 = unsafe { core::mem::zeroed() };
                to.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                to.sin6_port = from.port().to_be();
                to.sin6_flowinfo = from.flowinfo();
                to.sin6_addr.s6_addr = from.ip().octets();
                to.sin6_scope_id = from.scope_id();
                address.set(to);
            }
        }
        address
    }
}

/// What statx(2) tells of a file. Zeros where there is no such call.
#[derive(Clone, Copy)]
pub struct FileStatus {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    status: statx,
}

impl FileStatus {
    /// Of no file.
    #[must_use]
    pub const fn new() -> FileStatus {
        // SAFETY: all zeros are a valid status.
        unsafe { core::mem::zeroed() }
    }

    /// Bytes of the file.
    #[must_use]
    pub const fn size(&self) -> u64 {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return self.status.stx_size;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        0
    }

    /// Its type and permissions, as stat(2) gives them.
    #[must_use]
    pub const fn mode(&self) -> u32 {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return self.status.stx_mode as u32;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        0
    }

    /// When it was modified last: seconds since 1970, and nanoseconds.
    #[must_use]
    pub const fn modified(&self) -> (i64, u32) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return (self.status.stx_mtime.tv_sec, self.status.stx_mtime.tv_nsec);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        (0, 0)
    }
}

impl Default for FileStatus {
    fn default() -> FileStatus {
        FileStatus::new()
    }
}
