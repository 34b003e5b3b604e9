// SPDX-License-Identifier: MIT OR Apache-2.0
//! SSH servers of the host that take dumps: Debian's OpenSSH and dropbear, on loopback, each with a folder of its own.

use std::env;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run::{run, stdout};
use crate::setup::{find_program, program, ready};

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where QEMU's own network has the host's loopback.
const SEEN_BY_GUESTS: &str = "10.0.2.2";

/// A folder that is removed at the end.
#[derive(Debug)]
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// A new folder that only we can look into.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("kdumprd-peer-{}-{number}", std::process::id()));
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Debian's OpenSSH.
    OpenSsh,
    /// Debian's dropbear, a small server without SFTP of its own.
    Dropbear,
}

/// What a server is to be. `{folder}` in a text stands for the server's folder.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which one.
    pub kind: Kind,
    /// The type of its host key, as `ssh-keygen -t` names it.
    pub host_key: &'static str,
    /// Where it listens.
    pub ip: IpAddr,
    /// Further lines of `sshd_config`, which stand before the usual ones: of two that contradict each other the first counts.
    pub lines: Vec<String>,
    /// What stands in front of the user's key in `authorized_keys`.
    pub options: String,
    /// The server runs below this command, as `unshare -m sh -c '…; exec "$@"' sh` is one.
    pub below: Vec<String>,
}

impl Setup {
    /// OpenSSH with an ed25519 key, as it comes.
    #[must_use]
    pub fn open_ssh() -> Self {
        Self {
            kind: Kind::OpenSsh,
            host_key: "ed25519",
            ip: Ipv4Addr::LOCALHOST.into(),
            lines: Vec::new(),
            options: String::new(),
            below: Vec::new(),
        }
    }

    /// Dropbear with an ed25519 key. It looks for a user's keys in his home and nowhere else, so that it gets its own.
    #[must_use]
    pub fn dropbear() -> Self {
        Self {
            kind: Kind::Dropbear,
            below: below("mkdir -p ~/.ssh && mount --bind {folder} ~/.ssh"),
            ..Self::open_ssh()
        }
    }
}

/// A command that runs another in a mount namespace of its own, after `script`.
#[must_use]
pub fn below(script: &str) -> Vec<String> {
    ["unshare", "-m", "--propagation", "private", "sh", "-c"]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("{script} && exec \"$@\""), "sh".to_owned()])
        .collect()
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Its folder: keys, configuration, log, and `root` for dumps.
    pub folder: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its host key, as `known_hosts` has it behind the name.
    pub host_key: String,
    child: Child,
    _scratch: Scratch,
}

impl Server {
    /// Starts a server that takes the user `id` of its folder.
    ///
    /// # Errors
    /// It does not start; with its log.
    pub fn start(setup: &Setup) -> Result<Self> {
        ready()?;
        let scratch = Scratch::new()?;
        let folder = scratch.0.clone();
        fs::create_dir(folder.join("root"))?;
        // A free port, until somebody else takes it in between.
        let address = TcpListener::bind((setup.ip, 0))?.local_addr()?;
        make_key(&folder.join("id"), "ed25519")?;
        let public = fs::read_to_string(folder.join("id.pub"))?;
        fs::write(
            folder.join("authorized_keys"),
            filled(&format!("{} {public}", setup.options), &folder).trim_start(),
        )?;
        let host_key = folder.join("host_key");
        let log = File::create(folder.join("log"))?;
        let mut words: Vec<String> = setup
            .below
            .iter()
            .map(|word| filled(word, &folder))
            .collect();
        match setup.kind {
            Kind::OpenSsh => {
                make_key(&host_key, setup.host_key)?;
                let d = folder.display();
                let mut config = String::new();
                for line in &setup.lines {
                    config.push_str(&filled(line, &folder));
                    config.push('\n');
                }
                config.push_str(&format!(
                    "ListenAddress {address}\nHostKey {d}/host_key\nAuthorizedKeysFile {d}/authorized_keys\nStrictModes no\n\
                     PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPidFile none\nLogLevel DEBUG1\n"
                ));
                if !config.contains("Subsystem") {
                    config.push_str("Subsystem sftp internal-sftp\n");
                }
                fs::write(folder.join("sshd_config"), config)?;
                // Where root's sshd keeps its unprivileged half.
                let _ = fs::create_dir_all("/run/sshd");
                let sshd = find_program("sshd").context("sshd is not installed")?;
                words.extend([
                    sshd.display().to_string(),
                    "-D".into(),
                    "-e".into(),
                    "-f".into(),
                    folder.join("sshd_config").display().to_string(),
                ]);
            }
            Kind::Dropbear => {
                run(program("dropbearkey")?
                    .args(["-t", setup.host_key, "-f"])
                    .arg(&host_key))?;
                let dropbear = find_program("dropbear").context("dropbear is not installed")?;
                words.extend([
                    dropbear.display().to_string(),
                    "-F".into(),
                    "-E".into(),
                    "-s".into(),
                    "-r".into(),
                    host_key.display().to_string(),
                    "-p".into(),
                    address.to_string(),
                ]);
            }
        }
        let host_line = match setup.kind {
            Kind::OpenSsh => fs::read_to_string(host_key.with_extension("pub"))?,
            Kind::Dropbear => {
                let text = stdout(program("dropbearkey")?.arg("-y").arg("-f").arg(&host_key))?;
                let line = text.lines().find(|line| line.contains("AAAA"));
                line.context("dropbearkey shows no key")?.to_owned()
            }
        };
        let host_line: Vec<&str> = host_line.split_whitespace().take(2).collect();
        let (first, rest) = words.split_first().context("no command")?;
        let mut command = Command::new(first);
        command
            .args(rest)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().context("starting the server")?;
        let mut server = Self {
            folder,
            address,
            host_key: host_line.join(" "),
            child,
            _scratch: scratch,
        };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended: {status}\n{}", self.log());
            }
            if Instant::now() > end {
                bail!("the server does not listen\n{}", self.log());
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What the server said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The private key of the user.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn user_key(&self) -> Result<Vec<u8>> {
        Ok(fs::read(self.folder.join("id"))?)
    }

    /// What `kdump.conf` calls the server and its user, for a guest in QEMU's own network.
    #[must_use]
    pub fn target(&self) -> String {
        format!("root@[{SEEN_BY_GUESTS}]:{}", self.address.port())
    }

    /// Gives a described host the user's key and the server's.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn make_known_to(&self, host_root: &Path) -> Result<()> {
        self.make_known_as(host_root, &self.folder.join("id"), &self.host_key)
    }

    /// The same with another key of the user, or another one of the server.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn make_known_as(&self, host_root: &Path, key: &Path, host_key: &str) -> Result<()> {
        let folder = host_root.join("root/.ssh");
        fs::create_dir_all(&folder)?;
        fs::copy(key, folder.join("kdump_id_ed25519"))?;
        fs::write(
            folder.join("known_hosts"),
            format!("[{SEEN_BY_GUESTS}]:{} {host_key}\n", self.address.port()),
        )?;
        Ok(())
    }

    /// The folder `path` below the server's own, as the server sees it, whatever is mounted there for it alone.
    #[must_use]
    pub fn seen(&self, path: &str) -> PathBuf {
        let folder = self.folder.display();
        PathBuf::from(format!("/proc/{}/root{folder}/{path}", self.pid()))
    }

    /// The process of the server itself.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by its name, to the processes that serve connections: all below the server.
    ///
    /// # Errors
    /// The processes cannot be listed.
    pub fn signal_sessions(&self, signal: &str) -> Result<()> {
        signal_all(&below_process(self.pid())?, signal);
        Ok(())
    }

    /// Sends a signal, by its name, to the server and to what serves connections.
    ///
    /// # Errors
    /// As [`Server::signal_sessions`].
    pub fn signal(&self, signal: &str) -> Result<()> {
        // Looked for first: what has lost its parent is below nobody.
        let sessions = below_process(self.pid())?;
        signal_all(&[self.pid()], signal);
        signal_all(&sessions, signal);
        Ok(())
    }
}

/// All processes below this one.
pub(crate) fn below_process(top: u32) -> Result<Vec<u32>> {
    let mut found = vec![top];
    let mut position = 0;
    while let Some(parent) = found.get(position).copied() {
        position += 1;
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            let Ok(stat) = fs::read_to_string(path.join("stat")) else {
                continue;
            };
            let own = stat.split(' ').next().and_then(|pid| pid.parse().ok());
            let above = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
            if let (Some(own), Some(above)) = (own, above)
                && above == parent
                && !found.contains(&own)
            {
                found.push(own);
            }
        }
    }
    Ok(found.split_off(1))
}

/// Sends a signal to these processes, some of which may have ended with another.
pub(crate) fn signal_all(processes: &[u32], signal: &str) {
    for pid in processes {
        let _ = run(Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(pid.to_string()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.signal_sessions("KILL");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder in place of `{folder}`.
fn filled(text: &str, folder: &Path) -> String {
    text.replace("{folder}", &folder.display().to_string())
}

/// Makes a key without passphrase.
///
/// # Errors
/// `ssh-keygen` failed.
pub fn make_key(path: &Path, kind: &str) -> Result<()> {
    run(program("ssh-keygen")?
        .args(["-q", "-N", "", "-C", "test", "-t", kind, "-f"])
        .arg(path))?;
    Ok(())
}
