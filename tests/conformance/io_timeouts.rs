//! Idle timeouts and fixed deadlines of I/O sources.

use crate::harness::*;
use becket::{BackendChoice, Duration, Instant, IoOptions, Kinds, Outcome, Ready};
use std::io::Write;
use std::os::fd::AsRawFd;

each_backend! {
    an_idle_timeout_comes_when_nothing_was_delivered
    an_idle_timeout_repeats
    delivery_extends_an_idle_timeout
    readiness_wins_over_an_idle_timeout
    readiness_cancels_a_queued_timeout
    readiness_that_was_modified_away_is_no_activity
    a_trigger_is_activity
    a_paused_source_has_no_idle_timeout
    a_paused_source_with_an_idle_timeout_costs_nothing
    an_idle_timeout_can_be_set_anew_and_taken_away
    setting_it_anew_forgets_a_queued_timeout
    a_timeout_does_not_end_a_oneshot_source
    a_very_long_idle_timeout_is_not_early
    a_deadline_comes_once_and_is_not_extended
    a_deadline_comes_together_with_readiness
    a_deadline_comes_to_a_paused_source
    a_deadline_can_be_moved_and_taken_away
    deadline_and_idle_timeout_live_side_by_side
    a_handler_removes_a_source_whose_timeout_is_queued
    timeouts_keep_a_run_alive
}

fn idle(backend: BackendChoice, nanos: u64) -> (Rig, becket::Handle, [std::os::unix::net::UnixStream; 2]) {
    let (ours, theirs) = pair();
    let mut rig = Rig::new(backend);
    let io = rig.io("io", &ours, READABLE, nothing);
    rig.event_loop.set_idle_timeout(io, Duration::from_nanos(nanos)).unwrap();
    (rig, io, [ours, theirs])
}

fn an_idle_timeout_comes_when_nothing_was_delivered(backend: BackendChoice) {
    let (mut rig, _, _fds) = idle(backend, 10);
    assert_eq!(rig.after_ns(9), [""; 0]);
    assert_eq!(rig.after_ns(1), ["io timeout"]);
}

fn an_idle_timeout_repeats(backend: BackendChoice) {
    let (mut rig, _, _fds) = idle(backend, 10);
    let start = rig.now();
    for count in 1..5 {
        assert_eq!(rig.turn_for(1000 * MS), ["io timeout"]);
        assert_eq!(rig.now(), start + count * 10);
    }
    assert_eq!(rig.after_ns(35), ["io timeout"], "once, however late");
    assert_eq!(rig.after_ns(9), [""; 0]);
    assert_eq!(rig.after_ns(1), ["io timeout"]);
}

fn delivery_extends_an_idle_timeout(backend: BackendChoice) {
    let (mut rig, _, [ours, theirs]) = idle(backend, 10);
    for _ in 0..5 {
        (&theirs).write_all(b"x").unwrap();
        assert_eq!(rig.after_ns(7), ["io readable"]);
        drain(&ours);
    }
    assert_eq!(rig.after_ns(9), [""; 0]);
    assert_eq!(rig.after_ns(1), ["io timeout"]);
}

fn readiness_wins_over_an_idle_timeout(backend: BackendChoice) {
    let (mut rig, _, [ours, theirs]) = idle(backend, 10);
    (&theirs).write_all(b"x").unwrap();
    assert_eq!(rig.after_ns(25), ["io readable"]);
    assert_eq!(rig.after_ns(25), ["io readable"]);
    drain(&ours);
    assert_eq!(rig.after_ns(9), [""; 0], "the delivery was activity");
    assert_eq!(rig.after_ns(1), ["io timeout"]);
}

fn readiness_cancels_a_queued_timeout(backend: BackendChoice) {
    let (ours, theirs) = pair();
    let mut rig = Rig::with_budget(backend, 1);
    rig.timer("timer", 5, 0, nothing);
    let io = rig.io("io", &ours, READABLE, nothing);
    rig.event_loop.set_idle_timeout(io, Duration::from_nanos(10)).unwrap();
    // The budget is used up by the timer: the TIMEOUT waits for the next turn, and meanwhile there is data.
    assert_eq!(rig.after_ns(10), ["timer 1"]);
    (&theirs).write_all(b"x").unwrap();
    assert_eq!(rig.turn(), ["io readable"]);
    drain(&ours);
    assert_eq!(rig.turn(), [""; 0]);
}

fn readiness_that_was_modified_away_is_no_activity(backend: BackendChoice) {
    let (ours, theirs) = pair();
    fill(&ours);
    let mut rig = Rig::with_budget(backend, 1);
    let io = rig.io("io", &ours, READABLE, nothing);
    rig.event_loop.set_level(io, 1).unwrap();
    rig.event_loop.set_idle_timeout(io, Duration::from_nanos(10)).unwrap();
    let wake = rig.wake("wake", nothing);
    rig.event_loop.post(wake, 1).unwrap();
    rig.event_loop.post(wake, 2).unwrap();
    (&theirs).write_all(b"x").unwrap();
    assert_eq!(rig.turn(), ["wake post 1"]); // the readiness is queued, not delivered
    rig.event_loop.modify_io(io, WRITABLE).unwrap();
    assert_eq!(rig.after_ns(10), ["wake post 2"]);
    assert_eq!(rig.turn(), ["io timeout"], "nothing was delivered for 10 ns");
}

fn a_trigger_is_activity(backend: BackendChoice) {
    let (mut rig, io, _fds) = idle(backend, 10);
    rig.event_loop.trigger(io, PAUSED).unwrap();
    assert_eq!(rig.after_ns(7), ["io triggered"]);
    assert_eq!(rig.after_ns(9), [""; 0]);
    assert_eq!(rig.after_ns(1), ["io timeout"]);
}

fn a_paused_source_has_no_idle_timeout(backend: BackendChoice) {
    let (mut rig, io, _fds) = idle(backend, 10);
    rig.event_loop.modify_io(io, PAUSED).unwrap();
    assert_eq!(rig.after_ns(100), [""; 0]);
    // It counts from the moment of resuming.
    rig.event_loop.modify_io(io, READABLE).unwrap();
    assert_eq!(rig.after_ns(9), [""; 0]);
    assert_eq!(rig.after_ns(1), ["io timeout"]);
    // Paused while the TIMEOUT is queued: silent.
    rig.event_loop.advance(Duration::from_nanos(10)).unwrap();
    assert_eq!(rig.event_loop.poll(Duration::ZERO), Ok(1));
    rig.event_loop.modify_io(io, PAUSED).unwrap();
    assert_eq!(rig.pull(Kinds::all()), [""; 0]);
    // Set while paused: the same.
    rig.event_loop.set_idle_timeout(io, Duration::from_nanos(5)).unwrap();
    assert_eq!(rig.after_ns(100), [""; 0]);
    rig.event_loop.modify_io(io, READABLE).unwrap();
    assert_eq!(rig.after_ns(5), ["io timeout"]);
}

fn a_paused_source_with_an_idle_timeout_costs_nothing(backend: BackendChoice) {
    let (mut rig, io, _fds) = idle(backend, 10);
    rig.event_loop.modify_io(io, PAUSED).unwrap();
    rig.assert_silent();
    let now = rig.now();
    rig.event_loop.modify_io(io, READABLE).unwrap();
    rig.event_loop.modify_io(io, PAUSED).unwrap();
    assert_eq!(rig.run(), (vec![], Outcome::NothingLeft));
    assert_eq!(rig.now(), now);
}

fn an_idle_timeout_can_be_set_anew_and_taken_away(backend: BackendChoice) {
    let (mut rig, io, _fds) = idle(backend, 10);
    assert_eq!(rig.after_ns(9), [""; 0]);
    rig.event_loop.set_idle_timeout(io, Duration::from_nanos(20)).unwrap();
    assert_eq!(rig.after_ns(19), [""; 0], "it counts from its setting");
    assert_eq!(rig.after_ns(1), ["io timeout"]);
    rig.event_loop.set_idle_timeout(io, Duration::from_nanos(3)).unwrap();
    assert_eq!(rig.after_ns(3), ["io timeout"]);
    rig.event_loop.set_idle_timeout(io, Duration::FOREVER).unwrap();
    rig.assert_silent();
}

fn setting_it_anew_forgets_a_queued_timeout(backend: BackendChoice) {
    let (rig, io, _fds) = idle(backend, 10);
    rig.event_loop.advance(Duration::from_nanos(10)).unwrap();
    assert_eq!(rig.event_loop.poll(Duration::ZERO), Ok(1));
    rig.event_loop.set_idle_timeout(io, Duration::from_nanos(10)).unwrap();
    assert_eq!(rig.pull(Kinds::all()), [""; 0]);
}

fn a_timeout_does_not_end_a_oneshot_source(backend: BackendChoice) {
    let (ours, theirs) = pair();
    let mut rig = Rig::new(backend);
    let io = rig.io_with("io", &ours, READABLE, IoOptions { oneshot: true, ..IoOptions::default() });
    rig.event_loop.set_idle_timeout(io, Duration::from_nanos(10)).unwrap();
    assert_eq!(rig.after_ns(10), ["io timeout"]);
    assert_eq!(rig.event_loop.io_interest(io), Ok(READABLE));
    (&theirs).write_all(b"x").unwrap();
    assert_eq!(rig.turn(), ["io readable"]);
    // Now it is paused, and its timeout rests.
    rig.assert_silent();
}

fn a_very_long_idle_timeout_is_not_early(backend: BackendChoice) {
    let year = 365 * 86_400 * 1_000_000_000u64;
    for years in [1, 8, 20, 200] {
        let (mut rig, _, _fds) = idle(backend, years * year);
        assert_eq!(rig.after_ns(years * year - 1), [""; 0], "{years} years");
    }
    let (mut rig, _, _fds) = idle(backend, u64::MAX - 1);
    assert_eq!(rig.after_ns(u64::MAX / 2), [""; 0]);
}

fn a_deadline_comes_once_and_is_not_extended(backend: BackendChoice) {
    let (ours, theirs) = pair();
    let mut rig = Rig::new(backend);
    let io = rig.io("io", &ours, READABLE, nothing);
    rig.event_loop.set_deadline(io, Duration::from_nanos(10)).unwrap();
    (&theirs).write_all(b"x").unwrap();
    assert_eq!(rig.after_ns(9), ["io readable"]);
    drain(&ours);
    assert_eq!(rig.after_ns(1), ["io deadline"]);
    rig.assert_silent();
}

fn a_deadline_comes_together_with_readiness(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let io = rig.io("io", &ours, READABLE, nothing);
    rig.event_loop.set_deadline_at(io, Instant::from_nanos(0)).unwrap();
    assert_eq!(rig.turns(2), ["io readable deadline", "io readable"]);
}

fn a_deadline_comes_to_a_paused_source(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let io = rig.io("io", &ours, PAUSED, nothing);
    rig.event_loop.set_deadline(io, Duration::from_nanos(10)).unwrap();
    assert_eq!(rig.turn_for(1000 * MS), ["io deadline"]);
    rig.assert_silent();
}

fn a_deadline_can_be_moved_and_taken_away(backend: BackendChoice) {
    let (ours, _theirs) = pair();
    let mut rig = Rig::new(backend);
    let io = rig.io("io", &ours, READABLE, nothing);
    let it = &rig.event_loop;
    it.set_deadline(io, Duration::from_nanos(10)).unwrap();
    it.set_deadline(io, Duration::from_nanos(20)).unwrap();
    assert_eq!(rig.after_ns(19), [""; 0]);
    assert_eq!(rig.after_ns(1), ["io deadline"]);
    rig.event_loop.set_deadline(io, Duration::from_nanos(5)).unwrap();
    rig.event_loop.set_deadline(io, Duration::FOREVER).unwrap();
    rig.assert_silent();
    // Also when it is queued already.
    rig.event_loop.set_deadline(io, Duration::ZERO).unwrap();
    assert_eq!(rig.event_loop.poll(Duration::ZERO), Ok(1));
    rig.event_loop.set_deadline_at(io, Instant::NEVER).unwrap();
    assert_eq!(rig.pull(Kinds::all()), [""; 0]);
    rig.assert_silent();
}

fn deadline_and_idle_timeout_live_side_by_side(backend: BackendChoice) {
    let (mut rig, io, [ours, theirs]) = idle(backend, 10);
    rig.event_loop.set_deadline(io, Duration::from_nanos(25)).unwrap();
    assert_eq!(rig.after_ns(10), ["io timeout"]);
    (&theirs).write_all(b"x").unwrap();
    assert_eq!(rig.after_ns(5), ["io readable"]);
    drain(&ours);
    // Both are due: the DEADLINE is not lost, and with it comes no TIMEOUT that has to be told apart.
    assert_eq!(rig.after_ns(9), [""; 0]);
    assert_eq!(rig.after_ns(1), ["io deadline"]);
    assert_eq!(rig.after_ns(9), [""; 0]);
    assert_eq!(rig.after_ns(1), ["io timeout"]);
}

fn a_handler_removes_a_source_whose_timeout_is_queued(backend: BackendChoice) {
    let (mut rig, io, [ours, _theirs]) = idle(backend, 10);
    let fd = ours.as_raw_fd();
    rig.event_loop.set_deadline(io, Duration::from_nanos(10)).unwrap();
    rig.timer("timer", 5, 0, move |app, event_loop, _| {
        event_loop.remove(io).unwrap();
        let token = app.token("new", nothing);
        event_loop.add_io(fd, READABLE, handler, token).unwrap();
    });
    assert_eq!(rig.after_ns(10), ["timer 1"]);
    rig.assert_silent();
}

fn timeouts_keep_a_run_alive(backend: BackendChoice) {
    let (ours, _theirs) = pair();
    let mut rig = Rig::new(backend);
    let io = rig.io("io", &ours, PAUSED, |_, event_loop, event| {
        if event.ready == Ready::TIMEOUT {
            event_loop.remove(event.source).unwrap();
        }
    });
    assert_eq!(rig.run(), (vec![], Outcome::NothingLeft), "a paused source alone does not");
    rig.event_loop.set_deadline(io, Duration::from_secs(1)).unwrap();
    assert_eq!(rig.run(), (vec!["io deadline".to_owned()], Outcome::NothingLeft));
    rig.event_loop.modify_io(io, READABLE).unwrap();
    rig.event_loop.set_idle_timeout(io, Duration::from_secs(1)).unwrap();
    assert_eq!(rig.run(), (vec!["io timeout".to_owned()], Outcome::NothingLeft));
}
