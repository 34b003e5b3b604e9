// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kdumpctl propagate`: a key for the servers that are reached by ssh, and the servers' keys for the image.
//!
//! A person sits here: the system's own `ssh` asks for the password of the account, and whether the server's key is the
//! right one. What was answered stands in `known_hosts`, where the builder takes it from.

use crate::run;
use crate::say::Say;
use initramfs_builder::conf::{Directives, Target};
use initramfs_builder::error::{Mistake, Mistakes};
use std::path::Path;
use std::process::Command;
use targets::ssh::known_hosts::DEFAULT_PORT;
use targets::ssh::{ECDSA_P256, ED25519};

/// The key that is made when the configuration names none.
const KEY: &str = "/root/.ssh/kdump_id_ed25519";

/// Where the builder looks for the servers' keys.
const KNOWN_HOSTS: &str = "/root/.ssh/known_hosts";

/// A server and how it is reached.
#[derive(Debug, PartialEq, Eq)]
struct Account {
    user: String,
    server: String,
    port: u16,
}

impl Account {
    fn login(&self) -> String {
        format!("{}@{}", self.user, self.server)
    }
}

/// The servers that the configuration names, each once.
fn accounts(directives: &Directives) -> Vec<Account> {
    let mut accounts: Vec<Account> = Vec::new();
    for target in &directives.targets {
        if let Target::Ssh { user, server, port } = &target.value {
            let account = Account {
                user: user.clone(),
                server: server.clone(),
                port: *port,
            };
            if !accounts.contains(&account) {
                accounts.push(account);
            }
        }
    }
    accounts
}

/// What every login here has: the server as the capture kernel will meet it, whatever `ssh_config` calls so, and its key of a
/// type that the capture kernel can check, where the builder looks for it.
fn reach(key: &str, account: &Account) -> Vec<String> {
    let mut arguments: Vec<String> = ["-i", key, "-p", &account.port.to_string()]
        .map(str::to_owned)
        .to_vec();
    for option in [
        format!("HostName={}", account.server),
        format!("UserKnownHostsFile={KNOWN_HOSTS}"),
        format!("HostKeyAlgorithms={ED25519},{ECDSA_P256}"),
    ] {
        arguments.extend(["-o".to_owned(), option]);
    }
    arguments
}

/// The arguments of a last login with the key alone, which fails where the dump's would.
fn proof(key: &str, account: &Account) -> Vec<String> {
    let mut arguments = reach(key, account);
    for option in [
        "IdentitiesOnly=yes",
        "BatchMode=yes",
        "PreferredAuthentications=publickey",
        "StrictHostKeyChecking=yes",
        "ConnectTimeout=30",
    ] {
        arguments.extend(["-o".to_owned(), option.to_owned()]);
    }
    arguments.extend([account.login(), "true".to_owned()]);
    arguments
}

/// Makes the key where there is none, hands it to every server, and tries it.
///
/// # Errors
/// No target is reached by ssh, or a program of the system fails.
pub fn run_all(directives: &Directives, say: &Say) -> Result<(), Mistakes> {
    let accounts = accounts(directives);
    if accounts.is_empty() {
        return Err(Mistake::new(format!(
            "{} has no target that is reached by ssh, so that there is no key to propagate; `ssh USER@SERVER` is one",
            directives.file
        ))
        .into());
    }
    let key = directives
        .sshkey
        .as_ref()
        .map_or(KEY, |at| at.value.as_str());
    if Path::new(key).is_file() {
        say.info(format_args!("Using existing keys... {key}"));
    } else {
        say.info(format_args!("Generating new ssh keys... {key}"));
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "kdump", "-f", key]))?;
    }
    for account in accounts {
        let (login, port) = (account.login(), account.port);
        let mut copy = Command::new("ssh-copy-id");
        copy.args(reach(key, &account)).arg(&login);
        run(&mut copy).map_err(|mut failed| {
            for mistake in &mut failed.0 {
                mistake.message.push_str(&format!(
                    "; {login} was not given the key. Where ssh found no matching type of host key, the server has none but RSA: \
                     `ssh-keygen -A` there and a restart of its sshd make one. Where the account has no shell, the line of \
                     {key}.pub goes into its authorized_keys by hand"
                ));
            }
            failed
        })?;
        // A forced command answers as it likes; that it answers is what counts, and ssh says so by any status but 255.
        let status = Command::new("ssh")
            .args(proof(key, &account))
            .status()
            .map_err(|error| Mistake::new(format!("running ssh: {error}")))?;
        if status.code() == Some(255) {
            return Err(Mistake::new(format!(
                "{login} was given the key, but does not let it in; see `ssh -v -i {key} -p {port} {login}`"
            ))
            .into());
        }
        let at_port = if port == DEFAULT_PORT {
            String::new()
        } else {
            format!(" (port {port})")
        };
        say.info(format_args!(
            "{key} has been added to the authorized keys of {login}{at_port}, whose own key is in known_hosts; `kdumpctl \
             restart` takes both into the image"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use initramfs_builder::conf;

    #[test]
    fn every_server_is_met_once_and_with_the_key_alone() {
        let directives =
            conf::parse("kdump.conf", b"ssh a@nas\nraw /dev/sda\nnet a@[nas]:2222\n").unwrap();
        let accounts = accounts(&directives);
        let ports: Vec<_> = accounts.iter().map(|account| account.port).collect();
        assert_eq!(ports, [22, 2222]);
        let line = proof("/k", &accounts[1]).join(" ");
        assert!(
            line.starts_with("-i /k -p 2222 -o HostName=nas -o "),
            "{line}"
        );
        assert!(
            line.contains("-o StrictHostKeyChecking=yes") && line.ends_with("a@nas true"),
            "{line}"
        );
    }

    #[test]
    fn without_a_server_there_is_nothing_to_propagate() {
        let directives = conf::parse("kdump.conf", b"raw /dev/sda\n").unwrap();
        let said = run_all(&directives, &Say::default())
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("kdump.conf has no target that is reached by ssh"),
            "{said}"
        );
    }
}
