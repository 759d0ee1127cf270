//! The lock-free part of becket, its own sources as they are, under loom: every interleaving of a few threads, and for
//! each load every value that the memory model allows it. `make loom`.
//!
//! Two things are put in the place of becket's: `atomic` gives loom's atomics, and `sys` is a small kernel.
#![cfg(test)]

#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/handle.rs"]
mod handle;

mod atomic;
mod sys;

#[path = "../../src/storage"]
mod storage {
    pub(crate) mod names;
    pub(crate) mod region;
}

#[path = "../../src/process"]
mod process {
    pub(crate) mod shared;
    pub(crate) mod signals;
}

mod close;
mod signals;
mod sleep;
mod wakes;

use atomic::{AtomicU64, Ordering};
use process::shared::Shared;
use storage::names::Names;
use storage::region::Region;
use sys::fd::Notifier;

/// Tries all executions with at most so many preemptions (LOOM_MAX_PREEMPTIONS: with so many instead). loom's authors
/// found two or three to show nearly every bug that there is.
fn model(preemptions: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 10_000;
    builder.check(move || {
        sys::process::become_process(1);
        test();
    });
}

/// A thread that ends before the test does, as loom wants it.
struct Thread<T>(Option<loom::thread::JoinHandle<T>>);

fn start<T: 'static>(body: impl FnOnce() -> T + Send + 'static) -> Thread<T> {
    Thread(Some(loom::thread::spawn(body)))
}

impl<T> Thread<T> {
    fn join(mut self) -> T {
        self.0.take().expect("joined once").join().expect("a panic has ended the test")
    }
}

impl<T> Drop for Thread<T> {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take().filter(|_| !std::thread::panicking()) {
            let _ = thread.join();
        }
    }
}

/// The words of so many sources, in memory that holds something else before a source is named. It is leaked: the
/// address of a word must stay one until the last thread has ended.
fn unnamed(count: u32, garbage: u64) -> Names {
    let words: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(garbage)).collect();
    let start = std::ptr::NonNull::from(Vec::leak(words)).cast();
    // SAFETY: as many as were leaked just now.
    Names::new(unsafe { Region::new(start, count as usize) }, count)
}

fn names(count: u32) -> Names {
    let names = unnamed(count, 0);
    (0..count).for_each(|index| names.first(index, 7));
    names
}

/// What other threads have of a loop with so many sources, and the descriptor that it watches.
fn shared(sources: u32) -> (&'static Shared, Notifier) {
    let notifier = sys::fd::notifier();
    (Box::leak(Box::new(Shared::new(names(sources), notifier))), notifier)
}

/// The memory of what [`shared`] gave is the program's again.
fn end(shared: &'static Shared) {
    let shared = std::ptr::from_ref(shared) as usize as *mut Shared;
    // SAFETY: leaked, and no other reference is used any more, which is what loom looks after.
    unsafe { &mut (*shared).signals }.end();
}

/// A note that a thread leaves before it wakes, with no ordering of its own: whoever is woken has to see it.
struct Note(AtomicU64);

impl Note {
    fn new() -> Note {
        Note(AtomicU64::new(0))
    }

    fn write(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    fn is_seen(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 1
    }
}

/// What one turn found.
#[derive(Default)]
struct Turn {
    woken: Vec<u32>,
    signals: u64,
    stopped: bool,
}

/// The part of a turn that concerns others, in the order of `engine/turn.rs`: say that one sleeps, look once more,
/// wait until the descriptor is readable, say that one is awake, empty the descriptor, take what there is.
fn turn(shared: &Shared, notifier: Notifier) -> Turn {
    let pending = shared.fall_asleep();
    let readable = notifier.wait(!pending);
    shared.wake_up();
    if readable {
        shared.drain();
    }
    let mut turn = Turn { signals: shared.take_signals(), ..Turn::default() };
    shared.names.take_woken(|index| turn.woken.push(index));
    turn.stopped = shared.take_stop();
    turn
}
