// SPDX-License-Identifier: MIT OR Apache-2.0
//! LVM2's metadata, written byte by byte.

const PV0: &str = "aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaa0";
const PV1: &str = "aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaa1";
pub(crate) const ROOT: &str = "llllll-llll-llll-llll-llll-llll-lllll0";
pub(crate) const FAST: &str = "llllll-llll-llll-llll-llll-llll-lllll1";
pub(crate) const THIN: &str = "llllll-llll-llll-llll-llll-llll-lllll2";

/// The metadata of a volume group.
pub(crate) fn text() -> String {
    format!(
        r#"vg0 {{
id = "gggggg-gggg-gggg-gggg-gggg-gggg-gggggg"
seqno = 7
format = "lvm2" # informational
status = ["RESIZEABLE", "READ", "WRITE"]
extent_size = 8192		# 4 Megabytes
physical_volumes {{
pv0 {{ id = "{PV0}"
device = "/dev/vda"	# Hint only
pe_start = 2048
pe_count = 63 }}
pv1 {{ id = "{PV1}"
pe_start = 4096
pe_count = 63 }}
}}
logical_volumes {{
root {{ id = "{ROOT}"
segment_count = 2
segment1 {{ start_extent = 0
extent_count = 10
type = "striped"
stripe_count = 1	# linear
stripes = [
"pv0", 5
]
}}
segment2 {{ start_extent = 10
extent_count = 3
type = "striped"
stripe_count = 1
stripes = [ "pv1", 0 ] }}
}}
fast {{ id = "{FAST}"
segment_count = 1
segment1 {{ start_extent = 0
extent_count = 8
type = "striped"
stripe_count = 2
stripe_size = 128
stripes = [ "pv0", 20, "pv1", 10 ] }}
}}
thin {{ id = "{THIN}"
segment_count = 1
segment1 {{ start_extent = 0
extent_count = 8
type = "thin" }}
}}
}}
}}
contents = "Text Format Volume Group"
version = 1
"#
    )
}

/// A physical volume with the text at this offset in its ring of 8 KiB.
pub(crate) fn physical_volume(offset: u64, lvm_crc: fn(&[u8]) -> u32) -> Vec<u8> {
    let mut bytes = vec![0; 64 << 10];
    let put = |bytes: &mut Vec<u8>, at: usize, data: &[u8]| {
        bytes[at..at + data.len()].copy_from_slice(data);
    };
    put(&mut bytes, 512, b"LABELONE");
    put(&mut bytes, 512 + 8, &1_u64.to_le_bytes());
    put(&mut bytes, 512 + 20, &32_u32.to_le_bytes());
    put(&mut bytes, 512 + 24, b"LVM2 001");
    put(&mut bytes, 544, PV0.replace('-', "").as_bytes());
    put(&mut bytes, 544 + 40, &(32_u64 << 10).to_le_bytes());
    put(&mut bytes, 544 + 72, &4096_u64.to_le_bytes());
    put(&mut bytes, 544 + 80, &8192_u64.to_le_bytes());
    let crc = lvm_crc(&bytes[532..1024]);
    put(&mut bytes, 528, &crc.to_le_bytes());
    let text = text();
    put(&mut bytes, 4096 + 4, b" LVM2 x[5A%r0N*>");
    put(&mut bytes, 4096 + 20, &1_u32.to_le_bytes());
    put(&mut bytes, 4096 + 24, &4096_u64.to_le_bytes());
    put(&mut bytes, 4096 + 32, &8192_u64.to_le_bytes());
    put(&mut bytes, 4096 + 40, &offset.to_le_bytes());
    put(&mut bytes, 4096 + 48, &(text.len() as u64).to_le_bytes());
    put(
        &mut bytes,
        4096 + 56,
        &lvm_crc(text.as_bytes()).to_le_bytes(),
    );
    let crc = lvm_crc(&bytes[4100..4608]);
    put(&mut bytes, 4096, &crc.to_le_bytes());
    for (index, byte) in text.bytes().enumerate() {
        let mut at = offset as usize + index;
        if at >= 8192 {
            at = at - 8192 + 512;
        }
        bytes[4096 + at] = byte;
    }
    bytes
}
