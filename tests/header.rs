//! `include/becket.h` is what cbindgen makes of `src/ffi` now, and it declares exactly what the archive exports.
//!
//! The first needs feature `header` (`make test` has it): build.rs then leaves a fresh header in OUT_DIR. `make header`
//! replaces the committed one, by `BECKET_BLESS=1`.

mod util;

use std::collections::BTreeSet;

#[cfg(feature = "header")]
#[test]
fn committed_header_is_up_to_date() {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/include/becket.h");
    let fresh = std::fs::read_to_string(concat!(env!("OUT_DIR"), "/becket.h")).expect("build.rs made a header");
    let present = std::fs::read_to_string(committed).unwrap_or_default();
    if std::env::var_os("BECKET_BLESS").is_some_and(|value| value == "1") {
        if fresh != present {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/include")).expect("include/ can be made");
            std::fs::write(committed, fresh).expect("include/becket.h can be written");
            println!("include/becket.h is new");
        }
        return;
    }
    if fresh != present {
        let mut lines = fresh.lines().zip(present.lines()).enumerate();
        let difference = lines.find(|(_, (fresh, present))| fresh != present);
        panic!(
            "include/becket.h is out of date: run `make header` and look at the difference.\n\
             First one (line from 0, (fresh, committed)): {difference:?}; {} and {} lines",
            fresh.lines().count(),
            present.lines().count()
        );
    }
}

#[cfg(not(feature = "header"))]
#[test]
fn committed_header_is_up_to_date() {
    println!("skipped: include/becket.h is compared with a fresh one by `cargo test --all-features` (make test does)");
}

/// The functions that the header declares, and those that the archive has for others, are the same.
#[cfg(target_os = "linux")]
#[test]
fn header_declares_what_the_archive_exports() {
    if std::env::var_os("BECKET_BLESS").is_some() {
        return; // The archive may be as old as the header that is being replaced.
    }
    let declared = util::declared_functions();
    let output = std::process::Command::new("nm").arg("--defined-only").arg(util::archive()).output().expect("nm runs");
    let symbols = String::from_utf8_lossy(&output.stdout);
    let exported: BTreeSet<String> = symbols
        .lines()
        .filter_map(|line| line.split_once(" T "))
        .map(|(_, name)| name.to_owned())
        .filter(|name| name.starts_with("becket_"))
        .collect();
    assert!(declared.contains("becket_run"), "{declared:?}");
    assert_eq!(declared, exported);
}
