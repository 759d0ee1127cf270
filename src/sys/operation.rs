//! The system calls of operations where no ring makes them: those that do not block, and those that are made at once.
//!
//! A request's pointers are valid as its call wants them: who submitted it answers for that.

use super::{check, last_error};
use crate::error::{Error, Result};
use crate::ready::Ready;
use crate::request::{Call, Request};
#[cfg(all(feature = "capi", feature = "streams"))]
pub(crate) use libc::sa_family_t;
#[cfg(feature = "capi")]
pub(crate) use libc::sockaddr;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use libc::statx;

/// What openat2(2) is told, of the size that is said with it: Linux's own header has the fields.
#[cfg(feature = "capi")]
#[allow(non_camel_case_types)]
pub struct open_how(#[allow(dead_code)] u64);
pub(crate) use libc::{iovec, msghdr, socklen_t};

/// Other systems have none: a type of that name, for the signature alone.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[allow(non_camel_case_types)]
pub struct statx(());

/// What accept4(2) takes.
#[cfg(all(feature = "capi", not(target_vendor = "apple")))]
pub(crate) const ACCEPT_FLAGS: u32 = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32;
/// There is no accept4(2), and there are no such flags.
#[cfg(all(feature = "capi", target_vendor = "apple"))]
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

/// How openat2(2) opens a file, Linux: struct open_how.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct OpenHow {
    /// O_RDONLY, O_CLOEXEC and so on; nothing is added.
    pub flags: u64,
    /// The permissions of a file that is created; else 0.
    pub mode: u64,
    /// RESOLVE_BENEATH and so on: how the path may lead there.
    pub resolve: u64,
}

/// What a message consists of: struct msghdr.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct MessageHead(msghdr);

// SAFETY: as for a vector.
unsafe impl Send for MessageHead {}

/// In the flags of a message that is to be received: nothing was, as yet.
const NOT_RECEIVED: i32 = i32::MIN;

impl MessageHead {
    /// Of nothing.
    // SAFETY: all zeros are a valid message.
    pub(crate) const NONE: MessageHead = MessageHead(unsafe { core::mem::zeroed() });

    /// It is to be filled: there is room for any address, and for so many bytes of control data.
    pub(crate) fn expect(&mut self, control_bytes: usize) {
        self.set_lengths(size_of::<libc::sockaddr_storage>(), control_bytes);
        self.0.msg_flags = NOT_RECEIVED;
    }

    /// It is to be sent. What was to be received and was not is nothing.
    pub(crate) fn settle(&mut self) {
        if self.0.msg_flags == NOT_RECEIVED {
            *self = MessageHead::NONE;
        }
    }

    /// Points it to so many vectors, and to an address and control data of the lengths that it has.
    pub(crate) fn lay_out(&mut self, vectors: *mut Vector, count: usize, address: *mut Address, control: *mut u8) {
        // (The address is the first of its fields.)
        self.0.msg_name = if self.0.msg_namelen == 0 { core::ptr::null_mut() } else { address.cast() };
        self.0.msg_iov = vectors.cast();
        self.0.msg_iovlen = count as _;
        self.0.msg_control = if self.0.msg_controllen == 0 { core::ptr::null_mut() } else { control.cast() };
    }

    /// Bytes of the address and of the control data that it has, where there is room for so many.
    pub(crate) fn lengths(&self, control_max: usize) -> (usize, usize) {
        if self.0.msg_flags == NOT_RECEIVED {
            return (0, 0);
        }
        let address = (self.0.msg_namelen as usize).min(size_of::<libc::sockaddr_storage>());
        #[allow(clippy::unnecessary_cast)] // it is of another type on another system
        let control = (self.0.msg_controllen as usize).min(control_max);
        (address, control)
    }

    pub(crate) fn set_lengths(&mut self, address: usize, control: usize) {
        self.0.msg_namelen = address as socklen_t;
        self.0.msg_controllen = control as _;
        self.0.msg_flags = 0;
    }

    /// What recvmsg(2) says of it.
    pub(crate) fn flags(&self) -> i32 {
        if self.0.msg_flags == NOT_RECEIVED { 0 } else { self.0.msg_flags }
    }
}

/// The address of a socket, of any family: struct sockaddr_storage.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Address {
    storage: libc::sockaddr_storage,
    pub(super) length: socklen_t,
}

impl Address {
    /// No address.
    #[must_use]
    pub const fn new() -> Address {
        // SAFETY: all zeros are a valid address, of no family.
        Address { storage: unsafe { core::mem::zeroed() }, length: 0 }
    }

    /// Where it is, and how long.
    #[cfg(feature = "streams")]
    pub(crate) fn as_raw(&self) -> (*const (), usize) {
        ((&raw const self.storage).cast(), self.length())
    }

    /// Its family.
    #[cfg(feature = "streams")]
    pub(crate) fn family(&self) -> i32 {
        i32::from(self.storage.ss_family)
    }

    /// Bytes of it that count.
    pub(crate) fn length(&self) -> usize {
        self.length as usize
    }

    /// The same with so many bytes that count.
    pub(crate) fn cut(&self, length: usize) -> Address {
        Address { storage: self.storage, length: length as socklen_t }
    }

    /// The IP address and port; `None`: it is of another family, or there is none.
    #[must_use]
    pub fn socket_address(&self) -> Option<core::net::SocketAddr> {
        match i32::from(self.storage.ss_family) {
            // SAFETY: any bits are a valid one.
            libc::AF_INET => unsafe { self.read::<libc::sockaddr_in>() }.map(|from| {
                let ip = u32::from_be(from.sin_addr.s_addr).into();
                core::net::SocketAddrV4::new(ip, u16::from_be(from.sin_port)).into()
            }),
            // SAFETY: likewise.
            libc::AF_INET6 => unsafe { self.read::<libc::sockaddr_in6>() }.map(|from| {
                let (ip, port) = (from.sin6_addr.s6_addr.into(), u16::from_be(from.sin6_port));
                core::net::SocketAddrV6::new(ip, port, from.sin6_flowinfo, from.sin6_scope_id).into()
            }),
            _ => None,
        }
    }

    /// They themselves.
    #[cfg(feature = "streams")]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes at most; all of them are set.
        unsafe { core::slice::from_raw_parts((&raw const self.storage).cast(), self.length()) }
    }

    /// From bytes of another's. EINVAL: there are too many, or none.
    #[cfg(all(feature = "streams", feature = "capi"))]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Address> {
        let mut address = Address::new();
        if bytes.is_empty() || bytes.len() > size_of::<libc::sockaddr_storage>() {
            return Err(Error::INVALID);
        }
        // SAFETY: there is room for them.
        unsafe { address.as_mut_ptr().cast::<u8>().copy_from(bytes.as_ptr(), bytes.len()) };
        address.set_length(bytes.len());
        Ok(address)
    }

    /// All of its bytes: zeros stand behind those that count.
    #[cfg(feature = "streams")]
    pub(super) fn as_ptr(&self) -> *const libc::sockaddr_storage {
        &raw const self.storage
    }

    /// Where the system writes it; there is room for any.
    #[cfg(feature = "streams")]
    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr_storage {
        &raw mut self.storage
    }

    /// So many bytes of it count: no more than there are.
    #[cfg(feature = "streams")]
    pub(super) fn set_length(&mut self, length: usize) {
        self.length = length.min(size_of::<libc::sockaddr_storage>()) as socklen_t;
    }

    /// As the struct of a family. `None`: it is shorter than that.
    ///
    /// # Safety
    /// Any bits are a valid `T`.
    pub(super) unsafe fn read<T: Copy>(&self) -> Option<T> {
        // SAFETY: as long as that; aligned for every address; and by this function's contract.
        (self.length() >= size_of::<T>()).then(|| unsafe { (&raw const self.storage).cast::<T>().read() })
    }

    pub(super) fn set<T>(&mut self, address: T) {
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

/// AF_INET, AF_INET6, AF_UNIX, …
#[cfg(feature = "streams")]
pub(super) fn family_of(address: &Address) -> i32 {
    let family = address.storage.ss_family.into();
    if address.length() < size_of::<libc::sa_family_t>() { libc::AF_UNSPEC } else { family }
}

/// The other way round. EINVAL: it is of another family.
#[cfg(feature = "streams")]
impl TryFrom<Address> for core::net::SocketAddr {
    type Error = Error;

    fn try_from(from: Address) -> Result<core::net::SocketAddr> {
        let at = &raw const from.storage;
        match from.family() {
            libc::AF_INET if from.length() >= size_of::<libc::sockaddr_in>() => {
                // SAFETY: it is one of these, and aligned for every address.
                let address = unsafe { at.cast::<libc::sockaddr_in>().read() };
                let octets = address.sin_addr.s_addr.to_ne_bytes();
                Ok((core::net::Ipv4Addr::from(octets), u16::from_be(address.sin_port)).into())
            }
            libc::AF_INET6 if from.length() >= size_of::<libc::sockaddr_in6>() => {
                // SAFETY: likewise.
                let address = unsafe { at.cast::<libc::sockaddr_in6>().read() };
                let (ip, port) = (address.sin6_addr.s6_addr.into(), u16::from_be(address.sin6_port));
                Ok(core::net::SocketAddrV6::new(ip, port, address.sin6_flowinfo, address.sin6_scope_id).into())
            }
            _ => Err(Error::INVALID),
        }
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

/// What kind of file an fd is of, as far as reading and writing it goes.
pub(crate) mod nature {
    // 0: not known, or not asked for.
    /// A regular file, directory or block device: always ready, and may block all the same.
    pub(crate) const FILE: u8 = 1;
    /// A socket: each call says whether it may block.
    pub(crate) const SOCKET: u8 = 2;
    /// A pipe, terminal or other device, which does not block.
    pub(crate) const STREAM: u8 = 3;
    /// A pipe that does: it is asked first, and written to in pieces that fit.
    pub(crate) const BLOCKING_STREAM: u8 = 4;
    /// Anything else that does, such as a terminal or an eventfd: nobody says how much of a write fits.
    pub(crate) const BLOCKING_DEVICE: u8 = 5;
}

/// What kind of file it is. EBADF.
pub(crate) fn nature_of(fd: i32) -> Result<u8> {
    // SAFETY: all zeros is a valid stat.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: `stat` is valid to write to; a bad fd is an error.
    check(unsafe { libc::fstat(fd, &raw mut stat) })?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK => Ok(nature::FILE),
        libc::S_IFSOCK => Ok(nature::SOCKET),
        _ if flags_of(fd)? & libc::O_NONBLOCK != 0 => Ok(nature::STREAM),
        libc::S_IFIFO => Ok(nature::BLOCKING_STREAM),
        _ => Ok(nature::BLOCKING_DEVICE),
    }
}

fn flags_of(fd: i32) -> Result<i32> {
    // SAFETY: F_GETFL has no argument; a bad fd is an error.
    check(unsafe { libc::fcntl(fd, libc::F_GETFL) })
}

/// The flags of a message as an operation has them: it never blocks, and no signal comes.
pub(crate) fn message_flags(request: &Request) -> i32 {
    let sends = matches!(request.call, Call::Send | Call::SendMsg);
    // Whether a call blocks is not the program's business.
    request.flags & !libc::MSG_DONTWAIT | if sends { libc::MSG_NOSIGNAL } else { 0 }
}

/// Whether a message is asked for in no special way.
#[cfg(feature = "simulator")]
pub(crate) fn is_plain(request: &Request) -> bool {
    request.flags & !(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_WAITALL) == 0
}

/// What does not wait for the data that makes a socket readable. (An error comes with any interest.)
#[cfg(any(target_os = "linux", target_os = "android"))]
const OUT_OF_LINE: i32 = libc::MSG_OOB | libc::MSG_ERRQUEUE;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const OUT_OF_LINE: i32 = libc::MSG_OOB;

/// What a request waits for where it would block.
pub(crate) fn direction(request: &Request) -> Ready {
    match request.call {
        Call::Write | Call::WriteV | Call::Send | Call::SendMsg | Call::Connect => Ready::WRITABLE,
        Call::Recv | Call::RecvMsg if request.flags & OUT_OF_LINE != 0 => Ready::PRIORITY,
        _ => Ready::READABLE,
    }
}

/// Whether one call of this direction does not block now; or what the system says where it cannot tell.
fn is_ready(fd: i32, direction: Ready) -> Result<bool> {
    let mut asked = libc::pollfd { fd, events: direction.bits().cast_signed(), revents: 0 };
    // SAFETY: one entry, which is valid to read and write.
    check(unsafe { libc::poll(&raw mut asked, 1, 0) }).map(|count| count > 0)
}

/// Makes the call without blocking: what came of it, or `None`: it would block.
///
/// `connecting`: a connect that was begun goes on by itself, and is asked for its end.
pub(crate) fn attempt(request: &Request, connecting: &mut bool) -> Option<i32> {
    loop {
        let answer = match request.call {
            Call::Connect if *connecting => connected(request.fd),
            Call::Connect => connect(request, connecting),
            Call::Accept => accept(request),
            _ => transfer(request),
        };
        match answer {
            Ok(count) => return Some(count),
            Err(Error::INTERRUPTED) => {}
            // (EWOULDBLOCK is EAGAIN on every system that libc knows.)
            Err(Error::AGAIN) => return None,
            Err(error) => return Some(-error.errno()),
        }
    }
}

/// A count, or errno.
fn counted(count: isize) -> Result<i32> {
    // (No call moves more than 0x7ffff000 bytes.)
    if count < 0 { Err(last_error()) } else { Ok(count as i32) }
}

fn transfer(request: &Request) -> Result<i32> {
    let Request { fd, at, length, .. } = *request;
    let flags = message_flags(request) | libc::MSG_DONTWAIT;
    let bytes = length as usize;
    let blocks = matches!(request.nature, nature::BLOCKING_STREAM | nature::BLOCKING_DEVICE);
    if blocks && !is_ready(fd, direction(request))? {
        return Err(Error::AGAIN);
    }
    if request.nature == nature::BLOCKING_DEVICE && direction(request) == Ready::WRITABLE {
        // A terminal that is writable may have room for less than any piece.
        return unblocked(fd, || transfer(&Request { nature: nature::STREAM, ..*request }));
    }
    // A pipe that is writable has room for so much, and blocks for more.
    let piece = if request.nature == nature::BLOCKING_STREAM { bytes.min(libc::PIPE_BUF) } else { bytes };
    let socket = request.nature == nature::SOCKET;
    // SAFETY: the request's pointers are valid for its call.
    counted(unsafe {
        match request.call {
            Call::Recv => libc::recv(fd, at.cast(), bytes, flags),
            // read(2) does not wait where recv(2) would.
            Call::Read | Call::ReadV if socket && has_no_room(request) => 0,
            Call::Read if socket => libc::recv(fd, at.cast(), bytes, libc::MSG_DONTWAIT),
            Call::Read => libc::read(fd, at.cast(), bytes),
            Call::Send => libc::send(fd, at.cast(), bytes, flags),
            Call::Write if socket => libc::send(fd, at.cast(), bytes, libc::MSG_DONTWAIT),
            Call::Write => libc::write(fd, at.cast(), piece),
            Call::RecvMsg => libc::recvmsg(fd, at.cast(), flags),
            Call::SendMsg => libc::sendmsg(fd, at.cast(), flags),
            Call::ReadV if socket => libc::recvmsg(fd, &mut vectored(request), libc::MSG_DONTWAIT),
            Call::ReadV => libc::readv(fd, at.cast(), length as i32),
            Call::WriteV if socket => libc::sendmsg(fd, &vectored(request), libc::MSG_DONTWAIT),
            Call::WriteV if request.nature == nature::BLOCKING_STREAM => write_first(request),
            Call::WriteV => libc::writev(fd, at.cast(), length as i32),
            _ => {
                debug_assert!(false, "no transfer");
                0
            }
        }
    })
}

/// A message of these vectors alone.
fn vectored(request: &Request) -> msghdr {
    // SAFETY: all zeros are a valid message, of nothing.
    let mut message: msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = request.at.cast();
    message.msg_iovlen = request.length as _;
    message
}

/// Whether a read asks for no byte.
///
/// # Safety
/// The request's vectors are valid.
unsafe fn has_no_room(request: &Request) -> bool {
    let vectors = request.at.cast::<iovec>();
    match request.call {
        // SAFETY: by this function's contract.
        Call::ReadV => (0..request.length as usize).all(|index| unsafe { vectors.add(index).read() }.iov_len == 0),
        _ => request.length == 0,
    }
}

/// A vector of a request: where, and how many bytes.
#[cfg(posix_aio)]
pub(crate) fn vector_at(request: &Request, index: u32) -> (*mut (), usize) {
    // SAFETY: the request's vectors are valid for its call, and so many.
    let vector = unsafe { request.at.cast::<iovec>().add(index as usize).read() };
    (vector.iov_base.cast(), vector.iov_len)
}

/// Writes what fits of the first vector that has something.
///
/// # Safety
/// The request's vectors are valid.
unsafe fn write_first(request: &Request) -> isize {
    for index in 0..request.length as usize {
        // SAFETY: by this function's contract.
        let vector = unsafe { request.at.cast::<iovec>().add(index).read() };
        if vector.iov_len > 0 {
            // SAFETY: likewise.
            return unsafe { libc::write(request.fd, vector.iov_base, vector.iov_len.min(libc::PIPE_BUF)) };
        }
    }
    0
}

/// Takes a connection. Where the listener blocks it is asked first.
fn accept(request: &Request) -> Result<i32> {
    let Request { fd, at, .. } = *request;
    let blocks = request.nature != nature::STREAM && flags_of(fd)? & libc::O_NONBLOCK == 0;
    if blocks && !is_ready(fd, Ready::READABLE)? {
        // What does not listen would wait for ever.
        return Err(if option(fd, libc::SO_ACCEPTCONN)? == 0 { Error::INVALID } else { Error::AGAIN });
    }
    let length = request.second_at().cast();
    #[cfg(not(target_vendor = "apple"))]
    // SAFETY: the request's pointers are null or valid for its call.
    return check(unsafe { libc::accept4(fd, at.cast(), length, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) });
    #[cfg(target_vendor = "apple")]
    // SAFETY: likewise; the new fd is ours, and these calls on it cannot fail.
    unsafe {
        let connection = check(libc::accept(fd, at.cast(), length))?;
        libc::fcntl(connection, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(connection, libc::F_SETFL, libc::O_NONBLOCK);
        Ok(connection)
    }
}

/// Begins a connect. A socket that blocks does not for as long as this takes: nobody else uses it before it is connected.
fn connect(request: &Request, connecting: &mut bool) -> Result<i32> {
    // SAFETY: the request's address is valid for its length.
    match unblocked(request.fd, || check(unsafe { libc::connect(request.fd, request.at.cast(), request.length) })) {
        Err(IN_PROGRESS | Error::INTERRUPTED) => {
            *connecting = true;
            Err(Error::AGAIN)
        }
        answer => answer,
    }
}

/// A file does not block from now on. The flags that it had.
pub(super) fn unblock(fd: i32) -> Result<i32> {
    let flags = flags_of(fd)?;
    if flags & libc::O_NONBLOCK == 0 {
        // SAFETY: no pointer is passed.
        check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    }
    Ok(flags)
}

/// Makes a call while the file does not block.
fn unblocked(fd: i32, call: impl FnOnce() -> Result<i32>) -> Result<i32> {
    let flags = unblock(fd)?;
    let answer = call();
    if flags & libc::O_NONBLOCK == 0 {
        // SAFETY: no pointer is passed.
        unsafe { libc::fcntl(fd, libc::F_SETFL, flags) };
    }
    answer
}

const IN_PROGRESS: Error = Error::from_errno(libc::EINPROGRESS);

/// How a connect has ended that was begun. EAGAIN: it has not.
fn connected(fd: i32) -> Result<i32> {
    if !is_ready(fd, Ready::WRITABLE)? {
        return Err(Error::AGAIN);
    }
    Ok(-option(fd, libc::SO_ERROR)?)
}

/// An option of a socket that is a number.
pub(super) fn option(fd: i32, name: i32) -> Result<i32> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as socklen_t;
    // SAFETY: the place is valid for as many bytes as are said.
    check(unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length) })?;
    Ok(value)
}

/// Reads, writes or syncs a file, at its own position.
#[cfg(posix_aio)]
fn of_file(request: &Request) -> Result<i32> {
    let Request { fd, at, length, flags, .. } = *request;
    loop {
        // SAFETY: the request's pointers are valid for its call.
        let answer = counted(unsafe {
            match request.call {
                Call::Read => libc::read(fd, at.cast(), length as usize),
                Call::Write => libc::write(fd, at.cast(), length as usize),
                Call::ReadV => libc::readv(fd, at.cast(), length as i32),
                Call::WriteV => libc::writev(fd, at.cast(), length as i32),
                #[cfg(not(target_vendor = "apple"))]
                _ if flags & 1 != 0 => libc::fdatasync(fd) as isize,
                _ => libc::fsync(fd) as isize,
            }
        });
        if answer != Err(Error::INTERRUPTED) {
            let _ = flags;
            return answer;
        }
    }
}

/// Makes a call that has no form that does not block, or none in the engine of files: openat, statx, close. It may block.
pub(crate) fn at_once(request: &Request) -> i32 {
    let Request { fd, at, length, flags, .. } = *request;
    let answer = match request.call {
        // SAFETY: the request's path is valid.
        Call::OpenAt => check(unsafe { libc::openat(fd, at.cast(), flags | libc::O_CLOEXEC, length) }),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Call::OpenAt2 => {
            let how = request.second_at();
            // SAFETY: the request's path is valid, and so is what says how, for as many bytes as are said.
            check(unsafe { libc::syscall(libc::SYS_openat2, fd, at, how, length as usize) } as i32)
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Call::Statx => {
            let result = request.second_at();
            // SAFETY: the request's path and the place for the result are valid.
            check(unsafe { libc::syscall(libc::SYS_statx, fd, at, flags, length, result) } as i32)
        }
        Call::Close => super::fd::close(fd).map(|()| 0),
        #[cfg(posix_aio)]
        Call::Read | Call::Write | Call::ReadV | Call::WriteV | Call::Fsync => of_file(request),
        _ => Err(Error::NO_CALL),
    };
    answer.unwrap_or_else(|error| -error.errno())
}
