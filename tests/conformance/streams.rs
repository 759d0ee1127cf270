//! Streams through the Rust API: what is lent comes back, what was received is not overwritten, and each event comes once. (The
//! rest of what they promise is tried from C, on the same backends: `tests/c/streams.c`.)

use crate::harness::*;
use becket::{
    Address, BackendChoice, Buffer, Duration, Error, Event, Handle, Kind, Kinds, Loop, Outcome, Part, Ready, Received,
    SendRequest, Sent, Simulator, SimulatorMemory, Storage, StreamEvent, Streams, Vectors,
};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

each_backend! { simulated too:
    received_and_sent_back
    a_buffer_is_lent_while_it_is_queued
    a_request_is_taken_back
    what_is_gathered_goes_together
    what_is_gathered_and_taken_back_is_not_sent
    what_is_taken_back_on_its_way_is_told_when_it_is_known
    parts_arrive_in_order
    what_is_kept_is_not_overwritten
    a_handler_keeps_what_came_and_removes_its_stream
    what_has_ended_is_shut_down
    an_old_event_tells_of_nothing
    what_was_received_goes_on
    paused_and_resumed
    who_is_paused_by_another_is_told_nothing
    a_half_closed_stream_goes_on
    what_is_removed_gives_everything_back
    a_dropped_loop_gives_everything_back
    a_closed_stream_is_dispatched
    a_stream_keeps_the_loop_alive
    what_goes_on_has_gone_when_a_run_ends
    a_run_does_not_end_before_what_follows_from_what_goes
    what_follows_from_what_goes_is_not_kept_waiting
    misuse_changes_nothing
}

each_backend! {
    a_call_takes_so_many_parts_and_a_turn_so_many_calls
    connected
    datagrams_have_a_sender
    what_is_said_of_a_datagram_is_no_end
    a_datagram_that_is_gathered_is_for_itself
    a_file_is_sent
}

each_backend! { alone:
    a_stream_at_descriptor_0
    more_streams_send_than_go_with_one_wait
}

/// Bytes that no socket of these tests takes at once.
const BIG: usize = 1 << 18;

/// The other end of a stream.
enum Peer {
    Real(UnixStream),
    Simulated(Simulator<'static>, i32),
}

impl Peer {
    fn write(&mut self, bytes: &[u8]) {
        match self {
            Peer::Real(stream) => stream.write_all(bytes).expect("there is room"),
            Peer::Simulated(simulator, fd) => assert_eq!(simulator.write(*fd, bytes), Ok(bytes.len())),
        }
    }

    /// What is there; `None`: the end.
    fn read(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 4096];
        let count = match self {
            Peer::Real(stream) => match stream.read(&mut bytes) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(Vec::new()),
                count => count.expect("no error"),
            },
            Peer::Simulated(simulator, fd) => match simulator.read(*fd, &mut bytes) {
                Err(Error::AGAIN) => return Some(Vec::new()),
                count => count.expect("no error"),
            },
        };
        bytes.truncate(count);
        (count > 0).then_some(bytes)
    }

    fn shut_down(&mut self) {
        match self {
            Peer::Real(stream) => stream.shutdown(std::net::Shutdown::Write).unwrap(),
            Peer::Simulated(simulator, fd) => simulator.shutdown(*fd).unwrap(),
        }
    }
}

fn rig(backend: BackendChoice) -> Rig {
    let config = &virtual_config(backend);
    let storage = Box::leak(Box::new(Storage::<8, 2>::new()));
    let streams = Box::leak(Box::new(Streams::<4, 4, 256>::new()));
    let event_loop = if backend == BackendChoice::Simulator {
        let memory = Box::leak(Box::new(SimulatorMemory::<16, 16>::new()));
        Loop::simulated_with_streams(storage, Simulator::new(memory, 1), streams, config)
    } else {
        Loop::with_streams(storage, streams, config)
    };
    Rig { event_loop: event_loop.expect("a loop"), app: App::default() }
}

/// A stream by that name, and its peer.
fn stream(rig: &mut Rig, name: &str, action: impl FnMut(&mut App, &Loop<App>, Event) + 'static) -> (Handle, Peer) {
    let (fd, peer) = match rig.event_loop.simulator() {
        Some(simulator) => {
            let [ours, theirs] = simulator.pair().expect("there is room");
            (ours, Peer::Simulated(simulator, theirs))
        }
        None => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            theirs.set_nonblocking(true).unwrap();
            (ours.into_raw_fd(), Peer::Real(theirs))
        }
    };
    (add(rig, name, fd, action), peer)
}

fn add(rig: &mut Rig, name: &str, fd: i32, action: impl FnMut(&mut App, &Loop<App>, Event) + 'static) -> Handle {
    let token = rig.app.token(name, action);
    let handle = rig.event_loop.add_stream(fd, handler, token).expect("there is room");
    rig.app.named(token, handle)
}

/// Turns until the trace is as long as this; it is to be this.
fn expect(rig: &mut Rig, trace: &[&str]) {
    while rig.app.trace.len() < trace.len() {
        rig.event_loop.turn(&mut rig.app, Duration::FOREVER).expect("a turn");
    }
    assert_eq!(rig.trace(), trace);
}

fn request() -> &'static SendRequest {
    Box::leak(Box::new(SendRequest::new()))
}

fn holding(bytes: &[u8]) -> &'static Buffer {
    let buffer: &'static Buffer = Box::leak(Box::new(Buffer::new([0; BIG])));
    buffer.with(|it| it[..bytes.len()].copy_from_slice(bytes)).unwrap();
    buffer
}

/// Notes what was received.
fn reads(app: &mut App, event_loop: &Loop<App>, event: Event) {
    if event.stream == Some(StreamEvent::Data) {
        let text = event_loop.received(&event, |data| String::from_utf8_lossy(data).into_owned());
        app.note(text.expect("it is the latest"));
    }
}

fn end(rig: &mut Rig, name: &str, handle: Handle) {
    rig.event_loop.close_stream(handle).unwrap();
    expect(rig, &[&format!("{name} closed 0")]);
    assert_eq!(rig.event_loop.close_stream(handle), Err(Error::STALE));
}

fn received_and_sent_back(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer) = stream(&mut rig, "it", reads);
    assert_eq!(rig.event_loop.kind(handle), Ok(Kind::Stream));
    assert_eq!(rig.turn(), [""; 0]);
    peer.write(b"hello");
    expect(&mut rig, &["it data 5", "hello"]);
    let (request, buffer) = (request(), holding(b"back"));
    assert_eq!(rig.event_loop.send_stream(handle, request, buffer, 0..4), Ok(Sent::Done));
    assert!(!request.is_in_use() && !buffer.is_lent());
    assert_eq!(peer.read(), Some(b"back".to_vec()));
    peer.shut_down();
    expect(&mut rig, &["it end 0"]);
    end(&mut rig, "it", handle);
    assert_eq!(peer.read(), None);
    let statistics = rig.event_loop.statistics();
    assert_eq!((statistics.events_of(Kind::Stream), statistics.stale_dropped), (3, 0));
}

fn a_buffer_is_lent_while_it_is_queued(backend: BackendChoice) {
    let mut rig = rig(backend);
    let first = request();
    let (handle, mut peer) = stream(&mut rig, "it", move |app, _, event| {
        if event.stream == Some(StreamEvent::Sent) {
            app.note(if first.is_of(&event) { "the first" } else { "another" });
        }
    });
    let (second, buffer, small) = (request(), holding(b""), holding(b"x"));
    rig.event_loop.set_watermarks(handle, 10, BIG as u32 - 1).unwrap();
    assert_eq!(rig.event_loop.watermarks(handle), Ok((10, BIG as u32 - 1)));
    let sent = rig.event_loop.send_stream(handle, first, buffer, 0..BIG);
    assert_eq!(sent, Ok(Sent::Queued));
    assert!(first.is_in_use() && buffer.is_lent());
    assert_eq!(rig.event_loop.send_stream(handle, first, small, 0..1), Err(Error::BUSY));
    assert!(!small.is_lent());
    assert_eq!(rig.event_loop.send_stream(handle, second, buffer, 0..1), Err(Error::BUSY));
    assert_eq!(rig.event_loop.send_stream(handle, second, small, 1..BIG + 1), Err(Error::INVALID));
    assert!(!second.is_in_use());
    let queued = rig.event_loop.queued(handle).unwrap();
    assert!(queued > 0 && queued < BIG as u64);
    assert_eq!(rig.event_loop.send_stream(handle, second, small, 0..1), Ok(Sent::Queued));
    let mut count = 0;
    while count <= BIG {
        count += peer.read().expect("no end").len();
        rig.event_loop.turn(&mut rig.app, Duration::ZERO).unwrap();
    }
    assert_eq!(count, BIG + 1);
    let first_sent = format!("it sent {BIG}");
    expect(&mut rig, &[&first_sent, "the first", "it sent 1", "another"]);
    assert_eq!(rig.event_loop.statistics().stale_dropped, 0, "whoever sends, and tells nothing, was not dropped");
    assert!(!first.is_in_use() && !second.is_in_use() && !buffer.is_lent() && !small.is_lent());
    end(&mut rig, "it", handle);
}

/// What was not sent of it is not, and what is behind it is.
fn a_request_is_taken_back(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer) = stream(&mut rig, "it", nothing);
    let (first, second, third) = (request(), request(), request());
    let (large, small, last) = (holding(b""), holding(b"nothing"), holding(b"x"));
    rig.event_loop.set_watermarks(handle, 0, 2 * BIG as u32).unwrap();
    assert_eq!(rig.event_loop.send_stream(handle, first, large, 0..BIG), Ok(Sent::Queued));
    let queued = rig.event_loop.queued(handle).unwrap();
    assert!(queued < BIG as u64);
    rig.event_loop.send_stream(handle, second, small, 0..7).unwrap();
    rig.event_loop.send_stream(handle, third, last, 0..1).unwrap();
    assert_eq!(rig.event_loop.cancel_send(handle, second), Ok(()));
    assert_eq!(rig.event_loop.cancel_send(handle, request()), Ok(()));
    assert_eq!(rig.event_loop.queued(handle), Ok(queued + 1));
    assert!(second.is_in_use(), "until its event");
    let mut count = 0;
    while count <= BIG {
        count += peer.read().expect("no end").len();
        rig.event_loop.turn(&mut rig.app, Duration::ZERO).unwrap();
    }
    assert_eq!(count, BIG + 1);
    expect(&mut rig, &[&format!("it sent {BIG}"), "it sent 0", "it sent 1"]);
    assert!(!second.is_in_use() && !small.is_lent());
    end(&mut rig, "it", handle);
    assert_eq!(rig.event_loop.cancel_send(handle, second), Err(Error::STALE));
}

/// A stream whose requests are gathered, its peer, and what to send.
fn gathering(rig: &mut Rig) -> (Handle, Peer, [&'static SendRequest; 3], [&'static Buffer; 3]) {
    let (handle, peer) = stream(rig, "it", nothing);
    rig.event_loop.batch_stream(handle, true).unwrap();
    (handle, peer, [(); 3].map(|()| request()), [b"ab", b"cd", b"ef"].map(|bytes| holding(bytes)))
}

fn what_is_gathered_goes_together(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer, requests, buffers) = gathering(&mut rig);
    for (request, buffer) in requests.iter().zip(buffers) {
        assert_eq!(rig.event_loop.send_stream(handle, request, buffer, 0..2), Ok(Sent::Queued));
    }
    assert_eq!((rig.event_loop.queued(handle), peer.read()), (Ok(6), Some(Vec::new())));
    expect(&mut rig, &["it sent 2"; 3]);
    assert_eq!(peer.read(), Some(b"abcdef".to_vec()));
    // One alone; and one of nothing.
    assert_eq!(rig.event_loop.send_stream(handle, requests[0], buffers[0], 0..2), Ok(Sent::Queued));
    expect(&mut rig, &["it sent 2"]);
    assert_eq!(rig.event_loop.send_stream(handle, requests[0], buffers[0], 0..0), Ok(Sent::Queued));
    expect(&mut rig, &["it sent 0"]);
    assert_eq!(peer.read(), Some(b"ab".to_vec()));
    // More than the high watermark, until its turn comes.
    rig.event_loop.set_watermarks(handle, 0, 3).unwrap();
    assert_eq!(rig.event_loop.send_stream(handle, requests[0], buffers[0], 0..2), Ok(Sent::Queued));
    assert_eq!(rig.event_loop.send_stream(handle, requests[1], buffers[1], 0..2), Ok(Sent::Full));
    expect(&mut rig, &["it sent 2", "it sent 2", "it low 0"]);
    assert_eq!(peer.read(), Some(b"abcd".to_vec()));
    // No more is gathered; what was goes first.
    assert_eq!(rig.event_loop.send_stream(handle, requests[0], buffers[0], 0..2), Ok(Sent::Queued));
    rig.event_loop.batch_stream(handle, false).unwrap();
    assert_eq!(rig.event_loop.send_stream(handle, requests[1], buffers[1], 0..2), Ok(Sent::Full));
    expect(&mut rig, &["it sent 2", "it sent 2", "it low 0"]);
    assert_eq!(rig.event_loop.send_stream(handle, requests[0], buffers[2], 0..2), Ok(Sent::Done));
    assert_eq!(peer.read(), Some(b"abcdef".to_vec()));
    // A close comes after it, and a reset does not wait.
    rig.event_loop.batch_stream(handle, true).unwrap();
    assert_eq!(rig.event_loop.send_stream(handle, requests[0], buffers[0], 0..2), Ok(Sent::Queued));
    rig.event_loop.close_stream(handle).unwrap();
    expect(&mut rig, &["it sent 2", "it closed 0"]);
    assert_eq!((peer.read(), peer.read()), (Some(b"ab".to_vec()), None));
    assert_eq!(rig.event_loop.batch_stream(handle, true), Err(Error::STALE));
    let (handle, _peer) = stream(&mut rig, "other", nothing);
    rig.event_loop.batch_stream(handle, true).unwrap();
    assert_eq!(rig.event_loop.send_stream(handle, requests[0], buffers[0], 0..2), Ok(Sent::Queued));
    rig.event_loop.reset_stream(handle).unwrap();
    let canceled = -libc::ECANCELED;
    expect(&mut rig, &[&format!("other sent {canceled}"), &format!("other closed {canceled}")]);
    assert!(requests.iter().all(|it| !it.is_in_use()) && buffers.iter().all(|it| !it.is_lent()));
    assert_eq!(rig.event_loop.statistics().stale_dropped, 0);
}

/// And the others go when their time comes; a cancel of what is not queued changes nothing.
fn what_is_gathered_and_taken_back_is_not_sent(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer, requests, buffers) = gathering(&mut rig);
    rig.event_loop.set_watermarks(handle, 0, 3).unwrap();
    for cut in [&[0][..], &[1], &[2], &[0, 2], &[2, 1], &[2, 1, 0]] {
        for (request, buffer) in requests.iter().zip(buffers) {
            rig.event_loop.send_stream(handle, request, buffer, 0..2).unwrap();
        }
        for &cut in cut {
            rig.event_loop.cancel_send(handle, requests[cut]).unwrap();
        }
        rig.event_loop.cancel_send(handle, request()).unwrap();
        let left = 2 * (3 - cut.len());
        assert_eq!((rig.event_loop.queued(handle), peer.read()), (Ok(left as u64), Some(Vec::new())));
        let told = (0..3).map(|at| if cut.contains(&at) { "it sent 0" } else { "it sent 2" });
        expect(&mut rig, &told.chain(["it low 0"]).collect::<Vec<_>>());
        let bytes = (0..3).filter(|at| !cut.contains(at)).flat_map(|at| *[b"ab", b"cd", b"ef"][at]);
        assert_eq!(peer.read(), Some(bytes.collect()));
    }
    // A close waits for nothing then.
    rig.event_loop.send_stream(handle, requests[0], buffers[0], 0..2).unwrap();
    rig.event_loop.close_stream(handle).unwrap();
    rig.event_loop.cancel_send(handle, requests[0]).unwrap();
    expect(&mut rig, &["it sent 0", "it closed 0"]);
    assert!(requests.iter().all(|it| !it.is_in_use()) && buffers.iter().all(|it| !it.is_lent()));
}

/// A handler whose turn comes after that of what is gathered takes it back: on io_uring it goes with the wait.
fn what_is_taken_back_on_its_way_is_told_when_it_is_known(backend: BackendChoice) {
    for (bytes, twice) in [(3, false), (BIG, false), (BIG, true)] {
        let mut rig = rig(backend);
        let (handle, mut peer) = stream(&mut rig, "it", nothing);
        let (first, second, large, small) = (request(), request(), holding(b""), holding(b"x"));
        let (other, _other_peer) = stream(&mut rig, "other", move |_, event_loop, _| {
            event_loop.send_stream(handle, second, small, 0..1).unwrap();
            for _ in 0..1 + usize::from(twice) {
                event_loop.cancel_send(handle, first).unwrap();
            }
        });
        rig.event_loop.batch_stream(handle, true).unwrap();
        assert_eq!(rig.turns(2), [""; 0]);
        assert!(rig.event_loop.send_stream(handle, first, large, 0..bytes).is_ok_and(|sent| sent != Sent::Done));
        rig.event_loop.trigger(other, Ready::empty()).unwrap();
        let mut count = 0;
        let has_come = |rig: &Rig| rig.app.trace.iter().any(|it| it == "it sent 1");
        while !has_come(&rig) {
            rig.event_loop.turn(&mut rig.app, Duration::ZERO).expect("a turn");
            count += peer.read().expect("no end").len();
        }
        while let Some(bytes @ [_, ..]) = peer.read().as_deref() {
            count += bytes.len();
        }
        let sent = count - 1;
        assert!(if bytes == 3 { sent == 3 } else { sent > 0 && sent < BIG }, "{sent} of {bytes}");
        let trace: Vec<_> = rig.trace().into_iter().filter(|it| it.starts_with("it sent")).collect();
        assert_eq!(trace, [format!("it sent {sent}"), "it sent 1".into()]);
        assert!(!first.is_in_use() && !large.is_lent());
        assert_eq!(rig.event_loop.queued(handle), Ok(0));
    }
}

fn parts_arrive_in_order(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer) = stream(&mut rig, "it", nothing);
    let vectors: &'static Buffer<Vectors<3>> = Box::leak(Box::new(Buffer::new(Vectors::new())));
    let (one, two) = (holding(b"one two"), holding(b"three"));
    let parts = [Part { buffer: two, range: 0..5 }, Part { buffer: one, range: 3..7 }];
    let request = request();
    assert_eq!(rig.event_loop.send_stream_parts(handle, request, vectors, &parts), Ok(Sent::Done));
    assert_eq!(peer.read(), Some(b"three two".to_vec()));
    assert!(!one.is_lent() && !two.is_lent() && !vectors.is_lent());
    let twice = [Part { buffer: two, range: 0..5 }, Part { buffer: two, range: 0..5 }];
    assert_eq!(rig.event_loop.send_stream_parts(handle, request, vectors, &twice), Err(Error::BUSY));
    assert!(!two.is_lent() && !vectors.is_lent() && !request.is_in_use());
    end(&mut rig, "it", handle);
}

thread_local! {
    static KEPT: std::cell::RefCell<Vec<Received>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn what_is_kept_is_not_overwritten(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer) = stream(&mut rig, "it", |_, event_loop, event| {
        if event.stream == Some(StreamEvent::Data) {
            let received = event_loop.keep(&event).expect("it is the latest");
            assert_eq!(event_loop.keep(&event).err(), Some(Error::STALE));
            KEPT.with_borrow_mut(|kept| kept.push(received));
        }
    });
    assert_eq!(rig.event_loop.buffers_left(), Ok(4));
    // Half of all buffers, and no more.
    for text in ["first", "other"] {
        peer.write(text.as_bytes());
        expect(&mut rig, &["it data 5"]);
    }
    peer.write(b"third");
    assert_eq!(rig.turns(3), [""; 0]);
    assert_eq!(rig.event_loop.buffers_left(), Ok(2));
    let first = KEPT.with_borrow_mut(|kept| kept.remove(0));
    assert_eq!(&first[..], b"first");
    rig.event_loop.release(first).unwrap();
    expect(&mut rig, &["it data 5"]);
    let kept = KEPT.take();
    assert_eq!(kept.iter().map(|it| &it[..]).collect::<Vec<_>>(), [b"other", b"third"]);
    end(&mut rig, "it", handle);
    for received in kept {
        rig.event_loop.release(received).unwrap();
    }
    assert_eq!(rig.event_loop.buffers_left(), Ok(4));
}

fn what_was_received_goes_on(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer) = stream(&mut rig, "it", |_, event_loop, event| {
        if event.stream == Some(StreamEvent::Data) {
            assert_eq!(event_loop.forward(event.source, &event, 4..8), Err(Error::INVALID), "it has 7 bytes");
            assert_eq!(event_loop.forward(event.source, &event, 8..8), Err(Error::INVALID));
            assert_eq!(event_loop.forward(event.source, &event, 1..event.value as usize), Ok(Sent::Done));
            assert_eq!(event_loop.forward(event.source, &event, 0..1), Err(Error::STALE), "it is on its way");
            assert_eq!(event_loop.keep(&event).err(), Some(Error::STALE));
        }
    });
    peer.write(b"forward");
    expect(&mut rig, &["it data 7"]);
    assert_eq!(rig.turn(), [""; 0]);
    assert_eq!(peer.read(), Some(b"orward".to_vec()));
    assert_eq!(rig.event_loop.buffers_left(), Ok(4));
    end(&mut rig, "it", handle);
    let (handle, mut peer) = stream(&mut rig, "it", |_, event_loop, event| {
        if event.stream == Some(StreamEvent::Data) {
            let received = event_loop.keep(&event).expect("it is the latest");
            let (error, received) = event_loop.forward_kept(event.source, received, 0..9).unwrap_err();
            assert_eq!(error, Error::INVALID);
            let (error, received) = event_loop.forward_kept(Handle::NONE, received, 0..1).unwrap_err();
            assert_eq!(error, Error::STALE);
            assert!(matches!(event_loop.forward_kept(event.source, received, 0..4), Ok(Sent::Done)));
        }
    });
    peer.write(b"kept");
    expect(&mut rig, &["it data 4"]);
    assert_eq!(rig.turn(), [""; 0]);
    assert_eq!(peer.read(), Some(b"kept".to_vec()));
    end(&mut rig, "it", handle);
    assert_eq!(rig.event_loop.buffers_left(), Ok(4));
    // More than the high watermark, where it is queued until the wait; then it is told that it has gone.
    let full = Rc::new(Cell::new(false));
    let is_full = Rc::clone(&full);
    let (handle, mut peer) = stream(&mut rig, "it", move |_, event_loop, event| {
        if event.stream == Some(StreamEvent::Data) {
            is_full.set(event_loop.forward(event.source, &event, 0..4) == Ok(Sent::Full));
            assert_eq!(event_loop.queued(event.source), Ok(if is_full.get() { 4 } else { 0 }));
        }
    });
    rig.event_loop.set_watermarks(handle, 0, 3).unwrap();
    peer.write(b"full");
    expect(&mut rig, &["it data 4"]);
    expect(&mut rig, if full.get() { &["it low 0"] } else { &[] });
    assert_eq!(peer.read(), Some(b"full".to_vec()));
    end(&mut rig, "it", handle);
}

/// Then what it has kept is nobody's but the program's.
fn a_handler_keeps_what_came_and_removes_its_stream(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (_, mut peer) = stream(&mut rig, "it", |_, event_loop, event| {
        event_loop.remove(event.source).unwrap();
        let received = event_loop.keep(&event).expect("it is the latest");
        KEPT.with_borrow_mut(|kept| kept.push(received));
    });
    peer.write(b"hello");
    expect(&mut rig, &["it data 5"]);
    let received = KEPT.take().pop().unwrap();
    assert_eq!((&received[..], rig.event_loop.buffers_left()), (&b"hello"[..], Ok(3)));
    // Its place has another owner by now, for whom it does not count.
    let (other, mut peer) = stream(&mut rig, "other", nothing);
    rig.event_loop.release(received).unwrap();
    assert_eq!(rig.event_loop.buffers_left(), Ok(4));
    for _ in 0..4 {
        peer.write(b"x");
        expect(&mut rig, &["other data 1"]);
    }
    end(&mut rig, "other", other);
}

fn what_has_ended_is_shut_down(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer) = stream(&mut rig, "it", nothing);
    for _ in 0..2 {
        assert_eq!(rig.event_loop.shutdown_stream(handle), Ok(()));
        assert_eq!(peer.read(), None);
    }
    rig.event_loop.close_stream(handle).unwrap();
    assert_eq!(rig.event_loop.shutdown_stream(handle), Ok(()), "its last event is due");
    expect(&mut rig, &["it closed 0"]);
    assert_eq!(rig.event_loop.shutdown_stream(handle), Err(Error::STALE));
    let (handle, _peer) = stream(&mut rig, "it", nothing);
    rig.event_loop.reset_stream(handle).unwrap();
    assert_eq!(rig.event_loop.shutdown_stream(handle), Err(Error::BROKEN_PIPE));
    rig.event_loop.reset_stream(handle).unwrap();
    expect(&mut rig, &[&format!("it closed {}", -libc::ECANCELED)]);
}

fn a_stream_at_descriptor_0(backend: BackendChoice) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    dup2(&ours, 0);
    drop(ours);
    let (rig, mut peer) = (rig(backend), Peer::Real(theirs));
    let handle = rig.event_loop.add_stream_pulled(0, 7).unwrap();
    assert_eq!((rig.event_loop.io_fd(handle), rig.event_loop.find_io(0)), (Ok(0), Ok(handle)));
    peer.write(b"hello");
    assert_eq!(rig.event_loop.poll(Duration::FOREVER), Ok(1));
    let event = rig.event_loop.next(Kinds::STREAM).unwrap().unwrap();
    assert_eq!((event.stream, event.value, event.token), (Some(StreamEvent::Data), 5, 7));
    rig.event_loop.close_stream(handle).unwrap();
    assert_eq!(rig.event_loop.poll(Duration::FOREVER), Ok(1));
    assert_eq!(rig.event_loop.next(Kinds::STREAM).unwrap().unwrap().stream, Some(StreamEvent::Closed));
    assert_eq!(peer.read(), None);
}

/// An event that was copied, when others have come since.
fn an_old_event_tells_of_nothing(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer) = stream(&mut rig, "it", nothing);
    peer.write(b"hello");
    let event = loop {
        if let Some(event) = rig.event_loop.next(Kinds::STREAM).unwrap() {
            break event;
        }
        rig.event_loop.poll(Duration::FOREVER).unwrap();
    };
    assert_eq!((event.stream, event.value, event.kind), (Some(StreamEvent::Data), 5, Kind::Stream));
    assert_eq!(rig.event_loop.received(&event, <[u8]>::to_vec), Ok(b"hello".to_vec()));
    assert_eq!(rig.event_loop.received(&event, <[u8]>::to_vec), Err(Error::STALE), "it was given back");
    assert_eq!(rig.event_loop.sender(&event).err(), Some(Error::STALE));
    rig.event_loop.trigger(handle, Ready::empty()).unwrap();
    let triggered = loop {
        if let Some(event) = rig.event_loop.next(Kinds::STREAM).unwrap() {
            break event;
        }
        rig.event_loop.poll(Duration::FOREVER).unwrap();
    };
    assert_eq!((triggered.stream, triggered.ready), (None, Ready::TRIGGERED));
    assert_eq!(rig.event_loop.received(&triggered, <[u8]>::to_vec), Err(Error::INVALID));
    end(&mut rig, "it", handle);
}

fn paused_and_resumed(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer) = stream(&mut rig, "it", reads);
    rig.event_loop.pause_stream(handle).unwrap();
    peer.write(b"abc");
    peer.shut_down();
    assert_eq!(rig.turns(3), [""; 0]);
    rig.event_loop.resume_stream(handle).unwrap();
    expect(&mut rig, &["it data 3", "abc", "it end 0"]);
    end(&mut rig, "it", handle);
}

/// Both are readable, and whoever comes first pauses the other.
fn who_is_paused_by_another_is_told_nothing(backend: BackendChoice) {
    let mut rig = rig(backend);
    let both = Rc::new(Cell::new([Handle::NONE; 2]));
    let mut streams = [0, 1].map(|this| {
        let both = both.clone();
        stream(&mut rig, ["a", "b"][this], move |_, event_loop, event| {
            if event.stream == Some(StreamEvent::Data) {
                event_loop.pause_stream(both.get()[1 - this]).unwrap();
            }
        })
    });
    both.set([streams[0].0, streams[1].0]);
    streams.iter_mut().for_each(|(_, peer)| peer.write(b"abc"));
    while rig.app.trace.is_empty() {
        rig.event_loop.turn(&mut rig.app, Duration::FOREVER).expect("a turn");
    }
    rig.event_loop.turn(&mut rig.app, Duration::ZERO).expect("a turn");
    let (other, name) = if rig.trace() == ["a data 3"] { (1, "b") } else { (0, "a") };
    assert_eq!(rig.turns(2), [""; 0]);
    rig.event_loop.resume_stream(streams[other].0).unwrap();
    expect(&mut rig, &[&format!("{name} data 3")]);
}

fn a_half_closed_stream_goes_on(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer) = stream(&mut rig, "it", reads);
    let (request, buffer) = (request(), holding(b"x"));
    rig.event_loop.shutdown_stream(handle).unwrap();
    assert_eq!(rig.event_loop.send_stream(handle, request, buffer, 0..1), Err(Error::BROKEN_PIPE));
    assert!(!request.is_in_use() && !buffer.is_lent());
    assert_eq!(peer.read(), None);
    peer.write(b"still");
    expect(&mut rig, &["it data 5", "still"]);
    rig.event_loop.reset_stream(handle).unwrap();
    expect(&mut rig, &[&format!("it closed {}", -libc::ECANCELED)]);
}

fn what_is_removed_gives_everything_back(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, _peer) = stream(&mut rig, "it", nothing);
    let (request, buffer) = (request(), holding(b""));
    assert!(rig.event_loop.send_stream(handle, request, buffer, 0..BIG).is_ok_and(|sent| sent != Sent::Done));
    let fd = rig.event_loop.io_fd(handle).unwrap();
    rig.event_loop.remove(handle).unwrap();
    assert!(!request.is_in_use() && !buffer.is_lent());
    assert_eq!(rig.turns(2), [""; 0]);
    // The fd is the program's.
    let again = add(&mut rig, "again", fd, nothing);
    rig.event_loop.reset_stream(again).unwrap();
    expect(&mut rig, &[&format!("again closed {}", -libc::ECANCELED)]);
}

fn a_dropped_loop_gives_everything_back(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer) = stream(&mut rig, "it", nothing);
    let (request, buffer) = (request(), holding(b""));
    assert!(rig.event_loop.send_stream(handle, request, buffer, 0..BIG).is_ok_and(|sent| sent != Sent::Done));
    drop(rig);
    assert!(!request.is_in_use() && !buffer.is_lent());
    while peer.read().is_some() {}
}

fn a_closed_stream_is_dispatched(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, _peer) = stream(&mut rig, "it", nothing);
    rig.event_loop.close_stream(handle).unwrap();
    assert_eq!(rig.event_loop.poll(Duration::ZERO), Ok(1));
    let event = rig.event_loop.next(Kinds::all()).unwrap().expect("it is queued");
    assert_eq!((event.stream, event.source), (Some(StreamEvent::Closed), handle));
    assert_eq!(rig.event_loop.kind(handle), Err(Error::STALE));
    rig.event_loop.dispatch(&mut rig.app, event).unwrap();
    assert_eq!(rig.trace(), ["it closed 0"]);
    // A later owner of its place does not get it, nor does one that was removed.
    let wake = rig.event_loop.add_wake_pulled(0).unwrap();
    for _ in 0..7 {
        rig.event_loop.add_wake_pulled(0).unwrap();
    }
    assert_eq!(rig.event_loop.dispatch(&mut rig.app, event), Err(Error::STALE));
    let forged = {
        let mut it = event;
        it.source = wake;
        it
    };
    rig.event_loop.remove(wake).unwrap();
    assert_eq!(rig.event_loop.dispatch(&mut rig.app, forged), Err(Error::STALE), "it is another's");
}

fn a_stream_keeps_the_loop_alive(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer) = stream(&mut rig, "it", |_, event_loop, event| {
        if event.stream == Some(StreamEvent::End) {
            event_loop.close_stream(event.source).unwrap();
        }
    });
    peer.write(b"ab");
    peer.shut_down();
    assert_eq!(rig.run(), (vec!["it data 2".into(), "it end 0".into(), "it closed 0".into()], Outcome::NothingLeft));
    assert_eq!(rig.event_loop.keepalive(handle), Err(Error::STALE));
    // One that receives nothing keeps nothing alive.
    let (paused, _peer) = stream(&mut rig, "paused", nothing);
    rig.event_loop.pause_stream(paused).unwrap();
    assert_eq!(rig.run().1, Outcome::NothingLeft);
}

fn what_goes_on_has_gone_when_a_run_ends(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (_handle, mut peer) = stream(&mut rig, "it", |_, event_loop, event| {
        assert_eq!(event_loop.forward(event.source, &event, 0..4), Ok(Sent::Done));
        event_loop.stop().unwrap();
    });
    peer.write(b"back");
    assert_eq!(rig.run(), (vec!["it data 4".into()], Outcome::Stopped));
    assert_eq!(peer.read(), Some(b"back".to_vec()));
}

/// Streams that receive nothing, and so keep the loop alive for this alone.
fn a_run_does_not_end_before_what_follows_from_what_goes(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (_handle, mut peer) = stream(&mut rig, "closes", |_, event_loop, event| {
        if event.stream == Some(StreamEvent::Data) {
            assert_eq!(event_loop.forward(event.source, &event, 0..4), Ok(Sent::Done));
            event_loop.close_stream(event.source).unwrap();
        }
    });
    peer.write(b"back");
    assert_eq!(rig.run(), (vec!["closes data 4".into(), "closes closed 0".into()], Outcome::NothingLeft));
    assert_eq!((peer.read(), peer.read()), (Some(b"back".to_vec()), None));
    let (handle, mut peer) = stream(&mut rig, "paused", nothing);
    rig.event_loop.pause_stream(handle).unwrap();
    rig.event_loop.batch_stream(handle, true).unwrap();
    rig.event_loop.send_stream(handle, request(), holding(b"abc"), 0..3).unwrap();
    assert_eq!(rig.run(), (vec!["paused sent 3".into()], Outcome::NothingLeft));
    assert_eq!(peer.read(), Some(b"abc".to_vec()));
    // Nobody waits for it, and nothing is told when it has gone.
    let (_handle, mut peer) = stream(&mut rig, "pauses", |_, event_loop, event| {
        assert_eq!(event_loop.forward(event.source, &event, 0..4), Ok(Sent::Done));
        event_loop.pause_stream(event.source).unwrap();
    });
    peer.write(b"last");
    assert_eq!(rig.run(), (vec!["pauses data 4".into()], Outcome::NothingLeft));
    assert_eq!((peer.read(), rig.event_loop.buffers_left()), (Some(b"last".to_vec()), Ok(4)));
}

/// Of what goes by itself nothing is told; but the wait that it goes with is no longer for that, where something follows.
fn what_follows_from_what_goes_is_not_kept_waiting(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (_waited_for, mut other) = stream(&mut rig, "other", |_, event_loop, event| {
        assert_eq!(event_loop.forward(event.source, &event, 0..4), Ok(Sent::Done));
    });
    let (request, buffer) = (request(), holding(b"!"));
    let (handle, mut peer) = stream(&mut rig, "it", move |_, event_loop, event| {
        if event.stream == Some(StreamEvent::Data) {
            assert_eq!(event_loop.forward(event.source, &event, 0..4), Ok(Sent::Done));
            match event.value {
                4 => assert_eq!(event_loop.send_stream(event.source, request, buffer, 0..1), Ok(Sent::Queued)),
                _ => event_loop.close_stream(event.source).unwrap(),
            }
        }
    });
    rig.event_loop.batch_stream(handle, true).unwrap();
    peer.write(b"more");
    expect(&mut rig, &["it data 4", "it sent 1"]);
    assert_eq!(peer.read(), Some(b"more!".to_vec()));
    // And where something goes beside it from which nothing follows.
    other.write(b"back");
    peer.write(b"more");
    while !rig.app.trace.iter().any(|it| it == "it sent 1") {
        rig.event_loop.turn(&mut rig.app, Duration::FOREVER).expect("a turn");
    }
    rig.app.trace.sort();
    expect(&mut rig, &["it data 4", "it sent 1", "other data 4"]);
    assert_eq!((peer.read(), other.read()), (Some(b"more!".to_vec()), Some(b"back".to_vec())));
    peer.write(b"ended");
    expect(&mut rig, &["it data 5", "it closed 0"]);
    assert_eq!((peer.read(), peer.read()), (Some(b"ende".to_vec()), None));
}

fn misuse_changes_nothing(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, _peer) = stream(&mut rig, "it", nothing);
    let fd = rig.event_loop.io_fd(handle).unwrap();
    assert_eq!(rig.event_loop.find_io(fd), Ok(handle));
    assert_eq!(rig.event_loop.add_stream(fd, handler, 0), Err(Error::EXISTS));
    assert_eq!(rig.event_loop.add_stream(-1, handler, 0), Err(Error::BAD_FD));
    assert_eq!(rig.event_loop.modify_io(handle, Ready::READABLE), Err(Error::INVALID));
    assert_eq!(rig.event_loop.set_watermarks(handle, 2, 1), Err(Error::INVALID));
    let wake = rig.event_loop.add_wake_pulled(0).unwrap();
    assert_eq!(rig.event_loop.close_stream(wake), Err(Error::INVALID));
    assert_eq!(rig.event_loop.send_stream_file(handle, request(), -1, 0..1), Err(Error::BAD_FD));
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = rig.event_loop.send_stream_file(handle, request(), 0, 2..1);
    assert_eq!(backwards, Err(Error::INVALID));
    // Another loop's buffers are none of this one's.
    let mut others = self::rig(backend);
    let (other, mut peer) = stream(&mut others, "other", |_, event_loop, event| {
        let received = event_loop.keep(&event).expect("it is the latest");
        KEPT.with_borrow_mut(|kept| kept.push(received));
    });
    peer.write(b"x");
    expect(&mut others, &["other data 1"]);
    let received = KEPT.take().pop().expect("it was kept");
    assert_eq!(rig.event_loop.release(received), Err(Error::INVALID));
    others.event_loop.remove(other).unwrap();
    end(&mut rig, "it", handle);
}

fn connected(backend: BackendChoice) {
    let mut rig = rig(backend);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::from(listener.local_addr().unwrap());
    let token = rig.app.token("it", reads);
    let connect = |rig: &mut Rig| {
        let handle = rig.event_loop.connect_stream(&address, Duration::from_secs(10), handler, token).expect("begun");
        rig.app.named(token, handle)
    };
    let handle = connect(&mut rig);
    expect(&mut rig, &["it connected 0"]);
    assert!(rig.event_loop.deadline(handle).is_ok_and(|at| at == becket::Instant::NEVER));
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"welcome").unwrap();
    expect(&mut rig, &["it data 7", "welcome"]);
    end(&mut rig, "it", handle);
    drop(listener);
    connect(&mut rig);
    expect(&mut rig, &[&format!("it closed {}", -libc::ECONNREFUSED)]);
}

fn datagrams_have_a_sender(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (server, client) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (to, from) = (server.local_addr().unwrap(), client.local_addr().unwrap());
    let handle = add(&mut rig, "it", server.into_raw_fd(), move |app, event_loop, event| {
        if event.stream == Some(StreamEvent::Data) {
            let sender = event_loop.sender(&event).expect("it is the latest");
            assert_eq!(SocketAddr::try_from(sender).ok(), Some(from));
        }
        reads(app, event_loop, event);
    });
    client.send_to(b"hello", to).unwrap();
    expect(&mut rig, &["it data 5", "hello"]);
    client.send_to(b"", to).unwrap();
    expect(&mut rig, &["it data 0", ""]);
    end(&mut rig, "it", handle);
}

fn what_is_said_of_a_datagram_is_no_end(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (ours, peer) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (from, to) = (ours.local_addr().unwrap(), peer.local_addr().unwrap());
    // It takes what comes from itself alone.
    peer.connect(to).unwrap();
    ours.connect(to).unwrap();
    ours.send(b"for nobody").unwrap();
    let handle = add(&mut rig, "it", ours.into_raw_fd(), nothing);
    expect(&mut rig, &[&format!("it data {}", -libc::ECONNREFUSED)]);
    peer.send_to(b"hello", from).unwrap();
    expect(&mut rig, &["it data 5"]);
    end(&mut rig, "it", handle);
}

fn a_datagram_that_is_gathered_is_for_itself(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (ours, peer) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    ours.connect(peer.local_addr().unwrap()).unwrap();
    peer.connect(ours.local_addr().unwrap()).unwrap();
    let handle = add(&mut rig, "it", ours.into_raw_fd(), nothing);
    let (request, large) = (request(), holding(b"hello"));
    rig.event_loop.batch_stream(handle, true).unwrap();
    // No datagram is so long: it alone is not sent.
    for (length, result) in [(1 << 17, -libc::EMSGSIZE), (5, 5)] {
        assert!(rig.event_loop.send_stream(handle, request, large, 0..length).is_ok_and(|sent| sent != Sent::Done));
        let told = [format!("it sent {result}"), "it low 0".into()];
        expect(&mut rig, &told.each_ref().map(String::as_str)[..1 + usize::from(length > 5)]);
    }
    let mut bytes = [0; 8];
    assert_eq!((peer.recv(&mut bytes).unwrap(), &bytes[..5]), (5, &b"hello"[..]));
    end(&mut rig, "it", handle);
}

fn a_file_is_sent(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer) = stream(&mut rig, "it", nothing);
    let path = std::env::temp_dir().join(format!("becket-streams-{}-{backend:?}", std::process::id()));
    std::fs::write(&path, b"0123456789").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let request = request();
    assert_eq!(rig.event_loop.send_stream_file(handle, request, file.as_raw_fd(), 2..6), Ok(Sent::Done));
    assert_eq!(peer.read(), Some(b"2345".to_vec()));
    end(&mut rig, "it", handle);
}

fn more_streams_send_than_go_with_one_wait(backend: BackendChoice) {
    const MANY: usize = 100;
    let storage = Box::leak(Box::new(Storage::<MANY, 2>::new()));
    let streams = Box::leak(Box::new(Streams::<MANY, 4, 256>::new()));
    let event_loop = Loop::with_streams(storage, streams, &virtual_config(backend)).expect("a loop");
    let mut rig = Rig { event_loop, app: App::default() };
    let mut all: Vec<_> = (0..MANY).map(|_| stream(&mut rig, "it", nothing)).collect();
    assert_eq!(rig.turns(3), [""; 0]);
    for (handle, _) in &all {
        rig.event_loop.batch_stream(*handle, true).unwrap();
        assert_eq!(rig.event_loop.send_stream(*handle, request(), holding(b"x"), 0..1), Ok(Sent::Queued));
    }
    expect(&mut rig, &["it sent 1"; MANY]);
    assert!(all.iter_mut().all(|(_, peer)| peer.read() == Some(b"x".to_vec())));
}

/// In the simulator, where a peer has room for 256 bytes.
#[test]
fn marks_are_exact() {
    let mut rig = rig(BackendChoice::Simulator);
    let (handle, mut peer) = stream(&mut rig, "it", nothing);
    let buffers = [0; 4].map(|_| (request(), holding(b"")));
    let send = |rig: &Rig, number: usize, count: usize| {
        let (request, buffer) = buffers[number];
        rig.event_loop.send_stream(handle, request, buffer, 0..count)
    };
    let Peer::Simulated(simulator, fd) = peer else { panic!("it is simulated") };
    let takes = |count: usize| assert_eq!(simulator.read(fd, &mut vec![0; count]), Ok(count));
    rig.event_loop.set_watermarks(handle, 40, 100).unwrap();
    assert_eq!(send(&rig, 0, 256), Ok(Sent::Done));
    assert_eq!((send(&rig, 0, 100), rig.event_loop.queued(handle)), (Ok(Sent::Queued), Ok(100)));
    assert_eq!(send(&rig, 1, 0), Ok(Sent::Queued), "no more than the mark");
    assert_eq!((send(&rig, 2, 1), rig.event_loop.queued(handle)), (Ok(Sent::Full), Ok(101)));
    takes(60);
    assert_eq!(rig.turns(2), [""; 0]);
    assert_eq!(rig.event_loop.queued(handle), Ok(41));
    takes(1);
    assert_eq!(rig.turns(2), ["it low 0"]);
    // Once, and again only after there was more.
    takes(10);
    assert_eq!(rig.turns(2), [""; 0]);
    assert_eq!(send(&rig, 3, 70), Ok(Sent::Queued));
    assert_eq!(rig.event_loop.queued(handle), Ok(100));
    takes(100);
    assert_eq!(rig.turns(3), ["it sent 100", "it sent 0", "it sent 1", "it sent 70"]);
    // A mark that is moved is looked at at once; so is one that is moved away.
    takes(256);
    assert_eq!((send(&rig, 0, 256), send(&rig, 1, 50)), (Ok(Sent::Done), Ok(Sent::Queued)));
    rig.event_loop.set_watermarks(handle, 50, 50).unwrap();
    assert_eq!(rig.turns(2), [""; 0], "no more than the mark");
    rig.event_loop.set_watermarks(handle, 10, 49).unwrap();
    assert_eq!(rig.turns(2), [""; 0]);
    rig.event_loop.set_watermarks(handle, 49, 49).unwrap();
    assert_eq!(rig.turns(2), [""; 0]);
    rig.event_loop.set_watermarks(handle, 50, 50).unwrap();
    assert_eq!(rig.turns(2), ["it low 0"]);
    takes(256);
    assert_eq!(rig.turns(2), ["it sent 50"]);
    peer = Peer::Simulated(simulator, fd);
    assert_eq!(peer.read().unwrap().len(), 50);
    end(&mut rig, "it", handle);
}

/// Who takes what is sent is not idle, though it sends nothing.
#[test]
fn a_stream_that_sends_is_not_idle() {
    let mut rig = rig(BackendChoice::Simulator);
    let (handle, peer) = stream(&mut rig, "it", nothing);
    let Peer::Simulated(simulator, fd) = peer else { panic!("it is simulated") };
    let takes = |count: usize| assert_eq!(simulator.read(fd, &mut vec![0; count]), Ok(count));
    rig.event_loop.set_idle_timeout(handle, Duration::from_millis(10)).unwrap();
    let (request, buffer) = (request(), holding(b""));
    assert_eq!(rig.event_loop.send_stream(handle, request, buffer, 0..400), Ok(Sent::Queued));
    let simulated_ms = |rig: &mut Rig, count: u64| {
        rig.event_loop.turn(&mut rig.app, Duration::from_millis(count)).unwrap();
        rig.trace()
    };
    for _ in 0..5 {
        assert_eq!(simulated_ms(&mut rig, 7), [""; 0]);
        takes(10);
        assert_eq!(simulated_ms(&mut rig, 0), [""; 0]);
    }
    let at = simulator.now();
    // Nothing goes by this.
    assert_eq!(simulated_ms(&mut rig, 7), [""; 0]);
    rig.event_loop.cancel_send(handle, self::request()).unwrap();
    expect(&mut rig, &["it timeout"]);
    assert_eq!(simulator.now().since(at), Duration::from_millis(10));
    rig.event_loop.reset_stream(handle).unwrap();
    expect(&mut rig, &[&format!("it sent {}", -libc::ECANCELED), &format!("it closed {}", -libc::ECANCELED)]);
}

/// What comes in one turn is told in one; an idle timeout alone gives way.
#[test]
fn what_falls_together_is_all_told() {
    let mut rig = rig(BackendChoice::Simulator);
    let (handle, mut peer) = stream(&mut rig, "it", nothing);
    let Peer::Simulated(simulator, fd) = peer else { panic!("it is simulated") };
    let (request, buffer) = (request(), holding(b""));
    assert_eq!(rig.event_loop.send_stream(handle, request, buffer, 0..300), Ok(Sent::Queued));
    rig.event_loop.set_deadline(handle, Duration::from_millis(10)).unwrap();
    assert_eq!(rig.turn(), [""; 0]);
    assert_eq!(simulator.read(fd, &mut [0; 256]), Ok(256));
    assert_eq!(rig.after_ns(10 * MS), ["it sent 300", "it deadline"]);
    assert_eq!(rig.turns(2), [""; 0]);

    rig.event_loop.set_idle_timeout(handle, Duration::from_millis(10)).unwrap();
    assert_eq!(rig.turn(), [""; 0]);
    peer = Peer::Simulated(simulator, fd);
    peer.write(b"x");
    assert_eq!(rig.after_ns(10 * MS), ["it data 1"]);
    assert_eq!(rig.turns(2), [""; 0]);
    assert_eq!(rig.after_ns(9 * MS), [""; 0]);
    assert_eq!(rig.after_ns(MS), ["it timeout"]);
    end(&mut rig, "it", handle);
}

/// Many ranges of a file, each of which is a call of its own: between eight of them others have their turn.
fn a_call_takes_so_many_parts_and_a_turn_so_many_calls(backend: BackendChoice) {
    let mut rig = rig(backend);
    let (handle, mut peer) = stream(&mut rig, "it", nothing);
    let path = std::env::temp_dir().join(format!("becket-ranges-{}-{backend:?}", std::process::id()));
    std::fs::write(&path, b"0123456789abcdefghij").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (first, buffer) = (request(), holding(b""));
    let sent = rig.event_loop.send_stream(handle, first, buffer, 0..BIG).unwrap();
    assert_ne!(sent, Sent::Done);
    for at in 0..20 {
        let sent = rig.event_loop.send_stream_file(handle, request(), file.as_raw_fd(), at..at + 1).unwrap();
        assert_ne!(sent, Sent::Done);
    }
    let mut bytes = Vec::new();
    while !rig.app.trace.contains(&format!("it sent {BIG}")) {
        bytes.extend(peer.read().expect("no end"));
        rig.event_loop.turn(&mut rig.app, Duration::ZERO).unwrap();
    }
    // The rest of the first one took one of the eight.
    assert!(rig.event_loop.queued(handle).unwrap() >= 13);
    while bytes.len() < BIG + 20 {
        bytes.extend(peer.read().expect("no end"));
        rig.event_loop.turn(&mut rig.app, Duration::ZERO).unwrap();
    }
    let sent: Vec<_> = rig.turns(3).into_iter().filter(|it| it.starts_with("it sent")).collect();
    assert_eq!(sent[0], format!("it sent {BIG}"));
    assert_eq!(sent[1..], ["it sent 1"; 20]);
    assert_eq!(&bytes[BIG..], b"0123456789abcdefghij");
    end(&mut rig, "it", handle);
}
