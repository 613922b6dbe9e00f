//! A bounded HTTP/1.1 server: two GETs, one request per connection, limits on connections, time and size.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::collect::{Collector, Report};
use crate::json::Object;
use crate::metrics;

const MAX_CONNECTIONS: usize = 8;
const MAX_HEAD: usize = 8192;
const DEADLINE: Duration = Duration::from_secs(5);
const STACK: usize = 128 * 1024;

type Latest = Arc<Mutex<Option<Report>>>;

/// Serves in the background forever. A taken port is retried: reporting does not depend on it.
pub fn spawn(listen: String, latest: Latest) {
    let start = thread::Builder::new()
        .stack_size(STACK)
        .name("http".to_string());
    let _ = start.spawn(move || {
        let mut said = false;
        loop {
            match TcpListener::bind(&listen) {
                Ok(listener) => serve(&listener, &latest),
                Err(e) if !said => {
                    crate::log(&format!("cannot listen on {listen}: {e}"));
                    said = true;
                }
                Err(_) => {}
            }
            thread::sleep(Duration::from_secs(5));
        }
    });
}

fn serve(listener: &TcpListener, latest: &Latest) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(_) => {
                // Out of descriptors or memory: do not spin.
                thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        if open.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
            open.fetch_sub(1, Ordering::SeqCst);
            answer(
                stream,
                &response(503, "Service Unavailable", "text/plain", "busy\n", true),
            );
            continue;
        }
        let (count, latest) = (Arc::clone(&open), Arc::clone(latest));
        let started = thread::Builder::new().stack_size(STACK).spawn(move || {
            handle(stream, &latest);
            count.fetch_sub(1, Ordering::SeqCst);
        });
        if started.is_err() {
            open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn handle(mut stream: TcpStream, latest: &Latest) {
    let started = Instant::now();
    let mut head = Vec::with_capacity(512);
    let mut piece = [0u8; 1024];
    let reply = loop {
        if let Some(end) = head_end(&head) {
            break respond(&head[..end], latest);
        }
        if head.len() >= MAX_HEAD {
            break response(
                431,
                "Request Header Fields Too Large",
                "text/plain",
                "too large\n",
                true,
            );
        }
        let left = match DEADLINE
            .checked_sub(started.elapsed())
            .filter(|d| !d.is_zero())
        {
            Some(left) => left,
            None => break response(408, "Request Timeout", "text/plain", "too slow\n", true),
        };
        if stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut piece) {
            Ok(0) => return,
            Ok(n) => head.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    };
    answer(stream, &reply);
}

fn answer(mut stream: TcpStream, reply: &str) {
    if stream
        .set_write_timeout(Some(Duration::from_secs(2)))
        .is_ok()
        && stream.write_all(reply.as_bytes()).is_ok()
    {
        let _ = stream.shutdown(Shutdown::Write);
        // Closing with unread input would reset the connection and could lose the answer (RFC 9112, 9.6).
        let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
        let mut rest = [0u8; 1024];
        for _ in 0..8 {
            match stream.read(&mut rest) {
                Ok(n) if n > 0 => {}
                _ => break,
            }
        }
    }
}

/// The end of the head: after the first empty line.
fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map(|at| at + 4)
}

fn respond(head: &[u8], latest: &Latest) -> String {
    let bad = || response(400, "Bad Request", "text/plain", "bad request\n", true);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(_) => return bad(),
    };
    let line = text.split("\r\n").next().unwrap_or("");
    let words: Vec<&str> = line.split(' ').collect();
    let (method, target) = match words.as_slice() {
        [method, target, version] if version.starts_with("HTTP/1.") && target.starts_with('/') => {
            (*method, *target)
        }
        _ => return bad(),
    };
    let with_body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => {
            let refused = response(405, "Method Not Allowed", "text/plain", "only GET\n", true);
            return refused.replacen("\r\n", "\r\nAllow: GET, HEAD\r\n", 1);
        }
    };
    match target.split('?').next().unwrap_or("") {
        "/health" => response(200, "OK", "application/json", &health(latest), with_body),
        "/metrics" => {
            // Collected again for each scrape. The CPU share is that of the last report.
            let reported = latest.lock().ok().and_then(|slot| slot.clone());
            let body = match reported {
                Some(known) => {
                    let mut fresh = Collector::local();
                    fresh.cpu_percent = known.cpu_percent;
                    fresh.gateway_reachable = known.gateway_reachable;
                    metrics::render(Some(&fresh))
                }
                None => metrics::render(Some(&Collector::local())),
            };
            response(
                200,
                "OK",
                "text/plain; version=0.0.4; charset=utf-8",
                &body,
                with_body,
            )
        }
        _ => response(404, "Not Found", "text/plain", "not found\n", with_body),
    }
}

fn health(latest: &Latest) -> String {
    let known = latest
        .lock()
        .ok()
        .and_then(|slot| slot.clone())
        .unwrap_or_default();
    let local = Collector::local();
    Object::new()
        .text("status", "ok")
        .text("version", crate::VERSION)
        .text("ip", &known.ip)
        .text("boot_id", &local.boot_id)
        .text("hostname", &local.hostname)
        .number("uptime_seconds", local.uptime_seconds)
        .end()
        + "\n"
}

fn response(status: u16, reason: &str, kind: &str, body: &str, with_body: bool) -> String {
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\n\r\n{}",
        body.len(),
        if with_body { body } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let latest: Latest = Arc::new(Mutex::new(None));
        thread::spawn(move || serve(&listener, &latest));
        address
    }

    fn ask(address: &str, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn health_and_metrics() {
        let at = started();
        let answer = ask(&at, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("{\"status\":\"ok\","));
        let answer = ask(&at, b"GET /metrics?x=1 HTTP/1.1\r\n\r\n");
        assert!(answer.contains("guest_uptime_seconds "), "{answer}");
        let answer = ask(&at, b"HEAD /health HTTP/1.1\r\n\r\n");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[test]
    fn what_is_not_a_request_is_refused() {
        let at = started();
        for (request, status) in [
            (&b"POST /health HTTP/1.1\r\n\r\n"[..], "405"),
            (b"GET /nothing HTTP/1.1\r\n\r\n", "404"),
            (b"GET  /health HTTP/1.1\r\n\r\n", "400"),
            (b"GET http://x/ HTTP/1.1\r\n\r\n", "400"),
            (b"\xff\xfe\r\n\r\n", "400"),
            (b"\r\n\r\n", "400"),
        ] {
            let answer = ask(&at, request);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
        }
        assert!(ask(&at, &vec![b'a'; MAX_HEAD + 10]).starts_with("HTTP/1.1 431 "));
    }

    #[test]
    fn a_crowd_is_turned_away_and_later_served() {
        let at = started();
        let idle: Vec<TcpStream> = (0..MAX_CONNECTIONS)
            .map(|_| TcpStream::connect(&at).unwrap())
            .collect();
        thread::sleep(Duration::from_millis(100));
        assert!(ask(&at, b"GET /health HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 503 "));
        drop(idle);
        thread::sleep(Duration::from_millis(300));
        assert!(ask(&at, b"GET /health HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
    }
}
