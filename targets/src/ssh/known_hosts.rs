// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines of a `known_hosts` file: which server they are about, and which key it has.
//!
//! Source: OpenSSH 9.2 `sshd.8`, "SSH_KNOWN_HOSTS FILE FORMAT".

use super::base64;
use super::public_key::{PublicKey, PublicKeyError};
use crate::text::Text;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

/// Port 22, the one that is not written.
pub const DEFAULT_PORT: u16 = 22;

/// What a line says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The server has it.
    Known,
    /// It must never be accepted.
    Revoked,
    /// It signs the keys of servers.
    CertificateAuthority,
    /// Something that this version does not know.
    Unknown,
}

/// One line about a key.
#[derive(Clone, Copy, Debug)]
pub struct Line<'t> {
    /// Counted from 1.
    pub number: u32,
    /// What it says of the key.
    pub marker: Marker,
    hosts: &'t str,
    key: &'t str,
}

/// The lines about keys, in their order. Comments, empty lines and lines without a key are passed over.
pub fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    (1..)
        .zip(text.split(|&byte| byte == b'\n'))
        .filter_map(|(number, line)| {
            let line = core::str::from_utf8(line).ok()?.trim_ascii();
            let (first, rest) = word(line)?;
            if first.starts_with('#') {
                return None;
            }
            let (marker, hosts, key) = match first {
                _ if !first.starts_with('@') => (Marker::Known, first, rest),
                marker => {
                    let (hosts, key) = word(rest)?;
                    let marker = match marker {
                        "@revoked" => Marker::Revoked,
                        "@cert-authority" => Marker::CertificateAuthority,
                        _ => Marker::Unknown,
                    };
                    (marker, hosts, key)
                }
            };
            word(key).and_then(|(_, encoded)| word(encoded))?;
            Some(Line {
                number,
                marker,
                hosts,
                key,
            })
        })
}

/// The first word, and what follows it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_ascii_start();
    let end = text
        .find(|letter: char| letter.is_ascii_whitespace())
        .unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end)?;
    (!word.is_empty()).then_some((word, rest.trim_ascii_start()))
}

impl Line<'_> {
    /// The key.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn key(&self) -> Result<PublicKey, PublicKeyError> {
        PublicKey::from_text(self.key)
    }

    /// The line is about the server `host`, a name or an address, at `port`.
    #[must_use]
    pub fn is_about(&self, host: &str, port: u16) -> bool {
        let mut name = Text::<255>::EMPTY;
        for byte in host.bytes() {
            name.push(&[byte.to_ascii_lowercase()]);
        }
        if port != DEFAULT_PORT {
            name = Text::format(format_args!("[{name}]:{port}"));
        }
        // A name that does not fit is no name of a server.
        if name.is_cut() {
            return false;
        }
        if self.hosts.starts_with('|') {
            return is_hash_of(self.hosts, name.as_bytes());
        }
        let mut found = false;
        for pattern in self.hosts.split(',') {
            match pattern.strip_prefix('!') {
                Some(pattern) if matches(pattern.as_bytes(), name.as_bytes()) => return false,
                Some(_) => {}
                None => found |= matches(pattern.as_bytes(), name.as_bytes()),
            }
        }
        found
    }
}

/// `|1|SALT|HASH`: the HMAC-SHA1 of the name under the salt.
fn is_hash_of(hosts: &str, name: &[u8]) -> bool {
    let mut parts = hosts.split('|').skip(1);
    let (Some("1"), Some(salt), Some(hash), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (mut salt_buf, mut hash_buf) = ([0; 32], [0; 32]);
    let (Some(salt), Some(hash)) = (
        base64::decode(salt.as_bytes(), &mut salt_buf),
        base64::decode(hash.as_bytes(), &mut hash_buf),
    ) else {
        return false;
    };
    Hmac::<Sha1>::new_from_slice(salt)
        .is_ok_and(|hmac| hmac.chain_update(name).verify_slice(hash).is_ok())
}

/// `*` stands for any letters, `?` for one. Letters count as lower case.
///
/// Its steps are at most the product of both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut position) = (0_usize, 0_usize);
    // Where the last `*` was, and how much of the name it takes so far.
    let mut star: Option<(usize, usize)> = None;
    while position < name.len() {
        let letter = name.get(position).map(u8::to_ascii_lowercase);
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, position));
                at = at.saturating_add(1);
            }
            Some(wanted) if *wanted == b'?' || Some(wanted.to_ascii_lowercase()) == letter => {
                at = at.saturating_add(1);
                position = position.saturating_add(1);
            }
            _ => {
                let Some((before, taken)) = star else {
                    return false;
                };
                at = before.saturating_add(1);
                position = taken.saturating_add(1);
                star = Some((before, position));
            }
        }
    }
    pattern
        .get(at..)
        .is_some_and(|rest| rest.iter().all(|&letter| letter == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

    fn is_about(hosts: &str, host: &str, port: u16) -> bool {
        let text = format!("{hosts} {KEY}\n");
        let line = lines(text.as_bytes()).next().unwrap();
        assert!(line.key().is_ok());
        line.is_about(host, port)
    }

    #[test]
    fn names_ports_patterns_and_negations() {
        for (hosts, host, port, expected) in [
            ("db7", "db7", 22, true),
            ("db7", "DB7", 22, true),
            ("DB7", "db7", 22, true),
            ("db7", "db71", 22, false),
            ("db71", "db7", 22, false),
            ("db7", "db7", 2222, false),
            ("[db7]:2222", "db7", 2222, true),
            ("[db7]:2222", "db7", 22, false),
            ("a,db7,192.0.2.7", "192.0.2.7", 22, true),
            ("2001:db8::7", "2001:db8::7", 22, true),
            ("[2001:db8::7]:2222", "2001:db8::7", 2222, true),
            ("*.example.com", "db7.example.com", 22, true),
            ("*.example.com", "example.com", 22, false),
            ("db?", "db7", 22, true),
            ("db?", "db", 22, false),
            ("*", "anything", 22, true),
            ("d*7*", "d7777b7", 22, true),
            (
                "*.example.com,!db7.example.com",
                "db7.example.com",
                22,
                false,
            ),
            (
                "!db7.example.com,*.example.com",
                "db7.example.com",
                22,
                false,
            ),
            (
                "!db7.example.com,*.example.com",
                "db8.example.com",
                22,
                true,
            ),
            ("!db7", "db8", 22, false),
        ] {
            assert_eq!(
                is_about(hosts, host, port),
                expected,
                "{hosts} {host} {port}"
            );
        }
    }

    #[test]
    fn hashed_names_of_ssh_keygen() {
        // `ssh-keygen -H` of OpenSSH 9.2 made them of db7 and of [db7]:2222.
        const PLAIN: &str = "|1|DqiEc5oecSDoJ43KPmNnm0nJ5xQ=|dUPLQTvFHUY+/33y54Qrj2vDe5U=";
        const PORT: &str = "|1|wf4oyKQA3ErM8i70iimsRyMrEnE=|lJRPnomGlH4QLtkUJu48hrlOr/A=";
        assert!(is_about(PLAIN, "db7", 22));
        assert!(is_about(PLAIN, "DB7", 22));
        assert!(!is_about(PLAIN, "db8", 22));
        assert!(!is_about(PLAIN, "db7", 2222));
        assert!(is_about(PORT, "db7", 2222));
        assert!(!is_about(PORT, "db7", 22));
        for damaged in [
            "|1|",
            "|1||",
            "|1|x|y",
            "|2|AAAA|AAAA",
            "|",
            "|1|AAAA|AAAA|AAAA",
        ] {
            assert!(!is_about(damaged, "db7", 22), "{damaged}");
        }
    }

    #[test]
    fn markers_comments_and_blanks() {
        let text = format!(
            "# a comment\n\n  db7   {KEY} comment\r\n@revoked * {KEY}\n@cert-authority *.example.com {KEY}\n@new x {KEY}\ndb7\ndb7 ssh-rsa\n\
             db7 ssh-rsa AAAAB3NzaC1yc2E=\n"
        );
        let seen: Vec<_> = lines(text.as_bytes())
            .map(|line| (line.number, line.marker, line.key().is_ok()))
            .collect();
        assert_eq!(
            seen,
            [
                (3, Marker::Known, true),
                (4, Marker::Revoked, true),
                (5, Marker::CertificateAuthority, true),
                (6, Marker::Unknown, true),
                (9, Marker::Known, false),
            ]
        );
    }

    #[test]
    fn a_pattern_of_stars_takes_no_time() {
        let pattern = "*a".repeat(100);
        assert!(!matches(pattern.as_bytes(), "a".repeat(99).as_bytes()));
        assert!(matches(pattern.as_bytes(), "a".repeat(100).as_bytes()));
    }

    #[test]
    fn any_bytes_are_lines_or_none() {
        let sample = format!("@revoked |1|AAAA|AAAA,db* {KEY}\n");
        for position in 0..sample.len() {
            for bit in 0..8 {
                let mut bytes = sample.as_bytes().to_vec();
                bytes[position] ^= 1 << bit;
                for line in lines(&bytes).chain(lines(&sample.as_bytes()[..position])) {
                    let _ = (line.key(), line.is_about("db7", 22));
                }
            }
        }
    }
}
