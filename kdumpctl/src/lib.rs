// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kdump service on the host: what `kdumpctl` does.
//!
//! ```text
//! /etc/kdump.conf, /etc/sysconfig/kdump ─▶ Setup ─▶ image, written where its bytes would differ ─▶ kexec::load
//! ```
//! The image is made anew at each start, which takes less than a second, and compared with the one that is there: a clock
//! that was set back, or a file that was touched, changes nothing, and an edited hook or key is never missed.
//!
//! What it does not do: anything in the capture kernel, and any start of its own. Whoever starts services calls it.
#![forbid(unsafe_code)]

pub mod boot;
pub mod crashkernel;
pub mod dumps;
pub mod propagate;
pub mod save_raw;
pub mod say;
pub mod setup;
pub mod status;
pub mod sysconfig;
pub mod test;
pub mod update;

use initramfs_builder::error::{Mistake, Mistakes};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One `kdumpctl` at a time holds it.
const LOCK: &str = "/var/lock/kdump";

/// Waits until no other `kdumpctl` is at work; `tell` is called when there is one.
///
/// # Errors
/// The lock's file cannot be made.
pub fn lock(tell: impl FnOnce()) -> Result<File, Mistake> {
    let path = Path::new(LOCK);
    let failed = |error: std::io::Error| Mistake::new(format!("locking {LOCK}: {error}"));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let file = File::create(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            tell();
            file.lock().map_err(failed)?;
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    Ok(file)
}

/// Runs a program of the system that talks to the person itself.
///
/// # Errors
/// It is not there, or fails.
pub fn run(command: &mut Command) -> Result<(), Mistakes> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .map_err(|error| Mistake::new(format!("running {name}: {error}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Mistake::new(format!("{name}: {status}")).into())
    }
}

/// The program in one of the system's folders, which need not all be in the caller's `PATH`.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    initramfs_builder::programs::FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}
