//! One interval from files, beside what a person works out on paper.

use domain::posting::Run;
use domain::terms::{DeviationPolicy, Terms};
use domain::time::Interval;
use serde_json::Value;
use settlement::by_hand::{Case, Output, readings, trades};
use settlement::tariff::Tariffs;

const TRADES: &str = "buyer,seller,energy_wh,price\nhome-a,home-b,1000,0.132\n";
const READINGS: &str = "participant,imported_wh,exported_wh,role\nhome-a,1200,0,\nhome-b,0,1150,\nfeeder,60,0,feeder\n";
const TARIFF: &str = "retail = \"0.32\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.07\"\n";

fn settle(trades_text: &str, readings_text: &str, tariff: &str, terms: Terms) -> Output {
    let tariffs = Tariffs::from_toml(tariff, &mut |name| Err(name.to_owned())).unwrap();
    let case = Case {
        interval: Interval::new(1_782_000_000, 900).unwrap(),
        run: Run::Provisional,
        tariffs: &tariffs,
        terms,
        clearing_price: None,
        trades: &trades(trades_text).unwrap(),
        readings: &readings(readings_text).unwrap(),
    };
    case.settle().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&output.to_json().unwrap()).unwrap()
}

/// The balance of an account after the interval.
fn account(value: &Value, asset: &str, account: &str) -> String {
    let all = value["accounts"].as_array().unwrap();
    let found = all
        .iter()
        .find(|a| a["asset"] == asset && a["account"] == account);
    found.map_or("0".to_owned(), |a| {
        a["balance"].as_str().unwrap().to_owned()
    })
}

#[test]
fn an_interval_from_files_is_what_a_person_works_out() {
    let output = settle(TRADES, READINGS, TARIFF, Terms::default());
    let value = json(&output);
    // Trade: 1000 Wh at 0.132, fee 0.07. Home a lacks 200 Wh, home b has 150 over; 50 Wh from the utility at 0.32.
    for (asset, name, balance) in [
        ("token", "105/home-a", "-0.202000000"),
        ("token", "100/home-b", "0.132000000"),
        ("token", "130/home-a", "-0.046300000"),
        ("token", "130/home-b", "0.019800000"),
        ("token", "210/-", "0.016000000"),
        ("token", "220/-", "0.080500000"),
        ("wh", "800/home-a", "1200"),
        ("wh", "800/home-b", "-1150"),
        ("wh", "810/-", "-60"),
        ("wh", "820/-", "10"),
        ("token", "200/-", "0.000000000"),
    ] {
        assert_eq!(
            account(&value, asset, name),
            balance,
            "{asset} {name}: {value:#}"
        );
    }
    assert_eq!(value["sums"]["token"], "0");
    assert_eq!(value["sums"]["wh"], "0");
    assert_eq!(value["feeder"]["check"], "within");
    assert_eq!(value["participants"][0]["net"], "-0.248300000");
    let trade = value["postings"].as_array().unwrap().iter();
    let trade: Vec<&Value> = trade.filter(|p| p["purpose"] == "trade").collect();
    assert_eq!((trade.len(), &trade[0]["trade"]), (1, &Value::from(1)));
    assert_eq!(output.to_csv().lines().count(), output.postings().len() + 1);
    assert!(
        output
            .to_table()
            .contains("sum of all accounts: 0 nano-token, 0 Wh")
    );
    let again = settle(TRADES, READINGS, TARIFF, Terms::default());
    assert_eq!(
        again.to_json().unwrap(),
        output.to_json().unwrap(),
        "same inputs, same bytes"
    );
}

#[test]
fn policies_silent_meters_and_steps() {
    let two = Terms {
        policy: DeviationPolicy::TwoPrice,
        ..Terms::default()
    };
    let value = json(&settle(TRADES, READINGS, TARIFF, two));
    assert_eq!(
        account(&value, "token", "130/home-a"),
        "-0.064000000",
        "200 Wh at 0.32"
    );
    assert_eq!(
        account(&value, "token", "130/home-b"),
        "0.012000000",
        "150 Wh at 0.08"
    );
    let silent = "[{\"participant\":\"home-a\",\"imported_wh\":null,\"exported_wh\":null},\
                  {\"participant\":\"home-b\",\"imported_wh\":0,\"exported_wh\":1000}]";
    let value = json(&settle(TRADES, silent, TARIFF, Terms::default()));
    assert_eq!(value["participants"][0]["quality"], "substituted");
    assert_eq!(account(&value, "token", "130/home-a"), "0");
    assert_eq!(value["feeder"]["check"], "not_metered");
    let steps = "[[version]]\nname = \"t\"\nvalid_from = \"2026-01-01T00:00:00Z\"\nkind = \"tiered\"\nfeed_in = \"0.08\"\n\
                 network_fee = \"0.07\"\n[[version.step]]\nfrom_kwh = 0\nretail = \"0.30\"\n[[version.step]]\nfrom_kwh = 1\n\
                 retail = \"0.40\"\n";
    let used = "participant,imported_wh,exported_wh,used_wh\nhome-a,500,0,700\n";
    let value = json(&settle(
        "buyer,seller,energy_wh,price\n",
        used,
        steps,
        Terms::default(),
    ));
    assert_eq!(
        account(&value, "token", "210/-"),
        "0.170000000",
        "300 Wh at 0.30, 200 at 0.40"
    );
    assert_eq!(value["tariff"], "t");
}

#[test]
fn mistakes_in_files_are_named() {
    for (text, expect) in [
        ("buyer,seller,energy_wh\na,b,1\n", "no column `price`"),
        (
            "buyer,seller,energy_wh,price\na,a,1,0.1\n",
            "row 1, column `seller`",
        ),
        (
            "buyer,seller,energy_wh,price\na,b,1.5,0.1\n",
            "row 1, column `energy_wh`",
        ),
        (
            "buyer,seller,energy_wh,price\na,b,0,0.1\n",
            "more than 0 Wh",
        ),
        (
            "buyer,seller,energy_wh,price\na,b,1,cheap\n",
            "column `price`",
        ),
        ("buyer,seller,energy_wh,price\na,b,1\n", "not CSV"),
        ("[{\"buyer\":1}", "not an array of objects"),
    ] {
        let error = trades(text).unwrap_err().to_string();
        assert!(error.contains(expect), "{text}: {error}");
    }
    for (text, expect) in [
        (
            "participant,imported_wh,exported_wh\na,-1,0\n",
            "column `imported_wh`",
        ),
        (
            "participant,imported_wh,exported_wh\na,1,\n",
            "column `exported_wh`",
        ),
        (
            "participant,imported_wh,exported_wh,role\na,1,2,solar\n",
            "column `role`",
        ),
        (
            "participant,imported_wh,exported_wh,role\na,1,2,feeder\nb,1,2,feeder\n",
            "two feeders",
        ),
    ] {
        let error = readings(text).unwrap_err().to_string();
        assert!(error.contains(expect), "{text}: {error}");
    }
}
