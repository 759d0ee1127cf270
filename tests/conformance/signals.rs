//! Signals as events. Dispositions are the process's, so each test runs in a process of its own.

use crate::harness::*;
use becket::{BackendChoice, Config, Duration, Error, Kinds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

each_backend! { alone:
    a_signal_is_an_event
    signals_are_counted
    a_signal_ends_a_sleep
    the_old_disposition_comes_back_on_removal
    the_old_disposition_comes_back_with_the_end_of_the_loop
    one_loop_for_each_signal
    signals_that_are_none
    a_signal_that_came_before_the_removal_is_not_told
    a_signal_source_can_be_triggered
    a_foreign_signal_does_not_shorten_a_wait
    a_foreign_signal_ends_a_wait_on_request
    a_signal_handler_may_wake_and_stop
    a_storm_of_signals_disturbs_nothing
}

const USR1: i32 = libc::SIGUSR1;
const USR2: i32 = libc::SIGUSR2;

fn raise(signal: i32) {
    // SAFETY: no memory is touched; the test has a handler for the signal.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn catch(_: i32) {
    CAUGHT.fetch_add(1, Ordering::SeqCst);
}

/// The program's own handler for a signal, that interrupts system calls.
fn install(signal: i32, handler: extern "C" fn(i32)) {
    // SAFETY: all zeros is a valid sigaction; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
}

fn a_signal_is_an_event(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let source = rig.signal("usr1", USR1, nothing);
    let other = rig.wake("other", nothing);
    assert_eq!(
        (rig.event_loop.signal_number(source), rig.event_loop.child_pid(source)),
        (Ok(USR1), Err(Error::INVALID))
    );
    assert_eq!(rig.event_loop.signal_number(other), Err(Error::INVALID));
    rig.assert_silent();
    raise(USR1);
    assert_eq!(rig.event_loop.poll(Duration::ZERO), Ok(1));
    let event = rig.event_loop.next(Kinds::all()).unwrap().expect("a signal");
    assert_eq!((event.source, event.kind, event.fd, event.value), (source, becket::Kind::Signal, USR1, 1));
    rig.assert_silent();
}

fn signals_are_counted(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    rig.signal("usr1", USR1, nothing);
    rig.signal("usr2", USR2, nothing);
    for _ in 0..3 {
        raise(USR1);
    }
    raise(USR2);
    let mut trace = rig.turn();
    trace.sort();
    assert_eq!(trace, ["usr1 3", "usr2 1"]);
    raise(USR1);
    assert_eq!(rig.turns(2), ["usr1 1"]);
}

fn a_signal_ends_a_sleep(backend: BackendChoice) {
    let mut rig = Rig::with(&Config { backend, ..Config::default() });
    rig.signal("usr1", USR1, |_, event_loop, event| event_loop.remove(event.source).unwrap());
    let thread = std::thread::spawn(|| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        // SAFETY: no memory is touched. The signal goes to the process: to whichever thread.
        assert_eq!(unsafe { libc::kill(libc::getpid(), USR1) }, 0);
    });
    assert_eq!(rig.run().0, ["usr1 1"]);
    thread.join().unwrap();
}

fn the_old_disposition_comes_back_on_removal(backend: BackendChoice) {
    install(USR1, catch);
    let mut rig = Rig::new(backend);
    for round in 1..4 {
        let source = rig.signal("usr1", USR1, nothing);
        raise(USR1);
        assert_eq!(CAUGHT.load(Ordering::SeqCst), round - 1, "the loop has it");
        assert_eq!(rig.turn(), ["usr1 1"]);
        rig.event_loop.remove(source).unwrap();
        raise(USR1);
        assert_eq!(CAUGHT.load(Ordering::SeqCst), round);
        rig.assert_silent();
    }
}

fn the_old_disposition_comes_back_with_the_end_of_the_loop(backend: BackendChoice) {
    install(USR1, catch);
    let mut rig = Rig::new(backend);
    rig.signal("usr1", USR1, nothing);
    drop(rig);
    raise(USR1);
    assert_eq!(CAUGHT.load(Ordering::SeqCst), 1);
    let mut rig = Rig::new(backend);
    rig.signal("usr1", USR1, nothing);
    raise(USR1);
    assert_eq!(rig.turn(), ["usr1 1"], "nothing is left of the loop before");
}

fn one_loop_for_each_signal(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let source = rig.signal("usr1", USR1, nothing);
    assert_eq!(rig.event_loop.add_signal(USR1, handler, 0), Err(Error::EXISTS));
    let mut other = Rig::new(backend);
    assert_eq!(other.event_loop.add_signal(USR1, handler, 0), Err(Error::BUSY));
    assert_eq!((rig.event_loop.statistics().sources, other.event_loop.statistics().sources), (1, 0));
    raise(USR1);
    assert_eq!(other.turn(), [""; 0]);
    assert_eq!(rig.turn(), ["usr1 1"]);
    rig.event_loop.remove(source).unwrap();
    other.signal("usr1", USR1, nothing);
    raise(USR1);
    assert_eq!(other.turn(), ["usr1 1"]);
    assert_eq!(rig.event_loop.add_signal(USR1, handler, 0), Err(Error::BUSY));
}

fn signals_that_are_none(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    for signal in [0, -1, 65, 1000, i32::MAX, i32::MIN, libc::SIGKILL, libc::SIGSTOP] {
        assert_eq!(rig.event_loop.add_signal(signal, handler, 0), Err(Error::INVALID), "{signal}");
    }
    assert_eq!(rig.event_loop.statistics().sources, 0);
    rig.assert_silent();
}

fn a_signal_that_came_before_the_removal_is_not_told(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let source = rig.signal("old", USR1, nothing);
    raise(USR1);
    rig.event_loop.remove(source).unwrap();
    rig.signal("new", USR1, nothing);
    assert_eq!(rig.turn(), [""; 0]);
    raise(USR1);
    assert_eq!(rig.event_loop.poll(Duration::ZERO), Ok(1));
    rig.event_loop.remove(rig.app.handle("new")).unwrap();
    assert_eq!(rig.pull(Kinds::all()), [""; 0]);
}

fn a_signal_source_can_be_triggered(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let source = rig.signal("usr1", USR1, nothing);
    rig.event_loop.trigger(source, PAUSED).unwrap();
    assert_eq!(rig.turn(), ["usr1 0 triggered"]);
    raise(USR1);
    rig.event_loop.waker(source).wake().unwrap();
    assert_eq!(rig.turns(2), ["usr1 1 triggered"]);
}

/// Sends signals to this thread until it is told to stop.
fn storm(signal: i32, pause: std::time::Duration) -> (Arc<AtomicBool>, std::thread::JoinHandle<u32>) {
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    // SAFETY: no precondition.
    let target = unsafe { libc::pthread_self() };
    let thread = std::thread::spawn(move || {
        let mut sent = 0;
        while !told.load(Ordering::Relaxed) {
            // SAFETY: the target is the test's thread, which joins this one before it ends.
            unsafe { libc::pthread_kill(target, signal) };
            sent += 1;
            std::thread::sleep(pause);
        }
        sent
    });
    (stop, thread)
}

fn a_foreign_signal_does_not_shorten_a_wait(backend: BackendChoice) {
    install(USR2, catch);
    let mut rig = Rig::with(&Config { backend, ..Config::default() });
    let (stop, thread) = storm(USR2, std::time::Duration::from_millis(1));
    let start = std::time::Instant::now();
    assert_eq!(rig.event_loop.poll(Duration::from_millis(60)), Ok(0));
    let slept = start.elapsed();
    assert!(slept.as_millis() >= 60, "{slept:?}");
    assert_eq!(rig.event_loop.statistics().turns, 1);
    // A timer is not early, and not lost either.
    let start = std::time::Instant::now();
    rig.timer("timer", 30 * MS, 0, |_, event_loop, event| event_loop.remove(event.source).unwrap());
    assert_eq!(rig.run().0, ["timer 1"]);
    assert!(start.elapsed().as_millis() >= 30);
    stop.store(true, Ordering::Relaxed);
    assert!(thread.join().unwrap() > 0);
    assert!(CAUGHT.load(Ordering::SeqCst) > 0);
}

fn a_foreign_signal_ends_a_wait_on_request(backend: BackendChoice) {
    install(USR2, catch);
    let mut rig = Rig::with(&Config { backend, return_interrupted: true, ..Config::default() });
    rig.wake("wake", nothing);
    let (stop, thread) = storm(USR2, std::time::Duration::from_millis(1));
    assert_eq!(rig.event_loop.poll(Duration::FOREVER), Err(Error::INTERRUPTED));
    assert_eq!(rig.event_loop.turn(&mut rig.app, Duration::FOREVER), Err(Error::INTERRUPTED));
    assert_eq!(rig.event_loop.run(&mut rig.app), Err(Error::INTERRUPTED));
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    // The loop goes on as ever, and a run may begin again.
    rig.event_loop.stop().unwrap();
    assert_eq!(rig.run().1, becket::Outcome::Stopped);
}

static WAKER: std::sync::OnceLock<(becket::Waker, becket::Stopper)> = std::sync::OnceLock::new();

extern "C" fn wake_and_stop(_: i32) {
    if let Some((waker, stopper)) = WAKER.get() {
        let _ = (waker.wake(), stopper.stop());
    }
}

fn a_signal_handler_may_wake_and_stop(backend: BackendChoice) {
    install(USR2, wake_and_stop);
    let mut rig = Rig::with(&Config { backend, ..Config::default() });
    let wake = rig.wake("wake", nothing);
    assert!(WAKER.set((rig.event_loop.waker(wake), rig.event_loop.stopper())).is_ok());
    for _ in 0..20 {
        let (stop, thread) = storm(USR2, std::time::Duration::from_millis(1));
        assert_eq!(rig.run().1, becket::Outcome::Stopped);
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }
    assert!(rig.event_loop.statistics().events_of(becket::Kind::Wake) > 0);
}

fn a_storm_of_signals_disturbs_nothing(backend: BackendChoice) {
    install(USR2, catch);
    let pairs: Vec<_> = (0..8).map(|_| pair()).collect();
    let mut rig = Rig::with(&Config { backend, ..Config::default() });
    let (stop, thread) = storm(USR2, std::time::Duration::from_micros(50));
    // A byte goes round through all pairs, 200 times.
    for (number, (ours, _)) in pairs.iter().enumerate() {
        let (read, next) = (ours.try_clone().unwrap(), pairs[(number + 1) % 8].1.try_clone().unwrap());
        let mut rounds = 0;
        rig.io(&number.to_string(), ours, READABLE, move |_, event_loop, _| {
            assert_eq!(drain(&read), 1);
            std::io::Write::write_all(&mut &next, b"x").unwrap();
            rounds += 1;
            if rounds == 200 {
                event_loop.stop().unwrap();
            }
        });
    }
    std::io::Write::write_all(&mut &pairs[0].1, b"x").unwrap();
    let (trace, outcome) = rig.run();
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    assert_eq!(outcome, becket::Outcome::Stopped);
    assert_eq!(trace.len(), 8 * 199 + 1, "each byte was told of once");
}
