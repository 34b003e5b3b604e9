// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan as JSON, for programs: the same facts as the text has, from the same values.
//!
//! Sizes are in bytes and times in seconds, as the names say. What there is none of is `null`, or an empty list.

use super::{all_warnings, file_size, layers_of, next_of, steps, way_of, whole_s};
use crate::Prepared;
use crate::cpio::Kind;
use crate::image::Item;
use crate::modules::normalised;
use crate::resolve::{Goal, Identified, Place, Resolved, Way};
use config::Role;
use serde_json::{Map, Value, json};

/// The plan for `prepared`, whose image is compressed in the way of this word.
#[must_use]
pub fn value(prepared: &Prepared, compression: &str) -> Value {
    let (resolved, closure) = (&prepared.resolved, &prepared.closure);
    let modules: Vec<Value> = closure
        .modules
        .iter()
        .map(|module| {
            json!({
                "name": module.name,
                "size_bytes": module.bytes.len(),
                "for": module.by,
                "options": resolved.module_options.get(&normalised(&module.name)),
            })
        })
        .collect();
    let builtins: Vec<Value> = closure
        .builtins
        .iter()
        .map(|(name, by)| json!({"name": name, "for": by}))
        .collect();
    let deadlines: Map<String, Value> = resolved
        .deadlines
        .named()
        .into_iter()
        .map(|(step, seconds)| (step.to_owned(), seconds.into()))
        .collect();
    let attempts: Vec<Value> = (1..)
        .zip(&resolved.attempts)
        .map(|(number, goal)| attempt(resolved, number, goal))
        .collect();
    let hooks: Vec<Value> = resolved
        .hooks
        .iter()
        .map(|(kind, path)| json!({"kind": kind.word(), "path": path}))
        .collect();
    let files: Vec<Value> = prepared
        .items
        .iter()
        .filter(|item| matches!(item.entry.kind, Kind::File(_)))
        .map(file)
        .collect();
    json!({
        "kernel": resolved.kernel,
        "hostname": resolved.hostname,
        "zone": resolved.zone,
        "warnings": all_warnings(resolved, closure).collect::<Vec<_>>(),
        "modules": modules,
        "modules_have_signatures": !closure.is_unsigned,
        "built_in": builtins,
        "deadlines_s": deadlines,
        "attempts": attempts,
        "fence_kdump": fence(resolved),
        "hooks": hooks,
        "watchdog": resolved.watchdog.as_ref().map(|(driver, timeout_s)| json!({
            "driver": driver,
            "timeout_s": timeout_s,
        })),
        "keep_dumps": Some(resolved.keep_dumps).filter(|&dumps| dumps > 0),
        "encrypt_to": resolved.encrypt_to,
        "failure_action": resolved.failure_action.word(),
        "final_action": resolved.final_action.word(),
        "whole_s": whole_s(resolved, closure),
        "root": root(resolved),
        "image": {
            "compression": compression,
            "size_bytes": prepared.bytes.len(),
            "files": files,
        },
    })
}

fn attempt(resolved: &Resolved, number: usize, goal: &Goal) -> Value {
    let steps: Vec<Value> = steps(resolved, goal)
        .into_iter()
        .map(|(what, seconds)| json!({"what": what, "deadline_s": seconds}))
        .collect();
    let levels: Vec<u8> = goal
        .collect
        .levels
        .iter()
        .map(|level| level.number())
        .collect();
    let dumpfile = match &goal.program {
        Some(program) => json!({"program": program}),
        None => json!({
            "format": goal.collect.format.word(),
            "compression": goal.collect.compression.word(),
            "levels": levels,
        }),
    };
    json!({
        "number": number,
        "from": goal.origin,
        "is_dump_to_rootfs": goal.role == Role::DumpToRootfs,
        "target": target(&goal.place),
        "device": goal.place.device().map(|found| device(resolved, found)),
        "network": way_of(resolved, goal).map(way),
        "dumpfile": dumpfile,
        "steps": steps,
        "then": resolved.final_action.word(),
        "else": next_of(resolved, number),
    })
}

fn fence(resolved: &Resolved) -> Value {
    let nodes: Vec<Value> = resolved
        .fence
        .iter()
        .map(|listener| {
            json!({
                "name": listener.name,
                "address": listener.address.to_string(),
                "network": resolved.ways.get(listener.way).map(way),
            })
        })
        .collect();
    let sending = resolved.sending;
    json!({
        "port": sending.port,
        "interval_s": sending.interval_s,
        "count": sending.count,
        "nodes": nodes,
    })
}

fn way(way: &Way) -> Value {
    json!({
        "how": way.how,
        "lines": way.spec().to_string().lines().map(str::trim).collect::<Vec<_>>(),
    })
}

fn target(place: &Place) -> Value {
    match place {
        Place::Raw { overwrite, .. } => json!({"kind": "raw", "overwrite": overwrite}),
        Place::Filesystem {
            fstype,
            mount_options,
            path,
            ..
        } => json!({
            "kind": "filesystem",
            "fstype": fstype,
            "mount_options": mount_options,
            "path": path,
        }),
        Place::Nfs {
            server,
            address,
            export,
            mount_options,
            path,
            ..
        } => json!({
            "kind": "nfs",
            "server": server,
            "address": address.to_string(),
            "export": export,
            "mount_options": mount_options,
            "path": path,
        }),
        Place::Ssh {
            server,
            address,
            port,
            user,
            host_keys,
            path,
            ..
        } => json!({
            "kind": "ssh",
            "user": user,
            "server": server,
            "address": address.to_string(),
            "port": port,
            "host_keys": host_keys,
            "path": path,
        }),
    }
}

/// The words of the record for what the device is known by in the capture kernel, and what the host calls it.
fn device(resolved: &Resolved, found: &Identified) -> Value {
    json!({
        "id": found.spec().id.to_string(),
        "node": found.node,
        "size_bytes": found.size_bytes,
        "how": found.how,
        "layers": layers_of(resolved, found).collect::<Vec<_>>(),
    })
}

fn root(resolved: &Resolved) -> Value {
    resolved.root.as_ref().map_or(Value::Null, |root| {
        json!({
            "fstype": root.fstype,
            "mount_options": root.mount_options,
            "device": device(resolved, &root.device),
            "init": root.init,
        })
    })
}

fn file(item: &Item) -> Value {
    json!({
        "name": format!("/{}", item.entry.name),
        "size_bytes": file_size(item),
        "why": item.why,
    })
}
