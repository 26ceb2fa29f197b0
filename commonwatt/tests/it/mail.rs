//! Links to sign in by mail, through an SMTP server: one of a few lines here, and Python's aiosmtpd over TLS where it is
//! there (`pip install aiosmtpd`; `COMMONWATT_PYTHON` names the Python that has it).

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::orders::{Serve, agent, wait_for};
use crate::people::accounts;

/// Long enough for a mail that comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that takes every mail and hands its lines on.
fn sink() -> (u16, Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mails, taken) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mails = mails.clone();
            std::thread::spawn(move || talk(&stream.unwrap(), &mails));
        }
    });
    (port, taken)
}

fn talk(mut stream: &TcpStream, mails: &Sender<Vec<String>>) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    stream.write_all(b"220 sink\r\n").ok()?;
    while let Some(Ok(line)) = lines.next() {
        let answer = match line.get(..4)?.to_uppercase().as_str() {
            "EHLO" => "250-sink\r\n250 8BITMIME\r\n",
            "DATA" => {
                stream.write_all(b"354 go on\r\n").ok()?;
                let mail = lines.by_ref().map_while(Result::ok);
                mails
                    .send(mail.take_while(|line| line != ".").collect())
                    .ok()?;
                "250 taken\r\n"
            }
            "QUIT" => "221 bye\r\n",
            _ => "250 ok\r\n",
        };
        stream.write_all(answer.as_bytes()).ok()?;
    }
    Some(())
}

/// The path of the link in a mail, whose lines may be written as quoted-printable.
fn link(mail: &[String]) -> String {
    let text = mail.join("\n").replace("=\n", "").replace("=3D", "=");
    let path = text
        .split("/sign-in/")
        .nth(1)
        .unwrap_or_else(|| panic!("no link: {text}"));
    let path: String = path.chars().take_while(|c| !c.is_whitespace()).collect();
    format!("/sign-in/{path}")
}

fn say(serve: &Serve, path: &str, form: &[(&str, &str)]) -> (u16, String) {
    let request = agent().post(format!("{}{path}", serve.url));
    let mut answer = request.send_form(form.iter().copied()).unwrap();
    let body = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), body)
}

/// The page without what is new in every answer.
fn lasting(page: &str) -> String {
    let words = page.split_whitespace();
    words
        .filter(|word| !word.contains("nonce"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn whoever_says_the_address_of_an_account_is_mailed_a_link_and_nobody_learns_who_has_one() {
    let folder = tempfile::tempdir().unwrap();
    let (port, mails) = sink();
    let mail = format!(
        "[mail]\nserver = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nfrom = \"Elm Lane <lane@example.org>\"\n"
    );
    let serve = Serve::start_with(folder.path(), 1, &mail);
    let run = |args: &[&str], code: i32| {
        let (ended, said) = accounts(&serve.data, args);
        assert_eq!(ended, code, "{args:?}: {said}");
        said
    };
    for name in ["ann", "bob"] {
        run(&["add", name, "--role", "driver"], 0);
    }
    run(&["email", "ann", "no address"], 2);
    run(&["email", "ann", "Ann@Example.org"], 0);
    assert_eq!(run(&["email", "ann"], 0), "ann@example.org\n");
    let other = run(&["email", "bob", "ann@example.org"], 3);
    assert!(other.contains("ann has this address"), "{other}");
    assert!(serve.get("/sign-in").contains("action=\"/sign-in/mail\""));

    let ask = |email: &str| say(&serve, "/sign-in/mail", &[("email", email)]);
    let strangers = ask("nobody@example.org");
    assert_eq!(ask("no address").0, 200);
    let known = ask(" ann@example.ORG ");
    assert_eq!(strangers.0, 200);
    assert_eq!((known.0, lasting(&known.1)), (200, lasting(&strangers.1)));
    let mail = mails.recv_timeout(PATIENCE).unwrap();
    let has = |part: &str| mail.iter().any(|line| line.contains(part));
    assert!(
        has("To: ann@example.org") && has("lane@example.org") && has("Hello ann"),
        "{mail:?}"
    );

    // The link shows a button, which signs in once.
    let path = link(&mail);
    assert!(serve.get(&path).contains("ann"));
    let enter = || {
        let config = ureq::Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false);
        let agent = ureq::Agent::new_with_config(config.build());
        let answer = agent
            .post(format!("{}{path}", serve.url))
            .send_empty()
            .unwrap();
        answer.status().as_u16()
    };
    assert_eq!((enter(), enter()), (303, 404));

    // A mailbox is not filled, and who is revoked is mailed nothing.
    for _ in 0..6 {
        assert_eq!(ask("ann@example.org").0, 200);
    }
    let mut count = 0;
    while mails.recv_timeout(Duration::from_secs(2)).is_ok() {
        count += 1;
    }
    assert_eq!(count, 3, "three that can still be used");
    run(&["email", "bob", "bob@example.org"], 0);
    run(&["revoke", "bob"], 0);
    assert_eq!(ask("bob@example.org").0, 200);
    assert!(mails.recv_timeout(Duration::from_secs(2)).is_err());
    let deeds = run(&["audit"], 0);
    assert!(
        deeds.contains("link mailed") && deeds.contains("address set"),
        "{deeds}"
    );
}

/// Ends the server with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn python() -> Option<String> {
    let python = std::env::var("COMMONWATT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let known = Command::new(&python)
        .args(["-c", "import aiosmtpd"])
        .stderr(Stdio::null())
        .status();
    known.is_ok_and(|status| status.success()).then_some(python)
}

/// A key and a certificate for `localhost`.
fn certificate(folder: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

#[test]
fn a_link_goes_through_a_server_of_others_over_tls() {
    let Some(python) = python() else {
        println!("skipped: there is no Python with aiosmtpd");
        return;
    };
    for (tls, options) in [
        ("tls", ["--smtpscert", "--smtpskey"]),
        ("starttls", ["--tlscert", "--tlskey"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut server = Command::new(&python)
            .args([
                "-u",
                "-m",
                "aiosmtpd",
                "-n",
                "-l",
                &format!("127.0.0.1:{port}"),
            ])
            .args(["-c", "aiosmtpd.handlers.Debugging", "stdout"])
            .args([options[0], "cert.pem", options[1], "key.pem"])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let _server = Ended(server);
        wait_for("the mail server", || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let mail = format!(
            "[mail]\nserver = \"localhost\"\nport = {port}\ntls = \"{tls}\"\nfrom = \"lane@example.org\"\nca_file = \"cert.pem\"\n"
        );
        let serve = Serve::start_with(folder.path(), 1, &mail);
        accounts(&serve.data, &["add", "ann", "--role", "driver"]);
        accounts(&serve.data, &["email", "ann", "ann@example.org"]);
        assert_eq!(
            say(&serve, "/sign-in/mail", &[("email", "ann@example.org")]).0,
            200
        );
        let end = |line: &String| !line.contains("END MESSAGE");
        let mail: Vec<String> = lines.map(Result::unwrap).take_while(end).collect();
        assert!(serve.get(&link(&mail)).contains("ann"), "{tls}");
    }
}
