//! `/receipts/{id}`: a receipt that people can read, checked step by step with what each step means, to print or to
//! take away as a file. One of a trade is found by its home or by its unguessable name, one of a charging session by
//! the session's.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::energy::Energy;
use domain::ids::{ParticipantId, TradeId};
use domain::money::Money;
use domain::order::Side;
use domain::receipt::Receipt;
use domain::signed::PublicKey;
use maud::{Markup, html};
use settlement::charging::promise::Payer;
use settlement::log::policy::Policy;
use settlement::prove::{Report, Trusted};

use super::{Ask, session};
use crate::auth;
use crate::cli::verify::check;
use crate::platform::charging;
use crate::site::public_key_text;
use crate::web::layout::Page;
use crate::web::words::Words;
use crate::web::{Web, broken, problem};

/// What a page of a receipt is made of.
struct Shown {
    /// What was paid for how much.
    money: Money,
    energy: Energy,
    /// The sentence of that, and the one below it.
    sentence: &'static str,
    below: String,
    facts: Markup,
    /// Where the file is.
    file: String,
    others: Markup,
    text: String,
}

/// `/receipts/{name}`: a charging session's, or a trade's by its link.
pub(super) async fn named(ask: Ask, Path(name): Path<String>) -> Result<Response, Response> {
    if let Some(name) = name.strip_suffix(".json") {
        return Ok(match name.contains('-') {
            true => linked(&ask.web, name).await,
            false => session::receipt_file(&ask, name).await,
        });
    }
    let shown = if name.contains('-') {
        let Some((trade, side)) = of_link(&ask.web, &name).await? else {
            return Err(ask.missing());
        };
        of_trade(&ask, trade, &side, format!("/receipts/{name}.json")).await?
    } else {
        of_session(&ask, &name).await?
    };
    Ok(page(&ask, &shown))
}

/// `/receipts/{trade}/{participant}`: for that home only.
pub(super) async fn own(
    ask: Ask,
    Path((trade, file)): Path<(String, String)>,
) -> Result<Response, Response> {
    let side = file.strip_suffix(".json").unwrap_or(&file);
    let named = trade.parse().ok().zip(ParticipantId::new(side).ok());
    let Some((trade, side)) = named.filter(|(_, side)| ask.viewer.may_see(side)) else {
        return Err(auth::nothing_here());
    };
    if file.ends_with(".json") {
        return Ok(receipt_of(&ask.web, trade, &side).await);
    }
    let file = format!("/receipts/{trade}/{side}.json");
    let shown = of_trade(&ask, trade, &side, file).await?;
    Ok(page(&ask, &shown))
}

/// The file of the receipt whose name is `<trade>-<mark>`: the mark is different for buyer and seller, and nobody
/// can guess it.
pub(crate) async fn linked(web: &Web, name: &str) -> Response {
    let name = name.strip_suffix(".json").unwrap_or(name);
    match of_link(web, name).await {
        Ok(Some((trade, side))) => receipt_of(web, trade, &side).await,
        Ok(None) => auth::nothing_here(),
        Err(answer) => answer,
    }
}

/// The receipt whose name is `<trade>-<mark>`; `None` where there is none.
pub(crate) async fn linked_receipt(web: &Web, name: &str) -> Result<Option<Receipt>, Response> {
    let Some((trade, side)) = of_link(web, name).await? else {
        return Ok(None);
    };
    let (db, community) = (&web.shared.db, &web.shared.community);
    let receipt = settlement::service::receipt(db, community, trade, &side).await;
    receipt.map_err(|error| broken("a receipt could not be read", &error))
}

async fn of_link(web: &Web, name: &str) -> Result<Option<(TradeId, ParticipantId)>, Response> {
    let named = name
        .split_once('-')
        .and_then(|(trade, mark)| Some((trade.parse::<TradeId>().ok()?, mark)));
    let Some((id, mark)) = named else {
        return Ok(None);
    };
    let trade = market_engine::service::trade(&web.shared.db, id).await;
    let trade = trade.map_err(|error| broken("a trade could not be read", &error))?;
    let sides = trade.map(|trade| [trade.buyer, trade.seller]);
    let mut sides = sides.into_iter().flatten();
    let side = sides.find(|side| web.accounts.is_receipt_mark(mark, id, side));
    Ok(side.map(|side| (id, side)))
}

async fn receipt_of(web: &Web, trade: TradeId, participant: &ParticipantId) -> Response {
    let (db, community) = (&web.shared.db, &web.shared.community);
    match settlement::service::receipt(db, community, trade, participant).await {
        Ok(Some(receipt)) => match settlement::prove::to_text(&receipt) {
            Ok(text) => download(&format!("receipt-{participant}-{trade}.json"), text),
            Err(error) => broken("a receipt could not be written", &error),
        },
        Ok(None) => problem(
            StatusCode::NOT_FOUND,
            "No settled trade of this home has this name. A receipt can be had once the interval is settled.",
        ),
        Err(error) => broken("a receipt could not be read", &error),
    }
}

/// A JSON file to keep.
pub(super) fn download(name: &str, text: String) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    (headers, text).into_response()
}

async fn of_trade(
    ask: &Ask,
    trade: TradeId,
    side: &ParticipantId,
    file: String,
) -> Result<Shown, Response> {
    let (db, community) = (&ask.web.shared.db, &ask.web.shared.community);
    let receipt = settlement::service::receipt(db, community, trade, side).await;
    let receipt = receipt.map_err(|error| ask.failed("a receipt could not be read", &error))?;
    let receipt = receipt.ok_or_else(|| ask.missing())?;
    let text = settlement::prove::to_text(&receipt);
    let text = text.map_err(|error| ask.failed("a receipt could not be written", &error))?;
    let words = &ask.words;
    let traded = &receipt.trade.content;
    let money = traded.price.amount(traded.energy).unwrap_or(Money::ZERO);
    let sentence = match receipt.side {
        Side::Bid => "receipt.bought",
        Side::Offer => "receipt.sold",
    };
    let places = [
        ("price", words.price(traded.price)),
        ("interval", words.interval(traded.interval)),
    ];
    let places: Vec<(&str, &str)> = places.iter().map(|(n, t)| (*n, t.as_str())).collect();
    Ok(Shown {
        money,
        energy: traded.energy,
        sentence,
        below: words.fill("receipt.trade_below", &places),
        facts: trade_facts(words, &receipt),
        file,
        others: html! {},
        text,
    })
}

fn trade_facts(words: &Words, receipt: &Receipt) -> Markup {
    let traded = &receipt.trade.content;
    let line = receipt.lines.last().map(|entry| &entry.content);
    let date = crate::view::calendar::date(words.zone, traded.interval.start());
    html! {
        dl.facts {
            dt { (words.t("receipt.when")) } dd { (words.long_date(date)) ", " (words.interval(traded.interval)) }
            dt { (words.t("receipt.whose")) } dd { (receipt.participant) }
            @if let Some(line) = line {
                dt { (words.t("trade.metered_in")) } dd { (words.energy(line.delivery.imported)) " " (words.quality(line.delivery.quality)) }
                dt { (words.t("trade.metered_out")) } dd { (words.energy(line.delivery.exported)) }
            }
        }
    }
}

async fn of_session(ask: &Ask, id: &str) -> Result<Shown, Response> {
    let failed = |error: &anyhow::Error| ask.failed("a receipt could not be read", error);
    let data = session::read(&ask.web, id, &ask.street).await;
    let data = data.map_err(|error| failed(&error))?;
    let data = data.filter(session::Data::is_paid);
    let data = data.ok_or_else(|| ask.missing())?;
    let text = charging::receipt(&ask.web.shared, &data.one).await;
    let text = text.map_err(|error| failed(&error))?;
    let text = text.ok_or_else(|| ask.missing())?;
    let words = &ask.words;
    let money = data.bill().map_or(Money::ZERO, |bill| bill.total);
    let ending = match data.one.session.state() {
        settlement::charging::session::State::Closed(ending) => {
            words.t(session::ending_key(ending))
        }
        _ => "",
    };
    let own = charging::records::texts(&ask.web.shared, &data.one).await;
    let own = own.map_err(|error| failed(&error))?.is_some();
    let key = ask.web.shared.charging.ocmf_key();
    Ok(Shown {
        money,
        energy: data.one.session.energy(),
        sentence: "receipt.charged",
        below: ending.to_owned(),
        facts: html! {
            (session_facts(words, &data, money))
            (session::lines(words, &data))
        },
        file: format!("/receipts/{id}.json"),
        others: html! {
            a.button href=(format!("/sessions/{id}/session.ocmf")) download { "OCMF" }
            @if own {
                a.button href=(format!("/sessions/{id}/charger.ocmf")) download { (words.t("receipt.own_ocmf")) }
            }
            details { summary { (words.t("receipt.ocmf")) } p { code.key { (key) } } }
        },
        text,
    })
}

fn session_facts(words: &Words, data: &session::Data, money: Money) -> Markup {
    let (session, quote) = (&data.one.session, &data.one.promise.quote);
    // A register's reading in kWh, as the charger shows it.
    let register = |wh: i64| words.energy(Energy::from_wh(wh));
    let payer = match &data.one.promise.payer {
        Payer::Home(home) => home.clone(),
        Payer::Card | Payer::RefusingCard => words.t("receipt.card").to_owned(),
    };
    html! {
        dl.facts {
            dt { (words.t("receipt.charger")) } dd { (quote.station) }
            @if let Some([first, last]) = session.readings() {
                dt { (words.t("receipt.when")) } dd { (words.moment(first.0)) "–" (words.clock(last.0)) }
                dt { (words.t("receipt.meter")) } dd { (register(first.1)) " → " (register(last.1)) }
            }
            @if let Some(price) = session::average(money, session.energy()) {
                dt { (words.t("session.average")) } dd { (words.price(price)) }
            }
            dt { (words.t("session.local")) } dd { (session::local(words, &data.story)) }
            dt { (words.t("session.by_grid")) } dd { (session::paused(words, &data.story, quote.offered_at)) }
            dt { (words.t("receipt.ceiling")) } dd { (words.money(quote.ceiling)) }
            dt { (words.t("receipt.payer")) } dd { (payer) }
            @if session.debt() > Money::ZERO {
                dt { (words.t("receipt.owed")) } dd { (words.money(session.debt())) " · " (words.t("session.ev_not_paid")) }
            }
        }
    }
}

fn page(ask: &Ask, shown: &Shown) -> Response {
    let words = &ask.words;
    let operator = PublicKey::of(&ask.web.shared.community.operator);
    let trusted = Trusted {
        operator: Some(operator),
        policy: Policy::default(),
    };
    let report = check(&shown.text, &trusted);
    let verdict = match report.first_failure() {
        None => words.t("receipt.genuine").to_owned(),
        Some((step, _)) => words.fill("receipt.not_genuine", &[("step", step)]),
    };
    let money = words.money(shown.money);
    let energy = words.energy(shown.energy);
    let said = words.fill(shown.sentence, &[("money", &money), ("energy", &energy)]);
    let page = Page {
        title: words.t("receipt.title").to_owned(),
        above: format!("{} · {}", words.t("receipt.title"), ask.street.community),
        answer: format!("{said} – {verdict}"),
        below: html! { (shown.below) },
        body: html! {
            section.card { (shown.facts) }
            section.card {
                h2 { (words.t("receipt.checked")) }
                (steps(words, &report))
                p.hint { (words.t("verify.who_text")) }
                p.ways-on { a.button.primary href=(format!("/verify?receipt={}", shown.file)) { (words.t("receipt.check_here")) } }
                p { code { "commonwatt verify receipt.json --key " } " " code.key { (public_key_text(operator)) } }
            }
            section.card.take {
                h2 { (words.t("receipt.take")) }
                p.ways-on {
                    a.button.primary href=(shown.file) download { (words.t("receipt.file")) }
                    a.button href="/verify" { (words.t("receipt.verify_other")) }
                    (shown.others)
                }
                p.hint { (words.t("receipt.print")) }
            }
        },
        live: None,
    };
    ask.show(&page)
}

/// Each step with what it means; what it established, word for word, is folded away.
pub(crate) fn steps(words: &Words, report: &Report) -> Markup {
    html! {
        ol.steps { @for (step, result) in &report.steps {
            li.bad[result.is_err()] {
                @if result.is_ok() { b { "✓ " (words.t("verify.holds")) } } @else { b { "✗ " (words.t("verify.fails")) } }
                span { @match meaning(step) { Some(key) => (words.t(key)), None => (step) } }
                @match result {
                    Ok(detail) => details { summary { (words.t("receipt.detail")) } code.block { (step) ": " (detail) } },
                    Err(why) => code.block { (step) ": " (why) },
                }
            }
        } }
    }
}

/// The steps that a browser makes of a receipt or of a single entry, by the names that they have in the script.
pub(crate) const HERE: [&str; 23] = [
    "format",
    "operator key",
    "checkpoints",
    "keys",
    "trade",
    "clearing",
    "order signature",
    "settlement lines",
    "runs' inputs",
    "meter signature",
    "key changes",
    "postings",
    "operator",
    "readings",
    "key",
    "log",
    "energy",
    "origin",
    "sum",
    "payment",
    "checkpoint",
    "entry",
    "content",
];

/// What a step of the verifier means, in a sentence.
pub(crate) fn meaning(step: &str) -> Option<&'static str> {
    Some(match step {
        "format" => "receipt.m_format",
        "operator" => "receipt.m_operator",
        "operator key" => "receipt.m_operator_key",
        "readings" => "receipt.m_readings",
        "key" => "receipt.m_key",
        "log" => "receipt.m_log",
        "energy" => "receipt.m_energy",
        "origin" => "receipt.m_origin",
        "charger" => "receipt.m_charger",
        "bill" => "receipt.m_bill",
        "sum" => "receipt.h_sum",
        "checkpoint" => "receipt.m_checkpoint",
        "entry" => "receipt.m_entry",
        "content" => "receipt.m_content",
        "payment" => "receipt.m_payment",
        "checkpoints" => "receipt.m_checkpoints",
        "witnesses" => "receipt.m_witnesses",
        "keys" => "receipt.m_keys",
        "trade" => "receipt.m_trade",
        "clearing" => "receipt.m_clearing",
        "order signature" => "receipt.m_order",
        "settlement lines" => "receipt.m_lines",
        "runs' inputs" => "receipt.m_runs",
        "meter signature" => "receipt.m_meter",
        "key changes" => "receipt.m_key_changes",
        "postings" => "receipt.m_postings",
        _ => return None,
    })
}
