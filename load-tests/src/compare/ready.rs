//! When a server is ready.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
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
    /// That no other server is already there.
    pub(super) async fn check_vacant(&self) -> anyhow::Result<()> {
        if let Self::Tcp(address) = self {
            ensure!(!accepts(*address).await, "something already listens at {address}");
        }
        Ok(())
    }

    /// Whether the server that was started then is ready.
    pub(super) async fn is_reached(&self, started: SystemTime) -> anyhow::Result<bool> {
        match self {
            Self::Tcp(address) => Ok(accepts(*address).await),
            Self::File(path) => match std::fs::metadata(path) {
                Ok(file) => Ok(file.len() > 0 && file.modified()? >= started),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error).with_context(|| format!("{}", path.display())),
            },
        }
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
