// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the targets one after the other, for a bounded time each. `cargo verify` reads the lines.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use kdumprd_fuzz::{TARGETS, Target, mutate, named};

const HELP: &str = "\
Usage: kdumprd-fuzz [--seconds N] [--libfuzzer PROGRAM] [--folder DIR] [TARGET...]
       kdumprd-fuzz --one TARGET INPUT

Without --libfuzzer: seeded mutations, as good as they get without coverage. PROGRAM is what
`cargo fuzz build one --features libfuzzer` made. In DIR are the corpus, and the inputs that a target failed with.
";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kdumprd-fuzz: {error}");
            ExitCode::from(2)
        }
    }
}

/// What was asked for.
struct Wish {
    time: Duration,
    libfuzzer: Option<PathBuf>,
    folder: PathBuf,
    targets: Vec<&'static Target>,
    /// This process is the one that may end.
    inside: bool,
}

fn run() -> Result<bool, String> {
    let mut wish = Wish {
        time: Duration::from_secs(5),
        libfuzzer: None,
        folder: PathBuf::from("target/fuzz"),
        targets: Vec::new(),
        inside: false,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(true);
            }
            "--seconds" => {
                let seconds = value()?;
                let seconds = seconds
                    .parse()
                    .map_err(|_| format!("{seconds}: not a number"))?;
                wish.time = Duration::from_secs(seconds);
            }
            "--libfuzzer" => wish.libfuzzer = Some(value()?.into()),
            "--folder" => wish.folder = value()?.into(),
            "--inside" => wish.inside = true,
            "--one" => {
                let target = find(&value()?)?;
                let path = value()?;
                let input = fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
                (target.run)(&input);
                return Ok(true);
            }
            name => wish.targets.push(find(name)?),
        }
    }
    if wish.targets.is_empty() {
        wish.targets = TARGETS.iter().collect();
    }
    fs::create_dir_all(wish.folder.join("failed"))
        .map_err(|error| format!("{}: {error}", wish.folder.display()))?;
    if wish.inside {
        for target in &wish.targets {
            let inputs = mutate::run(target, wish.time, &artifact(&wish.folder, target));
            println!("{}: {inputs} inputs", target.name);
        }
        return Ok(true);
    }
    let mut all_good = true;
    for target in &wish.targets {
        let outcome = match &wish.libfuzzer {
            Some(program) => by_coverage(program, target, &wish),
            None => by_number(target, &wish),
        };
        match outcome {
            Ok(said) => println!("{}: {said}\ntest {} ... ok", target.name, target.name),
            Err(said) => {
                println!("{said}\ntest {} ... FAILED", target.name);
                all_good = false;
            }
        }
    }
    Ok(all_good)
}

fn find(name: &str) -> Result<&'static Target, String> {
    named(name).ok_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        format!(
            "{name}: no target of this name; there are {}",
            names.join(", ")
        )
    })
}

fn artifact(folder: &Path, target: &Target) -> PathBuf {
    folder
        .join("failed")
        .join(format!("{}-mutated", target.name))
}

/// In a process of its own: a target that fails ends it.
fn by_number(target: &Target, wish: &Wish) -> Result<String, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .arg("--inside")
        .args(["--seconds", &wish.time.as_secs().to_string(), "--folder"])
        .arg(&wish.folder)
        .arg(target.name);
    let said = finish(&mut command)?;
    Ok(format!(
        "{} (seeded mutations)",
        said.lines().last().unwrap_or("nothing said")
    ))
}

fn by_coverage(program: &Path, target: &Target, wish: &Wish) -> Result<String, String> {
    let in_folder = |error: std::io::Error| format!("{}: {error}", wish.folder.display());
    let corpus = wish.folder.join("corpus").join(target.name);
    fs::create_dir_all(&corpus).map_err(in_folder)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        fs::write(corpus.join(format!("seed-{number}")), seed).map_err(in_folder)?;
    }
    let failed = wish.folder.join("failed").join(format!("{}-", target.name));
    let mut command = Command::new(program);
    command
        .env("KDUMPRD_FUZZ", target.name)
        .arg(format!("-max_total_time={}", wish.time.as_secs()))
        .arg(format!("-timeout={}", mutate::LONGEST.as_secs()))
        .args([
            "-rss_limit_mb=1024",
            "-max_len=65536",
            "-print_final_stats=1",
            "-verbosity=1",
        ])
        .arg(format!("-artifact_prefix={}", failed.display()))
        .arg(&corpus);
    let said = finish(&mut command)?;
    let number = |key: &str| {
        let line = said.lines().find(|line| line.contains(key));
        line.and_then(|line| line.rsplit(' ').next())
            .unwrap_or("?")
            .to_owned()
    };
    let covered = said
        .lines()
        .rev()
        .find_map(|line| line.split_once(" cov: ")?.1.split(' ').next());
    Ok(format!(
        "{} inputs, {} blocks covered, {} MiB",
        number("stat::number_of_executed_units"),
        covered.unwrap_or("?"),
        number("stat::peak_rss_mb")
    ))
}

/// Runs the command; an error has the end of what it said.
fn finish(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines[lines.len().saturating_sub(40)..].join("\n");
    Err(format!("{tail}\n{}", output.status))
}
