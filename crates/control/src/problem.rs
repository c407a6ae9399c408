//! Errors as every service of ours answers them: RFC 9457.
use serde::{Deserialize, Serialize};

/// The media type of the body.
const CONTENT_TYPE: &str = "application/problem+json";

/// The body of an error.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What kind of error it is, for programs: the same each time, and never another word for the same thing.
    #[serde(default)]
    pub code: String,
    /// What kind of error it is, for people.
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

    /// An error, with the code of its status.
    pub fn new(status: u16, title: &str, detail: impl Into<String>) -> Self {
        let code = code_of(status).to_owned();
        Self { status, code, title: title.to_owned(), detail: detail.into(), retry_after: None }
    }

    /// The same, with a code that says more than the status.
    #[must_use]
    pub fn code(self, code: &str) -> Self {
        Self { code: code.to_owned(), ..self }
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

/// The code of an error of which nothing more is known than its status.
fn code_of(status: u16) -> &'static str {
    match status {
        400 => "bad_request",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        408 => "timeout",
        409 => "conflict",
        412 => "precondition_failed",
        413 => "too_large",
        415 => "unsupported_media_type",
        422 => "unprocessable",
        425 => "not_live",
        428 => "precondition_required",
        429 => "rate_limited",
        503 => "unavailable",
        500.. => "internal",
        _ => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_code_of_its_status_or_a_better_one() {
        assert_eq!(Problem::new(429, "Too many requests", "").code, "rate_limited");
        let problem = Problem::new(401, "Not identified", "").code("pin_wrong");
        assert_eq!(problem.to_json(), r#"{"status":401,"code":"pin_wrong","title":"Not identified"}"#);
        assert!(serde_json::from_str::<Problem>(r#"{"status":403,"title":"Not allowed"}"#).is_ok());
    }
}
