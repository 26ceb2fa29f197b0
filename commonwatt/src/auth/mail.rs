//! Links to sign in by mail: whoever says the address of an account is sent one. The page's answer is always the same,
//! and as fast: it tells nobody who has an account.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use maud::html;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::guard::said_by_our_page;
use super::sign_in::{may_try, page};
use super::store::settings;
use crate::site::{Mail, MailTls, Site};
use crate::web::pages::Ask;
use crate::web::words::{Language, Words};
use crate::web::{Web, problem};

/// How long a link that was mailed is good.
const GOOD_S: i64 = 15 * 60;
/// Longest time that a server may take for a mail.
const PATIENCE: Duration = Duration::from_secs(20);
/// Mails that are on their way at the same time; whoever asks beyond is sent none.
const UNDER_WAY_MAX: usize = 8;

/// Who carries links to mailboxes.
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    /// Where the pages are, for the links.
    url: String,
    community: String,
    under_way: Arc<Semaphore>,
}

impl Mailer {
    /// The mailer of a site that has one; connections are made when there is something to be sent.
    pub(crate) fn of(site: &Site) -> anyhow::Result<Option<Mailer>> {
        let Some(mail) = &site.mail else {
            return Ok(None);
        };
        let own = || format!("http://{}", site.web_listen);
        Ok(Some(Mailer {
            transport: transport(mail).context("mail")?,
            from: mail.from.clone(),
            url: site.public_url.clone().unwrap_or_else(own),
            community: site.community.to_string(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
        }))
    }

    async fn send(
        &self,
        to: &str,
        words: &Words,
        (name, secret): (&str, &str),
    ) -> anyhow::Result<()> {
        let link = format!("{}/sign-in/{secret}", self.url);
        let places = [
            ("community", self.community.as_str()),
            ("name", name),
            ("link", link.as_str()),
        ];
        let message = Message::builder()
            .from(self.from.clone())
            .to(to.parse()?)
            .subject(words.fill("mail.subject", &places))
            .header(ContentType::TEXT_PLAIN)
            .body(words.fill("mail.text", &places))?;
        self.transport.send(message).await?;
        Ok(())
    }
}

fn transport(mail: &Mail) -> anyhow::Result<AsyncSmtpTransport<Tokio1Executor>> {
    let tls = || -> anyhow::Result<TlsParameters> {
        let mut tls = TlsParameters::builder(mail.server.clone());
        if let Some(pem) = &mail.authorities {
            tls = tls.add_root_certificate(Certificate::from_pem(pem).context("mail.ca_file")?);
        }
        Ok(tls.build_rustls()?)
    };
    let tls = match mail.tls {
        MailTls::Starttls => Tls::Required(tls()?),
        MailTls::Tls => Tls::Wrapper(tls()?),
        MailTls::None => Tls::None,
    };
    // Where TLS is not asked for, the server is on this computer, as the site's check holds.
    let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(mail.server.as_str())
        .port(mail.port)
        .tls(tls)
        .timeout(Some(PATIENCE));
    let builder = match mail.user.clone() {
        Some((user, password)) => builder.credentials(Credentials::new(user, password)),
        None => builder,
    };
    Ok(builder.build())
}

/// An address that a link is to be sent to.
#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    email: String,
}

/// Sends a link to whoever has this address, and says the same to everybody.
pub(super) async fn ask(
    State(web): State<Web>,
    ask: Ask,
    headers: HeaderMap,
    Form(asked): Form<Asked>,
) -> Response {
    if web.mailer.is_none() {
        return ask.missing().into_response();
    }
    if !said_by_our_page(&headers, &web.accounts) {
        let detail = "Ask for a link on the page /sign-in.";
        return problem(StatusCode::FORBIDDEN, detail);
    }
    if let Err(refused) = may_try(&web, &ask.viewer) {
        return *refused;
    }
    if let Some(email) = settings::address(&asked.email) {
        let (from, words) = (ask.viewer.address.clone(), ask.words.clone());
        // The answer does not wait: how long it takes would tell whether there is such an account.
        tokio::spawn(deliver(web.clone(), email, from, words));
    }
    let words = &ask.words;
    let inside = html! { section.card.entry { p { (words.t("entry.mailed_text")) } } };
    page(
        &ask,
        StatusCode::OK,
        words.t("entry.mailed").to_owned(),
        inside,
    )
}

async fn deliver(web: Web, email: String, from: String, words: Words) {
    let Some(mailer) = &web.mailer else {
        return;
    };
    let Ok(_place) = mailer.under_way.try_acquire() else {
        tracing::warn!("too many mails are on their way: a link was not sent");
        return;
    };
    let now = web.accounts.now();
    let good = (now, now.plus_s(GOOD_S));
    let found = settings::link_to(&web.accounts.db, good, (&email, &from)).await;
    let (account, secret) = match found {
        Ok(Some(found)) => found,
        Ok(None) => return,
        Err(error) => {
            tracing::error!("a link could not be made: {error:#}");
            return;
        }
    };
    let own = account.language.as_deref().and_then(Language::of_tag);
    let words = Words {
        language: own.unwrap_or(words.language),
        ..words
    };
    match mailer.send(&email, &words, (&account.name, &secret)).await {
        Ok(()) => tracing::info!(account = account.name, "a link was mailed"),
        Err(error) => {
            tracing::error!(
                account = account.name,
                "a link could not be mailed: {error:#}"
            );
        }
    }
}
