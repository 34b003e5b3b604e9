// SPDX-License-Identifier: MIT OR Apache-2.0
//! One channel at a time: bytes to a program on the server, and bytes from it.
//!
//! Source: RFC 4254 sections 5 and 6.

use super::error::SshError;
use super::message;
use super::stream::Stream;
use super::transport::{Payload, Transport};
use crate::clock::now;
use crate::text::Text;
use core::ops::Range;
use core::time::Duration;

/// The bytes that a buffer for what the program says has; it is also all that the server may send unasked.
pub(crate) const INBOX_BYTES: usize = 16 << 10;
/// The most data of one packet, however much the server would take.
const MAX_DATA_BYTES: usize = 32 << 10;
/// A message's kind, channel and length.
const DATA_HEAD_BYTES: usize = 9;

/// What opens a program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program<'a> {
    /// A subsystem by its name.
    Subsystem(&'a str),
    /// A command for the user's shell.
    Command(&'a str),
}

/// The connection, and the channel that is open on it.
pub(crate) struct Channel<'b, S> {
    transport: Transport<'b, S>,
    inbox: &'b mut [u8],
    held: Range<usize>,
    /// How much the server may still send before it is told that there is more room.
    granted: u32,
    /// The number of the channel on this side: a new one each time, so that a late message is not taken for a new one's.
    local: u32,
    remote: u32,
    /// How much the server takes before it says that there is more room.
    window: u32,
    packet_bytes: usize,
    state: State,
    /// How the program ended.
    status: Option<u32>,
    /// What it said beside its output.
    words: Text<80>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    is_open: bool,
    answer: Option<bool>,
    has_ended: bool,
    is_closed: bool,
    we_closed: bool,
}

impl<'b, S: Stream> Channel<'b, S> {
    pub(crate) fn new(transport: Transport<'b, S>, inbox: &'b mut [u8]) -> Self {
        Self {
            transport,
            inbox,
            held: 0..0,
            granted: 0,
            local: 0,
            remote: 0,
            window: 0,
            packet_bytes: 0,
            state: State::default(),
            status: None,
            words: Text::EMPTY,
        }
    }

    pub(crate) fn until(&self) -> Duration {
        self.transport.until()
    }

    /// The program did what it was asked for.
    pub(crate) fn got_further(&mut self) {
        self.transport.got_further();
    }

    /// What the program said beside its output.
    pub(crate) const fn words(&self) -> Text<80> {
        self.words
    }

    /// Opens a channel, and the program on it. False when the server does not have it.
    pub(crate) fn open(&mut self, program: Program<'_>) -> Result<bool, SshError> {
        let until = self.until();
        self.close()?;
        self.local = self.local.wrapping_add(1);
        self.held = 0..0;
        self.state = State::default();
        self.status = None;
        self.words = Text::EMPTY;
        self.window = 0;
        self.granted = u32::try_from(self.inbox.len()).unwrap_or(0);
        let (local, granted) = (self.local, self.granted);
        self.transport.queue(64, |writer| {
            writer.u8(message::CHANNEL_OPEN);
            writer.string(b"session");
            writer.u32(local);
            writer.u32(granted);
            writer.u32(granted);
        })?;
        while !self.state.is_open {
            self.receive(until)?;
        }
        let (kind, text) = match program {
            Program::Subsystem(name) => ("subsystem", name),
            Program::Command(command) => ("exec", command),
        };
        let remote = self.remote;
        self.transport
            .queue(text.len().saturating_add(32), |writer| {
                writer.u8(message::CHANNEL_REQUEST);
                writer.u32(remote);
                writer.string(kind.as_bytes());
                writer.bool(true);
                writer.string(text.as_bytes());
            })?;
        loop {
            if let Some(answer) = self.state.answer {
                return Ok(answer);
            }
            if self.state.is_closed {
                return Ok(false);
            }
            self.receive(until)?;
        }
    }

    /// Sends `head` and `data` to the program, as one stretch of bytes.
    pub(crate) fn send(&mut self, mut head: &[u8], mut data: &[u8]) -> Result<(), SshError> {
        while !(head.is_empty() && data.is_empty()) {
            self.wait_for_window()?;
            let most = usize::try_from(self.window)
                .unwrap_or(usize::MAX)
                .min(self.packet_bytes);
            let (head_now, head_later) = head.split_at(most.min(head.len()));
            let rest = most.saturating_sub(head_now.len());
            let (data_now, data_later) = data.split_at(rest.min(data.len()));
            let len = head_now.len().saturating_add(data_now.len());
            let remote = self.remote;
            self.transport.queue_with(
                DATA_HEAD_BYTES.saturating_add(head_now.len()),
                |writer| {
                    writer.u8(message::CHANNEL_DATA);
                    writer.u32(remote);
                    writer.length(len);
                    writer.bytes(head_now);
                },
                data_now,
            )?;
            self.window = self
                .window
                .saturating_sub(u32::try_from(len).unwrap_or(u32::MAX));
            (head, data) = (head_later, data_later);
        }
        Ok(())
    }

    fn wait_for_window(&mut self) -> Result<(), SshError> {
        self.transport.renew_keys()?;
        let mut until = None;
        while self.window == 0 || self.transport.is_exchanging() {
            self.is_alive()?;
            let until = *until.get_or_insert_with(|| self.transport.until());
            self.receive(until)?;
        }
        self.is_alive()
    }

    /// The program can still take data.
    fn is_alive(&self) -> Result<(), SshError> {
        if self.state.is_closed {
            return Err(SshError::Refused("more data", self.words));
        }
        Ok(())
    }

    /// What the program said and nobody took yet.
    pub(crate) fn held(&self) -> &[u8] {
        self.inbox.get(self.held.clone()).unwrap_or_default()
    }

    /// The first `len` bytes of [`Self::held`] are done with.
    pub(crate) fn consume(&mut self, len: usize) -> Result<(), SshError> {
        let len = len.min(self.held.len());
        self.held.start = self.held.start.saturating_add(len);
        self.grant()
    }

    /// Tells the server that there is room again, when it is much.
    fn grant(&mut self) -> Result<(), SshError> {
        if self.held.is_empty() {
            self.held = 0..0;
        }
        let room = self.inbox.len().saturating_sub(self.held.len());
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let more = room.saturating_sub(self.granted);
        let is_much = usize::try_from(more).unwrap_or(0) >= self.inbox.len() / 2;
        if is_much && !self.transport.is_exchanging() && !self.state.is_closed {
            let remote = self.remote;
            self.transport.queue(16, |writer| {
                writer.u8(message::CHANNEL_WINDOW_ADJUST);
                writer.u32(remote);
                writer.u32(more);
            })?;
            self.granted = room;
        }
        Ok(())
    }

    /// Waits until the program said something more. False when nothing more will come.
    pub(crate) fn more(&mut self, until: Duration) -> Result<bool, SshError> {
        let before = self.held.len();
        loop {
            if self.held.len() > before {
                return Ok(true);
            }
            if self.state.has_ended || self.state.is_closed {
                return Ok(false);
            }
            self.receive(until)?;
        }
    }

    /// Says that no more data will come, takes what the program says to the end, and how it ends.
    pub(crate) fn finish(&mut self) -> Result<u32, SshError> {
        while self.transport.is_exchanging() {
            let until = self.until();
            self.receive(until)?;
        }
        let remote = self.remote;
        if !self.state.is_closed {
            self.transport.queue(8, |writer| {
                writer.u8(message::CHANNEL_EOF);
                writer.u32(remote);
            })?;
        }
        let until = self.until();
        while !self.state.is_closed {
            let held = self.held.len();
            self.consume(held)?;
            self.receive(until)?;
        }
        self.close()?;
        // A program that was killed has no status.
        Ok(self.status.unwrap_or(255))
    }

    /// Ends the channel, and takes the server's end of it.
    pub(crate) fn close(&mut self) -> Result<(), SshError> {
        if !self.state.we_closed && self.state.is_open {
            self.state.we_closed = true;
            let remote = self.remote;
            self.transport.queue(8, |writer| {
                writer.u8(message::CHANNEL_CLOSE);
                writer.u32(remote);
            })?;
            self.transport.flush()?;
        }
        Ok(())
    }

    /// Sends everything that is queued.
    pub(crate) fn flush(&mut self) -> Result<(), SshError> {
        self.transport.flush()
    }

    /// Ends the connection.
    pub(crate) fn disconnect(&mut self) {
        self.transport.disconnect();
    }

    /// Takes one message from the server, or new keys.
    fn receive(&mut self, until: Duration) -> Result<(), SshError> {
        // Messages that change nothing are no progress, however many come.
        if now() >= until {
            return Err(SshError::TimedOut);
        }
        let Some(payload) = self.transport.step(until)? else {
            return Ok(());
        };
        self.message(&payload).unwrap_or(Err(SshError::Protocol(
            "a message about a channel ends too early",
        )))
    }

    fn message(&mut self, payload: &Payload) -> Option<Result<(), SshError>> {
        let kind = self.transport.kind(payload);
        let mut reader = self.transport.reader(payload);
        if kind == message::CHANNEL_OPEN {
            // Nothing is opened towards us.
            reader.string()?;
            let sender = reader.u32()?;
            return Some(self.transport.queue(64, |writer| {
                writer.u8(message::CHANNEL_OPEN_FAILURE);
                writer.u32(sender);
                writer.u32(1);
                writer.string(b"");
                writer.string(b"");
            }));
        }
        if !(message::CHANNEL_OPEN_CONFIRMATION..=message::CHANNEL_FAILURE).contains(&kind) {
            return Some(Err(SshError::Protocol("a message out of place")));
        }
        let recipient = reader.u32()?;
        if recipient != self.local {
            // A channel of before has its last words.
            let is_old = recipient > 0 && recipient < self.local;
            return Some(if is_old {
                Ok(())
            } else {
                Err(SshError::Protocol(
                    "a message about a channel that is not open",
                ))
            });
        }
        let is_opening = matches!(
            kind,
            message::CHANNEL_OPEN_CONFIRMATION | message::CHANNEL_OPEN_FAILURE
        );
        if is_opening == self.state.is_open {
            return Some(Err(SshError::Protocol(
                "a channel is opened twice, or used unopened",
            )));
        }
        match kind {
            message::CHANNEL_OPEN_CONFIRMATION => {
                self.remote = reader.u32()?;
                self.window = reader.u32()?;
                let packet_bytes = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
                if packet_bytes == 0 {
                    return Some(Err(SshError::Protocol("it takes packets of no size")));
                }
                self.packet_bytes = packet_bytes.min(MAX_DATA_BYTES);
                self.state.is_open = true;
            }
            message::CHANNEL_OPEN_FAILURE => {
                reader.u32()?;
                let text = Text::new(reader.string()?);
                return Some(Err(SshError::Refused("a channel", text)));
            }
            message::CHANNEL_WINDOW_ADJUST => {
                self.window = match self.window.checked_add(reader.u32()?) {
                    Some(window) => window,
                    None => return Some(Err(SshError::Protocol("a window of more than 4 GiB"))),
                };
                // The program took what came before.
                self.got_further();
            }
            message::CHANNEL_DATA => {
                let data = reader.string()?;
                let range = self.range_of(payload, data);
                return Some(self.take_data(range));
            }
            message::CHANNEL_EXTENDED_DATA => {
                reader.u32()?;
                let data = reader.string()?;
                let words = data.trim_ascii();
                let len = data.len();
                if self.words.is_empty() {
                    self.words = Text::new(words);
                }
                return Some(self.take_from_grant(len).and_then(|()| self.grant()));
            }
            message::CHANNEL_EOF => self.state.has_ended = true,
            message::CHANNEL_CLOSE => {
                self.state.has_ended = true;
                self.state.is_closed = true;
                return Some(self.close());
            }
            message::CHANNEL_REQUEST => {
                let name = reader.string()?;
                let wants_answer = reader.bool()?;
                match name {
                    b"exit-status" => self.status = Some(reader.u32()?),
                    b"exit-signal" => {
                        let signal = reader.string()?;
                        if self.words.is_empty() {
                            self.words = Text::new(signal);
                        }
                    }
                    _ => {}
                }
                let remote = self.remote;
                if wants_answer {
                    return Some(self.transport.queue(8, |writer| {
                        writer.u8(message::CHANNEL_FAILURE);
                        writer.u32(remote);
                    }));
                }
            }
            message::CHANNEL_SUCCESS => self.state.answer = Some(true),
            _ => self.state.answer = Some(false),
        }
        Some(Ok(()))
    }

    /// Where `data`, a part of the payload's end, is in it.
    fn range_of(&self, payload: &Payload, data: &[u8]) -> Payload {
        // A string's data lie behind kind, channel and length.
        let start = payload.start.saturating_add(DATA_HEAD_BYTES);
        start..start.saturating_add(data.len())
    }

    fn take_from_grant(&mut self, len: usize) -> Result<(), SshError> {
        let granted = u32::try_from(len)
            .ok()
            .and_then(|len| self.granted.checked_sub(len));
        self.granted = granted.ok_or(SshError::Protocol("it sends more than it may"))?;
        Ok(())
    }

    fn take_data(&mut self, data: Payload) -> Result<(), SshError> {
        let len = data.len();
        self.take_from_grant(len)?;
        if self.inbox.len().saturating_sub(self.held.end) < len {
            self.inbox.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
        }
        let end = self.held.end.saturating_add(len);
        let place = self.inbox.get_mut(self.held.end..end);
        // What may be sent is never more than what has room.
        place
            .ok_or(SshError::Protocol("it sends more than it may"))?
            .copy_from_slice(self.transport.bytes(&data));
        self.held.end = end;
        Ok(())
    }
}
