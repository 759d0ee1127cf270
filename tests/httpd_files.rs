//! The files of `c-examples/httpd.c`: what its clients get, byte for byte, on every backend and by every engine for files;
//! what they cannot get; and what slow, broken and killed clients leave behind, which is nothing.

mod util;

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use util::httpd::{A_WHILE, BACKENDS, Server, get, httpd};
use util::{Child, GUARD, wait_until};

/// How files are read and opened; with each backend that is a way to serve them.
const FILES: [&str; 5] = ["read", "auto", "uring", "aio", "aio-signal"];
const OPENS: [&str; 3] = ["auto", "operation", "walk"];

const BLOCK: usize = 65536;

#[derive(Clone, Copy, Debug)]
struct Way {
    backend: &'static str,
    files: &'static str,
    open: &'static str,
}

impl Way {
    fn options<'a>(&self, root: &'a Path, options: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["--port", "0", "--backend", self.backend, "--files", self.files, "--open", self.open];
        all.extend(["--root", root.to_str().unwrap()]);
        all.extend(options);
        all
    }

    fn start(&self, root: &Path, options: &[&str]) -> Server {
        Server::spawn(Command::new(program(self.files)).args(self.options(root, options)))
    }
}

/// The program: POSIX AIO is in a build of its own.
fn program(files: &str) -> PathBuf {
    const WITH_AIO: &str = "aio/examples/httpd";
    if files.starts_with("aio") && util::is_made(WITH_AIO) { util::program(WITH_AIO) } else { httpd() }
}

/// Every way that this system has; one that it has not is said, once.
fn ways() -> &'static [Way] {
    static WAYS: OnceLock<Vec<Way>> = OnceLock::new();
    WAYS.get_or_init(|| {
        let root = fresh("ways");
        let mut ways = Vec::new();
        for files in FILES {
            let way = |backend, open| Way { backend, files, open };
            let mut child = Child::start(program(files), way("poll", "auto").options(&root, &[]));
            wait_until("it has started, or has not", || child.out().contains("httpd: open ") || child.ended());
            if child.ended() {
                assert_ne!(files, "read", "{}", child.err());
                util::skip(&format!("httpd --files {files}: {}", child.err()), "a system, or an archive, that has it");
                continue;
            }
            child.signal(libc::SIGTERM);
            child.expect_exit(0);
            // POSIX AIO learns of completions in one way, whatever waits; the conformance suite has it on every backend.
            let backends = match files {
                "auto" => &BACKENDS[2..], // what is in memory is had without them
                "aio" | "aio-signal" => &BACKENDS[1..3],
                _ => &BACKENDS[..],
            };
            ways.extend(backends.iter().flat_map(|backend| OPENS.map(|open| way(backend, open))));
        }
        ways
    })
}

/// One way for each backend and engine: where how files are opened makes no difference.
fn reading_ways() -> impl Iterator<Item = &'static Way> {
    ways().iter().filter(|way| way.open == "auto")
}

/// An empty folder of a test's own.
fn fresh(name: &str) -> PathBuf {
    let folder = util::scratch("httpd_files").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Bytes that look like nothing, and differ from place to place.
fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut all = Vec::with_capacity(size + 8);
    while all.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(size);
    all
}

/// Asserts equality without printing megabytes.
fn assert_same(actual: &[u8], expected: &[u8], what: impl Debug) {
    if actual == expected {
        return;
    }
    let at = actual.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(actual.len().min(expected.len()));
    panic!("{what:?}: {} bytes instead of {}, different from byte {at} on", actual.len(), expected.len());
}

fn head(path: &str, fields: &str) -> String {
    get(path, fields).replacen("GET", "HEAD", 1)
}

/// Numbers of /_status.json that have to be 0 when nothing is under way.
fn assert_nothing_is_held(server: &Server, what: impl Debug) {
    let held = ["files_open", "blocks_used", "blocks_waiting", "operations_now"];
    let mut last = None;
    wait_until(&format!("{what:?} has left nothing behind"), || {
        let status = server.status();
        let now = (held.map(|name| status[name].number()), status["connections"].number());
        last = Some(now);
        now == ([0; 4], 1)
    });
}

/// The fds that the server has open.
fn fds(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count()
}

// ------------------------------------------------------------------------------------------------ what is served

/// A folder with everything in it, and beside it what must not be seen.
fn tree(name: &str) -> PathBuf {
    let top = fresh(name);
    let root = top.join("root");
    for folder in ["root/dir/deep", "root/noindex", "root/index_is_dir/index.html", "root/a b", "outside"] {
        std::fs::create_dir_all(top.join(folder)).unwrap();
    }
    for file in [
        "root/index.html",
        "root/style.css",
        "root/picture.SVG",
        "root/noextension",
        "root/dir/index.html",
        "root/dir/deep/file.txt",
        "root/a b/c&d.txt",
        "root/\u{fc}\u{20ac}.json",
        "root/50%.txt",
        "root/hello",
        "secret",
        "outside/index.html",
    ] {
        std::fs::write(top.join(file), file).unwrap(); // each says where it is
    }
    std::fs::write(root.join("empty.txt"), "").unwrap();
    symlink("style.css", root.join("link.css")).unwrap();
    symlink("dir", root.join("link_dir")).unwrap();
    symlink("../../style.css", root.join("dir/deep/up.css")).unwrap();
    symlink("../secret", root.join("link_out")).unwrap();
    symlink("../outside", root.join("dir_out")).unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("/", root.join("absolute_dir")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("missing", root.join("dangling")).unwrap();
    make_fifo(&root.join("fifo"));
    root
}

fn make_fifo(path: &Path) {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: mkfifo(3) reads the string, which ends with a NUL.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn every_path_has_its_answer() {
    let root = tree("paths");
    let content = |path: &str| std::fs::read(root.join(path)).unwrap();
    let found = [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("//", "index.html", "text/html; charset=utf-8"),
        ("/index.html", "index.html", "text/html; charset=utf-8"),
        ("/?a=b", "index.html", "text/html; charset=utf-8"),
        ("http://a", "index.html", "text/html; charset=utf-8"),
        ("http://a?b", "index.html", "text/html; charset=utf-8"),
        ("http://a/style.css?x", "style.css", "text/css; charset=utf-8"),
        ("/style.css", "style.css", "text/css; charset=utf-8"),
        ("/%73tyle%2Ecss", "style.css", "text/css; charset=utf-8"),
        ("/picture.SVG", "picture.SVG", "image/svg+xml"),
        ("/noextension", "noextension", "application/octet-stream"),
        ("/dir/", "dir/index.html", "text/html; charset=utf-8"),
        ("/dir//deep///file.txt", "dir/deep/file.txt", "text/plain; charset=utf-8"),
        ("/a%20b/c%26d.txt", "a b/c&d.txt", "text/plain; charset=utf-8"),
        ("/a%20b/c&d.txt", "a b/c&d.txt", "text/plain; charset=utf-8"),
        ("/%c3%bc%E2%82%ac.json", "\u{fc}\u{20ac}.json", "application/json"),
        ("/50%25.txt", "50%.txt", "text/plain; charset=utf-8"),
        ("/empty.txt", "empty.txt", "text/plain; charset=utf-8"),
        ("/link.css", "style.css", "text/css; charset=utf-8"),
        ("/link_dir/deep/file.txt", "dir/deep/file.txt", "text/plain; charset=utf-8"),
        ("/dir/deep/up.css", "style.css", "text/css; charset=utf-8"),
        ("/dir/../style.css", "style.css", "text/css; charset=utf-8"),
        ("/./dir/./deep/../../style.css", "style.css", "text/css; charset=utf-8"),
        ("/%2e/dir/%2e%2E/style.css", "style.css", "text/css; charset=utf-8"),
    ];
    let moved = [
        ("/dir", "./dir/"),
        ("/dir?x=%20&y", "./dir/?x=%20&y"),
        ("/dir/deep", "./deep/"),
        ("/link_dir", "./link_dir/"),
        ("/a%20b", "./a%20b/"),
        ("//dir", "./dir/"), // not "//dir/", which would be another server
        ("/dir/..", "./../"),
        ("/index_is_dir/", "./index.html/"),
        ("/index_is_dir/?abcdefghijklmnop", "./index.html/"),
        ("/dir?", "./dir/"),
        ("/%64i%72?x", "./dir/?x"),
    ];
    let long = format!("/{}", "x".repeat(256));
    let longer = format!("/{}", "x/".repeat(3900));
    let refused = [
        ("/missing", 404),
        ("/dir/missing/", 404),
        ("/noindex/", 404),
        ("/style.css/", 404),
        ("/style.css/x", 404),
        ("/hello/", 404), // the file of that name is not what "/hello" is, and no folder
        ("/_status/", 404),
        ("/loop", 404),
        ("/dangling", 404),
        ("/dir%2fdeep/file.txt", 404),
        (&long, 404),
        (&longer, 404),
        ("/%00", 400),
        ("/style.css%00", 400),
        ("/style.css%00.html", 400),
        ("/%", 400),
        ("/%2", 400),
        ("/%zz", 400),
        ("/fifo", 403),
        // traversal
        ("/..", 403),
        ("/../", 403),
        ("/../secret", 403),
        ("/../root/style.css", 403),
        ("/%2e%2e/secret", 403),
        ("/%2E%2E/secret", 403),
        ("/.%2e/secret", 403),
        ("/%2e./secret", 403),
        ("/dir/../../secret", 403),
        ("/dir/%2e%2e/%2e%2e/secret", 403),
        ("//../secret", 403),
        ("/.//..//secret", 403),
        ("/link_dir/../../secret", 403),
        ("/..%2fsecret", 404),
        ("/%2e%2e%2fsecret", 404),
        ("/..%00/secret", 400),
        ("/%252e%252e/secret", 404), // decoded once
        ("/..\\secret", 404),
        ("/..%5csecret", 404),
        ("/link_out", 403),
        ("/dir_out", 403),
        ("/dir_out/", 403),
        ("/dir_out/index.html", 403),
        ("/absolute", 403),
        ("/absolute_dir/etc/passwd", 403),
        ("//etc/passwd", 404),
        ("///etc/passwd", 404),
        ("http://a/../secret", 403),
        ("http://a//etc/passwd", 404),
    ];
    for way in ways() {
        let server = way.start(&root, &[]);
        let mut client = server.connect();
        for (path, file, media_type) in found {
            client.send(&get(path, ""));
            let answer = client.answer(200);
            assert_same(&answer.bytes, &content(file), (way, path));
            assert_eq!(answer.fields["content-type"], media_type, "{path}");
            assert_eq!(answer.fields["accept-ranges"], "bytes");
            assert_eq!(answer.fields["x-content-type-options"], "nosniff");
            assert!(!answer.fields.contains_key("content-range"));
        }
        for (path, location) in moved {
            client.send(&get(path, ""));
            assert_eq!(client.answer(301).fields["location"], location, "{path}");
        }
        for (path, status) in refused {
            client.send(&get(path, ""));
            let answer = client.read_answer(true);
            assert_eq!(answer.status, status, "{way:?} {path}");
            let page = answer.body();
            assert!(page.starts_with("<!doctype html>") && page.contains(&format!("<h1>{status} ")), "{path}: {page}");
            assert!(!page.contains("secret") && !page.contains("index"), "{path}: {page}");
            assert_eq!(answer.fields["content-type"], "text/html; charset=utf-8");
        }
        client.send(&get("/hello", ""));
        assert_eq!(client.answer(200).body(), "Hello, world!"); // what is built in goes before files
        drop(client);
        assert_nothing_is_held(&server, way);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_query_that_is_too_long_is_left_out_of_a_redirect() {
    let root = tree("long_query");
    let server = ways()[0].start(&root, &[]);
    let mut client = server.connect();
    for (size, kept) in [(1024, true), (1025, false), (7000, false)] {
        let query = format!("?{}", "q".repeat(size));
        client.send(&get(&format!("/dir{query}"), ""));
        let expected = if kept { format!("./dir/{query}") } else { "./dir/".to_owned() };
        assert_eq!(client.answer(301).fields["location"], expected);
    }
    // The longest name there is, each byte of it escaped.
    let name = "\u{20ac}".repeat(85);
    std::fs::create_dir(root.join(&name)).unwrap();
    let escaped: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let query = format!("?{}", "q".repeat(1024));
    client.send(&get(&format!("/{escaped}{query}"), ""));
    let answer = client.answer(301);
    assert_eq!(answer.fields["location"], format!("./{escaped}/{query}"));
    assert!(answer.body().ends_with("</html>\n"));
    server.stop(libc::SIGTERM);
}

#[test]
fn what_may_not_be_read_is_403() {
    const NOBODY: u32 = 65534;
    let root = tree("permissions");
    std::fs::set_permissions(root.join("style.css"), std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::set_permissions(root.join("dir"), std::fs::Permissions::from_mode(0o644)).unwrap(); // not to be gone through
    // SAFETY: geteuid(2) touches no memory.
    let is_root = unsafe { libc::geteuid() } == 0;
    for way in ways() {
        let mut command = Command::new(program(way.files));
        command.args(way.options(&root, &[]));
        if is_root {
            command.uid(NOBODY).gid(NOBODY); // root may read everything
            let mut probe = Command::new(program(way.files));
            probe.arg("--help").current_dir(&root).uid(NOBODY).gid(NOBODY);
            if !probe.output().is_ok_and(|output| output.status.success()) {
                return util::skip("403 for a file without permission", "becket where everybody may read it");
            }
        }
        let server = Server::spawn(&mut command);
        let mut client = server.connect();
        for (path, status) in
            [("/style.css", 403), ("/dir/index.html", 403), ("/dir/", 403), ("/link.css", 403), ("/", 200)]
        {
            client.send(&get(path, ""));
            client.answer(status);
        }
        server.stop(libc::SIGTERM);
    }
    std::fs::set_permissions(root.join("dir"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn other_methods_are_405() {
    let root = tree("methods");
    let server = ways()[0].start(&root, &[]);
    let mut client = server.connect();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        client.send(&get("/style.css", "Content-Length: 3\r\n").replacen("GET", method, 1));
        client.send("abc");
        assert_eq!(client.answer(405).fields["allow"], "GET, HEAD");
    }
    server.stop(libc::SIGTERM);
}

#[test]
fn a_get_with_a_body_is_the_last_one() {
    let root = tree("body");
    for way in ways() {
        let server = way.start(&root, &[]);
        for (path, status) in [("/style.css", 200), ("/dir", 301), ("/missing", 404)] {
            let mut client = server.connect();
            client.send(&get(path, "Content-Length: 5\r\n"));
            let answer = client.answer(status); // the body is not waited for
            assert_eq!(answer.fields["connection"], "close");
            client.send("12345");
            client.assert_ended();
        }
        assert_nothing_is_held(&server, way);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_head_is_a_get_without_bytes_or_reads() {
    let root = tree("head");
    std::fs::write(root.join("big.bin"), bytes(1, 300_000)).unwrap();
    for way in ways() {
        let server = way.start(&root, &[]);
        let mut client = server.connect();
        let reads = server.number("reads");
        let mut heads = Vec::new();
        for path in ["/", "/big.bin", "/empty.txt", "/missing", "/dir", "/fifo"] {
            client.send(&head(path, ""));
            heads.push((path, client.read_answer(false)));
        }
        assert_eq!(server.number("reads"), reads);
        for (path, of_head) in heads {
            client.send(&get(path, ""));
            let of_get = client.read_answer(true);
            let undated = |fields: &HashMap<String, String>| {
                let mut fields = fields.clone();
                fields.remove("date");
                fields
            };
            assert_eq!((of_head.status, undated(&of_head.fields)), (of_get.status, undated(&of_get.fields)), "{path}");
        }
        drop(client);
        assert_nothing_is_held(&server, way);
        server.stop(libc::SIGTERM);
    }
}

// ------------------------------------------------------------------------------------------------ ranges, conditions

#[test]
fn ranges_are_byte_for_byte() {
    let root = fresh("ranges");
    let sizes = [1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 12345];
    let files: Vec<Vec<u8>> = sizes.iter().map(|size| bytes(*size as u64, *size)).collect();
    for (size, file) in sizes.iter().zip(&files) {
        std::fs::write(root.join(format!("{size}.bin")), file).unwrap();
    }
    for way in reading_ways() {
        let server = way.start(&root, &[]);
        let mut client = server.connect();
        for (size, file) in sizes.iter().zip(&files) {
            let path = format!("/{size}.bin");
            let mut ask = |range: String, from: usize, to: usize| {
                client.send(&get(&path, &format!("Range: bytes={range}\r\n")));
                let answer = client.answer(206);
                assert_same(&answer.bytes, &file[from..to], (way, size, &range));
                assert_eq!(answer.fields["content-range"], format!("bytes {from}-{}/{size}", to - 1));
                assert_eq!(answer.fields["content-type"], "application/octet-stream");
            };
            ask("0-".into(), 0, *size);
            ask("0-0".into(), 0, 1);
            ask(format!("{}-", size - 1), size - 1, *size);
            ask(format!("0-{}", size * 2), 0, *size);
            ask("-1".into(), size - 1, *size);
            ask(format!("-{}", size * 2), 0, *size);
            let mut random = *size as u64;
            for _ in 0..20 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let from = (random >> 33) as usize % size;
                let to = from + 1 + (random >> 13) as usize % (size - from);
                ask(format!("{from}-{}", to - 1), from, to);
                ask(format!("-{}", size - from), from, *size);
            }
            client.send(&get(&path, &format!("Range: bytes={size}-\r\n")));
            let answer = client.answer(416);
            assert_eq!(answer.fields["content-range"], format!("bytes */{size}"));
            for ignored in ["bytes=0-0,2-3", "bytes=5-2", "lines=1-2", "bytes=x"] {
                client.send(&get(&path, &format!("Range: {ignored}\r\n")));
                assert_same(&client.answer(200).bytes, file, (way, size, ignored));
            }
        }
        drop(client);
        assert_nothing_is_held(&server, way);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn an_empty_file_has_no_range() {
    let root = tree("empty_range");
    for way in reading_ways() {
        let server = way.start(&root, &[]);
        let mut client = server.connect();
        for range in ["0-", "0-0", "-1"] {
            client.send(&get("/empty.txt", &format!("Range: bytes={range}\r\n")));
            assert_eq!(client.answer(416).fields["content-range"], "bytes */0");
        }
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn conditions_are_weighed() {
    let root = tree("conditions");
    let file = root.join("style.css");
    let set_time = |seconds: u64| {
        let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 5_000_000);
        File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    };
    for way in ways() {
        set_time(784_111_777);
        let server = way.start(&root, &[]);
        let mut client = server.connect();
        client.send(&get("/style.css", ""));
        let whole = client.answer(200);
        let (tag, date) = (whole.fields["etag"].clone(), whole.fields["last-modified"].clone());
        assert_eq!(date, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "{tag}");
        let mut ask = |fields: &str, status: u16| {
            client.send(&get("/style.css", fields));
            let answer = client.read_answer(true);
            assert_eq!(answer.status, status, "{fields:?}");
            match status {
                200 => assert_same(&answer.bytes, &whole.bytes, fields),
                206 => assert_same(&answer.bytes, &whole.bytes[2..5], fields),
                304 => {
                    assert_eq!((&answer.fields["etag"], &answer.fields["last-modified"]), (&tag, &date));
                    assert!(!answer.fields.contains_key("content-length") && answer.bytes.is_empty());
                }
                _ => {}
            }
            client.hello(); // where the next answer begins is clear
        };
        ask(&format!("If-None-Match: {tag}\r\n"), 304);
        ask(&format!("If-None-Match: \"x\", W/{tag}\r\n"), 304);
        ask("If-None-Match: *\r\n", 304);
        ask("If-None-Match: \"x\"\r\n", 200);
        ask(&format!("If-Modified-Since: {date}\r\n"), 304);
        ask("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n", 304);
        ask("If-Modified-Since: Sun Nov  6 08:49:36 1994\r\n", 200);
        ask(&format!("If-Modified-Since: {date}\r\nIf-None-Match: \"x\"\r\n"), 200);
        ask("If-Match: \"x\"\r\n", 412);
        ask(&format!("If-Match: {tag}\r\n"), 200);
        ask("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", 412);
        ask(&format!("If-Unmodified-Since: {date}\r\n"), 200);
        ask(&format!("Range: bytes=2-4\r\nIf-Range: {tag}\r\n"), 206);
        ask(&format!("Range: bytes=2-4\r\nIf-Range: {date}\r\n"), 206);
        ask("Range: bytes=2-4\r\nIf-Range: \"x\"\r\n", 200);
        ask("Range: bytes=2-4\r\nIf-Range: Sun, 06 Nov 1994 08:49:38 GMT\r\n", 200);
        ask(&format!("Range: bytes=2-4\r\nIf-None-Match: {tag}\r\n"), 304);
        // A touch that is less than a second: another version, though of the same date.
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH + Duration::new(784_111_777, 6_000_000))
            .unwrap();
        ask(&format!("If-None-Match: {tag}\r\n"), 200);
        ask(&format!("Range: bytes=2-4\r\nIf-Range: {tag}\r\n"), 200);
        drop(client);
        assert_nothing_is_held(&server, way);
        server.stop(libc::SIGTERM);
    }
}

// ------------------------------------------------------------------------------------------------ large, and many

/// 64 MiB, of which two thirds are holes.
fn large_file(path: &Path) -> Vec<u8> {
    let size = 64 << 20;
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(size).unwrap();
    for mebibyte in (0..64).step_by(3) {
        file.write_all_at(&bytes(mebibyte + 1, 1 << 20), mebibyte << 20).unwrap();
    }
    std::fs::read(path).unwrap()
}

/// Reads the rest of a connection: the first head in it, and what follows.
fn receive_to_the_end(stream: &mut TcpStream) -> (String, Vec<u8>) {
    stream.set_read_timeout(Some(GUARD)).unwrap();
    let mut received = Vec::new();
    let mut chunk = vec![0; 1 << 18];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(size) => received.extend_from_slice(&chunk[..size]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("{error} after {} bytes", received.len()),
        }
    }
    let end = received.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let body = received.split_off(end + 4);
    (String::from_utf8(received).unwrap(), body)
}

#[test]
fn a_file_larger_than_all_blocks_arrives_whole() {
    let root = fresh("large");
    let expected = large_file(&root.join("large.bin"));
    for way in reading_ways() {
        let server = way.start(&root, &["--blocks", "2"]);
        let mut threads = Vec::new();
        for _ in 0..3 {
            let mut stream = server.connect().stream;
            threads.push(std::thread::spawn(move || {
                stream.write_all(get("/large.bin", "Connection: close\r\n").as_bytes()).unwrap();
                receive_to_the_end(&mut stream)
            }));
        }
        for thread in threads {
            let (head, body) = thread.join().unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: 67108864\r\n"), "{head}");
            assert_same(&body, &expected, way);
        }
        assert_nothing_is_held(&server, way);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn pipelined_files_are_answered_in_order() {
    let root = tree("pipelining");
    let big = bytes(7, 3 * BLOCK + 1);
    std::fs::write(root.join("big.bin"), &big).unwrap();
    let kinds = [
        (get("/big.bin", ""), 200),
        (get("/hello", ""), 200),
        (get("/style.css", ""), 200),
        (head("/big.bin", ""), 200),
        (get("/missing", ""), 404),
        (get("/big.bin", "Range: bytes=65530-65545\r\n"), 206),
        (get("/dir", ""), 301),
        (get("/empty.txt", ""), 200),
        (get("/", "If-None-Match: *\r\n"), 304),
    ];
    let all: String = kinds.iter().cycle().take(63).map(|(request, _)| request.as_str()).collect();
    for way in ways() {
        let server = way.start(&root, &[]);
        let mut client = server.connect();
        for cut in [0, 1, 17, 500, all.len() - 1] {
            client.send(&all[..cut]);
            client.send(&all[cut..]);
            for i in 0..63 {
                let (_, status) = kinds[i % 9];
                let answer = client.read_answer(i % 9 != 3);
                assert_eq!(answer.status, status, "answer {i}");
                match i % 9 {
                    0 => assert_same(&answer.bytes, &big, (way, i)),
                    1 => assert_eq!(answer.body(), "Hello, world!"),
                    2 => assert_eq!(answer.body(), "root/style.css"),
                    5 => assert_same(&answer.bytes, &big[65530..65546], (way, i)),
                    _ => {}
                }
            }
        }
        drop(client);
        assert_nothing_is_held(&server, way);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn requests_come_in_pieces() {
    let root = tree("pieces");
    for way in ways() {
        let server = way.start(&root, &["--request-timeout-ms", "60000"]);
        let mut client = server.connect();
        for byte in get("/dir/deep/up.css", "Range: bytes=5-8\r\nIf-Match: *\r\n").bytes() {
            client.stream.write_all(&[byte]).unwrap();
        }
        assert_eq!(client.answer(206).body(), "styl");
        server.stop(libc::SIGTERM);
    }
}

/// Few blocks are enough for many: they are waited for to open files, too, and to read them.
#[test]
fn many_share_one_block() {
    let root = tree("one_block");
    let big = bytes(18, 2 * BLOCK + 5);
    std::fs::write(root.join("big.bin"), &big).unwrap();
    let kinds =
        [("/big.bin", 200), ("/dir/deep/up.css", 200), ("/dir/deep", 301), ("/missing", 404), ("/link_out", 403)];
    for way in ways() {
        let server = way.start(&root, &["--blocks", "1"]);
        let mut clients: Vec<_> = (0..30).map(|_| server.connect()).collect();
        for (i, client) in clients.iter_mut().enumerate() {
            for round in 0..10 {
                client.send(&get(kinds[(i + round) % 5].0, ""));
            }
        }
        for (i, client) in clients.iter_mut().enumerate() {
            for round in 0..10 {
                let (path, status) = kinds[(i + round) % 5];
                let answer = client.answer(status);
                match path {
                    "/big.bin" => assert_same(&answer.bytes, &big, (way, i, round)),
                    "/dir/deep/up.css" => assert_eq!(answer.body(), "root/style.css"),
                    _ => {}
                }
            }
        }
        drop(clients);
        assert_nothing_is_held(&server, way);
        server.stop(libc::SIGTERM);
    }
}

/// A connection that takes little at a time: its receive buffer is as small as it can be.
fn small_window(server: &Server) -> TcpStream {
    util::dial(server.port, Some(4096))
}

#[test]
fn a_thousand_slow_readers_at_once() {
    if util::raise_fd_limit() < 2100 {
        return util::skip("1,000 slow readers at once", "a limit of 2,100 open files: ulimit -n");
    }
    let root = fresh("slow");
    let size = 150_000;
    let file = bytes(3, size);
    std::fs::write(root.join("file.bin"), &file).unwrap();
    for way in reading_ways() {
        // Fewer blocks than clients by far, so that they are given, awaited and taken away all the time.
        let server = way.start(&root, &["--blocks", "8", "--request-timeout-ms", "600000", "--send-buffer", "20000"]);
        let mut clients: Vec<(TcpStream, Vec<u8>)> = (0..1000)
            .map(|i| {
                let mut stream = small_window(&server);
                let from = i * 7;
                let range = format!("Range: bytes={from}-\r\nConnection: close\r\n");
                stream.write_all(get("/file.bin", &range).as_bytes()).unwrap();
                stream.set_read_timeout(Some(GUARD)).unwrap();
                (stream, Vec::with_capacity(size + 1000))
            })
            .collect();
        // A few kilobytes from each in turn; the last ones get the most time to be slow.
        let mut chunk = [0; 40_000];
        let mut left = clients.len();
        let mut ended = vec![false; clients.len()];
        while left > 0 {
            for (i, (stream, received)) in clients.iter_mut().enumerate() {
                if ended[i] {
                    continue;
                }
                match stream.read(&mut chunk) {
                    Ok(0) => {
                        ended[i] = true;
                        left -= 1;
                    }
                    Ok(size) => received.extend_from_slice(&chunk[..size]),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => panic!("{way:?}, client {i}: {error} after {} bytes", received.len()),
                }
            }
        }
        for (i, (_, received)) in clients.iter().enumerate() {
            let end = received.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
            assert!(received.starts_with(b"HTTP/1.1 206 "), "{way:?}, client {i}");
            assert_same(&received[end..], &file[i * 7..], (way, i));
        }
        drop(clients);
        assert_nothing_is_held(&server, way);
        let status = server.status();
        assert_eq!(status["connections_peak"].number(), 1000);
        assert_eq!((status["timed_out"].number(), status["files_cut_short"].number()), (0, 0));
        server.stop(libc::SIGTERM);
    }
}

/// Asks for a file and takes nothing of it; returns when the server can get no more of it off.
fn stalled(server: &Server, path: &str) -> TcpStream {
    let mut stream = small_window(server);
    let writing = |server: &Server| server.status()["slots"].text().matches('w').count();
    let before = writing(server);
    stream.write_all(get(path, "Connection: close\r\n").as_bytes()).unwrap();
    wait_until("it is stalled", || writing(server) > before);
    stream
}

#[test]
fn slow_clients_do_not_keep_others_waiting() {
    let root = fresh("fair");
    let file = bytes(4, 1 << 20);
    std::fs::write(root.join("file.bin"), &file).unwrap();
    let expected = &file;
    for way in reading_ways() {
        let server = way.start(&root, &["--blocks", "1", "--request-timeout-ms", "600000", "--send-buffer", "20000"]);
        let mut slow: Vec<TcpStream> = (0..5).map(|_| stalled(&server, "/file.bin")).collect();
        server.assert_at_rest(); // five that wait for their clients, at no cost
        // With all clients stalled the only block goes from hand to hand, and this one gets all of the file.
        let mut fast = server.connect();
        fast.send(&get("/file.bin", ""));
        assert_same(&fast.answer(200).bytes, &file, way);
        fast.hello();
        assert!(server.number("blocks_taken_away") > 0);
        // What was taken from the slow ones is read for them again.
        for stream in &mut slow {
            assert_same(&receive_to_the_end(stream).1, expected, way);
        }
        drop((slow, fast));
        assert_nothing_is_held(&server, way);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_client_that_takes_nothing_loses_its_slot() {
    let root = fresh("idle");
    std::fs::write(root.join("file.bin"), bytes(5, 1 << 20)).unwrap();
    for way in reading_ways() {
        let server = way.start(&root, &["--blocks", "1", "--request-timeout-ms", "700", "--send-buffer", "20000"]);
        let clients: Vec<TcpStream> = (0..3)
            .map(|_| {
                let mut stream = small_window(&server);
                stream.write_all(get("/file.bin", "").as_bytes()).unwrap();
                stream
            })
            .collect();
        wait_until("all have lost their slots", || server.number("timed_out") == 3);
        assert_nothing_is_held(&server, way);
        drop(clients);
        server.stop(libc::SIGTERM);
    }
}

// ------------------------------------------------------------------------------------------------ what goes wrong

#[test]
fn killed_clients_leave_nothing_behind() {
    let root = fresh("killed");
    std::fs::write(root.join("file.bin"), bytes(6, 1 << 20)).unwrap();
    for way in reading_ways() {
        let server = way.start(&root, &["--blocks", "2", "--request-timeout-ms", "600000", "--send-buffer", "20000"]);
        assert_nothing_is_held(&server, way);
        let before = fds(&server);
        for round in 0..3 {
            // Processes that have the connection, read some of it, and are killed. Some of them never get a block.
            let mut clients: Vec<std::process::Child> = (0..12)
                .map(|i| {
                    let mut stream = small_window(&server);
                    stream.write_all(get("/file.bin", "").as_bytes()).unwrap();
                    let script = format!("head -c {} > /dev/null; echo; exec sleep 600", i * 30_000);
                    let mut command = Command::new("sh");
                    command.args(["-c", &script]).stdin(OwnedFd::from(stream)).stdout(Stdio::piped());
                    command.spawn().unwrap()
                })
                .collect();
            for client in clients.iter_mut().skip(6) {
                let mut line = [0; 1];
                client.stdout.as_mut().unwrap().read_exact(&mut line).unwrap(); // it has read its part
            }
            assert!(fds(&server) > before);
            for client in &mut clients {
                client.kill().unwrap();
                client.wait().unwrap();
            }
            // `sh` may have been killed before it became `sleep`, with `head` as its child: that reads to its end.
            assert_nothing_is_held(&server, (way, round));
            wait_until("the fds are back", || fds(&server) <= before);
        }
        assert_eq!(server.number("timed_out"), 0);
        server.stop(libc::SIGTERM);
    }
}

/// No disk can be made not to answer; but what POSIX AIO says of it can be, as long as a file lies somewhere.
#[test]
fn a_disk_that_does_not_answer_is_waited_for_for_a_bounded_time() {
    let what = "httpd with a disk that does not answer";
    let Some(way) = reading_ways().find(|way| way.files == "aio") else {
        return util::skip(what, "a system, or an archive, that has POSIX AIO");
    };
    let root = fresh("silent");
    let expected = bytes(15, 1 << 18);
    std::fs::write(root.join("file.bin"), &expected).unwrap();
    std::fs::write(root.join("other.bin"), &expected).unwrap();
    let (source, library, silent) = (root.join("silent.c"), root.join("silent.so"), root.join("silent"));
    std::fs::write(
        &source,
        "#define _GNU_SOURCE\n#include <aio.h>\n#include <dlfcn.h>\n#include <errno.h>\n#include <stdlib.h>\n#include <unistd.h>\n\
         static int silent(void) { return access(getenv(\"SILENT\"), F_OK) == 0; }\n\
         int aio_error(const struct aiocb *control) {\n\
         int (*real)(const struct aiocb *) = (int (*)(const struct aiocb *))dlsym(RTLD_NEXT, \"aio_error\");\n\
         return silent() ? EINPROGRESS : real(control);\n}\n\
         int aio_cancel(int fd, struct aiocb *control) { (void)fd, (void)control; return AIO_NOTCANCELED; }\n",
    )
    .unwrap();
    let made = util::cc().args(["-shared", "-fPIC", "-w"]).arg(&source).arg("-o").arg(&library).status().unwrap();
    assert!(made.success());
    let way = Way { open: "operation", ..*way };
    let options = way.options(&root, &["--blocks", "1", "--disk-timeout-ms", "300"]);
    let mut command = Command::new(program(way.files));
    let server = Server::spawn(command.args(options).env("LD_PRELOAD", &library).env("SILENT", &silent));
    let before = fds(&server);
    std::fs::write(&silent, "").unwrap();
    let mut first = server.connect();
    first.send(&get("/file.bin", ""));
    wait_until("it reads", || server.number("operations_now") == 1);
    // There is no block for the second one, which has to be opened.
    let mut second = server.connect();
    second.send(&get("/other.bin", ""));
    assert_eq!(second.answer(503).fields["retry-after"], "1");
    second.hello();
    // The first one's is the kernel's still, but the client is free.
    first.assert_ended();
    drop((first, second));
    wait_until("the others are gone", || server.number("connections") == 2);
    let status = server.status();
    assert_eq!(
        ["timed_out", "blocks_used", "operations_now", "files_open"].map(|it| status[it].number()),
        [2, 1, 1, 1]
    );
    server.assert_at_rest();
    // It answers at last.
    std::fs::remove_file(&silent).unwrap();
    assert_nothing_is_held(&server, way);
    wait_until("the fds are back", || fds(&server) <= before);
    let mut client = server.connect();
    client.send(&get("/file.bin", "Connection: close\r\n"));
    assert_same(&client.answer(200).bytes, &expected, way);
    client.assert_ended();
    server.stop(libc::SIGTERM);
}

#[test]
fn a_file_that_shrinks_ends_the_connection() {
    let root = fresh("shrinks");
    for way in reading_ways() {
        let size = 1 << 20;
        std::fs::write(root.join("file.bin"), bytes(8, size)).unwrap();
        let server = way.start(&root, &["--request-timeout-ms", "600000", "--send-buffer", "20000"]);
        let mut client = stalled(&server, "/file.bin");
        File::options().write(true).open(root.join("file.bin")).unwrap().set_len(1000).unwrap();
        let (head, body) = receive_to_the_end(&mut client);
        assert!(head.contains(&format!("Content-Length: {size}\r\n")), "{head}");
        assert!(body.len() < size); // and so the client knows
        drop(client);
        assert_nothing_is_held(&server, way);
        assert_eq!(server.number("files_cut_short"), 1);
        server.stop(libc::SIGTERM);
    }
}

/// sysfs says a page of every file, and most have a line.
#[test]
fn what_comes_before_the_end_of_a_short_file_is_sent() {
    let root = Path::new("/sys/devices/system/cpu");
    let says = std::fs::metadata(root.join("online")).map_or(0, |it| it.len());
    if std::fs::read(root.join("online")).map_or(0, |it| it.len() as u64) >= says {
        return util::skip("httpd with a file that is shorter than it says", "Linux with sysfs");
    }
    for way in reading_ways() {
        let server = way.start(root, &[]);
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.write_all((get("/hello", "") + &get("/online", "")).as_bytes()).unwrap();
        let (head, rest) = receive_to_the_end(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200") && rest.starts_with(b"Hello, world!HTTP/1.1 200"), "{way:?}: {head}");
        assert_eq!(server.number("files_cut_short"), 1);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_file_that_grows_is_sent_as_it_was_promised() {
    let root = fresh("grows");
    for way in reading_ways() {
        let size = 1 << 20;
        let old = bytes(9, size);
        std::fs::write(root.join("file.bin"), &old).unwrap();
        let server = way.start(&root, &["--request-timeout-ms", "600000", "--send-buffer", "20000"]);
        let mut client = stalled(&server, "/file.bin");
        File::options().append(true).open(root.join("file.bin")).unwrap().write_all(&bytes(10, 100_000)).unwrap();
        assert_same(&receive_to_the_end(&mut client).1, &old, way);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_replaced_file_is_sent_as_it_was() {
    let root = fresh("replaced");
    let (old, new) = (bytes(11, 1 << 20), bytes(12, 1 << 20));
    for way in reading_ways() {
        std::fs::write(root.join("file.bin"), &old).unwrap();
        let server = way.start(&root, &["--request-timeout-ms", "600000", "--send-buffer", "20000"]);
        let mut client = stalled(&server, "/file.bin");
        std::fs::write(root.join("new.bin"), &new).unwrap();
        std::fs::rename(root.join("new.bin"), root.join("file.bin")).unwrap();
        assert_same(&receive_to_the_end(&mut client).1, &old, way);
        let mut client = server.connect();
        client.send(&get("/file.bin", ""));
        assert_same(&client.answer(200).bytes, &new, way);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_file_that_is_kept_open_is_not_out_of_date() {
    let top = fresh("kept");
    // All at once: each takes a second or two.
    std::thread::scope(|scope| {
        for (number, way) in ways().iter().filter(|way| way.backend == "epoll").enumerate() {
            let root = top.join(number.to_string());
            scope.spawn(move || kept_open(way, &root));
        }
    });
}

fn kept_open(way: &Way, root: &Path) {
    for folder in ["old", "new"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
        std::fs::write(root.join(folder).join("it"), folder).unwrap();
    }
    symlink("old", root.join("link")).unwrap();
    let file = root.join("file.txt");
    std::fs::write(&file, "one").unwrap();
    let server = way.start(root, &[]);
    let mut client = server.connect();
    client.hello();
    let before = fds(&server);
    let mut body = |path: &str, status: u16| {
        client.send(&get(path, ""));
        String::from_utf8(client.answer(status).bytes).unwrap()
    };
    // One that an operation has opened is not kept, nor one that POSIX AIO reads.
    let kept = way.files == "read" || way.open == "auto" && !way.files.starts_with("aio");
    wait_until("it is kept", || body("/file.txt", 200) == "one" && (fds(&server) > before || !kept));
    // Whatever happens to a file is seen at once, though it was open.
    File::options().append(true).open(&file).unwrap().write_all(b", two").unwrap();
    assert_eq!(body("/file.txt", 200), "one, two", "{way:?}");
    File::options().write(true).open(&file).unwrap().write_all(b"ONE").unwrap();
    assert_eq!(body("/file.txt", 200), "ONE, two", "{way:?}");
    File::options().write(true).open(&file).unwrap().set_len(3).unwrap();
    assert_eq!(body("/file.txt", 200), "ONE", "{way:?}");
    std::fs::write(root.join("next"), "three").unwrap();
    std::fs::rename(root.join("next"), &file).unwrap();
    assert_eq!(body("/file.txt", 200), "three", "{way:?}");
    std::fs::rename(&file, root.join("away")).unwrap();
    body("/file.txt", 404);
    std::fs::write(&file, "four").unwrap();
    assert_eq!(body("/file.txt", 200), "four", "{way:?}");
    std::fs::remove_file(&file).unwrap();
    body("/file.txt", 404);
    // What happens above it is seen a little later.
    assert_eq!(body("/link/it", 200), "old");
    std::fs::remove_file(root.join("link")).unwrap();
    symlink("new", root.join("link")).unwrap();
    wait_until("the link leads elsewhere", || body("/link/it", 200) == "new");
    // And nothing is kept for ever.
    wait_until("the fds are back", || fds(&server) == before);
    server.stop(libc::SIGTERM);
}

#[test]
fn without_an_fd_for_the_file_it_is_503() {
    let root = tree("no_fd");
    for way in ways() {
        let server = way.start(&root, &[]);
        let mut client = server.connect();
        client.send(&get("/style.css", "")); // what is opened once and for all, is
        client.answer(200);
        wait_until("only this connection is left", || server.number("connections") == 2);
        wait_until("the other has gone", || {
            let before = fds(&server);
            std::thread::sleep(Duration::from_millis(20));
            before == fds(&server)
        });
        let limit = |most: u64| {
            let limit = libc::rlimit { rlim_cur: most, rlim_max: 4096 };
            // SAFETY: prlimit(2) reads the one structure that it is given; the process is our child, not yet reaped.
            let result = unsafe { libc::prlimit(server.child.id(), libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        };
        limit(3);
        client.send(&get("/picture.SVG", "")); // the other one is kept open
        assert_eq!(client.answer(503).fields["retry-after"], "1");
        client.hello();
        limit(1000);
        client.send(&get("/picture.SVG", ""));
        client.answer(200);
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn a_signal_lets_a_file_in_flight_finish() {
    let root = fresh("signal");
    std::fs::write(root.join("file.bin"), bytes(13, 1 << 20)).unwrap();
    let expected = std::fs::read(root.join("file.bin")).unwrap();
    for way in reading_ways() {
        let mut server =
            way.start(&root, &["--blocks", "1", "--request-timeout-ms", "600000", "--send-buffer", "20000"]);
        let mut clients: Vec<TcpStream> = (0..3).map(|_| stalled(&server, "/file.bin")).collect();
        server.child.signal(libc::SIGTERM);
        wait_until("it has stopped accepting", || TcpStream::connect(("127.0.0.1", server.port)).is_err());
        for client in &mut clients {
            assert_same(&receive_to_the_end(client).1, &expected, way);
        }
        drop(clients);
        server.child.expect_exit(0);
    }
}

#[test]
fn a_second_signal_ends_it_with_files_in_flight() {
    let root = fresh("second_signal");
    std::fs::write(root.join("file.bin"), bytes(14, 1 << 20)).unwrap();
    for way in reading_ways() {
        let mut server = way.start(&root, &["--request-timeout-ms", "600000", "--send-buffer", "20000"]);
        let clients: Vec<TcpStream> = (0..10)
            .map(|_| {
                let mut stream = small_window(&server);
                stream.write_all(get("/file.bin", "").as_bytes()).unwrap();
                stream
            })
            .collect();
        wait_until("all have asked", || server.number("files_answered") == 10);
        server.child.signal(libc::SIGTERM);
        wait_until("it has stopped accepting", || TcpStream::connect(("127.0.0.1", server.port)).is_err());
        server.child.signal(libc::SIGTERM);
        server.child.expect_exit(1);
        drop(clients);
    }
}

#[test]
fn a_half_closed_client_gets_its_file() {
    let root = fresh("half_closed");
    std::fs::write(root.join("file.bin"), bytes(15, 1 << 20)).unwrap();
    let expected = std::fs::read(root.join("file.bin")).unwrap();
    for way in reading_ways() {
        let server = way.start(&root, &[]);
        let mut stream = server.connect().stream;
        stream.write_all(get("/file.bin", "").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_same(&receive_to_the_end(&mut stream).1, &expected, way);
        server.stop(libc::SIGTERM);
    }
}

// ------------------------------------------------------------------------------------------------ the program

#[test]
fn options_are_checked() {
    for (arguments, code, named) in [
        (&["--root"][..], 2, "--root"),
        (&["--root", "/nonexistent"], 1, "/nonexistent"),
        (&["--root", "/dev/null"], 1, "/dev/null"),
        (&["--files", "threads"], 2, "--files"),
        (&["--open", "x"], 2, "--open"),
        (&["--blocks", "0"], 2, "1 to 64"),
        (&["--blocks", "65"], 2, "1 to 64"),
        (&["--lateness-ms", "x"], 2, "--lateness-ms"),
    ] {
        let mut child = Child::start(httpd(), [&["--port", "0"], arguments].concat());
        child.expect_exit(code);
        assert!(child.err().starts_with("httpd: ") && child.err().contains(named), "{arguments:?}: {}", child.err());
        assert_eq!(child.out(), "");
    }
}

#[test]
fn lateness_is_measured() {
    let server = Server::start("poll", &["--lateness-ms", "1"]);
    wait_until("some periods have passed", || server.number("lateness_samples") >= 100);
    let status = server.status();
    let late = |name: &str| status[&format!("lateness_{name}_ns")].number();
    assert!(
        late("p50") > 0 && late("p50") <= late("p99") && late("p99") <= late("p999") && late("p999") <= late("max")
    );
    assert!(status["uptime_ns"].number() / 1_000_000 + 1 >= status["lateness_samples"].number());
    // What stands still is late once for each period that it missed.
    server.child.signal(libc::SIGSTOP);
    std::thread::sleep(A_WHILE);
    server.child.signal(libc::SIGCONT);
    let after = server.status();
    assert!(after["lateness_max_ns"].number() >= 400_000_000);
    assert!(after["lateness_samples"].number() >= status["lateness_samples"].number() + 400);
    server.stop(libc::SIGTERM);
}

/// What `make run` serves: every link leads somewhere, and nothing comes from elsewhere.
#[test]
fn the_sample_site_is_whole() {
    let server = ways()[0].start(&util::root().join("c-examples/site"), &[]);
    let mut client = server.connect();
    let mut pages = vec!["/".to_owned()];
    let mut seen = 0;
    while seen < pages.len() {
        let page = pages[seen].clone();
        seen += 1;
        client.send(&get(&page, ""));
        let answer = client.answer(200);
        if !answer.fields["content-type"].starts_with("text/html") {
            assert_ne!(answer.fields["content-type"], "application/octet-stream", "{page}");
            continue;
        }
        let text = answer.body();
        if page.starts_with("/_status") {
            continue; // it is generated, and has a test of its own
        }
        for attribute in ["href=\"", "src=\""] {
            for (at, _) in text.match_indices(attribute) {
                let link = text[at + attribute.len()..].split('"').next().unwrap();
                assert!(!link.contains(':') && !link.starts_with("//"), "{page} leads elsewhere: {link}");
                let target = match link.strip_prefix("../") {
                    Some(rest) => format!("/{rest}"), // there is one level
                    None if link.starts_with('/') => link.to_owned(),
                    None => format!("{}{link}", &page[..=page.rfind('/').unwrap()]),
                };
                if !pages.contains(&target) {
                    pages.push(target);
                }
            }
        }
    }
    assert!(pages.len() >= 6, "{pages:?}");
    server.stop(libc::SIGTERM);
}

#[test]
fn curl_agrees() {
    if !util::have("curl") {
        return util::skip("httpd with curl", "curl");
    }
    let root = tree("curl");
    let big = bytes(16, 3 << 20);
    std::fs::write(root.join("big.bin"), &big).unwrap();
    let folder = fresh("curl_out");
    for way in reading_ways() {
        let server = way.start(&root, &[]);
        let address = format!("http://127.0.0.1:{}", server.port);
        let curl = |arguments: &[&str], path: &str| {
            let mut command = Command::new("curl");
            command.current_dir(&folder).args(["-sS", "--noproxy", "*", "--max-time", "60"]).args(arguments);
            let output = command.arg(format!("{address}{path}")).output().unwrap();
            assert!(output.status.success(), "{arguments:?} {path}: {}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        assert_same(&curl(&[], "/big.bin"), &big, way);
        assert_same(&curl(&["-r", "1000-2000999"], "/big.bin"), &big[1000..=2_000_999], way);
        assert_same(&curl(&["-r", "-7"], "/big.bin"), &big[big.len() - 7..], way);
        std::fs::write(folder.join("part"), &big[..123_456]).unwrap();
        curl(&["-C", "-", "-o", "part"], "/big.bin"); // resumes
        assert_same(&std::fs::read(folder.join("part")).unwrap(), &big, way);
        assert_same(&curl(&["-L"], "/dir"), b"root/dir/index.html", way);
        let code = |arguments: &[&str], path: &str| {
            let arguments = [&["-o", "ignored", "-w", "%{http_code}"], arguments].concat();
            String::from_utf8(curl(&arguments, path)).unwrap()
        };
        assert_eq!(code(&["--path-as-is"], "/../secret"), "403");
        assert_eq!(code(&["-I"], "/big.bin"), "200");
        assert_eq!(code(&["-r", "9999999-"], "/big.bin"), "416");
        let _ = std::fs::remove_file(folder.join("etag"));
        curl(&["--etag-save", "etag", "-o", "copy"], "/big.bin");
        assert_eq!(code(&["--etag-compare", "etag"], "/big.bin"), "304");
        assert_eq!(code(&["-z", "copy"], "/big.bin"), "304");
        server.stop(libc::SIGTERM);
    }
}

#[test]
fn wrk_sees_no_error() {
    if !util::have("wrk") {
        return util::skip("httpd under wrk", "wrk");
    }
    let root = tree("wrk");
    std::fs::write(root.join("big.bin"), bytes(17, 200_000)).unwrap();
    for way in reading_ways() {
        let server = way.start(&root, &["--blocks", "4"]);
        for path in ["style.css", "big.bin"] {
            let address = format!("http://127.0.0.1:{}/{path}", server.port);
            let output = Command::new("wrk").args(["-t1", "-c32", "-d1s", &address]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("Requests/sec"), "{said}");
            // A timeout says that the machine is busy, and nothing else.
            let lost = said.lines().find(|line| line.contains("Socket errors"));
            let lost = lost.is_some_and(|line| !line.contains("connect 0, read 0, write 0"));
            assert!(!lost && !said.contains("Non-2xx"), "{way:?} {path}: {said}");
        }
        assert_nothing_is_held(&server, way);
        server.stop(libc::SIGTERM);
    }
}
