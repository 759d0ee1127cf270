//! The simulator: each thing that it offers, shown once; and that a run is a function of its seed.
#![cfg(feature = "simulator")]

use becket::{
    BackendChoice, Config, Duration, Error, Event, Instant, IoOptions, Kinds, Loop, Ready, Simulator, SimulatorMemory,
    Storage,
};

const MS: u64 = 1_000_000;
/// Where simulated time begins.
const START: u64 = 1_000 * MS;

/// What happened: when, to which descriptor, what.
#[derive(Default)]
struct App {
    trace: Vec<String>,
    /// Events after which a run is stopped.
    left: Option<u32>,
}

fn on_event(app: &mut App, event_loop: &Loop<App>, event: Event) {
    let now = event_loop.now().unwrap().as_nanos() - START;
    app.trace.push(format!("{now} {} {:?} {}", event.token, event.ready, event.value));
    if let Some(left) = &mut app.left {
        *left -= 1;
        if *left == 0 {
            event_loop.stop().unwrap();
        }
    }
}

/// Calls `test` with a loop in a simulator.
fn simulate<R>(seed: u64, test: impl FnOnce(&Loop<App>, Simulator, &mut App) -> R) -> R {
    let mut memory = SimulatorMemory::<16, 64>::new();
    let simulator = Simulator::new(&mut memory, seed);
    let mut storage = Storage::<32, 8>::new();
    let event_loop = Loop::simulated(&mut storage, simulator, &Config::default()).unwrap();
    test(&event_loop, simulator, &mut App::default())
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(START + ms * MS)
}

#[test]
fn readiness_comes_and_goes_as_scripted() {
    simulate(1, |event_loop, simulator, app| {
        let fd = simulator.scripted().unwrap();
        event_loop.add_io(fd, Ready::READABLE, on_event, 7).unwrap();
        simulator.ready_at(fd, at(20), Ready::READABLE | Ready::WRITABLE).unwrap();
        simulator.ready_at(fd, at(30), Ready::empty()).unwrap();
        simulator.ready_at(fd, at(40), Ready::HANGUP).unwrap();
        assert_eq!(event_loop.turn(app, Duration::from_millis(10)), Ok(0));
        assert_eq!(simulator.now(), at(10), "nothing happened: the wait was as long as it was asked for");
        event_loop.turn(app, Duration::FOREVER).unwrap();
        event_loop.turn(app, Duration::ZERO).unwrap();
        simulator.advance(Duration::from_millis(15)).unwrap();
        event_loop.turn(app, Duration::FOREVER).unwrap();
        let readable = "Ready(READABLE)";
        let hangup = "Ready(READABLE | HANGUP)";
        let expected = [("20", readable), ("20", readable), ("40", hangup)];
        assert_eq!(app.trace, expected.map(|(ms, ready)| format!("{ms}000000 7 {ready} 0")));
    });
}

#[test]
fn a_wait_that_nothing_can_end_is_a_deadlock() {
    simulate(1, |event_loop, simulator, app| {
        let fd = simulator.scripted().unwrap();
        event_loop.add_io(fd, Ready::READABLE, on_event, 0).unwrap();
        assert_eq!(event_loop.run(app).unwrap_err().errno(), libc::EDEADLK);
        simulator.set_ready(fd, Ready::READABLE).unwrap();
        app.left = Some(1);
        assert!(event_loop.run(app).is_ok());
    });
}

#[test]
fn time_passes_only_in_waits() {
    simulate(1, |event_loop, simulator, app| {
        app.left = Some(3);
        event_loop.add_timer(Duration::from_secs(3600), Duration::from_secs(3600), on_event, 1).unwrap();
        event_loop.run(app).unwrap();
        assert_eq!(simulator.now(), at(3 * 3_600_000));
        assert_eq!(app.trace.len(), 3);
    });
}

#[test]
fn a_wake_in_the_same_thread_ends_a_prepared_wait() {
    simulate(1, |event_loop, simulator, _| {
        let target = event_loop.add_wake_pulled(0).unwrap();
        assert_eq!(event_loop.prepare(Duration::from_secs(1)), Ok(0));
        event_loop.trigger(target, Ready::empty()).unwrap();
        event_loop.wait().unwrap();
        assert_eq!(event_loop.collect(), Ok(1));
        assert_eq!(simulator.now(), at(0));
        assert!(event_loop.next(Kinds::all()).unwrap().is_some());
        // It was read: the next wait is a whole one.
        assert_eq!(event_loop.poll(Duration::from_millis(5)), Ok(0));
        assert_eq!(simulator.now(), at(5));
    });
}

fn random_trace(seed: u64) -> Vec<String> {
    simulate(seed, |event_loop, simulator, app| {
        for token in 0..8 {
            let fd = simulator.random(Duration::from_millis(token as u64 + 1)).unwrap();
            let options = IoOptions { edge: token % 2 == 0, ..IoOptions::default() };
            event_loop.add_io_with(fd, Ready::READABLE | Ready::WRITABLE, options, Some(on_event), token).unwrap();
        }
        app.left = Some(500);
        event_loop.run(app).unwrap();
        std::mem::take(&mut app.trace)
    })
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    let first = random_trace(1);
    assert_eq!(first, random_trace(1));
    assert_ne!(first, random_trace(2));
}

#[test]
fn edges_are_told_once() {
    simulate(1, |event_loop, simulator, app| {
        let fd = simulator.scripted().unwrap();
        let edge = IoOptions { edge: true, ..IoOptions::default() };
        let source = event_loop.add_io_with(fd, Ready::READABLE, edge, Some(on_event), 0).unwrap();
        simulator.set_ready(fd, Ready::READABLE).unwrap();
        assert_eq!(event_loop.turn(app, Duration::ZERO), Ok(1));
        assert_eq!(event_loop.turn(app, Duration::ZERO), Ok(0));
        event_loop.modify_io(source, Ready::READABLE).unwrap();
        assert_eq!(event_loop.turn(app, Duration::ZERO), Ok(1), "a modify tells anew");
        simulator.set_ready(fd, Ready::empty()).unwrap();
        simulator.set_ready(fd, Ready::READABLE).unwrap();
        assert_eq!(event_loop.turn(app, Duration::ZERO), Ok(1));
        assert_eq!(event_loop.turn(app, Duration::ZERO), Ok(0));
    });
}

#[test]
fn what_is_no_descriptor_of_the_simulator_is_refused() {
    simulate(1, |event_loop, simulator, app| {
        assert_eq!(event_loop.add_io(0, Ready::READABLE, on_event, 0), Err(Error::BAD_FD));
        let fd = simulator.scripted().unwrap();
        simulator.close(fd).unwrap();
        assert_eq!(simulator.close(fd), Err(Error::BAD_FD));
        assert_eq!(event_loop.add_io(fd, Ready::READABLE, on_event, 0), Err(Error::BAD_FD));
        let file = simulator.regular().unwrap();
        assert_eq!(event_loop.add_io(file, Ready::READABLE, on_event, 0), Err(Error::NOT_PERMITTED));
        assert_eq!(event_loop.statistics().sources, 0);
        let null = simulator.null().unwrap();
        event_loop.add_io(null, Ready::READABLE, on_event, 0).unwrap();
        for _ in 0..3 {
            assert_eq!(event_loop.turn(app, Duration::FOREVER), Ok(1), "it never blocks");
        }
    });
}

#[test]
fn closed_before_its_removal() {
    simulate(1, |event_loop, simulator, app| {
        let fd = simulator.scripted().unwrap();
        let source = event_loop.add_io(fd, Ready::READABLE, on_event, 0).unwrap();
        simulator.close(fd).unwrap();
        event_loop.turn(app, Duration::FOREVER).unwrap();
        assert_eq!(app.trace, ["0 0 Ready(READABLE | ERROR) 0"]);
        event_loop.remove(source).unwrap();
        assert_eq!(event_loop.turn(app, Duration::ZERO), Ok(0));
    });
}

#[test]
fn who_asks_for_it_without_one_is_told_so() {
    let mut storage = Storage::<4, 0>::new();
    let config = Config { backend: BackendChoice::Simulator, ..Config::default() };
    assert_eq!(Loop::<()>::new(&mut storage, &config).err(), Some(Error::INVALID));
    let mut memory = SimulatorMemory::<1, 1>::new();
    let simulator = Simulator::new(&mut memory, 0);
    let event_loop = Loop::<()>::simulated(&mut storage, simulator, &config).unwrap();
    assert_eq!(event_loop.backend(), ("simulator", ""));
}

#[test]
fn a_simulator_serves_its_latest_loop() {
    let mut memory = SimulatorMemory::<1, 1>::new();
    let simulator = Simulator::new(&mut memory, 0);
    let (mut first, mut second) = (Storage::<4, 0>::new(), Storage::<4, 0>::new());
    let first = Loop::<()>::simulated(&mut first, simulator, &Config::default()).unwrap();
    first.poll(Duration::ZERO).unwrap();
    let second = Loop::<()>::simulated(&mut second, simulator, &Config::default()).unwrap();
    assert_eq!(first.poll(Duration::ZERO), Err(Error::STALE));
    second.poll(Duration::ZERO).unwrap();
}

#[test]
fn another_thread_cannot_use_it() {
    let memory = Box::leak(Box::new(SimulatorMemory::<2, 2>::new()));
    let simulator = Simulator::new(memory, 0);
    let fd = simulator.scripted().unwrap();
    let storage = Box::leak(Box::new(Storage::<4, 0>::new()));
    let event_loop = Loop::<()>::simulated(storage, simulator, &Config::default()).unwrap();
    let thread = std::thread::spawn(move || {
        assert_eq!(
            event_loop.add_io_with(fd, Ready::READABLE, IoOptions::default(), None, 0),
            Err(Error::NOT_PERMITTED)
        );
        assert_eq!(event_loop.poll(Duration::ZERO), Err(Error::NOT_PERMITTED));
        assert_eq!(event_loop.advance(Duration::ZERO), Err(Error::NOT_PERMITTED));
    });
    thread.join().unwrap();
}
