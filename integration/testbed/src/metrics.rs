//! What pec-milter tells a monitoring system, as Prometheus asks for it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use anyhow::{Context, Result, ensure};

use crate::wait::{PATIENCE, wait_until};

const PORT: u16 = 9309;

/// TOML that makes the daemon of a host with this address tell its metrics.
pub fn settings(address: Ipv4Addr) -> String {
    format!("[metrics]\nlisten = \"{address}:{PORT}\"\n")
}

/// Everything that it tells now.
pub fn scrape(address: Ipv4Addr) -> Result<String> {
    let mut stream = TcpStream::connect((address, PORT))?;
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(answer)
}

/// The value of one metric, by its name with its labels. A daemon that has just started has not told all of them yet, so it is
/// waited for.
pub fn value(address: Ipv4Addr, name: &str) -> Result<f64> {
    wait_until(&format!("the metric {name}"), PATIENCE, || {
        let told = scrape(address)?;
        let value = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.with_context(|| format!("it is not in:\n{told}"))?.parse().map_err(Into::into)
    })
}
