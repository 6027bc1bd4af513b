//! A provider that keeps originals (`log.keep_originals`).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use anyhow::Result;
use pec_testbed::{Host, Testbed};

/// Has a provider keep originals, in a folder that may be on a disk of its own. `octet` makes the key.
pub fn keep_originals(testbed: &Testbed, host: &Host, octet: u8) -> Result<PathBuf> {
    let daemon = host.daemon()?;
    let owner = fs::metadata(daemon.state_folder())?;
    let store = host.site.folder.join("originals");
    fs::create_dir(&store)?;
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700))?;
    chown(&store, Some(owner.uid()), Some(owner.gid()))?;
    let key = daemon.keep_secret(&key_file(testbed, host, octet)?)?;
    let lines = format!("[log]\nkeep_originals = true\noriginals = {store:?}\noriginals_key_file = {key:?}\n");
    daemon.stop()?;
    daemon.reconfigure("[log]\n", &lines)?;
    daemon.start()?;
    Ok(store)
}

fn key_file(testbed: &Testbed, host: &Host, octet: u8) -> Result<PathBuf> {
    let file = testbed.folder().join(format!("{}-{octet}.key", host.site.name));
    fs::write(&file, [octet; 32])?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(file)
}
