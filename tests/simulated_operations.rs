//! Operations in the simulator: what each one does there, each way in which it can end, and that a run is a function of its
//! seed.
#![cfg(all(feature = "simulator", feature = "operations"))]

use becket::{
    Address, Buffer, Call, Config, Duration, Error, Event, FileStatus, Handle, Kind, Kinds, Loop, Outcome, Part, Quirk,
    Ready, Simulator, SimulatorMemory, Storage, Vectors,
};
use std::net::SocketAddr;

const FOREVER: Duration = Duration::FOREVER;
const ALWAYS: u32 = 1_000_000;
const AT_FOLDER: i32 = -100;

/// What has completed: token and value.
#[derive(Default)]
struct App {
    done: Vec<(usize, i64)>,
}

type It = Loop<'static, App>;

fn on_done(app: &mut App, event_loop: &It, event: Event) {
    assert_eq!(event.kind, Kind::Operation);
    assert_eq!(event_loop.kind(event.source), Err(Error::STALE), "its handle is stale by now");
    app.done.push((event.token, event.value));
}

fn leak<T>(value: T) -> &'static mut T {
    Box::leak(Box::new(value))
}

fn buffer(bytes: [u8; 512]) -> &'static Buffer<[u8; 512]> {
    leak(Buffer::new(bytes))
}

/// Every third without a ring.
fn begin(seed: u64) -> (It, Simulator<'static>, App) {
    let simulator = Simulator::new(leak(SimulatorMemory::<12, 16>::new()), seed);
    simulator.set_ring(!seed.is_multiple_of(3)).unwrap();
    let event_loop = Loop::simulated(leak(Storage::<4, 2, 8>::new()), simulator, &Config::default()).unwrap();
    (event_loop, simulator, App::default())
}

/// Runs until nothing is in flight; what has completed, by token.
fn all(event_loop: &It, app: &mut App) -> Vec<(usize, i64)> {
    assert_eq!(event_loop.run(app), Ok(Outcome::NothingLeft));
    assert_eq!(event_loop.statistics().operations_now, 0);
    let mut done = std::mem::take(&mut app.done);
    done.sort_unstable();
    done
}

fn errno(error: Error) -> i64 {
    -i64::from(error.errno())
}

#[test]
fn a_connection_carries_what_is_sent() {
    for seed in 0..50 {
        let (event_loop, simulator, mut app) = begin(seed);
        let (client, listener) = (simulator.socket().unwrap(), simulator.socket().unwrap());
        simulator.listen(listener, 2).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener as u16));
        let address: &'static Buffer<Address> = leak(Buffer::new(address.into()));
        event_loop.accept(listener, on_done, 1).unwrap();
        event_loop.connect(client, address, on_done, 2).unwrap();
        let done = all(&event_loop, &mut app);
        let (1, server) = done[0] else { panic!("{done:?}") };
        assert_eq!((done[1], done.len()), ((2, 0), 2));
        let server = server as i32;

        let (out, back) = (buffer([7; 512]), buffer([0; 512]));
        out.with(|bytes| bytes[..6].copy_from_slice(b"hello!")).unwrap();
        event_loop.recv(server, back, 0..100, 0, on_done, 3).unwrap();
        assert_eq!(back.with(|_| ()), Err(Error::BUSY));
        assert_eq!(event_loop.turn(&mut app, Duration::from_millis(1)), Ok(0));
        event_loop.send(client, out, 0..6, 0, on_done, 4).unwrap();
        assert_eq!(all(&event_loop, &mut app), [(3, 6), (4, 6)]);
        assert!(back.with(|bytes| bytes.starts_with(b"hello!")).unwrap());

        // In parts, and no more than there is room for.
        let parts: &'static Buffer<Vectors<3>> = leak(Buffer::new(Vectors::new()));
        let (one, two) = (buffer([1; 512]), buffer([2; 512]));
        let pieces = [(one, 0..100), (buffer([3; 512]), 5..5), (two, 0..400)];
        let pieces = pieces.map(|(buffer, range)| Part { buffer, range });
        event_loop.write_parts(client, parts, &pieces, None, on_done, 5).unwrap();
        assert_eq!(all(&event_loop, &mut app), [(5, 256)]);
        event_loop.read(server, back, 0..512, None, on_done, 6).unwrap();
        assert_eq!(all(&event_loop, &mut app), [(6, 256)]);
        assert!(back.with(|bytes| bytes[..100] == [1; 100] && bytes[100..256] == [2; 156]).unwrap());

        event_loop.read(server, back, 0..512, None, on_done, 7).unwrap();
        event_loop.close(client, on_done, 8).unwrap();
        assert_eq!(all(&event_loop, &mut app), [(7, 0), (8, 0)]);
        event_loop.write(server, out, 0..6, None, on_done, 9).unwrap();
        event_loop.read(client, out, 0..6, None, on_done, 10).unwrap_err();
        assert_eq!(all(&event_loop, &mut app), [(9, errno(Error::BROKEN_PIPE))]);
        event_loop.connect(server, address, on_done, 11).unwrap();
        event_loop.close(listener, on_done, 12).unwrap();
        let done = all(&event_loop, &mut app);
        assert!(done[0].1 == errno(Error::INVALID) || done[0].1 == errno(Error::CONNECTION_REFUSED), "{done:?}");
        assert_eq!(simulator.open_fds(), Ok(1));
    }
}

#[test]
fn files_have_what_their_offsets_say() {
    for seed in 0..50 {
        let (event_loop, simulator, mut app) = begin(seed);
        simulator.set_file_size(1_000).unwrap();
        event_loop.open(AT_FOLDER, c"any", 0, 0, on_done, 1).unwrap();
        let status: &'static Buffer<FileStatus> = leak(Buffer::new(FileStatus::new()));
        event_loop.statx(AT_FOLDER, c"any", 0, 0x7ff, status, on_done, 2).unwrap();
        let done = all(&event_loop, &mut app);
        let fd = done[0].1 as i32;
        assert_eq!((done[1], status.with(|it| it.size())), ((2, 0), Ok(1_000)));

        let (one, two) = (buffer([0; 512]), buffer([0; 512]));
        event_loop.read(fd, one, 0..512, Some(0), on_done, 3).unwrap();
        event_loop.read(fd, two, 12..512, Some(600), on_done, 4).unwrap();
        event_loop.fsync(fd, seed % 2 == 0, on_done, 5).unwrap();
        assert_eq!(all(&event_loop, &mut app), [(3, 512), (4, 400), (5, 0)]);
        let is_there = |bytes: &mut [u8; 512]| bytes.iter().enumerate().all(|(at, byte)| *byte == at as u8);
        assert!(one.with(is_there).unwrap());
        assert!(two.with(|bytes| (0..400).all(|at| bytes[12 + at] == (600 + at) as u8)).unwrap());

        event_loop.write(fd, one, 0..100, Some(2_000), on_done, 6).unwrap();
        assert_eq!(all(&event_loop, &mut app), [(6, 100)]);
        event_loop.statx(fd, c"", 0x1000, 0x7ff, status, on_done, 7).unwrap();
        event_loop.read(fd, one, 0..1, Some(5_000), on_done, 8).unwrap();
        event_loop.send(fd, two, 0..1, 0, on_done, 9).unwrap();
        let expected = [(7, 0), (8, 0), (9, errno(Error::NOT_SOCKET))];
        assert_eq!((all(&event_loop, &mut app).as_slice(), status.with(|it| it.size())), (&expected[..], Ok(2_100)));
    }
}

/// Every way in which an operation can end that is cancelled, or has a deadline: all of them come.
#[test]
fn a_cancel_is_in_time_or_too_late() {
    let (mut in_time, mut too_late, mut orders) = ([0; 2], [0; 2], [0; 2]);
    for seed in 0..400 {
        let (event_loop, simulator, mut app) = begin(seed);
        let [ours, theirs] = simulator.pair().unwrap();
        let out = buffer([1; 512]);
        let deadline = seed % 2 == 1;
        let write = event_loop.write(ours, out, 0..10, None, on_done, 1).unwrap();
        if deadline {
            event_loop.set_operation_deadline(write, Duration::from_micros(60)).unwrap();
        } else {
            event_loop.turn(&mut app, Duration::from_micros(seed / 4)).unwrap();
            let answer = event_loop.cancel(write);
            assert_eq!(answer.is_ok(), app.done.is_empty());
        }
        let [(1, value)] = *all(&event_loop, &mut app) else { panic!("one completion") };
        let kind = usize::from(deadline);
        let ended = errno([Error::CANCELED, Error::TIMED_OUT][kind]);
        // No byte is lost.
        let mut bytes = [0; 16];
        match simulator.read(theirs, &mut bytes) {
            Ok(count) => {
                assert_eq!((count, value), (10, 10));
                too_late[kind] += 1;
            }
            Err(error) => {
                assert_eq!((error, value), (Error::AGAIN, ended));
                in_time[kind] += 1;
            }
        }

        // What waits for something that does not come ends when it is cancelled.
        let back = buffer([0; 512]);
        let read = event_loop.read(theirs, back, 0..10, None, on_done, 2).unwrap();
        event_loop.turn(&mut app, Duration::from_millis(1)).unwrap();
        if deadline {
            event_loop.set_operation_deadline(read, Duration::from_micros(60)).unwrap();
        } else {
            event_loop.cancel(read).unwrap();
        }
        assert_eq!(all(&event_loop, &mut app), [(2, ended)]);
        assert_eq!(event_loop.cancel(read), Err(Error::STALE));

        // In any order.
        for token in 0..2 {
            event_loop.write(ours, buffer([token; 512]), 0..1, None, on_done, token.into()).unwrap();
        }
        event_loop.run(&mut app).unwrap();
        orders[app.done[0].0] += 1;
    }
    assert!(
        [in_time, too_late, orders].iter().flatten().all(|count| *count > 10),
        "{in_time:?} {too_late:?} {orders:?}"
    );
}

#[test]
fn a_drain_ends_everything() {
    for seed in 0..100 {
        let (event_loop, simulator, mut app) = begin(seed);
        let [ours, theirs] = simulator.pair().unwrap();
        for token in 0..4 {
            event_loop.read([ours, theirs][token % 2], buffer([0; 512]), 0..9, None, on_done, token).unwrap();
        }
        for token in 4..8 {
            event_loop.write(ours, buffer([1; 512]), 0..100, None, on_done, token).unwrap();
        }
        let full = event_loop.write(ours, buffer([1; 512]), 0..100, None, on_done, 9);
        assert_eq!(full, Err(Error::AGAIN));
        if seed % 2 == 0 {
            event_loop.turn(&mut app, Duration::from_micros(seed)).unwrap();
        }
        if seed % 4 == 0 {
            let idle = event_loop.add_idle(|_, _, _| panic!("a drain calls nothing else"), 0).unwrap();
            event_loop.set_keepalive(idle, false).unwrap();
        }
        simulator.set_fault(Call::Submit, Error::BUSY, if seed % 3 == 0 { 300_000 } else { 0 }).unwrap();
        let before = simulator.now();
        assert_eq!(event_loop.drain(&mut app, Duration::from_secs(60)), Ok(()));
        assert!(simulator.now().since(before) < Duration::from_secs(1));
        app.done.sort_unstable();
        assert!((0..8).eq(app.done.iter().map(|it| it.0)), "{:?}", app.done);
        let canceled = errno(Error::CANCELED);
        assert!(app.done.iter().all(|it| it.1 == canceled || it.1 > 0), "{:?}", app.done);
        assert_eq!(event_loop.drain(&mut app, Duration::ZERO), Ok(()));
        simulator.set_fault(Call::Submit, Error::BUSY, 0).unwrap();
        event_loop.fsync(ours, false, on_done, 10).unwrap();
        assert_eq!(event_loop.drain(&mut app, FOREVER), Ok(()));
    }
}

/// Also where an idle source keeps the loop from sleeping: then the drain makes the time pass, in steps that grow.
#[test]
fn a_drain_outlasts_operations_of_years() {
    for seed in 0..40 {
        let (event_loop, simulator, mut app) = begin(seed);
        simulator.set_latency(Duration::from_secs(10_000_000_000)).unwrap();
        event_loop.add_idle(|_, _, _| panic!("a drain calls nothing else"), 0).unwrap();
        for token in 0..4 {
            event_loop.open(AT_FOLDER, c"any", 0, 0, on_done, token).unwrap();
        }
        event_loop.poll(Duration::ZERO).unwrap();
        assert_eq!(event_loop.drain(&mut app, FOREVER), Ok(()));
        app.done.sort_unstable();
        assert!((0..4).eq(app.done.iter().map(|it| it.0)), "{:?}", app.done);
    }
}

/// And where the system refuses to hear of a cancellation, so that no wait sleeps for long.
#[test]
fn a_drain_outlasts_years_beside_something_refused() {
    for seed in 0..40 {
        let (event_loop, simulator, mut app) = begin(seed);
        simulator.set_latency(Duration::from_secs(10_000_000_000)).unwrap();
        for token in 0..4 {
            event_loop.open(AT_FOLDER, c"any", 0, 0, on_done, token).unwrap();
        }
        event_loop.poll(Duration::ZERO).unwrap();
        simulator.set_fault(Call::Submit, Error::BUSY, ALWAYS).unwrap();
        let before = simulator.now();
        assert_eq!(event_loop.drain(&mut app, FOREVER), Ok(()));
        app.done.sort_unstable();
        assert!((0..4).eq(app.done.iter().map(|it| it.0)) && app.done.iter().all(|it| it.1 >= 0), "{:?}", app.done);
        assert!(simulator.now().since(before) > Duration::from_secs(1_000_000), "they took years");
    }
}

/// The time that a drain has is the system's, whether the loop can sleep or an idle source keeps it awake.
#[test]
fn a_drain_gives_up_when_its_time_is_over() {
    let mut given_up = [0; 2];
    for seed in 0..40 {
        let (event_loop, simulator, mut app) = begin(seed);
        simulator.set_latency(Duration::from_secs(10_000_000_000)).unwrap();
        let awake = seed % 2 == 1;
        if awake {
            event_loop.add_idle(|_, _, _| panic!("a drain calls nothing else"), 0).unwrap();
        }
        for token in 0..4 {
            event_loop.open(AT_FOLDER, c"any", 0, 0, on_done, token).unwrap();
        }
        event_loop.poll(Duration::ZERO).unwrap();
        let before = simulator.now();
        let answer = event_loop.drain(&mut app, Duration::from_secs(60));
        let passed = simulator.now().since(before);
        if answer == Err(Error::TIMED_OUT) {
            given_up[usize::from(awake)] += 1;
            assert!(app.done.len() < 4);
            assert_eq!(passed, Duration::from_secs(60), "seed {seed}");
        } else {
            assert_eq!((answer, app.done.len()), (Ok(()), 4));
            assert!(passed <= Duration::from_secs(60));
        }
        assert_eq!(event_loop.drain(&mut app, FOREVER), Ok(()));
        assert_eq!(app.done.len(), 4);
    }
    assert!(given_up.iter().all(|count| *count > 5), "{given_up:?}");
}

/// A loop that is dropped leaves nothing behind.
#[test]
fn what_nobody_has_collected_is_closed() {
    for seed in 0..100 {
        let (event_loop, simulator, mut app) = begin(seed);
        let bytes = buffer([0; 512]);
        let [ours, _theirs] = simulator.pair().unwrap();
        for token in 0..3 {
            event_loop.open(AT_FOLDER, c"any", 0, 0, on_done, token).unwrap();
        }
        event_loop.read(ours, bytes, 0..1, None, on_done, 3).unwrap();
        if seed % 2 == 0 {
            event_loop.poll(Duration::from_micros(seed)).unwrap();
        }
        drop(event_loop);
        assert_eq!((simulator.open_fds(), bytes.is_lent()), (Ok(2), false), "seed {seed}");
        assert!(app.done.is_empty());

        // A later loop in the same simulator takes it over from one that is not dropped.
        let one = Loop::simulated(leak(Storage::<1, 0, 2>::new()), simulator, &Config::default()).unwrap();
        one.open(AT_FOLDER, c"any", 0, 0, on_done, 0).unwrap();
        one.open(AT_FOLDER, c"any", 0, 0, on_done, 2).unwrap();
        one.poll(Duration::ZERO).unwrap();
        let two: It = Loop::simulated(leak(Storage::<1, 0, 2>::new()), simulator, &Config::default()).unwrap();
        assert_eq!(one.drain(&mut app, FOREVER), Ok(()));
        app.done.sort_unstable();
        assert_eq!(app.done.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 2]);
        two.open(AT_FOLDER, c"any", 0, 0, on_done, 1).unwrap();
        drop(one);
        assert_eq!(two.run(&mut app), Ok(Outcome::NothingLeft));
        assert_eq!(app.done.last().map(|it| it.0), Some(1));
    }
}

/// Makes an operation that fails by such a call.
fn make(call: Call, event_loop: &It, simulator: Simulator) -> Handle {
    let file = simulator.open(100).unwrap();
    let status: &'static Buffer<FileStatus> = leak(Buffer::new(FileStatus::new()));
    match call {
        Call::WriteFile => event_loop.write(file, buffer([0; 512]), 0..9, None, on_done, 1),
        Call::Sync => event_loop.fsync(file, false, on_done, 1),
        Call::Status => event_loop.statx(AT_FOLDER, c"any", 0, 0, status, on_done, 1),
        _ => event_loop.read(file, buffer([0; 512]), 0..9, None, on_done, 1),
    }
    .unwrap()
}

#[test]
fn each_call_fails_by_each_of_its_errors() {
    for call in [Call::Submit, Call::ReadFile, Call::WriteFile, Call::Sync, Call::Status] {
        for error in call.errors() {
            let (event_loop, simulator, mut app) = begin(1);
            simulator.fail_nth(call, *error, 1).unwrap();
            let operation = make(call, &event_loop, simulator);
            // The loop, or the system, knows what to make of these.
            let tried_again = call == Call::Submit || *error == Error::INTERRUPTED;
            let count = if call == Call::Status || call == Call::Sync { 0 } else { 9 };
            let expected = if tried_again { count } else { errno(*error) };
            assert_eq!(all(&event_loop, &mut app), [(1, expected)], "{call:?} {error:?}");
            assert_eq!(simulator.failed(call), Ok(1));
            assert_eq!(event_loop.cancel(operation), Err(Error::STALE));

            // Where every one is refused nothing ends, but for its deadline.
            if call == Call::Submit {
                simulator.set_fault(call, *error, ALWAYS).unwrap();
                let operation = make(call, &event_loop, simulator);
                event_loop.turn(&mut app, Duration::from_millis(20)).unwrap();
                assert!(app.done.is_empty() && simulator.failed(call).unwrap() > 1);
                event_loop.cancel(operation).unwrap();
                assert_eq!(all(&event_loop, &mut app), [(1, errno(Error::CANCELED))]);
            }
        }
    }
}

/// An error of a close is told, but for an interruption: the descriptor is closed all the same.
#[test]
fn a_close_that_fails_has_closed() {
    for seed in 0..2 {
        for (error, expected) in [(Error::INTERRUPTED, 0), (Error::TABLE_FULL, errno(Error::TABLE_FULL))] {
            let (event_loop, simulator, mut app) = begin(seed);
            let fd = simulator.open(10).unwrap();
            simulator.fail_nth(Call::Close, error, 1).unwrap();
            event_loop.close(fd, on_done, 1).unwrap();
            assert_eq!(all(&event_loop, &mut app), [(1, expected)]);
            assert_eq!((simulator.failed(Call::Close), simulator.open_fds()), (Ok(1), Ok(0)));
        }
    }
}

#[test]
fn reads_and_writes_are_partial() {
    let (event_loop, simulator, mut app) = begin(1);
    simulator.set_quirk(Quirk::Partial, ALWAYS, Duration::ZERO).unwrap();
    let file = simulator.open(100).unwrap();
    event_loop.read(file, buffer([0; 512]), 0..100, Some(0), on_done, 1).unwrap();
    event_loop.write(file, buffer([0; 512]), 0..100, Some(0), on_done, 2).unwrap();
    let done = all(&event_loop, &mut app);
    assert!(done.iter().all(|it| (1..100).contains(&it.1)), "{done:?}");
}

/// An operation and a source of the same descriptor do not disturb each other.
#[test]
fn beside_a_source() {
    let (event_loop, simulator, mut app) = begin(1);
    let fd = simulator.scripted().unwrap();
    let source = event_loop.add_io(fd, Ready::WRITABLE, |app: &mut App, _, _| app.done.push((0, 0)), 0).unwrap();
    event_loop.read(fd, buffer([0; 512]), 0..5, None, on_done, 1).unwrap();
    assert_eq!(event_loop.turn(&mut app, Duration::from_millis(5)), Ok(0));
    simulator.set_ready(fd, Ready::READABLE).unwrap();
    event_loop.turn(&mut app, Duration::from_millis(5)).unwrap();
    assert_eq!(app.done, [(1, 5)]);
    simulator.set_ready(fd, Ready::WRITABLE).unwrap();
    event_loop.turn(&mut app, Duration::from_millis(5)).unwrap();
    assert_eq!(app.done, [(1, 5), (0, 0)]);
    assert_eq!(event_loop.close(fd, on_done, 2), Err(Error::BUSY));
    event_loop.remove(source).unwrap();
    // A wait that nothing can end is one, with an operation too.
    let read = event_loop.read(fd, buffer([0; 512]), 0..5, None, on_done, 3).unwrap();
    assert_eq!(event_loop.run(&mut app), Err(Error::DEADLOCK));
    event_loop.cancel(read).unwrap();
    assert_eq!(event_loop.turn(&mut app, FOREVER), Ok(1));
    assert_eq!(event_loop.next(Kinds::all()), Ok(None));
}

/// Nobody overtakes one who goes on waiting although the system has told that there is something.
#[test]
fn who_waits_first_is_served_first() {
    let (event_loop, simulator, mut app) = begin(0);
    let [ours, theirs] = simulator.pair().unwrap();
    for token in 0..3 {
        event_loop.read(ours, buffer([0; 512]), 0..1, None, on_done, token).unwrap();
    }
    assert_eq!(event_loop.turn(&mut app, Duration::from_millis(1)), Ok(0));
    simulator.fail_nth(Call::Read, Error::AGAIN, 1).unwrap();
    assert_eq!(simulator.write(theirs, b"abc"), Ok(3));
    assert_eq!(event_loop.run(&mut app), Ok(Outcome::NothingLeft));
    assert_eq!((simulator.failed(Call::Read), app.done.as_slice()), (Ok(1), [(0, 1), (1, 1), (2, 1)].as_slice()));
}

/// An operation that is told for nothing rests, longer each time, and then everybody is asked again.
#[test]
fn who_is_told_for_nothing_rests() {
    let (event_loop, simulator, mut app) = begin(0);
    let [ours, theirs] = simulator.pair().unwrap();
    let [others, _end] = simulator.pair().unwrap();
    event_loop.read(others, buffer([0; 512]), 0..1, None, on_done, 1).unwrap();
    event_loop.read(ours, buffer([0; 512]), 0..1, None, on_done, 2).unwrap();
    event_loop.read(ours, buffer([0; 512]), 0..1, None, on_done, 3).unwrap();
    assert_eq!(event_loop.turn(&mut app, Duration::ZERO), Ok(0));
    simulator.write(theirs, b"x").unwrap();
    simulator.set_fault(Call::Read, Error::AGAIN, ALWAYS).unwrap();
    // When it was asked, in milliseconds.
    let (start, mut asked) = (simulator.now(), Vec::new());
    while simulator.now().since(start) < Duration::from_millis(40) {
        assert_eq!(event_loop.turn(&mut app, FOREVER), Ok(0));
        let count = simulator.failed(Call::Read).unwrap() as usize;
        asked.resize(count, simulator.now().since(start).as_nanos() / 1_000_000);
    }
    assert_eq!(asked, [0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 7, 15, 23, 31, 39]);
    simulator.set_fault(Call::Read, Error::AGAIN, 0).unwrap();
    assert_eq!(event_loop.turn(&mut app, FOREVER), Ok(1));
    assert_eq!(app.done, [(2, 1)]);
}

/// Who cannot wait for want of a watch learns of it at once; and so do those whose watch goes with a source.
#[test]
fn a_watch_is_refused() {
    for error in [Error::NO_MEMORY, Error::TABLE_FULL] {
        let (event_loop, simulator, mut app) = begin(0);
        let [ours, theirs] = simulator.pair().unwrap();
        simulator.fail_nth(Call::Watch, error, 1).unwrap();
        event_loop.read(ours, buffer([0; 512]), 0..1, None, on_done, 1).unwrap();
        assert_eq!(all(&event_loop, &mut app), [(1, errno(error))]);

        let source = event_loop.add_io(ours, Ready::READABLE, |_, _, _| panic!("nothing comes"), 0).unwrap();
        event_loop.read(ours, buffer([0; 512]), 0..1, None, on_done, 2).unwrap();
        event_loop.read(ours, buffer([0; 512]), 0..1, None, on_done, 3).unwrap();
        assert_eq!(event_loop.turn(&mut app, Duration::from_millis(1)), Ok(0));
        simulator.fail_nth(Call::Watch, error, 1).unwrap();
        event_loop.remove(source).unwrap();
        assert_eq!(all(&event_loop, &mut app), [(2, errno(error)), (3, errno(error))]);

        // What is there is read all the same, if the first one to be asked can.
        let source = event_loop.add_io(ours, Ready::READABLE, |_, _, _| panic!("nothing comes"), 0).unwrap();
        event_loop.read(ours, buffer([0; 512]), 0..1, None, on_done, 4).unwrap();
        event_loop.read(ours, buffer([0; 512]), 0..1, None, on_done, 5).unwrap();
        assert_eq!(simulator.write(theirs, b"x"), Ok(1));
        simulator.fail_nth(Call::Watch, error, 1).unwrap();
        event_loop.remove(source).unwrap();
        assert_eq!(all(&event_loop, &mut app), [(4, 1), (5, errno(error))]);
    }
}

/// The fd was closed before its source was removed: operations that wait for it are not forgotten.
#[test]
fn who_waits_for_an_fd_that_was_closed_is_told() {
    let (event_loop, simulator, mut app) = begin(0);
    let [ours, _theirs] = simulator.pair().unwrap();
    let source = event_loop.add_io(ours, Ready::READABLE, |_, _, _| panic!("nothing comes"), 0).unwrap();
    event_loop.read(ours, buffer([0; 512]), 0..1, None, on_done, 1).unwrap();
    event_loop.read(ours, buffer([0; 512]), 0..1, None, on_done, 2).unwrap();
    assert_eq!(event_loop.turn(&mut app, Duration::from_millis(1)), Ok(0));
    simulator.close(ours).unwrap();
    event_loop.remove(source).unwrap();
    assert_eq!(all(&event_loop, &mut app), [(1, errno(Error::BAD_FD)), (2, errno(Error::BAD_FD))]);
}
