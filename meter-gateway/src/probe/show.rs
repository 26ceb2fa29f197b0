//! What was found, as text for people and as JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Fit, Found, FoundModel, ShownPoint};
use crate::device::address::Address;
use crate::device::sunspec::table::Shown;

/// `04d2 162e`, or nothing where it was not read.
fn hex(words: &[u16]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:04x}")).collect();
    words.join(" ")
}

/// Long words are cut for people: a text of sixteen registers says nothing in hex.
fn hex_short(words: &[u16]) -> String {
    match words.get(..6) {
        Some(first) if words.len() > 6 => format!("{} …", hex(first)),
        _ => hex(words),
    }
}

impl Found {
    /// The unit as text. `explain` shows raw words, and why a value is none.
    #[must_use]
    pub fn to_text(&self, address: &Address, explain: bool) -> String {
        let mut text = format!("unit {}", self.unit);
        // Writing to memory cannot fail, here and below.
        if let Some(first) = self.same_as {
            let _ = writeln!(text, "  answers as unit {first} does");
            return text;
        }
        text.push('\n');
        for model in &self.models {
            model.write(&mut text, explain);
        }
        for fit in &self.fits {
            fit.write(&mut text, self, address, explain);
        }
        if self.fits.is_empty() {
            let more = "a profile of your own can be put into profile_dir";
            let _ = writeln!(text, "  it answers, but no profile fits: {more}");
        }
        text
    }

    /// The unit as JSON: all words, all values.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let point = |p: &ShownPoint| {
            json!({
                "quantity": p.quantity.word(),
                "place": p.place,
                "words": hex(&p.words),
                "scale_word": p.scale_word.map(|word| hex(&[word])),
                "value": p.value.as_ref().ok(),
                "none_because": p.value.as_ref().err().map(ToString::to_string),
            })
        };
        let fit = |fit: &Fit| {
            json!({
                "profile": fit.profile,
                "kind": fit.kind.word(),
                "proofs": fit.score.proofs,
                "values": fit.score.values,
                "asked": fit.score.asked,
                "maker": fit.identity.maker,
                "model": fit.identity.model,
                "serial": fit.identity.serial,
                "firmware": fit.identity.firmware,
                "points": fit.points.iter().map(point).collect::<Vec<_>>(),
            })
        };
        json!({
            "unit": self.unit,
            "same_as": self.same_as,
            "models": self.models.iter().map(FoundModel::to_json).collect::<Vec<_>>(),
            "fits": self.fits.iter().map(fit).collect::<Vec<_>>(),
        })
    }
}

impl FoundModel {
    fn write(&self, text: &mut String, explain: bool) {
        let name = self.name.unwrap_or("not known here; skipped by its length");
        let (id, address) = (self.model.id, self.model.address);
        let _ = writeln!(text, "  SunSpec model {id:<5} at {address:<6} {name}");
        let told = |p: &&Shown| explain || p.value.is_ok();
        for point in self.points.iter().filter(told) {
            let group = point
                .group
                .map_or(String::new(), |group| format!("[{group}]"));
            let name = format!("{}{group}", point.name);
            let value = match &point.value {
                Ok(value) => format!("{value} {}", point.unit),
                Err(why) => format!("({why})"),
            };
            let words = if explain {
                format!("{:<6} {}", point.address, hex_short(&point.words))
            } else {
                String::new()
            };
            let _ = writeln!(
                text,
                "{}",
                format!("    {name:<22} {value:<28} {words}").trim_end()
            );
        }
    }

    fn to_json(&self) -> Value {
        let point = |p: &Shown| {
            json!({
                "name": p.name,
                "group": p.group,
                "address": p.address,
                "words": hex(&p.words),
                "value": p.value.as_ref().ok(),
                "unit": p.unit,
                "none_because": p.value.as_ref().err().map(ToString::to_string),
            })
        };
        json!({
            "id": self.model.id,
            "address": self.model.address,
            "length": self.model.length,
            "name": self.name,
            "points": self.points.iter().map(point).collect::<Vec<_>>(),
        })
    }
}

impl Fit {
    fn write(&self, text: &mut String, found: &Found, address: &Address, explain: bool) {
        let (values, asked) = (self.score.values, self.score.asked);
        // Parts of one hybrid are devices of their own; a weaker guess is only named.
        let is_best = found
            .fits
            .first()
            .is_some_and(|best| best.file() == self.file());
        let word = if is_best { "fits" } else { "also" };
        let _ = writeln!(
            text,
            "  {word} {} ({}): {values} of {asked} points have a value, {} of them prove it",
            self.profile,
            self.kind.word(),
            self.score.proofs
        );
        if !is_best {
            return;
        }
        let id = &self.identity;
        let named = [&id.maker, &id.model, &id.serial, &id.firmware];
        let named: Vec<&str> = named
            .into_iter()
            .map(String::as_str)
            .filter(|n| !n.is_empty())
            .collect();
        if !named.is_empty() {
            let _ = writeln!(text, "    {}", named.join(", "));
        }
        for point in self.points.iter().filter(|p| explain || p.value.is_ok()) {
            point.write(text, explain);
        }
        let _ = writeln!(
            text,
            "    in gateway.toml:  profile = \"{}\"  address = \"{address}\"  unit = {}",
            self.profile, found.unit
        );
    }
}

impl ShownPoint {
    fn write(&self, text: &mut String, explain: bool) {
        let value = match &self.value {
            Ok(value) => value.clone(),
            Err(why) => format!("({why})"),
        };
        let words = if explain {
            let scale = self
                .scale_word
                .map_or(String::new(), |w| format!("  scale {}", hex(&[w])));
            format!("{:<10} {}{scale}", self.place, hex_short(&self.words))
        } else {
            String::new()
        };
        let name = self.quantity.word();
        let _ = writeln!(
            text,
            "{}",
            format!("    {name:<22} {value:<28} {words}").trim_end()
        );
    }
}
