// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Directives`] in the words of another kdump, as far as it has words for them.

use super::Dialect;
use super::shell::quoted;
use crate::conf::program::Collector;
use crate::conf::{Directives, OnFailure, Target, TargetKind};
use crate::error::At;
use config::network::Assignment;
use config::{CollectOptions, Compression, FailureAction, FinalAction, Format};
use std::fmt::Write as _;
use targets::ssh::known_hosts::DEFAULT_PORT;

/// A file in another dialect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub text: String,
    /// What it cannot say, or says otherwise.
    pub warnings: Vec<String>,
}

/// Writes the directives in this dialect.
#[must_use]
pub fn write(directives: &Directives, dialect: Dialect) -> Written {
    let mut writer = Writer {
        directives,
        written: Written::default(),
    };
    match dialect {
        Dialect::Rhel => writer.rhel(),
        Dialect::Suse => writer.suse(),
        Dialect::Debian => writer.debian(),
    }
    writer.written
}

struct Writer<'d> {
    directives: &'d Directives,
    written: Written,
}

impl Writer<'_> {
    fn lost(&mut self, line: u32, message: &str) {
        self.written
            .warnings
            .push(format!("{}:{line}: {message}", self.directives.file));
    }

    /// A directive that the dialect has no word for.
    fn none<T>(&mut self, at: Option<&At<T>>, word: &str, dialect: &str) {
        if let Some(at) = at {
            self.lost(
                at.line,
                &format!("{dialect} has nothing like `{word}`; it is left out"),
            );
        }
    }

    fn line(&mut self, word: &str, value: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.written.text, "{word} {value}");
    }

    fn set(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.written.text, "{key}={}", quoted(value));
    }

    /// The only target that the dialect can have.
    fn first_target(&mut self, dialect: &str) -> Option<At<Target>> {
        let mut targets = self.directives.targets.iter();
        let first = targets.next().cloned();
        for other in targets {
            self.lost(
                other.line,
                &format!("{dialect} tries one target; {} is left out", other.value),
            );
        }
        first
    }

    /// What has no words outside of kdump.conf.
    fn none_of_kdump_conf(&mut self, dialect: &str) {
        let d = self.directives;
        self.none(d.encrypt_to.first(), "encrypt_to", dialect);
        for (at, word) in [
            (&d.disk_timeout_s, "disk_timeout"),
            (&d.link_delay_s, "link_delay"),
            (&d.dump_deadline_s, "dump_deadline"),
            (&d.stall_timeout_s, "stall_timeout"),
            (&d.watchdog_s, "watchdog"),
        ] {
            self.none(at.as_ref(), word, dialect);
        }
        self.none(d.volume_keys.first(), "luks_volume_key", dialect);
        self.none(d.blacklist.first(), "blacklist", dialect);
        self.none(d.options.first(), "options", dialect);
        self.none(d.debug_mem_level.as_ref(), "debug_mem_level", dialect);
    }

    /// What RHEL has words for, and the two others have not.
    fn none_of_rhel(&mut self, dialect: &str) {
        let d = self.directives;
        self.none_of_kdump_conf(dialect);
        self.none(d.extra_modules.first(), "extra_modules", dialect);
        self.none(d.kdump_emergency.as_ref(), "kdump_emergency", dialect);
        self.none(d.fence_kdump_nodes.first(), "fence_kdump_nodes", dialect);
        self.none(d.fence_kdump_args.as_ref(), "fence_kdump_args", dialect);
        self.none(d.dracut_args.first(), "dracut_args", dialect);
        for (at, word) in [
            (&d.force_rebuild, "force_rebuild"),
            (&d.force_no_rebuild, "force_no_rebuild"),
            (&d.auto_reset_crashkernel, "auto_reset_crashkernel"),
        ] {
            self.none(at.as_ref().filter(|at| at.value), word, dialect);
        }
        let final_action = d.final_action.filter(|at| at.value != FinalAction::Reboot);
        self.none(final_action.as_ref(), "final_action", dialect);
    }

    /// The words of makedumpfile for the collector, without levels that only follow when the target is full.
    fn makedumpfile(
        &mut self,
        at: &At<Collector>,
        options: &CollectOptions,
        keeps_list: bool,
    ) -> String {
        let mut levels: Vec<String> = options.levels.iter().map(ToString::to_string).collect();
        if !keeps_list && levels.len() > 1 {
            self.lost(
                at.line,
                "only the first dump level is written; the others are left out",
            );
            levels.truncate(1);
        }
        format!("{} -d {}", flag(options), levels.join(","))
            .trim_start()
            .to_owned()
    }

    fn rhel(&mut self) {
        const DIALECT: &str = "RHEL's kdump";
        let d = self.directives;
        let target = self.first_target(DIALECT);
        match &target {
            None => {}
            Some(At {
                line,
                value: Target::Local { kind, device },
            }) => {
                match kind {
                    TargetKind::Raw { overwrite: true } => {
                        self.lost(
                            *line,
                            "`overwrite` is left out: RHEL's kdump overwrites without it",
                        );
                    }
                    TargetKind::Filesystem(fstype) if matches!(fstype.word, "vfat" | "exfat") => {
                        self.lost(*line, &format!("RHEL's kdump takes no {}", fstype.word));
                    }
                    _ => {}
                }
                let device = device.to_string();
                let value = if device.contains(' ') {
                    format!("\"{device}\"")
                } else {
                    device
                };
                self.line(kind.word(), &value);
            }
            Some(At {
                line,
                value: target @ Target::Nfs { is_version_4, .. },
            }) => {
                if *is_version_4 {
                    self.lost(
                        *line,
                        "RHEL's kdump takes the version of NFS from the mount's options",
                    );
                }
                self.line("nfs", &target.to_string());
            }
            Some(At {
                line,
                value: Target::Ssh { user, server, port },
            }) => {
                if *port != DEFAULT_PORT {
                    self.lost(
                        *line,
                        &format!("RHEL's kdump takes the port {port} from ssh_config(5)"),
                    );
                }
                self.line("ssh", &format!("{user}@{server}"));
            }
        }
        if let Some(path) = &d.path {
            let value = if path.value.contains(' ') {
                format!("\"{}\"", path.value)
            } else {
                path.value.clone()
            };
            self.line("path", &value);
        }
        self.rhel_collector(target.as_ref());
        if let Some(key) = &d.sshkey {
            self.line("sshkey", &key.value);
        }
        self.rhel_actions();
        for (at, word) in [
            (&d.kdump_pre, "kdump_pre"),
            (&d.kdump_post, "kdump_post"),
            (&d.kdump_emergency, "kdump_emergency"),
        ] {
            if let Some(at) = at {
                self.line(word, &at.value);
            }
        }
        for (list, word) in [
            (&d.extra_bins, "extra_bins"),
            (&d.extra_modules, "extra_modules"),
            (&d.dracut_args, "dracut_args"),
            (&d.fence_kdump_nodes, "fence_kdump_nodes"),
        ] {
            if !list.is_empty() {
                self.line(word, &joined(list));
            }
        }
        if let Some(at) = &d.fence_kdump_args {
            let (sending, family) = (at.value.sending, at.value.family);
            let family = family.map_or("auto", |family| family.word());
            self.line(
                "fence_kdump_args",
                &format!(
                    "-p {} -f {family} -c {} -i {}",
                    sending.port, sending.count, sending.interval_s
                ),
            );
        }
        for (at, word, words) in [
            (&d.force_rebuild, "force_rebuild", ["0", "1"]),
            (&d.force_no_rebuild, "force_no_rebuild", ["0", "1"]),
            (
                &d.auto_reset_crashkernel,
                "auto_reset_crashkernel",
                ["no", "yes"],
            ),
        ] {
            if let Some(at) = at {
                self.line(word, words[usize::from(at.value)]);
            }
        }
        self.none_of_kdump_conf(DIALECT);
        self.none(d.network_timeout_s.as_ref(), "network_timeout", DIALECT);
        self.none(d.ifc.as_ref(), "ifc", DIALECT);
        self.none(d.ip.as_ref(), "ip", DIALECT);
        self.none(d.keep_dumps.as_ref(), "keep_dumps", DIALECT);
    }

    /// RHEL's own default is another compression, and for streams it wants an option of its own.
    fn rhel_collector(&mut self, target: Option<&At<Target>>) {
        let standard = At {
            line: 0,
            value: Collector::BuiltIn(CollectOptions::standard()),
        };
        let at = self.directives.core_collector.as_ref().unwrap_or(&standard);
        let is_stream = matches!(
            target.map(|at| &at.value),
            Some(
                Target::Ssh { .. }
                    | Target::Local {
                        kind: TargetKind::Raw { .. },
                        ..
                    }
            )
        );
        let is_ssh = matches!(target.map(|at| &at.value), Some(Target::Ssh { .. }));
        let value = match &at.value {
            Collector::Program(program) => program.clone(),
            Collector::BuiltIn(options) if options.format == Format::Copy => {
                if is_ssh { "scp" } else { "cp" }.to_owned()
            }
            Collector::BuiltIn(options) => {
                let words = self.makedumpfile(at, options, true);
                if is_stream && options.format == Format::Elf {
                    self.lost(at.line, "RHEL's kdump cannot write ELF (-E) to this target");
                }
                format!("makedumpfile {}{words}", if is_stream { "-F " } else { "" })
            }
        };
        self.line("core_collector", &value);
    }

    fn rhel_actions(&mut self) {
        let d = self.directives;
        // With targets and without this line a dump to the root file system follows here, and none does there.
        let on_failure = d.failure_action.map(|at| (at.line, at.value)).or_else(|| {
            let action = FailureAction::DumpToRootfs;
            let by_default = false;
            (!d.targets.is_empty()).then_some((0, OnFailure { action, by_default }))
        });
        if let Some((line, on_failure)) = on_failure {
            if on_failure.action == FailureAction::MountRootRunInit {
                self.lost(line, "RHEL's kdump of today has no `mount_root_run_init`; `dump_to_rootfs` comes nearest");
                self.line("failure_action", FailureAction::DumpToRootfs.word());
            } else {
                self.line("failure_action", on_failure.action.word());
            }
            if d.final_action.is_none() && on_failure.by_default {
                match on_failure.action {
                    FailureAction::Halt | FailureAction::Poweroff => {
                        self.line("final_action", on_failure.action.word());
                    }
                    _ => {}
                }
            }
        }
        if let Some(at) = d.final_action {
            self.line("final_action", at.value.word());
        }
    }

    fn suse(&mut self) {
        const DIALECT: &str = "SUSE's kdump";
        let d = self.directives;
        let path = d
            .path
            .as_ref()
            .map_or("/var/crash", |path| path.value.as_str());
        match self.first_target(DIALECT) {
            None => self.set("KDUMP_SAVEDIR", &format!("file://{path}")),
            Some(At { value: Target::Nfs { server, export, .. }, .. }) => {
                self.set("KDUMP_SAVEDIR", &format!("nfs://{}{}", bracketed(&server), below(&export, path)));
            }
            Some(At { value: Target::Ssh { user, server, port }, .. }) => {
                let port = if port == DEFAULT_PORT { String::new() } else { format!(":{port}") };
                self.set("KDUMP_SAVEDIR", &format!("sftp://{user}@{}{port}{path}", bracketed(&server)));
            }
            Some(At { line, value }) => self.lost(
                line,
                &format!("SUSE's kdump saves to mounted file systems; mount {value} and write KDUMP_SAVEDIR=\"file:///…\""),
            ),
        }
        match &d.core_collector {
            None => {}
            Some(at @ At { line, value }) => match value {
                Collector::Program(_) => self.lost(
                    *line,
                    "SUSE's kdump runs no other collector; KDUMP_TRANSFER is for that",
                ),
                Collector::BuiltIn(options) => {
                    let format = match (options.format, options.compression) {
                        (Format::Copy, _) => "raw",
                        (Format::Elf, _) => "ELF",
                        (Format::Kdump, Compression::Lzo) => "lzo",
                        (Format::Kdump, Compression::Snappy) => "snappy",
                        (Format::Kdump, Compression::Zstd) => "zstd",
                        (Format::Kdump, Compression::Zlib) => "compressed",
                        (Format::Kdump, Compression::None) => {
                            self.lost(*line, "SUSE's kdump has no word for pages that are not compressed; they are, by zlib");
                            "compressed"
                        }
                    };
                    self.set("KDUMP_DUMPFORMAT", format);
                    if options.format != Format::Copy {
                        // The levels behind the first are told of by the call.
                        let _ = self.makedumpfile(at, options, false);
                        self.set("KDUMP_DUMPLEVEL", &options.first_level().to_string());
                    }
                }
            },
        }
        match d.failure_action.map(|at| (at.line, at.value.action)) {
            None => {}
            Some((_, FailureAction::Reboot)) => self.set("KDUMP_CONTINUE_ON_ERROR", "true"),
            Some((_, FailureAction::Shell)) => self.set("KDUMP_CONTINUE_ON_ERROR", "false"),
            Some((line, other)) => self.lost(
                line,
                &format!("SUSE's kdump restarts or starts a shell when the dump failed, and has no `{other}`"),
            ),
        }
        if let Some(at) = &d.keep_dumps {
            // How many old ones beside the new one; none of them is a number below zero.
            let old = match at.value {
                1 => -1,
                dumps => i64::from(dumps) - 1,
            };
            self.set("KDUMP_KEEP_OLD_DUMPS", &old.to_string());
            self.lost(
                at.line,
                "SUSE's kdump removes old dumps before the new one is complete",
            );
        }
        if let Some(at) = &d.kdump_pre {
            self.set("KDUMP_PRESCRIPT", &at.value);
            self.lost(
                at.line,
                "on SUSE the dump is made also when this program fails",
            );
        }
        if let Some(at) = &d.kdump_post {
            self.set("KDUMP_POSTSCRIPT", &at.value);
        }
        if !d.extra_bins.is_empty() {
            self.set("KDUMP_REQUIRED_PROGRAMS", &joined(&d.extra_bins));
        }
        if let Some(key) = &d.sshkey {
            self.set("KDUMP_SSH_IDENTITY", &key.value);
        }
        if let Some(at) = &d.network_timeout_s {
            self.set("KDUMP_NET_TIMEOUT", &at.value.to_string());
        }
        let netconfig = match (&d.ip, &d.ifc) {
            (Some(at), _) => match (&at.value.device, at.value.assignment, at.value.gateway) {
                (Some(link), Assignment::Dhcp4, None) => Some(format!("{link}:dhcp4")),
                (Some(link), Assignment::Slaac, None) => Some(format!("{link}:auto6")),
                _ => {
                    self.lost(at.line, "SUSE's kdump takes an address as this from `ip=` in KDUMP_COMMANDLINE_APPEND");
                    None
                }
            },
            (None, Some(ifc)) => Some(format!("{}:static", ifc.value)),
            (None, None) => None,
        };
        if let Some(netconfig) = netconfig {
            self.set("KDUMP_NETCONFIG", &netconfig);
        }
        self.none_of_rhel(DIALECT);
    }

    fn debian(&mut self) {
        const DIALECT: &str = "Debian's kdump-tools";
        let d = self.directives;
        let path = d
            .path
            .as_ref()
            .map_or("/var/crash", |path| path.value.as_str());
        self.set("USE_KDUMP", "1");
        match self.first_target(DIALECT) {
            None => self.set("KDUMP_COREDIR", path),
            Some(At { value: Target::Nfs { server, export, .. }, .. }) => {
                self.set("NFS", &format!("{}:{}", bracketed(&server), below(&export, path)));
            }
            Some(At { line, value: Target::Ssh { user, server, port } }) => {
                if port != DEFAULT_PORT {
                    self.lost(line, &format!("Debian's kdump-tools takes the port {port} from ssh_config(5)"));
                }
                self.set("SSH", &format!("{user}@{server}"));
                self.set("KDUMP_COREDIR", path);
            }
            Some(At { line, value }) => self.lost(
                line,
                &format!("Debian's kdump-tools saves to what the system mounts; mount {value} and name a directory in it by KDUMP_COREDIR"),
            ),
        }
        match &d.core_collector {
            None => {}
            Some(at @ At { line, value }) => match value {
                Collector::BuiltIn(options) if options.format != Format::Copy => {
                    let words = self.makedumpfile(at, options, true);
                    self.set("MAKEDUMP_ARGS", &words);
                }
                _ => self.lost(
                    *line,
                    "Debian's kdump-tools runs makedumpfile, and copies only when that failed",
                ),
            },
        }
        match d.failure_action.map(|at| (at.line, at.value.action)) {
            None => {}
            Some((
                _,
                action @ (FailureAction::Reboot | FailureAction::Halt | FailureAction::Poweroff),
            )) => {
                self.set("KDUMP_FAIL_CMD", &format!("{action} -f"));
            }
            Some((_, FailureAction::Shell)) => self.set("KDUMP_FAIL_CMD", "/bin/sh"),
            Some((line, other)) => self.lost(
                line,
                &format!(
                    "Debian's kdump-tools runs a command when the dump failed; none is `{other}`"
                ),
            ),
        }
        if let Some(at) = &d.keep_dumps {
            self.set("KDUMP_NUM_DUMPS", &at.value.to_string());
            if d.targets
                .iter()
                .any(|target| matches!(target.value, Target::Nfs { .. }))
            {
                self.lost(
                    at.line,
                    "Debian's kdump-tools removes nothing from an export",
                );
            }
        }
        if let Some(key) = &d.sshkey {
            self.set("SSH_KEY", &key.value);
        }
        self.none(d.kdump_pre.as_ref(), "kdump_pre", DIALECT);
        self.none(d.kdump_post.as_ref(), "kdump_post", DIALECT);
        self.none(d.extra_bins.first(), "extra_bins", DIALECT);
        self.none(d.ifc.as_ref(), "ifc", DIALECT);
        self.none(d.ip.as_ref(), "ip", DIALECT);
        self.none(d.network_timeout_s.as_ref(), "network_timeout", DIALECT);
        self.none_of_rhel(DIALECT);
    }
}

/// makedumpfile's option for what the dumpfile is.
fn flag(options: &CollectOptions) -> &'static str {
    match (options.format, options.compression) {
        (Format::Elf, _) => "-E",
        (_, Compression::Zlib) => "-c",
        (_, Compression::Lzo) => "-l",
        (_, Compression::Snappy) => "-p",
        (_, Compression::Zstd) => "-z",
        (_, Compression::None) => "",
    }
}

fn joined(list: &[At<String>]) -> String {
    let words: Vec<&str> = list.iter().map(|at| at.value.as_str()).collect();
    words.join(" ")
}

fn bracketed(server: &str) -> String {
    if server.contains(':') {
        format!("[{server}]")
    } else {
        server.to_owned()
    }
}

/// The directory of an export, for those who have no other below it.
fn below(export: &str, path: &str) -> String {
    let path = path.trim_end_matches('/');
    match export {
        "/" if path.is_empty() => "/".to_owned(),
        "/" => path.to_owned(),
        export => format!("{export}{path}"),
    }
}
