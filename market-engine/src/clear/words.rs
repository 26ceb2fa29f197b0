//! The names of mechanisms, price policies and ties, as commands, files and the market log write them.

use super::{Mechanism, PairPrice, PricePolicy, Ties};

/// Millionths in one.
pub(super) const MILLION: u32 = 1_000_000;

/// A mechanism in words; what is absent takes its default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Words<'a> {
    /// `uniform-price` (default), `pay-as-bid`, `trade-reduction`, `continuous`, `huang`, `muda` or `vcg`.
    pub mechanism: Option<&'a str>,
    /// `walras-mid` (default), `marginal` or `pair-k`; for `pay-as-bid`: `mid` (default), `bid`, `offer`.
    pub price_policy: Option<&'a str>,
    /// For `pair-k`: a decimal from 0 to 1 with at most 6 decimals, 0.5 where absent.
    pub k: Option<&'a str>,
    /// `pro-rata` (default), `time` or `lottery`.
    pub ties: Option<&'a str>,
    /// For `lottery` and `muda`: the seed, 0 where absent.
    pub seed: Option<u64>,
}

impl Mechanism {
    /// The mechanism that the words name.
    ///
    /// # Errors
    /// An unknown word, or one that this mechanism has no use for.
    pub fn from_words(words: &Words<'_>) -> Result<Self, OptionError> {
        let unused = |name, value: Option<&str>, mechanism| match value {
            Some(_) => Err(OptionError::Unused {
                option: name,
                mechanism,
            }),
            None => Ok(()),
        };
        if words.price_policy != Some("pair-k") {
            unused("k", words.k, "any price policy but pair-k")?;
        }
        let name = words.mechanism.unwrap_or("uniform-price");
        if words.seed.is_some() && words.ties != Some("lottery") && name != "muda" {
            return Err(OptionError::Unused {
                option: "seed",
                mechanism: "any ties but lottery",
            });
        }
        match name {
            "uniform-price" => Ok(Mechanism::UniformPrice {
                policy: price_policy(words)?,
                ties: ties(words)?,
            }),
            "pay-as-bid" => Ok(Mechanism::PayAsBid {
                price: pair_price(words)?,
                ties: ties(words)?,
            }),
            "trade-reduction" => {
                unused("price policy", words.price_policy, "trade-reduction")?;
                Ok(Mechanism::TradeReduction { ties: ties(words)? })
            }
            "huang" => {
                unused("price policy", words.price_policy, "huang")?;
                Ok(Mechanism::Huang { ties: ties(words)? })
            }
            "vcg" => {
                unused("price policy", words.price_policy, "vcg")?;
                Ok(Mechanism::Vcg { ties: ties(words)? })
            }
            "muda" => {
                unused("price policy", words.price_policy, "muda")?;
                unused("ties", words.ties, "muda")?;
                Ok(Mechanism::Muda {
                    seed: words.seed.unwrap_or(0),
                })
            }
            "continuous" => {
                unused("price policy", words.price_policy, "continuous")?;
                unused("ties", words.ties, "continuous")?;
                Ok(Mechanism::Continuous)
            }
            other => Err(OptionError::unknown(
                "mechanism",
                other,
                "uniform-price, pay-as-bid, trade-reduction, continuous, huang, muda, vcg",
            )),
        }
    }

    /// The mechanism's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.with(|auction| auction.name())
    }

    /// The name of its price policy.
    #[must_use]
    pub fn price_policy_name(self) -> &'static str {
        self.with(|auction| auction.price_policy())
    }

    /// The price policy, its k and the ties with their seed, so that the clearing can be repeated.
    #[must_use]
    pub fn details(self) -> String {
        let ties = match self.ties() {
            Ties::ProRata => "pro-rata".to_owned(),
            Ties::Time => "time".to_owned(),
            Ties::Lottery { seed } => format!("lottery seed={seed}"),
        };
        format!(
            "{} ties={ties}",
            self.with(|auction| auction.price_details())
        )
    }
}

fn price_policy(words: &Words<'_>) -> Result<PricePolicy, OptionError> {
    match words.price_policy.unwrap_or("walras-mid") {
        "walras-mid" => Ok(PricePolicy::WalrasMid),
        "marginal" => Ok(PricePolicy::Marginal),
        "pair-k" => Ok(PricePolicy::PairK {
            k_millionths: k(words.k.unwrap_or("0.5"))?,
        }),
        other => Err(OptionError::unknown(
            "price policy of uniform-price",
            other,
            "walras-mid, marginal, pair-k",
        )),
    }
}

fn pair_price(words: &Words<'_>) -> Result<PairPrice, OptionError> {
    match words.price_policy.unwrap_or("mid") {
        "bid" => Ok(PairPrice::Bid),
        "offer" => Ok(PairPrice::Offer),
        "mid" => Ok(PairPrice::Mid),
        other => Err(OptionError::unknown(
            "price policy of pay-as-bid",
            other,
            "bid, offer, mid",
        )),
    }
}

fn ties(words: &Words<'_>) -> Result<Ties, OptionError> {
    match words.ties.unwrap_or("pro-rata") {
        "pro-rata" => Ok(Ties::ProRata),
        "time" => Ok(Ties::Time),
        "lottery" => Ok(Ties::Lottery {
            seed: words.seed.unwrap_or(0),
        }),
        other => Err(OptionError::unknown(
            "ties",
            other,
            "pro-rata, time, lottery",
        )),
    }
}

/// k in millionths, from a decimal of at most six decimals.
fn k(text: &str) -> Result<u32, OptionError> {
    let wrong = || OptionError::unknown("k", text, "a decimal from 0 to 1, at most 6 decimals");
    let k: domain::money::Price = text.parse().map_err(|_| wrong())?;
    let k = u32::try_from(k.micro_per_kwh()).map_err(|_| wrong())?;
    if k <= MILLION { Ok(k) } else { Err(wrong()) }
}

/// Words that name no mechanism.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OptionError {
    /// A word that is not known.
    #[error("{option}: found `{found}`, expected {expected}")]
    Unknown {
        /// Which option.
        option: &'static str,
        /// What was given.
        found: String,
        /// What it can be.
        expected: &'static str,
    },
    /// An option that has no meaning here, and so is more likely a mistake.
    #[error("{option} has no meaning with {mechanism}: leave it away")]
    Unused {
        /// Which option.
        option: &'static str,
        /// With what it was combined.
        mechanism: &'static str,
    },
}

impl OptionError {
    fn unknown(option: &'static str, found: &str, expected: &'static str) -> Self {
        OptionError::Unknown {
            option,
            found: found.to_owned(),
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_mechanisms_and_back() {
        let check = |mechanism, price_policy, k, ties, seed, expect: &str| {
            let words = Words {
                mechanism,
                price_policy,
                k,
                ties,
                seed,
            };
            let text = match Mechanism::from_words(&words) {
                Ok(mechanism) => format!("{} {}", mechanism.name(), mechanism.details()),
                Err(error) => error.to_string(),
            };
            assert_eq!(text, expect);
        };
        check(
            None,
            None,
            None,
            None,
            None,
            "uniform-price walras-mid ties=pro-rata",
        );
        let k = Some("0.25");
        check(
            None,
            Some("pair-k"),
            k,
            None,
            None,
            "uniform-price pair-k k=0.250000 ties=pro-rata",
        );
        check(
            Some("pay-as-bid"),
            Some("offer"),
            None,
            None,
            None,
            "pay-as-bid offer ties=pro-rata",
        );
        let lottery = Some("lottery");
        check(
            Some("trade-reduction"),
            None,
            None,
            lottery,
            Some(7),
            "trade-reduction mcafee ties=lottery seed=7",
        );
        check(
            Some("continuous"),
            None,
            None,
            None,
            None,
            "continuous standing-order ties=time",
        );
        let wrong_k = "k: found `1.1`, expected a decimal from 0 to 1, at most 6 decimals";
        check(None, Some("pair-k"), Some("1.1"), None, None, wrong_k);
        let unused = "k has no meaning with any price policy but pair-k: leave it away";
        check(None, None, k, None, None, unused);
        let unused = "ties has no meaning with continuous: leave it away";
        check(Some("continuous"), None, None, Some("time"), None, unused);
        let seeded = "muda other-half ties=lottery seed=7";
        check(Some("muda"), None, None, None, Some(7), seeded);
        let unused = "ties has no meaning with muda: leave it away";
        check(Some("muda"), None, None, Some("time"), None, unused);
        let unknown = "ties: found `random`, expected pro-rata, time, lottery";
        check(None, None, None, Some("random"), None, unknown);
    }
}
