//! How the coordinator is set up.
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use control::LEEWAY_SECONDS;
use process::address::TrustedProxies;
use serde::Deserialize;
use thiserror::Error;

use crate::store::{Class, Store};

/// Seconds for which a token may be good: long enough to connect with, and no longer than a day of school.
const TOKEN_TTL_MIN: u64 = 60;
const TOKEN_TTL_MAX: u64 = 86_400;
/// Seconds after which no token that is good at a moment is so any longer, whichever coordinator gave it and whatever was set there:
/// the longest life, the leeway of nodes, and as much for clocks of coordinators that differ.
pub(crate) const TOKENS_GONE_SECONDS: u64 = TOKEN_TTL_MAX + 2 * LEEWAY_SECONDS;
/// Days after which a signing key may be followed by another one: ten years.
const SIGNING_KEY_DAYS_MAX: u32 = 3650;
/// Characters of the secrets of nodes and operators.
const SECRET_LEN_MIN: usize = 16;

/// Where in the data folder the authority of the nodes' certificates is.
pub const LINK_FOLDER: &str = "link";

/// Who is given tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everybody who reaches the server from a private address, and whoever knows the class's PIN. Refused on public
    /// addresses.
    Open,
    /// Whoever knows the class's PIN.
    #[default]
    Guarded,
}

/// From where the coordinator knows what nodes carry. That they are there it knows from their heartbeats in any case.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LoadSource {
    /// From their heartbeats.
    #[default]
    Heartbeat,
    /// From their metrics, which it fetches.
    Scrape,
    /// From a Prometheus server, which scrapes them.
    Prometheus,
}

/// How the coordinator is set up.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where browsers and nodes connect.
    pub listen: SocketAddr,
    /// Where the database and the keys are.
    pub data_dir: PathBuf,
    /// Another database than the SQLite file in `data_dir`, as a URL: PostgreSQL, which several coordinators share, or SQLite.
    pub database_url: Option<String>,
    /// The file with the key that seals what coordinators share in their database. Without one, `seal-key` in `data_dir`.
    pub seal_key_file: Option<PathBuf>,
    /// Who is given tokens.
    pub mode: Mode,
    /// Lets `open` mean everybody: also on a public address, and for requests from public addresses.
    pub allow_public_open: bool,
    /// Seconds for which tokens are good.
    pub token_ttl_seconds: u64,
    /// Days after which another key signs tokens. 0: only when an operator says so.
    pub signing_key_days: u32,
    /// Tokens for one address at once: a school is one address.
    pub tokens_at_once: u32,
    /// Tokens for one address a second after that.
    pub tokens_per_second: u32,
    /// What nodes prove themselves with. When empty, the one in `data_dir` is used, which is made at random.
    pub node_secret: String,
    /// What operators prove themselves with. When empty, the one in `data_dir` is used, which is made at random.
    pub operator_secret: String,
    /// The proxies whose `X-Forwarded-For`, `Forwarded` and `X-Forwarded-Proto` count.
    pub trusted_proxies: TrustedProxies,
    /// The class that exists from the beginning.
    pub default_class: String,
    /// From where it knows what nodes carry.
    pub load_source: LoadSource,
    /// Where the Prometheus server is, for that source.
    pub prometheus_url: String,
}

impl fmt::Debug for Config {
    /// Without secrets: an address of a database may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, data_dir, mode, default_class, .. } = self;
        let mut shown = f.debug_struct("Config");
        shown.field("listen", listen).field("data_dir", data_dir).field("mode", mode);
        shown.field("default_class", default_class).finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv6Addr::UNSPECIFIED, 8000).into(),
            data_dir: PathBuf::from("data"),
            database_url: None,
            seal_key_file: None,
            mode: Mode::default(),
            allow_public_open: false,
            token_ttl_seconds: 3600,
            signing_key_days: 30,
            tokens_at_once: 600,
            tokens_per_second: 60,
            node_secret: String::new(),
            operator_secret: String::new(),
            trusted_proxies: TrustedProxies::default(),
            default_class: "lesson".to_owned(),
            load_source: LoadSource::default(),
            prometheus_url: String::new(),
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// Tokens would expire at once, or never.
    #[error("token_ttl_seconds is {0}, but must be from {TOKEN_TTL_MIN} to {TOKEN_TTL_MAX}")]
    TokenTtl(u64),
    /// It would never come.
    #[error("signing_key_days is {0}, but must be at most {SIGNING_KEY_DAYS_MAX}; 0 stands for never")]
    SigningKeyDays(u32),
    /// A secret could be guessed.
    #[error("{0} must have at least {SECRET_LEN_MIN} characters")]
    Secret(&'static str),
    /// Whoever runs a node could do what operators do, and the other way round.
    #[error("operator_secret and node_secret must differ")]
    SameSecret,
    /// The class could not be written in an address.
    #[error(
        "default_class is {0:?}, but must be 1 to 64 lower-case letters, digits or hyphens, not \"stream\""
    )]
    DefaultClass(String),
    /// There is no other database. Its address may hold a password, so it is not repeated.
    #[error(
        "database_url must name an SQLite file, such as sqlite:/srv/lectern.db?mode=rwc, or a PostgreSQL database, \
         such as postgres://user:password@host/lectern"
    )]
    DatabaseUrl,
    /// Nobody could be asked. An address may hold a password, so it is not repeated.
    #[error(
        "load_source is \"prometheus\", so prometheus_url must say where that is, such as http://127.0.0.1:9091"
    )]
    PrometheusUrl,
}

impl Config {
    /// Checks the settings; nothing is touched yet.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(TOKEN_TTL_MIN..=TOKEN_TTL_MAX).contains(&self.token_ttl_seconds) {
            return Err(ConfigError::TokenTtl(self.token_ttl_seconds));
        }
        if self.signing_key_days > SIGNING_KEY_DAYS_MAX {
            return Err(ConfigError::SigningKeyDays(self.signing_key_days));
        }
        for (name, secret) in [("node_secret", &self.node_secret), ("operator_secret", &self.operator_secret)]
        {
            if !secret.is_empty() && secret.len() < SECRET_LEN_MIN {
                return Err(ConfigError::Secret(name));
            }
        }
        if !self.node_secret.is_empty() && self.node_secret == self.operator_secret {
            return Err(ConfigError::SameSecret);
        }
        if self.database_url.as_ref().is_some_and(|url| !Store::is_url(url)) {
            return Err(ConfigError::DatabaseUrl);
        }
        if !Class::is_slug(&self.default_class) {
            return Err(ConfigError::DefaultClass(self.default_class.clone()));
        }
        let is_web = ["http://", "https://"].iter().any(|scheme| self.prometheus_url.starts_with(scheme));
        if self.load_source == LoadSource::Prometheus && !is_web {
            return Err(ConfigError::PrometheusUrl);
        }
        Ok(())
    }

    pub(crate) fn token_ttl(&self) -> Duration {
        Duration::from_secs(self.token_ttl_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let (node_secret, database_url) = ("node secret".to_owned(), Some("//user:secret@host".to_owned()));
        let shown = format!("{:?}", Config { node_secret, database_url, ..Config::default() });
        assert!(shown.contains("8000") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        for ttl in [0, 59, 86_401, u64::MAX] {
            let config = Config { token_ttl_seconds: ttl, ..Config::default() };
            assert_eq!(config.validate(), Err(ConfigError::TokenTtl(ttl)));
        }
        for (days, validated) in [(0, Ok(())), (3650, Ok(())), (3651, Err(ConfigError::SigningKeyDays(3651)))]
        {
            let config = Config { signing_key_days: days, ..Config::default() };
            assert_eq!(config.validate(), validated);
        }
        let config = Config { node_secret: "short".to_owned(), ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::Secret("node_secret")));
        let config = Config { operator_secret: "short".to_owned(), ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::Secret("operator_secret")));
        let both = "the same secret twice".to_owned();
        let config = Config { node_secret: both.clone(), operator_secret: both, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::SameSecret));
        for (url, is_known) in [
            ("sqlite:/srv/lectern.db", true),
            ("postgres://user:secret@host/db", true),
            ("postgresql:///db?host=/run/postgresql", true),
            ("postgres:db", false),
            ("mysql://user:secret@host/db", false),
            ("/srv/lectern.db", false),
        ] {
            let validated = Config { database_url: Some(url.to_owned()), ..Config::default() }.validate();
            assert_eq!(validated, if is_known { Ok(()) } else { Err(ConfigError::DatabaseUrl) });
        }
        for slug in ["", "stream", "Lesson", "a/b", "a b", "ä", &"a".repeat(65)] {
            let config = Config { default_class: slug.to_owned(), ..Config::default() };
            assert_eq!(config.validate(), Err(ConfigError::DefaultClass(slug.to_owned())));
        }
        for (url, is_one) in [("", false), ("localhost:9090", false), ("http://localhost:9090", true)] {
            let (load_source, prometheus_url) = (LoadSource::Prometheus, url.to_owned());
            let validated = Config { load_source, prometheus_url, ..Config::default() }.validate();
            assert_eq!(validated, if is_one { Ok(()) } else { Err(ConfigError::PrometheusUrl) }, "{url}");
        }
    }
}
