//! Operations for Rust: the memory that they use is lent, and lives for ever.

use super::memory::{Buffer, Message, Part, Path, Vectors};
use super::{Handler, Loop};
use crate::engine::Taken;
use crate::error::Result;
use crate::handle::Handle;
use crate::ops::{Address, FileStatus, OpenHow};
use crate::request::{CURRENT, Call, Lease, Request};
use crate::time::Duration;
use core::ops::Range;

/// What calls the program, and with which token.
type Completion<App> = (Handler<'static, App>, usize);

/// An offset as the system takes it. (One beyond the largest is found to be none.)
fn offset(offset: Option<u64>) -> i64 {
    offset.map_or(CURRENT, |at| i64::try_from(at).unwrap_or(i64::MIN))
}

/// Operations: requests that complete later. Each one that was accepted has exactly one completion, an event of
/// [`Kind::Operation`](crate::Kind::Operation) whose `value` is what the system call returns, or a negative errno value. By
/// then its handle is stale, its place free, and its memory the program's again. The fd has to stay open until then.
///
/// EAGAIN: all places for operations are taken; EBUSY: the memory is in use; EBADF: the fd is negative; EINVAL: a range or
/// offset that cannot be; ENOSYS: a file, and no engine for files; ECANCELED: [`Loop::drain`] is under way. What the system
/// says of the request comes in the completion. `offset`: `None` is the file's own position; pipes and sockets have no other.
impl<App> Loop<'static, App> {
    /// Submits; what was lent comes back at once when it is refused.
    fn submit(
        &self,
        request: Result<Request>,
        lease: Option<&'static Lease>,
        (handler, token): Completion<App>,
    ) -> Result<Handle> {
        let target = Self::target(Some(handler), token);
        let submitted = request.and_then(|it| self.with(|engine| engine.submit_lent(&it, target, lease)));
        if submitted.is_err()
            && let Some(lease) = lease
        {
            lease.give_back();
        }
        submitted
    }

    fn submit_bytes(
        &self,
        request: Result<Request>,
        buffer: &'static Buffer,
        range: Range<usize>,
        completion: Completion<App>,
    ) -> Result<Handle> {
        let request = request?;
        let (at, lease) = buffer.lend_range(&range, None)?;
        self.submit(request.bytes(at.cast(), range.len()), Some(lease), completion)
    }

    fn submit_parts<const N: usize>(
        &self,
        request: Result<Request>,
        vectors: &'static Buffer<Vectors<N>>,
        parts: &[Part],
        completion: Completion<App>,
    ) -> Result<Handle> {
        let request = request?;
        let (at, lease) = vectors.lend_parts(parts)?;
        self.submit(request.vectors(at, parts.len() as i32), Some(lease), completion)
    }

    /// read(2), pread(2). Value: bytes; 0: the end. O(1).
    pub fn read(
        &self,
        fd: i32,
        buffer: &'static Buffer,
        range: Range<usize>,
        at: Option<u64>,
        handler: Handler<'static, App>,
        token: usize,
    ) -> Result<Handle> {
        let request = Request::new(Call::Read, fd).and_then(|it| it.offset(offset(at)));
        self.submit_bytes(request, buffer, range, (handler, token))
    }

    /// write(2), pwrite(2). Value: bytes, which may be fewer than were asked for. O(1).
    pub fn write(
        &self,
        fd: i32,
        buffer: &'static Buffer,
        range: Range<usize>,
        at: Option<u64>,
        handler: Handler<'static, App>,
        token: usize,
    ) -> Result<Handle> {
        let request = Request::new(Call::Write, fd).and_then(|it| it.offset(offset(at)));
        self.submit_bytes(request, buffer, range, (handler, token))
    }

    /// readv(2), preadv(2). O(parts).
    pub fn read_parts<const N: usize>(
        &self,
        fd: i32,
        vectors: &'static Buffer<Vectors<N>>,
        parts: &[Part],
        at: Option<u64>,
        handler: Handler<'static, App>,
        token: usize,
    ) -> Result<Handle> {
        let request = Request::new(Call::ReadV, fd).and_then(|it| it.offset(offset(at)));
        self.submit_parts(request, vectors, parts, (handler, token))
    }

    /// writev(2), pwritev(2). O(parts).
    pub fn write_parts<const N: usize>(
        &self,
        fd: i32,
        vectors: &'static Buffer<Vectors<N>>,
        parts: &[Part],
        at: Option<u64>,
        handler: Handler<'static, App>,
        token: usize,
    ) -> Result<Handle> {
        let request = Request::new(Call::WriteV, fd).and_then(|it| it.offset(offset(at)));
        self.submit_parts(request, vectors, parts, (handler, token))
    }

    /// fsync(2), or (`data_only`) fdatasync(2). Value: 0. O(1).
    pub fn fsync(&self, fd: i32, data_only: bool, handler: Handler<'static, App>, token: usize) -> Result<Handle> {
        let request = Request::new(Call::Fsync, fd).map(|it| Request { flags: i32::from(data_only), ..it });
        self.submit(request, None, (handler, token))
    }

    /// openat(2). Value: the fd, closed on exec. O(1); without a ring it is made at once, and may block.
    pub fn open(
        &self,
        folder: i32,
        path: impl Into<Path>,
        flags: i32,
        mode: u32,
        handler: Handler<'static, App>,
        token: usize,
    ) -> Result<Handle> {
        let (at, lease) = path.into().lend(None)?;
        let request = Request::new(Call::OpenAt, folder).map(|it| Request { flags, length: mode, ..it });
        self.submit(request.and_then(|it| it.object(at)), lease, (handler, token))
    }

    /// openat2(2), Linux: with limits on how the path leads there. Value: the fd; ENOSYS: before Linux 5.6. O(1); without a ring
    /// it is made at once, and may block.
    pub fn open_how(
        &self,
        folder: i32,
        path: impl Into<Path>,
        how: &'static OpenHow,
        handler: Handler<'static, App>,
        token: usize,
    ) -> Result<Handle> {
        let (at, lease) = path.into().lend(None)?;
        let how_at = core::ptr::from_ref(how).cast_mut().cast(); // it is only read
        let request =
            Request::new(Call::OpenAt2, folder).map(|it| Request { length: size_of::<OpenHow>() as u32, ..it });
        self.submit(request.and_then(|it| Ok(it.object(at)?.second(how_at))), lease, (handler, token))
    }

    /// statx(2), Linux. Value: 0. O(1); without a ring it is made at once, and may block.
    #[allow(clippy::too_many_arguments)] // statx's own
    pub fn statx(
        &self,
        folder: i32,
        path: impl Into<Path>,
        flags: i32,
        mask: u32,
        result: &'static Buffer<FileStatus>,
        handler: Handler<'static, App>,
        token: usize,
    ) -> Result<Handle> {
        let (at, lease) = path.into().lend(None)?;
        let (to, lease) = match result.lend_status(lease) {
            Ok(lent) => lent,
            Err(error) => {
                if let Some(lease) = lease {
                    lease.give_back();
                }
                return Err(error);
            }
        };
        let request = Request::new(Call::Statx, folder).map(|it| Request { flags, length: mask, ..it });
        self.submit(request.and_then(|it| Ok(it.object(at)?.second(to))), Some(lease), (handler, token))
    }

    /// close(2). Value: 0. EBUSY: the fd has an I/O source, or operations that wait for it. O(1); without a ring it is made at
    /// once, and may block.
    pub fn close(&self, fd: i32, handler: Handler<'static, App>, token: usize) -> Result<Handle> {
        self.submit(Request::new(Call::Close, fd), None, (handler, token))
    }

    /// accept4(2). Value: the fd of the connection, closed on exec and non-blocking. O(1).
    pub fn accept(&self, fd: i32, handler: Handler<'static, App>, token: usize) -> Result<Handle> {
        self.submit(Request::new(Call::Accept, fd).map(|it| it.second(core::ptr::null_mut())), None, (handler, token))
    }

    /// connect(2). Value: 0 when it is connected. O(1).
    pub fn connect(
        &self,
        fd: i32,
        address: &'static Buffer<Address>,
        handler: Handler<'static, App>,
        token: usize,
    ) -> Result<Handle> {
        let (at, length, lease) = address.lend_address()?;
        let request = Request::new(Call::Connect, fd).and_then(|it| it.bytes(at, length));
        self.submit(request, Some(lease), (handler, token))
    }

    /// recv(2). Value: bytes; 0: the end. O(1).
    ///
    /// ```
    /// use becket::{Buffer, Config, Event, Loop, StaticStorage};
    /// use std::io::Write;
    /// use std::os::fd::AsRawFd;
    /// use std::os::unix::net::UnixStream;
    ///
    /// static STORAGE: StaticStorage<4, 0, 8> = StaticStorage::new(); // eight operations
    /// static BUFFER: Buffer<[u8; 64]> = Buffer::new([0; 64]);
    ///
    /// fn on_received(text: &mut String, _: &Loop<'static, String>, event: Event) {
    ///     let count = usize::try_from(event.value).expect("it went well");
    ///     BUFFER.with(|bytes| text.push_str(std::str::from_utf8(&bytes[..count]).unwrap())).expect("it came back");
    /// }
    ///
    /// let (ours, mut theirs) = UnixStream::pair().unwrap();
    /// let event_loop = Loop::new(STORAGE.take().expect("once"), &Config::default())?;
    /// event_loop.recv(ours.as_raw_fd(), &BUFFER, 0..64, 0, on_received, 0)?; // it waits, and nothing blocks
    /// theirs.write_all(b"hello").unwrap();
    /// let mut text = String::new();
    /// event_loop.run(&mut text)?; // returns when nothing is left to wait for
    /// assert_eq!(text, "hello");
    /// # Ok::<(), becket::Error>(())
    /// ```
    pub fn recv(
        &self,
        fd: i32,
        buffer: &'static Buffer,
        range: Range<usize>,
        flags: i32,
        handler: Handler<'static, App>,
        token: usize,
    ) -> Result<Handle> {
        let request = Request::new(Call::Recv, fd).map(|it| Request { flags, ..it });
        self.submit_bytes(request, buffer, range, (handler, token))
    }

    /// send(2), with MSG_NOSIGNAL. Value: bytes, which may be fewer than were asked for. O(1).
    pub fn send(
        &self,
        fd: i32,
        buffer: &'static Buffer,
        range: Range<usize>,
        flags: i32,
        handler: Handler<'static, App>,
        token: usize,
    ) -> Result<Handle> {
        let request = Request::new(Call::Send, fd).map(|it| Request { flags, ..it });
        self.submit_bytes(request, buffer, range, (handler, token))
    }

    /// recvmsg(2). Value: bytes; the message has the sender's address and the control data then. O(parts).
    pub fn recv_message<const N: usize, const C: usize>(
        &self,
        fd: i32,
        message: &'static Buffer<Message<N, C>>,
        parts: &[Part],
        flags: i32,
        handler: Handler<'static, App>,
        token: usize,
    ) -> Result<Handle> {
        let request = Request::new(Call::RecvMsg, fd)?;
        let (at, lease) = message.lend_message(parts, true)?;
        self.submit(Request { flags, ..request }.object(at), Some(lease), (handler, token))
    }

    /// sendmsg(2), with MSG_NOSIGNAL, to the message's address and with its control data. Value: bytes. O(parts).
    pub fn send_message<const N: usize, const C: usize>(
        &self,
        fd: i32,
        message: &'static Buffer<Message<N, C>>,
        parts: &[Part],
        flags: i32,
        handler: Handler<'static, App>,
        token: usize,
    ) -> Result<Handle> {
        let request = Request::new(Call::SendMsg, fd)?;
        let (at, lease) = message.lend_message(parts, false)?;
        self.submit(Request { flags, ..request }.object(at), Some(lease), (handler, token))
    }

    /// Asks for an end: the operation's own completion says ECANCELED, or the result when it was too late. ESTALE: it has
    /// completed; EINVAL: it is a source. O(1).
    pub fn cancel(&self, operation: Handle) -> Result<()> {
        self.with(|engine| engine.cancel(operation))
    }

    /// Cancels it after `delay`, unless it has completed by then: ETIMEDOUT. [`Duration::FOREVER`] takes that away.
    /// O(log n).
    pub fn set_operation_deadline(&self, operation: Handle, delay: Duration) -> Result<()> {
        self.with(|engine| engine.set_operation_deadline(operation, delay))
    }

    /// Cancels all operations, waits for their completions and calls their handlers; other events stay queued. ETIMEDOUT:
    /// some are left; EBUSY: called in a handler that it has called. Legal in any other handler.
    pub fn drain(&self, app: &mut App, timeout: Duration) -> Result<()> {
        self.core().drain_operations(timeout, &mut |taken: &Taken| self.call(app, taken.handler, taken.event()))
    }

    /// Who reads and writes files, and why it is this one (empty where it was asked for). O(1).
    #[must_use]
    pub fn files(&self) -> (&'static str, &'static str) {
        let names = self.core().look(|engine| Ok((engine.files_name(), engine.files_note())));
        names.map_or(("", ""), |(name, note)| (name.to_str().unwrap_or(""), note.to_str().unwrap_or("")))
    }
}
