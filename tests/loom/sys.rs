//! In the place of `src/sys`: as much of a kernel as the lock-free part asks for. Descriptors that wake, dispositions of
//! signals, one process.

#[path = "../../src/sys/errno.rs"]
pub(crate) mod errno;

/// Lets other threads run.
pub(crate) fn pause() {
    loom::thread::yield_now();
}

pub(crate) mod fd {
    use loom::sync::{Condvar, Mutex};

    const LIMIT: usize = 3;

    #[derive(Clone, Copy, PartialEq)]
    enum State {
        Closed,
        Empty,
        Readable,
    }

    struct Files {
        states: Mutex<[State; LIMIT]>,
        changed: Condvar,
    }

    loom::lazy_static! {
        static ref FILES: Files = Files { states: Mutex::new([State::Closed; LIMIT]), changed: Condvar::new() };
    }

    /// As an eventfd: both ends are one.
    #[derive(Clone, Copy)]
    pub(crate) struct Notifier {
        pub(crate) watched: i32,
        pub(crate) written: i32,
    }

    pub(crate) fn notifier() -> Notifier {
        let mut states = FILES.states.lock().unwrap();
        let fd = states.iter().position(|state| *state == State::Closed).expect("a descriptor is free");
        states[fd] = State::Empty;
        Notifier { watched: fd as i32, written: fd as i32 }
    }

    pub(crate) fn notify(written: i32) {
        let mut states = FILES.states.lock().unwrap();
        assert!(states[written as usize] != State::Closed, "written to after it was closed");
        states[written as usize] = State::Readable;
        FILES.changed.notify_all();
    }

    pub(crate) fn drain(watched: i32) {
        let mut states = FILES.states.lock().unwrap();
        assert!(states[watched as usize] != State::Closed, "read after it was closed");
        states[watched as usize] = State::Empty;
    }

    impl Notifier {
        pub(crate) fn close(self) {
            let mut states = FILES.states.lock().unwrap();
            assert!(states[self.watched as usize] != State::Closed, "closed twice");
            states[self.watched as usize] = State::Closed;
        }

        /// As poll(2) on it alone: whether it is readable, at once or (`block`) when it is. loom ends a test in which
        /// all threads wait.
        pub(crate) fn wait(self, block: bool) -> bool {
            let mut states = FILES.states.lock().unwrap();
            while block && states[self.watched as usize] == State::Empty {
                states = FILES.changed.wait(states).unwrap();
            }
            states[self.watched as usize] == State::Readable
        }
    }
}

pub(crate) mod process {
    use std::cell::Cell;

    thread_local! {
        // loom's threads are all run by one.
        static THIS: Cell<i32> = const { Cell::new(1) };
    }

    pub(crate) fn mark() -> i32 {
        THIS.get()
    }

    /// From here on this is another process: a child that a fork made, or the first one of a new test.
    pub(crate) fn become_process(number: i32) {
        THIS.set(number);
    }

    pub(crate) fn is_marked(process: i32) -> bool {
        process == THIS.get()
    }

    pub(crate) fn is(process: i32) -> bool {
        is_marked(process)
    }

    pub(crate) fn marks() -> bool {
        true
    }
}

pub(crate) mod signal {
    use crate::atomic::AtomicU32;
    use crate::error::Result;
    use loom::sync::Mutex;

    pub(crate) const LIMIT: usize = 3;

    type Handler = extern "C" fn(i32);

    loom::lazy_static! {
        pub(crate) static ref HANDLERS: AtomicU32 = AtomicU32::new(0);
        static ref DISPOSITIONS: Mutex<[Option<Handler>; LIMIT]> = Mutex::new([None; LIMIT]);
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Disposition(Option<Handler>);

    impl Disposition {
        pub(crate) const fn new() -> Disposition {
            Disposition(None)
        }

        pub(crate) fn is(&self, handler: Handler) -> bool {
            self.0.is_some_and(|it| it as usize == handler as usize)
        }
    }

    pub(crate) fn install(signal: i32, handler: Handler, old: &mut Disposition) -> Result<()> {
        *old = Disposition(DISPOSITIONS.lock().unwrap()[signal as usize].replace(handler));
        Ok(())
    }

    pub(crate) fn restore(signal: i32, old: &Disposition) {
        DISPOSITIONS.lock().unwrap()[signal as usize] = old.0;
    }

    /// A signal comes, in the thread that calls this. Whether there was a handler.
    pub(crate) fn raise(signal: i32) -> bool {
        let handler = DISPOSITIONS.lock().unwrap()[signal as usize];
        handler.map(|handler| handler(signal)).is_some()
    }
}
