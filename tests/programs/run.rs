//! Runs a program on a loop with a backend, in memory that each thread uses again and again.
//!
//! Files are read and written by io_uring, or by nobody: the threads of POSIX AIO take a time of their own, and with them a run
//! would not be a function of its program. (The conformance suite and the fuzz target of the C ABI have those.)

use super::machine::{Abilities, Machine, Places, Reached, carry_out};
use super::program::{Program, Random};
use super::streams::{BUFFER_BYTES, BUFFERS, STREAMS};
use super::world::{NUMBERS, Real, Simulated};
use becket::{BackendChoice, Config, Loop, Simulator, SimulatorMemory, Storage, Streams};

/// The file numbers of the first world; each has its own.
const FIRST_NUMBER: usize = 256;
/// How many worlds there can be at once: select's numbers end at 1024, and processes often have no higher ones.
pub const SLOTS: usize = (1024 - FIRST_NUMBER) / NUMBERS;

thread_local! {
    static LARGE: &'static Memory<24, 6, 5, STREAMS, BUFFERS> = Memory::leak();
    static SIMULATED: *mut SimulatorMemory<{ Simulated::FDS }, 96> = Box::leak(Box::new(SimulatorMemory::new()));
    static SMALL: &'static Memory<7, 2, 2, 2, 2> = Memory::leak();
}

/// Memory for one loop after the other, for ever: what wakers point to is never given back.
struct Memory<const S: usize, const P: usize, const O: usize, const N: usize, const B: usize> {
    storage: *mut Storage<S, P, O>,
    streams: *mut Streams<N, B, BUFFER_BYTES>,
}

impl<const S: usize, const P: usize, const O: usize, const N: usize, const B: usize> Memory<S, P, O, N, B> {
    fn leak() -> &'static Memory<S, P, O, N, B> {
        let (storage, streams) = (Box::leak(Box::new(Storage::new())), Box::leak(Box::new(Streams::new())));
        Box::leak(Box::new(Memory { storage, streams }))
    }

    /// A loop may be made in memory that holds anything: zeros, or numbers by chance.
    fn fill(&self, chance: u8) {
        let mut random = Random::new(chance.into());
        let mut fill = |memory: *mut u32, bytes: usize| {
            for at in 0..bytes / 4 {
                let value = if chance == 0 { 0 } else { random.bits() };
                // SAFETY: inside of memory that is this thread's, aligned to more, and valid whatever it holds.
                unsafe { memory.add(at).write(value) };
            }
        };
        fill(self.storage.cast(), size_of::<Storage<S, P, O>>());
        fill(self.streams.cast(), size_of::<Streams<N, B, BUFFER_BYTES>>());
    }

    /// Carries out a program on a loop in it.
    fn run(&self, program: &Program, backend: BackendChoice, slot: usize) -> Reached {
        let config = Config { backend, virtual_clock: true, budget: program.setup.budget.into(), ..Config::default() };
        self.fill(program.setup.chance);
        // SAFETY: a thread's own, of which each loop is dropped before the next is made.
        let storage: &'static mut Storage<S, P, O> = unsafe { &mut *self.storage };
        // SAFETY: likewise.
        let streams: &'static mut Streams<N, B, BUFFER_BYTES> = unsafe { &mut *self.streams };
        let places = Places { sources: S, posts: P, operations: O, streams: N, buffers: B };
        let edge = !matches!(backend, BackendChoice::Select | BackendChoice::Poll);
        let exclusive = matches!(backend, BackendChoice::Epoll | BackendChoice::Simulator);
        let signal = libc::SIGRTMIN() + slot as i32;
        let abilities = Abilities { edge, exclusive, vague_waits: backend == BackendChoice::IoUring, signal };
        if backend == BackendChoice::Simulator {
            // SAFETY: likewise.
            let memory = SIMULATED.with(|memory| unsafe { &mut **memory });
            let simulator = Simulator::new(memory, program.setup.chance.into());
            simulator.set_ring(program.setup.chance.is_multiple_of(2)).expect("a simulator");
            let event_loop: Loop<'static, Machine<Simulated>> =
                Loop::simulated_with_streams(storage, simulator, streams, &config).expect("a loop");
            let world = Simulated::new(simulator, program.setup.chance);
            return carry_out(program, &event_loop, world, abilities, places);
        }
        let event_loop: Loop<'static, Machine<Real>> = Loop::with_streams(storage, streams, &config).expect("a loop");
        let world = Real::new((FIRST_NUMBER + slot * NUMBERS) as i32);
        carry_out(program, &event_loop, world, abilities, places)
    }
}

/// Carries out a program on a loop of a thread's own; `slot`: of its own in each thread. What it has come to.
pub fn run(program: &Program, backend: BackendChoice, slot: usize) -> Reached {
    if program.setup.small {
        SMALL.with(|memory| memory.run(program, backend, slot))
    } else {
        LARGE.with(|memory| memory.run(program, backend, slot))
    }
}
