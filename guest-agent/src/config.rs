//! `/etc/guest-agent.conf`: `KEY=value` lines; `#` begins a comment line; values may be quoted.

use std::fmt;

pub const DEFAULT_LISTEN: &str = "0.0.0.0:9000";

/// `http://HOST:PORT` that accepts the reports. No TLS: the host is one hop away on its own bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    /// Path prefix without a trailing slash; usually empty.
    pub prefix: String,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    pub vm_id: String,
    /// Empty where the host had no address yet when it wrote the file: it still connects to this guest.
    pub manager: Option<Endpoint>,
    pub token: String,
    pub listen: String,
    /// Whether the host may start programs here.
    pub exec: bool,
}

impl fmt::Debug for Config {
    /// Never the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Config {{ vm_id: {:?}, manager: {:?} }}",
            self.vm_id, self.manager
        )
    }
}

impl Config {
    pub fn load(path: &str) -> Result<Config, String> {
        let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
        Config::parse(&text)
    }

    pub fn parse(text: &str) -> Result<Config, String> {
        let mut vm_id = None;
        let mut manager = None;
        let mut token = String::new();
        let mut listen = DEFAULT_LISTEN.to_string();
        let mut exec = true;
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| format!("not KEY=value: {line}"))?;
            let value = unquote(value.trim());
            match key.trim() {
                "VM_ID" => vm_id = Some(value.to_string()),
                "MANAGER_URL" if value.is_empty() => manager = Some(None),
                "MANAGER_URL" => manager = Some(Some(parse_url(value)?)),
                "TOKEN" => token = value.to_string(),
                "LISTEN" => listen = value.to_string(),
                "EXEC" => exec = !matches!(value, "off" | "no" | "false" | "0"),
                // Other agents read the same file; unknown keys are ignored.
                _ => {}
            }
        }
        let vm_id = vm_id.filter(|v| !v.is_empty()).ok_or("VM_ID is missing")?;
        if !vm_id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err("VM_ID holds characters that an id does not have".to_string());
        }
        if token.bytes().any(|b| !(0x21..=0x7e).contains(&b)) {
            return Err("TOKEN holds characters that a token does not have".to_string());
        }
        Ok(Config {
            vm_id,
            manager: manager.ok_or("MANAGER_URL is missing")?,
            token,
            listen,
            exec,
        })
    }
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if value.len() >= 2 && value.starts_with(quote) && value.ends_with(quote) {
            return &value[1..value.len() - 1];
        }
    }
    value
}

pub fn parse_url(url: &str) -> Result<Endpoint, String> {
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| format!("MANAGER_URL must begin with http://: {url}"))?;
    let (authority, path) = match rest.find('/') {
        Some(at) => (&rest[..at], rest[at..].trim_end_matches('/')),
        None => (rest, ""),
    };
    let plain = |text: &str| text.bytes().all(|b| (0x21..=0x7e).contains(&b));
    if !plain(authority) || !plain(path) || authority.contains('@') {
        return Err(format!("MANAGER_URL is not one: {url}"));
    }
    let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
        let (host, tail) = inner
            .split_once(']')
            .ok_or_else(|| format!("MANAGER_URL is not one: {url}"))?;
        (host, tail.strip_prefix(':'))
    } else {
        match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let port = match port {
        Some(text) => text
            .parse::<u16>()
            .map_err(|_| format!("MANAGER_URL has no such port: {text}"))?,
        None => 80,
    };
    if host.is_empty() || port == 0 {
        return Err(format!("MANAGER_URL names no host: {url}"));
    }
    Ok(Endpoint {
        host: host.to_string(),
        port,
        prefix: path.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file() {
        let c = Config::parse(
            "# x\nVM_ID=vm-1\nMANAGER_URL=\"http://10.0.0.1:19091/\"\nTOKEN=abc=\nOTHER=1\n",
        )
        .unwrap();
        assert_eq!(c.vm_id, "vm-1");
        assert_eq!(
            c.manager,
            Some(Endpoint {
                host: "10.0.0.1".into(),
                port: 19091,
                prefix: String::new()
            })
        );
        assert_eq!(c.token, "abc=");
        assert_eq!(c.listen, DEFAULT_LISTEN);
        assert!(!format!("{c:?}").contains("abc"));
    }

    #[test]
    fn a_host_without_an_address_is_no_error() {
        let c = Config::parse("VM_ID=vm-1\nMANAGER_URL=\nTOKEN=abc\n").unwrap();
        assert_eq!((c.manager, c.token.as_str(), c.exec), (None, "abc", true));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            Config::parse("MANAGER_URL=http://a").unwrap_err(),
            "VM_ID is missing"
        );
        assert_eq!(
            Config::parse("VM_ID=a").unwrap_err(),
            "MANAGER_URL is missing"
        );
        assert!(Config::parse("VM_ID=a\nMANAGER_URL=https://a")
            .unwrap_err()
            .contains("http://"));
        assert!(Config::parse("nonsense").is_err());
    }

    #[test]
    fn nothing_can_be_smuggled_into_the_request() {
        assert!(Config::parse("VM_ID=a/../b\nMANAGER_URL=http://a").is_err());
        assert!(Config::parse("VM_ID=a\nMANAGER_URL=http://a b").is_err());
        assert!(Config::parse("VM_ID=a\nMANAGER_URL=http://a\nTOKEN=x y").is_err());
    }

    #[test]
    fn urls() {
        assert_eq!(parse_url("http://h").unwrap().port, 80);
        assert_eq!(
            parse_url("http://[fe80::1]:81/x/").unwrap(),
            Endpoint {
                host: "fe80::1".into(),
                port: 81,
                prefix: "/x".into()
            }
        );
        for bad in [
            "",
            "h:1",
            "http://",
            "http://:80",
            "http://h:99999",
            "http://h:0",
            "http://u@h",
            "http://[::1",
        ] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }
}
