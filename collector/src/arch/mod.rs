// SPDX-License-Identifier: MIT OR Apache-2.0
//! What depends on the first kernel's architecture: how addresses translate. One file an architecture.

use core::fmt;

use crate::address::{PhysAddr, VirtAddr};
use crate::bytes::{Abi, ByteOrder};
use crate::elf;
use crate::io::Source;
use crate::mem_map::Defaults;
use crate::vmcore::ReadError;
use crate::vmcoreinfo::Vmcoreinfo;

mod arm64;
mod i386;
mod ppc64;
mod riscv64;
mod s390x;
mod tables;
mod x86_64;

/// The architecture of a vmcore, with what its translation needs.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one value, and no heap for the large kind"
)]
pub(crate) enum Arch {
    X86_64(x86_64::Paging),
    I386(i386::Paging),
    Arm64(arm64::Paging),
    Ppc64(ppc64::Paging),
    Riscv64(riscv64::Paging),
    S390x(s390x::Paging),
}

/// What an architecture can do.
pub(crate) trait Translation {
    /// Reads from memory what VMCOREINFO does not tell. Called once, before anything else.
    fn complete(&mut self, _read: ReadEntries<'_>) {}

    /// The leaf that maps `address`.
    fn walk(&mut self, address: VirtAddr, read: ReadEntries<'_>) -> Result<Leaf, TranslateError>;

    /// What holds where VMCOREINFO does not say how memory is cut into sections.
    fn sparse_defaults(&self) -> Defaults;

    /// The load shift, or where memory begins: what the dumpfile's header records.
    fn phys_base(&self) -> i64;
}

/// Whether the vmcore of this source can be of a machine at all. `/proc/vmcore` is of the machine that the program was
/// built for, and the code for others is left out of a program that reads nothing else.
const fn is_possible<S: Source>(machine: u16) -> bool {
    !S::NATIVE || machine == elf::MACHINE_NATIVE
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
    /// The page that `address` is in, where the address itself is at `physical`.
    pub(crate) fn page(address: VirtAddr, physical: PhysAddr, page_shift: u32) -> Self {
        let bytes = 1_u64.wrapping_shl(page_shift);
        let inside = bytes.wrapping_sub(1);
        Self {
            virtual_address: VirtAddr(address.0 & !inside),
            physical_address: PhysAddr(physical.0 & !inside),
            bytes,
        }
    }

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
    pub(crate) fn detect<S: Source>(
        machine: u16,
        abi: Abi,
        page_shift: u32,
        info: &Vmcoreinfo<'_>,
        image: Option<ImageSegment>,
    ) -> Option<Self> {
        if !is_possible::<S>(machine) {
            return None;
        }
        match machine {
            elf::MACHINE_X86_64 if is_possible::<S>(elf::MACHINE_X86_64) => {
                x86_64::Paging::detect(info, image).map(Self::X86_64)
            }
            elf::MACHINE_386 if is_possible::<S>(elf::MACHINE_386) => {
                i386::Paging::detect(info).map(Self::I386)
            }
            elf::MACHINE_AARCH64 if is_possible::<S>(elf::MACHINE_AARCH64) => {
                arm64::Paging::detect(info, abi.order, page_shift).map(Self::Arm64)
            }
            elf::MACHINE_PPC64 if is_possible::<S>(elf::MACHINE_PPC64) => {
                ppc64::Paging::detect(info, abi, page_shift).map(Self::Ppc64)
            }
            elf::MACHINE_RISCV if is_possible::<S>(elf::MACHINE_RISCV) => {
                riscv64::Paging::detect(info).map(Self::Riscv64)
            }
            elf::MACHINE_S390 if is_possible::<S>(elf::MACHINE_S390) => {
                s390x::Paging::detect(info).map(Self::S390x)
            }
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

    /// What the architecture can do; `None` for one that the source's vmcore cannot be of.
    pub(crate) fn translation<S: Source>(&mut self) -> Option<&mut dyn Translation> {
        match self {
            Self::X86_64(paging) if is_possible::<S>(elf::MACHINE_X86_64) => Some(paging),
            Self::I386(paging) if is_possible::<S>(elf::MACHINE_386) => Some(paging),
            Self::Arm64(paging) if is_possible::<S>(elf::MACHINE_AARCH64) => Some(paging),
            Self::Ppc64(paging) if is_possible::<S>(elf::MACHINE_PPC64) => Some(paging),
            Self::Riscv64(paging) if is_possible::<S>(elf::MACHINE_RISCV) => Some(paging),
            Self::S390x(paging) if is_possible::<S>(elf::MACHINE_S390) => Some(paging),
            _ => None,
        }
    }
}

/// The name that `uname -m` has on the machine that `e_machine` numbers.
pub(crate) const fn machine_name(machine: u16, abi: Abi) -> Option<&'static str> {
    Some(match (machine, abi.order) {
        (elf::MACHINE_X86_64, _) => "x86_64",
        (elf::MACHINE_386, _) => "i686",
        (elf::MACHINE_AARCH64, _) => "aarch64",
        (elf::MACHINE_PPC64, ByteOrder::Little) => "ppc64le",
        (elf::MACHINE_PPC64, ByteOrder::Big) => "ppc64",
        (elf::MACHINE_RISCV, _) => "riscv64",
        (elf::MACHINE_S390, _) => "s390x",
        (258, _) => "loongarch64",
        _ => return None,
    })
}
