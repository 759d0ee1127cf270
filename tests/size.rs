//! The size of becket stays inside its promises: 16 KiB of text in an echo server (poll alone, stripped), 80 bytes a
//! source, 24 a post. How it is measured is told in `tests/size.sh`.

mod util;

#[cfg(target_os = "linux")]
#[test]
fn becket_stays_small() {
    let _ = util::archive(); // The programs are not needed, but nobody else may run make meanwhile.
    let output = util::make().args(["-s", "size"]).output().expect("make can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "make size failed:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    let number = |name: &str| -> u64 {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let value = lines.find(|(key, _)| *key == name).unwrap_or_else(|| panic!("no {name} in\n{text}")).1;
        value.parse().unwrap_or_else(|_| panic!("{name} is no number in\n{text}"))
    };
    // A measurement that sees nothing must not pass.
    assert!(number("text") > 1024, "{text}");
    assert!(number("text") <= 16 * 1024, "{text}");
    assert!(number("source") > 0 && number("source") <= 80, "{text}");
    assert!(number("post") > 0 && number("post") <= 24, "{text}");
    assert!(number("loop") > 0 && number("loop") <= 4096, "{text}");

    // What was not asked for is not in it, not even as a name: neither of their system calls, nor of their strings.
    let bytes = |archive: &str| std::fs::read(util::root().join("build").join(archive)).expect("an archive");
    let names = |bytes: &[u8], name: &str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
    let (small, whole) = (bytes("libbecket-poll.a"), bytes("libbecket.a"));
    for name in ["epoll", "io_uring", "select", "simulator"] {
        assert!(names(&whole, name) && !names(&small, name), "{name}");
    }
}
