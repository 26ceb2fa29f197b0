//! `commonwatt probe` and `commonwatt check --live` as a person runs them, where nothing answers.

use std::process::{Command, Output};

use crate::demo::program;

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program()).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn an_address_that_is_none_and_one_where_nobody_listens_are_told_apart() {
    let (code, _, stderr) = run(&["probe", "telnet://192.168.1.20"]);
    assert!(code == Some(2) && stderr.contains("rtu+tcp://"), "{stderr}");
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (code, _, stderr) = run(&["probe", &format!("tcp://{free}")]);
    assert!(
        code == Some(3) && stderr.contains("cannot connect"),
        "{stderr}"
    );
}

#[test]
fn somebody_who_does_not_speak_modbus_is_no_device() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", silent.local_addr().unwrap());
    let (code, stdout, stderr) = run(&["probe", &address, "--unit", "1", "--timeout-ms", "200"]);
    assert!(code == Some(1) && stdout.is_empty(), "{stdout}");
    assert!(stderr.contains("no unit answers"), "{stderr}");
}

#[test]
fn a_watch_that_cannot_begin_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    let text = "community = \"c\"\ngateway = \"g\"\ndata_dir = \"state\"\n\
        operator_key = \"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"\n\
        [mqtt]\nhost = \"127.0.0.1\"\nuser = \"g\"\npassword = \"x\"\n\
        [[devices]]\nname = \"meter\"\nprofile = \"eastron-sdm630\"\npoint = \"home\"\n\
        role = \"connection\"\nrating_w = 17000\naddress = \"127.0.0.1:9\"\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let (code, _, stderr) = run(&["check", file, "--live", "--second", "meter=other"]);
    assert!(
        code == Some(2) && stderr.contains("DEVICE=OTHER"),
        "{stderr}"
    );
    let (code, _, stderr) = run(&["check", file, "--seconds", "20"]);
    assert!(code == Some(2) && stderr.contains("--live"), "{stderr}");
}
