//! `c-examples/httpd.c` as its clients see it: starting it, asking it, reading what it answers.
//!
//! Nothing here is faster than the machine: what must happen is waited for, up to `util::GUARD`; only what must *not*
//! happen is given a fixed time. `BECKET_HTTPD` names another build of the program (with sanitizers, say).

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use super::{Child, GUARD, port_in, program};

/// Every backend that httpd is tested on.
pub const BACKENDS: [&str; 4] = ["select", "poll", "epoll", "io_uring"];
/// The smallest request.
pub const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

/// How long something that must not happen is waited for.
pub const A_WHILE: Duration = Duration::from_millis(500);
/// Processor time that a server with nothing to do may use in `A_WHILE`; one that spins uses all of it.
const NEXT_TO_NOTHING: Duration = Duration::from_millis(100);

/// A running server.
pub struct Server {
    pub child: Child,
    pub port: u16,
}

impl Server {
    /// On a free port.
    pub fn start(backend: &str, options: &[&str]) -> Server {
        Server::spawn(Command::new(httpd()).args(["--port", "0", "--backend", backend]).args(options))
    }

    /// The same, by a command of the test's own.
    pub fn spawn(command: &mut Command) -> Server {
        let mut child = Child::spawn(command);
        let port = port_in(&child.wait_line("httpd: open "));
        Server { child, port }
    }

    /// A connection to it.
    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.set_write_timeout(Some(GUARD)).unwrap();
        Client { stream, received: Vec::new() }
    }

    /// `/_status.json`, over a connection of its own.
    pub fn status(&self) -> HashMap<String, Value> {
        let mut client = self.connect();
        client.send("GET /_status.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        json(&client.answer(200).body())
    }

    /// One number of `/_status.json`.
    pub fn number(&self, name: &str) -> u64 {
        self.status()[name].number()
    }

    /// Nothing is to be done for `A_WHILE`, and nothing is what it does.
    pub fn assert_at_rest(&self) {
        let before = self.child.cpu_time();
        sleep(A_WHILE);
        let used = self.child.cpu_time() - before;
        assert!(used < NEXT_TO_NOTHING, "it used {used:?} of {A_WHILE:?}");
    }

    /// Ends it with a signal, and demands that it ends well and has nothing to complain of.
    pub fn stop(mut self, signal: i32) {
        self.child.signal(signal);
        self.child.expect_exit(0);
        assert_eq!(self.child.err(), "");
    }
}

/// The program.
pub fn httpd() -> PathBuf {
    std::env::var_os("BECKET_HTTPD").map_or_else(|| program("examples/httpd"), PathBuf::from)
}

/// A client of it.
pub struct Client {
    pub stream: TcpStream,
    received: Vec<u8>,
}

/// What it answered; the names of the fields in lower case.
pub struct Answer {
    pub status: u16,
    pub fields: HashMap<String, String>,
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The body, which is text.
    pub fn body(&self) -> String {
        String::from_utf8(self.bytes.clone()).unwrap()
    }
}

impl Client {
    pub fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).unwrap();
    }

    /// Reads until `done` finds what it wants in what has been received.
    fn receive_until<T>(&mut self, done: impl Fn(&[u8]) -> Option<T>) -> T {
        let mut chunk = [0; 65536];
        loop {
            if let Some(found) = done(&self.received) {
                return found;
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("it ended after {:?}", String::from_utf8_lossy(&self.received)),
                Ok(size) => self.received.extend_from_slice(&chunk[..size]),
                // With a timeout on the socket, a process that was stopped for a moment sees this too: socket(7).
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.received)),
            }
        }
    }

    /// The next answer.
    pub fn read_answer(&mut self, with_body: bool) -> Answer {
        let find_end = |bytes: &[u8]| bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let head_size = self.receive_until(find_end) + 4;
        let head: Vec<u8> = self.received.drain(..head_size).collect();
        let head = String::from_utf8(head).unwrap();
        let (first, fields) = head.trim_end().split_once("\r\n").unwrap();
        let status = first.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let fields: HashMap<String, String> = fields
            .split("\r\n")
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let body_size: usize = if with_body && status != 304 { fields["content-length"].parse().unwrap() } else { 0 };
        self.receive_until(|bytes| (bytes.len() >= body_size).then_some(()));
        let bytes = self.received.drain(..body_size).collect();
        Answer { status, fields, bytes }
    }

    /// The next answer, which has this status.
    pub fn answer(&mut self, status: u16) -> Answer {
        let answer = self.read_answer(true);
        assert_eq!(answer.status, status, "{}", answer.body());
        answer
    }

    pub fn hello(&mut self) {
        self.send(HELLO);
        assert_eq!(self.answer(200).body(), "Hello, world!");
    }

    /// The server has closed, in order and with nothing more to say.
    pub fn assert_ended(&mut self) {
        let mut rest = std::mem::take(&mut self.received);
        self.stream.read_to_end(&mut rest).unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    /// Whether anything, the end included, can be read within this time.
    pub fn hears_within(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let result = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(GUARD)).unwrap();
        !matches!(result, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }
}

/// A member of `/_status.json`.
#[derive(Debug)]
pub enum Value {
    Number(u64),
    Text(String),
}

impl Value {
    pub fn number(&self) -> u64 {
        match self {
            Value::Number(number) => *number,
            Value::Text(text) => panic!("{text:?} is no number"),
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Value::Number(number) => panic!("{number} is no text"),
            Value::Text(text) => text,
        }
    }
}

/// One flat object of whole numbers and plain strings, which is all that /_status.json is; anything else panics.
pub fn json(text: &str) -> HashMap<String, Value> {
    fn string(text: &str) -> (&str, &str) {
        let text = text.strip_prefix('"').expect("a string");
        let (string, rest) = text.split_once('"').expect("the end of a string");
        assert!(!string.contains(|c: char| c == '\\' || c.is_control()), "{string:?}");
        (string, rest)
    }
    let mut object = HashMap::new();
    let mut rest = text.trim_end().strip_prefix('{').expect("an object");
    loop {
        let (name, after) = string(rest);
        let after = after.strip_prefix(':').expect("a colon");
        let value = if after.starts_with('"') {
            let (value, after) = string(after);
            rest = after;
            Value::Text(value.to_owned())
        } else {
            let size = after.find(|c: char| !c.is_ascii_digit()).expect("the end of a number");
            assert!(size == 1 || !after.starts_with('0'), "JSON knows no leading zeros: {after}");
            rest = &after[size..];
            Value::Number(after[..size].parse().unwrap())
        };
        assert!(object.insert(name.to_owned(), value).is_none(), "{name} twice");
        if rest == "}" {
            return object;
        }
        rest = rest.strip_prefix(',').expect("a comma");
    }
}

/// A request.
pub fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}
