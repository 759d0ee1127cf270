//! Signals that come in any thread, against the loops that take and give them up: `process/signals.rs`.

use crate::error::Error;
use crate::process::signals::{acquire, release, release_all, source_of, take_count};
use crate::sys::process::become_process;
use crate::sys::signal::raise;
use crate::{end, model, shared, start, turn};

const SIGNAL: i32 = 1;
const BIT: u64 = 1 << (SIGNAL - 1);
/// The slot of the source, plus one.
const SOURCE: u32 = 1;

#[test]
fn a_signal_ends_the_sleep_and_is_counted() {
    model(3, || {
        let (shared, fd) = shared(0);
        acquire(SIGNAL, shared, SOURCE).unwrap();
        let _raiser = start(|| assert!(raise(SIGNAL)));
        while turn(shared, fd).signals != BIT {}
        assert_eq!(source_of(SIGNAL, shared), Some(SOURCE - 1));
        assert_eq!(take_count(SIGNAL), 1);
    });
}

#[test]
fn signals_in_two_threads_are_both_counted() {
    model(2, || {
        let (shared, fd) = shared(0);
        acquire(SIGNAL, shared, SOURCE).unwrap();
        let _raisers = [(); 2].map(|()| start(|| assert!(raise(SIGNAL))));
        let mut count = 0;
        while count < 2 {
            if turn(shared, fd).signals == BIT {
                count += take_count(SIGNAL);
            }
        }
        assert_eq!(count, 2);
    });
}

/// After the last use has ended the loop's memory is the program's again.
#[test]
fn no_handler_touches_a_loop_after_it_gave_the_signal_up() {
    for all in [false, true] {
        model(3, move || {
            let (shared, _) = shared(0);
            acquire(SIGNAL, shared, SOURCE).unwrap();
            let raiser = start(|| raise(SIGNAL));
            shared.fall_asleep();
            if all {
                release_all(shared);
            } else {
                release(SIGNAL, shared, true);
            }
            end(shared);
            raiser.join();
            assert!(!raise(SIGNAL), "what was before the loop is back");
        });
    }
}

#[test]
fn one_of_two_loops_gets_a_signal() {
    model(3, || {
        let (first, _) = shared(0);
        let (second, _) = shared(0);
        let other = start(move || acquire(SIGNAL, second, SOURCE));
        let results = [acquire(SIGNAL, first, SOURCE), other.join()];
        assert!(matches!(results, [Ok(()), Err(Error::BUSY)] | [Err(Error::BUSY), Ok(())]), "{results:?}");
        let (owner, not) = if results[0].is_ok() { (first, second) } else { (second, first) };
        assert_eq!((source_of(SIGNAL, owner), source_of(SIGNAL, not)), (Some(SOURCE - 1), None));
        release_all(not);
        assert!(raise(SIGNAL));
        release_all(owner);
        assert!(!raise(SIGNAL));
    });
}

/// A loop takes a signal as soon as another has given it up, and the handler of the time between belongs to one of them.
#[test]
fn a_signal_goes_from_loop_to_loop() {
    model(2, || {
        let (first, _) = shared(0);
        let (second, fd) = shared(0);
        acquire(SIGNAL, first, SOURCE).unwrap();
        let other = start(move || {
            while let Err(error) = acquire(SIGNAL, second, SOURCE) {
                assert_eq!(error, Error::BUSY);
                loom::thread::yield_now();
            }
        });
        release(SIGNAL, first, true);
        first.close();
        end(first);
        other.join();
        let _raiser = start(|| assert!(raise(SIGNAL)));
        while turn(second, fd).signals != BIT {}
        assert_eq!(take_count(SIGNAL), 1);
        release(SIGNAL, second, true);
        assert!(!raise(SIGNAL), "what was before the first is back");
    });
}

/// In a forked child, before and after its first loop has taken the signal: the handler that the child has inherited does
/// nothing to the parent's loop.
#[test]
fn what_a_fork_has_inherited_is_taken_by_one_loop() {
    model(3, || {
        let (parents, _) = shared(0);
        acquire(SIGNAL, parents, SOURCE).unwrap();
        become_process(2);
        let (first, _) = shared(0);
        let (second, _) = shared(0);
        let raiser = start(|| raise(SIGNAL));
        let other = start(move || acquire(SIGNAL, second, SOURCE));
        let results = [acquire(SIGNAL, first, SOURCE), other.join()];
        assert!(matches!(results, [Ok(()), Err(Error::BUSY)] | [Err(Error::BUSY), Ok(())]), "{results:?}");
        assert!(raiser.join());
        assert!(!parents.pending());
        release_all(first);
        release_all(second);
        assert!(!raise(SIGNAL), "what was before the parent's loop is back");
    });
}

/// The same where the parent's loop is given up meanwhile, as when a child makes its own loop in the same memory.
#[test]
fn what_a_fork_has_inherited_is_given_up_while_another_loop_takes_it() {
    model(3, || {
        let (parents, _) = shared(0);
        acquire(SIGNAL, parents, SOURCE).unwrap();
        become_process(2);
        let (own, fd) = shared(0);
        let other = start(move || release_all(parents));
        while let Err(error) = acquire(SIGNAL, own, SOURCE) {
            assert_eq!(error, Error::BUSY);
            loom::thread::yield_now();
        }
        other.join();
        assert!(raise(SIGNAL));
        assert_eq!(turn(own, fd).signals, BIT);
        release_all(own);
        assert!(!raise(SIGNAL));
    });
}
