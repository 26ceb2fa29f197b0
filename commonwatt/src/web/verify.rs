//! `/verify`: checks a receipt or a `*.tlog-proof` that somebody drops on the page.
//!
//! The browser checks it by itself (`static/verify/`), with nothing but the file and the operator's key: who issued a
//! receipt is not the one who should say that it is right. Below that, and without JavaScript, the platform gives its
//! own opinion with the rules of `commonwatt verify`, and says whose it is.

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use domain::signed::PublicKey;
use maud::{Markup, html};
use settlement::log::policy::Policy;
use settlement::prove::{Report, Trusted};

use super::layout::Page;
use super::pages::{Ask, HERE, meaning, receipt_steps};
use super::problem;
use super::words::Words;
use crate::cli::verify::check;
use crate::site::public_key_text;

/// Largest form that is taken: a receipt with many runs is a tenth of it.
pub(super) const FORM_MAX_BYTES: usize = 1024 * 1024;
/// Longest line between the parts of a form (RFC 2046).
const BOUNDARY_MAX_BYTES: usize = 70;

/// The empty form.
pub(super) async fn page(ask: Ask) -> Response {
    shown(&ask, None)
}

/// What came of a check.
pub(super) async fn verify(ask: Ask, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let Some(dropped) = content(kind, &body) else {
        return problem(
            StatusCode::BAD_REQUEST,
            "Choose a receipt’s file, or paste its text: the form was empty.",
        );
    };
    let operator = PublicKey::of(&ask.web.shared.community.operator);
    let report = match std::str::from_utf8(dropped) {
        Ok(text) => check(
            text.trim_start_matches('\u{feff}'),
            &Trusted {
                operator: Some(operator),
                policy: Policy::default(),
            },
        ),
        Err(error) => Report {
            pinned: false,
            steps: vec![("format", Err(format!("not UTF-8 text: {error}")))],
        },
    };
    shown(&ask, Some(&report))
}

/// What was dropped: the first part of a form that is not empty.
fn content<'b>(kind: &str, body: &'b [u8]) -> Option<&'b [u8]> {
    let (_, boundary) = kind
        .strip_prefix("multipart/form-data")?
        .split_once("boundary=")?;
    let boundary = boundary.trim_matches('"');
    if boundary.is_empty() || boundary.len() > BOUNDARY_MAX_BYTES {
        return None;
    }
    let mark = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(mark.get(2..)?.as_bytes())?;
    loop {
        let head = find(rest, b"\r\n\r\n")?;
        let part = rest.get(head + 4..)?;
        let end = find(part, mark.as_bytes())?;
        let (content, behind) = part.split_at(end);
        if !content.trim_ascii().is_empty() {
            return Some(content);
        }
        rest = behind.get(mark.len()..)?;
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}

fn shown(ask: &Ask, report: Option<&Report>) -> Response {
    let (words, community) = (&ask.words, &ask.web.shared.community);
    let key = public_key_text(PublicKey::of(&community.operator));
    let answer = match report.map(Report::first_failure) {
        None => words.t("verify.ask").to_owned(),
        Some(None) => words.t("verify.genuine").to_owned(),
        Some(Some((step, _))) => words.fill("verify.not_genuine", &[("step", step)]),
    };
    let page = Page {
        title: words.t("verify.ask").to_owned(),
        above: community.id.to_string(),
        answer,
        below: html! { (words.t("verify.drop")) },
        body: html! {
            @if let Some(report) = report { (verdict(words, report)) }
            (here(words, &key, &ask.nonce))
            section.card {
                details #second open[report.is_none()] {
                    summary { h2 { (words.t("verify.second")) } }
                    p.hint { (words.t("verify.who_text")) }
                    (form(words))
                }
            }
            section.card {
                h2 { (words.t("verify.who")) }
                p { (words.t("verify.program")) }
                p { code { "commonwatt verify receipt.json --key " } " " code.key { (key) } }
            }
        },
        live: None,
    };
    ask.show(&page)
}

/// What the browser does by itself; a browser without the script shows nothing of it.
fn here(words: &Words, key: &str, nonce: &str) -> Markup {
    html! {
        section.card #here hidden data-holds=(format!("✓ {}", words.t("verify.holds"))) data-fails=(format!("✗ {}", words.t("verify.fails")))
            data-good=(words.t("verify.genuine")) data-bad=(words.t("verify.not_genuine")) data-consistent=(words.t("verify.consistent"))
            data-note=(words.t("verify.checked_here")) data-cannot=(words.t("verify.cannot")) data-no-key=(words.t("verify.no_key"))
            data-no-crypto=(words.t("verify.no_crypto")) data-no-ed25519=(words.t("verify.no_ed25519")) {
            h2 { (words.t("verify.here")) }
            label.target for="pick" {
                b { (words.t("verify.target")) }
                span { (words.t("verify.stays")) }
                input #pick type="file";
            }
            div.entries { label for="known" {
                (words.t("verify.known"))
                input #known value=(key) spellcheck="false" autocomplete="off" translate="no";
                small { (words.t("verify.known_hint")) }
            } }
            div #result hidden aria-live="polite" {
                p #verdict.verdict { b {} span {} }
                ol.steps #found {}
            }
            ol #meanings hidden { @for step in HERE { li data-step=(step) {
                b {}
                span { @if let Some(key) = meaning(step) { (words.t(key)) } }
                details { summary { (words.t("receipt.detail")) } }
            } } }
        }
        script src="/static/verify.js" nonce=(nonce) defer {}
    }
}

fn form(words: &Words) -> Markup {
    html! {
        form.drop method="post" action="/verify" enctype="multipart/form-data" {
            label for="file" { (words.t("verify.file")) }
            input #file type="file" name="file";
            label for="text" { (words.t("verify.text")) }
            textarea #text name="text" rows="6" spellcheck="false" {}
            button.primary type="submit" { (words.t("verify.check")) }
        }
    }
}

fn verdict(words: &Words, report: &Report) -> Markup {
    html! {
        section.card {
            h2 { (words.t("verify.steps")) }
            (receipt_steps(words, report))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_that_is_not_empty_is_taken() {
        let form = |file: &str, text: &str| {
            format!(
                "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\n{file}\r\n\
                 --xyz\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\n{text}\r\n--xyz--\r\n"
            )
        };
        let taken = |kind: &str, body: &str| {
            content(kind, body.as_bytes()).map(|part| String::from_utf8(part.to_vec()).unwrap())
        };
        let kind = "multipart/form-data; boundary=xyz";
        assert_eq!(taken(kind, &form("a\r\nb", "")).as_deref(), Some("a\r\nb"));
        assert_eq!(taken(kind, &form("", "{}\n")).as_deref(), Some("{}\n"));
        let quoted = "multipart/form-data; boundary=\"xyz\"";
        assert_eq!(taken(quoted, &form("a", "b")).as_deref(), Some("a"));
        for (kind, body) in [
            (kind, form("", " \r\n")),
            (kind, form("a", "b").replace("xyz", "abc")),
            (kind, form("a", "b")[..60].to_owned()),
            ("multipart/form-data; boundary=", form("a", "b")),
            ("application/json", "{}".to_owned()),
            (kind, String::new()),
        ] {
            assert_eq!(taken(kind, &body), None, "{kind} {body}");
        }
    }

    #[test]
    fn a_verdict_lists_every_step_with_what_came_of_it() {
        let words = Words {
            language: super::super::words::Language::English,
            zone: chrono_tz::UTC,
            currency: "€".to_owned(),
        };
        let report = Report {
            pinned: true,
            steps: vec![
                ("format", Ok("900 Wh".to_owned())),
                ("trade", Err("<changed>".to_owned())),
            ],
        };
        let shown = verdict(&words, &report).into_string();
        for part in ["holds", "900 Wh", "fails", "trade", "&lt;changed&gt;"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
