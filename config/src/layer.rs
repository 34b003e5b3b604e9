// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is put together from other devices before a target's own device is there.

use crate::luks::Luks;
use core::fmt;

/// The most layers that a record lists.
pub const MAX_LAYERS: usize = 16;

/// One device that is made of others, found by what its members say of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer<'a> {
    /// A logical volume of LVM2.
    Lvm {
        /// The volume group's UUID, as `vgs` prints it.
        group: &'a str,
        /// The logical volume's UUID, as `lvs` prints it.
        volume: &'a str,
        /// What the device mapper calls it: `vg0-root`.
        name: &'a str,
    },
    /// An array of md.
    Md {
        /// The array's UUID, as `blkid` prints it for its members.
        array: &'a str,
        /// What the kernel calls it: `md0`.
        name: &'a str,
    },
    /// What LUKS encrypted, with a volume key that is in the image.
    Luks {
        /// The device below.
        luks: Luks<'a>,
        /// What the device mapper calls the mapping: `cryptroot`.
        name: &'a str,
    },
}

impl<'a> Layer<'a> {
    /// What it is called on the host.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        match self {
            Self::Lvm { name, .. } | Self::Md { name, .. } | Self::Luks { name, .. } => name,
        }
    }

    /// The layer of a line of the record.
    #[must_use]
    pub fn parse(line: &'a str) -> Option<Self> {
        if let Some(rest) = line.strip_prefix("luks ") {
            let (luks, name) = Luks::parse(rest)?;
            return (!name.contains(' ')).then_some(Self::Luks { luks, name });
        }
        let mut words = line.split(' ');
        let mut next = || words.next().filter(|word| !word.is_empty());
        let layer = match next()? {
            "lvm" => Self::Lvm {
                group: next()?,
                volume: next()?,
                name: next()?,
            },
            "md" => Self::Md {
                array: next()?,
                name: next()?,
            },
            _ => return None,
        };
        words.next().is_none().then_some(layer)
    }
}

/// As the record has it.
impl fmt::Display for Layer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lvm {
                group,
                volume,
                name,
            } => write!(f, "lvm {group} {volume} {name}"),
            Self::Md { array, name } => write!(f, "md {array} {name}"),
            Self::Luks { luks, name } => write!(f, "luks {luks} {name}"),
        }
    }
}

/// Which of the record's layers are below a device: what is below others comes first in the record, so that their order
/// is that of putting them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers(u16);

impl Layers {
    /// A disk or a partition of one.
    pub const NONE: Self = Self(0);

    /// There is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds the layer of this number. False when a record has no such number.
    pub fn add(&mut self, number: usize) -> bool {
        match u32::try_from(number)
            .ok()
            .and_then(|number| 1_u16.checked_shl(number))
        {
            Some(bit) => {
                self.0 |= bit;
                true
            }
            None => false,
        }
    }

    /// The numbers, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_LAYERS).filter(move |&number| {
            let bit = u32::try_from(number)
                .ok()
                .and_then(|number| 1_u16.checked_shl(number));
            bit.is_some_and(|bit| self.0 & bit != 0)
        })
    }

    /// The layers of a line of the record, which has `count` of them.
    #[must_use]
    pub fn parse(line: &str, count: usize) -> Option<Self> {
        let mut layers = Self::NONE;
        for word in line.split(' ') {
            let number = word.parse().ok().filter(|&number| number < count)?;
            if !layers.add(number) {
                return None;
            }
        }
        Some(layers)
    }
}

/// As the record has them.
impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, number) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{number}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_reads_back_as_it_was_written() {
        for line in [
            "lvm g-1 v-2 vg0-root",
            "md 1-2 md127",
            "luks 1-2 2 aes-xts-plain64 64 32768 dynamic 0 512 00ff cryptroot",
            "luks 1-2 1 aes-cbc-essiv:sha256 32 4096 8192 8 4096 0a c",
        ] {
            assert_eq!(Layer::parse(line).unwrap().to_string(), line);
        }
        for line in [
            "",
            "lvm",
            "lvm a b",
            "lvm a b c d",
            "lvm a  c",
            "md a",
            "raid a b",
            "luks ../x 2 aes-xts-plain64 64 32768 dynamic 0 512 00ff c",
            "luks 1-2 2 aes-xts-plain64 65 32768 dynamic 0 512 00ff c",
            "luks 1-2 2 aes-xts-plain64 0 32768 dynamic 0 512 00ff c",
            "luks 1-2 2 aes-xts-plain64 64 -1 dynamic 0 512 00ff c",
            "luks 1-2 2 aes-xts-plain64 64 32768 all 0 512 00ff c",
            "luks 1-2 2 aes-xts-plain64 64 32768 dynamic 0 512 00ff",
            "luks 1-2 2 aes-xts-plain64 64 32768 dynamic 0 512 00ff c d",
        ] {
            assert_eq!(Layer::parse(line), None, "{line}");
        }
    }

    #[test]
    fn layers_are_those_that_the_record_has() {
        let layers = Layers::parse("0 3 15", 16).unwrap();
        assert_eq!(layers.to_string(), "0 3 15");
        assert_eq!(layers.iter().collect::<Vec<_>>(), [0, 3, 15]);
        for line in ["", "16", "3 x", "-1"] {
            assert_eq!(Layers::parse(line, 16), None, "{line}");
        }
        assert_eq!(Layers::parse("2", 2), None);
    }
}
