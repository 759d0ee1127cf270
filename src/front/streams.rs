//! Streams for Rust: what is sent is lent, and lives for ever; what was received is borrowed, and cannot be overwritten
//! meanwhile.
#![allow(unsafe_code)]

use super::memory::{Buffer, Part, Vectors};
use super::{Event, Handler, Loop};
use crate::backend::Given;
use crate::engine::streams::Sent;
use crate::engine::{Config, StreamEvent};
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::ops::Address;
use crate::request::{Call, Lease, Request};
use crate::storage::Storage;
use crate::storage::sends::{Content, Part as RawPart, Sending};
use crate::streams::Streams;
use crate::time::Duration;
use core::ops::{Deref, Range};

/// One thing to be sent: a static, like the memory that is sent. It is in use from its submission until it is done: when
/// [`Loop::send_stream`] says so, or at the event [`StreamEvent::Sent`] for which [`SendRequest::is_of`] is true, or when its stream is
/// removed.
///
/// ```
/// use becket::{Buffer, Config, Event, Loop, SendRequest, StaticStorage, StreamEvent, Streams};
/// use std::io::{Read, Write};
/// use std::os::fd::IntoRawFd;
/// use std::os::unix::net::UnixStream;
///
/// static STORAGE: StaticStorage<4, 0> = StaticStorage::new();
/// static ANSWER: Buffer<[u8; 64]> = Buffer::new([0; 64]);
/// static REQUEST: SendRequest = SendRequest::new();
///
/// fn on_stream(_: &mut (), event_loop: &Loop<'static, ()>, event: Event) {
///     match event.stream {
///         Some(StreamEvent::Data) => {
///             let count = event_loop.received(&event, |data| {
///                 ANSWER.with(|answer| answer[..data.len()].copy_from_slice(data)).expect("nothing is being sent");
///                 data.len()
///             });
///             event_loop.send_stream(event.source, &REQUEST, &ANSWER, 0..count.unwrap()).unwrap();
///         }
///         Some(StreamEvent::End) => event_loop.close_stream(event.source).unwrap(),
///         _ => {}
///     }
/// }
///
/// let (ours, mut theirs) = UnixStream::pair().unwrap();
/// let streams = Box::leak(Box::new(Streams::<4, 2, 1024>::new())); // or a static
/// let event_loop = Loop::with_streams(STORAGE.take().expect("once"), streams, &Config::default())?;
/// event_loop.add_stream(ours.into_raw_fd(), on_stream, 0)?;
/// theirs.write_all(b"hello").unwrap();
/// theirs.shutdown(std::net::Shutdown::Write).unwrap();
/// event_loop.run(&mut ())?; // until the stream is closed
/// let mut text = String::new();
/// theirs.read_to_string(&mut text).unwrap();
/// assert_eq!(text, "hello");
/// # Ok::<(), becket::Error>(())
/// ```
pub struct SendRequest(Buffer<Sending>);

impl SendRequest {
    /// One that is not in use.
    #[must_use]
    pub const fn new() -> SendRequest {
        SendRequest(Buffer::new(Sending::UNUSED))
    }

    /// Whether an event tells that this request is done. O(1).
    #[must_use]
    pub fn is_of(&self, event: &Event) -> bool {
        event.data == self.0.at().addr() && event.stream == Some(StreamEvent::Sent)
    }

    /// Whether a stream has it. O(1).
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.0.is_lent()
    }
}

impl Default for SendRequest {
    fn default() -> SendRequest {
        SendRequest::new()
    }
}

/// What was received, kept beyond its event: see [`Loop::keep`]. One that is dropped instead of released is never received
/// into again.
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost"]
pub struct Received(&'static [u8]);

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0
    }
}

/// Making a loop with streams: what has arrived lies in their memory, which the program may keep.
impl<App> Loop<'static, App> {
    /// Makes a loop with memory for streams.
    pub fn with_streams<
        const S: usize,
        const P: usize,
        const O: usize,
        const N: usize,
        const B: usize,
        const L: usize,
    >(
        storage: &'static mut Storage<S, P, O>,
        streams: &'static mut Streams<N, B, L>,
        config: &Config,
    ) -> Result<Loop<'static, App>> {
        Loop::make(storage, config, Given { streams: Some(streams.memory()), ..Given::default() })
    }

    /// The same in a simulator.
    #[cfg(feature = "simulator")]
    pub fn simulated_with_streams<
        const S: usize,
        const P: usize,
        const O: usize,
        const N: usize,
        const B: usize,
        const L: usize,
    >(
        storage: &'static mut Storage<S, P, O>,
        simulator: crate::backend::Simulator<'static>,
        streams: &'static mut Streams<N, B, L>,
        config: &Config,
    ) -> Result<Loop<'static, App>> {
        let given = Given { simulator: Some(simulator.memory()), streams: Some(streams.memory()), ..Given::default() };
        Loop::make(storage, config, given)
    }
}

/// Streams: connections, and sockets of datagrams, that receive and send by themselves. A stream is a source: what every source
/// has it has too; its events are of [`Kind::Stream`](crate::Kind::Stream), and [`Event::stream`] says what each tells. Its fd
/// is the loop's, which closes it with the stream; after [`Loop::remove`] it is the program's again.
///
/// ESTALE: the stream has ended, or was removed; EINVAL: it is no stream; EPIPE: it sends no more.
impl<'s, App> Loop<'s, App> {
    /// A stream over a connected socket, or one of datagrams; it becomes non-blocking, and the loop's. EBADF, ENOTSOCK; EEXIST:
    /// the fd has a source; ENOSPC: there is no room for another source, or another stream. O(1) expected.
    pub fn add_stream(&self, fd: i32, handler: Handler<'s, App>, token: usize) -> Result<Handle> {
        self.with(|engine| engine.add_stream(fd, None, Self::target(Some(handler), token)))
    }

    /// The same without a handler, for [`Loop::next`]. O(1) expected.
    pub fn add_stream_pulled(&self, fd: i32, token: usize) -> Result<Handle> {
        self.with(|engine| engine.add_stream(fd, None, Self::target(None, token)))
    }

    /// A stream over a new socket, which it connects: [`StreamEvent::Connected`], or [`StreamEvent::Closed`] with the reason:
    /// after `within` ETIMEDOUT. ENOSPC, and what the system says at once. O(log n).
    pub fn connect_stream(
        &self,
        address: &Address,
        within: Duration,
        handler: Handler<'s, App>,
        token: usize,
    ) -> Result<Handle> {
        let (at, length) = address.as_raw();
        let request = |fd| Request::new(Call::Connect, fd).and_then(|it| it.bytes(at, length));
        let target = Self::target(Some(handler), token);
        self.with(|engine| engine.connect_stream(address.family(), request, within, target))
    }

    fn submit_send(
        &self,
        stream: Handle,
        request: &'static SendRequest,
        content: Content,
        lease: Option<&'static Lease>,
    ) -> Result<Sent> {
        let (at, lease) = match request.0.lend(lease) {
            Ok(lent) => lent,
            Err(error) => {
                if let Some(lease) = lease {
                    lease.give_back();
                }
                return Err(error);
            }
        };
        // SAFETY: the request is lent to us, and lives for ever; so does what it leads to.
        let sent =
            self.with(|engine| engine.send_stream(stream, || unsafe { Sending::make(at, content, None, Some(lease)) }));
        if sent.is_err() {
            lease.give_back();
        }
        sent
    }

    /// Sends some bytes of a buffer, in the order of submission: at once where nothing is queued, and the rest when the socket takes
    /// more. EBUSY: the request or the buffer is in use; EINVAL: it has no such range. One system call at most.
    pub fn send_stream(
        &self,
        stream: Handle,
        request: &'static SendRequest,
        buffer: &'static Buffer,
        range: Range<usize>,
    ) -> Result<Sent> {
        let (at, lease) = buffer.lend_range(&range, None)?;
        let part = RawPart { at: at.cast_const().cast(), length: range.len() };
        self.submit_send(stream, request, Content::Bytes(part), Some(lease))
    }

    /// The same of several parts. O(parts).
    pub fn send_stream_parts<const N: usize>(
        &self,
        stream: Handle,
        request: &'static SendRequest,
        vectors: &'static Buffer<Vectors<N>>,
        parts: &[Part],
    ) -> Result<Sent> {
        let (at, lease) = vectors.lend_parts(parts)?;
        self.submit_send(stream, request, Content::Vectors(at.cast(), parts.len() as u32), Some(lease))
    }

    /// Sends a range of a regular file, by sendfile(2) where there is that. The value is less than its length when the file ends
    /// before. EBADF: the fd is negative; EINVAL: the range cannot be.
    pub fn send_stream_file(
        &self,
        stream: Handle,
        request: &'static SendRequest,
        file: i32,
        range: Range<u64>,
    ) -> Result<Sent> {
        let offset = i64::try_from(range.start).map_err(|_| Error::INVALID)?;
        let length = range.end.checked_sub(range.start).ok_or(Error::INVALID)?;
        self.submit_send(stream, request, Content::File(file, offset, length), None)
    }

    /// Sends some bytes of what an event tells of: the buffer is kept until they are sent, and then free, without an event. On
    /// io_uring this goes with the next wait, at the latest when [`Loop::run`] returns. [`Sent::Done`] or [`Sent::Full`]; EINVAL: it
    /// has no such range; ESTALE: another event has come since, or it was kept; EPIPE. O(1), and one system call at most.
    pub fn forward(&self, stream: Handle, event: &Event, range: Range<usize>) -> Result<Sent> {
        let length = range.end.checked_sub(range.start).ok_or(Error::INVALID)?;
        let at = core::ptr::without_provenance(event.data.checked_add(range.start).ok_or(Error::INVALID)?);
        self.with(|engine| engine.forward(stream, at, length))
    }

    /// The same of what was kept, which is given back if it cannot be.
    pub fn forward_kept(
        &self,
        stream: Handle,
        received: Received,
        range: Range<usize>,
    ) -> core::result::Result<Sent, (Error, Received)> {
        let Some(bytes) = received.0.get(range) else { return Err((Error::INVALID, received)) };
        self.with(|engine| engine.forward(stream, bytes.as_ptr(), bytes.len())).map_err(|error| (error, received))
    }

    /// Gathers what is sent until the stream's turn in the queue comes: its requests go together then, 16 parts in one system call (a
    /// file or a datagram has one of its own); on io_uring one that is alone and of one piece goes with the next wait. Each is queued,
    /// and has its event. Not at first; it does not concern [`Loop::forward`]. Nothing goes while the loop stands still: after
    /// [`Loop::stop`] it stays queued for the next turn, and where the stream is removed or reset, or the loop dropped, it is not
    /// sent. O(1).
    pub fn batch_stream(&self, stream: Handle, on: bool) -> Result<()> {
        self.with(|engine| engine.batch_stream(stream, on))
    }

    /// Takes a queued request back: what is left of it is not sent. It is done in its order, and its event tells the bytes that were
    /// sent of it, which may be all. Nothing happens to one that is done. O(requests), and one system call at most.
    pub fn cancel_send(&self, stream: Handle, request: &'static SendRequest) -> Result<()> {
        self.with(|engine| engine.cancel_send(stream, request.0.at()))
    }

    /// Bytes that are queued. O(1).
    pub fn queued(&self, stream: Handle) -> Result<u64> {
        self.core().look(|engine| engine.stream_queued(stream))
    }

    /// The watermarks of the queue, in bytes; at first 16 and 64 KiB. EINVAL: low is above high. O(1).
    pub fn set_watermarks(&self, stream: Handle, low: u32, high: u32) -> Result<()> {
        self.with(|engine| engine.set_watermarks(stream, low, high))
    }

    /// The watermarks. O(1).
    pub fn watermarks(&self, stream: Handle) -> Result<(u32, u32)> {
        self.core().look(|engine| engine.watermarks(stream))
    }

    /// Receives nothing until [`Loop::resume_stream`]: the peer has to wait. O(1).
    pub fn pause_stream(&self, stream: Handle) -> Result<()> {
        self.with(|engine| engine.pause_stream(stream, true))
    }

    /// Receives again. O(1).
    pub fn resume_stream(&self, stream: Handle) -> Result<()> {
        self.with(|engine| engine.pause_stream(stream, false))
    }

    /// Sends no more after what is queued; receiving goes on. O(1).
    pub fn shutdown_stream(&self, stream: Handle) -> Result<()> {
        self.with(|engine| engine.shutdown_stream(stream))
    }

    /// Ends the stream when everything is sent; nothing more is received. O(1).
    pub fn close_stream(&self, stream: Handle) -> Result<()> {
        self.with(|engine| engine.close_stream(stream))
    }

    /// Ends the stream at once: what is queued is not sent, and the peer learns that the connection was broken off. O(requests).
    pub fn reset_stream(&self, stream: Handle) -> Result<()> {
        self.with(|engine| engine.reset_stream(stream))
    }

    /// Calls a function with what an event tells of, which nobody overwrites meanwhile. ESTALE: another event has come since, or
    /// it was kept; EINVAL: it is no [`StreamEvent::Data`]. O(1).
    pub fn received<R>(&self, event: &Event, call: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let received = self.keep(event)?;
        let _release = Release(self, received.0);
        Ok(call(received.0))
    }

    /// Keeps what an event tells of until [`Loop::release`]. ESTALE, EINVAL: as above. A stream that has kept half of all
    /// buffers receives no more; and nobody does when there is none left. O(1).
    pub fn keep(&self, event: &Event) -> Result<Received> {
        let at = core::ptr::without_provenance(event.data);
        let (at, length) = self.with(|engine| engine.keep_buffer(at))?;
        // SAFETY: so many bytes were received there, in memory that lives for ever, and nobody writes there until the buffer is
        // given back, which takes what this returns.
        Ok(Received(unsafe { core::slice::from_raw_parts(at, length) }))
    }

    /// Who has sent the datagram that an event tells of. ESTALE: another event has come since; EINVAL: it is no datagram. O(1).
    pub fn sender(&self, event: &Event) -> Result<Address> {
        let at = core::ptr::without_provenance(event.data);
        let sender = self.core().look(|engine| engine.sender(at))?;
        // SAFETY: the address lies in the loop's own memory, in a buffer that nobody receives into now.
        Ok(unsafe { sender.read() })
    }

    /// Gives back what was kept. EINVAL: it is another loop's; then it is lost. O(1).
    pub fn release(&self, received: Received) -> Result<()> {
        self.with(|engine| engine.release_buffer(received.0.as_ptr()))
    }

    /// How many buffers are not kept. O(1).
    pub fn buffers_left(&self) -> Result<u32> {
        self.core().look(|engine| Ok(engine.buffers_left()))
    }
}

/// Gives a buffer back, also when the program's function panics.
struct Release<'a, 's, App>(&'a Loop<'s, App>, &'static [u8]);

impl<App> Drop for Release<'_, '_, App> {
    fn drop(&mut self) {
        let _ = self.0.with(|engine| engine.release_buffer(self.1.as_ptr()));
    }
}
