//! Help for tests: a temporary PostgreSQL cluster, where PostgreSQL is installed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long the server may take to accept its first connection.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A PostgreSQL server of this test alone; it stops and its files go when this is dropped.
#[derive(Debug)]
pub struct TempPostgres {
    server: Child,
    folder: TempDir,
}

impl TempPostgres {
    /// The URL of its empty database, for [`Db::open`](crate::db::Db::open).
    #[must_use]
    pub fn url(&self) -> String {
        let socket = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{socket}/postgres")
    }
}

impl Drop for TempPostgres {
    fn drop(&mut self) {
        // SIGINT is PostgreSQL's fast shutdown: it ends its children and frees its shared memory.
        let pid = self.server.id().to_string();
        let asked = Command::new("kill").args(["-INT", &pid]).status();
        let deadline = Instant::now() + STOP_LIMIT;
        while asked.is_ok() && Instant::now() < deadline {
            if matches!(self.server.try_wait(), Ok(Some(_))) {
                return;
            }
            sleep(LOOK_AGAIN);
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Starts a temporary PostgreSQL, or prints why it cannot and returns `None`.
///
/// # Panics
/// PostgreSQL is installed but does not start: that is a failed test, not a skipped one.
#[must_use]
#[allow(
    clippy::panic,
    reason = "a test helper: an installed server that does not start is a failure"
)]
pub fn postgres() -> Option<TempPostgres> {
    let account = match Account::find() {
        Ok(account) => account,
        Err(reason) => return skip(&reason),
    };
    let Some(bin) = programs() else {
        return skip("initdb and postgres are neither on the PATH nor in /usr/lib/postgresql");
    };
    match start(&bin, &account) {
        Ok(server) => Some(server),
        Err(reason) => panic!("the temporary PostgreSQL did not start: {reason}"),
    }
}

fn skip(reason: &str) -> Option<TempPostgres> {
    eprintln!("skipped: no PostgreSQL for this test: {reason}");
    None
}

/// The folder with `initdb` and `postgres`: on the PATH, or the newest that Debian installs.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut installed: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|v| v.path().join("bin")).collect())
        .unwrap_or_default();
    installed.sort();
    std::env::split_paths(&path)
        .chain(installed.into_iter().rev())
        .find(|bin| bin.join("initdb").is_file() && bin.join("postgres").is_file())
}

/// Who runs the server: PostgreSQL refuses to run as root.
enum Account {
    Own,
    Postgres { uid: u32, gid: u32 },
}

impl Account {
    fn find() -> Result<Account, String> {
        let id = Command::new("id")
            .arg("-u")
            .output()
            .map_err(|e| format!("`id -u`: {e}"))?;
        if id.stdout.trim_ascii() != b"0" {
            return Ok(Account::Own);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
        let fields = users
            .lines()
            .find_map(|line| line.strip_prefix("postgres:"));
        let mut ids = fields.into_iter().flat_map(|f| f.split(':')).skip(1);
        let mut id = || ids.next().and_then(|text| text.parse().ok());
        match (id(), id()) {
            (Some(uid), Some(gid)) => Ok(Account::Postgres { uid, gid }),
            _ => Err("running as root, and there is no user `postgres` to run it as".to_owned()),
        }
    }

    fn command(&self, program: &Path) -> Command {
        match self {
            Account::Own => Command::new(program),
            Account::Postgres { .. } => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
                command.arg(program);
                command
            }
        }
    }
}

fn start(bin: &Path, account: &Account) -> Result<TempPostgres, String> {
    let folder = tempfile::Builder::new()
        .prefix("pg-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .map_err(|e| format!("no temporary folder: {e}"))?;
    if let Account::Postgres { uid, gid } = account {
        chown(folder.path(), Some(*uid), Some(*gid)).map_err(|e| format!("chown: {e}"))?;
    }
    let data = folder.path().join("data");
    let made = account
        .command(&bin.join("initdb"))
        .current_dir(folder.path())
        .args([
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
        ])
        .args(["--no-sync", "-D"])
        .arg(&data)
        .output()
        .map_err(|e| format!("initdb: {e}"))?;
    if !made.status.success() {
        return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)));
    }
    let log = fs::File::create(folder.path().join("log")).map_err(|e| format!("log: {e}"))?;
    let server = account
        .command(&bin.join("postgres"))
        .current_dir(folder.path())
        .arg("-D")
        .arg(&data)
        .arg("-k")
        .arg(folder.path())
        .args([
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
            "-c",
            "shared_buffers=16MB",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|e| format!("postgres: {e}"))?;
    wait_until_ready(TempPostgres { server, folder }, &data)
}

fn wait_until_ready(mut started: TempPostgres, data: &Path) -> Result<TempPostgres, String> {
    let log = |folder: &TempDir| fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        // The last line of this file says `ready` once connections are accepted.
        let status = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        if status.trim_end().ends_with("ready") {
            return Ok(started);
        }
        if let Ok(Some(status)) = started.server.try_wait() {
            return Err(format!("it ended with {status}: {}", log(&started.folder)));
        }
        sleep(LOOK_AGAIN);
    }
    Err(format!(
        "not ready within {START_LIMIT:?}: {}",
        log(&started.folder)
    ))
}
