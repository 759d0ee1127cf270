//! The one source of chance: a run is a function of its seed.

/// SplitMix64: any seed will do. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// From 0 to below `bound`, which is not zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// From 1 to `most`; 1 for nothing.
    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        1 + self.below(most.max(1))
    }

    /// True so many times in a million. What never happens takes no number.
    pub(super) fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(1_000_000) < u64::from(per_million)
    }
}
