//! `c-examples/httpd.c` as its clients see it: the real program, over loopback TCP, on every backend. Its files are in
//! `httpd_files.rs`, how it is started and asked in `util/httpd.rs`.

mod util;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use util::httpd::{A_WHILE, BACKENDS, Client, HELLO, Server, get, httpd};
use util::{Child, GUARD, wait_until};

/// Requests, the status of the answer, and whether the connection outlives it.
fn requests() -> Vec<(String, u16, bool)> {
    let many = |count: usize| (0..count).map(|i| format!("F{i}: x\r\n")).collect::<String>();
    let list: Vec<(String, u16, bool)> = vec![
        (get("/", ""), 200, true),
        (get("/hello", ""), 200, true),
        (get("/_status.json", ""), 200, true),
        (get("/hello?who=me", ""), 200, true),
        (get("http://a/hello", ""), 200, true), // absolute-form
        (get("http://a", ""), 200, true),
        (get("/hello", "X: \t caf\u{e9} \t\r\nEmpty:\r\n"), 200, true),
        (format!("\r\n\r\n{HELLO}"), 200, true), // empty lines before a request are skipped
        (get("/hello", "Content-Length: 5\r\n") + "12345", 200, true),
        (get("/hello", "Content-Length: 0\r\n"), 200, true),
        (get("/hello", &many(99)), 200, true), // with Host: 100
        (get(&format!("/{}", "a".repeat(7900)), ""), 404, true),
        (get("/nothing", ""), 404, true),
        (get("/hello/", ""), 404, true),
        ("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".into(), 405, true),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405, true),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405, true),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405, true),
        ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 501, true),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 501, true), // methods are case-sensitive
        // Connection, and HTTP/1.0
        (get("/hello", "Connection: close\r\n"), 200, false),
        (get("/hello", "connection: Keep-Alive, , CLOSE\r\n"), 200, false),
        (get("/hello", "Connection: x\r\nConnection: close\r\n"), 200, false),
        (get("/hello", "Connection: closed, xclose\r\n"), 200, true),
        ("GET /hello HTTP/1.0\r\n\r\n".into(), 200, false),
        ("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(), 200, true),
        ("GET /hello HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n".into(), 200, false),
        ("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc".into(), 405, false),
        ("GET /hello HTTP/1.9\r\nHost: a\r\n\r\n".into(), 200, true),
        // Host
        ("GET /hello HTTP/1.1\r\n\r\n".into(), 400, false),
        (get("/hello", "Host: a\r\n"), 400, false),
        ("GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n".into(), 400, false),
        ("GET /hello HTTP/1.1\r\nHost:\r\n\r\n".into(), 200, true),
        // where two servers could disagree on the end of a request
        (get("/hello", "Content-Length: 3\r\nContent-Length: 3\r\n"), 400, false),
        (get("/hello", "Content-Length: 3\r\nContent-Length: 4\r\n"), 400, false),
        (get("/hello", "Content-Length: 3, 3\r\n"), 400, false),
        (get("/hello", "Content-Length: +3\r\n"), 400, false),
        (get("/hello", "Content-Length: 0x3\r\n"), 400, false),
        (get("/hello", "Content-Length:\r\n"), 400, false),
        (get("/hello", "Content-Length : 3\r\n"), 400, false),
        (get("/hello", " Folded: x\r\n"), 400, false),
        (get("/hello", "A: b\r\n folded\r\n"), 400, false),
        (get("/hello", "A: b\rc\r\n"), 400, false),
        (get("/hello", "A: b\r\r\n"), 400, false),
        (get("/hello", "A: b\0c\r\n"), 400, false),
        (get("/hello", "A: b\n"), 400, false), // a bare LF
        ("GET /hello HTTP/1.1\nHost: a\n\n".into(), 400, false),
        (get("/hello", "no colon\r\n"), 400, false),
        (get("/hello", ": no name\r\n"), 400, false),
        (get("/hello", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), 400, false),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), 400, false),
        (get("/hello", "Transfer-Encoding: chunked\r\n"), 501, false),
        // the request line
        ("GET /hello\r\n".into(), 400, false), // HTTP/0.9
        ("GET  /hello HTTP/1.1\r\n".into(), 400, false),
        ("GET /hel lo HTTP/1.1\r\n".into(), 400, false),
        ("GET /h#x HTTP/1.1\r\n".into(), 400, false),
        ("GET hello HTTP/1.1\r\n".into(), 400, false),
        ("GET http:///x HTTP/1.1\r\n".into(), 400, false),
        ("GET /hello HTTP/1.1 \r\n".into(), 400, false),
        ("GET /hello http/1.1\r\n".into(), 400, false),
        ("G@T /hello HTTP/1.1\r\n".into(), 400, false),
        (" GET /hello HTTP/1.1\r\n".into(), 400, false),
        ("GET /hello HTTP/2.0\r\n".into(), 505, false),
        ("PRI * HTTP/2.0\r\n".into(), 505, false),
        // limits; the last byte sent is the one that goes too far
        (format!("GET /{}", "a".repeat(8002 - "GET /".len())), 414, false),
        (get("/hello", &many(100)).trim_end().to_owned() + "\r\n", 431, false),
        (format!("{:b<12288}", get("/hello", "").trim_end().to_owned() + "\r\nA: "), 431, false),
        (get("/hello", "Content-Length: 1048577\r\n"), 413, false),
        (get("/hello", "Content-Length: 99999999999999999999999\r\n"), 413, false),
        (get("/hello", "Expect: 100-continue\r\nContent-Length: 5\r\n"), 200, false), // the final answer at once
        (get("/hello", "Expect: a miracle\r\n"), 417, false),
    ];
    list
}

/// One request, one answer; then the connection serves another or has ended, and the answer said which.
fn check(client: &mut Client, request: &str, status: u16, persists: bool) {
    let answer = client.read_answer(true);
    let shown = if request.len() > 200 { &request[..200] } else { request };
    assert_eq!(answer.status, status, "{shown:?}");
    let connection = answer.fields.get("connection").map_or("", String::as_str);
    if persists {
        let version_1_0 = request.contains("HTTP/1.0\r\n");
        assert_eq!(connection, if version_1_0 { "keep-alive" } else { "" }, "{shown:?}");
        client.hello();
    } else {
        assert_eq!(connection, "close", "{shown:?}");
        client.assert_ended();
    }
    assert_eq!(answer.fields.contains_key("allow"), status == 405, "{shown:?}");
}

#[test]
fn start_line_names_address_backend_and_capacity() {
    for backend in BACKENDS {
        let server = Server::start(backend, &["--connections", "7"]);
        let expected = format!("httpd: open http://127.0.0.1:{}/ (backend {backend}, 7 connections)", server.port);
        assert_eq!(server.child.out(), expected);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn every_request_has_its_status() {
    for backend in BACKENDS {
        let server = Server::start(backend, &[]);
        for (request, status, persists) in requests() {
            let mut client = server.connect();
            client.send(&request);
            check(&mut client, &request, status, persists);
        }
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn fragmentation_changes_nothing() {
    for backend in BACKENDS {
        let server = Server::start(backend, &["--request-timeout-ms", "60000"]);
        for (request, status, persists) in requests() {
            let mut client = server.connect();
            let pieces = if request.len() < 1000 { request.len() } else { 50 }; // byte by byte, the long ones less so
            for piece in request.as_bytes().chunks(request.len().div_ceil(pieces)) {
                client.stream.write_all(piece).unwrap();
            }
            check(&mut client, &request, status, persists);
        }
        // In the loop above the kernel may join pieces. Here each byte is seen to arrive by itself.
        let mut client = server.connect();
        let before = server.number("bytes_in");
        let request_size = get("/_status.json", "Connection: close\r\n").len() as u64;
        for (i, byte) in HELLO.bytes().enumerate() {
            client.stream.write_all(&[byte]).unwrap();
            let asked = i as u64 + 1;
            wait_until("the byte arrived", || {
                let now = server.number("bytes_in") - before;
                (now - asked).is_multiple_of(request_size) && now >= asked + request_size
            });
        }
        assert_eq!(client.answer(200).body(), "Hello, world!");
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_hundred_pipelined_requests_are_answered_in_order() {
    for backend in BACKENDS {
        let server = Server::start(backend, &[]);
        let mut client = server.connect();
        let kinds = [get("/hello", ""), get("/nothing", ""), "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n".into(), get("/", "")];
        let all: String = (0..100).map(|i| kinds[i % 4].as_str()).collect();
        // In one piece, and cut at every place of one request: the rest of a request stays for the next read.
        for cut in (0..kinds[0].len()).step_by(7) {
            client.send(&all[..all.len() / 2 + cut]);
            client.send(&all[all.len() / 2 + cut..]);
            for i in 0..100 {
                let answer = client.read_answer(i % 4 != 2);
                assert_eq!(answer.status, [200, 404, 200, 200][i % 4], "answer {i}");
                assert_eq!(answer.body().starts_with("<!DOCTYPE html>"), i % 4 == 3, "answer {i}");
            }
        }
        client.hello();
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn what_follows_the_last_request_is_not_answered() {
    for backend in BACKENDS {
        let server = Server::start(backend, &[]);
        let mut client = server.connect();
        client.send(&(get("/hello", "Connection: close\r\n") + HELLO + "garbage"));
        client.answer(200);
        client.assert_ended();
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn head_is_get_without_the_body() {
    for backend in BACKENDS {
        let server = Server::start(backend, &[]);
        let mut client = server.connect();
        for path in ["/", "/hello", "/nothing"] {
            client.send(&get(path, ""));
            let with_body = client.read_answer(true);
            client.send(&get(path, "").replace("GET", "HEAD"));
            let head = client.read_answer(false);
            assert_eq!((head.status, head.fields), (with_body.status, with_body.fields));
            client.hello(); // nothing of a body came between
        }
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_body_is_skipped() {
    for backend in BACKENDS {
        let server = Server::start(backend, &[]);
        let mut client = server.connect();
        let size = 1 << 20; // the limit itself; it looks like requests, and must not be taken for them
        client.send(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
        let body: String = HELLO.chars().cycle().take(size).collect();
        client.send(&body);
        client.answer(405);
        client.hello();
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_refusal_arrives_although_the_client_goes_on_sending() {
    for backend in BACKENDS {
        let server = Server::start(backend, &[]);
        for (begin, status) in [("GET / HTTP/1.1\r\nA: ", 431), ("GET /", 414)] {
            let mut client = server.connect();
            // More than the server's receive buffer takes: with a reset instead of an end, the answer would be lost.
            client.send(&(begin.to_owned() + &"x".repeat(300_000)));
            client.answer(status);
            client.stream.shutdown(Shutdown::Write).unwrap();
            client.assert_ended();
        }
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_slow_drip_is_408() {
    for backend in BACKENDS {
        let server = Server::start(backend, &["--request-timeout-ms", "400"]);
        let head = "GET /hello HTTP/1.1\r\nHost: a\r\nA: ";
        let body = "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
        for begin in [head, body] {
            let mut client = server.connect();
            client.hello(); // the deadline is the request's, not the connection's
            let start = Instant::now();
            client.send(begin);
            while !client.hears_within(Duration::from_millis(20)) {
                assert!(start.elapsed() < GUARD);
                client.send("x"); // activity extends nothing
            }
            assert!(start.elapsed() >= Duration::from_millis(400));
            assert_eq!(client.answer(408).fields["connection"], "close");
            client.assert_ended();
        }
        assert_eq!(server.number("timed_out"), 2);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn the_deadline_ends_with_its_request() {
    for backend in BACKENDS {
        let server = Server::start(backend, &["--request-timeout-ms", "1500"]);
        let mut client = server.connect();
        client.send("GET /hello HTTP/1.1\r\n");
        sleep(Duration::from_millis(100)); // so that it arrives in two pieces, and a deadline is armed between them
        client.send("Host: a\r\n\r\n");
        client.answer(200);
        assert!(!client.hears_within(Duration::from_millis(2000)));
        client.hello();
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn an_idle_connection_is_closed_in_silence() {
    for backend in BACKENDS {
        let server = Server::start(backend, &["--idle-timeout-ms", "300", "--request-timeout-ms", "60000"]);
        let start = Instant::now();
        let mut never_asked = server.connect();
        let mut asked = server.connect();
        asked.hello();
        let mut half = server.connect();
        half.send("GET /hello HTTP/1.1\r\n");
        never_asked.assert_ended();
        asked.assert_ended();
        assert!(start.elapsed() >= Duration::from_millis(300));
        // A request that has begun is the deadline's business, however long it is silent.
        assert!(!half.hears_within(Duration::from_millis(600)));
        half.send("Host: a\r\n\r\n");
        half.answer(200);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn activity_keeps_an_idle_connection() {
    for backend in BACKENDS {
        let server = Server::start(backend, &["--idle-timeout-ms", "15000"]);
        let mut client = server.connect();
        for _ in 0..20 {
            sleep(Duration::from_millis(20));
            client.hello();
        }
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn with_a_full_table_new_clients_wait() {
    for backend in BACKENDS {
        let server = Server::start(backend, &["--connections", "2"]);
        let mut first = server.connect();
        let mut second = server.connect();
        first.hello();
        second.hello();
        let mut third = server.connect();
        third.send(HELLO);
        server.assert_at_rest();
        assert!(!third.hears_within(Duration::from_millis(1)));
        first.hello(); // those that are in are served
        drop(first);
        assert_eq!(third.answer(200).body(), "Hello, world!");
        drop(third);
        let status = server.status();
        assert_eq!((status["connections_peak"].number(), status["accepted"].number()), (2, 4));
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn slots_and_blocks_come_back() {
    for backend in BACKENDS {
        let server = Server::start(backend, &["--connections", "2"]);
        for _ in 0..300 {
            server.connect().hello();
            let mut client = server.connect();
            client.send(&get("/hello", "Connection: close\r\n"));
            client.answer(200);
            client.assert_ended();
            server.connect().send("GET /"); // gone in the middle of a request
        }
        wait_until("only the asking connection is left", || server.number("connections") == 1);
        assert!(server.number("accepted") > 900);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn without_fds_it_pauses_and_recovers() {
    for backend in BACKENDS {
        let httpd = httpd();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 12; exec \"$0\" --port 0 --backend \"$1\""]).arg(&httpd).arg(backend);
        let server = Server::spawn(&mut command);
        let mut clients: Vec<Client> = (0..20)
            .map(|_| {
                let mut client = server.connect();
                client.send(HELLO);
                client
            })
            .collect();
        clients[0].answer(200);
        let mut served = 1;
        while clients[served].hears_within(Duration::from_millis(200)) {
            clients[served].answer(200);
            served += 1;
        }
        assert!(served < 12, "12 fds cannot serve {served} clients");
        server.assert_at_rest();
        // Each one that leaves lets another one in.
        for mut client in clients.drain(served..).collect::<Vec<_>>() {
            clients.remove(0);
            client.answer(200);
            clients.push(client);
        }
        drop(clients);
        assert!(server.number("accept_pauses") > 0);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn fds_that_others_give_back_are_noticed() {
    for backend in BACKENDS {
        let httpd = httpd();
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -S -n 12; exec \"$0\" --port 0 --backend \"$1\" --idle-timeout-ms 600000"])
            .arg(&httpd)
            .arg(backend);
        let server = Server::spawn(&mut command);
        let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        clients[19].send(HELLO);
        assert!(!clients[19].hears_within(A_WHILE));
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: prlimit(2) reads the one structure that it is given; the process is our child, not yet reaped.
        let result = unsafe { libc::prlimit(server.child.id(), libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
        assert_eq!(result, 0);
        clients[19].answer(200); // although nobody left
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_slow_reader_gets_everything_and_disturbs_nobody() {
    for backend in BACKENDS {
        let server = Server::start(backend, &["--request-timeout-ms", "60000"]);
        let mut client = server.connect();
        let count = 1000; // times the page: more than all socket buffers on the way hold
        let mut writer = client.stream.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            writer.write_all(get("/", "").repeat(count).as_bytes()).unwrap();
            writer.shutdown(Shutdown::Write).unwrap(); // half-closed, with most answers still to come
        });
        wait_until("the output stalls", || server.status()["slots"].text().contains('w'));
        server.assert_at_rest();
        server.connect().hello();
        let page = client.answer(200).body();
        for _ in 1..count {
            assert!(client.answer(200).body() == page);
        }
        client.assert_ended();
        writing.join().unwrap();
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_client_that_never_reads_loses_its_slot() {
    for backend in BACKENDS {
        let server = Server::start(backend, &["--request-timeout-ms", "500"]);
        let client = server.connect();
        client.stream.set_nonblocking(true).unwrap();
        let request = get("/", "").repeat(20);
        wait_until("the output stalls", || {
            while (&client.stream).write(request.as_bytes()).is_ok() {}
            server.status()["slots"].text().contains('w')
        });
        wait_until("the slot is free", || server.number("connections") == 1);
        assert_eq!(server.number("timed_out"), 1);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    for backend in BACKENDS {
        let server = Server::start(backend, &[]);
        let mut client = server.connect();
        client.send(HELLO);
        client.stream.shutdown(Shutdown::Write).unwrap();
        client.answer(200);
        client.assert_ended();
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_client_that_does_not_close_is_not_waited_for() {
    for backend in BACKENDS {
        let server = Server::start(backend, &[]);
        let mut client = server.connect();
        client.send(&get("/hello", "Connection: close\r\n"));
        client.answer(200);
        client.assert_ended();
        wait_until("the slot is free", || server.number("connections") == 1);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_signal_lets_requests_in_flight_finish() {
    for (backend, signal) in [("select", libc::SIGTERM), ("poll", libc::SIGTERM), ("poll", libc::SIGINT)] {
        let mut server = Server::start(backend, &["--request-timeout-ms", "60000", "--idle-timeout-ms", "600000"]);
        let mut idle = server.connect();
        idle.hello();
        let mut half = server.connect();
        half.send("GET /hello HTTP/1.1\r\n");
        wait_until("it has begun to read", || server.status()["slots"].text().contains('r'));
        server.child.signal(signal);
        idle.assert_ended();
        assert!(TcpStream::connect(("127.0.0.1", server.port)).is_err(), "it still accepts");
        assert!(!server.child.ended());
        half.send("Host: a\r\n\r\n");
        assert_eq!(half.answer(200).fields["connection"], "close");
        half.assert_ended();
        drop(half);
        server.child.expect_exit(0);
        assert!(server.child.out().contains("httpd: stopped after "), "{}", server.child.out());
    }
}

#[test]
fn a_signal_loses_nothing_that_has_arrived() {
    for backend in BACKENDS {
        let mut server = Server::start(backend, &["--idle-timeout-ms", "600000"]);
        let mut known = server.connect();
        known.hello();
        // While it is stopped: a request that nobody has read, a client that nobody has accepted, and the signal.
        server.child.signal(libc::SIGSTOP);
        known.send(HELLO);
        let mut new = server.connect();
        new.send(HELLO);
        server.child.signal(libc::SIGTERM);
        server.child.signal(libc::SIGCONT);
        for client in [&mut known, &mut new] {
            client.answer(200); // whichever was seen first, the signal or the request
            client.assert_ended();
        }
        drop((known, new));
        server.child.expect_exit(0);
    }
}

#[test]
fn a_signal_waits_for_an_answer_that_is_on_its_way() {
    for backend in BACKENDS {
        let mut server = Server::start(backend, &["--request-timeout-ms", "60000", "--idle-timeout-ms", "600000"]);
        let mut client = server.connect();
        let mut count = 0;
        loop {
            let asked = server.number("requests");
            client.send(&get("/", ""));
            count += 1;
            wait_until("it has answered", || server.number("requests") >= asked + 2);
            if server.status()["slots"].text().contains('w') {
                break; // the last answer, and nothing else, is stuck
            }
        }
        server.child.signal(libc::SIGTERM);
        wait_until("it has stopped accepting", || TcpStream::connect(("127.0.0.1", server.port)).is_err());
        for _ in 0..count {
            client.answer(200);
        }
        client.assert_ended();
        drop(client);
        server.child.expect_exit(0);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for backend in BACKENDS {
        let mut server = Server::start(backend, &["--request-timeout-ms", "600000"]);
        let mut half = server.connect();
        half.send("GET /hello HTTP/1.1\r\n");
        wait_until("it has begun to read", || server.status()["slots"].text().contains('r'));
        server.child.signal(libc::SIGTERM);
        wait_until("it has stopped accepting", || TcpStream::connect(("127.0.0.1", server.port)).is_err());
        server.child.signal(libc::SIGTERM);
        server.child.expect_exit(1);
    }
}

#[test]
fn a_taken_port_is_told_plainly() {
    for backend in BACKENDS {
        let server = Server::start(backend, &[]);
        let port = server.port.to_string();
        let mut second = Child::start(httpd(), ["--port", &port, "--backend", backend]);
        second.expect_exit(1);
        let message = second.err();
        assert!(message.contains(&format!("port {port} on 127.0.0.1 is taken")), "{message}");
        assert!(message.contains("--port N"), "{message}");
        assert_eq!(second.out(), "");
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn options_are_checked() {
    for (arguments, named) in [
        (&["--port", "65536"][..], "--port"),
        (&["--port", "-1"], "--port"),
        (&["--port", ""], "--port"),
        (&["--port", "80x"], "--port"),
        (&["--port"], "--port"),
        (&["--backend", "kqueue"], "--backend"),
        (&["--connections", "0"], "--connections"),
        (&["--connections", "1001"], "1 to 1000"),
        (&["--connections", "99999999999999999999"], "--connections"),
        (&["--address", "localhost"], "--address"),
        (&["--request-timeout-ms", "0"], "--request-timeout-ms"),
        (&["--idle-timeout-ms", "x"], "--idle-timeout-ms"),
        (&["--verbose"], "--verbose"),
        (&["8080"], "8080"),
    ] {
        let mut child = Child::start(httpd(), arguments);
        child.expect_exit(2);
        assert!(child.err().starts_with("httpd: ") && child.err().contains(named), "{arguments:?}: {}", child.err());
        assert_eq!((child.out(), child.err().lines().count()), (String::new(), 1));
    }
    let mut child = Child::start(httpd(), ["--help"]);
    child.expect_exit(0);
    for option in ["--port", "--address", "--backend", "--connections", "--request-timeout-ms", "--idle-timeout-ms"] {
        assert!(child.out().contains(option), "{option}");
    }
}

#[test]
fn status_counts() {
    for backend in BACKENDS {
        let server = Server::start(backend, &["--connections", "10"]);
        let mut clients = [server.connect(), server.connect(), server.connect()];
        clients.iter_mut().for_each(Client::hello);
        let before = server.status();
        for _ in 0..10 {
            clients[0].hello();
        }
        clients[1].send(&get("/nothing", ""));
        clients[1].answer(404);
        let after = server.status();
        let moved = |name: &str| after[name].number() - before[name].number();
        assert_eq!(after["backend"].text(), backend);
        assert_eq!(after["version"].text(), env!("CARGO_PKG_VERSION"));
        assert_eq!((moved("requests"), moved("refused"), moved("accepted")), (12, 1, 1)); // 12: /_status.json counts too
        assert!(moved("turns") >= 11 && moved("events_io") >= 11);
        assert!(moved("bytes_in") > 10 * HELLO.len() as u64 && moved("bytes_out") > 10 * HELLO.len() as u64);
        assert!(moved("uptime_ns") > 0 && moved("working_ns") > 0 && moved("waiting_ns") > 0);
        assert!(after["waiting_ns"].number() + after["working_ns"].number() > after["uptime_ns"].number() / 2);
        assert!((4..=5).contains(&after["connections"].number())); // 5: the one that asked `before` may still be closing
        assert_eq!(after["connections_max"].number(), 10);
        assert_eq!(after["sources"].number(), after["connections"].number() + 3);
        assert_eq!(after["slots"].text().len() as u64, after["connections_peak"].number());
        let used = after["slots"].text().bytes().filter(|slot| b"irwc".contains(slot)).count();
        assert_eq!(used as u64, after["connections"].number());
        assert!(after["queued_max"].number() > 0 && after["queued_max"].number() >= after["queued"].number());
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    for backend in BACKENDS {
        let server = Server::start(backend, &[]);
        let mut client = server.connect();
        client.send(&get("/", ""));
        let answer = client.answer(200);
        let page = answer.body();
        assert_eq!(answer.fields["content-type"], "text/html; charset=utf-8");
        assert!(answer.fields["content-security-policy"].starts_with("default-src 'none'"));
        assert!(page.ends_with("</html>\n") && page.contains("fetch('/_status.json'"));
        for foreign in ["http:", "https:", "src=", "@import"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        // Each number that the page reads is there.
        let status = server.status();
        for name in page.match_indices("s.").map(|(at, _)| &page[at + 2..]) {
            let name: String = name.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let is_field = name.contains('_') && name != "events_all";
            assert!(!is_field || status.contains_key(&name), "the page reads {name}");
        }
        server.stop(libc::SIGTERM);
    }
}
