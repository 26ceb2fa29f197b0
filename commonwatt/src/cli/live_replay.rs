//! `commonwatt replay` on live data: the public books of cleared intervals under another mechanism.
//!
//! The books come from a platform's address, from its data folder, or from a folder that `commonwatt audit --mirror` filled.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use domain::time::Timestamp;
use market_engine::clear::{Mechanism, Words};
use market_engine::public::BOOK_MAX_BYTES;
use market_engine::replay::{Came, Replayed, replay};
use market_engine::service;
use runtime::db::Db;
use serde_json::{Value, json};

use super::http::Client;
use super::simulate::Changes;
use super::{CliError, Format, block_on_two, print_data};

/// Intervals on one page of a platform or a database.
const PAGE: u32 = 1_000;
/// Most intervals of one replay: a year of quarter hours.
const INTERVALS_MAX: usize = 40_000;

/// Where books are.
pub(super) enum Place {
    /// A platform's address.
    Address(String),
    /// A platform's database.
    Database(PathBuf),
    /// Files under the paths of the platform.
    Mirror(PathBuf),
}

/// Start and text of each book, by time.
type Books = BTreeMap<Timestamp, String>;

/// The live data of that name; none where it is something else.
pub(super) fn place(name: &Path) -> Option<Place> {
    let text = name.to_string_lossy();
    if text.contains("://") {
        return Some(Place::Address(text.into_owned()));
    }
    let database = name.join("commonwatt.db");
    if database.is_file() {
        return Some(Place::Database(database));
    }
    let mirror = name.join("api/v1/markets");
    mirror.is_dir().then_some(Place::Mirror(mirror))
}

/// Replays what was cleared between two instants.
pub(super) fn run(
    place: Place,
    changes: &Changes,
    (from, to): (Option<&str>, Option<&str>),
    format: Format,
) -> Result<(), CliError> {
    let mechanism = mechanism(changes)?;
    let instant = |option: &str, text: Option<&str>| {
        let parsed = text.map(str::parse::<Timestamp>).transpose();
        parsed.map_err(|e| CliError::BadInput(format!("{option}: like 2026-06-21T12:00:00Z: {e}")))
    };
    let span = (
        instant("--from", from)?.unwrap_or(Timestamp::from_unix_s(0)),
        instant("--to", to)?.unwrap_or(Timestamp::from_unix_s(i64::from(u32::MAX))),
    );
    let books = match place {
        Place::Address(url) => from_platform(&Client::new(&url), span)?,
        Place::Database(file) => block_on_two(from_database(file, span))?,
        Place::Mirror(folder) => from_mirror(&folder, span)?,
    };
    if books.is_empty() {
        return Err(CliError::BadInput(
            "no interval with a public book is there (between --from and --to)".to_owned(),
        ));
    }
    let mut rows = Vec::with_capacity(books.len());
    for (start, text) in &books {
        let row = replay(text, mechanism)
            .map_err(|e| CliError::BadInput(format!("the book of {start}: {e}")))?;
        rows.push(row);
    }
    if mechanism.depends_on_arrival() && rows.iter().any(|r| !r.mechanism.depends_on_arrival()) {
        eprintln!(
            "arrival counts under {}, and the books of other mechanisms do not say it: their order of names stands for it",
            mechanism.name()
        );
    }
    print_data(&match format {
        Format::Json => as_json(&rows, mechanism)?,
        Format::Csv => as_csv(&rows),
        Format::Table => as_table(&rows, mechanism),
    })
}

fn mechanism(changes: &Changes) -> Result<Mechanism, CliError> {
    let Some(name) = changes.mechanism.as_deref() else {
        return Err(CliError::BadInput(
            "--mechanism: live data is replayed under another mechanism: say which".to_owned(),
        ));
    };
    if let Some(option) = changes.not_of_live_data() {
        return Err(CliError::BadInput(format!(
            "{option}: people ordered as they did; live data is replayed under another --mechanism only"
        )));
    }
    let words = Words {
        mechanism: Some(name),
        price_policy: changes.price_policy.as_deref(),
        ..Words::default()
    };
    Mechanism::from_words(&words).map_err(|e| {
        CliError::BadInput(format!(
            "--mechanism: {e} (the sharing rules and `none` divide metered energy, which public books do not hold)"
        ))
    })
}

fn full(count: usize) -> Result<(), CliError> {
    if count <= INTERVALS_MAX {
        return Ok(());
    }
    Err(CliError::BadInput(format!(
        "more than {INTERVALS_MAX} intervals: name a part with --from and --to"
    )))
}

fn from_platform(client: &Client, (from, to): (Timestamp, Timestamp)) -> Result<Books, CliError> {
    let (mut books, mut after) = (Books::new(), String::new());
    loop {
        let page = client.get(&format!(
            "/api/v1/intervals?from={from}&to={to}&limit={PAGE}{after}"
        ))?;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let starts = items.iter().filter_map(|item| item["start"].as_str());
        for start in starts.clone() {
            let path = format!("/api/v1/markets/{start}/book");
            let Some(book) = client.find(&path, BOOK_MAX_BYTES)? else {
                continue;
            };
            let at = start.parse().map_err(|e| anyhow::anyhow!("{start}: {e}"))?;
            books.insert(at, String::from_utf8_lossy(&book).into_owned());
            full(books.len())?;
        }
        match page["next"].as_str() {
            Some(next) if !items.is_empty() => after = format!("&after={next}"),
            _ => return Ok(books),
        }
    }
}

async fn from_database(
    file: PathBuf,
    (from, mut to): (Timestamp, Timestamp),
) -> anyhow::Result<Books> {
    let db = Db::open(&file.display().to_string()).await?;
    let mut books = Books::new();
    loop {
        let page = service::clearings_page(&db, (from, to), PAGE).await?;
        for clearing in &page {
            let interval = clearing.interval;
            if let Some(book) = service::public_book(&db, interval).await? {
                books.insert(interval.start(), book);
            }
            to = to.min(interval.start());
        }
        if page.is_empty() {
            return Ok(books);
        }
        full(books.len()).map_err(|e| anyhow::anyhow!("{e}"))?;
    }
}

fn from_mirror(folder: &Path, (from, to): (Timestamp, Timestamp)) -> Result<Books, CliError> {
    let unreadable = |e: std::io::Error| anyhow::anyhow!("cannot read {}: {e}", folder.display());
    let mut books = Books::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(start) = name.parse::<Timestamp>() else {
            continue;
        };
        let book = entry.path().join("book");
        if start >= from && start < to && book.is_file() {
            let text = super::read_input(&book)?;
            books.insert(start, text);
            full(books.len())?;
        }
    }
    Ok(books)
}

fn tokens(nano: i128) -> String {
    let sign = if nano < 0 { "-" } else { "" };
    let size = nano.unsigned_abs();
    format!(
        "{sign}{}.{:06}",
        size / 1_000_000_000,
        size % 1_000_000_000 / 1000
    )
}

fn price(came: &Came) -> String {
    let micro = came.mean_price_micro();
    micro.map_or_else(|| "-".to_owned(), |micro| tokens(micro * 1000))
}

fn sums(rows: &[Replayed]) -> (Came, Came) {
    let (mut was, mut would_be) = (Came::default(), Came::default());
    for row in rows {
        was.add(&row.was);
        would_be.add(&row.would_be);
    }
    (was, would_be)
}

/// A line of the table: its name, and what it says of one side.
type Line = (&'static str, fn(&Came) -> String);

fn as_table(rows: &[Replayed], mechanism: Mechanism) -> String {
    let (was, would_be) = sums(rows);
    let first = rows.first().map(|row| row.interval.start());
    let last = rows.last().map(|row| row.interval.end());
    let mut names: Vec<&str> = rows.iter().map(|row| row.mechanism.name()).collect();
    names.sort_unstable();
    names.dedup();
    let orders: usize = rows.iter().map(|row| row.orders).sum();
    let mut text = format!(
        "{} intervals from {} to {}, {orders} orders, as cleared ({}) and under {}\n\n{:<28} {:>18} {:>18}\n",
        rows.len(),
        first.map_or_else(String::new, |at| at.to_string()),
        last.map_or_else(String::new, |at| at.to_string()),
        names.join(", "),
        mechanism.name(),
        "",
        "as cleared",
        mechanism.name(),
    );
    let mut line = |name: &str, was: String, would_be: String| {
        let _ = writeln!(text, "{name:<28} {was:>18} {would_be:>18}");
    };
    let both = |of: fn(&Came) -> String| (of(&was), of(&would_be));
    let lines: [Line; 7] = [
        ("trades", |came| came.trades.to_string()),
        ("traded, kWh", |came| {
            format!("{}.{:03}", came.volume_wh / 1000, came.volume_wh % 1000)
        }),
        ("mean price, token/kWh", price),
        ("welfare, token", |came| tokens(came.welfare)),
        ("  of it with buyers", |came| tokens(came.gains.buyers)),
        ("  of it with sellers", |came| tokens(came.gains.sellers)),
        ("  of it with the community", |came| {
            tokens(came.gains.community)
        }),
    ];
    for (name, of) in lines {
        let (was, would_be) = both(of);
        line(name, was, would_be);
    }
    let count = |of: fn(&Replayed) -> usize| rows.iter().map(of).sum::<usize>();
    let _ = writeln!(
        text,
        "\n{} orders would have gained more, {} less, by their own limits. Orders are taken as they were: under other rules\n\
         people may order otherwise.",
        count(|row| row.better_off),
        count(|row| row.worse_off)
    );
    text
}

fn as_csv(rows: &[Replayed]) -> String {
    let mut text = String::from(
        "start,mechanism,orders,trades_was,trades,volume_was_wh,volume_wh,mean_price_was,mean_price,\
         welfare_was,welfare,buyers_was,buyers,sellers_was,sellers,community_was,community,better_off,worse_off\n",
    );
    for row in rows {
        let (was, now) = (&row.was, &row.would_be);
        let fields = [
            row.interval.start().to_string(),
            row.mechanism.name().to_owned(),
            row.orders.to_string(),
            was.trades.to_string(),
            now.trades.to_string(),
            was.volume_wh.to_string(),
            now.volume_wh.to_string(),
            price(was).replace('-', ""),
            price(now).replace('-', ""),
            tokens(was.welfare),
            tokens(now.welfare),
            tokens(was.gains.buyers),
            tokens(now.gains.buyers),
            tokens(was.gains.sellers),
            tokens(now.gains.sellers),
            tokens(was.gains.community),
            tokens(now.gains.community),
            row.better_off.to_string(),
            row.worse_off.to_string(),
        ];
        text += &fields.join(",");
        text.push('\n');
    }
    text
}

fn came_json(came: &Came) -> Value {
    json!({
        "trades": came.trades,
        "volume_wh": came.volume_wh,
        "mean_price": came.mean_price_micro().map(|micro| tokens(micro * 1000)),
        "welfare": tokens(came.welfare),
        "buyers": tokens(came.gains.buyers),
        "sellers": tokens(came.gains.sellers),
        "community": tokens(came.gains.community),
    })
}

fn as_json(rows: &[Replayed], mechanism: Mechanism) -> Result<String, CliError> {
    let (was, would_be) = sums(rows);
    let row = |row: &Replayed| {
        json!({
            "start": row.interval.start().to_string(),
            "mechanism": row.mechanism.name(),
            "orders": row.orders,
            "was": came_json(&row.was),
            "would_be": came_json(&row.would_be),
            "better_off": row.better_off,
            "worse_off": row.worse_off,
        })
    };
    let all = json!({
        "mechanism": mechanism.name(),
        "details": mechanism.details(),
        "was": came_json(&was),
        "would_be": came_json(&would_be),
        "intervals": rows.iter().map(row).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_with_their_sign() {
        assert_eq!(tokens(1_234_567_890), "1.234567");
        assert_eq!(tokens(-500_000), "-0.000500");
        assert_eq!(price(&Came::default()), "-");
    }

    #[test]
    fn live_data_is_told_from_runs() {
        let folder = tempfile::tempdir().unwrap();
        assert!(place(folder.path()).is_none());
        std::fs::write(folder.path().join("commonwatt.db"), "").unwrap();
        assert!(matches!(place(folder.path()), Some(Place::Database(_))));
        let url = Path::new("http://127.0.0.1:8080");
        assert!(matches!(place(url), Some(Place::Address(_))));
    }

    #[test]
    fn a_mirror_is_read_between_two_instants() {
        let folder = tempfile::tempdir().unwrap();
        for start in ["2026-06-21T12:00:00Z", "2026-06-21T12:15:00Z"] {
            let place = folder.path().join(start);
            std::fs::create_dir(&place).unwrap();
            std::fs::write(place.join("book"), start).unwrap();
        }
        std::fs::create_dir(folder.path().join("strange")).unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let span = (at("2026-06-21T12:15:00Z"), at("2026-06-22T00:00:00Z"));
        let books = from_mirror(folder.path(), span).unwrap();
        assert_eq!(
            books.into_values().collect::<Vec<_>>(),
            ["2026-06-21T12:15:00Z"]
        );
    }
}
