//! A run of values in the caller's memory: a slice whose length is known at run time only.
#![allow(unsafe_code)]

use core::ops::{Deref, DerefMut};
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

impl<T> Deref for Region<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: by the contract of `new`.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl<T> DerefMut for Region<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: by the contract of `new`; `&mut self` is the only way to a mutable slice.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}
