// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo bench-ssh`: bytes per second of processor time, the ssh client beside OpenSSH's, same server, same cipher.
#![forbid(unsafe_code)]

use std::env;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use collector::Sink as _;
use qemu_tests::peer::{Server as Peer, Setup};
use targets::ssh::{Limits, Login, MEMORY_BYTES, PublicKey, Random, Server, Socket, UserKey};

const HELP: &str = "\
Usage: cargo bench-ssh [ROUNDS]

Sends a file of 512 MiB to Debian's sshd on loopback, ROUNDS times (5) with each cipher, in turns: with our client by SFTP
and by `cat`, with OpenSSH's sftp, and with its ssh into `cat`. What counts is the processor time of the client alone, its
own and the kernel's for it.
";

const CIPHERS: [&str; 3] = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
];
const DATA_BYTES: usize = 512 << 20;
/// What is read and written at a time: what the collector writes at a time (`DATA_UNIT` of its writer).
const PIECE_BYTES: usize = 256 << 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        ["--client", folder, address, host_key, cipher, name] => {
            client(Path::new(folder), address, host_key, cipher, name)
        }
        [] => bench(5),
        [rounds] => match rounds.parse() {
            Ok(rounds) => bench(rounds),
            Err(_) => Err(anyhow::anyhow!("no number: {rounds}\n{HELP}")),
        },
        _ => Err(anyhow::anyhow!("unknown arguments\n{HELP}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-ssh: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One transfer with our client: this program again, so that its processor time is seen from outside as the others' is.
fn client(folder: &Path, address: &str, host_key: &str, cipher: &str, name: &str) -> Result<()> {
    let key = UserKey::parse(&fs::read(folder.join("id"))?)?;
    let pinned = [PublicKey::from_text(host_key)
        .ok()
        .context("the host key cannot be used")?];
    let login = Login {
        user: "root",
        key: &key,
        pinned: &pinned,
        limits: Limits::DEFAULT,
        cipher: Some(cipher),
    };
    let socket = Socket::connect(address.parse()?, Duration::from_secs(10))
        .map_err(|error| anyhow::anyhow!("connecting: {error}"))?;
    let mut random = Random::gather(b"", None);
    let mut memory = vec![0; MEMORY_BYTES];
    let server = Server::open(socket, &login, &mut random, &mut memory)?;
    let directory = server.directory(&folder.join("root").display().to_string(), name)?;
    let mut sink = directory.create("vmcore")?;
    let mut file = File::open(folder.join("data"))?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    loop {
        let len = file.read(&mut piece)?;
        if len == 0 {
            break;
        }
        sink.write_at(offset, piece.get(..len).unwrap_or_default())?;
        offset += len as u64;
    }
    directory.publish(sink)?;
    server.close();
    Ok(())
}

/// The ways to send the file.
#[derive(Clone, Copy)]
enum Way {
    OurSftp,
    OurCat,
    Sftp,
    Cat,
}

impl Way {
    const ALL: [Self; 4] = [Self::OurSftp, Self::Sftp, Self::OurCat, Self::Cat];

    const fn word(self) -> &'static str {
        match self {
            Self::OurSftp => "ours, SFTP",
            Self::OurCat => "ours, cat",
            Self::Sftp => "OpenSSH sftp",
            Self::Cat => "OpenSSH ssh cat",
        }
    }
}

fn bench(rounds: usize) -> Result<()> {
    let with_sftp = Peer::start(&Setup::open_ssh())?;
    let without = Peer::start(&Setup {
        lines: vec!["Subsystem other /bin/false".to_owned()],
        ..Setup::open_ssh()
    })?;
    for peer in [&with_sftp, &without] {
        write_data(&peer.folder.join("data"))?;
        fs::write(
            peer.folder.join("known_hosts"),
            format!(
                "[{}]:{} {}\n",
                peer.address.ip(),
                peer.address.port(),
                peer.host_key
            ),
        )?;
    }
    println!(
        "load before: {}",
        fs::read_to_string("/proc/loadavg")?.trim()
    );
    println!(
        "MB per second of processor time, median of {rounds}; in brackets the slowest and the fastest"
    );
    for cipher in CIPHERS {
        let mut seconds: [Vec<f64>; 4] = Default::default();
        for round in 0..rounds {
            for (way, seconds) in Way::ALL.into_iter().zip(&mut seconds) {
                let peer = match way {
                    Way::OurSftp | Way::Sftp | Way::Cat => &with_sftp,
                    Way::OurCat => &without,
                };
                seconds.push(once(way, peer, cipher, round)?);
            }
        }
        println!("{cipher}");
        for (way, seconds) in Way::ALL.into_iter().zip(&seconds) {
            let speed = |seconds: f64| DATA_BYTES as f64 / 1e6 / seconds;
            let speeds = sorted(seconds.iter().map(|seconds| speed(*seconds)));
            println!(
                "  {:16} {:6.0} ({:.0} to {:.0})",
                way.word(),
                middle(&speeds),
                speeds.first().copied().unwrap_or(f64::NAN),
                speeds.last().copied().unwrap_or(f64::NAN),
            );
        }
        let [our_sftp, sftp, our_cat, cat] = &seconds;
        // Of each round by itself: what else the machine does changes from round to round.
        let ratio = |theirs: &[f64], ours: &[f64]| {
            middle(&sorted(
                theirs.iter().zip(ours).map(|(one, other)| one / other),
            ))
        };
        println!(
            "  ours is {:.2} times sftp, {:.2} times ssh cat (by SFTP {:.2} times): medians of the rounds' own ratios",
            ratio(sftp, our_sftp),
            ratio(cat, our_cat),
            ratio(cat, our_sftp)
        );
    }
    println!(
        "load after: {}",
        fs::read_to_string("/proc/loadavg")?.trim()
    );
    Ok(())
}

fn sorted(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// The median of what is sorted.
fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Sends the file once; the processor time that it took.
fn once(way: Way, peer: &Peer, cipher: &str, round: usize) -> Result<f64> {
    let folder = &peer.folder;
    let root = folder.join("root");
    let before = children_seconds()?;
    let name = format!("{}-{round}", way.word().replace([' ', ','], "-"));
    let mut command = match way {
        Way::OurSftp | Way::OurCat => {
            let mut command = Command::new(env::current_exe()?);
            command.arg("--client").arg(folder).args([
                &peer.address.to_string(),
                &peer.host_key,
                cipher,
                &name,
            ]);
            command
        }
        Way::Sftp | Way::Cat => {
            let mut command = Command::new(if matches!(way, Way::Cat) {
                "ssh"
            } else {
                "sftp"
            });
            command
                .args(["-q", "-F", "none", "-i"])
                .arg(folder.join("id"));
            for option in [
                "LogLevel=ERROR".to_owned(),
                format!("Ciphers={cipher}"),
                format!(
                    "UserKnownHostsFile={}",
                    folder.join("known_hosts").display()
                ),
                "BatchMode=yes".to_owned(),
                "Compression=no".to_owned(),
                format!("Port={}", peer.address.port()),
            ] {
                command.arg("-o").arg(option);
            }
            if matches!(way, Way::Cat) {
                command
                    .arg("root@127.0.0.1")
                    .arg(format!("cat > {}", root.join(&name).display()))
                    .stdin(File::open(folder.join("data"))?);
            } else {
                let batch = folder.join("batch");
                let put = format!(
                    "put -f {} {}\n",
                    folder.join("data").display(),
                    root.join(&name).display()
                );
                fs::write(&batch, put)?;
                command.arg("-b").arg(batch).arg("root@127.0.0.1");
            }
            command
        }
    };
    let status = command.stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{}: {status}\n{}", way.word(), peer.log());
    let took = children_seconds()? - before;
    let saved = match way {
        Way::OurSftp | Way::OurCat => root.join(&name).join("vmcore"),
        Way::Sftp | Way::Cat => root.join(&name),
    };
    let saved_bytes = fs::metadata(&saved)?.len();
    if saved_bytes != DATA_BYTES as u64 {
        bail!("{} has {saved_bytes} bytes", saved.display());
    }
    match way {
        Way::OurSftp | Way::OurCat => fs::remove_dir_all(root.join(&name))?,
        Way::Sftp | Way::Cat => fs::remove_file(root.join(&name))?,
    }
    Ok(took)
}

/// Processor time of all children that have ended, and theirs.
fn children_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(") ").context("/proc/self/stat")?;
    // Source: proc(5): cutime and cstime are fields 16 and 17, counted from 1; the rest begins with field 3. Ticks are
    // hundredths of a second wherever Linux runs.
    let ticks: u64 = rest
        .split(' ')
        .skip(13)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap_or(0))
        .sum();
    Ok(ticks as f64 / 100.0)
}

/// Bytes that no cipher or disk finds easy.
fn write_data(path: &Path) -> Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut file = File::create(path)?;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    for _ in 0..DATA_BYTES / PIECE_BYTES {
        piece.clear();
        while piece.len() < PIECE_BYTES {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.extend(state.to_le_bytes());
        }
        file.write_all(&piece)?;
    }
    Ok(())
}
