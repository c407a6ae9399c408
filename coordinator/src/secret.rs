//! Secrets: made at random, kept as hashes, and in files that only the owner reads.
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use rand::Rng;

/// The mode of the data folder.
const OWNER_ONLY: u32 = 0o700;
/// Characters of ids.
const ID_LEN: usize = 20;
/// Characters of a stream key: 32 letters, 120 bits.
const STREAM_KEY_LEN: usize = 24;

/// A new id.
pub(crate) fn random_id() -> String {
    random_text(ID_LEN)
}

/// A new stream key.
pub(crate) fn random_stream_key() -> String {
    random_text(STREAM_KEY_LEN)
}

/// Random letters and digits, without those that look alike: people type keys into phones.
pub(crate) fn random_text(len: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut rng = rand::rng();
    (0..len).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect()
}

/// What is kept of a secret that is random and long, so that a plain hash cannot be turned back. PINs are short: see
/// `pins.rs`.
pub(crate) fn hash(secret: &str) -> String {
    hash_bytes(secret.as_bytes())
}

/// The SHA-256 hash of bytes.
pub(crate) fn hash_bytes(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}

/// Compares without telling by time where the difference is.
pub(crate) fn is_equal(a: &str, b: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(hash(a).as_bytes(), hash(b).as_bytes()).is_ok()
}

/// Reads a secret from a file, which is made with `make` if there is none.
pub(crate) fn load_or_make(path: &Path, make: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Ok(secret) if !secret.is_empty() => Ok(secret),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => {
            let secret = make()?;
            write(path, &secret)?;
            Ok(secret)
        }
    }
}

/// The same for a secret that is text. White space around it is an editor's.
pub(crate) fn load_or_make_text(path: &Path, make: impl FnOnce() -> String) -> io::Result<String> {
    let bytes = load_or_make(path, || Ok(make().into_bytes()))?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Writes a secret into a file that only the owner reads.
pub(crate) fn write(path: &Path, secret: &[u8]) -> io::Result<()> {
    process::file::replace(path, secret, 0o600)
}

/// Makes the folder that secrets and the database are in, for its owner only; one that is there becomes so.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(folder)?;
    let mode = fs::metadata(folder)?.permissions().mode() & 0o777;
    if mode != OWNER_ONLY {
        tracing::warn!(folder = %folder.display(), "the data folder was open to others; its mode is now 0700");
        fs::set_permissions(folder, Permissions::from_mode(OWNER_ONLY))?;
    }
    Ok(())
}
