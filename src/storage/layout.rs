//! How a block of memory is cut up, and how large it has to be.
//!
//! ```text
//! | loop: LOOP_BYTES, its last 24 are the loop's own registrations and name | registrations 8 (S + O) |
//! | names 8 (S + O) | slots 40 (S + O) | deadlines 12 (S + O) | fd index 4 (S + O) | links 8 (S + O + P) | posts 16 P |
//! | operations 40 O | waiters 4 O |                              S sources, O operations, P posts
//! ```
//!
//! A source's index is that of its slot, link, name and registration (that plus one: the first is the loop's own). The slots
//! and links behind those are operations'; the names and registrations behind those are of fds that operations wait for,
//! which are fewer.
#![allow(unsafe_code)]

use super::fd_index::{self, FdIndex};
use super::names::Names;
#[cfg(feature = "operations")]
use super::operations;
use super::region::Region;
use super::slot::{Link, NIL, Post, Slot};
use super::{deadlines, lists};
use crate::error::{Error, Result};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes of a loop without sources and posts. An upper bound that holds on every system.
pub(crate) const LOOP_BYTES: usize = 4096;
/// Bytes of one source in all: registration, name, slot, place in the heap, fd index.
pub(crate) const SOURCE_BYTES: usize = 80;
/// Bytes of one post.
pub(crate) const POST_BYTES: usize = 24;
/// Bytes of one operation.
pub(crate) const OPERATION_BYTES: usize = 128;
/// What a block has to be aligned to.
pub(crate) const ALIGNMENT: usize = 8;
/// Bytes of one registration with the backend.
pub(crate) const REGISTRATION_BYTES: usize = 8;

/// Registrations of the loop itself: of its notifier, and of the ring of its operations.
const OWN_REGISTRATIONS: usize = if cfg!(feature = "operations") { 2 } else { 1 };
/// Names for them: the notifier has none.
const OWN_NAMES: usize = OWN_REGISTRATIONS - 1;
/// Where the first region begins: so that the loop's own entries lie in its own part.
pub(crate) const REGIONS_OFFSET: usize = LOOP_BYTES - REGISTRATION_BYTES * OWN_REGISTRATIONS - 8 * OWN_NAMES;

const _: () = {
    assert!(size_of::<Post>() + size_of::<Link>() <= POST_BYTES);
    assert!(size_of::<deadlines::Entry>() == 12);
    assert!(REGISTRATION_BYTES + 8 + size_of::<Slot>() + 12 + 4 + size_of::<Link>() <= SOURCE_BYTES);
    assert!(align_of::<Slot>() <= ALIGNMENT && align_of::<Post>() <= ALIGNMENT);
    assert!(size_of::<Slot>().is_multiple_of(ALIGNMENT));
    #[cfg(feature = "operations")]
    assert!(
        REGISTRATION_BYTES + 8 + size_of::<Slot>() + 12 + 4 + size_of::<Link>() + size_of::<operations::Entry>() + 4
            <= OPERATION_BYTES
    );
    #[cfg(feature = "operations")]
    assert!(align_of::<operations::Entry>() <= ALIGNMENT && size_of::<operations::Entry>().is_multiple_of(4));
    assert!(align_of::<Storage<1, 1>>() >= ALIGNMENT);
    // A list's number fits in four bits beside the kind.
    assert!(lists::LEVELS == 4);
};

/// Memory of a loop, described: where, how large, for how many.
pub(crate) struct Block {
    pub(crate) start: NonNull<u8>,
    pub(crate) bytes: usize,
    pub(crate) sources: usize,
    pub(crate) posts: usize,
    pub(crate) operations: usize,
}

/// A block that was found to be large enough and aligned.
pub(crate) struct Layout {
    start: NonNull<u8>,
    pub(crate) sources: usize,
    pub(crate) posts: usize,
    pub(crate) operations: usize,
}

/// Bytes that a loop needs; `None`: more than there can be. O(1).
pub(crate) fn bytes(sources: usize, posts: usize, operations: usize) -> Option<usize> {
    let slots = if cfg!(feature = "operations") { sources.checked_add(operations)? } else { sources };
    if slots > Names::SOURCES_MAX || posts > NIL as usize - slots {
        return None;
    }
    let sources = sources.checked_mul(SOURCE_BYTES)?;
    let posts = posts.checked_mul(POST_BYTES)?;
    let operations = operations.checked_mul(OPERATION_BYTES)?;
    LOOP_BYTES.checked_add(sources)?.checked_add(posts)?.checked_add(operations)
}

impl Layout {
    /// EINVAL: misaligned, or capacities that cannot be; ENOBUFS: too small; ENOTSUP: operations are not built in.
    pub(crate) fn new(block: &Block) -> Result<Layout> {
        let needed = bytes(block.sources, block.posts, block.operations).ok_or(Error::INVALID)?;
        if block.operations != 0 && !cfg!(feature = "operations") {
            return Err(Error::UNSUPPORTED);
        }
        if !(block.start.as_ptr() as usize).is_multiple_of(ALIGNMENT) {
            return Err(Error::INVALID);
        }
        if block.bytes < needed {
            return Err(Error::NO_BUFFERS);
        }
        Ok(Layout { start: block.start, sources: block.sources, posts: block.posts, operations: block.operations })
    }

    /// # Safety
    /// `count` values of `T` lie within the block from `offset` on, and no other region overlaps them.
    unsafe fn region<T>(&self, offset: usize, count: usize) -> Region<T> {
        // SAFETY: within the block, which the caller of `Core::init` gave for the loop's life, and aligned: the
        // block and all offsets are multiples of 8, or of what is less.
        unsafe { Region::new(self.start.add(offset).cast(), count) }
    }

    /// Slots: of sources, then of operations.
    const fn slots_count(&self) -> usize {
        if cfg!(feature = "operations") { self.sources + self.operations } else { self.sources }
    }

    const fn names_offset(&self) -> usize {
        REGIONS_OFFSET + REGISTRATION_BYTES * (self.slots_count() + OWN_REGISTRATIONS)
    }

    const fn slots_offset(&self) -> usize {
        self.names_offset() + size_of::<AtomicU64>() * (self.slots_count() + OWN_NAMES)
    }

    const fn deadlines_offset(&self) -> usize {
        self.slots_offset() + size_of::<Slot>() * self.slots_count()
    }

    const fn fd_index_offset(&self) -> usize {
        self.deadlines_offset() + size_of::<deadlines::Entry>() * self.slots_count()
    }

    const fn links_offset(&self) -> usize {
        self.fd_index_offset() + 4 * self.slots_count()
    }

    const fn posts_offset(&self) -> usize {
        self.links_offset() + size_of::<Link>() * (self.slots_count() + self.posts)
    }

    /// More than there are slots: the first and (with operations) the last are the loop's own.
    ///
    /// # Safety
    /// `T` is of `REGISTRATION_BYTES`, any bits are a valid one, and this is called once for a loop.
    pub(crate) unsafe fn registrations<T>(&self) -> Region<T> {
        const { assert!(size_of::<T>() == REGISTRATION_BYTES && align_of::<T>() <= ALIGNMENT) };
        // SAFETY: in the last bytes of the loop's own part, and those behind it up to the names.
        unsafe { self.region(REGIONS_OFFSET, self.slots_count() + OWN_REGISTRATIONS) }
    }

    /// # Safety
    /// Called once for a loop; likewise the ones below.
    pub(crate) unsafe fn names(&self) -> Names {
        // SAFETY: eight bytes each, before the slots.
        Names::new(unsafe { self.region(self.names_offset(), self.slots_count() + OWN_NAMES) }, self.sources as u32)
    }

    /// # Safety
    /// Called once for a loop.
    pub(crate) unsafe fn lists(&self) -> lists::Lists {
        // SAFETY: the slots, before the deadlines; the links, before the posts, which come before the operations. All are
        // plain integers and pointers that nobody follows: any bits will do.
        unsafe {
            lists::Lists::new(
                self.region(self.slots_offset(), self.slots_count()),
                self.region(self.posts_offset(), self.posts),
                self.region(self.links_offset(), self.slots_count() + self.posts),
            )
        }
    }

    /// # Safety
    /// Called once for a loop.
    pub(crate) unsafe fn deadlines(&self) -> deadlines::Deadlines {
        // SAFETY: twelve bytes each, before the fd index.
        deadlines::Deadlines::new(unsafe { self.region(self.deadlines_offset(), self.slots_count()) })
    }

    /// # Safety
    /// Called once for a loop.
    pub(crate) unsafe fn fd_index(&self) -> FdIndex {
        let count = FdIndex::entries(self.slots_count());
        debug_assert!(count * size_of::<fd_index::Entry>() <= 4 * self.slots_count());
        // SAFETY: at most four bytes each, before the links.
        FdIndex::new(unsafe { self.region(self.fd_index_offset(), count) })
    }

    /// The operations, and the index of the fds that they wait for.
    ///
    /// # Safety
    /// Called once for a loop.
    #[cfg(feature = "operations")]
    pub(crate) unsafe fn operations(&self) -> (operations::Operations, FdIndex) {
        let offset = self.posts_offset() + size_of::<Post>() * self.posts;
        let behind = offset + size_of::<operations::Entry>() * self.operations;
        // SAFETY: the end of the block: forty bytes an operation, and at most four.
        unsafe {
            let operations = operations::Operations::new(self.region(offset, self.operations));
            (operations, FdIndex::new(self.region(behind, FdIndex::entries(self.operations))))
        }
    }
}

/// Memory for one loop: `S` sources, `P` posts, `O` operations, sized at compile time.
///
/// It is 4096 + 80 `S` + 24 `P` + 128 `O` bytes. A `static` one lies in `.bss` and costs only the pages that are used.
///
/// ```
/// use becket::{Config, Loop, Storage};
///
/// let mut storage = Storage::<16, 4>::new();
/// let event_loop = Loop::<()>::new(&mut storage, &Config::default())?;
/// assert_eq!(event_loop.statistics().sources_max, 16);
/// assert_eq!(size_of::<Storage<16, 4>>(), 4096 + 80 * 16 + 24 * 4);
/// # Ok::<(), becket::Error>(())
/// ```
#[repr(C, align(8))] // u64 alone has four where words have 32 bits, as on i686
pub struct Storage<const S: usize, const P: usize, const O: usize = 0> {
    head: MaybeUninit<[u64; LOOP_BYTES / 8]>,
    sources: MaybeUninit<[[u64; SOURCE_BYTES / 8]; S]>,
    posts: MaybeUninit<[[u64; POST_BYTES / 8]; P]>,
    operations: MaybeUninit<[[u64; OPERATION_BYTES / 8]; O]>,
}

impl<const S: usize, const P: usize, const O: usize> Storage<S, P, O> {
    /// Zeroed memory.
    #[must_use]
    pub const fn new() -> Storage<S, P, O> {
        Storage {
            head: MaybeUninit::zeroed(),
            sources: MaybeUninit::zeroed(),
            posts: MaybeUninit::zeroed(),
            operations: MaybeUninit::zeroed(),
        }
    }

    pub(crate) fn block(&mut self) -> Block {
        Block {
            start: NonNull::from(self).cast(),
            bytes: size_of::<Storage<S, P, O>>(),
            sources: S,
            posts: P,
            operations: O,
        }
    }
}

impl<const S: usize, const P: usize, const O: usize> Default for Storage<S, P, O> {
    fn default() -> Self {
        Storage::new()
    }
}

/// A [`Storage`] in a `static`, handed out once: for loops with signals, children or wakers, without an allocator.
///
/// ```
/// use becket::{Config, Loop, StaticStorage};
///
/// static STORAGE: StaticStorage<16, 4> = StaticStorage::new();
///
/// let storage = STORAGE.take().expect("nobody else takes it");
/// let event_loop = Loop::<()>::new(storage, &Config::default())?;
/// assert!(STORAGE.take().is_none());
/// # Ok::<(), becket::Error>(())
/// ```
pub struct StaticStorage<const S: usize, const P: usize, const O: usize = 0> {
    taken: AtomicBool,
    storage: UnsafeCell<Storage<S, P, O>>,
}

// SAFETY: `take` gives the storage to one caller alone.
unsafe impl<const S: usize, const P: usize, const O: usize> Sync for StaticStorage<S, P, O> {}

impl<const S: usize, const P: usize, const O: usize> StaticStorage<S, P, O> {
    /// Zeroed memory, not taken.
    #[must_use]
    pub const fn new() -> StaticStorage<S, P, O> {
        StaticStorage { taken: AtomicBool::new(false), storage: UnsafeCell::new(Storage::new()) }
    }

    /// The storage, to whoever asks first; then `None`, for ever. Any thread. O(1).
    #[allow(clippy::mut_from_ref)] // one caller alone gets it
    pub fn take(&'static self) -> Option<&'static mut Storage<S, P, O>> {
        // SAFETY: only the one who changes the flag comes here.
        (!self.taken.swap(true, Ordering::AcqRel)).then(|| unsafe { &mut *self.storage.get() })
    }
}

impl<const S: usize, const P: usize, const O: usize> Default for StaticStorage<S, P, O> {
    fn default() -> Self {
        StaticStorage::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Where the regions of a loop lie: each begins where the one before it ends, the last ends within the block.
    #[test]
    fn regions_lie_side_by_side() {
        for (sources, posts, operations) in
            [(0, 0, 0), (1, 0, 0), (0, 1, 0), (3, 5, 0), (7, 2, 3), (0, 0, 9), (100, 9, 31)]
        {
            if operations > 0 && !cfg!(feature = "operations") {
                continue;
            }
            let needed = bytes(sources, posts, operations).expect("few of each");
            let mut memory = vec![0_u64; needed.div_ceil(8)];
            let start = NonNull::from(memory.as_mut_slice()).cast();
            let block = |bytes| Block { start, bytes, sources, posts, operations };
            let layout = Layout::new(&block(needed)).expect("it is large enough");
            assert!(matches!(Layout::new(&block(needed - 1)), Err(Error::NO_BUFFERS)));
            // SAFETY: within the memory, or one behind it.
            let misaligned = Block { start: unsafe { start.add(1) }, ..block(needed) };
            assert!(matches!(Layout::new(&misaligned), Err(Error::INVALID)));

            let slots = layout.slots_count();
            assert_eq!(slots, sources + operations);
            let mut parts: Vec<(usize, usize)> = vec![
                (REGIONS_OFFSET, REGISTRATION_BYTES * (slots + OWN_REGISTRATIONS)),
                (layout.names_offset(), 8 * (slots + OWN_NAMES)),
                (layout.slots_offset(), size_of::<Slot>() * slots),
                (layout.deadlines_offset(), 12 * slots),
                (layout.fd_index_offset(), 4 * slots),
                (layout.links_offset(), size_of::<Link>() * (slots + posts)),
                (layout.posts_offset(), size_of::<Post>() * posts),
            ];
            #[cfg(feature = "operations")]
            {
                // SAFETY: once for this memory; nobody uses it.
                let (table, _) = unsafe { layout.operations() };
                assert_eq!(table.max() as usize, operations);
                let offset = parts[6].0 + parts[6].1;
                parts.push((offset, (size_of::<operations::Entry>() + 4) * operations));
            }
            for pair in parts.windows(2) {
                assert_eq!(pair[0].0 + pair[0].1, pair[1].0, "{parts:?}");
            }
            let end = parts.last().map(|it| it.0 + it.1);
            assert!(end <= Some(needed), "{parts:?} in {needed} bytes");
        }
    }

    #[test]
    fn static_storage_is_taken_once() {
        static STORAGE: StaticStorage<1, 1> = StaticStorage::new();
        assert!(STORAGE.take().is_some());
        assert!(STORAGE.take().is_none());
    }
}
