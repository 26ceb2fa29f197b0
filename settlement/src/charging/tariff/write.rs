//! Writes a tariff as OCPI's JSON; numbers as decimals, never through a float.

use chrono::{NaiveDate, NaiveTime, Weekday};
use domain::money::Money;

use super::{Component, Element, Limit, Reservation, Restrictions, Tariff, TaxRule};
use crate::charging::decimal;

impl Tariff {
    /// The tariff as OCPI's JSON. Reading it back gives the same tariff.
    #[must_use]
    pub fn to_ocpi(&self) -> String {
        let mut members = vec![
            format!("\"id\":{}", quoted(&self.id)),
            format!("\"currency\":{}", quoted(&self.currency)),
        ];
        let rule = match self.tax {
            TaxRule::OnTop => "NO",
            TaxRule::Included => "YES",
            TaxRule::None => "N/A",
        };
        members.push(format!("\"tax_included\":{}", quoted(rule)));
        let limits = [("min_price", self.min_price), ("max_price", self.max_price)];
        members.extend(
            limits
                .into_iter()
                .filter_map(|(name, of)| Some(limit(name, &of?))),
        );
        let times = [
            ("start_date_time", self.valid_from),
            ("end_date_time", self.valid_until),
        ];
        let time = |(name, at): (&str, Option<_>)| Some(format!("\"{name}\":\"{}\"", at?));
        members.extend(times.into_iter().filter_map(time));
        let elements: Vec<String> = self.elements.iter().map(element).collect();
        members.push(format!("\"elements\":[{}]", elements.join(",")));
        format!("{{{}}}", members.join(","))
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn money(amount: Money) -> String {
    decimal(i128::from(amount.nano()), 2)
}

fn limit(name: &str, limit: &Limit) -> String {
    let after = limit
        .after_tax
        .map(|after| format!(",\"after_taxes\":{}", money(after)));
    let before = money(limit.before_tax);
    format!(
        "\"{name}\":{{\"before_taxes\":{before}{}}}",
        after.unwrap_or_default()
    )
}

fn element(element: &Element) -> String {
    let components: Vec<String> = element.components.iter().map(component).collect();
    let restrictions = restrictions(&element.restrictions);
    let restrictions = match restrictions.is_empty() {
        true => String::new(),
        false => format!(",\"restrictions\":{{{}}}", restrictions.join(",")),
    };
    format!(
        "{{\"price_components\":[{}]{restrictions}}}",
        components.join(",")
    )
}

fn component(component: &Component) -> String {
    // A millionth is the fourth decimal of a percent.
    let vat = component
        .tax_ppm
        .map(|ppm| format!("\"vat\":{},", decimal(i128::from(ppm) * 100_000, 0)));
    format!(
        "{{\"type\":\"{}\",\"price\":{},{}\"step_size\":{}}}",
        component.dimension.word(),
        money(component.price),
        vat.unwrap_or_default(),
        component.step
    )
}

fn restrictions(of: &Restrictions) -> Vec<String> {
    let time = |t: NaiveTime| t.format("\"%H:%M\"").to_string();
    let date = |d: NaiveDate| d.format("\"%Y-%m-%d\"").to_string();
    let nano = |n: i128| decimal(n, 0);
    let days = (!of.days.is_empty()).then(|| {
        let days: Vec<&str> = of.days.iter().map(|d| weekday(*d)).collect();
        format!("[{}]", days.join(","))
    });
    let reservation = of.reservation.map(|r| match r {
        Reservation::Reserved => "\"RESERVATION\"".to_owned(),
        Reservation::Expired => "\"RESERVATION_EXPIRES\"".to_owned(),
    });
    let all = [
        ("start_time", of.start_time.map(time)),
        ("end_time", of.end_time.map(time)),
        ("start_date", of.start_date.map(date)),
        ("end_date", of.end_date.map(date)),
        ("min_kwh", of.min_energy.map(nano)),
        ("max_kwh", of.max_energy.map(nano)),
        ("min_current", of.min_current.map(nano)),
        ("max_current", of.max_current.map(nano)),
        ("min_power", of.min_power.map(nano)),
        ("max_power", of.max_power.map(nano)),
        ("min_duration", of.min_duration_s.map(|s| s.to_string())),
        ("max_duration", of.max_duration_s.map(|s| s.to_string())),
        ("day_of_week", days),
        ("reservation", reservation),
    ];
    let said = all
        .into_iter()
        .filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?)));
    said.collect()
}

const fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Mon => "\"MONDAY\"",
        Weekday::Tue => "\"TUESDAY\"",
        Weekday::Wed => "\"WEDNESDAY\"",
        Weekday::Thu => "\"THURSDAY\"",
        Weekday::Fri => "\"FRIDAY\"",
        Weekday::Sat => "\"SATURDAY\"",
        Weekday::Sun => "\"SUNDAY\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tariff_survives_being_written_and_read() {
        let text = r#"{"id": "a \"b\"", "currency": "EUR", "tax_included": "YES", "min_price": 0.5, "max_price":
            {"excl_vat": 10, "incl_vat": 11.9}, "start_date_time": "2026-01-01T00:00:00Z", "elements": [
            {"price_components": [{"type": "FLAT", "price": 0.123456789}]},
            {"price_components": [{"type": "ENERGY", "price": 0.25, "vat": 5.2, "step_size": 100},
            {"type": "TIME", "price": -1, "vat": 0, "step_size": 60}], "restrictions": {"start_time": "08:00",
            "end_time": "17:30", "start_date": "2026-03-01", "end_date": "2026-04-01", "min_kwh": 0.5, "max_kwh": 20,
            "min_current": 6, "max_current": 32.5, "min_power": 1.4, "max_power": 22, "min_duration": 60,
            "max_duration": 3600, "day_of_week": ["MONDAY", "SUNDAY"], "reservation": "RESERVATION_EXPIRES"}}]}"#;
        let read = Tariff::from_json(text).unwrap();
        let again = Tariff::from_json(&read[0].to_ocpi()).unwrap();
        assert_eq!(again, read);
    }
}
