// SPDX-License-Identifier: MIT OR Apache-2.0
//! Physical memory, a page at a time, whatever holds it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Bytes of a page; x86_64 has no other base size.
pub const PAGE_SIZE: usize = 4096;

/// The content of one page.
pub type Page = [u8; PAGE_SIZE];

/// A page of nothing, to read into and to compare with.
pub const ZERO_PAGE: Page = [0; PAGE_SIZE];

/// Physical memory of a crashed machine.
pub trait Memory {
    /// Reads the page `pfn` into `page`; false when this memory does not have it.
    ///
    /// # Errors
    /// The page should be there and cannot be read.
    fn read_page(&self, pfn: u64, page: &mut Page) -> Result<bool>;

    /// Fills `buffer` from the physical address `address` on.
    ///
    /// # Errors
    /// A page of the range is not there, or cannot be read.
    fn read_physical(&self, address: u64, buffer: &mut [u8]) -> Result<()> {
        let mut page = ZERO_PAGE;
        let mut done = 0;
        while done < buffer.len() {
            let here = address + done as u64;
            let start = (here % PAGE_SIZE as u64) as usize;
            let count = (PAGE_SIZE - start).min(buffer.len() - done);
            anyhow::ensure!(
                self.read_page(here / PAGE_SIZE as u64, &mut page)?,
                "physical address {here:#x} is not in this memory"
            );
            buffer[done..done + count].copy_from_slice(&page[start..start + count]);
            done += count;
        }
        Ok(())
    }
}

/// The file that was a guest's RAM (`memory-backend-file`, `share=on`), on the q35 machine.
///
/// The RAM below 4 GiB comes first in the file, at offset = address; the rest follows it and begins at address 4 GiB.
/// A guest of 2816 MiB or more has 2 GiB below; a smaller one has everything there.
///
/// Source: QEMU 7.2 `hw/i386/pc_q35.c` `pc_q35_init`.
#[derive(Debug)]
pub struct RamFile {
    file: File,
    size_bytes: u64,
    below_4g_bytes: u64,
}

const FOUR_GIB: u64 = 4 << 30;

impl RamFile {
    /// Opens the file of a guest that has ended.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("guest RAM {}", path.display()))?;
        let size_bytes = file.metadata()?.len();
        let below_4g_bytes = below_4g(size_bytes);
        Ok(Self {
            file,
            size_bytes,
            below_4g_bytes,
        })
    }

    fn offset_of(&self, address: u64) -> Option<u64> {
        let offset = if address < self.below_4g_bytes {
            address
        } else {
            address.checked_sub(FOUR_GIB)? + self.below_4g_bytes
        };
        (offset + PAGE_SIZE as u64 <= self.size_bytes).then_some(offset)
    }
}

fn below_4g(size_bytes: u64) -> u64 {
    if size_bytes >= 0xb000_0000 {
        0x8000_0000
    } else {
        size_bytes
    }
}

impl Memory for RamFile {
    fn read_page(&self, pfn: u64, page: &mut Page) -> Result<bool> {
        let Some(offset) = self.offset_of(pfn * PAGE_SIZE as u64) else {
            return Ok(false);
        };
        self.file
            .read_exact_at(page, offset)
            .with_context(|| format!("guest RAM at {offset:#x}"))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_guests_have_a_hole_below_4_gib() {
        assert_eq!(below_4g(1 << 30), 1 << 30);
        assert_eq!(below_4g(0xafff_f000), 0xafff_f000);
        assert_eq!(below_4g(0xb000_0000), 2 << 30);
        let ram = RamFile {
            file: File::open("/dev/null").unwrap(),
            size_bytes: 5 << 30,
            below_4g_bytes: 2 << 30,
        };
        assert_eq!(ram.offset_of(0x7fff_f000), Some(0x7fff_f000));
        assert_eq!(ram.offset_of(2 << 30), None);
        assert_eq!(ram.offset_of(4 << 30), Some(2 << 30));
        assert_eq!(ram.offset_of((7 << 30) - 4096), Some((5 << 30) - 4096));
        assert_eq!(ram.offset_of(7 << 30), None);
    }
}
