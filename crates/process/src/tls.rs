//! TLS from PEM files, which may be replaced while it runs.
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::{IntCounter, IntGauge, Registry};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::serve::PlainHttp;

/// From the first byte to the end of a handshake: two round trips, and a phone's key agreement.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the files are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// RFC 8446, section 5.1: the first byte of a record that carries a handshake. No HTTP method begins with it.
const HANDSHAKE_RECORD: u8 = 22;
/// The class's PIN, as the coordinator takes it.
const PIN: &str = "x-class-pin";
/// RFC 7301: HTTP/2 would let one connection hold many requests, and none of our clients needs it.
const ALPN_HTTP: &[u8] = b"http/1.1";

/// Where the certificate is. Without it the ports speak plain HTTP and RTMP.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The certificate and those between it and its root, as PEM.
    pub cert: Option<PathBuf>,
    /// Its key, as PEM.
    pub key: Option<PathBuf>,
}

/// Where a certificate comes from that is not there.
fn hint(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::Io(error) if error.kind() == ErrorKind::NotFound => {
            "; `lectern tls init` makes one for this network"
        }
        _ => "",
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Half of it is missing in the settings.
    #[error("[tls] needs both cert and key")]
    Incomplete,
    /// A file cannot be read, or is not PEM.
    #[error("cannot use {}: {error}{}", file.display(), hint(error))]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        error: pem::Error,
    },
    /// There is no certificate in the file.
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// The certificate is not one, or the key is not its key.
    #[error("{} cannot be used with its key: {error}", cert.display())]
    Unusable {
        /// The certificate's file.
        cert: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// The certificate's dates cannot be read.
    #[error("{} is not an X.509 certificate", .0.display())]
    NotX509(PathBuf),
    /// Metrics of the same name exist.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// A certificate in force; clones share it.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Files,
    current: Arc<Current>,
    http: Arc<rustls::ServerConfig>,
    rtmp: Arc<rustls::ServerConfig>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// What tells one version of a file from the next: when it was written, which file it is, and how long.
type Version = [Option<(i64, i64, u64, u64)>; 2];

#[derive(Debug)]
struct Metrics {
    expiry: IntGauge,
    reload_failures: IntCounter,
    handshake_failures: IntCounter,
}

/// What the next handshake uses.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    /// Loads what the settings name; None if they name nothing.
    pub fn load(config: &Config, registry: &Registry) -> Result<Option<Self>, TlsError> {
        let (cert, key) = match (&config.cert, &config.key) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            _ => return Err(TlsError::Incomplete),
        };
        let metrics = Metrics::new(registry)?;
        let files = Files { cert, key };
        let (certified, expiry) = files.load()?;
        metrics.expiry.set(expiry);
        let current = Arc::new(Current(RwLock::new(Arc::new(certified))));
        let http = server_config(&current, &[ALPN_HTTP]).map_err(|error| files.unusable(error))?;
        let rtmp = server_config(&current, &[]).map_err(|error| files.unusable(error))?;
        Ok(Some(Self(Arc::new(Inner { files, current, http, rtmp, metrics }))))
    }

    /// Follows the files until drained. Connections that are open stay as they are; a new certificate that cannot be used
    /// is complained of once, and the old one stays in force.
    pub async fn follow(self, drain: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut seen = self.0.files.version();
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
                () = drain.cancelled() => return Ok(()),
            }
            // Two calls of stat, and rarely two small files: not worth another thread.
            let version = self.0.files.version();
            if version != seen {
                seen = version;
                self.reload();
            }
        }
    }

    fn reload(&self) {
        let Inner { files, current, metrics, .. } = &*self.0;
        match files.load() {
            Ok((certified, expiry)) => {
                *current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
                metrics.expiry.set(expiry);
                tracing::info!(file = %files.cert.display(), "certificate reloaded");
            }
            Err(error) => {
                metrics.reload_failures.inc();
                tracing::error!(%error, "the new certificate cannot be used; the old one stays in force");
            }
        }
    }

    /// Agrees on keys with a client that speaks HTTP.
    pub async fn accept_http<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        self.accept(&self.0.http, stream).await
    }

    /// Agrees on keys with a client that speaks RTMP.
    pub async fn accept_rtmp<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        self.accept(&self.0.rtmp, stream).await
    }

    async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        config: &Arc<rustls::ServerConfig>,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        let handshake = TlsAcceptor::from(Arc::clone(config)).accept(stream);
        let outcome = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await;
        let outcome = outcome.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        outcome.inspect_err(|_| self.0.metrics.handshake_failures.inc())
    }
}

fn server_config(
    current: &Arc<Current>,
    protocols: &[&[u8]],
) -> Result<Arc<rustls::ServerConfig>, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(current) as _);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

impl Files {
    /// The certificate with its key, and when it expires, in seconds since 1970.
    fn load(&self) -> Result<(CertifiedKey, i64), TlsError> {
        let read = |file: &Path, error| TlsError::File { file: file.to_owned(), error };
        let chain =
            CertificateDer::pem_file_iter(&self.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = chain.map_err(|error| read(&self.cert, error))?;
        let leaf = chain.first().ok_or_else(|| TlsError::NoCertificate(self.cert.clone()))?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| TlsError::NotX509(self.cert.clone()))?;
        let expiry = leaf.validity().not_after.timestamp();
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| read(&self.key, error))?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        Ok((certified.map_err(|error| self.unusable(error))?, expiry))
    }

    fn unusable(&self, error: rustls::Error) -> TlsError {
        TlsError::Unusable { cert: self.cert.clone(), error }
    }

    fn version(&self) -> Version {
        [&self.cert, &self.key].map(|file| {
            let data = fs::metadata(file).ok()?;
            Some((data.mtime(), data.mtime_nsec(), data.ino(), data.len()))
        })
    }
}

impl Metrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let expiry = IntGauge::new(
            "lectern_tls_certificate_expiry_timestamp_seconds",
            "When the certificate in force expires, in seconds since 1970",
        )?;
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(format!("lectern_tls_{name}"), help)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        registry.register(Box::new(expiry.clone()))?;
        Ok(Self {
            expiry,
            reload_failures: counter("reload_failures_total", "Replaced certificates that cannot be used")?,
            handshake_failures: counter(
                "handshake_failures_total",
                "TLS handshakes that failed or timed out",
            )?,
        })
    }
}

/// Whether a client begins with TLS. Waits for its first byte, which stays where it is.
pub(crate) async fn is_client_hello(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(first == [HANDSHAKE_RECORD]),
    }
}

/// What a port that speaks TLS answers to plain HTTP.
pub(crate) fn plain_http(plain: PlainHttp) -> Router {
    match plain {
        PlainHttp::Redirect => Router::new().fallback(redirect),
        PlainHttp::Refuse => Router::new().fallback(async || refuse()),
    }
}

fn refuse() -> Response {
    (StatusCode::BAD_REQUEST, "this port speaks https, and this was plain http\n").into_response()
}

/// The same address under https, for who only looks. Whoever sends something is told: what came was readable on the way,
/// and a client that follows a redirect would send it so each time and notice nothing.
async fn redirect(request: Request) -> Response {
    let shows_secret = [AUTHORIZATION.as_str(), PIN].iter().any(|name| request.headers().contains_key(*name));
    if shows_secret || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refuse();
    }
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let Some(host) = host.and_then(|host| host.parse::<Authority>().ok()) else { return refuse() };
    let (host, port) = (host.host(), host.port().map(|port| format!(":{port}")).unwrap_or_default());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let location = format!("https://{host}{port}{path}");
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response()
}
