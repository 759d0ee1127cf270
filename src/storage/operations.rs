//! The table of operations: what each one asks for, and the memory that it was lent.
//!
//! An entry is written when its place is first taken, so that memory may hold anything before that.
#![allow(unsafe_code)]

use super::fd_index::FdOf;
use super::region::Region;
use crate::request::{Lease, Request};
use core::mem::MaybeUninit;
use core::ops::{Index, IndexMut};

/// One operation, in 40 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Operation {
    pub(crate) request: Request,
    /// The memory that it uses, where the Rust front end has lent it.
    pub(crate) lease: Option<&'static Lease>,
}

/// An entry that may not have been written yet.
pub(crate) type Entry = MaybeUninit<Operation>;

pub(crate) struct Operations {
    entries: Region<Entry>,
    /// Entries below this one were written.
    mark: u32,
}

impl Operations {
    pub(crate) fn new(entries: Region<Entry>) -> Operations {
        Operations { entries, mark: 0 }
    }

    /// How many there can be.
    pub(crate) fn max(&self) -> u32 {
        self.entries.len() as u32
    }

    /// The first that was never used.
    pub(crate) fn mark(&self) -> u32 {
        self.mark
    }

    /// Writes an entry: one that was used before, or the first that was not.
    pub(crate) fn set(&mut self, number: u32, operation: Operation) {
        assert!(number <= self.mark);
        self.entries[number].write(operation);
        self.mark = self.mark.max(number + 1);
    }
}

impl Index<u32> for Operations {
    type Output = Operation;

    #[cfg_attr(not(becket_small), inline(always))]
    fn index(&self, number: u32) -> &Operation {
        assert!(number < self.mark);
        // SAFETY: those below the mark were written.
        unsafe { self.entries[number].assume_init_ref() }
    }
}

impl IndexMut<u32> for Operations {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut Operation {
        assert!(number < self.mark);
        // SAFETY: likewise.
        unsafe { self.entries[number].assume_init_mut() }
    }
}

impl FdOf for Operations {
    fn fd_of(&self, number: u32) -> i32 {
        self[number].request.fd
    }
}
