// SPDX-License-Identifier: MIT OR Apache-2.0
//! The VMCOREINFO note: symbols, sizes, offsets and numbers of the first kernel, by name.
//!
//! The text is lines of `KEY=value`, such as `SYMBOL(init_uts_ns)=ffffffff82816c80` or `NUMBER(phys_base)=-10485760`.
//! Source: Linux 6.12 `Documentation/admin-guide/kdump/vmcoreinfo.rst`, `kernel/vmcore_info.c`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use crate::address::VirtAddr;

/// The note's text, which may be empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vmcoreinfo<'a> {
    text: &'a [u8],
}

impl<'a> Vmcoreinfo<'a> {
    /// Takes the note's description. A kernel pads it with NULs.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        let end = text
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(text.len());
        Self {
            text: text.get(..end).unwrap_or(text),
        }
    }

    /// The whole text.
    #[must_use]
    pub const fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The value of the line `KEY=value`; the first one where a key stands twice.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&'a str> {
        self.find("", key)
    }

    /// `SYMBOL(name)`: an address, in bare hexadecimal.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<VirtAddr> {
        let digits = self.find("SYMBOL", name)?;
        u64::from_str_radix(digits, 16).ok().map(VirtAddr)
    }

    /// `OFFSET(struct.field)`, in bytes.
    #[must_use]
    pub fn offset(&self, name: &str) -> Option<usize> {
        self.find("OFFSET", name)?.parse().ok()
    }

    /// `SIZE(struct)`, in bytes.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<usize> {
        self.find("SIZE", name)?.parse().ok()
    }

    /// `LENGTH(array)`, in elements.
    #[must_use]
    pub fn length(&self, name: &str) -> Option<u64> {
        self.find("LENGTH", name)?.parse().ok()
    }

    /// `NUMBER(name)`: decimal with an optional sign, or hexadecimal behind `0x`.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        let text = self.find("NUMBER", name)?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok().map(u64::cast_signed),
            None => text
                .parse::<i64>()
                .ok()
                .or_else(|| text.parse::<u64>().ok().map(u64::cast_signed)),
        }
    }

    /// `NUMBER(name)` as the 32 bits of a page type: the kernel prints some with their sign extended, some without.
    #[must_use]
    pub fn page_type(&self, name: &str) -> Option<u32> {
        let number = self.number(name)?;
        i32::try_from(number)
            .ok()
            .map(i32::cast_unsigned)
            .or_else(|| u32::try_from(number).ok())
    }

    /// The value of `group(name)=`, or of `name=` when the group is empty.
    fn find(&self, group: &str, name: &str) -> Option<&'a str> {
        self.text.split(|&byte| byte == b'\n').find_map(|line| {
            let rest = line.strip_prefix(group.as_bytes())?;
            let rest = if group.is_empty() {
                rest.strip_prefix(name.as_bytes())?
            } else {
                rest.strip_prefix(b"(")?
                    .strip_prefix(name.as_bytes())?
                    .strip_prefix(b")")?
            };
            core::str::from_utf8(rest.strip_prefix(b"=")?)
                .ok()
                .map(str::trim_ascii)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"OSRELEASE=6.1.0-56-cloud-amd64\nPAGESIZE=4096\n\
        SYMBOL(init_uts_ns)=ffffffff9ea16c80\nOFFSET(page.flags)=0\nSIZE(page)=64\n\
        LENGTH(zone.free_area)=11\nNUMBER(phys_base)=-10485760\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456\n\
        NUMBER(VMALLOC_START)=0xffffc90000000000\nNUMBER(PG_lru)=4\nPAGESIZE=1\nNUMBER(cut";

    #[test]
    fn values_are_read_in_their_bases() {
        let info = Vmcoreinfo::new(TEXT);
        assert_eq!(info.value("OSRELEASE"), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(info.value("PAGESIZE"), Some("4096"));
        assert_eq!(
            info.symbol("init_uts_ns"),
            Some(VirtAddr(0xffff_ffff_9ea1_6c80))
        );
        assert_eq!(info.offset("page.flags"), Some(0));
        assert_eq!(info.size("page"), Some(64));
        assert_eq!(info.length("zone.free_area"), Some(11));
        assert_eq!(info.number("phys_base"), Some(-10_485_760));
        assert_eq!(info.number("VMALLOC_START"), Some(-60_473_139_527_680));
        assert_eq!(
            info.page_type("PAGE_BUDDY_MAPCOUNT_VALUE"),
            Some(0xf000_0000)
        );
        assert_eq!(info.number("cut"), None);
        assert_eq!(info.number("PG_l"), None);
        assert_eq!(info.symbol("PAGESIZE"), None);
    }

    #[test]
    fn every_truncation_and_flipped_byte_is_read_without_harm() {
        let keys = ["init_uts_ns", "page", "PG_lru", "phys_base", "cut"];
        let ask = |text: &[u8]| {
            let info = Vmcoreinfo::new(text);
            for key in keys {
                let _ = (info.symbol(key), info.size(key), info.page_type(key));
                let _ = (info.value(key), info.offset(key), info.length(key));
            }
        };
        for length in 0..TEXT.len() {
            ask(&TEXT[..length]);
        }
        let mut text = TEXT.to_vec();
        for position in 0..text.len() {
            for bit in 0..8 {
                text[position] ^= 1 << bit;
                ask(&text);
                text[position] ^= 1 << bit;
            }
        }
    }
}
