//! The head of a request, c-examples/http_request.h, from any bytes. Checked besides what the sanitizers see:
//!
//! - what comes in pieces, down to single bytes, ends as what comes whole, and as early as it can; and no byte is looked
//!   at that has not arrived;
//! - a head that is taken ends within the bytes given, and is what RFC 9112 calls one, judged by other code;
//! - a refusal is one of the statuses that the server knows;
//! - what the head means for a file, c-examples/http_file.h, is an answer about bytes that the file has; and what its path
//!   decodes to is no longer than it was, and has no NUL.
//!
//! In the input, the bytes 255, n, c stand for 64 (n + 1) times c: so the limits are near.
#![no_main]

use libfuzzer_sys::fuzz_target;

const HEAD_MAX: usize = 12288;
const LINE_MAX: usize = 8000;
const FIELDS_MAX: u32 = 100;

/// What a request says of itself: `struct facts` in parser.c.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Facts {
    content_length: u64,
    line: u32,
    scanned: u32,
    path: u32,
    path_size: u32,
    fields: u32,
    method: u8,
    minor: u8,
    has_line: bool,
    has_host: bool,
    has_length: bool,
    has_encoding: bool,
    close: bool,
    keep_alive: bool,
    expect_continue: bool,
    persists: bool,
    /// Of each name in `CONDITIONS`: whether it is there, where its value is, its size.
    conditions: [[u32; 3]; 6],
}

/// In the order of `enum http_condition`.
const CONDITIONS: [&str; 6] =
    ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"];

unsafe extern "C" {
    fn parser_bytes() -> usize;
    fn parser_parse(request: *mut u64, head: *const u8, size: usize, capacity: usize) -> i32;
    fn parser_facts(request: *const u64, facts: *mut Facts);
    fn parser_file(request: *const u64, head: *const u8, size: u64, first: *mut u64, end: *mut u64) -> i32;
    fn parser_path(request: *const u64, head: *mut u8) -> i32;
}

/// A `struct http_request`.
struct Parser(Vec<u64>);

impl Parser {
    fn new() -> Parser {
        // SAFETY: no precondition.
        Parser(vec![0; unsafe { parser_bytes() }.div_ceil(8)])
    }

    /// Parses on: the first `size` bytes have arrived.
    fn parse(&mut self, head: &[u8], size: usize) -> i32 {
        assert!(size <= head.len());
        // SAFETY: the struct is as large as C says, and `head` has the bytes.
        unsafe { parser_parse(self.0.as_mut_ptr(), head.as_ptr(), size, head.len()) }
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts::default();
        // SAFETY: both are what C takes them for.
        unsafe { parser_facts(self.0.as_ptr(), &raw mut facts) };
        facts
    }

    /// What the head means for a file of that size: a status, and its bytes from here to there.
    fn file(&self, head: &[u8], size: u64) -> (i32, u64, u64) {
        let (mut first, mut end) = (0, 0);
        // SAFETY: the request was parsed from these bytes, and is complete.
        let status = unsafe { parser_file(self.0.as_ptr(), head.as_ptr(), size, &raw mut first, &raw mut end) };
        (status, first, end)
    }

    /// The path, decoded; or the status that refuses it.
    fn path(&self, head: &[u8]) -> Result<Vec<u8>, i32> {
        let mut head = head.to_vec();
        // SAFETY: as above; the bytes are ours.
        let size = unsafe { parser_path(self.0.as_ptr(), head.as_mut_ptr()) };
        let size = usize::try_from(size).map_err(|_| -size)?;
        Ok(head[self.facts().path as usize..][..size].to_vec())
    }
}

fuzz_target!(|input: &[u8]| {
    let bytes = expand(input);
    let mut rest = &bytes[..];
    // What follows a request is the next one.
    while !rest.is_empty() {
        let taken = request(rest);
        if taken == 0 {
            break;
        }
        rest = &rest[taken..];
    }
});

fn expand(input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(input.len());
    let mut at = 0;
    while at < input.len() && bytes.len() <= HEAD_MAX + 256 {
        match input[at..] {
            [255, count, byte, ..] => {
                bytes.resize(bytes.len() + 64 * (usize::from(count) + 1), byte);
                at += 3;
            }
            [byte, ..] => {
                bytes.push(byte);
                at += 1;
            }
            [] => unreachable!("the index is below the length"),
        }
    }
    bytes
}

/// One request, whole and in pieces. The size of its head; 0: it is not complete, or refused.
fn request(bytes: &[u8]) -> usize {
    let mut whole = Parser::new();
    let answer = whole.parse(bytes, bytes.len());
    let facts = whole.facts();
    if answer > 0 {
        let head = bytes[..answer as usize].to_vec(); // of its own, so that the sanitizer sees where it ends
        judge(&head, &facts);
        file(&whole, &head, &facts);
    } else {
        assert!(matches!(-answer, 0 | 400 | 414 | 417 | 431 | 501 | 505), "status {}", -answer);
        assert!(answer != 0 || bytes.len() < HEAD_MAX, "no end to a head of {} bytes", bytes.len());
    }
    // Single bytes; then pieces of growing sizes.
    for step in [0, 1, 7] {
        pieces(bytes, step, answer, &facts);
    }
    answer.max(0) as usize
}

/// What is said of files of any size.
fn file(parser: &Parser, head: &[u8], facts: &Facts) {
    for size in [0, 1, 100, u64::MAX] {
        let (status, first, end) = parser.file(head, size);
        assert!(matches!(status, 200 | 206 | 304 | 412 | 416), "status {status}");
        assert!(first <= end && end <= size, "bytes {first} to {end} of {size}");
        assert!(status == 206 || (first, end) == (0, size));
        assert!(status != 206 || first < end && facts.method == 1 && facts.conditions[5][0] == 1);
    }
    match parser.path(head) {
        Ok(path) => assert!(path.len() <= facts.path_size as usize && !path.contains(&0)),
        Err(status) => assert!(matches!(status, 400 | 404), "status {status}"),
    }
}

fn pieces(bytes: &[u8], step: usize, whole: i32, facts: &Facts) {
    let mut parser = Parser::new();
    let (mut size, mut piece) = (0, 1);
    let answer = loop {
        let answer = parser.parse(bytes, size);
        if answer != 0 || size == bytes.len() {
            break answer;
        }
        size = bytes.len().min(size + piece);
        piece += step;
    };
    assert_eq!(answer, whole, "in pieces that grow by {step}, and whole");
    if answer < 0 {
        return; // what was found before the refusal is of no interest
    }
    assert_eq!(Facts { scanned: 0, ..parser.facts() }, Facts { scanned: 0, ..*facts }, "pieces that grow by {step}");
    if answer > 0 && step == 0 {
        assert_eq!(answer as usize, size, "the head was complete before");
    }
}

/// Whether a head that was taken is one, and means what the parser says.
fn judge(head: &[u8], facts: &Facts) {
    assert!(head.len() <= HEAD_MAX);
    assert_eq!(facts.line as usize, head.len());
    let text = head.strip_suffix(b"\r\n\r\n").expect("an empty line ends a head");
    let mut lines = split(text, b"\r\n").skip_while(|line| line.is_empty());
    let line = lines.next().expect("a head has a request line");
    assert!(line.len() <= LINE_MAX);

    let parts: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = parts[..] else { panic!("a request line of {} parts", parts.len()) };
    assert!(is_token(method));
    match facts.method {
        0 | 3 => assert!(method != b"GET" && method != b"HEAD"),
        1 => assert_eq!(method, b"GET"),
        2 => assert_eq!(method, b"HEAD"),
        other => panic!("method {other}"),
    }
    assert_eq!(version, [b"HTTP/1.", &[b'0' + facts.minor][..]].concat());
    assert!(facts.minor <= 9);
    assert!(target.iter().all(|byte| (b'!'..=b'~').contains(byte) && *byte != b'#'));
    let path = &head[facts.path as usize..][..facts.path_size as usize];
    let start = target.as_ptr() as usize - head.as_ptr() as usize;
    assert!(facts.path as usize >= start && facts.path as usize + path.len() <= start + target.len());
    assert!(!path.contains(&b'?'));
    if facts.method != 3 && facts.method != 0 {
        assert!(path.is_empty() || path[0] == b'/');
    }

    let (mut fields, mut hosts, mut lengths) = (0, 0, Vec::new());
    let mut conditions = [const { Vec::new() }; CONDITIONS.len()];
    let (mut close, mut keep_alive, mut expect) = (false, false, false);
    for line in lines {
        fields += 1;
        let colon = line.iter().position(|&byte| byte == b':').expect("a field has a colon");
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        assert!(is_token(name));
        assert!(value.iter().all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f));
        match &name.to_ascii_lowercase()[..] {
            b"host" => hosts += 1,
            b"content-length" => lengths.push(value),
            b"transfer-encoding" => panic!("an encoding was taken"),
            b"connection" => {
                for option in value.split(|&byte| byte == b',').map(trim) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            b"expect" => {
                assert!(value.eq_ignore_ascii_case(b"100-continue"));
                expect = facts.minor > 0;
            }
            name => {
                if let Some(which) = CONDITIONS.iter().position(|condition| condition.as_bytes() == name) {
                    conditions[which].push(value);
                }
            }
        }
    }
    for (values, [present, at, size]) in conditions.iter().zip(facts.conditions) {
        assert_eq!(present != 0, !values.is_empty());
        let Some(value) = values.last() else { continue };
        // Twice means nothing.
        assert_eq!(size as usize, if values.len() == 1 { value.len() } else { 0 });
        assert!(values.len() > 1 || &head[at as usize..][..size as usize] == *value);
    }
    assert_eq!(facts.fields, fields);
    assert!(fields <= FIELDS_MAX);
    assert!(hosts == 1 || hosts == 0 && facts.minor == 0);
    assert_eq!(facts.has_host, hosts == 1);
    assert!(facts.has_line && !facts.has_encoding);
    assert!(lengths.len() <= 1);
    assert_eq!(facts.has_length, lengths.len() == 1);
    let length = lengths.first().map_or(0, |digits| {
        assert!(!digits.is_empty());
        digits.iter().fold(0_u64, |sum, digit| {
            assert!(digit.is_ascii_digit());
            sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
        })
    });
    assert_eq!(facts.content_length, length);
    assert_eq!((facts.close, facts.keep_alive, facts.expect_continue), (close, keep_alive, expect));
    assert_eq!(facts.persists, !close && (facts.minor > 0 || keep_alive));
}

/// The pieces between separators, which are what no piece holds any byte of.
fn split<'a>(text: &'a [u8], separator: &'static [u8; 2]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        let end = text.windows(2).position(|two| two == separator);
        rest = end.map(|end| &text[end + 2..]);
        let piece = &text[..end.unwrap_or(text.len())];
        assert!(!piece.iter().any(|byte| separator.contains(byte)), "a bare CR or LF");
        Some(piece)
    })
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}
