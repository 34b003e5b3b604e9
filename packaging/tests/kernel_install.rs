// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is installed for kernel-install(8): called as that calls it, with programs that write down how they were called.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/files/kernel-install");

/// A folder with a `systemctl` and a `kdumpctl` that end so.
fn programs(name: &str, systemctl: u8, kdumpctl: u8) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for (program, status) in [("systemctl", systemctl), ("kdumpctl", kdumpctl)] {
        let path = folder.join(program);
        let text =
            format!("#!/bin/sh\necho \"{program} $*\" >> \"${{0%/*}}/calls\"\nexit {status}\n");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

/// How `kdumpctl` was called when a kernel came or went, and what was said about it.
fn hook(name: &str, command: &str, systemctl: u8, kdumpctl: u8) -> (Option<String>, String) {
    let folder = programs(name, systemctl, kdumpctl);
    let path = format!(
        "{}:{}",
        folder.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let output = Command::new("sh")
        .args([
            HOOK,
            command,
            "6.99-test",
            "/boot/token/6.99-test",
            "/boot/vmlinuz",
        ])
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let calls = fs::read_to_string(folder.join("calls")).unwrap();
    let mut calls = calls.lines();
    assert_eq!(
        calls.next(),
        Some("systemctl is-enabled --quiet kdump.service")
    );
    let call = calls.next().map(str::to_owned);
    assert_eq!(calls.next(), None);
    (call, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_new_kernel_has_its_image_and_one_that_goes_loses_it() {
    for (command, expected) in [
        ("add", Some("kdumpctl rebuild --kver=6.99-test")),
        ("remove", Some("kdumpctl forget --kver=6.99-test")),
        ("inspect", None),
    ] {
        let (call, said) = hook(command, command, 0, 0);
        assert_eq!((call.as_deref(), &*said), (expected, ""), "{command}");
    }
}

#[test]
fn nothing_is_built_where_the_service_is_off() {
    assert_eq!(hook("off", "add", 1, 0), (None, String::new()));
}

#[test]
fn a_kernel_is_not_refused_for_our_sake() {
    for (name, command, words) in [
        ("add-fails", "add", "no image for 6.99-test yet"),
        (
            "remove-fails",
            "remove",
            "the image for 6.99-test is still there",
        ),
    ] {
        let (call, said) = hook(name, command, 0, 1);
        assert!(call.is_some());
        assert!(said.contains(words), "{said}");
    }
}
