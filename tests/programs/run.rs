//! Runs a program on a loop with a backend, in memory that each thread uses again and again.

use super::machine::{Abilities, Machine, carry_out};
use super::program::{Program, Random};
use super::world::{NUMBERS, Real, Simulated};
use becket::{BackendChoice, Config, Loop, Simulator, SimulatorMemory, Storage};

/// The file numbers of the first world; each has its own.
const FIRST_NUMBER: usize = 256;
/// How many worlds there can be at once: select's numbers end at 1024, and processes often have no higher ones.
pub const SLOTS: usize = (1024 - FIRST_NUMBER) / NUMBERS;

thread_local! {
    static LARGE: &'static Memory<24, 6, 5> = Memory::leak();
    static SIMULATED: *mut SimulatorMemory<{ Simulated::FDS }, 64> = Box::leak(Box::new(SimulatorMemory::new()));
    static SMALL: &'static Memory<7, 2, 2> = Memory::leak();
}

/// Memory for one loop after the other, for ever: what wakers point to is never given back.
struct Memory<const S: usize, const P: usize, const O: usize>(*mut Storage<S, P, O>);

impl<const S: usize, const P: usize, const O: usize> Memory<S, P, O> {
    fn leak() -> &'static Memory<S, P, O> {
        Box::leak(Box::new(Memory(Box::leak(Box::new(Storage::new())))))
    }

    /// A loop may be made in memory that holds anything: zeros, or numbers by chance.
    fn fill(&self, chance: u8) {
        let mut random = Random::new(chance.into());
        for at in 0..size_of::<Storage<S, P, O>>() / 4 {
            let value = if chance == 0 { 0 } else { random.bits() };
            // SAFETY: inside of the storage, which is this thread's, aligned to more, and valid whatever it holds.
            unsafe { self.0.cast::<u32>().add(at).write(value) };
        }
    }

    /// Carries out a program on a loop in it.
    fn run(&self, program: &Program, backend: BackendChoice, slot: usize) -> u64 {
        let config = Config { backend, virtual_clock: true, budget: program.setup.budget.into(), ..Config::default() };
        self.fill(program.setup.chance);
        // SAFETY: a thread's own, of which each loop is dropped before the next is made.
        let storage: &'static mut Storage<S, P, O> = unsafe { &mut *self.0 };
        let edge = !matches!(backend, BackendChoice::Select | BackendChoice::Poll);
        let abilities = Abilities { edge, vague_waits: backend == BackendChoice::IoUring };
        if backend == BackendChoice::Simulator {
            // SAFETY: likewise.
            let memory = SIMULATED.with(|memory| unsafe { &mut **memory });
            let simulator = Simulator::new(memory, program.setup.chance.into());
            simulator.set_ring(program.setup.chance.is_multiple_of(2)).expect("a simulator");
            let event_loop: Loop<'static, Machine<Simulated>> =
                Loop::simulated(storage, simulator, &config).expect("a loop");
            let world = Simulated::new(simulator, program.setup.chance);
            return carry_out(program, &event_loop, world, abilities, (S, P, O));
        }
        let event_loop: Loop<'static, Machine<Real>> = Loop::new(storage, &config).expect("a loop");
        let world = Real::new((FIRST_NUMBER + slot * NUMBERS) as i32);
        carry_out(program, &event_loop, world, abilities, (S, P, O))
    }
}

/// Carries out a program on a loop of a thread's own; `slot`: of its own in each thread. How many steps were done.
pub fn run(program: &Program, backend: BackendChoice, slot: usize) -> u64 {
    if program.setup.small {
        SMALL.with(|memory| memory.run(program, backend, slot))
    } else {
        LARGE.with(|memory| memory.run(program, backend, slot))
    }
}
