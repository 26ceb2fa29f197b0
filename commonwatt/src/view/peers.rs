//! Homes to compare with: those that allow it, at least so many that none of them can be told, and never one by name.

use std::collections::BTreeSet;

use domain::ids::ParticipantId;

use super::calendar::Span;
use super::energy::{self, Flows};
use super::{Home, Street};
use crate::auth::store::settings;
use crate::platform::Shared;
use crate::site::Participant;

/// Fewest homes that are averaged.
pub(crate) const PEERS_MIN: usize = 5;
/// Most homes that are averaged: more would make the page slow and the average no better.
const PEERS_MAX: usize = 12;

/// How alike they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Likeness {
    /// The same of sun, battery and car.
    SameThings,
    /// With or without sun, as this one.
    SameSun,
    /// Any other homes of the street.
    Street,
}

/// The mean of a time over other homes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mean {
    pub(crate) flows: Flows,
    pub(crate) homes: usize,
    pub(crate) likeness: Likeness,
}

/// Homes that may be compared, and so may compare themselves: as their accounts say, or else the site.
pub(crate) async fn willing(shared: &Shared) -> anyhow::Result<BTreeSet<ParticipantId>> {
    let said = settings::consents(&shared.db).await?;
    let homes = shared.site.participants.iter();
    let consents = |home: &&Participant| said.get(home.id.as_str()).copied();
    let willing = homes.filter(|home| consents(home).unwrap_or(home.compare));
    Ok(willing.map(|home| home.id.clone()).collect())
}

/// Other homes of these, the most alike of which there are enough; `None` where there are too few.
fn choose(homes: &[&Home], own: &ParticipantId) -> Option<(Likeness, Vec<ParticipantId>)> {
    let me = *homes.iter().find(|home| home.id == *own)?;
    let things = |home: &Home| (home.has_sun, home.has_battery, home.has_car);
    let is_like = |home: &Home, likeness| match likeness {
        Likeness::SameThings => things(home) == things(me),
        Likeness::SameSun => home.has_sun == me.has_sun,
        Likeness::Street => true,
    };
    let levels = [Likeness::SameThings, Likeness::SameSun, Likeness::Street];
    levels.into_iter().find_map(|likeness| {
        let others = homes.iter().copied().filter(|home| home.id != *own);
        let alike = others.filter(|home| is_like(home, likeness));
        let alike: Vec<_> = alike.map(|h| h.id.clone()).take(PEERS_MAX).collect();
        (alike.len() >= PEERS_MIN).then_some((likeness, alike))
    })
}

/// What other homes used on average in a span; `None` where too few are there or have readings.
pub(crate) async fn mean(
    shared: &Shared,
    street: &Street,
    own: &ParticipantId,
    span: Span,
) -> anyhow::Result<Option<Mean>> {
    let willing = willing(shared).await?;
    let homes = street.homes.iter();
    let homes: Vec<&Home> = homes.filter(|home| willing.contains(&home.id)).collect();
    let Some((likeness, homes)) = choose(&homes, own) else {
        return Ok(None);
    };
    let mut known = Vec::with_capacity(homes.len());
    for home in &homes {
        let energy = energy::read(shared, home, span).await?;
        known.extend(energy.sum(span).map(|(flows, _)| flows));
    }
    Ok((known.len() >= PEERS_MIN).then(|| Mean {
        flows: Flows::mean(&known),
        homes: known.len(),
        likeness,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Day;

    fn home(name: &str, sun: bool, car: bool) -> Home {
        Home {
            id: ParticipantId::new(name).unwrap(),
            net_w: None,
            sun_w: None,
            battery_w: None,
            soc_permille: None,
            car_w: None,
            has_sun: sun,
            has_battery: false,
            has_car: car,
            day: Day::default(),
        }
    }

    #[test]
    fn nobody_is_compared_with_fewer_than_five_others() {
        let named = |n: usize| format!("h-{n}");
        let street = |n: usize, sun: usize, car: usize| -> Vec<Home> {
            (0..n).map(|i| home(&named(i), i < sun, i < car)).collect()
        };
        let me = ParticipantId::new("h-0").unwrap();
        let of = |homes: &[Home], me: &ParticipantId| {
            let homes: Vec<&Home> = homes.iter().collect();
            choose(&homes, me)
        };
        let chosen = |homes: &[Home]| of(homes, &me).map(|(how, who)| (how, who.len()));
        assert_eq!(chosen(&street(5, 5, 5)), None, "four others");
        assert_eq!(chosen(&street(6, 6, 6)), Some((Likeness::SameThings, 5)));
        assert_eq!(chosen(&street(10, 6, 2)), Some((Likeness::SameSun, 5)));
        assert_eq!(chosen(&street(10, 2, 2)), Some((Likeness::Street, 9)));
        assert_eq!(chosen(&street(40, 40, 40)).unwrap().1, PEERS_MAX);
        let (_, others) = of(&street(10, 2, 2), &me).unwrap();
        assert!(!others.contains(&me));
        assert_eq!(
            of(&street(10, 2, 2), &ParticipantId::new("x").unwrap()),
            None
        );
    }
}
