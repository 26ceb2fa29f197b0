//! What kinds of people there are, and which of them an account stands for.

use std::fmt;

/// A kind of person.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Role {
    /// A household of the community: sees its own participant.
    Home,
    /// Charges a car.
    Driver,
    /// Runs the local grid: sees aggregates, feeders and alarms.
    Operator,
    /// Runs simulations and reads their results.
    Researcher,
    /// Looks after accounts: sees the list of who did what, and nobody's energy.
    Admin,
}

impl Role {
    pub(crate) const ALL: [Role; 5] = [
        Role::Home,
        Role::Driver,
        Role::Operator,
        Role::Researcher,
        Role::Admin,
    ];

    /// The role's word in tables, on the command line and in the API.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Role::Home => "home",
            Role::Driver => "driver",
            Role::Operator => "operator",
            Role::Researcher => "researcher",
            Role::Admin => "admin",
        }
    }

    /// The role of this word.
    pub(crate) fn from_word(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// A set of roles.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Roles(u8);

impl Roles {
    /// Whether the role is one of them.
    pub(crate) const fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// Those that are in both sets.
    pub(crate) const fn and(self, other: Roles) -> Roles {
        Roles(self.0 & other.0)
    }

    /// Whether whoever has them can do harm to others: their sessions are short.
    pub(crate) const fn are_privileged(self) -> bool {
        self.has(Role::Operator) || self.has(Role::Admin)
    }

    /// Reads words with blanks or commas between them.
    pub(crate) fn from_words(words: &str) -> Result<Roles, String> {
        let words = words.split([' ', ',']).filter(|word| !word.is_empty());
        words
            .map(|word| Role::from_word(word).ok_or_else(|| word.to_owned()))
            .collect()
    }

    /// The roles, in the order of [`Role::ALL`].
    pub(crate) fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        let bits = roles
            .into_iter()
            .fold(0, |bits, role| bits | 1 << role as u8);
        Roles(bits)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, role) in self.iter().enumerate() {
            let gap = if n == 0 { "" } else { " " };
            write!(f, "{gap}{}", role.word())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_they_are_written() {
        let roles = Roles::from_words("operator, home").unwrap();
        assert_eq!(roles.to_string(), "home operator");
        assert_eq!(Roles::from_words(&roles.to_string()), Ok(roles));
        assert!(roles.has(Role::Home) && !roles.has(Role::Driver));
        assert_eq!(Roles::from_words("home king"), Err("king".to_owned()));
        let driver: Roles = [Role::Driver, Role::Home].into_iter().collect();
        assert_eq!(roles.and(driver).to_string(), "home");
    }
}
