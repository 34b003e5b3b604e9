// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes over a wire: an ssh server before and after it is believed, DHCP, DNS, and the kernel's own messages.

use std::time::Duration;

use collector::{IoError, Sink as _};
use targets::net::fuzzing as net;
use targets::ssh::{
    Limits, Login, MEMORY_BYTES, PublicKey, Random, Ready, Server, Stream, UserKey, Want, fuzzing,
};

use crate::servers;

/// A server that has said all that it will ever say.
struct Recording<'d> {
    said: &'d [u8],
}

impl Stream for Recording<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<Option<usize>, IoError> {
        let len = buf.len().min(self.said.len());
        let (now, later) = self.said.split_at(len);
        buf[..len].copy_from_slice(now);
        self.said = later;
        Ok(Some(len))
    }

    fn write(&mut self, data: &[u8]) -> Result<Option<usize>, IoError> {
        Ok(Some(data.len()))
    }

    fn wait(&mut self, _: Want, _: Duration) -> Result<Ready, IoError> {
        Ok(Ready {
            read: true,
            write: true,
        })
    }
}

/// A key of the user, and of the server.
const KEY: &str = include_str!("../../targets/tests/golden/ed25519_key");

fn with_login(work: impl FnOnce(&Login<'_>, &mut Random, &mut [u8])) {
    let key = UserKey::parse(KEY.as_bytes()).expect("a key");
    let pinned: [PublicKey; 1] = [key.public()];
    let login = Login {
        user: "root",
        key: &key,
        pinned: &pinned,
        limits: Limits::DEFAULT,
        cipher: None,
    };
    let mut random = Random::gather(b"fuzz", None);
    let mut memory = vec![0; MEMORY_BYTES];
    work(&login, &mut random, &mut memory);
}

/// A server that nobody believes yet: lines, packets, offers, keys.
pub(crate) fn ssh_stranger(data: &[u8]) {
    with_login(|login, random, memory| {
        let stream = Recording { said: data };
        assert!(
            Server::open(stream, login, random, memory).is_err(),
            "nobody signs by chance"
        );
    });
}

/// Lists of names in an offer, that the client finds something in.
fn offer() -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend([7; 16]);
    for names in [
        "curve25519-sha256,ecdh-sha2-nistp256",
        "ssh-ed25519",
        "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com",
        "aes128-gcm@openssh.com",
        "hmac-sha2-256",
        "hmac-sha2-256",
        "none",
        "none",
        "",
        "",
    ] {
        payload.extend(string(names.as_bytes()));
    }
    payload.extend([0; 5]);
    payload
}

/// A packet without a cipher. Source: RFC 4253 section 6.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (payload.len() + 9) % 8) % 8;
    let length = (payload.len() + padding + 1) as u32;
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(padding as u8);
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

pub(crate) fn ssh_stranger_seeds() -> Vec<Vec<u8>> {
    let version = b"SSH-2.0-OpenSSH_9.2\r\n";
    // A point, a signature of nothing, and that keys are new.
    let mut answer = vec![31];
    answer.extend(string(&[string(b"ssh-ed25519"), string(&[9; 32])].concat()));
    answer.extend(string(&[5; 32]));
    answer.extend(string(&[string(b"ssh-ed25519"), string(&[6; 64])].concat()));
    let talk = [packet(&offer()), packet(&answer), packet(&[21])].concat();
    let disconnect = [&[1, 0, 0, 0, 2][..], &string(b"go away"), &string(b"")].concat();
    vec![
        [&version[..], &talk].concat(),
        [&b"Welcome\r\nto this machine\r\n"[..], version, &talk].concat(),
        [&version[..], &packet(&disconnect)].concat(),
    ]
}

/// What a server says after it let the user in: pieces of a byte for the kind, two for the length, and that many. A piece of
/// an odd kind is said by SFTP on the channel that is open, any other is a packet.
fn talk(mut data: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    while let Some(([kind, length @ ..], rest)) = data.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes(*length)) % 8192;
        let (piece, rest) = rest.split_at(length.min(rest.len()));
        said.extend(match kind % 2 {
            0 => packet(piece),
            _ => packet(&[&[94, 0, 0, 0, 1][..], &string(&string(piece))].concat()),
        });
        data = rest;
    }
    said
}

/// A server that let the user in, and now does as it likes.
pub(crate) fn ssh_session(data: &[u8]) {
    let _ = is_saved(data);
}

/// A dump gets to the server of this talk, as far as the client knows.
fn is_saved(data: &[u8]) -> bool {
    let said = talk(data);
    let mut is_saved = false;
    with_login(|login, random, memory| {
        let stream = Recording { said: &said };
        if let Ok(server) = fuzzing::session(stream, login, random, memory) {
            let _ = server.free_bytes("/srv");
            is_saved = save(&server);
            let _ = server.last_error();
            server.close();
        }
    });
    is_saved
}

fn save(server: &Server<'_, Recording<'_>>) -> bool {
    let Ok(directory) = server.directory("/srv/crash", "10.0.2.15-2026-11-23-03:00") else {
        return false;
    };
    let Ok(mut file) = directory.create("vmcore") else {
        return false;
    };
    for offset in [0, 100_000, 10] {
        let _ = file.write_at(offset, &[7; 40_000]);
    }
    let _ = file.sync();
    directory.publish(file).is_ok()
}

pub(crate) fn ssh_session_seeds() -> Vec<Vec<u8>> {
    let piece =
        |kind: u8, bytes: &[u8]| [&[kind][..], &(bytes.len() as u16).to_le_bytes(), bytes].concat();
    let opened = [
        piece(
            0,
            &[91, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0x80, 0],
        ),
        piece(0, &[99, 0, 0, 0, 1]),
    ]
    .concat();
    let version = |extensions: &[&str]| {
        let mut bytes = vec![2, 0, 0, 0, 3];
        for name in extensions {
            bytes.extend(string(name.as_bytes()));
            bytes.extend(string(b"1"));
        }
        piece(1, &bytes)
    };
    let all = [
        "posix-rename@openssh.com",
        "statvfs@openssh.com",
        "fsync@openssh.com",
    ];
    let status = |id: u8, code: u8| {
        let mut bytes = vec![101, 0, 0, 0, id, 0, 0, 0, code];
        bytes.extend(string(b"a word"));
        bytes.extend(string(b""));
        piece(1, &bytes)
    };
    let handle = |id: u8| piece(1, &[102, 0, 0, 0, id, 0, 0, 0, 1, b'h']);
    let directory = |id: u8| {
        let mut bytes = vec![105, 0, 0, 0, id, 0, 0, 0, 4];
        bytes.extend(0o040_755_u32.to_be_bytes());
        piece(1, &bytes)
    };
    // The folder is there, the new one is made, the file has a handle, and all else goes well.
    let mut good = [
        opened.clone(),
        version(&[]),
        directory(1),
        status(2, 0),
        handle(3),
    ]
    .concat();
    good.extend((4..24).flat_map(|id| status(id, 0)));
    assert!(is_saved(&good), "an honest server");
    // For each number all kinds of answers.
    let answers: Vec<Vec<u8>> = (1..24)
        .flat_map(|id| [directory(id), handle(id), status(id, 0)])
        .collect();
    let window = piece(0, &[93, 0, 0, 0, 1, 0, 0x20, 0, 0]);
    vec![
        [opened.clone(), version(&all), answers.concat()].concat(),
        good,
        [
            opened.clone(),
            version(&all),
            window,
            status(1, 4),
            status(2, 2),
        ]
        .concat(),
        [
            opened.clone(),
            piece(0, &[&[94, 0, 0, 0, 1][..], &string(b"Welcome\n")].concat()),
        ]
        .concat(),
        [
            opened,
            piece(0, &[96, 0, 0, 0, 1]),
            piece(0, &[97, 0, 0, 0, 1]),
        ]
        .concat(),
        [
            piece(
                0,
                &[91, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0x80, 0],
            ),
            piece(0, &offer()),
            piece(0, &[100, 0, 0, 0, 1]),
        ]
        .concat(),
    ]
}

/// A packet from where there may be a DHCP server.
pub(crate) fn dhcp(data: &[u8]) {
    let _ = net::dhcp(data);
}

pub(crate) fn dhcp_seeds() -> Vec<Vec<u8>> {
    let routes = [
        &[121, 14, 24, 192, 168, 5, 0, 0, 0, 0, 0, 10, 0, 2, 9, 9],
        servers::dhcp::OFFERED,
    ]
    .concat();
    let packets = [
        servers::dhcp::packet(servers::dhcp::OFFERED, &[]),
        servers::dhcp::packet(&routes, &[]),
        servers::dhcp::packet(&[52, 1, 3, 53, 1, 5], servers::dhcp::OFFERED),
    ];
    assert!(net::dhcp(&packets[0]) && net::dhcp(&packets[1]), "leases");
    packets.to_vec()
}

/// A packet from where there may be a name server.
pub(crate) fn dns(data: &[u8]) {
    let _ = net::dns(data);
}

pub(crate) fn dns_seeds() -> Vec<Vec<u8>> {
    let question = net::question().expect("a name");
    let answered = servers::dns::answered(&question);
    assert!(net::dns(&answered), "an answer");
    vec![answered]
}

/// What the kernel says of links, addresses and routes.
pub(crate) fn netlink(data: &[u8]) {
    let facts = net::netlink(data);
    assert!(
        facts <= data.len() / 16,
        "{facts} facts in {} bytes",
        data.len()
    );
}

pub(crate) fn netlink_seeds() -> Vec<Vec<u8>> {
    let attribute = |kind: u16, value: &[u8]| {
        let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    // Source: Linux 6.12 `include/uapi/linux/if_link.h`, `if_addr.h`, `rtnetlink.h`.
    let message = |kind: u16, fixed: &[u8], attributes: &[Vec<u8>]| {
        let content = [fixed, &attributes.concat()].concat();
        let mut bytes = (content.len() as u32 + 16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(content);
        bytes
    };
    let vlan = attribute(2, &attribute(1, &7_u16.to_ne_bytes()));
    let info = [attribute(1, b"vlan\0"), vlan].concat();
    let link = message(
        16,
        &[0; 16],
        &[
            attribute(3, b"eth0\0"),
            attribute(1, &[2, 0, 0, 0, 0, 1]),
            attribute(4, &1500_u32.to_ne_bytes()),
            attribute(5, &3_u32.to_ne_bytes()),
            attribute(18, &info),
        ],
    );
    let address = message(
        20,
        &[2, 24, 0x80, 0, 2, 0, 0, 0],
        &[
            attribute(1, &[10, 0, 2, 15]),
            attribute(2, &[10, 0, 2, 15]),
            attribute(8, &[0x80, 0, 0, 0]),
        ],
    );
    let route = message(
        24,
        &[2, 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0],
        &[
            attribute(1, &[10, 0, 3, 0]),
            attribute(5, &[10, 0, 2, 2]),
            attribute(4, &2_u32.to_ne_bytes()),
            attribute(6, &[1, 0, 0, 0]),
        ],
    );
    let all = [link, address, route].concat();
    assert_eq!(net::netlink(&all), 3, "a link, an address, a route");
    vec![all]
}
