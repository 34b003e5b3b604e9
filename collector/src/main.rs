// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host command `vmcore`: the collector over plain files.

use std::env;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use collector::{
    CollectError, IoError, MEMORY_BYTES, Means, OPEN_BYTES, Observer, Progress, Sink, Source,
    Stage, Stats, Vmcore, Workers, collect_with, dmesg,
};
use config::{CollectOptions, Compression, Format};

mod threads;

use threads::Threads;

const USAGE: &str = "\
usage: vmcore [-c|-l|-p] [-d LEVEL[,LEVEL...]] [--num-threads N] [-f] VMCORE OUT   write a kdump-compressed file
       vmcore --dump-dmesg [-f] VMCORE OUT                                          write the crashed kernel's log
       vmcore info VMCORE                                                           say what VMCORE is

  -c -l -p   compress each page: with zlib, LZO, snappy
  -d LEVEL   leave pages out: the sum of 1 zero, 2 cache, 4 cache with private data, 8 user, 16 free;
             with several levels the next one is tried when OUT's file system is full
  -f         replace OUT when it exists
  --num-threads N
             compress with N threads besides the one that reads and writes; OUT is the same
";

/// A bound against mistakes; each thread takes about 1 MiB.
const MAX_THREADS: usize = 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = match env::args_os()
        .skip(1)
        .map(|argument| argument.into_string())
        .collect()
    {
        Ok(arguments) => arguments,
        Err(argument) => {
            eprintln!("vmcore: an argument is not UTF-8: {}", argument.display());
            return ExitCode::FAILURE;
        }
    };
    let done = match parse(&arguments) {
        Ok(Command::Help) => {
            print!("{USAGE}");
            Ok(())
        }
        Ok(Command::Info { vmcore }) => info(&vmcore),
        Ok(Command::Dmesg {
            vmcore,
            out,
            replace,
        }) => dump_dmesg(&vmcore, &out, replace),
        Ok(Command::Collect {
            options,
            threads,
            vmcore,
            out,
            replace,
        }) => collect_levels(&options, threads, &vmcore, &out, replace),
        Err(message) => Err(format!("{message}\n{USAGE}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("vmcore: {}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug)]
enum Command {
    Help,
    Info {
        vmcore: PathBuf,
    },
    Dmesg {
        vmcore: PathBuf,
        out: PathBuf,
        replace: bool,
    },
    Collect {
        options: CollectOptions,
        /// Below 2, the thread that reads and writes compresses too.
        threads: usize,
        vmcore: PathBuf,
        out: PathBuf,
        replace: bool,
    },
}

fn parse(arguments: &[String]) -> Result<Command, String> {
    if let [word, rest @ ..] = arguments
        && word == "info"
    {
        return match rest {
            [vmcore] => Ok(Command::Info {
                vmcore: vmcore.into(),
            }),
            _ => Err("info takes one file".to_owned()),
        };
    }
    let mut compression = Compression::None;
    let mut levels = config::collect::parse_levels("0").map_err(|error| error.to_string())?;
    let (mut only_dmesg, mut replace) = (false, false);
    let mut threads = 0;
    let mut files = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-h" | "--help" => return Ok(Command::Help),
            "-c" => compression = Compression::Zlib,
            "-l" => compression = Compression::Lzo,
            "-p" => compression = Compression::Snappy,
            "-f" => replace = true,
            "--dump-dmesg" => only_dmesg = true,
            "--num-threads" => {
                let value = words.next().ok_or("--num-threads needs a number")?;
                threads = value
                    .parse()
                    .ok()
                    .filter(|&threads| threads <= MAX_THREADS)
                    .ok_or_else(|| {
                        format!("--num-threads {value}: 0 to {MAX_THREADS} can be had")
                    })?;
            }
            "-d" => {
                let value = words.next().ok_or("-d needs a dump level")?;
                levels = config::collect::parse_levels(value).map_err(|error| error.to_string())?;
            }
            other => match other.strip_prefix("-d") {
                Some(value) if !value.is_empty() => {
                    levels =
                        config::collect::parse_levels(value).map_err(|error| error.to_string())?;
                }
                _ if other.starts_with('-') => {
                    return Err(format!("option `{other}` is not known"));
                }
                _ => files.push(PathBuf::from(other)),
            },
        }
    }
    let [vmcore, out] = <[PathBuf; 2]>::try_from(files)
        .map_err(|files| format!("two files are needed, and {} are given", files.len()))?;
    Ok(if only_dmesg {
        Command::Dmesg {
            vmcore,
            out,
            replace,
        }
    } else {
        Command::Collect {
            options: CollectOptions {
                format: Format::Kdump,
                compression,
                levels,
            },
            threads,
            vmcore,
            out,
            replace,
        }
    })
}

fn info(path: &Path) -> Result<(), String> {
    let mut memory = vec![0; OPEN_BYTES];
    let mut vmcore = open(path, &mut memory)?;
    let or_unknown = |text: &str| {
        if text.is_empty() {
            "(unknown)".to_owned()
        } else {
            text.to_owned()
        }
    };
    println!("kernel         {}", or_unknown(vmcore.release()));
    println!(
        "machine        {}",
        or_unknown(vmcore.machine_name().unwrap_or(""))
    );
    match vmcore.crash_time_s() {
        Some(seconds) => println!("crash time     {seconds} s since 1970"),
        None => println!("crash time     (none: not the vmcore of a panic)"),
    }
    println!("file           {} bytes", vmcore.size_bytes());
    println!("page size      {} bytes", vmcore.page_size());
    println!("present pages  {}", vmcore.present_pages());
    println!("highest pfn    {:#x}", vmcore.max_mapnr().saturating_sub(1));
    println!("processors     {}", vmcore.cpu_count());
    println!("VMCOREINFO     {} bytes", vmcore.vmcoreinfo().text().len());
    let mut memory = vec![0; MEMORY_BYTES];
    match dmesg::write(&mut vmcore, &mut memory, &mut |_| Ok(())) {
        Ok(log) => {
            println!(
                "log            {} records, {} bytes",
                log.records, log.bytes
            );
            println!("stopped by     {}", or_unknown(&log.panic_line));
        }
        Err(error) => println!("log            {error}"),
    }
    Ok(())
}

fn dump_dmesg(path: &Path, out: &Path, replace: bool) -> Result<(), String> {
    let mut memory = vec![0; OPEN_BYTES];
    let mut vmcore = open(path, &mut memory)?;
    let mut file = create(out, replace)?;
    let mut memory = vec![0; MEMORY_BYTES];
    let summary = dmesg::write(&mut vmcore, &mut memory, &mut |text| {
        file.write_all(text).map_err(|error| io_error(&error))
    })
    .map_err(|error| format!("{}: {error}", path.display()))?;
    println!(
        "{}: {} records, {} bytes",
        out.display(),
        summary.records,
        summary.bytes
    );
    Ok(())
}

fn collect_levels(
    options: &CollectOptions,
    threads: usize,
    path: &Path,
    out: &Path,
    replace: bool,
) -> Result<(), String> {
    let mut memory = vec![0; OPEN_BYTES];
    let mut vmcore = open(path, &mut memory)?;
    let mut sink = FileSink(create(out, replace)?);
    let mut memory = vec![0; MEMORY_BYTES];
    let mut threads = match threads {
        0 | 1 => None,
        count => Some(Threads::start(count, options.compression)?),
    };
    let mut levels = options.levels.iter().copied().peekable();
    while let Some(level) = levels.next() {
        let started = Instant::now();
        let mut console = Console::new();
        let means = Means {
            workers: threads.as_mut().map(|threads| threads as &mut dyn Workers),
            ..Means::new(&mut memory)
        };
        let result = collect_with(&mut vmcore, options, level, means, &mut sink, &mut console);
        console.finish();
        match result {
            Ok(stats) => {
                println!("{}", Report(out, &stats, started.elapsed()));
                return Ok(());
            }
            Err(CollectError::Sink(_, IoError::NO_SPACE)) if levels.peek().is_some() => {
                eprintln!("vmcore: {} is full at level {level}", out.display());
                sink.0
                    .set_len(0)
                    .map_err(|error| format!("{}: {error}", out.display()))?;
            }
            Err(error) => {
                return Err(format!(
                    "saving {} to {}: {error}",
                    path.display(),
                    out.display()
                ));
            }
        }
    }
    Err("no dump level is left to be tried".to_owned())
}

/// The last line: pages by kind, bytes, time.
struct Report<'a>(&'a Path, &'a Stats, Duration);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(out, stats, elapsed) = self;
        write!(
            f,
            "{}: level {}, {} pages: {} kept",
            out.display(),
            stats.level_used,
            stats.present,
            stats.kept
        )?;
        for (count, name) in [
            (stats.zero, "zero"),
            (stats.cache, "cache"),
            (stats.cache_private, "cache with private data"),
            (stats.user, "user"),
            (stats.free, "free"),
            (stats.hwpoison, "hwpoison"),
            (stats.offline, "offline"),
        ] {
            if count > 0 {
                write!(f, ", {count} {name}")?;
            }
        }
        if stats.unreadable > 0 {
            write!(f, " ({} unreadable)", stats.unreadable)?;
        }
        write!(
            f,
            "; {} bytes in {:.1} s",
            stats.written_bytes,
            elapsed.as_secs_f64()
        )
    }
}

fn open<'m>(path: &Path, memory: &'m mut [u8]) -> Result<Vmcore<'m, FileSource>, String> {
    let in_path = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| in_path(&error))?;
    let size_bytes = file.metadata().map_err(|error| in_path(&error))?.len();
    Vmcore::open(FileSource { file, size_bytes }, memory).map_err(|error| in_path(&error))
}

/// Only for the owner's eyes: a dump has everybody's secrets.
fn create(path: &Path, replace: bool) -> Result<File, String> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .create_new(!replace)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("{} exists; -f replaces it", path.display())
            }
            _ => format!("{}: {error}", path.display()),
        })
}

fn io_error(error: &io::Error) -> IoError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => IoError::END,
        _ => error.raw_os_error().map_or(IoError::IO, IoError),
    }
}

struct FileSource {
    file: File,
    size_bytes: u64,
}

impl Source for FileSource {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(|error| io_error(&error))
    }
}

struct FileSink(File);

impl Sink for FileSink {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        self.0
            .write_all_at(data, offset)
            .map_err(|error| io_error(&error))
    }

    fn sync(&mut self) -> Result<(), IoError> {
        self.0.sync_all().map_err(|error| io_error(&error))
    }
}

/// Warnings as lines; progress only on a terminal, a few times a second.
struct Console {
    last: Option<Instant>,
    is_terminal: bool,
}

impl Console {
    fn new() -> Self {
        Self {
            last: None,
            is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Ends the progress line.
    fn finish(&mut self) {
        if self.last.take().is_some() {
            eprintln!();
        }
    }
}

impl Observer for Console {
    fn progress(&mut self, progress: Progress) {
        let now = Instant::now();
        let is_due = self
            .last
            .is_none_or(|last| now.duration_since(last) >= Duration::from_millis(200));
        if !self.is_terminal || !is_due {
            return;
        }
        self.last = Some(now);
        let stage = match progress.stage {
            Stage::Classify => "looking at pages",
            Stage::Copy => "copying",
            Stage::Sync => "syncing",
        };
        let percent = progress.done_pages.saturating_mul(100) / progress.total_pages.max(1);
        eprint!(
            "\r{stage}: {percent} %, {} of {} pages, {} bytes written   ",
            progress.done_pages, progress.total_pages, progress.written_bytes
        );
    }

    fn warn(&mut self, message: fmt::Arguments<'_>) {
        self.finish();
        eprintln!("vmcore: {message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::DumpLevel;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_usual_command_line_parses() {
        let command = parse(&words("-c -d 31 /proc/vmcore dump")).unwrap();
        let Command::Collect { options, out, .. } = command else {
            panic!("{command:?}");
        };
        assert_eq!(options, CollectOptions::standard());
        assert_eq!(out, Path::new("dump"));
        let command = parse(&words("--dump-dmesg -f a b")).unwrap();
        assert!(matches!(command, Command::Dmesg { replace: true, .. }));
        assert!(matches!(
            parse(&words("info a")).unwrap(),
            Command::Info { .. }
        ));
    }

    #[test]
    fn wrong_words_are_named() {
        for (line, part) in [
            ("-q a b", "`-q`"),
            ("-d 32 a b", "`32`"),
            ("-c a", "1 are given"),
            ("info", "one file"),
            ("--num-threads x a b", "--num-threads x"),
            ("-c a b -d", "-d needs"),
        ] {
            let message = parse(&words(line)).unwrap_err();
            assert!(message.contains(part), "{line}: {message}");
        }
    }

    #[test]
    fn levels_may_be_joined_to_their_option_and_listed() {
        let Command::Collect { options, .. } = parse(&words("-d1,31 a b")).unwrap() else {
            panic!();
        };
        let levels: Vec<u8> = options.levels.iter().map(|level| level.number()).collect();
        assert_eq!(levels, [1, 31]);
        assert_eq!(options.first_level(), DumpLevel::new(1).unwrap());
    }
}
