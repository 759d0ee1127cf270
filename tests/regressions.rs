//! What was wrong once, in the Rust API. (Forks, threads and signals: `tests/c/regressions.c`.)
#![forbid(unsafe_code)]

use becket::{Config, Duration, Event, Handle, Loop, StaticStorage, Storage};

fn count(calls: &mut u32, _: &Loop<u32>, _: Event) {
    *calls += 1;
}

/// A wake by a handle of a loop that was leaked in the same memory reached that loop's slot, and called a handler that
/// was made for another type.
#[test]
fn a_wake_does_not_reach_a_leaked_loops_slot() {
    fn other(text: &mut String, _: &Loop<String>, _: Event) {
        text.push('x');
    }
    let storage = Box::leak(Box::new(Storage::<8, 0>::new()));
    let leaked = Loop::<String>::new(&mut *storage, &Config::default()).unwrap();
    let handles: Vec<Handle> = (0..8).map(|_| leaked.add_wake(other, 0).unwrap()).collect();
    std::mem::forget(leaked);

    let event_loop = Loop::<u32>::new(storage, &Config::default()).unwrap();
    let own = event_loop.add_wake(count, 0).unwrap();
    for handle in handles {
        assert_ne!(handle, own);
        assert_eq!(event_loop.waker(handle).wake(), Err(becket::Error::STALE));
    }
    let mut calls = 0;
    assert_eq!(event_loop.turn(&mut calls, Duration::ZERO), Ok(0));
    event_loop.waker(own).wake().unwrap();
    event_loop.turn(&mut calls, Duration::ZERO).unwrap();
    assert_eq!(calls, 1);
}

/// A wake by a guessed handle of a slot that was never used cut off the wakes below it.
#[test]
fn a_guessed_handle_loses_no_wake() {
    static STORAGE: StaticStorage<8, 0> = StaticStorage::new();
    let event_loop = Loop::<u32>::new(STORAGE.take().unwrap(), &Config::default()).unwrap();
    let first = event_loop.add_wake(count, 0).unwrap();
    event_loop.waker(first).wake().unwrap();
    for guess in 0..100 {
        assert_eq!(event_loop.waker(Handle::from_raw(guess)).wake(), Err(becket::Error::STALE));
    }
    event_loop.add_wake(count, 0).unwrap();
    let mut calls = 0;
    event_loop.turn(&mut calls, Duration::ZERO).unwrap();
    event_loop.waker(first).wake().unwrap();
    event_loop.turn(&mut calls, Duration::ZERO).unwrap();
    assert_eq!(calls, 2);
}

/// A wake by the handle that the next source in a free slot gets was taken for that source, before it was there.
#[test]
fn a_wake_of_a_source_that_is_yet_to_come_is_stale() {
    static STORAGE: StaticStorage<8, 0> = StaticStorage::new();
    let event_loop = Loop::<u32>::new(STORAGE.take().unwrap(), &Config::default()).unwrap();
    let add = || event_loop.add_wake(count, 0).unwrap();
    let first = add();
    event_loop.remove(first).unwrap();
    let second = add();
    let third = Handle::from_raw(second.raw() + (second.raw() - first.raw()));
    assert_eq!(event_loop.waker(third).wake(), Err(becket::Error::STALE), "the slot is another's");
    event_loop.remove(second).unwrap();
    for raw in first.raw()..first.raw() + 2 {
        for generation in 0..8 {
            let guess = Handle::from_raw(raw + (generation << 24));
            assert_eq!(event_loop.waker(guess).wake(), Err(becket::Error::STALE), "the slot is free");
        }
    }
    assert_eq!(add(), third);
    let mut calls = 0;
    assert_eq!(event_loop.turn(&mut calls, Duration::ZERO), Ok(0));
    event_loop.waker(third).wake().unwrap();
    event_loop.turn(&mut calls, Duration::ZERO).unwrap();
    assert_eq!(calls, 1);
}

/// Memory of a loop whose head is dirty: nothing of it is believed.
#[test]
fn a_loop_in_the_memory_of_a_dropped_one() {
    let mut storage = Storage::<4, 2>::new();
    let mut old = Vec::new();
    for _ in 0..3 {
        let event_loop = Loop::<u32>::new(&mut storage, &Config::default()).unwrap();
        for handle in &old {
            assert_eq!(event_loop.kind(*handle), Err(becket::Error::STALE));
        }
        for _ in 0..4 {
            old.push(event_loop.add_wake(count, 0).unwrap());
        }
        for handle in &old[..old.len() - 4] {
            assert_eq!(event_loop.kind(*handle), Err(becket::Error::STALE));
        }
        assert_eq!(event_loop.add_wake(count, 0), Err(becket::Error::TABLE_FULL));
        event_loop.post(old[old.len() - 1], 1).unwrap();
    }
}

/// A loop that was prepared in one thread could not be dropped in another.
#[test]
fn a_prepared_loop_is_dropped_elsewhere() {
    let storage = Box::leak(Box::new(Storage::<2, 0>::new()));
    let event_loop = Loop::<u32>::new(storage, &Config::default()).unwrap();
    event_loop.prepare(Duration::ZERO).unwrap();
    std::thread::spawn(move || drop(event_loop)).join().unwrap();
}

/// What was left over from a turn came before the before-wait events of the next one.
#[test]
fn before_wait_events_come_first_in_the_pull_form() {
    let mut storage = Storage::<4, 4>::new();
    let event_loop = Loop::<u32>::new(&mut storage, &Config::default()).unwrap();
    let target = event_loop.add_wake_pulled(1).unwrap();
    event_loop.add_before(count, 2).unwrap();
    for value in 0..3 {
        event_loop.post(target, value).unwrap();
    }
    let all = becket::Kinds::all();
    assert_eq!(event_loop.poll(Duration::ZERO), Ok(1)); // the before-wait event alone: the rest waits for its turn
    assert_eq!(event_loop.next(all).unwrap().unwrap().kind, becket::Kind::Before);
    assert_eq!(event_loop.poll(Duration::ZERO), Ok(3));
    assert_eq!(event_loop.next(all).unwrap().unwrap().value, 0); // two are left over
    event_loop.poll(Duration::ZERO).unwrap();
    assert_eq!(event_loop.next(all).unwrap().unwrap().kind, becket::Kind::Before);
    assert_eq!(event_loop.next(all).unwrap(), None);
    event_loop.poll(Duration::ZERO).unwrap();
    assert_eq!(event_loop.next(all).unwrap().unwrap().value, 1);
}

/// One-shot could be chosen when a source was added, and never again.
#[test]
fn oneshot_is_changed_and_told() {
    use std::os::fd::AsRawFd;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut &theirs, b"x").unwrap();
    let mut storage = Storage::<1, 0>::new();
    let event_loop = Loop::<u32>::new(&mut storage, &Config::default()).unwrap();
    let source = event_loop.add_io(ours.as_raw_fd(), becket::Ready::READABLE, count, 0).unwrap();
    assert_eq!(event_loop.is_oneshot(source), Ok(false));
    let mut calls = 0;
    event_loop.turn(&mut calls, Duration::ZERO).unwrap();
    assert_eq!(event_loop.io_interest(source), Ok(becket::Ready::READABLE));
    event_loop.set_oneshot(source, true).unwrap();
    assert_eq!(event_loop.is_oneshot(source), Ok(true));
    for _ in 0..3 {
        event_loop.turn(&mut calls, Duration::ZERO).unwrap();
    }
    assert_eq!((calls, event_loop.io_interest(source)), (2, Ok(becket::Ready::empty())));
    event_loop.remove(source).unwrap();
}

/// The state of a program with signals, children or wakers had to be `'static`.
#[test]
fn a_state_that_borrows() {
    struct App<'a> {
        calls: &'a mut u32,
    }
    fn on_wake<'a>(app: &mut App<'a>, event_loop: &Loop<'static, App<'a>>, _: Event) {
        *app.calls += 1;
        event_loop.stop().unwrap();
    }
    static STORAGE: StaticStorage<2, 0> = StaticStorage::new();
    let mut calls = 0;
    let event_loop = Loop::new(STORAGE.take().unwrap(), &Config::default()).unwrap();
    let waker = event_loop.waker(event_loop.add_wake(on_wake, 0).unwrap());
    waker.wake().unwrap();
    event_loop.run(&mut App { calls: &mut calls }).unwrap();
    drop(event_loop);
    assert_eq!(calls, 1);
}

/// What a turn found beside what it delivers at once was queued, and not counted among the most that ever were.
#[test]
fn the_most_that_were_queued_is_counted_in_a_turn() {
    use std::os::fd::AsRawFd;
    fn look(most: &mut u32, event_loop: &Loop<u32>, _: Event) {
        let statistics = event_loop.statistics();
        assert!(statistics.queued <= statistics.queued_max, "{statistics:?}");
        *most = statistics.queued_max.max(*most);
    }
    let pairs = [(); 2].map(|()| std::os::unix::net::UnixStream::pair().unwrap());
    let mut storage = Storage::<2, 0>::new();
    let event_loop = Loop::<u32>::new(&mut storage, &Config::default()).unwrap();
    for (number, (ours, theirs)) in pairs.iter().enumerate() {
        std::io::Write::write_all(&mut &*theirs, b"x").unwrap();
        let source = event_loop.add_io(ours.as_raw_fd(), becket::Ready::READABLE, look, 0).unwrap();
        event_loop.set_oneshot(source, number == 0).unwrap();
    }
    let mut most = 0;
    assert_eq!(event_loop.turn(&mut most, Duration::ZERO), Ok(2));
    assert_eq!(most, 1);
    // Where nothing is delivered at once, all of it was.
    event_loop.modify_io(event_loop.find_io(pairs[0].0.as_raw_fd()).unwrap(), becket::Ready::READABLE).unwrap();
    assert_eq!(event_loop.poll(Duration::ZERO), Ok(2));
    assert_eq!(event_loop.statistics().queued_max, 2);
    // So were deferred and idle ones.
    let mut storage = Storage::<4, 0>::new();
    let event_loop = Loop::<u32>::new(&mut storage, &Config::default()).unwrap();
    for _ in 0..2 {
        event_loop.add_idle(look, 0).unwrap();
    }
    assert_eq!(event_loop.turn(&mut most, Duration::ZERO), Ok(2));
    assert_eq!(most, 2);
    for _ in 0..2 {
        event_loop.defer(event_loop.add_deferred(look, 0).unwrap()).unwrap();
    }
    assert_eq!(event_loop.turn(&mut most, Duration::ZERO), Ok(2));
}

/// A path without a NUL reached the kernel when another thread changed the buffer between the look and the lending.
#[test]
#[cfg(feature = "operations")]
fn a_path_is_looked_at_when_it_is_lent() {
    use becket::{Buffer, Error, FilesChoice};
    use std::sync::atomic::{AtomicBool, Ordering};
    fn note(value: &mut i64, _: &Loop<'static, i64>, event: Event) {
        *value = event.value;
    }
    static STORAGE: StaticStorage<2, 0, 2> = StaticStorage::new();
    static PATH: Buffer<[u8; 10]> = Buffer::new(*b"/dev/null\0");
    static OVER: AtomicBool = AtomicBool::new(false);
    let changer = std::thread::spawn(|| {
        while !OVER.load(Ordering::Relaxed) {
            let _ = PATH.with(|path| path[9] = if path[9] == 0 { b'x' } else { 0 });
            (0..100).for_each(|_| std::hint::spin_loop());
        }
    });
    let config = Config { files: FilesChoice::None, ..Config::default() };
    let event_loop = Loop::<i64>::new(STORAGE.take().unwrap(), &config).unwrap();
    let mut value = 0;
    for _ in 0..300_000 {
        match event_loop.open(-1, &PATH, 0, 0, note, 0) {
            Ok(_) => {
                event_loop.turn(&mut value, Duration::ZERO).unwrap();
                assert!(value >= 0, "{value}: the path had no end");
                let fd = i32::try_from(value).unwrap();
                event_loop.close(fd, note, 0).unwrap();
                event_loop.turn(&mut value, Duration::ZERO).unwrap();
            }
            Err(error) => assert!(error == Error::BUSY || error == Error::INVALID, "{error}"),
        }
    }
    OVER.store(true, Ordering::Relaxed);
    changer.join().unwrap();
}

/// With an operation that waited for its fd, the registrations of slots that were never used were watched too: fd 0 in fresh
/// memory, the fds of the loop that was there before in other.
#[test]
#[cfg(all(feature = "operations", feature = "select", feature = "poll"))]
fn memory_that_was_never_used_is_no_registration() {
    use becket::{BackendChoice, Buffer, Ready, Watch};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    static BUFFERS: [Buffer<[u8; 8]>; 4] = [const { Buffer::new([0; 8]) }; 4];
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let others: Vec<_> = (0..4).map(|_| UnixStream::pair().unwrap()).collect();
    let mut buffers = BUFFERS.iter();
    for backend in [BackendChoice::Select, BackendChoice::Poll] {
        let config = Config { backend, ..Config::default() };
        for fresh in [true, false] {
            let storage = Box::leak(Box::new(Storage::<8, 0, 2>::new()));
            if !fresh {
                let before = Loop::<u32>::new(&mut *storage, &config).unwrap();
                for (one, other) in &others {
                    before.add_io(one.as_raw_fd(), Ready::WRITABLE, count, 0).unwrap();
                    before.add_io(other.as_raw_fd(), Ready::WRITABLE, count, 0).unwrap();
                }
            }
            let event_loop = Loop::<u32>::new(storage, &config).unwrap();
            event_loop.recv(ours.as_raw_fd(), buffers.next().unwrap(), 0..8, 0, count, 0).unwrap();
            let mut calls = 0;
            assert_eq!(event_loop.turn(&mut calls, Duration::ZERO), Ok(0));
            let mut watches = [Watch { fd: -1, interest: Ready::empty() }; 16];
            assert_eq!(event_loop.watches(&mut watches), Ok(2), "on {backend:?}: {watches:?}");
            assert_eq!(watches[1], Watch { fd: ours.as_raw_fd(), interest: Ready::READABLE });
            assert_eq!(event_loop.drain(&mut calls, Duration::from_secs(10)), Ok(()));
        }
    }
}
