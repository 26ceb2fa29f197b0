//! `/api/v1/deliveries`: what flowed beside what was traded, and what was posted for it.

use axum::extract::{Query, State};
use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::money::{Money, MoneyError};
use domain::posting::{Asset, Purpose};
use domain::receipt::Line;
use domain::time::Timestamp;
use serde::Serialize;
use settlement::calendar::LocalMonth;
use settlement::service::settled_import;
use settlement::statement::with_utility;
use utoipa::ToSchema;

use super::answer::{Answer, List, Range, Refused, Wants, home, time};
use super::statements::zone;
use crate::auth::Viewer;
use crate::web::Web;

/// One settled interval of a household, all runs together.
#[derive(Serialize, ToSchema)]
pub(super) struct Delivered {
    #[schema(format = DateTime)]
    start: String,
    length_s: u32,
    /// The newest run: provisional, initial, final or true-up.
    run: &'static str,
    /// measured, estimated or missing.
    quality: &'static str,
    /// Metered from the street, in watt-hours.
    import_wh: i64,
    /// Metered into the street.
    export_wh: i64,
    /// Bought from neighbours.
    bought_wh: i64,
    /// Sold to neighbours.
    sold_wh: i64,
    /// Deviation that neighbours cancelled: above zero given, below zero taken.
    pooled_wh: i64,
    /// Deviation that the utility took (above zero) or supplied (below zero).
    utility_wh: i64,
    /// From neighbours for trades less what was paid to them, in token.
    trades: String,
    /// Paid to the network, in token; below zero where it was paid.
    network_fee: String,
    /// From the pool for deviations, in token.
    pool: String,
    /// From the utility for deviations, in token.
    utility: String,
    /// All that was posted, in token.
    net: String,
    /// The same meter values with the utility alone, in token: received less paid.
    utility_alone: String,
}

const COLUMNS: [&str; 16] = [
    "start",
    "length_s",
    "run",
    "quality",
    "import_wh",
    "export_wh",
    "bought_wh",
    "sold_wh",
    "pooled_wh",
    "utility_wh",
    "trades",
    "network_fee",
    "pool",
    "utility",
    "net",
    "utility_alone",
];

/// Money by what it was for; each run posts the difference to the one before.
#[derive(Default)]
struct Sums {
    trades: Money,
    network_fee: Money,
    pool: Money,
    utility: Money,
    net: Money,
}

impl Sums {
    fn add(&mut self, line: &Line) -> Option<()> {
        let own = line.participant.as_str();
        for posting in line.postings.iter().filter(|p| p.asset == Asset::Token) {
            let mut amount = Money::ZERO;
            if posting.credit.owner() == own {
                amount = amount.checked_add(Money::from_nano(posting.amount))?;
            }
            if posting.debit.owner() == own {
                amount = amount.checked_sub(Money::from_nano(posting.amount))?;
            }
            let sum = match posting.purpose {
                Purpose::Trade => Some(&mut self.trades),
                Purpose::NetworkFee => Some(&mut self.network_fee),
                Purpose::PoolDeviation => Some(&mut self.pool),
                Purpose::UtilityDeviation => Some(&mut self.utility),
                _ => None,
            };
            if let Some(sum) = sum {
                *sum = sum.checked_add(amount)?;
            }
            self.net = self.net.checked_add(amount)?;
        }
        Some(())
    }
}

impl Delivered {
    /// The runs of one interval together; none where there is no run.
    fn of(runs: &[Line], imported_before: Energy) -> Result<Option<Delivered>, Refused> {
        let Some(newest) = runs.last() else {
            return Ok(None);
        };
        let mut sums = Sums::default();
        for line in runs {
            sums.add(line).ok_or(MoneyError::Overflow)?;
        }
        let delivery = &newest.delivery;
        let (paid, received) = with_utility(newest, imported_before)?;
        let alone = received.checked_sub(paid).ok_or(MoneyError::Overflow)?;
        Ok(Some(Delivered {
            start: time(newest.interval.start()),
            length_s: newest.interval.length_s(),
            run: newest.run.word(),
            quality: delivery.quality.word(),
            import_wh: delivery.imported.wh(),
            export_wh: delivery.exported.wh(),
            bought_wh: delivery.bought.wh(),
            sold_wh: delivery.sold.wh(),
            pooled_wh: newest.pooled_wh.wh(),
            utility_wh: newest.utility_wh.wh(),
            trades: sums.trades.to_string(),
            network_fee: sums.network_fee.to_string(),
            pool: sums.pool.to_string(),
            utility: sums.utility.to_string(),
            net: sums.net.to_string(),
            utility_alone: alone.to_string(),
        }))
    }
}

/// One's own settled intervals, newest first.
#[utoipa::path(
    get, path = "/api/v1/deliveries", tag = "energy", params(Range),
    responses((status = 200, content((List<Delivered> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(range): Query<Range>,
) -> Answer {
    let home = home(&viewer)?;
    let span = range.read()?;
    let db = &web.shared.db;
    let lines = settlement::service::lines_page(db, home, span.before()?, span.limit).await?;
    let items = delivered(&web, home, &lines).await?;
    List::new(items, span.limit, |row: &Delivered| row.start.clone()).answer(wants, &COLUMNS)
}

/// A home's settled intervals, newest first as their lines.
pub(super) async fn delivered(
    web: &Web,
    home: &ParticipantId,
    lines: &[Line],
) -> Result<Vec<Delivered>, Refused> {
    let mut items = Vec::new();
    let mut month = MonthSoFar::default();
    for runs in lines.chunk_by(|a, b| a.interval == b.interval).rev() {
        let Some(newest) = runs.last() else { continue };
        let before = month.before(web, home, newest).await?;
        items.extend(Delivered::of(runs, before)?);
    }
    items.reverse();
    Ok(items)
}

/// What a home has imported in the local month: the steps of a tiered tariff count it.
#[derive(Default)]
struct MonthSoFar {
    /// Since when, until when, and how much.
    known: Option<(Timestamp, Timestamp, Energy)>,
}

impl MonthSoFar {
    /// Before this line, which is later than those before it. Without steps nothing has to be read.
    async fn before(
        &mut self,
        web: &Web,
        home: &ParticipantId,
        line: &Line,
    ) -> Result<Energy, Refused> {
        if line.tiers.is_none() {
            return Ok(Energy::ZERO);
        }
        let start = line.interval.start();
        let (month_from, _) = LocalMonth::containing(start, zone(web))?.bounds()?;
        let (from, sum) = match self.known {
            Some((from, until, sum)) if from == month_from => (until, sum),
            _ => (month_from, Energy::ZERO),
        };
        let more = settled_import(&web.shared.db, home, from, start).await?;
        let sum = sum.checked_add(more).ok_or(MoneyError::Overflow)?;
        self.known = Some((month_from, start, sum));
        Ok(sum)
    }
}
