//! `Idempotency-Key`: a write that is sent again with its key is answered as it was, and not done again. Kept
//! for a day for each account; for whoever has none, as drivers, for each address. Signed messages need none: the same
//! bytes again have no effect anyway.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::ids::digest_parts;
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, Migration};

use super::answer::Refused;
use super::openapi::SIGNED;
use crate::auth::Viewer;
use crate::web::{BODY_MAX_BYTES, Web};

const HEADER: &str = "idempotency-key";
/// Longest key.
const KEY_MAX_BYTES: usize = 128;
/// Largest answer that is kept.
const ANSWER_MAX_BYTES: usize = 64 * 1024;
/// How long an answer is kept.
const KEPT_MS: i64 = 24 * 3_600_000;
/// Most answers kept of one account or address; the oldest goes first.
const KEPT_MAX: i64 = 1_000;
/// Most answers kept of all that have no account. Beyond, a write is done and its answer not kept.
const STRANGERS_KEPT_MAX: i64 = 10_000;
/// What an address begins with in the table; no account's name does.
const STRANGER: char = '@';

/// The table of answers.
pub(crate) const MIGRATION: Migration = Migration {
    version: 4011,
    description: "answers to writes with a key",
    sqlite: "
CREATE TABLE account_answer (
    account TEXT NOT NULL,
    key TEXT NOT NULL,
    request BLOB NOT NULL,
    status INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (account, key)
) STRICT;
CREATE INDEX account_answer_at ON account_answer (at_ms);",
    postgres: "
CREATE TABLE account_answer (
    account TEXT NOT NULL,
    key TEXT NOT NULL,
    request BYTEA NOT NULL,
    status BIGINT NOT NULL,
    kind TEXT NOT NULL,
    body BYTEA NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (account, key)
);
CREATE INDEX account_answer_at ON account_answer (at_ms);",
};

/// Where what a write made is.
pub(crate) const WITH_PLACE: Migration = Migration {
    version: 4014,
    description: "answers to writes name what they made",
    sqlite: "ALTER TABLE account_answer ADD COLUMN location TEXT",
    postgres: "ALTER TABLE account_answer ADD COLUMN location TEXT",
};

const KNOWN: &str = "SELECT request, status, kind, body, location FROM account_answer
    WHERE account = $1 AND key = $2 AND at_ms > $3";
const FORGET: &str = "DELETE FROM account_answer WHERE at_ms <= $3 OR (account = $1 AND key = $2)
    OR (account = $1 AND key NOT IN (SELECT key FROM account_answer WHERE account = $1
        ORDER BY at_ms DESC, key LIMIT $4))";
const STRANGERS: &str =
    "SELECT COUNT(*) FROM account_answer WHERE account LIKE '@%' AND at_ms > $1";
const KEEP: &str =
    "INSERT INTO account_answer (account, key, request, status, kind, body, at_ms, location)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Writes with a key that are under way, by account and key: as many as requests.
#[derive(Default)]
pub(crate) struct UnderWay(Mutex<BTreeSet<(String, String)>>);

/// Takes its place out again, however the request ends.
struct Place<'w>(&'w UnderWay, (String, String));

impl UnderWay {
    fn enter(&self, who: (String, String)) -> Option<Place<'_>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.insert(who.clone()).then_some(Place(self, who))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.remove(&self.1);
    }
}

/// Around every write of the API.
pub(super) async fn once(State(web): State<Web>, request: Request, next: Next) -> Response {
    let is_write = matches!(
        *request.method(),
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE
    );
    if !is_write || !request.headers().contains_key(HEADER) || is_signed(request.headers()) {
        return next.run(request).await;
    }
    match with_key(&web, request, next).await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    }
}

/// Whether the body is a signed message, which is its own key.
fn is_signed(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    SIGNED.iter().any(|signed| kind.starts_with(signed))
}

async fn with_key(web: &Web, request: Request, next: Next) -> Result<Response, Refused> {
    let (mut parts, body) = request.into_parts();
    let key = parts.headers.get(HEADER).and_then(|key| key.to_str().ok());
    let key = key.filter(|key| (1..=KEY_MAX_BYTES).contains(&key.len()));
    let key = key.map(str::to_owned).ok_or_else(|| {
        Refused::bad(&format!(
            "Idempotency-Key: 1 to {KEY_MAX_BYTES} visible characters."
        ))
    })?;
    let viewer = Viewer::from_request_parts(&mut parts, web).await;
    let viewer = viewer.map_err(Box::new)?;
    let account = match viewer.account() {
        Some(account) => account.name.clone(),
        None => format!("{STRANGER}{}", viewer.address),
    };
    let body = to_bytes(body, BODY_MAX_BYTES).await.map_err(|_| {
        let detail = format!("A body has at most {BODY_MAX_BYTES} bytes.");
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, &detail)
    })?;
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let said: [&[u8]; 3] = [parts.method.as_str().as_bytes(), path.as_bytes(), &body];
    let said = digest_parts("commonwatt/write/v1", &said);
    let place = web.under_way.enter((account.clone(), key.clone()));
    let _place = place.ok_or_else(|| {
        let detail = "The write with this Idempotency-Key is under way: ask again.";
        Refused::new(StatusCode::CONFLICT, detail)
    })?;
    let (db, now) = (&web.shared.db, web.accounts.now());
    if let Some(answer) = known(db, now, (&account, &key), said).await? {
        return Ok(answer);
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    keep(db, now, (&account, &key), said, response).await
}

/// The answer that was given under this key, or that the key was used for something else.
async fn known(
    db: &Db,
    now: Timestamp,
    (account, key): (&str, &str),
    said: [u8; 32],
) -> Result<Option<Response>, Refused> {
    let since = now.unix_ms().saturating_sub(KEPT_MS);
    type Row = (Vec<u8>, i64, String, Vec<u8>, Option<String>);
    let row: Option<Row> = db.fetch_optional(KNOWN, args![account, key, since]).await?;
    let Some((request, status, kind, body, place)) = row else {
        return Ok(None);
    };
    if request != said {
        let detail = "This Idempotency-Key was used for another request: take a new one.";
        return Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let status = u16::try_from(status).ok();
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.unwrap_or(StatusCode::OK);
    let again = (
        header::HeaderName::from_static("idempotency-replayed"),
        "true",
    );
    let kind = HeaderValue::from_str(&kind).unwrap_or(HeaderValue::from_static("text/plain"));
    let mut response = (status, [again], body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if let Some(Ok(place)) = place.map(HeaderValue::try_from) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(Some(response))
}

/// Keeps what was decided; what failed here or came too often can be tried again with the same key.
async fn keep(
    db: &Db,
    now: Timestamp,
    (account, key): (&str, &str),
    said: [u8; 32],
    response: Response,
) -> Result<Response, Refused> {
    let status = response.status();
    if status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        )
    {
        return Ok(response);
    }
    if account.starts_with(STRANGER) {
        // What has made nothing can be asked again.
        if status != StatusCode::CREATED {
            return Ok(response);
        }
        let since = now.unix_ms().saturating_sub(KEPT_MS);
        let (kept,): (i64,) = db.fetch_one(STRANGERS, args![since]).await?;
        if kept >= STRANGERS_KEPT_MAX {
            return Ok(response);
        }
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, ANSWER_MAX_BYTES).await;
    let body: Bytes = body.map_err(|error| anyhow::anyhow!("an answer is too large: {error}"))?;
    let text = |name| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let kind = text(header::CONTENT_TYPE).unwrap_or("");
    let place = text(header::LOCATION).map(str::to_owned);
    let now_ms = now.unix_ms();
    let mut tx = db.begin().await?;
    let oldest = now_ms.saturating_sub(KEPT_MS);
    tx.execute(FORGET, args![account, key, oldest, KEPT_MAX - 1])
        .await?;
    let values = args![
        account,
        key,
        said,
        i64::from(status.as_u16()),
        kind,
        body.to_vec(),
        now_ms,
        place
    ];
    tx.execute(KEEP, values).await?;
    tx.commit().await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}
