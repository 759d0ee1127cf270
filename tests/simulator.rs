//! The simulator: each thing that it offers, shown once; and that a run is a function of its seed.
#![cfg(feature = "simulator")]

use becket::{
    BackendChoice, Call, Config, Duration, Error, Event, Instant, IoOptions, Kinds, Loop, Quirk, Ready, Simulator,
    SimulatorMemory, Storage,
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
    simulate_with(seed, &Config::default(), test)
}

fn simulate_with<R>(seed: u64, config: &Config, test: impl FnOnce(&Loop<App>, Simulator, &mut App) -> R) -> R {
    let mut memory = SimulatorMemory::<16, 64>::new();
    let simulator = Simulator::new(&mut memory, seed);
    let mut storage = Storage::<32, 8>::new();
    let event_loop = Loop::simulated(&mut storage, simulator, config).unwrap();
    test(&event_loop, simulator, &mut App::default())
}

/// Every time.
const ALWAYS: u32 = 1_000_000;
const READABLE: Ready = Ready::READABLE;
const WRITABLE: Ready = Ready::WRITABLE;
const BOTH: Ready = READABLE.union(WRITABLE);
const ENDED: Ready = READABLE.union(Ready::PEER_CLOSED);

/// A wait that finds nothing, and its length.
fn wait(event_loop: &Loop<App>, span: Duration) -> u64 {
    let before = event_loop.now().unwrap();
    assert_eq!(event_loop.poll(span), Ok(0));
    event_loop.now().unwrap().since(before).as_nanos()
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
        let file = simulator.open(10).unwrap();
        assert_eq!(event_loop.add_io(file, Ready::READABLE, on_event, 0), Err(Error::NOT_PERMITTED));
        assert_eq!(event_loop.statistics().sources, 0);
        let null = simulator.open_null().unwrap();
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

/// Makes such a call, once.
fn make(call: Call, event_loop: &Loop<App>, simulator: Simulator) -> Result<(), Error> {
    let [ours, theirs] = simulator.pair()?;
    match call {
        Call::Open => simulator.open(1).map(drop),
        Call::Socket => Ok(()), // that was one
        Call::Connect | Call::Accept => {
            let (client, listener) = (simulator.socket()?, simulator.socket()?);
            simulator.listen(listener, 1)?;
            match simulator.connect(client, listener) {
                Err(Error::IN_PROGRESS) => {}
                other => return other,
            }
            let source = event_loop.add_io(client, WRITABLE, on_event, 0)?;
            event_loop.poll(Duration::FOREVER)?;
            event_loop.remove(source)?;
            match simulator.take_error(client)? {
                Some(error) => Err(error),
                None => simulator.accept(listener).map(drop),
            }
        }
        Call::Read => simulator.write(theirs, b"x").and_then(|_| simulator.read(ours, &mut [0; 8])).map(drop),
        Call::Write => simulator.write(ours, b"x").map(drop),
        Call::Close => simulator.close(ours),
        Call::Watch => event_loop.add_io(ours, READABLE, on_event, 0).map(drop),
        Call::Wait => event_loop.poll(Duration::from_millis(1)).map(drop),
        Call::Change => {
            let source = event_loop.add_io(ours, READABLE, on_event, 0)?;
            event_loop.poll(Duration::ZERO)?;
            event_loop.modify_io(source, BOTH)?;
            assert!(event_loop.poll(Duration::from_millis(1))? == u32::from(simulator.failed(call)? == 0));
            Ok(())
        }
        Call::Submit | Call::ReadFile | Call::WriteFile | Call::Sync | Call::Status => {
            unreachable!("operations have tests of their own")
        }
    }
}

#[test]
fn each_call_fails_by_each_of_its_errors() {
    let of_operations = |call: Call| call as u8 >= Call::Submit as u8;
    for call in Call::ALL.iter().filter(|call| !of_operations(**call)) {
        assert_eq!(simulate(1, |event_loop, simulator, _| make(*call, event_loop, simulator)), Ok(()), "{call:?}");
        for error in call.errors() {
            let config = Config { return_interrupted: true, ..Config::default() };
            let by = |set: &dyn Fn(Simulator)| {
                simulate_with(1, &config, |event_loop, simulator, _| {
                    set(simulator);
                    let result = make(*call, event_loop, simulator);
                    (result, simulator.failed(*call).unwrap())
                })
            };
            let expected = match (call, *error) {
                // The loop knows what to make of these.
                (Call::Wait, Error::BUSY) | (Call::Change, _) => Ok(()),
                (Call::Wait, Error::AGAIN) => Err(Error::INTERRUPTED),
                (_, error) => Err(error),
            };
            let (result, failed) = by(&|simulator| simulator.set_fault(*call, *error, ALWAYS).unwrap());
            assert_eq!(result, expected, "{call:?} {error:?}");
            assert!(failed > 0, "{call:?} {error:?}");
            let first = by(&|simulator| simulator.fail_nth(*call, *error, 1).unwrap());
            assert_eq!(first, (expected, 1), "{call:?} {error:?}");
            let second = by(&|simulator| simulator.fail_nth(*call, *error, 2).unwrap());
            assert!(second == (Ok(()), 0) || *call == Call::Socket || *call == Call::Wait, "{call:?} {error:?}");
        }
    }
}

#[test]
fn faults_that_cannot_be_are_refused() {
    simulate(1, |_, simulator, _| {
        assert_eq!(simulator.set_fault(Call::Read, Error::BROKEN_PIPE, 1), Err(Error::INVALID));
        assert_eq!(simulator.set_fault(Call::Read, Error::AGAIN, ALWAYS + 1), Err(Error::INVALID));
        simulator.set_fault(Call::Read, Error::AGAIN, 600_000).unwrap();
        assert_eq!(simulator.set_fault(Call::Read, Error::INTERRUPTED, 400_001), Err(Error::INVALID));
        simulator.set_fault(Call::Read, Error::INTERRUPTED, 400_000).unwrap();
        assert_eq!(simulator.fail_nth(Call::Close, Error::AGAIN, 1), Err(Error::INVALID));
        assert_eq!(simulator.set_quirk(Quirk::Partial, ALWAYS + 1, Duration::ZERO), Err(Error::INVALID));
        assert_eq!(simulator.set_all_faults(142_858, Duration::ZERO), Err(Error::INVALID));
        simulator.set_all_faults(142_857, Duration::ZERO).unwrap();
    });
}

#[test]
fn what_is_not_faulty_never_fails() {
    simulate(1, |_, simulator, _| {
        let [ours, theirs] = simulator.pair().unwrap();
        simulator.set_all_faults(142_857, Duration::from_millis(1)).unwrap();
        simulator.set_all_faults(0, Duration::ZERO).unwrap();
        for _ in 0..1000 {
            assert_eq!(simulator.write(ours, b"abc"), Ok(3));
            assert_eq!(simulator.read(theirs, &mut [0; 9]), Ok(3));
        }
        assert!(Call::ALL.iter().all(|call| simulator.failed(*call) == Ok(0)));
    });
}

#[test]
fn a_connection_has_bounded_buffers_and_two_ends() {
    simulate(1, |_, simulator, _| {
        let [ours, theirs] = simulator.pair().unwrap();
        let ready = |fd| simulator.ready(fd).unwrap();
        let mut bytes = [0; 300];
        assert_eq!((ready(ours), ready(theirs)), (WRITABLE, WRITABLE));
        assert_eq!(simulator.read(ours, &mut bytes), Err(Error::AGAIN));
        let sent: Vec<u8> = (0..=255).chain(0..=255).collect();
        assert_eq!(simulator.write(ours, &sent), Ok(Simulator::STREAM_BYTES));
        assert_eq!((ready(ours), ready(theirs)), (Ready::empty(), BOTH));
        assert_eq!(simulator.write(ours, b"x"), Err(Error::AGAIN));
        assert_eq!(simulator.read(theirs, &mut bytes[..100]), Ok(100));
        assert_eq!(simulator.write(ours, &sent), Ok(100));
        assert_eq!(simulator.read(theirs, &mut bytes[100..]), Ok(200));
        assert_eq!(simulator.read(theirs, &mut [0; 99]), Ok(56));
        assert_eq!(bytes[..256], sent[..256]);
        assert_eq!(bytes[256..], sent[..44]);
        simulator.set_room(theirs, 3).unwrap();
        assert_eq!(simulator.write(ours, b"hello"), Ok(3));
        assert_eq!(simulator.set_room(theirs, 0), Err(Error::INVALID));
        assert_eq!(simulator.set_room(theirs, Simulator::STREAM_BYTES + 1), Err(Error::INVALID));

        simulator.shutdown(ours).unwrap();
        assert_eq!(ready(theirs), ENDED | WRITABLE);
        assert_eq!(simulator.write(ours, b"x"), Err(Error::BROKEN_PIPE));
        assert_eq!(simulator.read(theirs, &mut bytes), Ok(3), "what was written before arrives");
        assert_eq!(simulator.read(theirs, &mut bytes), Ok(0));
        assert_eq!(simulator.write(theirs, b"back"), Ok(4));
        assert_eq!(simulator.read(ours, &mut bytes), Ok(4));
        simulator.close(theirs).unwrap();
        assert_eq!(ready(ours), ENDED | WRITABLE | Ready::HANGUP);
        assert_eq!(simulator.read(ours, &mut bytes), Ok(0));
        assert_eq!(simulator.shutdown(ours), Err(Error::NOT_CONNECTED));
        simulator.close(ours).unwrap();
        assert_eq!(simulator.open_fds(), Ok(0));
    });
}

#[test]
fn a_connection_that_breaks_off_is_told_once_at_each_end() {
    simulate(1, |event_loop, simulator, app| {
        let [ours, theirs] = simulator.pair().unwrap();
        simulator.write(ours, b"lost").unwrap();
        simulator.reset_at(ours, at(5)).unwrap();
        event_loop.add_io(ours, READABLE, on_event, 0).unwrap();
        event_loop.turn(app, Duration::FOREVER).unwrap();
        assert_eq!(app.trace, ["5000000 0 Ready(READABLE | ERROR | HANGUP | PEER_CLOSED) 0"]);
        for fd in [ours, theirs] {
            assert_eq!(simulator.ready(fd), Ok(ENDED | WRITABLE | Ready::ERROR | Ready::HANGUP));
            assert_eq!(simulator.read(fd, &mut [0; 9]), Err(Error::CONNECTION_RESET));
            assert_eq!(simulator.read(fd, &mut [0; 9]), Ok(0));
            assert_eq!(simulator.write(fd, b"x"), Err(Error::BROKEN_PIPE));
        }
        // Closed with something unread: that is one too.
        let [ours, theirs] = simulator.pair().unwrap();
        simulator.write(ours, b"unread").unwrap();
        simulator.close(theirs).unwrap();
        assert_eq!(simulator.take_error(ours), Ok(Some(Error::CONNECTION_RESET)));
        assert_eq!(simulator.take_error(ours), Ok(None));
    });
}

#[test]
fn connections_wait_to_be_accepted() {
    simulate(1, |event_loop, simulator, _| {
        let listener = simulator.socket().unwrap();
        simulator.listen(listener, 2).unwrap();
        assert_eq!(simulator.accept(listener), Err(Error::AGAIN));
        let clients = [(); 3].map(|()| simulator.socket().unwrap());
        for client in clients {
            assert_eq!(simulator.connect(client, listener), Err(Error::IN_PROGRESS));
            assert_eq!(simulator.connect(client, listener), Err(Error::INVALID));
            assert_eq!(simulator.ready(client), Ok(Ready::empty()));
        }
        assert_eq!(wait(event_loop, Duration::from_millis(1)), MS);
        let errors = clients.map(|client| simulator.take_error(client).unwrap());
        assert_eq!(errors.iter().flatten().collect::<Vec<_>>(), [&Error::CONNECTION_REFUSED], "there was room for two");
        assert_eq!(simulator.ready(listener), Ok(READABLE));

        // Without a descriptor for it, a connection stays where it is.
        let mut fillers = Vec::new();
        while let Ok(fd) = simulator.duplicate(listener) {
            fillers.push(fd);
        }
        assert_eq!(simulator.accept(listener), Err(Error::PROCESS_FILES));
        for fd in fillers {
            simulator.close(fd).unwrap();
        }
        let mut connected: Vec<i32> = clients.into_iter().filter(|fd| simulator.ready(*fd) == Ok(WRITABLE)).collect();
        assert_eq!(connected.len(), 2);
        let first = simulator.accept(listener).unwrap();
        simulator.write(first, b"x").unwrap();
        connected.retain(|fd| !simulator.ready(*fd).unwrap().contains(READABLE));
        assert_eq!(connected.len(), 1);
        simulator.close(listener).unwrap();
        assert_eq!(simulator.take_error(connected[0]), Ok(Some(Error::CONNECTION_RESET)), "nobody will accept it");
        let late = simulator.socket().unwrap();
        assert_eq!(simulator.accept(late), Err(Error::INVALID));
        assert_eq!(simulator.connect(late, late), Err(Error::IN_PROGRESS));
        assert_eq!(wait(event_loop, Duration::from_millis(1)), MS);
        assert_eq!(simulator.take_error(late), Ok(Some(Error::CONNECTION_REFUSED)));
    });
}

#[test]
fn reads_and_writes_are_partial() {
    simulate(1, |_, simulator, _| {
        let [ours, theirs] = simulator.pair().unwrap();
        simulator.set_quirk(Quirk::Partial, ALWAYS, Duration::ZERO).unwrap();
        let mut counts = Vec::new();
        for _ in 0..50 {
            let written = simulator.write(ours, &[7; 10]).unwrap();
            assert!((1..10).contains(&written));
            let mut left = written;
            while left > 0 {
                let read = simulator.read(theirs, &mut [0; 64]).unwrap();
                assert!((1..left.max(2)).contains(&read), "{read} of {left}");
                left -= read;
            }
            counts.push(written);
        }
        assert!((1..10).all(|count| counts.contains(&count)), "{counts:?}");
    });
}

#[test]
fn readiness_that_is_not_there() {
    simulate(1, |event_loop, simulator, app| {
        let [ours, _theirs] = simulator.pair().unwrap();
        event_loop.add_io(ours, READABLE, on_event, 0).unwrap();
        simulator.set_quirk(Quirk::Spurious, ALWAYS, Duration::ZERO).unwrap();
        assert_eq!(event_loop.turn(app, Duration::FOREVER), Ok(1));
        assert_eq!(app.trace, ["0 0 Ready(READABLE) 0"]);
        assert_eq!(simulator.read(ours, &mut [0; 9]), Err(Error::AGAIN));
    });
}

#[test]
fn readiness_that_is_told_again() {
    simulate(1, |event_loop, simulator, app| {
        let fd = simulator.scripted().unwrap();
        event_loop.add_io(fd, READABLE, on_event, 0).unwrap();
        simulator.set_quirk(Quirk::Repeated, ALWAYS, Duration::ZERO).unwrap();
        simulator.set_ready(fd, READABLE).unwrap();
        assert_eq!(event_loop.turn(app, Duration::ZERO), Ok(1));
        simulator.set_ready(fd, Ready::empty()).unwrap();
        simulator.set_quirk(Quirk::Repeated, 0, Duration::ZERO).unwrap();
        assert_eq!(event_loop.turn(app, Duration::ZERO), Ok(1));
        assert_eq!(event_loop.turn(app, Duration::ZERO), Ok(0));
    });
}

#[test]
fn readiness_that_is_told_late() {
    let mut lates = Vec::new();
    for seed in 0..20 {
        simulate(seed, |event_loop, simulator, app| {
            let fd = simulator.scripted().unwrap();
            event_loop.add_io(fd, READABLE, on_event, 0).unwrap();
            simulator.set_quirk(Quirk::Delayed, ALWAYS, Duration::from_millis(3)).unwrap();
            simulator.ready_at(fd, at(5), READABLE).unwrap();
            assert_eq!(event_loop.turn(app, Duration::FOREVER), Ok(1));
            lates.push(simulator.now().since(at(5)).as_nanos());
        });
    }
    assert!(lates.iter().all(|late| (1..=3 * MS).contains(late)), "{lates:?}");
    lates.sort_unstable();
    lates.dedup();
    assert!(lates.len() > 10);
}

#[test]
fn a_wait_that_sleeps_too_long() {
    simulate(1, |event_loop, simulator, app| {
        event_loop.add_timer(Duration::from_millis(1), Duration::from_millis(1), on_event, 0).unwrap();
        let mut periods = 0;
        for most in [1, MS, 10 * MS, 3_600_000 * MS, 1 << 60] {
            simulator.set_quirk(Quirk::Oversleep, ALWAYS, Duration::from_nanos(most)).unwrap();
            assert_eq!(event_loop.turn(app, Duration::FOREVER), Ok(1));
            let value: u64 = app.trace.pop().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
            periods += value;
            let now = simulator.now().since(at(0)).as_nanos();
            assert_eq!(periods, now / MS, "no period is lost, none comes early");
        }
    });
}

#[test]
fn a_wait_that_is_interrupted_goes_on_or_tells_it() {
    for error in [Error::INTERRUPTED, Error::AGAIN, Error::BUSY] {
        simulate(1, |event_loop, simulator, _| {
            simulator.set_fault(Call::Wait, error, 900_000).unwrap();
            assert_eq!(wait(event_loop, Duration::from_millis(5)), 5 * MS, "{error:?}");
            assert!(simulator.failed(Call::Wait).unwrap() > 0);
        });
    }
    let config = Config { return_interrupted: true, ..Config::default() };
    simulate_with(1, &config, |event_loop, simulator, _| {
        simulator.fail_nth(Call::Wait, Error::INTERRUPTED, 1).unwrap();
        assert_eq!(event_loop.poll(Duration::from_millis(5)), Err(Error::INTERRUPTED));
        assert!(simulator.now() > at(0) && simulator.now() < at(5));
        assert_eq!(event_loop.poll(Duration::from_millis(5)), Ok(0));
    });
}

#[test]
fn a_stale_report_reaches_nobody_new() {
    simulate(1, |event_loop, simulator, app| {
        let [ours, theirs] = simulator.pair().unwrap();
        let source = event_loop.add_io(ours, READABLE, on_event, 1).unwrap();
        event_loop.poll(Duration::ZERO).unwrap(); // it is watched from here
        let elsewhere = simulator.duplicate(ours).unwrap();
        simulator.close(ours).unwrap();
        let reused = simulator.scripted().unwrap();
        assert_eq!(reused, ours, "the lowest number is taken again");
        assert_eq!(event_loop.prepare(Duration::from_millis(9)), Ok(0));
        event_loop.remove(source).unwrap();
        event_loop.add_io(reused, READABLE, on_event, 2).unwrap();
        simulator.write(theirs, b"x").unwrap();
        event_loop.wait().unwrap();
        assert_eq!(event_loop.collect(), Ok(0), "it concerns nobody");
        assert_eq!(wait(event_loop, Duration::from_millis(9)), 9 * MS, "and does not come again");
        simulator.close(elsewhere).unwrap();
        assert_eq!(app.trace, [""; 0]);
    });
    // The old source may still hear of it.
    simulate(1, |event_loop, simulator, _| {
        let [ours, theirs] = simulator.pair().unwrap();
        event_loop.add_io(ours, READABLE, on_event, 1).unwrap();
        let _elsewhere = simulator.duplicate(ours).unwrap();
        assert_eq!(event_loop.prepare(Duration::from_millis(9)), Ok(0));
        simulator.close(ours).unwrap();
        simulator.write(theirs, b"x").unwrap();
        event_loop.wait().unwrap();
        event_loop.collect().unwrap();
        let event = event_loop.next(Kinds::all()).unwrap().expect("closed before its removal");
        assert_eq!((event.token, event.ready), (1, READABLE));
    });
}

#[test]
fn time_at_its_end() {
    simulate(1, |event_loop, simulator, app| {
        let end = u64::MAX - 1;
        simulator.jump_to(Instant::from_nanos(end - 10)).unwrap();
        assert_eq!(simulator.jump_to(at(0)), Err(Error::INVALID), "back");
        assert_eq!(simulator.jump_to(Instant::NEVER), Err(Error::INVALID));
        event_loop.poll(Duration::ZERO).unwrap();
        event_loop.add_timer(Duration::from_nanos(3), Duration::ZERO, on_event, 0).unwrap();
        let periodic = event_loop.add_timer(Duration::from_nanos(4), Duration::from_nanos(4), on_event, 1).unwrap();
        event_loop.add_timer(Duration::from_secs(1 << 33), Duration::from_nanos(u64::MAX - 1), on_event, 2).unwrap();
        let fd = simulator.scripted().unwrap();
        let source = event_loop.add_io(fd, READABLE, on_event, 3).unwrap();
        event_loop.set_idle_timeout(source, Duration::from_secs(1)).unwrap();
        for _ in 0..20 {
            event_loop.turn(app, Duration::from_secs(1)).unwrap();
        }
        let told =
            |token: u32| app.trace.iter().filter(|line| line.split(' ').nth(1) == Some(&token.to_string())).count();
        assert_eq!(simulator.now().as_nanos(), end);
        assert_eq!([0, 1, 2, 3].map(told), [1, 3, 1, 1], "{:?}", app.trace);
        assert_eq!(event_loop.timer_deadline(periodic), Ok(Instant::NEVER));
    });
}

#[test]
fn what_is_closed_takes_its_future_along() {
    simulate(1, |event_loop, simulator, app| {
        let fd = simulator.scripted().unwrap();
        simulator.ready_at(fd, at(5), READABLE).unwrap();
        simulator.close(fd).unwrap();
        assert_eq!(simulator.scripted(), Ok(fd));
        event_loop.add_io(fd, READABLE, on_event, 0).unwrap();
        assert_eq!(event_loop.turn(app, Duration::FOREVER), Err(Error::DEADLOCK));
        for _ in 0..64 {
            simulator.ready_at(fd, at(50), READABLE).unwrap();
        }
        assert_eq!(simulator.ready_at(fd, at(50), READABLE), Err(Error::TABLE_FULL));
        assert_eq!(simulator.random(Duration::from_millis(1)), Err(Error::TABLE_FULL));
        simulator.ready_at(fd, Instant::NEVER, READABLE).unwrap();
    });
}

#[test]
fn files_are_read_and_written_in_place() {
    simulate(1, |_, simulator, _| {
        let file = simulator.open(300).unwrap();
        let mut bytes = [0; 258];
        assert_eq!(simulator.read(file, &mut bytes), Ok(258));
        assert_eq!(bytes[255..], [255, 0, 1]);
        assert_eq!(simulator.read(file, &mut bytes), Ok(42));
        assert_eq!(simulator.read(file, &mut bytes), Ok(0));
        assert_eq!(simulator.write(file, b"more"), Ok(4));
        let null = simulator.open_null().unwrap();
        assert_eq!((simulator.read(null, &mut bytes), simulator.write(null, b"x")), (Ok(0), Ok(1)));
    });
}

/// A program: one end of each connection echoes, the other sends and compares, and everything goes wrong that can.
mod echo {
    use super::*;

    pub const TOTAL: usize = 2_000;
    const CLIENTS: usize = 3;

    #[derive(Default)]
    pub struct Echo {
        pub trace: Vec<String>,
        buffers: Vec<(i32, Vec<u8>)>,
        clients: Vec<Client>,
        pub completed: usize,
        pub broken: usize,
    }

    struct Client {
        fd: i32,
        sent: usize,
        received: usize,
    }

    fn byte(at: usize) -> u8 {
        (at * 31 / 7) as u8
    }

    /// What a call has moved; `None`: try again, now or later; an error ends the connection.
    fn moved(result: Result<usize, Error>) -> Result<Option<usize>, Error> {
        match result {
            Ok(count) => Ok(Some(count)),
            Err(Error::INTERRUPTED | Error::AGAIN | Error::NO_MEMORY | Error::TABLE_FULL | Error::BAD_FD) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn drop_source(event_loop: &Loop<Echo>, event: &Event) {
        event_loop.remove(event.source).unwrap();
        let _ = event_loop.simulator().unwrap().close(event.fd);
    }

    fn on_listener(app: &mut Echo, event_loop: &Loop<Echo>, event: Event) {
        let simulator = event_loop.simulator().unwrap();
        if let Ok(fd) = simulator.accept(event.fd) {
            match event_loop.add_io(fd, READABLE, on_server, 0) {
                Ok(_) => app.buffers.push((fd, Vec::new())),
                Err(_) => drop(simulator.close(fd)),
            }
        }
    }

    fn serve(simulator: Simulator, event: &Event, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let mut bytes = [0; 100];
        if event.ready.contains(READABLE)
            && let Some(count) = moved(simulator.read(event.fd, &mut bytes))?
        {
            if count == 0 {
                return Err(Error::NOT_CONNECTED);
            }
            buffer.extend_from_slice(&bytes[..count]);
        }
        if !buffer.is_empty()
            && let Some(count) = moved(simulator.write(event.fd, buffer))?
        {
            buffer.drain(..count);
        }
        Ok(())
    }

    fn on_server(app: &mut Echo, event_loop: &Loop<Echo>, event: Event) {
        app.trace.push(format!("{} server {} {:?}", event_loop.now().unwrap().as_nanos(), event.fd, event.ready));
        let place = app.buffers.iter().position(|(fd, _)| *fd == event.fd).unwrap();
        let buffer = &mut app.buffers[place].1;
        if serve(event_loop.simulator().unwrap(), &event, buffer).is_ok() {
            let interest = if buffer.is_empty() { READABLE } else { WRITABLE };
            event_loop.modify_io(event.source, interest).unwrap();
        } else {
            app.buffers.swap_remove(place);
            drop_source(event_loop, &event);
        }
    }

    fn talk(simulator: Simulator, client: &mut Client) -> Result<(), Error> {
        let mut bytes = [0; 64];
        if let Some(count) = moved(simulator.read(client.fd, &mut bytes))? {
            if count == 0 {
                return Err(Error::NOT_CONNECTED);
            }
            for received in &bytes[..count] {
                assert_eq!(*received, byte(client.received), "byte {}", client.received);
                client.received += 1;
            }
        }
        let sending: Vec<u8> = (client.sent..TOTAL.min(client.sent + 64)).map(byte).collect();
        if let Some(count) = moved(simulator.write(client.fd, &sending))? {
            client.sent += count;
        }
        Ok(())
    }

    fn on_client(app: &mut Echo, event_loop: &Loop<Echo>, event: Event) {
        app.trace.push(format!("{} client {} {:?}", event_loop.now().unwrap().as_nanos(), event.fd, event.ready));
        let client = app.clients.iter_mut().find(|client| client.fd == event.fd).unwrap();
        let talked = talk(event_loop.simulator().unwrap(), client);
        let completed = client.received == TOTAL;
        if talked.is_ok() && !completed {
            event_loop.modify_io(event.source, if client.sent < TOTAL { BOTH } else { READABLE }).unwrap();
            return;
        }
        app.completed += usize::from(completed);
        app.broken += usize::from(!completed);
        drop_source(event_loop, &event);
        if app.completed + app.broken == CLIENTS {
            event_loop.stop().unwrap();
        }
    }

    pub fn run(seed: u64, per_million: u32) -> Echo {
        let mut memory = SimulatorMemory::<16, 64>::new();
        let simulator = Simulator::new(&mut memory, seed);
        let mut storage = Storage::<16, 0>::new();
        let event_loop = Loop::simulated(&mut storage, simulator, &Config::default()).unwrap();
        let mut app = Echo::default();
        let listener = simulator.socket().unwrap();
        simulator.listen(listener, 8).unwrap();
        event_loop.add_io(listener, READABLE, on_listener, 0).unwrap();
        for _ in 0..CLIENTS {
            let fd = simulator.socket().unwrap();
            assert_eq!(simulator.connect(fd, listener), Err(Error::IN_PROGRESS));
            app.clients.push(Client { fd, sent: 0, received: 0 });
            event_loop.add_io(fd, BOTH, on_client, 0).unwrap();
        }
        simulator.set_all_faults(per_million, Duration::from_millis(1)).unwrap();
        simulator.set_fault(Call::Wait, Error::NO_MEMORY, 0).unwrap(); // that ends a run
        event_loop.run(&mut app).unwrap_or_else(|error| panic!("seed {seed}: {error:?}\n{}", app.trace.join("\n")));
        // The servers notice that the other end is gone.
        simulator.set_all_faults(0, Duration::ZERO).unwrap();
        while event_loop.turn(&mut app, Duration::from_secs(1)).unwrap() > 0 {}
        assert_eq!(simulator.open_fds(), Ok(1), "seed {seed}: only the listener is left open");
        app
    }
}

#[test]
fn a_program_is_put_through_everything() {
    let calm = echo::run(0, 0);
    assert_eq!((calm.completed, calm.broken), (3, 0));
    let (mut completed, mut broken) = (0, 0);
    for seed in 0..200 {
        let run = echo::run(seed, [0, 100, 1_000, 10_000, 60_000][seed as usize % 5]);
        (completed, broken) = (completed + run.completed, broken + run.broken);
    }
    assert!(completed > 100 && broken > 100, "{completed} {broken}");
}

#[test]
fn under_faults_too_a_run_is_a_function_of_its_seed() {
    let first = echo::run(7, 10_000).trace;
    assert_eq!(first, echo::run(7, 10_000).trace);
    assert_ne!(first, echo::run(8, 10_000).trace);
}

/// Any calls in any order: no panic, and every place comes back.
#[test]
fn any_calls_in_any_order() {
    for seed in 0..100 {
        simulate(seed, |event_loop, simulator, app| any_calls(seed, event_loop, simulator, app));
    }
}

fn any_calls(seed: u64, event_loop: &Loop<App>, simulator: Simulator, app: &mut App) {
    let below = |bound| simulator.below(bound).unwrap();
    let mut sources = Vec::new();
    simulator.set_all_faults([0, 1_000, 20_000, 142_857][seed as usize % 4], Duration::from_millis(5)).unwrap();
    for _ in 0..2_000 {
        let fd = 0x4000_0000 + below(17) as i32;
        let other = 0x4000_0000 + below(17) as i32;
        let ready = Ready::from_bits_truncate(below(64) as u16);
        let soon = Instant::from_nanos(simulator.now().as_nanos() + below(10 * MS));
        let mut bytes = [0; 300];
        let length = below(300) as usize;
        match below(26) {
            0 => drop(simulator.scripted()),
            1 => drop(simulator.random(Duration::from_nanos(1 + below(MS)))),
            2 => drop(simulator.open(below(1_000))),
            3 => drop(simulator.open_null()),
            4 => drop(simulator.pair()),
            5 | 6 => drop(simulator.socket()),
            7 => drop(simulator.listen(fd, below(4) as u32)),
            8 | 9 => assert!(simulator.connect(fd, other).is_err()),
            10 => drop(simulator.accept(fd)),
            11 | 12 => drop(simulator.read(fd, &mut bytes[..length]).map(|count| assert!(count <= length))),
            13 | 14 => drop(simulator.write(fd, &bytes[..length]).map(|count| assert!(count <= length))),
            15 => drop(simulator.shutdown(fd)),
            16 => drop(simulator.reset(fd)),
            17 => drop(simulator.reset_at(fd, soon)),
            18 => drop(simulator.set_room(fd, length)),
            19 => drop(simulator.duplicate(fd)),
            20 => drop(simulator.close(fd)),
            21 => drop(simulator.set_ready(fd, ready)),
            22 => drop(simulator.ready_at(fd, soon, ready)),
            23 => {
                let options = IoOptions { edge: below(2) == 0, oneshot: below(4) == 0, ..IoOptions::default() };
                let added = event_loop.add_io_with(fd, ready & BOTH, options, Some(on_event), 0);
                sources.extend(added);
            }
            24 if !sources.is_empty() => {
                let source = sources.swap_remove(below(sources.len() as u64) as usize);
                event_loop.remove(source).unwrap();
            }
            _ => match event_loop.turn(app, Duration::from_nanos(below(2 * MS))) {
                Ok(_) | Err(Error::NO_MEMORY) => {}
                Err(error) => panic!("seed {seed}: {error:?}"),
            },
        }
    }
    for fd in 0..17 {
        let _ = simulator.close(0x4000_0000 + fd);
    }
    assert_eq!(simulator.open_fds(), Ok(0));
    for source in sources {
        event_loop.remove(source).unwrap();
    }
    simulator.set_all_faults(0, Duration::ZERO).unwrap();
    event_loop.poll(Duration::from_secs(1)).unwrap();
    // No file is left behind: there is room for all again.
    for _ in 0..16 {
        simulator.scripted().unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    }
}

#[test]
fn changes_that_concern_nobody_have_no_end() {
    simulate(1, |event_loop, simulator, _| {
        simulator.random(Duration::from_nanos(1)).unwrap();
        assert_eq!(event_loop.poll(Duration::FOREVER), Err(Error::DEADLOCK));
        let before = simulator.now();
        assert_eq!(event_loop.poll(Duration::from_secs(1)), Ok(0), "but a wait that has one comes to it");
        assert_eq!(simulator.now().since(before), Duration::from_secs(1));
    });
}

#[test]
fn an_interest_that_is_not_taken_over_is_tried_again() {
    simulate(1, |event_loop, simulator, app| {
        let [ours, theirs] = simulator.pair().unwrap();
        let source = event_loop.add_io(ours, READABLE, on_event, 0).unwrap();
        assert_eq!(event_loop.turn(app, Duration::ZERO), Ok(0));
        event_loop.modify_io(source, WRITABLE).unwrap();
        simulator.write(theirs, b"x").unwrap();
        simulator.fail_nth(Call::Change, Error::NO_MEMORY, 1).unwrap();
        assert_eq!(event_loop.turn(app, Duration::FOREVER), Ok(0), "readable is not asked for any more");
        assert!(simulator.now() <= at(10));
        assert_eq!(event_loop.turn(app, Duration::FOREVER), Ok(1));
        assert!(app.trace[0].contains("Ready(WRITABLE)"), "{:?}", app.trace);
        // A pause is taken over in any case: it is the loop that keeps silent.
        event_loop.modify_io(source, Ready::empty()).unwrap();
        simulator.set_fault(Call::Change, Error::NO_MEMORY, ALWAYS).unwrap();
        assert_eq!(wait(event_loop, Duration::from_secs(1)), 1_000 * MS);
    });
}

/// Who is told of edges alone, and stops at a short count or at EAGAIN, hears of the rest.
#[test]
fn edges_come_again_where_a_handler_may_stop() {
    simulate(1, |event_loop, simulator, app| {
        let [ours, theirs] = simulator.pair().unwrap();
        let edge = IoOptions { edge: true, ..IoOptions::default() };
        event_loop.add_io_with(ours, BOTH, edge, Some(on_event), 0).unwrap();
        let told = |app: &mut App| event_loop.turn(app, Duration::ZERO).unwrap();
        assert_eq!((told(app), told(app)), (1, 0));
        simulator.write(theirs, b"hello").unwrap();
        assert_eq!((told(app), told(app)), (1, 0));
        simulator.set_quirk(Quirk::Partial, ALWAYS, Duration::ZERO).unwrap();
        assert!(simulator.read(ours, &mut [0; 9]).unwrap() < 5);
        assert_eq!((told(app), told(app)), (1, 0), "a short count that did not empty it");
        simulator.set_quirk(Quirk::Partial, 0, Duration::ZERO).unwrap();
        simulator.fail_nth(Call::Read, Error::AGAIN, 1).unwrap();
        assert_eq!(simulator.read(ours, &mut [0; 9]), Err(Error::AGAIN));
        assert_eq!((told(app), told(app)), (1, 0), "EAGAIN though something is there");
        simulator.write(ours, &[0; 300]).unwrap();
        assert_eq!(told(app), 0);
        simulator.read(theirs, &mut [0; 9]).unwrap();
        assert_eq!((told(app), told(app)), (1, 0), "there is room again");
    });
}
