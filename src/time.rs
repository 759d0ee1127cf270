//! Points in time and spans of it, in nanoseconds.
//!
//! Both are 64 bits wide, which is 584 years; sums saturate, so that no deadline ever wraps around into the past.
//! Nothing here reads a clock: only `sys` does.

use core::ops::Add;

/// A point of monotonic time: nanoseconds since an origin that the system chose (its boot, on Linux).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

/// A span of time in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Duration(u64);

impl Instant {
    /// The point that does not come.
    pub const NEVER: Instant = Instant(u64::MAX);

    /// From nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// In nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The span from `earlier` to here; zero when that lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration(0);
    /// The span that does not end.
    pub const FOREVER: Duration = Duration(u64::MAX);

    /// From nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Duration {
        Duration(nanos)
    }

    /// From microseconds.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Duration {
        Duration(micros.saturating_mul(1_000))
    }

    /// From milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Duration {
        Duration(millis.saturating_mul(1_000_000))
    }

    /// From seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Duration {
        Duration(secs.saturating_mul(1_000_000_000))
    }

    /// In nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

impl From<core::time::Duration> for Duration {
    fn from(span: core::time::Duration) -> Duration {
        Duration(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// An endless span leads to [`Instant::NEVER`]; any other sum stays before it, however large.
    fn add(self, span: Duration) -> Instant {
        if span == Duration::FOREVER {
            return Instant::NEVER;
        }
        Instant(self.0.saturating_add(span.0).min(u64::MAX - 1))
    }
}

/// A span in 32 bits: 27 bits of mantissa and 5 of exponent, rounded up.
///
/// Exact below 134 ms (2^27 ns), then to one part in 67 million (2^-26); from nine years on (2^58 ns) it is endless. It
/// keeps the idle timeout of a source in half the memory; rounded up, it is never early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PackedDuration(u32);

impl PackedDuration {
    const MANTISSA_BITS: u32 = 27;

    pub(crate) fn new(span: Duration) -> PackedDuration {
        let mut nanos = span.0;
        let mut shift = 0;
        while nanos >> Self::MANTISSA_BITS != 0 {
            // One bit at a time, each rounded up: the carry may need one bit more, and the loop sees that.
            nanos = (nanos >> 1) + (nanos & 1);
            shift += 1;
        }
        if shift >= 32 {
            return PackedDuration(u32::MAX);
        }
        PackedDuration(shift << Self::MANTISSA_BITS | nanos as u32)
    }

    pub(crate) const fn get(self) -> Duration {
        if self.0 == u32::MAX {
            return Duration::FOREVER;
        }
        let mantissa = (self.0 & ((1 << Self::MANTISSA_BITS) - 1)) as u64;
        Duration(mantissa << (self.0 >> Self::MANTISSA_BITS))
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u32) -> PackedDuration {
        PackedDuration(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_is_never_shorter_and_hardly_longer() {
        let mut nanos: u64 = 1;
        while nanos < 1 << 57 {
            for near in [nanos - 1, nanos, nanos + 1, nanos + nanos / 3] {
                let back = PackedDuration::new(Duration(near)).get().0;
                assert!(back >= near, "{near} became {back}");
                assert!(back - near <= near >> 26, "{near} became {back}");
            }
            nanos *= 2;
        }
    }

    #[test]
    fn packed_is_exact_below_134_ms() {
        for nanos in [0, 1, 1_000, 1_000_000, (1 << 27) - 1] {
            assert_eq!(PackedDuration::new(Duration(nanos)).get().0, nanos);
        }
    }

    #[test]
    fn packed_saturates() {
        for nanos in [1 << 60, u64::MAX] {
            assert_eq!(PackedDuration::new(Duration(nanos)).get(), Duration::FOREVER);
        }
    }

    #[test]
    fn sums_saturate_before_never() {
        let late = Instant(u64::MAX - 5);
        assert_eq!(late + Duration(100), Instant(u64::MAX - 1));
        assert_eq!(late + Duration::FOREVER, Instant::NEVER);
        assert_eq!(Instant(3) + Duration(4), Instant(7));
    }
}
