// SPDX-License-Identifier: MIT OR Apache-2.0
//! SUSE's `/etc/sysconfig/kdump`.
//!
//! Source: openSUSE kdump 2.1.9 `sysconfig.kdump.in`, `kdump-read-config.sh`, `dracut/kdump-save`.

use super::shell::Setting;
use super::{Idle, Translation};
use targets::ssh::known_hosts::DEFAULT_PORT;

/// Every key of the file.
pub(super) const KEYS: [&str; 36] = [
    "KDUMP_CRASHKERNEL",
    "KDUMP_UPDATE_BOOTLOADER",
    "KDUMP_AUTO_RESIZE",
    "KDUMP_KERNELVER",
    "KDUMP_CPUS",
    "KDUMP_COMMANDLINE",
    "KDUMP_COMMANDLINE_APPEND",
    "KDUMP_FADUMP",
    "KDUMP_FADUMP_SHELL",
    "FADUMP_COMMANDLINE_APPEND",
    "KEXEC_OPTIONS",
    "MAKEDUMPFILE_OPTIONS",
    "KDUMP_IMMEDIATE_REBOOT",
    "KDUMP_TRANSFER",
    "KDUMP_SAVEDIR",
    "KDUMP_KEEP_OLD_DUMPS",
    "KDUMP_FREE_DISK_SIZE",
    "KDUMP_VERBOSE",
    "KDUMP_DUMPLEVEL",
    "KDUMP_DUMPFORMAT",
    "KDUMP_CONTINUE_ON_ERROR",
    "KDUMP_REQUIRED_PROGRAMS",
    "KDUMP_PRESCRIPT",
    "KDUMP_POSTSCRIPT",
    "KDUMP_NETCONFIG",
    "KDUMP_NET_TIMEOUT",
    "KDUMP_SMTP_SERVER",
    "KDUMP_SMTP_USER",
    "KDUMP_SMTP_PASSWORD",
    "KDUMP_NOTIFICATION_TO",
    "KDUMP_NOTIFICATION_CC",
    "KDUMP_HOST_KEY",
    "KDUMP_SSH_IDENTITY",
    "KDUMPTOOL_FLAGS",
    "KDUMP_COPY_KERNEL",
    // SUSE Linux Enterprise 10.
    "KDUMP_RUNLEVEL",
];

const RESERVATION: &str = "`kdumpctl reset-crashkernel` writes crashkernel= to the boot loader";
const COMMAND_LINE: &str =
    "the capture kernel's command line is that of kdump.sysconfig(5) or what kexec(8) is told";
const MAIL: &str = "nobody is written to; `kdumpctl status` tells of the last crash";
const OLD: &str = "SUSE's kdump of today has no such key either";

const IDLE: [Idle; 20] = [
    Idle::always("KDUMP_CRASHKERNEL", RESERVATION),
    Idle::always("KDUMP_UPDATE_BOOTLOADER", RESERVATION),
    Idle {
        key: "KDUMP_AUTO_RESIZE",
        same: &["no", "false", "0"],
        why: RESERVATION,
    },
    Idle::always("KDUMP_KERNELVER", "the capture kernel is that of --kver"),
    Idle::always(
        "KDUMP_CPUS",
        "how many processors take part says nr_cpus= on the capture kernel's command line",
    ),
    Idle::always("KDUMP_COMMANDLINE", COMMAND_LINE),
    Idle::always("KDUMP_COMMANDLINE_APPEND", COMMAND_LINE),
    Idle::always("FADUMP_COMMANDLINE_APPEND", "fadump is not supported"),
    Idle {
        key: "KDUMP_FADUMP_SHELL",
        same: &["no", "false", "0"],
        why: "fadump is not supported",
    },
    Idle::always(
        "KEXEC_OPTIONS",
        "kexec(8) takes its options on its own command line",
    ),
    Idle {
        key: "KDUMP_FREE_DISK_SIZE",
        same: &["0"],
        why: "no space is kept free; a dump for which there is no room is kept as far as it got, and says so",
    },
    Idle {
        key: "KDUMP_VERBOSE",
        same: &["0"],
        why: "the log always has every step",
    },
    Idle::always("KDUMP_SMTP_SERVER", MAIL),
    Idle::always("KDUMP_SMTP_USER", MAIL),
    Idle::always("KDUMP_SMTP_PASSWORD", MAIL),
    Idle::always("KDUMP_NOTIFICATION_TO", MAIL),
    Idle::always("KDUMP_NOTIFICATION_CC", MAIL),
    Idle::always("KDUMPTOOL_FLAGS", OLD),
    Idle::always("KDUMP_COPY_KERNEL", OLD),
    Idle::always("KDUMP_RUNLEVEL", OLD),
];

pub(super) fn translate(t: &mut Translation<'_>) {
    t.idle(&IDLE);
    if let Some((setting, true)) = t.switch("KDUMP_FADUMP") {
        t.refuse(
            setting,
            "asks for fadump, which is not supported; accepted is false",
        );
    }
    if let Some(setting) = t.get("KDUMP_TRANSFER") {
        t.refuse(
            setting,
            "replaces all that saves a dump, and is not run; a program of `core_collector` in kdump.conf comes nearest",
        );
    }
    if let Some(setting) = t.get("KDUMP_SAVEDIR") {
        save_directory(t, setting);
    }
    collector(t);
    afterwards(t);
    programs(t);
    network(t);
}

/// Where to: one or several URLs.
fn save_directory(t: &mut Translation<'_>, setting: &Setting) {
    let urls: Vec<&str> = setting.value.split_ascii_whitespace().collect();
    if urls.len() > 1 {
        t.warn(
            setting,
            "names several places: they are tried in order until one has the dump",
        );
    }
    let mut path: Option<String> = None;
    for url in urls {
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => ("file", url.strip_prefix("file:").unwrap_or(url)),
        };
        let own_path = match scheme {
            "file" => rest.to_owned(),
            "nfs" => match rest.split_once('/') {
                Some((server, export)) if !export.is_empty() => {
                    t.say(setting, "nfs", &format!("{server}:/{export}"));
                    "/".to_owned()
                }
                _ => {
                    t.refuse(
                        setting,
                        &format!("`{url}` names no export; accepted is nfs://SERVER/EXPORT"),
                    );
                    continue;
                }
            },
            "ssh" | "sftp" | "scp" => match login(t, setting, url, rest) {
                Some(path) => path,
                None => continue,
            },
            other => {
                t.refuse(
                    setting,
                    &format!("asks for {other}, which is not supported; accepted are file, nfs, ssh and sftp"),
                );
                continue;
            }
        };
        match &path {
            Some(before) if *before != own_path => t.refuse(
                setting,
                &format!("has both {before} and {own_path}; all places must have one directory"),
            ),
            _ => path = Some(own_path),
        }
    }
    if let Some(path) = path {
        t.say(setting, "path", &path);
    }
}

/// `USER[:PASSWORD]@SERVER[:PORT]/PATH`.
fn login(t: &mut Translation<'_>, setting: &Setting, url: &str, rest: &str) -> Option<String> {
    let (login, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, server) = login.rsplit_once('@').unwrap_or(("root", login));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    if !password.is_empty() {
        t.refuse(
            setting,
            "has a password, which would lie in the image; name a key by KDUMP_SSH_IDENTITY and take the password out",
        );
        return None;
    }
    if path.is_empty() {
        t.refuse(
            setting,
            &format!("`{url}` names no directory; accepted is ssh://USER@SERVER/DIRECTORY"),
        );
        return None;
    }
    // The port stands behind the last colon, but an address of IPv6 has brackets.
    let (server, port) = match server.rsplit_once(':') {
        Some((server, port)) if !port.contains(']') => (server, port.to_owned()),
        _ => (server, DEFAULT_PORT.to_string()),
    };
    let server = server.trim_matches(['[', ']']);
    t.say(setting, "ssh", &format!("{user}@[{server}]:{port}"));
    Some(format!("/{path}"))
}

/// What the dump is.
fn collector(t: &mut Translation<'_>) {
    let format = t.get("KDUMP_DUMPFORMAT");
    let level = t.get("KDUMP_DUMPLEVEL");
    let options = t.get("MAKEDUMPFILE_OPTIONS");
    let Some(first) = format.or(level).or(options) else {
        return;
    };
    let flag = match format.map_or("compressed", |setting| setting.value.as_str()) {
        "compressed" => "-c",
        "lzo" => "-l",
        "snappy" => "-p",
        "zstd" => "-z",
        "ELF" | "elf" => "-E",
        "raw" => {
            t.say(first, "core_collector", "cp");
            return;
        }
        "none" => {
            t.refuse(first, "asks for no dump but the log, which is not supported; accepted are ELF, compressed, lzo, snappy, zstd and raw");
            return;
        }
        other => {
            t.refuse(
                first,
                &format!(
                    "cannot be `{other}`; accepted are ELF, compressed, lzo, snappy, zstd and raw"
                ),
            );
            return;
        }
    };
    let level = level.map_or("31", |setting| setting.value.as_str());
    let more = options.map_or(String::new(), |setting| format!(" {}", setting.value));
    t.say(
        first,
        "core_collector",
        &format!("makedumpfile {flag} -d {level}{more}"),
    );
}

/// What follows a dump, saved or not.
fn afterwards(t: &mut Translation<'_>) {
    if let Some((setting, goes_on)) = t.switch("KDUMP_CONTINUE_ON_ERROR") {
        t.say(
            setting,
            "failure_action",
            if goes_on { "reboot" } else { "shell" },
        );
    }
    if let Some((setting, false)) = t.switch("KDUMP_IMMEDIATE_REBOOT") {
        t.warn(setting, "has no effect: there is no shell after a dump that was saved, and the machine restarts");
    }
    match t.number("KDUMP_KEEP_OLD_DUMPS") {
        None | Some((_, 0)) => {}
        Some((setting, number)) => {
            t.warn(
                setting,
                "removes old dumps when the new one is complete, and none before",
            );
            // The old ones beside the new one; below zero it is none of them.
            t.keep(setting, number.max(0).saturating_add(1));
        }
    }
}

fn programs(t: &mut Translation<'_>) {
    if let Some(setting) = t.get("KDUMP_REQUIRED_PROGRAMS") {
        t.say(setting, "extra_bins", &setting.value);
    }
    for (key, word) in [
        ("KDUMP_PRESCRIPT", "kdump_pre"),
        ("KDUMP_POSTSCRIPT", "kdump_post"),
    ] {
        let Some(setting) = t.get(key) else {
            continue;
        };
        if setting.value.contains([' ', '\t']) || !setting.value.starts_with('/') {
            t.refuse(
                setting,
                &format!("is a command line, and there is no shell to read `{}`; put it into a script, and name that", setting.value),
            );
            continue;
        }
        if word == "kdump_pre" {
            t.warn(
                setting,
                "forbids the dump when it fails; on SUSE the dump goes on",
            );
        }
        t.say(setting, word, &setting.value);
    }
}

fn network(t: &mut Translation<'_>) {
    if let Some(setting) = t
        .get("KDUMP_NETCONFIG")
        .filter(|setting| setting.value != "auto")
    {
        let mut fields = setting.value.split(':');
        let (link, how) = (
            fields.next().unwrap_or_default(),
            fields.next().unwrap_or("auto"),
        );
        match how {
            "static" | "auto" => t.say(setting, "ifc", link),
            "dhcp" | "dhcp4" => t.say(setting, "ip", &format!(":::::{link}:dhcp")),
            "auto6" => t.say(setting, "ip", &format!(":::::{link}:auto6")),
            other => t.refuse(
                setting,
                &format!("cannot be `{other}`; accepted are auto, or LINK:static, LINK:dhcp, LINK:dhcp4 and LINK:auto6"),
            ),
        }
    }
    match t.number("KDUMP_NET_TIMEOUT") {
        Some((setting, seconds)) if seconds > i64::from(config::Deadlines::DEFAULT.network_s) => {
            t.say(setting, "network_timeout", &seconds.to_string());
        }
        Some((setting, _)) => t.warn(
            setting,
            "has no effect: nothing is pinged, and the network has longer than that to come up",
        ),
        None => {}
    }
    match t.get("KDUMP_HOST_KEY") {
        Some(setting) if setting.value == "*" => t.refuse(
            setting,
            "takes any server for the right one; the server's key must be in known_hosts, which `kdumpctl propagate` sees to",
        ),
        Some(setting) => t.warn(setting, "has no effect: the server's keys are those of known_hosts"),
        None => {}
    }
    if let Some(setting) = t.get("KDUMP_SSH_IDENTITY") {
        let mut files = setting.value.split_ascii_whitespace();
        let first = files.next().unwrap_or_default();
        if files.next().is_some() {
            t.warn(
                setting,
                &format!("names several keys, of which {first} is taken"),
            );
        }
        t.say(setting, "sshkey", first);
    }
}
