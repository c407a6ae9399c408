//! A certificate for a machine that has no name in the DNS, from an authority of its own.
use std::net::IpAddr;
use std::path::Path;

pub(crate) use coordinator::authority::CA_FILE;
use coordinator::authority::{Authority, host_name};
use nix::ifaddrs::getifaddrs;

/// What the server shows.
pub(crate) const CERT_FILE: &str = "cert.pem";
pub(crate) const KEY_FILE: &str = "key.pem";

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
    let authority = Authority::open(folder)?;
    authority.issue_for_server(names.clone(), &folder.join(CERT_FILE), &folder.join(KEY_FILE))?;
    Ok(Made { is_new_ca: authority.is_new, names })
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use coordinator::authority::CA_KEY_FILE;

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
