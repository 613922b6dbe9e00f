//! The guest agent: reports this VM's address and load to its host, serves `/health` and `/metrics`, and starts programs
//! for the host. As the first process of a machine it is the init of a guest that runs the process of a container image.
//!
//! Standard library only. Its report is the `GuestReport` of the platform's API.

mod channel;
mod client;
mod collect;
mod config;
mod first;
mod frames;
mod init;
mod json;
mod metrics;
mod proc;
mod process;
mod request;
mod server;
mod session;
mod statvfs;
mod sys;
mod transport;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use collect::{Collector, Report};
use config::Config;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const DEFAULT_CONFIG: &str = "/etc/guest-agent.conf";
const INTERVAL: Duration = Duration::from_secs(15);
const UNTIL_FIRST: Duration = Duration::from_secs(1);
/// The search for an address only reads /proc, so it runs more often than reports are sent.
const UNTIL_ADDRESS: Duration = Duration::from_millis(100);

struct Arguments {
    once: bool,
    config: String,
}

enum Parsed {
    Run(Arguments),
    Version,
    Help,
    Bad(String),
}

fn parse_arguments(arguments: impl Iterator<Item = String>) -> Parsed {
    let mut once = false;
    let mut config = DEFAULT_CONFIG.to_string();
    let mut rest = arguments;
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--version" | "-V" => return Parsed::Version,
            "--help" | "-h" => return Parsed::Help,
            "--once" => once = true,
            "--config" => match rest.next() {
                Some(path) => config = path,
                None => return Parsed::Bad("--config needs a file".to_string()),
            },
            other => return Parsed::Bad(format!("unknown argument {other}")),
        }
    }
    Parsed::Run(Arguments { once, config })
}

fn main() -> ExitCode {
    let name = std::env::args().next().unwrap_or_default();
    if std::process::id() == 1 && name.ends_with("/init") {
        init::run();
    }
    let arguments = match parse_arguments(std::env::args().skip(1)) {
        Parsed::Run(arguments) => arguments,
        Parsed::Version => {
            println!("guest-agent {VERSION}");
            return ExitCode::SUCCESS;
        }
        Parsed::Help => {
            println!("usage: guest-agent [--config FILE] [--once] [--version]");
            return ExitCode::SUCCESS;
        }
        Parsed::Bad(why) => {
            eprintln!("guest-agent: {why}");
            return ExitCode::from(2);
        }
    };
    if arguments.once {
        // Only the configuration knows the relay; without one the agent tries port 53 of the gateway.
        let relay = Config::load(&arguments.config).ok().and_then(|c| c.manager);
        println!("{}", Collector::new(relay).collect().to_json());
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(why) => {
            log(&format!("{}: {why}", arguments.config));
            return ExitCode::from(1);
        }
    };
    run(&config);
    ExitCode::SUCCESS
}

/// One line, one write: a log that is read line by line (such as /dev/kmsg) never sees half of one.
pub fn log(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(format!("guest-agent: {text}\n").as_bytes());
}

fn run(config: &Config) {
    let latest: Arc<Mutex<Option<Report>>> = Arc::new(Mutex::new(None));
    server::spawn(config.listen.clone(), Arc::clone(&latest));
    transport::spawn(config.exec);

    let mut collector = Collector::new(config.manager.clone());
    let mut jitter = Jitter::seeded();
    let mut reported_once = false;
    let mut last_was_good = true;
    let mut sent_at: Option<Instant> = None;
    loop {
        if collector.address().is_none() {
            std::thread::sleep(UNTIL_ADDRESS);
            continue;
        }
        let report = collector.collect();
        let answer = client::post_report(config, &report.to_json());
        if let Ok(mut slot) = latest.lock() {
            *slot = Some(report);
        }
        match answer {
            Ok(()) => {
                if !reported_once || !last_was_good {
                    log("the host took the report");
                }
                reported_once = true;
                last_was_good = true;
            }
            Err(why) => {
                // Logged once per outage, not once per attempt.
                if last_was_good || sent_at.is_none() {
                    log(&format!("the host did not take the report: {why}"));
                }
                last_was_good = false;
            }
        }
        sent_at = Some(Instant::now());
        std::thread::sleep(if reported_once || config.manager.is_none() {
            jitter.around(INTERVAL)
        } else {
            UNTIL_FIRST
        });
    }
}

/// Spreads reports so that a host's guests do not all report at the same instant. xorshift64* is enough: this is not cryptography.
struct Jitter(u64);

impl Jitter {
    fn seeded() -> Self {
        use std::collections::hash_map::RandomState;
        use std::hash::{BuildHasher, Hasher};
        Jitter(RandomState::new().build_hasher().finish() | 1)
    }

    /// `base`, changed by up to a tenth.
    fn around(&mut self, base: Duration) -> Duration {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let unit = (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as f64 / (1u64 << 24) as f64;
        base.mul_f64(0.9 + 0.2 * unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_a_tenth() {
        let mut jitter = Jitter::seeded();
        for _ in 0..1000 {
            let d = jitter.around(Duration::from_secs(10));
            assert!(
                d >= Duration::from_secs(9) && d <= Duration::from_secs(11),
                "{d:?}"
            );
        }
    }

    #[test]
    fn arguments() {
        let of = |list: &[&str]| parse_arguments(list.iter().map(|s| s.to_string()));
        assert!(matches!(of(&["--version"]), Parsed::Version));
        assert!(matches!(of(&["--config"]), Parsed::Bad(_)));
        assert!(matches!(of(&["--wat"]), Parsed::Bad(_)));
        match of(&["--once", "--config", "x"]) {
            Parsed::Run(a) => assert!(a.once && a.config == "x"),
            _ => panic!("not run"),
        }
    }
}
