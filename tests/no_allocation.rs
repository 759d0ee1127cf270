//! No allocation, shown three ways: by the symbols that becket's own object needs, by counting what every C example does
//! while it works, and by a program that contains no allocator at all.
#![cfg(target_os = "linux")]

mod util;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use util::Child;

/// All that the C archive may need from outside. System calls, and what compilers themselves emit calls to.
const ALLOWED: &[&str] = &[
    "__errno_location",
    "abort",
    "accept4",
    "bcmp",
    "bind",
    "clock_gettime",
    "close",
    "connect",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "eventfd",
    "fcntl",
    "fstat",
    "fstat64",
    "getpeername",
    "getpid",
    "getrlimit",
    "getsockname",
    "getsockopt",
    "listen",
    "lstat",
    "lstat64",
    "madvise",
    "memcmp",
    "memcpy",
    "memmove",
    "memset",
    "mmap",
    "munmap",
    "openat",
    "openat64",
    "pipe",
    "poll",
    "ppoll",
    "pread",
    "pread64",
    "pthread_self",
    "pthread_sigmask",
    "read",
    "readv",
    "recv",
    "recvmsg",
    "select",
    "send",
    "sendmsg",
    "setsockopt",
    "shutdown",
    "sigaction",
    "sigaddset",
    "sigemptyset",
    "sigfillset",
    "sigismember",
    "sigpending",
    "sigtimedwait",
    "socket",
    "syscall",
    "sysconf",
    "unlink",
    "waitid",
    "waitpid",
    "write",
    "writev",
];

/// Everything in a C library that gives out or takes back heap memory.
const ALLOCATORS: &[&str] = &[
    "__libc_malloc",
    "__rust_alloc",
    "__rust_alloc_zeroed",
    "__rust_dealloc",
    "__rust_realloc",
    "aligned_alloc",
    "brk",
    "calloc",
    "free",
    "malloc",
    "memalign",
    "posix_memalign",
    "pvalloc",
    "realloc",
    "reallocarray",
    "sbrk",
    "strdup",
    "valloc",
];

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?} failed:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn empty(name: &str) -> PathBuf {
    let folder = util::scratch("no_allocation").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The symbols that objects name, by nm(1): those that they define, and those that they need from outside.
fn symbols(objects: &[PathBuf]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut defined, mut needed) = (BTreeSet::new(), BTreeSet::new());
    for line in run(Command::new("nm").args(objects)).lines() {
        // "0000000000000000 T becket_run", or "                 U memcpy".
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["U" | "w" | "v", name] => needed.insert(name.to_owned()),
            [_, _, name] => defined.insert(name.to_owned()),
            _ => continue,
        };
    }
    let needed = needed.difference(&defined).cloned().collect();
    (defined, needed)
}

#[test]
fn archive_needs_only_what_is_listed() {
    assert!(ALLOWED.is_sorted(), "the list of allowed symbols is sorted");
    assert!(ALLOWED.iter().all(|name| !ALLOCATORS.contains(name)));

    let folder = empty("archive");
    let archive = util::archive();
    run(Command::new("ar").arg("x").arg(&archive).current_dir(&folder));
    let objects: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // With link-time optimization one object holds becket and what it uses of core, heapless and bitflags. The others are
    // the compiler's arithmetic helpers. The crates that know an allocator do not belong here.
    let starts = |path: &Path, start: &str| path.file_name().unwrap().to_string_lossy().starts_with(start);
    for object in &objects {
        assert!(!starts(object, "alloc-") && !starts(object, "std-"), "in the archive: {}", object.display());
    }
    let own: Vec<PathBuf> = objects.iter().filter(|object| starts(object, "becket-")).cloned().collect();
    let (defined, needed) = symbols(&own);
    assert!(defined.contains("becket_loop_init"), "this is not becket's object: {own:?}");
    let unexpected: Vec<&String> = needed.iter().filter(|name| !ALLOWED.contains(&name.as_str())).collect();
    assert!(unexpected.is_empty(), "the archive needs more than is listed: {unexpected:?}");

    let (_, needed) = symbols(&objects);
    let allocators: Vec<&String> = needed.iter().filter(|name| ALLOCATORS.contains(&name.as_str())).collect();
    assert!(allocators.is_empty(), "the archive reaches an allocator: {allocators:?}");
}

/// POSIX AIO is the C library's own code, and the whole difference: becket itself calls no allocator with it either.
#[test]
fn archive_with_aio_needs_that_beside() {
    const AIO: &[&str] = &["aio_cancel", "aio_error", "aio_fsync", "aio_read", "aio_return", "aio_write"];
    // What is made inline where AIO has no call for it, and real-time signals.
    const BESIDE: &[&str] =
        &["__libc_current_sigrtmax", "__libc_current_sigrtmin", "fdatasync", "fsync", "lseek", "lseek64"];
    if !util::is_made("aio/libbecket.a") {
        return util::skip("the archive with POSIX AIO", "glibc");
    }
    let folder = empty("archive_with_aio");
    run(Command::new("ar").arg("x").arg(util::program("aio/libbecket.a")).current_dir(&folder));
    let objects: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let is_own = |path: &&PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("becket-");
    let (_, needed) = symbols(&objects.iter().filter(is_own).cloned().collect::<Vec<_>>());
    let unexpected: Vec<&str> =
        needed.iter().map(String::as_str).filter(|it| !ALLOWED.contains(it) && !BESIDE.contains(it)).collect();
    assert_eq!(unexpected, AIO);
}

/// One run of a program under the counting interposer.
struct Counted {
    child: Child,
    report: PathBuf,
}

impl Counted {
    fn start(name: &str, program: &Path, arguments: &[&str]) -> Counted {
        let report = empty(name).join("calls");
        let mut command = Command::new(program);
        command.args(arguments).env("LD_PRELOAD", interposer()).env("BECKET_COUNT_FILE", &report);
        Counted { child: Child::spawn(&mut command), report }
    }

    /// Waits for its end. The number of calls that it made; programs that it started have lines of their own.
    fn calls(mut self, exit_code: i32) -> u64 {
        let pid = self.child.id().to_string();
        self.child.expect_exit(exit_code);
        let report = std::fs::read_to_string(&self.report)
            .unwrap_or_else(|error| panic!("the program left no count: {}: {error}", self.report.display()));
        let mut lines = report.lines().filter_map(|line| line.split_once(' '));
        let line =
            lines.find(|(process, _)| *process == pid).unwrap_or_else(|| panic!("no line for {pid} in {report}"));
        line.1.parse().unwrap_or_else(|_| panic!("no number in {report}"))
    }
}

fn interposer() -> PathBuf {
    util::program("tests/count_malloc.so")
}

/// What the interposer is measured with. Without an argument it does nothing.
const CONTROL: &str = r#"
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static _Alignas(4096) char stack[256 * 1024];

static void *nothing(void *argument) { return argument; }

int main(int argc, char **argv) {
  if (argc < 2) return 0;
  if (strcmp(argv[1], "malloc") == 0) {
    void *volatile block = malloc(8);
    return block == NULL;
  }
  if (strcmp(argv[1], "family") == 0) {
    void *volatile block = malloc(8);
    block = realloc(block, 16);
    free(block);
    block = calloc(2, 8);
    free(block);
    block = aligned_alloc(64, 64);
    free(block);
    return 0;
  }
  pthread_t thread;
  pthread_attr_t attributes;
  return pthread_attr_init(&attributes) || pthread_attr_setstack(&attributes, stack, sizeof stack) ||
         pthread_create(&thread, &attributes, nothing, NULL) || pthread_join(thread, NULL) ||
         pthread_attr_destroy(&attributes);
}
"#;

fn control(name: &str, arguments: &[&str]) -> u64 {
    let folder = empty(name);
    std::fs::write(folder.join("control.c"), CONTROL).unwrap();
    run(Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into())).current_dir(&folder).args([
        "-std=c11",
        "-fno-builtin",
        "-pthread",
        "control.c",
        "-o",
        "control",
    ]));
    Counted::start(&format!("{name}_run"), &folder.join("control"), arguments).calls(0)
}

#[test]
fn interposer_counts() {
    assert_eq!(control("control_none", &[]), 0);
    assert_eq!(control("control_malloc", &["malloc"]), 1);
    assert_eq!(control("control_family", &["family"]), 7);
}

/// Sends the bytes and reads as many as `expected` back.
fn exchange(stream: &mut TcpStream, request: &[u8], expected: usize) -> Vec<u8> {
    stream.set_read_timeout(Some(util::GUARD)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let request = request.to_owned();
    // From a thread: an echo server with a small buffer stops reading until its answers are read.
    let sender = std::thread::spawn(move || writer.write_all(&request).expect("the server reads"));
    let mut answer = vec![0; expected];
    stream.read_exact(&mut answer).expect("the server answers");
    sender.join().unwrap();
    answer
}

fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).expect("the server accepts")
}

fn echo(child: &mut Child) {
    let port = util::port_in(&child.wait_line("listening"));
    let bytes: Vec<u8> = (0..200_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let mut first = connect(port);
    assert_eq!(exchange(&mut connect(port), b"hello", 5), b"hello");
    assert_eq!(exchange(&mut first, &bytes, bytes.len()), bytes);
    drop(first);
    assert_eq!(exchange(&mut connect(port), b"again", 5), b"again");
    child.signal(libc::SIGTERM);
}

fn datagrams(child: &mut Child) {
    let port = util::port_in(&child.wait_line("answering"));
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.set_read_timeout(Some(util::GUARD)).unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    for text in ["one", "two", "three"] {
        let mut answer = [0; 64];
        socket.send(text.as_bytes()).unwrap();
        let size = socket.recv(&mut answer).expect("the responder answers");
        assert_eq!(&answer[..size], text.as_bytes());
    }
}

/// What one says, the other hears.
fn chat(child: &mut Child) {
    let port = util::port_in(&child.wait_line("listening"));
    let mut clients = [connect(port), connect(port)];
    child.wait_line("1 has come");
    let mut heard = [0; 9];
    for (from, to) in [(0, 1), (1, 0)] {
        clients[from].write_all(b"hello\n").unwrap();
        clients[to].read_exact(&mut heard).unwrap();
        assert_eq!(heard, *format!("{from}: hello\n").as_bytes());
    }
    child.signal(libc::SIGTERM);
}

/// A line, in pieces; and one that is too long.
fn line(child: &mut Child) {
    let port = util::port_in(&child.wait_line("listening"));
    let mut client = connect(port);
    assert_eq!(exchange(&mut client, b"hello\nqu", 8), b"1 HELLO\n");
    client.write_all(b"it\n").unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(exchange(&mut connect(port), &[b'x'; 513], 21), b"the line is too long\n");
    child.signal(libc::SIGTERM);
}

fn udp(child: &mut Child) {
    datagrams(child);
    child.signal(libc::SIGTERM);
}

fn foreign(child: &mut Child) {
    let mut input = child.stdin();
    datagrams(child);
    input.write_all(b"some bytes").unwrap();
    child.wait_line("read 10 bytes");
    child.signal(libc::SIGTERM);
}

fn httpd(child: &mut Child) {
    let port = util::port_in(&child.wait_line("open http://"));
    http_session(port);
    child.signal(libc::SIGTERM);
}

/// A few requests on several connections: kept alive, in pieces, wrong ones; files, the archive among them, which does not
/// fit into one block.
fn http_session(port: u16) {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let ask = |request: &str| {
        let mut stream = connect(port);
        stream.set_read_timeout(Some(util::GUARD)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the server answers and closes");
        String::from_utf8_lossy(&answer).into_owned()
    };
    for path in ["/c-examples/site/", "/_status", "/_status.json", "/hello", "/build/libbecket.a", "/Cargo.toml"] {
        let answer = ask(&get(path));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert!(ask(&get("/nothing")).starts_with("HTTP/1.1 404 "));
    assert!(ask(&get("/src")).starts_with("HTTP/1.1 301 "));
    assert!(ask(&get("/../")).starts_with("HTTP/1.1 403 "));
    for (field, status) in
        [("Range: bytes=1-2", 206), ("Range: bytes=999999999-", 416), ("If-None-Match: *", 304), ("If-Match: x", 412)]
    {
        let answer = ask(&get("/Cargo.toml").replacen("\r\n", &format!("\r\n{field}\r\n"), 1));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    assert!(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));

    let keep = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    let answers = ask(&(keep.repeat(20) + &get("/hello")));
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 21, "{answers}");

    let mut stream = connect(port);
    stream.set_nodelay(true).unwrap();
    for byte in get("/hello").bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("Hello, world!"), "{answer}");
    drop(connect(port));
}

fn signals(child: &mut Child) {
    child.wait_line("started");
    child.signal(libc::SIGUSR1);
    child.wait_line("SIGUSR1");
    child.signal(libc::SIGTERM);
}

/// Ends by itself.
fn nothing(_: &mut Child) {}

/// A pseudo terminal: its master, and the path of the slave. The slave is kept open too, so that the master never hangs up.
fn terminal() -> (File, OwnedFd, String) {
    let (mut master, mut slave) = (-1, -1);
    let mut name = [0_u8; 128];
    // SAFETY: openpty(3) writes two descriptors and ttyname_r(3) at most that many bytes; the descriptors are ours alone.
    let (master, slave) = unsafe {
        assert_eq!(
            libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut()),
            0
        );
        assert_eq!(libc::ttyname_r(slave, name.as_mut_ptr().cast(), name.len()), 0);
        (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    };
    let end = name.iter().position(|byte| *byte == 0).unwrap();
    (master, slave, String::from_utf8(name[..end].to_vec()).unwrap())
}

/// One example: its arguments, what is done with it, and its exit code.
struct Session {
    arguments: &'static [&'static str],
    work: fn(&mut Child),
    exit_code: i32,
}

/// Every example has a session here (but `serial`, which needs a device, `copy` and `proxy`, which need a server, and `libev`, whose
/// other half allocates).
fn sessions() -> BTreeMap<&'static str, Session> {
    let session = |arguments, work, exit_code| Session { arguments, work, exit_code };
    BTreeMap::from([
        ("echo", session(&["--port", "0"] as &[_], echo as fn(&mut Child), 0)),
        ("chat", session(&["--port", "0"], chat, 0)),
        ("foreign", session(&["--port", "0"], foreign, 0)),
        ("line", session(&["--port", "0"], line, 0)),
        ("httpd", session(&["--port", "0", "--root", "."], httpd, 0)),
        ("plain_echo", session(&["--port", "0"], echo, 0)),
        ("signals", session(&["--restarts", "1000"], signals, 0)),
        ("simulate", session(&["--runs", "100"], nothing, 0)),
        ("timers", session(&[], nothing, 0)),
        ("udp", session(&["--port", "0"], udp, 0)),
        ("wake", session(&["--items", "10000"], nothing, 0)),
    ])
}

#[test]
fn every_example_is_counted() {
    let folder = util::root().join("c-examples");
    let examples: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_string_lossy().strip_suffix(".c").map(str::to_owned))
        .collect();
    let counted: BTreeSet<String> =
        sessions().keys().copied().chain(["serial", "copy", "proxy", "libev"]).map(str::to_owned).collect();
    assert_eq!(examples, counted);
}

#[test]
fn examples_never_allocate() {
    // What glibc itself does for a thread on a stack that the program gave: it allocates the new thread's table of
    // thread-local storage, and frees it. Neither becket nor the example can avoid that; under musl nothing is allocated,
    // see `static_programs_contain_no_allocator`.
    let of_a_thread = control("control_thread", &["thread"]);
    for backend in ["poll", "select"] {
        for (name, session) in sessions() {
            let arguments = [&["--backend", backend], session.arguments].concat();
            let program = util::program(&format!("examples/{name}"));
            let mut counted = Counted::start(&format!("{name}_{backend}"), &program, &arguments);
            (session.work)(&mut counted.child);
            let calls = counted.calls(session.exit_code);
            let expected = if name == "wake" { of_a_thread } else { 0 };
            assert_eq!(calls, expected, "{name} on {backend} called the allocator");
        }
        let (mut master, slave, path) = terminal();
        let program = util::program("examples/serial");
        let mut counted = Counted::start(&format!("serial_{backend}"), &program, &["--backend", backend, &path]);
        counted.child.wait_line("open");
        master.write_all(b"first\nsecond\n").unwrap();
        counted.child.wait_line("line: second");
        counted.child.signal(libc::SIGTERM);
        assert_eq!(counted.calls(0), 0, "serial on {backend} called the allocator");
        drop(slave);

        let program = util::program("examples/proxy");
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let arguments = ["--backend", backend, "--port", "0", "--to", &port];
        let mut counted = Counted::start(&format!("proxy_{backend}"), &program, &arguments);
        let mut client = connect(util::port_in(&counted.child.wait_line("listening")));
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        assert_eq!(exchange(&mut server, b"you", 5), b"hello");
        let mut answer = [0; 3];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"you");
        counted.child.signal(libc::SIGTERM);
        assert_eq!(counted.calls(0), 0, "proxy on {backend} called the allocator");

        let program = util::program("examples/copy");
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        for how in ["blocking", "handlers", "task"] {
            let arguments = ["--backend", backend, "--how", how, "Cargo.toml", &port];
            let counted = Counted::start(&format!("copy_{how}_{backend}"), &program, &arguments);
            let (mut stream, _) = listener.accept().unwrap();
            let mut arrived = Vec::new();
            stream.read_to_end(&mut arrived).unwrap();
            assert_eq!(arrived, std::fs::read(util::root().join("Cargo.toml")).unwrap());
            assert_eq!(counted.calls(0), 0, "copy by {how} on {backend} called the allocator");
        }
    }
}

/// musl's libc has no hidden users of malloc in what these need: linked statically, no allocator is in the program.
#[test]
fn static_programs_contain_no_allocator() {
    if !util::have("musl-gcc") {
        util::skip("httpd and wake, linked statically, without an allocator in them", "musl-tools");
        return;
    }
    let archive = util::archive();
    let folder = empty("static");
    for name in ["httpd", "wake"] {
        let program = folder.join(name);
        run(Command::new("musl-gcc")
            .current_dir(util::root())
            .args(["-static", "-std=c11", "-O2", "-Iinclude", "-pthread"])
            .arg(format!("c-examples/{name}.c"))
            .arg(&archive)
            .arg("-o")
            .arg(&program));
        let (defined, needed) = symbols(std::slice::from_ref(&program));
        assert!(defined.contains("becket_run") && defined.contains("main"), "nm shows the symbols of {name}");
        let all = defined.union(&needed);
        let allocators: Vec<&String> = all.filter(|symbol| ALLOCATORS.contains(&symbol.as_str())).collect();
        assert!(allocators.is_empty(), "{name} contains {allocators:?}");

        let session = &sessions()[name];
        let mut child = Child::start(&program, session.arguments);
        (session.work)(&mut child);
        child.expect_exit(session.exit_code);
    }
}
