//! The Prometheus text format, version 0.0.4.

use crate::collect::Report;

/// The samples of one report. `report` is None before the first one was gathered.
pub fn render(report: Option<&Report>) -> String {
    let mut out = String::with_capacity(2048);
    let mut sample = |name: &str, kind: &str, help: &str, value: String| {
        out.push_str(&format!(
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        ));
    };
    sample(
        "guest_agent_up",
        "gauge",
        "The guest agent runs.",
        "1".to_string(),
    );
    if let Some(r) = report {
        let bytes = |kib: u64| kib.saturating_mul(1024).to_string();
        sample(
            "guest_uptime_seconds",
            "gauge",
            "Seconds since boot.",
            format!("{:.2}", r.uptime_seconds),
        );
        sample(
            "guest_cpu_busy_ratio",
            "gauge",
            "Busy share of all processors, 0 to 1.",
            format!("{:.4}", r.cpu_percent / 100.0),
        );
        sample(
            "guest_memory_bytes",
            "gauge",
            "Memory of the guest.",
            bytes(r.memory_total_kib),
        );
        sample(
            "guest_memory_available_bytes",
            "gauge",
            "Memory that can be had without swapping.",
            bytes(r.memory_available_kib),
        );
        sample(
            "guest_disk_bytes",
            "gauge",
            "Size of the root file system.",
            bytes(r.disk_total_kib),
        );
        sample(
            "guest_disk_available_bytes",
            "gauge",
            "Free space of the root file system.",
            bytes(r.disk_available_kib),
        );
        sample(
            "guest_network_receive_bytes_total",
            "counter",
            "Bytes received on all interfaces but the loopback.",
            r.net_rx_bytes.to_string(),
        );
        sample(
            "guest_network_transmit_bytes_total",
            "counter",
            "Bytes sent on all interfaces but the loopback.",
            r.net_tx_bytes.to_string(),
        );
        if let Some(reachable) = r.gateway_reachable {
            sample(
                "guest_gateway_reachable",
                "gauge",
                "The default gateway answers.",
                u8::from(reachable).to_string(),
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_declared() {
        let report = Report {
            gateway_reachable: Some(true),
            cpu_percent: 50.0,
            memory_total_kib: 2,
            ..Report::default()
        };
        let text = render(Some(&report));
        assert!(text.contains("\nguest_cpu_busy_ratio 0.5000\n"));
        assert!(text.contains("\nguest_memory_bytes 2048\n"));
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let name = line.split(' ').next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
        assert!(render(None).ends_with("guest_agent_up 1\n"));
    }
}
