// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parsers besides the collector's: what init reads of its record and of disks, and what the builder reads of the host.

use std::sync::OnceLock;

use age::{Begun, CHUNK_BYTES, Header, Identity, Recipient, TAG_BYTES};
use collector::crc::crc32;
use collector::raw::{self, CONTROL_BYTES, Control, Part, State, Stored};
use config::{CollectOptions, NetworkSpec};
use sha2::{Digest as _, Sha256};
use targets::layer::luks;
use targets::layer::lvm::{Group, LvmError, PhysicalVolume};
use targets::layer::md::Member;
use targets::ssh::{UserKey, known_hosts};
use targets::{partition_table, superblock};

use crate::patches::{Base, Bytes};
use crate::servers;

/// The sample of the record's own tests.
fn sample() -> &'static str {
    let tests = include_str!("../../config/src/record/tests.rs");
    let start = tests
        .split_once("const SAMPLE: &str = \"\\\n")
        .expect("a sample")
        .1;
    start.split_once("\";").expect("its end").0
}

/// init's record.
pub(crate) fn record(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        let _ = config::record::parse(text);
    }
}

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    assert!(
        config::record::parse(sample()).is_ok(),
        "the sample is a record"
    );
    vec![sample().as_bytes().to_vec()]
}

/// The secret half of the key that the seeds are encrypted to.
const KEY: &str = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0";

/// An encrypted file: its header, what of it a key opens, and a key as text.
pub(crate) fn encrypted(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        if let Ok(key) = text.parse::<Recipient>() {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        let _ = text.parse::<Identity>();
    }
    let Ok(header) = Header::parse(data) else {
        return;
    };
    let chunks = data
        .get(header.bytes()..)
        .expect("a header ends in the file");
    let identity: Identity = KEY.parse().expect("a key");
    let Ok(mut opened) = header.unlock(&[identity]) else {
        return;
    };
    for chunk in chunks.chunks(CHUNK_BYTES + TAG_BYTES) {
        let Some(length) = chunk.len().checked_sub(TAG_BYTES) else {
            return;
        };
        let (body, tag) = chunk.split_at(length);
        if opened.open(true, &mut body.to_vec(), tag).is_err() {
            opened.pass();
        }
    }
}

pub(crate) fn encrypted_seeds() -> Vec<Vec<u8>> {
    let identity: Identity = KEY.parse().expect("a key");
    let keys = [identity.recipient(); 2];
    let file = |count: usize| {
        let mut number = 0;
        let begun = Begun::new(&keys[..count], &mut || {
            number += 1;
            [number; 32]
        });
        let begun = begun.expect("few keys");
        let mut chunks = begun.chunks;
        let mut body = *b"KDUMP   ";
        let tag = chunks.seal(true, &mut body).expect("the first chunk");
        let seed = [&begun.front[..], &body, &tag].concat();
        let header = Header::parse(&seed).expect("a header");
        assert!(header.unlock(&[identity.clone()]).is_ok(), "a file of ours");
        seed
    };
    let text = [KEY.to_owned(), keys[0].to_string()].map(String::into_bytes);
    [file(1), file(2)].into_iter().chain(text).collect()
}

/// The lines of a network, of an attempt's `core_collector`, and levels.
pub(crate) fn words(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        let _ = NetworkSpec::parse(text);
        let _ = CollectOptions::parse_core_collector(text);
        let _ = config::collect::parse_levels(text);
    }
}

pub(crate) fn words_seeds() -> Vec<Vec<u8>> {
    let network = sample().split_once("network\n").expect("a network").1;
    let network: String = network
        .lines()
        .take_while(|line| line.starts_with(' '))
        .map(|line| format!("{line}\n"))
        .collect();
    let lines = [
        "makedumpfile -l --message-level 7 -d 31",
        "makedumpfile -c -d 1,31 -F",
        "cp",
        "scp -q",
        "1,31",
    ];
    lines
        .into_iter()
        .map(|line| line.as_bytes().to_vec())
        .chain([network.into_bytes()])
        .collect()
}

/// What lies at the places of a disk that file systems and partition tables are known by; all else is zeros.
const MARKS: [(usize, &[u8]); 16] = [
    (0x438, &[0x53, 0xef]),
    (0, b"XFSB"),
    (0x1_0040, b"_BHRfS_M"),
    (510, &[0x55, 0xaa]),
    (0x36, b"FAT16   "),
    (0x52, b"FAT32   "),
    (3, b"EXFAT   "),
    (3, b"NTFS    "),
    (0x410, &[0x7f, 0x13]),
    (0x400, &[0x10, 0x20, 0xf5, 0xf2]),
    (512, b"EFI PART"),
    (0x1be + 4, &[0xee]),
    (512, b"LABELONE"),
    (4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
    (0xff6, b"SWAPSPACE2"),
    (0, b"LUKS\xba\xbe"),
];
/// Room for what lies farthest behind: btrfs' superblock.
const DISK_BYTES: usize = 0x1_1000;

/// The disk of one of the marks.
fn disk_with((at, mark): (usize, &[u8])) -> Vec<u8> {
    let mut disk = vec![0; DISK_BYTES];
    disk[at..at + mark.len()].copy_from_slice(mark);
    // A partition table is known by this as well.
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

/// A disk: the first byte chooses one, what follows are changes.
pub(crate) fn disk(data: &[u8]) {
    let Some((&number, changes)) = data.split_first() else {
        return;
    };
    let bytes = disk_with(MARKS[usize::from(number) % MARKS.len()]);
    let parts = vec![(0, 4096), (4096, 8192), (0x1_0000, DISK_BYTES)];
    let bytes = Base { bytes, parts }.changed(changes);
    let _ = superblock::identify(&mut Bytes(&bytes));
    for sector_bytes in [512, 4096] {
        let mut seen = 0_u32;
        let _ = partition_table::partitions(&mut Bytes(&bytes), sector_bytes, &mut |_| seen += 1);
        assert!(seen < 100_000, "{seen} partitions in {} bytes", bytes.len());
    }
    let _ = partition_table::is_present(&mut Bytes(&bytes));
}

pub(crate) fn disk_seeds() -> Vec<Vec<u8>> {
    (0..MARKS.len() as u8).map(|number| vec![number]).collect()
}

/// The CRC-32 of LVM, in another form than the reader's: begun with its number, and never turned round.
fn lvm_crc(bytes: &[u8]) -> u32 {
    !collector::crc::crc32(!0xf597_a6cf, bytes)
}

fn lvm_base() -> Base {
    Base {
        bytes: servers::lvm::physical_volume(7000, lvm_crc),
        parts: vec![(512, 1024), (4096, 4608)],
    }
}

/// A physical volume whose headers are changed, and have right checksums again.
pub(crate) fn lvm(data: &[u8]) {
    let mut bytes = lvm_base().changed(data);
    for (at, covered) in [(528, 532..1024), (4096, 4100..4608)] {
        let crc = lvm_crc(&bytes[covered]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
    let Ok(Some(volume)) = PhysicalVolume::read(&mut Bytes(&bytes)) else {
        return;
    };
    let mut memory = vec![0; 16 << 10];
    if let Ok(text) = volume.metadata(&mut Bytes(&bytes), &mut memory) {
        lvm_text(text.as_bytes());
    }
}

pub(crate) fn lvm_seeds() -> Vec<Vec<u8>> {
    lvm_base().seeds()
}

/// LVM's description of a volume group.
pub(crate) fn lvm_text(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let Some(group) = Group::parse(text) else {
        return;
    };
    let _ = group.physical_volumes().count();
    for volume in [servers::lvm::ROOT, servers::lvm::FAST, servers::lvm::THIN] {
        let mut end = 0;
        let _ = group.segments::<LvmError>(volume, &mut |segment| {
            assert_eq!(segment.start_sectors, end, "segments follow each other");
            end = end.saturating_add(segment.sectors);
            Ok(())
        });
    }
}

pub(crate) fn lvm_text_seeds() -> Vec<Vec<u8>> {
    vec![servers::lvm::text().into_bytes()]
}

/// A member of an array. Source: Linux 6.12 `include/uapi/linux/raid/md_p.h`, `struct mdp_superblock_1`.
fn md_base(sector: u64) -> Base {
    let mut bytes = vec![0; 32 << 10];
    let at = sector as usize * 512;
    for (offset, value) in [
        (0, 0xa92b_4efc_u64),
        (4, 1),
        (72, 1),
        (92, 2),
        (144, sector),
        (160, 1),
        (200, 7),
        (220, 2),
    ] {
        let place = at + offset;
        bytes[place..place + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }
    bytes[at + 258] = 1;
    let parts = vec![(at, at + 512)];
    Base { bytes, parts }
}

/// The first byte says where the superblock lies.
pub(crate) fn md(data: &[u8]) {
    let Some((&place, changes)) = data.split_first() else {
        return;
    };
    let sector = [0, 8, 48][usize::from(place) % 3];
    let bytes = md_base(sector).changed(changes);
    if let Ok(Some(member)) = Member::read(&mut Bytes(&bytes)) {
        let _ = member.least();
        let _ = superblock::identify(&mut Bytes(&bytes));
    }
}

pub(crate) fn md_seeds() -> Vec<Vec<u8>> {
    let bytes = md_base(8).bytes;
    assert!(
        matches!(Member::read(&mut Bytes(&bytes)), Ok(Some(_))),
        "a member"
    );
    let seeds = md_base(0).seeds();
    (0..3)
        .flat_map(|place| seeds.iter().map(move |seed| [&[place][..], seed].concat()))
        .collect()
}

/// What a LUKS2 header has besides its binary part.
const LUKS_JSON: &[u8] = br#"{"keyslots":{"0":{"type":"luks2","key_size":64,"kdf":{"type":"argon2id","salt":"AA\/="}}},"tokens":{},
    "segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":512}},
    "digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"c2FsdA==","digest":"c2FsdA=="}},
    "config":{"json_size":"12288","keyslots_size":"16744448","requirements":{"mandatory":[]}}}"#;
const LUKS_BYTES: usize = 16 << 10;

/// A LUKS header of this version.
fn luks_base(version: u8) -> Base {
    let mut bytes = vec![0; LUKS_BYTES];
    bytes[..8].copy_from_slice(&[b'L', b'U', b'K', b'S', 0xba, 0xbe, 0, version]);
    let uuid = b"0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11";
    bytes[168..168 + uuid.len()].copy_from_slice(uuid);
    let fields: &[(usize, &[u8])] = match version {
        1 => &[
            (8, b"aes"),
            (40, b"xts-plain64"),
            (72, b"sha256"),
            (104, &[0, 0, 16, 0]),
            (112, &[1]),
            (164, &[0, 0, 3, 232]),
        ],
        _ => &[(14, &[0x40]), (72, b"sha256"), (4096, LUKS_JSON)],
    };
    for (at, field) in fields {
        bytes[*at..at + field.len()].copy_from_slice(field);
    }
    let parts = vec![(0, 592), (4096, 4096 + LUKS_JSON.len())];
    Base { bytes, parts }
}

/// A LUKS header that is changed, and has a right checksum again; the first byte says of which version.
pub(crate) fn luks(data: &[u8]) {
    let Some((&version, changes)) = data.split_first() else {
        return;
    };
    let mut bytes = luks_base(1 + version % 2).changed(changes);
    bytes[448..512].fill(0);
    let sum = Sha256::digest(&bytes);
    bytes[448..480].copy_from_slice(&sum);
    if let Ok(header) = luks::Header::read(&mut Bytes(&bytes), &mut vec![0; LUKS_BYTES]) {
        let digest = header.digest.to_string();
        let recorded = header.recorded(64, &digest);
        assert!(header.is_as(&recorded));
        // What is read of a disk is a line that the record's strict reader takes.
        let line = format!("luks {recorded} crypt");
        let layer = config::Layer::Luks {
            luks: recorded,
            name: "crypt",
        };
        assert_eq!(config::Layer::parse(&line), Some(layer), "{line}");
    }
}

pub(crate) fn luks_seeds() -> Vec<Vec<u8>> {
    (0..2)
        .flat_map(|version| {
            let seeds = luks_base(1 + version).seeds();
            seeds
                .into_iter()
                .map(move |seed| [&[version][..], &seed].concat())
        })
        .collect()
}

/// Where the control block lies on a device that has no more room before it than this.
const AREA: usize = 64 << 10;

fn raw_base() -> Base {
    let mut bytes = vec![7; AREA + (1 << 20)];
    let name = "2026-11-23-04:57".try_into().expect("a short name");
    let mut control = Control::begun(bytes.len() as u64, name);
    control.state = State::Complete;
    control.dump_bytes = 4096;
    control.sums = Some(1);
    for part in Part::ALL {
        control.set_part(part, Stored { bytes: 100, crc: 3 });
    }
    bytes[AREA..AREA + CONTROL_BYTES].copy_from_slice(&control.encode());
    let parts = vec![(AREA, AREA + CONTROL_BYTES)];
    Base { bytes, parts }
}

/// A raw dump whose control block is changed, and has a right checksum again.
pub(crate) fn raw_dump(data: &[u8]) {
    static BASE: OnceLock<Base> = OnceLock::new();
    let mut bytes = BASE.get_or_init(raw_base).changed(data);
    let start = AREA + CONTROL_BYTES;
    let sums = crc32(0, &bytes[start..start + raw::SUMS_BYTES]);
    bytes[AREA + 164..AREA + 168].copy_from_slice(&sums.to_le_bytes());
    let crc = crc32(0, &bytes[AREA..start - 4]);
    bytes[start - 4..start].copy_from_slice(&crc.to_le_bytes());
    let Ok(control) = raw::read_control(&mut Bytes(&bytes)) else {
        return;
    };
    assert!(control.dump_bytes <= AREA as u64);
    assert!(!control.name.contains('/') && !control.name.starts_with('.'));
    if let Ok(Some(sums)) = raw::read_sums(&mut Bytes(&bytes), &control) {
        let found = raw::Sums::new(AREA as u64);
        for range in sums.differences(&found, control.dump_bytes) {
            assert!(range.start < range.end && range.end <= control.dump_bytes);
        }
    }
    for part in Part::ALL {
        let length = control.part(part).bytes;
        let mut seen = 0;
        let _ = raw::read_part(
            &mut Bytes(&bytes),
            AREA as u64,
            part,
            length,
            &mut [0; 4096],
            &mut |piece| {
                seen += piece.len();
                Ok(())
            },
        );
        assert!(seen < 1 << 20, "{seen} bytes of {part:?}");
    }
}

pub(crate) fn raw_dump_seeds() -> Vec<Vec<u8>> {
    raw_base().seeds()
}

/// A private key's file, and one of known hosts.
pub(crate) fn ssh_files(data: &[u8]) {
    if let Ok(key) = UserKey::parse(data) {
        let _ = key.public();
    }
    for line in known_hosts::lines(data) {
        let _ = line.key();
        let _ = line.is_about("server.example", 22);
        let _ = line.is_about("10.0.2.2", 2222);
    }
}

pub(crate) fn ssh_files_seeds() -> Vec<Vec<u8>> {
    let known = "# hosts\n[10.0.2.2]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS\n\
                 |1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS\n\
                 @revoked *.example,!good.example ecdsa-sha2-nistp256 AAAA\n";
    let key = include_bytes!("../../targets/tests/golden/ed25519_key");
    assert!(UserKey::parse(key).is_ok(), "a key");
    vec![known.as_bytes().to_vec(), key.to_vec()]
}

/// A `kdump.conf`.
pub(crate) fn kdump_conf(data: &[u8]) {
    let _ = initramfs_builder::conf::parse("kdump.conf", data);
}

pub(crate) fn kdump_conf_seeds() -> Vec<Vec<u8>> {
    [
        "ext4 UUID=0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11\npath /var/crash\ncore_collector makedumpfile -l --message-level 7 -d 31\n",
        "# a comment\nnet user@10.0.2.2\nsshkey /root/.ssh/kdump_id_rsa\nlink_delay 60\ndefault reboot\n",
        "raw /dev/sda5\nfailure_action shell\nfinal_action poweroff\ndump_deadline 3600\n",
        "nfs [fe80::1%eth0]:/export\nextra_modules \"a b\" c\ndisk_timeout 30\n",
        "net 10.0.2.2:/export\nkdump_post /bin/x\noptions a b=c\nblacklist d\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// A kernel module.
pub(crate) fn module(data: &[u8]) {
    let _ = initramfs_builder::modules::modinfo::read(data);
    let bytes = initramfs_builder::modules::modinfo::unsigned_bytes(data);
    assert!(bytes <= data.len());
}

pub(crate) fn module_seeds() -> Vec<Vec<u8>> {
    // A file header; a table of three sections: none, names, .modinfo.
    let info = b"name=a\0depends=b,c\0vermagic=6.1.0 SMP\0softdep=pre: d\0";
    let names = b"\0.shstrtab\0.modinfo\0";
    let mut file = vec![0_u8; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16..20].copy_from_slice(&[1, 0, 62, 0]);
    file[20] = 1;
    let (names_at, info_at) = (64, 64 + names.len());
    let table = (info_at + info.len()).next_multiple_of(8);
    file[40..48].copy_from_slice(&(table as u64).to_le_bytes());
    file[52] = 64;
    file[58..64].copy_from_slice(&[64, 0, 3, 0, 1, 0]);
    file.extend(names);
    file.extend(info);
    file.resize(table + 64, 0);
    for (name, kind, at, length) in [
        (1_u32, 3_u32, names_at, names.len()),
        (11, 1, info_at, info.len()),
    ] {
        let mut section = [0_u8; 64];
        section[..4].copy_from_slice(&name.to_le_bytes());
        section[4..8].copy_from_slice(&kind.to_le_bytes());
        section[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        section[32..40].copy_from_slice(&(length as u64).to_le_bytes());
        file.extend(section);
    }
    assert!(
        initramfs_builder::modules::modinfo::read(&file).is_ok(),
        "a module"
    );
    vec![[&file[..], b"~Module signature appended~\n"].concat(), file]
}
