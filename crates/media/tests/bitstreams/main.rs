//! The parsers through the public door: what real encoders write, and what is left of it after damage.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod damage;
mod lesson;
mod lessons;
