//! Listeners: addresses, accepting in turns with others, want of room, pausing, whose socket it is.

use crate::harness::*;
use becket::{
    Address, BackendChoice, Call, Config, Duration, Error, Handle, Kind, Kinds, ListenOptions, Loop, Outcome, Ready,
    Simulator, SimulatorMemory, Storage,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

each_backend! {
    each_connection_is_one_event
    listeners_take_turns
    a_turn_has_no_more_than_64_of_one_listener
    nothing_is_accepted_that_has_no_place
    a_connection_may_need_several_places
    or_none_at_all
    paused_it_waits_in_the_kernel
    a_removed_listener_leaves_the_socket_open
    a_closed_one_does_not
    a_loop_closes_what_it_has_opened
    listeners_go_in_any_order
    a_socket_that_is_taken_is_left_as_it_is
    a_socket_that_an_operation_waits_for_is_not_closed
    ports_are_shared_where_all_say_so
    every_address_is_of_both_families
    unix_sockets_have_names
    a_file_is_replaced_that_nobody_listens_at
    a_file_goes_with_its_listener
    a_socket_that_listens_already
    triggers_and_posts_come_too
    what_it_is_not
    a_handler_may_do_anything
    readiness_of_others_is_not_held_up
    idle_sources_are_for_turns_without_connections
}

each_backend! {
    alone:
    without_descriptors_it_backs_off
    a_removal_ends_that
    bad_text_opens_nothing
    a_forked_child_closes_its_copy
    a_listener_at_descriptor_0
    a_connection_at_descriptor_0
}

fn options() -> ListenOptions {
    ListenOptions::default()
}

impl Rig {
    fn listen_with(
        &mut self,
        name: &str,
        address: &str,
        options: &ListenOptions,
        mut action: impl FnMut(&mut App, &Loop<App>, OwnedFd) + 'static,
    ) -> becket::Result<Handle> {
        let token = self.app.token(name, move |app, event_loop, event| {
            if let Ok(fd) = event.connection() {
                // SAFETY: it is this handler's.
                action(app, event_loop, unsafe { OwnedFd::from_raw_fd(fd) });
            }
        });
        let handle = self.event_loop.listen(address, options, handler, token)?;
        Ok(self.app.named(token, handle))
    }

    /// A listener at a free port, whose connections are closed at once.
    fn listen(&mut self, name: &str, options: &ListenOptions) -> Handle {
        self.listen_with(name, &of_its_own().to_string(), options, |_, _, _| {}).expect("a listener")
    }

    fn address(&self, listener: Handle) -> SocketAddr {
        let address = self.event_loop.listener_address(listener).expect("an address");
        address.socket_address().expect("of TCP")
    }
}

/// An address of the loopback interface that no other listener has, and no client connects from: its port, once it is free, is not that
/// of another test's socket.
fn of_its_own() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let [_, second, third, fourth] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    SocketAddr::from(([127, 1 + second, third, fourth], 0))
}

fn connect(rig: &Rig, listener: Handle) -> TcpStream {
    TcpStream::connect(rig.address(listener)).expect("a connection")
}

fn folder(backend: BackendChoice, name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("becket-{}-{backend:?}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn each_connection_is_one_event(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let token = rig.app.token("l", |app, event_loop, event| {
        let fd = event.connection().expect("a connection");
        assert_eq!((event.kind, event.fd), (Kind::Listener, event_loop.listener_fd(event.source).unwrap()));
        // SAFETY: no pointers.
        let flags = unsafe { (libc::fcntl(fd, libc::F_GETFD), libc::fcntl(fd, libc::F_GETFL)) };
        assert_eq!((flags.0 & libc::FD_CLOEXEC, flags.1 & libc::O_NONBLOCK), (libc::FD_CLOEXEC, libc::O_NONBLOCK));
        app.note(event_loop.peer_address(fd).expect("a peer").to_string());
        // SAFETY: it is this handler's.
        unsafe { TcpStream::from_raw_fd(fd) }.write_all(b"x").expect("room for one byte");
    });
    let listener = rig.event_loop.listen("127.0.0.1:0", &options(), handler, token).expect("a listener");
    assert_eq!(rig.event_loop.kind(listener), Ok(Kind::Listener));
    let address = rig.address(listener);
    assert!(address.port() != 0);
    assert_eq!(rig.event_loop.listener_address(listener).unwrap().to_string(), address.to_string());

    let mut clients: Vec<TcpStream> = (0..3).map(|_| connect(&rig, listener)).collect();
    // In the order in which they came, and in one turn.
    let wanted: Vec<String> =
        clients.iter().flat_map(|it| ["l connection".into(), it.local_addr().unwrap().to_string()]).collect();
    assert_eq!(rig.turn(), wanted);
    for client in &mut clients {
        let mut text = String::new();
        client.read_to_string(&mut text).expect("its end");
        assert_eq!(text, "x");
    }
    let statistics = rig.event_loop.statistics();
    assert_eq!((statistics.events_of(Kind::Listener), statistics.stale_dropped, statistics.sources), (3, 0, 1));
    rig.assert_silent();
}

/// Behind each connection a listener is queued again, as the last.
fn listeners_take_turns(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let listeners = [rig.listen("a", &options()), rig.listen("b", &options())];
    let clients: Vec<TcpStream> = (0..6).map(|at| connect(&rig, listeners[at % 2])).collect();
    let trace = rig.turn();
    let names: Vec<&str> = trace.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(names == ["a", "b", "a", "b", "a", "b"] || names == ["b", "a", "b", "a", "b", "a"], "{trace:?}");
    drop(clients);
}

fn a_turn_has_no_more_than_64_of_one_listener(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let listener = rig.listen("l", &options());
    let clients: Vec<TcpStream> = (0..70).map(|_| connect(&rig, listener)).collect();
    assert_eq!(rig.turn().len(), 64);
    assert_eq!(rig.turn().len(), 6);
    drop(clients);
    rig.assert_silent();
}

fn nothing_is_accepted_that_has_no_place(backend: BackendChoice) {
    let mut rig = Rig::sized::<3, 0>(&virtual_config(backend));
    let listener = rig.listen("l", &options());
    let fillers = [rig.wake("w", nothing), rig.wake("w", nothing)];
    let client = connect(&rig, listener);
    assert_eq!(rig.turn(), ["l ENOSPC paused"]);
    assert_eq!(rig.event_loop.listener_paused(listener), Ok((false, true)));
    rig.assert_silent();
    // It is told once, however many there are, and however often it tries.
    let another = connect(&rig, listener);
    rig.assert_silent();
    rig.event_loop.remove(fillers[0]).unwrap();
    let filler = rig.wake("w", nothing);
    rig.assert_silent();
    // There is room.
    rig.event_loop.remove(filler).unwrap();
    assert_eq!(rig.turns(2), ["l connection", "l connection"]);
    assert_eq!(rig.event_loop.listener_paused(listener), Ok((false, false)));
    // And after a connection it tells again.
    rig.wake("w", nothing);
    drop((client, another));
    let client = connect(&rig, listener);
    assert_eq!(rig.turn(), ["l ENOSPC paused"]);
    drop(client);
}

fn a_connection_may_need_several_places(backend: BackendChoice) {
    let mut rig = Rig::sized::<4, 0>(&virtual_config(backend));
    let listener = rig.listen("l", &ListenOptions { places: 3, ..options() });
    let filler = rig.wake("w", nothing);
    let client = connect(&rig, listener);
    assert_eq!(rig.turn(), ["l ENOSPC paused"]);
    rig.assert_silent();
    rig.event_loop.remove(filler).unwrap();
    assert_eq!(rig.turn(), ["l connection"]);
    drop(client);
    for (places, wanted) in [(255, true), (256, false), (u32::MAX, false)] {
        let options = ListenOptions { places, ..options() };
        let listener = rig.event_loop.listen_pulled("127.0.0.1:0", &options, 0);
        assert_eq!(listener.is_ok(), wanted, "{places}");
        listener
            .map_or_else(|error| assert_eq!(error, Error::INVALID), |it| rig.event_loop.close_listener(it).unwrap());
    }
}

fn or_none_at_all(backend: BackendChoice) {
    let mut rig = Rig::sized::<1, 0>(&virtual_config(backend));
    let listener = rig.listen("l", &ListenOptions { places: 0, ..options() });
    let client = connect(&rig, listener);
    assert_eq!(rig.turn(), ["l connection"]);
    drop(client);
}

fn paused_it_waits_in_the_kernel(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let listener = rig.listen("l", &options());
    rig.event_loop.pause_listener(listener).unwrap();
    rig.event_loop.pause_listener(listener).unwrap();
    assert_eq!(rig.event_loop.listener_paused(listener), Ok((true, false)));
    let client = connect(&rig, listener);
    rig.assert_silent();
    // It keeps nothing alive.
    assert_eq!(rig.run(), (vec![], Outcome::NothingLeft));
    rig.event_loop.resume_listener(listener).unwrap();
    assert_eq!(rig.turn(), ["l connection"]);
    drop(client);

    // Paused by the first of two connections that are ready: the second one waits.
    let token = rig.app.token("p", |_, event_loop, event| {
        // SAFETY: it is this handler's.
        drop(unsafe { OwnedFd::from_raw_fd(event.connection().expect("a connection")) });
        event_loop.pause_listener(event.source).unwrap();
    });
    let listener = rig.event_loop.listen("127.0.0.1:0", &options(), handler, token).unwrap();
    let clients = [connect(&rig, listener), connect(&rig, listener)];
    assert_eq!(rig.turn(), ["p connection"]);
    rig.assert_silent();
    rig.event_loop.resume_listener(listener).unwrap();
    assert_eq!(rig.turn(), ["p connection"]);
    drop(clients);
}

fn a_removed_listener_leaves_the_socket_open(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let listener = rig.listen("l", &options());
    let address = rig.address(listener);
    let fd = rig.event_loop.listener_fd(listener).unwrap();
    assert_eq!(rig.event_loop.find_io(fd), Ok(listener));
    let first = connect(&rig, listener);
    rig.event_loop.remove(listener).unwrap();
    rig.assert_silent();
    assert_eq!(rig.event_loop.listener_fd(listener), Err(Error::STALE));
    let second = TcpStream::connect(address).expect("it still listens");
    // Its next owner has both.
    let token = rig.app.token("m", |_, _, event| {
        // SAFETY: it is this handler's.
        drop(unsafe { OwnedFd::from_raw_fd(event.connection().expect("a connection")) });
    });
    let again = rig.event_loop.listen_fd(fd, &options(), handler, token).expect("it listens");
    assert_eq!(rig.turn(), ["m connection", "m connection"]);
    rig.event_loop.close_listener(again).unwrap();
    assert!(TcpStream::connect(address).is_err());
    drop((first, second));
}

fn a_closed_one_does_not(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let listener = rig.listen("l", &options());
    let address = rig.address(listener);
    let waiting = connect(&rig, listener);
    rig.event_loop.close_listener(listener).unwrap();
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(rig.event_loop.close_listener(listener), Err(Error::STALE));
    assert_eq!(rig.run(), (vec![], Outcome::NothingLeft));
    // Who was not accepted is reset.
    assert!((&waiting).read(&mut [0]).is_err());
    // The port is free at once, though connections of it linger.
    let again = rig.listen_with("l", &address.to_string(), &options(), |_, _, _| {}).expect("the same port");
    let client = connect(&rig, again);
    assert_eq!(rig.turn(), ["l connection"]);
    drop(client);
    rig.event_loop.close_listener(again).unwrap();
    rig.listen_with("l", &address.to_string(), &options(), |_, _, _| {}).expect("the same port");
}

fn a_loop_closes_what_it_has_opened(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let opened = rig.listen("l", &options());
    let opened = rig.address(opened);
    let given = TcpListener::bind("127.0.0.1:0").unwrap();
    rig.event_loop.listen_fd(given.as_raw_fd(), &options(), handler, 0).unwrap();
    drop(rig);
    assert!(TcpStream::connect(opened).is_err());
    drop(TcpStream::connect(given.local_addr().unwrap()).expect("it still listens"));
}

fn listeners_go_in_any_order(backend: BackendChoice) {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for closed in 0..=3 {
            let mut rig = Rig::new(backend);
            let listeners = ["a", "b", "c"].map(|name| rig.listen(name, &options()));
            let addresses = listeners.map(|it| rig.address(it));
            for (count, which) in order.into_iter().enumerate().take(closed) {
                rig.event_loop.close_listener(listeners[which]).unwrap();
                assert!(TcpStream::connect(addresses[which]).is_err());
                for left in &order[count + 1..] {
                    let client = connect(&rig, listeners[*left]);
                    assert_eq!(rig.turn().len(), 1);
                    drop(client);
                }
            }
            drop(rig);
            assert!(addresses.iter().all(|it| TcpStream::connect(it).is_err()), "{order:?} {closed}");
        }
    }
}

fn is_blocking(fd: &impl AsRawFd) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) & libc::O_NONBLOCK == 0 }
}

/// What is refused has changed nothing.
fn a_socket_that_is_taken_is_left_as_it_is(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = rig.io("io", &socket, READABLE, nothing);
    assert_eq!(rig.event_loop.listen_fd(socket.as_raw_fd(), &options(), handler, 0), Err(Error::EXISTS));
    assert!(is_blocking(&socket));
    rig.event_loop.remove(source).unwrap();
    let exclusive = ListenOptions { exclusive: true, ..options() };
    if backend != BackendChoice::Epoll {
        let refused = rig.event_loop.listen_fd(socket.as_raw_fd(), &exclusive, handler, 0);
        assert_eq!(refused, Err(Error::UNSUPPORTED));
        assert!(is_blocking(&socket));
    }
    assert_eq!(rig.event_loop.listen_fd(-1, &options(), handler, 0), Err(Error::BAD_FD));
    let token = rig.app.token("l", |_, _, event| {
        // SAFETY: it is this handler's.
        drop(unsafe { OwnedFd::from_raw_fd(event.connection().unwrap()) });
    });
    rig.event_loop.listen_fd(socket.as_raw_fd(), &options(), handler, token).unwrap();
    assert!(!is_blocking(&socket));
    let client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
    assert_eq!(rig.turn(), ["l connection"]);
    drop(client);
}

fn a_socket_that_an_operation_waits_for_is_not_closed(backend: BackendChoice) {
    if backend == BackendChoice::IoUring {
        return; // there the kernel waits
    }
    let storage = Box::leak(Box::new(Storage::<8, 0, 4>::new()));
    let event_loop = Loop::new(storage, &virtual_config(backend)).expect("a loop");
    let mut rig = Rig { event_loop, app: App::default() };
    let address = Address::from(of_its_own());
    let token = rig.app.token("l", nothing);
    let listener = rig.event_loop.listen_at(&address, &options(), handler, token).unwrap();
    let (fd, at) = (rig.event_loop.listener_fd(listener).unwrap(), rig.address(listener));
    assert_eq!(format!("{:?}", rig.event_loop.listener_address(listener).unwrap()), at.to_string());
    let token = rig.app.token("op", nothing);
    let operation = rig.event_loop.accept(fd, handler, token).unwrap();
    assert_eq!(rig.event_loop.close_listener(listener), Err(Error::BUSY));
    drop(TcpStream::connect(at).expect("it still listens"));
    rig.event_loop.cancel(operation).unwrap();
    rig.event_loop.close_listener(listener).unwrap();
    assert!(TcpStream::connect(at).is_err());
    let trace = rig.turn();
    assert_eq!(trace.len(), 1, "{trace:?}");
}

fn ports_are_shared_where_all_say_so(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let shared = ListenOptions { reuse_port: true, ..options() };
    let first = rig.listen("a", &shared);
    let text = rig.address(first).to_string();
    let in_use = Error::from_errno(libc::EADDRINUSE);
    assert_eq!(rig.listen_with("b", &text, &options(), |_, _, _| {}), Err(in_use));
    let second = rig.listen_with("b", &text, &shared, |_, _, _| {}).expect("shared");
    let clients: Vec<TcpStream> = (0..32).map(|_| TcpStream::connect(&text).expect("a connection")).collect();
    assert_eq!(rig.turn().len(), 32);
    drop(clients);
    rig.event_loop.close_listener(first).unwrap();
    let client = TcpStream::connect(&text).expect("a connection");
    assert_eq!(rig.turn(), ["b connection"]);
    drop(client);
    rig.event_loop.close_listener(second).unwrap();
}

fn every_address_is_of_both_families(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    for text in [":0", "*:0"] {
        let listener = rig.listen_with("l", text, &options(), |_, _, _| {}).expect("a listener");
        let address = rig.address(listener);
        assert_eq!((address.ip().is_unspecified(), address.is_ipv6()), (true, has_ipv6));
        let client = TcpStream::connect(("127.0.0.1", address.port())).expect("IPv4");
        assert_eq!(rig.turn(), ["l connection"]);
        if has_ipv6 {
            let client = TcpStream::connect(("::1", address.port())).expect("IPv6");
            assert_eq!(rig.turn(), ["l connection"]);
            drop(client);
        }
        drop(client);
        rig.event_loop.close_listener(listener).unwrap();
    }
    if has_ipv6 {
        for (ipv4_too, text) in [(false, "[::1]:0"), (false, "[::]:0"), (true, "[::]:0")] {
            let options = ListenOptions { ipv4_too, ..options() };
            let listener = rig.listen_with("l", text, &options, |_, _, _| {}).expect("a listener");
            let client = TcpStream::connect(("::1", rig.address(listener).port())).expect("IPv6");
            assert_eq!(rig.turn(), ["l connection"]);
            drop(client);
            // (At the same port of IPv4 somebody else may listen.)
            let fd = rig.event_loop.listener_fd(listener).unwrap();
            let mut only: i32 = -1;
            let mut length = size_of::<i32>() as libc::socklen_t;
            // SAFETY: the place is valid for its length.
            let answer = unsafe {
                let at = (&raw mut only).cast();
                libc::getsockopt(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, at, &raw mut length)
            };
            assert_eq!((answer, only == 0), (0, ipv4_too), "{text}");
            rig.event_loop.close_listener(listener).unwrap();
        }
    }
}

fn unix_sockets_have_names(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let folder = folder(backend, "names");
    let path = folder.join("socket");
    let text = format!("unix:{}", path.display());
    let listener = rig.listen_with("l", &text, &options(), |_, _, _| {}).expect("a listener");
    let address = rig.event_loop.listener_address(listener).unwrap();
    assert_eq!((address.to_string(), address.socket_address()), (text, None));
    let client = UnixStream::connect(&path).expect("a connection");
    assert_eq!(rig.turn(), ["l connection"]);
    rig.event_loop.close_listener(listener).unwrap();
    assert!(path.exists(), "nobody has asked for its end");
    drop(client);

    let name = format!("becket-{}-{backend:?}", std::process::id());
    let text = format!("unix:@{name}");
    let listener = rig.listen_with("l", &text, &options(), |_, _, _| {}).expect("a listener");
    assert_eq!(rig.event_loop.listener_address(listener).unwrap().to_string(), text);
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let client = UnixStream::connect_addr(&address).expect("a connection");
    // Who has no name has none.
    // SAFETY: no pointers are kept.
    assert_eq!(rig.event_loop.peer_address(client.as_raw_fd()).unwrap().to_string(), text);
    assert_eq!(rig.turn(), ["l connection"]);
    rig.event_loop.close_listener(listener).unwrap();
    assert!(UnixStream::connect_addr(&address).is_err());
    drop(client);
    std::fs::remove_dir_all(folder).unwrap();
}

fn a_file_is_replaced_that_nobody_listens_at(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let folder = folder(backend, "replaced");
    let path = folder.join("socket");
    let text = format!("unix:{}", path.display());
    let replacing = ListenOptions { replace: true, ..options() };
    let in_use = Err(Error::from_errno(libc::EADDRINUSE));
    let mut listen = |options: &ListenOptions| rig.listen_with("l", &text, options, |_, _, _| {});
    let living = UnixListener::bind(&path).unwrap();
    assert_eq!((listen(&options()), listen(&replacing)), (in_use, in_use), "somebody listens");
    drop(living);
    assert_eq!(listen(&options()), in_use, "nobody has asked for it");
    let listener = listen(&replacing).expect("nobody listens");
    rig.event_loop.close_listener(listener).unwrap();
    // What is no socket stays.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "text").unwrap();
    assert_eq!(rig.listen_with("l", &text, &replacing, |_, _, _| {}), in_use);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
    std::fs::remove_dir_all(folder).unwrap();
}

fn a_file_goes_with_its_listener(backend: BackendChoice) {
    let mut rig = Rig::sized::<2, 0>(&virtual_config(backend));
    let folder = folder(backend, "goes");
    let path = folder.join("socket");
    let text = format!("unix:{}", path.display());
    let unlinking = ListenOptions { unlink: true, ..options() };
    let listener = rig.listen_with("l", &text, &unlinking, |_, _, _| {}).expect("a listener");
    assert!(path.exists());
    rig.event_loop.close_listener(listener).unwrap();
    assert!(!path.exists());
    // With the loop too; a removal leaves it.
    let listener = rig.listen_with("l", &text, &unlinking, |_, _, _| {}).expect("a listener");
    let fd = rig.event_loop.listener_fd(listener).unwrap();
    rig.event_loop.remove(listener).unwrap();
    assert!(path.exists());
    // SAFETY: it is ours.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    std::fs::remove_file(&path).unwrap();
    // What could not become a listener leaves none.
    rig.wake("w", nothing);
    rig.wake("w", nothing);
    assert_eq!(rig.listen_with("l", &text, &options(), |_, _, _| {}), Err(Error::TABLE_FULL));
    assert!(!path.exists());
    let last = rig.app.handle("w");
    rig.event_loop.remove(last).unwrap();
    rig.listen_with("l", &text, &unlinking, |_, _, _| {}).expect("a listener");
    drop(rig);
    assert!(!path.exists());
    // One that was not to be removed stays.
    let mut rig = Rig::new(backend);
    rig.listen_with("l", &text, &options(), |_, _, _| {}).expect("a listener");
    drop(rig);
    assert!(path.exists() && UnixStream::connect(&path).is_err());
    std::fs::remove_dir_all(folder).unwrap();
}

fn a_listener_at_descriptor_0(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    dup2(&socket, 0);
    let token = rig.app.token("l", |_, _, event| {
        // SAFETY: it is this handler's.
        drop(unsafe { OwnedFd::from_raw_fd(event.connection().unwrap()) });
    });
    let listener = rig.event_loop.listen_fd(0, &options(), handler, token).unwrap();
    assert_eq!(rig.event_loop.listener_fd(listener), Ok(0));
    let client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
    assert_eq!(rig.turn(), ["l connection"]);
    drop(client);
}

fn a_connection_at_descriptor_0(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let listener = rig.listen_with("l", "127.0.0.1:0", &options(), |app, _, fd| app.note(fd.as_raw_fd().to_string()));
    let client = connect(&rig, listener.unwrap());
    // SAFETY: nobody has it.
    unsafe { libc::close(0) };
    assert_eq!(rig.turn(), ["l connection", "0"]);
    drop(client);
}

fn a_socket_that_listens_already(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let mut listen_fd = |fd: i32| {
        let token = rig.app.token("l", |_, _, event| {
            // SAFETY: it is this handler's.
            drop(unsafe { OwnedFd::from_raw_fd(event.connection().expect("a connection")) });
        });
        rig.event_loop.listen_fd(fd, &options(), handler, token)
    };
    let given = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = listen_fd(given.as_raw_fd()).expect("it listens");
    assert_eq!(listen_fd(given.as_raw_fd()), Err(Error::EXISTS));
    // SAFETY: no pointers.
    assert_ne!(unsafe { libc::fcntl(given.as_raw_fd(), libc::F_GETFL) } & libc::O_NONBLOCK, 0);
    // What does not listen.
    let stream = TcpStream::connect(given.local_addr().unwrap()).unwrap();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (pipe, _other) = pipe();
    let not_socket = Error::from_errno(libc::ENOTSOCK);
    assert_eq!(listen_fd(stream.as_raw_fd()), Err(Error::INVALID));
    assert_eq!(listen_fd(datagrams.as_raw_fd()), Err(Error::INVALID));
    assert_eq!(listen_fd(pipe.as_raw_fd()), Err(not_socket));
    assert_eq!((listen_fd(-1), listen_fd(1000)), (Err(Error::BAD_FD), Err(Error::BAD_FD)));
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_GETFL) } & libc::O_NONBLOCK, 0, "nothing has changed");
    assert_eq!(rig.turn(), ["l connection"]);
    let address = rig.event_loop.listener_address(listener).unwrap();
    assert_eq!(address.socket_address(), Some(given.local_addr().unwrap()));
    rig.event_loop.close_listener(listener).unwrap();
    let _ = given.into_raw_fd(); // it is closed
}

fn triggers_and_posts_come_too(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let listener = rig.listen("l", &options());
    rig.event_loop.trigger(listener, Ready::empty()).unwrap();
    assert_eq!(rig.turn(), ["l EAGAIN triggered"]);
    rig.event_loop.post(listener, 7).unwrap();
    assert_eq!(rig.turn(), ["l post 7"]);
    assert_eq!(rig.event_loop.trigger(listener, READABLE), Err(Error::INVALID));
    let client = connect(&rig, listener);
    rig.event_loop.trigger(listener, Ready::empty()).unwrap();
    assert_eq!(rig.turn(), ["l connection triggered"]);
    // A paused one is triggered too.
    rig.event_loop.pause_listener(listener).unwrap();
    rig.event_loop.trigger(listener, Ready::empty()).unwrap();
    assert_eq!(rig.turn(), ["l EAGAIN triggered"]);
    drop(client);
    rig.assert_silent();
    // One that was triggered and is paused before it comes is, too.
    rig.event_loop.resume_listener(listener).unwrap();
    rig.event_loop.trigger(listener, Ready::empty()).unwrap();
    rig.event_loop.pause_listener(listener).unwrap();
    assert_eq!(rig.turn(), ["l EAGAIN triggered"]);
    rig.assert_silent();
}

fn what_it_is_not(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let listener = rig.listen("l", &options());
    let wake = rig.wake("w", nothing);
    let event_loop = &rig.event_loop;
    let invalid = Err(Error::INVALID);
    assert_eq!(event_loop.modify_io(listener, READABLE), invalid);
    assert_eq!(event_loop.set_idle_timeout(listener, Duration::from_secs(1)), invalid);
    assert_eq!(event_loop.set_deadline(listener, Duration::from_secs(1)), invalid);
    assert_eq!(event_loop.io_fd(listener), Err(Error::INVALID));
    assert_eq!((event_loop.close_listener(wake), event_loop.pause_listener(wake)), (invalid, invalid));
    assert_eq!(event_loop.listener_fd(wake), Err(Error::INVALID));
    assert_eq!(event_loop.resume_listener(Handle::NONE), Err(Error::STALE));
    assert_eq!(event_loop.listener_paused(wake), Err(Error::INVALID));
    assert!(matches!(event_loop.listener_address(wake), Err(Error::INVALID)));
    assert!(matches!(event_loop.peer_address(-1), Err(Error::BAD_FD)));
    // Its level, keepalive and target are as any source's.
    event_loop.set_level(listener, 3).unwrap();
    assert_eq!(event_loop.level(listener), Ok(3));
    event_loop.set_keepalive(listener, false).unwrap();
    event_loop.remove(wake).unwrap();
    let client = connect(&rig, listener);
    assert_eq!(rig.turn(), ["l connection"]);
    drop(client);
    assert_eq!(rig.run(), (vec![], Outcome::NothingLeft));
    // EXCLUSIVE is epoll's.
    let exclusive = ListenOptions { exclusive: true, ..options() };
    let answer = rig.listen_with("x", "127.0.0.1:0", &exclusive, |_, _, _| {});
    assert_eq!(answer.err(), (backend != BackendChoice::Epoll).then_some(Error::UNSUPPORTED));
    if let Ok(listener) = answer {
        let clients = [connect(&rig, listener), connect(&rig, listener)];
        assert_eq!(rig.turn(), ["x connection", "x connection"]);
        rig.event_loop.pause_listener(listener).unwrap();
        let another = connect(&rig, listener);
        rig.assert_silent();
        rig.event_loop.resume_listener(listener).unwrap();
        assert_eq!(rig.turn(), ["x connection"]);
        drop((clients, another));
    }
    // The pull form.
    let listener = rig.event_loop.listen_pulled("127.0.0.1:0", &options(), 7).unwrap();
    let client = connect(&rig, listener);
    assert_eq!(rig.event_loop.poll(Duration::from_secs(1)), Ok(1));
    assert_eq!(rig.event_loop.next(Kinds::all() - Kinds::LISTENER), Ok(None));
    let event = rig.event_loop.next(Kinds::LISTENER).unwrap().expect("it is queued");
    assert_eq!((event.source, event.token, event.ready), (listener, 7, Ready::empty()));
    // SAFETY: it is ours.
    drop(unsafe { OwnedFd::from_raw_fd(event.connection().unwrap()) });
    assert_eq!(rig.event_loop.next(Kinds::all()), Ok(None));
    drop(client);
}

fn a_handler_may_do_anything(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    // It closes its own listener, and makes a source of the connection.
    let token = rig.app.token("l", |app, event_loop, event| {
        let fd = event.connection().expect("a connection");
        event_loop.close_listener(event.source).unwrap();
        let token = app.token("c", move |app, event_loop, event| {
            event_loop.remove(event.source).unwrap();
            // SAFETY: it is this handler's.
            let mut stream = unsafe { TcpStream::from_raw_fd(fd) };
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("its end");
            app.note(text);
        });
        event_loop.add_io(fd, READABLE, handler, token).unwrap();
    });
    let listener = rig.event_loop.listen("127.0.0.1:0", &options(), handler, token).unwrap();
    let mut first = connect(&rig, listener);
    let second = connect(&rig, listener);
    first.write_all(b"hello").unwrap();
    drop(first);
    let (trace, outcome) = rig.run();
    assert_eq!((trace[0].as_str(), trace.last().unwrap().as_str()), ("l connection", "hello"));
    assert_eq!(outcome, Outcome::NothingLeft);
    assert!((&second).read(&mut [0]).is_err(), "it was not accepted");
}

/// A storm of connections costs another source no more than its turn.
fn readiness_of_others_is_not_held_up(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let listener = rig.listen("l", &options());
    let clients: Vec<TcpStream> = (0..40).map(|_| connect(&rig, listener)).collect();
    let (ours, _theirs) = readable();
    rig.io("r", &ours, READABLE, nothing);
    let trace = rig.turn();
    let place = trace.iter().position(|line| line == "r readable").expect("it is ready");
    assert!(place <= 1, "{trace:?}");
    assert_eq!(trace.len(), 41);
    drop(clients);
}

fn idle_sources_are_for_turns_without_connections(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let listener = rig.listen("l", &options());
    let client = connect(&rig, listener);
    rig.idle("idle", nothing);
    assert_eq!(rig.turn(), ["l connection"]);
    assert_eq!(rig.turn(), ["idle"]);
    drop(client);
}

/// The descriptors that are open.
fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// Opens files until there is no descriptor left.
fn exhaust() -> Vec<std::fs::File> {
    limit_files(64);
    let files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(!files.is_empty());
    files
}

fn without_descriptors_it_backs_off(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let listener = rig.listen("l", &options());
    let clients = [connect(&rig, listener), connect(&rig, listener)];
    let mut files = exhaust();
    assert_eq!(rig.turn(), ["l EMFILE paused"]);
    let mut begin = rig.now();
    // Not a word, and longer pauses each time.
    for pause in [10, 20, 40, 80, 160, 320, 640, 640, 640] {
        let turns = rig.event_loop.statistics().turns;
        assert_eq!(rig.turn_for(1000 * MS), [""; 0]);
        assert_eq!((rig.now() - begin, rig.event_loop.statistics().turns), (pause * MS, turns + 1));
        begin = rig.now();
        // It tries again, and nothing comes of it.
        assert_eq!(rig.turn(), [""; 0]);
        assert_eq!((rig.now(), rig.event_loop.listener_paused(listener)), (begin, Ok((false, true))));
    }
    // There is one: one connection comes, and that the next one does not is told anew, after ten milliseconds again.
    files.pop();
    let token = rig.app.token("k", |app, _, event| {
        // The descriptor is kept.
        app.trace.push(format!("{:?}", event.connection().map(|_| ())));
    });
    rig.event_loop.set_handler(listener, Some(handler), token).unwrap();
    assert_eq!(rig.turn_for(1000 * MS), [""; 0]);
    assert_eq!(rig.turn(), ["k connection", "Ok(())", "k EMFILE paused", "Err(Error(EMFILE))"]);
    begin = rig.now();
    assert_eq!(rig.turn_for(1000 * MS), [""; 0]);
    assert_eq!(rig.now() - begin, 10 * MS);
    // And at once, when the program says so.
    assert_eq!(rig.turn(), [""; 0]);
    files.pop();
    rig.event_loop.resume_listener(listener).unwrap();
    assert_eq!(rig.turn()[..2], ["k connection", "Ok(())"]); // (and it looks for a third one without a descriptor)
    drop(clients);
}

fn a_removal_ends_that(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let listener = rig.listen("l", &options());
    let (ours, theirs) = pair();
    let source = rig.io("r", &ours, READABLE, nothing);
    let client = connect(&rig, listener);
    let files = exhaust();
    assert_eq!(rig.turn(), ["l EMFILE paused"]);
    let begin = rig.now();
    rig.event_loop.remove(source).unwrap();
    drop(ours);
    assert_eq!(rig.turn(), ["l connection"]);
    assert_eq!(rig.now(), begin);
    drop((files, theirs, client));
}

fn bad_text_opens_nothing(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let before = open_fds();
    let long = format!("unix:/{}", "x".repeat(200));
    for text in [
        "",
        ":",
        "*",
        "80",
        "*:",
        ":x",
        ":+80",
        ":-1",
        ":65536",
        ": 80",
        "localhost:80",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0:80",
        "256.0.0.1:80",
        "127.0.0.1:80 ",
        " 127.0.0.1:80",
        "::1:80",
        "[::1]",
        "[::1:80",
        "[::1]:x",
        "[]:80",
        "unix:",
        "unix:@",
        "UNIX:/x",
        "unix:a\0b",
        "http://127.0.0.1:80",
        &long,
    ] {
        let answer = rig.listen_with("l", text, &options(), |_, _, _| {});
        assert_eq!(answer, Err(Error::INVALID), "{text:?}");
    }
    // What the system refuses leaves nothing open either.
    for text in ["unix:/no/such/folder/socket", "192.0.2.1:1"] {
        let answer = rig.listen_with("l", text, &options(), |_, _, _| {});
        assert!(answer.is_err() && answer != Err(Error::INVALID), "{text:?}: {answer:?}");
    }
    assert_eq!(
        rig.listen_with("l", ":0", &ListenOptions { backlog: 1 << 31, ..options() }, |_, _, _| {}),
        Err(Error::INVALID)
    );
    // Nor does a table that is full.
    while rig.event_loop.add_wake(handler, 0).is_ok() {}
    assert_eq!(rig.listen_with("l", ":0", &options(), |_, _, _| {}), Err(Error::TABLE_FULL));
    assert_eq!(open_fds(), before);
}

/// A loop that is made anew in a forked child closes the child's copy of its sockets, and the parent goes on to listen.
fn a_forked_child_closes_its_copy(backend: BackendChoice) {
    let mut rig = Rig::new(backend);
    let listener = rig.listen("l", &options());
    let fd = rig.event_loop.listener_fd(listener).unwrap();
    // SAFETY: the child calls nothing that another thread could hold a lock of, and ends by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(rig);
        // SAFETY: no pointers.
        unsafe {
            let closed = libc::fcntl(fd, libc::F_GETFD) < 0;
            libc::_exit(i32::from(!closed));
        }
    }
    let mut status = 0;
    // SAFETY: the status is valid to write to.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child has a copy");
    let client = connect(&rig, listener);
    assert_eq!(rig.turn(), ["l connection"]);
    drop(client);
}

/// A loop with a listener in a simulator, and the listener's descriptor.
fn simulated(seed: u64, ring: bool) -> (Rig, Simulator<'static>, i32) {
    let storage = Box::leak(Box::new(Storage::<8, 0, 4>::new()));
    let memory = Box::leak(Box::new(SimulatorMemory::<160, 256>::new()));
    let simulator = Simulator::new(memory, seed);
    simulator.set_ring(ring).unwrap();
    let event_loop = Loop::simulated(storage, simulator, &Config::default()).expect("a loop");
    let mut rig = Rig { event_loop, app: App::default() };
    let fd = simulator.socket().unwrap();
    simulator.listen(fd, 100).unwrap();
    let token = rig.app.token("l", |_, event_loop, event| {
        if let Ok(fd) = event.connection() {
            event_loop.simulator().unwrap().close(fd).unwrap();
        }
    });
    let listener = rig.event_loop.listen_fd(fd, &options(), handler, token).expect("a listener");
    rig.app.named(token, listener);
    (rig, simulator, fd)
}

fn client(simulator: Simulator, listener: i32) -> i32 {
    let fd = simulator.socket().expect("a socket");
    assert_eq!(simulator.connect(fd, listener), Err(Error::IN_PROGRESS));
    fd
}

#[test]
fn a_simulated_listener_has_connections_and_no_addresses() {
    for ring in [false, true] {
        let (mut rig, simulator, fd) = simulated(1, ring);
        let listener = rig.app.handle("l");
        let clients = [client(simulator, fd), client(simulator, fd)];
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(rig.turn_for(MS));
        }
        assert_eq!(seen, ["l connection", "l connection"]);
        let unsupported = Error::UNSUPPORTED;
        assert_eq!(rig.event_loop.listen_pulled("127.0.0.1:0", &options(), 0), Err(unsupported));
        assert_eq!(rig.event_loop.listener_address(listener).err(), Some(unsupported));
        assert_eq!(rig.event_loop.peer_address(fd).err(), Some(unsupported));
        assert_eq!(rig.event_loop.listen_fd(clients[0], &options(), handler, 0), Err(Error::INVALID));
        for client in clients {
            simulator.close(client).unwrap();
        }
        rig.event_loop.close_listener(listener).unwrap();
        assert_eq!(simulator.open_fds(), Ok(0));
    }
}

/// Each error of accept, once: those of a connection are skipped, all others are waited out.
#[test]
fn a_simulated_listener_gets_over_every_error() {
    for ring in [false, true] {
        for error in [
            Error::INTERRUPTED,
            Error::AGAIN,
            Error::BAD_FD,
            Error::PROCESS_FILES,
            Error::SYSTEM_FILES,
            Error::NO_MEMORY,
            Error::CONNECTION_ABORTED,
        ] {
            let (mut rig, simulator, fd) = simulated(2, ring);
            simulator.fail_nth(Call::Accept, error, 1).unwrap();
            let first = client(simulator, fd);
            let mut seen = Vec::new();
            for _ in 0..20 {
                seen.extend(rig.turn_for(MS));
            }
            let second = client(simulator, fd);
            for _ in 0..20 {
                seen.extend(rig.turn_for(MS));
            }
            let connections = seen.iter().filter(|line| *line == "l connection").count();
            assert_eq!(connections, if error == Error::CONNECTION_ABORTED { 1 } else { 2 }, "{error:?}: {seen:?}");
            let told = seen.iter().filter(|line| line.contains("paused")).count();
            let passes = [Error::INTERRUPTED, Error::AGAIN, Error::CONNECTION_ABORTED].contains(&error);
            assert_eq!(told, usize::from(!passes), "{error:?}: {seen:?}");
            for client in [first, second] {
                simulator.close(client).unwrap();
            }
        }
    }
}

/// So many in a row that were broken off: it is not the connections, and nobody else waits for their end.
#[test]
fn broken_connections_make_it_pause() {
    for ring in [false, true] {
        let (mut rig, simulator, fd) = simulated(3, ring);
        simulator.set_fault(Call::Accept, Error::CONNECTION_ABORTED, 1_000_000).unwrap();
        let clients: Vec<i32> = (0..70).map(|_| client(simulator, fd)).collect();
        simulator.advance(Duration::from_millis(1)).unwrap();
        assert_eq!(rig.turn(), ["l ECONNABORTED paused"]);
        assert_eq!(simulator.failed(Call::Accept), Ok(64));
        simulator.set_fault(Call::Accept, Error::CONNECTION_ABORTED, 0).unwrap();
        let paused_at = rig.event_loop.simulator().unwrap().now();
        let mut seen = Vec::new();
        while seen.len() < 6 {
            seen.extend(rig.turn_for(1000 * MS));
        }
        assert_eq!(seen, ["l connection"; 6]);
        assert_eq!(simulator.now().since(paused_at), Duration::from_millis(10));
        for client in clients {
            simulator.close(client).unwrap();
        }
    }
}

/// Whatever goes wrong: each connection is accepted once, or was reset, and no descriptor is left.
#[test]
fn a_simulated_listener_loses_nothing() {
    for seed in 0..50 {
        let (mut rig, simulator, fd) = simulated(seed, seed % 2 == 0);
        let mut clients = Vec::new();
        let mut accepted = 0;
        for _ in 0..60 {
            simulator.set_fault(Call::Accept, Error::PROCESS_FILES, 100_000).unwrap();
            simulator.set_fault(Call::Accept, Error::CONNECTION_ABORTED, 100_000).unwrap();
            if clients.len() < 6 {
                let socket = simulator.socket().unwrap();
                if simulator.connect(socket, fd) == Err(Error::IN_PROGRESS) {
                    clients.push(socket)
                } else {
                    simulator.close(socket).unwrap()
                }
            }
            accepted += rig.turn_for(50 * MS).iter().filter(|line| *line == "l connection").count();
            if clients.len() == 6 {
                simulator.close(clients.remove(0)).unwrap();
            }
        }
        assert!(accepted > 10, "seed {seed}: {accepted}");
        simulator.set_all_faults(0, Duration::ZERO).unwrap();
        // The longest pause, and all that is left.
        for _ in 0..2 {
            rig.turn_for(1000 * MS);
        }
        assert_eq!(simulator.ready(fd), Ok(Ready::empty()), "seed {seed}");
        for client in clients {
            simulator.close(client).unwrap();
        }
        let listener = rig.app.handle("l");
        rig.event_loop.close_listener(listener).unwrap();
        assert_eq!(simulator.open_fds(), Ok(0), "seed {seed}");
    }
}

#[test]
fn addresses_are_text() {
    for (text, wanted) in [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("0.0.0.0:0", "0.0.0.0:0"),
        ("[::1]:65535", "[::1]:65535"),
        ("[fe80::1%2]:80", "[fe80::1%2]:80"),
        (":80", "[::]:80"),
        ("*:80", "[::]:80"),
        ("unix:/run/x", "unix:/run/x"),
        ("unix:relative", "unix:relative"),
        ("unix:@x", "unix:@x"),
    ] {
        let address = Address::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert_eq!(address.to_string(), wanted);
        let mut room = [0; 32];
        let count = address.format(&mut room[..wanted.len()]).expect("it fits exactly");
        assert_eq!(&room[..count], wanted.as_bytes());
        assert_eq!(address.format(&mut room[..wanted.len() - 1]), Err(Error::TABLE_FULL));
    }
    let longest = format!("unix:/{}", "x".repeat(106));
    assert_eq!(Address::parse(longest.as_bytes()).unwrap().to_string(), longest);
    assert!(Address::parse(format!("{longest}x").as_bytes()).is_err());
    assert_eq!(Address::new().format(&mut [0; 8]), Err(Error::INVALID));
    // Text need not be UTF-8.
    let address = Address::parse(b"unix:/\xff").unwrap();
    assert_eq!(address.to_string(), "unix:/\u{fffd}");
}
