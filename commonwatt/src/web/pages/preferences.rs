//! `/home/preferences`: how far the autopilot goes and within which limits, with what each setting would have
//! brought last month.

use std::sync::Arc;

use axum::response::{IntoResponse, Redirect, Response};
use domain::ids::ParticipantId;
use domain::money::Price;
use domain::order::{PARTNERS_MAX, Preference};
use market_engine::bid::Level;
use market_engine::clear::Mechanism;
use market_engine::preference::Heeded;
use maud::{Markup, html};
use serde::Deserialize;

use super::Ask;
use crate::auth::Posted;
use crate::platform::preferences::{self, Wishes};
use crate::platform::trading;
use crate::view::replay::{self, Brought, Limits, STOPS};
use crate::web::field;
use crate::web::layout::Page;
use crate::web::words::Words;

/// The month that is replayed.
const REPLAY_S: i64 = 30 * 86_400;
/// The form's word for limits that are none of the slider's.
const OWN: &str = "own";
/// Most digits of a price in ct/kWh before its decimals.
const PRICE_DIGITS: usize = 8;

struct Data {
    wishes: Wishes,
    /// With whom it wants to trade, and what of it the market heeds.
    trades: Preference,
    heeded: Heeded,
    /// What each stop of the slider, and last the present limits, would have brought.
    brought: Vec<Brought>,
    /// Books that were cleared again.
    books: usize,
    took_ms: u128,
}

pub(super) async fn show(ask: Ask) -> Result<Response, Response> {
    let home = ask.home()?;
    let _turn = ask.turn()?;
    let read = read(&ask, home).await;
    match read.map_err(|error| ask.failed("preferences could not be read", &error))? {
        Some(data) => Ok(ask.show(&page(&ask, &data, None))),
        None => Err(ask.missing()),
    }
}

async fn read(ask: &Ask, home: ParticipantId) -> anyhow::Result<Option<Data>> {
    let shared = &ask.web.shared;
    let Some(wishes) = preferences::of(shared, &home).await? else {
        return Ok(None);
    };
    let trades = trading::of(&shared.db, &home).await?;
    let (from, to) = (ask.street.now.plus_s(-REPLAY_S), ask.street.open.end());
    let orders = market_engine::service::cleared_orders(&shared.db, from, to).await?;
    let (tariff, fee) = shared.site.tariff_and_fee_at(ask.street.open);
    let mechanism: Mechanism = shared.market.rules.mechanism;
    let mut settings: Vec<Limits> = (0..STOPS).map(|n| Limits::at(n, &tariff, fee)).collect();
    settings.push(Limits {
        max_buy: wishes.max_buy,
        min_sell: wishes.min_sell,
    });
    // Thousands of clearings: not on the thread that answers everybody else.
    let shared = Arc::clone(shared);
    let work = tokio::task::spawn_blocking(move || {
        let begun = std::time::Instant::now();
        let books = orders.chunk_by(|a, b| a.interval == b.interval);
        let books = books
            .filter(|book| book.iter().any(|o| o.participant == home))
            .count();
        let brought = replay::replay(&orders, &home, &settings, mechanism, &|interval| {
            shared.site.tariff_and_fee_at(interval)
        });
        (brought, books, begun.elapsed().as_millis())
    });
    let (brought, books, took_ms) = work.await?;
    Ok(Some(Data {
        wishes,
        trades,
        heeded: Heeded::by(mechanism),
        brought,
        books,
        took_ms,
    }))
}

#[derive(Deserialize)]
pub(super) struct Chosen {
    stop: String,
    #[serde(default)]
    max_buy: String,
    #[serde(default)]
    min_sell: String,
    autopilot: String,
    /// Sent wherever the page has asked with whom to trade, and empty where there are none.
    partners: Option<String>,
    same_feeder: Option<String>,
    green: Option<String>,
    green_premium: Option<String>,
}

/// Keeps what was chosen, or says what was wrong with it.
pub(super) async fn save(ask: Ask, posted: Posted<Chosen>) -> Result<Response, Response> {
    let home = posted.viewer.home().cloned().ok_or_else(|| ask.missing())?;
    let shared = &ask.web.shared;
    let before = trading::of(&shared.db, &home).await;
    let before = before.map_err(|error| ask.failed("preferences could not be read", &error))?;
    let read_form = wishes(&ask, &posted.form);
    let known = |text: &str| {
        let mut ids = shared.site.participants.iter().map(|p| &p.id);
        ids.find(|id| id.as_str() == text && **id != home)
    };
    let trades = |wishes| Ok((wishes, trades(&ask.words, known, &posted.form, before)?));
    let read_form = read_form.and_then(trades);
    let wrong = match read_form {
        Ok((wishes, trades)) => {
            let kept = async {
                preferences::choose(shared, &home, wishes, ask.street.now).await?;
                trading::choose(&shared.db, &home, &trades, ask.street.now).await
            };
            let kept = kept.await;
            kept.map_err(|error| ask.failed("preferences could not be kept", &error))?;
            let accounts = &ask.web.accounts;
            let noted = accounts.note_done(&posted.viewer, "preferences changed", "on the page");
            noted.await;
            return Ok(Redirect::to("/home/preferences").into_response());
        }
        Err(wrong) => wrong,
    };
    let _turn = ask.turn()?;
    let read = read(&ask, home).await;
    match read.map_err(|error| ask.failed("preferences could not be read", &error))? {
        Some(data) => {
            let mut response = ask.show(&page(&ask, &data, Some(&wrong)));
            *response.status_mut() = axum::http::StatusCode::UNPROCESSABLE_ENTITY;
            Ok(response)
        }
        None => Err(ask.missing()),
    }
}

fn wishes(ask: &Ask, form: &Chosen) -> Result<Wishes, String> {
    let words = &ask.words;
    let autopilot = Level::from_word(&form.autopilot)
        .ok_or_else(|| words.t("preferences.wrong_level").to_owned())?;
    let limits = if form.stop == OWN {
        let price = |text: &str| {
            cents(text).ok_or_else(|| words.fill("preferences.wrong_price", &[("text", text)]))
        };
        Limits {
            max_buy: price(&form.max_buy)?,
            min_sell: price(&form.min_sell)?,
        }
    } else {
        let stop = form
            .stop
            .parse()
            .ok()
            .filter(|stop| (0..STOPS).contains(stop));
        let stop = stop.ok_or_else(|| words.t("preferences.wrong_stop").to_owned())?;
        // By the prices that hold for the next auction, as the page has shown them.
        let (tariff, fee) = ask.web.shared.site.tariff_and_fee_at(ask.street.open);
        Limits::at(stop, &tariff, fee)
    };
    let rules = &ask.web.shared.market.rules;
    if limits.max_buy < rules.price_floor || limits.min_sell > rules.price_cap {
        return Err(words.fill(
            "preferences.beyond",
            &[
                ("floor", &words.price(rules.price_floor)),
                ("cap", &words.price(rules.price_cap)),
            ],
        ));
    }
    Ok(Wishes {
        max_buy: limits.max_buy,
        min_sell: limits.min_sell,
        autopilot,
    })
}

/// With whom the home wants to trade, as its form says; what it was not asked for stays as it was.
fn trades<'k>(
    words: &Words,
    known: impl Fn(&str) -> Option<&'k ParticipantId>,
    form: &Chosen,
    before: Preference,
) -> Result<Preference, String> {
    let Some(named) = &form.partners else {
        return Ok(before);
    };
    let mut partners: Vec<ParticipantId> = Vec::new();
    let named = named.split([',', ';', '\n']).map(str::trim);
    for text in named.filter(|text| !text.is_empty()) {
        let partner = known(text);
        let partner =
            partner.ok_or_else(|| words.fill("preferences.wrong_partner", &[("text", text)]))?;
        if !partners.contains(partner) {
            partners.push(partner.clone());
        }
    }
    if partners.len() > PARTNERS_MAX {
        let most = PARTNERS_MAX.to_string();
        return Err(words.fill("preferences.many_partners", &[("most", &most)]));
    }
    let green_premium = match form.green_premium.as_deref().map(str::trim) {
        None => before.green_premium,
        Some("") => Price::ZERO,
        Some(text) => cents(text)
            .filter(|premium| *premium >= Price::ZERO)
            .ok_or_else(|| words.fill("preferences.wrong_price", &[("text", text)]))?,
    };
    Ok(Preference {
        partners,
        same_feeder: form.same_feeder.is_some(),
        green: form.green.is_some(),
        green_premium,
    })
}

/// `13.25` or `13,25` ct/kWh, at most four decimals.
pub(super) fn cents(text: &str) -> Option<Price> {
    let text = text.trim();
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text),
    };
    let micro = field::decimal(text, 4, PRICE_DIGITS)?;
    Some(Price::from_micro_per_kwh(sign * micro))
}

/// A price in ct/kWh as [`cents`] reads it back without a change: a page rounds, a field must not.
pub(super) fn exact(price: Price, dot: char) -> String {
    let micro = price.micro_per_kwh();
    let sign = if micro < 0 { "-" } else { "" };
    let (whole, part) = (micro.unsigned_abs() / 10_000, micro.unsigned_abs() % 10_000);
    let part = format!("{part:04}");
    let part = part.trim_end_matches('0');
    if part.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}{dot}{part}")
    }
}

fn page(ask: &Ask, data: &Data, wrong: Option<&str>) -> Page {
    let words = &ask.words;
    let now = data.brought.last();
    let answer = match now {
        Some(now) if data.books > 0 => {
            words.fill("preferences.answer", &[("gain", &words.money(now.gain))])
        }
        _ => words.t("preferences.no_past").to_owned(),
    };
    Page {
        title: words.t("preferences.title").to_owned(),
        above: words.t("preferences.title").to_owned(),
        answer,
        below: html! { (words.fill("preferences.below", &[
            ("books", &data.books.to_string()), ("ms", &data.took_ms.to_string()),
        ])) },
        body: html! {
            @if let Some(wrong) = wrong { p.wrong role="alert" { (wrong) } }
            form.preferences method="post" action="/home/preferences" {
                (ask.viewer.csrf_field())
                section.card { (slider(words, data)) }
                section.card { (levels(words, data.wishes.autopilot)) }
                (with_whom(words, &data.trades, data.heeded))
                button.primary { (words.t("preferences.save")) }
            }
            section.card { details { summary { (words.t("preferences.how")) }
                p { (words.t("preferences.how_text")) } } }
        },
        live: None,
    }
}

/// One row for each stop: what it means and what it would have brought.
fn slider(words: &Words, data: &Data) -> Markup {
    let wishes = Limits {
        max_buy: data.wishes.max_buy,
        min_sell: data.wishes.min_sell,
    };
    let stops = data
        .brought
        .get(..data.brought.len().saturating_sub(1))
        .unwrap_or_default();
    let chosen = stops.iter().position(|b| b.limits == wishes);
    let most = data
        .brought
        .iter()
        .map(|b| b.gain.nano())
        .max()
        .unwrap_or(0)
        .max(1);
    let field = |price: Price| exact(price, words.language.decimal_sign());
    html! {
        h2 { (words.t("preferences.slider")) }
        p.hint { (words.t("preferences.slider_hint")) }
        div.ends aria-hidden="true" { span { (words.t("preferences.local")) } span { (words.t("preferences.thrift")) } }
        ul.stops {
            @for (n, brought) in stops.iter().enumerate() {
                li { (stop(words, &n.to_string(), brought, chosen == Some(n), most, None)) }
            }
            @if let Some(own) = data.brought.last() {
                li { (stop(words, OWN, own, chosen.is_none(), most, Some(html! {
                    span.fields {
                        label { (words.t("market.buy_limit")) " " small { "ct/kWh" }
                            input name="max_buy" inputmode="decimal" autocomplete="off" value=(field(own.limits.max_buy)); }
                        label { (words.t("market.sell_limit")) " " small { "ct/kWh" }
                            input name="min_sell" inputmode="decimal" autocomplete="off" value=(field(own.limits.min_sell)); }
                    }
                }))) }
            }
        }
    }
}

fn stop(
    words: &Words,
    value: &str,
    brought: &Brought,
    checked: bool,
    most: i64,
    fields: Option<Markup>,
) -> Markup {
    let long = i128::from(brought.gain.nano().max(0)) * 100 / i128::from(most);
    let id = format!("stop-{value}");
    html! {
        input type="radio" name="stop" id=(id) value=(value) checked[checked];
        label for=(id) {
            span.limits {
                @if fields.is_some() { b { (words.t("preferences.own")) } }
                @else { (words.fill("preferences.limits", &[
                    ("buy", &words.price(brought.limits.max_buy)), ("sell", &words.price(brought.limits.min_sell)),
                ])) }
            }
            span.gain { b { (words.money(brought.gain)) } }
            svg.gauge viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
                rect.track width="100" height="6" {}
                rect.fill width=(long) height="6" {}
            }
            span.traded { (words.fill("preferences.traded", &[
                ("bought", &words.energy(brought.bought)), ("sold", &words.energy(brought.sold)),
                ("ordered", &words.energy(brought.ordered)),
            ])) }
        }
        @if let Some(fields) = fields { (fields) }
    }
}

fn levels(words: &Words, chosen: Level) -> Markup {
    let all = [
        (
            Level::Suggest,
            "preferences.suggest",
            "preferences.suggest_hint",
        ),
        (
            Level::WithinLimits,
            "preferences.within",
            "preferences.within_hint",
        ),
        (Level::Full, "preferences.full", "preferences.full_hint"),
    ];
    html! {
        fieldset {
            legend { h2 { (words.t("preferences.level")) } }
            div.levels { @for (level, name, hint) in all {
                @let id = format!("level-{}", level.word());
                div.level {
                    input type="radio" name="autopilot" id=(id) value=(level.word()) checked[level == chosen];
                    label for=(id) { b { (words.t(name)) } span.hint { (words.t(hint)) } }
                }
            } }
        }
    }
}

/// Whose energy comes first, and what green energy is worth. What the market cannot
/// heed is not asked for; that an offer is green may be said wherever partners may.
fn with_whom(words: &Words, trades: &Preference, heeded: Heeded) -> Markup {
    if heeded == Heeded::Nothing {
        return Markup::default();
    }
    let partners: Vec<&str> = trades.partners.iter().map(ParticipantId::as_str).collect();
    let partners = partners.join(", ");
    let premium = match trades.green_premium {
        Price::ZERO => String::new(),
        premium => exact(premium, words.language.decimal_sign()),
    };
    let most = PARTNERS_MAX.to_string();
    let check = |name: &'static str, word: &'static str, on: bool| {
        html! { p.check {
            input type="checkbox" id=(name) name=(name) value="1" checked[on];
            label for=(name) { (words.t(word)) }
        } }
    };
    html! { section.card {
        h2 { (words.t("preferences.with_whom")) }
        p.hint { (words.t("preferences.with_whom_hint")) }
        div.entries {
            label { (words.t("preferences.partners"))
                input name="partners" autocomplete="off" value=(partners);
                small { (words.fill("preferences.partners_hint", &[("most", &most)])) } }
            @if heeded == Heeded::All {
                label { (words.t("preferences.green_premium")) " " small { "ct/kWh" }
                    input name="green_premium" inputmode="decimal" autocomplete="off" value=(premium); }
            }
        }
        (check("same_feeder", "preferences.same_feeder", trades.same_feeder))
        (check("green", "preferences.green", trades.green))
    } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::words::Language;

    fn english() -> Words {
        Words {
            language: Language::English,
            zone: chrono_tz::UTC,
            currency: "€".to_owned(),
        }
    }

    #[test]
    fn a_price_is_read_with_point_or_comma_and_nothing_else() {
        for (text, micro) in [
            ("13.25", 132_500),
            ("13,2", 132_000),
            (" 8 ", 80_000),
            ("0.0001", 1),
            ("-1", -10_000),
        ] {
            assert_eq!(cents(text).map(Price::micro_per_kwh), Some(micro), "{text}");
        }
        for text in [
            "",
            "-",
            "--1",
            "−1",
            "1.2.3",
            "1e3",
            "0.00001",
            "9999999999999",
            "12 ct",
            "٣",
        ] {
            assert_eq!(cents(text), None, "{text}");
        }
    }

    #[test]
    fn only_wishes_that_the_market_takes_are_asked_for() {
        let words = english();
        let trades = Preference {
            partners: vec![ParticipantId::new("home-07").unwrap()],
            same_feeder: true,
            green: true,
            green_premium: Price::from_micro_per_kwh(15_000),
        };
        let names = ["partners", "same_feeder", "green", "green_premium"];
        for (heeded, asked) in [
            (Heeded::All, [true; 4]),
            (Heeded::Counterparts, [true, true, true, false]),
            (Heeded::Nothing, [false; 4]),
        ] {
            let shown = with_whom(&words, &trades, heeded).into_string();
            assert_eq!(shown.contains("<h2>"), asked.contains(&true), "{heeded:?}");
            for (name, asked) in names.into_iter().zip(asked) {
                let field = format!("name=\"{name}\"");
                assert_eq!(shown.contains(&field), asked, "{heeded:?} {name}");
            }
        }
    }

    #[test]
    fn what_the_page_did_not_ask_for_stays_as_it_was() {
        let words = english();
        let ann = ParticipantId::new("ann").unwrap();
        let known = |text: &str| (text == "ann").then_some(&ann);
        let before = Preference {
            partners: vec![ParticipantId::new("who-has-left").unwrap()],
            same_feeder: true,
            green: true,
            green_premium: Price::from_micro_per_kwh(15_000),
        };
        let save = |partners: Option<&str>, green_premium: Option<&str>| {
            let form = Chosen {
                stop: OWN.to_owned(),
                max_buy: String::new(),
                min_sell: String::new(),
                autopilot: String::new(),
                partners: partners.map(str::to_owned),
                same_feeder: None,
                green: None,
                green_premium: green_premium.map(str::to_owned),
            };
            trades(&words, known, &form, before.clone())
        };
        assert_eq!(save(None, None), Ok(before.clone()));
        let asked = save(Some(" ann;"), None).unwrap();
        assert_eq!(asked.partners, std::slice::from_ref(&ann));
        assert_eq!(asked.green_premium, before.green_premium);
        assert!(!asked.same_feeder && !asked.green);
        assert_eq!(save(Some(""), Some("")), Ok(Preference::default()));
        assert!(save(Some("who-has-left"), Some("1.5")).is_err());
    }

    #[test]
    fn what_a_field_is_filled_with_is_read_back_to_the_last_digit() {
        for micro in [0, 1, 10, 80_000, 282_778, 310_000, -1, -20_050, 99_999_999] {
            let price = Price::from_micro_per_kwh(micro);
            for dot in ['.', ','] {
                assert_eq!(cents(&exact(price, dot)), Some(price));
            }
        }
        assert_eq!(exact(Price::from_micro_per_kwh(-20_050), ','), "-2,005");
    }
}
