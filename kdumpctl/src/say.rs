// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages: on the terminal, in the system's log and in the kernel's, each as far as its level says.

use crate::sysconfig::{Level, Sysconfig};
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;

/// Where messages go.
#[derive(Clone, Copy, Debug)]
pub struct Say {
    terminal: Level,
    syslog: Level,
    kernel_log: Level,
}

impl Default for Say {
    fn default() -> Self {
        Self::new(&Sysconfig::default())
    }
}

impl Say {
    /// As the file says.
    #[must_use]
    pub const fn new(sysconfig: &Sysconfig) -> Self {
        Self {
            terminal: sysconfig.terminal,
            syslog: sysconfig.syslog,
            kernel_log: sysconfig.kernel_log,
        }
    }

    /// Something failed.
    pub fn error(&self, message: impl Display) {
        self.tell(Level::Error, &message);
    }

    /// Something to know before relying on the rest.
    pub fn warning(&self, message: impl Display) {
        self.tell(Level::Warning, &message);
    }

    /// What was done.
    pub fn info(&self, message: impl Display) {
        self.tell(Level::Info, &message);
    }

    /// What a person who looks for a cause wants to see.
    pub fn debug(&self, message: impl Display) {
        self.tell(Level::Debug, &message);
    }

    fn tell(&self, level: Level, message: &dyn Display) {
        if level <= self.terminal {
            match level {
                // That nobody reads on, as behind `grep -q`, is no failure.
                Level::Info | Level::Debug => {
                    let _gone = writeln!(io::stdout(), "kdump: {message}");
                }
                _ => eprintln!("kdump: {message}"),
            }
        }
        // syslog(3): the facility daemon is 3; error 3, warning 4, information 6, debugging 7.
        let severity = match level {
            Level::None | Level::Error => 3,
            Level::Warning => 4,
            Level::Info => 6,
            Level::Debug => 7,
        };
        let line = format!("<{}>kdumpctl: {message}", 3 * 8 + severity);
        // A log that is not there is no reason to stop.
        if level <= self.syslog
            && let Ok(socket) = UnixDatagram::unbound()
        {
            let _ = socket.send_to(line.as_bytes(), "/dev/log");
        }
        if level <= self.kernel_log
            && let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg")
        {
            let _ = log.write_all(format!("{line}\n").as_bytes());
        }
    }
}
