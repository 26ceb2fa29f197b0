//! A month's statement for people: the rows that the page and the print share, and a document that is ready to be
//! printed or kept, with nothing outside of it.

use chrono::NaiveDate;
use domain::energy::Energy;
use domain::money::Money;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use settlement::statement::{Balances, Completeness, Day, Statement, Sums};

use super::words::Words;

/// The print's own style: A4, page numbers, heads of tables on every page.
const STYLE: &str = include_str!("../../static/bill.css");

/// A row of which a month consists.
pub(crate) struct Item {
    /// What it is.
    pub(crate) word: &'static str,
    /// The energy behind it, and which way it went where the row does not say so itself.
    energy: Option<(Energy, Option<&'static str>)>,
    /// Above zero received.
    pub(crate) money: Money,
}

impl Item {
    /// The energy without a sign: which way it went is a word's to say.
    pub(crate) fn energy(&self, words: &Words) -> Markup {
        html! { @match self.energy {
            Some((energy, way)) => {
                (words.kwh(energy)) @if let Some(way) = way { " " small { (words.t(way)) } }
            },
            None => "–",
        } }
    }
}

/// The rows of which a month consists.
pub(crate) fn items(sums: &Sums) -> Vec<Item> {
    let net = |given: Energy, taken: Energy| {
        let net = given.checked_sub(taken)?;
        Some(match net.wh() {
            0 => (net, None),
            wh if wh > 0 => (net, Some("money.given")),
            wh => (Energy::from_wh(wh.saturating_neg()), Some("money.taken")),
        })
    };
    let plain = |energy: Energy| Some((energy, None));
    let pool = net(sums.pool_given, sums.pool_taken);
    let utility = net(sums.utility_taken, sums.utility_supplied);
    let mut rows = vec![
        ("money.sold", plain(sums.sold), sums.sales),
        ("money.bought", plain(sums.bought), sums.purchases),
        ("money.fees", None, sums.network_fee),
        ("money.pool", pool, sums.pool),
        ("money.utility", utility, sums.utility),
    ];
    // What a community does not take needs no row.
    let more = [
        ("money.community_fee", sums.community_fee),
        ("money.spread", sums.spread),
    ];
    let taken = more.into_iter().filter(|(_, money)| *money != Money::ZERO);
    rows.extend(taken.map(|(word, money)| (word, None, money)));
    let item = |(word, energy, money)| Item {
        word,
        energy,
        money,
    };
    rows.into_iter().map(item).collect()
}

/// The first of a statement's month.
pub(crate) fn first_day(statement: &Statement) -> NaiveDate {
    let first = statement.days.first();
    let first = first.and_then(|day| day.date.parse().ok());
    first.unwrap_or_default()
}

/// The statement as one page for a browser, a printer or a folder.
pub(crate) fn document(words: &Words, statement: &Statement) -> String {
    let month = words.month(first_day(statement));
    let title = words.fill("statement.title", &[("month", &month)]);
    let (total, alone) = (&statement.total, &statement.alone);
    let running = format!("{} · {month}", statement.participant);
    let running = running.replace(['"', '\\', '\n', '<'], " ");
    html! {
        (DOCTYPE)
        html lang=(words.language.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) ", " (statement.participant) }
                style {
                    (PreEscaped(STYLE))
                    (PreEscaped(format!("@page {{ @bottom-left {{ content: \"{running}\"; }} }}")))
                }
            }
            body {
                header {
                    p { (statement.community) }
                    h1 { (title) }
                    p.whose { (statement.participant) }
                    p { (answer(words, total.net, &month)) " " (better(words, alone.better_by)) }
                    p.soft { (words.fill("bill.made", &[("when", &words.moment(statement.made_at)), ("zone", &statement.time_zone)])) }
                    @if !statement.tariffs.is_empty() {
                        p.soft { (words.t("bill.tariff")) ": " (statement.tariffs.join(", ")) }
                    }
                }
                main {
                    (money(words, statement))
                    (balances(words, statement))
                    div.pair {
                        (runs(words, statement))
                        (complete(words, &total.data, total.intervals))
                    }
                    (days(words, statement))
                }
            }
        }
    }
    .into_string()
}

/// What the month came to, in a sentence.
pub(crate) fn answer(words: &Words, net: Money, month: &str) -> String {
    let cost = net.nano() < 0;
    let key = if cost {
        "statement.cost"
    } else {
        "statement.earned"
    };
    words.fill(key, &[("amount", &words.money_abs(net)), ("month", month)])
}

/// How it compares with the utility alone, in a sentence.
pub(crate) fn better(words: &Words, by: Money) -> String {
    let worse = by.nano() < 0;
    let key = if worse {
        "statement.worse"
    } else {
        "statement.better"
    };
    words.fill(key, &[("amount", &words.money_abs(by))])
}

fn money(words: &Words, statement: &Statement) -> Markup {
    let (total, alone) = (&statement.total, &statement.alone);
    html! { section {
        h2 { (words.t("statement.lines")) }
        table {
            thead { tr { th {} th.n { "kWh" } th.n { (words.currency) } th.n { (words.t("money.utility_alone")) } } }
            tbody {
                @for item in items(total) { tr {
                    th scope="row" { (words.t(item.word)) }
                    td.n { (item.energy(words)) }
                    td.n { (words.amount(item.money)) } td {}
                } }
                tr { th scope="row" { (words.t("statement.metered_in")) } td.n { (words.kwh(total.imported)) } td {}
                    td.n { (words.amount(negative(alone.paid))) } }
                tr { th scope="row" { (words.t("statement.metered_out")) } td.n { (words.kwh(total.exported)) } td {}
                    td.n { (words.amount(alone.received)) } }
            }
            tfoot {
                tr.total { th scope="row" { (words.t("money.net")) } td {} td.n { (words.amount(total.net)) } td.n { (words.amount(alone.net)) } }
                tr { th scope="row" { (words.t("money.better")) } td {} td.n { (words.amount(alone.better_by)) } td {} }
            }
        }
        p.soft { (words.t("statement.signs")) }
    } }
}

fn negative(money: Money) -> Money {
    Money::from_nano(money.nano().saturating_neg())
}

fn balances(words: &Words, statement: &Statement) -> Markup {
    let (opening, closing) = (&statement.opening, &statement.closing);
    let sum = |has: &Balances| has.total().unwrap_or(Money::ZERO);
    let has = |of: fn(&Balances) -> Money| (of(opening), of(closing));
    let rows = [
        ("bill.available", has(|b| b.available)),
        ("bill.held", has(|b| b.held)),
        ("bill.holdback", has(|b| b.holdback)),
        ("bill.due", has(|b| b.statement)),
        ("bill.elsewhere", has(|b| b.elsewhere)),
    ];
    let used = |(_, (from, to)): &(&'static str, (Money, Money))| {
        *from != Money::ZERO || *to != Money::ZERO
    };
    html! { section.whole {
        h2 { (words.t("bill.balances")) }
        table {
            thead { tr { th {} th.n { (words.t("bill.opening")) } th.n { (words.t("bill.closing")) } } }
            tbody { @for (word, (from, to)) in rows.into_iter().filter(used) { tr {
                th scope="row" { (words.t(word)) } td.n { (words.amount(from)) } td.n { (words.amount(to)) }
            } } }
            tfoot { tr.total { th scope="row" { (words.t("money.net")) } td.n { (words.amount(sum(opening))) } td.n { (words.amount(sum(closing))) } } }
        }
        @if !statement.other.is_empty() {
            table {
                thead { tr { th { (words.t("bill.other")) } th.n { (words.t("bill.bookings")) } th.n { (words.currency) } } }
                tbody { @for other in &statement.other { tr {
                    th scope="row" { (purpose(words, other.purpose)) } td.n { (other.postings) } td.n { (words.amount(other.net)) }
                } } }
            }
        }
    } }
}

fn purpose<'a>(words: &Words, purpose: &'a str) -> std::borrow::Cow<'a, str> {
    let key = match purpose {
        "deposit" => "bill.deposit",
        "hold" => "bill.hold",
        "release" => "bill.release",
        "charging" => "bill.charging",
        other => return other.replace('_', " ").into(),
    };
    words.t(key).into()
}

fn runs(words: &Words, statement: &Statement) -> Markup {
    let word = |run: &str| match run {
        "provisional" => words.t("bill.provisional"),
        "initial" => words.t("bill.initial"),
        "final" => words.t("bill.final"),
        _ => words.t("bill.true_up"),
    };
    html! { section.whole {
        h2 { (words.t("bill.runs")) }
        table {
            thead { tr {
                th {} th.n { (words.t("bill.intervals")) } th.n { (words.currency) } th.n { (words.t("money.utility_alone")) }
            } }
            tbody { @for run in &statement.runs { tr {
                th scope="row" { (word(run.run)) } td.n { (run.intervals) }
                td.n { (words.amount(run.net)) } td.n { (words.amount(run.alone)) }
            } } }
        }
        p.soft { (words.t("bill.runs_how")) }
    } }
}

fn complete(words: &Words, data: &Completeness, all: u32) -> Markup {
    let rows = [
        ("bill.measured", data.measured),
        ("bill.estimated", data.estimated),
        ("bill.missing", data.missing),
        ("bill.not_settled", data.not_settled),
    ];
    html! { section.whole {
        h2 { (words.t("statement.data")) }
        table {
            thead { tr { th {} th.n { (words.t("bill.intervals")) } } }
            tbody { @for (word, count) in rows { tr { th scope="row" { (words.t(word)) } td.n { (count) } } } }
            tfoot {
                tr.total { th scope="row" { (words.t("statement.in_month")) } td.n { (all) } }
                tr { th scope="row" { (words.t("bill.corrected")) } td.n { (data.corrected) } }
            }
        }
    } }
}

fn days(words: &Words, statement: &Statement) -> Markup {
    let row = |sums: &Sums, alone: &settlement::statement::Alone| {
        // Of a day that has not come nothing is known: that is no nought.
        let is_known = sums.data.not_settled < sums.intervals;
        html! {
            td.n { (sums.intervals) }
            @if !is_known { @for _ in 0..7 { td.n { "–" } } } @else {
            td.n { (words.kwh(sums.imported)) } td.n { (words.kwh(sums.exported)) }
            td.n { (words.kwh(sums.bought)) } td.n { (words.kwh(sums.sold)) }
            td.n { (words.amount(sums.net)) } td.n { (words.amount(alone.net)) } td.n { (words.amount(alone.better_by)) }
            }
        }
    };
    let date = |day: &Day| match day.date.parse::<NaiveDate>() {
        Ok(date) => words.date(date),
        Err(_) => day.date.clone(),
    };
    html! { section.days {
        h2 { (words.t("bill.days")) }
        table {
            thead {
                tr {
                    th { (words.t("energy.day")) } th.n { (words.t("bill.intervals")) }
                    th.n { (words.t("bill.taken")) } th.n { (words.t("bill.given")) }
                    th.n { (words.t("bill.bought")) } th.n { (words.t("bill.sold")) }
                    th.n { (words.t("money.net")) } th.n { (words.t("money.utility_alone")) } th.n { (words.t("money.better")) }
                }
                tr.units { th {} th {} @for _ in 0..4 { th.n { "kWh" } } @for _ in 0..3 { th.n { (words.currency) } } }
            }
            tbody { @for day in &statement.days { tr { th scope="row" { (date(day)) } (row(&day.sums, &day.alone)) } } }
            tfoot { tr.total { th scope="row" { (words.t("money.net")) } (row(&statement.total, &statement.alone)) } }
        }
    } }
}
