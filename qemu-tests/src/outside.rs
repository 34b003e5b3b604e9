// SPDX-License-Identifier: MIT OR Apache-2.0
//! What programs that are not ours say of a dumpfile: makedumpfile, crash, drgn.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{run, stdout};
use crate::setup;

/// The kernel log that makedumpfile finds in a dumpfile. `scratch` is a file that it may write.
///
/// # Errors
/// makedumpfile cannot read the dumpfile.
pub fn makedumpfile_dmesg(dump: &Path, scratch: &Path) -> Result<Vec<u8>> {
    run(setup::program("makedumpfile")?
        .args(["-f", "--dump-dmesg"])
        .arg(dump)
        .arg(scratch))
    .with_context(|| format!("makedumpfile on {}", dump.display()))?;
    fs::read(scratch).with_context(|| format!("reading {}", scratch.display()))
}

/// What crash prints for `commands`, one a line.
///
/// # Errors
/// crash does not open the dumpfile.
pub fn crash_says(vmlinux: &Path, dump: &Path, commands: &str) -> Result<String> {
    let input = format!("{commands}\nquit\n");
    let script = "printf %s \"$1\" | \"$0\" -s \"$2\" \"$3\" 2>&1";
    let program = setup::find_program("crash").context("crash is not installed")?;
    stdout(
        Command::new("sh")
            .args(["-c", script])
            .arg(program)
            .arg(input)
            .arg(vmlinux)
            .arg(dump)
            .env("TERM", "dumb"),
    )
    .with_context(|| format!("crash on {}", dump.display()))
}

/// What drgn sees of a dumpfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The kernel's release.
    pub release: String,
    /// The task that panicked: its name and pid.
    pub crashed: String,
    /// The functions on its stack, innermost first.
    pub stack: Vec<String>,
    /// How many tasks there are.
    pub task_count: u64,
    /// The log's last line.
    pub last_line: String,
}

const DRGN: &str = r#"
import sys, drgn
from drgn.helpers.linux import for_each_task, get_dmesg
prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
prog.load_debug_info([sys.argv[2]])
thread = prog.crashed_thread()
print(prog["init_uts_ns"].name.release.string_().decode())
print(thread.object.comm.string_().decode(), thread.tid)
print(" ".join(frame.name or "?" for frame in thread.stack_trace()))
print(sum(1 for task in for_each_task(prog) if task.comm.string_() and task.signal.nr_threads >= 0))
print(get_dmesg(prog).splitlines()[-1].decode())
"#;

/// Opens a dumpfile in drgn, reads the name and the signal struct of every task, the stack of the one that panicked, and
/// the log.
///
/// # Errors
/// Any of it cannot be read.
pub fn drgn_sees(vmlinux: &Path, dump: &Path) -> Result<Seen> {
    let text = stdout(
        Command::new(setup::drgn_python()?)
            .args(["-c", DRGN])
            .arg(dump)
            .arg(vmlinux),
    )
    .with_context(|| format!("drgn on {}", dump.display()))?;
    let lines: Vec<&str> = text.lines().collect();
    let &[release, crashed, stack, tasks, last_line] = lines.as_slice() else {
        bail!("drgn printed {} lines instead of 5:\n{text}", lines.len());
    };
    Ok(Seen {
        release: release.to_owned(),
        crashed: crashed.to_owned(),
        stack: stack.split_whitespace().map(str::to_owned).collect(),
        task_count: tasks.parse().context("drgn's number of tasks")?,
        last_line: last_line.to_owned(),
    })
}
