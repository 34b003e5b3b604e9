// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's and Ubuntu's `/etc/default/kdump-tools`.
//!
//! Source: kdump-tools 1:1.8.1, `/etc/default/kdump-tools`, `/usr/sbin/kdump-config`, `/etc/init.d/kdump-tools`.

use super::shell::Setting;
use super::{Idle, Translation};

/// Every key of the file.
pub(super) const KEYS: [&str; 25] = [
    "USE_KDUMP",
    "KDUMP_KERNEL",
    "KDUMP_INITRD",
    "KDUMP_COREDIR",
    "KDUMP_FAIL_CMD",
    "KDUMP_DUMP_DMESG",
    "KDUMP_NUM_DUMPS",
    "KDUMP_COMPRESSION",
    "MAKEDUMP_ARGS",
    "KDUMP_KEXEC_ARGS",
    "KDUMP_CMDLINE",
    "KDUMP_CMDLINE_APPEND",
    "HOSTTAG",
    "NFS",
    "NFS_TIMEO",
    "NFS_RETRANS",
    "NFS_MOUNT_RETRY",
    "SSH",
    "SSH_KEY",
    "SSH_KDUMP_RETRY",
    "FTP",
    "FTP_USER",
    "FTP_PASSWORD",
    "FTP_PORT",
    "KDUMP_SYSCTL",
];

const COMMAND_LINE: &str =
    "the capture kernel's command line is that of kdump.sysconfig(5) or what kexec(8) is told";
const BOUNDS: &str =
    "`mkkdumprd plan` shows how long each step may take; the export's own options come from fstab";
const FTP: &str = "FTP is not supported";

const IDLE: [Idle; 16] = [
    Idle::always("KDUMP_KERNEL", "the capture kernel is that of --kver"),
    Idle::always("KDUMP_INITRD", "the image is that of --output"),
    Idle {
        key: "KDUMP_DUMP_DMESG",
        same: &["1"],
        why: "the log is always saved, before anything else",
    },
    Idle {
        key: "KDUMP_COMPRESSION",
        same: &["none"],
        why: "a dump is compressed page by page, as MAKEDUMP_ARGS says",
    },
    Idle::always(
        "KDUMP_KEXEC_ARGS",
        "kexec(8) takes its options on its own command line",
    ),
    Idle::always("KDUMP_CMDLINE", COMMAND_LINE),
    Idle::always("KDUMP_CMDLINE_APPEND", COMMAND_LINE),
    Idle {
        key: "HOSTTAG",
        same: &["ip"],
        why: "the directory of a dump on a server has this machine's address in its name",
    },
    Idle::always("NFS_TIMEO", BOUNDS),
    Idle::always("NFS_RETRANS", BOUNDS),
    Idle::always("NFS_MOUNT_RETRY", BOUNDS),
    Idle::always("SSH_KDUMP_RETRY", BOUNDS),
    Idle::always("FTP_USER", FTP),
    Idle::always("FTP_PASSWORD", FTP),
    Idle::always("FTP_PORT", FTP),
    Idle::always(
        "KDUMP_SYSCTL",
        "what makes the running kernel panic is set by sysctl(8)",
    ),
];

pub(super) fn translate(t: &mut Translation<'_>) {
    t.idle(&IDLE);
    if let Some((setting, false)) = t.switch("USE_KDUMP") {
        t.warn(setting, "does not keep an image from being built; `kdumpctl disable` keeps the service from loading it");
    }
    if let Some(setting) = t.get("FTP") {
        t.refuse(
            setting,
            "asks for FTP, which is not supported; accepted are NFS and SSH",
        );
    }
    target(t);
    if let Some(setting) = t.get("MAKEDUMP_ARGS") {
        t.say(
            setting,
            "core_collector",
            &format!("makedumpfile {}", setting.value),
        );
    }
    if let Some(setting) = t.get("KDUMP_FAIL_CMD") {
        fail_command(t, setting);
    }
    match t.number("KDUMP_NUM_DUMPS") {
        None | Some((_, 0)) => {}
        Some((setting, number)) => {
            if t.get("NFS").is_some() && t.get("SSH").is_none() {
                t.warn(
                    setting,
                    "counts on the export too, for the dumps of this machine",
                );
            }
            t.keep(setting, number);
        }
    }
}

/// ssh comes before NFS, and that before the machine's own directory: not one after the other.
fn target(t: &mut Translation<'_>) {
    let directory = t.get("KDUMP_COREDIR");
    if let Some(setting) = t.get("SSH") {
        if let Some(other) = t.get("NFS") {
            t.warn(other, "has no effect: SSH is set, and comes before it");
        }
        t.say(setting, "ssh", &setting.value);
        if let Some(key) = t.get("SSH_KEY") {
            t.say(key, "sshkey", &key.value);
        }
    } else if let Some(setting) = t.get("NFS") {
        t.say(setting, "nfs", &setting.value);
        if let Some(directory) = directory {
            t.warn(directory, "has no effect: with NFS it is where the export is mounted, and the dumps lie at its top");
        }
        t.say(setting, "path", "/");
        return;
    } else if let Some(key) = t.get("SSH_KEY") {
        t.warn(key, "has no effect without SSH");
    }
    if let Some(directory) = directory {
        t.say(directory, "path", &directory.value);
    }
}

/// What would be run, command by command, and what init can do of it. On Debian the line is not read by a shell either, and
/// what is behind its first word are arguments; here it is taken as it was meant.
fn fail_command(t: &mut Translation<'_>, setting: &Setting) {
    let mut action = None;
    for command in setting.value.split(';') {
        let mut words = command.split_ascii_whitespace();
        let program = words.next().unwrap_or_default();
        let is_plain = words.all(|word| word.starts_with('-') || word == "now");
        let meant = match program.rsplit('/').next().unwrap_or_default() {
            "" => continue,
            "echo" => {
                t.warn(
                    setting,
                    "says nothing: the console has the reason of each failure",
                );
                continue;
            }
            "reboot" => "reboot",
            "halt" => "halt",
            "poweroff" | "shutdown" => "poweroff",
            "sh" | "bash" | "dash" | "sulogin" => "shell",
            _ => "",
        };
        if meant.is_empty() || !is_plain {
            t.refuse(
                setting,
                &format!(
                    "cannot be `{}`: no other program is run when the dump failed; accepted are reboot, halt, poweroff and sh",
                    command.trim()
                ),
            );
            return;
        }
        // What stands behind a shell follows when it ends.
        action = action.or(Some(meant));
    }
    if let Some(action) = action {
        t.say(setting, "failure_action", action);
    }
}
