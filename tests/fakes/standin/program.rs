//! Manager, agent and guest agent of a release in upstream's form, as small as their contract allows. `ROLE` at compile time
//! says which one this is. Like upstream's programs it reads no arguments: `--version` starts it, and it does not end.

use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const ROLE: &str = env!("ROLE");
const VERSION: &str = env!("RELEASE");

fn variable(name: &str, otherwise: &str) -> String {
    env::var(name).unwrap_or_else(|_| otherwise.to_string())
}

fn main() {
    match ROLE {
        "manager" => manager(),
        "agent" => agent(),
        _ => serve("0.0.0.0:9000", |_, path, _| match path {
            "/health" => (200, "{\"status\":\"ok\"}".into()),
            _ => (404, String::new()),
        }),
    }
}

/// It owns its database, so that it may migrate; it needs pgcrypto, and it makes roles.
const MIGRATION: &str = "
CREATE TABLE IF NOT EXISTS _sqlx_migrations (version bigint PRIMARY KEY, checksum bytea NOT NULL);
INSERT INTO _sqlx_migrations VALUES (1, gen_random_bytes(8)) ON CONFLICT DO NOTHING;
DO $$ BEGIN CREATE ROLE standin_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DROP ROLE standin_reader;";

fn manager() {
    let url = env::var("DATABASE_URL").expect("DATABASE_URL is required");
    let migrated = Command::new("psql")
        .args([&url, "--no-psqlrc", "-q", "-v", "ON_ERROR_STOP=1", "-c", MIGRATION])
        .status()
        .expect("psql");
    assert!(migrated.success(), "the migration failed");
    let hosts: Arc<Mutex<Vec<String>>> = Arc::default();
    serve(&variable("MANAGER_BIND", "127.0.0.1:18080"), move |method, path, body| match (method, path) {
        ("GET", "/health") => (200, format!("{{\"status\":\"ok\",\"version\":\"{VERSION}\"}}")),
        ("POST", "/v1/hosts/register") => {
            hosts.lock().unwrap().push(body.to_string());
            (200, "{\"id\":\"3f6f2b8e-0000-4000-8000-000000000001\"}".into())
        }
        ("GET", "/v1/hosts") => (200, format!("[{}]", hosts.lock().unwrap().join(","))),
        ("POST", "/standin/sudo") => (200, sudo(body)),
        ("POST", _) if path.ends_with("/heartbeat") => (200, "{}".into()),
        _ => (404, String::new()),
    });
}

/// What happens when the manager runs a command as root: one word a line.
fn sudo(words: &str) -> String {
    let done = Command::new("sudo").arg("-n").args(words.lines()).stdin(Stdio::null()).output();
    match done {
        Ok(output) => format!("{}\n{}", output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr)),
        Err(error) => format!("-1\n{error}"),
    }
}

fn agent() {
    let (base, bind) = (variable("MANAGER_BASE", ""), variable("AGENT_BIND", "127.0.0.1:19090"));
    let said = format!(
        "{{\"name\":\"{}\",\"addr\":\"{}\",\"run_dir\":\"{}\",\"bridge\":\"{}\"}}",
        variable("AGENT_NAME", ""),
        variable("AGENT_ADVERTISE_ADDR", &format!("http://{bind}")),
        variable("FC_RUN_DIR", "/srv/fc"),
        variable("FC_BRIDGE", "fcbr0"),
    );
    thread::spawn(move || loop {
        let pause = if post(&base, "/v1/hosts/register", &said) { 3600 } else { 1 };
        thread::sleep(Duration::from_secs(pause));
    });
    serve(&bind, |_, path, _| match path {
        "/agent/v1/health" => (200, format!("{{\"version\":\"{VERSION}\",\"kvm\":true,\"time\":\"now\"}}")),
        _ => (404, String::new()),
    });
}

fn post(base: &str, path: &str, body: &str) -> bool {
    let address = base.trim_start_matches("http://").replace("localhost", "127.0.0.1");
    let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ")
}

fn serve(bind: &str, answer: impl Fn(&str, &str, &str) -> (u16, String)) {
    let listener = TcpListener::bind(bind).expect(bind);
    for stream in listener.incoming().flatten() {
        let _ = converse(stream, &answer);
    }
}

fn converse(mut stream: TcpStream, answer: &impl Fn(&str, &str, &str) -> (u16, String)) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut data = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&data).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length:").map(|n| n.trim().parse().unwrap_or(0)))
                .unwrap_or(0);
            if body.len() >= length {
                let mut words = head.split_whitespace();
                let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
                let (status, said) = answer(method, path, body);
                let length = said.len();
                return write!(
                    stream,
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{said}"
                );
            }
        }
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        data.extend_from_slice(&piece[..read]);
    }
}
