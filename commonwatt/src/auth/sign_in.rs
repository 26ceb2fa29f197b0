//! Signing in by a one-time link, and out again.
//!
//! A link shows a button, and only the button's POST uses it up: whatever previews links does not.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

use super::guard::{Posted, allow, said_by_our_page};
use super::limit::SIGN_INS;
use super::role::{Role, Roles};
use super::viewer::{Viewer, session_of};
use super::{Who, session, store};
use crate::web::{Web, broken, problem};

/// Longest secret of a link that is looked up.
const SECRET_MAX_BYTES: usize = 64;

/// The pages of signing in and out.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/sign-in", get(ask))
        .route("/sign-in/{link}", get(look).post(enter))
        .route("/sign-out", post(leave))
}

/// Where somebody who has signed in begins.
fn first_page(_roles: Roles) -> &'static str {
    "/"
}

/// What a person without a link sees.
async fn ask(viewer: Viewer) -> Response {
    let inside = match viewer.account() {
        Some(account) => html! {
            h1 { "You are signed in as " (account.name) "." }
            form method="post" action="/sign-out" { (viewer.csrf_field()) button { "Sign out" } }
        },
        None => html! {
            h1 { "You sign in with a link." }
            p { "Whoever runs this community gives you one, printed or by mail. It is good once; "
                "after that this device stays signed in." }
        },
    };
    page(StatusCode::OK, &inside)
}

/// Shows the button of a link, and does not use the link up.
async fn look(State(web): State<Web>, viewer: Viewer, Path(link): Path<String>) -> Response {
    if let Err(refused) = may_try(&web, &viewer) {
        return *refused;
    }
    let found = match link.len() <= SECRET_MAX_BYTES {
        true => store::of_link(&web.accounts.db, web.accounts.now(), &link).await,
        false => Ok(None),
    };
    match found {
        Ok(Some(account)) => {
            let kinds: Vec<&str> = account.roles.iter().map(Role::word).collect();
            page(
                StatusCode::OK,
                &html! {
                    h1 { "Sign in as " (account.name) }
                    p { "This link is for " (kinds.join(" and ")) ". It is good once." }
                    form method="post" { button { "Sign in" } }
                },
            )
        }
        Ok(None) => no_link(),
        Err(error) => broken("a link could not be read", &format!("{error:#}")),
    }
}

/// Uses a link up and begins a session.
async fn enter(
    State(web): State<Web>,
    viewer: Viewer,
    headers: HeaderMap,
    Path(link): Path<String>,
) -> Response {
    let accounts = &web.accounts;
    if let Err(refused) = may_try(&web, &viewer) {
        return *refused;
    }
    if !said_by_our_page(&headers, accounts) {
        let detail = "Sign in from the page that the link shows.";
        return problem(StatusCode::FORBIDDEN, detail);
    }
    if link.len() > SECRET_MAX_BYTES {
        return no_link();
    }
    let before = session_of(&headers, accounts);
    let (db, now) = (&accounts.db, accounts.now());
    match store::sign_in(db, now, &link, before.as_deref(), &viewer.address).await {
        Ok(Some((account, secret))) => {
            tracing::info!(account = account.name, "signed in");
            let cookie = session::set_cookie(accounts.is_secure(), Some(&secret));
            with_cookie(
                Redirect::to(first_page(account.roles)).into_response(),
                &cookie,
            )
        }
        Ok(None) => no_link(),
        Err(error) => broken("nobody could be signed in", &format!("{error:#}")),
    }
}

#[derive(Deserialize)]
struct Nothing {}

/// Ends the session.
async fn leave(State(web): State<Web>, posted: Posted<Nothing>) -> Response {
    let accounts = &web.accounts;
    let Nothing {} = posted.form;
    let viewer = &posted.viewer;
    if let Some(session) = viewer.session() {
        let ended = store::sign_out(&accounts.db, accounts.now(), session, viewer.by()).await;
        if let Err(error) = ended {
            return broken("nobody could be signed out", &format!("{error:#}"));
        }
    }
    let cookie = session::set_cookie(accounts.is_secure(), None);
    with_cookie(Redirect::to("/").into_response(), &cookie)
}

fn may_try(web: &Web, viewer: &Viewer) -> Result<(), Box<Response>> {
    // An address that is no address is everybody's together.
    let who = viewer.address.parse().map_or(Who::Others, Who::at);
    allow(&web.accounts, SIGN_INS, who)
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    no_store(response)
}

fn no_store(mut response: Response) -> Response {
    let value = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
    response
}

fn no_link() -> Response {
    page(
        StatusCode::NOT_FOUND,
        &html! {
            h1 { "This link is not good any more." }
            p { "It was used, it is too old, or a letter is missing. Ask for a new one: "
                "whoever runs this community makes it with " code { "commonwatt accounts link" } "." }
        },
    )
}

fn page(status: StatusCode, inside: &Markup) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { "Commonwatt · sign in" }
                link rel="stylesheet" href="/static/style.css";
            }
            body {
                header { a.brand href="/" { "Commonwatt" } }
                main { section.headline { (inside) } }
            }
        }
    };
    no_store((status, markup).into_response())
}
