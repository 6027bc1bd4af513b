//! What lies in a provider's virus store.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use pec_testbed::Host;

/// The names of the messages in a host's virus store.
pub fn stored(host: &Host) -> Result<Vec<String>> {
    let (_, text) = host.daemon()?.command(&["virus", "list"])?;
    let names = text.lines().map(str::trim).filter(|line| !line.contains(' ') && line.contains('@'));
    Ok(names.map(str::to_owned).collect())
}

/// A stored message as `virus export` gives it.
pub fn exported(host: &Host, name: &str) -> Result<Vec<u8>> {
    let target = host.site.folder.join(format!("{name}.exported"));
    host.command(&["virus", "export", name, "--to", target.to_str().context("UTF-8")?])?;
    assert_eq!(fs::metadata(&target)?.permissions().mode() & 0o777, 0o600);
    Ok(fs::read(target)?)
}
