//! Where the host connects: the virtio-serial port of QEMU, or a vsock port of Firecracker.

use std::fs::{self, File, OpenOptions};
use std::thread;
use std::time::Duration;

use crate::channel::Channel;
use crate::sys::VsockListener;

const PORT_NAME: &str = "org.nqrust.guest.0";
const PORTS: &str = "/sys/class/virtio-ports";
/// Only root may listen there (vsock(7): below 1024). On another port any program could answer in place of this one, and would
/// get what the host writes to its commands.
const VSOCK_PORT: u32 = 1023;
const STACK: usize = 128 * 1024;
/// A look reads one folder, or asks for one socket. A host that waits for its first command notices a longer pause.
const PAUSE: Duration = Duration::from_millis(100);
/// Looks for either until the drivers must be there, two minutes; a VM gets neither later.
const LOOKS: u32 = 1200;

/// Serves the host in the background. `allowed`: whether it may start programs here.
pub fn spawn(allowed: bool) {
    in_background("port", move || serve_port(allowed));
    in_background("vsock", move || serve_vsock(allowed));
}

fn in_background(name: &str, work: impl FnOnce() + Send + 'static) {
    let builder = thread::Builder::new().stack_size(STACK);
    let _ = builder.name(name.to_string()).spawn(work);
}

fn serve_port(allowed: bool) {
    let mut told = false;
    for _ in 0..LOOKS {
        if let Some(path) = port(PORTS) {
            match open(&path) {
                Ok((reader, writer)) => {
                    let channel = Channel::new(Box::new(writer), allowed);
                    // Both wait for the host where there is none.
                    let mut connected = channel.boot();
                    while connected.is_ok() {
                        channel.serve(&reader);
                        connected = channel.wait_for_host();
                    }
                }
                Err(why) if !told => {
                    crate::log(&format!("{path} cannot be opened: {why}"));
                    told = true;
                }
                Err(_) => {}
            }
        }
        thread::sleep(PAUSE);
    }
}

fn open(path: &str) -> std::io::Result<(File, File)> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let other = file.try_clone()?;
    Ok((file, other))
}

/// The device of the host's port, by its name: numbers depend on other ports.
fn port(folder: &str) -> Option<String> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == PORT_NAME {
            return Some(format!("/dev/{}", entry.file_name().to_str()?));
        }
    }
    None
}

fn serve_vsock(allowed: bool) {
    for _ in 0..LOOKS {
        if let Ok(listener) = VsockListener::bind(VSOCK_PORT) {
            while let Ok(stream) = listener.accept() {
                if let Ok(writer) = stream.try_clone() {
                    in_background("host", move || {
                        Channel::new(Box::new(writer), allowed).serve(stream)
                    });
                }
            }
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_by_its_name() {
        let folder = std::env::temp_dir().join(format!("ports-{}", std::process::id()));
        for (port, name) in [
            ("vport0p1", "org.qemu.guest_agent.0\n"),
            ("vport0p2", "org.nqrust.guest.0\n"),
        ] {
            fs::create_dir_all(folder.join(port)).unwrap();
            fs::write(folder.join(port).join("name"), name).unwrap();
        }
        assert_eq!(
            port(folder.to_str().unwrap()),
            Some("/dev/vport0p2".to_string())
        );
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(port(folder.to_str().unwrap()), None);
    }
}
