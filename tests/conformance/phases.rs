//! Running: turns, the pull form and its phases, nesting, stopping, what keeps a loop alive, threads.

use crate::harness::*;
use becket::{BackendChoice, Config, Duration, Error, Kind, Kinds, Outcome};

each_backend! {
    a_mask_selects_kinds_and_leaves_the_rest
    a_nested_poll_of_one_kind
    a_nested_collection_loses_nothing
    a_handler_takes_what_was_found_beside_it
    run_ends_when_nothing_keeps_it_alive
    what_does_not_keep_a_run_alive
    a_loop_built_in_one_thread_runs_in_another
    a_loop_built_in_one_thread_watches_in_another
    a_loop_belongs_to_the_thread_that_waited_first
    loops_side_by_side
    a_loop_in_borrowed_memory
}

// In the simulator too: what needs no real descriptor, thread or clock.
each_backend! { simulated too:
    nothing_is_delivered_before_the_first_collection
    a_nested_turn
    a_nested_run_is_refused
    dispatch_calls_the_handler_of_a_live_source
    run_delivers_what_is_on_its_way_before_it_ends
    a_stop_leaves_the_rest_queued
    a_stop_is_kept_for_the_next_run
    a_stop_in_a_before_wait_handler
    a_stop_outside_of_a_run_ends_one_wait
    a_panicking_handler_leaves_the_loop_usable
    the_backend_has_a_name
}

// What would hang if it went wrong.
each_backend! { alone:
    the_phases_one_by_one
    a_change_after_the_preparation_counts
    a_wait_without_a_preparation
}

/// What the wait has found and no handler has been called for is queued when a handler collects.
fn a_nested_collection_loses_nothing(backend: BackendChoice) {
    let pairs = [(); 3].map(|()| readable());
    let mut rig = Rig::new(backend);
    for (number, (ours, _)) in pairs.iter().enumerate() {
        rig.io(&format!("io {number}"), ours, READABLE, |app, event_loop, event| {
            event_loop.modify_io(event.source, PAUSED).unwrap();
            let queued = event_loop.collect().unwrap();
            app.note(format!("{queued} left"));
        });
    }
    let mut trace = rig.turn();
    assert_eq!([&trace[1], &trace[3], &trace[5]], ["2 left", "1 left", "0 left"]);
    trace.sort();
    assert_eq!(trace[3..], ["io 0 readable", "io 1 readable", "io 2 readable"]);
}

/// Also what the wait has found and nobody has queued yet.
fn a_handler_takes_what_was_found_beside_it(backend: BackendChoice) {
    let pairs = [(); 3].map(|()| readable());
    let mut rig = Rig::new(backend);
    for (ours, _) in &pairs {
        rig.io("io", ours, READABLE, |app, event_loop, event| {
            event_loop.remove(event.source).unwrap();
            let beside = event_loop.next(Kinds::all()).unwrap();
            app.note(if beside.is_some() { "and one beside it" } else { "alone" });
            beside.into_iter().for_each(|event| event_loop.remove(event.source).unwrap());
        });
    }
    assert_eq!(rig.turns(2), ["io readable", "and one beside it", "io readable", "alone"]);
    assert_eq!(rig.event_loop.statistics().sources, 0);
}

fn nothing_is_delivered_before_the_first_collection(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let deferred = rig.deferred("deferred", nothing);
    rig.idle("idle", nothing);
    rig.event_loop.defer(deferred).unwrap();
    rig.event_loop.post(deferred, 1).unwrap();
    assert_eq!(rig.pull(Kinds::all()), [""; 0]);
    assert_eq!(rig.turn(), ["deferred post 1", "deferred"]);
}

fn a_mask_selects_kinds_and_leaves_the_rest(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    rig.timer("timer", 1, 0, nothing);
    rig.io("io", &ours, READABLE, nothing);
    let wake = rig.wake("wake", nothing);
    let low = rig.wake("low", nothing);
    rig.event_loop.set_level(low, 2).unwrap();
    rig.event_loop.post(wake, 1).unwrap();
    rig.event_loop.trigger(low, PAUSED).unwrap();
    rig.event_loop.trigger(wake, PAUSED).unwrap();
    rig.event_loop.advance(Duration::from_nanos(1)).unwrap();
    assert_eq!(rig.event_loop.poll(Duration::ZERO), Ok(5));
    assert_eq!(rig.pull(Kinds::TIMER), ["timer 1"]);
    assert_eq!(rig.pull(Kinds::TIMER), [""; 0]);
    assert_eq!(rig.pull(Kinds::WAKE), ["wake triggered", "low triggered"]);
    assert_eq!(rig.pull(Kinds::empty()), [""; 0]);
    assert_eq!(rig.pull(Kinds::IO | Kinds::POST), ["wake post 1", "io readable"]);
    assert_eq!(rig.pull(Kinds::all()), [""; 0]);
}

fn a_nested_poll_of_one_kind(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    rig.timer("timer", 50, 0, nothing);
    let wake = rig.wake("wake", |app, event_loop, event| {
        if event.kind != Kind::Post {
            return;
        }
        // It waits here for the timer, while the other events stay where they are.
        while event_loop.statistics().events_of(Kind::Timer) == 0 {
            event_loop.advance(Duration::from_nanos(10)).unwrap();
            event_loop.poll(Duration::ZERO).unwrap();
            while let Some(event) = event_loop.next(Kinds::TIMER).unwrap() {
                app.note("nested:");
                event_loop.dispatch(app, event).unwrap();
            }
        }
    });
    rig.io("io", &ours, READABLE, nothing);
    rig.event_loop.post(wake, 1).unwrap();
    rig.event_loop.trigger(wake, PAUSED).unwrap();
    assert_eq!(rig.turn(), ["wake post 1", "nested:", "timer 1", "io readable", "wake triggered"]);
}

fn a_nested_turn(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.wake("a", |app, event_loop, event| {
        if event.value == 1 {
            event_loop.turn(app, Duration::ZERO).unwrap();
            app.note("back");
        }
    });
    for value in 1..4 {
        rig.event_loop.post(a, value).unwrap();
    }
    assert_eq!(rig.turn(), ["a post 1", "a post 2", "a post 3", "back"], "the same queue");
}

fn a_nested_run_is_refused(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.wake("a", |app, event_loop, _| {
        assert_eq!(event_loop.run(app), Err(Error::BUSY));
        event_loop.stop().unwrap();
    });
    rig.event_loop.post(a, 1).unwrap();
    assert_eq!(rig.run(), (vec!["a post 1".to_owned()], Outcome::Stopped));
    // Not in a turn's handler either, nor in a dispatched one.
    rig.event_loop.post(a, 1).unwrap();
    assert_eq!(rig.turn(), ["a post 1"]);
    rig.event_loop.post(a, 1).unwrap();
    rig.event_loop.poll(Duration::ZERO).unwrap();
    let event = rig.event_loop.next(Kinds::all()).unwrap().expect("the post");
    rig.event_loop.dispatch(&mut rig.app, event).unwrap();
}

fn dispatch_calls_the_handler_of_a_live_source(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.wake("a", nothing);
    rig.event_loop.trigger(a, PAUSED).unwrap();
    rig.event_loop.poll(Duration::ZERO).unwrap();
    let event = rig.event_loop.next(Kinds::all()).unwrap().expect("a trigger");
    for _ in 0..2 {
        rig.event_loop.dispatch(&mut rig.app, event).unwrap();
    }
    rig.event_loop.remove(a).unwrap();
    rig.wake("b", nothing); // in the same slot
    assert_eq!(rig.event_loop.dispatch(&mut rig.app, event), Err(Error::STALE));
    assert_eq!(rig.trace(), ["a triggered", "a triggered"]);
}

fn the_phases_one_by_one(backend: BackendChoice) {
    let (ours, _theirs) = pair();
    let mut rig = Rig::new(backend);
    rig.before("before", nothing);
    rig.timer("timer", 70, 0, nothing);
    rig.io("io", &ours, READABLE, nothing);
    let it = &rig.event_loop;
    assert_eq!(it.prepare(Duration::from_nanos(500)), Ok(1));
    assert_eq!(rig.pull(Kinds::all()), ["before"]);
    assert_eq!(it.prepare(Duration::from_nanos(500)), Ok(0));
    assert_eq!(it.timeout(), Ok(Duration::from_nanos(70)));
    it.wait().unwrap();
    assert_eq!(it.collect(), Ok(1));
    assert_eq!(rig.pull(Kinds::all()), ["timer 1"]);
    // Without a timer it is the caller's patience, and with something to do it is none.
    let it = &rig.event_loop;
    for (patience, timeout) in
        [(Duration::from_nanos(500), Duration::from_nanos(500)), (Duration::FOREVER, Duration::FOREVER)]
    {
        assert_eq!(it.prepare(patience), Ok(1));
        assert_eq!(it.next(Kinds::all()).unwrap().map(|event| event.kind), Some(Kind::Before));
        assert_eq!(it.prepare(patience), Ok(0));
        assert_eq!(it.timeout(), Ok(timeout));
        // Who prepared a wait need not wait; a change meanwhile ends a sleep that has not begun.
        let wake = it.add_wake_pulled(0).unwrap();
        it.trigger(wake, PAUSED).unwrap();
        it.wait().unwrap();
        assert_eq!(it.collect(), Ok(1));
        assert_eq!(it.next(Kinds::all()).unwrap().map(|event| event.source), Some(wake));
        it.remove(wake).unwrap();
    }
    // A collection without a wait finds nothing new.
    std::io::Write::write_all(&mut &_theirs, b"x").unwrap();
    assert_eq!(it.collect(), Ok(0));
}

/// The wait is over at once, and its outcome that of what is watched now. (An io_uring that is asked in between learns of it
/// with the next one.)
fn a_change_after_the_preparation_counts(backend: BackendChoice) {
    let ((first, _other), (second, _another)) = (readable(), readable());
    let mut rig = Rig::new(backend);
    rig.io("first", &first, READABLE, nothing);
    assert_eq!(rig.event_loop.prepare(Duration::FOREVER), Ok(0));
    rig.io("second", &second, READABLE, nothing);
    rig.event_loop.wait().unwrap();
    assert_eq!(rig.event_loop.collect(), Ok(if backend == BackendChoice::IoUring { 1 } else { 2 }));
    rig.pull(Kinds::all());
    let mut told = rig.turn();
    told.sort_unstable();
    assert_eq!(told, ["first readable", "second readable"]);
}

/// It was an error on a new io_uring, and else the last wait again: perhaps one without end, which no wake ended.
fn a_wait_without_a_preparation(backend: BackendChoice) {
    let (ours, theirs) = pair();
    let mut rig = Rig::new(backend);
    let it = &rig.event_loop;
    assert_eq!(it.wait(), Ok(()));
    assert_eq!(it.collect(), Ok(0));
    let io = rig.io("io", &ours, READABLE, nothing);
    let it = &rig.event_loop;
    assert_eq!(it.prepare(Duration::FOREVER), Ok(0));
    it.trigger(io, PAUSED).unwrap();
    assert_eq!(it.wait(), Ok(()));
    assert_eq!(it.collect(), Ok(1));
    assert_eq!(rig.pull(Kinds::all()), ["io triggered"]);
    // A preparation is good for one wait, and that for one collection.
    let it = &rig.event_loop;
    assert_eq!(it.prepare(Duration::FOREVER), Ok(0));
    it.trigger(io, PAUSED).unwrap();
    for _ in 0..3 {
        assert_eq!(it.wait(), Ok(()));
    }
    assert_eq!(it.collect(), Ok(1));
    assert_eq!(rig.pull(Kinds::all()), ["io triggered"]);
    let it = &rig.event_loop;
    assert_eq!(it.prepare(Duration::FOREVER), Ok(0));
    assert_eq!(it.collect(), Ok(0));
    assert_eq!(it.wait(), Ok(()));
    std::io::Write::write_all(&mut &theirs, b"x").unwrap();
    assert_eq!(it.wait(), Ok(()));
    assert_eq!(it.collect(), Ok(0));
    assert_eq!(rig.turn(), ["io readable"]);
}

fn run_ends_when_nothing_keeps_it_alive(backend: BackendChoice) {
    let (ours, theirs) = pair();
    let mut rig = Rig::new(backend);
    assert_eq!(rig.run(), (vec![], Outcome::NothingLeft), "nothing from the start");
    rig.timer("timer", 10, 0, nothing);
    let reader = ours.try_clone().unwrap();
    rig.io("io", &ours, READABLE, move |_, event_loop, event| {
        drain(&reader);
        event_loop.modify_io(event.source, PAUSED).unwrap();
    });
    std::io::Write::write_all(&mut &theirs, b"x").unwrap();
    assert_eq!(rig.run(), (vec!["io readable".to_owned(), "timer 1".to_owned()], Outcome::NothingLeft));
}

fn what_does_not_keep_a_run_alive(backend: BackendChoice) {
    let (ours, _theirs) = pair();
    let mut rig = Rig::new(backend);
    let io = rig.io("io", &ours, READABLE, nothing);
    let wake = rig.wake("wake", nothing);
    let timer = rig.timer("timer", 10, 10, nothing);
    for source in [io, wake, timer] {
        assert_eq!(rig.event_loop.keepalive(source), Ok(true));
        rig.event_loop.set_keepalive(source, false).unwrap();
        rig.event_loop.set_keepalive(source, false).unwrap();
    }
    assert_eq!(rig.run(), (vec![], Outcome::NothingLeft));
    // They are served as long as something else lives.
    rig.timer("last", 25, 0, nothing);
    assert_eq!(rig.run().0, ["timer 1", "timer 1", "last 1"]);
    // Taken back, it counts; and a removed one does not.
    rig.event_loop.set_keepalive(timer, true).unwrap();
    rig.event_loop.set_handler(timer, Some(handler), rig.app.token_of_removal()).unwrap();
    assert_eq!(rig.run(), (vec!["removal 1".to_owned()], Outcome::NothingLeft));
}

fn run_delivers_what_is_on_its_way_before_it_ends(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let wake = rig.wake("wake", nothing);
    rig.event_loop.set_keepalive(wake, false).unwrap();
    rig.event_loop.post(wake, 1).unwrap();
    assert_eq!(rig.run().0, ["wake post 1"]);
    rig.event_loop.trigger(wake, PAUSED).unwrap();
    assert_eq!(rig.run().0, ["wake triggered"]);
}

fn a_stop_leaves_the_rest_queued(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.wake("a", |_, event_loop, event| {
        if event.value == 2 {
            event_loop.stop().unwrap();
        }
    });
    for value in 1..5 {
        rig.event_loop.post(a, value).unwrap();
    }
    assert_eq!(rig.run(), (vec!["a post 1".to_owned(), "a post 2".to_owned()], Outcome::Stopped));
    assert_eq!(rig.event_loop.statistics().queued, 2);
    assert_eq!(rig.turn(), ["a post 3", "a post 4"]);
}

fn a_stop_is_kept_for_the_next_run(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.wake("a", nothing);
    rig.event_loop.post(a, 1).unwrap();
    rig.event_loop.stop().unwrap();
    rig.event_loop.stop().unwrap();
    assert_eq!(rig.run(), (vec![], Outcome::Stopped), "before anything else");
    rig.event_loop.remove(a).unwrap();
    assert_eq!(rig.run(), (vec![], Outcome::NothingLeft), "once");
}

fn a_stop_in_a_before_wait_handler(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.wake("a", nothing);
    rig.before("before", |_, event_loop, _| event_loop.stop().unwrap());
    rig.before("other", nothing);
    rig.event_loop.post(a, 1).unwrap();
    assert_eq!(rig.run(), (vec!["before".to_owned()], Outcome::Stopped));
    assert_eq!(rig.event_loop.statistics().queued, 2, "the rest is queued");
    rig.event_loop.remove(rig.app.handle("before")).unwrap();
    let mut trace = rig.turn();
    trace.sort();
    assert_eq!(trace, ["a post 1", "other"]);
}

fn a_stop_outside_of_a_run_ends_one_wait(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    rig.event_loop.stop().unwrap();
    let now = rig.now();
    assert_eq!(rig.event_loop.poll(Duration::from_secs(1)), Ok(0));
    assert_eq!(rig.now(), now);
    rig.assert_silent();
    assert_eq!(rig.run().1, Outcome::NothingLeft);
    // The same when the phases are called one by one: it does not end every wait from then on.
    let it = &rig.event_loop;
    it.stop().unwrap();
    for timeout in [Duration::ZERO, Duration::from_secs(1)] {
        assert_eq!(it.prepare(Duration::from_secs(1)), Ok(0));
        assert_eq!(it.timeout(), Ok(timeout));
        it.wait().unwrap();
        assert_eq!(it.collect(), Ok(0));
    }
}

fn a_loop_built_in_one_thread_runs_in_another(backend: BackendChoice) {
    let storage = Box::leak(Box::new(becket::Storage::<4, 4>::new()));
    let event_loop: becket::Loop<Vec<i64>> = becket::Loop::new(storage, &virtual_config(backend)).unwrap();
    fn on_event(values: &mut Vec<i64>, _: &becket::Loop<Vec<i64>>, event: becket::Event) {
        values.push(event.value);
    }
    event_loop.add_timer(Duration::from_nanos(5), Duration::ZERO, on_event, 0).unwrap();
    let values = std::thread::spawn(move || {
        let mut values = Vec::new();
        event_loop.run(&mut values).unwrap();
        values
    });
    assert_eq!(values.join().unwrap(), [1]);
}

/// All that is done with sources before the first wait, in the thread that builds the loop, counts in the one that waits.
fn a_loop_built_in_one_thread_watches_in_another(backend: BackendChoice) {
    type Told = Vec<(usize, becket::Ready)>;
    fn on_event(told: &mut Told, event_loop: &becket::Loop<Told>, event: becket::Event) {
        told.push((event.token, event.ready));
        if event.token == 9 {
            event_loop.stop().unwrap();
        }
    }
    let storage = Box::leak(Box::new(becket::Storage::<8, 4>::new()));
    let event_loop: becket::Loop<Told> = becket::Loop::new(storage, &Config { backend, ..Config::default() }).unwrap();
    let [(kept, _kept), (changed, _changed), (paused, _paused), (gone, gone_peer)] = [(); 4].map(|()| readable());
    let add = |fd: &std::os::unix::net::UnixStream, token| {
        event_loop.add_io(std::os::fd::AsRawFd::as_raw_fd(fd), READABLE, on_event, token).unwrap()
    };
    add(&kept, 1);
    event_loop.modify_io(add(&changed, 2), WRITABLE).unwrap();
    event_loop.modify_io(add(&paused, 3), PAUSED).unwrap();
    event_loop.remove(add(&gone, 4)).unwrap();
    drain(&gone);
    drop(gone);
    assert_eq!(std::io::Read::read(&mut &gone_peer, &mut [0; 1]).unwrap(), 0, "it is closed");
    let waker = event_loop.waker(event_loop.add_wake(on_event, 9).unwrap());
    let (turned, first_turn) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let mut told = Told::new();
        event_loop.turn(&mut told, Duration::ZERO).unwrap();
        told.sort_by_key(|it| it.0);
        assert_eq!(told, [(1, READABLE), (2, WRITABLE)]);
        turned.send(()).unwrap();
        event_loop.run(&mut told).unwrap();
        assert!(told.contains(&(9, becket::Ready::TRIGGERED)));
        // It is the waiting thread's to change, too: and to end.
        let new = event_loop.find_io(std::os::fd::AsRawFd::as_raw_fd(&kept)).unwrap();
        event_loop.remove(new).unwrap();
        told.clear();
        event_loop.turn(&mut told, Duration::ZERO).unwrap();
        assert_eq!(told, [(2, WRITABLE)]);
    });
    first_turn.recv().unwrap();
    waker.wake().unwrap();
    waiting.join().unwrap();
}

fn a_loop_belongs_to_the_thread_that_waited_first(backend: BackendChoice) {
    let storage = Box::leak(Box::new(becket::Storage::<4, 4>::new()));
    let event_loop: becket::Loop<()> = becket::Loop::new(storage, &virtual_config(backend)).unwrap();
    let wake = event_loop.add_wake_pulled(7).unwrap();
    let event_loop = std::thread::spawn(move || {
        event_loop.poll(Duration::ZERO).unwrap();
        event_loop
    });
    let event_loop = event_loop.join().unwrap();
    assert_eq!(event_loop.poll(Duration::from_secs(1)), Err(Error::NOT_PERMITTED));
    assert_eq!(event_loop.turn(&mut (), Duration::FOREVER), Err(Error::NOT_PERMITTED));
    assert_eq!(event_loop.run(&mut ()), Err(Error::NOT_PERMITTED));
    // All else is no wait.
    event_loop.trigger(wake, PAUSED).unwrap();
    event_loop.waker(wake).wake().unwrap();
    event_loop.remove(wake).unwrap();
}

fn loops_side_by_side(backend: BackendChoice) {
    let (ours, theirs) = readable();
    let [mut a, mut b] = [(); 2].map(|()| Rig::new(backend));
    let source = a.io("a", &ours, READABLE, nothing);
    b.io("b", &ours, READABLE, nothing);
    let timer = b.timer("timer", 5, 0, nothing);
    assert_eq!((a.turn(), b.turn()), (vec!["a readable".to_owned()], vec!["b readable".to_owned()]));
    a.event_loop.remove(source).unwrap();
    a.assert_silent();
    drop(a);
    drain(&ours);
    assert_eq!(b.after_ns(5), ["timer 1"]);
    assert!(b.event_loop.timer_deadline(timer).is_ok());
    drop(theirs);
}

fn a_loop_in_borrowed_memory(backend: BackendChoice) {
    let mut storage = becket::Storage::<4, 4>::new();
    for round in 0..5 {
        let event_loop: becket::Loop<Vec<usize>> = becket::Loop::new(&mut storage, &virtual_config(backend)).unwrap();
        assert_eq!(event_loop.statistics().sources, 0);
        event_loop
            .add_timer(Duration::from_nanos(5), Duration::ZERO, |values, _, event| values.push(event.token), round)
            .unwrap();
        let mut values = Vec::new();
        assert_eq!(event_loop.run(&mut values), Ok(Outcome::NothingLeft));
        assert_eq!(values, [round]);
        // Dropped or forgotten: the memory can be used again.
        if round % 2 == 0 {
            std::mem::forget(event_loop);
        }
    }
}

fn a_panicking_handler_leaves_the_loop_usable(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.wake("a", |_, _, event| assert!(event.value != 1, "on purpose"));
    rig.event_loop.post(a, 1).unwrap();
    rig.event_loop.post(a, 2).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rig.event_loop.run(&mut rig.app)));
    assert!(panicked.is_err());
    rig.event_loop.set_keepalive(a, false).unwrap();
    assert_eq!(rig.run(), (vec!["a post 1".to_owned(), "a post 2".to_owned()], Outcome::NothingLeft));
}

fn the_backend_has_a_name(backend: BackendChoice) {
    let rig = Rig::with(&Config { backend, ..Config::default() });
    let name = match backend {
        BackendChoice::Auto => unreachable!("each is asked for by name"),
        BackendChoice::Select => "select",
        BackendChoice::Poll => "poll",
        BackendChoice::Epoll => "epoll",
        BackendChoice::IoUring => "io_uring",
        BackendChoice::Simulator => "simulator",
    };
    assert_eq!(rig.event_loop.backend(), (name, ""), "it was asked for");
}
