// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host command makes the same dumpfile whatever the number of its threads.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::mixed::{V6_1, finished};

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kdumprd-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn any_number_of_threads_makes_the_same_dumpfile() {
    let folder = Folder::new("threads");
    let vmcore = folder.0.join("vmcore");
    fs::write(&vmcore, finished(V6_1).vmcore().bytes).unwrap();
    for options in [&["-c", "-d", "31"][..], &["-c", "-d", "0"], &["-d", "1"]] {
        let dump = |threads: &str| {
            let out = folder.0.join("dump");
            let output = Command::new(env!("CARGO_BIN_EXE_vmcore"))
                .args(options)
                .args(["-f", "--num-threads", threads])
                .args([&vmcore, &out])
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            fs::read(out).unwrap()
        };
        let one = dump("0");
        for threads in ["1", "2", "3", "8"] {
            assert!(dump(threads) == one, "{options:?} --num-threads {threads}");
        }
    }
}
