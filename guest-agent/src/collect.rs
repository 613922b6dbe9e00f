//! Gathers one report from /proc, statvfs(3) and the routing table.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::config::Endpoint;
use crate::json::Object;
use crate::proc::{self, CpuTicks};
use crate::statvfs::usage_kib;

const PROBE_TIMEOUT: Duration = Duration::from_millis(800);
/// errno values of Linux for an unanswered ARP request or a missing route.
const ENETUNREACH: i32 = 101;
const EHOSTUNREACH: i32 = 113;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub ip: String,
    pub boot_id: String,
    pub uptime_seconds: f64,
    pub cpu_percent: f64,
    pub memory_total_kib: u64,
    pub memory_available_kib: u64,
    pub disk_total_kib: u64,
    pub disk_available_kib: u64,
    pub net_rx_bytes: u64,
    pub net_tx_bytes: u64,
    pub gateway: String,
    pub gateway_reachable: Option<bool>,
    pub hostname: String,
}

impl Report {
    /// The platform's `GuestReport`.
    pub fn to_json(&self) -> String {
        Object::new()
            .text("ip", &self.ip)
            .text("boot_id", &self.boot_id)
            .number("uptime_seconds", self.uptime_seconds)
            .number("cpu_percent", self.cpu_percent)
            .whole("memory_total_kib", self.memory_total_kib)
            .whole("memory_available_kib", self.memory_available_kib)
            .whole("disk_total_kib", self.disk_total_kib)
            .whole("disk_available_kib", self.disk_available_kib)
            .whole("net_rx_bytes", self.net_rx_bytes)
            .whole("net_tx_bytes", self.net_tx_bytes)
            .text("gateway", &self.gateway)
            .truth("gateway_reachable", self.gateway_reachable)
            .text("hostname", &self.hostname)
            .end()
    }
}

pub struct Collector {
    relay: Option<Endpoint>,
    cpu_before: CpuTicks,
}

impl Collector {
    /// `relay`: where the host accepts reports. Its port is the first one in the test of the gateway.
    pub fn new(relay: Option<Endpoint>) -> Self {
        Collector {
            relay,
            cpu_before: CpuTicks::default(),
        }
    }

    /// The gateway, and the source address towards it as the kernel would choose it. Sends nothing. An isolated network has
    /// no default route: its gateway is the host that accepts the reports.
    pub fn address(&self) -> Option<(Ipv4Addr, IpAddr)> {
        let route = proc::default_route(&read("/proc/net/route"));
        let gateway = route.map(|r| r.gateway).or_else(|| self.relay_address())?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((gateway, 9)).ok()?;
        let local = socket.local_addr().ok()?.ip();
        if local.is_unspecified() {
            return None;
        }
        Some((gateway, local))
    }

    fn relay_address(&self) -> Option<Ipv4Addr> {
        self.relay.as_ref()?.host.parse().ok()
    }

    /// Gathers a report. `ip` is empty while no gateway is known. CPU is since the last call (first: since boot).
    pub fn collect(&mut self) -> Report {
        let cpu_now = proc::cpu(&read("/proc/stat"));
        let mut report = Collector::local();
        report.cpu_percent = proc::cpu_percent(self.cpu_before, cpu_now);
        self.cpu_before = cpu_now;
        if let Some((gateway, ip)) = self.address() {
            report.ip = ip.to_string();
            report.gateway = gateway.to_string();
            report.gateway_reachable = self.gateway_reachable(gateway);
        }
        report
    }

    /// The part that needs neither a second reading nor the network.
    pub fn local() -> Report {
        let (memory_total_kib, memory_available_kib) = proc::memory(&read("/proc/meminfo"));
        let (disk_total_kib, disk_available_kib) = usage_kib("/");
        let (net_rx_bytes, net_tx_bytes) = proc::network(&read("/proc/net/dev"));
        Report {
            boot_id: read("/proc/sys/kernel/random/boot_id").trim().to_string(),
            uptime_seconds: proc::uptime(&read("/proc/uptime")),
            memory_total_kib,
            memory_available_kib,
            disk_total_kib,
            disk_available_kib,
            net_rx_bytes,
            net_tx_bytes,
            hostname: read("/proc/sys/kernel/hostname").trim().to_string(),
            ..Report::default()
        }
    }

    /// An accepted or a refused connection both prove the way there and back. Silence on every port proves nothing of a
    /// gateway that answers ARP (firewalls drop), so that is None: not known.
    fn gateway_reachable(&self, gateway: Ipv4Addr) -> Option<bool> {
        let relay = self.relay.as_ref().map(|r| r.port);
        for port in relay.into_iter().chain([53]) {
            match TcpStream::connect_timeout(&SocketAddr::from((gateway, port)), PROBE_TIMEOUT) {
                Ok(_) => return Some(true),
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => return Some(true),
                Err(e) if matches!(e.raw_os_error(), Some(ENETUNREACH) | Some(EHOSTUNREACH)) => {
                    return Some(false)
                }
                Err(_) => {}
            }
        }
        if proc::neighbour_known(&read("/proc/net/arp"), gateway) {
            None
        } else {
            Some(false)
        }
    }
}

/// A small /proc file. Empty if unreadable; the parsers then return zeros.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_told() {
        let report = Collector::new(None).collect();
        assert!(report.uptime_seconds > 0.0);
        assert!(
            report.memory_total_kib >= report.memory_available_kib && report.memory_total_kib > 0
        );
        assert_eq!(report.boot_id.len(), 36);
    }

    #[test]
    fn without_a_default_route_the_relay_is_the_gateway() {
        let relay = |host: &str| {
            Some(Endpoint {
                host: host.into(),
                port: 19091,
                prefix: String::new(),
            })
        };
        let told = |host| Collector::new(relay(host)).relay_address();
        assert_eq!(told("10.0.0.1"), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(told("manager.example"), None);
        assert_eq!(Collector::new(None).relay_address(), None);
    }

    #[test]
    fn fields_are_those_of_the_api() {
        let json = Report {
            ip: "10.0.0.10".into(),
            gateway_reachable: Some(true),
            ..Report::default()
        }
        .to_json();
        for field in [
            "\"ip\":\"10.0.0.10\"",
            "\"boot_id\":",
            "\"uptime_seconds\":",
            "\"cpu_percent\":",
            "\"memory_total_kib\":",
            "\"memory_available_kib\":",
            "\"disk_total_kib\":",
            "\"disk_available_kib\":",
            "\"net_rx_bytes\":",
            "\"net_tx_bytes\":",
            "\"gateway\":",
            "\"gateway_reachable\":true",
            "\"hostname\":",
        ] {
            assert!(json.contains(field), "{field} is not in {json}");
        }
    }
}
