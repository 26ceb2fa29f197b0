//! Asking a platform over HTTP or HTTPS: what is said there is signed in itself, so plain HTTP does where nobody else
//! can listen.

use std::time::Duration;

use anyhow::anyhow;
use domain::ids::CommunityId;
use domain::time::Timestamp;
use serde_json::Value;

use super::CliError;
use crate::https::{self, is_address};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer that is read, where nothing else is said.
const ANSWER_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Most rows of a list that are read.
const ROWS_MAX: usize = 100_000;

/// The platform takes it later: when, in its own sentence.
#[derive(thiserror::Error, Debug)]
#[error("{0}")]
struct Later(String);

/// Whether an answer was that the same is to be said again later.
pub(super) fn is_to_wait(error: &CliError) -> bool {
    matches!(error, CliError::Environment(error) if error.is::<Later>())
}

/// A platform behind an address.
pub(super) struct Client {
    url: String,
    token: Option<String>,
}

impl Client {
    pub(super) fn new(url: &str) -> Self {
        Client {
            url: url.to_owned(),
            token: None,
        }
    }

    /// Speaks with an account's API token.
    pub(super) fn with_token(self, token: String) -> Self {
        Client {
            token: Some(token),
            ..self
        }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token.as_deref().unwrap_or_default())
    }

    /// Gets a resource of the API.
    pub(super) fn get(&self, path: &str) -> Result<Value, CliError> {
        let address = self.address(path)?;
        let mut request = agent()?.get(&address);
        if self.token.is_some() {
            request = request.header("Authorization", self.bearer());
        }
        let text = self.heard(request.call(), ANSWER_MAX_BYTES)?;
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// The community that the platform serves, and what time it is there: a demo's time runs faster.
    pub(super) fn about(&self) -> Result<(CommunityId, Timestamp), CliError> {
        let about = self.get("/api/v1/platform")?;
        let text = |name: &str| about[name].as_str().unwrap_or_default();
        let strange = |what: &str| anyhow!("the platform at {} names no {what}", self.url);
        let community = CommunityId::new(text("community")).map_err(|_| strange("community"))?;
        let now = text("now").parse().map_err(|_| strange("time"))?;
        Ok((community, now))
    }

    /// Gets every row of a list of the API, page by page.
    pub(super) fn get_list(&self, path: &str) -> Result<Vec<Value>, CliError> {
        let mut rows: Vec<Value> = Vec::new();
        let mut page = format!("{path}?limit=1000");
        loop {
            let list = self.get(&page)?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            rows.extend(items);
            match list["next"].as_str() {
                Some(next) if rows.len() < ROWS_MAX => {
                    page = format!("{path}?limit=1000&after={next}");
                }
                _ => return Ok(rows),
            }
        }
    }

    /// Gets a text as it is, of at most so many bytes.
    pub(super) fn get_text(&self, path: &str, most: u64) -> Result<String, CliError> {
        let address = self.address(path)?;
        let bytes = self.heard(agent()?.get(&address).call(), most)?;
        let strange = |_| anyhow!("the platform at {} answers with no text", self.url);
        Ok(String::from_utf8(bytes).map_err(strange)?)
    }

    /// Gets the bytes at a path, of at most so many; none where there is nothing.
    pub(super) fn find(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, CliError> {
        let address = self.address(path)?;
        match agent()?.get(&address).call() {
            Ok(answer) if answer.status() == ureq::http::StatusCode::NOT_FOUND => Ok(None),
            answer => self.heard(answer, most).map(Some),
        }
    }

    /// Posts signed bytes, and gives the platform's answer.
    pub(super) fn post(&self, path: &str, signed: &[u8]) -> Result<Value, CliError> {
        let address = self.address(path)?;
        let request = agent()?.post(&address).content_type("application/cose");
        let text = self.heard(request.send(signed), ANSWER_MAX_BYTES)?;
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// Posts JSON, and gives the platform's answer.
    pub(super) fn post_json(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        let address = self.address(path)?;
        let mut request = agent()?.post(&address).content_type("application/json");
        if self.token.is_some() {
            request = request.header("Authorization", self.bearer());
        }
        let text = self.heard(request.send(body.to_string()), ANSWER_MAX_BYTES)?;
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    fn address(&self, path: &str) -> Result<String, CliError> {
        let host = self.url.trim_end_matches('/');
        if !is_address(host) {
            return Err(CliError::BadInput(format!(
                "--url {}: an address like http://127.0.0.1:8080 or https://street.example",
                self.url
            )));
        }
        Ok(format!("{host}{path}"))
    }

    /// The answer's body; a refusal becomes the sentence in it. Being told to wait is none: the same may be said again.
    fn heard(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        most: u64,
    ) -> Result<Vec<u8>, CliError> {
        let unheard =
            |error: ureq::Error| anyhow!("no answer from the platform at {}: {error}", self.url);
        let mut answer = answer.map_err(unheard)?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(most);
        let body = body.read_to_vec().map_err(unheard)?;
        if status.is_success() {
            return Ok(body);
        }
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        let told = value["detail"].as_str().map(str::to_owned);
        let told = told.unwrap_or_else(|| format!("the platform at {} answers {status}", self.url));
        Err(match status {
            ureq::http::StatusCode::TOO_MANY_REQUESTS => anyhow!(Later(told)).into(),
            status if status.is_client_error() => CliError::CheckFailed(told),
            _ => anyhow!(told).into(),
        })
    }
}

fn agent() -> anyhow::Result<ureq::Agent> {
    https::agent(PATIENCE, None)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What comes of a post that a platform answers with this status.
    fn answered(status: &str) -> CliError {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let body = "{\"detail\":\"Too many requests: wait 7 s.\"}";
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let platform = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"a word") {
                let mut some = [0; 1024];
                let read = stream.read(&mut some).unwrap();
                asked.extend_from_slice(&some[..read]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let error = Client::new(&url).post("/api/v1/keys/introductions", b"a word");
        platform.join().unwrap();
        error.unwrap_err()
    }

    #[test]
    fn who_is_told_to_wait_was_not_refused() {
        let wait = answered("429 Too Many Requests");
        assert!(is_to_wait(&wait), "{wait}");
        assert!(wait.to_string().contains("wait 7 s"), "{wait}");
        let refused = answered("422 Unprocessable Entity");
        assert!(matches!(refused, CliError::CheckFailed(_)), "{refused}");
        let broken = answered("503 Service Unavailable");
        assert!(matches!(broken, CliError::Environment(_)), "{broken}");
        assert!(!is_to_wait(&broken), "{broken}");
    }

    #[test]
    fn an_address_is_one_of_the_web() {
        let good = Client::new("http://127.0.0.1:9000/").address("/api/v1/keys");
        assert_eq!(good.unwrap(), "http://127.0.0.1:9000/api/v1/keys");
        for bad in ["127.0.0.1:9000", "ftp://street.example", "http://", ""] {
            let told = Client::new(bad).address("/").unwrap_err().to_string();
            assert!(told.contains("--url"), "{told}");
        }
    }
}
