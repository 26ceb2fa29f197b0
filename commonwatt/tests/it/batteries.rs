//! A home's battery in the market, on the demo from end to end: its standing order sells, its gateway is told, the
//! battery's registers and power follow, and the home's meter counts what it has given.

use std::path::Path;
use std::process::{Command, Output};

use domain::command::{Ack, Outcome};
use domain::signed::Signed;
use domain::time::{Interval, Timestamp};
use serde_json::Value;

use crate::demo::{Demo, program, wait_for};
use crate::orders::said;

/// The battery of home-01, in `simulator/scenarios/street-10.toml`.
const POWER_MAX_W: i64 = 4_000;
const CAPACITY_WH: &str = "10000";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

fn order(demo: &Demo, data: &Path, words: &[&str]) -> Output {
    let url = format!("http://{}", demo.address);
    let mut command = Command::new(program());
    command.args(["order", words[0], "--url", &url]);
    command.args(["--participant", "home-01", "--key"]);
    command.arg(data.join("participants/home-01.key"));
    command.args(&words[1..]).output().unwrap()
}

/// The intervals in which the battery has sold something worth looking at, each with how much.
fn sold(demo: &Demo, data: &Path) -> Option<Vec<(Interval, i64)>> {
    let standing = order(demo, data, &["standing", "--format", "json"]);
    let standing: Value = serde_json::from_slice(&standing.stdout).ok()?;
    let one = |one: &Value| {
        let start: Timestamp = one["start"].as_str()?.parse().ok()?;
        let filled_wh = one["filled_wh"].as_i64().filter(|wh| *wh >= 100)?;
        let is_sold = one["side"] == "offer";
        is_sold.then_some((Interval::containing(start, 900).ok()?, filled_wh))
    };
    Some(
        standing[0]["orders"]
            .as_array()?
            .iter()
            .filter_map(one)
            .collect(),
    )
}

/// What the home has traded and what its meter has counted in an interval, once that is settled: sold and given
/// above zero.
fn settled(demo: &Demo, session: &str, interval: Interval) -> Option<(i64, i64)> {
    let answer = demo.send("GET", "/api/v1/deliveries", session, &[]);
    let rows = json(&answer.body)["items"].as_array()?.clone();
    let start = interval.start().to_string();
    let row = rows
        .into_iter()
        .find(|row| row["start"] == start.as_str())?;
    let wh = |name: &str| row[name].as_i64();
    Some((
        wh("sold_wh")? - wh("bought_wh")?,
        wh("export_wh")? - wh("import_wh")?,
    ))
}

/// The powers that the gateway has read back from the battery for the market's commands.
async fn confirmed(data: &Path) -> Vec<i64> {
    let file = data.join("commonwatt.db");
    let db = runtime::db::Db::open(file.to_str().unwrap()).await.unwrap();
    let sql = "SELECT a.message FROM control_ack a JOIN control_command c ON c.digest = a.command \
         WHERE c.origin = 'market' AND c.gateway = 'gw-home-01'";
    let rows: Vec<(Vec<u8>,)> = db.fetch_all(sql, runtime::args![]).await.unwrap();
    db.close().await;
    let ack = |(bytes,): (Vec<u8>,)| Signed::<Ack>::from_bytes(bytes).stored().unwrap();
    let outcomes = rows.into_iter().map(|row| ack(row).outcome);
    outcomes
        .filter_map(|outcome| match outcome {
            Outcome::Confirmed { value, .. } => Some(value),
            _ => None,
        })
        .collect()
}

/// The powers that were written into the battery's registers in an interval.
fn written(data: &Path, interval: Interval) -> Vec<i64> {
    let told = std::fs::read_to_string(data.join("told.jsonl")).unwrap_or_default();
    let told = told.lines().map(json).filter(|one| {
        let at = one["at_s"].as_i64().map(Timestamp::from_unix_s);
        let is_rate = one["asset"] == "battery" && one["home"] == 0 && one["register"] == 12;
        is_rate && at.is_some_and(|at| interval.contains(at))
    });
    let word = |one: Value| one["word"].as_i64().unwrap();
    told.map(|one| POWER_MAX_W * word(one) / 10_000).collect()
}

#[test]
fn a_battery_gives_what_its_standing_order_has_sold_and_the_homes_meter_counts_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("120", &data, &[]);
    let session = demo.sign_in("home-01");
    let about = json(&demo.get("/api/v1/platform").1);
    let now: Timestamp = about["now"].as_str().unwrap().parse().unwrap();
    let until = now.plus_s(2 * 3_600).to_string();
    let trades = [
        "battery",
        "--has-wh",
        "3000",
        "--most-wh",
        CAPACITY_WH,
        "--capacity-wh",
        CAPACITY_WH,
        "--charge-max-w",
        "4000",
        "--discharge-max-w",
        "4000",
        "--until",
        &until,
    ];
    let placed = said(&order(&demo, &data, &trades));
    assert!(placed.contains("accepted"), "{placed}");
    // The street is simulated on a computer that has other things to do: one quiet interval is enough.
    let mut seen = Vec::new();
    let (interval, sold_wh) = wait_for("a meter that comes to what was traded", || {
        let all = sold(&demo, &data)?;
        seen = all
            .into_iter()
            .filter_map(|one| Some((one, settled(&demo, &session, one.0)?)))
            .collect();
        println!("{seen:?}");
        let fits = |(_, (traded, given)): &&((Interval, i64), (i64, i64))| {
            (traded - given).abs() * 5 <= *traded
        };
        seen.iter().find(fits).map(|(one, _)| *one)
    });
    let told = written(&data, interval);
    // What the roof has over goes out at the same meter, so the battery gives the rest of what was sold.
    let gives = |w: &i64| (1..=POWER_MAX_W).contains(w);
    assert!(
        told.iter().any(gives),
        "{sold_wh} Wh were sold, {told:?} W written"
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let shown = runtime.block_on(confirmed(&data));
    assert!(
        shown
            .iter()
            .any(|w| told.iter().any(|told| (told - w).abs() <= 1)),
        "{told:?} was written, {shown:?} confirmed"
    );
}
