//! One connection with the host and the sessions on it.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::frames::{self, Frame, HEADER, MAX_PAYLOAD, NONCE, VERSION};
use crate::request::Request;
use crate::session::{Output, Refusal, Session, BAD_REQUEST, SWITCHED_OFF, TOO_MANY};

const MOST: usize = 32;

type Writer = Arc<Mutex<Box<dyn Write + Send>>>;
type Sessions = Arc<Mutex<HashMap<u32, Arc<Session>>>>;

pub struct Channel {
    writer: Writer,
    sessions: Sessions,
    allowed: bool,
}

impl Channel {
    /// `allowed`: whether the host may start programs; it is told where it may not.
    pub fn new(writer: Box<dyn Write + Send>, allowed: bool) -> Channel {
        Channel {
            writer: Arc::new(Mutex::new(writer)),
            sessions: Arc::default(),
            allowed,
        }
    }

    /// Says that this program has just started: a host that has sessions with an earlier one gives them up.
    pub fn boot(&self) -> io::Result<()> {
        let mut bytes = vec![0u8; HEADER + MAX_PAYLOAD]; // completes half a frame of the earlier one
        bytes.extend(frames::encode(frames::BOOT, 0, b""));
        self.write(&bytes)
    }

    /// Returns once a host is there: a port without one takes nothing, virtio_console of Linux.
    pub fn wait_for_host(&self) -> io::Result<()> {
        self.write(&[0])
    }

    /// Serves until the connection ends. Its sessions end with it.
    pub fn serve(&self, from: impl Read) {
        let mut from = BufReader::with_capacity(2 * MAX_PAYLOAD, from);
        loop {
            match frames::read(&mut from) {
                Ok(frame) => {
                    if self.take(frame).is_err() {
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::InvalidData => self.end_all(),
                Err(_) => break,
            }
        }
        self.end_all();
    }

    fn take(&self, frame: Frame) -> io::Result<()> {
        match frame.kind {
            frames::HELLO => {
                self.end_all();
                if frame.payload.len() == 1 + NONCE {
                    let mut answer = frame.payload;
                    answer[0] = VERSION;
                    return self.send(frames::WELCOME, 0, &answer);
                }
            }
            frames::EXEC => return self.start(frame.stream, &frame.payload),
            frames::CLOSE => {
                let found = self.lock().remove(&frame.stream);
                if let Some(session) = found {
                    session.die();
                }
            }
            kind => {
                let found = self.lock().get(&frame.stream).cloned();
                if let Some(session) = found {
                    pass(kind, frame.payload, &session);
                }
            }
        }
        Ok(())
    }

    fn start(&self, stream: u32, payload: &[u8]) -> io::Result<()> {
        match self.started(stream, payload) {
            Ok(()) => Ok(()),
            Err(Refusal(reason, text)) => {
                let mut answer = vec![reason];
                answer.extend(text.bytes().take(1024));
                self.send(frames::ERROR, stream, &answer)
            }
        }
    }

    fn started(&self, stream: u32, payload: &[u8]) -> Result<(), Refusal> {
        if !self.allowed {
            let why = "EXEC=off in /etc/guest-agent.conf of the guest";
            return Err(Refusal(SWITCHED_OFF, why.to_string()));
        }
        let request =
            Request::parse(payload).map_err(|why| Refusal(BAD_REQUEST, why.to_string()))?;
        let mut sessions = self.lock();
        if sessions.len() >= MOST || sessions.contains_key(&stream) {
            return Err(Refusal(TOO_MANY, format!("{MOST} programs run already")));
        }
        let dead = Arc::new(AtomicBool::new(false));
        let (ending, left) = (Arc::clone(&self.sessions), Arc::clone(&dead));
        let send = self.output(stream, Arc::clone(&dead));
        // The lock is held until the session is in the map, so that its end finds it there.
        let session = Session::start(&request, dead, send, move || {
            if let Ok(mut sessions) = ending.lock() {
                if !left.load(Ordering::SeqCst) {
                    sessions.remove(&stream); // of a session that died, the number may be in use again
                }
            }
        })?;
        sessions.insert(stream, session);
        Ok(())
    }

    /// What sends the frames of one stream until `dead` is set. The look is under the lock: nothing follows a WELCOME.
    fn output(&self, stream: u32, dead: Arc<AtomicBool>) -> Output {
        let writer = Arc::clone(&self.writer);
        Arc::new(move |kind, payload| {
            let mut writer = writer.lock().unwrap_or_else(|e| e.into_inner());
            if dead.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            writer.write_all(&frames::encode(kind, stream, payload))
        })
    }

    fn send(&self, kind: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.write(&frames::encode(kind, stream, payload))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(|e| e.into_inner());
        writer.write_all(bytes)
    }

    fn end_all(&self) {
        let all: Vec<_> = self.lock().drain().collect();
        for (_, session) in all {
            session.die();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn pass(kind: u8, payload: Vec<u8>, session: &Arc<Session>) {
    match kind {
        frames::STDIN => {
            let within = session.give_input(payload);
            if !within {
                session.die();
            }
        }
        frames::CREDIT => session.give_credit(frames::number(&payload).unwrap_or(0)),
        frames::RESIZE => {
            if let Some((rows, columns)) = frames::size(&payload) {
                session.resize(rows, columns);
            }
        }
        frames::SIGNAL => session.signal(payload.first().map_or(0, |n| i32::from(*n))),
        _ => {} // of a later version
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Duration;

    fn field(tag: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(value);
        bytes
    }

    fn shell(script: &str) -> Vec<u8> {
        [
            field(b'a', b"/bin/sh"),
            field(b'a', b"-c"),
            field(b'a', script.as_bytes()),
        ]
        .concat()
    }

    /// The host's end of a connection that has been greeted.
    fn host(allowed: bool) -> UnixStream {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        thread::spawn(move || {
            let writer = Box::new(theirs.try_clone().unwrap());
            Channel::new(writer, allowed).serve(theirs);
        });
        ours.write_all(&frames::encode(frames::HELLO, 0, &[7; 1 + NONCE]))
            .unwrap();
        let answer = frames::read(&mut ours).unwrap();
        assert_eq!(
            (answer.kind, answer.payload[0], answer.payload[1]),
            (frames::WELCOME, VERSION, 7)
        );
        ours
    }

    /// Output, error and the last frame of stream 1; gives credit for all.
    fn all(host: &mut UnixStream) -> (Vec<u8>, Vec<u8>, Frame) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            let frame = frames::read(host).unwrap();
            match frame.kind {
                frames::STDOUT => out.extend(&frame.payload),
                frames::STDERR => err.extend(&frame.payload),
                frames::EXIT | frames::ERROR => return (out, err, frame),
                _ => continue,
            }
            let credit = (frame.payload.len() as u32).to_be_bytes();
            host.write_all(&frames::encode(frames::CREDIT, 1, &credit))
                .unwrap();
        }
    }

    fn run(host: &mut UnixStream, request: &[u8]) -> (Vec<u8>, Vec<u8>, Frame) {
        host.write_all(&frames::encode(frames::EXEC, 1, request))
            .unwrap();
        host.write_all(&frames::encode(frames::STDIN, 1, b""))
            .unwrap();
        all(host)
    }

    #[test]
    fn output_error_and_exit_code() {
        let mut host = host(true);
        let (out, err, end) = run(&mut host, &shell("echo out; echo err >&2; exit 42"));
        assert_eq!((&out[..], &err[..]), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!((end.kind, &end.payload[..]), (frames::EXIT, &[0, 42][..]));
        let (_, _, end) = run(&mut host, &shell("kill -9 $$"));
        assert_eq!((end.kind, &end.payload[..]), (frames::EXIT, &[1, 9][..]));
    }

    #[test]
    fn more_than_a_window_both_ways() {
        let mut host = host(true);
        let mut reading = host.try_clone().unwrap();
        host.write_all(&frames::encode(frames::EXEC, 1, &shell("cat")))
            .unwrap();
        let data: Vec<u8> = (0..3_000_000u32)
            .map(|n| (n.wrapping_mul(2654435761) >> 24) as u8)
            .collect();
        let (mut sent, mut credit) = (0, frames::WINDOW);
        let mut out: Vec<u8> = Vec::new();
        loop {
            while credit > 0 && sent < data.len() {
                let n = credit.min(MAX_PAYLOAD).min(data.len() - sent);
                host.write_all(&frames::encode(frames::STDIN, 1, &data[sent..sent + n]))
                    .unwrap();
                sent += n;
                credit -= n;
                if sent == data.len() {
                    host.write_all(&frames::encode(frames::STDIN, 1, b""))
                        .unwrap();
                }
            }
            let frame = frames::read(&mut reading).unwrap();
            match frame.kind {
                frames::CREDIT => credit += frames::number(&frame.payload).unwrap() as usize,
                frames::STDOUT => {
                    out.extend(&frame.payload);
                    let n = (frame.payload.len() as u32).to_be_bytes();
                    host.write_all(&frames::encode(frames::CREDIT, 1, &n))
                        .unwrap();
                }
                frames::EXIT => break,
                _ => {}
            }
        }
        assert!(out == data);
    }

    #[test]
    fn without_credit_no_more_than_a_window_is_sent() {
        let mut host = host(true);
        host.set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        host.write_all(&frames::encode(frames::EXEC, 1, &shell("yes")))
            .unwrap();
        let mut got = 0;
        while let Ok(frame) = frames::read(&mut host) {
            got += if frame.kind == frames::STDOUT {
                frame.payload.len()
            } else {
                0
            };
        }
        assert_eq!(got, frames::WINDOW);
    }

    #[test]
    fn a_terminal_with_its_size_and_a_signal() {
        let mut host = host(true);
        let sized = [
            shell("stty size; [ -t 0 ] && [ -t 1 ] && exit 7"),
            field(b't', &[0, 33, 0, 101]),
        ]
        .concat();
        let (out, _, end) = run(&mut host, &sized);
        assert_eq!((&out[..], end.payload[1]), (&b"33 101\r\n"[..], 7));
        let trap = shell("trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done");
        host.write_all(&frames::encode(frames::EXEC, 1, &trap))
            .unwrap();
        while frames::read(&mut host).unwrap().kind != frames::STDOUT {}
        host.write_all(&frames::encode(frames::SIGNAL, 1, &[15]))
            .unwrap();
        assert_eq!(all(&mut host).2.payload, [0, 9]);
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        let mut host = host(true);
        for (request, reason) in [
            (field(b'a', b"/no/such"), crate::session::NOT_FOUND),
            (field(b'a', b"/etc/passwd"), crate::session::NOT_RUNNABLE),
            (
                [shell("true"), field(b'd', b"/no/such")].concat(),
                crate::session::NOT_RUNNABLE,
            ),
            (vec![b'a', 0], BAD_REQUEST),
        ] {
            let (_, _, end) = run(&mut host, &request);
            assert_eq!((end.kind, end.payload[0]), (frames::ERROR, reason));
        }
        let mut closed = super::tests::host(false);
        assert_eq!(run(&mut closed, &shell("true")).2.payload[0], SWITCHED_OFF);
    }

    #[test]
    fn the_end_waits_for_no_process_that_holds_the_output() {
        let mut host = host(true);
        let (out, _, end) = run(&mut host, &shell("sleep 30 & echo done"));
        assert_eq!((&out[..], end.payload[1]), (&b"done\n"[..], 0));
    }

    #[test]
    fn a_program_ends_with_its_session_and_with_its_connection() {
        let mut host = host(true);
        let mut pid_of = |stream: u32| {
            let request = shell("echo $$; exec sleep 60");
            host.write_all(&frames::encode(frames::EXEC, stream, &request))
                .unwrap();
            loop {
                let frame = frames::read(&mut host).unwrap();
                if frame.kind == frames::STDOUT {
                    let text = String::from_utf8(frame.payload).unwrap();
                    return format!("/proc/{}", text.trim());
                }
            }
        };
        let (closed, left) = (pid_of(1), pid_of(2));
        let gone = |path: &str| {
            (0..200).any(|_| {
                thread::sleep(Duration::from_millis(20));
                !std::path::Path::new(path).exists()
            })
        };
        host.write_all(&frames::encode(frames::CLOSE, 1, b""))
            .unwrap();
        assert!(gone(&closed));
        assert!(std::path::Path::new(&left).exists());
        drop(host);
        assert!(gone(&left));
    }
}
