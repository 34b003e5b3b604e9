// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines by which both sides say who they are.
//!
//! Source: RFC 4253 section 4.2.

use super::{Transport, VERSION};
use crate::ssh::error::SshError;
use crate::ssh::stream::Stream;
use crate::text::Text;
use core::time::Duration;

/// The most bytes before the server's version line.
const MAX_PREAMBLE_BYTES: usize = 8192;

impl<S: Stream> Transport<'_, S> {
    pub(super) fn versions(&mut self, until: Duration) -> Result<(), SshError> {
        self.queue_bytes(VERSION)?;
        self.queue_bytes(b"\r\n")?;
        self.flush()?;
        let mut passed = 0_usize;
        loop {
            let held = self.input.get(self.received.clone()).unwrap_or_default();
            let Some(end) = held.iter().position(|&byte| byte == b'\n') else {
                if held.len().saturating_add(passed) > MAX_PREAMBLE_BYTES {
                    return Err(SshError::Version(Text::new(first_line(held))));
                }
                self.fill(until)?;
                continue;
            };
            let line = held.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let is_version = line.starts_with(b"SSH-");
            if is_version {
                self.server_version = Text::new(line);
                let is_two = line.starts_with(b"SSH-2.0-") || line.starts_with(b"SSH-1.99-");
                if !is_two || self.server_version.is_cut() {
                    return Err(SshError::Version(Text::new(line)));
                }
            }
            let used = end.saturating_add(1);
            passed = passed.saturating_add(used);
            self.received.start = self.received.start.saturating_add(used);
            if is_version {
                return Ok(());
            }
            if passed > MAX_PREAMBLE_BYTES {
                return Err(SshError::Protocol("it talks and talks before it begins"));
            }
        }
    }
}

fn first_line(bytes: &[u8]) -> &[u8] {
    bytes
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default()
}
