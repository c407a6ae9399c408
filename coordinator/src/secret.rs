//! Secrets: made at random, kept as hashes, and in files that only the owner reads.
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use rand::Rng;

/// Random letters and digits, without those that look alike: people type keys into phones.
pub(crate) fn random_text(len: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut rng = rand::rng();
    (0..len).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect()
}

/// Random digits.
pub(crate) fn random_pin(len: usize) -> String {
    let mut rng = rand::rng();
    (0..len).map(|_| char::from(b'0' + rng.random_range(0..10_u8))).collect()
}

/// What is kept of a secret. The secrets are random and long, so a plain hash cannot be turned back; a PIN is short, and
/// guarded by the rate of guesses.
pub(crate) fn hash(secret: &str) -> String {
    digest(&SHA256, secret.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
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
            // Written beside and renamed, so that a crash leaves either no secret or a whole one.
            let beside = path.with_extension("new");
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(&secret)?;
            file.sync_all()?;
            fs::rename(&beside, path)?;
            path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(Ok(()), sync_folder)?;
            Ok(secret)
        }
    }
}

/// The new name itself must survive a loss of power too.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes the folder that secrets and the database are in, for its owner only; one that is there is left as it is.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
