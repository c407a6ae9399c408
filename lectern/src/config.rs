//! One file, the environment, and the command line, in rising order of precedence.
use std::path::Path;

use anyhow::Context;
use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::Deserialize;

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "lectern.toml";
/// `LECTERN__INGEST__LISTEN` sets `listen` of `[ingest]`.
const ENVIRONMENT: &str = "LECTERN__";

/// Every setting, by role.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) node: Node,
    pub(crate) ingest: ingest::Config,
    pub(crate) whep: whep_node::Config,
    pub(crate) coordinator: coordinator::Config,
}

/// What concerns the process as a whole.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    /// Its name among the nodes.
    pub(crate) name: String,
    /// Where browsers reach its WHEP server, if not under the host of the web page.
    pub(crate) public_url: Option<String>,
    /// Where operators read metrics.
    pub(crate) admin_listen: std::net::SocketAddr,
}

impl Default for Node {
    fn default() -> Self {
        Self { name: "main".to_owned(), public_url: None, admin_listen: ([127, 0, 0, 1], 9090).into() }
    }
}

/// Reads the settings.
pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Config> {
    let toml = match file {
        Some(file) => Toml::file_exact(file),
        None => Toml::file(DEFAULT_FILE),
    };
    let figment = Figment::new().merge(toml).merge(Env::prefixed(ENVIRONMENT).split("__"));
    figment.extract().context("the configuration cannot be used")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_settings_are_errors_that_name_the_known_ones() {
        let file = std::env::temp_dir().join(format!("lectern-config-{}.toml", std::process::id()));
        std::fs::write(&file, "[ingest]\nlisten = \"127.0.0.1:0\"\nconections_max = 3\n").unwrap();
        let error = format!("{:#}", load(Some(&file)).unwrap_err());
        std::fs::remove_file(&file).unwrap();
        assert!(error.contains("conections_max") && error.contains("connections_max"), "{error}");
    }

    #[test]
    fn no_file_means_the_defaults() {
        assert_eq!(load(None).unwrap().ingest.listen.port(), 1935);
    }
}
