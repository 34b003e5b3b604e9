// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that is reached by ssh: the user's key, and the keys that the server is known by.

use super::Work;
use super::goal::Place;
use super::secret::others_may;
use config::target::MAX_HOST_KEYS;
use std::fs;
use targets::ssh::known_hosts::{self, Marker};
use targets::ssh::{PublicKey, UserKey};

/// Keys that are looked for when the configuration names none; the last is what other kdumps make.
const DEFAULT_KEYS: [&str; 3] = [
    "/root/.ssh/kdump_id_ed25519",
    "/root/.ssh/kdump_id_ecdsa",
    "/root/.ssh/kdump_id_rsa",
];
/// Where servers are known.
const KNOWN_HOSTS: [&str; 2] = ["/root/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"];

impl Work<'_> {
    /// The place of a dump on a server.
    pub(super) fn ssh(
        &mut self,
        user: &str,
        server: &str,
        port: u16,
        path: &str,
    ) -> Result<Place, String> {
        let found = self.way_to(server)?;
        self.take_key(user, server, port)?;
        let host_keys = self.host_keys(server, port)?;
        Ok(Place::Ssh {
            server: server.to_owned(),
            address: found.address,
            port,
            user: user.to_owned(),
            host_keys: host_keys.iter().map(PublicKey::to_string).collect(),
            path: path.to_owned(),
            way: found.way,
        })
    }

    /// Reads the user's key, which is one for all servers.
    fn take_key(&mut self, user: &str, server: &str, port: u16) -> Result<(), String> {
        if self.ssh_key.is_some() {
            return Ok(());
        }
        let [best, ..] = DEFAULT_KEYS;
        let (path, from) = match &self.directives.sshkey {
            Some(at) => (
                at.value.as_str(),
                format!(" (`sshkey` in line {})", at.line),
            ),
            None => {
                let there = DEFAULT_KEYS
                    .into_iter()
                    .find(|path| self.host.inside(path).is_file());
                (there.unwrap_or(best), String::new())
            }
        };
        // A key of another type keeps its place.
        let new = if self.directives.sshkey.is_some() && !self.host.inside(path).is_file() {
            path
        } else {
            best
        };
        let port = if port == known_hosts::DEFAULT_PORT {
            String::new()
        } else {
            format!("-p {port} ")
        };
        let remedy = format!(
            "`ssh-keygen -t ed25519 -N '' -f {new} && ssh-copy-id -i {new} {port}{user}@{server}` makes one that can; \
             `sshkey {new}` names it"
        );
        let bytes = fs::read(self.host.inside(path))
            .map_err(|error| format!("reading the key {path}{from}: {error}; {remedy}"))?;
        UserKey::parse(&bytes)
            .map_err(|error| format!("the key {path}{from} cannot be used: {error}; {remedy}"))?;
        if let Some(mode) = others_may(&self.host.inside(path)) {
            return Err(format!(
                "the key {path}{from} can be read or changed by others (its mode is {mode:04o}), who may have it by now; make a \
                 new one, or, where nobody could, `chmod 600 {path}`"
            ));
        }
        self.ssh_key = Some(bytes);
        Ok(())
    }

    /// The files that say how servers are known, and what is in them.
    fn known_hosts(&self) -> Vec<(&'static str, Vec<u8>)> {
        match &self.host.known_hosts {
            Some(text) => vec![("the rehearsal's known_hosts", text.clone().into_bytes())],
            None => KNOWN_HOSTS
                .into_iter()
                .filter_map(|file| Some((file, fs::read(self.host.inside(file)).ok()?)))
                .collect(),
        }
    }

    /// The keys that the server is known by.
    fn host_keys(&mut self, server: &str, port: u16) -> Result<Vec<PublicKey>, String> {
        let mut keys: Vec<(PublicKey, String)> = Vec::new();
        let mut revoked: Vec<(PublicKey, String)> = Vec::new();
        let mut others: Vec<String> = Vec::new();
        for (file, text) in self.known_hosts() {
            for line in known_hosts::lines(&text) {
                let place = format!("{file}:{}", line.number);
                if !line.is_about(server, port) {
                    continue;
                }
                match (line.marker, line.key()) {
                    (Marker::Known, Ok(key)) => keys.push((key, place)),
                    (Marker::Revoked, Ok(key)) => revoked.push((key, place)),
                    // What cannot be used cannot be believed by mistake either.
                    (Marker::Revoked, Err(_)) => {}
                    (Marker::CertificateAuthority, _) => {
                        others.push(format!(
                            "{place} has a certificate authority, which is not supported"
                        ));
                    }
                    (Marker::Unknown, _) => others.push(format!("{place} has an unknown marker")),
                    (Marker::Known, Err(error)) => others.push(format!("{place}: {error}")),
                }
            }
        }
        let mut pinned: Vec<PublicKey> = Vec::new();
        for (key, place) in keys {
            if let Some((_, by)) = revoked.iter().find(|(other, _)| *other == key) {
                others.push(format!("{place} is revoked by {by}"));
            } else if !pinned.contains(&key) {
                pinned.push(key);
            }
        }
        if pinned.is_empty() {
            let name = if port == known_hosts::DEFAULT_PORT {
                server.to_owned()
            } else {
                format!("[{server}]:{port}")
            };
            let [first, _] = KNOWN_HOSTS;
            let seen = if others.is_empty() {
                format!("no host key of {name} is in {}", KNOWN_HOSTS.join(" or "))
            } else {
                format!("no host key of {name} can be used: {}", others.join("; "))
            };
            return Err(format!(
                "{seen}; `ssh-keyscan -p {port} -t ed25519,ecdsa {server} >> {first}` adds one, to be compared with \
                 `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the server; a server without one makes it by \
                 `ssh-keygen -A` and a restart of its sshd, whose sshd_config may have to name it by `HostKey`"
            ));
        }
        if pinned.len() > MAX_HOST_KEYS {
            self.warnings.push(format!(
                "{server} is known by {} keys, of which the first {MAX_HOST_KEYS} are taken",
                pinned.len()
            ));
            pinned.truncate(MAX_HOST_KEYS);
        }
        Ok(pinned)
    }
}

#[cfg(test)]
mod tests {
    use crate::conf;
    use crate::host::tests::Tree;
    use crate::resolve::resolve;
    use config::TargetSpec;
    use std::process::Command;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAICAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

    fn tree(known_hosts: &str) -> Tree {
        let tree = Tree::new(&[
            (
                "kdump.devices",
                "/dev/vda size=1000000 fstype=ext4 uuid=root-1\n",
            ),
            ("proc/mounts", "/dev/vda / ext4 rw 0 0\n"),
            ("kdump.network", NETWORK),
            ("root/.ssh/known_hosts", known_hosts),
        ]);
        keygen(&tree, "root/.ssh/kdump_id_ed25519", "ed25519", "");
        tree
    }

    const NETWORK: &str = "\
link eth2 mac=52:54:00:00:00:03 modules=e1000
address eth2 10.0.2.15/24
route 10.0.2.0/24 dev eth2
";

    fn keygen(tree: &Tree, path: &str, kind: &str, passphrase: &str) {
        let status = Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-N", passphrase, "-f"])
            .arg(tree.0.join(path))
            .status();
        assert!(status.unwrap().success());
    }

    fn on(tree: &Tree, text: &str) -> Result<crate::resolve::Resolved, String> {
        let directives = conf::parse("kdump.conf", text.as_bytes()).unwrap();
        resolve(&directives, &tree.host(), "6.1.0").map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn the_key_and_the_pinned_host_keys_are_taken() {
        let tree = tree(&format!(
            "10.0.2.2 {KEY}\n10.0.2.2 {OTHER}\n[10.0.2.2]:2222 {OTHER}\n"
        ));
        let plan = on(
            &tree,
            "ssh kdump@10.0.2.2\nssh root@[10.0.2.2]:2222\npath /srv",
        )
        .unwrap();
        let TargetSpec::Ssh {
            user,
            port,
            host_keys,
            path,
            ..
        } = plan.attempts[0].target()
        else {
            panic!("{plan:?}");
        };
        assert_eq!((user, port, path), ("kdump", 22, "/srv"));
        assert_eq!(host_keys.iter().collect::<Vec<_>>(), [KEY, OTHER]);
        assert!(
            plan.ssh_key
                .as_ref()
                .unwrap()
                .starts_with(b"-----BEGIN OPENSSH")
        );
        let record = plan.record(&[]).unwrap().to_string();
        let read_back = config::record::parse(&record).unwrap();
        assert_eq!(read_back.attempts[1].target, plan.attempts[1].target());
    }

    #[test]
    fn a_server_that_cannot_be_known_is_refused_with_what_to_do() {
        for (known_hosts, said) in [
            (String::new(), "no host key of 10.0.2.2 is in"),
            (
                "10.0.2.2 ssh-rsa AAAAB3NzaC1yc2E=\n".to_owned(),
                "/root/.ssh/known_hosts:1: ssh-rsa keys cannot be used",
            ),
            (
                format!("10.0.2.2 {KEY}\n@revoked * {KEY}\n"),
                "/root/.ssh/known_hosts:1 is revoked by /root/.ssh/known_hosts:2",
            ),
            (
                format!("@cert-authority 10.0.2.2 {KEY}\n"),
                "certificate authority, which is not supported",
            ),
            (
                format!("[10.0.2.2]:2222 {KEY}\n"),
                "no host key of 10.0.2.2 is in",
            ),
        ] {
            let error = on(&tree(&known_hosts), "ssh kdump@10.0.2.2").unwrap_err();
            assert!(error.starts_with("kdump.conf:1: "), "{error}");
            assert!(error.contains(said), "{known_hosts}: {error}");
            assert!(
                error.contains("ssh-keyscan -p 22 -t ed25519,ecdsa 10.0.2.2"),
                "{error}"
            );
            assert!(error.contains("`ssh-keygen -A` and a restart"), "{error}");
        }
    }

    #[test]
    fn a_key_that_nobody_can_use_is_refused_with_the_command_that_makes_one() {
        let tree = tree(&format!("10.0.2.2 {KEY}\n"));
        keygen(&tree, "root/locked", "ed25519", "passphrase");
        keygen(&tree, "root/rsa", "rsa", "");
        for (path, said) in [
            ("/root/locked", "the key has a passphrase"),
            ("/root/rsa", "it is a ssh-rsa key"),
            ("/root/rsa.pub", "the public half"),
            ("/root/nothing", "reading the key /root/nothing"),
        ] {
            let error = on(&tree, &format!("ssh kdump@10.0.2.2\nsshkey {path}")).unwrap_err();
            assert!(error.contains(said), "{path}: {error}");
            assert!(error.contains("ssh-keygen -t ed25519 -N '' -f "), "{error}");
            assert!(error.contains("ssh-copy-id -i "), "{error}");
        }
        keygen(&tree, "root/open", "ed25519", "");
        let open = tree.0.join("root/open");
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o640))
            .unwrap();
        let error = on(&tree, "ssh kdump@10.0.2.2\nsshkey /root/open").unwrap_err();
        assert!(
            error.contains("its mode is 0640") && error.contains("`chmod 600 /root/open`"),
            "{error}"
        );
        // The key that other kdumps make keeps its place; ours gets another.
        std::fs::remove_file(tree.0.join("root/.ssh/kdump_id_ed25519")).unwrap();
        keygen(&tree, "root/.ssh/kdump_id_rsa", "rsa", "");
        let error = on(&tree, "ssh kdump@10.0.2.2").unwrap_err();
        assert!(
            error.contains("/root/.ssh/kdump_id_rsa cannot be used: it is a ssh-rsa key"),
            "{error}"
        );
        assert!(
            error.contains("-f /root/.ssh/kdump_id_ed25519 && ssh-copy-id"),
            "{error}"
        );
    }
}
