// SPDX-License-Identifier: MIT OR Apache-2.0
//! One QEMU: started, watched until its deadline, and always reaped.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;

use crate::console::{Console, Line, Wait};
use crate::patience::Patience;
use crate::qmp::Qmp;
use crate::setup;

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It reset itself: a reboot.
    Reset,
    /// It switched itself off.
    PowerOff,
    /// It went away in another way.
    Other(String),
}

/// A running guest. Dropping it ends QEMU.
#[derive(Debug)]
pub struct Vm {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
    console: Console,
    next: usize,
    qmp: Qmp,
    started: Instant,
    /// Of the whole run.
    patience: Patience,
    log: PathBuf,
    socket: PathBuf,
    _slot: Slot,
}

impl Vm {
    /// Starts QEMU with `arguments` beside what every guest gets: no default devices, no display, the serial console and
    /// the control channel. It is ended when `limit` is over. Its user network is that of the process `namespace`, if one
    /// is given.
    ///
    /// # Errors
    /// QEMU is missing, or does not start with these arguments; the error has what it said.
    pub fn start(
        name: &str,
        arguments: &[OsString],
        limit: Duration,
        namespace: Option<u32>,
    ) -> Result<Self> {
        Self::start_program("qemu-system-x86_64", name, arguments, limit, namespace)
    }

    /// As [`Vm::start`], with the QEMU of another architecture.
    ///
    /// # Errors
    /// As [`Vm::start`].
    pub fn start_program(
        program: &str,
        name: &str,
        arguments: &[OsString],
        limit: Duration,
        namespace: Option<u32>,
    ) -> Result<Self> {
        let log = log_folder(name)?.join("console.log");
        let socket = socket_path();
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("making the control channel {}", socket.display()))?;
        listener.set_nonblocking(true)?;
        let qemu =
            setup::find_program(program).with_context(|| format!("{program} is not installed"))?;
        let mut control = OsString::from("unix:");
        control.push(&socket);
        control.push(",server=off");
        let slot = Slot::take()?;
        // The guest must not outlive a test that was killed, which could no longer end it.
        let mut command = setup::program("setpriv")?;
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(process) = namespace {
            command
                .arg(setup::find_program("nsenter").context("nsenter is not installed")?)
                .args(["--net", "--target", &process.to_string(), "--"]);
        }
        command
            .arg(qemu)
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-accel", "tcg", "-no-reboot", "-serial", "stdio", "-qmp"])
            .arg(control)
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        fs::write(log.with_file_name("qemu.txt"), format!("{command:?}\n"))?;
        let started = Instant::now();
        let mut child = command.spawn().context("starting QEMU")?;
        let console = Console::default();
        let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let reader = child
            .stdout
            .take()
            .map(|stream| console.follow(stream, started, file));
        let stdin = child.stdin.take();
        let stream = loop {
            if let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false)?;
                break stream;
            }
            if child.try_wait()?.is_some() || started.elapsed() > Duration::from_secs(60) {
                let _ = child.kill();
                let output = child.wait_with_output()?;
                let _ = fs::remove_file(&socket);
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                bail!("{name}: QEMU did not start: {}\n{said}", output.status);
            }
            thread::sleep(Duration::from_millis(5));
        };
        // Later complaints of QEMU belong into the log as well.
        if let (Some(mut stderr), Ok(mut file)) = (
            child.stderr.take(),
            File::create(log.with_file_name("qemu-stderr.txt")),
        ) {
            thread::spawn(move || std::io::copy(&mut stderr, &mut file));
        }
        let qmp = match Qmp::new(stream) {
            Ok(qmp) => qmp,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        Ok(Self {
            name: name.to_owned(),
            patience: Patience::new(child.id(), limit),
            child,
            stdin,
            reader,
            console,
            next: 0,
            qmp,
            started,
            log,
            socket,
            _slot: slot,
        })
    }

    /// Waits for a line that matches, from the last one found on, for `limit` at most and never past the run's end. Time
    /// in which QEMU wanted to run and the machine had no processor for it does not count.
    #[must_use]
    pub fn wait(&mut self, pattern: &Regex, limit: Duration) -> Wait {
        let mut next = self.next;
        let wait = self.wait_from(&mut next, pattern, limit);
        self.next = next;
        wait
    }

    fn wait_from(&mut self, next: &mut usize, pattern: &Regex, limit: Duration) -> Wait {
        let mut step = Patience::new(self.child.id(), limit);
        loop {
            let until = step.due().min(self.patience.due());
            match self.console.wait(next, pattern, until) {
                Wait::TimedOut if step.lasts() && self.patience.lasts() => {}
                other => return other,
            }
        }
    }

    /// As [`Vm::wait`], where nothing else is right.
    ///
    /// # Errors
    /// What was waited for, what came last, and where the log is.
    pub fn expect(&mut self, pattern: &str, limit: Duration) -> Result<Line> {
        let pattern = Regex::new(pattern).with_context(|| format!("the pattern {pattern}"))?;
        let how = match self.wait(&pattern, limit) {
            Wait::Found(line) => return Ok(line),
            Wait::Ended => format!("the guest ended ({:?})", self.how_it_ended()),
            Wait::TimedOut => format!("nothing of the kind in {} s", limit.as_secs()),
        };
        bail!(
            "{}: waiting for `{pattern}`: {how}; the last line was: {}; console: {}",
            self.name,
            self.console.last_words(),
            self.log.display()
        )
    }

    /// Waits until the guest ends by itself.
    ///
    /// # Errors
    /// It still runs after `limit`, or at the deadline.
    pub fn wait_end(&mut self, limit: Duration) -> Result<End> {
        let never = Regex::new("[^\\s\\S]").context("a pattern that matches nothing")?;
        let mut next = self.next;
        match self.wait_from(&mut next, &never, limit) {
            Wait::Ended => {
                self.child.wait().context("waiting for QEMU's end")?;
                Ok(self.how_it_ended())
            }
            _ => bail!(
                "{}: still running after {} s; the last line was: {}; console: {}",
                self.name,
                self.started.elapsed().as_secs(),
                self.console.last_words(),
                self.log.display()
            ),
        }
    }

    /// As [`Vm::wait_end`], where no other end is right.
    ///
    /// # Errors
    /// It ended in another way, or still runs.
    pub fn expect_end(&mut self, expected: &End, limit: Duration) -> Result<()> {
        let end = self.wait_end(limit)?;
        ensure!(
            end == *expected,
            "{}: {end:?} and not {expected:?}; the last line was: {}; console: {}",
            self.name,
            self.console.last_words(),
            self.log.display()
        );
        Ok(())
    }

    fn how_it_ended(&self) -> End {
        // The event comes before QEMU closes the console, but through another thread.
        for _ in 0..100 {
            match self.qmp.shutdown_reason().as_deref() {
                Some("guest-reset") => return End::Reset,
                Some("guest-shutdown") => return End::PowerOff,
                Some(reason) => return End::Other(reason.to_owned()),
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
        End::Other("QEMU ended without saying why".to_owned())
    }

    /// Types `text` on the guest's console.
    ///
    /// # Errors
    /// QEMU is gone.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the console is closed")?;
        stdin.write_all(text.as_bytes())?;
        stdin.flush().context("typing on the console")
    }

    /// The control channel.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// Everything the guest has printed.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// The console's log.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The time since QEMU's start.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let _ = fs::remove_file(&self.socket);
    }
}

/// The build folder of the workspace.
#[must_use]
pub fn target_folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    )
}

/// Where the logs of the run called `name` are kept; made when it is not there.
///
/// # Errors
/// It cannot be made.
pub fn log_folder(name: &str) -> Result<PathBuf> {
    let folder = target_folder().join("qemu-logs").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder.canonicalize().unwrap_or(folder))
}

/// A name of its own for each control channel, short enough for a socket's address.
fn socket_path() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    env::temp_dir().join(format!("kdumprd-{}-{number}.qmp", std::process::id()))
}

/// The right to run one guest. As many run at once as there are processors, over all test processes, so that each gets
/// the time that its deadlines are made for.
#[derive(Debug)]
struct Slot {
    _lock: File,
}

impl Slot {
    fn take() -> Result<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let folder = setup::cache()?;
        loop {
            for number in 0..processors {
                let path = folder.join(format!("guest-{number}.lock"));
                let file =
                    File::create(&path).with_context(|| format!("opening {}", path.display()))?;
                if file.try_lock().is_ok() {
                    return Ok(Self { _lock: file });
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}
