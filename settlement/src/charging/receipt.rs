//! A session's receipt: terms, record, bill, payment, the signed readings with the operator's record of their key and
//! their place in the log, and where the energy came from; signed by the operator. Its verifier needs nothing else.
//!
//! `{"receipt": {…}, "operator_key": …, "signature": …}`: what is signed is the text of `receipt` as it stands,
//! after the line `commonwatt/<community>/charging-receipt/v1`. The tariff and the record in it are OCPI's, and the
//! bill is what they come to, so `commonwatt rate` can be asked as well.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::energy::Energy;
use domain::ids::CommunityId;
use domain::money::Money;
use domain::reading::{Obis, Reading};
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use ed25519_dalek::Signer as _;

mod charger;
mod proof;

use self::proof::{Origins, Trust, base64};
use super::rate::rate;
use super::record::Record;
use super::session::{Ending, Session, State};
use super::split::Credit;
use super::tariff::Tariff;
use super::{NANO, decimal};
use crate::log::checkpoint::Log;
use crate::log::policy::Policy;
use crate::prove::{Report, Trusted};
use domain::json::{FileError, Node, needed};

pub use self::charger::{AGREES_WITHIN_WH, ChargerProof, Chosen, choose};
pub use self::proof::{Origin, Settled};

/// What a receipt says it is.
pub const FORMAT: &str = "commonwatt-charging-receipt/v1";
/// Longest receipt that is read: two days of quarter-hours with their proofs fit.
pub const RECEIPT_MAX_BYTES: usize = 1 << 20;
/// Who carries the price risk, as every receipt says it.
pub const PRICE_RISK: &str = "The driver pays the promised prices and never more than the ceiling. What the energy costs \
    beyond that is the loss of the station's owners, what it costs less is their gain.";

/// A signed reading with the key that signed it.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The reading as it came.
    pub reading: Signed<Reading>,
    /// The gateway's key.
    pub key: PublicKey,
    /// The operator's signed record of that key.
    pub record: Option<Vec<u8>>,
    /// The proof that the readings log holds the reading, opened (a `*.tlog-proof` text).
    pub log: Option<String>,
}

/// What a receipt is made of beside the session.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// The readings of the interval at whose end the session began, and of the one at whose end it ended.
    pub proofs: &'a [Proof; 2],
    /// Where the energy came from, for a station that buys by itself.
    pub settled: Option<&'a [Settled]>,
    /// Corrections since, in their order.
    pub credits: &'a [Credit],
    /// What the charger's own meter has signed, and why something of it is not believed and not shown.
    pub charger: (&'a [ChargerProof], Option<&'a str>),
}

/// Why there is no receipt.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The session goes on.
    #[error("the session has not ended yet: its receipt comes when it is paid")]
    Running,
    /// It ended before anything was metered.
    #[error("nothing was metered in this session, so there is no receipt")]
    Nothing,
}

/// Writes and signs the receipt of a session that has ended.
///
/// # Errors
/// The session goes on, or nothing was metered.
pub fn write(
    session: &Session,
    parts: &Parts<'_>,
    community: &CommunityId,
    operator: &SigningKey,
) -> Result<String, ReceiptError> {
    let State::Closed(ending) = session.state() else {
        return Err(ReceiptError::Running);
    };
    let (record, bill) = session
        .record()
        .zip(session.bill())
        .ok_or(ReceiptError::Nothing)?;
    let terms = session.terms();
    let quote = &terms.quote;
    let paid = if session.debt() > Money::ZERO {
        Money::ZERO
    } else {
        bill.total
    };
    let money = |amount: Money| decimal(i128::from(amount.nano()), 2);
    let released = quote.ceiling.checked_sub(paid).unwrap_or(Money::ZERO);
    let shown = bill.to_json(&record);
    let body = format!(
        "{{\"format\":\"{FORMAT}\",\"community\":{community},\"session\":{session},\"station\":{station},\"ended\":{ended},\
        \"ceiling\":\"{ceiling}\",\"paid\":\"{paid}\",\"released\":\"{released}\",\"debt\":\"{debt}\",\
        \"price_risk\":{risk},\"tariff\":{tariff},\"record\":{record},\"bill\":{shown},\"readings\":[{first},{last}]{more}}}",
        community = quoted(community.as_str()),
        session = quoted(&quote.session),
        station = quoted(&quote.station),
        ended = quoted(word(ending)),
        ceiling = money(quote.ceiling),
        paid = money(paid),
        released = money(released),
        debt = money(session.debt()),
        tariff = terms.tariff.to_ocpi(),
        record = record.to_ocpi(),
        risk = quoted(PRICE_RISK),
        first = written(&parts.proofs[0]),
        last = written(&parts.proofs[1]),
        more = more(parts, session.energy()),
    );
    let signature = operator
        .sign(&to_sign(community.as_str(), &body))
        .to_bytes();
    let key = PublicKey::of(operator).to_bytes();
    Ok(format!(
        "{{\"receipt\":{body},\"operator_key\":\"{}\",\"signature\":\"{}\"}}\n",
        STANDARD.encode(key),
        STANDARD.encode(signature)
    ))
}

fn written(proof: &Proof) -> String {
    let (reading, key) = (
        base64(proof.reading.as_bytes()),
        base64(&proof.key.to_bytes()),
    );
    let record = proof.record.as_ref();
    let record = record.map_or(String::new(), |record| {
        format!(",\"record\":{}", base64(record))
    });
    let log = proof.log.as_ref();
    let log = log.map_or(String::new(), |log| format!(",\"log\":{}", quoted(log)));
    format!("{{\"reading\":{reading},\"key\":{key}{record}{log}}}")
}

/// The members that not every receipt has.
fn more(parts: &Parts<'_>, metered: Energy) -> String {
    let mut more = String::new();
    if let Some(settled) = parts.settled {
        more += &format!(",\"energy\":{}", proof::written(settled, metered));
    }
    let (records, refused) = parts.charger;
    if !records.is_empty() || refused.is_some() {
        more += &format!(",\"charger\":{}", charger::written(records, refused));
    }
    if !parts.credits.is_empty() {
        let money = |nano: i64| decimal(i128::from(nano), 2);
        let one = |credit: &Credit| {
            format!(
                "{{\"at\":\"{}\",\"reason\":{},\"credit_total\":\"{}\",\"new_total\":\"{}\",\"refund\":\"{}\"}}",
                Timestamp::from_unix_ms(credit.at_ms),
                quoted(&credit.reason),
                money(credit.old_total_nano.saturating_neg()),
                money(credit.new_total_nano),
                money(credit.refund().nano()),
            )
        };
        let list: Vec<String> = parts.credits.iter().map(one).collect();
        more += &format!(",\"credits\":[{}]", list.join(","));
    }
    more
}

/// The word of an ending, as it is stored and written.
#[must_use]
pub fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Expired => "expired",
        Ending::PaymentRefused => "payment_refused",
        Ending::NotPluggedIn => "not_plugged_in",
        Ending::Stopped => "stopped",
        Ending::DriverGone => "driver_gone",
        Ending::NoEnergy => "no_energy",
        Ending::Forgotten => "forgotten",
        Ending::CeilingReached => "ceiling_reached",
        Ending::GatewayLost => "gateway_lost",
        Ending::PowerLost => "power_lost",
        Ending::Nonsense => "nonsense",
        Ending::TooLong => "too_long",
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn to_sign(community: &str, body: &str) -> Vec<u8> {
    format!("commonwatt/{community}/charging-receipt/v1\n{body}").into_bytes()
}

/// Whether a text says that it is a session's receipt: for choosing how to check it, no more.
#[must_use]
pub fn is_one(text: &str) -> bool {
    let start: String = text.chars().take(200).collect();
    start.contains(FORMAT)
}

/// Checks a receipt; `operator` is the key that the reader trusts, where there is one.
#[must_use]
pub fn verify(text: &str, operator: Option<PublicKey>) -> Report {
    let policy = Policy::default();
    verify_with(text, &Trusted { operator, policy })
}

/// Checks a receipt against what the reader trusts: the operator's key is also that of its ledger log in a policy.
/// Witnesses can be asked for where it has the proofs of its readings.
#[must_use]
pub fn verify_with(text: &str, trusted: &Trusted) -> Report {
    let mut report = Report {
        steps: Vec::new(),
        pinned: false,
    };
    if let Err((step, why)) = verify_into(&mut report, text, trusted) {
        report.steps.push((step, Err(why)));
    }
    report
}

/// What a receipt says, read and not yet believed.
struct Claims {
    community: String,
    session: String,
    station: String,
    ceiling: i128,
    paid: i128,
    released: i128,
    debt: i128,
    tariff: Tariff,
    record: Record,
    total: i128,
    proofs: Vec<ClaimedProof>,
    origins: Option<Origins>,
    charger: Option<charger::Claimed>,
    /// Old total, new total and refund of each correction.
    credits: Vec<[i128; 3]>,
}

/// A reading with its key, and what the receipt has to show for them.
struct ClaimedProof {
    reading: Vec<u8>,
    key: PublicKey,
    record: Option<Vec<u8>>,
    log: Option<String>,
}

fn verify_into(
    report: &mut Report,
    text: &str,
    trusted: &Trusted,
) -> Result<(), (&'static str, String)> {
    let steps = &mut report.steps;
    let at = |step: &'static str| move |why: String| (step, why);
    if text.len() > RECEIPT_MAX_BYTES {
        return Err(("format", "the receipt is too long to be one".to_owned()));
    }
    let (claims, body, key, signature) = read(text).map_err(|e| at("format")(e.to_string()))?;
    steps.push(("format", Ok(format!("session {}", claims.session))));
    let logged = claims.proofs.iter().all(|p| p.log.is_some());
    if trusted.policy.wants_witnesses() && !logged {
        let why = "a charging receipt carries no checkpoint that a witness could have signed";
        return Err(("witnesses", why.to_owned()));
    }
    let community =
        CommunityId::new(&claims.community).map_err(|e| at("operator")(e.to_string()))?;
    let operator = trusted.key_of(&Log::Ledger.origin(&community));
    let operator = operator.map_err(at("operator"))?;
    report.pinned = operator.is_some();
    let known = check_operator(&claims, &body, key, signature, operator);
    steps.push(("operator", Ok(known.map_err(at("operator"))?)));
    let ends = check_readings(&claims).map_err(at("readings"))?;
    steps.push((
        "readings",
        Ok(format!(
            "{} Wh to {} Wh at {}, each signed by the key in this receipt",
            ends.0, ends.1, claims.station
        )),
    ));
    let trust = Trust {
        community: &community,
        operator: operator.unwrap_or(key),
        policy: &trusted.policy,
    };
    if let Some(told) = check_keys(&claims, &trust).map_err(at("key"))? {
        steps.push(("key", Ok(told)));
    }
    if logged {
        steps.push(("log", Ok(check_logs(&claims, &trust).map_err(at("log"))?)));
    }
    let energy = check_energy(&claims, ends).map_err(at("energy"))?;
    steps.push(("energy", Ok(energy)));
    if let Some(origins) = &claims.origins {
        let span = (claims.record.start(), claims.record.end);
        let told = trust.origins(origins, &claims.station, span, ends.1 - ends.0);
        steps.push(("origin", Ok(told.map_err(at("origin"))?)));
    }
    if let Some(charger) = &claims.charger {
        let metered = charger::Metered {
            span: (claims.record.start(), claims.record.end),
            last_begins: last_begins(&claims),
            energy: Energy::from_wh(ends.1 - ends.0),
        };
        let told = charger::check(&trust, charger, &claims.station, &metered);
        steps.push(("charger", Ok(told.map_err(at("charger"))?)));
    }
    steps.push(("bill", Ok(check_bill(&claims).map_err(at("bill"))?)));
    steps.push((
        "payment",
        Ok(check_payment(&claims).map_err(at("payment"))?),
    ));
    Ok(())
}

fn read(text: &str) -> Result<(Claims, String, PublicKey, [u8; 64]), FileError> {
    let node = Node::root(text)?;
    let members = node.members()?;
    let body = needed(&node, &members, "receipt")?;
    let inside = body.members()?;
    let member = |name: &str| needed(body, &inside, name);
    let format = member("format")?;
    if format.text()? != FORMAT {
        return Err(format.wrong(format!("this is not {FORMAT}")));
    }
    // Money is written as text, so that no reader takes it for a float.
    let money = |name: &str| {
        let node = member(name)?;
        let amount: Money = node
            .text()?
            .parse()
            .map_err(|e| node.wrong(format!("{e}")))?;
        Ok::<i128, FileError>(i128::from(amount.nano()))
    };
    let signature = needed(&node, &members, "signature")?;
    let bytes = STANDARD.decode(signature.text()?).ok();
    let bytes: Option<[u8; 64]> = bytes.and_then(|b| b.try_into().ok());
    let (proofs, credits) = (
        read_proofs(member("readings")?)?,
        read_credits(inside.get("credits"))?,
    );
    let bill = member("bill")?;
    let total = bill.members()?;
    let total = needed(bill, &total, "total")?;
    let amount: Money = total
        .text()?
        .parse()
        .map_err(|e| total.wrong(format!("{e}")))?;
    let tariff = Tariff::read_all(member("tariff")?)?;
    let claims = Claims {
        community: member("community")?.text()?,
        session: member("session")?.text()?,
        station: member("station")?.text()?,
        ceiling: money("ceiling")?,
        paid: money("paid")?,
        released: money("released")?,
        debt: money("debt")?,
        tariff: tariff
            .into_iter()
            .next()
            .ok_or_else(|| body.wrong("there is no tariff"))?,
        record: Record::read(member("record")?)?,
        total: i128::from(amount.nano()),
        proofs,
        origins: inside.get("energy").map(proof::read).transpose()?,
        charger: inside.get("charger").map(charger::read).transpose()?,
        credits,
    };
    let operator = public_key(needed(&node, &members, "operator_key")?)?;
    let bytes = bytes.ok_or_else(|| signature.wrong("this is no signature"))?;
    Ok((claims, body.raw_text().to_owned(), operator, bytes))
}

fn public_key(node: &Node<'_>) -> Result<PublicKey, FileError> {
    let bytes = STANDARD.decode(node.text()?).ok();
    let bytes: Option<[u8; 32]> = bytes.and_then(|b| b.try_into().ok());
    let key = bytes.and_then(|b| PublicKey::from_bytes(&b).ok());
    key.ok_or_else(|| node.wrong("this is no public key"))
}

fn bytes(node: &Node<'_>) -> Result<Vec<u8>, FileError> {
    let decoded = STANDARD.decode(node.text()?);
    decoded.map_err(|_| node.wrong("this is not base64"))
}

fn read_proofs(node: &Node<'_>) -> Result<Vec<ClaimedProof>, FileError> {
    let mut proofs = Vec::new();
    for node in node.list()? {
        let fields = node.members()?;
        proofs.push(ClaimedProof {
            reading: bytes(needed(&node, &fields, "reading")?)?,
            key: public_key(needed(&node, &fields, "key")?)?,
            record: fields.get("record").map(bytes).transpose()?,
            log: fields.get("log").map(Node::text).transpose()?,
        });
    }
    Ok(proofs)
}

fn read_credits(node: Option<&Node<'_>>) -> Result<Vec<[i128; 3]>, FileError> {
    let mut credits = Vec::new();
    for node in node.map(Node::list).transpose()?.unwrap_or_default() {
        let fields = node.members()?;
        let money = |name: &str| {
            let node = needed(&node, &fields, name)?;
            let amount: Money = node
                .text()?
                .parse()
                .map_err(|e| node.wrong(format!("{e}")))?;
            Ok::<i128, FileError>(i128::from(amount.nano()))
        };
        credits.push([
            -money("credit_total")?,
            money("new_total")?,
            money("refund")?,
        ]);
    }
    Ok(credits)
}

fn check_operator(
    claims: &Claims,
    body: &str,
    key: PublicKey,
    signature: [u8; 64],
    trusted: Option<PublicKey>,
) -> Result<String, String> {
    if trusted.is_some_and(|trusted| trusted != key) {
        return Err("signed with another key than the operator's".to_owned());
    }
    if !key.verifies(&to_sign(&claims.community, body), &signature) {
        return Err("the receipt was changed after the operator signed it".to_owned());
    }
    Ok(format!(
        "{} signed by key {}",
        claims.community,
        STANDARD.encode(key.to_bytes())
    ))
}

/// The registers in Wh at which the session began and ended.
/// When the interval of the last reading began.
fn last_begins(claims: &Claims) -> Timestamp {
    let last = claims.proofs.last();
    let last = last.map(|proof| Signed::<Reading>::from_bytes(proof.reading.clone()).stored());
    let last = last.and_then(Result::ok);
    last.map_or(claims.record.end, |reading| reading.interval.start())
}

fn check_readings(claims: &Claims) -> Result<(i64, i64), String> {
    let community = CommunityId::new(&claims.community).map_err(|e| e.to_string())?;
    let [first, last] = claims.proofs.as_slice() else {
        return Err("there must be two signed readings".to_owned());
    };
    let read = |proof: &ClaimedProof| {
        let signed = Signed::<Reading>::from_bytes(proof.reading.clone());
        let verified = signed.verify(proof.key, &community);
        let verified = verified.map_err(|e| e.to_string())?;
        Ok::<Reading, String>(verified.message().clone())
    };
    let (first, last) = (read(first)?, read(last)?);
    if first.point != last.point || first.era != last.era {
        return Err("the readings are of different meters".to_owned());
    }
    if first.point.as_str() != claims.station {
        let (point, station) = (&first.point, &claims.station);
        return Err(format!(
            "the readings are of {point}, the session was at {station}"
        ));
    }
    let end = |reading: &Reading| {
        let register = reading.registers.iter().find(|r| r.obis == Obis::IMPORT);
        register
            .map(|r| r.end.wh())
            .ok_or("a reading has no register of imported energy")
    };
    if first.interval.end() != claims.record.start() {
        return Err(format!(
            "the record begins at {}, and the first reading is of {}",
            claims.record.start(),
            first.interval.end()
        ));
    }
    if last.interval.end() != claims.record.end {
        return Err(format!(
            "the record ends at {}, and the last reading is of {}",
            claims.record.end,
            last.interval.end()
        ));
    }
    Ok((end(&first)?, end(&last)?))
}

/// That the operator let the readings' keys sign for the station; none where the receipt has no record of them, as the
/// first ones had not.
fn check_keys(claims: &Claims, trust: &Trust<'_>) -> Result<Option<String>, String> {
    let mut holder = None;
    for proof in &claims.proofs {
        let Some(record) = &proof.record else {
            continue;
        };
        let reading = Signed::<Reading>::from_bytes(proof.reading.clone()).claimed();
        let reading = reading.map_err(|e| e.to_string())?;
        let signed = (&reading.point, reading.interval.end());
        holder = Some(trust.key(record, proof.key, signed)?);
    }
    Ok(holder.map(|gateway| {
        format!(
            "of {gateway}, which the operator let sign for {}",
            claims.station
        )
    }))
}

fn check_logs(claims: &Claims, trust: &Trust<'_>) -> Result<String, String> {
    for proof in &claims.proofs {
        let log = proof.log.as_ref().ok_or("a reading has no proof")?;
        trust.reading(log, &proof.reading)?;
    }
    Ok(
        "both readings are in the readings log under a checkpoint that the operator signed"
            .to_owned(),
    )
}

fn check_energy(claims: &Claims, (first, last): (i64, i64)) -> Result<String, String> {
    let metered = i128::from(last) - i128::from(first);
    let charged: i128 = claims.record.periods.iter().map(|p| p.energy).sum();
    if metered * (NANO / 1_000) == charged {
        Ok(format!("{metered} Wh, what the meter counted"))
    } else {
        let charged = decimal(charged, 0);
        Err(format!(
            "the record charges {charged} kWh, the meter counted {metered} Wh"
        ))
    }
}

fn check_bill(claims: &Claims) -> Result<String, String> {
    let bill = rate(&claims.record, &claims.tariff, chrono_tz::UTC).map_err(|e| e.to_string())?;
    let computed = decimal(i128::from(bill.total.nano()), 2);
    if i128::from(bill.total.nano()) == claims.total {
        Ok(format!(
            "{computed} {}, computed again from tariff and record",
            bill.currency
        ))
    } else {
        let told = decimal(claims.total, 2);
        Err(format!(
            "tariff and record come to {computed}, the bill says {told}"
        ))
    }
}

fn check_payment(claims: &Claims) -> Result<String, String> {
    let shown = |nano: i128| decimal(nano, 2);
    if claims.total > claims.ceiling {
        return Err(format!(
            "{} is above the ceiling of {}",
            shown(claims.total),
            shown(claims.ceiling)
        ));
    }
    if claims.paid + claims.debt != claims.total || claims.paid + claims.released != claims.ceiling
    {
        return Err(
            "what was paid, given back and owed does not come to bill and ceiling".to_owned(),
        );
    }
    let mut stands = claims.paid;
    for [old, new, refund] in &claims.credits {
        if *old != stands || new > old || old - new != *refund || *new < 0 {
            return Err("a correction does not take back what was charged before it".to_owned());
        }
        stands = *new;
    }
    let corrected = match claims.credits.len() {
        0 => String::new(),
        _ => format!(", corrected to {}", shown(stands)),
    };
    Ok(format!(
        "{} paid of a ceiling of {}, {} given back{corrected}",
        shown(claims.paid),
        shown(claims.ceiling),
        shown(claims.released)
    ))
}

#[cfg(test)]
mod tests;
