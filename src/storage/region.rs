//! A run of values in the caller's memory: a slice whose length is known at run time only.
//!
//! Indexed by `u32`, as all of becket is. An index outside is a broken invariant and ends the program, as it does for a
//! slice; but each check costs one call without arguments, where a slice's would tell index, length and place.
#![allow(unsafe_code)]

use core::ops::{Deref, DerefMut, Index, IndexMut};
use core::ptr::NonNull;

/// `count` values of `T` at `start`, for as long as the loop lives.
///
/// All accesses are bounds-checked slice accesses; the one promise is made where a region is made.
pub(crate) struct Region<T> {
    start: NonNull<T>,
    count: usize,
}

impl<T> Region<T> {
    /// # Safety
    /// `start` is aligned and valid for `count` values, which nobody else touches while the region is in use (but
    /// for values that are atomics or that the kernel reads); any bit pattern that is there is a valid `T`.
    pub(crate) unsafe fn new(start: NonNull<T>, count: usize) -> Region<T> {
        Region { start, count }
    }
}

impl<T> Region<T> {
    /// The first `count` values, or all there are.
    pub(crate) fn first(&self, count: u32) -> &[T] {
        &(**self)[..self.count.min(count as usize)]
    }

    /// The same, to change them.
    #[cfg(any(epoll, io_uring, feature = "streams"))]
    pub(crate) fn first_mut(&mut self, count: u32) -> &mut [T] {
        let count = self.count.min(count as usize);
        &mut (**self)[..count]
    }

    /// Where the values are, for a system call: valid for as long as the region is, whatever borrows come and go.
    #[cfg(feature = "poll")]
    pub(crate) fn as_ptr(&self) -> *mut T {
        self.start.as_ptr()
    }
}

impl<T> Deref for Region<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: by the contract of `new`.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl<T> Index<u32> for Region<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        match self.get(index as usize) {
            Some(value) => value,
            None => outside(),
        }
    }
}

impl<T> IndexMut<u32> for Region<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        match self.get_mut(index as usize) {
            Some(value) => value,
            None => outside(),
        }
    }
}

#[cold]
#[inline(never)]
fn outside() -> ! {
    panic!("an index outside of its region")
}

impl<T> DerefMut for Region<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: by the contract of `new`; `&mut self` is the only way to a mutable slice.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}
