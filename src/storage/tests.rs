//! Seeded model tests of the containers: random operations, compared with the plainest thing that does the same.
//! A failure prints its seed; `BECKET_SEED` runs that one alone.

#![allow(unsafe_code)]

use super::deadlines::{self, Deadlines};
use super::fd_index::{self, FdIndex, FdOf};
use super::lists::{List, Lists};
use super::names::{Names, Woken};
use super::pool::Places;
use super::region::Region;
use super::slot::{Link, NIL, Post, Slot, Target, bits};
#[cfg(feature = "streams")]
use super::streams::{self, Table};
use crate::error::Error;
use crate::handle::{Handle, Kind};
use crate::ready::{Mode, Ready, Registration};
use crate::time::{Duration, Instant, PackedDuration};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;
use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;
use std::{println, vec};

/// xorshift64*, Vigna 2016.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Runs a test with many seeds, and names the one that fails.
pub(super) fn with_seeds(count: u64, test: impl Fn(&mut Random) + std::panic::RefUnwindSafe) {
    let chosen = std::env::var("BECKET_SEED").ok().and_then(|text| text.parse().ok());
    for seed in chosen.map_or(1..=count, |seed: u64| seed..=seed) {
        let run = || test(&mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
        if let Err(panic) = std::panic::catch_unwind(run) {
            println!("BECKET_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// A region of leaked memory, filled with what nobody has zeroed.
fn region<T>(count: usize) -> Region<T> {
    let bytes = vec![0xa5a5_a5a5_a5a5_a5a5_u64; (count * size_of::<T>()).div_ceil(8).max(1)];
    let start = NonNull::from(Box::leak(bytes.into_boxed_slice())).cast();
    // SAFETY: leaked, large enough, aligned to eight; the types that the tests use are integers.
    unsafe { Region::new(start, count) }
}

const NOBODY: Target = Target { handler: core::ptr::null(), user: core::ptr::null_mut() };

/// Sources that are timers, and posts.
fn lists(sources: u32, posts: u32) -> Lists {
    let all = (sources + posts) as usize;
    let mut lists = Lists::new(region::<Slot>(sources as usize), region::<Post>(posts as usize), region::<Link>(all));
    for index in 0..sources {
        lists.occupy(index, Kind::Timer, NOBODY);
    }
    for post in 0..posts {
        let node = lists.occupy_post(post, 0, 0);
        assert_eq!((node, lists.post_of(node)), (sources + post, post));
    }
    lists
}

#[test]
fn deadlines_come_in_order_of_time_and_then_of_arming() {
    with_seeds(200, |random| {
        let count = 1 + random.below(40) as u32;
        let mut lists = lists(count, 0);
        let mut heap = Deadlines::new(region::<deadlines::Entry>(count as usize));
        // (deadline, idle timeouts last, arming order) by source.
        let mut model: BTreeMap<u32, (u64, bool, u32)> = BTreeMap::new();
        // Arming order wraps in the middle of the test.
        let mut arming = u32::MAX - 100;
        for _ in 0..400 {
            let index = random.below(u64::from(count)) as u32;
            match random.below(5) {
                0 => {
                    heap.set(&mut lists, index, Instant::NEVER);
                    model.remove(&index);
                }
                1 => {
                    if let Some((at, first)) = heap.first() {
                        heap.set(&mut lists, first, Instant::NEVER);
                        assert_eq!(model.remove(&first).map(|it| it.0), Some(at.as_nanos()));
                    }
                }
                _ => {
                    let idle = random.below(4) == 0;
                    let at = random.below(8) << random.below(60);
                    lists.links[index].set(bits::IDLE, idle);
                    lists.slots[index].extra = arming;
                    heap.set(&mut lists, index, Instant::from_nanos(at));
                    model.insert(index, (at, idle, arming));
                    arming = arming.wrapping_add(1);
                }
            }
            let age = |order: u32| arming.wrapping_sub(order);
            let first = model.iter().min_by_key(|(_, (at, idle, order))| (*at, *idle, u32::MAX - age(*order)));
            match (heap.first(), first) {
                (None, None) => {}
                (Some((at, index)), Some((expected, (expected_at, idle, _)))) => {
                    assert_eq!(at.as_nanos(), *expected_at);
                    // Equal idle timeouts have no order among themselves.
                    if !*idle {
                        assert_eq!(index, *expected);
                    }
                }
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            }
            for index in 0..count {
                let expected = model.get(&index).map_or(Instant::NEVER, |it| Instant::from_nanos(it.0));
                assert_eq!(heap.get(&lists, index), expected);
            }
        }
    });
}

#[test]
fn fd_index_finds_what_was_inserted_and_nothing_else() {
    with_seeds(300, |random| {
        let sources = 1 + random.below(24) as usize;
        let mut index = FdIndex::new(region::<fd_index::Entry>(FdIndex::entries(sources)));
        let mut fds: Vec<i32> = vec![-1; sources];
        let mut registrations: Region<Registration> = region(sources + 1);
        // Dense fds as the kernel gives them, or ones far apart.
        let stride = if random.below(2) == 0 { 1 } else { 1 + random.below(1_000_000) as i32 };
        for _ in 0..300 {
            let slot = random.below(sources as u64) as usize;
            if fds[slot] >= 0 {
                index.remove(fds[slot], &registrations);
                fds[slot] = -1;
            } else {
                let fd = random.below(3 * sources as u64) as i32 * stride;
                if !fds.contains(&fd) {
                    fds[slot] = fd;
                    registrations[slot as u32 + 1] = Registration::new(fd, Ready::READABLE, Mode::empty(), 0);
                    index.insert(fd, slot as u32, &registrations);
                }
            }
            for fd in 0..3 * sources as i32 {
                let fd = fd * stride;
                let expected = fds.iter().position(|it| *it == fd).map(|it| it as u32);
                assert_eq!(index.find(fd, &registrations), expected, "fd {fd} among {fds:?}");
            }
        }
    });
}

/// The fds of entries, and how often one was looked at.
struct Counted(Vec<i32>, core::cell::Cell<usize>);

impl FdOf for Counted {
    fn fd_of(&self, index: u32) -> i32 {
        self.1.set(self.1.get() + 1);
        self.0[index as usize]
    }
}

/// O(1) expected: a full index of dense fds, as the kernel gives them, and of ones far apart.
#[test]
fn fd_index_looks_at_few_entries() {
    const SOURCES: usize = 3000;
    for stride in [1, 2, 64, 1000, 65_537] {
        let fds = Counted((0..SOURCES as i32).map(|it| it * stride).collect(), 0.into());
        let mut index = FdIndex::new(region::<fd_index::Entry>(FdIndex::entries(SOURCES)));
        for (slot, fd) in fds.0.iter().enumerate() {
            index.insert(*fd, slot as u32, &fds);
        }
        fds.1.set(0);
        for (slot, fd) in fds.0.iter().enumerate() {
            assert_eq!(index.find(*fd, &fds), Some(slot as u32));
        }
        // At three quarters: 2.5 expected of each that is there (Knuth 6.4), 8.5 of one that is not.
        assert!(fds.1.get() <= 4 * SOURCES, "stride {stride}: {} for {SOURCES}", fds.1.get());
        fds.1.set(0);
        for missing in (0..SOURCES as i32).map(|it| (SOURCES as i32 + it) * stride) {
            assert_eq!(index.find(missing, &fds), None);
        }
        assert!(fds.1.get() <= 12 * SOURCES, "stride {stride}: {} for {SOURCES}, missing", fds.1.get());
    }
}

#[cfg(feature = "operations")]
#[test]
fn an_fd_gets_another_index() {
    let mut fds = Counted(vec![7, 7, 7 + 64, 8], 0.into());
    let mut index = FdIndex::new(region::<fd_index::Entry>(FdIndex::entries(4)));
    for slot in [0, 2, 3] {
        index.insert(fds.0[slot], slot as u32, &fds);
    }
    index.replace(7, 1, &fds);
    fds.0[0] = -1;
    assert_eq!([7, 71, 8].map(|fd| index.find(fd, &fds)), [Some(1), Some(2), Some(3)]);
    index.replace(9, 0, &fds);
    assert_eq!(index.find(9, &fds), None, "only one that is there is replaced");
    index.remove(7, &fds);
    assert_eq!([7, 71, 8].map(|fd| index.find(fd, &fds)), [None, Some(2), Some(3)]);
}

#[test]
fn lists_are_queues_that_give_up_what_is_in_their_middle() {
    with_seeds(200, |random| {
        let (sources, posts) = (1 + random.below(12) as u32, random.below(6) as u32);
        let mut lists = lists(sources, posts);
        let all = [List::QUEUE, List::QUEUE.at(3), List::LATE, List::TRIGGERED, List::DEFERRED];
        let mut model: Vec<VecDeque<u32>> = vec![VecDeque::new(); all.len()];
        for _ in 0..400 {
            let node = random.below(u64::from(sources + posts)) as u32;
            let target = random.below(all.len() as u64) as usize;
            if random.below(8) == 0 {
                assert_eq!(lists.pop(all[target]), model[target].pop_front());
            } else if let Some(list) = model.iter_mut().find(|list| list.contains(&node)) {
                lists.unlink(node);
                list.retain(|it| *it != node);
            } else {
                lists.push(all[target], node);
                model[target].push_back(node);
            }
            let queued: usize = model[..3].iter().map(VecDeque::len).sum();
            assert_eq!(lists.queued() as usize, queued);
            let levels = [0, 1, 2, 3].map(|level| u8::from(lists.any(List::QUEUE.at(level).set())) << level);
            assert_eq!(lists.levels(List::QUEUE), levels.iter().sum::<u8>());
            assert_eq!(lists.levels(List::LATE), u8::from(!model[2].is_empty()));
            for (list, expected) in all.into_iter().zip(&model) {
                assert_eq!(lists.first_of(list, |_| true), expected.front().copied());
                assert_eq!(lists.any(list.set()), !expected.is_empty());
                for wanted in expected {
                    assert!(lists.list_of(*wanted) == list);
                }
                // Walked to the end, in order.
                let count = core::cell::Cell::new(0);
                let last = lists.first_of(list, |_| count.replace(count.get() + 1) + 1 == expected.len());
                assert_eq!((last, count.get()), (expected.back().copied(), expected.len()));
            }
        }
    });
}

/// Numbers from 1 to 4 are the queue, from 5 to 8 the late one, and the others are no events.
#[test]
fn lists_are_queues_late_ones_or_none() {
    for level in 0..4 {
        assert!(List::QUEUE.at(level).is_queue() && !List::QUEUE.at(level).is_late());
        assert!(List::LATE.at(level).is_queue() && List::LATE.at(level).is_late());
    }
    for list in [List::NONE, List::TRIGGERED, List::BEFORE, List::AFTER, List::IDLE, List::DEFERRED, List::ALWAYS] {
        assert!(!list.is_queue() && !list.is_late());
    }
}

fn names(count: u32) -> Names {
    let names = Names::new(region::<AtomicU64>(count as usize), count);
    for index in 0..count {
        names.first(index, 7);
    }
    names
}

/// A source goes, and another comes.
fn replace(names: &Names, index: u32) {
    names.retire(index);
    names.take(index);
}

/// The handle that the next source in a slot gets, by what its last two sources had.
fn next(before: Handle, last: Handle) -> Handle {
    Handle::from_raw(last.raw() + (last.raw() - before.raw()))
}

fn woken(names: &Names) -> Vec<u32> {
    let mut all = Vec::new();
    names.take_woken(|index| all.push(index));
    all.sort_unstable();
    all
}

#[test]
fn a_handle_is_stale_after_its_slot_was_retired() {
    let names = names(3);
    let old = names.handle(1);
    assert_eq!(names.resolve(old), Some(1));
    names.retire(1);
    assert_eq!(names.resolve(old), None);
    assert_eq!(names.wake(old), Woken::Stale);
    names.take(1);
    assert_eq!((names.resolve(old), names.wake(old)), (None, Woken::Stale));
    let new = names.handle(1);
    assert_ne!(old, new);
    assert_eq!(names.resolve(new), Some(1));
    for garbage in [0, 1, 4, u64::MAX, 0xff_ffff] {
        assert_eq!(names.resolve(Handle::from_raw(garbage)), None);
        assert_eq!(names.wake(Handle::from_raw(garbage)), Woken::Stale);
    }
}

/// A free slot has no name; the source that comes next has the one that was to be expected, and nothing pending.
#[test]
fn a_handle_is_nobodys_before_its_source_comes() {
    let names = names(1);
    let mut before = names.handle(0);
    replace(&names, 0);
    // (Also when the slot is on the stack.)
    for on_stack in [false, true] {
        let last = names.handle(0);
        if on_stack {
            assert_eq!(names.wake(last), Woken::First);
        }
        let to_come = next(before, last);
        let stale = || {
            let between = names.handle(0);
            assert!(between != last && between != to_come);
            for handle in [before, last, between, to_come, next(last, to_come)] {
                assert_eq!((names.resolve(handle), names.wake(handle)), (None, Woken::Stale));
            }
        };
        names.retire(0);
        stale();
        assert_eq!(woken(&names), [] as [u32; 0]);
        stale();
        names.take(0);
        assert_eq!((names.handle(0), names.resolve(to_come)), (to_come, Some(0)));
        assert_eq!(woken(&names), [] as [u32; 0]);
        assert_eq!(names.wake(to_come), Woken::First);
        assert_eq!(woken(&names), [0]);
        before = last;
    }
}

/// The clock does not go behind what was, once it counts more than there are generations.
#[test]
fn the_generation_of_a_moment_is_one() {
    assert_eq!([0, 1 << 10, 5 << 10 | 1023].map(Names::generation_at), [0, 1, 5]);
    assert_eq!(Names::generation_at((1 << 49) - 1), (1 << 39) - 1);
    assert_eq!(Names::generation_at(1 << 49 | 7 << 10), 7);
}

/// Also behind that of a source in a slot that was taken again.
#[test]
fn the_next_generation_is_behind_all() {
    for start in [7, 8] {
        let names = Names::new(region::<AtomicU64>(2), 2);
        let latest = |index| names.handle(index).raw() >> 24;
        names.first(0, start);
        assert!(start <= latest(0) && latest(0) < names.next_generation());
        for _ in 0..3 {
            names.retire(0);
            assert!(latest(0) < names.next_generation());
            names.take(0);
            assert!(latest(0) < names.next_generation());
        }
        names.first(1, names.next_generation());
        assert!(latest(0) < latest(1) && latest(1) < names.next_generation());
    }
}

#[cfg(feature = "streams")]
#[test]
fn the_latest_handle_of_a_slot_is_known() {
    let names = Names::new(region::<AtomicU64>(2), 2);
    names.first(0, 7);
    let old = names.handle(0);
    assert_eq!(names.left(old), None, "it is still");
    names.retire(0);
    let free = names.handle(0);
    assert_eq!((names.left(old), names.left(free)), (Some(0), None));
    names.take(0);
    assert_eq!((names.left(old), names.left(free)), (None, None), "another one is there");
    names.retire(0);
    assert_eq!((names.left(old), names.left(free)), (None, None), "another one came after it");
    let before_garbage = Handle::from_raw(names.handle(1).raw().wrapping_sub(1 << 24));
    assert_eq!(names.left(before_garbage), None, "the slot was never used");
}

#[test]
fn a_place_belongs_to_one_handle() {
    let names = names(3);
    let old = names.handle(1);
    assert_eq!([old, names.handle(0), Handle::NONE].map(Names::place_of), [2, 1, 0]);
    assert!(names.is_of(2, old));
    assert_eq!([0, 4, u32::MAX].map(|place| names.is_of(place, old)), [false; 3], "there is no such place");
    assert!(!names.is_of(1, Handle::NONE));
    names.retire(1);
    assert!(!names.is_of(2, old), "it has gone");
    names.take(1);
    assert!(!names.is_of(2, old), "the generation is another");
    assert!(names.is_of(2, names.handle(1)));
    // A wake changes the word, and not whose it is.
    assert_eq!(names.wake(names.handle(1)), Woken::First);
    assert!(names.is_of(2, names.handle(1)));
}

/// Two values of a link are taken: none, and the end.
#[test]
fn as_many_sources_as_a_link_can_name() {
    use super::layout::bytes;
    assert_eq!(Names::SOURCES_MAX, (1 << 24) - 3);
    assert!(bytes(Names::SOURCES_MAX, 0, 0).is_some());
    assert_eq!(bytes(Names::SOURCES_MAX + 1, 0, 0), None);
    // A post is a node as a source is, and nodes have fewer numbers than words.
    assert!(bytes(0, NIL as usize, 0).is_some() && bytes(1, NIL as usize - 1, 0).is_some());
    assert_eq!((bytes(0, NIL as usize + 1, 0), bytes(1, NIL as usize, 0)), (None, None));
    assert_eq!((bytes(usize::MAX, 0, 0), bytes(0, usize::MAX, 0), bytes(1, 0, usize::MAX)), (None, None, None));
    assert_eq!(bytes(3, 5, 0), Some(4096 + 80 * 3 + 24 * 5));
    #[cfg(feature = "operations")]
    {
        assert!(bytes(1, 0, Names::SOURCES_MAX - 1).is_some() && bytes(1, NIL as usize - 3, 2).is_some());
        assert_eq!((bytes(1, 0, Names::SOURCES_MAX), bytes(1, NIL as usize - 2, 2)), (None, None));
        assert_eq!(bytes(3, 5, 7), Some(4096 + 80 * 3 + 24 * 5 + 128 * 7));
    }
}

#[cfg(feature = "operations")]
#[test]
fn a_handle_of_what_keeps_its_generation_elsewhere() {
    let names = Names::new(region::<AtomicU64>(4), 3);
    let handle = Names::handle_of(5, 9);
    assert_eq!((Names::parts_of(handle), Names::place_of(handle)), (Some((5, 9)), 6));
    assert_eq!((Names::parts_of(Handle::NONE), names.resolve(handle)), (None, None));
    assert_eq!(names.generation_after(9), 10);
    assert_eq!(names.next_generation(), 12, "no other handle gets it");
    assert_eq!(names.generation_after((1 << 39) - 1), 0);
    // What the loop watches for itself has a handle as sources have, and is nobody's to wake.
    names.watch(3, 20);
    assert_eq!(names.handle(3), Names::handle_of(3, 20));
    assert_eq!((names.sources(), names.next_generation()), (3, 22));
    assert_eq!((names.wake(names.handle(3)), names.resolve(names.handle(3))), (Woken::Stale, None));
}

/// Words without a name hold anything; a wake by a guessed handle must not touch them.
#[test]
fn what_was_never_used_has_no_name() {
    let words = region::<AtomicU64>(4);
    // What a source had, on a stack and pending.
    (0..4).for_each(|index| words[index].store(9 << 25 | 2 << 1 | 1, Ordering::Relaxed));
    let names = Names::new(words, 4);
    let garbage: Vec<Handle> = (0..4).map(|index| names.handle(index)).collect();
    for handle in &garbage {
        assert_eq!(names.wake(*handle), Woken::Stale);
        assert_eq!(names.resolve(*handle), None);
    }
    names.first(0, 1);
    names.first(3, 1);
    assert_eq!(names.unnamed(), 1..3);
    assert_eq!(names.wake(garbage[1]), Woken::Stale);
    assert_eq!(names.wake(names.handle(0)), Woken::First);
    assert_eq!(names.wake(names.handle(3)), Woken::First);
    assert_eq!(woken(&names), [0, 3]);
}

#[test]
fn wakes_coalesce_until_they_are_taken() {
    let names = names(3);
    assert_eq!(names.wake(names.handle(2)), Woken::First);
    assert_eq!(names.wake(names.handle(2)), Woken::Already);
    assert_eq!(names.wake(names.handle(0)), Woken::First);
    assert!(names.any_woken());
    assert_eq!(woken(&names), [0, 2]);
    assert_eq!(woken(&names), [] as [u32; 0]);
    assert_eq!(names.wake(names.handle(2)), Woken::First);
    assert_eq!(woken(&names), [2]);
}

#[test]
fn a_wake_of_a_removed_source_does_not_reach_its_successor() {
    let names = names(2);
    assert_eq!(names.wake(names.handle(1)), Woken::First);
    replace(&names, 1);
    assert_eq!(woken(&names), [] as [u32; 0], "pending for nobody");
    // The same with the successor woken while the old one is still on the stack.
    assert_eq!(names.wake(names.handle(1)), Woken::First);
    replace(&names, 1);
    assert_eq!(names.wake(names.handle(1)), Woken::First);
    assert_eq!(woken(&names), [1]);
    assert_eq!(woken(&names), [] as [u32; 0]);
    // It is on top of the stack already: woken for its new owner, it stays where it is, above the other.
    assert_eq!(names.wake(names.handle(0)), Woken::First);
    assert_eq!(names.wake(names.handle(1)), Woken::First);
    replace(&names, 1);
    assert_eq!(names.wake(names.handle(1)), Woken::First);
    assert_eq!(woken(&names), [0, 1]);
}

#[test]
fn generations_wrap() {
    let names = Names::new(region::<AtomicU64>(1), 1);
    names.first(0, u64::MAX);
    let last = names.handle(0);
    assert_eq!(last.raw() >> 63, 0, "a handle has 63 bits");
    names.retire(0);
    assert_eq!((names.resolve(last), names.resolve(names.handle(0))), (None, None));
    #[cfg(feature = "streams")]
    assert_eq!(names.left(last), Some(0));
    names.take(0);
    assert_ne!(names.handle(0), last);
    assert_eq!((names.resolve(last), names.resolve(names.handle(0))), (None, Some(0)));
    assert_eq!(names.handle(0).raw() >> 63, 0, "a handle has 63 bits");
}

/// Four threads wake, the loop's thread takes and, for some of the sources, retires. A value that was written before an
/// accepted wake of a source that stays is seen by a take after it, so none is lost; the others exercise the races, after
/// which the stack is whole.
#[test]
fn wakes_race_with_removal_and_are_not_lost() {
    const SOURCES: u32 = 6;
    const STAYING: u32 = 3;
    const WAKES: u64 = 20_000;
    let names = names(SOURCES);
    let written: Vec<AtomicU64> = (0..SOURCES).map(|_| AtomicU64::new(0)).collect();
    let mut seen = vec![0; SOURCES as usize];
    std::thread::scope(|scope| {
        let wakers: Vec<_> = (0..4)
            .map(|thread| {
                let (names, written) = (&names, &written);
                scope.spawn(move || {
                    let mut random = Random(thread + 1);
                    for _ in 0..WAKES {
                        let index = random.below(u64::from(SOURCES)) as u32;
                        written[index as usize].fetch_add(1, Ordering::SeqCst);
                        let woken = names.wake(names.handle(index));
                        assert!(index >= STAYING || woken != Woken::Stale);
                    }
                })
            })
            .collect();
        let mut random = Random(99);
        while !wakers.iter().all(|waker| waker.is_finished()) {
            names.take_woken(|index| seen[index as usize] = written[index as usize].load(Ordering::SeqCst));
            replace(&names, STAYING + random.below(u64::from(SOURCES - STAYING)) as u32);
        }
    });
    names.take_woken(|index| seen[index as usize] = written[index as usize].load(Ordering::SeqCst));
    for index in 0..STAYING as usize {
        assert_eq!(seen[index], written[index].load(Ordering::SeqCst), "a wake was lost");
    }
    for index in 0..SOURCES {
        assert_eq!(names.wake(names.handle(index)), Woken::First);
    }
    assert_eq!(woken(&names), (0..SOURCES).collect::<Vec<_>>());
}

#[test]
fn places_are_taken_once_until_they_are_given_back() {
    with_seeds(100, |random| {
        let count = random.below(9) as usize;
        // Links that nobody has zeroed, of which some look like those of places that are taken.
        let mut links: Vec<u32> = (0..count).map(|_| [u32::MAX, 0, 1, 7][random.below(4) as usize]).collect();
        let before = links.clone();
        let mut places = Places::EMPTY;
        let mut free: Vec<usize> = Vec::new();
        let mut taken = vec![false; count];
        let mut mark = 0;
        for _ in 0..100 {
            if random.below(2) == 0 {
                // The last one that came back, else the next that never was taken.
                let expected = free.pop().or_else(|| (mark < count).then_some(mark)).ok_or(Error::NO_BUFFERS);
                assert_eq!(places.take(&mut links), expected);
                if let Ok(place) = expected {
                    mark = mark.max(place + 1);
                    taken[place] = true;
                }
            } else {
                let place = random.below(count as u64 + 2) as usize;
                let expected = if taken.get(place) == Some(&true) { Ok(()) } else { Err(Error::STALE) };
                assert_eq!(places.give(&mut links, place), expected);
                if expected.is_ok() {
                    free.push(place);
                    taken[place] = false;
                }
            }
            for place in 0..count + 2 {
                assert_eq!(places.is_taken(&links, place), taken.get(place) == Some(&true), "place {place}");
            }
            assert_eq!(places.taken as usize, taken.iter().filter(|it| **it).count());
            assert_eq!(links[mark..], before[mark..], "what was never taken costs nothing");
            #[cfg(feature = "capi")]
            assert!(places.is_valid(count as u32));
        }
    });
    #[cfg(feature = "capi")]
    for places in [(0, 5, 0), (4, 3, 0), (0, 3, 4)].map(|(free, mark, taken)| Places { free, mark, taken }) {
        assert!(!places.is_valid(4));
    }
}

/// A link of this kind is plain by itself, and with the bits that are no matter; not with those that are one, nor in a list; and none
/// of another kind is.
fn assert_plain(is_plain: fn(&Link) -> bool, kind: Kind, other: Kind, no_matter: u8, matter: &[u8]) {
    let with = |bits: u8| {
        let mut link = Link::new(kind);
        link.set_level(bits & bits::LEVEL);
        link.set(bits & !bits::LEVEL, true);
        link
    };
    assert!(is_plain(&with(0)) && is_plain(&with(no_matter)));
    for bits in matter {
        assert!(!is_plain(&with(*bits)), "bits {bits}");
    }
    let mut queued = Link::new(kind);
    queued.join(1, NIL);
    assert!(!is_plain(&queued));
    assert!(!is_plain(&Link::new(other)));
}

#[test]
fn a_plain_io_source_has_nothing_to_look_at() {
    let matter = [1, 2, bits::ONESHOT, bits::TRIGGERED, bits::ACTIVE];
    let no_matter = bits::IDLE | bits::UNCOUNTED | bits::COUNTED;
    assert_plain(Link::is_plain_io, Kind::Io, Kind::Timer, no_matter, &matter);
}

#[cfg(feature = "streams")]
#[test]
fn a_plain_stream_is_in_no_list_and_not_triggered() {
    let matter = [1, 2, 3, bits::TRIGGERED, bits::TRIGGERED | 3];
    let no_matter = bits::IDLE | bits::UNCOUNTED | bits::COUNTED | bits::ACTIVE;
    assert_plain(Link::is_plain_stream, Kind::Stream, Kind::Io, no_matter, &matter);
}

#[cfg(feature = "operations")]
#[test]
fn a_plain_operation_is_in_no_list_and_of_the_first_level() {
    assert_plain(Link::is_plain_operation, Kind::Operation, Kind::Timer, bits::ACTIVE | bits::COUNTED, &[1, 2, 3]);
}

#[test]
fn a_slot_keeps_its_fields_apart() {
    let mut lists = lists(1, 0);
    let (slot, link) = (&mut lists.slots[0], &mut lists.links[0]);
    slot.set_ready(0xff);
    slot.set_heap_place(12_345);
    link.set_level(3);
    link.set(bits::TRIGGERED, true);
    link.join(13, 54_321);
    assert_eq!((slot.ready(), slot.heap_place(), link.level()), (0xff, 12_345, 3));
    assert!(link.is(Kind::Timer) && link.has(bits::TRIGGERED) && !link.has(bits::ONESHOT));
    assert_eq!((link.list(), link.next(), link.prev()), (13, NIL, 54_321));
    slot.set_ready(0);
    link.set(bits::TRIGGERED, false);
    assert_eq!((slot.ready(), slot.heap_place(), link.level()), (0, 12_345, 3));
    link.leave();
    assert_eq!((link.list(), link.kind()), (0, Some(Kind::Timer)));
    link.vacate(77);
    assert_eq!((link.kind(), link.next()), (None, 77));
    lists.slots[0].extra = PackedDuration::new(Duration::from_secs(1)).bits();
    assert_eq!(lists.idle_timeout(0), None);
    lists.links[0].set(bits::IDLE, true);
    assert_eq!(lists.idle_timeout(0), Some(Duration::from_secs(1)));
    lists.occupy(0, Kind::Io, NOBODY);
    let (slot, link) = (&lists.slots[0], &lists.links[0]);
    assert_eq!((link.kind(), slot.heap_place(), link.level(), slot.ready()), (Some(Kind::Io), NIL, 0, 0));
}

/// A table of streams in leaked memory, and where that begins.
#[cfg(feature = "streams")]
fn table(streams: u32, buffers: u32) -> (Table, NonNull<u8>) {
    #[repr(align(16))]
    #[derive(Clone)]
    struct Aligned(#[expect(dead_code)] [u8; 16]);
    let size = streams::bytes(streams, buffers, 256).expect("there can be such a table");
    let start = NonNull::from(Box::leak(vec![Aligned([0xa5; 16]); size.div_ceil(16)].into_boxed_slice())).cast();
    // SAFETY: leaked, aligned, and of that size.
    (unsafe { Table::new(start, streams, buffers, 256) }, start)
}

#[cfg(feature = "streams")]
#[test]
fn an_address_beside_all_buffers_is_in_none() {
    let (mut table, start) = table(1, 2);
    let number = table.add(0, 0);
    let first = table.buffers.take(number).expect("there is one");
    table.buffers.tell(first, 3);
    assert_eq!(table.keep(first), Ok((first.cast_const(), 3)));
    for beside in [first.wrapping_sub(1), first.wrapping_add(2 * 256)] {
        assert_eq!(table.keep(beside), Err(Error::INVALID));
        assert_eq!(table.release(beside), Err(Error::INVALID));
        assert_eq!(table.may_forward(beside, 0), Err(Error::INVALID));
        assert_eq!(table.buffers.start_of(beside), Err(Error::INVALID));
    }
    assert_eq!(table.release(first.wrapping_add(2 * 256 - 1)), Err(Error::STALE), "that one is free");
    // Nor are requests beside those of the buffers theirs.
    let requests = (streams::STREAM_BYTES, streams::STREAM_BYTES + 2 * (streams::BUFFER_BYTES - 8));
    for beside in [requests.0 - 16, requests.1] {
        // SAFETY: within the memory of the table.
        assert_eq!(table.owner_of(unsafe { start.add(beside) }.cast()), None);
    }
    let stream = table.at_mut(number);
    // The reason stands beside the bits, whatever errno value it is; the latest counts.
    let bits = (1 << 18) - 1;
    stream.state = bits;
    for errno in [4095, 1, 110, 2048] {
        stream.set_reason(Error::from_errno(errno));
        assert_eq!((stream.reason(), stream.state & bits), (errno as u16, bits));
    }
    stream.state = 0;
    let place = table.may_forward(first, 3).expect("it is kept");
    let request = table.forward(place, first, 3);
    assert_eq!(table.owner_of(request), Some(Some(number)));
    assert_eq!(table.release(first), Err(Error::STALE), "it is sent from");
    assert_eq!((table.forwarded(request), table.owner_of(request)), (Some(Some(number)), Some(Some(number))));
}

#[cfg(feature = "streams")]
#[test]
fn so_many_buffers_are_lent_as_there_are_receivers() {
    let (mut table, _) = table(8, 8);
    let number = table.add(5, 0);
    assert!(!table.buffers.are_lent() && !table.buffers.is_any_lent());
    table.buffers.may_lend(6);
    assert!(table.buffers.are_lent() && !table.buffers.is_any_lent());
    assert_eq!(table.buffers.lend(), None, "to nobody");
    table.buffers.receivers = 4;
    let mut lent = Vec::new();
    for mostly in [false, false, false, true, true] {
        assert_eq!(table.buffers.are_mostly_lent(), mostly, "{lent:?}");
        lent.extend(table.buffers.lend());
    }
    let (places, starts): (Vec<u16>, Vec<NonNull<u8>>) = lent.into_iter().unzip();
    assert_eq!(places, [0, 1, 2, 3]);
    assert!(table.buffers.is_any_lent());
    assert_eq!((table.buffers.left(), table.buffers.free()), (8, 4));
    assert!(!table.has_received(number));
    table.receive(number, 2, 77);
    assert!(table.has_received(number));
    assert_eq!((table.buffers.left(), table.buffers.free()), (8, 4));
    assert_eq!(table.buffers.lend(), None, "what was received, and nobody was told of, is enough");
    assert_eq!(table.take_received(number), Some((starts[2].as_ptr(), Ok(77))));
    assert!(!table.has_received(number));
    assert_eq!(table.take_received(number), None);
    for errno in [0, 104] {
        table.receive_failed(number, errno);
        let expected = if errno == 0 { Ok(0) } else { Err(Error::from_errno(errno.into())) };
        assert_eq!(table.take_received(number), Some((core::ptr::null_mut(), expected)));
    }
    // Not all that are received into are told of at once.
    let others: Vec<u32> = (10..13).map(|slot| table.add(slot, 0)).collect();
    for (other, place) in others.iter().zip([0, 1, 3]) {
        table.receive(*other, place, 1);
    }
    assert!(!table.buffers.is_any_lent() && !table.buffers.are_mostly_lent());
    // No more than may be, and not the last.
    table.buffers.receivers = 100;
    assert_eq!(core::iter::from_fn(|| table.buffers.lend()).count(), 4);
    assert_eq!(table.buffers.free(), 1);
    // Who waits for a buffer may have that one, and then nobody.
    assert!(!table.may_feed());
    table.starve(number);
    assert!(table.may_feed());
    table.buffers.take(number).and_then(|data| table.keep(data)).expect("it is free");
    assert!(!table.may_feed() && table.buffers.free() == 0);
}
