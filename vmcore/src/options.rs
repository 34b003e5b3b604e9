// SPDX-License-Identifier: MIT OR Apache-2.0
//! makedumpfile's command line: words to [`Options`], by getopt_long's rules.
//!
//! Short options may be joined (`-cd31`), a long one's value follows `=` or in the next word, a long name may be cut short
//! while it stays clear, options and files may come in any order, and `--` ends the options.
//!
//! Source: `longopts` and `check_param_*()` in makedumpfile 1.7.9 `makedumpfile.c`; makedumpfile(8).

use std::path::PathBuf;

use config::collect::parse_levels;
use config::{Compression, DumpLevel, Format};
use manual::completion::Shell;

use super::messages::Level;
use super::table::{Kind, Row, TABLE};

/// What the command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) format: Format,
    pub(crate) compression: Compression,
    /// Never empty.
    pub(crate) levels: Vec<DumpLevel>,
    pub(crate) flatten: bool,
    pub(crate) replace: bool,
    pub(crate) vmlinux: Option<PathBuf>,
    pub(crate) vmcoreinfo: Option<PathBuf>,
    pub(crate) messages: Level,
    /// 0 where the option is not given.
    pub(crate) threads: u32,
    pub(crate) split: bool,
    pub(crate) split_block_kib: Option<u64>,
    pub(crate) partial_dmesg: bool,
    pub(crate) size_limit: Option<u64>,
    pub(crate) cyclic_buffer_kib: Option<u64>,
    pub(crate) non_cyclic: bool,
    pub(crate) block_order: u32,
    pub(crate) dry_run: bool,
    pub(crate) check_only: bool,
    pub(crate) show_stats: bool,
    pub(crate) files: Vec<PathBuf>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Dmesg,
    Rearrange,
    Reassemble,
    MemUsage,
    Help,
    Manual,
    Completion(Shell),
    Version,
}

impl Action {
    /// Whether a file comes of it, and not just words.
    pub(crate) const fn makes_a_file(self) -> bool {
        !matches!(self, Self::MemUsage) && !self.is_about_itself()
    }

    /// Whether it says something of the program, whatever else is asked for.
    pub(crate) const fn is_about_itself(self) -> bool {
        matches!(
            self,
            Self::Help | Self::Manual | Self::Completion(_) | Self::Version
        )
    }
}

/// An option as it was given, with its value.
struct Given<'a> {
    row: &'static Row,
    /// As it was written: `-d`, `--num-threads`.
    name: String,
    value: &'a str,
}

/// Reads the command line.
///
/// # Errors
/// What is wrong with it, and what is accepted.
pub(crate) fn parse(words: &[String]) -> Result<(Action, Options), String> {
    let mut options = Options {
        format: Format::Kdump,
        compression: Compression::None,
        levels: vec![DumpLevel::NONE],
        flatten: false,
        replace: false,
        vmlinux: None,
        vmcoreinfo: None,
        messages: Level::DEFAULT,
        threads: 0,
        split: false,
        split_block_kib: None,
        partial_dmesg: false,
        size_limit: None,
        cyclic_buffer_kib: None,
        non_cyclic: false,
        block_order: 0,
        dry_run: false,
        check_only: false,
        show_stats: false,
        files: Vec::new(),
    };
    let (given, files) = split_words(words)?;
    options.files = files;
    let of = |kind: Kind| given.iter().find(|option| option.row.kind == kind);
    let has = |kind: Kind| of(kind).is_some();
    let action = if has(Kind::Help) {
        Action::Help
    } else if has(Kind::Manual) {
        Action::Manual
    } else if let Some(option) = of(Kind::Completion) {
        Action::Completion(Shell::asked_for(option.value)?)
    } else if has(Kind::Version) {
        Action::Version
    } else if has(Kind::Rearrange) {
        Action::Rearrange
    } else if has(Kind::Reassemble) {
        Action::Reassemble
    } else if has(Kind::DumpDmesg) {
        Action::Dmesg
    } else if has(Kind::MemUsage) {
        Action::MemUsage
    } else {
        Action::Create
    };
    if action.is_about_itself() {
        return Ok((action, options));
    }
    for option in &given {
        take(&mut options, option)?;
    }
    if has(Kind::Debug) {
        options.messages = options.messages.with_debug();
    }
    if options.show_stats {
        options.messages = options.messages.with_report();
    }
    check(action, &options, &given)?;
    Ok((action, options))
}

/// Bytes that wait to be written together: what the library's writers gather.
const GATHERED_BYTES: usize = 256 << 10;
/// No machine has smaller pages.
const SMALLEST_PAGE: usize = 4096;

/// Refuses `-b` where more would have to wait than does.
pub(crate) fn check_block(order: u32, page_bytes: usize) -> Result<(), String> {
    if page_bytes << order <= GATHERED_BYTES {
        return Ok(());
    }
    Err(format!(
        "option -b cannot be honoured: 2^{order} pages of {page_bytes} bytes are more than the {} KiB that wait to be \
         written together; leave it out",
        GATHERED_BYTES >> 10
    ))
}

/// One option.
fn take(options: &mut Options, option: &Given<'_>) -> Result<(), String> {
    let (name, value) = (&option.name, option.value);
    match option.row.kind {
        Kind::Compress(compression) => options.compression = compression,
        Kind::Levels => {
            let levels = parse_levels(value).map_err(|error| format!("{name}: {error}"))?;
            options.levels = levels.to_vec();
        }
        Kind::Elf => options.format = Format::Elf,
        Kind::Flatten => options.flatten = true,
        Kind::Replace => options.replace = true,
        Kind::Vmlinux => options.vmlinux = Some(value.into()),
        Kind::Vmcoreinfo => options.vmcoreinfo = Some(value.into()),
        Kind::MessageLevel => {
            let number = number(name, value, 0, 31)?;
            options.messages = Level::new(u8::try_from(number).unwrap_or(31));
        }
        Kind::Threads => {
            let threads = number(name, value, 0, 1024)?;
            options.threads = u32::try_from(threads).unwrap_or(1024);
        }
        Kind::Split => options.split = true,
        Kind::SplitBlock => options.split_block_kib = Some(number(name, value, 1, 1 << 40)?),
        Kind::PartialDmesg => options.partial_dmesg = true,
        Kind::SizeLimit => options.size_limit = Some(size(name, value)?),
        Kind::CyclicBuffer => options.cyclic_buffer_kib = Some(number(name, value, 1, 1 << 32)?),
        Kind::NonCyclic => options.non_cyclic = true,
        Kind::BlockOrder => {
            let order = number(name, value, 0, 11)?;
            options.block_order = u32::try_from(order).unwrap_or(11);
            check_block(options.block_order, SMALLEST_PAGE)?;
        }
        Kind::DryRun => options.dry_run = true,
        Kind::ShowStats => options.show_stats = true,
        Kind::CheckParams => options.check_only = true,
        Kind::Refused(why) => return Err(format!("option {name} cannot be honoured: {why}")),
        Kind::Rearrange
        | Kind::Reassemble
        | Kind::DumpDmesg
        | Kind::MemUsage
        | Kind::NonMmap
        | Kind::WorkDir
        | Kind::Debug
        | Kind::Version
        | Kind::Manual
        | Kind::Completion
        | Kind::Help => {}
    }
    Ok(())
}

/// What does not go together, and the number of files.
fn check(action: Action, options: &Options, given: &[Given<'_>]) -> Result<(), String> {
    let name_of = |kind: fn(Kind) -> bool| {
        given
            .iter()
            .find(|option| kind(option.row.kind))
            .map(|option| option.name.as_str())
    };
    let compress = name_of(|kind| matches!(kind, Kind::Compress(_)));
    let levels = name_of(|kind| kind == Kind::Levels);
    let never = |name: Option<&str>, with: &str| match name {
        Some(name) => Err(format!("{name} cannot be combined with {with}")),
        None => Ok(()),
    };
    let flag = |is_set: bool, name: &'static str| is_set.then_some(name);
    let elf = flag(options.format == Format::Elf, "-E");
    let flatten = flag(options.flatten, "-F");
    let split = flag(options.split, "--split");
    let dry_run = flag(options.dry_run, "--dry-run");
    let vmlinux = flag(options.vmlinux.is_some(), "-x");
    let vmcoreinfo = flag(options.vmcoreinfo.is_some(), "-i");
    let size_limit = flag(options.size_limit.is_some(), "-L");
    let threads = flag(options.threads > 0, "--num-threads");
    let stats = flag(options.show_stats, "--show-stats");
    if options.partial_dmesg && action != Action::Dmesg {
        return Err("--partial-dmesg goes with --dump-dmesg".to_owned());
    }
    if options.split_block_kib.is_some() && !options.split {
        return Err("--splitblock-size goes with --split".to_owned());
    }
    let files = options.files.len();
    let wanted = match action {
        Action::Rearrange | Action::Reassemble => {
            let with = if action == Action::Rearrange {
                "-R"
            } else {
                "--reassemble"
            };
            for name in [
                compress, levels, elf, flatten, split, dry_run, vmlinux, vmcoreinfo, size_limit,
                threads, stats,
            ] {
                never(name, with)?;
            }
            if action == Action::Rearrange {
                (files == 1 || options.check_only, "-R OUT < FLATTENED")
            } else {
                (
                    files >= 3 || options.check_only,
                    "--reassemble PART PART... OUT",
                )
            }
        }
        Action::Dmesg => {
            never(split, "--dump-dmesg")?;
            never(dry_run, "--dump-dmesg")?;
            never(size_limit, "--dump-dmesg")?;
            never(stats, "--dump-dmesg")?;
            if options.flatten {
                (files == 1, "--dump-dmesg -F VMCORE")
            } else {
                (files == 2, "--dump-dmesg VMCORE OUT")
            }
        }
        Action::MemUsage => {
            for name in [
                compress, levels, elf, flatten, split, dry_run, size_limit, threads,
            ] {
                never(
                    name,
                    "--mem-usage: nothing is written, and every kind is counted",
                )?;
            }
            (files == 1, "--mem-usage /proc/kcore")
        }
        _ => {
            if options.format == Format::Elf {
                never(compress, "-E: ELF is not compressed")?;
                never(split, "-E")?;
                never(threads, "-E: nothing is compressed")?;
            }
            if options.split {
                never(flatten, "--split")?;
                never(threads, "--split: each part is written by its own thread")?;
                never(size_limit, "--split")?;
                (files >= 3, "--split VMCORE OUT OUT...")
            } else if options.flatten {
                (files == 1, "-F VMCORE")
            } else {
                (files == 2, "VMCORE OUT")
            }
        }
    };
    if options.vmlinux.is_some() && options.vmcoreinfo.is_some() {
        return Err("-x cannot be combined with -i".to_owned());
    }
    if options.non_cyclic && options.cyclic_buffer_kib.is_some() {
        return Err("--non-cyclic cannot be combined with --cyclic-buffer".to_owned());
    }
    match wanted {
        (true, _) => Ok(()),
        (false, usage) => Err(format!("{files} files are given, and wanted is: {usage}")),
    }
}

/// Splits the words into options with their values, and files.
fn split_words(words: &[String]) -> Result<(Vec<Given<'_>>, Vec<PathBuf>), String> {
    let (mut given, mut files) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            files.extend(words.by_ref().map(PathBuf::from));
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, attached) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            let row = find_long(name)?;
            let name = format!("--{}", row.long.unwrap_or_default());
            let value = match (row.value, attached) {
                (None, Some(_)) => return Err(format!("option {name} takes no value")),
                (None, None) => "",
                (Some(_), Some(value)) => value,
                (Some(what), None) => words
                    .next()
                    .ok_or_else(|| format!("option {name} needs a value: {name} {what}"))?,
            };
            given.push(Given { row, name, value });
        } else if let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
            for (position, letter) in letters.char_indices() {
                let name = format!("-{letter}");
                let row = TABLE
                    .iter()
                    .find(|row| row.short == Some(letter))
                    .ok_or_else(|| format!("option {name} is not known"))?;
                let Some(what) = row.value else {
                    given.push(Given {
                        row,
                        name,
                        value: "",
                    });
                    continue;
                };
                let rest = letters.get(position + letter.len_utf8()..).unwrap_or("");
                let value = if rest.is_empty() {
                    words
                        .next()
                        .ok_or_else(|| format!("option {name} needs a value: {name} {what}"))?
                } else {
                    rest
                };
                given.push(Given { row, name, value });
                break;
            }
        } else {
            files.push(PathBuf::from(word));
        }
    }
    Ok((given, files))
}

/// The row of a long option, whose name may be cut short while only one begins so.
fn find_long(name: &str) -> Result<&'static Row, String> {
    let long = |row: &Row| row.long.unwrap_or_default();
    if let Some(row) = TABLE.iter().find(|row| row.long == Some(name)) {
        return Ok(row);
    }
    let rows: Vec<&Row> = TABLE
        .iter()
        .filter(|row| !name.is_empty() && long(row).starts_with(name))
        .collect();
    match rows[..] {
        [row] => Ok(row),
        [] => Err(format!("option --{name} is not known")),
        _ => {
            let names: Vec<String> = rows.iter().map(|row| format!("--{}", long(row))).collect();
            Err(format!(
                "option --{name} may be any of {}",
                names.join(", ")
            ))
        }
    }
}

fn number(name: &str, text: &str, least: u64, most: u64) -> Result<u64, String> {
    text.parse::<u64>()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("{name}: `{text}` is not a number from {least} to {most}"))
}

/// A number of bytes, as the kernel's `memparse()` takes it but for `E`.
fn size(name: &str, text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "{name}: `{text}` is not a size; accepted are bytes, and K, M, G or T behind the number"
        )
    };
    let (digits, shift) = match text.char_indices().last() {
        Some((at, letter)) if letter.is_ascii_alphabetic() => {
            let shift = match letter.to_ascii_uppercase() {
                'K' => 10,
                'M' => 20,
                'G' => 30,
                'T' => 40,
                _ => return Err(wrong()),
            };
            (text.get(..at).unwrap_or(""), shift)
        }
        _ => (text, 0),
    };
    let number = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    number
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|&bytes| bytes > 0)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<(Action, Options), String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(&words)
    }

    fn options(line: &str) -> Options {
        parse_line(line).unwrap().1
    }

    #[test]
    fn short_options_may_be_joined_and_files_stand_between() {
        let options = options("-cd31 /proc/vmcore -f dump --message-level=1");
        assert_eq!(options.compression, Compression::Zlib);
        assert_eq!(options.levels, [DumpLevel::MAX]);
        assert!(options.replace);
        assert_eq!(
            options.files,
            [PathBuf::from("/proc/vmcore"), "dump".into()]
        );
        assert_eq!(options.messages, Level::new(1));
    }

    #[test]
    fn the_last_codec_wins_and_levels_may_be_listed() {
        let options = options("-l -z -d 1,31 a b");
        assert_eq!(options.compression, Compression::Zstd);
        let levels: Vec<u8> = options.levels.iter().map(|level| level.number()).collect();
        assert_eq!(levels, [1, 31]);
    }

    #[test]
    fn long_names_may_be_cut_short_while_they_are_clear() {
        assert_eq!(options("--num 4 a b").threads, 4);
        assert!(parse_line("--non a b").unwrap_err().contains("--non-mmap"));
        assert!(
            parse_line("--nonsense a b")
                .unwrap_err()
                .contains("--nonsense")
        );
    }

    #[test]
    fn a_size_may_have_a_unit() {
        assert_eq!(options("-L 5M a b").size_limit, Some(5 << 20));
        assert_eq!(options("-L4096 a b").size_limit, Some(4096));
        for wrong in ["-L 0 a b", "-L 5Q a b", "-L M a b", "-L 99999999T a b"] {
            assert!(parse_line(wrong).unwrap_err().contains("-L"), "{wrong}");
        }
    }

    #[test]
    fn actions_follow_from_the_options() {
        for (line, action) in [
            ("a b", Action::Create),
            ("-F a", Action::Create),
            ("--split a b c", Action::Create),
            ("--dump-dmesg a b", Action::Dmesg),
            ("--dump-dmesg --partial-dmesg -F a", Action::Dmesg),
            ("-R out", Action::Rearrange),
            ("--reassemble a b out", Action::Reassemble),
            ("--mem-usage /proc/kcore", Action::MemUsage),
            ("-h", Action::Help),
            ("-v -x vmlinux", Action::Version),
        ] {
            assert_eq!(parse_line(line).unwrap().0, action, "{line}");
        }
    }

    #[test]
    fn what_holds_with_and_without_an_option_is_not_refused() {
        // The folder may be one of the capture kernel alone.
        assert!(parse_line("--work-dir /nonexistent/dir --non-mmap -b 6 a b").is_ok());
        assert!(check_block(6, 4096).is_ok());
        assert!(check_block(3, 65536).is_err());
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (line, part) in [
            ("-q a b", "-q"),
            ("-d 32 a b", "`32`"),
            ("-c a", "1 files"),
            ("-c a b -d", "-d needs"),
            ("-c -E a b", "-c cannot be combined with -E"),
            ("-F --split a b c", "-F"),
            ("--partial-dmesg a b", "--dump-dmesg"),
            ("--dry-run --dump-dmesg a b", "--dry-run"),
            ("-e a b", "-e cannot be honoured"),
            ("--config=f a b", "--config cannot be honoured"),
            ("--num-threads 2 --split a b c", "--num-threads"),
            ("--num-threads x a b", "`x`"),
            ("--message-level 32 a b", "`32`"),
            ("--non-mmap=1 a b", "takes no value"),
            ("-x k -i j a b", "-x"),
            ("-R a b", "2 files"),
            ("-c -R a", "-c"),
            ("--reassemble a b", "2 files"),
            ("-b 12 a b", "`12`"),
            ("-b 7 a b", "-b cannot be honoured"),
            (
                "--mem-usage -d 1 /proc/kcore",
                "-d cannot be combined with --mem-usage",
            ),
            ("--show-stats -R a", "--show-stats"),
        ] {
            let message = parse_line(line).unwrap_err();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
