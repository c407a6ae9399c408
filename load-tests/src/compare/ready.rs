//! When a server is ready.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection to this machine may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// It accepts connections: `tcp:127.0.0.1:1935`.
    Tcp(SocketAddr),
    /// It has written a file: `file:/tmp/ready.json`.
    File(PathBuf),
}

impl FromStr for Ready {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("tcp", address)) => {
                let address =
                    address.parse().map_err(|_| format!("{address:?} is no IP address with a port"))?;
                Ok(Self::Tcp(address))
            }
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err("it must be tcp:IP:PORT or file:PATH".to_owned()),
        }
    }
}

impl Ready {
    /// What is there before a server is started. That another one already listens is an error.
    pub(super) async fn look_before(&self) -> anyhow::Result<Before> {
        match self {
            Self::Tcp(address) if accepts(*address).await => bail!("something already listens at {address}"),
            Self::Tcp(_) => Ok(Before(None)),
            Self::File(path) => written(path).map(Before),
        }
    }

    /// Whether the server is ready.
    pub(super) async fn is_reached(&self, before: &Before) -> anyhow::Result<bool> {
        match self {
            Self::Tcp(address) => Ok(accepts(*address).await),
            // Compared with the file itself, not with the clock: files keep time more coarsely.
            Self::File(path) => Ok(written(path)?.is_some_and(|time| before.0 != Some(time))),
        }
    }
}

/// When the file of the server before was written, if there was one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before(Option<SystemTime>);

/// When a file was written last; `None` while there is nothing in it.
fn written(path: &Path) -> anyhow::Result<Option<SystemTime>> {
    match std::fs::metadata(path) {
        Ok(file) if file.len() > 0 => Ok(Some(file.modified()?)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{}", path.display())),
    }
}

async fn accepts(address: SocketAddr) -> bool {
    matches!(timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_understood() {
        assert_eq!("tcp:127.0.0.1:80".parse(), Ok(Ready::Tcp("127.0.0.1:80".parse().unwrap())));
        assert_eq!("file:/a:b".parse(), Ok(Ready::File("/a:b".into())));
        for bad in ["", "tcp:", "tcp:host", "file:", "udp:127.0.0.1:80"] {
            assert!(bad.parse::<Ready>().is_err(), "{bad}");
        }
    }
}
