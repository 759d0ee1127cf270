//! Wakes, stops, signals and changes against the loop's sleep: `process/shared.rs`. A wake that is lost leaves a thread
//! that waits for ever, which loom reports as a deadlock.

use crate::{Note, Turn, model, shared, start, turn};

#[test]
fn a_wake_ends_the_sleep() {
    model(3, || {
        let (shared, fd) = shared(1);
        let note = loom::sync::Arc::new(Note::new());
        let waker = {
            let (handle, note) = (shared.names.handle(0), note.clone());
            start(move || {
                note.write();
                shared.wake(handle)
            })
        };
        while turn(shared, fd).woken != [0] {}
        assert!(note.is_seen());
        assert_eq!(waker.join(), Ok(()));
    });
}

/// A second wake of the same source may find it pending and leave the notification to the first.
#[test]
fn two_wakes_of_one_source_are_both_seen() {
    model(2, || {
        let (shared, fd) = shared(1);
        let notes = loom::sync::Arc::new([Note::new(), Note::new()]);
        let _wakers = [0, 1].map(|number| {
            let (handle, notes) = (shared.names.handle(0), notes.clone());
            start(move || {
                notes[number].write();
                assert_eq!(shared.wake(handle), Ok(()));
            })
        });
        let mut seen = [false; 2];
        while seen != [true; 2] {
            if turn(shared, fd).woken == [0] {
                seen = [seen[0] || notes[0].is_seen(), seen[1] || notes[1].is_seen()];
            }
        }
    });
}

#[test]
fn two_sources_wake_at_once() {
    model(2, || {
        let (shared, fd) = shared(2);
        let _wakers = [0, 1].map(|index| {
            let handle = shared.names.handle(index);
            start(move || assert_eq!(shared.wake(handle), Ok(())))
        });
        let mut woken = Vec::new();
        while woken.len() < 2 {
            woken.extend(turn(shared, fd).woken);
        }
        woken.sort_unstable();
        assert_eq!(woken, [0, 1]);
    });
}

/// The slot is reused while the old owner's wake has claimed it and has not pushed it yet: the new owner's wake relies on
/// that push.
#[test]
fn the_new_owners_wake_ends_the_sleep_though_the_old_ones_pushes() {
    model(2, || {
        let (shared, fd) = shared(1);
        let old = shared.names.handle(0);
        let _old = start(move || shared.wake(old));
        shared.names.retire(0);
        shared.names.take(0);
        let new = shared.names.handle(0);
        let _new = start(move || assert_eq!(shared.wake(new), Ok(())));
        while turn(shared, fd).woken != [0] {}
    });
}

#[test]
fn a_stop_ends_the_sleep() {
    model(3, || {
        let (shared, fd) = shared(0);
        let note = loom::sync::Arc::new(Note::new());
        let stopper = {
            let note = note.clone();
            start(move || {
                note.write();
                shared.stop()
            })
        };
        while !turn(shared, fd).stopped {}
        assert!(note.is_seen());
        assert_eq!(stopper.join(), Ok(()));
        assert!(!shared.take_stop(), "one stop, and it was taken");
    });
}

#[test]
fn a_wake_and_a_stop_at_once() {
    model(2, || {
        let (shared, fd) = shared(1);
        let handle = shared.names.handle(0);
        let note = loom::sync::Arc::new(Note::new());
        let _waker = start(move || assert_eq!(shared.wake(handle), Ok(())));
        let _stopper = {
            let note = note.clone();
            start(move || {
                note.write();
                assert_eq!(shared.stop(), Ok(()));
            })
        };
        let (mut woken, mut stopped) = (0, 0);
        while woken < 1 || stopped < 1 {
            let Turn { woken: now, stopped: stop, .. } = turn(shared, fd);
            woken += now.len();
            stopped += u32::from(stop);
            assert!(!stop || note.is_seen());
        }
        assert_eq!((woken, stopped), (1, 1));
    });
}

/// Another thread changes the loop under the program's lock, which the owner gives up while it waits.
#[test]
fn a_change_ends_a_wait_that_was_prepared_without_it() {
    model(3, || {
        let (shared, fd) = shared(0);
        let changed = loom::sync::Arc::new(loom::sync::Mutex::new(false));
        let _changer = {
            let changed = changed.clone();
            start(move || {
                let mut changed = changed.lock().unwrap();
                *changed = true;
                shared.notify();
            })
        };
        loop {
            let engine = changed.lock().unwrap();
            if *engine {
                return;
            }
            assert!(!shared.fall_asleep());
            drop(engine);
            fd.wait(true);
            let _engine = changed.lock().unwrap();
            shared.wake_up();
            shared.drain();
        }
    });
}
