//! Both ends in a program that was built without TLS: asking for one is an error.

use std::convert::Infallible;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{ClientFiles, ServerFiles, TlsError};

/// There is none.
#[derive(Clone, Debug)]
pub struct ClientTls(Infallible);

/// There is none.
#[derive(Clone, Debug)]
pub struct ServerTls(Infallible);

pub(crate) type ClientStream<S> = S;
/// A connection that was taken.
pub type ServerStream<S> = S;

impl ClientTls {
    /// Always an error.
    ///
    /// # Errors
    /// [`TlsError::NotBuilt`].
    pub fn open(_files: &ClientFiles, _host: &str) -> Result<Self, TlsError> {
        Err(TlsError::NotBuilt)
    }

    pub(crate) async fn connect<S>(&self, _stream: S) -> Result<ClientStream<S>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.0 {}
    }

    pub(crate) fn explain(&self, _error: &io::Error) -> String {
        match self.0 {}
    }
}

impl ServerTls {
    /// Always an error.
    ///
    /// # Errors
    /// [`TlsError::NotBuilt`].
    pub fn open(_files: &ServerFiles) -> Result<Self, TlsError> {
        Err(TlsError::NotBuilt)
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub async fn accept<S>(&self, _stream: S) -> Result<(ServerStream<S>, Option<String>), String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.0 {}
    }
}
