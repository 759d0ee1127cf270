//! Random programs of operations against a small model, in the simulator, with what is
//! certain there. A failure prints its seed.
//!
//! What is checked of each says `programs/operations.rs`; here besides: `run` goes on exactly as long as an operation is there
//! that keeps the loop alive, and what can be done is done. (Among everything else that a loop does, on every backend:
//! `model.rs`.)
//!
//! `BECKET_SEED` runs one seed alone, `BECKET_SEEDS` so many.
#![cfg(all(feature = "simulator", feature = "operations"))]

// It has more than this test uses.
#[allow(dead_code)]
#[path = "programs/operations.rs"]
mod operations;

use becket::{Call, Config, Duration, Error, Event, Kinds, Loop, Outcome, Quirk, Simulator, SimulatorMemory, Storage};
use operations::{Operations, Outcomes, make_faulty, make_partial};

/// Steps of a program, beside those of its handlers.
const STEPS: u32 = 400;
const SEEDS: u64 = 150;
/// Places for operations: one, and some.
const SMALL: usize = 1;
const LARGE: usize = operations::PLACES;

struct App {
    simulator: Simulator<'static>,
    operations: Operations<Simulator<'static>>,
    token: usize,
    /// Handlers do nothing.
    quiet: bool,
    trace: Vec<(usize, i64, u64)>,
}

type It = Loop<'static, App>;

fn leak<T>(value: T) -> &'static mut T {
    Box::leak(Box::new(value))
}

impl App {
    fn below(&self, bound: u64) -> u64 {
        self.simulator.below(bound).unwrap()
    }

    fn now(&self) -> u64 {
        self.simulator.now().as_nanos()
    }

    fn submit(&mut self, it: &It) {
        let numbers = std::array::from_fn(|_| self.below(256) as u8);
        if self.operations.submit(it, on_done, numbers, self.token).is_some() {
            self.token += 1;
        }
    }

    /// One step that is legal in handlers, too.
    fn step(&mut self, it: &It) {
        let picked = self.operations.pick(self.below(256) as u8);
        match (self.below(12), picked) {
            (0..6, _) => self.submit(it),
            (6, Some(handle)) => self.operations.cancel(it, handle),
            (7, Some(handle)) => {
                let (span, now) = (self.below(300_000), self.now());
                self.operations.set_deadline(it, handle, now, (span >= 50_000).then_some(span));
            }
            (8, Some(handle)) => {
                self.operations.set_keepalive(it, handle, self.below(2) == 0);
                assert_eq!(it.set_level(handle, self.below(4) as u8), Ok(()));
            }
            (9, _) => self.operations.try_dead(it),
            (10.., _) => {
                let fd = self.operations.pairs[self.below(2) as usize][self.below(2) as usize];
                self.simulator.set_room(fd, 1 + self.below(256) as usize).unwrap();
            }
            _ => {}
        }
        self.operations.glance(it);
    }

    fn note(&mut self, event: &Event) {
        let now = self.now();
        self.trace.push((event.token, event.value, now));
        self.operations.note(event, now);
    }
}

fn on_done(app: &mut App, it: &It, event: Event) {
    app.note(&event);
    app.operations.glance(it);
    if app.quiet {
        return;
    }
    if !app.operations.draining {
        // With a table of one, too, there is room for the next.
        (0..app.below(4)).for_each(|_| app.step(it));
    } else {
        app.submit(it);
        assert_eq!(it.drain(app, Duration::ZERO), Err(Error::BUSY));
    }
}

fn make_odd(simulator: Simulator, seed: u64) -> bool {
    let rate = [0, 0, 5_000, 50_000][seed as usize % 4];
    let quirk = |quirk, rate| simulator.set_quirk(quirk, rate, Duration::from_micros(50)).unwrap();
    make_partial(simulator, [0, 200_000][seed as usize / 4 % 2]);
    quirk(Quirk::Oversleep, rate);
    quirk(Quirk::Delayed, rate);
    quirk(Quirk::Spurious, rate);
    make_faulty(simulator, rate);
    simulator.set_fault(Call::Wait, Error::INTERRUPTED, rate).unwrap();
    rate > 0
}

/// Carries out the program of a seed: what came, and how often.
fn carry_out<const PLACES: usize>(seed: u64, ring: bool) -> (Vec<(usize, i64, u64)>, Outcomes) {
    let simulator = Simulator::new(leak(SimulatorMemory::<32, 8>::new()), seed);
    simulator.set_ring(ring).unwrap();
    let it: It = Loop::simulated(leak(Storage::<1, 0, PLACES>::new()), simulator, &Config::default()).unwrap();
    let operations = Operations::new(simulator, PLACES);
    let mut app = App { simulator, operations, token: 0, quiet: false, trace: Vec::new() };
    let open = simulator.open_fds().unwrap();
    app.operations.faults = make_odd(simulator, seed);
    for _ in 0..STEPS {
        match app.below(8) {
            0..3 => {
                let span = Duration::from_nanos(app.below(200_000));
                match it.turn(&mut app, span) {
                    Ok(_) | Err(Error::NO_MEMORY) => {}
                    Err(error) => panic!("a turn: {error:?}"),
                }
            }
            3 => {
                it.poll(Duration::from_nanos(app.below(200_000))).unwrap();
                while let Some(event) = it.next(Kinds::all()).unwrap() {
                    app.note(&event);
                    app.operations.glance(&it);
                }
            }
            4 if app.below(8) == 0 => {
                app.operations.draining = true;
                assert_eq!(it.drain(&mut app, Duration::from_secs(60)), Ok(()));
                app.operations.draining = false;
                assert!(app.operations.flights.is_empty(), "{:?}", app.operations.flights);
            }
            5 if app.below(4) == 0 => {
                // It goes on as long as something keeps it alive.
                if app.operations.flights.iter().any(|flight| flight.keepalive) {
                    it.stop().unwrap();
                    assert_eq!(it.run(&mut app), Ok(Outcome::Stopped));
                    continue;
                }
                let answer = it.run(&mut app);
                let alive = app.operations.flights.iter().any(|flight| flight.keepalive);
                assert_eq!(answer, if alive { Err(Error::DEADLOCK) } else { Ok(Outcome::NothingLeft) });
            }
            _ => app.step(&it),
        }
        app.operations.glance(&it);
    }
    finish(&it, &mut app, open);
    (app.trace, app.operations.outcomes)
}

/// In the end everything comes back.
fn finish(it: &It, app: &mut App, open: u32) {
    let simulator = app.simulator;
    simulator.set_all_faults(0, Duration::ZERO).unwrap();
    // What can be done is done, without anything being asked for.
    app.quiet = true;
    for _ in 0..20 {
        it.turn(app, Duration::from_millis(10)).unwrap();
    }
    app.operations.check_waiting();
    app.quiet = false;
    app.operations.draining = true;
    assert_eq!(it.drain(app, Duration::from_secs(60)), Ok(()));
    app.operations.draining = false;
    assert_eq!(it.run(app), Ok(Outcome::NothingLeft), "nothing keeps it alive");
    app.operations.finish();
    // Every place can be had again.
    let before = app.operations.submitted;
    while app.operations.submitted - before < app.operations.places as u64 {
        app.submit(it);
    }
    assert_eq!(it.fsync(app.operations.file, false, on_done, 0), Err(Error::AGAIN));
    app.operations.draining = true;
    assert_eq!(it.drain(app, Duration::from_secs(60)), Ok(()));
    app.operations.close_made();
    assert_eq!(simulator.open_fds(), Ok(open), "a descriptor was lost");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn run_all(run: impl Fn(u64) -> (Vec<(usize, i64, u64)>, Outcomes)) -> Outcomes {
    let first = number("BECKET_SEED");
    let count = number("BECKET_SEEDS").unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let first = first.unwrap_or(1);
    let mut sum = Outcomes::default();
    for seed in first..first + count {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
        let (_, outcomes) = result.unwrap_or_else(|panic| {
            eprintln!("the program of seed {seed}");
            std::panic::resume_unwind(panic)
        });
        sum.whole += outcomes.whole;
        sum.short += outcomes.short;
        sum.canceled += outcomes.canceled;
        sum.too_late += outcomes.too_late;
        sum.timed_out += outcomes.timed_out;
        sum.failed += outcomes.failed;
        sum.full += outcomes.full;
    }
    sum
}

/// Both ways in which a loop can make them: a ring does, or the loop does when they are ready.
fn with_and_without_a_ring(run: impl Fn(u64, bool) -> (Vec<(usize, i64, u64)>, Outcomes)) {
    for ring in [true, false] {
        let sum = run_all(|seed| run(seed, ring));
        if number("BECKET_SEED").or(number("BECKET_SEEDS")).is_none() {
            let Outcomes { whole, short, canceled, too_late, timed_out, failed, full } = sum;
            let all = [whole, short, canceled, too_late, timed_out, failed, full];
            assert!(all.iter().all(|count| *count > 50), "each outcome is reached: {sum:?}");
        }
    }
}

#[test]
fn in_the_simulator() {
    with_and_without_a_ring(carry_out::<LARGE>);
}

#[test]
fn with_a_table_of_one() {
    with_and_without_a_ring(carry_out::<SMALL>);
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    for (seed, ring) in (0..8).flat_map(|seed| [(seed, true), (seed, false)]) {
        let first = carry_out::<LARGE>(seed, ring).0;
        assert!(first == carry_out::<LARGE>(seed, ring).0 && first.len() > 50, "seed {seed}: {}", first.len());
        assert_ne!(first, carry_out::<LARGE>(seed + 1, ring).0);
    }
}
