// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's names, and what it tells of itself in VMCOREINFO.

use super::{Generation, Machine, Mmu, Target};

impl Machine {
    /// Writes page tables, mem_map, names and VMCOREINFO. To be called once, when all pages are what they are.
    pub(crate) fn finish(&mut self) {
        self.map_kernel();
        self.write_mem_map();
        self.write_info();
    }

    fn map_kernel(&mut self) {
        // The image: the root table is its beginning, the names are in the page behind.
        let page_bytes = self.page_bytes();
        let root = self.root;
        let (_, bits) = self.target.levels()[0];
        let root_bytes = ((1 << bits) * self.target.entry_bytes()).next_multiple_of(page_bytes);
        let names_page = self.take_page() * page_bytes;
        let names = if self.target.image_is_direct() {
            self.direct(names_page)
        } else {
            for page in (0..root_bytes).step_by(page_bytes as usize) {
                self.map_page(self.image + page, root + page);
            }
            self.map_page(self.image + root_bytes, names_page);
            self.image + root_bytes
        };
        let generation = self.config.generation;
        for (index, field) in [
            "Linux",
            "crashed",
            generation.release(),
            "#1 SMP",
            self.target.name(),
            "(none)",
        ]
        .into_iter()
        .enumerate()
        {
            self.write(names_page + 0x80 + index as u64 * 65, field.as_bytes());
        }
        self.add_info("OSRELEASE", generation.release());
        self.add_info("PAGESIZE", page_bytes);
        self.add_info("SYMBOL(init_uts_ns)", format!("{:x}", names + 0x80));
        self.add_info("OFFSET(uts_namespace.name)", 0);
        self.add_info("SYMBOL(swapper_pg_dir)", format!("{:x}", self.image));
        self.add_info("SYMBOL(_stext)", format!("{:x}", self.image));
        self.add_info("CRASHTIME", 1_700_000_000);
        self.write_info_of_target();
        // All memory that the kernel's own tables are in.
        if let Some(level) = self.target.direct_level() {
            let (shift, _) = self.target.levels().into_iter().nth_back(level).unwrap();
            let end = self.ram.iter().map(|&(_, end)| end).max().unwrap_or(0);
            let end = end.min(self.places.ram + (4 << 30));
            let mut address = self.places.ram;
            while address < end {
                self.map_at(self.direct(address), address, level);
                address += 1 << shift;
            }
        }
    }

    /// How far the image's addresses are from where it is.
    pub(crate) fn image_offset(&self) -> u64 {
        self.image.wrapping_sub(self.root)
    }

    fn write_info_of_target(&mut self) {
        let places = self.places;
        let offset = self.image_offset();
        match self.target {
            Target::X86_64 { five_levels } => {
                // The image is linked behind 0xffffffff80000000.
                let phys_base = 0xffff_ffff_8000_0000_u64.wrapping_sub(offset) as i64;
                self.add_info("NUMBER(phys_base)", phys_base);
                self.add_info("NUMBER(pgtable_l5_enabled)", u8::from(five_levels));
                self.add_info("NUMBER(sme_mask)", 0);
            }
            Target::I386 { pae, .. } => {
                if pae {
                    self.add_info("CONFIG_X86_PAE", "y");
                }
            }
            Target::Arm64 {
                built_bits, bits, ..
            } => {
                // Since 5.10 the number is that of the lowest address that the kernel was built for.
                let unused = (1_u64 << built_bits) - (1 << bits);
                let phys_offset = places.ram.wrapping_sub(unused);
                self.add_info("NUMBER(VA_BITS)", built_bits);
                self.add_info("NUMBER(TCR_EL1_T1SZ)", format!("{:#x}", 64 - bits));
                self.add_info("NUMBER(kimage_voffset)", format!("{offset:#x}"));
                self.add_info("NUMBER(PHYS_OFFSET)", format!("{phys_offset:#x}"));
            }
            Target::Ppc64 { mmu, .. } => {
                if mmu != Mmu::RadixByFeatures {
                    self.add_info("NUMBER(RADIX_MMU)", u8::from(mmu == Mmu::Radix));
                    return;
                }
                // A pointer to the processor's description, in which the features are.
                let variables = self.take_page() * self.page_bytes();
                let spec = self.direct(variables + 0x40);
                self.write_word(variables, spec);
                self.write_number(variables + 0x40 + 24, 0x7400_0041, 4);
                let pointer = self.direct(variables);
                self.add_info("SYMBOL(cur_cpu_spec)", format!("{pointer:x}"));
                self.add_info("OFFSET(cpu_spec.mmu_features)", 24);
            }
            Target::Riscv64 { bits } => {
                self.add_info("NUMBER(VA_BITS)", bits);
                self.add_info("NUMBER(phys_ram_base)", places.ram);
                for (key, value) in [
                    ("PAGE_OFFSET", places.direct_map),
                    ("VMEMMAP_START", places.vmemmap),
                    ("KERNEL_LINK_ADDR", 0xffff_ffff_8000_0000),
                    ("va_kernel_pa_offset", offset),
                ] {
                    self.add_info(&format!("NUMBER({key})"), format!("{value:#x}"));
                }
            }
            Target::S390x { moved, .. } => {
                if moved {
                    self.add_info("KERNELOFFSET", format!("{:x}", self.image));
                    self.add_info("KERNELOFFPHYS", format!("{:x}", self.root));
                    self.add_info("IDENTITYBASE", format!("{:x}", places.direct_map));
                }
            }
        }
    }

    fn write_info(&mut self) {
        let values = self.config.generation.values();
        let word = self.target.word_bytes();
        for (field, offset) in self.target.struct_fields() {
            self.add_info(&format!("OFFSET(page.{field})"), offset);
        }
        self.add_info("SIZE(page)", self.struct_bytes());
        self.add_info("LENGTH(zone.free_area)", 11);
        self.add_info("NUMBER(PG_lru)", values.lru);
        self.add_info("NUMBER(PG_private)", values.private);
        self.add_info("NUMBER(PG_swapcache)", values.swapcache);
        self.add_info("NUMBER(PG_swapbacked)", values.swapbacked);
        self.add_info("NUMBER(PG_hwpoison)", values.hwpoison);
        self.add_info("NUMBER(PG_head_mask)", 1_u64 << values.head);
        self.add_info("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", values.buddy as i32);
        self.add_info("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)", values.offline as i32);
        if let Some(bit) = values.slab {
            self.add_info("NUMBER(PG_slab)", bit);
        }
        if let Some(kind) = values.slab_type {
            self.add_info("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)", kind as i32);
        }
        if let Some(kind) = values.hugetlb_type {
            self.add_info("NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)", kind as i32);
        }
        if let Some(bit) = values.hugetlb_flag {
            self.add_info("NUMBER(PG_hugetlb)", bit);
        }
        match self.config.generation {
            Generation::V6_1 => {
                self.add_info("OFFSET(page.compound_dtor)", 2 * word);
                self.add_info("OFFSET(page.compound_order)", 2 * word + 1);
                self.add_info("NUMBER(HUGETLB_PAGE_DTOR)", 2);
            }
            Generation::V6_4 => {
                self.add_info("OFFSET(folio._folio_dtor)", 64 + 20);
                self.add_info("OFFSET(folio._folio_order)", 64 + 21);
                self.add_info("NUMBER(HUGETLB_PAGE_DTOR)", 2);
            }
            Generation::V6_6 | Generation::V6_12 => {}
        }
    }
}
