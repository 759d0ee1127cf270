//! Wakes from other threads, triggers, posts.

use crate::harness::*;
use becket::{BackendChoice, Config, Duration, Error, Kinds, Outcome, Ready};
use std::sync::atomic::{AtomicU64, Ordering};

each_backend! {
    a_wake_from_a_thread_ends_a_sleep
    a_wake_reaches_a_source_of_any_kind
    four_threads_and_nothing_is_lost
    a_stop_from_a_thread_ends_a_run
    a_trigger_merges_readiness_into_an_io_source
    a_trigger_is_judged_by_the_interest_of_its_delivery
    full_posts_leave_io_alone
    a_post_reaches_a_source_of_any_kind
}

// In the simulator too: what needs no real descriptor, thread or clock.
each_backend! { simulated too:
    wakes_are_merged
    a_stale_waker_wakes_nobody
    a_wake_that_was_under_way_does_not_reach_a_new_owner
    a_waker_outlives_its_loop
    wakes_race_with_removal_and_reuse
    triggers_are_merged_and_come_next_turn
    a_trigger_in_its_own_handler_comes_next_turn
    posts_are_first_in_first_out
    full_posts_are_refused_and_lose_nothing
    a_post_to_a_removed_source_is_dropped
    a_post_in_a_handler_comes_in_this_turn_within_its_budget
    every_value_can_be_posted
}

// What would hang if it went wrong.
each_backend! { alone:
    what_came_while_the_loop_was_awake_ends_its_next_sleep
    what_comes_between_prepare_and_wait_ends_the_sleep
}

fn a_wake_from_a_thread_ends_a_sleep(backend: BackendChoice) {
    let mut rig = Rig::with(&Config { backend, ..Config::default() });
    let wake = rig.wake("wake", |_, event_loop, event| event_loop.remove(event.source).unwrap());
    let waker = rig.event_loop.waker(wake);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20)); // most likely it sleeps by then
        waker.wake()
    });
    assert_eq!(rig.run(), (vec!["wake triggered".to_owned()], Outcome::NothingLeft));
    assert_eq!(thread.join().unwrap(), Ok(()));
}

fn wakes_are_merged(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let [a, b] = ["a", "b"].map(|name| rig.wake(name, nothing));
    for _ in 0..5 {
        rig.event_loop.waker(a).wake().unwrap();
        rig.event_loop.waker(b).wake().unwrap();
    }
    let mut trace = rig.turn();
    trace.sort();
    assert_eq!(trace, ["a triggered", "b triggered"]);
    rig.assert_silent();
    // With a trigger as well.
    rig.event_loop.waker(a).wake().unwrap();
    rig.event_loop.trigger(a, PAUSED).unwrap();
    assert_eq!(rig.turns(2), ["a triggered"]);
}

fn a_wake_reaches_a_source_of_any_kind(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let sources = [
        rig.io("paused", &ours, PAUSED, nothing),
        rig.timer("timer", u64::MAX, 0, nothing),
        rig.deferred("deferred", nothing),
    ];
    for source in sources {
        rig.event_loop.waker(source).wake().unwrap();
    }
    let mut trace = rig.turn();
    trace.sort();
    assert_eq!(trace, ["deferred triggered", "paused triggered", "timer 0 triggered"]);
    rig.assert_silent();
}

fn a_stale_waker_wakes_nobody(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let old = rig.wake("old", nothing);
    let waker = rig.event_loop.waker(old);
    rig.event_loop.remove(old).unwrap();
    assert_eq!(waker.wake(), Err(Error::STALE));
    rig.wake("new", nothing);
    assert_eq!(waker.wake(), Err(Error::STALE));
    rig.assert_silent();
}

fn a_wake_that_was_under_way_does_not_reach_a_new_owner(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let old = rig.wake("old", nothing);
    rig.event_loop.waker(old).wake().unwrap();
    rig.event_loop.remove(old).unwrap();
    let new = rig.wake("new", nothing);
    assert_eq!(rig.turn(), [""; 0]);
    rig.event_loop.waker(new).wake().unwrap();
    assert_eq!(rig.turn(), ["new triggered"]);
    // And the new owner's own wake is not lost among them.
    rig.event_loop.waker(new).wake().unwrap();
    rig.event_loop.remove(new).unwrap();
    let third = rig.wake("third", nothing);
    rig.event_loop.waker(third).wake().unwrap();
    assert_eq!(rig.turns(2), ["third triggered"]);
}

fn a_waker_outlives_its_loop(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let wake = rig.wake("wake", nothing);
    let (waker, stopper) = (rig.event_loop.waker(wake), rig.event_loop.stopper());
    drop(rig);
    assert_eq!(waker.wake(), Err(Error::BAD_FD));
    assert_eq!(stopper.stop(), Err(Error::BAD_FD));
}

/// Each thread counts up and wakes; what was counted before a wake is seen by a delivery after it.
fn four_threads_and_nothing_is_lost(backend: BackendChoice) {
    const WAKES: u64 = 5_000;
    static COUNTS: [[AtomicU64; 4]; 5] = [const { [const { AtomicU64::new(0) }; 4] }; 5];
    let counts = &COUNTS[backend as usize];
    let mut rig = Rig::with(&Config { backend, ..Config::default() });
    let threads: Vec<_> = (0..4)
        .map(|number: usize| {
            let wake = rig.wake("wake", move |app, event_loop, event| {
                app.trace.clear();
                let count = counts[number].load(Ordering::SeqCst);
                if count == WAKES {
                    event_loop.remove(event.source).unwrap();
                }
            });
            let waker = rig.event_loop.waker(wake);
            std::thread::spawn(move || {
                for _ in 0..WAKES {
                    counts[number].fetch_add(1, Ordering::SeqCst);
                    // Once it has been removed, since the last count was seen already, it is stale.
                    match waker.wake() {
                        Ok(()) | Err(Error::STALE) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            })
        })
        .collect();
    assert_eq!(rig.run().1, Outcome::NothingLeft, "all four were heard to their end");
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A storm of wakes on a slot whose owner changes all the time: no owner hears of another's wakes.
fn wakes_race_with_removal_and_reuse(backend: BackendChoice) {
    use std::sync::{Arc, Mutex, atomic::AtomicBool};
    let mut rig = Rig::sized::<2, 0>(&Config { backend, ..Config::default() });
    let stop = Arc::new(AtomicBool::new(false));
    let first = rig.wake("first", nothing);
    let current = Arc::new(Mutex::new(rig.event_loop.waker(first)));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (current, stop) = (current.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let waker = *current.lock().unwrap();
                    for _ in 0..20 {
                        let _ = waker.wake();
                    }
                }
            })
        })
        .collect();
    let mut source = first;
    for _ in 0..2_000 {
        rig.event_loop.remove(source).unwrap();
        // The new owner's waker is nobody's yet: nobody can have woken it.
        source = rig.event_loop.add_wake_pulled(0).unwrap();
        rig.event_loop.poll(Duration::ZERO).unwrap();
        assert_eq!(rig.event_loop.next(Kinds::all()), Ok(None));
        *current.lock().unwrap() = rig.event_loop.waker(source);
        rig.event_loop.poll(Duration::from_micros(20)).unwrap();
        while let Some(event) = rig.event_loop.next(Kinds::all()).unwrap() {
            assert_eq!(event.source, source);
        }
    }
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn a_stop_from_a_thread_ends_a_run(backend: BackendChoice) {
    let mut rig = Rig::with(&Config { backend, ..Config::default() });
    rig.wake("wake", nothing); // keeps it alive for ever
    let stopper = rig.event_loop.stopper();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(10));
        stopper.stop()
    });
    assert_eq!(rig.run(), (vec![], Outcome::Stopped));
    assert_eq!(thread.join().unwrap(), Ok(()));
}

fn triggers_are_merged_and_come_next_turn(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let b = rig.wake("b", nothing);
    let a = rig.wake("a", move |_, event_loop, _| {
        event_loop.trigger(b, PAUSED).unwrap();
        event_loop.trigger(b, PAUSED).unwrap();
    });
    rig.event_loop.trigger(a, PAUSED).unwrap();
    rig.event_loop.trigger(a, PAUSED).unwrap();
    let now = rig.now();
    assert_eq!(rig.turn_for(1000 * MS), ["a triggered"]);
    assert_eq!(rig.turn_for(1000 * MS), ["b triggered"]);
    assert_eq!(rig.now(), now, "nobody slept");
    rig.assert_silent();
}

fn a_trigger_merges_readiness_into_an_io_source(backend: BackendChoice) {
    let (ours, _theirs) = pair();
    let mut rig = Rig::new(backend);
    let io = rig.io("io", &ours, BOTH, nothing);
    fill(&ours);
    rig.event_loop.trigger(io, READABLE).unwrap();
    rig.event_loop.trigger(io, WRITABLE).unwrap();
    assert_eq!(rig.turn(), ["io readable writable triggered"]);
    rig.assert_silent();
    for flags in [Ready::TIMEOUT, Ready::DEADLINE, Ready::TRIGGERED, Ready::all()] {
        assert_eq!(rig.event_loop.trigger(io, flags), Err(Error::INVALID));
    }
    rig.assert_silent();
}

fn a_trigger_in_its_own_handler_comes_next_turn(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let mut left = 3;
    let a = rig.wake("a", move |_, event_loop, event| {
        left -= 1;
        if left > 0 {
            event_loop.trigger(event.source, PAUSED).unwrap();
        }
    });
    rig.event_loop.trigger(a, PAUSED).unwrap();
    for _ in 0..3 {
        assert_eq!(rig.turn(), ["a triggered"]);
    }
    rig.assert_silent();
}

fn a_trigger_is_judged_by_the_interest_of_its_delivery(backend: BackendChoice) {
    let (ours, _theirs) = pair();
    let mut rig = Rig::new(backend);
    let io = rig.io("io", &ours, READABLE, nothing);
    rig.event_loop.trigger(io, READABLE).unwrap();
    rig.event_loop.modify_io(io, PAUSED).unwrap();
    assert_eq!(rig.turn(), ["io triggered"], "the trigger comes, the direction does not");
    rig.event_loop.modify_io(io, READABLE).unwrap();
    rig.assert_silent();
}

fn posts_are_first_in_first_out(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let wake = rig.wake("a", nothing);
    for round in 0..20 {
        let values = [round, -round, 7, 7, 0];
        for value in values {
            rig.event_loop.post(wake, value).unwrap();
        }
        assert_eq!(rig.turn(), values.map(|value| format!("a post {value}")));
    }
}

fn full_posts_are_refused_and_lose_nothing(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let wake = rig.wake("a", nothing);
    for round in 1..4 {
        for value in 0..8 {
            rig.event_loop.post(wake, value).unwrap();
        }
        for _ in 0..3 {
            assert_eq!(rig.event_loop.post(wake, 99), Err(Error::NO_BUFFERS));
        }
        let statistics = rig.event_loop.statistics();
        assert_eq!((statistics.posts, statistics.posts_max, statistics.posts_refused), (8, 8, 3 * round));
        assert_eq!(rig.turn().len(), 8);
        assert_eq!(rig.event_loop.statistics().posts, 0);
    }
    // Without room for posts there is none.
    let mut rig = Rig::sized::<4, 0>(&virtual_config(backend));
    let wake = rig.wake("a", nothing);
    assert_eq!(rig.event_loop.post(wake, 1), Err(Error::NO_BUFFERS));
    rig.assert_silent();
}

fn full_posts_leave_io_alone(backend: BackendChoice) {
    let pairs: Vec<_> = (0..20).map(|_| readable()).collect();
    let mut rig = Rig::new(backend);
    let wake = rig.wake("a", |_, event_loop, event| {
        // As many as go in: the queue of posts never becomes empty.
        while event_loop.post(event.source, 1).is_ok() {}
    });
    for (number, (ours, _)) in pairs.iter().enumerate() {
        rig.io(&number.to_string(), ours, READABLE, nothing);
    }
    while rig.event_loop.post(wake, 1).is_ok() {}
    let trace = rig.turn();
    for number in 0..20 {
        let told = format!("{number} readable");
        assert_eq!(trace.iter().filter(|text| **text == told).count(), 1, "{told}");
    }
}

fn a_post_to_a_removed_source_is_dropped(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let old = rig.wake("old", nothing);
    rig.event_loop.post(old, 1).unwrap();
    rig.event_loop.remove(old).unwrap();
    assert_eq!(rig.event_loop.post(old, 2), Err(Error::STALE));
    let new = rig.wake("new", nothing);
    rig.event_loop.post(new, 3).unwrap();
    assert_eq!(rig.turns(2), ["new post 3"]);
    assert_eq!(rig.event_loop.statistics().posts, 0, "its place is free again");
    assert_eq!(rig.event_loop.statistics().stale_dropped, 1);
}

fn a_post_reaches_a_source_of_any_kind(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let timer = rig.timer("timer", u64::MAX, 0, nothing);
    let io = rig.io("io", &ours, PAUSED, nothing);
    let hook = rig.after("after", nothing);
    rig.event_loop.enable_hook(hook, false).unwrap();
    for source in [timer, io, hook] {
        rig.event_loop.post(source, 5).unwrap();
    }
    assert_eq!(rig.turn(), ["timer post 5", "io post 5", "after post 5"]);
    rig.event_loop.post(io, 5).unwrap();
    rig.event_loop.poll(Duration::ZERO).unwrap();
    let event = rig.event_loop.next(Kinds::POST).unwrap().expect("a post");
    assert_eq!((event.kind, event.source, event.fd, event.ready), (becket::Kind::Post, io, -1, PAUSED));
}

fn a_post_in_a_handler_comes_in_this_turn_within_its_budget(backend: BackendChoice) {
    let mut rig = Rig::with_budget(backend, 5);
    let wake = rig.wake("a", |_, event_loop, event| event_loop.post(event.source, event.value + 1).unwrap());
    rig.event_loop.post(wake, 0).unwrap();
    assert_eq!(rig.turn(), ["a post 0", "a post 1", "a post 2", "a post 3", "a post 4"]);
    assert_eq!(rig.turn().len(), 5);
}

fn every_value_can_be_posted(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let wake = rig.wake("a", nothing);
    for value in [0, 1, -1, i64::MIN, i64::MAX] {
        rig.event_loop.post(wake, value).unwrap();
        assert_eq!(rig.turn(), [format!("a post {value}")]);
    }
}

/// A wake, a stop, a trigger, a post, a signal: each by itself.
fn disturb(rig: &Rig, wake: becket::Handle, how: u32) {
    match how {
        0 => rig.event_loop.waker(wake).wake().unwrap(),
        1 => rig.event_loop.stopper().stop().unwrap(),
        2 => rig.event_loop.trigger(wake, PAUSED).unwrap(),
        3 => rig.event_loop.post(wake, 1).unwrap(),
        // SAFETY: no memory is touched; the loop has a source for the signal.
        _ => assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0),
    }
}

fn what_came_while_the_loop_was_awake_ends_its_next_sleep(backend: BackendChoice) {
    let mut rig = Rig::with(&Config { backend, ..Config::default() });
    let wake = rig.wake("wake", nothing);
    rig.signal("signal", libc::SIGUSR1, nothing);
    let expected: [&[&str]; 5] = [&["wake triggered"], &[], &["wake triggered"], &["wake post 1"], &["signal 1"]];
    for how in 0..5 {
        disturb(&rig, wake, how);
        rig.event_loop.turn(&mut rig.app, Duration::FOREVER).unwrap();
        assert_eq!(rig.trace(), expected[how as usize]);
    }
}

fn what_comes_between_prepare_and_wait_ends_the_sleep(backend: BackendChoice) {
    let mut rig = Rig::with(&Config { backend, ..Config::default() });
    let wake = rig.wake("wake", nothing);
    rig.signal("signal", libc::SIGUSR1, nothing);
    let expected = ["wake triggered", "", "wake triggered", "wake post 1", "signal 1"];
    for how in 0..5 {
        assert_eq!(rig.event_loop.prepare(Duration::FOREVER), Ok(0));
        assert_eq!(rig.event_loop.timeout(), Ok(Duration::FOREVER));
        disturb(&rig, wake, how);
        rig.event_loop.wait().unwrap();
        rig.event_loop.collect().unwrap();
        assert_eq!(rig.pull(Kinds::all()).concat(), expected[how as usize]);
        // Whatever ended that sleep, it is used up, but for a notification that nobody needed: one turn more.
        rig.event_loop.poll(Duration::ZERO).unwrap();
    }
}
