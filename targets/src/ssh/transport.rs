// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets to and from the server: protection, waiting, and what a server may say at any time.
//!
//! Source: RFC 4253.

mod keys;
mod versions;

use super::algorithms::Offer;
use super::error::SshError;
use super::message;
use super::random::Random;
use super::stream::{Stream, Want};
use super::wire::{Reader, Writer};
use crate::clock::now;
use crate::text::Text;
use collector::IoError;
use core::ops::Range;
use core::time::Duration;
use packet_cipher::{Cipher, LENGTH_BYTES, TAG_BYTES};

/// What this side says it is.
const VERSION: &[u8] = b"SSH-2.0-kdumprd";
/// The longest packet that everybody must take. Source: RFC 4253 section 6.1.
const MAX_PACKET_BYTES: u32 = 35_000;
/// Length, padding length, the longest padding and tag.
const OVERHEAD_BYTES: usize = LENGTH_BYTES + 1 + 20 + TAG_BYTES;
/// The bytes that a buffer for packets from the server has: one of the longest.
pub(crate) const INPUT_BYTES: usize = 36 << 10;
/// The bytes that a buffer for packets to the server has: four of the longest, which go out by one call.
pub(crate) const OUTPUT_BYTES: usize = 4 * (32 << 10) + 4 * 128;
/// How many unanswered questions whether the server is there make it gone.
const MOST_UNANSWERED: u32 = 3;

/// How long to wait, and how much to send under one set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long the server may take for one answer, or for taking more data.
    pub answer: Duration,
    /// After so long a silence the server is asked whether it is there; after four times of it, it is not.
    pub keepalive: Duration,
    /// After so many bytes new keys are agreed on. RFC 4253 section 9 recommends 1 GiB.
    pub rekey_bytes: u64,
}

impl Limits {
    /// What holds in a capture kernel.
    pub const DEFAULT: Self = Self {
        answer: Duration::from_secs(90),
        keepalive: Duration::from_secs(10),
        rekey_bytes: 1 << 30,
    };
}

/// Where a packet's payload is.
pub(crate) type Payload = Range<usize>;

/// Packets over a stream.
pub(crate) struct Transport<'b, S> {
    stream: S,
    random: &'b mut Random,
    offer: Offer<'b>,
    pub(crate) limits: Limits,
    input: &'b mut [u8],
    /// What was received and not looked at yet.
    received: Range<usize>,
    output: &'b mut [u8],
    /// What is to be sent, in whole packets.
    queued: Range<usize>,
    sealer: Cipher,
    sealed: u32,
    opener: Cipher,
    opened: u32,
    server_version: Text<255>,
    session: Option<[u8; 32]>,
    is_strict: bool,
    /// Our offer of new keys was sent, with this cookie, and the server's is awaited.
    offered: Option<[u8; 16]>,
    /// Bytes either way under the present keys.
    used_bytes: u64,
    is_authenticated: bool,
    heard: Duration,
    unanswered: u32,
    /// Why nothing more comes of this connection: whoever asks again is told at once.
    broken: Option<SshError>,
}

impl<'b, S: Stream> Transport<'b, S> {
    /// Nothing has been said yet.
    pub(crate) fn new(
        stream: S,
        offer: Offer<'b>,
        random: &'b mut Random,
        limits: Limits,
        input: &'b mut [u8],
        output: &'b mut [u8],
    ) -> Self {
        Self {
            stream,
            random,
            offer,
            limits,
            input,
            received: 0..0,
            output,
            queued: 0..0,
            sealer: Cipher::None,
            sealed: 0,
            opener: Cipher::None,
            opened: 0,
            server_version: Text::EMPTY,
            session: None,
            is_strict: false,
            offered: None,
            used_bytes: 0,
            is_authenticated: false,
            heard: now(),
            unanswered: 0,
            broken: None,
        }
    }

    /// Exchanges version lines and the first keys.
    pub(crate) fn begin(&mut self) -> Result<(), SshError> {
        let until = self.until();
        self.versions(until)?;
        self.offer_keys()?;
        let payload = self.packet(until)?;
        if self.kind(&payload) != message::KEXINIT {
            // It may say why it will not.
            self.noise(&payload)?;
            return Err(SshError::Protocol("it does not begin with its offer"));
        }
        self.exchange(payload, until)
    }

    /// The end of a wait that begins now.
    pub(crate) fn until(&self) -> Duration {
        now().saturating_add(self.limits.answer)
    }

    pub(crate) const fn session(&self) -> Option<&[u8; 32]> {
        self.session.as_ref()
    }

    /// From now on the server may be asked whether it is there.
    pub(crate) fn authenticated(&mut self) {
        self.is_authenticated = true;
    }

    /// The bytes of a payload, until the next packet is asked for.
    pub(crate) fn bytes(&self, payload: &Payload) -> &[u8] {
        self.input.get(payload.clone()).unwrap_or_default()
    }

    pub(crate) fn kind(&self, payload: &Payload) -> u8 {
        self.bytes(payload).first().copied().unwrap_or(0)
    }

    /// Values of a payload, behind its kind.
    pub(crate) fn reader(&self, payload: &Payload) -> Reader<'_> {
        Reader(self.bytes(payload).get(1..).unwrap_or_default())
    }

    fn queue_bytes(&mut self, bytes: &[u8]) -> Result<(), SshError> {
        let end = self.queued.end.saturating_add(bytes.len());
        let place = self.output.get_mut(self.queued.end..end);
        place
            .ok_or(SshError::TooLong("a line to the server"))?
            .copy_from_slice(bytes);
        self.queued.end = end;
        Ok(())
    }

    /// Queues a packet whose payload, at most `most` bytes, `build` writes.
    pub(crate) fn queue(
        &mut self,
        most: usize,
        build: impl FnOnce(&mut Writer<'_>),
    ) -> Result<(), SshError> {
        self.queue_with(most, build, &[])
    }

    /// The same, with `data` behind what `build` writes.
    pub(crate) fn queue_with(
        &mut self,
        most: usize,
        build: impl FnOnce(&mut Writer<'_>),
        data: &[u8],
    ) -> Result<(), SshError> {
        if self.queued.is_empty() {
            self.queued = 0..0;
        }
        let needed = most
            .saturating_add(data.len())
            .saturating_add(OVERHEAD_BYTES);
        if self.output.len().saturating_sub(self.queued.end) < needed {
            self.flush()?;
        }
        let too_long = SshError::TooLong("a message to the server");
        let room = self.output.get_mut(self.queued.end..).ok_or(too_long)?;
        let start = LENGTH_BYTES.saturating_add(1);
        let end = start.saturating_add(most).min(room.len());
        let mut writer = Writer::new(room.get_mut(start..end).ok_or(too_long)?);
        build(&mut writer);
        let written = writer.len().ok_or(too_long)?;
        let payload = written.saturating_add(data.len());

        // The padding has at least four bytes, and fills the last block.
        let block = self.sealer.block_bytes();
        let counted = payload.saturating_add(if self.sealer.pads_length() { start } else { 1 });
        let over = counted.saturating_add(4).checked_rem(block).unwrap_or(0);
        let padding = 4_usize.saturating_add(if over == 0 {
            0
        } else {
            block.saturating_sub(over)
        });
        let length = payload.saturating_add(1).saturating_add(padding);
        let tag_bytes = self.sealer.tag_bytes();
        let whole = LENGTH_BYTES
            .saturating_add(length)
            .saturating_add(tag_bytes);
        let packet = room.get_mut(..whole).ok_or(too_long)?;
        let (front, body) = packet
            .split_first_chunk_mut::<LENGTH_BYTES>()
            .ok_or(too_long)?;
        *front = u32::try_from(length).map_err(|_| too_long)?.to_be_bytes();
        if let Some(place) = body.first_mut() {
            *place = u8::try_from(padding).map_err(|_| too_long)?;
        }
        if let Some(rest) = body.get_mut(payload.saturating_add(1)..) {
            rest.fill(0);
        }
        let at = start.saturating_add(written);
        self.sealer.seal_with(self.sealed, packet, at, data);
        self.sealed = self.sealed.wrapping_add(1);
        self.queued.end = self.queued.end.saturating_add(whole);
        self.count(whole);
        Ok(())
    }

    fn count(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.used_bytes = self.used_bytes.saturating_add(bytes);
    }

    /// Sends everything that is queued.
    pub(crate) fn flush(&mut self) -> Result<(), SshError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let result = self.send();
        self.broken = result.err();
        result
    }

    fn send(&mut self) -> Result<(), SshError> {
        let mut until = self.until();
        while !self.queued.is_empty() {
            let data = self.output.get(self.queued.clone()).unwrap_or_default();
            match self.stream.write(data).map_err(broken)? {
                Some(0) => return Err(SshError::Closed),
                Some(len) => {
                    self.queued.start = self.queued.start.saturating_add(len);
                    until = self.until();
                }
                None => {
                    // The server may be busy with talking: what it says is taken, but not looked at.
                    let has_room = self.received.end < self.input.len();
                    let want = if has_room { Want::Both } else { Want::Write };
                    let left = until.saturating_sub(now());
                    if left.is_zero() {
                        return Err(SshError::TimedOut);
                    }
                    let ready = self.stream.wait(want, left).map_err(broken)?;
                    if ready.read && has_room && !ready.write {
                        self.take()?;
                    }
                }
            }
        }
        self.queued = 0..0;
        Ok(())
    }

    /// The server did what it was asked for.
    pub(crate) fn got_further(&mut self) {
        self.stream.got_further();
    }

    /// Takes bytes that are there into the free end of the buffer. Whether there were any.
    fn take(&mut self) -> Result<bool, SshError> {
        let room = self.input.get_mut(self.received.end..).unwrap_or_default();
        if room.is_empty() {
            return Ok(false);
        }
        match self.stream.read(room).map_err(broken)? {
            Some(0) => Err(SshError::Closed),
            Some(len) => {
                self.received.end = self.received.end.saturating_add(len);
                self.heard = now();
                self.unanswered = 0;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Waits for more bytes.
    fn fill(&mut self, until: Duration) -> Result<(), SshError> {
        self.flush()?;
        if self.received.is_empty() {
            self.received = 0..0;
        } else if self.received.start > 0 && self.received.end == self.input.len() {
            self.input.copy_within(self.received.clone(), 0);
            self.received = 0..self.received.len();
        }
        if self.received.end == self.input.len() {
            return Err(SshError::Protocol("it sends more than fits"));
        }
        while !self.take()? {
            let time = now();
            let left = until.saturating_sub(time);
            if left.is_zero() {
                return Err(SshError::TimedOut);
            }
            let patience = left.min(self.limits.keepalive);
            let ready = self.stream.wait(Want::Read, patience).map_err(broken)?;
            let is_silent = now().saturating_sub(self.heard) >= self.limits.keepalive;
            if !ready.read && is_silent && self.is_authenticated && self.offered.is_none() {
                if self.unanswered >= MOST_UNANSWERED {
                    return Err(SshError::TimedOut);
                }
                self.unanswered = self.unanswered.saturating_add(1);
                self.heard = now();
                self.queue(64, |writer| {
                    writer.u8(message::GLOBAL_REQUEST);
                    writer.string(b"keepalive@openssh.com");
                    writer.bool(true);
                })?;
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Waits for `len` bytes from the server.
    fn need(&mut self, len: usize, until: Duration) -> Result<(), SshError> {
        if self.received.start.saturating_add(len) > self.input.len() {
            self.input.copy_within(self.received.clone(), 0);
            self.received = 0..self.received.len();
        }
        while self.received.len() < len {
            self.fill(until)?;
        }
        Ok(())
    }

    /// The next packet, whatever it is.
    fn packet(&mut self, until: Duration) -> Result<Payload, SshError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let result = self.receive(until);
        if let Err(error) = result {
            self.broken = Some(error);
        }
        result
    }

    fn receive(&mut self, until: Duration) -> Result<Payload, SshError> {
        self.need(LENGTH_BYTES, until)?;
        let front = self
            .input
            .get(self.received.clone())
            .and_then(|held| held.first_chunk::<LENGTH_BYTES>())
            .copied()
            .unwrap_or_default();
        let length = self.opener.length(self.opened, front);
        let block = u32::try_from(self.opener.block_bytes()).unwrap_or(8);
        let padded = if self.opener.pads_length() {
            length.saturating_add(4)
        } else {
            length
        };
        if !(8..=MAX_PACKET_BYTES).contains(&length) || padded.checked_rem(block) != Some(0) {
            return Err(match self.opener {
                Cipher::None => SshError::Protocol("a packet of impossible length"),
                _ => SshError::Damaged,
            });
        }
        let length = usize::try_from(length).unwrap_or(0);
        let whole = LENGTH_BYTES
            .saturating_add(length)
            .saturating_add(self.opener.tag_bytes());
        self.need(whole, until)?;
        let start = self.received.start;
        let end = start.saturating_add(whole);
        let packet = self.input.get_mut(start..end).unwrap_or_default();
        let body = self
            .opener
            .open(self.opened, packet)
            .map_err(|_| SshError::Damaged)?;
        self.opened = self.opened.wrapping_add(1);
        self.received.start = end;
        let body = packet.get(body).unwrap_or_default();
        let padding = usize::from(body.first().copied().unwrap_or(0));
        let payload = body.len().saturating_sub(1).checked_sub(padding);
        self.count(whole);
        match payload {
            Some(payload) if payload > 0 && padding >= 4 => {
                let from = start.saturating_add(LENGTH_BYTES).saturating_add(1);
                Ok(from..from.saturating_add(payload))
            }
            _ => Err(SshError::Protocol("a packet with more padding than bytes")),
        }
    }

    /// The next packet that is for somebody else than this file.
    pub(crate) fn next(&mut self, until: Duration) -> Result<Payload, SshError> {
        loop {
            if let Some(payload) = self.step(until)? {
                return Ok(payload);
            }
            if now() >= until {
                return Err(SshError::TimedOut);
            }
        }
    }

    /// The same, but none when there are new keys.
    pub(crate) fn step(&mut self, until: Duration) -> Result<Option<Payload>, SshError> {
        loop {
            let payload = self.packet(until)?;
            match self.kind(&payload) {
                message::KEXINIT => {
                    self.exchange(payload, until)?;
                    return Ok(None);
                }
                message::GLOBAL_REQUEST => {
                    let wants_answer = {
                        let mut reader = self.reader(&payload);
                        let _ = reader.string();
                        reader.bool()
                    };
                    if wants_answer == Some(true) {
                        self.queue(8, |writer| writer.u8(message::REQUEST_FAILURE))?;
                    }
                }
                // To our question whether it is there; either will do.
                message::REQUEST_SUCCESS | message::REQUEST_FAILURE => {}
                kind if kind < message::SERVICE_REQUEST || kind == message::EXT_INFO => {
                    self.noise(&payload)?;
                }
                _ => return Ok(Some(payload)),
            }
            // A server that only makes noise gets no more time for it.
            if now() >= until {
                return Err(SshError::TimedOut);
            }
        }
    }

    /// What may come at any time and asks for nothing.
    fn noise(&self, payload: &Payload) -> Result<(), SshError> {
        match self.kind(payload) {
            message::IGNORE | message::DEBUG | message::EXT_INFO => Ok(()),
            message::DISCONNECT => {
                let mut reader = self.reader(payload);
                let reason = reader.u32().unwrap_or(0);
                let text = reader.string().unwrap_or_default();
                Err(SshError::Disconnected(reason, Text::new(text)))
            }
            message::UNIMPLEMENTED => {
                Err(SshError::Protocol("it does not know one of our messages"))
            }
            _ => Err(SshError::Protocol("a message out of place")),
        }
    }

    /// Says that this side ends the connection. The other side may be gone already, so that nothing comes of a failure.
    pub(crate) fn disconnect(&mut self) {
        let said = self.queue(64, |writer| {
            writer.u8(message::DISCONNECT);
            writer.u32(11);
            writer.string(b"done");
            writer.string(b"");
        });
        if said.is_ok() {
            let _ = self.flush();
        }
    }
}

/// Why the connection is of no more use. Whether the server's end shows as one or as an error is chance.
fn broken(error: IoError) -> SshError {
    const EPIPE: IoError = IoError(32);
    const ECONNRESET: IoError = IoError(104);
    match error {
        EPIPE | ECONNRESET => SshError::Closed,
        error => SshError::Io(error),
    }
}
