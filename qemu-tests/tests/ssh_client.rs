// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ssh client against servers that are not ours.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use collector::{IoError, Sink as _};
use qemu_tests::client::{Client, LIMITS};
use qemu_tests::peer::{Server as Peer, Setup, below, make_key};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};
use targets::ssh::{Limits, Means, PublicKey, Server, Socket, SshError, UserKey};

const MIB: usize = 1 << 20;

/// Bytes that are nowhere the same.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Where `path` below the server's folder is.
fn root(peer: &Peer) -> String {
    peer.folder.join("root").display().to_string()
}

/// Writes one file in pieces, the first one last, and publishes it.
fn save(server: &Server<'_, Socket>, path: &str, data: &[u8]) -> String {
    let directory = server.directory(path, "10.0.0.1-2026-11-23-03:00").unwrap();
    let mut file = directory.create("vmcore").unwrap();
    let (first, rest) = data.split_at(data.len().min(5000));
    for (number, piece) in rest.chunks(300_001).enumerate() {
        let offset = 5000 + number * 300_001;
        file.write_at(offset as u64, piece).unwrap();
    }
    file.write_at(0, first).unwrap();
    file.sync().unwrap();
    directory.publish(file).unwrap();
    directory.path().to_string()
}

/// The same where a file is only appended to.
fn save_in_order(server: &Server<'_, Socket>, path: &str, data: &[u8]) -> String {
    assert_eq!(server.means(), Means::Command);
    let directory = server.directory(path, "10.0.0.1-2026-11-23-03:00").unwrap();
    let mut file = directory.create("vmcore.flat").unwrap();
    for (number, piece) in data.chunks(300_001).enumerate() {
        file.write_at((number * 300_001) as u64, piece).unwrap();
    }
    assert_eq!(file.write_at(0, b"again"), Err(IoError::INVALID));
    directory.publish(file).unwrap();
    directory.path().to_string()
}

#[test]
fn a_dump_is_whole_private_and_has_its_name() {
    let peer = Peer::start(&Setup::open_ssh()).unwrap();
    let data = noise(20 * MIB + 12345);
    let path = format!("{}/var/crash", root(&peer));
    let client = Client::of(&peer).unwrap();
    let places = client
        .with(peer.address, |server| {
            assert_eq!(server.means(), Means::Sftp { syncs: true });
            assert!(server.free_bytes(&root(&peer)).unwrap() > 0);
            [save(server, &path, &data), save(server, &path, b"second")]
        })
        .unwrap();
    assert_eq!(places[0], format!("{path}/10.0.0.1-2026-11-23-03:00"));
    assert_eq!(places[1], format!("{path}/10.0.0.1-2026-11-23-03:00.1"));
    let first = Path::new(&places[0]);
    assert!(fs::read(first.join("vmcore")).unwrap() == data);
    assert_eq!(fs::read_dir(first).unwrap().count(), 1);
    assert_eq!((mode(first), mode(&first.join("vmcore"))), (0o700, 0o600));
    assert_eq!(
        fs::read(Path::new(&places[1]).join("vmcore")).unwrap(),
        b"second"
    );
}

#[test]
fn every_cipher_and_key_type_works_and_new_keys_are_made_on_the_way() {
    for host_key in ["ed25519", "ecdsa"] {
        let peer = Peer::start(&Setup {
            host_key,
            // The server makes new keys every MiB.
            lines: vec!["RekeyLimit 1M".to_owned()],
            ..Setup::open_ssh()
        })
        .unwrap();
        for (number, cipher) in [
            "aes128-gcm@openssh.com",
            "aes256-gcm@openssh.com",
            "chacha20-poly1305@openssh.com",
        ]
        .into_iter()
        .enumerate()
        {
            let mut client = Client::of(&peer).unwrap();
            client.cipher = Some(cipher);
            let data = noise(3 * MIB + number);
            let path = format!("{}/{number}", root(&peer));
            let place = client
                .with(peer.address, |server| save(server, &path, &data))
                .unwrap();
            assert!(
                fs::read(format!("{place}/vmcore")).unwrap() == data,
                "{cipher}"
            );
            let log = peer.log();
            assert!(log.contains(&format!("cipher: {cipher}")), "{log}");
        }
        let renewed = peer.log().matches("rekey").count();
        assert!(
            renewed >= 12,
            "only {renewed} lines about new keys\n{}",
            peer.log()
        );
    }
}

#[test]
fn a_file_is_synced_before_it_gets_its_name_and_its_name_after_that() {
    let peer = Peer::start(&Setup {
        // It says what it is asked for.
        lines: vec![
            "Subsystem sftp /usr/lib/openssh/sftp-server -e -l VERBOSE 2> {folder}/asked"
                .to_owned(),
        ],
        ..Setup::open_ssh()
    })
    .unwrap();
    let client = Client::of(&peer).unwrap();
    client
        .with(peer.address, |server| {
            save(server, &root(&peer), &noise(MIB))
        })
        .unwrap();
    let log = fs::read_to_string(peer.folder.join("asked")).unwrap();
    let mut asked: Vec<&str> = log
        .lines()
        .filter_map(|line| {
            ["fsync ", "posix-rename "]
                .into_iter()
                .find(|word| line.contains(word))
        })
        .collect();
    // Whoever writes may sync as well.
    asked.dedup();
    assert_eq!(asked, ["fsync ", "posix-rename ", "fsync "], "{log}");
}

#[test]
fn the_client_makes_new_keys_by_itself() {
    let peer = Peer::start(&Setup::open_ssh()).unwrap();
    let mut client = Client::of(&peer).unwrap();
    client.limits.rekey_bytes = 1 << 20;
    let data = noise(10 * MIB);
    let path = root(&peer);
    let place = client
        .with(peer.address, |server| save(server, &path, &data))
        .unwrap();
    assert!(fs::read(format!("{place}/vmcore")).unwrap() == data);
    let log = peer.log();
    assert!(
        log.matches("SSH2_MSG_NEWKEYS received").count() >= 8,
        "{log}"
    );
}

#[test]
#[ignore = "sends more than 1 GiB; runs under --full"]
fn a_dump_of_more_than_1_gib_gets_new_keys_by_the_limit_that_holds_after_a_crash() {
    let peer = Peer::start(&Setup::open_ssh()).unwrap();
    let mut client = Client::of(&peer).unwrap();
    client.limits.rekey_bytes = Limits::DEFAULT.rekey_bytes;
    // The same stretch of the file again and again: the disk here need not have all that goes over the wire.
    const ROUNDS: usize = 18;
    let mut data = noise(64 * MIB);
    assert!(ROUNDS * data.len() > 1 << 30);
    let path = root(&peer);
    let place = client
        .with(peer.address, |server| {
            let directory = server
                .directory(&path, "10.0.0.1-2026-11-23-03:00")
                .unwrap();
            let mut file = directory.create("vmcore").unwrap();
            for round in 0..ROUNDS {
                data.rotate_left(round);
                file.write_at(0, &data).unwrap();
            }
            file.sync().unwrap();
            directory.publish(file).unwrap();
            directory.path().to_string()
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", peer.log()));
    assert!(fs::read(format!("{place}/vmcore")).unwrap() == data);
    let log = peer.log();
    // At the start, and once on the way.
    assert_eq!(log.matches("SSH2_MSG_NEWKEYS received").count(), 2, "{log}");
}

#[test]
fn servers_in_fips_mode_have_one_curve_and_aes() {
    let peer = Peer::start(&Setup {
        host_key: "ecdsa",
        lines: vec![
            "KexAlgorithms ecdh-sha2-nistp256".to_owned(),
            "Ciphers aes256-gcm@openssh.com".to_owned(),
            "PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256".to_owned(),
        ],
        ..Setup::open_ssh()
    })
    .unwrap();
    let own = peer.folder.join("own");
    make_key(&own, "ecdsa").unwrap();
    fs::copy(
        own.with_extension("pub"),
        peer.folder.join("authorized_keys"),
    )
    .unwrap();
    let mut client = Client::of(&peer).unwrap();
    client.key = UserKey::parse(&fs::read(&own).unwrap()).unwrap();
    let path = root(&peer);
    client
        .with(peer.address, |server| save(server, &path, b"x"))
        .unwrap();
}

#[test]
fn only_the_pinned_key_is_believed() {
    let peer = Peer::start(&Setup::open_ssh()).unwrap();
    let mut client = Client::of(&peer).unwrap();
    make_key(&peer.folder.join("other"), "ed25519").unwrap();
    let other = fs::read_to_string(peer.folder.join("other.pub")).unwrap();
    client.pinned = vec![PublicKey::from_text(&other).unwrap()];
    let error = client.with(peer.address, |_| ()).unwrap_err();
    assert!(matches!(error, SshError::HostKey(_)), "{error}");
    assert!(error.to_string().contains("SHA256:"), "{error}");
    // One of a type that the server has not.
    make_key(&peer.folder.join("third"), "ecdsa").unwrap();
    let third = fs::read_to_string(peer.folder.join("third.pub")).unwrap();
    client.pinned = vec![PublicKey::from_text(&third).unwrap()];
    let error = client.with(peer.address, |_| ()).unwrap_err();
    assert!(
        matches!(error, SshError::NoCommon("type of host key", _)),
        "{error}"
    );
}

#[test]
fn a_key_that_the_server_does_not_know_is_told_from_all_else() {
    let peer = Peer::start(&Setup::open_ssh()).unwrap();
    let mut client = Client::of(&peer).unwrap();
    make_key(&peer.folder.join("other"), "ed25519").unwrap();
    client.key = UserKey::parse(&fs::read(peer.folder.join("other")).unwrap()).unwrap();
    let error = client.with(peer.address, |_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server does not accept the key for this user; it would take publickey"
    );
    let mut client = Client::of(&peer).unwrap();
    client.user = "nobody-has-this-name";
    assert!(matches!(
        client.with(peer.address, |_| ()),
        Err(SshError::Denied(_))
    ));
}

/// An OpenSSH whose files are on a file system of so many bytes.
fn with_room(bytes: usize) -> Peer {
    Peer::start(&Setup {
        below: below(&format!(
            "mount -t tmpfs -o size={bytes} tmpfs {{folder}}/root"
        )),
        ..Setup::open_ssh()
    })
    .unwrap()
}

#[test]
fn a_full_disk_is_said_and_what_is_thrown_away_makes_room() {
    let peer = with_room(6 * MIB);
    let path = root(&peer);
    let client = Client::of(&peer).unwrap();
    client
        .with(peer.address, |server| {
            let directory = server.directory(&path, "d").unwrap();
            let mut file = directory.create("vmcore").unwrap();
            let data = noise(8 * MIB);
            let error = file
                .write_at(0, &data)
                .and_then(|()| file.sync())
                .unwrap_err();
            assert_eq!(error, IoError::NO_SPACE);
            let why = server.last_error().unwrap().to_string();
            assert!(why.contains("the server's disk is full, "), "{why}");
            // It was told; what has its place already can still be put right.
            file.write_at(0, b"x").unwrap();
            file.sync().unwrap();
            file.restart().unwrap();
            file.write_at(0, &data[..MIB]).unwrap();
            directory.publish(file).unwrap();
        })
        .unwrap();
}

#[test]
fn on_a_nearly_full_disk_a_write_that_fails_is_told_at_once_and_all_before_it_are_there() {
    let peer = with_room(3 * MIB);
    let path = root(&peer);
    let data = noise(MIB / 4);
    let client = Client::of(&peer).unwrap();
    let (taken, place) = client
        .with(peer.address, |server| {
            let directory = server.directory(&path, "d").unwrap();
            let mut file = directory.create("vmcore").unwrap();
            let at = |number: usize| (number * data.len()) as u64;
            let taken = (0..16)
                .take_while(|&number| file.write_at(at(number), &data).is_ok())
                .count();
            (taken, directory.path().to_string())
        })
        .unwrap();
    assert!((8..=12).contains(&taken), "{taken}");
    let file = peer.seen(&format!(
        "root/{}/vmcore-incomplete",
        place.rsplit('/').next().unwrap()
    ));
    let there = fs::read(file).unwrap();
    for number in 0..taken {
        assert!(
            there[number * data.len()..][..data.len()] == data,
            "{number}"
        );
    }
}

#[test]
fn a_file_that_did_not_get_there_has_no_name_though_another_one_failed_before_it() {
    let peer = with_room(40 * MIB);
    let path = root(&peer);
    let client = Client::of(&peer).unwrap();
    client
        .with(peer.address, |server| {
            let directory = server.directory(&path, "d").unwrap();
            let mut first = directory.create("manifest.json").unwrap();
            let mut second = directory.create("vmcore").unwrap();
            first.write_at(0, b"begun").unwrap();
            first.sync().unwrap();
            // Somebody else fills the disk, which the server said had room.
            fs::write(peer.seen("root/full"), vec![1; 48 * MIB]).unwrap_err();
            let data = noise(8192);
            let _ = first.write_at(8192, &data);
            let written = second.write_at(0, &data);
            assert!(written.is_err() || directory.publish(second).is_err());
        })
        .unwrap();
    assert!(!peer.seen("root/d/vmcore").exists());
}

#[test]
fn a_save_path_that_is_no_directory_is_named() {
    let peer = Peer::start(&Setup::open_ssh()).unwrap();
    let path = format!("{}/loop", root(&peer));
    std::os::unix::fs::symlink("loop", &path).unwrap();
    let error = Client::of(&peer)
        .unwrap()
        .with(peer.address, |server| {
            server.directory(&path, "d").err().unwrap().to_string()
        })
        .unwrap();
    assert!(
        error.contains("/loop: it is there and no directory"),
        "{error}"
    );
}

#[test]
fn a_server_that_dies_is_noticed_at_once() {
    let peer = Peer::start(&Setup::open_ssh()).unwrap();
    let path = root(&peer);
    let start = Instant::now();
    let error = Client::of(&peer)
        .unwrap()
        .with(peer.address, |server| {
            let directory = server.directory(&path, "d").unwrap();
            let mut file = directory.create("vmcore").unwrap();
            let data = noise(MIB);
            file.write_at(0, &data).unwrap();
            peer.signal_sessions("KILL").unwrap();
            (1..64).find_map(|number| file.write_at(number * MIB as u64, &data).err())
        })
        .unwrap();
    assert!(error.is_some());
    assert!(start.elapsed() < LIMITS.answer, "{:?}", start.elapsed());
}

#[test]
fn a_server_that_hangs_is_noticed_by_its_silence() {
    let peer = Peer::start(&Setup::open_ssh()).unwrap();
    let path = root(&peer);
    let error = Client::of(&peer)
        .unwrap()
        .with(peer.address, |server| {
            let directory = server.directory(&path, "d").unwrap();
            let mut file = directory.create("vmcore").unwrap();
            file.write_at(0, b"begun").unwrap();
            peer.signal_sessions("STOP").unwrap();
            let start = Instant::now();
            let data = noise(MIB);
            let error = (1..64).find_map(|number| file.write_at(number * MIB as u64, &data).err());
            let took = start.elapsed();
            peer.signal_sessions("CONT").unwrap();
            assert!(took < LIMITS.answer * 2, "{took:?}");
            error
        })
        .unwrap();
    assert_eq!(error, Some(IoError(110)));
}

#[test]
fn a_slow_server_is_waited_for() {
    let peer = Peer::start(&Setup::open_ssh()).unwrap();
    let path = root(&peer);
    let data = noise(6 * MIB);
    let place = Client::of(&peer)
        .unwrap()
        .with(peer.address, |server| {
            std::thread::scope(|scope| {
                // It is away for longer than it takes to ask whether it is there, again and again.
                scope.spawn(|| {
                    for _ in 0..3 {
                        peer.signal_sessions("STOP").unwrap();
                        std::thread::sleep(Duration::from_millis(1500));
                        peer.signal_sessions("CONT").unwrap();
                        std::thread::sleep(Duration::from_millis(20));
                    }
                });
                save(server, &path, &data)
            })
        })
        .unwrap();
    assert!(fs::read(format!("{place}/vmcore")).unwrap() == data);
}

#[test]
fn an_account_in_a_chroot_that_can_do_sftp_only() {
    let peer = Peer::start(&Setup {
        lines: vec![
            "ForceCommand internal-sftp".to_owned(),
            "ChrootDirectory /mnt".to_owned(),
            "DisableForwarding yes".to_owned(),
        ],
        // Every directory above a jail must be root's and writable for root alone, which /tmp is not.
        below: below(
            "mount -t tmpfs -o mode=755 tmpfs /mnt && mkdir /mnt/crash && mount --bind {folder}/root /mnt/crash",
        ),
        ..Setup::open_ssh()
    })
    .unwrap();
    let saved = Client::of(&peer).unwrap().with(peer.address, |server| {
        assert_eq!(server.means(), Means::Sftp { syncs: true });
        save(server, "/crash", b"x")
    });
    saved.unwrap_or_else(|error| panic!("{error}\n{}", peer.log()));
    assert_eq!(
        fs::read(peer.folder.join("root/10.0.0.1-2026-11-23-03:00/vmcore")).unwrap(),
        b"x"
    );
}

#[test]
fn where_there_is_no_sftp_a_command_takes_the_file() {
    for setup in [
        Setup {
            lines: vec!["Subsystem other /bin/false".to_owned()],
            ..Setup::open_ssh()
        },
        Setup {
            lines: vec!["Subsystem sftp /bin/false".to_owned()],
            ..Setup::open_ssh()
        },
        Setup {
            lines: vec!["Subsystem sftp /bin/echo welcome to this machine".to_owned()],
            ..Setup::open_ssh()
        },
    ] {
        let peer = Peer::start(&setup).unwrap();
        let data = noise(5 * MIB + 7);
        let path = format!("{}/a 'b' $c", root(&peer));
        let places = Client::of(&peer)
            .unwrap()
            .with(peer.address, |server| {
                [
                    save_in_order(server, &path, &data),
                    save_in_order(server, &path, b"second"),
                ]
            })
            .unwrap();
        let first = Path::new(&places[0]);
        assert!(fs::read(first.join("vmcore.flat")).unwrap() == data);
        assert_eq!(fs::read_dir(first).unwrap().count(), 1);
        assert_eq!(
            (mode(first), mode(&first.join("vmcore.flat"))),
            (0o700, 0o600)
        );
        assert_eq!(places[1], format!("{path}/10.0.0.1-2026-11-23-03:00.1"));
    }
}

#[test]
fn dropbear_takes_dumps_with_sftp() {
    let peer = Peer::start(&Setup::dropbear()).unwrap();
    let data = noise(5 * MIB);
    let path = root(&peer);
    let place = Client::of(&peer)
        .unwrap()
        .with(peer.address, |server| {
            assert_eq!(server.means(), Means::Sftp { syncs: true });
            save(server, &path, &data)
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", peer.log()));
    assert!(fs::read(format!("{place}/vmcore")).unwrap() == data);
}

#[test]
fn dropbear_takes_dumps_without_sftp() {
    // It has no SFTP of its own, but starts OpenSSH's program, which is hidden from it here.
    let peer = Peer::start(&Setup {
        below: below(
            "mkdir -p ~/.ssh && mount --bind {folder} ~/.ssh && mount -t tmpfs tmpfs /usr/lib/openssh",
        ),
        ..Setup::dropbear()
    })
    .unwrap();
    let data = noise(5 * MIB);
    let path = root(&peer);
    let place = Client::of(&peer)
        .unwrap()
        .with(peer.address, |server| save_in_order(server, &path, &data))
        .unwrap_or_else(|error| panic!("{error}\n{}", peer.log()));
    assert!(fs::read(format!("{place}/vmcore.flat")).unwrap() == data);
}

#[test]
fn a_forced_command_takes_dumps_and_does_nothing_else() {
    let receiver = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/kdumprd-receive");
    let peer = Peer::start(&Setup {
        options: format!(
            "restrict,command=\"{} {{folder}}/root\"",
            receiver.display()
        ),
        ..Setup::open_ssh()
    })
    .unwrap();
    let data = noise(2 * MIB + 7);
    Client::of(&peer)
        .unwrap()
        .with(peer.address, |server| {
            save_in_order(server, "/somewhere/else", &data);
            save_in_order(server, "/somewhere/else", b"second");
            assert!(server.directory("/", "a b").is_err());
            assert!(server.directory("/", "..").is_err());
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", peer.log()));
    let root = peer.folder.join("root");
    let first = root.join("10.0.0.1-2026-11-23-03:00");
    assert!(fs::read(first.join("vmcore.flat")).unwrap() == data);
    assert_eq!(fs::read_dir(&first).unwrap().count(), 1);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 2);
    // What else somebody with the key may want.
    for command in [
        "cat /etc/hostname",
        "",
        ": kdumprd-1 put ../x y;",
        ": kdumprd-1 mkdir ..;",
    ] {
        let output = std::process::Command::new("ssh")
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "StrictHostKeyChecking=no",
            ])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-p"])
            .arg(peer.address.port().to_string())
            .arg("-i")
            .arg(peer.folder.join("id"))
            .args(["root@127.0.0.1", command])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(output.stdout.is_empty(), "{command}");
    }
    assert_eq!(fs::read_dir(&root).unwrap().count(), 2);
}
