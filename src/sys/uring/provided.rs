//! What streams ask of the rings: to receive into a buffer that the kernel takes when something has arrived, and to send.

use super::{Memory, NOBODY, SKIP_SUCCESS, Submissions, unmap, word};
use crate::ring;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicU16, Ordering};
use linux_raw_sys::io_uring::{
    IORING_CQE_BUFFER_SHIFT, IORING_CQE_F_BUFFER, io_uring_buf, io_uring_buf_reg, io_uring_op, io_uring_register_op,
    io_uring_sqe_flags_bit,
};

const _: () = assert!(size_of::<io_uring_buf>() == ring::BUFFER_BYTES);

/// The only group of buffers.
const GROUP: u16 = 0;
/// Where the tail is: in what the first entry does not use.
const TAIL_OFFSET: usize = 14;

/// The ring of the buffers that the kernel may take.
pub(crate) struct Provided {
    at: NonNull<io_uring_buf>,
    /// Room for so many, a power of two.
    room: u32,
    tail: u16,
    /// Bytes, where it is a mapping of our own.
    mapped: usize,
}

/// The buffer in the flags of a completion.
pub(super) fn number_of(flags: u32) -> Option<u16> {
    (flags & IORING_CQE_F_BUFFER != 0).then_some((flags >> IORING_CQE_BUFFER_SHIFT) as u16)
}

impl Provided {
    /// Room for so many buffers.
    pub(crate) fn room(&self) -> u32 {
        self.room
    }

    /// The kernel may take this buffer; there is room for it.
    pub(crate) fn give(&mut self, number: u16, start: NonNull<u8>, bytes: u32) {
        let at = u32::from(self.tail) & (self.room - 1);
        // SAFETY: the mask keeps it inside. The kernel reads entries below the tail alone, and this one it has read. The last
        // field of the first entry is the tail, which is written as an atomic.
        unsafe {
            let entry = self.at.add(at as usize).as_ptr();
            (&raw mut (*entry).addr).write(start.as_ptr().expose_provenance() as u64);
            (&raw mut (*entry).len).write(bytes);
            (&raw mut (*entry).bid).write(number);
            self.tail = self.tail.wrapping_add(1);
            self.at.cast::<u8>().add(TAIL_OFFSET).cast::<AtomicU16>().as_ref().store(self.tail, Ordering::Release);
        }
    }

    /// The rings are closed: the kernel takes no buffer any more.
    pub(crate) fn end(&self) {
        if self.mapped > 0 {
            unmap((self.at.cast(), self.mapped));
        }
    }
}

impl Submissions {
    /// A ring of buffers, in the caller's memory where there is some. `None`: the kernel has no such thing, or no memory for it.
    pub(crate) fn provide(&self) -> Option<Provided> {
        let bytes = ring::buffers_bytes(self.count);
        let (at, mapped) = match self.memory {
            Memory::Lent(memory) => {
                let before = ring::submission_bytes(memory.entries) + ring::rings_bytes(memory.entries);
                // SAFETY: within the caller's block, which nobody else uses; the kernel takes the tail as it is there.
                let at = unsafe { memory.start.add(before) };
                // SAFETY: likewise.
                unsafe { at.write_bytes(0, bytes) };
                (at, 0)
            }
            Memory::Mapped(_) => {
                let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
                // SAFETY: a new mapping, where the kernel likes.
                let at = unsafe { libc::mmap(null_mut(), bytes, access, kind, -1, 0) };
                if at == libc::MAP_FAILED {
                    return None;
                }
                (NonNull::new(at.cast())?, bytes)
            }
        };
        let provided = Provided { at: at.cast(), room: self.count, tail: 0, mapped };
        let entry = io_uring_buf_reg {
            ring_addr: at.as_ptr().expose_provenance() as u64,
            ring_entries: self.count,
            bgid: GROUP,
            flags: 0,
            resv: [0; 3],
        };
        let operation = io_uring_register_op::IORING_REGISTER_PBUF_RING as u32;
        // SAFETY: the argument is readable; the memory that it names stays until the rings are closed.
        let answer = unsafe { libc::syscall(libc::SYS_io_uring_register, self.fd, operation, &raw const entry, 1) };
        if answer < 0 {
            provided.end();
            return None;
        }
        Some(provided)
    }

    /// The kernel takes no buffer from now on.
    pub(crate) fn withdraw_buffers(&self) {
        let entry = io_uring_buf_reg { ring_addr: 0, ring_entries: 0, bgid: GROUP, flags: 0, resv: [0; 3] };
        let operation = io_uring_register_op::IORING_UNREGISTER_PBUF_RING as u32;
        // SAFETY: the argument is readable.
        unsafe { libc::syscall(libc::SYS_io_uring_register, self.fd, operation, &raw const entry, 1) };
    }

    /// Receives once, into a buffer that the kernel takes. False: there is no room, and no submitting.
    pub(crate) fn receive(&mut self, fd: i32, data: u64) -> bool {
        self.push(|entry| {
            entry.opcode = io_uring_op::IORING_OP_RECV as u8;
            entry.flags = 1 << io_uring_sqe_flags_bit::IOSQE_BUFFER_SELECT_BIT as u8;
            entry.fd = fd;
            entry.__bindgen_anon_4.buf_group = GROUP;
            entry.user_data = data;
        })
    }

    /// Sends with the next submission: all, or what the socket takes now, and then, or when it fails, there is a completion. False:
    /// there is no room, and no submitting.
    pub(crate) fn send(&mut self, fd: i32, at: *const (), length: u32, data: u64) -> bool {
        self.push(|entry| {
            entry.opcode = io_uring_op::IORING_OP_SEND as u8;
            entry.flags = SKIP_SUCCESS;
            entry.fd = fd;
            entry.__bindgen_anon_2.addr = at.expose_provenance() as u64;
            entry.len = length;
            let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
            entry.__bindgen_anon_3.msg_flags = flags.cast_unsigned();
            entry.user_data = data;
        })
    }

    /// What was not submitted of this data never will be.
    pub(crate) fn withdraw(&mut self, data: u64) {
        let tail = word(&self.tail).load(Ordering::Relaxed);
        let mut at = word(&self.head).load(Ordering::Acquire);
        while at != tail {
            // SAFETY: the mask keeps it inside; the kernel reads it when it is submitted.
            let entry = unsafe { self.entries.add((at & (self.count - 1)) as usize).as_mut() };
            if entry.user_data == data {
                entry.opcode = io_uring_op::IORING_OP_NOP as u8;
                entry.user_data = NOBODY;
            }
            at = at.wrapping_add(1);
        }
    }
}
