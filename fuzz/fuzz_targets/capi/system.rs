//! What the target has of the system: fds at numbers of their own, children, signals. All of it is given back after each
//! input, and it is looked whether becket gave back what was its own.

use crate::input::Input;
use crate::operations::Operations;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicI32, Ordering};

/// The target's fds have these numbers, which the kernel never gives by itself; the last ones are above what select takes.
pub const FDS: [i32; 10] = [400, 401, 402, 403, 404, 405, 406, 407, 1023, 1024];
/// Below this are those that the kernel gives.
const LOWEST_FDS: i32 = 100;

/// Signals that nobody else here uses, and that do no harm where nobody receives them.
pub const HARMLESS: [i32; 4] = [libc::SIGWINCH, libc::SIGURG, libc::SIGCONT, libc::SIGCHLD];
/// No signals, or such as cannot be caught.
const IMPOSSIBLE: [i32; 8] = [0, -1, 65, 64 + 32, libc::SIGKILL, libc::SIGSTOP, i32::MAX, i32::MIN];

/// A child that does nothing, for as long as this process lives.
static SLEEPER: AtomicI32 = AtomicI32::new(0);

pub struct System {
    /// Children that may be there to be reaped.
    children: RefCell<Vec<i32>>,
    listener: RefCell<Box<[u8]>>,
    open_before: Vec<i32>,
    pub signals_used: Cell<bool>,
}

fn check(answer: i32, call: &str) -> i32 {
    assert!(answer >= 0, "{call}: {}", std::io::Error::last_os_error());
    answer
}

/// Once in a process.
pub fn begin() {
    let wanted = FDS[FDS.len() - 1] as libc::rlim_t + 1;
    // SAFETY: the struct is valid; the child calls nothing but system calls.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), "getrlimit");
        if limit.rlim_cur < wanted {
            limit.rlim_cur = wanted;
            check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), "setrlimit");
        }
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        let parent = libc::getpid();
        let child = check(libc::fork(), "fork");
        if child == 0 {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            while libc::getppid() == parent {
                libc::pause();
            }
            libc::_exit(0);
        }
        SLEEPER.store(child, Ordering::Relaxed);
    }
}

/// The fds that are open, as far as any can be: one system call.
fn open_fds() -> Vec<i32> {
    let numbers = (0..LOWEST_FDS).chain(FDS);
    let mut all: Vec<_> = numbers.map(|fd| libc::pollfd { fd, events: 0, revents: 0 }).collect();
    // SAFETY: so many entries are there.
    check(unsafe { libc::poll(all.as_mut_ptr(), all.len() as libc::nfds_t, 0) }, "poll");
    all.iter().filter(|it| it.revents & libc::POLLNVAL == 0).map(|it| it.fd).collect()
}

/// Ends at once; in a process that shares our memory, while we wait.
extern "C" fn end_at_once(code: *mut libc::c_void) -> i32 {
    // SAFETY: no pointer is passed. Not exit(3), which would end what is ours.
    unsafe { libc::syscall(libc::SYS_exit, code as usize) };
    0
}

impl System {
    pub fn new() -> System {
        System {
            children: RefCell::default(),
            listener: RefCell::default(),
            open_before: open_fds(),
            signals_used: Cell::new(false),
        }
    }

    /// An fd: one of ours, open or not, or a number that no fd has.
    pub fn fd(&self, input: &Input) -> i32 {
        match input.byte() {
            choice @ 0..0xe0 => FDS[usize::from(choice) % FDS.len()],
            0xe0..0xe8 => -1,
            0xe8..0xf0 => i32::MAX,
            0xf0..0xf8 => i32::MIN,
            _ => (input.u32() | 1 << 20).cast_signed(),
        }
    }

    /// Moves an fd to a number of ours; what an operation needs is not closed.
    fn place(fd: i32, at: usize, operations: &Operations) {
        if operations.need(FDS[at % FDS.len()]) {
            // SAFETY: no pointer is passed; the fd is ours.
            check(unsafe { libc::close(fd) }, "close");
            return;
        }
        // SAFETY: no pointer is passed; the number is one of ours.
        check(unsafe { libc::dup3(fd, FDS[at % FDS.len()], libc::O_CLOEXEC) }, "dup3");
        // SAFETY: no pointer is passed; the fd is ours.
        check(unsafe { libc::close(fd) }, "close");
    }

    /// Opens something at one of our numbers, whatever was there.
    pub fn open(&self, input: &Input, operations: &Operations) {
        let at = input.below(FDS.len());
        let mut two = [-1; 2];
        // SAFETY: the array has room for two, the names end in NUL.
        unsafe {
            match input.below(11) {
                0 => check(libc::pipe2(two.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK), "pipe"),
                1 | 2 => {
                    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
                    check(libc::socketpair(libc::AF_UNIX, kind, 0, two.as_mut_ptr()), "socketpair")
                }
                3 => {
                    two[0] = check(libc::eventfd(u32::from(input.byte()), libc::EFD_NONBLOCK), "eventfd");
                    0
                }
                4 => {
                    two[0] = check(libc::memfd_create(c"file".as_ptr(), libc::MFD_CLOEXEC), "memfd_create");
                    0
                }
                5 => {
                    two[0] = check(libc::open(c"/dev/null".as_ptr(), libc::O_RDWR), "open");
                    0
                }
                6 => {
                    two[0] = check(libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY), "open");
                    0
                }
                7 | 8 => {
                    two[0] = self.socket(false);
                    0
                }
                9 => {
                    two[0] = self.socket(true);
                    0
                }
                _ => {
                    two[0] = libc::dup(FDS[input.below(FDS.len())]);
                    0
                }
            };
        }
        for (place, fd) in two.into_iter().enumerate().filter(|(_, fd)| *fd >= 0) {
            System::place(fd, at + place, operations);
        }
    }

    pub fn close(&self, input: &Input, operations: &Operations) {
        let fd = FDS[input.below(FDS.len())];
        if !operations.need(fd) {
            // SAFETY: no pointer is passed; a number of ours that is not open is an error.
            unsafe { libc::close(fd) };
        }
    }

    /// A socket that listens, under a name that the kernel chooses, or one that is to be connected.
    fn socket(&self, listens: bool) -> i32 {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointer is passed.
        let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) }, "socket");
        if listens {
            // SAFETY: all zeros is a valid one: integers.
            let mut name: libc::sockaddr_un = unsafe { std::mem::zeroed() };
            name.sun_family = libc::AF_UNIX as libc::sa_family_t;
            let mut length = size_of::<libc::sa_family_t>() as libc::socklen_t;
            // SAFETY: the name is as long as is said, and has room for as much.
            unsafe {
                check(libc::bind(fd, (&raw const name).cast(), length), "bind");
                check(libc::listen(fd, 2), "listen");
                length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
                check(libc::getsockname(fd, (&raw mut name).cast(), &raw mut length), "getsockname");
                let bytes = std::slice::from_raw_parts((&raw const name).cast::<u8>(), length as usize);
                self.listener.replace(bytes.into());
            }
        }
        fd
    }

    /// The name of the socket that listens, or none.
    pub fn listener(&self) -> Box<[u8]> {
        self.listener.borrow().clone()
    }

    pub fn write(&self, input: &Input) {
        let bytes = [1_u8; 256];
        let size = 8 * (input.below(32) + 1);
        let flags = if input.rarely(8) { libc::MSG_OOB } else { 0 };
        let fd = FDS[input.below(FDS.len())];
        // SAFETY: so many bytes are there. No socket: write(2). Nothing of ours blocks.
        unsafe {
            if libc::send(fd, bytes.as_ptr().cast(), size, flags | libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) < 0
                && *libc::__errno_location() == libc::ENOTSOCK
            {
                // (SIGPIPE is ignored.)
                libc::write(fd, bytes.as_ptr().cast(), size);
            }
        }
    }

    pub fn read(&self, input: &Input) {
        let mut bytes = [0_u8; 4096];
        let fd = FDS[input.below(FDS.len())];
        // SAFETY: so many bytes are there. Nothing of ours blocks.
        unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()) };
    }

    pub fn shut_down(&self, input: &Input) {
        // SAFETY: no pointer is passed; not a socket: an error.
        unsafe { libc::shutdown(FDS[input.below(FDS.len())], i32::from(input.byte() % 3)) };
    }

    /// A child's number: of one that sleeps, one that has ended, one that was reaped; or no child's.
    pub fn pid(&self, input: &Input) -> i32 {
        match input.byte() % 8 {
            0 => 0,
            1 => input.u32().cast_signed(),
            2 => SLEEPER.load(Ordering::Relaxed),
            3 => self.children.borrow().first().copied().unwrap_or(1),
            _ => self.start_child(input.byte()),
        }
    }

    fn start_child(&self, code: u8) -> i32 {
        if self.children.borrow().len() >= 4 {
            return self.children.borrow()[usize::from(code % 4)];
        }
        let mut stack = vec![0_u64; 2048];
        // SAFETY: the stack is large enough for a system call, and stays until the child has ended (CLONE_VFORK).
        let child = unsafe {
            let top = stack.as_mut_ptr().add(stack.len());
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            libc::clone(end_at_once, top.cast(), flags, usize::from(code) as *mut libc::c_void)
        };
        check(child, "clone");
        self.children.borrow_mut().push(child);
        child
    }

    pub fn signal(&self, input: &Input) -> i32 {
        self.signals_used.set(true);
        if input.rarely(4) { input.pick(&IMPOSSIBLE) } else { input.pick(&HARMLESS) }
    }

    pub fn raise(&self, input: &Input) {
        // SAFETY: no pointer is passed.
        check(unsafe { libc::raise(input.pick(&HARMLESS)) }, "raise");
    }

    /// Gives everything back. Panics where becket did not.
    pub fn end(&self) {
        for child in self.children.take() {
            // SAFETY: no status is asked for. It has ended; ECHILD: becket has reaped it.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        }
        for fd in FDS {
            // SAFETY: no pointer is passed, and the fd is ours.
            unsafe { libc::close(fd) };
        }
        assert_eq!(self.open_before, open_fds(), "fds that were open before, and are now");
        let all = HARMLESS.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
        for signal in all.filter(|_| self.signals_used.get()) {
            // SAFETY: all zeros is a valid sigaction, which is written to.
            let now = unsafe {
                let mut now: libc::sigaction = std::mem::zeroed();
                check(libc::sigaction(signal, std::ptr::null(), &raw mut now), "sigaction");
                now
            };
            assert_eq!(now.sa_sigaction, libc::SIG_DFL, "the disposition of signal {signal} came not back");
        }
    }
}
