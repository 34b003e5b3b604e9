// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels from 2.6.24 on: how each marks its pages, and which of that its VMCOREINFO says.
//!
//! Sources: `include/linux/mm_types.h`, `page-flags.h`, `mmzone.h` and `kernel/kexec.c`, later `crash_core.c` and
//! `vmcore_info.c`, of each version; for RHEL 7 what its kernel took back from later ones.

/// How free blocks are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Free {
    /// By the zones' lists alone; the flag in the struct is not told.
    Lists,
    /// By `_mapcount`.
    Mapcount(u32),
}

/// How the second page of a compound page tells order and kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Second {
    /// By the pointers of its list, and VMCOREINFO may say which function stands for hugetlb.
    List { told: bool },
    /// By two fields at these places, order and destructor, of so many bytes.
    Fields(usize, usize, usize),
    /// By the flags' low byte, and the head's type.
    Type(u32),
}

/// What one kernel has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Era {
    pub(crate) release: &'static str,
    pub(crate) page_bytes: u64,
    pub(crate) mapping: usize,
    pub(crate) lru: usize,
    pub(crate) private: usize,
    pub(crate) mapcount: usize,
    /// The tail's pointer to its head, and whether VMCOREINFO says where.
    pub(crate) tail: Option<(usize, bool)>,
    /// Flags: lru, private, swapcache, slab.
    pub(crate) bits: [u32; 4],
    /// The flag without which the swap cache's means something else, and whether VMCOREINFO has it.
    pub(crate) swapbacked: Option<(u32, bool)>,
    pub(crate) slab_type: Option<u32>,
    pub(crate) hwpoison: Option<u32>,
    /// The flag of compound pages' heads, and whether VMCOREINFO has it.
    pub(crate) head: (u32, bool),
    pub(crate) free: Free,
    pub(crate) second: Second,
    /// Whether VMCOREINFO has what is there since 3.10.
    pub(crate) tells_types: bool,
    /// Address bits, bytes of a `mem_section`, whether the bits are told.
    pub(crate) sections: (u64, u64, bool),
}

pub(crate) const OLD: Era = Era {
    release: "2.6.24-synthetic",
    page_bytes: 56,
    mapping: 24,
    lru: 40,
    private: 16,
    mapcount: 12,
    tail: None,
    bits: [5, 11, 15, 7],
    swapbacked: None,
    slab_type: None,
    hwpoison: None,
    head: (14, false),
    free: Free::Lists,
    second: Second::List { told: false },
    tells_types: false,
    sections: (40, 16, false),
};

pub(crate) const RHEL_7: Era = Era {
    release: "3.10.0-1160.el7.x86_64",
    page_bytes: 64,
    mapping: 8,
    lru: 32,
    private: 48,
    mapcount: 24,
    bits: [5, 11, 16, 7],
    hwpoison: Some(23),
    head: (14, true),
    free: Free::Mapcount(-128_i32 as u32),
    second: Second::List { told: true },
    tells_types: true,
    sections: (46, 32, false),
    ..OLD
};

pub(crate) const UBUNTU_4_4: Era = Era {
    release: "4.4.0-210-generic",
    tail: Some((32, false)),
    second: Second::Fields(44, 40, 4),
    ..RHEL_7
};

pub(crate) const RHEL_8: Era = Era {
    release: "4.18.0-553.el8_10.x86_64",
    mapping: 24,
    lru: 8,
    private: 40,
    mapcount: 48,
    tail: Some((8, true)),
    bits: [5, 12, 9, 8],
    swapbacked: Some((18, true)),
    hwpoison: Some(22),
    head: (15, true),
    free: Free::Mapcount(-129_i32 as u32),
    second: Second::Fields(17, 16, 1),
    sections: (46, 32, false),
    ..RHEL_7
};

pub(crate) const ERAS: [Era; 10] = [
    OLD,
    Era {
        release: "2.6.32-754.el6.x86_64",
        bits: [5, 11, 16, 7],
        sections: (46, 32, false),
        ..OLD
    },
    Era {
        release: "3.10.0-synthetic",
        head: (14, false),
        second: Second::List { told: false },
        ..RHEL_7
    },
    RHEL_7,
    UBUNTU_4_4,
    Era {
        release: "4.14.0-synthetic",
        tail: Some((32, true)),
        bits: [5, 12, 9, 8],
        swapbacked: Some((18, false)),
        head: (15, true),
        ..UBUNTU_4_4
    },
    RHEL_8,
    Era {
        release: "5.14.0-503.el9.x86_64",
        bits: [4, 13, 10, 9],
        swapbacked: Some((19, true)),
        hwpoison: Some(23),
        head: (16, true),
        sections: (46, 16, true),
        ..RHEL_8
    },
    Era {
        release: "6.12.0-synthetic",
        bits: [5, 14, 10, 63],
        swapbacked: Some((17, true)),
        slab_type: Some(0xf500_0000),
        hwpoison: Some(20),
        head: (6, true),
        free: Free::Mapcount(0xf000_0000),
        second: Second::Type(0xf400_0000),
        sections: (46, 16, true),
        ..RHEL_8
    },
    Era {
        release: "6.18.0-synthetic",
        bits: [5, 13, 10, 63],
        swapbacked: Some((16, true)),
        slab_type: Some(0xf500_0000),
        hwpoison: Some(19),
        head: (6, true),
        free: Free::Mapcount(0xf000_0000),
        second: Second::Type(0xf400_0000),
        sections: (46, 16, true),
        ..RHEL_8
    },
];
