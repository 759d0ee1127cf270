//! Pools of blocks.

use crate::error::{Error, Result};
use crate::storage::pool::Places;
use core::ffi::{c_int, c_void};
use core::{ptr, slice};

// ---- Pools ----
//
// Blocks of one size in the caller's memory, for what comes and goes: a buffer for each transfer, a struct for each client.
// Independent of any loop; one thread at a time.
//
//   static BECKET_POOL(pool, 64, 4096);
//   char *block = becket_pool_get(&pool);
//   if (block == NULL) … all 64 are taken: wait until one comes back …
//   becket_pool_put(&pool, block);

/// A pool. BECKET_POOL declares one; for memory that is known only at run time fill the first five and zero the others.
#[repr(C)]
pub struct becket_pool {
    /// sizeof(becket_pool).
    pub size: usize,
    /// count blocks, one behind the other, aligned as the caller needs them.
    pub blocks: *mut c_void,
    /// count numbers: becket's.
    pub links: *mut u32,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// How many blocks there are.
    pub count: u32,
    /// becket's: the first free block, plus one.
    pub free: u32,
    /// becket's: none above was ever taken.
    pub mark: u32,
    /// becket's: how many are taken.
    pub taken: u32,
}

/// Takes a block, whose content is what was left in it. NULL: all are taken, or it is no pool. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_pool_get(pool: *mut becket_pool) -> *mut c_void {
    // SAFETY: the caller gives a pool, or NULL, which is checked.
    let got = unsafe { with(pool, |pool, places, links| Ok((pool.blocks, places.take(links)? * pool.block_bytes))) };
    match got {
        // SAFETY: a place is below count, so this is within the blocks.
        Ok((blocks, at)) => unsafe { blocks.byte_add(at) },
        Err(_) => ptr::null_mut(),
    }
}

/// Gives a block back. -EINVAL: the pointer is not one to a block of this pool; -ESTALE: the block is not taken. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_pool_put(pool: *mut becket_pool, block: *mut c_void) -> c_int {
    // SAFETY: the caller gives a pool, or NULL, which is checked.
    super::done(unsafe {
        with(pool, |pool, places, links| {
            let at = (block as usize).checked_sub(pool.blocks as usize).ok_or(Error::INVALID)?;
            let place = at / pool.block_bytes;
            if at % pool.block_bytes != 0 || place >= links.len() {
                return Err(Error::INVALID);
            }
            places.give(links, place)
        })
    })
}

/// How many blocks are left. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn becket_pool_left(pool: *const becket_pool) -> c_int {
    // SAFETY: the caller gives a pool, or NULL, which is checked; nothing is changed.
    super::answer(unsafe { with(pool.cast_mut(), |pool, places, _| Ok(pool.count - places.taken)) })
}

/// Calls something with a pool's parts. EINVAL: it is none.
///
/// # Safety
/// NULL, or a pool whose blocks and links are as many as it says.
unsafe fn with<R>(
    pool: *mut becket_pool,
    call: impl FnOnce(&becket_pool, &mut Places, &mut [u32]) -> Result<R>,
) -> Result<R> {
    // SAFETY: by this function's contract.
    let pool = unsafe { pool.as_mut() }.ok_or(Error::INVALID)?;
    let mut places = Places { free: pool.free, mark: pool.mark, taken: pool.taken };
    if pool.size != size_of::<becket_pool>()
        || pool.blocks.is_null()
        || pool.links.is_null()
        || !pool.links.is_aligned()
        || pool.block_bytes == 0
        || pool.count > i32::MAX as u32
        || !places.is_valid(pool.count)
    {
        return Err(Error::INVALID);
    }
    // SAFETY: by this function's contract, and aligned.
    let links = unsafe { slice::from_raw_parts_mut(pool.links, pool.count as usize) };
    let answer = call(pool, &mut places, links);
    (pool.free, pool.mark, pool.taken) = (places.free, places.mark, places.taken);
    answer
}
