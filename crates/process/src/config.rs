//! Settings: one file, then the environment. The command line comes last and is its owner's business.
use std::io;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Env, Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The file that is read when none is named, in the working directory and nowhere else.
const DEFAULT_FILE: &str = "lectern.toml";
/// `LECTERN__INGEST__LISTEN` sets `listen` of `[ingest]`.
const ENVIRONMENT: &str = "LECTERN__";
const SEPARATOR: &str = "__";
/// Characters of a misspelt key that are compared with the known ones: the longest of ours has 27.
const COMPARED_MAX: usize = 64;
/// Parts of the names of settings whose values nobody may read in a log.
const SECRET: [&str; 3] = ["secret", "credential", "database_url"];

/// Why settings cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file that was named cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A key that means nothing here.
    #[error("{place}: there is no `{key}`{}; known are {}", hint(.near), .known.join(", "))]
    UnknownKey {
        /// Where it was found.
        place: String,
        /// The key.
        key: String,
        /// The known key that looks most like it.
        near: Option<&'static str>,
        /// Every key that is known there.
        known: &'static [&'static str],
    },
    /// A secret of the wrong kind; what it is stays unsaid.
    #[error("{place}: `{key}` must be text, in quotation marks")]
    Secret {
        /// Where it was found.
        place: String,
        /// The key.
        key: String,
    },
    /// A value of the wrong kind, or a file that is not TOML.
    #[error("{0}")]
    Value(String),
}

fn hint(near: &Option<&'static str>) -> String {
    near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default()
}

/// Reads settings in the form of `T`, which has a field for each section and `deny_unknown_fields` everywhere.
/// A `file` that is named must be there; `lectern.toml` may be missing.
pub fn load<T: DeserializeOwned>(file: Option<&Path>) -> Result<T, ConfigError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let mut figment = Figment::new();
    match std::fs::File::open(path) {
        Ok(_) => figment = figment.merge(Toml::file_exact(path)),
        Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(ConfigError::Read { file: path.to_owned(), error }),
    }
    // Lossy: it is the setting that says whether a text is read as a number.
    let environment = Environment(Env::prefixed(ENVIRONMENT).split(SEPARATOR));
    figment.merge(environment).extract_lossy().map_err(explain)
}

/// The environment, whose words stay text: a secret or a name may be all digits, and begin with a zero. Lists and tables
/// are read as TOML has them.
struct Environment(Env);

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        self.0.metadata()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut data = self.0.data()?;
        for (key, text) in self.0.iter() {
            data.values_mut().for_each(|dict| keep_text(dict, key.as_str(), &text));
        }
        Ok(data)
    }
}

fn keep_text(dict: &mut Dict, key: &str, text: &str) {
    match key.split_once('.') {
        Some((section, rest)) => {
            if let Some(Value::Dict(_, inner)) = dict.get_mut(section) {
                keep_text(inner, rest, text);
            }
        }
        None => {
            if let Some(value) = dict.get_mut(key)
                && !matches!(value, Value::String(..) | Value::Array(..) | Value::Dict(..))
            {
                *value = Value::from(text);
            }
        }
    }
}

/// Turns a complaint about a key into one that helps.
fn explain(error: figment::Error) -> ConfigError {
    let source = match &error.metadata {
        Some(metadata) => match &metadata.source {
            Some(source) => source.to_string(),
            None => metadata.name.to_string(),
        },
        None => "the settings".to_owned(),
    };
    if error.path.last().is_some_and(|key| SECRET.iter().any(|part| key.contains(part)))
        && matches!(error.kind, Kind::InvalidType(..) | Kind::InvalidValue(..))
    {
        return ConfigError::Secret { place: source, key: error.path.join(".") };
    }
    let Kind::UnknownField(key, known) = &error.kind else {
        // The library's words name its own profile, and put quotation marks around ours.
        return ConfigError::Value(error.to_string().replace("\"default.", "\"").replace("``", "`"));
    };
    let sections: Vec<&str> =
        error.path.iter().map(String::as_str).filter(|section| section != key).collect();
    let place = if sections.is_empty() { source } else { format!("{source}, [{}]", sections.join(".")) };
    ConfigError::UnknownKey { place, key: key.clone(), near: nearest(key, known), known }
}

/// The known key that takes the fewest changes, if they are few for its length.
fn nearest(key: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let nearest = known.iter().map(|known| (distance(key, known), *known)).min()?;
    (nearest.0 <= 1.max(nearest.1.len() / 3)).then_some(nearest.1)
}

/// Levenshtein's: insertions, deletions and replacements between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(COMPARED_MAX).collect();
    // The distances of the part of `a` that is done to every beginning of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (done, left) in a.chars().take(COMPARED_MAX).enumerate() {
        let mut above_left = std::mem::replace(&mut row[0], done + 1);
        for (column, right) in b.iter().enumerate() {
            let replaced = above_left + usize::from(left != *right);
            above_left = row[column + 1];
            row[column + 1] = replaced.min(above_left + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use figment::Jail;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        ingest: Ingest,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Ingest {
        listen: SocketAddr,
        connections_max: usize,
        plain: bool,
        name: String,
        secret: String,
        proxies: Vec<String>,
    }

    impl Default for Ingest {
        fn default() -> Self {
            let (name, secret, proxies) = (String::new(), String::new(), Vec::new());
            Self {
                listen: ([127, 0, 0, 1], 1).into(),
                connections_max: 2,
                plain: true,
                name,
                secret,
                proxies,
            }
        }
    }

    /// Runs in a folder of its own, with an environment of its own.
    #[expect(clippy::result_large_err, reason = "the error is figment's")]
    fn inside(test: impl FnOnce(&mut Jail)) {
        Jail::expect_with(|jail| {
            test(jail);
            Ok(())
        });
    }

    fn refused(file: &str) -> String {
        load::<Settings>(Some(Path::new(file))).unwrap_err().to_string()
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        inside(|jail| {
            assert_eq!(load::<Settings>(None).unwrap().ingest.connections_max, 2);
            jail.create_file("lectern.toml", "[ingest]\nconnections_max = 3\nlisten = '[::1]:5'").unwrap();
            assert_eq!(load::<Settings>(None).unwrap().ingest.connections_max, 3);
            jail.set_env("LECTERN__INGEST__CONNECTIONS_MAX", "4");
            // One underscore: the names of logging, which are no settings.
            jail.set_env("LECTERN_LOG", "debug");
            let Ingest { listen, connections_max, .. } = load::<Settings>(None).unwrap().ingest;
            assert_eq!((listen.port(), connections_max), (5, 4));
        });
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_knows_the_right_one() {
        inside(|jail| {
            jail.create_file("mine.toml", "[ingest]\nconections_max = 3").unwrap();
            let text = refused("mine.toml");
            assert!(text.contains("mine.toml, [ingest]: there is no `conections_max`"), "{text}");
            assert!(text.contains("did you mean `connections_max`?"), "{text}");
            jail.create_file("mine.toml", "[injest]").unwrap();
            assert!(refused("mine.toml").contains("there is no `injest`, did you mean `ingest`?"));
            jail.create_file("mine.toml", "[ingest]\ncolour = 'red'").unwrap();
            let text = refused("mine.toml");
            assert!(
                text.ends_with(
                    "there is no `colour`; known are listen, connections_max, plain, name, secret, proxies"
                ),
                "{text}"
            );
        });
    }

    #[test]
    fn a_misspelt_variable_is_an_error_too() {
        inside(|jail| {
            jail.set_env("LECTERN__INGEST__LISTENS", "127.0.0.1:1");
            let text = load::<Settings>(None).unwrap_err().to_string();
            assert!(text.contains("environment") && text.contains("did you mean `listen`?"), "{text}");
        });
    }

    #[test]
    fn what_is_text_may_be_all_digits_in_the_environment() {
        inside(|jail| {
            for (name, value) in [
                ("NAME", "0101"),
                ("SECRET", "1234567890123456"),
                ("LISTEN", "[::1]:7"),
                ("CONNECTIONS_MAX", "9"),
                ("PLAIN", "false"),
                ("PROXIES", "[\"10.0.0.0/8\", \"::1\"]"),
            ] {
                jail.set_env(format!("LECTERN__INGEST__{name}"), value);
            }
            let ingest = load::<Settings>(None).unwrap().ingest;
            assert_eq!((&*ingest.name, &*ingest.secret), ("0101", "1234567890123456"));
            assert_eq!((ingest.listen.port(), ingest.connections_max, ingest.plain), (7, 9, false));
            assert_eq!(ingest.proxies, ["10.0.0.0/8", "::1"]);
            jail.set_env("LECTERN__INGEST__NAME", "true");
            assert_eq!(load::<Settings>(None).unwrap().ingest.name, "true");
            jail.set_env("LECTERN__INGEST__CONNECTIONS_MAX", "many");
            let text = load::<Settings>(None).unwrap_err().to_string();
            assert!(text.contains("many") && text.contains("CONNECTIONS_MAX"), "{text}");
        });
    }

    #[test]
    fn an_error_does_not_show_a_secret() {
        inside(|jail| {
            jail.create_file("mine.toml", "[ingest]\nsecret = 1234567890123456").unwrap();
            let text = refused("mine.toml");
            assert!(text.contains("mine.toml: `ingest.secret` must be text"), "{text}");
            assert!(!text.contains("1234"), "{text}");
        });
    }

    #[test]
    fn a_file_that_was_named_must_be_there_and_be_toml() {
        inside(|jail| {
            assert!(refused("gone.toml").starts_with("cannot read gone.toml: "));
            jail.create_file("mine.toml", "[ingest").unwrap();
            assert!(refused("mine.toml").contains("TOML"), "{}", refused("mine.toml"));
            jail.create_file("mine.toml", "[ingest]\nconnections_max = 'many'").unwrap();
            let text = refused("mine.toml");
            assert!(text.contains("\"ingest.connections_max\"") && text.contains("mine.toml"), "{text}");
        });
    }

    #[test]
    fn the_file_of_a_folder_above_is_not_ours() {
        inside(|jail| {
            jail.create_file("lectern.toml", "[ingest]\nconnections_max = 3").unwrap();
            let below = jail.create_dir("below").unwrap();
            jail.change_dir(below).unwrap();
            assert_eq!(load::<Settings>(None).unwrap().ingest.connections_max, 2);
        });
    }

    #[test]
    fn words_are_as_far_apart_as_it_takes_keystrokes() {
        for (a, b, keystrokes) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("listen", "listen", 0)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (keystrokes, keystrokes), "{a} {b}");
        }
    }
}
