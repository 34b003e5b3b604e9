// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way to a server.
#![expect(
    clippy::result_large_err,
    reason = "a reason has no heap to lie on, and an attempt has one of them"
)]

use super::{Reason, Run, reason};
use crate::clock;
use crate::log;
use crate::report::Step;
use crate::turn::Turn;
use config::Server;
use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use targets::net;

/// How long name servers are asked before the address of the record is taken.
const NAME_PATIENCE: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Brings up the way to the server, and returns its address.
    pub(super) fn network(&mut self, number: usize, server: &Server<'_>) -> Result<IpAddr, Reason> {
        let record = self.job.record;
        self.enter(Step::Network);
        let spec = record
            .networks
            .get(number)
            .ok_or_else(|| reason("the record has no such network, a defect of kdumprd"))?;
        let start_ms = clock::now_ms();
        let _turn = (!record.fence.nodes.is_empty()).then(Turn::take);
        let waited = Duration::from_millis(clock::now_ms().saturating_sub(start_ms));
        let patience =
            Duration::from_secs(u64::from(record.deadlines.network_s)).saturating_sub(waited);
        let mut tell = |line: fmt::Arguments<'_>| log!("{line}");
        let network = net::bring_up(spec, patience, &mut tell).map_err(reason)?;
        Ok(network.address_of(server, NAME_PATIENCE, &mut tell))
    }
}

/// The address that this machine has towards a server.
pub(super) fn own_address(server: IpAddr) -> Result<IpAddr, Reason> {
    net::own_address(server)
        .map_err(|error| reason(format_args!("finding the way to {server}: {error}")))
}
