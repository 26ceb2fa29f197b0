//! `/verify`: checks a receipt or a `*.tlog-proof` that somebody drops on the page, without JavaScript.
//!
//! The platform checks it with the very rules of `commonwatt verify`, and says so: who does not want to trust
//! the platform runs that command.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::signed::PublicKey;
use maud::{Markup, html};
use settlement::log::policy::Policy;
use settlement::prove::{Report, Trusted};

use super::street::frame;
use super::{Web, problem};
use crate::cli::verify::check;
use crate::site::public_key_text;

/// Largest form that is taken: a receipt with many runs is a tenth of it.
pub(super) const FORM_MAX_BYTES: usize = 1024 * 1024;
/// Longest line between the parts of a form (RFC 2046).
const BOUNDARY_MAX_BYTES: usize = 70;

/// The empty form.
pub(super) async fn page(State(web): State<Web>) -> Response {
    shown(&web, None).into_response()
}

/// What came of a check.
pub(super) async fn verify(State(web): State<Web>, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let Some(dropped) = content(kind, &body) else {
        return problem(
            StatusCode::BAD_REQUEST,
            "Choose a receipt’s file, or paste its text: the form was empty.",
        );
    };
    let operator = PublicKey::of(&web.shared.community.operator);
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
    shown(&web, Some(&report)).into_response()
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

fn shown(web: &Web, report: Option<&Report>) -> Markup {
    let community = &web.shared.community;
    let key = public_key_text(PublicKey::of(&community.operator));
    frame(
        community.id.as_str(),
        &html! {
            section.headline {
                h1 { "Check a receipt" }
                p.sub {
                    "Drop the file of a receipt here, or the text of a single log entry (" code { ".tlog-proof" } ")."
                }
            }
            @if let Some(report) = report { (verdict(report)) }
            section.card {
                form method="post" action="/verify" enctype="multipart/form-data" {
                    p { label for="file" { "File " } input #file type="file" name="file"; }
                    p { label for="text" { "or its text" } }
                    p { textarea #text name="text" rows="6" cols="28" spellcheck="false" {} }
                    p { button type="submit" { "Check it" } }
                }
            }
            section.card {
                h2 { "Who checks here" }
                p {
                    "This platform does, against its own key. So this page is a convenience: a platform that cheats \
                     could cheat here too. To trust nobody, run the same check on your own computer:"
                }
                p { code { "commonwatt verify receipt.json --key " } br; code.key { (key) } }
                p { "It needs no network and nothing from this platform." }
            }
        },
    )
}

fn verdict(report: &Report) -> Markup {
    html! {
        section.card {
            @match report.first_failure() {
                None => { h2 { "Genuine" } p { "Every step holds." } },
                Some((step, _)) => { h2 { "Not genuine" } p { "It fails at the step “" (step) "”." } },
            }
            table {
                @for (step, result) in &report.steps {
                    tr {
                        td { @if result.is_ok() { "holds" } @else { "fails" } }
                        td { (step) }
                        td { @match result { Ok(detail) | Err(detail) => (detail) } }
                    }
                }
            }
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
    fn a_verdict_names_the_step_that_fails() {
        let report = |last| Report {
            pinned: true,
            steps: vec![("format", Ok("fine".to_owned())), ("trade", last)],
        };
        let good = verdict(&report(Ok("900 Wh".to_owned()))).into_string();
        assert!(
            good.contains("Genuine") && good.contains("900 Wh"),
            "{good}"
        );
        let bad = verdict(&report(Err("<changed>".to_owned()))).into_string();
        assert!(
            bad.contains("Not genuine") && bad.contains("“trade”"),
            "{bad}"
        );
        assert!(bad.contains("&lt;changed&gt;"), "{bad}");
    }
}
