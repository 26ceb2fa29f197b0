//! What every answer of the API has: errors as problem+json, an `ETag`, HEAD like GET, OPTIONS with `Allow`.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::ids::{Digest32, to_hex};

use crate::web::{PROBLEM, problem};

/// Largest answer that is read again here to name it; larger ones have no `ETag`.
const NAMED_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Longest text of an error that is taken over.
const DETAIL_MAX_BYTES: usize = 4 * 1024;

/// Around every handler of the API.
pub(super) async fn polish(mut request: Request, next: Next) -> Response {
    let asked = request.method().clone();
    if asked == Method::HEAD {
        // The server leaves the body out by itself, and the answer is otherwise that to GET.
        *request.method_mut() = Method::GET;
    }
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let response = next.run(request).await;
    if asked == Method::OPTIONS && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        return options(response.headers());
    }
    if response.status().is_client_error() || response.status().is_server_error() {
        return as_problem(response).await;
    }
    let is_read = matches!(asked, Method::GET | Method::HEAD);
    if is_read && response.status() == StatusCode::OK && is_whole(response.headers()) {
        return named(response, known.as_ref()).await;
    }
    let is_changed = matches!(asked, Method::PATCH | Method::PUT);
    if is_changed && response.status() == StatusCode::OK {
        // The answer is what the resource is now.
        return named(response, None).await;
    }
    response
}

fn options(headers: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(allow) = headers.get(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, allow.clone());
    }
    response
}

fn kind(headers: &HeaderMap) -> &str {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

/// Whether an answer has an end: a stream of events has none.
fn is_whole(headers: &HeaderMap) -> bool {
    !kind(headers).starts_with("text/event-stream")
}

/// An error of axum's own as a problem with the same words.
async fn as_problem(response: Response) -> Response {
    if kind(response.headers()) == PROBLEM {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, DETAIL_MAX_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let detail = match (parts.status, text.trim()) {
        (StatusCode::METHOD_NOT_ALLOWED, _) => "This resource does not take this method.",
        (_, "") => "This could not be understood.",
        (_, text) => text,
    };
    let mut response = problem(parts.status, detail);
    for name in [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// The answer under the name of its bytes, or that the asker has them already.
async fn named(response: Response, known: Option<&HeaderValue>) -> Response {
    let (mut parts, body) = response.into_parts();
    let size = body_size(&body);
    if size.is_none_or(|size| size > NAMED_MAX_BYTES) {
        return Response::from_parts(parts, body);
    }
    let Ok(bytes) = to_bytes(body, NAMED_MAX_BYTES).await else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "The answer broke off.");
    };
    let tag = tag_of(&bytes);
    let value = HeaderValue::from_str(&tag);
    if let Ok(value) = value {
        parts.headers.insert(header::ETAG, value);
    }
    let private = HeaderValue::from_static("private, no-cache");
    parts
        .headers
        .entry(header::CACHE_CONTROL)
        .or_insert(private);
    // Whoever asks decides what is shown, and in which form.
    let vary = HeaderValue::from_static("Accept, Authorization, Cookie");
    parts.headers.insert(header::VARY, vary);
    if known.is_some_and(|known| is_known(known, &tag)) {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

fn body_size(body: &Body) -> Option<usize> {
    use axum::body::HttpBody;
    body.size_hint()
        .exact()
        .and_then(|n| usize::try_from(n).ok())
}

/// What bytes are named by.
pub(super) fn tag_of(bytes: &[u8]) -> String {
    format!("\"{}\"", to_hex(&Digest32::of(bytes).0[..16]))
}

/// Whether a list of names, or `*`, has this one.
pub(super) fn is_known(known: &HeaderValue, tag: &str) -> bool {
    let Ok(known) = known.to_str() else {
        return false;
    };
    let mut tags = known.split(',').map(str::trim);
    tags.any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_known_is_not_sent_again() {
        let answer = || "hello".into_response();
        let first = named(answer(), None).await;
        let tag = first.headers()[header::ETAG].clone();
        assert_eq!(first.status(), StatusCode::OK);
        let again = named(answer(), Some(&tag)).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(to_bytes(again.into_body(), 9).await.unwrap().len(), 0);
        let other = HeaderValue::from_static("\"abc\", W/\"def\"");
        assert_eq!(named(answer(), Some(&other)).await.status(), StatusCode::OK);
        assert!(is_known(
            &HeaderValue::from_static("\"abc\", W/\"def\""),
            "\"def\""
        ));
    }

    #[tokio::test]
    async fn an_error_of_the_framework_becomes_a_problem_with_its_words() {
        let mut refused = (StatusCode::BAD_REQUEST, "limit: invalid digit").into_response();
        refused
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET"));
        let problem = as_problem(refused).await;
        assert_eq!(kind(problem.headers()), PROBLEM);
        assert_eq!(problem.headers()[header::ALLOW], "GET");
        let body = to_bytes(problem.into_body(), 999).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["detail"], "limit: invalid digit");
        assert!(
            body["reference"].as_str().is_some_and(|r| r.len() == 16),
            "{body}"
        );
    }
}
