//! What the operator's commands share: the operator's key, and the platform that it is the key of.

use std::path::PathBuf;

use anyhow::anyhow;
use domain::ids::CommunityId;
use domain::signed::{PublicKey, SigningKey};
use domain::time::Timestamp;
use serde_json::Value;

use super::CliError;
use super::http::Client;
use crate::site::public_key_text;

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
        Client::new(&self.url).get(path)
    }

    /// Gets every row of a list of the API.
    pub(super) fn get_list(&self, path: &str) -> Result<Vec<Value>, CliError> {
        Client::new(&self.url).get_list(path)
    }

    /// Posts signed bytes, and gives the platform's answer.
    pub(super) fn post(&self, path: &str, signed: &[u8]) -> Result<Value, CliError> {
        Client::new(&self.url).post(path, signed)
    }
}
