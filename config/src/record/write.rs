// SPDX-License-Identifier: MIT OR Apache-2.0
//! A record to its text form.

use super::block::OVERWRITE;
use super::{Record, VERSION};
use crate::target::{DeviceSpec, TargetSpec};
use core::fmt::{self, Write as _};

impl fmt::Display for Record<'_> {
    /// The text form. The values must hold no line breaks; the builder refuses such names before.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kdumprd-record {VERSION}")?;
        writeln!(f, "kernel {}", self.kernel)?;
        writeln!(f, "hostname {}", self.hostname)?;
        writeln!(f, "zone {}", self.zone)?;
        writeln!(f, "failure_action {}", self.failure_action)?;
        writeln!(f, "final_action {}", self.final_action)?;
        for (word, seconds) in self.deadlines.named() {
            writeln!(f, "deadline {word} {seconds}")?;
        }
        if self.debug_mem_level > 0 {
            writeln!(f, "debug_mem_level {}", self.debug_mem_level)?;
        }
        if self.keep_dumps > 0 {
            writeln!(f, "keep_dumps {}", self.keep_dumps)?;
        }
        for key in &self.encrypt_to {
            writeln!(f, "encrypt_to {key}")?;
        }
        if let Some(watchdog) = &self.watchdog {
            writeln!(f, "watchdog {watchdog}")?;
        }
        for module in &self.modules {
            write!(f, "module {}", module.name)?;
            if !module.options.is_empty() {
                write!(f, " {}", module.options)?;
            }
            f.write_char('\n')?;
        }
        for hook in &self.hooks {
            writeln!(f, "hook {} {}", hook.kind, hook.path)?;
        }
        for network in &self.networks {
            write!(f, "network\n{network}")?;
        }
        if !self.fence.nodes.is_empty() {
            writeln!(f, "fence_kdump {}", self.fence.sending)?;
        }
        for node in &self.fence.nodes {
            writeln!(f, "fence_node {node}")?;
        }
        for layer in &self.layers {
            writeln!(f, "layer {layer}")?;
        }
        for attempt in &self.attempts {
            writeln!(f, "attempt {}", attempt.role)?;
            match &attempt.target {
                TargetSpec::Raw { device, overwrite } => {
                    f.write_str(" raw")?;
                    if *overwrite {
                        write!(f, " {OVERWRITE}")?;
                    }
                    f.write_char('\n')?;
                    write_device(f, device)?;
                }
                TargetSpec::Filesystem {
                    fstype,
                    device,
                    mount_options,
                    path,
                } => {
                    write_filesystem(f, fstype, device, mount_options)?;
                    writeln!(f, " path {path}")?;
                }
                TargetSpec::Nfs {
                    server,
                    export,
                    mount_options,
                    path,
                    network,
                } => {
                    writeln!(f, " nfs {}", server.name)?;
                    writeln!(f, " address {}", server.address)?;
                    writeln!(f, " export {export}")?;
                    if !mount_options.is_empty() {
                        writeln!(f, " mount_options {mount_options}")?;
                    }
                    writeln!(f, " path {path}")?;
                    writeln!(f, " network {network}")?;
                }
                TargetSpec::Ssh {
                    server,
                    port,
                    user,
                    host_keys,
                    path,
                    network,
                } => {
                    writeln!(f, " ssh {user}@{}", server.name)?;
                    writeln!(f, " address {}", server.address)?;
                    writeln!(f, " port {port}")?;
                    for key in host_keys.iter() {
                        writeln!(f, " host_key {key}")?;
                    }
                    writeln!(f, " path {path}")?;
                    writeln!(f, " network {network}")?;
                }
            }
            write!(
                f,
                " collect {} {} ",
                attempt.collect.format, attempt.collect.compression
            )?;
            for (position, level) in attempt.collect.levels.iter().enumerate() {
                write!(f, "{}{level}", if position == 0 { "" } else { "," })?;
            }
            f.write_char('\n')?;
            if let Some(program) = attempt.program {
                writeln!(f, " program {program}")?;
            }
        }
        if let Some(root) = &self.root {
            writeln!(f, "root")?;
            write_filesystem(f, root.fstype, &root.device, root.mount_options)?;
            writeln!(f, " init {}", root.init)?;
        }
        writeln!(f, "end")
    }
}

fn write_filesystem(
    f: &mut fmt::Formatter<'_>,
    fstype: &str,
    device: &DeviceSpec<'_>,
    mount_options: &str,
) -> fmt::Result {
    writeln!(f, " filesystem {fstype}")?;
    write_device(f, device)?;
    if mount_options.is_empty() {
        Ok(())
    } else {
        writeln!(f, " mount_options {mount_options}")
    }
}

fn write_device(f: &mut fmt::Formatter<'_>, device: &DeviceSpec<'_>) -> fmt::Result {
    let (keyword, value) = device.id.parts();
    writeln!(f, " device {keyword} {value}")?;
    if !device.known_as.is_empty() {
        writeln!(f, " known_as {}", device.known_as)?;
    }
    if let Some(size_bytes) = device.size_bytes {
        writeln!(f, " size_bytes {size_bytes}")?;
    }
    if !device.layers.is_empty() {
        writeln!(f, " layers {}", device.layers)?;
    }
    Ok(())
}
