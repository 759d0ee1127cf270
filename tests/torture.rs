//! Servers whose clients behave as badly as they can: `echo`, `proxy` (with an `echo` behind it) and `httpd`, on every backend.
//!
//! However bad it gets, a server maps no more memory than at its start, does not spin, and leaves nothing behind (descriptors,
//! blocks, places), and others are served meanwhile; how fast, is printed. What is short here, `make torture` does for longer:
//! `TORTURE_SECONDS` of each torture, `TORTURE_BYTES` through the chain of proxies, on `TORTURE_BACKEND` alone.
//!
//! Tested are counts and processor time, never how long something takes: that is printed, too.

mod util;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use util::httpd::{BACKENDS, HELLO, Server, get};
use util::{Child, GUARD, port_in, program, wait_until};

/// Another client asks, is answered, and asks again after so long: that tells how well others are served.
const PAUSE: Duration = Duration::from_millis(2);
/// Servers with nothing to do use next to nothing of such a while; one that spins uses all of it.
const A_WHILE: Duration = Duration::from_millis(250);
const NEXT_TO_NOTHING: Duration = Duration::from_millis(80);
/// What a process may map beyond what it had at its start: a stack grows.
const MAPPED_MORE: u64 = 1 << 20;
/// Clients that behave badly at a time: the proxy has 64 places.
const CLIENTS: usize = 50;

// ------------------------------------------------------------------------------------------------ how much

/// A number such as 90, 64K or 10G from the environment; else what is short.
fn parameter(name: &str, short: u64) -> u64 {
    let Some(text) = std::env::var(name).ok().filter(|text| !text.is_empty()) else { return short };
    let number = text.trim_end_matches(['K', 'M', 'G']);
    let unit = match &text[number.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => panic!("{name}={text}: a number, then K, M, G or nothing"),
    };
    number.parse::<u64>().unwrap_or_else(|error| panic!("{name}={text}: {error}")) * unit
}

/// How long a torture lasts, beyond what it takes at least.
fn duration() -> Duration {
    Duration::from_secs(parameter("TORTURE_SECONDS", 0))
}

fn is_long() -> bool {
    duration() > Duration::ZERO
}

fn backends() -> impl Iterator<Item = &'static str> {
    let one = std::env::var("TORTURE_BACKEND").unwrap_or_default();
    assert!(one.is_empty() || BACKENDS.contains(&one.as_str()), "TORTURE_BACKEND={one}: one of {BACKENDS:?}");
    BACKENDS.into_iter().filter(move |backend| one.is_empty() || *backend == one)
}

/// By turns, when it is long: then one does not wait for the others' sake. When it is short, all at a time.
fn on_each_backend(torture: impl Fn(&'static str) + Sync) {
    if is_long() || std::env::var_os("TORTURE_BYTES").is_some() {
        return backends().for_each(torture);
    }
    scope(|scope| {
        for backend in backends() {
            let torture = &torture;
            scope.spawn(move || torture(backend));
        }
    });
}

// ------------------------------------------------------------------------------------------------ servers

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Echo,
    Proxy,
    Httpd,
}

const KINDS: [Kind; 3] = [Kind::Echo, Kind::Proxy, Kind::Httpd];

/// What httpd serves.
const FILE: &str = "/file.bin";
const FILE_SIZE: usize = 1 << 20;
/// What it says to HELLO.
const ANSWER: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n\r\nHello, world!";
/// What is slow is borne here, not sent away.
const PATIENCE: [&str; 6] =
    ["--request-timeout-ms", "3600000", "--idle-timeout-ms", "3600000", "--send-buffer", "20000"];

fn start(name: &str, backend: &str, options: &[&str]) -> Server {
    let mut command = Command::new(program(&format!("examples/{name}")));
    let mut child = Child::spawn(command.args(["--port", "0", "--backend", backend]).args(options));
    let port = port_in(&child.wait_line("127.0.0.1:"));
    Server { child, port }
}

/// A server, what stands behind it, and what they were like when nobody had asked them anything.
struct Victim {
    kind: Kind,
    backend: &'static str,
    /// The first is the one that is asked.
    servers: Vec<Server>,
    fds: usize,
    mapped: u64,
    begin: Instant,
    /// Of the other client, beside the torture and before it.
    latencies: Mutex<Vec<Duration>>,
    before: Mutex<Vec<Duration>>,
    said: Mutex<String>,
}

impl Victim {
    fn new(kind: Kind, backend: &'static str) -> Victim {
        match kind {
            Kind::Echo => Victim::of(kind, backend, vec![start("echo", backend, &[])]),
            Kind::Proxy => {
                let echo = start("echo", backend, &[]);
                let proxy = start("proxy", backend, &["--to", &echo.port.to_string()]);
                Victim::of(kind, backend, vec![proxy, echo])
            }
            Kind::Httpd => Victim::httpd(backend, FILE_SIZE),
        }
    }

    /// With a file of that size.
    fn httpd(backend: &'static str, size: usize) -> Victim {
        let root = util::scratch(&format!("torture-{size}"));
        let file = root.join(&FILE[1..]);
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let one_at_a_time = ONE_AT_A_TIME.lock().unwrap();
        if std::fs::metadata(&file).map_or(0, |file| file.len()) != size as u64 {
            std::fs::write(&file, Noise::new(0).at(0).repeat(size / Noise::PERIOD + 1).split_at(size).0).unwrap();
        }
        drop(one_at_a_time);
        let options = [&["--root", root.to_str().unwrap()][..], &PATIENCE].concat();
        Victim::of(Kind::Httpd, backend, vec![start("httpd", backend, &options)])
    }

    fn of(kind: Kind, backend: &'static str, servers: Vec<Server>) -> Victim {
        let (latencies, before, said) = (Mutex::default(), Mutex::default(), Mutex::default());
        let begin = Instant::now();
        let mut victim = Victim { kind, backend, servers, fds: 0, mapped: 0, begin, latencies, before, said };
        victim.fds = victim.fds();
        victim.mapped = victim.memory("VmSize");
        victim
    }

    /// The torture on every server and backend; in the end nothing is left.
    fn each(name: &str, torture: impl Fn(&Victim) + Sync) {
        on_each_backend(|backend| {
            for kind in KINDS {
                let victim = Victim::new(kind, backend);
                torture(&victim);
                victim.end(name);
            }
        });
    }

    fn connect(&self) -> TcpStream {
        dial(self.servers[0].port, None)
    }

    /// What the server answers, and the answer. A proxy's is the echo's behind it.
    fn exchange(&self) -> (&'static [u8], &'static [u8]) {
        const ECHOED: &[u8; 64] = &[7; 64];
        if self.kind == Kind::Httpd { (HELLO.as_bytes(), ANSWER.as_bytes()) } else { (ECHOED, ECHOED) }
    }

    fn ask(&self, stream: &mut TcpStream) {
        let (request, expected) = self.exchange();
        stream.write_all(request).expect("a request is sent");
        let mut answer = [0; 256];
        let answer = &mut answer[..expected.len()];
        stream.read_exact(answer).expect("an answer");
        assert_eq!(answer, expected);
    }

    /// While `work` goes on, another client asks all the time.
    fn beside<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Ends the other client, also when the work panics.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let over = AtomicBool::new(false);
        let mut other = self.connect();
        let mut ask = || {
            sleep(PAUSE);
            let begin = Instant::now();
            self.ask(&mut other);
            begin.elapsed()
        };
        if self.before.lock().unwrap().is_empty() {
            self.before.lock().unwrap().extend((0..25).map(|_| ask()));
        }
        scope(|scope| {
            scope.spawn(|| {
                let mut latencies = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    latencies.push(ask());
                }
                self.latencies.lock().unwrap().extend(latencies);
            });
            let _over = Over(&over);
            work()
        })
    }

    /// Adds to what is printed in the end.
    fn say(&self, text: &str) {
        self.said.lock().unwrap().push_str(text);
    }

    fn children(&self) -> impl Iterator<Item = &Child> {
        self.servers.iter().map(|server| &server.child)
    }

    fn fds(&self) -> usize {
        self.children().map(|child| std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().count()).sum()
    }

    fn cpu(&self) -> Duration {
        self.children().map(Child::cpu_time).sum()
    }

    /// Of /proc/PID/status, in bytes, all of them.
    fn memory(&self, field: &str) -> u64 {
        let of = |child: &Child| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let line = status.lines().find(|line| line.starts_with(field)).expect(field);
            let digits: String = line.chars().filter(char::is_ascii_digit).collect();
            digits.parse::<u64>().unwrap() << 10
        };
        self.children().map(of).sum()
    }

    /// Nothing is to be done, and nothing is what they do.
    fn assert_at_rest(&self) {
        let before = self.cpu();
        sleep(A_WHILE);
        let used = self.cpu() - before;
        assert!(used < NEXT_TO_NOTHING, "{:?} on {}: {used:?} of {A_WHILE:?}", self.kind, self.backend);
    }

    /// Nobody is there any more, and nothing is left; then they end in order.
    fn end(self, name: &str) {
        wait_until(&format!("{:?} on {} has closed everything", self.kind, self.backend), || self.fds() <= self.fds);
        if self.kind == Kind::Httpd {
            let status = self.servers[0].status();
            for held in ["files_open", "blocks_used", "blocks_waiting", "operations_now"] {
                assert_eq!(status[held].number(), 0, "{held} on {}", self.backend);
            }
            // The one that asks, and a listener, two signals and a timer beside it.
            assert_eq!((status["connections"].number(), status["sources"].number()), (1, 5), "{}", self.backend);
            assert_eq!(status["stale_dropped"].number(), 0);
        }
        self.assert_at_rest();
        self.ask(&mut self.connect());
        let (mapped, resident, cpu) = (self.memory("VmSize"), self.memory("VmHWM"), self.cpu());
        assert!(mapped <= self.mapped + MAPPED_MORE, "{:?} on {}: {mapped} bytes are mapped", self.kind, self.backend);
        let (mut latencies, mut before) = (self.latencies.lock().unwrap(), self.before.lock().unwrap());
        latencies.sort();
        before.sort();
        let part = |of: &[Duration], part| of.get(of.len() * part / 100).map_or(0, Duration::as_micros);
        println!(
            "{name}: {:?} on {}: {}; others: half in {} us (before: {} us), 99 % in {} us, of {}; {} KiB resident at most, {} ms of \
             processor time in {} ms",
            self.kind,
            self.backend,
            self.said.lock().unwrap(),
            part(&latencies, 50),
            part(&before, 50),
            part(&latencies, 99),
            latencies.len(),
            resident >> 10,
            cpu.as_millis(),
            self.begin.elapsed().as_millis()
        );
        drop((latencies, before));
        for mut server in self.servers {
            server.child.signal(libc::SIGTERM);
            server.child.expect_exit(0);
            assert_eq!(server.child.err(), "", "{:?} on {}", self.kind, self.backend);
        }
    }
}

// ------------------------------------------------------------------------------------------------ clients

/// Connects; with a receive buffer as small as that.
fn dial(port: u16, receive_buffer: Option<libc::c_int>) -> TcpStream {
    let stream = util::dial(port, receive_buffer);
    ready(&stream);
    stream
}

fn ready(stream: &TcpStream) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.set_write_timeout(Some(GUARD)).unwrap();
}

/// Breaks a connection off.
fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the option is valid to read.
    let set = unsafe {
        let pointer = (&raw const linger).cast();
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, pointer, length)
    };
    assert_eq!(set, 0);
}

/// How a client goes: it closes, or breaks off.
fn go(stream: TcpStream, breaks_off: bool) {
    if breaks_off {
        reset(stream);
    }
}

/// Reads and drops up to so many bytes; fewer when it ends, or breaks off.
fn take(stream: &mut TcpStream, mut count: usize) -> usize {
    let mut bytes = vec![0; 65536.min(count)];
    let wanted = count;
    while count > 0 {
        let room = bytes.len().min(count);
        match stream.read(&mut bytes[..room]) {
            Ok(0) => break,
            Ok(size) => count -= size,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    wanted - count
}

/// Pseudo-random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Endless bytes that repeat themselves after a prime number of them, so that what is lost, doubled or exchanged shows.
#[derive(Clone, Copy)]
struct Noise {
    period: &'static [u8],
    shift: u64,
}

impl Noise {
    const PERIOD: usize = 1_048_573;

    /// Others for each number; those of 0 begin with the period.
    fn new(number: u64) -> Noise {
        static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
        let mut random = Random(1);
        let period = BYTES.get_or_init(|| (0..Noise::PERIOD).map(|_| (random.below(1 << 40) >> 16) as u8).collect());
        Noise { period, shift: number * 7919 }
    }

    /// From this place on, to the period's end.
    fn at(&self, place: u64) -> &'static [u8] {
        &self.period[((place + self.shift) % Noise::PERIOD as u64) as usize..]
    }

    /// Whether these are the bytes from that place on.
    fn is(&self, mut place: u64, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let expected = self.at(place);
            let size = expected.len().min(bytes.len());
            if bytes[..size] != expected[..size] {
                return false;
            }
            place += size as u64;
            bytes = &bytes[size..];
        }
        true
    }
}

// ------------------------------------------------------------------------------------------------ those that are slow

/// They send as much as they can, and read nothing.
#[test]
fn clients_that_never_read() {
    // Each of them fills several megabytes of the system's buffers, and more where two servers are in a row.
    let count = if is_long() { CLIENTS } else { 12 };
    Victim::each("never read", |victim| {
        let requests = match victim.kind {
            Kind::Httpd => get(FILE, "").repeat(1000).into_bytes(),
            _ => vec![1; 65536],
        };
        let mut sent = 0;
        let clients = victim.beside(|| {
            let mut clients: Vec<TcpStream> = (0..count).map(|_| dial(victim.servers[0].port, Some(16384))).collect();
            clients.iter().for_each(|client| client.set_nonblocking(true).unwrap());
            // Until nobody could send anything for a while.
            let mut idle = 0;
            while idle < 20 {
                idle += 1;
                for client in &mut clients {
                    match client.write(&requests) {
                        Ok(size) => (sent, idle) = (sent + size, 0),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                sleep(Duration::from_millis(10));
            }
            sleep(duration());
            clients
        });
        victim.assert_at_rest();
        victim.beside(|| sleep(PAUSE * 10));
        victim.say(&format!("{count} have sent {} KiB", sent >> 10));
        drop(clients);
    });
}

/// They send a byte, and wait, and send another one.
#[test]
fn clients_that_send_a_byte_a_second() {
    let (ticks, tick) = match is_long() {
        true => (duration().as_secs(), Duration::from_secs(1)),
        false => (15, Duration::from_millis(20)),
    };
    Victim::each("a byte a second", |victim| {
        let request = get("/hello", &format!("X: {}\r\n", "x".repeat(ticks as usize))).into_bytes();
        let before = victim.cpu();
        let mut clients = victim.beside(|| {
            let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| victim.connect()).collect();
            let mut byte = [0];
            for place in 0..ticks as usize {
                for client in &mut clients {
                    client.write_all(&request[place..=place]).unwrap();
                    if victim.kind != Kind::Httpd {
                        client.read_exact(&mut byte).unwrap();
                        assert_eq!(byte[0], request[place]);
                    }
                }
                sleep(tick);
            }
            clients
        });
        let spent = (victim.cpu() - before).as_micros() as u64;
        let asked = ticks * CLIENTS as u64 + victim.latencies.lock().unwrap().len() as u64;
        victim
            .say(&format!("{CLIENTS} have sent {ticks} bytes each; {} us of processor time a request", spent / asked));
        victim.assert_at_rest();
        for client in clients.iter_mut().filter(|_| victim.kind == Kind::Httpd) {
            client.write_all(&request[ticks as usize..]).unwrap();
            let mut answer = vec![0; ANSWER.len()];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, ANSWER.as_bytes());
        }
    });
}

/// Many fetch a large file, a little at a time; half of them give up, the others get all that was promised.
#[test]
fn a_thousand_slow_readers() {
    const READERS: usize = 997; // three of a thousand places are left for those who ask beside them
    if util::raise_fd_limit() < 2100 {
        return util::skip("a thousand slow readers", "a limit of 2,100 open files: ulimit -n");
    }
    let size = if is_long() { 16 << 20 } else { FILE_SIZE };
    let noise = Noise::new(0);
    for backend in backends() {
        let victim = Victim::httpd(backend, size);
        let mut total = 0;
        victim.beside(|| {
            let mut readers: Vec<(TcpStream, usize)> = (0..READERS)
                .map(|_| {
                    let mut reader = dial(victim.servers[0].port, Some(4096));
                    reader.write_all(get(FILE, "Connection: close\r\n").as_bytes()).unwrap();
                    (reader, 0)
                })
                .collect();
            let mut chunk = [0; 65536];
            // The head, which is small; then the file.
            for (reader, _) in &mut readers {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    reader.read_exact(&mut chunk[..1]).unwrap();
                    head.push(chunk[0]);
                }
                assert!(head.starts_with(b"HTTP/1.1 200 "));
            }
            let mut read = |(reader, place): &mut (TcpStream, usize), most: usize| {
                let count = reader.read(&mut chunk[..most]).unwrap();
                assert!(noise.is(*place as u64, &chunk[..count]), "{backend}: other bytes from {place} on");
                *place += count;
                total += count;
                count
            };
            let end = Instant::now() + duration();
            loop {
                for reader in &mut readers {
                    read(reader, 2048);
                }
                if Instant::now() >= end {
                    break;
                }
                sleep(Duration::from_millis(100));
            }
            assert!(victim.servers[0].number("connections") >= READERS as u64);
            for (number, (reader, _)) in readers.split_off(READERS / 50).into_iter().enumerate() {
                go(reader, number % 2 == 0);
            }
            for reader in &mut readers {
                while read(reader, 65536) > 0 {}
                assert_eq!(reader.1, size);
            }
        });
        victim.say(&format!("{READERS} have read {} KiB of a file of {} KiB", total >> 10, size >> 10));
        victim.end("slow readers");
    }
}

// ------------------------------------------------------------------------------------------------ those that come and go

/// They connect, ask once, and go, in order or not: 10,000 a second where the machine can do that.
#[test]
fn clients_that_come_and_go() {
    const RATE: u64 = 10_000;
    const THREADS: u64 = 4;
    Victim::each("come and go", |victim| {
        let begin = Instant::now();
        let came = AtomicU64::new(0);
        let is_over = |came: u64| if is_long() { begin.elapsed() > duration() } else { came >= 800 };
        victim.beside(|| {
            scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        loop {
                            let number = came.fetch_add(1, Ordering::Relaxed);
                            if is_over(number) {
                                came.fetch_sub(1, Ordering::Relaxed);
                                break;
                            }
                            sleep(Duration::from_nanos(number * 1_000_000_000 / RATE).saturating_sub(begin.elapsed()));
                            let mut client = victim.connect();
                            victim.ask(&mut client);
                            go(client, number & 3 != 0);
                        }
                    });
                }
            });
        });
        let (came, spent) = (came.into_inner(), begin.elapsed());
        victim.say(&format!("{came} came and went, {:.0} a second", came as f64 / spent.as_secs_f64()));
        if victim.kind == Kind::Httpd {
            let status = victim.servers[0].status();
            let others = victim.before.lock().unwrap().len() + victim.latencies.lock().unwrap().len();
            assert_eq!(status["requests"].number(), others as u64 + came);
        }
    });
}

/// They break off, or close, at every point of an exchange.
#[test]
fn resets_at_every_point() {
    Victim::each("resets", |victim| {
        let count = victim.beside(|| {
            rounds(|| {
                for breaks_off in [true, false] {
                    match victim.kind {
                        Kind::Echo | Kind::Proxy => resets_of_an_echo(victim, breaks_off),
                        Kind::Httpd => resets_of_a_request(victim, breaks_off),
                    }
                }
            })
        });
        victim.say(&format!("{count} rounds"));
    });
}

/// Does it once at least, and for as long as a torture lasts: how often.
fn rounds(mut round: impl FnMut()) -> u64 {
    let (begin, mut count) = (Instant::now(), 0);
    while count == 0 || begin.elapsed() < duration() {
        round();
        count += 1;
    }
    count
}

/// Sends so much, reads so much, and goes; with an end of its own sending before, and without.
fn exchange_and_go(victim: &Victim, sent: &[u8], read: usize, breaks_off: bool) {
    for half_closed in [false, true] {
        let mut client = victim.connect();
        client.write_all(sent).unwrap();
        if half_closed {
            client.shutdown(Shutdown::Write).unwrap();
        }
        assert_eq!(take(&mut client, read), read);
        go(client, breaks_off);
    }
}

/// After so many bytes were sent, and so many of them read.
fn resets_of_an_echo(victim: &Victim, breaks_off: bool) {
    for sent in [0, 1, 4096, 4097, 150_000] {
        for read in [0, 1, 4095, 100_000, 150_000].into_iter().filter(|read| *read <= sent) {
            exchange_and_go(victim, &vec![3; sent], read, breaks_off);
        }
    }
}

/// After each byte of a request for a file, and somewhere in the answer.
fn resets_of_a_request(victim: &Victim, breaks_off: bool) {
    let request = get(FILE, "").into_bytes();
    for sent in 0..=request.len() {
        let mut client = victim.connect();
        client.write_all(&request[..sent]).unwrap();
        go(client, breaks_off);
    }
    for read in [1, 100, 300, 4096, 65536, 200_000, FILE_SIZE] {
        exchange_and_go(victim, &request, read, breaks_off);
    }
}

/// The same with a proxy between two sides, each of which goes at every point, however the other takes it.
#[test]
fn resets_on_both_sides_of_a_proxy() {
    on_each_backend(|backend| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let proxy = start("proxy", backend, &["--to", &port]);
        let fds = || std::fs::read_dir(format!("/proc/{}/fd", proxy.child.id())).unwrap().count();
        let before = fds();
        let count = rounds(|| {
            // What the sides do before one of them goes: so many bytes there, so many back, and who ends its own sending.
            for there in [0, 1, 100_000] {
                for back in [0, 1, 100_000] {
                    for ended in 0..4 {
                        for how in 0..4 {
                            let mut client = dial(proxy.port, None);
                            let mut server = listener.accept().unwrap().0;
                            ready(&server);
                            client.write_all(&vec![1; there]).unwrap();
                            server.write_all(&vec![2; back]).unwrap();
                            if ended & 1 != 0 {
                                client.shutdown(Shutdown::Write).unwrap();
                            }
                            if ended & 2 != 0 {
                                server.shutdown(Shutdown::Write).unwrap();
                            }
                            let (goes, mut stays) = if how & 1 != 0 { (client, server) } else { (server, client) };
                            go(goes, how & 2 != 0);
                            take(&mut stays, usize::MAX); // until the end, or until it is broken off
                        }
                    }
                }
            }
        });
        wait_until(&format!("all descriptors are closed ({backend})"), || fds() <= before);
        proxy.assert_at_rest();
        proxy.child.signal(libc::SIGTERM);
        let mut child = proxy.child;
        child.expect_exit(0);
        assert_eq!(child.err(), "");
        println!("resets on both sides: Proxy on {backend}: {count} rounds");
    });
}

// ------------------------------------------------------------------------------------------------ a chain of proxies

/// Three proxies in a row, and connections through them that carry bytes both ways, in pieces of every size, with pauses, and with
/// ends of one direction before the other: every byte arrives, and its end after it.
#[test]
fn a_chain_of_proxies() {
    const LANES: u64 = 4;
    let total = parameter("TORTURE_BYTES", 64 << 20);
    on_each_backend(|backend| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut to = listener.local_addr().unwrap().port().to_string();
        let mut proxies = Vec::new();
        for _ in 0..3 {
            proxies.insert(0, start("proxy", backend, &["--to", &to]));
            to = proxies[0].port.to_string();
        }
        let victim = Victim::of(Kind::Proxy, backend, proxies);
        let (carried, connections) = (AtomicU64::new(0), AtomicU64::new(0));
        let pairing = Mutex::new(());
        scope(|scope| {
            for _ in 0..LANES {
                scope.spawn(|| {
                    while carried.load(Ordering::Relaxed) < total {
                        // One at a time, so that both ends are of one connection.
                        let one_at_a_time = pairing.lock().unwrap();
                        let client = victim.connect();
                        let server = listener.accept().unwrap().0;
                        drop(one_at_a_time);
                        ready(&server);
                        let number = connections.fetch_add(1, Ordering::Relaxed);
                        let size = carry(&client, &server, number, (total / 4 + 1).min(64 << 20));
                        carried.fetch_add(size, Ordering::Relaxed);
                    }
                });
            }
        });
        let (carried, seconds) = (carried.into_inner(), victim.begin.elapsed().as_secs_f64());
        wait_until(&format!("all descriptors are closed ({backend})"), || victim.fds() <= victim.fds);
        victim.assert_at_rest();
        let cpu = victim.cpu().as_secs_f64();
        assert!(victim.memory("VmSize") <= victim.mapped + MAPPED_MORE);
        println!(
            "chain: three proxies on {backend}: {carried} bytes over {} connections, all as they were sent; {:.0} MB/s, {:.2} s of \
             processor time for 1 GB, {} KiB resident at most",
            connections.into_inner(),
            carried as f64 / 1e6 / seconds,
            cpu / (carried as f64 / 1e9),
            victim.memory("VmHWM") >> 10
        );
        for server in victim.servers {
            let mut child = server.child;
            child.signal(libc::SIGTERM);
            child.expect_exit(0);
            assert_eq!(child.err(), "");
            assert!(child.out().ends_with(&format!("proxy: ended: {carried} bytes carried")), "{}", child.out());
        }
    });
}

/// Both directions of one connection at a time, each of a random length; how many bytes they were together.
fn carry(client: &TcpStream, server: &TcpStream, number: u64, most: u64) -> u64 {
    let mut random = Random(0x2545_f491_4f6c_dd1d ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    random.below(1);
    // Often nothing, or little, in one of them.
    let mut length = || match random.below(4) {
        0 => 0,
        1 => random.below(5000),
        _ => random.below(most),
    };
    let lengths = [length(), length()];
    let directions = [(client, server, lengths[0]), (server, client, lengths[1])];
    scope(|scope| {
        for (direction, (mut from, mut to, length)) in directions.into_iter().enumerate() {
            let seed = number * 2 + direction as u64;
            scope.spawn(move || {
                let (noise, mut random, mut place) = (Noise::new(seed), Random(seed + 1), 0);
                while place < length {
                    let piece = noise.at(place);
                    let most = 1 << (1 + random.below(18));
                    let size = (1 + random.below(most)).min(length - place).min(piece.len() as u64);
                    from.write_all(&piece[..size as usize]).expect("write");
                    place += size;
                    pause(&mut random);
                }
                from.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let (noise, mut random, mut place) = (Noise::new(seed), Random(seed + 2), 0);
                let mut bytes = vec![0; 1 << 18];
                if random.below(2) == 0 {
                    sleep(Duration::from_millis(200)); // until everything on the way is full
                }
                loop {
                    let most = 1 << (1 + random.below(18));
                    let size = 1 + random.below(most) as usize;
                    let count = to.read(&mut bytes[..size]).expect("read");
                    if count == 0 {
                        break;
                    }
                    assert!(noise.is(place, &bytes[..count]), "connection {number}: other bytes from {place} on");
                    place += count as u64;
                    pause(&mut random);
                }
                assert_eq!(place, length, "connection {number}: it ended too early");
            });
        }
    });
    lengths[0] + lengths[1]
}

/// Now and then, a short one; rarely, a long one.
fn pause(random: &mut Random) {
    match random.below(2000) {
        0 => sleep(Duration::from_millis(20)),
        1..20 => sleep(Duration::from_micros(random.below(1000))),
        _ => {}
    }
}
