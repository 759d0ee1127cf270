//! The version, and words for errors.

use crate::error::Error;
use core::ffi::{CStr, c_char, c_int};

// ---- Version and errors ----

/// The version of the library that is linked, such as "0.1.0". Any thread. O(1).
#[unsafe(no_mangle)]
pub extern "C" fn becket_version() -> *const c_char {
    const VERSION: &[u8] = concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes();
    VERSION.as_ptr().cast()
}

/// A sentence for what a function returned: a negative errno value, or its positive. Never NULL; static. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn becket_strerror(code: c_int) -> *const c_char {
    let text: &CStr = if code == 0 { c"success" } else { Error::from_errno(code).description() };
    text.as_ptr()
}
