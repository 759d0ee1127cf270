//! What the areas share: running a test on each backend, a loop with named sources that writes a trace, and fds.
//!
//! A test that hangs ends the process at `GUARD`. It does not know what any single test is about.

use becket::{
    BackendChoice, Config, Duration, Event, Handle, IoOptions, Kind, Kinds, Loop, Ready, Simulator, SimulatorMemory,
    Storage,
};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, PoisonError, RwLock, mpsc};

/// The longest that one test may take: a guard against hanging, never part of what is tested.
pub const GUARD: std::time::Duration = std::time::Duration::from_secs(120);

pub const READABLE: Ready = Ready::READABLE;
pub const WRITABLE: Ready = Ready::WRITABLE;
pub const BOTH: Ready = Ready::READABLE.union(Ready::WRITABLE);
pub const PAUSED: Ready = Ready::empty();
pub const MS: u64 = 1_000_000;

/// Makes each of these functions a test on each backend. A later backend is one line here.
macro_rules! each_backend {
    (@on $module:ident $backend:ident $run:ident [$($test:ident)*]) => {
        mod $module {
            $(#[test]
            fn $test() {
                if !$crate::harness::has(becket::BackendChoice::$backend) {
                    return;
                }
                $crate::harness::$run(concat!(module_path!(), "::", stringify!($test)), || {
                    super::super::$test(becket::BackendChoice::$backend);
                });
            })*
        }
    };
    (@all $run:ident $tests:tt) => {
        each_backend!(@on select Select $run $tests);
        each_backend!(@on poll Poll $run $tests);
        each_backend!(@on epoll Epoll $run $tests);
        each_backend!(@on uring IoUring $run $tests);
    };
    ($($test:ident)*) => {
        mod on { each_backend!(@all guarded [$($test)*]); }
    };
    (simulated too: $($test:ident)*) => {
        mod simulated_too {
            each_backend!(@all guarded [$($test)*]);
            each_backend!(@on simulator Simulator guarded [$($test)*]);
        }
    };
    (alone: $($test:ident)*) => {
        mod alone { each_backend!(@all alone [$($test)*]); }
    };
}

/// A process that is being started has copies of all fds until it runs its program: for so long a close closes nothing, and
/// no peer hears of it. So no test runs while one is started: a test holds this for reading, a start for writing.
static STARTS: RwLock<()> = RwLock::new(());

/// Whether a backend can be tested: not io_uring where the system has none or forbids it, as qemu-user and some containers
/// do. Says so once.
pub fn has(backend: BackendChoice) -> bool {
    static HAS_IO_URING: OnceLock<bool> = OnceLock::new();
    backend != BackendChoice::IoUring
        || *HAS_IO_URING.get_or_init(|| {
            let config = Config { backend, ..Config::default() };
            let storage = Box::leak(Box::new(Storage::<1, 0>::new()));
            let made = Loop::<()>::new(storage, &config);
            let has = !matches!(made, Err(becket::Error::NO_CALL | becket::Error::NOT_PERMITTED));
            if !has {
                let _ = writeln!(std::io::stderr(), "skipped: tests of io_uring (this system has none, or forbids it)");
            }
            has
        })
}

/// Runs a test; when it hangs, the whole process ends.
pub fn guarded(name: &str, test: impl FnOnce()) {
    let _no_starts = STARTS.read().unwrap_or_else(PoisonError::into_inner);
    watched(name, test);
}

fn watched(name: &str, test: impl FnOnce()) {
    let (ended, watchdog) = mpsc::channel::<()>();
    let name = name.to_owned();
    std::thread::spawn(move || {
        if watchdog.recv_timeout(GUARD) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Past the test harness, which would keep it to itself.
            let _ = writeln!(std::io::stderr(), "{name}: hangs");
            std::process::abort();
        }
    });
    test();
    drop(ended);
}

/// Runs a test in a process of its own: for what belongs to the whole process, such as signals, limits and fd numbers.
pub fn alone(name: &str, test: impl FnOnce()) {
    const VARIABLE: &str = "BECKET_TEST_ALONE";
    if std::env::var(VARIABLE).is_ok_and(|value| value == name) {
        watched(name, test); // It may start processes: there is no other test.
        return;
    }
    let (_, name_in_crate) = name.split_once("::").expect("the name of a test in a crate");
    let no_tests = STARTS.write().unwrap_or_else(PoisonError::into_inner);
    let this = std::env::current_exe().expect("the path of this program");
    // Under an emulator (tests/cross.sh): the program that runs this one, and its arguments.
    let runner = std::env::var("BECKET_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace().map(std::ffi::OsStr::new).chain([this.as_os_str()]);
    let child = Command::new(words.next().expect("at least this program"))
        .args(words)
        .args([name_in_crate, "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test can be run again");
    drop(no_tests); // It runs its program by now.
    let output = child.wait_with_output().expect("its end");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{name}: {}\n{out}\n{err}", output.status);
}

/// What a handler does beyond leaving its trace.
pub type Action = Box<dyn FnMut(&mut App, &Loop<App>, Event)>;

/// The program of a test: its sources by name, and what happened to them.
#[derive(Default)]
pub struct App {
    pub trace: Vec<String>,
    /// For handlers that are to do something once.
    pub acted: bool,
    sources: Vec<(String, Handle, Option<Action>)>,
}

impl App {
    /// The latest source of that name.
    pub fn handle(&self, name: &str) -> Handle {
        self.sources.iter().rev().find(|source| source.0 == name).unwrap_or_else(|| panic!("no source {name}")).1
    }

    /// A token for a source; `handle` becomes known by `named`.
    pub fn token(&mut self, name: &str, action: impl FnMut(&mut App, &Loop<App>, Event) + 'static) -> usize {
        self.sources.push((name.to_owned(), Handle::NONE, Some(Box::new(action))));
        self.sources.len() - 1
    }

    pub fn named(&mut self, token: usize, handle: Handle) -> Handle {
        self.sources[token].1 = handle;
        handle
    }

    /// Forgets the latest source; its handle.
    pub fn pop(&mut self) -> Handle {
        self.sources.pop().expect("a source").1
    }

    /// A token for a handler that removes its source.
    pub fn token_of_removal(&mut self) -> usize {
        self.token("removal", |_, event_loop, event| event_loop.remove(event.source).expect("it is alive"))
    }

    pub fn note(&mut self, what: impl Into<String>) {
        self.trace.push(what.into());
    }

    /// How an event stands in the trace: `name`, and what it tells.
    pub fn describe(&self, event: &Event) -> String {
        let mut text = self.sources[event.token].0.clone();
        let mut add = |word: String| {
            text.push(' ');
            text.push_str(&word);
        };
        match event.kind {
            Kind::Post => add(format!("post {}", event.value)),
            Kind::Timer | Kind::Signal | Kind::Child | Kind::Operation => add(event.value.to_string()),
            Kind::Listener if event.value >= 0 => add("connection".to_owned()),
            Kind::Listener => add(becket::Error::from_errno(event.value as i32).name().unwrap_or("?").to_owned()),
            Kind::Stream => {
                if let Some(told) = event.stream {
                    add(format!("{told:?} {}", event.value).to_lowercase());
                }
            }
            _ => {}
        }
        let flags = [
            (Ready::READABLE, "readable"),
            (Ready::PRIORITY, "priority"),
            (Ready::WRITABLE, "writable"),
            (Ready::ERROR, "error"),
            (Ready::HANGUP, "hangup"),
            (Ready::PEER_CLOSED, "peer-closed"),
            (Ready::TIMEOUT, "timeout"),
            (Ready::DEADLINE, "deadline"),
            (Ready::TRIGGERED, "triggered"),
            (Ready::PAUSED, "paused"),
        ];
        for (flag, word) in flags {
            if event.ready.contains(flag) {
                add(word.to_owned());
            }
        }
        text
    }
}

/// The one handler: it leaves a trace, then does what the source was given.
pub fn handler(app: &mut App, event_loop: &Loop<App>, event: Event) {
    let text = app.describe(&event);
    app.trace.push(text);
    if let Some(mut action) = app.sources[event.token].2.take() {
        action(app, event_loop, event);
        app.sources[event.token].2.get_or_insert(action);
    }
}

/// A loop and its program.
pub struct Rig {
    pub event_loop: Loop<'static, App>,
    pub app: App,
}

/// Does nothing beyond the trace.
pub fn nothing(_: &mut App, _: &Loop<App>, _: Event) {}

/// How the loops of most tests are.
pub fn virtual_config(backend: BackendChoice) -> Config {
    Config { backend, virtual_clock: true, ..Config::default() }
}

impl Rig {
    /// 32 sources, 8 posts, virtual time.
    pub fn new(backend: BackendChoice) -> Rig {
        Rig::with(&virtual_config(backend))
    }

    pub fn with_budget(backend: BackendChoice, budget: u32) -> Rig {
        Rig::with(&Config { budget, ..virtual_config(backend) })
    }

    pub fn with(config: &Config) -> Rig {
        Rig::sized::<32, 8>(config)
    }

    /// The memory is leaked: signals and wakers ask for memory that is never given back.
    pub fn sized<const S: usize, const P: usize>(config: &Config) -> Rig {
        let storage = Box::leak(Box::new(Storage::<S, P>::new()));
        let event_loop = if config.backend == BackendChoice::Simulator {
            let memory = Box::leak(Box::new(SimulatorMemory::<16, 16>::new()));
            Loop::simulated(storage, Simulator::new(memory, 1), config)
        } else {
            Loop::new(storage, config)
        };
        Rig { event_loop: event_loop.expect("a loop"), app: App::default() }
    }

    fn add(
        &mut self,
        name: &str,
        action: impl FnMut(&mut App, &Loop<App>, Event) + 'static,
        add: impl FnOnce(&Loop<'static, App>, usize) -> becket::Result<Handle>,
    ) -> Handle {
        let token = self.app.token(name, action);
        let handle = add(&self.event_loop, token).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        self.app.named(token, handle)
    }

    pub fn io(
        &mut self,
        name: &str,
        fd: &impl AsRawFd,
        interest: Ready,
        action: impl FnMut(&mut App, &Loop<App>, Event) + 'static,
    ) -> Handle {
        let fd = fd.as_raw_fd();
        self.add(name, action, |event_loop, token| event_loop.add_io(fd, interest, handler, token))
    }

    pub fn io_with(&mut self, name: &str, fd: &impl AsRawFd, interest: Ready, options: IoOptions) -> Handle {
        let fd = fd.as_raw_fd();
        self.add(name, nothing, |event_loop, token| event_loop.add_io_with(fd, interest, options, Some(handler), token))
    }

    pub fn timer(
        &mut self,
        name: &str,
        delay: u64,
        period: u64,
        action: impl FnMut(&mut App, &Loop<App>, Event) + 'static,
    ) -> Handle {
        let (delay, period) = (Duration::from_nanos(delay), Duration::from_nanos(period));
        self.add(name, action, |event_loop, token| event_loop.add_timer(delay, period, handler, token))
    }

    pub fn wake(&mut self, name: &str, action: impl FnMut(&mut App, &Loop<App>, Event) + 'static) -> Handle {
        self.add(name, action, |event_loop, token| event_loop.add_wake(handler, token))
    }

    pub fn before(&mut self, name: &str, action: impl FnMut(&mut App, &Loop<App>, Event) + 'static) -> Handle {
        self.add(name, action, |event_loop, token| event_loop.add_before(handler, token))
    }

    pub fn after(&mut self, name: &str, action: impl FnMut(&mut App, &Loop<App>, Event) + 'static) -> Handle {
        self.add(name, action, |event_loop, token| event_loop.add_after(handler, token))
    }

    pub fn idle(&mut self, name: &str, action: impl FnMut(&mut App, &Loop<App>, Event) + 'static) -> Handle {
        self.add(name, action, |event_loop, token| event_loop.add_idle(handler, token))
    }

    pub fn deferred(&mut self, name: &str, action: impl FnMut(&mut App, &Loop<App>, Event) + 'static) -> Handle {
        self.add(name, action, |event_loop, token| event_loop.add_deferred(handler, token))
    }

    pub fn signal(
        &mut self,
        name: &str,
        signal: i32,
        action: impl FnMut(&mut App, &Loop<App>, Event) + 'static,
    ) -> Handle {
        self.add(name, action, |event_loop, token| event_loop.add_signal(signal, handler, token))
    }

    pub fn child(
        &mut self,
        name: &str,
        process: u32,
        action: impl FnMut(&mut App, &Loop<App>, Event) + 'static,
    ) -> Handle {
        self.add(name, action, |event_loop, token| event_loop.add_child(process as i32, handler, token))
    }

    /// What one turn that does not sleep brings.
    pub fn turn(&mut self) -> Vec<String> {
        self.turn_for(0)
    }

    /// What one turn brings that sleeps for at most so many nanoseconds, of virtual time in most tests.
    pub fn turn_for(&mut self, timeout: u64) -> Vec<String> {
        self.event_loop.turn(&mut self.app, Duration::from_nanos(timeout)).expect("a turn");
        self.trace()
    }

    /// What so many turns bring that do not sleep.
    pub fn turns(&mut self, count: u32) -> Vec<String> {
        (0..count).flat_map(|_| self.turn()).collect()
    }

    /// What `run` brings, and its outcome.
    pub fn run(&mut self) -> (Vec<String>, becket::Outcome) {
        let outcome = self.event_loop.run(&mut self.app).expect("a run");
        (self.trace(), outcome)
    }

    /// What has happened since the last look.
    pub fn trace(&mut self) -> Vec<String> {
        std::mem::take(&mut self.app.trace)
    }

    /// What so much virtual time brings, without a sleep.
    pub fn after_ns(&mut self, nanos: u64) -> Vec<String> {
        self.event_loop.advance(Duration::from_nanos(nanos)).expect("virtual time");
        self.turn()
    }

    /// The pull form: all events of these kinds that are queued.
    pub fn pull(&self, kinds: Kinds) -> Vec<String> {
        std::iter::from_fn(|| self.event_loop.next(kinds).expect("an answer"))
            .map(|event| self.app.describe(&event))
            .collect()
    }

    pub fn now(&self) -> u64 {
        self.event_loop.now().expect("a time").as_nanos()
    }

    /// Nothing happens in so much time: the wait is one, undisturbed until its end, and has no events.
    pub fn assert_silent(&mut self) {
        let (turns, now) = (self.event_loop.statistics().turns, self.now());
        assert_eq!(self.event_loop.poll(Duration::from_secs(1)), Ok(0), "an event is queued");
        assert_eq!(self.now(), now + 1000 * MS, "the wait was cut short");
        assert_eq!(self.event_loop.statistics().turns, turns + 1);
        assert_eq!(self.event_loop.next(Kinds::all()), Ok(None));
    }
}

/// A backend that tells of an fd that was closed under it, though nobody changes its interest.
pub fn tells_of_closed(backend: BackendChoice) -> bool {
    backend != BackendChoice::Epoll
}

/// A backend that knows of hang-ups, errors and closed peers apart from readiness.
pub fn tells_more(backend: BackendChoice) -> bool {
    backend != BackendChoice::Select
}

/// A connected pair of non-blocking sockets.
pub fn pair() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().expect("a pair of sockets");
    a.set_nonblocking(true).expect("non-blocking");
    b.set_nonblocking(true).expect("non-blocking");
    (a, b)
}

/// A socket with one byte to read, and its peer.
pub fn readable() -> (UnixStream, UnixStream) {
    let (ours, mut theirs) = pair();
    theirs.write_all(b"x").expect("room for one byte");
    (ours, theirs)
}

/// A pipe: the end to read, the end to write, both non-blocking.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: room for the two; they are nobody else's when the call has succeeded.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

/// Reads what is there; how many bytes.
pub fn drain(stream: &UnixStream) -> usize {
    let mut bytes = [0; 4096];
    let mut total = 0;
    while let Ok(count @ 1..) = (&*stream).read(&mut bytes) {
        total += count;
    }
    total
}

/// Writes until there is no more room.
pub fn fill(stream: &UnixStream) {
    while (&*stream).write(&[0; 65536]).is_ok() {}
}

/// A bare fd number, for `io`.
#[derive(Clone, Copy)]
pub struct Fd(pub RawFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// `target` becomes another name of what `fd` is; whatever it was before is closed.
pub fn dup2(fd: &impl AsRawFd, target: RawFd) {
    // SAFETY: the tests that call this know whose the number was, and that it is not used as what it was afterwards.
    assert_eq!(unsafe { libc::dup3(fd.as_raw_fd(), target, libc::O_CLOEXEC) }, target);
}

/// Sets the soft limit of open files.
pub fn limit_files(count: u32) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: valid to write to, then to read from.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = count.into();
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0, "a limit of {count} files");
    }
}

/// xorshift64*: seeded, so that every run is the same. Source: Vigna, "An experimental exploration of Marsaglia's
/// xorshift generators, scrambled" (2016).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
