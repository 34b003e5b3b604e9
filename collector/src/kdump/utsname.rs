// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crashed kernel's names, as a dumpfile's header has them.

use core::fmt;

/// The crashed kernel's `struct new_utsname`: six fields of 65 bytes, each ending in a NUL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Utsname(pub(super) [u8; Self::BYTES]);

impl Utsname {
    /// Bytes of the structure.
    pub const BYTES: usize = 6 * Self::FIELD_BYTES;
    const FIELD_BYTES: usize = 65;

    /// The structure as it lay in the crashed kernel's memory. The last byte of each field becomes a NUL: readers
    /// refuse a dumpfile where it is anything else.
    #[must_use]
    pub fn from_bytes(mut bytes: [u8; Self::BYTES]) -> Self {
        for field in bytes.chunks_exact_mut(Self::FIELD_BYTES) {
            if let Some(last) = field.last_mut() {
                *last = 0;
            }
        }
        Self(bytes)
    }

    /// The structure as makedumpfile would have found it, from text. A field that is too long is cut.
    ///
    /// Readers want `sysname` to be "Linux" and `release`, `version` and `machine` not to be empty.
    #[must_use]
    pub fn new(sysname: &str, nodename: &str, release: &str, version: &str, machine: &str) -> Self {
        let mut bytes = [0; Self::BYTES];
        let fields = [sysname, nodename, release, version, machine, "(none)"];
        for (field, text) in bytes.chunks_exact_mut(Self::FIELD_BYTES).zip(fields) {
            for (to, from) in field.iter_mut().zip(text.bytes()) {
                *to = from;
            }
        }
        Self::from_bytes(bytes)
    }

    /// The structure's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// "Linux".
    #[must_use]
    pub fn sysname(&self) -> &str {
        self.field(0)
    }

    /// The host name.
    #[must_use]
    pub fn nodename(&self) -> &str {
        self.field(1)
    }

    /// As `uname -r` prints it.
    #[must_use]
    pub fn release(&self) -> &str {
        self.field(2)
    }

    /// As `uname -v` prints it.
    #[must_use]
    pub fn version(&self) -> &str {
        self.field(3)
    }

    /// "x86_64".
    #[must_use]
    pub fn machine(&self) -> &str {
        self.field(4)
    }

    /// The field's text up to its NUL; empty where that is not UTF-8.
    fn field(&self, index: usize) -> &str {
        let field = self.0.chunks_exact(Self::FIELD_BYTES).nth(index);
        let text = field.and_then(|field| field.split(|&byte| byte == 0).next());
        text.and_then(|text| core::str::from_utf8(text).ok())
            .unwrap_or("")
    }
}

impl fmt::Debug for Utsname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Utsname({} {} {} {} {})",
            self.sysname(),
            self.nodename(),
            self.release(),
            self.version(),
            self.machine()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_still_ends_in_a_nul() {
        let long = "x".repeat(100);
        let utsname = Utsname::new("Linux", &long, "6.1", "#1", "x86_64");
        assert_eq!(utsname.nodename().len(), 64);
        assert_eq!(utsname.release(), "6.1");
        assert_eq!(Utsname::from_bytes([b'a'; 390]).machine().len(), 64);
    }
}
