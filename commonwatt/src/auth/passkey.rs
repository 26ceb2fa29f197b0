//! The two ceremonies of WebAuthn: adding a passkey, and signing in with one. The protocol is `webauthn_rp`'s.
//!
//! A challenge is kept here, is good once and for five minutes, and is forgotten at a restart. The
//! authenticator must have verified its user, and a signature counter that does not rise is refused.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use webauthn_rp::bin::{Decode, Encode};
use webauthn_rp::request::auth::AuthenticationVerificationOptions;
use webauthn_rp::request::register::{
    CredProtect, PublicKeyCredentialUserEntity, RegistrationVerificationOptions, UserHandle,
    Username,
};
use webauthn_rp::request::{
    AsciiDomain, DomainOrigin, FixedCapHashSet, InsertResult, Port, PublicKeyCredentialDescriptor,
    RpId, Scheme,
};
use webauthn_rp::response::register::{DynamicState, StaticState};
use webauthn_rp::response::{AuthTransports, CredentialId};
use webauthn_rp::{
    AuthenticatedCredential, DiscoverableAuthentication, DiscoverableAuthenticationServerState,
    DiscoverableCredentialRequestOptions, PublicKeyCredentialCreationOptions, Registration,
    RegistrationServerState,
};

use super::store::passkey::Passkey;

/// Bytes of the name by which authenticators know an account.
pub(super) const HANDLE_LEN: usize = 32;
/// Most ceremonies of one kind that are under way.
const CEREMONIES_MAX: usize = 10_000;

/// Why a ceremony goes no further.
#[derive(Debug)]
pub(super) enum Refused {
    /// Too many are under way.
    Busy,
    /// Whatever was sent proves nothing; why is for the log.
    NotProven(String),
}

fn not_proven(why: impl Display) -> Refused {
    Refused::NotProven(why.to_string())
}

/// The ceremonies of one site.
pub(super) struct Passkeys {
    rp: RpId,
    /// Scheme, host and port that the browser has to name.
    scheme: String,
    host: String,
    port: Port,
    adding: Mutex<FixedCapHashSet<RegistrationServerState<HANDLE_LEN>>>,
    entering: Mutex<FixedCapHashSet<DiscoverableAuthenticationServerState>>,
}

impl Passkeys {
    /// Passkeys of the site at this address, of `localhost` without one. `None` where browsers would not take
    /// any: without a name, or without TLS elsewhere than on this computer.
    pub(super) fn at(public_url: Option<&str>) -> Option<Passkeys> {
        let (scheme, authority) = match public_url {
            Some(url) => url.split_once("://")?,
            None => ("http", "localhost"),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, Port::Val(port.parse().ok()?)),
            None if public_url.is_none() => (authority, Port::Any),
            None => (authority, Port::None),
        };
        let is_name = host.parse::<std::net::Ipv4Addr>().is_err() && !host.contains('[');
        if !is_name || (scheme != "https" && host != "localhost") {
            return None;
        }
        Some(Passkeys {
            rp: RpId::Domain(AsciiDomain::try_from(host.to_owned()).ok()?),
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            port,
            adding: Mutex::new(FixedCapHashSet::new(CEREMONIES_MAX)),
            entering: Mutex::new(FixedCapHashSet::new(CEREMONIES_MAX)),
        })
    }

    /// The only host whose pages can use passkeys.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    fn origins(&self) -> [DomainOrigin<'_, '_>; 1] {
        let scheme = match self.scheme.as_str() {
            "https" => Scheme::Https,
            other => Scheme::Other(other),
        };
        [DomainOrigin {
            scheme,
            host: &self.host,
            port: self.port,
        }]
    }

    /// Begins to add a passkey, and gives what the browser needs as JSON.
    pub(super) fn begin_adding(
        &self,
        account: &str,
        handle: [u8; HANDLE_LEN],
        known: &[Passkey],
    ) -> Result<String, Refused> {
        let handle = UserHandle::decode(handle).map_err(not_proven)?;
        let user = PublicKeyCredentialUserEntity {
            name: Username::try_from(account).map_err(not_proven)?,
            id: &handle,
            display_name: None,
        };
        let known = known.iter().map(|passkey| {
            Ok(PublicKeyCredentialDescriptor {
                id: CredentialId::<Vec<u8>>::decode(passkey.id.clone()).map_err(not_proven)?,
                transports: AuthTransports::decode(passkey.transports).map_err(not_proven)?,
            })
        });
        let known = known.collect::<Result<Vec<_>, Refused>>()?;
        let mut options = PublicKeyCredentialCreationOptions::passkey(&self.rp, user, known);
        // Many authenticators know no policy of protection and would refuse; that the person was verified is
        // asked for and checked without it.
        options.extensions.cred_protect = CredProtect::None;
        let (server, client) = options.start_ceremony().map_err(not_proven)?;
        let text = serde_json::to_string(&client).map_err(not_proven)?;
        let mut adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        match adding.insert_or_replace_all_expired(server) {
            InsertResult::Success => Ok(text),
            InsertResult::CapacityFull | InsertResult::Duplicate => Err(Refused::Busy),
        }
    }

    /// Checks what the browser sent back; it must be for the account of this handle.
    pub(super) fn finish_adding(
        &self,
        handle: [u8; HANDLE_LEN],
        said: &str,
    ) -> Result<Passkey, Refused> {
        let said = Registration::from_json_relaxed(said.as_bytes()).map_err(not_proven)?;
        let challenge = said.challenge_relaxed().map_err(not_proven)?;
        let begun = {
            let mut adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
            adding.take(&challenge)
        };
        let begun = begun.ok_or_else(|| not_proven("no ceremony has this challenge"))?;
        let origins = self.origins();
        let options = RegistrationVerificationOptions::<_, DomainOrigin<'_, '_>> {
            allowed_origins: &origins,
            // Password managers answer what nobody asked; what is not read does no harm.
            error_on_unsolicited_extensions: false,
            ..RegistrationVerificationOptions::default()
        };
        let new = begun
            .verify(&self.rp, &said, &options)
            .map_err(not_proven)?;
        if new.user_id().encode().map_err(not_proven)? != handle {
            return Err(not_proven("the ceremony was begun by another account"));
        }
        Ok(Passkey {
            id: new.id().as_ref().to_vec(),
            user_handle: handle.to_vec(),
            transports: new.transports().encode().map_err(not_proven)?,
            fixed: new.static_state().encode().map_err(not_proven)?,
            changing: changing(new.dynamic_state())?,
        })
    }

    /// Begins to sign somebody in, and gives what the browser needs as JSON.
    pub(super) fn begin_entering(&self) -> Result<String, Refused> {
        let options = DiscoverableCredentialRequestOptions::passkey(&self.rp);
        let (server, client) = options.start_ceremony().map_err(not_proven)?;
        let text = serde_json::to_string(&client).map_err(not_proven)?;
        let mut entering = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
        match entering.insert_or_replace_all_expired(server) {
            InsertResult::Success => Ok(text),
            InsertResult::CapacityFull | InsertResult::Duplicate => Err(Refused::Busy),
        }
    }

    /// Uses up the challenge that a browser's answer is for.
    pub(super) fn take(&self, said: &str) -> Result<Entering, Refused> {
        let said = DiscoverableAuthentication::<HANDLE_LEN>::from_json_relaxed(said.as_bytes());
        let said = said.map_err(not_proven)?;
        let challenge = said.challenge_relaxed().map_err(not_proven)?;
        let mut entering = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = entering.take(&challenge);
        let begun = begun.ok_or_else(|| not_proven("no ceremony has this challenge"))?;
        Ok(Entering { begun, said })
    }

    /// Checks an answer against the passkey that it names, and gives what has changed of that.
    pub(super) fn finish_entering(
        &self,
        entering: Entering,
        known: &Passkey,
    ) -> Result<Vec<u8>, Refused> {
        let Entering { begun, said } = entering;
        let handle: [u8; HANDLE_LEN] = known
            .user_handle
            .as_slice()
            .try_into()
            .map_err(not_proven)?;
        let handle = UserHandle::decode(handle).map_err(not_proven)?;
        let state: [u8; 7] = known.changing.as_slice().try_into().map_err(not_proven)?;
        let mut known = AuthenticatedCredential::new(
            CredentialId::<&[u8]>::decode(known.id.as_slice()).map_err(not_proven)?,
            &handle,
            StaticState::decode(known.fixed.as_slice()).map_err(not_proven)?,
            DynamicState::decode(state).map_err(not_proven)?,
        )
        .map_err(not_proven)?;
        let origins = self.origins();
        let options = AuthenticationVerificationOptions::<_, DomainOrigin<'_, '_>> {
            allowed_origins: &origins,
            error_on_unsolicited_extensions: false,
            ..AuthenticationVerificationOptions::default()
        };
        begun
            .verify(&self.rp, &said, &mut known, &options)
            .map_err(not_proven)?;
        changing(known.dynamic_state())
    }
}

fn changing(state: DynamicState) -> Result<Vec<u8>, Refused> {
    let bytes = state.encode().map_err(not_proven)?;
    Ok(bytes.to_vec())
}

/// A browser's answer with the challenge that it is for, which nobody can use again.
pub(super) struct Entering {
    begun: DiscoverableAuthenticationServerState,
    said: DiscoverableAuthentication<HANDLE_LEN>,
}

impl Entering {
    /// The id of the passkey that it names.
    pub(super) fn id(&self) -> Vec<u8> {
        self.said.raw_id().as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passkeys_need_a_name_and_tls_or_this_computer() {
        let host = |url| Passkeys::at(url).map(|passkeys| passkeys.host().to_owned());
        assert_eq!(host(None).as_deref(), Some("localhost"));
        for (url, name) in [
            ("https://street.example", "street.example"),
            ("https://street.example:8443", "street.example"),
            ("http://localhost:8080", "localhost"),
        ] {
            assert_eq!(host(Some(url)).as_deref(), Some(name), "{url}");
        }
        for url in [
            "http://street.example",
            "https://192.0.2.1",
            "https://[2001:db8::1]",
            "http://127.0.0.1:8080",
        ] {
            assert_eq!(host(Some(url)), None, "{url}");
        }
    }

    #[test]
    fn what_no_ceremony_asked_for_proves_nothing() {
        let passkeys = Passkeys::at(None).unwrap();
        for said in ["", "{}", "null", "[1]"] {
            assert!(passkeys.take(said).is_err(), "{said}");
            assert!(
                passkeys.finish_adding([1; HANDLE_LEN], said).is_err(),
                "{said}"
            );
        }
        let (one, two) = (passkeys.begin_entering(), passkeys.begin_entering());
        assert_ne!(
            one.unwrap(),
            two.unwrap(),
            "each has a challenge of its own"
        );
    }
}
