//! Where to publish.
use anyhow::{Context, bail};

/// What stands for the publisher's number in an address.
const NUMBER: &str = "{n}";
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
    /// Of publisher `number`, which takes the place of `{n}`.
    pub(super) fn parse(url: &str, number: usize) -> anyhow::Result<Self> {
        let url = url.replace(NUMBER, &number.to_string());
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

    /// Whether every publisher has an address of its own.
    pub(super) fn is_numbered(url: &str) -> bool {
        url.contains(NUMBER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_takes_its_place_and_the_query_stays_with_the_key() {
        let target = Target::parse("rtmp://host/live/room{n}?key=S{n}", 7).unwrap();
        assert_eq!((&*target.address, &*target.app, &*target.key), ("host:1935", "live", "room7?key=S7"));
        assert_eq!(Target::parse("rtmp://127.0.0.1:19350/live/S", 1).unwrap().address, "127.0.0.1:19350");
    }

    #[test]
    fn other_addresses_are_refused() {
        for bad in ["http://host/live/S", "rtmp://host", "rtmp://host/live", "rtmp://host/live/"] {
            assert!(Target::parse(bad, 1).is_err(), "{bad}");
        }
    }
}
