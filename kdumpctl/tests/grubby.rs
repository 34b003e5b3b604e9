// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where there is a grubby, `reset-crashkernel` leaves the boot loader to it: here one that writes down how it was called.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Where programs are looked for, whatever the caller's `PATH` has: no other process sees what is put there.
const PUT: &str =
    "mount -t tmpfs tmpfs /usr/local/sbin && cp \"$1\" /usr/local/sbin/ && shift && exec \"$@\"";

/// `kdumpctl reset-crashkernel` for a kernel, and what its grubby, which ends so, was called with.
fn reset(name: &str, status: u8) -> (Output, String) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let grubby = folder.join("grubby");
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > {}/arguments\necho 'no such kernel' >&2\nexit {status}\n",
        folder.display()
    );
    fs::write(&grubby, text).unwrap();
    fs::set_permissions(&grubby, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", PUT, "sh"])
        .arg(grubby)
        .arg(env!("CARGO_BIN_EXE_kdumpctl"))
        .args(["reset-crashkernel", "--kernel=/boot/vmlinuz-6.99-test"])
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    let arguments = fs::read_to_string(folder.join("arguments")).unwrap();
    (output, arguments)
}

#[test]
fn it_is_told_the_kernel_and_the_value() {
    let (output, arguments) = reset("grubby", 0);
    assert!(output.status.success(), "{output:?}");
    let value = kdumpctl::crashkernel::default_for(std::env::consts::ARCH).unwrap();
    assert_eq!(
        arguments,
        format!("--update-kernel\n/boot/vmlinuz-6.99-test\n--args\ncrashkernel={value}\n")
    );
}

#[test]
fn its_failure_is_ours() {
    let (output, _) = reset("grubby-fails", 1);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no such kernel"), "{said}");
}
