// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMCOREINFO as the tests read it: the whole text in a map.
//!
//! Source: Linux 6.12 `Documentation/admin-guide/kdump/vmcoreinfo.rst`.

use std::collections::HashMap;

use anyhow::{Context, Result};

/// The crashed kernel's facts, by key.
#[derive(Clone, Debug, Default)]
pub struct VmcoreInfo {
    values: HashMap<String, String>,
}

impl VmcoreInfo {
    /// Takes the note's text. Lines without `=` are no facts, and the padding behind the text is none either.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let values = String::from_utf8_lossy(text)
            .lines()
            .filter_map(|line| line.trim_end_matches('\0').split_once('='))
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect();
        Self { values }
    }

    /// The value of `key` as it stands.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// The address of a symbol of the kernel.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn symbol(&self, name: &str) -> Result<u64> {
        let key = format!("SYMBOL({name})");
        let value = self
            .text(&key)
            .with_context(|| format!("no {key} in VMCOREINFO"))?;
        u64::from_str_radix(value, 16).with_context(|| format!("{key}={value}"))
    }

    /// A constant of the kernel, where it says one.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        let value = self.text(&format!("NUMBER({name})"))?;
        match value.strip_prefix("0x") {
            // Hexadecimal constants are addresses: all 64 bits are theirs.
            Some(hex) => u64::from_str_radix(hex, 16).ok().map(u64::cast_signed),
            None => value.parse().ok(),
        }
    }

    /// `SIZE(name)`, `OFFSET(name)` or `LENGTH(name)`, where the kernel says it.
    #[must_use]
    pub fn count(&self, kind: &str, name: &str) -> Option<usize> {
        self.text(&format!("{kind}({name})"))?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_value_has_its_base() {
        let info = VmcoreInfo::parse(
            b"OSRELEASE=6.1.0\nSYMBOL(prb)=ffffffff81000010\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\n\
              NUMBER(VMALLOC_START)=0xffffa90000000000\nSIZE(page)=64\nOFFSET(page.mapping)=24\nnoise\n\0\0",
        );
        assert_eq!(info.text("OSRELEASE"), Some("6.1.0"));
        assert_eq!(info.symbol("prb").unwrap(), 0xffff_ffff_8100_0010);
        assert_eq!(info.number("PAGE_BUDDY_MAPCOUNT_VALUE"), Some(-129));
        assert_eq!(info.number("VMALLOC_START"), Some(-0x5700_0000_0000));
        assert_eq!(info.count("SIZE", "page"), Some(64));
        assert_eq!(info.count("OFFSET", "page.mapping"), Some(24));
        assert!(info.symbol("absent").is_err());
    }
}
