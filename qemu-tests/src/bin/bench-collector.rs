// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo bench-collector`: `vmcore` beside makedumpfile, on the same vmcores, in turns.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use qemu_tests::artifacts;
use qemu_tests::case::Case;
use qemu_tests::disk::Ext;
use qemu_tests::machine::{Content, DiskPlan};
use qemu_tests::report;
use qemu_tests::run::stdout;
use qemu_tests::setup::{self, Flavour};
use wait4::Wait4 as _;

const HELP: &str = "\
Usage: cargo bench-collector [--runs N] [--levels 31,1,0] [--threads 1,2] [--codecs none,zlib,lzo,snappy,zstd,elf]
                             [--scratch DIR] [--write] [VMCORE...]

Runs makedumpfile and our `vmcore` in turns, N times (3) each, on ELF vmcores in the page cache, and prints CPU time (user and
system, of the best run), wall time, peak memory and the output's size, with the ratios; then how many times as fast our
threads are as our one, by wall time, and what the machine gives when as many separate runs share it. `elf` is -E, which has one thread. Without a VMCORE, it panics two guests under QEMU, an idle one and one with anonymous memory, page cache, tmpfs and noise, and keeps their vmcores in the
cache. An idle guest's vmcore of 1 GiB takes about two minutes, and building `vmcore` one more.

MAKEDUMPFILE names another makedumpfile than the installed one. What the one at hand was built without is left out, and said.
--scratch names the folder that dumpfiles are written to, the cache otherwise. One in memory, as below /dev/shm, keeps the
disk out of the wall time. --threads 2 is `--num-threads 2` for both. makedumpfile's threads spin: it runs once only then, and needs idle processors.
--write replaces the tables in BENCHMARKS.md.
";

/// Shell text that makes the mixed guest: each kind of page that a level leaves out, text-like and random.
const MIXED: &str = "\
mkdir -p /mixed
mount -t tmpfs -o size=60% mixed /mixed
dd if=/dev/urandom of=/mixed/noise bs=1M count=96 2> /dev/null
cat /bin/busybox /harness/vmlinuz > /mixed/binaries
seq 1 4000000 > /mixed/numbers
seq 1 1000000 | sed 's/.*/entry & of a table that an application keeps/' > /mixed/table
awk 'BEGIN { for (i = 0; i < 400000; i++) a[i] = \"anonymous \" i * 7919; while (1) system(\"sleep 100\") }' &
dd if=/dev/zero of=/mixed/zeros bs=1M count=32 2> /dev/null
sleep 8
rm /mixed/table
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Codec {
    word: &'static str,
    option: Option<&'static str>,
}

/// `-E`: no codec, but a column of the table.
const ELF: &str = "elf";

const CODECS: [Codec; 6] = [
    Codec {
        word: "none",
        option: None,
    },
    Codec {
        word: "zlib",
        option: Some("-c"),
    },
    Codec {
        word: "lzo",
        option: Some("-l"),
    },
    Codec {
        word: "snappy",
        option: Some("-p"),
    },
    Codec {
        word: "zstd",
        option: Some("-z"),
    },
    Codec {
        word: ELF,
        option: Some("-E"),
    },
];

struct Options {
    runs: u32,
    levels: Vec<u8>,
    threads: Vec<u32>,
    codecs: Vec<Codec>,
    write: bool,
    scratch: Option<PathBuf>,
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-collector: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let Some(mut options) = parse()? else {
        print!("{HELP}");
        return Ok(());
    };
    if options.files.is_empty() {
        options.files = vec![captured("idle", "")?, captured("mixed", MIXED)?];
    }
    let ours = artifacts::vmcore()?;
    let (peer, version, known) = makedumpfile()?;
    let folder = match &options.scratch {
        Some(folder) => folder.clone(),
        None => setup::cache()?,
    };
    let scratch = folder.join(format!("bench-{}", std::process::id()));
    fs::create_dir(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    let table = tables(&options, &ours, &peer, &version, &known, &scratch);
    fs::remove_dir_all(&scratch)?;
    let table = table?;
    if options.write {
        report::replace("bench-collector", &table)?;
    }
    Ok(())
}

fn parse() -> Result<Option<Options>> {
    let mut options = Options {
        runs: 3,
        levels: vec![31, 1, 0],
        threads: vec![1, 2],
        codecs: CODECS.to_vec(),
        write: false,
        scratch: None,
        files: Vec::new(),
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} needs a value\n{HELP}"))
        };
        match word.as_str() {
            "-h" | "--help" => return Ok(None),
            "--write" => options.write = true,
            "--runs" => options.runs = value()?.parse().context("--runs takes a number")?,
            "--levels" => options.levels = numbers(&value()?).context("--levels")?,
            "--scratch" => options.scratch = Some(value()?.into()),
            "--threads" => options.threads = numbers(&value()?).context("--threads")?,
            "--codecs" => {
                options.codecs = value()?
                    .split(',')
                    .map(|word| {
                        let codec = CODECS.into_iter().find(|codec| codec.word == word);
                        codec.with_context(|| format!("no codec {word}\n{HELP}"))
                    })
                    .collect::<Result<_>>()?;
            }
            other if other.starts_with('-') => bail!("no option {other}\n{HELP}"),
            file => options.files.push(file.into()),
        }
    }
    ensure!(options.runs > 0, "--runs takes a number from 1 on");
    Ok(Some(options))
}

fn numbers<T: std::str::FromStr>(text: &str) -> Result<Vec<T>> {
    let parse = |part: &str| {
        part.parse()
            .ok()
            .with_context(|| format!("`{part}` is no number"))
    };
    text.split(',').map(parse).collect()
}

/// The vmcore of a guest, as `/proc/vmcore` had it; made when it is not there.
fn captured(name: &str, prepare: &str) -> Result<PathBuf> {
    let folder = setup::cache()?.join("vmcores");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("6.1-{name}.elf"));
    if file.exists() {
        return Ok(file);
    }
    println!("a guest panics: {name}");
    let case_name = format!("bench-collector-{name}");
    let case = Case {
        memory_mib: 1024,
        prepare,
        ..Case::new(
            &case_name,
            Flavour::Cloud6_1,
            DiskPlan::virtio(Content::Ext(Ext::new("ext4", 1400))),
            "ext4 NODE\ncore_collector cp\n",
        )
    };
    let capture = case.capture()?;
    let saved = capture.saved()?;
    // Under its name only when it is whole.
    let part = file.with_extension("part");
    fs::copy(saved.file("vmcore"), &part)?;
    fs::rename(&part, &file)?;
    capture.clean_up()?;
    Ok(file)
}

/// The makedumpfile to compare with, its version, and the codecs that it has.
fn makedumpfile() -> Result<(PathBuf, String, BTreeSet<&'static str>)> {
    let program = match env::var_os("MAKEDUMPFILE") {
        Some(path) => PathBuf::from(path),
        None => setup::program("makedumpfile")?.get_program().into(),
    };
    let said = stdout(Command::new(&program).arg("-v"))?;
    let version = said.lines().next().unwrap_or_default();
    let version = version
        .split(" (")
        .next()
        .unwrap_or(version)
        .replace(": version", "");
    let mut known = BTreeSet::from(["none", "zlib", ELF]);
    for codec in CODECS {
        if said.lines().any(|line| {
            let mut words = line.split_ascii_whitespace();
            words.next() == Some(codec.word) && words.next() == Some("enabled")
        }) {
            known.insert(codec.word);
        }
    }
    Ok((program, version, known))
}

/// What a run cost: of several, the least of each.
#[derive(Clone, Copy, Debug)]
struct Cost {
    cpu: Duration,
    wall: Duration,
    peak_bytes: u64,
    file_bytes: u64,
}

fn cost(command: &mut Command, out: &Path) -> Result<Cost> {
    if out.exists() {
        fs::remove_file(out)?;
    }
    let shown = format!("{command:?}");
    let started = Instant::now();
    let child = command
        .arg(out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {shown}"))?;
    let used = child
        .wait4()
        .with_context(|| format!("waiting for {shown}"))?;
    let wall = started.elapsed();
    ensure!(used.status.success(), "{shown}: {}", used.status);
    Ok(Cost {
        cpu: used.rusage.utime + used.rusage.stime,
        wall,
        peak_bytes: used.rusage.maxrss,
        file_bytes: fs::metadata(out)?.len(),
    })
}

fn least(one: Option<Cost>, other: Cost) -> Cost {
    one.map_or(other, |one| Cost {
        cpu: one.cpu.min(other.cpu),
        wall: one.wall.min(other.wall),
        peak_bytes: one.peak_bytes.min(other.peak_bytes),
        file_bytes: other.file_bytes,
    })
}

/// Runs everything, prints each row when it is known, and gives all of them back.
fn tables(
    options: &Options,
    ours: &Path,
    peer: &Path,
    version: &str,
    known: &BTreeSet<&str>,
    scratch: &Path,
) -> Result<String> {
    let mut text = format!(
        "Each figure is {version}'s, then ours: CPU is user and system seconds of the best of {} runs in turns, peak is the \
         resident memory of\nthe whole process.\n",
        options.runs
    );
    for codec in &options.codecs {
        if !known.contains(codec.word) {
            writeln!(
                text,
                "\nThis makedumpfile was built without {}: left out.",
                codec.word
            )?;
        }
    }
    print!("{text}");
    for file in &options.files {
        let name = shown(file);
        let mut put = |line: String| {
            println!("{line}");
            text.push_str(&line);
            text.push('\n');
        };
        put(format!(
            "\n**{name}**, {} bytes\n\n\
             | level, codec, threads | CPU s | as fast | wall s | peak MiB | bytes | size |\n\
             |---|---|---|---|---|---|---|",
            fs::metadata(file)?.len()
        ));
        let mut gains = Vec::new();
        for &level in &options.levels {
            for codec in options
                .codecs
                .iter()
                .filter(|codec| known.contains(codec.word))
            {
                let mut alone = None;
                for &threads in &options.threads {
                    if codec.word == ELF && threads > 1 {
                        continue;
                    }
                    let (line, mine) =
                        row(options, ours, peer, scratch, file, level, *codec, threads)?;
                    put(line);
                    match alone {
                        None if threads == 1 => alone = Some(mine.wall),
                        Some(alone) => {
                            let single = || command(ours, file, level, *codec, 1);
                            let apart = apart(&single, scratch, threads, options.runs)?;
                            gains.push(gain(level, *codec, threads, [alone, mine.wall, apart]));
                        }
                        None => {}
                    }
                }
            }
        }
        if !gains.is_empty() {
            put(
                "\n| ours: level, codec, threads | wall s, one and these | times one | as many runs of one at once |\n\
                 |---|---|---|---|"
                    .to_owned(),
            );
            gains.into_iter().for_each(&mut put);
        }
    }
    Ok(text)
}

/// The file with the folder that it is in: most vmcores are called `vmcore`.
fn shown(file: &Path) -> String {
    let folder = file.parent().and_then(Path::file_name);
    let parts = folder.into_iter().chain(file.file_name());
    let parts: Vec<_> = parts.map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// A row of what threads win: by the wall time of one, of these, and of as many runs at once, which is what the machine gives.
fn gain(level: u8, codec: Codec, threads: u32, walls: [Duration; 3]) -> String {
    let [alone, together, apart] = walls.map(|wall| wall.as_secs_f64());
    format!(
        "| {level}, {}, {threads} | {alone:.3}, {together:.3} | {:.2} | {:.2} |",
        codec.word,
        alone / together,
        alone * f64::from(threads) / apart
    )
}

/// The wall time of so many runs at once, the least of several times.
fn apart(
    command: &dyn Fn() -> Command,
    scratch: &Path,
    count: u32,
    times: u32,
) -> Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..times {
        let outs = (0..count).map(|number| scratch.join(format!("apart{number}")));
        let outs: Vec<_> = outs.collect();
        let started = Instant::now();
        let mut children = Vec::new();
        for out in &outs {
            let mut command = command();
            command.arg(out).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null());
            children.push(command.spawn().context("starting several at once")?);
        }
        for mut child in children {
            ensure!(child.wait()?.success(), "one of several at once failed");
        }
        least = least.min(started.elapsed());
        for out in outs {
            fs::remove_file(out)?;
        }
    }
    Ok(least)
}

fn command(program: &Path, file: &Path, level: u8, codec: Codec, threads: u32) -> Command {
    let mut command = Command::new(program);
    command.args(codec.option).args(["-d", &level.to_string()]);
    if threads > 1 {
        command.args(["--num-threads", &threads.to_string()]);
    }
    command.arg(file);
    command
}

#[allow(
    clippy::too_many_arguments,
    reason = "one row of a table with as many columns"
)]
fn row(
    options: &Options,
    ours: &Path,
    peer: &Path,
    scratch: &Path,
    file: &Path,
    level: u8,
    codec: Codec,
    threads: u32,
) -> Result<(String, Cost)> {
    let command = |program| command(program, file, level, codec, threads);
    let (mut theirs, mut mine) = (None, None);
    for run in 0..options.runs {
        // With threads once only: they spin, and can take a minute for what one thread does in two seconds.
        if run == 0 || threads == 1 {
            theirs = Some(least(
                theirs,
                cost(&mut command(peer), &scratch.join("peer"))?,
            ));
        }
        mine = Some(least(
            mine,
            cost(&mut command(ours), &scratch.join("ours"))?,
        ));
    }
    let (Some(theirs), Some(mine)) = (theirs, mine) else {
        bail!("no runs");
    };
    let seconds = |duration: Duration| duration.as_secs_f64();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let line = format!(
        "| {level}, {}, {threads} | {:.3}, {:.3} | {:.2} | {:.2}, {:.2} | {:.1}, {:.1} | {}, {} | {:.3} |",
        codec.word,
        seconds(theirs.cpu),
        seconds(mine.cpu),
        seconds(theirs.cpu) / seconds(mine.cpu),
        seconds(theirs.wall),
        seconds(mine.wall),
        mib(theirs.peak_bytes),
        mib(mine.peak_bytes),
        theirs.file_bytes,
        mine.file_bytes,
        mine.file_bytes as f64 / theirs.file_bytes as f64,
    );
    Ok((line, mine))
}
