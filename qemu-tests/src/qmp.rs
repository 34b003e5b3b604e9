// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's control channel: commands, and the events that say what became of the guest.
//!
//! Source: QEMU 7.2 `docs/interop/qmp-spec.txt`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take for one command.
const ANSWER: Duration = Duration::from_secs(120);

/// A connection to one QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    answers: Receiver<Value>,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Qmp {
    /// Greets QEMU over a fresh connection.
    pub(crate) fn new(stream: UnixStream) -> Result<Self> {
        let reader = BufReader::new(stream.try_clone().context("the control channel")?);
        let (send, answers) = channel();
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let Ok(value) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                if value.get("event").is_some() {
                    seen.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(value);
                } else if value.get("return").is_some() || value.get("error").is_some() {
                    // Nobody listens any more when the guest is being closed.
                    let _ = send.send(value);
                }
            }
        });
        let mut qmp = Self {
            stream,
            answers,
            events,
        };
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and returns its answer.
    ///
    /// # Errors
    /// QEMU refused it, or is gone.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.stream
            .write_all(format!("{request}\n").as_bytes())
            .with_context(|| format!("asking QEMU for {command}"))?;
        let mut answer = self
            .answers
            .recv_timeout(ANSWER)
            .with_context(|| format!("waiting for QEMU's answer to {command}"))?;
        if let Some(error) = answer.get("error") {
            bail!("QEMU refused {command} {arguments}: {error}");
        }
        Ok(answer["return"].take())
    }

    /// The reason of QEMU's `SHUTDOWN` event, once there was one: `guest-reset`, `guest-shutdown`, …
    #[must_use]
    pub fn shutdown_reason(&self) -> Option<String> {
        let event = self.event("SHUTDOWN")?;
        Some(event["data"]["reason"].as_str().unwrap_or("").to_owned())
    }

    /// The first event of this name, once there was one.
    #[must_use]
    pub fn event(&self, name: &str) -> Option<Value> {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .find(|event| event["event"] == name)
            .cloned()
    }
}
