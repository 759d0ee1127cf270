//! Memory that operations use, for Rust: it lives for ever, and nobody else gets at it while an operation has it.
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use crate::ops::{Address, FileStatus, MessageHead, Vector};
use crate::request::Lease;
use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::ops::Range;

/// Memory for operations: bytes, or an [`Address`], a [`FileStatus`], [`Vectors`] or a [`Message`]. It is lent to an operation when that
/// is submitted, and comes back when its completion is taken out; a static, so that neither a loop nor an operation that
/// is dropped or leaked can leave the kernel with memory that is somebody else's by then.
///
/// ```
/// use becket::Buffer;
///
/// static BUFFER: Buffer<[u8; 4096]> = Buffer::new([0; 4096]);
///
/// BUFFER.with(|bytes| bytes[..5].copy_from_slice(b"hello"))?; // EBUSY: an operation has it
/// # Ok::<(), becket::Error>(())
/// ```
pub struct Buffer<T: ?Sized = [u8]> {
    lease: Lease,
    value: UnsafeCell<T>,
}

// SAFETY: the lease says who has the value, one at a time; and it may move from thread to thread.
unsafe impl<T: ?Sized + Send> Sync for Buffer<T> {}

/// Gives a lease back, also when the program's function panics.
struct Using<'a>(&'a Lease);

impl Drop for Using<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<T> Buffer<T> {
    /// Memory that holds this.
    #[must_use]
    pub const fn new(value: T) -> Buffer<T> {
        Buffer { lease: Lease::new(), value: UnsafeCell::new(value) }
    }
}

impl<T: ?Sized> Buffer<T> {
    /// Calls a function with what is in there. EBUSY: an operation has it, or this very function is being called. O(1).
    pub fn with<R>(&self, call: impl FnOnce(&mut T) -> R) -> Result<R> {
        self.lease.begin()?;
        let _using = Using(&self.lease);
        // SAFETY: the lease is this call's alone until `Using` ends.
        Ok(call(unsafe { &mut *self.value.get() }))
    }

    /// Whether an operation has it. O(1).
    #[must_use]
    pub fn is_lent(&self) -> bool {
        self.lease.is_lent()
    }

    /// Where it is.
    #[cfg(feature = "streams")]
    pub(super) fn at(&self) -> *const T {
        self.value.get()
    }

    /// Lends it, beside what else the operation has.
    pub(super) fn lend(&'static self, others: Option<&'static Lease>) -> Result<(*mut T, &'static Lease)> {
        let lease = self.lease.lend(others)?;
        Ok((self.value.get(), lease))
    }
}

impl Buffer {
    /// Lends some of its bytes. EINVAL: it has no such range.
    pub(super) fn lend_range(
        &'static self,
        range: &Range<usize>,
        others: Option<&'static Lease>,
    ) -> Result<(*mut u8, &'static Lease)> {
        let bytes = self.value.get();
        if range.start > range.end || range.end > bytes.len() {
            return Err(Error::INVALID);
        }
        let (_, lease) = self.lend(others)?;
        Ok((bytes.cast::<u8>().wrapping_add(range.start), lease))
    }

    /// Lends what holds a text that ends with a NUL. EINVAL: there is no NUL in it.
    fn lend_text(&'static self, others: Option<&'static Lease>) -> Result<(*const (), &'static Lease)> {
        let (at, lease) = self.lend(others)?;
        // (Looked at when nobody can change it any more.)
        // SAFETY: it is lent to us, and nobody else uses it.
        if !unsafe { &*at }.contains(&0) {
            self.lease.end();
            return Err(Error::INVALID);
        }
        Ok((at.cast_const().cast(), lease))
    }
}

/// The path of an operation: a constant one, or one in a [`Buffer`], up to its first NUL.
#[derive(Clone, Copy)]
pub enum Path {
    /// A constant.
    Constant(&'static CStr),
    /// It is lent to the operation.
    Buffer(&'static Buffer),
}

impl From<&'static CStr> for Path {
    fn from(text: &'static CStr) -> Path {
        Path::Constant(text)
    }
}

impl From<&'static Buffer> for Path {
    fn from(buffer: &'static Buffer) -> Path {
        Path::Buffer(buffer)
    }
}

impl<const N: usize> From<&'static Buffer<[u8; N]>> for Path {
    fn from(buffer: &'static Buffer<[u8; N]>) -> Path {
        Path::Buffer(buffer)
    }
}

impl Path {
    pub(super) fn lend(self, others: Option<&'static Lease>) -> Result<(*const (), Option<&'static Lease>)> {
        match self {
            Path::Constant(text) => Ok((text.as_ptr().cast(), others)),
            Path::Buffer(buffer) => buffer.lend_text(others).map(|(at, lease)| (at, Some(lease))),
        }
    }
}

/// Some bytes of a [`Buffer`], as one part of a read or write of several.
#[derive(Clone)]
pub struct Part {
    /// The buffer; each in one part alone.
    pub buffer: &'static Buffer,
    /// Which bytes.
    pub range: Range<usize>,
}

/// Room for the list of parts that the kernel reads: `Buffer<Vectors<N>>` for `N` parts.
#[derive(Clone, Copy)]
pub struct Vectors<const N: usize>([Vector; N]);

impl<const N: usize> Vectors<N> {
    /// Room for `N` parts, 1024 at most.
    #[must_use]
    pub const fn new() -> Vectors<N> {
        Vectors([Vector::NONE; N])
    }
}

impl<const N: usize> Default for Vectors<N> {
    fn default() -> Self {
        Vectors::new()
    }
}

impl<const N: usize> Buffer<Vectors<N>> {
    /// Lends all parts. EINVAL: more than there is room for, or a part that is none; EBUSY: one is in use.
    pub(super) fn lend_parts(&'static self, parts: &[Part]) -> Result<(*const (), &'static Lease)> {
        if parts.len() > N {
            return Err(Error::INVALID);
        }
        let (vectors, lease) = self.lend(None)?;
        // SAFETY: the vectors are lent to us, and there are as many.
        let lease = unsafe { lend_each(parts, vectors.cast(), lease) }?;
        Ok((vectors.cast_const().cast(), lease))
    }
}

/// Lends all parts beside what else the operation has, and lists them. When one cannot be lent, all come back.
///
/// # Safety
/// There are as many vectors, valid to write to.
unsafe fn lend_each(parts: &[Part], vectors: *mut Vector, mut lease: &'static Lease) -> Result<&'static Lease> {
    for (index, part) in parts.iter().enumerate() {
        match part.buffer.lend_range(&part.range, Some(lease)) {
            Ok((at, with_it)) => {
                lease = with_it;
                // SAFETY: by this function's contract.
                unsafe { vectors.add(index).write(Vector::new(at.cast(), part.range.len())) };
            }
            Err(error) => {
                lease.give_back();
                return Err(error);
            }
        }
    }
    Ok(lease)
}

/// What goes with the bytes of a message: an address, and up to `CONTROL` bytes of control data, cmsg(3); and room for the list
/// of its parts, `PARTS` at most. A receive replaces address and control data, a send uses what is there: so an answer goes to
/// who has asked.
///
/// ```
/// use becket::{Buffer, Message};
///
/// static MESSAGE: Buffer<Message<1>> = Buffer::new(Message::new());
///
/// let to: std::net::SocketAddr = "127.0.0.1:53".parse().unwrap();
/// MESSAGE.with(|message| message.set_address(&to.into()))?;
/// assert_eq!(MESSAGE.with(|message| message.address().socket_address())?, Some(to));
/// # Ok::<(), becket::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Message<const PARTS: usize, const CONTROL: usize = 0> {
    head: MessageHead,
    address: Address,
    vectors: [Vector; PARTS],
    control: Control<CONTROL>,
}

/// Aligned as what begins each control message.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control<const N: usize>([u8; N]);

impl<const PARTS: usize, const CONTROL: usize> Message<PARTS, CONTROL> {
    /// Without an address and control data. 1024 parts at most.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(PARTS <= 1024) };
        let (head, address) = (MessageHead::NONE, Address::new());
        Message { head, address, vectors: [Vector::NONE; PARTS], control: Control([0; CONTROL]) }
    }

    /// Whom it came from, or goes to; [`Address::new`]: nobody was told.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address.cut(self.head.lengths(CONTROL).0)
    }

    /// Whom it goes to; [`Address::new`]: the peer of its socket.
    pub fn set_address(&mut self, address: &Address) {
        self.head.set_lengths(address.length(), self.head.lengths(CONTROL).1);
        self.address = *address;
    }

    /// The control data that came with it, or goes with it.
    #[must_use]
    pub fn control(&self) -> &[u8] {
        &self.control.0[..self.head.lengths(CONTROL).1]
    }

    /// What goes with it, as cmsg(3) lays it out. ENOBUFS: more than there is room for.
    pub fn set_control(&mut self, bytes: &[u8]) -> Result<()> {
        self.control.0.get_mut(..bytes.len()).ok_or(Error::NO_BUFFERS)?.copy_from_slice(bytes);
        self.head.set_lengths(self.head.lengths(CONTROL).0, bytes.len());
        Ok(())
    }

    /// What recvmsg(2) has said of it: MSG_TRUNC, MSG_CTRUNC and so on.
    #[must_use]
    pub fn flags(&self) -> i32 {
        self.head.flags()
    }
}

impl<const PARTS: usize, const CONTROL: usize> Default for Message<PARTS, CONTROL> {
    fn default() -> Self {
        Message::new()
    }
}

impl<const PARTS: usize, const CONTROL: usize> Buffer<Message<PARTS, CONTROL>> {
    /// Lends the message and its parts. EINVAL: more than there is room for, or a part that is none; EBUSY: one is in use.
    pub(super) fn lend_message(&'static self, parts: &[Part], receives: bool) -> Result<(*const (), &'static Lease)> {
        if parts.len() > PARTS {
            return Err(Error::INVALID);
        }
        let (message, lease) = self.lend(None)?;
        // SAFETY: the message is lent to us; no reference to any of it outlives this call, and there are as many vectors.
        unsafe {
            let vectors = (&raw mut (*message).vectors).cast();
            let lease = lend_each(parts, vectors, lease)?;
            let head = &mut (*message).head;
            if receives {
                head.expect(CONTROL);
            } else {
                head.settle();
            }
            head.lay_out(vectors, parts.len(), &raw mut (*message).address, (&raw mut (*message).control).cast());
            Ok(((&raw const (*message).head).cast(), lease))
        }
    }
}

impl Buffer<Address> {
    pub(super) fn lend_address(&'static self) -> Result<(*const (), usize, &'static Lease)> {
        let length = self.with(|address| address.length())?;
        let (at, lease) = self.lend(None)?;
        Ok((at.cast_const().cast(), length, lease))
    }
}

impl Buffer<FileStatus> {
    pub(super) fn lend_status(&'static self, others: Option<&'static Lease>) -> Result<(*mut (), &'static Lease)> {
        let (at, lease) = self.lend(others)?;
        Ok((at.cast(), lease))
    }
}
