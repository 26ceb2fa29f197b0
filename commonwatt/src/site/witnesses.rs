//! `[[witnesses]]` of `site.toml`: who is asked to sign the logs' checkpoints.

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use settlement::log::note::{Algorithm, VerifierKey};

use crate::https::is_address;

/// Most witnesses of a site: each is asked after each checkpoint, one after the other.
const WITNESSES_MAX: usize = 16;

/// A witness as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WitnessFile {
    /// As `commonwatt witness` prints it.
    key: String,
    /// Where it listens, `https://witness.example` say.
    url: String,
    /// The authorities of its certificate, in PEM, where they are not those that browsers believe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
}

/// A witness that is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Witness {
    pub(crate) key: VerifierKey,
    pub(crate) url: String,
    pub(crate) ca_file: Option<PathBuf>,
}

impl WitnessFile {
    fn check(self) -> anyhow::Result<Witness> {
        let key: VerifierKey = self.key.parse().context("witnesses.key")?;
        if key.algorithm() != Algorithm::Witness {
            bail!("witnesses.key {key}: the key of a log, not of a witness");
        }
        let url = self.url.trim_end_matches('/');
        if !is_address(url) {
            bail!(
                "witnesses.url `{url}`: an address like https://witness.example or http://127.0.0.1:7380"
            );
        }
        let (url, ca_file) = (url.to_owned(), self.ca_file);
        if ca_file.is_some() && !url.starts_with("https://") {
            bail!(
                "witnesses.ca_file: only an address with https:// has a certificate, and {url} is none"
            );
        }
        Ok(Witness { key, url, ca_file })
    }

    /// As it is written down.
    pub(super) fn of(witness: &Witness) -> WitnessFile {
        WitnessFile {
            key: witness.key.to_string(),
            url: witness.url.clone(),
            ca_file: witness.ca_file.clone(),
        }
    }
}

/// All of them, checked together.
pub(super) fn checked(files: Vec<WitnessFile>) -> anyhow::Result<Vec<Witness>> {
    if files.len() > WITNESSES_MAX {
        bail!("a site has at most {WITNESSES_MAX} witnesses");
    }
    let mut witnesses: Vec<Witness> = Vec::with_capacity(files.len());
    for file in files {
        let witness = file.check()?;
        let same = |known: &Witness| known.key.name() == witness.key.name();
        if witnesses.iter().any(same) {
            bail!("witness {} is there twice", witness.key.name());
        }
        witnesses.push(witness);
    }
    Ok(witnesses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::signed::{PublicKey, SigningKey};

    #[test]
    fn a_witness_has_its_own_kind_of_key_and_an_address() {
        let key = PublicKey::of(&SigningKey::from_bytes(&[1; 32]));
        let witness = VerifierKey::of_witness("w", key).unwrap().to_string();
        let log = VerifierKey::of_log("w", key).unwrap().to_string();
        let file = |key: &str, url: &str| WitnessFile {
            key: key.to_owned(),
            url: url.to_owned(),
            ca_file: None,
        };
        let good = checked(vec![file(&witness, "http://127.0.0.1:1/")]).unwrap();
        assert_eq!(good[0].url, "http://127.0.0.1:1");
        assert!(checked(vec![file(&witness, "https://witness.example")]).is_ok());
        let mut plain = file(&witness, "http://a");
        plain.ca_file = Some("ca.pem".into());
        let told = format!("{:#}", checked(vec![plain]).unwrap_err());
        assert!(told.contains("witnesses.ca_file"), "{told}");
        for (files, part) in [
            (vec![file("x", "http://a")], "witnesses.key"),
            (vec![file(&log, "http://a")], "not of a witness"),
            (vec![file(&witness, "ftp://a")], "witnesses.url"),
            (
                vec![file(&witness, "http://a"), file(&witness, "http://b")],
                "there twice",
            ),
            (
                vec![file(&witness, "http://a"); WITNESSES_MAX + 1],
                "at most",
            ),
        ] {
            let told = format!("{:#}", checked(files).unwrap_err());
            assert!(told.contains(part), "{told}");
        }
    }
}
