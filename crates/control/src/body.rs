//! Bodies of answers, read up to a bound: also a server that is trusted may be somebody else's by mistake.
use reqwest::Response;
use thiserror::Error;

/// Why a body was not read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The connection broke.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// It is longer than any that is expected.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// The whole body, of `bytes_max` bytes at most.
///
/// # Errors
/// If it is longer, or the connection breaks.
pub async fn read(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len().saturating_add(chunk.len()) > bytes_max {
            return Err(ReadError::TooLong(bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
