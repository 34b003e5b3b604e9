// SPDX-License-Identifier: MIT OR Apache-2.0
//! An attempt at a directory of an ssh server: logging in, and saving the dump there.
#![expect(
    clippy::result_large_err,
    reason = "a reason has no heap to lie on, and an attempt has one of them"
)]

use super::network::own_address;
use super::{Place, Reason, Run, reason};
use crate::dump::Input;
use crate::folder::Remote;
use crate::report::Report;
use crate::{files, log, random};
use collector::IoError;
use config::target::MAX_HOST_KEYS;
use config::{HostKeys, TargetSpec};
use core::ffi::CStr;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use heapless::Vec;
use targets::ssh::{
    self, Limits, Login, PublicKey, Random, Ready, Server, Socket, Stream, UserKey, Want,
};

/// [`config::target::SSH_KEY_PATH`], as the kernel takes it.
const KEY_PATH: &CStr = c"/etc/kdump.key";
/// More than a key file that can be used has.
const MAX_KEY_BYTES: usize = 4096;
/// How long the server may take to answer a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);

/// Logs in to the server, and saves the dump there.
pub fn make(run: &mut Run<'_>, memory: &mut [u8]) -> Result<Place, Reason> {
    let TargetSpec::Ssh {
        server,
        port,
        user,
        host_keys,
        path,
        network,
    } = &run.job.attempt.target
    else {
        return Err(reason("not a target on ssh, a defect of kdumprd"));
    };
    let address = run.network(*network, server)?;
    let (connection, memory) = memory
        .split_at_mut_checked(ssh::MEMORY_BYTES)
        .ok_or_else(|| reason("the memory is too small, a defect of kdumprd"))?;
    let (mut vmcore, memory) = run.vmcore(memory)?;
    let mut credentials = Credentials::gather(host_keys, &mut vmcore)?;
    let own = own_address(address)?;
    let server = credentials.login(address, *port, user, connection, run.job.report)?;
    if let Some(free_bytes) = server.free_bytes(path) {
        log!("{path} on the server has room for {free_bytes} bytes");
    }
    let (name, crash_time_s) = run.directory_name(Some(own), &mut vmcore);
    let result = server
        .directory(path, &name)
        .map_err(reason)
        .and_then(|directory| {
            run.save(
                &Remote::new(&server, directory),
                crash_time_s,
                vmcore,
                memory,
            )
        });
    server.close();
    result
}

/// A connection that tells PID 1 whenever it got further. What lies in its buffers, and in the kernel's, takes a network that
/// loses packets longer than the dump may stand still.
struct Told<'r> {
    socket: Socket,
    report: &'r Report,
}

impl Stream for Told<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<Option<usize>, IoError> {
        self.socket.read(buf)
    }

    fn write(&mut self, data: &[u8]) -> Result<Option<usize>, IoError> {
        self.socket.write(data)
    }

    fn wait(&mut self, want: Want, patience: Duration) -> Result<Ready, IoError> {
        self.socket.wait(want, patience)
    }

    fn got_further(&mut self) {
        self.report.beat();
    }
}

/// What a login needs for as long as the connection lasts.
struct Credentials {
    key: UserKey,
    pinned: Vec<PublicKey, MAX_HOST_KEYS>,
    random: Random,
}

impl Credentials {
    /// Reads the key out of the image, and gathers what random numbers are made from.
    ///
    /// # Errors
    /// The image has no key, or no host key that can be used.
    fn gather(host_keys: &HostKeys<'_>, vmcore: &mut Input<'_>) -> Result<Self, Reason> {
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
        let random = random::gather(file, vmcore.file());
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
    fn login<'b>(
        &'b mut self,
        address: IpAddr,
        port: u16,
        user: &'b str,
        memory: &'b mut [u8],
        report: &'b Report,
    ) -> Result<Server<'b, Told<'b>>, Reason> {
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
        let server = Server::open(Told { socket, report }, &login, &mut self.random, memory)
            .map_err(|error| reason(format_args!("logging in as {user}: {error}")))?;
        log!("logged in as {user}; files go by {}", server.means());
        Ok(server)
    }
}
