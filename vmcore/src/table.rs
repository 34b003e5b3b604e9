// SPDX-License-Identifier: MIT OR Apache-2.0
//! makedumpfile's options in one table, and two of our own: what the parser, the help and the errors go by.
//!
//! Source: `longopts` and the option string in makedumpfile 1.7.9 `makedumpfile.c`; makedumpfile(8).

use config::Compression;
use manual::completion::Shell;

/// What an option is and does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Compress(Compression),
    Levels,
    Elf,
    Flatten,
    Rearrange,
    Replace,
    Vmlinux,
    Vmcoreinfo,
    MessageLevel,
    Debug,
    Threads,
    Split,
    SplitBlock,
    Reassemble,
    DumpDmesg,
    PartialDmesg,
    SizeLimit,
    CyclicBuffer,
    NonCyclic,
    NonMmap,
    WorkDir,
    BlockOrder,
    MemUsage,
    DryRun,
    ShowStats,
    CheckParams,
    Version,
    Help,
    Manual,
    Completion,
    /// makedumpfile has it, and it is not honoured; the text says what is to be done.
    Refused(&'static str),
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) short: Option<char>,
    pub(crate) long: Option<&'static str>,
    /// The name of its value, where it has one.
    pub(crate) value: Option<&'static str>,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
}

const fn row(
    short: Option<char>,
    long: Option<&'static str>,
    value: Option<&'static str>,
    kind: Kind,
    help: &'static str,
) -> Row {
    Row {
        short,
        long,
        value,
        kind,
        help,
    }
}

const NO_ERASE: &str = "nothing can be erased from a dump: erase it from the machine, or keep the dump where it is safe";
const NO_XEN: &str = "Xen's hypervisor dumps are not read";

/// Every option.
#[rustfmt::skip]
pub(crate) const TABLE: &[Row] = &[
    row(Some('c'), None, None, Kind::Compress(Compression::Zlib), "compress each page with zlib"),
    row(Some('l'), None, None, Kind::Compress(Compression::Lzo), "compress each page with LZO"),
    row(Some('p'), None, None, Kind::Compress(Compression::Snappy), "compress each page with snappy"),
    row(Some('z'), None, None, Kind::Compress(Compression::Zstd), "compress each page with zstd"),
    row(Some('d'), None, Some("LEVEL[,LEVEL...]"), Kind::Levels, "leave pages out: the sum of 1 zero, 2 cache, 4 cache with private data, 8 user, 16 free; with several levels the next one is tried when OUT is full"),
    row(Some('E'), None, None, Kind::Elf, "write ELF, not compressed, for gdb"),
    row(Some('F'), None, None, Kind::Flatten, "write a flattened dump to standard output; no OUT"),
    row(Some('R'), None, None, Kind::Rearrange, "turn a flattened dump from standard input into the file that it stands for"),
    row(Some('f'), None, None, Kind::Replace, "replace OUT when it exists; with --mem-usage: believe the /proc/kcore of a kernel before 4.11"),
    row(Some('x'), None, Some("VMLINUX"), Kind::Vmlinux, "check that VMLINUX is of the kernel that crashed; its debugging information is not needed"),
    row(Some('i'), None, Some("VMCOREINFO"), Kind::Vmcoreinfo, "take VMCOREINFO from this file, and check that it is of the kernel that crashed"),
    row(None, Some("num-threads"), Some("N"), Kind::Threads, "compress on N processors"),
    row(None, Some("split"), None, Kind::Split, "write several OUTs that make a dump together"),
    row(None, Some("splitblock-size"), Some("KB"), Kind::SplitBlock, "with --split: cut only at multiples of so many KiB of memory"),
    row(None, Some("reassemble"), None, Kind::Reassemble, "join the files that --split wrote"),
    row(None, Some("dump-dmesg"), None, Kind::DumpDmesg, "write the log of the crashed kernel and no dump, whatever says how a dump would be"),
    row(None, Some("partial-dmesg"), None, Kind::PartialDmesg, "with --dump-dmesg: only what was logged after the log was cleared"),
    row(Some('L'), None, Some("SIZE"), Kind::SizeLimit, "write no more than SIZE bytes (K, M, G, T may follow): then the next level is tried, or the dump is finished as an incomplete one"),
    row(None, Some("cyclic-buffer"), Some("KB"), Kind::CyclicBuffer, "look at as many pages at a time as KB KiB have bits for"),
    row(None, Some("non-cyclic"), None, Kind::NonCyclic, "look at all pages at a time"),
    row(None, Some("non-mmap"), None, Kind::NonMmap, "read VMCORE with read(2); it is never mapped, with or without this"),
    row(None, Some("work-dir"), Some("DIR"), Kind::WorkDir, "where a working file may be; none is made, with or without this"),
    row(Some('b'), None, Some("ORDER"), Kind::BlockOrder, "let 2^ORDER pages wait to be written together; 256 KiB do, with or without this, so that more (order 7 of pages of 4 KiB) is refused"),
    row(None, Some("mem-usage"), None, Kind::MemUsage, "count the pages of the running system by kind: --mem-usage /proc/kcore"),
    row(None, Some("dry-run"), None, Kind::DryRun, "do everything but write OUT"),
    row(None, Some("show-stats"), None, Kind::ShowStats, "print the pages by kind in the end, whatever the message level"),
    row(None, Some("check-params"), None, Kind::CheckParams, "check the command line and do nothing else"),
    row(None, Some("message-level"), Some("N"), Kind::MessageLevel, "the sum of 1 progress, 2 common messages, 4 errors, 8 debugging, 16 pages by kind; 7 when not given"),
    row(Some('D'), None, None, Kind::Debug, "debugging messages as well"),
    row(Some('v'), None, None, Kind::Version, "print the version"),
    row(Some('h'), Some("help"), None, Kind::Help, "print this"),
    row(None, Some("man"), None, Kind::Manual, "print this as a manual page, in roff"),
    row(None, Some("completion"), Some(Shell::WORDS), Kind::Completion, "print what has that shell complete the words of this command"),
    row(Some('e'), None, None, Kind::Refused("the struct pages of pages that are left out are always kept"), ""),
    row(Some('g'), None, Some("VMCOREINFO"), Kind::Refused("VMCOREINFO is not made from debugging information; every kernel since 2.6.24 has it in its vmcore"), ""),
    row(Some('X'), None, None, Kind::Refused(NO_XEN), ""),
    row(None, Some("xen-syms"), Some("XEN-SYMS"), Kind::Refused(NO_XEN), ""),
    row(None, Some("xen-vmcoreinfo"), Some("VMCOREINFO"), Kind::Refused(NO_XEN), ""),
    row(None, Some("xen_phys_start"), Some("ADDRESS"), Kind::Refused(NO_XEN), ""),
    row(None, Some("vtop"), Some("ADDRESS"), Kind::Refused("addresses are not translated for the user; crash's vtop does that"), ""),
    row(None, Some("config"), Some("FILE"), Kind::Refused(NO_ERASE), ""),
    row(None, Some("eppic"), Some("FILE"), Kind::Refused(NO_ERASE), ""),
    row(None, Some("extension"), Some("FILE"), Kind::Refused("makedumpfile's extensions cannot be loaded"), ""),
    row(None, Some("diskset"), Some("VMCORE"), Kind::Refused("sadump's dumps are not read"), ""),
];
