//! Whose request it is when proxies stand in between.
use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The peer's address; if that is a trusted proxy, the last address in X-Forwarded-For that is none. What stands further
/// left was written by that client and means nothing.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(&client) {
        return client;
    }
    let fields = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let hops = fields.flat_map(|field| field.to_str().unwrap_or("").rsplit(','));
    for hop in hops {
        // A hop that cannot be read hides whatever is before it.
        let Some(address) = parse(hop.trim()) else { break };
        client = address;
        if !is_trusted(&client) {
            break;
        }
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:5`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:5`: some proxies write ports.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let address: Option<IpAddr> = bare.parse().ok();
    let address = address.or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, fields: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(X_FORWARDED_FOR, field.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_may_name_its_client() {
        assert_eq!(client("192.0.2.1", &["203.0.113.9"], &[]), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &["203.0.113.9"], &["10.0.0.0/8"]), "192.0.2.1");
        assert_eq!(client("10.1.1.1", &["203.0.113.9"], &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(client("::ffff:10.1.1.1", &["203.0.113.9"], &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(client("10.1.1.1", &[], &["10.0.0.0/8"]), "10.1.1.1");
    }

    #[test]
    fn what_a_client_writes_itself_is_not_believed() {
        let trusted = &["10.0.0.0/8", "fd00::/8"];
        assert_eq!(client("10.1.1.1", &["198.51.100.1, 203.0.113.9, 10.2.2.2"], trusted), "203.0.113.9");
        assert_eq!(client("10.1.1.1", &["198.51.100.1", "203.0.113.9, fd00::1"], trusted), "203.0.113.9");
        assert_eq!(client("10.1.1.1", &["198.51.100.1, nonsense, 10.2.2.2"], trusted), "10.2.2.2");
        assert_eq!(client("10.1.1.1", &["", ",,,"], trusted), "10.1.1.1");
        assert_eq!(client("10.1.1.1", &["10.3.3.3, 10.2.2.2"], trusted), "10.3.3.3");
    }

    #[test]
    fn ports_and_brackets_are_no_part_of_an_address() {
        for (field, expected) in [
            ("203.0.113.9:4711", "203.0.113.9"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
        ] {
            assert_eq!(client("10.1.1.1", &[field], &["10.0.0.0/8"]), expected);
        }
    }
}
