//! The files that the I/O sources of a program are for, and what is ready of them.
//!
//! On the real backends they are sockets and pipes of the kernel, under numbers that are chosen here: a number that is
//! closed and used again is one of ours and nobody else's. Nothing depends on how large the kernel's buffers are: a file is
//! empty or has a byte, or is as full as it gets.

use super::operations::{System, make_faulty, make_partial};
use super::streams::Net;
use becket::{Call, Duration, Error, Quirk, Ready, Simulator};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

/// Files that a program has.
pub const FILES: usize = 9;

/// The numbers that a world uses, from its first on.
pub const NUMBERS: usize = 3 * FILES;

/// What a file can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// One end of a pair of sockets: readable now and then, writable always.
    Socket,
    /// The end of a pipe from which is read.
    Reader,
    /// The end of a pipe to which is written.
    Writer,
}

/// What an fd is ready for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// A backend has to tell this to who asks for it.
    pub must: Ready,
    /// It may tell this.
    pub may: Ready,
}

impl State {
    pub const NOTHING: State = State { must: Ready::empty(), may: Ready::empty() };
    /// Of a number that is not open, or is another file's.
    pub const ANYTHING: State = State { must: Ready::empty(), may: Ready::all() };

    /// Of what a system that is so odd says to be ready.
    pub fn of(ready: Ready, Oddities { lies, late, .. }: Oddities) -> State {
        let ended = ready.intersects(Ready::ERROR | Ready::HANGUP);
        let complete = ready | if ended { Ready::READABLE | Ready::WRITABLE } else { Ready::empty() };
        State {
            must: if late { Ready::empty() } else { complete },
            may: if lies || late { Ready::all() } else { complete },
        }
    }
}

/// What a system may do that none should.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Oddities {
    /// It may tell of readiness that is not there.
    pub lies: bool,
    /// It may tell late.
    pub late: bool,
    /// A wait may be longer by so many nanoseconds.
    pub oversleep: u64,
    /// Calls may fail.
    pub fails: bool,
}

pub trait World {
    type System: Net;
    /// Where the descriptors of operations and streams come from.
    fn system(&self) -> Self::System;
    /// Whether what operations have opened has the number of a file that was closed.
    fn is_taken(&self, _file: usize) -> bool {
        false
    }
    /// What is odd about the system.
    fn oddities(&self) -> Oddities {
        Oddities::default()
    }
    /// Calls that the system has made fail.
    fn failures(&self) -> u64 {
        0
    }
    /// The time, where the system has one of its own.
    fn clock(&self) -> Option<u64> {
        None
    }
    /// The number of a file.
    fn fd(&self, file: usize) -> RawFd;
    fn is_open(&self, file: usize) -> bool;
    fn state(&self, file: usize) -> State;
    /// Whether something that happened may be told though it is over: a wait may find it, and bring no event.
    fn is_haunted(&self) -> bool;
    /// It becomes ready, or is no longer.
    fn toggle(&mut self, file: usize);
    /// The peer goes; once more, and it is gone for good.
    fn end(&mut self, file: usize);
    /// A new file under the number.
    fn renew(&mut self, file: usize);
    /// The number is free. `kept`: not the file, of which there is a duplicate.
    fn close(&mut self, file: usize, kept: bool);
}

struct File {
    shape: Shape,
    open: bool,
    /// There is a byte to read; the pipe is full.
    turned: bool,
    /// How much of the peer is gone: 0 to 2.
    ended: u8,
}

/// Files of the kernel.
pub struct Real {
    first: RawFd,
    files: Vec<File>,
    haunted: bool,
}

fn succeeded(result: libc::c_int) -> libc::c_int {
    assert!(result >= 0, "{}", std::io::Error::last_os_error());
    result
}

/// Closes a number that is one of a world's.
fn close(fd: RawFd) {
    // SAFETY: nobody else uses the numbers of a world.
    unsafe { libc::close(fd) };
}

/// Moves a descriptor to a number of ours, from which it takes what was there.
fn place(fd: RawFd, at: RawFd) {
    // SAFETY: `fd` was opened a moment ago and is nobody's; `at` is one of the world's numbers.
    unsafe { succeeded(libc::dup3(fd, at, libc::O_CLOEXEC)) };
    close(fd);
}

impl Real {
    /// Files under the numbers from `first` on, of which nobody else may use any.
    pub fn new(first: RawFd) -> Real {
        let shapes = [Shape::Socket, Shape::Reader, Shape::Writer];
        let file = |at: usize| File { shape: shapes[at % 3], open: false, turned: false, ended: 0 };
        let mut world = Real { first, files: (0..FILES).map(file).collect(), haunted: false };
        (0..FILES).for_each(|file| world.renew(file));
        world
    }

    fn peer(&self, file: usize) -> RawFd {
        self.first + (FILES + file) as RawFd
    }

    fn kept(&self, file: usize) -> RawFd {
        self.first + (2 * FILES + file) as RawFd
    }

    /// Reads all that there is.
    fn drain(fd: RawFd) {
        let mut bytes = [0u8; 4096];
        // SAFETY: as long as it says, and written before it is looked at.
        while unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()) } > 0 {}
    }

    fn write(fd: RawFd, count: usize) -> bool {
        let bytes = [0u8; 4096];
        // SAFETY: as long as it says.
        (unsafe { libc::write(fd, bytes.as_ptr().cast(), count) }) > 0
    }
}

impl World for Real {
    type System = Kernel;

    fn system(&self) -> Kernel {
        Kernel
    }

    fn fd(&self, file: usize) -> RawFd {
        self.first + file as RawFd
    }

    fn is_open(&self, file: usize) -> bool {
        self.files[file].open
    }

    fn state(&self, file: usize) -> State {
        let File { shape, open, turned, ended } = self.files[file];
        if !open {
            return State::ANYTHING;
        }
        let mut must = match shape {
            Shape::Socket if turned || ended > 0 => Ready::READABLE | Ready::WRITABLE,
            Shape::Socket => Ready::WRITABLE,
            Shape::Reader if turned || ended > 0 => Ready::READABLE,
            Shape::Reader => Ready::empty(),
            Shape::Writer if !turned => Ready::WRITABLE,
            Shape::Writer => Ready::empty(),
        };
        let mut may = must;
        if ended > 0 {
            // Of an end some systems tell more, and with a hang-up comes what was asked for.
            may = Ready::all() - Ready::PRIORITY;
            if shape == Shape::Writer {
                must = Ready::WRITABLE;
            }
        }
        State { must, may }
    }

    fn is_haunted(&self) -> bool {
        self.haunted
    }

    fn toggle(&mut self, file: usize) {
        let (fd, peer) = (self.fd(file), self.peer(file));
        let File { shape, open, turned, ended } = self.files[file];
        if !open || ended > 0 {
            return;
        }
        match (shape, turned) {
            (Shape::Socket | Shape::Reader, false) => assert!(Real::write(peer, 1), "room for a byte"),
            (Shape::Socket | Shape::Reader, true) => Real::drain(fd),
            (Shape::Writer, false) => while Real::write(fd, 4096) {},
            (Shape::Writer, true) => Real::drain(peer),
        }
        self.files[file].turned = !turned;
    }

    fn end(&mut self, file: usize) {
        let peer = self.peer(file);
        let it = &mut self.files[file];
        if !it.open || it.ended == 2 {
            return;
        }
        if it.shape == Shape::Socket && it.ended == 0 {
            // SAFETY: touches no memory; the number is ours.
            unsafe { succeeded(libc::shutdown(peer, libc::SHUT_WR)) };
            it.ended = 1;
        } else {
            close(peer);
            it.ended = 2;
        }
    }

    fn renew(&mut self, file: usize) {
        let (fd, peer) = (self.fd(file), self.peer(file));
        let shape = self.files[file].shape;
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        unsafe {
            if shape == Shape::Socket {
                let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                succeeded(libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()));
            } else {
                succeeded(libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC));
                // Small, so that it is full soon; where the system will not, it takes longer.
                libc::fcntl(ends[1], libc::F_SETPIPE_SZ, 4096);
            }
        }
        if shape == Shape::Writer {
            ends.swap(0, 1);
        }
        place(ends[0], fd);
        place(ends[1], peer);
        self.files[file] = File { shape, open: true, turned: false, ended: 0 };
    }

    fn close(&mut self, file: usize, kept: bool) {
        if !self.files[file].open {
            return;
        }
        if kept {
            // SAFETY: both numbers are the world's.
            unsafe { succeeded(libc::dup3(self.fd(file), self.kept(file), libc::O_CLOEXEC)) };
            self.haunted = true;
        }
        close(self.fd(file));
        self.files[file].open = false;
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        (0..NUMBERS as RawFd).for_each(|at| close(self.first + at));
    }
}

/// The kernel's descriptors for operations.
#[derive(Clone, Copy)]
pub struct Kernel;

fn set_option<T>(fd: RawFd, option: libc::c_int, value: T) {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: a value of this length.
    unsafe { succeeded(libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const value).cast(), length)) };
}

/// Once it is closed nothing of a connection lingers, so that there are always ports.
fn end_at_once(fd: RawFd) {
    set_option(fd, libc::SO_LINGER, libc::linger { l_onoff: 1, l_linger: 0 });
}

impl System for Kernel {
    fn pair(self) -> [RawFd; 2] {
        let mut ends = [0; 2];
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: room for two descriptors.
        unsafe { succeeded(libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr())) };
        // As small as can be, so that they are full soon.
        ends.iter().for_each(|fd| set_option(*fd, libc::SO_SNDBUF, 1));
        ends
    }

    fn file(self, bytes: u64) -> RawFd {
        let content: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
        // SAFETY: a name that ends; as many bytes as it says.
        unsafe {
            let fd = succeeded(libc::memfd_create(c"becket".as_ptr(), libc::MFD_CLOEXEC));
            assert_eq!(libc::write(fd, content.as_ptr().cast(), content.len()), content.len() as isize);
            fd
        }
    }

    fn listener(self) -> (RawFd, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        end_at_once(listener.as_raw_fd());
        let address = listener.local_addr().expect("an address");
        (listener.into_raw_fd(), address)
    }

    fn socket(self) -> Option<RawFd> {
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: touches no memory.
        let fd = unsafe { succeeded(libc::socket(libc::AF_INET, kind, 0)) };
        end_at_once(fd);
        Some(fd)
    }

    fn set_room(self, _: RawFd, _: usize) {}

    fn read(self, fd: RawFd, bytes: &mut [u8]) -> usize {
        // SAFETY: as long as it says.
        let count = unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT) };
        usize::try_from(count).unwrap_or(0)
    }

    fn accept(self, listener: RawFd) -> Option<RawFd> {
        // SAFETY: no address is asked for.
        let fd = unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) };
        (fd >= 0).then_some(fd)
    }

    fn close(self, fd: RawFd) -> bool {
        // SAFETY: the caller's to close.
        unsafe { libc::close(fd) == 0 }
    }
}

/// What a call says that moves bytes.
fn moved(count: isize) -> Result<usize, Error> {
    usize::try_from(count).map_err(|_| {
        let error = std::io::Error::last_os_error().raw_os_error().expect("an errno");
        Error::from_errno(error)
    })
}

/// An IPv4 address, as the kernel gives it.
type Name = (u16, u32);

/// What a socket is called, or its peer.
fn fd_name(
    fd: RawFd,
    call: unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int,
) -> Option<Name> {
    // SAFETY: all zeros are a valid address.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: an address, and its length.
    let answer = unsafe { call(fd, (&raw mut address).cast(), &raw mut length) };
    (answer == 0).then_some((address.sin_port, address.sin_addr.s_addr))
}

/// The address that has this name.
fn name_of((port, ip): Name) -> (libc::sockaddr_in, libc::socklen_t) {
    // SAFETY: all zeros are a valid address.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    (address.sin_port, address.sin_addr.s_addr) = (port, ip);
    (address, size_of::<libc::sockaddr_in>() as libc::socklen_t)
}

impl Net for Kernel {
    fn join(self, far: bool) -> [RawFd; 2] {
        if !far {
            return self.pair();
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let peer = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let ours = listener.accept().expect("a connection").0;
        peer.set_nonblocking(true).expect("a socket");
        [ours.into_raw_fd(), peer.into_raw_fd()]
    }

    fn write(self, fd: RawFd, bytes: &[u8]) -> Result<usize, Error> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: as long as it says.
        moved(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) })
    }

    fn receive(self, fd: RawFd, bytes: &mut [u8]) -> Result<usize, Error> {
        // SAFETY: as long as it says.
        moved(unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT) })
    }

    fn half_close(self, fd: RawFd) {
        // SAFETY: touches no memory. (The other end may have gone.)
        unsafe { libc::shutdown(fd, libc::SHUT_WR) };
    }

    fn break_off(self, fd: RawFd) {
        end_at_once(fd);
        close(fd);
    }

    fn dial(self, listener: RawFd) -> Option<RawFd> {
        let fd = System::socket(self)?;
        let (address, length) = name_of(fd_name(listener, libc::getsockname)?);
        // SAFETY: an address of this length.
        let answer = unsafe { libc::connect(fd, (&raw const address).cast(), length) };
        let error = std::io::Error::last_os_error().raw_os_error();
        assert!(answer == 0 || error == Some(libc::EINPROGRESS), "{error:?}");
        Some(fd)
    }

    fn other_end(self, accepted: RawFd, all: &[RawFd]) -> Option<usize> {
        let own = fd_name(accepted, libc::getsockname)?;
        let peer = fd_name(accepted, libc::getpeername);
        let fits = |fd: &RawFd| match peer {
            Some(peer) => fd_name(*fd, libc::getsockname) == Some(peer),
            // It is gone already.
            None => fd_name(*fd, libc::getpeername) == Some(own),
        };
        all.iter().position(fits)
    }

    fn is_far(self) -> bool {
        true
    }

    fn readiness(self, fd: RawFd) -> Ready {
        let mut asked = libc::pollfd { fd, events: libc::POLLIN | libc::POLLOUT, revents: 0 };
        // SAFETY: one of them.
        unsafe { succeeded(libc::poll(&raw mut asked, 1, 0)) };
        let mut ready = Ready::empty();
        ready.set(Ready::READABLE, asked.revents & libc::POLLIN != 0);
        ready.set(Ready::WRITABLE, asked.revents & libc::POLLOUT != 0);
        ready
    }
}

impl Net for Simulator<'static> {
    fn join(self, _: bool) -> [RawFd; 2] {
        System::pair(self)
    }

    fn write(self, fd: RawFd, bytes: &[u8]) -> Result<usize, Error> {
        Simulator::write(self, fd, bytes)
    }

    fn receive(self, fd: RawFd, bytes: &mut [u8]) -> Result<usize, Error> {
        Simulator::read(self, fd, bytes)
    }

    fn half_close(self, fd: RawFd) {
        // (The other end may have gone.)
        let _ = Simulator::shutdown(self, fd);
    }

    fn break_off(self, fd: RawFd) {
        Simulator::reset(self, fd).expect("a connection");
        assert!(System::close(self, fd));
    }

    fn dial(self, listener: RawFd) -> Option<RawFd> {
        let fd = System::socket(self)?;
        match self.connect(fd, listener) {
            Err(Error::IN_PROGRESS) => Some(fd),
            _ => {
                System::close(self, fd);
                None
            }
        }
    }

    fn other_end(self, accepted: RawFd, all: &[RawFd]) -> Option<usize> {
        if all.len() == 1 {
            return Some(0);
        }
        // A byte tells. (Where calls fail, after a few of them.)
        (0..99).find_map(|_| Simulator::write(self, accepted, &[0]).ok())?;
        let hears = |fd: &RawFd| (0..20).any(|_| Simulator::read(self, *fd, &mut [0]) == Ok(1));
        all.iter().position(hears)
    }

    fn is_far(self) -> bool {
        false
    }

    fn readiness(self, fd: RawFd) -> Ready {
        Simulator::ready(self, fd).expect("it is open")
    }
}

/// Files of the simulator: any readiness, and a system that is as odd as the program wants it.
pub struct Simulated {
    simulator: Simulator<'static>,
    fds: [RawFd; FILES],
    open: [bool; FILES],
    oddities: Oddities,
    haunted: bool,
}

impl Simulated {
    /// Descriptors that it has.
    pub const FDS: usize = 128;
    /// Those that files and their duplicates may have: the rest is for operations and streams.
    const OWN_FDS: usize = 64;

    /// `chance`: how odd.
    pub fn new(simulator: Simulator<'static>, chance: u8) -> Simulated {
        let oddities = Oddities {
            lies: chance & 3 == 3,
            late: chance & 12 == 12,
            oversleep: if chance & 48 == 48 { 1 << (chance % 23) } else { 0 },
            fails: chance >= 192,
        };
        let fds = std::array::from_fn(|_| simulator.scripted().expect("a descriptor"));
        let world = Simulated { simulator, fds, open: [true; FILES], oddities, haunted: false };
        world.make_odd();
        world
    }

    fn make_odd(&self) {
        let Oddities { lies, late, oversleep, fails } = self.oddities;
        let set = |quirk, on, most| {
            let rate = if on { 100_000 } else { 0 };
            self.simulator.set_quirk(quirk, rate, Duration::from_nanos(most)).expect("a quirk");
        };
        set(Quirk::Spurious, lies, 0);
        set(Quirk::Repeated, lies, 0);
        set(Quirk::Delayed, late, 30);
        set(Quirk::Oversleep, oversleep > 0, oversleep);
        make_faulty(self.simulator, if fails { 20_000 } else { 0 });
        make_partial(self.simulator, if lies { 200_000 } else { 0 });
        for call in [Call::Watch, Call::Wait, Call::Change] {
            for error in call.errors() {
                self.simulator.set_fault(call, *error, if fails { 20_000 } else { 0 }).expect("a fault");
            }
        }
    }
}

impl Simulated {
    /// Opens something under a number that is wanted. The lowest free one is given: others are passed over.
    fn take_number(
        &self,
        open: impl Fn(Simulator<'static>) -> becket::Result<RawFd>,
        is_wanted: impl Fn(RawFd) -> bool,
    ) {
        let mut others = Vec::new();
        loop {
            let fd = open(self.simulator).expect("a descriptor");
            if is_wanted(fd) {
                break;
            }
            others.push(fd);
        }
        others.iter().for_each(|fd| assert!(System::close(self.simulator, *fd)));
    }
}

impl World for Simulated {
    type System = Simulator<'static>;

    fn system(&self) -> Simulator<'static> {
        self.simulator
    }

    fn is_taken(&self, file: usize) -> bool {
        !self.open[file] && self.simulator.ready(self.fds[file]).is_ok()
    }

    fn oddities(&self) -> Oddities {
        self.oddities
    }

    fn clock(&self) -> Option<u64> {
        Some(self.simulator.now().as_nanos())
    }

    fn failures(&self) -> u64 {
        [Call::Watch, Call::Wait, Call::Change].iter().map(|call| self.simulator.failed(*call).unwrap_or(0)).sum()
    }

    fn fd(&self, file: usize) -> RawFd {
        self.fds[file]
    }

    fn is_open(&self, file: usize) -> bool {
        self.open[file]
    }

    fn state(&self, file: usize) -> State {
        if !self.open[file] {
            return State::ANYTHING;
        }
        let ready = self.simulator.ready(self.fds[file]).expect("it is open");
        State::of(ready, self.oddities)
    }

    fn is_haunted(&self) -> bool {
        self.haunted
    }

    fn toggle(&mut self, file: usize) {
        const STATES: [Ready; 8] = [
            Ready::empty(),
            Ready::READABLE,
            Ready::WRITABLE,
            Ready::READABLE.union(Ready::WRITABLE),
            Ready::READABLE,
            Ready::PRIORITY,
            Ready::READABLE.union(Ready::PEER_CLOSED),
            Ready::empty(),
        ];
        if self.open[file] {
            let state = self.simulator.below(STATES.len() as u64).expect("a number") as usize;
            self.simulator.set_ready(self.fds[file], STATES[state]).expect("it is open");
        }
    }

    fn end(&mut self, file: usize) {
        if self.open[file] {
            let error = self.simulator.below(2).expect("a number") == 0;
            let state = if error { Ready::ERROR } else { Ready::HANGUP | Ready::READABLE };
            self.simulator.set_ready(self.fds[file], state).expect("it is open");
        }
    }

    fn renew(&mut self, file: usize) {
        self.close(file, false);
        let fd = self.fds[file];
        self.take_number(|simulator| simulator.scripted(), |number| number == fd);
        self.open[file] = true;
    }

    fn close(&mut self, file: usize, kept: bool) {
        if !self.open[file] {
            return;
        }
        if kept && self.simulator.open_fds().is_ok_and(|count| (count as usize) < Self::OWN_FDS - FILES) {
            let (fd, fds) = (self.fds[file], self.fds);
            self.take_number(|simulator| simulator.duplicate(fd), |number| !fds.contains(&number));
            self.haunted = true;
        }
        assert!(System::close(self.simulator, self.fds[file]));
        self.open[file] = false;
    }
}
