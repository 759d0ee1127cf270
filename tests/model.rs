//! Random programs against a small model, on every backend. See `programs/mod.rs`; a failure prints the seed, and a program
//! as short as can be found that fails too, to be kept as text in `KEPT`.
//!
//! A run is a function of its seed: time is virtual, the files are this test's own under numbers of its own, and nothing
//! depends on what the kernel does by itself.
//!
//! `BECKET_SEED` runs one seed alone, `BECKET_SEEDS` so many from there on, `BECKET_PROGRAM` the program in a file;
//! `BECKET_TRACE` tells what it does, `BECKET_SHRINK=0` shows a failure as it is. `make soak SECONDS=…` goes on for so long,
//! on all cores, with `BACKEND=…` on one backend alone.

#[path = "programs/mod.rs"]
mod programs;

use becket::{BackendChoice, Config, Error, Loop, Storage};
use programs::machine::Reached;
use programs::program::Program;
use programs::run::{SLOTS, run};
use programs::shrink::shrink;
use programs::streams::Outcomes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Steps of a program.
const STEPS: usize = 2_000;
/// Seeds for each backend.
const SEEDS: u64 = 100;

/// Programs that failed once.
const KEPT: &[&str] = &[
    // A turn was over when a lower level's turn found nobody, with readiness still to be reported.
    "loop 8 1 0 113; toggle 4; toggle 4; toggle 4; toggle 2; toggle 4; toggle 2; io; io 1; toggle 2; toggle \
     4; toggle 4; phases; phases; toggle 2; toggle 2; arm; remove; toggle; toggle 2; post; ret; run 0 1; \
     toggle; remove; defer; timer; toggle; remove_own; level; toggle 4; remove; io; toggle 4; ret; run 1 1; \
     post; remove_own; misuse; run; toggle 4; level; wake_source 0 0 1; defer; post; post; trigger; toggle; \
     toggle; remove_own; wake; io; run 1 3; ret; remove_own; turn; turn",
    // A lower level's turn came while its source was still to be reported. (Almost: sources of levels took the way through the queue.)
    "loop 0 0 0 83; io 0 1; toggle; run 1 7; hook 1; hook 2; ret; post; io 2 1; level 3 1",
    // An idle timeout that was extended expired before timers that were due before it.
    "loop 0 0 0 216; timer; timer; timer 1; arm 0 1; timer; trigger 1; turn; turn; timer 1 7 3; timer 16; \
     turn 1; timer 7; advance; toggle 7; io 1; timer 1; wake_source; idle_timeout 0 1; toggle; ret; ret; \
     turn; io; ret; turn; turn; trigger 7; ret; ret; turn; advance 6; next; advance 1",
    // epoll: the entry of an fd that was closed before its source was paused kept run from sleeping.
    "loop 0 0 0 0; io 0 1; wake_source; poll; close_first 0 1; modify 0 3; run 5",
    // epoll: a set that was built anew had a paused source in it, and told of its hang-up for ever.
    "loop 0 0 0 5; io 152; hook; modify 0 1; turn; remove_own; ret; close_first 89 1; remove_own; end 7; io 7 \
     221",
    // Idle sources had their turn though an operation had completed.
    "loop 0 1 0 161 1; submit 4; poll; hook 2",
    // A deadline came behind another of the same moment, since an idle timeout that is kept as endless counted as one.
    "loop 0 0 1 229; io; deadline 0 13; idle_timeout 0 254; timer 37; advance 16",
    // The model: what is triggered comes next turn when the readiness that was found of it is not asked for any more.
    "loop 0 0 0 167; toggle 6; io; toggle 6; io 1; io 2 1; io 3 2; turn; trigger 3; change 3 0 1",
    // The model: a duplicate and the file that has its number now, both told in one collection.
    "loop 0 1 0 31 1; toggle; toggle 1; toggle; toggle; toggle; toggle; toggle; toggle 1; toggle; toggle; toggle 7; \
     io 7; run 1 2; close_first 7 1; renew 7",
    // A stream that was being connected, and was closed, did not end when all that it was to send was taken back.
    "loop 0 0 0 0 0 1; dial 249; send 0 50 1; close_stream; cancel_send; rest",
    // A stream that could send no more told that it was not above its watermark when that was set.
    "loop 5 0 0 69 0 1; stream 0 0 1; dial 0 0 1; peer_end 0 3; stream; reset_stream 2; stream; hook 1; stream; send 4 \
     246; stream; post; hook 1; stream 1; reset_stream 3; stream 1; stream 1; turn; marks 3 16 16; narrow; keep; \
     pause_listener; marks; stale; keepalive; send; ret; stream 1; close_listener; close_stream; stream 1; send; keep; \
     pause_stream 2 1; cancel_send 2; peer_write; send; send 2 128; stream 1; pause_listener; peer_end 2 2; stream; modify; \
     ret; rest; stream; dial; marks",
    // `run` returned while a stream had waited for a buffer that was there.
    "loop 0 1 0 0 0 1; stream 1; peer_write 0 9 1; poll; drain; keep; ret; remove; stream; peer_write 0 9 1; poll; drain; \
     keep; ret; remove; stream; peer_write 0 9 1; poll; drain; post; run 249 3; release; ret; ret",
    // io_uring: a poll that was given up held the file of a source that was removed and closed before the wait.
    "loop 3 1 0 27 0 1; stream; poll; reset_stream; phases; remove",
    // The model: who has waited for a buffer that is forwarded is told when that has failed.
    "loop 0 1 0 73 0 1; dial; dial; peer_end 0 2; dial; peer_write; rest; peer_end; poll; dial 0 0 1; forward 1",
    // A stream that had failed to receive was told of behind others, which could close it before.
    "loop 0 0 0 167 0 1; stream; close_stream; dial 1; stream 0 0 1; stream; stream; stream; peer_end 1 \
     3; wake_source; hook 1; listen; run 1 16; call; stream 1 0 1; call; peer_write 0 1; rest; marks; \
     send; marks; forward_kept; shut_stream; level 3 1; close_stream 3; send 2 245; marks; send 4 16; \
     dial; peer_write 1; marks; release; peer_write 2 1; peer_write 5 1; peer_write 1; toggle; call; \
     release; peer_read 2 1; forward; release; release; marks; release; rest; rest; forward; marks; \
     release; dial; send; release; release; pause_listener; close_stream 1; close_listener; toggle; call; \
     stream; stream; stream; close_stream 3; remove 4; turn; stream 1; stream 1; stream 1; peer_write 3 \
     1; stream 1; peer_write 0 1; turn; peer_end 4 3; peer_write; keep; keep; keep; release; accept; \
     peer_write; close_stream 3",
    // io_uring: what was taken back while something rode with a wait was seen at the watermark only when that had arrived.
    "loop 0 1 0 216 0 1; stream; marks; peer_write; run; peer_write; run; next; keep; peer_write; peer_write; \
     peer_write; forward_kept; marks 0 3 1; send 0 16; cancel_send; next",
    // The model: a stream that is closed while it is being connected sends all the same.
    "loop 0 0 0 81 0 1; stream 0 0 1; stream; stream; peer_write 1; stream; stream; listen; call; call; send 2 128; stream; \
     io 1; send 3 128; reset_stream 3; end; peer_write 2; listen; close_stream; turn; forward; rest; keep; peer_read; \
     forward_kept; peer_write; forward; keep; shut_stream; peer_write; raise; forward; pause_stream; io; change; stream; \
     send; close_listener; raise; peer_write; keep; release; send; close_stream 2; dial 1; send 4; forward; forward; \
     listen; change; forward; io 2; stream; stream; call; reset_stream; raise; release; drain; narrow; pause_stream; \
     stream; forward; close_listener; submit; keep; forward; peer_write; rest; stream; forward 2; peer_read; \
     reset_stream 1; io 3; cancel_send; rest; io 4; stream; send 0 128; stream; deadline_at 2 215",
    // epoll: a wait was short for an fd that could not be watched, and for which no operation waited any more. (Most often.)
    "loop 0 0 0 14 1 0; submit 74 7 9; io 132 1 1; submit 207; turn; close_first 168 47 5; submit 61 6; turn; remove; cancel; \
     turn 192 153 25; remove 32 0 4; phases; ret 33 4; remove 0 0 64; post 0 0 2; io 119 3; remove_own; arm; io; modify 0 4; \
     io; phases 240 2",
];

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What it has come to, or what was wrong.
fn attempt(program: &Program, backend: BackendChoice, slot: usize) -> Result<Reached, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                MESSAGE.with_borrow_mut(|message| *message = info.to_string());
            } else {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| run(program, backend, slot)));
    QUIET.set(false);
    result.map_err(|_| MESSAGE.take())
}

/// Runs a program; when it fails, says all that helps.
fn must_pass(program: &Program, backend: BackendChoice, slot: usize, name: &str) -> Reached {
    let attempt = |program: &Program| {
        watch();
        let thread = format!("{:?}", std::thread::current().id());
        UNDER_WAY.lock().unwrap().insert(thread.clone(), (Instant::now(), format!("{name}, on {backend:?},")));
        let result = attempt(program, backend, slot);
        UNDER_WAY.lock().unwrap().remove(&thread);
        result
    };
    match attempt(program) {
        Ok(reached) => reached,
        Err(message) if number("BECKET_SHRINK") == Some(0) => panic!("{name} fails on {backend:?}:\n{message}"),
        Err(message) => {
            let short = shrink(program, |candidate| attempt(candidate).is_err());
            let last = attempt(&short).err().unwrap_or(message);
            panic!("{name} fails on {backend:?}, and so do these {} steps:\n\n{short}\n{last}\n", short.steps.len());
        }
    }
}

/// The longest that one attempt may take: a guard against hanging, never part of what is tested.
const GUARD: Duration = Duration::from_secs(120);

/// What is under way in each thread, and since when.
static UNDER_WAY: Mutex<BTreeMap<String, (Instant, String)>> = Mutex::new(BTreeMap::new());

/// Ends the process, with a word on what hangs, when something does.
fn watch() {
    static WATCHDOG: Once = Once::new();
    WATCHDOG.call_once(|| {
        let guard = number("BECKET_GUARD").map_or(GUARD, Duration::from_secs);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let all = UNDER_WAY.lock().unwrap();
                if let Some((_, name)) = all.values().find(|(since, _)| since.elapsed() > guard) {
                    // Past the test harness, which would keep it to itself.
                    let _ = writeln!(std::io::stderr(), "{name} hangs");
                    std::process::abort();
                }
            }
        });
    });
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Whether the system has io_uring, and permits it. qemu-user and some containers do not.
fn has_io_uring() -> bool {
    let config = Config { backend: BackendChoice::IoUring, ..Config::default() };
    let storage = Box::leak(Box::new(Storage::<1, 0>::new()));
    let has = !matches!(Loop::<()>::new(storage, &config), Err(Error::NO_CALL | Error::NOT_PERMITTED));
    if !has {
        let _ =
            writeln!(std::io::stderr(), "skipped: random programs on io_uring (this system has none, or forbids it)");
    }
    has
}

fn random_programs(backend: BackendChoice, slot: usize) {
    for (at, text) in KEPT.iter().enumerate() {
        let program = text.parse().expect("a program");
        must_pass(&program, backend, slot, &format!("program {at} of those that failed once"));
    }
    if let Ok(path) = std::env::var("BECKET_PROGRAM") {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        must_pass(&text.parse().expect("a program"), backend, slot, &path);
        return;
    }
    let first = number("BECKET_SEED");
    let count = number("BECKET_SEEDS").unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let from = first.unwrap_or(1);
    let mut came = Outcomes::default();
    for seed in from..from + count {
        let program = Program::from_seed(seed, STEPS);
        came.add(must_pass(&program, backend, slot, &format!("the program of seed {seed}")).streams);
    }
    if backend == BackendChoice::Simulator && first.is_none() && count >= SEEDS {
        assert_eq!(came.missing(), [""; 0], "programs that come to little: {came:?}");
    }
}

#[test]
fn on_select() {
    random_programs(BackendChoice::Select, 0);
}

#[test]
fn on_poll() {
    random_programs(BackendChoice::Poll, 1);
}

#[test]
fn on_epoll() {
    random_programs(BackendChoice::Epoll, 2);
}

#[test]
fn on_io_uring() {
    if has_io_uring() {
        random_programs(BackendChoice::IoUring, 3);
    }
}

#[test]
fn on_the_simulator() {
    random_programs(BackendChoice::Simulator, 4);
}

/// The backends of the system, by name.
const REAL: [(&str, BackendChoice); 4] = [
    ("select", BackendChoice::Select),
    ("poll", BackendChoice::Poll),
    ("epoll", BackendChoice::Epoll),
    ("io_uring", BackendChoice::IoUring),
];

/// The backend that `BACKEND` names, if there is one.
fn wanted_backend() -> Option<BackendChoice> {
    let name = std::env::var("BACKEND").ok().filter(|name| !name.is_empty())?;
    let all = REAL.iter().chain(&[("simulator", BackendChoice::Simulator)]);
    let found = all.clone().find(|it| it.0 == name);
    Some(found.unwrap_or_else(|| panic!("{name:?} is none of {:?}", all.map(|it| it.0).collect::<Vec<_>>())).1)
}

/// Random programs on all cores, for `SECONDS`, or until `SOAK_STEPS` steps were done: on the backend that `BACKEND` names, or
/// else most on the simulator, every sixteenth on a backend of the system. From a random seed, or `BECKET_SEED`.
#[test]
#[ignore = "runs for as long as one likes: make soak"]
fn soak() {
    let random = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_nanos() as u64 >> 8;
    let base = number("BECKET_SEED").unwrap_or_else(random);
    let time = Duration::from_secs(number("SECONDS").unwrap_or(60));
    let most = number("SOAK_STEPS").unwrap_or(u64::MAX);
    let wanted = wanted_backend();
    // (There are file numbers for so many.)
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(SLOTS) as u64;
    eprintln!("soak: from seed {base}, {STEPS} steps a program, {threads} threads");
    let (start, total) = (Instant::now(), AtomicU64::new(0));
    let rate = |steps: u64| {
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("soak: {steps} steps in {seconds:.0} s, {:.0} a second", steps as f64 / seconds.max(0.001));
    };
    let failed = AtomicBool::new(false);
    let goes_on = || start.elapsed() < time && total.load(Ordering::Relaxed) < most && !failed.load(Ordering::Relaxed);
    let soak_one = |thread: u64| {
        let mut shown = Instant::now();
        for at in (0..).take_while(|_| goes_on()) {
            let seed = base.wrapping_add(at * threads + thread);
            let real = at % 16 == 15;
            let mixed = if real { REAL[(at / 16) as usize % 4].1 } else { BackendChoice::Simulator };
            let backend = wanted.unwrap_or(mixed);
            let program = Program::from_seed(seed, STEPS);
            let name = format!("the program of seed {seed}");
            let pass = || must_pass(&program, backend, thread as usize, &name);
            let reached = catch_unwind(AssertUnwindSafe(pass)).unwrap_or_else(|panic| {
                failed.store(true, Ordering::Relaxed);
                std::panic::resume_unwind(panic)
            });
            let done = total.fetch_add(reached.steps, Ordering::Relaxed) + reached.steps;
            if thread == 0 && shown.elapsed() > Duration::from_secs(20) {
                shown = Instant::now();
                rate(done);
            }
        }
    };
    std::thread::scope(|scope| {
        let soak_one = &soak_one;
        let all: Vec<_> = (0..threads).map(|thread| scope.spawn(move || soak_one(thread))).collect();
        for thread in all {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    rate(total.load(Ordering::Relaxed));
}

/// A program is the same as text, and from the same bytes.
#[test]
fn a_program_as_text() {
    let program = Program::from_seed(1, 300);
    assert_eq!(program.to_string().parse(), Ok(program));
    assert_eq!(Program::from_bytes(&[0; 11]).steps.len(), 2);
    assert!("remove 1 2 3\nnonsense".parse::<Program>().is_err());
}
