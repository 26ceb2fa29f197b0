//! Whose signatures a reader wants under a checkpoint (C2SP tlog-policy): the logs it knows, the
//! witnesses it knows, and how many of them must have signed.

use std::collections::BTreeMap;

use domain::log::cosignature::cosigned_at;
use domain::log::note::{Algorithm, Note, VerifierKey};
use domain::signed::PublicKey;
use domain::time::Timestamp;

/// Longest policy that is read.
pub const POLICY_MAX_BYTES: usize = 64 * 1024;
/// Most witnesses and groups of a policy.
const NAMES_MAX: usize = 256;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Member {
    Witness(Box<VerifierKey>),
    Group { wanted: usize, of: Vec<String> },
}

/// A policy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    logs: Vec<VerifierKey>,
    members: BTreeMap<String, Member>,
    /// None where no witness is wanted.
    quorum: Option<String>,
}

/// Why a policy cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct PolicyError {
    /// From one.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl Policy {
    /// A policy that wants each of these witnesses, whatever the log.
    #[must_use]
    pub fn all_of(witnesses: Vec<VerifierKey>) -> Self {
        let mut policy = Policy::default();
        if witnesses.is_empty() {
            return policy;
        }
        let named = (0..).zip(witnesses);
        let named = named.map(|(n, key)| (format!("witness {n}"), Member::Witness(Box::new(key))));
        policy.members = named.collect();
        let of: Vec<String> = policy.members.keys().cloned().collect();
        let wanted = of.len();
        policy
            .members
            .insert("all".to_owned(), Member::Group { wanted, of });
        policy.quorum = Some("all".to_owned());
        policy
    }

    /// Reads a policy's text.
    ///
    /// # Errors
    /// The first line that is wrong, or that the quorum is missing.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let wrong = |line: usize, why: String| PolicyError { line, why };
        if text.len() > POLICY_MAX_BYTES {
            return Err(wrong(1, format!("longer than {POLICY_MAX_BYTES} bytes")));
        }
        let mut policy = Policy::default();
        let mut quorum = None;
        for (line, content) in (1..).zip(text.lines()) {
            let words: Vec<&str> = content
                .split([' ', '\t'])
                .filter(|w| !w.is_empty())
                .collect();
            let done = match words.as_slice() {
                [] => Ok(()),
                [first, ..] if first.starts_with('#') => Ok(()),
                ["log", key] | ["log", key, _] => policy.add_log(key),
                ["witness", name, key] | ["witness", name, key, _] => policy.add_witness(name, key),
                ["group", name, wanted, of @ ..] => policy.add_group(name, wanted, of),
                ["quorum", name] if quorum.is_none() => {
                    policy.quorum(name).map(|q| quorum = Some(q))
                }
                ["quorum", _] => Err("there is a quorum already".to_owned()),
                [first, ..] => Err(format!(
                    "`{first}` begins no line: expected log, witness, group or quorum"
                )),
            };
            done.map_err(|why| wrong(line, why))?;
        }
        let last = text.lines().count().max(1);
        policy.quorum = quorum.ok_or_else(|| wrong(last, "there is no quorum line".to_owned()))?;
        Ok(policy)
    }

    fn add_log(&mut self, key: &str) -> Result<(), String> {
        let key: VerifierKey = key.parse().map_err(|e| format!("{e}"))?;
        if key.algorithm() != Algorithm::Log || self.logs.iter().any(|l| l.key() == key.key()) {
            return Err(format!("{key}: not a log’s key, or there already"));
        }
        self.logs.push(key);
        Ok(())
    }

    fn add_witness(&mut self, name: &str, key: &str) -> Result<(), String> {
        let key: VerifierKey = key.parse().map_err(|e| format!("{e}"))?;
        let known = |member: &Member| matches!(member, Member::Witness(w) if w.key() == key.key());
        if key.algorithm() != Algorithm::Witness || self.members.values().any(known) {
            return Err(format!("{key}: not a witness’s key, or there already"));
        }
        self.add(name, Member::Witness(Box::new(key)))
    }

    fn add_group(&mut self, name: &str, wanted: &str, of: &[&str]) -> Result<(), String> {
        let wanted = match wanted {
            "any" => Some(1),
            "all" => Some(of.len()),
            number => number.parse().ok(),
        };
        let wanted = wanted.filter(|k| (1..=of.len()).contains(k));
        let wanted = wanted.ok_or("a group wants any, all, or 1 to as many as it has members")?;
        let grouped = |member: &str| {
            let in_group = |m: &Member| matches!(m, Member::Group { of, .. } if of.iter().any(|o| o == member));
            self.members.values().any(in_group)
        };
        for (n, member) in of.iter().enumerate() {
            if !self.members.contains_key(*member) {
                return Err(format!("`{member}` is not defined above"));
            }
            if grouped(member) || of[..n].contains(member) {
                return Err(format!("`{member}` is in a group already"));
            }
        }
        let of = of.iter().map(|member| (*member).to_owned()).collect();
        self.add(name, Member::Group { wanted, of })
    }

    fn add(&mut self, name: &str, member: Member) -> Result<(), String> {
        if name == "none" || self.members.len() >= NAMES_MAX {
            return Err(format!(
                "`{name}`: not a free name, or more than {NAMES_MAX} of them"
            ));
        }
        match self.members.insert(name.to_owned(), member) {
            None => Ok(()),
            Some(_) => Err(format!("`{name}` is defined already")),
        }
    }

    fn quorum(&self, name: &str) -> Result<Option<String>, String> {
        match name {
            "none" => Ok(None),
            name if self.members.contains_key(name) => Ok(Some(name.to_owned())),
            name => Err(format!("`{name}` is not defined above")),
        }
    }

    /// Whether any witness must have signed.
    #[must_use]
    pub fn wants_witnesses(&self) -> bool {
        self.quorum.is_some()
    }

    /// The log's key that the policy knows for an origin; an error where it knows logs, and not this one.
    ///
    /// # Errors
    /// Which origin is unknown.
    pub fn log_key(&self, origin: &str) -> Result<Option<PublicKey>, String> {
        let known = self.logs.iter().find(|log| log.name() == origin);
        match known {
            Some(log) => Ok(Some(log.key())),
            None if self.logs.is_empty() => Ok(None),
            None => Err(format!("the policy does not know the log {origin}")),
        }
    }

    /// Checks that enough witnesses have signed, none of them after `latest`, and says which have.
    ///
    /// # Errors
    /// Who is missing.
    pub fn check(&self, note: &Note, latest: Option<Timestamp>) -> Result<String, String> {
        let Some(quorum) = &self.quorum else {
            return Ok("none wanted".to_owned());
        };
        let mut signed = Vec::new();
        for member in self.members.values() {
            let Member::Witness(key) = member else {
                continue;
            };
            let lines = note.signatures.iter();
            let at = lines
                .filter_map(|line| cosigned_at(&note.body, line, key))
                .max();
            match at {
                Some(at) if latest.is_none_or(|latest| at <= latest) => {
                    signed.push((&**key, at));
                }
                Some(_) | None => {}
            }
        }
        let names = |named: &[(&VerifierKey, Timestamp)]| {
            let named = named
                .iter()
                .map(|(key, at)| format!("{} at {at}", key.name()));
            named.collect::<Vec<_>>().join(", ")
        };
        match self.is_met(quorum, &signed) {
            true => Ok(names(&signed)),
            false if signed.is_empty() => Err("no witness of the policy has signed".to_owned()),
            false => Err(format!("too few witnesses: only {}", names(&signed))),
        }
    }

    /// Groups name only what was defined above them, so this ends.
    fn is_met(&self, name: &str, signed: &[(&VerifierKey, Timestamp)]) -> bool {
        match self.members.get(name) {
            None => false,
            Some(Member::Witness(key)) => signed.iter().any(|(by, _)| **by == **key),
            Some(Member::Group { wanted, of }) => {
                of.iter().filter(|m| self.is_met(m, signed)).count() >= *wanted
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::log::cosignature::cosign;
    use domain::signed::SigningKey;

    const BODY: &str = "log\n1\nroot\n";

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn name(n: u8) -> String {
        format!("w{n}.example")
    }

    fn vkey(n: u8) -> VerifierKey {
        VerifierKey::of_witness(&name(n), PublicKey::of(&key(n))).unwrap()
    }

    fn note(signers: &[u8]) -> Note {
        let at = Timestamp::from_unix_s(1000);
        let line = |n: &u8| cosign(BODY, &name(*n), &key(*n), at).unwrap();
        Note {
            body: BODY.to_owned(),
            signatures: signers.iter().map(line).collect(),
        }
    }

    #[test]
    fn a_quorum_of_groups_is_counted() {
        let witnesses: String = (1..=5)
            .map(|n| format!("witness W{n} {}\n", vkey(n)))
            .collect();
        let text = format!(
            "# a comment\n\n{witnesses}group X 2 W1 W2 W3\n group\tY any W4 W5\ngroup Z all X Y\nquorum Z\n"
        );
        let policy = Policy::parse(&text).unwrap();
        for (signers, met) in [
            (&[1_u8, 2, 4][..], true),
            (&[1, 3, 5], true),
            (&[1, 2, 3], false),
            (&[1, 4, 5], false),
            (&[1, 1, 4], false),
            (&[9, 8, 7], false),
        ] {
            let told = policy.check(&note(signers), None);
            assert_eq!(told.is_ok(), met, "{signers:?} {told:?}");
        }
        let none = policy.check(&note(&[9]), None).unwrap_err();
        assert_eq!(none, "no witness of the policy has signed");
        let future = policy.check(&note(&[1, 2, 4]), Some(Timestamp::from_unix_s(999)));
        assert!(future.is_err());
        // A signature that does not hold counts for nothing.
        let mut bad = note(&[1, 2, 4]);
        bad.body = "log\n2\nroot\n".to_owned();
        assert!(policy.check(&bad, None).is_err());
        let every = Policy::all_of(vec![vkey(1), vkey(2)]);
        assert!(every.check(&note(&[1]), None).is_err());
        assert!(every.check(&note(&[2, 1]), None).is_ok());
        assert!(Policy::default().check(&note(&[]), None).is_ok());
    }

    #[test]
    fn a_log_is_known_by_its_origin() {
        let log = VerifierKey::of_log("street/ledger", PublicKey::of(&key(7))).unwrap();
        let policy = Policy::parse(&format!("log {log} http://x\nquorum none\n")).unwrap();
        assert_eq!(policy.log_key("street/ledger"), Ok(Some(log.key())));
        assert!(policy.log_key("lane/ledger").is_err());
        let any = Policy::parse("quorum none").unwrap();
        assert_eq!(any.log_key("lane/ledger"), Ok(None));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let w = format!("witness W {}\n", vkey(1));
        let log = VerifierKey::of_log("l", PublicKey::of(&key(7))).unwrap();
        for (text, line, part) in [
            (String::new(), 1, "no quorum"),
            ("hello\n".to_owned(), 1, "`hello`"),
            (format!("witness W {log}\nquorum W"), 1, "not a witness"),
            (format!("log {}\n", vkey(1)), 1, "not a log"),
            (format!("{w}witness V {}\n", vkey(1)), 2, "there already"),
            (format!("{w}witness W {}\n", vkey(2)), 2, "defined already"),
            (format!("{w}group G 2 W\n"), 2, "wants"),
            (format!("{w}group G any V\n"), 2, "`V` is not defined"),
            (format!("{w}group G 1 W W\n"), 2, "in a group"),
            (
                format!("{w}group G any W\ngroup H any W\n"),
                3,
                "in a group",
            ),
            (format!("{w}group none any W\n"), 2, "`none`"),
            (format!("{w}quorum V\n"), 2, "`V` is not defined"),
            (format!("{w}quorum W\nquorum W\n"), 3, "already"),
        ] {
            let error = Policy::parse(&text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.why.contains(part), "{text}: {error}");
        }
    }
}
