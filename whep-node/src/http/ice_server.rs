//! STUN and TURN servers, and the Link fields that tell players of them (RFC 9725, section 4.6).
use std::fmt;

use axum::http::HeaderValue;
use serde::Deserialize;

/// A STUN or TURN server that players are told of.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceServer {
    /// `turn:host:3478?transport=udp`.
    pub url: String,
    /// For TURN.
    pub username: Option<String>,
    /// For TURN.
    pub credential: Option<String>,
}

impl IceServer {
    fn link(&self) -> Option<HeaderValue> {
        let mut value = format!("<{}>; rel=\"ice-server\"", self.url);
        if let (Some(username), Some(credential)) = (&self.username, &self.credential) {
            value += &format!(
                "; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\""
            );
        }
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(self.credential.is_some());
        Some(value)
    }

    /// Whether everybody may know it. A relay costs its owner something, with a password or without.
    fn is_public(&self) -> bool {
        let is_stun = self.url.starts_with("stun:") || self.url.starts_with("stuns:");
        is_stun && self.username.is_none() && self.credential.is_none()
    }
}

/// Never with the credential.
impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The Link fields of all ICE servers.
#[derive(Debug)]
pub(crate) struct Links {
    /// For requests with a good token.
    pub(super) all: Vec<HeaderValue>,
    /// For everybody: STUN servers that take no credentials.
    pub(super) public: Vec<HeaderValue>,
}

impl Links {
    pub(crate) fn new(servers: &[IceServer]) -> Self {
        Self {
            all: servers.iter().filter_map(IceServer::link).collect(),
            public: servers.iter().filter(|server| server.is_public()).filter_map(IceServer::link).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_learn_of_stun_servers_and_of_no_credential() {
        let server = |url: &str, credential: Option<&str>| IceServer {
            url: url.to_owned(),
            username: credential.map(|_| "user".to_owned()),
            credential: credential.map(str::to_owned),
        };
        let servers = [
            server("stun:stun.example", None),
            server("turn:turn.example", Some("secret")),
            server("turn:open.example", None),
            server("stun:private.example", Some("secret")),
        ];
        let links = Links::new(&servers);
        assert_eq!(links.all.len(), 4);
        assert_eq!(links.public, ["<stun:stun.example>; rel=\"ice-server\""]);
        assert!(!format!("{servers:?} {links:?}").contains("secret"), "{servers:?} {links:?}");
    }
}
