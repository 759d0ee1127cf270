//! What the tests that run programs share: building them, running them, reading what they print.
//!
//! A program that a test starts is killed when its guard is dropped, so a failing test leaves no process
//! behind. Nothing waits for ever: every wait ends at `GUARD`, which is far above what a loaded machine needs.
//! It does not know what any single program does.

// Every test file compiles its own copy of this module and none uses all of it.
#![allow(dead_code)]

pub mod httpd;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The longest that a test waits for anything. A guard against hanging, never part of what is tested.
pub const GUARD: Duration = Duration::from_secs(60);

/// The package's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder for what one test builds, under `target/`; it is made when missing and never emptied.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder
}

/// The functions that include/becket.h declares.
pub fn declared_functions() -> BTreeSet<String> {
    let header = std::fs::read_to_string(root().join("include/becket.h")).expect("include/becket.h is there");
    // A declaration starts in the first column: "int becket_run(", "const char *becket_version(void);".
    header
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()) && !line.starts_with("typedef"))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .map(str::to_owned)
        .collect()
}

/// Where the C programs are: in `build`, or where `BECKET_BUILD` says that others have been made, which are not watched by tools.
fn build() -> PathBuf {
    root().join(std::env::var_os("BECKET_BUILD").unwrap_or_else(|| "build".into()))
}

fn are_others() -> bool {
    std::env::var_os("BECKET_BUILD").is_some()
}

/// Path of a built C program, `examples/httpd` or `tests/misuse`; the first call builds them all.
pub fn program(name: &str) -> PathBuf {
    make_programs();
    let path = build().join(name);
    assert!(path.is_file(), "`make programs` made no {}", path.display());
    path
}

/// Whether `make programs` made a program: some need a library that not every machine has.
pub fn is_made(name: &str) -> bool {
    make_programs();
    build().join(name).is_file()
}

/// Path of the static library; the first call builds it.
pub fn archive() -> PathBuf {
    program("libbecket.a")
}

/// `make -s programs`, once in this process, and one process at a time: some runners start the test files side
/// by side, and two makes in one folder would write the same objects.
fn make_programs() {
    static MADE: OnceLock<()> = OnceLock::new();
    if are_others() {
        return;
    }
    MADE.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("make.lock");
        let lock = std::fs::File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // SAFETY: flock(2) takes an open fd, which `lock` holds; the lock goes when `lock` is closed.
        assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) }, 0);
        let output = make().args(["-s", "programs"]).output().expect("make can be run");
        assert!(
            output.status.success(),
            "`make programs` failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    });
}

/// `make` in the package's folder, free of what a surrounding `make test` handed down.
pub fn make() -> Command {
    let mut command = Command::new("make");
    command.current_dir(root()).env_remove("MAKEFLAGS").env_remove("MFLAGS").env_remove("MAKELEVEL");
    command
}

/// How a C program is run: as it was made, or watched by a tool that finds mistakes in its use of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    No,
    /// Made anew with gcc's AddressSanitizer and UndefinedBehaviorSanitizer. The library itself is as ever.
    Sanitizers,
    Valgrind,
}

/// The exit code of a program in which valgrind or a sanitizer found something.
pub const FOUND_SOMETHING: i32 = 99;

impl Watched {
    /// Every way that this machine offers; what it does not offer is said, once.
    pub fn all() -> &'static [Watched] {
        static ALL: OnceLock<Vec<Watched>> = OnceLock::new();
        ALL.get_or_init(|| {
            let mut all = vec![Watched::No];
            if are_others() {
                return all;
            }
            if sanitizers_link() {
                all.push(Watched::Sanitizers);
            } else {
                skip("C programs under AddressSanitizer and UndefinedBehaviorSanitizer", "gcc");
            }
            if have("valgrind") {
                all.push(Watched::Valgrind);
            } else {
                skip("C programs under valgrind", "valgrind");
            }
            all
        })
    }

    /// The command that runs the program `examples/echo` or `tests/api` in this way.
    pub fn command(self, name: &str) -> Command {
        match self {
            Watched::No => Command::new(program(name)),
            Watched::Sanitizers => {
                let mut command = Command::new(sanitized(name));
                command.env("ASAN_OPTIONS", format!("exitcode={FOUND_SOMETHING}:detect_leaks=0"));
                command.env("UBSAN_OPTIONS", "print_stacktrace=1");
                command
            }
            Watched::Valgrind => {
                let mut command = Command::new("valgrind");
                command.env("TEST_UNDER_VALGRIND", "1");
                command.args([
                    "-q",
                    "--leak-check=full",
                    "--fair-sched=try",
                    &format!("--error-exitcode={FOUND_SOMETHING}"),
                ]);
                command.arg(program(name));
                command
            }
        }
    }
}

/// The C compiler that the Makefile uses too.
pub fn cc() -> Command {
    let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    command.current_dir(root());
    command
}

const SANITIZE: [&str; 3] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"];

fn sanitizers_link() -> bool {
    let folder = scratch("sanitized");
    let source = folder.join("probe.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    cc().args(SANITIZE)
        .arg(source)
        .arg("-o")
        .arg(folder.join("probe"))
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Makes a program with the sanitizers, once in this process.
fn sanitized(name: &str) -> PathBuf {
    static MADE: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let (kind, file) = name.split_once('/').expect("examples/NAME or tests/NAME");
    let sources = match (kind, file) {
        ("tests", "header") => vec!["tests/c/header_a.c".to_owned(), "tests/c/header_b.c".to_owned()],
        // What stands between the sanitizer and the program is not itself watched: it is called before the sanitizer is ready.
        ("tests", "faults" | "faults_operations" | "faults_streams" | "storm") => {
            vec![format!("tests/c/{file}.c"), "build/tests/interpose_faults.o".to_owned()]
        }
        ("tests", _) => vec![format!("tests/c/{file}.c")],
        _ => vec![format!("c-examples/{file}.c")],
    };
    let libraries: &[&str] = if name == "examples/libev" { &["-lev"] } else { &[] };
    // The name is this process's own: another test file may be running the same program.
    let path = scratch("sanitized").join(format!("{file}-{}", std::process::id()));
    let mut made = MADE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !made.iter().any(|done| done == name) {
        let output = cc()
            .args(["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Iinclude"])
            .args(SANITIZE)
            .args(sources)
            .arg(archive())
            .args(libraries)
            .args(["-pthread", "-o"])
            .arg(&path)
            .output()
            .expect("the C compiler can be run");
        assert!(output.status.success(), "{name}:\n{}", String::from_utf8_lossy(&output.stderr));
        made.push(name.to_owned());
    }
    path
}

/// Whether a tool of that name is on the PATH.
pub fn have(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
}

/// Says plainly that something was not tested and what to do about it: `skipped: clang (install clang)`. It goes to the
/// terminal itself, past the test harness, which shows what a passing test printed to nobody.
pub fn skip(what: &str, install: &str) {
    let _ = writeln!(std::io::stderr().lock(), "skipped: {what} (install {install})");
}

/// A TCP and UDP port of the loopback interface that was free a moment ago. For programs that cannot be asked to
/// choose one themselves; the others take `--port 0` and print it (see [`port_in`]).
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Connects to a port of this machine; with a receive buffer as small as that, so that little is taken at a time.
pub fn dial(port: u16, receive_buffer: Option<libc::c_int>) -> TcpStream {
    // SAFETY: the calls take plain numbers and structures that outlive them; the fd is ours alone.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        let fd = OwnedFd::from_raw_fd(fd);
        if let Some(size) = receive_buffer {
            let pointer = (&raw const size).cast();
            assert_eq!(libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, pointer, 4), 0);
        }
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = port.to_be();
        address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
        let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let result = libc::connect(fd.as_raw_fd(), (&raw const address).cast(), size);
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        TcpStream::from(fd)
    }
}

/// Raises the limit of descriptors for this process, and those that it starts; what it is then. One test file is one process:
/// once is enough.
pub fn raise_fd_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given one structure that outlives them.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max.min(8192);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    limit.rlim_cur
}

/// The port in a line such as `echo: listening on 127.0.0.1:41234 (poll)`.
pub fn port_in(line: &str) -> u16 {
    let digits = line.split("127.0.0.1:").nth(1).unwrap_or_else(|| panic!("no port in {line:?}"));
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_else(|_| panic!("no port in {line:?}"))
}

/// Calls `condition` until it holds; panics with `what` at `GUARD`.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < GUARD, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a program has printed so far, standard output and standard error apart.
#[derive(Default)]
struct Printed {
    out: Vec<String>,
    err: Vec<String>,
    /// Streams that have not ended yet.
    open: u32,
}

type Shared = Arc<(Mutex<Printed>, Condvar)>;

/// A running program. Dropping it kills and reaps it.
pub struct Child {
    child: std::process::Child,
    name: String,
    printed: Shared,
    /// Lines of standard output that `wait_line` has passed.
    read: usize,
}

impl Child {
    /// Starts a program with these arguments.
    pub fn start<A: AsRef<OsStr>>(program: impl AsRef<Path>, arguments: impl IntoIterator<Item = A>) -> Child {
        Child::spawn(Command::new(program.as_ref()).args(arguments))
    }

    /// Starts a prepared command, with all three standard streams taken over.
    pub fn spawn(command: &mut Command) -> Child {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let printed = Shared::default();
        printed.0.lock().unwrap().open = 2;
        follow(child.stdout.take().unwrap(), &printed, |printed| &mut printed.out);
        follow(child.stderr.take().unwrap(), &printed, |printed| &mut printed.err);
        Child { child, name, printed, read: 0 }
    }

    /// The process.
    pub fn id(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Its standard input; dropping it ends the input.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("standard input is taken once")
    }

    /// The next line of standard output that contains `needle`; lines before it are passed over.
    pub fn wait_line(&mut self, needle: &str) -> String {
        let start = Instant::now();
        let (lock, changed) = &*self.printed;
        let mut printed = lock.lock().unwrap();
        loop {
            while let Some(line) = printed.out.get(self.read) {
                self.read += 1;
                if line.contains(needle) {
                    return line.clone();
                }
            }
            let left = GUARD.saturating_sub(start.elapsed());
            if printed.open == 0 || left.is_zero() {
                let why = if left.is_zero() { "in time" } else { "before it ended" };
                let (out, err) = (printed.out.join("\n"), printed.err.join("\n"));
                drop(printed);
                panic!("{}: printed no {needle:?} {why}; it printed\n{out}\nand as errors\n{err}", self.name);
            }
            printed = changed.wait_timeout(printed, left).unwrap().0;
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill(2) touches no memory; the pid is our child's and not yet reaped.
        assert_eq!(unsafe { libc::kill(self.id(), signal) }, 0, "{}", self.name);
    }

    /// Whether it has ended by now.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it ends by itself. Panics, and kills it, at `GUARD`.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > GUARD {
                let _ = self.child.kill();
                panic!("{}: did not end; it printed\n{}\nand as errors\n{}", self.name, self.out(), self.err());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        // The readers see the end of both streams now, unless a grandchild holds them: that is waited for too, within reason.
        let (lock, changed) = &*self.printed;
        let printed = lock.lock().unwrap();
        drop(changed.wait_timeout_while(printed, Duration::from_secs(10), |printed| printed.open > 0).unwrap());
        status
    }

    /// Waits until it ends and demands this exit code; shows what it printed when that is another one.
    pub fn expect_exit(&mut self, code: i32) {
        let status = self.wait();
        assert_eq!(
            status.code(),
            Some(code),
            "{}: {status}; it printed\n{}\nand as errors\n{}",
            self.name,
            self.out(),
            self.err()
        );
    }

    /// Standard output so far.
    pub fn out(&self) -> String {
        self.printed.0.lock().unwrap().out.join("\n")
    }

    /// Standard error so far.
    pub fn err(&self) -> String {
        self.printed.0.lock().unwrap().err.join("\n")
    }

    /// Processor time used so far, user and system, read from `/proc` (Linux only).
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("/proc/PID/stat");
        // The name in parentheses may hold blanks: count the fields from behind it. utime and stime are 14 and 15.
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // SAFETY: sysconf(3) touches no memory.
        let ticks_per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap();
        Duration::from_millis(ticks * 1000 / ticks_per_second)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects the lines of one stream until it ends.
fn follow(stream: impl Read + Send + 'static, printed: &Shared, which: fn(&mut Printed) -> &mut Vec<String>) {
    let printed = printed.clone();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(count) if count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            // Valgrind's word on a system call that it does not know, which fails with ENOSYS then.
            let remark = text.strip_prefix("--").and_then(|rest| rest.split_once("-- "));
            if remark.is_none_or(|(pid, _)| pid.parse::<u32>().is_err()) {
                which(&mut printed.0.lock().unwrap()).push(text);
                printed.1.notify_all();
            }
            line.clear();
        }
        printed.0.lock().unwrap().open -= 1;
        printed.1.notify_all();
    });
}
