//! TLS for both ends of MQTT, from PEM files, with mistakes as sentences a person can act on.
//!
//! TLS 1.3, and 1.2 for brokers that know no better. The other side is always verified: the broker
//! by its certificate's name, a gateway, where the broker asks for it, by a certificate of the site's
//! authority.

#[cfg(not(feature = "tls"))]
#[path = "tls/absent.rs"]
mod ends;
#[cfg(feature = "tls")]
#[path = "tls/present.rs"]
mod ends;

use std::path::PathBuf;

pub use ends::{ClientTls, ServerStream, ServerTls};

/// A certificate with its private key, as files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnCertificate {
    /// The certificate, followed by those between it and the authority, in PEM.
    pub cert_file: PathBuf,
    /// Its private key in PEM; readable by its owner only.
    pub key_file: PathBuf,
}

/// What the end that connects is told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientFiles {
    /// The authorities that are believed, in PEM; those of the system where there is no file.
    pub ca_file: Option<PathBuf>,
    /// Who we are, where the broker asks for a certificate.
    pub own: Option<OwnCertificate>,
    /// The name in the broker's certificate, where it is not the host that is connected to.
    pub server_name: Option<String>,
}

/// What the end that listens is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerFiles {
    /// The broker's certificate.
    pub own: OwnCertificate,
    /// The authority of the clients' certificates. Where it is given, every client must have one, and
    /// the name in it (its common name, else its only DNS name) is the client's MQTT user.
    pub client_ca_file: Option<PathBuf>,
}

/// Why TLS cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system refuses a file.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Others can read a private key.
    #[error("{} can be read by others (mode {mode:o}); run `chmod 600` on it", path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file is not what it should be.
    #[error("{} holds no {expected} in PEM{reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What the reader found, behind a colon, or nothing.
        reason: String,
    },
    /// A certificate and a private key of different pairs.
    #[error(
        "the private key in {} does not belong to the certificate in {}; were the files of two \
         certificates mixed up?",
        key.display(),
        cert.display()
    )]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The system has no list of authorities.
    #[error(
        "this system has no certificate authorities installed; install the package ca-certificates, \
         or name the broker's authority as ca_file"
    )]
    NoAuthorities,
    /// Neither a DNS name nor an address.
    #[error("`{0}` is neither a host name nor an address, so no certificate can be for it")]
    Name(String),
    /// A certificate that the library does not take.
    #[error("the certificate in {} cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Left out when it was built.
    #[error("this program was built without TLS; build it with `--features tls`")]
    NotBuilt,
}
