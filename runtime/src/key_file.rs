//! Signing keys in files: made once, readable by their owner only, never overwritten.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use domain::ids::from_hex;
use domain::signed::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};

/// Longest key file that is read, in bytes.
const KEY_FILE_MAX_BYTES: u64 = 4096;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("{} can be read by others (mode {mode:o}); run `chmod 600` on it", path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds no key.
    #[error("{} holds neither a PKCS#8 PEM of an Ed25519 key nor 64 hex digits; \
             restore it from a backup, or remove it to make a new key and enrol again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the key in `path`, and never makes one.
///
/// # Errors
/// The file cannot be read, others can read it, or it holds no key.
pub fn read(path: &Path) -> Result<SigningKey, KeyError> {
    read_key(path)
}

/// Opens the key in `path`; makes file and folder on first use. A key is never overwritten.
///
/// # Errors
/// The file cannot be read or written, others can read it, or it holds no key.
pub fn open(path: &Path) -> Result<SigningKey, KeyError> {
    match read_key(path) {
        Err(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            create_key(path)?;
            read_key(path)
        }
        other => other,
    }
}

fn read_key(path: &Path) -> Result<SigningKey, KeyError> {
    let failed = |source| KeyError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Readable {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = String::new();
    file.take(KEY_FILE_MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let text = text.trim();
    let key = match from_hex::<32>(text) {
        Ok(seed) => Some(SigningKey::from_bytes(&seed)),
        Err(_) => SigningKey::from_pkcs8_pem(text).ok(),
    };
    key.ok_or_else(|| KeyError::Malformed {
        path: path.to_owned(),
    })
}

/// Writes a new key beside its place, makes it durable, and links it there: the file is whole or
/// absent, and of two programs that do this at once one wins.
fn create_key(path: &Path) -> Result<(), KeyError> {
    let dir = path
        .parent()
        .filter(|d| !d.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| KeyError::Io {
            action,
            path,
            source,
        }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed("create", dir))?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| failed("draw a key for", path)(e.into()))?;
    let pem = SigningKey::from_bytes(&seed)
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|e| failed("encode a key for", path)(std::io::Error::other(e.to_string())))?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| failed("name a file for", path)(e.into()))?;
    let fresh = dir.join(format!("new-key.{}", domain::ids::to_hex(&random)));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| {
            file.write_all(pem.as_bytes())
                .and_then(|()| file.sync_all())
        });
    written.map_err(failed("write", &fresh))?;
    let linked = std::fs::hard_link(&fresh, path);
    std::fs::remove_file(&fresh).map_err(failed("remove", &fresh))?;
    match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other.map_err(failed("create", path))?,
    }
    let synced = File::open(dir).and_then(|folder| folder.sync_all());
    synced.map_err(failed("make durable", dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_kept_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("data");
        let path = dir.join("gateway.key");
        let key = open(&path).unwrap();
        assert_eq!(open(&path).unwrap(), key);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(&dir).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            open(&path),
            Err(KeyError::Readable { mode: 0o640, .. })
        ));
    }

    #[test]
    fn hex_keys_are_read_and_nonsense_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.key");
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        write(&format!("{}\n", "0b".repeat(32)));
        assert_eq!(open(&path).unwrap().to_bytes(), [11; 32]);
        write("not a key");
        assert!(matches!(open(&path), Err(KeyError::Malformed { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a key");
    }
}
