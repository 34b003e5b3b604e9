// SPDX-License-Identifier: MIT OR Apache-2.0
//! How pages are chosen and written: the `core_collector` line, as values.

use core::fmt;
use heapless::Vec;

/// Which page kinds to leave out: makedumpfile's dump level, 0 to 31.
///
/// Bits: 1 zero pages, 2 cache, 4 cache with private data (implies 2), 8 user, 16 free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DumpLevel(u8);

impl DumpLevel {
    /// Leave out nothing.
    pub const NONE: Self = Self(0);
    /// Leave out everything that can be left out.
    pub const MAX: Self = Self(31);

    /// The level of this number, which is at most 31.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number <= 31 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number, 0 to 31.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Zero pages are left out.
    #[must_use]
    pub const fn excludes_zero(self) -> bool {
        self.0 & 1 != 0
    }

    /// Cache pages without private data are left out.
    #[must_use]
    pub const fn excludes_cache(self) -> bool {
        self.0 & (2 | 4) != 0
    }

    /// Cache pages with private data are left out.
    #[must_use]
    pub const fn excludes_cache_private(self) -> bool {
        self.0 & 4 != 0
    }

    /// Pages of user processes are left out.
    #[must_use]
    pub const fn excludes_user(self) -> bool {
        self.0 & 8 != 0
    }

    /// Free pages are left out.
    #[must_use]
    pub const fn excludes_free(self) -> bool {
        self.0 & 16 != 0
    }

    /// Only the rule for zero pages, which needs no knowledge of the kernel.
    #[must_use]
    pub const fn zero_rule_only(self) -> Self {
        Self(self.0 & 1)
    }
}

impl fmt::Display for DumpLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How each page is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Pages are stored as they are.
    None,
    /// RFC 1950, makedumpfile's `-c`.
    Zlib,
    /// makedumpfile's `-l`.
    Lzo,
    /// makedumpfile's `-p`.
    Snappy,
    /// makedumpfile's `-z`.
    Zstd,
}

impl Compression {
    /// Every compression.
    pub const ALL: [Self; 5] = [Self::None, Self::Zlib, Self::Lzo, Self::Snappy, Self::Zstd];

    /// Its name in the record, the log and the manifest.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zlib => "zlib",
            Self::Lzo => "lzo",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        }
    }

    /// The compression that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|compression| compression.word() == word)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The shape of the dumpfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The kdump-compressed format, version 6.
    Kdump,
    /// ELF with the excluded pages left out: makedumpfile's `-E`.
    Elf,
    /// The vmcore byte by byte: `cp`, `dd`, `scp`.
    Copy,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Kdump, Self::Elf, Self::Copy];

    /// Its name in the record, the log and the manifest.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kdump => "kdump",
            Self::Elf => "elf",
            Self::Copy => "copy",
        }
    }

    /// The format that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.word() == word)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The most dump levels that one line may list.
pub const MAX_LEVELS: usize = 8;

/// What a `core_collector` line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectOptions {
    /// The shape of the dumpfile.
    pub format: Format,
    /// How its pages are compressed; `None` for `elf` and `copy`.
    pub compression: Compression,
    /// The dump levels in the order to be tried, the next one when the target is full. Never empty; `[0]` for `copy`.
    pub levels: Vec<DumpLevel, MAX_LEVELS>,
}

impl CollectOptions {
    /// What holds when the configuration has no `core_collector`: `makedumpfile -c -d 31`.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            format: Format::Kdump,
            compression: Compression::Zlib,
            levels: one_level(DumpLevel::MAX),
        }
    }

    /// The vmcore byte by byte.
    #[must_use]
    pub fn copy() -> Self {
        Self {
            format: Format::Copy,
            compression: Compression::None,
            levels: one_level(DumpLevel::NONE),
        }
    }

    /// The first level to be tried.
    #[must_use]
    pub fn first_level(&self) -> DumpLevel {
        self.levels.first().copied().unwrap_or(DumpLevel::NONE)
    }

    /// Parses the value of a `core_collector` line: `makedumpfile -l --message-level 7 -d 31`, `cp`, `dd`, `scp`.
    ///
    /// `-F` is taken and has no effect: whether a dump is flattened follows from the target. `--message-level`,
    /// `--num-threads`, `--cyclic-buffer`, `--non-cyclic` and `--non-mmap` tune makedumpfile's run and not its result;
    /// they are checked and otherwise taken likewise. `cp`, `dd` and `scp` may have any arguments.
    ///
    /// # Errors
    /// The word that is wrong and what is accepted in its place.
    ///
    /// Source: makedumpfile 1.7.9 `makedumpfile.8.in`.
    pub fn parse_core_collector(line: &str) -> Result<Self, CollectorLineError<'_>> {
        let mut words = line.split_ascii_whitespace();
        let program = words.next().ok_or(CollectorLineError {
            word: "",
            problem: Problem::NoProgram,
        })?;
        match program.rsplit('/').next().unwrap_or(program) {
            "cp" | "dd" | "scp" => Ok(Self::copy()),
            "makedumpfile" => Self::parse_makedumpfile(words),
            _ => Err(CollectorLineError {
                word: program,
                problem: Problem::UnknownProgram,
            }),
        }
    }

    fn parse_makedumpfile<'a>(
        mut words: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Self, CollectorLineError<'a>> {
        let mut format = Format::Kdump;
        let mut compression = Compression::None;
        let mut levels = one_level(DumpLevel::NONE);
        let mut first_codec = None;
        while let Some(word) = words.next() {
            if let Some((name, attached)) = long_option(word) {
                let checked = match name {
                    "--message-level" => Some(31),
                    "--num-threads" | "--cyclic-buffer" => Some(u32::MAX),
                    "--non-cyclic" | "--non-mmap" | "--show-stats" => None,
                    _ => {
                        return Err(CollectorLineError {
                            word,
                            problem: Problem::UnknownOption,
                        });
                    }
                };
                match (checked, attached) {
                    (None, None) => {}
                    (None, Some(_)) => {
                        return Err(CollectorLineError {
                            word,
                            problem: Problem::UnexpectedValue,
                        });
                    }
                    (Some(most), attached) => {
                        let value = match attached {
                            Some(value) => value,
                            None => words.next().ok_or(CollectorLineError {
                                word,
                                problem: Problem::ValueMissing,
                            })?,
                        };
                        if value
                            .parse::<u32>()
                            .ok()
                            .filter(|&number| number <= most)
                            .is_none()
                        {
                            return Err(CollectorLineError {
                                word: value,
                                problem: Problem::NotANumber,
                            });
                        }
                    }
                }
                continue;
            }
            let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                return Err(CollectorLineError {
                    word,
                    problem: Problem::Operand,
                });
            };
            // getopt's grammar: letters may be joined, and `d` takes the rest of its word or else the next word.
            for (position, letter) in letters.char_indices() {
                match letter {
                    'c' | 'l' | 'p' | 'z' => {
                        compression = match letter {
                            'c' => Compression::Zlib,
                            'l' => Compression::Lzo,
                            'p' => Compression::Snappy,
                            _ => Compression::Zstd,
                        };
                        first_codec = first_codec.or(Some(word));
                    }
                    'E' => format = Format::Elf,
                    'F' | 'f' => {}
                    'd' => {
                        let rest = letters.get(position + 1..).unwrap_or("");
                        let value = if rest.is_empty() {
                            words.next().ok_or(CollectorLineError {
                                word,
                                problem: Problem::ValueMissing,
                            })?
                        } else {
                            rest
                        };
                        levels = parse_levels(value)?;
                        break;
                    }
                    _ => {
                        return Err(CollectorLineError {
                            word,
                            problem: Problem::UnknownOption,
                        });
                    }
                }
            }
        }
        if let (Format::Elf, Some(word)) = (format, first_codec) {
            return Err(CollectorLineError {
                word,
                problem: Problem::CompressedElf,
            });
        }
        Ok(Self {
            format,
            compression,
            levels,
        })
    }
}

/// `--name` or `--name=value`; other words are none.
fn long_option(word: &str) -> Option<(&str, Option<&str>)> {
    if !word.starts_with("--") {
        return None;
    }
    match word.split_once('=') {
        Some((name, value)) => Some((name, Some(value))),
        None => Some((word, None)),
    }
}

fn one_level(level: DumpLevel) -> Vec<DumpLevel, MAX_LEVELS> {
    let mut levels = Vec::new();
    // A fresh vector has room for one.
    let _ = levels.push(level);
    levels
}

/// Parses makedumpfile's `-d` value: one level, or several with commas between.
///
/// # Errors
/// The part that is no level from 0 to 31, or the whole when it lists too many.
pub fn parse_levels(text: &str) -> Result<Vec<DumpLevel, MAX_LEVELS>, CollectorLineError<'_>> {
    let mut levels = Vec::new();
    for part in text.split(',') {
        let level = part
            .parse::<u8>()
            .ok()
            .and_then(DumpLevel::new)
            .ok_or(CollectorLineError {
                word: part,
                problem: Problem::NotALevel,
            })?;
        levels.push(level).map_err(|_| CollectorLineError {
            word: text,
            problem: Problem::TooManyLevels,
        })?;
    }
    Ok(levels)
}

/// What is wrong with a `core_collector` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectorLineError<'a> {
    /// The word that cannot be taken.
    pub word: &'a str,
    /// Why.
    pub problem: Problem,
}

/// Why a word of a `core_collector` line cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The line is empty.
    NoProgram,
    /// Not a program that is built in.
    UnknownProgram,
    /// Not an option that can be honoured.
    UnknownOption,
    /// The option's value is missing.
    ValueMissing,
    /// The option takes no value.
    UnexpectedValue,
    /// The option's value is no number in its range.
    NotANumber,
    /// Not a dump level.
    NotALevel,
    /// More levels than can be listed.
    TooManyLevels,
    /// A word that is no option: the input and the output are added by kdumprd.
    Operand,
    /// `-E` with a compression.
    CompressedElf,
}

impl fmt::Display for CollectorLineError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word;
        match self.problem {
            Problem::NoProgram => {
                f.write_str("no program; accepted are makedumpfile with options, cp, dd and scp")
            }
            Problem::UnknownProgram => {
                write!(
                    f,
                    "`{word}` is not built in; accepted are makedumpfile with options, cp, dd and scp"
                )
            }
            Problem::UnknownOption => write!(
                f,
                "option `{word}` cannot be honoured; accepted are -c -l -p -z -d LEVEL[,LEVEL] -E -F -f --message-level N \
                 --num-threads N --cyclic-buffer KB --non-cyclic --non-mmap --show-stats"
            ),
            Problem::ValueMissing => write!(f, "option `{word}` needs a value"),
            Problem::UnexpectedValue => write!(f, "option `{word}` takes no value"),
            Problem::NotANumber => write!(f, "`{word}` is not a number in the option's range"),
            Problem::NotALevel => write!(
                f,
                "`{word}` is not a dump level; accepted are 0 to 31, with commas between"
            ),
            Problem::TooManyLevels => {
                write!(f, "`{word}` lists more than {MAX_LEVELS} dump levels")
            }
            Problem::Operand => write!(
                f,
                "`{word}` is no option; the input and output files are added by kdumprd"
            ),
            Problem::CompressedElf => write!(
                f,
                "option `{word}` cannot be combined with -E: ELF is not compressed"
            ),
        }
    }
}

impl core::error::Error for CollectorLineError<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(line: &str) -> std::vec::Vec<u8> {
        let options = CollectOptions::parse_core_collector(line).unwrap();
        options.levels.iter().map(|level| level.number()).collect()
    }

    fn problem(line: &str) -> (Problem, &str) {
        let error = CollectOptions::parse_core_collector(line).unwrap_err();
        (error.problem, error.word)
    }

    #[test]
    fn the_distributions_defaults_parse() {
        let options =
            CollectOptions::parse_core_collector("makedumpfile -l --message-level 7 -d 31")
                .unwrap();
        assert_eq!(
            (options.format, options.compression),
            (Format::Kdump, Compression::Lzo)
        );
        assert_eq!(options.first_level(), DumpLevel::MAX);
        let options = CollectOptions::parse_core_collector("makedumpfile -c -d 31").unwrap();
        assert_eq!(options, CollectOptions::standard());
    }

    #[test]
    fn options_may_be_joined_and_levels_listed() {
        assert_eq!(levels("makedumpfile -cFd1,31"), [1, 31]);
        assert_eq!(
            levels("/usr/sbin/makedumpfile -d 17 --num-threads=4 -z"),
            [17]
        );
        assert_eq!(levels("makedumpfile -c"), [0]);
    }

    #[test]
    fn a_later_codec_wins_as_in_makedumpfile() {
        let options = CollectOptions::parse_core_collector("makedumpfile -c -l -d 31").unwrap();
        assert_eq!(options.compression, Compression::Lzo);
    }

    #[test]
    fn copies_are_unfiltered() {
        for line in ["cp", "dd bs=1M", "cp --sparse=always", "scp"] {
            assert_eq!(
                CollectOptions::parse_core_collector(line).unwrap(),
                CollectOptions::copy(),
                "{line}"
            );
        }
    }

    #[test]
    fn wrong_words_are_named() {
        assert_eq!(problem(""), (Problem::NoProgram, ""));
        assert_eq!(
            problem("makedmpfile -c"),
            (Problem::UnknownProgram, "makedmpfile")
        );
        assert_eq!(problem("makedumpfile -c -d 32"), (Problem::NotALevel, "32"));
        assert_eq!(problem("makedumpfile -d"), (Problem::ValueMissing, "-d"));
        assert_eq!(problem("makedumpfile -d 1,"), (Problem::NotALevel, ""));
        assert_eq!(problem("makedumpfile -cX"), (Problem::UnknownOption, "-cX"));
        assert_eq!(
            problem("makedumpfile --eppic a.c"),
            (Problem::UnknownOption, "--eppic")
        );
        assert_eq!(
            problem("makedumpfile --message-level=99"),
            (Problem::NotANumber, "99")
        );
        assert_eq!(
            problem("makedumpfile --non-mmap=1"),
            (Problem::UnexpectedValue, "--non-mmap=1")
        );
        assert_eq!(
            problem("makedumpfile -c /proc/vmcore"),
            (Problem::Operand, "/proc/vmcore")
        );
        assert_eq!(
            problem("makedumpfile -c -E"),
            (Problem::CompressedElf, "-c")
        );
        assert_eq!(
            problem("makedumpfile -d 1,1,1,1,1,1,1,1,1").0,
            Problem::TooManyLevels
        );
    }

    #[test]
    fn level_4_implies_the_plain_cache_rule() {
        let level = DumpLevel::new(4).unwrap();
        assert!(level.excludes_cache() && level.excludes_cache_private() && !level.excludes_zero());
        assert_eq!(DumpLevel::new(32), None);
        assert_eq!(DumpLevel::MAX.zero_rule_only().number(), 1);
    }
}
