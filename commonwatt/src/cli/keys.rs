//! `commonwatt keys`: which keys the gateways and participants of a community sign with, codes that let new ones in, and
//! the end of old ones.

use anyhow::anyhow;
use domain::claim::{Claim, ClaimCode};
use domain::ids::{GatewayId, KeyId, ParticipantId};
use domain::key_holder::KeyHolder;
use domain::revocation::{REASON_MAX_BYTES, Revocation};
use domain::signed::{PublicKey, Signed};
use domain::time::Timestamp;
use serde_json::{Value, json};

use super::operator::Operator;
use super::{CliError, Format, print_data};

/// See and change which keys a community's gateways and participants may sign with.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show every gateway's and participant's keys, their state, and since when.
    List(ListArgs),
    /// Make a one-time code with which a gateway or a participant enrols a key.
    Claim(ClaimArgs),
    /// Declare that a gateway's or a participant's keys count no longer.
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
#[command(
    after_help = "Examples:\n  commonwatt keys claim --gateway gw-7\n  commonwatt keys claim --participant home-03\n\n\
    The code is shown once and kept nowhere: the platform gets the public half of a key that is made from \
    it. A new code of a gateway or participant ends the ones before."
)]
struct ClaimArgs {
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    whose: Whose,
    /// How long the code can be used.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=720))]
    hours: u32,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  commonwatt keys revoke --gateway gw-7 --reason \"the box was stolen\"\n  \
    commonwatt keys revoke --participant home-03 --reason \"the phone was stolen\"\n\n\
    Without --key all keys of the gateway or participant are revoked that are not yet, replaced ones too. \
    Nothing that a participant signs with a revoked key is taken any more; its orders that are in a book stay there \
    until they are taken back with its next key. Of a gateway: \
    Without --from-sequence and --from, what is in the books stays and nothing more is taken: readings from \
    one sequence after the newest on, or of intervals that end later than now, are refused as key_revoked. \
    The gateway or participant enrols a new key with a new claim code."
)]
struct RevokeArgs {
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    whose: Whose,
    /// The key, as `keys list` shows it; all where none is named.
    #[arg(long)]
    key: Option<KeyId>,
    /// First sequence that is refused, for each of the gateway's points.
    #[arg(long, requires = "key", conflicts_with = "participant")]
    from_sequence: Option<u64>,
    /// Readings of intervals that end later are refused too (RFC 3339 in UTC).
    #[arg(long, conflicts_with = "participant")]
    from: Option<Timestamp>,
    /// Why, for whoever looks it up later.
    #[arg(long)]
    reason: String,
}

/// Whose keys.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// The gateway, as site.toml calls it.
    #[arg(long)]
    gateway: Option<GatewayId>,
    /// The participant, as site.toml calls it.
    #[arg(long)]
    participant: Option<ParticipantId>,
}

impl Whose {
    fn holder(&self) -> Result<KeyHolder, CliError> {
        match (&self.gateway, &self.participant) {
            (Some(gateway), None) => Ok(gateway.clone().into()),
            (None, Some(participant)) => Ok(participant.clone().into()),
            _ => Err(CliError::BadInput(
                "either --gateway or --participant".to_owned(),
            )),
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Claim(args) => claim(args),
        Command::Revoke(args) => revoke(args),
    }
}

/// The lists of keys, with the word under which each names the holder.
const LISTS: [(&str, &str); 2] = [
    ("gateway", "/api/v1/keys"),
    ("participant", "/api/v1/keys/participants"),
];

fn list(args: &ListArgs) -> Result<(), CliError> {
    let [gateways, participants] = LISTS.map(|(_, path)| args.operator.get_list(path));
    let (gateways, participants) = (gateways?, participants?);
    if args.format == Format::Json {
        let keys = json!({ "gateways": gateways, "participants": participants });
        return print_data(&format!("{keys:#}\n"));
    }
    let mut rows = vec![["holder", "name", "key", "state", "since"].map(str::to_owned)];
    for ((word, _), holders) in LISTS.iter().zip([&gateways, &participants]) {
        for holder in holders {
            rows.extend(rows_of(word, holder));
        }
    }
    let line = |row: &[String; 5]| match args.format {
        Format::Csv => row.join(",") + "\n",
        _ => {
            let [word, name, key, state, since] = row;
            format!("{word:<11} {name:<20} {key:<16} {state:<9} {since}\n")
        }
    };
    print_data(&rows.iter().map(line).collect::<String>())
}

/// The keys of a holder, and the claim code that waits for it.
fn rows_of(word: &str, holder: &Value) -> Vec<[String; 5]> {
    let row = |key: String, state: &str, since: String| {
        [
            word.to_owned(),
            text(holder, word),
            key,
            state.to_owned(),
            since,
        ]
    };
    let own = holder["keys"].as_array().into_iter().flatten();
    let mut rows: Vec<_> = own
        .map(|key| {
            let state = text(key, "state");
            let since = match state.as_str() {
                "revoked" => text(&key["revoked"], "from"),
                "replaced" => text(key, "replaced"),
                _ => text(key, "enrolled"),
            };
            row(text(key, "key"), &state, since)
        })
        .collect();
    if let Some(expires) = holder["claim"]["expires"].as_str() {
        rows.push(row("-".into(), "claimable", expires.into()));
    } else if rows.is_empty() {
        rows.push(row("-".into(), "no key", "-".into()));
    }
    rows
}

fn claim(args: &ClaimArgs) -> Result<(), CliError> {
    let (platform, holder) = (args.operator.platform()?, args.whose.holder()?);
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| anyhow!("no random numbers: {e}"))?;
    let (code, issued_at) = (ClaimCode::from_random(random), platform.now);
    let claim = Claim {
        key: PublicKey::of(&code.key(&platform.community, &holder)),
        holder: holder.clone(),
        issued_at,
        expires_at: issued_at.plus_s(i64::from(args.hours) * 3600),
    };
    let signed = Signed::sign(&platform.key, &platform.community, &claim);
    let answer = args
        .operator
        .post("/api/v1/keys/claims", signed.as_bytes())?;
    let (code, expires) = (code.reveal(), text(&answer, "expires"));
    let (word, name) = (holder.word(), holder.name());
    let use_it = match &holder {
        KeyHolder::Gateway(_) => {
            "Start the gateway with it:\n  commonwatt gateway --config gateway.toml --claim -"
                .to_owned()
        }
        KeyHolder::Participant(_) => format!(
            "Whoever keeps the key lets it in with:\n  commonwatt participant enrol --participant {name} --key {name}.key --claim -"
        ),
    };
    print_data(&match args.format {
        Format::Table => format!(
            "{code}\n\nThe claim code of {holder}, good once and until {expires}. {use_it}\nand type the code in. It is \
             shown only here.\n"
        ),
        Format::Csv => format!("{word},code,expires\n{name},{code},{expires}\n"),
        Format::Json => {
            let all = json!({ (word): name, "code": code, "expires": expires });
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
    let (platform, holder) = (args.operator.platform()?, args.whose.holder()?);
    for (kid, newest) in find_keys(args, &holder)? {
        let from_sequence = match &holder {
            KeyHolder::Gateway(_) => args.from_sequence.unwrap_or(newest.saturating_add(1)),
            KeyHolder::Participant(_) => 0,
        };
        let revocation = Revocation {
            key: kid,
            holder: holder.clone(),
            from_sequence,
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
        key, holder, from, ..
    } = word;
    if let KeyHolder::Participant(_) = holder {
        return format!(
            "key {key} of {holder} is revoked: what it signs is refused as key_revoked; orders that are in a book stay \
             there until they are taken back with the next key\n"
        );
    }
    let mut said = format!(
        "key {key} of {holder} is revoked: readings from sequence {} on, and of intervals that end after \
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
fn find_keys(args: &RevokeArgs, holder: &KeyHolder) -> Result<Vec<(KeyId, u64)>, CliError> {
    let (word, name) = (holder.word(), holder.name());
    let path = LISTS.iter().find(|(listed, _)| *listed == word);
    let holders = args.operator.get_list(path.map_or("", |(_, path)| path))?;
    let own = holders
        .iter()
        .filter(|one| text(one, word) == name)
        .flat_map(|one| one["keys"].as_array().into_iter().flatten());
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
        return Err(CliError::CheckFailed(format!(
            "{word} {name} has no such key, or none that is not revoked: see `commonwatt keys list`"
        )));
    }
    Ok(found)
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
