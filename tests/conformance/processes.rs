//! Forked children: a loop belongs to the process that made it. Each test is a process of its own, with one thread
//! that matters; the forked child makes system calls and calls of becket alone, and leaves by _exit.

use crate::harness::*;
use becket::{BackendChoice, Config, Duration, Error, Kinds, Loop, Statistics, Storage};
use std::process::{Command, Stdio};

each_backend! { alone:
    a_loop_in_a_forked_child_is_the_parents
    a_forked_child_makes_a_loop_of_its_own
    a_forked_child_closes_what_watches_the_parents_children
    a_signal_in_a_forked_child_is_not_the_parents
    forgotten_loops_leave_no_fds
}

/// Runs `child` in a forked child; it answers with the number of the check that failed, or 0.
fn in_a_child(child: impl FnOnce() -> i32) {
    // SAFETY: the child calls nothing that needs other threads, and leaves by _exit.
    let status = unsafe {
        let process = libc::fork();
        assert!(process >= 0);
        if process == 0 {
            let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(99);
            libc::_exit(answer);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(process, &raw mut status, 0), process);
        status
    };
    assert_eq!(status, 0, "check {} failed in the child", status >> 8);
}

/// The number of the first check that does not hold; 0: all do.
fn first_failed(checks: &[bool]) -> i32 {
    checks.iter().position(|check| !check).map_or(0, |number| number as i32 + 1)
}

fn a_loop_in_a_forked_child_is_the_parents(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let io = rig.io("io", &ours, READABLE, nothing);
    let wake = rig.wake("wake", nothing);
    let (waker, stopper) = (rig.event_loop.waker(wake), rig.event_loop.stopper());
    rig.event_loop.poll(Duration::ZERO).unwrap();
    in_a_child(|| {
        let it = &rig.event_loop;
        first_failed(&[
            it.poll(Duration::ZERO) == Err(Error::NOT_OURS),
            it.next(Kinds::all()) == Err(Error::NOT_OURS),
            it.turn(&mut App::default(), Duration::ZERO) == Err(Error::NOT_OURS),
            it.run(&mut App::default()) == Err(Error::NOT_OURS),
            it.remove(io) == Err(Error::NOT_OURS),
            it.modify_io(io, PAUSED) == Err(Error::NOT_OURS),
            it.add_wake(handler, 0) == Err(Error::NOT_OURS),
            it.trigger(wake, PAUSED) == Err(Error::NOT_OURS),
            it.post(wake, 1) == Err(Error::NOT_OURS),
            it.stop() == Err(Error::NOT_OURS),
            it.now() == Err(Error::NOT_OURS),
            waker.wake() == Err(Error::NOT_OURS),
            stopper.stop() == Err(Error::NOT_OURS),
            it.statistics() == Statistics::default(),
        ])
    });
    // Nothing of that has reached the parent.
    assert_eq!(rig.pull(Kinds::all()), ["io readable"]);
    rig.event_loop.remove(io).unwrap();
    rig.assert_silent();
}

fn a_forked_child_makes_a_loop_of_its_own(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    rig.wake("wake", nothing);
    in_a_child(|| {
        let mut storage = Storage::<4, 4>::new();
        let config = Config { backend, ..Config::default() };
        let Ok(event_loop) = Loop::<u32>::new(&mut storage, &config) else { return 1 };
        fn on_timer(count: &mut u32, _: &Loop<u32>, _: becket::Event) {
            *count += 1;
        }
        let added = event_loop.add_timer(Duration::from_millis(1), Duration::ZERO, on_timer, 0);
        let mut count = 0;
        let ran = event_loop.run(&mut count);
        drop(event_loop);
        first_failed(&[true, added.is_ok(), ran == Ok(becket::Outcome::NothingLeft), count == 1])
    });
    rig.assert_silent();
}

fn a_forked_child_closes_what_watches_the_parents_children(backend: BackendChoice) {
    // They run until their input ends.
    let mut cats = [(); 2].map(|()| Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    let mut rig = Rig::new(backend);
    // SAFETY: asks for flags alone.
    let is_open = |fd: &i32| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0;
    let before: Vec<i32> = (0..100).filter(is_open).collect();
    for cat in &cats {
        rig.child("cat", cat.id(), nothing);
    }
    let opened: Vec<i32> = (0..100).filter(|fd| is_open(fd) && !before.contains(fd)).collect();
    assert_eq!(opened.len(), cats.len());
    in_a_child(|| {
        // SAFETY: the child ends by _exit, and does not use it again.
        drop(unsafe { std::ptr::read(&raw const rig.event_loop) });
        first_failed(&[!opened.iter().any(is_open)])
    });
    assert!(opened.iter().all(is_open), "the parent goes on to watch");
    for cat in &mut cats {
        drop(cat.stdin.take());
    }
    assert_eq!(rig.run().0, ["cat 0", "cat 0"]);
}

fn a_signal_in_a_forked_child_is_not_the_parents(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    rig.signal("usr1", libc::SIGUSR1, nothing);
    in_a_child(|| {
        // SAFETY: no memory is touched. The handler is the parent's loop's, which is another process's here.
        unsafe { libc::raise(libc::SIGUSR1) };
        0
    });
    rig.assert_silent();
    // SAFETY: as above; here it is ours.
    unsafe { libc::raise(libc::SIGUSR1) };
    assert_eq!(rig.turn(), ["usr1 1"]);
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn forgotten_loops_leave_no_fds(backend: BackendChoice) {
    let config = Config { backend, ..Config::default() };
    let mut storage = Box::new(Storage::<4, 4>::new());
    let before = open_fds();
    let own = match backend {
        BackendChoice::Select | BackendChoice::Poll => 1, // what wakes it
        _ => 2,                                           // and the backend's
    };
    for _ in 0..10 {
        std::mem::forget(Loop::<()>::new(&mut *storage, &config).unwrap());
    }
    assert_eq!(open_fds(), before + own, "those of the last one");
    drop(Loop::<()>::new(&mut *storage, &config).unwrap());
    assert_eq!(open_fds(), before);
    // A loop that was moved out of its memory's way, and memory that never held one, are no loops.
    let moved = Box::new(*storage);
    let mut moved = moved;
    drop(Loop::<()>::new(&mut *moved, &config).unwrap());
    assert_eq!(open_fds(), before);
}
