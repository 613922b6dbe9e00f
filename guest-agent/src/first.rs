//! Calls of the C library that only the first process of a machine makes. Constants are Linux's on x86-64 and arm64.

use std::ffi::CString;
use std::io;
use std::os::raw::{c_char, c_int, c_long, c_ulong, c_void};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use crate::process::Account;
use crate::sys;

extern "C" {
    #[link_name = "mount"]
    fn c_mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn sethostname(name: *const c_char, length: usize) -> c_int;
    fn chown(path: *const c_char, uid: u32, gid: u32) -> c_int;
    fn setgroups(count: usize, list: *const u32) -> c_int;
    fn setgid(gid: u32) -> c_int;
    fn setuid(uid: u32) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn sigprocmask(how: c_int, set: *const SignalSet, before: *mut SignalSet) -> c_int;
    fn sigtimedwait(set: *const SignalSet, info: *mut c_void, timeout: *const Timespec) -> c_int;
    fn tcdrain(fd: c_int) -> c_int;
    fn sync();
    fn reboot(how: c_int) -> c_int;
}

/// sigset_t has 1024 bits.
type SignalSet = [u64; 16];

#[repr(C)]
struct Timespec {
    seconds: c_long,
    nanoseconds: c_long,
}

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;
const SIGPWR: i32 = 30;
const SIG_SETMASK: c_int = 2;
const WNOHANG: c_int = 1;
const MS_RDONLY: c_ulong = 1;
const MS_NOSUID: c_ulong = 2;
const MS_REMOUNT: c_ulong = 32;
const RB_AUTOBOOT: c_int = 0x0123_4567;
const RB_POWER_OFF: c_int = 0x4321_fedc;
const RB_DISABLE_CAD: c_int = 0;

pub enum Event {
    /// The host wants the machine to stop: its power button, or Ctrl-Alt-Del.
    Stop,
    Child,
    Tick,
}

fn handled() -> SignalSet {
    let mut set = [0; 16];
    for signal in [SIGINT, SIGTERM, SIGCHLD, SIGPWR] {
        set[0] |= 1 << (signal - 1);
    }
    set
}

/// From here on signals wait for `wait_for_event`, and Ctrl-Alt-Del is one of them (reboot(2)).
pub fn block_signals() {
    // SAFETY: the sets outlive the call and have the size of the C library's.
    unsafe {
        sigprocmask(SIG_SETMASK, &handled(), ptr::null_mut());
        reboot(RB_DISABLE_CAD);
    }
}

/// A command whose process gets every signal.
pub fn unblocked(command: &mut Command) -> &mut Command {
    // SAFETY: the call is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            sigprocmask(SIG_SETMASK, &[0; 16], ptr::null_mut());
            Ok(())
        })
    }
}

/// A command that runs as `account`, in a session of its own.
pub fn as_user(command: &mut Command, account: &Account) {
    let (uid, gid, groups) = (account.uid, account.gid, account.groups.clone());
    unblocked(command);
    // SAFETY: the calls are async-signal-safe, and the list lives as long as the closure.
    unsafe {
        command.pre_exec(move || {
            sys::new_session(false)?;
            if setgroups(groups.len(), groups.as_ptr()) != 0 || setgid(gid) != 0 || setuid(uid) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

pub fn wait_for_event() -> Event {
    let second = Timespec {
        seconds: 1,
        nanoseconds: 0,
    };
    // SAFETY: the set and the time outlive the call; nobody wants the details of the signal.
    match unsafe { sigtimedwait(&handled(), ptr::null_mut(), &second) } {
        SIGCHLD => Event::Child,
        SIGINT | SIGTERM | SIGPWR => Event::Stop,
        _ => Event::Tick,
    }
}

/// The next ended child and its exit code; 128 and the signal if one ended it.
pub fn reap() -> Option<(u32, i32)> {
    let mut status: c_int = 0;
    // SAFETY: the pointer leads to an int that outlives the call.
    let pid = unsafe { waitpid(-1, &mut status, WNOHANG) };
    (pid > 0).then(|| (pid as u32, exit_code(status)))
}

fn exit_code(status: c_int) -> i32 {
    match status & 0x7f {
        0 => (status >> 8) & 0xff,
        signal => 128 + signal,
    }
}

/// Whether no child is left, ended or not.
pub fn childless() -> bool {
    // SAFETY: a null pointer asks for no status. An ended child that this reaps is nobody's any more.
    unsafe { waitpid(-1, ptr::null_mut(), WNOHANG) < 0 }
}

pub fn signal(pid: i32, number: i32) {
    // SAFETY: kill(2) takes plain numbers.
    unsafe { kill(pid, number) };
}

pub fn mount_with(source: &str, target: &str, kind: &str, flags: c_ulong, options: &str) {
    let words = [source, target, kind, options].map(|word| CString::new(word).unwrap_or_default());
    // SAFETY: the strings outlive the call.
    unsafe {
        c_mount(
            words[0].as_ptr(),
            words[1].as_ptr(),
            words[2].as_ptr(),
            flags,
            words[3].as_ptr() as *const c_void,
        );
    }
}

pub fn mount(source: &str, target: &str, kind: &str, options: &str) {
    mount_with(source, target, kind, MS_NOSUID, options);
}

pub fn set_hostname(name: &str) {
    // SAFETY: the length is that of the text.
    unsafe { sethostname(name.as_ptr() as *const c_char, name.len()) };
}

pub fn give(path: &str, uid: u32, gid: u32) {
    if let Ok(path) = CString::new(path) {
        // SAFETY: the string outlives the call.
        unsafe { chown(path.as_ptr(), uid, gid) };
    }
}

pub fn power_off(by_reset: bool) {
    // SAFETY: these take plain numbers. The console's last lines go out first.
    unsafe {
        tcdrain(1);
        sync();
        mount_with("", "/", "", MS_REMOUNT | MS_RDONLY, "");
        reboot(if by_reset { RB_AUTOBOOT } else { RB_POWER_OFF });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(exit_code(0), 0);
        assert_eq!(exit_code(3 << 8), 3);
        assert_eq!(exit_code(15), 143);
        assert_eq!(exit_code(11 | 0x80), 139, "with a core dump");
    }

    #[test]
    fn the_handled_signals_are_bits_of_the_first_word() {
        assert_eq!(handled()[0], 1 << 1 | 1 << 14 | 1 << 16 | 1 << 29);
    }
}
