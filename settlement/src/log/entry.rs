//! An entry of a log: a fixed-size leaf that commits to a content without showing it.
//!
//! The salt of a personal entry comes from the participant's random secret. When the secret is deleted,
//! nobody can find out any more what the participant's entries committed to, and the tree stands.

use domain::ids::{Digest32, digest_parts};
use domain::receipt::Salt;
use domain::time::Timestamp;

use super::tree::leaf_hash;

/// Bytes of a leaf.
pub const LEAF_BYTES: usize = 42;

/// The salt of entries that are public.
pub const PUBLIC: Salt = Salt([0; 16]);

const VERSION: u8 = 1;

/// What an entry is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A signed reading.
    Reading,
    /// A signed order.
    Order,
    /// A trade; it has an entry for each of its two parties.
    Trade,
    /// A clearing.
    Clearing,
    /// A key record, signed by the operator.
    Key,
    /// A participant's settlement line of a run.
    Line,
    /// A checkpoint of another log.
    Checkpoint,
    /// A revocation of a key, signed by the operator.
    Revocation,
    /// What a settlement run was made from; its lines are the entries before it.
    Run,
    /// What a gateway's new key was let in on, signed by that key and by the one that vouched for it.
    Introduction,
    /// A request of an operator for tokens in or out, or what came of it.
    Tokens,
    /// Evidence that somebody broke a rule.
    Evidence,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 12] = [
        Kind::Reading,
        Kind::Order,
        Kind::Trade,
        Kind::Clearing,
        Kind::Key,
        Kind::Line,
        Kind::Checkpoint,
        Kind::Revocation,
        Kind::Run,
        Kind::Introduction,
        Kind::Tokens,
        Kind::Evidence,
    ];

    /// What it is called.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Reading => "reading",
            Kind::Order => "order",
            Kind::Trade => "trade",
            Kind::Clearing => "clearing",
            Kind::Key => "key",
            Kind::Line => "line",
            Kind::Checkpoint => "checkpoint",
            Kind::Revocation => "revocation",
            Kind::Run => "run",
            Kind::Introduction => "introduction",
            Kind::Tokens => "tokens",
            Kind::Evidence => "evidence",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Kind::Reading => 1,
            Kind::Order => 2,
            Kind::Trade => 3,
            Kind::Clearing => 4,
            Kind::Key => 5,
            Kind::Line => 6,
            Kind::Checkpoint => 7,
            Kind::Revocation => 8,
            Kind::Run => 9,
            Kind::Introduction => 10,
            Kind::Tokens => 11,
            Kind::Evidence => 12,
        }
    }
}

/// An entry before it is in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What it is about.
    pub kind: Kind,
    /// The start of its interval; the epoch for what belongs to none.
    pub start: Timestamp,
    /// What it commits to, and under which salt.
    pub commitment: Digest32,
}

impl Entry {
    /// An entry that commits to `content`.
    #[must_use]
    pub fn new(kind: Kind, start: Timestamp, salt: Salt, content: &[u8]) -> Self {
        let parts: [&[u8]; 2] = [&salt.0, content];
        let commitment = Digest32(digest_parts("commonwatt/commitment/v1", &parts));
        Entry {
            kind,
            start,
            commitment,
        }
    }

    /// The leaf: version, kind, start of the interval in unix seconds (big-endian), commitment.
    #[must_use]
    pub fn leaf(&self) -> [u8; LEAF_BYTES] {
        let mut leaf = [0; LEAF_BYTES];
        leaf[0] = VERSION;
        leaf[1] = self.kind.code();
        leaf[2..10].copy_from_slice(&self.start.unix_s().to_be_bytes());
        leaf[10..].copy_from_slice(&self.commitment.0);
        leaf
    }

    /// Reads a leaf; `None` where the bytes are none of this version.
    #[must_use]
    pub fn from_leaf(leaf: &[u8]) -> Option<Self> {
        let leaf: &[u8; LEAF_BYTES] = leaf.try_into().ok()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.code() == leaf[1])?;
        let start = i64::from_be_bytes(leaf[2..10].try_into().ok()?);
        let entry = Entry {
            kind,
            start: Timestamp::from_unix_s(start),
            commitment: Digest32(leaf[10..].try_into().ok()?),
        };
        (leaf[0] == VERSION).then_some(entry)
    }

    /// The hash of the leaf.
    #[must_use]
    pub fn leaf_hash(&self) -> Digest32 {
        leaf_hash(&self.leaf())
    }
}

/// The salt with which a participant's entry commits to `content`.
#[must_use]
pub fn salt_of(secret: &[u8; 32], content: &[u8]) -> Salt {
    let parts: [&[u8]; 2] = [secret, &Digest32::of(content).0];
    let mut salt = [0; 16];
    salt.copy_from_slice(&digest_parts("commonwatt/salt/v1", &parts)[..16]);
    Salt(salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_shows_kind_and_time_and_hides_the_content() {
        let start = Timestamp::from_unix_s(900);
        let entry = |secret: u8| {
            let salt = salt_of(&[secret; 32], b"content");
            Entry::new(Kind::Line, start, salt, b"content")
        };
        assert_eq!(entry(1).leaf()[..10], [1, 6, 0, 0, 0, 0, 0, 0, 3, 132]);
        assert_ne!(entry(1).leaf_hash(), entry(2).leaf_hash());
        let leaf = entry(1).leaf();
        assert_eq!(Entry::from_leaf(&leaf), Some(entry(1)));
        for (at, other) in [(0, 2), (1, 0), (1, 13)] {
            let mut wrong = leaf;
            wrong[at] = other;
            assert_eq!(Entry::from_leaf(&wrong), None);
        }
        assert_eq!(Entry::from_leaf(&leaf[1..]), None);
        assert_ne!(salt_of(&[1; 32], b"a"), salt_of(&[1; 32], b"b"));
    }
}
