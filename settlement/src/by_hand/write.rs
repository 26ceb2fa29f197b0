//! The result as JSON, CSV (a line a posting) or a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use domain::energy::Energy;
use domain::money::Money;
use domain::posting::{Account, Asset, Posting};
use serde_json::{Value, json};

use super::Output;
use crate::settle::Share;

fn asset_word(asset: Asset) -> &'static str {
    match asset {
        Asset::Token => "token",
        Asset::WattHour => "wh",
        Asset::Stake => "stake",
    }
}

/// An amount as people read it: tokens with nine decimals, or whole watt-hours.
fn amount(asset: Asset, amount: i64) -> String {
    match asset {
        Asset::Token | Asset::Stake => Money::from_nano(amount).to_string(),
        Asset::WattHour => amount.to_string(),
    }
}

impl Output {
    /// Credits less debits of every account that moved, in each asset.
    fn balances(&self) -> BTreeMap<(Asset, &Account), i128> {
        let mut balances: BTreeMap<(Asset, &Account), i128> = BTreeMap::new();
        for p in &self.postings {
            *balances.entry((p.asset, &p.debit)).or_default() -= i128::from(p.amount);
            *balances.entry((p.asset, &p.credit)).or_default() += i128::from(p.amount);
        }
        balances
    }

    fn sum(&self, asset: Asset) -> i128 {
        let of_asset = self
            .balances()
            .into_iter()
            .filter(|((a, _), _)| *a == asset);
        of_asset.map(|(_, balance)| balance).sum()
    }

    fn number_of(&self, posting: &Posting) -> Option<usize> {
        posting
            .reference
            .and_then(|id| self.numbers.get(&id).copied())
    }

    /// Everything, in the units of the edge: whole Wh, decimal tokens.
    ///
    /// # Errors
    /// None of these values is one that JSON cannot hold.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let settlement = &self.settlement;
        let (prices, balance) = (&settlement.prices, &settlement.balance);
        let terms = prices.terms.unwrap_or_default();
        let posting = |p: &Posting| {
            json!({
                "asset": asset_word(p.asset),
                "debit": p.debit.to_string(),
                "credit": p.credit.to_string(),
                "amount": amount(p.asset, p.amount),
                "purpose": p.purpose.word(),
                "trade": self.number_of(p),
            })
        };
        let account = |((asset, account), balance): ((Asset, &Account), i128)| {
            let balance = i64::try_from(balance).unwrap_or(i64::MAX);
            json!({
                "asset": asset_word(asset),
                "account": account.to_string(),
                "balance": amount(asset, balance),
            })
        };
        let value = json!({
            "interval": settlement.interval.to_string(),
            "run": self.run.word(),
            "tariff": self.effective.version,
            "prices": {
                "clearing": self.clearing_price.map(|price| price.to_string()),
                "pool": prices.pool.to_string(),
                "retail": prices.retail.to_string(),
                "feed_in": prices.feed_in.to_string(),
                "network_fee": prices.network_fee.to_string(),
            },
            "terms": terms,
            "participants": settlement.shares.iter().map(|s| self.participant(s)).collect::<Vec<_>>(),
            "feeder": {
                "metered": balance.feeder_metered,
                "imported_wh": balance.imported.wh(),
                "exported_wh": balance.exported.wh(),
                "lost_wh": balance.lost.wh(),
                "check": self.loss.word(),
            },
            "postings": self.postings.iter().map(posting).collect::<Vec<_>>(),
            "accounts": self.balances().into_iter().map(account).collect::<Vec<_>>(),
            "sums": {
                "token": self.sum(Asset::Token).to_string(),
                "wh": self.sum(Asset::WattHour).to_string(),
            },
        });
        serde_json::to_string_pretty(&value).map(|text| text + "\n")
    }

    fn participant(&self, share: &Share) -> Value {
        let delivery = &share.delivery;
        json!({
            "participant": delivery.participant.as_str(),
            "imported_wh": delivery.imported.wh(),
            "exported_wh": delivery.exported.wh(),
            "bought_wh": delivery.bought.wh(),
            "sold_wh": delivery.sold.wh(),
            "deviation_wh": delivery.deviation().map(Energy::wh),
            "pooled_wh": share.pooled.wh(),
            "utility_wh": share.utility.wh(),
            "quality": delivery.quality.to_string(),
            "net": self.net(delivery.participant.as_str()),
        })
    }

    /// What a participant has of all postings, in tokens.
    fn net(&self, participant: &str) -> String {
        let own = self.balances().into_iter();
        let own = own.filter(|((asset, a), _)| *asset == Asset::Token && a.owner() == participant);
        let net: i128 = own.map(|(_, balance)| balance).sum();
        Money::from_nano(i64::try_from(net).unwrap_or(i64::MAX)).to_string()
    }

    /// The postings, a line each.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text = "asset,debit,credit,amount,purpose,trade\n".to_owned();
        for p in &self.postings {
            let number = self.number_of(p).map_or(String::new(), |n| n.to_string());
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{},{},{},{},{},{number}",
                asset_word(p.asset),
                p.debit,
                p.credit,
                amount(p.asset, p.amount),
                p.purpose.word()
            );
        }
        text
    }

    /// Participants, postings and sums for a terminal.
    #[must_use]
    pub fn to_table(&self) -> String {
        let settlement = &self.settlement;
        let prices = &settlement.prices;
        let mut text = format!(
            "{} ({} run), token/kWh: pool {}, retail {}, feed-in {}, network fee {}\n\n",
            settlement.interval,
            self.run.word(),
            prices.pool,
            prices.retail,
            prices.feed_in,
            prices.network_fee
        );
        let _ = writeln!(
            text,
            "{:<20}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>18}",
            "Wh", "import", "export", "bought", "sold", "pool", "utility", "net, token"
        );
        for share in &settlement.shares {
            let d = &share.delivery;
            let name = d.participant.as_str();
            let (pool, utility, net) = (share.pooled.wh(), share.utility.wh(), self.net(name));
            let _ = writeln!(
                text,
                "{name:<20}{:>9}{:>9}{:>9}{:>9}{pool:>9}{utility:>9}{net:>18}",
                d.imported.wh(),
                d.exported.wh(),
                d.bought.wh(),
                d.sold.wh()
            );
        }
        let balance = &settlement.balance;
        let _ = writeln!(
            text,
            "\nfeeder: {} in, {} out, {} lost ({})\n",
            balance.imported,
            balance.exported,
            balance.lost,
            self.loss.word()
        );
        for p in &self.postings {
            let _ = writeln!(
                text,
                "{:<6}{:<22}-> {:<22}{:>18}  {}",
                asset_word(p.asset),
                p.debit.to_string(),
                p.credit.to_string(),
                amount(p.asset, p.amount),
                p.purpose.word()
            );
        }
        let (tokens, wh) = (self.sum(Asset::Token), self.sum(Asset::WattHour));
        let _ = writeln!(text, "\nsum of all accounts: {tokens} nano-token, {wh} Wh");
        text
    }
}
