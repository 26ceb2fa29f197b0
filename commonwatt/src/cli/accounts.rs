//! `commonwatt accounts`: who may sign in, with links and API tokens for them.
//!
//! It works on the platform's database itself, whether the platform runs or not, and what it changes counts at
//! once. Whoever can open that database holds the books and the operator's key already, so a signed message
//! over the network would protect nothing more, and would be one more way in.

use std::path::PathBuf;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::ids::ParticipantId;
use domain::time::Timestamp;
use runtime::clock::Clock;
use runtime::db::Db;
use serde_json::{Value, json};

use super::{CliError, Format, block_on_two, print_data};
use crate::auth::store::{self, Account, BY_OPERATOR, NewToken, settings};
use crate::auth::{MIGRATIONS, Roles};

const DAY_S: i64 = 86_400;

/// See and change who may sign in, and make links and API tokens.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make an account.
    Add(AddArgs),
    /// Make a link that signs an account in once.
    Link(LinkArgs),
    /// Show all accounts.
    List(ListArgs),
    /// End an account with its sessions, links and tokens.
    Revoke(RevokeArgs),
    /// Make an API token, show an account's tokens, or end one.
    Token(TokenArgs),
    /// Say where an account's links to sign in are mailed.
    Email(EmailArgs),
    /// Show an account's passkeys, or remove one that was lost.
    Passkey(PasskeyArgs),
    /// Show who did what, newest first.
    Audit(AuditArgs),
}

/// Where the accounts are.
#[derive(clap::Args)]
struct Place {
    /// The platform's data folder.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// The platform's PostgreSQL (postgres://user:password@host/database), where the books are kept there.
    #[arg(long)]
    database: Option<String>,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt accounts add ann --role home --participant home-01\n  \
    commonwatt accounts add control-room --role operator"
)]
struct AddArgs {
    #[command(flatten)]
    place: Place,
    /// The account's name; never given to another.
    name: String,
    /// home, driver, operator, researcher or admin; several with commas between them.
    #[arg(long)]
    role: String,
    /// The household, with the role home.
    #[arg(long)]
    participant: Option<ParticipantId>,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt accounts link ann --url https://street.example\n\n\
    The link is shown once; print it or mail it. Opening it shows a button, and the button uses it up."
)]
struct LinkArgs {
    #[command(flatten)]
    place: Place,
    /// The account.
    name: String,
    /// How people reach the platform.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// How long the link can be used.
    #[arg(long, default_value_t = 72, value_parser = clap::value_parser!(u32).range(1..=2160))]
    hours: u32,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  commonwatt accounts list --format csv")]
struct ListArgs {
    #[command(flatten)]
    place: Place,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  commonwatt accounts revoke ann")]
struct RevokeArgs {
    #[command(flatten)]
    place: Place,
    /// The account.
    name: String,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt accounts token ann --new \"home automation\" --read-only\n  \
    commonwatt accounts token ann --revoke 5f0c1b22aa90e317\n  commonwatt accounts token ann\n\n\
    A token is shown once and kept as a hash. Use it as `Authorization: Bearer cw_…`."
)]
struct TokenArgs {
    #[command(flatten)]
    place: Place,
    /// The account.
    name: String,
    /// Make a token of this name.
    #[arg(long, conflicts_with = "revoke")]
    new: Option<String>,
    /// End the token of this id.
    #[arg(long)]
    revoke: Option<String>,
    /// Which of the account's roles the token stands for; all of them where none is named.
    #[arg(long, requires = "new", default_value = "")]
    scope: String,
    /// The token may change nothing.
    #[arg(long, requires = "new")]
    read_only: bool,
    /// How long the token is good.
    #[arg(long, requires = "new", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt accounts email ann ann@example.org\n  commonwatt accounts email ann --none\n  commonwatt accounts email ann\n\n\
    With [mail] in the site's file, whoever says this address on /sign-in is mailed a link."
)]
struct EmailArgs {
    #[command(flatten)]
    place: Place,
    /// The account.
    name: String,
    /// Its address; without one, the one that it has is shown.
    address: Option<String>,
    /// It has no address any more.
    #[arg(long, conflicts_with = "address")]
    none: bool,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt accounts passkey ann\n  commonwatt accounts passkey ann --remove 7u0qDk3nQWyqPg\n\n\
    Passkeys are added by their owners, on the page of their account."
)]
struct PasskeyArgs {
    #[command(flatten)]
    place: Place,
    /// The account.
    name: String,
    /// Remove the passkey of this id.
    #[arg(long, value_name = "ID")]
    remove: Option<String>,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  commonwatt accounts audit --limit 20")]
struct AuditArgs {
    #[command(flatten)]
    place: Place,
    /// How many lines.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only those before the line of this id.
    #[arg(long, default_value_t = i64::MAX)]
    before: i64,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    let now = Clock::system().now();
    let said = match args.command {
        Command::Add(args) => add(&args, now),
        Command::Link(args) => link(&args, now),
        Command::List(args) => list(&args),
        Command::Revoke(args) => revoke(&args, now),
        Command::Token(args) => token(&args, now),
        Command::Email(args) => email(&args, now),
        Command::Passkey(args) => passkey(&args, now),
        Command::Audit(args) => audit(&args),
    };
    print_data(&said?)
}

/// Opens the platform's database, and does something with it.
fn with_db<T>(
    place: &Place,
    work: impl AsyncFnOnce(&Db) -> anyhow::Result<T>,
) -> Result<T, CliError> {
    let file = place.data_dir.join("commonwatt.db");
    let url = match &place.database {
        Some(url) => url.clone(),
        // A new file would be a database that no platform uses.
        None if !file.exists() => {
            return Err(CliError::BadInput(format!(
                "there is no {}: --data-dir names the data folder of a platform that was started once, \
                 --database its PostgreSQL",
                file.display()
            )));
        }
        None => file.display().to_string(),
    };
    block_on_two(async {
        let db = Db::open(&url).await?;
        db.migrate(MIGRATIONS).await?;
        let done = work(&db).await;
        db.close().await;
        done
    })
}

fn no_account(name: &str) -> CliError {
    CliError::BadInput(format!(
        "there is no account {name}, or it is revoked: see `commonwatt accounts list`"
    ))
}

fn roles(words: &str) -> Result<Roles, CliError> {
    Roles::from_words(words).map_err(|word| {
        CliError::BadInput(format!(
            "`{word}` is no role: expected home, driver, operator, researcher or admin"
        ))
    })
}

fn add(args: &AddArgs, now: Timestamp) -> Result<String, CliError> {
    let account = Account {
        name: args.name.clone(),
        roles: roles(&args.role)?,
        participant: args.participant.clone(),
        language: None,
    };
    store::check(&account).map_err(|error| CliError::BadInput(super::chain(&error)))?;
    let added = with_db(&args.place, async |db| store::add(db, now, &account).await)?;
    let name = &args.name;
    Ok(match added {
        true => {
            format!("{name} is added; `commonwatt accounts link {name}` makes a link to sign in\n")
        }
        false => format!("{name} is there already\n"),
    })
}

fn link(args: &LinkArgs, now: Timestamp) -> Result<String, CliError> {
    let expires = now.plus_s(i64::from(args.hours) * 3600);
    let made = with_db(&args.place, async |db| {
        store::link(db, (now, expires), &args.name).await
    })?;
    let secret = made.ok_or_else(|| no_account(&args.name))?;
    let url = args.url.trim_end_matches('/');
    Ok(format!(
        "{url}/sign-in/{secret}\n\nGood once and until {expires}, for {}. It is shown only here.\n",
        args.name
    ))
}

fn revoke(args: &RevokeArgs, now: Timestamp) -> Result<String, CliError> {
    let name = &args.name;
    match with_db(&args.place, async |db| store::revoke(db, now, name).await)? {
        true => Ok(format!(
            "{name} is revoked, with its sessions, links and tokens\n"
        )),
        false => Err(no_account(name)),
    }
}

fn list(args: &ListArgs) -> Result<String, CliError> {
    let all = with_db(&args.place, async |db| {
        let mut all = Vec::new();
        loop {
            let after = all
                .last()
                .map_or("", |last: &store::Listed| &last.account.name);
            let page = store::list(db, after, store::LIST_MAX).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    })?;
    let row = |listed: store::Listed| {
        let store::Listed {
            account,
            created,
            revoked,
        } = listed;
        json!({
            "name": account.name,
            "roles": account.roles.to_string(),
            "participant": account.participant.map(|p| p.to_string()),
            "created": created.to_string(),
            "revoked": revoked.map(|at| at.to_string()),
        })
    };
    let columns = ["name", "roles", "participant", "created", "revoked"];
    printed(args.format, &columns, all.into_iter().map(row).collect())
}

fn token(args: &TokenArgs, now: Timestamp) -> Result<String, CliError> {
    let (name, place) = (&args.name, &args.place);
    if let Some(id) = &args.revoke {
        return match with_db(place, async |db| {
            store::revoke_token(db, now, name, id).await
        })? {
            true => Ok(format!("token {id} is revoked\n")),
            false => Err(CliError::BadInput(format!(
                "{name} has no token {id} that is not revoked: see `commonwatt accounts token {name}`"
            ))),
        };
    }
    if let Some(new) = &args.new {
        let expires = now.plus_s(i64::from(args.days) * DAY_S);
        let wish = NewToken {
            account: name,
            name: new,
            scopes: roles(&args.scope)?,
            read_only: args.read_only,
            expires,
        };
        let made = with_db(place, async |db| store::add_token(db, now, &wish).await)?;
        let (id, secret) = made.ok_or_else(|| no_account(name))?;
        let told = json!({ "id": id, "token": secret, "expires": expires.to_string() });
        return match args.format {
            Format::Table => Ok(format!(
                "{secret}\n\nToken {id} of {name}, good until {expires}. It is shown only here:\n  \
                 curl -H \"Authorization: Bearer {secret}\" http://127.0.0.1:8080/api/v1/me\n"
            )),
            _ => printed(args.format, &["id", "token", "expires"], vec![told]),
        };
    }
    let all = with_db(place, async |db| store::tokens(db, name).await)?;
    let row = |token: store::Token| {
        json!({
            "id": token.id,
            "account": token.account,
            "name": token.name,
            "scopes": token.scopes.to_string(),
            "read_only": token.read_only,
            "created": token.created.to_string(),
            "expires": token.expires.to_string(),
            "revoked": token.revoked.map(|at| at.to_string()),
        })
    };
    let columns = [
        "id",
        "name",
        "scopes",
        "read_only",
        "created",
        "expires",
        "revoked",
    ];
    printed(args.format, &columns, all.into_iter().map(row).collect())
}

fn email(args: &EmailArgs, now: Timestamp) -> Result<String, CliError> {
    let (name, place) = (args.name.as_str(), &args.place);
    if args.address.is_none() && !args.none {
        let email = with_db(place, async |db| settings::email(db, name).await)?;
        return Ok(email.map_or_else(|| format!("{name} has no address\n"), |email| email + "\n"));
    }
    let email = match &args.address {
        None => None,
        Some(text) => Some(settings::address(text).ok_or_else(|| {
            CliError::BadInput(format!(
                "`{text}` is no address: expected one like ann@example.org"
            ))
        })?),
    };
    let said = match &email {
        Some(email) => format!("links of {name} can be mailed to {email}\n"),
        None => format!("{name} has no address any more\n"),
    };
    let set = with_db(place, async |db| {
        settings::set_email(db, now, name, email).await
    });
    match set? {
        true => Ok(said),
        false => Err(no_account(name)),
    }
}

fn passkey(args: &PasskeyArgs, now: Timestamp) -> Result<String, CliError> {
    let (name, place) = (args.name.as_str(), &args.place);
    if let Some(id) = &args.remove {
        let none = || {
            CliError::BadInput(format!(
                "{name} has no passkey {id}: see `commonwatt accounts passkey {name}`"
            ))
        };
        let bytes = URL_SAFE_NO_PAD.decode(id).map_err(|_| none())?;
        let whose = (name, BY_OPERATOR);
        let removed = with_db(place, async |db| {
            store::passkey::remove(db, now, whose, &bytes).await
        });
        return match removed? {
            true => Ok(format!("passkey {id} of {name} is removed\n")),
            false => Err(none()),
        };
    }
    let all = with_db(place, async |db| store::passkey::list(db, name).await)?;
    let row = |listed: store::passkey::Listed| {
        json!({
            "id": URL_SAFE_NO_PAD.encode(&listed.passkey.id),
            "name": listed.name,
            "created": listed.created.to_string(),
            "used": listed.used.map(|at| at.to_string()),
        })
    };
    let columns = ["id", "name", "created", "used"];
    printed(args.format, &columns, all.into_iter().map(row).collect())
}

fn audit(args: &AuditArgs) -> Result<String, CliError> {
    let deeds = with_db(&args.place, async |db| {
        store::audit(db, args.before, args.limit).await
    })?;
    let row = |deed: store::Deed| {
        json!({
            "id": deed.id,
            "at": deed.at.to_string(),
            "account": deed.account,
            "action": deed.action,
            "detail": deed.detail,
            "address": deed.address,
        })
    };
    let columns = ["id", "at", "account", "action", "detail", "address"];
    printed(args.format, &columns, deeds.into_iter().map(row).collect())
}

/// Rows as they were asked for.
fn printed(format: Format, columns: &[&str], rows: Vec<Value>) -> Result<String, CliError> {
    let text = |row: &Value, column: &&str| match &row[*column] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let cells = |row: &Value| columns.iter().map(|c| text(row, c)).collect::<Vec<_>>();
    match format {
        Format::Json => Ok(format!("{:#}\n", Value::Array(rows))),
        Format::Csv => {
            let mut out = csv::Writer::from_writer(Vec::new());
            let written = out.write_record(columns);
            let written = rows.iter().fold(written, |so_far, row| {
                so_far.and_then(|()| out.write_record(cells(row)))
            });
            written.context("the table could not be written")?;
            let bytes = out.into_inner().context("the table could not be written")?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Format::Table => {
            let table: Vec<Vec<String>> = rows.iter().map(cells).collect();
            let head: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
            let width = |n: usize| {
                let cells = table
                    .iter()
                    .chain([&head])
                    .map(|row| row[n].chars().count());
                cells.max().unwrap_or(0)
            };
            let widths: Vec<usize> = (0..columns.len()).map(width).collect();
            let line = |row: &Vec<String>| {
                let padded = row
                    .iter()
                    .zip(&widths)
                    .map(|(cell, w)| format!("{cell:<w$}"));
                padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
            };
            Ok([&head].into_iter().chain(&table).map(line).collect())
        }
    }
}
