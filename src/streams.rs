//! Memory for streams: what each needs beside its source, and the buffers that all receive into.
#![allow(unsafe_code)]

#[cfg(feature = "capi")]
use crate::error::{Error, Result};
#[cfg(feature = "capi")]
use crate::storage::streams::ALIGNMENT;
use crate::storage::streams::{BUFFER_BYTES, STREAM_BYTES, Table};
use core::mem::MaybeUninit;
use core::ptr::NonNull;

pub(crate) use crate::storage::streams::bytes;

/// Memory for streams, as a caller gave it: aligned, and large enough.
#[derive(Clone, Copy)]
pub(crate) struct StreamsMemory {
    start: NonNull<u8>,
    streams: u32,
    buffers: u32,
    buffer_bytes: u32,
}

impl StreamsMemory {
    /// EINVAL: misaligned, or numbers that cannot be; ENOBUFS: too small.
    ///
    /// # Safety
    /// The block is readable and writable, and nobody else's for as long as a loop uses it.
    #[cfg(feature = "capi")]
    pub(crate) unsafe fn new(
        start: NonNull<u8>,
        bytes: usize,
        streams: u32,
        buffers: u32,
        buffer_bytes: u32,
    ) -> Result<StreamsMemory> {
        let needed = self::bytes(streams, buffers, buffer_bytes).ok_or(Error::INVALID)?;
        if !(start.as_ptr() as usize).is_multiple_of(ALIGNMENT) {
            return Err(Error::INVALID);
        }
        if bytes < needed {
            return Err(Error::NO_BUFFERS);
        }
        Ok(StreamsMemory { start, streams, buffers, buffer_bytes })
    }

    /// The table in it, of no streams. Touches the index of fds alone.
    pub(crate) fn table(self) -> Table {
        let StreamsMemory { start, streams, buffers, buffer_bytes } = self;
        // SAFETY: by what `new` has checked and its caller has promised, or what `Streams::memory` borrows for ever.
        unsafe { Table::new(start, streams, buffers, buffer_bytes) }
    }
}

/// Memory for `STREAMS` streams, of 48 bytes each beside their sources, and for `BUFFERS` buffers of `BYTES` (256 or more, a multiple of
/// 16) and 120 bytes that all of them receive into. What has arrived lies there for as long as the program keeps it, so it is
/// borrowed for ever: see [`Loop::with_streams`](crate::Loop::with_streams).
///
/// ```
/// assert_eq!(size_of::<becket::Streams<100, 4, 4096>>(), 48 * 100 + 4 * (4096 + 120));
/// ```
#[repr(C, align(16))]
pub struct Streams<const STREAMS: usize, const BUFFERS: usize, const BYTES: usize> {
    streams: MaybeUninit<[[u8; STREAM_BYTES]; STREAMS]>,
    owners: MaybeUninit<[[u8; BUFFER_BYTES]; BUFFERS]>,
    buffers: MaybeUninit<[[u8; BYTES]; BUFFERS]>,
}

impl<const STREAMS: usize, const BUFFERS: usize, const BYTES: usize> Streams<STREAMS, BUFFERS, BYTES> {
    /// Zeroed memory.
    #[must_use]
    pub const fn new() -> Self {
        const {
            assert!(STREAMS < u32::MAX as usize && BUFFERS < u32::MAX as usize && BYTES < u32::MAX as usize);
            assert!(
                matches!(bytes(STREAMS as u32, BUFFERS as u32, BYTES as u32), Some(bytes) if bytes <= size_of::<Self>())
            );
        }
        Streams { streams: MaybeUninit::zeroed(), owners: MaybeUninit::zeroed(), buffers: MaybeUninit::zeroed() }
    }

    pub(crate) fn memory(&'static mut self) -> StreamsMemory {
        StreamsMemory {
            start: NonNull::from(self).cast(),
            streams: STREAMS as u32,
            buffers: BUFFERS as u32,
            buffer_bytes: BYTES as u32,
        }
    }
}

impl<const STREAMS: usize, const BUFFERS: usize, const BYTES: usize> Default for Streams<STREAMS, BUFFERS, BYTES> {
    fn default() -> Self {
        Streams::new()
    }
}
