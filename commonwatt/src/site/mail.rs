//! `[mail]` of the site: through which server links to sign in are sent, and in whose name.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use lettre::message::Mailbox;
use meter_gateway::config::is_this_computer;
use serde::{Deserialize, Serialize};

/// The variable that has the password, where no file does.
const PASSWORD: &str = "COMMONWATT_MAIL_PASSWORD";

/// How the connection to the server is kept from others.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MailTls {
    /// TLS is agreed on before anything is said.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// None: to a server on this computer only.
    None,
}

/// `[mail]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MailFile {
    /// The server's name.
    server: String,
    /// 587 with `starttls`, 465 with `tls`, 25 with `none`, where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default)]
    tls: MailTls,
    /// In whose name, `Elm Street <street@example.org>`.
    from: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// A file with the user's password; without it the variable `COMMONWATT_MAIL_PASSWORD` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password_file: Option<PathBuf>,
    /// Authorities in PEM that are believed beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
}

/// Through which server links are sent.
#[derive(Clone)]
pub(crate) struct Mail {
    pub(crate) server: String,
    pub(crate) port: u16,
    pub(crate) tls: MailTls,
    pub(crate) from: Mailbox,
    /// Name and password at the server.
    pub(crate) user: Option<(String, String)>,
    /// Authorities in PEM.
    pub(crate) authorities: Option<Vec<u8>>,
    file: MailFile,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        self.file.fmt(f)
    }
}

impl MailFile {
    /// Reads what it names; files lie beside the site's.
    pub(super) fn check(mut self, folder: &Path) -> anyhow::Result<Mail> {
        for path in [&mut self.password_file, &mut self.ca_file]
            .into_iter()
            .flatten()
        {
            *path = folder.join(&*path);
        }
        let usual = match self.tls {
            MailTls::Starttls => 587,
            MailTls::Tls => 465,
            MailTls::None => 25,
        };
        if self.tls == MailTls::None && !is_this_computer(&self.server) {
            bail!(
                "mail.tls is none and mail.server {} another computer: links and the password would cross the \
                 network in plain text, expected starttls or tls",
                self.server
            );
        }
        let from = self.from.parse();
        let from = from.with_context(|| {
            format!(
                "mail.from `{}`: expected an address like Elm Street <street@example.org>",
                self.from
            )
        })?;
        let authorities = self.ca_file.as_ref().map(|file| {
            std::fs::read(file).with_context(|| format!("mail.ca_file {}", file.display()))
        });
        Ok(Mail {
            server: self.server.clone(),
            port: self.port.unwrap_or(usual),
            tls: self.tls,
            from,
            user: self.user()?,
            authorities: authorities.transpose()?,
            file: self,
        })
    }

    fn user(&self) -> anyhow::Result<Option<(String, String)>> {
        let Some(user) = &self.user else {
            return Ok(None);
        };
        let password = match &self.password_file {
            Some(file) => std::fs::read_to_string(file)
                .with_context(|| format!("mail.password_file {}", file.display()))?,
            None => std::env::var(PASSWORD).with_context(|| {
                format!("mail.user {user}: expected its password in password_file or in {PASSWORD}")
            })?,
        };
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        Ok(Some((user.clone(), password)))
    }

    pub(super) fn of(mail: &Mail) -> MailFile {
        mail.file.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mail, String> {
        let file: MailFile = toml::from_str(text).map_err(|e| e.to_string())?;
        file.check(Path::new("/etc/cw"))
            .map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn a_server_is_read_with_its_usual_port_and_plain_text_stays_on_this_computer() {
        let from = "from = \"Elm Street <street@example.org>\"";
        let mail = read(&format!("server = \"mail.example.org\"\n{from}")).unwrap();
        assert_eq!((mail.port, mail.tls), (587, MailTls::Starttls));
        assert_eq!(mail.from.email.to_string(), "street@example.org");
        let own = read(&format!("server = \"127.0.0.1\"\ntls = \"none\"\n{from}")).unwrap();
        assert_eq!(own.port, 25);
        for (text, said) in [
            (
                format!("server = \"mail.example.org\"\ntls = \"none\"\n{from}"),
                "plain text",
            ),
            ("server = \"a\"\nfrom = \"nobody\"".to_owned(), "mail.from"),
            (
                format!("server = \"a\"\nuser = \"u\"\npassword_file = \"none\"\n{from}"),
                "/etc/cw/none",
            ),
            (
                format!("server = \"a\"\ncolour = \"red\"\n{from}"),
                "colour",
            ),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn the_password_is_shown_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pw"), "s3cret\n").unwrap();
        let text = "server = \"a\"\nuser = \"u\"\npassword_file = \"pw\"\nfrom = \"a@example.org\"";
        let file: MailFile = toml::from_str(text).unwrap();
        let mail = file.check(folder.path()).unwrap();
        assert_eq!(mail.user.as_ref().unwrap().1, "s3cret");
        assert!(!format!("{mail:?}").contains("s3cret"));
    }
}
