//! The platform at a broker that others wrote, with the access list of `docker/`: a gateway enrols and
//! delivers there, also after the broker was killed, and nobody speaks for another.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::keys::{Lane, PASSWORD, meter};

const ACCESS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker/mosquitto.acl");

struct Mosquitto {
    child: Child,
    config: String,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(config: &str) -> Child {
    let mut command = Command::new("mosquitto");
    command
        .args(["-c", config])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

impl Mosquitto {
    fn start(folder: &Path, port: u16) -> Self {
        let at = |name: &str| folder.join(name).display().to_string();
        let passwords = at("passwords");
        fs::write(&passwords, "").unwrap();
        for user in ["platform", "gw-1", "gw-2"] {
            let added = Command::new("mosquitto_passwd")
                .args(["-b", &passwords, user, PASSWORD])
                .status();
            assert!(added.unwrap().success());
        }
        let config = at("mosquitto.conf");
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n\
             acl_file {ACCESS}\n"
        );
        fs::write(&config, text).unwrap();
        Mosquitto {
            child: spawn(&config),
            config,
        }
    }

    fn kill_and_start(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.config);
    }
}

/// What Mosquitto's own client hears of a gateway's publication of its own, while another tries to speak.
fn heard_from(user: &str, topic: &str, port: u16) -> String {
    let (port, id) = (port.to_string(), format!("test-{user}"));
    let to = [
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-u",
        user,
        "-P",
        PASSWORD,
        "-i",
        &id,
    ];
    let said = Command::new("mosquitto_pub")
        .args(to)
        .args(["-V", "mqttv5", "-q", "1", "-d", "-t", topic, "-m", "x"])
        .output()
        .unwrap();
    String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap()
}

#[test]
fn readings_come_by_a_broker_that_others_wrote_and_nobody_speaks_for_another() {
    let programs = ["mosquitto", "mosquitto_pub"];
    let is_there = |program: &&str| Command::new(program).arg("--help").output().is_ok();
    if !programs.iter().all(is_there) {
        eprintln!("skipped: mosquitto and its clients are not installed");
        return;
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut lane = Lane::new();
    fs::create_dir(lane.path("broker")).unwrap();
    let mut broker = Mosquitto::start(&lane.path("broker"), port);
    fs::write(lane.path("mqtt.password"), format!("{PASSWORD}\n")).unwrap();
    let mqtt = format!(
        "[mqtt.broker]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"platform\"\n\
         password_file = \"mqtt.password\"\n"
    );
    lane.write_site_with(&mqtt, "127.0.0.1:0", "");
    let platform = lane.serve();
    assert!(platform.said("broker").contains("not this program's"));
    lane.write_gateway(&format!("127.0.0.1:{port}"), &meter());
    let code = lane.claim();
    let gateway = lane.gateway(Some(&format!("{code}\n")));
    let first = lane.accepted(&[], 1);
    broker.kill_and_start();
    lane.accepted(&[], first + 1);
    let own = heard_from("gw-2", "cw/v1/lane/gw-2/reading", port);
    assert!(
        own.contains("(Mid: 1, RC:0)") || own.contains("received PUBACK"),
        "{own}"
    );
    let foreign = heard_from("gw-2", "cw/v1/lane/gw-1/reading", port);
    assert!(
        foreign.contains("RC:135") || foreign.contains("Not authorized"),
        "{foreign}"
    );
    let command = heard_from("gw-2", "cw/v1/lane/gw-2/cmd", port);
    assert!(
        command.contains("RC:135") || command.contains("Not authorized"),
        "{command}"
    );
    drop((gateway, platform));
}
