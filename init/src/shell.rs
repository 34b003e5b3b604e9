// SPDX-License-Identifier: MIT OR Apache-2.0
//! The failure action `shell`: one shell on every console, for a person who wants to save what can be saved.
//!
//! The shell is busybox where the image carries it, else the small one of `words.rs`. PID 1 waits here without a bound, as
//! nobody can say how long a person needs; it takes the signals with which busybox asks an init to end the machine.

use crate::log;
use crate::supervise;
use crate::sys;
use crate::vmcore::error;
use crate::words::{self, Session};
use crate::{clock, files};
use config::FinalAction;
use core::ffi::CStr;
use core::fmt;
use heapless::Vec;
use rustix::fd::OwnedFd;
use rustix::fs::{Access, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{self, Pid, Signal, WaitOptions, kill_process, setsid, waitpid};

/// The most consoles that get a shell.
const MAX_CONSOLES: usize = 8;
/// A shell that ended sooner had no person before it: its console is not connected.
const ALIVE_MS: u64 = 2000;
/// The busybox of the image.
const BUSYBOX: &CStr = c"/bin/busybox";

/// A console's node, as `open` takes it.
type Node = heapless::CString<40>;

struct Console {
    node: Node,
    pid: Pid,
    started_ms: u64,
}

/// Runs a shell on every console until a person ends one. What the person wants then, if it was said.
pub fn run(session: &Session<'_>) -> Option<FinalAction> {
    let mut consoles = Vec::<Console, MAX_CONSOLES>::new();
    for node in nodes() {
        let child = sys::fork(|| {
            supervise::set_oom_score(b"0");
            match open_console(&node) {
                Ok(()) => on_console(session),
                Err(_) => 1,
            }
        });
        match child {
            Ok(pid) => {
                let _ = consoles.push(Console {
                    node,
                    pid,
                    started_ms: clock::now_ms(),
                });
            }
            Err(errno) => log!("no shell on {}: {}", Shown(&node), error(errno)),
        }
    }
    let wanted = wait(&mut consoles);
    for console in &consoles {
        let _ = kill_process(console.pid, Signal::KILL);
    }
    wanted
}

/// Waits until a shell ends or a signal asks for the end.
fn wait(consoles: &mut Vec<Console, MAX_CONSOLES>) -> Option<FinalAction> {
    loop {
        // Any child: each shell leads a process group of its own.
        while let Ok(Some((pid, _))) = process::wait(WaitOptions::NOHANG) {
            let Some(position) = consoles.iter().position(|console| console.pid == pid) else {
                // A process of a shell that PID 1 inherited.
                continue;
            };
            let console = consoles.swap_remove(position);
            let alive_ms = clock::now_ms().saturating_sub(console.started_ms);
            if alive_ms >= ALIVE_MS {
                return None;
            }
            log!("the shell on {} ended at once", Shown(&console.node));
        }
        if consoles.is_empty() {
            return None;
        }
        // Source: busybox 1.35 init/init.c: `reboot`, `halt` and `poweroff` without `-f` send these to PID 1. The kernel
        // sends SIGINT for Ctrl-Alt-Del where that is switched off.
        let asked = sys::wait_signal(
            &[
                Signal::CHILD,
                Signal::TERM,
                Signal::INT,
                Signal::USR1,
                Signal::USR2,
            ],
            None,
        );
        match asked {
            Some(Signal::TERM | Signal::INT) => return Some(FinalAction::Reboot),
            Some(Signal::USR1) => return Some(FinalAction::Halt),
            Some(Signal::USR2) => return Some(FinalAction::Poweroff),
            _ => {}
        }
    }
}

/// The child on its console.
fn on_console(session: &Session<'_>) -> u8 {
    words::print(format_args!(
        "\nkdump: no dump was saved. The crashed kernel's memory is /proc/vmcore.\n\
         `/init help` lists what this image can do; `exit` ends the shell, then: {}.\n\n",
        session.record.final_action
    ));
    if rustix::fs::access(BUSYBOX, Access::EXEC_OK).is_ok() {
        install_busybox();
        let errno = sys::execve(
            BUSYBOX,
            &[c"sh"],
            &[
                c"PATH=/bin:/sbin:/usr/bin:/usr/sbin",
                c"HOME=/",
                c"TERM=linux",
                c"PS1=kdump# ",
            ],
        );
        words::print(format_args!("/bin/busybox: {}\n", error(errno)));
    }
    words::interactive(session)
}

/// Gives busybox's programs their names in `/bin`; the shell finds them without, but a script may not.
fn install_busybox() {
    let child = sys::fork(|| {
        sys::execve(BUSYBOX, &[c"busybox", c"--install", c"-s", c"/bin"], &[]);
        1
    });
    if let Ok(pid) = child {
        let _ = waitpid(Some(pid), WaitOptions::empty());
    }
}

/// Makes `node` this process's terminal.
fn open_console(node: &Node) -> Result<(), Errno> {
    setsid()?;
    let fd = rustix::fs::open(node.as_c_str(), OFlags::RDWR, Mode::empty())?;
    // Without a controlling terminal Ctrl-C does nothing; all else works.
    let _ = process::ioctl_tiocsctty(&fd);
    sys::set_standard_streams(&fd)?;
    close_unless_standard(fd);
    Ok(())
}

/// The new descriptor may have become one of the three itself.
fn close_unless_standard(fd: OwnedFd) {
    if rustix::fd::AsRawFd::as_raw_fd(&fd) <= 2 {
        core::mem::forget(fd);
    }
}

/// The nodes of all consoles, `/dev/console` where the kernel names none.
fn nodes() -> Vec<Node, MAX_CONSOLES> {
    let mut buffer = [0; 1024];
    let mut nodes = parse_consoles(files::read_text(c"/proc/consoles", &mut buffer).unwrap_or(""));
    nodes.retain(|node| rustix::fs::access(node.as_c_str(), Access::READ_OK).is_ok());
    if nodes.is_empty()
        && let Some(node) = node("console")
    {
        let _ = nodes.push(node);
    }
    nodes
}

/// Source: Linux Documentation/filesystems/proc.rst, `/proc/consoles`: the name comes first on each line.
fn parse_consoles(text: &str) -> Vec<Node, MAX_CONSOLES> {
    text.lines()
        .filter_map(|line| node(line.split_ascii_whitespace().next()?))
        .take(MAX_CONSOLES)
        .collect()
}

fn node(name: &str) -> Option<Node> {
    let mut node = Node::new();
    node.extend_from_bytes(b"/dev/").ok()?;
    node.extend_from_bytes(name.as_bytes()).ok()?;
    Some(node)
}

struct Shown<'n>(&'n Node);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_c_str().to_str().unwrap_or("?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_console_has_a_node() {
        let text =
            "tty0                 -WU (E  p  )    4:1\nttyS0                -W- (EC a)    4:64\n";
        let nodes = parse_consoles(text);
        assert_eq!(nodes[0].as_c_str(), c"/dev/tty0");
        assert_eq!(nodes[1].as_c_str(), c"/dev/ttyS0");
        assert!(parse_consoles("").is_empty());
        assert!(parse_consoles(&"x".repeat(60)).is_empty());
    }
}
