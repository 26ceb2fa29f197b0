//! Every trade of one home, interval by interval, each with its receipt.

use domain::ids::ParticipantId;
use domain::time::{Interval, Timestamp};
use maud::{Markup, html};

use super::street::{frame, trade_table};
use crate::platform::{Shared, cleared_trades};
use crate::view::{TradeLine, interval_text};

/// Intervals on one page: six hours.
const INTERVALS_PER_PAGE: i64 = 24;

/// The trades of the intervals that end at or before `before`, newest first, with a way to older ones.
pub(crate) async fn page(
    shared: &Shared,
    home: &ParticipantId,
    before: Timestamp,
) -> anyhow::Result<Markup> {
    let length_s = shared.market.rules.interval_length_s;
    let newest = Interval::containing(before.plus_ms(-1), length_s)?;
    let mut found = Vec::new();
    for back in 0..INTERVALS_PER_PAGE {
        let interval = newest.offset(-back);
        if let Some(mut trades) = cleared_trades(shared, interval).await? {
            trades.retain(|trade| trade.buyer == *home || trade.seller == *home);
            found.push((interval, trades));
        }
    }
    let oldest = newest.offset(1 - INTERVALS_PER_PAGE).start();
    Ok(frame(
        shared.site.community.as_str(),
        &html! {
            section.headline {
                h1 { "Your trades" }
                p.sub { "A receipt can be had once the interval is delivered and settled." }
            }
            @for (interval, trades) in &found { (interval_card(*interval, trades, home)) }
            @if found.is_empty() { p.empty { "Nothing was cleared in these hours." } }
            p { a href=(format!("/trades?before={oldest}")) { "Older" } " · " a href="/" { "The street now" } }
        },
    ))
}

fn interval_card(interval: Interval, trades: &[TradeLine], home: &ParticipantId) -> Markup {
    let day = interval
        .start()
        .to_chrono()
        .map(|t| t.format("%-d %B %Y").to_string());
    html! {
        section.card {
            h2 { (interval_text(interval)) " " small { (day.unwrap_or_default()) } }
            (trade_table(trades, Some(home)))
        }
    }
}
