// SPDX-License-Identifier: MIT OR Apache-2.0
//! An NFS server, on the loopback, with an empty folder: one of our own, as a system's needs root and its kernel.
//!
//! It has version 3, what a client needs to mount by given ports, and what a dump needs of it. The server crates
//! that there are bring a runtime with them, and allocate by a length that the caller states.
//!
//! Others on this machine can reach it. Its export has a name that nobody can guess, and so have the files' handles.

mod files;
mod rpc;

use super::super::random;
use super::wire::{self, THIS_MACHINE};
use crate::conf::Target;
use crate::error::Mistake;
use crate::host::{FstabEntry, Host};
use files::{Files, Secret};
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A call beside what it writes.
const CALL_BYTES: usize = 4096;
/// The client makes a short one to mount, and then as many as `nconnect` says, which is 16 at most.
const MOST_CONNECTIONS: usize = 32;
/// Options that say how, and not where or by which version.
const KEPT: [&str; 8] = [
    "rsize", "wsize", "timeo", "retrans", "soft", "hard", "sec", "nconnect",
];

/// A server that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Server {
    /// The plan's options of the mount.
    options: String,
    /// The save path inside the export.
    path: String,
}

impl fmt::Display for Server {
    /// With what is not as in the plan.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an NFS server of its own (another address, port and export")?;
        match self.version() {
            Some(version) if version.starts_with('3') => {}
            Some(version) => write!(f, "; NFS version 3, not {version}")?,
            None => f.write_str(
                "; NFS version 3, where the plan takes the highest that the server has",
            )?,
        }
        let others: Vec<&str> = self
            .options()
            .filter(|option| {
                !is_kept(option) && !SAID.contains(&key(option)) && !SAME.contains(option)
            })
            .collect();
        if !others.is_empty() {
            write!(f, "; without {}", others.join(","))?;
        }
        f.write_str(")")
    }
}

/// Options of which the first half of the sentence speaks.
const SAID: [&str; 5] = ["vers", "nfsvers", "minorversion", "port", "mountport"];
/// Options that the rehearsal has by itself.
const SAME: [&str; 3] = ["proto=tcp", "mountproto=tcp", "mountvers=3"];

fn key(option: &str) -> &str {
    option.split('=').next().unwrap_or(option)
}

fn is_kept(option: &str) -> bool {
    KEPT.contains(&key(option))
}

impl Server {
    /// For a target with these options, and this path inside the export.
    pub(super) fn new(options: &str, path: &str) -> Self {
        Self {
            options: options.to_owned(),
            path: path.to_owned(),
        }
    }

    fn options(&self) -> impl Iterator<Item = &str> {
        self.options.split(',').filter(|option| !option.is_empty())
    }

    /// The version that the plan asks for.
    fn version(&self) -> Option<&str> {
        self.options()
            .filter_map(|option| option.split_once('='))
            .find_map(|(key, value)| matches!(key, "vers" | "nfsvers").then_some(value))
    }

    /// Starts it, with a folder of its own in `folder`.
    pub(super) fn start(&self, folder: &Path) -> Result<Running, Mistake> {
        let failed = |what: &str, error: std::io::Error| {
            Mistake::new(format!(
                "starting an NFS server for the rehearsal: {what}: {error}"
            ))
        };
        let folder = fs::canonicalize(folder)
            .map_err(|error| failed("its folder", error))?
            .join("export");
        // What an earlier run left must not be taken for this one's dump.
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("emptying its export", error));
            }
            _ => {}
        }
        fs::create_dir(&folder).map_err(|error| failed("its export", error))?;
        let (name, secret): (Secret, Secret) = (random()?, random()?);
        let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let export = format!("/{name}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(|error| failed("a free port", error))?;
        let address = listener
            .local_addr()
            .map_err(|error| failed("a free port", error))?;
        let port = address.port();
        let stop = Arc::new(AtomicBool::new(false));
        let files = Files::new(folder.clone(), export.clone(), secret);
        let is_over = Arc::clone(&stop);
        thread::spawn(move || listen(&listener, &Arc::new(Mutex::new(files)), &is_over));
        let options = self
            .options()
            .filter(|option| is_kept(option))
            .map(str::to_owned)
            .chain([format!(
                "vers=3,proto=tcp,mountproto=tcp,port={port},mountport={port}"
            )])
            .collect::<Vec<_>>()
            .join(",");
        Ok(Running {
            address,
            export,
            options,
            dumps: folder.join(self.path.trim_start_matches('/')),
            stop,
        })
    }
}

/// Takes connections until it is over.
fn listen(listener: &TcpListener, files: &Arc<Mutex<Files>>, is_over: &AtomicBool) {
    let count = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if is_over.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if count.fetch_add(1, Ordering::AcqRel) >= MOST_CONNECTIONS {
            count.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (files, count) = (Arc::clone(files), Arc::clone(&count));
        thread::spawn(move || {
            // Why it ended, the machine's console says better.
            let _ = serve(stream, &files);
            count.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

fn serve(mut stream: TcpStream, files: &Mutex<Files>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let most = usize::try_from(files::MOST_BYTES).unwrap_or(0) + CALL_BYTES;
    rpc::serve(&mut stream, most, &mut |call, answer| {
        // A thread that panicked while it held the files left them whole: each change is one assignment.
        let mut files = files.lock().unwrap_or_else(|poison| poison.into_inner());
        files.answer(call, answer)
    })
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub(in super::super) struct Running {
    address: SocketAddr,
    export: String,
    options: String,
    dumps: PathBuf,
    stop: Arc<AtomicBool>,
}

impl Running {
    /// Where dumps are saved.
    pub(super) fn dumps(&self) -> &Path {
        &self.dumps
    }

    /// Puts the way to it, and how it is mounted, into the described machine, and returns the target.
    pub(super) fn put_into(&self, host: &mut Host) -> Target {
        wire::put_into(host);
        let target = Target::Nfs {
            server: THIS_MACHINE.to_string(),
            export: self.export.clone(),
            is_version_4: false,
        };
        host.fstab = vec![FstabEntry {
            line: 1,
            source: target.to_string(),
            target: "/rehearsal".to_owned(),
            fstype: "nfs".to_owned(),
            options: self.options.clone(),
            is_noauto: true,
        }];
        target
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // It waits for a connection; the ones that there are end with the machine.
        let _ = TcpStream::connect(self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn what_is_not_as_in_the_plan_is_said() {
        for (options, said) in [
            (
                "vers=3",
                "an NFS server of its own (another address, port and export)",
            ),
            (
                "nfsvers=3,port=2050,hard,proto=tcp",
                "an NFS server of its own (another address, port and export)",
            ),
            (
                "vers=4.2,proto=rdma",
                "an NFS server of its own (another address, port and export; NFS version 3, not 4.2; without proto=rdma)",
            ),
            (
                "",
                "an NFS server of its own (another address, port and export; NFS version 3, where the plan takes the highest \
                 that the server has)",
            ),
        ] {
            assert_eq!(Server::new(options, "/").to_string(), said, "{options}");
        }
    }

    #[test]
    fn it_answers_on_the_loopback_until_it_is_dropped() {
        let folder = std::env::temp_dir().join(format!("nfs-server-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let server = Server::new("timeo=50,vers=4.2", "/var/crash")
            .start(&folder)
            .unwrap();
        assert!(server.dumps().ends_with("export/var/crash"));
        let mut host = Host::read(&folder).unwrap();
        let target = server.put_into(&mut host);
        assert_eq!(host.fstab[0].source, target.to_string());
        assert!(
            host.fstab[0]
                .options
                .starts_with("timeo=50,vers=3,proto=tcp,")
        );
        let mut stream = TcpStream::connect(server.address).unwrap();
        let null = rpc::tests::call(100_003, 3, 0, &rpc::Answer::default());
        let mark = 0x8000_0000 | u32::try_from(null.len()).unwrap();
        stream.write_all(&mark.to_be_bytes()).unwrap();
        stream.write_all(&null).unwrap();
        let mut reply = [0; 28];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..4], [0x80, 0, 0, 24]);
        let address = server.address;
        drop(server);
        // The thread lets go of the port within the time that a connection takes.
        let began = std::time::Instant::now();
        while let Ok(mut stream) = TcpStream::connect(address) {
            let _ = stream.read(&mut reply);
            assert!(began.elapsed().as_secs() < 20, "it still listens");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
