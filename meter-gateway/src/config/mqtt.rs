//! `[mqtt]` and `[mqtt.tls]`: the platform's broker, who we are there, and how the way is protected.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use runtime::tls::{ClientFiles, OwnCertificate};
use serde::{Deserialize, Serialize};

/// Port of plain MQTT.
const PLAIN_PORT: u16 = 1883;
/// Port of MQTT over TLS.
const TLS_PORT: u16 = 8883;

/// Highest rate at which history may be sent.
const HISTORY_PER_S_MAX: u32 = 1000;

fn default_history_per_s() -> u32 {
    1
}

/// Where the broker is, and who we are there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// Host.
    pub host: String,
    /// Port; 8883 with TLS, else 1883 where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// User name; the broker lets it write under this gateway's topics only. With a client certificate
    /// the broker takes the name in it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// File with the password, instead of writing it here; relative to the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Whether passwords and readings may cross a network in plain text. Within this computer they may.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_plaintext: bool,
    /// Readings older than the last hour that are sent per second, after those of the last hour. With
    /// 1, ten thousand gateways that come back at once send no more than one core verifies.
    #[serde(default = "default_history_per_s")]
    pub history_per_s: u32,
    /// Encryption; without the section there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

/// How the broker is recognised, and how we are. An empty section is enough for a broker with a
/// certificate of a public authority.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of the authorities that are believed, instead of the system's; relative to the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM file of our certificate; relative to the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_file: Option<PathBuf>,
    /// PEM file of its private key; relative to the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_file: Option<PathBuf>,
    /// The name in the broker's certificate, where it is not `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// What is wrong where [`TlsConfig::has_half_a_certificate`].
pub const HALF_A_CERTIFICATE: &str = "client_cert_file and client_key_file belong together";

impl TlsConfig {
    /// Makes paths relative to where the file lies.
    pub fn resolve(&mut self, folder: &Path) {
        let paths = [
            &mut self.ca_file,
            &mut self.client_cert_file,
            &mut self.client_key_file,
        ];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }

    /// Whether there is a certificate without its key, or a key without its certificate.
    #[must_use]
    pub fn has_half_a_certificate(&self) -> bool {
        self.client_cert_file.is_some() != self.client_key_file.is_some()
    }

    /// The files, for the link.
    #[must_use]
    pub fn files(&self) -> ClientFiles {
        let own = self
            .client_cert_file
            .clone()
            .zip(self.client_key_file.clone());
        ClientFiles {
            ca_file: self.ca_file.clone(),
            own: own.map(|(cert_file, key_file)| OwnCertificate {
                cert_file,
                key_file,
            }),
            server_name: self.server_name.clone(),
        }
    }
}

/// The port of a broker where none is named.
#[must_use]
pub const fn usual_port(is_encrypted: bool) -> u16 {
    if is_encrypted { TLS_PORT } else { PLAIN_PORT }
}

impl MqttConfig {
    /// The port that is connected to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(usual_port(self.tls.is_some()))
    }

    /// Makes paths relative to where the file lies.
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(path) = &mut self.password_file {
            *path = folder.join(&*path);
        }
        if let Some(tls) = &mut self.tls {
            tls.resolve(folder);
        }
    }

    /// What the types cannot say, as key and sentence.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.password.is_some() && self.password_file.is_some() {
            return Err((
                "password_file",
                "either password or password_file, not both",
            ));
        }
        let tls = self.tls.as_ref();
        if tls.is_some_and(TlsConfig::has_half_a_certificate) {
            return Err(("[mqtt.tls]", HALF_A_CERTIFICATE));
        }
        if !(1..=HISTORY_PER_S_MAX).contains(&self.history_per_s) {
            return Err(("history_per_s", "between 1 and 1000 readings a second"));
        }
        if self.user.is_empty() && tls.is_none_or(|tls| tls.client_cert_file.is_none()) {
            return Err(("[mqtt]", "a user with a password, or a client certificate"));
        }
        if tls.is_none() && !self.allow_plaintext && !is_this_computer(&self.host) {
            return Err((
                "host",
                "this is another computer, and without [mqtt.tls] the password and all readings would \
                 cross the network in plain text; add [mqtt.tls], or allow_plaintext = true",
            ));
        }
        Ok(())
    }
}

/// Whether a host is this very computer, so that nothing crosses a network.
#[must_use]
pub fn is_this_computer(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl std::fmt::Debug for MqttConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MqttConfig({}@{}:{})", self.user, self.host, self.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const TEXT: &str = r#"
community = "elm-street"
gateway = "gw-1"
data_dir = "state"
operator_key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

[mqtt]
host = "127.0.0.1"
user = "gw-1"
password = "secret"

[[devices]]
name = "meter"
profile = "eastron-sdm630"
point = "home-1"
role = "connection"
rating_w = 17000
address = "127.0.0.1:1502"
"#;

    #[test]
    fn plain_text_stays_in_this_computer_unless_it_is_allowed() {
        let afar = TEXT.replace("host = \"127.0.0.1\"", "host = \"mqtt.example\"");
        let with = |lines: &str| {
            let text = afar.replace("user = \"gw-1\"\n", &format!("user = \"gw-1\"\n{lines}\n"));
            Config::from_toml(&text, "/etc/gw/g.toml")
        };
        let error = with("").unwrap_err().to_string();
        assert!(error.contains("line 8, key `host`"), "{error}");
        assert!(
            error.contains("[mqtt.tls]") && error.contains("allow_plaintext"),
            "{error}"
        );
        assert_eq!(with("allow_plaintext = true").unwrap().mqtt.port(), 1883);
        let secure = |keys: &str| {
            let text = afar.replace("password = \"secret\"\n", &format!("[mqtt.tls]\n{keys}\n"));
            Config::from_toml(&text, "/etc/gw/g.toml")
        };
        let config = secure("").unwrap();
        assert_eq!(
            (config.mqtt.port(), config.mqtt.tls),
            (8883, Some(TlsConfig::default()))
        );
        let tls =
            "ca_file = \"ca.pem\"\nclient_cert_file = \"gw.pem\"\nclient_key_file = \"/k/gw.key\"";
        let config = secure(tls).unwrap();
        let files = config.mqtt.tls.as_ref().unwrap().files();
        assert_eq!(files.ca_file.unwrap(), Path::new("/etc/gw/ca.pem"));
        assert_eq!(files.own.unwrap().key_file, Path::new("/k/gw.key"));
        let again = Config::from_toml(&config.to_toml().unwrap(), "g.toml").unwrap();
        assert_eq!(again, config);
        let error = secure("client_key_file = \"a\"").unwrap_err().to_string();
        assert!(error.contains("belong together"), "{error}");
        let error = secure("cafile = \"a\"").unwrap_err().to_string();
        assert!(error.contains("line 11, key `cafile`: unknown"), "{error}");
        let nobody = afar.replace("user = \"gw-1\"", "allow_plaintext = true");
        let error = Config::from_toml(&nobody, "g.toml")
            .unwrap_err()
            .to_string();
        assert!(error.contains("a user with a password"), "{error}");
    }
}
