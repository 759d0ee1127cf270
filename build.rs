//! Generates the C header from `src/ffi`, with cbindgen, into `OUT_DIR/becket.h`; and only with feature `header`;
//! and tells the compiler which of the system's own backends there are.
//!
//! Nothing is ever written into the source tree: `tests/header.rs` compares the result with the committed
//! `include/becket.h` (and `make header` replaces it).
//!
//! cbindgen alone prints all constants, then all types, then all functions. A reader wants them by subject. So the
//! ABI files are cut into sections, cbindgen prints each section, and the results are joined. A section starts at a
//! line of the form
//!
//! ```text
//! // ---- Timers ----
//! // More words about all of them, if there are any.
//! ```
//!
//! What stands before a file's first such line belongs to no section and is not exported.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    system();
    #[cfg(feature = "header")]
    header::generate();
}

/// Backends that only Linux has, and POSIX AIO, which some systems have: `cfg(epoll)`, `cfg(io_uring)` and `cfg(posix_aio)` where
/// the feature is on and the system has it.
fn system() {
    println!("cargo::rustc-check-cfg=cfg(epoll, io_uring, posix_aio)");
    let is = |variable: &str, value: &str| std::env::var(variable).is_ok_and(|it| it == value);
    let has_aio = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu")
        || is("CARGO_CFG_TARGET_OS", "freebsd")
        || is("CARGO_CFG_TARGET_VENDOR", "apple");
    if has_aio && std::env::var_os("CARGO_FEATURE_AIO").is_some() {
        println!("cargo::rustc-cfg=posix_aio");
    }
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux" || system == "android");
    for (feature, cfg) in [("CARGO_FEATURE_EPOLL", "epoll"), ("CARGO_FEATURE_IO_URING", "io_uring")] {
        if linux && std::env::var_os(feature).is_some() {
            println!("cargo::rustc-cfg={cfg}");
        }
    }
}

#[cfg(feature = "header")]
mod header {
    use std::fmt::Write as _;
    use std::path::{Path, PathBuf};
    use std::{env, fs};

    /// The ABI files in the order of the header. A file of `src/ffi` that is not named here follows, by name.
    const ORDER: &[&str] = &[
        "constants",
        "types",
        "memory",
        "version",
        "turn",
        "source",
        "io",
        "timer",
        "signal",
        "child",
        "wake",
        "hook",
        "operation",
        "listener",
        "stream",
        "task",
        "pool",
        "simulator",
    ];

    /// The macros of cbindgen.toml (`after_includes`) are printed at the ends of the sections with these titles: they name
    /// what is declared there. A line of dashes ends those of one section.
    const MACROS_END_SECTIONS: [&str; 3] = ["Memory", "Pools", "Tasks"];

    /// Flags of a uint32_t are unsigned, so that ~FLAG converts without a warning.
    const FLAGS: &[&str] = &[
        "READABLE",
        "PRIORITY",
        "WRITABLE",
        "ERROR",
        "HANGUP",
        "PEER_CLOSED",
        "TIMEOUT",
        "DEADLINE",
        "TRIGGERED",
        "PAUSED",
        "ONESHOT",
        "TRUSTED",
        "EDGE",
        "EXCLUSIVE",
        "DATA_ONLY",
        "LISTEN_REUSE_PORT",
        "LISTEN_IPV4_TOO",
        "LISTEN_EXCLUSIVE",
        "LISTEN_REPLACE",
        "LISTEN_UNLINK",
        "LISTEN_WITHOUT_PLACE",
        "LISTEN_FOR_STREAMS",
        "DATAGRAM",
        "STREAM_CONNECTED",
        "STREAM_DATA",
        "STREAM_END",
        "STREAM_SENT",
        "STREAM_LOW",
        "STREAM_CLOSED",
    ];

    /// Types of the system's that are structs in C.
    const SYSTEM_STRUCTS: &[&str] = &["iovec", "msghdr", "open_how", "sockaddr", "statx"];

    struct Section {
        title: String,
        /// Words about the whole section, in lines.
        words: Vec<String>,
        /// A piece of Rust: whole items.
        source: String,
    }

    pub fn generate() {
        println!("cargo::rerun-if-changed=src/ffi");
        println!("cargo::rerun-if-changed=cbindgen.toml");
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        let mut config = cbindgen::Config::from_file("cbindgen.toml").expect("cbindgen.toml is valid");

        // The frame is printed once, around all sections.
        let opening = config.header.take().expect("cbindgen.toml has a header");
        let guard = config.include_guard.take().expect("cbindgen.toml has an include_guard");
        let macros = config.after_includes.take().expect("cbindgen.toml has after_includes");
        let macros: Vec<&str> = macros.split("\n----\n").collect();
        assert_eq!(macros.len(), MACROS_END_SECTIONS.len());
        let mut printed = 0;
        let includes = std::mem::take(&mut config.sys_includes);

        let mut text = format!("{}\n\n#ifndef {guard}\n#define {guard}\n\n", opening.trim());
        for include in includes {
            writeln!(text, "#include <{include}>").unwrap();
        }
        // Types of Linux alone: of <sys/stat.h> with _GNU_SOURCE, and of <linux/openat2.h>.
        text.push_str("\nstruct statx;\nstruct open_how;\n");
        text.push_str("\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
        text.push_str(&version());
        for (number, section) in sections().into_iter().enumerate() {
            let body = print(&section, &config, &out.join(format!("section_{number}.rs")));
            write!(text, "{}{}\n\n", banner(&section), body.trim()).unwrap();
            if let Some(which) = MACROS_END_SECTIONS.iter().position(|title| *title == section.title) {
                write!(text, "{}\n\n", macros[which].trim()).unwrap();
                printed += 1;
            }
        }
        assert_eq!(printed, macros.len(), "one section each of {MACROS_END_SECTIONS:?}");
        write!(text, "#ifdef __cplusplus\n}}\n#endif\n\n#endif /* {guard} */\n").unwrap();
        fs::write(out.join("becket.h"), text).expect("OUT_DIR can be written");
    }

    /// The version macros, from Cargo.toml.
    fn version() -> String {
        let mut text =
            String::from("/* ---- Version of this header; becket_version() tells that of the library ---- */\n\n");
        for part in ["MAJOR", "MINOR", "PATCH"] {
            let number = env::var(format!("CARGO_PKG_VERSION_{part}")).expect("cargo sets the version");
            writeln!(text, "#define BECKET_VERSION_{part} {number}").unwrap();
        }
        text.push('\n');
        text
    }

    fn sections() -> Vec<Section> {
        let mut files: Vec<PathBuf> = fs::read_dir("src/ffi")
            .expect("src/ffi is a folder")
            .map(|entry| entry.expect("src/ffi can be read").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .collect();
        files.sort_by_key(|path| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (ORDER.iter().position(|name| *name == stem).unwrap_or(ORDER.len()), stem)
        });
        let mut sections: Vec<Section> = Vec::new();
        for file in files {
            let source = fs::read_to_string(&file).expect("an ABI file can be read");
            let before = sections.len();
            let mut in_words = false;
            for line in source.lines() {
                let title = line.strip_prefix("// ---- ").and_then(|rest| rest.strip_suffix(" ----"));
                if let Some(title) = title {
                    sections.push(Section { title: title.into(), words: Vec::new(), source: String::new() });
                    in_words = true;
                } else if sections.len() > before {
                    let section = sections.last_mut().expect("one was just pushed");
                    in_words &= line.starts_with("//") && !line.starts_with("///");
                    if in_words {
                        section.words.push(line["//".len()..].trim_end().into());
                    } else {
                        section.source.push_str(line);
                        section.source.push('\n');
                    }
                }
            }
        }
        assert!(!sections.is_empty(), "src/ffi has no section");
        sections
    }

    /// What cbindgen makes of one section. A type of another section is known to it by name only, which is all that
    /// C needs; a type of this one is printed even when no function of the section uses it.
    fn print(section: &Section, config: &cbindgen::Config, scratch: &Path) -> String {
        fs::write(scratch, &section.source).expect("OUT_DIR can be written");
        let mut config = config.clone();
        for line in section.source.lines() {
            let rest = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub type "));
            if let Some(rest) = rest {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                config.export.include.push(rest[..end].into());
            }
        }
        let width = config.line_length;
        let mut bytes = Vec::new();
        cbindgen::Builder::new()
            .with_config(config)
            .with_src(scratch)
            .generate()
            .unwrap_or_else(|error| panic!("section {:?} of src/ffi: {error}", section.title))
            .write(&mut bytes);
        plain(&String::from_utf8(bytes).expect("a header is UTF-8"), width)
    }

    fn banner(section: &Section) -> String {
        let mut text = format!("/* ---- {} ----", section.title);
        if section.words.is_empty() {
            text.push_str(" */\n\n");
        } else {
            for line in &section.words {
                write!(text, "\n *{}", unmarked(line)).unwrap();
            }
            text.push_str("\n */\n\n");
        }
        text
    }

    /// Rustdoc's marks do not belong into C comments, and a comment of one line is written on one line.
    fn plain(header: &str, width: usize) -> String {
        let header = without_safety(header);
        let lines: Vec<&str> = header.lines().collect();
        let mut text = String::new();
        let mut index = 0;
        // The struct that is being declared: within it, it goes by its tag.
        let mut tag = String::new();
        while index < lines.len() {
            let indent = &lines[index][..lines[index].len() - lines[index].trim_start().len()];
            match lines[index..] {
                [opening, words, closing, ..] if opening.trim() == "/**" && closing.trim() == "*/" => {
                    writeln!(text, "{indent}/** {} */", unmarked(words.trim().trim_start_matches('*').trim())).unwrap();
                    index += 3;
                }
                [line, ..] if line.trim_start().starts_with('*') => {
                    writeln!(text, "{}", unmarked(line)).unwrap();
                    index += 1;
                }
                [line, ..] => {
                    if let Some(name) = line.strip_prefix("typedef struct ").and_then(|rest| rest.strip_suffix(" {")) {
                        tag = format!("struct {name} ");
                    } else if line.starts_with('}') {
                        tag.clear();
                    }
                    let own = !tag.is_empty() && line.contains(&tag);
                    writeln!(text, "{}", if own { line.to_string() } else { declared(line) }).unwrap();
                    index += 1;
                }
                [] => unreachable!("the index is inside"),
            }
        }
        compact(&on_one_line(&text, width))
    }

    /// cbindgen gives a function with a longer comment one line for each argument. Here it is the width that decides.
    fn on_one_line(header: &str, width: usize) -> String {
        let mut text = String::new();
        let mut lines = header.lines().peekable();
        while let Some(first) = lines.next() {
            let mut all = vec![first];
            if first.ends_with(',') && first.starts_with(|c: char| c.is_ascii_lowercase()) {
                while let Some(line) = lines.next_if(|_| !all[all.len() - 1].ends_with(");")) {
                    all.push(line);
                }
            }
            let joined = all.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
            if all.len() > 1 && joined.len() <= width {
                all = vec![&joined];
            }
            text.push_str(&all.join("\n"));
            text.push('\n');
        }
        text
    }

    /// The `# Safety` part of a comment is for Rust callers: what C callers must keep stands in the words before it.
    fn without_safety(header: &str) -> String {
        let mut text = String::new();
        let mut inside = false;
        for line in header.lines() {
            let words = line.trim().trim_start_matches('*').trim();
            inside = (inside || words == "# Safety")
                && line.trim() != "*/"
                && (!words.starts_with("# ") || words == "# Safety");
            if inside {
                continue;
            }
            // An empty comment line that stood before the heading.
            if line.trim() == "*/" && text.ends_with(" *\n") {
                let end = text.trim_end().trim_end_matches('*').trim_end().len();
                text.truncate(end);
                text.push('\n');
            }
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// A negative number gets parentheses; a type goes by its typedef, without the tag; and a loop is called one, which is
    /// a keyword in Rust.
    fn declared(line: &str) -> String {
        if let Some((name, value)) = line.strip_prefix("#define ").and_then(|define| define.split_once(' ')) {
            return if value.starts_with('-') {
                format!("#define {name} ({value})")
            } else if FLAGS.iter().any(|flag| name.strip_prefix("BECKET_") == Some(flag)) {
                format!("#define {name} {value}u")
            } else {
                line.into()
            };
        }
        if line.starts_with("typedef struct ") {
            line.into()
        } else if let Some(name) = SYSTEM_STRUCTS.iter().find(|name| line.contains(&format!("{name} *"))) {
            line.replace(&format!("{name} *"), &format!("struct {name} *")).replace("event_loop", "loop")
        } else {
            line.replace("struct becket_", "becket_").replace("event_loop", "loop")
        }
    }

    /// `[`name`]` and `name` in backquotes become the bare name; a `# Errors` heading becomes `Errors:`.
    fn unmarked(line: &str) -> String {
        let line = line.replace("[`", "").replace("`]", "").replace('`', "");
        match line.split_once("* # ") {
            Some((start, heading)) => format!("{start}* {}:", heading.trim_end()),
            None => line,
        }
    }

    /// Removes the empty line between two `#define`s that have a comment of one line or none each: a table.
    fn compact(text: &str) -> String {
        let lines: Vec<&str> = text.lines().collect();
        let one_line = |line: &str| line.starts_with("#define ") || (line.starts_with("/** ") && line.ends_with("*/"));
        let mut result = String::new();
        for (index, line) in lines.iter().enumerate() {
            let inside_table = line.is_empty()
                && index > 0
                && lines[index - 1].starts_with("#define ")
                && lines.get(index + 1).is_some_and(|next| one_line(next))
                && lines[index + 1..].iter().take(2).any(|next| next.starts_with("#define "));
            if !inside_table {
                result.push_str(line);
                result.push('\n');
            }
        }
        result
    }
}
