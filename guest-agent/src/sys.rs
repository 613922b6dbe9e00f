//! The calls of the C library that the standard library lacks. Constants are Linux's on x86-64 and arm64.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::raw::{c_int, c_short, c_uint, c_ulong, c_void};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::io::{AsRawFd, FromRawFd, RawFd};

extern "C" {
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn setsid() -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
    fn waitid(kind: c_int, id: c_uint, info: *mut c_void, options: c_int) -> c_int;
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(fd: c_int, address: *const SockaddrVm, length: c_uint) -> c_int;
    fn listen(fd: c_int, backlog: c_int) -> c_int;
    fn accept4(fd: c_int, address: *mut c_void, length: *mut c_uint, flags: c_int) -> c_int;
}

#[repr(C)]
struct PollFd {
    fd: c_int,
    events: c_short,
    revents: c_short,
}

#[repr(C)]
struct Winsize {
    rows: u16,
    columns: u16,
    unused: [u16; 2],
}

#[repr(C)]
struct SockaddrVm {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [u8; 4],
}

const TIOCSCTTY: c_ulong = 0x540e;
const TIOCSWINSZ: c_ulong = 0x5414;
const TIOCGPTN: c_ulong = 0x8004_5430;
const TIOCSPTLCK: c_ulong = 0x4004_5431;
const O_NOCTTY: i32 = 0o400;
const POLLIN: c_short = 1;
const P_PID: c_int = 1;
const WEXITED: c_int = 4;
const WNOWAIT: c_int = 0x0100_0000;
const AF_VSOCK: c_int = 40;
const SOCK_STREAM: c_int = 1;
const CLOEXEC: c_int = 0o2000000;
const ANY: u32 = u32::MAX;
/// The host, vsock(7).
const VMADDR_CID_HOST: u32 = 2;
pub const SIGHUP: i32 = 1;
pub const SIGKILL: i32 = 9;

fn checked(answer: c_int) -> io::Result<c_int> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer)
}

/// Sends a signal to a process group whose leader has not been reaped.
pub fn signal_group(leader: u32, signal: i32) {
    // SAFETY: kill(2) takes plain numbers.
    unsafe { kill(-(leader as c_int), signal) };
}

/// Between fork and exec: a session of its own, and with `terminal` its standard input as controlling terminal.
pub fn new_session(terminal: bool) -> io::Result<()> {
    // SAFETY: both calls are async-signal-safe and take plain numbers.
    unsafe {
        checked(setsid())?;
        if terminal {
            checked(ioctl(0, TIOCSCTTY, 0 as c_int))?;
        }
    }
    Ok(())
}

/// Both ends of a new pseudo-terminal, pty(7).
pub fn open_terminal(rows: u16, columns: u16) -> io::Result<(File, File)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(O_NOCTTY);
    let master = options.open("/dev/ptmx")?;
    let (mut number, unlocked): (c_uint, c_int) = (0, 0);
    // SAFETY: the descriptor is open, and both pointers lead to an int that outlives its call.
    unsafe {
        checked(ioctl(master.as_raw_fd(), TIOCSPTLCK, &unlocked))?;
        checked(ioctl(master.as_raw_fd(), TIOCGPTN, &mut number))?;
    }
    resize(&master, rows, columns)?;
    let slave = options.open(format!("/dev/pts/{number}"))?;
    Ok((master, slave))
}

pub fn resize(master: &File, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize {
        rows,
        columns,
        unused: [0; 2],
    };
    // SAFETY: the descriptor is open and the structure, of the kernel's layout, outlives the call.
    unsafe { checked(ioctl(master.as_raw_fd(), TIOCSWINSZ, &size)) }.map(|_| ())
}

/// Whether there is something to read within some milliseconds; the end counts.
pub fn readable(fd: RawFd, milliseconds: i32) -> bool {
    let mut one = PollFd {
        fd,
        events: POLLIN,
        revents: 0,
    };
    // SAFETY: one structure, and the count says so.
    unsafe { poll(&mut one, 1, milliseconds) > 0 }
}

/// Waits until a child has ended, and leaves it to be reaped: until then no other process gets its number.
pub fn wait_for_end(pid: u32) {
    let mut info = MaybeUninit::<[u64; 32]>::zeroed(); // siginfo_t has 128 bytes
    loop {
        // SAFETY: the buffer is larger than the siginfo_t that the call fills in.
        let answer = unsafe {
            waitid(
                P_PID,
                pid,
                info.as_mut_ptr() as *mut c_void,
                WEXITED | WNOWAIT,
            )
        };
        if answer == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// A listening vsock(7).
pub struct VsockListener(File);

impl VsockListener {
    pub fn bind(port: u32) -> io::Result<VsockListener> {
        let address = SockaddrVm {
            family: AF_VSOCK as u16,
            reserved: 0,
            port,
            cid: ANY,
            zero: [0; 4],
        };
        // SAFETY: the new descriptor has one owner; the structure has the kernel's layout and outlives its call.
        unsafe {
            let file = File::from_raw_fd(checked(socket(AF_VSOCK, SOCK_STREAM | CLOEXEC, 0))?);
            checked(bind(
                file.as_raw_fd(),
                &address,
                std::mem::size_of::<SockaddrVm>() as c_uint,
            ))?;
            checked(listen(file.as_raw_fd(), 4))?;
            Ok(VsockListener(file))
        }
    }

    /// The next connection of the host. Those of the guest's own programs are closed: they may not be root's.
    pub fn accept(&self) -> io::Result<File> {
        loop {
            let mut peer = SockaddrVm {
                family: 0,
                reserved: 0,
                port: 0,
                cid: 0,
                zero: [0; 4],
            };
            let mut length = std::mem::size_of::<SockaddrVm>() as c_uint;
            // SAFETY: the structure has the stated length, and the new descriptor has one owner.
            let stream = unsafe {
                File::from_raw_fd(checked(accept4(
                    self.0.as_raw_fd(),
                    &mut peer as *mut SockaddrVm as *mut c_void,
                    &mut length,
                    CLOEXEC,
                ))?)
            };
            if peer.cid == VMADDR_CID_HOST {
                return Ok(stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_terminal_passes_bytes() {
        let (mut master, mut slave) = open_terminal(10, 20).unwrap();
        slave.write_all(b"x").unwrap();
        assert!(readable(master.as_raw_fd(), 1000));
        let mut byte = [0u8; 1];
        master.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        assert!(!readable(master.as_raw_fd(), 1));
    }

    #[test]
    fn an_ended_child_is_left_to_be_reaped() {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "exit 3"])
            .spawn()
            .unwrap();
        wait_for_end(child.id());
        assert_eq!(child.wait().unwrap().code(), Some(3));
    }
}
