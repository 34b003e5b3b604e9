// SPDX-License-Identifier: MIT OR Apache-2.0
//! The nodes of the first kernel's memory, and the zones in them.
//!
//! A machine without NUMA has one node, in `contig_page_data`; one with NUMA has a table of pointers to them, with
//! nothing in the places of nodes that are not there.
//!
//! Source: Linux 6.12 `include/linux/mmzone.h`, `arch/x86/mm/numa.c`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing
)]

use crate::address::VirtAddr;
use crate::io::Source;
use crate::known::Known;
use crate::vmcore::Vmcore;

/// No kernel is built for more nodes.
const MAX_NODES: u64 = 1024;
/// The kernel has five kinds of zones at most.
const MAX_ZONES: u32 = 8;

/// Where nodes and their zones are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nodes {
    table: Table,
    zones: Option<Zones>,
}

#[derive(Clone, Copy, Debug)]
enum Table {
    One(VirtAddr),
    Pointers { first: VirtAddr, count: u64 },
}

/// Where a node's zones are.
#[derive(Clone, Copy, Debug)]
struct Zones {
    first: u64,
    count: u64,
    bytes: u64,
}

impl Nodes {
    /// Finds the nodes; `None` where VMCOREINFO does not say where they are.
    pub(crate) fn resolve(known: &Known<'_>) -> Option<Self> {
        let table = match known.symbol("node_data") {
            Some(first) => Table::Pointers {
                first,
                count: known
                    .length("node_data")
                    .filter(|count| (1..=MAX_NODES).contains(count))?,
            },
            None => Table::One(known.symbol("contig_page_data")?),
        };
        let offset = |name| u64::try_from(known.offset(name)?).ok();
        let zones = || {
            Some(Zones {
                first: offset("pglist_data.node_zones")?,
                count: offset("pglist_data.nr_zones")?,
                bytes: u64::try_from(known.size("zone")?)
                    .ok()
                    .filter(|&bytes| bytes > 0)?,
            })
        };
        Some(Self {
            table,
            zones: zones(),
        })
    }

    /// Calls `each` with every node. Ends early where it returns `None`, and returns that.
    pub(crate) fn each_node<S: Source>(
        &self,
        vmcore: &mut Vmcore<'_, S>,
        each: &mut dyn FnMut(&mut Vmcore<'_, S>, VirtAddr) -> Option<()>,
    ) -> Option<()> {
        match self.table {
            Table::One(node) => each(vmcore, node),
            Table::Pointers { first, count } => {
                let word = u64::try_from(vmcore.abi().word_bytes()).ok()?;
                for index in 0..count {
                    let place = first.checked_add(index.checked_mul(word)?)?;
                    let node = vmcore.read_word(place).ok()?;
                    if node != 0 {
                        each(vmcore, VirtAddr(node))?;
                    }
                }
                Some(())
            }
        }
    }

    /// Calls `each` with every zone of every node.
    pub(crate) fn each_zone<S: Source>(
        &self,
        vmcore: &mut Vmcore<'_, S>,
        each: &mut dyn FnMut(&mut Vmcore<'_, S>, VirtAddr) -> Option<()>,
    ) -> Option<()> {
        let zones = self.zones?;
        self.each_node(vmcore, &mut |vmcore, node| {
            let count = vmcore.read_u32(node.checked_add(zones.count)?).ok()?;
            if count > MAX_ZONES {
                return None;
            }
            for index in 0..u64::from(count) {
                let inside = zones.first.checked_add(index.checked_mul(zones.bytes)?)?;
                each(vmcore, node.checked_add(inside)?)?;
            }
            Some(())
        })
    }
}
