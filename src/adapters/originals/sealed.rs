//! One original as it lies on disk: zstd, then AES-256-GCM.
//!
//! ```text
//! "PECORIG1"  8 octets
//! key name    8 octets, by which another key is told from an altered file
//! salt       32 octets, random
//! content     the compressed original, encrypted, and the tag of 16 octets
//! ```
//!
//! Each file has a key of its own: HKDF-SHA256 of the 32 octets of the key file with the file's salt. So the nonce may be
//! the same in all of them. Header and PEC msgid are associated data: a file that was altered, or put in the place of
//! another, does not open.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use bytes::Bytes;
use zeroize::Zeroizing;

use crate::model::PecMsgid;

const MAGIC: &[u8; 8] = b"PECORIG1";
const KEY_NAME: usize = 8;
const SALT: usize = 32;
const HEADER: usize = MAGIC.len() + KEY_NAME + SALT;
const KEY: usize = 32;

/// What zstd itself takes for the best of both: some 300 MB a second and core, half of a typical text.
const LEVEL: i32 = 3;

const GROUP_AND_OTHERS: u32 = 0o077;

/// What a key is derived for, so that no two purposes have the same one.
const FOR_CONTENT: &[u8] = b"pec-milter original: content";
const FOR_NAME: &[u8] = b"pec-milter original: name of the key";

/// The key of all originals. It is never printed.
pub struct OriginalsKey(Zeroizing<[u8; KEY]>);

impl std::fmt::Debug for OriginalsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OriginalsKey")
    }
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is open to others than its owner (mode {mode:04o}): run chmod 600 on it", path.display())]
    OpenToOthers { path: PathBuf, mode: u32 },
    #[error("{} must hold exactly {KEY} octets: make it with openssl rand -out FILE {KEY}", .0.display())]
    Length(PathBuf),
}

/// Why a file of the store does not give its original.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("it is no file of this store")]
    Foreign,
    #[error("it was encrypted with another key than that of log.originals_key_file: set it to the key of that time")]
    AnotherKey,
    #[error("it was altered, or belongs to another message")]
    Altered,
    #[error("it cannot be decompressed")]
    Damaged(#[source] io::Error),
}

impl OriginalsKey {
    /// Reads the key file, which must be its owner's alone.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777;
        if mode & GROUP_AND_OTHERS != 0 {
            return Err(KeyError::OpenToOthers { path: path.to_owned(), mode });
        }
        // One octet more than there may be, so that a longer file is noticed and a device is not read for ever.
        let mut octets = Zeroizing::new(Vec::with_capacity(KEY + 1));
        File::open(path).and_then(|file| file.take(KEY as u64 + 1).read_to_end(&mut octets)).map_err(failed)?;
        let key: [u8; KEY] = octets.as_slice().try_into().map_err(|_| KeyError::Length(path.to_owned()))?;
        Ok(OriginalsKey(Zeroizing::new(key)))
    }

    /// The header and the content of the file that holds an original. Of a large one there is no copy but the compressed.
    pub fn seal(&self, original: &Bytes, id: &PecMsgid) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let mut compressed = zstd::Encoder::new(Vec::new(), LEVEL)?;
        compressed.set_pledged_src_size(Some(u64::try_from(original.len()).map_err(io::Error::other)?))?;
        compressed.write_all(original)?;
        let mut content = compressed.finish()?;

        let mut salt = [0; SALT];
        rand::fill(&mut salt).map_err(io::Error::other)?;
        let header = [MAGIC.as_slice(), &self.name().map_err(io::Error::other)?, &salt].concat();
        let key = self.of_file(&salt).map_err(io::Error::other)?;
        key.seal_in_place_append_tag(nonce(), bound(&header, id), &mut content).map_err(io::Error::other)?;
        Ok((header, content))
    }

    /// The original that a file holds.
    pub fn open(&self, mut file: Vec<u8>, id: &PecMsgid) -> Result<Vec<u8>, Unreadable> {
        let (header, content) = file.split_at_mut_checked(HEADER).ok_or(Unreadable::Foreign)?;
        let rest = header.strip_prefix(MAGIC).ok_or(Unreadable::Foreign)?;
        let (name, salt) = rest.split_at_checked(KEY_NAME).ok_or(Unreadable::Foreign)?;
        if self.name().ok().as_ref().map(<[u8; KEY_NAME]>::as_slice) != Some(name) {
            return Err(Unreadable::AnotherKey);
        }
        let key = self.of_file(salt).map_err(|_| Unreadable::Altered)?;
        let compressed = key.open_in_place(nonce(), bound(header, id), content).map_err(|_| Unreadable::Altered)?;
        zstd::decode_all(&*compressed).map_err(Unreadable::Damaged)
    }

    fn name(&self) -> Result<[u8; KEY_NAME], Unspecified> {
        let mut whole = [0; KEY];
        Salt::new(HKDF_SHA256, &[]).extract(self.0.as_slice()).expand(&[FOR_NAME], HKDF_SHA256)?.fill(&mut whole)?;
        whole.first_chunk().copied().ok_or(Unspecified)
    }

    fn of_file(&self, salt: &[u8]) -> Result<LessSafeKey, Unspecified> {
        let mut key = Zeroizing::new([0; KEY]);
        let extracted = Salt::new(HKDF_SHA256, salt).extract(self.0.as_slice());
        extracted.expand(&[FOR_CONTENT], HKDF_SHA256)?.fill(key.as_mut_slice())?;
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice())?))
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn bound(header: &[u8], id: &PecMsgid) -> Aad<Vec<u8>> {
    Aad::from([header, id.as_str().as_bytes()].concat())
}
