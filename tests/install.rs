//! `make` makes what is out of date and nothing else, `make install` gives a C program all it needs, `make uninstall`
//! takes all of it away; and a crate that depends on becket builds without writing into becket's source tree.

mod util;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

const PROGRAM: &str = r#"
#include <becket.h>
#include <string.h>

static BECKET_MEMORY(memory, 4, 4, 0);

static void tick(becket_loop *loop, const becket_event *event, void *user) {
  *(int *)user += (int)event->value;
  becket_stop(loop);
}

int main(void) {
  becket_loop *loop;
  becket_handle timer;
  int ticks = 0;
  if (strcmp(becket_version(), VERSION) != 0) return 2;
  if (becket_loop_init(&loop, &memory, NULL) != 0) return 3;
  if (becket_timer_add(loop, 1000000, 0, tick, &ticks, &timer) != 0) return 4;
  if (becket_run(loop) != 1 || ticks != 1) return 5;
  return becket_loop_close(loop) == 0 ? 0 : 6;
}
"#;

/// All files below a folder, with the time of their last change.
fn files(folder: &Path, leave_out: &[&str]) -> BTreeMap<PathBuf, SystemTime> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let entry = entry.unwrap();
            if leave_out.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            // A file that goes away while this looks (an editor's) is none of ours.
            let Ok(data) = entry.metadata() else { continue };
            if data.is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path(), data.modified().unwrap());
            }
        }
    }
    found
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn empty(name: &str) -> PathBuf {
    let folder = util::scratch("install").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn installed_library_is_found_by_pkg_config_and_uninstalled() {
    let _ = util::archive(); // `make programs`, one at a time.
    let top = empty("destination");
    let destination = format!("DESTDIR={}", top.display());
    run(util::make().args(["-s", "install", "PREFIX=/usr", &destination]));
    let installed: Vec<PathBuf> =
        files(&top, &[]).into_keys().map(|path| path.strip_prefix(&top).unwrap().to_owned()).collect();
    let expected = ["usr/include/becket.h", "usr/lib/libbecket.a", "usr/lib/pkgconfig/becket.pc"];
    assert_eq!(installed, expected.map(PathBuf::from));

    if util::have("pkg-config") {
        let output = run(Command::new("pkg-config")
            .args(["--cflags", "--libs", "becket"])
            .env("PKG_CONFIG_LIBDIR", top.join("usr/lib/pkgconfig"))
            .env("PKG_CONFIG_SYSROOT_DIR", &top)
            // Else it leaves out /usr/include and /usr/lib, where the compiler would look by itself.
            .env("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1")
            .env("PKG_CONFIG_ALLOW_SYSTEM_LIBS", "1"));
        let flags = String::from_utf8(output.stdout).unwrap();
        let folder = empty("program");
        std::fs::write(folder.join("program.c"), PROGRAM).unwrap();
        // In a folder of its own: nothing of the source tree is in reach but what the flags name.
        run(Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()))
            .current_dir(&folder)
            .arg(format!("-DVERSION=\"{}\"", env!("CARGO_PKG_VERSION")))
            .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "program.c", "-o", "program"])
            .args(flags.split_whitespace()));
        run(&mut Command::new(folder.join("program")));
    } else {
        util::skip("what pkg-config says about an installed becket", "pkg-config");
    }

    run(util::make().args(["-s", "uninstall", "PREFIX=/usr", &destination]));
    assert_eq!(files(&top, &[]), BTreeMap::new());
}

#[test]
fn second_make_does_nothing_and_an_edit_is_seen() {
    let _ = util::archive(); // `make programs`, one at a time.
    let made = |arguments: &[&str]| String::from_utf8(run(util::make().args(arguments)).stdout).unwrap();
    let again = made(&["programs"]);
    assert!(!again.contains("cargo") && !again.contains("cc "), "a second make did something:\n{again}");

    // What make would do (-n) if the file had just been edited (-W).
    let of_rust = made(&["-n", "-W", "src/lib.rs", "programs"]);
    assert!(of_rust.contains("cargo rustc"), "{of_rust}");
    assert!(of_rust.contains("build/examples/echo") && of_rust.contains("build/tests/"), "{of_rust}");
    let of_header = made(&["-n", "-W", "include/becket.h", "programs"]);
    assert!(of_header.contains("build/examples/echo") && !of_header.contains("cargo rustc"), "{of_header}");
}

/// Nothing but the source tree counts: `target` and `build` are where other tests work meanwhile.
#[test]
fn dependent_crate_builds_without_touching_the_source_tree() {
    let folder = empty("dependent");
    std::fs::create_dir(folder.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"dependent\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [dependencies]\nbecket = {{ path = {:?}, features = [\"capi\"] }}\n[workspace]\n",
        util::root()
    );
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(folder.join("src/lib.rs"), "#![no_std]\npub use becket::*;\n").unwrap();
    // The versions that becket was tested with, and which are on this machine.
    std::fs::copy(util::root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();

    let before = files(util::root(), &["target", "build", ".git"]);
    run(Command::new(env!("CARGO")).current_dir(&folder).args([
        "build",
        "--quiet",
        "--offline",
        "--target-dir",
        "target",
    ]));
    let after = files(util::root(), &["target", "build", ".git"]);
    let changed: Vec<&PathBuf> =
        after.iter().filter(|(path, time)| before.get(*path) != Some(time)).map(|(path, _)| path).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "written, or removed: {changed:?}");
    assert!(folder.join("target/debug/libdependent.rlib").is_file());
}
