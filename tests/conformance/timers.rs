//! Timers: never early, in order, without drift.

use crate::harness::*;
use becket::{BackendChoice, Config, Duration, Error, Instant, Kinds};

each_backend! {
    a_real_timer_is_never_early
    relative_delays_count_from_a_fresh_clock_reading
    delay_0_comes_next_turn_and_starves_nobody
    the_clock_of_a_real_loop_cannot_be_moved
    virtual_time_does_not_reach_its_end
}

// In the simulator too: what needs no real descriptor, thread or clock.
each_backend! { simulated too:
    a_timer_comes_once_and_never_early
    a_timer_is_waited_for_exactly
    a_point_in_time_that_has_passed_comes_next_turn
    equal_deadlines_come_in_arming_order
    random_timers_come_as_in_a_sorted_list
    periods_do_not_drift
    missed_periods_come_as_one_event_with_their_number
    expirations_that_wait_in_the_queue_add_up
    a_timer_of_another_handler_with_delay_0_comes_next_turn
    disarming_forgets_what_is_queued
    arming_forgets_what_is_queued
    a_handler_arms_its_own_timer
    a_handler_disarms_its_own_timer
    a_handler_removes_a_timer_that_is_due_too
    the_slot_stays_until_it_is_removed
    a_timer_can_be_added_disarmed
    another_period_from_the_next_arming_on
    very_long_delays_do_not_wrap
    very_long_periods_are_kept
    periods_beyond_counting_are_told
    a_timer_can_be_triggered
}

// What would hang if it went wrong.
each_backend! { alone:
    time_has_an_end_and_nothing_hangs_there
}

fn a_timer_comes_once_and_never_early(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.timer("a", 10 * MS, 0, nothing);
    assert_eq!(rig.event_loop.timer_deadline(a).unwrap().as_nanos(), rig.now() + 10 * MS);
    assert_eq!(rig.turn(), [""; 0]);
    assert_eq!(rig.after_ns(10 * MS - 1), [""; 0], "a nanosecond early");
    assert_eq!(rig.after_ns(1), ["a 1"]);
    assert_eq!(rig.event_loop.timer_deadline(a), Ok(Instant::NEVER));
    rig.assert_silent();
}

fn a_timer_is_waited_for_exactly(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let start = rig.now();
    rig.timer("late", 1_234_567_891, 0, nothing);
    rig.timer("early", 7, 0, nothing);
    assert_eq!(rig.turn_for(u64::MAX), ["early 1"]);
    assert_eq!(rig.now(), start + 7);
    // Not longer than the caller's patience.
    assert_eq!(rig.turn_for(MS), [""; 0]);
    assert_eq!(rig.now(), start + 7 + MS);
    assert_eq!(rig.run().0, ["late 1"]);
    assert_eq!(rig.now(), start + 1_234_567_891);
}

fn a_real_timer_is_never_early(backend: BackendChoice) {
    let mut rig = Rig::with(&Config { backend, ..Config::default() });
    for delay in [0, 1, 999, 100_000, 1_500_001, 7 * MS] {
        let start = std::time::Instant::now();
        rig.timer("a", delay, 0, |_, event_loop, event| event_loop.remove(event.source).unwrap());
        assert_eq!(rig.run().0, ["a 1"]);
        assert!(start.elapsed().as_nanos() >= u128::from(delay), "{delay} ns took {:?}", start.elapsed());
    }
}

fn relative_delays_count_from_a_fresh_clock_reading(backend: BackendChoice) {
    // A handler that takes long arms a timer: its delay begins then, not at the turn's beginning.
    let mut rig = Rig::with(&Config { backend, ..Config::default() });
    let a = rig.timer("a", u64::MAX, 0, nothing);
    rig.timer("slow", 0, 0, move |_, event_loop, _| {
        let turn = event_loop.now().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(event_loop.now().unwrap(), turn, "the turn's time stands still");
        event_loop.arm_timer(a, Duration::from_millis(5), Duration::ZERO).unwrap();
        let deadline = event_loop.timer_deadline(a).unwrap();
        assert!(deadline.since(turn) >= Duration::from_millis(25), "{:?}", deadline.since(turn));
    });
    assert_eq!(rig.run().0, ["slow 1", "a 1"]);
}

fn a_point_in_time_that_has_passed_comes_next_turn(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let [a, b, c] = ["a", "b", "c"].map(|name| rig.timer(name, u64::MAX, 0, nothing));
    let (now, never) = (rig.now(), Duration::ZERO);
    rig.event_loop.arm_timer_at(a, Instant::from_nanos(now), never).unwrap();
    rig.event_loop.arm_timer_at(b, Instant::from_nanos(0), never).unwrap();
    rig.event_loop.arm_timer_at(c, Instant::from_nanos(now + 1), never).unwrap();
    assert_eq!(rig.turn(), ["b 1", "a 1"]);
    assert_eq!(rig.after_ns(1), ["c 1"]);
}

fn equal_deadlines_come_in_arming_order(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let order = [7, 3, 9, 0, 5, 8, 1, 6, 2, 4];
    let timers: Vec<_> = (0..10).map(|number| rig.timer(&format!("{number}"), u64::MAX, 0, nothing)).collect();
    for number in order {
        rig.event_loop.arm_timer(timers[number], Duration::from_millis(3), Duration::ZERO).unwrap();
    }
    assert_eq!(rig.after_ns(3 * MS), order.map(|number| format!("{number} 1")));
    // Armed again is armed last; whether it was armed by a delay or for a point does not matter.
    for number in order {
        rig.event_loop.arm_timer(timers[number], Duration::from_millis(3), Duration::ZERO).unwrap();
    }
    let at = Instant::from_nanos(rig.now() + 3 * MS);
    rig.event_loop.arm_timer_at(timers[7], at, Duration::ZERO).unwrap();
    let trace = rig.after_ns(3 * MS);
    assert_eq!((trace[0].as_str(), trace[9].as_str()), ("3 1", "7 1"));
}

fn random_timers_come_as_in_a_sorted_list(backend: BackendChoice) {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut rig = Rig::sized::<200, 0>(&virtual_config(backend));
        let timers: Vec<_> = (0..200).map(|number| rig.timer(&format!("{number}"), u64::MAX, 0, nothing)).collect();
        // The model: deadline and arming order of each armed timer.
        let mut model = vec![None; 200];
        for order in 0..1000 {
            let number = random.below(200) as usize;
            if random.below(4) == 0 {
                rig.event_loop.disarm_timer(timers[number]).unwrap();
                model[number] = None;
            } else {
                // Few distinct values: many are equal.
                let delay = random.below(50) * MS;
                rig.event_loop.arm_timer(timers[number], Duration::from_nanos(delay), Duration::ZERO).unwrap();
                model[number] = Some((rig.now() + delay, order));
            }
            if random.below(100) == 0 {
                rig.event_loop.advance(Duration::from_nanos(random.below(5) * MS)).unwrap();
                check_due(&mut rig, &mut model, seed);
            }
        }
        while model.iter().any(Option::is_some) {
            rig.event_loop.advance(Duration::from_millis(random.below(20))).unwrap();
            check_due(&mut rig, &mut model, seed);
        }
    }
}

fn check_due(rig: &mut Rig, model: &mut [Option<(u64, i32)>], seed: u64) {
    let now = rig.now();
    let mut due: Vec<_> = (0..model.len()).filter(|it| model[*it].is_some_and(|(at, _)| at <= now)).collect();
    due.sort_by_key(|it| model[*it]);
    let expected: Vec<_> = due.iter().map(|number| format!("{number} 1")).collect();
    assert_eq!(rig.turn(), expected, "seed {seed}");
    due.into_iter().for_each(|number| model[number] = None);
}

fn periods_do_not_drift(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let start = rig.now();
    let a = rig.timer("a", 10 * MS, 3 * MS, nothing);
    // Late by something else each time; the next deadline is where it belongs.
    for count in 0..100 {
        let deadline = rig.event_loop.timer_deadline(a).unwrap().as_nanos();
        assert_eq!(deadline, start + 10 * MS + count * 3 * MS);
        let late = count * 1_234_567 % (3 * MS);
        assert_eq!(rig.after_ns(deadline + late - rig.now()), ["a 1"]);
    }
}

fn missed_periods_come_as_one_event_with_their_number(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let start = rig.now();
    let a = rig.timer("a", 10, 10, nothing);
    for (span, told) in [(10, 1), (35, 3), (5, 1), (1000, 100), (9, 0), (1, 1)] {
        let told = if told == 0 { vec![] } else { vec![format!("a {told}")] };
        assert_eq!(rig.after_ns(span), told, "after {span} ns");
    }
    assert_eq!(rig.event_loop.timer_deadline(a).unwrap().as_nanos(), start + 1070);
}

fn expirations_that_wait_in_the_queue_add_up(backend: BackendChoice) {
    let mut rig = Rig::with_budget(backend, 1);
    rig.timer("a", 1, 0, nothing);
    rig.timer("b", 10, 10, nothing);
    assert_eq!(rig.after_ns(10), ["a 1"]);
    rig.event_loop.advance(Duration::from_nanos(25)).unwrap();
    assert_eq!(rig.turn(), ["b 3"]);
    assert_eq!(rig.turn(), [""; 0]);
}

fn delay_0_comes_next_turn_and_starves_nobody(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    rig.timer("a", 0, 0, |_, event_loop, event| {
        event_loop.arm_timer(event.source, Duration::ZERO, Duration::ZERO).unwrap();
    });
    rig.io("io", &ours, READABLE, nothing);
    assert_eq!(rig.turns(3), ["io readable", "a 1", "io readable", "a 1", "io readable", "a 1"]);
}

fn a_timer_of_another_handler_with_delay_0_comes_next_turn(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    rig.timer("a", 1, 0, |app, event_loop, _| {
        let token = app.token("new", nothing);
        event_loop.add_timer(Duration::ZERO, Duration::ZERO, handler, token).unwrap();
    });
    assert_eq!(rig.after_ns(1), ["a 1"]);
    let now = rig.now();
    assert_eq!(rig.turn_for(u64::MAX), ["new 1"]);
    assert_eq!(rig.now(), now);
}

fn disarming_forgets_what_is_queued(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let b = rig.timer("b", 2, 2, nothing);
    rig.timer("a", 1, 0, move |_, event_loop, _| event_loop.disarm_timer(b).unwrap());
    assert_eq!(rig.after_ns(2), ["a 1"]);
    rig.assert_silent();
    rig.event_loop.disarm_timer(b).unwrap(); // again: nothing
    rig.event_loop.arm_timer(b, Duration::from_nanos(1), Duration::ZERO).unwrap();
    assert_eq!(rig.after_ns(1), ["b 1"], "nothing of what was forgotten");
}

fn arming_forgets_what_is_queued(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let b = rig.timer("b", 2, 2, nothing);
    rig.timer("a", 1, 0, move |_, event_loop, _| {
        event_loop.arm_timer(b, Duration::from_nanos(5), Duration::ZERO).unwrap();
    });
    assert_eq!(rig.after_ns(2), ["a 1"]);
    assert_eq!(rig.after_ns(4), [""; 0]);
    assert_eq!(rig.after_ns(1), ["b 1"]);
}

fn a_handler_arms_its_own_timer(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    // A periodic one becomes one of another period, once, and then rests.
    let mut first = true;
    rig.timer("a", 10, 10, move |_, event_loop, event| {
        let delay = if std::mem::replace(&mut first, false) { Duration::from_nanos(3) } else { Duration::FOREVER };
        event_loop.arm_timer(event.source, delay, Duration::ZERO).unwrap();
    });
    assert_eq!(rig.after_ns(10), ["a 1"]);
    assert_eq!(rig.after_ns(2), [""; 0]);
    assert_eq!(rig.after_ns(1), ["a 1"]);
    rig.assert_silent();
}

fn a_handler_disarms_its_own_timer(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    rig.timer("a", 10, 10, |_, event_loop, event| event_loop.disarm_timer(event.source).unwrap());
    assert_eq!(rig.after_ns(10), ["a 1"]);
    rig.assert_silent();
}

fn a_handler_removes_a_timer_that_is_due_too(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let b = rig.timer("b", 2, 2, nothing);
    rig.timer("a", 1, 0, move |app, event_loop, event| {
        event_loop.remove(b).unwrap();
        event_loop.remove(event.source).unwrap();
        // Their slots have new owners, which hear nothing of what was due.
        for name in ["c", "d"] {
            let token = app.token(name, nothing);
            event_loop.add_timer(Duration::from_nanos(5), Duration::ZERO, handler, token).unwrap();
        }
    });
    assert_eq!(rig.after_ns(2), ["a 1"]);
    assert_eq!(rig.after_ns(4), [""; 0]);
    assert_eq!(rig.after_ns(1), ["c 1", "d 1"]);
}

fn the_slot_stays_until_it_is_removed(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.timer("a", 1, 0, nothing);
    for _ in 0..3 {
        assert_eq!(rig.after_ns(1), ["a 1"]);
        assert_eq!(rig.event_loop.statistics().sources, 1);
        rig.event_loop.arm_timer(a, Duration::from_nanos(1), Duration::ZERO).unwrap();
    }
    rig.event_loop.remove(a).unwrap();
    assert_eq!(rig.event_loop.arm_timer(a, Duration::ZERO, Duration::ZERO), Err(Error::STALE));
    rig.assert_silent();
}

fn a_timer_can_be_added_disarmed(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.timer("a", u64::MAX, 5, nothing);
    assert_eq!(rig.event_loop.timer_deadline(a), Ok(Instant::NEVER));
    rig.assert_silent();
    assert_eq!(rig.run(), (vec![], becket::Outcome::NothingLeft));
}

fn another_period_from_the_next_arming_on(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.timer("a", 5, 5, nothing);
    assert_eq!(rig.after_ns(10), ["a 2"]);
    rig.event_loop.arm_timer(a, Duration::from_nanos(7), Duration::from_nanos(2)).unwrap();
    assert_eq!(rig.after_ns(6), [""; 0]);
    assert_eq!(rig.after_ns(1), ["a 1"]);
    assert_eq!(rig.after_ns(2), ["a 1"]);
    // A period without end is none.
    rig.event_loop.arm_timer(a, Duration::from_nanos(1), Duration::FOREVER).unwrap();
    assert_eq!(rig.after_ns(1), ["a 1"]);
    assert_eq!(rig.event_loop.timer_deadline(a), Ok(Instant::NEVER));
}

fn very_long_delays_do_not_wrap(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    for delay in [u64::MAX - 1, u64::MAX - 1_000_000_000, u64::MAX / 2] {
        rig.timer("long", delay, 0, nothing);
    }
    rig.timer("short", 2_000 * MS, 0, nothing);
    rig.assert_silent();
    assert_eq!(rig.turn_for(u64::MAX), ["short 1"]);
    // They are armed: that far off, and no further.
    rig.event_loop.advance(Duration::from_nanos(u64::MAX / 2)).unwrap();
    assert_eq!(rig.turn(), ["long 1"]);
    assert_eq!(rig.turn_for(u64::MAX), ["long 1", "long 1"]);
}

fn very_long_periods_are_kept(backend: BackendChoice) {
    for period in [1 << 62, 1 << 63, u64::MAX - 1] {
        let mut rig = Rig::new(backend);
        let a = rig.timer("a", 5, period, nothing);
        assert_eq!(rig.after_ns(5), ["a 1"]);
        let deadline = rig.event_loop.timer_deadline(a).unwrap();
        assert!(deadline > Instant::from_nanos(period.min(1 << 63)), "{period}: {deadline:?}");
        rig.assert_silent();
    }
}

fn time_has_an_end_and_nothing_hangs_there(backend: BackendChoice) {
    let (ours, _theirs) = pair();
    for period in [0, 1, 1000 * MS, 1 << 63, u64::MAX - 1] {
        let mut rig = Rig::new(backend);
        let a = rig.timer("a", 1, period, nothing);
        let io = rig.io("io", &ours, READABLE, nothing);
        rig.event_loop.set_idle_timeout(io, Duration::from_secs(1)).unwrap();
        for _ in 0..3 {
            rig.event_loop.advance(Duration::FOREVER).unwrap();
            rig.turn();
        }
        rig.event_loop.arm_timer(a, Duration::from_nanos(u64::MAX - 1), Duration::from_nanos(period)).unwrap();
        rig.turn();
        rig.turn();
    }
}

fn periods_beyond_counting_are_told(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    rig.timer("a", 1, 1, nothing);
    let trace = rig.after_ns((1 << 63) + 5);
    assert_eq!(trace.len(), 1, "the event is lost");
    assert_eq!(trace, [format!("a {}", i64::MAX)]);
}

fn a_timer_can_be_triggered(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.timer("a", 5, 0, nothing);
    rig.event_loop.trigger(a, PAUSED).unwrap();
    assert_eq!(rig.turn(), ["a 0 triggered"]);
    assert_eq!(rig.after_ns(5), ["a 1"], "it goes on as it was armed");
    // Both at once are one event.
    rig.event_loop.arm_timer(a, Duration::from_nanos(5), Duration::ZERO).unwrap();
    rig.event_loop.trigger(a, PAUSED).unwrap();
    assert_eq!(rig.after_ns(5), ["a 1 triggered"]);
    // Disarmed or not, a trigger is delivered.
    rig.event_loop.trigger(a, PAUSED).unwrap();
    rig.event_loop.poll(Duration::ZERO).unwrap();
    rig.event_loop.disarm_timer(a).unwrap();
    assert_eq!(rig.pull(Kinds::all()), ["a 0 triggered"]);
}

/// NEVER is no point in time.
fn virtual_time_does_not_reach_its_end(backend: BackendChoice) {
    let rig = Rig::new(backend);
    rig.event_loop.advance(Duration::FOREVER).unwrap();
    assert_eq!(rig.event_loop.now(), Ok(Instant::from_nanos(u64::MAX - 1)));
}

fn the_clock_of_a_real_loop_cannot_be_moved(backend: BackendChoice) {
    let rig = Rig::with(&Config { backend, ..Config::default() });
    assert_eq!(rig.event_loop.advance(Duration::from_secs(1)), Err(Error::UNSUPPORTED));
}
