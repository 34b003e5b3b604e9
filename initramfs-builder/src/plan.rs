// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan as a text for people: what will happen in the capture kernel, in order, with every bound and what follows.
//! [`json`] says the same to programs.

pub mod json;

use crate::cpio::Kind;
use crate::image::Item;
use crate::modules::closure::Closure;
use crate::resolve::{Goal, Identified, Resolved, Way};
use config::fence::Sending;
use config::{FailureAction, FinalAction, HookKind, Role};
use std::fmt::{self, Write as _};

/// Describes what an image will do.
#[must_use]
pub fn describe(
    resolved: &Resolved,
    closure: &Closure,
    items: &[Item],
    packed_bytes: usize,
    compression: &str,
) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_plan(&mut text, resolved, closure)
        .and_then(|()| write_items(&mut text, items, packed_bytes, compression));
    text
}

fn write_plan(text: &mut String, resolved: &Resolved, closure: &Closure) -> fmt::Result {
    let bounds = &resolved.deadlines;
    writeln!(
        text,
        "Plan for {} (zone {}), capture kernel {}",
        resolved.hostname, resolved.zone, resolved.kernel
    )?;
    for (number, warning) in all_warnings(resolved, closure).enumerate() {
        if number == 0 {
            writeln!(text, "\nWarnings")?;
        }
        writeln!(text, "  {warning}")?;
    }

    writeln!(
        text,
        "\nModules, in this order; each has {} to load, and one that fails is logged and passed over",
        Seconds(bounds.module_s)
    )?;
    if closure.is_unsigned {
        writeln!(
            text,
            "  (without signatures: nothing enforces them on this machine, and checking them takes long)"
        )?;
    }
    if closure.modules.is_empty() {
        writeln!(text, "  none: all that is needed is built in")?;
    }
    for module in &closure.modules {
        writeln!(
            text,
            "  {:<24} {:>9}  for {}",
            module.name,
            Bytes(module.bytes.len() as u64).to_string(),
            module.by
        )?;
    }
    for (name, by) in &closure.builtins {
        writeln!(text, "  {name:<24} {:>9}  for {by}", "built in")?;
    }

    for (number, goal) in (1..).zip(&resolved.attempts) {
        write_goal(text, resolved, number, goal)?;
    }

    if !resolved.encrypt_to.is_empty() {
        writeln!(
            text,
            "\nEncrypted to (age): vmcore.flat.age, vmcore-dmesg.txt.age and kexec-dmesg.log.age; the console has no panic line"
        )?;
    }
    for key in &resolved.encrypt_to {
        writeln!(text, "  {key}")?;
    }
    if let Some((driver, timeout_s)) = &resolved.watchdog {
        writeln!(
            text,
            "\nWatchdog {driver}: restarts the machine after {} without progress; it stays on over a reboot",
            Seconds(*timeout_s)
        )?;
    }
    write_fence(text, resolved)?;
    write_hooks(text, resolved)?;
    writeln!(text, "\nWhen an attempt succeeds")?;
    if resolved.keep_dumps > 0 {
        writeln!(
            text,
            "  the oldest dumps beside the new one are removed until {} are left, for at most {}",
            resolved.keep_dumps,
            Seconds(bounds.publish_s)
        )?;
    }
    writeln!(text, "  {}", final_action(resolved.final_action))?;
    writeln!(text, "\nWhen every attempt failed")?;
    writeln!(text, "  {}", failure_action(resolved))?;
    if let Some(root) = &resolved.root {
        writeln!(
            text,
            "  root: {} {}, {}; {}; then {}",
            root.fstype,
            root.device.spec(),
            Size(root.device.size_bytes),
            root.device.how,
            root.init
        )?;
        writeln!(
            text,
            "  its disk is waited for at most {}, its mount has {}, else {}",
            Seconds(bounds.device_s),
            Seconds(bounds.open_s),
            final_action(resolved.final_action)
        )?;
    }
    writeln!(
        text,
        "  the last sync and the {} have {}, then the machine is forced",
        resolved.final_action,
        Seconds(bounds.final_s)
    )?;
    match whole_s(resolved, closure) {
        Some(whole_s) => writeln!(
            text,
            "  all of it takes at most {} from init's start, with each wait to its end; an attempt that broken memory ends is made again, once",
            Long(whole_s)
        ),
        None => Ok(()),
    }
}

/// After how many seconds the machine is forced at the latest. None where a person decides; a plan that is no record has
/// said so where it was made.
fn whole_s(resolved: &Resolved, closure: &Closure) -> Option<u64> {
    resolved.record(&closure.modules).ok()?.whole_s()
}

fn write_fence(text: &mut String, resolved: &Resolved) -> fmt::Result {
    let Sending {
        port,
        interval_s,
        count,
    } = resolved.sending;
    for (number, listener) in resolved.fence.iter().enumerate() {
        if number == 0 {
            write!(
                text,
                "\nCluster nodes told of the dump (fence_kdump), at UDP port {port}, every {}",
                Seconds(interval_s)
            )?;
            match count {
                0 => writeln!(text, " until the machine ends")?,
                count => writeln!(text, ", {count} times")?,
            }
        }
        write!(text, "  {}", listener.node().server)?;
        match resolved.ways.get(listener.way) {
            Some(way) => writeln!(text, "; way: {}", way.how)?,
            None => writeln!(text)?,
        }
    }
    Ok(())
}

fn write_hooks(text: &mut String, resolved: &Resolved) -> fmt::Result {
    if resolved.hooks.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "\nHooks, in this order; each has {}, then it is killed",
        Seconds(resolved.deadlines.hook_s)
    )?;
    for (kind, path) in &resolved.hooks {
        let when = match kind {
            HookKind::Pre => format!(
                "before the dump; if it fails: no dump, {}",
                final_action(resolved.final_action)
            ),
            HookKind::PreFolder => "before the dump".to_owned(),
            HookKind::PostFolder | HookKind::Post => {
                "after each dump, with 0 or 1 as the argument and its path in VMCORE".to_owned()
            }
            HookKind::EmergencyFolder | HookKind::Emergency => {
                "when every attempt failed".to_owned()
            }
        };
        writeln!(text, "  {:<16} {path}  {when}", kind.word())?;
    }
    Ok(())
}

fn write_goal(text: &mut String, resolved: &Resolved, number: usize, goal: &Goal) -> fmt::Result {
    let role = match goal.role {
        Role::Configured => "",
        Role::DumpToRootfs => " (dump_to_rootfs)",
    };
    writeln!(
        text,
        "\nAttempt {number} of {}{role}, {}",
        resolved.attempts.len(),
        goal.origin
    )?;
    writeln!(text, "  {}", goal.target())?;
    if let Some(device) = goal.place.device() {
        writeln!(
            text,
            "  device: {}; {}",
            Size(device.size_bytes),
            device.how
        )?;
        for layer in layers_of(resolved, device) {
            writeln!(text, "  put together before: {layer}")?;
        }
    }
    if let Some(way) = way_of(resolved, goal) {
        writeln!(text, "  way: {}", way.how)?;
        for line in way.spec().to_string().lines() {
            writeln!(text, "   {line}")?;
        }
    }
    let levels: Vec<String> = goal
        .collect
        .levels
        .iter()
        .map(ToString::to_string)
        .collect();
    match &goal.program {
        Some(program) => writeln!(
            text,
            "  dumpfile: what `{program} /proc/vmcore DUMPFILE` writes"
        )?,
        None => writeln!(
            text,
            "  dumpfile: {}, compression {}, level {}",
            goal.collect.format,
            goal.collect.compression,
            levels.join(", and when the target is full ")
        )?,
    }
    let next = next_of(resolved, number);
    for (step, bound) in steps(resolved, goal) {
        writeln!(
            text,
            "  {step:<38} at most {:<7} else {next}",
            Seconds(bound).to_string()
        )?;
    }
    Ok(())
}

fn all_warnings<'a>(
    resolved: &'a Resolved,
    closure: &'a Closure,
) -> impl Iterator<Item = &'a String> {
    resolved.warnings.iter().chain(&closure.warnings)
}

/// What must be put together before the device is there.
fn layers_of<'a>(
    resolved: &'a Resolved,
    device: &'a Identified,
) -> impl Iterator<Item = &'a String> {
    device
        .layers
        .iter()
        .filter_map(|number| resolved.layers.get(number))
        .map(|layer| &layer.how)
}

/// The way to the attempt's server.
fn way_of<'a>(resolved: &'a Resolved, goal: &Goal) -> Option<&'a Way> {
    resolved.ways.get(goal.target().network()?)
}

/// The steps of an attempt, each with its bound in seconds.
fn steps(resolved: &Resolved, goal: &Goal) -> [(&'static str, u32); 6] {
    let bounds = &resolved.deadlines;
    let reach = match goal.place.device() {
        Some(_) => ("wait for the device", bounds.device_s),
        None => ("bring up the network", bounds.network_s),
    };
    [
        reach,
        ("open the target", bounds.open_s),
        ("save vmcore-dmesg.txt", bounds.dmesg_s),
        ("save the vmcore, without any progress", bounds.stall_s),
        ("save the vmcore, as a whole", bounds.dump_s),
        ("sync, rename, manifest", bounds.publish_s),
    ]
}

/// What follows when the attempt of this number, from 1 on, failed.
fn next_of(resolved: &Resolved, number: usize) -> String {
    if number < resolved.attempts.len() {
        format!("attempt {}", number + 1)
    } else {
        all_failed(resolved).to_owned()
    }
}

fn file_size(item: &Item) -> u64 {
    match &item.entry.kind {
        Kind::File(bytes) => bytes.len() as u64,
        _ => 0,
    }
}

fn write_items(
    text: &mut String,
    items: &[Item],
    packed_bytes: usize,
    compression: &str,
) -> fmt::Result {
    let total = items.iter().map(file_size).sum();
    writeln!(
        text,
        "\nImage: {} in files, {} as {compression}",
        Bytes(total),
        Bytes(packed_bytes as u64)
    )?;
    for item in items {
        if matches!(item.entry.kind, Kind::File(_)) {
            writeln!(
                text,
                "  {:>9}  /{}",
                Bytes(file_size(item)).to_string(),
                item.entry.name
            )?;
        }
    }
    Ok(())
}

fn all_failed(resolved: &Resolved) -> &'static str {
    match resolved.failure_action {
        FailureAction::Reboot => "reboot",
        FailureAction::Halt => "halt",
        FailureAction::Poweroff => "poweroff",
        FailureAction::Shell => "shell",
        FailureAction::DumpToRootfs => resolved.final_action.word(),
        FailureAction::MountRootRunInit => "mount_root_run_init",
    }
}

fn failure_action(resolved: &Resolved) -> String {
    let last = final_action(resolved.final_action);
    match resolved.failure_action {
        FailureAction::Reboot => "reboot".to_owned(),
        FailureAction::Halt => "halt".to_owned(),
        FailureAction::Poweroff => "power off".to_owned(),
        FailureAction::Shell => {
            format!("a shell on the console, without a time limit; when it ends: {last}")
        }
        FailureAction::DumpToRootfs => format!("the root file system was the last attempt; {last}"),
        FailureAction::MountRootRunInit => {
            format!(
                "mount the root file system and run the machine's own init; should that fail: {last}"
            )
        }
    }
}

fn final_action(action: FinalAction) -> &'static str {
    match action {
        FinalAction::Reboot => "reboot",
        FinalAction::Halt => "halt",
        FinalAction::Poweroff => "power off",
    }
}

/// Seconds as a person says them.
struct Seconds(u32);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds >= 3600 && seconds % 3600 == 0 => write!(f, "{} h", seconds / 3600),
            seconds => write!(f, "{seconds} s"),
        }
    }
}

/// Many seconds, as hours, minutes and seconds.
struct Long(u64);

impl fmt::Display for Long {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(seconds) = self;
        if *seconds >= 3600 {
            write!(f, "{} h ", seconds / 3600)?;
        }
        if *seconds >= 60 {
            write!(f, "{} min ", seconds / 60 % 60)?;
        }
        write!(f, "{} s", seconds % 60)
    }
}

/// A size in the largest unit in which it is at least one.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = "B";
        let mut tenths = self.0.saturating_mul(10);
        for larger in ["KiB", "MiB", "GiB", "TiB"] {
            if tenths < 10 * 1024 {
                break;
            }
            tenths = tenths.div_ceil(1024);
            unit = larger;
        }
        if unit == "B" || tenths >= 1000 {
            write!(f, "{} {unit}", tenths / 10)
        } else {
            write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

struct Size(Option<u64>);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes} bytes ({})", Bytes(bytes)),
            None => f.write_str("size not known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_500_000, "1.5 MiB"),
            (123_456_789, "117 MiB"),
            (1 << 40, "1.0 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(Seconds(21_600).to_string(), "6 h");
        assert_eq!(Seconds(90).to_string(), "90 s");
        assert_eq!(Long(59).to_string(), "59 s");
        assert_eq!(Long(90).to_string(), "1 min 30 s");
        assert_eq!(Long(3600).to_string(), "1 h 0 min 0 s");
    }
}
