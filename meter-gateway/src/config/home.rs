//! `[home_mqtt]` and `[home_mqtt.tls]`: the home's own broker, where its devices speak.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::mqtt::{HALF_A_CERTIFICATE, TlsConfig, is_this_computer, usual_port};

/// A broker in the home; it needs to know MQTT 5.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeMqttConfig {
    /// Host.
    pub host: String,
    /// Port; 8883 with TLS, else 1883 where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// User name; none where the broker asks for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// File with the password, instead of writing it here; relative to the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Whether the password may cross the home's network in plain text. Within this computer it may.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_plaintext: bool,
    /// Encryption; without the section there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

impl std::fmt::Debug for HomeMqttConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.user.as_deref().unwrap_or("nobody");
        write!(f, "HomeMqttConfig({user}@{}:{})", self.host, self.port())
    }
}

impl HomeMqttConfig {
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
        let has_password = self.password.is_some() || self.password_file.is_some();
        if self.password.is_some() && self.password_file.is_some() {
            return Err(("[home_mqtt]", "either password or password_file, not both"));
        }
        if self.user.is_none() && has_password {
            return Err(("[home_mqtt]", "a password belongs to a user"));
        }
        let tls = self.tls.as_ref();
        if tls.is_some_and(TlsConfig::has_half_a_certificate) {
            return Err(("[home_mqtt.tls]", HALF_A_CERTIFICATE));
        }
        if has_password && tls.is_none() && !self.allow_plaintext && !is_this_computer(&self.host) {
            return Err((
                "[home_mqtt]",
                "this broker is another computer, and without [home_mqtt.tls] the password would cross \
                 the home's network in plain text; add [home_mqtt.tls], or allow_plaintext = true",
            ));
        }
        Ok(())
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
password = "own"

[[devices]]
name = "meter"
profile = "eastron-sdm630"
point = "home-1"
role = "connection"
rating_w = 17000
address = "127.0.0.1:1502"

[home_mqtt]
host = "10.0.0.2"
"#;

    fn with(keys: &str) -> Result<Config, String> {
        Config::from_toml(&format!("{TEXT}{keys}\n"), "/etc/gateway/g.toml")
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_homes_broker_is_read_and_its_password_is_not_shown() {
        let file = "user = \"x\"\npassword_file = \"pw\"\nallow_plaintext = true";
        let home = with(file).unwrap().home_mqtt.unwrap();
        assert_eq!((home.host.as_str(), home.port()), ("10.0.0.2", 1883));
        assert_eq!(home.password_file.unwrap(), Path::new("/etc/gateway/pw"));
        let error = with("password = \"hidden\"").unwrap_err();
        assert!(
            error.contains("line 20, key `[home_mqtt]`: a password belongs"),
            "{error}"
        );
        let written = "user = \"x\"\npassword = \"hidden\"\nallow_plaintext = true";
        let config = with(written).unwrap();
        assert!(!format!("{config:?}").contains("hidden"));
        assert_eq!(
            Config::from_toml(&config.to_toml().unwrap(), "g.toml").unwrap(),
            config
        );
    }

    #[test]
    fn a_password_crosses_the_homes_network_encrypted_unless_it_is_allowed() {
        let user = "user = \"x\"\npassword = \"hidden\"";
        let error = with(user).unwrap_err();
        assert!(
            error.contains("line 20, key `[home_mqtt]`") && error.contains("[home_mqtt.tls]"),
            "{error}"
        );
        assert!(with("").is_ok(), "nothing secret goes there");
        let secure = format!("{user}\n[home_mqtt.tls]\nca_file = \"ca.pem\"");
        let home = with(&secure).unwrap().home_mqtt.unwrap();
        assert_eq!(home.port(), 8883);
        let files = home.tls.unwrap().files();
        assert_eq!(files.ca_file.unwrap(), Path::new("/etc/gateway/ca.pem"));
        let half = format!("{user}\n[home_mqtt.tls]\nclient_key_file = \"k\"");
        let error = with(&half).unwrap_err();
        assert!(
            error.contains("[home_mqtt.tls]`: client_cert_file"),
            "{error}"
        );
    }
}
