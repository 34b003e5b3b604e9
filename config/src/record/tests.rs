// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text form there and back, and what is wrong with it.

use super::*;
use crate::target::DeviceId;

const SAMPLE: &str = "\
kdumprd-record 1
kernel 6.1.0-56-cloud-amd64
hostname db7
zone CET-1CEST,M3.5.0,M10.5.0/3
failure_action dump_to_rootfs
final_action reboot
deadline module 30
deadline device 180
deadline network 120
deadline open 60
deadline dmesg 60
deadline stall 120
deadline dump 21600
deadline hook 600
deadline publish 300
deadline final 30
debug_mem_level 2
keep_dumps 5
encrypt_to age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef
encrypt_to age1other
watchdog 310 i6300ESB timer
module virtio_blk
module scsi_mod max_luns=1 x=y
hook kdump_pre /etc/kdump/before.sh
hook post.d /etc/kdump/post.d/10 tell
network
 nic eth0 52:54:00:12:34:56 pci-0000:00:03.0
 address eth0 dhcp4
fence_kdump 7411 5 3
fence_node 0 10.0.2.2 db8.example
fence_node 0 10.0.2.9 10.0.2.9
layer md 1-2-3-4 md0
layer luks 5-6 2 aes-xts-plain64 64 32768 dynamic 0 512 9f86d0 cryptdisk
layer lvm 3tLYyO-x a8bGBk-y vg0-root
attempt configured
 filesystem ext3
 device uuid 0c9df1f6-2f4c-4a6f-8a2f-6d8f0d6e1c11
 known_as /dev/vdb1
 size_bytes 104857600
 layers 0 1 2
 mount_options noatime
 path /var/my crash
 collect kdump zlib 1,31
attempt configured
 raw overwrite
 device partuuid 1a2b3c4d-02
 collect copy none 0
 program /usr/bin/dumper -v
attempt configured
 nfs nas.example
 address 10.0.2.2
 export /srv/crash dumps
 mount_options vers=4.2
 path /var/crash
 network 0
 collect kdump zlib 31
attempt configured
 ssh kdump@nas.example
 address 10.0.2.2
 port 22
 host_key ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA
 host_key ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTIt
 path /var/crash
 network 0
 collect kdump zlib 31
attempt dump_to_rootfs
 filesystem ext4
 device node /dev/vda1
 path /var/crash
 collect kdump none 31
root
 filesystem ext4
 device label root disk
 init /sbin/init
end
";

#[test]
fn the_sample_reads_and_writes_back_the_same() {
    let record = parse(SAMPLE).unwrap();
    assert_eq!(record.attempts.len(), 5);
    assert_eq!(record.encrypt_to[1], "age1other");
    assert_eq!(
        record.modules[1],
        Module {
            name: "scsi_mod",
            options: "max_luns=1 x=y"
        }
    );
    assert_eq!(record.root.unwrap().device.id, DeviceId::Label("root disk"));
    assert_eq!(record.to_string(), SAMPLE);
}

#[test]
fn every_truncation_is_noticed() {
    for length in 0..SAMPLE.len() {
        let error = parse(&SAMPLE[..length]).unwrap_err();
        assert!(!error.to_string().is_empty(), "{length}");
    }
}

#[test]
fn every_flipped_byte_is_an_error_or_a_record() {
    let mut bytes = SAMPLE.as_bytes().to_vec();
    for position in 0..bytes.len() {
        for bit in 0..7 {
            bytes[position] ^= 1 << bit;
            if let Ok(text) = core::str::from_utf8(&bytes)
                && let Ok(record) = parse(text)
            {
                assert_eq!(parse(&record.to_string()).unwrap(), record);
            }
            bytes[position] ^= 1 << bit;
        }
    }
}

#[test]
fn a_record_of_another_version_is_named_and_refused() {
    assert_eq!(parse("kdumprd-record 2\n"), Err(RecordError::Version("2")));
    assert_eq!(parse("hello\n"), Err(RecordError::NotARecord));
    assert_eq!(parse(""), Err(RecordError::NotARecord));
}

#[test]
fn errors_name_their_line() {
    let broken = SAMPLE.replace("deadline stall 120", "deadline stall 0");
    assert_eq!(parse(&broken), Err(RecordError::Value(12, "stall 0")));
    let broken = SAMPLE.replace("module virtio_blk", "modul virtio_blk");
    assert_eq!(parse(&broken), Err(RecordError::Keyword(22, "modul")));
    let broken = SAMPLE.replace("age1other", "age1 other");
    assert_eq!(parse(&broken), Err(RecordError::Value(20, "age1 other")));
    let many = SAMPLE.replace("encrypt_to age1other\n", &"encrypt_to age1\n".repeat(8));
    assert_eq!(parse(&many), Err(RecordError::TooMany(27, "encrypt_to")));
    let broken = SAMPLE.replace(" known_as /dev/vdb1", " path /x");
    assert_eq!(parse(&broken), Err(RecordError::Repeated(42, "path")));
    let broken = SAMPLE.replace(" layers 0 1 2\n", " layers 0 3\n");
    assert_eq!(parse(&broken), Err(RecordError::Missing("layer")));
    let broken = SAMPLE.replace("address eth0 dhcp4", "address eth0 dhcp");
    assert_eq!(
        parse(&broken),
        Err(RecordError::Value(28, "address eth0 dhcp"))
    );
    let broken = SAMPLE.replace("fence_node 0 10.0.2.9", "fence_node 1 10.0.2.9");
    assert_eq!(
        parse(&broken),
        Err(RecordError::Value(31, "1 10.0.2.9 10.0.2.9"))
    );
    let broken = SAMPLE.replace("fence_kdump 7411 5 3\n", "");
    assert_eq!(
        parse(&broken),
        Err(RecordError::Missing("fence_kdump with its nodes"))
    );
    let broken = SAMPLE.replace(" network 0\n", " network 1\n");
    assert_eq!(parse(&broken), Err(RecordError::Missing("network")));
    let broken = SAMPLE.replace(" collect copy none 0\n program /usr/bin/dumper -v\n", "");
    assert_eq!(parse(&broken), Err(RecordError::Missing("collect")));
}
