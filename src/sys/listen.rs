//! Sockets that listen: addresses as text, opening, taking over, closing.

use super::operation::{Address, family_of, option};
use super::stream::{set_flags, socket};
use super::{check, fd, last_error};
use crate::error::{Error, Result};
use core::fmt::{self, Write as _};
use core::mem::offset_of;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ptr::{from_mut, from_ref};
use libc::{sockaddr_un, socklen_t};

/// The most bytes that an address has as text, with the NUL of C: of a UNIX socket with the longest path.
pub(crate) const TEXT_BYTES: usize = 128;
const _: () = assert!("unix:".len() + PATH_BYTES < TEXT_BYTES && "[]:65535%4294967295".len() + 45 < TEXT_BYTES);

/// Where a UNIX socket's path stands in its address, and how long that can be.
const PATH: usize = offset_of!(sockaddr_un, sun_path);
const PATH_BYTES: usize = size_of::<sockaddr_un>() - PATH;
const _: () = assert!(size_of::<sockaddr_un>() < size_of::<libc::sockaddr_storage>());

/// Text.
impl Address {
    /// From text: `127.0.0.1:80`, `[::1]:80`, `unix:/path`, `unix:@name` (a name in Linux's abstract namespace); `:80` and
    /// `*:80` are `[::]:80`. Names of hosts are not looked up. EINVAL: it is none of these, or too long; ENOTSUP: there are no
    /// abstract names.
    pub fn parse(text: &[u8]) -> Result<Address> {
        if let Some(path) = text.strip_prefix(b"unix:") {
            return Address::of_path(path);
        }
        if let Some(port) = port_alone(text) {
            return Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port?)).into());
        }
        let text = core::str::from_utf8(text).map_err(|_| Error::INVALID)?;
        text.parse::<SocketAddr>().map(Address::from).map_err(|_| Error::INVALID)
    }

    /// Of a UNIX socket. One that begins with an at sign is in the abstract namespace.
    fn of_path(path: &[u8]) -> Result<Address> {
        let (abstract_name, name) = match path.strip_prefix(b"@") {
            Some(name) => (true, name),
            None => (false, path),
        };
        if abstract_name && !cfg!(any(target_os = "linux", target_os = "android")) {
            return Err(Error::UNSUPPORTED);
        }
        // One byte more, before the name or behind the path, is 0.
        if name.is_empty() || name.len() >= PATH_BYTES || name.contains(&0) {
            return Err(Error::INVALID);
        }
        let mut bytes = [0; PATH_BYTES];
        bytes[usize::from(abstract_name)..][..name.len()].copy_from_slice(name);
        Ok(Address::unix(&bytes[..name.len() + 1]))
    }

    fn unix(path: &[u8]) -> Address {
        // SAFETY: all zeros are a valid address.
        let mut to: sockaddr_un = unsafe { core::mem::zeroed() };
        to.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in to.sun_path.iter_mut().zip(path) {
            *to = from.cast_signed() as _;
        }
        let mut address = Address::new();
        address.set(to);
        address.set_length(PATH + path.len());
        address
    }

    /// The path or name of a UNIX socket, with what stands for an abstract one. `None`: it is no such address.
    fn path(&self) -> Option<&[u8]> {
        if family_of(self) != libc::AF_UNIX {
            return None;
        }
        let path = self.bytes().get(PATH..).unwrap_or_default();
        // A path ends at its NUL; a name does not.
        let end = if path.first() == Some(&0) { None } else { path.iter().position(|byte| *byte == 0) };
        Some(&path[..end.unwrap_or(path.len())])
    }

    /// As text, without a NUL: how many bytes that are. EINVAL: it is of no family that has text; ENOSPC: it has no room.
    pub fn format(&self, text: &mut [u8]) -> Result<usize> {
        let mut into = Into { text, count: 0 };
        let written = match (self.path(), self.socket_address()) {
            (Some(path), _) => into.bytes(b"unix:").and_then(|()| match path {
                [0, name @ ..] => into.bytes(b"@").and_then(|()| into.bytes(name)),
                path => into.bytes(path),
            }),
            (_, Some(address)) => write!(into, "{address}"),
            _ => return Err(Error::INVALID),
        };
        written.map_err(|_| Error::TABLE_FULL)?;
        Ok(into.count)
    }
}

/// As [`Address::format`] has it; what is no text of a UNIX socket's path is replaced.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; TEXT_BYTES];
        let count = self.format(&mut text).unwrap_or(0);
        text[..count].utf8_chunks().try_for_each(|chunk| {
            f.write_str(chunk.valid())?;
            if chunk.invalid().is_empty() { Ok(()) } else { f.write_char(char::REPLACEMENT_CHARACTER) }
        })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where text is written to.
struct Into<'a> {
    text: &'a mut [u8],
    count: usize,
}

impl Into<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> fmt::Result {
        let end = self.count + bytes.len();
        self.text.get_mut(self.count..end).ok_or(fmt::Error)?.copy_from_slice(bytes);
        self.count = end;
        Ok(())
    }
}

impl fmt::Write for Into<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes())
    }
}

/// The port of `:80` and `*:80`, whatever the address. `None`: it is another text; EINVAL: the port is none.
fn port_alone(text: &[u8]) -> Option<Result<u16>> {
    let digits = text.strip_prefix(b":").or_else(|| text.strip_prefix(b"*:"))?;
    // (`parse` would take a sign.)
    let digits = digits.iter().all(u8::is_ascii_digit).then(|| core::str::from_utf8(digits).ok()).flatten();
    Some(digits.and_then(|digits| digits.parse().ok()).ok_or(Error::INVALID))
}

/// How a socket is to be opened.
#[derive(Clone, Copy)]
pub(crate) struct How {
    pub(crate) backlog: i32,
    pub(crate) reuse_port: bool,
    /// IPv6: for IPv4 too.
    pub(crate) ipv4_too: bool,
    /// A UNIX socket's file that nobody listens at is replaced.
    pub(crate) replace: bool,
}

/// A socket that listens at the address of a text. With `:80` and `*:80` that is every address, of IPv6 and IPv4; of IPv4
/// alone where there is no IPv6.
pub(crate) fn open_text(text: &[u8], how: How) -> Result<i32> {
    let address = Address::parse(text)?;
    let Some(Ok(port)) = port_alone(text) else { return open(&address, how) };
    match open(&address, How { ipv4_too: true, ..how }) {
        Err(NO_FAMILY | NO_ADDRESS) => open(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into(), how),
        answer => answer,
    }
}

/// There is no IPv6: it is not built in, or is turned off.
const NO_FAMILY: Error = Error::from_errno(libc::EAFNOSUPPORT);
const NO_ADDRESS: Error = Error::from_errno(libc::EADDRNOTAVAIL);
const IN_USE: Error = Error::from_errno(libc::EADDRINUSE);
const REFUSED: Error = Error::from_errno(libc::ECONNREFUSED);

/// A socket that listens at an address: it does not block, and is closed on exec. What the system says; then nothing is open.
pub(crate) fn open(address: &Address, how: How) -> Result<i32> {
    let family = family_of(address);
    let fd = socket(family)?;
    let set = |level: i32, name: i32, on: bool| {
        let value = libc::c_int::from(on);
        let (at, length) = (from_ref(&value), size_of_val(&value) as socklen_t);
        // SAFETY: the value is readable for its length.
        check(unsafe { libc::setsockopt(fd, level, name, at.cast(), length) })
    };
    let listens = || {
        if family != libc::AF_UNIX {
            // The port is to be had again at once after the last server of it, whose connections still linger.
            set(libc::SOL_SOCKET, libc::SO_REUSEADDR, true)?;
        }
        if how.reuse_port {
            set(libc::SOL_SOCKET, libc::SO_REUSEPORT, true)?;
        }
        if family == libc::AF_INET6 {
            set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, !how.ipv4_too)?;
        }
        match bind(fd, address) {
            Err(IN_USE) if how.replace && is_abandoned(address) => {
                remove_file(address);
                bind(fd, address)?;
            }
            answer => answer?,
        }
        // SAFETY: no pointer is passed.
        check(unsafe { libc::listen(fd, how.backlog) }).inspect_err(|_| remove_file(address))
    };
    let listens = listens();
    if listens.is_err() {
        let _ = fd::close(fd);
    }
    listens.map(|_| fd)
}

fn bind(fd: i32, address: &Address) -> Result<()> {
    let bytes = address.bytes();
    // SAFETY: the address is readable for its length.
    check(unsafe { libc::bind(fd, bytes.as_ptr().cast(), bytes.len() as socklen_t) }).map(|_| ())
}

/// Whether it is the file of a socket that nobody listens at any more.
fn is_abandoned(address: &Address) -> bool {
    let Some(path) = path_in_files(address) else { return false };
    // SAFETY: all zeros is a valid stat.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: the path ends with a NUL; `stat` is valid to write to.
    let is_socket =
        unsafe { libc::lstat(path, from_mut(&mut stat)) } == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK;
    let Ok(fd) = socket(libc::AF_UNIX) else { return false };
    let bytes = address.bytes();
    // SAFETY: the address is readable for its length.
    let answer = unsafe { libc::connect(fd, bytes.as_ptr().cast(), bytes.len() as socklen_t) };
    let refused = answer < 0 && last_error() == REFUSED;
    let _ = fd::close(fd);
    is_socket && refused
}

/// Removes the file of a UNIX socket, if that has one.
pub(crate) fn remove_file(address: &Address) {
    if let Some(path) = path_in_files(address) {
        // SAFETY: the path ends with a NUL.
        unsafe { libc::unlink(path) };
    }
}

/// The path of a UNIX socket in the file system: it ends with a NUL.
fn path_in_files(address: &Address) -> Option<*const libc::c_char> {
    let path = address.path()?;
    // SAFETY: within the address, which has room for zeros behind the longest path.
    let at = unsafe { address.as_ptr().cast::<libc::c_char>().add(PATH) };
    (path.first().is_some_and(|first| *first != 0) && address.length() <= size_of::<sockaddr_un>()).then_some(at)
}

/// Makes a socket of another's ours: it does not block from now on, and is closed on exec. EINVAL: it does not listen;
/// EBADF, ENOTSOCK.
pub(crate) fn take_over(fd: i32) -> Result<()> {
    if option(fd, libc::SO_ACCEPTCONN)? == 0 {
        return Err(Error::INVALID);
    }
    set_flags(fd)
}

type Ask = unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut socklen_t) -> i32;

fn ask(fd: i32, ask: Ask) -> Result<Address> {
    let mut address = Address::new();
    let mut length = size_of::<libc::sockaddr_storage>() as socklen_t;
    // SAFETY: the address has room for so many bytes; a bad fd is an error.
    check(unsafe { ask(fd, address.as_mut_ptr().cast(), &raw mut length) })?;
    address.set_length(length as usize);
    Ok(address)
}

/// The address that a socket is bound to.
pub(crate) fn address_of(fd: i32) -> Result<Address> {
    ask(fd, libc::getsockname)
}

/// The address of who is connected to it. ENOTCONN: nobody is.
pub(crate) fn peer_of(fd: i32) -> Result<Address> {
    ask(fd, libc::getpeername)
}

/// Whether an accept has failed by something that concerns one connection, which is gone: accept(2).
pub(crate) fn is_passing(error: Error) -> bool {
    let mut passing = [
        libc::ECONNABORTED,
        libc::ECONNRESET,
        libc::EPROTO,
        // A rule of a firewall forbids it.
        libc::EPERM,
        // Errors of the network that are pending on the new socket are told here.
        libc::ENETDOWN,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::EOPNOTSUPP,
        libc::ENETUNREACH,
        libc::ETIMEDOUT,
        #[cfg(any(target_os = "linux", target_os = "android"))]
        libc::ENONET,
    ]
    .into_iter();
    passing.any(|it| it == error.errno())
}
