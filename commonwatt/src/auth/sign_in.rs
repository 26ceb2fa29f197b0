//! Signing in, by a one-time link or by a passkey, and out again.
//!
//! A link shows a button, and only the button's POST uses it up: whatever previews links does not.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use serde::Deserialize;

use super::guard::{Posted, may_send, said_by_our_page};
use super::limit::SIGN_INS;
use super::role::{Role, Roles};
use super::viewer::{Viewer, session_of};
use super::{account, mail, session, store};
use crate::web::layout::Page;
use crate::web::pages::Ask;
use crate::web::{Web, broken, problem};

/// Longest secret of a link that is looked up.
const SECRET_MAX_BYTES: usize = 64;

/// The pages of signing in and out.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/sign-in", get(ask))
        .route("/sign-in/mail", post(mail::ask))
        .route("/sign-in/{link}", get(look).post(enter))
        .route("/sign-out", post(leave))
        .merge(account::routes())
}

/// Where somebody who has signed in begins.
pub(super) fn first_page(roles: Roles) -> &'static str {
    let pages = [
        (Role::Home, "/home"),
        (Role::Operator, "/grid"),
        (Role::Researcher, "/lab"),
    ];
    let first = pages.into_iter().find(|(role, _)| roles.has(*role));
    first.map_or("/", |(_, page)| page)
}

/// What a person without a link sees.
async fn ask(ask: Ask, headers: HeaderMap) -> Response {
    if ask.viewer.account().is_some() {
        return no_store(Redirect::to("/account").into_response());
    }
    let words = &ask.words;
    let inside = html! {
        section.card.entry { (account::entering(&ask, &headers)) }
        @if ask.web.mailer.is_some() { section.card.entry {
            form method="post" action="/sign-in/mail" {
                label for="email" { (words.t("entry.email")) }
                input id="email" name="email" type="email" autocomplete="email" required maxlength="254";
                button { (words.t("entry.mail")) }
            }
            p.hint { (words.t("entry.mail_text")) }
        } }
        section.card.entry { p { (words.t("entry.by_link_text")) } }
    };
    page(
        &ask,
        StatusCode::OK,
        words.t("entry.by_link").to_owned(),
        inside,
    )
}

/// Shows the button of a link, and does not use the link up.
async fn look(State(web): State<Web>, ask: Ask, Path(link): Path<String>) -> Response {
    if let Err(refused) = may_try(&web, &ask.viewer) {
        return *refused;
    }
    let found = match link.len() <= SECRET_MAX_BYTES {
        true => store::of_link(&web.accounts.db, web.accounts.now(), &link).await,
        false => Ok(None),
    };
    match found {
        Ok(Some(account)) => {
            let words = &ask.words;
            let answer = words.fill("entry.as", &[("name", &account.name)]);
            let inside = html! { section.card.entry {
                p { (words.t("entry.as_text")) }
                form method="post" { button.primary { (words.t("entry.title")) } }
            } };
            page(&ask, StatusCode::OK, answer, inside)
        }
        Ok(None) => no_link(&ask),
        Err(error) => broken("a link could not be read", &format!("{error:#}")),
    }
}

/// Uses a link up and begins a session.
async fn enter(
    State(web): State<Web>,
    asked: Ask,
    headers: HeaderMap,
    Path(link): Path<String>,
) -> Response {
    let (accounts, viewer) = (&web.accounts, &asked.viewer);
    if let Err(refused) = may_try(&web, viewer) {
        return *refused;
    }
    if !said_by_our_page(&headers, accounts) {
        let detail = "Sign in from the page that the link shows.";
        return problem(StatusCode::FORBIDDEN, detail);
    }
    if link.len() > SECRET_MAX_BYTES {
        return no_link(&asked);
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
        Ok(None) => no_link(&asked),
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

pub(super) fn may_try(web: &Web, viewer: &Viewer) -> Result<(), Box<Response>> {
    may_send(viewer, web, SIGN_INS)
}

pub(super) fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    no_store(response)
}

pub(super) fn no_store(mut response: Response) -> Response {
    let value = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
    response
}

fn no_link(ask: &Ask) -> Response {
    let words = &ask.words;
    let inside = html! { section.card.entry {
        p { (words.t("entry.gone_text")) " " code { "commonwatt accounts link" } }
    } };
    let answer = words.t("entry.gone").to_owned();
    page(ask, StatusCode::NOT_FOUND, answer, inside)
}

pub(super) fn page(ask: &Ask, status: StatusCode, answer: String, inside: Markup) -> Response {
    let page = Page {
        title: ask.words.t("entry.title").to_owned(),
        above: ask.street.community.clone(),
        answer,
        below: html! {},
        body: inside,
        live: None,
    };
    let mut response = ask.show(&page);
    *response.status_mut() = status;
    no_store(response)
}
