//! Who stands behind a proxy. Nothing that a request says of itself is believed unless a trusted proxy added it.
use std::net::IpAddr;

use axum::http::header::{FORWARDED, VIA};
use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use serde::Deserialize;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What proxies add. A request that has one of them did not come straight from the client.
const PROXY_HEADERS: [HeaderName; 5] = [
    FORWARDED,
    VIA,
    X_FORWARDED_FOR,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-real-ip"),
];
/// Where local networks are (RFC 1918, RFC 6598, RFC 4193).
const PRIVATE: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];
/// Hops that are looked at: a request through more proxies than these is nobody's.
const HOPS_MAX: usize = 16;

/// The proxies whose word counts, as networks (`10.0.0.0/8`) or addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct TrustedProxies(Vec<IpNet>);

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address of the client, or of the last hop that is known.
    pub ip: IpAddr,
    /// Whether `ip` is the client's own address and not that of a proxy on the way.
    pub is_direct: bool,
    /// The scheme that the client used, if a trusted proxy says so.
    pub scheme: Option<&'static str>,
}

impl TryFrom<Vec<String>> for TrustedProxies {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        let parse = |text: String| {
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| format!("{text:?} is not a network such as 10.0.0.0/8, nor an address"))
        };
        texts.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }
}

impl TrustedProxies {
    /// The networks that hold more of a private range than a subnet (IPv4 /24, IPv6 /64), and so most likely people as well as
    /// proxies.
    pub fn wide(&self) -> impl Iterator<Item = &IpNet> {
        let len_max = |network: &IpNet| if network.addr().is_ipv4() { 24 } else { 64 };
        let is_private = |network: &IpNet| {
            let ranges = PRIVATE.iter().filter_map(|range| range.parse::<IpNet>().ok());
            ranges.into_iter().any(|range| range.contains(network) || network.contains(&range))
        };
        self.0.iter().filter(move |network| network.prefix_len() < len_max(network) && is_private(network))
    }

    /// Whether this address is a trusted proxy's.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// Whose request this is that came from `peer` with these headers.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = peer.to_canonical();
        if !self.contains(peer) {
            let is_direct = !PROXY_HEADERS.iter().any(|name| headers.contains_key(name));
            return Client { ip: peer, is_direct, scheme: None };
        }
        let scheme = proto(headers);
        let found = match (forwarded_for(headers), forwarded(headers)) {
            (Some(hops), None) | (None, Some(hops)) => self.walk(peer, &hops),
            // A proxy writes one of the two and passes the other on as the client sent it. Which one is not known here,
            // so they count only when they agree.
            (Some(one), Some(other)) => {
                let (one, other) = (self.walk(peer, &one), self.walk(peer, &other));
                if one == other { one } else { Err(peer) }
            }
            (None, None) => Err(peer),
        };
        match found {
            Ok(ip) => Client { ip, is_direct: true, scheme },
            Err(ip) => Client { ip, is_direct: false, scheme },
        }
    }

    /// From right to left past trusted hops: what stands further left than the first untrusted one is its own invention.
    /// `Err` is the last hop that is known, when the one before it cannot be.
    fn walk(&self, peer: IpAddr, hops: &[Option<IpAddr>]) -> Result<IpAddr, IpAddr> {
        let mut last = peer;
        for hop in hops.iter().rev().take(HOPS_MAX) {
            let Some(ip) = *hop else { return Err(last) };
            if !self.contains(ip) {
                return Ok(ip);
            }
            last = ip;
        }
        // Every hop is trusted: the leftmost began it, unless there are more hops than are looked at.
        if hops.len() > HOPS_MAX || hops.is_empty() { Err(last) } else { Ok(last) }
    }
}

/// The hops of `X-Forwarded-For`, oldest first; several headers are one list (RFC 9110 section 5.3).
fn forwarded_for(headers: &HeaderMap) -> Option<Vec<Option<IpAddr>>> {
    list(headers, &X_FORWARDED_FOR).map(|elements| elements.into_iter().map(hop).collect())
}

/// The hops of `Forwarded` (RFC 7239 section 4), oldest first.
fn forwarded(headers: &HeaderMap) -> Option<Vec<Option<IpAddr>>> {
    let of = |element: &str| {
        let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
        let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
        hop(node.trim().trim_matches('"'))
    };
    list(headers, &FORWARDED).map(|elements| elements.into_iter().map(of).collect())
}

fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Vec<&'a str>> {
    let mut elements = Vec::new();
    for value in headers.get_all(name) {
        // Bytes that are no text stand for a hop that cannot be read.
        elements.extend(value.to_str().unwrap_or("?").split(','));
    }
    (!elements.is_empty()).then_some(elements)
}

/// An address with or without a port, an IPv6 one in brackets if it has one. `unknown` and `_names` are none.
fn hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let ip = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0.parse().ok()?,
        None => match text.parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) => IpAddr::V4(text.split_once(':')?.0.parse().ok()?),
        },
    };
    Some(ip.to_canonical())
}

/// The scheme nearest to the client that the proxies name, `https` only if the last of them says so.
fn proto(headers: &HeaderMap) -> Option<&'static str> {
    let elements = list(headers, &X_FORWARDED_PROTO)?;
    match elements.last()?.trim() {
        proto if proto.eq_ignore_ascii_case("https") => Some("https"),
        proto if proto.eq_ignore_ascii_case("http") => Some("http"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &'static str)]) -> (String, bool, Option<&'static str>) {
        let trusted = ["10.0.0.0/8", "fd00::/8", "192.0.2.1"].map(str::to_owned).to_vec();
        let trusted = TrustedProxies::try_from(trusted).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let Client { ip, is_direct, scheme } = trusted.client(peer.parse().unwrap(), &map);
        (ip.to_string(), is_direct, scheme)
    }

    fn is(found: (String, bool, Option<&'static str>), ip: &str, is_direct: bool) {
        assert_eq!((found.0.as_str(), found.1), (ip, is_direct));
    }

    #[test]
    fn a_stranger_who_says_that_it_is_a_proxy_is_not_believed() {
        is(client("203.0.113.9", &[]), "203.0.113.9", true);
        is(client("203.0.113.9", &[("x-forwarded-for", "127.0.0.1")]), "203.0.113.9", false);
        is(client("127.0.0.1", &[("via", "1.1 proxy")]), "127.0.0.1", false);
        assert_eq!(client("203.0.113.9", &[("x-forwarded-proto", "https")]).2, None);
    }

    #[test]
    fn the_list_is_read_from_the_right_past_trusted_hops() {
        let xff = |value| client("10.0.0.1", &[("x-forwarded-for", value)]);
        is(xff("203.0.113.9"), "203.0.113.9", true);
        is(xff("127.0.0.1, 203.0.113.9"), "203.0.113.9", true);
        is(xff("127.0.0.1, 203.0.113.9, 10.9.9.9, fd00::2"), "203.0.113.9", true);
        is(xff("10.2.2.2"), "10.2.2.2", true);
        is(xff("::ffff:203.0.113.9"), "203.0.113.9", true);
        is(xff("203.0.113.9:51000"), "203.0.113.9", true);
        is(xff("[2a00::5]:51000, 192.0.2.1"), "2a00::5", true);
        let two = [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "203.0.113.9")];
        is(client("::ffff:10.0.0.1", &two), "203.0.113.9", true);
    }

    #[test]
    fn a_hop_that_cannot_be_read_leaves_the_client_unknown() {
        for value in ["unknown", "", "127.0.0.1, unknown, 10.9.9.9", "127.0.0.1,,10.9.9.9"] {
            assert!(!client("10.0.0.1", &[("x-forwarded-for", value)]).1, "{value}");
        }
        is(client("10.0.0.1", &[]), "10.0.0.1", false);
        let many: &'static str = Box::leak(["10.0.0.3"; HOPS_MAX + 1].join(",").into_boxed_str());
        assert!(!client("10.0.0.1", &[("x-forwarded-for", many)]).1);
    }

    #[test]
    fn the_standard_header_counts_alone_or_when_both_agree() {
        let standard = ("forwarded", "for=127.0.0.1, proto=https;For=\"[2a00::5]:4711\";by=10.0.0.1");
        is(client("10.0.0.1", &[standard]), "2a00::5", true);
        is(client("10.0.0.1", &[standard, ("x-forwarded-for", "2a00::5")]), "2a00::5", true);
        is(client("10.0.0.1", &[standard, ("x-forwarded-for", "127.0.0.1")]), "10.0.0.1", false);
        is(client("10.0.0.1", &[("forwarded", "for=_hidden")]), "10.0.0.1", false);
        is(client("10.0.0.1", &[("forwarded", "proto=https")]), "10.0.0.1", false);
    }

    #[test]
    fn the_scheme_is_what_the_nearest_proxy_says() {
        let proto = |value| client("10.0.0.1", &[("x-forwarded-proto", value)]).2;
        assert_eq!(proto("https"), Some("https"));
        assert_eq!(proto("https, http"), Some("http"));
        assert_eq!(proto("gopher"), None);
    }

    #[test]
    fn networks_that_hold_more_than_a_proxy_are_known() {
        let texts = ["10.0.0.0/8", "10.1.0.0/16", "10.0.0.2", "192.168.7.0/24", "0.0.0.0/0", "104.16.0.0/13"];
        let texts =
            [&texts[..], &["127.0.0.0/8", "fd00::/8", "fd00:1::/64", "::/0", "2400:cb00::/32"]].concat();
        let trusted =
            TrustedProxies::try_from(texts.into_iter().map(str::to_owned).collect::<Vec<_>>()).unwrap();
        let wide: Vec<_> = trusted.wide().map(IpNet::to_string).collect();
        assert_eq!(wide, ["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "fd00::/8", "::/0"]);
    }

    #[test]
    fn a_setting_that_is_no_network_is_named() {
        assert!(
            TrustedProxies::try_from(vec!["10.0.0.0/33".to_owned()]).unwrap_err().contains("10.0.0.0/33")
        );
    }
}
