//! An authority of our own: for machines without a name in the DNS, and for the nodes of a cluster.
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use thiserror::Error;
use time::{Duration, OffsetDateTime};
use x509_parser::pem::parse_x509_pem;

/// What is given to those who are to believe the authority.
pub const CA_FILE: &str = "ca.pem";
/// What it signs with.
pub const CA_KEY_FILE: &str = "ca-key.pem";
/// Held while somebody looks whether the authority is there, and makes it.
const LOCK_FILE: &str = "ca.lock";
/// Devices are given it by hand, once.
const CA_DAYS: i64 = 3650;
/// Apple's devices refuse certificates that are good for more than 825 days; a year and a month leaves room to renew.
const CERT_DAYS: i64 = 397;
/// A node's is for other nodes alone, which trust nobody else, and is not renewed.
const NODE_CERT_DAYS: i64 = CA_DAYS;
/// Clocks of phones are behind.
const CLOCK_DIFFERENCE: Duration = Duration::DAY;
const OWNER_ONLY: u32 = 0o600;
const EVERYBODY_READS: u32 = 0o644;

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("cannot use {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Half of it is there.
    #[error("{} has only one of {CA_FILE} and {CA_KEY_FILE}", .0.display())]
    Half(PathBuf),
    /// Its certificate cannot be read.
    #[error("the authority's certificate cannot be used")]
    Unreadable,
    /// It cannot be made or signed with.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// Signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// Whether it was made just now.
    pub is_new: bool,
}

impl Authority {
    /// That of a folder, which is made unless there is one.
    pub fn open(folder: &Path) -> Result<Self, AuthorityError> {
        // Other secrets may come to lie here too.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| AuthorityError::File { path: folder.to_owned(), error })?;
        // Of two that ask at once only one may make it: what the other's has signed, nobody would believe.
        let lock_file = folder.join(LOCK_FILE);
        let cannot_lock = |error| AuthorityError::File { path: lock_file.clone(), error };
        let lock = fs::File::create(&lock_file).map_err(cannot_lock)?;
        lock.lock().map_err(cannot_lock)?;
        let (ca_file, ca_key_file) = (folder.join(CA_FILE), folder.join(CA_KEY_FILE));
        let is_new = match (ca_file.exists(), ca_key_file.exists()) {
            (true, true) => false,
            (false, false) => {
                let name = format!("Lectern on {}", host_name().unwrap_or_else(|| "this machine".to_owned()));
                let key = KeyPair::generate()?;
                let ca = authority_params(&name).self_signed(&key)?;
                write(&ca_key_file, &key.serialize_pem(), OWNER_ONLY)?;
                write(&ca_file, &ca.pem(), EVERYBODY_READS)?;
                true
            }
            _ => return Err(AuthorityError::Half(folder.to_owned())),
        };
        let pem = read(&ca_file)?;
        let name = common_name(&pem).ok_or(AuthorityError::Unreadable)?;
        let key = KeyPair::from_pem(&read(&ca_key_file)?)?;
        Ok(Self { issuer: Issuer::new(authority_params(&name), key), pem, is_new })
    }

    /// Its certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Makes a certificate of a web server for these names, and writes it and its key.
    pub fn issue_for_server(
        &self,
        names: Vec<String>,
        cert: &Path,
        key: &Path,
    ) -> Result<(), AuthorityError> {
        self.issue(names, &[ExtendedKeyUsagePurpose::ServerAuth], cert, key)
    }

    /// Makes a certificate by which other nodes know a node, and writes it and its key.
    pub fn issue_for_node(&self, known_as: String, cert: &Path, key: &Path) -> Result<(), AuthorityError> {
        self.issue(vec![known_as], &NODE_USES, cert, key)
    }

    /// Signs a node's own key, whatever else its request asks for. Returns the certificate.
    pub fn sign_for_node(&self, request: &str, known_as: String) -> Result<String, AuthorityError> {
        let request = CertificateSigningRequestParams::from_pem(request)?;
        self.sign(vec![known_as], &NODE_USES, &request.public_key)
    }

    fn issue(
        &self,
        names: Vec<String>,
        uses: &[ExtendedKeyUsagePurpose],
        cert: &Path,
        key_file: &Path,
    ) -> Result<(), AuthorityError> {
        let key = KeyPair::generate()?;
        let pem = self.sign(names, uses, &key)?;
        write(key_file, &key.serialize_pem(), OWNER_ONLY)?;
        write(cert, &pem, EVERYBODY_READS)
    }

    fn sign(
        &self,
        names: Vec<String>,
        uses: &[ExtendedKeyUsagePurpose],
        key: &impl PublicKeyData,
    ) -> Result<String, AuthorityError> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Lectern");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = uses.to_vec();
        params.use_authority_key_identifier_extension = true;
        let is_of_node = uses.contains(&ExtendedKeyUsagePurpose::ClientAuth);
        good_for(&mut params, if is_of_node { NODE_CERT_DAYS } else { CERT_DAYS });
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}

/// A node is asked, and asks.
const NODE_USES: [ExtendedKeyUsagePurpose; 2] =
    [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    good_for(&mut params, CA_DAYS);
    params
}

/// What an authority is called: the certificates that it signs name it, and the machine may be called otherwise by now.
fn common_name(pem: &str) -> Option<String> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

fn good_for(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_DIFFERENCE;
    params.not_after = now - CLOCK_DIFFERENCE + Duration::days(days);
}

/// What this machine is called.
pub fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    Some(name.trim().to_owned()).filter(|name| !name.is_empty() && name.bytes().all(is_host))
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    fs::read_to_string(path).map_err(|error| AuthorityError::File { path: path.to_owned(), error })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    process::file::replace(path, text.as_bytes(), mode)
        .map_err(|error| AuthorityError::File { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;

    #[test]
    fn nodes_have_theirs_for_as_long_as_the_authority_and_servers_for_a_year() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let days = || {
            let (_, pem) = parse_x509_pem(&fs::read(&cert).unwrap()).unwrap();
            pem.parse_x509().unwrap().validity().time_to_expiration().unwrap().whole_days()
        };
        authority.issue_for_server(vec!["school.local".to_owned()], &cert, &key).unwrap();
        assert!((390..=397).contains(&days()), "{}", days());
        authority.issue_for_node("n1.node.lectern".to_owned(), &cert, &key).unwrap();
        assert!((3640..=3650).contains(&days()), "{}", days());
    }

    #[test]
    fn those_who_ask_at_once_have_one_authority() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let authority = Authority::open(folder.path()).unwrap();
            (authority.issuer.key().serialize_pem(), authority.pem)
        };
        let opened: BTreeSet<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(opened.len() == 1 && opened.contains(&open()), "{} were made", opened.len());
    }
}
