//! Reads a tariff from OCPI's JSON, 2.2.1 or 2.3, and says at which path something is wrong.

use chrono::{NaiveDate, NaiveTime, Weekday};
use domain::money::Money;

use super::{Component, Dimension, Element, Limit, Reservation, Restrictions, Tariff, TaxRule};
use domain::json::{FileError, Node, needed};

/// Most taxes on a price: as much again.
const TAX_MAX_PPM: i128 = 1_000_000;

impl Tariff {
    /// Reads a tariff, or a list of them.
    ///
    /// # Errors
    /// What is wrong, with its JSON path.
    pub fn from_json(text: &str) -> Result<Vec<Tariff>, FileError> {
        Tariff::read_all(&Node::root(text)?)
    }

    pub(in crate::charging) fn read_all(node: &Node<'_>) -> Result<Vec<Tariff>, FileError> {
        if !node.is_list() {
            return Ok(vec![tariff(node)?]);
        }
        node.list()?.iter().map(tariff).collect()
    }
}

fn tariff(node: &Node<'_>) -> Result<Tariff, FileError> {
    let members = node.members()?;
    let list = needed(node, &members, "elements")?;
    let elements: Vec<Element> = list.list()?.iter().map(element).collect::<Result<_, _>>()?;
    if elements.is_empty() {
        return Err(list.wrong("a tariff needs at least one element"));
    }
    let currency = needed(node, &members, "currency")?;
    let code = currency.text()?;
    if code.len() != 3 || !code.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(currency.wrong(format!("`{code}` is not a currency like EUR")));
    }
    let tax = match members.get("tax_included") {
        None => TaxRule::OnTop,
        Some(node) => match node.text()?.as_str() {
            "NO" => TaxRule::OnTop,
            "YES" => TaxRule::Included,
            "N/A" => TaxRule::None,
            other => return Err(node.wrong(format!("`{other}` is not YES, NO or N/A"))),
        },
    };
    let instant = |name: &str| members.get(name).map(Node::instant).transpose();
    let limit = |name: &str| members.get(name).map(limit).transpose();
    let (min_price, max_price) = (limit("min_price")?, limit("max_price")?);
    if let (Some(min), Some(max)) = (min_price, max_price)
        && min.before_tax > max.before_tax
    {
        return Err(node.wrong("`min_price` is above `max_price`"));
    }
    Ok(Tariff {
        id: members
            .get("id")
            .map(Node::text)
            .transpose()?
            .unwrap_or_default(),
        currency: code,
        tax,
        elements,
        min_price,
        max_price,
        valid_from: instant("start_date_time")?,
        valid_until: instant("end_date_time")?,
    })
}

/// `{"excl_vat", "incl_vat"}` of 2.2.1, `{"before_taxes", "after_taxes"}` of 2.3, or a plain number.
fn limit(node: &Node<'_>) -> Result<Limit, FileError> {
    let Ok(members) = node.members() else {
        let before_tax = money(node)?;
        let after_tax = None;
        return Ok(Limit {
            before_tax,
            after_tax,
        });
    };
    let either = |one: &str, other: &str| members.get(one).or_else(|| members.get(other));
    let before = either("excl_vat", "before_taxes")
        .ok_or_else(|| node.wrong("neither `excl_vat` nor `before_taxes` is there"))?;
    let after = either("incl_vat", "after_taxes");
    let (before_tax, after_tax) = (money(before)?, after.map(money).transpose()?);
    if after_tax.is_some_and(|after| after < before_tax) {
        return Err(node.wrong("the amount with taxes is below the one before them"));
    }
    Ok(Limit {
        before_tax,
        after_tax,
    })
}

/// An amount of money, to nine decimals.
pub(in crate::charging) fn money(node: &Node<'_>) -> Result<Money, FileError> {
    i64::try_from(node.scaled(9)?)
        .map(Money::from_nano)
        .map_err(|_| node.wrong("this amount is too large"))
}

fn element(node: &Node<'_>) -> Result<Element, FileError> {
    let members = node.members()?;
    let list = needed(node, &members, "price_components")?;
    let mut components: Vec<Component> = Vec::new();
    for (place, entry) in list.list()?.iter().enumerate() {
        let read = component(entry)?;
        if components.iter().any(|c| c.dimension == read.dimension) {
            let word = read.dimension.word();
            return Err(entry.wrong(format!(
                "component {place} is a second price for {word} in one element"
            )));
        }
        components.push(read);
    }
    if components.is_empty() {
        return Err(list.wrong("an element needs at least one price"));
    }
    let restrictions = members.get("restrictions").map(restrictions).transpose()?;
    Ok(Element {
        components,
        restrictions: restrictions.unwrap_or_default(),
    })
}

fn component(node: &Node<'_>) -> Result<Component, FileError> {
    let members = node.members()?;
    let kind = needed(node, &members, "type")?;
    let word = kind.text()?;
    let dimension = Dimension::ALL.into_iter().find(|d| d.word() == word);
    let dimension = dimension.ok_or_else(|| {
        kind.wrong(format!(
            "`{word}` is not ENERGY, TIME, PARKING_TIME or FLAT"
        ))
    })?;
    let tax_ppm = members.get("vat").map(|vat| {
        let ppm = vat.positive(4)?;
        let ppm = Some(ppm).filter(|p| *p <= TAX_MAX_PPM);
        ppm.and_then(|p| u32::try_from(p).ok())
            .ok_or_else(|| vat.wrong("a tax of more than 100 percent is not read"))
    });
    Ok(Component {
        dimension,
        price: money(needed(node, &members, "price")?)?,
        tax_ppm: tax_ppm.transpose()?,
        step: members
            .get("step_size")
            .map(Node::whole)
            .transpose()?
            .unwrap_or(1),
    })
}

fn restrictions(node: &Node<'_>) -> Result<Restrictions, FileError> {
    let mut read = Restrictions::default();
    for (name, value) in &node.members()? {
        match name.as_str() {
            "start_time" => read.start_time = Some(time_of_day(value)?),
            "end_time" => read.end_time = Some(time_of_day(value)?),
            "start_date" => read.start_date = Some(date(value)?),
            "end_date" => read.end_date = Some(date(value)?),
            "min_kwh" => read.min_energy = Some(value.positive(9)?),
            "max_kwh" => read.max_energy = Some(value.positive(9)?),
            "min_current" => read.min_current = Some(value.positive(9)?),
            "max_current" => read.max_current = Some(value.positive(9)?),
            "min_power" => read.min_power = Some(value.positive(9)?),
            "max_power" => read.max_power = Some(value.positive(9)?),
            "min_duration" => read.min_duration_s = Some(value.whole()?),
            "max_duration" => read.max_duration_s = Some(value.whole()?),
            "day_of_week" => {
                read.days = value
                    .list()?
                    .iter()
                    .map(weekday)
                    .collect::<Result<_, _>>()?;
            }
            "reservation" => read.reservation = Some(reservation(value)?),
            // A restriction that is not understood would change the price silently.
            _ => return Err(value.wrong("OCPI has no such restriction")),
        }
    }
    Ok(read)
}

fn time_of_day(node: &Node<'_>) -> Result<NaiveTime, FileError> {
    let text = node.text()?;
    let parsed = Some(&text).filter(|t| t.len() == 5);
    parsed
        .and_then(|t| NaiveTime::parse_from_str(t, "%H:%M").ok())
        .ok_or_else(|| node.wrong(format!("`{text}` is not a time of day like 09:30")))
}

fn date(node: &Node<'_>) -> Result<NaiveDate, FileError> {
    let text = node.text()?;
    NaiveDate::parse_from_str(&text, "%Y-%m-%d")
        .map_err(|_| node.wrong(format!("`{text}` is not a day like 2026-06-21")))
}

fn weekday(node: &Node<'_>) -> Result<Weekday, FileError> {
    Ok(match node.text()?.as_str() {
        "MONDAY" => Weekday::Mon,
        "TUESDAY" => Weekday::Tue,
        "WEDNESDAY" => Weekday::Wed,
        "THURSDAY" => Weekday::Thu,
        "FRIDAY" => Weekday::Fri,
        "SATURDAY" => Weekday::Sat,
        "SUNDAY" => Weekday::Sun,
        other => return Err(node.wrong(format!("`{other}` is not a weekday like MONDAY"))),
    })
}

fn reservation(node: &Node<'_>) -> Result<Reservation, FileError> {
    match node.text()?.as_str() {
        "RESERVATION" => Ok(Reservation::Reserved),
        "RESERVATION_EXPIRES" => Ok(Reservation::Expired),
        other => Err(node.wrong(format!(
            "`{other}` is not RESERVATION or RESERVATION_EXPIRES"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_tariff_is_refused_with_its_path() {
        let good = r#"{"id": "1", "currency": "EUR", "elements": [{"price_components": [{"type": "ENERGY",
            "price": 0.25, "vat": 10, "step_size": 1}], "restrictions": {"start_time": "08:00"}}]}"#;
        assert_eq!(Tariff::from_json(good).unwrap()[0].elements.len(), 1);
        for (from, to, path) in [
            ("EUR", "eur", "$.currency"),
            (
                "\"ENERGY\"",
                "\"KWH\"",
                "$.elements[0].price_components[0].type",
            ),
            (
                "0.25",
                "\"0.25\"",
                "$.elements[0].price_components[0].price",
            ),
            (
                "\"price\"",
                "\"prize\"",
                "$.elements[0].price_components[0]",
            ),
            (
                "0.25",
                "0.0000000001",
                "$.elements[0].price_components[0].price",
            ),
            (
                "\"vat\": 10",
                "\"vat\": 101",
                "$.elements[0].price_components[0].vat",
            ),
            (
                "\"step_size\": 1",
                "\"step_size\": -1",
                "$.elements[0].price_components[0].step_size",
            ),
            ("08:00", "8:00", "$.elements[0].restrictions.start_time"),
            (
                "start_time",
                "starttime",
                "$.elements[0].restrictions.starttime",
            ),
            ("\"08:00\"", "8", "$.elements[0].restrictions.start_time"),
            ("\"elements\"", "\"element\"", "$"),
            ("\"id\"", "\"tax_included\"", "$.tax_included"),
        ] {
            let bad = good.replacen(from, to, 1);
            let error = Tariff::from_json(&bad).unwrap_err();
            assert_eq!(error.path, path, "{from} → {to}: {error}");
        }
        let twice = r#"{"currency": "EUR", "elements": [{"price_components": [{"type": "FLAT", "price": 1},
            {"type": "FLAT", "price": 2}]}]}"#;
        assert!(
            Tariff::from_json(twice)
                .unwrap_err()
                .message
                .contains("second")
        );
        let limits = good.replacen(
            "\"id\"",
            "\"min_price\": 2, \"max_price\": {\"before_taxes\": 1}, \"id\"",
            1,
        );
        assert!(Tariff::from_json(&limits).is_err());
        assert_eq!(
            Tariff::from_json(&format!("[{good}, {good}]"))
                .unwrap()
                .len(),
            2
        );
    }
}
