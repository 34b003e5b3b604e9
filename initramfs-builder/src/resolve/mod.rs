// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Directives`] and [`Host`] to what will be done in the capture kernel, or messages that say what to change.
//!
//! A device is known there by what it is: a file system by its UUID, a partition by its PARTUUID, a disk by where it
//! hangs, and by its node only when there is nothing better, because the capture kernel may give that name to another.

mod device;
mod fence;
mod goal;
mod luks;
mod network;
mod nfs;
mod program;
mod root;
mod secret;
mod ssh;
mod stack;

pub use fence::Listener;
pub use goal::{Goal, Identified, Place, Resolved, Root};
pub use network::Way;
pub use stack::Stacked;

use crate::conf::{Directives, Target, TargetKind};
use crate::error::{At, Mistake, Mistakes};
use crate::host::Host;
use crate::modules::closure::{Need, Want};
use crate::programs::Programs;
use config::fence::Sending;
use config::{Deadlines, FailureAction, FinalAction, Role};
use device::check_filesystem;
use luks::Opened;
use program::Collecting;

/// The save path when the configuration names none.
const DEFAULT_PATH: &str = "/var/crash";

/// Resolves `directives` on `host` for the capture kernel `kernel`.
///
/// # Errors
/// Everything that would make the dump fail or destroy data: where, what, and what to change.
pub fn resolve(directives: &Directives, host: &Host, kernel: &str) -> Result<Resolved, Mistakes> {
    let mut work = Work {
        directives,
        host,
        mistakes: Mistakes::default(),
        warnings: host.warnings.clone(),
        needs: Vec::new(),
        ways: Vec::new(),
        layers: Vec::new(),
        opened: Vec::new(),
        ssh_key: None,
        programs: Programs::default(),
    };
    work.take_volume_keys();
    // First of all, so that its module is loaded before any that may hang.
    let bounds = deadlines(directives);
    let watchdog = work.watchdog(&bounds);
    let collect = work.collect();
    let hooks = work.take_programs();
    let path = directives
        .path
        .as_ref()
        .map_or(DEFAULT_PATH, |path| path.value.as_str());

    let mut attempts: Vec<Goal> = Vec::new();
    for target in &directives.targets {
        match work.target(target, path, &collect) {
            Ok(goal) => match attempts
                .iter()
                .find(|other| goal.place.is_that_of(&other.place))
            {
                Some(other) => work.mistake(
                    target.line,
                    format!(
                        "{} is {}, which {} names already; a second try at it would fail as the first",
                        target.value,
                        goal.place.name(),
                        other.origin
                    ),
                ),
                None => attempts.push(goal),
            },
            Err(message) => work.mistake(target.line, message),
        }
    }
    let on_failure = directives.failure_action;
    let mut failure_action = on_failure.map_or(FailureAction::Reboot, |at| at.value.action);
    let goes_to_root = match on_failure {
        None => true,
        Some(at) => at.value.action == FailureAction::DumpToRootfs,
    };
    if directives.targets.is_empty() || goes_to_root {
        match work.root_goal(path, &collect) {
            Ok(goal) => {
                if attempts
                    .iter()
                    .any(|other| goal.place.is_that_of(&other.place))
                {
                    work.warnings.push(format!(
                        "the root file system is a target already: no second try at {} when that fails",
                        goal.place.name()
                    ));
                } else {
                    attempts.push(goal);
                    if !directives.targets.is_empty() {
                        failure_action = FailureAction::DumpToRootfs;
                    }
                }
            }
            // A fall-back that nobody asked for must not stand in the way of the dump.
            Err(message) if on_failure.is_none() && !directives.targets.is_empty() => {
                work.warnings.push(format!(
                    "no dump to the root file system when the targets fail, but a reboot: {message}"
                ));
            }
            Err(message) => match on_failure.filter(|_| !directives.targets.is_empty()) {
                Some(at) => work.mistake(at.line, message),
                None => work.mistakes.0.push(Mistake {
                    place: directives
                        .path
                        .as_ref()
                        .map(|path| (directives.file.clone(), path.line)),
                    message: format!(
                        "no target is set, so the dump goes to the root file system: {message}"
                    ),
                }),
            },
        }
    }

    let mut root = None;
    if let Some(at) = on_failure
        && at.value.action == FailureAction::MountRootRunInit
    {
        match work.root() {
            Ok(found) => root = Some(found),
            Err(message) => work.mistake(at.line, format!("`mount_root_run_init`: {message}")),
        }
    }
    if failure_action == FailureAction::Shell {
        for keyboard in &host.keyboards {
            for driver in &keyboard.drivers {
                work.need(
                    Want::Driver(driver.clone()),
                    format!("the shell on {}", keyboard.name),
                );
            }
        }
    }
    let volume_keys = work.used_keys();
    let module_options = work.module_options();
    let fence = work.fence();
    for at in &directives.warnings {
        work.warnings
            .push(format!("{}:{}: {}", directives.file, at.line, at.value));
    }
    work.check_keep_dumps(&attempts);
    work.check_encryption(&attempts);
    for arguments in &directives.dracut_args {
        work.warnings.push(format!(
            "{}:{}: `{}` is for dracut and has no meaning here",
            directives.file, arguments.line, arguments.value
        ));
    }
    for module in &directives.extra_modules {
        work.needs.push(Need {
            want: Want::Name(module.value.clone()),
            by: "extra_modules".to_owned(),
            place: Some((directives.file.clone(), module.line)),
        });
    }

    let final_action = match (directives.final_action, on_failure) {
        (Some(at), _) => at.value,
        (None, Some(at)) if at.value.by_default => match at.value.action {
            FailureAction::Halt => FinalAction::Halt,
            FailureAction::Poweroff => FinalAction::Poweroff,
            _ => FinalAction::Reboot,
        },
        (None, _) => FinalAction::Reboot,
    };
    if work.mistakes.0.is_empty() {
        Ok(Resolved {
            kernel: kernel.to_owned(),
            hostname: host.hostname.clone(),
            zone: host.zone.clone(),
            failure_action,
            final_action,
            deadlines: bounds,
            watchdog,
            ways: work.ways,
            fence,
            sending: directives
                .fence_kdump_args
                .map_or_else(Sending::default, |at| at.value.sending),
            layers: work.layers,
            ssh_key: work.ssh_key,
            volume_keys,
            attempts,
            root,
            keep_dumps: directives.keep_dumps.map_or(0, |at| at.value),
            encrypt_to: directives
                .encrypt_to
                .iter()
                .map(|at| at.value.to_string())
                .collect(),
            debug_mem_level: directives.debug_mem_level.map_or(0, |at| at.value),
            hooks,
            programs: work.programs,
            module_options,
            needs: work.needs,
            warnings: work.warnings,
        })
    } else {
        Err(work.mistakes)
    }
}

fn deadlines(directives: &Directives) -> Deadlines {
    let mut deadlines = Deadlines::DEFAULT;
    for (slot, given) in [
        (&mut deadlines.device_s, directives.disk_timeout_s),
        (&mut deadlines.network_s, directives.network_timeout_s),
        (&mut deadlines.dump_s, directives.dump_deadline_s),
        (&mut deadlines.stall_s, directives.stall_timeout_s),
    ] {
        if let Some(at) = given {
            *slot = at.value;
        }
    }
    if let Some(delay) = directives.link_delay_s {
        deadlines.network_s = deadlines.network_s.saturating_add(delay.value);
    }
    deadlines
}

struct Work<'a> {
    directives: &'a Directives,
    host: &'a Host,
    mistakes: Mistakes,
    warnings: Vec<String>,
    needs: Vec<Need>,
    ways: Vec<Way>,
    layers: Vec<Stacked>,
    /// The LUKS devices whose keys the configuration gives.
    opened: Vec<Opened>,
    ssh_key: Option<Vec<u8>>,
    programs: Programs,
}

impl<'a> Work<'a> {
    fn mistake(&mut self, line: u32, message: String) {
        self.mistakes.0.push(Mistake {
            place: Some((self.directives.file.clone(), line)),
            message,
        });
    }

    /// The hardware watchdog that the capture kernel feeds, and its time.
    fn watchdog(&mut self, bounds: &Deadlines) -> Option<(String, u32)> {
        let given = self.directives.watchdog_s;
        if given.is_some_and(|at| at.value == 0) {
            return None;
        }
        let silence_s = bounds.longest_silence_s();
        let Some(found) = self.host.watchdogs.first() else {
            if let Some(at) = given {
                self.warnings.push(format!(
                    "{}:{}: `watchdog` has no effect: this machine has no hardware watchdog with a driver; load its module, or take the line out",
                    self.directives.file, at.line
                ));
            }
            return None;
        };
        for driver in &found.drivers {
            self.need(
                Want::Driver(driver.clone()),
                format!("the watchdog {}", found.driver),
            );
        }
        if let Some(at) = given.filter(|at| at.value < silence_s) {
            self.warnings.push(format!(
                "{}:{}: the watchdog restarts the machine after {} s without progress, where a step may take {silence_s} s: what \
                 stands still is not followed by the next target",
                self.directives.file, at.line, at.value
            ));
        }
        Some((found.driver.clone(), given.map_or(silence_s, |at| at.value)))
    }

    /// Old dumps are removed where they lie beside the new one and init can look through them.
    fn check_keep_dumps(&mut self, attempts: &[Goal]) {
        let Some(at) = self.directives.keep_dumps else {
            return;
        };
        let (mut obeyed, mut others) = (false, Vec::new());
        for goal in attempts {
            let why = match goal.place {
                Place::Filesystem { .. } | Place::Nfs { .. } => {
                    obeyed = true;
                    continue;
                }
                Place::Raw { .. } => "has one dump at a time",
                Place::Ssh { .. } => {
                    "is reached by ssh, by an account that need not be able to remove anything; have the server do it"
                }
            };
            others.push(format!("{} {why}", goal.place.name()));
        }
        if obeyed {
            for other in others {
                self.warnings.push(format!(
                    "{}:{}: `keep_dumps` has no effect there: {other}",
                    self.directives.file, at.line
                ));
            }
        } else if !others.is_empty() {
            self.mistake(
                at.line,
                format!(
                    "`keep_dumps` cannot be obeyed: {}; take the line out",
                    others.join("; ")
                ),
            );
        }
    }

    /// What another program writes does not go through init.
    fn check_encryption(&mut self, attempts: &[Goal]) {
        if let Some(at) = self.directives.encrypt_to.first()
            && let Some(program) = attempts.iter().find_map(|goal| goal.program.as_ref())
        {
            self.mistake(
                at.line,
                format!(
                    "`encrypt_to` cannot be obeyed: `{program}` of `core_collector` writes its dump itself; accepted beside it are \
                     makedumpfile with options, cp, dd and scp"
                ),
            );
        }
    }

    fn target(
        &mut self,
        at: &At<Target>,
        path: &str,
        collect: &Collecting,
    ) -> Result<Goal, String> {
        let place = match &at.value {
            Target::Local { kind, device: name } => {
                let device = self.find(name)?;
                let written = name.to_string();
                match kind {
                    TargetKind::Raw { overwrite } => {
                        self.check_raw(device, *overwrite)?;
                        Place::Raw {
                            device: self.identify(device, None, &written),
                            overwrite: *overwrite,
                        }
                    }
                    TargetKind::Filesystem(fstype) => {
                        check_filesystem(*fstype, device, path)?;
                        Place::Filesystem {
                            device: self.identify(device, Some(fstype.word), &written),
                            fstype: fstype.word.to_owned(),
                            mount_options: fstype.options.to_owned(),
                            path: path.to_owned(),
                        }
                    }
                }
            }
            Target::Nfs {
                server,
                export,
                is_version_4,
            } => self.nfs(server, export, *is_version_4, path)?,
            Target::Ssh { .. } if collect.program.is_some() => {
                return Err(
                    "a program of `core_collector` cannot write to a server by ssh; accepted there are makedumpfile with \
                     options, cp, dd and scp"
                        .to_owned(),
                );
            }
            Target::Ssh { user, server, port } => self.ssh(user, server, *port, path)?,
        };
        Ok(Goal {
            role: Role::Configured,
            origin: format!("{}:{}", self.directives.file, at.line),
            place,
            collect: collect.options.clone(),
            program: collect.program.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
