// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real servers in a private network: rpcbind and nfs-ganesha on the loopback of a namespace of their own, which QEMU joins.
//! The guest sees them at 10.0.2.2, the host's address in QEMU's user network.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cycle::work_folder;
use crate::peer::{below_process, signal_all};
use crate::setup;

/// Where NFS is served.
pub const NFS_PORT: u16 = 20490;
/// Where version 3 is mounted.
pub const MOUNT_PORT: u16 = 20480;
/// What version 4 calls the export.
pub const PSEUDO: &str = "/export";

/// How long the servers may take to begin; a second on a quiet machine.
const START: Duration = Duration::from_secs(60);

/// Servers that run until they are dropped.
#[derive(Debug)]
pub struct Servers {
    child: Child,
    folder: PathBuf,
}

const SCRIPT: &str = r#"
folder=$1
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/rpcbind /run/ganesha
# ganesha finds the export's file system there; a system that nothing has booted yet has none.
if ! [ -e /etc/mtab ]; then
    cp -a /etc /run/etc
    ln -s /proc/self/mounts /run/etc/mtab
    mount --bind /run/etc /etc
fi
ip link set lo up
eval "$3"
rpcbind -f -w &
# ganesha gives up where nobody takes its registration.
for try in $(seq 300); do
    if (exec 3<> /dev/tcp/127.0.0.1/111) 2> /dev/null; then break; fi
    sleep 0.1
done
ganesha.nfsd -F -f "$folder/ganesha.conf" -L "$folder/ganesha.log" -p /run/ganesha.pid > "$folder/ganesha.out" 2>&1 &
echo $! > "$folder/ganesha.pid"
for try in $(seq 300); do
    if (exec 3<> /dev/tcp/127.0.0.1/$2) 2> /dev/null; then
        # It serves nothing all the same when the export was refused.
        if grep -q 'No export entries' "$folder/ganesha.log"; then exit 1; fi
        echo ready
        break
    fi
    sleep 0.1
done
wait
"#;

impl Servers {
    /// Starts an NFS server that exports an empty folder, by versions 3 and 4. `name` is unique among all tests.
    ///
    /// # Errors
    /// A program is missing, or does not start; the folder's logs say why.
    pub fn nfs(name: &str) -> Result<Self> {
        Self::nfs_of(name, "")
    }

    /// As [`Servers::nfs`]; `prepare` is shell text that can change the exported folder `$folder/export` first.
    ///
    /// # Errors
    /// As [`Servers::nfs`].
    pub fn nfs_of(name: &str, prepare: &str) -> Result<Self> {
        let folder = work_folder(&format!("{name}-server"))?;
        fs::remove_dir_all(&folder)?;
        for below in ["export", "recovery"] {
            fs::create_dir_all(folder.join(below))?;
        }
        let (shown, port, mount) = (folder.display(), NFS_PORT, MOUNT_PORT);
        fs::write(
            folder.join("ganesha.conf"),
            format!(
                "NFS_CORE_PARAM {{ NFS_Port = {port}; MNT_Port = {mount}; Protocols = 3, 4; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; }}\n\
                 NFSv4 {{ Graceless = true; Lease_Lifetime = 10; Grace_Period = 5; RecoveryRoot = \"{shown}/recovery\"; RecoveryBackend = fs_ng; }}\n\
                 EXPORT {{ Export_Id = 1; Path = {shown}/export; Pseudo = {PSEUDO}; Access_Type = RW; Squash = No_Root_Squash; SecType = sys, none; Protocols = 3, 4; Transports = TCP; FSAL {{ Name = VFS; }} }}\n"
            ),
        )?;
        Self::start(&folder, prepare)
    }

    fn start(folder: &Path, prepare: &str) -> Result<Self> {
        let mut child = setup::program("setpriv")?
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
            ])
            .args(["bash", "-c", SCRIPT, "servers"])
            .arg(folder)
            .arg(NFS_PORT.to_string())
            .arg(prepare)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("servers.err"))?)
            .spawn()
            .context("starting the servers")?;
        let stdout = child.stdout.take().context("no output")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let servers = Self {
            child,
            folder: folder.to_path_buf(),
        };
        match receiver.recv_timeout(START) {
            Ok(line) if line == "ready" => Ok(servers),
            _ => bail!(
                "the NFS server did not start; its log: {}",
                folder.join("ganesha.log").display()
            ),
        }
    }

    /// The words of `kdump.conf` for it, as it is reached from QEMU's own network.
    #[must_use]
    pub fn target() -> String {
        format!("10.0.2.2:{PSEUDO}")
    }

    /// Adds to the described host's fstab how it is mounted.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn make_known_to(host: &Path) -> Result<()> {
        let path = host.join("etc/fstab");
        let own = fs::read_to_string(&path).unwrap_or_default();
        let target = Self::target();
        fs::write(path, format!("{own}{target} /x nfs port={NFS_PORT} 0 0\n"))?;
        Ok(())
    }

    /// What is exported.
    #[must_use]
    pub fn export(&self) -> PathBuf {
        self.folder.join("export")
    }

    /// What is exported as the server sees it, whatever is mounted there for it alone.
    #[must_use]
    pub fn seen(&self) -> PathBuf {
        let export = self.export();
        PathBuf::from(format!(
            "/proc/{}/root{}",
            self.child.id(),
            export.display()
        ))
    }

    /// A process in the servers' network, for QEMU to join.
    #[must_use]
    pub fn namespace(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by its name, to all of them.
    ///
    /// # Errors
    /// The processes cannot be listed.
    pub fn signal(&self, signal: &str) -> Result<()> {
        signal_all(&below_process(self.child.id())?, signal);
        Ok(())
    }

    /// Has nobody serve NFS any more, while the network stays: its port is closed.
    ///
    /// # Errors
    /// The server cannot be found.
    pub fn refuse(&mut self) -> Result<()> {
        for pid in below_process(self.child.id())? {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // With the last of them the network would go.
            if name.starts_with("ganesha") {
                signal_all(&[pid], "KILL");
            }
        }
        Ok(())
    }

    /// Ends all of them at once, as when the machine loses its power.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Removes what was exported.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn clean_up(mut self) -> Result<()> {
        self.kill();
        fs::remove_dir_all(&self.folder)?;
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.kill();
    }
}
