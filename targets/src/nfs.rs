// SPDX-License-Identifier: MIT OR Apache-2.0
//! A directory on an NFS server as the place of a dump: the kernel's own client, mounted without mount.nfs.
//!
//! The kernel takes the options as text and does the rest: it asks the portmapper (version 3), makes the connection, and
//! talks to the server. What mount.nfs adds is here: the server's address among the options, no locks (nothing else is
//! running that would ask for one), and the versions one after the other where none is set.
//!
//! Nothing here bounds a server that stops answering: the supervisor does, and [`abandon`] frees what hangs.

use crate::filesystem::{Cause, Filesystem, FilesystemError};
use crate::io::io;
use crate::text::{Name, Text};
use core::fmt::Write as _;
use core::net::IpAddr;
use heapless::String;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The kernel takes a page of option text; nobody writes so much.
const OPTIONS_BYTES: usize = 768;

/// Which versions are tried when the options set none, and in which order; `vers=4` tries those of version 4.
///
/// Source: nfs(5), "nfsvers".
const VERSIONS: [&str; 4] = ["vers=4.2", "vers=4.1", "vers=4.0", "vers=3"];
const ANY_VERSION_4: &str = "vers=4";

/// Mounts what `server` exports as `export` at `mount_point`. `own` is this machine's address towards the server.
///
/// # Errors
/// [`FilesystemError::Mount`] with what the kernel said to the last version that was tried.
pub fn mount_export<'m>(
    server: IpAddr,
    own: IpAddr,
    export: &str,
    options: &str,
    mount_point: &'m str,
) -> Result<Filesystem<'m>, FilesystemError> {
    let source = source(server, export);
    let node = Name::new(source.as_bytes());
    let failed = |errno: Errno| FilesystemError::Mount {
        node,
        fstype: Text::new(b"nfs"),
        error: io(errno),
        cause: cause(errno),
    };
    let chosen = options
        .split(',')
        .find(|option| option.starts_with("vers=") || option.starts_with("nfsvers="));
    let mut result = Err(Errno::INVAL);
    if chosen.is_some_and(|version| version != ANY_VERSION_4) {
        result = attempt(&source, server, own, options, "", mount_point);
    } else {
        let last = if chosen.is_some() { 3 } else { 4 };
        for version in VERSIONS.into_iter().take(last) {
            let answer = attempt(&source, server, own, options, version, mount_point);
            // That a version is unknown says less than what another one was told.
            if !matches!(result, Err(errno) if !is_about_the_version(errno)) || answer.is_ok() {
                result = answer;
            }
            // The export may have another name in another version.
            if !matches!(answer, Err(Errno::NOENT | Errno::CONNREFUSED))
                && !matches!(answer, Err(errno) if is_about_the_version(errno))
            {
                break;
            }
        }
    }
    result.map_err(failed)?;
    Filesystem::mounted(mount_point, node, "nfs")
}

/// The server does not know this version, or the kernel does not.
const fn is_about_the_version(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PROTONOSUPPORT | Errno::PFNOSUPPORT | Errno::INVAL | Errno::OPNOTSUPP
    )
}

fn attempt(
    source: &str,
    server: IpAddr,
    own: IpAddr,
    options: &str,
    version: &str,
    mount_point: &str,
) -> Result<(), Errno> {
    let options = text(server, own, options, version).ok_or(Errno::NAMETOOLONG)?;
    let data =
        core::ffi::CStr::from_bytes_with_nul(options.as_bytes()).map_err(|_| Errno::INVAL)?;
    mount(
        source,
        mount_point,
        "nfs",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        Some(data),
    )
}

/// `10.0.2.2:/srv/crash`, `[fd00::2]:/srv/crash`
fn source(server: IpAddr, export: &str) -> String<512> {
    let mut text = String::new();
    // An export with so long a name is refused by the kernel as one that is not there.
    let _ = match server {
        IpAddr::V4(address) => write!(text, "{address}:{export}"),
        IpAddr::V6(address) => write!(text, "[{address}]:{export}"),
    };
    text
}

/// The options as the kernel takes them, with the NUL at the end; none when they are too long.
///
/// What mount(8) alone understands, and addresses of the host, never get into a record.
fn text(
    server: IpAddr,
    own: IpAddr,
    options: &str,
    version: &str,
) -> Option<String<OPTIONS_BYTES>> {
    let mut text = String::new();
    for option in options.split(',').chain(version.split(',')) {
        if !matches!(option, "" | ANY_VERSION_4) {
            write!(text, "{option},").ok()?;
        }
    }
    // Without a word the kernel takes UDP for version 3, and TCP for IPv4 alone where a word is there.
    if !options
        .split(',')
        .any(|option| option.starts_with("proto="))
    {
        let proto = if server.is_ipv4() { "tcp" } else { "tcp6" };
        write!(text, "proto={proto},").ok()?;
        if version == "vers=3" {
            write!(text, "mountproto={proto},").ok()?;
        }
    }
    write!(text, "nolock,addr={server},clientaddr={own}\0").ok()?;
    Some(text)
}

const fn cause(errno: Errno) -> Cause {
    match errno {
        Errno::ACCESS | Errno::PERM => Cause::NotExportedToUs,
        Errno::NOENT => Cause::NoSuchExport,
        Errno::CONNREFUSED => Cause::NobodyServes,
        Errno::NODEV => Cause::NoDriver,
        _ => Cause::Unknown,
    }
}

/// Takes a mount out of the way whose server may be dead: what waits for it gets an error.
pub fn abandon(mount_point: &str) {
    // The first ends what is under way, the second takes the mount away however busy it is.
    let _ = unmount(mount_point, UnmountFlags::FORCE);
    let _ = unmount(mount_point, UnmountFlags::DETACH | UnmountFlags::FORCE);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 2, 2));
    const OWN: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 2, 15));

    #[test]
    fn the_options_of_the_record_get_what_mount_nfs_would_add() {
        assert_eq!(
            text(SERVER, OWN, "vers=4,rsize=1048576,hard", "vers=4.2").unwrap(),
            "rsize=1048576,hard,vers=4.2,proto=tcp,nolock,addr=10.0.2.2,clientaddr=10.0.2.15\0"
        );
        let (server, own) = ("fd00::2".parse().unwrap(), "fd00::3".parse().unwrap());
        assert_eq!(
            text(server, own, "port=1", "vers=4.1").unwrap(),
            "port=1,vers=4.1,proto=tcp6,nolock,addr=fd00::2,clientaddr=fd00::3\0"
        );
        assert_eq!(
            text(SERVER, OWN, "", "vers=3").unwrap(),
            "vers=3,proto=tcp,mountproto=tcp,nolock,addr=10.0.2.2,clientaddr=10.0.2.15\0"
        );
        assert!(text(SERVER, OWN, &"x".repeat(OPTIONS_BYTES), "").is_none());
    }

    #[test]
    fn an_ipv6_server_stands_in_brackets() {
        assert_eq!(source(SERVER, "/a b"), "10.0.2.2:/a b");
        assert_eq!(source("fd00::2".parse().unwrap(), "/a"), "[fd00::2]:/a");
    }
}
