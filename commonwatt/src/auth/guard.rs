//! What stands before every write: allowances, and that a browser's write comes from a page of ours.

use axum::body::Bytes;
use axum::extract::{Form, FromRequest, FromRequestParts, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::limit::Rate;
use super::viewer::{CSRF_HEADER, Viewer, client};
use super::{ACCOUNT_WRITES, Accounts, Who};
use crate::web::{Web, problem};

/// Lets through what one address may write.
pub(crate) async fn limit_writes(State(web): State<Web>, request: Request, next: Next) -> Response {
    let is_read = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    if !is_read {
        let address = client(request.extensions(), request.headers(), &web.accounts);
        if let Err(refused) = allow(&web.accounts, web.accounts.address_writes, Who::at(address)) {
            return *refused;
        }
    }
    next.run(request).await
}

/// One request out of somebody's allowance, or the answer that there is none left.
fn allow(accounts: &Accounts, rate: Rate, who: Who) -> Result<(), Box<Response>> {
    accounts.allow(rate, who).map_err(|wait_s| {
        let detail = format!("Too many requests: wait {wait_s} s.");
        Box::new(too_often(&detail, wait_s))
    })
}

/// The answer to what came too often, and is to come again after so many seconds.
pub(crate) fn too_often(detail: &str, wait_s: u32) -> Response {
    let mut response = problem(StatusCode::TOO_MANY_REQUESTS, detail);
    let wait = HeaderValue::from(wait_s);
    response.headers_mut().insert(header::RETRY_AFTER, wait);
    response
}

/// Whether a browser sends this from a page of ours. Programs that are no browsers say nothing of it.
pub(crate) fn said_by_our_page(headers: &HeaderMap, accounts: &Accounts) -> bool {
    let text = |name: &str| Some(headers.get(name)?.to_str().unwrap_or("?"));
    // Browsers set it and no script can; `none` is the person's own reload.
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text(header::ORIGIN.as_str()) else {
        return true;
    };
    let public = accounts.public_url.as_deref();
    if public.is_some_and(|public| public.trim_end_matches('/') == origin) {
        return true;
    }
    let host = text(header::HOST.as_str());
    let named = origin.split_once("://").map(|(_, authority)| authority);
    named.is_some() && named == host
}

/// A form that somebody who is signed in has sent from a page of ours.
pub(crate) struct Posted<T> {
    pub(crate) viewer: Viewer,
    pub(crate) form: T,
}

#[derive(Deserialize)]
struct Carried {
    csrf: Option<String>,
}

impl<T: DeserializeOwned> FromRequest<Web> for Posted<T> {
    type Rejection = Response;

    async fn from_request(request: Request, web: &Web) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let viewer = Viewer::from_request_parts(&mut parts, web).await?;
        if !viewer.has_session() {
            return Err(nothing_here());
        }
        let again = parts.clone();
        let body = Bytes::from_request(Request::from_parts(parts.clone(), body), web).await;
        let body = body.map_err(|error| problem(error.status(), &error.body_text()))?;
        let read = async |parts| Request::from_parts(parts, body.clone().into());
        let carried = Form::<Carried>::from_request(read(again).await, web).await;
        let carried = carried.map_err(|error| problem(error.status(), &error.body_text()))?;
        if !said_by_our_page(&parts.headers, &web.accounts)
            || !viewer.is_csrf(carried.0.csrf.as_deref())
        {
            return Err(not_ours());
        }
        within_allowance(&viewer, web).map_err(|refused| *refused)?;
        let form = Form::<T>::from_request(read(parts).await, web).await;
        let Form(form) = form.map_err(|error| problem(error.status(), &error.body_text()))?;
        Ok(Posted { viewer, form })
    }
}

/// Checks a write of the API: somebody who may write, from a page of ours where a session's cookie shows who
/// it is, and within the account's allowance.
pub(crate) fn may_write(
    viewer: &Viewer,
    headers: &HeaderMap,
    web: &Web,
) -> Result<(), Box<Response>> {
    if viewer.has_session() {
        let said = headers.get(CSRF_HEADER);
        let said = said.and_then(|value| value.to_str().ok());
        if !said_by_our_page(headers, &web.accounts) || !viewer.is_csrf(said) {
            return Err(Box::new(not_ours()));
        }
    }
    if viewer.account().is_some() && !viewer.may_write() {
        let detail = "This API token may only read.";
        return Err(Box::new(problem(StatusCode::FORBIDDEN, detail)));
    }
    within_allowance(viewer, web)
}

/// Checks a question that costs much to answer and changes nothing: within the account's allowance.
pub(crate) fn may_ask(viewer: &Viewer, web: &Web) -> Result<(), Box<Response>> {
    within_allowance(viewer, web)
}

/// Checks what anybody may send who reaches the platform: within what the address may send of it.
pub(crate) fn may_send(viewer: &Viewer, web: &Web, rate: Rate) -> Result<(), Box<Response>> {
    // An address that is no address is everybody's together.
    let who = viewer.address.parse().map_or(Who::Others, Who::at);
    allow(&web.accounts, rate, who)
}

fn within_allowance(viewer: &Viewer, web: &Web) -> Result<(), Box<Response>> {
    match viewer.account() {
        Some(account) => {
            let who = Who::Account(account.name.clone());
            allow(&web.accounts, ACCOUNT_WRITES, who)
        }
        None => Ok(()),
    }
}

fn not_ours() -> Response {
    problem(
        StatusCode::FORBIDDEN,
        "This did not come from a page of this session: load the page again and try once more.",
    )
}

/// The answer to whoever asks for what they may not see.
pub(crate) fn nothing_here() -> Response {
    problem(StatusCode::NOT_FOUND, "There is nothing at this address.").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::signed::SigningKey;

    #[tokio::test]
    async fn a_write_comes_from_our_page_or_from_no_browser() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        let db = runtime::db::Db::open(file.to_str().unwrap()).await.unwrap();
        let key = SigningKey::from_bytes(&[7; 32]);
        let plain = Accounts::new(db.clone(), &key, None);
        let public = Accounts::new(db, &key, Some("https://street.example".to_owned()));
        let said = |accounts: &Accounts, headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| {
                let name = header::HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            said_by_our_page(&headers.collect(), accounts)
        };
        let host = ("host", "127.0.0.1:8080");
        assert!(said(&plain, &[host]), "curl");
        assert!(said(&plain, &[host, ("origin", "http://127.0.0.1:8080")]));
        assert!(said(
            &plain,
            &[host, ("origin", "null"), ("sec-fetch-site", "same-origin")]
        ));
        for foreign in ["https://evil.example", "null", "http://127.0.0.1:8081"] {
            assert!(!said(&plain, &[host, ("origin", foreign)]), "{foreign}");
        }
        for site in ["cross-site", "same-site", ""] {
            let ours = ("origin", "http://127.0.0.1:8080");
            assert!(!said(&plain, &[host, ours, ("sec-fetch-site", site)]));
        }
        assert!(said(&public, &[host, ("origin", "https://street.example")]));
        assert!(!said(&plain, &[host, ("origin", "https://street.example")]));
    }
}
