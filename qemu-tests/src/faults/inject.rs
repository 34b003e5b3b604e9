// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ways in which a fault is brought about.

use crate::disk::Fault;

/// One way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Inject {
    /// The disk is known to the builder and never there.
    Absent,
    /// The disk is plugged in while the attempt waits for it.
    Late,
    /// The disk itself fails.
    Disk(Fault),
    /// Every write fails from one on, which is not the same for both kinds of target.
    GoneFromAWriteOn,
    /// The disk is pulled out while it is written.
    Unplugged,
    /// There is room for so many hundredths of the dump.
    Full(u64),
    /// The disk answers no more in the middle of the dump.
    Stalls,
    /// The disk takes its time.
    Slow,
    /// Nobody has the server's address.
    ServerMissing,
    /// Nobody listens at the server's port.
    ServerRefuses,
    /// The server is frozen before the panic.
    ServerSilent,
    /// The server gets this signal in the middle of the dump.
    Signal(&'static str),
    /// The server is frozen most of the time.
    ServerSlow,
    /// The record has another host key than the server.
    WrongHostKey,
    /// The image has another key than the server knows.
    WrongUserKey,
    /// No carrier from the panic on.
    LinkDown,
    /// The carrier comes and goes.
    LinkFlaps,
    /// The carrier goes in the middle of the dump.
    LinkLost,
    /// The wire loses packets.
    PacketsLost,
    /// The superblock has other bytes.
    Superblock,
    /// The group descriptors have other bytes.
    GroupDescriptors,
    /// The journal has other bytes.
    Journal,
    /// The directory of the save path has other bytes.
    Directory,
    /// No inode is left.
    NoInodes,
    /// There is no save path.
    PathMissing,
    /// The save path leads to itself.
    PathIsALoop,
    /// The record has a module that the image has not.
    ModuleMissing,
    /// The module `obstacle` with these parameters is loaded in the capture kernel.
    Obstacle(&'static str),
    /// There is no vmcore.
    NoVmcore,
    /// VMCOREINFO has other bytes.
    GarbledVmcoreinfo,
    /// The machine's clock was never set.
    ClockIn1970,
    /// The end of the image is missing.
    ImageTruncated,
    /// The record is of another version.
    RecordOfAnotherVersion,
}
