//! A promise as it is stored: a quote with who pays, whose the station is, and the plan, in integers.

use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::money::{Money, Price};
use domain::time::{Interval, Timestamp};
use serde::{Deserialize, Serialize};

use super::offer::Plan;
use super::split::Owner;
use super::terms::Quote;

/// Who pays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payer {
    /// A household, with its tokens.
    Home(String),
    /// Somebody without an account, by card: the tokens are issued against the card's hold.
    Card,
    /// A simulated card whose hold is placed and whose payment is refused at the end, to see what becomes of it.
    RefusingCard,
}

/// What a session begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Promise {
    /// What was offered.
    pub quote: Quote,
    /// When it charges.
    pub plan: Plan,
    /// Who pays.
    pub payer: Payer,
    /// Whose meter the energy went through: the station's own participant, or the household it is behind.
    pub host: ParticipantId,
    /// Whether that is the station itself, which buys its energy in the auction.
    pub buys: bool,
    /// Whose the station is.
    pub owners: Vec<Owner>,
}

/// Why a stored promise cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a stored charging promise is damaged: {0}")]
pub struct PromiseError(String);

/// `[start in unix seconds, length in seconds, value]`
type Timed = (i64, u32, i64);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    session: String,
    station: String,
    currency: String,
    prices_micro_per_kwh: Vec<Timed>,
    start_fee_nano: i64,
    #[serde(default)]
    time_per_hour_nano: i64,
    parking_per_hour_nano: i64,
    parking_grace_s: u32,
    tax_ppm: u32,
    energy_wh: i64,
    power_max_w: u32,
    ceiling_nano: i64,
    offered_at_ms: i64,
    valid_until_ms: i64,
    ready_by_ms: i64,
    plan_wh: Vec<Timed>,
    payer: Payer,
    host: String,
    #[serde(default)]
    buys: bool,
    owners_basis_points: Vec<(String, u32)>,
}

fn planned((interval, energy): &(Interval, Energy)) -> Timed {
    (interval.start_s(), interval.length_s(), energy.wh())
}

fn of_plan((start_s, length_s, wh): Timed) -> Result<(Interval, Energy), PromiseError> {
    Ok((interval(start_s, length_s)?, Energy::from_wh(wh)))
}

fn interval(start_s: i64, length_s: u32) -> Result<Interval, PromiseError> {
    Interval::new(start_s, length_s).map_err(|e| PromiseError(e.to_string()))
}

impl Promise {
    /// A plan as it is stored.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn plan_text(plan: &Plan) -> Result<String, PromiseError> {
        let timed: Vec<Timed> = plan.iter().map(planned).collect();
        serde_json::to_string(&timed).map_err(|e| PromiseError(e.to_string()))
    }

    /// Reads what [`Promise::plan_text`] wrote.
    ///
    /// # Errors
    /// It is damaged.
    pub fn plan_of(text: &str) -> Result<Plan, PromiseError> {
        let timed: Vec<Timed> =
            serde_json::from_str(text).map_err(|e| PromiseError(e.to_string()))?;
        timed.into_iter().map(of_plan).collect()
    }

    /// The text that is stored.
    ///
    /// # Errors
    /// JSON cannot hold it; none of its values is such.
    pub fn to_text(&self) -> Result<String, PromiseError> {
        let quote = &self.quote;
        let price = |(i, p): &(Interval, Price)| (i.start_s(), i.length_s(), p.micro_per_kwh());
        let stored = Stored {
            session: quote.session.clone(),
            station: quote.station.clone(),
            currency: quote.currency.clone(),
            prices_micro_per_kwh: quote.prices.iter().map(price).collect(),
            start_fee_nano: quote.start_fee.nano(),
            time_per_hour_nano: quote.time_per_hour.nano(),
            parking_per_hour_nano: quote.parking_per_hour.nano(),
            parking_grace_s: quote.parking_grace_s,
            tax_ppm: quote.tax_ppm,
            energy_wh: quote.energy.wh(),
            power_max_w: quote.power_max_w,
            ceiling_nano: quote.ceiling.nano(),
            offered_at_ms: quote.offered_at.unix_ms(),
            valid_until_ms: quote.valid_until.unix_ms(),
            ready_by_ms: quote.ready_by.unix_ms(),
            plan_wh: self.plan.iter().map(planned).collect(),
            payer: self.payer.clone(),
            host: self.host.as_str().to_owned(),
            buys: self.buys,
            owners_basis_points: self
                .owners
                .iter()
                .map(|o| (o.name.clone(), o.basis_points))
                .collect(),
        };
        serde_json::to_string(&stored).map_err(|e| PromiseError(e.to_string()))
    }

    /// Reads what [`Promise::to_text`] wrote.
    ///
    /// # Errors
    /// It is damaged.
    pub fn from_text(text: &str) -> Result<Promise, PromiseError> {
        let stored: Stored = serde_json::from_str(text).map_err(|e| PromiseError(e.to_string()))?;
        let mut prices = Vec::with_capacity(stored.prices_micro_per_kwh.len());
        for (start_s, length_s, micro) in stored.prices_micro_per_kwh {
            prices.push((
                interval(start_s, length_s)?,
                Price::from_micro_per_kwh(micro),
            ));
        }
        let plan = stored
            .plan_wh
            .into_iter()
            .map(of_plan)
            .collect::<Result<_, _>>()?;
        let host = ParticipantId::new(stored.host).map_err(|e| PromiseError(e.to_string()))?;
        let owner = |(name, basis_points)| Owner { name, basis_points };
        Ok(Promise {
            quote: Quote {
                session: stored.session,
                station: stored.station,
                currency: stored.currency,
                prices,
                start_fee: Money::from_nano(stored.start_fee_nano),
                time_per_hour: Money::from_nano(stored.time_per_hour_nano),
                parking_per_hour: Money::from_nano(stored.parking_per_hour_nano),
                parking_grace_s: stored.parking_grace_s,
                tax_ppm: stored.tax_ppm,
                energy: Energy::from_wh(stored.energy_wh),
                power_max_w: stored.power_max_w,
                ceiling: Money::from_nano(stored.ceiling_nano),
                offered_at: Timestamp::from_unix_ms(stored.offered_at_ms),
                valid_until: Timestamp::from_unix_ms(stored.valid_until_ms),
                ready_by: Timestamp::from_unix_ms(stored.ready_by_ms),
            },
            plan,
            payer: stored.payer,
            host,
            buys: stored.buys,
            owners: stored.owners_basis_points.into_iter().map(owner).collect(),
        })
    }
}
