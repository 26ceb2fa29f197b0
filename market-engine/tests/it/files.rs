//! Files of orders: what is read, what is refused and how it is said, what is written.

use market_engine::clear::Mechanism;
use market_engine::file::{Format, Output, clear_file};

fn cleared(text: &str, format: Format) -> Result<Output, String> {
    clear_file(text.as_bytes(), format, Mechanism::default()).map_err(|error| error.to_string())
}

fn refused(format: Format, text: &str, expect: &str) {
    assert_eq!(
        cleared(text, format).err().as_deref(),
        Some(expect),
        "{text}"
    );
}

const CSV: &str = "side,id,participant,limit_price,energy_wh\n\
    bid,b1,home 1,0.30,1000\n\
    offer,o1,home 2,0.10,600\n";

const JSON: &str = r#"[
  {"id": "b1", "participant": "home 1", "side": "bid", "energy_wh": 1000, "limit_price": "0.30"},
  {"id": "o1", "participant": "home 2", "side": "offer", "energy_wh": 600, "limit_price": 0.1}
]"#;

const EXPECTED: &str = r#"{
  "mechanism": "uniform-price",
  "price_policy": "walras-mid",
  "price": "0.300000",
  "price_interval": [
    "0.300000",
    "0.300000"
  ],
  "volume_wh": 600,
  "welfare": "0.120000000",
  "gains": {
    "buyers": "0.000000000",
    "sellers": "0.120000000",
    "community": "0.000000000"
  },
  "trades": [
    {
      "bid": "b1",
      "offer": "o1",
      "energy_wh": 600,
      "price": "0.300000"
    }
  ],
  "orders": [
    {
      "id": "b1",
      "filled_wh": 600,
      "reason": "filled in part, 600 of 1000 Wh (60.0 %): the last order served; only 600 Wh were left"
    },
    {
      "id": "o1",
      "filled_wh": 600,
      "reason": "filled"
    }
  ]
}
"#;

#[test]
fn csv_and_json_of_the_same_orders_give_the_same_result() {
    assert_eq!(
        cleared(CSV, Format::Csv).unwrap().to_json().unwrap(),
        EXPECTED
    );
    assert_eq!(
        cleared(JSON, Format::Json).unwrap().to_json().unwrap(),
        EXPECTED
    );
    let bom = format!("\u{feff}{}", CSV.replace('\n', "\r\n"));
    assert_eq!(
        cleared(&bom, Format::Csv).unwrap().to_json().unwrap(),
        EXPECTED
    );
}

#[test]
fn nothing_traded_has_no_price() {
    let text = "id,participant,side,energy_wh,limit_price\n";
    for (text, format) in [(text, Format::Csv), ("[]", Format::Json)] {
        let json = cleared(text, format).unwrap().to_json().unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(
            value["price"].is_null() && value["price_interval"].is_null(),
            "{json}"
        );
        assert_eq!(value["volume_wh"], 0);
    }
}

#[test]
fn csv_errors_name_the_place_and_what_was_expected() {
    let head = "id,participant,side,energy_wh,limit_price\n";
    let csv = |text: &str, expect: &str| refused(Format::Csv, &format!("{head}{text}"), expect);
    let good = "b1,a,bid,10,0.1\n";
    let second = |line: &str, expect: &str| csv(&format!("{good}{line}"), expect);
    second(
        "b2,a,buy,10,0.1",
        "line 3, column `side`: found `buy`, expected bid or offer",
    );
    let energy = "expected a whole number of watt-hours above zero";
    for wrong in ["0", "-5", "1.5", "+5", "1e3", "9223372036854775808"] {
        let line = format!("b2,a,bid,{wrong},0.1");
        second(
            &line,
            &format!("line 3, column `energy_wh`: found `{wrong}`, {energy}"),
        );
    }
    let price = "expected a price in token/kWh with at most 6 decimals, like 0.132";
    for wrong in ["0.1234567", "x", ".5"] {
        let line = format!("b2,a,bid,10,{wrong}");
        second(
            &line,
            &format!("line 3, column `limit_price`: found `{wrong}`, {price}"),
        );
    }
    let range = "expected a price between -9223372036854.775808 and 9223372036854.775807 token/kWh";
    for wrong in ["9999999999999999", "-9223372036854.775809", &"9".repeat(40)] {
        second(
            &format!("b2,a,bid,10,{wrong}"),
            &format!("line 3, column `limit_price`: found `{wrong}`, {range}"),
        );
    }
    second(
        "b2,a,bid,10,9223372036854.775807\nb3,a,x,1,1",
        "line 4, column `side`: found `x`, expected bid or offer",
    );
    second(
        "b2,a,bid,10,",
        &format!("line 3, column `limit_price`: found nothing, {price}"),
    );
    second(
        "b2,a,bid,10,0,1",
        "line 3: found 6 fields, expected 5 as in the header; likely causes: a decimal comma (write 0.1, not 0,1) or an unclosed quote",
    );
    second(
        "b2,a,bid,10",
        "line 3: found 4 fields, expected 5 as in the header; likely causes: a decimal comma (write 0.1, not 0,1) or an unclosed quote",
    );
    let again = "line 3, column `id`: found `b1` again, first in line 2; expected a new id";
    second("b1,c,offer,10,0.1", again);
    let text = "expected text of 1 to 128 bytes without control characters";
    second(
        ",a,bid,10,0.1",
        &format!("line 3, column `id`: found nothing, {text}"),
    );
    let long = "x".repeat(129);
    let shown = "x".repeat(60);
    second(
        &format!("b2,{long},bid,10,0.1"),
        &format!("line 3, column `participant`: found `{shown}…`, {text}"),
    );
    csv(
        "\n\r\n\nb1,a,buy,10,0.1",
        "line 5, column `side`: found `buy`, expected bid or offer",
    );
    let max = i64::MAX;
    let sum = "line 3, column `energy_wh`: the energies of all bids together do not fit 64 bits: use smaller orders";
    second(&format!("b2,a,bid,{max},0.1"), sum);
}

#[test]
fn csv_headers_are_checked() {
    let columns = "expected the columns id,participant,side,energy_wh,limit_price in any order";
    let check = |header: &str, problem: &str| {
        refused(
            Format::Csv,
            header,
            &format!("line 1: the header {problem}; {columns}"),
        );
    };
    for format in [Format::Csv, Format::Json] {
        refused(format, "", "the file is empty");
        refused(format, "\u{feff}\n\r\n ", "the file is empty");
    }
    let semicolons = "has no column `id`: it is separated by semicolons, not commas";
    check("id;participant;side;energy_wh;limit_price\n", semicolons);
    let tabs = "has no column `id`: it is separated by tabs, not commas";
    check("id\tparticipant\tside\tenergy_wh\tlimit_price\n", tabs);
    check(
        "id,participant,side,energy_wh,price\n",
        "has no column `limit_price`",
    );
    check(
        "id,id,participant,side,energy_wh,limit_price\n",
        "has the column `id` twice",
    );
    let error = clear_file(b"id,\n\xff", Format::Csv, Mechanism::default()).unwrap_err();
    assert_eq!(error.to_string(), "line 2: not UTF-8 text");
}

#[test]
fn json_errors_name_the_place_and_what_was_expected() {
    let array = "expected an array of orders as objects";
    let check = |text: &str, expect: &str| refused(Format::Json, text, expect);
    check(
        "[\n{]",
        &format!("line 2, character 2: key must be a string; {array}"),
    );
    check(
        "{}",
        &format!("line 1, character 0: invalid type: map, expected a sequence; {array}"),
    );
    let wrong = "line 3, character 1: found `1`";
    check("[\n\n1]", &format!("{wrong}; {array}"));
    let twice = r#"[{"id": "b1", "id": "b2"}]"#;
    check(
        twice,
        &format!("line 1, character 18: duplicate field `id`; {array}"),
    );
    let replaced = |from: &str, to: &str, expect: &str| {
        assert!(JSON.contains(from));
        check(&JSON.replace(from, to), expect);
    };
    replaced(
        "\"bid\"",
        "7",
        "line 2, column `side`: found `7`, expected bid or offer",
    );
    let energy = "line 3, column `energy_wh`: found `\"600\"`, expected a whole number of watt-hours above zero";
    replaced("600", "\"600\"", energy);
    let once = r#"line 3, column `energy_wh`: found `"6\n0"`, expected a whole number of watt-hours above zero"#;
    replaced("600", r#""6\n0""#, once);
    let once = r"line 2, column `side`: found `b\n`, expected bid or offer";
    replaced("\"bid\"", r#""b\n""#, once);
    let energy =
        "line 3, column `energy_wh`: found `6e2`, expected a whole number of watt-hours above zero";
    replaced("600", "6e2", energy);
    let price = "expected a price in token/kWh with at most 6 decimals, like 0.132";
    // More digits than a float holds are still seen.
    let long = "0.1000000000000000001";
    replaced(
        "0.1}",
        &format!("{long}}}"),
        &format!("line 3, column `limit_price`: found `{long}`, {price}"),
    );
    replaced(
        ", \"limit_price\": 0.1",
        "",
        &format!("line 3, column `limit_price`: found nothing, {price}"),
    );
    let again = "line 3, column `id`: found `b1` again, first in line 2; expected a new id";
    replaced("\"o1\"", "\"b1\"", again);
}

#[test]
fn csv_and_table_show_what_became_of_each_order() {
    let output = cleared(CSV, Format::Csv).unwrap();
    let csv = output.to_csv().unwrap();
    let mut lines = csv.lines();
    assert_eq!(
        lines.next(),
        Some("id,side,energy_wh,limit_price,filled_wh,reason,needed_price,gain")
    );
    let share =
        "\"filled in part, 600 of 1000 Wh (60.0 %): the last order served; only 600 Wh were left\"";
    assert_eq!(
        lines.next(),
        Some(format!("b1,bid,1000,0.300000,600,{share},,0.000000000").as_str())
    );
    let table = output.to_table();
    assert!(table.contains("volume     600 Wh\n"), "{table}");
    assert!(
        table.contains("\no1     offer  600   0.100000  600        filled\n"),
        "{table}"
    );
}
