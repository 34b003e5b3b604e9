// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SSH server that does as much of the protocol as a test wants, and then what no server should do.
//!
//! It writes its bytes itself and shares only the ciphers with the client, which real servers confirm elsewhere.

use std::io::{self, Error, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use curve25519_dalek::MontgomeryPoint;
use ed25519_dalek::{Signer as _, SigningKey};
use packet_cipher::{Cipher, CipherKind, KEY_BYTES, NONCE_BYTES, TAG_BYTES};
use sha2::{Digest as _, Sha256};

/// What the client is told to believe.
pub(crate) const HOST_SECRET: [u8; 32] = [7; 32];
const OWN_SECRET: [u8; 32] = [9; 32];
const VERSION: &[u8] = b"SSH-2.0-hostile";

pub(crate) const DISCONNECT: u8 = 1;
pub(crate) const IGNORE: u8 = 2;
pub(crate) const DEBUG: u8 = 4;
pub(crate) const KEXINIT: u8 = 20;
pub(crate) const BANNER: u8 = 53;
pub(crate) const GLOBAL_REQUEST: u8 = 80;
pub(crate) const OPEN_FAILURE: u8 = 92;
pub(crate) const WINDOW_ADJUST: u8 = 93;
pub(crate) const DATA: u8 = 94;
pub(crate) const EXTENDED_DATA: u8 = 95;
pub(crate) const CLOSE: u8 = 97;
pub(crate) const CHANNEL_REQUEST: u8 = 98;

/// A client's number for its first channel.
pub(crate) const CHANNEL: [u8; 4] = [0, 0, 0, 1];

/// A message of this kind.
pub(crate) fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![kind];
    parts.iter().for_each(|part| bytes.extend(*part));
    bytes
}

/// Bytes behind their length.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    let mut string = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    string.extend(bytes);
    string
}

/// Takes a string from the front.
fn take(bytes: &mut &[u8]) -> io::Result<Vec<u8>> {
    let (length, rest) = bytes
        .split_first_chunk::<4>()
        .ok_or_else(|| odd("length"))?;
    let length = u32::from_be_bytes(*length) as usize;
    let (taken, rest) = rest.split_at_checked(length).ok_or_else(|| odd("string"))?;
    *bytes = rest;
    Ok(taken.to_vec())
}

fn odd(what: &str) -> Error {
    Error::other(format!("the client's {what} is odd"))
}

/// What the server says in the exchange of keys.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) ways: &'static str,
    pub(crate) host_keys: &'static str,
    pub(crate) ciphers: &'static str,
    pub(crate) compressions: &'static str,
    pub(crate) host_secret: [u8; 32],
    pub(crate) share: Option<Vec<u8>>,
    /// A bit of the signature is another.
    pub(crate) spoils_signature: bool,
}

impl Exchange {
    pub(crate) const GOOD: Self = Self {
        ways: "curve25519-sha256",
        host_keys: "ssh-ed25519",
        ciphers: "aes128-gcm@openssh.com",
        compressions: "none",
        host_secret: HOST_SECRET,
        share: None,
        spoils_signature: false,
    };
}

/// The server's side of one connection.
pub(crate) struct Peer {
    stream: TcpStream,
    sealer: Cipher,
    opener: Cipher,
    client_version: Vec<u8>,
    session: Option<[u8; 32]>,
    inbox: Vec<u8>,
}

/// Takes one connection, and does `script` with it. An error in it is the client's going away.
pub(crate) fn serve(
    script: impl FnOnce(&mut Peer) -> io::Result<()> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let _ = script(&mut Peer {
            stream,
            sealer: Cipher::None,
            opener: Cipher::None,
            client_version: Vec::new(),
            session: None,
            inbox: Vec::new(),
        });
    });
    address
}

impl Peer {
    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more comes, and takes what does.
    pub(crate) fn hang_up(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        self.fall_silent()
    }

    /// Says nothing more until the client goes.
    pub(crate) fn fall_silent(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while self.stream.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Sends the same message for as long as the client listens, and reads nothing.
    pub(crate) fn repeat(&mut self, payload: &[u8]) -> io::Result<()> {
        loop {
            self.send(payload)?;
        }
    }

    /// A packet as it goes over the wire.
    pub(crate) fn packet(&mut self, payload: &[u8]) -> Vec<u8> {
        let (block, counted) = match self.sealer {
            Cipher::None => (8, payload.len() + 5),
            _ => (16, payload.len() + 1),
        };
        let padding = 4 + (block - (counted + 4) % block) % block;
        let length = u32::try_from(payload.len() + 1 + padding).unwrap();
        let mut packet = length.to_be_bytes().to_vec();
        packet.push(u8::try_from(padding).unwrap());
        packet.extend(payload);
        packet.resize(packet.len() + padding + self.sealer.tag_bytes(), 0);
        self.sealer.seal(0, &mut packet);
        packet
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        let packet = self.packet(payload);
        self.raw(&packet)
    }

    /// The client's next message.
    pub(crate) fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut packet = vec![0; 4];
        self.stream.read_exact(&mut packet)?;
        let length = u32::from_be_bytes(*packet.first_chunk().unwrap()) as usize;
        packet.resize(4 + length + self.opener.tag_bytes(), 0);
        self.stream.read_exact(&mut packet[4..])?;
        let body = self.opener.open(0, &mut packet).map_err(|_| odd("tag"))?;
        let body = &packet[body];
        let padding = usize::from(body[0]);
        Ok(body[1..body.len() - padding].to_vec())
    }

    /// Exchanges version lines.
    pub(crate) fn versions(&mut self) -> io::Result<()> {
        self.raw(VERSION)?;
        self.raw(b"\r\n")?;
        let mut byte = [0];
        loop {
            self.stream.read_exact(&mut byte)?;
            if byte == *b"\n" {
                self.client_version.pop();
                return Ok(());
            }
            self.client_version.push(byte[0]);
        }
    }

    /// Exchanges keys, with the offers.
    pub(crate) fn exchange(&mut self, how: &Exchange) -> io::Result<()> {
        let mut ours = message(KEXINIT, &[&[0; 16]]);
        for list in [
            how.ways,
            how.host_keys,
            how.ciphers,
            how.ciphers,
            "hmac-sha2-256",
            "hmac-sha2-256",
            how.compressions,
            how.compressions,
            "",
            "",
        ] {
            ours.extend(string(list.as_bytes()));
        }
        ours.extend([0; 5]);
        self.send(&ours)?;
        let theirs = loop {
            let payload = self.receive()?;
            if payload[0] == KEXINIT {
                break payload;
            }
        };
        let their_share = take(&mut &self.receive()?[1..])?;
        let point = MontgomeryPoint(
            their_share
                .as_slice()
                .try_into()
                .map_err(|_| odd("share"))?,
        );
        let common = point.mul_clamped(OWN_SECRET).to_bytes();
        let share = MontgomeryPoint::mul_base_clamped(OWN_SECRET)
            .to_bytes()
            .to_vec();
        let share = how.share.clone().unwrap_or(share);
        let key = SigningKey::from_bytes(&how.host_secret);
        let mut blob = string(b"ssh-ed25519");
        blob.extend(string(key.verifying_key().as_bytes()));
        let start = common.iter().take_while(|&&byte| byte == 0).count();
        let mut number = common[start..].to_vec();
        if number[0] >= 0x80 {
            number.insert(0, 0);
        }
        let number = string(&number);
        let mut hash = Sha256::new();
        for part in [
            &self.client_version,
            VERSION,
            &theirs,
            &ours,
            &blob,
            &their_share,
            &share,
        ] {
            hash.update(string(part));
        }
        hash.update(&number);
        let hash: [u8; 32] = hash.finalize().into();
        let mut signed = key.sign(&hash).to_bytes();
        if how.spoils_signature {
            signed[40] ^= 1;
        }
        let mut signature = string(b"ssh-ed25519");
        signature.extend(string(&signed));
        self.send(&message(
            31,
            &[&string(&blob), &string(&share), &string(&signature)],
        ))?;
        self.send(&[21])?;
        let session = *self.session.get_or_insert(hash);
        let derive = |letter: u8| -> [u8; 32] {
            let hash = Sha256::new().chain_update(&number).chain_update(hash);
            let hash = hash.chain_update([letter]).chain_update(session);
            hash.finalize().into()
        };
        let cipher = |nonce, letter| {
            let mut keys = [0; KEY_BYTES];
            keys[..32].copy_from_slice(&derive(letter));
            let nonce: [u8; NONCE_BYTES] = *derive(nonce).first_chunk().unwrap();
            CipherKind::Aes128Gcm.with_keys(&keys, &nonce)
        };
        self.sealer = cipher(b'B', b'D');
        if self.receive()? != [21] {
            return Err(odd("end of the exchange"));
        }
        self.opener = cipher(b'A', b'C');
        Ok(())
    }

    /// Everything up to the first packet under keys.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        self.versions()?;
        self.exchange(&Exchange::GOOD)
    }

    /// The same, and the user is let in.
    pub(crate) fn log_in(&mut self) -> io::Result<()> {
        self.begin()?;
        self.receive()?;
        self.send(&message(6, &[&string(b"ssh-userauth")]))?;
        self.receive()?;
        self.send(&[52])
    }

    /// The same, and a channel is open with this window and this longest packet.
    pub(crate) fn channel(&mut self, window: u32, packet_bytes: u32) -> io::Result<()> {
        self.log_in()?;
        self.receive()?;
        let (window, packet_bytes) = (window.to_be_bytes(), packet_bytes.to_be_bytes());
        self.send(&message(91, &[&CHANNEL, &[0; 4], &window, &packet_bytes]))?;
        self.receive()?;
        self.send(&message(99, &[&CHANNEL]))
    }

    /// Sends an SFTP message, whose length is put in front.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(&message(DATA, &[&CHANNEL, &string(&string(bytes))]))
    }

    /// The client's next SFTP message, without its length.
    pub(crate) fn hear(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Ok(message) = take(&mut self.inbox.as_slice()) {
                self.inbox.drain(..4 + message.len());
                return Ok(message);
            }
            let payload = self.receive()?;
            if payload[0] == DATA {
                let data = take(&mut &payload[5..])?;
                self.inbox.extend(data);
            }
        }
    }

    /// SFTP is begun.
    pub(crate) fn sftp(&mut self) -> io::Result<()> {
        self.channel(u32::MAX, 1 << 15)?;
        self.hear()?;
        self.say(&[2, 0, 0, 0, 3])
    }

    /// Serves files that it throws away. `change` may have another answer to a request of this kind and number.
    pub(crate) fn serve_files(
        &mut self,
        mut change: impl FnMut(u8, [u8; 4]) -> Option<Vec<u8>>,
    ) -> io::Result<()> {
        self.sftp()?;
        loop {
            let request = self.hear()?;
            let (kind, id) = (request[0], *request[1..].first_chunk().unwrap());
            let answer = change(kind, id).unwrap_or_else(|| honest(kind, id));
            if !answer.is_empty() {
                self.say(&answer)?;
            }
        }
    }

    /// The length of a tag.
    pub(crate) const TAG_BYTES: usize = TAG_BYTES;
}

/// The status of a request.
pub(crate) fn status(id: [u8; 4], status: u8, text: &str) -> Vec<u8> {
    let text = string(text.as_bytes());
    message(101, &[&id, &[0, 0, 0, status], &text, &string(b"")])
}

/// What a server would say for which every path is a directory.
pub(crate) fn honest(kind: u8, id: [u8; 4]) -> Vec<u8> {
    match kind {
        3 => message(102, &[&id, &string(b"handle")]),
        7 | 17 => message(
            105,
            &[&id, &4_u32.to_be_bytes(), &0o40_755_u32.to_be_bytes()],
        ),
        _ => status(id, 0, ""),
    }
}
