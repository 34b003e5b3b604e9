// SPDX-License-Identifier: MIT OR Apache-2.0
//! What depends on the first kernel's architecture: how addresses translate. One file an architecture.

use core::fmt;

use crate::address::{PhysAddr, VirtAddr};
use crate::elf;
use crate::mem_map::Defaults;
use crate::vmcore::ReadError;
use crate::vmcoreinfo::Vmcoreinfo;

pub(crate) mod x86_64;

/// The architecture of a vmcore, with what its translation needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arch {
    /// 4- and 5-level page tables.
    X86_64(x86_64::Paging),
}

/// A `PT_LOAD` segment that maps the kernel's own image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageSegment {
    /// Its first address.
    pub(crate) virtual_address: VirtAddr,
    /// Where that is in memory.
    pub(crate) physical_address: PhysAddr,
    /// Its length.
    pub(crate) bytes: u64,
}

/// A stretch of virtual addresses that lies in one piece in physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Its first address.
    pub(crate) virtual_address: VirtAddr,
    /// Where that is in memory.
    pub(crate) physical_address: PhysAddr,
    /// Its length.
    pub(crate) bytes: u64,
}

impl Leaf {
    /// Where `address` is in memory and how many bytes of the leaf follow from there; `None` outside.
    pub(crate) fn locate(&self, address: VirtAddr) -> Option<(PhysAddr, u64)> {
        let inside = address.0.checked_sub(self.virtual_address.0)?;
        let left = self.bytes.checked_sub(inside).filter(|&left| left > 0)?;
        Some((self.physical_address.checked_add(inside)?, left))
    }
}

/// Why an address could not be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TranslateError {
    /// The vmcore's architecture or VMCOREINFO gives no page tables to walk.
    NoTables,
    /// The page tables have no such page.
    NotMapped(VirtAddr),
    /// A page table could not be read.
    Table(PhysAddr),
}

impl fmt::Display for TranslateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTables => f.write_str("the vmcore does not say where its page tables are"),
            Self::NotMapped(address) => write!(f, "address {address} is not mapped"),
            Self::Table(address) => {
                write!(f, "the page table entry at {address} cannot be read")
            }
        }
    }
}

impl core::error::Error for TranslateError {}

/// Fills the buffer with page table entries, from the one at this address on.
pub(crate) type ReadEntries<'a> = &'a mut dyn FnMut(PhysAddr, &mut [u8]) -> Result<(), ReadError>;

impl Arch {
    /// The architecture that the ELF header names, with its page tables found; `None` when either is not known.
    pub(crate) fn detect(
        machine: u16,
        info: &Vmcoreinfo<'_>,
        image: Option<ImageSegment>,
    ) -> Option<Self> {
        match machine {
            elf::MACHINE_X86_64 => x86_64::Paging::detect(info, image).map(Self::X86_64),
            _ => None,
        }
    }

    /// Whether a segment at this address maps the kernel's own image.
    pub(crate) fn is_image_address(machine: u16, address: VirtAddr) -> bool {
        match machine {
            elf::MACHINE_X86_64 => address.0 >= x86_64::IMAGE_MAP,
            _ => false,
        }
    }

    /// Walks the page tables.
    pub(crate) fn walk(
        &mut self,
        address: VirtAddr,
        read: ReadEntries<'_>,
    ) -> Result<Leaf, TranslateError> {
        match self {
            Self::X86_64(paging) => paging.walk(address, read),
        }
    }

    /// What holds where VMCOREINFO does not say how memory is cut into sections.
    pub(crate) const fn sparse_defaults(&self) -> Defaults {
        match self {
            Self::X86_64(paging) => paging.sparse_defaults(),
        }
    }

    /// The load shift that the dumpfile's header records.
    pub(crate) const fn phys_base(&self) -> i64 {
        match self {
            Self::X86_64(paging) => paging.phys_base(),
        }
    }
}

/// The name that `uname -m` has on the machine that `e_machine` numbers.
pub(crate) const fn machine_name(machine: u16) -> Option<&'static str> {
    Some(match machine {
        elf::MACHINE_X86_64 => "x86_64",
        21 => "ppc64le",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        _ => return None,
    })
}
