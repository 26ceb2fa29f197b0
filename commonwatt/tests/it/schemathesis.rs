//! The running platform held against its own description by schemathesis, which makes requests out of it: none
//! fails here, and every answer is one that is described. Runs with `COMMONWATT_SLOW` where `st` is there
//! (`pip install schemathesis`; `COMMONWATT_ST` names another place).

use std::path::Path;
use std::process::Command;

use crate::demo::Demo;
use crate::people::accounts;

/// What is looked at. Which data a resource wants beyond its schema is said by its answers, not held here.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance,response_headers_conformance";

#[test]
fn every_answer_is_one_that_is_described() {
    if std::env::var_os("COMMONWATT_SLOW").is_none() {
        println!("skipped: set COMMONWATT_SLOW=1 to hold the API against its description");
        return;
    }
    let st = std::env::var_os("COMMONWATT_ST").unwrap_or_else(|| "st".into());
    if Command::new(&st).arg("--version").output().is_err() {
        println!("skipped: there is no schemathesis here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let demo = Demo::start_at("300", &data, &[]);
    for account in ["home-01", "operator", "researcher"] {
        let (code, said) = accounts(&data, &["token", account, "--new", "test"]);
        assert_eq!(code, 0, "{said}");
        let bearer = format!("Authorization: Bearer {}", said.lines().next().unwrap());
        let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
        let out = Command::new(&st)
            .env("PYTHONPATH", hooks)
            .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
            .current_dir(folder.path())
            .args([
                "run",
                &format!("http://{}/api/v1/openapi.json", demo.address),
            ])
            .args(["--header", &bearer, "--exclude-path", "/api/v1/events"])
            .args([
                "--phases",
                "examples,coverage,fuzzing",
                "--max-examples",
                "10",
            ])
            .args(["--checks", CHECKS, "--no-color"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{account}: {said}");
        assert!(said.contains(" passed"), "{account}: {said}");
    }
}
