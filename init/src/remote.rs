// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logging in to a server that keeps dumps.
#![expect(
    clippy::result_large_err,
    reason = "a reason has no heap to lie on, and an attempt has one of them"
)]

use crate::attempt::{Reason, reason};
use crate::dump::Input;
use crate::files;
use crate::log;
use collector::Source as _;
use config::HostKeys;
use config::target::MAX_HOST_KEYS;
use core::ffi::CStr;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use heapless::Vec;
use targets::ssh::random::Memory;
use targets::ssh::{Limits, Login, PublicKey, Random, Server, Socket, UserKey};

/// [`config::target::SSH_KEY_PATH`], as the kernel takes it.
const KEY_PATH: &CStr = c"/etc/kdump.key";
/// More than a key file that can be used has.
const MAX_KEY_BYTES: usize = 4096;
/// How long the server may take to answer a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);

/// What a login needs for as long as the connection lasts.
pub struct Credentials {
    key: UserKey,
    pinned: Vec<PublicKey, MAX_HOST_KEYS>,
    random: Random,
}

impl Credentials {
    /// Reads the key out of the image, and gathers what random numbers are made from.
    ///
    /// # Errors
    /// The image has no key, or no host key that can be used.
    pub fn gather(host_keys: &HostKeys<'_>, vmcore: &mut Input<'_>) -> Result<Self, Reason> {
        let mut buffer = [0; MAX_KEY_BYTES];
        let file = files::read(KEY_PATH, &mut buffer).map_err(|errno| {
            reason(format_args!(
                "reading the key {}: {}",
                config::target::SSH_KEY_PATH,
                crate::vmcore::error(errno)
            ))
        })?;
        let key = UserKey::parse(file).map_err(|error| {
            reason(format_args!(
                "the key {}: {error}",
                config::target::SSH_KEY_PATH
            ))
        })?;
        let mut pinned = Vec::new();
        for text in host_keys.iter() {
            let key = PublicKey::from_text(text)
                .map_err(|error| reason(format_args!("the host key {text}: {error}")))?;
            // There are as many places as the record has.
            let _ = pinned.push(key);
        }
        let vmcore = vmcore.file();
        let random = Random::gather(
            file,
            Some(Memory {
                size_bytes: vmcore.size_bytes(),
                read_at: &mut |offset, buf: &mut [u8]| vmcore.read_at(offset, buf),
            }),
        );
        log!("random numbers: {}", random.origin());
        Ok(Self {
            key,
            pinned,
            random,
        })
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// What the network or the server said.
    pub fn login<'b>(
        &'b mut self,
        address: IpAddr,
        port: u16,
        user: &'b str,
        memory: &'b mut [u8],
    ) -> Result<Server<'b, Socket>, Reason> {
        let socket =
            Socket::connect(SocketAddr::new(address, port), CONNECT_PATIENCE).map_err(|error| {
                reason(format_args!("connecting to {address} port {port}: {error}"))
            })?;
        let login = Login {
            user,
            key: &self.key,
            pinned: &self.pinned,
            limits: Limits::DEFAULT,
            cipher: None,
        };
        let server = Server::open(socket, &login, &mut self.random, memory)
            .map_err(|error| reason(format_args!("logging in as {user}: {error}")))?;
        log!("logged in as {user}; files go by {}", server.means());
        Ok(server)
    }
}
