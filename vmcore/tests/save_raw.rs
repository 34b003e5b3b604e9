// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vmcore save-raw` on devices that are files, whose control block is written here byte by byte.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; clippy takes only functions with #[test] for tests"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MIB: usize = 1 << 20;
const SIZE: usize = 4 * MIB;
/// Where the control block lies.
const AREA: usize = SIZE - MIB;
const NAME: &str = "2026-11-23-04:57";
const DMESG: &[u8] = b"Kernel panic - not syncing\n";
const MANIFEST: &[u8] = b"{\"complete\":true}\n";

/// Bit by bit, as the polynomial has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

struct Device {
    folder: PathBuf,
    bytes: Vec<u8>,
}

impl Device {
    /// A dump of `dump_bytes` in this state, with a log and a manifest.
    fn new(name: &str, state: u32, dump_bytes: usize) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("save-raw-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let mut bytes: Vec<u8> = (0..SIZE).map(|i| (i / 7 % 253) as u8).collect();
        bytes[..8].copy_from_slice(b"KDUMP   ");
        // Zeros in the middle become a hole.
        bytes[MIB..2 * MIB].fill(0);
        bytes[AREA + 4096..][..MANIFEST.len()].copy_from_slice(MANIFEST);
        bytes[AREA + (64 << 10)..][..DMESG.len()].copy_from_slice(DMESG);
        let mut block = [0; 512];
        block[..16].copy_from_slice(b"kdumprd raw dump");
        block[16] = 1;
        block[20..24].copy_from_slice(&state.to_le_bytes());
        block[24..32].copy_from_slice(&(SIZE as u64).to_le_bytes());
        block[32..40].copy_from_slice(&(dump_bytes as u64).to_le_bytes());
        for (at, text) in [(48, MANIFEST), (64, DMESG)] {
            block[at..at + 8].copy_from_slice(&(text.len() as u64).to_le_bytes());
            block[at + 8..at + 12].copy_from_slice(&crc32(text).to_le_bytes());
        }
        block[96..96 + NAME.len()].copy_from_slice(NAME.as_bytes());
        let crc = crc32(&block[..508]);
        block[508..].copy_from_slice(&crc.to_le_bytes());
        bytes[AREA..AREA + 512].copy_from_slice(&block);
        Self { folder, bytes }
    }

    /// The same with checksums of the dump: two sums for each 64 KiB, which are in version 2.
    fn with_sums(mut self, dump_bytes: usize) -> Self {
        let mut sums = vec![0; 224 * 16];
        let ranges = self.bytes[..dump_bytes].chunks(64 << 10);
        for (place, range) in sums.chunks_mut(16).zip(ranges) {
            let (mut words, mut by_place) = (0_u64, 0_u64);
            for (at, &byte) in range.iter().enumerate() {
                let part = u64::from(byte) << (8 * (at % 4));
                words += part;
                by_place += part * (at as u64 / 4 + 1);
            }
            place[..8].copy_from_slice(&words.to_le_bytes());
            place[8..].copy_from_slice(&by_place.to_le_bytes());
        }
        self.bytes[AREA + 512..][..sums.len()].copy_from_slice(&sums);
        let block = &mut self.bytes[AREA..AREA + 512];
        block[16] = 2;
        block[160] = 1;
        block[164..168].copy_from_slice(&crc32(&sums).to_le_bytes());
        let crc = crc32(&block[..508]);
        block[508..].copy_from_slice(&crc.to_le_bytes());
        self
    }

    fn run(&self) -> Output {
        fs::write(self.folder.join("device"), &self.bytes).unwrap();
        self.run_again()
    }

    fn run_again(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_vmcore"))
            .current_dir(&self.folder)
            .args(["save-raw", "device", "crash"])
            .output()
            .unwrap()
    }

    fn good(&self) -> String {
        told(&self.run())
    }

    fn device(&self) -> Vec<u8> {
        fs::read(self.folder.join("device")).unwrap()
    }

    fn saved(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join("crash").join(NAME).join(name)).unwrap()
    }
}

fn told(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_complete_dump_is_saved_with_its_files_and_the_device_is_free() {
    let device = Device::new("complete", 2, 2 * MIB + 77).with_sums(2 * MIB + 77);
    let text = device.good();
    assert!(
        text.contains("complete dump saved to crash/2026-11-23-04:57\n"),
        "{text}"
    );
    assert!(text.contains("kexec-dmesg.log is not there"), "{text}");
    assert_eq!(device.saved("vmcore"), device.bytes[..2 * MIB + 77]);
    assert_eq!(device.saved("vmcore-dmesg.txt"), DMESG);
    assert_eq!(device.saved("manifest.json"), MANIFEST);
    for name in ["vmcore", "manifest.json"] {
        let path = device.folder.join("crash").join(NAME).join(name);
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    // One word of the block, and its checksum.
    let after = device.device();
    let changed: Vec<usize> = (0..SIZE).filter(|&i| after[i] != device.bytes[i]).collect();
    assert!(
        changed
            .iter()
            .all(|&i| i == AREA + 40 || (AREA + 508..AREA + 512).contains(&i))
    );
    let text = told(&device.run_again());
    assert!(
        text.contains("nothing to recover: the dump of 2026-11-23-04:57 was recovered before"),
        "{text}"
    );
}

#[test]
fn a_cut_dump_is_saved_under_its_incomplete_name() {
    for (state, words) in [
        (
            1,
            "the machine stopped while it was being written, and has 1048576 bytes",
        ),
        (3, "writing it failed, and has 1048576 bytes"),
    ] {
        let device = Device::new(&format!("cut-{state}"), state, MIB);
        let text = device.good();
        assert!(text.contains("INCOMPLETE dump saved"), "{text}");
        assert!(text.contains(words), "{text}");
        assert_eq!(device.saved("vmcore-incomplete"), device.bytes[..MIB]);
        assert_eq!(device.saved("vmcore-dmesg.txt"), DMESG);
        assert!(
            !device
                .folder
                .join("crash")
                .join(NAME)
                .join("vmcore")
                .exists()
        );
    }
}

#[test]
fn a_dump_that_is_not_what_was_written_is_saved_and_says_where() {
    let bytes = 2 * MIB + 77;
    let sound = Device::new("sums", 2, bytes).with_sums(bytes);
    let text = sound.good();
    assert!(text.contains("complete dump saved to crash"), "{text}");
    assert!(!text.contains("checksums"), "{text}");

    let mut device = Device::new("damaged", 2, bytes).with_sums(bytes);
    // In a hole, in the last range, and behind the dump, where nobody looks.
    for at in [MIB + 5, bytes - 1, bytes] {
        device.bytes[at] ^= 0x40;
    }
    let text = device.good();
    assert!(
        text.contains(
            "DAMAGED dump saved to crash/2026-11-23-04:57: bytes 1048576 to 1114111, 2097152 to 2097228 are not what was written"
        ),
        "{text}"
    );
    assert_eq!(device.saved("vmcore-damaged"), device.bytes[..bytes]);

    let mut device = Device::new("damaged-cut", 3, MIB).with_sums(MIB);
    device.bytes[70_000] ^= 1;
    let text = device.good();
    assert!(
        text.contains("INCOMPLETE dump saved") && text.contains("bytes 65536 to 131071 are not"),
        "{text}"
    );
    assert_eq!(device.saved("vmcore-incomplete"), device.bytes[..MIB]);
}

#[test]
fn a_dump_without_sound_checksums_is_saved_unchecked() {
    let text = Device::new("first-version", 2, MIB).good();
    assert!(text.contains("the dump has no checksums"), "{text}");
    assert!(text.contains("complete dump saved"), "{text}");
    let mut device = Device::new("damaged-sums", 2, MIB).with_sums(MIB);
    device.bytes[AREA + 600] ^= 1;
    let text = device.good();
    assert!(text.contains("the dump is not checked: "), "{text}");
    assert!(text.contains("complete dump saved"), "{text}");
}

#[test]
fn a_second_dump_of_the_same_minute_gets_another_folder() {
    let device = Device::new("same-minute", 2, MIB);
    device.good();
    let text = device.good();
    assert!(
        text.contains("saved to crash/2026-11-23-04:57.1\n"),
        "{text}"
    );
}

#[test]
fn a_damaged_log_is_left_out_and_the_dump_is_not() {
    let mut device = Device::new("damaged-log", 2, MIB);
    device.bytes[AREA + (64 << 10)] ^= 1;
    let text = device.good();
    assert!(
        text.contains("vmcore-dmesg.txt is damaged: left out"),
        "{text}"
    );
    assert!(text.contains("complete dump saved"), "{text}");
    assert_eq!(device.saved("vmcore"), device.bytes[..MIB]);
}

#[test]
fn a_dump_without_a_control_block_is_saved_and_the_device_stays_as_it_is() {
    let mut device = Device::new("no-block", 2, MIB);
    device.bytes[AREA + 33] ^= 1;
    let text = device.good();
    assert!(
        text.contains("the control block is damaged: its checksum is wrong"),
        "{text}"
    );
    let saved = fs::read(device.folder.join("crash/recovered/vmcore-incomplete")).unwrap();
    assert_eq!(saved, device.bytes[..AREA]);
    assert_eq!(device.device(), device.bytes);
}

#[test]
fn what_is_no_dump_is_left_alone() {
    let mut device = Device::new("nothing", 2, MIB);
    device.bytes.fill(0);
    for length in [SIZE, MIB, 4096, 7, 0] {
        device.bytes.truncate(length);
        let text = device.good();
        assert!(text.contains("nothing to recover: "), "{text}");
        assert!(!device.folder.join("crash").exists());
    }
}

#[test]
fn a_folder_that_cannot_be_made_leaves_the_dump_on_the_device() {
    let device = Device::new("no-folder", 2, MIB);
    fs::write(device.folder.join("crash"), "a file").unwrap();
    let output = device.run();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("making the folder crash"), "{errors}");
    assert_eq!(device.device(), device.bytes);
}
