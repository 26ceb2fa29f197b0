//! The people of the demo: one of each kind, with a link to sign in that is ready to use.

use anyhow::Context;
use domain::ids::ParticipantId;
use runtime::clock::Clock;
use runtime::db::Db;

use crate::auth::store::{self, Account};
use crate::auth::{Role, Roles};
use crate::site::Site;

/// How long a link of the demo is good. Every start makes new ones.
const LINK_GOOD_S: i64 = 24 * 3600;

/// A fresh link for one person of each kind: the first home, a driver, an operator, a researcher.
pub(super) async fn links(db: &Db, site: &Site) -> anyhow::Result<Vec<(String, String)>> {
    let first = site
        .participants
        .first()
        .context("the street has no home")?;
    let mut people = vec![person(
        first.id.as_str(),
        Role::Home,
        Some(first.id.clone()),
    )];
    for role in [Role::Driver, Role::Operator, Role::Researcher] {
        people.push(person(role.word(), role, None));
    }
    let now = Clock::system().now();
    let mut links = Vec::with_capacity(people.len());
    for person in people {
        store::add(db, now, &person).await?;
        let good = (now, now.plus_s(LINK_GOOD_S));
        let link = store::link(db, good, &person.name).await?;
        links.push((person.name, link.context("an account went away")?));
    }
    Ok(links)
}

fn person(name: &str, role: Role, participant: Option<ParticipantId>) -> Account {
    Account {
        name: name.to_owned(),
        roles: Roles::from_iter([role]),
        participant,
        language: None,
    }
}
