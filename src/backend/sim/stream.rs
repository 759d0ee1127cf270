//! Connections: two ends, each with a bounded buffer for what it has not read yet; and sockets that listen.

use super::Ready;
use super::faults::{Call, Quirk};
use super::schedule::What;
use super::state::{NONE, Sort, State};
use crate::error::{Error, Result};
use crate::time::Duration;

/// Bytes that one end can hold unread.
pub(super) const BYTES: usize = 256;

const _: () = assert!(BYTES <= u16::MAX as usize);

/// The longest that it takes until a connection is there.
const CONNECTED_AFTER: Duration = Duration::from_micros(100);

/// One end of a connection, or a listening socket.
pub(super) struct Stream {
    /// The other end; NONE: there is none (any more).
    peer: u32,
    /// What is wrong with it and was not told yet; 0: nothing.
    error: i32,
    /// Connections that wait to be accepted: a list through their `next`.
    pub(super) queue: Queue,
    next: u32,
    pub(super) connecting: bool,
    /// The peer writes no more: after what is there comes the end.
    ended: bool,
    /// We write no more.
    shut: bool,
    head: u16,
    count: u16,
    /// Bytes that it takes: at most BYTES.
    room: u16,
    bytes: [u8; BYTES],
}

#[derive(Clone, Copy)]
pub(super) struct Queue {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) count: u32,
}

impl Stream {
    pub(super) const NONE: Stream = Stream {
        peer: NONE,
        error: 0,
        queue: Queue { first: NONE, last: NONE, count: 0 },
        next: NONE,
        connecting: false,
        ended: false,
        shut: false,
        head: 0,
        count: 0,
        room: BYTES as u16,
        bytes: [0; BYTES],
    };

    /// Free bytes.
    fn space(&self) -> usize {
        usize::from(self.room.saturating_sub(self.count))
    }

    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let place = (usize::from(self.head) + usize::from(self.count)) % BYTES;
            self.bytes[place] = *byte;
            self.count += 1;
        }
    }

    fn pop(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.bytes[usize::from(self.head)];
            self.head = (self.head + 1) % BYTES as u16;
            self.count -= 1;
        }
    }
}

/// Connections.
impl State {
    pub(super) fn stream_ready(&self, file: u32) -> Ready {
        let stream = &self.files[file].stream;
        let mut ready = Ready::empty();
        if stream.connecting {
            return ready;
        }
        // One that never was connected looks so too.
        let gone = stream.peer == NONE;
        ready.set(Ready::READABLE, stream.count > 0 || stream.ended);
        ready.set(Ready::WRITABLE, gone || stream.shut || self.files[stream.peer].stream.space() > 0);
        ready.set(Ready::PEER_CLOSED, stream.ended);
        ready.set(Ready::HANGUP, stream.ended && stream.shut || gone);
        ready.set(Ready::ERROR, stream.error != 0);
        ready
    }

    /// Two files that are each other's peers. ENFILE.
    fn make_pair(&mut self) -> Result<[u32; 2]> {
        let ours = self.make(Sort::Stream)?;
        let theirs = self.make(Sort::Stream).inspect_err(|_| self.files[ours].sort = Sort::None)?;
        self.join(ours, theirs);
        Ok([ours, theirs])
    }

    fn join(&mut self, ours: u32, theirs: u32) {
        self.files[ours].stream.peer = theirs;
        self.files[theirs].stream.peer = ours;
        self.rise(ours);
        self.rise(theirs);
    }

    /// EMFILE, ENFILE: there is no room for both.
    pub(super) fn pair(&mut self) -> Result<[i32; 2]> {
        self.attempt(Call::Socket)?;
        self.free_fd()?;
        let files = self.make_pair()?;
        let first = self.name(files[0]);
        let second = first.and_then(|_| self.name(files[1]));
        match (first, second) {
            (Ok(first), Ok(second)) => Ok([first, second]),
            (first, second) => {
                // Taken back: nobody has heard of them.
                if let Ok(fd) = first {
                    let index = self.fd(fd)?;
                    self.fds[index].file = NONE;
                }
                for file in files {
                    self.files[file].names = 0;
                    self.files[file].sort = Sort::None;
                }
                first.and(second).map(|_| [0; 2])
            }
        }
    }

    /// A descriptor of a stream. EBADF; EINVAL: it is of another sort.
    pub(super) fn stream(&self, fd: i32) -> Result<u32> {
        let file = self.file(fd)?;
        if self.files[file].sort == Sort::Stream { Ok(file) } else { Err(Error::INVALID) }
    }

    /// Parts the two ends. What was written before still arrives at the other, unless the connection was broken off.
    fn part(&mut self, file: u32, broken: bool) {
        let stream = &mut self.files[file].stream;
        stream.ended = true;
        let peer = core::mem::replace(&mut stream.peer, NONE);
        if peer == NONE {
            return;
        }
        let other = &mut self.files[peer].stream;
        other.peer = NONE;
        other.ended = true;
        if broken {
            other.error = Error::CONNECTION_RESET.errno();
            other.count = 0;
        }
        self.rise(peer);
    }

    /// The last close: with something unread it breaks the connection off.
    pub(super) fn hang_up(&mut self, file: u32) {
        self.part(file, self.files[file].stream.count > 0);
    }

    /// Breaks a connection off, at both ends: what is unread is lost. This end is told by an error, if one is given.
    pub(super) fn reset(&mut self, file: u32, error: Option<Error>) {
        let stream = &mut self.files[file].stream;
        if stream.peer == NONE && !stream.connecting {
            return;
        }
        stream.connecting = false;
        stream.count = 0;
        stream.error = error.map_or(0, Error::errno);
        self.part(file, true);
        self.rise(file);
    }

    /// What is wrong, once.
    pub(super) fn take_error(&mut self, file: u32) -> Result<()> {
        match core::mem::take(&mut self.files[file].stream.error) {
            0 => Ok(()),
            errno => Err(Error::from_errno(errno)),
        }
    }

    /// What is wrong with a stream, as SO_ERROR: told once.
    pub(super) fn error_of(&mut self, fd: i32) -> Result<Option<Error>> {
        let file = self.stream(fd)?;
        Ok(self.take_error(file).err())
    }

    pub(super) fn shutdown(&mut self, fd: i32) -> Result<()> {
        let file = self.stream(fd)?;
        let stream = &mut self.files[file].stream;
        let peer = stream.peer;
        if peer == NONE {
            return Err(Error::NOT_CONNECTED);
        }
        stream.shut = true;
        self.files[peer].stream.ended = true;
        self.rise(file);
        self.rise(peer);
        Ok(())
    }

    pub(super) fn set_room(&mut self, fd: i32, bytes: usize) -> Result<()> {
        let file = self.stream(fd)?;
        if bytes == 0 || bytes > BYTES {
            return Err(Error::INVALID);
        }
        let peer = self.files[file].stream.peer;
        self.files[file].stream.room = bytes as u16;
        if peer != NONE {
            self.rise(peer);
        }
        Ok(())
    }

    /// How much a call moves that could move so much.
    pub(super) fn some_of(&mut self, count: usize) -> usize {
        if count > 1 && self.faults.is_odd(Quirk::Partial, &mut self.random) {
            self.random.up_to(count as u64 - 1) as usize
        } else {
            count
        }
    }

    pub(super) fn read(&mut self, fd: i32, bytes: &mut [u8]) -> Result<usize> {
        let file = self.file(fd)?;
        if let Err(error) = self.attempt(Call::Read) {
            return Err(self.failed(file, error));
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        match self.files[file].sort {
            Sort::Stream => self.read_stream(file, bytes),
            Sort::Scripted | Sort::Random(_) => {
                let ready = self.ready(file);
                if ready.contains(Ready::READABLE) {
                    let count = self.some_of(bytes.len());
                    for byte in &mut bytes[..count] {
                        *byte = self.random.next() as u8;
                    }
                    Ok(count)
                } else if ready.intersects(Ready::HANGUP | Ready::PEER_CLOSED) {
                    Ok(0)
                } else if ready.contains(Ready::ERROR) {
                    Err(Error::CONNECTION_RESET)
                } else {
                    Err(Error::AGAIN)
                }
            }
            Sort::Regular(length) => {
                let offset = self.files[file].offset;
                let left = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
                let count = self.some_of(bytes.len().min(left));
                for (byte, at) in bytes[..count].iter_mut().zip(offset..) {
                    *byte = at as u8;
                }
                self.files[file].offset = offset + count as u64;
                Ok(count)
            }
            Sort::Null => Ok(0),
            Sort::Listener(_) | Sort::None => Err(Error::NOT_CONNECTED),
        }
    }

    fn read_stream(&mut self, file: u32, bytes: &mut [u8]) -> Result<usize> {
        self.take_error(file)?;
        let stream = &self.files[file].stream;
        let (there, peer) = (usize::from(stream.count), stream.peer);
        if there == 0 {
            return match stream {
                Stream { connecting: true, .. } => Err(Error::AGAIN),
                Stream { ended: true, .. } => Ok(0),
                Stream { peer: NONE, .. } => Err(Error::NOT_CONNECTED),
                _ => Err(Error::AGAIN),
            };
        }
        let most = bytes.len().min(there);
        let count = self.some_of(most);
        self.files[file].stream.pop(&mut bytes[..count]);
        if count < most {
            self.rise(file); // who takes a short count for an empty buffer hears of the rest
        }
        if peer != NONE {
            self.rise(peer);
        }
        Ok(count)
    }

    pub(super) fn write(&mut self, fd: i32, bytes: &[u8]) -> Result<usize> {
        let file = self.file(fd)?;
        if let Err(error) = self.attempt(Call::Write) {
            return Err(self.failed(file, error));
        }
        match self.files[file].sort {
            Sort::Stream => self.write_stream(file, bytes),
            Sort::Scripted | Sort::Random(_) => {
                let ready = self.ready(file);
                if ready.intersects(Ready::HANGUP | Ready::ERROR) {
                    Err(Error::BROKEN_PIPE)
                } else if ready.contains(Ready::WRITABLE) {
                    Ok(self.some_of(bytes.len()))
                } else {
                    Err(Error::AGAIN)
                }
            }
            Sort::Regular(length) => {
                let count = self.some_of(bytes.len());
                let end = self.files[file].offset.saturating_add(count as u64);
                self.files[file].offset = end;
                self.files[file].sort = Sort::Regular(length.max(end));
                Ok(count)
            }
            Sort::Null => Ok(bytes.len()),
            Sort::Listener(_) | Sort::None => Err(Error::NOT_CONNECTED),
        }
    }

    fn write_stream(&mut self, file: u32, bytes: &[u8]) -> Result<usize> {
        self.take_error(file)?;
        let stream = &self.files[file].stream;
        let peer = stream.peer;
        if stream.connecting {
            return Err(Error::AGAIN);
        }
        if stream.shut || stream.ended && peer == NONE {
            return Err(Error::BROKEN_PIPE);
        }
        if peer == NONE {
            return Err(Error::NOT_CONNECTED);
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        let most = bytes.len().min(self.files[peer].stream.space());
        if most == 0 {
            return Err(Error::AGAIN);
        }
        let count = self.some_of(most);
        self.files[peer].stream.push(&bytes[..count]);
        if count < most {
            self.rise(file);
        }
        self.rise(peer);
        Ok(count)
    }

    /// A read or a write of a file fails, by no fault of the program: what follows from that.
    fn failed(&mut self, file: u32, error: Error) -> Error {
        match (error, self.files[file].sort) {
            // It was not so: who waits for an edge now has to hear of one.
            (Error::AGAIN, _) => self.rise(file),
            (Error::CONNECTION_RESET, Sort::Stream) => self.reset(file, None),
            (Error::BROKEN_PIPE, Sort::Stream) => {
                self.part(file, false);
                self.rise(file);
            }
            _ => {}
        }
        error
    }
}

/// Connecting.
impl State {
    pub(super) fn listen(&mut self, fd: i32, backlog: u32) -> Result<()> {
        let file = self.stream(fd)?;
        let stream = &self.files[file].stream;
        if stream.peer != NONE || stream.connecting || stream.ended {
            return Err(Error::INVALID);
        }
        self.files[file].sort = Sort::Listener(backlog.max(1));
        Ok(())
    }

    /// EINVAL: it does not.
    #[cfg(feature = "streams")]
    pub(super) fn check_listening(&self, fd: i32) -> Result<()> {
        let file = self.file(fd)?;
        if matches!(self.files[file].sort, Sort::Listener(_)) { Ok(()) } else { Err(Error::INVALID) }
    }

    /// EINPROGRESS: it is tried. EINVAL: it is connected, or was.
    pub(super) fn connect(&mut self, fd: i32, listener: i32) -> Result<()> {
        let file = self.stream(fd)?;
        let listener = self.file(listener)?;
        let stream = &self.files[file].stream;
        if stream.peer != NONE || stream.connecting || stream.ended {
            return Err(Error::INVALID);
        }
        let what = match self.attempt(Call::Connect) {
            Ok(()) => What::Connect { listener, generation: self.files[listener].generation },
            Err(error @ (Error::CONNECTION_REFUSED | Error::CONNECTION_RESET)) => What::Fail(error),
            Err(error) => return Err(error),
        };
        let after = Duration::from_nanos(self.random.up_to(CONNECTED_AFTER.as_nanos()));
        self.at(self.now + after, file, what)?;
        self.files[file].stream.connecting = true;
        Err(Error::IN_PROGRESS)
    }

    /// A connection is there, or is refused.
    pub(super) fn connected(&mut self, file: u32, listener: u32, generation: u32) {
        if !self.files[file].stream.connecting {
            return; // broken off meanwhile
        }
        match self.enqueue(file, listener, generation) {
            Ok(()) => self.files[file].stream.connecting = false,
            Err(_) => self.not_connected(file, Error::CONNECTION_REFUSED),
        }
    }

    /// An attempt to connect has failed.
    pub(super) fn not_connected(&mut self, file: u32, error: Error) {
        let stream = &mut self.files[file].stream;
        if core::mem::take(&mut stream.connecting) {
            stream.ended = true;
            stream.error = error.errno();
            self.rise(file);
        }
    }

    fn enqueue(&mut self, file: u32, listener: u32, generation: u32) -> Result<()> {
        let there = self.files.get(listener as usize).filter(|it| it.generation == generation);
        let queue = match there {
            Some(it) if matches!(it.sort, Sort::Listener(backlog) if it.stream.queue.count < backlog) => {
                it.stream.queue
            }
            _ => return Err(Error::CONNECTION_REFUSED),
        };
        let ours = self.make(Sort::Stream)?;
        match self.files.get_mut(queue.last as usize) {
            Some(last) => last.stream.next = ours,
            None => self.files[listener].stream.queue.first = ours,
        }
        let queue = &mut self.files[listener].stream.queue;
        queue.last = ours;
        queue.count += 1;
        self.join(file, ours);
        self.rise(listener);
        Ok(())
    }

    /// The connection that has waited longest, which stays where it is.
    fn waiting(&self, listener: u32) -> Option<u32> {
        let first = self.files[listener].stream.queue.first;
        (first != NONE).then_some(first)
    }

    /// Takes it out.
    fn dequeue(&mut self, listener: u32) {
        let Some(first) = self.waiting(listener) else { return };
        let next = core::mem::replace(&mut self.files[first].stream.next, NONE);
        let queue = &mut self.files[listener].stream.queue;
        queue.first = next;
        queue.count -= 1;
        if next == NONE {
            queue.last = NONE;
        }
    }

    pub(super) fn accept(&mut self, fd: i32) -> Result<i32> {
        let listener = self.file(fd)?;
        if !matches!(self.files[listener].sort, Sort::Listener(_)) {
            return Err(Error::INVALID);
        }
        if let Err(error) = self.attempt(Call::Accept) {
            match (error, self.waiting(listener)) {
                (Error::CONNECTION_ABORTED, Some(first)) => {
                    self.dequeue(listener);
                    self.reset(first, None);
                    self.discard(first);
                }
                // There was none to be lost.
                (Error::CONNECTION_ABORTED, None) => return Err(Error::AGAIN),
                _ => self.rise(listener),
            }
            return Err(error);
        }
        let first = self.waiting(listener).ok_or(Error::AGAIN)?;
        let accepted = self.name(first)?;
        self.dequeue(listener);
        Ok(accepted)
    }

    /// Who waits to be accepted is reset.
    pub(super) fn stop_listening(&mut self, listener: u32) {
        while let Some(first) = self.waiting(listener) {
            self.dequeue(listener);
            self.reset(first, None);
            self.discard(first);
        }
    }
}
