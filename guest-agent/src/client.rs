//! One HTTP/1.1 POST (RFC 9112) with a deadline.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::config::{Config, Endpoint};

const DEADLINE: Duration = Duration::from_secs(5);
const MAX_HEAD: usize = 4096;

/// Sends a report; Ok on any 2xx. The error ends a sentence of the log, and never contains the token.
pub fn post_report(config: &Config, body: &str) -> Result<(), String> {
    let started = Instant::now();
    let manager = config.manager.as_ref().ok_or("MANAGER_URL is empty")?;
    let address = resolve(manager)?;
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).map_err(|e| e.to_string())?;
    let _ = stream.set_nodelay(true);
    stream
        .set_write_timeout(Some(DEADLINE))
        .map_err(|e| e.to_string())?;
    stream
        .write_all(request(config, manager, body).as_bytes())
        .map_err(|e| e.to_string())?;

    let mut head = Vec::with_capacity(256);
    let mut piece = [0u8; 512];
    loop {
        if let Some(status) = status_of(&head)? {
            return match status {
                200..=299 => Ok(()),
                other => Err(format!("it answered {other}")),
            };
        }
        let left = DEADLINE
            .checked_sub(started.elapsed())
            .filter(|d| !d.is_zero())
            .ok_or("no answer in time")?;
        stream
            .set_read_timeout(Some(left))
            .map_err(|e| e.to_string())?;
        match stream.read(&mut piece) {
            Ok(0) => return Err("it closed the connection without an answer".to_string()),
            Ok(n) => head.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.to_string()),
        }
        if head.len() > MAX_HEAD {
            return Err("its answer is not HTTP".to_string());
        }
    }
}

fn resolve(endpoint: &Endpoint) -> Result<SocketAddr, String> {
    // An address needs no resolver; a static program has no reliable one.
    if let Ok(ip) = endpoint.host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, endpoint.port));
    }
    (endpoint.host.as_str(), endpoint.port)
        .to_socket_addrs()
        .map_err(|e| e.to_string())?
        .next()
        .ok_or_else(|| format!("{} has no address", endpoint.host))
}

fn request(config: &Config, manager: &Endpoint, body: &str) -> String {
    let Endpoint { host, port, prefix } = manager;
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let authorization = if config.token.is_empty() {
        String::new()
    } else {
        format!("Authorization: Bearer {}\r\n", config.token)
    };
    format!(
        "POST {prefix}/v1/vms/{}/guest-ip HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: guest-agent/{}\r\n{authorization}\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        config.vm_id,
        crate::VERSION,
        body.len(),
    )
}

/// The status code, or None before the status line is complete.
fn status_of(head: &[u8]) -> Result<Option<u16>, String> {
    let end = match head.iter().position(|b| *b == b'\n') {
        Some(end) => end,
        None => return Ok(None),
    };
    let line = String::from_utf8_lossy(&head[..end]);
    let mut words = line.split_whitespace();
    let version = words.next().unwrap_or("");
    let status = words.next().and_then(|w| w.parse::<u16>().ok());
    match (version.starts_with("HTTP/1."), status) {
        (true, Some(status)) if (100..=599).contains(&status) => Ok(Some(status)),
        _ => Err("its answer is not HTTP".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn config(port: u16) -> Config {
        Config::parse(&format!(
            "VM_ID=v1\nMANAGER_URL=http://127.0.0.1:{port}\nTOKEN=secret\n"
        ))
        .unwrap()
    }

    fn answering(answer: &'static [u8]) -> (u16, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0u8; 4096];
            let n = stream.read(&mut buffer).unwrap();
            stream.write_all(answer).unwrap();
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        });
        (port, thread)
    }

    #[test]
    fn a_taken_report() {
        let (port, thread) = answering(b"HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(post_report(&config(port), "{}"), Ok(()));
        let request = thread.join().unwrap();
        assert!(
            request.starts_with("POST /v1/vms/v1/guest-ip HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.contains("Authorization: Bearer secret\r\n"));
        assert!(request.ends_with("Content-Length: 2\r\nConnection: close\r\n\r\n{}"));
    }

    #[test]
    fn a_refusal_and_nonsense() {
        let (port, _t) = answering(b"HTTP/1.1 401 Unauthorized\r\n\r\n");
        assert_eq!(
            post_report(&config(port), "{}").unwrap_err(),
            "it answered 401"
        );
        let (port, _t) = answering(b"SSH-2.0-x\r\n");
        assert_eq!(
            post_report(&config(port), "{}").unwrap_err(),
            "its answer is not HTTP"
        );
        let (port, _t) = answering(b"");
        assert!(post_report(&config(port), "{}").is_err());
    }

    #[test]
    fn nobody_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(post_report(&config(port), "{}").is_err());
    }

    #[test]
    fn no_host_to_report_to() {
        let config = Config::parse("VM_ID=v1\nMANAGER_URL=\nTOKEN=secret\n").unwrap();
        assert_eq!(
            post_report(&config, "{}").unwrap_err(),
            "MANAGER_URL is empty"
        );
    }

    #[test]
    fn status_lines() {
        assert_eq!(status_of(b"HTTP/1.1 20"), Ok(None));
        assert_eq!(status_of(b"HTTP/1.0 200 OK\r\n"), Ok(Some(200)));
        assert!(status_of(b"HTTP/1.1 abc\r\n").is_err());
        assert!(status_of(b"\n").is_err());
    }
}
