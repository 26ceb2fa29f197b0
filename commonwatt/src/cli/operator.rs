//! What the operator's commands share: the operator's key, the platform's address, and how its answers
//! are read.
//!
//! The operator's word is the signature under what is sent, not the connection it comes by, so plain
//! HTTP does; from another machine, go through a tunnel (`ssh -L`) for the sake of privacy.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use domain::ids::CommunityId;
use domain::signed::{PublicKey, SigningKey};
use domain::time::Timestamp;
use serde_json::Value;

use super::CliError;
use crate::site::public_key_text;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer that is read.
const ANSWER_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Where the platform and its operator's key are.
#[derive(clap::Args)]
pub(super) struct Operator {
    /// The platform's page, as `commonwatt serve` prints it.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The platform's data folder, with operator.key in it.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
}

/// The platform behind an address: whom it serves, and what time it is there.
pub(super) struct Platform {
    /// The community.
    pub(super) community: CommunityId,
    /// The platform's time, which need not be this computer's: a demo's time runs faster.
    pub(super) now: Timestamp,
    /// The operator's key, which the platform's is the same as.
    pub(super) key: SigningKey,
}

impl Operator {
    /// Asks the platform who it is, and makes sure that it is this operator's.
    pub(super) fn platform(&self) -> Result<Platform, CliError> {
        let file = self.data_dir.join("operator.key");
        let key = runtime::key_file::read(&file).map_err(|error| {
            CliError::BadInput(format!(
                "{error}; --data-dir names the platform's data folder, where operator.key is"
            ))
        })?;
        let about = self.get("/api/v1/platform")?;
        let text = |name: &str| about[name].as_str().unwrap_or_default();
        if text("operator_key") != public_key_text(PublicKey::of(&key)) {
            return Err(CliError::BadInput(format!(
                "the platform at {} has another operator than {}: choose --url and --data-dir of the \
                 same platform",
                self.url,
                file.display()
            )));
        }
        let strange = |what: &str| anyhow!("the platform at {} names no {what}", self.url);
        Ok(Platform {
            community: CommunityId::new(text("community")).map_err(|_| strange("community"))?,
            now: text("now").parse().map_err(|_| strange("time"))?,
            key,
        })
    }

    /// Gets a resource of the API.
    pub(super) fn get(&self, path: &str) -> Result<Value, CliError> {
        let address = self.address(path)?;
        self.heard(agent().get(&address).call())
    }

    /// Posts signed bytes, and gives the platform's answer.
    pub(super) fn post(&self, path: &str, signed: &[u8]) -> Result<Value, CliError> {
        let address = self.address(path)?;
        let request = agent().post(&address).content_type("application/cose");
        self.heard(request.send(signed))
    }

    fn address(&self, path: &str) -> Result<String, CliError> {
        let host = self.url.trim_end_matches('/');
        if host.strip_prefix("http://").is_none_or(str::is_empty) {
            return Err(CliError::BadInput(format!(
                "--url {}: an address like http://127.0.0.1:8080; to reach another machine, open a tunnel \
                 (ssh -L 8080:127.0.0.1:8080 …)",
                self.url
            )));
        }
        Ok(format!("{host}{path}"))
    }

    /// The answer's JSON; a refusal becomes the sentence in it.
    fn heard(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, CliError> {
        let unheard =
            |error: ureq::Error| anyhow!("no answer from the platform at {}: {error}", self.url);
        let mut answer = answer.map_err(unheard)?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(ANSWER_MAX_BYTES);
        let body = body.read_to_vec().map_err(unheard)?;
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(value);
        }
        let told = value["detail"].as_str().map(str::to_owned);
        let told = told.unwrap_or_else(|| format!("the platform at {} answers {status}", self.url));
        if status.is_client_error() {
            return Err(CliError::CheckFailed(told));
        }
        Err(anyhow!(told).into())
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        // A refusal says why in its body.
        .http_status_as_error(false)
        .build();
    config.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_plain_http() {
        let operator = |url: &str| Operator {
            url: url.into(),
            data_dir: "data".into(),
        };
        let good = operator("http://127.0.0.1:9000/").address("/api/v1/keys");
        assert_eq!(good.unwrap(), "http://127.0.0.1:9000/api/v1/keys");
        for bad in ["127.0.0.1:9000", "https://street.example", "http://", ""] {
            let told = operator(bad).address("/").unwrap_err().to_string();
            assert!(told.contains("--url"), "{told}");
        }
    }
}
