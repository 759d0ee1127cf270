//! The end of child processes, by a pidfd and by SIGCHLD. Processes of their own: SIGCHLD is the process's.

use crate::harness::*;
use becket::{BackendChoice, Config, Error, Kinds};
use std::process::{Child, Command, Stdio};

each_backend! { alone:
    a_childs_end_comes_with_its_status
    a_child_that_is_watched_by_descriptor_0
    a_child_that_was_killed
    a_child_that_had_ended_before
    many_children_each_tell_their_own
    other_children_are_left_alone
    processes_that_are_no_children
    a_removed_child_is_not_told_and_not_reaped
    a_child_that_somebody_else_reaped
    a_signal_source_for_the_end_of_children_lives_beside_them
}

fn both_ways(backend: BackendChoice) -> [Config; 2] {
    [false, true].map(|without_pidfd| Config { backend, without_pidfd, ..Config::default() })
}

/// A shell; it is killed when it is forgotten by everybody, for nothing may stay behind.
struct Shell(Child);

impl Shell {
    fn run(script: &str) -> Shell {
        Shell(Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().expect("a shell"))
    }

    /// One that runs until its input ends.
    fn waiting() -> Shell {
        Shell::run("read -r line; exit 5")
    }

    fn end(&mut self) {
        drop(self.0.stdin.take());
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_childs_end_comes_with_its_status(backend: BackendChoice) {
    for config in both_ways(backend) {
        let mut shell = Shell::waiting();
        let mut rig = Rig::with(&config);
        let source = rig.child("child", shell.0.id(), nothing);
        assert_eq!(rig.event_loop.child_pid(source), Ok(shell.0.id() as i32));
        assert_eq!(rig.turn(), [""; 0], "it runs");
        rig.event_loop.trigger(source, PAUSED).unwrap();
        assert_eq!(rig.turn(), [format!("child {} triggered", -Error::AGAIN.errno())], "it still runs");
        shell.end();
        // The run ends with it: what has ended keeps nothing alive.
        assert_eq!(rig.run().0, [format!("child {}", 5 << 8)]);
        assert_eq!(rig.turns(2), [""; 0], "once");
        rig.event_loop.remove(source).unwrap();
        assert_eq!(rig.event_loop.statistics().sources, 0);
    }
}

/// A program without standard input: the lowest free number is as good as any.
fn a_child_that_is_watched_by_descriptor_0(backend: BackendChoice) {
    let mut shell = Shell::waiting();
    let mut rig = Rig::with(&Config { backend, ..Config::default() });
    // SAFETY: standard input, which nobody reads in this process.
    assert_eq!(unsafe { libc::close(0) }, 0);
    let source = rig.child("child", shell.0.id(), nothing);
    shell.end();
    assert_eq!(rig.run().0, [format!("child {}", 5 << 8)]);
    // SAFETY: asks for flags alone.
    assert_eq!(unsafe { libc::fcntl(0, libc::F_GETFD) }, -1, "what the loop opened is closed");
    rig.event_loop.remove(source).unwrap();
}

fn a_child_that_was_killed(backend: BackendChoice) {
    for config in both_ways(backend) {
        let mut shell = Shell::waiting();
        let mut rig = Rig::with(&config);
        rig.child("child", shell.0.id(), nothing);
        shell.0.kill().unwrap();
        assert_eq!(rig.run().0, [format!("child {}", libc::SIGKILL)]);
    }
}

fn wait_for_end(shell: &Shell) {
    // SAFETY: valid to write to; all zeros is a siginfo_t. WNOWAIT: it is not reaped.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        assert_eq!(libc::waitid(libc::P_PID, shell.0.id(), &raw mut info, libc::WEXITED | libc::WNOWAIT), 0);
    }
}

fn a_child_that_had_ended_before(backend: BackendChoice) {
    for config in both_ways(backend) {
        let shell = Shell::run("exit 7");
        wait_for_end(&shell);
        let mut rig = Rig::with(&config);
        rig.child("child", shell.0.id(), nothing);
        assert_eq!(rig.run().0, [format!("child {}", 7 << 8)]);
    }
}

fn many_children_each_tell_their_own(backend: BackendChoice) {
    for config in both_ways(backend) {
        let shells: Vec<_> = (0..10).map(|number| Shell::run(&format!("exit {number}"))).collect();
        let mut rig = Rig::with(&config);
        for (number, shell) in shells.iter().enumerate() {
            rig.child(&number.to_string(), shell.0.id(), nothing);
        }
        let mut trace = rig.run().0;
        trace.sort();
        assert_eq!(trace, (0..10).map(|number| format!("{number} {}", number << 8)).collect::<Vec<_>>());
    }
}

fn other_children_are_left_alone(backend: BackendChoice) {
    for config in both_ways(backend) {
        let (mut other, mut shell) = (Shell::run("exit 3"), Shell::waiting());
        let mut rig = Rig::with(&config);
        rig.child("child", shell.0.id(), nothing);
        wait_for_end(&other);
        assert_eq!(rig.turns(2), [""; 0]);
        shell.end();
        assert_eq!(rig.run().0.len(), 1);
        assert_eq!(other.0.wait().unwrap().code(), Some(3), "the program's own to reap");
    }
}

fn processes_that_are_no_children(backend: BackendChoice) {
    for config in both_ways(backend) {
        let rig = Rig::with(&config);
        let it = &rig.event_loop;
        let (this, parent) = (std::process::id() as i32, std::os::unix::process::parent_id() as i32);
        for process in [1, this, parent, i32::MAX] {
            assert_eq!(it.add_child(process, handler, 0), Err(Error::NOT_OURS), "{process}");
        }
        for process in [0, -1, -this, i32::MIN] {
            assert_eq!(it.add_child(process, handler, 0), Err(Error::INVALID), "{process}");
        }
        let mut shell = Shell::run("exit 0");
        shell.0.wait().unwrap();
        assert_eq!(it.add_child(shell.0.id() as i32, handler, 0), Err(Error::NOT_OURS), "reaped already");
        assert_eq!(it.statistics().sources, 0);
    }
}

fn a_removed_child_is_not_told_and_not_reaped(backend: BackendChoice) {
    for config in both_ways(backend) {
        let mut shell = Shell::waiting();
        let mut rig = Rig::with(&config);
        let source = rig.child("child", shell.0.id(), nothing);
        shell.end();
        wait_for_end(&shell);
        rig.event_loop.poll(becket::Duration::from_millis(50)).unwrap(); // most likely queued
        rig.event_loop.remove(source).unwrap();
        assert_eq!(rig.pull(Kinds::all()), [""; 0]);
        assert_eq!(rig.turn(), [""; 0]);
        assert_eq!(shell.0.wait().unwrap().code(), Some(5));
    }
}

fn a_child_that_somebody_else_reaped(backend: BackendChoice) {
    for config in both_ways(backend) {
        let mut shell = Shell::waiting();
        let mut rig = Rig::with(&config);
        rig.child("child", shell.0.id(), nothing);
        shell.end();
        shell.0.wait().unwrap();
        assert_eq!(rig.run().0, [format!("child {}", -libc::ECHILD)]);
    }
}

fn a_signal_source_for_the_end_of_children_lives_beside_them(backend: BackendChoice) {
    for config in both_ways(backend) {
        let shell = Shell::run("exit 7");
        let mut rig = Rig::with(&config);
        rig.child("child", shell.0.id(), |_, event_loop, event| event_loop.remove(event.source).unwrap());
        rig.signal("signal", libc::SIGCHLD, |_, event_loop, event| event_loop.remove(event.source).unwrap());
        let mut other = Shell::run("exit 0"); // so that the signal comes after it was asked for
        let mut trace = rig.run().0;
        trace.sort();
        assert_eq!((trace.len(), trace[0].as_str()), (2, "child 1792"));
        assert!(trace[1].starts_with("signal "));
        other.0.wait().unwrap();
        // Both uses have ended: another loop may have the signal.
        let mut next = Rig::new(backend);
        next.signal("signal", libc::SIGCHLD, nothing);
    }
}
