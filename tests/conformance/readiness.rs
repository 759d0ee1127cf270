//! What an fd tells, and that it goes on telling it: readiness, ends, errors, odd fds and odd fd numbers.
//!
//! select knows readable, writable and priority alone; there a hang-up is readable, and an error is both. What else the
//! other backends tell is tested where they do.

use crate::harness::*;
use becket::{BackendChoice, Duration, Error, IoOptions, Kinds, Ready};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

each_backend! {
    readable_as_long_as_there_is_data
    writable_as_long_as_there_is_room
    both_directions_come_in_one_event
    only_directions_that_were_asked_for
    many_sources_each_tell_their_own
    the_end_of_a_pipe_is_readable
    a_half_closed_socket_is_readable
    a_closed_socket_is_readable_and_writable
    a_pipe_without_a_reader_is_writable
    a_paused_source_is_silent_whatever_its_fd_does
    what_happened_during_a_pause_is_told_on_resume
    a_paused_hang_up_lets_the_loop_sleep
    a_reset_connection_is_readable
    out_of_band_data_is_priority
    a_connection_that_succeeds_is_writable
    a_connection_that_is_refused_is_writable
    a_listener_is_readable_when_somebody_connects
    a_datagram_is_readable
    dev_null_is_always_ready
    regular_files_and_directories_are_refused
    an_fd_that_is_not_open_is_refused
    a_trusted_fd_is_taken_as_it_is
    one_source_for_each_fd
    fd_numbers_have_nothing_to_do_with_the_capacity
}

each_backend! { alone:
    an_fd_that_went_bad_tells_its_own_source
    many_bad_fds_leave_the_others_alone
    very_high_fd_numbers
    more_sources_than_open_files
    more_fds_than_may_be_open
}

fn readable_as_long_as_there_is_data(backend: BackendChoice) {
    let (ours, mut theirs) = pair();
    let mut rig = Rig::new(backend);
    rig.io("a", &ours, READABLE, nothing);
    rig.assert_silent();
    theirs.write_all(b"xy").unwrap();
    assert_eq!(rig.turn(), ["a readable"]);
    assert_eq!(rig.turn(), ["a readable"], "level-triggered");
    assert_eq!((&ours).read(&mut [0; 1]).unwrap(), 1);
    assert_eq!(rig.turn(), ["a readable"], "one byte is left");
    assert_eq!(drain(&ours), 1);
    rig.assert_silent();
}

fn writable_as_long_as_there_is_room(backend: BackendChoice) {
    let (ours, theirs) = pair();
    let mut rig = Rig::new(backend);
    rig.io("a", &ours, WRITABLE, nothing);
    assert_eq!(rig.turns(2), ["a writable", "a writable"]);
    fill(&ours);
    rig.assert_silent();
    drain(&theirs);
    assert_eq!(rig.turn(), ["a writable"]);
}

fn both_directions_come_in_one_event(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    rig.io("a", &ours, BOTH, nothing);
    assert_eq!(rig.turn(), ["a readable writable"]);
    fill(&ours);
    assert_eq!(rig.turn(), ["a readable"]);
}

fn only_directions_that_were_asked_for(backend: BackendChoice) {
    let (a, _a_peer) = readable();
    let (b, _b_peer) = readable();
    let mut rig = Rig::new(backend);
    rig.io("a", &a, WRITABLE, nothing);
    rig.io("b", &b, Ready::PRIORITY, nothing);
    assert_eq!(rig.turn(), ["a writable"]);
}

fn many_sources_each_tell_their_own(backend: BackendChoice) {
    let pairs: Vec<_> = (0..30).map(|_| pair()).collect();
    let mut rig = Rig::new(backend);
    for (number, (ours, _)) in pairs.iter().enumerate() {
        rig.io(&format!("{number}"), ours, READABLE, nothing);
    }
    for number in [3, 29, 0, 17] {
        (&pairs[number].1).write_all(b"x").unwrap();
    }
    let mut trace = rig.turn();
    trace.sort(); // The order within one collection is nobody's business.
    assert_eq!(trace, ["0 readable", "17 readable", "29 readable", "3 readable"]);
}

/// Drops the words that select cannot say.
fn portable(trace: &[String]) -> Vec<String> {
    let words = |text: &String| {
        text.split(' ').filter(|word| !["error", "hangup", "peer-closed"].contains(word)).collect::<Vec<_>>().join(" ")
    };
    trace.iter().map(words).collect()
}

fn the_end_of_a_pipe_is_readable(backend: BackendChoice) {
    let (read, write) = pipe();
    let mut rig = Rig::new(backend);
    rig.io("a", &read, READABLE, nothing);
    rig.assert_silent();
    drop(write);
    let trace = rig.turn();
    assert_eq!(portable(&trace), ["a readable"]);
    if tells_more(backend) {
        assert_eq!(trace, ["a readable hangup"]);
    }
    assert_eq!(rig.turns(2).len(), 2, "level-triggered");
}

fn a_half_closed_socket_is_readable(backend: BackendChoice) {
    let (ours, theirs) = pair();
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &ours, READABLE, nothing);
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    let told = if tells_more(backend) { "a readable peer-closed" } else { "a readable" };
    assert_eq!(rig.turns(2), [told, told]);
    // The other direction is as it was, and who does not want to read is not told.
    rig.event_loop.modify_io(a, WRITABLE).unwrap();
    assert_eq!(rig.turn(), ["a writable"]);
}

fn a_closed_socket_is_readable_and_writable(backend: BackendChoice) {
    for (interest, told) in [(READABLE, "a readable"), (WRITABLE, "a writable"), (BOTH, "a readable writable")] {
        let (ours, theirs) = pair();
        let mut rig = Rig::new(backend);
        rig.io("a", &ours, interest, nothing);
        drop(theirs);
        let trace = rig.turn();
        assert_eq!(portable(&trace), [told]);
        if tells_more(backend) {
            assert!(trace[0].contains("hangup"), "{trace:?}");
        }
    }
}

fn a_pipe_without_a_reader_is_writable(backend: BackendChoice) {
    let (read, write) = pipe();
    // A pipe that is full, too: a write would not block, it would fail.
    let mut write = File::from(write);
    while write.write(&[0; 4096]).is_ok() {}
    let mut rig = Rig::new(backend);
    rig.io("a", &write, WRITABLE, nothing);
    rig.assert_silent();
    drop(read);
    let trace = rig.turn();
    assert_eq!(portable(&trace), ["a writable"]);
    if tells_more(backend) {
        assert_eq!(trace, ["a writable error"]);
    }
}

/// Sources whose fds are in every state that tells something: data and room, half-closed, closed, a pipe's two ends.
fn all_states(rig: &mut Rig, interest: Ready) -> Vec<OwnedFd> {
    let (data, data_peer) = readable();
    let (half, half_peer) = pair();
    half_peer.shutdown(std::net::Shutdown::Write).unwrap();
    let (closed, _) = pair();
    let (read, _) = pipe();
    let (_, write) = pipe();
    let fds =
        [("data", data.into()), ("half", half.into()), ("closed", closed.into()), ("read", read), ("write", write)];
    let mut open: Vec<OwnedFd> = vec![data_peer.into(), half_peer.into()];
    for (name, fd) in fds {
        rig.io(name, &fd, interest, nothing);
        open.push(fd);
    }
    open
}

const STATES: [&str; 5] = ["data", "half", "closed", "read", "write"];

fn a_paused_source_is_silent_whatever_its_fd_does(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let _fds = all_states(&mut rig, PAUSED);
    rig.assert_silent();
    // Paused later, after it has told something.
    let mut rig = Rig::new(backend);
    let _fds = all_states(&mut rig, BOTH);
    assert_eq!(rig.turn().len(), STATES.len());
    for name in STATES {
        rig.event_loop.modify_io(rig.app.handle(name), PAUSED).unwrap();
    }
    rig.assert_silent();
    assert_eq!(rig.event_loop.statistics().stale_dropped, 0, "nothing was even looked at");
}

fn what_happened_during_a_pause_is_told_on_resume(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let _fds = all_states(&mut rig, PAUSED);
    rig.assert_silent();
    for name in STATES {
        rig.event_loop.modify_io(rig.app.handle(name), BOTH).unwrap();
    }
    let mut trace = rig.turn();
    trace.sort();
    let told = ["closed readable writable", "data readable writable", "half readable writable"];
    assert_eq!(portable(&trace)[..3], told);
    assert_eq!(trace.len(), STATES.len());
    if tells_more(backend) {
        assert!(trace[0].contains("hangup"), "{trace:?}");
        assert!(trace[2].contains("peer-closed"), "{trace:?}");
        assert!(trace[3].starts_with("read") && trace[3].contains("hangup"), "{trace:?}");
        assert!(trace[4].starts_with("write") && trace[4].contains("error"), "{trace:?}");
    }
}

/// The same with real time: the system call itself sleeps to its end.
fn a_paused_hang_up_lets_the_loop_sleep(backend: BackendChoice) {
    let mut rig = Rig::with(&becket::Config { backend, ..becket::Config::default() });
    let _fds = all_states(&mut rig, PAUSED);
    let start = Instant::now();
    assert_eq!(rig.event_loop.poll(Duration::from_millis(30)), Ok(0));
    assert!(start.elapsed().as_millis() >= 30, "it slept for {:?} only", start.elapsed());
    assert_eq!(rig.event_loop.statistics().turns, 1);
}

fn a_reset_connection_is_readable(backend: BackendChoice) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let theirs = listener.accept().unwrap().0;
    let mut rig = Rig::new(backend);
    rig.io("a", &ours, READABLE, nothing);
    rig.assert_silent();
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: a linger of its size; the fd is open. With no time to linger, close resets the connection.
    let set = unsafe {
        let size = size_of::<libc::linger>() as libc::socklen_t;
        libc::setsockopt(theirs.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size)
    };
    assert_eq!(set, 0);
    drop(theirs);
    let trace = until_something(&mut rig);
    assert_eq!(portable(&trace), ["a readable"]);
    if tells_more(backend) {
        assert!(trace[0].contains("error") && trace[0].contains("hangup"), "{trace:?}");
    }
    assert_eq!((&ours).read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

/// What comes over TCP may take a moment, even on the loopback.
fn until_something(rig: &mut Rig) -> Vec<String> {
    loop {
        let trace = rig.turn();
        if !trace.is_empty() {
            return trace;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// What poll(2) says of an fd now, in the words of a trace. (While the system is short of memory for TCP, it calls a
/// connection readable before the bytes that were asked for are there.)
fn as_poll_says(name: &str, fd: &impl AsRawFd, asked: Ready) -> Vec<String> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: asked.bits() as i16, revents: 0 };
    // SAFETY: one entry, valid to read and write.
    let count = unsafe { libc::poll(&raw mut entry, 1, 0) };
    assert!(count >= 0 && entry.revents & !entry.events == 0, "an error, or a hang-up");
    let said = Ready::from_bits_truncate(entry.revents as u16);
    let words = [(READABLE, " readable"), (Ready::PRIORITY, " priority"), (WRITABLE, " writable")];
    let told: String = words.iter().filter(|(flag, _)| said.contains(*flag)).map(|(_, word)| *word).collect();
    if told.is_empty() { Vec::new() } else { vec![format!("{name}{told}")] }
}

fn out_of_band_data_is_priority(backend: BackendChoice) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let theirs = listener.accept().unwrap().0;
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &ours, READABLE | Ready::PRIORITY, nothing);
    // SAFETY: one readable byte; the fd is open.
    let sent = unsafe { libc::send(theirs.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
    assert_eq!(sent, 1);
    // A turn between two answers of poll(2) that are the same tells the same.
    let told = |rig: &mut Rig, asked: Ready| loop {
        let before = as_poll_says("a", &ours, asked);
        let trace = rig.turn();
        if before == as_poll_says("a", &ours, asked) {
            assert_eq!(trace, before);
            return trace;
        }
    };
    while !told(&mut rig, READABLE | Ready::PRIORITY).concat().contains("priority") {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // Whoever does not ask for it is not told.
    rig.event_loop.modify_io(a, READABLE).unwrap();
    if told(&mut rig, READABLE).is_empty() {
        rig.assert_silent();
    }
}

/// Begins to connect without waiting for it.
fn connect(address: std::net::SocketAddr) -> TcpStream {
    let std::net::SocketAddr::V4(address) = address else { panic!("{address} is no IPv4 address") };
    // SAFETY: all zeros is a valid sockaddr_in.
    let mut name: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    name.sin_family = libc::AF_INET as libc::sa_family_t;
    name.sin_port = address.port().to_be();
    name.sin_addr.s_addr = u32::from(*address.ip()).to_be();
    // SAFETY: the fd is ours when socket(2) has made it; the name is of its size.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0);
        let stream = TcpStream::from_raw_fd(fd);
        let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let answer = libc::connect(fd, (&raw const name).cast(), size);
        let error = std::io::Error::last_os_error().raw_os_error();
        assert!(answer == 0 || error == Some(libc::EINPROGRESS) || error == Some(libc::ECONNREFUSED), "{error:?}");
        stream
    }
}

fn a_connection_that_succeeds_is_writable(backend: BackendChoice) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = connect(listener.local_addr().unwrap());
    let mut rig = Rig::new(backend);
    rig.io("a", &stream, WRITABLE, nothing);
    assert_eq!(until_something(&mut rig), ["a writable"]);
    assert!(stream.take_error().unwrap().is_none());
}

fn a_connection_that_is_refused_is_writable(backend: BackendChoice) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let stream = connect(address);
    let mut rig = Rig::new(backend);
    rig.io("a", &stream, WRITABLE, nothing);
    let trace = until_something(&mut rig);
    assert_eq!(portable(&trace), ["a writable"]);
    if tells_more(backend) {
        assert!(trace[0].contains("error"), "{trace:?}");
    }
}

fn a_listener_is_readable_when_somebody_connects(backend: BackendChoice) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut rig = Rig::new(backend);
    rig.io("a", &listener, READABLE, nothing);
    rig.assert_silent();
    let _stream = connect(listener.local_addr().unwrap());
    assert_eq!(until_something(&mut rig), ["a readable"]);
    listener.accept().unwrap();
    rig.assert_silent();
}

fn a_datagram_is_readable(backend: BackendChoice) {
    let [ours, theirs] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let mut rig = Rig::new(backend);
    rig.io("a", &ours, READABLE, nothing);
    rig.assert_silent();
    theirs.send_to(b"", ours.local_addr().unwrap()).unwrap(); // an empty one is one
    assert_eq!(until_something(&mut rig), ["a readable"]);
}

fn dev_null_is_always_ready(backend: BackendChoice) {
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &null, BOTH, nothing);
    assert_eq!(rig.turns(2), ["a readable writable", "a readable writable"]);
    rig.event_loop.modify_io(a, WRITABLE).unwrap();
    assert_eq!(rig.turn(), ["a writable"]);
    // A direction that was not asked for when it was found ready is not told.
    assert_eq!(rig.event_loop.poll(Duration::ZERO), Ok(1));
    rig.event_loop.modify_io(a, READABLE).unwrap();
    assert_eq!(rig.pull(Kinds::all()), [""; 0]);
    assert_eq!(rig.turn(), ["a readable"]);
    rig.event_loop.modify_io(a, PAUSED).unwrap();
    rig.assert_silent();
}

fn regular_files_and_directories_are_refused(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    for path in [file!(), "/"] {
        let file = File::open(path).unwrap();
        let answer = rig.event_loop.add_io(file.as_raw_fd(), READABLE, handler, 0);
        assert_eq!(answer, Err(Error::NOT_PERMITTED), "{path}");
        assert_eq!(rig.event_loop.find_io(file.as_raw_fd()), Err(Error::NOT_FOUND));
    }
    assert_eq!(rig.event_loop.statistics().sources, 0);
    rig.assert_silent();
}

fn an_fd_that_is_not_open_is_refused(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    for fd in [-1, i32::MIN, 1023] {
        assert_eq!(rig.event_loop.add_io(fd, READABLE, handler, 0), Err(Error::BAD_FD), "{fd}");
    }
    assert_eq!(rig.event_loop.statistics().sources, 0);
    rig.assert_silent();
}

fn a_trusted_fd_is_taken_as_it_is(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let file = File::open(file!()).unwrap();
    let mut rig = Rig::new(backend);
    let options = IoOptions { trusted: true, ..IoOptions::default() };
    rig.io_with("a", &ours, READABLE, options);
    assert_eq!(rig.turn(), ["a readable"]);
    // The check is what was saved; what poll(2) and select(2) say of a file is "ready".
    rig.io_with("file", &file, READABLE, options);
    assert_eq!(rig.turn().len(), 2);
    // Trust does not reach as far as a second source.
    assert_eq!(rig.event_loop.add_io_with(ours.as_raw_fd(), READABLE, options, None, 0), Err(Error::EXISTS));
    assert_eq!(rig.event_loop.add_io_with(-1, READABLE, options, None, 0), Err(Error::BAD_FD));
}

fn one_source_for_each_fd(backend: BackendChoice) {
    let (ours, theirs) = readable();
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &ours, PAUSED, nothing);
    assert_eq!(rig.event_loop.add_io(ours.as_raw_fd(), WRITABLE, handler, 0), Err(Error::EXISTS));
    assert_eq!(rig.event_loop.find_io(ours.as_raw_fd()), Ok(a));
    assert_eq!(rig.event_loop.find_io(theirs.as_raw_fd()), Err(Error::NOT_FOUND));
    assert_eq!(rig.event_loop.find_io(-1), Err(Error::NOT_FOUND));
    rig.assert_silent();
    rig.event_loop.remove(a).unwrap();
    assert_eq!(rig.event_loop.find_io(ours.as_raw_fd()), Err(Error::NOT_FOUND));
    rig.io("b", &ours, READABLE, nothing);
    assert_eq!(rig.turn(), ["b readable"]);
    // Another name of the same file is another fd.
    let other = ours.try_clone().unwrap();
    rig.io("c", &other, READABLE, nothing);
    let mut trace = rig.turn();
    trace.sort();
    assert_eq!(trace, ["b readable", "c readable"]);
}

fn fd_numbers_have_nothing_to_do_with_the_capacity(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    // SAFETY: the new fd is nobody else's; the lowest free number from 900 on.
    let high = unsafe {
        let fd = libc::fcntl(ours.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 900);
        assert!(fd >= 900);
        OwnedFd::from_raw_fd(fd)
    };
    let mut rig = Rig::sized::<2, 0>(&virtual_config(backend));
    let a = rig.io("high", &high, READABLE, nothing);
    rig.io("low", &ours, READABLE, nothing);
    let mut trace = rig.turn();
    trace.sort();
    assert_eq!(trace, ["high readable", "low readable"]);
    assert_eq!(rig.event_loop.find_io(high.as_raw_fd()), Ok(a));
    assert_eq!(rig.event_loop.io_fd(a), Ok(high.as_raw_fd()));
}

fn an_fd_that_went_bad_tells_its_own_source(backend: BackendChoice) {
    let [(a, _a), (b, _b), (c, _c)] = [readable(), readable(), pair()];
    let mut rig = Rig::new(backend);
    rig.io("a", &a, READABLE, nothing);
    let fd = OwnedFd::from(b);
    rig.io("b", &fd, READABLE, nothing);
    rig.io("c", &c, BOTH, nothing);
    drop(fd); // without removing its source first
    for _ in 0..2 {
        let mut trace = rig.turn();
        trace.sort();
        // epoll has forgotten the fd, and tells when it is asked for something new.
        let told = ["a readable", "b readable error", "c writable"];
        assert_eq!(trace, told.into_iter().filter(|it| tells_of_closed(backend) || *it != told[1]).collect::<Vec<_>>());
    }
    // Paused, it costs nothing; removing it is legal.
    rig.event_loop.remove(rig.app.handle("a")).unwrap();
    rig.event_loop.remove(rig.app.handle("c")).unwrap();
    let b = rig.app.handle("b");
    rig.event_loop.modify_io(b, PAUSED).unwrap();
    rig.assert_silent();
    rig.event_loop.modify_io(b, WRITABLE).unwrap();
    for _ in 0..2 {
        assert_eq!(rig.turn(), ["b writable error"]);
    }
    rig.event_loop.remove(b).unwrap();
    rig.assert_silent();
}

fn many_bad_fds_leave_the_others_alone(backend: BackendChoice) {
    let pairs: Vec<_> = (0..20).map(|_| readable()).collect();
    let (quiet, mut peer) = pair();
    let mut rig = Rig::new(backend);
    rig.io("quiet", &quiet, READABLE, nothing);
    for (number, (ours, _)) in pairs.iter().enumerate() {
        rig.io(&format!("{number}"), ours, READABLE, nothing);
    }
    drop(pairs);
    if !tells_of_closed(backend) {
        assert_eq!(rig.turn(), [""; 0]);
        for number in 0..20 {
            rig.event_loop.modify_io(rig.app.handle(&format!("{number}")), BOTH).unwrap();
        }
        let trace = rig.turn();
        assert_eq!(trace.iter().filter(|text| text.ends_with("readable writable error")).count(), 20, "{trace:?}");
        peer.write_all(b"x").unwrap();
        return assert!(rig.turn().contains(&"quiet readable".to_owned()));
    }
    let trace = rig.turn();
    assert_eq!(trace.iter().filter(|text| text.ends_with("readable error")).count(), 20, "{trace:?}");
    assert_eq!(trace.len(), 20);
    peer.write_all(b"x").unwrap();
    assert!(rig.turn().contains(&"quiet readable".to_owned()));
}

fn very_high_fd_numbers(backend: BackendChoice) {
    let (ours, theirs) = pair();
    limit_files(5000);
    let mut rig = Rig::sized::<4, 0>(&virtual_config(backend));
    for fd in [libc::FD_SETSIZE as i32 - 1, libc::FD_SETSIZE as i32, 4999] {
        dup2(&ours, fd);
        if backend == BackendChoice::Select && fd >= libc::FD_SETSIZE as i32 {
            assert_eq!(rig.event_loop.add_io(fd, READABLE, handler, 0), Err(Error::INVALID));
            let options = IoOptions { trusted: true, ..IoOptions::default() };
            assert_eq!(rig.event_loop.add_io_with(fd, READABLE, options, None, 0), Err(Error::INVALID));
            assert_eq!(rig.event_loop.find_io(fd), Err(Error::NOT_FOUND));
        } else {
            let name = format!("{fd}");
            let source = rig.io(&name, &Fd(fd), READABLE, nothing);
            rig.assert_silent();
            (&theirs).write_all(b"x").unwrap();
            assert_eq!(rig.turn(), [format!("{name} readable")]);
            drain(&ours);
            rig.event_loop.remove(source).unwrap();
        }
    }
    assert_eq!(rig.event_loop.statistics().sources, 0);
    rig.assert_silent();
}

/// poll(2) refuses an array longer than the limit of open files (EINVAL); most sources here are no fds at all.
fn more_sources_than_open_files(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    limit_files(64);
    let mut rig = Rig::sized::<512, 0>(&virtual_config(backend));
    for number in 0..300 {
        rig.timer(&format!("{number}"), 2000 * MS, 0, nothing);
    }
    rig.assert_silent();
    rig.io("a", &ours, READABLE, nothing);
    assert_eq!(rig.turn(), ["a readable"]);
}

/// Nor is it given one when they are: the last place that fits is used, and the next is refused.
fn more_fds_than_may_be_open(backend: BackendChoice) {
    const LIMIT: u32 = 40;
    let (ours, theirs) = pair();
    let copies: Vec<OwnedFd> = (0..2 * LIMIT).map(|_| ours.as_fd().try_clone_to_owned().unwrap()).collect();
    let mut rig = Rig::sized::<128, 0>(&virtual_config(backend));
    limit_files(LIMIT);
    let mut added = 0;
    for copy in &copies {
        match rig.event_loop.add_io(copy.as_raw_fd(), READABLE, handler, 0) {
            Ok(_) => added += 1,
            Err(error) => assert_eq!(error, Error::TABLE_FULL),
        }
    }
    assert_eq!(rig.event_loop.statistics().sources, added);
    // (One place is that of the loop's own descriptor.)
    assert_eq!(added, if backend == BackendChoice::Poll { LIMIT - 1 } else { 2 * LIMIT });
    rig.assert_silent();
    (&theirs).write_all(b"x").unwrap();
    // (What one turn tells at most is bounded elsewhere.)
    let told = rig.event_loop.poll(Duration::ZERO).unwrap();
    assert!(told == added || backend != BackendChoice::Poll && told > 0, "{told} of {added}");
}
