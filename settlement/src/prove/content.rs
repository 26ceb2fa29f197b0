//! The steps that check what a receipt says: order, clearing, trade, reading, lines and postings.

use domain::delivery::Delivery;
use domain::energy::Energy;
use domain::ids::{Digest32, GatewayId, ParticipantId, PointId};
use domain::key_record::{Holder, KeyRecord, PointRole};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::quality::Quality;
use domain::reading::{Obis, Reading};
use domain::receipt::{Line, LineEntry, Prices, Receipt, RunEntry};
use domain::terms::{DeviationPolicy, Position, Terms, are_steps};
use domain::time::Interval;
use domain::trade::Trade;

use super::keys::key_changes;
use super::{Trust, open_signed, opened, same};
use crate::legs::{Legs, Part};
use crate::log::entry::{Kind, PUBLIC};
use crate::tariff::Tariff;

type Check = fn(&Receipt, &Trust) -> Result<String, String>;

/// The steps in order.
pub(super) const CHECKS: [(&str, Check); 8] = [
    ("trade", trade),
    ("clearing", clearing),
    ("order signature", order),
    ("settlement lines", lines),
    ("runs' inputs", runs),
    ("meter signature", reading),
    ("key changes", key_changes),
    ("postings", postings),
];

fn trade(receipt: &Receipt, trust: &Trust) -> Result<String, String> {
    let entry = &receipt.trade;
    let trade = &entry.content;
    let start = trade.interval.start();
    let content = trade.to_cbor();
    opened(
        Kind::Trade,
        start,
        &content,
        entry.salt,
        &entry.place,
        &trust.market,
    )?;
    sound(trade, &receipt.clearing.content.book)?;
    let me = match receipt.side {
        Side::Bid => &trade.buyer,
        Side::Offer => &trade.seller,
    };
    same(
        "the participant on this side of the trade",
        me,
        &receipt.participant,
    )?;
    Ok(format!(
        "{} at {} token/kWh for {}",
        trade.energy, trade.price, trade.interval
    ))
}

fn sound(trade: &Trade, book: &Digest32) -> Result<(), String> {
    let id = Trade::id_of(trade.interval, book, trade.bid, trade.offer);
    same("the trade's id", &trade.id, &id)?;
    if !trade.energy.is_positive() || trade.buyer == trade.seller {
        return Err("a trade moves energy from one participant to another".to_owned());
    }
    if trade.network_fee.is_some_and(|fee| fee < Price::ZERO) {
        return Err("the network pays for a trade".to_owned());
    }
    Ok(())
}

fn clearing(receipt: &Receipt, trust: &Trust) -> Result<String, String> {
    let entry = &receipt.clearing;
    let clearing = &entry.content;
    let start = clearing.interval.start();
    opened(
        Kind::Clearing,
        start,
        &clearing.to_cbor(),
        PUBLIC,
        &entry.place,
        &trust.market,
    )?;
    let trade = &receipt.trade.content;
    same(
        "the clearing's interval",
        &clearing.interval,
        &trade.interval,
    )?;
    // For green energy a premium may have been paid, or the price of a clearing of its own.
    let order = own_order(receipt, trust);
    let about_green = order.is_ok_and(|order| order.preference.is_about_green());
    if let Some(price) = clearing.price.filter(|_| !about_green) {
        same(
            "the trade's price beside the clearing price",
            &trade.price,
            &price,
        )?;
    }
    if trade.energy > clearing.volume || clearing.trades == 0 {
        return Err("the trade is larger than all that was cleared".to_owned());
    }
    Ok(format!(
        "{}, {} cleared",
        clearing.mechanism, clearing.volume
    ))
}

fn own_order(receipt: &Receipt, trust: &Trust) -> Result<Order, String> {
    let signed = &receipt.order.signed;
    let verified = open_signed::<Order>(signed, trust.participant.key, &trust.community);
    Ok(verified.map_err(|e| e.to_string())?.message().clone())
}

fn order(receipt: &Receipt, trust: &Trust) -> Result<String, String> {
    let entry = &receipt.order;
    let order = own_order(receipt, trust)?;
    let start = order.interval.start();
    opened(
        Kind::Order,
        start,
        &entry.signed,
        entry.salt,
        &entry.place,
        &trust.market,
    )?;
    let trade = &receipt.trade.content;
    same(
        "the order's participant",
        &order.participant,
        &receipt.participant,
    )?;
    same("the order's side", &order.side, &receipt.side)?;
    same("the order's interval", &order.interval, &trade.interval)?;
    let (named, within) = match order.side {
        Side::Bid => {
            let most = order.most();
            (trade.bid, most.is_some_and(|most| trade.price <= most))
        }
        Side::Offer => (trade.offer, trade.price >= order.limit),
    };
    same("the order that the trade names", &named, &order.id())?;
    if !within {
        return Err(format!(
            "the price {} is not within the limit {}",
            trade.price, order.limit
        ));
    }
    if trade.energy > order.energy {
        return Err(format!(
            "{} were traded, {} were ordered",
            trade.energy, order.energy
        ));
    }
    Ok(format!(
        "the participant's {} of {} with limit {}",
        order.side.word(),
        order.energy,
        order.limit
    ))
}

/// The rule by which readings are accepted: the key is enrolled before the interval is over.
fn in_force(record: &KeyRecord, interval: Interval) -> Result<(), String> {
    if record.valid_from <= interval.end() {
        Ok(())
    } else {
        Err(format!(
            "the key is valid only from {} on",
            record.valid_from
        ))
    }
}

/// The gateway that holds the key, if it signs for this participant's connection.
fn signs_for<'a>(
    record: &'a KeyRecord,
    point: &PointId,
    participant: &ParticipantId,
) -> Result<&'a GatewayId, String> {
    let Holder::Gateway { gateway, points } = &record.holder else {
        return Err("the reading is signed with a key that is no gateway's".to_owned());
    };
    let mine = points.iter().any(|p| {
        p.point == *point
            && p.role == PointRole::Connection
            && p.participant.as_ref() == Some(participant)
    });
    let not = || format!("{gateway} does not sign for the participant's point");
    if mine { Ok(gateway) } else { Err(not()) }
}

/// The books have at most one reading of a point and interval: earlier runs had this one, or none yet.
fn one_reading(receipt: &Receipt, last: &Delivery) -> Result<(), String> {
    for entry in &receipt.lines {
        let (delivery, run) = (&entry.content.delivery, entry.content.run.word());
        if delivery.reading.is_none() {
            continue;
        }
        let told = |d: &Delivery| (d.reading, d.imported, d.exported, d.quality);
        let what = format!("what the {run} run had of the meter");
        same(&what, &told(delivery), &told(last))?;
    }
    Ok(())
}

fn reading(receipt: &Receipt, trust: &Trust) -> Result<String, String> {
    let delivery = &last_line(receipt)?.delivery;
    one_reading(receipt, delivery)?;
    let (Some(entry), Some(record)) = (&receipt.reading, &trust.gateway) else {
        same(
            "the reading that the delivery names",
            &delivery.reading,
            &None,
        )?;
        return Ok("no reading: the metered values are a substitute, and marked so".to_owned());
    };
    let verified = open_signed::<Reading>(&entry.signed, record.key, &trust.community)
        .map_err(|e| e.to_string())?;
    let reading = verified.message();
    let start = reading.interval.start();
    opened(
        Kind::Reading,
        start,
        &entry.signed,
        entry.salt,
        &entry.place,
        &trust.readings,
    )?;
    in_force(record, reading.interval)?;
    let gateway = signs_for(record, &reading.point, &receipt.participant)?;
    let named = Some(Digest32::of(&entry.signed));
    same(
        "the reading that the delivery names",
        &delivery.reading,
        &named,
    )?;
    same(
        "the reading's interval",
        &reading.interval,
        &delivery.interval,
    )?;
    same("the reading's point", &reading.point, &delivery.point)?;
    same(
        "the delivery's quality",
        &delivery.quality,
        &reading.quality,
    )?;
    // A meter that does not count a direction has no register for it.
    let counted = |obis| reading.energy(obis).unwrap_or(Energy::ZERO);
    same(
        "the metered import",
        &delivery.imported,
        &counted(Obis::IMPORT),
    )?;
    same(
        "the metered export",
        &delivery.exported,
        &counted(Obis::EXPORT),
    )?;
    Ok(format!(
        "{} in and {} out, signed by {gateway}",
        delivery.imported, delivery.exported
    ))
}

fn last_line(receipt: &Receipt) -> Result<&Line, String> {
    let last = receipt.lines.last().ok_or("there is no settlement line")?;
    Ok(&last.content)
}

fn lines(receipt: &Receipt, trust: &Trust) -> Result<String, String> {
    let last = last_line(receipt)?;
    let order = own_order(receipt, trust)?;
    filled(&order, &last.trades)?;
    let mut before = None;
    for entry in &receipt.lines {
        let line = &entry.content;
        let start = line.interval.start();
        let content = line.to_cbor();
        opened(
            Kind::Line,
            start,
            &content,
            entry.salt,
            &entry.place,
            &trust.ledger,
        )
        .map_err(|why| format!("the line of the {} run: {why}", line.run.word()))?;
        if before.is_some_and(|run| run >= line.run) {
            return Err("the lines do not follow the order of the runs".to_owned());
        }
        before = Some(line.run);
        same("the trades of all lines", &line.trades, &last.trades)?;
        same(
            "the prices of the line",
            &line.prices,
            &prices(receipt, line)?,
        )?;
        same_tariff(line, last)?;
        line_of(receipt, line)?;
        same("the order's point", &order.point, &line.delivery.point)?;
    }
    let words: Vec<&str> = receipt.lines.iter().map(|l| l.content.run.word()).collect();
    Ok(format!(
        "{} in the ledger log: {}",
        words.len(),
        words.join(", ")
    ))
}

/// Each line's run with what it was made from: logged directly behind the lines of the run, settled by the prices of
/// the line, and after the reading that the line names was in the log.
fn runs(receipt: &Receipt, trust: &Trust) -> Result<String, String> {
    if receipt.runs.is_empty() {
        return Ok("not logged: the runs are of a program that did not do so".to_owned());
    }
    if receipt.runs.len() > receipt.lines.len() {
        return Err("there are more runs than lines".to_owned());
    }
    // A run of a newer program follows those of an older one, never the other way.
    let without = receipt.lines.len() - receipt.runs.len();
    for (entry, line) in receipt.runs.iter().zip(&receipt.lines[without..]) {
        run_of_line(receipt, entry, line, trust)
            .map_err(|why| format!("the {} run: {why}", line.content.run.word()))?;
    }
    let last = &receipt.runs[receipt.runs.len() - 1].content;
    let version = last.rules.version.as_deref();
    Ok(format!(
        "by {}, tariff {}, inputs {}",
        last.program,
        version.unwrap_or("without a name"),
        last.inputs
    ))
}

fn run_of_line(
    receipt: &Receipt,
    entry: &RunEntry,
    line: &LineEntry,
    trust: &Trust,
) -> Result<(), String> {
    let (record, line, at) = (&entry.content, &line.content, line.place.index);
    let content = record.to_cbor();
    let start = record.interval.start();
    opened(
        Kind::Run,
        start,
        &content,
        PUBLIC,
        &entry.place,
        &trust.ledger,
    )?;
    same("its interval", &record.interval, &line.interval)?;
    same("its number", &record.run, &line.run)?;
    let (end, count) = (entry.place.index, u64::from(record.lines));
    if at >= end || end - at > count {
        return Err("the line is not among those that it logged".to_owned());
    }
    let (rules, prices) = (&record.rules, &line.prices);
    same("its tariff's version", &rules.version, &line.tariff)?;
    let flat = (rules.retail, rules.feed_in, rules.network_fee);
    let used = (prices.retail, prices.feed_in, prices.network_fee);
    same("its prices", &flat, &used)?;
    let terms = Terms {
        position: Position::Balanced,
        ..prices.terms.unwrap_or_default()
    };
    same("its terms", &rules.terms.unwrap_or_default(), &terms)?;
    let steps = line.tiers.as_ref().map_or(&[][..], |tiers| &tiers.steps);
    same("its tariff's steps", &&rules.steps[..], &steps)?;
    // Only the last line's reading is in the receipt.
    let read = receipt
        .reading
        .as_ref()
        .filter(|_| line == &receipt.lines[receipt.lines.len() - 1].content);
    if read.is_some_and(|read| read.place.index >= record.readings_size) {
        return Err("the reading came into the log only after it".to_owned());
    }
    Ok(())
}

/// All trades of an order together move no more than it ordered.
fn filled(order: &Order, trades: &[Trade]) -> Result<(), String> {
    let id = order.id();
    let of_order = trades.iter().filter(|t| t.bid == id || t.offer == id);
    let sum: i128 = of_order.map(|t| i128::from(t.energy.wh())).sum();
    if sum <= i128::from(order.energy.wh()) {
        return Ok(());
    }
    Err(format!(
        "{sum} Wh were traded by the order in all, {} were ordered",
        order.energy
    ))
}

/// The prices follow from the tariff, the terms and the clearing price by the same rule as in settlement.
fn prices(receipt: &Receipt, line: &Line) -> Result<Prices, String> {
    let used = &line.prices;
    let terms = used.terms.unwrap_or_default();
    terms.check().map_err(|e| e.to_string())?;
    if used.network_fee < Price::ZERO {
        return Err("the network pays for local energy".to_owned());
    }
    let tariff = Tariff {
        retail: used.retail,
        feed_in: used.feed_in,
        network_fee: used.network_fee,
    };
    Ok(tariff.prices_under(receipt.clearing.content.price, terms))
}

/// A later run uses the tariff and the terms of that day; only where the community stood, and how much of
/// the month came before, can be found to be another.
fn same_tariff(line: &Line, last: &Line) -> Result<(), String> {
    let rules = |line: &Line| {
        let prices = &line.prices;
        let terms = Terms {
            position: Position::Balanced,
            ..prices.terms.unwrap_or_default()
        };
        let steps = line.tiers.as_ref().map(|tiers| tiers.steps.clone());
        let flat = (prices.retail, prices.feed_in, prices.network_fee);
        (flat, terms, line.tariff.clone(), steps)
    };
    same("the tariff of all lines", &rules(line), &rules(last))?;
    match &line.tiers {
        Some(tiers) if !are_steps(&tiers.steps) => {
            Err("the tariff's steps do not rise from zero".to_owned())
        }
        Some(tiers) if tiers.steps[0].retail != line.prices.retail => {
            Err("the tariff's first step is not its retail price".to_owned())
        }
        _ => Ok(()),
    }
}

fn line_of(receipt: &Receipt, line: &Line) -> Result<(), String> {
    let trade = &receipt.trade.content;
    let delivery = &line.delivery;
    same(
        "the line's participant",
        &line.participant,
        &receipt.participant,
    )?;
    same(
        "the delivery's participant",
        &delivery.participant,
        &receipt.participant,
    )?;
    same("the line's interval", &line.interval, &trade.interval)?;
    same(
        "the delivery's interval",
        &delivery.interval,
        &trade.interval,
    )?;
    if line.trades.iter().filter(|t| *t == trade).count() != 1 {
        return Err("the trade is not settled in the line".to_owned());
    }
    let (mut bought, mut sold) = (0_i128, 0_i128);
    for t in &line.trades {
        sound(t, &receipt.clearing.content.book)?;
        same(
            "the interval of a trade in the line",
            &t.interval,
            &line.interval,
        )?;
        let wh = i128::from(t.energy.wh());
        if t.buyer == line.participant {
            bought += wh;
        } else if t.seller == line.participant {
            sold += wh;
        } else {
            return Err("a trade of others is in the line".to_owned());
        }
    }
    same("energy bought", &i128::from(delivery.bought.wh()), &bought)?;
    same("energy sold", &i128::from(delivery.sold.wh()), &sold)?;
    let substituted = delivery.quality.has(Quality::SUBSTITUTED);
    if delivery.reading.is_none() && !substituted {
        return Err("metered values without a reading are not marked as substituted".to_owned());
    }
    deviation(line)
}

fn deviation(line: &Line) -> Result<(), String> {
    let deviation = line
        .delivery
        .deviation()
        .ok_or("the delivery does not fit 64 bits")?
        .wh();
    let (pooled, utility) = (line.pooled_wh.wh(), line.utility_wh.wh());
    let sum = pooled.checked_add(utility);
    same(
        "the deviation beside what pool and utility served",
        &sum,
        &Some(deviation),
    )?;
    // Nobody gives to the one and takes from the other.
    if pooled.signum() * utility.signum() < 0 {
        return Err("pool and utility serve opposite deviations".to_owned());
    }
    let terms = line.prices.terms.unwrap_or_default();
    let (policy, position) = (terms.policy, terms.position);
    let fits = match policy {
        DeviationPolicy::Pooled => position == Position::Balanced,
        DeviationPolicy::TwoPrice => position == Position::Balanced && pooled == 0,
        // The utility supplies only a community that lacks energy, and takes only from one with a surplus.
        DeviationPolicy::SinglePrice => {
            utility == 0 || position == Position::of(i128::from(utility))
        }
    };
    if fits {
        Ok(())
    } else {
        let word = policy.word();
        Err(format!(
            "pool and utility do not serve the deviation as `{word}` says"
        ))
    }
}

fn postings(receipt: &Receipt, _: &Trust) -> Result<String, String> {
    let mut posted = Legs::default();
    let mut count = 0;
    for entry in &receipt.lines {
        let line = &entry.content;
        let target = Part::of(line).legs().map_err(|e| e.to_string())?;
        let rest = target.minus(&posted).map_err(|e| e.to_string())?;
        let expected = rest.postings(line.interval, line.run);
        if expected != line.postings {
            let run = line.run.word();
            return Err(format!(
                "the {run} run did not post what delivery and prices come to"
            ));
        }
        count += expected.len();
        posted = target;
    }
    Ok(format!(
        "{count} postings, each what delivery and prices come to"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_trades_of_an_order_may_not_overfill_it() {
        let interval = Interval::new(0, 900).unwrap();
        let order = |name: &str, wh| Order {
            participant: ParticipantId::new(name).unwrap(),
            point: PointId::new(name).unwrap(),
            side: if name == "a" { Side::Bid } else { Side::Offer },
            interval,
            energy: Energy::from_wh(wh),
            limit: Price::ZERO,
            sequence: 1,
            replaces: None,
            preference: domain::order::Preference::default(),
        };
        let bid = order("a", 100);
        let trade = |seller: &str, wh| {
            let offer = order(seller, wh);
            Trade {
                id: Trade::id_of(interval, &Digest32([0; 32]), bid.id(), offer.id()),
                interval,
                bid: bid.id(),
                offer: offer.id(),
                buyer: bid.participant.clone(),
                seller: offer.participant,
                energy: Energy::from_wh(wh),
                price: Price::ZERO,
                network_fee: None,
            }
        };
        assert_eq!(filled(&bid, &[trade("b", 60), trade("c", 40)]), Ok(()));
        assert!(filled(&bid, &[trade("b", 60), trade("c", 41)]).is_err());
    }
}
