//! Calls of the C library fail under the C examples and test programs, each for each of its reasons, the first time or a later
//! one, once or for a while. No program crashes, hangs or spins; and a server that goes on serves again when the fault is gone.
//!
//! `make test` tries a sample, always the same; `make faults` tries all. `tests/c/faults.c` does the same to the loop itself.

mod util;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use util::Child;

/// A program, what is done with it, and which share of its faults is tried in a sample: one in so many.
struct Program {
    name: &'static str,
    arguments: &'static [&'static str],
    session: fn(&mut Child),
    sampled: u64,
}

/// A fault as the interposer is told of it. `None`: nothing fails.
type Fault = Option<String>;

/// What an example does for its clients: one request, and whether it was answered.
type Request = fn(u16, Duration) -> bool;

const BACKENDS: [&str; 4] = ["select", "poll", "epoll", "uring"];

fn examples() -> Vec<Program> {
    let program = |name, arguments, session, sampled| Program { name, arguments, session, sampled };
    let mut programs = vec![
        program("examples/echo", &["--port", "0"], |child| serve(child, echo), 12),
        program("examples/httpd", &["--port", "0"], |child| serve(child, http), 12),
        program("examples/udp", &["--port", "0"], |child| serve(child, datagram), 12),
        program("examples/foreign", &["--port", "0"], |child| serve(child, datagram), 12),
        program("examples/signals", &["--restarts", "3"], supervise, 12),
        program("examples/timers", &[], |_| (), 12),
        program("examples/wake", &["--items", "1000"], |_| (), 12),
        program("examples/httpd", &["--port", "0", "--root", "c-examples/site"], |child| serve(child, file), 40),
    ];
    if util::is_made("aio/examples/httpd") {
        let arguments = &["--port", "0", "--root", "c-examples/site", "--files", "aio"];
        programs.push(program("aio/examples/httpd", arguments, |child| serve(child, file), 40));
    } else {
        util::skip("faults of files by POSIX AIO", "glibc");
    }
    programs
}

fn conformance_programs() -> Vec<Program> {
    ["api", "misuse", "regressions", "fork", "threads"]
        .map(|name| Program {
            name: Box::leak(format!("tests/{name}").into_boxed_str()),
            arguments: &[],
            session: |_| (),
            sampled: 60,
        })
        .into()
}

fn echo(port: u16, limit: Duration) -> bool {
    let mut answer = [0; 5];
    TcpStream::connect(("127.0.0.1", port)).is_ok_and(|mut stream| {
        stream.set_read_timeout(Some(limit)).unwrap();
        stream.write_all(b"hello").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"hello"
    })
}

fn http(port: u16, limit: Duration) -> bool {
    get("/hello", port, limit)
}

/// The same of a file, which operations open and read.
fn file(port: u16, limit: Duration) -> bool {
    get("/style.css", port, limit)
}

fn get(path: &str, port: u16, limit: Duration) -> bool {
    let mut answer = String::new();
    TcpStream::connect(("127.0.0.1", port)).is_ok_and(|mut stream| {
        stream.set_read_timeout(Some(limit)).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200 ")
    })
}

fn datagram(port: u16, limit: Duration) -> bool {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let mut answer = [0; 16];
    socket.set_read_timeout(Some(limit)).unwrap();
    socket.connect(("127.0.0.1", port)).is_ok()
        && socket.send(b"hello").is_ok()
        && socket.recv(&mut answer).is_ok_and(|size| &answer[..size] == b"hello")
}

/// Waits until the program has printed something, or has ended: whether it has printed it.
fn printed(child: &mut Child, needle: &str) -> Option<String> {
    let start = Instant::now();
    loop {
        let ended = child.ended();
        if let Some(line) = child.out().lines().find(|line| line.contains(needle)) {
            return Some(line.to_owned());
        }
        if ended {
            return None;
        }
        assert!(start.elapsed() < util::GUARD, "it neither says {needle:?} nor ends");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A server: some clients, then the signal to end.
fn serve(child: &mut Child, request: Request) {
    let Some(line) = printed(child, "127.0.0.1:") else { return };
    let port = util::port_in(&line);
    let start = Instant::now();
    for _ in 0..2 {
        // An answer may be lost with the fault; not the next one. (A server that gave up has an exit code for it.)
        while !request(port, Duration::from_millis(500)) && !child.ended() {
            assert!(start.elapsed() < util::GUARD, "it does not serve, and does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        // A fault may last a little longer: then there is nothing to do but to fail.
        std::thread::sleep(Duration::from_millis(20));
    }
    end(child);
}

fn supervise(child: &mut Child) {
    if printed(child, "started").is_some() && !child.ended() {
        child.signal(libc::SIGUSR1);
        end(child);
    }
}

fn end(child: &mut Child) {
    if !child.ended() {
        child.signal(libc::SIGTERM);
    }
}

/// What the interposer has said of a run: the lines of its calls, and the sums of all calls, of faults, of milliseconds on
/// a processor.
struct Report {
    calls: Vec<(String, u64, Vec<String>)>,
    sums: [u64; 3],
}

/// A process and its children. Dropping it kills those that still run.
struct Group(i32);

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: kill(2) touches no memory. The group was made for this process; no other can have its number as long as one of
        // its processes is there, and if none is there is nobody to be killed.
        unsafe { libc::kill(-self.0, libc::SIGKILL) };
    }
}

/// Says which case it was when a check fails anywhere in it.
struct Named<'a>(&'a str);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the case was {}", self.0);
        }
    }
}

fn run(program: &Program, backend: Option<&str>, fault: Fault) -> Report {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let number = RUNS.fetch_add(1, Ordering::Relaxed);
    let list = util::scratch("faults").join(format!("{}-{number}", std::process::id()));
    let _ = std::fs::remove_file(&list);
    let mut command = Command::new(util::program(program.name));
    command.args(program.arguments).env("BECKET_FAULT_LIST", &list).env("LD_PRELOAD", interposer());
    if let Some(backend) = backend {
        command.args(["--backend", backend]);
    }
    if let Some(fault) = &fault {
        command.env("BECKET_FAULT", fault);
    }
    let what = format!("{} {backend:?} {fault:?}", program.name);
    let _named = Named(&what);
    let start = Instant::now();
    let mut child = Child::spawn(command.process_group(0));
    let group = Group(child.id());
    (program.session)(&mut child);
    while !child.ended() {
        assert!(start.elapsed() < util::GUARD, "it does not end; {}", child.out());
        std::thread::sleep(Duration::from_millis(3));
    }
    // A program that gives up leaves its own children behind, who hold its output.
    drop(group);
    let status = child.wait();
    let wall = u64::try_from(start.elapsed().as_millis()).unwrap();
    let said = || format!("it printed\n{}\nand as errors\n{}", child.out(), child.err());
    assert!(status.code().is_some(), "{what}: {status}; {}", said());
    assert!(fault.is_some() || status.success(), "{what}: {status}; {}", said());

    let mut report = Report { calls: Vec::new(), sums: [0; 3] };
    // (A process that ends by _exit has no line.)
    for line in std::fs::read_to_string(&list).unwrap_or_default().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "all" {
            for (sum, word) in report.sums.iter_mut().zip(&words[1..]) {
                *sum += word.parse::<u64>().unwrap();
            }
        } else {
            let reasons = words[2..].iter().map(|reason| (*reason).to_owned()).collect();
            report.calls.push((words[0].to_owned(), words[1].parse().unwrap(), reasons));
        }
    }
    let _ = std::fs::remove_file(&list);
    // Nothing spins: what a program does takes some calls, and what it waits for takes time. A slow machine makes fewer.
    let [calls, _, processor] = report.sums;
    assert!(calls <= program_calls(program) + 20 * wall, "{what}: {calls} calls in {wall} ms; {}", said());
    assert!(processor <= 2000 + wall / 2, "{what}: {processor} ms on a processor in {wall} ms; {}", said());
    report
}

/// How many calls a program's work takes at most.
fn program_calls(program: &Program) -> u64 {
    if program.name.starts_with("tests/") { 2_000_000 } else { 50_000 }
}

fn interposer() -> PathBuf {
    util::program("tests/interpose_faults.so")
}

/// All faults that a program can have, by the calls that it makes when nothing fails.
fn faults(program: &Program, backend: Option<&str>, lasting: bool) -> Vec<Fault> {
    let report = run(program, backend, None);
    let mut faults = Vec::new();
    // (httpd writes only what it says, and goes on when nobody hears it.)
    for (call, count, reasons) in
        report.calls.iter().filter(|it| !program.name.ends_with("examples/httpd") || it.0 != "write")
    {
        for reason in reasons {
            let name = reason.trim_end_matches('*');
            let mut firsts = vec![1, 2, 3, count / 2, *count];
            firsts.retain(|first| (1..=*count).contains(first));
            firsts.sort_unstable();
            firsts.dedup();
            for first in firsts {
                faults.push(Some(format!("{call}:{name}:{first}:1")));
                if lasting && reason.ends_with('*') {
                    faults.push(Some(format!("{call}:{name}:{first}:150ms")));
                }
            }
            if !reason.ends_with('*') {
                faults.push(Some(format!("{call}:{name}:1:7")));
            }
        }
    }
    faults
}

/// Tries the faults, or a sample of them, on some threads.
fn sweep(programs: &[Program], backends: &[Option<&'static str>], lasting: bool) {
    let all = std::env::var_os("BECKET_FAULTS_ALL").is_some();
    let mut cases = Vec::new();
    for program in programs {
        for backend in backends {
            for fault in faults(program, *backend, lasting) {
                let mut hasher = DefaultHasher::new();
                (program.name, backend, &fault).hash(&mut hasher);
                if all || hasher.finish().is_multiple_of(program.sampled) {
                    cases.push((program, *backend, fault));
                }
            }
        }
    }
    assert!(cases.len() >= 20, "only {} cases", cases.len());
    let next = AtomicUsize::new(0);
    let struck = AtomicUsize::new(0);
    // (Most of the time of a case is waited.)
    let threads = std::thread::available_parallelism().map_or(2, usize::from) * if all { 4 } else { 1 };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((program, backend, fault)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = run(program, *backend, fault.clone());
                    struck.fetch_add(usize::from(report.sums[1] > 0), Ordering::Relaxed);
                }
            });
        }
    });
    let struck = struck.load(Ordering::Relaxed);
    println!("{} cases, in {struck} of them something failed", cases.len());
    assert!(struck * 2 > cases.len(), "something failed in {struck} of {} cases only", cases.len());
}

#[test]
fn examples_bear_faults() {
    sweep(&examples(), &BACKENDS.map(Some), true);
}

#[test]
fn test_programs_bear_faults() {
    sweep(&conformance_programs(), &[None], false);
}
