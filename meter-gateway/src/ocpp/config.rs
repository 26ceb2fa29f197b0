//! `[ocpp]` in `gateway.toml`: where chargers come in, and which of them are known.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use domain::charger_record::KEYS_MAX;
use domain::ids::from_hex;
use domain::ocmf::PublicKey;
use runtime::tls::{OwnCertificate, ServerFiles};
use serde::{Deserialize, Serialize};

use super::point::Rules;
use crate::toml_file::{TomlError, wrong_value};

/// Most charge points of a gateway.
pub const CHARGE_POINTS_MAX: usize = 256;
/// Most cards and keys of one.
const LIST_MAX: usize = 256;
/// Longest name of a charge point, in bytes; it is part of its address.
const ID_MAX_BYTES: usize = 48;
/// Longest card, as the standard has it.
const TAG_MAX_CHARS: usize = 20;

/// Where chargers come in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OcppConfig {
    /// Address and port, like `127.0.0.1:9000`.
    pub listen: SocketAddr,
    /// Whether chargers may come in without TLS from other computers: only where the network is one's own (a VPN).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_plaintext: bool,
    /// How often a charger says that it is there, in seconds.
    #[serde(default = "default_heartbeat_s")]
    pub heartbeat_s: u32,
    /// How often it says its meter values, in seconds.
    #[serde(default = "default_meter_interval_s")]
    pub meter_interval_s: u32,
    /// Certificate and key; without them chargers come in plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<OcppTls>,
    /// The charge points.
    #[serde(default)]
    pub charge_points: Vec<ChargePointConfig>,
}

/// The gateway's certificate for chargers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OcppTls {
    /// PEM file; relative to the file.
    pub cert_file: PathBuf,
    /// PEM file of its private key; relative to the file.
    pub key_file: PathBuf,
    /// PEM file of the authority of the chargers' own certificates; relative to the file. Where it is given, every
    /// charger must show one whose common name is the charge point's name (security profile 3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
}

/// A charge point.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChargePointConfig {
    /// Its name, the last part of the address that it is given: `ws://host:9000/ocpp/NAME`.
    pub id: String,
    /// SHA-256 of its password in hex, as `commonwatt chargers add` prints it. With `client_ca_file` it may be left
    /// out: then its certificate is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_sha256: Option<String>,
    /// Who may charge: `sessions` (whom the platform lets in, and the cards in `id_tags`) or `everybody`.
    #[serde(default)]
    pub open_to: OpenTo,
    /// Cards that may always charge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub id_tags: Vec<String>,
    /// Public keys of its meters, at most 8, in hex, base64 or PEM, where they sign what they count (OCMF).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ocmf_keys: Vec<String>,
}

/// Who may charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpenTo {
    /// Whom the platform lets in.
    #[default]
    Sessions,
    /// Every card.
    Everybody,
}

fn default_heartbeat_s() -> u32 {
    300
}

fn default_meter_interval_s() -> u32 {
    30
}

impl OcppConfig {
    /// Makes paths relative to where the file lies.
    pub(crate) fn resolve(&mut self, folder: &Path) {
        if let Some(tls) = &mut self.tls {
            tls.cert_file = folder.join(&tls.cert_file);
            tls.key_file = folder.join(&tls.key_file);
            if let Some(file) = &mut tls.client_ca_file {
                *file = folder.join(&*file);
            }
        }
    }

    /// The files of TLS, where there is some.
    #[must_use]
    pub fn files(&self) -> Option<ServerFiles> {
        self.tls.clone().map(|tls| ServerFiles {
            own: OwnCertificate {
                cert_file: tls.cert_file,
                key_file: tls.key_file,
            },
            client_ca_file: tls.client_ca_file,
        })
    }

    /// Whether chargers have to show a certificate of their own.
    fn asks_for_certificates(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.client_ca_file.is_some())
    }

    /// What the types cannot say.
    pub(crate) fn mistakes(&self, text: &str, file: &str) -> Vec<TomlError> {
        let mut all = Vec::new();
        let mut wrong = |place: (&str, usize), key: &str, message: &str| {
            all.push(wrong_value(text, file, place, key, message));
        };
        if self.tls.is_none() && !self.allow_plaintext && !self.listen.ip().is_loopback() {
            wrong(
                ("", 0),
                "[ocpp]",
                "other computers reach this address, and without [ocpp.tls] the chargers' passwords would cross the \
                 network in plain text; add [ocpp.tls], or allow_plaintext = true within a VPN",
            );
        }
        if !(10..=86_400).contains(&self.heartbeat_s) {
            wrong(("", 0), "heartbeat_s", "10 to 86400 seconds");
        }
        if !(5..=900).contains(&self.meter_interval_s) {
            wrong(("", 0), "meter_interval_s", "5 to 900 seconds");
        }
        if self.charge_points.len() > CHARGE_POINTS_MAX {
            wrong(("", 0), "[ocpp]", "at most 256 charge points");
        }
        let mut names = BTreeSet::new();
        for (index, point) in self.charge_points.iter().enumerate() {
            let place = ("ocpp.charge_points", index);
            let has_certificate = self.asks_for_certificates();
            if let Err((key, message)) = point.check(has_certificate) {
                wrong(place, key, message);
            }
            if !names.insert(&point.id) {
                wrong(place, "id", "another charge point has this name already");
            }
        }
        all
    }
}

impl ChargePointConfig {
    fn check(&self, has_certificate: bool) -> Result<(), (&'static str, &'static str)> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.id.is_empty() || self.id.len() > ID_MAX_BYTES || !self.id.chars().all(is_plain) {
            return Err(("id", "1 to 48 letters, digits, and - _ ."));
        }
        let needs_none = has_certificate && self.password_sha256.is_none();
        if self.hash().is_none() && !needs_none {
            let rule = "64 hex digits: the SHA-256 of a password that `commonwatt chargers add` makes; only with \
                 client_ca_file in [ocpp.tls] a charger needs none";
            return Err(("password_sha256", rule));
        }
        let is_tag = |tag: &String| !tag.is_empty() && tag.chars().count() <= TAG_MAX_CHARS;
        if self.id_tags.len() > LIST_MAX || !self.id_tags.iter().all(is_tag) {
            return Err(("id_tags", "at most 256 cards of 1 to 20 characters"));
        }
        if self.ocmf_keys.len() > KEYS_MAX || self.keys().is_none() {
            // More do not fit into a message to the platform.
            let rule = "at most 8 public keys on secp256r1 or secp384r1, in hex, base64 or PEM";
            return Err(("ocmf_keys", rule));
        }
        Ok(())
    }

    /// What its password must hash to.
    #[must_use]
    pub fn hash(&self) -> Option<[u8; 32]> {
        from_hex(self.password_sha256.as_ref()?).ok()
    }

    fn keys(&self) -> Option<Vec<PublicKey>> {
        let keys = self.ocmf_keys.iter();
        keys.map(|text| PublicKey::from_text(text).ok()).collect()
    }

    /// The rules that follow.
    #[must_use]
    pub fn rules(&self, ocpp: &OcppConfig) -> Rules {
        Rules {
            open_to_everybody: self.open_to == OpenTo::Everybody,
            id_tags: self.id_tags.clone(),
            heartbeat_s: ocpp.heartbeat_s,
            meter_interval_s: ocpp.meter_interval_s,
            keys: self.keys().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ocmf::Signer;

    #[test]
    fn a_charge_point_has_no_more_keys_than_fit_into_a_message() {
        let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
        let with = |keys: usize| ChargePointConfig {
            id: "CP-1".into(),
            password_sha256: Some("0".repeat(64)),
            open_to: OpenTo::Sessions,
            id_tags: Vec::new(),
            ocmf_keys: vec![signer.public().to_hex(); keys],
        };
        assert_eq!(with(KEYS_MAX).check(false), Ok(()));
        let (key, rule) = with(KEYS_MAX + 1).check(false).unwrap_err();
        assert!(key == "ocmf_keys" && rule.starts_with(&format!("at most {KEYS_MAX} ")));
    }
}
