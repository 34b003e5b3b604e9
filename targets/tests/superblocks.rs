// SPDX-License-Identifier: MIT OR Apache-2.0
//! The superblock readers against what the file systems' own tools write, and against `blkid`.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use support::{Image, Scratch, Sparse, blkid, run};
use targets::partition_table::partitions;
use targets::superblock::ext::{Checksum, Superblock};
use targets::superblock::{Kind, Obstacle, identify};

const UUID: &str = "0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11";
const MIB: u64 = 1 << 20;

fn read(image: &Path) -> Superblock {
    Superblock::read(&mut Image::open(image)).unwrap().unwrap()
}

#[track_caller]
fn agrees_with_blkid(image: &Path) {
    let identity = identify(&mut Image::open(image)).unwrap().unwrap();
    let ours = [
        identity.kind.to_string(),
        identity.uuid.to_string(),
        identity.label.to_string(),
    ];
    assert_eq!(ours, blkid(image));
}

#[test]
fn ext_file_systems_are_what_their_mkfs_made() {
    let scratch = Scratch::new("ext");
    let both = ["-L", "crash disk", "-U", UUID];
    for (program, options, kind, checksum) in [
        ("mkfs.ext2", &["-b1024"][..], Kind::Ext2, Checksum::Absent),
        ("mkfs.ext2", &["-b4096"], Kind::Ext2, Checksum::Absent),
        ("mkfs.ext3", &["-b1024"], Kind::Ext3, Checksum::Absent),
        ("mkfs.ext3", &["-b4096"], Kind::Ext3, Checksum::Absent),
        ("mkfs.ext4", &["-b1024"], Kind::Ext4, Checksum::Good),
        ("mkfs.ext4", &["-b4096"], Kind::Ext4, Checksum::Good),
        (
            "mkfs.ext4",
            &["-b4096", "-O^metadata_csum"],
            Kind::Ext4,
            Checksum::Absent,
        ),
        (
            "mkfs.ext4",
            &["-O^has_journal,^64bit"],
            Kind::Ext4,
            Checksum::Good,
        ),
        ("mkfs.ext2", &["-r0"], Kind::Ext2, Checksum::Absent),
    ] {
        let image = scratch.image("image", 16 * MIB);
        let arguments = [&["-q", "-F"][..], &both, options].concat();
        run(program, &arguments, &image);
        let superblock = read(&image);
        assert_eq!(superblock.kind, kind, "{program} {options:?}");
        assert_eq!(superblock.checksum, checksum, "{program} {options:?}");
        assert_eq!(superblock.uuid.to_string(), UUID);
        assert_eq!(superblock.label.to_string(), "crash disk");
        assert_eq!(superblock.size_bytes(), 16 * MIB);
        assert!(superblock.free_bytes() > 8 * MIB && superblock.free_bytes() < 16 * MIB);
        assert!(superblock.is_clean && !superblock.needs_recovery && !superblock.has_errors);
        assert_eq!(superblock.to_string(), kind.word());
        assert!(!superblock.is_notable());
        agrees_with_blkid(&image);
    }
}

#[test]
fn a_journal_of_another_file_system_is_not_mounted_by_mistake() {
    let scratch = Scratch::new("journal");
    let image = scratch.image("image", 16 * MIB);
    run(
        "mkfs.ext4",
        &["-q", "-F", "-Ojournal_dev", "-b4096"],
        &image,
    );
    assert_eq!(read(&image).kind, Kind::ExtJournal);
    agrees_with_blkid(&image);
}

#[test]
fn what_the_kernel_left_in_the_superblock_is_told() {
    let scratch = Scratch::new("state");
    let image = scratch.image("image", 16 * MIB);
    run("mkfs.ext4", &["-q", "-F"], &image);
    let set = |command: &str| {
        run("debugfs", &["-w", "-R", command], &image);
    };
    set("set_super_value state 2");
    let superblock = read(&image);
    assert!(superblock.has_errors && !superblock.is_clean && superblock.is_notable());
    assert_eq!(
        superblock.to_string(),
        "ext4, errors recorded: a file system check is due"
    );
    set("set_super_value state 1");
    set("feature needs_recovery");
    assert!(read(&image).needs_recovery && read(&image).is_notable());
    assert_eq!(read(&image).to_string(), "ext4, journal to be replayed");
    set("set_super_value last_mounted /var/crash");
    assert_eq!(read(&image).last_mounted.to_string(), "/var/crash");
}

#[test]
fn a_superblock_with_a_wrong_byte_is_told_by_its_checksum() {
    let scratch = Scratch::new("flip");
    let image = scratch.image("image", 16 * MIB);
    run("mkfs.ext4", &["-q", "-F", "-U", UUID], &image);
    let mut head = vec![0; 8192];
    let file = OpenOptions::new().read(true).open(&image).unwrap();
    file.read_exact_at(&mut head, 0).unwrap();
    let mut told = 0;
    for position in 1024..2048 {
        head[position] ^= 0x10;
        let mut device = Sparse {
            size_bytes: 16 * MIB,
            pieces: vec![(0, head.clone())],
        };
        match Superblock::read(&mut device).unwrap() {
            None => assert!(matches!(position - 1024, 0x18..0x1c | 0x38 | 0x39)),
            Some(superblock) if superblock.checksum == Checksum::Wrong => {
                told += 1;
                assert!(superblock.to_string().ends_with("its checksum is wrong"));
            }
            // Bytes that say whether there is a checksum at all: the revision and the features.
            Some(superblock) => {
                assert_eq!(superblock.checksum, Checksum::Absent, "{position}");
                assert!(
                    matches!(position - 1024, 0x4c..0x50 | 0x64..0x68),
                    "{position}"
                );
            }
        }
        head[position] ^= 0x10;
    }
    assert!(told > 1000);
    for len in 0..head.len() {
        let mut device = Sparse {
            size_bytes: len as u64,
            pieces: vec![(0, head[..len].to_vec())],
        };
        let found = identify(&mut device).unwrap();
        assert_eq!(found.is_some(), len >= 2048, "{len}");
    }
}

#[test]
fn swap_space_is_what_mkswap_made() {
    let scratch = Scratch::new("swap");
    let image = scratch.image("image", MIB);
    run("mkswap", &["-q", "-U", UUID, "-L", "swapper"], &image);
    agrees_with_blkid(&image);
    assert_eq!(
        identify(&mut Image::open(&image))
            .unwrap()
            .unwrap()
            .to_string(),
        format!("swap UUID={UUID} LABEL=swapper")
    );
}

fn golden(name: &str) -> (u64, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let start = match name {
        "btrfs" => 65536,
        "exfat-root" => 0x0020_3000,
        _ => 0,
    };
    (start, std::fs::read(path).unwrap())
}

const GOLDEN: [(&str, &str); 11] = [
    (
        "xfs",
        "xfs UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11 LABEL=crashdisk",
    ),
    (
        "btrfs",
        "btrfs UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11 LABEL=crash disk",
    ),
    ("fat32", "vfat UUID=1A2B-CD34 LABEL=CRASH"),
    ("fat16", "vfat UUID=1A2B-CD34"),
    ("fat12", "vfat UUID=1A2B-CD34 LABEL=A B"),
    (
        "luks1",
        "crypto_LUKS UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11",
    ),
    (
        "luks2",
        "crypto_LUKS UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11 LABEL=crypt",
    ),
    (
        "lvm",
        "LVM2_member UUID=0c9df1-6i2f-4c4a-6f8a-2f6d-8f0d-6e1c11",
    ),
    ("exfat", "exfat UUID=EB57-E515"),
    ("minix3", "minix"),
    ("minix1-short", "minix"),
];

#[test]
fn other_content_is_what_its_own_tool_made() {
    for (name, expected) in GOLDEN {
        let mut device = Sparse {
            size_bytes: 300 * MIB,
            pieces: vec![golden(name)],
        };
        let identity = identify(&mut device).unwrap().unwrap();
        assert_eq!(identity.to_string(), expected);
    }
}

#[test]
fn the_label_of_exfat_is_in_its_root_directory() {
    let (start, root) = golden("exfat-root");
    let identify_with = |root: Vec<u8>| {
        identify(&mut Sparse {
            size_bytes: 64 * MIB,
            pieces: vec![golden("exfat"), (start, root)],
        })
        .unwrap()
        .unwrap()
    };
    assert_eq!(
        identify_with(root.clone()).to_string(),
        "exfat UUID=EB57-E515 LABEL=crash é"
    );
    for position in 0..root.len() {
        let mut flipped = root.clone();
        flipped[position] ^= 0xff;
        assert!(!identify_with(flipped).uuid.is_empty());
        assert!(!identify_with(root[..position].to_vec()).uuid.is_empty());
    }
}

#[test]
fn what_cannot_take_a_dump_says_why() {
    let obstacle = |pieces| {
        let size_bytes = 64 * MIB;
        identify(&mut Sparse { size_bytes, pieces })
            .unwrap()
            .unwrap()
            .obstacle
    };
    assert_eq!(obstacle(vec![golden("minix3")]), None);
    assert_eq!(
        obstacle(vec![golden("minix1-short")]),
        Some(Obstacle::ShortNames)
    );
    let (start, mut bytes) = golden("btrfs");
    assert_eq!(obstacle(vec![(start, bytes.clone())]), None);
    // `num_devices` of `struct btrfs_super_block`.
    bytes[0x88] = 3;
    assert_eq!(obstacle(vec![(start, bytes)]), Some(Obstacle::Devices(3)));
}

#[test]
fn every_truncated_and_every_flipped_sample_gives_a_value() {
    for (name, _) in GOLDEN {
        let (start, mut bytes) = golden(name);
        for len in 0..bytes.len() {
            let pieces = vec![(start, bytes[..len].to_vec())];
            // The device ends with the sample, or goes on with zeros.
            for size_bytes in [start + len as u64, 300 * MIB] {
                let mut device = Sparse {
                    size_bytes,
                    pieces: pieces.clone(),
                };
                if let Some(identity) = identify(&mut device).unwrap() {
                    assert!(!identity.to_string().is_empty());
                }
            }
        }
        for position in 0..bytes.len() {
            bytes[position] ^= 0xff;
            let mut device = Sparse {
                size_bytes: 300 * MIB,
                pieces: vec![(start, bytes.clone())],
            };
            if let Some(identity) = identify(&mut device).unwrap() {
                assert!(
                    !identity.to_string().chars().any(char::is_control),
                    "{name}"
                );
            }
            bytes[position] ^= 0xff;
        }
    }
}

/// Numbers that look random and are the same on every run (xorshift64).
fn numbers() -> impl FnMut(u64) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

#[test]
fn damage_of_many_bytes_gives_a_value_from_every_reader() {
    let scratch = Scratch::new("damage");
    let image = scratch.image("image", 4 * MIB);
    run("mkfs.ext4", &["-q", "-F"], &image);
    let mut ext = vec![0; 8192];
    Image::open(&image).0.read_exact_at(&mut ext, 0).unwrap();
    let mut samples: Vec<(u64, Vec<u8>)> = GOLDEN.iter().map(|(name, _)| golden(name)).collect();
    samples.push((0, ext));
    let mut number = numbers();
    for (start, bytes) in samples {
        for _ in 0..500 {
            let mut bytes = bytes.clone();
            // A table's signature, so that both readers have something to read.
            if start == 0 && bytes.len() >= 512 && number(2) == 0 {
                bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
            }
            for _ in 0..=number(16) {
                let place = number(bytes.len() as u64) as usize;
                bytes[place] = number(256) as u8;
            }
            let mut device = Sparse {
                size_bytes: number(300 * MIB) + 1,
                pieces: vec![(start, bytes)],
            };
            if let Some(identity) = identify(&mut device).unwrap() {
                assert!(!identity.to_string().chars().any(char::is_control));
            }
            let mut count = 0;
            let _ = partitions(&mut device, 512, &mut |_| count += 1);
            assert!(count <= 4 + 4 * 100, "{count}");
        }
    }
}

/// A member of an md array, written from the kernel's `md_p.h` by offset; `blkid` says whether it is one.
#[test]
fn members_of_arrays_are_told_and_come_before_the_file_system_in_them() {
    let scratch = Scratch::new("md");
    let uuid: Vec<u8> = (1..=16).collect();
    let one = |sector: u64| {
        let mut block = vec![0; 256];
        block[..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
        block[4] = 1;
        block[16..32].copy_from_slice(&uuid);
        block[32..41].copy_from_slice(b"box:crash");
        block[144..152].copy_from_slice(&sector.to_le_bytes());
        block
    };
    let zero_ninety = {
        let mut block = vec![0; 256];
        block[..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
        block[8] = 90;
        block[20..24].copy_from_slice(&uuid[..4]);
        block[52..64].copy_from_slice(&uuid[4..]);
        block
    };
    let size_bytes = 16 * MIB;
    let at_end = size_bytes / 512 - 16;
    for (name, at, block) in [
        ("1.1", 0, one(0)),
        ("1.2", 4096, one(8)),
        ("1.0", at_end * 512, one(at_end)),
        ("0.90", size_bytes - 65536, zero_ninety),
    ] {
        let image = scratch.image(name, size_bytes);
        run("mkfs.ext3", &["-q", "-F", "-b4096"], &image);
        let file = OpenOptions::new().write(true).open(&image).unwrap();
        file.write_all_at(&block, at).unwrap();
        let identity = identify(&mut Image::open(&image)).unwrap().unwrap();
        assert_eq!(identity.kind, Kind::RaidMember, "{name}");
        if name == "1.0" || name == "0.90" {
            agrees_with_blkid(&image);
        } else {
            // blkid finds the file system's superblock as well and calls it ambivalent.
            assert_eq!(identity.label.to_string(), "box:crash");
        }
    }
}
