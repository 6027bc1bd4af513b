//! Loopback addresses of one testbed: 127.N.M.x, a network of its own for each testbed of the machine.
//!
//! A listener on the network's first address is the lock: the kernel releases it when the process ends, however it ends.
//! Ports are above 1024 and below the ephemeral ones, so that services of the machine itself are not touched.

use std::net::{Ipv4Addr, TcpListener};
use std::process;

use anyhow::{Context, Result};

pub const SMTP: u16 = 2525;
pub const SUBMISSIONS: u16 = 2465;
pub const SUBMISSION: u16 = 2587;
pub const INJECT: u16 = 10025;
/// The web server of the CAs.
pub const WEB: u16 = 2580;
/// The time stamping authority.
pub const TSA: u16 = 2318;
pub const IMAPS: u16 = 2993;
pub const POP3S: u16 = 2995;
/// The ports that RFC 3501 and RFC 1939 give to connections without TLS, moved like the others.
pub const IMAP: u16 = 2143;
pub const POP3: u16 = 2110;

const LOCK: u16 = 2500;

/// Where the search begins: away from 127.0.0.x, where services of the machine listen.
const FIRST_NETWORK: u32 = 77 << 8;
const NETWORKS: u32 = 40 << 8;

pub struct Network {
    bits: u32,
    _lock: TcpListener,
}

impl Network {
    pub fn reserve() -> Result<Self> {
        // Tests of other processes start elsewhere, which saves collisions; the lock decides.
        let start = process::id() % NETWORKS;
        (0..NETWORKS)
            .map(|step| FIRST_NETWORK + (start + step) % NETWORKS)
            .find_map(|bits| Some(Network { bits, _lock: TcpListener::bind((address(bits, 1), LOCK)).ok()? }))
            .context("no free loopback network")
    }

    /// The address of the nth host.
    pub fn host(&self, index: u8) -> Ipv4Addr {
        address(self.bits, 10 + index)
    }
}

fn address(network: u32, host: u8) -> Ipv4Addr {
    Ipv4Addr::from((127 << 24) | (network << 8) | u32::from(host))
}
