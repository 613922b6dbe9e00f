//! The first process of a guest that runs the process of a container image. It mounts, starts the network, the guest agent and
//! that process, passes the host's wish to stop on as the image's stop signal, and powers off when the process has ended.
//!
//! It tells the host on the console: `STARTED` and `ENDED` begin the lines that the host looks for.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{symlink, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::first::{self, Event};
use crate::process::{self, Account, Process};

const FOLDER: &str = "/.nqrust";
const CONSOLE: &str = "/dev/console";
/// O_NOCTTY
const NO_CONTROL: i32 = 0o400;
const STARTED: &str = "nqr-init: started";
const ENDED: &str = "nqr-init: ended with code";
const FOR_NETWORK: Duration = Duration::from_secs(10);
const FOR_OTHERS: Duration = Duration::from_secs(2);
const BETWEEN_STARTS: Duration = Duration::from_secs(1);

/// A program of the platform that runs beside the process, and starts again when it ends.
struct Helper {
    arguments: Vec<String>,
    pid: Option<u32>,
    ended: Option<Instant>,
}

impl Helper {
    fn of(arguments: &[&str]) -> Helper {
        Helper {
            arguments: arguments.iter().map(|word| word.to_string()).collect(),
            pid: None,
            ended: None,
        }
    }

    fn keep_up(&mut self) {
        let due = self.ended.map_or(true, |at| at.elapsed() >= BETWEEN_STARTS);
        if self.pid.is_some() || !due {
            return;
        }
        let log = OpenOptions::new().write(true).open("/dev/kmsg");
        let started = first::unblocked(&mut Command::new(&self.arguments[0]))
            .args(&self.arguments[1..])
            .env_clear()
            .env("PATH", process::DEFAULT_PATH)
            .env("HOME", "/root")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_or_else(|_| Stdio::null(), Stdio::from))
            .spawn();
        self.ended = Some(Instant::now());
        self.pid = started.ok().map(|child| child.id());
    }
}

/// Never returns: the machine goes down.
pub fn run() {
    first::block_signals();
    mount_all();
    let hostname = fs::read_to_string("/etc/hostname").unwrap_or_default();
    let hostname = hostname.trim();
    first::set_hostname(hostname);
    let mut helpers = network(hostname);
    let code = match prepare(hostname) {
        Ok((process, account)) => supervise(&process, &account, &mut helpers),
        Err(why) => {
            say(&format!("nqr-init: {why}"));
            125
        }
    };
    say(&format!("{ENDED} {code}"));
    go_down();
}

fn say(text: &str) {
    let _ = std::io::stdout().write_all(format!("{text}\n").as_bytes());
}

fn mount_all() {
    first::mount("sysfs", "/sys", "sysfs", "");
    first::mount("cgroup2", "/sys/fs/cgroup", "cgroup2", "");
    for (folder, kind, options) in [
        ("/dev/pts", "devpts", "mode=620,ptmxmode=666"),
        ("/dev/shm", "tmpfs", "mode=1777"),
    ] {
        let _ = fs::create_dir_all(folder);
        first::mount(kind, folder, kind, options);
    }
    // devtmpfs has no links, and programs of images write to these.
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let _ = symlink(target, Path::new("/dev").join(name));
    }
    if !Path::new("/etc/hosts").exists() {
        let _ = fs::write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n");
    }
}

/// Starts the network and returns the helpers that keep running. A machine without a NIC has none to wait for.
fn network(hostname: &str) -> Vec<Helper> {
    let busybox = format!("{FOLDER}/busybox");
    let ip = |words: &[&str]| {
        let _ = first::unblocked(&mut Command::new(&busybox))
            .arg("ip")
            .args(words)
            .stdin(Stdio::null())
            .status();
    };
    ip(&["link", "set", "lo", "up"]);
    let mut helpers = vec![Helper::of(&[&format!("{FOLDER}/init")])];
    if Path::new("/sys/bus/acpi/drivers/button").exists() {
        let folder = format!("{FOLDER}/acpi");
        helpers.push(Helper::of(&[
            &busybox,
            "acpid",
            "-f",
            "-c",
            &folder,
            "-l",
            "/dev/null",
        ]));
    }
    let nic = Path::new("/sys/class/net/eth0").exists();
    if nic {
        ip(&["link", "set", "eth0", "up"]);
        let (script, name) = (format!("{FOLDER}/dhcp"), format!("hostname:{hostname}"));
        helpers.push(Helper::of(&[
            &busybox, "udhcpc", "-f", "-R", "-i", "eth0", "-s", &script, "-x", &name, "-t", "10",
            "-T", "1", "-A", "2",
        ]));
    }
    for helper in &mut helpers {
        helper.keep_up();
    }
    let until = Instant::now() + FOR_NETWORK;
    while nic && !has_route() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    helpers
}

fn has_route() -> bool {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    routes
        .lines()
        .any(|line| line.split_whitespace().nth(1) == Some("00000000"))
}

fn prepare(hostname: &str) -> Result<(Process, Account), String> {
    let mut process = Process::load(&format!("{FOLDER}/process"))?;
    let account = process::account(&process.user, Path::new("/"))?;
    process.complete(&account, hostname);
    fs::create_dir_all(&process.directory).map_err(|e| format!("{}: {e}", process.directory))?;
    Ok((process, account))
}

/// Runs the process and returns its exit code; 128 and the signal if one ended it.
fn supervise(process: &Process, account: &Account, helpers: &mut [Helper]) -> i32 {
    // A process that is not root opens /dev/stdout by its name.
    first::give(CONSOLE, account.uid, account.gid);
    // The console that the kernel opened is the initrd's, which nobody but root can open by name.
    let console = || {
        let mut options = OpenOptions::new();
        let opened = options.write(true).custom_flags(NO_CONTROL).open(CONSOLE);
        opened.map_or_else(|_| Stdio::inherit(), Stdio::from)
    };
    let mut command = Command::new(&process.arguments[0]);
    first::as_user(&mut command, account);
    command
        .args(&process.arguments[1..])
        .env_clear()
        .envs(
            process
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .current_dir(&process.directory)
        .stdin(Stdio::null())
        .stdout(console())
        .stderr(console());
    say(&format!(
        "{STARTED} {}",
        process.arguments[0].escape_default()
    ));
    let main = match command.spawn() {
        Ok(child) => child.id(),
        Err(error) => {
            say(&format!(
                "nqr-init: {} cannot be started: {error}",
                process.arguments[0].escape_default()
            ));
            return if error.kind() == std::io::ErrorKind::NotFound {
                127
            } else {
                126
            };
        }
    };
    loop {
        match first::wait_for_event() {
            Event::Stop => first::signal(main as i32, process.stop),
            Event::Tick | Event::Child => {}
        }
        while let Some((pid, code)) = first::reap() {
            if pid == main {
                return code;
            }
            for helper in helpers.iter_mut().filter(|helper| helper.pid == Some(pid)) {
                helper.pid = None;
            }
        }
        for helper in helpers.iter_mut() {
            helper.keep_up();
        }
    }
}

fn go_down() {
    const ALL: i32 = -1;
    for signal in [15, 9] {
        first::signal(ALL, signal);
        let until = Instant::now() + FOR_OTHERS;
        while Instant::now() < until && !first::childless() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // A machine without DMI (Firecracker) cannot switch itself off: there a reset is what ends the VMM.
    first::power_off(!Path::new("/sys/class/dmi/id/sys_vendor").exists());
}
