// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--mem-usage /proc/kcore`: the pages of the running system by kind, to see what a dump level would leave out.

use collector::{MEMORY_BYTES, collect};
use config::{CollectOptions, Compression, DumpLevel, Format};

use super::Failure;
use super::messages::Messages;
use super::options::Options;
use super::output::Output;
use super::progress::Console;
use super::run;

/// Counts, and prints a table.
pub(crate) fn mem_usage(options: &Options, messages: Messages) -> Result<(), Failure> {
    let [path] = &options.files[..] else {
        return Err(Failure::from(
            "--mem-usage wants one file: /proc/kcore".to_owned(),
        ));
    };
    let mut vmcore = run::open(options, path, messages)?;
    if vmcore.release().is_empty() {
        return Err(Failure::from(format!(
            "{}: it has no VMCOREINFO, without which no page's kind is known; the kernel must be built for kdump \
             (CONFIG_VMCORE_INFO or CONFIG_CRASH_CORE) and 4.19 or later",
            path.display()
        )));
    }
    let mut memory = vec![0; MEMORY_BYTES];
    let mut console = Console::new(messages.level);
    let counting = CollectOptions {
        format: Format::Kdump,
        compression: Compression::None,
        levels: std::iter::once(DumpLevel::MAX).collect(),
    };
    // Every page that is kept is read, so that those of zeros are told apart.
    let result = collect(
        &mut vmcore,
        &counting,
        DumpLevel::MAX,
        &mut memory,
        &mut Output::Nowhere,
        &mut console,
    );
    console.finish();
    let stats = result.map_err(|error| Failure::from(format!("{}: {error}", path.display())))?;
    if stats.level_used != DumpLevel::MAX {
        return Err(Failure::from(format!(
            "{}: its pages cannot be told apart (see above)",
            path.display()
        )));
    }
    println!("TYPE            PAGES                   EXCLUDABLE      DESCRIPTION");
    println!("{}", "-".repeat(70));
    for (kind, pages, excludable, about) in [
        ("ZERO", stats.zero, "yes", "Pages filled with zero"),
        (
            "NON_PRI_CACHE",
            stats.cache,
            "yes",
            "Cache pages without private flag",
        ),
        (
            "PRI_CACHE",
            stats.cache_private,
            "yes",
            "Cache pages with private flag",
        ),
        ("USER", stats.user, "yes", "User process pages"),
        ("FREE", stats.free, "yes", "Free pages"),
        ("KERN_DATA", stats.kept, "no", "Dumpable kernel data"),
    ] {
        println!("{kind:<16}{pages:<24}{excludable:<16}{about}");
    }
    println!();
    println!("page size:              {:<10}", vmcore.page_size());
    println!("Total pages on system:  {:<10}", stats.present);
    let bytes = stats.present.saturating_mul(vmcore.page_size() as u64);
    println!("Total size on system:   {bytes:<10} Byte");
    Ok(())
}
