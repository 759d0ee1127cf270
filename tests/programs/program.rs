//! What a program is: a list of steps, each an operation and three numbers. Any list is a program: a number is taken
//! modulo what there is to choose from at that moment, so a program with steps left out is still one, which is what
//! makes programs short by trying.
//!
//! The list is read from front to back by whoever acts: outside of handlers the main program, inside of one its handler,
//! up to the next `ret`. As text a step is a line, `timer 3 0 250`.

use std::fmt;
use std::str::FromStr;

macro_rules! operations {
    ($($(#[doc = $doc:literal])* $name:ident $word:literal $weight:literal;)*) => {
        /// What a step does. A further one is a line here and an arm in `machine.rs`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Op { $($(#[doc = $doc])* $name),* }

        /// All of them, with the word that each is as text, and how often a random program has it.
        const OPERATIONS: &[(Op, &str, u32)] = &[$((Op::$name, $word, $weight)),*];
    };
}

operations! {
    /// Ends the handler that reads it; nothing outside of one.
    Return "ret" 130;

    /// I/O source: file, interest and options, level.
    AddIo "io" 50;
    /// Timer: delay, period, level.
    AddTimer "timer" 30;
    /// Wake source: -, -, level.
    AddWake "wake_source" 12;
    /// Before-wait, after-wait, idle or deferred source: which, -, level.
    AddHook "hook" 16;
    /// Source.
    Remove "remove" 22;
    /// The source whose event was the last.
    RemoveOwn "remove_own" 14;
    /// I/O source, interest.
    Modify "modify" 26;
    /// I/O source, set, clear.
    Change "change" 14;
    /// I/O source, on.
    Oneshot "oneshot" 8;
    /// I/O source, span.
    IdleTimeout "idle_timeout" 14;
    /// I/O source, span.
    Deadline "deadline" 10;
    /// I/O source, span from now, or back from now.
    DeadlineAt "deadline_at" 6;
    /// Timer, delay, period.
    Arm "arm" 18;
    /// Timer, span from now, period; or back from now.
    ArmAt "arm_at" 10;
    /// Timer.
    Disarm "disarm" 8;
    /// Source, flags.
    Trigger "trigger" 24;
    /// Source.
    Post "post" 34;
    /// Source, by a waker.
    Wake "wake" 20;
    /// Source, level.
    Level "level" 20;
    /// Source, on.
    Keepalive "keepalive" 10;
    /// Source: another token.
    Token "token" 5;
    /// Before-wait, after-wait or idle source, on.
    Enable "enable" 10;
    /// Deferred source.
    Defer "defer" 14;

    /// File: it becomes ready, or no longer is.
    Toggle "toggle" 46;
    /// File: its peer ends it.
    End "end" 6;
    /// File: closed and opened anew, under the same number.
    Renew "renew" 10;
    /// File: closed, while its source is still there; with odd b a duplicate lives on elsewhere.
    CloseFirst "close_first" 5;

    /// A handle that was removed, every use of it.
    Stale "stale" 6;
    /// Source: calls that are wrong for it.
    Misuse "misuse" 6;
    /// Everything that the loop tells of its sources and itself.
    Audit "audit" 6;

    /// Time passes outside of a wait: span.
    Advance "advance" 14;
    /// A turn with handlers: timeout.
    Turn "turn" 44;
    /// `run`, for a span at most and for so many events.
    Run "run" 14;
    /// `stop`.
    Stop "stop" 3;
    /// The pull form: waits and queues. Timeout.
    Poll "poll" 22;
    /// Takes out one event: kinds.
    Next "next" 26;
    /// Takes out all events, each followed by steps up to a `ret`: kinds.
    Drain "drain" 30;
    /// prepare, steps, wait, steps, collect: timeout.
    Phases "phases" 12;

    /// Operation: what, of what, length.
    Submit "submit" 60;
    /// Operation: which.
    Cancel "cancel" 14;
    /// Operation: which, span; with odd c endless.
    TimeLimit "time_limit" 8;
    /// Operation: which, its level and whether it keeps the loop alive.
    Other "operation" 8;
    /// End of a stream: how much it holds.
    Room "room" 6;

    /// Stream: over which connection, of which sort, level.
    AddStream "stream" 60;
    /// Stream that is connected: within a span, -, level.
    Dial "dial" 20;
    /// What was connected is accepted.
    Accept "accept" 16;
    /// Listener: the sources that a connection needs, for streams or not, level.
    Listen "listen" 16;
    /// Listener: somebody connects to it.
    Call "call" 40;
    /// Listener, on.
    PauseListener "pause_listener" 12;
    /// Listener.
    CloseListener "close_listener" 6;
    /// Stream, length, parts.
    Send "send" 90;
    /// Stream, on.
    BatchStream "batch_stream" 24;
    /// Stream, which request.
    CancelSend "cancel_send" 16;
    /// Stream, on.
    PauseStream "pause_stream" 24;
    /// Stream: it sends no more.
    ShutStream "shut_stream" 6;
    /// Stream.
    CloseStream "close_stream" 12;
    /// Stream.
    ResetStream "reset_stream" 6;
    /// Stream, low watermark, high.
    Marks "marks" 30;
    /// What was received last.
    Keep "keep" 50;
    /// What was kept: which.
    Release "release" 34;
    /// Connection, how much: its peer writes.
    PeerWrite "peer_write" 100;
    /// Connection, how much: its peer reads.
    PeerRead "peer_read" 40;
    /// Connection: its peer writes no more, or goes, or breaks it off.
    PeerEnd "peer_end" 10;
    /// Connection: how much its peer holds.
    Narrow "narrow" 10;
    /// All that is to be told of streams is told.
    Rest "rest" 14;
    /// Stream, how much: what was received last is sent on.
    Forward "forward" 60;
    /// Stream, which, how much: what was kept is sent on.
    ForwardKept "forward_kept" 24;
    /// Signal source: -, -, level.
    AddSignal "signal" 10;
    /// How often: the signal comes, to this thread.
    Raise "raise" 20;
    /// Events that count as taken out: how many.
    Spend "spend" 16;
}

impl Op {
    fn is_of_operations(self) -> bool {
        matches!(self, Op::Submit | Op::Cancel | Op::TimeLimit | Op::Other | Op::Room)
    }

    fn is_of_streams(self) -> bool {
        self as u8 >= Op::AddStream as u8 && self != Op::Spend
    }
}

/// One step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    pub op: Op,
    pub a: u8,
    pub b: u8,
    pub c: u8,
}

/// How the loop is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Setup {
    /// 0: as ever; else the most events of a turn.
    pub budget: u8,
    /// A table of few sources and posts, which is often full.
    pub small: bool,
    /// Spans may be as large as there are any.
    pub extreme: bool,
    /// What the simulator draws its faults from, where there is one.
    pub chance: u8,
    /// There are operations.
    pub operations: bool,
    /// There are streams.
    pub streams: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    pub setup: Setup,
    pub steps: Vec<Step>,
}

/// xorshift64*: seeded, so that every run is the same. Source: Vigna, "An experimental exploration of Marsaglia's
/// xorshift generators, scrambled" (2016).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        // Neighbouring seeds differ in all bits: splitmix64's finalizer.
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Random((mixed ^ mixed >> 31) | 1)
    }

    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        self.bits() % bound
    }
}

impl Setup {
    fn from_bytes([budget, flags, chance]: [u8; 3]) -> Setup {
        let streams = budget & 0b1000_0000 != 0;
        let budget = if flags & 0b11 == 0 { budget % 12 } else { 0 };
        let (small, extreme) = (flags & 0b100 != 0, flags & 0b111_1000 == 0);
        Setup { budget, small, extreme, chance, operations: flags & 0b1000_0000 != 0, streams }
    }
}

impl Program {
    /// The program of a seed.
    pub fn from_seed(seed: u64, steps: usize) -> Program {
        let mut random = Random::new(seed);
        let bytes = random.bits().to_le_bytes();
        let setup = Setup::from_bytes([bytes[0], bytes[1], bytes[2]]);
        // Each program has its own likings: some operations it does often, and some never.
        let mut weights: Vec<u32> = OPERATIONS.iter().map(|(_, _, weight)| weight * 2).collect();
        let liking = [1, 3, 8][random.below(3) as usize];
        for (weight, _) in weights.iter_mut().zip(OPERATIONS).filter(|(_, it)| it.0.is_of_streams()) {
            *weight *= liking;
        }
        for (weight, (op, _, _)) in weights.iter_mut().zip(OPERATIONS) {
            match random.below(8) {
                _ if op.is_of_operations() && !setup.operations => *weight = 0,
                _ if op.is_of_streams() && !setup.streams => *weight = 0,
                0 if !matches!(op, Op::Return | Op::Turn) => *weight = 0,
                1 => *weight *= 4,
                2 => *weight /= 4,
                _ => {}
            }
        }
        let total: u32 = weights.iter().sum();
        let mut step = || {
            let mut at = random.below(total);
            let mut chosen = 0;
            while at >= weights[chosen] {
                at -= weights[chosen];
                chosen += 1;
            }
            let [a, b, c, _] = random.bits().to_le_bytes();
            Step { op: OPERATIONS[chosen].0, a, b, c }
        };
        let steps = (0..steps).map(|_| step()).collect();
        Program { setup, steps }
    }

    /// The program that some bytes are: three for the loop, then four a step.
    #[allow(dead_code)] // the fuzz target does
    pub fn from_bytes(bytes: &[u8]) -> Program {
        let (head, rest) = bytes.split_at(bytes.len().min(3));
        let mut setup = [0, 0xff, 0];
        setup[..head.len()].copy_from_slice(head);
        let steps = rest.chunks_exact(4).map(|it| {
            let op = OPERATIONS[it[0] as usize % OPERATIONS.len()].0;
            Step { op, a: it[1], b: it[2], c: it[3] }
        });
        Program { setup: Setup::from_bytes(setup), steps: steps.collect() }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { budget, small, extreme, chance, operations, streams } = self.setup;
        let [small, extreme, operations, streams] = [small, extreme, operations, streams].map(u8::from);
        writeln!(f, "loop {budget} {small} {extreme} {chance} {operations} {streams}")?;
        for Step { op, a, b, c } in &self.steps {
            let word = OPERATIONS.iter().find(|it| it.0 == *op).map_or("?", |it| it.1);
            match (a, b, c) {
                (0, 0, 0) => writeln!(f, "{word}")?,
                (_, 0, 0) => writeln!(f, "{word} {a}")?,
                (_, _, 0) => writeln!(f, "{word} {a} {b}")?,
                _ => writeln!(f, "{word} {a} {b} {c}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Program {
    type Err = String;

    /// What `Display` has written; a `;` ends a step too, and blank lines and what follows a `#` are passed over.
    fn from_str(text: &str) -> Result<Program, String> {
        let mut program = Program { setup: Setup::default(), steps: Vec::new() };
        for line in text.split(['\n', ';']) {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            let Some(word) = words.next() else { continue };
            let mut numbers = [0u8; 6];
            for (number, text) in numbers.iter_mut().zip(&mut words) {
                *number = text.parse().map_err(|error| format!("{line:?}: {error}"))?;
            }
            let [a, b, c, d, e, f] = numbers;
            if word == "loop" {
                let [small, extreme, operations, streams] = [b, c, e, f].map(|it| it != 0);
                program.setup = Setup { budget: a, small, extreme, chance: d, operations, streams };
                continue;
            }
            let known = OPERATIONS.iter().find(|it| it.1 == word);
            let op = known.ok_or_else(|| format!("{line:?}: no such operation"))?.0;
            program.steps.push(Step { op, a, b, c });
        }
        Ok(program)
    }
}
