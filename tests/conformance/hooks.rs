//! Around the turn: before and after the wait, idle, deferred.

use crate::harness::*;
use becket::{BackendChoice, Duration, Kinds, Outcome};

each_backend! {
    a_turn_has_its_order
    what_a_before_wait_handler_adds_counts_for_this_wait
    idle_comes_only_when_there_was_nothing_else
    deferred_comes_when_readiness_has_used_up_the_budget
}

// In the simulator too: what needs no real descriptor, thread or clock.
each_backend! { simulated too:
    hooks_of_one_kind_come_in_the_order_of_their_adding
    hooks_come_every_turn_until_they_are_off
    a_before_wait_source_does_not_keep_the_loop_awake
    poll_ends_before_the_wait_for_before_wait_events
    before_wait_events_come_before_the_wait_whatever_waits_in_the_queue
    a_hook_that_is_off_when_it_is_queued_is_silent
    a_handler_removes_hooks
    idle_keeps_the_loop_from_sleeping
    idle_that_ends_itself
    deferred_comes_once_after_this_turns_events
    deferred_from_a_deferred_handler_comes_next_turn
    deferred_before_the_turn_comes_in_it_without_a_sleep
    deferred_is_scheduled_once_however_often
    deferred_comes_also_when_the_budget_is_used_up
    late_events_come_level_by_level_too
    a_deferred_source_that_was_triggered_still_comes_this_turn
    a_triggered_hook_that_is_off_comes_too
    removed_late_sources_are_silent
}

// What would hang if it went wrong.
each_backend! { alone:
    a_triggered_hook_comes_next_turn
    a_before_wait_handler_removes_the_last_source
}

fn a_turn_has_its_order(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    // Added the other way round: the order is the turn's, not theirs.
    let deferred = rig.deferred("deferred", nothing);
    rig.after("after", nothing);
    let triggered = rig.wake("triggered", nothing);
    let woken = rig.wake("woken", nothing);
    rig.timer("timer", 1, 0, nothing);
    rig.io("io", &ours, READABLE, move |_, event_loop, _| event_loop.defer(deferred).unwrap());
    rig.before("before", nothing);
    rig.idle("idle", nothing);
    rig.event_loop.advance(Duration::from_nanos(1)).unwrap();
    rig.event_loop.trigger(triggered, PAUSED).unwrap();
    rig.event_loop.waker(woken).wake().unwrap();
    let order = ["before", "io readable", "timer 1", "woken triggered", "triggered triggered", "after", "deferred"];
    assert_eq!(rig.turn(), order);
    drain(&ours);
    assert_eq!(rig.turn(), ["before", "after", "idle"]);
}

fn hooks_of_one_kind_come_in_the_order_of_their_adding(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    for number in 0..3 {
        rig.idle(&format!("idle {number}"), nothing);
        rig.after(&format!("after {number}"), nothing);
        rig.before(&format!("before {number}"), nothing);
    }
    let turn = ["before 0", "before 1", "before 2", "after 0", "after 1", "after 2", "idle 0", "idle 1", "idle 2"];
    for _ in 0..3 {
        assert_eq!(rig.turn(), turn);
    }
}

fn hooks_come_every_turn_until_they_are_off(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let hooks = [rig.before("before", nothing), rig.after("after", nothing), rig.idle("idle", nothing)];
    assert_eq!(rig.turns(2), ["before", "after", "idle", "before", "after", "idle"]);
    for hook in hooks {
        rig.event_loop.enable_hook(hook, false).unwrap();
        rig.event_loop.enable_hook(hook, false).unwrap();
    }
    rig.assert_silent();
    for hook in hooks {
        rig.event_loop.enable_hook(hook, true).unwrap();
        rig.event_loop.enable_hook(hook, true).unwrap();
    }
    assert_eq!(rig.turn(), ["before", "after", "idle"]);
}

fn what_a_before_wait_handler_adds_counts_for_this_wait(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let fd = Fd(std::os::fd::AsRawFd::as_raw_fd(&ours));
    let mut rig = Rig::new(backend);
    rig.before("before", move |app, event_loop, event| {
        for name in ["new", "timer"] {
            let token = app.token(name, nothing);
            match name {
                "new" => event_loop.add_io(fd.0, READABLE, handler, token).unwrap(),
                _ => event_loop.add_timer(Duration::ZERO, Duration::ZERO, handler, token).unwrap(),
            };
        }
        event_loop.remove(event.source).unwrap();
    });
    assert_eq!(rig.turn(), ["before", "new readable", "timer 1"]);
}

fn a_before_wait_source_does_not_keep_the_loop_awake(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    rig.before("before", nothing);
    rig.after("after", nothing);
    let now = rig.now();
    assert_eq!(rig.turn_for(1000 * MS), ["before", "after"]);
    assert_eq!(rig.now(), now + 1000 * MS);
    // Nor does it keep the loop alive.
    assert_eq!(rig.run(), (vec![], Outcome::NothingLeft));
}

fn poll_ends_before_the_wait_for_before_wait_events(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    rig.before("before", nothing);
    rig.after("after", nothing);
    let (now, second) = (rig.now(), Duration::from_secs(1));
    assert_eq!(rig.event_loop.poll(second), Ok(1));
    assert_eq!(rig.pull(Kinds::all()), ["before"]);
    assert_eq!((rig.now(), rig.event_loop.statistics().turns), (now, 0));
    assert_eq!(rig.event_loop.poll(second), Ok(1));
    assert_eq!(rig.now(), now + 1000 * MS);
    assert_eq!(rig.pull(Kinds::all()), ["after"]);
    assert_eq!(rig.event_loop.poll(second), Ok(1));
    assert_eq!(rig.pull(Kinds::all()), ["before"]);
}

fn before_wait_events_come_before_the_wait_whatever_waits_in_the_queue(backend: BackendChoice) {
    let mut rig = Rig::with_budget(backend, 1);
    rig.before("before", |app, event_loop, _| {
        let turns = event_loop.statistics().turns;
        app.note(format!("{turns} turns"));
    });
    let wake = rig.wake("a", nothing);
    for value in 0..4 {
        rig.event_loop.post(wake, value).unwrap();
    }
    // Each turn has one event of its budget; the queue never becomes empty.
    let trace = rig.turns(4);
    let turns = ["before", "0 turns", "a post 0", "before", "1 turns", "a post 1", "before", "2 turns", "a post 2"];
    assert_eq!(trace[..9], turns);
    // And in the pull form with all kinds.
    for value in 4..8 {
        rig.event_loop.post(wake, value).unwrap();
    }
    let mut before = 0;
    for _ in 0..4 {
        let turns = rig.event_loop.statistics().turns;
        rig.event_loop.poll(Duration::ZERO).unwrap();
        if rig.event_loop.statistics().turns == turns {
            // It ended before the wait: for the before-wait event.
            let pulled = rig.pull(Kinds::all());
            assert!(pulled.contains(&"before".to_owned()), "{pulled:?}");
            before += 1;
            rig.event_loop.poll(Duration::ZERO).unwrap();
            let pulled = rig.pull(Kinds::all());
            assert!(!pulled.contains(&"before".to_owned()), "{pulled:?}");
        }
    }
    assert_eq!(before, 4);
}

fn a_hook_that_is_off_when_it_is_queued_is_silent(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let names = ["before", "after", "idle"];
    for (number, name) in names.into_iter().enumerate() {
        // The first of each kind turns the second one off, which is queued by then.
        let off = move |app: &mut App, event_loop: &becket::Loop<App>, _| {
            event_loop.enable_hook(app.handle(&format!("{name} 2")), false).unwrap();
        };
        for second in [false, true] {
            let full = if second { format!("{name} 2") } else { name.to_owned() };
            match (number, second) {
                (0, false) => rig.before(&full, off),
                (0, true) => rig.before(&full, nothing),
                (1, false) => rig.after(&full, off),
                (1, true) => rig.after(&full, nothing),
                (_, false) => rig.idle(&full, off),
                (_, true) => rig.idle(&full, nothing),
            };
        }
    }
    assert_eq!(rig.turns(2), ["before", "after", "idle", "before", "after", "idle"]);
    for name in names {
        rig.event_loop.remove(rig.app.handle(name)).unwrap();
        rig.event_loop.enable_hook(rig.app.handle(&format!("{name} 2")), true).unwrap();
    }
    assert_eq!(rig.turn(), ["before 2", "after 2", "idle 2"]);
}

fn a_handler_removes_hooks(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let all = |app: &mut App, event_loop: &becket::Loop<App>, _: becket::Event| {
        for number in 0..3 {
            event_loop.remove(app.handle(&format!("{number}"))).unwrap();
        }
    };
    for number in 0..3 {
        rig.before(&number.to_string(), all);
    }
    assert_eq!(rig.turn(), ["0"]);
    for number in 0..3 {
        rig.after(&number.to_string(), all);
    }
    assert_eq!(rig.turn(), ["0"]);
    for number in 0..3 {
        rig.idle(&number.to_string(), all);
    }
    assert_eq!(rig.turn(), ["0"]);
    assert_eq!(rig.event_loop.statistics().sources, 0);
    rig.assert_silent();
}

fn idle_comes_only_when_there_was_nothing_else(backend: BackendChoice) {
    let (ours, mut theirs) = pair();
    let mut rig = Rig::new(backend);
    let wake = rig.wake("wake", nothing);
    let deferred = rig.deferred("deferred", nothing);
    rig.timer("timer", 5, 5, nothing);
    rig.idle("idle", nothing);
    rig.io("io", &ours, READABLE, |_, _, _| {});
    assert_eq!(rig.turns(2), ["idle", "idle"]);
    std::io::Write::write_all(&mut theirs, b"x").unwrap();
    assert_eq!(rig.turns(2), ["io readable", "io readable"]);
    drain(&ours);
    assert_eq!(rig.turn(), ["idle"]);
    assert_eq!(rig.after_ns(5), ["timer 1"]);
    rig.event_loop.post(wake, 1).unwrap();
    assert_eq!(rig.turn(), ["wake post 1"]);
    rig.event_loop.trigger(wake, PAUSED).unwrap();
    assert_eq!(rig.turn(), ["wake triggered"]);
    rig.event_loop.defer(deferred).unwrap();
    assert_eq!(rig.turn(), ["deferred"]);
    assert_eq!(rig.turn(), ["idle"]);
    // What is dropped, since it concerns nobody any more, was nothing.
    rig.event_loop.post(wake, 1).unwrap();
    rig.event_loop.remove(wake).unwrap();
    assert_eq!(rig.turn(), ["idle"]);
}

fn idle_keeps_the_loop_from_sleeping(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let idle = rig.idle("idle", nothing);
    let now = rig.now();
    assert_eq!(rig.turn_for(1000 * MS), ["idle"]);
    assert_eq!(rig.now(), now);
    rig.event_loop.enable_hook(idle, false).unwrap();
    rig.assert_silent();
}

fn idle_that_ends_itself(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let mut left = 3;
    rig.idle("idle", move |_, event_loop, event| {
        left -= 1;
        event_loop.enable_hook(event.source, left > 0).unwrap();
    });
    assert_eq!(rig.run(), (vec!["idle".to_owned(); 3], Outcome::NothingLeft));
}

fn deferred_comes_once_after_this_turns_events(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let deferred = rig.deferred("deferred", nothing);
    let wake = rig.wake("wake", move |app, event_loop, event| {
        if event.value == 1 {
            event_loop.defer(deferred).unwrap();
            // What a handler posts now belongs to this turn as well.
            event_loop.post(app.handle("wake"), 3).unwrap();
        }
    });
    rig.event_loop.post(wake, 1).unwrap();
    rig.event_loop.post(wake, 2).unwrap();
    assert_eq!(rig.turn(), ["wake post 1", "wake post 2", "wake post 3", "deferred"]);
    rig.assert_silent();
}

fn deferred_from_a_deferred_handler_comes_next_turn(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let other = rig.deferred("other", nothing);
    let own = rig.deferred("own", move |app, event_loop, event| {
        event_loop.defer(other).unwrap();
        if !std::mem::replace(&mut app.acted, true) {
            event_loop.defer(event.source).unwrap();
        }
    });
    rig.event_loop.defer(own).unwrap();
    let now = rig.now();
    assert_eq!(rig.turn_for(1000 * MS), ["own"]);
    assert_eq!(rig.turn_for(1000 * MS), ["other", "own"]);
    assert_eq!(rig.turn_for(1000 * MS), ["other"]);
    assert_eq!(rig.now(), now, "none of these turns slept");
    rig.assert_silent();
}

fn deferred_before_the_turn_comes_in_it_without_a_sleep(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let deferred = rig.deferred("deferred", nothing);
    rig.event_loop.defer(deferred).unwrap();
    let now = rig.now();
    assert_eq!(rig.run(), (vec!["deferred".to_owned()], Outcome::NothingLeft));
    assert_eq!(rig.now(), now);
}

fn deferred_is_scheduled_once_however_often(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let deferred = rig.deferred("deferred", nothing);
    for _ in 0..3 {
        rig.event_loop.defer(deferred).unwrap();
    }
    assert_eq!(rig.turns(3), ["deferred"]);
}

fn deferred_comes_also_when_the_budget_is_used_up(backend: BackendChoice) {
    let mut rig = Rig::with_budget(backend, 2);
    let deferred = rig.deferred("deferred", nothing);
    let wake = rig.wake("wake", move |_, event_loop, _| event_loop.defer(deferred).unwrap());
    for value in 0..4 {
        rig.event_loop.post(wake, value).unwrap();
    }
    let trace = ["wake post 0", "wake post 1", "deferred", "wake post 2", "wake post 3", "deferred"];
    assert_eq!(rig.turns(3), trace);
}

fn deferred_comes_when_readiness_has_used_up_the_budget(backend: BackendChoice) {
    let pairs = [(); 3].map(|()| readable());
    let mut rig = Rig::with_budget(backend, 1);
    let deferred = rig.deferred("deferred", nothing);
    for (ours, _) in &pairs {
        rig.io("io", ours, READABLE, move |_, event_loop, event| {
            event_loop.remove(event.source).unwrap();
            event_loop.defer(deferred).unwrap();
        });
    }
    for _ in 0..3 {
        assert_eq!(rig.turn(), ["io readable", "deferred"]);
    }
    assert_eq!(rig.turn(), [""; 0]);
}

fn late_events_come_level_by_level_too(backend: BackendChoice) {
    // Whatever the turn has dispatched before.
    for posts in 0..8 {
        let mut rig = Rig::new(backend);
        let wake = rig.wake("wake", nothing);
        for (name, level) in [("low", 2), ("middle", 1), ("first", 0), ("second", 0)] {
            let source = rig.deferred(name, nothing);
            rig.event_loop.set_level(source, level).unwrap();
            rig.event_loop.defer(source).unwrap();
        }
        for value in 0..posts {
            rig.event_loop.post(wake, value).unwrap();
        }
        let trace = rig.turn();
        assert_eq!(trace[posts as usize..], ["first", "second", "middle", "low"], "after {posts} posts");
    }
}

fn a_deferred_source_that_was_triggered_still_comes_this_turn(backend: BackendChoice) {
    for trigger_first in [false, true] {
        let mut rig = Rig::new(backend);
        let deferred = rig.deferred("deferred", nothing);
        let wake = rig.wake("wake", move |_, event_loop, _| {
            if trigger_first {
                event_loop.trigger(deferred, PAUSED).unwrap();
            }
            event_loop.defer(deferred).unwrap();
            if !trigger_first {
                event_loop.trigger(deferred, PAUSED).unwrap();
            }
        });
        rig.event_loop.post(wake, 1).unwrap();
        assert_eq!(rig.turn(), ["wake post 1", "deferred triggered"], "trigger first: {trigger_first}");
        rig.assert_silent();
    }
}

fn a_triggered_hook_comes_next_turn(backend: BackendChoice) {
    for kind in ["before", "after", "idle", "deferred"] {
        let mut rig = Rig::new(backend);
        let source = match kind {
            "before" => rig.before("a", nothing),
            "after" => rig.after("a", nothing),
            "idle" => rig.idle("a", nothing),
            _ => rig.deferred("a", nothing),
        };
        rig.turn();
        rig.event_loop.trigger(source, PAUSED).unwrap();
        let now = rig.now();
        assert_eq!(rig.turn_for(1000 * MS), ["a triggered"], "{kind}");
        if kind != "before" {
            assert_eq!(rig.now(), now, "{kind}: the wait slept over a trigger");
        }
        // It keeps the loop alive until it is delivered, in its own handler too.
        let mut rig = Rig::new(backend);
        let again = |app: &mut App, event_loop: &becket::Loop<App>, event: becket::Event| {
            if !std::mem::replace(&mut app.acted, true) {
                event_loop.trigger(event.source, PAUSED).unwrap();
            }
        };
        let source = match kind {
            "before" => rig.before("a", again),
            "after" => rig.after("a", again),
            "idle" => continue, // that never lets a run end
            _ => rig.deferred("a", again),
        };
        rig.event_loop.trigger(source, PAUSED).unwrap();
        rig.timer("late", 1000 * MS, 0, |_, event_loop, _| event_loop.stop().unwrap());
        let now = rig.now();
        rig.turn();
        rig.turn();
        assert_eq!(rig.now(), now, "{kind}: the wait slept over a trigger of its own handler");
        rig.event_loop.remove(rig.app.handle("late")).unwrap();
        rig.event_loop.trigger(source, PAUSED).unwrap();
        assert!(rig.run().0.contains(&"a triggered".to_owned()), "{kind}: the run ended over a trigger");
    }
}

fn a_triggered_hook_that_is_off_comes_too(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    for source in [rig.before("before", nothing), rig.after("after", nothing), rig.idle("idle", nothing)] {
        rig.event_loop.enable_hook(source, false).unwrap();
        rig.event_loop.trigger(source, PAUSED).unwrap();
    }
    assert_eq!(rig.turn(), ["before triggered", "after triggered", "idle triggered"]);
    rig.assert_silent();
}

fn removed_late_sources_are_silent(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    for name in ["a", "b"] {
        let other = if name == "a" { "b" } else { "a" };
        let source = rig.deferred(name, move |app, event_loop, event| {
            event_loop.remove(app.handle(other)).unwrap();
            event_loop.remove(event.source).unwrap();
        });
        rig.event_loop.defer(source).unwrap();
    }
    assert_eq!(rig.turn(), ["a"]);
    rig.assert_silent();
}

fn a_before_wait_handler_removes_the_last_source(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let timer = rig.timer("timer", 3_600_000 * MS, 0, nothing);
    rig.before("before", move |_, event_loop, _| {
        let _ = event_loop.remove(timer);
    });
    let now = rig.now();
    let (trace, outcome) = rig.run();
    assert_eq!((trace[0].as_str(), outcome), ("before", Outcome::NothingLeft));
    assert_eq!(rig.now(), now, "it did not sleep either");
}
