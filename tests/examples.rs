//! The C examples, run as a user would run them: real clients, a real terminal line, real signals; on every backend. Each
//! short session is also run under the sanitizers and under valgrind. `httpd` has a file of its own.

mod util;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use util::{Child, GUARD, Watched, port_in};

const BACKENDS: [&str; 4] = ["select", "poll", "epoll", "io_uring"];

/// Starts an example on a backend.
fn start(watched: Watched, name: &str, backend: &str, arguments: &[&str]) -> Child {
    Child::spawn(watched.command(&format!("examples/{name}")).args(["--backend", backend]).args(arguments))
}

/// Runs a session in every way that this machine offers, on each backend. Not on io_uring under valgrind, in which no signal
/// arrives and no other thread runs during io_uring_enter(2).
fn everywhere(session: impl Fn(Watched, &str)) {
    for &watched in Watched::all() {
        for backend in BACKENDS.into_iter().filter(|it| watched != Watched::Valgrind || *it != "io_uring") {
            session(watched, backend);
        }
    }
}

fn count(text: &str, needle: &str) -> usize {
    text.matches(needle).count()
}

// ------------------------------------------------------------------------------------------------ options

#[test]
fn help_and_bad_options() {
    for name in [
        "echo",
        "plain_echo",
        "chat",
        "line",
        "proxy",
        "timers",
        "signals",
        "wake",
        "udp",
        "serial",
        "foreign",
        "simulate",
        "copy",
    ] {
        let program = util::program(&format!("examples/{name}"));
        let mut child = Child::start(&program, ["--help"]);
        child.expect_exit(0);
        assert!(child.out().starts_with(&format!("usage: {name} ")), "{}", child.out());
        assert_eq!(child.err(), "");
        for bad in [&["--nonsense"][..], &["--backend", "kqueue"], &["--backend"], &["--backend", "poll", "--"]] {
            let mut child = Child::start(&program, bad);
            child.expect_exit(2);
            assert!(child.err().starts_with("usage: "), "{name} {bad:?}: {}", child.err());
            assert_eq!(child.out(), "");
        }
    }
    for bad in ["", "x", "-1", "65536", "99999999999999999999", "80x"] {
        for echo in ECHOES {
            Child::start(util::program(&format!("examples/{echo}")), ["--port", bad]).expect_exit(2);
        }
        Child::start(util::program("examples/udp"), ["--port", bad]).expect_exit(2);
        Child::start(util::program("examples/chat"), ["--port", bad]).expect_exit(2);
    }
}

// ------------------------------------------------------------------------------------------------ echo, plain_echo

/// On streams, and on plain sources: no client can tell them apart.
const ECHOES: [&str; 2] = ["echo", "plain_echo"];

/// The one on each backend, the other on one.
fn each_echo() -> impl Iterator<Item = (&'static str, &'static str)> {
    BACKENDS.into_iter().map(|backend| ("echo", backend)).chain([("plain_echo", "poll")])
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.set_write_timeout(Some(GUARD)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).expect("write");
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, text);
}

fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size).map(next).collect()
}

#[test]
fn echo_answers_everybody_until_sigterm() {
    let session = |watched, echo: &str, backend: &str| {
        let mut child = start(watched, echo, backend, &["--port", "0"]);
        let line = child.wait_line("listening");
        assert!(line.ends_with(&format!("({backend})")), "{line}");
        let port = port_in(&line);
        let mut clients: Vec<TcpStream> = (0..8).map(|_| connect(port)).collect();
        for round in 0..3 {
            for (index, client) in clients.iter_mut().enumerate() {
                ask(client, format!("client {index} round {round}\n").as_bytes());
            }
        }
        // The end of one is answered by the end, and the others do not notice.
        let mut first = clients.remove(0);
        first.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(first.read(&mut [0; 8]).unwrap(), 0);
        ask(&mut clients[0], b"still there?");
        child.signal(libc::SIGTERM);
        child.expect_exit(0);
        assert!(child.out().ends_with(&format!("{echo}: ended")), "{}", child.out());
        assert_eq!(clients[0].read(&mut [0; 8]).unwrap(), 0);
    };
    everywhere(|watched, backend| ECHOES.into_iter().for_each(|echo| session(watched, echo, backend)));
}

/// A client that sends and does not read: the server stops reading from it, and loses nothing.
#[test]
fn echo_has_back_pressure() {
    for (echo, backend) in each_echo() {
        let mut child = start(Watched::No, echo, backend, &["--port", "0"]);
        let port = port_in(&child.wait_line("listening"));
        let data = noise(64 << 20);
        let mut sender = connect(port);
        let mut reader = sender.try_clone().unwrap();

        sender.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut sent = 0;
        let stalled = loop {
            match sender.write(&data[sent..data.len().min(sent + (64 << 10))]) {
                Ok(0) => break false,
                Ok(count) => sent += count,
                Err(_) => break true,
            }
            if sent == data.len() {
                break false;
            }
        };
        assert!(stalled, "{echo} on {backend}: the server took in everything and nobody read it");
        let before = child.cpu_time();
        std::thread::sleep(Duration::from_millis(600));
        let spent = child.cpu_time() - before;
        assert!(spent < Duration::from_millis(300), "{echo} on {backend}: it spins: {spent:?}");
        ask(&mut connect(port), b"and meanwhile it serves others");

        sender.set_write_timeout(Some(GUARD)).unwrap();
        let total = sent + (1 << 20);
        let rest = data[sent..total].to_vec();
        let writer = std::thread::spawn(move || sender.write_all(&rest).expect("write"));
        let mut back = vec![0; total];
        reader.read_exact(&mut back).expect("all of it");
        assert!(back == data[..total], "{echo} on {backend}: what came back differs");
        writer.join().unwrap();
    }
}

/// More clients than places: the one too many waits, silently, and is served when a place is free.
#[test]
fn echo_with_a_full_table() {
    for (echo, backend) in each_echo() {
        let mut child = start(Watched::No, echo, backend, &["--port", "0"]);
        let port = port_in(&child.wait_line("listening"));
        let mut clients: Vec<TcpStream> = (0..256).map(|_| connect(port)).collect();
        for client in &mut clients {
            ask(client, b"x");
        }
        let before = child.cpu_time();
        let mut waiting = connect(port);
        waiting.write_all(b"y").unwrap();
        waiting.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
        assert!(waiting.read(&mut [0; 1]).is_err(), "{echo} on {backend}: served without a place");
        let spent = child.cpu_time() - before;
        assert!(spent < Duration::from_millis(300), "{echo} on {backend}: it spins: {spent:?}");
        drop(clients.pop());
        waiting.set_read_timeout(Some(GUARD)).unwrap();
        let mut answer = [0; 1];
        waiting.read_exact(&mut answer).expect("the place that got free");
        assert_eq!(&answer, b"y");
    }
}

/// Out of fds: no spinning, and it recovers.
#[test]
fn echo_out_of_fds() {
    for (echo, backend) in each_echo() {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 16; exec \"$0\" \"$@\""]).arg(util::program(&format!("examples/{echo}")));
        let mut child = Child::spawn(command.args(["--backend", backend, "--port", "0"]));
        let port = port_in(&child.wait_line("listening"));
        let mut clients: Vec<TcpStream> = (0..20).map(|_| connect(port)).collect();
        ask(&mut clients[0], b"first");
        let last = clients.last_mut().unwrap();
        last.write_all(b"last").unwrap();
        last.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
        let before = child.cpu_time();
        assert!(last.read(&mut [0; 1]).is_err(), "{echo} on {backend}: 20 connections with 16 fds");
        let spent = child.cpu_time() - before;
        assert!(spent < Duration::from_millis(300), "{echo} on {backend}: it spins: {spent:?}");
        let mut last = clients.pop().unwrap();
        drop(clients);
        last.set_read_timeout(Some(GUARD)).unwrap();
        let mut answer = [0; 4];
        last.read_exact(&mut answer).expect("an fd got free");
        assert_eq!(&answer, b"last");
    }
}

#[test]
fn echo_says_that_its_port_is_taken() {
    for echo in ECHOES {
        let mut first = start(Watched::No, echo, "poll", &["--port", "0"]);
        let port = port_in(&first.wait_line("listening")).to_string();
        let mut second = start(Watched::No, echo, "poll", &["--port", &port]);
        second.expect_exit(1);
        assert!(second.err().starts_with(&format!("{echo}: listen: ")), "{}", second.err());
    }
}

// ------------------------------------------------------------------------------------------------ chat

/// The others read what one says, in order, and as lines, whatever the pieces are in which it comes.
#[test]
fn chat_tells_all_others() {
    everywhere(|watched, backend| {
        let mut child = start(watched, "chat", backend, &["--port", "0"]);
        let port = port_in(&child.wait_line("listening"));
        let mut clients: Vec<TcpStream> = (0..3).map(|_| connect(port)).collect();
        child.wait_line("2 has come");
        for index in 0..3 {
            clients[index].write_all(b"here\n").unwrap();
            for other in (0..3).filter(|other| *other != index) {
                expect_bytes(&mut clients[other], format!("{index}: here\n").as_bytes());
            }
        }
        clients[0].write_all(b"one\ntwo\nth").unwrap();
        expect_bytes(&mut clients[1], b"0: one\n0: two\n");
        clients[0].write_all(b"ree\n\n").unwrap();
        expect_bytes(&mut clients[1], b"0: three\n0: \n");
        expect_bytes(&mut clients[2], b"0: one\n0: two\n0: three\n0: \n");
        // A line without an end comes in pieces of 512 bytes.
        let long = "x".repeat(512);
        clients[1].write_all(format!("{long}y\n").as_bytes()).unwrap();
        expect_bytes(&mut clients[2], format!("1: {long}\n1: y\n").as_bytes());
        // One goes, and the others go on.
        drop(clients.remove(0));
        clients[1].write_all(b"bye\n").unwrap();
        expect_bytes(&mut clients[0], b"2: bye\n");
        child.signal(libc::SIGTERM);
        child.expect_exit(0);
        assert!(child.out().ends_with("chat: ended: 10 lines, 0 dropped"), "{}", child.out());
    });
}

/// A client that never reads is dropped, and the others do not notice.
#[test]
fn chat_drops_who_does_not_read() {
    for backend in BACKENDS {
        let mut child = start(Watched::No, "chat", backend, &["--port", "0"]);
        let port = port_in(&child.wait_line("listening"));
        let (mut speaker, mut reader) = (connect(port), connect(port));
        let silent = connect(port);
        child.wait_line("2 has come");
        speaker.write_all(b"here\n").unwrap();
        expect_bytes(&mut reader, b"0: here\n");
        let batch = format!("{}\n", "x".repeat(499)).repeat(100);
        let heard = format!("0: {}\n", "x".repeat(499)).repeat(100);
        let mut batches = 0;
        while !child.out().contains("2 dropped: it does not read") {
            batches += 1;
            assert!(batches < 2000, "{backend}: it holds 100 MB for somebody who does not read");
            speaker.write_all(batch.as_bytes()).unwrap();
            expect_bytes(&mut reader, heard.as_bytes());
        }
        reader.write_all(b"still here\n").unwrap();
        expect_bytes(&mut speaker, b"1: still here\n");
        drop(silent);
        child.signal(libc::SIGTERM);
        child.expect_exit(0);
        let said = batches * 100 + 2;
        assert!(child.out().ends_with(&format!("chat: ended: {said} lines, 1 dropped")), "{}", child.out());
    }
}

// ------------------------------------------------------------------------------------------------ line

#[test]
fn line_answers_every_line() {
    everywhere(|watched, backend| {
        let mut child = start(watched, "line", backend, &["--port", "0"]);
        let port = port_in(&child.wait_line("listening"));
        let mut client = connect(port);
        // In pieces, and several at once.
        client.write_all(b"hel").unwrap();
        let mut other = connect(port);
        other.write_all(b"one\r\n\ntwo\n").unwrap();
        expect_bytes(&mut other, b"1 ONE\n2 \n3 TWO\n");
        client.write_all(b"lo\nquit\nnobody hears this\n").unwrap();
        expect_bytes(&mut client, b"1 HELLO\n");
        expect_end(&mut client);
        // The longest line, and one that is too long.
        let mut line = vec![b'x'; 512];
        line.push(b'\n');
        other.write_all(&line).unwrap();
        expect_bytes(&mut other, &[b"4 ", &line.to_ascii_uppercase()[..]].concat());
        other.write_all(&[b'y'; 513]).unwrap();
        expect_bytes(&mut other, b"the line is too long\n");
        expect_end(&mut other);
        // A line that does not end is none.
        let mut last = connect(port);
        last.write_all(b"a\nb").unwrap();
        last.shutdown(std::net::Shutdown::Write).unwrap();
        expect_bytes(&mut last, b"1 A\n");
        expect_end(&mut last);
        child.signal(libc::SIGTERM);
        child.expect_exit(0);
        assert!(child.out().ends_with("line: ended"), "{}", child.out());
    });
}

/// A client that sends lines and reads no answer stands still; the others do not. Nothing is lost.
#[test]
fn line_has_back_pressure() {
    for backend in BACKENDS {
        let mut child = start(Watched::No, "line", backend, &["--port", "0"]);
        let port = port_in(&child.wait_line("listening"));
        let mut sender = connect(port);
        let mut reader = sender.try_clone().unwrap();
        let sent = fill(&mut sender, b"a line of 16 b.\n");
        let before = child.cpu_time();
        let mut other = connect(port);
        other.write_all(b"meanwhile\n").unwrap();
        expect_bytes(&mut other, b"1 MEANWHILE\n");
        std::thread::sleep(Duration::from_millis(600));
        let spent = child.cpu_time() - before;
        assert!(spent < Duration::from_millis(300), "{backend}: it spins: {spent:?}");
        let writer = std::thread::spawn(move || {
            let whole = sent.next_multiple_of(16);
            sender.write_all(&b"a line of 16 b.\n"[16 - (whole - sent)..]).expect("the rest of a line");
            sender.write_all(b"quit\n").expect("write");
        });
        let mut answers = Vec::new();
        reader.read_to_end(&mut answers).expect("all answers");
        writer.join().unwrap();
        let expected: Vec<u8> =
            (1..=sent.div_ceil(16)).flat_map(|number| format!("{number} A LINE OF 16 B.\n").into_bytes()).collect();
        assert!(answers == expected, "{backend}: {} bytes of {}", answers.len(), expected.len());
    }
}

/// Reads just this.
fn expect_bytes(client: &mut TcpStream, text: &[u8]) {
    let mut answer = vec![0; text.len()];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(String::from_utf8_lossy(&answer), String::from_utf8_lossy(text));
}

/// Nothing follows but the end. (Who is closed while he sends may be told so.)
fn expect_end(client: &mut TcpStream) {
    let count = client.read(&mut [0; 8]);
    assert!(
        matches!(&count, Ok(0)) || count.as_ref().is_err_and(|it| it.raw_os_error() == Some(libc::ECONNRESET)),
        "{count:?}"
    );
}

/// Sends a text again and again until nobody takes it any more. How many bytes.
fn fill(sender: &mut TcpStream, text: &[u8]) -> usize {
    sender.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let data = text.repeat((1 << 16) / text.len());
    let mut sent = 0;
    while let Ok(count) = sender.write(&data[sent % data.len()..]) {
        sent += count;
        assert!(sent < 256 << 20, "everything is taken, and nobody reads it");
    }
    sender.set_write_timeout(Some(GUARD)).unwrap();
    sent
}

// ------------------------------------------------------------------------------------------------ proxy

/// A server on a port of its own, for the proxy.
fn listen() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}

fn accept(listener: &std::net::TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("the proxy connects");
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.set_write_timeout(Some(GUARD)).unwrap();
    stream
}

#[test]
fn proxy_carries_both_directions_and_half_closes() {
    everywhere(|watched, backend| {
        let (listener, to) = listen();
        let mut child = start(watched, "proxy", backend, &["--port", "0", "--to", &to]);
        let port = port_in(&child.wait_line("listening"));
        for server_first in [false, true] {
            let mut client = connect(port);
            let mut server = accept(&listener);
            ask_through(&mut client, &mut server);
            let (first, second) = if server_first { (&mut server, &mut client) } else { (&mut client, &mut server) };
            first.write_all(b"the last word").unwrap();
            first.shutdown(std::net::Shutdown::Write).unwrap();
            let mut text = Vec::new();
            second.read_to_end(&mut text).unwrap();
            assert_eq!(text, b"the last word");
            // The other direction goes on.
            second.write_all(b"an answer").unwrap();
            expect_bytes(first, b"an answer");
            second.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(first.read(&mut [0; 8]).unwrap(), 0);
        }
        child.signal(libc::SIGTERM);
        child.expect_exit(0);
        assert!(child.out().ends_with("bytes carried"), "{}", child.out());
    });
}

fn ask_through(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"there").unwrap();
    expect_bytes(server, b"there");
    server.write_all(b"and back").unwrap();
    expect_bytes(client, b"and back");
}

/// A side that does not read stops the other one, in either direction; and then everything arrives.
#[test]
fn proxy_has_back_pressure() {
    for backend in BACKENDS {
        let (listener, to) = listen();
        let mut child = start(Watched::No, "proxy", backend, &["--port", "0", "--to", &to]);
        let port = port_in(&child.wait_line("listening"));
        let text = noise(1 << 16);
        for server_sends in [false, true] {
            let client = connect(port);
            let server = accept(&listener);
            let (mut sender, mut reader) = if server_sends { (server, client) } else { (client, server) };
            let sent = fill(&mut sender, &text);
            let before = child.cpu_time();
            // Others are served meanwhile.
            let mut other = connect(port);
            let mut others = accept(&listener);
            ask_through(&mut other, &mut others);
            std::thread::sleep(Duration::from_millis(600));
            let spent = child.cpu_time() - before;
            assert!(spent < Duration::from_millis(300), "{backend}: it spins: {spent:?}");
            sender.shutdown(std::net::Shutdown::Write).unwrap();
            let mut received = Vec::new();
            reader.read_to_end(&mut received).expect("all of it");
            assert_eq!(received.len(), sent);
            assert!(received.chunks(text.len()).all(|chunk| chunk == &text[..chunk.len()]), "{backend}: it differs");
        }
    }
}

/// A chain of three carries data in both directions at a time, in pieces of every size and with pauses.
#[test]
fn proxy_in_a_chain() {
    for backend in BACKENDS {
        let (listener, mut to) = listen();
        let mut children = Vec::new();
        for _ in 0..3 {
            let mut child = start(Watched::No, "proxy", backend, &["--port", "0", "--to", &to]);
            to = port_in(&child.wait_line("listening")).to_string();
            children.push(child);
        }
        let client = connect(to.parse().unwrap());
        let server = accept(&listener);
        let data = noise(4 << 20);
        std::thread::scope(|scope| {
            for (mut writer, mut reader, seed) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap(), 1_usize),
                (server.try_clone().unwrap(), client.try_clone().unwrap(), 2),
            ] {
                let data = &data;
                scope.spawn(move || {
                    let (mut at, mut step) = (0, seed);
                    while at < data.len() {
                        step = step * 7919 % 100_003;
                        let end = data.len().min(at + step);
                        writer.write_all(&data[at..end]).expect("write");
                        at = end;
                        if step % 8 == 0 {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                    writer.shutdown(std::net::Shutdown::Write).unwrap();
                });
                scope.spawn(move || {
                    let mut received = Vec::new();
                    let mut piece = vec![0; 77_777];
                    loop {
                        match reader.read(&mut piece).expect("read") {
                            0 => break,
                            count => received.extend_from_slice(&piece[..count]),
                        }
                        if received.len() % 5 == 0 {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                    assert!(received == *data, "{backend}: {} bytes", received.len());
                });
            }
        });
    }
}

/// Nobody listens behind it, and a side that breaks off: the other side hears of it, and nothing is left.
#[test]
fn proxy_breaks_both_sides_off() {
    for backend in BACKENDS {
        let (listener, to) = listen();
        let mut child = start(Watched::No, "proxy", backend, &["--port", "0", "--to", &to]);
        let port = port_in(&child.wait_line("listening"));
        let fds = || std::fs::read_dir(format!("/proc/{}/fd", child.id())).map_or(0, Iterator::count);
        let before = fds();
        for server_breaks in [false, true] {
            let client = connect(port);
            let server = accept(&listener);
            let (breaks, mut hears) = if server_breaks { (server, client) } else { (client, server) };
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            // SAFETY: the option is valid to read.
            let set = unsafe {
                let length = size_of::<libc::linger>() as libc::socklen_t;
                let fd = std::os::fd::AsRawFd::as_raw_fd(&breaks);
                libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), length)
            };
            assert_eq!(set, 0);
            drop(breaks);
            let end = hears.read(&mut [0; 8]);
            assert_eq!(end.expect_err("it was broken off").raw_os_error(), Some(libc::ECONNRESET));
        }
        drop(listener);
        expect_end(&mut connect(port));
        util::wait_until("all descriptors are closed", || fds() == before);
        child.signal(libc::SIGTERM);
        child.expect_exit(0);
    }
}

// ------------------------------------------------------------------------------------------------ copy

/// A file arrives as it is: read and sent in a row, by handlers, and by a task.
#[test]
fn copy_sends_a_file_three_ways() {
    let folder = util::scratch("copy");
    let content = noise(300_001);
    std::fs::write(folder.join("file"), &content).unwrap();
    std::fs::write(folder.join("empty"), b"").unwrap();
    everywhere(|watched, backend| {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        for how in ["blocking", "handlers", "task"] {
            for (file, content) in [("file", &content[..]), ("empty", b"")] {
                let path = folder.join(file);
                let path = path.to_str().unwrap();
                let mut child = start(watched, "copy", backend, &["--how", how, path, &port]);
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(GUARD)).unwrap();
                let mut arrived = Vec::new();
                stream.read_to_end(&mut arrived).unwrap();
                child.expect_exit(0);
                assert!(arrived == content, "{backend} {how}: {} of {} bytes", arrived.len(), content.len());
                assert_eq!(child.out(), format!("copy: {} bytes", content.len()));
            }
        }
    });
    for bad in [&["x"][..], &["x", "y"], &["x", "1", "2"], &["--how", "x", "/dev/null", "1"]] {
        let mut child = Child::start(util::program("examples/copy"), bad);
        assert_ne!(child.wait().code(), Some(0), "{bad:?}");
    }
    let mut child = Child::start(util::program("examples/copy"), ["/nonexistent", "1"]);
    child.expect_exit(1);
    assert!(child.err().starts_with("copy: /nonexistent: "), "{}", child.err());
}

// ------------------------------------------------------------------------------------------------ timers

#[test]
fn timers_end_by_themselves() {
    everywhere(|watched, backend| {
        let mut child = start(watched, "timers", backend, &[]);
        child.expect_exit(0);
        let out = child.out();
        for line in [
            "timers: once: after 20 ms",
            "timers: period: 10 times 5 ms",
            "timers: idle: nothing for 50 ms after 5 bytes",
            "timers: guard: disarmed",
            "timers: ended after all was removed: yes",
        ] {
            assert_eq!(out.lines().filter(|printed| *printed == line).count(), 1, "{line} in\n{out}");
        }
        let backoff: Vec<&str> = out.lines().filter(|line| line.contains("backoff")).collect();
        let expected = [10, 20, 40].map(|ms| format!("timers: backoff: waited {ms} ms"));
        assert_eq!(backoff, expected);
        assert_eq!(out.lines().count(), 8, "{out}");
    });
}

// ------------------------------------------------------------------------------------------------ simulate

#[test]
fn simulate_finds_a_mistake_and_nothing_else() {
    everywhere(|watched, backend| {
        let mut child = start(watched, "simulate", backend, &["--runs", "200"]);
        child.expect_exit(0);
        let out = child.out();
        assert!(out.starts_with("simulate: on a real connection: 1000 bytes\n"), "{out}");
        let words: Vec<&str> = out.lines().last().unwrap_or_default().split(' ').collect();
        let number = |place: usize| words.get(place).and_then(|word| word.parse::<u32>().ok()).unwrap_or_default();
        let (complete, broken) = (number(5), number(7));
        assert!(complete > 20 && broken > 20 && complete + broken == 200, "{out}");
    });
    // On a real connection it is never seen.
    let program = util::program("examples/simulate");
    let mut child = Child::start(&program, ["--bug"]);
    child.expect_exit(1);
    let out = child.out();
    let (found, again) = out.rsplit_once("; again by ").expect("how to repeat it");
    assert!(found.contains("simulate: after "), "{out}");
    let mut child = Child::start(&program, again.trim().split(' '));
    child.expect_exit(1);
    assert_eq!(child.out().trim(), out.trim());
}

// ------------------------------------------------------------------------------------------------ signals

fn pid_in(line: &str) -> i32 {
    line.split("child ").nth(1).and_then(|rest| rest.split(':').next()).and_then(|pid| pid.parse().ok()).expect(line)
}

fn exists(pid: i32) -> bool {
    // SAFETY: kill(2) with signal 0 only asks.
    unsafe { libc::kill(pid, 0) == 0 }
}

/// Whether the process runs the program of that name by now (from `/proc`; elsewhere simply yes).
fn is_running(pid: i32, name: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or(!Path::new("/proc/self").exists(), |comm| comm.trim() == name)
}

#[test]
fn signals_restarts_a_child_so_many_times() {
    everywhere(|watched, backend| {
        let mut child = start(watched, "signals", backend, &["--restarts", "2", "/bin/sh", "-c", "exit 3"]);
        child.expect_exit(1);
        let out = child.out();
        assert_eq!(count(&out, ": started"), 3, "{out}");
        assert_eq!(count(&out, ": exit status 3"), 3, "{out}");
        assert_eq!(count(&out, "gave up after 2 restarts"), 1, "{out}");

        let mut child = start(watched, "signals", backend, &["--restarts", "1"]); // the child that is built in
        child.expect_exit(1);
        assert_eq!(count(&child.out(), ": exit status 7"), 2, "{}", child.out());

        let mut child = start(watched, "signals", backend, &["/bin/sh", "-c", "exit 0"]);
        child.expect_exit(0);
        assert_eq!(count(&child.out(), ": started"), 1, "{}", child.out());

        let mut child = start(watched, "signals", backend, &["--restarts", "0", "/no/such/program"]);
        child.expect_exit(1);
        assert_eq!(count(&child.out(), ": exit status 127"), 1, "{}", child.out());
    });
}

#[test]
fn signals_counts_and_ends_with_its_child() {
    everywhere(|watched, backend| {
        for end in [libc::SIGTERM, libc::SIGINT] {
            let mut child = start(watched, "signals", backend, &["/bin/sleep", "1000"]);
            let first = pid_in(&child.wait_line(": started"));
            for round in 1..=3 {
                child.signal(libc::SIGUSR1);
                child.wait_line(&format!("SIGUSR1: {round} so far"));
            }
            // SAFETY: kill(2) touches no memory; the pid is a child that the supervisor has not reaped.
            assert_eq!(unsafe { libc::kill(first, libc::SIGKILL) }, 0);
            child.wait_line(&format!("child {first}: killed by signal 9"));
            let second = pid_in(&child.wait_line(": started"));
            assert_ne!(first, second);
            util::wait_until("the child has become sleep", || is_running(second, "sleep")); // valgrind loses signals in exec
            child.signal(end);
            child.wait_line(&format!("signal {end}: ending"));
            child.wait_line(&format!("child {second}: killed by signal 15"));
            child.expect_exit(0);
            assert!(!exists(first) && !exists(second), "a child was left behind");
        }
    });
}

/// A child that does not listen to SIGTERM is killed after a while.
#[test]
fn signals_loses_patience() {
    let deaf = "trap '' TERM; exec sleep 1000";
    let mut child = start(Watched::No, "signals", "poll", &["/bin/sh", "-c", deaf]);
    let pid = pid_in(&child.wait_line(": started"));
    util::wait_until("the child is deaf", || is_running(pid, "sleep"));
    child.signal(libc::SIGTERM);
    child.wait_line(&format!("child {pid}: killed by signal 9"));
    child.expect_exit(0);
}

/// Asked to end between two children: there is nothing to wait for.
#[test]
fn signals_ends_while_no_child_runs() {
    for backend in BACKENDS {
        let mut child = start(Watched::No, "signals", backend, &["--restarts", "1000000", "/bin/sh", "-c", "exit 3"]);
        child.wait_line("exit status 3");
        child.signal(libc::SIGTERM);
        child.expect_exit(0);
        assert!(child.out().ends_with("signals: ended"), "{}", child.out());
    }
}

// ------------------------------------------------------------------------------------------------ wake

#[test]
fn wake_loses_nothing() {
    everywhere(|watched, backend| {
        let items = if watched == Watched::Valgrind { 2000 } else { 100_000 };
        let mut child = start(watched, "wake", backend, &["--items", &items.to_string()]);
        child.expect_exit(0);
        let out = child.out();
        assert!(out.starts_with(&format!("wake: {items} items in ")) && out.ends_with("complete"), "{out}");
        let wakes: u64 = out.split(' ').nth(4).unwrap().parse().unwrap();
        assert!(wakes >= 1 && wakes <= items, "{out}");
    });
}

// ------------------------------------------------------------------------------------------------ udp

fn udp_client(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(GUARD)).unwrap();
    socket
}

fn ask_udp(socket: &UdpSocket, data: &[u8]) {
    let mut answer = vec![0; 65536];
    assert_eq!(socket.send(data).expect("send"), data.len());
    let size = socket.recv(&mut answer).expect("an answer");
    assert!(answer[..size] == *data, "{size} bytes came back for {}", data.len());
}

#[test]
fn udp_answers() {
    everywhere(|watched, backend| {
        let mut child = start(watched, "udp", backend, &["--port", "0"]);
        let port = port_in(&child.wait_line("answering"));
        let clients: Vec<UdpSocket> = (0..4).map(|_| udp_client(port)).collect();
        for round in 0..10 {
            for (index, client) in clients.iter().enumerate() {
                ask_udp(client, format!("datagram {round} of {index}").as_bytes());
            }
        }
        ask_udp(&clients[0], b"");
        ask_udp(&clients[0], &noise(60000));
        child.signal(libc::SIGTERM);
        child.expect_exit(0);
        assert!(child.out().ends_with("udp: ended: 42 answered, 0 delayed, 0 failed"), "{}", child.out());
    });
}

/// The loopback interface never makes a sender wait: so every second send says EAGAIN here.
#[test]
fn udp_waits_when_a_send_would_block() {
    if !cfg!(target_os = "linux") {
        return util::skip("udp with a send that would block", "Linux: it needs LD_PRELOAD");
    }
    let folder = util::scratch("udp");
    let (source, library) = (folder.join("slow_sendmsg.c"), folder.join("slow_sendmsg.so"));
    std::fs::write(
        &source,
        "#define _GNU_SOURCE\n#include <errno.h>\n#include <sys/socket.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
         ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {\n\
         static int calls;\n if (++calls % 2 == 1) { errno = EAGAIN; return -1; }\n\
         return syscall(SYS_sendmsg, fd, message, flags);\n}\n",
    )
    .unwrap();
    let made = util::cc().args(["-shared", "-fPIC", "-w"]).arg(&source).arg("-o").arg(&library).status().unwrap();
    assert!(made.success());
    for backend in BACKENDS {
        let mut command = Watched::No.command("examples/udp");
        let mut child = Child::spawn(command.args(["--port", "0", "--backend", backend]).env("LD_PRELOAD", &library));
        let client = udp_client(port_in(&child.wait_line("answering")));
        for round in 0..10 {
            ask_udp(&client, format!("datagram {round}").as_bytes());
        }
        child.signal(libc::SIGINT);
        child.expect_exit(0);
        assert!(child.out().ends_with("udp: ended: 10 answered, 10 delayed, 0 failed"), "{}", child.out());
    }
}

// ------------------------------------------------------------------------------------------------ serial

/// A pseudo-terminal: our end, and the path of the other one.
fn open_pty() -> (File, PathBuf) {
    // SAFETY: posix_openpt(3) touches no memory; the fd it returns is new and becomes the File's own.
    let master = unsafe {
        let fd = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(fd >= 0, "posix_openpt: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    };
    let fd = master.into_raw_fd();
    let mut name = [0_u8; 128];
    // SAFETY: the fd is open; ptsname_r(3) writes at most the size given, and ends the name with a zero.
    unsafe {
        assert_eq!(libc::grantpt(fd), 0);
        assert_eq!(libc::unlockpt(fd), 0);
        assert_eq!(libc::ptsname_r(fd, name.as_mut_ptr().cast(), name.len()), 0);
    }
    let end = name.iter().position(|byte| *byte == 0).unwrap();
    // SAFETY: the fd is open and nobody else's.
    (unsafe { File::from_raw_fd(fd) }, PathBuf::from(std::str::from_utf8(&name[..end]).unwrap()))
}

/// Reads one line from a terminal. A guard kills the program when it does not come, which ends the read.
fn read_line(master: &mut File) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while master.read(&mut byte).expect("a byte") == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// A path that leads to the terminal of the moment, as udev makes one for an adapter.
fn device(name: &str, to: &Path) -> PathBuf {
    let path = util::scratch("serial").join(name);
    let _ = std::fs::remove_file(&path);
    std::os::unix::fs::symlink(to, &path).unwrap();
    path
}

/// Kills the process when a session hangs in a read of its own: then the read fails and says so.
fn guarded(pid: i32) -> std::sync::mpsc::Sender<()> {
    let (alive, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if done.recv_timeout(GUARD) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            // SAFETY: kill(2) touches no memory; the sender is dropped before the process is reaped.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    });
    alive
}

#[test]
fn serial_frames_lines_and_survives_a_hang_up() {
    everywhere(|watched, backend| {
        let name = format!("{watched:?}-{backend}");
        let (mut master, path) = open_pty();
        let link = device(&name, &path);
        let mut child = start(watched, "serial", backend, &["--retry-ms", "20", link.to_str().unwrap()]);
        let guard = guarded(child.id());
        child.wait_line("open");
        master.write_all(b"hello\n").unwrap();
        assert_eq!(read_line(&mut master), "ok 5");
        // Framing: in pieces, several at once, empty ones, CR LF, what a terminal must not see.
        for piece in [&b"in pi"[..], b"ec", b"es\nand", b" more\r\n\n\x1b[2J\xff\n"] {
            master.write_all(piece).unwrap();
        }
        let answers: Vec<String> = (0..4).map(|_| read_line(&mut master)).collect();
        assert_eq!(answers, ["ok 9", "ok 8", "ok 0", "ok 5"]);
        master.write_all(&[b'x'; 128]).unwrap();
        master.write_all(b"\n").unwrap();
        assert_eq!(read_line(&mut master), "ok 128");
        master.write_all(&[b'x'; 1000]).unwrap();
        master.write_all(b"\nshort\n").unwrap();
        assert_eq!(read_line(&mut master), "too long");
        assert_eq!(read_line(&mut master), "ok 5");
        child.wait_line("line: short");

        // Half a line, then the adapter is pulled out; later it is back under the same name.
        master.write_all(b"half a li").unwrap();
        std::fs::remove_file(&link).unwrap();
        drop(master);
        child.wait_line("hung up");
        child.wait_line("trying again every 20 ms");
        let (mut master, path) = open_pty();
        device(&name, &path);
        child.wait_line("open");
        master.write_all(b"back\n").unwrap();
        assert_eq!(read_line(&mut master), "ok 4");
        child.wait_line("line: back");

        drop(guard);
        child.signal(libc::SIGTERM);
        child.expect_exit(0);
        let out = child.out();
        for line in ["hello", "in pieces", "and more", "", "?[2J?", "short", "back"] {
            assert!(out.lines().any(|printed| printed == format!("serial: line: {line}")), "{line:?} in\n{out}");
        }
        assert_eq!(count(&out, "trying again"), 1, "{out}");
        assert_eq!(child.err(), "");
    });
}

/// Nobody reads the answers for a while: none is lost, and lines wait in the line.
#[test]
fn serial_has_back_pressure() {
    const LINES: usize = 20_000;
    for backend in BACKENDS {
        let (mut master, path) = open_pty();
        let mut child = start(Watched::No, "serial", backend, &[path.to_str().unwrap()]);
        let guard = guarded(child.id());
        child.wait_line("open");
        let mut reader = master.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            for line in 0..LINES {
                master.write_all(if line % 2 == 0 { b"ab\n" } else { b"\n" }).unwrap();
            }
        });
        std::thread::sleep(Duration::from_millis(300));
        for line in 0..LINES {
            assert_eq!(read_line(&mut reader), if line % 2 == 0 { "ok 2" } else { "ok 0" }, "{backend}: answer {line}");
        }
        writer.join().unwrap();
        drop(guard);
        child.signal(libc::SIGTERM);
        child.expect_exit(0);
        assert_eq!(count(&child.out(), "line: ab"), LINES / 2);
    }
}

#[test]
fn serial_without_a_device() {
    let mut child = start(Watched::No, "serial", "poll", &[]);
    child.expect_exit(2);
    let mut child = start(Watched::No, "serial", "poll", &["--retry-ms", "10", "/dev/null"]); // is no terminal
    child.wait_line("/dev/null: ");
    child.signal(libc::SIGINT);
    child.expect_exit(0);
}

// ------------------------------------------------------------------------------------------------ foreign

#[test]
fn foreign_serves_both_loops() {
    everywhere(|watched, backend| {
        let mut child = start(watched, "foreign", backend, &["--port", "0"]);
        let client = udp_client(port_in(&child.wait_line("answering")));
        let mut input = child.stdin();
        for round in 0..5 {
            ask_udp(&client, format!("datagram {round}").as_bytes());
            input.write_all(b"12345678\n").unwrap();
            child.wait_line("read 9 bytes");
        }
        std::thread::sleep(Duration::from_millis(100));
        drop(input);
        child.expect_exit(0);
        let out = child.out();
        let last = out.lines().last().unwrap();
        assert!(last.ends_with(" ticks, 5 datagrams"), "{out}");
        let ticks: u32 = last.split(' ').nth(2).unwrap().parse().unwrap();
        assert!(ticks >= 9, "{last}"); // 10 ms each, counted even when the machine was busy
    });
}

#[test]
fn foreign_ends_by_a_signal_without_spinning() {
    everywhere(|watched, backend| {
        let mut child = start(watched, "foreign", backend, &["--port", "0"]);
        child.wait_line("answering");
        let before = child.cpu_time();
        std::thread::sleep(Duration::from_millis(600));
        let spent = child.cpu_time() - before;
        assert!(watched != Watched::No || spent < Duration::from_millis(300), "{backend}: it spins: {spent:?}");
        child.signal(libc::SIGTERM);
        child.expect_exit(0);
        assert!(child.out().contains("foreign: ended: "), "{}", child.out());
    });
}

// ------------------------------------------------------------------------------------------------ libev

/// Runs a session of `libev` where the program could be made; on epoll alone, which has a descriptor of its own.
fn with_libev(session: impl Fn(Watched, &str)) {
    if !util::is_made("examples/libev") {
        return util::skip("becket inside libev", "libev-dev");
    }
    for &watched in Watched::all() {
        session(watched, "epoll");
    }
}

#[test]
fn libev_serves_both_loops() {
    with_libev(|watched, backend| {
        let mut child = start(watched, "libev", backend, &["--port", "0"]);
        let line = child.wait_line("answering");
        assert!(line.ends_with(&format!("({backend})")), "{line}");
        let client = udp_client(port_in(&line));
        let mut input = child.stdin();
        for round in 0..5 {
            ask_udp(&client, format!("datagram {round}").as_bytes());
            input.write_all(b"12345678\n").unwrap();
            child.wait_line("read 9 bytes");
        }
        std::thread::sleep(Duration::from_millis(100));
        drop(input);
        child.expect_exit(0);
        let out = child.out();
        let last = out.lines().last().unwrap();
        assert!(last.ends_with(" ticks, 5 datagrams"), "{out}");
        let ticks: u32 = last.split(' ').nth(2).unwrap().parse().unwrap();
        assert!(ticks >= 9, "{last}"); // 10 ms each, counted even when the machine was busy
        assert_eq!(child.err(), "");
    });
}

#[test]
fn libev_ends_by_a_signal_without_spinning() {
    with_libev(|watched, backend| {
        let mut child = start(watched, "libev", backend, &["--port", "0"]);
        child.wait_line("answering");
        let before = child.cpu_time();
        std::thread::sleep(Duration::from_millis(600));
        let spent = child.cpu_time() - before;
        assert!(watched != Watched::No || spent < Duration::from_millis(300), "{backend}: it spins: {spent:?}");
        child.signal(libc::SIGTERM);
        child.expect_exit(0);
        assert!(child.out().contains("libev: ended: "), "{}", child.out());
    });
}

#[test]
fn libev_says_which_backends_it_cannot_watch() {
    if !util::is_made("examples/libev") {
        return util::skip("becket inside libev", "libev-dev");
    }
    let program = util::program("examples/libev");
    for backend in ["select", "poll", "io_uring"] {
        let mut child = Child::start(&program, ["--backend", backend]);
        child.expect_exit(2);
        assert!(child.err().contains(&format!("the {backend} backend has no descriptor")), "{}", child.err());
        assert_eq!(child.out(), "");
    }
    let mut child = Child::start(&program, ["--help"]);
    child.expect_exit(0);
    assert!(child.out().starts_with("usage: libev "), "{}", child.out());
    Child::start(&program, ["--backend", "kqueue"]).expect_exit(2);
}
