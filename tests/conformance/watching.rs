//! Where backends that keep their own books could differ from those that ask anew each time: edges, what goes by unseen,
//! files that outlive their fd, more that is ready than one system call tells, deliveries in the middle of which the program
//! changes things, and loops inside of others.

use crate::harness::*;
use becket::{BackendChoice, Config, Duration, Error, IoOptions, Kinds, Loop, Ready, Ring, Storage, Watch};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

each_backend! {
    an_edge_is_told_once
    an_edge_in_a_wait_that_was_not_collected
    an_edge_of_several_writes_is_one_event
    a_modify_tells_an_edge_anew
    an_edge_that_was_paused
    an_edge_is_drained_in_its_handler
    exclusive_sources
    a_half_closed_peer_leaves_a_writer_alone
    what_was_drained_before_the_wait_is_not_told
    what_was_filled_before_the_wait_is_not_told
    a_toggle_in_one_turn_changes_nothing
    always_ready_fds
    a_number_that_was_closed_and_opened_again
    a_file_that_lives_on_elsewhere_tells_nobody
    a_removal_lets_go_of_the_file
    a_handler_looks_for_more_in_the_middle_of_a_turn
    a_turn_in_a_handler_brings_the_rest
    a_level_that_changes_in_the_middle_of_a_turn
    a_post_in_the_middle_of_a_turn
    a_loop_inside_of_another
    a_loop_that_spins_first
    changes_beyond_the_list
}

each_backend! { alone:
    all_that_is_ready_comes_in_one_turn
    a_small_budget_serves_all_in_turn
    a_ring_that_is_far_too_small
    the_memory_of_a_ring_is_given_back
}

const EDGE: IoOptions = IoOptions { oneshot: false, trusted: false, edge: true, exclusive: false };

fn has_edges(backend: BackendChoice) -> bool {
    matches!(backend, BackendChoice::Epoll | BackendChoice::IoUring)
}

/// A rig with an edge-triggered source "a", if this backend has them. Else it is refused, and nothing has changed.
fn with_edge(backend: BackendChoice, fd: &impl AsRawFd, interest: Ready) -> Option<Rig> {
    let mut rig = Rig::new(backend);
    if has_edges(backend) {
        let source = rig.io_with("a", fd, interest, EDGE);
        assert!(rig.event_loop.io_options(source).unwrap().edge);
        return Some(rig);
    }
    let answer = rig.event_loop.add_io_with(fd.as_raw_fd(), interest, EDGE, None, 0);
    assert_eq!(answer, Err(Error::UNSUPPORTED));
    assert_eq!(rig.event_loop.statistics().sources, 0);
    None
}

fn an_edge_is_told_once(backend: BackendChoice) {
    let (ours, mut theirs) = pair();
    let Some(mut rig) = with_edge(backend, &ours, READABLE) else { return };
    rig.assert_silent();
    for _ in 0..2 {
        theirs.write_all(b"x").unwrap();
        assert_eq!(rig.turn(), ["a readable"]);
        rig.assert_silent();
    }
    assert_eq!(drain(&ours), 2);
    rig.assert_silent();
    theirs.write_all(b"x").unwrap();
    assert_eq!(rig.turn(), ["a readable"]);
    drop(theirs);
    assert_eq!(rig.turn(), ["a readable writable hangup peer-closed"].map(|all| all.replace(" writable", "")));
    rig.assert_silent();
}

/// The next wait threw it away.
fn an_edge_in_a_wait_that_was_not_collected(backend: BackendChoice) {
    let (ours, mut theirs) = pair();
    let Some(mut rig) = with_edge(backend, &ours, READABLE) else { return };
    rig.assert_silent();
    theirs.write_all(b"x").unwrap();
    let it = &rig.event_loop;
    for _ in 0..3 {
        assert_eq!(it.prepare(Duration::ZERO), Ok(0));
        it.wait().unwrap();
        it.wait().unwrap();
    }
    assert_eq!(it.collect(), Ok(1));
    assert_eq!(rig.pull(Kinds::all()), ["a readable"]);
    rig.assert_silent();
}

fn an_edge_of_several_writes_is_one_event(backend: BackendChoice) {
    let (ours, mut theirs) = pair();
    let Some(mut rig) = with_edge(backend, &ours, READABLE) else { return };
    rig.assert_silent();
    for _ in 0..5 {
        theirs.write_all(b"x").unwrap();
    }
    assert_eq!(rig.turn(), ["a readable"]);
    rig.assert_silent();
}

fn a_modify_tells_an_edge_anew(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let Some(mut rig) = with_edge(backend, &ours, READABLE) else { return };
    let a = rig.app.handle("a");
    assert_eq!(rig.turn(), ["a readable"]);
    rig.assert_silent();
    rig.event_loop.modify_io(a, READABLE).unwrap();
    assert_eq!(rig.turn(), ["a readable"], "the same interest again");
    rig.assert_silent();
    rig.event_loop.change_io(a, READABLE, PAUSED).unwrap();
    assert_eq!(rig.turn(), ["a readable"], "a change that is none");
    rig.assert_silent();
    rig.event_loop.modify_io(a, BOTH).unwrap();
    assert_eq!(rig.turn(), ["a readable writable"]);
    rig.assert_silent();
    drain(&ours);
    rig.event_loop.modify_io(a, READABLE).unwrap();
    rig.assert_silent();
}

fn an_edge_that_was_paused(backend: BackendChoice) {
    let (ours, mut theirs) = pair();
    let Some(mut rig) = with_edge(backend, &ours, READABLE) else { return };
    let a = rig.app.handle("a");
    rig.assert_silent();
    rig.event_loop.modify_io(a, PAUSED).unwrap();
    theirs.write_all(b"x").unwrap();
    rig.assert_silent();
    rig.event_loop.modify_io(a, READABLE).unwrap();
    assert_eq!(rig.turn(), ["a readable"], "what came during the pause");
    rig.assert_silent();
}

/// Reading to EAGAIN in each event loses nothing, whatever comes when.
fn an_edge_is_drained_in_its_handler(backend: BackendChoice) {
    let (ours, mut theirs) = pair();
    let Some(mut rig) = with_edge(backend, &ours, READABLE) else { return };
    let mut random = Random::new(7);
    let (mut sent, mut received) = (0, 0);
    for _ in 0..500 {
        for _ in 0..random.below(3) {
            theirs.write_all(b"xyz").unwrap();
            sent += 3;
        }
        if !rig.turn().is_empty() {
            received += drain(&ours);
        }
    }
    assert_eq!(received, sent);
}

fn exclusive_sources(backend: BackendChoice) {
    let (ours, mut theirs) = pair();
    let mut rig = Rig::new(backend);
    let options = IoOptions { exclusive: true, ..IoOptions::default() };
    if backend != BackendChoice::Epoll {
        let answer = rig.event_loop.add_io_with(ours.as_raw_fd(), READABLE, options, None, 0);
        assert_eq!(answer, Err(Error::UNSUPPORTED));
        return;
    }
    let interest = READABLE | Ready::PRIORITY;
    assert_eq!(rig.event_loop.add_io_with(ours.as_raw_fd(), interest, options, None, 0), Err(Error::INVALID));
    let a = rig.io_with("a", &ours, READABLE, options);
    assert!(rig.event_loop.io_options(a).unwrap().exclusive);
    rig.assert_silent();
    theirs.write_all(b"x").unwrap();
    assert_eq!(rig.turns(2), ["a readable", "a readable"], "level-triggered");
    rig.event_loop.modify_io(a, BOTH).unwrap();
    assert_eq!(rig.turn(), ["a readable writable"]);
    assert_eq!(rig.event_loop.change_io(a, Ready::PRIORITY, PAUSED), Err(Error::INVALID));
    assert_eq!(rig.event_loop.io_interest(a), Ok(BOTH));
    rig.event_loop.modify_io(a, PAUSED).unwrap();
    rig.assert_silent();
    rig.event_loop.modify_io(a, READABLE).unwrap();
    assert_eq!(rig.turn(), ["a readable"]);
}

/// Its output stalls, and the peer has said that it sends no more: nothing that a writer has asked for.
fn a_half_closed_peer_leaves_a_writer_alone(backend: BackendChoice) {
    let (ours, theirs) = pair();
    let mut rig = Rig::new(backend);
    rig.io("a", &ours, WRITABLE, nothing);
    fill(&ours);
    theirs.shutdown(Shutdown::Write).unwrap();
    for _ in 0..2 {
        rig.turns(2); // may have to find out
        rig.assert_silent();
        drain(&theirs);
        assert_eq!(rig.turns(3), ["a writable", "a writable", "a writable"], "as long as there is room");
        fill(&ours);
    }
}

fn what_was_drained_before_the_wait_is_not_told(backend: BackendChoice) {
    let (ours, mut theirs) = pair();
    let (other, mut other_peer) = pair();
    let mut rig = Rig::new(backend);
    rig.io("a", &ours, READABLE, nothing);
    rig.io("b", &other, READABLE, nothing);
    rig.assert_silent();
    for _ in 0..3 {
        theirs.write_all(b"x").unwrap();
        other_peer.write_all(b"x").unwrap();
        assert_eq!(drain(&ours), 1);
        assert_eq!(rig.turn(), ["b readable"]);
        drain(&other);
        rig.turn();
        rig.assert_silent();
    }
}

fn what_was_filled_before_the_wait_is_not_told(backend: BackendChoice) {
    let (ours, theirs) = pair();
    let mut rig = Rig::new(backend);
    fill(&ours);
    rig.io("a", &ours, WRITABLE, nothing);
    rig.assert_silent();
    drain(&theirs);
    fill(&ours);
    assert_eq!(rig.turn(), [""; 0]);
    drain(&theirs);
    assert_eq!(rig.turn(), ["a writable"]);
}

fn a_toggle_in_one_turn_changes_nothing(backend: BackendChoice) {
    let (ours, mut theirs) = pair();
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &ours, READABLE, |_, event_loop, event| {
        for _ in 0..3 {
            event_loop.modify_io(event.source, WRITABLE).unwrap();
            event_loop.modify_io(event.source, PAUSED).unwrap();
            event_loop.modify_io(event.source, READABLE).unwrap();
        }
    });
    rig.assert_silent();
    theirs.write_all(b"x").unwrap();
    assert_eq!(rig.turns(3), ["a readable", "a readable", "a readable"]);
    drain(&ours);
    rig.turn();
    rig.assert_silent();
    rig.event_loop.modify_io(a, BOTH).unwrap();
    assert_eq!(rig.turn(), ["a writable"]);
}

/// /dev/null never blocks, and cannot be waited for.
fn always_ready_fds(backend: BackendChoice) {
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let other = File::options().read(true).write(true).open("/dev/null").unwrap();
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &null, READABLE, nothing);
    assert_eq!(rig.turns(2), ["a readable", "a readable"]);
    assert_eq!(rig.turn_for(1000 * MS), ["a readable"], "no sleep");
    rig.io("b", &ours, READABLE, nothing);
    let mut both = rig.turn();
    both.sort();
    assert_eq!(both, ["a readable", "b readable"]);
    rig.event_loop.remove(rig.app.handle("b")).unwrap();
    rig.event_loop.modify_io(a, PAUSED).unwrap();
    rig.assert_silent();
    rig.event_loop.modify_io(a, BOTH).unwrap();
    assert_eq!(rig.turn(), ["a readable writable"]);
    rig.event_loop.set_oneshot(a, true).unwrap();
    assert_eq!(rig.turn(), ["a readable writable"]);
    rig.assert_silent();
    rig.event_loop.remove(a).unwrap();
    let oneshot = IoOptions { oneshot: true, ..IoOptions::default() };
    let c = rig.io_with("c", &other, WRITABLE, oneshot);
    assert_eq!(rig.turn(), ["c writable"]);
    rig.assert_silent();
    rig.event_loop.modify_io(c, WRITABLE).unwrap();
    assert_eq!(rig.turn(), ["c writable"]);
}

fn a_number_that_was_closed_and_opened_again(backend: BackendChoice) {
    let (ours, _theirs) = pair();
    let (ready, _peer) = readable();
    let number = ours.as_raw_fd();
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &ours, READABLE, nothing);
    rig.assert_silent();
    dup2(&ready, number);
    rig.event_loop.modify_io(a, BOTH).unwrap();
    assert_eq!(rig.turns(2), ["a readable writable", "a readable writable"], "it is the new file's from the change on");
    rig.event_loop.modify_io(a, PAUSED).unwrap();
    rig.assert_silent();
    let (quiet, _peer) = pair();
    dup2(&quiet, number);
    rig.event_loop.modify_io(a, READABLE).unwrap();
    rig.turn();
    rig.assert_silent();
    rig.event_loop.remove(a).unwrap();
    rig.io("b", &Fd(number), WRITABLE, nothing);
    assert_eq!(rig.turn(), ["b writable"]);
}

/// The fd is closed before its source is removed, and the file goes on elsewhere: nothing can be said to the kernel any more.
fn a_file_that_lives_on_elsewhere_tells_nobody(backend: BackendChoice) {
    let (ours, mut theirs) = pair();
    let (other, mut other_peer) = pair();
    let elsewhere = ours.try_clone().unwrap();
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &ours, BOTH, nothing);
    rig.io("b", &other, READABLE, nothing);
    assert_eq!(rig.turn(), ["a writable"]);
    drop(ours);
    rig.event_loop.remove(a).unwrap();
    theirs.write_all(b"x").unwrap();
    assert_eq!(rig.turns(20), [""; 0]);
    rig.assert_silent();
    other_peer.write_all(b"x").unwrap();
    assert_eq!(rig.turn(), ["b readable"]);
    assert_eq!(drain(&other), 1);
    // Its slot and its number have new owners.
    let (new, _new_peer) = pair();
    rig.io("c", &new, READABLE, nothing);
    theirs.write_all(b"x").unwrap();
    assert_eq!(rig.turns(20), [""; 0]);
    rig.assert_silent();
    rig.io("d", &elsewhere, READABLE, nothing);
    assert_eq!(rig.turns(2), ["d readable", "d readable"], "who watches the file now");
}

/// As soon as the source is removed the owner's close is the last one.
fn a_removal_lets_go_of_the_file(backend: BackendChoice) {
    let ended = |theirs: &UnixStream| matches!((&*theirs).read(&mut [0; 8]), Ok(0));
    let mut rig = Rig::new(backend);
    for round in 0..8 {
        let (ours, theirs) = pair();
        let interest = if round % 2 == 0 { READABLE } else { BOTH };
        let options = IoOptions { edge: round >= 4 && has_edges(backend), ..IoOptions::default() };
        let a = rig.io_with("a", &ours, interest, options);
        rig.turns(round % 3);
        rig.trace();
        if round == 2 {
            rig.event_loop.modify_io(a, PAUSED).unwrap();
        }
        rig.event_loop.remove(a).unwrap();
        drop(ours);
        assert!(ended(&theirs), "round {round}: the file is still open");
    }
    // In a handler: of its own source, and of another.
    let (first, first_peer) = readable();
    let (second, second_peer) = pair();
    rig.io("b", &second, READABLE, nothing);
    rig.turn();
    let (mut first, mut second) = (Some(first), Some(second));
    let fd = Fd(first.as_ref().unwrap().as_raw_fd());
    rig.io("a", &fd, READABLE, move |app, event_loop, event| {
        event_loop.remove(event.source).unwrap();
        drop(first.take());
        event_loop.remove(app.handle("b")).unwrap();
        drop(second.take());
        app.note("both are gone");
    });
    assert_eq!(rig.turn(), ["a readable", "both are gone"]);
    let _ = (&first_peer).read(&mut [0; 8]);
    assert!(ended(&second_peer));
    rig.assert_silent();
}

/// Three that are ready; the handler of whichever is first does this.
fn three_ready(
    backend: BackendChoice,
    first: impl Fn(&mut App, &Loop<App>) + Clone + 'static,
) -> (Rig, Vec<(UnixStream, UnixStream)>) {
    let pairs: Vec<_> = (0..3).map(|_| readable()).collect();
    let mut rig = Rig::new(backend);
    for (name, (ours, _)) in ["a", "b", "c"].iter().zip(&pairs) {
        let first = first.clone();
        rig.io(name, ours, READABLE, move |app, event_loop, _| {
            if !std::mem::replace(&mut app.acted, true) {
                first(app, event_loop);
            }
        });
    }
    (rig, pairs)
}

fn sorted(mut trace: Vec<String>) -> Vec<String> {
    trace.sort();
    trace
}

fn a_handler_looks_for_more_in_the_middle_of_a_turn(backend: BackendChoice) {
    let (mut rig, _pairs) = three_ready(backend, |app, event_loop| {
        event_loop.poll(Duration::ZERO).unwrap();
        while let Some(event) = event_loop.next(Kinds::all()).unwrap() {
            let text = app.describe(&event);
            app.note(format!("pulled {text}"));
        }
    });
    let trace = rig.turn();
    assert_eq!(trace.iter().filter(|text| text.starts_with("pulled")).count(), trace.len() - 1, "{trace:?}");
    // Its own fd is still ready, and that was asked for anew.
    let names: BTreeSet<_> = trace.iter().map(|text| text.replace("pulled ", "")).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a readable", "b readable", "c readable"]);
    assert_eq!(sorted(rig.turn()), ["a readable", "b readable", "c readable"]);
}

fn a_turn_in_a_handler_brings_the_rest(backend: BackendChoice) {
    let (mut rig, pairs) = three_ready(backend, |app, event_loop| {
        event_loop.turn(app, Duration::ZERO).unwrap();
        app.note("back");
    });
    let trace = rig.turn();
    assert_eq!(trace.last().unwrap(), "back", "nothing is delivered twice: {trace:?}");
    let names: BTreeSet<_> = trace[..trace.len() - 1].iter().cloned().collect();
    assert_eq!(names.len(), 3, "{trace:?}");
    pairs.iter().for_each(|(ours, _)| assert_eq!(drain(ours), 1));
    rig.turn();
    rig.assert_silent();
}

/// The level counts from the next queueing; nothing is lost or told twice.
fn a_level_that_changes_in_the_middle_of_a_turn(backend: BackendChoice) {
    let (mut rig, _pairs) = three_ready(backend, |app, event_loop| {
        for name in ["a", "b", "c"] {
            event_loop.set_level(app.handle(name), 2).unwrap();
        }
    });
    assert_eq!(sorted(rig.turn()), ["a readable", "b readable", "c readable"]);
    let a = rig.app.handle("a");
    rig.event_loop.set_level(a, 0).unwrap();
    let trace = rig.turn();
    assert_eq!(trace[0], "a readable");
    assert_eq!(sorted(trace), ["a readable", "b readable", "c readable"]);
}

fn a_post_in_the_middle_of_a_turn(backend: BackendChoice) {
    let (mut rig, _pairs) = three_ready(backend, |app, event_loop| {
        event_loop.post(app.handle("a"), 7).unwrap();
    });
    let trace = rig.turn();
    assert_eq!(sorted(trace.clone()), ["a post 7", "a readable", "b readable", "c readable"]);
    assert_eq!(trace[3], "a post 7", "behind what was ready");
}

/// The sleep is a foreign loop's, on the descriptor of the backend or on all that there is to watch.
fn a_loop_inside_of_another(backend: BackendChoice) {
    const FOREVER: i32 = 20_000;
    let (ours, mut theirs) = pair();
    let (other, mut other_peer) = pair();
    let mut rig = Rig::with(&Config { backend, ..Config::default() });
    rig.io("a", &ours, READABLE, nothing);
    rig.io("b", &other, READABLE, nothing);
    let wake = rig.wake("w", nothing);
    assert_eq!(rig.event_loop.fd().is_ok(), backend == BackendChoice::Epoll);
    let anything = |rig: &Rig, timeout: i32| {
        let mut watches = [Watch::default(); 8];
        let count = rig.event_loop.watches(&mut watches).unwrap();
        let entry = |it: &Watch| libc::pollfd { fd: it.fd, events: it.interest.bits() as i16, revents: 0 };
        let mut asked: Vec<_> = watches[..count].iter().map(entry).collect();
        if let Ok(fd) = rig.event_loop.fd() {
            assert_eq!((asked.len(), asked[0].fd), (1, fd));
        }
        // SAFETY: valid to read and write.
        unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, timeout) > 0 }
    };
    let sleeps = |rig: &Rig| {
        assert_eq!(rig.event_loop.prepare(Duration::FOREVER), Ok(0));
        assert_eq!(rig.event_loop.timeout(), Ok(Duration::FOREVER));
        assert!(!anything(rig, 0), "there is nothing to collect");
    };
    let served = |rig: &Rig| {
        rig.event_loop.prepare(Duration::ZERO).unwrap();
        rig.event_loop.wait().unwrap();
        rig.event_loop.collect().unwrap();
        sorted(rig.pull(Kinds::all()))
    };
    for _ in 0..3 {
        sleeps(&rig);
        theirs.write_all(b"x").unwrap();
        assert!(anything(&rig, FOREVER));
        assert_eq!(served(&rig), ["a readable"]);
        drain(&ours);
        sleeps(&rig);
        let waker = rig.event_loop.waker(wake);
        let waking = std::thread::spawn(move || waker.wake().unwrap());
        assert!(anything(&rig, FOREVER), "a wake from another thread");
        waking.join().unwrap();
        assert_eq!(served(&rig), ["w triggered"]);
        sleeps(&rig);
        // What changes while the foreign loop sleeps ends that sleep.
        other_peer.write_all(b"x").unwrap();
        rig.event_loop.modify_io(rig.app.handle("a"), WRITABLE).unwrap();
        assert!(anything(&rig, FOREVER));
        assert_eq!(served(&rig), ["a writable", "b readable"]);
        drain(&other);
        rig.event_loop.modify_io(rig.app.handle("a"), READABLE).unwrap();
        assert_eq!(served(&rig), [""; 0]);
    }
}

/// It spins before it sleeps: never early, and woken by whatever wakes a sleep.
fn a_loop_that_spins_first(backend: BackendChoice) {
    let config = Config { backend, busy_poll: Duration::from_millis(3), ..Config::default() };
    let mut rig = Rig::with(&config);
    let (ours, mut theirs) = pair();
    rig.io("a", &ours, READABLE, nothing);
    let wake = rig.wake("w", nothing);
    for span in [0, 1, 2 * MS, 8 * MS] {
        let start = std::time::Instant::now();
        assert_eq!(rig.event_loop.poll(Duration::from_nanos(span)), Ok(0));
        assert!(start.elapsed().as_nanos() as u64 >= span, "early");
        rig.timer("t", span, 0, |_, event_loop, event| event_loop.remove(event.source).unwrap());
        let start = std::time::Instant::now();
        assert_eq!(rig.turn_for(20_000 * MS), ["t 1"]);
        assert!(start.elapsed().as_nanos() as u64 >= span, "early");
    }
    theirs.write_all(b"x").unwrap();
    assert_eq!(rig.turn_for(20_000 * MS), ["a readable"]);
    drain(&ours);
    for pause in [0, 1, 10] {
        let waker = rig.event_loop.waker(wake);
        let waking = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(pause));
            waker.wake().unwrap();
        });
        let mut trace = Vec::new();
        while trace.is_empty() {
            trace = rig.turn_for(20_000 * MS);
        }
        assert_eq!(trace, ["w triggered"]);
        waking.join().unwrap();
    }
}

/// More changes in one turn than are remembered one by one.
fn changes_beyond_the_list(backend: BackendChoice) {
    let pairs: Vec<_> = (0..100).map(|_| pair()).collect();
    let mut rig = Rig::sized::<128, 1>(&virtual_config(backend));
    let sources: Vec<_> =
        pairs.iter().enumerate().map(|(at, it)| rig.io(&format!("{at}"), &it.0, READABLE, nothing)).collect();
    rig.assert_silent();
    let mut random = Random::new(3);
    for _ in 0..50 {
        let mut writable = BTreeSet::new();
        for (at, source) in sources.iter().enumerate() {
            for _ in 0..random.below(3) {
                let interest = [PAUSED, READABLE, WRITABLE][random.below(3) as usize];
                rig.event_loop.modify_io(*source, interest).unwrap();
            }
            if rig.event_loop.io_interest(*source).unwrap() == WRITABLE {
                writable.insert(format!("{at} writable"));
            }
        }
        assert_eq!(rig.turn().into_iter().collect::<BTreeSet<_>>(), writable);
    }
}

/// So many fds of one file that has a byte to read.
fn copies(of: &UnixStream, count: usize) -> Vec<OwnedFd> {
    // SAFETY: each is a new fd, and nobody else's.
    let dup = || unsafe { OwnedFd::from_raw_fd(libc::fcntl(of.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3)) };
    (0..count).map(|_| dup()).collect()
}

fn all_that_is_ready_comes_in_one_turn(backend: BackendChoice) {
    const COUNT: usize = 500;
    let (ours, _theirs) = readable();
    let fds = copies(&ours, COUNT);
    let mut rig = Rig::sized::<COUNT, 1>(&virtual_config(backend));
    for (at, fd) in fds.iter().enumerate() {
        rig.io(&format!("{at}"), fd, READABLE, nothing);
    }
    for _ in 0..3 {
        let trace = rig.turn();
        assert_eq!((trace.len(), trace.iter().collect::<BTreeSet<_>>().len()), (COUNT, COUNT), "each once");
        assert_eq!(rig.event_loop.poll(Duration::ZERO), Ok(COUNT as u32), "and in the pull form");
        assert_eq!(rig.pull(Kinds::all()).len(), COUNT);
    }
    assert_eq!(drain(&ours), 1);
    rig.turn();
    rig.assert_silent();
}

fn a_small_budget_serves_all_in_turn(backend: BackendChoice) {
    const COUNT: usize = 300;
    let (ours, _theirs) = readable();
    let fds = copies(&ours, COUNT);
    let mut rig = Rig::sized::<COUNT, 1>(&Config { budget: 60, ..virtual_config(backend) });
    for (at, fd) in fds.iter().enumerate() {
        rig.io(&format!("{at}"), fd, READABLE, nothing);
    }
    for _ in 0..3 {
        let told: BTreeSet<_> = (0..5).flat_map(|_| rig.turn()).collect();
        assert_eq!(told.len(), COUNT, "who waits goes first");
    }
}

/// A rig with memory for rings. `None`, and a word: this machine has no io_uring.
fn with_ring<const ENTRIES: usize>(backend: BackendChoice, ring: &'static mut Ring<ENTRIES>) -> Option<Rig> {
    if backend != BackendChoice::IoUring {
        return None;
    }
    let storage = Box::leak(Box::new(Storage::<256, 1>::new()));
    let config = Config { backend: BackendChoice::Auto, ..virtual_config(backend) };
    let event_loop = Loop::with_ring(storage, ring, &config).unwrap();
    let (name, note) = event_loop.backend();
    assert!(!note.is_empty(), "it was chosen, and says why");
    if name != "io_uring" {
        println!("skipped: {note}");
        return None;
    }
    Some(Rig { event_loop, app: App::default() })
}

/// 8 submissions and 32 completions, for 200 sources that are all ready and all change: more system calls, nothing lost. (The
/// kernel makes only so many completions in one system call.)
fn a_ring_that_is_far_too_small(backend: BackendChoice) {
    let (ours, mut theirs) = readable();
    let fds = copies(&ours, 200);
    let Some(mut rig) = with_ring(backend, Box::leak(Box::new(Ring::<8>::new()))) else { return };
    for (at, fd) in fds.iter().enumerate() {
        rig.io(&format!("{at}"), fd, READABLE, nothing);
    }
    for round in 0..5 {
        let told: BTreeSet<_> = (0..20).flat_map(|_| rig.turn()).collect();
        assert_eq!(told.len(), 200, "round {round}");
        assert_eq!(drain(&ours), 1);
        rig.turn();
        rig.assert_silent();
        theirs.write_all(b"x").unwrap(); // all are armed, and complete at once
    }
    for at in 0..200 {
        rig.event_loop.modify_io(rig.app.handle(&format!("{at}")), if at % 2 == 0 { PAUSED } else { BOTH }).unwrap();
    }
    let trace = rig.turn();
    assert_eq!(trace.len(), 100);
    assert!(trace.iter().all(|text| text.ends_with("readable writable")));
    for at in 0..200 {
        rig.event_loop.remove(rig.app.handle(&format!("{at}"))).unwrap();
    }
    rig.turn();
    rig.assert_silent();
}

/// After the end of a loop the kernel writes nothing into the memory of its ring, whatever its fds do.
fn the_memory_of_a_ring_is_given_back(backend: BackendChoice) {
    let ring = Box::leak(Box::new(Ring::<16>::new()));
    let memory: *const u8 = std::ptr::from_mut(ring).cast();
    let pairs: Vec<_> = (0..20).map(|_| pair()).collect();
    let Some(mut rig) = with_ring(backend, ring) else { return };
    for (at, (ours, _)) in pairs.iter().enumerate() {
        rig.io(&format!("{at}"), ours, READABLE, nothing);
    }
    rig.turn();
    drop(rig);
    // SAFETY: the memory is leaked; volatile, as the kernel might write there.
    let look = || (0..size_of::<Ring<16>>()).map(|at| unsafe { memory.add(at).read_volatile() }).collect::<Vec<_>>();
    assert!(look().iter().all(|byte| *byte == 0), "it is zeros");
    for (ours, mut theirs) in pairs {
        theirs.write_all(b"x").unwrap();
        drop(ours);
        assert_eq!(
            (&theirs).write(b"x").map_err(|error| error.kind()),
            Err(std::io::ErrorKind::BrokenPipe),
            "it is closed"
        );
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(look().iter().all(|byte| *byte == 0));
}
