//! What streams ask of the system beyond readiness: sockets, or simulated ones. None of it blocks.

use super::AnyBackend;
use crate::error::{Error, Result};
#[cfg(feature = "simulator")]
use crate::request::Call;
use crate::request::Request;
use crate::sys::stream as calls;
use crate::sys::stream::PIECE;

/// Makes a call of the simulator where there is one, or else the other.
macro_rules! either {
    ($self:expr, $sim:ident => $simulated:expr, $real:expr) => {
        match $self {
            #[cfg(feature = "simulator")]
            AnyBackend::Simulator($sim) => $simulated,
            #[allow(unreachable_patterns)]
            _ => $real,
        }
    };
}

impl AnyBackend {
    /// A new socket of a stream. EMFILE, ENFILE, ENOMEM, …
    pub(crate) fn socket(&self, family: i32) -> Result<i32> {
        either!(self, sim => sim.socket(), calls::socket(family))
    }

    /// Makes a socket non-blocking; whether it is one of datagrams. EBADF, ENOTSOCK.
    pub(crate) fn adopt_socket(&self, fd: i32) -> Result<bool> {
        either!(self, sim => sim.check_socket(fd), calls::adopt(fd))
    }

    /// No more is sent.
    pub(crate) fn shutdown(&self, fd: i32) -> Result<()> {
        either!(self, sim => sim.shutdown(fd), calls::shutdown(fd))
    }

    /// The close breaks the connection off.
    pub(crate) fn break_off(&self, fd: i32) {
        either!(self, sim => sim.break_off(fd), calls::break_off(fd));
    }

    /// Receives what there is. EAGAIN: nothing.
    #[inline]
    pub(crate) fn receive(&self, fd: i32, at: *mut u8, bytes: u32) -> Result<u32> {
        either!(self, _sim => {
            self.make_now(&Request::new(Call::Recv, fd)?.bytes(at.cast_const().cast(), bytes as usize)?)
        }, calls::receive(fd, at, bytes))
    }

    /// Sends what the socket takes now. EAGAIN: nothing.
    #[inline]
    pub(crate) fn send(&self, fd: i32, at: *const (), bytes: usize) -> Result<u64> {
        either!(self, _sim => {
            self.make_now(&Request::new(Call::Send, fd)?.bytes(at, bytes)?).map(u64::from)
        }, calls::send(fd, at, bytes))
    }

    /// Sends of a file what the socket takes now: how much; 0: the file has ended. EAGAIN: the socket takes nothing.
    pub(crate) fn send_file(&self, fd: i32, file: i32, offset: i64, left: u64) -> Result<u64> {
        let sent = either!(self, _sim => Err(Error::INVALID), calls::send_file(fd, file, offset, left));
        match sent {
            // Not of such a file, or not to such a socket.
            Err(Error::INVALID | Error::NO_CALL) => self.copy_file(fd, file, offset, left),
            sent => sent.map(i64::cast_unsigned),
        }
    }

    #[cold]
    fn copy_file(&self, fd: i32, file: i32, offset: i64, left: u64) -> Result<u64> {
        let mut piece = [0; PIECE];
        let count = either!(self, _sim => {
            let request = Request::new(Call::Read, file)?;
            let request = request.bytes(piece.as_mut_ptr().cast(), left.min(PIECE as u64) as usize)?.offset(offset)?;
            self.make_now(&request).map(|count| count as usize)
        }, calls::read_piece(file, &mut piece, offset, left))?;
        if count == 0 {
            return Ok(0);
        }
        self.send(fd, piece.as_ptr().cast(), count)
    }

    /// Makes a request that may not block. EAGAIN: it would.
    pub(crate) fn make_now(&self, request: &Request) -> Result<u32> {
        match self.attempt(request, &mut false) {
            None => Err(Error::AGAIN),
            Some(result) => u32::try_from(result).map_err(|_| Error::from_errno(result)),
        }
    }
}
