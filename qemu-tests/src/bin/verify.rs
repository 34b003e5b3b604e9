// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo verify`: everything that must hold before a change lands.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use qemu_tests::run::run;
use qemu_tests::vm::target_folder;
use qemu_tests::{faults, matrix, setup};

const HELP: &str = "\
Usage: cargo verify [--full] [--only WORD]
       cargo verify --table

Formatting, lints, documentation, the tests of each crate, the built init, dependencies, and real panics in QEMU.
Programs and kernels that are missing are installed or fetched first.

  --full       also the runs that are left out to keep it below an hour, above all the matrix of kernels, targets and
               actions, whose outcome goes to docs/full-matrix.md, and most faults at capture (docs/fault-matrix.md)
  --only WORD  only the steps whose name has this word
  --table      no step: only write these two from what the last runs left
";

struct Step {
    name: String,
    command: Command,
    /// Its lines say how single tests ended, as cargo prints them.
    tests: bool,
}

/// What came of all steps.
#[derive(Default)]
struct Sum {
    passed: u32,
    failed: u32,
    skipped: u32,
    failures: Vec<String>,
    /// What was skipped, by step and reason: the full matrix alone has a hundred tests.
    skips: BTreeMap<String, Vec<String>>,
}

fn main() -> ExitCode {
    match verify() {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(sum)) => {
            report(&sum);
            if sum.failed == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("verify: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the steps that were asked for; none when only the help was.
fn verify() -> Result<Option<Sum>> {
    let mut full = env::var_os("KDUMPRD_FULL").is_some();
    let mut only = String::new();
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--full" => full = true,
            "--only" => only = arguments.next().context("--only needs a word")?,
            "--table" => {
                tell_tables(true)?;
                return Ok(None);
            }
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(None);
            }
            other => bail!("unknown option {other}\n{HELP}"),
        }
    }
    let started = Instant::now();
    let mut sum = Sum::default();
    let prepared = setup::ready();
    if let Err(error) = &prepared {
        println!("the machine is not ready: {error:#}");
        sum.failed += 1;
        sum.failures.push("setup".to_owned());
    }
    let steps: Vec<Step> = steps(full, &only, &mut sum)?
        .into_iter()
        .filter(|step| step.name.contains(&only))
        .collect();
    if steps.is_empty() {
        bail!("no step has `{only}` in its name");
    }
    let count = steps.len();
    matrix::RESULTS.forget()?;
    faults::RESULTS.forget()?;
    for (number, step) in steps.into_iter().enumerate() {
        perform(step, &format!("{:2}/{count}", number + 1), &mut sum)?;
    }
    tell_tables(full)?;
    println!(
        "\nall steps in {}",
        minutes(started.elapsed().as_secs_f64())
    );
    Ok(Some(sum))
}

/// Writes the tables of the tests that end in one, when any of them ran. The table of faults only when all of it was asked
/// for: a sample of it runs always.
fn tell_tables(full: bool) -> Result<()> {
    let mut pages = vec![(
        "the full matrix",
        matrix::RESULTS.write_page(&workspace(), matrix::table)?,
    )];
    if full {
        pages.push((
            "the faults at capture",
            faults::RESULTS.write_page(&workspace(), faults::page::table)?,
        ));
    }
    for (what, page) in pages {
        if let Some(page) = page {
            println!("\n{what}: {}", shown(&page).display());
        }
    }
    Ok(())
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The crates that `cargo metadata` lists, but for the harness.
fn crates(mut metadata: Command) -> Result<Vec<String>> {
    let listed: serde_json::Value = serde_json::from_slice(&run(&mut metadata)?.stdout)?;
    let names: Vec<String> = listed["packages"]
        .as_array()
        .context("cargo lists no packages")?
        .iter()
        .filter_map(|package| package["name"].as_str())
        .filter(|name| *name != env!("CARGO_PKG_NAME"))
        .map(str::to_owned)
        .collect();
    Ok(names)
}

fn steps(full: bool, only: &str, sum: &mut Sum) -> Result<Vec<Step>> {
    let workspace = workspace();
    let cargo = |words: &[&str]| {
        let mut command = Command::new(setup::cargo());
        command.args(words).current_dir(&workspace);
        // Traces of a failed test would bury its message.
        command.env("RUST_BACKTRACE", "0");
        command
    };
    let step = |name: &str, command: Command| Step {
        name: name.to_owned(),
        command,
        tests: false,
    };
    let mut steps = vec![
        step("formatting", cargo(&["fmt", "--all", "--check"])),
        step(
            "lints",
            cargo(&[
                "clippy",
                "-q",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ]),
        ),
    ];
    let mut documentation = cargo(&["doc", "-q", "--workspace", "--no-deps"]);
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    steps.push(step("documentation", documentation));
    let name = "dependencies: licences, bans, sources (no advisories: they need a network)";
    // Building the tool takes minutes: not where nobody asked for the step.
    match name.contains(only).then(|| setup::cargo_tool("cargo-deny")) {
        None => {}
        Some(Ok(program)) => {
            let mut command = Command::new(program);
            command
                .args([
                    "--log-level",
                    "error",
                    "check",
                    "licenses",
                    "bans",
                    "sources",
                ])
                .current_dir(&workspace);
            steps.push(step(name, command));
        }
        Some(Err(error)) => {
            sum.skipped += 1;
            let reason = format!("{name} — no cargo-deny: {error:#}");
            sum.skips.entry(reason).or_default();
        }
    }
    // Each by a run of its own, so that features do not mix.
    for name in crates(cargo(&["metadata", "--no-deps", "--format-version", "1"]))? {
        steps.push(Step {
            name: format!("tests of {name}"),
            command: cargo(&["test", "--no-fail-fast", "-p", &name]),
            tests: true,
        });
    }
    steps.push(Step {
        name: "tests of the harness".to_owned(),
        command: cargo(&[
            "test",
            "--no-fail-fast",
            "-p",
            "qemu-tests",
            "--lib",
            "--bins",
        ]),
        tests: true,
    });
    for file in test_files(&workspace.join("qemu-tests/tests"))? {
        let mut command = cargo(&[
            "test",
            "--no-fail-fast",
            "-p",
            "qemu-tests",
            "--test",
            &file,
        ]);
        command.args(["--", "--test-threads=2"]);
        if full {
            command.arg("--include-ignored");
        }
        steps.push(Step {
            name: format!("QEMU: {file}"),
            command,
            tests: true,
        });
    }
    if FUZZ.contains(only) {
        steps.push(Step {
            name: FUZZ.to_owned(),
            command: fuzz(full, sum)?,
            tests: true,
        });
    }
    Ok(steps)
}

const FUZZ: &str = "fuzzing";

/// The command that gives every target of the crate `fuzz` hostile input for a bounded time: mutations by coverage, or
/// seeded ones where libFuzzer cannot be built.
fn fuzz(full: bool, sum: &mut Sum) -> Result<Command> {
    let folder = target_folder().join("fuzz");
    let build = folder.join("build");
    let manifest = workspace().join("fuzz/Cargo.toml");
    let mut command = Command::new(setup::cargo());
    command
        .args(["run", "-q", "--release", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&build)
        .args(["--bin", "kdumprd-fuzz", "--", "--seconds"])
        .arg(if full { "30" } else { "5" })
        .arg("--folder")
        .arg(&folder);
    match libfuzzer(&manifest, &build) {
        Ok(program) => {
            command.arg("--libfuzzer").arg(program);
        }
        Err(error) => {
            sum.skipped += 1;
            let reason = format!("{FUZZ} by coverage (seeded mutations run instead) — {error:#}");
            sum.skips.entry(reason).or_default();
        }
    }
    Ok(command)
}

/// Builds libFuzzer's program for all targets. Without a sanitizer, which safe code needs less than speed, any compiler
/// does; libFuzzer itself is C++.
fn libfuzzer(manifest: &Path, build: &Path) -> Result<PathBuf> {
    let tool = setup::cargo_tool("cargo-fuzz").context("no cargo-fuzz")?;
    let folder = manifest.parent().context("no folder")?;
    run(Command::new(tool)
        .args(["build", "one", "--sanitizer", "none"])
        .args(["--features", "libfuzzer", "--fuzz-dir"])
        .arg(folder)
        .arg("--target-dir")
        .arg(build)
        .current_dir(workspace()))
    .context("libFuzzer does not build")?;
    let program = build.join("x86_64-unknown-linux-gnu/release/one");
    program
        .canonicalize()
        .with_context(|| format!("{} was not built", program.display()))
}

/// The names of the integration tests, in the order of the alphabet.
fn test_files(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_stem()?.to_str()?.to_owned();
            path.extension()
                .is_some_and(|extension| extension == "rs")
                .then_some(name)
        })
        .collect();
    names.sort();
    Ok(names)
}

/// Runs one step, with its output in a log, and shows single tests as they end.
fn perform(mut step: Step, number: &str, sum: &mut Sum) -> Result<()> {
    let folder = target_folder().join("verify");
    fs::create_dir_all(&folder)?;
    let file_name: String = step
        .name
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .collect();
    let log = folder.join(format!("{file_name}.log"));
    let before = (sum.passed, sum.failed, sum.skipped);
    println!("{number}  {}", step.name);
    let started = Instant::now();
    // One pipe for both, in the order written.
    let (reader, writer) = std::io::pipe()?;
    let mut child = step
        .command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("starting {:?}", step.command))?;
    // The command keeps the writing ends; without them the pipe ends when the child does.
    drop(step.command);
    let mut file = File::create(&log)?;
    let mut lines = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(file, "{line}")?;
        if step.tests {
            note_test(&line, &step.name, sum);
        }
        lines.push(line);
    }
    let status = child.wait()?;
    let seconds = started.elapsed().as_secs_f64();
    let named_failures = sum.failed - before.1;
    if !status.success() && named_failures == 0 {
        // A build that failed has no tests to name.
        sum.failed += 1;
        sum.failures.push(step.name.clone());
    } else if status.success() && !step.tests {
        sum.passed += 1;
    }
    if status.success() && step.tests && (sum.passed, sum.skipped) == (before.0, before.2) {
        println!("       no test ran");
    }
    if status.success() {
        println!("       ok, {}", minutes(seconds));
    } else {
        println!(
            "       FAILED, {}; the log: {}",
            minutes(seconds),
            shown(&log).display()
        );
        for line in excerpt(&lines) {
            println!("       | {line}");
        }
    }
    Ok(())
}

/// Counts a line such as `test name ... ok` and prints it where tests are slow.
fn note_test(line: &str, step: &str, sum: &mut Sum) {
    let Some((name, verdict)) = line
        .strip_prefix("test ")
        .and_then(|rest| rest.rsplit_once(" ... "))
    else {
        return;
    };
    let full_name = format!("{step}: {name}");
    if verdict == "ok" {
        sum.passed += 1;
    } else if let Some(reason) = verdict.strip_prefix("ignored") {
        sum.skipped += 1;
        let reason = reason.strip_prefix(", ").unwrap_or("no reason given");
        sum.skips
            .entry(format!("{step} — {reason}"))
            .or_default()
            .push(name.to_owned());
    } else if verdict == "FAILED" {
        sum.failed += 1;
        sum.failures.push(full_name);
    } else {
        return;
    }
    if step.starts_with("QEMU") {
        println!("       {name} ... {verdict}");
    }
}

/// The part of a failed step's output that says why.
fn excerpt(lines: &[String]) -> &[String] {
    const MOST: usize = 80;
    let begin = lines
        .iter()
        .position(|line| line == "failures:" || line.starts_with("error"))
        .unwrap_or(0);
    let begin = begin.max(lines.len().saturating_sub(MOST));
    &lines[begin..]
}

fn report(sum: &Sum) {
    for (reason, tests) in &sum.skips {
        println!("skipped: {reason}{}", listed(tests));
    }
    for failure in &sum.failures {
        println!("failed: {failure}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        sum.passed, sum.failed, sum.skipped
    );
}

/// The names of tests behind what they have in common; many are a number and the log has their names.
fn listed(tests: &[String]) -> String {
    const FEW: usize = 4;
    match tests {
        [] => String::new(),
        few if few.len() <= FEW => format!(": {}", few.join(", ")),
        many => format!(": {} tests, {}, …", many.len(), many[..FEW].join(", ")),
    }
}

fn minutes(seconds: f64) -> String {
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!(
            "{:.0} min {:.0} s",
            (seconds / 60.0).floor(),
            seconds % 60.0
        )
    }
}

fn shown(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_cargo_are_counted() {
        let mut sum = Sum::default();
        for line in [
            "running 4 tests",
            "test a::b ... ok",
            "test c ... FAILED",
            "test d ... ignored, runs under --full",
            "test src/lib.rs - (line 3) ... ok",
            "test result: FAILED. 2 passed; 1 failed; 1 ignored",
        ] {
            note_test(line, "tests of x", &mut sum);
        }
        assert_eq!((sum.passed, sum.failed, sum.skipped), (2, 1, 1));
        assert_eq!(sum.failures, ["tests of x: c"]);
        let skips: Vec<String> = sum
            .skips
            .iter()
            .map(|(reason, tests)| format!("{reason}{}", listed(tests)))
            .collect();
        assert_eq!(skips, ["tests of x — runs under --full: d"]);
    }
}
