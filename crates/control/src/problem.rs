//! Errors as every service of ours answers them: RFC 9457.
use serde::{Deserialize, Serialize};

/// The media type of the body.
const CONTENT_TYPE: &str = "application/problem+json";

/// The body of an error.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What kind of error it is, the same each time.
    pub title: String,
    /// What happened this time, in words for whoever can do something about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Seconds after which a new try makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

impl Problem {
    /// The media type of the body.
    pub const CONTENT_TYPE: &'static str = CONTENT_TYPE;

    /// An error.
    pub fn new(status: u16, title: &str, detail: impl Into<String>) -> Self {
        Self { status, title: title.to_owned(), detail: detail.into(), retry_after: None }
    }

    /// The same, with a time after which a new try makes sense.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The body.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}
