//! `[tariff]` and `[settlement]` of `site.toml`: what energy costs, how deviations are priced, what the
//! community takes and holds back. What is absent has a default.

use std::path::Path;

use anyhow::{Context, bail};
use domain::money::Price;
use domain::terms::{BASIS_POINTS, DeviationPolicy, Terms};
use serde::{Deserialize, Serialize};
use settlement::deliver::LossBand;
use settlement::tariff::{Tariff, Tariffs};

/// The section `[tariff]`: three prices for all time, or a file with versions.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TariffFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    feed_in: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network_fee: Option<String>,
    /// A tariff file, relative to where `site.toml` lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

/// The section `[settlement]`.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SettlementFile {
    /// pooled, two-price or single-price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    /// With `pooled`, in token per kWh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spread: Option<String>,
    /// Of a seller's income from trades, like "1.5".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    community_fee_percent: Option<String>,
    /// Of the rest, until the final run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holdback_percent: Option<String>,
    /// Energy that may be lost in the street before the log warns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_max_percent: Option<String>,
}

impl SettlementFile {
    /// Whether nothing is said, and the section is not written.
    pub(super) fn is_empty(&self) -> bool {
        *self == SettlementFile::default()
    }
}

/// What the community's settlement goes by, checked.
#[derive(Clone, Debug)]
pub(crate) struct SettlementRules {
    pub(crate) tariffs: Tariffs,
    pub(crate) terms: Terms,
    pub(crate) loss_band: LossBand,
    /// The newest version's prices where its kind says nothing else.
    pub(super) base: Tariff,
    tariff_file: TariffFile,
    file: SettlementFile,
}

impl SettlementRules {
    /// A flat tariff and plain terms.
    pub(crate) fn flat(base: Tariff) -> Self {
        SettlementRules {
            tariffs: base.into(),
            terms: Terms::default(),
            loss_band: LossBand::default(),
            base,
            tariff_file: TariffFile {
                retail: Some(base.retail.to_string()),
                feed_in: Some(base.feed_in.to_string()),
                network_fee: Some(base.network_fee.to_string()),
                file: None,
            },
            file: SettlementFile::default(),
        }
    }

    /// Reads what the sections say; files they name lie beside `site.toml`.
    pub(super) fn check(
        tariff_file: TariffFile,
        file: SettlementFile,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let tariffs = tariff_file.read(folder)?;
        let base = tariffs.base();
        let policy = match &file.policy {
            None => DeviationPolicy::Pooled,
            Some(word) => DeviationPolicy::from_word(word).with_context(|| {
                format!("settlement.policy = \"{word}\": pooled, two-price or single-price")
            })?,
        };
        let spread = match &file.spread {
            None => Price::ZERO,
            Some(text) => text.parse().context("settlement.spread")?,
        };
        let percent = |key: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => basis_points(text)
                .map(Some)
                .with_context(|| format!("settlement.{key}")),
        };
        let fee = percent("community_fee_percent", &file.community_fee_percent)?;
        let holdback = percent("holdback_percent", &file.holdback_percent)?;
        let terms = Terms {
            policy,
            spread,
            community_fee_bp: fee.unwrap_or(0),
            holdback_bp: holdback.unwrap_or(0),
            ..Terms::default()
        };
        terms.check().context("[settlement]")?;
        let mut loss_band = LossBand::default();
        if let Some(loss) = percent("loss_max_percent", &file.loss_max_percent)? {
            if loss % 10 != 0 {
                bail!("settlement.loss_max_percent has at most one decimal");
            }
            loss_band.max_permille = loss / 10;
        }
        Ok(SettlementRules {
            tariffs,
            terms,
            loss_band,
            base,
            tariff_file,
            file,
        })
    }

    /// The sections as they are written.
    pub(super) fn sections(&self) -> (TariffFile, SettlementFile) {
        (self.tariff_file.clone(), self.file.clone())
    }
}

impl TariffFile {
    fn read(&self, folder: &Path) -> anyhow::Result<Tariffs> {
        let price = |key: &str, text: &Option<String>| -> anyhow::Result<Price> {
            let text = text.as_deref().with_context(|| {
                format!("tariff.{key} is missing: [tariff] has retail, feed_in and network_fee, or a file")
            })?;
            text.parse().with_context(|| format!("tariff.{key}"))
        };
        let Some(file) = &self.file else {
            let flat = Tariff::new(
                price("retail", &self.retail)?,
                price("feed_in", &self.feed_in)?,
                price("network_fee", &self.network_fee)?,
            )?;
            return Ok(flat.into());
        };
        if self.retail.is_some() || self.feed_in.is_some() || self.network_fee.is_some() {
            bail!("[tariff] names a file and prices of its own: one of both");
        }
        read_tariff(&folder.join(file))
    }
}

/// Reads a tariff's file, and the files that it names, which lie beside it.
pub(crate) fn read_tariff(path: &Path) -> anyhow::Result<Tariffs> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the tariff {}", path.display()))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut load = |name: &str| {
        let file = folder.join(name);
        std::fs::read_to_string(&file).map_err(|e| format!("cannot read {}: {e}", file.display()))
    };
    Tariffs::from_toml(&text, &mut load).with_context(|| path.display().to_string())
}

/// Basis points of a text like `1.5`, in percent with at most two decimals.
pub(crate) fn basis_points(text: &str) -> anyhow::Result<u32> {
    // A percentage has the form of a price: hundredths of it are 10,000 of a price's ticks.
    let ticks = text.parse::<Price>()?.micro_per_kwh();
    if ticks % 10_000 != 0 {
        bail!("`{text}` percent has more than two decimals");
    }
    u32::try_from(ticks / 10_000)
        .ok()
        .filter(|points| *points <= BASIS_POINTS)
        .with_context(|| format!("`{text}` percent is not between 0 and 100"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tariff: &str, settlement: &str) -> anyhow::Result<SettlementRules> {
        let folder = tempfile::tempdir()?;
        let versions = "[[version]]\nname = \"a\"\nvalid_from = \"2026-01-01T00:00:00Z\"\nretail = \"0.3\"\n\
                        feed_in = \"0.08\"\nnetwork_fee = \"0.07\"\n";
        std::fs::write(folder.path().join("tariff.toml"), versions)?;
        SettlementRules::check(
            toml::from_str(tariff)?,
            toml::from_str(settlement)?,
            folder.path(),
        )
    }

    const FLAT: &str = "retail = \"0.30\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.03\"\n";

    #[test]
    fn sections_are_read_and_written() {
        let plain = check(FLAT, "").unwrap();
        assert_eq!(plain.terms, Terms::default());
        let all = "policy = \"pooled\"\nspread = \"0.01\"\ncommunity_fee_percent = \"1.25\"\n\
                   holdback_percent = \"10\"\nloss_max_percent = \"4.5\"\n";
        let rules = check("file = \"tariff.toml\"\n", all).unwrap();
        assert_eq!(
            (rules.terms.community_fee_bp, rules.terms.holdback_bp),
            (125, 1000)
        );
        assert_eq!(rules.loss_band.max_permille, 45);
        assert_eq!(rules.base.retail.to_string(), "0.300000");
        let (tariff, settlement) = rules.sections();
        assert_eq!(
            toml::to_string(&tariff).unwrap(),
            "file = \"tariff.toml\"\n"
        );
        assert_eq!(toml::to_string(&settlement).unwrap(), all);
        assert!(plain.sections().1.is_empty() && !settlement.is_empty());
    }

    #[test]
    fn mistakes_are_named() {
        for (tariff, settlement, expect) in [
            ("retail = \"0.3\"\n", "", "tariff.feed_in is missing"),
            ("file = \"other.toml\"\n", "", "other.toml"),
            (
                "file = \"tariff.toml\"\nretail = \"0.3\"\n",
                "",
                "one of both",
            ),
            (FLAT, "policy = \"best\"\n", "settlement.policy"),
            (
                FLAT,
                "policy = \"two-price\"\nspread = \"0.01\"\n",
                "belongs to the policy",
            ),
            (FLAT, "spread = \"cheap\"\n", "settlement.spread"),
            (
                FLAT,
                "community_fee_percent = \"101\"\n",
                "between 0 and 100",
            ),
            (FLAT, "holdback_percent = \"0.123\"\n", "two decimals"),
            (
                FLAT,
                "holdback_percent = \"-1\"\n",
                "settlement.holdback_percent",
            ),
            (FLAT, "loss_max_percent = \"0.05\"\n", "one decimal"),
        ] {
            let error = format!("{:#}", check(tariff, settlement).unwrap_err());
            assert!(error.contains(expect), "{settlement}: {error}");
        }
    }
}
