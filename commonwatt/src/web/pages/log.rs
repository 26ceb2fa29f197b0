//! `/log`: how far the public logs have come, and how to check them without trusting this page.

use axum::response::Response;
use domain::time::Timestamp;
use maud::{Markup, html};
use settlement::log::checkpoint::Log;

use super::Ask;
use crate::web::layout::Page;
use crate::web::words::Words;

struct Checkpoint {
    log: Log,
    newest: Option<(Timestamp, u64)>,
}

pub(super) async fn show(ask: Ask) -> Result<Response, Response> {
    let mut checkpoints = Vec::new();
    for log in Log::ALL {
        let newest = settlement::service::checkpoint_time(&ask.web.shared.db, log).await;
        let newest =
            newest.map_err(|error| ask.failed("a checkpoint could not be read", &error))?;
        checkpoints.push(Checkpoint { log, newest });
    }
    let words = &ask.words;
    let ledger = checkpoints
        .iter()
        .find(|c| c.log == Log::Ledger)
        .and_then(|c| c.newest);
    let now = ask.street.now;
    let page = Page {
        title: words.t("nav.log").to_owned(),
        above: ask.street.community.clone(),
        answer: match ledger {
            Some((at, size)) => words.fill(
                "log.answer",
                &[
                    ("n", &size.to_string()),
                    ("ago", &words.ago(now.ms_since(at))),
                ],
            ),
            None => words.t("log.empty").to_owned(),
        },
        below: html! { (words.t("log.below")) },
        body: html! {
            section.card { (table(words, &checkpoints)) }
            section.card { (how(words, &ask.street.log.operator_key)) }
        },
        live: None,
    };
    Ok(ask.show(&page))
}

fn table(words: &Words, checkpoints: &[Checkpoint]) -> Markup {
    let name = |log: Log| match log {
        Log::Readings => words.t("log.readings"),
        Log::Market => words.t("log.market"),
        Log::Ledger => words.t("log.ledger"),
    };
    html! {
        h2 { (words.t("log.checkpoints")) }
        div.scroll tabindex="0" role="region" aria-label=(words.t("log.checkpoints")) { table {
            thead { tr { th { (words.t("log.log")) } th.n { (words.t("log.entries")) } th { (words.t("log.signed")) } th { (words.t("log.note")) } } }
            tbody { @for checkpoint in checkpoints { tr {
                td { (name(checkpoint.log)) }
                @match checkpoint.newest {
                    Some((at, size)) => { td.n { (size) } td { (words.moment(at)) } }
                    None => { td.n { "–" } td { "–" } }
                }
                td { a href=(format!("/api/v1/checkpoints/{}", checkpoint.log.word())) { (words.t("log.open")) } }
            } } }
        } }
    }
}

fn how(words: &Words, key: &str) -> Markup {
    html! {
        h2 { (words.t("log.how")) }
        ol.how {
            li { (words.t("log.how_receipt")) }
            li { (words.t("log.how_verify")) " " code { "commonwatt verify receipt.json" } }
            li { (words.t("log.how_key")) " " code.key { (key) } }
        }
        p { (words.t("log.how_more")) }
        p { a href="/verify" { (words.t("log.check_here")) } }
    }
}
