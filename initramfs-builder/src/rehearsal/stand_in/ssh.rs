// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that is reached by ssh: the system's own sshd, on the loopback, with a host key made for the rehearsal.
//!
//! The user's key is the one of the plan, so that it is seen to work; the account is that of whoever rehearses.

use super::wire::{self, THIS_MACHINE};
use crate::conf::Target;
use crate::error::Mistake;
use crate::host::Host;
use crate::programs::FOLDERS;
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long sshd may take to listen.
const START: Duration = Duration::from_secs(20);

/// An sshd that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Server {
    sshd: PathBuf,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an sshd of this machine")
    }
}

impl Server {
    /// Finds the system's sshd.
    pub(super) fn find() -> Result<Self, String> {
        // sshd starts itself anew by its path, and so wants the whole of it.
        FOLDERS
            .iter()
            .map(|folder| Path::new(folder).join("sshd"))
            .find(|path| path.is_file())
            .map(|sshd| Self { sshd })
            .ok_or_else(|| {
                "no sshd is installed here that could stand in for the server; `mkkdumprd check` tries the one itself"
                    .to_owned()
            })
    }

    /// Starts it with `key` as the one that may log in; everything of it is in `folder`.
    pub(super) fn start(&self, folder: &Path, key: Option<&[u8]>) -> Result<Running, Mistake> {
        let failed = |what: &str, error: std::io::Error| {
            Mistake::new(format!(
                "starting an sshd for the rehearsal: {what}: {error}"
            ))
        };
        let folder = fs::canonicalize(folder).map_err(|error| failed("its folder", error))?;
        let key = key.ok_or_else(|| Mistake::new("the plan has no key for ssh"))?;
        let own = folder.join("user-key");
        fs::write(&own, key)
            .and_then(|()| fs::set_permissions(&own, fs::Permissions::from_mode(0o600)))
            .map_err(|error| failed("the user's key", error))?;
        let public = said(Command::new("ssh-keygen").arg("-y").arg("-f").arg(&own));
        // It is in the image anyway, and nobody needs it here.
        let _ = fs::remove_file(&own);
        let host_key = folder.join("host-key");
        let _ = fs::remove_file(&host_key);
        said(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "rehearsal", "-f"])
                .arg(&host_key),
        )?;
        let known_as = fs::read_to_string(host_key.with_extension("pub"))
            .map_err(|error| failed("its host key", error))?;
        let user = said(Command::new("id").arg("-un"))?.trim().to_owned();
        let dumps = folder.join("dumps");
        fs::create_dir_all(&dumps).map_err(|error| failed("the folder for dumps", error))?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| failed("a free port", error))?
            .port();
        let shown = folder.display();
        let settings = folder.join("sshd_config");
        fs::write(folder.join("authorized_keys"), public?)
            .and_then(|()| {
                fs::write(
                    &settings,
                    format!(
                        "ListenAddress 127.0.0.1:{port}\nHostKey {shown}/host-key\nAuthorizedKeysFile {shown}/authorized_keys\n\
                         PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n\
                         KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n"
                    ),
                )
            })
            .map_err(|error| failed("its settings", error))?;
        let mut child = Command::new(&self.sshd)
            .args(["-D", "-e", "-f"])
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(
                fs::File::create(folder.join("sshd.log"))
                    .map_err(|error| failed("its log", error))?,
            )
            .spawn()
            .map_err(|error| failed("running it", error))?;
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let is_gone = !matches!(child.try_wait(), Ok(None));
            if is_gone || began.elapsed() > START {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Mistake::new(format!(
                    "the sshd of the rehearsal did not start; {shown}/sshd.log says why"
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Running {
            child,
            port,
            user,
            known_as: known_as.trim().to_owned(),
            dumps,
        })
    }
}

/// Runs a program and returns what it said.
fn said(command: &mut Command) -> Result<String, Mistake> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Mistake::new(format!("running {shown}: {error}")))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Mistake::new(format!(
            "{shown}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }
}

/// An sshd that runs until this is dropped.
#[derive(Debug)]
pub(in super::super) struct Running {
    child: Child,
    port: u16,
    user: String,
    known_as: String,
    dumps: PathBuf,
}

impl Running {
    /// Where dumps are saved.
    pub(super) fn dumps(&self) -> &Path {
        &self.dumps
    }

    /// Puts the way to it into the described machine, and returns the target.
    pub(super) fn put_into(&self, host: &mut Host) -> Target {
        wire::put_into(host);
        host.known_hosts = Some(format!(
            "[{THIS_MACHINE}]:{} {}\n",
            self.port, self.known_as
        ));
        Target::Ssh {
            user: self.user.clone(),
            server: THIS_MACHINE.to_string(),
            port: self.port,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
