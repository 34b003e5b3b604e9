// SPDX-License-Identifier: MIT OR Apache-2.0
//! The partition table readers against what sgdisk and sfdisk write and print.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Image, Scratch, Sparse, run};
use targets::partition_table::{Partition, Table, TableError, partitions};

const MIB: u64 = 1 << 20;

fn list(image: &Path) -> Result<(Table, Vec<Partition>), TableError> {
    let mut seen = Vec::new();
    let table = partitions(&mut Image::open(image), 512, &mut |partition| {
        seen.push(*partition);
    })?;
    Ok((table, seen))
}

fn sfdisk(image: &Path, script: &str) {
    let mut child = Command::new("/usr/sbin/sfdisk")
        .args(["--quiet", "--no-reread", "--no-tell-kernel"])
        .arg(image)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sfdisk; is fdisk installed?");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

/// What `sfdisk -d` says: number, start and size in bytes, and the PARTUUID of each partition.
fn sfdisk_says(image: &Path) -> Vec<(u32, u64, u64, String)> {
    let text = run("sfdisk", &["-d"], image);
    let disk = text
        .lines()
        .find_map(|line| line.strip_prefix("label-id: 0x"));
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(name)?;
        Some(rest.split(',').next()?.trim().to_owned())
    };
    text.lines()
        .filter(|line| line.starts_with('/'))
        .map(|line| {
            let (node, rest) = line.split_once(" : ").unwrap();
            let number = node.strip_prefix(image.to_str().unwrap()).unwrap();
            let number: u32 = number.parse().unwrap();
            let sectors = |name| field(rest, name).unwrap().parse::<u64>().unwrap() * 512;
            let uuid = match disk {
                Some(disk) => format!("{disk}-{number:02x}"),
                None => field(rest, "uuid=").unwrap().to_lowercase(),
            };
            (number, sectors("start="), sectors("size="), uuid)
        })
        .collect()
}

#[track_caller]
fn agrees_with_sfdisk(image: &Path, table: Table) {
    let (found, seen) = list(image).unwrap();
    assert_eq!(found, table);
    let mut seen: Vec<_> = seen
        .iter()
        .map(|p| (p.number, p.start_bytes, p.size_bytes, p.uuid.to_string()))
        .collect();
    seen.sort();
    assert!(!seen.is_empty());
    assert_eq!(seen, sfdisk_says(image));
}

const WHOLE: Table = Table::Gpt { from_backup: false };

/// By sfdisk: sgdisk calls sync(2), which waits for everything else that this machine writes.
fn gpt(scratch: &Scratch) -> std::path::PathBuf {
    let image = scratch.image("gpt.", 64 * MIB);
    sfdisk(
        &image,
        "label: gpt\n1: start=2048,size=8M,uuid=0C9DF1F6-2F4C-4A6F-8A2F-6D8F0D6E1C11\n3: size=16M\n128: size=8M\n",
    );
    image
}

#[test]
fn a_gpt_of_sgdisk() {
    let scratch = Scratch::new("gpt");
    let image = scratch.image("gpt.", 64 * MIB);
    let arguments = [
        "-n1:2048:+8M",
        "-u1:0C9DF1F6-2F4C-4A6F-8A2F-6D8F0D6E1C11",
        "-n3:0:+16M",
        "-n128:0:0",
    ];
    run("sgdisk", &arguments, &image);
    agrees_with_sfdisk(&image, WHOLE);
    let (_, seen) = list(&image).unwrap();
    assert_eq!(
        seen.iter().map(|p| p.number).collect::<Vec<_>>(),
        [1, 3, 128]
    );
    assert_eq!(
        seen[0].uuid.to_string(),
        "0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11"
    );
}

#[test]
fn a_gpt_of_sfdisk_with_another_number_of_entries() {
    let scratch = Scratch::new("gpt");
    let image = scratch.image("gpt.", 64 * MIB);
    sfdisk(&image, "label: gpt\ntable-length: 8\n,8M\n,8M\n,\n");
    agrees_with_sfdisk(&image, WHOLE);
}

#[test]
fn the_second_copy_serves_where_the_first_is_damaged() {
    let scratch = Scratch::new("gpt");
    let image = gpt(&scratch);
    let whole = list(&image).unwrap().1;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&image)
        .unwrap();
    // In the header, and in an entry that nobody uses: the checksum counts all of them.
    for at in [512 + 40, 1024 + 50 * 128] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        assert_eq!(
            list(&image).unwrap(),
            (Table::Gpt { from_backup: true }, whole.clone())
        );
        file.write_all_at(&byte, at).unwrap();
    }
    file.write_all_at(&[0; 512], 512).unwrap();
    file.write_all_at(&[0; 512], 64 * MIB - 512).unwrap();
    assert_eq!(list(&image), Err(TableError::BothGptDamaged));
}

#[test]
fn a_gpt_on_sectors_of_4_kib() {
    // The header moves to 4096 and counts in sectors of that size; its checksum is made anew here, from a
    // table that sfdisk made.
    let scratch = Scratch::new("gpt");
    let image = gpt(&scratch);
    let mut head = vec![0; 34 * 512];
    Image::open(&image).0.read_exact(&mut head).unwrap();
    let mut header = head[512..1024].to_vec();
    header[72..80].copy_from_slice(&2_u64.to_le_bytes());
    header[16..20].fill(0);
    let crc = crc32(&header[..92]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    let mut device = Sparse {
        size_bytes: 512 * MIB,
        pieces: vec![
            (0, head[..512].to_vec()),
            (4096, header),
            (8192, head[1024..].to_vec()),
        ],
    };
    let mut seen = Vec::new();
    let table = partitions(&mut device, 4096, &mut |p| seen.push(p.start_bytes));
    assert_eq!(table, Ok(WHOLE));
    assert_eq!(seen[0], 2048 * 4096);
}

/// Bit by bit, as the textbook has it; shares nothing with the crate's.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}

#[test]
fn an_mbr_of_sfdisk_with_logical_partitions() {
    let scratch = Scratch::new("mbr");
    let image = scratch.image("mbr.", 64 * MIB);
    sfdisk(
        &image,
        "label: dos\nlabel-id: 0x1a2b3c4d\n,4M\n,4M,S\n,,E\n,8M,L\n,8M,L\n,,L\n",
    );
    agrees_with_sfdisk(&image, Table::Mbr);
    let uuids: Vec<_> = list(&image)
        .unwrap()
        .1
        .iter()
        .map(|p| p.uuid.to_string())
        .collect();
    assert!(uuids.contains(&"1a2b3c4d-05".to_owned()));
}

#[test]
fn an_mbr_with_the_extended_partition_first_and_a_gap_in_the_numbers() {
    let scratch = Scratch::new("mbr");
    let image = scratch.image("mbr.", 64 * MIB);
    sfdisk(
        &image,
        "label: dos\nlabel-id: 0x00000a0b\n1: start=2048,size=40000,type=E\n4: start=60000,size=2000,type=83\n5: start=4096,size=1000,type=83\n6: start=8192,size=1000,type=83\n",
    );
    agrees_with_sfdisk(&image, Table::Mbr);
}

#[test]
fn a_file_system_on_the_whole_disk_is_no_table() {
    let scratch = Scratch::new("none");
    let image = scratch.image("image", 16 * MIB);
    run("mkfs.ext4", &["-q", "-F"], &image);
    assert_eq!(list(&image), Ok((Table::Absent, vec![])));
}

#[test]
fn every_truncated_and_every_flipped_gpt_gives_an_answer() {
    let scratch = Scratch::new("gpt");
    let image = gpt(&scratch);
    let whole = list(&image).unwrap().1;
    let mut head = vec![0; 34 * 512];
    Image::open(&image).0.read_exact(&mut head).unwrap();
    let mut tail = vec![0; 33 * 512];
    let tail_at = 64 * MIB - tail.len() as u64;
    Image::open(&image)
        .0
        .read_exact_at(&mut tail, tail_at)
        .unwrap();
    let answer = |head: &[u8], tail: &[u8]| {
        let mut device = Sparse {
            size_bytes: 64 * MIB,
            pieces: vec![(0, head.to_vec()), (tail_at, tail.to_vec())],
        };
        let mut seen = Vec::new();
        partitions(&mut device, 512, &mut |p| seen.push(*p)).map(|table| (table, seen))
    };
    // One wrong byte in the first copy, and the backup answers. The rest of the header's sector means nothing.
    for position in (512..604).chain((1024..head.len()).step_by(11)) {
        head[position] ^= 0x41;
        assert_eq!(
            answer(&head, &tail),
            Ok((Table::Gpt { from_backup: true }, whole.clone())),
            "{position}"
        );
        head[position] ^= 0x41;
    }
    head[512] = 0;
    for position in 0..tail.len() {
        tail[position] ^= 0x41;
        let is_unused = position >= tail.len() - 512 + 92;
        assert_eq!(answer(&head, &tail).is_ok(), is_unused, "{position}");
        tail[position] ^= 0x41;
    }
    for len in (0..tail.len() - 512).step_by(97) {
        assert_eq!(answer(&head, &tail[..len]), Err(TableError::BothGptDamaged));
    }
}
