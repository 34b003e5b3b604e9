// SPDX-License-Identifier: MIT OR Apache-2.0
//! One run under ptrace(2), with one call that fails.

use crate::root::{NOBODY, Root};
use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What the deadlines of the record add up to, and far more than that on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Where x86_64's registers lie in `struct user`, in bytes.
const ORIG_RAX: usize = 15 * 8;
const RAX: usize = 10 * 8;

/// Which call fails, and with what.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The how-manieth process, PID 1 being 0.
    pub(crate) process: usize,
    /// The call's number.
    pub(crate) call: i64,
    /// The how-manieth of these in the process, counted from 0: of all calls it would differ from run to run, as what is waited
    /// for comes sooner or later.
    pub(crate) nth: usize,
    pub(crate) errno: i32,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By reboot(2).
    Rebooted,
    /// By the kernel's key, as reboot(2) did not do it.
    Forced,
    /// PID 1 ended.
    Ended,
    /// It did not end in time.
    Hung,
}

/// What a run did.
pub(crate) struct Run {
    /// The numbers of the calls of each process, in the order in which the processes began.
    pub(crate) calls: Vec<Vec<i64>>,
    pub(crate) end: End,
    /// The call that was to fail was made.
    pub(crate) struck: bool,
}

struct Process {
    number: usize,
    /// What the call that it is in is answered with.
    answer: Option<i64>,
}

/// Runs init, and has the call of `fault` fail.
pub(crate) fn run(root: &Root, fault: Option<&Fault>) -> Run {
    let folder = CString::new(root.0.as_os_str().as_bytes()).unwrap();
    // SAFETY: the child calls only what may be called between fork and exec in a program with threads, on strings that are
    // there before.
    let first = unsafe { libc::fork() };
    if first == 0 {
        // SAFETY: this is the child, see above.
        unsafe { become_init(&folder) }
    }
    assert!(first > 0, "fork");
    let mut status = 0;
    // SAFETY: `status` is ours, and `first` is a child of this thread.
    unsafe { libc::waitpid(first, &raw mut status, libc::__WALL) };
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    ptrace(libc::PTRACE_SETOPTIONS, first, i64::from(options));
    let (stop, watcher) = watch(first);
    let run = follow(first, fault);
    drop(stop);
    let late = watcher.join().unwrap();
    Run {
        end: if late && run.end != End::Rebooted && run.end != End::Forced {
            End::Hung
        } else {
            run.end
        },
        ..run
    }
}

type Watch = (mpsc::Sender<()>, thread::JoinHandle<bool>);

/// Kills the run when its time is over, which takes everything in its namespace along.
fn watch(first: i32) -> Watch {
    let (stop, stopped) = mpsc::channel::<()>();
    let watcher = thread::spawn(move || {
        let late = stopped.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            // SAFETY: the group is that of this run: `first` made it, and is not reaped before the watch ends.
            unsafe { libc::kill(first, libc::SIGKILL) };
        }
        late
    });
    (stop, watcher)
}

/// Has every process of the run go on from call to call, to the end.
fn follow(first: i32, fault: Option<&Fault>) -> Run {
    let mut run = Run {
        calls: Vec::new(),
        end: End::Ended,
        struck: false,
    };
    let mut processes: HashMap<i32, Process> = HashMap::new();
    let mut pid1 = None;
    resume(first, 0);
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours; only children of this thread are asked for.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if pid < 0 {
            return run;
        }
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            processes.remove(&pid);
            if Some(pid) == pid1 && run.end == End::Ended {
                // The namespace ends with it; what is left is reaped.
                pid1 = None;
            }
            continue;
        }
        let signal = libc::WSTOPSIG(status);
        let event = status >> 16;
        if event == libc::PTRACE_EVENT_EXEC && pid != first && pid1.is_none() {
            pid1 = Some(pid);
        }
        if signal == libc::SIGTRAP | 0x80 {
            if pid == first || pid1.is_none() {
                resume(pid, 0);
                continue;
            }
            let process = processes.entry(pid).or_insert_with(|| {
                run.calls.push(Vec::new());
                Process {
                    number: run.calls.len() - 1,
                    answer: None,
                }
            });
            if !is_at_entry(pid) {
                if let Some(answer) = process.answer.take() {
                    poke(pid, RAX, answer);
                }
            } else {
                let call = peek(pid, ORIG_RAX);
                let calls = &mut run.calls[process.number];
                calls.push(call);
                let strikes = fault.is_some_and(|fault| {
                    let made = || calls.iter().filter(|made| **made == call).count();
                    fault.process == process.number && fault.call == call && fault.nth + 1 == made()
                });
                if strikes && let Some(fault) = fault {
                    run.struck = true;
                    process.answer = Some(-i64::from(fault.errno));
                } else if call == libc::SYS_reboot {
                    run.end = End::Rebooted;
                } else if is_the_key(pid, call) {
                    run.end = End::Forced;
                } else if matches!(call, libc::SYS_mount | libc::SYS_umount2 | libc::SYS_sync) {
                    process.answer = Some(0);
                }
                if process.answer.is_some() {
                    poke(pid, ORIG_RAX, -1);
                }
                if matches!(run.end, End::Rebooted | End::Forced) {
                    // Everything in its namespace ends with PID 1, before the call is carried out.
                    for one in pid1.into_iter().chain([first]) {
                        // SAFETY: both are of this run, and not reaped.
                        unsafe { libc::kill(one, libc::SIGKILL) };
                    }
                    drain();
                    return run;
                }
            }
            resume(pid, 0);
            continue;
        }
        // Stops by ptrace itself are passed over; signals are delivered.
        let deliver = match signal {
            libc::SIGTRAP | libc::SIGSTOP => 0,
            signal => signal,
        };
        resume(pid, deliver);
    }
}

/// Whether the process is about to make a call, and not behind one.
fn is_at_entry(pid: i32) -> bool {
    const GET_SYSCALL_INFO: u32 = 0x420e;
    const ENTRY: u8 = 1;
    let mut op = 0_u8;
    // SAFETY: the kernel writes as many bytes as it is told that there is room for: one, `op` of `struct ptrace_syscall_info`.
    unsafe { libc::ptrace(GET_SYSCALL_INFO, pid, 1_usize, &raw mut op) };
    op == ENTRY
}

/// Reaps what is left of a run that was killed.
fn drain() {
    let mut status = 0;
    loop {
        // SAFETY: as in `follow`.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if pid < 0 {
            return;
        }
        if libc::WIFSTOPPED(status) {
            // SAFETY: it is a tracee of this thread.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
}

/// PID 1 writes the one letter that has the kernel reboot.
fn is_the_key(pid: i32, call: i64) -> bool {
    const RDX: usize = 12 * 8;
    const RSI: usize = 13 * 8;
    if call != libc::SYS_write || peek(pid, RDX) != 1 {
        return false;
    }
    let word = peek_data(pid, peek(pid, RSI));
    word & 0xff == i64::from(b'b')
}

/// The child: a process of nobody, in a folder of its own, whose child is PID 1 of a namespace and becomes init.
///
/// # Safety
/// It is called between fork and exec, and calls only what may be called there.
unsafe fn become_init(folder: &CString) -> ! {
    let spaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    let init = c"/init".as_ptr();
    let arguments = [init, std::ptr::null()];
    let nothing = [std::ptr::null()];
    // SAFETY: system calls on strings and arrays that outlive them; every failure ends the process.
    unsafe {
        let check = |result: i64, code: i32| {
            if result < 0 {
                libc::_exit(code);
            }
        };
        if libc::geteuid() == 0 {
            check(
                libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()),
                101,
            );
            check(
                libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY),
                102,
            );
            check(
                libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY),
                103,
            );
        }
        check(i64::from(libc::prctl(libc::PR_SET_DUMPABLE, 1)), 104);
        check(libc::ptrace(libc::PTRACE_TRACEME), 105);
        check(i64::from(libc::raise(libc::SIGSTOP)), 106);
        check(i64::from(libc::unshare(spaces)), 107);
        check(i64::from(libc::chroot(folder.as_ptr())), 108);
        check(i64::from(libc::chdir(c"/".as_ptr())), 109);
        let console = libc::open(c"/dev/console".as_ptr(), libc::O_RDWR | libc::O_APPEND);
        check(i64::from(console), 112);
        for stream in 0..=2 {
            libc::dup2(console, stream);
        }
        let child = libc::fork();
        check(i64::from(child), 110);
        if child == 0 {
            libc::execve(init, arguments.as_ptr(), nothing.as_ptr());
            libc::_exit(111);
        }
        libc::waitpid(child, std::ptr::null_mut(), 0);
        libc::_exit(0)
    }
}

fn ptrace(request: u32, pid: i32, data: i64) {
    // SAFETY: no request that is made here has a pointer.
    let _gone = unsafe { libc::ptrace(request, pid, 0, data) };
}

fn resume(pid: i32, signal: i32) {
    ptrace(libc::PTRACE_SYSCALL, pid, i64::from(signal));
}

fn peek(pid: i32, register: usize) -> i64 {
    // SAFETY: glibc's wrapper returns the word; a process that is gone gives -1, which is no call.
    unsafe { libc::ptrace(libc::PTRACE_PEEKUSER, pid, register, 0) }
}

fn peek_data(pid: i32, address: i64) -> i64 {
    // SAFETY: as above; an address that is none gives -1.
    unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, pid, address, 0) }
}

fn poke(pid: i32, register: usize, value: i64) {
    // SAFETY: a register of a process that is stopped for this thread.
    let _gone = unsafe { libc::ptrace(libc::PTRACE_POKEUSER, pid, register, value) };
}
