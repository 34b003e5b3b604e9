// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a kernel has in its own memory of its symbols, of its types, and of how many pages of which kind it counts,
//! written byte by byte.
//!
//! Sources: Linux 6.12 `scripts/kallsyms.c`, `Documentation/bpf/btf.rst`, `include/linux/mmzone.h`.

use crate::machine::{Machine, PAGE};

/// Where the kernel's own tables are mapped: behind its image.
pub(crate) const TABLES: u64 = 0xffff_ffff_8290_0000;

/// What of a description is written.
#[derive(Default)]
struct Btf {
    types: Vec<u8>,
    names: Vec<u8>,
}

impl Btf {
    fn name(&mut self, name: &str) -> u32 {
        if self.names.is_empty() {
            self.names.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
        let known = self
            .names
            .windows(wanted.len())
            .position(|window| window == wanted);
        if let Some(place) = known {
            return place as u32 + 1;
        }
        self.names.extend(&wanted[1..]);
        (self.names.len() - name.len() - 1) as u32
    }

    fn words(&mut self, words: &[u32]) {
        self.types
            .extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) {
        let name = self.name(name);
        self.words(&[name, (6 << 24) | values.len() as u32, 4]);
        for (name, value) in values {
            let name = self.name(name);
            self.words(&[name, *value]);
        }
    }

    /// `kind` is 4 for a struct, 5 for a union; fields are names, types and offsets in bytes.
    fn structure(&mut self, kind: u32, name: &str, bytes: u32, fields: &[(&str, u32, u32)]) {
        let name = self.name(name);
        self.words(&[name, (kind << 24) | fields.len() as u32, bytes]);
        for (name, of, offset) in fields {
            let name = self.name(name);
            self.words(&[name, *of, offset * 8]);
        }
    }

    fn finish(self) -> Vec<u8> {
        let (types, names) = (self.types.len() as u32, self.names.len() as u32);
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types, types, names] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(self.types);
        bytes.extend(self.names);
        bytes
    }
}

/// What 6.12 says of its pages, as far as it matters.
fn description() -> Vec<u8> {
    let mut btf = Btf::default();
    // 1: long; 2: page, with a union in a struct in a union; 6: an array of 11 in zone.
    let long = btf.name("long");
    btf.words(&[long, 1 << 24, 8, 64]);
    btf.structure(4, "page", 64, &[("flags", 1, 0), ("", 3, 8), ("", 5, 48)]);
    btf.structure(5, "", 40, &[("", 4, 0), ("compound_head", 1, 0)]);
    btf.structure(
        4,
        "",
        40,
        &[("lru", 1, 0), ("mapping", 1, 16), ("private", 1, 32)],
    );
    btf.structure(5, "", 4, &[("page_type", 1, 0), ("_mapcount", 1, 0)]);
    btf.words(&[0, 3 << 24, 0, 2, 1, 11]);
    btf.structure(4, "zone", 1664, &[("free_area", 6, 192)]);
    btf.enumeration(
        "pageflags",
        &[
            ("PG_lru", 5),
            ("PG_head", 6),
            ("PG_owner_priv_1", 10),
            ("PG_private", 14),
            ("PG_swapbacked", 17),
            ("PG_hwpoison", 20),
            ("PG_swapcache", 10),
        ],
    );
    btf.enumeration(
        "pagetype",
        &[
            ("PGTY_buddy", 0xf0),
            ("PGTY_offline", 0xf1),
            ("PGTY_hugetlb", 0xf4),
            ("PGTY_slab", 0xf5),
        ],
    );
    btf.enumeration("zone_stat_item", &[("NR_FREE_PAGES", 0)]);
    btf.enumeration(
        "node_stat_item",
        &[
            ("NR_ANON_MAPPED", 16),
            ("NR_FILE_PAGES", 18),
            ("NR_SWAPCACHE", 35),
        ],
    );
    btf.finish()
}

/// What the kernel counts.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) free: i64,
    pub(crate) anonymous: i64,
    pub(crate) file: i64,
    pub(crate) swap: i64,
}

/// Puts symbols, description and counters into the machine. To be called before it is finished.
pub(crate) fn install(machine: &mut Machine, counts: Counts) {
    let mut image = Vec::new();
    let mut put = |bytes: &[u8]| {
        image.resize(image.len().next_multiple_of(16), 0_u8);
        let address = TABLES + image.len() as u64;
        image.extend(bytes);
        address
    };
    let mut zone = [0_i64; 8];
    zone[0] = counts.free;
    let mut node = [0_i64; 40];
    (node[16], node[18], node[35]) = (counts.anonymous, counts.file, counts.swap);
    let bytes = |counters: &[i64]| -> Vec<u8> {
        counters
            .iter()
            .flat_map(|count| count.to_le_bytes())
            .collect()
    };
    let zones = put(&bytes(&zone));
    let nodes = put(&bytes(&node));
    let description = description();
    let start = put(&description);
    let base = 0xffff_ffff_8280_0000_u64;
    let symbols = [
        ("T_stext", base + 0x1000),
        ("B__not_asked_for", zones - 1),
        ("Bvm_zone_stat", zones),
        ("Bvm_node_stat", nodes),
        ("R__start_BTF", start),
        ("R__stop_BTF", start + description.len() as u64),
    ];
    // Every letter stands for itself.
    let mut names = Vec::new();
    for (name, _) in symbols {
        names.push(name.len() as u8);
        names.extend(name.bytes());
    }
    let (mut texts, mut index) = (Vec::new(), Vec::new());
    for letter in 0..=255_u8 {
        index.extend((texts.len() as u16).to_le_bytes());
        texts.extend([letter, 0]);
    }
    let offsets: Vec<u8> = symbols
        .iter()
        .flat_map(|(_, address)| ((base - 1).wrapping_sub(*address) as u32).to_le_bytes())
        .collect();
    let places = [
        ("names", put(&names)),
        ("num_syms", put(&(symbols.len() as u32).to_le_bytes())),
        ("token_table", put(&texts)),
        ("token_index", put(&index)),
        ("offsets", put(&offsets)),
        ("relative_base", put(&base.to_le_bytes())),
    ];
    for (name, address) in places {
        machine.add_info(&format!("SYMBOL(kallsyms_{name})"), format!("{address:x}"));
    }
    machine.add_info("SYMBOL(_stext)", format!("{:x}", base + 0x1000));
    image.resize(
        image.len().next_multiple_of(PAGE as usize) + PAGE as usize,
        0,
    );
    for (number, piece) in (0..).zip(image.chunks(PAGE as usize)) {
        let page = machine.take_page() * PAGE;
        machine.write(page, piece);
        machine.map_page(TABLES + number * PAGE, page);
    }
}
