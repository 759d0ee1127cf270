//! Levels, the bound on starvation, and the budget.

use crate::harness::*;
use becket::{BackendChoice, Duration};

each_backend! {
    a_lower_level_that_appears_in_the_middle_of_a_turn
    level_0_goes_first
    nobody_starves_at_a_full_budget
    a_budget_spans_turns
}

// In the simulator too: what needs no real descriptor, thread or clock.
each_backend! { simulated too:
    fifo_inside_a_level_counted_from_queueing
    what_is_left_over_goes_before_what_is_new
    a_level_counts_from_the_next_queueing
    lower_levels_get_every_eighth_dispatch
    the_counter_of_dispatches_survives_turns
    lower_levels_take_turns
    a_level_that_is_not_one
}

fn level_0_goes_first(backend: BackendChoice) {
    let pairs: Vec<_> = (0..4).map(|_| readable()).collect();
    let mut rig = Rig::new(backend);
    for (number, (ours, _)) in pairs.iter().enumerate() {
        let level = 3 - number as u8;
        let source = rig.io(&format!("level {level}"), ours, READABLE, nothing);
        rig.event_loop.set_level(source, level).unwrap();
    }
    let order = ["level 0 readable", "level 1 readable", "level 2 readable", "level 3 readable"];
    assert_eq!(rig.turn(), order);
    rig.event_loop.poll(Duration::ZERO).unwrap();
    let levels: Vec<_> = std::iter::from_fn(|| rig.event_loop.next(becket::Kinds::all()).unwrap()).collect();
    assert_eq!(levels.iter().map(|event| event.level).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

fn fifo_inside_a_level_counted_from_queueing(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let wakes: Vec<_> = (0..3).map(|number| rig.wake(&format!("{number}"), nothing)).collect();
    for (wake, value) in [(2, 1), (0, 2), (1, 3), (0, 4), (2, 5)] {
        rig.event_loop.post(wakes[wake], value).unwrap();
    }
    assert_eq!(rig.turn(), ["2 post 1", "0 post 2", "1 post 3", "0 post 4", "2 post 5"]);
    for number in [1, 2, 0, 1] {
        rig.event_loop.trigger(wakes[number], PAUSED).unwrap();
    }
    assert_eq!(rig.turn(), ["1 triggered", "2 triggered", "0 triggered"]);
}

fn what_is_left_over_goes_before_what_is_new(backend: BackendChoice) {
    let mut rig = Rig::with_budget(backend, 2);
    let wakes: Vec<_> = (0..5).map(|number| rig.wake(&format!("{number}"), nothing)).collect();
    for number in [0, 1, 2, 3] {
        rig.event_loop.trigger(wakes[number], PAUSED).unwrap();
    }
    assert_eq!(rig.turn(), ["0 triggered", "1 triggered"]);
    // 2 and 3 are queued since the last turn. 0 is new; 3 is merged and keeps its place.
    for number in [0, 3, 4] {
        rig.event_loop.trigger(wakes[number], PAUSED).unwrap();
    }
    assert_eq!(rig.turns(3), ["2 triggered", "3 triggered", "0 triggered", "4 triggered"]);
}

fn a_level_counts_from_the_next_queueing(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.wake("a", nothing);
    let b = rig.wake("b", move |_, event_loop, _| event_loop.set_level(a, 0).unwrap());
    let c = rig.wake("c", nothing);
    rig.event_loop.set_level(a, 3).unwrap();
    rig.event_loop.set_level(c, 1).unwrap();
    for source in [a, b, c] {
        rig.event_loop.trigger(source, PAUSED).unwrap();
    }
    assert_eq!(rig.turn(), ["b triggered", "c triggered", "a triggered"], "a is queued at level 3");
    for source in [c, a] {
        rig.event_loop.trigger(source, PAUSED).unwrap();
    }
    assert_eq!(rig.turn(), ["a triggered", "c triggered"]);
}

/// Posts to sources of the four levels, named by them.
fn posts(backend: BackendChoice, budget: u32, counts: [usize; 4]) -> Rig {
    let config = becket::Config { budget, ..virtual_config(backend) };
    let mut rig = Rig::sized::<8, 256>(&config);
    for (level, count) in counts.into_iter().enumerate() {
        let source = rig.wake(&level.to_string(), nothing);
        rig.event_loop.set_level(source, level as u8).unwrap();
        for _ in 0..count {
            rig.event_loop.post(source, 0).unwrap();
        }
    }
    rig
}

fn levels(trace: Vec<String>) -> String {
    trace.into_iter().map(|text| text[..1].to_owned()).collect()
}

fn lower_levels_get_every_eighth_dispatch(backend: BackendChoice) {
    let mut rig = posts(backend, 0, [20, 0, 0, 4]);
    assert_eq!(levels(rig.turn()), "000000030000000300000033");
}

fn the_counter_of_dispatches_survives_turns(backend: BackendChoice) {
    let mut rig = posts(backend, 3, [20, 2, 0, 0]);
    let turns: Vec<_> = (0..6).map(|_| levels(rig.turn())).collect();
    assert_eq!(turns, ["000", "000", "010", "000", "000", "100"]);
}

fn lower_levels_take_turns(backend: BackendChoice) {
    let mut rig = posts(backend, 0, [60, 3, 3, 3]);
    let trace = levels(rig.turn());
    let lower: String = trace.chars().take(60).filter(|level| *level != '0').collect();
    assert_eq!(lower, "1231231", "every eighth of 60");
    // Only who waits takes part, and a middle level starves its lower ones as little.
    let mut rig = posts(backend, 0, [0, 20, 0, 4]);
    assert_eq!(levels(rig.turn()), "111111131111111311111133");
}

fn nobody_starves_at_a_full_budget(backend: BackendChoice) {
    // Level 0 is always ready and alone more than the budget: the one of level 3 waits for eight dispatches at most.
    let pairs: Vec<_> = (0..9).map(|_| readable()).collect();
    let mut rig = Rig::with_budget(backend, 4);
    for (number, (ours, _)) in pairs.iter().enumerate() {
        let source = rig.io(if number == 8 { "low" } else { "high" }, ours, READABLE, nothing);
        rig.event_loop.set_level(source, if number == 8 { 3 } else { 0 }).unwrap();
    }
    let trace = rig.turns(20);
    assert_eq!(trace.len(), 80);
    for (number, window) in trace.windows(9).enumerate() {
        assert!(window.contains(&"low readable".to_owned()), "from {number} on");
    }
}

fn a_budget_spans_turns(backend: BackendChoice) {
    let pairs: Vec<_> = (0..10).map(|_| readable()).collect();
    let mut rig = Rig::with_budget(backend, 4);
    for (number, (ours, _)) in pairs.iter().enumerate() {
        rig.io(&number.to_string(), ours, READABLE, |_, event_loop, event| event_loop.remove(event.source).unwrap());
    }
    let turns: Vec<_> = (0..4).map(|_| rig.turn()).collect();
    assert_eq!(turns.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2, 0]);
    let mut all = turns.concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 10, "each once");
    // The pull form has the same bound; poll begins a new turn.
    let mut rig = posts(backend, 4, [6, 0, 0, 0]);
    assert_eq!(rig.event_loop.poll(Duration::ZERO), Ok(6));
    assert_eq!(rig.pull(becket::Kinds::all()).len(), 4);
    assert_eq!(rig.event_loop.poll(Duration::from_secs(1)), Ok(2));
    assert_eq!(rig.pull(becket::Kinds::all()).len(), 2);
    rig.assert_silent();
}

fn a_level_that_is_not_one(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let a = rig.wake("a", nothing);
    for level in [4, 5, 255] {
        assert_eq!(rig.event_loop.set_level(a, level), Err(becket::Error::INVALID));
    }
    assert_eq!(rig.event_loop.level(a), Ok(0));
}

/// It has its eighth dispatch although more is ready than that, and levels were no matter when the turn began; also when its
/// source has none any more by then.
fn a_lower_level_that_appears_in_the_middle_of_a_turn(backend: BackendChoice) {
    for stays in [true, false] {
        let pairs = [(); 16].map(|()| readable());
        let mut rig = Rig::new(backend);
        let low = rig.wake("low", nothing);
        let posted = std::rc::Rc::new(std::cell::Cell::new(false));
        for (ours, _) in &pairs {
            let posted = posted.clone();
            rig.io("io", ours, READABLE, move |_, event_loop, event| {
                event_loop.remove(event.source).unwrap();
                if !posted.replace(true) {
                    event_loop.set_level(low, 2).unwrap();
                    event_loop.post(low, 1).unwrap();
                    if !stays {
                        event_loop.set_level(low, 0).unwrap();
                    }
                }
            });
        }
        let trace = rig.turns(3);
        assert_eq!(trace.len(), 17);
        assert_eq!(trace[7], "low post 1", "{trace:?}");
    }
}
