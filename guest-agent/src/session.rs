//! One program that the host started: its process, its terminal or pipes, and the threads between them and the frames.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::io::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::frames::{self, MAX_PAYLOAD, WINDOW};
use crate::request::Request;
use crate::sys;

const STACK: usize = 128 * 1024;
/// How often a reader looks whether the program ended, while another process keeps its output open.
const LOOK_MS: i32 = 100;
/// Between SIGHUP and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const END_OF_INPUT: u8 = 4; // Ctrl-D

/// Where a session's frames go. An error: nobody takes them any more.
pub type Output = Arc<dyn Fn(u8, &[u8]) -> io::Result<()> + Send + Sync>;

/// Why no program was started: a reason that the host knows, and a text.
#[derive(Debug)]
pub struct Refusal(pub u8, pub String);

pub const NOT_FOUND: u8 = 1;
pub const NOT_RUNNABLE: u8 = 2;
pub const BAD_REQUEST: u8 = 3;
pub const TOO_MANY: u8 = 4;
pub const SWITCHED_OFF: u8 = 5;

struct State {
    /// Bytes of output that the host takes.
    credit: usize,
    /// Bytes of input that came and are not written yet.
    input: usize,
    ended: bool,
}

pub struct Session {
    pid: u32,
    /// The host left. Whoever sends frames looks at it too.
    dead: Arc<AtomicBool>,
    terminal: Option<File>,
    state: Mutex<State>,
    changed: Condvar,
    input: Mutex<Option<Sender<Vec<u8>>>>,
}

impl Session {
    /// Starts the program. `send` takes its frames until `dead` is set, `over` is called once it and its output have ended.
    pub fn start(
        request: &Request,
        dead: Arc<AtomicBool>,
        send: Output,
        over: impl FnOnce() + Send + 'static,
    ) -> Result<Arc<Session>, Refusal> {
        let no_room = |e: io::Error| Refusal(TOO_MANY, format!("the guest has no room: {e}"));
        let (mut command, terminal) = command(request).map_err(no_room)?;
        let mut child = command.spawn().map_err(|e| refusal(request, &e))?;
        drop(command); // it holds the program's end of the terminal
        let (sender, receiver) = channel();
        let session = Arc::new(Session {
            pid: child.id(),
            dead,
            terminal,
            state: Mutex::new(State {
                credit: WINDOW,
                input: 0,
                ended: false,
            }),
            changed: Condvar::new(),
            input: Mutex::new(Some(sender)),
        });
        let _ = send(frames::STARTED, b"");
        let begun = session.begin(&mut child, receiver, &send);
        let (own, failed) = (Arc::clone(&session), begun.is_err());
        let waiting = spawn("wait", move || {
            let end = own.wait(child, begun.unwrap_or_default());
            over(); // first: the host may use the number again once it knows of the end
            let _ = send(frames::EXIT, &end);
        });
        if failed || waiting.is_err() {
            session.die();
            return Err(Refusal(TOO_MANY, "the guest has no room".to_string()));
        }
        Ok(session)
    }

    /// Starts the threads of its input and output; returns those of its output.
    fn begin(
        self: &Arc<Session>,
        child: &mut Child,
        input: Receiver<Vec<u8>>,
        send: &Output,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let mut outputs = Vec::new();
        let into = match (
            &self.terminal,
            child.stdin.take(),
            child.stdout.take(),
            child.stderr.take(),
        ) {
            (Some(terminal), ..) => {
                outputs.push((frames::STDOUT, terminal.try_clone()?));
                terminal.try_clone()?
            }
            (None, Some(stdin), Some(stdout), Some(stderr)) => {
                outputs.push((frames::STDOUT, file(stdout)));
                outputs.push((frames::STDERR, file(stderr)));
                file(stdin)
            }
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let mut threads = Vec::new();
        for (kind, output) in outputs {
            let (own, send) = (Arc::clone(self), Arc::clone(send));
            threads.push(spawn("output", move || {
                own.pass_output(kind, output, &send);
            })?);
        }
        let (own, send) = (Arc::clone(self), Arc::clone(send));
        spawn("input", move || own.pass_input(into, &input, &send))?;
        Ok(threads)
    }

    /// Input of the host; empty is its end. False: more than it may send.
    pub fn give_input(&self, data: Vec<u8>) -> bool {
        let mut state = self.lock();
        state.input += data.len();
        if state.input > WINDOW {
            return false;
        }
        drop(state);
        if let Ok(mut input) = self.input.lock() {
            if data.is_empty() {
                *input = None;
            } else if let Some(sender) = input.as_ref() {
                let _ = sender.send(data);
            }
        }
        true
    }

    pub fn give_credit(&self, bytes: u32) {
        let mut state = self.lock();
        state.credit = state.credit.saturating_add(bytes as usize).min(WINDOW);
        self.changed.notify_all();
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        if let Some(terminal) = &self.terminal {
            let _ = sys::resize(terminal, rows, columns);
        }
    }

    /// Sends a signal to the program and the others of its process group.
    pub fn signal(&self, number: i32) {
        let state = self.lock();
        if !state.ended && (1..=64).contains(&number) {
            sys::signal_group(self.pid, number);
        }
    }

    /// The host left: nothing is sent any more, and the program gets SIGHUP, then SIGKILL.
    pub fn die(self: &Arc<Session>) {
        let state = self.lock(); // between a look at `dead` and the wait for credit it cannot be set
        self.dead.store(true, Ordering::SeqCst);
        self.changed.notify_all();
        drop(state);
        if let Ok(mut input) = self.input.lock() {
            *input = None;
        }
        self.signal(sys::SIGHUP);
        let own = Arc::clone(self);
        let later = spawn("end", move || {
            thread::sleep(GRACE);
            own.signal(sys::SIGKILL);
        });
        if later.is_err() {
            self.signal(sys::SIGKILL);
        }
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Reserves room for output: at least a byte. None: the host left.
    fn reserve(&self) -> Option<usize> {
        let mut state = self.lock();
        while state.credit == 0 && !self.is_dead() {
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        let room = state.credit.min(MAX_PAYLOAD);
        state.credit -= room;
        Some(room).filter(|_| !self.is_dead())
    }

    fn pass_output(&self, kind: u8, mut from: File, send: &Output) {
        let mut buffer = vec![0u8; MAX_PAYLOAD];
        loop {
            let ended = self.lock().ended; // looked at first: what is there by now was written before the end
            if !sys::readable(from.as_raw_fd(), if ended { 0 } else { LOOK_MS }) {
                if ended || self.is_dead() {
                    return;
                }
                continue;
            }
            let room = match self.reserve() {
                Some(room) => room,
                None => return,
            };
            let got = from.read(&mut buffer[..room]);
            let n = *got.as_ref().unwrap_or(&0);
            self.give_credit((room - n) as u32);
            match got {
                Ok(0) => return,
                Ok(n) => {
                    if send(kind, &buffer[..n]).is_err() {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return, // of a terminal: nobody has its other end open
            }
        }
    }

    fn pass_input(&self, mut into: File, from: &Receiver<Vec<u8>>, send: &Output) {
        let mut open = true;
        for data in from {
            // A program that closed its input loses the rest, as with a pipe.
            open = open && into.write_all(&data).is_ok();
            self.lock().input -= data.len();
            let _ = send(frames::CREDIT, &(data.len() as u32).to_be_bytes());
        }
        if self.terminal.is_some() && open && !self.is_dead() {
            let _ = into.write_all(&[END_OF_INPUT]);
        }
    }

    /// Returns once program and output have ended: how (0 a code, 1 a signal), and which.
    fn wait(&self, mut child: Child, outputs: Vec<JoinHandle<()>>) -> [u8; 2] {
        sys::wait_for_end(self.pid);
        let status = {
            let mut state = self.lock(); // nobody signals a number that is free again
            state.ended = true;
            child.wait()
        };
        for thread in outputs {
            let _ = thread.join();
        }
        let (kind, value) = match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => (0, code),
                (None, signal) => (1, signal.unwrap_or(0)),
            },
            Err(_) => (0, 255),
        };
        [kind, value as u8]
    }
}

fn file(from: impl IntoRawFd) -> File {
    // SAFETY: into_raw_fd gives up the ownership of an open descriptor.
    unsafe { File::from_raw_fd(from.into_raw_fd()) }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let builder = thread::Builder::new().stack_size(STACK);
    builder.name(name.to_string()).spawn(work)
}

fn command(request: &Request) -> io::Result<(Command, Option<File>)> {
    let (home, shell) = root_of(&std::fs::read_to_string("/etc/passwd").unwrap_or_default());
    let mut command = match request.arguments.split_first() {
        Some((program, rest)) => {
            let mut command = Command::new(program);
            command.args(rest);
            command
        }
        None => {
            let mut command = Command::new(&shell);
            command.arg0(format!("-{}", shell.rsplit('/').next().unwrap_or("sh")));
            command
        }
    };
    command.env_clear();
    for (name, value) in [
        ("PATH", PATH),
        ("HOME", home.as_str()),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", shell.as_str()),
    ] {
        command.env(name, value);
    }
    command.envs(
        request
            .environment
            .iter()
            .map(|(name, value)| (name, value)),
    );
    let home: OsString = home.into();
    let directory = request.directory.as_ref().unwrap_or(&home);
    // The home folder may be missing; a folder that was asked for may not.
    if request.directory.is_some() || std::path::Path::new(directory).is_dir() {
        command.current_dir(directory);
    } else {
        command.current_dir("/");
    }
    let mut terminal = None;
    if let Some((rows, columns)) = request.terminal {
        let (master, slave) = sys::open_terminal(rows, columns)?;
        command
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave);
        terminal = Some(master);
    } else {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }
    let with_terminal = terminal.is_some();
    // SAFETY: new_session makes async-signal-safe calls only.
    unsafe {
        command.pre_exec(move || sys::new_session(with_terminal));
    }
    Ok((command, terminal))
}

fn refusal(request: &Request, error: &io::Error) -> Refusal {
    let folder = request.directory.as_ref().map(std::path::Path::new);
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Refusal(
            NOT_RUNNABLE,
            format!("{} is not a folder", folder.display()),
        );
    }
    let reason = match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => TOO_MANY,
        _ => NOT_RUNNABLE,
    };
    Refusal(reason, error.to_string())
}

/// Home folder and shell of root, passwd(5).
fn root_of(passwd: &str) -> (String, String) {
    let line = passwd
        .lines()
        .find(|line| line.starts_with("root:"))
        .unwrap_or("");
    let field = |at: usize, otherwise: &str| {
        let found = line.split(':').nth(at).filter(|text| text.starts_with('/'));
        found.unwrap_or(otherwise).to_string()
    };
    (field(5, "/root"), field(6, "/bin/sh"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_home_and_a_shell() {
        let of = |text| root_of(text);
        assert_eq!(
            of("daemon:x:1:1::/:/bin/false\nroot:x:0:0:root:/r:/bin/bash\n"),
            ("/r".to_string(), "/bin/bash".to_string())
        );
        let default = ("/root".to_string(), "/bin/sh".to_string());
        assert_eq!(of(""), default);
        assert_eq!(of("root:x:0:0:::\n"), default);
    }
}
