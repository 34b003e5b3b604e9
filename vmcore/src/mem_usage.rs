// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--mem-usage /proc/kcore`: the pages of the running system by kind, to see what a dump level would leave out.

use collector::{MEMORY_BYTES, collect};
use config::{CollectOptions, Compression, DumpLevel, Format};

use super::Failure;
use super::messages::{Messages, say};
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
             (CONFIG_VMCORE_INFO, CONFIG_CRASH_CORE or CONFIG_KEXEC)",
            path.display()
        )));
    }
    if !options.replace && is_before_4_11(vmcore.release()) {
        return Err(Failure::from(format!(
            "{}: before 4.11 kernels do not say where in memory its segments are; -f believes what {} says all the same",
            path.display(),
            vmcore.release()
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
    // Tabs and widths are makedumpfile's: people's scripts read this.
    say!("\nTYPE\t\tPAGES\t\t\tEXCLUDABLE\tDESCRIPTION");
    say!("{}", "-".repeat(70));
    for (kind, pages, excludable, about) in [
        ("ZERO\t", stats.zero, "yes", "Pages filled with zero"),
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
        ("USER\t", stats.user, "yes", "User process pages"),
        ("FREE\t", stats.free, "yes", "Free pages"),
        ("KERN_DATA", stats.kept, "no", "Dumpable kernel data "),
    ] {
        say!("{kind}\t{pages:<16}\t{excludable}\t\t{about}");
    }
    say!();
    say!("page size:\t\t{:<16}", vmcore.page_size());
    say!("Total pages on system:\t{:<16}", stats.present);
    let bytes = stats.present.saturating_mul(vmcore.page_size() as u64);
    say!("Total size on system:\t{bytes:<16} Byte");
    Ok(())
}

fn is_before_4_11(release: &str) -> bool {
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version < (4, 11)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_4_11_are_known_by_their_release() {
        for release in [
            "2.6.32-754.el6",
            "3.10.0-1160.el7",
            "4.9.0-19-amd64",
            "4.10.17",
        ] {
            assert!(is_before_4_11(release), "{release}");
        }
        for release in ["4.11.0", "4.18.0-553.el8", "6.1.0-56-cloud-amd64", "10.0"] {
            assert!(!is_before_4_11(release), "{release}");
        }
    }
}
