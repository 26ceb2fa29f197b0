//! Orders and cancels on their way into the market: who signed them is checked by whoever brings them, side
//! by side; what becomes of them is decided in the writer's transaction, many together, with their holds.

mod take;

use domain::cancel::Cancel;
use domain::ids::{Digest32, GatewayId, KeyId, OrderId, ParticipantId, PointId};
use domain::order::Order;
use domain::order_query::OrderQuery;
use domain::rejection::Rejection;
use domain::signed::{Kind, Signed, Verified};
use domain::standing_order::{StandingCancel, StandingOrder};
use domain::time::Interval;
use market_engine::service::Outcome;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Shared;
use super::core::AUTOPILOT_SEQUENCES;
use super::key_ring::{KeyRing, Orderer};
use super::standing;
pub(super) use take::{take, take_one, together};

/// What came of a message about an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum OrderAnswer {
    /// The order is in the book.
    Accepted(OrderId),
    /// The order is out of the book.
    Withdrawn(OrderId),
    /// It was said before; whether the order stands in the book.
    Again { order: OrderId, stands: bool },
    /// Refused, with the reason.
    Refused(Rejection),
    /// The database did not answer: try again.
    Unavailable,
}

impl From<Outcome> for OrderAnswer {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Accepted(order) => OrderAnswer::Accepted(order),
            Outcome::Withdrawn(order) => OrderAnswer::Withdrawn(order),
            Outcome::Again { order, stands } => OrderAnswer::Again { order, stands },
            Outcome::Refused(reason) => OrderAnswer::Refused(reason),
        }
    }
}

impl Orderer {
    /// The rating of its connection, if that is this point.
    fn rating_of(&self, point: &PointId) -> Result<u32, Unread> {
        let known = self.connection.as_ref();
        let known = known.filter(|known| known.point == *point);
        known
            .map(|known| known.rating_w)
            .ok_or_else(|| self.not_its_own())
    }

    fn not_its_own(&self) -> Unread {
        (Some(self.participant.clone()), Rejection::WrongNetwork)
    }
}

/// Who is told what came of a message, once it is committed.
pub(crate) enum AnswerTo {
    /// A caller who waits.
    Caller(oneshot::Sender<OrderAnswer>),
    /// The gateway that brought it; the message is named by its SHA-256.
    Gateway(GatewayId, Digest32),
}

/// A message about an order, after its signature was looked at.
pub(crate) enum OrderMessage {
    /// A participant's order through a point of this rating.
    Place {
        order: Verified<Order>,
        rating_w: u32,
    },
    /// A participant's order with a key that has ended since: nothing new is taken, a repetition is answered.
    Repeat(Verified<Order>),
    /// A participant takes an order back.
    Cancel(Verified<Cancel>),
    /// The same with a key that has ended since.
    CancelRepeat(Verified<Cancel>),
    /// A participant's standing order through a point of this rating.
    Stand {
        order: Verified<StandingOrder>,
        rating_w: u32,
    },
    /// The same with a key that has ended since.
    StandRepeat(Verified<StandingOrder>),
    /// A participant takes a standing order back.
    Unstand(Verified<StandingCancel>),
    /// The same with a key that has ended since.
    UnstandRepeat(Verified<StandingCancel>),
    /// It is nobody's word, or not one about the signer's own orders.
    Refused {
        participant: Option<ParticipantId>,
        reason: Rejection,
        bytes: Vec<u8>,
    },
}

impl OrderMessage {
    /// Whose order of which interval is placed or cancelled.
    fn about(&self) -> Option<(&ParticipantId, Interval)> {
        match self {
            OrderMessage::Place { order, .. } | OrderMessage::Repeat(order) => {
                let order = order.message();
                Some((&order.participant, order.interval))
            }
            OrderMessage::Cancel(cancel) => {
                let cancel = cancel.message();
                Some((&cancel.participant, cancel.interval))
            }
            _ => None,
        }
    }

    /// The signed bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            OrderMessage::Place { order, .. } | OrderMessage::Repeat(order) => {
                order.signed().as_bytes()
            }
            OrderMessage::Cancel(cancel) | OrderMessage::CancelRepeat(cancel) => {
                cancel.signed().as_bytes()
            }
            OrderMessage::Stand { order, .. } | OrderMessage::StandRepeat(order) => {
                order.signed().as_bytes()
            }
            OrderMessage::Unstand(cancel) | OrderMessage::UnstandRepeat(cancel) => {
                cancel.signed().as_bytes()
            }
            OrderMessage::Refused { bytes, .. } => bytes,
        }
    }

    /// The key that has signed it, if it was not seen to have ended already.
    fn signer(&self) -> Option<KeyId> {
        match self {
            OrderMessage::Place { order, .. } => Some(order.signer()),
            OrderMessage::Cancel(cancel) => Some(cancel.signer()),
            OrderMessage::Stand { order, .. } => Some(order.signer()),
            OrderMessage::Unstand(cancel) => Some(cancel.signer()),
            OrderMessage::Repeat(_)
            | OrderMessage::CancelRepeat(_)
            | OrderMessage::StandRepeat(_)
            | OrderMessage::UnstandRepeat(_)
            | OrderMessage::Refused { .. } => None,
        }
    }

    /// The same message, unless its key has ended since somebody looked at its signature.
    pub(super) fn unless_ended(self, ring: &KeyRing) -> OrderMessage {
        match self.signer() {
            Some(kid) if ring.has_ended(kid) => self.ended(),
            _ => self,
        }
    }

    /// What a message is whose key has ended: it may be a repetition, which whoever heard no answer sends.
    fn ended(self) -> OrderMessage {
        match self {
            OrderMessage::Place { order, .. } => OrderMessage::Repeat(order),
            OrderMessage::Stand { order, .. } => OrderMessage::StandRepeat(order),
            OrderMessage::Cancel(cancel) => OrderMessage::CancelRepeat(cancel),
            OrderMessage::Unstand(cancel) => OrderMessage::UnstandRepeat(cancel),
            OrderMessage::Repeat(_)
            | OrderMessage::CancelRepeat(_)
            | OrderMessage::StandRepeat(_)
            | OrderMessage::UnstandRepeat(_)
            | OrderMessage::Refused { .. } => self,
        }
    }

    /// Who is known to have signed it.
    pub(super) fn participant(&self) -> Option<&ParticipantId> {
        match self {
            OrderMessage::Place { order, .. } | OrderMessage::Repeat(order) => {
                Some(&order.message().participant)
            }
            OrderMessage::Cancel(cancel) | OrderMessage::CancelRepeat(cancel) => {
                Some(&cancel.message().participant)
            }
            OrderMessage::Stand { order, .. } | OrderMessage::StandRepeat(order) => {
                Some(&order.message().participant)
            }
            OrderMessage::Unstand(cancel) | OrderMessage::UnstandRepeat(cancel) => {
                Some(&cancel.message().participant)
            }
            OrderMessage::Refused { participant, .. } => participant.as_ref(),
        }
    }
}

/// Checks who signed a message that came from outside, and for whom. The autopilots' sequences are not to be
/// had there: whoever took one would keep the autopilot from ordering in that interval. A repetition under a key that
/// has ended takes none: it is answered what became of those very bytes, or refused.
pub(crate) fn read(shared: &Shared, bytes: Vec<u8>) -> OrderMessage {
    let message = read_any(shared, bytes);
    let (sequence, participant) = match &message {
        OrderMessage::Place { order, .. } => {
            let said = order.message();
            (said.sequence, &said.participant)
        }
        OrderMessage::Stand { order, .. } => {
            let said = order.message();
            (said.sequence, &said.participant)
        }
        _ => return message,
    };
    if sequence < AUTOPILOT_SEQUENCES {
        return message;
    }
    OrderMessage::Refused {
        participant: Some(participant.clone()),
        reason: Rejection::OverLimit,
        bytes: message.bytes().to_vec(),
    }
}

/// Checks who signed a message and for whom, whatever its sequence.
pub(super) fn read_any(shared: &Shared, bytes: Vec<u8>) -> OrderMessage {
    let ring = shared.keys();
    let read = match Signed::<Order>::from_bytes(bytes.clone()).claimed_kind() {
        Some(Kind::Cancel) => signed::<Cancel>(shared, &ring, &bytes, |cancel| &cancel.participant)
            .map(|(cancel, orderer)| match orderer.ended {
                true => OrderMessage::CancelRepeat(cancel),
                false => OrderMessage::Cancel(cancel),
            }),
        Some(Kind::StandingCancel) => {
            signed::<StandingCancel>(shared, &ring, &bytes, |cancel| &cancel.participant).map(
                |(cancel, orderer)| match orderer.ended {
                    true => OrderMessage::UnstandRepeat(cancel),
                    false => OrderMessage::Unstand(cancel),
                },
            )
        }
        Some(Kind::StandingOrder) => {
            signed::<StandingOrder>(shared, &ring, &bytes, |order| &order.participant).and_then(
                |(order, orderer)| {
                    if orderer.ended {
                        return Ok(OrderMessage::StandRepeat(order));
                    }
                    let rating_w = orderer.rating_of(&order.message().point)?;
                    let may_say = standing::may_say(shared, &order.message().participant);
                    match may_say && standing::may_count(shared, order.message()) {
                        true => Ok(OrderMessage::Stand { order, rating_w }),
                        false => Err(orderer.not_its_own()),
                    }
                },
            )
        }
        _ => signed::<Order>(shared, &ring, &bytes, |order| &order.participant).and_then(
            |(order, orderer)| {
                if orderer.ended {
                    return Ok(OrderMessage::Repeat(order));
                }
                let rating_w = orderer.rating_of(&order.message().point)?;
                Ok(OrderMessage::Place { order, rating_w })
            },
        ),
    };
    read.unwrap_or_else(|(participant, reason)| OrderMessage::Refused {
        participant,
        reason,
        bytes,
    })
}

/// Why a message was not read, and who has signed it, where that is known.
type Unread = (Option<ParticipantId>, Rejection);

/// The message, if a participant has signed it about itself with the key that counts.
fn own<'r, T: domain::signed::Message>(
    shared: &Shared,
    ring: &'r KeyRing,
    bytes: &[u8],
    participant: fn(&T) -> &ParticipantId,
) -> Result<(Verified<T>, &'r Orderer), Unread> {
    let (verified, orderer) = signed(shared, ring, bytes, participant)?;
    match orderer.ended {
        true => Err((Some(orderer.participant.clone()), Rejection::KeyRevoked)),
        false => Ok((verified, orderer)),
    }
}

/// The message, if a participant has signed it about itself with a key that it has or had.
fn signed<'r, T: domain::signed::Message>(
    shared: &Shared,
    ring: &'r KeyRing,
    bytes: &[u8],
    participant: fn(&T) -> &ParticipantId,
) -> Result<(Verified<T>, &'r Orderer), Unread> {
    let signed = Signed::<T>::from_bytes(bytes.to_vec());
    let unproven = |error| (None, Rejection::from(&error));
    let claimed = signed.claimed_signer().map_err(unproven)?;
    let known = ring.orderer(claimed);
    let orderer = known.ok_or((None, Rejection::UnknownKey))?;
    let verified = signed
        .verify(orderer.key, &shared.site.community)
        .map_err(unproven)?;
    match *participant(verified.message()) == orderer.participant {
        true => Ok((verified, orderer)),
        false => Err(orderer.not_its_own()),
    }
}

/// Who asks for which orders, with the asker's connection point; or why it is not answered.
pub(crate) fn read_query(
    shared: &Shared,
    bytes: Vec<u8>,
) -> Result<(Verified<OrderQuery>, Option<String>), Rejection> {
    let ring = shared.keys();
    let read = own::<OrderQuery>(shared, &ring, &bytes, |query| &query.participant);
    let (query, orderer) = read.map_err(|(_, reason)| reason)?;
    if !query.message().is_fresh(shared.clock.now()) {
        return Err(Rejection::TooLate);
    }
    let point = orderer
        .connection
        .as_ref()
        .map(|point| point.point.to_string());
    Ok((query, point))
}

/// The answer to a message as JSON; the message is named by its SHA-256.
pub(crate) fn answer_body(answer: &OrderAnswer, message: Digest32) -> Value {
    let body = |outcome: &str, order: &OrderId, stands: bool| {
        json!({
            "message": message.to_string(),
            "outcome": outcome,
            "order": order.to_string(),
            "in_book": stands,
        })
    };
    match answer {
        OrderAnswer::Accepted(order) => body("accepted", order, true),
        OrderAnswer::Withdrawn(order) => body("withdrawn", order, false),
        OrderAnswer::Again { order, stands } => body("again", order, *stands),
        OrderAnswer::Refused(reason) => json!({
            "message": message.to_string(),
            "outcome": "refused",
            "reason": reason.name(),
            "detail": sentence(*reason),
        }),
        OrderAnswer::Unavailable => json!({
            "message": message.to_string(),
            "outcome": "unavailable",
            "detail": "It could not be stored: send it again.",
        }),
    }
}

/// Why a message about an order was refused, and what to do.
const fn sentence(reason: Rejection) -> &'static str {
    match reason {
        Rejection::BadSignature => "The signature does not fit the message and this community.",
        Rejection::UnknownKey => "No participant of this community signs with this key.",
        Rejection::WrongNetwork => {
            "The key may not speak for this participant, or the metering point is not its connection, or the \
             point's gateway has not enrolled yet; or it is a standing order, and the platform does not hold the \
             participant's key, with which it would sign what that orders."
        }
        Rejection::NotDeterministic => "This is no signed message in its one valid encoding.",
        Rejection::Equivocation => {
            "This sequence was used by another order, and both are kept: take a new sequence."
        }
        Rejection::IntervalUnaligned => "The interval does not have this community's length.",
        Rejection::Future => {
            "The gate of this interval has not opened yet: send it a day ahead at most. A standing order stands for 31 \
             days at most."
        }
        Rejection::GateClosed => {
            "The gate of this interval is closed: nothing changes in it any more. Of a standing order: no gate is open \
             for an interval that ends in time."
        }
        Rejection::OverLimit => {
            "With this order the participant would be beyond a limit: price range, number of orders, \
             energy of the metering point, money, or share of the book; or its sequence is not below 2^40, \
             where the autopilots' begin. Of standing orders 32 stand at the same time."
        }
        Rejection::Implausible => "More energy or power than the metering point carries.",
        Rejection::InsufficientFunds => "The participant's tokens do not cover it.",
        Rejection::TooLarge => "The message is too large.",
        Rejection::TooLate => {
            "It was signed too long ago, or by a clock that is ahead: sign it anew."
        }
        Rejection::RateLimited => "Too many messages or orders: wait a minute.",
        Rejection::UnknownOrder => {
            "The order to be cancelled or replaced is not in the book of this interval."
        }
        Rejection::WishUnheeded => {
            "This market's mechanism cannot heed what the order wishes of partners, its own feeder or green energy: \
             send it without."
        }
        Rejection::KeyRevoked => {
            "This key of the participant counts no longer, as a newer one took its place or it was revoked: sign with \
             the participant's key that is in the registry now."
        }
        Rejection::SeqReplay
        | Rejection::IntervalOverlap
        | Rejection::ValueRegression
        | Rejection::ChainBreak
        | Rejection::ClockUnsynced => "It was refused.",
    }
}

#[cfg(test)]
mod tests;
