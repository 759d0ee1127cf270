//! Operations: every call on every backend, with each engine for files; cancelling, deadlines, draining, dropping.

use crate::harness::*;
use becket::{
    Address, Aio, BackendChoice, Buffer, Config, Duration, Error, FileStatus, FilesChoice, Handle, Handler, Kind,
    Kinds, Loop, Message, OpenHow, Outcome, Part, Ready, Storage, Vectors,
};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Who tells what is ready, and who reads and writes files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Engines {
    backend: BackendChoice,
    files: FilesChoice,
}

/// Whether both can be tested here.
fn has(engines: Engines) -> bool {
    crate::harness::has(engines.backend)
        && match engines.files {
            FilesChoice::IoUring => crate::harness::has(BackendChoice::IoUring),
            FilesChoice::Aio | FilesChoice::AioSignal => has_aio(),
            _ => true,
        }
}

/// Whether POSIX AIO is built in, and the system has it. Says so once.
fn has_aio() -> bool {
    static HAS_AIO: OnceLock<bool> = OnceLock::new();
    *HAS_AIO.get_or_init(|| {
        let config = Config { files: FilesChoice::Aio, ..Config::default() };
        // (Without memory for it, it is refused for want of that.)
        let storage = Box::leak(Box::new(Storage::<1, 0, 1>::new()));
        let has = !matches!(Loop::<()>::new(storage, &config), Err(Error::UNSUPPORTED));
        if !has {
            let _ = writeln!(std::io::stderr(), "skipped: tests of POSIX AIO (build with --features aio)");
        }
        has
    })
}

/// Makes each of these functions a test with each engine for files on each backend.
macro_rules! each_engine {
    (@on $module:ident $files:ident $run:ident $tests:tt) => {
        mod $module {
            use super::super::{Engines, has};
            use becket::{BackendChoice, FilesChoice};
            each_engine!(@backend select Select $files $run $tests);
            each_engine!(@backend poll Poll $files $run $tests);
            each_engine!(@backend epoll Epoll $files $run $tests);
            each_engine!(@backend uring IoUring $files $run $tests);
        }
    };
    (@backend $module:ident $backend:ident $files:ident $run:ident [$($test:ident)*]) => {
        mod $module {
            use super::{BackendChoice, Engines, FilesChoice, has};
            const ENGINES: Engines = Engines { backend: BackendChoice::$backend, files: FilesChoice::$files };
            $(#[test]
            fn $test() {
                if has(ENGINES) {
                    $crate::harness::$run(concat!(module_path!(), "::", stringify!($test)), || {
                        super::super::super::$test(ENGINES);
                    });
                }
            })*
        }
    };
    (files: $($test:ident)*) => {
        mod with {
            each_engine!(@on ring IoUring guarded [$($test)*]);
            each_engine!(@on aio Aio guarded [$($test)*]);
            // A signal is the whole process's: it would disturb others' waits.
            each_engine!(@on aio_signal AioSignal alone [$($test)*]);
        }
    };
    (files, alone: $($test:ident)*) => {
        mod alone {
            each_engine!(@on ring IoUring alone [$($test)*]);
            each_engine!(@on aio Aio alone [$($test)*]);
            each_engine!(@on aio_signal AioSignal alone [$($test)*]);
        }
    };
    (aio: $($test:ident)*) => {
        mod aio {
            each_engine!(@on asked Aio guarded [$($test)*]);
            each_engine!(@on told AioSignal alone [$($test)*]);
        }
    };
    (aio signal: $($test:ident)*) => {
        mod aio_signal {
            each_engine!(@on told AioSignal alone [$($test)*]);
        }
    };
    (all, alone: $($test:ident)*) => {
        mod all_alone {
            each_engine!(@on ring IoUring alone [$($test)*]);
            each_engine!(@on aio Aio alone [$($test)*]);
            each_engine!(@on aio_signal AioSignal alone [$($test)*]);
            each_engine!(@on nobody None alone [$($test)*]);
        }
    };
    (all: $($test:ident)*) => {
        mod all {
            each_engine!(@on ring IoUring guarded [$($test)*]);
            each_engine!(@on aio Aio guarded [$($test)*]);
            each_engine!(@on aio_signal AioSignal guarded [$($test)*]); // (these send none)
            each_engine!(@on nobody None guarded [$($test)*]);
        }
    };
}

each_engine! { files:
    files_are_read_and_written
    files_are_opened_and_closed
    files_are_opened_beneath_a_folder
    the_own_position_moves
    parts_are_read_and_written
    a_status_is_told
    what_fails_says_so
    their_descriptor_is_watched_while_they_have_something
    many_reads_are_in_flight
    a_read_of_a_file_ends_once_when_cancelled
    a_drain_reaps_files
    files_go_on_beside_a_signal
    more_are_submitted_than_a_ring_holds
    a_file_that_says_it_does_not_block_is_read
}

each_engine! { files, alone:
    a_dropped_loop_closes_what_was_opened
    files_are_read_where_poll_has_no_place_for_their_ring
}

// (No other test may open the fd again that it has closed.)
each_engine! { all, alone:
    who_waits_for_a_closed_fd_is_told
    what_cannot_be_waited_for_is_not_begun
    the_last_place_that_poll_can_look_at
}

each_engine! { aio:
    vectors_are_made_one_after_the_other
    what_aio_has_not_is_made_inline
    more_wait_for_a_control_block
    without_memory_there_is_none
}

each_engine! { aio signal:
    a_lost_signal_is_made_up_for
    a_source_for_another_signal_counts_its_own
    the_signal_is_taken_and_given_back
}

each_engine! { all:
    sockets_exchange
    a_wait_ends_with_data
    a_wait_for_what_is_not_there_sleeps
    a_full_table_of_sources_stays_beside_a_wait
    a_connection_is_accepted_and_made
    a_refused_connect_says_so
    blocking_sockets_do_not_block
    pipes_are_read_and_written
    pipes_have_parts
    a_blocking_pipe_takes_what_fits
    a_full_table_is_back_pressure
    a_handler_submits_the_next_with_a_table_of_one
    a_completed_operation_is_stale
    a_cancelled_wait_says_so
    cancelling_is_too_late
    a_deadline_ends_a_wait
    a_completion_beats_its_deadline
    a_deadline_is_taken_away
    several_wait_in_order
    nobody_overtakes_one_that_needs_more
    both_directions_wait
    messages_are_answered
    messages_carry_descriptors
    a_message_that_did_not_come_is_nothing
    an_operation_waits_beside_a_source
    others_are_told_while_one_waits
    a_source_comes_and_goes_around_a_wait
    a_paused_source_stays_silent_beside_a_wait
    a_close_of_a_watched_fd_is_busy
    a_number_that_is_used_again_is_another_file
    a_drain_cancels_waits
    a_drain_after_a_stop_keeps_it
    a_drain_in_a_handler
    a_drain_leaves_other_events
    a_drain_that_has_to_give_up
    a_drained_loop_accepts_again
    a_dropped_loop_gives_its_memory_back
    levels_and_handlers
    an_operation_keeps_the_loop_alive
    operations_are_pulled_and_dispatched
    a_source_is_no_operation
    bad_arguments_change_nothing
    the_peers_end_is_told
    retries_are_no_stale_events
    more_wait_than_fds_are_remembered
}

const BIG: usize = 1 << 16;

fn buffer<const N: usize>() -> &'static Buffer {
    Box::leak(Box::new(Buffer::new([0; N])))
}

/// A message that lives for ever.
fn message<const PARTS: usize, const CONTROL: usize>() -> &'static Buffer<Message<PARTS, CONTROL>> {
    Box::leak(Box::new(Buffer::new(Message::new())))
}

fn holding(bytes: &[u8]) -> &'static Buffer {
    let buffer: &'static Buffer = buffer::<4096>();
    buffer.with(|it| it[..bytes.len()].copy_from_slice(bytes)).unwrap();
    buffer
}

fn content(buffer: &'static Buffer, length: usize) -> Vec<u8> {
    buffer.with(|bytes| bytes[..length].to_vec()).expect("it came back")
}

fn config(engines: Engines) -> Config {
    Config { backend: engines.backend, files: engines.files, ..Config::default() }
}

fn rig(engines: Engines) -> Rig {
    rig_of::<16>(&config(engines))
}

fn rig_of<const O: usize>(config: &Config) -> Rig {
    let storage = Box::leak(Box::new(Storage::<8, 8, O>::new()));
    let event_loop = match config.files {
        FilesChoice::Aio | FilesChoice::AioSignal => {
            Loop::with_aio(storage, Box::leak(Box::new(Aio::<64>::new())), config)
        }
        _ => Loop::new(storage, config),
    };
    Rig { event_loop: event_loop.expect("a loop"), app: App::default() }
}

fn virtual_rig(engines: Engines) -> Rig {
    rig_of::<16>(&Config { virtual_clock: true, ..config(engines) })
}

/// A name for the trace, and then a submission.
fn submit(
    rig: &mut Rig,
    name: &str,
    action: impl FnMut(&mut App, &Loop<App>, becket::Event) + 'static,
    submit: impl FnOnce(&Loop<'static, App>, Handler<'static, App>, usize) -> becket::Result<Handle>,
) -> becket::Result<Handle> {
    let token = rig.app.token(name, action);
    let handle = submit(&rig.event_loop, handler, token)?;
    Ok(rig.app.named(token, handle))
}

fn recv(rig: &mut Rig, name: &str, fd: &impl AsRawFd, buffer: &'static Buffer) -> Handle {
    let fd = fd.as_raw_fd();
    submit(rig, name, nothing, |it, handler, token| it.recv(fd, buffer, 0..4096, 0, handler, token)).expect("accepted")
}

fn send(rig: &mut Rig, name: &str, fd: &impl AsRawFd, bytes: &[u8]) -> Handle {
    let (fd, length) = (fd.as_raw_fd(), bytes.len());
    let buffer = holding(bytes);
    submit(rig, name, nothing, |it, handler, token| it.send(fd, buffer, 0..length, 0, handler, token))
        .expect("accepted")
}

fn read(
    rig: &mut Rig,
    name: &str,
    fd: &impl AsRawFd,
    buffer: &'static Buffer,
    length: usize,
    at: Option<u64>,
) -> Handle {
    let fd = fd.as_raw_fd();
    submit(rig, name, nothing, |it, handler, token| it.read(fd, buffer, 0..length, at, handler, token))
        .expect("accepted")
}

fn write(rig: &mut Rig, name: &str, fd: &impl AsRawFd, bytes: &[u8], at: Option<u64>) -> Handle {
    let (fd, length) = (fd.as_raw_fd(), bytes.len());
    let buffer = holding(bytes);
    submit(rig, name, nothing, |it, handler, token| it.write(fd, buffer, 0..length, at, handler, token))
        .expect("accepted")
}

fn cancel(rig: &Rig, operation: Handle) {
    rig.event_loop.cancel(operation).expect("it is in flight");
}

/// Turns until the trace has so many entries.
fn until(rig: &mut Rig, count: usize) -> Vec<String> {
    while rig.app.trace.len() < count {
        rig.event_loop.turn(&mut rig.app, Duration::FOREVER).expect("a turn");
    }
    rig.trace()
}

fn sorted(mut trace: Vec<String>) -> Vec<String> {
    trace.sort();
    trace
}

/// No operation is left, and the next turn has nothing.
fn assert_quiet(rig: &mut Rig) {
    assert_eq!(rig.event_loop.statistics().operations_now, 0);
    assert_eq!(rig.turns(2), [""; 0]);
}

fn errno(error: Error) -> i32 {
    -error.errno()
}

/// A folder that is gone when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, engines: Engines) -> Folder {
        let folder = std::env::temp_dir().join(format!(
            "becket-operations-{}-{name}-{:?}-{:?}",
            std::process::id(),
            engines.backend,
            engines.files
        ));
        std::fs::create_dir_all(&folder).expect("a folder");
        Folder(folder)
    }

    fn file(&self, content: &[u8]) -> File {
        let path = self.0.join("file");
        std::fs::write(&path, content).expect("a file");
        File::options().read(true).write(true).open(path).expect("it opens")
    }

    fn path(&self, name: &str) -> &'static Buffer {
        let path = CString::new(self.0.join(name).to_str().unwrap()).unwrap();
        holding(path.as_bytes_with_nul())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pair() -> (UnixStream, UnixStream) {
    crate::harness::pair()
}

// ---- Files ----

fn files_are_read_and_written(engines: Engines) {
    let folder = Folder::new("files", engines);
    let file = folder.file(b"hello world");
    let mut rig = rig(engines);
    let name = match engines.files {
        FilesChoice::Aio => "aio",
        FilesChoice::AioSignal => "aio-signal",
        _ => "io_uring",
    };
    assert_eq!(rig.event_loop.files(), (name, ""));
    let bytes = buffer::<4096>();
    read(&mut rig, "read", &file, bytes, 5, Some(6));
    assert!(bytes.is_lent() && bytes.with(|_| ()) == Err(Error::BUSY), "it is the operation's");
    assert_eq!(until(&mut rig, 1), ["read 5"]);
    assert_eq!(content(bytes, 5), b"world");
    write(&mut rig, "write", &file, b"HELLO", Some(0));
    assert_eq!(until(&mut rig, 1), ["write 5"]);
    for data_only in [false, true] {
        let fd = file.as_raw_fd();
        submit(&mut rig, "fsync", nothing, |it, handler, token| it.fsync(fd, data_only, handler, token)).unwrap();
        assert_eq!(until(&mut rig, 1), ["fsync 0"]);
    }
    read(&mut rig, "read", &file, bytes, 4096, Some(0));
    assert_eq!(until(&mut rig, 1), ["read 11"]);
    assert_eq!(content(bytes, 11), b"HELLO world");
    read(&mut rig, "end", &file, bytes, 4096, Some(11));
    assert_eq!(until(&mut rig, 1), ["end 0"]);
    read(&mut rig, "nothing", &file, bytes, 0, Some(0));
    assert_eq!(until(&mut rig, 1), ["nothing 0"]);
    let statistics = rig.event_loop.statistics();
    assert_eq!((statistics.operations, statistics.operations_inline), (7, 0));
    assert_eq!(statistics.events_of(Kind::Operation), 7);
    assert_quiet(&mut rig);
}

fn files_are_opened_and_closed(engines: Engines) {
    let folder = Folder::new("open", engines);
    drop(folder.file(b"content"));
    let mut rig = rig(engines);
    let open = |rig: &mut Rig, path: &'static Buffer, flags, mode| {
        let action = |app: &mut App, _: &Loop<App>, event: becket::Event| {
            assert_eq!(event.fd, -1, "it has no fd of its own");
            app.trace.pop();
            app.note(if event.value >= 0 { "open".into() } else { format!("open {}", event.value) });
            app.note(event.value.to_string());
        };
        submit(rig, "open", action, |it, handler, token| it.open(libc::AT_FDCWD, path, flags, mode, handler, token))
            .expect("accepted");
        let trace = until(rig, 2);
        (trace[0].clone(), trace[1].parse::<i32>().unwrap())
    };
    let (text, fd) = open(&mut rig, folder.path("file"), libc::O_RDONLY, 0);
    assert_eq!(text, "open");
    // SAFETY: no pointer is passed.
    assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, libc::FD_CLOEXEC);
    // (The number alone tells nothing: another test may have it a moment after it is free.)
    let file = || std::fs::read_link(format!("/proc/self/fd/{fd}"));
    let named = folder.0.join("file").canonicalize().unwrap();
    assert_eq!(file().unwrap(), named);
    let bytes = buffer::<4096>();
    submit(&mut rig, "read", nothing, |it, handler, token| it.read(fd, bytes, 0..4096, Some(3), handler, token))
        .unwrap();
    assert_eq!(until(&mut rig, 1), ["read 4"]);
    submit(&mut rig, "close", nothing, |it, handler, token| it.close(fd, handler, token)).unwrap();
    assert_eq!(until(&mut rig, 1), ["close 0"]);
    assert_ne!(file().ok(), Some(named), "it is closed");

    let (text, fd) = open(&mut rig, folder.path("new"), libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o640);
    assert_eq!(text, "open");
    // SAFETY: it is ours.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(folder.0.join("new")).unwrap().permissions().mode();
    assert_eq!(mode & 0o740, 0o640, "but for the umask");
    assert_eq!(
        open(&mut rig, folder.path("new"), libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o640).0,
        format!("open {}", -libc::EEXIST)
    );
    assert_eq!(open(&mut rig, folder.path("none"), libc::O_RDONLY, 0).0, format!("open {}", -libc::ENOENT));
    // In a folder that is open.
    let dir = File::open(&folder.0).unwrap();
    let fd = dir.as_raw_fd();
    submit(&mut rig, "open", nothing, |it, handler, token| it.open(fd, c"file", libc::O_PATH, 0, handler, token))
        .unwrap();
    let trace = until(&mut rig, 1);
    let fd: i32 = trace[0].trim_start_matches("open ").parse().unwrap();
    assert!(fd >= 0, "{trace:?}");
    // SAFETY: it is ours.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    assert_quiet(&mut rig);
}

fn files_are_opened_beneath_a_folder(engines: Engines) {
    const RESOLVE_BENEATH: u64 = 0x08;
    static HOW: OpenHow =
        OpenHow { flags: (libc::O_RDONLY | libc::O_CLOEXEC) as u64, mode: 0, resolve: RESOLVE_BENEATH };
    let folder = Folder::new("beneath", engines);
    drop(folder.file(b"content"));
    let mut rig = rig(engines);
    let dir = File::open(&folder.0).unwrap();
    let fd = dir.as_raw_fd();
    submit(&mut rig, "open", nothing, |it, handler, token| it.open_how(fd, c"file", &HOW, handler, token)).unwrap();
    let trace = until(&mut rig, 1);
    let opened: i32 = trace[0].trim_start_matches("open ").parse().unwrap();
    if opened == -libc::ENOSYS {
        return; // before Linux 5.6
    }
    assert!(opened >= 0, "{trace:?}");
    // SAFETY: it is ours.
    let mut file = unsafe { File::from_raw_fd(opened) };
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    let path = holding(b"../beneath\0");
    submit(&mut rig, "open", nothing, |it, handler, token| it.open_how(fd, path, &HOW, handler, token)).unwrap();
    assert!(path.is_lent());
    assert_eq!(until(&mut rig, 1), [format!("open {}", -libc::EXDEV)]);
    assert!(!path.is_lent());
    assert_quiet(&mut rig);
}

fn the_own_position_moves(engines: Engines) {
    let folder = Folder::new("position", engines);
    let file = folder.file(b"abcdef");
    let mut rig = rig(engines);
    let bytes = buffer::<4096>();
    for part in [b"ab", b"cd", b"ef"] {
        read(&mut rig, "read", &file, bytes, 2, None);
        assert_eq!(until(&mut rig, 1), ["read 2"]);
        assert_eq!(content(bytes, 2), part);
    }
    write(&mut rig, "write", &file, b"gh", None);
    assert_eq!(until(&mut rig, 1), ["write 2"]);
    assert_eq!(std::fs::read(folder.0.join("file")).unwrap(), b"abcdefgh");
}

fn parts_are_read_and_written(engines: Engines) {
    let folder = Folder::new("parts", engines);
    let file = folder.file(b"0123456789");
    let mut rig = rig(engines);
    let vectors: &'static Buffer<Vectors<3>> = Box::leak(Box::new(Buffer::new(Vectors::new())));
    let (a, b) = (buffer::<4096>(), buffer::<4096>());
    let parts = [Part { buffer: a, range: 0..3 }, Part { buffer: b, range: 1..5 }];
    let fd = file.as_raw_fd();
    submit(&mut rig, "read", nothing, |it, handler, token| it.read_parts(fd, vectors, &parts, Some(1), handler, token))
        .unwrap();
    assert!(a.is_lent() && b.is_lent() && vectors.is_lent());
    assert_eq!(until(&mut rig, 1), ["read 7"]);
    assert_eq!((content(a, 3), content(b, 5)), (b"123".to_vec(), b"\x004567".to_vec()));
    submit(&mut rig, "write", nothing, |it, handler, token| {
        it.write_parts(fd, vectors, &parts, Some(8), handler, token)
    })
    .unwrap();
    assert_eq!(until(&mut rig, 1), ["write 7"]);
    assert_eq!(std::fs::read(folder.0.join("file")).unwrap(), b"012345671234567");
    // Sockets too.
    let (ours, mut theirs) = pair();
    let fd = ours.as_raw_fd();
    submit(&mut rig, "write", nothing, |it, handler, token| it.write_parts(fd, vectors, &parts, None, handler, token))
        .unwrap();
    assert_eq!(until(&mut rig, 1), ["write 7"]);
    let mut bytes = [0; 16];
    assert_eq!(theirs.read(&mut bytes).unwrap(), 7);
    assert_eq!(&bytes[..7], b"1234567");
    submit(&mut rig, "read", nothing, |it, handler, token| it.read_parts(fd, vectors, &parts, None, handler, token))
        .unwrap();
    assert_eq!(rig.turn(), [""; 0]);
    theirs.write_all(b"xyz1").unwrap();
    assert_eq!(until(&mut rig, 1), ["read 4"]);
    assert_eq!((content(a, 3), content(b, 2)), (b"xyz".to_vec(), b"\x001".to_vec()));
    // One that is in use twice, or too many, and nothing is lent after that.
    let twice = [Part { buffer: a, range: 0..3 }, Part { buffer: a, range: 3..5 }];
    let refused = rig.event_loop.read_parts(fd, vectors, &twice, None, handler, 0);
    assert_eq!(refused, Err(Error::BUSY));
    let four = [parts[0].clone(), parts[1].clone(), parts[0].clone(), parts[1].clone()];
    assert_eq!(rig.event_loop.read_parts(fd, vectors, &four, None, handler, 0), Err(Error::INVALID));
    assert!(!a.is_lent() && !b.is_lent() && !vectors.is_lent());
    assert_quiet(&mut rig);
}

fn a_status_is_told(engines: Engines) {
    let folder = Folder::new("status", engines);
    drop(folder.file(&[7; 1234]));
    let mut rig = rig(engines);
    let status: &'static Buffer<FileStatus> = Box::leak(Box::new(Buffer::new(FileStatus::new())));
    let path = folder.path("file");
    let statx = |rig: &mut Rig, path: &'static Buffer| {
        let mask = libc::STATX_BASIC_STATS;
        submit(rig, "statx", nothing, |it, handler, token| {
            it.statx(libc::AT_FDCWD, path, 0, mask, status, handler, token)
        })
        .unwrap();
        until(rig, 1)
    };
    assert_eq!(statx(&mut rig, path), ["statx 0"]);
    let (size, mode) = status.with(|it| (it.size(), it.mode())).unwrap();
    assert_eq!((size, mode & libc::S_IFMT), (1234, libc::S_IFREG));
    assert!(status.with(|it| it.modified().0).unwrap() > 1_600_000_000);
    assert!(!path.is_lent());
    assert_eq!(statx(&mut rig, folder.path("none")), [format!("statx {}", -libc::ENOENT)]);
    // What is refused lends nothing: not the path either.
    let in_use = status.with(|_| rig.event_loop.statx(libc::AT_FDCWD, path, 0, 0, status, handler, 0));
    assert_eq!((in_use, path.is_lent(), status.is_lent()), (Ok(Err(Error::BUSY)), false, false));
    assert_quiet(&mut rig);
}

/// The kernel answers at first that it would block, though nobody can wait for a file.
fn a_file_that_says_it_does_not_block_is_read(engines: Engines) {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/proc/version").unwrap();
    let expected = std::fs::read("/proc/version").unwrap();
    let mut rig = rig(engines);
    let bytes = buffer::<4096>();
    for at in [Some(0), Some(3), None] {
        let from = at.unwrap_or_default() as usize;
        read(&mut rig, "read", &file, bytes, 4096, at);
        assert_eq!(until(&mut rig, 1), [format!("read {}", expected.len() - from)], "{at:?}");
        assert_eq!(content(bytes, expected.len() - from), expected[from..]);
    }
    assert_quiet(&mut rig);
}

/// Then they are asked after a little while, again and again.
fn files_are_read_where_poll_has_no_place_for_their_ring(engines: Engines) {
    let folder = Folder::new("no-place", engines);
    let file = folder.file(b"content");
    // The loop's own descriptor, 8 sources and 16 operations; the next place is that of the ring.
    for limit in [25, 26] {
        limit_files(limit);
        let mut rig = rig(engines);
        for at in 0..7 {
            read(&mut rig, "read", &file, buffer::<4096>(), 10, Some(at));
            assert_eq!(until(&mut rig, 1), [format!("read {}", 7 - at)], "{limit} files");
        }
        // What the kernel makes in another thread is never done at once.
        let fd = file.as_raw_fd();
        submit(&mut rig, "fsync", nothing, |it, handler, token| it.fsync(fd, false, handler, token)).unwrap();
        assert_eq!(until(&mut rig, 1), ["fsync 0"], "{limit} files");
        assert_quiet(&mut rig);
    }
}

fn what_fails_says_so(engines: Engines) {
    let folder = Folder::new("fails", engines);
    drop(folder.file(b"x"));
    let only_to_read = File::open(folder.0.join("file")).unwrap();
    let mut rig = rig(engines);
    write(&mut rig, "write", &only_to_read, b"y", Some(0));
    assert_eq!(until(&mut rig, 1), [format!("write {}", -libc::EBADF)]);
    let dir = File::open(&folder.0).unwrap();
    read(&mut rig, "read", &dir, buffer::<4096>(), 10, Some(0));
    assert_eq!(until(&mut rig, 1), [format!("read {}", -libc::EISDIR)]);
    // An fd that nobody has: the completion says so, of whatever call.
    let closed = 987_654;
    let bytes = buffer::<4096>();
    let event_loop = &rig.event_loop;
    let token = rig.app.token("op", nothing);
    for submitted in [
        event_loop.read(closed, bytes, 0..1, Some(0), handler, token),
        event_loop.write(closed, buffer::<4096>(), 0..1, None, handler, token),
        event_loop.fsync(closed, false, handler, token),
        event_loop.close(closed, handler, token),
        event_loop.recv(closed, buffer::<4096>(), 0..1, 0, handler, token),
        event_loop.send(closed, buffer::<4096>(), 0..1, 0, handler, token),
    ] {
        let expected = if engines.backend == BackendChoice::Select { -libc::EINVAL } else { -libc::EBADF };
        let _ = (submitted.expect("accepted"), expected);
    }
    let trace = until(&mut rig, 6);
    // (select says of a number that it cannot hold that it is none.)
    assert!(
        trace.iter().all(|it| *it == format!("op {}", -libc::EBADF)
            || engines.backend == BackendChoice::Select && *it == format!("op {}", -libc::EINVAL)),
        "{trace:?}"
    );
    assert_quiet(&mut rig);
}

/// By a foreign loop too, where the backend has no descriptor of its own.
fn their_descriptor_is_watched_while_they_have_something(engines: Engines) {
    let folder = Folder::new("watched", engines);
    let file = folder.file(b"x");
    let mut rig = rig(engines);
    let watched = |rig: &Rig| rig.event_loop.watches(&mut []).unwrap();
    let before = watched(&rig);
    for level in 0..2 {
        let operation = read(&mut rig, "read", &file, buffer::<4096>(), 1, Some(0));
        rig.event_loop.set_level(operation, level).unwrap();
        assert_eq!(until(&mut rig, 1), ["read 1"]);
        assert_eq!(rig.turn(), [""; 0]);
        assert_eq!(watched(&rig), before);
    }
}

fn many_reads_are_in_flight(engines: Engines) {
    let folder = Folder::new("many", engines);
    let all: Vec<u8> = (0..64 * 512).map(|at: u32| (at / 512) as u8).collect();
    let file = folder.file(&all);
    let mut rig = rig_of::<64>(&config(engines));
    let buffers: Vec<_> = (0..64).map(|_| buffer::<4096>()).collect();
    for round in 0..3 {
        for (number, buffer) in buffers.iter().enumerate() {
            read(&mut rig, &format!("{number:02}"), &file, buffer, 512, Some(number as u64 * 512));
        }
        assert_eq!(rig.event_loop.statistics().operations_now, 64);
        let refused = rig.event_loop.read(file.as_raw_fd(), buffer::<4096>(), 0..1, Some(0), handler, 0);
        assert_eq!(refused, Err(Error::AGAIN));
        let trace = sorted(until(&mut rig, 64));
        let expected: Vec<String> = (0..64).map(|number| format!("{number:02} 512")).collect();
        assert_eq!(trace, expected, "round {round}");
        for (number, buffer) in buffers.iter().enumerate() {
            assert!(content(buffer, 512).iter().all(|byte| usize::from(*byte) == number));
        }
    }
    assert_quiet(&mut rig);
}

fn a_read_of_a_file_ends_once_when_cancelled(engines: Engines) {
    let folder = Folder::new("cancel", engines);
    let file = folder.file(&[1; BIG]);
    let mut rig = rig(engines);
    for _ in 0..20 {
        let bytes = buffer::<4096>();
        let operation = read(&mut rig, "read", &file, bytes, 4096, Some(0));
        cancel(&rig, operation);
        cancel(&rig, operation); // again: nothing more
        let trace = until(&mut rig, 1);
        // Too late, or in time; never both.
        let ended = ["read 4096".to_owned(), format!("read {}", errno(Error::CANCELED))];
        assert!(ended.contains(&trace[0]), "{trace:?}");
        assert_eq!(rig.event_loop.cancel(operation), Err(Error::STALE));
        assert!(!bytes.is_lent());
    }
    assert_quiet(&mut rig);
}

fn a_drain_reaps_files(engines: Engines) {
    let folder = Folder::new("drain", engines);
    let file = folder.file(&[1; BIG]);
    // In a loop that never ran, and in one that did.
    for ran in [false, true] {
        let mut rig = rig(engines);
        if ran {
            assert_eq!(rig.turn(), [""; 0]);
        }
        for number in 0..16 {
            read(&mut rig, "read", &file, buffer::<4096>(), 4096, Some(number * 4096));
        }
        rig.event_loop.drain(&mut rig.app, Duration::FOREVER).expect("all end");
        let trace = rig.trace();
        assert_eq!(trace.len(), 16);
        assert!(trace.iter().all(|it| it == "read 4096" || *it == format!("read {}", errno(Error::CANCELED))));
        assert_quiet(&mut rig);
    }
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc/self/fd").count()
}

fn a_dropped_loop_closes_what_was_opened(engines: Engines) {
    let folder = Folder::new("dropped", engines);
    drop(folder.file(b"x"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for turned in [false, true] {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, mut theirs) = pair();
        let before = open_fds();
        let mut rig = rig(engines);
        let paths: Vec<_> = (0..4).map(|_| folder.path("file")).collect();
        for path in &paths {
            let token = rig.app.token("open", nothing);
            rig.event_loop.open(libc::AT_FDCWD, *path, libc::O_RDONLY, 0, handler, token).unwrap();
        }
        let token = rig.app.token("accept", nothing);
        rig.event_loop.accept(listener.as_raw_fd(), handler, token).unwrap();
        // A number of bytes is no descriptor.
        theirs.write_all(&vec![b'x'; ours.as_raw_fd() as usize]).unwrap();
        recv(&mut rig, "recv", &ours, buffer::<4096>());
        if turned {
            // All have completed, and nobody has taken them out.
            while rig.event_loop.poll(Duration::FOREVER).unwrap() < 6 {}
            assert_eq!(open_fds() - before, 5 + own_fds(&rig));
        }
        drop(rig);
        assert!(paths.iter().all(|path| !path.is_lent()));
        assert_eq!(open_fds(), before, "turned: {turned}");
        drop(client);
    }
}

/// Descriptors that a loop has for itself: to be woken by, and of the backend, and of a ring for files.
fn own_fds(rig: &Rig) -> usize {
    let (backend, _) = rig.event_loop.backend();
    let (files, _) = rig.event_loop.files();
    1 + usize::from(backend == "epoll" || backend == "io_uring")
        + usize::from(files == "io_uring" && backend != "io_uring")
}

fn files_go_on_beside_a_signal(engines: Engines) {
    // A signal that is no source neither ends nor loses anything, also where it ends waits.
    let folder = Folder::new("signal", engines);
    let file = folder.file(&[1; BIG]);
    let mut rig = rig_of::<16>(&Config { return_interrupted: true, ..config(engines) });
    for _ in 0..50 {
        for number in 0..4 {
            read(&mut rig, "read", &file, buffer::<4096>(), 4096, Some(number * 4096));
        }
        while rig.app.trace.len() < 4 {
            match rig.event_loop.turn(&mut rig.app, Duration::FOREVER) {
                Ok(_) | Err(Error::INTERRUPTED) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(rig.trace(), ["read 4096"; 4]);
    }
}

fn more_are_submitted_than_a_ring_holds(engines: Engines) {
    const COUNT: usize = 1500; // a ring has 256 entries, and room for 1024 completions
    let folder = Folder::new("full", engines);
    let file = folder.file(&[1; BIG]);
    let mut rig = rig_of::<COUNT>(&config(engines));
    let buffers: Vec<_> = (0..COUNT).map(|_| buffer::<64>()).collect();
    let token = rig.app.token("read", nothing);
    for ended_by_drain in [false, true] {
        for (number, buffer) in buffers.iter().enumerate() {
            let at = Some((number % 1000) as u64);
            rig.event_loop.read(file.as_raw_fd(), buffer, 0..64, at, handler, token).unwrap();
        }
        if ended_by_drain {
            rig.event_loop.drain(&mut rig.app, Duration::FOREVER).unwrap();
            let trace = rig.trace();
            assert_eq!(trace.len(), COUNT);
            assert!(trace.iter().all(|it| it == "read 64" || *it == format!("read {}", errno(Error::CANCELED))));
        } else {
            assert!(until(&mut rig, COUNT).iter().all(|it| it == "read 64"));
        }
    }
    assert_quiet(&mut rig);
}

// ---- POSIX AIO ----

fn vectors_are_made_one_after_the_other(engines: Engines) {
    let folder = Folder::new("vectors", engines);
    let file = folder.file(b"0123456789");
    let mut rig = rig(engines);
    let vectors: &'static Buffer<Vectors<4>> = Box::leak(Box::new(Buffer::new(Vectors::new())));
    let buffers: Vec<_> = (0..3).map(|_| buffer::<4096>()).collect();
    let part = |number: usize, length| Part { buffer: buffers[number], range: 0..length };
    let fd = file.as_raw_fd();
    let read_at = |rig: &mut Rig, at, parts: &[Part]| {
        submit(rig, "read", nothing, |it, handler, token| it.read_parts(fd, vectors, parts, Some(at), handler, token))
            .unwrap();
        until(rig, 1)
    };
    // Empty ones among them; the file ends in the middle of one, before one, and before all.
    assert_eq!(read_at(&mut rig, 0, &[part(0, 0), part(1, 4), part(2, 0)]), ["read 4"]);
    assert_eq!(content(buffers[1], 4), b"0123");
    assert_eq!(read_at(&mut rig, 1, &[part(0, 3), part(1, 0), part(2, 9)]), ["read 9"]);
    assert_eq!((content(buffers[0], 3), content(buffers[2], 6)), (b"123".to_vec(), b"456789".to_vec()));
    assert_eq!(read_at(&mut rig, 2, &[part(0, 5), part(1, 3), part(2, 1)]), ["read 8"]);
    assert_eq!(read_at(&mut rig, 10, &[part(0, 5), part(1, 3)]), ["read 0"]);
    assert_eq!(read_at(&mut rig, 0, &[part(0, 0), part(1, 0)]), ["read 0"]);
    assert_eq!(read_at(&mut rig, 0, &[]), ["read 0"]);
    buffers[0].with(|it| it[..2].copy_from_slice(b"ab")).unwrap();
    buffers[1].with(|it| it[..3].copy_from_slice(b"cde")).unwrap();
    let parts = [part(0, 2), part(1, 3)];
    submit(&mut rig, "write", nothing, |it, handler, token| {
        it.write_parts(fd, vectors, &parts, Some(8), handler, token)
    })
    .unwrap();
    assert_eq!(until(&mut rig, 1), ["write 5"]);
    assert_eq!(std::fs::read(folder.0.join("file")).unwrap(), b"01234567abcde");
    // A part that fails: what was moved before it counts, and nothing before it is the error.
    let only_to_write = File::options().write(true).open(folder.0.join("file")).unwrap();
    let fd = only_to_write.as_raw_fd();
    submit(&mut rig, "read", nothing, |it, handler, token| it.read_parts(fd, vectors, &parts, Some(0), handler, token))
        .unwrap();
    assert_eq!(until(&mut rig, 1), [format!("read {}", -libc::EBADF)]);
    assert_eq!(rig.event_loop.statistics().operations_inline, 0);
    assert_quiet(&mut rig);
}

fn what_aio_has_not_is_made_inline(engines: Engines) {
    let folder = Folder::new("inline", engines);
    let file = folder.file(b"abcdef");
    let mut rig = rig(engines);
    let inline = |rig: &Rig| rig.event_loop.statistics().operations_inline;
    read(&mut rig, "read", &file, buffer::<4096>(), 2, None);
    write(&mut rig, "write", &file, b"XY", None);
    read(&mut rig, "rest", &file, buffer::<4096>(), 4096, None);
    assert_eq!(until(&mut rig, 3), ["read 2", "write 2", "rest 2"]);
    assert_eq!(inline(&rig), 3);
    // A folder is open for reading alone; so is a file that somebody else writes.
    let dir = File::open(&folder.0).unwrap();
    let only_to_read = File::open(folder.0.join("file")).unwrap();
    for data_only in [false, true] {
        for (file, expected) in [(&dir, 1), (&only_to_read, 1), (&file, 0)] {
            let (fd, before) = (file.as_raw_fd(), inline(&rig));
            submit(&mut rig, "fsync", nothing, |it, handler, token| it.fsync(fd, data_only, handler, token)).unwrap();
            assert_eq!(until(&mut rig, 1), ["fsync 0"]);
            assert_eq!(inline(&rig) - before, expected);
        }
    }
    // What has no positions says so, and is not waited for.
    let (ours, _theirs) = UnixStream::pair().unwrap();
    read(&mut rig, "socket", &ours, buffer::<4096>(), 1, Some(0));
    assert_eq!(until(&mut rig, 1), [format!("socket {}", -libc::ESPIPE)]);
    let (out, into) = pipe();
    read(&mut rig, "pipe", &out, buffer::<4096>(), 1, Some(0));
    assert_eq!(until(&mut rig, 1), [format!("pipe {}", -libc::ESPIPE)]);
    write(&mut rig, "pipe", &into, b"x", Some(5));
    assert_eq!(until(&mut rig, 1), [format!("pipe {}", -libc::ESPIPE)]);
    assert_eq!(std::fs::read(folder.0.join("file")).unwrap(), b"abXYef");
    assert_quiet(&mut rig);
}

fn more_wait_for_a_control_block(engines: Engines) {
    let folder = Folder::new("blocks", engines);
    let file = folder.file(&[1; BIG]);
    let storage = Box::leak(Box::new(Storage::<8, 8, 40>::new()));
    let aio = Box::leak(Box::new(Aio::<3>::new()));
    let event_loop = Loop::with_aio(storage, aio, &config(engines)).expect("a loop");
    let mut rig = Rig { event_loop, app: App::default() };
    for ended_by_drain in [false, true] {
        let mut handles = Vec::new();
        for number in 0..40 {
            handles.push(read(&mut rig, "read", &file, buffer::<4096>(), 4096, Some(number % 16 * 4096)));
        }
        cancel(&rig, handles[39]);
        let cancelled = format!("read {}", errno(Error::CANCELED));
        let trace = if ended_by_drain {
            rig.event_loop.drain(&mut rig.app, Duration::FOREVER).unwrap();
            rig.trace()
        } else {
            until(&mut rig, 40)
        };
        assert!(trace.iter().all(|it| it == "read 4096" || *it == cancelled), "{trace:?}");
        let ended = trace.iter().filter(|it| **it == cancelled).count();
        assert!(trace.len() == 40 && ended >= 1 && (ended_by_drain || ended == 1), "{trace:?}");
    }
    assert_quiet(&mut rig);
}

fn without_memory_there_is_none(engines: Engines) {
    let storage = Box::leak(Box::new(Storage::<8, 8, 4>::new()));
    assert_eq!(Loop::<App>::new(storage, &config(engines)).err(), Some(Error::NO_BUFFERS));
    // Where there are no operations nobody asks.
    let storage = Box::leak(Box::new(Storage::<8, 8, 0>::new()));
    let event_loop = Loop::<App>::new(storage, &config(engines)).expect("a loop");
    assert_eq!(event_loop.files(), ("none", "no operations"));
}

/// Sets the soft limit of signals that are queued.
fn limit_signals(count: u32) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: valid to write to, then to read from.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_SIGPENDING, &raw mut limit), 0);
        limit.rlim_cur = count.into();
        assert_eq!(libc::setrlimit(libc::RLIMIT_SIGPENDING, &raw const limit), 0);
    }
}

fn a_lost_signal_is_made_up_for(engines: Engines) {
    let folder = Folder::new("lost", engines);
    let file = folder.file(&[1; BIG]);
    let mut rig = rig(engines);
    limit_signals(0);
    for round in 0..5 {
        for number in 0..8 {
            read(&mut rig, "read", &file, buffer::<4096>(), 4096, Some(number * 4096));
        }
        assert_eq!(until(&mut rig, 8), ["read 4096"; 8]);
        let text = format!("round {round}");
        write(&mut rig, "write", &file, text.as_bytes(), Some(3));
        assert_eq!(until(&mut rig, 1), ["write 7"]);
        assert_eq!(std::fs::read(folder.0.join("file")).unwrap()[3..10], *text.as_bytes());
        let operation = read(&mut rig, "read", &file, buffer::<4096>(), 4096, Some(0));
        assert_eq!(rig.event_loop.poll(Duration::ZERO).map(|_| ()), Ok(()));
        cancel(&rig, operation);
        let trace = until(&mut rig, 1);
        assert!(trace == ["read 4096"] || trace == [format!("read {}", errno(Error::CANCELED))], "{trace:?}");
    }
    // What goes to the end of a file goes there once.
    let log = File::options().append(true).create(true).open(folder.0.join("log")).unwrap();
    for _ in 0..5 {
        write(&mut rig, "append", &log, b"line\n", Some(0));
        assert_eq!(until(&mut rig, 1), ["append 5"]);
    }
    assert_eq!(std::fs::read(folder.0.join("log")).unwrap(), b"line\n".repeat(5));
    // And when they come again.
    limit_signals(1000);
    for _ in 0..3 {
        read(&mut rig, "read", &file, buffer::<4096>(), 4096, Some(0));
        assert_eq!(until(&mut rig, 1), ["read 4096"]);
    }
    assert_quiet(&mut rig);
}

fn a_source_for_another_signal_counts_its_own(engines: Engines) {
    let folder = Folder::new("counts", engines);
    let file = folder.file(&[1; BIG]);
    let mut rig = rig(engines);
    let signal = libc::SIGRTMIN() + 3;
    rig.signal("signal", signal, nothing);
    for round in 0..20 {
        for number in 0..8 {
            read(&mut rig, "read", &file, buffer::<4096>(), 4096, Some(number * 4096));
        }
        for _ in 0..round % 4 {
            // SAFETY: no pointer is passed; the signal has a source.
            assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
        }
        let (mut reads, mut signals) = (0, 0);
        while reads < 8 || signals < round % 4 {
            for text in until(&mut rig, 1) {
                match text.split_once(' ').unwrap() {
                    ("signal", count) => signals += count.parse::<i32>().unwrap(),
                    (_, result) => {
                        assert_eq!(result, "4096");
                        reads += 1;
                    }
                }
            }
        }
        assert_eq!((reads, signals), (8, round % 4));
    }
    assert_quiet(&mut rig);
}

/// What is to happen at a signal.
fn disposition(signal: i32) -> usize {
    // SAFETY: all zeros is a valid sigaction, to be written to; nothing changes.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(signal, std::ptr::null(), &raw mut now), 0);
        now.sa_sigaction
    }
}

fn the_signal_is_taken_and_given_back(engines: Engines) {
    let folder = Folder::new("taken", engines);
    let file = folder.file(&[1; BIG]);
    let highest = libc::SIGRTMAX();
    for named in [0, libc::SIGRTMIN() + 5] {
        let signal = if named == 0 { highest } else { named };
        let mut rig = rig_of::<16>(&Config { aio_signal: named, ..config(engines) });
        assert_ne!(disposition(signal), libc::SIG_DFL);
        // It can have no source beside it, here or elsewhere; the next loop takes the next one, or none.
        assert_eq!(rig.event_loop.add_signal(signal, handler, 0), Err(Error::BUSY));
        let second = rig_of::<16>(&config(engines));
        assert_ne!(disposition(if named == 0 { highest - 1 } else { highest }), libc::SIG_DFL);
        assert_eq!(second.event_loop.add_signal(signal, handler, 0), Err(Error::BUSY));
        let storage = Box::leak(Box::new(Storage::<8, 8, 4>::new()));
        let aio = Box::leak(Box::new(Aio::<4>::new()));
        let third = Loop::<App>::with_aio(storage, aio, &Config { aio_signal: signal, ..config(engines) });
        assert_eq!(third.err(), Some(Error::BUSY));
        for round in 0..10 {
            read(&mut rig, "read", &file, buffer::<4096>(), 4096, Some(round * 4096));
            // What has completed is delivered, and its signal may still be on its way when the loop is gone.
            assert_eq!(until(&mut rig, 1), ["read 4096"]);
        }
        read(&mut rig, "dropped", &file, buffer::<4096>(), 4096, Some(0));
        drop(rig);
        drop(second);
        assert_eq!(disposition(signal), libc::SIG_DFL);
    }
    for bad in [-1, 65, 1000, libc::SIGKILL, libc::SIGSTOP] {
        let storage = Box::leak(Box::new(Storage::<8, 8, 4>::new()));
        let aio = Box::leak(Box::new(Aio::<4>::new()));
        let refused = Loop::<App>::with_aio(storage, aio, &Config { aio_signal: bad, ..config(engines) });
        assert_eq!(refused.err(), Some(Error::INVALID), "{bad}");
    }
}

// ---- Sockets ----

fn sockets_exchange(engines: Engines) {
    let (ours, mut theirs) = pair();
    let mut rig = rig(engines);
    send(&mut rig, "send", &ours, b"hello");
    assert_eq!(until(&mut rig, 1), ["send 5"]);
    let mut bytes = [0; 16];
    assert_eq!(theirs.read(&mut bytes).unwrap(), 5);
    theirs.write_all(b"world!").unwrap();
    let bytes = buffer::<4096>();
    recv(&mut rig, "recv", &ours, bytes);
    assert_eq!(until(&mut rig, 1), ["recv 6"]);
    assert_eq!(content(bytes, 6), b"world!");
    // By read and write too.
    write(&mut rig, "write", &ours, b"abc", None);
    theirs.write_all(b"de").unwrap();
    assert_eq!(until(&mut rig, 1), ["write 3"]);
    read(&mut rig, "read", &ours, bytes, 4096, None);
    assert_eq!(until(&mut rig, 1), ["read 2"]);
    assert_quiet(&mut rig);
}

fn a_wait_ends_with_data(engines: Engines) {
    let (ours, mut theirs) = pair();
    let mut rig = rig(engines);
    let bytes = buffer::<4096>();
    for round in 0..5 {
        recv(&mut rig, "recv", &ours, bytes);
        assert_eq!(rig.turns(2), [""; 0], "round {round}");
        assert_eq!(rig.event_loop.statistics().operations_now, 1);
        theirs.write_all(b"data").unwrap();
        assert_eq!(until(&mut rig, 1), ["recv 4"]);
        assert_eq!(content(bytes, 4), b"data");
    }
    assert_quiet(&mut rig);
}

/// Also where the system is asked first, and says that it would block.
fn a_wait_for_what_is_not_there_sleeps(engines: Engines) {
    let (out, into) = pipe();
    let mut rig = rig(engines);
    read(&mut rig, "read", &out, buffer::<4096>(), 10, None);
    assert_eq!(rig.turns(3), [""; 0]);
    let before = std::time::Instant::now();
    assert_eq!(rig.event_loop.poll(Duration::from_millis(20)), Ok(0));
    assert!(before.elapsed() >= std::time::Duration::from_millis(20));
    File::from(into).write_all(b"x").unwrap();
    assert_eq!(until(&mut rig, 1), ["read 1"]);
    assert_quiet(&mut rig);
}

/// What is watched for an operation alone stands behind the last source.
fn a_full_table_of_sources_stays_beside_a_wait(engines: Engines) {
    let mut rig = rig(engines);
    let pairs = [(); 8].map(|()| readable());
    for (ours, _) in &pairs {
        rig.io("source", ours, READABLE, nothing);
    }
    assert_eq!(rig.turn(), ["source readable"; 8]);
    let (ours, mut theirs) = pair();
    recv(&mut rig, "recv", &ours, buffer::<4096>());
    assert_eq!(rig.turn(), ["source readable"; 8]);
    theirs.write_all(b"x").unwrap();
    while !rig.app.trace.contains(&"recv 1".to_owned()) {
        rig.event_loop.turn(&mut rig.app, Duration::FOREVER).unwrap();
    }
    rig.trace();
    assert_eq!(rig.turn(), ["source readable"; 8]);
}

fn a_connection_is_accepted_and_made(engines: Engines) {
    connect_to(engines, &TcpListener::bind("127.0.0.1:0").unwrap(), libc::AF_INET);
    // (Not every machine has IPv6.)
    if let Ok(listener) = TcpListener::bind("[::1]:0") {
        connect_to(engines, &listener, libc::AF_INET6);
    }
}

fn connect_to(engines: Engines, listener: &TcpListener, family: i32) {
    let address: &'static Buffer<Address> =
        Box::leak(Box::new(Buffer::new(Address::from(listener.local_addr().unwrap()))));
    for nonblocking in [true, false] {
        listener.set_nonblocking(nonblocking).unwrap();
        let mut rig = rig(engines);
        let fd = listener.as_raw_fd();
        submit(&mut rig, "accept", nothing, |it, handler, token| it.accept(fd, handler, token)).unwrap();
        assert_eq!(rig.turn(), [""; 0]);
        // SAFETY: no pointer is passed.
        let client = unsafe {
            libc::socket(
                family,
                libc::SOCK_STREAM | libc::SOCK_CLOEXEC | if nonblocking { libc::SOCK_NONBLOCK } else { 0 },
                0,
            )
        };
        // SAFETY: it is ours.
        let client = unsafe { TcpStream::from_raw_fd(client) };
        let fd = client.as_raw_fd();
        submit(&mut rig, "connect", nothing, |it, handler, token| it.connect(fd, address, handler, token)).unwrap();
        let trace = sorted(until(&mut rig, 2));
        assert_eq!(trace[1], "connect 0");
        let accepted: i32 = trace[0].trim_start_matches("accept ").parse().unwrap();
        assert!(accepted >= 0, "{trace:?}");
        // SAFETY: it is ours; no pointer is passed.
        let flags = unsafe {
            (libc::fcntl(accepted, libc::F_GETFD), libc::fcntl(accepted, libc::F_GETFL), libc::fcntl(fd, libc::F_GETFL))
        };
        assert_eq!(flags.0 & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        assert_eq!(flags.1 & libc::O_NONBLOCK, libc::O_NONBLOCK);
        assert_eq!(flags.2 & libc::O_NONBLOCK != 0, nonblocking, "the program's own flag is as it was");
        // SAFETY: it is ours.
        let mut accepted = unsafe { TcpStream::from_raw_fd(accepted) };
        accepted.write_all(b"hi").unwrap();
        recv(&mut rig, "recv", &client, buffer::<4096>());
        assert_eq!(until(&mut rig, 1), ["recv 2"]);
        assert_quiet(&mut rig);
    }
}

/// A number that select cannot hold: although data are there, and no wait is needed.
fn what_cannot_be_waited_for_is_not_begun(engines: Engines) {
    limit_files(libc::FD_SETSIZE as u32 + 2);
    let (ours, theirs) = readable();
    for fd in [libc::FD_SETSIZE as i32 - 1, libc::FD_SETSIZE as i32] {
        dup2(&ours, fd);
        let mut rig = rig(engines);
        recv(&mut rig, "recv", &Fd(fd), buffer::<4096>());
        let refused = engines.backend == BackendChoice::Select && fd >= libc::FD_SETSIZE as i32;
        let expected = if refused { -libc::EINVAL } else { 1 };
        assert_eq!(until(&mut rig, 1), [format!("recv {expected}")], "fd {fd}");
        assert_eq!(drain(&ours), usize::from(refused));
        assert_quiet(&mut rig);
        (&theirs).write_all(b"y").unwrap();
    }
}

/// poll(2) takes no more entries than the process may have files.
fn the_last_place_that_poll_can_look_at(engines: Engines) {
    let pairs = [(); 4].map(|()| pair());
    let mut rig = rig(engines);
    // The loop's own, those of 8 sources, and three more.
    limit_files(12);
    for (ours, _) in &pairs {
        recv(&mut rig, "recv", ours, buffer::<4096>());
    }
    let refused = engines.backend == BackendChoice::Poll;
    assert_eq!(rig.turn(), vec![format!("recv {}", errno(Error::TABLE_FULL)); usize::from(refused)]);
    for (_, theirs) in &pairs {
        (&*theirs).write_all(b"x").unwrap();
    }
    assert_eq!(until(&mut rig, 4 - usize::from(refused)), vec!["recv 1"; 4 - usize::from(refused)]);
}

fn a_refused_connect_says_so(engines: Engines) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let address: &'static Buffer<Address> = Box::leak(Box::new(Buffer::new(Address::from(nobody))));
    let mut rig = rig(engines);
    // SAFETY: no pointer is passed; it is ours.
    let socket =
        unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0)) };
    let fd = socket.as_raw_fd();
    submit(&mut rig, "connect", nothing, |it, handler, token| it.connect(fd, address, handler, token)).unwrap();
    assert_eq!(until(&mut rig, 1), [format!("connect {}", -libc::ECONNREFUSED)]);
    assert!(!address.is_lent());
    // An address of no family.
    let none: &'static Buffer<Address> =
        Box::leak(Box::new(Buffer::new(Address::from(SocketAddr::from(([127, 0, 0, 1], 0))))));
    none.with(|it| *it = Address::new()).unwrap();
    submit(&mut rig, "connect", nothing, |it, handler, token| it.connect(fd, none, handler, token)).unwrap();
    assert_eq!(until(&mut rig, 1), [format!("connect {}", -libc::EINVAL)]);
    assert_quiet(&mut rig);
}

fn blocking_sockets_do_not_block(engines: Engines) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut rig = rig(engines);
    let bytes = buffer::<4096>();
    recv(&mut rig, "recv", &ours, bytes);
    assert_eq!(rig.turn(), [""; 0]);
    theirs.write_all(b"1").unwrap();
    assert_eq!(until(&mut rig, 1), ["recv 1"]);
    read(&mut rig, "read", &ours, bytes, 4096, None);
    assert_eq!(rig.turn(), [""; 0]);
    theirs.write_all(b"12").unwrap();
    assert_eq!(until(&mut rig, 1), ["read 2"]);
    // The peer reads nothing: the last one waits.
    let big: &'static Buffer = Box::leak(Box::new(Buffer::new([0u8; 1 << 18])));
    let fd = ours.as_raw_fd();
    submit(&mut rig, "send", nothing, |it, handler, token| it.send(fd, big, 0..1 << 18, 0, handler, token)).unwrap();
    let trace = until(&mut rig, 1);
    let sent: i64 = trace[0].trim_start_matches("send ").parse().unwrap();
    assert!(sent > 0 && sent <= 1 << 18, "{trace:?}");
    theirs.set_nonblocking(true).unwrap();
    let mut left = drain(&theirs) as i64;
    // (What io_uring sends may be all of it, in pieces.)
    while left < sent {
        left += drain(&theirs) as i64;
    }
    assert_eq!(left, sent);
    assert_quiet(&mut rig);
}

fn pipes_are_read_and_written(engines: Engines) {
    for nonblocking in [true, false] {
        let mut ends = [0; 2];
        // SAFETY: room for the two, which are ours then.
        let (out, into) = unsafe {
            assert_eq!(
                libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | if nonblocking { libc::O_NONBLOCK } else { 0 }),
                0
            );
            (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
        };
        let mut rig = rig(engines);
        let bytes = buffer::<4096>();
        read(&mut rig, "read", &out, bytes, 4096, None);
        assert_eq!(rig.turn(), [""; 0]);
        write(&mut rig, "write", &into, b"pipe", None);
        assert_eq!(sorted(until(&mut rig, 2)), ["read 4", "write 4"]);
        assert_eq!(content(bytes, 4), b"pipe");
        read(&mut rig, "end", &out, bytes, 4096, None);
        assert_eq!(rig.turn(), [""; 0]);
        drop(into);
        assert_eq!(until(&mut rig, 1), ["end 0"]);
        assert_quiet(&mut rig);
    }
}

/// Where the pipe may block, the first part that has something is what surely fits.
fn pipes_have_parts(engines: Engines) {
    for nonblocking in [true, false] {
        let mut ends = [0; 2];
        let flags = libc::O_CLOEXEC | if nonblocking { libc::O_NONBLOCK } else { 0 };
        // SAFETY: room for the two, which are ours then.
        let (out, into) = unsafe {
            assert_eq!(libc::pipe2(ends.as_mut_ptr(), flags), 0);
            (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
        };
        let (out, into) = (out.as_raw_fd(), into.as_raw_fd());
        let mut rig = rig(engines);
        let vectors: &'static Buffer<Vectors<3>> = Box::leak(Box::new(Buffer::new(Vectors::new())));
        let (a, b) = (holding(b"abc"), holding(b"defg"));
        let empty = Part { buffer: buffer::<4096>(), range: 7..7 };
        let parts = [empty.clone(), Part { buffer: a, range: 0..3 }, Part { buffer: b, range: 0..4 }];
        submit(&mut rig, "write", nothing, |it, handler, token| {
            it.write_parts(into, vectors, &parts, None, handler, token)
        })
        .unwrap();
        let count = match until(&mut rig, 1)[0].as_str() {
            "write 7" => 7,
            "write 3" if !nonblocking => 3,
            other => panic!("{other}"),
        };
        let (c, d) = (buffer::<4096>(), buffer::<4096>());
        let parts = [Part { buffer: c, range: 0..2 }, empty, Part { buffer: d, range: 1..9 }];
        submit(&mut rig, "read", nothing, |it, handler, token| {
            it.read_parts(out, vectors, &parts, None, handler, token)
        })
        .unwrap();
        assert_eq!(until(&mut rig, 1), [format!("read {count}")]);
        assert_eq!(content(c, 2), b"ab");
        assert_eq!(content(d, count - 1), b"\0cdefg"[..count - 1]);
        assert_quiet(&mut rig);
    }
}

fn a_blocking_pipe_takes_what_fits(engines: Engines) {
    let mut ends = [0; 2];
    // SAFETY: room for the two, which are ours then.
    let (out, into) = unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    let mut rig = rig(engines);
    let big: &'static Buffer = Box::leak(Box::new(Buffer::new([7u8; 1 << 17])));
    let fd = into.as_raw_fd();
    // More than the pipe holds, again and again: it never blocks, and in the end one waits.
    let mut written = 0;
    let mut waits = false;
    while !waits {
        submit(&mut rig, "write", nothing, |it, handler, token| it.write(fd, big, 0..1 << 17, None, handler, token))
            .unwrap();
        let mut trace = Vec::new();
        for _ in 0..50 {
            trace = rig.turn();
            if !trace.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        match trace.first() {
            Some(text) => written += text.trim_start_matches("write ").parse::<usize>().unwrap(),
            None => waits = true,
        }
    }
    let mut read = 0;
    let mut bytes = vec![0; 1 << 16];
    while rig.app.trace.is_empty() {
        if read < written || rig.event_loop.statistics().operations_now > 0 {
            read += (&out).read(&mut bytes).unwrap();
        }
        rig.event_loop.turn(&mut rig.app, Duration::ZERO).unwrap();
    }
    let last: usize = rig.trace()[0].trim_start_matches("write ").parse().unwrap();
    assert!(last > 0);
    drop(into);
    read += std::iter::from_fn(|| Some((&out).read(&mut bytes).unwrap()).filter(|count| *count > 0)).sum::<usize>();
    assert_eq!(read, written + last, "every byte that was said to be written");
    assert_quiet(&mut rig);
}

// ---- The table ----

fn a_full_table_is_back_pressure(engines: Engines) {
    let (ours, theirs) = pair();
    let mut rig = rig_of::<2>(&config(engines));
    let a = recv(&mut rig, "a", &ours, buffer::<4096>());
    recv(&mut rig, "b", &theirs, buffer::<4096>());
    let spare = buffer::<4096>();
    assert_eq!(rig.event_loop.recv(ours.as_raw_fd(), spare, 0..1, 0, handler, 0), Err(Error::AGAIN));
    assert!(!spare.is_lent());
    assert_eq!(rig.turn(), [""; 0]);
    assert_eq!(rig.event_loop.recv(ours.as_raw_fd(), spare, 0..1, 0, handler, 0), Err(Error::AGAIN));
    cancel(&rig, a);
    assert_eq!(until(&mut rig, 1), [format!("a {}", errno(Error::CANCELED))]);
    recv(&mut rig, "c", &ours, spare);
    let statistics = rig.event_loop.statistics();
    assert_eq!((statistics.operations_now, statistics.operations_max, statistics.operations), (2, 2, 3));
    // Without a place for any.
    let storage = Box::leak(Box::new(Storage::<4, 0>::new()));
    let none = Loop::<App>::new(storage, &Config { files: FilesChoice::Auto, ..config(engines) }).unwrap();
    assert_eq!(none.recv(ours.as_raw_fd(), buffer::<4096>(), 0..1, 0, handler, 0), Err(Error::AGAIN));
    assert_eq!(none.files(), ("none", "no operations"));
}

fn a_handler_submits_the_next_with_a_table_of_one(engines: Engines) {
    let (ours, mut theirs) = pair();
    let mut rig = rig_of::<1>(&config(engines));
    let bytes = buffer::<4096>();
    let fd = ours.as_raw_fd();
    let again = move |app: &mut App, event_loop: &Loop<App>, event: becket::Event| {
        if app.trace.len() < 3 {
            // SAFETY of lifetimes: a loop of the rigs is on static storage.
            let event_loop = as_static(event_loop);
            assert!(!bytes.is_lent());
            event_loop.recv(fd, bytes, 0..2, 0, handler, event.token).expect("there is room");
        }
    };
    submit(&mut rig, "recv", again, |it, handler, token| it.recv(fd, bytes, 0..2, 0, handler, token)).unwrap();
    theirs.write_all(b"aabbcc").unwrap();
    assert_eq!(until(&mut rig, 3), ["recv 2"; 3]);
    assert_quiet(&mut rig);
}

/// Handlers of the rigs see a loop of some lifetime, which is the static one's.
fn as_static<'a>(event_loop: &'a Loop<'_, App>) -> &'a Loop<'static, App> {
    // SAFETY: every rig leaks its storage.
    unsafe { &*std::ptr::from_ref(event_loop).cast() }
}

fn a_completed_operation_is_stale(engines: Engines) {
    let (ours, mut theirs) = readable();
    let mut rig = rig(engines);
    let first = recv(&mut rig, "recv", &ours, buffer::<4096>());
    assert_eq!(until(&mut rig, 1), ["recv 1"]);
    let stale = |rig: &Rig, handle: Handle| {
        let event_loop = &rig.event_loop;
        assert_eq!(event_loop.cancel(handle), Err(Error::STALE));
        assert_eq!(event_loop.set_operation_deadline(handle, Duration::ZERO), Err(Error::STALE));
        assert_eq!(event_loop.kind(handle), Err(Error::STALE));
        assert_eq!(event_loop.level(handle), Err(Error::STALE));
        assert_eq!(event_loop.token(handle), Err(Error::STALE));
        assert_eq!(event_loop.remove(handle), Err(Error::STALE));
    };
    stale(&rig, first);
    // Its place has another now.
    let second = recv(&mut rig, "recv", &ours, buffer::<4096>());
    assert_ne!(first, second);
    stale(&rig, first);
    theirs.write_all(b"12").unwrap();
    assert_eq!(until(&mut rig, 1), ["recv 2"]);
    stale(&rig, second);
    // Made up ones.
    for raw in [0, 9, 24, 25, u64::MAX, first.raw() ^ 1 << 24, first.raw() + 17] {
        assert_eq!(rig.event_loop.cancel(Handle::from_raw(raw)), Err(Error::STALE), "{raw}");
    }
}

// ---- Cancelling and deadlines ----

fn a_cancelled_wait_says_so(engines: Engines) {
    let (ours, mut theirs) = pair();
    let mut rig = rig(engines);
    let bytes = buffer::<4096>();
    for turned in [false, true] {
        let operation = recv(&mut rig, "recv", &ours, bytes);
        if turned {
            assert_eq!(rig.turn(), [""; 0]);
        }
        cancel(&rig, operation);
        assert_eq!(until(&mut rig, 1), [format!("recv {}", errno(Error::CANCELED))], "turned: {turned}");
        assert!(!bytes.is_lent());
        assert_eq!(rig.event_loop.cancel(operation), Err(Error::STALE));
    }
    // No byte is lost.
    theirs.write_all(b"here").unwrap();
    recv(&mut rig, "recv", &ours, bytes);
    assert_eq!(until(&mut rig, 1), ["recv 4"]);
    assert_quiet(&mut rig);
}

fn cancelling_is_too_late(engines: Engines) {
    let (ours, mut theirs) = pair();
    let mut rig = rig(engines);
    let bytes = buffer::<4096>();
    for round in 0..10 {
        let operation = recv(&mut rig, "recv", &ours, bytes);
        if round % 2 == 0 {
            assert_eq!(rig.turn(), [""; 0]);
        }
        theirs.write_all(b"data").unwrap();
        if round % 3 == 0 {
            // It has completed, and its event is queued.
            while rig.event_loop.poll(Duration::FOREVER).unwrap() == 0 {}
        }
        cancel(&rig, operation);
        match until(&mut rig, 1)[0].as_str() {
            "recv 4" => assert_eq!(content(bytes, 4), b"data"),
            other => {
                // In time: then the bytes are still there.
                assert_eq!(other, format!("recv {}", errno(Error::CANCELED)));
                assert_ne!(round % 3, 0);
                assert_eq!(drain(&ours), 4);
            }
        }
    }
    assert_quiet(&mut rig);
}

fn a_deadline_ends_a_wait(engines: Engines) {
    let (ours, mut theirs) = pair();
    let mut rig = virtual_rig(engines);
    let bytes = buffer::<4096>();
    let operation = recv(&mut rig, "recv", &ours, bytes);
    rig.event_loop.set_operation_deadline(operation, Duration::from_millis(10)).unwrap();
    assert_eq!(rig.turn(), [""; 0]);
    assert_eq!(rig.after_ns(9 * MS), [""; 0]);
    rig.event_loop.advance(Duration::from_millis(1)).unwrap();
    let timed_out = format!("recv {}", errno(Error::TIMED_OUT));
    assert_eq!(until(&mut rig, 1), [timed_out.as_str()]);
    assert!(!bytes.is_lent());
    // The loop wakes for it by itself; and a zero one is over with the next turn.
    for delay in [Duration::from_millis(5), Duration::ZERO] {
        let operation = recv(&mut rig, "recv", &ours, bytes);
        rig.event_loop.set_operation_deadline(operation, delay).unwrap();
        let before = rig.now();
        assert_eq!(until(&mut rig, 1), [timed_out.as_str()]);
        assert_eq!(rig.now(), before + delay.as_nanos());
    }
    // A cancel before it is a cancel.
    let operation = recv(&mut rig, "recv", &ours, bytes);
    rig.event_loop.set_operation_deadline(operation, Duration::from_millis(5)).unwrap();
    cancel(&rig, operation);
    rig.event_loop.advance(Duration::from_millis(5)).unwrap();
    assert_eq!(until(&mut rig, 1), [format!("recv {}", errno(Error::CANCELED))]);
    theirs.write_all(b"here").unwrap();
    recv(&mut rig, "recv", &ours, bytes);
    assert_eq!(until(&mut rig, 1), ["recv 4"]);
    assert_quiet(&mut rig);
}

fn a_completion_beats_its_deadline(engines: Engines) {
    let (ours, mut theirs) = pair();
    let mut rig = virtual_rig(engines);
    let bytes = buffer::<4096>();
    for _ in 0..10 {
        let operation = recv(&mut rig, "recv", &ours, bytes);
        rig.event_loop.set_operation_deadline(operation, Duration::from_millis(1)).unwrap();
        assert_eq!(rig.turn(), [""; 0]);
        // Both in one turn: what has happened is told.
        theirs.write_all(b"data").unwrap();
        rig.event_loop.advance(Duration::from_millis(1)).unwrap();
        assert_eq!(until(&mut rig, 1), ["recv 4"]);
        assert_eq!(rig.after_ns(5 * MS), [""; 0]);
    }
    assert_quiet(&mut rig);
}

fn a_deadline_is_taken_away(engines: Engines) {
    let (ours, mut theirs) = pair();
    let mut rig = virtual_rig(engines);
    let operation = recv(&mut rig, "recv", &ours, buffer::<4096>());
    rig.event_loop.set_operation_deadline(operation, Duration::from_millis(10)).unwrap();
    rig.event_loop.set_operation_deadline(operation, Duration::from_millis(30)).unwrap();
    assert_eq!(rig.after_ns(20 * MS), [""; 0]);
    rig.event_loop.set_operation_deadline(operation, Duration::FOREVER).unwrap();
    assert_eq!(rig.after_ns(1000 * MS), [""; 0]);
    theirs.write_all(b"x").unwrap();
    // Once it has its result there is nothing to end.
    while rig.event_loop.poll(Duration::FOREVER).unwrap() == 0 {}
    assert_eq!(rig.event_loop.set_operation_deadline(operation, Duration::ZERO), Ok(()));
    rig.event_loop.advance(Duration::from_millis(1)).unwrap();
    assert_eq!(until(&mut rig, 1), ["recv 1"]);
    assert_quiet(&mut rig);
}

// ---- Several at one fd ----

fn several_wait_in_order(engines: Engines) {
    if engines.backend == BackendChoice::IoUring {
        return; // there the kernel decides
    }
    let (ours, mut theirs) = pair();
    let mut rig = rig(engines);
    let fd = ours.as_raw_fd();
    let buffers: Vec<_> = (0..4).map(|_| buffer::<4096>()).collect();
    let mut handles = Vec::new();
    for (number, buffer) in buffers.iter().enumerate() {
        let name = format!("recv{number}");
        handles.push(
            submit(&mut rig, &name, nothing, |it, handler, token| it.recv(fd, buffer, 0..2, 0, handler, token))
                .unwrap(),
        );
    }
    assert_eq!(rig.turn(), [""; 0]);
    theirs.write_all(b"aabb").unwrap();
    assert_eq!(until(&mut rig, 2), ["recv0 2", "recv1 2"]);
    assert_eq!((content(buffers[0], 2), content(buffers[1], 2)), (b"aa".to_vec(), b"bb".to_vec()));
    // The first of those that are left goes; one more comes, and is the last.
    cancel(&rig, handles[2]);
    submit(&mut rig, "recv4", nothing, |it, handler, token| it.recv(fd, buffers[0], 0..2, 0, handler, token)).unwrap();
    theirs.write_all(b"ccdd").unwrap();
    let cancelled = format!("recv2 {}", errno(Error::CANCELED));
    assert_eq!(until(&mut rig, 3), [cancelled.as_str(), "recv3 2", "recv4 2"]);
    assert_eq!((content(buffers[3], 2), content(buffers[0], 2)), (b"cc".to_vec(), b"dd".to_vec()));
    // One that comes when data are there already does not overtake.
    recv(&mut rig, "first", &ours, buffers[0]);
    theirs.write_all(b"e").unwrap();
    recv(&mut rig, "second", &ours, buffers[1]);
    assert_eq!(until(&mut rig, 1), ["first 1"]);
    theirs.write_all(b"f").unwrap();
    assert_eq!(until(&mut rig, 1), ["second 1"]);
    // Of several that accept each gets one.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let fd = listener.as_raw_fd();
    for name in ["accept0", "accept1"] {
        submit(&mut rig, name, nothing, |it, handler, token| it.accept(fd, handler, token)).unwrap();
    }
    let _clients: Vec<_> = (0..2).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
    for text in until(&mut rig, 2) {
        let fd: i32 = text.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(fd >= 0, "{text}");
        // SAFETY: it is ours.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    assert_quiet(&mut rig);
}

/// An fd may be ready for the second one alone.
fn nobody_overtakes_one_that_needs_more(engines: Engines) {
    if engines.backend == BackendChoice::IoUring {
        return; // there the kernel decides
    }
    // SAFETY: no pointer is passed; it is ours.
    let counter =
        unsafe { File::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK | libc::EFD_SEMAPHORE)) };
    // One less, and the next one has room.
    (&counter).write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
    let one_less = || (&counter).read_exact(&mut [0; 8]).unwrap();
    let mut rig = rig(engines);
    // What a source is told is no way around it.
    let source = rig.io("source", &counter, WRITABLE, nothing);
    write(&mut rig, "three", &counter, &3_u64.to_ne_bytes(), None);
    write(&mut rig, "one", &counter, &1_u64.to_ne_bytes(), None);
    assert_eq!(rig.turns(2), [""; 0]);
    one_less();
    // Long enough that the first one rests, and is asked again.
    for _ in 0..40 {
        rig.event_loop.turn(&mut rig.app, Duration::from_millis(1)).unwrap();
    }
    let told = rig.trace();
    assert!(told.iter().all(|it| it == "source writable"), "there is room for one, and not for three: {told:?}");
    rig.event_loop.remove(source).unwrap();
    one_less();
    one_less();
    assert_eq!(until(&mut rig, 1), ["three 8"]);
    one_less();
    assert_eq!(until(&mut rig, 1), ["one 8"]);
    assert_quiet(&mut rig);
}

fn both_directions_wait(engines: Engines) {
    let (ours, mut theirs) = pair();
    fill(&ours);
    let mut rig = rig(engines);
    recv(&mut rig, "recv", &ours, buffer::<4096>());
    send(&mut rig, "send", &ours, b"more");
    assert_eq!(rig.turn(), [""; 0]);
    theirs.write_all(b"data").unwrap();
    assert_eq!(until(&mut rig, 1), ["recv 4"]);
    assert_eq!(rig.turn(), [""; 0]);
    recv(&mut rig, "again", &ours, buffer::<4096>());
    assert_eq!(rig.turn(), [""; 0]);
    drain(&theirs);
    assert_eq!(until(&mut rig, 1), ["send 4"]);
    theirs.write_all(b"!").unwrap();
    assert_eq!(until(&mut rig, 1), ["again 1"]);
    assert_quiet(&mut rig);
}

fn messages_are_answered(engines: Engines) {
    let message = message::<2, 0>();
    let mut rig = rig(engines);
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
    let fd = ours.as_raw_fd();
    let (a, b) = (buffer::<4096>(), buffer::<4096>());
    let parts = [Part { buffer: a, range: 0..3 }, Part { buffer: b, range: 0..64 }];
    submit(&mut rig, "recv", nothing, |it, handler, token| it.recv_message(fd, message, &parts, 0, handler, token))
        .unwrap();
    assert_eq!(rig.turn(), [""; 0]);
    assert!(message.is_lent() && a.is_lent() && b.is_lent());
    theirs.send_to(b"hello", ours.local_addr().unwrap()).unwrap();
    assert_eq!(until(&mut rig, 1), ["recv 5"]);
    assert!(!message.is_lent() && !a.is_lent() && !b.is_lent());
    assert_eq!((content(a, 3), content(b, 2)), (b"hel".to_vec(), b"lo".to_vec()));
    let (from, flags) = message.with(|it| (it.address().socket_address(), it.flags())).unwrap();
    assert_eq!((from, flags), (Some(theirs.local_addr().unwrap()), 0));
    // The answer goes where it came from.
    submit(&mut rig, "send", nothing, |it, handler, token| {
        it.send_message(fd, message, &parts[..1], 0, handler, token)
    })
    .unwrap();
    assert_eq!(until(&mut rig, 1), ["send 3"]);
    let mut bytes = [0; 16];
    assert_eq!(theirs.recv_from(&mut bytes).unwrap(), (3, ours.local_addr().unwrap()));
    assert_eq!(&bytes[..3], b"hel");
    // To another address; and one that is too long is cut, and says so.
    message.with(|it| it.set_address(&ours.local_addr().unwrap().into())).unwrap();
    submit(&mut rig, "send", nothing, |it, handler, token| it.send_message(fd, message, &parts, 0, handler, token))
        .unwrap();
    assert_eq!(until(&mut rig, 1), ["send 67"]);
    submit(&mut rig, "recv", nothing, |it, handler, token| {
        it.recv_message(fd, message, &parts[..1], 0, handler, token)
    })
    .unwrap();
    assert_eq!(until(&mut rig, 1), ["recv 3"]);
    assert_eq!(message.with(|it| it.flags() & libc::MSG_TRUNC).unwrap(), libc::MSG_TRUNC);
    // What cannot be lends nothing.
    let twice = [Part { buffer: a, range: 0..3 }, Part { buffer: a, range: 3..5 }];
    let refused = rig.event_loop.recv_message(fd, message, &twice, 0, handler, 0);
    assert_eq!(refused, Err(Error::BUSY));
    let three = [parts[0].clone(), parts[1].clone(), parts[0].clone()];
    assert_eq!(rig.event_loop.send_message(fd, message, &three, 0, handler, 0), Err(Error::INVALID));
    assert_eq!(rig.event_loop.recv_message(-1, message, &parts, 0, handler, 0), Err(Error::BAD_FD));
    assert!(!message.is_lent() && !a.is_lent() && !b.is_lent());
    assert_quiet(&mut rig);
}

fn messages_carry_descriptors(engines: Engines) {
    const CONTROL: usize = 24; // of one descriptor, with its head, on systems of 64 bits; more than that on others
    let sent = message::<1, CONTROL>();
    let received = message::<1, CONTROL>();
    let mut rig = rig(engines);
    let (ours, theirs) = pair();
    let (carried, other_end) = pair();
    // As cmsg(3) lays it out.
    // SAFETY: the head is written within the control data, which is long enough and aligned.
    let control = unsafe {
        let mut bytes = [0u64; CONTROL / 8];
        let head: *mut libc::cmsghdr = bytes.as_mut_ptr().cast();
        (*head).cmsg_len = libc::CMSG_LEN(4) as _;
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        libc::CMSG_DATA(head).cast::<i32>().write_unaligned(carried.as_raw_fd());
        let length = libc::CMSG_SPACE(4) as usize;
        bytes.map(u64::to_ne_bytes).concat()[..length].to_vec()
    };
    sent.with(|it| {
        assert_eq!(it.set_control(&[0; CONTROL + 1]), Err(Error::NO_BUFFERS));
        it.set_control(&control).unwrap();
        assert_eq!(it.control(), control);
    })
    .unwrap();
    let (out, into) = (holding(b"x"), buffer::<4096>());
    let fd = ours.as_raw_fd();
    submit(&mut rig, "send", nothing, |it, handler, token| {
        it.send_message(fd, sent, &[Part { buffer: out, range: 0..1 }], 0, handler, token)
    })
    .unwrap();
    assert_eq!(until(&mut rig, 1), ["send 1"]);
    let fd = theirs.as_raw_fd();
    let flags = libc::MSG_CMSG_CLOEXEC;
    submit(&mut rig, "recv", nothing, |it, handler, token| {
        it.recv_message(fd, received, &[Part { buffer: into, range: 0..64 }], flags, handler, token)
    })
    .unwrap();
    assert_eq!(until(&mut rig, 1), ["recv 1"]);
    let (control, from) = received.with(|it| (it.control().to_vec(), it.address().socket_address())).unwrap();
    assert_eq!(from, None, "it has no name");
    // SAFETY: no pointer is followed.
    let at = unsafe { libc::CMSG_LEN(0) } as usize;
    let carried_fd = i32::from_ne_bytes(control[at..at + 4].try_into().unwrap());
    // SAFETY: it is ours from now on.
    let mut carried_again = unsafe { UnixStream::from_raw_fd(carried_fd) };
    drop(carried);
    carried_again.write_all(b"through").unwrap();
    let mut bytes = [0; 16];
    assert_eq!((&other_end).read(&mut bytes).unwrap(), 7);
    assert_quiet(&mut rig);
}

fn a_message_that_did_not_come_is_nothing(engines: Engines) {
    let message = message::<1, 64>();
    let mut rig = rig(engines);
    let (ours, mut theirs) = pair();
    let fd = ours.as_raw_fd();
    let parts = [Part { buffer: buffer::<4096>(), range: 0..3 }];
    message.with(|it| it.set_control(&[1; 64]).unwrap()).unwrap();
    let recv =
        submit(&mut rig, "recv", nothing, |it, handler, token| it.recv_message(fd, message, &parts, 0, handler, token));
    assert_eq!(rig.turn(), [""; 0]);
    assert_eq!(message.with(|_| ()), Err(Error::BUSY));
    cancel(&rig, recv.unwrap());
    assert_eq!(until(&mut rig, 1), [format!("recv {}", -libc::ECANCELED)]);
    let empty = message.with(|it| it.control().is_empty() && it.address().socket_address().is_none()).unwrap();
    assert!(empty);
    // It can be sent: to the peer, without control data.
    submit(&mut rig, "send", nothing, |it, handler, token| it.send_message(fd, message, &parts, 0, handler, token))
        .unwrap();
    assert_eq!(until(&mut rig, 1), ["send 3"]);
    assert_eq!(theirs.read(&mut [0; 16]).unwrap(), 3);
    assert_quiet(&mut rig);
}

fn an_operation_waits_beside_a_source(engines: Engines) {
    let (ours, mut theirs) = pair();
    let mut rig = rig(engines);
    let source = rig.io("source", &ours, WRITABLE, nothing);
    let bytes = buffer::<4096>();
    recv(&mut rig, "recv", &ours, bytes);
    assert_eq!(rig.event_loop.io_interest(source), Ok(WRITABLE), "its own alone");
    assert_eq!(rig.turn(), ["source writable"]);
    rig.event_loop.modify_io(source, PAUSED).unwrap();
    assert_eq!(rig.turns(2), [""; 0]);
    theirs.write_all(b"data").unwrap();
    assert_eq!(until(&mut rig, 1), ["recv 4"]);
    assert_eq!(rig.event_loop.io_interest(source), Ok(PAUSED));
    rig.event_loop.modify_io(source, READABLE).unwrap();
    assert_eq!(rig.turns(2), [""; 0]);
    theirs.write_all(b"x").unwrap();
    let seen = rig.turn_for(1000 * MS);
    assert_eq!(seen, ["source readable"]);
    // Data that the operation takes are the operation's; and the source goes on.
    recv(&mut rig, "recv", &ours, bytes);
    let seen = until(&mut rig, 1);
    assert!(seen.contains(&"recv 1".to_owned()) || until(&mut rig, 1).contains(&"recv 1".to_owned()), "{seen:?}");
    rig.trace();
    assert_eq!(rig.turns(2), [""; 0]);
    theirs.write_all(b"y").unwrap();
    assert_eq!(rig.turn_for(1000 * MS), ["source readable"]);
    // A oneshot source, and a wait in the other direction.
    drain(&ours);
    rig.event_loop.modify_io(source, BOTH).unwrap();
    rig.event_loop.set_oneshot(source, true).unwrap();
    recv(&mut rig, "recv", &ours, bytes);
    assert_eq!(rig.turns(3), ["source writable"]);
    assert_eq!(rig.event_loop.io_interest(source), Ok(PAUSED));
    theirs.write_all(b"z").unwrap();
    assert_eq!(until(&mut rig, 1), ["recv 1"]);
    rig.event_loop.remove(source).unwrap();
    assert_quiet(&mut rig);
}

/// It is closed between what the system tells and its being asked again.
fn who_waits_for_a_closed_fd_is_told(engines: Engines) {
    if engines.backend == BackendChoice::IoUring {
        return; // the kernel has the file itself
    }
    let (ours, mut theirs) = pair();
    let mut rig = rig(engines);
    let mut ours = Some(ours);
    let fd = ours.as_ref().unwrap().as_raw_fd();
    for name in ["first", "second"] {
        let bytes = buffer::<4096>();
        let mut closing = if name == "first" { ours.take() } else { None };
        submit(
            &mut rig,
            name,
            move |_, _, _| drop(closing.take()),
            |it, handler, token| it.recv(fd, bytes, 0..4096, 0, handler, token),
        )
        .unwrap();
    }
    assert_eq!(rig.turn(), [""; 0]);
    theirs.write_all(b"x").unwrap();
    assert_eq!(until(&mut rig, 2), ["first 1".to_owned(), format!("second {}", errno(Error::BAD_FD))]);
    assert_quiet(&mut rig);
}

/// An operation that begins to wait in the middle of a turn, and is none of the sources': they come as if it were not there.
fn others_are_told_while_one_waits(engines: Engines) {
    let (idle, mut peer) = pair();
    let pairs = [(); 3].map(|()| readable());
    let mut rig = rig(engines);
    let bytes = buffer::<4096>();
    let fd = idle.as_raw_fd();
    let token = rig.app.token("recv", nothing);
    for (ours, _) in &pairs {
        rig.io("io", ours, READABLE, move |app, event_loop, event| {
            event_loop.remove(event.source).unwrap();
            if !bytes.is_lent() {
                let handle = as_static(event_loop).recv(fd, bytes, 0..4096, 0, handler, token).unwrap();
                app.named(token, handle);
            }
        });
    }
    assert_eq!(rig.turn(), ["io readable"; 3]);
    let (ours, _theirs) = readable();
    rig.io("late", &ours, READABLE, nothing);
    assert_eq!(rig.turns(2), ["late readable"; 2]);
    peer.write_all(b"data").unwrap();
    let trace = rig.turns(2);
    assert!(trace.contains(&"recv 4".to_owned()), "{trace:?}");
    assert_eq!(rig.event_loop.statistics().operations_now, 0);
}

fn a_source_comes_and_goes_around_a_wait(engines: Engines) {
    let (ours, mut theirs) = pair();
    let mut rig = rig(engines);
    let bytes = buffer::<4096>();
    recv(&mut rig, "recv", &ours, bytes);
    assert_eq!(rig.turn(), [""; 0]);
    let source = rig.io("source", &ours, WRITABLE, nothing);
    assert_eq!(rig.event_loop.find_io(ours.as_raw_fd()), Ok(source));
    assert_eq!(rig.turn(), ["source writable"]);
    rig.event_loop.remove(source).unwrap();
    assert_eq!(rig.event_loop.find_io(ours.as_raw_fd()), Err(Error::NOT_FOUND));
    assert_eq!(rig.turns(2), [""; 0]);
    theirs.write_all(b"data").unwrap();
    assert_eq!(until(&mut rig, 1), ["recv 4"]);
    // The watch of an fd that nobody waits for any more is in nobody's way.
    let source = rig.io("source", &ours, READABLE, nothing);
    assert_eq!(rig.turns(2), [""; 0]);
    theirs.write_all(b"x").unwrap();
    assert_eq!(rig.turn_for(1000 * MS), ["source readable"]);
    drain(&ours);
    recv(&mut rig, "recv", &ours, bytes);
    rig.event_loop.modify_io(source, PAUSED).unwrap();
    assert_eq!(rig.turn(), [""; 0]);
    rig.event_loop.remove(source).unwrap();
    theirs.write_all(b"data").unwrap();
    assert_eq!(until(&mut rig, 1), ["recv 4"]);
    // In one turn: a source, its removal, and another, with a wait all along.
    recv(&mut rig, "recv", &ours, bytes);
    for _ in 0..3 {
        let source = rig.io("source", &ours, BOTH, nothing);
        rig.event_loop.remove(source).unwrap();
    }
    assert_eq!(rig.turns(2), [""; 0]);
    theirs.write_all(b"data").unwrap();
    assert_eq!(until(&mut rig, 1), ["recv 4"]);
    assert_quiet(&mut rig);
}

fn a_paused_source_stays_silent_beside_a_wait(engines: Engines) {
    let (ours, theirs) = pair();
    let mut rig = rig(engines);
    let source = rig.io("source", &ours, PAUSED, nothing);
    recv(&mut rig, "recv", &ours, buffer::<4096>());
    assert_eq!(rig.turn(), [""; 0]);
    // Its end is the operation's to see, and the source's when that is resumed.
    drop(theirs);
    assert_eq!(until(&mut rig, 1), ["recv 0"]);
    assert_eq!(rig.turns(3), [""; 0]);
    rig.event_loop.modify_io(source, READABLE).unwrap();
    assert!(rig.turn_for(1000 * MS)[0].starts_with("source readable"));
}

fn a_close_of_a_watched_fd_is_busy(engines: Engines) {
    let (ours, _theirs) = pair();
    let mut rig = rig(engines);
    let fd = std::mem::ManuallyDrop::new(ours).as_raw_fd();
    let token = rig.app.token("source", nothing);
    let source = rig.event_loop.add_io(fd, READABLE, handler, token).unwrap();
    assert_eq!(rig.event_loop.close(fd, handler, 0), Err(Error::BUSY));
    // SAFETY: no pointer is passed.
    assert!(unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0, "it is open");
    rig.event_loop.remove(source).unwrap();
    if engines.backend != BackendChoice::IoUring {
        let token = rig.app.token("recv", nothing);
        let operation = rig.event_loop.recv(fd, buffer::<4096>(), 0..1, 0, handler, token).unwrap();
        assert_eq!(rig.event_loop.close(fd, handler, 0), Err(Error::BUSY));
        cancel(&rig, operation);
        assert_eq!(until(&mut rig, 1).len(), 1);
    }
    submit(&mut rig, "close", nothing, |it, handler, token| it.close(fd, handler, token)).unwrap();
    assert_eq!(until(&mut rig, 1), ["close 0"]);
    let inline = rig.event_loop.statistics().operations_inline;
    assert_eq!(inline, u64::from(engines.files != FilesChoice::IoUring));
}

fn a_number_that_is_used_again_is_another_file(engines: Engines) {
    let mut rig = rig(engines);
    let bytes = buffer::<4096>();
    let mut number = None;
    for round in 0..6 {
        let (ours, mut theirs) = pair();
        // The same number in each round.
        let fd = match number {
            None => *number.insert(std::mem::ManuallyDrop::new(ours).as_raw_fd()),
            Some(number) => {
                // SAFETY: the number is free, but for other tests: then it is theirs that is lost, and this one fails.
                let fd = unsafe { libc::fcntl(ours.as_raw_fd(), libc::F_DUPFD_CLOEXEC, number) };
                assert!(fd >= 0);
                fd
            }
        };
        submit(&mut rig, "recv", nothing, |it, handler, token| it.recv(fd, bytes, 0..4096, 0, handler, token)).unwrap();
        if round % 2 == 0 {
            assert_eq!(rig.turn(), [""; 0]);
        }
        theirs.write_all(b"data").unwrap();
        assert_eq!(until(&mut rig, 1), ["recv 4"], "round {round}");
        // SAFETY: it is ours.
        assert_eq!(unsafe { libc::close(fd) }, 0);
    }
    assert_quiet(&mut rig);
}

fn the_peers_end_is_told(engines: Engines) {
    let (ours, theirs) = pair();
    let mut rig = rig(engines);
    recv(&mut rig, "recv", &ours, buffer::<4096>());
    assert_eq!(rig.turn(), [""; 0]);
    drop(theirs);
    assert_eq!(until(&mut rig, 1), ["recv 0"]);
    // No signal comes.
    send(&mut rig, "send", &ours, b"x");
    assert_eq!(until(&mut rig, 1), [format!("send {}", -libc::EPIPE)]);
    assert_quiet(&mut rig);
}

fn retries_are_no_stale_events(engines: Engines) {
    let (ours, mut theirs) = pair();
    let mut rig = rig(engines);
    let source = rig.io("source", &ours, PAUSED, nothing);
    for _ in 0..10 {
        recv(&mut rig, "recv", &ours, buffer::<4096>());
        assert_eq!(rig.turn(), [""; 0]);
        theirs.write_all(b"x").unwrap();
        assert_eq!(until(&mut rig, 1), ["recv 1"]);
    }
    rig.event_loop.remove(source).unwrap();
    assert_eq!(rig.event_loop.statistics().stale_dropped, 0);
}

fn more_wait_than_fds_are_remembered(engines: Engines) {
    // As many fds as there are operations, again and again others.
    let mut rig = rig_of::<4>(&config(engines));
    for round in 0..8 {
        let pairs: Vec<_> = (0..4).map(|_| pair()).collect();
        for (ours, _) in &pairs {
            recv(&mut rig, "recv", ours, buffer::<4096>());
        }
        assert_eq!(rig.turn(), [""; 0]);
        for (_, theirs) in &pairs {
            let mut theirs = theirs;
            theirs.write_all(b"xy").unwrap();
        }
        assert_eq!(until(&mut rig, 4), ["recv 2"; 4], "round {round}");
        if round % 2 == 1 {
            // These stay open beside the next ones.
            std::mem::forget(pairs);
        }
    }
    assert_quiet(&mut rig);
}

// ---- Draining and dropping ----

fn a_drain_cancels_waits(engines: Engines) {
    let (ours, _theirs) = pair();
    for ran in [false, true] {
        let mut rig = rig(engines);
        if ran {
            assert_eq!(rig.turn(), [""; 0]);
        }
        let buffers: Vec<_> = (0..3).map(|_| buffer::<4096>()).collect();
        for buffer in &buffers {
            recv(&mut rig, "recv", &ours, buffer);
        }
        rig.event_loop.drain(&mut rig.app, Duration::FOREVER).unwrap();
        let cancelled = format!("recv {}", errno(Error::CANCELED));
        assert_eq!(rig.trace(), [cancelled.as_str(); 3]);
        assert!(buffers.iter().all(|it| !it.is_lent()));
        assert_eq!(rig.event_loop.drain(&mut rig.app, Duration::ZERO), Ok(()), "there is nothing");
        assert_quiet(&mut rig);
    }
}

fn a_drain_after_a_stop_keeps_it(engines: Engines) {
    let (ours, _theirs) = pair();
    let mut rig = rig(engines);
    recv(&mut rig, "recv", &ours, buffer::<4096>());
    rig.event_loop.stop().unwrap();
    rig.event_loop.drain(&mut rig.app, Duration::FOREVER).unwrap();
    assert_eq!(rig.trace().len(), 1);
    rig.timer("timer", 1000 * MS, 0, nothing);
    assert_eq!(rig.run(), (vec![], Outcome::Stopped));
}

fn a_drain_in_a_handler(engines: Engines) {
    let (ours, _theirs) = pair();
    let mut rig = rig(engines);
    recv(&mut rig, "a", &ours, buffer::<4096>());
    let token = rig.app.token("b", |app, event_loop, _| {
        assert_eq!(as_static(event_loop).drain(app, Duration::FOREVER), Err(Error::BUSY), "it is being drained");
        let refused = as_static(event_loop).recv(0, buffer::<4096>(), 0..1, 0, handler, 0);
        assert_eq!(refused, Err(Error::CANCELED));
    });
    rig.event_loop.recv(ours.as_raw_fd(), buffer::<4096>(), 0..1, 0, handler, token).unwrap();
    let stop = |app: &mut App, event_loop: &Loop<App>, _: becket::Event| {
        event_loop.stop().unwrap();
        as_static(event_loop).drain(app, Duration::FOREVER).unwrap();
        app.note("drained");
    };
    rig.timer("timer", 0, 0, stop);
    let (mut trace, outcome) = rig.run();
    assert_eq!(outcome, Outcome::Stopped);
    assert_eq!((trace.remove(0), trace.pop().unwrap()), ("timer 1".to_owned(), "drained".to_owned()));
    let cancelled = errno(Error::CANCELED);
    assert_eq!(sorted(trace), [format!("a {cancelled}"), format!("b {cancelled}")]);
    assert_quiet(&mut rig);
}

fn a_drain_leaves_other_events(engines: Engines) {
    let (ours, _theirs) = pair();
    let (readable, _peer) = readable();
    let mut rig = rig(engines);
    rig.io("source", &readable, READABLE, nothing);
    let target = rig.wake("wake", nothing);
    rig.event_loop.post(target, 5).unwrap();
    recv(&mut rig, "recv", &ours, buffer::<4096>());
    rig.event_loop.drain(&mut rig.app, Duration::FOREVER).unwrap();
    assert_eq!(rig.trace(), [format!("recv {}", errno(Error::CANCELED))]);
    assert_eq!(sorted(rig.turn()), ["source readable", "wake post 5"]);
}

fn a_drain_that_has_to_give_up(engines: Engines) {
    // A handler keeps an event from being the last: nothing that can be waited for; so the drain is asked for no time at all.
    let (ours, _theirs) = pair();
    let mut rig = rig(engines);
    for _ in 0..4 {
        recv(&mut rig, "recv", &ours, buffer::<4096>());
    }
    match rig.event_loop.drain(&mut rig.app, Duration::ZERO) {
        Ok(()) => assert_eq!(rig.trace().len(), 4),
        Err(error) => {
            assert_eq!(error, Error::TIMED_OUT);
            rig.event_loop.drain(&mut rig.app, Duration::FOREVER).unwrap();
            assert_eq!(rig.trace().len(), 4);
        }
    }
    assert_quiet(&mut rig);
}

fn a_drained_loop_accepts_again(engines: Engines) {
    let (ours, mut theirs) = pair();
    let mut rig = rig(engines);
    recv(&mut rig, "recv", &ours, buffer::<4096>());
    rig.event_loop.drain(&mut rig.app, Duration::FOREVER).unwrap();
    assert_eq!(rig.trace().len(), 1);
    recv(&mut rig, "recv", &ours, buffer::<4096>());
    assert_eq!(rig.turn(), [""; 0]);
    theirs.write_all(b"on").unwrap();
    assert_eq!(until(&mut rig, 1), ["recv 2"]);
}

fn a_dropped_loop_gives_its_memory_back(engines: Engines) {
    for turned in [false, true] {
        let (ours, mut theirs) = pair();
        let mut rig = rig(engines);
        let bytes = buffer::<4096>();
        recv(&mut rig, "recv", &ours, bytes);
        if turned {
            assert_eq!(rig.turn(), [""; 0]);
        }
        drop(rig);
        assert!(!bytes.is_lent(), "turned: {turned}");
        // And takes no data away.
        theirs.write_all(b"data").unwrap();
        assert_eq!(drain(&ours), 4);
    }
}

// ---- As any event ----

fn levels_and_handlers(engines: Engines) {
    let (ours, mut theirs) = pair();
    let (others, mut peers) = pair();
    let mut rig = rig(engines);
    let low = recv(&mut rig, "low", &ours, buffer::<4096>());
    let high = recv(&mut rig, "high", &others, buffer::<4096>());
    let event_loop = &rig.event_loop;
    assert_eq!((event_loop.kind(low), event_loop.level(low)), (Ok(Kind::Operation), Ok(0)));
    event_loop.set_level(low, 2).unwrap();
    event_loop.set_level(high, 1).unwrap();
    assert_eq!(event_loop.set_level(high, 4), Err(Error::INVALID));
    let token = rig.app.token("renamed", nothing);
    event_loop.set_handler(high, Some(handler), token).unwrap();
    assert_eq!(event_loop.token(high), Ok(token));
    assert_eq!(rig.turn(), [""; 0]);
    theirs.write_all(b"l").unwrap();
    peers.write_all(b"h").unwrap();
    while rig.event_loop.poll(Duration::FOREVER).unwrap() < 2 {}
    assert_eq!(until(&mut rig, 2), ["renamed 1", "low 1"]);
    // The next owners of their places are of level 0 again.
    let next = recv(&mut rig, "next", &ours, buffer::<4096>());
    assert_eq!(rig.event_loop.level(next), Ok(0));
}

fn an_operation_keeps_the_loop_alive(engines: Engines) {
    let (ours, mut theirs) = pair();
    let mut rig = rig(engines);
    let operation = recv(&mut rig, "recv", &ours, buffer::<4096>());
    assert_eq!(rig.event_loop.keepalive(operation), Ok(true));
    theirs.write_all(b"x").unwrap();
    assert_eq!(rig.run(), (vec!["recv 1".to_owned()], Outcome::NothingLeft));
    let operation = recv(&mut rig, "recv", &ours, buffer::<4096>());
    rig.event_loop.set_keepalive(operation, false).unwrap();
    assert_eq!(rig.run(), (vec![], Outcome::NothingLeft));
    rig.event_loop.drain(&mut rig.app, Duration::FOREVER).unwrap();
}

fn operations_are_pulled_and_dispatched(engines: Engines) {
    let (ours, mut theirs) = pair();
    let (others, mut peers) = pair();
    let mut rig = rig(engines);
    let fd = ours.as_raw_fd();
    let bytes = buffer::<4096>();
    // The handler takes a place: that of the other event, which is not dispatched yet, is not it.
    let again = move |app: &mut App, event_loop: &Loop<App>, event: becket::Event| {
        if !std::mem::replace(&mut app.acted, true) {
            as_static(event_loop).recv(fd, bytes, 0..1, 0, handler, event.token).expect("there is room");
        }
    };
    let first = submit(&mut rig, "a", again, |it, handler, token| it.recv(fd, bytes, 0..1, 0, handler, token)).unwrap();
    let second = recv(&mut rig, "b", &others, buffer::<4096>());
    theirs.write_all(b"x").unwrap();
    peers.write_all(b"y").unwrap();
    while rig.event_loop.poll(Duration::FOREVER).unwrap() < 2 {}
    assert_eq!(rig.event_loop.next(Kinds::IO | Kinds::TIMER), Ok(None));
    let mut events = Vec::new();
    while let Some(event) = rig.event_loop.next(Kinds::OPERATION).unwrap() {
        assert_eq!((event.kind, event.value, event.ready, event.level), (Kind::Operation, 1, Ready::empty(), 0));
        events.push(event);
    }
    events.sort_by_key(|event| event.token);
    assert_eq!((events[0].source, events[1].source), (first, second));
    assert_eq!((events[0].fd, events[1].fd), (fd, others.as_raw_fd()));
    for event in events {
        rig.event_loop.dispatch(&mut rig.app, event).expect("its handler is known");
    }
    assert_eq!(rig.trace(), ["a 1", "b 1"]);
    assert_eq!(rig.event_loop.statistics().operations_now, 1);
    rig.event_loop.drain(&mut rig.app, Duration::FOREVER).unwrap_or_else(|error| panic!("{error:?}"));
}

fn a_source_is_no_operation(engines: Engines) {
    let (ours, _theirs) = pair();
    let mut rig = rig(engines);
    let source = rig.wake("wake", nothing);
    assert_eq!(rig.event_loop.cancel(source), Err(Error::INVALID));
    assert_eq!(rig.event_loop.set_operation_deadline(source, Duration::ZERO), Err(Error::INVALID));
    let operation = recv(&mut rig, "recv", &ours, buffer::<4096>());
    let event_loop = &rig.event_loop;
    assert_eq!(event_loop.remove(operation), Err(Error::BUSY));
    assert_eq!(event_loop.trigger(operation, Ready::empty()), Err(Error::INVALID));
    assert_eq!(event_loop.post(operation, 1), Err(Error::INVALID));
    assert_eq!(event_loop.waker(operation).wake(), Err(Error::STALE));
    assert_eq!(event_loop.modify_io(operation, READABLE), Err(Error::INVALID));
    assert_eq!(event_loop.arm_timer(operation, Duration::ZERO, Duration::ZERO), Err(Error::INVALID));
    assert_eq!(event_loop.defer(operation), Err(Error::INVALID));
    assert_eq!(rig.turn(), [""; 0]);
    rig.event_loop.drain(&mut rig.app, Duration::FOREVER).unwrap();
}

fn bad_arguments_change_nothing(engines: Engines) {
    let rig = rig(engines);
    let bytes = buffer::<64>();
    let event_loop = &rig.event_loop;
    assert_eq!(event_loop.read(-1, bytes, 0..1, None, handler, 0), Err(Error::BAD_FD));
    #[allow(clippy::reversed_empty_ranges)]
    for range in [0..65, 70..71, 3..2] {
        assert_eq!(event_loop.recv(0, bytes, range, 0, handler, 0), Err(Error::INVALID));
    }
    assert_eq!(event_loop.read(0, bytes, 0..1, Some(u64::MAX), handler, 0), Err(Error::INVALID));
    assert_eq!(event_loop.read(0, bytes, 0..1, Some(1 << 63), handler, 0), Err(Error::INVALID));
    bytes.with(|it| it.fill(b'x')).unwrap();
    assert_eq!(event_loop.open(libc::AT_FDCWD, bytes, 0, 0, handler, 0), Err(Error::INVALID), "a path without an end");
    bytes.with(|_| assert_eq!(event_loop.recv(0, bytes, 0..1, 0, handler, 0), Err(Error::BUSY))).unwrap();
    if engines.files == FilesChoice::None {
        let folder = Folder::new("nobody", engines);
        let file = folder.file(b"x");
        let fd = file.as_raw_fd();
        assert_eq!(event_loop.files(), ("none", ""));
        assert_eq!(event_loop.read(fd, bytes, 0..1, Some(0), handler, 0), Err(Error::NO_CALL));
        assert_eq!(event_loop.read(fd, bytes, 0..1, None, handler, 0), Err(Error::NO_CALL));
        assert_eq!(event_loop.fsync(fd, false, handler, 0), Err(Error::NO_CALL));
    }
    assert!(!bytes.is_lent());
    assert_eq!(event_loop.statistics().operations, 0);
}
