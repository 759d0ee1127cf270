//! Makes a program that fails shorter, as long as it fails. Source: Zeller and Hildebrandt, "Simplifying and Isolating
//! Failure-Inducing Input" (2002), with its numbers made small too.

use super::program::{Program, Setup, Step};

/// Tries at most, so that a failure is shown in reasonable time.
const TRIES: u32 = 6_000;

/// The shortest program that was found for which `fails` holds, as it does for this one.
pub fn shrink(program: &Program, mut fails: impl FnMut(&Program) -> bool) -> Program {
    let mut best = program.clone();
    let mut tries = 0;
    let mut better = |candidate: Program, best: &mut Program| {
        tries += 1;
        let found = tries <= TRIES && candidate != *best && fails(&candidate);
        if found {
            *best = candidate;
        }
        found
    };
    let mut length = best.steps.len().div_ceil(2).max(1);
    loop {
        let mut from = 0;
        let before = best.clone();
        while from < best.steps.len() {
            let mut steps = best.steps.clone();
            steps.drain(from..(from + length).min(steps.len()));
            if !better(Program { steps, ..best.clone() }, &mut best) {
                from += length;
            }
        }
        if length > 1 {
            length = length.div_ceil(2);
        } else if best == before {
            break;
        }
    }
    let setup = best.setup;
    for setup in [
        Setup::default(),
        Setup { budget: 0, ..setup },
        Setup { extreme: false, ..setup },
        Setup { operations: false, ..setup },
        Setup { streams: false, ..setup },
    ] {
        better(Program { setup, ..best.clone() }, &mut best);
    }
    for at in 0..best.steps.len() {
        for number in 0..3 {
            let value = |step: &Step| [step.a, step.b, step.c][number];
            for small in (0..8).chain([16, 32, 64, 100, 128]) {
                if small >= value(&best.steps[at]) {
                    break;
                }
                let mut candidate = best.clone();
                let step = &mut candidate.steps[at];
                *[&mut step.a, &mut step.b, &mut step.c][number] = small;
                if better(candidate, &mut best) {
                    break;
                }
            }
        }
    }
    best
}
