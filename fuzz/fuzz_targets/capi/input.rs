//! The bytes of one input, as the choices of a program. When they have run out every choice is the first one.

use std::cell::Cell;

pub struct Input<'a> {
    bytes: &'a [u8],
    at: Cell<usize>,
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { bytes, at: Cell::new(0) }
    }

    pub fn is_over(&self) -> bool {
        self.at.get() >= self.bytes.len()
    }

    pub fn byte(&self) -> u8 {
        let byte = self.bytes.get(self.at.get()).copied().unwrap_or(0);
        self.at.set(self.at.get() + 1);
        byte
    }

    /// One of so many.
    pub fn below(&self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    pub fn pick<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Once in `times`.
    pub fn rarely(&self, times: u8) -> bool {
        self.byte() % times == times - 1
    }

    pub fn u32(&self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    pub fn u64(&self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }

    /// A number as likely to be at one of its limits as anywhere.
    pub fn number(&self) -> u64 {
        match self.byte() % 16 {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => u64::MAX - u64::from(self.byte()),
            4 => (1 << 63) - 1,
            5 => 1 << 63,
            6 => u64::from(u32::MAX),
            7 => 1 << (self.byte() % 64),
            8 => self.u64(),
            9 => u64::from(self.u32()),
            10 => 1_000_000_000 * u64::from(self.byte()),
            11 => 1_000_000 * u64::from(self.byte()),
            _ => u64::from(self.byte()),
        }
    }

    /// Flags: some of those that are known, or anything.
    pub fn flags(&self, known: &[u32]) -> u32 {
        let chosen = self.byte();
        if chosen >= 0xf0 {
            return self.u32();
        }
        known.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 != 0).fold(0, |all, (_, flag)| all | flag)
    }
}
