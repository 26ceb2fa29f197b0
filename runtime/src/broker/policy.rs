//! Who may connect, publish and subscribe. Whatever is not allowed is refused.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use sha2::{Digest, Sha256};

use super::topic::{covers, is_filter};

/// Who a connection belongs to, as the policy said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity(String);

impl Identity {
    /// An identity of that user name.
    #[must_use]
    pub fn new(user: impl Into<String>) -> Self {
        Identity(user.into())
    }

    /// The user name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.0
    }
}

/// The rules of a broker.
pub trait Policy: Send + Sync {
    /// Who this is, or `None` to refuse the connection.
    fn authenticate(
        &self,
        client_id: &str,
        user: Option<&str>,
        password: Option<&[u8]>,
    ) -> Option<Identity>;

    /// Who this is that has proved by its certificate that its name is `name`, or `None` to refuse
    /// the connection.
    fn certified(&self, name: &str) -> Option<Identity>;

    /// Whether `identity` may publish to `topic` (asked for every message, and for a last will).
    fn may_publish(&self, identity: &Identity, topic: &str) -> bool;

    /// Whether `identity` may read everything that `filter` matches. Asked once per subscription;
    /// for `$share/group/filter` only the inner filter is asked.
    fn may_subscribe(&self, identity: &Identity, filter: &str) -> bool;
}

/// What a user may do, as topic filters in which `%u` stands for the user's name.
#[derive(Clone, Default, Debug)]
pub struct Access {
    /// Filters that may be subscribed to, or any narrower ones.
    pub read: Vec<String>,
    /// Filters whose topics may be published to.
    pub write: Vec<String>,
}

/// Users with passwords and topic filters. Users can be added and removed while the broker runs:
/// a removed user cannot connect, publish or subscribe any more; a subscription that is already
/// open ends with its connection.
///
/// Passwords are kept as SHA-256, which is fit for generated secrets, not for what people make up.
#[derive(Debug, Default)]
pub struct AccessList {
    users: RwLock<BTreeMap<String, User>>,
}

#[derive(Debug)]
struct User {
    /// None: only a certificate lets this user in.
    password_sha256: Option<[u8; 32]>,
    access: Access,
}

/// The longest user name in bytes.
const MAX_USER_BYTES: usize = 128;

impl AccessList {
    /// Nobody may do anything.
    #[must_use]
    pub fn new() -> Self {
        AccessList::default()
    }

    /// Adds a user, or replaces one of the same name.
    ///
    /// # Errors
    /// A user name that could be mistaken for a wildcard, or a malformed filter.
    pub fn add(&self, user: &str, password: &[u8], access: Access) -> Result<(), AccessError> {
        self.add_hashed(user, Sha256::digest(password).into(), access)
    }

    /// The same from the SHA-256 of the password, as a configuration file would hold it.
    ///
    /// # Errors
    /// See [`AccessList::add`].
    pub fn add_hashed(
        &self,
        user: &str,
        password_sha256: [u8; 32],
        access: Access,
    ) -> Result<(), AccessError> {
        self.insert(user, Some(password_sha256), access)
    }

    /// The same for a user whom only a certificate of that name lets in.
    ///
    /// # Errors
    /// See [`AccessList::add`].
    pub fn add_certified(&self, user: &str, access: Access) -> Result<(), AccessError> {
        self.insert(user, None, access)
    }

    fn insert(
        &self,
        user: &str,
        password_sha256: Option<[u8; 32]>,
        access: Access,
    ) -> Result<(), AccessError> {
        let printable = !user.chars().any(|c| c.is_control() || "+#/%$".contains(c));
        if user.is_empty() || user.len() > MAX_USER_BYTES || !printable {
            return Err(AccessError::UserName(user.to_owned()));
        }
        let own = |filter: String| match filter.replace("%u", user) {
            filter if is_filter(&filter) => Ok(filter),
            filter => Err(AccessError::Filter(filter)),
        };
        let read = access.read.into_iter().map(own).collect::<Result<_, _>>()?;
        let write = access
            .write
            .into_iter()
            .map(own)
            .collect::<Result<_, _>>()?;
        let user_entry = User {
            password_sha256,
            access: Access { read, write },
        };
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        users.insert(user.to_owned(), user_entry);
        Ok(())
    }

    /// Removes a user; returns whether there was one.
    pub fn remove(&self, user: &str) -> bool {
        self.users
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(user)
            .is_some()
    }

    fn allows(&self, identity: &Identity, inner: &str, pick: fn(&Access) -> &[String]) -> bool {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let access = users.get(identity.user()).map(|user| &user.access);
        access.is_some_and(|a| pick(a).iter().any(|filter| covers(filter, inner)))
    }
}

impl Policy for AccessList {
    fn authenticate(
        &self,
        _client_id: &str,
        user: Option<&str>,
        password: Option<&[u8]>,
    ) -> Option<Identity> {
        let (user, password) = (user?, password?);
        let given: [u8; 32] = Sha256::digest(password).into();
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let known = users.get(user).and_then(|entry| entry.password_sha256);
        // An unknown user costs the same comparison as a known one.
        let expected = known.unwrap_or_default();
        (same(&given, &expected) && known.is_some()).then(|| Identity::new(user))
    }

    fn certified(&self, name: &str) -> Option<Identity> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.contains_key(name).then(|| Identity::new(name))
    }

    fn may_publish(&self, identity: &Identity, topic: &str) -> bool {
        self.allows(identity, topic, |access| &access.write)
    }

    fn may_subscribe(&self, identity: &Identity, filter: &str) -> bool {
        self.allows(identity, filter, |access| &access.read)
    }
}

/// Compares all bytes, whatever the first ones are.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let different = a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y));
    std::hint::black_box(different) == 0
}

/// Why a user was not added.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AccessError {
    /// The name is empty, too long, or holds a character with a meaning in topics.
    #[error(
        "`{0}` cannot be a user name: use 1 to {MAX_USER_BYTES} bytes without + # / % $ and \
         control characters"
    )]
    UserName(String),
    /// A filter is malformed.
    #[error("`{0}` is not a topic filter: `+` and `#` must stand alone in a level, `#` last")]
    Filter(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> Access {
        Access {
            read: vec!["cw/%u/cmd".into()],
            write: vec!["cw/%u/reading".into()],
        }
    }

    #[test]
    fn a_user_may_do_what_its_filters_say_and_nothing_else() {
        let list = AccessList::new();
        list.add("gw1", b"secret", gateway()).unwrap();
        let settle = Access {
            read: vec!["cw/+/reading".into()],
            write: vec![],
        };
        list.add("settle", b"other", settle).unwrap();
        let gw1 = list
            .authenticate("any", Some("gw1"), Some(b"secret"))
            .unwrap();
        assert!(list.may_publish(&gw1, "cw/gw1/reading"));
        assert!(!list.may_publish(&gw1, "cw/gw2/reading") && !list.may_publish(&gw1, "cw/gw1/cmd"));
        assert!(list.may_subscribe(&gw1, "cw/gw1/cmd") && !list.may_subscribe(&gw1, "cw/+/cmd"));
        let settle = Identity::new("settle");
        assert!(list.may_subscribe(&settle, "cw/gw1/reading"));
        assert!(!list.may_subscribe(&settle, "cw/#") && !list.may_subscribe(&settle, "#"));
        assert!(list.remove("gw1") && !list.may_publish(&gw1, "cw/gw1/reading"));
    }

    #[test]
    fn a_wrong_password_or_name_is_refused() {
        let list = AccessList::new();
        list.add("gw1", b"secret", gateway()).unwrap();
        let given: [(Option<&str>, Option<&[u8]>); 5] = [
            (Some("gw1"), Some(b"Secret")),
            (Some("gw1"), None),
            (Some("gw2"), Some(b"secret")),
            (None, Some(b"secret")),
            (None, None),
        ];
        for (user, password) in given {
            assert!(
                list.authenticate("any", user, password).is_none(),
                "{user:?}"
            );
        }
    }

    #[test]
    fn a_user_without_a_password_comes_by_certificate_only() {
        let list = AccessList::new();
        list.add_certified("gw1", gateway()).unwrap();
        for password in [&b""[..], &[0; 32]] {
            assert!(
                list.authenticate("any", Some("gw1"), Some(password))
                    .is_none()
            );
        }
        assert_eq!(list.certified("gw1"), Some(Identity::new("gw1")));
        assert_eq!(list.certified("gw2"), None);
    }

    #[test]
    fn names_that_look_like_wildcards_are_refused() {
        let list = AccessList::new();
        for name in ["", "+", "#", "a/b", "a+", "%u", "a\n"] {
            let refused = list.add(name, b"x", gateway());
            assert!(matches!(refused, Err(AccessError::UserName(_))), "{name}");
        }
        let broken = Access {
            read: vec!["a#".into()],
            write: vec![],
        };
        assert_eq!(
            list.add("a", b"x", broken),
            Err(AccessError::Filter("a#".into()))
        );
    }
}
