// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ssh client against servers that break the protocol, lie, or never come to an end: each is left with a clear error
//! and within a bound.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod server;

use collector::Sink as _;
use ed25519_dalek::SigningKey;
use server::{
    BANNER, CHANNEL, CHANNEL_REQUEST, CLOSE, DATA, DEBUG, DISCONNECT, EXTENDED_DATA, Exchange,
    GLOBAL_REQUEST, HOST_SECRET, IGNORE, KEXINIT, OPEN_FAILURE, Peer, WINDOW_ADJUST, honest,
    message, serve, status, string,
};
use std::io;
use std::time::{Duration, Instant};
use targets::ssh::{Limits, Login, MEMORY_BYTES, PublicKey, Random, Server, Socket, UserKey};

const LIMITS: Limits = Limits {
    answer: Duration::from_secs(2),
    keepalive: Duration::from_millis(300),
    rekey_bytes: 1 << 30,
};
/// Far more than a few answers may take, far less than for ever.
const BOUND: Duration = Duration::from_secs(20);
const USER_KEY: &str = include_str!("../golden/ed25519_key");

/// Saves a small dump on a server that does `script`; what came of it.
fn outcome(
    script: impl FnOnce(&mut Peer) -> io::Result<()> + Send + 'static,
) -> Result<(), String> {
    let key = UserKey::parse(USER_KEY.as_bytes()).unwrap();
    let host_key = SigningKey::from_bytes(&HOST_SECRET).verifying_key();
    let login = Login {
        user: "dump",
        key: &key,
        pinned: &[PublicKey::Ed25519(host_key.to_bytes())],
        limits: LIMITS,
        cipher: None,
    };
    let start = Instant::now();
    let socket = Socket::connect(serve(script), BOUND).unwrap();
    let mut random = Random::gather(b"test", None);
    let mut memory = vec![0; MEMORY_BYTES];
    let result = (|| {
        let server = Server::open(socket, &login, &mut random, &mut memory)
            .map_err(|error| format!("login: {error}"))?;
        let result = save(&server);
        server.close();
        result
    })();
    let took = start.elapsed();
    assert!(took < BOUND, "{took:?}: {result:?}");
    result
}

fn save(server: &Server<'_, Socket>) -> Result<(), String> {
    let directory = server
        .directory("/crash", "d")
        .map_err(|error| format!("directory: {error}"))?;
    let mut file = directory
        .create("vmcore")
        .map_err(|error| format!("file: {error}"))?;
    let data = vec![0x5a; 512 << 10];
    file.write_at(0, &data)
        .and_then(|()| file.sync())
        .map_err(|_| match server.last_error() {
            Some(error) => format!("write: {error}"),
            None => "write: no reason".to_owned(),
        })?;
    directory
        .publish(file)
        .map_err(|error| format!("publish: {error}"))
}

/// Checks how it ends with each of these servers, by the beginning of the error.
#[track_caller]
fn ends(said: &str, script: impl FnOnce(&mut Peer) -> io::Result<()> + Send + 'static) {
    let error = outcome(script).expect_err("the server is believed");
    assert!(error.starts_with(said), "{error}");
}

const PROTOCOL: &str = "login: the server breaks the protocol: ";
const SILENT: &str = "login: the server does not answer";

#[test]
fn a_server_that_does_what_it_should_gets_the_dump() {
    assert_eq!(outcome(|peer| peer.serve_files(|_, _| None)), Ok(()));
}

#[test]
fn what_does_not_begin_as_a_server_does() {
    ends("login: the server ended the connection", Peer::hang_up);
    ends(SILENT, Peer::fall_silent);
    ends(
        "login: no SSH 2.0 server answers, but SSH-1.5-old",
        |peer| {
            peer.raw(b"SSH-1.5-old\r\n")?;
            peer.fall_silent()
        },
    );
    // A line without an end, and lines without an end to them.
    ends("login: no SSH 2.0 server answers, but HTTP/1.1 ", |peer| {
        peer.raw(b"HTTP/1.1 ")?;
        loop {
            peer.raw(&[b'x'; 1000])?;
        }
    });
    ends(
        "login: the server breaks the protocol: it talks and talks before it begins",
        |peer| {
            loop {
                peer.raw(b"welcome\r\n")?;
            }
        },
    );
    ends("login: no SSH 2.0 server answers", |peer| {
        peer.raw(b"SSH-2.0-")?;
        peer.raw(&[b'x'; 1000])?;
        peer.raw(b"\r\n")?;
        peer.fall_silent()
    });
}

#[test]
fn plain_packets_of_impossible_lengths() {
    for length in [0_u32, 3, 7, 35_001, 1 << 31, u32::MAX] {
        ends(
            "login: the server breaks the protocol: a packet of impossible length",
            move |peer| {
                peer.versions()?;
                peer.raw(&length.to_be_bytes())?;
                peer.raw(&[4; 64])?;
                peer.fall_silent()
            },
        );
    }
    ends(
        "login: the server breaks the protocol: a packet with more padding than bytes",
        |peer| {
            peer.versions()?;
            peer.raw(&[0, 0, 0, 12, 255])?;
            peer.raw(&[0; 11])?;
            peer.fall_silent()
        },
    );
    // Half a packet, and then the end or nothing.
    ends("login: the server ended the connection", |peer| {
        peer.versions()?;
        peer.raw(&[0, 0, 1, 4, 4, 20])?;
        peer.hang_up()
    });
    ends(SILENT, |peer| {
        peer.versions()?;
        peer.raw(&[0, 0, 1, 4, 4, 20])?;
        peer.fall_silent()
    });
}

#[test]
fn the_exchange_of_keys_has_one_order() {
    ends(
        "login: the server breaks the protocol: it does not begin with its offer",
        |peer| {
            peer.versions()?;
            peer.repeat(&message(IGNORE, &[&string(b"")]))
        },
    );
    ends(
        "login: the server breaks the protocol: its offer ends too early",
        |peer| {
            peer.versions()?;
            peer.send(&message(KEXINIT, &[&[0; 16], &u32::MAX.to_be_bytes()]))?;
            peer.fall_silent()
        },
    );
    // One offer after the other.
    ends(PROTOCOL, |peer| {
        peer.versions()?;
        let mut offer = message(KEXINIT, &[&[0; 16]]);
        for list in ["curve25519-sha256", "ssh-ed25519"] {
            offer.extend(string(list.as_bytes()));
        }
        for _ in 0..2 {
            offer.extend(string(b"aes128-gcm@openssh.com"));
        }
        for list in ["", "", "none", "none", "", ""] {
            offer.extend(string(list.as_bytes()));
        }
        offer.extend([0; 5]);
        peer.repeat(&offer)
    });
    ends(
        "login: the server ended the connection: no time (reason 12)",
        |peer| {
            peer.versions()?;
            peer.receive()?;
            peer.send(&message(
                DISCONNECT,
                &[&12_u32.to_be_bytes(), &string(b"no time"), &string(b"")],
            ))
            .and_then(|()| peer.fall_silent())
        },
    );
}

/// How it ends with a server that exchanges keys like this.
#[track_caller]
fn exchange_ends(said: &str, how: Exchange) {
    ends(said, move |peer| {
        peer.versions()?;
        peer.exchange(&how)?;
        peer.fall_silent()
    });
}

#[test]
fn weak_algorithms_and_wrong_keys() {
    exchange_ends(
        "login: no way to exchange keys in common; the server offers diffie-hellman-group1-sha1",
        Exchange {
            ways: "diffie-hellman-group1-sha1,diffie-hellman-group14-sha1",
            ..Exchange::GOOD
        },
    );
    exchange_ends(
        "login: no type of host key in common; the server offers ssh-dss,ssh-rsa",
        Exchange {
            host_keys: "ssh-dss,ssh-rsa",
            ..Exchange::GOOD
        },
    );
    exchange_ends(
        "login: no cipher in common; the server offers 3des-cbc,arcfour",
        Exchange {
            ciphers: "3des-cbc,arcfour,none",
            ..Exchange::GOOD
        },
    );
    exchange_ends(
        "login: no compression in common; the server offers zlib",
        Exchange {
            compressions: "zlib",
            ..Exchange::GOOD
        },
    );
    exchange_ends(
        "login: the server shows the key SHA256:",
        Exchange {
            host_secret: [8; 32],
            ..Exchange::GOOD
        },
    );
    exchange_ends(
        "login: the server cannot prove that it has the pinned key",
        Exchange {
            spoils_signature: true,
            ..Exchange::GOOD
        },
    );
    for share in [vec![0; 32], vec![9; 31], Vec::new(), vec![1; 4000]] {
        exchange_ends(
            "login: the server breaks the protocol: its share of the secret is none",
            Exchange {
                share: Some(share),
                ..Exchange::GOOD
            },
        );
    }
}

#[test]
fn packets_that_were_changed_on_their_way() {
    const DAMAGED: &str = "login: a packet was changed on its way";
    for position in [4, 20, 37] {
        ends(DAMAGED, move |peer| {
            peer.begin()?;
            let mut packet = peer.packet(&message(6, &[&string(b"ssh-userauth")]));
            packet[position] ^= 1;
            peer.raw(&packet)?;
            peer.fall_silent()
        });
    }
    for length in [0_u32, 17, 1 << 20, u32::MAX] {
        ends(DAMAGED, move |peer| {
            peer.begin()?;
            peer.raw(&length.to_be_bytes())?;
            peer.raw(&[0; 64])?;
            peer.fall_silent()
        });
    }
    // All but the last byte of the tag.
    ends(SILENT, |peer| {
        peer.begin()?;
        let packet = peer.packet(&message(IGNORE, &[&string(&[0; Peer::TAG_BYTES])]));
        peer.raw(&packet[..packet.len() - 1])?;
        peer.fall_silent()
    });
}

#[test]
fn servers_that_never_decide() {
    ends(SILENT, |peer| {
        peer.begin()?;
        peer.fall_silent()
    });
    for kind in [IGNORE, DEBUG] {
        ends(SILENT, move |peer| {
            peer.begin()?;
            peer.repeat(&message(kind, &[&[0], &string(b""), &string(b"")]))
        });
    }
    ends(SILENT, |peer| {
        peer.begin()?;
        let question = message(GLOBAL_REQUEST, &[&string(b"are-you-there"), &[1]]);
        // The answers are read: the server is not what has no time.
        loop {
            peer.send(&question)?;
            peer.receive()?;
        }
    });
    ends(SILENT, |peer| {
        peer.begin()?;
        loop {
            peer.exchange(&Exchange::GOOD)?;
        }
    });
    ends(
        "login: the server breaks the protocol: it shows messages for ever",
        |peer| {
            peer.begin()?;
            peer.receive()?;
            peer.send(&message(6, &[&string(b"ssh-userauth")]))?;
            peer.repeat(&message(BANNER, &[&string(b"hello"), &string(b"")]))
        },
    );
}

#[test]
fn channels_that_lead_nowhere() {
    ends("login: the server refuses a channel: none left", |peer| {
        peer.log_in()?;
        peer.receive()?;
        let text = string(b"none left");
        peer.send(&message(
            OPEN_FAILURE,
            &[&CHANNEL, &[0, 0, 0, 4], &text, &string(b"")],
        ))?;
        peer.fall_silent()
    });
    ends(
        "login: the server breaks the protocol: it takes packets of no size",
        |peer| peer.channel(1 << 20, 0),
    );
    // A window that never opens, or closes for good in the middle of a request.
    for window in [0, 5] {
        ends(SILENT, move |peer| {
            peer.channel(window, 1 << 15)?;
            peer.fall_silent()
        });
    }
    ends(
        "directory: /crash: the server breaks the protocol: a window of more than 4 GiB",
        |peer| {
            peer.sftp()?;
            peer.send(&message(
                WINDOW_ADJUST,
                &[&CHANNEL, &u32::MAX.to_be_bytes()],
            ))?;
            peer.fall_silent()
        },
    );
    ends(
        "directory: /crash: the server breaks the protocol: a message about a channel that is not open",
        |peer| {
            peer.sftp()?;
            peer.send(&message(DATA, &[&[0, 0, 0, 77], &string(b"x")]))?;
            peer.fall_silent()
        },
    );
    for payload in [
        message(DATA, &[&CHANNEL, &u32::MAX.to_be_bytes(), b"x"]),
        message(CHANNEL_REQUEST, &[&CHANNEL]),
        message(DATA, &[&CHANNEL[..2]]),
    ] {
        ends(
            "directory: /crash: the server breaks the protocol: a message about a channel ends too early",
            move |peer| {
                peer.sftp()?;
                peer.send(&payload)?;
                peer.fall_silent()
            },
        );
    }
}

#[test]
fn channels_that_only_chatter() {
    for payload in [
        message(WINDOW_ADJUST, &[&CHANNEL, &[0; 4]]),
        message(EXTENDED_DATA, &[&CHANNEL, &[0, 0, 0, 1], &string(b"")]),
        message(
            CHANNEL_REQUEST,
            &[&CHANNEL, &string(b"window-change"), &[0]],
        ),
        message(DATA, &[&CHANNEL, &string(b"")]),
    ] {
        ends(SILENT, move |peer| {
            peer.channel(1 << 20, 1 << 15)?;
            peer.repeat(&payload)
        });
    }
}

#[test]
fn files_by_a_server_that_lies() {
    const WRITE: u8 = 6;
    let answers = |said, kind, answer: fn([u8; 4]) -> Vec<u8>| {
        ends(said, move |peer| {
            peer.serve_files(|asked, id| (asked == kind).then(|| answer(id)))
        });
    };
    answers(
        "write: the server breaks the protocol: an SFTP answer to no request",
        WRITE,
        |_| status([9; 4], 0, ""),
    );
    answers(
        "write: the server breaks the protocol: an SFTP answer to no request",
        WRITE,
        |id| message(102, &[&id, &string(b"handle")]),
    );
    answers(
        "file: /crash/d/vmcore-incomplete: the server breaks the protocol: an SFTP answer of the wrong kind",
        3,
        |id| status(id, 0, ""),
    );
    answers(
        "file: /crash/d/vmcore-incomplete: the server breaks the protocol: an SFTP answer of the wrong kind",
        3,
        |id| message(102, &[&id, &string(&[b'h'; 300])]),
    );
    answers(
        "write: the server breaks the protocol: an SFTP answer ends too early",
        WRITE,
        |_| vec![101, 0],
    );
    answers(
        "write: the server breaks the protocol: what answers does not speak SFTP",
        WRITE,
        |_| Vec::from([1; 9000]),
    );
    answers("write: writing: Failure (quota)", WRITE, |id| {
        status(id, 4, "quota")
    });
    // The path is there, the directory cannot be made, and whatever has its name is always there.
    answers(
        "directory: d: the list of dumps of this minute is too long",
        14,
        |id| status(id, 4, "Failure"),
    );
}

#[test]
fn files_by_a_server_that_stops() {
    // No answer to any write, or to all but the first.
    for answered in [0, 1] {
        ends("write: the server does not answer", move |peer| {
            let mut left = answered;
            peer.serve_files(|kind, _| {
                let is_answered = kind != 6 || left > 0;
                left -= i32::from(kind == 6 && left > 0);
                (!is_answered).then(Vec::new)
            })
        });
    }
    ends("write: the server refuses ", |peer| {
        peer.sftp()?;
        loop {
            let request = peer.hear()?;
            let (kind, id) = (request[0], *request[1..].first_chunk().unwrap());
            if kind == 6 {
                peer.send(&message(CLOSE, &[&CHANNEL]))?;
                return peer.fall_silent();
            }
            peer.say(&honest(kind, id))?;
        }
    });
}
