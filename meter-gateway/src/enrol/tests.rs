//! Key files through enrolment, rotation and revocation, and through a kill at every step.

use super::*;
use domain::ids::{CommunityId, GatewayId};
use domain::key_record::{PointRecord, PointRole};
use std::os::unix::fs::MetadataExt;

fn operator() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

fn config(dir: &Path) -> Config {
    let operator_key = STANDARD.encode(PublicKey::of(&operator()).to_bytes());
    let text = format!(
        "community = \"lane\"\ngateway = \"gw-1\"\ndata_dir = \".\"\noperator_key = \"{operator_key}\"\n\
         [mqtt]\nhost = \"127.0.0.1\"\nuser = \"gw-1\"\npassword = \"secret\"\n\
         [[devices]]\nname = \"meter\"\nprofile = \"eastron-sdm630\"\npoint = \"home-1\"\n\
         role = \"connection\"\nrating_w = 17000\naddress = \"127.0.0.1:1502\"\n"
    );
    let file = dir.join("gateway.toml");
    Config::from_toml(&text, &file.display().to_string()).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_unix_s(1_782_000_000)
}

struct Bench {
    _dir: tempfile::TempDir,
    config: Config,
    spool: Spool,
    keys: Keys,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let spool = Spool::open(dir.path(), 10).await.unwrap();
        let keys = Keys::in_dir(dir.path());
        Bench {
            _dir: dir,
            config,
            spool,
            keys,
        }
    }

    fn trust(&self) -> Trust {
        Trust::of(&self.config)
    }

    async fn rotate(&self) -> Result<PublicKey, EnrolError> {
        self.rotate_at(now()).await
    }

    async fn rotate_at(&self, now: Timestamp) -> Result<PublicKey, EnrolError> {
        self.keys.rotate(&self.config, &self.spool, now).await
    }

    async fn claim(&self, code: &ClaimCode) -> bool {
        let claimed = self.keys.claim(&self.config, &self.spool, code, now());
        claimed.await.unwrap()
    }

    fn current(&self) -> PublicKey {
        PublicKey::of(&self.keys.current().unwrap())
    }

    fn running(&self) -> Enrolment {
        Enrolment::open(&self.config.data_dir, self.current()).unwrap()
    }

    /// The operator's record of a key, as the platform answers it.
    fn record(&self, key: PublicKey) -> Vec<u8> {
        let points = vec![PointRecord {
            point: self.config.devices[0].point.clone(),
            role: PointRole::Connection,
            participant: None,
            rating_w: 17_000,
        }];
        let holder = Holder::Gateway {
            gateway: self.config.gateway.clone(),
            points,
        };
        let record = KeyRecord {
            key,
            holder,
            valid_from: now(),
        };
        let signed = Signed::sign(&operator(), &self.config.community, &record);
        signed.as_bytes().to_vec()
    }

    fn refusal(&self, signer: &SigningKey, reason: KeyRefused) -> Vec<u8> {
        let pending = self.keys.pending().unwrap().unwrap();
        let refusal = KeyRefusal {
            gateway: self.config.gateway.clone(),
            introduction: Digest32::of(&pending.message),
            reason,
            detail: "because".into(),
            issued_at: now(),
        };
        let signed = Signed::sign(signer, &self.config.community, &refusal);
        signed.as_bytes().to_vec()
    }
}

fn code() -> ClaimCode {
    ClaimCode::from_random([7; 16])
}

#[tokio::test]
async fn a_claim_is_shown_by_signing_and_the_code_is_nowhere() {
    let bench = Bench::new().await;
    assert!(bench.claim(&code()).await);
    let pending = bench.keys.pending().unwrap().unwrap();
    let claim_key = code().key(
        &bench.config.community,
        &bench.config.gateway.clone().into(),
    );
    let introduction = Signed::<Introduction>::from_bytes(pending.message)
        .verify(PublicKey::of(&claim_key), &bench.config.community)
        .unwrap();
    let Introduction { key, request } = introduction.message();
    let request = request.verify(*key, &bench.config.community).unwrap();
    let request = request.message();
    assert_eq!((request.key, *key), (bench.current(), bench.current()));
    assert_eq!(request.points[0].first_sequence, 1);
    let typed = code().reveal();
    for entry in fs::read_dir(&bench.config.data_dir).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        for secret in [typed.clone(), typed.replace('-', "")] {
            let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
            assert!(!found, "the code is in {}", path.display());
        }
        let seed = claim_key.to_bytes();
        assert!(!bytes.windows(32).any(|w| w == seed), "{}", path.display());
        if path.extension().is_some_and(|e| e == "key" || e == "json") {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        }
    }
}

#[tokio::test]
async fn only_the_operators_word_to_this_gateway_counts() {
    let bench = Bench::new().await;
    bench.claim(&code()).await;
    let mut running = bench.running();
    let trust = bench.trust();
    let stranger = SigningKey::from_bytes(&[1; 32]);
    let forged = bench.refusal(&stranger, KeyRefused::ClaimUsed);
    assert_eq!(running.hear(forged, &trust, now()).unwrap(), Heard::Nothing);
    let other_key = bench.record(PublicKey::of(&stranger));
    assert_eq!(
        running.hear(other_key, &trust, now()).unwrap(),
        Heard::Nothing
    );
    let other_gateway = Trust {
        gateway: GatewayId::new("gw-2").unwrap(),
        ..trust.clone()
    };
    let record = bench.record(bench.current());
    assert_eq!(
        running.hear(record.clone(), &other_gateway, now()).unwrap(),
        Heard::Nothing
    );
    let other_street = Trust {
        community: CommunityId::new("road").unwrap(),
        ..trust.clone()
    };
    assert_eq!(
        running.hear(record.clone(), &other_street, now()).unwrap(),
        Heard::Nothing
    );
    assert!(running.due().is_some(), "it is still sent");
    assert_eq!(
        running.hear(record, &trust, now()).unwrap(),
        Heard::Enrolled
    );
    assert!(running.due().is_none());
    assert!(bench.keys.is_enrolled(bench.current(), &trust));
    assert!(
        !bench.claim(&code()).await,
        "an enrolled gateway needs no code"
    );
}

#[tokio::test]
async fn a_refused_code_is_not_sent_again_and_a_revoked_key_is_not_enrolled_again() {
    let bench = Bench::new().await;
    bench.claim(&code()).await;
    let first = bench.current();
    let mut running = bench.running();
    let refusal = bench.refusal(&operator(), KeyRefused::ClaimExpired);
    let heard = running.hear(refusal, &bench.trust(), now()).unwrap();
    assert!(matches!(
        heard,
        Heard::Refused {
            reason: KeyRefused::ClaimExpired,
            ..
        }
    ));
    assert!(running.due().is_none() && bench.running().due().is_none());
    bench.claim(&code()).await;
    assert_eq!(bench.current(), first);
    let mut running = bench.running();
    running
        .hear(bench.record(first), &bench.trust(), now())
        .unwrap();
    running.note_revoked(first.id()).unwrap();
    // The platform's word comes once more, late: the key stays revoked.
    let again = running
        .hear(bench.record(first), &bench.trust(), now())
        .unwrap();
    assert_eq!(again, Heard::Known);
    assert!(bench.claim(&code()).await, "a revoked key needs a code");
    let second = bench.current();
    assert_ne!(second, first);
    // So does a refusal of what the key before has signed: this one is not revoked by it.
    let mut running = bench.running();
    running
        .hear(bench.record(second), &bench.trust(), now())
        .unwrap();
    running.note_revoked(first.id()).unwrap();
    assert!(!bench.claim(&code()).await, "the new key is enrolled");
    assert_eq!(bench.current(), second);
}

#[tokio::test]
async fn a_claim_after_a_revocation_introduces_the_new_key() {
    let bench = Bench::new().await;
    bench.claim(&code()).await;
    let first = bench.current();
    bench.running().note_revoked(first.id()).unwrap();
    bench.claim(&code()).await;
    assert_ne!(bench.current(), first);
    let pending = bench.keys.pending().unwrap().unwrap();
    assert_eq!(pending.key, bench.current().id());
}

#[tokio::test]
async fn whatever_step_a_rotation_stops_at_there_is_one_key_to_sign_with() {
    let bench = Bench::new().await;
    assert!(matches!(bench.rotate().await, Err(EnrolError::NoKey(_))));
    let old = bench.current();
    let trust = bench.trust();
    let dir = &bench.config.data_dir;
    // Killed after the next key was made: the old one goes on, and the next rotation takes it up.
    let next = PublicKey::of(&key_file::open(&dir.join(NEXT_KEY)).unwrap());
    assert_eq!(bench.current(), old);
    assert_eq!(bench.rotate().await.unwrap(), next);
    // Killed after the introduction was written: the next key signs, and waits for the answer.
    assert_eq!(bench.current(), next);
    assert!(dir.join(KEY).exists(), "the old key is kept until then");
    assert!(matches!(bench.rotate().await, Err(EnrolError::Waiting(_))));
    let message = bench.running().due().unwrap().to_vec();
    // Killed after the credential was kept.
    let record = bench.record(next);
    fs::write(dir.join(CREDENTIAL), &record).unwrap();
    assert_eq!(bench.current(), next);
    assert_eq!(bench.running().due(), Some(&*message));
    // Killed after the next key took its place.
    bench.keys.promote().unwrap();
    assert_eq!(bench.current(), next);
    assert!(!dir.join(NEXT_KEY).exists());
    assert_eq!(bench.running().due(), Some(&*message));
    // The answer, when it comes again, ends it.
    assert_eq!(
        bench.running().hear(record, &trust, now()).unwrap(),
        Heard::Enrolled
    );
    assert_eq!(bench.current(), next);
    assert!(bench.running().due().is_none());
    let third = bench.rotate().await.unwrap();
    assert_ne!(third, next);
    // A refused rotation is asked for again, and its key stays.
    let refusal = bench.refusal(&operator(), KeyRefused::KeyReplaced);
    bench.running().hear(refusal, &trust, now()).unwrap();
    assert_eq!(bench.current(), third);
    assert!(bench.running().due().is_some());
    // A claim code ends that, too.
    assert!(bench.claim(&code()).await);
    assert_eq!(bench.current(), third);
}

#[tokio::test]
async fn a_key_is_rotated_as_often_as_the_platform_lets_it_in_and_goes_on_until_then() {
    let bench = Bench::new().await;
    let (mut last, trust) = (bench.current(), bench.trust());
    let minute = |n: usize| now().plus_s(60 * i64::try_from(n).unwrap());
    for n in 0..HANDOVERS_MAX {
        last = bench.rotate_at(minute(n)).await.unwrap();
        let mut running = bench.running();
        // A refusal as too early changes nothing: it is asked for again, and the key before is kept.
        let early = bench.refusal(&operator(), KeyRefused::RateLimited);
        running.hear(early, &trust, minute(n)).unwrap();
        assert!(running.due().is_some() && bench.config.data_dir.join(KEY).exists());
        let record = bench.record(last);
        let heard = running.hear(record, &trust, minute(n)).unwrap();
        assert_eq!(heard, Heard::Enrolled);
    }
    let until = minute(0).plus_s(HANDOVERS_SPAN_S);
    for early in [minute(HANDOVERS_MAX), until.plus_ms(-1)] {
        let refused = bench.rotate_at(early).await;
        assert!(matches!(refused, Err(EnrolError::TooOften(at)) if at == until));
        assert_eq!(bench.current(), last);
        assert!(bench.running().due().is_none());
    }
    let next = bench.rotate_at(until).await.unwrap();
    assert_eq!(bench.current(), next);
}

#[tokio::test]
async fn an_introduction_without_its_key_is_an_error_and_no_new_key() {
    let bench = Bench::new().await;
    bench.current();
    bench.rotate().await.unwrap();
    fs::remove_file(bench.config.data_dir.join(NEXT_KEY)).unwrap();
    let error = bench.keys.current().unwrap_err().to_string();
    assert!(error.contains("introduction.json is damaged"), "{error}");
}
