// SPDX-License-Identifier: MIT OR Apache-2.0
//! The folder that init has for its root.

use crate::mixed;
use crate::ring::Ring;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::thread;

/// Whom everything in it belongs to: nobody.
pub(crate) const NOBODY: u32 = 65534;

const RECORD: &str = "\
kdumprd-record 1
kernel 6.1.0
hostname db7
zone UTC0
failure_action reboot
final_action reboot
deadline module 1
deadline device 1
deadline network 1
deadline open 2
deadline dmesg 2
deadline stall 2
deadline dump 5
deadline hook 1
deadline publish 2
deadline final 2
attempt configured
 raw overwrite
 device node /dev/vdb
 known_as /dev/vdb
 collect kdump zlib 1,31
attempt configured
 filesystem ext3
 device node /dev/vdc
 known_as /dev/vdc
 path /var/crash
 collect kdump zlib 31
end
";

/// A root folder.
pub(crate) struct Root(pub(crate) PathBuf);

impl Root {
    /// A root for this build of init; `lines` are added to its record.
    pub(crate) fn make(name: &str, init: &str, lines: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("kdumprd-calls-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let root = Self(path);
        root.write(
            "etc/kdump.record",
            RECORD
                .replace(
                    "attempt configured\n raw",
                    &format!("{lines}attempt configured\n raw"),
                )
                .as_bytes(),
        );
        let mut machine = mixed::mixed(mixed::V6_1);
        Ring::write_small(&mut machine);
        machine.finish();
        root.write("proc/vmcore", &machine.vmcore().bytes);
        fs::copy(init, root.0.join("init")).unwrap();
        for disk in ["vdb", "vdc"] {
            let folder = format!("sys/class/block/{disk}");
            root.write(&format!("{folder}/size"), b"32768\n");
            root.write(&format!("{folder}/ro"), b"0\n");
            root.write(
                &format!("{folder}/uevent"),
                format!("DEVNAME={disk}\nDEVTYPE=disk\n").as_bytes(),
            );
        }
        root.reset();
        root
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Everything that a run may change, as it was before.
    pub(crate) fn reset(&self) {
        for name in ["dev", "mnt"] {
            let _ = fs::remove_dir_all(self.0.join(name));
        }
        for disk in ["vdb", "vdc"] {
            self.write(&format!("dev/{disk}"), b"");
            fs::File::options()
                .write(true)
                .open(self.0.join(format!("dev/{disk}")))
                .unwrap()
                .set_len(16 << 20)
                .unwrap();
        }
        for (name, text) in [
            ("dev/kmsg", ""),
            ("dev/console", ""),
            ("dev/null", ""),
            ("proc/cmdline", "console=ttyS0\n"),
            ("proc/vmstat", "oom_kill 0\n"),
            ("proc/meminfo", "MemAvailable: 100000 kB\n"),
            ("proc/sysrq-trigger", ""),
            ("proc/self/oom_score_adj", ""),
            ("proc/sys/kernel/printk_devkmsg", ""),
        ] {
            self.write(name, text.as_bytes());
        }
        fs::create_dir_all(self.0.join("mnt")).unwrap();
        own(&self.0);
    }

    /// What init said.
    pub(crate) fn log(&self) -> String {
        let of = |name: &str| fs::read(self.0.join(name)).unwrap_or_default();
        let log = [of("dev/console"), of("dev/kmsg")].concat();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn own(path: &Path) {
    // Who is not root runs it under his own name, and it is his already.
    let _ = chown(path, Some(NOBODY), Some(NOBODY));
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path());
        }
    }
}
