//! Whoever asks, and what that may do. Until there are accounts, there are three kinds: operators, people who know a
//! class's PIN, and everybody.
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{AUTHORIZATION, FORWARDED, HOST, ORIGIN, VIA};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName};
use control::Role;

use super::{App, Failure};
use crate::config::Mode;
use crate::secret;
use crate::store::Class;

/// The header that a class's PIN travels in.
pub(super) const PIN: HeaderName = HeaderName::from_static("x-class-pin");
/// What proxies add. A request that went through one comes from this machine only as far as TCP is concerned.
const PROXY_HEADERS: [HeaderName; 4] =
    [FORWARDED, VIA, HeaderName::from_static("x-forwarded-for"), HeaderName::from_static("x-forwarded-host")];

/// Whoever asks.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) ip: IpAddr,
    headers: HeaderMap,
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        // Without an address it is a stranger from nowhere, who shares the limits of all such.
        let ip = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |ConnectInfo(peer)| peer.ip().to_canonical());
        Ok(Self { ip, headers: parts.headers.clone() })
    }
}

impl Caller {
    /// Whether it knows the secret that nodes share and operators read from the data folder.
    pub(super) fn knows_secret(&self, app: &App) -> bool {
        let authorization = self.text(&AUTHORIZATION).and_then(|value| value.split_once(' '));
        let secret = authorization.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        secret.is_some_and(|(_, secret)| secret::is_equal(secret.trim(), &app.node_secret))
    }

    /// Refuses whoever is not an operator. In open mode whoever sits at the machine itself is one.
    pub(super) fn operates(&self, app: &App) -> Result<(), Failure> {
        if (app.mode == Mode::Open && self.is_at_this_machine()) || self.knows_secret(app) {
            return Ok(());
        }
        Err(Failure::forbidden(
            "this is done at the machine itself in open mode, or with the operator's secret",
        ))
    }

    /// Lets it into a class as what it says it is. In guarded mode that takes the class's PIN, which makes a student,
    /// or the operator's secret. A class that does not exist looks like a wrong PIN then, so that names cannot be tried.
    pub(super) fn enter(&self, app: &App, class: Option<Class>, role: Role) -> Result<Class, Failure> {
        if app.mode == Mode::Open || self.knows_secret(app) {
            return class.ok_or_else(|| Failure::not_found("there is no such class"));
        }
        let pin =
            self.text(&PIN).ok_or_else(|| Failure::unauthorized("send the class's PIN as X-Class-Pin"))?;
        if !app.guesses.take(self.ip, Instant::now()) {
            return Err(Failure::too_many_requests());
        }
        let hash = class.as_ref().and_then(|class| class.pin_hash.clone()).unwrap_or_default();
        let is_right = secret::is_equal(&secret::hash(pin), &hash);
        let class = class
            .filter(|_| is_right)
            .ok_or_else(|| Failure::unauthorized("the PIN or the class is wrong"))?;
        if role != Role::Student {
            return Err(Failure::forbidden("the PIN is for students"));
        }
        Ok(class)
    }

    /// The host by which it knows this server, without a port; IPv6 in brackets.
    pub(super) fn host(&self) -> Option<String> {
        let authority: Authority = self.text(&HOST)?.parse().ok()?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        let host = authority.host();
        (!host.is_empty() && host.bytes().all(is_plain)).then(|| host.to_owned())
    }

    /// Whether it is a program of the person at this machine, and not a page of another site in that person's browser:
    /// such a page reaches loopback too, but its `Origin` tells on it, or its host's name if that was made to point here.
    fn is_at_this_machine(&self) -> bool {
        let is_local_name = self.host().is_some_and(|host| {
            let ip: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        });
        let is_own_page = match (self.text(&ORIGIN), self.text(&HOST)) {
            (Some(origin), Some(host)) => origin.strip_prefix("http://") == Some(host),
            (Some(_), None) => false,
            (None, _) => !self.headers.contains_key(ORIGIN),
        };
        let is_proxied = PROXY_HEADERS.iter().any(|name| self.headers.contains_key(name));
        self.ip.is_loopback() && is_local_name && is_own_page && !is_proxied
    }

    fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(ip: &str, headers: &[(&'static str, &'static str)]) -> Caller {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        Caller { ip: ip.parse().unwrap(), headers: headers.collect() }
    }

    #[test]
    fn the_host_is_read_without_its_port() {
        for (header, host) in [
            ("school.example:8000", Some("school.example")),
            ("192.168.1.5", Some("192.168.1.5")),
            ("[fd00::1]:8000", Some("[fd00::1]")),
            ("user@school.example", Some("school.example")),
            ("[fd00::1", None),
            ("a b", None),
            ("a'b", None),
            ("", None),
        ] {
            assert_eq!(caller("::1", &[("host", header)]).host().as_deref(), host, "{header}");
        }
        assert_eq!(caller("::1", &[]).host(), None);
    }

    #[test]
    fn only_a_program_at_the_machine_itself_is_at_it() {
        let here = ("host", "127.0.0.1:8000");
        for headers in [
            &[here] as &[_],
            &[("host", "localhost:8000")],
            &[("host", "[::1]:8000")],
            &[here, ("origin", "http://127.0.0.1:8000")],
        ] {
            assert!(caller("127.0.0.1", headers).is_at_this_machine(), "{headers:?}");
        }
        for headers in [
            &[] as &[_],
            &[here, ("origin", "https://elsewhere.example")],
            &[here, ("origin", "null")],
            &[here, ("origin", "http://127.0.0.1:9999")],
            &[("host", "rebound.example:8000")],
            &[("host", "rebound.example:8000"), ("origin", "http://rebound.example:8000")],
            &[here, ("x-forwarded-for", "203.0.113.1")],
            &[here, ("via", "1.1 proxy")],
        ] {
            assert!(!caller("127.0.0.1", headers).is_at_this_machine(), "{headers:?}");
        }
        assert!(!caller("192.168.1.7", &[here]).is_at_this_machine());
    }
}
