// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mkkdumprd check`: every target of the plan tried on the running machine, with the code that saves the dump.
//!
//! A small file is written as a dump is, under its incomplete name, synced and renamed; then read back and removed, with its
//! directory. File systems and exports are mounted for that in a process with mounts of its own, which are gone with it. A
//! raw target is looked at and not written: whatever is there is somebody's.
//!
//! ```text
//! plan ─▶ each target: a child with its own mounts, and a deadline ─▶ Tried
//! ```
//! What it does not try: the capture kernel and its drivers, and the network as it is brought up there; a rehearsal does.

use crate::error::{Mistake, Mistakes};
use crate::resolve::Place;
use crate::{Prepared, Request, prepare};
use collector::Sink as _;
use config::TargetSpec;
use serde_json::{Value, json};
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use targets::device::{self, Roots, Survey};
use targets::filesystem::Filesystem;
use targets::nfs;
use targets::raw::{Occupied, Raw};
use targets::ssh::{self, Limits, Login, PublicKey, Random, Server, Socket, UserKey};

/// Says which target a child tries, counted from 0.
const VARIABLE: &str = "KDUMPRD_CHECK";
/// Where a child mounts.
const MOUNT_POINT: &str = "/run/kdumprd-check";
/// The file that is written.
const FILE: &str = "check";
const CONTENT: &[u8] = b"mkkdumprd check wrote this; it may be removed\n";
/// A child that takes longer is left behind: a server does not answer, or a disk.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a server may take to answer a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// What a child says before what it did.
const GOOD: &str = "good: ";
/// What a child says before what stood in the way.
const BAD: &str = "bad: ";

/// A target that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The target, as the plan names it.
    pub target: String,
    /// What was done; else what stands in the way.
    pub result: Result<String, String>,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(done) => write!(f, "{}: good: {done}", self.target),
            Err(why) => write!(f, "{}: FAILED: {why}", self.target),
        }
    }
}

impl Tried {
    /// As `--json` has it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "target": self.target,
            "good": self.result.is_ok(),
            "text": match &self.result { Ok(text) | Err(text) => text },
        })
    }
}

/// Tries every target of the plan, one after the other; `tell` hears which.
///
/// # Errors
/// The plan has mistakes, this is not root, or `unshare` is missing. A target that fails is no error here.
pub fn check(request: &Request, tell: &mut dyn FnMut(&str)) -> Result<Vec<Tried>, Mistakes> {
    if !rustix::process::geteuid().is_root() {
        return Err(Mistake::new(
            "trying the targets mounts them and reads root's key, which only root may; `mkkdumprd plan` needs no root",
        )
        .into());
    }
    let prepared = prepare(request)?;
    let mut tried = Vec::new();
    for (number, goal) in prepared.resolved.attempts.iter().enumerate() {
        let target = goal.place.name();
        tell(&format!("{target}: trying"));
        let result = in_a_child(number)?;
        tried.push(Tried { target, result });
    }
    Ok(tried)
}

/// Has another process of this program try one target, with mounts of its own.
fn in_a_child(number: usize) -> Result<Result<String, String>, Mistake> {
    let failed = |error: std::io::Error| Mistake::new(format!("running unshare: {error}"));
    let own = std::env::current_exe()
        .map_err(|error| Mistake::new(format!("finding this program's own file: {error}")))?;
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(VARIABLE, number.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut output = child.stdout.take();
    // What a child says is a few lines, for which the pipe has room.
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            return Ok(Err(format!(
                "nothing came of it in {} s; a server does not answer, or a disk",
                PATIENCE.as_secs()
            )));
        }
        thread::sleep(Duration::from_millis(20));
    };
    let mut said = String::new();
    if let Some(output) = &mut output {
        let _ = output.read_to_string(&mut said);
    }
    let line = |start: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(start))
            .map(str::to_owned)
    };
    Ok(match (line(GOOD), line(BAD)) {
        (Some(done), _) => Ok(done),
        (None, Some(why)) => Err(why),
        (None, None) => Err(format!("the trial ended without a word: {status}")),
    })
}

/// Which target this process is to try, when it is a child of [`check`].
#[must_use]
pub fn number_in_child() -> Option<usize> {
    std::env::var(VARIABLE).ok()?.parse().ok()
}

/// Tries one target and says what came of it: what a child does.
///
/// # Errors
/// The plan has mistakes, or no such target.
pub fn try_one(request: &Request, number: usize) -> Result<(), Mistakes> {
    let prepared = prepare(request)?;
    let result = try_target(&prepared, number);
    match result {
        Ok(done) => println!("{GOOD}{done}"),
        // It is one line to the parent, whatever it is to a person.
        Err(why) => println!("{BAD}{}", why.replace('\n', "; ")),
    }
    Ok(())
}

fn try_target(prepared: &Prepared, number: usize) -> Result<String, String> {
    let resolved = &prepared.resolved;
    let goal = resolved
        .attempts
        .get(number)
        .ok_or_else(|| format!("there is no target {}", number + 1))?;
    let find = |spec: &config::DeviceSpec<'_>| {
        let mut survey = Survey::new();
        device::wait(
            spec,
            &Roots::SYSTEM,
            Duration::ZERO,
            &mut survey,
            &mut || {},
        )
        .map_err(|error| error.to_string())
    };
    match goal.target() {
        TargetSpec::Raw { device, overwrite } => {
            let found = find(&device)?;
            let may_lose = Occupied {
                unsaved: true,
                signature: overwrite,
            };
            let raw = Raw::open(&found, 0, may_lose).map_err(|error| error.to_string())?;
            Ok(match raw.unsaved() {
                Some(name) => format!(
                    "it is free and can be written, and was not; it has the dump of {name}, which nobody has recovered"
                ),
                None => "it is free and can be written, and was not".to_owned(),
            })
        }
        TargetSpec::Filesystem {
            fstype,
            device,
            mount_options,
            path,
        } => {
            let found = find(&device)?;
            let mount_point = mount_point()?;
            let filesystem = Filesystem::mount(&found, fstype, mount_options, mount_point)
                .map_err(|error| error.to_string())?;
            in_directory(&filesystem, path)
        }
        TargetSpec::Nfs {
            export,
            mount_options,
            path,
            ..
        } => {
            let address = server_address(&goal.place)?;
            let mount_point = mount_point()?;
            let filesystem = nfs::mount_export(
                address,
                own_address(address)?,
                export,
                mount_options,
                mount_point,
            )
            .map_err(|error| error.to_string())?;
            in_directory(&filesystem, path)
        }
        TargetSpec::Ssh {
            port,
            user,
            host_keys,
            path,
            ..
        } => {
            let pinned = host_keys
                .iter()
                .map(|text| PublicKey::from_text(text).map_err(|error| error.to_string()))
                .collect::<Result<Vec<_>, _>>()?;
            let file = resolved.ssh_key.as_deref().unwrap_or_default();
            let key = UserKey::parse(file).map_err(|error| error.to_string())?;
            let account = Account {
                address: SocketAddr::new(server_address(&goal.place)?, port),
                user,
                key: &key,
                pinned: &pinned,
            };
            account.try_out(file, path)
        }
    }
}

/// The server's address as the plan has it.
fn server_address(place: &Place) -> Result<IpAddr, String> {
    match place {
        Place::Nfs { address, .. } | Place::Ssh { address, .. } => Ok(*address),
        _ => Err("the target has no server".to_owned()),
    }
}

/// This machine's address towards a server; nothing is sent to learn it.
fn own_address(server: IpAddr) -> Result<IpAddr, String> {
    let any = match server {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    UdpSocket::bind((any, 0))
        .and_then(|socket| {
            // Any port: the discard service's.
            socket.connect((server, 9))?;
            socket.local_addr()
        })
        .map(|address| address.ip())
        .map_err(|error| format!("this machine has no way to {server}: {error}"))
}

fn mount_point() -> Result<&'static str, String> {
    fs::create_dir_all(MOUNT_POINT).map_err(|error| format!("making {MOUNT_POINT}: {error}"))?;
    Ok(MOUNT_POINT)
}

/// The directory that a trial makes and takes away again.
fn directory_name() -> String {
    format!("kdumprd-check-{}", std::process::id())
}

/// Writes, reads back and removes below `path` of what is mounted.
fn in_directory(filesystem: &Filesystem<'_>, path: &str) -> Result<String, String> {
    let text = |error: targets::filesystem::FilesystemError| error.to_string();
    let space = filesystem.space().map_err(text)?;
    let directory = filesystem
        .directory(path, &directory_name())
        .map_err(text)?;
    let mut file = directory.create(FILE).map_err(text)?;
    file.write_at(0, CONTENT)
        .map_err(|error| format!("writing: {error}"))?;
    directory.publish(file).map_err(text)?;
    let place = Path::new(MOUNT_POINT).join(
        directory
            .path()
            .as_str()
            .unwrap_or_default()
            .trim_start_matches('/'),
    );
    let shown = directory.path();
    let read = fs::read(place.join(FILE))
        .map_err(|error| format!("reading {shown}/{FILE} back: {error}"))?;
    fs::remove_file(place.join(FILE))
        .and_then(|()| fs::remove_dir(&place))
        .map_err(|error| format!("removing {shown}: {error}"))?;
    if read != CONTENT {
        return Err(format!("{shown}/{FILE} is not what was written"));
    }
    Ok(format!(
        "a file was written, synced, renamed, read back and removed below {path}; {} MiB are free",
        space.free_bytes >> 20
    ))
}

/// An account on a server.
struct Account<'a> {
    address: SocketAddr,
    user: &'a str,
    key: &'a UserKey,
    pinned: &'a [PublicKey],
}

impl Account<'_> {
    fn try_out(&self, seed: &[u8], path: &str) -> Result<String, String> {
        let Self {
            address,
            user,
            key,
            pinned,
        } = *self;
        let socket = Socket::connect(address, CONNECT_PATIENCE)
            .map_err(|error| format!("connecting to {address}: {error}"))?;
        let login = Login {
            user,
            key,
            pinned,
            limits: Limits::DEFAULT,
            cipher: None,
        };
        let mut random = Random::gather(seed, None);
        let mut memory = vec![0; ssh::MEMORY_BYTES];
        let server = Server::open(socket, &login, &mut random, &mut memory)
            .map_err(|error| format!("logging in as {user}: {error}"))?;
        let means = server.means();
        let text = |error: ssh::RemoteError| error.to_string();
        let directory = server.directory(path, &directory_name()).map_err(text)?;
        let mut file = directory.create(FILE).map_err(text)?;
        file.write_at(0, CONTENT)
            .map_err(|error| match server.last_error() {
                Some(error) => format!("writing: {error}"),
                None => format!("writing: {error}"),
            })?;
        directory.publish(file).map_err(text)?;
        let shown = directory.path();
        let done = match directory.take_back(FILE, CONTENT).map_err(text)? {
            Some(true) => format!(
                "logged in with the pinned key; a file was written, synced, renamed, read back and removed below {path}, by {means}"
            ),
            Some(false) => return Err(format!("{shown}/{FILE} is not what was written")),
            None => format!(
                "logged in with the pinned key; a file was written, synced and renamed, by {means}; it stays there as {shown}/{FILE}"
            ),
        };
        server.close();
        Ok(done)
    }
}

/// In a line, for `kdumpctl status`.
#[must_use]
pub fn verdict(tried: &[Tried]) -> (crate::proof::Verdict, String) {
    use crate::proof::Verdict;
    let bad: Vec<&str> = tried
        .iter()
        .filter(|one| one.result.is_err())
        .map(|one| one.target.as_str())
        .collect();
    if bad.is_empty() {
        (
            Verdict::Good,
            format!("{} of {0} targets can be reached", tried.len()),
        )
    } else {
        (Verdict::Bad, format!("not in order: {}", bad.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::Verdict;

    #[test]
    fn one_target_that_fails_makes_the_verdict() {
        let tried = |target: &str, result| Tried {
            target: target.to_owned(),
            result,
        };
        let good = tried("/dev/vda", Ok("written".to_owned()));
        let bad = tried("nas:/x", Err("no answer".to_owned()));
        assert_eq!(verdict(std::slice::from_ref(&good)).0, Verdict::Good);
        let (is, text) = verdict(&[good.clone(), bad.clone()]);
        assert_eq!((is, text.as_str()), (Verdict::Bad, "not in order: nas:/x"));
        assert_eq!(good.to_string(), "/dev/vda: good: written");
        assert_eq!(bad.to_string(), "nas:/x: FAILED: no answer");
        assert_eq!(bad.to_json()["good"], false);
    }

    #[test]
    fn the_way_to_this_machine_is_from_this_machine() {
        let own = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(own_address(own), Ok(own));
    }
}
