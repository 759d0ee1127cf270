//! Being full is an answer to the caller, never a lost event; and every place comes back.

use crate::harness::*;
use becket::{BackendChoice, Config, Duration, Error, Loop, Storage};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

each_backend! {
    a_full_table_refuses_every_kind_and_changes_nothing
    a_slot_that_was_given_back_can_be_used_at_once
    slots_are_taken_from_both_ends
    every_slot_comes_back
    loops_of_every_small_size
    a_loop_without_sources
    a_large_reservation_works_to_its_end
    all_sources_ready_at_once
    statistics_tell_what_is_used
}

each_backend! { alone:
    the_last_place_that_poll_can_look_at
}

fn a_full_table_refuses_every_kind_and_changes_nothing(backend: BackendChoice) {
    let [(a, _a), (b, _b)] = [readable(), readable()];
    let mut rig = Rig::sized::<2, 2>(&virtual_config(backend));
    rig.io("a", &a, READABLE, nothing);
    let timer = rig.timer("timer", 5, 0, nothing);
    let it = &rig.event_loop;
    let before = it.statistics();
    let refused = [
        it.add_io(b.as_raw_fd(), READABLE, handler, 0),
        it.add_timer(Duration::ZERO, Duration::ZERO, handler, 0),
        it.add_wake(handler, 0),
        it.add_before(handler, 0),
        it.add_after(handler, 0),
        it.add_idle(handler, 0),
        it.add_deferred(handler, 0),
        it.add_signal(libc::SIGURG, handler, 0),
    ];
    assert_eq!(refused, [Err(Error::TABLE_FULL); 8]);
    assert_eq!(it.find_io(b.as_raw_fd()), Err(Error::NOT_FOUND));
    assert_eq!(it.statistics().sources, before.sources);
    // What is there goes on, changing it included.
    assert_eq!(rig.after_ns(5), ["a readable", "timer 1"]);
    rig.event_loop.arm_timer(timer, Duration::ZERO, Duration::ZERO).unwrap();
    rig.event_loop.modify_io(rig.app.handle("a"), BOTH).unwrap();
    rig.event_loop.post(timer, 1).unwrap();
    let mut trace = rig.turn();
    trace.sort();
    assert_eq!(trace, ["a readable writable", "timer 1", "timer post 1"]);
}

fn a_slot_that_was_given_back_can_be_used_at_once(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let fd = ours.as_raw_fd();
    let mut rig = Rig::sized::<1, 0>(&virtual_config(backend));
    rig.io("io", &ours, READABLE, move |app, event_loop, event| {
        assert_eq!(event_loop.add_wake(handler, 0), Err(Error::TABLE_FULL));
        event_loop.remove(event.source).unwrap();
        let token = app.token("again", nothing);
        event_loop.add_io(fd, READABLE, handler, token).unwrap();
    });
    assert_eq!(rig.turns(2), ["io readable", "again readable"]);
}

/// What has an fd stands first, so that select and poll look at no more than there is.
fn slots_are_taken_from_both_ends(backend: BackendChoice) {
    let pairs: Vec<_> = (0..3).map(|_| readable()).collect();
    let mut rig = Rig::sized::<3, 0>(&virtual_config(backend));
    // The slot in a handle, counted from 1.
    let place = |handle: becket::Handle| handle.raw() & 0xff_ffff;
    let timer = rig.timer("timer", 1, 0, nothing);
    let wake = rig.wake("wake", nothing);
    assert_eq!((place(timer), place(wake)), (3, 2));
    rig.event_loop.remove(wake).unwrap();
    let first = rig.io("first", &pairs[0].0, READABLE, nothing);
    assert_eq!(place(first), 1);
    // No slot is left that never was used: each side takes its own again, and then the other's.
    let wake = rig.wake("wake", nothing);
    assert_eq!(place(wake), 2);
    [wake, timer, first].into_iter().for_each(|it| rig.event_loop.remove(it).unwrap());
    let all = [0, 1, 2].map(|at| place(rig.io("io", &pairs[at].0, READABLE, nothing)));
    assert_eq!(all, [1, 2, 3]);
    assert_eq!(rig.turn(), ["io readable"; 3]);
    let last = rig.app.pop();
    rig.event_loop.remove(last).unwrap();
    assert_eq!(place(rig.wake("wake", nothing)), place(last));
}

fn every_slot_comes_back(backend: BackendChoice) {
    let pairs: Vec<_> = (0..8).map(|_| readable()).collect();
    let mut rig = Rig::sized::<8, 8>(&virtual_config(backend));
    for round in 0..200 {
        for (number, (ours, _)) in pairs.iter().enumerate() {
            match (round + number) % 4 {
                0 => rig.io("a", ours, READABLE, nothing),
                1 => rig.timer("a", number as u64, 1, nothing),
                2 => rig.idle("a", nothing),
                _ => rig.deferred("a", nothing),
            };
        }
        assert_eq!(rig.event_loop.add_wake(handler, 0), Err(Error::TABLE_FULL));
        rig.turn();
        let handles: Vec<_> = (0..8).map(|_| rig.app.pop()).collect();
        let order: Vec<_> = (0..8).map(|number| (number * 3 + round) % 8).collect();
        order.into_iter().for_each(|number| rig.event_loop.remove(handles[number]).unwrap());
        assert_eq!(rig.event_loop.statistics().sources, 0);
        pairs.iter().for_each(|(ours, _)| {
            assert_eq!(rig.event_loop.find_io(ours.as_raw_fd()), Err(Error::NOT_FOUND));
        });
    }
    rig.assert_silent();
}

fn of_size<const S: usize>(backend: BackendChoice) {
    let mut rig = Rig::sized::<S, 1>(&virtual_config(backend));
    let pairs: Vec<_> = (0..S).map(|_| readable()).collect();
    for (number, (ours, _)) in pairs.iter().enumerate() {
        rig.io(&number.to_string(), ours, READABLE, nothing);
    }
    assert_eq!(rig.event_loop.add_wake(handler, 0), Err(Error::TABLE_FULL));
    for (number, (ours, theirs)) in pairs.iter().enumerate() {
        assert_eq!(rig.event_loop.find_io(ours.as_raw_fd()), Ok(rig.app.handle(&number.to_string())));
        assert_eq!(rig.event_loop.find_io(theirs.as_raw_fd()), Err(Error::NOT_FOUND));
    }
    assert_eq!(rig.turn().len(), S);
}

fn loops_of_every_small_size(backend: BackendChoice) {
    of_size::<1>(backend);
    of_size::<2>(backend);
    of_size::<3>(backend);
    of_size::<4>(backend);
    of_size::<5>(backend);
    of_size::<7>(backend);
    of_size::<8>(backend);
    of_size::<31>(backend);
}

fn a_loop_without_sources(backend: BackendChoice) {
    let mut rig = Rig::sized::<0, 0>(&virtual_config(backend));
    assert_eq!(rig.event_loop.add_wake(handler, 0), Err(Error::TABLE_FULL));
    assert_eq!(rig.event_loop.add_io(0, READABLE, handler, 0), Err(Error::TABLE_FULL));
    assert_eq!(rig.event_loop.find_io(0), Err(Error::NOT_FOUND));
    assert_eq!(rig.run(), (vec![], becket::Outcome::NothingLeft));
    rig.assert_silent();
}

fn a_large_reservation_works_to_its_end(backend: BackendChoice) {
    // Without optimization the memory passes through the stack on its way to the heap.
    let thread = std::thread::Builder::new().stack_size(64 << 20);
    thread.spawn(move || large_reservation(backend)).unwrap().join().unwrap();
}

fn large_reservation(backend: BackendChoice) {
    const COUNT: usize = 50_000;
    let mut memory = Box::new(Storage::<COUNT, 4>::new());
    let config = Config { budget: u32::MAX, ..virtual_config(backend) };
    let event_loop: Loop<()> = Loop::new(&mut *memory, &config).unwrap();
    let (delay, none) = (Duration::from_nanos(5), Duration::ZERO);
    let timers: Vec<_> = (0..COUNT).map(|token| event_loop.add_timer_pulled(delay, none, token).unwrap()).collect();
    assert_eq!(event_loop.add_timer_pulled(delay, none, 0), Err(Error::TABLE_FULL));
    timers.iter().step_by(2).for_each(|timer| event_loop.remove(*timer).unwrap());
    event_loop.advance(delay).unwrap();
    assert_eq!(event_loop.poll(Duration::ZERO), Ok(COUNT as u32 / 2));
    for token in (1..COUNT).step_by(2) {
        let event = event_loop.next(becket::Kinds::all()).unwrap().expect("one for each that is left");
        assert_eq!(event.token, token);
    }
    assert_eq!(event_loop.next(becket::Kinds::all()), Ok(None));
}

fn all_sources_ready_at_once(backend: BackendChoice) {
    let pairs: Vec<_> = (0..10).map(|_| readable()).collect();
    let mut rig = Rig::sized::<32, 8>(&virtual_config(backend));
    let mut expected = 0;
    for (ours, _) in &pairs {
        rig.io("io", ours, READABLE, nothing);
        let timer = rig.timer("timer", 1, 1, nothing);
        let wake = rig.wake("wake", nothing);
        rig.event_loop.trigger(wake, PAUSED).unwrap();
        expected += 3;
        if rig.event_loop.post(timer, 1).is_ok() {
            expected += 1;
        }
    }
    assert_eq!(expected, 38);
    assert_eq!(rig.after_ns(1).len(), expected);
    let statistics = rig.event_loop.statistics();
    assert_eq!((statistics.queued, statistics.queued_max), (0, 38));
}

fn statistics_tell_what_is_used(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    assert_eq!(rig.event_loop.statistics().sources_max, 32);
    let io = rig.io("io", &ours, READABLE, nothing);
    rig.timer("timer", 10, 0, nothing);
    rig.event_loop.post(io, 1).unwrap();
    rig.turn();
    rig.after_ns(10);
    rig.turn_for(0);
    let statistics = rig.event_loop.statistics();
    let of = |kind| statistics.events_of(kind);
    use becket::Kind;
    assert_eq!((of(Kind::Io), of(Kind::Timer), of(Kind::Post), of(Kind::Wake)), (3, 1, 1, 0));
    assert_eq!((statistics.turns, statistics.sources, statistics.posts_max), (3, 2, 8));
    rig.event_loop.remove(io).unwrap();
    rig.turn_for(1000 * MS);
    assert_eq!(rig.event_loop.statistics().waiting_ns, 1000 * MS);
    assert_eq!(rig.event_loop.statistics().working_ns, 10);
    // What concerns nobody any more is dropped.
    let wake = rig.wake("wake", nothing);
    rig.event_loop.post(wake, 1).unwrap();
    rig.event_loop.remove(wake).unwrap();
    assert_eq!(rig.turn(), [""; 0]);
    assert_eq!(rig.event_loop.statistics().stale_dropped, 1);
}

/// poll(2) takes no more entries than the process may have files; the first one is the loop's own.
fn the_last_place_that_poll_can_look_at(backend: BackendChoice) {
    const PLACES: usize = 64;
    // It runs until its input ends.
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let (ours, _theirs) = readable();
    for (limit, fits) in [(PLACES as u32, backend != BackendChoice::Poll), (PLACES as u32 + 1, true)] {
        limit_files(limit);
        let mut rig = Rig::sized::<PLACES, 0>(&virtual_config(backend));
        // All but the last place are taken, by what has no fd.
        let timers: Vec<_> = (0..PLACES).map(|_| rig.timer("timer", 1000 * MS, 0, nothing)).collect();
        let last = timers.iter().find(|it| it.raw() & 0xff_ffff == PLACES as u64).unwrap();
        rig.event_loop.remove(*last).unwrap();
        let refused = if fits { None } else { Some(Error::TABLE_FULL) };
        let io = rig.event_loop.add_io(ours.as_raw_fd(), READABLE, handler, rig.app.token("io", nothing));
        assert_eq!(io.err(), refused, "{limit} files");
        if let Ok(io) = io {
            assert_eq!(rig.turn(), ["io readable"]);
            rig.event_loop.remove(io).unwrap();
        }
        let (socket, options) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), becket::ListenOptions::default());
        let listener = rig.event_loop.listen_fd(socket.as_raw_fd(), &options, handler, 0);
        assert_eq!(listener.err(), refused, "{limit} files");
        // SAFETY: no pointers.
        let blocks = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) } & libc::O_NONBLOCK == 0;
        assert_eq!(blocks, listener.is_err(), "what is refused is left as it is");
        if let Ok(listener) = listener {
            rig.event_loop.remove(listener).unwrap();
        }
        let source = rig.event_loop.add_child(child.id() as i32, handler, rig.app.token("child", nothing));
        assert_eq!(source.err(), refused, "{limit} files");
        assert_eq!(rig.turn(), [""; 0]);
    }
    drop(child.stdin.take());
    child.wait().unwrap();
}
