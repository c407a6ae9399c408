//! One connection that stays open (HTTP/1.1), with the least that a client must do: what it costs itself is not what is measured.
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// Bytes of the head of an answer, and of its body.
const HEAD_BYTES_MAX: usize = 16 << 10;
const BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 16 << 10;
/// How long a server may take: a debug build on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An open connection.
#[derive(Debug)]
pub(super) struct Conversation {
    stream: TcpStream,
    /// Of the answer that is being read.
    held: Vec<u8>,
}

/// What a server has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
}

/// Of what comes after the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Where the body begins, and where it ends.
    start: usize,
    end: usize,
}

impl Conversation {
    /// One that never sleeps looks for answers until they are there.
    pub(super) fn open(address: SocketAddr, never_sleeps: bool) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("{address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nonblocking(never_sleeps)?;
        Ok(Self { stream, held: Vec::new() })
    }

    fn read(&mut self, chunk: &mut [u8]) -> std::io::Result<usize> {
        let began = Instant::now();
        loop {
            match self.stream.read(chunk) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && began.elapsed() < TIMEOUT => {
                    std::hint::spin_loop();
                }
                read => return read,
            }
        }
    }

    /// Sends a request, head and body. One is under way at a time.
    pub(super) fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).context("a request cannot be sent")
    }

    /// Waits for its answer.
    pub(super) fn answer(&mut self) -> anyhow::Result<Answer<'_>> {
        self.held.clear();
        let mut chunk = [0; CHUNK_BYTES];
        let mut known: Option<Head> = None;
        loop {
            let count = self.read(&mut chunk).context("no answer comes")?;
            ensure!(count > 0, "the server has closed the connection");
            self.held.extend_from_slice(chunk.get(..count).unwrap_or_default());
            if known.is_none() {
                known = parse(&self.held)?;
            }
            let Some(Head { status, start, end }) = known else {
                ensure!(self.held.len() <= HEAD_BYTES_MAX, "the head of an answer is too long");
                continue;
            };
            if self.held.len() >= end {
                let body = self.held.get(start..end).unwrap_or_default();
                return Ok(Answer { status, body });
            }
        }
    }
}

/// The head of an answer, once all of it is there (RFC 9112, section 4).
fn parse(held: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(end_of_head) = held.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head =
        std::str::from_utf8(held.get(..end_of_head).unwrap_or_default()).context("the head of an answer")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.context("an answer without a status")?;
    let is_length =
        |line: &&str| line.split(':').next().is_some_and(|name| name.eq_ignore_ascii_case("content-length"));
    let Some(length) = lines.find(is_length).and_then(|line| line.split(':').nth(1)) else {
        bail!("an answer without a length")
    };
    let length: usize = length.trim().parse().context("the length of an answer")?;
    ensure!(length <= BODY_BYTES_MAX, "an answer of {length} bytes");
    let start = end_of_head + 4;
    Ok(Some(Head { status, start, end: start + length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_all_of_it_is_there_and_refused_without_a_length() {
        let whole = b"HTTP/1.1 200 OK\r\nX: content-length\r\nContent-Length: 5\r\n\r\nhello";
        let head = Head { status: 200, start: whole.len() - 5, end: whole.len() };
        assert_eq!(parse(whole).unwrap(), Some(head));
        assert_eq!(parse(&whole[..head.start - 1]).unwrap(), None);
        for bad in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
