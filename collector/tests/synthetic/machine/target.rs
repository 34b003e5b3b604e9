// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kinds of machines: how each has numbers, and how its kernel maps memory.

/// A kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    X86_64 {
        five_levels: bool,
    },
    /// `elf64`: the vmcore is ELF64 though the kernel has 32 bits.
    I386 {
        pae: bool,
        elf64: bool,
    },
    /// Address bits that the kernel was built for, and those that the processor could do.
    Arm64 {
        page_shift: u32,
        built_bits: u32,
        bits: u32,
    },
    Ppc64 {
        page_shift: u32,
        mmu: Mmu,
    },
    Riscv64 {
        bits: u32,
    },
    /// `moved`: the kernel has virtual addresses of its own, as since 6.10.
    S390x {
        moved: bool,
        levels: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mmu {
    /// Told by a number.
    Radix,
    /// Told by the processor's features.
    RadixByFeatures,
    /// The vmemmap is in a list.
    Hash,
}

/// Where the kernel has things in virtual memory, and memory begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    pub(crate) ram: u64,
    /// The address of the byte at `ram`.
    pub(crate) direct_map: u64,
    /// The `struct page` of pfn 0.
    pub(crate) vmemmap: u64,
    pub(crate) image: u64,
}

impl Target {
    pub(crate) fn page_shift(self) -> u32 {
        match self {
            Self::Arm64 { page_shift, .. } | Self::Ppc64 { page_shift, .. } => page_shift,
            _ => 12,
        }
    }

    pub(crate) fn page_bytes(self) -> u64 {
        1 << self.page_shift()
    }

    pub(crate) fn word_bytes(self) -> u64 {
        match self {
            Self::I386 { .. } => 4,
            _ => 8,
        }
    }

    pub(crate) fn is_big_endian(self) -> bool {
        matches!(self, Self::S390x { .. })
    }

    pub(crate) fn is_elf64(self) -> bool {
        !matches!(self, Self::I386 { elf64: false, .. })
    }

    pub(crate) fn e_machine(self) -> u16 {
        match self {
            Self::X86_64 { .. } => 62,
            Self::I386 { .. } => 3,
            Self::Arm64 { .. } => 183,
            Self::Ppc64 { .. } => 21,
            Self::Riscv64 { .. } => 243,
            Self::S390x { .. } => 22,
        }
    }

    /// As `uname -m` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 { .. } => "x86_64",
            Self::I386 { .. } => "i686",
            Self::Arm64 { .. } => "aarch64",
            Self::Ppc64 { .. } => "ppc64le",
            Self::Riscv64 { .. } => "riscv64",
            Self::S390x { .. } => "s390x",
        }
    }

    /// A number of so many bytes as the machine has it.
    pub(crate) fn number(self, value: u64, bytes: u64) -> Vec<u8> {
        let bytes = bytes as usize;
        if self.is_big_endian() {
            value.to_be_bytes()[8 - bytes..].to_vec()
        } else {
            value.to_le_bytes()[..bytes].to_vec()
        }
    }

    pub(crate) fn word(self, value: u64) -> Vec<u8> {
        self.number(value, self.word_bytes())
    }

    pub(crate) fn places(self) -> Places {
        match self {
            Self::X86_64 { five_levels } => Places {
                ram: 0,
                direct_map: match five_levels {
                    true => 0xff11_2340_0000_0000,
                    false => 0xffff_9a40_0000_0000,
                },
                vmemmap: match five_levels {
                    true => 0xffd4_5680_0000_0000,
                    false => 0xffff_eb12_0000_0000,
                },
                image: 0xffff_ffff_8280_0000,
            },
            Self::I386 { pae, .. } => {
                // One kernel with the usual split, one with 2 GiB for each side.
                let start = if pae { 0xc000_0000 } else { 0x8000_0000 };
                Places {
                    ram: 0,
                    direct_map: start,
                    vmemmap: 0xf800_0000,
                    image: start,
                }
            }
            Self::Arm64 { bits, .. } => {
                let upper = 0_u64.wrapping_sub(1 << (bits - 1));
                Places {
                    ram: 0x4000_0000,
                    direct_map: 0_u64.wrapping_sub(1 << bits),
                    vmemmap: upper + (1 << (bits - 2)),
                    image: upper + 0x1234_0000,
                }
            }
            Self::Ppc64 { mmu, .. } => Places {
                ram: 0,
                direct_map: 0xc000_0000_0000_0000,
                vmemmap: match mmu {
                    Mmu::Hash => 0xf000_0000_0000_0000,
                    _ => 0xc00c_0000_0000_0000,
                },
                image: 0xc000_0000_0000_0000,
            },
            Self::Riscv64 { bits } => {
                let (direct_map, vmemmap) = match bits {
                    39 => (0xffff_ffd8_0000_0000, 0xffff_ffc6_0000_0000),
                    48 => (0xffff_af80_0000_0000, 0xffff_8d80_0000_0000),
                    _ => (0xff60_0000_0000_0000, 0xff1c_0000_0000_0000),
                };
                Places {
                    ram: 0x8000_0000,
                    direct_map,
                    vmemmap,
                    image: 0xffff_ffff_8020_0000,
                }
            }
            Self::S390x { moved, .. } => Places {
                ram: 0,
                direct_map: if moved { 0x10_0000_0000 } else { 0 },
                vmemmap: 0x372_0000_0000,
                image: if moved { 0x3ff_e000_0000 } else { 0 },
            },
        }
    }

    /// Whether the kernel's image is a part of the direct map.
    pub(crate) fn image_is_direct(self) -> bool {
        let places = self.places();
        places.image == places.direct_map
    }

    /// Levels of the page tables from the root down: the shift of each index, and its bits.
    pub(crate) fn levels(self) -> Vec<(u32, u32)> {
        let bits: &[u32] = match self {
            Self::X86_64 { five_levels } => &[9; 5][..4 + usize::from(five_levels)],
            Self::I386 { pae: true, .. } => &[9, 9, 2],
            Self::I386 { pae: false, .. } => &[10, 10],
            Self::Arm64 {
                page_shift,
                built_bits,
                bits,
            } => {
                let whole = page_shift - 3;
                let mut left = if page_shift == 16 { built_bits } else { bits } - page_shift;
                let mut levels = Vec::new();
                while left > 0 {
                    levels.push(left.min(whole));
                    left -= left.min(whole);
                }
                return with_shifts(&levels, page_shift);
            }
            Self::Ppc64 { page_shift: 16, .. } => match self {
                Self::Ppc64 { mmu: Mmu::Hash, .. } => &[8, 10, 10, 8],
                _ => &[5, 9, 9, 13],
            },
            Self::Ppc64 { .. } => &[9, 9, 9, 13],
            Self::Riscv64 { bits: 39 } => &[9; 3],
            Self::Riscv64 { bits: 48 } => &[9; 4],
            Self::Riscv64 { .. } => &[9; 5],
            Self::S390x { levels, .. } => &[8, 11, 11, 11, 11][..levels as usize],
        };
        with_shifts(bits, self.page_shift())
    }

    pub(crate) fn entry_bytes(self) -> u64 {
        match self {
            Self::I386 { pae: false, .. } => 4,
            _ => 8,
        }
    }

    /// An entry's bytes. Entries of ppc64 are big-endian, whatever the machine is.
    pub(crate) fn entry(self, value: u64) -> Vec<u8> {
        match self {
            Self::Ppc64 { .. } => value.to_be_bytes().to_vec(),
            _ => self.number(value, self.entry_bytes()),
        }
    }

    /// An entry that is not in use, in a table of `level`, the last one's being 0.
    pub(crate) fn empty_entry(self, level: usize) -> u64 {
        match (self, level) {
            (Self::S390x { .. }, 0) => 0x400,
            (Self::S390x { .. }, _) => 0x20 | (level as u64 - 1) << 2,
            _ => 0,
        }
    }

    /// An entry for the table at `address`.
    pub(crate) fn table_entry(self, address: u64, level: usize) -> u64 {
        match self {
            // The three or four entries of the root have fewer flags.
            Self::I386 { pae: true, .. } if level == 2 => address | 1,
            Self::X86_64 { .. } | Self::I386 { .. } => address | 0x67,
            Self::Arm64 { .. } => address | 3,
            Self::Ppc64 { .. } => address | 0x8000_0000_0000_0009,
            Self::Riscv64 { .. } => address >> 2 | 1,
            Self::S390x { .. } if level == 1 => address,
            Self::S390x { .. } => address | (level as u64 - 1) << 2 | 3,
        }
    }

    /// An entry for memory at `address`.
    pub(crate) fn leaf_entry(self, address: u64, level: usize) -> u64 {
        let is_large = level > 0;
        match self {
            Self::X86_64 { .. } | Self::I386 { pae: true, .. } => {
                let large = if is_large { 0x80 } else { 0 };
                address | large | 0x8000_0000_0000_0063
            }
            Self::I386 { .. } => address | if is_large { 0xe3 } else { 0x63 },
            Self::Arm64 {
                page_shift, bits, ..
            } => {
                // What tells inner shareable memory is a part of the address with LPA2.
                let shared = if bits == 52 && page_shift < 16 {
                    0
                } else {
                    0x300
                };
                address | 0x0060_0000_0000_0400 | shared | if is_large { 1 } else { 3 }
            }
            Self::Ppc64 { .. } => address | 0xc000_0000_0000_018e,
            Self::Riscv64 { .. } => address >> 2 | 0xe7,
            Self::S390x { .. } if is_large => address | 0x400 | (level as u64 - 1) << 2,
            Self::S390x { .. } => address,
        }
    }

    /// Where an entry points to; `None` when it is not in use or maps memory.
    pub(crate) fn table_of(self, entry: u64, level: usize) -> Option<u64> {
        let target = match self {
            Self::X86_64 { .. } | Self::I386 { .. } => {
                let is_table = entry & 1 != 0 && (entry & 0x80 == 0 || level > 2);
                is_table.then_some(entry & 0x000f_ffff_ffff_f000)
            }
            Self::Arm64 { .. } => (entry & 3 == 3).then_some(entry & 0x0000_ffff_ffff_f000),
            Self::Ppc64 { .. } => {
                let is_table = entry != 0 && entry & (1 << 62) == 0;
                is_table.then_some(entry & 0x3fff_ffff_ffff_ff00)
            }
            Self::Riscv64 { .. } => (entry & 0xf == 1).then_some(entry << 2 & !0xfff),
            Self::S390x { .. } => (entry & 0x420 == 0).then_some(entry & !0x7ff),
        };
        target.filter(|_| level > 0)
    }

    /// The level whose entries map the direct map, where that is in the tables.
    pub(crate) fn direct_level(self) -> Option<usize> {
        match self {
            Self::I386 { .. } => Some(1),
            Self::Arm64 { page_shift, .. } if page_shift > 12 => Some(1),
            Self::Ppc64 { .. } => None,
            _ => Some(2),
        }
    }
}

fn with_shifts(bits: &[u32], page_shift: u32) -> Vec<(u32, u32)> {
    let mut shift = page_shift;
    let mut levels: Vec<(u32, u32)> = bits
        .iter()
        .map(|&bits| {
            shift += bits;
            (shift - bits, bits)
        })
        .collect();
    levels.reverse();
    levels
}
