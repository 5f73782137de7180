//! Whom the client side believes that a server is who it says.

use std::{path::Path, sync::Arc};

use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_tungstenite::Connector;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Who signs for servers: the authorities of the web, or those of a file alone.
pub(super) struct Trust(Option<Vec<CertificateDer<'static>>>);

impl Trust {
    /// The certificates of a file; without one those of the web.
    ///
    /// # Errors
    /// When it cannot be read, or holds none.
    pub(super) fn of(file: Option<&Path>) -> Result<Self, String> {
        let Some(path) = file else { return Ok(Self(None)) };
        let shown = path.display();
        let pem = std::fs::read(path).map_err(|error| format!("--ca {shown} cannot be read: {error}"))?;
        let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("--ca {shown} is no PEM: {error}"))?;
        if found.is_empty() {
            return Err(format!(
                "--ca {shown} holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----"
            ));
        }
        Ok(Self(Some(found)))
    }

    /// For HTTP.
    pub(super) fn http(&self) -> TlsConfig {
        let roots = match &self.0 {
            None => RootCerts::WebPki,
            Some(own) => own.iter().map(|cert| Certificate::from_der(cert).to_owned()).into(),
        };
        TlsConfig::builder().root_certs(roots).build()
    }

    /// For WebSockets.
    ///
    /// # Errors
    /// When a certificate is none that can sign.
    pub(super) fn socket(&self) -> Result<Connector, String> {
        let mut roots = RootCertStore::empty();
        match &self.0 {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(own) => {
                for cert in own {
                    roots.add(cert.clone()).map_err(|error| format!("--ca: {error}"))?;
                }
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Connector::Rustls(Arc::new(config)))
    }
}
