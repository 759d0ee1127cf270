//! Memory for POSIX AIO: how large it has to be. An upper bound: a control block is of the system's own size.
//!
//! ```text
//! | control blocks, struct aiocb: the system's | entries: what each is for |    as many of either
//! ```
//!
//! The first part is the system's from a submission to its completion, so nobody borrows it: it is only ever pointed to.
#![allow(unsafe_code)]

#[cfg(feature = "capi")]
use crate::error::{Error, Result};
#[cfg(posix_aio)]
use crate::storage::region::Region;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

/// Bytes of one in all.
pub(crate) const ENTRY_BYTES: usize = 240;
/// Bytes of a control block, of them: an upper bound; glibc has so many where words have 64 bits.
#[cfg(posix_aio)]
pub(crate) const CONTROL_BYTES: usize = 168;
/// What the memory has to be aligned to.
#[cfg(any(feature = "capi", posix_aio))]
pub(crate) const ALIGNMENT: usize = 8;
/// The most that there can be.
pub(crate) const COUNT_MAX: u32 = 65_536;

/// Bytes for so many; `None`: there can be no such memory. O(1).
pub(crate) const fn bytes(count: u32) -> Option<usize> {
    if count == 0 || count > COUNT_MAX { None } else { (count as usize).checked_mul(ENTRY_BYTES) }
}

/// Memory for control blocks, as a caller gave it: aligned, and large enough.
#[derive(Clone, Copy)]
#[cfg_attr(not(posix_aio), allow(dead_code))]
pub(crate) struct AioMemory {
    start: NonNull<u8>,
    count: u32,
}

impl AioMemory {
    /// EINVAL: misaligned, or a number that cannot be; ENOBUFS: too small.
    ///
    /// # Safety
    /// The block is readable and writable, and nobody else's for as long as a loop uses it.
    #[cfg(feature = "capi")]
    pub(crate) unsafe fn new(start: NonNull<u8>, bytes: usize, count: u32) -> Result<AioMemory> {
        let needed = self::bytes(count).ok_or(Error::INVALID)?;
        if !(start.as_ptr() as usize).is_multiple_of(ALIGNMENT) {
            return Err(Error::INVALID);
        }
        if bytes < needed {
            return Err(Error::NO_BUFFERS);
        }
        Ok(AioMemory { start, count })
    }
}

#[cfg(posix_aio)]
impl AioMemory {
    /// How many.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Where the control blocks are.
    pub(crate) fn controls(&self) -> NonNull<u8> {
        self.start
    }

    /// The entries behind them, as the engine that is made in this memory begins with them. O(entries).
    pub(crate) fn entries<E: Copy>(&self, first: E) -> Region<E> {
        const { assert!(size_of::<E>() + CONTROL_BYTES <= ENTRY_BYTES && align_of::<E>() <= ALIGNMENT) };
        // SAFETY: within the block, by what `new` has checked and the caller has promised, behind the control blocks; and
        // aligned, since all sizes are multiples of eight. Each is written before anybody reads it.
        unsafe {
            let start: NonNull<E> = self.start.add(CONTROL_BYTES * self.count as usize).cast();
            for number in 0..self.count as usize {
                start.add(number).write(first);
            }
            Region::new(start, self.count as usize)
        }
    }
}

/// Memory for POSIX AIO: `COUNT` requests that the system has at once, of 240 bytes each. Further operations on files wait
/// for the completion of those. The C library writes to it from threads of its own, so it is borrowed for ever: see
/// [`Loop::with_aio`](crate::Loop::with_aio).
///
/// ```
/// assert_eq!(size_of::<becket::Aio<64>>(), 240 * 64);
/// ```
#[repr(C, align(8))] // u64 alone has four where words have 32 bits, as on i686
pub struct Aio<const COUNT: usize>(MaybeUninit<[[u64; ENTRY_BYTES / 8]; COUNT]>);

impl<const COUNT: usize> Aio<COUNT> {
    /// Zeroed memory.
    #[must_use]
    pub const fn new() -> Aio<COUNT> {
        const {
            assert!(COUNT <= COUNT_MAX as usize);
            assert!(matches!(bytes(COUNT as u32), Some(bytes) if bytes == size_of::<Aio<COUNT>>()));
        }
        Aio(MaybeUninit::zeroed())
    }

    pub(crate) fn memory(&'static mut self) -> AioMemory {
        AioMemory { start: NonNull::from(self).cast(), count: COUNT as u32 }
    }
}

impl<const COUNT: usize> Default for Aio<COUNT> {
    fn default() -> Self {
        Aio::new()
    }
}
