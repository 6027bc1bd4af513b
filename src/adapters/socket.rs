//! The unix sockets on which the daemon listens, for Postfix's milter and lmtp clients.
//!
//! A socket file left behind by a killed daemon is replaced, one that another process answers on is not. The socket is
//! open to owner and group only: whoever can write to it is believed. How Postfix's group gets its number is left to
//! the configuration. Every error names the path and what to do about it.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

const OWNER_AND_GROUP: u32 = 0o660;

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another process answers on {0}: stop it, or choose another path")]
    InUse(PathBuf),
    #[error("{0} exists and is not a socket: move it away, or choose another path")]
    NotASocket(PathBuf),
    #[error("cannot look at {path}: the daemon needs access to this folder")]
    Probe { path: PathBuf, source: io::Error },
    #[error("cannot remove the unused socket {path}: the daemon needs write access to this folder")]
    Remove { path: PathBuf, source: io::Error },
    #[error("cannot listen on {path}: the folder must exist and be writable by the daemon")]
    Bind { path: PathBuf, source: io::Error },
    #[error("cannot give {path} to group {gid}: the daemon must be a member of this group")]
    Group { path: PathBuf, gid: u32, source: io::Error },
    #[error("cannot set the mode of {path}")]
    Mode { path: PathBuf, source: io::Error },
}

/// Listens on a path, with mode 0660 and, if given, for this group.
pub async fn listen(path: &Path, group: Option<u32>) -> Result<UnixListener, SocketError> {
    remove_unused(path).await?;
    let owned = || path.to_owned();
    let listener = UnixListener::bind(path).map_err(|source| SocketError::Bind { path: owned(), source })?;
    if let Some(gid) = group {
        chown(path, None, Some(gid)).map_err(|source| SocketError::Group { path: owned(), gid, source })?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(OWNER_AND_GROUP))
        .map_err(|source| SocketError::Mode { path: owned(), source })?;
    Ok(listener)
}

async fn remove_unused(path: &Path) -> Result<(), SocketError> {
    let probe = |source| SocketError::Probe { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(probe(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        // A full backlog is an answer too.
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|source| SocketError::Remove { path: path.to_owned(), source })
        }
        Err(error) => Err(probe(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn a_socket_is_open_to_owner_and_group_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lmtp");
        let gid = fs::metadata(folder.path()).unwrap().gid();
        let _listener = listen(&path, Some(gid)).await.unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.gid()), (0o660, gid));
    }

    #[tokio::test]
    async fn a_socket_nobody_listens_on_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lmtp");
        drop(listen(&path, None).await.unwrap());
        let _listener = listen(&path, None).await.unwrap();
        assert!(matches!(listen(&path, None).await, Err(SocketError::InUse(_))));
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lmtp");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path, None).await, Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_missing_folder_is_named() {
        let error = listen(Path::new("/nowhere/lmtp"), None).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot listen on /nowhere/lmtp"));
    }
}
