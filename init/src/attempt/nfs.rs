// SPDX-License-Identifier: MIT OR Apache-2.0
//! An attempt at a directory of an NFS server.
#![expect(
    clippy::result_large_err,
    reason = "a reason has no heap to lie on, and an attempt has one of them"
)]

use super::disk::mount_point;
use super::network::own_address;
use super::{Place, Reason, Run, reason};
use crate::log;
use config::TargetSpec;
use targets::nfs;

/// Mounts the export, and saves the dump there.
pub fn make(run: &mut Run<'_>, memory: &mut [u8]) -> Result<Place, Reason> {
    let TargetSpec::Nfs {
        server,
        export,
        mount_options,
        path,
        network,
    } = &run.job.attempt.target
    else {
        return Err(reason("not a target on NFS, a defect of kdumprd"));
    };
    let address = run.network(*network, server)?;
    let (vmcore, memory) = run.vmcore(memory)?;
    let own = own_address(address)?;
    let mount_point = mount_point(run.job.number)?;
    let filesystem =
        nfs::mount_export(address, own, export, mount_options, &mount_point).map_err(reason)?;
    let result = run.filesystem(&filesystem, path, Some(own), vmcore, memory);
    if let Err(error) = filesystem.unmount() {
        log!("attempt {}: {error}", run.job.number + 1);
    }
    result
}
