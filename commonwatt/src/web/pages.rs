//! The pages of every kind of person, and who may see which: what a person may not see is not there.
//!
//! A page is a function of plain data and of the reader's words. Handlers gather the data, bounded, and hand
//! it over.

mod alarms;
mod charge;
mod devices;
mod driver;
mod energy;
mod feeder;
mod flow;
mod grid;
mod home;
mod lab;
mod letter;
mod limits;
mod log;
mod market;
mod orders;
mod preferences;
mod receipt;
mod session;
mod statement;
mod stations;
mod street;
mod tokens;
mod trade;

pub(crate) use alarms::texts as alarm_texts;
pub(crate) use receipt::{
    HERE, linked as linked_file, linked_receipt, meaning, steps as receipt_steps,
};
pub(crate) use street::{HOMES_MIN, answer, sum_w};

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use domain::ids::ParticipantId;
use maud::{Markup, html};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::layout::{self, Frame, Page};
use super::words::{self, Language, Words};
use super::{Section, Web, broken};
use crate::auth::{Role, Viewer, nothing_here};
use crate::view::{Street, alarms::Board};

/// The pages' routes.
pub(crate) fn routes() -> Router<Web> {
    Router::new()
        .route("/", get(street::show))
        .route("/events", get(street::events))
        .route("/home", get(home::show))
        .route("/home/events", get(home::events))
        .route("/home/energy", get(energy::show))
        .route("/home/market", get(market::show))
        .route("/home/orders", get(orders::show).post(orders::place))
        .route(
            "/home/orders/{sequence}/withdraw",
            axum::routing::post(orders::withdraw),
        )
        .route("/trades", get(trade::list))
        .route("/home/trades", get(trade::list))
        .route("/home/trades/{id}", get(trade::show))
        .route(
            "/home/preferences",
            get(preferences::show).post(preferences::save),
        )
        .route("/home/statement", get(statement::newest))
        .route("/home/statement/{month}", get(statement::show))
        .route("/home/letter", get(letter::newest))
        .route("/home/letter/{month}", get(letter::show))
        .route("/home/devices", get(devices::show))
        .route("/charge", get(charge::list))
        .route("/charge/{id}", get(charge::show).post(charge::begin))
        .route("/driver", get(driver::show))
        .route("/stations", get(stations::list))
        .route("/stations/{id}/{month}", get(stations::show))
        .route("/receipts/{name}", get(receipt::named))
        .route("/receipts/{trade}/{participant}", get(receipt::own))
        .route("/sessions/{id}", get(session::show))
        .route("/sessions/{id}/events", get(session::events))
        .route("/sessions/{id}/stop", axum::routing::post(session::stop))
        .route("/sessions/{id}/{file}", get(session::file))
        .route("/grid", get(grid::show))
        .route("/grid/events", get(grid::events))
        .route("/grid/feeders/{id}", get(feeder::show))
        .route("/grid/limits", get(limits::show))
        .route("/grid/activations", get(limits::activations))
        .route("/grid/alarms", get(alarms::show).post(alarms::say))
        .route("/grid/data", get(grid::data))
        .route("/grid/log", get(grid::log))
        .route("/grid/tokens", get(tokens::board).post(tokens::request))
        .route(
            "/grid/tokens/{id}/{step}",
            axum::routing::post(tokens::step),
        )
        .route("/home/tokens", get(tokens::own))
        .route(
            "/home/tokens/{id}/cancel",
            axum::routing::post(tokens::take_back),
        )
        .route("/lab", get(lab::list))
        .route("/lab/compare", get(lab::compare))
        .route("/lab/dictionary", get(lab::dictionary))
        .route("/lab/{run}", get(lab::show))
        .route("/lab/{run}/{figure}", get(lab::figure))
        .route("/log", get(log::show))
        .route("/language", get(language))
}

/// A request for a page: who asks, in which language, and the street as it stands.
pub(crate) struct Ask {
    pub(crate) web: Web,
    pub(crate) viewer: Viewer,
    pub(crate) words: Words,
    pub(crate) street: Arc<Street>,
    /// What the page's own scripts are marked with, new for each request.
    pub(crate) nonce: String,
    path: String,
}

impl FromRequestParts<Web> for Ask {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Response> {
        let viewer = Viewer::from_request_parts(parts, web).await?;
        let street = web.street.borrow().clone();
        Ok(Ask {
            words: words_for(web, &parts.headers, &viewer),
            viewer,
            street,
            nonce: super::nonce(),
            path: parts.uri.path().to_owned(),
            web: web.clone(),
        })
    }
}

/// The words of a request.
pub(crate) fn words_for(web: &Web, headers: &HeaderMap, viewer: &Viewer) -> Words {
    let site = &web.shared.site;
    let own = viewer.account().and_then(|own| own.language.as_deref());
    Words {
        language: words::language_of(headers, own.and_then(Language::of_tag)),
        zone: site.time_zone,
        currency: site.currency.clone(),
    }
}

impl Ask {
    /// The household whose pages these are; for everybody else there are none.
    #[expect(
        clippy::result_large_err,
        reason = "the answer is what a handler returns as it is"
    )]
    fn home(&self) -> Result<ParticipantId, Response> {
        self.viewer.home().cloned().ok_or_else(|| self.missing())
    }

    /// Whether the viewer is of this kind.
    #[expect(
        clippy::result_large_err,
        reason = "the answer is what a handler returns as it is"
    )]
    fn only(&self, role: Role) -> Result<(), Response> {
        if self.viewer.is(role) {
            Ok(())
        } else {
            Err(self.missing())
        }
    }

    /// The page as an answer. It is for this viewer and this moment.
    pub(crate) fn show(&self, page: &Page) -> Response {
        let frame = Frame::of(&self.words, &self.viewer, &self.path, &self.street);
        let page = layout::render(&frame, &self.nonce, page);
        let policy = [(header::CONTENT_SECURITY_POLICY, super::policy(&self.nonce))];
        private((policy, page).into_response())
    }

    /// What cannot be read is said to the log, and to the viewer that nothing was lost.
    fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> Response {
        broken(what, error)
    }

    /// One of the few turns for pages that read much; the answer where all are taken.
    #[expect(
        clippy::result_large_err,
        reason = "the answer is what a handler returns as it is"
    )]
    fn turn(&self) -> Result<OwnedSemaphorePermit, Response> {
        let turn = Arc::clone(&self.web.heavy).try_acquire_owned();
        turn.map_err(|_| {
            let words = &self.words;
            let page = Page {
                title: words.t("page.busy").to_owned(),
                above: String::new(),
                answer: words.t("page.busy").to_owned(),
                below: html! { (words.t("page.busy_why")) },
                body: html! { p.ways-on { a.button href=(self.path) { (words.t("page.again")) } } },
                live: None,
            };
            let mut response = self.show(&page);
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        })
    }

    /// The page for an address at which there is nothing for this viewer.
    pub(crate) fn missing(&self) -> Response {
        let words = &self.words;
        let page = Page {
            title: words.t("page.missing").to_owned(),
            above: String::new(),
            answer: words.t("page.missing").to_owned(),
            below: html! { (words.t("page.missing_why")) },
            body: html! { p.ways-on {
                a.button href="/" { (words.t("nav.street")) }
                a.button href="/sign-in" { (words.t("nav.sign_in")) }
            } },
            live: None,
        };
        let mut response = self.show(&page);
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
    }
}

/// The answer to an address that nobody has, as a page for people and as a problem for programs.
pub(crate) async fn nothing(headers: HeaderMap, ask: Ask) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    if accept.is_some_and(|kinds| kinds.contains("text/html")) {
        ask.missing()
    } else {
        nothing_here()
    }
}

fn private(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-store"),
    );
    headers.insert(
        header::VARY,
        HeaderValue::from_static("cookie, accept-language"),
    );
    response
}

/// A table as CSV, to be saved under this name.
fn csv(name: &str, lines: &[String]) -> Response {
    let mut text = lines.join("\n");
    text.push('\n');
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}.csv\""),
        ),
    ];
    private((headers, text).into_response())
}

/// The part of a page that is renewed on its own.
fn section(name: &'static str, markup: Markup) -> Section {
    Section {
        name,
        html: markup.into_string(),
    }
}

/// The alarms as they stand, for whoever may see them.
pub(crate) fn board(web: &Web) -> Board {
    web.alarms
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .clone()
}

#[derive(Deserialize)]
struct Chosen {
    to: String,
    #[serde(default)]
    back: String,
}

/// Whether this is a path of this site for every browser: some drop control characters and take `\` for `/`.
fn is_ours(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && !path.chars().any(|c| c == '\\' || c.is_control())
}

/// Keeps a language in a cookie and goes back to where the reader was.
async fn language(State(web): State<Web>, Query(chosen): Query<Chosen>) -> Response {
    let language = Language::of_tag(&chosen.to).unwrap_or_default();
    let back = if is_ours(&chosen.back) {
        chosen.back.as_str()
    } else {
        "/"
    };
    let secure = if web.accounts.is_secure() {
        "; Secure"
    } else {
        ""
    };
    let cookie = format!(
        "{}={}; Path=/; Max-Age=31536000; SameSite=Lax{secure}",
        words::COOKIE,
        language.tag()
    );
    let mut response = Redirect::to(back).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_never_leads_to_another_site() {
        for ours in ["/", "/home", "/home/energy?period=day&date=2026-06-21"] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in [
            "",
            "https://evil.example",
            "//evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/\r/evil.example",
            "/\0/evil.example",
            "/\\evil.example",
            "\t//evil.example",
        ] {
            assert!(!is_ours(other), "{other:?}");
        }
    }
}
