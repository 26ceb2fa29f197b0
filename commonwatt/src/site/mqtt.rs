//! `[mqtt]` in `site.toml`: the program's own broker, or another one that the community runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use meter_gateway::config::{HALF_A_CERTIFICATE, TlsConfig, is_this_computer, usual_port};
use runtime::mqtt::MqttOptions;
use runtime::tls::{ClientTls, OwnCertificate, ServerFiles};
use serde::{Deserialize, Serialize};

/// Where gateways and platform meet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "MqttFile", into = "MqttFile")]
pub(crate) enum Mqtt {
    /// At this program's own broker.
    Own(OwnBroker),
    /// At another broker, which knows by itself who may use which topics.
    Other(OtherBroker),
}

/// The section as it is written.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MqttFile {
    /// Where the program's own broker listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    /// Whether gateways may come there over a network in plain text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    allow_plaintext: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<ServerTlsFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<OtherBroker>,
}

impl TryFrom<MqttFile> for Mqtt {
    type Error = String;

    fn try_from(file: MqttFile) -> Result<Self, String> {
        let (tls, allow_plaintext) = (file.tls, file.allow_plaintext);
        match (file.listen, file.broker) {
            (Some(listen), None) => Ok(Mqtt::Own(OwnBroker {
                listen,
                allow_plaintext,
                tls,
            })),
            (None, Some(broker)) if tls.is_none() && !allow_plaintext => Ok(Mqtt::Other(broker)),
            _ => Err(
                "[mqtt] has either listen, for the program's own broker (with allow_plaintext or \
                 [mqtt.tls]), or [mqtt.broker], for another one, and not both"
                    .to_owned(),
            ),
        }
    }
}

impl From<Mqtt> for MqttFile {
    fn from(mqtt: Mqtt) -> Self {
        match mqtt {
            Mqtt::Own(own) => MqttFile {
                listen: Some(own.listen),
                allow_plaintext: own.allow_plaintext,
                tls: own.tls,
                broker: None,
            },
            Mqtt::Other(broker) => MqttFile {
                broker: Some(broker),
                ..MqttFile::default()
            },
        }
    }
}

/// The program's own broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OwnBroker {
    pub(crate) listen: SocketAddr,
    pub(crate) allow_plaintext: bool,
    tls: Option<ServerTlsFile>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerTlsFile {
    /// PEM file of the broker's certificate; relative to the site file, as the others.
    cert_file: PathBuf,
    /// PEM file of its private key.
    key_file: PathBuf,
    /// PEM file of the authority of the gateways' certificates, where these are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ca_file: Option<PathBuf>,
}

/// A broker that others run; any that knows MQTT 5.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OtherBroker {
    host: String,
    /// 8883 with TLS, else 1883, where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// The platform's user there; none where its certificate says who it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    user: String,
    /// File with its password.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<PathBuf>,
    /// Whether the password and all readings may cross a network in plain text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    allow_plaintext: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsConfig>,
}

impl Mqtt {
    /// The program's own broker on an address of this computer.
    pub(crate) fn own(listen: SocketAddr) -> Self {
        Mqtt::Own(OwnBroker {
            listen,
            allow_plaintext: false,
            tls: None,
        })
    }

    /// Makes paths relative to where the site file lies.
    pub(super) fn resolve(&mut self, folder: &Path) {
        let paths: Vec<&mut PathBuf> = match self {
            Mqtt::Own(OwnBroker { tls, .. }) => tls
                .iter_mut()
                .flat_map(|tls| {
                    [&mut tls.cert_file, &mut tls.key_file]
                        .into_iter()
                        .chain(&mut tls.client_ca_file)
                })
                .collect(),
            Mqtt::Other(broker) => {
                if let Some(tls) = &mut broker.tls {
                    tls.resolve(folder);
                }
                broker.password_file.iter_mut().collect()
            }
        };
        for path in paths {
            *path = folder.join(&*path);
        }
    }

    /// Refuses what would send passwords and readings over a network in plain text unasked.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self {
            Mqtt::Own(own) => {
                if own.tls.is_none() && !own.listen.ip().is_loopback() && !own.allow_plaintext {
                    bail!(
                        "mqtt.listen is {}, which other computers can reach, and without [mqtt.tls] \
                         passwords and readings would cross the network in plain text: add [mqtt.tls], \
                         or allow_plaintext = true",
                        own.listen
                    );
                }
            }
            Mqtt::Other(broker) => broker.check()?,
        }
        Ok(())
    }
}

impl OwnBroker {
    /// The files of its certificate, where it speaks TLS.
    pub(crate) fn tls(&self) -> Option<ServerFiles> {
        let tls = self.tls.as_ref()?;
        Some(ServerFiles {
            own: OwnCertificate {
                cert_file: tls.cert_file.clone(),
                key_file: tls.key_file.clone(),
            },
            client_ca_file: tls.client_ca_file.clone(),
        })
    }

    /// Whether gateways show a certificate.
    pub(super) fn asks_for_certificates(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.client_ca_file.is_some())
    }
}

impl OtherBroker {
    fn check(&self) -> anyhow::Result<()> {
        let tls = self.tls.as_ref();
        if tls.is_some_and(TlsConfig::has_half_a_certificate) {
            bail!("mqtt.broker.tls: {HALF_A_CERTIFICATE}");
        }
        let has_certificate = tls.is_some_and(|tls| tls.client_cert_file.is_some());
        let has_password = self.password_file.is_some();
        if self.user.is_empty() == has_password || !(has_password || has_certificate) {
            bail!("mqtt.broker: a user with a password_file, or a client certificate");
        }
        if tls.is_none() && !is_this_computer(&self.host) && !self.allow_plaintext {
            bail!(
                "mqtt.broker.host is {}, another computer, and without [mqtt.broker.tls] the password \
                 and all readings would cross the network in plain text: add [mqtt.broker.tls], or \
                 allow_plaintext = true",
                self.host
            );
        }
        Ok(())
    }

    /// Where it is, for people.
    pub(crate) fn address(&self) -> String {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        format!("{scheme}://{}:{}", self.host, self.port())
    }

    fn port(&self) -> u16 {
        self.port.unwrap_or(usual_port(self.tls.is_some()))
    }

    /// How the platform reaches it: what it says there is what it says at its own broker.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(crate) fn options(
        &self,
        at_own: MqttOptions,
        client_id: String,
    ) -> anyhow::Result<MqttOptions> {
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path);
            let text =
                text.with_context(|| format!("mqtt.broker.password_file {}", path.display()))?;
            anyhow::Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        };
        let tls = self.tls.as_ref();
        let tls = tls
            .map(|tls| ClientTls::open(&tls.files(), &self.host))
            .transpose();
        Ok(MqttOptions {
            host: self.host.clone(),
            port: self.port(),
            client_id,
            user: self.user.clone(),
            password: self
                .password_file
                .as_ref()
                .map(read)
                .transpose()?
                .unwrap_or_default(),
            tls: tls.context("[mqtt.broker.tls] in the site file")?,
            ..at_own
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Mqtt> {
        let mut mqtt: Mqtt = toml::from_str(text)?;
        mqtt.check()?;
        mqtt.resolve(Path::new("/etc/cw"));
        Ok(mqtt)
    }

    #[test]
    fn another_broker_is_reached_with_a_password_or_a_certificate_and_not_in_plain_text() {
        let refused = |text: &str| read(text).unwrap_err().to_string();
        let here = "[broker]\nhost = \"127.0.0.1\"\nuser = \"platform\"\npassword_file = \"pw\"\n";
        let Mqtt::Other(broker) = read(here).unwrap() else {
            panic!("not another broker");
        };
        assert_eq!(broker.address(), "mqtt://127.0.0.1:1883");
        assert_eq!(
            broker.password_file.as_deref(),
            Some(Path::new("/etc/cw/pw"))
        );
        let afar = here.replace("127.0.0.1", "mqtt.example");
        assert!(
            refused(&afar).contains("mqtt.example, another computer"),
            "{}",
            refused(&afar)
        );
        assert!(read(&format!("{afar}allow_plaintext = true\n")).is_ok());
        let secure =
            "[broker]\nhost = \"mqtt.example\"\n[broker.tls]\nclient_cert_file = \"c.pem\"\n";
        assert!(refused(secure).contains("belong together"));
        let both = format!("{secure}client_key_file = \"/k/c.key\"\n");
        let Mqtt::Other(broker) = read(&both).unwrap() else {
            panic!("not another broker");
        };
        assert_eq!(broker.address(), "mqtts://mqtt.example:8883");
        let named = format!("{both}server_name = \"broker.example\"\n");
        let Mqtt::Other(broker) = read(&named).unwrap() else {
            panic!("not another broker");
        };
        let files = broker.tls.unwrap().files();
        assert_eq!(files.server_name.as_deref(), Some("broker.example"));
        for half in ["", "user = \"platform\"\n", "password_file = \"pw\"\n"] {
            let text = format!("[broker]\nhost = \"127.0.0.1\"\n{half}");
            assert!(refused(&text).contains("a user with"), "{half}");
        }
        let both_brokers = format!("listen = \"127.0.0.1:0\"\n{here}");
        assert!(refused(&both_brokers).contains("not both"));
        assert!(refused("listten = \"127.0.0.1:0\"\n").contains("listten"));
        let written = toml::to_string(&read(&both).unwrap()).unwrap();
        assert_eq!(read(&written).unwrap(), read(&both).unwrap());
    }
}
