//! Pure parsers of proc(5) files. None of them panics on any input.

use std::net::Ipv4Addr;

#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Route {
    pub interface: String,
    pub gateway: Ipv4Addr,
}

/// The default route of `/proc/net/route` with the lowest metric. Addresses there are hex in host byte order.
pub fn default_route(text: &str) -> Option<Route> {
    const RTF_UP: u32 = 0x1;
    const RTF_GATEWAY: u32 = 0x2;
    let mut best: Option<(u32, Route)> = None;
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.len() < 8 {
            continue;
        }
        let hex = |at: usize| u32::from_str_radix(fields[at], 16).ok();
        let (destination, gateway, flags, mask) = match (hex(1), hex(2), hex(3), hex(7)) {
            (Some(d), Some(g), Some(f), Some(m)) => (d, g, f, m),
            _ => continue,
        };
        if destination != 0 || mask != 0 || flags & RTF_UP == 0 || flags & RTF_GATEWAY == 0 {
            continue;
        }
        let metric = fields[6].parse::<u32>().unwrap_or(u32::MAX);
        if best.as_ref().map_or(true, |(known, _)| metric < *known) {
            let route = Route {
                interface: fields[0].to_string(),
                gateway: Ipv4Addr::from(gateway.to_ne_bytes()),
            };
            best = Some((metric, route));
        }
    }
    best.map(|(_, route)| route)
}

/// Whether `/proc/net/arp` holds a complete entry (ATF_COM) for an address.
pub fn neighbour_known(text: &str, address: Ipv4Addr) -> bool {
    text.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace();
        let known = fields.next().and_then(|a| a.parse::<Ipv4Addr>().ok()) == Some(address);
        let flags = fields
            .nth(1)
            .and_then(|f| u32::from_str_radix(f.trim_start_matches("0x"), 16).ok());
        known && flags.map_or(false, |f| f & 0x2 != 0)
    })
}

/// Seconds since boot: the first field of `/proc/uptime`.
pub fn uptime(text: &str) -> f64 {
    text.split_whitespace()
        .next()
        .and_then(|f| f.parse().ok())
        .unwrap_or(0.0)
}

/// (MemTotal, MemAvailable) of `/proc/meminfo`, KiB.
pub fn memory(text: &str) -> (u64, u64) {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|value| value.parse().ok())
    };
    let total = field("MemTotal:").unwrap_or(0);
    (
        total,
        field("MemAvailable:")
            .or_else(|| field("MemFree:"))
            .unwrap_or(0),
    )
}

/// Ticks of all processors since boot, from the first line of `/proc/stat`.
#[derive(Debug, PartialEq, Eq, Clone, Copy, Default)]
pub struct CpuTicks {
    pub busy: u64,
    pub total: u64,
}

pub fn cpu(text: &str) -> CpuTicks {
    let line = match text.lines().find(|line| line.starts_with("cpu ")) {
        Some(line) => line,
        None => return CpuTicks::default(),
    };
    // user nice system idle iowait irq softirq steal; guest time is already counted in user and nice.
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(|f| f.parse().unwrap_or(0))
        .collect();
    let total = ticks.iter().fold(0u64, |sum, t| sum.saturating_add(*t));
    let idle = ticks
        .get(3)
        .copied()
        .unwrap_or(0)
        .saturating_add(ticks.get(4).copied().unwrap_or(0));
    CpuTicks {
        busy: total.saturating_sub(idle),
        total,
    }
}

/// Percent busy between two readings, 0 to 100.
pub fn cpu_percent(before: CpuTicks, after: CpuTicks) -> f64 {
    let total = after.total.saturating_sub(before.total);
    if total == 0 {
        return 0.0;
    }
    (after.busy.saturating_sub(before.busy) as f64 * 100.0 / total as f64).clamp(0.0, 100.0)
}

/// Bytes (received, sent) over all interfaces except the loopback, from `/proc/net/dev`.
pub fn network(text: &str) -> (u64, u64) {
    let mut sum = (0u64, 0u64);
    for line in text.lines() {
        // A counter may follow the colon without a space, so the name is removed first.
        let (name, counters) = match line.split_once(':') {
            Some((name, counters)) if name.trim() != "lo" => (name.trim(), counters),
            _ => continue,
        };
        let fields: Vec<&str> = counters.split_whitespace().collect();
        if name.is_empty() || fields.len() < 9 {
            continue;
        }
        sum.0 = sum.0.saturating_add(fields[0].parse().unwrap_or(0));
        sum.1 = sum.1.saturating_add(fields[8].parse().unwrap_or(0));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth1\t00000000\t0100000B\t0003\t0\t0\t200\t00000000\t0\t0\t0\n\
        eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

    #[test]
    fn the_lowest_metric_wins() {
        let route = default_route(ROUTE).unwrap();
        assert_eq!(
            route,
            Route {
                interface: "eth0".into(),
                gateway: Ipv4Addr::new(10, 0, 0, 1)
            }
        );
    }

    #[test]
    fn no_default_route() {
        assert_eq!(default_route(""), None);
        assert_eq!(
            default_route("header\nbroken line\neth0 zz zz zz 0 0 0 zz"),
            None
        );
        assert_eq!(
            default_route("h\neth0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0"),
            None
        );
    }

    #[test]
    fn neighbours() {
        let arp =
            "IP address       HW type     Flags       HW address            Mask     Device\n\
            10.0.0.1         0x1         0x2         06:4e:00:00:00:01     *        eth0\n\
            10.0.0.9         0x1         0x0         00:00:00:00:00:00     *        eth0\n";
        assert!(neighbour_known(arp, Ipv4Addr::new(10, 0, 0, 1)));
        assert!(!neighbour_known(arp, Ipv4Addr::new(10, 0, 0, 9)));
        assert!(!neighbour_known(arp, Ipv4Addr::new(10, 0, 0, 2)));
        assert!(!neighbour_known("", Ipv4Addr::new(10, 0, 0, 2)));
    }

    #[test]
    fn memory_of_a_real_guest() {
        assert_eq!(
            memory("MemTotal:         228304 kB\nMemFree: 1 kB\nMemAvailable:     190000 kB\n"),
            (228304, 190000)
        );
        assert_eq!(memory("MemTotal: 9 kB\nMemFree: 4 kB\n"), (9, 4));
        assert_eq!(memory("garbage"), (0, 0));
    }

    #[test]
    fn processor_time() {
        let before = cpu("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1\n");
        assert_eq!(
            before,
            CpuTicks {
                busy: 200,
                total: 1000
            }
        );
        let after = cpu("cpu  150 0 150 900 0 0 0 0 0 0\n");
        assert!((cpu_percent(before, after) - 50.0).abs() < 1e-9);
        assert_eq!(cpu_percent(after, before), 0.0);
        assert_eq!(cpu("intr 5"), CpuTicks::default());
    }

    #[test]
    fn interfaces_but_the_loopback() {
        let dev = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
            lo: 99 1 0 0 0 0 0 0 99 1 0 0 0 0 0 0\n  \
            eth0:1500 10 0 0 0 0 0 0 700 5 0 0 0 0 0 0\n";
        assert_eq!(network(dev), (1500, 700));
        assert_eq!(network("nothing"), (0, 0));
    }

    #[test]
    fn time_since_boot() {
        assert_eq!(uptime("12.34 20.00\n"), 12.34);
        assert_eq!(uptime(""), 0.0);
    }
}
