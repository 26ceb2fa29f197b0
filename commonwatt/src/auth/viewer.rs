//! Who asks: the extractor that every handler with something private begins with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::ids::ParticipantId;
use maud::{Markup, html};

use super::role::Role;
use super::store::{Account, By};
use super::{Accounts, secret, session, store};
use crate::web::{Web, broken, problem};

/// The name of the field, and of the header, that a write of a session carries.
pub(super) const CSRF_FIELD: &str = "csrf";
pub(super) const CSRF_HEADER: &str = "x-csrf-token";

/// Somebody who looks at a page or asks the API.
#[derive(Clone)]
pub(crate) struct Viewer {
    account: Option<Account>,
    how: How,
    /// Where the request came from, as far as we know.
    pub(crate) address: String,
}

/// How somebody showed who they are.
#[derive(Clone, PartialEq, Eq)]
enum How {
    Not,
    /// With the session of this secret.
    Session(String),
    /// With the API token of this id.
    Token {
        read_only: bool,
    },
}

impl Viewer {
    /// The account, if somebody is signed in.
    pub(crate) fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// Whether this is somebody of that kind.
    pub(crate) fn is(&self, role: Role) -> bool {
        self.account.as_ref().is_some_and(|a| a.roles.has(role))
    }

    /// The household whose data this viewer may see: the own one, and no other.
    pub(crate) fn home(&self) -> Option<&ParticipantId> {
        let account = self.account.as_ref().filter(|a| a.roles.has(Role::Home))?;
        account.participant.as_ref()
    }

    /// Whether the viewer may see this household's data.
    pub(crate) fn may_see(&self, participant: &ParticipantId) -> bool {
        self.home() == Some(participant)
    }

    /// Whether this viewer may change anything.
    pub(crate) fn may_write(&self) -> bool {
        self.account.is_some() && self.how != (How::Token { read_only: true })
    }

    /// Whether a browser's session shows who this is, which other sites can make a browser send.
    pub(super) fn has_session(&self) -> bool {
        matches!(self.how, How::Session(_))
    }

    /// What a form of this session has to carry.
    pub(crate) fn csrf(&self) -> Option<String> {
        match &self.how {
            How::Session(session) => Some(secret::csrf_of(session)),
            How::Not | How::Token { .. } => None,
        }
    }

    /// The hidden field that every form of ours carries; nothing where nobody is signed in.
    pub(crate) fn csrf_field(&self) -> Markup {
        html! {
            @if let Some(csrf) = self.csrf() { input type="hidden" name=(CSRF_FIELD) value=(csrf); }
        }
    }

    /// Whether a form or a header carries what this session's must.
    pub(super) fn is_csrf(&self, said: Option<&str>) -> bool {
        let (expected, said) = (self.csrf(), said.unwrap_or_default());
        expected.is_some_and(|expected| secret::same(&expected, said))
    }

    /// For the list of who did what.
    pub(crate) fn by(&self) -> By<'_> {
        By {
            account: self.account.as_ref().map_or("(nobody)", |a| &a.name),
            address: &self.address,
        }
    }

    /// The session's secret, to end it.
    pub(super) fn session(&self) -> Option<&str> {
        match &self.how {
            How::Session(session) => Some(session),
            How::Not | How::Token { .. } => None,
        }
    }
}

impl FromRequestParts<Web> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Response> {
        let accounts = &web.accounts;
        let address = client(&parts.extensions, &parts.headers, accounts).to_string();
        let failed = |error| broken("an account could not be read", &format!("{error:#}"));
        let now = accounts.now();
        if let Some(token) = parts.headers.get(header::AUTHORIZATION) {
            let found = match bearer(token) {
                Some(token) => store::of_token(&accounts.db, now, token).await,
                None => Ok(None),
            };
            let (account, _, read_only) = found.map_err(failed)?.ok_or_else(not_a_token)?;
            return Ok(Viewer {
                account: Some(account),
                how: How::Token { read_only },
                address,
            });
        }
        let nobody = Viewer {
            account: None,
            how: How::Not,
            address,
        };
        let Some(session) = session_of(&parts.headers, accounts) else {
            return Ok(nobody);
        };
        let found = store::of_session(&accounts.db, now, &session).await;
        let Some((account, is_stale)) = found.map_err(failed)? else {
            return Ok(nobody);
        };
        if is_stale {
            let (db, session) = (accounts.db.clone(), session.clone());
            // The answer does not wait for it; a failure is made good by the next request.
            tokio::spawn(async move { store::seen(&db, now, &session).await });
        }
        Ok(Viewer {
            account: Some(account),
            how: How::Session(session),
            ..nobody
        })
    }
}

/// The secret of the session whose cookie a request brings.
pub(super) fn session_of(headers: &HeaderMap, accounts: &Accounts) -> Option<String> {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    cookies.find_map(|line| {
        session::from_cookies(line.to_str().ok()?, accounts.is_secure()).map(str::to_owned)
    })
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

fn not_a_token() -> Response {
    let mut response = problem(
        StatusCode::UNAUTHORIZED,
        "This is no API token, or it is expired or revoked. `commonwatt accounts token` makes one.",
    )
    .into_response();
    let how = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
    response
}

/// Where a request came from. What a proxy says is believed only where the site has a public address, and
/// only from a proxy on this computer.
pub(super) fn client(extensions: &Extensions, headers: &HeaderMap, accounts: &Accounts) -> IpAddr {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    if accounts.public_url.is_none() || !peer.is_loopback() {
        return peer;
    }
    let said = headers.get_all("x-forwarded-for").iter().next_back();
    let last = said.and_then(|line| line.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    last.unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::signed::SigningKey;

    #[tokio::test]
    async fn a_proxy_is_believed_where_there_is_one_and_only_its_own_word() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        let db = runtime::db::Db::open(file.to_str().unwrap()).await.unwrap();
        let key = SigningKey::from_bytes(&[7; 32]);
        let plain = Accounts::new(db.clone(), &key, None);
        let public = Accounts::new(db, &key, Some("https://street.example".to_owned()));
        let from = |accounts: &Accounts, peer: &str, said: &'static str| {
            let mut extensions = Extensions::new();
            extensions.insert(ConnectInfo(
                format!("{peer}:1").parse::<SocketAddr>().unwrap(),
            ));
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", HeaderValue::from_static(said));
            client(&extensions, &headers, accounts).to_string()
        };
        let said = "203.0.113.9, 198.51.100.7";
        assert_eq!(from(&public, "127.0.0.1", said), "198.51.100.7");
        assert_eq!(
            from(&public, "192.0.2.1", said),
            "192.0.2.1",
            "no proxy of ours"
        );
        assert_eq!(
            from(&plain, "127.0.0.1", said),
            "127.0.0.1",
            "no proxy at all"
        );
        assert_eq!(from(&public, "127.0.0.1", "nonsense"), "127.0.0.1");
    }

    #[test]
    fn a_token_stands_behind_its_scheme() {
        let said = |text: &'static str| bearer(&HeaderValue::from_static(text)).map(str::to_owned);
        assert_eq!(said("Bearer cw_a"), Some("cw_a".to_owned()));
        assert_eq!(said("bearer  cw_a"), Some("cw_a".to_owned()));
        assert_eq!((said("Basic cw_a"), said("cw_a")), (None, None));
    }
}
