//! The page of one's account, and what its script and that of `/sign-in` ask for: passkeys.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::guard::{Posted, may_write, nothing_here, said_by_our_page};
use super::passkey::{HANDLE_LEN, Passkeys, Refused};
use super::sign_in::{first_page, may_try, no_store, page, with_cookie};
use super::store::{self, passkey as kept, settings};
use super::viewer::session_of;
use super::{Accounts, session};
use crate::view::peers;
use crate::web::pages::Ask;
use crate::web::words::Words;
use crate::web::{Web, broken, problem};

/// The account's page, and the requests of its script.
pub(super) fn routes() -> Router<Web> {
    Router::new()
        .route("/account", get(show))
        .route("/account/comparison", post(compare))
        .route("/account/passkeys/begin", post(begin_adding))
        .route("/account/passkeys", post(finish_adding))
        .route("/account/passkeys/remove", post(remove))
        .route("/sign-in/passkey/begin", post(begin_entering))
        .route("/sign-in/passkey", post(finish_entering))
}

/// Who is signed in, with the passkeys and the way out.
async fn show(State(web): State<Web>, ask: Ask, headers: HeaderMap) -> Response {
    let Some(account) = ask.viewer.account() else {
        return no_store(Redirect::to("/sign-in").into_response());
    };
    let all = match kept::list(&web.accounts.db, &account.name).await {
        Ok(all) => all,
        Err(error) => return broken("passkeys could not be read", &format!("{error:#}")),
    };
    let compared = match peers::willing(&web.shared).await {
        Ok(willing) => ask.viewer.home().map(|home| willing.contains(home)),
        Err(error) => return broken("an account could not be read", &format!("{error:#}")),
    };
    let words = &ask.words;
    let answer = words.fill("entry.signed_in", &[("name", &account.name)]);
    let inside = html! {
        section.card.entry {
            h2 { (words.t("passkey.title")) }
            p { (words.t("passkey.text")) }
            @if !all.is_empty() { (list(&ask, &all)) }
            (adding(&ask, &headers))
        }
        @if let Some(compared) = compared { (comparison(&ask, compared)) }
        section.card.entry {
            form method="post" action="/sign-out" {
                (ask.viewer.csrf_field()) button { (words.t("nav.sign_out")) }
            }
        }
    };
    page(&ask, StatusCode::OK, answer, inside)
}

/// Whether the home is compared with others, with the button that changes it.
fn comparison(ask: &Ask, compared: bool) -> Markup {
    let words = &ask.words;
    let (text, button) = match compared {
        true => ("account.compare_on", "account.compare_end"),
        false => ("account.compare_off", "account.compare_allow"),
    };
    html! { section.card.entry {
        h2 { (words.t("account.compare")) }
        p { (words.t(text)) }
        form method="post" action="/account/comparison" {
            (ask.viewer.csrf_field())
            input type="hidden" name="compared" value=(!compared);
            button { (words.t(button)) }
        }
    } }
}

#[derive(Deserialize)]
struct Compared {
    compared: bool,
}

async fn compare(State(web): State<Web>, posted: Posted<Compared>) -> Response {
    let Some(home) = posted.viewer.home() else {
        return nothing_here();
    };
    let (by, now) = (posted.viewer.by(), web.accounts.now());
    let kept = async {
        let mut tx = web.accounts.db.begin().await?;
        settings::set_consent(&mut tx, now, by, home, posted.form.compared).await?;
        anyhow::Ok(tx.commit().await?)
    };
    match kept.await {
        Ok(()) => Redirect::to("/account").into_response(),
        Err(error) => broken("a choice could not be kept", &format!("{error:#}")),
    }
}

fn list(ask: &Ask, all: &[kept::Listed]) -> Markup {
    let words = &ask.words;
    html! { ul.rows.passkeys { @for one in all {
        @let name = if one.name.is_empty() { words.t("passkey.unnamed") } else { &one.name };
        li {
            div {
                b { (name) }
                p.hint {
                    (words.fill("passkey.added", &[("time", &words.moment(one.created))])) " · "
                    @match one.used {
                        Some(at) => (words.fill("passkey.used", &[("time", &words.moment(at))])),
                        None => (words.t("passkey.never")),
                    }
                }
            }
            form method="post" action="/account/passkeys/remove" {
                (ask.viewer.csrf_field())
                input type="hidden" name="id" value=(URL_SAFE_NO_PAD.encode(&one.passkey.id));
                button aria-label=(words.fill("passkey.remove_of", &[("name", name)])) { (words.t("passkey.remove")) }
            }
        }
    } } }
}

fn adding(ask: &Ask, headers: &HeaderMap) -> Markup {
    let words = &ask.words;
    let csrf = ask.viewer.csrf().unwrap_or_default();
    match place(&ask.web.accounts, headers, words) {
        Err(why) => html! { p.hint { (why) } },
        Ok(()) => html! {
            form.drop data-passkey="add" data-csrf=(csrf) hidden {
                label for="passkey-name" { (words.t("passkey.name")) }
                input id="passkey-name" name="name" autocomplete="off" maxlength="40";
                button.primary { (words.t("passkey.add")) }
            }
            (script(ask))
        },
    }
}

/// What a page that signs in by passkey shows.
pub(super) fn entering(ask: &Ask, headers: &HeaderMap) -> Markup {
    let words = &ask.words;
    match place(&ask.web.accounts, headers, words) {
        Err(why) => html! { p.hint { (why) } },
        Ok(()) => html! {
            form data-passkey="enter" hidden { button.primary { (words.t("passkey.enter")) } }
            p.hint { (words.t("passkey.enter_text")) }
            (script(ask))
        },
    }
}

/// The script that talks with the browser's passkeys, and its words.
fn script(ask: &Ask) -> Markup {
    let words = &ask.words;
    html! {
        p id="passkey-said" role="status" data-unable=(words.t("passkey.unable"))
            data-ended=(words.t("passkey.ended")) data-known=(words.t("passkey.known")) {}
        noscript { p.hint { (words.t("passkey.script")) } }
        script src="/static/passkey.js" nonce=(ask.nonce) defer {}
    }
}

/// Whether passkeys work at the address that the browser has opened; else a sentence that says where.
fn place(accounts: &Accounts, headers: &HeaderMap, words: &Words) -> Result<(), String> {
    let Some(passkeys) = &accounts.passkeys else {
        return Err(words.t("passkey.nowhere").to_owned());
    };
    let opened = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let (name, port) = match opened.unwrap_or_default().rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => (name, Some(port)),
        _ => (opened.unwrap_or_default(), None),
    };
    // Behind a proxy the host may be the proxy's word for us.
    if name == passkeys.host() || accounts.public_url.is_some() {
        return Ok(());
    }
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let address = format!("http://{}{port}/sign-in", passkeys.host());
    Err(words.fill("passkey.elsewhere", &[("address", &address)]))
}

/// The handle by which authenticators know an account: the one that they have, or else one made from our
/// secret, which nobody else can tell.
fn handle(accounts: &Accounts, name: &str, known: &[kept::Listed]) -> [u8; HANDLE_LEN] {
    let before = known.first().map(|one| one.passkey.user_handle.as_slice());
    before
        .and_then(|handle| handle.try_into().ok())
        .unwrap_or_else(|| {
            let parts: [&[u8]; 2] = [&accounts.secret, name.as_bytes()];
            domain::ids::digest_parts("commonwatt/passkey-user/v1", &parts)
        })
}

async fn begin_adding(State(web): State<Web>, ask: Ask, headers: HeaderMap) -> Response {
    let (passkeys, name) = match adder(&web, &ask, &headers) {
        Ok(found) => found,
        Err(refused) => return *refused,
    };
    let known = match kept::list(&web.accounts.db, name).await {
        Ok(known) => known,
        Err(error) => return broken("passkeys could not be read", &format!("{error:#}")),
    };
    let handle = handle(&web.accounts, name, &known);
    let known: Vec<_> = known.into_iter().map(|one| one.passkey).collect();
    match passkeys.begin_adding(name, handle, &known) {
        Ok(options) => json(options),
        Err(refused) => said(&ask.words, refused),
    }
}

#[derive(Deserialize)]
struct Added<'a> {
    #[serde(default)]
    name: String,
    #[serde(borrow)]
    credential: &'a RawValue,
}

async fn finish_adding(
    State(web): State<Web>,
    ask: Ask,
    headers: HeaderMap,
    body: String,
) -> Response {
    let (passkeys, account) = match adder(&web, &ask, &headers) {
        Ok(found) => found,
        Err(refused) => return *refused,
    };
    let added: Added<'_> = match serde_json::from_str(&body) {
        Ok(added) => added,
        Err(error) => return said(&ask.words, Refused::NotProven(error.to_string())),
    };
    let name = added.name.trim();
    if name.len() > kept::NAME_MAX || name.chars().any(char::is_control) {
        return problem(StatusCode::BAD_REQUEST, ask.words.t("passkey.long"));
    }
    let db = &web.accounts.db;
    let known = match kept::list(db, account).await {
        Ok(known) if known.len() >= kept::PASSKEYS_MAX => {
            return problem(StatusCode::CONFLICT, ask.words.t("passkey.full"));
        }
        Ok(known) => known,
        Err(error) => return broken("passkeys could not be read", &format!("{error:#}")),
    };
    let handle = handle(&web.accounts, account, &known);
    let new = match passkeys.finish_adding(handle, added.credential.get()) {
        Ok(new) => new,
        Err(refused) => return said(&ask.words, refused),
    };
    match kept::add(db, web.accounts.now(), ask.viewer.by(), name, &new).await {
        Ok(true) => json(r#"{"to":"/account"}"#.to_owned()),
        Ok(false) => problem(StatusCode::CONFLICT, ask.words.t("passkey.known")),
        Err(error) => broken("a passkey could not be kept", &format!("{error:#}")),
    }
}

/// Who adds a passkey: somebody with a session, from a page of ours. API tokens cannot.
fn adder<'a>(
    web: &'a Web,
    ask: &'a Ask,
    headers: &HeaderMap,
) -> Result<(&'a Passkeys, &'a str), Box<Response>> {
    let account = ask.viewer.account().filter(|_| ask.viewer.has_session());
    let found = web.accounts.passkeys.as_ref().zip(account);
    let (passkeys, account) = found.ok_or_else(|| Box::new(nothing_here()))?;
    may_write(&ask.viewer, headers, web)?;
    Ok((passkeys, &account.name))
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

async fn remove(State(web): State<Web>, posted: Posted<Named>) -> Response {
    let viewer = &posted.viewer;
    let id = URL_SAFE_NO_PAD.decode(&posted.form.id);
    let (Ok(id), Some(account)) = (id, viewer.account()) else {
        return nothing_here();
    };
    let whose = (account.name.as_str(), viewer.by());
    match kept::remove(&web.accounts.db, web.accounts.now(), whose, &id).await {
        Ok(true) => Redirect::to("/account").into_response(),
        Ok(false) => nothing_here(),
        Err(error) => broken("a passkey could not be removed", &format!("{error:#}")),
    }
}

/// Who wants to sign in: anybody within their allowance, from a page of ours.
fn enterer<'a>(
    web: &'a Web,
    ask: &Ask,
    headers: &HeaderMap,
) -> Result<&'a Passkeys, Box<Response>> {
    let passkeys = web.accounts.passkeys.as_ref();
    let passkeys = passkeys.ok_or_else(|| Box::new(nothing_here()))?;
    if !said_by_our_page(headers, &web.accounts) {
        let detail = "Sign in from the page /sign-in.";
        return Err(Box::new(problem(StatusCode::FORBIDDEN, detail)));
    }
    may_try(web, &ask.viewer)?;
    Ok(passkeys)
}

async fn begin_entering(State(web): State<Web>, ask: Ask, headers: HeaderMap) -> Response {
    match enterer(&web, &ask, &headers) {
        Ok(passkeys) => match passkeys.begin_entering() {
            Ok(options) => json(options),
            Err(refused) => said(&ask.words, refused),
        },
        Err(refused) => *refused,
    }
}

async fn finish_entering(
    State(web): State<Web>,
    ask: Ask,
    headers: HeaderMap,
    body: String,
) -> Response {
    let passkeys = match enterer(&web, &ask, &headers) {
        Ok(passkeys) => passkeys,
        Err(refused) => return *refused,
    };
    let entering = match passkeys.take(&body) {
        Ok(entering) => entering,
        Err(refused) => return said(&ask.words, refused),
    };
    let db = &web.accounts.db;
    let known = match kept::of_id(db, &entering.id()).await {
        Ok(Some(known)) => known,
        Ok(None) => {
            return said(
                &ask.words,
                Refused::NotProven("an unknown passkey".to_owned()),
            );
        }
        Err(error) => return broken("a passkey could not be read", &format!("{error:#}")),
    };
    let changing = match passkeys.finish_entering(entering, &known.passkey) {
        Ok(changing) => changing,
        Err(refused) => return said(&ask.words, refused),
    };
    let before = session_of(&headers, &web.accounts);
    let (now, address) = (web.accounts.now(), &ask.viewer.address);
    match kept::sign_in(db, now, (&known, changing), before.as_deref(), address).await {
        Ok(Some((account, secret))) => {
            tracing::info!(account = account.name, "signed in by passkey");
            entered(&web.accounts, &account, &secret)
        }
        Ok(None) => said(
            &ask.words,
            Refused::NotProven("a passkey that is gone".to_owned()),
        ),
        Err(error) => broken("nobody could be signed in", &format!("{error:#}")),
    }
}

fn entered(accounts: &Accounts, account: &store::Account, secret: &str) -> Response {
    let to = serde_json::json!({ "to": first_page(account.roles) });
    let cookie = session::set_cookie(accounts.is_secure(), Some(secret));
    with_cookie(json(to.to_string()), &cookie)
}

fn json(text: String) -> Response {
    no_store(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// What went wrong, for the person; for the log, why.
fn said(words: &Words, refused: Refused) -> Response {
    match refused {
        Refused::Busy => problem(StatusCode::SERVICE_UNAVAILABLE, words.t("passkey.busy")),
        Refused::NotProven(why) => {
            tracing::info!(why, "a passkey was not accepted");
            problem(StatusCode::BAD_REQUEST, words.t("passkey.refused"))
        }
    }
}
