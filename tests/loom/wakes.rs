//! Wakes against delivery, removal and reuse: `storage/names.rs` alone.

use crate::handle::Handle;
use crate::storage::names::{Names, Woken};
use crate::{Note, model, names, start, unnamed};
use loom::sync::Arc;

/// Two threads wake, one source each or the same; the loop takes meanwhile and once more at the end.
struct Scene {
    names: Names,
    notes: [Note; 2],
}

impl Scene {
    fn new(sources: u32) -> Arc<Scene> {
        Arc::new(Scene { names: names(sources), notes: [Note::new(), Note::new()] })
    }

    /// Thread `number` leaves its note and wakes a source.
    fn wake(&self, number: usize, index: u32) -> Woken {
        self.notes[number].write();
        self.names.wake(self.names.handle(index))
    }

    /// Takes what is there: the sources, and whose notes were seen at a delivery.
    fn take(&self, seen: &mut [bool; 2]) -> Vec<u32> {
        let mut all = Vec::new();
        self.names.take_woken(|index| {
            all.push(index);
            for (note, seen) in self.notes.iter().zip(&mut *seen) {
                *seen |= note.is_seen();
            }
        });
        all
    }
}

#[test]
fn a_delivery_sees_what_was_written_before_each_wake_that_it_stands_for() {
    model(3, || {
        let scene = Scene::new(1);
        let threads = [0, 1].map(|number| {
            let scene = scene.clone();
            start(move || scene.wake(number, 0))
        });
        let mut seen = [false; 2];
        let mut deliveries = scene.take(&mut seen).len();
        let woken = threads.map(|thread| thread.join());
        // Notes of wakes that were delivered already are seen by now in any case: what counts is who was told of them.
        let before = seen;
        let last = scene.take(&mut seen).len();
        deliveries += last;
        assert!(!woken.contains(&Woken::Stale));
        let first = woken.iter().filter(|it| **it == Woken::First).count();
        assert!(deliveries >= 1 && deliveries == first, "{deliveries} deliveries of {woken:?}");
        assert!(last > 0 || before == [true; 2], "{before:?} of {woken:?}");
    });
}

#[test]
fn two_sources_are_pushed_at_once_and_each_is_delivered_once() {
    model(3, || {
        let scene = Scene::new(2);
        let threads = [0, 1].map(|number| {
            let scene = scene.clone();
            start(move || scene.wake(number, number as u32))
        });
        let mut delivered = Vec::new();
        let take = |delivered: &mut Vec<u32>| {
            scene.names.take_woken(|index| {
                assert!(scene.notes[index as usize].is_seen(), "delivered, and not what was written before");
                delivered.push(index);
            });
        };
        take(&mut delivered);
        assert_eq!(threads.map(|thread| thread.join()), [Woken::First; 2]);
        take(&mut delivered);
        delivered.sort_unstable();
        assert_eq!(delivered, [0, 1]);
        assert!(!scene.names.any_woken());
    });
}

/// While the loop takes a stack of two, one of them is woken anew: it is pushed on the new stack, and the walk along the
/// old one neither follows it there nor loses what was behind it.
#[test]
fn a_source_that_is_woken_while_the_stack_is_taken_is_delivered_again() {
    model(3, || {
        let scene = Scene::new(2);
        assert_eq!([scene.wake(0, 0), scene.wake(0, 1)], [Woken::First; 2]);
        let waker = {
            let scene = scene.clone();
            start(move || [scene.wake(1, 1), scene.wake(1, 0)])
        };
        let mut seen = [false; 2];
        let mut delivered = scene.take(&mut seen);
        let woken = waker.join();
        delivered.extend(scene.take(&mut seen));
        let count = |index| delivered.iter().filter(|it| **it == index).count();
        for (index, woken) in [(1, woken[0]), (0, woken[1])] {
            assert_eq!(count(index), if woken == Woken::First { 2 } else { 1 }, "source {index}, {woken:?}");
        }
        assert!(seen[1]);
    });
}

/// The old owner's wake races with removal, reuse and the new owner's wake. The new owner gets its own wake, exactly once,
/// and never the old one's; the old owner is told the truth.
#[test]
fn a_stale_wake_never_reaches_the_new_owner_and_the_new_owners_is_not_lost() {
    model(3, || {
        let scene = Scene::new(1);
        let old = scene.names.handle(0);
        let stale = {
            let scene = scene.clone();
            start(move || scene.names.wake(old))
        };
        let mut seen = [false; 2];
        let before = scene.take(&mut seen).len();
        scene.names.retire(0);
        scene.names.take(0);
        let new = scene.names.handle(0);
        let waker = {
            let scene = scene.clone();
            start(move || {
                scene.notes[0].write();
                scene.names.wake(new)
            })
        };
        let mut after = 0;
        let take = |after: &mut usize| {
            scene.names.take_woken(|_| {
                assert!(scene.notes[0].is_seen(), "the new owner had not been woken yet");
                *after += 1;
            });
        };
        take(&mut after);
        let stale = stale.join();
        assert_eq!(waker.join(), Woken::First);
        take(&mut after);
        assert_eq!(after, 1);
        assert!(before <= usize::from(stale == Woken::First));
        assert_eq!(scene.names.wake(old), Woken::Stale);
        assert_eq!(scene.names.wake(new), Woken::First);
        take(&mut after);
        assert_eq!(after, 2, "the slot is whole");
    });
}

/// Removal and reuse while two threads wake: an accepted wake of the old owner is dropped; the new owner's is delivered
/// though its slot may be on the stack already; and the one beside it on the stack is not lost.
#[test]
fn a_removal_drops_what_is_pending_and_keeps_the_stack_whole() {
    model(3, || {
        let scene = Scene::new(2);
        let old = scene.names.handle(0);
        let threads = [0, 1].map(|number| {
            let scene = scene.clone();
            start(move || if number == 0 { scene.names.wake(old) } else { scene.wake(1, 1) })
        });
        scene.names.retire(0);
        scene.names.take(0);
        assert_eq!(scene.wake(0, 0), Woken::First);
        let mut seen = [false; 2];
        let mut delivered = scene.take(&mut seen);
        let woken = threads.map(|thread| thread.join());
        delivered.extend(scene.take(&mut seen));
        assert_eq!(woken[1], Woken::First);
        delivered.sort_unstable();
        assert_eq!(delivered, [0, 1]);
        assert_eq!(seen, [true; 2]);
        assert_eq!([scene.wake(0, 0), scene.wake(0, 1)], [Woken::First; 2]);
        let mut all = scene.take(&mut seen);
        all.sort_unstable();
        assert_eq!(all, [0, 1]);
    });
}

/// Somebody guesses the handle of the source that comes next, while the old owner is woken, goes, and the slot is free. Until
/// the new owner is there, nothing is pending for it; and a guess that is too early leaves nothing.
#[test]
fn a_wake_of_the_source_that_comes_next_is_stale_until_it_comes() {
    model(3, || {
        let scene = Scene::new(1);
        let old = scene.names.handle(0);
        // A free slot's generation, and the next one's.
        let [free, new] = [1, 2].map(|later| Handle::from_raw(old.raw() + (later << 24)));
        let waker = {
            let scene = scene.clone();
            start(move || scene.names.wake(old))
        };
        let guesser = {
            let scene = scene.clone();
            start(move || {
                scene.notes[0].write();
                [free, new].map(|handle| scene.names.wake(handle))
            })
        };
        scene.names.retire(0);
        scene.names.take_woken(|index| panic!("{index} is free"));
        scene.names.take(0);
        assert_eq!(scene.names.handle(0), new);
        let mut seen = [false; 2];
        let mut delivered = scene.take(&mut seen).len();
        let guesses = guesser.join();
        waker.join();
        delivered += scene.take(&mut seen).len();
        assert_eq!(guesses[0], Woken::Stale);
        assert_eq!(delivered, usize::from(guesses[1] == Woken::First), "{guesses:?}");
        assert_eq!(seen[0], delivered == 1);
        assert_eq!(scene.names.wake(old), Woken::Stale);
        assert_eq!(scene.names.wake(new), Woken::First);
        assert_eq!(scene.take(&mut seen), [0], "the slot is whole");
    });
}

/// A handle that somebody made up, of a slot that has no name yet: what the memory holds is no name.
#[test]
fn what_memory_held_before_a_slot_was_named_is_nobodys_name() {
    // Generation 3, with a link and pending: as a loop before this one may have left it.
    const GARBAGE: u64 = 3 << 25 | 5 << 1 | 1;
    model(3, || {
        let names = Arc::new(unnamed(2, GARBAGE));
        let made_up = [0, 1].map(|index| Handle::from_raw(3 << 24 | (index + 1)));
        let guesser = {
            let names = names.clone();
            start(move || made_up.map(|handle| names.wake(handle)))
        };
        names.first(1, 7);
        names.first(0, 7);
        assert_eq!(guesser.join(), [Woken::Stale; 2]);
        names.take_woken(|index| panic!("nobody woke {index}"));
        assert_eq!(names.wake(names.handle(0)), Woken::First);
    });
}
