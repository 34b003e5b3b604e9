// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the parts of a dumpfile lie.

use super::header::{MAX_BLOCK_BYTES, MIN_BLOCK_BYTES, PAGE_DESC_BYTES, sub_header_bytes};
use crate::bytes::Abi;

/// Where the parts of a dumpfile lie, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMap {
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Blocks of the sub header with its notes.
    pub sub_header_blocks: u32,
    /// Blocks of both bitmaps together.
    pub bitmap_blocks: u32,
    /// Bytes of one bitmap that have a meaning; the rest up to its last block's end is zero.
    pub bitmap_bytes: u64,
    /// The 1st bitmap: the pages that exist.
    pub present: u64,
    /// The 2nd bitmap: the pages that the dumpfile has.
    pub dumpable: u64,
    /// The page descriptors.
    pub descs: u64,
    /// Where the descriptors end.
    pub descs_end: u64,
    /// The data of the pages that we write: at the next block.
    pub data: u64,
}

impl FileMap {
    /// The map of a file with these sizes; `None` where they fit no file.
    #[must_use]
    pub fn new(
        abi: Abi,
        block_bytes: u32,
        notes_bytes: u64,
        max_mapnr: u64,
        page_count: u64,
    ) -> Option<Self> {
        if !block_bytes.is_power_of_two()
            || !(MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&block_bytes)
        {
            return None;
        }
        let block = u64::from(block_bytes);
        let sub_header_bytes = notes_bytes.checked_add(sub_header_bytes(abi).try_into().ok()?)?;
        let sub_header_blocks = sub_header_bytes.div_ceil(block);
        let bitmap_bytes = max_mapnr.div_ceil(8);
        let one_bitmap = bitmap_bytes.div_ceil(block).checked_mul(block)?;
        let present = sub_header_blocks.checked_add(1)?.checked_mul(block)?;
        let dumpable = present.checked_add(one_bitmap)?;
        let descs = dumpable.checked_add(one_bitmap)?;
        let descs_end = page_count
            .checked_mul(PAGE_DESC_BYTES.try_into().ok()?)?
            .checked_add(descs)?;
        // Offsets are signed in the file.
        let data = descs_end.checked_next_multiple_of(block)?;
        i64::try_from(data).ok()?;
        Some(Self {
            block_bytes,
            sub_header_blocks: u32::try_from(sub_header_blocks).ok()?,
            bitmap_blocks: u32::try_from(one_bitmap.div_ceil(block).checked_mul(2)?).ok()?,
            bitmap_bytes,
            present,
            dumpable,
            descs,
            descs_end,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_where_makedumpfile_puts_them() {
        // A real dump of a 1280 MiB guest: descriptors from 94208 to 648296.
        let map = FileMap::new(Abi::LITTLE_64, 4096, 0xfb4, 0x4ffd7, 0x5a2f).unwrap();
        assert_eq!(map.sub_header_blocks, 2);
        assert_eq!(map.bitmap_blocks, 20);
        assert_eq!(map.present, 3 * 4096);
        assert_eq!(map.dumpable, 13 * 4096);
        assert_eq!((map.descs, map.descs_end), (94208, 648_296));
        assert_eq!(map.data, 651_264);
    }

    #[test]
    fn sizes_that_fit_no_file_have_no_map() {
        assert_eq!(FileMap::new(Abi::LITTLE_64, 4096, u64::MAX, 1, 1), None);
        assert_eq!(FileMap::new(Abi::LITTLE_64, 4096, 0, u64::MAX, 1), None);
        assert_eq!(
            FileMap::new(Abi::LITTLE_64, 4096, 0, 1, u64::MAX / 24),
            None
        );
        for block_bytes in [0, 1, 2048, 4097, 1 << 17] {
            assert_eq!(FileMap::new(Abi::LITTLE_64, block_bytes, 0, 1, 1), None);
        }
    }
}
