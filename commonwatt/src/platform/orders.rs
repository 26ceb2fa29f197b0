//! Orders and cancels on their way into the market: who signed them is checked by whoever brings them, side
//! by side; what becomes of them is decided in the writer's transaction, together with the hold.

use std::collections::BTreeMap;

use domain::cancel::Cancel;
use domain::ids::{KeyId, OrderId, ParticipantId};
use domain::key_record::PointRecord;
use domain::order::Order;
use domain::rejection::Rejection;
use domain::signed::{Kind, PublicKey, Signed, SigningKey, Verified};
use domain::time::Timestamp;
use market_engine::service::{Outcome, Placing};
use runtime::db::Tx;

use super::Shared;
use crate::site::Site;

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

/// Who may order, by the name of the key.
pub(super) struct Orderers(BTreeMap<KeyId, Orderer>);

struct Orderer {
    participant: ParticipantId,
    key: PublicKey,
    connection: Option<PointRecord>,
}

impl Orderers {
    pub(super) fn of(site: &Site, participants: &[(ParticipantId, SigningKey)]) -> Self {
        let orderer = |(participant, key): &(ParticipantId, SigningKey)| {
            let key = PublicKey::of(key);
            let orderer = Orderer {
                participant: participant.clone(),
                key,
                connection: site.connection_of(participant).cloned(),
            };
            (key.id(), orderer)
        };
        Orderers(participants.iter().map(orderer).collect())
    }
}

/// A message about an order, after its signature was looked at.
pub(crate) enum OrderMessage {
    /// A participant's order through a point of this rating.
    Place {
        order: Verified<Order>,
        rating_w: u32,
    },
    /// A participant takes an order back.
    Cancel(Verified<Cancel>),
    /// It is nobody's word, or not one about the signer's own orders.
    Refused {
        participant: Option<ParticipantId>,
        reason: Rejection,
        bytes: Vec<u8>,
    },
}

/// Checks who signed a message and for whom.
pub(crate) fn read(shared: &Shared, bytes: Vec<u8>) -> OrderMessage {
    let read = match Signed::<Order>::from_bytes(bytes.clone()).claimed_kind() {
        Some(Kind::Cancel) => own::<Cancel>(shared, &bytes, |cancel| &cancel.participant)
            .and_then(|(cancel, _)| Ok(OrderMessage::Cancel(cancel))),
        _ => {
            own::<Order>(shared, &bytes, |order| &order.participant).and_then(|(order, orderer)| {
                let point = orderer.connection.as_ref();
                let point = point.filter(|known| known.point == order.message().point);
                let wrong = || (Some(orderer.participant.clone()), Rejection::WrongNetwork);
                let rating_w = point.ok_or_else(wrong)?.rating_w;
                Ok(OrderMessage::Place { order, rating_w })
            })
        }
    };
    read.unwrap_or_else(|(participant, reason)| OrderMessage::Refused {
        participant,
        reason,
        bytes,
    })
}

/// Why a message was not read, and who has signed it, where that is known.
type Unread = (Option<ParticipantId>, Rejection);

/// The message, if a participant has signed it about itself.
fn own<'s, T: domain::signed::Message>(
    shared: &'s Shared,
    bytes: &[u8],
    participant: fn(&T) -> &ParticipantId,
) -> Result<(Verified<T>, &'s Orderer), Unread> {
    let signed = Signed::<T>::from_bytes(bytes.to_vec());
    let unproven = |error| (None, Rejection::from(&error));
    let claimed = signed.claimed_signer().map_err(unproven)?;
    let known = shared.orderers.0.get(&claimed);
    let orderer = known.ok_or((None, Rejection::UnknownKey))?;
    let verified = signed
        .verify(orderer.key, &shared.site.community)
        .map_err(unproven)?;
    match *participant(verified.message()) == orderer.participant {
        true => Ok((verified, orderer)),
        false => Err((Some(orderer.participant.clone()), Rejection::WrongNetwork)),
    }
}

/// Does what a message asks in this transaction, with the order's hold; what is refused is kept. Whoever
/// sent it is answered after the commit.
pub(super) async fn take(
    tx: &mut Tx,
    shared: &Shared,
    now: Timestamp,
    message: &OrderMessage,
) -> anyhow::Result<OrderAnswer> {
    let (outcome, participant, bytes) = match message {
        OrderMessage::Place { order, rating_w } => {
            let outcome = place(tx, shared, now, order, *rating_w).await?;
            let participant = Some(&order.message().participant);
            (outcome, participant, order.signed().as_bytes())
        }
        OrderMessage::Cancel(cancel) => {
            let outcome = market_engine::service::cancel(tx, &shared.market, now, cancel).await?;
            if let Outcome::Withdrawn(order) = outcome {
                settlement::service::release_hold(tx, now, order).await?;
            }
            let participant = Some(&cancel.message().participant);
            (outcome, participant, cancel.signed().as_bytes())
        }
        OrderMessage::Refused {
            participant,
            reason,
            bytes,
        } => (
            Outcome::Refused(*reason),
            participant.as_ref(),
            bytes.as_slice(),
        ),
    };
    if let Outcome::Refused(reason) = outcome {
        market_engine::service::keep_refused(tx, now, participant, reason, bytes).await?;
    }
    Ok(outcome.into())
}

async fn place(
    tx: &mut Tx,
    shared: &Shared,
    now: Timestamp,
    order: &Verified<Order>,
    rating_w: u32,
) -> anyhow::Result<Outcome> {
    match market_engine::service::place(tx, &shared.market, now, order, rating_w).await? {
        Placing::Done(outcome) => Ok(outcome),
        Placing::AsksHold(waiting) => {
            let (order, replaces) = (waiting.order(), waiting.replaces());
            let community = &shared.community;
            let held =
                settlement::service::hold_instead(tx, community, now, order, replaces).await?;
            Ok(waiting.held(tx, held).await?)
        }
    }
}
