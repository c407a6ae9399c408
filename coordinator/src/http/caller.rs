//! The caller and its permissions. Until there are accounts, there are three kinds: operators, people who know a class's
//! PIN, and everybody. Nobody has rights because of where a request comes from, but one: in open mode private addresses
//! are not asked for the PIN.
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use control::Role;
use control::api::AdmitRequest;
use process::address::{Client, Scheme, is_private, network};

use super::Failure;
use crate::app::App;
use crate::config::Mode;
use crate::credential::{self, NodeIdentity};
use crate::guesses::{Target, Verdict};
use crate::operator::OperatorSocket;
use crate::secret;
use crate::store::Class;

/// The header that a class's PIN travels in.
pub(super) const PIN: HeaderName = HeaderName::from_static("x-class-pin");

/// Ends of names that nobody can register: RFC 6762, RFC 6761 section 6.3, RFC 8375, and ICANN's resolution 2024.07.29.06.
const LOCAL_SUFFIXES: [&str; 4] = [".local", ".localhost", ".home.arpa", ".internal"];

/// Whoever sent a request.
#[derive(Debug)]
pub(super) struct Caller {
    client: Client,
    scheme: &'static str,
    own_scheme: &'static str,
    is_at_socket: bool,
    headers: HeaderMap,
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        // Without an address it is a stranger from nowhere, who shares the limits of all such.
        let peer = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |ConnectInfo(peer)| peer.ip());
        let client = app.trusted_proxies.client(peer, &parts.headers);
        let own = parts.extensions.get::<Scheme>().map_or("http", |Scheme(scheme)| scheme);
        Ok(Self {
            client,
            scheme: client.scheme.unwrap_or(own),
            own_scheme: own,
            is_at_socket: parts.extensions.get::<OperatorSocket>().is_some(),
            headers: parts.headers.clone(),
        })
    }
}

/// That whoever sent a request is an operator; everybody else is refused. It stands before the body among a handler's
/// arguments, so that nothing of a stranger's is read.
#[derive(Debug)]
pub(super) struct ByOperator;

impl FromRequestParts<Arc<App>> for ByOperator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let caller = match Caller::from_request_parts(parts, app).await {
            Ok(caller) => caller,
            Err(never) => match never {},
        };
        if caller.is_operator(app) { Ok(Self) } else { Err(Failure::not_operator()) }
    }
}

impl Caller {
    /// Somebody whom a node asks about.
    pub(super) fn of(request: &AdmitRequest) -> Self {
        let host = request.host.as_ref().and_then(|host| HeaderValue::from_str(host).ok());
        let origin = request.origin.as_ref().map(|origin| {
            // What cannot be a header is a page of nobody knows where.
            HeaderValue::from_str(origin).unwrap_or(HeaderValue::from_static("null"))
        });
        let headers = [host.map(|host| (HOST, host)), origin.map(|origin| (ORIGIN, origin))];
        let scheme = if request.scheme == "https" { "https" } else { "http" };
        Self {
            client: Client { ip: request.client_ip, is_direct: request.is_direct, scheme: None },
            scheme,
            own_scheme: scheme,
            is_at_socket: false,
            headers: headers.into_iter().flatten().collect(),
        }
    }

    /// The scheme by which it knows this server.
    pub(super) fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The scheme by which it, or its proxy, reached this server: nodes of the same machine speak it too.
    pub(super) fn own_scheme(&self) -> &'static str {
        self.own_scheme
    }

    /// Where it comes from.
    pub(super) fn address(&self) -> IpAddr {
        self.client.ip
    }

    /// Whether it knows the secret that nodes join with.
    pub(super) fn may_join(&self, app: &App) -> bool {
        self.bearer().is_some_and(|secret| secret::is_equal(secret, &app.node_secret))
    }

    /// Which node it is, if it is one.
    pub(super) fn node(&self, app: &App) -> Option<NodeIdentity> {
        credential::verify(&app.node_secret, self.bearer()?)
    }

    /// Whether it knows the operator's secret, or may open the socket in the data folder.
    pub(super) fn is_operator(&self, app: &App) -> bool {
        self.is_at_socket
            || self.bearer().is_some_and(|secret| secret::is_equal(secret, &app.operator_secret))
    }

    /// Whether it knows the secret for looking at every class, or that of operators.
    pub(super) fn is_monitor(&self, app: &App) -> bool {
        let is_monitor = |secret| secret::is_equal(secret, &app.monitor_secret);
        self.is_operator(app) || self.bearer().is_some_and(is_monitor)
    }

    /// Whether it may look at every class: in open mode also whoever is let in.
    pub(super) fn may_monitor(&self, app: &App) -> bool {
        self.is_monitor(app) || self.is_let_in(app)
    }

    /// Whether nothing is asked of it: operators, and in open mode whoever comes from a private address. The mode is
    /// decided anew for each request, because behind a 1:1 NAT a server cannot know that it is public.
    pub(super) fn is_let_in(&self, app: &App) -> bool {
        self.is_operator(app) || self.is_let_in_by_address(app)
    }

    /// The same for who brings nothing with him.
    pub(super) fn is_let_in_by_address(&self, app: &App) -> bool {
        let is_near = || {
            let is_private = self.client.is_direct && is_private(self.client.ip);
            is_private && !self.is_foreign_page() && self.is_under_own_name(app)
        };
        app.mode == Mode::Open && (app.allow_public_open || is_near())
    }

    /// Lets it look at a class: with a token for it, which is no guess at a PIN and takes nothing from those who join, or as
    /// who may have one.
    pub(super) fn look(&self, app: &App, name: &str) -> Result<Class, Failure> {
        if let Some(class) = self.teaches(app, name) {
            return class;
        }
        let Some(token) = self.bearer().filter(|_| !self.is_operator(app)) else {
            return self.enter(app, name, Role::Student);
        };
        if !app.looks.take(self.client.ip, Instant::now()) {
            return Err(Failure::too_many_requests());
        }
        let claims = app.verify(token).ok();
        match app.classes.class(name) {
            Some(class) if claims.is_some_and(|claims| claims.cls == class.slug) => Ok(class),
            class if self.may_monitor(app) => class.ok_or_else(Failure::no_class),
            // Nothing is taken from those who join.
            _ if self.text(&PIN).is_none() => Err(Failure::pin_needed()),
            _ => self.enter(app, name, Role::Student),
        }
    }

    /// Lets it into a class as what it says it is. Whoever is not let in without it needs the class's PIN, which makes a
    /// student. A class that does not exist looks like a wrong PIN then, so that names cannot be tried.
    ///
    /// Every call counts for the limit of tokens, whatever it is for: a network that has been right is never refused for its
    /// wrong PINs alone, so another route would be one to try PINs at without an end.
    pub(super) fn enter(&self, app: &App, name: &str, role: Role) -> Result<Class, Failure> {
        if !app.tokens.take(self.client.ip, Instant::now()) {
            return Err(Failure::too_many_requests());
        }
        if let Some(class) = self.teaches(app, name) {
            return class;
        }
        let class = app.classes.class(name);
        if self.is_let_in(app) || role == Role::Monitor && self.may_monitor(app) {
            return class.ok_or_else(Failure::no_class);
        }
        let pin = self.text(&PIN).ok_or_else(Failure::pin_needed)?;
        let is_right = app.classes.pins.is_right(class.as_ref(), pin);
        let target = class.as_ref().map_or(Target::Unknown(name), |class| Target::Class(&class.id));
        let verdict = app.classes.guesses().judge(target, network(self.client.ip), is_right, Instant::now());
        match (verdict, class) {
            (Verdict::Right, Some(class)) if role == Role::Student => Ok(class),
            (Verdict::Right, Some(_)) => Err(Failure::forbidden("the PIN is for students").code("pin_role")),
            (Verdict::Wait(wait), _) => {
                app.metrics.pins.with_label_values(&["waiting"]).inc();
                Err(Failure::too_many_pins(wait))
            }
            (Verdict::Wrong, _) | (Verdict::Right, None) => {
                app.metrics.pins.with_label_values(&["wrong"]).inc();
                Err(Failure::pin_wrong())
            }
        }
    }

    /// The host by which it knows this server, without a port; IPv6 in brackets.
    pub(super) fn host(&self) -> Option<String> {
        host_of(self.text(&HOST)?)
    }

    /// Whether a page of another site sent it. Such a page runs in the browser of somebody near, but is not near.
    fn is_foreign_page(&self) -> bool {
        let Some(origin) = self.headers.get(ORIGIN) else { return false };
        let origin = origin.to_str().ok().and_then(url_host);
        origin.is_none() || origin != self.host()
    }

    /// Whether it names this server by a name that no stranger can have. A page of a stranger's name whose address was
    /// changed to this server's sends that name as its host and as its origin (DNS rebinding); over TLS no certificate of
    /// ours would have it.
    fn is_under_own_name(&self, app: &App) -> bool {
        let Some(host) = self.host() else { return false };
        let is_public_url = |url: &str| url_host(url).is_some_and(|own| own.eq_ignore_ascii_case(&host));
        self.scheme == "https" || is_local_name(&host) || app.registry().public_urls().any(is_public_url)
    }

    /// The token or secret that it sends.
    pub(super) fn bearer(&self) -> Option<&str> {
        control::bearer(self.text(&AUTHORIZATION)?)
    }

    pub(super) fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

fn url_host(url: &str) -> Option<String> {
    host_of(url.split_once("://")?.1.split('/').next()?)
}

/// An address, or a name that is not to be had on the internet.
fn is_local_name(host: &str) -> bool {
    let v6 = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = v6.map_or(host.parse::<Ipv4Addr>().is_ok(), |v6| v6.parse::<Ipv6Addr>().is_ok());
    let host = host.to_ascii_lowercase();
    is_address || !host.contains('.') || LOCAL_SUFFIXES.iter().any(|suffix| host.ends_with(suffix))
}

/// The host of an authority, without its port.
pub(super) fn host_of(authority: &str) -> Option<String> {
    let authority: Authority = authority.parse().ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let host = authority.host();
    (!host.is_empty() && host.bytes().all(is_plain)).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(headers: &[(&'static str, &'static str)]) -> Caller {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let client = Client { ip: Ipv4Addr::LOCALHOST.into(), is_direct: true, scheme: None };
        Caller { client, scheme: "http", own_scheme: "http", is_at_socket: false, headers: headers.collect() }
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
            assert_eq!(caller(&[("host", header)]).host().as_deref(), host, "{header}");
        }
        assert_eq!(caller(&[]).host(), None);
    }

    #[test]
    fn a_name_that_a_stranger_could_have_is_not_a_local_one() {
        for local in [
            "192.168.1.5",
            "8.8.8.8",
            "[fd00::1]",
            "localhost",
            "lectern",
            "Lectern.LOCAL",
            "pi.home.arpa",
            "lectern.school.internal",
        ] {
            assert!(is_local_name(local), "{local}");
        }
        for public in
            ["evil.example", "192.168.1.5.evil.example", "local.example", "1.2.3", "evil.example.", "[::1]."]
        {
            assert!(!is_local_name(public), "{public}");
        }
    }

    #[test]
    fn a_page_of_another_host_is_foreign_and_one_of_another_port_is_not() {
        let host = ("host", "192.168.1.5:8000");
        for origin in ["http://192.168.1.5:8000", "https://192.168.1.5", "http://192.168.1.5:5173"] {
            assert!(!caller(&[host, ("origin", origin)]).is_foreign_page(), "{origin}");
        }
        assert!(!caller(&[host]).is_foreign_page(), "no page at all");
        for origin in ["https://elsewhere.example", "null", "http://192.168.1.50:8000", "http://"] {
            assert!(caller(&[host, ("origin", origin)]).is_foreign_page(), "{origin}");
        }
        assert!(caller(&[("origin", "http://192.168.1.5")]).is_foreign_page(), "no host to compare with");
    }
}
