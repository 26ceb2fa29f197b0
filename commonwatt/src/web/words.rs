//! What the pages say, in the reader's language: catalogues are data files, one for each language.
//!
//! A sentence has a key, `home.headline` say, and may have places, `{amount}`, that are filled. What a
//! catalogue lacks is said in English; a test holds that English and German lack nothing.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::{HeaderMap, header};
use chrono_tz::Tz;

/// The languages of the pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum Language {
    #[default]
    English,
    German,
    French,
    Spanish,
}

impl Language {
    /// All of them, in the order in which a page offers them.
    pub(crate) const ALL: [Language; 4] = [
        Language::English,
        Language::German,
        Language::French,
        Language::Spanish,
    ];

    /// Its tag, as browsers send it.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::German => "de",
            Language::French => "fr",
            Language::Spanish => "es",
        }
    }

    /// What its speakers call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Language::English => "English",
            Language::German => "Deutsch",
            Language::French => "Français",
            Language::Spanish => "Español",
        }
    }

    pub(crate) fn of_tag(tag: &str) -> Option<Language> {
        Language::ALL.into_iter().find(|known| known.tag() == tag)
    }

    /// What stands between whole and part: `1.8` or `1,8`.
    pub(crate) const fn decimal_sign(self) -> char {
        match self {
            Language::English => '.',
            Language::German | Language::French | Language::Spanish => ',',
        }
    }

    /// Whether a number takes the singular: in French, nothing is singular too.
    const fn is_one(self, n: u64) -> bool {
        match self {
            Language::French => n <= 1,
            Language::English | Language::German | Language::Spanish => n == 1,
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Language::English => include_str!("words/en.toml"),
            Language::German => include_str!("words/de.toml"),
            Language::French => include_str!("words/fr.toml"),
            Language::Spanish => include_str!("words/es.toml"),
        }
    }
}

type Catalogue = BTreeMap<String, String>;

static CATALOGUES: LazyLock<[Catalogue; 4]> =
    LazyLock::new(|| Language::ALL.map(|language| read(language.file()).unwrap_or_default()));

/// Reads a catalogue: tables of sentences, `[home]` with `headline = "…"` becomes `home.headline`.
fn read(text: &str) -> Result<Catalogue, toml::de::Error> {
    let tables: BTreeMap<String, BTreeMap<String, String>> = toml::from_str(text)?;
    let flat = tables.into_iter().flat_map(|(table, words)| {
        words
            .into_iter()
            .map(move |(key, text)| (format!("{table}.{key}"), text))
    });
    Ok(flat.collect())
}

/// A reader's language, with the zone and the currency of the site.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    pub(crate) language: Language,
    pub(crate) zone: Tz,
    pub(crate) currency: String,
}

impl Words {
    /// The sentence of a key.
    pub(crate) fn t(&self, key: &'static str) -> &'static str {
        let all: &'static [Catalogue; 4] = &CATALOGUES;
        let of = |language: Language| all.get(language as usize)?.get(key).map(String::as_str);
        of(self.language)
            .or_else(|| of(Language::English))
            .unwrap_or(key)
    }

    /// The sentence of a key with its places filled.
    pub(crate) fn fill(&self, key: &'static str, places: &[(&str, &str)]) -> String {
        fill(self.t(key), places)
    }

    /// The sentence for a number of things: `one` where it takes the singular, else `many`. Its place `{n}`
    /// is filled.
    pub(crate) fn plural(&self, one: &'static str, many: &'static str, n: u64) -> String {
        let key = if self.language.is_one(n) { one } else { many };
        self.fill(key, &[("n", &n.to_string())])
    }
}

fn fill(text: &str, places: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            filled.push('{');
            rest = after;
            continue;
        };
        match places.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => filled.push_str(value),
            None => filled.push_str(&format!("{{{name}}}")),
        }
        rest = tail;
    }
    filled.push_str(rest);
    filled
}

/// The cookie that keeps a chosen language.
pub(crate) const COOKIE: &str = "language";

/// The language for a request: the one that was chosen, else the first that the browser asks for and we have.
pub(crate) fn language_of(headers: &HeaderMap, own: Option<Language>) -> Language {
    chosen(headers).or(own).unwrap_or_else(|| {
        let asked = headers
            .get(header::ACCEPT_LANGUAGE)
            .and_then(|value| value.to_str().ok());
        preferred(asked.unwrap_or_default())
    })
}

fn chosen(headers: &HeaderMap) -> Option<Language> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let pairs = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().split_once('='));
    let (_, tag) = values.find(|(name, _)| *name == COOKIE)?;
    Language::of_tag(tag)
}

/// The best of `fr-CH, fr;q=0.9, en;q=0.8`.
fn preferred(asked: &str) -> Language {
    let weighed = asked.split(',').filter_map(|item| {
        let mut parts = item.split(';');
        let tag = parts.next()?.trim().get(..2)?.to_ascii_lowercase();
        let weight = parts
            .filter_map(|part| part.trim().strip_prefix("q="))
            .find_map(permille)
            .unwrap_or(1000);
        Some((Language::of_tag(&tag)?, weight))
    });
    let known: Vec<(Language, u32)> = weighed.filter(|(_, weight)| *weight > 0).collect();
    let most = known.iter().map(|(_, weight)| *weight).max();
    let best = known.iter().find(|(_, weight)| Some(*weight) == most);
    best.map(|(language, _)| *language).unwrap_or_default()
}

/// `0.85` in thousandths.
fn permille(text: &str) -> Option<u32> {
    let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = format!("{part:0<3}");
    let thousandths: u32 = digits.get(..3)?.parse().ok()?;
    Some(whole.parse::<u32>().ok()?.min(1) * 1000 + thousandths)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn places(text: &str) -> BTreeSet<String> {
        let parts = text.split('{').skip(1);
        parts
            .filter_map(|part| part.split_once('}'))
            .map(|(name, _)| name.to_owned())
            .collect()
    }

    #[test]
    fn english_and_german_say_everything_and_all_fill_the_same_places() {
        let english = read(Language::English.file()).unwrap();
        for language in Language::ALL {
            let catalogue = read(language.file()).unwrap();
            for (key, text) in &catalogue {
                let original = english.get(key);
                let original = original.unwrap_or_else(|| panic!("{key} is not in en.toml"));
                assert!(
                    !text.trim().is_empty(),
                    "{key} of {} is empty",
                    language.tag()
                );
                assert_eq!(
                    places(text),
                    places(original),
                    "{key} of {}",
                    language.tag()
                );
            }
            if language == Language::German {
                let missing: Vec<_> = english
                    .keys()
                    .filter(|k| !catalogue.contains_key(*k))
                    .collect();
                assert!(missing.is_empty(), "not in de.toml: {missing:?}");
            }
        }
    }

    fn sources(folder: &Path, into: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                into.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn every_key_that_is_used_exists_and_every_one_that_exists_is_used() {
        let mut text = String::new();
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        sources(&src, &mut text);
        let english = read(Language::English.file()).unwrap();
        let tables: BTreeSet<&str> = english
            .keys()
            .filter_map(|k| Some(k.split_once('.')?.0))
            .collect();
        let literals: BTreeSet<&str> = text.split('"').collect();
        for key in english.keys() {
            assert!(literals.contains(key.as_str()), "nothing says {key}");
        }
        // A call of `t`, `fill` or `plural` names a key that exists.
        for call in [".t(\"", ".fill(\"", ".plural(\""] {
            for used in text.split(call).skip(1) {
                let key = used.split('"').next().unwrap();
                let is_key = key
                    .split_once('.')
                    .is_some_and(|(table, _)| tables.contains(table));
                assert!(
                    !is_key || english.contains_key(key),
                    "{key} is not in en.toml"
                );
                assert!(is_key, "{key} is no key");
            }
        }
    }

    #[test]
    fn places_are_filled_and_plurals_follow_the_language() {
        assert_eq!(
            fill("{a} of {b}, {c}", &[("a", "1"), ("b", "{a}")]),
            "1 of {a}, {c}"
        );
        assert_eq!(fill("no { place", &[]), "no { place");
        let n = |language: Language| [0, 1, 2].map(|n| language.is_one(n));
        assert_eq!(n(Language::French), [true, true, false]);
        assert_eq!(n(Language::German), [false, true, false]);
    }

    #[test]
    fn the_browser_s_wish_is_met_and_a_chosen_language_goes_first() {
        for (asked, expected) in [
            ("de-AT,de;q=0.9,en;q=0.8", Language::German),
            ("pl, es;q=0.5, fr;q=0.7", Language::French),
            ("pl", Language::English),
            ("", Language::English),
            ("de;q=0, es;q=0.1", Language::Spanish),
            (";;q=,é", Language::English),
        ] {
            assert_eq!(preferred(asked), expected, "{asked}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, "de".parse().unwrap());
        headers.insert(header::COOKIE, "a=b; language=es".parse().unwrap());
        assert_eq!(language_of(&headers, None), Language::Spanish);
        let own = Some(Language::French);
        assert_eq!(language_of(&headers, own), Language::Spanish);
        headers.insert(header::COOKIE, "language=xx".parse().unwrap());
        assert_eq!(language_of(&headers, own), Language::French);
        assert_eq!(language_of(&headers, None), Language::German);
    }
}
