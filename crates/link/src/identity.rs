//! Who a node is to others: a certificate from the cluster's authority, which names it.
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// RFC 7301: what is spoken.
const ALPN: &[u8] = b"lectern-link/1";

/// Why a node has no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file cannot be read, or is not PEM.
    #[error("cannot use {}: {error}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        error: pem::Error,
    },
    /// The certificate names no node.
    #[error("the certificate names no node of a cluster")]
    Nameless,
    /// The certificates cannot be used.
    #[error("the certificate cannot be used: {0}")]
    Unusable(String),
}

/// A node's certificate and key, and the authority that it believes.
#[derive(Clone)]
pub struct Identity {
    node: String,
    client: Arc<QuicClientConfig>,
    server: Arc<QuicServerConfig>,
}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Identity {
    /// From PEM files: the node's certificate, its key, and the authority's certificate.
    pub fn load(cert: &Path, key: &Path, authority: &Path) -> Result<Self, IdentityError> {
        let certs = |file: &Path| -> Result<Vec<CertificateDer<'static>>, IdentityError> {
            let error = |error| IdentityError::File { file: file.to_owned(), error };
            CertificateDer::pem_file_iter(file).map_err(error)?.collect::<Result<_, _>>().map_err(error)
        };
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| IdentityError::File { file: key.to_owned(), error })?;
        Self::new(certs(cert)?, private, certs(authority)?)
    }

    /// From what such files hold.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authority: Vec<CertificateDer<'static>>,
    ) -> Result<Self, IdentityError> {
        let unusable = |error: &dyn ToString| IdentityError::Unusable(error.to_string());
        let node = chain.first().and_then(node_of).ok_or(IdentityError::Nameless)?;
        let mut roots = RootCertStore::empty();
        for cert in authority {
            roots.add(cert).map_err(|error| unusable(&error))?;
        }
        let (roots, provider) = (Arc::new(roots), Arc::new(aws_lc_rs::default_provider()));
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable(&error))?
            .with_client_cert_verifier(verifier.build().map_err(|error| unusable(&error))?)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| unusable(&error))?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| unusable(&error))?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            node,
            client: Arc::new(QuicClientConfig::try_from(client).map_err(|error| unusable(&error))?),
            server: Arc::new(QuicServerConfig::try_from(server).map_err(|error| unusable(&error))?),
        })
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// For QUIC towards nodes that this one asks.
    pub fn client(&self) -> Arc<QuicClientConfig> {
        Arc::clone(&self.client)
    }

    /// For QUIC towards nodes that ask this one.
    pub fn server(&self) -> Arc<QuicServerConfig> {
        Arc::clone(&self.server)
    }
}

/// The node that a certificate names.
pub(crate) fn node_of(cert: &CertificateDer<'static>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(cert).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => control::node_of_certificate(name).map(str::to_owned),
        _ => None,
    })
}
