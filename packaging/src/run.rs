// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a program of the host and keeps what it said for the error.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` to its end, without input.
///
/// # Errors
/// The program cannot be started, or it ended otherwise than with 0; the error has what it printed.
pub fn run(command: &mut Command) -> Result<Output> {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// Runs `command` and returns what it printed on standard output.
///
/// # Errors
/// As [`run`].
pub fn stdout(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&run(command)?.stdout).into_owned())
}
