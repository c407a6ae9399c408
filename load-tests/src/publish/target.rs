//! Where to publish.
use std::path::Path;

use anyhow::{Context, bail, ensure};

/// What stands for the publisher's number in an address.
const NUMBER: &str = "{n}";
/// What stands for its key.
const KEY: &str = "{key}";
/// RTMP's own port.
const PORT: u16 = 1935;

/// An RTMP address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Host and port.
    pub(super) address: String,
    pub(super) app: String,
    /// With its query, where it has one.
    pub(super) key: String,
}

impl Target {
    /// Of publisher `number`, whose number takes the place of `{n}` and whose key that of `{key}`.
    pub(super) fn parse(url: &str, number: usize, key: Option<&str>) -> anyhow::Result<Self> {
        let url = url.replace(NUMBER, &number.to_string());
        let url = key.map_or_else(|| url.clone(), |key| url.replace(KEY, key));
        let rest = url.strip_prefix("rtmp://").context("the address must begin with rtmp://")?;
        let mut parts = rest.splitn(3, '/');
        let (host, app, key) = (parts.next(), parts.next(), parts.next());
        let (Some(host), Some(app), Some(key)) = (host, app, key.filter(|key| !key.is_empty())) else {
            bail!("the address must look like rtmp://host/app/KEY");
        };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { host.to_owned() } else { format!("{host}:{PORT}") };
        Ok(Self { address, app: app.to_owned(), key: key.to_owned() })
    }

    /// One for each of `count` publishers, whose keys are the lines of a file where one is given.
    pub(super) fn all(url: &str, count: usize, keys: Option<&Path>) -> anyhow::Result<Vec<Self>> {
        ensure!(keys.is_some() == url.contains(KEY), "--keys and {KEY} in the address belong together");
        ensure!(
            count == 1 || url.contains(NUMBER) || keys.is_some(),
            "{count} publishers need an address each: put {NUMBER} where their number belongs, or {KEY}"
        );
        let Some(keys) = keys else {
            return (1..=count).map(|number| Self::parse(url, number, None)).collect();
        };
        let text = std::fs::read_to_string(keys).with_context(|| format!("{}", keys.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let targets: Vec<Self> = (1..=count)
            .zip(lines)
            .map(|(number, key)| Self::parse(url, number, Some(key)))
            .collect::<anyhow::Result<_>>()?;
        ensure!(targets.len() == count, "{} has {} keys for {count}", keys.display(), targets.len());
        Ok(targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_takes_its_place_and_the_query_stays_with_the_key() {
        let target = Target::parse("rtmp://host/live/room{n}?key=S{n}", 7, None).unwrap();
        assert_eq!((&*target.address, &*target.app, &*target.key), ("host:1935", "live", "room7?key=S7"));
        assert_eq!(
            Target::parse("rtmp://127.0.0.1:19350/live/S", 1, None).unwrap().address,
            "127.0.0.1:19350"
        );
    }

    #[test]
    fn other_addresses_are_refused() {
        for bad in ["http://host/live/S", "rtmp://host", "rtmp://host/live", "rtmp://host/live/"] {
            assert!(Target::parse(bad, 1, None).is_err(), "{bad}");
        }
    }
    #[test]
    fn keys_are_the_lines_of_a_file() {
        let folder = tempfile::TempDir::new().unwrap();
        let keys = folder.path().join("keys");
        std::fs::write(&keys, "one\n\n two \nthree\n").unwrap();
        let url = "rtmp://host/live/{key}";
        let targets = Target::all(url, 2, Some(&keys)).unwrap();
        let found: Vec<&str> = targets.iter().map(|target| &*target.key).collect();
        assert_eq!(found, ["one", "two"]);
        assert!(Target::all(url, 4, Some(&keys)).is_err(), "too few keys");
        assert!(
            Target::all(url, 1, None).is_err() && Target::all("rtmp://host/live/x", 1, Some(&keys)).is_err()
        );
        assert!(Target::all("rtmp://host/live/x", 2, None).is_err(), "they would push each other out");
    }
}
