//! Asking over HTTP and HTTPS: one way to make an agent, with the authorities of the web or those of a file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// Whether an address is one that can be asked: a host behind `http://` or `https://`.
pub(crate) fn is_address(url: &str) -> bool {
    let host = url.strip_prefix("http://").or(url.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
}

/// An agent that waits so long for a whole answer, and believes the authorities in a PEM file, where there is one,
/// instead of those that browsers believe. A refusal is an answer, as it says why in its body.
pub(crate) fn agent(patience: Duration, ca_file: Option<&Path>) -> anyhow::Result<ureq::Agent> {
    let mut tls = TlsConfig::builder();
    if let Some(file) = ca_file {
        tls = tls.root_certs(RootCerts::Specific(Arc::new(authorities(file)?)));
    }
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .http_status_as_error(false)
        .tls_config(tls.build())
        .build();
    Ok(config.into())
}

fn authorities(file: &Path) -> anyhow::Result<Vec<ureq::tls::Certificate<'static>>> {
    let shown = file.display();
    let text = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(one) = item.with_context(|| format!("{shown}: no PEM"))? {
            certificates.push(one);
        }
    }
    if certificates.is_empty() {
        bail!("{shown} has no certificate in PEM");
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use tokio_rustls::rustls;

    /// A server on loopback that answers every request with `ok`, and the certificate that it shows.
    fn server() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let own = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], own)
            .unwrap();
        let config = Arc::new(config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(session, stream.unwrap());
                let mut asked = [0; 1024];
                // Who does not believe the certificate goes away.
                if stream.read(&mut asked).is_ok_and(|read| read > 0) {
                    let answer =
                        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                    let _ = stream.write_all(answer).and_then(|()| stream.flush());
                }
            }
        });
        (format!("https://localhost:{port}/"), certificate.pem())
    }

    #[test]
    fn a_server_is_believed_by_its_authority_only() {
        let (url, certificate) = server();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, certificate).unwrap();
        let patience = Duration::from_secs(60);
        let ask = |ca: Option<&Path>| agent(patience, ca).unwrap().get(&url).call();
        let mut heard = ask(Some(&file)).unwrap();
        assert_eq!(heard.body_mut().read_to_string().unwrap(), "ok");
        let stranger = ask(None).unwrap_err().to_string();
        assert!(
            stranger.to_lowercase().contains("certificate"),
            "{stranger}"
        );
        std::fs::write(&file, "nothing").unwrap();
        let empty = agent(patience, Some(&file)).unwrap_err().to_string();
        assert!(empty.contains("no certificate"), "{empty}");
    }

    #[test]
    fn an_address_has_a_host() {
        for good in ["http://127.0.0.1:9000", "https://street.example/log"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["127.0.0.1:9000", "https://", "ftp://a", "http:///a", ""] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
