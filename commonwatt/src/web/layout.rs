//! What every page has around its own: head, navigation, footer. One question a page, answered in its first
//! line.

use std::borrow::Cow;

use chrono_tz::Tz;
use domain::time::Timestamp;
use maud::{DOCTYPE, Markup, html};

use super::words::{Language, Words};
use crate::auth::{Role, Viewer};
use crate::view::Street;

/// A page's own part.
pub(crate) struct Page {
    /// Its name in the browser's tab.
    pub(crate) title: String,
    /// Small, above the first line.
    pub(crate) above: String,
    /// The first line: the answer.
    pub(crate) answer: String,
    /// One sentence below it.
    pub(crate) below: Markup,
    pub(crate) body: Markup,
    /// Where the page gets newer versions of its sections, if it does.
    pub(crate) live: Option<Cow<'static, str>>,
}

/// What stands around it.
pub(crate) struct Frame<'a> {
    pub(crate) words: &'a Words,
    pub(crate) viewer: &'a Viewer,
    /// The page's path, for the navigation and to come back from a change of language.
    pub(crate) path: &'a str,
    pub(crate) community: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) speed: u32,
    /// How many entries the ledger's checkpoint covers.
    pub(crate) ledger: u64,
}

impl<'a> Frame<'a> {
    /// The frame of a page over the street as it stands.
    pub(crate) fn of(
        words: &'a Words,
        viewer: &'a Viewer,
        path: &'a str,
        street: &'a Street,
    ) -> Self {
        Frame {
            words,
            viewer,
            path,
            community: &street.community,
            now: street.now,
            speed: street.speed,
            ledger: street.log.ledger,
        }
    }
}

struct Way {
    path: &'static str,
    icon: &'static str,
    word: &'static str,
}

const fn way(path: &'static str, icon: &'static str, word: &'static str) -> Way {
    Way { path, icon, word }
}

/// The ways of one kind of person; the tab bar of a phone has room for five.
fn ways(viewer: &Viewer) -> Vec<Way> {
    if viewer.home().is_some() {
        vec![
            way("/home", "home", "nav.home"),
            way("/home/energy", "bolt", "nav.energy"),
            way("/home/market", "steps", "nav.market"),
            way("/home/statement", "bill", "nav.statement"),
            way("/home/devices", "meter", "nav.devices"),
        ]
    } else if viewer.is(Role::Operator) {
        vec![
            way("/grid", "grid", "nav.grid"),
            way("/grid/alarms", "bell", "nav.alarms"),
            way("/grid/limits", "limit", "nav.limits"),
            way("/grid/data", "meter", "nav.data"),
            way("/grid/log", "list", "nav.grid_log"),
        ]
    } else if viewer.is(Role::Researcher) {
        vec![
            way("/lab", "flask", "nav.lab"),
            way("/lab/compare", "steps", "nav.compare"),
            way("/log", "list", "nav.log"),
            way("/", "home", "nav.street"),
        ]
    } else if viewer.is(Role::Driver) {
        vec![
            way("/driver", "car", "nav.driver"),
            way("/charge", "plug", "nav.chargers"),
            way("/", "home", "nav.street"),
            way("/log", "list", "nav.log"),
            way("/sign-in", "key", account(viewer)),
        ]
    } else {
        vec![
            way("/", "home", "nav.street"),
            way("/charge", "plug", "nav.chargers"),
            way("/log", "list", "nav.log"),
            way(account_page(viewer), "key", account(viewer)),
        ]
    }
}

/// Where one's account is, or where one signs in.
fn account_page(viewer: &Viewer) -> &'static str {
    match viewer.account() {
        Some(_) => "/account",
        None => "/sign-in",
    }
}

/// What the page of one's account is called.
fn account(viewer: &Viewer) -> &'static str {
    match viewer.account() {
        Some(_) => "nav.account",
        None => "nav.sign_in",
    }
}

/// The way whose page this is: the longest path that begins this one.
fn current<'w>(ways: &'w [Way], path: &str) -> Option<&'w str> {
    let fits = |way: &&Way| {
        path == way.path || (way.path != "/" && path.starts_with(&format!("{}/", way.path)))
    };
    let longest = ways.iter().filter(fits).max_by_key(|way| way.path.len());
    longest.map(|way| way.path)
}

/// The whole page.
pub(crate) fn render(frame: &Frame<'_>, nonce: &str, page: &Page) -> Markup {
    let words = frame.words;
    let ways = ways(frame.viewer);
    let here = current(&ways, frame.path);
    html! {
        (DOCTYPE)
        html lang=(words.language.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover";
                meta name="color-scheme" content="light dark";
                title { (page.title) " · Commonwatt" }
                link rel="stylesheet" href="/static/style.css";
                link rel="icon" href="/static/icon.svg" type="image/svg+xml";
                script src="/static/app.js" nonce=(nonce) defer {}
            }
            body data-live=[page.live.as_deref()] data-lost=[page.live.as_ref().map(|_| words.t("page.lost"))]
                data-on=[page.live.as_ref().map(|_| words.t("page.live"))] {
                a.skip href="#answer" { (words.t("page.skip")) }
                header.top {
                    a.brand href="/" { (mark()) "Commonwatt" }
                    span.place { (frame.community) }
                    span.state id="link" role="status" {}
                    nav.ways aria-label=(words.t("page.ways")) {
                        @for way in &ways {
                            a href=(way.path) aria-current=[(here == Some(way.path)).then_some("page")] {
                                (icon(way.icon)) span { (words.t(way.word)) }
                            }
                        }
                    }
                    (who(frame))
                }
                main {
                    section.answer id="answer" aria-live="polite" { (first_lines(page)) }
                    (page.body)
                }
                footer { (foot(frame)) }
            }
        }
    }
}

/// The page's first lines, as they are sent again when they change.
pub(crate) fn first_lines(page: &Page) -> Markup {
    html! {
        p.when { (page.above) }
        h1 { (page.answer) }
        p.sub { (page.below) }
    }
}

/// Who is signed in, with the way out.
fn who(frame: &Frame<'_>) -> Markup {
    let words = frame.words;
    html! {
        @if let Some(account) = frame.viewer.account() {
            form.who method="post" action="/sign-out" {
                (frame.viewer.csrf_field())
                a href="/account" translate="no" { (account.name) }
                button.quiet { (words.t("nav.sign_out")) }
            }
        }
    }
}

fn foot(frame: &Frame<'_>) -> Markup {
    let words = frame.words;
    let entries = frame.ledger.to_string();
    let zone = zone_words(words, frame.now);
    html! {
        p {
            a href="/log" { (words.fill("page.checkpoint", &[("n", &entries)])) } " · "
            (words.fill("page.times", &[("zone", &zone)]))
            @if frame.speed != 1 {
                " · " (words.fill("page.speed", &[("n", &frame.speed.to_string())]))
            }
        }
        p { (words.t("page.provisional")) }
        form.languages method="get" action="/language" {
            input type="hidden" name="back" value=(frame.path);
            @for language in Language::ALL {
                button.quiet name="to" value=(language.tag()) lang=(language.tag())
                    aria-pressed=(if language == words.language { "true" } else { "false" }) { (language.name()) }
            }
        }
    }
}

fn zone_words(words: &Words, now: Timestamp) -> String {
    let zone: Tz = words.zone;
    crate::view::calendar::local(zone, now).map_or_else(
        || zone.name().to_owned(),
        |at| format!("{zone} (UTC{})", at.format("%:z")),
    )
}

/// The mark of the house: a roof with the sun's quarter.
fn mark() -> Markup {
    html! {
        svg.logo viewBox="0 0 24 24" aria-hidden="true" {
            path.logo-roof d="M2 12 L12 3 L22 12 V21 H2 Z" {}
            path.logo-sun d="M12 21 V12 A9 9 0 0 1 21 21 Z" {}
        }
    }
}

/// A small drawing of one line, 24 × 24.
pub(crate) fn icon(name: &str) -> Markup {
    let path = match name {
        "home" => "M3 11 L12 4 L21 11 M5 10 V20 H19 V10 M10 20 V14 H14 V20",
        "bolt" => "M13 3 L5 14 H11 L10 21 L19 9 H13 Z",
        "steps" => "M3 19 H8 V13 H13 V8 H18 V4 H21 M3 4 V20",
        "bill" => "M6 3 H18 V21 L15 19 L12 21 L9 19 L6 21 Z M9 8 H15 M9 12 H15",
        "meter" => "M4 13 A8 8 0 0 1 20 13 M12 13 L16 9 M4 17 H20",
        "grid" => "M8 21 L12 3 L16 21 M6 8 H18 M5 12 H19 M9.5 15 L15 21 M14.5 15 L9 21",
        "bell" => "M6 17 V11 A6 6 0 0 1 18 11 V17 L20 19 H4 Z M10 21 H14",
        "list" => "M8 6 H20 M8 12 H20 M8 18 H20 M4 6 H4.5 M4 12 H4.5 M4 18 H4.5",
        "flask" => {
            "M10 3 H14 M11 3 V9 L5 19 A1.5 1.5 0 0 0 6.500 21 H17.500 A1.5 1.5 0 0 0 19 19 L13 9 V3 M8 15 H16"
        }
        "limit" => "M4 6 H20 M4 18 V13 H8 V9 H12 V15 H16 V11 H20 V18",
        "car" => "M4 16 V12 L6.500 7 H17.500 L20 12 V16 Z M4 12 H20 M7 19 V16 M17 19 V16",
        "plug" => "M9 3 V8 M15 3 V8 M6 8 H18 V11 A6 6 0 0 1 6 11 Z M12 17 V21",
        "key" => "M14 10 A4 4 0 1 0 12.500 12.500 L20 20 M17 17 L19 15",
        _ => "M4 12 H20",
    };
    html! { svg.icon viewBox="0 0 24 24" aria-hidden="true" { path d=(path) {} } }
}
