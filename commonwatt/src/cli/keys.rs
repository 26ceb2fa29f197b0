//! `commonwatt keys`: which keys the gateways of a community sign with, codes that let new ones in, and
//! the end of old ones.

use anyhow::anyhow;
use domain::claim::{Claim, ClaimCode};
use domain::ids::{GatewayId, KeyId};
use domain::revocation::{REASON_MAX_BYTES, Revocation};
use domain::signed::{PublicKey, Signed};
use domain::time::Timestamp;
use serde_json::{Value, json};

use super::operator::Operator;
use super::{CliError, Format, print_data};

/// See and change which keys a community's gateways may sign with.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show every gateway's keys, their state, and since when.
    List(ListArgs),
    /// Make a one-time code with which a gateway enrols its key.
    Claim(ClaimArgs),
    /// Declare that a gateway's keys count no longer.
    Revoke(RevokeArgs),
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  commonwatt keys list --url http://127.0.0.1:8080")]
struct ListArgs {
    #[command(flatten)]
    operator: Operator,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  commonwatt keys claim --gateway gw-7\n\n\
    The code is shown once and kept nowhere: the platform gets the public half of a key that is made from \
    it. A new code of a gateway ends the ones before.")]
struct ClaimArgs {
    #[command(flatten)]
    operator: Operator,
    /// The gateway, as site.toml calls it.
    #[arg(long)]
    gateway: GatewayId,
    /// How long the code can be used.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=720))]
    hours: u32,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt keys revoke --gateway gw-7 --reason \"the box was stolen\"\n\n\
    Without --key all keys of the gateway are revoked that are not yet, replaced ones too. \
    Without --from-sequence and --from, what is in the books stays and nothing more is taken: readings from \
    one sequence after the newest on, or of intervals that end later than now, are refused as key_revoked. \
    The gateway enrols a new key with a new claim code."
)]
struct RevokeArgs {
    #[command(flatten)]
    operator: Operator,
    /// The gateway, as site.toml calls it.
    #[arg(long)]
    gateway: GatewayId,
    /// The key, as `keys list` shows it; all of the gateway's where none is named.
    #[arg(long)]
    key: Option<KeyId>,
    /// First sequence that is refused, for each of the key's points.
    #[arg(long, requires = "key")]
    from_sequence: Option<u64>,
    /// Readings of intervals that end later are refused too (RFC 3339 in UTC).
    #[arg(long)]
    from: Option<Timestamp>,
    /// Why, for whoever looks it up later.
    #[arg(long)]
    reason: String,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Claim(args) => claim(args),
        Command::Revoke(args) => revoke(args),
    }
}

fn list(args: &ListArgs) -> Result<(), CliError> {
    let gateways = args.operator.get_list("/api/v1/keys")?;
    if args.format == Format::Json {
        let keys = serde_json::json!({ "gateways": gateways });
        return print_data(&format!("{keys:#}\n"));
    }
    let mut rows = vec![["gateway", "key", "state", "since"].map(str::to_owned)];
    for gateway in &gateways {
        let name = text(gateway, "gateway");
        let own = gateway["keys"].as_array().into_iter().flatten();
        let before = rows.len();
        rows.extend(own.map(|key| {
            let since = match text(key, "state").as_str() {
                "revoked" => text(&key["revoked"], "from"),
                "replaced" => text(key, "replaced"),
                _ => text(key, "enrolled"),
            };
            [name.clone(), text(key, "key"), text(key, "state"), since]
        }));
        if let Some(expires) = gateway["claim"]["expires"].as_str() {
            let code = ["-", "claimable", expires].map(str::to_owned);
            let [key, state, until] = code;
            rows.push([name, key, state, until]);
        } else if rows.len() == before {
            rows.push([name, "-".into(), "no key".into(), "-".into()]);
        }
    }
    let line = |row: &[String; 4]| match args.format {
        Format::Csv => row.join(",") + "\n",
        _ => {
            let [gateway, key, state, since] = row;
            format!("{gateway:<20} {key:<16} {state:<9} {since}\n")
        }
    };
    print_data(&rows.iter().map(line).collect::<String>())
}

fn claim(args: &ClaimArgs) -> Result<(), CliError> {
    let platform = args.operator.platform()?;
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| anyhow!("no random numbers: {e}"))?;
    let code = ClaimCode::from_random(random);
    let (gateway, issued_at) = (&args.gateway, platform.now);
    let claim = Claim {
        gateway: gateway.clone(),
        key: PublicKey::of(&code.key(&platform.community, gateway)),
        issued_at,
        expires_at: issued_at.plus_s(i64::from(args.hours) * 3600),
    };
    let signed = Signed::sign(&platform.key, &platform.community, &claim);
    let answer = args
        .operator
        .post("/api/v1/keys/claims", signed.as_bytes())?;
    let (code, expires) = (code.reveal(), text(&answer, "expires"));
    print_data(&match args.format {
        Format::Table => format!(
            "{code}\n\nThe claim code of {gateway}, good once and until {expires}. Start the gateway with it:\n  \
             commonwatt gateway --config gateway.toml --claim -\nand type the code in. It is shown only here.\n"
        ),
        Format::Csv => format!("gateway,code,expires\n{gateway},{code},{expires}\n"),
        Format::Json => {
            let all = json!({ "gateway": gateway.as_str(), "code": code, "expires": expires });
            format!("{all:#}\n")
        }
    })
}

fn revoke(args: &RevokeArgs) -> Result<(), CliError> {
    if args.reason.is_empty() || args.reason.len() > REASON_MAX_BYTES {
        return Err(CliError::BadInput(format!(
            "--reason: 1 to {REASON_MAX_BYTES} bytes, for whoever looks it up later"
        )));
    }
    let platform = args.operator.platform()?;
    for (kid, newest) in find_keys(args)? {
        let revocation = Revocation {
            key: kid,
            gateway: args.gateway.clone(),
            from_sequence: args.from_sequence.unwrap_or(newest.saturating_add(1)),
            from: args.from.unwrap_or(platform.now),
            reason: args.reason.clone(),
            issued_at: platform.now,
        };
        let signed = Signed::sign(&platform.key, &platform.community, &revocation);
        let answer = args
            .operator
            .post("/api/v1/keys/revocations", signed.as_bytes())?;
        let already = answer["already_accepted"].as_u64().unwrap_or(0);
        print_data(&revoked(&revocation, already))?;
    }
    Ok(())
}

fn revoked(word: &Revocation, already_accepted: u64) -> String {
    let Revocation {
        key, gateway, from, ..
    } = word;
    let mut said = format!(
        "key {key} of {gateway} is revoked: readings from sequence {} on, and of intervals that end after \
         {from}, are refused as key_revoked\n",
        word.from_sequence
    );
    if already_accepted > 0 {
        said += &format!(
            "{already_accepted} readings beyond that are in the books already and stay there\n"
        );
    }
    said
}

/// The keys that are meant, newest first, and the highest sequence that was accepted under each.
fn find_keys(args: &RevokeArgs) -> Result<Vec<(KeyId, u64)>, CliError> {
    let gateways = args.operator.get_list("/api/v1/keys")?;
    let own = gateways
        .iter()
        .filter(|gateway| text(gateway, "gateway") == args.gateway.as_str())
        .flat_map(|gateway| gateway["keys"].as_array().into_iter().flatten());
    let named = args.key.map(|key| key.to_string());
    let is_meant = |key: &&Value| match &named {
        Some(named) => text(key, "key") == *named,
        None => text(key, "state") != "revoked",
    };
    let found = own.filter(is_meant).map(|key| {
        let kid = text(key, "key").parse();
        let kid = kid.map_err(|_| anyhow!("the platform names a key that is none"))?;
        Ok((kid, key["newest_sequence"].as_u64().unwrap_or(0)))
    });
    let mut found = found.collect::<Result<Vec<_>, CliError>>()?;
    found.reverse();
    if found.is_empty() {
        let gateway = &args.gateway;
        return Err(CliError::CheckFailed(format!(
            "gateway {gateway} has no such key, or none that is not revoked: see `commonwatt keys list`"
        )));
    }
    Ok(found)
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
