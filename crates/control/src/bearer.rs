//! Tokens and secrets in the `Authorization` field.

/// The credentials of a field that names the scheme `Bearer` (RFC 6750, section 2.1), however that is written.
pub fn bearer(field: &str) -> Option<&str> {
    let (scheme, credentials) = field.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credentials.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bearer_is_read_and_however_it_is_written() {
        for (field, expected) in [
            ("Bearer a.b.c", Some("a.b.c")),
            ("bEARER  a.b.c ", Some("a.b.c")),
            ("Basic czE6", None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(bearer(field), expected, "{field:?}");
        }
    }
}
