//! Connections, and the streams over them: a model of what goes to and fro. It knows nothing of how the loop receives and sends,
//! nor of its queue.
//!
//! Checked all along: what a stream receives is what its peer has written, in order, and nothing of it is lost; what the peer
//! reads is what was sent, in order, of each request as much as was told; each request that was queued is done once, in order,
//! and none that was done at once is told of; what is forwarded goes in the same order, and is told of only if it has failed, while
//! its buffer is not free before it was sent, nor later kept than that; END and CONNECTED come once, and CLOSED is the last event, with a reason that
//! something gives; nothing is received while a stream is paused, has ended or keeps too much; a watermark is told when it was
//! passed; what is kept stays as it is; and in the end every request and every buffer is back, and every descriptor is closed.
//! When all is quiet, what can be told was told.
//!
//! When the system sends and receives how much is its affair. Over the network, what was written may arrive later.

use super::operations::System;
use becket::{
    Address, Buffer, Duration, Error, Event, Handle, Handler, Kind, ListenOptions, Loop, Part, Ready, Received,
    SendRequest, Sent, StreamEvent, Vectors,
};
use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;

/// Streams that there are room for at most, and buffers; and bytes of each of these.
pub const STREAMS: usize = 5;
pub const BUFFERS: usize = 4;
pub const BUFFER_BYTES: usize = 256;
/// Connections of a program, at most.
const CONNECTIONS: usize = 10;
/// Listeners of a program, at most.
const LISTENERS: usize = 3;
/// Requests that are in use at once, at most.
const REQUESTS: usize = 16;
/// Bytes of one part of a request: a few of them fill any socket here.
const PART: usize = 1500;
/// What a connection holds at most, that its peer has written.
const UNREAD: u64 = 3_000;

/// What the other ends of connections do. None of it blocks.
pub trait Net: System {
    /// The two ends of a connection, over the network if it is to be `far`.
    fn join(self, far: bool) -> [i32; 2];
    fn write(self, fd: i32, bytes: &[u8]) -> Result<usize, Error>;
    /// 0: the end.
    fn receive(self, fd: i32, bytes: &mut [u8]) -> Result<usize, Error>;
    /// Writes no more.
    fn half_close(self, fd: i32);
    /// Closes it, and the peer is to hear that it was broken off.
    fn break_off(self, fd: i32);
    /// What it is ready for now.
    fn readiness(self, fd: i32) -> Ready;
    /// A socket that is being connected. `None`: not now.
    fn dial(self, listener: i32) -> Option<i32>;
    /// Whose connection was accepted: which of these is the other end.
    fn other_end(self, accepted: i32, all: &[i32]) -> Option<usize>;
    /// Whether a connection to an address goes over the network.
    fn is_far(self) -> bool;
}

/// What requests use while they are under way.
struct Memory {
    requests: [SendRequest; REQUESTS],
    parts: [[Buffer<[u8; PART]>; 2]; REQUESTS],
    vectors: [Buffer<Vectors<2>>; REQUESTS],
}

thread_local! {
    static MEMORY: Cell<Option<&'static Memory>> = const { Cell::new(None) };
}

impl Memory {
    /// A thread's own; another one when a loop that has failed has kept it.
    fn get() -> &'static Memory {
        let memory = MEMORY.get().filter(|it| it.is_back()).unwrap_or_else(|| {
            Box::leak(Box::new(Memory {
                requests: [const { SendRequest::new() }; REQUESTS],
                parts: [const { [const { Buffer::new([0; PART]) }; 2] }; REQUESTS],
                vectors: [const { Buffer::new(Vectors::new()) }; REQUESTS],
            }))
        });
        MEMORY.set(Some(memory));
        memory
    }

    fn is_free(&self, at: usize) -> bool {
        let [one, two] = &self.parts[at];
        !(self.requests[at].is_in_use() || one.is_lent() || two.is_lent() || self.vectors[at].is_lent())
    }

    fn is_back(&self) -> bool {
        (0..REQUESTS).all(|at| self.is_free(at))
    }
}

/// How much of a request is sent in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Total {
    /// All of it.
    Whole,
    /// It was taken back: all, or less.
    Cut,
    /// So much, as was told.
    Told(usize),
    /// It has failed: all, or less, and nothing comes behind it.
    Failed,
}

/// What one request sends.
#[derive(Debug)]
struct Piece {
    number: u64,
    bytes: Vec<u8>,
    /// What the peer has read of it.
    read: usize,
    total: Total,
    /// It is among the requests of the stream.
    queued: bool,
}

/// A connection: our end, which may be a stream's, and the peer's.
#[derive(Debug)]
struct Connection {
    number: u8,
    /// Our end; -1: the loop has closed it.
    ours: i32,
    /// The other; -1: it is closed.
    peer: i32,
    far: bool,
    /// What the peer has written, and what was received of that: counts.
    written: u64,
    received: u64,
    /// The peer writes no more.
    shut: bool,
    /// It is gone; and of what it has written some may be lost.
    gone: bool,
    lossy: bool,
    /// Closing our end breaks it off.
    abrupt: bool,
    /// Why it is gone may have been told already, to a stream that was removed.
    spent: bool,
    /// What was sent, as far as the peer has not read it.
    pieces: VecDeque<Piece>,
    /// What it has read, as far as it is unknown of whom it is.
    unknown: VecDeque<u8>,
    /// Nothing is known of what it reads.
    blurred: bool,
    /// It has read the end.
    peer_ended: bool,
    /// The listener that is to accept it.
    waits_for: Option<Handle>,
    /// Our side has ended, or has said that it will: the peer may read the end.
    may_end: bool,
    stream: Option<Handle>,
}

/// A request under way, as far as is known.
#[derive(Debug)]
struct Request {
    /// `None`: something is forwarded.
    place: Option<usize>,
    piece: u64,
    length: usize,
    cut: bool,
    /// It was cut while it was under way: what is left of it is known later.
    under_way: bool,
    /// Whose buffer is forwarded.
    owner: Handle,
    /// It stood behind one that was told of: sent or not, its buffer may be back with the stream's next event only.
    lazy: bool,
}

impl Request {
    fn new(place: Option<usize>, piece: u64, length: usize, owner: Handle) -> Request {
        Request { place, piece, length, cut: false, under_way: false, owner, lazy: false }
    }

    /// Bytes of it that can be queued.
    fn most(&self) -> u64 {
        if self.cut && !self.under_way { 0 } else { self.length as u64 }
    }

    fn is_forward(&self) -> bool {
        self.place.is_none()
    }
}

#[derive(Debug)]
struct Stream {
    handle: Handle,
    connection: usize,
    /// That it is connected was not told.
    connecting: bool,
    paused: bool,
    closing: bool,
    reset: bool,
    shut: bool,
    ended: bool,
    /// A request has failed, by this.
    broken: Option<i64>,
    /// It has refused to send: that one has failed, or that it is closed, is to be told.
    fails: bool,
    above: bool,
    low_due: bool,
    marks: (u64, u64),
    /// What it sends is gathered; and some of it was.
    batched: bool,
    gathered: bool,
    requests: VecDeque<Request>,
}

impl Stream {
    /// With so many bytes queued, the first of the requests that surely is not done.
    fn first_left(&self, mut queued: u64) -> usize {
        let mut at = self.requests.len();
        while queued > 0 && at > 0 {
            at -= 1;
            queued = queued.saturating_sub(self.requests[at].most());
        }
        at
    }

    /// Whether something may go with a wait.
    fn rides(&self) -> bool {
        self.requests.iter().any(|it| self.gathered || it.is_forward())
    }

    fn sends_no_more(&self) -> bool {
        self.shut || self.closing || self.reset || self.broken.is_some()
    }
}

/// A listener of the loop's.
#[derive(Debug)]
struct Listener {
    handle: Handle,
    fd: i32,
    places: usize,
    for_streams: bool,
    paused: bool,
    /// It has told that it has paused by itself, and no connection has come since.
    stalled: bool,
    /// Connections of this turn.
    turn: u64,
    accepted: u32,
}

/// What was received by the latest event.
struct Current {
    event: Event,
    number: u8,
    from: u64,
}

/// What was kept.
struct Kept {
    received: Received,
    number: u8,
    from: u64,
    owner: Handle,
}

macro_rules! outcomes {
    ($($name:ident)*) => {
        /// How often something came.
        #[derive(Clone, Copy, Default, Debug)]
        pub struct Outcomes { $(pub $name: u64),* }

        impl Outcomes {
            pub fn add(&mut self, other: Outcomes) {
                $(self.$name += other.$name;)*
            }

            /// What has never come.
            pub fn missing(&self) -> Vec<&'static str> {
                let all = [$((stringify!($name), self.$name)),*];
                all.into_iter().filter(|it| it.1 == 0).map(|it| it.0).collect()
            }
        }
    };
}

outcomes! {
    received sent cut gathered failed at_once low ends closed closed_by_error kept all_kept capped timeouts deadlines rests connected
    not_connected accepted stalled forwarded forwarded_kept forwards_full forwards_wait forwards_failed
}

pub struct Streams<N: Net> {
    net: N,
    memory: &'static Memory,
    connections: Vec<Connection>,
    streams: Vec<Stream>,
    listeners: Vec<Listener>,
    /// Where streams are connected to.
    listener: i32,
    address: Address,
    /// The connection that is to be accepted there.
    pending: Option<u8>,
    current: Option<Current>,
    kept: Vec<Kept>,
    room: usize,
    buffers: usize,
    /// The backend receives by itself: what nobody was told of is lost when a stream is removed.
    ahead: bool,
    numbers: u8,
    pieces: u64,
    /// Calls may fail.
    pub faults: bool,
    /// The stream that is looked at has a deadline, and that has passed.
    late: bool,
    pub outcomes: Outcomes,
}

/// The byte at a place of what goes one way: so that none is like its neighbours, nor like that of another connection.
fn byte_at(number: u8, outward: bool, at: u64) -> u8 {
    let mixed = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number) << 8 ^ u64::from(outward);
    (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as u8
}

fn bytes_at(number: u8, outward: bool, from: u64, count: usize) -> Vec<u8> {
    (from..from + count as u64).map(|at| byte_at(number, outward, at)).collect()
}

fn errno(error: Error) -> i64 {
    -i64::from(error.errno())
}

impl Connection {
    /// What the peer has read belongs to what was sent, in order.
    fn match_pieces(&mut self) {
        if self.blurred {
            self.unknown.clear();
        }
        while let Some(piece) = self.pieces.front_mut() {
            let most = match piece.total {
                Total::Whole | Total::Failed => piece.bytes.len(),
                Total::Told(count) => count,
                // What is behind it may be the next one's.
                Total::Cut => return,
            };
            while piece.read < most
                && let Some(byte) = self.unknown.pop_front()
            {
                assert_eq!(byte, piece.bytes[piece.read], "another byte was read than was sent: {:?}", self.ours);
                piece.read += 1;
            }
            assert!(piece.read <= most, "more was sent than was told");
            if piece.read < most || piece.total == Total::Failed {
                break;
            }
            self.pieces.pop_front();
        }
        let failed = self.pieces.front().is_some_and(|it| it.total == Total::Failed);
        let none = self.pieces.is_empty() || failed && self.pieces[0].read == self.pieces[0].bytes.len();
        assert!(!none || self.unknown.is_empty(), "bytes that nobody has sent");
    }

    /// The peer reads: what came of it.
    fn read<N: Net>(&mut self, net: N, most: usize) -> Result<usize, Error> {
        let mut bytes = vec![0; most.max(1)];
        let answer = net.receive(self.peer, &mut bytes);
        match answer {
            Ok(0) => {
                assert!(self.may_end, "the end of a stream that has none: {self:?}");
                self.peer_ended = true;
            }
            Ok(count) => {
                assert!(!self.peer_ended, "more after the end");
                self.unknown.extend(&bytes[..count]);
                self.match_pieces();
            }
            Err(Error::AGAIN | Error::INTERRUPTED | Error::NO_MEMORY) => {}
            Err(error) => assert!(self.may_end, "it was broken off by nobody: {error:?} {self:?}"),
        }
        answer
    }

    /// The peer reads all that is there. Whether it has seen the end, in whatever way.
    fn drain<N: Net>(&mut self, net: N) -> bool {
        let mut patience = 0;
        while self.peer >= 0 && patience < 20 {
            match self.read(net, 4096) {
                Ok(0) => return true,
                Ok(_) => patience = 0,
                // (Where calls fail, this may be such a failure.)
                Err(Error::AGAIN | Error::INTERRUPTED | Error::NO_MEMORY) => patience += 1,
                Err(_) => return true,
            }
        }
        false
    }

    /// What the peer has read is all that was sent.
    fn check_complete(&self) {
        let left = self.pieces.iter().find(|it| match it.total {
            Total::Whole => it.read < it.bytes.len(),
            Total::Told(count) => it.read < count,
            Total::Cut | Total::Failed => false,
        });
        assert!(left.is_none(), "sent, and not arrived: {left:?} of {self:?}");
    }
}

impl<N: Net> Streams<N> {
    pub fn new(net: N, room: usize, buffers: usize, ahead: bool) -> Streams<N> {
        let (listener, address) = net.listener();
        Streams {
            net,
            memory: Memory::get(),
            connections: Vec::new(),
            streams: Vec::new(),
            listeners: Vec::new(),
            listener,
            address: address.into(),
            pending: None,
            current: None,
            kept: Vec::new(),
            room,
            buffers,
            ahead,
            numbers: 0,
            pieces: 0,
            faults: false,
            late: false,
            outcomes: Outcomes::default(),
        }
    }

    /// The most buffers that one stream keeps.
    fn cap(&self) -> usize {
        self.buffers.div_ceil(2).min(255)
    }

    fn kept_by(&self, handle: Handle) -> usize {
        self.kept.iter().filter(|it| it.owner == handle).count()
    }

    /// What is forwarded and may not be sent yet, and so may have a buffer.
    fn under_way(&self) -> impl Iterator<Item = &Request> {
        self.streams.iter().flat_map(|it| &it.requests).filter(|it| it.is_forward())
    }

    /// Whether a buffer may come back without a word.
    pub fn is_forwarding(&self) -> bool {
        self.under_way().next().is_some()
    }

    /// What is forwarded and surely is not sent yet.
    fn forwards_left<App>(&self, it: &Loop<'static, App>) -> Vec<Handle> {
        let left = |stream: &Stream| {
            // (One that is closed has none.)
            let queued = it.queued(stream.handle).unwrap_or(0);
            let first = stream.first_left(queued);
            stream.requests.range(first..).filter(|it| it.is_forward()).map(|it| it.owner).collect::<Vec<_>>()
        };
        self.streams.iter().flat_map(left).collect()
    }

    fn stream(&mut self, handle: Handle) -> &mut Stream {
        self.streams.iter_mut().find(|it| it.handle == handle).expect("a live stream")
    }

    fn at(&self, handle: Handle) -> usize {
        self.streams.iter().position(|it| it.handle == handle).expect("a live stream")
    }

    fn connection(&mut self, handle: Handle) -> &mut Connection {
        let at = self.streams[self.at(handle)].connection;
        &mut self.connections[at]
    }

    /// Whether a stream can be told of this error by its system.
    fn may_fail(&self, at: usize, error: i64, connecting: bool) -> bool {
        let connection = &self.connections[at];
        let refused = error == errno(Error::CONNECTION_REFUSED) || error == errno(Error::CONNECTION_RESET);
        if connecting && (refused && self.faults || error == errno(Error::TIMED_OUT) && self.late) {
            return true;
        }
        let broken_off = error == errno(Error::CONNECTION_RESET) || error == errno(Error::BROKEN_PIPE);
        let of_memory = error == errno(Error::NO_MEMORY) || error == errno(Error::TABLE_FULL);
        (connection.gone || self.may_be_aborted(at)) && broken_off || self.faults && of_memory
    }

    /// Whether a connection may have been lost before its peer was there.
    fn may_be_aborted(&self, at: usize) -> bool {
        self.faults && self.connections[at].peer < 0
    }

    /// Whether sending may be over without that having been told.
    fn may_be_broken(&self, stream: &Stream) -> bool {
        self.faults || stream.connecting || self.connections[stream.connection].gone
    }
}

/// Making them.
impl<N: Net> Streams<N> {
    /// A connection whose end nobody has: another one, or one that is there. `None`: there are enough.
    pub fn loose(&mut self, number: u8, far: bool) -> Option<usize> {
        let loose: Vec<usize> = (0..self.connections.len()).filter(|at| self.is_loose(*at)).collect();
        if number.is_multiple_of(4) && !loose.is_empty() || self.connections.len() == CONNECTIONS {
            return loose.get(usize::from(number / 4) % loose.len().max(1)).copied();
        }
        let [ours, peer] = self.net.join(far);
        Some(self.connect(ours, peer, far))
    }

    /// Another connection, with these ends: -1 is to come.
    fn connect(&mut self, ours: i32, peer: i32, far: bool) -> usize {
        self.numbers = self.numbers.wrapping_add(1);
        self.connections.push(Connection {
            number: self.numbers,
            ours,
            peer,
            far,
            written: 0,
            received: 0,
            shut: false,
            gone: false,
            lossy: false,
            abrupt: false,
            spent: false,
            pieces: VecDeque::new(),
            unknown: VecDeque::new(),
            blurred: false,
            peer_ended: false,
            waits_for: None,
            may_end: false,
            stream: None,
        });
        self.connections.len() - 1
    }

    fn is_loose(&self, at: usize) -> bool {
        self.connections[at].stream.is_none() && self.connections[at].ours >= 0
    }

    pub fn fd(&self, connection: usize) -> i32 {
        self.connections[connection].ours
    }

    /// Whether there is room for another stream.
    pub fn has_room(&self) -> bool {
        self.streams.len() < self.room
    }

    pub fn added(&mut self, handle: Handle, connection: usize) {
        self.connections[connection].stream = Some(handle);
        self.streams.push(Stream {
            handle,
            connection,
            connecting: false,
            paused: false,
            closing: false,
            reset: false,
            shut: false,
            ended: false,
            broken: None,
            fails: false,
            above: false,
            low_due: false,
            marks: (16 << 10, 64 << 10),
            batched: false,
            gathered: false,
            requests: VecDeque::new(),
        });
    }

    /// Connects a stream. `None`: it is not tried.
    pub fn dial<App>(
        &mut self,
        it: &Loop<'static, App>,
        within: Duration,
        handler: Handler<'static, App>,
        token: usize,
    ) -> Option<Result<Handle, Error>> {
        self.accept_pending();
        let waits = |number: u8| self.connections.iter().any(|it| it.number == number);
        if self.connections.len() == CONNECTIONS || self.pending.is_some_and(waits) {
            return None;
        }
        self.pending = None;
        // What is left of those that have given up.
        while let Some(fd) = self.net.accept(self.listener) {
            self.net.close(fd);
        }
        Some(it.connect_stream(&self.address, within, handler, token))
    }

    /// A stream is being connected.
    pub fn dialled(&mut self, handle: Handle, fd: i32) {
        let connection = self.connect(fd, -1, self.net.is_far());
        self.pending = Some(self.connections[connection].number);
        self.added(handle, connection);
        self.stream(handle).connecting = true;
    }

    /// Accepts what a stream has connected to.
    pub fn accept_pending(&mut self) {
        let Some(number) = self.pending else { return };
        while let Some(fd) = self.net.accept(self.listener) {
            match self.connections.iter_mut().find(|it| it.number == number) {
                Some(connection) if self.net.other_end(connection.ours, &[fd]).is_some() => {
                    connection.peer = fd;
                    self.pending = None;
                    return;
                }
                _ => assert!(self.net.close(fd)),
            }
        }
    }

    /// A stream is gone: what it has kept is nobody's.
    fn disown(&mut self, handle: Handle) {
        let requests = self.streams.iter_mut().flat_map(|it| &mut it.requests).map(|it| &mut it.owner);
        let owners = self.kept.iter_mut().map(|it| &mut it.owner).chain(requests);
        owners.filter(|it| **it == handle).for_each(|it| *it = Handle::NONE);
    }

    /// Nobody has this connection any more: what the peer has got is looked at, and then it is gone.
    fn finish(&mut self, at: usize) {
        self.connections.swap_remove(at);
        let moved = self.connections.len();
        self.streams.iter_mut().filter(|it| it.connection == moved).for_each(|it| it.connection = at);
    }

    /// A stream was removed, of which so much was queued: its end of the connection is the program's.
    pub fn removed(&mut self, handle: Handle, queued: u64) {
        let at = self.at(handle);
        let stream = self.streams.remove(at);
        for place in stream.requests.iter().filter_map(|it| it.place) {
            assert!(self.memory.is_free(place), "a request is not back after its stream was removed");
        }
        self.disown(handle);
        let may_be_broken = self.may_be_broken(&stream);
        let ahead = self.ahead;
        // (What was to go with the next wait went now, or never.)
        let rides = ahead && stream.rides();
        let (net, connection) = (self.net, &mut self.connections[stream.connection]);
        connection.stream = None;
        let loses = ahead && (connection.written > connection.received || connection.shut || connection.gone);
        connection.spent = connection.gone;
        if stream.connecting {
            connection.blurred = true;
            connection.match_pieces();
            assert!(net.close(connection.ours), "an end that was the program's is not open");
            self.accept_pending();
            return self.end_peer(stream.connection, false);
        }
        // What was sent has arrived, and the rest will not.
        connection.drain(net);
        let vague = connection.blurred
            || connection.peer < 0
            || connection.far
            || may_be_broken
            || rides
            || stream.requests.iter().any(|it| it.cut);
        if vague || stream.reset || stream.broken.is_some() {
            connection.blurred = true;
        } else {
            let left = |it: &Piece| if it.queued { it.bytes.len() - it.read } else { 0 };
            let unread: usize = connection.pieces.iter().map(left).sum();
            assert_eq!(unread as u64, queued, "what is queued is not what is left: {connection:?}");
        }
        if !connection.blurred {
            connection.pieces.retain(|it| !it.queued);
            connection.check_complete();
        }
        connection.pieces.clear();
        connection.match_pieces();
        if loses || stream.shut || stream.reset || stream.closing || stream.broken.is_some() {
            // Nothing can be sent any more, or something may be missing.
            connection.blurred = true;
            let ours = connection.ours;
            assert!(net.close(ours), "an end that was the program's is not open");
            self.end_peer(stream.connection, false);
        }
    }

    /// Our end is closed: so is the other. `graceful`: after all was sent.
    fn end_peer(&mut self, at: usize, graceful: bool) {
        let (net, connection) = (self.net, &mut self.connections[at]);
        connection.may_end = true;
        if connection.peer >= 0 {
            let mut ended = connection.drain(net);
            // (The network takes its time, on a busy machine most of all.)
            for _ in 0..20_000 {
                if ended || !connection.far {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_micros(100));
                ended = connection.drain(net);
            }
            assert!(ended, "our end is not closed: {connection:?}");
            if graceful {
                connection.check_complete();
            }
            net.close(connection.peer);
        }
        self.finish(at);
    }
}

/// Steps.
impl<N: Net> Streams<N> {
    /// Which request is used next; `None`: all are in use.
    fn free_request(&self) -> Option<usize> {
        let used = |at: usize| self.streams.iter().any(|it| it.requests.iter().any(|it| it.place == Some(at)));
        let place = (0..REQUESTS).find(|at| !used(*at))?;
        assert!(self.memory.is_free(place), "a request that is done is not back");
        Some(place)
    }

    pub fn send<App>(&mut self, it: &Loop<'static, App>, handle: Handle, [b, c]: [u8; 2]) {
        let Some(place) = self.free_request() else { return };
        let at = self.at(handle);
        let connection = self.streams[at].connection;
        let Memory { requests, parts, vectors } = self.memory;
        let length = match b {
            0..8 => 0,
            8..100 => usize::from(b),
            _ => usize::from(b - 99) * 9,
        };
        let two = c.is_multiple_of(3);
        let first = if two { length * usize::from(c) / 256 } else { length };
        self.pieces += 1;
        let number = self.pieces;
        let bytes = bytes_at(self.connections[connection].number, true, number << 12, length);
        for (part, range) in parts[place].iter().zip([0..first, first..length]) {
            part.with(|part| part[..range.len()].copy_from_slice(&bytes[range])).expect("it is nobody's");
        }
        let before = it.queued(handle).expect("a live stream");
        let answer = if two {
            let [one, other] = &parts[place];
            let list = [Part { buffer: one, range: 0..first }, Part { buffer: other, range: 0..length - first }];
            it.send_stream_parts(handle, &requests[place], &vectors[place], &list)
        } else {
            it.send_stream(handle, &requests[place], &parts[place][0], 0..length)
        };
        if !self.goes(at, answer, before) {
            assert!(self.memory.is_free(place), "a request that was refused is not back");
            return;
        }
        let queued = it.queued(handle).expect("a live stream");
        let above = queued > self.streams[at].marks.1;
        let piece = Piece { number, bytes, read: 0, total: Total::Whole, queued: false };
        self.connections[connection].pieces.push_back(piece);
        match answer {
            Ok(Sent::Done) => {
                assert!(!self.streams[at].batched, "done at once, and gathered: {:?}", self.streams[at]);
                let alone = self.streams[at].requests.iter().all(Request::is_forward) && queued == 0;
                assert!(alone, "done before those in front of it: {:?}", self.streams[at]);
                assert!(self.memory.is_free(place), "a request that is done is not back");
                self.sent_silently(at, usize::MAX, true);
                self.outcomes.at_once += 1;
            }
            Ok(sent) => {
                let may_fail = self.may_be_broken(&self.streams[at]);
                // (What has just failed is queued with nothing left of it.)
                assert!(requests[place].is_in_use(), "it is queued, and not in use");
                assert!(sent == if above { Sent::Full } else { Sent::Queued }, "{sent:?} with {queued} queued");
                assert!(
                    queued > 0 || may_fail || length == 0 || !self.streams[at].requests.is_empty(),
                    "nothing is left of it"
                );
                self.connections[connection].pieces.back_mut().expect("it is there").queued = true;
                self.streams[at].above |= above;
                self.streams[at].gathered |= self.streams[at].batched;
                self.streams[at].requests.push_back(Request::new(Some(place), number, length, Handle::NONE));
            }
            Err(error) => panic!("sending: {error:?}"),
        }
    }

    /// What a stream that had so much queued has said to something that is to be sent. Whether it goes.
    fn goes(&mut self, at: usize, answer: Result<Sent, Error>, before: u64) -> bool {
        let stream = &self.streams[at];
        let refused = stream.sends_no_more();
        if answer == Err(Error::BROKEN_PIPE) {
            assert!(refused || self.may_be_broken(stream), "it sends no more: {stream:?}");
            self.streams[at].fails |= !refused;
            return false;
        }
        assert!(!refused, "it sends though it must not: {answer:?} {stream:?}");
        // Nor had it failed before.
        self.settle_forwards(at, before, true);
        true
    }

    /// The program forwards what the latest event has told of, or some of it. `sure`: it still is the latest.
    pub fn forward<App>(&mut self, it: &Loop<'static, App>, handle: Handle, [b, c]: [u8; 2], sure: bool) {
        let Some(Current { event, number, from }) = self.current.take() else { return };
        let at = self.at(handle);
        let before = it.queued(handle).expect("a live stream");
        let length = event.value as usize;
        if c % 32 == 31 {
            let answer = it.forward(handle, &event, 0..length + 1);
            let broken = answer == Err(Error::BROKEN_PIPE);
            let may = if broken { !self.goes(at, answer, before) } else { answer == Err(Error::INVALID) };
            assert!(may || !sure && answer == Err(Error::STALE), "more than it has: {answer:?}");
            self.current = Some(Current { event, number, from });
            return;
        }
        let range = Self::some_of(length, b, c);
        let answer = it.forward(handle, &event, range.clone());
        if answer == Err(Error::STALE) {
            return assert!(!sure, "the latest cannot be forwarded");
        }
        if !self.goes(at, answer, before) {
            self.current = Some(Current { event, number, from });
            return;
        }
        let again = it.forward(handle, &event, range.clone());
        assert!(matches!(again, Err(Error::STALE | Error::BROKEN_PIPE)), "forwarded twice: {again:?}");
        assert!(matches!(it.keep(&event).map(|_| ()), Err(Error::STALE)), "forwarded, and kept");
        let live = self.streams.iter().any(|it| it.handle == event.source);
        let owner = if live { event.source } else { Handle::NONE };
        self.outcomes.forwarded += 1;
        self.forwards(it, at, answer, bytes_at(number, false, from + range.start as u64, range.len()), owner);
    }

    /// It forwards what it has kept, or some of that.
    pub fn forward_kept<App>(&mut self, it: &Loop<'static, App>, handle: Handle, [b, c]: [u8; 2]) {
        if self.kept.is_empty() {
            return;
        }
        let Kept { received, number, from, owner } = self.kept.swap_remove(usize::from(b) % self.kept.len());
        assert!(*received == bytes_at(number, false, from, received.len())[..], "what was kept has changed");
        let at = self.at(handle);
        let before = it.queued(handle).expect("a live stream");
        let wrong = c % 32 == 31;
        let range = if wrong { 0..received.len() + 1 } else { Self::some_of(received.len(), b, c) };
        let (answer, received) = match it.forward_kept(handle, received, range.clone()) {
            Ok(sent) => (Ok(sent), None),
            Err((error, received)) => (Err(error), Some(received)),
        };
        if let Some(received) = received {
            assert!(if wrong { answer == Err(Error::INVALID) } else { !self.goes(at, answer, before) }, "{answer:?}");
            self.kept.push(Kept { received, number, from, owner });
            return;
        }
        assert!(!wrong && self.goes(at, answer, before), "more than there is");
        self.outcomes.forwarded_kept += 1;
        self.forwards(it, at, answer, bytes_at(number, false, from + range.start as u64, range.len()), owner);
    }

    /// Most often all of what has this length.
    fn some_of(length: usize, b: u8, c: u8) -> Range<usize> {
        let start = if b.is_multiple_of(3) { length * usize::from(b) / 256 } else { 0 };
        let end = if c.is_multiple_of(3) { length - (length - start) * usize::from(c) / 256 } else { length };
        start..end
    }

    /// Something is forwarded: the queue has it, or it is sent.
    fn forwards<App>(
        &mut self,
        it: &Loop<'static, App>,
        at: usize,
        answer: Result<Sent, Error>,
        bytes: Vec<u8>,
        owner: Handle,
    ) {
        let queued = it.queued(self.streams[at].handle).expect("a live stream");
        let stream = &mut self.streams[at];
        let above = queued > stream.marks.1;
        assert!(answer == Ok(if above { Sent::Full } else { Sent::Done }), "{answer:?} with {queued} queued");
        stream.above |= above;
        self.pieces += 1;
        let (number, length) = (self.pieces, bytes.len());
        stream.requests.push_back(Request::new(None, number, length, owner));
        let piece = Piece { number, bytes, read: 0, total: Total::Whole, queued: true };
        self.connections[stream.connection].pieces.push_back(piece);
        self.outcomes.forwards_full += u64::from(above);
        self.outcomes.forwards_wait += u64::from(queued > 0 && length > 0);
        self.settle_forwards(at, queued, false);
    }

    /// With so much queued: what was forwarded, and was sent, is not under way any more. `works`: nothing had failed then.
    fn settle_forwards(&mut self, at: usize, queued: u64, works: bool) {
        let stream = &self.streams[at];
        // Where sending has failed nothing is queued either.
        if queued == 0 && !works && (self.may_be_broken(stream) || stream.reset || stream.broken.is_some()) {
            return;
        }
        let sent = stream.requests.range(..stream.first_left(queued)).rposition(|it| it.most() > 0);
        let sure = stream.requests.iter().take_while(|it| !it.lazy).count();
        self.sent_silently(at, sent.map_or(0, |sent| sent + 1).min(sure), true);
    }

    /// What was forwarded, and is among so many first requests and in front of those of the program's, was sent, or (not `whole`)
    /// some of it may not have been.
    fn sent_silently(&mut self, at: usize, count: usize, whole: bool) {
        let stream = &mut self.streams[at];
        let connection = &mut self.connections[stream.connection];
        let forwards = stream.requests.iter().take_while(|it| it.is_forward()).count();
        for Request { piece, .. } in stream.requests.drain(..count.min(forwards)) {
            if let Some(piece) = connection.pieces.iter_mut().find(|it| it.number == piece) {
                piece.queued = false;
                if !whole {
                    piece.total = Total::Cut;
                }
            }
        }
        connection.match_pieces();
    }

    pub fn batch<App>(&mut self, it: &Loop<'static, App>, handle: Handle, on: bool) {
        assert_eq!(it.batch_stream(handle, on), Ok(()));
        self.stream(handle).batched = on;
    }

    pub fn cancel<App>(&mut self, it: &Loop<'static, App>, handle: Handle, which: u8) {
        let at = self.at(handle);
        let before = it.queued(handle).expect("a live stream");
        let ahead = self.ahead;
        let stream = &mut self.streams[at];
        let count = stream.requests.iter().filter(|it| !it.is_forward()).count();
        if count == 0 {
            // One that is not queued: nothing happens.
            assert_eq!(it.cancel_send(handle, &self.memory.requests[0]), Ok(()));
            return;
        }
        let all = (0..stream.requests.len()).filter_map(|at| Some((at, stream.requests[at].place?)));
        let (chosen, place) = all.clone().nth(usize::from(which) % count).expect("one of them");
        let piece = stream.requests[chosen].piece;
        assert_eq!(it.cancel_send(handle, &self.memory.requests[place]), Ok(()));
        stream.requests[chosen].cut = true;
        let connection = &mut self.connections[stream.connection];
        if let Some(piece) = connection.pieces.iter_mut().find(|it| it.number == piece && it.total == Total::Whole) {
            piece.total = Total::Cut;
        }
        let now = it.queued(handle).expect("a live stream");
        assert!(now <= before, "cancelling adds to what is queued");
        let behind: u64 = stream.requests.range(chosen + 1..).map(Request::most).sum();
        let request = &mut stream.requests[chosen];
        request.under_way = ahead && now == before && now == behind + request.length as u64;
        self.outcomes.cut += 1;
    }

    pub fn pause<App>(&mut self, it: &Loop<'static, App>, handle: Handle, on: bool) {
        assert_eq!(if on { it.pause_stream(handle) } else { it.resume_stream(handle) }, Ok(()));
        self.stream(handle).paused = on;
    }

    pub fn shut<App>(&mut self, it: &Loop<'static, App>, handle: Handle) {
        let answer = it.shutdown_stream(handle);
        let stream = &self.streams[self.at(handle)];
        if stream.shut || stream.closing {
            assert_eq!(answer, Ok(()));
        } else if stream.reset || stream.broken.is_some() || answer != Ok(()) {
            let may = stream.reset || self.may_be_broken(stream);
            assert!(may && answer == Err(Error::BROKEN_PIPE), "no more to be sent: {answer:?} {stream:?}");
            return;
        }
        self.stream(handle).shut = true;
        self.connection(handle).may_end = true;
    }

    pub fn close<App>(&mut self, it: &Loop<'static, App>, handle: Handle) {
        assert_eq!(it.close_stream(handle), Ok(()));
        self.stream(handle).closing = true;
        self.connection(handle).may_end = true;
    }

    pub fn reset<App>(&mut self, it: &Loop<'static, App>, handle: Handle) {
        assert_eq!(it.reset_stream(handle), Ok(()));
        self.stream(handle).reset = true;
        self.connection(handle).may_end = true;
    }

    pub fn set_marks<App>(&mut self, it: &Loop<'static, App>, handle: Handle, [b, c]: [u8; 2]) {
        let queued = it.queued(handle).expect("a live stream");
        // (At times just as much as is queued.)
        let high = if c % 4 == 3 { queued as u32 } else { u32::from(c) * 4 };
        let low = if b % 4 == 3 { high } else { u32::from(b) * 2 };
        let answer = it.set_watermarks(handle, low, high);
        if low > high {
            assert_eq!(answer, Err(Error::INVALID));
            return;
        }
        assert_eq!(answer, Ok(()));
        let stream = self.stream(handle);
        stream.marks = (low.into(), high.into());
        stream.above |= queued > u64::from(high);
    }

    /// The program keeps what the latest event has told of. `sure`: it still is the latest.
    pub fn keep<App>(&mut self, it: &Loop<'static, App>, sure: bool) {
        let Some(Current { event, number, from }) = self.current.take() else { return };
        match it.keep(&event) {
            Ok(received) => {
                assert_eq!(received.len() as i64, event.value, "how much was received");
                assert!(
                    *received == bytes_at(number, false, from, received.len())[..],
                    "what was received has changed"
                );
                assert_eq!(it.keep(&event).map(|_| ()), Err(Error::STALE), "kept twice");
                let live = self.streams.iter().any(|it| it.handle == event.source);
                let owner = if live { event.source } else { Handle::NONE };
                self.kept.push(Kept { received, number, from, owner });
                self.outcomes.kept += 1;
                self.outcomes.all_kept += u64::from(self.kept.len() == self.buffers);
                self.outcomes.capped += u64::from(live && self.kept_by(owner) == self.cap());
            }
            Err(error) => assert!(!sure && error == Error::STALE, "the latest cannot be kept: {error:?}"),
        }
    }

    /// What the latest event has told of is looked at, if it still can be, and is not needed any more. Whether it was.
    pub fn look_at_current<App>(&mut self, it: &Loop<'static, App>, sure: bool) -> bool {
        let Some(Current { event, number, from }) = self.current.take() else { return false };
        if !sure || event.value % 3 == 0 {
            return false; // (what becomes of it is the loop's affair)
        }
        let same = it.received(&event, |bytes| *bytes == bytes_at(number, false, from, event.value as usize)[..]);
        assert_eq!(same, Ok(true), "what was received is not what was written");
        true
    }

    pub fn release<App>(&mut self, it: &Loop<'static, App>, which: u8) {
        if self.kept.is_empty() {
            return;
        }
        let kept = self.kept.swap_remove(usize::from(which) % self.kept.len());
        self.give_back(it, kept);
    }

    fn give_back<App>(&self, it: &Loop<'static, App>, Kept { received, number, from, .. }: Kept) {
        assert!(*received == bytes_at(number, false, from, received.len())[..], "what was kept has changed");
        assert_eq!(it.release(received), Ok(()));
    }
}

/// What peers do.
impl<N: Net> Streams<N> {
    pub fn pick_peer(&self, number: u8) -> Option<usize> {
        let with_peer = || (0..self.connections.len()).filter(|at| self.connections[*at].peer >= 0);
        let count = with_peer().count();
        with_peer().nth(usize::from(number) % count.max(1))
    }

    pub fn peer_writes(&mut self, at: usize, [b, c]: [u8; 2]) {
        let connection = &mut self.connections[at];
        if connection.shut || connection.written - connection.received > UNREAD {
            return;
        }
        let length = if c.is_multiple_of(4) { usize::from(b) * 5 + 1 } else { usize::from(b) + 1 };
        let bytes = bytes_at(connection.number, false, connection.written, length);
        match self.net.write(connection.peer, &bytes) {
            Ok(count) => connection.written += count as u64,
            Err(Error::AGAIN | Error::INTERRUPTED) => {}
            Err(error) => {
                let ended = connection.stream.is_none_or(|handle| {
                    self.streams.iter().any(|it| it.handle == handle && (it.closing || it.reset || it.broken.is_some()))
                });
                assert!(ended || self.faults, "the peer cannot write: {error:?}");
            }
        }
    }

    pub fn peer_reads(&mut self, at: usize, b: u8) {
        let _ = self.connections[at].read(self.net, 1 + usize::from(b) * 8);
    }

    pub fn peer_ends(&mut self, at: usize, how: u8) {
        let (net, connection) = (self.net, &mut self.connections[at]);
        if connection.ours < 0 || connection.waits_for.is_some() {
            return; // whose it is has to be known first
        }
        match how % 4 {
            0 | 1 => {
                if !connection.shut {
                    net.half_close(connection.peer);
                    connection.shut = true;
                }
                return;
            }
            2 => {
                // What is unread at a close breaks the connection off.
                connection.drain(net);
                connection.lossy |= net.readiness(connection.peer).contains(Ready::READABLE) || connection.far;
                net.close(connection.peer);
            }
            _ => {
                connection.lossy = true;
                net.break_off(connection.peer);
            }
        }
        connection.peer = -1;
        (connection.shut, connection.gone) = (true, true);
    }

    /// How much an end holds, where that can be told.
    pub fn narrow(&self, number: u8, bytes: u8) {
        if let Some(at) = self.pick_peer(number) {
            self.net.set_room(self.connections[at].peer, 1 + usize::from(bytes));
        }
    }
}

/// Events.
impl<N: Net> Streams<N> {
    /// Bytes of this stream's that are queued: what is to be told of them.
    fn look_at_mark<App>(&mut self, it: &Loop<'static, App>, handle: Handle) {
        let queued = it.queued(handle).expect("a live stream");
        let at = self.at(handle);
        let stream = &mut self.streams[at];
        let most: usize = stream.requests.iter().map(|it| it.length).sum();
        assert!(queued <= most as u64, "{queued} bytes are queued, of {most}");
        if stream.above && queued <= stream.marks.0 {
            stream.above = false;
            stream.low_due = true;
        }
    }

    /// What is looked at after every step.
    pub fn glance<App>(&mut self, it: &Loop<'static, App>) {
        for at in 0..self.streams.len() {
            let handle = self.streams[at].handle;
            self.look_at_mark(it, handle);
            self.settle_forwards(at, it.queued(handle).expect("a live stream"), false);
        }
        let left = it.buffers_left().expect("a number") as usize;
        let sure = self.kept.len() + self.forwards_left(it).len();
        let most = self.kept.len() + self.under_way().count();
        let taken = self.buffers - left;
        assert!(
            (sure..=most).contains(&taken),
            "{taken} buffers are taken, and {sure} to {most} are kept or sent from"
        );
    }

    /// Whether a stream surely receives, or would if something was there.
    pub fn receives(&self, handle: Handle) -> bool {
        let stream = &self.streams[self.at(handle)];
        let silent = stream.paused || stream.ended || stream.closing || stream.reset || stream.connecting;
        let of_it = self.under_way().filter(|it| it.owner == handle).count();
        !silent
            && self.kept_by(handle) + of_it < self.cap()
            && self.kept.len() + self.under_way().count() < self.buffers
    }

    /// Whether a stream keeps the loop alive.
    pub fn is_alive(&self, handle: Handle) -> bool {
        self.receives(handle) || self.streams[self.at(handle)].connecting
    }

    /// An event of a stream came: may it be? `idle`: its idle timeout, and when it last had an event. Whether it was the last.
    /// `late`: its deadline has passed.
    pub fn note<App>(
        &mut self,
        it: &Loop<'static, App>,
        event: &Event,
        now: u64,
        idle: Option<(u64, u64)>,
        late: bool,
    ) -> bool {
        let at = self.at(event.source);
        self.late = late;
        let word = Ready::TIMEOUT | Ready::DEADLINE;
        let words = usize::from(event.stream.is_some()) + (event.ready & word).iter().count();
        let triggered = event.ready.contains(Ready::TRIGGERED);
        assert!(words == 1 || words == 0 && triggered, "an event tells one thing: {event:?}");
        assert!((event.ready - word - Ready::TRIGGERED).is_empty(), "{event:?}");
        if event.stream != Some(StreamEvent::Sent) {
            self.streams[at].requests.iter_mut().for_each(|it| it.lazy = false);
        }
        if event.stream != Some(StreamEvent::Closed) {
            self.look_at_mark(it, event.source);
        }
        let valued = matches!(event.stream, Some(StreamEvent::Data | StreamEvent::Sent | StreamEvent::Closed));
        assert!(valued || event.value == 0, "{event:?}");
        match event.stream {
            Some(StreamEvent::Data) => self.data_came(it, event, at),
            Some(StreamEvent::End) => self.end_came(at),
            Some(StreamEvent::Sent) => self.sent_came(event, at),
            Some(StreamEvent::Low) => {
                let stream = &mut self.streams[at];
                assert!(std::mem::take(&mut stream.low_due), "not above the high watermark, or not below the low one");
                assert!(!stream.closing && !stream.reset, "a watermark of one that closes");
                self.outcomes.low += 1;
            }
            Some(StreamEvent::Connected) => {
                let stream = &mut self.streams[at];
                assert!(!stream.closing && !stream.reset && !stream.ended, "connected, and closed: {stream:?}");
                assert!(std::mem::take(&mut stream.connecting), "connected twice: {stream:?}");
                self.outcomes.connected += 1;
            }
            Some(StreamEvent::Closed) => {
                self.closed_came(event, at);
                return true;
            }
            None => {
                if event.ready.contains(Ready::TIMEOUT) {
                    let (span, last) = idle.expect("an idle timeout that nobody asked for");
                    assert!(now >= last.saturating_add(span), "idle for {span} from {last}, and it is {now}");
                    self.outcomes.timeouts += 1;
                }
                self.outcomes.deadlines += u64::from(event.ready.contains(Ready::DEADLINE));
            }
        }
        false
    }

    fn data_came<App>(&mut self, it: &Loop<'static, App>, event: &Event, at: usize) {
        let stream = &self.streams[at];
        assert!(!stream.connecting, "data before it is connected");
        let silent = stream.paused || stream.ended || stream.closing || stream.reset;
        assert!(!silent, "data that nobody wants: {stream:?}");
        let left = self.forwards_left(it);
        let of_it = left.iter().filter(|it| **it == event.source).count();
        assert!(self.kept_by(event.source) + of_it < self.cap(), "data though it has kept enough: {stream:?}");
        assert!(self.kept.len() + left.len() < self.buffers, "data though no buffer is left");
        let connection = &mut self.connections[stream.connection];
        let most = connection.written - connection.received;
        let fits = event.value > 0 && event.value as usize <= BUFFER_BYTES && event.value as u64 <= most;
        assert!(fits, "{} bytes came, of {most}", event.value);
        self.current = Some(Current { event: *event, number: connection.number, from: connection.received });
        connection.received += event.value as u64;
        self.outcomes.received += event.value as u64;
    }

    fn end_came(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        let silent = stream.paused || stream.ended || stream.closing || stream.reset || stream.connecting;
        assert!(!silent, "an end that nobody wants: {stream:?}");
        stream.ended = true;
        // (What rode with the wait may have found why: that is told next.)
        let rides = self.ahead && stream.rides();
        let (at, broken) = (stream.connection, stream.broken.is_some() || rides);
        let connection = &self.connections[at];
        assert!(connection.shut || self.may_be_aborted(at), "the peer has not ended");
        let whole = connection.written == connection.received || connection.lossy && (broken || connection.spent);
        assert!(whole, "the end before {} bytes", connection.written - connection.received);
        self.outcomes.ends += 1;
    }

    fn sent_came(&mut self, event: &Event, at: usize) {
        let of_forward = !self.memory.requests.iter().any(|it| it.is_of(event));
        if !of_forward {
            // What was in front of it had no event, since it was sent, or since the stream is closed.
            self.sent_silently(at, usize::MAX, event.value >= 0);
        }
        let stream = &mut self.streams[at];
        let request = stream.requests.pop_front().expect("a request that is not, or that is told twice");
        assert_eq!(request.is_forward(), of_forward, "requests are done in their order: {event:?}");
        if let Some(place) = request.place {
            assert!(self.memory.requests[place].is_of(event), "requests are done in their order: {event:?}");
            assert!(self.memory.is_free(place), "a request that is done is not back");
        } else {
            assert!(event.value < 0 && !stream.reset, "what was forwarded is told of: {event:?}");
            self.outcomes.forwards_failed += 1;
        }
        stream.requests.iter_mut().for_each(|it| it.lazy = it.is_forward());
        let Request { piece, length, cut, .. } = request;
        // It may have been sent, and the next one has failed.
        let vague = of_forward && stream.requests.front().is_some_and(Request::is_forward);
        let (number, value, connecting) = (stream.connection, event.value, stream.connecting);
        if value < 0 {
            let reason =
                if value == errno(Error::CANCELED) { stream.reset } else { self.may_fail(number, value, connecting) };
            let stream = &mut self.streams[at];
            assert!(reason, "it fails by itself: {event:?} {stream:?}");
            let same = stream.broken.is_none_or(|error| error == value);
            assert!(same, "two reasons: {event:?} {stream:?}");
            stream.broken = Some(value);
            self.outcomes.failed += 1;
        } else {
            assert!(stream.broken.is_none(), "sent after one that has failed: {event:?}");
            let fits = if cut { value <= length as i64 } else { value == length as i64 };
            assert!(fits, "{value} bytes were sent, of {length}; cut: {cut}");
            self.outcomes.sent += 1;
            self.outcomes.gathered += u64::from(stream.batched);
        }
        let connection = &mut self.connections[number];
        match connection.pieces.iter_mut().find(|it| it.number == piece) {
            Some(it) => {
                it.queued = false;
                it.total = match value {
                    _ if vague => Total::Cut,
                    ..0 => Total::Failed,
                    _ => Total::Told(value as usize),
                };
            }
            None => assert!(
                value == length as i64 || value < 0 || connection.blurred,
                "all of it was read: {value} of {length}"
            ),
        }
        connection.match_pieces();
    }

    fn closed_came(&mut self, event: &Event, at: usize) {
        let value = event.value;
        // What was forwarded, and has failed, is not told of before this.
        let forwards = self.streams[at].requests.front().is_some_and(Request::is_forward);
        self.sent_silently(at, usize::MAX, value == 0);
        let stream = self.streams.remove(at);
        assert!(stream.requests.is_empty(), "requests were not done: {stream:?}");
        let connection = &self.connections[stream.connection];
        let whole = connection.written == connection.received;
        if value == 0 {
            assert!(stream.closing && stream.broken.is_none(), "it ends by itself: {stream:?}");
        } else if value == errno(Error::CANCELED) {
            assert!(stream.reset, "nobody has reset it: {stream:?}");
        } else {
            assert!(
                self.may_fail(stream.connection, value, stream.connecting),
                "no reason for that: {event:?} {stream:?}"
            );
            let in_order = !stream.closing || stream.broken == Some(value) || stream.connecting || forwards;
            assert!(in_order, "closed, and not in order: {event:?} {stream:?}");
            self.outcomes.closed_by_error += 1;
        }
        self.outcomes.closed += 1;
        self.outcomes.not_connected += u64::from(stream.connecting && value != 0 && !stream.reset);
        self.accept_pending();
        self.disown(event.source);
        let connection = &mut self.connections[stream.connection];
        connection.stream = None;
        let graceful = value == 0 && whole && !connection.gone && !connection.blurred && !connection.abrupt;
        self.end_peer(stream.connection, graceful);
    }
}

/// When all is quiet.
impl<N: Net> Streams<N> {
    /// Nothing is left to be told: what can be done is done. `due`: whether a stream's deadline has passed, and was not told;
    /// `hidden`: buffers that may be where nobody sees them.
    pub fn check_quiet<App>(&mut self, it: &Loop<'static, App>, due: impl Fn(Handle) -> bool, hidden: bool) {
        let net = self.net;
        self.outcomes.rests += 1;
        for at in 0..self.streams.len() {
            // What has failed was told, and what was sent is not under way.
            let queued = it.queued(self.streams[at].handle).expect("a live stream");
            let stream = &self.streams[at];
            // (One that closes does not tell that it is connected: what it has sent does.)
            let all: u64 = stream.requests.iter().map(Request::most).sum();
            let waits = stream.connecting && (!stream.closing || queued == all);
            let done = if waits { 0 } else { stream.first_left(queued) };
            self.sent_silently(at, done, stream.broken.is_none());
        }
        self.glance(it);
        let taken = self.kept.len() + self.under_way().count();
        let left = it.buffers_left();
        assert_eq!(left, Ok((self.buffers - taken) as u32), "not kept, nor sent from: {:?}", self.streams);
        let silent = self.streams.iter().filter(|it| !self.receives(it.handle)).count();
        for at in 0..self.streams.len() {
            let (stream, connection) = (&self.streams[at], &self.connections[self.streams[at].connection]);
            let queued = it.queued(stream.handle).expect("a live stream");
            assert!(!due(stream.handle), "the deadline has passed: {stream:?}");
            assert!(!stream.reset, "it was reset, and not closed: {stream:?}");
            assert!(!stream.fails || stream.broken.is_some(), "what has failed was not told: {stream:?}");
            let waits = !stream.requests.is_empty();
            assert!(waits || !stream.closing, "it is not closed: {stream:?}");
            assert!(
                !stream.ended || stream.broken.is_none(),
                "neither direction is left, and it is not closed: {stream:?}"
            );
            let low_due = stream.low_due && !stream.closing && stream.broken.is_none();
            assert!(!low_due, "a watermark: {stream:?}");
            if connection.far || stream.connecting {
                continue;
            }
            assert!(!waits || queued > 0, "requests that are done were not told: {stream:?}");
            let writable = net.readiness(connection.ours).contains(Ready::WRITABLE);
            assert!(!waits || !writable, "nobody sends: {stream:?} {connection:?}");
            let left = self.buffers - taken;
            if self.receives(stream.handle) && (!hidden || left > silent) {
                let unread = connection.written - connection.received;
                assert!(unread == 0 || connection.lossy, "nobody receives: {stream:?} {connection:?}");
                assert!(!connection.shut, "the end was not told: {stream:?} {connection:?}");
            }
            if stream.shut && !waits && stream.broken.is_none() && connection.peer >= 0 {
                let at = stream.connection;
                assert!(self.connections[at].drain(net), "no end though it sends no more: {:?}", self.connections[at]);
            }
        }
    }

    /// All that is kept goes back.
    pub fn release_all<App>(&mut self, it: &Loop<'static, App>) {
        self.current = None;
        for kept in std::mem::take(&mut self.kept) {
            self.give_back(it, kept);
        }
    }

    /// Streams whose peers are here: they read all that there is, so that what is queued goes out.
    pub fn peers_read_all(&mut self) {
        self.accept_pending();
        for connection in self.connections.iter_mut().filter(|it| it.peer >= 0) {
            self.net.set_room(connection.peer, 256);
            connection.drain(self.net);
        }
    }

    /// What is alive, in order.
    pub fn handles(&self) -> Vec<Handle> {
        self.streams.iter().map(|it| it.handle).collect()
    }

    /// All listeners.
    pub fn listening(&self) -> Vec<Handle> {
        self.listeners.iter().map(|it| it.handle).collect()
    }

    /// None is left that was closed.
    pub fn is_closed(&self) -> bool {
        !self.streams.iter().any(|it| it.closing && !self.connections[it.connection].far)
    }

    /// Those that were closed, for a message.
    pub fn shows(&self) -> String {
        let closing = self.streams.iter().filter(|it| it.closing);
        closing.map(|it| format!("{it:?} {:?}", self.connections[it.connection])).collect()
    }

    /// No stream is left: nothing is in use.
    pub fn finish_all(&mut self) {
        assert!(self.streams.is_empty() && self.kept.is_empty());
        assert!(self.memory.is_back(), "a request that did not come back");
        while let Some(connection) = self.connections.last() {
            let ours = connection.ours;
            assert!(ours < 0 || self.net.close(ours), "an end that is the program's is not open");
            if ours < 0 && connection.peer >= 0 {
                self.net.close(connection.peer);
                self.connections.last_mut().expect("it is there").peer = -1;
            }
            self.connections.last_mut().expect("it is there").blurred = true;
            self.end_peer(self.connections.len() - 1, false);
        }
    }
}

impl<N: Net> Drop for Streams<N> {
    /// After a failure.
    fn drop(&mut self) {
        self.net.close(self.listener);
        self.listeners.iter().for_each(|it| {
            self.net.close(it.fd);
        });
        for connection in &self.connections {
            for fd in [connection.peer, if connection.stream.is_none() { connection.ours } else { -1 }] {
                if fd >= 0 {
                    self.net.close(fd);
                }
            }
        }
    }
}

/// Listeners.
impl<N: Net> Streams<N> {
    /// A socket that listens, for a listener.
    pub fn new_listener(&self) -> i32 {
        self.net.listener().0
    }

    /// It has become one, or not.
    pub fn listens(&mut self, handle: Option<Handle>, fd: i32, options: &ListenOptions) {
        let Some(handle) = handle else {
            assert!(self.net.close(fd), "what was refused is the program's");
            return;
        };
        self.listeners.push(Listener {
            handle,
            fd,
            places: options.places as usize,
            for_streams: options.streams,
            paused: false,
            stalled: false,
            turn: 0,
            accepted: 0,
        });
    }

    pub fn has_room_for_listener(&self) -> bool {
        self.listeners.len() < LISTENERS
    }

    fn listener_at(&self, handle: Handle) -> usize {
        self.listeners.iter().position(|it| it.handle == handle).expect("a live listener")
    }

    /// Somebody connects to a listener.
    pub fn call(&mut self, handle: Handle) {
        if self.connections.len() == CONNECTIONS {
            return;
        }
        let fd = self.listeners[self.listener_at(handle)].fd;
        if let Some(peer) = self.net.dial(fd) {
            let at = self.connect(-1, peer, self.net.is_far());
            let connection = &mut self.connections[at];
            // (In a simulator there may be too many that wait, and where calls fail some may be lost.)
            (connection.waits_for, connection.may_end) = (Some(handle), !connection.far);
        }
    }

    pub fn pause_listener<App>(&mut self, it: &Loop<'static, App>, handle: Handle, on: bool) {
        assert_eq!(if on { it.pause_listener(handle) } else { it.resume_listener(handle) }, Ok(()));
        let at = self.listener_at(handle);
        self.listeners[at].paused = on;
    }

    /// Whether a listener keeps the loop alive.
    pub fn listens_now(&self, handle: Handle) -> bool {
        !self.listeners[self.listener_at(handle)].paused
    }

    pub fn close_listener<App>(&mut self, it: &Loop<'static, App>, handle: Handle) {
        let answer = it.close_listener(handle);
        // (It is closed all the same.)
        let failed = matches!(answer, Err(Error::INTERRUPTED | Error::TABLE_FULL));
        assert!(answer == Ok(()) || self.faults && failed, "closing a listener: {answer:?}");
        self.stopped(handle, false);
    }

    /// A listener is gone. `left`: its socket is the program's.
    pub fn stopped(&mut self, handle: Handle, left: bool) {
        let listener = self.listeners.remove(self.listener_at(handle));
        if left {
            assert!(self.net.close(listener.fd), "a socket that was the program's is not open");
        }
        while let Some(at) = self.connections.iter().position(|it| it.waits_for == Some(handle)) {
            let connection = &mut self.connections[at];
            self.net.close(connection.peer);
            self.finish(at);
        }
    }

    /// An event of a listener came: may it be? `free`: sources.
    pub fn note_listener<App>(&mut self, it: &Loop<'static, App>, event: &Event, free: usize) {
        let room = self.has_room();
        let at = self.listener_at(event.source);
        let listener = &mut self.listeners[at];
        let places = free >= listener.places && (!listener.for_streams || room);
        let alone = event.ready - Ready::TRIGGERED;
        assert_eq!(event.fd, listener.fd);
        if event.value >= 0 {
            assert!(alone.is_empty() && !listener.paused, "a connection that nobody wants: {event:?} {listener:?}");
            assert!(places, "a connection that has no place: {listener:?}, {free} sources are free");
            let turn = it.statistics().turns;
            if std::mem::replace(&mut listener.turn, turn) != turn {
                listener.accepted = 0;
            }
            listener.accepted += 1;
            assert!(listener.accepted <= 64, "too many in a turn");
            listener.stalled = false;
            let accepted = event.value as i32;
            assert_eq!(event.connection(), Ok(accepted));
            let waits = |it: &Connection| it.waits_for == Some(event.source);
            let all: Vec<usize> = (0..self.connections.len()).filter(|at| waits(&self.connections[*at])).collect();
            let peers: Vec<i32> = all.iter().map(|at| self.connections[*at].peer).collect();
            let found = self.net.other_end(accepted, &peers).expect("a connection of somebody");
            let connection = &mut self.connections[all[found]];
            (connection.ours, connection.waits_for, connection.may_end) = (accepted, None, false);
            connection.abrupt = connection.far; // as the socket is that listens
            self.outcomes.accepted += 1;
            return;
        }
        assert!(event.connection().is_err());
        if alone == Ready::PAUSED {
            let of_places = event.value == errno(Error::TABLE_FULL);
            assert!(if of_places { !places } else { self.faults }, "it pauses by itself: {event:?} {listener:?}");
            assert!(!std::mem::replace(&mut listener.stalled, true), "told twice: {event:?}");
            self.outcomes.stalled += 1;
        } else {
            let nothing = alone.is_empty() && event.ready.contains(Ready::TRIGGERED);
            assert!(nothing && event.value == errno(Error::AGAIN), "an event of nothing: {event:?}");
        }
    }

    /// Whether somebody waits at a listener over the network, who may have come this moment.
    pub fn has_callers(&self) -> bool {
        let waits = |it: &Listener| !it.paused && self.net.readiness(it.fd).contains(Ready::READABLE);
        self.net.is_far() && self.listeners.iter().any(waits)
    }

    /// When all is quiet nobody waits who has a place.
    pub fn check_listeners<App>(&self, it: &Loop<'static, App>, free: usize) {
        for listener in &self.listeners {
            let places = free >= listener.places && (!listener.for_streams || self.has_room());
            let (paused, stalled) = it.listener_paused(listener.handle).expect("a listener");
            assert_eq!(paused, listener.paused);
            assert!(!stalled || !places || self.faults, "it has places, and does not listen: {listener:?}");
            let waits = self.net.readiness(listener.fd).contains(Ready::READABLE);
            assert!(paused || stalled || !waits, "nobody accepts: {listener:?}");
        }
    }

    /// Of a listener that is there.
    pub fn misuse_listener<App>(&self, it: &Loop<'static, App>, handle: Handle, handler: Handler<'static, App>) {
        let fd = self.listeners[self.listener_at(handle)].fd;
        let again = it.listen_fd(fd, &ListenOptions::default(), handler, 0);
        assert!(matches!(again, Err(Error::EXISTS | Error::TABLE_FULL)), "{again:?}");
        assert_eq!(it.listener_fd(handle), Ok(fd));
    }

    pub fn misuse_no_listener<App>(&self, it: &Loop<'static, App>, handle: Handle, error: Error) {
        assert_eq!((it.pause_listener(handle), it.resume_listener(handle)), (Err(error), Err(error)));
        assert_eq!((it.close_listener(handle), it.listener_fd(handle)), (Err(error), Err(error)));
        assert_eq!(it.listener_paused(handle), Err(error));
    }
}

/// Wrong calls.
impl<N: Net> Streams<N> {
    /// Of a handle that names nothing, or something else.
    pub fn misuse<App>(&self, it: &Loop<'static, App>, handle: Handle, error: Error) {
        let memory = self.memory;
        let Some(place) = self.free_request() else { return };
        assert_eq!(it.pause_stream(handle), Err(error));
        assert_eq!(it.resume_stream(handle), Err(error));
        assert_eq!(it.shutdown_stream(handle), Err(error));
        assert_eq!(it.close_stream(handle), Err(error));
        assert_eq!(it.reset_stream(handle), Err(error));
        assert_eq!(it.queued(handle), Err(error));
        assert_eq!(it.set_watermarks(handle, 1, 2), Err(error));
        assert_eq!(it.watermarks(handle), Err(error));
        assert_eq!(it.cancel_send(handle, &memory.requests[place]), Err(error));
        assert_eq!(it.batch_stream(handle, true), Err(error));
        if let Some(current) = &self.current {
            assert_eq!(it.forward(handle, &current.event, 0..1), Err(error));
        }
        assert_eq!(it.send_stream(handle, &memory.requests[place], &memory.parts[place][0], 0..1), Err(error));
        assert!(memory.is_free(place), "a request that was refused is not back");
    }

    /// Of a stream that is there.
    pub fn misuse_stream<App>(&mut self, it: &Loop<'static, App>, handle: Handle, handler: Handler<'static, App>) {
        let at = self.at(handle);
        let fd = self.connections[self.streams[at].connection].ours;
        let expected = if self.has_room() { Error::EXISTS } else { Error::TABLE_FULL };
        assert_eq!(it.add_stream(fd, handler, 0), Err(expected));
        assert_eq!(it.add_stream(-1, handler, 0), Err(Error::BAD_FD));
        assert_eq!(it.kind(handle), Ok(Kind::Stream));
        assert_eq!((it.io_fd(handle), it.find_io(fd)), (Ok(fd), Ok(handle)));
        let (low, high) = self.streams[at].marks;
        assert_eq!(it.watermarks(handle), Ok((low as u32, high as u32)));
        if let Some(place) = self.streams[at].requests.iter().find_map(|it| it.place) {
            let memory = self.memory;
            let free = self.free_request();
            if let Some(free) = free {
                // In use: nothing has changed.
                let busy = it.send_stream(handle, &memory.requests[place], &memory.parts[free][0], 0..1);
                assert_eq!(busy, Err(Error::BUSY));
                assert!(memory.is_free(free));
            }
        }
    }
}
