//! Both ends with rustls; the cryptography is ring's.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore, ServerConfig,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::{ClientFiles, OwnCertificate, ServerFiles, TlsError};

/// Longest PEM file that is read: the system's list of authorities has 200 KiB.
const PEM_MAX_BYTES: u64 = 1024 * 1024;

pub(crate) type ClientStream<S> = client::TlsStream<S>;
/// A connection that was taken.
pub type ServerStream<S> = server::TlsStream<S>;

/// The end that connects: whom it believes, who it is, and what the other side must be called.
#[derive(Clone)]
pub struct ClientTls {
    connector: TlsConnector,
    name: ServerName<'static>,
    authorities: Arc<str>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS to {} by {}", self.name.to_str(), self.authorities)
    }
}

impl ClientTls {
    /// Reads the files; `host` is where the connection goes.
    ///
    /// # Errors
    /// Names the file or the name that cannot be used, and what to do.
    pub fn open(files: &ClientFiles, host: &str) -> Result<Self, TlsError> {
        let name = files.server_name.as_deref().unwrap_or(host);
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))?;
        let (roots, authorities) = match &files.ca_file {
            Some(path) => (authorities_in(path)?, path.display().to_string()),
            None => (system_authorities()?, "the system's list".to_owned()),
        };
        let provider = provider();
        let unusable = |error: String| TlsError::Unusable {
            path: files.ca_file.clone().unwrap_or_default(),
            reason: error,
        };
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| unusable(error.to_string()))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?
            .with_webpki_verifier(verifier);
        let config = match &files.own {
            Some(own) => {
                let (certs, key) = own_certificate(own)?;
                builder
                    .with_client_auth_cert(certs, key)
                    .map_err(|error| refused_pair(own, &error))?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(ClientTls {
            connector: TlsConnector::from(Arc::new(config)),
            name,
            authorities: authorities.into(),
        })
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// The other side does not, in a sentence.
    pub async fn connect<S>(&self, stream: S) -> Result<ClientStream<S>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shaken = self.connector.connect(self.name.clone(), stream).await;
        shaken.map_err(|error| self.explain(&error))
    }

    /// What a failed read, write or handshake means.
    pub(crate) fn explain(&self, error: &io::Error) -> String {
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
        match inner {
            Some(Error::InvalidCertificate(wrong)) => self.explain_certificate(wrong),
            Some(Error::InvalidMessage(_)) => {
                "the broker's answer is no TLS; is this the port of its TLS listener (often 8883)?"
                    .to_owned()
            }
            Some(Error::AlertReceived(alert)) => explain_alert(*alert),
            _ if error.kind() == io::ErrorKind::UnexpectedEof => {
                "the broker closed the connection; does this port speak TLS (often 8883)?"
                    .to_owned()
            }
            _ => error.to_string(),
        }
    }

    fn explain_certificate(&self, wrong: &CertificateError) -> String {
        let name = self.name.to_str();
        match wrong {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the broker's certificate has expired; renew it, or set this computer's clock right"
                    .to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the broker's certificate is not valid yet; is this computer's clock right?"
                    .to_owned()
            }
            CertificateError::UnknownIssuer => format!(
                "the broker's certificate is of an authority that is not in {}; put the certificate \
                 of its authority into the file that ca_file names",
                self.authorities
            ),
            CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
                format!(
                    "the broker's certificate has no subject alternative name, so it is not for \
                     {name}; make one with subjectAltName"
                )
            }
            CertificateError::NotValidForNameContext { presented, .. } => format!(
                "the broker's certificate is for {}, not for {name}; correct host or server_name",
                presented.join(", ")
            ),
            CertificateError::NotValidForName => {
                format!("the broker's certificate is not for {name}; correct host or server_name")
            }
            other => format!("the broker's certificate is refused: {other}"),
        }
    }
}

fn explain_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "the broker wants a certificate of ours; set client_cert_file and client_key_file"
                .to_owned()
        }
        AlertDescription::UnknownCA => {
            "the broker does not know the authority of our certificate (client_cert_file)"
                .to_owned()
        }
        AlertDescription::CertificateExpired => {
            "our certificate (client_cert_file) has expired; renew it".to_owned()
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::DecryptError
        | AlertDescription::AccessDenied => {
            format!("the broker does not accept our certificate (client_cert_file): {alert:?}")
        }
        other => format!("the broker ended the TLS connection: {other:?}"),
    }
}

/// The end that listens.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the file that cannot be used, and what to do.
    pub fn open(files: &ServerFiles) -> Result<Self, TlsError> {
        let (certs, key) = own_certificate(&files.own)?;
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused_pair(&files.own, &error))?;
        let builder = match &files.client_ca_file {
            Some(path) => {
                let roots = Arc::new(authorities_in(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| TlsError::Unusable {
                        path: path.clone(),
                        reason: error.to_string(),
                    })?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let config = builder
            .with_single_cert(certs, key)
            .map_err(|error| refused_pair(&files.own, &error))?;
        Ok(ServerTls {
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Shakes hands; gives the name in the client's certificate where certificates are asked for.
    ///
    /// # Errors
    /// The other side does not shake hands, or shows a certificate without a name.
    pub async fn accept<S>(&self, stream: S) -> Result<(ServerStream<S>, Option<String>), String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shaken = self.acceptor.accept(stream).await;
        let stream = shaken.map_err(|error| error.to_string())?;
        let first = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        let name = match first {
            Some(certificate) => Some(name_in(certificate)?),
            None => None,
        };
        Ok((stream, name))
    }
}

/// The common name, or else the only DNS name.
fn name_in(certificate: &CertificateDer<'_>) -> Result<String, String> {
    let none = || "the client's certificate has neither a common name nor one DNS name".to_owned();
    let certificate = Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let certificate = certificate.tbs_certificate();
    if let Ok(Some(name)) = certificate.subject().common_name() {
        return Ok(name.value().into_owned());
    }
    let names: Option<(bool, SubjectAltName)> = certificate
        .get_extension()
        .map_err(|error: x509_cert::der::Error| error.to_string())?;
    let names = names.map(|(_, names)| names.0).unwrap_or_default();
    let mut dns = names.into_iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        _ => None,
    });
    match (dns.next(), dns.next()) {
        (Some(name), None) => Ok(name),
        _ => Err(none()),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn authorities_in(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_in(path)? {
        roots.add(certificate).map_err(|error| TlsError::Unusable {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    }
    Ok(roots)
}

fn system_authorities() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::NoAuthorities);
    }
    Ok(roots)
}

fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let no_certificate = |reason: String| TlsError::Content {
        path: path.to_owned(),
        expected: "certificate",
        reason,
    };
    let text = read(path, false)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| no_certificate(format!(": {error}")))?;
    if certificates.is_empty() {
        return Err(no_certificate(String::new()));
    }
    Ok(certificates)
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn own_certificate(own: &OwnCertificate) -> Result<Pair, TlsError> {
    let certificates = certificates_in(&own.cert_file)?;
    let text = read(&own.key_file, true)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| TlsError::Content {
        path: own.key_file.clone(),
        expected: "private key without a pass phrase",
        // The error could repeat a line of the key.
        reason: match error {
            tokio_rustls::rustls::pki_types::pem::Error::NoItemsFound => String::new(),
            _ => ": it is damaged".to_owned(),
        },
    })?;
    Ok((certificates, key))
}

/// Why the library does not take a certificate with its key.
fn refused_pair(own: &OwnCertificate, error: &Error) -> TlsError {
    match error {
        Error::InconsistentKeys(_) => TlsError::Pair {
            cert: own.cert_file.clone(),
            key: own.key_file.clone(),
        },
        other => TlsError::Unusable {
            path: own.cert_file.clone(),
            reason: other.to_string(),
        },
    }
}

fn read(path: &Path, private: bool) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if private && mode & 0o077 != 0 {
        return Err(TlsError::Readable {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Vec::new();
    file.take(PEM_MAX_BYTES)
        .read_to_end(&mut text)
        .map_err(failed)?;
    Ok(text)
}
