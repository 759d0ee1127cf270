//! Changing and removing sources at every moment: an event that is queued concerns who is there when it is taken out.

use crate::harness::*;
use becket::{BackendChoice, Error, Handle, IoOptions, Kind, Kinds, Ready};
use std::io::Write;
use std::os::fd::AsRawFd;

each_backend! {
    modify_is_idempotent
    change_sets_and_clears
    an_interest_is_a_direction
    oneshot_ends_with_its_delivery
    oneshot_can_be_armed_again_in_its_handler
    a_handler_modifies_its_own_interest
    a_direction_that_was_modified_away_is_not_told
    a_direction_that_was_not_asked_for_at_collection_is_not_told
    a_place_that_was_left_while_many_were_changed
    a_source_that_is_paused_while_queued_is_silent
    a_pause_that_is_taken_back_while_queued_changes_nothing
    a_handler_removes_its_own_source
    a_handler_removes_an_earlier_source
    a_handler_removes_a_later_source
    a_handler_removes_everything
    the_new_owner_of_a_slot_hears_nothing_of_the_old_one
    a_new_source_of_the_same_fd_hears_nothing_old
    the_new_owner_of_an_fd_hears_nothing_of_the_old_one
    an_fd_that_was_closed_first_never_tells_another_source
    a_stale_handle_is_stale_for_everything
    handles_are_never_used_again
    handles_that_never_were_are_stale
    the_wrong_kind_is_an_error_that_changes_nothing
    getters_give_what_was_given
    getters_give_what_one_kind_has
    another_handler_takes_over_from_the_next_event_on
    a_source_without_a_handler_is_for_next
    remove_never_closes
}

each_backend! { alone:
    remove_is_legal_after_a_close
}

/// A change of a source that is removed before the kernel was told leaves nothing behind that keeps the place's next owner
/// from being told of, however many were changed.
fn a_place_that_was_left_while_many_were_changed(backend: BackendChoice) {
    const COUNT: usize = 40;
    let pairs: Vec<_> = (0..COUNT).map(|_| readable()).collect();
    let mut rig = Rig::sized::<64, 0>(&virtual_config(backend));
    let names: Vec<String> = (0..COUNT).map(|index| format!("{index}")).collect();
    let sources: Vec<_> =
        names.iter().zip(&pairs).map(|(name, (ours, _))| rig.io(name, ours, READABLE, nothing)).collect();
    assert_eq!(rig.turn().len(), COUNT);
    for source in &sources {
        rig.event_loop.modify_io(*source, PAUSED).unwrap();
    }
    for source in &sources[COUNT - 4..] {
        rig.event_loop.remove(*source).unwrap();
    }
    assert_eq!(rig.turn(), Vec::<String>::new());
    for (ours, _) in &pairs[COUNT - 4..] {
        let again = rig.io("again", ours, PAUSED, nothing);
        rig.event_loop.modify_io(again, READABLE).unwrap();
    }
    assert_eq!(rig.turn(), vec!["again readable"; 4]);
}

fn modify_is_idempotent(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &ours, READABLE, nothing);
    for interest in [READABLE, BOTH, BOTH, PAUSED, PAUSED, WRITABLE, WRITABLE] {
        rig.event_loop.modify_io(a, interest).unwrap();
        rig.event_loop.modify_io(a, interest).unwrap();
        assert_eq!(rig.event_loop.io_interest(a), Ok(interest));
    }
    assert_eq!(rig.turn(), ["a writable"]);
    // Also while an event is queued: it is not lost.
    rig.event_loop.poll(becket::Duration::ZERO).unwrap();
    rig.event_loop.modify_io(a, WRITABLE).unwrap();
    assert_eq!(rig.pull(Kinds::all()), ["a writable"]);
}

fn change_sets_and_clears(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &ours, PAUSED, nothing);
    let steps = [
        (READABLE, PAUSED, READABLE),
        (WRITABLE, PAUSED, BOTH),
        (PAUSED, READABLE, WRITABLE),
        (PAUSED, READABLE, WRITABLE),
        (READABLE, WRITABLE, READABLE),
        (BOTH, READABLE, WRITABLE), // what is in both is taken away
        (PAUSED, BOTH, PAUSED),
    ];
    for (set, clear, result) in steps {
        rig.event_loop.change_io(a, set, clear).unwrap();
        assert_eq!(rig.event_loop.io_interest(a), Ok(result));
    }
    rig.assert_silent();
    rig.event_loop.change_io(a, READABLE, PAUSED).unwrap();
    assert_eq!(rig.turn(), ["a readable"]);
}

fn an_interest_is_a_direction(backend: BackendChoice) {
    let (ours, theirs) = readable();
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &ours, READABLE, nothing);
    let others = [
        Ready::ERROR,
        Ready::HANGUP,
        Ready::PEER_CLOSED,
        Ready::TIMEOUT,
        Ready::DEADLINE,
        Ready::TRIGGERED,
        Ready::all(),
    ];
    for flag in others {
        assert_eq!(rig.event_loop.modify_io(a, READABLE | flag), Err(Error::INVALID));
        assert_eq!(rig.event_loop.change_io(a, flag, PAUSED), Err(Error::INVALID));
        assert_eq!(rig.event_loop.change_io(a, PAUSED, flag), Err(Error::INVALID));
        assert_eq!(rig.event_loop.change_io(a, flag, flag), Err(Error::INVALID));
        assert_eq!(rig.event_loop.add_io(theirs.as_raw_fd(), flag, handler, 0), Err(Error::INVALID));
    }
    assert_eq!(rig.event_loop.io_interest(a), Ok(READABLE));
    assert_eq!(rig.turn(), ["a readable"]);
}

const ONESHOT: IoOptions = IoOptions { oneshot: true, trusted: false, edge: false, exclusive: false };

fn oneshot_ends_with_its_delivery(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let a = rig.io_with("a", &ours, BOTH, ONESHOT);
    assert_eq!(rig.turn(), ["a readable writable"]);
    assert_eq!(rig.event_loop.io_interest(a), Ok(PAUSED));
    rig.assert_silent();
    for _ in 0..2 {
        rig.event_loop.modify_io(a, READABLE).unwrap();
        assert_eq!(rig.turns(3), ["a readable"], "one-shot it stays");
    }
    // What is no readiness does not end it.
    rig.event_loop.modify_io(a, READABLE).unwrap();
    drain(&ours);
    rig.event_loop.trigger(a, PAUSED).unwrap();
    assert_eq!(rig.turn(), ["a triggered"]);
    assert_eq!(rig.event_loop.io_interest(a), Ok(READABLE));
}

fn oneshot_can_be_armed_again_in_its_handler(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let token = rig.app.token("a", |app, event_loop, event| {
        app.note(format!("{:?}", event_loop.io_interest(event.source).unwrap()));
        event_loop.modify_io(event.source, READABLE).unwrap();
    });
    rig.event_loop.add_io_with(ours.as_raw_fd(), READABLE, ONESHOT, Some(handler), token).unwrap();
    let paused = format!("{PAUSED:?}");
    assert_eq!(rig.turns(2), ["a readable", &paused, "a readable", &paused]);
}

fn a_handler_modifies_its_own_interest(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    rig.io("a", &ours, READABLE, |_, event_loop, event| {
        let other = if event.ready == READABLE { WRITABLE } else { PAUSED };
        event_loop.modify_io(event.source, other).unwrap();
    });
    assert_eq!(rig.turns(4), ["a readable", "a writable"]);
}

/// Two readable sources; the handler of whichever comes first does something to the other, whose event is queued.
fn first_of_two(
    backend: BackendChoice,
    interest: Ready,
    action: impl Fn(&mut App, &becket::Loop<App>, Handle) + Clone + 'static,
) -> (Rig, Vec<String>) {
    let mut rig = Rig::new(backend);
    for (name, other) in [("a", "b"), ("b", "a")] {
        let (ours, theirs) = readable();
        let action = action.clone();
        rig.io(name, &ours, interest, move |app, event_loop, _| {
            if !std::mem::replace(&mut app.acted, true) {
                action(app, event_loop, app.handle(other));
            }
        });
        // Open for the rest of the test: the actions may have closed the number meanwhile, so nobody owns it.
        std::mem::forget((ours, theirs));
    }
    assert_eq!(rig.event_loop.poll(becket::Duration::ZERO), Ok(2), "both are queued");
    // Without another collection: what is queued is all there is.
    while let Some(event) = rig.event_loop.next(Kinds::all()).unwrap() {
        rig.event_loop.dispatch(&mut rig.app, event).unwrap();
    }
    let trace = rig.trace();
    (rig, trace)
}

fn a_direction_that_was_modified_away_is_not_told(backend: BackendChoice) {
    let (_, trace) = first_of_two(backend, BOTH, |_, event_loop, other| {
        event_loop.change_io(other, PAUSED, READABLE).unwrap();
    });
    assert_eq!(trace.len(), 2);
    assert!(trace[0].ends_with("readable writable") && trace[1].ends_with(" writable"), "{trace:?}");
    assert!(!trace[1].contains("readable"), "{trace:?}");
    // And when nothing is left of it, there is no event.
    let (rig, trace) = first_of_two(backend, READABLE, |_, event_loop, other| {
        event_loop.modify_io(other, WRITABLE).unwrap();
    });
    assert_eq!(trace.len(), 1, "{trace:?}");
    assert_eq!(rig.event_loop.statistics().stale_dropped, 1);
}

fn a_direction_that_was_not_asked_for_at_collection_is_not_told(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &ours, WRITABLE, nothing);
    rig.event_loop.poll(becket::Duration::ZERO).unwrap();
    rig.event_loop.modify_io(a, BOTH).unwrap();
    assert_eq!(rig.pull(Kinds::all()), ["a writable"], "it is known from the next collection on");
    assert_eq!(rig.turn(), ["a readable writable"]);
}

fn a_source_that_is_paused_while_queued_is_silent(backend: BackendChoice) {
    let (mut rig, trace) = first_of_two(backend, READABLE, |_, event_loop, other| {
        event_loop.modify_io(other, PAUSED).unwrap();
    });
    assert_eq!(trace.len(), 1, "{trace:?}");
    assert_eq!(rig.turn(), trace, "the first one goes on");
}

fn a_pause_that_is_taken_back_while_queued_changes_nothing(backend: BackendChoice) {
    let (_, trace) = first_of_two(backend, READABLE, |_, event_loop, other| {
        event_loop.modify_io(other, PAUSED).unwrap();
        event_loop.modify_io(other, READABLE).unwrap();
    });
    assert_eq!(trace.len(), 2, "{trace:?}");
}

fn a_handler_removes_its_own_source(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    rig.io("a", &ours, READABLE, |_, event_loop, event| {
        event_loop.remove(event.source).unwrap();
        assert_eq!(event_loop.remove(event.source), Err(Error::STALE));
    });
    assert_eq!(rig.turns(3), ["a readable"]);
    assert_eq!(rig.event_loop.statistics().sources, 0);
}

fn a_handler_removes_an_earlier_source(backend: BackendChoice) {
    let [(a, _a), (b, _b)] = [readable(), readable()];
    let mut rig = Rig::new(backend);
    rig.io("early", &a, READABLE, nothing);
    let late = rig.io("late", &b, READABLE, |app, event_loop, _| {
        let _ = event_loop.remove(app.handle("early"));
    });
    rig.event_loop.set_level(late, 1).unwrap();
    assert_eq!(rig.turns(2), ["early readable", "late readable", "late readable"]);
}

fn a_handler_removes_a_later_source(backend: BackendChoice) {
    let (mut rig, trace) = first_of_two(backend, READABLE, |_, event_loop, other| event_loop.remove(other).unwrap());
    assert_eq!(trace.len(), 1, "{trace:?}");
    assert_eq!(rig.turn(), trace);
    assert_eq!(rig.event_loop.statistics().sources, 1);
}

fn a_handler_removes_everything(backend: BackendChoice) {
    let pairs: Vec<_> = (0..10).map(|_| readable()).collect();
    let mut rig = Rig::new(backend);
    for (number, (ours, _)) in pairs.iter().enumerate() {
        rig.io(&format!("{number}"), ours, READABLE, |app, event_loop, _| {
            for number in 0..10 {
                event_loop.remove(app.handle(&format!("{number}"))).unwrap();
            }
        });
    }
    assert_eq!(rig.turns(2).len(), 1);
    assert_eq!(rig.event_loop.statistics().sources, 0);
    assert_eq!(rig.event_loop.statistics().queued, 0);
}

fn the_new_owner_of_a_slot_hears_nothing_of_the_old_one(backend: BackendChoice) {
    let (quiet, mut peer) = pair();
    let fd = quiet.as_raw_fd();
    let (mut rig, trace) = first_of_two(backend, READABLE, move |app, event_loop, other| {
        event_loop.remove(other).unwrap();
        let token = app.token("new", nothing);
        let new = event_loop.add_io(fd, READABLE, handler, token).unwrap();
        app.named(token, new);
        assert_ne!(new, other);
    });
    assert_eq!(trace.len(), 1, "{trace:?}");
    peer.write_all(b"x").unwrap();
    assert!(rig.turn().contains(&"new readable".to_owned()));
}

fn a_new_source_of_the_same_fd_hears_nothing_old(backend: BackendChoice) {
    // The readiness that was collected belonged to the old source; the new one is told by the next collection.
    let (mut rig, trace) = first_of_two(backend, READABLE, |app, event_loop, other| {
        let fd = event_loop.io_fd(other).unwrap();
        event_loop.remove(other).unwrap();
        let token = app.token("new", nothing);
        let new = event_loop.add_io(fd, READABLE, handler, token).unwrap();
        app.named(token, new);
    });
    assert_eq!(trace.len(), 1, "{trace:?}");
    assert!(rig.turn().contains(&"new readable".to_owned()));
}

fn the_new_owner_of_an_fd_hears_nothing_of_the_old_one(backend: BackendChoice) {
    // Removed, closed, the number used for another file, added again: all while the old one's event is queued.
    let (quiet, _peer) = pair();
    let quiet = std::rc::Rc::new(quiet);
    let (mut rig, trace) = first_of_two(backend, READABLE, move |app, event_loop, other| {
        let fd = event_loop.io_fd(other).unwrap();
        event_loop.remove(other).unwrap();
        dup2(&*quiet, fd);
        let token = app.token("new", nothing);
        let new = event_loop.add_io(fd, READABLE, handler, token).unwrap();
        app.named(token, new);
    });
    assert_eq!(trace.len(), 1, "{trace:?}");
    assert_eq!(rig.turn(), trace, "the new file has nothing to read");
}

fn an_fd_that_was_closed_first_never_tells_another_source(backend: BackendChoice) {
    // The order that the documentation advises against: the old source may hear of the new file, but no other one.
    let (quiet, _peer) = pair();
    let quiet = std::rc::Rc::new(quiet);
    let (mut rig, trace) = first_of_two(backend, READABLE, move |app, event_loop, other| {
        let fd = event_loop.io_fd(other).unwrap();
        dup2(&*quiet, fd);
        assert_eq!(event_loop.add_io(fd, READABLE, handler, 0), Err(Error::EXISTS));
        event_loop.remove(other).unwrap();
        let token = app.token("new", nothing);
        let new = event_loop.add_io(fd, READABLE, handler, token).unwrap();
        app.named(token, new);
    });
    assert_eq!(trace.len(), 1, "{trace:?}");
    assert_eq!(rig.turn(), trace);
}

fn remove_is_legal_after_a_close(backend: BackendChoice) {
    let [(a, _a), (b, _b)] = [readable(), readable()];
    let mut rig = Rig::new(backend);
    let source = rig.io("a", &a, READABLE, nothing);
    let fd = a.as_raw_fd();
    drop(a);
    rig.event_loop.remove(source).unwrap();
    rig.assert_silent();
    // The number is free for another file, with nothing left of the old one.
    dup2(&b, fd);
    rig.io("b", &Fd(fd), READABLE, nothing);
    assert_eq!(rig.turn(), ["b readable"]);
}

fn stale(rig: &Rig, old: Handle) {
    let (it, long) = (&rig.event_loop, becket::Duration::from_secs(1));
    let answers = [
        it.remove(old),
        it.modify_io(old, READABLE),
        it.change_io(old, READABLE, PAUSED),
        it.set_idle_timeout(old, long),
        it.set_deadline(old, long),
        it.set_deadline_at(old, becket::Instant::NEVER),
        it.io_fd(old).map(|_| ()),
        it.io_interest(old).map(|_| ()),
        it.arm_timer(old, long, long),
        it.arm_timer_at(old, becket::Instant::NEVER, long),
        it.disarm_timer(old),
        it.timer_deadline(old).map(|_| ()),
        it.enable_hook(old, true),
        it.defer(old),
        it.trigger(old, PAUSED),
        it.post(old, 1),
        it.set_level(old, 1),
        it.level(old).map(|_| ()),
        it.set_keepalive(old, true),
        it.keepalive(old).map(|_| ()),
        it.set_handler(old, None, 1),
        it.token(old).map(|_| ()),
        it.kind(old).map(|_| ()),
        it.waker(old).wake(),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer, Err(Error::STALE), "call {number}");
    }
}

fn a_stale_handle_is_stale_for_everything(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let old = rig.io("old", &ours, READABLE, nothing);
    rig.event_loop.remove(old).unwrap();
    stale(&rig, old);
    // Also when the slot has a new owner, of any kind.
    let new = rig.timer("new", 5 * MS, 0, nothing);
    stale(&rig, old);
    rig.event_loop.remove(new).unwrap();
    rig.io("new", &ours, READABLE, nothing);
    stale(&rig, old);
    stale(&rig, new);
    assert_eq!(rig.turn(), ["new readable"]);
}

fn handles_are_never_used_again(backend: BackendChoice) {
    let mut rig = Rig::sized::<3, 0>(&virtual_config(backend));
    let mut seen = std::collections::HashSet::new();
    let mut live = std::collections::VecDeque::new();
    for _ in 0..10_000 {
        let handle = rig.event_loop.add_timer_pulled(becket::Duration::FOREVER, becket::Duration::ZERO, 0).unwrap();
        assert_ne!(handle, Handle::NONE);
        assert_eq!(handle.raw() >> 63, 0, "63 bits");
        assert!(seen.insert(handle));
        live.push_back(handle);
        if live.len() == 3 {
            rig.event_loop.remove(live.pop_front().unwrap()).unwrap();
        }
    }
    for handle in seen {
        assert_eq!(rig.event_loop.kind(handle).is_ok(), live.contains(&handle));
    }
    rig.assert_silent();
}

fn handles_that_never_were_are_stale(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let before = rig.wake("before", nothing);
    rig.event_loop.remove(before).unwrap();
    let wake = rig.wake("a", nothing);
    let raw = wake.raw();
    for number in [0, 1, 33, u64::MAX, raw + 1, raw - 1, raw ^ 1 << 40, raw | 1 << 63, raw & 0xff_ffff] {
        stale(&rig, Handle::from_raw(number));
    }
    assert_eq!(rig.event_loop.kind(Handle::from_raw(raw)), Ok(Kind::Wake));
    // Nor is there a source by the handle that the next one in this slot will have.
    let next = Handle::from_raw(raw + (raw - before.raw()));
    stale(&rig, next);
    rig.event_loop.remove(wake).unwrap();
    stale(&rig, next);
    assert_eq!(rig.wake("b", nothing), next);
    rig.assert_silent();
    rig.event_loop.waker(next).wake().unwrap();
    assert_eq!(rig.turn(), ["b triggered"]);
}

fn the_wrong_kind_is_an_error_that_changes_nothing(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let long = becket::Duration::from_secs(1);
    let io = rig.io("io", &ours, READABLE, nothing);
    let timer = rig.timer("timer", 5 * MS, 0, nothing);
    let wake = rig.wake("wake", nothing);
    let hook = rig.before("hook", nothing);
    let deferred = rig.deferred("deferred", nothing);
    let it = &rig.event_loop;
    for other in [timer, wake, hook, deferred] {
        assert_eq!(it.modify_io(other, READABLE), Err(Error::INVALID));
        assert_eq!(it.change_io(other, READABLE, PAUSED), Err(Error::INVALID));
        assert_eq!(it.set_idle_timeout(other, long), Err(Error::INVALID));
        assert_eq!(it.set_deadline(other, long), Err(Error::INVALID));
        assert_eq!(it.io_fd(other), Err(Error::INVALID));
        assert_eq!(it.io_interest(other), Err(Error::INVALID));
        assert_eq!(it.trigger(other, READABLE), Err(Error::INVALID), "readiness is for I/O");
    }
    for other in [io, wake, hook, deferred] {
        assert_eq!(it.arm_timer(other, long, long), Err(Error::INVALID));
        assert_eq!(it.arm_timer_at(other, becket::Instant::NEVER, long), Err(Error::INVALID));
        assert_eq!(it.disarm_timer(other), Err(Error::INVALID));
        assert_eq!(it.timer_deadline(other), Err(Error::INVALID));
    }
    for other in [io, timer, wake, deferred] {
        assert_eq!(it.enable_hook(other, false), Err(Error::INVALID));
    }
    for other in [io, timer, wake, hook] {
        assert_eq!(it.defer(other), Err(Error::INVALID));
        assert_eq!(it.set_level(other, 4), Err(Error::INVALID));
        assert_eq!(it.level(other), Ok(0));
    }
    assert_eq!(rig.turn(), ["hook", "io readable"]);
    assert_eq!(rig.after_ns(5 * MS)[1..], ["io readable", "timer 1"]);
}

fn getters_give_what_was_given(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let it = &rig.event_loop;
    let io = it.add_io(ours.as_raw_fd(), BOTH, handler, 71).unwrap();
    let timer = it.add_timer(becket::Duration::from_millis(5), becket::Duration::ZERO, handler, 72).unwrap();
    assert_eq!(it.io_fd(io), Ok(ours.as_raw_fd()));
    assert_eq!(it.io_interest(io), Ok(BOTH));
    assert_eq!((it.token(io), it.token(timer)), (Ok(71), Ok(72)));
    assert_eq!((it.kind(io), it.kind(timer)), (Ok(Kind::Io), Ok(Kind::Timer)));
    assert_eq!((it.level(io), it.keepalive(io)), (Ok(0), Ok(true)));
    it.set_level(io, 3).unwrap();
    it.set_keepalive(io, false).unwrap();
    assert_eq!((it.level(io), it.keepalive(io)), (Ok(3), Ok(false)));
    assert_eq!(it.timer_deadline(timer).unwrap().as_nanos(), rig.now() + 5 * MS);
    it.disarm_timer(timer).unwrap();
    assert_eq!(it.timer_deadline(timer), Ok(becket::Instant::NEVER));
    let token = rig.app.token("io", nothing);
    rig.event_loop.set_handler(io, Some(handler), token).unwrap();
    assert_eq!(rig.event_loop.token(io), Ok(token));
    rig.event_loop.poll(becket::Duration::ZERO).unwrap();
    let event = rig.event_loop.next(Kinds::all()).unwrap().expect("it is ready");
    let told = (event.source, event.kind, event.fd, event.level, event.token, event.value);
    assert_eq!(told, (io, Kind::Io, ours.as_raw_fd(), 3, token, 0));
}

fn getters_give_what_one_kind_has(backend: BackendChoice) {
    use becket::{Duration, Instant};
    let (ours, _theirs) = pair();
    let mut rig = Rig::new(backend);
    let (delay, period, span) = (Duration::from_millis(5), Duration::from_millis(7), Duration::from_secs(2));
    let io = rig.io("io", &ours, READABLE, nothing);
    let timer = rig.timer("timer", 5 * MS, 7 * MS, nothing);
    let hooks = [rig.before("before", nothing), rig.after("after", nothing), rig.idle("idle", nothing)];
    let deferred = rig.deferred("deferred", nothing);
    let it = &rig.event_loop;

    for hook in hooks {
        assert_eq!(it.hook_enabled(hook), Ok(true));
        it.enable_hook(hook, false).unwrap();
        assert_eq!(it.hook_enabled(hook), Ok(false));
    }
    assert_eq!(it.hook_enabled(deferred), Ok(false));
    it.defer(deferred).unwrap();
    assert_eq!(it.hook_enabled(deferred), Ok(true));
    assert_eq!([io, timer].map(|other| it.hook_enabled(other)), [Err(Error::INVALID); 2]);

    assert_eq!(it.timer_period(timer), Ok(period));
    it.arm_timer(timer, delay, Duration::ZERO).unwrap();
    assert_eq!(it.timer_period(timer), Ok(Duration::ZERO));
    assert_eq!((it.timer_period(io), it.timer_deadline(io)), (Err(Error::INVALID), Err(Error::INVALID)));

    assert_eq!((it.idle_timeout(io), it.deadline(io)), (Ok(Duration::FOREVER), Ok(Instant::NEVER)));
    it.set_idle_timeout(io, span).unwrap();
    it.set_deadline(io, delay).unwrap();
    assert_eq!((it.idle_timeout(io), it.deadline(io)), (Ok(span), Ok(it.now().unwrap() + delay)));
    for none in [Duration::ZERO, Duration::FOREVER] {
        it.set_idle_timeout(io, span).unwrap();
        it.set_idle_timeout(io, none).unwrap();
        assert_eq!(it.idle_timeout(io), Ok(Duration::FOREVER));
    }
    it.set_deadline_at(io, Instant::NEVER).unwrap();
    assert_eq!(it.deadline(io), Ok(Instant::NEVER));
    assert_eq!((it.idle_timeout(timer), it.deadline(timer)), (Err(Error::INVALID), Err(Error::INVALID)));
    assert_eq!(rig.after_ns(5 * MS), ["timer 1", "deferred"]);
    assert_eq!(rig.event_loop.hook_enabled(deferred), Ok(false), "it was scheduled once");
}

fn another_handler_takes_over_from_the_next_event_on(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &ours, READABLE, |app, event_loop, event| {
        let token = app.token("b", nothing);
        event_loop.set_handler(event.source, Some(handler), token).unwrap();
    });
    assert_eq!(rig.turns(2), ["a readable", "b readable"]);
    // No handler: nobody is called, and the source goes on.
    rig.event_loop.set_handler(a, None, 0).unwrap();
    assert_eq!(rig.turn(), [""; 0]);
    let token = rig.app.token("c", nothing);
    rig.event_loop.set_handler(a, Some(handler), token).unwrap();
    assert_eq!(rig.turn(), ["c readable"]);
}

fn a_source_without_a_handler_is_for_next(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let token = rig.app.token("a", nothing);
    let a = rig.event_loop.add_io_with(ours.as_raw_fd(), READABLE, IoOptions::default(), None, token).unwrap();
    rig.app.named(token, a);
    assert_eq!(rig.event_loop.poll(becket::Duration::ZERO), Ok(1));
    assert_eq!(rig.pull(Kinds::all()), ["a readable"]);
}

fn remove_never_closes(backend: BackendChoice) {
    let (ours, _theirs) = readable();
    let mut rig = Rig::new(backend);
    let a = rig.io("a", &ours, READABLE, nothing);
    rig.event_loop.remove(a).unwrap();
    drop(rig.event_loop);
    assert_eq!(drain(&ours), 1);
}
