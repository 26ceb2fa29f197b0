//! The HTTP side: the pages and their live events, receipts, and the way to the API.

pub(crate) mod bill;
mod chart;
pub(crate) mod field;
mod house;
pub(crate) mod layout;
pub(crate) mod listeners;
mod number;
pub(crate) mod pages;
mod verify;
pub(crate) mod words;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router, middleware};
use futures_util::Stream;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::auth::{self, Accounts, Viewer};
use crate::platform::{AnswerTo, Command, OrderAnswer, OrderMessage, Shared, alarms};
use crate::view;
use listeners::{Listeners, Place, for_a_while};

/// Largest request body: a signed order is far smaller.
pub(crate) const BODY_MAX_BYTES: usize = domain::signed::MESSAGE_MAX_BYTES;
/// Pages that read a year or replay a month at the same time; further ones are refused.
const HEAVY_MAX: usize = 2;
/// Batches of readings over HTTP that are taken in at the same time; further ones are refused.
const DELIVERIES_MAX: usize = 8;
/// How long requests that are under way may take once everything stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Shortest time between two updates of one page.
const UPDATE_PAUSE: Duration = Duration::from_millis(400);

/// Shortest time between two looks for alarms.
const WATCH_PAUSE: Duration = Duration::from_secs(5);

/// What is no page runs no script and loads nothing.
const CONTENT_POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page may load our style and pictures and run the scripts that carry its nonce, and nothing from anybody
/// else.
pub(crate) fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
}

/// The checker of receipts: parts with one job each, as one script, so that a page that somebody saves brings it along.
const VERIFY: &str = concat!(
    include_str!("../static/verify/bytes.js"),
    include_str!("../static/verify/json.js"),
    include_str!("../static/verify/cbor.js"),
    include_str!("../static/verify/messages.js"),
    include_str!("../static/verify/signed.js"),
    include_str!("../static/verify/log.js"),
    include_str!("../static/verify/forms.js"),
    include_str!("../static/verify/money.js"),
    include_str!("../static/verify/keys.js"),
    include_str!("../static/verify/trade.js"),
    include_str!("../static/verify/proof.js"),
    include_str!("../static/verify/charging.js"),
    include_str!("../static/verify/check.js"),
    include_str!("../static/verify/page.js"),
);

/// 128 random bits that nobody can know before the page is there.
fn nonce() -> String {
    // Without random numbers the scripts do not run, which the pages do not need.
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => domain::ids::to_hex(&bytes),
        Err(_) => String::new(),
    }
}

/// The kind of every error's body.
pub(crate) const PROBLEM: &str = "application/problem+json";

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Web {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) street: watch::Receiver<Arc<view::Street>>,
    pub(crate) stop: CancellationToken,
    pub(crate) listeners: Arc<Listeners>,
    /// Pages that read much: few at a time, so that the market is not held up.
    pub(crate) heavy: Arc<Semaphore>,
    /// Batches of readings that are being taken in.
    pub(crate) deliveries: Arc<Semaphore>,
    pub(crate) accounts: Arc<Accounts>,
    /// Who mails links to sign in, where the site says who does.
    pub(crate) mailer: Option<Arc<auth::Mailer>>,
    pub(crate) requests: Arc<crate::api::Requests>,
    pub(crate) under_way: Arc<crate::api::UnderWay>,
    /// The run that a researcher has asked for.
    pub(crate) lab: crate::platform::lab::Desk,
    /// The operator's alarms.
    pub(crate) alarms: Arc<Mutex<view::alarms::Board>>,
}

/// The part of a page that is renewed on its own.
pub(crate) struct Section {
    /// The id of its element and the name of its event.
    pub(crate) name: &'static str,
    /// Its inner HTML.
    pub(crate) html: String,
}

impl Web {
    /// Hands a message about an order to the core and waits for what becomes of it; none where too many wait.
    pub(crate) async fn decide(&self, message: OrderMessage) -> Option<OrderAnswer> {
        let (answer, outcome) = oneshot::channel();
        let command = Command::Order {
            message: Box::new(message),
            answer: AnswerTo::Caller(answer),
        };
        self.commands.try_send(command).ok()?;
        Some(outcome.await.unwrap_or(OrderAnswer::Unavailable))
    }

    /// A web side over a platform's ends.
    pub(crate) fn new(
        shared: Arc<Shared>,
        commands: mpsc::Sender<Command>,
        street: watch::Receiver<Arc<view::Street>>,
        stop: CancellationToken,
    ) -> anyhow::Result<Web> {
        let accounts = Accounts::new(
            shared.db.clone(),
            &shared.community.operator,
            shared.site.public_url.clone(),
        );
        let accounts = accounts.with_writes_per_minute(shared.site.writes_per_minute_max);
        let accounts = Arc::new(accounts);
        let mailer = auth::Mailer::of(&shared.site)?;
        Ok(Web {
            mailer: mailer.map(Arc::new),
            shared,
            commands,
            street,
            stop,
            listeners: Arc::default(),
            heavy: Arc::new(Semaphore::new(HEAVY_MAX)),
            deliveries: Arc::new(Semaphore::new(DELIVERIES_MAX)),
            accounts,
            requests: Arc::default(),
            under_way: Arc::default(),
            lab: crate::platform::lab::Desk::default(),
            alarms: Arc::default(),
        })
    }
}

/// Looks for alarms once.
async fn look_for_alarms(web: &Web, street: &view::Street) -> anyhow::Result<()> {
    let seen = view::grid::seen(&web.shared, street).await?;
    let found = view::alarms::standing(&seen);
    let people = web.accounts.now();
    let gone = {
        let mut board = web.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = board.take(street.now, &found);
        board.wake(people);
        gone
    };
    alarms::went(&web.shared.db, people, &gone).await
}

/// Looks for alarms as the street changes, until everything stops.
async fn watch(web: Web) {
    let mut street = web.street.clone();
    match alarms::remembered(&web.shared.db, web.accounts.now()).await {
        Ok(said) => {
            let mut board = web.alarms.lock().unwrap_or_else(PoisonError::into_inner);
            board.remember_said(said);
        }
        Err(error) => tracing::error!("what was said to alarms could not be read: {error:#}"),
    }
    loop {
        let now = street.borrow_and_update().clone();
        if let Err(error) = look_for_alarms(&web, &now).await {
            tracing::error!("alarms could not be looked for: {error:#}");
        }
        tokio::select! {
            () = web.stop.cancelled() => return,
            () = tokio::time::sleep(WATCH_PAUSE) => {}
        }
        if street.changed().await.is_err() {
            return;
        }
    }
}

/// Serves until the token of `web` is cancelled; a request that is only half sent by then is cut off.
pub(crate) async fn serve(listener: tokio::net::TcpListener, web: Web) -> anyhow::Result<()> {
    let stop = web.stop.clone();
    tokio::spawn(watch(web.clone()));
    let routes = router(web).into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, routes);
    let server = server.with_graceful_shutdown(stop.clone().cancelled_owned());
    let patience = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        ended = server => Ok(ended?),
        () = patience => Ok(()),
    }
}

fn router(web: Web) -> Router {
    let fixed =
        |name, value| SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value));
    Router::new()
        .merge(pages::routes())
        .route("/street.svg", get(picture))
        .route(
            "/verify",
            get(verify::page)
                .post(verify::verify)
                .layer(DefaultBodyLimit::max(verify::FORM_MAX_BYTES)),
        )
        .merge(crate::api::routes(&web))
        .merge(auth::routes())
        .route(
            "/static/style.css",
            get(|| asset("text/css", include_str!("../static/style.css"))),
        )
        .route(
            "/static/app.js",
            get(|| asset("text/javascript", include_str!("../static/app.js"))),
        )
        .route(
            "/static/verify.js",
            get(|| asset("text/javascript", VERIFY)),
        )
        .route(
            "/static/passkey.js",
            get(|| asset("text/javascript", include_str!("../static/passkey.js"))),
        )
        .route(
            "/static/icon.svg",
            get(|| asset("image/svg+xml", include_str!("../static/icon.svg"))),
        )
        .fallback(pages::nothing)
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(middleware::from_fn_with_state(
            web.clone(),
            auth::limit_writes,
        ))
        .layer(middleware::from_fn_with_state(web.clone(), note))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(CONTENT_POLICY),
        ))
        .layer(fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // With no-referrer browsers would hide from us that a form is our own.
        .layer(fixed(header::REFERRER_POLICY, "same-origin"))
        .layer(CatchPanicLayer::new())
        .with_state(web)
}

async fn asset(kind: &'static str, text: &'static str) -> Response {
    (
        [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "max-age=300"),
        ],
        text,
    )
        .into_response()
}

async fn picture(State(web): State<Web>) -> Response {
    let street = web.street.borrow().clone();
    let site = &web.shared.site;
    let svg = house::picture(&street, site.time_zone, &site.currency).into_string();
    self::svg(svg)
}

/// A picture that stands alone: it brings its own style, and nothing else.
pub(crate) fn svg(text: String) -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, text).into_response()
}

/// Sends each section of a page whenever its HTML has changed, all of them at first. After some minutes the
/// stream ends: who the viewer is was looked at when it began, and is looked at again when the page comes back.
pub(crate) fn live<F: Future<Output = Vec<Section>> + Send + 'static>(
    web: Web,
    viewer: &Viewer,
    sections: impl Fn(Arc<view::Street>) -> F + Send + 'static,
) -> Response {
    let place = match web.listeners.enter(&viewer.address) {
        Ok(place) => place,
        Err(why) => return problem(StatusCode::SERVICE_UNAVAILABLE, why),
    };
    Sse::new(for_a_while(updates(web, sections, place)))
        .keep_alive(KeepAlive::default())
        .into_response()
}

fn updates<S, F>(
    web: Web,
    sections: S,
    place: Place,
) -> impl Stream<Item = Result<Event, Infallible>>
where
    S: Fn(Arc<view::Street>) -> F + Send + 'static,
    F: Future<Output = Vec<Section>> + Send + 'static,
{
    struct Listener<S> {
        web: Web,
        sections: S,
        sent: Vec<(&'static str, String)>,
        waiting: Vec<Event>,
        _place: Place,
    }
    let start = Listener {
        web,
        sections,
        sent: Vec::new(),
        waiting: Vec::new(),
        _place: place,
    };
    futures_util::stream::unfold(start, |mut listener| async move {
        loop {
            if let Some(event) = listener.waiting.pop() {
                return Some((Ok(event), listener));
            }
            if !listener.sent.is_empty() {
                tokio::select! {
                    () = listener.web.stop.cancelled() => return None,
                    changed = listener.web.street.changed() => changed.ok()?,
                }
                tokio::time::sleep(UPDATE_PAUSE).await;
            }
            let street = listener.web.street.borrow_and_update().clone();
            for section in (listener.sections)(street).await {
                let known = listener
                    .sent
                    .iter_mut()
                    .find(|(name, _)| *name == section.name);
                match known {
                    Some((_, html)) if *html == section.html => continue,
                    Some((_, html)) => html.clone_from(&section.html),
                    None => listener.sent.push((section.name, section.html.clone())),
                }
                listener
                    .waiting
                    .push(Event::default().event(section.name).data(section.html));
            }
            if listener.sent.is_empty() {
                // A page without sections has nothing to say, ever.
                return None;
            }
        }
    })
}

/// A path for the log. Whoever has a sign-in link or a receipt's name may use it, so neither is written there.
fn without_secret(path: &str) -> String {
    let secret = [
        "/sign-in/",
        "/receipts/",
        "/sessions/",
        "/api/v1/receipts/",
        "/api/v1/sessions/",
    ];
    match secret.iter().find(|before| path.starts_with(**before)) {
        Some(before) => format!("{before}…"),
        None => path.to_owned(),
    }
}

/// Counts every answer, and writes to the log under which reference which request was refused.
async fn note(State(web): State<Web>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = without_secret(request.uri().path());
    let response = next.run(request).await;
    web.requests.count(response.status());
    if let Some(Reference(reference)) = response.extensions().get() {
        let status = response.status().as_u16();
        tracing::info!(reference, status, %method, path, "refused");
    }
    response
}

/// Names an answer in the log.
#[derive(Clone)]
pub(crate) struct Reference(pub(crate) String);

impl Reference {
    fn new() -> Reference {
        // Without random numbers nothing else works either; the log has the time.
        let mut bytes = [0; 8];
        let _ = getrandom::fill(&mut bytes);
        Reference(domain::ids::to_hex(&bytes))
    }
}

/// Something failed here: what it was is in the log under the answer's reference.
pub(crate) fn broken(what: &str, error: &dyn std::fmt::Display) -> Response {
    let reference = Reference::new();
    tracing::error!(reference = reference.0, "{what}: {error}");
    problem_named(
        reference,
        StatusCode::INTERNAL_SERVER_ERROR,
        "Something went wrong here; nothing was lost. Try again.",
        None,
    )
}

/// An error as `application/problem+json`.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response {
    problem_named(Reference::new(), status, detail, None)
}

/// An error with its reason as a word, for programs.
pub(crate) fn problem_because(status: StatusCode, detail: &str, reason: &str) -> Response {
    problem_named(Reference::new(), status, detail, Some(reason))
}

fn problem_named(
    reference: Reference,
    status: StatusCode,
    detail: &str,
    reason: Option<&str>,
) -> Response {
    let mut body = serde_json::json!({
        "title": status.canonical_reason().unwrap_or("error"),
        "status": status.as_u16(),
        "detail": detail,
        "reference": reference.0,
    });
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    let kind = [(header::CONTENT_TYPE, PROBLEM)];
    (status, Extension(reference), kind, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::without_secret;

    #[test]
    fn what_opens_something_is_not_in_the_log() {
        for (path, logged) in [
            ("/sign-in/abc", "/sign-in/…"),
            ("/receipts/018f-abc.json", "/receipts/…"),
            ("/receipts/018f/h-1.json", "/receipts/…"),
            ("/api/v1/receipts/018f-abc", "/api/v1/receipts/…"),
            ("/sessions/0a1b/stop", "/sessions/…"),
            ("/api/v1/sessions/0a1b", "/api/v1/sessions/…"),
            ("/sign-in", "/sign-in"),
            ("/home/trades/018f", "/home/trades/018f"),
        ] {
            assert_eq!(without_secret(path), logged);
        }
    }
}
