//! The whole loop against the model of `tests/programs`: a program from bytes, on the backend that the first byte names.
//! What has to hold is said there. (The same programs, from seeds: `tests/model.rs`.)
//!
//! With BECKET_FUZZ_TRACE in the environment the program is printed, as text for BECKET_PROGRAM of that test.
#![no_main]

// It has more than this target uses.
#[allow(dead_code)]
#[path = "../../tests/programs/mod.rs"]
mod programs;

use becket::{BackendChoice, Config, Loop, Storage};
use libfuzzer_sys::fuzz_target;
use programs::program::Program;
use programs::run::run;
use std::sync::OnceLock;

/// The simulator, as often as all others, and the backends that this system grants: some forbid io_uring.
fn backends() -> &'static [BackendChoice] {
    static ALL: OnceLock<Vec<BackendChoice>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = vec![BackendChoice::Poll, BackendChoice::Select, BackendChoice::Epoll, BackendChoice::IoUring];
        all.retain(|backend| {
            let mut storage = Storage::<1, 0>::new();
            Loop::<()>::new(&mut storage, &Config { backend: *backend, ..Config::default() }).is_ok()
        });
        all.extend(vec![BackendChoice::Simulator; all.len()]);
        all
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let backend = backends()[usize::from(*first) % backends().len()];
    let program = Program::from_bytes(bytes);
    if std::env::var_os("BECKET_FUZZ_TRACE").is_some() {
        eprintln!("on {backend:?}:\n{program}");
    }
    run(&program, backend, 0);
});
