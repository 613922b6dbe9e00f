//! statvfs(3), which the standard library lacks. The layout is that of glibc and musl on 64-bit Linux.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::raw::{c_char, c_int, c_ulong};

#[repr(C)]
struct StatVfs {
    f_bsize: c_ulong,
    f_frsize: c_ulong,
    f_blocks: u64,
    f_bfree: u64,
    f_bavail: u64,
    f_files: u64,
    f_ffree: u64,
    f_favail: u64,
    f_fsid: c_ulong,
    f_flag: c_ulong,
    f_namemax: c_ulong,
    spare: [c_int; 16], // six in glibc; more room than either library writes
}

extern "C" {
    fn statvfs(path: *const c_char, buffer: *mut StatVfs) -> c_int;
}

/// (total, available to unprivileged users) of the file system that holds `path`, KiB; zeros if it cannot be read.
pub fn usage_kib(path: &str) -> (u64, u64) {
    let path = match CString::new(path) {
        Ok(path) => path,
        Err(_) => return (0, 0),
    };
    let mut buffer = MaybeUninit::<StatVfs>::zeroed();
    // SAFETY: `path` is a NUL-terminated string that outlives the call, and the buffer is at least as large as the
    // structure that the C library fills in.
    let answer = unsafe { statvfs(path.as_ptr(), buffer.as_mut_ptr()) };
    if answer != 0 {
        return (0, 0);
    }
    // SAFETY: all zero bits are a valid StatVfs, and the call succeeded in writing it.
    let found = unsafe { buffer.assume_init() };
    let unit = if found.f_frsize != 0 {
        found.f_frsize
    } else {
        found.f_bsize
    };
    (
        found.f_blocks.saturating_mul(unit) / 1024,
        found.f_bavail.saturating_mul(unit) / 1024,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_file_system_has_a_size() {
        let (total, available) = usage_kib("/");
        assert!(total > 0 && available <= total);
        assert_eq!(usage_kib("/no/such/path"), (0, 0));
    }
}
