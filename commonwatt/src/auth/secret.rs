//! Random secrets that are given away once and kept as hashes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::ids::digest_parts;

/// What a secret opens. Each kind is hashed with a word of its own, so that none can stand in for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Link,
    Session,
    Token,
}

impl Kind {
    const fn domain(self) -> &'static str {
        match self {
            Kind::Link => "commonwatt/sign-in-link/v1",
            Kind::Session => "commonwatt/session/v1",
            Kind::Token => "commonwatt/api-token/v1",
        }
    }
}

/// 256 random bits as 43 characters that fit into addresses and cookies.
pub(super) fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("no random numbers: {e}"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// 64 random bits in hex, to name something by.
pub(super) fn random_name() -> anyhow::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("no random numbers: {e}"))?;
    Ok(domain::ids::to_hex(&bytes))
}

/// What is kept of a secret. It has 256 random bits, so a plain hash is enough.
pub(super) fn hash(kind: Kind, secret: &str) -> [u8; 32] {
    digest_parts(kind.domain(), &[secret.as_bytes()])
}

/// What a session's forms carry: bound to the session, and of no use to find it.
pub(super) fn csrf_of(session: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest_parts("commonwatt/csrf/v1", &[session.as_bytes()]))
}

/// The first 128 bits of a digest as text.
pub(super) fn short_mark(digest: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(&digest[..16])
}

/// Whether two texts are the same, in a time that does not tell where they differ.
pub(super) fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_one_kind_does_not_open_another() {
        let (one, two) = (random().unwrap(), random().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 43);
        assert_ne!(hash(Kind::Link, &one), hash(Kind::Session, &one));
        assert_ne!(hash(Kind::Session, &one), hash(Kind::Token, &one));
        assert_ne!(csrf_of(&one), one);
        assert!(same("abc", "abc") && !same("abc", "abd") && !same("abc", "ab"));
    }
}
