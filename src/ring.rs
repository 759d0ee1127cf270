//! Memory for the rings of io_uring: how large it has to be. The layout is the kernel's; what is here is an upper bound.
//!
//! ```text
//! | submissions: 64 E, up to a page | a head of 256, completions: 16 · 4 E, indices: 4 E, up to a page | buffers: 16 E, up to a page |
//!                                                                                                   E entries
//! ```

#[cfg(feature = "capi")]
use crate::error::{Error, Result};
use core::mem::MaybeUninit;
use core::ptr::NonNull;

/// Pages that the block is made of. Where the system's are larger the kernel cannot use it.
pub(crate) const PAGE: usize = 4096;
/// Bytes of one submission.
pub(crate) const SUBMISSION_BYTES: usize = 64;
/// Bytes of the kernel's head of both rings: an upper bound.
pub(crate) const HEAD_BYTES: usize = 256;
/// Bytes of one completion.
pub(crate) const COMPLETION_BYTES: usize = 16;
/// Completions for each submission.
pub(crate) const COMPLETIONS_EACH: usize = 4;

/// Bytes of one buffer's entry: where streams are received into.
pub(crate) const BUFFER_BYTES: usize = 16;

/// Bytes of the first part, which holds the submissions.
pub(crate) const fn submission_bytes(entries: u32) -> usize {
    (entries as usize * SUBMISSION_BYTES).next_multiple_of(PAGE)
}

/// Bytes for so many entries; `None`: there can be no such rings. O(1).
pub(crate) const fn bytes(entries: u32) -> Option<usize> {
    if entries < 8 || entries > 16_384 || !entries.is_power_of_two() {
        return None;
    }
    Some(submission_bytes(entries) + rings_bytes(entries) + buffers_bytes(entries))
}

/// Bytes of the second part, which holds everything else of the rings.
pub(crate) const fn rings_bytes(entries: u32) -> usize {
    let completions = COMPLETION_BYTES * COMPLETIONS_EACH * entries as usize;
    (HEAD_BYTES + completions + 4 * entries as usize).next_multiple_of(PAGE)
}

/// Bytes of the third part, which holds the ring of buffers.
pub(crate) const fn buffers_bytes(entries: u32) -> usize {
    (BUFFER_BYTES * entries as usize).next_multiple_of(PAGE)
}

/// Memory for rings, as a caller gave it: aligned, and large enough.
#[derive(Clone, Copy)]
#[cfg_attr(not(io_uring), allow(dead_code))]
pub(crate) struct RingMemory {
    pub(crate) start: NonNull<u8>,
    pub(crate) entries: u32,
}

#[cfg(feature = "capi")]
impl RingMemory {
    /// EINVAL: misaligned, or a number of entries that cannot be; ENOBUFS: too small.
    pub(crate) fn new(start: NonNull<u8>, bytes: usize, entries: u32) -> Result<RingMemory> {
        let needed = self::bytes(entries).ok_or(Error::INVALID)?;
        if !(start.as_ptr() as usize).is_multiple_of(PAGE) {
            return Err(Error::INVALID);
        }
        if bytes < needed {
            return Err(Error::NO_BUFFERS);
        }
        Ok(RingMemory { start, entries })
    }
}

#[repr(C, align(4096))]
struct Submissions<const ENTRIES: usize>([[u64; SUBMISSION_BYTES / 8]; ENTRIES]);

#[repr(C, align(4096))]
struct Rings<const ENTRIES: usize> {
    head: [u64; HEAD_BYTES / 8],
    completions: [[u64; COMPLETION_BYTES * COMPLETIONS_EACH / 8]; ENTRIES],
    indices: [u32; ENTRIES],
}

#[repr(C, align(4096))]
struct Buffers<const ENTRIES: usize>([[u64; BUFFER_BYTES / 8]; ENTRIES]);

/// Memory for the rings of io_uring: `ENTRIES` changes in one system call, a power of two from 8 to 16384, and four times as
/// many completions. More of either cost further system calls, and nothing is lost. The kernel shares it with the loop, so
/// it is borrowed for ever: see [`Loop::with_ring`](crate::Loop::with_ring).
///
/// ```
/// assert_eq!(size_of::<becket::Ring<64>>(), 4096 + 8192 + 4096);
/// ```
#[repr(C)]
pub struct Ring<const ENTRIES: usize> {
    submissions: MaybeUninit<Submissions<ENTRIES>>,
    rings: MaybeUninit<Rings<ENTRIES>>,
    buffers: MaybeUninit<Buffers<ENTRIES>>,
}

impl<const ENTRIES: usize> Ring<ENTRIES> {
    /// Zeroed memory.
    #[must_use]
    pub const fn new() -> Ring<ENTRIES> {
        const {
            assert!(matches!(bytes(ENTRIES as u32), Some(bytes) if bytes == size_of::<Ring<ENTRIES>>()));
        }
        Ring { submissions: MaybeUninit::zeroed(), rings: MaybeUninit::zeroed(), buffers: MaybeUninit::zeroed() }
    }

    pub(crate) fn memory(&'static mut self) -> RingMemory {
        RingMemory { start: NonNull::from(self).cast(), entries: ENTRIES as u32 }
    }
}

impl<const ENTRIES: usize> Default for Ring<ENTRIES> {
    fn default() -> Self {
        Ring::new()
    }
}
