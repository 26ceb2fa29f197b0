//! A street whose gateways sign for its operator's log, over its broker, and a reader who wants so many of them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::demo::{Demo, program, wait_for};

/// The verifier keys of the gateways that have signed.
fn gateways(demo: &Demo) -> Vec<String> {
    let (_, listed) = demo.get("/api/v1/witnesses");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["alarm"], Value::Null, "{listed}");
    let items = listed["items"].as_array().unwrap().iter();
    let items = items.filter(|item| item["kind"] == "gateway");
    items
        .map(|item| item["key"].as_str().unwrap().to_owned())
        .collect()
}

fn verify(proof: &Path, key: &Path, policy: &Path) -> (bool, String) {
    let out = Command::new(program())
        .args(["verify".as_ref(), proof, "--key".as_ref(), key])
        .args(["--policy".as_ref(), policy])
        .output()
        .unwrap();
    let told = [&out.stdout[..], &out.stderr[..]].concat();
    (out.status.success(), String::from_utf8(told).unwrap())
}

#[test]
fn gateways_are_witnesses_of_their_operator_and_a_policy_may_want_two_of_three() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("60", &data, &[]);
    // Those that have signed what is shown now.
    let (keys, proof) = wait_for("a checkpoint that three gateways have signed", || {
        let (status, proof) = demo.get("/log/ledger/proof?index=0");
        let name = |key: &String| {
            key.split('+')
                .next()
                .map(|name| format!("\u{2014} {name} "))
        };
        let mut keys = gateways(&demo);
        keys.retain(|key| name(key).is_some_and(|name| proof.contains(&name)));
        (status == 200 && keys.len() >= 3).then_some((keys, proof))
    });
    assert!(!proof.contains("home-0"), "homes are not named: {proof}");
    let (file, policy) = (
        folder.path().join("0.tlog-proof"),
        folder.path().join("policy"),
    );
    std::fs::write(&file, proof).unwrap();
    let operator = data.join("operator.pub");
    let of = |keys: &[String]| {
        let named = (1..).zip(keys);
        let named = named.map(|(n, key)| format!("witness w{n} {key}\n"));
        let named: String = named.collect();
        std::fs::write(
            &policy,
            format!("{named}group all 2 w1 w2 w3\nquorum all\n"),
        )
        .unwrap();
        verify(&file, &operator, &policy)
    };
    let (holds, told) = of(&keys[..3]);
    assert!(holds && told.contains("/gateway/"), "{told}");
    // Two keys that have signed nothing, and one that has: too few.
    let stranger = |seed: u8| {
        let key = domain::signed::SigningKey::from_bytes(&[seed; 32]);
        let key = domain::signed::PublicKey::of(&key);
        let key = domain::log::note::VerifierKey::of_witness("stranger", key);
        key.unwrap().to_string()
    };
    let (holds, told) = of(&[keys[0].clone(), stranger(1), stranger(2)]);
    assert!(!holds && told.contains("too few witnesses"), "{told}");
}

fn judge(args: &[&Path]) -> (Option<i32>, String) {
    let out = Command::new(program()).arg("judge").args(args).output();
    let out = out.unwrap();
    (out.status.code(), String::from_utf8(out.stdout).unwrap())
}

#[test]
fn a_false_word_of_the_operator_is_proven_with_another_record_of_the_key() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use domain::key_record::KeyRecord;
    use domain::signed::{PublicKey, Signed, SigningKey};
    use settlement::log::entry::{Entry, Kind, PUBLIC};
    use settlement::log::proof::{LogProof, Opening, extra};

    let vectors = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../settlement/tests/vectors/evidence.json"
    );
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(vectors).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let case = |name: &str| {
        let mut all = vectors.as_array().unwrap().iter();
        all.find(|case| case["name"] == name).unwrap()["evidence"].clone()
    };
    // The newer record as a household's receipt proves it: with its entry opened.
    let lie = case("the lie");
    let content = STANDARD
        .decode(lie["key_record"].as_str().unwrap())
        .unwrap();
    let operator = PublicKey::of(&SigningKey::from_bytes(&[1; 32]));
    let record = Signed::<KeyRecord>::from_bytes(content.clone())
        .verify(operator, &"street".parse().unwrap())
        .unwrap();
    let from = record.message().valid_from;
    let entry = Entry::new(Kind::Key, from, PUBLIC, &content);
    let opening = Opening {
        salt: PUBLIC,
        content,
    };
    let mut proof = LogProof::parse(lie["proof"].as_str().unwrap()).unwrap();
    proof.extra = Some(extra(&entry, Some(&opening)));
    let proof = file("gateway-key.tlog-proof", &proof.to_text());
    let against = Path::new("--against");
    let raised = case("more than the rating that was raised, by a lie").to_string();
    let raised = file("raised.json", &raised);
    let (code, printed) = judge(&[&raised, against, &proof]);
    assert_eq!(code, Some(0), "{printed}");
    let (code, told) = judge(&[&file("false.json", &printed)]);
    assert!(
        code == Some(0) && told.contains("the operator signed"),
        "{told}"
    );
    let honest = case("more than the rating that counted").to_string();
    let honest = file("honest.json", &honest);
    assert_eq!(judge(&[&honest, against, &proof]).0, Some(1));
    assert_eq!(judge(&[&honest, against, &honest]).0, Some(2));
}
