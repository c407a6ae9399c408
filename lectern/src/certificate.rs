//! A certificate for a machine that has no name in the DNS, from an authority of its own.
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::ifaddrs::getifaddrs;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::parse_x509_pem;

/// What people install on their devices.
pub(crate) const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca-key.pem";
/// What the server shows.
pub(crate) const CERT_FILE: &str = "cert.pem";
pub(crate) const KEY_FILE: &str = "key.pem";
/// Devices are given it by hand, once.
const CA_DAYS: i64 = 3650;
/// Apple's devices refuse certificates that are good for more than 825 days; a year and a month leaves room to renew.
const CERT_DAYS: i64 = 397;
/// Clocks of phones are behind.
const CLOCK_DIFFERENCE: Duration = Duration::DAY;
const OWNER_ONLY: u32 = 0o600;
const EVERYBODY_READS: u32 = 0o644;

/// What was made.
#[derive(Debug)]
pub(crate) struct Made {
    /// Whether devices have to be given the authority's certificate.
    pub(crate) is_new_ca: bool,
    /// What the certificate is for.
    pub(crate) names: Vec<String>,
}

/// Makes a certificate for `names`; the authority too, unless there is one.
pub(crate) fn make(folder: &Path, names: Vec<String>) -> anyhow::Result<Made> {
    let (issuer, is_new_ca) = open(folder)?;
    let (cert, key) = leaf(&issuer, names.clone(), &[ExtendedKeyUsagePurpose::ServerAuth])?;
    write(&folder.join(KEY_FILE), &key.serialize_pem(), OWNER_ONLY)?;
    write(&folder.join(CERT_FILE), &cert.pem(), EVERYBODY_READS)?;
    Ok(Made { is_new_ca, names })
}

/// Makes a certificate by which other nodes know the node `name`, its key, and a copy of the authority's certificate; the authority
/// too, unless there is one in `folder`.
pub(crate) fn make_for_node(folder: &Path, name: String, files: [PathBuf; 3]) -> anyhow::Result<()> {
    let (issuer, _) = open(folder)?;
    // A node is asked, and asks.
    let uses = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let (cert, key) = leaf(&issuer, vec![name], &uses)?;
    let [cert_file, key_file, ca_file] = files;
    if let Some(out) = cert_file.parent() {
        make_folder(out)?;
    }
    write(&key_file, &key.serialize_pem(), OWNER_ONLY)?;
    write(&cert_file, &cert.pem(), EVERYBODY_READS)?;
    let ca = read(&folder.join(CA_FILE))?;
    write(&ca_file, &ca, EVERYBODY_READS)
}

/// The authority in a folder, which is made unless there is one, and whether it was.
fn open(folder: &Path) -> anyhow::Result<(Issuer<'static, KeyPair>, bool)> {
    make_folder(folder)?;
    let (ca_file, ca_key_file) = (folder.join(CA_FILE), folder.join(CA_KEY_FILE));
    let is_new_ca = match (ca_file.try_exists()?, ca_key_file.try_exists()?) {
        (true, true) => false,
        (false, false) => {
            let (ca, key) = authority()?;
            write(&ca_key_file, &key.serialize_pem(), OWNER_ONLY)?;
            write(&ca_file, &ca.pem(), EVERYBODY_READS)?;
            true
        }
        _ => bail!("{} has only one of {CA_FILE} and {CA_KEY_FILE}", folder.display()),
    };
    let ca_key = KeyPair::from_pem(&read(&ca_key_file)?).context("the authority's key cannot be used")?;
    Ok((Issuer::new(authority_params(&common_name(&read(&ca_file)?)?), ca_key), is_new_ca))
}

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    // The database and its secrets may come to lie here too.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot use the folder {}", folder.display()))
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn authority() -> Result<(Certificate, KeyPair), rcgen::Error> {
    let name = format!("Lectern on {}", host_name().unwrap_or_else(|| "this machine".to_owned()));
    let key = KeyPair::generate()?;
    Ok((authority_params(&name).self_signed(&key)?, key))
}

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
fn common_name(pem: &str) -> anyhow::Result<String> {
    let read = || {
        let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
        let certificate = pem.parse_x509().ok()?;
        let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
        Some(name.to_owned())
    };
    read().context("the authority's certificate cannot be used")
}

fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    names: Vec<String>,
    uses: &[ExtendedKeyUsagePurpose],
) -> anyhow::Result<(Certificate, KeyPair)> {
    let mut params = CertificateParams::new(names).context("a host is neither a name nor an address")?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Lectern");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = uses.to_vec();
    params.use_authority_key_identifier_extension = true;
    good_for(&mut params, CERT_DAYS);
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, issuer)?, key))
}

fn good_for(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_DIFFERENCE;
    params.not_after = now - CLOCK_DIFFERENCE + Duration::days(days);
}

fn write(file: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    process::file::replace(file, text.as_bytes(), mode)
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The names and addresses by which this machine may be reached, without duplicates.
pub(crate) fn own_names(more: &[String]) -> Vec<String> {
    let mut names = more.to_vec();
    names.push("localhost".to_owned());
    if let Some(host) = host_name() {
        // Apple's devices, Android and Linux with Avahi find machines on the local network by the second.
        names.extend([host.clone(), format!("{host}.local")]);
    }
    let addresses = getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
    names.extend(addresses.filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))?;
        Some(ip.to_string())
    }));
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    Some(name.trim().to_owned()).filter(|name| !name.is_empty() && name.bytes().all(is_host))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_certificate_comes_from_the_same_authority() {
        let folder = tempfile::TempDir::new().unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(make(folder.path(), vec!["school.example".to_owned()]).unwrap().is_new_ca);
        let (ca, cert) = (read(CA_FILE), read(CERT_FILE));
        assert!(!make(folder.path(), vec!["192.0.2.7".to_owned()]).unwrap().is_new_ca);
        assert_eq!(read(CA_FILE), ca);
        assert_ne!(read(CERT_FILE), cert);
        for (name, mode) in [(CA_KEY_FILE, 0o600), (KEY_FILE, 0o600), (CA_FILE, 0o644), (CERT_FILE, 0o644)] {
            let found = fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{name}");
        }
    }

    #[test]
    fn half_an_authority_is_not_replaced() {
        let folder = tempfile::TempDir::new().unwrap();
        make(folder.path(), own_names(&[])).unwrap();
        fs::remove_file(folder.path().join(CA_KEY_FILE)).unwrap();
        let error = make(folder.path(), own_names(&[])).unwrap_err().to_string();
        assert!(error.contains("only one of"), "{error}");
    }

    #[test]
    fn this_machine_is_reached_over_loopback_and_by_what_is_given() {
        let names = own_names(&["school.example".to_owned(), "localhost".to_owned()]);
        assert_eq!(names[0], "school.example");
        assert_eq!(names.iter().filter(|name| *name == "localhost").count(), 1);
        assert!(names.contains(&"127.0.0.1".to_owned()), "{names:?}");
    }
}
